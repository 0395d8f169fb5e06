"""The machine's watermarks: background reclaim between low and high, direct reclaim below min, several groups."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

import freepage as fp
from freepage import PAGE_SIZE, RemovalPath
from pagecache_toyfs import ToyFs, ToyFuture, drive, new_cache

MIB = 256
"""pages in a mebibyte"""


def machine(managed_pages: int, schedule: Callable[[Callable[[], None]], None] | None = None) -> tuple[fp.Zone, ToyFs]:
    fs = ToyFs(new_cache())
    zone = fp.Zone(managed_pages, schedule=schedule)
    zone.attach(fs.cache.memcg)
    return zone, fs


def fill(mapping: fp.AddressSpace, start: int, end: int) -> None:
    for index in range(start, end):
        page = fp.add_to_page_cache_lru(mapping, index)
        page.fill(b"")
        page.uptodate = True
        page.unlock()


@pytest.mark.parametrize(
    ("mib", "kib"),
    # The table in the comment over init_per_zone_wmark_min; 8 GiB from its formula, and both limits.
    [(1, 128), (16, 512), (32, 724), (64, 1024), (128, 1448), (256, 2048), (512, 2896), (1024, 4096), (4096, 8192),
     (8192, 11585), (8 << 20, 262144)],
)  # fmt: skip
def test_min_free_kbytes_of_machines(mib: int, kib: int) -> None:
    assert fp.calculate_min_free_kbytes(mib * 1024) == kib


def test_watermarks_are_a_quarter_of_min_apart_or_a_thousandth_of_the_zone() -> None:
    zone = fp.Zone(16 * MIB)
    assert (zone.wmark_min, zone.wmark_low, zone.wmark_high) == (128, 160, 192)
    zone = fp.Zone(64 * 1024 * MIB)  # 64 GiB: a thousandth is more than a quarter of min
    assert zone.wmark_low - zone.wmark_min == zone.wmark_high - zone.wmark_low == 64 * 1024 * MIB // 1000
    with pytest.raises(ValueError, match="high watermark of 48 pages leaves nothing of 40"):
        fp.Zone(40)


def test_kswapd_frees_from_low_to_high_and_nobody_stalls() -> None:
    zone, fs = machine(16 * MIB)
    mapping = fs.create("f", 64 * MIB * PAGE_SIZE)
    fill(mapping, 0, 16 * MIB - zone.wmark_low)
    assert zone.nr_free_pages == zone.wmark_low and zone.pageoutrun == 0
    fill(mapping, 16 * MIB - zone.wmark_low, 16 * MIB - zone.wmark_low + 1)
    assert zone.pageoutrun == 1 and zone.nr_free_pages >= zone.wmark_high
    fill(mapping, 16 * MIB - zone.wmark_low + 1, 60 * MIB)
    stat = fs.cache.memcg.stat
    assert zone.allocstall == stat.pgscan_direct == 0
    assert stat.pgsteal_kswapd == fs.cache.removed[RemovalPath.RECLAIM] > 40 * MIB
    assert zone.pageoutrun <= -(-stat.pgsteal_kswapd // (zone.wmark_high - zone.wmark_low)), "hysteresis"
    assert zone.nr_free_pages >= zone.wmark_low
    assert min(mapping.pages) == stat.pgsteal_kswapd, "oldest first"
    fp.check_cache(fs.cache)


def test_a_kswapd_that_never_gets_the_cpu_leaves_the_work_to_direct_reclaim() -> None:
    waiting: list[Callable[[], None]] = []
    zone, fs = machine(16 * MIB, waiting.append)
    mapping = fs.create("f", 64 * MIB * PAGE_SIZE)
    fill(mapping, 0, 20 * MIB)
    assert len(waiting) == 1, "woken once while it is awake"
    assert zone.allocstall and fs.cache.memcg.stat.pgsteal_direct and not fs.cache.memcg.stat.pgscan_kswapd
    assert zone.nr_free_pages >= zone.wmark_min
    before = fs.cache.memcg.stat.pgsteal_direct
    waiting.pop()()
    assert zone.balanced() and fs.cache.memcg.stat.pgsteal_kswapd
    fill(mapping, 30 * MIB, 30 * MIB + 10)
    assert fs.cache.memcg.stat.pgsteal_direct == before
    fp.check_cache(fs.cache)


def test_memory_that_nobody_can_free_is_enomem_and_kswapd_gives_up_after_16_runs() -> None:
    zone, fs = machine(4 * MIB)
    mapping = fs.create("f", 64 * MIB * PAGE_SIZE)
    held = []
    with pytest.raises(fp.NoMemory):
        for index in range(5 * MIB):
            page = fp.add_to_page_cache_lru(mapping, index)
            page.get()
            page.unlock()
            held.append(page)
    assert zone.nr_free_pages == zone.wmark_min
    assert zone.kswapd_failures == 16 and zone.pageoutrun == 16
    for page in held:
        page.put()
    fill(mapping, 6 * MIB, 6 * MIB + 1)  # direct reclaim succeeds, and kswapd is trusted again
    assert zone.kswapd_failures == 0
    fp.check_cache(fs.cache)


def test_refaults_before_the_last_balancing_are_no_reason_to_deactivate() -> None:
    zone, fs = machine(16 * MIB)
    mapping, memcg = fs.create("f", 64 * MIB * PAGE_SIZE), fs.cache.memcg
    hot = fp.File(fs.create("hot", MIB * PAGE_SIZE))
    for _ in range(3):
        for index in range(MIB):
            drive(fp.filemap_read(hot, index * PAGE_SIZE, PAGE_SIZE))
    fill(mapping, 0, 17 * MIB)
    gone = min(mapping.pages)
    for index in range(gone - 64, gone):  # evicted a moment ago: each is activated at once
        drive(fp.filemap_read(fp.File(mapping), index * PAGE_SIZE, PAGE_SIZE))
    assert memcg.stat.workingset_activate_file
    fill(mapping, 20 * MIB, 21 * MIB)
    assert memcg.stat.pgdeactivate
    drive(fp.filemap_read(fp.File(mapping), 20 * MIB * PAGE_SIZE, PAGE_SIZE))
    runs, before = zone.pageoutrun, memcg.stat.pgdeactivate
    fill(mapping, 21 * MIB, 23 * MIB)
    assert zone.pageoutrun > runs and memcg.stat.pgdeactivate == before
    fp.check_cache(fs.cache)


def test_readahead_stops_short_where_a_task_would_reclaim_further() -> None:
    zone, fs = machine(4 * MIB, lambda work: None)
    mapping = fs.create("f", 64 * MIB * PAGE_SIZE)
    held = [fp.add_to_page_cache_lru(mapping, index) for index in range(4 * MIB - zone.wmark_min)]
    with pytest.raises(fp.NoMemory):
        fp.add_to_page_cache_lru(mapping, 5 * MIB, noretry=True)
    assert zone.allocstall == 1
    for page in held:
        page.unlock()


def test_two_groups_of_one_machine_shrink_in_proportion_to_their_lists() -> None:
    zone = fp.Zone(32 * MIB)
    large, small = ToyFs(new_cache()), ToyFs(new_cache())
    for fs in (large, small):
        zone.attach(fs.cache.memcg)
    big, little = (fs.create("f", 64 * MIB * PAGE_SIZE) for fs in (large, small))
    fill(little, 0, 4 * MIB)
    fill(big, 0, 27 * MIB)
    assert zone.pageoutrun == 0
    fill(big, 27 * MIB, 27 * MIB + 3 * zone.wmark_high)
    stolen = [fs.cache.memcg.stat.pgsteal_kswapd for fs in (large, small)]
    assert stolen[0] > 4 * stolen[1] > 0
    assert zone.allocstall == 0
    for fs in (large, small):
        fp.check_cache(fs.cache)


def test_caches_that_share_a_limit_evict_one_anothers_pages() -> None:
    # Two caches (two mounts' machines, say) in one control group of 4 MiB: its lists hold the pages of both.
    memcg = fp.MemCgroup(4 * MIB)
    a, b = (ToyFs(fp.PageCache(now=lambda: 0.0, create_future=ToyFuture, memcg=memcg, strict=True)) for _ in range(2))
    first, second = a.create("a", 8 * MIB * PAGE_SIZE), b.create("b", 8 * MIB * PAGE_SIZE)
    fill(first, 0, 3 * MIB)
    fill(second, 0, 3 * MIB)
    assert a.cache.nr_file_pages + b.cache.nr_file_pages == memcg.pages <= 4 * MIB
    assert a.cache.removed[RemovalPath.RECLAIM] >= 2 * MIB and b.cache.removed[RemovalPath.RECLAIM] == 0, "FIFO"
    assert a.cache.hook_calls[RemovalPath.RECLAIM] == a.cache.removed[RemovalPath.RECLAIM], "the owner's own hook"
    fp.check_memcg(memcg, [a.cache, b.cache])
    drive(fp.truncate_inode_pages_range(second, 0))
    assert b.cache.nr_file_pages == 0 and memcg.pages == a.cache.nr_file_pages
    fp.check_memcg(memcg, [a.cache, b.cache])


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 12 * MIB), st.integers(1, MIB), st.booleans()),
        min_size=1, max_size=40,
    ),
    st.booleans(),
)  # fmt: skip
def test_any_mix_of_streams_keeps_the_machine_above_min(
    steps: list[tuple[int, int, int, bool]], deferred: bool
) -> None:
    """Three caches, two of them in one limited group, on a machine of 8 MiB; kswapd at once or at any later time."""
    waiting: list[Callable[[], None]] = []
    zone = fp.Zone(8 * MIB, schedule=waiting.append if deferred else None)
    limited, free = fp.MemCgroup(3 * MIB), fp.MemCgroup()
    groups = {limited: 2, free: 1}
    systems = [
        ToyFs(fp.PageCache(now=lambda: 0.0, create_future=ToyFuture, memcg=memcg, strict=True))
        for memcg, count in groups.items()
        for _ in range(count)
    ]
    for memcg in groups:
        zone.attach(memcg)
    files = [fp.File(fs.create("f", 16 * MIB * PAGE_SIZE)) for fs in systems]
    for which, start, count, run in steps:
        drive(fp.filemap_read(files[which], start * PAGE_SIZE, count * PAGE_SIZE))
        if run and waiting:
            waiting.pop()()
            assert zone.balanced()
        assert zone.nr_free_pages >= zone.wmark_min
        assert limited.usage_pages <= 3 * MIB
        fp.check_memcg(limited, [systems[0].cache, systems[1].cache])
        fp.check_memcg(free, [systems[2].cache])
    for fs in systems:
        removed = fs.cache.removed[RemovalPath.RECLAIM]
        assert fs.cache.hook_calls[RemovalPath.RECLAIM] == removed == sum(fs.hooked.values())
