"""Write requests from the dirty page to the disk of the server (fs/nfs/write.c).

A dirty page has one request, which covers one contiguous range of its bytes. Writeback turns requests into WRITE calls;
a FILE_SYNC reply ends them, after an UNSTABLE one they wait on the inode's commit list until a COMMIT answers with the
same verifier. A different one means that the server restarted: the pages are dirty again.

Which stability is asked for: writeback that somebody waits for asks FILE_SYNC as long as one call per page run is
enough and nothing of the file waits for COMMIT; once anything had to be cut, and always in the background, UNSTABLE.
"""

from __future__ import annotations

import asyncio
import errno
import stat
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, cast

from freepage import (
    PAGE_SHIFT,
    PAGE_SIZE,
    AddressSpace,
    Page,
    SlabObject,
    WritebackControl,
    clear_page_dirty_for_io,
    end_page_writeback,
    filemap_dirty_page,
    filemap_fdatawrite_range,
    set_page_writeback,
    wait_on_page_writeback_range,
    write_cache_pages,
)
from freepage.slab import IN_USE
from freepage_client.nfs.errors import status_to_errno
from freepage_client.nfs.fattr import NfsFattr
from freepage_client.nfs.inode import (
    INVALID_CHANGE,
    INVALID_DATA,
    INVALID_MODE,
    INVALID_SIZE,
)
from freepage_client.nfs.pagelist import PageIo, Segment, WriteRequest, own_page
from freepage_client.nfs.rpc import RpcTask
from freepage_proto.nfs3 import CommitArgs, CommitRes, NfsStat3, StableHow, WriteArgs, WriteRes
from freepage_proto.rpc import Procedure

if TYPE_CHECKING:
    from freepage_client.nfs.file import NfsFile
    from freepage_client.nfs.inode import NfsInode


# Requests and their pages.


def attach_request(inode: NfsInode, request: WriteRequest) -> None:
    """The page and the inode know the request from now on (nfs_inode_add_request)."""
    page = request.page
    assert page.private is None
    page.private = request
    page.get()
    inode.write_requests[page.index] = request
    request.attached = True


def remove_request(request: WriteRequest) -> None:
    """The request has done its work, or is given up: the page is clean of it (nfs_inode_remove_request)."""
    if not request.attached:
        return
    request.attached = False
    page, inode = request.page, request.inode
    faults = inode.server.machine.cache.faults
    if not faults.at("keep_private", inode.mapping, page.index):
        page.private = None
    if not faults.at("keep_request", inode.mapping, page.index):
        del inode.write_requests[page.index]
    page.put()
    request.put(IN_USE)


async def _lock_and_join(page: Page) -> WriteRequest | None:
    """The page's request, locked and off the commit list; None if it has none (nfs_lock_and_join_requests)."""
    while True:
        request = cast("WriteRequest | None", page.private)
        if request is None:
            return None
        await request.lock()
        if request.attached:
            _clear_commit(request)
            return request
        request.unlock()


def _clear_commit(request: WriteRequest) -> None:
    inode = request.inode
    if request in inode.commit_list:
        del inode.commit_list[request]
        faults = inode.server.machine.cache.faults
        if not faults.at("keep_commit_accounting", inode.mapping, request.page.index):
            inode.server.account_unstable(-1)


def _mark_commit(request: WriteRequest) -> None:
    """Written but not on disk: it waits for COMMIT and counts as writeback (nfs_mark_request_commit)."""
    inode = request.inode
    inode.commit_list[request] = None
    inode.server.account_unstable(1)
    inode.server.bdi.wb.mark_inode_dirty(inode.mapping)


def _set_page_error(inode: NfsInode) -> None:
    """A write failed: what is cached may not be what is on the server (nfs_set_pageerror)."""
    inode.zap_mapping()
    inode.set_cache_invalid(INVALID_CHANGE | INVALID_SIZE)


def _mapping_set_error(request: WriteRequest, error: int) -> None:
    request.page.error = True
    request.inode.mapping.wb_err.set(error)
    _set_page_error(request.inode)


def cancel_request(page: Page) -> None:
    """Truncation: forget the page's dirty data without sending them (nfs_wb_folio_cancel).

    The caller has waited for writeback. A COMMIT may still be under way; its reply finds the request gone.
    """
    request: WriteRequest | None = page.private
    if request is not None:
        _clear_commit(request)
        remove_request(request)


