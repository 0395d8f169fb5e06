"""Listing directories through the page cache (fs/nfs/dir.c nfs_readdir).

A directory's pages are arrays of at most 127 entries. A page is found by its content: index 0 for the beginning, else a
hash of the cookie that its first entry follows, and it counts only while its change attribute is the directory's. The
entries' names are objects of their own, owned by the page, and freed by freepage alone once the page has left the
cache; this is the one use that NFS made of the hook from the start.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from freepage import (
    NoMemory,
    Page,
    SlabObject,
    add_to_page_cache_lru,
    find_or_create_page,
    invalidate_inode_pages2_range,
    mark_page_accessed,
)
from freepage.slab import CACHED, IN_USE
from freepage_client.nfs import nfs3proc
from freepage_client.nfs.dcache import Dentry, d_invalidate, d_splice_alias, dput
from freepage_client.nfs.dir import set_verifier
from freepage_client.nfs.errors import EBADCOOKIE, ENOTSYNC, ETOOSMALL
from freepage_client.nfs.fattr import NfsFattr
from freepage_client.nfs.inode import DATA_INVAL_DEFER, INVALID_DATA
from freepage_client.nfs.revalidate import revalidate_mapping
from freepage_proto.nfs3 import DirEntry3, FType3

if TYPE_CHECKING:
    from freepage_client.nfs.cred import Credential
    from freepage_client.nfs.inode import NfsInode

NFS_INIT_DTSIZE = 64 << 10
MAX_ENTRIES = 127
"""(4096 - 24) // 32: what the kernel's array header and entries leave room for in one page."""

CACHE_USAGE_THRESHOLD = 8
CACHE_MISS_THRESHOLD = 16
UNCACHED_PAGES = 512

_GOLDEN_RATIO_64 = 0x61C8864680B583EB


def page_index_of_cookie(cookie: int) -> int:
    """Where in the mapping the page that follows ``cookie`` belongs: hash_64(cookie, 18), 0 for the beginning."""
    if not cookie:
        return 0
    return ((cookie * _GOLDEN_RATIO_64) & 0xFFFFFFFFFFFFFFFF) >> (64 - 18)


class DirName(SlabObject):
    """One cached entry name (a kmalloc of its length plus one)."""

    slab_name = "nfs_dir_name"
    objsize = 32
    __slots__ = ("name",)

    def __init__(self, array: DirArray, name: bytes) -> None:
        super().__init__(array.ledger, IN_USE, "readdir")
        self.name = name
        array.hold(self)
        self.put(IN_USE)


class CachedEntry:
    """cookie: the one the entry follows; ``name`` is owned by the array."""

    __slots__ = ("cookie", "ino", "name", "type")

    def __init__(self, cookie: int, ino: int, name: DirName, kind: FType3 | None) -> None:
        self.cookie = cookie
        self.ino = ino
        self.name = name
        self.type = kind


class DirArray(SlabObject):
    """The entries in one directory page (struct nfs_cache_array)."""

    slab_name = "nfs_dir_array"
    objsize = 4096
    __slots__ = ("change", "entries", "eof", "full", "inode", "last_cookie", "ordered")

    def __init__(self, inode: NfsInode, holder: int, last_cookie: int, change: int) -> None:
        super().__init__(inode.server.machine.cache.ledger, CACHED if holder == CACHED else IN_USE, "readdir")
        self.inode = inode
        self.entries: list[CachedEntry] = []
        self.init(last_cookie, change)

    def init(self, last_cookie: int, change: int) -> None:
        self.change = change
        self.last_cookie = last_cookie
        self.full = False
        self.eof = False
        self.ordered = True

    def reinit(self, last_cookie: int, change: int) -> None:
        """Use the page again for something else; the names go now, not through the hook."""
        for entry in self.entries:
            self.drop(entry.name)
        self.entries.clear()
        self.init(last_cookie, change)

    @property
    def first_cookie(self) -> int:
        return self.entries[0].cookie if self.entries else self.last_cookie

    def append(self, entry: DirEntry3) -> bool:
        """Copy an entry in. False when the array is full: the copy of the name is freed again, as Linux does."""
        name = DirName(self, entry.name)
        if self.full or len(self.entries) == MAX_ENTRIES:
            self.full = True
            faults = self.inode.server.machine.cache.faults
            if faults.at("leak_name", self.inode.mapping, page_index_of_cookie(self.first_cookie)):
                name.get(IN_USE)
            self.drop(name)
            return False
        kind = entry.attributes.type if entry.attributes is not None else None
        self.entries.append(CachedEntry(self.last_cookie, entry.fileid, name, kind))
        if entry.cookie <= self.last_cookie:
            self.ordered = False
        self.last_cookie = entry.cookie
        return True

    def set_eof(self) -> None:
        self.eof = self.full = True

    def may_hold(self, cookie: int) -> bool:
        if not self.ordered:
            return True
        if cookie >= self.last_cookie:
            return False
        return not self.entries or cookie >= self.entries[0].cookie


