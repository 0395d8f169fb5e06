"""What is on stable storage when a reply says so, whoever else writes, syncs or fails at the same time."""

from __future__ import annotations

import asyncio
import ctypes
import dataclasses
import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from freepage import lru_add_drain
from freepage_proto.nfs3 import (
    CommitArgs,
    CreateArgs,
    CreateMode3,
    Data,
    MkdirArgs,
    NfsStat3,
    RemoveArgs,
    Sattr3,
    SetattrArgs,
    StableHow,
    SymlinkArgs,
    WriteArgs,
)
from freepage_proto.rpc import AuthSys, Procedure
from freepage_server.io import filedata, node
from freepage_server.io.directory import DirectoryStorage
from freepage_server.io.state import InodeTable
from nfsd_rig import Rig

P = Procedure
PAGE = 4096


class SlowSync:
    """Puts itself in the place of a storage's fsync: each waits for `let`, and says so in ``begun``."""

    def __init__(self, rig: Rig) -> None:
        self.begun: list[asyncio.Future[None]] = []
        self._came = asyncio.Semaphore(0)
        rig.storage.fsync = self.fsync  # type: ignore[method-assign]

    async def fsync(self, key: bytes) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.begun.append(future)
        self._came.release()
        await future

    async def come(self) -> asyncio.Future[None]:
        await self._came.acquire()
        return self.begun[-1]


async def _turns(count: int = 50) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def _commit(rig: Rig, f: bytes) -> asyncio.Task[Any]:
    return asyncio.get_running_loop().create_task(rig.call(P.COMMIT, CommitArgs(f)))


def test_a_commit_waits_for_the_fsync_that_another_began(tmp_path: Path) -> None:
    async def story() -> None:
        rig = Rig("memory", tmp_path, export={"sync": True})
        f = await rig.create(b"f")
        slow = SlowSync(rig)
        await rig.write(f, 0, b"one")
        first = _commit(rig, f)
        syncing = await slow.come()
        second = _commit(rig, f)
        await _turns()
        assert not first.done() and not second.done(), "nothing is on disk yet"
        syncing.set_result(None)
        assert [reply.status for reply in await asyncio.gather(first, second)] == [NfsStat3.OK] * 2
        assert len(slow.begun) == 1, "one fsync served both"

    asyncio.run(story())


def test_data_that_came_after_an_fsync_began_get_one_of_their_own(tmp_path: Path) -> None:
    async def story() -> None:
        rig = Rig("memory", tmp_path, export={"sync": True})
        f = await rig.create(b"f")
        slow = SlowSync(rig)
        await rig.write(f, 0, b"one")
        first = _commit(rig, f)
        syncing = await slow.come()
        await rig.write(f, 3, b"two")
        later = [_commit(rig, f), _commit(rig, f)]
        await _turns()
        syncing.set_result(None)
        await first
        again = await slow.come()
        assert not any(commit.done() for commit in later)
        again.set_result(None)
        await asyncio.gather(*later)
        assert len(slow.begun) == 2

    asyncio.run(story())


def test_a_failed_fsync_is_told_to_everybody_who_waited_for_it(tmp_path: Path) -> None:
    async def story() -> None:
        rig = Rig("memory", tmp_path, export={"sync": True})
        f = await rig.create(b"f")
        slow = SlowSync(rig)
        before = await rig.write(f, 0, b"one")
        commits = [_commit(rig, f), _commit(rig, f)]
        (await slow.come()).set_exception(OSError(errno.EIO, "broken disk"))
        assert [reply.status for reply in await asyncio.gather(*commits)] == [NfsStat3.IO] * 2
        del rig.storage.fsync
        after = await rig.call(P.COMMIT, CommitArgs(f))
        assert after.verf != before.verf, "whoever asks later must send his data again"

    asyncio.run(story())


