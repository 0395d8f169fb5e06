"""The mounted client: each FUSE request as calls of the client's vfs layer.

Attributes and names are never given to the kernel to keep (all time-outs are 0) and files are opened for direct I/O, so
that every system call reaches our cache. What the cache can answer is answered at once, in the thread that read the
request; everything else is a coroutine.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from freepage import PAGE_SIZE
from freepage_client.io.fuse import abi
from freepage_client.io.fuse.abi import Op
from freepage_client.io.fuse.callers import Callers
from freepage_client.io.fuse.nodes import Node, Nodes
from freepage_client.io.fuse.session import Answer, Handler, Request
from freepage_client.io.fuse.virtual import VIRTUAL, VirtualDirectory
from freepage_client.io.syscalls import DT
from freepage_client.nfs import access as nfs_access
from freepage_client.nfs import dir as nfs_dir
from freepage_client.nfs import lock as nfs_lock
from freepage_client.nfs import readdir
from freepage_client.nfs.access import MAY_ACCESS, MAY_EXEC, MAY_WRITE
from freepage_client.nfs.dcache import Dentry, d_drop, dget
from freepage_client.nfs.dir import Lookup
from freepage_client.nfs.errors import os_error
from freepage_client.nfs.getattr import getattr_inode
from freepage_client.nfs.inode import INVALID_CHANGE
from freepage_client.nfs.setattr import Iattr, setattr_inode
from freepage_client.nfs.symlink import read_target
from freepage_client.vfs.namei import directory_of, lookup_child, put_name, retry_estale
from freepage_client.vfs.nowait import getattr_nowait, lookup_nowait
from freepage_client.vfs.process import At, OpenFile
from freepage_client.vfs.task import Task
from freepage_proto.nfs3 import SET_TO_SERVER_TIME

if TYPE_CHECKING:
    from freepage_client.machine import Machine
    from freepage_client.nfs.file import NfsFile
    from freepage_client.nfs.inode import NfsInode
    from freepage_client.nfs.mount import Mount

Later = Coroutine[Any, Any, Answer]

_pack_entry = abi.ENTRY_OUT.pack
_pack_attr = abi.ATTR_OUT.pack
_unpack_read = abi.READ_IN.unpack_from
_unpack_write = abi.WRITE_IN.unpack_from

_NS = 1_000_000_000
_STATUS_FLAGS = os.O_APPEND | os.O_DIRECT | os.O_DSYNC | os.O_SYNC
"""What fcntl(F_SETFL) may change while a file is open, and open(2) alone."""

_NO_ENTRY = os_error(errno.ENOENT)


class LockOwner:
    """Who holds fcntl locks, as the kernel tells them apart: a process, or an open file (F_OFD_SETLK)."""

    __slots__ = ("fhs", "pid")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.fhs: set[int] = set()
        """The open files through which it has locked. FUSE does not say when an open file gives its own locks back; a
        process has done so before the last of these is released."""


class FuseFileSystem:
    """One mount of the machine, served to the kernel.

    ``kernel_cache``: files are opened through the kernel's page cache (``-o mmap``). ``virtual`` is the directory
    .freepage, None without one. ``on_end`` is called, in any thread, when the kernel has unmounted.
    """

    def __init__(
        self,
        machine: Machine,
        mount: Mount,
        *,
        is_idle: Callable[[], bool],
        on_end: Callable[[], None],
        kernel_cache: bool = False,
        virtual: VirtualDirectory | None = None,
    ) -> None:
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
        self._owners: dict[int, LockOwner] = {}
        self._looked_up: dict[int, Node] = {}
        """By caller: the file whose LOOKUP has just asked the server. An open that follows need not ask again."""
        self._open_flags = 0 if kernel_cache else abi.OPEN_DIRECT_IO
        self._on_end = on_end
        self._virtual = virtual
        table: dict[Op, Callable[[Request, memoryview], Answer | Later]] = {
            Op.LOOKUP: self.lookup,
            Op.FORGET: self.forget,
            Op.BATCH_FORGET: self.batch_forget,
            Op.GETATTR: self.getattr,
            Op.SETATTR: self.setattr,
            Op.ACCESS: self.access,
            Op.READLINK: self.readlink,
            Op.SYMLINK: self.symlink,
            Op.MKNOD: self.mknod,
            Op.MKDIR: self.mkdir,
            Op.UNLINK: self.unlink,
            Op.RMDIR: self.rmdir,
            Op.RENAME: self.rename,
            Op.RENAME2: self.rename2,
            Op.LINK: self.link,
            Op.OPEN: self.open,
            Op.CREATE: self.create,
            Op.READ: self.read,
            Op.WRITE: self.write,
            Op.FLUSH: self.flush,
            Op.FSYNC: self.fsync,
            Op.RELEASE: self.release,
            Op.OPENDIR: self.opendir,
            Op.READDIR: self.readdir,
            Op.RELEASEDIR: self.release,
            Op.FSYNCDIR: self.fsync,
            Op.STATFS: self.statfs,
            Op.LISTXATTR: self.listxattr,
            Op.GETLK: self.getlk,
            Op.SETLK: self.setlk,
            Op.SETLKW: self.setlk,
        }
        self.handlers: dict[int, Handler] = {int(op): handler for op, handler in table.items()}
        if virtual is not None:
            for op in virtual.handlers:
                self.handlers[op] = virtual.route(op, self.handlers.get(op))

    def ended(self) -> None:
        self._on_end()

    async def close(self) -> None:
        """The kernel has let go: close what it left open, as when a machine's processes are killed."""
        for fh in list(self.files):
            await self._release(self.files.pop(fh), None)
        self.callers.close()

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

    # Names.

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

    def _held(self, node: Node, task: Task) -> _Held:
        return _Held(self.nodes, node, task)

    def _entry(self, parent: Node, dentry: Dentry) -> bytes:
        """The kernel learns of a file: it will send FORGET for it one day."""
        node = self.nodes.remember(parent, dentry)
        return _pack_entry(node.nodeid, 0, 0, 0, 0, 0, *_attr(node.inode))

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

    async def _closed(self, inode: NfsInode) -> None:
        node = self.nodes.of_inode(inode)
        while node is not None and node.closing:
            await asyncio.wait(node.closing)

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

    # Attributes.

    def getattr(self, request: Request, body: memoryview) -> Answer | Later:
        node = self.nodes.get(request.nodeid)
        flags, _, fh = abi.GETATTR_IN.unpack_from(body)
        if flags & abi.GETATTR_FH:
            return self._getattr_for_size(node, fh)
        if not node.closing:
            dentry = self.nodes.dentry(node)
            if dentry is not None:
                inode = getattr_nowait(dentry)
                if inode is not None:
                    return _pack_attr(0, 0, 0, *_attr(inode))
        return self._getattr(request, node)

    async def _getattr(self, request: Request, node: Node) -> Answer:
        task = self._task(request)
        async with self._held(node, task) as dentry:
            return _pack_attr(0, 0, 0, *_attr(await getattr_inode(dentry, task.cred)))

    async def _getattr_for_size(self, node: Node, fh: int) -> Answer:
        """The kernel wants an open file's size, for lseek from the end: dirty data need not go out for that."""
        file = self._file(fh).file
        if file is not None:
            await file.size_for_seek()
        return _pack_attr(0, 0, 0, *_attr(node.inode))

    async def setattr(self, request: Request, body: memoryview) -> Answer:
        valid, _, fh, size, _, atime, mtime, _, atime_ns, mtime_ns, _, mode, _, uid, gid, _ = (
            abi.SETATTR_IN.unpack_from(body)
        )
        task = self._task(request)
        node = self.nodes.get(request.nodeid)
        new_mtime = _time(valid, abi.SET_MTIME, abi.SET_MTIME_NOW, mtime, mtime_ns)
        of_open_file = bool(valid & abi.SET_SIZE and valid & abi.SET_FH)
        if of_open_file and new_mtime is None:
            new_mtime = SET_TO_SERVER_TIME  # ftruncate sets the time even if the size stays
        iattr = Iattr(
            mode=mode & 0o7777 if valid & abi.SET_MODE else None,
            uid=uid if valid & abi.SET_UID else None,
            gid=gid if valid & abi.SET_GID else None,
            size=size if valid & abi.SET_SIZE else None,
            atime_ns=_time(valid, abi.SET_ATIME, abi.SET_ATIME_NOW, atime, atime_ns),
            mtime_ns=new_mtime,
        )

        async with self._held(node, task) as dentry:
            inode = dentry.inode
            assert inode is not None
            if inode.server.options.read_only:
                raise os_error(errno.EROFS)
            cred = task.cred
            if of_open_file:
                file = self._file(fh).file
                if file is not None:
                    cred = file.cred
            elif iattr.size is not None:
                await nfs_access.permission(inode, MAY_WRITE, cred)
            async with inode.lock():
                await setattr_inode(inode, iattr, cred)
            return _pack_attr(0, 0, 0, *_attr(inode))

    async def access(self, request: Request, body: memoryview) -> Answer:
        mask, _ = abi.ACCESS_IN.unpack_from(body)
        task = self._task(request)
        async with self._held(self.nodes.get(request.nodeid), task) as dentry:
            inode = dentry.inode
            assert inode is not None
            await nfs_access.permission(inode, (mask & 7) | MAY_ACCESS, task.cred)
        return b""

    async def statfs(self, request: Request, body: memoryview) -> Answer:
        s = await self._task(request).statfs(self.mount.mountpoint)
        return abi.STATFS_OUT.pack(
            s.f_blocks, s.f_bfree, s.f_bavail, s.f_files, s.f_ffree, s.f_bsize, s.f_namemax, s.f_frsize, 0
        )

    def listxattr(self, request: Request, body: memoryview) -> Answer:
        """NFSv3 has no extended attributes, and can list the none that there are (nfs3_listxattr)."""
        return b"" if int.from_bytes(body[:4], sys.byteorder) else abi.XATTR_OUT.pack(0, 0)

    # Files.

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

    async def _release_locks(self, file: NfsFile, fh: int) -> None:
        """Give back the fcntl locks of whoever has locked through this descriptor alone."""
        if file.inode.locks is None or not file.inode.locks.posix:
            return
        for owner in [owner for owner in self._owners.values() if fh in owner.fhs]:
            owner.fhs.discard(fh)
            if not owner.fhs:
                await nfs_lock.release_locks(file, owner, flock=False)

    # Directories.

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

    # Locks.

    def _lock(self, request: Request, body: memoryview) -> tuple[OpenFile, nfs_lock.FileLock, int, bool]:
        """The file, the lock that is asked for, its type (F_RDLCK ...), whether it is flock's."""
        fh, owner, start, end, kind, pid, flags, _ = abi.LK_IN.unpack_from(body)
        open_file = self._file(fh)
        if open_file.file is None:
            raise os_error(errno.EBADF)
        exclusive = kind == fcntl.F_WRLCK
        if flags & abi.LK_FLOCK:
            return open_file, nfs_lock.FileLock(open_file, 0, nfs_lock.END, exclusive), kind, True
        holder = self._owners.get(owner)
        if holder is None:
            if len(self._owners) >= _MANY_OWNERS:
                self._forget_owners()
            holder = self._owners[owner] = LockOwner(pid)
        return open_file, nfs_lock.FileLock(holder, start, min(end + 1, nfs_lock.END), exclusive), kind, False

    def _forget_owners(self) -> None:
        holding = {
            id(lock.owner)
            for inode in self.mount.inodes.values()
            if inode.locks is not None
            for lock in inode.locks.posix
        }
        if not self._waits_for_lock:
            self._owners = {key: owner for key, owner in self._owners.items() if id(owner) in holding}

    _waits_for_lock = 0

    async def getlk(self, request: Request, body: memoryview) -> Answer:
        open_file, lock, _, _ = self._lock(request, body)
        assert open_file.file is not None
        await self._closed(open_file.inode)
        held = await nfs_lock.test_lock(open_file.file, lock)
        if held is None:
            return abi.LK_OUT.pack(0, 0, fcntl.F_UNLCK, 0)
        pid = held.owner.pid if isinstance(held.owner, LockOwner) else 0
        return abi.LK_OUT.pack(held.start, held.end - 1, fcntl.F_WRLCK if held.exclusive else fcntl.F_RDLCK, pid)

    async def setlk(self, request: Request, body: memoryview) -> Answer:
        open_file, lock, kind, flock = self._lock(request, body)
        file = open_file.file
        assert file is not None
        fh = abi.LK_IN.unpack_from(body)[0]
        await self._closed(file.inode)
        if kind == fcntl.F_UNLCK:
            await nfs_lock.unlock(file, lock, flock=flock)
            return b""
        if isinstance(lock.owner, LockOwner):
            lock.owner.fhs.add(fh)
        self._waits_for_lock += 1
        try:
            await nfs_lock.set_lock(file, lock, flock=flock, wait=request.opcode == Op.SETLKW)
        finally:
            self._waits_for_lock -= 1
        return b""


_MANY_OWNERS = 4096

LATE_RELEASE_S = 0.5
"""How long rmdir(2) waits for the RELEASE of unlinked files that close(2) was called for."""
LATE_RELEASE_STEPS = 50


class _Held:
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


def _attr(inode: NfsInode) -> tuple[int, ...]:
    """The cached attributes in the order of struct fuse_attr."""
    atime, atime_ns = divmod(inode.atime_ns, _NS)
    mtime, mtime_ns = divmod(inode.mtime_ns, _NS)
    ctime, ctime_ns = divmod(inode.ctime_ns, _NS)
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


def _time(valid: int, given: int, now: int, seconds: int, ns: int) -> int | None:
    if not valid & given:
        return None
    if valid & now:
        return SET_TO_SERVER_TIME
    return (seconds - (1 << 64) if seconds >> 63 else seconds) * _NS + ns


def dirent_size(name: bytes) -> int:
    """What one entry takes in READDIR's answer."""
    return (abi.DIRENT.size + len(name) + 7) & ~7


def pack_dirent(ino: int, off: int, kind: int, name: bytes) -> bytes:
    return (abi.DIRENT.pack(ino, off, len(name), kind) + name).ljust(dirent_size(name), b"\0")
