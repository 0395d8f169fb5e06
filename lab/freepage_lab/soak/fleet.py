"""The daemons of a soak test: one server that can be killed and comes back on its port, and some clients."""

from __future__ import annotations

import asyncio
import urllib.request
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from freepage_client.io.remote import RemoteMachine
from freepage_lab.demo.cluster import Cluster, Member
from freepage_runtime.registry import list_daemons
from freepage_runtime.settings import Address, parse_address

CALL_TIMEOUT_S = 300.0
"""No system call of a soak test is given up earlier: a hard mount waits, and what waits too long is noticed."""

EXPORT = "/export"
MOUNTPOINT = "/mnt"


class Fleet(Cluster):
    """Files are in ``directory/files``; the server's memory of its handles in ``directory/state``."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.files = directory / "files"
        self.files.mkdir()
        self._state = directory / "state"
        self._port = 0
        self.server: Member | None = None
        self.machines: dict[str, RemoteMachine] = {}
        self.hosts: dict[str, Member] = {}

    def ended(self) -> list[str]:
        """A line for each daemon that ended without being asked to."""
        return [
            f"{member.daemon.name} ended with {member.process.returncode}"
            for member in self.members
            if member.process.returncode is not None
        ]

    async def start_server(self) -> Address:
        """Start it, again on the port that it had. Raises UserError."""
        arguments = ("server", "--export", str(self.files), "--listen", f"127.0.0.1:{self._port}")
        member = await self.start("server", (*arguments, "--state", str(self._state), "--cache", "32MiB"))
        assert member.daemon.grpc is not None
        address = parse_address(member.daemon.grpc)
        self.server, self._port = member, address.port
        return address

    async def kill(self, member: Member) -> None:
        """SIGKILL; returns when the process is gone."""
        member.process.kill()
        await member.process.wait()
        self.members.remove(member)
        list_daemons()  # which strikes out who is gone

    async def kill_server(self) -> None:
        assert self.server is not None
        await self.kill(self.server)
        self.server = None

    async def start_client(self, name: str, server: str, options: str = "") -> RemoteMachine:
        """A client host with the server's export on /mnt; ``options`` are nfs(5)'s."""
        mount = f"{server}:{EXPORT}={MOUNTPOINT}" + (f",{options}" if options else "")
        member = await self.start(name, ("client", "--name", name, "--mount", mount, "--cache", "8MiB", "--strict"))
        assert member.daemon.control is not None
        self.hosts[name] = member
        if name in self.machines:
            await self.machines[name].close()  # its earlier life's
        machine = RemoteMachine(member.daemon.control, timeout_s=CALL_TIMEOUT_S)
        self.machines[name] = machine
        return machine

    async def kill_client(self, name: str) -> None:
        """SIGKILL; `start_client` brings it back."""
        await self.kill(self.hosts.pop(name))

    async def stop(self) -> None:
        for machine in self.machines.values():
            await machine.close()
        self.machines.clear()
        await super().stop()

    async def count(self, metric: str, role: str) -> int:
        """The sum of a metric, or of one series with its labels, over the running daemons of a role."""
        total = 0.0
        for member in self.members:
            if member.daemon.role == role and member.daemon.metrics is not None:
                total += (await scrape(member.daemon.metrics))[metric]
        return round(total)


async def scrape(address: str) -> Mapping[str, float]:
    """A daemon's metrics: each series under its own name, and their sum under the metric's."""

    def get() -> str:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as answer:
            return str(answer.read().decode())

    sums: defaultdict[str, float] = defaultdict(float)
    for line in (await asyncio.to_thread(get)).splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            metric = name.partition("{")[0]
            for each in {name, metric}:
                sums[each] += float(value)
    return sums
