"""The server's front door: gRPC calls in, ``NfsServer.call``, replies out.

Here, and nowhere else in the server, messages become plain types and the errors of RPC become gRPC's. A request that
cannot be decoded is INVALID_ARGUMENT (RFC 5531 GARBAGE_ARGS), a procedure that is not spoken UNIMPLEMENTED
(PROC_UNAVAIL). What goes wrong inside is logged with a request id, and the caller learns that id and nothing else
(SYSTEM_ERR).

A call that has begun is executed to its end, even when its caller has gone away meanwhile: it may hold page locks, and
nfsd's threads do not stop half way either.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, NoReturn, Protocol

import grpc
import grpc.aio

from freepage_proto.convert import METHODS, Method, User, split_read
from freepage_proto.eager import Begun, begin
from freepage_proto.nfs3 import FileHandle, NfsStat3, ReaddirRes, ReadRes
from freepage_proto.rpc import CallHeader, Procedure, RpcAuthError, RpcGarbageArgs, RpcProcedureUnavailable
from freepage_runtime.histogram import LatencyHistogram
from freepage_runtime.limits import server_options
from freepage_runtime.logs import fields
from freepage_server.io.slowpeers import SlowPeers
from freepage_server.io.turns import Turns

log = logging.getLogger(__name__)

READ = METHODS[Procedure.READ]

MAX_REQUEST_BYTES = (1 << 20) + (64 << 10)
"""The largest message that is received: the data of the largest WRITE, and everything around them."""

MAX_REPLY_BYTES = 4 << 20
"""The largest that is sent. READDIR counts in bytes of XDR, and protobuf may need more."""

MAX_EXECUTING_CALLS = 64
"""How many calls are executed at a time; the others wait for their clients' turns, as for a thread of nfsd."""

MAX_WAITING_CALLS = 16384
"""How many may wait before new ones are refused. A client that is refused tries again."""

ENCODED_AT_ONCE = 512
"""Entries of a directory, some 5 ms; a thread encodes longer lists, which lets everybody else in between."""

WARN_EVERY_S = 1.0
"""No more than one line in this time about calls that failed for reasons of ours."""
MAX_NAMED = 16
"""How many calls that do not end are named."""
_OUR_FAULT = (NfsStat3.IO, NfsStat3.SERVERFAULT)

MAX_READERS = 4096
"""Callers and their files, known again without decoding a call."""

MAX_WAITING_BYTES = 512 << 20
"""What the requests of calls under way may take together before new ones are refused."""

MAX_CONNECTIONS = 1024
MAX_CALLS_PER_CONNECTION = 4096
"""gRPC's own client meets this limit a moment before it means to, and is refused then: none of ours may come near."""

SERVER_OPTIONS = server_options(
    receive_bytes=MAX_REQUEST_BYTES,
    send_bytes=MAX_REPLY_BYTES,
    connections=MAX_CONNECTIONS,
    streams=MAX_CALLS_PER_CONNECTION,
)


class TooMuchWaiting(Exception):
    """The call is refused; its client tries again."""


class CachedReads(Protocol):
    """READs of one caller from one file, as far as the answers are at hand."""

    @property
    def lasting(self) -> bool:
        """Whether he is answered in the same way from whatever address he calls."""
        ...

    @property
    def over(self) -> bool:
        """It has to be asked for anew."""
        ...

    def read_nowait(self, offset: int, count: int) -> ReadRes | None:
        """What ``call`` answers, if that is OK and at hand; None otherwise, and then nothing was done."""
        ...


class CallHandler(Protocol):
    """What answers calls: an ``NfsServer``, or a stand-in for one."""

    def reader(self, header: CallHeader, handle: FileHandle, peer: str = "local") -> CachedReads | None:
        """What may answer READs of this caller from this file at once, as ``call`` does; None: nothing can."""
        ...

    async def call(self, procedure: Procedure, header: CallHeader, args: object, peer: str = "local") -> object:
        """Raises RpcGarbageArgs, RpcProcedureUnavailable or RpcAuthError; other failures are statuses in the result."""
        ...


@dataclass(slots=True)
class ProcedureService:
    """Calls of one procedure that came over the network, and how long they took from decoding to the encoded reply."""

    received: int = 0
    failed: int = 0
    latency: LatencyHistogram = field(default_factory=LatencyHistogram)


class ServiceStats:
    """Every procedure is there from the start. ``garbage`` counts requests that were no message of the protocol."""

    def __init__(self) -> None:
        self.by_procedure: dict[Procedure, ProcedureService] = {p: ProcedureService() for p in Procedure}
        self.garbage = 0
        self.refused = 0
        """calls refused because too much was waiting"""
        self.internal_errors = 0
        self.slow_peers: Callable[[], int] = lambda: 0
        """how many calls were broken off because they did not move"""


Behaviour = Callable[[bytes, "grpc.aio.ServicerContext[bytes, bytes]"], Awaitable[bytes]]


