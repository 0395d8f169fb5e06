"""Regular files: open, read, write, flush, close, and the operations table behind their pages (fs/nfs/file.c)."""

from __future__ import annotations

import contextlib
import errno
import math
import os
from typing import TYPE_CHECKING, cast

from freepage import (
    PAGE_SHIFT,
    PAGE_SIZE,
    AddressSpace,
    AddressSpaceOperations,
    File,
    Page,
    filemap_dirty_page,
    filemap_fdatawrite_range,
    filemap_read,
    find_or_create_page,
    generic_perform_write,
    invalidate_inode_pages2_range,
    read_buffers_nowait,
    read_nowait,
)
from freepage.slab import IN_USE
from freepage_client.nfs import direct
from freepage_client.nfs.errors import os_error
from freepage_client.nfs.inode import INVALID_CHANGE, INVALID_DATA, INVALID_SIZE
from freepage_client.nfs.open_context import OpenContext
from freepage_client.nfs.read import readahead, readpage
from freepage_client.nfs.revalidate import (
    clear_invalid_mapping,
    force_revalidate_inode,
    revalidate_inode,
    revalidate_mapping,
)
from freepage_client.nfs.write import (
    cancel_request,
    commit_inode,
    filemap_write_and_wait,
    flush_incompatible,
    wb_all,
    wb_page,
    write_end,
    write_inode,
    writepage,
    writepages,
)

if TYPE_CHECKING:
    from freepage_client.nfs.cred import Credential
    from freepage_client.nfs.dcache import Dentry
    from freepage_client.nfs.inode import NfsInode

UNREADABLE = INVALID_CHANGE | INVALID_DATA
"""What must not be in doubt when cached data are used."""

REPORTED_BY_WRITE = (errno.EDQUOT, errno.EFBIG, errno.ENOSPC)
"""The write errors that a later write(2) reports by itself; others wait for fsync or close."""


def _too_late() -> float:
    return math.inf


