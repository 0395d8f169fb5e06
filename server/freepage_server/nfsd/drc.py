"""The duplicate request cache: a call that comes twice is executed once (Linux: fs/nfsd/nfscache.c).

A client that hears nothing sends the same call again, with the same xid. Executing a REMOVE, a RENAME or an exclusive
CREATE twice would answer the second time with an error, or undo what came between. So the replies of calls that change
something are kept for a while, by (client, boot instance, xid); a duplicate of a call still under way waits for its
reply, for its connection may be the only one left to answer on (knfsd drops it, and the client comes again). COMMIT and
everything that only reads are simply done again, as knfsd does.

An xid that comes with other arguments is another call: that client counts anew.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from zlib import crc32

from freepage_proto.nfs3 import WriteArgs
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
"""RC_EXPIRE: how long a reply is kept after it was made."""
MAX_ENTRIES = 8192
"""How many replies are kept. What is under way comes on top; the service bounds it."""
CHECKED_BYTES = 256
"""RC_CSUMLEN: this much of what is to be written tells a call from another with its xid."""

Name = tuple[str, int, int]
"""A call: client, boot instance, xid."""


def _fingerprint(procedure: Procedure, args: object) -> object:
    """What must be the same in a duplicate, and is small enough to be kept with its reply."""
    if isinstance(args, WriteArgs):
        return procedure, args.file, args.offset, args.count, args.stable, crc32(memoryview(args.data)[:CHECKED_BYTES])
    return procedure, args


class _UnderWay:
    """A call being executed, and who else waits for its reply."""

    __slots__ = ("fingerprint", "waiters")

    def __init__(self, fingerprint: object) -> None:
        self.fingerprint = fingerprint
        self.waiters: list[asyncio.Future[object]] = []


class _Reply:
    __slots__ = ("expires_s", "fingerprint", "reply")

    def __init__(self, fingerprint: object, reply: object, expires_s: float) -> None:
        self.fingerprint = fingerprint
        self.reply = reply
        self.expires_s = expires_s


class ReplyCache:
    """``now`` gives monotonic seconds. ``hits`` and ``misses`` are those of the ``rc`` line of /proc/net/rpc/nfsd;
    ``payload_misses`` counts the known xids that came with other arguments (reply_cache_stats).
    """

    def __init__(self, now: Callable[[], float], max_entries: int = MAX_ENTRIES) -> None:
        self._now = now
        self._max_entries = max_entries
        self._under_way: dict[Name, _UnderWay] = {}
        self._replies: OrderedDict[Name, _Reply] = OrderedDict()
        """the one that was made first comes first"""
        self.hits = 0
        self.misses = 0
        self.payload_misses = 0

    def __len__(self) -> int:
        return len(self._replies) + len(self._under_way)

    async def once(
        self, procedure: Procedure, header: CallHeader, args: object, execute: Callable[[], Awaitable[object]]
    ) -> object:
        """The reply of this call: kept from its first execution, or from ``execute()``.

        What ``execute`` raises is no reply: the call may come again.
        """
        assert procedure in CACHED
        name = (header.client_id, header.boot_instance, header.xid)
        fingerprint = _fingerprint(procedure, args)
        if (under_way := self._under_way.get(name)) is not None:
            if under_way.fingerprint == fingerprint:
                self.hits += 1
                waiter: asyncio.Future[object] = asyncio.get_running_loop().create_future()
                under_way.waiters.append(waiter)
                return await waiter
            self.payload_misses += 1
        elif (kept := self._replies.get(name)) is not None and self._now() < kept.expires_s:
            if kept.fingerprint == fingerprint:
                self.hits += 1
                return kept.reply
            self.payload_misses += 1
        self.misses += 1
        return await self._execute(name, _UnderWay(fingerprint), execute)

    async def _execute(self, name: Name, call: _UnderWay, execute: Callable[[], Awaitable[object]]) -> object:
        self._under_way[name] = call
        try:
            reply = await execute()
        except BaseException as failure:
            for waiter in call.waiters:
                if isinstance(failure, asyncio.CancelledError):
                    waiter.cancel()
                elif not waiter.done():
                    waiter.set_exception(failure)
            raise
        finally:
            if self._under_way.get(name) is call:
                del self._under_way[name]
        self._replies[name] = _Reply(call.fingerprint, reply, self._now() + EXPIRE_S)
        self._replies.move_to_end(name)
        self._shrink()
        for waiter in call.waiters:
            if not waiter.done():
                waiter.set_result(reply)
        return reply

    def _shrink(self) -> None:
        """Forget what has expired, and the oldest when there are too many.

        At most two at a time: one came in, so the number settles without a pause.
        """
        for _ in range(2):
            name, oldest = next(iter(self._replies.items()))
            if len(self._replies) <= self._max_entries and self._now() < oldest.expires_s:
                return
            del self._replies[name]
