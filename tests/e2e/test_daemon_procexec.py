"""`freepage proc-exec`: unmodified tools of the system in front of a running client."""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from daemon_rig import DaemonProcess, client, server
from freepage_client.io.remote import RemoteMachine
from freepage_lab.procexec.namespace import SELF

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mount namespaces are Linux's")

SIZE = 300_000


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """A client with a mount; the file f is there to be read."""
    export = tmp_path_factory.mktemp("proc-exec") / "export"
    export.mkdir()
    (export / "f").write_bytes(bytes(SIZE))
    with server(export) as s, client(s.wait_ready(), options="actimeo=3600") as c:
        c.wait_ready()
        refused = run("true").stderr
        if "cannot make a private view of /proc" in refused:
            pytest.skip(refused.strip())
        yield c
        assert (c.stop(), s.stop()) == (0, 0)


def read_the_file(c: DaemonProcess) -> None:
    """The server is asked for all of it each time."""

    async def story() -> None:
        async with RemoteMachine(c.control) as machine:
            task = await machine.task()
            fd = await task.open("/mnt/f", os.O_RDONLY)
            await machine.drop_caches(1)
            assert len(await task.pread(fd, SIZE, 0)) == SIZE
            await task.close(fd)
            await task.exit()

    asyncio.run(story())


def arguments(*command: str) -> list[str]:
    return [sys.executable, "-m", "freepage_lab.cli", "proc-exec", *command]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments(*command), capture_output=True, text=True, check=False, timeout=60)


@contextmanager
def started(*command: str) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}  # nfsiostat is Python, and writes to a pipe
    process = subprocess.Popen(
        arguments(*command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_nfsiostat_sees_what_happens_while_it_runs(running: DaemonProcess, require_tool: Callable[..., str]) -> None:
    require_tool("nfsiostat", debian="nfs-common")
    with started("--", "nfsiostat", "1", "2") as process:
        assert process.stdout is not None
        reports: list[list[float]] = []
        for line in process.stdout:
            assert "No NFS mount points" not in line
            if line.startswith("read:"):
                reports.append([float(word) for word in re.findall(r"[\d.]+", next(process.stdout))])
                if len(reports) == 1:
                    read_the_file(running)
        assert process.wait() == 0
    assert len(reports) == 2
    (ops_per_s, kib_per_s, *_), before = reports[1], reports[0]
    assert ops_per_s >= 1
    assert kib_per_s >= SIZE / 1024
    assert before[1] < kib_per_s


def test_mountstats_reads_the_clients_counters(running: DaemonProcess, require_tool: Callable[..., str]) -> None:
    require_tool("mountstats", debian="nfs-common")
    read_the_file(running)
    done = run("mountstats")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^Stats for 127\.0\.0\.1:\d+:/export mounted on /mnt:$", done.stdout, re.MULTILINE)
    asked = re.search(r"^  client read (\d+) bytes via NFS READ$", done.stdout, re.MULTILINE)
    assert asked is not None and int(asked[1]) >= SIZE


def test_every_process_below_the_command_sees_the_files_and_its_own_self(running: DaemonProcess) -> None:
    read_the_file(running)
    script = (
        "cat /proc/self/mountstats /proc/slabinfo /proc/meminfo /proc/vmstat; "
        "cat /proc/self/comm; grep -c . /proc/self/mounts; test -e /dev/fd/0 && readlink /proc/self/fd/0 "
        "&& test -d /proc/$$ && test -r /proc/net/dev"
    )
    done = subprocess.run(
        arguments("--", "sh", "-c", script), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("device 127.0.0.1:")
    assert "slabinfo - version: 2.1" in lines
    (pages,) = (line.split()[1] for line in lines if line.startswith("nfs_page "))
    assert int(pages) == -(-SIZE // 4096)
    assert f"nr_file_pages {pages}" in lines
    assert "Cached:              296 kB" in lines
    assert lines[-3] == "cat"  # a child's own /proc/self is its own
    assert int(lines[-2]) > 3
    assert lines[-1] == "/dev/null"
    assert not Path("/proc/self/mountstats").read_text().startswith("device 127.0.0.1:")  # nobody else sees them


def test_a_file_that_is_kept_open_is_refreshed_too(running: DaemonProcess) -> None:
    """As vmstat(8) does: open once, rewind for each sample."""
    script = (
        "f = open('/proc/vmstat'); print('ready', flush=True)\n"
        "while input() == 'again':\n"
        "    f.seek(0); print(dict(l.split() for l in f)['drop_pagecache'], flush=True)\n"
    )
    with started("--", sys.executable, "-c", script) as process:
        assert process.stdin is not None and process.stdout is not None

        def sample() -> int:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write("again\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        assert process.stdout.readline() == "ready\n"
        before = sample()
        read_the_file(running)
        while (after := sample()) == before:
            pass  # the files are a quarter of a second old at most
        assert after == before + 1
        process.stdin.write("enough\n")
        process.stdin.flush()
        assert process.wait() == 0


def without_cap_sys_admin() -> None:
    """What root has left when it is root of nothing: between fork and exec, so that the exec takes the rest away."""
    pr_capbset_drop, cap_sys_admin = 24, 21  # include/uapi/linux/prctl.h, capability.h
    ctypes.CDLL(None).prctl(pr_capbset_drop, cap_sys_admin, 0, 0, 0)


def test_no_privilege_is_needed_where_users_may_make_user_namespaces(running: DaemonProcess) -> None:
    done = subprocess.run(
        arguments("--", "sh", "-c", "id -u; head -1 /proc/self/mountstats; head -1 /proc/slabinfo"),
        preexec_fn=without_cap_sys_admin,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.stderr.startswith("freepage: cannot make a private view of /proc: "):
        pytest.skip("this system lets nobody but root mount anything")
    assert (done.returncode, done.stderr) == (0, "")
    uid, device, version = done.stdout.splitlines()
    assert int(uid) == os.getuid()
    assert device.startswith("device 127.0.0.1:")
    assert version == "slabinfo - version: 2.1"


def test_exit_codes_and_signals_are_the_commands(running: DaemonProcess) -> None:
    assert run("--", "sh", "-c", "exit 7").returncode == 7
    assert run("--", "sh", "-c", "kill -9 $$").returncode == 128 + signal.SIGKILL
    with started("--", "sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 3


@pytest.mark.parametrize(
    ("command", "code", "line"),
    [
        (("--", "no-such-command"), 127, "freepage: no-such-command: command not found"),
        (("--name", "c9", "--", "true"), 1, "freepage: no freepage client is called c9; running: c1"),
        (("--address", "127.0.0.1:1", "--", "true"), 1, "freepage: cannot reach the daemon at 127.0.0.1:1: "),
        ((), 2, "freepage: Missing argument"),
    ],
)
def test_mistakes_are_one_line(running: DaemonProcess, command: tuple[str, ...], code: int, line: str) -> None:
    done = run(*command)
    assert done.returncode == code
    assert done.stderr.startswith(line) and done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_self_is_a_link_on_this_kernel() -> None:
    """What the view of /proc is built on."""
    assert SELF.is_symlink()