def test_a_file_that_was_forgotten_unsynced_is_synced_at_the_next_commit(tmp_path: Path) -> None:
    async def story() -> None:
        rig = Rig("directory", tmp_path, export={"sync": True})
        f = await rig.create(b"f")
        await rig.write(f, 0, b"data")
        await rig.server.files.bdi.wb.writeback_all(sync=True)
        lru_add_drain(rig.server.cache.memcg)
        await rig.server.drop_caches(1)
        await rig.server.drop_caches(2)
        assert not rig.server.files._inodes
        assert await rig.read(f) == b"data"
        before = rig.server.stats.storage_syncs
        await rig.call(P.COMMIT, CommitArgs(f))
        assert rig.server.stats.storage_syncs == before + 1
        await rig.call(P.COMMIT, CommitArgs(f))
        assert rig.server.stats.storage_syncs == before + 1
        rig.close()

    asyncio.run(story())


def test_data_lost_before_their_reply_do_not_look_safe(tmp_path: Path) -> None:
    """Written out by others and failed between the copy and the reply: the WRITE's verifier is already the old one."""

    async def story() -> None:
        rig = Rig("memory", tmp_path, export={"sync": True})
        f = await rig.create(b"f")
        write = rig.server.files.write

        async def write_and_lose(*args: Any) -> int:
            count = await write(*args)
            rig.server._reset_write_verifier()
            return count

        rig.server.files.write = write_and_lose  # type: ignore[method-assign,assignment]
        written = await rig.write(f, 0, b"data")
        committed = await rig.call(P.COMMIT, CommitArgs(f))
        assert written.verf != committed.verf

    asyncio.run(story())


@pytest.mark.parametrize("stable", [StableHow.DATA_SYNC, StableHow.FILE_SYNC])
def test_a_stable_write_waits_for_the_disk(tmp_path: Path, stable: StableHow) -> None:
    async def story() -> None:
        rig = Rig("memory", tmp_path, export={"sync": True})
        f = await rig.create(b"f")
        slow = SlowSync(rig)
        writing = asyncio.get_running_loop().create_task(rig.call(P.WRITE, WriteArgs(f, 0, 4, stable, b"data")))
        syncing = await slow.come()
        await _turns()
        assert not writing.done()
        assert b"".join(await rig.storage.readv(rig.server.handles.decode(f)[1], 0, [10])) == b"data"
        syncing.set_result(None)
        assert (await writing).committed is stable

    asyncio.run(story())


# --- full disks ------------------------------------------------------------------------------------------------------


def test_space_is_reserved_in_whole_pages(tmp_path: Path) -> None:
    """A page is written as a whole: a hole around a few bytes needs blocks, too."""

    async def story() -> None:
        rig = Rig("memory", tmp_path)
        asked: list[tuple[int, int]] = []
        reserve = rig.storage.reserve

        def noted(key: bytes, offset: int, count: int, unwritten: int = 0, uid: int = 0) -> None:
            asked.append((offset, count))
            reserve(key, offset, count, unwritten, uid)

        rig.storage.reserve = noted  # type: ignore[method-assign]
        f = await rig.create(b"f")
        await rig.write(f, 5000, b"x" * 10)
        await rig.write(f, 3 * PAGE - 1, b"xx")
        assert asked == [(PAGE, PAGE), (2 * PAGE, 2 * PAGE)]

    asyncio.run(story())


