"""The client's inode: cached attributes, how long they may be trusted, and when cached data must go (fs/nfs/inode.c).

Three things decide what a reply may do. *Generation*: attributes are "newer" when their request was prepared after the
inode's last full update. *Weak cache consistency*: a reply that says what the file looked like before the operation
lets the client take the change as its own. *Gaps*: while this client has the file open for writing, changes it cannot
explain are remembered, and only when the file is next opened with nobody else holding it open do they drop the data.
"""

from __future__ import annotations

import asyncio
import stat
from enum import IntFlag
from typing import TYPE_CHECKING

from freepage import PAGE_SHIFT, PAGE_SIZE, AddressSpace, Page
from freepage_client.nfs.fattr import NfsFattr, change_attribute
from freepage_client.timer import seconds_at
from freepage_proto.nfs3 import Fattr3, FileHandle, FType3

if TYPE_CHECKING:
    from freepage_client.nfs.access import AccessEntry
    from freepage_client.nfs.dcache import Dentry
    from freepage_client.nfs.lock import FileLocks
    from freepage_client.nfs.open_context import OpenContext
    from freepage_client.nfs.pagelist import WriteRequest
    from freepage_client.nfs.readdir import OpenDirContext
    from freepage_client.nfs.super import NfsServer


class Validity(IntFlag):
    """nfsi->cache_validity (include/linux/nfs_fs.h): each bit says what may no longer be trusted."""

    INVALID_DATA = 1 << 1
    INVALID_ATIME = 1 << 2
    INVALID_ACCESS = 1 << 3
    INVALID_ACL = 1 << 4
    INVALID_CHANGE = 1 << 8
    INVALID_CTIME = 1 << 9
    INVALID_MTIME = 1 << 10
    INVALID_SIZE = 1 << 11
    INVALID_OTHER = 1 << 12
    DATA_INVAL_DEFER = 1 << 13
    INVALID_BLOCKS = 1 << 14
    INVALID_NLINK = 1 << 16
    INVALID_MODE = 1 << 17


# Plain integers: these are tested on every system call, and IntFlag arithmetic costs a microsecond.
INVALID_DATA = int(Validity.INVALID_DATA)
INVALID_ATIME = int(Validity.INVALID_ATIME)
INVALID_ACCESS = int(Validity.INVALID_ACCESS)
INVALID_ACL = int(Validity.INVALID_ACL)
INVALID_CHANGE = int(Validity.INVALID_CHANGE)
INVALID_CTIME = int(Validity.INVALID_CTIME)
INVALID_MTIME = int(Validity.INVALID_MTIME)
INVALID_SIZE = int(Validity.INVALID_SIZE)
INVALID_OTHER = int(Validity.INVALID_OTHER)
DATA_INVAL_DEFER = int(Validity.DATA_INVAL_DEFER)
INVALID_BLOCKS = int(Validity.INVALID_BLOCKS)
INVALID_NLINK = int(Validity.INVALID_NLINK)
INVALID_MODE = int(Validity.INVALID_MODE)
INVALID_ATTR = (
    INVALID_CHANGE | INVALID_CTIME | INVALID_MTIME | INVALID_SIZE | INVALID_OTHER | INVALID_NLINK | INVALID_MODE
)

MAX_OOO_GAPS = 16

_TYPE_TO_MODE = {
    FType3.REG: stat.S_IFREG,
    FType3.DIR: stat.S_IFDIR,
    FType3.BLK: stat.S_IFBLK,
    FType3.CHR: stat.S_IFCHR,
    FType3.LNK: stat.S_IFLNK,
    FType3.SOCK: stat.S_IFSOCK,
    FType3.FIFO: stat.S_IFIFO,
}


