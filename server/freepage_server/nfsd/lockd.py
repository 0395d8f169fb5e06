"""NLM version 4: byte-range locks kept in memory, one table per file (Linux: fs/lockd/svclock.c, fs/locks.c).

An owner is a client's (owner, svid). An owner's own locks never conflict; a new one replaces what it covers. A lock
that asks to wait is answered BLOCKED and remembered nowhere: the client polls. A client that comes back with another
boot instance has lost its locks.
"""

from __future__ import annotations

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

    def locks(self) -> Iterable[HeldLock]:
        for held in self._files.values():
            yield from held

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
            return NlmRes(NlmStat4.BLOCKED if args.block else NlmStat4.DENIED)
        if len(held) >= MAX_LOCKS_PER_FILE or self._count >= MAX_LOCKS:
            return NlmRes(NlmStat4.DENIED_NOLOCKS)
        self._keep(args.lock.file, [*_without(held, wanted), wanted])
        return NlmRes(NlmStat4.GRANTED)

    def unlock(self, client: str, args: UnlockArgs) -> NlmRes:
        wanted = self._wanted(client, args.lock, False)
        if wanted is None:
            return NlmRes(NlmStat4.FBIG)
        self._keep(args.lock.file, _without(self._files.get(args.lock.file, []), wanted))
        return NlmRes(NlmStat4.GRANTED)

    def cancel(self, client: str, args: UnlockArgs) -> NlmRes:
        """Nothing waits here, so there is nothing to cancel, and lockd grants that too."""
        return NlmRes(NlmStat4.GRANTED)

    def free_client(self, client: str) -> None:
        """The client has restarted or gone."""
        for file, held in list(self._files.items()):
            self._keep(file, [lock for lock in held if lock.client != client])

    def _keep(self, file: FileHandle, held: list[HeldLock]) -> None:
        self._count += len(held) - len(self._files.get(file, ()))
        if held:
            self._files[file] = held
        else:
            self._files.pop(file, None)

    def _wanted(self, client: str, lock: NlmLock, exclusive: bool) -> HeldLock | None:
        end = END if lock.length == 0 else lock.offset + lock.length
        if not 0 <= lock.offset < END or lock.length < 0 or end > END:
            return None
        return HeldLock(client, lock.owner, lock.svid, lock.offset, end, exclusive)


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
