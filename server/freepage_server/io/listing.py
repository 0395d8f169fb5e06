"""A directory's names in the order of their cookies, and the listings that are kept between the READDIRs of one.

A cookie depends on its name alone, so it survives every change of the directory and a restart. A long directory is read
and sorted in a thread, in pieces that let everybody else in between.
"""

from __future__ import annotations

import hashlib
import heapq
import os
import time
from array import array
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import chain, islice
from typing import TypeAlias

from freepage_server.nfsd.storage import Key

COOKIE_DOT, COOKIE_DOTDOT, COOKIE_FIRST = 1, 2, 16

MAX_LISTINGS = 64
"""Directories whose sorted names are kept between the READDIRs of one listing."""
MAX_LISTED = 500_000
"""Names kept so, in all but the last of them: some 50 MB."""
LONG_DIRECTORY = 4096
"""From this many names on, a listing goes on with the names of a moment ago..."""
LISTING_SERVES_S = 5.0
"""... if they are no older than this."""
LISTING_SETTLES_NS = 100_000_000
"""A directory changed this recently may change again within the same timestamp: its listing is not kept."""
AT_ONCE = 1024
"""Names that are read where we are, in some 5 ms, before a thread goes on; and that are sorted in one piece."""

Times: TypeAlias = "tuple[int, int]"
"""mtime and ctime, in ns."""
Found: TypeAlias = "tuple[int, bytes, int]"
"""Cookie, name and inode number."""


def cookie_of(name: bytes) -> int:
    """A place in the order of names."""
    digest = hashlib.blake2b(name, digest_size=8, person=b"freepage-cookie").digest()
    return (int.from_bytes(digest, "big") >> 2) + COOKIE_FIRST


def names_in(directory_fd: int) -> Iterator[tuple[bytes, int, bool]]:
    """Name, inode number and whether it is a directory, for each name in a directory given by an O_PATH descriptor."""
    fd = os.open(f"/proc/self/fd/{directory_fd}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with os.scandir(fd) as entries:
            for entry in entries:
                yield os.fsencode(entry.name), entry.inode(), entry.is_dir(follow_symlinks=False)
    finally:
        os.close(fd)


def in_order(names: Iterable[tuple[bytes, int, bool]]) -> list[Found]:
    """Sorted by cookie, in pieces: one sort of a hundred thousand would not let another thread in for 100 ms."""
    names = iter(names)
    pieces = []
    while piece := sorted((cookie_of(name), name, ino) for name, ino, _ in islice(names, AT_ONCE)):
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else list(heapq.merge(*pieces))


class Listing:
    """A directory's names in the order of their cookies, as of one (mtime, ctime).

    ``current``: while the directory's times are these, its names are. ``made_s`` is monotonic. Some 100 bytes a name.
    """

    __slots__ = ("cookies", "current", "inos", "made_s", "names", "times")

    def __init__(self, times: Times, current: bool, made_s: float, found: list[Found]) -> None:
        self.times = times
        self.current = current
        self.made_s = made_s
        self.cookies = array("Q", [cookie for cookie, _, _ in found])
        self.names = [name for _, name, _ in found]
        self.inos = array("Q", [ino for _, _, ino in found])

    def __len__(self) -> int:
        return len(self.names)


class Listings:
    """Those that are kept. ``run`` calls a function in a thread, and waits for it."""

    def __init__(self, run: Callable[..., Awaitable[Listing]]) -> None:
        self._run = run
        self._kept: OrderedDict[Key, Listing] = OrderedDict()

    def __iter__(self) -> Iterator[Listing]:
        return iter(self._kept.values())

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, directory: Key, times: Times, *, begins: bool) -> Listing | None:
        """The names as they are; or, of a long directory that is being listed while it changes, those of a moment ago.

        READDIR need not show what came or went after its listing began (POSIX readdir), and to read a hundred thousand
        names again for every reply would take minutes.
        """
        listing = self._kept.get(directory)
        if listing is None:
            return None
        unchanged = listing.current and listing.times == times
        recent = len(listing) >= LONG_DIRECTORY and time.monotonic() - listing.made_s < LISTING_SERVES_S
        if not unchanged and (begins or not recent):
            return None
        self._kept.move_to_end(directory)
        return listing

    async def read(self, directory: Key, fd: int, times: Times, now_ns: int) -> Listing:
        """Read and keep the names; ``fd`` is an O_PATH descriptor, and ``times`` were the directory's just now."""
        made_s, current = time.monotonic(), now_ns - max(times) > LISTING_SETTLES_NS
        names = names_in(fd)
        first = list(islice(names, AT_ONCE))
        if len(first) < AT_ONCE:
            listing = Listing(times, current, made_s, in_order(first))
        else:
            listing = await self._run(lambda: Listing(times, current, made_s, in_order(chain(first, names))))
        self._keep(directory, listing)
        return listing

    def _keep(self, directory: Key, listing: Listing) -> None:
        kept = self._kept
        kept[directory] = listing
        kept.move_to_end(directory)
        while len(kept) > MAX_LISTINGS or (len(kept) > 1 and sum(map(len, kept.values())) > MAX_LISTED):
            kept.popitem(last=False)

    def changed(self, directory: Key) -> None:
        """We changed a name of it, perhaps within the same timestamp."""
        listing = self._kept.get(directory)
        if listing is not None:
            listing.current = False

    def forget(self, directory: Key) -> None:
        self._kept.pop(directory, None)

    def clear(self) -> None:
        self._kept.clear()
