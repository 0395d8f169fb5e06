"""The kernel's numbers for files, and what they stand for here.

The kernel keeps a number (nodeid) for every file that it remembers, open or not, until it sends FORGET. Were a node to
hold its dentry, each file that was ever looked at would count as in use: every unlink would become a silly rename, and
drop_caches could drop nothing. So a node holds nothing. It knows where its file was found last, and when our own cache
has forgotten that name, it is looked up again, as a real client would after drop_caches.
"""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING

from freepage_client.io.fuse.abi import ROOT_ID
from freepage_client.nfs.access import MAY_EXEC, permission
from freepage_client.nfs.dcache import Dentry
from freepage_client.nfs.dir import Lookup
from freepage_client.nfs.errors import os_error
from freepage_client.vfs.namei import directory_of, lookup_child, put_name

if TYPE_CHECKING:
    from freepage_client.nfs.cred import Credential
    from freepage_client.nfs.inode import NfsInode
    from freepage_client.nfs.mount import Mount


class Node:
    """A file that the kernel remembers. ``parent`` is None for the root alone."""

    __slots__ = ("closing", "dentry", "inode", "name", "nlookup", "nodeid", "parent")

    def __init__(self, nodeid: int, parent: Node | None, dentry: Dentry, inode: NfsInode) -> None:
        self.nodeid = nodeid
        self.parent = parent
        self.name = dentry.name
        self.dentry = dentry
        """Where it was found last, not held: it may have been pruned since."""
        self.inode = inode
        self.nlookup = 0
        self.closing: set[asyncio.Future[object]] = set()
        """What closing the file has still to do. close(2) returns without waiting for it, so what comes next does."""


class Nodes:
    """All nodes of one mount. Numbers are never used twice."""

    def __init__(self, mount: Mount) -> None:
        self._mount = mount
        assert mount.root.inode is not None
        self._last_id = ROOT_ID
        self.root = Node(ROOT_ID, None, mount.root, mount.root.inode)
        self.by_id: dict[int, Node] = {ROOT_ID: self.root}
        self._by_fh: dict[bytes, Node] = {self.root.inode.fh: self.root}

    def get(self, nodeid: int) -> Node:
        node = self.by_id.get(nodeid)
        if node is None:
            raise os_error(errno.ESTALE)
        return node

    def of_inode(self, inode: NfsInode) -> Node | None:
        return self._by_fh.get(inode.fh)

    def remember(self, parent: Node, dentry: Dentry) -> Node:
        """The node of a looked-up file, which the kernel will know once more."""
        inode = dentry.inode
        assert inode is not None
        node = self._by_fh.get(inode.fh)
        if node is None or node.inode.type is not inode.type:
            self._last_id += 1
            node = Node(self._last_id, parent, dentry, inode)
            self.by_id[node.nodeid] = node
            self._by_fh[inode.fh] = node
        elif node.parent is not None:
            node.parent, node.name, node.dentry, node.inode = parent, dentry.name, dentry, inode
        node.nlookup += 1
        return node

    def moved(self, inode: NfsInode, parent: Node, dentry: Dentry) -> None:
        """A file was renamed by us."""
        node = self._by_fh.get(inode.fh)
        if node is not None and node.parent is not None:
            node.parent, node.name, node.dentry = parent, dentry.name, dentry

    def forget(self, nodeid: int, nlookup: int) -> None:
        node = self.by_id.get(nodeid)
        if node is None or node.parent is None:
            return
        node.nlookup -= nlookup
        if node.nlookup <= 0:
            del self.by_id[nodeid]
            if self._by_fh.get(node.inode.fh) is node:
                del self._by_fh[node.inode.fh]

    def dentry(self, node: Node) -> Dentry | None:
        """The node's dentry, if our cache still has one."""
        dentry = node.dentry
        if dentry.inode is node.inode:
            return dentry
        inode = node.inode
        if inode.dentries and self._mount.inodes.get(inode.fh) is inode:
            node.dentry = inode.dentries[0]
            return node.dentry
        return None

    async def find(self, node: Node, cred: Credential) -> Dentry:
        """The node's dentry, looked up again if our cache has forgotten it. Raises OSError, ESTALE if it is gone."""
        while node.closing:
            await asyncio.wait(node.closing)
        dentry = self.dentry(node)
        if dentry is not None:
            return dentry
        if node.parent is None:
            raise os_error(errno.ESTALE)
        parent = await self.find(node.parent, cred)
        await permission(directory_of(parent), MAY_EXEC, cred)
        dentry = await lookup_child(parent, node.name, Lookup.NONE, cred)
        try:
            inode = dentry.inode
            if inode is None or inode.fh != node.inode.fh or inode.type is not node.inode.type:
                raise os_error(errno.ESTALE)
            node.inode, node.dentry = inode, dentry
            return dentry
        finally:
            put_name(dentry)
