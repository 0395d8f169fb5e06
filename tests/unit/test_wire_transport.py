"""The client's transport and the server's service back to back over loopback, with a stand-in for nfsd."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import pytest

from freepage_client.io.transport import GrpcNetwork, GrpcTransport
from freepage_proto.convert import METHODS
from freepage_proto.nfs3 import (
    Fattr3,
    FType3,
    GetattrArgs,
    GetattrRes,
    NfsStat3,
    NullArgs,
    NullRes,
    ReadArgs,
    ReadRes,
    StableHow,
    WriteArgs,
    WriteRes,
)
from freepage_proto.rpc import (
    AuthSys,
    CallHeader,
    Procedure,
    RpcAuthError,
    RpcConnectionLost,
    RpcError,
    RpcGarbageArgs,
    RpcProcedureUnavailable,
    RpcSystemError,
    RpcTimedOut,
)
from freepage_server.io.service import NfsService, make_server

HEADER = CallHeader("a", 7, 1, AuthSys(1000, 1000, (1, 2), "a.example"))
FATTR = Fattr3(FType3.REG, 0o644, 1, 0, 0, 5, 4096, 1, 2, 3, 4, 5)
DATA = bytes(range(256)) * 4096  # 1 MiB


class Nfsd:
    """Answers what a test tells it to, and remembers who asked what."""

    def __init__(self, answer: Callable[[object], object] | None = None) -> None:
        self.answer = answer or (lambda args: NullRes())
        self.seen: list[tuple[Procedure, CallHeader, object, str]] = []
        self.gate: asyncio.Event | None = None
        self.entered = asyncio.Semaphore(0)
        self.finished = 0
        self.executing = 0
        self.most_executing = 0

    def reader(self, header: CallHeader, handle: bytes, peer: str = "local") -> None:
        return None

    async def call(self, procedure: Procedure, header: CallHeader, args: object, peer: str = "local") -> object:
        self.seen.append((procedure, header, args, peer))
        self.executing += 1
        self.most_executing = max(self.most_executing, self.executing)
        self.entered.release()
        try:
            if self.gate is not None:
                await self.gate.wait()
            return self.answer(args)
        finally:
            self.executing -= 1
            self.finished += 1


class Wire:
    def __init__(
        self, nfsd: Nfsd, service: NfsService, server: grpc.aio.Server, port: int, network: GrpcNetwork
    ) -> None:
        self.nfsd, self.service, self.server, self.network = nfsd, service, server, network
        self.address = f"127.0.0.1:{port}"
        self.transport: GrpcTransport = network.connect(self.address)


@asynccontextmanager
async def wire(
    nfsd: Nfsd | None = None, *, max_executing: int = 64, network: GrpcNetwork | None = None
) -> AsyncIterator[Wire]:
    nfsd = nfsd or Nfsd()
    service = NfsService(nfsd, max_executing=max_executing)
    server = make_server(service)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    network = network or GrpcNetwork()
    try:
        yield Wire(nfsd, service, server, port, network)
    finally:
        await network.close()
        await server.stop(None)
        await service.drain()


def raw(channel: grpc.aio.Channel, path: str) -> grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]:
    return channel.unary_unary(path)


def over_the_wire(nfsd: Nfsd | None, story: Callable[[Wire], Awaitable[None]], **settings: object) -> None:
    async def main() -> None:
        async with wire(nfsd, **settings) as w:  # type: ignore[arg-type]
            await story(w)

    asyncio.run(main())


def test_a_call_arrives_and_its_reply_returns() -> None:
    nfsd = Nfsd(lambda args: GetattrRes(NfsStat3.OK, FATTR))

    async def story(w: Wire) -> None:
        args = GetattrArgs(b"handle")
        assert await w.transport.call(Procedure.GETATTR, HEADER, args) == GetattrRes(NfsStat3.OK, FATTR)
        ((procedure, header, seen, peer),) = nfsd.seen
        assert (procedure, header, seen) == (Procedure.GETATTR, HEADER, args)
        assert peer.startswith("ipv4:127.0.0.1:")
        assert w.network.stats.by_procedure[Procedure.GETATTR].latency.total == 1
        assert w.service.stats.by_procedure[Procedure.GETATTR].received == 1

    over_the_wire(nfsd, story)


def test_a_mebibyte_travels_both_ways_unchanged() -> None:
    def answer(args: object) -> object:
        if isinstance(args, WriteArgs):
            assert args.data == DATA
            return WriteRes(NfsStat3.OK, count=args.count, committed=StableHow.FILE_SYNC, verf=b"12345678")
        return ReadRes(NfsStat3.OK, FATTR, len(DATA), True, memoryview(DATA))

    async def story(w: Wire) -> None:
        result = await w.transport.call(Procedure.READ, HEADER, ReadArgs(b"h", 0, len(DATA)))
        assert isinstance(result, ReadRes)
        assert result.data == DATA
        args = WriteArgs(b"h", 0, len(DATA), StableHow.UNSTABLE, memoryview(DATA))
        written = await w.transport.call(Procedure.WRITE, HEADER, args)
        assert isinstance(written, WriteRes)
        assert written.count == len(DATA)

    over_the_wire(Nfsd(answer), story)


@pytest.mark.parametrize("procedure", [p for p in Procedure if p.number == 0])
def test_every_program_is_served(procedure: Procedure) -> None:
    async def story(w: Wire) -> None:
        assert await w.transport.call(procedure, HEADER, NullArgs()) == NullRes()

    over_the_wire(None, story)


@pytest.mark.parametrize(
    ("raised", "seen"),
    [
        (RpcGarbageArgs("odd"), RpcGarbageArgs),
        (RpcProcedureUnavailable("never heard of"), RpcProcedureUnavailable),
        (RpcAuthError("not you"), RpcAuthError),
        (KeyError("secret detail"), RpcSystemError),
    ],
)
def test_errors_cross_the_wire_as_themselves(
    raised: Exception, seen: type[RpcError], caplog: pytest.LogCaptureFixture
) -> None:
    def answer(args: object) -> object:
        raise raised

    async def story(w: Wire) -> None:
        with pytest.raises(seen) as caught:
            await w.transport.call(Procedure.NULL, HEADER, NullArgs())
        assert w.network.stats.by_procedure[Procedure.NULL].failures == 1
        if seen is RpcSystemError:
            assert "secret" not in str(caught.value)
            assert "request r000001" in str(caught.value)
            (record,) = [r for r in caplog.records if r.levelno >= logging.ERROR]
            assert record.exc_info is not None
        else:
            assert str(raised) in str(caught.value)

    over_the_wire(Nfsd(answer), story)


def test_a_request_that_is_no_message_is_refused_and_counted() -> None:
    async def story(w: Wire) -> None:
        async with grpc.aio.insecure_channel(w.address) as channel:
            for path, request in ((METHODS[Procedure.READ].path, b"\xff\xff"), (METHODS[Procedure.NULL].path, b"")):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await raw(channel, path)(request)
                assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert w.service.stats.garbage == 2
        assert w.nfsd.seen == []

    over_the_wire(None, story)


def test_a_message_beyond_the_limit_is_garbage_and_the_connection_lives_on() -> None:
    async def story(w: Wire) -> None:
        data = bytes(5 << 20)
        with pytest.raises(RpcGarbageArgs, match="larger than max"):
            await w.transport.call(Procedure.WRITE, HEADER, WriteArgs(b"h", 0, len(data), StableHow.UNSTABLE, data))
        async with grpc.aio.insecure_channel(w.address) as channel:  # a client that does not check by itself
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await raw(channel, METHODS[Procedure.WRITE].path)(data)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await w.transport.call(Procedure.NULL, HEADER, NullArgs()) == NullRes()

    over_the_wire(None, story)


def test_a_server_that_is_not_there_is_a_lost_connection() -> None:
    async def main() -> None:
        async with wire() as w:
            address = w.address
        network = GrpcNetwork()
        with pytest.raises(RpcConnectionLost, match=address):
            await network.connect(address).call(Procedure.NULL, HEADER, NullArgs())
        await network.close()

    asyncio.run(main())


def test_a_server_that_stops_loses_the_calls_under_way_and_answers_after_its_return() -> None:
    async def main() -> None:
        nfsd = Nfsd()
        nfsd.gate = asyncio.Event()
        async with wire(nfsd) as w:
            call = asyncio.ensure_future(w.transport.call(Procedure.NULL, HEADER, NullArgs()))
            await nfsd.entered.acquire()
            await w.server.stop(None)
            with pytest.raises(RpcConnectionLost):
                await call
            nfsd.gate.set()
            await w.service.drain()
            assert nfsd.finished == 1  # it was executed all the same
            again = make_server(w.service)
            assert again.add_insecure_port(w.address)
            await again.start()
            try:
                await w.transport._channel.channel.channel_ready()
                assert await w.transport.call(Procedure.NULL, HEADER, NullArgs()) == NullRes()
            finally:
                await again.stop(None)

    asyncio.run(main())


def test_silence_is_a_time_out_and_the_call_is_executed_to_its_end() -> None:
    async def story(w: Wire) -> None:
        w.nfsd.gate = asyncio.Event()
        with pytest.raises(RpcTimedOut):
            await w.transport.call(Procedure.NULL, HEADER, NullArgs())
        w.nfsd.gate.set()
        await w.service.drain()
        assert w.nfsd.finished == 1
        assert w.service.calls_under_way == 0

    over_the_wire(None, story, network=GrpcNetwork(call_deadline_s=0.2))


def test_calls_beyond_the_limit_wait_for_their_turn() -> None:
    async def story(w: Wire) -> None:
        w.nfsd.gate = asyncio.Event()
        calls = [asyncio.ensure_future(w.transport.call(Procedure.NULL, HEADER, NullArgs())) for _ in range(5)]
        await w.nfsd.entered.acquire()
        await w.nfsd.entered.acquire()
        assert w.nfsd.executing == 2
        w.nfsd.gate.set()
        await asyncio.gather(*calls)
        assert w.nfsd.most_executing == 2
        assert w.nfsd.finished == 5

    over_the_wire(None, story, max_executing=2)


def test_transports_to_one_server_share_a_channel_unless_told_otherwise() -> None:
    async def story(w: Wire) -> None:
        second = w.network.connect(w.address)
        for transport in (w.transport, second):
            await transport.call(Procedure.NULL, HEADER, NullArgs())
        assert len({peer for *_, peer in w.nfsd.seen}) == 1
        await second.close()
        await second.close()
        with pytest.raises(RpcConnectionLost, match="closed"):
            await second.call(Procedure.NULL, HEADER, NullArgs())
        await w.transport.call(Procedure.NULL, HEADER, NullArgs())  # the other user's channel stays
        own = GrpcNetwork(share_channels=False)
        for transport in (own.connect(w.address), own.connect(w.address)):
            await transport.call(Procedure.NULL, HEADER, NullArgs())
        assert len({peer for *_, peer in w.nfsd.seen}) == 3
        await own.close()

    over_the_wire(None, story)
