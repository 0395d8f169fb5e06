"""Filling pages: readahead and readpage, and what a READ's reply does to them (fs/nfs/read.c).

The page lock is the exclusion: a page is locked from its insertion until the reply has filled it. Pages of one
readahead that lie side by side go out together, cut at rsize, all in flight at once.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from freepage import PAGE_SHIFT, PAGE_SIZE, Page, PageRun, ReadaheadControl, SlabObject, SlabRun
from freepage.slab import IN_USE
from freepage_client.nfs.errors import FATAL_ON_SERVER, os_error, status_to_errno
from freepage_client.nfs.inode import INVALID_ATIME
from freepage_client.nfs.open_context import OpenContext, find_open_context
from freepage_client.nfs.pagelist import FillRequest, PageIo, RunSegment, Segment, own_page
from freepage_client.nfs.rpc import RpcTask
from freepage_client.nfs.write import wb_page
from freepage_proto.nfs3 import Data, NfsStat3, ReadArgs, ReadRes
from freepage_proto.rpc import Procedure

if TYPE_CHECKING:
    from freepage_client.nfs.file import NfsFile
    from freepage_client.nfs.inode import NfsInode

AnySegment = Segment | RunSegment


class _Reader:
    """One readahead or readpage: a descriptor and the calls it made (struct nfs_readdesc)."""

    def __init__(self, inode: NfsInode, context: OpenContext) -> None:
        self.inode = inode
        self.context = context
        self.io = PageIo(inode.server.rsize, self._do_io)
        self.parts_left: dict[Page, int] = {}

    def add_page(self, page: Page) -> None:
        """Queue one locked page; a page wholly beyond the end is zeroed here and now (readpage_async_filler)."""
        inode = self.inode
        length = inode.page_length(page)
        if not length:
            page.fill(b"")
            page.uptodate = True
            own_page(page, inode, self.context.cred, "read")
            page.unlock()
            return
        rsize = inode.server.rsize
        aligned = min((length + rsize - 1) // rsize * rsize, PAGE_SIZE)
        request = FillRequest(self.context.cred, inode, "read")
        self.parts_left[page] = 1  # so that an early reply of a first part cannot finish the page
        pieces = self.io.add(request, page, 0, aligned)
        self.parts_left[page] += len(pieces) - 1

    def add_run(self, run: PageRun) -> None:
        """Queue locked pages that are stored together."""
        inode = self.inode
        whole = 0
        if not inode.server.rsize % PAGE_SIZE:
            whole = min(max(-(-inode.i_size >> PAGE_SHIFT) - run.index, 0), run.nr)
            if whole:
                self.io.add_run(
                    run if whole == run.nr else run.part(0, whole), self.context.cred, inode.server.machine.cache.ledger
                )
        if whole < run.nr:
            for page in run.part(whole, run.nr).pages():
                self.add_page(page)

    def complete(self) -> None:
        self.io.complete()
        self.inode.server.stats.bytes.readpages += (self.io.bytes_sent + PAGE_SIZE - 1) >> PAGE_SHIFT

    def _do_io(self, segments: list[AnySegment], nbytes: int) -> None:
        _Read(self, segments, nbytes).send()


class _Read:
    """What one READ is to fill, and what came of it so far; a short reply is followed by another (nfs_pgio_header)."""

    __slots__ = ("args", "chunks", "context", "fattr", "good", "inode", "message", "parts_left", "segments")

    def __init__(self, reader: _Reader, segments: list[AnySegment], nbytes: int) -> None:
        self.inode = inode = reader.inode
        self.context = reader.context
        self.parts_left = reader.parts_left
        self.segments = segments
        self.chunks: list[Data] = []
        self.message: bytes | None = None
        """what the last chunk is the end of, if it came in a message"""
        self.good = 0
        """bytes that came, all replies together"""
        self.args = ReadArgs(inode.fh, segments[0].pos, nbytes)
        self.context.get(IN_USE)
        inode.server.machine.begin_io(self)

    def __iter__(self) -> Iterator[SlabObject | SlabRun]:
        """What the call holds."""
        yield self.context
        for segment in self.segments:
            yield segment.request

    def send(self) -> None:
        server = self.inode.server
        self.fattr = server.fattr()
        server.rpc.start(Procedure.READ, self.args, self.context.cred.auth).then(self._done)

    def _done(self, call: RpcTask) -> None:
        """The reply to the call, or to the last of several (nfs_readpage_done, nfs_readpage_result)."""
        inode, stats, args = self.inode, self.inode.server.stats, self.args
        try:
            result = call.reply()
        except OSError as failure:
            self._finish(failure.errno or errno.EIO)
            return
        assert isinstance(result, ReadRes)
        self.fattr.attr = result.attributes
        inode.set_cache_invalid(INVALID_ATIME)
        inode.refresh(self.fattr)
        if result.status is not NfsStat3.OK:
            self._finish(status_to_errno(result.status))
            return
        count = result.count
        stats.bytes.serverread += count
        self.chunks.append(result.data)
        self.message = result.message
        self.good += count
        if result.eof or count >= args.count:
            self._finish(0, result.eof)
            return
        stats.events["shortreads"] += 1
        if not count:
            self._finish(errno.EIO)
            return
        self.args = ReadArgs(args.file, args.offset + count, args.count - count)
        self.send()

    def _finish(self, error: int, eof: bool = False) -> None:
        inode, chunks = self.inode, self.chunks
        if error == errno.ESTALE:
            inode.set_stale()
            inode.mark_for_revalidate()
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        if len(chunks) == 1 and self.message is not None:
            self._fill(self.segments, self.message, len(self.message) - len(data), self.good, eof, error)
        else:
            self._fill(self.segments, data, 0, self.good, eof, error)
        inode.server.machine.end_io(self)
        self.context.put(IN_USE)

    def _fill(self, segments: list[AnySegment], data: Data, at: int, good: int, eof: bool, error: int) -> None:
        """Give each page its bytes, from byte ``at`` of ``data`` on.

        Beyond the end of the file they are zeroes, in the failed part nothing.
        """
        done = 0
        for segment in segments:
            if isinstance(segment, RunSegment):
                filled = segment.pages.nr
                if error and not eof:
                    filled = min(max(good - done, 0) >> PAGE_SHIFT, filled)
                self._fill_run(segment, data, at + done, filled, error)
                done += segment.nbytes
                continue
            page, request = segment.page, segment.request
            assert isinstance(request, FillRequest)
            piece = memoryview(data)[at + done : at + done + segment.nbytes]
            done += segment.nbytes
            if error and not eof and done > good:
                self.context.error = error
                if error in FATAL_ON_SERVER and error != errno.ETIMEDOUT:
                    page.error = True
            elif segment.nbytes == PAGE_SIZE or (segment.offset == 0 and self.parts_left[page] == 1):
                page.fill(piece)
            else:
                buffer = page.writable()
                buffer[segment.offset : segment.offset + len(piece)] = piece
                buffer[segment.offset + len(piece) : segment.offset + segment.nbytes] = bytes(
                    segment.nbytes - len(piece)
                )
            self.parts_left[page] -= 1
            if self.parts_left[page]:
                continue
            del self.parts_left[page]
            if page.error or (error and not eof and done > good):
                request.put(IN_USE)
            else:
                page.uptodate = True
                request.give_to(page)
            page.unlock()

    def _fill_run(self, segment: RunSegment, data: Data, at: int, filled: int, error: int) -> None:
        """The first ``filled`` pages get their bytes, from byte ``at`` of the reply on; the others failed."""
        pages = segment.pages
        if filled:
            ok = pages if filled == pages.nr else pages.part(0, filled)
            ok.fill(data, at)
            ok.own(segment.request)
            ok.mark_uptodate_and_unlock()
        if filled == pages.nr:
            return
        self.context.error = error
        for at, page in enumerate(pages.pages()[filled:], filled):
            if error in FATAL_ON_SERVER and error != errno.ETIMEDOUT:
                page.error = True
            segment.request.put(at, IN_USE)
            page.unlock()


async def readpage(file: NfsFile, page: Page) -> None:
    """Read one locked page and wait for it. A write request on it goes to the server first (nfs_read_folio).

    Raises OSError; the page is unlocked in any case.
    """
    inode = file.inode
    inode.server.stats.events["vfsreadpage"] += 1
    try:
        await wb_page(inode, page)
        if page.uptodate:
            page.unlock()
            return
        if inode.stale:
            raise os_error(errno.ESTALE)
    except OSError:
        page.unlock()
        raise
    context = file.context
    context.error = 0
    page.error = False
    context.get(IN_USE)
    try:
        reader = _Reader(inode, context)
        reader.add_page(page)
        reader.complete()
        await page.wait_locked()
        if not page.uptodate:
            error, context.error = context.error, 0
            raise os_error(error or errno.EIO)
    finally:
        context.put(IN_USE)


def readahead(control: ReadaheadControl) -> None:
    """Start reading a run of locked pages (nfs_readahead). Takes none if the file is stale or nobody can read it."""
    mapping = control.mapping
    inode = cast("NfsInode", mapping.host)
    inode.server.stats.events["vfsreadpages"] += 1
    if inode.stale:
        return
    file = cast("NfsFile | None", control.file)
    context = file.context if file is not None else find_open_context(inode, write=False)
    if context is None:
        return
    reader = _Reader(inode, context)
    for run in control.take_runs():
        reader.add_run(run)
    reader.complete()
