"""What the requests of one mount share: its nodes, its open files, who closes what just now."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from freepage_client.io.fuse import abi
from freepage_client.io.fuse.callers import Callers
from freepage_client.io.fuse.nodes import Node, Nodes
from freepage_client.io.fuse.session import Answer, Request
from freepage_client.nfs.dcache import Dentry, dget
from freepage_client.nfs.errors import os_error
from freepage_client.vfs.namei import put_name
from freepage_client.vfs.process import OpenFile
from freepage_client.vfs.task import Task

if TYPE_CHECKING:
    from freepage_client.machine import Machine
    from freepage_client.nfs.inode import NfsInode
    from freepage_client.nfs.mount import Mount

Later = Coroutine[Any, Any, Answer]

_pack_entry = abi.ENTRY_OUT.pack

NS = 1_000_000_000


class MountState:
    """``kernel_cache``: files are opened through the kernel's page cache (``-o mmap``).

    The requests themselves are divided by what they are about: names, attributes, files, locks. `FuseFileSystem` has
    them all.
    """

    def __init__(self, machine: Machine, mount: Mount, *, is_idle: Callable[[], bool], kernel_cache: bool) -> None:
        self.machine = machine
        self.mount = mount
        self.callers = Callers(machine, is_idle)
        self.nodes = Nodes(mount)
        self.files: dict[int, OpenFile] = {}
        self._last_fh = 0
        self._closing: dict[asyncio.Future[object], Dentry] = {}
        """What closing files has still to do, and where those files are."""
        self._flushed: set[int] = set()
        """Open files that close(2) was called for; for the last of its calls RELEASE is to come."""
        self._looked_up: dict[int, Node] = {}
        """By caller: the file whose LOOKUP has just asked the server. An open that follows need not ask again."""
        self._open_flags = 0 if kernel_cache else abi.OPEN_DIRECT_IO

    def _task(self, request: Request) -> Task:
        return self.callers.task(request.uid, request.gid, request.pid)

    def _file(self, fh: int) -> OpenFile:
        open_file = self.files.get(fh)
        if open_file is None:
            raise os_error(errno.EBADF)
        return open_file

    def _add(self, open_file: OpenFile) -> int:
        self._last_fh += 1
        self.files[self._last_fh] = open_file
        return self._last_fh

    def _held(self, node: Node, task: Task) -> Held:
        return Held(self.nodes, node, task)

    def _entry(self, parent: Node, dentry: Dentry) -> bytes:
        """The kernel learns of a file: it will send FORGET for it one day."""
        node = self.nodes.remember(parent, dentry)
        return _pack_entry(node.nodeid, 0, 0, 0, 0, 0, *attr(node.inode))

    async def _closed(self, inode: NfsInode) -> None:
        node = self.nodes.of_inode(inode)
        while node is not None and node.closing:
            await asyncio.wait(node.closing)


class Held:
    """``async with``: a node's dentry, looked up again if need be, that stays while it is used."""

    __slots__ = ("_dentry", "_node", "_nodes", "_task")

    def __init__(self, nodes: Nodes, node: Node, task: Task) -> None:
        self._nodes = nodes
        self._node = node
        self._task = task

    async def __aenter__(self) -> Dentry:
        node = self._node
        dentry = self._nodes.dentry(node) if not node.closing else None
        if dentry is None:
            dentry = await self._nodes.find(node, self._task.cred)
        self._dentry = dget(dentry)
        return dentry

    async def __aexit__(self, *what: object) -> None:
        put_name(self._dentry)


def attr(inode: NfsInode) -> tuple[int, ...]:
    """The cached attributes in the order of struct fuse_attr."""
    atime, atime_ns = divmod(inode.atime_ns, NS)
    mtime, mtime_ns = divmod(inode.mtime_ns, NS)
    ctime, ctime_ns = divmod(inode.ctime_ns, NS)
    major, minor = inode.rdev
    return (
        inode.fileid,
        inode.i_size,
        (inode.used + 511) >> 9,
        atime,
        mtime,
        ctime,
        atime_ns,
        mtime_ns,
        ctime_ns,
        inode.i_mode,
        inode.i_nlink,
        inode.i_uid,
        inode.i_gid,
        (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12) if major or minor else 0,
        inode.server.dtsize if inode.is_dir else 4096,
        0,
    )