# From write(2) to a dirty page.


def _page_is_trusted(page: Page, inode: NfsInode, page_length: int) -> bool:
    """May a write rely on the bytes around it (nfs_write_pageuptodate)?"""
    if inode.cache_validity & (INVALID_CHANGE | INVALID_SIZE):
        return False
    if page_length and (inode.invalidating is not None or inode.cache_validity & INVALID_DATA):
        return False
    return page.uptodate


def _can_extend_write(file: NfsFile, page: Page, inode: NfsInode, page_length: int) -> bool:
    """May the request cover the whole page instead of the bytes written (nfs_can_extend_write)?"""
    if file.dsync or not _page_is_trusted(page, inode, page_length):
        return False
    locks = inode.locks
    return locks is None or locks.allow_whole_page_writes()


async def update_page(file: NfsFile, page: Page, offset: int, count: int) -> None:
    """Bytes [offset, offset + count) of a locked page were written: make or widen its request (nfs_updatepage).

    A request that neither touches nor overlaps them is written out first. Raises OSError.
    """
    inode = file.inode
    inode.server.stats.events["vfsupdatepage"] += 1
    if not count:
        return
    page_length = inode.page_length(page)
    if _can_extend_write(file, page, inode, page_length):
        count = max(count + offset, page_length)
        offset = 0
    try:
        request = await _try_to_update(inode, page, offset, count)
    except OSError:
        _set_page_error(inode)
        raise
    if request is None:
        context = file.context.lock_context(file.owner)
        request = WriteRequest(inode, page, context, offset, count)
        request.busy = True
        attach_request(inode, request)
    _grow_file(inode, page, offset, count)
    if not page.uptodate and request.offset == 0 and request.end >= inode.page_length(page):
        page.uptodate = True
    filemap_dirty_page(page)
    request.unlock()


async def _try_to_update(inode: NfsInode, page: Page, offset: int, count: int) -> WriteRequest | None:
    """Widen the page's request to include the range, and return it locked; None if a new one is needed."""
    request = await _lock_and_join(page)
    if request is None:
        return None
    end = offset + count
    if offset > request.end or end < request.offset:
        # Disjoint. The commit state is lost, so the write must be replayed: dirty again, then out with it.
        filemap_dirty_page(page)
        request.unlock()
        await wb_page(inode, page)
        return None
    start = min(offset, request.offset)
    request.nbytes = max(end, request.end) - start
    request.offset = start
    return request


def _grow_file(inode: NfsInode, page: Page, offset: int, count: int) -> None:
    end = (page.index << PAGE_SHIFT) + offset + count
    if inode.i_size < end:
        inode.i_size = end
        inode.cache_validity &= ~INVALID_SIZE
        inode.server.stats.events["extendwrite"] += 1


async def flush_incompatible(file: NfsFile, page: Page) -> None:
    """Write out a request of another credential, or another process where locks are held (nfs_flush_incompatible)."""
    inode = file.inode
    while True:
        request: WriteRequest | None = page.private
        if request is None:
            return
        other = request.open_context.cred is not file.context.cred
        if inode.locks is not None and inode.locks.any_held():
            other = other or request.lock_context.owner is not file.owner
        if not other:
            return
        await wb_page(inode, page)


# From dirty pages to WRITE calls.


class _IoCompletion:
    """Runs ``done`` when the writepages call and every WRITE it made have finished (struct nfs_io_completion)."""

    __slots__ = ("_count", "_done")

    def __init__(self, done: Callable[[], None]) -> None:
        self._count = 1
        self._done = done

    def get(self) -> None:
        self._count += 1

    def put(self) -> None:
        self._count -= 1
        if not self._count:
            self._done()