class NfsFile(File):
    """An open regular file. ``flags`` are open(2)'s, ``owner`` the descriptor table it was opened in."""

    def __init__(self, dentry: Dentry, flags: int, cred: Credential, owner: object) -> None:
        inode = dentry.inode
        assert inode is not None
        super().__init__(inode.mapping)
        self.inode: NfsInode = inode
        self.dentry = dentry
        self.flags = flags
        self.owner = owner
        access = flags & os.O_ACCMODE  # 3, neither of the three, is checked for both and allows neither
        self.may_read = access in (os.O_RDONLY, os.O_RDWR)
        self.may_write = access in (os.O_WRONLY, os.O_RDWR)
        self.context: OpenContext = OpenContext(
            inode.server.machine.cache.ledger, dentry, cred, may_read=self.may_read, may_write=self.may_write
        )
        self.direct = bool(flags & os.O_DIRECT)
        # One question less: what may not be answered from the cache finds it too late for its attributes.
        self.now = inode.server.machine.clock.now if self.may_read and not self.direct else _too_late
        self.bytes = inode.server.stats.bytes
        self.wb_err = inode.mapping.wb_err.sample()
        self.context.attach()
        if self.may_write:
            inode.nr_writers += 1

    @property
    def cred(self) -> Credential:
        return self.context.cred

    @property
    def dsync(self) -> bool:
        return bool(self.flags & os.O_DSYNC)

    @property
    def append(self) -> bool:
        return bool(self.flags & os.O_APPEND)

    # Opening and closing.

    @classmethod
    def open(cls, dentry: Dentry, flags: int, cred: Credential, owner: object) -> NfsFile:
        """nfs_file_open. Raises OSError(EINVAL) for O_APPEND with O_DIRECT."""
        assert dentry.inode is not None
        dentry.inode.server.stats.events["vfsopen"] += 1
        if flags & os.O_APPEND and flags & os.O_DIRECT:
            raise os_error(errno.EINVAL)
        return cls(dentry, flags, cred, owner)

    async def flush(self) -> None:
        """What every close(2) of a descriptor does first: a writer writes back and commits (nfs_file_flush).

        Raises OSError for an error that happened meanwhile, or before and nobody has seen yet.
        """
        inode = self.inode
        inode.server.stats.events["vfsflush"] += 1
        if not self.may_write:
            return
        since = inode.mapping.wb_err.sample()
        await wb_all(inode)
        error = inode.mapping.wb_err.check(since)
        if error:
            raise os_error(error)

    async def release(self) -> None:
        """The last descriptor is gone (nfs_file_release). A writer may owe the file a GETATTR."""
        inode, context = self.inode, self.context
        inode.server.stats.events["vfsrelease"] += 1
        context.file_open = False
        if context.error:
            await invalidate_inode_pages2_range(inode.mapping)
        try:
            if sum(context.references) == 1:
                context.detach()
                await self._close_context()
        finally:
            if self.may_write:
                inode.nr_writers -= 1
            context.put(IN_USE)

    async def _close_context(self) -> None:
        """Attributes that other replies left in doubt are settled now, so that the next open trusts the data."""
        inode = self.inode
        if (
            self.may_write
            and inode.mapping.nrpages
            and not inode.cache_validity & INVALID_DATA
            and not inode.open_files
            and inode.server.options.cto
        ):
            try:
                await revalidate_inode(inode, INVALID_CHANGE | INVALID_SIZE, self.cred)
            except OSError:
                return  # close does not report it; the next open will

    # Reading.

    def read_nowait(self, pos: int, count: int) -> bytes | None:
        """Answer from the cache without waiting for anybody; None if that cannot be done, or may not be.

        The shortest way that there is, because a hit takes no longer: what `NfsInode.mapping_needs_revalidation` asks
        is asked here, in one expression. Time does not run backwards, so only the end of the attributes' time counts.
        """
        inode = self.inode
        if inode.cache_validity & UNREADABLE or self.now() >= inode.readable_until_s:
            return None
        data = read_nowait(self, pos, count)
        if data is not None:
            self.bytes.normalread += len(data)
        return data

    def _is_readable(self) -> bool:
        """May what is cached be read without asking anybody?"""
        inode = self.inode
        return not inode.cache_validity & UNREADABLE and self.now() < inode.readable_until_s

    def read_buffers_nowait(self, pos: int, count: int) -> list[memoryview | bytearray | bytes] | None:
        """``read_nowait`` in pieces that need not be joined: they do not change any more."""
        if not self._is_readable():
            return None
        buffers = read_buffers_nowait(self, pos, count)
        if buffers is not None:
            self.bytes.normalread += sum(map(len, buffers))
        return buffers

    async def read(self, pos: int, count: int) -> bytes:
        """Up to ``count`` bytes from ``pos``; short at the end of the file. Raises OSError (nfs_file_read)."""
        if self.direct:
            return await direct.direct_read(self, pos, count)
        inode = self.inode
        if not self._is_readable():
            direct.start_io_buffered(inode)
            await revalidate_mapping(inode, self.cred)
        data = await filemap_read(self, pos, count)
        inode.server.stats.bytes.normalread += len(data)
        return data

    # Writing.

    async def write(self, pos: int, data: bytes | bytearray | memoryview) -> tuple[int, int]:
        """Write at ``pos``, at the end with O_APPEND; return (bytes written, position after them) (nfs_file_write).

        Raises OSError.
        """
        inode = self.inode
        async with inode.lock():
            if self.append:
                await self._revalidate_size()
                pos = inode.i_size
            if self.direct:
                count = await direct.direct_write(self, pos, self.within_limit(pos, data))
                if count and (self.dsync or inode.server.options.sync):
                    with contextlib.suppress(OSError):  # what other writes came to is for fsync and close to tell
                        await self.fsync(pos, pos + count)
                return count, pos + count
            if not self.append and pos > inode.i_size:
                await self._revalidate_size()
            await clear_invalid_mapping(inode)
            if self.append:
                pos = inode.i_size
            since = inode.mapping.wb_err.sample()
            direct.start_io_buffered(inode)
            data = self.within_limit(pos, data)
            if not len(data):
                return 0, pos
            written = await generic_perform_write(self, pos, data)
        inode.server.stats.bytes.normalwrite += written
        end = pos + written
        await self._after_write(pos, end)
        error = inode.mapping.wb_err.check(since)
        if error in REPORTED_BY_WRITE:
            await wb_all(inode)
            self._raise_new_error()
        return written, end

    def within_limit(self, pos: int, data: bytes | bytearray | memoryview) -> bytes | bytearray | memoryview:
        """What of ``data`` may stand at ``pos``: files end at s_maxbytes (generic_write_checks). Raises EFBIG."""
        limit = self.inode.server.maxfilesize
        if pos + len(data) <= limit or not len(data):
            return data
        if pos >= limit:
            raise os_error(errno.EFBIG)
        return memoryview(data)[: limit - pos]

    def copy_length(self, pos_in: int, target: NfsFile, pos_out: int, count: int) -> int:
        """How many of ``count`` bytes copy_file_range copies from here: up to the end of the file as it is known, which
        nobody asks the server about (generic_copy_file_checks).

        Raises OSError: EXDEV between superblocks, EFBIG, EINVAL when both ranges share bytes of one file.
        """
        inode, limit = self.inode, target.inode.server.maxfilesize
        if inode.server is not target.inode.server:
            raise os_error(errno.EXDEV)
        count = max(min(count, inode.i_size - pos_in), 0)
        if pos_out >= limit:
            raise os_error(errno.EFBIG)
        count = min(count, limit - pos_out)
        if inode is target.inode and pos_in < pos_out + count and pos_out < pos_in + count:
            raise os_error(errno.EINVAL)
        return count

    async def _after_write(self, start: int, end: int) -> None:
        options = self.inode.server.options
        if options.write_policy != "lazy":
            await filemap_fdatawrite_range(self.inode.mapping, start, end)
            if options.write_policy == "wait":
                await filemap_write_and_wait(self.inode, start, end)
        if self.dsync or options.sync:
            await self.fsync(start, end)

    async def _revalidate_size(self) -> None:
        inode = self.inode
        if self.direct or inode.check_cache_invalid(INVALID_SIZE):
            await force_revalidate_inode(inode, self.cred)

    def _raise_new_error(self) -> None:
        error, self.wb_err = self.inode.mapping.wb_err.check_and_advance(self.wb_err)
        if error:
            raise os_error(error)

    async def fsync(self, start: int = 0, end: int | None = None) -> None:
        """Write back bytes [start, end) and commit, until nothing had to be sent again (nfs_file_fsync).

        Raises OSError: each write error once for each open file.
        """
        inode = self.inode
        redirtied = inode.redirtied_pages
        while True:
            await filemap_write_and_wait(inode, start, end)
            self._raise_new_error()
            inode.server.stats.events["vfsfsync"] += 1
            await commit_inode(inode)
            self._raise_new_error()
            if inode.redirtied_pages == redirtied:
                return
            redirtied = inode.redirtied_pages

    async def size_for_seek(self) -> int:
        """The file's size as lseek from the end must see it (nfs_file_llseek)."""
        await self._revalidate_size()
        return self.inode.i_size


