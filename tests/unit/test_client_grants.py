"""Who listens for granted locks, when those who wait come and go in one moment."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from freepage_client.nfs.grants import GrantListener
from freepage_client.nfs.rpc import RpcClient
from freepage_proto.nlm4 import GrantedRes, NlmLock
from freepage_proto.rpc import AuthSys, Procedure


class Server:
    """Keeps each NLM_GRANTED call until told to answer."""

    options = SimpleNamespace(timeo_ds=600)

    def __init__(self) -> None:
        self.kept: list[asyncio.Future[GrantedRes]] = []

    async def call(self, procedure: Procedure, args: object, auth: AuthSys, **_: Any) -> object:
        assert procedure is Procedure.NLM_GRANTED
        self.kept.append(asyncio.get_running_loop().create_future())
        return await self.kept[-1]


def lock(owner: bytes) -> NlmLock:
    return NlmLock(b"handle", owner, 0, 0, 0)


async def turns(number: int = 5) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


def test_who_begins_to_wait_as_the_last_one_leaves_is_heard() -> None:
    async def play() -> None:
        server, listener = Server(), GrantListener()
        rpc, auth = cast(RpcClient, server), AuthSys()
        first = asyncio.create_task(listener.wait(rpc, lock(b"first"), auth))
        await turns()
        assert len(server.kept) == 1
        first.cancel()
        second = asyncio.create_task(listener.wait(rpc, lock(b"second"), auth))
        await turns()
        assert len(server.kept) == 2, "nobody listens for the second one"
        server.kept[-1].set_result(GrantedRes((lock(b"second"),)))
        assert await second
        assert first.cancelled()

    asyncio.run(play())


def test_the_last_one_to_leave_ends_the_listening() -> None:
    async def play() -> None:
        server, listener = Server(), GrantListener()
        rpc, auth = cast(RpcClient, server), AuthSys()
        one, other = (asyncio.create_task(listener.wait(rpc, lock(name), auth)) for name in (b"one", b"other"))
        await turns()
        assert len(server.kept) == 1, "one call for all who wait"
        one.cancel()
        await turns()
        assert not server.kept[0].cancelled()
        other.cancel()
        await turns()
        assert server.kept[0].cancelled()

    asyncio.run(play())
