"""What a cached page costs beside its 4096 bytes: bytes, and the garbage collector's time."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from freepage import PAGE_SIZE
from freepage_lab.bench.groups.toyfs import ToyFs
from freepage_lab.bench.row import Bench, Plan, Sides


def benches() -> list[Bench]:
    def bytes_bench(name: str, limit: int, *, objects: bool) -> Bench:
        peer = f"limit of {limit} bytes"
        return Bench("memory", name, peer, "bytes/page", 1, partial(_bytes_a_page, objects), limit=limit)

    def gc_bench(name: str, *, objects: bool) -> Bench:
        return Bench("memory", name, "limit of 50 ms", "ms", 1, partial(_collection, objects), limit=50)

    return [
        bytes_bench("metadata of a clean page", 96, objects=False),
        bytes_bench("metadata with request and credential", 256, objects=True),
        gc_bench("full collection with 1,000,000 pages cached", objects=False),
        gc_bench("full collection, with request and credential on each", objects=True),
    ]


@contextmanager
def _bytes_a_page(objects: bool, plan: Plan) -> Iterator[Sides]:
    """All memory that Python allocated for the pages; the contents are one buffer that was there before."""
    pages = plan.size(8192, 64)
    contents = bytes(1 << 20)

    def measure() -> float:
        fs = ToyFs(pages * PAGE_SIZE, objects=objects, contents=contents)
        gc.collect()
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            fs.read_in()
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert fs.cache.nr_file_pages == pages
        return (after - before) / pages

    yield Sides(measure)


@contextmanager
def _collection(objects: bool, plan: Plan) -> Iterator[Sides]:
    pages = plan.size(1_000_000, 1000)
    gc.disable()  # nothing here is garbage, and looking for it while the pages come in would take minutes
    gc.collect()
    gc.freeze()  # the modules, as the daemons do when they are ready
    fs = ToyFs(pages * PAGE_SIZE, objects=objects)
    fs.read_in()
    assert fs.cache.nr_file_pages == pages

    def measure() -> float:
        start_ns = time.thread_time_ns()
        gc.collect()
        return (time.thread_time_ns() - start_ns) / 1e6

    try:
        yield Sides(measure)
    finally:
        gc.unfreeze()
        gc.enable()
