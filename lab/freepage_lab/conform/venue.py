"""Where a workload is played: in a simulated world, where time is virtual and every run of a seed is the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freepage_lab.sim.world import EXPORT, SERVER, World

if TYPE_CHECKING:
    from freepage_client.nfs.transport import Network
    from freepage_server.nfsd.local import LocalTask
    from freepage_server.nfsd.server import NfsServer


class SimVenue:
    """One in-memory server in a :class:`World`."""

    source = f"{SERVER}:{EXPORT}"

    def __init__(self, world: World, server: NfsServer) -> None:
        self._world = world
        self.clock = world.clock
        self.server = server

    @classmethod
    async def open(cls, world: World) -> SimVenue:
        return cls(world, await world.server())

    def local_task(self) -> LocalTask:
        from freepage_server.nfsd.local import LocalTask

        return LocalTask(self.server, EXPORT)

    def network(self, hostname: str) -> Network:
        return self._world.network.view_from(hostname)
