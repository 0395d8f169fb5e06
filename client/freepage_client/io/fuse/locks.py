"""GETLK and SETLK: fcntl's locks and flock's, and whose they are."""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Callable
from typing import TYPE_CHECKING

from freepage_client.io.fuse import abi
from freepage_client.io.fuse.abi import Op
from freepage_client.io.fuse.session import Answer, Request
from freepage_client.io.fuse.state import MountState
from freepage_client.nfs import lock as nfs_lock
from freepage_client.nfs.errors import os_error
from freepage_client.vfs.process import OpenFile

if TYPE_CHECKING:
    from freepage_client.machine import Machine
    from freepage_client.nfs.file import NfsFile
    from freepage_client.nfs.mount import Mount

_MANY_OWNERS = 4096


class LockOwner:
    """Who holds fcntl locks, as the kernel tells them apart: a process, or an open file (F_OFD_SETLK)."""

    __slots__ = ("fhs", "pid")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.fhs: set[int] = set()
        """The open files through which it has locked. FUSE does not say when an open file gives its own locks back; a
        process has done so before the last of these is released."""


class Locks(MountState):
    """A mount whose files can be locked."""

    _waits_for_lock = 0

    def __init__(self, machine: Machine, mount: Mount, *, is_idle: Callable[[], bool], kernel_cache: bool) -> None:
        super().__init__(machine, mount, is_idle=is_idle, kernel_cache=kernel_cache)
        self._owners: dict[int, LockOwner] = {}

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

    async def _release_locks(self, file: NfsFile, fh: int) -> None:
        """Give back the fcntl locks of whoever has locked through this descriptor alone."""
        if file.inode.locks is None or not file.inode.locks.posix:
            return
        for owner in [owner for owner in self._owners.values() if fh in owner.fhs]:
            owner.fhs.discard(fh)
            if not owner.fhs:
                await nfs_lock.release_locks(file, owner, flock=False)
