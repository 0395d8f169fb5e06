"""The server's page cache in front of the storage's files (Linux: what knfsd gets from ext4 and mm/ for nothing).

UNSTABLE data stay here as dirty pages until a COMMIT, a stable WRITE of the same range or the flusher; reads see them.
A cached READ costs one `Storage.getattr`: when its times or size are not those that the pages were filled at, somebody
changed the file behind the server's back, and the clean pages are dropped (removal path `invalidate`).

**Who runs, and what is atomic.** Everything up to an `await` is; an await is storage I/O, a page lock, or `Inode.lock`,
which serialises writers and truncation of one file. Readers and the flusher do not take it: page locks and the
writeback flag order them against writers, as in the kernel.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from freepage import (
    PAGE_SHIFT,
    PAGE_SIZE,
    AddressSpace,
    AddressSpaceOperations,
    BackingDevInfo,
    Page,
    PageCache,
    PageRun,
    ReadaheadControl,
    WritebackControl,
    do_writepages,
    end_page_writeback,
    filemap_read,
    generic_perform_write,
    invalidate_inode_pages2_range,
    replace_page_cache_page,
    set_page_writeback,
    simple_write_begin,
    simple_write_end,
    truncate_inode_pages_final,
    truncate_pagecache,
    wait_on_page_writeback_range,
    write_cache_pages,
)
from freepage_proto.nfs3 import Data, Fattr3, StableHow
from freepage_proto.rpc import AuthSys
from freepage_server.nfsd.export import Export
from freepage_server.nfsd.inode import Inode, NfsdFile
from freepage_server.nfsd.objects import CredTable
from freepage_server.nfsd.stats import ServerStats
from freepage_server.nfsd.storage import Key

RA_PAGES = 256
"""1 MiB of readahead: a miss costs a trip to a thread, so it is made in large units."""
MAX_WRITE_PAGES = 256
"""Contiguous dirty pages go to the storage in pieces of at most this many."""
MAX_INODES = 65536
MIN_KEPT_REPLY = 64 << 10
"""Folios are not made for READs of fewer bytes: to copy those costs little, and many small folios would cost more."""


class FileCache:
    """``wb_failed`` is called when unstable data could not be written: the write verifier has to change."""

    def __init__(
        self,
        cache: PageCache,
        stats: ServerStats,
        wb_failed: Callable[[], None],
        max_inodes: int = MAX_INODES,
    ) -> None:
        self.cache = cache
        self.stats = stats
        self.bdi = BackingDevInfo("nfsd", domain=cache.dirty, ra_pages=RA_PAGES, io_pages=RA_PAGES, local_throttle=True)
        self._wb_failed = wb_failed
        self._max_inodes = max_inodes
        self._creds = CredTable(cache.ledger)
        self._inodes: OrderedDict[tuple[int, Key], Inode] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._a_ops = AddressSpaceOperations(
            readpage=self._readpage,
            readahead=self._readahead,
            writepages=self._writepages,
            write_begin=simple_write_begin,
            write_end=self._write_end,
            freepage=self._freepage,
        )

    # --- attributes -----------------------------------------------------------------------------------------------

    def attributes(self, export: Export, key: Key) -> Fattr3:
        """The storage's attributes, overlaid with what is not written yet. Raises ESTALE."""
        inode = self._inodes.get((export.id, key))
        return export.storage.getattr(key) if inode is None else self.attributes_of(inode)

    def attributes_of(self, inode: Inode) -> Fattr3:
        """`attributes` of an inode that is not gone."""
        try:
            attributes = inode.export.storage.getattr(inode.key)
        except OSError:
            self._forget(inode)
            raise
        if not inode.io and (attributes.mtime_ns, attributes.ctime_ns, attributes.size) != inode.seen:
            self._changed_behind_us(inode, attributes)
        if inode.overlay is None and inode.i_size == attributes.size:
            return attributes
        mtime_ns, ctime_ns = inode.overlay or (attributes.mtime_ns, attributes.ctime_ns)
        a = attributes
        return Fattr3(
            a.type,
            a.mode,
            a.nlink,
            a.uid,
            a.gid,
            inode.i_size,
            a.used,
            a.fsid,
            a.fileid,
            a.atime_ns,
            mtime_ns,
            ctime_ns,
            a.rdev,
        )

    def _changed_behind_us(self, inode: Inode, attributes: Fattr3) -> None:
        """The storage is not as we left it: its times win, and the clean pages are stale."""
        inode.seen = disk = (attributes.mtime_ns, attributes.ctime_ns, attributes.size)
        inode.foreign = True
        self.stats.foreign_changes += 1
        if inode.mapping.dirty_tags:
            inode.overlay = disk[:2]
            inode.i_size = max(inode.i_size, attributes.size)
        else:
            inode.overlay = None
            inode.i_size = attributes.size

    def _agree(self, inode: Inode, overlay: tuple[int, int] | None) -> None:
        """The storage was just changed by us: what it says now is what the pages agree with.

        ``overlay``: the times to go on reporting; None: the storage's own.
        """
        if inode.io:
            inode.overlay = overlay or inode.overlay
            return
        try:
            a = inode.export.storage.getattr(inode.key)
        except OSError:
            return
        inode.seen = (a.mtime_ns, a.ctime_ns, a.size)
        inode.disk_ctime_ns = a.ctime_ns
        if not inode.mapping.dirty_tags and not inode.mapping.writeback_tags:
            inode.i_size = a.size
            if overlay is not None and overlay != inode.seen[:2]:
                # Everything is written, and only now: that the disk's ctime is later is nobody's business.
                inode.export.storage.report_times(inode.key, *overlay)
                inode.seen = (*overlay, a.size)
            overlay = None
        elif overlay is None:
            overlay = inode.seen[:2]
        inode.overlay = overlay

    def changed(self, export: Export, key: Key, *, mtime: bool = False) -> None:
        """We changed the storage's attributes of this inode: its ctime moved, and with ``mtime`` its mtime too."""
        inode = self._inodes.get((export.id, key))
        if inode is None:
            return
        if inode.io:
            now = export.storage.now_ns()
            inode.overlay = (inode.overlay[0] if inode.overlay else inode.seen[0], now)
            return
        a = export.storage.getattr(key)
        if inode.overlay is not None:
            inode.overlay = (a.mtime_ns if mtime else inode.overlay[0], a.ctime_ns)
        inode.seen = (a.mtime_ns, a.ctime_ns, a.size)

    # --- inodes ---------------------------------------------------------------------------------------------------

    def _inode(self, export: Export, key: Key, attributes: Fattr3) -> Inode:
        inode = self._inodes.get((export.id, key))
        if inode is None:
            inode = Inode(export, key, attributes)
            self._inodes[inode.name] = inode
            inode.mapping = AddressSpace(self.cache, inode, self._a_ops, self.bdi)
            inode.wb_err_seen = inode.mapping.wb_err.sample()
            if len(self._inodes) > self._max_inodes:
                self._shrink_inodes(1)
        else:
            self.used(inode)
        return inode

    def cached(self, export: Export, key: Key) -> Inode | None:
        """The inode, if it has been read or written lately."""
        return self._inodes.get((export.id, key))

    def used(self, inode: Inode) -> None:
        """This inode, which is not gone, is the last to be forgotten."""
        self._inodes.move_to_end(inode.name)

    @contextmanager
    def _using(self, inode: Inode) -> Iterator[None]:
        inode.users += 1
        try:
            yield
        finally:
            self._put(inode)

    def _put(self, inode: Inode) -> None:
        inode.users -= 1
        if inode.gone and not inode.users:
            self._evict(inode)

    def _evict(self, inode: Inode) -> None:
        left = truncate_inode_pages_final(inode.mapping)
        assert not left, f"{inode.audit_name} evicted with {left} pages in use"

    def _forget(self, inode: Inode) -> None:
        """The inode is gone, or will be: nobody finds it any more, and its pages leave with its last user."""
        if inode.gone:
            return
        inode.gone = True
        self._inodes.pop(inode.name, None)
        if not inode.users:
            self._evict(inode)

    def gone(self, export: Export, key: Key) -> None:
        """We removed the last link of this inode."""
        inode = self._inodes.get((export.id, key))
        if inode is not None:
            self._forget(inode)

    def _shrink_inodes(self, count: int | None = None, *, with_pages: bool = True) -> None:
        """Forget the inodes unused for longest, ``count`` of them or all."""
        for inode in list(self._inodes.values())[: None if count is None else count + 64]:
            if count is not None and count <= 0:
                break
            if not inode.busy and (with_pages or not (inode.mapping.pages or inode.overlay)):
                self._forget(inode)
                count = None if count is None else count - 1

    # --- reading --------------------------------------------------------------------------------------------------

    async def read(
        self, export: Export, key: Key, attributes: Fattr3, offset: int, count: int, cred: AuthSys
    ) -> tuple[Data, Fattr3]:
        """At most ``count`` bytes, short only at the end of the file, and the attributes at that moment."""
        inode = self._inode(export, key, attributes)
        with self._using(inode):
            if inode.foreign or inode.racy_until_ns:
                await self._drop_stale(inode)
            file = inode.file_for(cred)
            if count >= MIN_KEPT_REPLY:
                file.sent_at = offset >> PAGE_SHIFT, count >> PAGE_SHIFT
            data = await filemap_read(file, offset, count)
            return data, self.attributes(export, key)

    async def _drop_stale(self, inode: Inode) -> None:
        """Drop the clean pages of a file that somebody else changed, or may have changed unseen."""
        if not inode.foreign and inode.export.storage.now_ns() < inode.racy_until_ns:
            return
        inode.foreign = False
        inode.racy_until_ns = 0
        with suppress(OSError):  # EBUSY: dirty pages stay, ours win
            await invalidate_inode_pages2_range(inode.mapping)

    async def replace_pages(self, export: Export, key: Key, first: int, count: int) -> int:
        """Put new pages with the same data in the place of cached clean ones (path `replace`); returns how many.

        No NFS procedure does this; the control service does, so that the path can be seen at work.
        """
        inode = self._inodes.get((export.id, key))
        if inode is None:
            return 0
        replaced = 0
        with self._using(inode):
            for page in inode.mapping.resident_range(first, first + count):
                data = page.data
                if page.mapping is not inode.mapping or data is None or not page.uptodate:
                    continue
                if page.dirty or page.writeback:
                    continue
                try:
                    new = await replace_page_cache_page(page, bytes(data))
                except OSError:
                    continue  # it became busy, or left, while we waited for its lock
                self._own(new, AuthSys(), "replace")
                replaced += 1
        return replaced

    async def _readpage(self, file: NfsdFile, page: Page) -> None:
        await self._fill(file, [PageRun.of(page)])

    def _readahead(self, rac: ReadaheadControl) -> None:
        assert isinstance(rac.file, NfsdFile)
        file = rac.file
        file.inode.users += 1  # the pages are locked from now on, so the inode may not be evicted
        self._spawn(self._fill_and_put(file, rac.take_runs()))

    async def _fill_and_put(self, file: NfsdFile, runs: list[PageRun]) -> None:
        try:
            with suppress(OSError):  # remembered by each page, and found by whoever waits for it
                await self._fill(file, runs)
        finally:
            self._put(file.inode)

    async def _fill(self, file: NfsdFile, runs: list[PageRun]) -> None:
        """Read contiguous locked pages in one piece; unlocks them in any case. Raises OSError."""
        inode = file.inode
        storage = inode.export.storage
        pos = runs[0].index << PAGE_SHIFT
        try:
            changed_ns = max(inode.seen[1], inode.disk_ctime_ns)
            if storage.shared and storage.now_ns() - changed_ns < 2 * storage.granule_ns:
                inode.racy_until_ns = changed_ns + 2 * storage.granule_ns
            pieces = await storage.readv(inode.key, pos, [run.nr << PAGE_SHIFT for run in runs])
            self.stats.storage_reads += 1
            self.stats.storage_read_bytes += sum(map(len, pieces))
        except BaseException as failure:
            for run in runs:
                if isinstance(failure, OSError):
                    run.mark_error()
                run.unlock()
            raise
        for run, data in zip(runs, pieces, strict=True):
            run.fill(data)
            run.own(self._creds.new_fill_requests(file.cred, "read", run.nr))
            run.mark_uptodate_and_unlock()

    # --- the hook -------------------------------------------------------------------------------------------------

    def _own(self, page: Page, cred: AuthSys, site: str) -> None:
        if not page.owns:
            page.own(self._creds.new_fill_request(cred, site))

    def _freepage(self, page: Page) -> None:
        page.release()

    # --- writing --------------------------------------------------------------------------------------------------

    async def write(
        self, export: Export, key: Key, attributes: Fattr3, offset: int, data: Data, stable: StableHow, cred: AuthSys
    ) -> int:
        """Write, and if it is to be stable, on to the storage. Returns the bytes written. Raises OSError.

        A write that fails, as on a full disk, makes clients send again what they have not committed
        (fs/nfsd/vfs.c:nfsd_vfs_write).
        """
        inode = self._inode(export, key, attributes)
        with self._using(inode):
            async with inode.lock:
                if inode.gone:
                    raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
                if inode.foreign or inode.racy_until_ns:
                    await self._drop_stale(inode)
                try:
                    await self._reserve(export, key, offset, len(data), cred)
                    self.changed(export, key)  # reserving may move ctime on disk
                    now = export.storage.now_ns()
                    inode.overlay = (now, now)
                    written = await generic_perform_write(inode.file_for(cred), offset, data)
                except OSError:
                    self._wb_failed()
                    raise
            if stable is not StableHow.UNSTABLE:
                await self._write_and_sync(inode, offset, offset + written)
            return written

    async def _reserve(self, export: Export, key: Key, offset: int, count: int, cred: AuthSys) -> None:
        """Make sure that the pages of the range can be written later: COMMIT cannot say NOSPC. Raises ENOSPC, EDQUOT.

        Whole pages, because whole pages are written. Where the storage can only compare what is free with what will be
        needed (`Storage.reserves` is False), what is unwritten counts as needed, although it may lie on blocks that the
        files have already: before refusing, it is written, and then it is known.
        """
        storage = export.storage
        start = offset - offset % PAGE_SIZE
        end = min(max(-(-(offset + count) // PAGE_SIZE) * PAGE_SIZE, 0), max(storage.max_file_size, offset + count))
        try:
            storage.reserve(key, start, end - start, self._unwritten_bytes(), cred.uid)
        except OSError as failure:
            if storage.reserves or failure.errno != errno.ENOSPC or not self._unwritten_bytes():
                raise
            await self.sync()
            storage.reserve(key, start, end - start, self._unwritten_bytes(), cred.uid)

    def _unwritten_bytes(self) -> int:
        return (self.bdi.nr_dirty + self.bdi.nr_writeback) << PAGE_SHIFT

    async def _write_end(
        self, file: NfsdFile, mapping: AddressSpace, pos: int, length: int, copied: int, page: Page
    ) -> int:
        self._own(page, file.cred, "write")
        return await simple_write_end(file, mapping, pos, length, copied, page)

    async def commit(self, export: Export, key: Key, offset: int = 0, count: int = 0) -> None:
        """Return when the range (``count`` 0: to the end) is on stable storage. Raises what its writing failed with."""
        inode = self._inodes.get((export.id, key))
        if inode is None:
            if export.sync:
                await export.storage.fsync(key)
            return
        with self._using(inode):
            await self._write_and_sync(inode, offset, offset + count if count else None)

    async def _write_and_sync(self, inode: Inode, start: int, end: int | None) -> None:
        await do_writepages(inode.mapping, WritebackControl(True, start, end))
        await wait_on_page_writeback_range(inode.mapping, start, end)
        failed, inode.wb_err_seen = inode.mapping.wb_err.check_and_advance(inode.wb_err_seen)
        if failed:
            raise OSError(failed, os.strerror(failed))
        if inode.export.sync:
            await self._fsync(inode)

    async def _fsync(self, inode: Inode) -> None:
        """Return when everything that is written now is on disk. Raises what that failed with.

        An fsync under way may have begun before our data came. It is waited for even if nothing came since: what it is
        about is not on disk yet.
        """
        wanted = inode.synced is not True
        if inode.syncing is not None:
            await asyncio.shield(inode.syncing)
            if not wanted:
                return
        if inode.syncing is None:
            if inode.synced is True:
                return  # others came in between, began anew and have ended
            inode.synced = True
            inode.syncing = asyncio.get_running_loop().create_task(self._sync_file(inode))
        await asyncio.shield(inode.syncing)

    async def _sync_file(self, inode: Inode) -> None:
        self.stats.storage_syncs += 1
        try:
            await inode.export.storage.fsync(inode.key)
        except OSError:
            self._wb_failed()
            raise
        finally:
            inode.syncing = None

    async def _writepages(self, mapping: AddressSpace, wbc: WritebackControl) -> None:
        """Write the range's dirty pages, contiguous ones in one piece. Errors are kept in ``wb_err``, as in Linux."""
        inode = mapping.host
        assert isinstance(inode, Inode)
        batch: list[Page] = []

        async def writepage(page: Page, wbc: WritebackControl) -> None:
            if batch and (batch[-1].index + 1 != page.index or len(batch) >= MAX_WRITE_PAGES):
                await self._write_batch(inode, batch)
            set_page_writeback(page)
            page.unlock()
            batch.append(page)

        with self._using(inode):
            try:
                await write_cache_pages(mapping, wbc, writepage)
            finally:
                await self._write_batch(inode, batch)

    async def _write_batch(self, inode: Inode, batch: list[Page]) -> None:
        """Write contiguous pages that are under writeback, and end it. Empties ``batch``."""
        if not batch:
            return
        pages, batch[:] = list(batch), []
        start = pages[0].index << PAGE_SHIFT
        length = min(len(pages) << PAGE_SHIFT, inode.i_size - start)
        times = inode.overlay
        inode.io += 1
        try:
            if length > 0:
                data = b"".join([page.data for page in pages if page.data is not None])
                assert len(data) == len(pages) * PAGE_SIZE
                await inode.export.storage.write(inode.key, start, memoryview(data)[:length], times)
                self.stats.storage_writes += 1
                self.stats.storage_write_bytes += length
                inode.synced = False
        except OSError as failure:
            inode.mapping.wb_err.set(failure.errno or errno.EIO)
            if not inode.gone:
                self._wb_failed()
        finally:
            inode.io -= 1
            for page in pages:
                end_page_writeback(page)
            self._agree(inode, inode.overlay)

    # --- size -----------------------------------------------------------------------------------------------------

    async def truncate(self, export: Export, key: Key, size: int) -> None:
        """SETATTR of the size: i_size first, then the pages beyond it, then the storage, as the kernel's setattr."""
        inode = self._inodes.get((export.id, key))
        if inode is None:
            await export.storage.truncate(key, size)
            return
        with self._using(inode):
            async with inode.lock:
                if inode.foreign:
                    await self._drop_stale(inode)
                before, inode.i_size = inode.i_size, size
                inode.io += 1
                try:
                    await truncate_pagecache(inode.mapping, size)
                    await export.storage.truncate(key, size)
                    inode.synced = False
                except OSError:
                    inode.i_size = before
                    raise
                finally:
                    inode.io -= 1
                    if not inode.io:
                        inode.overlay = None
                    self._agree(inode, None)
                if inode.io:
                    now = export.storage.now_ns()
                    inode.overlay = (now, now)

    # --- the whole ------------------------------------------------------------------------------------------------

    async def sync(self) -> None:
        """sync(2): return when nothing is unwritten. What fails is reported to whoever commits."""
        for inode in list(self._inodes.values()):
            if inode.gone or not (inode.synced is False or inode.mapping.dirty_tags or inode.mapping.writeback_tags):
                continue
            with self._using(inode), suppress(OSError):
                await do_writepages(inode.mapping, WritebackControl(True))
                await wait_on_page_writeback_range(inode.mapping)
                await self._fsync(inode)

    def drop_caches(self, what: int) -> None:
        if what & 1:
            self.cache.drop_pagecache()
        if what & 2:
            self._shrink_inodes(with_pages=False)

    async def crash(self) -> None:
        """Forget everything that the storage does not know, as a machine that loses power does. No call may be open."""
        await self.quiesce()
        for inode in list(self._inodes.values()):
            assert not inode.users, f"{inode.audit_name} is in use"
            self._forget(inode)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def quiesce(self) -> None:
        """Wait for readahead under way."""
        while self._tasks:
            tasks = list(self._tasks)
            await asyncio.gather(*tasks)
            # Since Python 3.12 gathering what has ended takes no turn of the loop, and their own callbacks none either.
            self._tasks.difference_update(tasks)
