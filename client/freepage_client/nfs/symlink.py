"""Symbolic links: their target is page 0 of their mapping, read by READLINK (fs/nfs/symlink.c)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from freepage import AddressSpaceOperations, find_or_create_page
from freepage_client.nfs import nfs3proc
from freepage_client.nfs.errors import os_error
from freepage_client.nfs.file import freepage, releasepage
from freepage_client.nfs.inode import INVALID_DATA
from freepage_client.nfs.pagelist import own_page
from freepage_client.nfs.revalidate import revalidate_mapping

if TYPE_CHECKING:
    from freepage_client.nfs.cred import Credential
    from freepage_client.nfs.inode import NfsInode

SYMLINK_OPERATIONS = AddressSpaceOperations(releasepage=releasepage, freepage=freepage)


def target_is_cached(inode: NfsInode) -> bool:
    """Would ``read_target`` answer without asking anybody?"""
    page = inode.mapping.find_page(0)
    if page is None or not page.uptodate or inode.invalidating is not None or inode.cache_validity & INVALID_DATA:
        return False
    return not inode.mapping_needs_revalidation()


async def read_target(inode: NfsInode, cred: Credential) -> bytes:
    """Where the link points, from the cache if it is there (nfs_get_link). Raises OSError."""
    await revalidate_mapping(inode, cred)
    page = await find_or_create_page(inode.mapping, 0, for_write=False)
    try:
        if not page.uptodate:
            target = await nfs3proc.readlink(inode, cred)
            if len(target) >= 4096:
                raise os_error(errno.ENAMETOOLONG)
            page.fill(target)
            page.uptodate = True
            own_page(page, inode, cred, "readlink")
        assert page.data is not None
        return bytes(page.data).partition(b"\0")[0]
    finally:
        page.unlock()