class NfsInode:
    """One file as this client knows it. Times in ns; ``read_cache_jiffies`` and ``attrtimeo`` in ticks of 1/250 s."""

    def __init__(self, server: NfsServer, fh: FileHandle, fattr: NfsFattr) -> None:
        attr = fattr.attr
        assert attr is not None, "an inode is made from a reply that had attributes"
        self.server = server
        self.fh = fh
        self.type = attr.type
        self.fileid = attr.fileid
        self.i_ino = attr.fileid
        self.is_reg = attr.type is FType3.REG
        self.is_dir = attr.type is FType3.DIR
        self.is_lnk = attr.type is FType3.LNK

        self.i_mode = _TYPE_TO_MODE[attr.type] | (attr.mode & 0o7777)
        self.i_nlink = attr.nlink
        self.dead = False
        """A directory that was removed from here: nothing is looked up or listed in it any more (S_DEAD)."""
        self.i_uid = attr.uid
        self.i_gid = attr.gid
        self.i_size = attr.size
        self.used = attr.used
        self.rdev = attr.rdev
        self.atime_ns = attr.atime_ns
        self.mtime_ns = attr.mtime_ns
        self.ctime_ns = attr.ctime_ns
        self.change = change_attribute(attr.ctime_ns)

        self.cache_validity = 0
        self.stale = False
        self.read_cache_jiffies = fattr.time_start
        self.attr_gencount = fattr.gencount
        self.attrtimeo = self.min_attrtimeo
        self.attrtimeo_timestamp = server.jiffies()
        self.invalidating: asyncio.Future[None] | None = None
        """not None while somebody drops the cached pages"""
        self.direct_io = False
        """the last to read or write did so with O_DIRECT (NFS_INO_ODIRECT)"""
        self.readable_until_s = 0.0
        """Until when cached data may be read, in the clock's seconds, if ``cache_validity`` allows it.

        In the past while it may not be read for another reason; see ``note_readable``.
        """
        self.note_readable()

        self.cache_change_attribute = 0
        """Directories: moves by 2 whenever somebody else may have changed the names; dentries compare against it."""
        self.cookieverf = bytes(8)
        self.ooo: list[tuple[int, int]] = []
        """Change attributes that this client cannot explain, as (start, end) gaps; see ``_ooo_merge``."""

        self.open_files: list[OpenContext] = []
        self.open_dirs: list[OpenDirContext] = []
        self.nr_writers = 0
        """i_writecount: open files of this inode that may write."""
        self.access_cache: dict[object, AccessEntry] = {}
        self.acl_cached = False
        self.dentries: list[Dentry] = []
        self.last_name: str | None = None
        """Where it was last known when its last dentry went; None while it has one, and if it never had."""
        self.count = 0
        """i_count: dentries and others that keep this inode; see dcache."""
        self.locks: FileLocks | None = None

        self.write_requests: dict[int, WriteRequest] = {}
        """Attached write requests by page index: nrequests is its length."""
        self.commit_list: dict[WriteRequest, None] = {}
        self.commit_rpcs_out = 0
        self.commit_requests_out = 0
        """requests that the COMMITs under way carry"""
        self.commit_waiters: list[asyncio.Future[None]] = []
        self.redirtied_pages = 0
        self.silly_removals = 0
        """Directories: .nfs files whose REMOVE is on its way; RMDIR waits in ``removal_waiters`` (rmdir_sem)."""
        self.removal_waiters: list[asyncio.Future[None]] = []
        self.write_lock: asyncio.Lock | None = None
        """i_rwsem of a regular file or directory, made when first needed; writers and name changes take it."""

        self.mapping = AddressSpace(server.machine.cache, self, server.address_space_operations(self), server.bdi)

    def lock(self) -> asyncio.Lock:
        """i_rwsem, held exclusively by writers of a file and by who changes a directory's names."""
        if self.write_lock is None:
            self.write_lock = asyncio.Lock()
        return self.write_lock

    # What the page cache asks of a mapping's host.

    @property
    def audit_name(self) -> str:
        """A path for the audit: a name this client knows it by, the last one it had, else its number."""
        for dentry in self.dentries:
            return self.server.path_of(dentry)
        if self.last_name is not None:
            return f"{self.last_name} (deleted)" if self.i_nlink == 0 else self.last_name
        return f"{self.server.source}[fileid {self.fileid}]"

    def __repr__(self) -> str:
        return f"<NfsInode {self.fileid} {self.type.name} size={self.i_size} validity={self.cache_validity:#x}>"

    # Time-outs.

    @property
    def min_attrtimeo(self) -> int:
        return self.server.acdirmin if self.is_dir else self.server.acregmin

    @property
    def max_attrtimeo(self) -> int:
        return self.server.acdirmax if self.is_dir else self.server.acregmax

    def attribute_cache_expired(self) -> bool:
        """True unless now lies in [read_cache_jiffies, read_cache_jiffies + attrtimeo)."""
        now = self.server.jiffies()
        return not self.read_cache_jiffies <= now < self.read_cache_jiffies + self.attrtimeo

    def check_cache_invalid(self, flags: int) -> bool:
        return bool(self.cache_validity & flags) or self.attribute_cache_expired()

    def mapping_needs_revalidation(self) -> bool:
        return self.check_cache_invalid(INVALID_CHANGE) or self.stale

    def note_readable(self) -> None:
        """``read_cache_jiffies``, ``attrtimeo``, ``stale``, ``invalidating`` or ``direct_io`` has changed."""
        if self.stale or self.invalidating is not None or self.direct_io:
            self.readable_until_s = -1.0
        else:
            self.readable_until_s = seconds_at(self.read_cache_jiffies + self.attrtimeo)

    # Invalidation.

    def set_cache_invalid(self, flags: int) -> None:
        """Mark what may not be trusted. Data of a file without pages need no mark."""
        flags |= self.cache_validity
        nrpages = self.mapping.nrpages
        if not nrpages:
            flags &= ~INVALID_DATA
        self.cache_validity = flags
        if not nrpages or flags & INVALID_DATA:
            self.clear_gaps()

    def zap_caches(self) -> None:
        """Trust nothing any more: attributes, data, ACCESS answers (nfs_zap_caches)."""
        self.server.stats.events["attrinvalidates"] += 1
        self.attrtimeo = self.min_attrtimeo
        self.attrtimeo_timestamp = self.server.jiffies()
        self.note_readable()
        flags = INVALID_ATTR | INVALID_ACCESS | INVALID_ACL
        if self.is_reg or self.is_dir or self.is_lnk:
            flags |= INVALID_DATA
        self.set_cache_invalid(flags)

    def zap_mapping(self) -> None:
        if self.mapping.nrpages:
            self.set_cache_invalid(INVALID_DATA)

    def set_stale(self) -> None:
        """The server does not know the handle any more; sticky for anything but a directory's name checks."""
        self.stale = True
        self.zap_caches()

    def mark_for_revalidate(self) -> None:
        """Ask afresh about everything that another name or a lost file may have changed (nfs_mark_for_revalidate)."""
        self.cache_validity |= INVALID_ACCESS | INVALID_ACL | INVALID_CHANGE | INVALID_CTIME | INVALID_SIZE
        if self.is_dir:
            self.cache_validity |= INVALID_DATA

    def force_lookup_revalidate(self) -> None:
        """Every name in this directory must be looked up again before it is trusted."""
        self.cache_change_attribute += 2

    def new_gencount_barrier(self) -> None:
        """Make every reply to a request already on its way count as old."""
        self.attr_gencount = self.server.machine.next_gencount()

    def page_length(self, page: Page) -> int:
        """How many of the page's bytes lie before the end of the file (nfs_page_length)."""
        return min(max(self.i_size - (page.index << PAGE_SHIFT), 0), PAGE_SIZE)

    # Writers.

    def have_writebacks(self) -> bool:
        """Are there write requests, dirty, under way or waiting for COMMIT (nfs_have_writebacks)?"""
        return bool(self.write_requests)

    def _has_buffered_writers(self) -> bool:
        return self.nr_writers > 0 and self.is_reg and bool(self.open_files) and not self.direct_io

    # The gap list.

    def clear_gaps(self) -> None:
        self.cache_validity &= ~DATA_INVAL_DEFER
        self.ooo = []

    def has_gaps(self) -> bool:
        return bool(self.cache_validity & DATA_INVAL_DEFER) or bool(self.ooo)

    def _ooo_merge(self, start: int, end: int) -> None:
        """Add the gap [start, end), joining it to gaps it touches; one that closes itself vanishes."""
        if self.cache_validity & DATA_INVAL_DEFER:
            return
        gaps = self.ooo
        i = 0
        while i < len(gaps):
            gap_start, gap_end = gaps[i]
            if end == gap_start:
                end = gap_end
            elif start == gap_end:
                start = gap_start
            else:
                i += 1
                continue
            gaps[i] = gaps[-1]
            gaps.pop()
            i = 0
        if start == end:
            return
        if len(gaps) >= MAX_OOO_GAPS:
            self.cache_validity |= DATA_INVAL_DEFER
            self.ooo = []
            return
        gaps.append((start, end))

    def _ooo_record(self, fattr: NfsFattr) -> None:
        """A reply that came out of order explains the change from its before to its after."""
        change = fattr.change
        if change is not None and fattr.pre_change is not None:
            self._ooo_merge(change, fattr.pre_change)

    # Attributes from replies.

    def refresh(self, fattr: NfsFattr) -> bool:
        """Take a reply's attributes: all of them when it is newer, only doubts when it is not (nfs_refresh_inode).

        False when the reply describes another file.
        """
        if fattr.attr is None:
            return True
        if fattr.gencount > self.attr_gencount:
            return self._update(fattr)
        self._ooo_record(fattr)
        return self._check_attributes(fattr)

    def update_from_own_setattr(self, fattr: NfsFattr) -> None:
        """The first of the two times that an own SETATTR's reply is applied: in full."""
        if fattr.attr is not None:
            self._update(fattr)

    def post_op_update(self, fattr: NfsFattr) -> None:
        """After an own operation that changed the object: doubt first, then believe the reply."""
        fattr.gencount = self.server.machine.next_gencount()
        self._post_op_update(fattr, INVALID_CHANGE | INVALID_CTIME)

    def post_op_update_force_wcc(self, fattr: NfsFattr) -> None:
        """After an own WRITE. A reply without its before is taken as if nobody else had changed the file."""
        if fattr.attr is None or fattr.gencount <= self.attr_gencount:
            self._ooo_record(fattr)
            fattr.clear_pre()
        else:
            if fattr.pre_change is None:
                fattr.pre_change = self.change
            if fattr.pre_ctime_ns is None:
                fattr.pre_ctime_ns = self.ctime_ns
            if fattr.pre_mtime_ns is None:
                fattr.pre_mtime_ns = self.mtime_ns
            if fattr.pre_size is None and fattr.size_valid:
                fattr.pre_size = self.i_size
        self._post_op_update(fattr, INVALID_CHANGE | INVALID_CTIME | INVALID_MTIME | INVALID_BLOCKS)

    def _post_op_update(self, fattr: NfsFattr, invalid: int) -> None:
        if self.is_dir:
            invalid |= INVALID_DATA
        self.set_cache_invalid(invalid)
        self.refresh(fattr)

    def _wcc_update(self, fattr: NfsFattr, attr: Fattr3) -> None:
        if fattr.pre_change == self.change:
            self.change = change_attribute(attr.ctime_ns)
            if self.is_dir:
                self.set_cache_invalid(INVALID_DATA)
        if fattr.pre_ctime_ns is not None and fattr.pre_ctime_ns == self.ctime_ns:
            self.ctime_ns = attr.ctime_ns
        if fattr.pre_mtime_ns is not None and fattr.pre_mtime_ns == self.mtime_ns:
            self.mtime_ns = attr.mtime_ns
        if fattr.size_valid and fattr.pre_size == self.i_size and not self.have_writebacks():
            self.i_size = attr.size

    def _check_attributes(self, fattr: NfsFattr) -> bool:
        """An old reply changes nothing, but what differs from the cache is asked for again (G.5)."""
        attr = fattr.attr
        assert attr is not None
        if attr.fileid != self.fileid or attr.type is not self.type:
            return False
        invalid = 0
        if not self._has_buffered_writers():
            if change_attribute(attr.ctime_ns) != self.change:
                invalid |= INVALID_CHANGE
            if attr.mtime_ns != self.mtime_ns:
                invalid |= INVALID_MTIME
            if attr.ctime_ns != self.ctime_ns:
                invalid |= INVALID_CTIME
            if fattr.size_valid and attr.size != self.i_size:
                invalid |= INVALID_SIZE
        if attr.mode & 0o7777 != self.i_mode & 0o7777:
            invalid |= INVALID_MODE
        if attr.uid != self.i_uid or attr.gid != self.i_gid:
            invalid |= INVALID_OTHER
        if attr.nlink != self.i_nlink:
            invalid |= INVALID_NLINK
        if attr.atime_ns != self.atime_ns:
            invalid |= INVALID_ATIME
        if invalid:
            self.set_cache_invalid(invalid)
        self.read_cache_jiffies = fattr.time_start
        self.note_readable()
        return True

    def _update(self, fattr: NfsFattr) -> bool:
        """Believe a newer reply, and conclude from it what else may not be believed (nfs_update_inode)."""
        attr = fattr.attr
        assert attr is not None
        if attr.fileid != self.fileid or attr.type is not self.type:
            self.set_stale()
            return False
        have_writers = self._has_buffered_writers()
        self.read_cache_jiffies = fattr.time_start
        saved_validity = self.cache_validity
        self.cache_validity &= ~(INVALID_ATTR | INVALID_ATIME | INVALID_BLOCKS)
        if fattr.pre_change is not None:
            self._wcc_update(fattr, attr)

        invalid = 0
        changed = False
        change = change_attribute(attr.ctime_ns)
        if not have_writers and len(self.ooo) == 1 and self.ooo[0][1] == self.change:
            # The one gap left was never explained: step back over it, so that it shows as a foreign change now.
            self.change = self.ooo[0][0]
            self.ooo = []
        if self.change != change:
            if have_writers:
                self._ooo_record(fattr)
                self._ooo_merge(self.change, change)
            else:
                invalid |= INVALID_DATA | INVALID_ACCESS | INVALID_ACL
                if self.is_dir:
                    self.force_lookup_revalidate()
                changed = True
            self.change = change
        self.mtime_ns = attr.mtime_ns
        self.ctime_ns = attr.ctime_ns
        if not fattr.size_valid:
            self.cache_validity |= INVALID_SIZE if changed else saved_validity & INVALID_SIZE
        elif attr.size != self.i_size and (not self.have_writebacks() or attr.size > self.i_size):
            self.i_size = attr.size
            if not have_writers:
                invalid |= INVALID_DATA
        self.atime_ns = attr.atime_ns
        if self.i_mode & 0o7777 != attr.mode & 0o7777:
            self.i_mode = (self.i_mode & ~0o7777) | (attr.mode & 0o7777)
            invalid |= INVALID_ACCESS | INVALID_ACL
        if self.i_uid != attr.uid or self.i_gid != attr.gid:
            self.i_uid, self.i_gid = attr.uid, attr.gid
            invalid |= INVALID_ACCESS | INVALID_ACL
        self.i_nlink = attr.nlink
        self.used = attr.used
        self._update_timeout(fattr, changed)
        self.note_readable()
        if not (self.is_reg or self.is_dir or self.is_lnk):
            invalid &= ~INVALID_DATA
        self.set_cache_invalid(invalid)
        return True

    def _update_timeout(self, fattr: NfsFattr, changed: bool) -> None:
        """Back to the minimum after a foreign change; doubled when the last update is a whole time-out old (G.3)."""
        now = self.server.jiffies()
        if changed:
            self.server.stats.events["attrinvalidates"] += 1
            self.attrtimeo = self.min_attrtimeo
            self.attrtimeo_timestamp = now
            self.new_gencount_barrier()
            return
        if not self.attrtimeo_timestamp <= now < self.attrtimeo_timestamp + self.attrtimeo:
            self.attrtimeo = min(self.attrtimeo * 2, self.max_attrtimeo)
        self.attrtimeo_timestamp = now
        self.attr_gencount = max(self.attr_gencount, fattr.gencount)
