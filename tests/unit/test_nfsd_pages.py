"""The server's own page cache: what a read costs, whose pages they are, and what others did to the file meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

from freepage import ObjectState, RemovalPath, lru_add_drain
from freepage_proto.nfs3 import (
    FileHandle,
    GetattrArgs,
    NfsStat3,
    ReadArgs,
    ReadRes,
    RemoveArgs,
    Sattr3,
    SetattrArgs,
    StableHow,
)
from freepage_proto.rpc import AuthSys, CallHeader, Procedure
from freepage_server.io import beneath, directory, filedata, listing, node, nodes
from nfsd_rig import KINDS, ME, Rig

P = Procedure
PAGE = 4096


class CountedOs(ModuleType):
    """`os` with every function that enters the kernel counted by name."""

    PURE = frozenset({"fspath", "fsencode", "fsdecode", "strerror", "makedev", "major", "minor"})

    def __init__(self, counts: Counter[str]) -> None:
        super().__init__("os")
        self.__counts = counts

    def __getattr__(self, name: str) -> object:
        real = getattr(os, name)
        if not callable(real) or isinstance(real, type) or name in self.PURE:
            return real

        def counted(*arguments: object, **named: object) -> object:
            self.__counts[name] += 1
            return real(*arguments, **named)

        return counted


@contextmanager
def system_calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """What the directory's storage asks of the kernel during the block: through os, libc and openat2."""
    counts: Counter[str] = Counter()

    def counting(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def counted(*arguments: object) -> object:
            counts[name] += 1
            return real(*arguments)

        return counted

    with monkeypatch.context() as patch:
        for module in (node, nodes, filedata, listing, directory):
            patch.setattr(module, "os", CountedOs(counts))
        patch.setattr(nodes, "look", counting("openat2", beneath.look))
        patch.setattr(node, "_birth_time_ns", counting("statx", node._birth_time_ns))
        patch.setattr(node, "_version", counting("FS_IOC_GETVERSION", node._version))
        yield counts


def test_a_cached_read_costs_one_fstat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f").write_bytes(b"x" * 64 * PAGE)
    os.utime(tmp_path / "f", ns=(1, 1))

    async def story() -> None:
        rig = Rig("directory", tmp_path)
        f = await rig.lookup(rig.root, b"f")
        await asyncio.sleep(0.02)  # what is read in the tick of a change is read again
        await rig.read(f)
        for offset, count in ((0, 1), (0, 64 * PAGE), (5, 1000), (63 * PAGE, 10 * PAGE), (64 * PAGE, 1)):
            with system_calls(monkeypatch) as counts:
                result = await rig.call(P.READ, ReadArgs(f, offset, count))
            assert result.status is NfsStat3.OK
            assert counts == {"fstat": 1}, (offset, count)
        with system_calls(monkeypatch) as counts:
            await rig.call(P.GETATTR, GetattrArgs(f))
        assert counts == {"fstat": 1}
        rig.check()
        rig.close()

    asyncio.run(story())


def test_misses_are_read_in_large_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file read in pieces of 64 KiB comes from the disk a mebibyte at a time, in its pieces, ahead of its reader."""
    size = 8 << 20
    (tmp_path / "f").write_bytes(os.urandom(PAGE) * (size // PAGE))
    os.utime(tmp_path / "f", ns=(1, 1))

    async def story() -> None:
        rig = Rig("directory", tmp_path)
        f = await rig.lookup(rig.root, b"f")
        await asyncio.sleep(0.02)  # what is read in the tick of a change is read again
        with system_calls(monkeypatch) as counts:
            for offset in range(0, size, 1 << 16):
                assert len(await rig.read(f, offset, 1 << 16)) == 1 << 16
        await rig.server.files.quiesce()
        assert counts["pread"] == size >> 16
        assert rig.server.stats.storage_reads <= 16
        assert rig.server.stats.storage_read_bytes == size
        with system_calls(monkeypatch) as counts:
            await rig.call(P.READ, ReadArgs(f, 0, 1 << 20))
        assert not counts["pread"]
        rig.check()
        rig.close()

    asyncio.run(story())


@pytest.mark.parametrize("when", ["at once", "after a while"])
@pytest.mark.parametrize("how", ["in place", "with another's time", "cut and written anew", "by rename"])
def test_what_another_program_does_is_seen_by_the_next_call(how: str, when: str, tmp_path: Path) -> None:
    """Its data too, whether its timestamp differs from the last one or not."""
    path = tmp_path / "f"

    async def story() -> None:
        rig = Rig("directory", tmp_path)
        path.write_bytes(b"0" * 3 * PAGE)
        f = await rig.lookup(rig.root, b"f")
        for step in range(1, 30):
            before = path.stat()
            assert await rig.read(f) == path.read_bytes()
            new = (b"%d" % (step % 10)) * 3 * PAGE
            if how == "cut and written anew":
                path.write_bytes(new[: step * 400])
            elif how == "by rename":
                (tmp_path / "new").write_bytes(new)
                (tmp_path / "new").rename(path)
                f = await rig.lookup(rig.root, b"f")
            else:
                with path.open("r+b") as file:
                    file.write(new)
                if how == "with another's time":
                    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
            if when == "after a while":
                await asyncio.sleep(0.011)
            assert (await rig.getattr(f)).size == path.stat().st_size
            assert await rig.read(f) == path.read_bytes(), step
        rig.check()
        rig.close()

    asyncio.run(story())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["REMOVE", "RENAME over it", "another program"])
def test_orphans_keep_the_name_of_a_file_that_is_gone(kind: str, how: str, tmp_path: Path) -> None:
    """The hook is skipped while the file's pages leave with its inode: the audit still says whose they were."""

    async def story() -> None:
        rig = Rig(kind, tmp_path)
        cache = rig.server.cache
        d = await rig.mkdir(b"d")
        f = await rig.create(b"f", d)
        await rig.write(f, 0, b"x" * 4 * PAGE, StableHow.FILE_SYNC)
        cache.policy.set(RemovalPath.EVICT, "skip")
        if how == "REMOVE":
            assert (await rig.call(P.REMOVE, RemoveArgs(d, b"f"))).status is NfsStat3.OK
        elif how == "RENAME over it":
            await rig.create(b"g")
            await rig.task.rename("g", "d/f")
        elif kind == "directory":
            (tmp_path / "d" / "f").unlink()
        else:
            rig.storage.unlink(rig.storage.lookup(rig.storage.root(), b"d"), b"f")
        assert (await rig.call(P.GETATTR, GetattrArgs(f))).status is NfsStat3.STALE
        assert cache.ledger.live("nfs_page", ObjectState.ORPHANED, "fill") == 4
        report = cache.ledger.audit(rig.server.roots_in_use(), cache.mappings)
        assert report.agrees
        assert "/export/d/f" in report.render()
        assert "(stale)" not in report.render()
        rig.close()

    asyncio.run(story())


def test_pages_belong_to_whoever_brought_them(tmp_path: Path) -> None:
    """Readers of different users share pages; each page's request holds the credential of the first."""
    (tmp_path / "f").write_bytes(b"x" * 8 * PAGE)
    (tmp_path / "f").chmod(0o644)
    other = AuthSys(ME.uid + 1, ME.gid + 1, (), "other")

    async def story() -> None:
        rig = Rig("directory", tmp_path)
        rig.server.files.bdi.ra_pages = 0
        f = await rig.lookup(rig.root, b"f")
        ledger = rig.server.cache.ledger
        await asyncio.sleep(0.02)  # what is read in the tick of a change is read again
        await rig.call(P.READ, ReadArgs(f, 0, 2 * PAGE), ME)
        await rig.call(P.READ, ReadArgs(f, 0, 8 * PAGE), other)
        await rig.call(P.READ, ReadArgs(f, 0, 8 * PAGE), ME)
        assert ledger.live("nfs_page", ObjectState.CACHED, "fill") == 8
        assert ledger.live("rpc_cred", ObjectState.CACHED) == 2
        rig.check()
        lru_add_drain(rig.server.cache.memcg)  # the batch of new pages holds them
        await rig.server.drop_caches(1)
        assert ledger.live("nfs_page") == ledger.live("rpc_cred") == 0
        rig.close()

    asyncio.run(story())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["REMOVE", "RENAME over it", "the program itself"])
