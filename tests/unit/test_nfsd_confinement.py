"""Nothing leads out of an export: mount points, what is swapped under our hands, and names that are none."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from freepage_proto.nfs3 import (
    FType3,
    LookupArgs,
    MkdirArgs,
    MknodArgs,
    NfsStat3,
    ReadArgs,
    ReaddirplusArgs,
    Sattr3,
    StableHow,
    SymlinkArgs,
    WriteArgs,
)
from freepage_proto.rpc import Procedure
from freepage_server.io import beneath, nodes
from freepage_server.io.directory import DirectoryStorage
from nfsd_rig import Rig

P = Procedure
LOOKS = {"openat": beneath._openat, "openat2": beneath._openat2}


@pytest.fixture(params=LOOKS)
def look(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of opening a name, whatever this kernel prefers."""
    if request.param == "openat2" and not beneath.has_openat2():
        pytest.skip("this kernel has no openat2, or the sandbox forbids it")
    monkeypatch.setattr(nodes, "look", LOOKS[request.param])
    return str(request.param)


def test_one_name_is_opened_as_itself(look: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "d").mkdir()
    fd = os.open(tmp_path, os.O_PATH)
    try:
        opened = LOOKS[look](b"link", fd)
        assert os.readlink(b"", dir_fd=opened) == b"/etc/passwd"
        os.close(opened)
        for name, number in ((b"nothing", errno.ENOENT), (b"x" * 256, errno.ENAMETOOLONG)):
            with pytest.raises(OSError) as caught:
                LOOKS[look](name, fd)
            assert caught.value.errno == number
    finally:
        os.close(fd)


@pytest.fixture
def mounts(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Mounts for the length of a test; skips where we may not mount."""
    done: list[Path] = []

    def mount(target: Path, *arguments: str) -> None:
        result = subprocess.run(["mount", *arguments, str(target)], capture_output=True, text=True, check=False)
        if result.returncode:
            pytest.skip(f"cannot mount here: {result.stderr.strip()}")
        done.append(target)

    yield mount
    for target in reversed(done):
        subprocess.run(["umount", str(target)], check=True)


def test_what_is_mounted_inside_is_not_entered(look: str, tmp_path: Path, mounts: Callable[..., None]) -> None:
    outside, export = tmp_path / "outside", tmp_path / "export"
    for path in (outside, export, export / "tmpfs", export / "bind", export / "d"):
        path.mkdir()
    (outside / "secret").write_text("outside")
    mounts(export / "tmpfs", "-t", "tmpfs", "none")
    mounts(export / "bind", "--bind", str(outside))

    async def story() -> None:
        rig = Rig("directory", export)
        refused = [b"tmpfs", b"bind"] if look == "openat2" else [b"tmpfs"]
        for name in refused:
            assert (await rig.call(P.LOOKUP, LookupArgs(rig.root, name))).status is NfsStat3.ACCES
            again = await rig.call(P.MKDIR, MkdirArgs(rig.root, name, Sattr3(mode=0o755)))
            assert again.status in {NfsStat3.ACCES, NfsStat3.EXIST}
        listed = await rig.call(P.READDIRPLUS, ReaddirplusArgs(rig.root, 0, bytes(8), 4096, 4096))
        with_handles = {entry.name for entry in listed.entries if entry.object is not None}
        assert with_handles.isdisjoint(refused)
        assert {entry.name for entry in listed.entries} == {b".", b"..", b"tmpfs", b"bind", b"d"}
        rig.close()

    asyncio.run(story())


def test_names_that_are_none_go_nowhere_even_without_vfs(tmp_path: Path) -> None:
    export = tmp_path / "export"
    export.mkdir()
    (tmp_path / "secret").touch()
    storage = DirectoryStorage(export, offload=False)
    root = storage.root()
    for name in (b"..", b".", b"", b"a/b", b"../secret", b"a\0b"):
        for operation in (
            lambda name=name: storage.unlink(root, name),
            lambda name=name: storage.rmdir(root, name),
            lambda name=name: storage.rename(root, name, root, b"x"),
            lambda name=name: storage.create(root, name, 0o644, 0, 0),
            lambda name=name: storage.mkdir(root, name, 0o755, 0, 0),
            lambda name=name: storage.symlink(root, name, b"t", 0, 0),
        ):
            with pytest.raises(OSError) as caught:
                operation()
            assert caught.value.errno in {errno.EINVAL, errno.EEXIST}
    assert storage.lookup(root, b"..") == root
    storage.close()


@pytest.mark.parametrize("kind", ["directory", "symlink", "fifo"])
def test_what_was_swapped_for_what_we_made_is_not_given_away(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between mkdir and our look at it, somebody puts a directory of another's in its place."""
    victim = tmp_path / "victim"
    if kind == "directory":
        victim.mkdir(mode=0o700)
    elif kind == "symlink":
        victim.symlink_to("elsewhere")
    else:
        os.mkfifo(victim, 0o600)

    async def story() -> None:
        rig = Rig("directory", tmp_path)
        await rig.lookup(rig.root, b"victim")
        while rig.storage.now_ns() <= victim.lstat().st_ctime_ns:
            pass  # the same tick of the clock that stamps inodes
        before = victim.lstat()
        look = beneath.look

        def swapped(name: bytes, fd: int) -> int:
            if name == b"made" and os.path.lexists(tmp_path / "made"):
                (tmp_path / "made").rename(tmp_path / "aside")
                victim.rename(tmp_path / "made")
            return look(name, fd)

        monkeypatch.setattr(nodes, "look", swapped)
        sattr = Sattr3(mode=0o777)
        if kind == "directory":
            result = await rig.call(P.MKDIR, MkdirArgs(rig.root, b"made", sattr))
        elif kind == "symlink":
            result = await rig.call(P.SYMLINK, SymlinkArgs(rig.root, b"made", b"target", sattr))
        else:
            result = await rig.call(P.MKNOD, MknodArgs(rig.root, b"made", FType3.FIFO, sattr))
        assert result.status is NfsStat3.STALE
        after = (tmp_path / "made").lstat()
        assert (after.st_ino, after.st_mode, after.st_uid) == (before.st_ino, before.st_mode, before.st_uid)
        rig.close()

    asyncio.run(story())


def test_a_lease_holds_nobody_up(tmp_path: Path) -> None:
    """Opening a file with a lease would wait up to 45 s (/proc/sys/fs/lease-break-time) for its holder."""
    (tmp_path / "f").write_text("leased")

    async def story() -> None:
        rig = Rig("directory", tmp_path)
        f = await rig.lookup(rig.root, b"f")
        holder = os.open(tmp_path / "f", os.O_RDONLY)
        fcntl.fcntl(holder, fcntl.F_SETSIG, 0)
        handler = signal_ignored()
        try:
            fcntl.fcntl(holder, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            write = await rig.call(P.WRITE, WriteArgs(f, 0, 1, StableHow.UNSTABLE, b"L"))
            assert write.status is NfsStat3.JUKEBOX, "come again"
            fcntl.fcntl(holder, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            await rig.write(f, 0, b"L")
            read = await rig.call(P.READ, ReadArgs(f, 0, 10))
            assert bytes(read.data) == b"Leased"
        finally:
            handler()
            os.close(holder)
        await rig.server.stop()
        rig.close()

    asyncio.run(story())


def signal_ignored() -> Callable[[], object]:
    """A broken lease sends SIGIO, which ends a process that does not care."""
    import signal

    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    return lambda: signal.signal(signal.SIGIO, before)