def test_what_is_promised_counts_where_space_cannot_be_reserved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten pages are free, and fallocate is refused: the eleventh unwritten page is NOSPC, though all are free still."""

    class Refusing:
        def fallocate64(self, *args: object) -> int:
            ctypes.set_errno(errno.EOPNOTSUPP)
            return -1

        def __getattr__(self, name: str) -> Any:
            return getattr(libc, name)

    libc = node.libc
    monkeypatch.setattr(filedata, "libc", Refusing())
    written = 0

    async def story() -> None:
        nonlocal written
        rig = Rig("directory", tmp_path)
        assert isinstance(rig.storage, DirectoryStorage)
        statfs, write = rig.storage.statfs, rig.storage.write

        def scarce() -> Any:
            return dataclasses.replace(statfs(), available_bytes=10 * PAGE - written)

        async def counted(key: bytes, offset: int, data: Data, times: tuple[int, int] | None = None) -> None:
            nonlocal written
            await write(key, offset, data, times)
            written += len(data)

        rig.storage.statfs = scarce  # type: ignore[method-assign]
        rig.storage.write = counted  # type: ignore[method-assign]
        f, g = await rig.create(b"f"), await rig.create(b"g")
        await rig.write(f, 0, b"f" * 5 * PAGE)
        await rig.write(g, 0, b"g" * 5 * PAGE)
        assert written == 0, "all of it waits"
        refused = await rig.call(P.WRITE, WriteArgs(g, 5 * PAGE, 1, StableHow.UNSTABLE, b"x"))
        assert refused.status is NfsStat3.NOSPC
        assert written == 10 * PAGE, "before refusing, what waited was written"
        for handle in (f, g):
            assert (await rig.call(P.COMMIT, CommitArgs(handle))).status is NfsStat3.OK
        assert (tmp_path / "g").read_bytes() == b"g" * 5 * PAGE
        rig.close()

    asyncio.run(story())


def test_a_quota_refuses_the_write_and_the_new_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file system's EDQUOT is DQUOT of the WRITE UNSTABLE itself; what could not be given away is not there."""

    class OverQuota:
        def fallocate64(self, *args: object) -> int:
            ctypes.set_errno(errno.EDQUOT)
            return -1

        def __getattr__(self, name: str) -> Any:
            return getattr(libc, name)

    libc = node.libc

    def refuse(*args: object) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    async def story() -> None:
        rig = Rig("directory", tmp_path)
        assert isinstance(rig.storage, DirectoryStorage)
        f = await rig.create(b"f")
        with monkeypatch.context() as patch:
            patch.setattr(filedata, "libc", OverQuota())
            reply = await rig.call(P.WRITE, WriteArgs(f, 0, 1, StableHow.UNSTABLE, b"x"))
            assert reply.status is NfsStat3.DQUOT
        assert (await rig.getattr(f)).size == 0
        monkeypatch.setattr(rig.storage, "_own", refuse)
        calls = [
            (P.CREATE, CreateArgs(rig.root, b"file", CreateMode3.GUARDED, Sattr3(mode=0o644))),
            (P.MKDIR, MkdirArgs(rig.root, b"directory", Sattr3(mode=0o755))),
            (P.SYMLINK, SymlinkArgs(rig.root, b"link", b"f", Sattr3())),
        ]
        for procedure, args in calls:
            assert (await rig.call(procedure, args)).status is NfsStat3.DQUOT
        rig.close()

    asyncio.run(story())
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