class NfsService:
    """Every RPC program of one server as gRPC services."""

    def __init__(self, server: CallHandler, *, max_executing: int = MAX_EXECUTING_CALLS) -> None:
        self.server = server
        self.stats = ServiceStats()
        self._turns = Turns(max_executing)
        self._request_ids = itertools.count(1)
        self._bytes = 0
        """of the requests of calls under way"""
        self._executing: set[asyncio.Task[Any]] = set()
        """gRPC's tasks of the calls that have been received and not yet answered"""
        self.slow_peers = SlowPeers(lambda: self._executing, lambda: asyncio.get_running_loop().time())
        self.stats.slow_peers = lambda: self.slow_peers.dropped
        self._calls: dict[asyncio.Future[object], tuple[Procedure, CallHeader, float]] = {}
        """what is executed or waits for its turn, and since when (monotonic)"""
        self._warned_s = -WARN_EVERY_S
        self._not_warned = 0
        self._of_read = self.stats.by_procedure[Procedure.READ]
        self._wait_for_read = self._behaviour(READ)
        self._readers: dict[User, CachedReads] = {}
        """who has read lately"""

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """What ``grpc.aio.Server.add_generic_rpc_handlers`` takes: one handler per program."""
        services: dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]] = {}
        for method in METHODS.values():
            # Neither deserializer nor serializer: a message is decoded where it can be refused.
            behaviour = self._read if method.procedure is Procedure.READ else self._behaviour(method)
            services.setdefault(method.service, {})[method.name] = grpc.unary_unary_rpc_method_handler(behaviour)
        return [grpc.method_handlers_generic_handler(name, handlers) for name, handlers in services.items()]

    def _behaviour(self, method: Method) -> Behaviour:
        procedure, decode_call, encode_reply = method.procedure, method.decode_call, method.encode_reply
        of_procedure = self.stats.by_procedure[procedure]
        observe = of_procedure.latency.observe
        lists = procedure in (Procedure.READDIR, Procedure.READDIRPLUS)
        kept = procedure is Procedure.NLM_GRANTED  # until there is something to tell

        async def answer(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            of_procedure.received += 1
            start_s = monotonic()
            header = None
            try:
                header, args = decode_call(request)
                result: object
                peer = context.peer()
                if not self.slow_peers.learned:
                    self.slow_peers.learn(asyncio.current_task())
                if self._bytes + len(request) > MAX_WAITING_BYTES:
                    raise TooMuchWaiting("too many bytes are waiting to be dealt with")
                if kept:
                    result = await self._keep(header, args, peer, len(request))
                else:
                    result = begin(self._in_turn(procedure, header, args, peer))
                    if isinstance(result, Begun):
                        result = await self._finish(result, procedure, header, len(request), start_s)
                if lists and isinstance(result, ReaddirRes) and len(result.entries) > ENCODED_AT_ONCE:
                    reply = await asyncio.to_thread(encode_reply, result)
                else:
                    reply = encode_reply(result)
            except Exception as error:
                of_procedure.failed += 1
                await self._refuse(context, method, header, error)
            elapsed_s = monotonic() - start_s
            observe(elapsed_s)
            status = getattr(result, "status", None)
            if status and status in _OUR_FAULT:
                self._warn(procedure, header, status, context.peer())
            elif log.isEnabledFor(logging.DEBUG):
                _log_call(procedure, header, context.peer(), getattr(status, "name", "OK"), elapsed_s)
            return reply

        return answer

    async def _read(self, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        """READ. Most are answered at once, and with the very message that the data are kept in since they were sent."""
        start_s = monotonic()
        try:
            reply = self._read_nowait(request, context.peer)
        except Exception as error:
            self._of_read.received += 1
            self._of_read.failed += 1
            header = None
            with suppress(RpcGarbageArgs):
                header, _ = READ.decode_call(request)
            await self._refuse(context, READ, header, error)
        if reply is None:
            return await self._wait_for_read(request, context)
        self._of_read.received += 1
        elapsed_s = monotonic() - start_s
        self._of_read.latency.observe(elapsed_s)
        if log.isEnabledFor(logging.DEBUG):
            header, _ = READ.decode_call(request)
            _log_call(Procedure.READ, header, context.peer(), "OK", elapsed_s)
        return reply

    def _read_nowait(self, request: bytes, peer: Callable[[], str]) -> bytes | None:
        split = split_read(request)
        if split is None:
            return None
        user, offset, count = split
        reader = self._readers.get(user)
        if reader is None or reader.over:
            header, args = READ.decode_call(request)
            reader = self.server.reader(header, args.file, peer())
            if reader is None:
                return None
            if reader.lasting:
                if len(self._readers) >= MAX_READERS:
                    self._readers.clear()
                self._readers[user] = reader
        result = reader.read_nowait(offset, count)
        if result is None:
            return None
        reply = READ.encode_reply(result)
        if result.holder is not None and reply is not result.message:
            result.holder.move_contents(reply, len(reply) - result.count)
        return reply

    async def _in_turn(self, procedure: Procedure, header: CallHeader, args: object, peer: str) -> object:
        if not self._turns.take_nowait():
            await self._turns.take(header.client_id)
        try:
            return await self.server.call(procedure, header, args, peer)
        finally:
            self._turns.give()

    async def _finish(
        self, begun: Begun[object], procedure: Procedure, header: CallHeader, size: int, start_s: float
    ) -> object:
        """The result of a call that has to wait for something, as most have not; its request has ``size`` bytes."""
        call = asyncio.get_running_loop().create_task(begun)
        self._calls[call] = procedure, header, start_s
        call.add_done_callback(self._calls.pop)
        call.add_done_callback(self._begin_waiting(size))
        return await asyncio.shield(call)

    async def _keep(self, header: CallHeader, args: object, peer: str, size: int) -> object:
        """The result of a call that waits for something to tell: it takes no turn, and ends when its caller goes."""
        over = self._begin_waiting(size)
        try:
            return await self.server.call(Procedure.NLM_GRANTED, header, args, peer)
        finally:
            over(None)

    def _begin_waiting(self, size: int) -> Callable[[object], None]:
        """The call of this task waits from now on; its request has ``size`` bytes. Call the answer when it is over."""
        task = asyncio.current_task()
        assert task is not None
        self._executing.add(task)
        self._bytes += size

        def over(_: object) -> None:
            self._bytes -= size
            self._executing.discard(task)

        return over

    @property
    def calls_under_way(self) -> int:
        """Calls that are executed, or wait for their turn."""
        return len(self._calls)

    async def drain(self, timeout_s: float | None = None) -> bool:
        """Return when every call that has begun is finished, whether its caller still waits or not.

        After ``timeout_s`` the ones that are left are named in the log, and it is False.
        """
        loop = asyncio.get_running_loop()
        deadline_s = None if timeout_s is None else loop.time() + timeout_s
        while self._calls:
            left_s = None if deadline_s is None else deadline_s - loop.time()
            if left_s is not None and left_s <= 0:
                for procedure, header, since_s in list(self._calls.values())[:MAX_NAMED]:
                    named = _named(procedure, header)
                    log.warning("a call does not end", extra=fields(**named, ms=_ms(monotonic() - since_s)))
                return False
            await asyncio.wait(self._calls, timeout=left_s)
        return True

    def _warn(self, procedure: Procedure, header: CallHeader, status: NfsStat3, peer: str) -> None:
        """What is wrong with us and not with the caller: seldom, for a broken disk is asked again and again."""
        now_s = asyncio.get_running_loop().time()
        if now_s - self._warned_s < WARN_EVERY_S:
            self._not_warned += 1
            return
        named = _named(procedure, header, peer)
        log.warning("a call failed", extra=fields(**named, status=status.name, others_since=self._not_warned))
        self._warned_s, self._not_warned = now_s, 0

    async def _refuse(
        self,
        context: grpc.aio.ServicerContext[bytes, bytes],
        method: Method,
        header: CallHeader | None,
        error: Exception,
    ) -> NoReturn:
        if isinstance(error, TooMuchWaiting):
            self.stats.refused += 1
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
        if isinstance(error, RpcGarbageArgs):
            self.stats.garbage += 1
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        if isinstance(error, RpcProcedureUnavailable):
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, str(error))
        if isinstance(error, RpcAuthError):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
        self.stats.internal_errors += 1
        request_id = f"r{next(self._request_ids):06d}"
        log.error(
            "a call failed inside the server",
            exc_info=error,
            extra=fields(request=request_id, **_named(method.procedure, header, context.peer())),
        )
        await context.abort(grpc.StatusCode.INTERNAL, f"internal error, request {request_id}")
        raise AssertionError("abort raises")


def _log_call(procedure: Procedure, header: CallHeader, peer: str, status: str, elapsed_s: float) -> None:
    log.debug("call", extra=fields(**_named(procedure, header, peer), status=status, ms=_ms(elapsed_s)))


def _named(procedure: Procedure, header: CallHeader | None, peer: str | None = None) -> dict[str, object]:
    """What tells a call from every other one, for a line of the log."""
    named: dict[str, object] = {"procedure": procedure.display_name}
    if header is not None:
        named |= {"client": header.client_id, "xid": f"{header.xid:08x}"}
    return named if peer is None else named | {"peer": peer}


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


def make_server(
    service: NfsService,
    *,
    options: tuple[tuple[str, int], ...] = SERVER_OPTIONS,
    max_calls: int = MAX_EXECUTING_CALLS + MAX_WAITING_CALLS,
) -> grpc.aio.Server:
    """A gRPC server with the NFS services on it, not yet listening: add a port, start it."""
    server = grpc.aio.server(options=options, maximum_concurrent_rpcs=max_calls)
    server.add_generic_rpc_handlers(tuple(service.handlers()))
    return server
