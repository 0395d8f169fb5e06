"""Waiting for a lock that somebody else holds (fs/lockd/clntlock.c: nlmclnt_block, nlmclnt_grant).

A server that answers BLOCKED calls back when the lock is the waiter's: GRANTED. Over gRPC a server cannot call, so one
call per server is kept open as long as somebody here waits, and its answer is the callback. Who hears nothing for 30 s
asks again, as lockd does, so that a lost answer costs time and no more.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, cast

from freepage_proto.nlm4 import GrantedArgs, GrantedRes, NlmLock, UnlockArgs
from freepage_proto.rpc import AuthSys, Procedure

if TYPE_CHECKING:
    from freepage_client.nfs.rpc import RpcClient

NLMCLNT_POLL_TIMEOUT_S = 30.0
"""After so long without a callback the lock is asked for again."""

MAX_LISTEN_S = 20.0
"""How long one call is kept open; never longer than half of timeo, lest it be sent a second time."""


class GrantListener:
    """Who on this machine waits for locks of one server. The listening ends with the last of them."""

    def __init__(self) -> None:
        self._waiting: dict[NlmLock, asyncio.Future[None]] = {}
        self._listening: asyncio.Task[None] | None = None

    async def wait(self, rpc: RpcClient, lock: NlmLock, auth: AuthSys) -> bool:
        """Whether ``lock``, for which the server has answered BLOCKED, was granted before it is time to ask again."""
        loop = asyncio.get_running_loop()
        granted = self._waiting[lock] = loop.create_future()
        if self._listening is None or self._listening.done():
            self._listening = loop.create_task(self._listen(rpc, auth))
        try:
            await asyncio.wait({granted}, timeout=NLMCLNT_POLL_TIMEOUT_S)
            return granted.done()
        finally:
            if self._waiting.get(lock) is granted:
                del self._waiting[lock]
            if not self._waiting and self._listening is not None:
                self._listening.cancel()
                self._listening = None  # who waits next in this moment starts a new one

    async def _listen(self, rpc: RpcClient, auth: AuthSys) -> None:
        wait_s = min(MAX_LISTEN_S, rpc.options.timeo_ds / 20)
        args = GrantedArgs(int(wait_s * 1000))
        with contextlib.suppress(OSError):  # the server is away, or knows no callback: asking again has to do
            while self._waiting:
                result = cast(GrantedRes, await rpc.call(Procedure.NLM_GRANTED, args, auth, may_time_out=True))
                for lock in result.locks:
                    granted = self._waiting.pop(lock, None)
                    if granted is not None:
                        granted.set_result(None)
                    else:  # nobody waits for it any more: it must not stay his
                        await rpc.call(Procedure.NLM_UNLOCK, UnlockArgs(lock), auth, may_time_out=True)
