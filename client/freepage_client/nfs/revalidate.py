"""Asking the server whether what is cached still holds, and dropping what does not (fs/nfs/inode.c).

Noticing a foreign change only sets INVALID_DATA; the pages leave at the next read, write or getdents of the file, in
``clear_invalid_mapping``, through invalidate_inode_pages2.
"""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING

from freepage import invalidate_inode_pages2_range
from freepage_client.nfs import nfs3proc
from freepage_client.nfs.acl import zap_acl_cache
from freepage_client.nfs.errors import os_error
from freepage_client.nfs.inode import INVALID_ACL, INVALID_DATA
from freepage_client.nfs.write import wb_all

if TYPE_CHECKING:
    from freepage_client.nfs.cred import Credential
    from freepage_client.nfs.inode import NfsInode


async def force_revalidate_inode(inode: NfsInode, cred: Credential) -> None:
    """GETATTR, whatever the cache says (__nfs_revalidate_inode). Raises OSError, ESTALE above all."""
    if inode.stale:
        raise os_error(errno.ESTALE)
    server = inode.server
    server.stats.events["inoderevalidates"] += 1
    softreval = server.options.softreval
    try:
        fattr = await nfs3proc.getattr_(server, inode.fh, cred, may_time_out=softreval)
    except OSError as error:
        if error.errno == errno.ETIMEDOUT and softreval:
            return  # a soft time-out: go on with what is cached
        if error.errno == errno.ESTALE:
            zap_after_estale(inode)
        raise
    if not inode.refresh(fattr):
        raise os_error(errno.ESTALE)
    if inode.cache_validity & INVALID_ACL:
        zap_acl_cache(inode)


def zap_after_estale(inode: NfsInode) -> None:
    """The server said ESTALE: a file is stale for good, a directory may only have moved out of sight."""
    if inode.is_dir:
        inode.zap_caches()
    else:
        inode.set_stale()


async def revalidate_inode(inode: NfsInode, flags: int, cred: Credential) -> None:
    """GETATTR if the attributes have expired or one of ``flags`` is set."""
    if inode.check_cache_invalid(flags):
        await force_revalidate_inode(inode, cred)
    elif inode.stale:
        raise os_error(errno.ESTALE)


async def clear_invalid_mapping(inode: NfsInode) -> None:
    """Drop the cached pages if they are marked invalid (nfs_clear_invalid_mapping).

    The mark is cleared first, so that a change noticed meanwhile is not lost; one caller does the work, the others
    wait for it. Raises OSError when dirty data cannot be written back or a page cannot be dropped.
    """
    while True:
        if inode.invalidating is not None:
            await asyncio.shield(inode.invalidating)
            continue
        if not inode.cache_validity & INVALID_DATA:
            return
        break
    done = inode.invalidating = asyncio.get_running_loop().create_future()
    inode.note_readable()
    inode.cache_validity &= ~INVALID_DATA
    inode.clear_gaps()
    try:
        if inode.mapping.nrpages:
            if inode.is_reg:
                await wb_all(inode)
            await invalidate_inode_pages2_range(inode.mapping)
        inode.server.stats.events["datainvalidates"] += 1
    finally:
        inode.invalidating = None
        inode.note_readable()
        done.set_result(None)


async def revalidate_mapping(inode: NfsInode, cred: Credential) -> None:
    """Before cached data are used: GETATTR if due, then drop them if they are invalid (nfs_revalidate_mapping)."""
    if inode.mapping_needs_revalidation():
        await force_revalidate_inode(inode, cred)
    await clear_invalid_mapping(inode)
