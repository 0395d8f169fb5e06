"""A client over gRPC, with its server on the other processor, beside the barest call that gRPC can make.

The raw call is grpc.aio's unary call without serializers: bytes go out, and a constant buffer of the same size comes
back. What a client adds to it is the page cache, the requests and credentials of its pages, RPC, and NFS.
"""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import grpc.aio

from freepage_client.io.transport import CHANNEL_OPTIONS, GrpcNetwork
from freepage_client.machine import Machine
from freepage_client.vfs.task import Task
from freepage_lab.bench.peer import EXPORT, Peer, raw_path, running
from freepage_lab.bench.row import Bench, Plan, Sides
from freepage_proto.convert import METHODS
from freepage_proto.nfs3 import ReadArgs
from freepage_proto.rpc import AuthSys, CallHeader, Procedure
from freepage_runtime.clock import LoopClock
from freepage_runtime.malloc import keep_large_blocks

Call: TypeAlias = "grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]"

DEPTH = 8
"""Calls in flight."""

REQUEST = bytes(110)
"""As long as a READ call."""


def benches() -> list[Bench]:
    return [
        Bench(
            "client",
            "uncached sequential read, 256 KiB at depth 8",
            "raw grpc.aio unary call",
            "us/call",
            0.85,
            _uncached,
        ),
        Bench(
            "client",
            "processor time added by a 64 KiB miss",
            "20 % of the raw call's",
            "us/call",
            1,
            _added,
            allowed=0.20,
        ),
        Bench("client", "await read(4 KiB) of cached data", "os.pread", "ns/read", 0.60, _cached),
    ]


@dataclass(slots=True)
class Rig:
    """A client with one open file, and a channel of its own for raw calls.

    The file stays open: what opening and closing cost, two or three calls that nothing else hides, is not reading.
    """

    machine: Machine
    task: Task
    fd: int
    peer: Peer
    channel: grpc.aio.Channel
    size: int

    async def forget(self) -> None:
        """Nothing is cached afterwards."""
        await self.machine.drop_caches(1)

    async def read_through(self, piece: int) -> None:
        """Read the file from its beginning to its end."""
        await self.task.lseek(self.fd, 0, os.SEEK_SET)
        done = 0
        while data := await self.task.read(self.fd, piece):
            done += len(data)
        assert done == self.size

    async def raw_calls(self, path: str, requests: Sequence[bytes]) -> None:
        """A raw call for each request, `DEPTH` in flight; nobody looks into the replies."""
        method: Call = self.channel.unary_unary(path)
        left = iter(requests)

        async def one_after_the_other() -> None:
            for request in left:
                await method(request)

        await asyncio.gather(*(one_after_the_other() for _ in range(DEPTH)))

    def read_requests(self, size: int, calls: int) -> list[bytes]:
        """READs of the open file from its beginning on, round and round, ready to be sent."""
        (mount,) = self.machine.mounts
        (inode,) = (each for each in mount.inodes.values() if each.is_reg)
        encode = METHODS[Procedure.READ].encode_call
        cred = AuthSys(0, 0, (), "bench")
        return [
            encode(CallHeader("bench", 1, xid, cred), ReadArgs(inode.fh, xid * size % self.size, size))
            for xid in range(1, calls + 1)
        ]