# The operations table.


def _wants_read_modify_write(file: NfsFile, page: Page, pos: int, length: int) -> bool:
    """Is reading the page before writing into it cheaper than what a partial page costs later?"""
    if page.uptodate or page.private is not None or not file.may_read:
        return False
    valid = file.inode.page_length(page)
    offset = pos & (PAGE_SIZE - 1)
    covers_all = not valid or (not offset and offset + length >= valid)
    return not covers_all


async def write_begin(file: NfsFile, mapping: AddressSpace, pos: int, length: int) -> Page:
    """A locked page, ready for the copy: written back if somebody else's, read first if that pays (nfs_write_begin)."""
    may_read_first = True
    while True:
        page = await find_or_create_page(mapping, pos >> PAGE_SHIFT)
        try:
            await page.wait_writeback()
            await flush_incompatible(file, page)
        except BaseException:
            page.unlock()
            raise
        if not may_read_first or not _wants_read_modify_write(file, page, pos, length):
            return page
        may_read_first = False
        await readpage(file, page)


def invalidatepage(page: Page, offset: int, length: int) -> None:
    """A whole page goes: its unsent write with it. Of a part nothing is forgotten (nfs_invalidate_folio)."""
    if offset == 0 and length >= PAGE_SIZE:
        cancel_request(page)


def releasepage(page: Page) -> bool:
    """May reclaim take the page? Not with a write request on it (nfs_release_folio)."""
    return page.private is None


def freepage(page: Page) -> None:
    """The page has left the cache: release the request that filled it, and with it its hold on the credential."""
    assert page.private is None, "a write request outlived its page"
    page.release()


async def launder_page(page: Page) -> None:
    """Write and commit one locked dirty page, which stays locked (nfs_launder_folio)."""
    assert page.mapping is not None
    await wb_page(cast("NfsInode", page.mapping.host), page)


def is_dirty_writeback(page: Page) -> tuple[bool, bool]:
    """(dirty, writeback) as reclaim should see the page: uncommitted data are one or the other."""
    assert page.mapping is not None
    inode = cast("NfsInode", page.mapping.host)
    if inode.commit_rpcs_out:
        return page.dirty, True
    return page.dirty or page.private is not None, page.writeback


FILE_OPERATIONS = AddressSpaceOperations(
    readpage=readpage,
    readahead=readahead,
    set_page_dirty=filemap_dirty_page,
    writepage=writepage,
    writepages=writepages,
    write_inode=write_inode,
    write_begin=write_begin,
    write_end=write_end,
    invalidatepage=invalidatepage,
    releasepage=releasepage,
    freepage=freepage,
    launder_page=launder_page,
    is_dirty_writeback=is_dirty_writeback,
)
