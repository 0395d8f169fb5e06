"""flock(2) and fcntl(2) record locks (fs/locks.c)."""

from __future__ import annotations

import errno
import fcntl

from freepage_client.nfs import lock as nfs_lock
from freepage_client.nfs.errors import os_error
from freepage_client.vfs.process import Process


class Locks(Process):
    """A process that locks what it has opened."""

    async def flock(self, fd: int, operation: int) -> None:
        """flock(2) with LOCK_SH, LOCK_EX, LOCK_UN and LOCK_NB. Raises OSError(EWOULDBLOCK)."""
        file = self._regular(fd, errno.EBADF)
        wait = not operation & fcntl.LOCK_NB
        kind = operation & ~fcntl.LOCK_NB
        if kind not in (fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN):
            raise os_error(errno.EINVAL)
        lock = nfs_lock.FileLock(self._get(fd), 0, nfs_lock.END, kind == fcntl.LOCK_EX)
        if kind == fcntl.LOCK_UN:
            await nfs_lock.unlock(file, lock, flock=True)
        else:
            await nfs_lock.set_lock(file, lock, flock=True, wait=wait)

    async def lockf(self, fd: int, command: int, offset: int = 0, length: int = 0) -> None:
        """fcntl(2) record locks in fcntl.lockf's words: LOCK_SH, LOCK_EX, LOCK_UN, LOCK_NB; length 0: to the end.

        Raises OSError(EAGAIN) for a lock that others hold, EBADF if the descriptor's mode does not allow the lock.
        """
        file = self._regular(fd, errno.EBADF)
        wait = not command & fcntl.LOCK_NB
        kind = command & ~fcntl.LOCK_NB
        if offset < 0 or length < 0 or kind not in (fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN):
            raise os_error(errno.EINVAL)
        end = offset + length if length else nfs_lock.END
        lock = nfs_lock.FileLock(self, offset, end, kind == fcntl.LOCK_EX)
        if kind == fcntl.LOCK_UN:
            await nfs_lock.unlock(file, lock, flock=False)
            return
        if (kind == fcntl.LOCK_EX and not file.may_write) or (kind == fcntl.LOCK_SH and not file.may_read):
            raise os_error(errno.EBADF)
        await nfs_lock.set_lock(file, lock, flock=False, wait=wait)
