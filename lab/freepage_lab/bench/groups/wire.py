"""Messages of a mebibyte, by hand and by protobuf's own code; the bytes are the same, and a test proves it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from freepage_lab.bench.measure import per_item_ns
from freepage_lab.bench.row import Bench, Plan, Sides
from freepage_proto import protobuf_only
from freepage_proto.convert import METHODS
from freepage_proto.nfs3 import Fattr3, FType3, NfsStat3, ReadRes, StableHow, WriteArgs
from freepage_proto.rpc import AuthSys, CallHeader, Procedure
from freepage_runtime.malloc import keep_large_blocks

SIZE = 1 << 20


def benches() -> list[Bench]:
    def bench(name: str, make: Callable[[], tuple[Callable[[], Any], Callable[[], Any]]]) -> Bench:
        return Bench("wire", name, "protobuf's own", "ns/message", 4, partial(_beside_protobuf, make))

    return [
        bench("encode + decode a READ reply of 1 MiB", _read),
        bench("encode + decode a WRITE call of 1 MiB", _write),
    ]


@contextmanager
def _beside_protobuf(make: Callable[[], tuple[Callable[[], Any], Callable[[], Any]]], plan: Plan) -> Iterator[Sides]:
    keep_large_blocks()  # as the daemons do; protobuf gains more by it than we
    ours, beside = make()
    assert ours() == beside()
    times = plan.size(100, 1)

    def cost(once: Callable[[], Any]) -> float:
        def often() -> None:
            for _ in range(times):
                once()

        return per_item_ns(times, often)

    yield Sides(partial(cost, ours), partial(cost, beside))


def _read() -> tuple[Callable[[], Any], Callable[[], Any]]:
    times = 1_700_000_000_123_456_789
    attributes = Fattr3(FType3.REG, 0o644, 1, 0, 0, SIZE, SIZE, 1, 2, times, times, times)
    result = ReadRes(NfsStat3.OK, attributes, SIZE, False, random.Random(1).randbytes(SIZE))
    method = METHODS[Procedure.READ]

    def ours() -> Any:
        return method.decode_reply(method.encode_reply(result))

    def beside() -> Any:
        return protobuf_only.decode_read_res(protobuf_only.encode_read_res(result))

    return ours, beside


def _write() -> tuple[Callable[[], Any], Callable[[], Any]]:
    header = CallHeader("client", 1, 77, AuthSys(1000, 1000, (1000,), "client"))
    args = WriteArgs(bytes(32), 1 << 30, SIZE, StableHow.UNSTABLE, random.Random(2).randbytes(SIZE))
    method = METHODS[Procedure.WRITE]

    def ours() -> Any:
        return method.decode_call(method.encode_call(header, args))

    def beside() -> Any:
        return protobuf_only.decode_write(protobuf_only.encode_write(header, args))

    return ours, beside
