"""Changing a file's attributes, and what the client concludes from doing so itself (nfs_setattr).

An own SETATTR drops the file's cached data at the next first open. Nobody planned it: the reply is applied twice, the
second time it is "not newer", and its before and after are remembered as a gap. Linux 6.1 does so, so this does.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from freepage import truncate_pagecache
from freepage_client.nfs import nfs3proc
from freepage_client.nfs.acl import zap_acl_cache
from freepage_client.nfs.errors import os_error
from freepage_client.nfs.inode import (
    INVALID_ACCESS,
    INVALID_ACL,
    INVALID_ATIME,
    INVALID_BLOCKS,
    INVALID_CHANGE,
    INVALID_CTIME,
    INVALID_DATA,
    INVALID_MTIME,
    INVALID_SIZE,
)
from freepage_client.nfs.write import sync_inode
from freepage_proto.nfs3 import SET_TO_SERVER_TIME, Sattr3

if TYPE_CHECKING:
    from freepage_client.nfs.cred import Credential
    from freepage_client.nfs.fattr import NfsFattr
    from freepage_client.nfs.inode import NfsInode


@dataclass(frozen=True, slots=True)
class Iattr:
    """What a system call wants changed (struct iattr); None leaves alone. Times in ns or SET_TO_SERVER_TIME."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None

    def changes_something(self) -> bool:
        return any(
            value is not None for value in (self.mode, self.uid, self.gid, self.size, self.atime_ns, self.mtime_ns)
        )

    def sattr3(self) -> Sattr3:
        mode = None if self.mode is None else self.mode & 0o7777
        return Sattr3(mode, self.uid, self.gid, self.size, self.atime_ns, self.mtime_ns)


async def setattr_inode(inode: NfsInode, iattr: Iattr, cred: Credential) -> None:
    """Set attributes on the server and here. Dirty data go out first. Raises OSError.

    A size equal to the current one is no change; if nothing else is wanted no call is made (truncate to the same
    size), but a truncation that also touches the times is sent (ftruncate to the same size).
    """
    inode.server.stats.events["vfssetattr"] += 1
    if iattr.size is not None and iattr.size > max(inode.i_size, inode.server.maxfilesize):
        raise os_error(errno.EFBIG)  # inode_newsize_ok
    if iattr.size is not None and iattr.size == inode.i_size:
        iattr = replace(iattr, size=None)
    if not iattr.changes_something():
        return
    if inode.is_reg:
        await sync_inode(inode)
    fattr = await nfs3proc.setattr_(inode, iattr.sattr3(), cred)
    await setattr_update_inode(inode, iattr, fattr)
    if inode.cache_validity & INVALID_ACL:
        zap_acl_cache(inode)
    inode.refresh(fattr)


async def setattr_update_inode(inode: NfsInode, iattr: Iattr, fattr: NfsFattr) -> None:
    """Apply a successful SETATTR to the cached inode; shrink its page cache if the size went down."""
    fattr.gencount = inode.server.machine.next_gencount()
    inode.attr_gencount = fattr.gencount
    if iattr.size is not None:
        inode.set_cache_invalid(INVALID_MTIME | INVALID_BLOCKS)
        inode.server.stats.events["setattrtrunc"] += 1
        await _vmtruncate(inode, iattr.size)
    attr = fattr.attr
    if iattr.mode is not None or iattr.uid is not None or iattr.gid is not None:
        inode.cache_validity &= ~INVALID_CTIME
        if iattr.mode is not None:
            inode.i_mode = (inode.i_mode & ~0o7777) | (iattr.mode & 0o7777)
        if iattr.uid is not None:
            inode.i_uid = iattr.uid
        if iattr.gid is not None:
            inode.i_gid = iattr.gid
        _take_ctime(inode, fattr)
        inode.set_cache_invalid(INVALID_ACCESS | INVALID_ACL)
    if iattr.atime_ns is not None:
        inode.cache_validity &= ~(INVALID_ATIME | INVALID_CTIME)
        if attr is not None:
            inode.atime_ns = attr.atime_ns
        elif iattr.atime_ns != SET_TO_SERVER_TIME:
            inode.atime_ns = iattr.atime_ns
        else:
            inode.set_cache_invalid(INVALID_ATIME)
        _take_ctime(inode, fattr)
    if iattr.mtime_ns is not None:
        inode.cache_validity &= ~(INVALID_MTIME | INVALID_CTIME)
        if attr is not None:
            inode.mtime_ns = attr.mtime_ns
        elif iattr.mtime_ns != SET_TO_SERVER_TIME:
            inode.mtime_ns = iattr.mtime_ns
        else:
            inode.set_cache_invalid(INVALID_MTIME)
        _take_ctime(inode, fattr)
    inode.update_from_own_setattr(fattr)


def _take_ctime(inode: NfsInode, fattr: NfsFattr) -> None:
    if fattr.attr is not None:
        inode.ctime_ns = fattr.attr.ctime_ns
    else:
        inode.set_cache_invalid(INVALID_CHANGE | INVALID_CTIME)


async def _vmtruncate(inode: NfsInode, size: int) -> None:
    inode.i_size = size
    if size == 0:
        inode.cache_validity &= ~INVALID_DATA
        inode.clear_gaps()
    inode.cache_validity &= ~INVALID_SIZE
    await truncate_pagecache(inode.mapping, size)
