"""A whole little fleet in one process on virtual time: servers, client machines, and the network between them.

    async def story(world: World) -> None:
        a, b = await world.client("A"), await world.client("B")
        ...

    run_world(story, seed=7)

One seed drives everything that is left to chance. A world that ends takes itself down in the order a machine room
would: clients unmount, servers flush and stop, wires go quiet.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from freepage_lab.sim.loop import run
from freepage_lab.sim.network import Latency, SimNetwork
from freepage_runtime.clock import LoopClock, LoopWall

if TYPE_CHECKING:
    from freepage import DirtyDomain, MemCgroup
    from freepage_client.machine import Machine
    from freepage_client.nfs.transport import Network
    from freepage_server.nfsd.local import LocalTask
    from freepage_server.nfsd.server import NfsServer

_T = TypeVar("_T")

EPOCH_NS = 1_700_000_000 * 1_000_000_000
"""The date on which every simulated world begins. A fixed one, so that a run does not depend on the day it is made."""

SERVER = "server"
EXPORT = "/export"
TIMESTAMP_GRANULE_NS = 4_000_000
"""ext4 takes its times from the kernel's tick, 4 ms at HZ=250 (current_time, kernel/time/timekeeping.c)."""


class World:
    """Servers and clients that share a clock, a seed and a network. Made inside a running virtual-time loop."""

    def __init__(self, *, seed: int = 0, latency: Latency | None = None) -> None:
        self.seed = seed
        self.clock = LoopClock()
        self.wall_ns = LoopWall(EPOCH_NS, self.clock)
        self.network = SimNetwork(seed=seed, latency=latency)
        self.servers: dict[str, NfsServer] = {}
        self.machines: dict[str, Machine] = {}

    async def server(self, name: str = SERVER, **settings: Any) -> NfsServer:
        """The server of that name: the first call makes it, with one export in memory, and starts it.

        ``settings`` go to NfsServer as they are; ``storage`` replaces the fresh MemoryStorage.
        """
        if name not in self.servers:
            from freepage_server.nfsd.memory import MemoryStorage
            from freepage_server.nfsd.server import Export, NfsServer

            storage = settings.pop("storage", None) or MemoryStorage(
                wall_ns=self.wall_ns, granule_ns=TIMESTAMP_GRANULE_NS
            )
            export = Export(EXPORT, storage)
            server = NfsServer([export], clock=self.clock, wall_ns=self.wall_ns, **settings)
            await server.start()
            self.network.add_server(name, server)
            self.servers[name] = server
        return self.servers[name]

    async def local_task(self, server: str = SERVER) -> LocalTask:
        """A program on the server machine itself, working on its export without NFS."""
        from freepage_server.nfsd.local import LocalTask

        nfs_server = await self.server(server)
        return LocalTask(nfs_server, EXPORT)

    def machine(
        self,
        hostname: str,
        *,
        memory_bytes: int | None = None,
        memcg: MemCgroup | None = None,
        dirty: DirtyDomain | None = None,
        network: Network | None = None,
        strict: bool = True,
    ) -> Machine:
        """The client host of that name, made at the first call. ``strict``: a broken rule of the hook raises."""
        if hostname not in self.machines:
            from freepage_client.machine import Machine

            self.machines[hostname] = Machine(
                hostname,
                network=network if network is not None else self.network.view_from(hostname),
                clock=self.clock,
                memory_bytes=memory_bytes,
                memcg=memcg,
                dirty=dirty,
                seed=self.seed,
                strict=strict,
            )
        return self.machines[hostname]

    async def client(self, hostname: str = "A", options: str = "", *, server: str = SERVER, **settings: Any) -> Machine:
        """A client host with ``server``'s export mounted on /mnt; ``options`` as nfs(5) writes them."""
        await self.server(server)
        machine = self.machine(hostname, **settings)
        await machine.mount(f"{server}:{EXPORT}", "/mnt", options)
        return machine

    async def close(self) -> None:
        for machine in self.machines.values():
            await machine.close()
        for server in self.servers.values():
            await server.stop()
        await self.network.close()


def run_world(story: Callable[[World], Awaitable[_T]], *, seed: int = 0, latency: Latency | None = None) -> _T:
    """Tell ``story`` in a world of its own on virtual time, then take the world down.

    A failure names the seed, so that it can be repeated.
    """

    async def main() -> _T:
        world = World(seed=seed, latency=latency)
        try:
            result = await story(world)
        except Exception as error:
            error.add_note(f"in a world with seed={seed}, at {world.clock.now():.6f} virtual seconds")
            raise
        await world.close()
        return result

    return run(main())
