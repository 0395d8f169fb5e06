"""A server's READs of cached data, beside a method of the same shape that returns a constant buffer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from freepage_lab.bench.groups.client import rig, wall_us
from freepage_lab.bench.peer import raw_path
from freepage_lab.bench.row import Bench, Plan, Sides
from freepage_proto.convert import METHODS
from freepage_proto.rpc import Procedure

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
        path, requests = METHODS[Procedure.READ].path, client.read_requests(SIZE, calls)
        yield Sides(
            lambda: wall_us(run, lambda: client.raw_calls(path, requests), calls),
            lambda: wall_us(run, lambda: client.raw_calls(raw_path(SIZE), requests), calls),
        )
