"""The in-process network: order, price, and everything that can happen to a call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from freepage_lab.sim import Fault, SimNetwork, run
from freepage_proto.nfs3 import NfsStat3, ReadArgs, ReadRes
from freepage_proto.rpc import AuthSys, CallHeader, Procedure, RpcConnectionLost, RpcProcedureUnavailable

KIB = 1024


class Echo:
    """Answers READ with as many zeroes as asked for, and remembers the order and time of the calls."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, float, str]] = []
        self.inside = 0

    async def call(self, procedure: Procedure, header: CallHeader, args: object, peer: str = "local") -> object:
        assert self.inside == 0, "two calls at a time"
        self.inside += 1
        await asyncio.sleep(0)
        self.inside -= 1
        if procedure is not Procedure.READ:
            raise RpcProcedureUnavailable(procedure.name)
        assert isinstance(args, ReadArgs)
        self.seen.append((args.offset, asyncio.get_running_loop().time(), peer))
        return ReadRes(NfsStat3.OK, count=args.count, data=bytes(args.count))


def header(xid: int = 1) -> CallHeader:
    return CallHeader("A", 1, xid, AuthSys())


def read(offset: int, count: int = 0) -> ReadArgs:
    return ReadArgs(b"f", offset, count)


def play(story: Callable[[SimNetwork, Echo], Awaitable[None]], seed: int = 1) -> None:
    async def main() -> None:
        network, echo = SimNetwork(seed=seed), Echo()
        network.add_server("server", echo)
        await story(network, echo)
        await network.close()

    run(main())


def test_a_call_costs_by_procedure_and_twelve_microseconds_a_kib() -> None:
    async def story(network: SimNetwork, echo: Echo) -> None:
        loop = asyncio.get_running_loop()
        transport = network.connect("server")
        await transport.call(Procedure.READ, header(), read(0))
        assert loop.time() == pytest.approx(0.000_12)
        before = loop.time()
        await transport.call(Procedure.READ, header(), read(0, 1024 * KIB))
        assert loop.time() - before == pytest.approx(0.000_12 + 0.012_288)
        there_and_back = 2 * network.latency.of(Procedure.COMMIT, 0)
        assert there_and_back == pytest.approx(0.000_55), "ext4 commits its journal"

    play(story)


def test_calls_are_executed_one_at_a_time_in_the_order_sent() -> None:
    async def story(network: SimNetwork, echo: Echo) -> None:
        a, b = network.view_from("A").connect("server"), network.view_from("B").connect("server")
        calls = [(a if n % 2 else b).call(Procedure.READ, header(n), read(n, 64 * KIB * (n % 3))) for n in range(20)]
        await asyncio.gather(*calls)
        assert [offset for offset, _, _ in echo.seen] == list(range(20))
        assert [peer for _, _, peer in echo.seen] == ["A" if n % 2 else "B" for n in range(20)]

    play(story)


def test_lost_messages_are_silence_and_a_lost_reply_was_executed() -> None:
    async def story(network: SimNetwork, echo: Echo) -> None:
        transport = network.connect("server")
        network.faults.append(Fault(procedures=frozenset({Procedure.READ}), lose_request=True, times=1))
        network.faults.append(Fault(lose_reply=True, skip=1, times=1))
        for offset in (1, 2):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(60):
                    await transport.call(Procedure.READ, header(), read(offset))
        await transport.call(Procedure.READ, header(), read(3))
        assert [offset for offset, _, _ in echo.seen] == [2, 3]

    play(story)


def test_delay_and_chance_come_from_the_seed() -> None:
    def hits(seed: int) -> list[bool]:
        late: list[bool] = []

        async def story(network: SimNetwork, echo: Echo) -> None:
            loop = asyncio.get_running_loop()
            network.faults.append(Fault(delay_s=1.0, probability=0.5))
            for offset in range(32):
                before = loop.time()
                await network.connect("server").call(Procedure.READ, header(), read(offset))
                late.append(loop.time() - before > 0.9)

        play(story, seed)
        return late

    assert hits(1) == hits(1) != hits(2)
    assert 4 < sum(hits(1)) < 28


def test_a_cut_connection_fails_what_is_in_flight_and_what_comes_until_healed() -> None:
    async def story(network: SimNetwork, echo: Echo) -> None:
        transport = network.connect("server")
        pending = asyncio.ensure_future(transport.call(Procedure.READ, header(), read(1)))
        await asyncio.sleep(0)
        network.cut("server")
        with pytest.raises(RpcConnectionLost):
            await pending
        with pytest.raises(RpcConnectionLost):
            await transport.call(Procedure.READ, header(), read(2))
        network.heal("server")
        await transport.call(Procedure.READ, header(), read(3))
        assert [offset for offset, _, _ in echo.seen] == [1, 3], "what had been sent is executed"

    play(story)


def test_unknown_hosts_and_closed_transports_are_unreachable_and_errors_travel() -> None:
    async def story(network: SimNetwork, echo: Echo) -> None:
        with pytest.raises(RpcConnectionLost, match="nowhere"):
            await network.connect("nowhere").call(Procedure.READ, header(), read(0))
        transport = network.connect("server")
        with pytest.raises(RpcProcedureUnavailable):
            await transport.call(Procedure.WRITE, header(), read(0))
        await transport.close()
        with pytest.raises(RpcConnectionLost):
            await transport.call(Procedure.READ, header(), read(0))

    play(story)
