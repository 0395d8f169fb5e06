"""A server's READs of cached data, beside a method of the same shape that returns a constant buffer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from freepage_lab.bench.groups.client import DEPTH, Call, Rig, rig, wall_us
from freepage_lab.bench.peer import raw_path
from freepage_lab.bench.row import Bench, Plan, Sides
from freepage_proto.convert import METHODS
from freepage_proto.nfs3 import ReadArgs
from freepage_proto.rpc import AuthSys, CallHeader, Procedure

SIZE = 64 << 10


def benches() -> list[Bench]:
    return [
        Bench(
            "server",
            "64 KiB READs of cached data",
            "gRPC method returning a constant buffer",
            "us/call",
            0.80,
            _reads,
        )
    ]


@contextmanager
def _reads(plan: Plan) -> Iterator[Sides]:
    """Both are called alike: requests encoded beforehand, replies left alone."""
    calls = plan.size(1024, 16)
    with rig(plan, plan.size(16 << 20, 4 * SIZE), "actimeo=3600") as (client, run):
        requests = _requests(client, calls)
        yield Sides(
            lambda: wall_us(run, lambda: _call(client, METHODS[Procedure.READ].path, requests), calls),
            lambda: wall_us(run, lambda: _call(client, raw_path(SIZE), requests), calls),
        )


def _requests(client: Rig, calls: int) -> list[bytes]:
    (mount,) = client.machine.mounts
    (inode,) = (each for each in mount.inodes.values() if each.is_reg)
    encode = METHODS[Procedure.READ].encode_call
    cred = AuthSys(0, 0, (), "bench")
    return [
        encode(CallHeader("bench", 1, xid, cred), ReadArgs(inode.fh, xid * SIZE % client.size, SIZE))
        for xid in range(1, calls + 1)
    ]


async def _call(client: Rig, path: str, requests: list[bytes]) -> None:
    method: Call = client.channel.unary_unary(path)
    left = iter(requests)

    async def one_after_the_other() -> None:
        for request in left:
            reply = await method(request)
            assert len(reply) > SIZE

    await asyncio.gather(*(one_after_the_other() for _ in range(DEPTH)))