class OpenDirContext:
    """Where one open directory stands (struct nfs_open_dir_context)."""

    __slots__ = (
        "cache_hits",
        "cache_misses",
        "dir_cookie",
        "dtsize",
        "eof",
        "force_clear",
        "last_cookie",
        "page_index",
        "pos",
        "verf",
    )

    def __init__(self, inode: NfsInode) -> None:
        self.pos = 0
        """The file position: a cookie."""
        self.dir_cookie = 0
        self.last_cookie = 0
        self.page_index = 0
        self.verf = inode.cookieverf
        self.dtsize = min(inode.server.dtsize, NFS_INIT_DTSIZE)
        self.cache_hits = 0
        self.cache_misses = 0
        self.force_clear = False
        self.eof = False
        if not inode.open_dirs and inode.cache_validity & DATA_INVAL_DEFER:
            inode.set_cache_invalid(INVALID_DATA)
        inode.open_dirs.append(self)

    def close(self, inode: NfsInode) -> None:
        inode.open_dirs.remove(self)

    def seek(self, cookie: int) -> None:
        """Go on after ``cookie`` (0: from the beginning)."""
        if cookie != self.pos:
            self.pos = self.dir_cookie = self.last_cookie = cookie
            self.page_index = 0
            self.eof = False


class Dirent(NamedTuple):
    """An entry as getdents gives it; ``off`` is the position after it."""

    name: bytes
    ino: int
    type: FType3 | None
    off: int


class _BadCookie(Exception):
    """The wanted cookie is in none of the cached pages, or the server does not know it."""


class _Again(Exception):
    """The search goes on with the next page."""