@contextmanager
def rig(plan: Plan, size: int, options: str) -> Iterator[tuple[Rig, Callable[[Coroutine[Any, Any, Any]], Any]]]:
    """A server process, and in this one a client that has mounted it; and what runs coroutines of theirs."""
    keep_large_blocks()
    with tempfile.TemporaryDirectory(prefix="freepage-bench-") as directory:
        path = Path(directory, "file")
        path.write_bytes(random.Random(1).randbytes(1 << 20) * -(-size // (1 << 20)))
        os.truncate(path, size)
        with running(Path(directory), plan.cores) as peer, asyncio.Runner() as runner:
            network = GrpcNetwork()
            channel = grpc.aio.insecure_channel(f"dns:///{peer.address}", options=CHANNEL_OPTIONS)

            async def open_rig() -> Rig:
                machine = Machine(
                    "bench", network=network, clock=LoopClock(asyncio.get_running_loop()), memory_bytes=None
                )
                await machine.mount(f"{peer.address}:{EXPORT}", "/mnt", options)
                task = machine.task()
                made = Rig(machine, task, await task.open("/mnt/file", os.O_RDONLY), peer, channel, size)
                await made.read_through(1 << 20)  # the server's cache is warm from here on
                return made

            async def close_rig(made: Rig) -> None:
                await made.task.close(made.fd)
                await made.machine.close()
                await network.close()
                await channel.close()

            made = runner.run(open_rig())
            try:
                yield made, runner.run
            finally:
                runner.run(close_rig(made))


def wall_us(
    run: Callable[[Coroutine[Any, Any, Any]], Any], work: Callable[[], Coroutine[Any, Any, Any]], n: int
) -> float:
    """Time that ``work`` takes, in us for each of its ``n`` calls: two processes are at it."""
    start = time.perf_counter()
    run(work())
    return (time.perf_counter() - start) * 1e6 / n


def cpu_us(
    run: Callable[[Coroutine[Any, Any, Any]], Any], work: Callable[[], Coroutine[Any, Any, Any]], n: int
) -> float:
    """Processor time of this process, gRPC's own threads included, in us for each of ``n`` calls."""
    start = time.process_time()
    run(work())
    return (time.process_time() - start) * 1e6 / n


@contextmanager
def _uncached(plan: Plan) -> Iterator[Sides]:
    piece = 256 << 10
    calls = plan.size(1024, 8)  # readahead needs some ten READs to come up to its depth
    options = f"rsize={piece},read_ahead_kb={DEPTH * piece >> 10},actimeo=3600"
    with rig(plan, calls * piece, options) as (client, run):

        def ours() -> float:
            run(client.forget())
            return wall_us(run, lambda: client.read_through(piece), calls)

        requests = [REQUEST] * calls
        yield Sides(ours, lambda: wall_us(run, lambda: client.raw_calls(raw_path(piece), requests), calls))


@contextmanager
def _added(plan: Plan) -> Iterator[Sides]:
    """The raw calls are READs of the same bytes from the same server, so that only what the client does is added."""
    piece = 64 << 10
    calls = plan.size(512, 8)
    options = f"rsize={piece},read_ahead_kb={DEPTH * piece >> 10},actimeo=3600"
    with rig(plan, calls * piece, options) as (client, run):
        path, requests = METHODS[Procedure.READ].path, client.read_requests(piece, calls)

        def raw() -> float:
            return cpu_us(run, lambda: client.raw_calls(path, requests), calls)

        def added() -> float:
            run(client.forget())
            before = raw()  # and after: a machine that slows down meanwhile would pass for work
            return cpu_us(run, lambda: client.read_through(piece), calls) - (before + raw()) / 2

        yield Sides(added, raw)


@contextmanager
def _cached(plan: Plan) -> Iterator[Sides]:
    size = 4 << 10
    reads = plan.size(4096, 16)
    with rig(plan, reads * size, "actimeo=3600") as (client, run):
        task, fd = client.task, client.fd

        async def ours() -> None:
            read = task.pread
            for pos in range(0, reads * size, size):
                await read(fd, size, pos)

        with tempfile.TemporaryFile() as on_disk:
            on_disk.write(bytes(reads * size))
            on_disk.flush()

            async def beside() -> None:
                read, descriptor = os.pread, on_disk.fileno()
                for pos in range(0, reads * size, size):
                    read(descriptor, size, pos)

            yield Sides(partial(_thread_ns, run, ours, reads), partial(_thread_ns, run, beside, reads))


def _thread_ns(run: Callable[[Coroutine[Any, Any, Any]], Any], work: Callable[[], Awaitable[Any]], n: int) -> float:
    async def timed() -> int:
        start_ns = time.thread_time_ns()
        await work()
        return time.thread_time_ns() - start_ns

    return float(run(timed()) / n)
