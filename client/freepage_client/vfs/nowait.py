"""What the cache can answer at once: the hits of the path walk and of stat, as plain calls.

Each does exactly what its waiting twin does when that one meets nothing to wait for, counters included, or it does
nothing at all and returns None.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from freepage_client.nfs.access import MAY_EXEC, access_is_cached
from freepage_client.nfs.dir import Lookup, is_believed, record_entry_cache_hit
from freepage_client.nfs.getattr import READDIRPLUS_MIN_ACMAX, STAT_NEEDS
from freepage_client.nfs.inode import INVALID_ATIME

if TYPE_CHECKING:
    from freepage_client.nfs.cred import Credential
    from freepage_client.nfs.dcache import Dentry
    from freepage_client.nfs.inode import NfsInode


def lookup_nowait(parent: Dentry, name: bytes, cred: Credential) -> Dentry | None:
    """``permission`` to search a directory and ``lookup_child`` in it: a dentry, positive or negative, not held."""
    directory = parent.inode
    if directory is None or not directory.is_dir:
        return None
    dentry = parent.children.get(name)
    if (
        dentry is None
        or not is_believed(directory, dentry, Lookup.NONE)
        or not access_is_cached(directory, MAY_EXEC, cred)
    ):
        return None
    events = directory.server.stats.events
    events["vfsaccess"] += 1
    events["dentryrevalidates"] += 1
    return dentry


def getattr_nowait(dentry: Dentry) -> NfsInode | None:
    """``getattr_inode``: the dentry's inode if its attributes are good enough for stat(2)."""
    inode = dentry.inode
    assert inode is not None
    server = inode.server
    options = server.options
    mapping = inode.mapping
    if inode.is_reg and (mapping.nr_dirty or mapping.nr_writeback):
        return None
    needs = STAT_NEEDS
    if not (options.noatime or (options.nodiratime and inode.is_dir)):
        needs |= INVALID_ATIME
    if inode.check_cache_invalid(needs):
        return None
    parent = dentry.parent
    if (
        parent is not None
        and parent.inode is not None
        and server.cap_readdirplus
        and not inode.write_requests
        and inode.max_attrtimeo > READDIRPLUS_MIN_ACMAX
    ):
        record_entry_cache_hit(parent.inode)
    return inode
