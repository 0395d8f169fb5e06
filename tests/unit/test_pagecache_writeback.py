"""write_cache_pages, thresholds, the flusher and its share of completions, throttled writers."""

from __future__ import annotations

import pytest

import freepage as fp
from freepage import PAGE_SIZE
from pagecache_toyfs import ToyFs, ToyFuture, ToyInode, ToyScheduler, drive, new_cache


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def dirtied(*indices: int, deferred: bool = False) -> tuple[ToyFs, fp.AddressSpace]:
    domain = fp.DirtyDomain(now=lambda: 0.0)
    fs = ToyFs(fp.PageCache(now=lambda: 0.0, create_future=ToyFuture, dirty=domain, strict=True))
    fs.deferred = deferred
    mapping = fs.create("f", 0)
    for index in indices:
        drive(fp.generic_perform_write(fp.File(mapping), index * PAGE_SIZE, bytes([index]) * PAGE_SIZE))
    return fs, mapping


def write(fs: ToyFs, mapping: fp.AddressSpace, wbc: fp.WritebackControl) -> list[int]:
    fs.written.clear()
    drive(fp.write_cache_pages(mapping, wbc, fs.writepage))
    return fs.written


def test_dirty_pages_go_in_index_order() -> None:
    fs, mapping = dirtied(5, 1, 9, 3)
    assert [page.index for page in mapping.dirty_pages()] == [1, 3, 5, 9]
    assert write(fs, mapping, fp.WritebackControl(True)) == [1, 3, 5, 9]
    assert mapping.nr_dirty == 0 == fs.cache.dirty.nr_dirty == fs.cache.dirty.nr_writeback
    assert fs.cache.stat.nr_dirtied == fs.cache.stat.nr_written == 4
    assert isinstance(mapping.host, ToyInode) and mapping.host.data[5 * PAGE_SIZE] == 5


def test_ranges_are_half_open_bytes() -> None:
    fs, mapping = dirtied(0, 1, 2, 3)
    assert write(fs, mapping, fp.WritebackControl(True, PAGE_SIZE, 2 * PAGE_SIZE + 1)) == [1, 2]


def test_background_stops_at_its_quota_and_resumes_there() -> None:
    fs, mapping = dirtied(0, 1, 2, 3, 4)
    wbc = fp.WritebackControl(False, nr_to_write=2, range_cyclic=True)
    assert write(fs, mapping, wbc) == [0, 1]
    assert wbc.nr_to_write == 0 and mapping.writeback_index == 1
    assert write(fs, mapping, fp.WritebackControl(False, nr_to_write=100, range_cyclic=True)) == [2, 3, 4]
    assert mapping.writeback_index == 0


def test_no_sync_skips_pages_under_writeback_and_sync_waits_for_them() -> None:
    fs, mapping = dirtied(0, 1, deferred=True)
    tasks = ToyScheduler()
    tasks.spawn("first", fp.do_writepages(mapping, fp.WritebackControl(False)))
    assert fs.written == [0, 1] and mapping.nr_writeback == 2
    fp.set_page_dirty(mapping.pages[0])
    tasks.spawn("none", fp.do_writepages(mapping, fp.WritebackControl(False)))
    assert fs.written == [0, 1]
    task = tasks.spawn("all", fp.do_writepages(mapping, fp.WritebackControl(True)))
    assert not task.finished
    fs.complete()
    tasks.run()
    assert task.finished and fs.written == [0, 1, 0]
    while fs.pending:
        fs.complete()
    assert mapping.nr_dirty == mapping.nr_writeback == 0


def test_sync_writes_only_what_was_dirty_at_the_call() -> None:
    fs, mapping = dirtied(0, 5)
    more = iter([9])

    async def writepage(page: fp.Page, wbc: fp.WritebackControl) -> None:
        for index in more:
            page.unlock()
            drive(fp.generic_perform_write(fp.File(mapping), index * PAGE_SIZE, bytes(PAGE_SIZE)))
            assert page.trylock()
        await fs.writepage(page, wbc)

    drive(fp.write_cache_pages(mapping, fp.WritebackControl(True), writepage))
    assert fs.written == [0, 5]
    drive(fp.write_cache_pages(mapping, fp.WritebackControl(False), writepage))
    assert fs.written == [0, 5, 9]


@pytest.mark.parametrize(("sync", "tried"), [(True, [0, 1, 2]), (False, [0])])
def test_errors_end_background_but_not_integrity_writeback(sync: bool, tried: list[int]) -> None:
    _, mapping = dirtied(0, 1, 2)
    seen: list[int] = []

    async def fails(page: fp.Page, wbc: fp.WritebackControl) -> None:
        seen.append(page.index)
        page.unlock()
        raise OSError(5, f"page {page.index}")

    with pytest.raises(OSError, match="page 0"):
        drive(fp.write_cache_pages(mapping, fp.WritebackControl(sync), fails))
    assert seen == tried


