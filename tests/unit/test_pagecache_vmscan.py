"""Reclaim: the runs measured on Linux 6.1 in a memory cgroup, number by number."""

from __future__ import annotations

import random

import pytest

import freepage as fp
from freepage import PAGE_SIZE, RemovalPath
from pagecache_toyfs import ToyFs, ToyInode, ToyScheduler, drive, new_cache

KIB = 1024
MIB = 1024 * KIB


def stream(file: fp.File, start: int, end: int, chunk: int = 64 * KIB) -> None:
    for pos in range(start, end, chunk):
        drive(fp.filemap_read(file, pos, min(chunk, end - pos)))


def roomy() -> fp.DirtyDomain:
    """A dirty domain that never throttles."""
    return fp.DirtyDomain(now=lambda: 0.0, dirty_bytes=1 << 40, background_bytes=1 << 39)


def reclaimed(fs: ToyFs) -> int:
    return fs.cache.removed[RemovalPath.RECLAIM]


def test_stream_through_16_mib_leaves_in_bursts_of_57_in_fifo_order() -> None:
    # 4096 pages, 38 of them the kernel's own objects. 4058 = the pages that fit; 57 = 1+3+7+15+31 of 4058 >> 11...7
    fs = ToyFs(new_cache(4096, other_pages=38), io_pages=32)
    mapping = fs.create("f", 8240 * PAGE_SIZE)
    file = fp.File(mapping)
    bursts: list[int] = []
    fs.cache.memcg.trace = bursts.append
    stream(file, 0, 8240 * PAGE_SIZE)
    assert bursts == [57] * 74
    assert reclaimed(fs) == 4218
    assert sorted(mapping.pages) == list(range(4218, 8240))
    assert fs.cache.memcg.stat.pgsteal_direct == fs.cache.memcg.stat.pgscan_direct == 4218
    fp.check_cache(fs.cache)


def test_first_eviction_after_4058_pages() -> None:
    fs = ToyFs(new_cache(4096, other_pages=38))
    mapping = fs.create("f", MIB * 64)
    for index in range(4058):
        fp.add_to_page_cache_lru(mapping, index).unlock()
    assert reclaimed(fs) == 0
    fp.add_to_page_cache_lru(mapping, 4058).unlock()
    assert reclaimed(fs) == 57 and mapping.nrpages == 4002


def test_s1_a_second_pass_over_a_stream_misses_everything() -> None:
    fs = ToyFs(new_cache(64 * 256, other_pages=287), io_pages=32)
    file = fp.File(fs.create("f", 256 * MIB))
    stream(file, 0, 256 * MIB, MIB)
    stat = fs.cache.memcg.stat
    assert stat.workingset_refault_file == 0
    stream(fp.File(file.mapping), 0, 256 * MIB, MIB)
    assert stat.workingset_refault_file == 65536 and stat.workingset_activate_file == 0
    assert stat.pgactivate == 0


def test_s2_a_stream_evicts_only_itself_beside_a_working_set() -> None:
    fs = ToyFs(new_cache(64 * 256, other_pages=287), io_pages=32)
    a = fs.create("a", 32 * MIB)
    b = fs.create("b", 256 * MIB)
    stream(fp.File(a), 0, 32 * MIB)
    stream(fp.File(a), 0, 32 * MIB)
    assert fs.cache.memcg.stat.pgactivate == pytest.approx(8175, abs=17)  # 15 wait in the batch
    stream(fp.File(b), 0, 256 * MIB)
    fs.reads.clear()
    stream(fp.File(a), 0, 32 * MIB)
    reread_kib = 4 * sum(count for _, count in fs.reads)
    assert reread_kib == pytest.approx(668, abs=64)  # measured; the lists' model gave 688


def test_s3_a_loop_that_fits_stays() -> None:
    fs = ToyFs(new_cache(64 * 256, other_pages=287), io_pages=32)
    mapping = fs.create("f", 60 * MIB)
    stream(fp.File(mapping), 0, 60 * MIB)
    fs.reads.clear()
    for _ in range(2):
        stream(fp.File(mapping), 0, 60 * MIB)
    assert fs.reads == [] and reclaimed(fs) == 0


def test_s4_random_reads_with_refaults() -> None:
    fs = ToyFs(new_cache(64 * 256, other_pages=287), io_pages=32)
    mapping = fs.create("f", 0)
    mapping.host.i_size = 256 * MIB  # all zeros: no need to have them in memory
    stat = fs.cache.memcg.stat
    chance = random.Random(1)
    rounds = []
    before = (0, 0, 0)
    for _ in range(4):
        file = fp.File(mapping)
        fs.reads.clear()
        for _ in range(10_000):
            drive(fp.filemap_read(file, chance.randrange(32768) * 4096, 4096))
        after = (stat.pgactivate, stat.workingset_refault_file, stat.workingset_activate_file)
        kib = 4 * sum(count for _, count in fs.reads)
        rounds.append((kib, *(now - then for now, then in zip(after, before, strict=True))))
        before = after
    assert rounds[0] == (36056, 1245, 0, 0)  # measured: the same
    # measured server KiB 33496, 32720, 32792: what varies is the number of kernel pages charged to the group
    assert rounds[1:] == [(33508, 2755, 58, 58), (32820, 2430, 2242, 1327), (32364, 1968, 4550, 1513)]
    for (kib, *_), measured in zip(rounds, (36056, 33496, 32720, 32792), strict=True):
        assert kib == pytest.approx(measured, rel=0.02)
    fp.check_cache(fs.cache)


