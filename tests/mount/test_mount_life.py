"""The life of a mount: two clients, leaks that are wanted, crashes, mistakes, users."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from freepage_client.io.fuse.device import mounted_on
from mount_rig import Mount, Server, freepage, mounted

pytest_plugins = ("mount_fixtures",)

MakeMount = Callable[..., AbstractContextManager[Mount]]


def orphans(report: str) -> int:
    """Objects of slab nfs_page that a leak report counts."""
    return sum(map(int, re.findall(r"unreferenced nfs_page \(fill\): (\d+) object", report)))


def test_two_clients(mount: MakeMount, work: str) -> None:
    with mount("actimeo=60") as one, mount("actimeo=60") as two:
        a, b = one.path / work, two.path / work
        (a / "f").write_text("first")
        assert (b / "f").read_text() == "first"
        with (b / "f").open() as held:
            (a / "f").write_text("second")
            assert (b / "f").read_text() == "second"  # close-to-open
            held.read()
        (a / "g").write_text("x")
        os.rename(a / "g", a / "h")
        assert sorted(os.listdir(b)) == ["f", "h"]

        with (a / "f").open("r+") as f, (b / "f").open("r+") as g:
            for lock in (fcntl.lockf, fcntl.flock):
                lock(f, fcntl.LOCK_EX)
                with pytest.raises(BlockingIOError):
                    lock(g, fcntl.LOCK_EX | fcntl.LOCK_NB)
                lock(f, fcntl.LOCK_UN)
                lock(g, fcntl.LOCK_EX | fcntl.LOCK_NB)
                lock(g, fcntl.LOCK_UN)
            fcntl.lockf(f, fcntl.LOCK_EX)
            os.pwrite(f.fileno(), b"under lock", 0)
            fcntl.lockf(f, fcntl.LOCK_UN)
            fcntl.lockf(g, fcntl.LOCK_SH)
            assert os.pread(g.fileno(), 10, 0) == b"under lock"


def test_a_name_that_the_other_client_has_just_made(mount: MakeMount, work: str) -> None:
    """CREATE does not mind what is there already; open(2) does."""
    with mount("actimeo=60") as one, mount("actimeo=60") as two:
        a, b = one.path / work, two.path / work
        (a / "target").write_text("through the link")
        for name in ("directory", "link", "file"):
            assert not (b / name).exists()
        (a / "directory").mkdir()
        (a / "link").symlink_to("target")
        (a / "file").write_text("theirs")
        with pytest.raises(IsADirectoryError):
            os.open(b / "directory", os.O_CREAT | os.O_RDWR)
        for name, contents in (("link", b"through the link"), ("file", b"theirs")):
            fd = os.open(b / name, os.O_CREAT | os.O_RDWR)
            assert os.read(fd, 100) == contents
            os.close(fd)


@pytest.mark.slow
def test_two_clients_at_random(mount: MakeMount, work: str) -> None:
    """Threads on two mounts make and remove the same few names: nothing is left that a mount waits for."""

    def use(root: Path, seed: int) -> None:
        chance = random.Random(seed)
        fds: list[int] = []

        def name() -> Path:
            return root.joinpath(*(chance.choice("abcd") for _ in range(chance.choice((1, 2, 2, 3)))))

        actions: list[Callable[[], object]] = [
            lambda: os.mkdir(name()),
            lambda: fds.append(os.open(name(), os.O_CREAT | os.O_RDWR)),
            lambda: os.rename(name(), name()),
            lambda: os.unlink(name()),
            lambda: os.rmdir(name()),
            lambda: os.listdir(name().parent),
            lambda: os.link(name(), name()),
            lambda: os.stat(name()),
            lambda: os.close(fds.pop()) if fds else None,
        ]
        for _ in range(2000):
            try:
                chance.choice(actions)()
            except OSError as error:
                assert error.errno not in (errno.EIO, errno.ENOSYS, errno.EREMOTEIO), error
        for fd in fds:
            with contextlib.suppress(OSError):
                os.close(fd)

    with mount() as one, mount() as two, ThreadPoolExecutor(6) as pool:
        for each in [pool.submit(use, m.path / work, seed) for seed in range(3) for m in (one, two)]:
            each.result()


def test_a_removed_file_lives_on_as_nfs_does_it(mount: MakeMount, work: str) -> None:
    with mount() as one:
        path = one.path / work
        with (path / "f").open("w+b") as f:
            f.write(b"still here")
            f.flush()
            (path / "f").unlink()
            (silly,) = os.listdir(path)
            assert re.fullmatch(r"\.nfs[0-9a-f]{24}", silly)
            assert os.fstat(f.fileno()).st_nlink == 1  # it was renamed, not removed
            assert os.pread(f.fileno(), 10, 0) == b"still here"
        _until(lambda: not os.listdir(path))


def _until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


def test_counts(mount: MakeMount, work: str) -> None:
    """What the mount changes: one LOOKUP where a real client knows that it needs none. What it does not."""
    with mount("acregmin=600,acregmax=600,acdirmin=600,acdirmax=600") as one:
        path = one.path / work / "f"

        def spent(action: Callable[[], object]) -> dict[str, int]:
            before = one.rpcs()
            action()
            after = one.rpcs()
            return {name: after[name] - before[name] for name in after if after[name] != before[name]}

        first = spent(lambda: path.write_bytes(b"x" * 10000))
        assert {name: first.get(name, 0) for name in ("CREATE", "WRITE", "COMMIT")} == {
            "CREATE": 1,
            "WRITE": 1,
            "COMMIT": 0,
        }
        assert spent(path.read_bytes).get("READ", 0) == 0
        assert spent(lambda: path.stat()) == {}
        assert spent(lambda: os.close(os.open(path, os.O_RDONLY))) == {"GETATTR": 1}
        made = spent(lambda: os.mkdir(path.parent / "d"))
        assert made["MKDIR"] == 1 and made["LOOKUP"] == 1  # FUSE's own: NFS leaves the answer to MKDIR


def test_leaks_equal_the_skipped_removals(mount: MakeMount, work: str) -> None:
    with mount() as one:
        path = one.path / work / "f"
        path.write_bytes(bytes(50 * 4096))
        one.steer("hooks", "drop=skip\n")
        assert "drop=skip\n" in one.virtual("hooks")
        assert len(path.read_bytes()) == 50 * 4096
        one.steer("drop_caches", "1\n")
        report = one.scan()
        assert orphans(report) == 50, report
        assert str(path) in report
        one.steer("hooks", "all=run\n")
        one.steer("drop_caches", "3\n")
        assert orphans(one.scan()) == 50
        left = one.umount()
        assert "nfs_page: 50 objects remain" in left, left
        assert mounted_on(str(one.path)) is None


def test_the_virtual_directory(mount: MakeMount, work: str) -> None:
    with mount() as one:
        root = one.path / ".freepage"
        assert ".freepage" not in os.listdir(one.path)
        assert one.virtual("proc/self/mountstats").startswith("device ")
        assert one.virtual("proc/slabinfo").startswith("slabinfo - version: 2.1\n")
        assert "MemTotal:" in one.virtual("proc/meminfo")
        assert "nr_file_pages" in one.virtual("proc/vmstat") or one.virtual("proc/vmstat")
        for name, text in (("hooks", "nonsense"), ("drop_caches", "9"), ("kmemleak", "dance")):
            with pytest.raises(OSError, match="Invalid argument"):
                one.steer(name, text)
        with pytest.raises(PermissionError):
            (root / "new").write_text("x")
        with (root / "accesslog").open("rb", buffering=0) as log:
            os.stat(one.path / work)
            assert b" LOOKUP " in log.read(4096)
        one.steer("kmemleak", "clear")
        assert one.virtual("kmemleak") == ""
    with mount("nofreepage") as plain:
        assert not (plain.path / ".freepage").exists()
        assert plain.umount() == ""


def test_a_busy_mount_says_who_uses_it(mount: MakeMount, work: str) -> None:
    with mount() as one:
        (one.path / work / "f").write_text("x")
        with (one.path / work / "f").open():
            complaint = one.umount()
            assert complaint.startswith(f"freepage: cannot unmount {one.path}: busy\n"), complaint
            assert re.search(rf"descriptor \d+ of \S+ \(pid {os.getpid()}\): {one.path}/{work}/f\n", complaint)
        one.mounted = True


def test_a_crash_leaves_no_hung_mount(mount: MakeMount, work: str) -> None:
    with mount() as one:
        (one.path / work / "f").write_text("x")
        fd = os.open(one.path / work / "f", os.O_RDONLY)
        pid = _pid_of(one.path)
        os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
        _until(lambda: mounted_on(str(one.path)) is None)
        with pytest.raises(OSError):
            os.fstat(fd)
        with contextlib.suppress(OSError):
            os.close(fd)
        one.mounted = False
        one.path.rmdir()
        freepage("ps")  # whoever looks next removes the registration


def _pid_of(mountpoint: Path) -> int:
    rows = json.loads(freepage("ps", "--json").stdout)
    return next(int(row["pid"]) for row in rows if str(row["name"]).startswith(f"{mountpoint.name}-"))


def test_ctrl_c_ends_a_mount_in_the_foreground(source: str, place: Path) -> None:
    path = place / "foreground"
    path.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "freepage_lab.cli", "mount", "-f", source, str(path)], stderr=subprocess.PIPE, text=True
    )
    with process:
        _until(lambda: mounted_on(str(path)), 30)
        assert os.listdir(path) is not None
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=30)
        assert process.returncode == 0, complaints
    assert mounted_on(str(path)) is None
    path.rmdir()


@pytest.fixture
def empty(place: Path) -> Iterator[Path]:
    path = place / "empty"
    path.mkdir()
    yield path
    path.rmdir()


def test_a_mount_point_is_taken_once(source: str, place: Path) -> None:
    with mounted(source, place / "taken") as mount:
        done = freepage("mount", source, str(mount.path), check=False)
        assert done.returncode != 0
        assert done.stderr == (
            f"freepage: cannot mount on {mount.path}: it is mounted already (freepage umount {mount.path})\n"
        )
    assert mounted_on(str(place / "taken")) is None


def test_mistakes(source: str, empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server, _, _ = source.partition(":/")
    for arguments, complaint in (
        ([source, str(empty / "missing")], "No such file"),
        ([source, __file__], "it is no directory"),
        ([f"{server}:/nothing", str(empty)], "no such export|access denied"),
        (["127.0.0.1:1:/export", str(empty)], "unreachable"),
        (["nonsense", str(empty)], "not a server's export"),
        ([source, str(empty), "-o", "vers=4"], "vers=4"),
        ([source, str(empty), "-o", "frobnicate"], "frobnicate"),
    ):
        done = freepage("mount", *arguments, check=False)
        assert done.returncode != 0
        assert done.stderr.startswith("freepage: ") and done.stderr.count("\n") == 1, done.stderr
        assert re.search(complaint, done.stderr), done.stderr
    monkeypatch.setenv("PATH", str(empty))
    done = freepage("mount", source, str(empty), check=False)
    assert done.stderr == "freepage: fusermount3 is missing (Debian: apt-get install fuse3)\n"
    done = freepage("umount", str(empty), check=False)
    assert done.returncode == 1 and "no freepage is mounted there" in done.stderr


def test_an_ordinary_user(source: str, place: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("we are one already")
    path, runtime = place / "users", place / "users-run"
    for each in (path, runtime):
        each.mkdir()
        os.chown(each, 65534, 65534)
    runtime.chmod(0o700)
    environment = {**os.environ, "FREEPAGE_RUNTIME_DIR": str(runtime), "HOME": str(runtime)}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))

    def as_user(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    again = "import subprocess, sys, grpc, freepage_lab; subprocess.run([sys.executable, '-c', ''], check=True)"
    pythons = (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}")
    python = next((each for each in pythons if as_user(each, "-c", again).returncode == 0), None)
    if python is None:
        pytest.skip("other users cannot run this Python")
    command = (python, "-m", "freepage_lab.cli")
    done = as_user(*command, "mount", source, str(path))
    assert done.returncode == 0, done.stderr
    try:
        done = as_user("sh", "-c", f"ls {path} >/dev/null && id -u && cat {path}/.freepage/hooks")
        assert done.returncode == 0 and done.stdout.startswith("65534\ntruncate=run\n"), done
        with pytest.raises(PermissionError):
            os.listdir(path)  # not even root, unless the user allows it
    finally:
        done = as_user(*command, "umount", str(path))
    assert done.returncode == 0, done.stderr


def test_fstabs_helper(source: str, empty: Path) -> None:
    helper = Path(sys.executable).with_name("mount.freepage")
    done = subprocess.run(
        [helper, source, str(empty), "-v", "-o", "rw,noauto,actimeo=1"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert mounted_on(str(empty)) == "fuse.freepage"
    freepage("umount", str(empty))


def test_a_server_that_is_gone(place: Path, export: Path) -> None:
    path = place / "lost"
    with Server(f"{export}:/export") as server:
        lost = Mount(f"{server.address}:/export", path, "soft,timeo=10,retrans=0")
        os.listdir(path)
    with pytest.raises(OSError):
        os.stat(path / "unknown")
    assert "does not answer" in lost.umount()
    assert mounted_on(str(path)) is None
    path.rmdir()
