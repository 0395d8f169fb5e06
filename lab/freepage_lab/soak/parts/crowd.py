"""Sixty-four clients at a time on one server, for a minute: nobody meets an error, and reads what was written.

The clients are emulated hosts in this process, each with a page cache and a connection of its own; the server is a
process. Each client writes files in its own directory, syncs them, reads its neighbour's, lists, renames and removes.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import random
from collections import Counter
from collections.abc import Awaitable

from freepage_client.io.transport import GrpcNetwork
from freepage_client.machine import Machine
from freepage_lab.soak.fleet import EXPORT, MOUNTPOINT, Fleet, scrape
from freepage_lab.soak.part import Outcome, Settings
from freepage_lab.soak.parts.fuzz import descriptors_of, memory_of
from freepage_proto.rpc import RpcError
from freepage_runtime.clock import LoopClock

NAME = "crowd"
ABOUT = "64 clients at a time on one server, without an error"

CLIENTS = 64
SECONDS = 60.0
FILES = 4
SIZE = 96 * 1024
CACHE_BYTES = 1 << 20
STUCK_S = 60.0


def contents(owner: int, number: int, version: int) -> bytes:
    """What a file holds: every 16 bytes say whose it is."""
    return (b"%04d-%02d-%07d\n" % (owner, number, version % 10_000_000) * (SIZE // 16 + 1))[:SIZE]


class Member:
    """One client of the crowd."""

    def __init__(self, number: int, machine: Machine, seed: int, outcome: Outcome) -> None:
        self.number = number
        self.machine = machine
        self.done: Counter[str] = Counter()
        self.slowest_s = 0.0
        self.slowest = ""
        self._chance = random.Random(f"crowd/{seed}/{number}")
        self._outcome = outcome
        self._versions: Counter[int] = Counter()
        self._task = machine.task()
        self._home = f"{MOUNTPOINT}/c{number}"

    async def begin(self) -> None:
        await self._task.mkdir(self._home)

    async def exit(self) -> None:
        await self._task.exit()

    async def work(self, until_s: float, neighbours: int) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < until_s and not self._outcome.failures:
            what = self._chance.choice(("write", "write", "read own", "read other", "list", "rename", "remove", "stat"))
            begin_s = loop.time()
            try:
                async with asyncio.timeout(STUCK_S):
                    await self._do(what, neighbours)
            except (OSError, RpcError) as error:
                self._outcome.failures.append(f"client {self.number}, {what}: {error!r}")
            self.done[what] += 1
            if loop.time() - begin_s > self.slowest_s:
                self.slowest_s, self.slowest = loop.time() - begin_s, what

    async def _do(self, what: str, neighbours: int) -> None:
        task, number = self._task, self._chance.randrange(FILES)
        path = f"{self._home}/f{number}"
        match what:
            case "write":
                self._versions[number] += 1
                fd = await task.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
                try:
                    await task.write(fd, contents(self.number, number, self._versions[number]))
                    await task.fsync(fd)
                finally:
                    await task.close(fd)
            case "read own":
                if self._versions[number]:
                    data = await self._read(path)
                    if data is not None and data != contents(self.number, number, self._versions[number]):
                        self._outcome.failures.append(f"client {self.number} read something else than it wrote")
            case "read other":
                other = self._chance.randrange(neighbours)
                data = await self._read(f"{MOUNTPOINT}/c{other}/f{number}")
                # Its owner may be in the middle of writing: then there are holes.
                right = (b"%04d-%02d-" % (other, number), bytes(8))
                if data and any(data[at : at + 8] not in right for at in range(0, len(data) - 16, 16)):
                    self._outcome.failures.append(f"client {self.number} read another file than it opened")
            case "list":
                fd = await task.open(self._home, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    while await task.getdents(fd):
                        pass
                finally:
                    await task.close(fd)
            case "rename":
                if self._versions[number]:
                    await self._if_there(task.rename(path, f"{self._home}/moved"))
                    await self._if_there(task.rename(f"{self._home}/moved", path))
            case "remove":
                await self._if_there(task.unlink(path))
                self._versions[number] = 0
            case _:
                await task.stat(self._home)

    async def _if_there(self, doing: Awaitable[object]) -> None:
        with contextlib.suppress(FileNotFoundError):
            await doing

    async def _read(self, path: str) -> bytes | None:
        """The file's data; None when it is not there, or went while it was read: its owner is at work."""
        try:
            fd = await self._task.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            return bytes(await self._task.pread(fd, SIZE, 0))
        except OSError as error:
            if error.errno != errno.ESTALE or path.startswith(self._home + "/"):
                raise
            return None
        finally:
            await self._task.close(fd)


async def run(settings: Settings) -> Outcome:
    return await crowd(settings, SECONDS * settings.scale)


async def crowd(settings: Settings, seconds: float, clients: int = CLIENTS) -> Outcome:
    outcome = Outcome()
    async with Fleet(settings.directory) as fleet:
        address = await fleet.start_server()
        assert fleet.server is not None
        pid, metrics = fleet.server.daemon.pid, str(fleet.server.daemon.metrics)
        network = GrpcNetwork(share_channels=False)
        crowd: list[Member] = []
        try:
            for number in range(clients):
                machine = Machine(
                    f"crowd-{number}", network=network, clock=LoopClock(), memory_bytes=CACHE_BYTES, strict=True
                )
                await machine.mount(f"{address}:{EXPORT}", MOUNTPOINT, "wsize=65536,rsize=65536")
                crowd.append(Member(number, machine, settings.seed, outcome))
                await crowd[-1].begin()
            settings.say(f"{clients} clients have mounted")
            loop = asyncio.get_running_loop()
            begin_s, before = loop.time(), memory_of(pid)
            await asyncio.gather(*(member.work(begin_s + seconds, clients) for member in crowd))
            took_s = loop.time() - begin_s
            counts = await scrape(metrics)
            memory, descriptors = memory_of(pid), descriptors_of(pid)
            for member in crowd:
                await member.exit()
                for mounted in list(member.machine.mounts):
                    left = await member.machine.umount(mounted.mountpoint)
                    outcome.failures += [f"left behind by client {member.number}: {line}" for line in left]
                await member.machine.close()
        finally:
            await network.close()
        for metric, what in (
            ("freepage_server_internal_errors_total", "calls failed inside the server"),
            ("freepage_server_refused_calls_total", "calls were refused"),
            ("freepage_server_slow_calls_total", "calls were broken off"),
            ("freepage_server_garbage_requests_total", "messages were none"),
        ):
            if counts[metric]:
                outcome.failures.append(f"{counts[metric]:.0f} {what}")
    done = sum((member.done for member in crowd), Counter[str]())
    slowest = max(crowd, key=lambda member: member.slowest_s)
    outcome.figures = {
        "seed": settings.seed,
        "clients": clients,
        "seconds of work": round(took_s, 1),
        "operations": done.total(),
        "operations/s": round(done.total() / took_s),
        "calls": int(counts["freepage_server_rpcs_total"]),
        "calls/s": round(counts["freepage_server_rpcs_total"] / took_s),
        "bytes written": int(counts["freepage_server_write_bytes_total"]),
        "bytes read": int(counts["freepage_server_read_bytes_total"]),
        "fewest operations of a client": min(member.done.total() for member in crowd),
        "slowest operation [s]": round(slowest.slowest_s, 2),
        "slowest operation": slowest.slowest,
        "server's memory at the beginning [MiB]": round(before / (1 << 20), 1),
        "server's memory at the end [MiB]": round(memory / (1 << 20), 1),
        "server's descriptors at the end": descriptors,
    }
    return outcome
