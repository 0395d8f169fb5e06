"""The duplicate request cache: a call that comes twice is executed once (Linux: fs/nfsd/nfscache.c).

A client that hears nothing sends the same call again, with the same xid. Executing a REMOVE, a RENAME or an exclusive
CREATE twice would answer the second time with an error, or undo what came between. So the replies of calls that change
something are kept for a while, by (client, boot instance, xid); a duplicate of a call still under way waits for its
reply, for its connection may be the only one left to answer on (knfsd drops it, and the client comes again). COMMIT and
everything that only reads are simply done again, as knfsd does.

An xid that comes with other arguments is another call: that client counts anew.

All clients share the room for replies. When it is full, the client with the most replies loses its oldest one: however
much somebody sends, nobody else's replies go but those above an equal share.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from zlib import crc32

from freepage_proto.nfs3 import WriteArgs
from freepage_proto.rpc import CallHeader, Procedure
from freepage_server.nfsd.fair import FairMap

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
        self._under_way: dict[Name, _UnderWay] = {}
        self._replies: FairMap[str, Name, _Reply] = FairMap(max_entries)
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
        self._forget_expired()
        self._replies.put(name[0], name, _Reply(call.fingerprint, reply, self._now() + EXPIRE_S))
        for waiter in call.waiters:
            if not waiter.done():
                waiter.set_result(reply)
        return reply

    def _forget_expired(self) -> None:
        """At most two at a time: one comes in, so what has expired goes without a pause."""
        now_s = self._now()
        for _ in range(2):
            oldest = self._replies.oldest()
            if oldest is None or now_s < oldest[1].expires_s:
                return
            self._replies.pop(oldest[0])