class _Writer:
    """The descriptor of one writeback pass over an inode: collects requests, sends WRITEs, takes their replies."""

    def __init__(self, inode: NfsInode, cond_stable: bool, completion: _IoCompletion | None) -> None:
        self.inode = inode
        self.cond_stable = cond_stable
        self.completion = completion
        self.io = PageIo(inode.server.wsize, self._do_io, self._compatible)

    def _compatible(self, last: Segment, piece: Segment) -> bool:
        one, other = cast(WriteRequest, last.request), cast(WriteRequest, piece.request)
        if one.open_context.cred is not other.open_context.cred:
            return False
        locks = self.inode.locks
        return locks is None or not locks.any_held() or one.lock_context.owner is other.lock_context.owner

    async def write_page(self, page: Page, wbc: WritebackControl) -> None:
        """Queue one locked page whose dirty flag was just cleared, and unlock it (nfs_writepages_callback)."""
        await self.queue(page)
        page.unlock()

    async def queue(self, page: Page) -> None:
        """Queue one locked page, which stays locked (nfs_do_writepage)."""
        self.io.cond_complete(page.index)
        request = await _lock_and_join(page)
        if request is not None:
            set_page_writeback(page)
            self.inode.server.writeback_started()
            request.failed = request.unstable = False
            request.verf = b""
            request.get(IN_USE)
            request.parts_out = 1
            request.parts_out += len(self.io.add(request, page, request.offset, request.nbytes))
            self.part_done(request)
            self.inode.server.stats.bytes.writepages += 1

    def complete(self) -> None:
        self.io.complete()

    def _do_io(self, segments: list[Segment], nbytes: int) -> None:
        if self.cond_stable and (self.io.more_io or self.inode.commit_list):
            self.cond_stable = False
        stable = StableHow.FILE_SYNC if self.cond_stable else StableHow.UNSTABLE
        _Write(self, segments, stable).send()

    def part_done(self, request: WriteRequest) -> None:
        """One WRITE that carried a piece of the request is answered; the last one ends its page's writeback."""
        request.parts_out -= 1
        if request.parts_out:
            return
        page = request.page
        if not request.attached:
            pass
        elif request.failed:
            remove_request(request)
        elif request.unstable:
            _mark_commit(request)
        else:
            remove_request(request)
        end_page_writeback(page)
        self.inode.server.writeback_ended()
        request.unlock()
        faults = self.inode.server.machine.cache.faults
        if not faults.at("leak_subrequest", self.inode.mapping, page.index):
            request.put(IN_USE)


class _Write:
    """What one WRITE carries, and what came of it so far; a short one is followed by another (nfs_pgio_header)."""

    __slots__ = ("args", "committed", "context", "fattr", "segments", "start", "verf", "writer")

    def __init__(self, writer: _Writer, segments: list[Segment], stable: StableHow) -> None:
        inode = writer.inode
        self.writer = writer
        self.segments = segments
        self.context = context = cast(WriteRequest, segments[0].request).open_context
        self.start = segments[0].pos
        self.committed = StableHow.FILE_SYNC
        """the least that a reply promised"""
        self.verf = b""
        data = b"".join(
            [memoryview(piece.page.writable())[piece.offset : piece.offset + piece.nbytes] for piece in segments]
        )
        self.args = WriteArgs(inode.fh, self.start, len(data), stable, data)
        context.get(IN_USE)
        if writer.completion is not None:
            writer.completion.get()
        inode.server.machine.begin_io(self)

    def __iter__(self) -> Iterator[SlabObject]:
        """What the call holds."""
        yield self.context
        for piece in self.segments:
            yield piece.request

    def send(self) -> None:
        server = self.writer.inode.server
        self.fattr = server.fattr()
        server.rpc.start(Procedure.WRITE, self.args, self.context.cred.auth).then(self._done)

    def _done(self, call: RpcTask) -> None:
        """The reply to the call, or to the last of several (nfs_writeback_done, nfs_writeback_result)."""
        inode, args = self.writer.inode, self.args
        try:
            result = cast(WriteRes, call.reply())
        except OSError as failure:
            self._finish(args.offset, failure.errno or errno.EIO)
            return
        self.fattr.set_wcc(result.wcc)
        if result.status is not NfsStat3.OK:
            self._finish(args.offset, status_to_errno(result.status))
            return
        _write_done(inode, args, result, self.fattr)
        self.verf = result.verf
        self.committed = min(self.committed, result.committed)
        if result.count >= args.count:
            self._finish(args.offset + args.count, 0)
            return
        inode.server.stats.events["shortwrites"] += 1
        if not result.count:
            self._finish(args.offset, errno.EIO)
            return
        if result.committed is StableHow.UNSTABLE:
            self.committed = StableHow.FILE_SYNC
            self.args = WriteArgs(args.file, args.offset, args.count, StableHow.FILE_SYNC, args.data)
        else:
            data = memoryview(args.data)[result.count :]
            self.args = WriteArgs(args.file, args.offset + result.count, len(data), args.stable, data)
        self.send()

    def _finish(self, end: int, error: int) -> None:
        """Everything before position ``end`` was written."""
        writer = self.writer
        done = self.start
        for piece in self.segments:
            done += piece.nbytes
            request = cast(WriteRequest, piece.request)
            if error and end < done:
                _mapping_set_error(request, error)
                request.failed = True
            elif self.committed is not StableHow.FILE_SYNC:
                request.unstable = True
                if request.verf and request.verf != self.verf:
                    self.verf = b"\0"  # pieces written under two verifiers can match neither: again after COMMIT
                request.verf = self.verf
            writer.part_done(request)
        writer.inode.server.machine.end_io(self)
        if writer.completion is not None:
            writer.completion.put()
        self.context.put(IN_USE)


