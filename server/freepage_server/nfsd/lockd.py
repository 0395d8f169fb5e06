"""NLM version 4: byte-range locks kept in memory, one table per file (Linux: fs/lockd/svclock.c, fs/locks.c).

An owner is a client's (owner, svid). An owner's own locks never conflict; a new one replaces what it covers. A client
that comes back with another boot instance has lost its locks.

A lock that asks to wait is answered BLOCKED and stands in line, first come, first served. When it is free it is granted
to the first in line whose client is listening (GRANTED), and only then: a client that has gone without a word would
keep it for ever, and one that does not listen asks again after a while.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from freepage_proto.nfs3 import FileHandle
from freepage_proto.nlm4 import LockArgs, NlmLock, NlmRes, NlmStat4, UnlockArgs

END = 1 << 64
"""One past the last byte that a lock can cover: length 0 reaches it."""

MAX_LOCKS_PER_FILE = 4096
"""Every request looks at all of a file's locks: at this many, in a few ms."""
MAX_LOCKS = 65536
"""Of all files and clients together; whoever wants one more is told DENIED_NOLOCKS."""
MAX_LOCKS_PER_CLIENT = 16384
"""One client's part of them."""
MAX_BLOCKED = 4096
"""Locks standing in line; one more is answered BLOCKED all the same, and its client asks again."""
MAX_WAIT_MS = 60_000
"""How long a client may be kept listening."""


@dataclass(frozen=True, slots=True)
class HeldLock:
    """Bytes [start, end) of a file, held by ``owner`` of ``client``."""

    client: str
    owner: bytes
    svid: int
    start: int
    end: int
    exclusive: bool

    def same_owner(self, other: HeldLock) -> bool:
        return (self.client, self.owner, self.svid) == (other.client, other.owner, other.svid)

    def joins(self, other: HeldLock) -> bool:
        """Whether one begins where the other ends, and they are the same kind of the same owner."""
        return (
            (self.end == other.start or other.end == self.start)
            and self.exclusive == other.exclusive
            and self.same_owner(other)
        )

    def conflicts(self, other: HeldLock) -> bool:
        return (
            not self.same_owner(other)
            and self.start < other.end
            and other.start < self.end
            and (self.exclusive or other.exclusive)
        )


