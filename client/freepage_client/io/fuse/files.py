"""Requests about open files and directories: OPEN, CREATE, READ, WRITE, FLUSH, FSYNC, RELEASE, READDIR."""

from __future__ import annotations

import asyncio
import errno
import os

from freepage import PAGE_SIZE
from freepage_client.io.fuse import abi
from freepage_client.io.fuse.abi import dirent_size, pack_dirent
from freepage_client.io.fuse.locks import LockOwner, Locks
from freepage_client.io.fuse.nodes import Node
from freepage_client.io.fuse.session import Answer, Request
from freepage_client.io.fuse.state import Later
from freepage_client.io.syscalls import DT
from freepage_client.nfs import dir as nfs_dir
from freepage_client.nfs import lock as nfs_lock
from freepage_client.nfs import readdir
from freepage_client.nfs.dcache import Dentry, d_drop
from freepage_client.nfs.dir import Lookup
from freepage_client.nfs.errors import os_error
from freepage_client.nfs.inode import INVALID_CHANGE
from freepage_client.vfs.namei import directory_of
from freepage_client.vfs.process import At, OpenFile
from freepage_client.vfs.task import Task

_unpack_read = abi.READ_IN.unpack_from
_unpack_write = abi.WRITE_IN.unpack_from

_STATUS_FLAGS = os.O_APPEND | os.O_DIRECT | os.O_DSYNC | os.O_SYNC
"""What fcntl(F_SETFL) may change while a file is open, and open(2) alone."""


