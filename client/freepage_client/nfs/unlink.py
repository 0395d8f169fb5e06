"""Silly rename: a file that is removed while it is open here lives on as .nfsXXXX (fs/nfs/unlink.c).

NFSv3 servers do not know who has a file open. So the client renames the file within its directory, and removes it when
its last user lets go. Another client's REMOVE still makes it stale; a client that dies leaves the .nfs file behind.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterator
from typing import TYPE_CHECKING

from freepage.slab import IN_USE
from freepage_client.nfs import nfs3proc
from freepage_client.nfs.access import MAY_EXEC, permission
from freepage_client.nfs.dcache import Dentry, d_drop, d_move, dget, dput
from freepage_client.nfs.errors import os_error
from freepage_client.nfs.inode import INVALID_CHANGE, INVALID_CTIME

if TYPE_CHECKING:
    from freepage_client.nfs.cred import Credential
    from freepage_client.nfs.inode import NfsInode


async def sillyrename(dir_inode: NfsInode, dentry: Dentry, cred: Credential) -> None:
    """Rename a dentry in use to a free .nfs name. Raises OSError, EBUSY when it already has one."""
    from freepage_client.nfs.dir import Lookup, lookup, set_verifier

    server = dir_inode.server
    server.stats.events["sillyrenames"] += 1
    if dentry.is_sillyrenamed:
        raise os_error(errno.EBUSY)
    inode, parent = dentry.inode, dentry.parent
    assert inode is not None and parent is not None
    while True:
        name = b".nfs%016x%08x" % (inode.fileid, server.machine.next_sillycounter())
        silly = parent.children.get(name)
        if silly is not None and silly.inode is not None:
            continue
        await permission(dir_inode, MAY_EXEC, cred)  # lookup_one_len asks, like any walk into the directory
        if silly is None:
            silly = await lookup(dir_inode, Dentry(dentry.sb, parent, name), Lookup.NONE, cred)
        else:
            dget(silly)
        if silly.inode is None:
            break
        dput(silly)
    dentry.begin()
    try:
        await nfs3proc.rename(dir_inode, dentry.name, dir_inode, silly.name, cred)
    except OSError:
        dentry.end()
        inode.mark_for_revalidate()
        d_drop(silly)
        dput(silly)
        raise
    inode.mark_for_revalidate()
    cred.get(IN_USE)
    dentry.sillyrename_cred = cred
    set_verifier(dentry, dir_inode.cache_change_attribute)
    inode.new_gencount_barrier()
    inode.set_cache_invalid(INVALID_CHANGE | INVALID_CTIME)
    d_move(dentry, silly)
    dentry.end()
    dput(silly)


def complete_sillyrename(dentry: Dentry, inode: NfsInode, cred: Credential) -> None:
    """The last user of a .nfs file let go: REMOVE it, in the name of who unlinked it, without anybody waiting."""
    from freepage_client.nfs.dir import drop_nlink

    parent = dentry.parent
    assert parent is not None and parent.inode is not None
    dget(parent)
    drop_nlink(inode, inode.attr_gencount)
    parent.inode.silly_removals += 1
    inode.server.machine.spawn(_Removal(parent, dentry.name, cred).run())


class _Removal:
    """A REMOVE of a .nfs file on its way (struct nfs_unlinkdata); it yields the credential that it holds."""

    def __init__(self, parent: Dentry, name: bytes, cred: Credential) -> None:
        self._parent = parent
        self._name = name
        self._cred = cred

    def __iter__(self) -> Iterator[Credential]:
        yield self._cred

    async def run(self) -> None:
        dir_inode = self._parent.inode
        assert dir_inode is not None
        machine = dir_inode.server.machine
        machine.begin_io(self)
        try:
            await nfs3proc.remove(dir_inode, self._name, self._cred)
        except OSError as error:
            if error.errno != errno.ENOENT:
                name = self._name.decode(errors="replace")
                machine.message(f"nfs: could not remove {self._parent.path()}/{name}: {error}")
        finally:
            machine.end_io(self)
            _removal_done(dir_inode)
            self._cred.put(IN_USE)
            dput(self._parent)


def _removal_done(dir_inode: NfsInode) -> None:
    dir_inode.silly_removals -= 1
    if not dir_inode.silly_removals:
        waiters, dir_inode.removal_waiters = dir_inode.removal_waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


async def wait_for_silly_removals(dir_inode: NfsInode) -> None:
    """RMDIR comes after the REMOVE of every .nfs file of the directory that is on its way (rmdir_sem)."""
    while dir_inode.silly_removals:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        dir_inode.removal_waiters.append(waiter)
        await waiter