def test_a_local_program_goes_on_with_a_file_that_was_removed(kind: str, how: str, tmp_path: Path) -> None:
    """As any program's descriptor does; and as long as it is open, handles of the file are good (Linux: icache)."""

    async def story() -> None:
        rig = Rig(kind, tmp_path)
        f = await rig.create(b"f")
        await rig.write(f, 0, b"before", StableHow.FILE_SYNC)
        number = (await rig.getattr(f)).fileid
        fd = await rig.task.open("f", os.O_RDWR)
        again = await rig.task.open("f", os.O_RDONLY)
        if how == "REMOVE":
            assert (await rig.call(P.REMOVE, RemoveArgs(rig.root, b"f"))).status is NfsStat3.OK
        elif how == "RENAME over it":
            await rig.create(b"g")
            await rig.task.rename("g", "f")
        else:
            await rig.task.unlink("f")
        assert await rig.task.pread(fd, 100, 0) == b"before"
        await rig.task.pwrite(fd, b"after ", 0)
        await rig.task.ftruncate(fd, 5)
        await rig.task.fsync(fd)
        st = await rig.task.fstat(fd)
        assert (st.st_size, st.st_nlink, st.st_ino) == (5, 0, number)
        await rig.task.close(fd)
        assert await rig.task.pread(again, 100, 0) == b"after"
        assert await rig.read(f) == b"after"
        new = await rig.create(b"new")
        assert (await rig.getattr(new)).fileid != number, "its number is not free yet"
        await rig.task.close(again)
        assert (await rig.call(P.GETATTR, GetattrArgs(f))).status is NfsStat3.STALE
        assert rig.server.cache.nr_file_pages == 0
        rig.check()
        await rig.server.stop()
        rig.close()

    asyncio.run(story())


