"""Listing a directory while it changes: what was there throughout is listed once, in a hundred thousand names too."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from freepage_proto.nfs3 import NfsStat3, ReaddirArgs, ReaddirplusArgs, ReaddirRes
from freepage_proto.rpc import Procedure
from freepage_server.io import listing as listings
from freepage_server.io.directory import DirectoryStorage
from freepage_server.nfsd.memory import MemoryStorage
from freepage_server.nfsd.readdir import PLUS_AT_ONCE
from nfsd_rig import KINDS, Rig

P = Procedure
MANY = 100_000


@pytest.fixture
def quick_directory(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory where there is one: making a hundred thousand files on a disk is not the point here."""
    shm = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(prefix="freepage-readdir-", dir=shm if os.access(shm, os.W_OK) else tmp_path))
    yield path
    shutil.rmtree(path)


class Names:
    """Names made and removed by somebody else: past the server in a directory, in the storage where it is memory."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self._fd = (
            os.open(rig.path, os.O_RDONLY | os.O_DIRECTORY) if isinstance(rig.storage, DirectoryStorage) else None
        )

    def make(self, name: bytes) -> None:
        if self._fd is not None:
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, dir_fd=self._fd))
        else:
            self.rig.storage.create(self.rig.storage.root(), name, 0o644, 0, 0)

    def remove(self, name: bytes) -> None:
        if self._fd is not None:
            os.unlink(name, dir_fd=self._fd)
        else:
            self.rig.storage.unlink(self.rig.storage.root(), name)

    def rename(self, name: bytes, new: bytes) -> None:
        if self._fd is not None:
            os.rename(name, new, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        else:
            root = self.rig.storage.root()
            self.rig.storage.rename(root, name, root, new)

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)


async def replies(rig: Rig, count: int, *, plus: bool = False) -> list[ReaddirRes]:
    return [reply async for reply in listing(rig, count, plus=plus)]


async def listing(rig: Rig, count: int, *, plus: bool = False):  # type: ignore[no-untyped-def]  # an async iterator
    cookie, eof = 0, False
    while not eof:
        if plus:
            result = await rig.call(P.READDIRPLUS, ReaddirplusArgs(rig.root, cookie, bytes(8), count, count))
        else:
            result = await rig.call(P.READDIR, ReaddirArgs(rig.root, cookie, bytes(8), count))
        assert result.status is NfsStat3.OK
        assert result.cookieverf == bytes(8), "cookies never go bad, so the verifier never changes"
        assert result.entries or result.eof
        yield result
        cookie, eof = (result.entries[-1].cookie if result.entries else cookie), result.eof


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("plus", [False, True])
@pytest.mark.parametrize("serves_s", [0.0, 60.0])
def test_what_is_there_throughout_is_listed_once(
    kind: str, plus: bool, serves_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With names of a moment ago (60 s) and with those of now (0 s), while others come, go and are renamed."""
    monkeypatch.setattr(listings, "LONG_DIRECTORY", 100)
    monkeypatch.setattr(listings, "LISTING_SERVES_S", serves_s)
    monkeypatch.setattr(listings, "AT_ONCE", 50)
    chance = random.Random(f"{kind} {plus} {serves_s}")

    async def story() -> None:
        rig = Rig(kind, tmp_path)
        names = Names(rig)
        stay = [b"stay-%d" % number for number in range(300)]
        come_and_go = [b"go-%d" % number for number in range(100)]
        for name in chance.sample(stay + come_and_go, 400):
            names.make(name)
        there = set(come_and_go)
        for _ in range(4):
            seen: Counter[bytes] = Counter()
            async for reply in listing(rig, 2048, plus=plus):
                seen.update(entry.name for entry in reply.entries)
                for _ in range(5):
                    name = chance.choice(come_and_go)
                    if name not in there:
                        names.make(name)
                        there.add(name)
                    elif chance.random() < 0.5 and (free := set(come_and_go) - there):
                        new = chance.choice(sorted(free))
                        names.rename(name, new)
                        there = there - {name} | {new}
                    else:
                        names.remove(name)
                        there.remove(name)
            assert [name for name in (b".", b"..", *stay) if seen[name] != 1] == []
            assert set(seen) <= {b".", b"..", *stay, *come_and_go}
            assert max(seen.values()) == 1 or kind == "memory", "memory gives a name that comes back a new cookie"
        seen = Counter(entry.name for reply in await replies(rig, 4096) for entry in reply.entries)
        assert seen == Counter([b".", b"..", *stay, *there]), "a listing that begins now shows what is there now"
        names.close()
        rig.check()
        rig.close()

    asyncio.run(story())


def test_our_own_changes_show_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listings, "LISTING_SETTLES_NS", -(1 << 62))  # as if the directory had been quiet for long

    async def story() -> None:
        rig = Rig("directory", tmp_path)
        for name in (b"a", b"b", b"c"):
            await rig.create(name)
            (reply,) = await replies(rig, 4096)
            assert name in {entry.name for entry in reply.entries}
        rig.close()

    asyncio.run(story())


