"""The small parts of nfsd: handles, locks, memory's books, exports, and the local task."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from freepage_proto.nfs3 import MkdirArgs, NfsStat3, NullArgs, RemoveArgs, Sattr3, StableHow, WriteArgs
from freepage_proto.nlm4 import LockArgs, NlmLock, NlmStat4, UnlockArgs
from freepage_proto.rpc import AuthSys, CallHeader, Procedure, RpcGarbageArgs
from freepage_server.nfsd.drc import ReplyCache
from freepage_server.nfsd.errors import NfsError, nfsstat3
from freepage_server.nfsd.export import NOBODY, Export
from freepage_server.nfsd.fair import FairMap
from freepage_server.nfsd.handles import HandleCodec, export_id
from freepage_server.nfsd.local import LocalTask
from freepage_server.nfsd.lockd import LockManager
from freepage_server.nfsd.memory import MemoryStorage
from freepage_server.nfsd.server import NfsServer
from nfsd_rig import EPOCH_NS, KINDS, ManualClock, Rig

# --- handles ---------------------------------------------------------------------------------------------------------


def test_handles_are_bound_to_secret_and_export() -> None:
    codec = HandleCodec(b"secret")
    a, b = export_id("/a"), export_id("/b")
    handle = codec.encode(a, b"inode")
    assert codec.decode(handle) == (a, b"inode")
    assert HandleCodec(b"secret").decode(handle) == (a, b"inode"), "the same after a restart"
    other = codec.encode(b, b"inode")
    for forged in (other[:9] + handle[9:], handle[:9] + other[9:], HandleCodec(b"guess").encode(a, b"inode")):
        with pytest.raises(NfsError) as refused:
            codec.decode(forged)
        assert refused.value.status is NfsStat3.BADHANDLE


@given(st.binary(max_size=80))
def test_no_bytes_are_a_handle_by_chance(junk: bytes) -> None:
    with pytest.raises(NfsError):
        HandleCodec(b"secret").decode(junk)


# --- exports ---------------------------------------------------------------------------------------------------------


def test_squashing() -> None:
    storage = MemoryStorage(lambda: EPOCH_NS)
    root, user = AuthSys(0, 0, (0, 5)), AuthSys(7, 8, (9,))
    assert Export("/e", storage).squashed(root) == root
    assert Export("/e", storage, squash="root").squashed(user) == user
    assert Export("/e", storage, squash="root").squashed(root) == AuthSys(NOBODY, NOBODY, (NOBODY, 5))
    assert Export("/e", storage, squash="all", anonuid=1, anongid=2).squashed(user) == AuthSys(1, 2, ())


@pytest.mark.parametrize("name", ["e", "", "/e/"])
def test_names_of_exports(name: str) -> None:
    with pytest.raises(ValueError, match="export"):
        Export(name, MemoryStorage(lambda: EPOCH_NS))


def test_errno_becomes_status() -> None:
    assert nfsstat3(OSError(errno.EDQUOT, "")) is NfsStat3.DQUOT
    assert nfsstat3(OSError(errno.EPROTO, "")) is NfsStat3.IO
    assert nfsstat3(OSError()) is NfsStat3.IO


# --- locks -----------------------------------------------------------------------------------------------------------


def lock(owner: bytes, offset: int, length: int, *, exclusive: bool = True, block: bool = False) -> LockArgs:
    return LockArgs(NlmLock(b"file", owner, 1, offset, length), exclusive, block)


def held(manager: LockManager) -> list[tuple[bytes, int, int, bool]]:
    return sorted((each.owner, each.start, each.end, each.exclusive) for each in manager.locks())


def test_shared_locks_share_and_exclusive_ones_do_not() -> None:
    manager = LockManager()
    assert manager.lock("A", lock(b"1", 0, 10, exclusive=False)).status is NlmStat4.GRANTED
    assert manager.lock("B", lock(b"1", 5, 10, exclusive=False)).status is NlmStat4.GRANTED
    assert manager.lock("B", lock(b"1", 9, 1)).status is NlmStat4.DENIED
    assert manager.lock("B", lock(b"1", 10, 0)).status is NlmStat4.GRANTED, "its own shared lock gives way"
    assert manager.lock("A", lock(b"1", 1 << 62, 1, block=True)).status is NlmStat4.BLOCKED


def test_unlocking_the_middle_leaves_both_ends() -> None:
    manager = LockManager()
    manager.lock("A", lock(b"1", 0, 100))
    manager.unlock("A", UnlockArgs(NlmLock(b"file", b"1", 1, 40, 20)))
    assert held(manager) == [(b"1", 0, 40, True), (b"1", 60, 100, True)]
    manager.lock("A", lock(b"1", 30, 40, exclusive=False))
    assert held(manager) == [(b"1", 0, 30, True), (b"1", 30, 70, False), (b"1", 70, 100, True)]


def test_ranges_beyond_the_last_byte() -> None:
    manager = LockManager()
    assert manager.lock("A", lock(b"1", 1 << 64, 1)).status is NlmStat4.FBIG
    assert manager.lock("A", lock(b"1", (1 << 64) - 1, 2)).status is NlmStat4.FBIG
    assert manager.lock("A", lock(b"1", (1 << 64) - 1, 1)).status is NlmStat4.GRANTED


RANGES = st.tuples(st.sampled_from("AB"), st.integers(0, 20), st.integers(1, 10), st.sampled_from(["r", "w", "u"]))


@given(st.lists(RANGES, max_size=30))
def test_locks_agree_with_a_table_of_bytes(steps: list[tuple[str, int, int, str]]) -> None:
    manager = LockManager()
    table: list[dict[str, str]] = [{} for _ in range(40)]
    for client, start, length, what in steps:
        part = table[start : start + length]
        if what == "u":
            manager.unlock(client, UnlockArgs(NlmLock(b"file", b"o", 1, start, length)))
            for byte in part:
                byte.pop(client, None)
            continue
        free = all(kind == what == "r" for byte in part for other, kind in byte.items() if other != client)
        got = manager.lock(client, lock(b"o", start, length, exclusive=what == "w")).status
        assert (got is NlmStat4.GRANTED) == free
        if free:
            for byte in part:
                byte[client] = what
    model = {(index, client, kind) for index, byte in enumerate(table) for client, kind in byte.items()}
    assert model == {
        (index, each.client, "w" if each.exclusive else "r")
        for each in manager.locks()
        for index in range(each.start, each.end)
    }


def test_a_restarted_client_has_lost_its_locks(tmp_path: Path) -> None:
    async def story() -> None:
        rig = Rig("memory", tmp_path)
        f = await rig.create(b"f")
        args = LockArgs(NlmLock(f, b"o", 1, 0, 0), exclusive=True)

        async def take(client: str, boot_instance: int) -> NlmStat4:
            header = CallHeader(client, boot_instance, 1, AuthSys())
            result = await rig.server.call(Procedure.NLM_LOCK, header, args)
            return result.status  # type: ignore[attr-defined, no-any-return]

        assert await take("A", 1) is NlmStat4.GRANTED
        assert await take("B", 1) is NlmStat4.DENIED
        assert await take("A", 2) is NlmStat4.GRANTED
        await rig.server.call(Procedure.NULL, CallHeader("A", 3, 1, AuthSys()), _null())
        assert await take("B", 1) is NlmStat4.GRANTED

    asyncio.run(story())


def _null() -> object:
    from freepage_proto.nfs3 import NullArgs

    return NullArgs()


# --- memory ----------------------------------------------------------------------------------------------------------


def test_memory_keeps_its_books() -> None:
    async def story() -> None:
        storage = MemoryStorage(lambda: EPOCH_NS, capacity_bytes=10 * 4096)
        f = storage.create(storage.root(), b"f", 0o644, 0, 0)
        storage.reserve(f, 0, 5 * 4096)
        assert storage.statfs().free_bytes == 5 * 4096
        await storage.write(f, 0, b"x" * 5 * 4096)
        assert storage.statfs().free_bytes == 5 * 4096, "what was reserved is used, not charged again"
        with pytest.raises(OSError, match="No space"):
            storage.reserve(f, 5 * 4096, 5 * 4096 + 1)
        await storage.truncate(f, 4097)
        assert storage.statfs().free_bytes == 8 * 4096
        assert b"".join(await storage.readv(f, 4000, [10_000])) == b"x" * 97
        await storage.truncate(f, 3 * 4096)
        assert b"".join(await storage.readv(f, 4096, [4096])) == b"x" + bytes(4095)
        storage.unlink(storage.root(), b"f")
        assert storage.statfs().free_bytes == 10 * 4096
        with pytest.raises(OSError, match="tale"):
            storage.getattr(f)

    asyncio.run(story())


# --- the local task --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_local_task_is_a_process(kind: str, tmp_path: Path) -> None:
    async def story() -> None:
        rig = Rig(kind, tmp_path)
        task = rig.task

        async def fails(number: int, attempt: object) -> None:
            with pytest.raises(OSError) as failure:
                await attempt  # type: ignore[misc]
            assert failure.value.errno == number, failure.value

        await task.mkdir("d")
        await task.symlink("d", "link")
        fd = await task.open("/link/f", os.O_RDWR | os.O_CREAT)
        assert await task.write(fd, b"hello world") == 11
        assert await task.lseek(fd, 6, os.SEEK_SET) == 6
        assert await task.read(fd, 100) == b"world"
        assert await task.read(fd, 100) == b""
        assert await task.pread(fd, 5, 0) == b"hello"
        await task.ftruncate(fd, 5)
        assert (await task.fstat(fd)).st_size == 5
        await task.fsync(fd)
        other = await task.open("d/f", os.O_WRONLY | os.O_APPEND)
        await task.write(other, b"!")
        await fails(errno.EBADF, task.read(other, 1))
        assert await task.pread(fd, 10, 0) == b"hello!"
        await fails(errno.EBADF, task.copy_file_range(fd, other, 5, 0, 0))  # it does not append
        await fails(errno.EINVAL, task.ftruncate(await task.open("d/f", os.O_RDONLY), 0))
        assert await task.pwrite(other, b"hello", 0) == 5
        assert await task.pread(fd, 20, 0) == b"hello!hello", "O_APPEND wins over the offset"
        assert await task.copy_file_range(fd, fd, 5, 0, 11) == 5
        assert await task.pread(fd, 20, 0) == b"hello!hellohello"
        await task.flock(fd, 2)
        await fails(errno.EAGAIN, task.flock(other, 2 | 4))
        await task.close(fd)
        await task.flock(other, 2 | 4)
        await task.exit()
        await fails(errno.EBADF, task.read(fd, 1))

        assert await task.readlink("link") == b"d"
        assert (await task.lstat("link")).st_mode >> 12 == 0o12
        assert (await task.stat("link")).st_mode >> 12 == 0o4
        assert sorted(await task.listdir("/")) == [b"d", b"link"]
        await task.rename("d/f", "g")
        await task.link("g", "d/h")
        assert (await task.stat("d/../g")).st_nlink == 2
        await task.chmod("g", 0o4755)
        await task.utimens("g", 1_000_000_000, 2_000_000_000)
        assert (await task.stat("g")).st_mtime_ns == 2_000_000_000
        await task.truncate("g", 2)
        assert (await task.stat("d/h")).st_size == 2
        await task.access("g", os.R_OK)
        assert (await task.statfs("g")).f_namemax == 255
        await fails(errno.ENOENT, task.stat("nothing"))
        await fails(errno.ENOTDIR, task.stat("g/x"))
        await fails(errno.ENOTDIR, task.stat("g/"))
        await fails(errno.EEXIST, task.open("g", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        await fails(errno.EISDIR, task.open("d", os.O_WRONLY))
        await fails(errno.ENOTEMPTY, task.rmdir("d"))
        await fails(errno.EISDIR, task.unlink("d"))
        await fails(errno.EPERM, task.link("d", "e"))
        await task.symlink("loop", "loop")
        await fails(errno.ELOOP, task.stat("loop"))
        await task.symlink("/../..", "up")
        assert (await task.stat("up")).st_ino == (await task.stat("/")).st_ino, "the root is its own parent"
        await task.unlink("d/h")
        await task.rmdir("d")
        rig.check()
        await rig.server.stop()
        rig.close()

    asyncio.run(story())


@pytest.mark.parametrize("kind", KINDS)
def test_local_task_allocates_and_punches(kind: str, tmp_path: Path) -> None:
    async def story() -> None:
        rig = Rig(kind, tmp_path)
        fd = await rig.task.open("f", os.O_RDWR | os.O_CREAT)
        await rig.task.fallocate(fd, 0, 0, 10_000)
        assert (await rig.task.fstat(fd)).st_size == 10_000
        await rig.task.fallocate(fd, 1, 0, 20_000)
        assert (await rig.task.fstat(fd)).st_size == 10_000
        await rig.task.pwrite(fd, b"x" * 10_000, 0)
        await rig.task.fallocate(fd, 3, 100, 50)
        assert await rig.task.pread(fd, 200, 0) == b"x" * 100 + bytes(50) + b"x" * 50
        await rig.task.exit()
        rig.close()

    asyncio.run(story())


def test_local_task_needs_an_export() -> None:
    clock = ManualClock()
    server = NfsServer([], clock=clock, wall_ns=clock.wall_ns)
    with pytest.raises(ValueError, match="/export"):
        LocalTask(server)


def test_a_late_call_of_an_earlier_life_takes_no_lock(tmp_path: Path) -> None:
    async def story() -> None:
        rig = Rig("memory", tmp_path)
        f = await rig.create(b"f")

        async def call(procedure: Procedure, args: object, boot: int, client: str = "A") -> NlmStat4:
            result = await rig.server.call(procedure, CallHeader(client, boot, next(rig.xids), AuthSys()), args)
            status: NlmStat4 = result.status  # type: ignore[attr-defined]
            return status

        lock = NlmLock(f, b"owner", 0, 0, 0)
        assert await call(Procedure.NLM_LOCK, LockArgs(lock, True), boot=1) is NlmStat4.GRANTED
        await rig.server.call(Procedure.NLM_NULL, CallHeader("A", 2, next(rig.xids), AuthSys()), NullArgs())
        assert not list(rig.server.locks.locks())
        assert await call(Procedure.NLM_LOCK, LockArgs(lock, True), boot=1) is NlmStat4.DENIED_NOLOCKS
        assert await call(Procedure.NLM_LOCK, LockArgs(lock, True), boot=2) is NlmStat4.GRANTED
        assert await call(Procedure.NLM_UNLOCK, UnlockArgs(lock), boot=1) is NlmStat4.GRANTED
        assert await call(Procedure.NLM_LOCK, LockArgs(lock, True), boot=1, client="B") is NlmStat4.DENIED
        assert len(list(rig.server.locks.locks())) == 1, "the new life's lock is still there"

    asyncio.run(story())


# --- the duplicate request cache -------------------------------------------------------------------------------------


def test_a_call_that_comes_twice_is_executed_once(tmp_path: Path) -> None:
    async def story() -> None:
        rig = Rig("memory", tmp_path)
        await rig.create(b"f")
        header = CallHeader("A", 1, 4711, AuthSys())
        args = RemoveArgs(rig.root, b"f")
        first = await rig.server.call(Procedure.REMOVE, header, args)
        assert await rig.server.call(Procedure.REMOVE, header, args) is first
        assert rig.server.replies.hits == 1
        again = await rig.server.call(Procedure.REMOVE, CallHeader("B", 1, 4711, AuthSys()), args)
        assert again.status is NfsStat3.NOENT  # type: ignore[attr-defined]
        rig.clock.seconds += 121
        late = await rig.server.call(Procedure.REMOVE, header, args)
        assert late.status is NfsStat3.NOENT  # type: ignore[attr-defined]

    asyncio.run(story())


def test_a_duplicate_of_a_call_under_way_waits_for_its_reply(tmp_path: Path) -> None:
    async def story() -> None:
        rig = Rig("directory", tmp_path, offload=True)
        f = await rig.create(b"f")
        header = CallHeader("A", 1, 4711, AuthSys())
        args = WriteArgs(f, 0, 4, StableHow.FILE_SYNC, b"data")
        replies = await asyncio.gather(*(rig.server.call(Procedure.WRITE, header, args) for _ in range(5)))
        assert all(reply is replies[0] for reply in replies)
        assert rig.server.stats.storage_writes == 1
        rig.close()

    asyncio.run(story())


ARGS = RemoveArgs(b"directory", b"name")


def test_the_reply_cache_is_bounded_and_forgets_failures() -> None:
    async def story() -> None:
        cache = ReplyCache(lambda: 0.0, max_entries=10)

        async def answer() -> object:
            return "reply"

        async def fail() -> object:
            raise RpcGarbageArgs("no")

        for xid in range(100):
            await cache.once(Procedure.REMOVE, CallHeader("A", 1, xid, AuthSys()), ARGS, answer)
        assert len(cache) == 10
        with pytest.raises(RpcGarbageArgs):
            await cache.once(Procedure.REMOVE, CallHeader("A", 1, 1000, AuthSys()), ARGS, fail)
        assert await cache.once(Procedure.REMOVE, CallHeader("A", 1, 1000, AuthSys()), ARGS, answer) == "reply"
        assert (cache.hits, cache.misses) == (0, 102)

    asyncio.run(story())


def test_no_client_pushes_another_ones_replies_out() -> None:
    async def story() -> None:
        cache = ReplyCache(lambda: 0.0, max_entries=12)

        async def ask(client: str, xid: int) -> object:
            async def answer() -> object:
                return client, xid

            return await cache.once(Procedure.REMOVE, CallHeader(client, 1, xid, AuthSys()), ARGS, answer)

        for client in "AB":
            for xid in range(4):
                await ask(client, xid)
        for xid in range(1000):
            await ask("greedy", xid)
        assert len(cache) == 12
        misses = cache.misses
        for client in "AB":
            for xid in range(4):
                assert await ask(client, xid) == (client, xid)
        assert (cache.hits, cache.misses) == (8, misses)
        for xid in range(5):
            await ask("C", xid)
        assert [await ask(client, 0) for client in "AB"] and cache.misses == misses + 5 + 2, (
            "four are too many for A now"
        )

    asyncio.run(story())


class FairMapMachine(RuleBasedStateMachine):
    """A `FairMap` against what its first sentence says, spelled out."""

    ROOM = 7

    def __init__(self) -> None:
        super().__init__()
        self.map: FairMap[str, int, int] = FairMap(self.ROOM)
        self.entries: list[tuple[int, str, int]] = []
        """key, owner, value; what was put first comes first"""
        self.values = itertools.count()

    @rule(owner=st.sampled_from("ABCD"), key=st.integers(0, 20))
    def put(self, owner: str, key: int) -> None:
        value = next(self.values)
        self.map.put(owner, key, value)
        self.entries = [entry for entry in self.entries if entry[0] != key] + [(key, owner, value)]
        if len(self.entries) > self.ROOM:
            counts = Counter(owner for _, owner, _ in self.entries)
            (gone,) = {entry[0] for entry in self.entries} - {key for key in range(21) if self.map.get(key) is not None}
            victim = next(entry for entry in self.entries if entry[0] == gone)
            assert counts[victim[1]] == max(counts.values())
            assert victim == next(entry for entry in self.entries if entry[1] == victim[1])
            self.entries.remove(victim)

    @rule(key=st.integers(0, 20))
    def pop(self, key: int) -> None:
        self.map.pop(key)
        self.entries = [entry for entry in self.entries if entry[0] != key]

    @invariant()
    def agrees(self) -> None:
        assert len(self.map) == len(self.entries)
        assert {key: self.map.get(key) for key, _, _ in self.entries} == {key: value for key, _, value in self.entries}
        assert self.map.oldest() == (next(((key, value) for key, _, value in self.entries), None))
        counts = Counter(owner for _, owner, _ in self.entries)
        assert {owner: self.map.count(owner) for owner in "ABCD"} == {owner: counts[owner] for owner in "ABCD"}


TestFairMap = FairMapMachine.TestCase
TestFairMap.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)


def test_an_xid_with_other_arguments_is_another_call(tmp_path: Path) -> None:
    """As when a client that counts its xids from the same seed comes back under the same boot instance."""

    async def story() -> None:
        rig = Rig("memory", tmp_path)
        f = await rig.create(b"f")
        header = CallHeader("A", 1, 4711, AuthSys(uid=os.geteuid()))
        calls = [
            (Procedure.MKDIR, MkdirArgs(rig.root, b"d", Sattr3(mode=0o755))),
            (Procedure.MKDIR, MkdirArgs(rig.root, b"e", Sattr3(mode=0o755))),
            (Procedure.REMOVE, RemoveArgs(rig.root, b"nothing")),
            (Procedure.WRITE, WriteArgs(f, 0, 4, StableHow.UNSTABLE, b"abcd")),
            (Procedure.WRITE, WriteArgs(f, 4, 4, StableHow.UNSTABLE, b"abcd")),
            (Procedure.WRITE, WriteArgs(f, 0, 4, StableHow.UNSTABLE, memoryview(b"ABcd"))),
        ]
        for procedure, args in calls:
            reply = await rig.server.call(procedure, header, args)
            assert await rig.server.call(procedure, header, args) is reply, "and the last is remembered"
        assert await rig.read(f) == b"ABcdabcd"
        replies = rig.server.replies
        assert (replies.hits, replies.payload_misses) == (len(calls), len(calls) - 1)

    asyncio.run(story())


def test_a_call_that_hangs_does_not_let_the_reply_cache_grow() -> None:
    async def story() -> None:
        now = 0.0
        cache = ReplyCache(lambda: now, max_entries=10)
        gate: asyncio.Future[object] = asyncio.get_running_loop().create_future()

        async def hang() -> object:
            return await gate

        async def answer() -> object:
            return "reply"

        first = CallHeader("A", 1, 0, AuthSys())
        hanging = asyncio.ensure_future(cache.once(Procedure.REMOVE, first, ARGS, hang))
        await asyncio.sleep(0)
        for xid in range(1, 1000):
            await cache.once(Procedure.REMOVE, CallHeader("A", 1, xid, AuthSys()), ARGS, answer)
        assert len(cache) == 11
        duplicate = asyncio.ensure_future(cache.once(Procedure.REMOVE, first, ARGS, answer))
        await asyncio.sleep(0)
        now = 1000.0
        gate.set_result("late")
        assert (await hanging, await duplicate) == ("late", "late")
        assert await cache.once(Procedure.REMOVE, first, ARGS, answer) == "late", "kept from the reply on"
        now += 121
        assert await cache.once(Procedure.REMOVE, first, ARGS, answer) == "reply"
        for xid in range(2000, 2010):
            await cache.once(Procedure.REMOVE, CallHeader("A", 1, xid, AuthSys()), ARGS, answer)
        assert len(cache) <= 10

    asyncio.run(story())