def test_s5_small_reads_of_one_page_touch_it_once() -> None:
    fs = ToyFs(new_cache(), io_pages=32)
    mapping = fs.create("f", MIB)
    stream(fp.File(mapping), 0, MIB, 512)
    assert fs.cache.memcg.stat.pgactivate == 0
    stream(fp.File(mapping), 0, MIB, 512)
    assert fs.cache.memcg.stat.pgactivate == 255  # 17 batches of 15; page 255 waits in the batch


def test_s6_written_and_read_once_is_not_active() -> None:
    fs = ToyFs(new_cache())
    mapping = fs.create("f", 0)
    file = fp.File(mapping)
    drive(fp.generic_perform_write(file, 0, bytes(MIB)))
    drive(fp.do_writepages(mapping, fp.WritebackControl(True)))
    stream(file, 0, MIB)
    fp.lru_add_drain(fs.cache.memcg)
    assert fs.cache.memcg.stat.pgactivate == 0 and not fs.cache.memcg.lruvec.active


def test_1020_of_1024_reread_pages_show_as_active() -> None:
    fs = ToyFs(new_cache(), io_pages=256)
    mapping = fs.create("f", 4 * MIB)
    stream(fp.File(mapping), 0, 4 * MIB, MIB)
    stream(fp.File(mapping), 0, 4 * MIB, MIB)
    assert len(fs.cache.memcg.lruvec.active) == 1020


def test_pages_in_the_add_batch_cannot_be_reclaimed_or_dropped() -> None:
    fs = ToyFs(new_cache())
    mapping = fs.create("f", MIB)
    for index in range(3):
        fp.add_to_page_cache_lru(mapping, index).unlock()
    assert [page.refcount for page in mapping.resident_range()] == [1, 1, 1]
    assert fp.invalidate_mapping_pages(mapping) == 0
    # that call drained the batch behind itself
    assert fp.invalidate_mapping_pages(mapping) == 3


def test_the_sixteenth_page_of_a_batch_is_dropped_by_the_same_call() -> None:
    fs = ToyFs(new_cache())
    mapping = fs.create("f", MIB)
    for index in range(20):
        fp.add_to_page_cache_lru(mapping, index).unlock()
    assert fp.invalidate_mapping_pages(mapping) == 20  # 0..14 were on the list; their batch drained 15..19


def test_dirty_and_written_pages_are_activated_and_rotated_when_written() -> None:
    fs = ToyFs(new_cache(64, dirty=roomy()))
    mapping = fs.create("f", MIB)
    file = fp.File(mapping)
    fs.deferred = True
    drive(fp.generic_perform_write(file, 0, bytes(15 * PAGE_SIZE)))
    memcg = fs.cache.memcg
    assert memcg.shrink(15) == 0
    pages = mapping.resident_range()
    assert memcg.stat.nr_vmscan_immediate_reclaim >= 15 and memcg.stat.pgactivate >= 15
    assert all(page.reclaim for page in pages)
    fs.bdi.wb.on_wakeup = lambda: None
    drive(fp.do_writepages(mapping, fp.WritebackControl(False)))
    while fs.pending:
        fs.complete()
    assert memcg.stat.pgrotated == 15
    assert not any(page.active or page.reclaim for page in pages)
    assert memcg.shrink(15) == 15
    fp.check_cache(fs.cache)


def test_private_pages_are_activated_and_kept() -> None:
    fs = ToyFs(new_cache(256))
    mapping = fs.create("f", MIB)
    drive(fp.filemap_read(fp.File(mapping), 0, 15 * PAGE_SIZE))
    page = mapping.pages[0]
    page.private = object()
    page.get()
    fs.cache.memcg.shrink(15)
    assert page.active and page.mapping is mapping
    page.private = None
    page.put()


def test_a_locked_page_goes_back_to_the_head() -> None:
    fs = ToyFs(new_cache(256))
    mapping = fs.create("f", MIB)
    drive(fp.filemap_read(fp.File(mapping), 0, 15 * PAGE_SIZE))
    fp.lru_add_drain(fs.cache.memcg)
    assert mapping.pages[0].trylock()
    tail = next(iter(fs.cache.memcg.lruvec.inactive))
    assert tail == mapping.pages[0]
    assert fs.cache.memcg.shrink(1) >= 1
    assert 0 in mapping.pages
    mapping.pages[0].unlock()


