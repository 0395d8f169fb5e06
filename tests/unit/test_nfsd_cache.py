"""The server's page cache: what waits, what is lost, what leaves and by which path, and what clients see of it."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from freepage import ObjectState, RemovalPath, lru_add_drain
from freepage_proto.nfs3 import (
    CommitArgs,
    Data,
    NfsStat3,
    ReadArgs,
    RemoveArgs,
    Sattr3,
    SetattrArgs,
    StableHow,
    WriteArgs,
)
from freepage_proto.rpc import AuthSys, Procedure
from freepage_server.nfsd.memory import MemoryStorage
from nfsd_rig import KINDS, ME, Rig

P = Procedure
PAGE = 4096

Play = Callable[..., None]


@pytest.fixture(params=KINDS)
def play(request: pytest.FixtureRequest, tmp_path: Path) -> Play:
    """Runs ``play(story)`` on a server of each kind, with data I/O in threads where the storage is real."""

    def run(story: Callable[[Rig], Coroutine[Any, Any, None]], **settings: Any) -> None:
        async def whole() -> None:
            rig = Rig(request.param, tmp_path, offload=True, **settings)
            try:
                await story(rig)
                rig.check()
                await rig.server.stop()
            finally:
                rig.close()

        asyncio.run(whole())

    return run


def _key(rig: Rig, handle: bytes) -> bytes:
    return rig.server.handles.decode(handle)[1]


async def _stored(rig: Rig, handle: bytes, count: int = 1 << 20) -> bytes:
    return b"".join(await rig.storage.readv(_key(rig, handle), 0, [count]))


async def _drop(rig: Rig) -> None:
    """drop_caches, with the batch of newly added pages drained first: its references keep pages."""
    lru_add_drain(rig.server.cache.memcg)
    await rig.server.drop_caches()


def _removed(rig: Rig) -> dict[str, int]:
    return {path.value: n for path, n in rig.server.cache.removed.items() if n}


# --- stability -------------------------------------------------------------------------------------------------------


def test_unstable_data_waits_for_commit(play: Play) -> None:
    async def story(rig: Rig) -> None:
        f = await rig.create(b"f")
        await rig.write(f, 0, b"x" * 10_000)
        assert await _stored(rig, f) == b""
        assert await rig.read(f) == b"x" * 10_000, "reads see unwritten data"
        assert await rig.task.listdir("/") == [b"f"]
        assert (await rig.task.stat("f")).st_size == 10_000, "so do programs on the server"
        await rig.call(P.COMMIT, CommitArgs(f))
        assert await _stored(rig, f) == b"x" * 10_000
        assert rig.server.stats.storage_writes == 1, "contiguous pages go in one piece"
        await rig.call(P.COMMIT, CommitArgs(f))
        assert (rig.server.stats.storage_writes, rig.server.stats.storage_syncs) == (1, 1)

    play(story, export={"sync": True})


def test_commit_of_a_range(play: Play) -> None:
    async def story(rig: Rig) -> None:
        f = await rig.create(b"f")
        for index in (0, 4, 8):
            await rig.write(f, index * PAGE, b"%d" % index * PAGE)
        await rig.call(P.COMMIT, CommitArgs(f, 4 * PAGE, PAGE))
        assert rig.server.cache.dirty.nr_dirty == 2
        assert (await _stored(rig, f))[4 * PAGE :] == b"4" * PAGE

    play(story)


def test_a_crash_loses_what_was_only_unstable_and_says_so(play: Play) -> None:
    async def story(rig: Rig) -> None:
        f = await rig.create(b"f")
        kept = await rig.write(f, 0, b"kept", StableHow.FILE_SYNC)
        lost = await rig.write(f, 4, b"lost")
        assert kept.verf == lost.verf
        await rig.server.crash(boot_ns=2)
        assert await rig.read(f) == b"kept"
        assert (await rig.getattr(f)).size == 4
        committed = await rig.call(P.COMMIT, CommitArgs(f))
        assert committed.status is NfsStat3.OK
        assert committed.verf != lost.verf, "the client must send its data again"

    play(story, boot_ns=1)


def test_the_flusher_writes_by_itself(play: Play) -> None:
    async def story(rig: Rig) -> None:
        steps: list[float] = []
        woken = asyncio.Event()

        async def sleep(seconds: float) -> None:
            steps.append(seconds)
            await woken.wait()
            rig.clock.seconds += seconds

        written = asyncio.Event()
        write = rig.storage.write

        async def write_and_tell(key: bytes, offset: int, data: Data, times: tuple[int, int] | None = None) -> None:
            await write(key, offset, data, times)
            written.set()

        rig.clock.sleep = sleep  # type: ignore[method-assign]
        rig.storage.write = write_and_tell  # type: ignore[method-assign]
        await rig.server.start()
        f = await rig.create(b"f")
        await rig.write(f, 0, b"dirty")
        assert await _stored(rig, f) == b""
        woken.set()
        await written.wait()
        assert await _stored(rig, f) == b"dirty"
        assert steps[0] == 5.0

    play(story)


def test_stop_writes_everything(tmp_path: Path) -> None:
    async def story() -> None:
        rig = Rig("directory", tmp_path)
        f = await rig.create(b"f")
        await rig.write(f, 0, b"dirty")
        await rig.server.stop()
        rig.close()

    asyncio.run(story())
    assert (tmp_path / "f").read_bytes() == b"dirty"


def test_full_storage_refuses_the_write_and_not_the_commit(tmp_path: Path) -> None:
    async def story() -> None:
        rig = Rig("memory", tmp_path)
        assert isinstance(rig.storage, MemoryStorage)
        rig.storage.capacity_bytes = 3 * PAGE
        f = await rig.create(b"f")
        await rig.write(f, 0, b"x" * 2 * PAGE)
        refused = await rig.call(P.WRITE, WriteArgs(f, 2 * PAGE, 2 * PAGE, StableHow.UNSTABLE, b"x" * 2 * PAGE))
        assert refused.status is NfsStat3.NOSPC
        await rig.write(f, 0, b"y" * 2 * PAGE)
        assert (await rig.call(P.COMMIT, CommitArgs(f))).status is NfsStat3.OK
        await rig.call(P.REMOVE, RemoveArgs(rig.root, b"f"))
        assert rig.storage.statfs().free_bytes == 3 * PAGE
        rig.check()

    asyncio.run(story())


def test_a_failed_write_back_fails_the_commit_and_changes_the_verifier(tmp_path: Path) -> None:
    async def story() -> None:
        rig = Rig("memory", tmp_path)

        async def broken(key: bytes, offset: int, data: Data, times: tuple[int, int] | None = None) -> None:
            raise OSError(errno.EIO, "broken disk")

        f = await rig.create(b"f")
        before = await rig.write(f, 0, b"data")
        rig.storage.write = broken  # type: ignore[method-assign]
        assert (await rig.call(P.COMMIT, CommitArgs(f))).status is NfsStat3.IO
        del rig.storage.write
        again = await rig.write(f, 0, b"data")
        assert again.verf != before.verf
        assert (await rig.call(P.COMMIT, CommitArgs(f))).status is NfsStat3.OK
        assert await _stored(rig, f) == b"data"
        rig.check()

    asyncio.run(story())


# --- attributes ------------------------------------------------------------------------------------------------------


def test_write_back_is_no_change_that_a_client_could_see(play: Play) -> None:
    async def story(rig: Rig) -> None:
        f = await rig.create(b"f")
        rig.clock.seconds += 1
        wrote = await rig.write(f, 0, b"x" * 5000)
        await asyncio.sleep(0.03)  # a real file system's clock must have moved on
        committed = await rig.call(P.COMMIT, CommitArgs(f))
        after = await rig.getattr(f)
        assert wrote.wcc.after is not None
        for attributes in (committed.wcc.after, after):
            assert (attributes.size, attributes.mtime_ns, attributes.ctime_ns) == (
                5000,
                wrote.wcc.after.mtime_ns,
                wrote.wcc.after.ctime_ns,
            )
        assert rig.server.stats.foreign_changes == 0
        # But the next true change shows.
        await rig.call(P.SETATTR, SetattrArgs(f, Sattr3(mode=0o600)))
        changed = await rig.getattr(f)
        if isinstance(rig.storage, MemoryStorage):
            return
        assert changed.ctime_ns > after.ctime_ns
        assert changed.mtime_ns == after.mtime_ns

    play(story)


def test_times_set_on_a_dirty_file_survive_its_write_back(play: Play) -> None:
    async def story(rig: Rig) -> None:
        f = await rig.create(b"f")
        await rig.write(f, 0, b"data")
        await rig.call(P.SETATTR, SetattrArgs(f, Sattr3(mtime_ns=777_000_000_000)))
        assert (await rig.getattr(f)).mtime_ns == 777_000_000_000
        await rig.call(P.COMMIT, CommitArgs(f))
        assert (await rig.getattr(f)).mtime_ns == 777_000_000_000
        assert rig.storage.getattr(_key(rig, f)).mtime_ns == 777_000_000_000

    play(story)


def test_truncating_a_dirty_file(play: Play) -> None:
    async def story(rig: Rig) -> None:
        f = await rig.create(b"f")
        await rig.write(f, 0, b"x" * 3 * PAGE)
        await rig.call(P.SETATTR, SetattrArgs(f, Sattr3(size=100)))
        assert (await rig.getattr(f)).size == 100
        assert _removed(rig) == {"truncate": 2}
        await rig.call(P.SETATTR, SetattrArgs(f, Sattr3(size=200)))
        assert await rig.read(f) == b"x" * 100 + bytes(100), "the rest of the page was cleared"
        await rig.call(P.COMMIT, CommitArgs(f))
        assert await _stored(rig, f) == b"x" * 100 + bytes(100)

    play(story)


# --- foreign changes -------------------------------------------------------------------------------------------------


def test_a_change_behind_the_servers_back_is_seen(tmp_path: Path) -> None:
    async def story() -> None:
        rig = Rig("directory", tmp_path)
        f = await rig.create(b"f")
        await rig.write(f, 0, b"ours " * 4000, StableHow.FILE_SYNC)
        assert (await rig.read(f))[:4] == b"ours"
        (tmp_path / "f").write_bytes(b"theirs")
        os.utime(tmp_path / "f", ns=(5_000_000_000, 5_000_000_000))
        assert (await rig.getattr(f)).mtime_ns == 5_000_000_000
        assert await rig.read(f) == b"theirs"
        assert _removed(rig) == {"invalidate": 5}
        assert rig.server.stats.foreign_changes == 1
        rig.check()
        (tmp_path / "f").unlink()
        assert (await rig.call(P.READ, ReadArgs(f, 0, 10))).status is NfsStat3.STALE
        assert _removed(rig)["evict"] == 1
        rig.close()

    asyncio.run(story())


def test_a_foreign_change_leaves_our_unwritten_data_alone(tmp_path: Path) -> None:
    async def story() -> None:
        rig = Rig("directory", tmp_path)
        f = await rig.create(b"f")
        await rig.write(f, 0, b"a" * 3 * PAGE, StableHow.FILE_SYNC)
        await rig.write(f, PAGE, b"b" * PAGE)
        with (tmp_path / "f").open("r+b") as file:
            file.write(b"c" * PAGE)
        os.utime(tmp_path / "f", ns=(5_000_000_000, 5_000_000_000))
        assert await rig.read(f) == b"c" * PAGE + b"b" * PAGE + b"a" * PAGE
        await rig.call(P.COMMIT, CommitArgs(f))
        assert (tmp_path / "f").read_bytes() == b"c" * PAGE + b"b" * PAGE + b"a" * PAGE
        rig.check()
        rig.close()

    asyncio.run(story())


# --- pages -----------------------------------------------------------------------------------------------------------


def test_a_page_owns_the_request_and_the_credential_that_brought_it(play: Play) -> None:
    async def story(rig: Rig) -> None:
        ledger = rig.server.cache.ledger
        f = await rig.create(b"f", mode=0o644)
        await rig.write(f, 0, b"x" * 4 * PAGE, StableHow.FILE_SYNC)
        assert ledger.live("nfs_page", ObjectState.CACHED, "fill") == 4
        assert ledger.live("rpc_cred") == 1
        await _drop(rig)
        assert _removed(rig) == {"drop": 4}
        assert ledger.live("nfs_page") == ledger.live("rpc_cred") == 0
        for cred in (ME, AuthSys(ME.uid + 9, ME.gid + 9)):
            await rig.call(P.READ, ReadArgs(f, 0, PAGE), cred)
        assert ledger.live("rpc_cred") == 1, "the second reader brought nothing in"

    play(story)


def test_every_path_out_and_the_leak_when_the_hook_is_skipped(tmp_path: Path) -> None:
    async def story() -> None:
        rig = Rig("memory", tmp_path)
        cache = rig.server.cache
        f = await rig.create(b"f")
        await rig.write(f, 0, b"x" * 8 * PAGE, StableHow.FILE_SYNC)
        cache.policy.set(RemovalPath.DROP, "skip")
        await _drop(rig)
        assert cache.skipped_owned[RemovalPath.DROP] == 8
        assert cache.ledger.orphaned() == {"nfs_page": 8, "rpc_cred": 1}
        report = cache.ledger.audit(rig.server.roots_in_use(), cache.mappings)
        assert report.agrees
        assert "/export/f" in report.render()
        cache.policy.set(RemovalPath.DROP, "run")
        await rig.read(f)
        await rig.call(P.REMOVE, RemoveArgs(rig.root, b"f"))
        assert _removed(rig) == {"drop": 8, "evict": 8}
        assert cache.ledger.orphaned()["nfs_page"] == 8, "what leaked stays leaked"
        rig.check()

    asyncio.run(story())


def test_memory_limit_reclaims(play: Play) -> None:
    async def story(rig: Rig) -> None:
        f = await rig.create(b"f")
        data = bytes(range(256)) * 16 * 512  # 2 MiB
        for offset in range(0, len(data), 1 << 16):
            await rig.write(f, offset, data[offset : offset + (1 << 16)])
        await rig.call(P.COMMIT, CommitArgs(f))
        got = b"".join([await rig.read(f, offset, 1 << 16) for offset in range(0, len(data), 1 << 16)])
        assert got == data
        assert _removed(rig)["reclaim"] > 256
        assert rig.server.cache.nr_file_pages <= 256

    play(story, memory_bytes=256 * PAGE)


def test_readers_of_one_page_read_the_storage_once(tmp_path: Path) -> None:
    async def story() -> None:
        rig = Rig("directory", tmp_path, offload=True)
        f = await rig.create(b"f")
        await rig.write(f, 0, b"x" * 16 * PAGE, StableHow.FILE_SYNC)
        await _drop(rig)
        answers = await asyncio.gather(*(rig.read(f, 0, 16 * PAGE) for _ in range(8)))
        assert set(answers) == {b"x" * 16 * PAGE}
        assert rig.server.stats.storage_reads == 1
        rig.check()
        rig.close()

    asyncio.run(story())


def test_a_file_removed_while_it_is_read_and_written(tmp_path: Path) -> None:
    """The pages in flight keep the inode until the last call has left; then it is evicted, and no rule is broken."""

    async def story() -> None:
        rig = Rig("directory", tmp_path, offload=True)
        for number in range(20):
            name = b"f%d" % number
            f = await rig.create(name)
            await rig.write(f, 0, b"x" * 64 * PAGE, StableHow.FILE_SYNC)
            await _drop(rig)
            statuses = await asyncio.gather(
                rig.call(P.READ, ReadArgs(f, 0, 64 * PAGE)),
                rig.call(P.WRITE, WriteArgs(f, 100, 5, StableHow.FILE_SYNC, b"hello")),
                rig.call(P.READ, ReadArgs(f, 32 * PAGE, PAGE)),
                rig.call(P.REMOVE, RemoveArgs(rig.root, name)),
                rig.call(P.READ, ReadArgs(f, 0, 64 * PAGE)),
                rig.call(P.COMMIT, CommitArgs(f)),
            )
            assert {result.status for result in statuses} <= {NfsStat3.OK, NfsStat3.STALE}
            rig.check()
        await rig.server.stop()
        assert rig.server.cache.nr_file_pages == 0
        assert rig.server.cache.ledger.live("nfs_page") == 0
        rig.close()

    asyncio.run(story())


def test_concurrent_writers_and_truncation(tmp_path: Path) -> None:
    async def story() -> None:
        rig = Rig("directory", tmp_path, offload=True, memory_bytes=64 * PAGE)
        f = await rig.create(b"f")

        async def writer(number: int) -> None:
            for index in range(number, 120, 4):
                data = b"%d" % number * PAGE
                stable = StableHow.FILE_SYNC if index % 3 == 0 else StableHow.UNSTABLE
                await rig.write(f, index * PAGE, data, stable)

        async def truncater() -> None:
            for _ in range(10):
                await rig.call(P.SETATTR, SetattrArgs(f, Sattr3(size=1000)))
                await rig.read(f, 0, 30 * PAGE)

        await asyncio.gather(*(writer(number) for number in range(4)), truncater())
        await rig.call(P.SETATTR, SetattrArgs(f, Sattr3(size=0)))
        await asyncio.gather(*(writer(number) for number in range(4)))
        expected = b"".join(b"%d" % (index % 4) * PAGE for index in range(120))
        got = b"".join([await rig.read(f, index * PAGE, 8 * PAGE) for index in range(0, 120, 8)])
        assert got == expected
        await rig.call(P.COMMIT, CommitArgs(f))
        rig.check()
        await rig.server.stop()
        rig.close()

    asyncio.run(story())
    assert (tmp_path / "f").stat().st_size == 120 * PAGE


def test_many_inodes_are_forgotten_in_time(tmp_path: Path) -> None:
    async def story() -> None:
        rig = Rig("memory", tmp_path)
        rig.server.files._max_inodes = 10
        handles = [await rig.create(b"f%d" % number) for number in range(40)]
        for number, handle in enumerate(handles):
            await rig.write(handle, 0, b"%d" % number, StableHow.FILE_SYNC)
        assert len(rig.server.files._inodes) <= 11
        assert [await rig.read(handle) for handle in handles] == [b"%d" % number for number in range(40)]
        rig.check()

    asyncio.run(story())
