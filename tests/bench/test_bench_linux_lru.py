"""The model of Linux's decisions that `freepage bench` measures makes those of the page cache."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

import freepage as fp
from freepage import PAGE_SIZE
from freepage_lab.bench.groups.lru import zipf
from freepage_lab.bench.groups.toyfs import Inode
from freepage_lab.bench.linux_lru import LinuxLru

Seen = tuple[bool, int, int, int, int, int]
"""(hit, inactive, active, nonresident_age, activations by refault, evictions) after a touch"""


def page_cache(trace: list[int], capacity: int) -> Iterator[Seen]:
    cache = fp.PageCache(now=lambda: 0.0, memcg=fp.MemCgroup(capacity), strict=True)
    mapping = fp.AddressSpace(cache, Inode((max(trace) + 1) * PAGE_SIZE), fp.AddressSpaceOperations())
    lruvec, stat = cache.memcg.lruvec, cache.memcg.stat
    for index in trace:
        page = mapping.pages.get(index)
        hit = page is not None
        if page is None:
            page = fp.add_to_page_cache_lru(mapping, index, noretry=True)
            page.uptodate = True
            page.unlock()
        fp.mark_page_accessed(page)
        evictions = cache.removed[fp.RemovalPath.RECLAIM]
        yield hit, lruvec.nr[0], lruvec.nr[1], lruvec.nonresident_age, stat.workingset_activate_file, evictions


# With 109 a key leaves the inactive list twice before its first place there is come to.
@pytest.mark.parametrize("seed", [*range(12), 109])
def test_every_decision_is_the_page_cache_s(seed: int) -> None:
    chance = random.Random(seed)
    capacity = chance.randint(40, 300)
    keys = int(capacity * chance.choice([1.1, 1.5, 2, 4, 8]))
    trace = zipf(3000, keys, chance.choice([0, 0.5, 0.8, 1.1, 1.5]), seed)
    if seed % 3 == 0:  # with a stream beside it
        trace = [key if chance.random() < 0.5 else at % keys for at, key in enumerate(trace)]
    cache = LinuxLru(capacity)
    for key, seen in zip(trace, page_cache(trace, capacity), strict=True):
        there = key in cache or cache.touch(key)
        counts = cache.nr_inactive, cache.nr_active, cache.nonresident_age, cache.activations, cache.evictions
        assert (there, *counts) == seen


def test_fewer_keys_than_wait_in_batches_cannot_be_reclaimed() -> None:
    cache = LinuxLru(10)
    with pytest.raises(MemoryError, match="no key of 10 can go"):
        for key in range(11):
            cache.touch(key)