class _Readdir:
    """One getdents call under way (struct nfs_readdir_descriptor)."""

    def __init__(
        self,
        inode: NfsInode,
        dentry: Dentry,
        context: OpenDirContext,
        room: int,
        cred: Credential,
        entry_size: Callable[[bytes], int],
    ) -> None:
        self.inode = inode
        self.dentry = dentry
        self.context = context
        self.cred = cred
        self.room = room
        self.out: list[Dirent] = []
        self.entry_size = entry_size
        self.page_index = context.page_index
        self.page_index_max = -1
        self.dir_cookie = context.dir_cookie
        self.last_cookie = context.last_cookie
        self.verf = context.verf
        self.entry_index = 0
        self.buffer_fills = 0
        self.dtsize = 0
        self.clear_cache = False
        self.plus = False
        self.eob = False
        self.eof = context.eof
        self._arrays: list[DirArray] = []
        """That are in no page of the cache."""
        self.set_dtsize(context.dtsize)

    def __iter__(self) -> Iterator[DirArray]:
        """What it holds while it asks the server, for the audit."""
        return iter(self._arrays)

    def set_dtsize(self, size: int) -> None:
        self.dtsize = max(min(size, self.inode.server.dtsize), 1024)

    # Filling pages from the server.

    async def _fill(self, arrays: list[DirArray], page: Page | None) -> bytes:
        """One READDIR(PLUS), poured into the first array and as many more as it needs; the reply's verifier.

        With ``page`` the arrays are pages of the cache, found as they are needed; else anonymous ones, at most 512.
        """
        inode, server = self.inode, self.inode.server
        change = inode.change
        cookie = arrays[0].last_cookie
        verf = inode.cookieverf if page is not None else self.verf
        time_start = server.jiffies()
        gencount = server.machine.next_gencount()
        dir_verifier = inode.cache_change_attribute
        reply = await nfs3proc.readdir(inode, cookie, verf, self.dtsize, self.plus, self.cred)
        current: Page | None = page
        array = arrays[0]
        filling = True
        for entry in reply.entries:
            if self.plus:
                fattr = NfsFattr(time_start, gencount)
                fattr.attr = entry.attributes
                self._prime_dcache(entry, fattr, dir_verifier)
            if not filling or array.append(entry):
                continue
            if page is None:
                if len(arrays) >= UNCACHED_PAGES:
                    filling = False
                    continue
                array = DirArray(inode, IN_USE, array.last_cookie, change)
                arrays.append(array)
            else:
                following = self._next_page(array.last_cookie, change)
                if following is None:
                    filling = False
                    continue
                if current is not page and current is not None:
                    current.unlock()
                current = following
                array = _array_of(following)
            self.page_index_max += 1
            filling = array.append(entry)
        if reply.eof and filling:
            array.set_eof()
        if current is not page and current is not None:
            current.unlock()
        self.buffer_fills += 1
        return reply.cookieverf

    def _next_page(self, cookie: int, change: int) -> Page | None:
        """The page that follows, locked; None if somebody has it locked or memory is short (grab_cache_page_nowait)."""
        index = page_index_of_cookie(cookie)
        page = self.inode.mapping.find_page(index)
        if page is None:
            try:
                page = add_to_page_cache_lru(self.inode.mapping, index)
            except NoMemory:
                return None
        elif not page.trylock():
            return None
        array = self._init_and_validate(page, cookie, change)
        if array.last_cookie != cookie:
            array.reinit(cookie, change)
        return page

    def _init_and_validate(self, page: Page, cookie: int, change: int) -> DirArray:
        if page.uptodate:
            array = _array_of(page)
            if array.change != change or array.first_cookie != cookie:
                array.reinit(cookie, change)
            return array
        array = DirArray(self.inode, CACHED, cookie, change)
        page.own(array)
        page.fill(b"")
        page.uptodate = True
        return array

    def _prime_dcache(self, entry: DirEntry3, fattr: NfsFattr, dir_verifier: int) -> None:
        """READDIRPLUS brought attributes and a handle: as good as a LOOKUP (nfs_prime_dcache)."""
        if fattr.attr is None or entry.name in (b"", b".", b"..") or b"\0" in entry.name or b"/" in entry.name:
            return
        parent = self.dentry
        dentry = parent.children.get(entry.name)
        if dentry is not None:
            if dentry.busy is not None:
                return
            inode = dentry.inode
            same = inode is not None and not inode.stale and fattr.attr.fileid == inode.fileid
            if same and inode is not None and entry.object in (None, inode.fh):
                if entry.object is not None:
                    set_verifier(dentry, dir_verifier)
                    inode.refresh(fattr)
                return
            d_invalidate(dentry)
        if entry.object is None:
            return
        dentry = Dentry(parent.sb, parent, entry.name)
        set_verifier(dentry, dir_verifier)
        found = d_splice_alias(self.inode.server.fhget(entry.object, fattr), dentry)
        if found is not dentry:
            set_verifier(found, dir_verifier)
        dput(found)

    # Finding the place to go on.

    def _seek_next_array(self, array: DirArray) -> None:
        if array.full:
            self.last_cookie = array.last_cookie
            self.entry_index = 0
            self.page_index += 1
        else:
            self.last_cookie = array.first_cookie

    def _search(self, array: DirArray) -> None:
        """Find ``dir_cookie`` in the array; raises _Again to look at the next page, _BadCookie at the end."""
        if not self.dir_cookie:
            if not array.entries:
                if array.eof:
                    self.eof = True
                    raise _BadCookie
                self._seek_next_array(array)
                raise _Again
            self.dir_cookie = array.entries[0].cookie
            self.entry_index = 0
            return
        if array.may_hold(self.dir_cookie):
            for i, entry in enumerate(array.entries):
                if entry.cookie == self.dir_cookie:
                    self.context.pos = self.dir_cookie
                    self.entry_index = i
                    return
        if array.eof:
            if self.dir_cookie == array.last_cookie:
                self.eof = True
            raise _BadCookie
        self._seek_next_array(array)
        raise _Again

    async def _find_and_lock_page(self) -> Page:
        """The locked page that holds ``dir_cookie``, filled if need be. Raises _Again, _BadCookie, OSError."""
        inode = self.inode
        change = inode.change
        page = await find_or_create_page(inode.mapping, page_index_of_cookie(self.last_cookie), for_write=False)
        mark_page_accessed(page)
        array = self._init_and_validate(page, self.last_cookie, change)
        if self.clear_cache and array.full:
            array.reinit(self.last_cookie, change)
        try:
            if not array.full:
                if self.page_index == self.page_index_max:
                    self.set_dtsize(self.dtsize * 2)
                self.page_index_max = self.page_index
                verf = await self._fill([array], page)
                if not self.last_cookie and inode.cookieverf != verf:
                    inode.cookieverf = verf
                    await invalidate_inode_pages2_range(inode.mapping, 1)
                self.clear_cache = False
            self._search(array)
        except OSError as error:
            page.unlock()
            if error.errno in (EBADCOOKIE, ENOTSYNC):
                await invalidate_inode_pages2_range(inode.mapping)
                self.last_cookie = self.page_index = 0
                raise _Again from error
            raise
        except (_Again, _BadCookie):
            page.unlock()
            raise
        return page

    async def _search_pagecache(self) -> Page:
        while True:
            try:
                return await self._find_and_lock_page()
            except _Again:
                continue

    # Giving entries to the caller.

    def _emit(self, array: DirArray) -> None:
        for i in range(self.entry_index, len(array.entries)):
            entry = array.entries[i]
            size = self.entry_size(entry.name.name)
            if size > self.room:
                self.eob = True
                break
            self.room -= size
            if i == len(array.entries) - 1:
                self.dir_cookie = array.last_cookie
                self._seek_next_array(array)
            else:
                self.dir_cookie = array.entries[i + 1].cookie
                self.last_cookie = array.entries[0].cookie
            self.context.pos = self.dir_cookie
            self.out.append(Dirent(entry.name.name, entry.ino, entry.type, self.dir_cookie))
        if array.eof:
            self.eof = not self.eob

    async def _uncached(self) -> None:
        """The cookie is in no cached page: ask the server from there, into pages that never enter the cache."""
        self.page_index = 0
        self.entry_index = 0
        self.last_cookie = self.dir_cookie
        self.page_index_max = 0
        arrays = self._arrays = [DirArray(self.inode, IN_USE, self.dir_cookie, 0)]
        machine = self.inode.server.machine
        machine.begin_io(self)
        try:
            self.verf = await self._fill(arrays, None)
            emitted = 0
            for array in arrays:
                if self.eob:
                    break
                self._emit(array)
                emitted += 1
            if not self.eof:
                if not self.eob:
                    self.set_dtsize(self.dtsize * 2)
                elif self.buffer_fills == 1 and emitted < self.page_index_max >> 1:
                    self.set_dtsize(self.dtsize // 2)
        finally:
            machine.end_io(self)
            for array in arrays:
                array.put(IN_USE)
            self.page_index_max = -1

    async def run(self) -> None:
        context = self.context
        hits, misses = context.cache_hits, context.cache_misses
        context.cache_hits = context.cache_misses = 0
        if self.eof:
            return
        self.plus = self.inode.server.cap_readdirplus and (not context.pos or hits + misses > CACHE_USAGE_THRESHOLD)
        force_clear = bool(context.pos and self.plus and (misses > CACHE_MISS_THRESHOLD or context.force_clear))
        self.clear_cache = force_clear
        try:
            while not self.eob and not self.eof:
                try:
                    page = await self._search_pagecache()
                except _BadCookie:
                    if self.dir_cookie and not self.eof:
                        try:
                            await self._uncached()
                        except OSError as error:
                            if error.errno in (EBADCOOKIE, ENOTSYNC):
                                break
                            raise
                        continue
                    break
                except OSError as error:
                    if error.errno == errno.ENOTSUP and self.plus:
                        self.inode.server.cap_readdirplus = self.plus = False
                        continue
                    if error.errno == ETOOSMALL and self.plus:
                        self.inode.zap_caches()
                        self.plus = self.eof = False
                        continue
                    raise
                self._emit(_array_of(page))
                page.unlock()
                if self.page_index == self.page_index_max:
                    self.clear_cache = force_clear
        finally:
            context.dir_cookie = self.dir_cookie
            context.last_cookie = self.last_cookie
            context.page_index = self.page_index
            context.force_clear = force_clear
            context.eof = self.eof
            context.dtsize = self.dtsize
            context.verf = self.verf


def _dirent64_size(name: bytes) -> int:
    """What one entry takes in getdents64's buffer: 19 bytes of header, the name and a NUL, in units of 8."""
    return (19 + len(name) + 1 + 7) & ~7


def _array_of(page: Page) -> DirArray:
    array = page.owned
    assert isinstance(array, DirArray)
    return array


def freepage(page: Page) -> None:
    """The page has left the cache: free its names (nfs_readdir_free_folio)."""
    array = page.disown()
    if array is not None:
        array.put(CACHED)


async def getdents(
    inode: NfsInode, dentry: Dentry, context: OpenDirContext, room: int, cred: Credential
) -> list[tuple[bytes, int, FType3 | None]]:
    """The next entries of an open directory that fit in ``room`` bytes of getdents64 buffer; [] at the end.

    Each is (name, fileid, type if known). Raises OSError; EINVAL when not even one entry fits.
    """
    return [entry[:3] for entry in await iterate_dir(inode, dentry, context, room, cred, _dirent64_size)]


async def iterate_dir(
    inode: NfsInode,
    dentry: Dentry,
    context: OpenDirContext,
    room: int,
    cred: Credential,
    entry_size: Callable[[bytes], int],
) -> list[Dirent]:
    """``getdents`` for a buffer of another layout: ``entry_size`` tells what an entry of a name takes in it."""
    inode.server.stats.events["vfsreaddir"] += 1
    with contextlib.suppress(OSError):  # as Linux does: READDIR itself will say what is wrong
        await revalidate_mapping(inode, cred)
    readdir = _Readdir(inode, dentry, context, room, cred, entry_size)
    await readdir.run()
    if readdir.eob and not readdir.out:
        raise OSError(errno.EINVAL, "the buffer is too small for the next entry")
    return readdir.out