@pytest.fixture
def disk_with_a_reserve(tmp_path: Path) -> Iterator[Path]:
    """An ext4 of 16 MiB, of which 40 % are kept for root."""
    image, disk = tmp_path / "image", tmp_path / "disk"
    disk.mkdir()
    with image.open("wb") as file:
        file.truncate(16 << 20)
    mkfs = shutil.which("mkfs.ext4", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if mkfs is None or os.geteuid() != 0:
        pytest.skip("needs root and mkfs.ext4 (Debian: apt-get install e2fsprogs)")
    subprocess.run([mkfs, "-q", "-m", "40", image], check=True)
    mounted = subprocess.run(["mount", "-o", "loop", image, disk], check=False, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a file system cannot be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)  # a test that failed may hold files open


def test_what_is_kept_for_root_is_there_for_no_caller_of_a_server_that_runs_as_root(disk_with_a_reserve: Path) -> None:
    async def fill(rig: Rig, name: bytes, cred: AuthSys) -> int:
        args = CreateArgs(rig.root, name, CreateMode3.GUARDED, Sattr3(mode=0o600))
        f = (await rig.call(P.CREATE, args, cred)).object
        data = bytes(256 << 10)
        for number in range(64):
            reply = await rig.call(P.WRITE, WriteArgs(f, number * len(data), len(data), StableHow.UNSTABLE, data), cred)
            if reply.status is not NfsStat3.OK:
                assert reply.status is NfsStat3.NOSPC
                return number * len(data)
        raise AssertionError("the disk has no end")

    async def story() -> None:
        rig = Rig("directory", disk_with_a_reserve, offload=True)
        await rig.call(P.SETATTR, SetattrArgs(rig.root, Sattr3(mode=0o777)))
        space = os.statvfs(disk_with_a_reserve)
        theirs, kept = space.f_bavail * space.f_frsize, (space.f_bfree - space.f_bavail) * space.f_frsize
        assert kept > 4 << 20
        written = await fill(rig, b"user's", AuthSys(1000, 1000, (), "tester"))
        assert theirs - (1 << 20) < written <= theirs
        assert await fill(rig, b"root's", AuthSys(0, 0, (), "tester")) > kept - (1 << 20)
        await rig.server.stop()
        rig.close()

    asyncio.run(story())


def test_a_full_disk_refuses_the_write_and_keeps_what_it_took(small_disk: Path) -> None:
    async def story() -> None:
        rig = Rig("directory", small_disk, offload=True)
        f = await rig.create(b"f")
        taken = 0
        for number in range(64):
            data = bytes([number]) * 64 * 1024
            args = WriteArgs(f, number * 64 * 1024, len(data), StableHow.UNSTABLE, data)
            reply = await rig.call(P.WRITE, args)
            if reply.status is not NfsStat3.OK:
                break
            assert reply.committed is StableHow.UNSTABLE
            taken += reply.count
            verf = reply.verf
        assert reply.status is NfsStat3.NOSPC
        assert 512 * 1024 <= taken <= 1 << 20
        assert (await rig.getattr(f)).size == taken
        committed = await rig.call(P.COMMIT, CommitArgs(f))
        assert committed.status is NfsStat3.OK, "COMMIT has no word for a full disk"
        assert committed.verf != verf, "but knfsd's clients send again what they had not committed"
        data = (small_disk / "f").read_bytes()
        assert data == b"".join(bytes([number]) * 64 * 1024 for number in range(taken // (64 * 1024)))
        assert rig.server.stats.write_verifier_changes == 1
        await rig.call(P.REMOVE, RemoveArgs(rig.root, b"f"))
        g = await rig.create(b"g")
        await rig.write(g, 0, b"room again" * 1000)
        await rig.server.stop()
        rig.close()

    asyncio.run(story())


# --- our own write-back ----------------------------------------------------------------------------------------------


def test_reported_times_hold_from_the_write_over_commit_flusher_and_restart(tmp_path: Path) -> None:
    """UNSTABLE, then written out much later: no client may see the difference, not even after a restart."""
    export, table = tmp_path / "export", tmp_path / "table"
    export.mkdir()

    def rig() -> Rig:
        open_table: Callable[[bytes], InodeTable] = lambda root: InodeTable(table)  # noqa: E731
        return Rig("directory", export, offload=True, export={"sync": True}, table=open_table)

    async def write() -> tuple[bytes, Any]:
        r = rig()
        f = await r.create(b"f")
        await r.write(f, 0, b"x" * 5 * PAGE)
        reported = await r.getattr(f)
        await asyncio.sleep(3 * r.storage.granule_ns / 1e9)  # the disk's clock is a real one
        assert (await r.call(P.COMMIT, CommitArgs(f))).status is NfsStat3.OK
        assert await r.getattr(f) == _but_used(reported, await r.getattr(f))
        assert isinstance(r.storage, DirectoryStorage) and r.storage._table is not None
        r.storage._table._pending.clear()  # the server is killed: what has not left its memory is gone
        r.close()
        return f, reported

    async def look(f: bytes, reported: Any) -> None:
        r = rig()
        assert await r.getattr(f) == _but_used(reported, await r.getattr(f))
        assert (export / "f").stat().st_ctime_ns != reported.ctime_ns, "the disk says something else"
        r.close()

    f, reported = asyncio.run(write())
    asyncio.run(look(f, reported))


def _but_used(reported: Any, now: Any) -> Any:
    """Blocks are given to a file when its data are written, and that may show."""
    return dataclasses.replace(reported, used=now.used)