class LockManager:
    def __init__(self) -> None:
        self._files: dict[FileHandle, list[HeldLock]] = {}
        self._count = 0
        self._count_of: Counter[str] = Counter()
        self._blocked: dict[FileHandle, list[tuple[HeldLock, NlmLock]]] = {}
        """Who waits, in the order in which they came, with the lock as the client named it."""
        self._nr_blocked = 0
        self._listeners: dict[str, asyncio.Future[tuple[NlmLock, ...]]] = {}
        """The last GRANTED call of each client that is being kept."""

    def locks(self) -> Iterable[HeldLock]:
        for held in self._files.values():
            yield from held

    def named(self) -> Iterable[tuple[FileHandle, HeldLock, bool]]:
        """Every lock with its file, and whether it is only waited for."""
        for file, held in self._files.items():
            yield from ((file, lock, False) for lock in held)
        for file, line in self._blocked.items():
            yield from ((file, lock, True) for lock, _ in line)

    def test(self, client: str, args: LockArgs) -> NlmRes:
        wanted = self._wanted(client, args.lock, args.exclusive)
        if wanted is None:
            return NlmRes(NlmStat4.FBIG)
        for held in self._files.get(args.lock.file, ()):
            if held.conflicts(wanted):
                length = 0 if held.end == END else held.end - held.start
                holder = NlmLock(args.lock.file, held.owner, held.svid, held.start, length)
                return NlmRes(NlmStat4.DENIED, holder, held.exclusive)
        return NlmRes(NlmStat4.GRANTED)

    def lock(self, client: str, args: LockArgs) -> NlmRes:
        wanted = self._wanted(client, args.lock, args.exclusive)
        if wanted is None:
            return NlmRes(NlmStat4.FBIG)
        held = self._files.get(args.lock.file, [])
        if any(other.conflicts(wanted) for other in held):
            if not args.block:
                return NlmRes(NlmStat4.DENIED)
            self._stand_in_line(args.lock, wanted)
            return NlmRes(NlmStat4.BLOCKED)
        mine = self._count_of[client]
        if len(held) >= MAX_LOCKS_PER_FILE or self._count >= MAX_LOCKS or mine >= MAX_LOCKS_PER_CLIENT:
            return NlmRes(NlmStat4.DENIED_NOLOCKS)
        self._leave_line(args.lock.file, wanted)
        self._keep(args.lock.file, _with(held, wanted))
        self._grant(args.lock.file)  # a lock that got weaker or shorter may make room
        return NlmRes(NlmStat4.GRANTED)

    def unlock(self, client: str, args: UnlockArgs) -> NlmRes:
        wanted = self._wanted(client, args.lock, False)
        if wanted is None:
            return NlmRes(NlmStat4.FBIG)
        self._keep(args.lock.file, _without(self._files.get(args.lock.file, []), wanted))
        self._grant(args.lock.file)
        return NlmRes(NlmStat4.GRANTED)

    def cancel(self, client: str, args: UnlockArgs) -> NlmRes:
        """Whoever does not wait leaves the line; lockd grants that too when there was nobody."""
        wanted = self._wanted(client, args.lock, False)
        if wanted is None:
            return NlmRes(NlmStat4.FBIG)
        self._leave_line(args.lock.file, wanted)
        return NlmRes(NlmStat4.GRANTED)

    async def granted(self, client: str, wait_ms: int) -> tuple[NlmLock, ...]:
        """Locks that ``client`` was waiting for and holds from now on; empty after ``wait_ms`` without any.

        A client's new call ends its older one, which has lost its listener.
        """
        loop = asyncio.get_running_loop()
        self._dismiss(client)
        listener: asyncio.Future[tuple[NlmLock, ...]] = loop.create_future()
        self._listeners[client] = listener
        for file in [file for file, line in self._blocked.items() if any(lock.client == client for lock, _ in line)]:
            self._grant(file)
        timer = loop.call_later(min(wait_ms, MAX_WAIT_MS) / 1000, _answer, listener, ())
        try:
            return await listener
        finally:
            timer.cancel()
            if self._listeners.get(client) is listener:
                del self._listeners[client]

    def dismiss_all(self) -> None:
        """Nobody is kept listening any longer: the server stops."""
        for client in list(self._listeners):
            self._dismiss(client)

    def free_client(self, client: str) -> int:
        """The client has restarted or gone. Returns how many locks it held."""
        before = self._count
        for file, line in list(self._blocked.items()):
            self._set_line(file, [waiting for waiting in line if waiting[0].client != client])
        left = {file: [lock for lock in held if lock.client != client] for file, held in self._files.items()}
        for file, held in left.items():
            self._keep(file, held)
        freed = before - self._count
        for file in left:
            self._grant(file)
        return freed

    # --- the line ---------------------------------------------------------------------------------------------------

    def _stand_in_line(self, named: NlmLock, wanted: HeldLock) -> None:
        line = self._blocked.get(named.file, [])
        if wanted not in (lock for lock, _ in line) and self._nr_blocked < MAX_BLOCKED:
            self._set_line(named.file, [*line, (wanted, named)])

    def _leave_line(self, file: FileHandle, wanted: HeldLock) -> None:
        line = self._blocked.get(file, [])
        left = [
            (lock, named)
            for lock, named in line
            if not (lock.same_owner(wanted) and (lock.start, lock.end) == (wanted.start, wanted.end))
        ]
        if len(left) != len(line):
            self._set_line(file, left)

    def _set_line(self, file: FileHandle, line: list[tuple[HeldLock, NlmLock]]) -> None:
        self._nr_blocked += len(line) - len(self._blocked.get(file, ()))
        if line:
            self._blocked[file] = line
        else:
            self._blocked.pop(file, None)

    def _grant(self, file: FileHandle) -> None:
        """Give what is free to those who wait for it and listen, in their order."""
        for wanted, named in list(self._blocked.get(file, ())):
            listener = self._listeners.get(wanted.client)
            if listener is None or listener.done():
                continue
            held = self._files.get(file, [])
            if any(other.conflicts(wanted) for other in held):
                continue
            self._leave_line(file, wanted)
            self._keep(file, _with(held, wanted))
            _answer(listener, (named,))

    def _dismiss(self, client: str) -> None:
        listener = self._listeners.pop(client, None)
        if listener is not None:
            _answer(listener, ())

    def _keep(self, file: FileHandle, held: list[HeldLock]) -> None:
        before = self._files.get(file, [])
        self._count += len(held) - len(before)
        self._count_of.update(lock.client for lock in held)
        for lock in before:
            self._count_of[lock.client] -= 1
            if not self._count_of[lock.client]:
                del self._count_of[lock.client]
        if held:
            self._files[file] = held
        else:
            self._files.pop(file, None)

    def _wanted(self, client: str, lock: NlmLock, exclusive: bool) -> HeldLock | None:
        end = END if lock.length == 0 else lock.offset + lock.length
        if not 0 <= lock.offset < END or lock.length < 0 or end > END:
            return None
        return HeldLock(client, lock.owner, lock.svid, lock.offset, end, exclusive)


def _answer(listener: asyncio.Future[tuple[NlmLock, ...]], locks: tuple[NlmLock, ...]) -> None:
    if not listener.done():
        listener.set_result(locks)


def _with(held: list[HeldLock], lock: HeldLock) -> list[HeldLock]:
    """``held`` with a lock that takes the place of what its owner holds there, and becomes one with its neighbours."""
    kept: list[HeldLock] = []
    for other in _without(held, lock):
        if other.joins(lock):
            lock = replace(lock, start=min(other.start, lock.start), end=max(other.end, lock.end))
        else:
            kept.append(other)
    return [*kept, lock]


def _without(held: list[HeldLock], range: HeldLock) -> list[HeldLock]:
    """``held`` less what ``range``'s owner holds within it; a lock reaching over an edge is cut, in two if need be."""
    kept: list[HeldLock] = []
    for lock in held:
        if not lock.same_owner(range) or lock.end <= range.start or range.end <= lock.start:
            kept.append(lock)
            continue
        if lock.start < range.start:
            kept.append(replace(lock, end=range.start))
        if range.end < lock.end:
            kept.append(replace(lock, start=range.end))
    return kept