def test_a_page_truncated_while_its_lock_was_waited_for_is_not_written() -> None:
    fs, mapping = dirtied(0, 1)
    page = mapping.pages[0]
    assert page.trylock()
    tasks = ToyScheduler()
    tasks.spawn("write", fp.do_writepages(mapping, fp.WritebackControl(True)))
    fp.cancel_dirty_page(page)
    fp.remove_from_page_cache(page.folio, page.off, fp.RemovalPath.TRUNCATE, "test")
    page.unlock()
    tasks.run()
    assert fs.written == [1] and not tasks.tasks


def test_waiting_for_a_range() -> None:
    fs, mapping = dirtied(0, 1, 2, deferred=True)
    tasks = ToyScheduler()
    tasks.spawn("write", fp.do_writepages(mapping, fp.WritebackControl(False)))
    head = tasks.spawn("head", fp.wait_on_page_writeback_range(mapping, 0, PAGE_SIZE))
    whole = tasks.spawn("whole", fp.wait_on_page_writeback_range(mapping))
    fs.complete()
    tasks.run()
    assert head.finished and not whole.finished
    while fs.pending:
        fs.complete()
    tasks.run()
    assert whole.finished


def test_the_tag_stays_until_writeback_starts() -> None:
    _, mapping = dirtied(0)
    page = mapping.pages[0]
    assert not fp.filemap_dirty_page(page)
    assert fp.clear_page_dirty_for_io(page) and not fp.clear_page_dirty_for_io(page)
    assert mapping.nr_dirty == 1
    fp.set_page_writeback(page)
    assert mapping.nr_dirty == 0 and mapping.nr_writeback == 1
    fp.set_page_dirty(page)
    fp.end_page_writeback(page)
    assert mapping.nr_dirty == 1 and mapping.nr_writeback == 0


def test_limits() -> None:
    domain = fp.DirtyDomain(now=lambda: 0.0, dirtyable_pages=1000)
    assert domain.limits() == (100, 200)
    domain.dirtyable_pages = lambda: 2000
    assert domain.limits() == (200, 400)
    domain.dirty_bytes = 10 * PAGE_SIZE + 1
    assert domain.limits() == (5, 11)  # background above the threshold is half of it
    domain.background_bytes = 2 * PAGE_SIZE
    assert domain.limits() == (2, 11)


