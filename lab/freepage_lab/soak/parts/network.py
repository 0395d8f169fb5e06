"""Clients write, fsync and verify while the network between them and the server fails; the server lives on."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack

from freepage_lab.soak.fleet import Fleet
from freepage_lab.soak.part import Outcome, Settings
from freepage_lab.soak.proxy import Link, Proxy, Weather
from freepage_lab.soak.workload import (
    STUCK_S,
    Contest,
    Stopwatch,
    Writer,
    at_work,
    finished,
    read_by_others,
    synced_on_disk,
)

NAME = "network"
ABOUT = "four clients write, fsync and verify over a network that delays, breaks, hangs and reorders"

ROUNDS = 150
CLIENTS = 4
OPTIONS = "wsize=32768,rsize=32768,timeo=10,retrans=2"
"""A second until a call is sent again: sooner than most misfortunes end, so that duplicates meet their first selves."""
FAIR_S = (0.2, 1.0)
FOUL_S = (0.3, 3.0)


class Misfortunes:
    """What happens to one client's connections. Each returns when it is over and the network is as before."""

    def __init__(self, proxy: Proxy, chance: random.Random) -> None:
        self._proxy = proxy
        self._chance = chance
        self.kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "delay": self.delay,
            "throttle": self.throttle,
            "connection lost": self.connection_lost,
            "refused": self.refused,
            "stalled": self.stalled,
            "blackhole": self.blackhole,
            "half-open, server gone": self.server_gone,
            "half-open, client gone": self.client_gone,
        }

    async def _a_while(self) -> None:
        await asyncio.sleep(self._chance.uniform(*FOUL_S))

    def _links(self) -> Sequence[Link]:
        return list(self._proxy.links)

    async def delay(self) -> None:
        self._proxy.change(Weather(delay_s=self._chance.uniform(0.02, 0.3), jitter_s=self._chance.uniform(0.0, 0.2)))
        await self._a_while()
        self._proxy.change(Weather())

    async def throttle(self) -> None:
        self._proxy.change(Weather(bytes_per_s=self._chance.uniform(32e3, 512e3)))
        await self._a_while()
        self._proxy.change(Weather())

    async def connection_lost(self) -> None:
        for link in self._links():
            link.cut()

    async def refused(self) -> None:
        self._proxy.change(Weather(refuse=True))
        await self.connection_lost()
        await self._a_while()
        self._proxy.change(Weather())

    async def stalled(self) -> None:
        """Calls are sent again while the first ones are still under way; then everything arrives."""
        links = self._links()
        for link in links:
            link.hold()
        await self._a_while()
        for link in links:
            link.release()

    async def blackhole(self) -> None:
        links = self._links()
        self._proxy.change(Weather(silent=True))
        for link in links:
            link.hold()
        await self._a_while()
        for link in links:
            link.cut()
        self._proxy.change(Weather())

    async def server_gone(self) -> None:
        links = self._links()
        for link in links:
            link.server_gone()
        await self._a_while()
        for link in links:
            link.cut()

    async def client_gone(self) -> None:
        """What was sent over the old connections arrives after what was sent again over the new ones."""
        links = self._links()
        for link in links:
            link.client_gone()
        await self._a_while()
        for link in links:
            link.release()


async def run(settings: Settings) -> Outcome:
    return await network(settings, settings.scaled(ROUNDS))


async def network(settings: Settings, rounds: int, clients: int = CLIENTS, kinds: Sequence[str] = ()) -> Outcome:
    """Each round, something happens to the connections of one client, or of all at once: one of ``kinds``, or any."""
    chance = random.Random(f"network/{settings.seed}")
    watch = Stopwatch()
    outcome = Outcome()
    verified_on_disk = verified_by_clients = done = 0
    happened: Counter[str] = Counter()
    async with AsyncExitStack() as stack:
        fleet = await stack.enter_async_context(Fleet(settings.directory))
        address = await fleet.start_server()
        proxies = [await stack.enter_async_context(Proxy(address, chance.random)) for _ in range(clients)]
        machines = [await fleet.start_client(f"c{n}", proxy.address, OPTIONS) for n, proxy in enumerate(proxies)]
        writers = [Writer(f"c{n}", machine, str(settings.seed), watch) for n, machine in enumerate(machines)]
        contest = Contest(machines, fleet.files, watch, crashes=False)
        files = [file for writer in writers for file in writer.files]
        fates = [Misfortunes(proxy, chance) for proxy in proxies]
        deck = _deck(list(kinds or fates[0].kinds), chance)
        for number in range(rounds):
            stop = asyncio.Event()
            work = at_work(contest.work(stop), *(writer.work(stop) for writer in writers))
            await asyncio.sleep(chance.uniform(*FAIR_S))
            kind = next(deck)
            struck = fates if chance.random() < 0.3 else [chance.choice(fates)]
            happened[kind] += 1
            await asyncio.gather(*(fate.kinds[kind]() for fate in struck))
            stop.set()
            if not await finished(work):
                outcome.failures.append(f"round {number}: a client is stuck {STUCK_S:g} s after {kind}")
                break
            wrong, there = synced_on_disk(files, fleet.files)
            outcome.failures += [f"round {number}, {kind}: {line}" for line in wrong]
            verified_on_disk += there
            wrong, there = await read_by_others(machines, files, watch)
            outcome.failures += [f"round {number}, {kind}: {line}" for line in wrong]
            verified_by_clients += there
            done += 1
            if done % 10 == 0 or rounds < 10:
                settings.say(f"{done} of {rounds} rounds, longest wait {watch.longest_s:.1f} s ({watch.what})")
        outcome.figures = {
            "seed": settings.seed,
            "rounds": done,
            "clients": clients,
            **{f"rounds with {kind}": count for kind, count in sorted(happened.items())},
            "connections": sum(proxy.accepted for proxy in proxies),
            "bytes carried": sum(proxy.bytes_carried for proxy in proxies),
            "bytes written": sum(writer.written_bytes for writer in writers),
            "fsyncs": sum(writer.fsyncs for writer in writers),
            "fsynced bytes found on disk": verified_on_disk,
            "bytes verified by other clients": verified_by_clients,
            "verifier changes seen": await fleet.count("freepage_client_write_verifier_changes_total", "client"),
            "retransmissions": await fleet.count("freepage_client_rpc_retransmissions_total", "client"),
            "answered from the reply cache": await fleet.count(
                'freepage_server_reply_cache_total{result="hit"}', "server"
            ),
            "contests": contest.rounds,
            "double executions": contest.double_executions,
            "longest stall [s]": round(watch.longest_s, 2),
            "longest stall": watch.what,
        }
        outcome.failures += contest.failures
        outcome.failures += [line for writer in writers for line in writer.failures]
        if outcome.figures["verifier changes seen"]:
            outcome.failures.append("the write verifier changed, although the server lived on")
        outcome.failures += fleet.ended()
    return outcome


def _deck(kinds: list[str], chance: random.Random) -> Iterator[str]:
    """Every kind once, in a new order each time."""
    while True:
        yield from chance.sample(kinds, len(kinds))
