"""Where a workload is played.

In a :class:`SimVenue` time is virtual and every run of a seed is the same. In a :class:`GrpcVenue` client and server
talk over real gRPC on loopback, in real time: the same counts must come out, or something between the client's logic
and the socket is wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from freepage_lab.conform.dirhash import directory_position
from freepage_lab.sim.network import Latency, data_bytes
from freepage_lab.sim.world import EPOCH_NS, EXPORT, SERVER, TIMESTAMP_GRANULE_NS, World
from freepage_proto.rpc import Procedure
from freepage_runtime.clock import Clock, LoopClock, wall_ns

if TYPE_CHECKING:
    from freepage_client.nfs.transport import Network, Transport
    from freepage_proto.rpc import CallHeader
    from freepage_server.nfsd.local import LocalTask
    from freepage_server.nfsd.memory import MemoryStorage
    from freepage_server.nfsd.server import NfsServer


def exported_storage(wall_ns: Callable[[], int]) -> MemoryStorage:
    """What the recordings' server exported: an ext4, as far as a client can tell."""
    from freepage_server.nfsd.memory import MemoryStorage

    return MemoryStorage(
        wall_ns=wall_ns,
        granule_ns=TIMESTAMP_GRANULE_NS,
        position=directory_position,
        rest_ns=2 * TIMESTAMP_GRANULE_NS,  # a tick until the work is begun, and one for what is before it
    )


class SimVenue:
    """One in-memory server in a :class:`World`."""

    source = f"{SERVER}:{EXPORT}"

    def __init__(self, world: World, server: NfsServer) -> None:
        self._world = world
        self.clock: Clock = world.clock
        self.server = server

    @classmethod
    async def open(cls, world: World) -> SimVenue:
        return cls(world, await world.server(storage=exported_storage(world.wall_ns)))

    async def sleep(self, seconds: float) -> None:
        await self.clock.sleep(seconds)

    def local_task(self) -> LocalTask:
        from freepage_server.nfsd.local import LocalTask

        return LocalTask(self.server, EXPORT)

    def network(self, hostname: str) -> Network:
        return self._world.network.view_from(hostname)


AFTERMATH_S = 0.005
"""How long a client is given to make use of a reply."""


class ServerTime:
    """The date on a server behind gRPC: it runs while the script sleeps, and an RPC moves it by what one costs.

    Real calls take some milliseconds here and took a quarter of one where the recordings were made. What follows
    within one granule of the server's timestamps there must do so here, or a client is right to see a change of its
    own as another's.
    """

    def __init__(self) -> None:
        self._ns = EPOCH_NS
        self._asleep: tuple[float, float] | None = None
        """While the script sleeps: since when on the loop's clock, and for how many seconds."""

    def __call__(self) -> int:
        """Nanoseconds since the epoch."""
        if self._asleep is None:
            return self._ns
        since, seconds = self._asleep
        return self._ns + round(min(asyncio.get_running_loop().time() - since, seconds) * 1e9)

    def advance(self, seconds: float) -> None:
        """An RPC has cost this much; one that is made in the background of a sleep costs nothing beside it."""
        if self._asleep is None:
            self._ns += round(seconds * 1e9)

    async def sleep(self, seconds: float) -> None:
        """Let real time pass, and the date with it: by exactly ``seconds``, however late we are woken."""
        self._asleep = (asyncio.get_running_loop().time(), seconds)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._ns, self._asleep = self._ns + round(seconds * 1e9), None


class GrpcVenue:
    """One in-memory server behind a gRPC port of its own.

    One RPC is in flight at a time, because the recordings' machine had one processor and answered in order.
    """

    def __init__(self, server: NfsServer, address: str, network: Network, time: ServerTime) -> None:
        self.clock: Clock = LoopClock()
        self.server = server
        self.source = f"{address}:{EXPORT}"
        self._time = time
        self._network = _OneAtATime(network, time)

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncIterator[GrpcVenue]:
        """Serve on a free port for the block's length."""
        from freepage_client.io.transport import GrpcNetwork
        from freepage_runtime.daemon import listen
        from freepage_runtime.settings import LOOPBACK, Address
        from freepage_server.io.service import NfsService, make_server
        from freepage_server.nfsd.export import Export
        from freepage_server.nfsd.server import NfsServer

        time = ServerTime()
        storage = exported_storage(time)
        server = NfsServer([Export(EXPORT, storage)], clock=LoopClock(), wall_ns=time, boot_ns=wall_ns())
        service = NfsService(server)
        grpc_server = make_server(service)
        address = listen(grpc_server, Address(LOOPBACK, 0))
        network = GrpcNetwork()
        await server.start()
        await grpc_server.start()
        try:
            yield cls(server, str(address), network, time)
        finally:
            await network.close()
            await grpc_server.stop(None)
            await service.drain()
            await server.stop()

    async def sleep(self, seconds: float) -> None:
        """As long as asked, and until what is in flight has come home, for which a busy machine may need longer."""
        await self._time.sleep(seconds)
        await self._network.idle()

    def local_task(self) -> LocalTask:
        from freepage_server.nfsd.local import LocalTask

        return LocalTask(self.server, EXPORT)

    def network(self, hostname: str) -> Network:
        return self._network


class _OneAtATime:
    """A network whose calls wait for each other, in the order in which they were made, and move the server's time."""

    def __init__(self, network: Network, time: ServerTime) -> None:
        self._network = network
        self._time = time
        self._turn = asyncio.Lock()
        self._latency = Latency()
        self._in_flight = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    def connect(self, server: str) -> _InTurn:
        return _InTurn(self, self._network.connect(server))

    async def call(self, transport: Transport, procedure: Procedure, header: CallHeader, args: object) -> object:
        if procedure is Procedure.NLM_GRANTED:  # the server keeps it until there is something to tell
            return await transport.call(procedure, header, args)
        self._in_flight += 1
        self._quiet.clear()
        try:
            async with self._turn:
                self._time.advance(self._latency.of(procedure, data_bytes(args)))
                result = await transport.call(procedure, header, args)
                self._time.advance(self._latency.of(procedure, data_bytes(result)))
                return result
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._quiet.set()

    async def idle(self) -> None:
        """Return when no call is under way, and the client has dealt with the last reply."""
        await self._quiet.wait()
        await asyncio.sleep(AFTERMATH_S)


class _InTurn:
    def __init__(self, network: _OneAtATime, transport: Transport) -> None:
        self._network = network
        self._transport = transport

    async def call(self, procedure: Procedure, header: CallHeader, args: object) -> object:
        return await self._network.call(self._transport, procedure, header, args)

    async def close(self) -> None:
        await self._transport.close()
