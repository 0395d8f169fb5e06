"""The least file system that can stand behind the page cache: a file whose bytes are wherever a view of them points.

Its replies cost nothing, so that what is measured is the page cache.
"""

from __future__ import annotations

import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from freepage import (
    PAGE_SHIFT,
    PAGE_SIZE,
    AddressSpace,
    AddressSpaceOperations,
    BackingDevInfo,
    File,
    MemCgroup,
    ObjectState,
    Page,
    PageCache,
    ReadaheadControl,
    SlabObject,
    force_page_cache_readahead,
)

T = TypeVar("T")

FOLIO = 64 << 10
"""What one READ brings here, and so one folio."""


class Request(SlabObject):
    """What filled a page; holds the credential, as the NFS client's request does."""

    slab_name = "nfs_page"
    use = "fill"
    objsize = 128
    __slots__ = ()


class Cred(SlabObject):
    slab_name = "rpc_cred"
    objsize = 192
    __slots__ = ()


class Inode:
    """What a mapping belongs to."""

    i_ino = 1
    audit_name = "/bench"

    def __init__(self, i_size: int) -> None:
        self.i_size = i_size


class ToyFs:
    """One machine's page cache and one open file of ``size`` bytes, all alike: ``contents`` again and again.

    ``objects``: every page owns a request that holds a credential, and leaves it to the hook. ``sites``: the requests
    remember what allocated them. ``memory`` is the limit in bytes; None: none.
    """

    def __init__(
        self,
        size: int,
        *,
        memory: int | None = None,
        objects: bool = False,
        sites: bool = True,
        contents: bytes = bytes(1 << 20),
    ) -> None:
        self.cache = PageCache(now=time.monotonic, memcg=MemCgroup(None if memory is None else memory >> PAGE_SHIFT))
        self._contents = memoryview(contents)
        self._cred = Cred(self.cache.ledger)
        self._site = "read" if sites else ""
        a_ops = AddressSpaceOperations(
            readahead=self._readahead_owning if objects else self._readahead,
            freepage=self._freepage if objects else None,
        )
        pages = FOLIO >> PAGE_SHIFT
        bdi = BackingDevInfo("bench", domain=self.cache.dirty, ra_pages=pages, io_pages=pages)
        self.mapping = AddressSpace(self.cache, Inode(size), a_ops, bdi)
        self.file = File(self.mapping)

    def _piece(self, index: int, pages: int) -> memoryview:
        """A reply's buffer: that of ``pages`` pages from ``index``."""
        start = (index << PAGE_SHIFT) % len(self._contents)
        return self._contents[start : start + pages * PAGE_SIZE]

    def _readahead(self, rac: ReadaheadControl) -> None:
        data = self._piece(rac.index, len(rac.pages))
        for number, page in enumerate(rac.take()):
            page.fill(data[number << PAGE_SHIFT : (number + 1) << PAGE_SHIFT])
            page.uptodate = True
            page.unlock()

    def _readahead_owning(self, rac: ReadaheadControl) -> None:
        data = self._piece(rac.index, len(rac.pages))
        ledger, cred, site = self.cache.ledger, self._cred, self._site
        for number, page in enumerate(rac.take()):
            page.fill(data[number << PAGE_SHIFT : (number + 1) << PAGE_SHIFT])
            page.uptodate = True
            request = Request(ledger, ObjectState.CACHED, site)
            request.hold(cred)
            page.own(request)
            page.unlock()

    @staticmethod
    def _freepage(page: Page) -> None:
        request = page.disown()
        if request is not None:
            request.put(ObjectState.CACHED)

    def read_in(self, start: int = 0, end: int | None = None) -> None:
        """Bring bytes [start, end) into the cache, a folio at a time, as readahead does. Older pages make room."""
        end = self.mapping.host.i_size if end is None else end
        file, pages = self.file, FOLIO >> PAGE_SHIFT
        for index in range(start >> PAGE_SHIFT, -(-end >> PAGE_SHIFT), pages):
            force_page_cache_readahead(file, index, pages)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run what never waits, without a loop."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise AssertionError("it waited")
