"""An in-process network: calls reach servers one after the other, in order, at the price that a call has on a real one.

The figures of :class:`Latency` are those of the machine the conformance recordings come from, fitted to how long their
steps took: 0.1 ms for a question, up to 0.6 ms for what ext4 commits to its journal, and 12 us per KiB of data. A
transport without latency would break whatever depends on time passing, such as the doubling of attribute time-outs and
the rules for changes within one granule of the server's clock.

What can go wrong here is what can go wrong on a wire. A *fault* applies to the calls it matches: it may delay them,
lose the request (the server never sees it) or lose the reply (the server has executed it, the caller never hears).
*Cutting* the connection to a server fails every call in flight and every new one with ``RpcConnectionLost`` until it
is healed; requests that have already been sent are executed nevertheless. Time-outs and retransmissions are the
caller's business: a lost message is simply silence.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from freepage_proto.rpc import CallHeader, Procedure, RpcConnectionLost


class CallHandler(Protocol):
    """What answers calls: an ``NfsServer``, or a stand-in for one."""

    async def call(self, procedure: Procedure, header: CallHeader, args: object, peer: str = "local") -> object: ...


CALL_S: Mapping[Procedure, float] = {
    Procedure.SETATTR: 0.000_25,
    Procedure.READLINK: 0.000_18,
    Procedure.WRITE: 0.000_18,
    Procedure.CREATE: 0.000_55,
    Procedure.MKDIR: 0.000_50,
    Procedure.SYMLINK: 0.000_50,
    Procedure.MKNOD: 0.000_50,
    Procedure.REMOVE: 0.000_40,
    Procedure.RMDIR: 0.000_38,
    Procedure.RENAME: 0.000_36,
    Procedure.LINK: 0.000_36,
    Procedure.READDIR: 0.000_80,
    Procedure.READDIRPLUS: 0.000_80,
    Procedure.COMMIT: 0.000_55,
}
"""Seconds of a call beside its data, a least-squares fit over a thousand recorded checkpoints."""


@dataclass(frozen=True, slots=True)
class Latency:
    """What one call costs: ``call_s`` for being a call, ``per_kib_s`` for each KiB of file data it carries.

    ``by_procedure_s`` names the procedures whose calls cost something else.
    """

    call_s: float = 0.000_12
    per_kib_s: float = 0.000_012
    by_procedure_s: Mapping[Procedure, float] = field(default_factory=lambda: CALL_S)

    def of(self, procedure: Procedure, n_bytes: int) -> float:
        """One way, there or back, with ``n_bytes`` of data."""
        return self.by_procedure_s.get(procedure, self.call_s) / 2 + self.per_kib_s * n_bytes / 1024


@dataclass(slots=True)
class Fault:
    """Something that happens to matching calls.

    ``procedures``: which ones (None: all). ``server``: to which server (None: any). ``skip`` matching calls pass
    unharmed first, ``times`` are hit then (None: all). With a ``probability`` each is hit by chance, from the
    network's seed.
    """

    procedures: frozenset[Procedure] | None = None
    server: str | None = None
    delay_s: float = 0.0
    lose_request: bool = False
    lose_reply: bool = False
    skip: int = 0
    times: int | None = None
    probability: float = 1.0
    hits: int = 0

    def _applies(self, server: str, procedure: Procedure, random: Callable[[], float]) -> bool:
        if self.server is not None and server != self.server:
            return False
        if self.procedures is not None and procedure not in self.procedures:
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.times is not None and self.hits >= self.times:
            return False
        if self.probability < 1.0 and random() >= self.probability:
            return False
        self.hits += 1
        return True


@dataclass(slots=True, eq=False)
class _Call:
    procedure: Procedure
    header: CallHeader
    args: object
    peer: str
    delay_s: float
    lose_reply: bool
    reply: asyncio.Future[object]


@dataclass(slots=True, eq=False)
class _Line:
    """The way to one server: what is under way to it, what it has not answered yet, and whether it can be reached."""

    handler: CallHandler
    up: bool = True
    inbox: deque[_Call] = field(default_factory=deque)
    unanswered: set[asyncio.Future[object]] = field(default_factory=set)
    worker: asyncio.Task[None] | None = None
    listeners: set[asyncio.Task[None]] = field(default_factory=set)
    """Calls that the server keeps until it has something to tell; they do not hold up the line."""


class SimNetwork:
    """The network of a simulated world. Gives clients their :class:`SimTransport`, and tests a hand on every wire."""

    def __init__(self, *, seed: int = 0, latency: Latency | None = None) -> None:
        self.latency = latency or Latency()
        self.faults: list[Fault] = []
        self.calls = 0
        self._random = random.Random(seed).random
        self._lines: dict[str, _Line] = {}

    def add_server(self, name: str, handler: CallHandler) -> None:
        """``name`` is what stands before the colon of a mount's source; a server of the same name is replaced."""
        line = self._lines.get(name)
        if line is None:
            self._lines[name] = _Line(handler)
        else:
            line.handler = handler

    def connect(self, server: str) -> SimTransport:
        """Never fails: a name nobody has added is a host that cannot be reached, which the first call finds out."""
        return SimTransport(self, server)

    def view_from(self, hostname: str) -> _HostView:
        """The same network as one client host sees it: the servers learn ``hostname`` as the peer of its calls."""
        return _HostView(self, hostname)

    def cut(self, server: str) -> None:
        """Break the connection to ``server`` for everybody; see the module's description."""
        line = self._lines[server]
        line.up = False
        for reply in line.unanswered:
            if not reply.done():
                reply.set_exception(RpcConnectionLost(f"connection to {server} lost"))
        line.unanswered.clear()

    def heal(self, server: str) -> None:
        self._lines[server].up = True

    async def close(self) -> None:
        """Stop delivering: calls in flight fail with RpcConnectionLost, those not yet begun are dropped."""
        for name, line in self._lines.items():
            self.cut(name)
            if line.worker is not None:
                line.worker.cancel()
                await asyncio.gather(line.worker, return_exceptions=True)
            for listener in list(line.listeners):
                listener.cancel()
            await asyncio.gather(*line.listeners, return_exceptions=True)
            line.inbox.clear()

    async def call(self, server: str, procedure: Procedure, header: CallHeader, args: object, peer: str) -> object:
        """One call from ``peer``; ends with its result, or when the connection is cut, or never (lost messages)."""
        line = self._lines.get(server)
        if line is None or not line.up:
            raise RpcConnectionLost(f"cannot reach {server}")
        self.calls += 1
        loop = asyncio.get_running_loop()
        delay_s, lose_request, lose_reply = self._misfortune(server, procedure)
        reply: asyncio.Future[object] = loop.create_future()
        line.unanswered.add(reply)
        reply.add_done_callback(line.unanswered.discard)
        call = _Call(procedure, header, args, peer, delay_s, lose_reply, reply)
        if lose_request:
            pass
        elif procedure is Procedure.NLM_GRANTED:
            listener = loop.create_task(self._execute(line, call), name=f"server {server} keeps a call")
            line.listeners.add(listener)
            listener.add_done_callback(line.listeners.discard)
        else:
            line.inbox.append(call)
            if line.worker is None:
                line.worker = loop.create_task(self._serve(line), name=f"server {server}")
        result = await reply
        if isinstance(result, BaseException):
            raise result
        return result

    def _misfortune(self, server: str, procedure: Procedure) -> tuple[float, bool, bool]:
        delay_s, lose_request, lose_reply = 0.0, False, False
        for fault in self.faults:
            if fault._applies(server, procedure, self._random):
                delay_s += fault.delay_s
                lose_request |= fault.lose_request
                lose_reply |= fault.lose_reply
        return delay_s, lose_request, lose_reply

    async def _serve(self, line: _Line) -> None:
        """The server's single thread: one call at a time, in the order in which they were sent, until none is left.

        A call occupies the line for as long as it takes: the recordings' machine had one processor for all of it, so a
        second call in flight was sent while the first was under way and answered after it.
        """
        try:
            while line.inbox:
                await self._execute(line, line.inbox.popleft())
        finally:
            line.worker = None

    async def _execute(self, line: _Line, call: _Call) -> None:
        await asyncio.sleep(self.latency.of(call.procedure, data_bytes(call.args)) + call.delay_s)
        outcome: object
        try:
            outcome = await line.handler.call(call.procedure, call.header, call.args, call.peer)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            outcome = error
        await asyncio.sleep(self.latency.of(call.procedure, data_bytes(outcome)))
        if not call.reply.done() and not call.lose_reply:
            call.reply.set_result(outcome)


class SimTransport:
    """One client's connection to one server."""

    def __init__(self, network: SimNetwork, server: str, peer: str = "local") -> None:
        self._network = network
        self._server = server
        self._peer = peer
        self._closed = False

    async def call(self, procedure: Procedure, header: CallHeader, args: object) -> object:
        if self._closed:
            raise RpcConnectionLost(f"connection to {self._server} is closed")
        return await self._network.call(self._server, procedure, header, args, self._peer)

    async def close(self) -> None:
        self._closed = True


class _HostView:
    def __init__(self, network: SimNetwork, hostname: str) -> None:
        self._network = network
        self._hostname = hostname

    def connect(self, server: str) -> SimTransport:
        return SimTransport(self._network, server, self._hostname)


def data_bytes(message: object) -> int:
    """Bytes of file data that the arguments or result carry: those of READ and WRITE, nothing else is bulky."""
    data = getattr(message, "data", None)
    return len(data) if data is not None else 0
