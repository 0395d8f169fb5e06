"""A stream through a cache that is four times too small for it: every page comes, is given its objects, and goes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from freepage import PAGE_SIZE
from freepage_lab.bench.groups.toyfs import FOLIO, ToyFs
from freepage_lab.bench.measure import per_item_ns
from freepage_lab.bench.row import Bench, Plan, Sides


def benches() -> list[Bench]:
    def bench(name: str, times: int, *, sites: bool) -> Bench:
        peer = f"{times} times copying the same bytes into fresh memory"
        return Bench("insert", name, peer, "ns/page", 1, partial(_stream, sites), allowed=times, huge_pages=False)

    return [
        bench("stream of 4 times memory, request, credential and hook on every page", 5, sites=True),
        bench("stream of 4 times memory, without allocation sites", 3, sites=False),
    ]


@contextmanager
def _stream(sites: bool, plan: Plan) -> Iterator[Sides]:
    memory = plan.size(32 << 20, 1 << 20)
    stream = 4 * memory
    contents = bytes(range(256)) * 4096
    pages = stream // PAGE_SIZE

    def ours() -> float:
        fs = ToyFs(stream, memory=memory, objects=True, sites=sites, contents=contents)
        cost = per_item_ns(pages, fs.read_in)
        assert sum(fs.cache.removed.values()) == sum(fs.cache.hook_calls.values()) >= pages - memory // PAGE_SIZE
        return cost

    def beside() -> float:
        source = memoryview(contents)
        kept: list[bytearray] = []

        def copy() -> None:
            for pos in range(0, stream, FOLIO):
                start = pos % len(contents)
                kept.append(bytearray(source[start : start + FOLIO]))

        return per_item_ns(pages, copy)

    yield Sides(ours, beside)
