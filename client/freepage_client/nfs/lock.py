"""File locks: fcntl ranges and flock, here and on the server (fs/nfs/file.c do_setlk, fs/locks.c, fs/lockd).

Taking a lock is a point of coherence: dirty data go out before, and afterwards nothing cached is believed. That holds
for locks kept on this machine alone (nolock, local_lock) too.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from freepage_client.nfs.errors import os_error
from freepage_client.nfs.write import sync_inode, wb_all
from freepage_proto.nlm4 import LockArgs, NlmLock, NlmRes, NlmStat4, UnlockArgs
from freepage_proto.rpc import Procedure

if TYPE_CHECKING:
    from freepage_client.nfs.file import NfsFile
    from freepage_client.nfs.inode import NfsInode

END = 1 << 63
"""One past the last byte of any file: a lock that reaches it has no end (Linux: fl_end == OFFSET_MAX)."""
NLM_GRACE_POLL_S = 5.0


@dataclass(frozen=True, slots=True)
class FileLock:
    """Bytes [start, end) held by ``owner``: a descriptor table for fcntl, an open file for flock."""

    owner: object
    start: int
    end: int
    exclusive: bool

    def overlaps(self, other: FileLock) -> bool:
        return self.start < other.end and other.start < self.end

    def conflicts(self, other: FileLock) -> bool:
        return self.owner is not other.owner and (self.exclusive or other.exclusive) and self.overlaps(other)


class FileLocks:
    """The locks of one inode on this machine. POSIX ranges and flocks do not see each other."""

    def __init__(self) -> None:
        self.posix: list[FileLock] = []
        self.flocks: list[FileLock] = []
        self._waiters: list[asyncio.Future[None]] = []

    def any_held(self) -> bool:
        return bool(self.posix or self.flocks)

    def allow_whole_page_writes(self) -> bool:
        """No locks, or the first one covers the whole file for writing (nfs_can_extend_write)."""
        if self.posix:
            first = self.posix[0]
            return first.exclusive and first.start == 0 and first.end >= END
        if self.flocks:
            return self.flocks[0].exclusive
        return True

    def conflict(self, wanted: FileLock, flock: bool) -> FileLock | None:
        for held in self.flocks if flock else self.posix:
            if wanted.conflicts(held):
                return held
        return None

    def set(self, lock: FileLock, flock: bool) -> None:
        """Take a lock that nothing conflicts with; the owner's older ones give way where it lies.

        An owner's fcntl ranges of one kind that touch become one; they keep the place in line that the owner had and
        lie in it in the order of their bytes (posix_lock_inode).
        """
        if flock:
            self.clear(lock, flock)
            self.flocks.append(lock)
            return
        line = [held.owner for held in self.posix]
        place = line.index(lock.owner) if lock.owner in line else len(line)
        own = [held for held in self.posix if held.owner is lock.owner]
        for held in list(own):
            if held.exclusive == lock.exclusive and held.start <= lock.end and lock.start <= held.end:
                lock = replace(lock, start=min(held.start, lock.start), end=max(held.end, lock.end))
                own.remove(held)
        own = sorted([*_without(own, lock), lock], key=lambda held: held.start)
        others = [held for held in self.posix if held.owner is not lock.owner]
        self.posix[:] = [*others[:place], *own, *others[place:]]
        self._wake()

    def clear(self, lock: FileLock, flock: bool) -> None:
        """Release the owner's locks within the range, splitting what reaches beyond it."""
        table = self.flocks if flock else self.posix
        table[:] = _without(table, lock)
        self._wake()

    def give_up_for_conversion(self, wanted: FileLock) -> None:
        """An flock of the other kind goes before the new one is asked for, and stays lost if that fails (flock(2))."""
        if any(held.owner is wanted.owner and held.exclusive != wanted.exclusive for held in self.flocks):
            self.clear(wanted, flock=True)

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def owned_by(self, owner: object, flock: bool) -> bool:
        return any(held.owner is owner for held in (self.flocks if flock else self.posix))

    async def wait_change(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter


def _without(table: list[FileLock], lock: FileLock) -> list[FileLock]:
    """The table with the owner's locks cut off where ``lock`` lies."""
    kept: list[FileLock] = []
    for held in table:
        if held.owner is not lock.owner or not held.overlaps(lock):
            kept.append(held)
            continue
        if held.start < lock.start:
            kept.append(replace(held, end=lock.start))
        if held.end > lock.end:
            kept.append(replace(held, start=lock.end))
    return kept


def _locks_of(inode: NfsInode) -> FileLocks:
    if inode.locks is None:
        inode.locks = FileLocks()
    return inode.locks


def _is_local(file: NfsFile, flock: bool) -> bool:
    options = file.inode.server.options
    return options.local_flock if flock else options.local_fcntl


def _nlm(file: NfsFile, lock: FileLock) -> NlmLock:
    machine = file.inode.server.machine
    owner = f"{machine.lock_owner_id(lock.owner)}@{machine.hostname}".encode()
    length = 0 if lock.end >= END else lock.end - lock.start
    return NlmLock(file.inode.fh, owner, 0, lock.start, length)


async def set_lock(file: NfsFile, lock: FileLock, *, flock: bool, wait: bool) -> None:
    """Lock, after flushing; then believe nothing that is cached (do_setlk). Raises OSError(EAGAIN, ENOLCK, EDEADLK)."""
    inode = file.inode
    inode.server.stats.events["vfslock"] += not flock
    locks = _locks_of(inode)
    await sync_inode(inode)
    if flock and _is_local(file, flock):
        locks.give_up_for_conversion(lock)
    while locks.conflict(lock, flock) is not None:
        if not wait:
            raise os_error(errno.EAGAIN)
        await locks.wait_change()
    if not _is_local(file, flock):
        await _nlm_lock(file, lock, wait)
    locks.set(lock, flock)
    await sync_inode(inode)
    inode.zap_caches()


async def _nlm_lock(file: NfsFile, lock: FileLock, wait: bool) -> None:
    server, auth = file.inode.server, file.context.cred.auth
    args = LockArgs(_nlm(file, lock), lock.exclusive, wait)
    while True:
        result = cast(NlmRes, await server.rpc.call(Procedure.NLM_LOCK, args, auth))
        status = result.status
        if status is NlmStat4.GRANTED:
            return
        if status is NlmStat4.DENIED_GRACE_PERIOD:
            await server.machine.clock.sleep(NLM_GRACE_POLL_S)
        elif status is NlmStat4.BLOCKED and wait:
            try:
                if await server.machine.grants(server.server).wait(server.rpc, args.lock, auth):
                    return
            except asyncio.CancelledError:
                server.machine.spawn(_cancel(file, args.lock))
                raise
        else:
            raise os_error(_NLM_ERRNO.get(status, errno.ENOLCK))


async def _cancel(file: NfsFile, lock: NlmLock) -> None:
    """Who waited has given up: leave the line, and give back what may have been granted meanwhile (nlmclnt_cancel)."""
    rpc, auth = file.inode.server.rpc, file.context.cred.auth
    with contextlib.suppress(OSError):
        await rpc.call(Procedure.NLM_CANCEL, UnlockArgs(lock), auth, may_time_out=True)
        await rpc.call(Procedure.NLM_UNLOCK, UnlockArgs(lock), auth, may_time_out=True)


_NLM_ERRNO = {
    NlmStat4.DENIED: errno.EAGAIN,
    NlmStat4.BLOCKED: errno.EAGAIN,
    NlmStat4.DEADLCK: errno.EDEADLK,
    NlmStat4.ROFS: errno.EROFS,
    NlmStat4.STALE_FH: errno.ESTALE,
    NlmStat4.FBIG: errno.EOVERFLOW,
}


async def test_lock(file: NfsFile, lock: FileLock) -> FileLock | None:
    """F_GETLK: who stands in the way; None if nobody does."""
    held = _locks_of(file.inode).conflict(lock, flock=False)
    if held is not None or _is_local(file, flock=False):
        return held
    args = LockArgs(_nlm(file, lock), lock.exclusive)
    result = cast(NlmRes, await file.inode.server.rpc.call(Procedure.NLM_TEST, args, file.context.cred.auth))
    if result.status is NlmStat4.DENIED and result.holder is not None:
        holder = result.holder
        end = holder.offset + holder.length if holder.length else END
        return FileLock(holder.owner, holder.offset, end, result.holder_exclusive)
    return None


async def unlock(file: NfsFile, lock: FileLock, *, flock: bool) -> None:
    """Unlock; dirty data go out first (do_unlk)."""
    inode = file.inode
    inode.server.stats.events["vfslock"] += not flock
    await wb_all(inode)
    locks = _locks_of(inode)
    had = locks.owned_by(lock.owner, flock)
    locks.clear(lock, flock)
    if had and not _is_local(file, flock):
        args = UnlockArgs(_nlm(file, lock))
        await inode.server.rpc.call(Procedure.NLM_UNLOCK, args, file.context.cred.auth)


async def release_locks(file: NfsFile, owner: object, *, flock: bool) -> None:
    """Close releases what the closing process, or the open file, had locked (locks_remove_posix, locks_remove_flock).

    Linux looks whether anybody has locked the file, and then unlocks, which flushes it, whether that owner has a
    lock or not.
    """
    locks = file.inode.locks
    if locks is not None and (locks.flocks if flock else locks.posix):
        await unlock(file, FileLock(owner, 0, END, False), flock=flock)
