"""A real server and real clients in one process, over gRPC on loopback, with a proxy of the soak test in between.

The server can be killed and come back as another one on the same directory and state: clients notice a connection
lost, and find the new one behind the proxy, where the old one was.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc.aio

from freepage_client.io.transport import GrpcNetwork
from freepage_client.machine import Machine
from freepage_lab.soak.proxy import Proxy
from freepage_proto.rpc import AuthSys, CallHeader, Procedure
from freepage_runtime.clock import LoopClock, wall_ns
from freepage_server.io.directory import DirectoryStorage
from freepage_server.io.service import NfsService, make_server
from freepage_server.io.state import InodeTable
from freepage_server.nfsd.export import Export
from freepage_server.nfsd.server import NfsServer

ROOT = AuthSys(0, 0, (), "tester")


class Life:
    """One life of the server."""

    def __init__(self, directory: Path, table: Path) -> None:
        self.storage = DirectoryStorage(directory, table=lambda root: InodeTable(table))
        self.nfsd = NfsServer(
            [Export("/export", self.storage)], clock=LoopClock(), wall_ns=wall_ns, boot_ns=wall_ns(), strict=True
        )
        self.service = NfsService(self.nfsd)
        self.server: grpc.aio.Server = make_server(self.service)
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.root = self.nfsd.handles.encode(self.nfsd.exports["/export"].id, self.storage.root())

    async def end(self, *, killed: bool) -> None:
        """``killed``: what has not left the server's memory is gone, as with SIGKILL."""
        await self.server.stop(None)
        await self.service.drain(5.0)
        await self.nfsd._flusher.stop()
        if killed:
            await self.nfsd.files.quiesce()
            if self.storage._table is not None:
                self.storage._table._pending.clear()
        else:
            await self.nfsd.stop()
        self.storage.close()


class WireRig:
    """An async context manager. ``life`` is the server of now; ``transport`` speaks to it past the proxy's misdeeds."""

    def __init__(self, directory: Path, state: Path) -> None:
        self.directory = directory
        self._table = state / "table"
        self._machines: list[Machine] = []
        self._networks: list[GrpcNetwork] = []
        self.xids = itertools.count(1)

    async def __aenter__(self) -> Self:
        self.life = Life(self.directory, self._table)
        await self.life.server.start()
        await self.life.nfsd.start()
        self.proxy = await Proxy(("127.0.0.1", self.life.port), lambda: 0.5).__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            for machine in self._machines:
                await machine.close()
        for network in self._networks:
            await network.close()
        await self.proxy.__aexit__()
        await self.life.end(killed=kind is not None)

    def network(self) -> GrpcNetwork:
        """Connections of their own, closed with the rig."""
        network = GrpcNetwork()
        self._networks.append(network)
        return network

    async def machine(self, name: str = "A", options: str = "", **settings: Any) -> Machine:
        """A client host with the export on /mnt, through the proxy."""
        machine = Machine(
            name, network=self.network(), clock=LoopClock(), memory_bytes=64 << 20, strict=True, **settings
        )
        self._machines.append(machine)
        await machine.mount(f"{self.proxy.address}:/export", "/mnt", options)
        return machine

    async def restart(self, *, killed: bool = True) -> None:
        """Another server in the place of this one."""
        for link in list(self.proxy.links):
            link.cut()
        await self.life.end(killed=killed)
        self.life = Life(self.directory, self._table)
        await self.life.server.start()
        await self.life.nfsd.start()
        self.proxy.target = ("127.0.0.1", self.life.port)

    def header(self, xid: int | None = None, client: str = "raw", boot: int = 1) -> CallHeader:
        return CallHeader(client, boot, next(self.xids) if xid is None else xid, ROOT)

    async def call(self, procedure: Procedure, args: object, xid: int | None = None) -> Any:
        """One call over a connection of its own, as a transmission of no client's."""
        network = GrpcNetwork()
        try:
            transport = network.connect(f"127.0.0.1:{self.life.port}")
            return await transport.call(procedure, self.header(xid), args)
        finally:
            await network.close()