@pytest.mark.parametrize("kind", KINDS)
def test_a_read_that_need_not_wait_is_answered_as_every_call_is(kind: str, tmp_path: Path) -> None:
    """`Reader.read_nowait` is `call` for what is cached and allowed, and None for everything else."""

    async def story() -> None:
        rig = Rig(kind, tmp_path, export={"max_read": 16 * PAGE})
        f = await rig.create(b"f", mode=0o640)
        await rig.write(f, 0, bytes(range(256)) * 16 * 40 + b"tail")
        await rig.server.sync()
        stats = rig.server.stats.by_procedure[P.READ]
        xids = itertools.count(1000)

        async def both(
            handle: FileHandle, offset: int, count: int, cred: AuthSys = ME
        ) -> tuple[ReadRes | None, ReadRes]:
            args, before = ReadArgs(handle, offset, count), stats.calls
            header = CallHeader("A", 1, next(xids), cred)
            at_once = rig.read_nowait(header, args)
            assert stats.calls == before + (at_once is not None)
            called = await rig.server.call(P.READ, header, args)
            assert isinstance(called, ReadRes)
            return at_once, called

        ranges = [
            (0, PAGE),
            (0, 64 * PAGE),
            (100, 5 * PAGE),
            (39 * PAGE + 7, 2 * PAGE),
            (40 * PAGE + 4, 1),
            (1 << 62, 9),
        ]
        for offset, count in ranges:
            at_once, called = await both(f, offset, count)
            assert at_once == called, (offset, count)
            assert called.status is NfsStat3.OK
        await rig.write(f, 10, b"unwritten")
        at_once, called = await both(f, 0, 3 * PAGE)
        assert at_once == called
        assert bytes(called.data[10:19]) == b"unwritten"
        await rig.server.sync()

        stranger = AuthSys(4242, 4242, (), "stranger")
        refused = [(rig.root, ME), (f[:-1] + bytes((f[-1] ^ 1,)), ME), (f, stranger)]
        for handle, cred in refused:
            at_once, called = await both(handle, 0, PAGE, cred)
            assert at_once is None
            assert called.status is not NfsStat3.OK
        await rig.server.drop_caches()
        at_once, called = await both(f, 0, PAGE)
        assert at_once is None
        assert called.status is NfsStat3.OK
        rig.check()
        rig.close()

    asyncio.run(story())


@pytest.mark.parametrize("kind", KINDS)
def test_a_reader_who_is_known_is_still_held_to_what_changed_since(kind: str, tmp_path: Path) -> None:
    async def story() -> None:
        rig = Rig(kind, tmp_path)
        reader = AuthSys(4242, 4242, (), "reader")
        f = await rig.create(b"f", mode=0o644)
        await rig.write(f, 0, b"x" * 3 * PAGE)
        await rig.server.sync()

        async def both(offset: int, count: int) -> tuple[ReadRes | None, ReadRes]:
            header, args = CallHeader("A", 1, next(rig.xids), reader), ReadArgs(f, offset, count)
            at_once = rig.read_nowait(header, args)
            called = await rig.server.call(P.READ, header, args)
            assert isinstance(called, ReadRes)
            return at_once, called

        at_once, called = await both(0, 3 * PAGE)
        assert at_once == called
        assert called.count == 3 * PAGE

        await rig.call(P.SETATTR, SetattrArgs(f, Sattr3(mode=0o600)))
        at_once, called = await both(0, PAGE)
        assert at_once is None
        assert called.status is NfsStat3.ACCES
        await rig.call(P.SETATTR, SetattrArgs(f, Sattr3(mode=0o644)))
        at_once, called = await both(0, PAGE)
        assert at_once == called
        assert called.status is NfsStat3.OK

        lru_add_drain(rig.server.cache.memcg)
        await rig.server.drop_caches(3)  # the inode goes with its pages, and another comes in its place
        at_once, called = await both(4 * PAGE, PAGE)
        assert at_once is None
        assert (called.count, called.eof) == (0, True)
        await both(0, PAGE)
        at_once, called = await both(0, PAGE)
        assert called.count == PAGE
        if kind == "memory":  # a real file has just changed: what its pages were filled with may not be the last word
            assert at_once == called
        rig.check()
        rig.close()

    asyncio.run(story())


def test_the_file_that_is_read_is_not_the_one_forgotten(tmp_path: Path) -> None:
    async def story() -> None:
        rig = Rig("memory", tmp_path)
        rig.server.files._max_inodes = 2
        a, b = await rig.create(b"a"), await rig.create(b"b")
        for handle in (a, b):
            await rig.write(handle, 0, bytes(PAGE))
        await rig.server.sync()
        assert rig.read_nowait(CallHeader("A", 1, next(rig.xids), ME), ReadArgs(a, 0, PAGE)) is not None
        await rig.write(await rig.create(b"c"), 0, bytes(PAGE))
        left = [rig.read_nowait(CallHeader("A", 1, next(rig.xids), ME), ReadArgs(h, 0, PAGE)) for h in (a, b)]
        assert [result is not None for result in left] == [True, False]
        rig.close()

    asyncio.run(story())
