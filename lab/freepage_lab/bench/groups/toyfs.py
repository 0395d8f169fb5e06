"""The least file system that can stand behind the page cache: a file whose bytes are wherever a view of them points.

Its replies cost nothing, so that what is measured is the page cache.
"""

from __future__ import annotations

import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from freepage import (
    PAGE_SHIFT,
    AddressSpace,
    AddressSpaceOperations,
    BackingDevInfo,
    File,
    MemCgroup,
    ObjectState,
    Page,
    PageCache,
    PageRun,
    ReadaheadControl,
    SlabObject,
    SlabRun,
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
    remember what allocated them. ``folio`` is what one READ brings, in bytes. ``memory`` limits it, in bytes.
    """

    def __init__(
        self,
        size: int,
        *,
        memory: int | None = None,
        objects: bool = False,
        sites: bool = True,
        contents: bytes = bytes(1 << 20),
        folio: int = FOLIO,
    ) -> None:
        self.cache = PageCache(now=time.monotonic, memcg=MemCgroup(None if memory is None else memory >> PAGE_SHIFT))
        self._contents = contents
        self._cred = Cred(self.cache.ledger)
        self._site = "read" if sites else ""
        a_ops = AddressSpaceOperations(
            readahead=self._readahead_owning if objects else self._readahead,
            freepage=self._freepage if objects else None,
        )
        pages = self._folio_pages = folio >> PAGE_SHIFT
        bdi = BackingDevInfo("bench", domain=self.cache.dirty, ra_pages=pages, io_pages=pages)
        self.mapping = AddressSpace(self.cache, Inode(size), a_ops, bdi)
        self.file = File(self.mapping)

    def _fill(self, run: PageRun) -> None:
        """A reply's buffer is somewhere in the contents."""
        run.fill(self._contents, (run.index << PAGE_SHIFT) % len(self._contents))

    def _readahead(self, rac: ReadaheadControl) -> None:
        for run in rac.take_runs():
            self._fill(run)
            run.mark_uptodate_and_unlock()

    def _readahead_owning(self, rac: ReadaheadControl) -> None:
        for run in rac.take_runs():
            self._fill(run)
            run.own(SlabRun(self.cache.ledger, Request, run.nr, self._cred, ObjectState.IN_USE, self._site))
            run.mark_uptodate_and_unlock()

    @staticmethod
    def _freepage(page: Page) -> None:
        page.release()

    def read_in(self, start: int = 0, end: int | None = None) -> None:
        """Bring bytes [start, end) into the cache, a folio at a time, as readahead does. Older pages make room."""
        end = self.mapping.host.i_size if end is None else end
        file, pages = self.file, self._folio_pages
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
