"""The ACCESS cache: what the server said each caller may do with a file (fs/nfs/dir.c nfs_do_access).

All rights are asked for at once and remembered per inode and credential. An answer lasts as long as the attributes do:
when these have expired a GETATTR decides, and a foreign change throws all answers of the inode away.
"""

from __future__ import annotations

import errno
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from freepage_client.nfs import nfs3proc
from freepage_client.nfs.errors import os_error
from freepage_client.nfs.inode import INVALID_ACCESS, INVALID_MODE
from freepage_client.nfs.revalidate import force_revalidate_inode, zap_after_estale
from freepage_proto.nfs3 import Access3

if TYPE_CHECKING:
    from freepage_client.nfs.cred import Credential
    from freepage_client.nfs.inode import NfsInode

MAY_EXEC = 1
MAY_WRITE = 2
MAY_READ = 4
MAY_ACCESS = 16
MAY_OPEN = 32
MAY_CHDIR = 64

_RWX = MAY_EXEC | MAY_WRITE | MAY_READ
_FILE_WRITE = Access3.MODIFY | Access3.EXTEND
_DIR_WRITE = Access3.MODIFY | Access3.EXTEND | Access3.DELETE


@dataclass(slots=True)
class AccessEntry:
    mask: Access3


def _allowed(answer: Access3, inode: NfsInode) -> int:
    """The MAY_* bits that an ACCESS answer grants (nfs_access_calc_mask)."""
    mask = MAY_READ if answer & Access3.READ else 0
    if inode.is_dir:
        if answer & _DIR_WRITE == _DIR_WRITE:
            mask |= MAY_WRITE
        if answer & Access3.LOOKUP:
            mask |= MAY_EXEC
    elif inode.is_reg:
        if answer & _FILE_WRITE == _FILE_WRITE:
            mask |= MAY_WRITE
        if answer & Access3.EXECUTE:
            mask |= MAY_EXEC
    elif answer & _DIR_WRITE:
        mask |= MAY_WRITE
    return mask


async def _cached(inode: NfsInode, key: object, cred: Credential) -> AccessEntry | None:
    """The remembered answer, if it may still be used; one GETATTR decides when the attributes have expired."""
    revalidated = False
    while True:
        if inode.cache_validity & INVALID_ACCESS:
            if inode.access_cache:
                # Linux looks for answers to drop first: without any, the mark stays, and costs one more ACCESS later.
                inode.access_cache.clear()
                inode.cache_validity &= ~INVALID_ACCESS
            return None
        entry = inode.access_cache.get(key)
        if entry is None or revalidated or not inode.check_cache_invalid(INVALID_ACCESS):
            return entry
        await force_revalidate_inode(inode, cred)
        revalidated = True


async def do_access(inode: NfsInode, mask: int, cred: Credential) -> None:
    """Raise OSError(EACCES) unless the server grants all of ``mask`` (MAY_READ, MAY_WRITE, MAY_EXEC)."""
    auth = cred.auth
    key = (auth.uid, auth.gid, auth.gids)
    entry = await _cached(inode, key, cred)
    if entry is None:
        wanted = Access3.READ | Access3.MODIFY | Access3.EXTEND
        wanted |= (Access3.DELETE | Access3.LOOKUP) if inode.is_dir else Access3.EXECUTE
        try:
            answer = await nfs3proc.access(inode, wanted, cred)
        except OSError as error:
            if error.errno == errno.ESTALE:
                zap_after_estale(inode)
            raise
        entry = inode.access_cache[key] = AccessEntry(answer)
    if mask & ~_allowed(entry.mask, inode) & _RWX:
        raise os_error(errno.EACCES)


def access_is_cached(inode: NfsInode, mask: int, cred: Credential) -> bool:
    """True when ``permission`` would grant ``mask`` at once, without asking anybody."""
    auth = cred.auth
    entry = inode.access_cache.get((auth.uid, auth.gid, auth.gids))
    if entry is None or inode.check_cache_invalid(INVALID_ACCESS):
        return False
    return not mask & ~_allowed(entry.mask, inode) & _RWX


async def permission(inode: NfsInode, mask: int, cred: Credential) -> None:
    """May the caller do this (nfs_permission)? Raises OSError(EACCES) if not.

    Writing to a directory is not asked about, for the server checks it with the operation itself; nor are symlinks.
    """
    inode.server.stats.events["vfsaccess"] += 1
    if mask & _RWX:
        forced = mask & (MAY_ACCESS | MAY_CHDIR)
        skipped = inode.is_lnk or (inode.is_dir and mask & MAY_WRITE and not mask & MAY_READ)
        if forced or not skipped:
            await do_access(inode, mask, cred)
    if mask & MAY_EXEC and not inode.is_dir:
        await _execute_ok(inode, cred)


async def _execute_ok(inode: NfsInode, cred: Credential) -> None:
    if inode.check_cache_invalid(INVALID_MODE):
        await force_revalidate_inode(inode, cred)
    if not inode.i_mode & (stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH):
        raise os_error(errno.EACCES)