def _write_done(inode: NfsInode, args: WriteArgs, result: WriteRes, fattr: NfsFattr) -> None:
    """A WRITE succeeded: its attributes, as far as they may be believed (nfs_writeback_update_inode)."""
    end = args.offset + result.count
    if fattr.attr is not None:
        if fattr.attr.size < inode.i_size:
            fattr.size_valid = False  # more of the file is still on its way
        elif fattr.attr.size == end:
            fattr.gencount = inode.server.machine.next_gencount()
    inode.post_op_update_force_wcc(fattr)
    inode.server.stats.bytes.serverwrite += result.count
    mode = inode.i_mode
    if mode & stat.S_ISUID or (mode & stat.S_ISGID and mode & stat.S_IXGRP):
        inode.set_cache_invalid(INVALID_MODE)


async def writepages(mapping: AddressSpace, wbc: WritebackControl) -> None:
    """Write back a mapping's dirty pages (nfs_writepages). One COMMIT follows its last UNSTABLE WRITE by itself."""
    inode = cast("NfsInode", mapping.host)
    server = inode.server
    if not wbc.sync_all and server.write_congested:
        return
    server.stats.events["vfswritepages"] += 1
    completion = None
    cond_stable = False
    if server.options.write_policy == "lazy" or wbc.for_kupdate or wbc.for_background or wbc.for_sync:
        completion = _IoCompletion(lambda: start_commit(inode))
        cond_stable = wbc.sync_all
    writer = _Writer(inode, cond_stable, completion)
    try:
        await write_cache_pages(mapping, wbc, writer.write_page)
    finally:
        writer.complete()
        if completion is not None:
            completion.put()


async def writepage(page: Page, wbc: WritebackControl) -> None:
    """Write one locked page, UNSTABLE and without a COMMIT of its own, and unlock it (nfs_writepage)."""
    inode = _inode_of(page)
    inode.server.stats.events["vfswritepage"] += 1
    writer = _Writer(inode, False, None)
    await writer.write_page(page, wbc)
    writer.complete()


def _inode_of(page: Page) -> NfsInode:
    assert page.mapping is not None
    return cast("NfsInode", page.mapping.host)


async def wb_page(inode: NfsInode, page: Page) -> None:
    """Write one locked page and commit it, until no request hangs off it; it stays locked (nfs_wb_page)."""
    while True:
        await page.wait_writeback()
        if clear_page_dirty_for_io(page):
            inode.server.stats.events["vfswritepage"] += 1
            writer = _Writer(inode, False, None)
            await writer.queue(page)
            writer.complete()
            continue
        if page.private is None:
            return
        await commit_inode(inode)


async def wb_all(inode: NfsInode) -> None:
    """Write back everything dirty and commit it (nfs_wb_all). Write errors stay in the mapping's wb_err."""
    await filemap_write_and_wait(inode)
    await commit_inode(inode)


async def sync_inode(inode: NfsInode) -> None:
    """Before an operation that must see all own writes done (nfs_sync_inode)."""
    if inode.mapping.nrpages:
        await wb_all(inode)


async def filemap_write_and_wait(inode: NfsInode, start: int = 0, end: int | None = None) -> None:
    """Write the dirty pages of bytes [start, end) and wait for the answers; no COMMIT is waited for."""
    if not inode.mapping.nrpages:
        return
    await filemap_fdatawrite_range(inode.mapping, start, end)
    await wait_on_page_writeback_range(inode.mapping, start, end)


# COMMIT.


def start_commit(inode: NfsInode) -> None:
    """Send a COMMIT for everything on the commit list that no call carries, if there is anything."""
    requests = [request for request in inode.commit_list if not request.busy]
    if not requests:
        return
    for request in requests:
        del inode.commit_list[request]
        request.busy = True
        request.get(IN_USE)
    _Commit(inode, requests).send()


