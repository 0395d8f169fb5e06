"""A server and a client as real processes: what they serve, what they count, and how they end."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import grpc.aio
import pytest

from daemon_rig import DaemonProcess, client, server
from freepage_client.io.remote import RemoteMachine, RemoteTask
from freepage_proto.rpc import AuthSys
from freepage_runtime.control_client import ControlClient, ControlError
from freepage_runtime.registry import list_daemons

PAGE = 4096


@pytest.fixture
def export(tmp_path: Path) -> Path:
    directory = tmp_path / "export"
    directory.mkdir()
    (directory / "hello").write_bytes(b"hello, world\n")
    (directory / "big").write_bytes(os.urandom(300 * PAGE))
    return directory


def test_system_calls_reach_real_files(export: Path) -> None:
    async def story(address: str) -> None:
        async with RemoteMachine(address) as machine:
            task = await machine.task()
            assert sorted(await task.listdir("/mnt")) == [b"big", b"hello"]
            fd = await task.open("/mnt/hello", os.O_RDONLY)
            assert await task.read(fd, 5) == b"hello"
            assert await task.read(fd, 100) == b", world\n"
            assert await task.pread(fd, 5, 7) == b"world"
            assert await task.lseek(fd, 1) == 1
            await task.close(fd)
            await task.mkdir("/mnt/dir", 0o750)
            fd = await task.open("/mnt/dir/new", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o640)
            assert await task.write(fd, b"x" * 10_000) == 10_000
            assert await task.pwrite(fd, b"yy", 9_999) == 2
            await task.fsync(fd)
            assert (await task.fstat(fd)).st_size == 10_001
            await task.ftruncate(fd, 5_000)
            await task.close(fd)
            assert (export / "dir" / "new").read_bytes() == b"x" * 5_000
            await task.chmod("/mnt/dir/new", 0o600)
            await task.utimens("/mnt/dir/new", 1_000_000_000, 2_000_000_000)
            status = await task.stat("/mnt/dir/new")
            assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o600, 2_000_000_000)
            await task.rename("/mnt/dir/new", "/mnt/renamed")
            await task.link("/mnt/renamed", "/mnt/link")
            await task.symlink("renamed", "/mnt/symlink")
            assert await task.readlink("/mnt/symlink") == b"renamed"
            assert stat.S_ISLNK((await task.lstat("/mnt/symlink")).st_mode)
            await task.unlink("/mnt/link")
            await task.rmdir("/mnt/dir")
            assert (await task.statfs("/mnt")).f_namemax == 255
            fd = await task.open("/mnt", os.O_RDONLY | os.O_DIRECTORY)
            entries = await task.getdents(fd)
            assert {name for name, _, _ in entries} == {b".", b"..", b"big", b"hello", b"renamed", b"symlink"}
            assert await task.getdents(fd) == []
            await task.close(fd)
            with pytest.raises(FileNotFoundError) as caught:
                await task.open("/mnt/nothing", os.O_RDONLY)
            assert caught.value.filename == "/mnt/nothing"
            with pytest.raises(OSError) as bad:
                await task.read(99, 1)
            assert bad.value.errno == errno.EBADF
            await task.exit()
            with pytest.raises(ControlError, match="no task"):
                await task.listdir("/mnt")

    with server(export) as s, client(s.wait_ready()) as c:
        asyncio.run(story(c.wait_ready().control))
        assert (c.stop(), s.stop()) == (0, 0)


def test_tasks_have_credentials_of_their_own(export: Path) -> None:
    (export / "private").write_bytes(b"mine")
    (export / "private").chmod(0o600)

    async def story(address: str) -> None:
        async with RemoteMachine(address) as machine:
            nobody = await machine.task(AuthSys(65534, 65534, (), "elsewhere"))
            with pytest.raises(PermissionError):
                await nobody.open("/mnt/private", os.O_RDONLY)
            root = await machine.task()
            await root.close(await root.open("/mnt/private", os.O_RDONLY))

    with server(export) as s, client(s.wait_ready()) as c:
        asyncio.run(story(c.wait_ready().control))
        assert (c.stop(), s.stop()) == (0, 0)


def test_the_hook_can_be_skipped_and_the_leak_is_seen(export: Path) -> None:
    async def story(address: str) -> None:
        async with RemoteMachine(address) as machine:
            assert await machine.set_hook_policy("drop=skip", "reclaim=skip:every=2") == {
                "truncate": "run",
                "invalidate": "run",
                "drop": "skip",
                "reclaim": "skip:every=2",
                "replace": "run",
                "evict": "run",
            }
            with pytest.raises(ControlError, match="not 'walk'"):
                await machine.set_hook_policy("evict=walk")
            task = await machine.task()
            fd = await task.open("/mnt/big", os.O_RDONLY)
            while await task.read(fd, 1 << 17, discard=True):
                pass
            await task.close(fd)
            assert await machine.replace_pages("/mnt/big", 0, 10) == 10
            assert (await machine.stats()).removed["replace"] == 10
            dropped = await machine.drop_caches(1)
            assert 285 <= dropped <= 300  # pages that wait in an LRU batch stay, as in Linux 6.1
            stats = await machine.stats(audit=True)
            assert stats.skipped["drop"] == stats.removed["drop"] == dropped
            assert stats.orphaned["nfs_page"] == dropped
            assert stats.pinned["rpc_cred"] == dropped
            assert stats.audit_agrees is True
            assert set(stats.violations.values()) == {0}
            audit = await machine.audit()
            groups = re.findall(r"unreferenced nfs_page \(fill\): (\d+) object", audit.text)
            assert sum(map(int, groups)) == dropped
            assert "lost on drop in" in audit.text
            slab = {(line.slab, line.use): line for line in (await machine.slab()).lines}
            assert slab["nfs_page", "fill"].orphaned == dropped
            assert (await machine.vmstat())["drop_pagecache"] == 1
            assert "drop_pagecache 1\n" in await machine.proc_file("/proc/vmstat")
            assert (await machine.proc_file("/proc/slabinfo")).startswith("slabinfo - version: 2.1\n")
            assert re.search(r"^MemTotal: +4096 kB$", await machine.proc_file("/proc/meminfo"), re.MULTILINE)
            assert "\tper-op statistics\n" in await machine.proc_file("/proc/self/mountstats")
            with pytest.raises(ControlError, match="/proc/kcore is not here"):
                await machine.proc_file("/proc/kcore")
            await machine.set_hook_policy("all=run")
            assert await machine.resize_memory(64 * PAGE) == 0
            assert (await machine.info()).memory_bytes == 64 * PAGE
            assert {fault.paths for fault in await machine.faults()} == {()}
            await machine.set_fault("call_twice:path=drop:every=2:index=0-9")
            armed = {fault.name: fault.paths for fault in await machine.faults() if fault.paths}
            assert armed == {"call_twice": ("drop",)}
            await machine.set_fault("off")
            assert {fault.paths for fault in await machine.faults()} == {()}
            for wrong in (machine.resize_memory(1), machine.drop_caches(4), machine.replace_pages("/mnt/no", 0, 1)):
                with pytest.raises(ControlError):
                    await wrong
            for wrong_fault in ("late", "block:path=door", "block:every=0"):
                with pytest.raises(ControlError):
                    await machine.set_fault(wrong_fault)
            leftovers = await machine.umount("/mnt")
            assert any("nfs_page: " in line for line in leftovers)

    with server(export) as s, client(s.wait_ready(), "--cache", "4MiB") as c:
        asyncio.run(story(c.wait_ready().control))
        assert (c.stop(), s.stop()) == (0, 0)


def test_names_that_are_no_text_leak_like_others(export: Path) -> None:
    """A report is text, and a line of it is ours: whatever bytes somebody names his file with."""
    names = {b"caf\xe9": "caf\\xe9", b"a\nunreferenced b": "a\\nunreferenced b", "日本".encode(): "日本"}
    for name in names:
        (export / os.fsdecode(name)).write_bytes(os.urandom(PAGE))

    async def story(address: str) -> str:
        async with RemoteMachine(address) as machine:
            task = await machine.task()
            for name in names:
                fd = await task.open(b"/mnt/" + name, os.O_RDONLY)
                await task.pread(fd, PAGE, 0)
                await task.close(fd)
            with pytest.raises(ControlError, match=r"^/mnt/caf\\xe8: No such file or directory$"):
                await machine.replace_pages(b"/mnt/caf\xe8", 0, 1)
            await machine.set_hook_policy("all=skip")
            await machine.drop_caches(1)
            return (await machine.audit()).text

    with server(export) as s, client(s.wait_ready(), "--audit-every", "1") as c:
        text = asyncio.run(story(c.wait_ready().control))
        for shown in names.values():
            assert f"  file /mnt/{shown}, page 0\n" in text
            assert f"/mnt/{shown}, page 0" in c.page("/audit")
        command = [sys.executable, "-m", "freepage_lab.cli", "audit", "--address", c.control]
        printed = subprocess.run(
            command, capture_output=True, check=True, env=os.environ | {"PYTHONIOENCODING": "ascii"}
        )
        assert b"/mnt/\\u65e5\\u672c, page 0" in printed.stdout
        assert (c.stop(), s.stop()) == (0, 0)
        assert "Traceback" not in c.stderr + s.stderr


def test_both_daemons_export_metrics_that_promtool_accepts(export: Path, require_tool: object) -> None:
    promtool = require_tool("promtool", debian="prometheus")  # type: ignore[operator]
    with server(export) as s, client(s.wait_ready()) as c:
        for daemon, series in (
            (s, 'freepage_server_rpcs_total{procedure="mount.MNT"} 1.0'),
            (c.wait_ready(), 'operation="FSINFO",protocol="tcp"} 2.0'),
        ):
            text = daemon.page("/metrics")
            done = subprocess.run(
                [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
            )
            assert (done.returncode, done.stdout + done.stderr) == (0, "")
            assert series in text
            assert 'freepage_slab_objects{slab="nfs_page",state="orphaned",use="fill"} 0.0' in text
            assert 'freepage_hook_violations_total{rule="hook_missed"} 0.0' in text
            assert daemon.page("/healthz") == "ok\n"
            assert "/metrics" in daemon.page("/")
        assert (c.stop(), s.stop()) == (0, 0)


def test_daemons_register_while_they_run(export: Path) -> None:
    with server(export, "--name", "files") as s:
        s.wait_ready()
        (daemon,) = list_daemons("server")
        assert (daemon.name, daemon.grpc, daemon.control) == ("files", s.ready["grpc"], s.ready["control"])

        async def story() -> None:
            async with ControlClient(s.control) as control:
                info = await control.info()
                assert (info.role, info.name, info.file_systems) == ("server", "files", ("/export",))
                assert (info.pid, info.grpc) == (s.process.pid, s.ready["grpc"])
                assert (await control.stats(audit=True)).audit_agrees is True

        asyncio.run(story())
        assert s.stop(signal.SIGINT) == 0
    assert list_daemons() == []


def test_the_control_service_wants_its_token_when_it_has_one(export: Path, tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    with server(export, "--token-file", str(token_file)) as s:
        s.wait_ready()

        async def story() -> None:
            for token in (None, "wrong" * 10):
                async with ControlClient(s.control, token=token) as control:
                    with pytest.raises(ControlError, match="token is missing or wrong"):
                        await control.info()
            async with ControlClient(s.control, token=token_file.read_text().strip()) as control:
                assert (await control.info()).role == "server"

        asyncio.run(story())
        assert s.stop() == 0


def test_dirty_data_are_written_back_when_a_client_stops(export: Path) -> None:
    async def story(address: str) -> None:
        async with RemoteMachine(address) as machine:
            task = await machine.task()
            fd = await task.open("/mnt/late", os.O_WRONLY | os.O_CREAT)
            await task.write(fd, b"written at the last moment")

    with server(export) as s, client(s.wait_ready()) as c:
        asyncio.run(story(c.wait_ready().control))
        assert c.stop() == 0
        assert s.stop() == 0
    assert (export / "late").read_bytes() == b"written at the last moment"


def test_a_client_whose_server_was_killed_still_stops(export: Path) -> None:
    with server(export) as s, client(s.wait_ready()) as c:
        c.wait_ready()
        s.process.kill()
        s.end()
        assert c.stop() == 0
        assert "a server does not answer" in c.stderr
    assert list_daemons() == []  # which removes what the killed one left in the registry


def test_health_and_reflection_when_the_packages_are_there(export: Path) -> None:
    health_pb2 = pytest.importorskip("grpc_health.v1.health_pb2")

    async def story(address: str) -> None:
        async with grpc.aio.insecure_channel(address) as channel:
            check = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )
            for service in ("", "freepage.v1.Nfs"):
                answer = await check(health_pb2.HealthCheckRequest(service=service))
                assert answer.status == health_pb2.HealthCheckResponse.SERVING

    with server(export, "--ops") as s:
        asyncio.run(story(s.wait_ready().ready["grpc"]))
        assert s.stop() == 0


def test_an_administrator_frees_the_locks_of_a_client_that_never_comes_back(export: Path) -> None:
    """Linux: unlock_ip. Whoever waited for them goes on."""

    def ctl(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "freepage_lab.cli", "ctl", "locks", "--address", s.control, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    async def lock(task: RemoteTask, command: int) -> None:
        fd = await task.open("/mnt/hello", os.O_RDWR)
        await task.lockf(fd, command, 2, 8)

    async def story(dead: DaemonProcess, alive: DaemonProcess) -> None:
        async with RemoteMachine(dead.control) as machine:
            await lock(await machine.task(), fcntl.LOCK_EX)
        dead.process.kill()
        dead.process.wait()
        assert [daemon.name for daemon in list_daemons("client")] == ["c2"], "and its registration goes with a look"
        async with RemoteMachine(alive.control) as machine:
            task = await machine.task()
            with pytest.raises(BlockingIOError):
                await lock(task, fcntl.LOCK_EX | fcntl.LOCK_NB)
            waiting = asyncio.create_task(lock(task, fcntl.LOCK_EX))
            async with ControlClient(s.control) as control:
                while not any(held.waiting for held in await control.locks()):
                    assert not waiting.done()
            listed = await asyncio.to_thread(ctl)
            assert re.search(r": c1 svid \d+: WRITE /export/hello 2 9$", listed.stdout, re.MULTILINE)
            assert re.search(r": c2 svid \d+: waits WRITE /export/hello 2 9$", listed.stdout, re.MULTILINE)
            freed = await asyncio.to_thread(ctl, "--free", "c1")
            assert freed.stdout.endswith(": locks of c1 released: 1\n")
            await waiting
            async with ControlClient(alive.control) as control:
                with pytest.raises(ControlError, match="only a server"):
                    await control.locks()

    with server(export) as s, client(s.wait_ready(), name="c1") as c1, client(s, name="c2") as c2:
        asyncio.run(story(c1.wait_ready(), c2.wait_ready()))
        assert (c2.stop(), s.stop()) == (0, 0)