class Files(Locks):
    """A mount whose files are opened, read, written and closed; closing gives back locks."""

    def open(self, request: Request, body: memoryview) -> Later:
        flags, _ = abi.OPEN_IN.unpack_from(body)
        node = self.nodes.get(request.nodeid)
        fresh = self._looked_up.pop(request.pid, None) is node
        return self._open(self._task(request), node, flags, fresh)

    def opendir(self, request: Request, body: memoryview) -> Later:
        flags, _ = abi.OPEN_IN.unpack_from(body)
        node = self.nodes.get(request.nodeid)
        fresh = self._looked_up.pop(request.pid, None) is node
        return self._open(self._task(request), node, flags | os.O_DIRECTORY, fresh)

    async def _open(self, task: Task, node: Node, flags: int, fresh: bool) -> Answer:
        """``fresh``: the server was asked for the attributes in this very open(2), by its LOOKUP."""
        async with self._held(node, task) as dentry:
            inode = dentry.inode
            assert inode is not None
            if not fresh:
                try:
                    await nfs_dir.verify_inode(inode, Lookup.OPEN, task.cred)
                except OSError as error:
                    if error.errno == errno.ESTALE and dentry.parent is not None:
                        # The kernel looks the name up again, and must not be told the same.
                        directory_of(dentry.parent).set_cache_invalid(INVALID_CHANGE)
                        d_drop(dentry)
                    raise
            fh = await self._open_dentry(task, dentry, flags)
        return abi.OPEN_OUT.pack(fh, 0 if inode.is_dir else self._open_flags, 0)

    async def _open_dentry(self, task: Task, dentry: Dentry, flags: int) -> int:
        return self._add(await task.open_dentry(dentry, flags))

    async def create(self, request: Request, body: memoryview) -> Answer:
        flags, mode, _, _ = abi.CREATE_IN.unpack_from(body)
        name = bytes(body[abi.CREATE_IN.size : -1])
        task = self._task(request)
        node = self.nodes.get(request.nodeid)
        async with self._held(node, task) as directory:
            try:
                open_file = await task.open_file(At(directory, name), flags | os.O_CREAT | os.O_NOFOLLOW, mode)
            except OSError as error:
                if error.errno not in (errno.ENXIO, errno.ELOOP):
                    raise
                # Somebody else made a link or a pipe of that name meanwhile: the kernel looks it up, and opens that.
                raise os_error(errno.ESTALE) from error
        entry = self._entry(node, open_file.dentry)
        return entry + abi.OPEN_OUT.pack(self._add(open_file), self._open_flags, 0)

    def read(self, request: Request, body: memoryview) -> Answer | Later:
        fh, offset, size, _, _, flags, _ = _unpack_read(body)
        open_file = self._file(fh)
        file = open_file.file
        assert file is not None
        if (file.flags ^ flags) & _STATUS_FLAGS:
            file.flags = (file.flags & ~_STATUS_FLAGS) | (flags & _STATUS_FLAGS)
        data: Answer = file.read_nowait(offset, size) if size <= PAGE_SIZE else file.read_buffers_nowait(offset, size)
        return data if data is not None else file.read(offset, size)

    async def write(self, request: Request, body: memoryview) -> Answer:
        fh, offset, size, write_flags, _, flags, _ = _unpack_write(body)
        start = abi.WRITE_IN.size
        data = body[start : start + size]
        file = self._file(fh).file
        assert file is not None
        if write_flags & abi.WRITE_CACHE:  # the kernel's page cache knows where
            flags &= ~os.O_APPEND
        if (file.flags ^ flags) & _STATUS_FLAGS:
            file.flags = (file.flags & ~_STATUS_FLAGS) | (flags & _STATUS_FLAGS)
        count, _ = await file.write(offset, data)
        return abi.WRITE_OUT.pack(count, 0)

    def flush(self, request: Request, body: memoryview) -> Answer | Later:
        fh, _, _, owner = abi.FLUSH_IN.unpack_from(body)
        file = self._file(fh).file
        assert file is not None
        self._flushed.add(fh)
        holder = self._owners.get(owner)
        if holder is None and not file.may_write:
            file.inode.server.stats.events["vfsflush"] += 1
            return b""
        return self._flush(fh, holder)

    async def _flush(self, fh: int, holder: LockOwner | None) -> Answer:
        file = self._file(fh).file
        assert file is not None
        try:
            await file.flush()
        finally:
            if holder is not None:
                await nfs_lock.release_locks(file, holder, flock=False)
        return b""

    async def fsync(self, request: Request, body: memoryview) -> Answer:
        fh, _, _ = abi.FSYNC_IN.unpack_from(body)
        open_file = self._file(fh)
        if open_file.file is None:
            open_file.inode.server.stats.events["vfsfsync"] += 1
        else:
            await open_file.file.fsync()
        return b""

    def release(self, request: Request, body: memoryview) -> Answer | Later:
        fh, _, _, _ = abi.RELEASE_IN.unpack_from(body)
        open_file = self.files.pop(fh, None)
        if open_file is None:
            raise os_error(errno.EBADF)
        self._flushed.discard(fh)
        return self._release(open_file, self.nodes.of_inode(open_file.inode), fh)

    async def _release(self, open_file: OpenFile, node: Node | None, fh: int = 0) -> Answer:
        file = open_file.file
        if node is None or file is None or not (file.may_write or file.inode.locks):
            await Task.release(open_file)
            return b""
        closing: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        node.closing.add(closing)
        self._closing[closing] = open_file.dentry
        try:
            await self._release_locks(file, fh)
            await Task.release(open_file)
        finally:
            node.closing.discard(closing)
            del self._closing[closing]
            closing.set_result(None)
        return b""

    async def readdir(self, request: Request, body: memoryview) -> Answer:
        fh, offset, size, _, _, _, _ = _unpack_read(body)
        open_file = self._file(fh)
        context = open_file.directory
        if context is None:
            raise os_error(errno.ENOTDIR)
        task = self._task(request)
        async with open_file.inode.lock():
            context.seek(offset)
            entries = await readdir.iterate_dir(
                open_file.inode, open_file.dentry, context, size, task.cred, dirent_size
            )
        return b"".join(pack_dirent(ino, off, DT[kind], name) for name, ino, kind, off in entries)
