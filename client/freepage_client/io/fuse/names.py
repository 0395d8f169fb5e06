"""Requests about names: LOOKUP, FORGET, and those that make, move and remove."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Coroutine
from typing import Any

from freepage_client.io.fuse import abi
from freepage_client.io.fuse.nodes import Node
from freepage_client.io.fuse.session import Answer, Request
from freepage_client.io.fuse.state import Later, MountState
from freepage_client.io.fuse.virtual import VIRTUAL
from freepage_client.nfs import access as nfs_access
from freepage_client.nfs.access import MAY_EXEC
from freepage_client.nfs.dcache import Dentry
from freepage_client.nfs.dir import Lookup
from freepage_client.nfs.errors import os_error
from freepage_client.nfs.symlink import read_target
from freepage_client.vfs.namei import directory_of, lookup_child, put_name, retry_estale
from freepage_client.vfs.nowait import lookup_nowait
from freepage_client.vfs.process import At
from freepage_client.vfs.task import Task

_NO_ENTRY = os_error(errno.ENOENT)

LATE_RELEASE_S = 0.5
"""How long rmdir(2) waits for the RELEASE of unlinked files that close(2) was called for."""
LATE_RELEASE_STEPS = 50


class Names(MountState):
    """A mount that finds and changes names."""

    def lookup(self, request: Request, body: memoryview) -> Answer | Later:
        name = bytes(body[:-1])
        node = self.nodes.get(request.nodeid)
        task = self._task(request)
        if self._looked_up:
            self._looked_up.pop(request.pid, None)
        parent = self.nodes.dentry(node)
        if parent is not None:
            dentry = lookup_nowait(parent, name, task.cred)
            if dentry is not None:
                if dentry.inode is None:
                    raise _NO_ENTRY
                return self._entry(node, dentry)
        return self._lookup(request, task, node, name)

    async def _lookup(self, request: Request, task: Task, node: Node, name: bytes) -> Answer:
        async def attempt(reval: Lookup) -> Answer:
            asked_since = self.machine.next_gencount()
            async with self._held(node, task) as parent:
                await nfs_access.permission(directory_of(parent), MAY_EXEC, task.cred)
                dentry = await lookup_child(parent, name, reval, task.cred)
                try:
                    inode = dentry.inode
                    if inode is None:
                        raise _NO_ENTRY
                    answer = self._entry(node, dentry)
                    if inode.attr_gencount > asked_since:
                        if len(self._looked_up) > 1000:
                            self._looked_up.clear()
                        found = self.nodes.of_inode(inode)
                        assert found is not None
                        self._looked_up[request.pid] = found
                    return answer
                finally:
                    put_name(dentry)

        return await retry_estale(attempt)

    def _made(self, parent: Node, directory: Dentry, name: bytes) -> bytes:
        """The entry of a name that was just made. Raises OSError(ENOENT) if it is gone again."""
        dentry = directory.children.get(name)
        if dentry is None or dentry.inode is None:
            raise os_error(errno.ENOENT)
        return self._entry(parent, dentry)

    def forget(self, request: Request, body: memoryview) -> Answer:
        self.nodes.forget(request.nodeid, *abi.FORGET_IN.unpack_from(body))
        return None

    def batch_forget(self, request: Request, body: memoryview) -> Answer:
        count, _ = abi.BATCH_FORGET_IN.unpack_from(body)
        for i in range(count):
            nodeid, nlookup = abi.FORGET_ONE.unpack_from(body, abi.BATCH_FORGET_IN.size + i * abi.FORGET_ONE.size)
            if not nodeid & VIRTUAL:
                self.nodes.forget(nodeid, nlookup)
        return None

    async def readlink(self, request: Request, body: memoryview) -> Answer:
        task = self._task(request)
        async with self._held(self.nodes.get(request.nodeid), task) as dentry:
            assert dentry.inode is not None
            if not dentry.inode.is_lnk:
                raise os_error(errno.EINVAL)
            return await read_target(dentry.inode, task.cred)

    async def symlink(self, request: Request, body: memoryview) -> Answer:
        name, target, _ = bytes(body).split(b"\0", 2)
        return await self._make(request, name, lambda task, at: task.symlink(target, at))

    async def mknod(self, request: Request, body: memoryview) -> Answer:
        mode, dev, _, _ = abi.MKNOD_IN.unpack_from(body)
        major, minor = (dev & 0xFFF00) >> 8, (dev & 0xFF) | ((dev >> 12) & 0xFFF00)
        name = bytes(body[abi.MKNOD_IN.size : -1])
        return await self._make(request, name, lambda task, at: task.mknod(at, mode, (major, minor)))

    async def mkdir(self, request: Request, body: memoryview) -> Answer:
        mode, _ = abi.MKDIR_IN.unpack_from(body)
        name = bytes(body[abi.MKDIR_IN.size : -1])
        return await self._make(request, name, lambda task, at: task.mkdir(at, mode))

    async def _make(
        self, request: Request, name: bytes, make: Callable[[Task, At], Coroutine[Any, Any, None]]
    ) -> Answer:
        task = self._task(request)
        node = self.nodes.get(request.nodeid)
        async with self._held(node, task) as directory:
            await make(task, At(directory, name))
            return self._made(node, directory, name)

    async def link(self, request: Request, body: memoryview) -> Answer:
        (nodeid,) = abi.LINK_IN.unpack_from(body)
        name = bytes(body[abi.LINK_IN.size : -1])
        task = self._task(request)
        node = self.nodes.get(request.nodeid)
        async with self._held(self.nodes.get(nodeid), task) as old, self._held(node, task) as directory:
            if old.parent is None:
                raise os_error(errno.EPERM)
            await task.link(At(old.parent, old.name), At(directory, name))
            return self._made(node, directory, name)

    async def unlink(self, request: Request, body: memoryview) -> Answer:
        task = self._task(request)
        name = bytes(body[:-1])
        async with self._held(self.nodes.get(request.nodeid), task) as directory:
            await self._settled(directory, name)
            await task.unlink(At(directory, name))
        return b""

    async def rmdir(self, request: Request, body: memoryview) -> Answer:
        task = self._task(request)
        name = bytes(body[:-1])
        async with self._held(self.nodes.get(request.nodeid), task) as directory:
            child = directory.children.get(name)
            await self._late_releases(child)
            while child is not None and (closing := [f for f, d in self._closing.items() if d.parent is child]):
                await asyncio.wait(closing)
            await task.rmdir(At(directory, name))
        return b""

    async def _late_releases(self, directory: Dentry | None) -> None:
        """The kernel sends RELEASE once nothing of the file is under way, be it a read ahead of a page fault: so an
        unlinked file can be in the directory's way although it is closed. Wait a little for those that may be."""
        for _ in range(LATE_RELEASE_STEPS):
            late = (self.files[fh].dentry for fh in self._flushed)
            if not any(dentry.is_sillyrenamed and dentry.parent is directory for dentry in late):
                return
            await asyncio.sleep(LATE_RELEASE_S / LATE_RELEASE_STEPS)

    async def _settled(self, directory: Dentry, name: bytes) -> None:
        """Wait until the last close of a file has done its work, as its caller would have waited in close(2)."""
        dentry = directory.children.get(name)
        if dentry is not None and dentry.inode is not None:
            await self._closed(dentry.inode)

    async def rename(self, request: Request, body: memoryview) -> Answer:
        (newdir,) = abi.RENAME_IN.unpack_from(body)
        return await self._rename(request, newdir, bytes(body[abi.RENAME_IN.size :]))

    async def rename2(self, request: Request, body: memoryview) -> Answer:
        newdir, flags, _ = abi.RENAME2_IN.unpack_from(body)
        if flags:
            raise os_error(errno.EINVAL)  # nfs_rename
        return await self._rename(request, newdir, bytes(body[abi.RENAME2_IN.size :]))

    async def _rename(self, request: Request, newdir: int, names: bytes) -> Answer:
        task = self._task(request)
        old_name, new_name, _ = names.split(b"\0", 2)
        new_node = self.nodes.get(newdir)
        async with (
            self._held(self.nodes.get(request.nodeid), task) as old_dir,
            self._held(new_node, task) as new_dir,
        ):
            await self._settled(old_dir, old_name)
            await self._settled(new_dir, new_name)
            await task.rename(At(old_dir, old_name), At(new_dir, new_name))
            moved = new_dir.children.get(new_name)
            if moved is not None and moved.inode is not None:
                self.nodes.moved(moved.inode, new_node, moved)
        return b""
