"""Directory names in pages that never entered the page cache (Linux 5.1 and 5.2, 2019).

Commit be4c2d4723a4 ("NFS: readdirplus optimization by cache mechanism") poured one READDIR reply into up to eight
pages of its own; the page in the cache got a copy of the first, and the others were kept for the pages that the same
call would fill next. Those that were not used were freed as pages, and the names that they pointed to were not: the
hook frees the names of pages that leave the cache, and these pages had never been in it.

The last page filled was never used. `pvec.nr` was its index, and the test for a hit took that for the number of pages
filled; so the directory's last page was asked for again.

Max Kellermann's report, with the commit that took it back (db531db951f9, 12 July 2019), measured a directory of 110
files with names of 18 to 20 bytes: a listing allocates 120 names in kmalloc-32, drop_caches frees 110, and 10 are lost,
every time. kmemleak was silent, because the names are marked as no leak: it does not scan page cache pages. The mark
and sweep here does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace

import freepage as fp
from freepage import ObjectState, Page, SlabObject

RELEASED, REVERTED = "be4c2d4723a4", "db531db951f9"
VARIANTS = {RELEASED: "as released in Linux 5.1", REVERTED: "taken back in Linux 5.3"}

MAX_ENTRIES = 102
"""(4096 - 16) // 40: the header and the entries of struct nfs_cache_array in 2019."""
MAX_RAPAGES = 8
"""NFS_MAX_READDIR_RAPAGES"""


class Name(SlabObject):
    """A copy of an entry's name, as nfs_readdir_make_qstr allocates it."""

    slab_name = "kmalloc-32"
    objsize = 32


class ShortName(Name):
    """A name of at most 7 bytes, `.` and `..` among them."""

    slab_name = "kmalloc-8"
    objsize = 8


@dataclass(slots=True)
class Entry:
    cookie: int
    name: Name