def flusher(clock: Clock, pages: int) -> tuple[ToyFs, fp.AddressSpace]:
    """A 3 GiB machine, as the measured one."""
    domain = fp.DirtyDomain(now=clock, dirtyable_pages=(3 << 30) // PAGE_SIZE)
    fs = ToyFs(fp.PageCache(now=clock, create_future=ToyFuture, dirty=domain, strict=True))
    mapping = fs.create("f", 0)
    drive(fp.generic_perform_write(fp.File(mapping), 0, bytes(pages * PAGE_SIZE)))
    return fs, mapping


def test_an_idle_device_is_flushed_at_the_first_tick_and_a_busy_one_later() -> None:
    # measured: 1 MiB on a fresh mount goes out about 5 s after it was written, not 30; what is written after that waits
    # until the completions have been halved to nothing, here beside a second device that wrote as much
    clock = Clock()
    fs, mapping = flusher(clock, 256)
    disk = fp.BackingDevInfo("disk", domain=fs.cache.dirty)
    clock.now_s = 5.0
    drive(fs.bdi.wb.do_periodic(clock.now_s))
    assert len(fs.written) == 256 and mapping.nr_dirty == 0
    for _ in range(512):
        fs.cache.dirty.completed(disk)
    clock.now_s = 12.0
    drive(fp.generic_perform_write(fp.File(fs.create("g", 0)), 0, bytes(16 * PAGE_SIZE)))
    while fs.bdi.nr_dirty:
        clock.now_s += 5.0 - clock.now_s % 5.0
        drive(fs.bdi.wb.do_periodic(clock.now_s))
    # 256 halved nine times, or to fewer than the eight that a per-CPU counter shows; 42 would be the expiry
    assert 15.0 <= clock.now_s <= 35.0


def test_dirty_for_thirty_seconds_is_written_whatever_the_share() -> None:
    clock = Clock()
    fs, mapping = flusher(clock, 8)
    other = fp.BackingDevInfo("other", domain=fs.cache.dirty)
    for _ in range(64):
        fs.cache.dirty.completed(fs.bdi)
    assert fs.cache.dirty.share(fs.bdi)[0] == 64 and fs.cache.dirty.share(other)[0] == 0
    clock.now_s = 29.0
    for _ in range(64):
        fs.cache.dirty.completed(fs.bdi)
    drive(fs.bdi.wb.do_periodic(clock.now_s))
    assert mapping.nr_dirty == 8
    clock.now_s = 30.0
    drive(fs.bdi.wb.do_periodic(clock.now_s))
    assert mapping.nr_dirty == 0 and not fs.bdi.wb.needs_timer()
    other.unregister()


def test_completions_are_halved_every_three_seconds() -> None:
    clock = Clock()
    domain = fp.DirtyDomain(now=clock)
    a, b = fp.BackingDevInfo("a", domain=domain), fp.BackingDevInfo("b", domain=domain)
    for _ in range(64):
        domain.completed(a)
    for _ in range(32):
        domain.completed(b)
    assert domain.share(a)[0] == 64 and domain.share(b)[0] == 32
    assert domain.share(a)[1] == domain.share(b)[1] == pytest.approx(96, abs=1)
    clock.now_s = 3.5
    assert domain.share(a)[0] == 32 and domain.share(b)[0] == 16
    assert domain.share(a)[1] == domain.share(b)[1] == pytest.approx(48, abs=1)
    clock.now_s = 100.0
    assert domain.share(a)[0] <= 1 and domain.share(b)[0] == 0


def test_the_timer_is_asked_for_by_the_first_dirty_inode() -> None:
    fs, mapping = dirtied()
    armed: list[bool] = []
    fs.bdi.wb.on_dirty = lambda: armed.append(True)
    drive(fp.generic_perform_write(fp.File(mapping), 0, b"x"))
    drive(fp.generic_perform_write(fp.File(fs.create("g", 0)), 0, b"x"))
    assert armed == [True] and fs.bdi.wb.needs_timer()
    drive(fs.bdi.wb.writeback_all(True))
    assert not fs.bdi.wb.needs_timer()


def test_write_inode_follows_the_pages() -> None:
    fs, _ = dirtied()
    calls: list[int] = []

    async def write_inode(mapping: fp.AddressSpace, wbc: fp.WritebackControl) -> None:
        calls.append(mapping.nr_dirty)

    a_ops = fp.AddressSpaceOperations(writepage=fs.writepage, write_inode=write_inode)
    mapping = fp.AddressSpace(fs.cache, ToyInode("g", 0), a_ops, fs.bdi)
    drive(fp.generic_perform_write(fp.File(mapping), 0, b"x"))
    drive(fs.bdi.wb.writeback_all())
    assert calls == [0]


def throttled(wakes: bool) -> tuple[ToyFs, fp.AddressSpace, ToyScheduler, list[bool]]:
    fs, mapping = dirtied(deferred=True)
    fs.cache.dirty.dirty_bytes, fs.cache.dirty.background_bytes = 20 * PAGE_SIZE, 10 * PAGE_SIZE
    woken: list[bool] = []
    if wakes:
        fs.bdi.wb.on_wakeup = lambda: woken.append(True)
    return fs, mapping, ToyScheduler(), woken


def test_a_writer_over_the_threshold_waits_for_the_flusher() -> None:
    fs, mapping, tasks, woken = throttled(True)
    task = tasks.spawn("write", fp.generic_perform_write(fp.File(mapping), 0, bytes(40 * PAGE_SIZE)))
    assert not task.finished and woken and fs.cache.dirty.nr_dirty == 11 and not fs.written, "the flusher's turn first"
    tasks.spawn("flusher", fs.bdi.wb.do_background())
    assert len(fs.pending) == 11, "its chunk ends where the writer stood"
    dirty = fs.cache.dirty
    assert not task.finished and (dirty.nr_dirty, dirty.nr_writeback) == (10, 11), "above 20 it waits"
    for _ in range(20):
        tasks.spawn("flusher", fs.bdi.wb.do_background())
        while fs.pending:
            fs.complete()
        tasks.run()
    assert task.result == 40 * PAGE_SIZE


def test_a_writer_looks_at_the_thresholds_every_so_many_pages() -> None:
    fs, mapping, tasks, woken = throttled(True)
    domain = fs.cache.dirty
    domain.dirty_bytes, domain.background_bytes = 4096 * PAGE_SIZE, 256 * PAGE_SIZE
    assert domain.poll_interval() == 64
    file = fp.File(mapping)
    tasks.spawn("write", fp.generic_perform_write(file, 0, bytes(256 * PAGE_SIZE)))
    assert domain.poll_interval() == 32 and domain.nr_dirty == 256 and not woken
    task = tasks.spawn("more", fp.generic_perform_write(file, 256 * PAGE_SIZE, bytes(100 * PAGE_SIZE)))
    assert woken and not task.finished and 256 < domain.nr_dirty <= 256 + 32
    domain.nr_dirty, before = 4096, domain.nr_dirty
    assert domain.poll_interval() == 1
    domain.nr_dirty = before


def test_who_serves_others_waits_for_its_own_pages_only() -> None:
    fs, mapping, tasks, _ = throttled(True)
    server = fp.BackingDevInfo("nfsd", domain=fs.cache.dirty, local_throttle=True)
    server.wb.on_wakeup = lambda: None
    served = fp.AddressSpace(fs.cache, ToyInode("g", 0), fp.AddressSpaceOperations(writepage=fs.writepage), server)
    writer = tasks.spawn("write", fp.generic_perform_write(fp.File(mapping), 0, bytes(40 * PAGE_SIZE)))
    tasks.spawn("flusher", fs.bdi.wb.do_background())
    others = tasks.spawn("serve", fp.generic_perform_write(fp.File(served), 0, bytes(10 * PAGE_SIZE)))
    for _ in range(10):
        tasks.spawn("its flusher", server.wb.do_background())
    assert others.result == 10 * PAGE_SIZE and not writer.finished
    while fs.pending or tasks.tasks:
        tasks.spawn("flusher", fs.bdi.wb.do_background())
        while fs.pending:
            fs.complete()
        tasks.run()


def test_an_inode_whose_quota_ran_out_has_its_next_turn_at_the_next_tick() -> None:
    fs, mapping = dirtied()
    domain = fs.cache.dirty
    domain.dirty_limit = 8 * 1024
    drive(fp.generic_perform_write(fp.File(mapping), 0, bytes(2500 * PAGE_SIZE)))
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    fs.bdi.wb.sleep = sleep
    drive(fs.bdi.wb.do_background())
    assert mapping.nr_dirty == 2500 - 2048 and len(slept) == 1, "what is written meanwhile is its share by now"
    drive(fp.generic_perform_write(fp.File(fs.create("young", 0)), 0, b"x"))
    drive(fs.bdi.wb.do_periodic(1.0))
    assert not mapping.nr_dirty and domain.nr_dirty == 1, "however young it is; the other one is too young"


def test_a_writer_without_a_flusher_writes_by_itself() -> None:
    fs, mapping, tasks, _ = throttled(False)
    fs.deferred = False
    assert tasks.spawn("write", fp.generic_perform_write(fp.File(mapping), 0, bytes(100 * PAGE_SIZE))).finished
    assert fs.cache.dirty.nr_dirty <= 20


def test_a_writer_in_a_group_full_of_dirty_pages_is_not_left_waiting_below_the_threshold() -> None:
    # the machine has few dirty pages, the group nothing else: the flusher must write although no threshold is crossed
    domain = fp.DirtyDomain(now=lambda: 0.0, dirtyable_pages=1 << 20)
    fs = ToyFs(new_cache(32, dirty=domain))
    domain.completed(fs.bdi)
    tasks = ToyScheduler()
    fs.deferred = True
    wakeups: list[bool] = []
    fs.bdi.wb.on_wakeup = lambda: wakeups.append(True)
    task = tasks.spawn("write", fp.generic_perform_write(fp.File(fs.create("f", 0)), 0, bytes(100 * PAGE_SIZE)))
    for _ in range(100):
        if wakeups:
            wakeups.clear()
            tasks.spawn("flusher", fs.bdi.wb.do_background())
        if fs.pending:
            fs.complete()
        tasks.run()
    assert task.finished and task.result == 100 * PAGE_SIZE


def test_whoever_waits_for_memory_that_is_being_written_waits_for_a_cluster_of_pages() -> None:
    domain = fp.DirtyDomain(now=lambda: 0.0, dirtyable_pages=1 << 20)
    fs = ToyFs(new_cache(80, dirty=domain), deferred=True)
    domain.completed(fs.bdi)
    tasks = ToyScheduler()
    mapping = fs.create("f", 0)
    for index in range(80):
        drive(fp.generic_perform_write(fp.File(mapping), index * PAGE_SIZE, bytes(PAGE_SIZE)))
    fs.bdi.wb.on_wakeup = lambda: None
    tasks.spawn("flusher", fs.bdi.wb.writeback_all())
    assert len(fs.pending) == 80
    reader = tasks.spawn("read", fp.filemap_read(fp.File(fs.create("g", PAGE_SIZE)), 0, PAGE_SIZE))
    pages = len(fs.pending)
    for _ in range(31):
        fs.complete()
        tasks.run()
    assert len(fs.pending) == pages - 31, "the reader has not sent its READ"
    fs.complete()
    tasks.run()
    assert len(fs.pending) == pages - 32 + 1
    while fs.pending:
        fs.complete()
        tasks.run()
    assert reader.finished


def test_one_flusher_works_at_a_time_and_forgets_no_wakeup() -> None:
    fs, mapping = dirtied(0, deferred=True)
    tasks = ToyScheduler()
    assert mapping.pages[0].trylock()
    first = tasks.spawn("first", fs.bdi.wb.do_background())
    second = tasks.spawn("second", fs.bdi.wb.do_periodic(100.0))
    assert second.finished and not first.finished and not fs.written
    mapping.pages[0].unlock()
    tasks.run()
    assert first.finished and fs.written == [0]
    fs.complete()


def test_the_flusher_goes_on_after_an_error_and_the_mapping_remembers_it() -> None:
    fs, mapping = dirtied(0)

    async def fails(page: fp.Page, wbc: fp.WritebackControl) -> None:
        fp.set_page_writeback(page)
        page.unlock()
        fp.end_page_writeback(page)
        raise OSError(28, "disk full")

    bad = fp.AddressSpace(fs.cache, ToyInode("bad", 0), fp.AddressSpaceOperations(writepage=fails), fs.bdi)
    since = bad.wb_err.sample()
    drive(fp.generic_perform_write(fp.File(bad), 0, b"x"))
    fs.bdi.wb.b_dirty = {bad: None, mapping: None}
    drive(fs.bdi.wb.writeback_all())
    assert fs.written == [0] and bad.wb_err.check(since) == 28 and mapping.wb_err.check(0) == 0


def test_uncommitted_pages_count_as_writeback_and_throttle() -> None:
    fs, mapping, tasks, _ = throttled(True)
    fs.cache.dirty.account_unstable(20, fs.bdi)
    task = tasks.spawn("write", fp.generic_perform_write(fp.File(mapping), 0, bytes(PAGE_SIZE)))
    assert not task.finished and fs.cache.dirty.nr_writeback == 20 == fs.bdi.nr_writeback
    fs.cache.dirty.account_unstable(-5, fs.bdi)
    tasks.run()
    assert task.finished
    fs.cache.dirty.account_unstable(-15, fs.bdi)


def test_a_flusher_that_ends_at_once_keeps_no_writer_waiting() -> None:
    """It has had its turn before the writer could wait for it, and nobody would wake the writer until its next tick."""
    domain = fp.DirtyDomain(now=lambda: 0.0, dirtyable_pages=200)
    fs = ToyFs(fp.PageCache(now=lambda: 0.0, create_future=ToyFuture, dirty=domain, strict=True))
    mapping = fs.create("f", 0)
    wb = fs.bdi.wb
    wb.on_wakeup = lambda: drive(wb.do_background())
    drive(fp.generic_perform_write(fp.File(mapping), 0, bytes(40 * PAGE_SIZE)))
    assert fs.written and not wb.in_progress


def test_a_flusher_that_ends_without_having_written_lets_the_writer_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    domain = fp.DirtyDomain(now=lambda: 0.0, dirtyable_pages=200)
    fs = ToyFs(fp.PageCache(now=lambda: 0.0, create_future=ToyFuture, dirty=domain, strict=True))
    mapping = fs.create("f", 0)
    wb, tasks, busy = fs.bdi.wb, ToyScheduler(), ToyFuture()

    async def finds_everything_busy() -> None:
        await busy

    monkeypatch.setattr(wb, "_write_background", finds_everything_busy)

    def wakeup() -> None:
        tasks.spawn("flusher", wb.do_background())

    wb.on_wakeup = wakeup
    writer = tasks.spawn("writer", fp.generic_perform_write(fp.File(mapping), 0, bytes(30 * PAGE_SIZE)))
    assert wb.in_progress and not writer.finished
    busy.set_result(None)
    tasks.run()
    assert writer.finished


def test_waiting_without_futures_is_an_error() -> None:
    cache = fp.PageCache(now=lambda: 0.0, strict=True)
    fs = ToyFs(cache)
    page = fp.add_to_page_cache_lru(fs.create("f", PAGE_SIZE), 0)
    with pytest.raises(fp.WouldBlock, match="page lock"):
        drive(page.lock())
    assert new_cache().create_future is ToyFuture
