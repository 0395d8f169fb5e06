"""The duplicate request cache: a call that comes twice is executed once (Linux: fs/nfsd/nfscache.c).

A client that hears nothing sends the same call again, with the same xid. Executing a REMOVE, a RENAME or an exclusive
CREATE twice would answer the second time with an error, or undo what came between. So the replies of calls that change
something are kept for a while, by (client, boot instance, xid); a duplicate of a call still under way waits for its
reply. COMMIT and everything that only reads are simply done again, as knfsd does.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from itertools import islice

from freepage_proto.rpc import CallHeader, Procedure

CACHED = frozenset(
    {
        Procedure.SETATTR,
        Procedure.WRITE,
        Procedure.CREATE,
        Procedure.MKDIR,
        Procedure.SYMLINK,
        Procedure.MKNOD,
        Procedure.REMOVE,
        Procedure.RMDIR,
        Procedure.RENAME,
        Procedure.LINK,
    }
)
"""Procedures whose replies are kept (knfsd: RC_REPLBUFF)."""

EXPIRE_S = 120.0
"""RC_EXPIRE."""
MAX_ENTRIES = 8192


class _Entry:
    """``reply`` is None while the call is under way; ``waiters`` are its duplicates of that time."""

    __slots__ = ("expires_s", "procedure", "reply", "waiters")

    def __init__(self, procedure: Procedure, expires_s: float) -> None:
        self.procedure = procedure
        self.expires_s = expires_s
        self.reply: object | None = None
        self.waiters: list[asyncio.Future[object]] = []


class ReplyCache:
    """``now`` gives monotonic seconds. ``hits`` and ``misses`` are those of the ``rc`` line of /proc/net/rpc/nfsd."""

    def __init__(self, now: Callable[[], float], max_entries: int = MAX_ENTRIES) -> None:
        self._now = now
        self._max_entries = max_entries
        self._entries: OrderedDict[tuple[str, int, int], _Entry] = OrderedDict()
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._entries)

    async def once(self, procedure: Procedure, header: CallHeader, execute: Callable[[], Awaitable[object]]) -> object:
        """The reply of this call: kept from its first execution, or from ``execute()``.

        What ``execute`` raises is no reply: the call may come again.
        """
        assert procedure in CACHED
        name = (header.client_id, header.boot_instance, header.xid)
        entry = self._entries.get(name)
        if entry is not None and entry.procedure is procedure and self._now() < entry.expires_s:
            self.hits += 1
            if entry.reply is not None:
                return entry.reply
            waiter: asyncio.Future[object] = asyncio.get_running_loop().create_future()
            entry.waiters.append(waiter)
            return await waiter
        self.misses += 1
        entry = self._entries[name] = _Entry(procedure, self._now() + EXPIRE_S)
        self._entries.move_to_end(name)
        self._shrink()
        try:
            entry.reply = await execute()
        except BaseException as failure:
            if self._entries.get(name) is entry:
                del self._entries[name]
            for waiter in entry.waiters:
                if isinstance(failure, asyncio.CancelledError):
                    waiter.cancel()
                elif not waiter.done():
                    waiter.set_exception(failure)
            raise
        for waiter in entry.waiters:
            if not waiter.done():
                waiter.set_result(entry.reply)
        entry.waiters.clear()
        return entry.reply

    def _shrink(self) -> None:
        """Forget what has expired, and the oldest when there are too many; a call under way is kept.

        At most two at a time: one came in, so the number settles without a pause.
        """
        now = self._now()
        for name, entry in list(islice(self._entries.items(), 2)):
            if entry.reply is None or (now < entry.expires_s and len(self._entries) <= self._max_entries):
                return
            del self._entries[name]
