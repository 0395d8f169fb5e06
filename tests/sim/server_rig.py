"""A server of the simulation that a test listens to, or answers for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from freepage_proto.rpc import CallHeader, Procedure
from freepage_server.nfsd.server import NfsServer

Answer = Callable[[Procedure, CallHeader, Any], Awaitable[object]]


def ask_first(server: NfsServer, answer: Answer) -> None:
    """Each call comes to ``answer`` before the server carries it out: it returns the result, or None to let it pass."""
    original = server.call

    async def call(procedure, header, args, peer="local"):  # type: ignore[no-untyped-def]
        result = await answer(procedure, header, args)
        return await original(procedure, header, args, peer) if result is None else result

    server.call = call  # type: ignore[method-assign]
