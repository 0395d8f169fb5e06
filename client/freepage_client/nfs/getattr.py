"""stat(2)'s view of an inode, and what must happen before it may be shown (fs/nfs/inode.c nfs_getattr)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freepage_client.nfs.dir import record_entry_cache_hit, record_entry_cache_miss
from freepage_client.nfs.inode import (
    INVALID_ATIME,
    INVALID_BLOCKS,
    INVALID_CHANGE,
    INVALID_CTIME,
    INVALID_MODE,
    INVALID_MTIME,
    INVALID_NLINK,
    INVALID_OTHER,
    INVALID_SIZE,
)
from freepage_client.nfs.revalidate import force_revalidate_inode
from freepage_client.nfs.write import filemap_write_and_wait

if TYPE_CHECKING:
    from freepage_client.nfs.cred import Credential
    from freepage_client.nfs.dcache import Dentry
    from freepage_client.nfs.inode import NfsInode

STAT_NEEDS = (
    INVALID_CHANGE
    | INVALID_CTIME
    | INVALID_MTIME
    | INVALID_SIZE
    | INVALID_NLINK
    | INVALID_MODE
    | INVALID_OTHER
    | INVALID_BLOCKS
)

READDIRPLUS_MIN_ACMAX = 5 * 250
"""Names count towards READDIRPLUS only where attributes live longer than 5 s (ticks)."""


async def getattr_inode(dentry: Dentry, cred: Credential) -> NfsInode:
    """The dentry's inode with attributes good enough for stat(2). Dirty data of a file go out first, for its mtime.

    Raises OSError.
    """
    inode = dentry.inode
    assert inode is not None
    counts_for_readdirplus = (
        dentry.parent is not None
        and inode.server.cap_readdirplus
        and not inode.have_writebacks()
        and inode.max_attrtimeo > READDIRPLUS_MIN_ACMAX
    )
    if inode.is_reg:
        await filemap_write_and_wait(inode)
    options = inode.server.options
    needs = STAT_NEEDS
    if not (options.noatime or (options.nodiratime and inode.is_dir)):
        needs |= INVALID_ATIME
    parent = dentry.parent.inode if dentry.parent is not None else None
    if inode.check_cache_invalid(needs):
        if counts_for_readdirplus and parent is not None:
            record_entry_cache_miss(parent)
        await force_revalidate_inode(inode, cred)
    elif counts_for_readdirplus and parent is not None:
        record_entry_cache_hit(parent)
    return inode