async def commit_inode(inode: NfsInode) -> None:
    """COMMIT what waits for it, and wait until no COMMIT of the inode is under way (nfs_commit_inode, FLUSH_SYNC)."""
    start_commit(inode)
    while inode.commit_rpcs_out:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        inode.commit_waiters.append(waiter)
        await waiter


class _Commit:
    """What one COMMIT covers (struct nfs_commit_data)."""

    __slots__ = ("context", "fattr", "inode", "requests")

    def __init__(self, inode: NfsInode, requests: list[WriteRequest]) -> None:
        self.inode = inode
        self.requests = requests
        self.context = requests[0].open_context
        self.context.get(IN_USE)
        inode.commit_rpcs_out += 1
        inode.commit_requests_out += len(requests)
        inode.server.machine.begin_io(self)

    def __iter__(self) -> Iterator[SlabObject]:
        """What the call holds."""
        yield self.context
        yield from self.requests

    def send(self) -> None:
        inode = self.inode
        self.fattr = inode.server.fattr()
        inode.server.rpc.start(Procedure.COMMIT, CommitArgs(inode.fh), self.context.cred.auth).then(self._done)

    def _done(self, call: RpcTask) -> None:
        """The data are safe, or have to be sent again (nfs_commit_release_pages)."""
        inode, server = self.inode, self.inode.server
        error = 0
        verf = b""
        try:
            result = cast(CommitRes, call.reply())
        except OSError as failure:
            error = failure.errno or errno.EIO
        else:
            self.fattr.set_wcc(result.wcc)
            inode.refresh(self.fattr)
            error = status_to_errno(result.status)
            verf = result.verf
        server.machine.end_io(self)
        for request in self.requests:
            server.account_unstable(-1)
            if not request.attached:
                pass  # truncated meanwhile
            elif error:
                _mapping_set_error(request, error)
                remove_request(request)
            elif request.verf == verf:
                remove_request(request)
            else:
                filemap_dirty_page(request.page)
                inode.redirtied_pages += 1
                server.machine.resent_pages += 1
            request.unlock()
            request.put(IN_USE)
        server.update_congestion()
        inode.commit_rpcs_out -= 1
        inode.commit_requests_out -= len(self.requests)
        if not inode.commit_rpcs_out:
            waiters, inode.commit_waiters = inode.commit_waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)
        self.context.put(IN_USE)


async def write_inode(mapping: AddressSpace, wbc: WritebackControl) -> None:
    """The flusher wrote the pages and now writes the inode: that is, commits (nfs_write_inode)."""
    inode = cast("NfsInode", mapping.host)
    if wbc.sync_all:
        await commit_inode(inode)
        return
    wb = inode.server.bdi.wb
    if inode.commit_list:
        if mapping.nr_writeback:
            wb.mark_inode_dirty(mapping)
            return
        start_commit(inode)
    if inode.commit_rpcs_out:
        wb.mark_inode_dirty(mapping)


async def write_inode_now(inode: NfsInode) -> None:
    """Start writing an inode back, without waiting for the answers (write_inode_now with sync 0)."""
    if not inode.write_requests:
        return
    wbc = WritebackControl(False)
    await writepages(inode.mapping, wbc)
    await write_inode(inode.mapping, wbc)


# The write(2) side of the operations table.


async def write_end(file: NfsFile, mapping: AddressSpace, pos: int, length: int, copied: int, page: Page) -> int:
    """After the copy: zero what the write left undefined, attach the request, unlock (nfs_write_end)."""
    inode = file.inode
    offset = pos & (PAGE_SIZE - 1)
    end = offset + copied
    if not page.uptodate:
        page_length = inode.page_length(page)
        buffer = page.writable()
        if not page_length:
            buffer[:offset] = bytes(offset)
            buffer[end:] = bytes(PAGE_SIZE - end)
            page.uptodate = True
        elif end >= page_length:
            buffer[end:] = bytes(PAGE_SIZE - end)
            if not offset:
                page.uptodate = True
        else:
            buffer[page_length:] = bytes(PAGE_SIZE - page_length)
    try:
        await update_page(file, page, offset, copied)
    finally:
        if page.uptodate and not page.owns and page.mapping is not None:
            own_page(page, inode, file.context.cred, "write")
        page.unlock()
    return copied
