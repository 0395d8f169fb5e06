"""Eviction decisions alone: a trace in which few keys are hot (Zipf, exponent 1.1), and a cache for a tenth of them.

``LRU`` decides less than Linux does: no second list, no second chance, no refault distance. It is here because
everybody knows what it costs. The peers store nothing, nor do our two; what the page cache costs, which makes the same
decisions for pages with flags, owners and an exit door, stands beside them and is asked nothing.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import accumulate
from typing import Any

from freepage import (
    PAGE_SIZE,
    AddressSpace,
    AddressSpaceOperations,
    MemCgroup,
    PageCache,
)
from freepage.filemap import add_run_to_page_cache_lru
from freepage.folio import ACTIVE, LOCKED, REFERENCED, UPTODATE
from freepage.swap import activate_page
from freepage_lab.bench.groups.toyfs import Inode
from freepage_lab.bench.linux_lru import LinuxLru
from freepage_lab.bench.measure import per_item_ns
from freepage_lab.bench.row import NOTHING_ASKED, Bench, CannotRun, Plan, Sides
from freepage_lab.bench.two_list import TwoList

Run = Callable[[list[int], int], Callable[[], object]]
"""(trace, capacity) -> a run over the whole trace with a cache that is empty when it is made."""


def benches() -> list[Bench]:
    def bench(what: str, run: Run, peer: str, peer_run: Run, times: float) -> Bench:
        name = f"{what} on zipf(1.1) ({peer.split('.')[0].split()[0]})"
        return Bench("lru", name, peer, "ns/request", times, partial(_trace, run, peer_run))

    core, model = partial(_decide, TwoList), partial(_decide, LinuxLru)
    return [
        bench("bare two-list core", core, "cachetools.LRUCache", _cachetools, 3),
        bench("full Linux model", model, "cachetools.LRUCache", _cachetools, 1),
        bench("bare two-list core", core, "libcachesim get()", _libcachesim, 3),
        bench("full Linux model", model, "libcachesim get()", _libcachesim, 1),
        bench("the page cache itself", _page_cache, "cachetools.LRUCache", _cachetools, NOTHING_ASKED),
    ]


def zipf(requests: int, keys: int, exponent: float, seed: int) -> list[int]:
    """Keys by chance: the one of rank r with a weight of r ** -exponent; ranks and key numbers have no relation."""
    chance = random.Random(seed)
    names = list(range(keys))
    chance.shuffle(names)
    weights = list(accumulate((rank + 1) ** -exponent for rank in range(keys)))
    return chance.choices(names, cum_weights=weights, k=requests)


@contextmanager
def _trace(run: Run, peer_run: Run, plan: Plan) -> Iterator[Sides]:
    keys = plan.size(100_000, 500)
    trace = zipf(plan.size(300_000, 2000), keys, 1.1, seed=1)
    capacity = keys // 10
    peer_run(trace[:1], capacity)  # CannotRun comes before anything is measured

    def side(run: Run) -> float:
        return per_item_ns(len(trace), run(trace, capacity))

    yield Sides(partial(side, run), partial(side, peer_run))


def _decide(kind: type[TwoList] | type[LinuxLru], trace: list[int], capacity: int) -> Callable[[], object]:
    cache = kind(capacity)
    touch = cache.touch

    def run() -> None:
        for key in trace:
            key in cache or touch(key)

    return run


def _page_cache(trace: list[int], capacity: int) -> Callable[[], object]:
    """What makes the model's decisions: folios without data, charging, batches, lists, shadows, the exit door.

    A hit is what `read_nowait` does before it copies, a miss what readahead does for a window of one page.
    """
    cache = PageCache(now=time.monotonic, memcg=MemCgroup(capacity))
    mapping = AddressSpace(cache, Inode((max(trace) + 1) * PAGE_SIZE), AddressSpaceOperations())

    def run() -> None:
        load = mapping.pages.load
        for index in trace:
            folio = load(index)
            if folio is None:
                folio = add_run_to_page_cache_lru(mapping, index, 1)
                folio.state[0] ^= LOCKED | UPTODATE  # it was locked, and not yet uptodate
            off = index - folio.index
            state = folio.state[off]
            if not state & REFERENCED:
                folio.state[off] = state | REFERENCED
            elif not state & ACTIVE:
                activate_page(folio, off)

    return run


def _cachetools(trace: list[int], capacity: int) -> Callable[[], object]:
    try:
        import cachetools  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        raise CannotRun("cachetools is not installed (pip install cachetools)") from None
    cache: Any = cachetools.LRUCache(capacity)

    def run() -> None:
        for key in trace:
            try:
                cache[key]
            except KeyError:
                cache[key] = None

    return run


def _libcachesim(trace: list[int], capacity: int) -> Callable[[], object]:
    """Requests are made beforehand, one for each key: only get() is measured."""
    try:
        import libcachesim  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        raise CannotRun("libcachesim is not installed (pip install libcachesim)") from None
    get = libcachesim.LRU(cache_size=capacity).get
    request_of: dict[int, Any] = {}
    for key in trace:
        if key not in request_of:
            request = request_of[key] = libcachesim.Request()
            request.obj_id = key
            request.obj_size = 1
    requests = [request_of[key] for key in trace]

    def run() -> None:
        for request in requests:
            get(request)

    return run