@pytest.mark.parametrize("kind", KINDS)
def test_a_hundred_thousand_names(kind: str, quick_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While names come and go: each once, few looks at the directory, and some 100 bytes of memory a name."""
    looks = Counter[str]()
    scan = listings.names_in

    def counted(fd: int) -> object:
        looks["scan"] += 1
        return scan(fd)

    monkeypatch.setattr(listings, "names_in", counted)

    async def story() -> None:
        rig = Rig(kind, quick_directory)
        names = Names(rig)
        stay = [b"%06d" % number for number in range(MANY)]
        for name in stay:
            names.make(name)
        for count, plus in ((32768, False), (1 << 20, True))[: 2 if kind == "memory" else 1]:
            looks.clear()
            seen: set[bytes] = set()
            total = calls = 0
            async for reply in listing(rig, count, plus=plus):
                seen.update(entry.name for entry in reply.entries)
                total += sum(len(entry.name) == 6 for entry in reply.entries)
                calls += 1
                names.make(b"come-%d-%d" % (count, calls))
                if calls > 1:
                    names.remove(b"come-%d-%d" % (count, calls - 1))
            assert total == MANY
            assert seen.issuperset(stay)
            assert calls > 10
            if kind == "directory":
                assert 1 <= looks["scan"] <= calls / 2, "not once for every reply"
        if isinstance(rig.storage, DirectoryStorage):
            (kept,) = rig.storage._listings
            assert len(kept) >= MANY
            size = sum(map(sys.getsizeof, (kept.cookies, kept.inos, kept.names, *kept.names)))
            assert size < 100 * len(kept)
        else:
            assert isinstance(rig.storage, MemoryStorage)
        names.close()
        rig.close()

    asyncio.run(story())


def test_long_listings_are_not_all_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listings, "MAX_LISTED", 25)

    async def story() -> None:
        rig = Rig("directory", tmp_path)
        assert isinstance(rig.storage, DirectoryStorage)
        for number in range(4):
            parent = await rig.mkdir(b"d%d" % number)
            for name in range(10):
                await rig.create(b"f%d" % name, parent)
            await rig.call(P.READDIR, ReaddirArgs(parent, 0, bytes(8), 4096))
        assert sum(map(len, rig.storage._listings)) == 20
        monkeypatch.setattr(listings, "MAX_LISTED", 5)
        await rig.call(P.READDIR, ReaddirArgs(rig.root, 0, bytes(8), 4096))
        assert [len(kept) for kept in rig.storage._listings] == [4], "the last is kept, however long"
        rig.close()

    asyncio.run(story())


def test_a_long_directory_is_read_in_a_thread_and_sorted_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listings, "AT_ONCE", 10)
    names = [b"name %d" % number for number in range(105)]
    for name in names:
        (tmp_path / os.fsdecode(name)).touch()
    threads = set()
    in_order = listings.in_order

    def noted(found: Iterable[tuple[bytes, int, bool]]) -> list[listings.Found]:
        threads.add(threading.current_thread())
        return in_order(found)

    monkeypatch.setattr(listings, "in_order", noted)

    async def story() -> None:
        rig = Rig("directory", tmp_path, offload=True)
        (reply,) = await replies(rig, 1 << 20)
        assert [entry.name for entry in reply.entries[2:]] == sorted(names, key=listings.cookie_of)
        assert len(threads) == 1 and threading.current_thread() not in threads
        rig.close()

    asyncio.run(story())


@pytest.mark.parametrize("kind", KINDS)
def test_others_have_their_turn_during_a_long_readdirplus(kind: str, tmp_path: Path) -> None:
    """And what they do to the directory makes the reply older than it: the client must look again."""

    async def story() -> None:
        rig = Rig(kind, tmp_path)
        for number in range(500):
            await rig.create(b"%d" % number)
        rig.clock.seconds += 1
        await asyncio.sleep(0.02)  # the directory's next change is in another tick
        before = await rig.getattr(rig.root)
        plus = asyncio.ensure_future(rig.call(P.READDIRPLUS, ReaddirplusArgs(rig.root, 0, bytes(8), 1 << 20, 1 << 20)))
        turns = 0
        while not plus.done():
            await asyncio.sleep(0)
            turns += 1
            if turns == 2:
                await rig.create(b"new")
        reply = await plus
        assert len(reply.entries) in (502, 503)
        assert turns > 500 / PLUS_AT_ONCE
        assert reply.dir_attributes == before
        assert (await rig.getattr(rig.root)).ctime_ns > before.ctime_ns
        (quiet,) = await replies(rig, 1 << 20, plus=True)
        assert quiet.dir_attributes == await rig.getattr(rig.root)
        rig.check()
        rig.close()

    asyncio.run(story())