def test_shadows_only_from_reclaim_and_not_for_writing() -> None:
    fs = ToyFs(new_cache(512), io_pages=32)
    mapping = fs.create("f", MIB)
    file = fp.File(mapping)
    stream(file, 0, MIB)
    fs.cache.memcg.shrink(100)
    assert len(mapping.shadows) == reclaimed(fs) >= 100
    assert 0 in mapping.shadows and 1 in mapping.shadows
    drive(fp.generic_perform_write(file, 0, bytes(PAGE_SIZE)))
    assert fs.cache.memcg.stat.workingset_refault_file == 0
    drive(fp.filemap_read(file, PAGE_SIZE, 1))
    assert fs.cache.memcg.stat.workingset_refault_file > 0
    fs.cache.drop_pagecache()
    assert not mapping.shadows


def test_two_caches_share_a_limit() -> None:
    memcg = fp.MemCgroup(1024)
    caches = [fp.PageCache(now=lambda: 0.0, memcg=memcg, strict=True) for _ in range(2)]
    files = [fp.File(ToyFs(cache, io_pages=32).create("f", 4 * MIB)) for cache in caches]
    for _ in range(2):
        for file in files:
            stream(file, 0, 4 * MIB)
    assert sum(cache.nr_file_pages for cache in caches) <= 1024
    assert all(cache.removed[RemovalPath.RECLAIM] for cache in caches)
    for cache in caches:
        fp.check_cache(cache, alone=False)
    fp.check_memcg(memcg, caches)


def test_resize_reclaims_down_to_the_new_limit() -> None:
    fs = ToyFs(new_cache(4096), io_pages=32)
    mapping = fs.create("f", 8 * MIB)
    stream(fp.File(mapping), 0, 8 * MIB)
    memcg = fs.cache.memcg
    assert memcg.resize(512)
    assert memcg.usage_pages <= 512
    assert memcg.resize(None)
    stream(fp.File(mapping), 0, 8 * MIB)
    assert mapping.nrpages == 2048
    fp.check_cache(fs.cache)


def test_resize_fails_while_everything_is_dirty() -> None:
    fs = ToyFs(new_cache(4096))
    mapping = fs.create("f", 0)
    drive(fp.generic_perform_write(fp.File(mapping), 0, bytes(30 * PAGE_SIZE)))
    assert not fs.cache.memcg.resize(16)
    assert mapping.nrpages == 30


def test_no_memory_when_nothing_can_go() -> None:
    fs = ToyFs(new_cache(16))
    mapping = fs.create("f", MIB)
    pages = [fp.add_to_page_cache_lru(mapping, index) for index in range(16)]
    with pytest.raises(fp.NoMemory):
        fp.add_to_page_cache_lru(mapping, 16)
    with pytest.raises(fp.NoMemory):
        fp.add_to_page_cache_lru(mapping, 16, noretry=True)
    for page in pages:
        page.unlock()
    fp.add_to_page_cache_lru(mapping, 16).unlock()


def test_a_writer_in_a_full_group_writes_by_itself_without_a_flusher() -> None:
    fs = ToyFs(new_cache(32, dirty=roomy()))
    mapping = fs.create("f", 0)
    data = bytes(range(256)) * 16 * 100
    drive(fp.generic_perform_write(fp.File(mapping), 0, data))
    drive(fp.do_writepages(mapping, fp.WritebackControl(True)))
    assert isinstance(mapping.host, ToyInode) and bytes(mapping.host.data) == data
    assert mapping.nrpages <= 32
    fp.check_cache(fs.cache)


def test_a_reader_waits_for_memory_that_other_reads_hold() -> None:
    fs = ToyFs(new_cache(8), io_pages=32)
    fs.deferred = True
    a, b = fs.create("a", MIB), fs.create("b", MIB)
    tasks = ToyScheduler()
    first = tasks.spawn("a", fp.filemap_read(fp.File(a), 0, 32 * KIB))
    second = tasks.spawn("b", fp.filemap_read(fp.File(b), 0, 4 * KIB))
    assert a.nrpages == 8 and b.nrpages == 0 and not second.finished
    for _ in range(10):
        if fs.pending:
            fs.complete()
        tasks.run()
    assert len(first.result) == 32 * KIB and len(second.result) == 4 * KIB
    fp.check_cache(fs.cache)


def test_all_dirty_wakes_the_flusher() -> None:
    fs = ToyFs(new_cache(64, dirty=roomy()))
    woken: list[bool] = []
    fs.bdi.wb.on_wakeup = lambda: woken.append(True)
    drive(fp.generic_perform_write(fp.File(fs.create("f", 0)), 0, bytes(15 * PAGE_SIZE)))
    fs.cache.memcg.shrink(1)
    assert woken == [True]  # one wakeup, however often it is asked for
    drive(fs.bdi.wb.do_background())
    assert not fs.cache.dirty.nr_dirty