class Array:
    """The contents of a directory page: what copy_highpage copies. Its names are plain pointers, held by nobody."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.eof = False


class CachedArray(SlabObject):
    """An array whose page is in the cache; it holds its names, and the hook releases it."""

    slab_name = "nfs_dir_array"
    objsize = fp.PAGE_SIZE
    __slots__ = ("array",)

    def __init__(self, ledger: fp.Ledger, array: Array) -> None:
        super().__init__(ledger, ObjectState.CACHED, "nfs_readdir_filler")
        self.array = array
        for entry in array.entries:
            self.hold(entry.name)
            entry.name.put(ObjectState.IN_USE)


@dataclass(frozen=True, slots=True)
class Listing:
    """One `ls` and the drop_caches after it, counted in kmalloc-32 as the report did."""

    allocated: int
    freed: int
    lost: int
    lost_so_far: int
    readdirs: int
    names_returned: int


@dataclass(frozen=True, slots=True)
class Outcome:
    variant: str
    listings: list[Listing]
    audit: fp.AuditReport


class Directory:
    """An NFS directory of 2019 on the page cache: `files` files and the two dots, as the server lists them."""

    def __init__(self, files: int, variant: str) -> None:
        self.variant = variant
        self.names = [".", "..", *(f"{number}_0123456789abcdef" for number in range(1, files + 1))]
        self.cache = fp.PageCache(now=lambda: 0.0)
        for kind in (Name, ShortName, CachedArray):
            self.cache.ledger.register(kind.slab_name, kind.objsize, [""])
        host = SimpleNamespace(i_size=0, i_ino=2, audit_name="/export/dir")
        operations = fp.AddressSpaceOperations(readpage=self.readpage, freepage=freepage)
        self.mapping = fp.AddressSpace(self.cache, host, operations)
        self.readdirs = 0

    def read_directory(self, cookie: int) -> Iterator[Entry]:
        """READDIR: the entries after `cookie`, each name copied when it is taken from the reply."""
        self.readdirs += 1
        for number in range(cookie, len(self.names)):
            kind = ShortName if len(self.names[number]) < ShortName.objsize else Name
            yield Entry(number + 1, kind(self.cache.ledger, ObjectState.IN_USE, "nfs_readdir_add_to_array"))

    async def list(self) -> int:
        """getdents to the end; the number of names returned."""
        call = ReaddirCall(self)
        returned, page_index, eof = 0, 0, False
        while not eof:
            call.page_index = page_index
            page = await fp.read_mapping_page(call, page_index)
            array = _array(page)
            returned += len(array.entries)
            call.last_cookie, eof = array.entries[-1].cookie, array.eof
            page_index += 1
            page.put()
        return returned

    async def readpage(self, call: ReaddirCall, page: Page) -> None:
        page.own(CachedArray(self.cache.ledger, call.fill()))
        page.fill(b"")
        page.uptodate = True
        page.unlock()

    def drop_caches(self) -> None:
        """echo 3 > drop_caches, on a machine where something else has drained the lru_add batch."""
        fp.lru_add_drain(self.cache.memcg)
        self.cache.drop_pagecache()

    def names_counted(self) -> tuple[int, int]:
        """(allocated, freed) so far in kmalloc-32."""
        account = self.cache.ledger.caches[Name.slab_name].account("")
        return account.allocs, account.frees


class ReaddirCall(fp.File):
    """One getdents call (struct nfs_readdir_descriptor)."""

    def __init__(self, directory: Directory) -> None:
        super().__init__(directory.mapping)
        self.directory = directory
        self.page_index = 0
        self.last_cookie = 0
        self.pvec: list[Array] = []
        """pages of its own, beside the cache: the last reply"""
        self.pvec_index = 0
        """page index of the first of them"""

    def fill(self) -> Array:
        """The contents of page `page_index` (nfs_readdir_filler)."""
        if self.directory.variant == REVERTED:
            return self._pour(1)[0]
        cursor = len(self.pvec) - 1  # pvec.nr: the index of the last page filled
        if self.pvec_index <= self.page_index < self.pvec_index + cursor:
            return self.pvec[self.page_index - self.pvec_index]
        # Whatever an earlier reply left in pvec is forgotten here, and at the end of the call.
        self.pvec, self.pvec_index = self._pour(MAX_RAPAGES), self.page_index
        return self.pvec[0]

    def _pour(self, pages: int) -> list[Array]:
        """One READDIR into at most that many pages; what does not fit is not copied."""
        arrays = [Array()]
        reply = self.directory.read_directory(self.last_cookie)
        total = len(self.directory.names)
        cookie = self.last_cookie
        while cookie < total:
            if len(arrays[-1].entries) == MAX_ENTRIES:
                if len(arrays) == pages:
                    return arrays
                arrays.append(Array())
            entry = next(reply)
            arrays[-1].entries.append(entry)
            cookie = entry.cookie
        arrays[-1].eof = True
        return arrays


def _array(page: Page) -> Array:
    owned = page.owned
    assert isinstance(owned, CachedArray)
    return owned.array


def freepage(page: Page) -> None:
    """nfs_readdir_clear_array: the page has left the cache, its names go."""
    array = page.disown()
    assert array is not None
    array.put(ObjectState.CACHED)


async def replay(variant: str, *, files: int = 110, listings: int = 3) -> Outcome:
    """List the directory `listings` times, with drop_caches after each, and audit what is left."""
    directory = Directory(files, variant)
    counted: list[Listing] = []
    lost_so_far = 0
    for _ in range(listings):
        (allocs, frees), readdirs = directory.names_counted(), directory.readdirs
        returned = await directory.list()
        directory.drop_caches()
        now_allocs, now_frees = directory.names_counted()
        allocated, freed = now_allocs - allocs, now_frees - frees
        lost_so_far += allocated - freed
        counted.append(
            Listing(allocated, freed, allocated - freed, lost_so_far, directory.readdirs - readdirs, returned)
        )
    return Outcome(variant, counted, directory.cache.ledger.audit([], directory.cache.mappings))
