"""Requests: what hangs off a page, and how requests become READ and WRITE calls (fs/nfs/pagelist.c).

Two kinds share the slab cache ``nfs_page``. A *write* request is Linux's own: it is attached to a dirty page, and goes
away in COMMIT, FILE_SYNC, cancellation or launder before the page may leave the cache. A *fill* request is the model's:
the request that filled the page stays with it, holding the credential it was filled with, until freepage releases it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from freepage import PAGE_SHIFT, Ledger, Page, PageRun, SlabObject, SlabRun
from freepage.slab import CACHED, IN_USE

if TYPE_CHECKING:
    from freepage_client.nfs.cred import Credential
    from freepage_client.nfs.inode import NfsInode
    from freepage_client.nfs.open_context import LockContext, OpenContext

MAX_PAGES_PER_CALL = 512
"""nfs_generic_pg_test: the page vector of one call must fit in a page."""


class FillRequest(SlabObject):
    """The request that filled a page. In use while its READ is under way, cached while its page is."""

    slab_name = "nfs_page"
    use = "fill"
    objsize = 128
    __slots__ = ()

    def __init__(self, cred: Credential, inode: NfsInode, site: str) -> None:
        super().__init__(inode.server.machine.cache.ledger, IN_USE, site)
        self.hold(cred)

    def give_to(self, page: Page) -> None:
        """The page is uptodate now and owns the request."""
        self.get(CACHED)
        page.own(self)
        self.put(IN_USE)


def own_page(page: Page, inode: NfsInode, cred: Credential, site: str) -> None:
    """Give a page that became uptodate without a READ its fill request (a full write, zeroes beyond the end)."""
    FillRequest(cred, inode, site).give_to(page)


class WriteRequest(SlabObject):
    """Dirty bytes [offset, offset + nbytes) of one page (struct nfs_page; ``offset`` counts from the page's start).

    Attached from the write to its durable end: ``page.private``, and the inode's ``write_requests``. ``busy`` while a
    WRITE or COMMIT that covers it is under way. ``parts_out`` counts the pieces of it that WRITE calls still carry.
    """

    slab_name = "nfs_page"
    use = "write"
    objsize = 128
    __slots__ = (
        "attached",
        "busy",
        "failed",
        "inode",
        "lock_context",
        "nbytes",
        "offset",
        "page",
        "parts_out",
        "unstable",
        "verf",
        "waiters",
    )

    def __init__(self, inode: NfsInode, page: Page, lock_context: LockContext, offset: int, nbytes: int) -> None:
        """``lock_context`` comes with a reference of the caller's, which passes to the request."""
        super().__init__(inode.server.machine.cache.ledger, IN_USE, "write")
        self.inode = inode
        self.page = page
        self.lock_context = lock_context
        self.offset = offset
        self.nbytes = nbytes
        self.attached = False
        self.busy = False
        self.parts_out = 0
        self.unstable = False
        self.failed = False
        self.verf = b""
        self.waiters: list[asyncio.Future[None]] = []
        self.hold(lock_context)
        lock_context.put(IN_USE)

    @property
    def open_context(self) -> OpenContext:
        return self.lock_context.open_context

    @property
    def end(self) -> int:
        return self.offset + self.nbytes

    def describe(self) -> str:
        return f"nfs_page (write) of {self.inode.audit_name} page {self.page.index}"

    async def lock(self) -> None:
        """Wait until no call carries the request, and keep others from starting one (nfs_lock_request)."""
        while self.busy:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.waiters.append(waiter)
            await waiter
        self.busy = True

    def unlock(self) -> None:
        self.busy = False
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class Segment:
    """A piece of one page that one call carries. ``request`` is its FillRequest or WriteRequest."""

    __slots__ = ("nbytes", "offset", "page", "request")

    def __init__(self, request: FillRequest | WriteRequest, page: Page, offset: int, nbytes: int) -> None:
        self.request = request
        self.page = page
        self.offset = offset
        self.nbytes = nbytes

    @property
    def pos(self) -> int:
        return (self.page.index << PAGE_SHIFT) + self.offset


class RunSegment:
    """Whole pages side by side that one READ fills. ``request`` is the run of their FillRequests."""

    __slots__ = ("nbytes", "pages", "request")

    def __init__(self, request: SlabRun, pages: PageRun) -> None:
        self.request = request
        self.pages = pages
        self.nbytes = pages.nr << PAGE_SHIFT

    @property
    def pos(self) -> int:
        return self.pages.index << PAGE_SHIFT


class PageIo:
    """Collects contiguous pieces until one must wait for the next call (struct nfs_pageio_descriptor).

    ``do_io(segments, nbytes)`` sends what was collected. ``more_io`` is set, for good, once something had to be cut: by
    the size, by a byte gap or by another owner; a gap between page indices does not count (``cond_complete``).
    """

    __slots__ = ("_compatible", "_count", "_do_io", "_end", "_segments", "_size", "bytes_sent", "more_io")

    def __init__(
        self,
        size: int,
        do_io: Callable[[list[Any], int], None],
        compatible: Callable[[Segment, Segment], bool] | None = None,
    ) -> None:
        self._size = size
        self._do_io = do_io
        self._compatible = compatible
        self._segments: list[Any] = []
        self._count = 0
        self._end = 0
        """position after the last piece collected"""
        self.more_io = False
        self.bytes_sent = 0

    def add(self, request: FillRequest | WriteRequest, page: Page, offset: int, nbytes: int) -> list[Segment]:
        """Queue bytes of a page, cutting them over calls as needed; return the pieces made."""
        pieces: list[Segment] = []
        while nbytes:
            piece = Segment(request, page, offset, nbytes)
            piece.nbytes = self._coalesce_size(piece)
            if not piece.nbytes:
                self.more_io = True
                self._flush()
                continue
            self._segments.append(piece)
            self._count += piece.nbytes
            self._end = piece.pos + piece.nbytes
            pieces.append(piece)
            offset += piece.nbytes
            nbytes -= piece.nbytes
        return pieces

    def add_run(self, pages: PageRun, cred: Credential, ledger: Ledger) -> None:
        """Queue whole pages to be read, with a fill request each, cutting the run over calls as needed."""
        while pages.nr:
            pos = pages.index << PAGE_SHIFT
            fits = 0
            if not self._segments or self._end == pos:
                fits = min((self._size - self._count) >> PAGE_SHIFT, MAX_PAGES_PER_CALL - (self._count >> PAGE_SHIFT))
            if not fits:
                self.more_io = True
                self._flush()
                continue
            nr = pages.nr
            part = pages if nr <= fits else pages.part(0, fits)
            segment = RunSegment(SlabRun(ledger, FillRequest, part.nr, cred, IN_USE, "read"), part)
            self._segments.append(segment)
            self._count += segment.nbytes
            self._end = pos + segment.nbytes
            if part is pages:
                return
            pages = pages.part(fits, nr)

    def cond_complete(self, index: int) -> None:
        """Send what is collected unless page ``index`` is the next one after it."""
        if self._segments and -(-self._end >> PAGE_SHIFT) != index:
            self._flush()

    def complete(self) -> None:
        """Send what is left."""
        self._flush()

    def _coalesce_size(self, piece: Segment) -> int:
        """How many bytes of the piece the call being collected still takes (nfs_coalesce_size, nfs_generic_pg_test)."""
        if self._segments:
            if self._compatible is not None and not self._compatible(self._segments[-1], piece):
                return 0
            if self._end != piece.pos:
                return 0
        if (self._count + piece.nbytes) >> PAGE_SHIFT > MAX_PAGES_PER_CALL:
            return 0
        return min(self._size - self._count, piece.nbytes)

    def _flush(self) -> None:
        if self._segments:
            segments, self._segments = self._segments, []
            nbytes, self._count = self._count, 0
            self.bytes_sent += nbytes
            self._do_io(segments, nbytes)
