"""The two protocols the client is written over: a network that carries calls, and a clock.

Everything below this package talks through these, so the same client runs over gRPC in real time and over an
in-process network on a virtual-time event loop.
"""

from __future__ import annotations

from typing import Protocol

from freepage_proto.rpc import CallHeader, Procedure


class Transport(Protocol):
    """One connection to one server, carrying every RPC program it speaks."""

    async def call(self, procedure: Procedure, header: CallHeader, args: object) -> object:
        """Send one call and return its typed result.

        Raises RpcTimedOut, RpcConnectionLost, RpcGarbageArgs, RpcAuthError or RpcProcedureUnavailable.
        """
        ...

    async def close(self) -> None: ...


class Network(Protocol):
    """How a client machine reaches servers by name."""

    def connect(self, server: str) -> Transport:
        """A transport to ``server`` (what stands before the colon of SERVER:/EXPORT). Connects lazily."""
        ...


class Clock(Protocol):
    def now(self) -> float:
        """Monotonic seconds."""
        ...

    async def sleep(self, seconds: float) -> None: ...
