"""Random operations against a simple model: the hook runs exactly once for each page that leaves the cache."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import freepage as fp
from freepage import PAGE_SIZE, ObjectState, RemovalPath
from pagecache_toyfs import ToyFs, ToyInode, ToyScheduler, drive, new_cache

FILES = 3
MAX_PAGES = 40
positions = st.integers(0, MAX_PAGES * PAGE_SIZE)
indices = st.integers(0, MAX_PAGES)
lengths = st.one_of(st.integers(1, PAGE_SIZE), st.integers(1, 20 * PAGE_SIZE))
files = st.integers(0, FILES - 1)


class CacheMachine(RuleBasedStateMachine):
    """Files of bytes beside the cache. I/O completes at once, so that every read can be compared with the model."""

    @initialize(limit=st.integers(20, 80), ra_pages=st.sampled_from([0, 8, 32]))
    def build(self, limit: int, ra_pages: int) -> None:
        self.fs = ToyFs(new_cache(limit, random=lambda: 0.25), ra_pages=ra_pages, io_pages=16)
        self.cache = self.fs.cache
        self.models = [bytearray(b"%d" % number * 9000) for number in range(FILES)]
        self.files = [self.open(number) for number in range(FILES)]
        self.held: list[fp.Page] = []
        self.seed = 0

    def open(self, number: int) -> fp.File:
        mapping = self.fs.create(f"file{number}", 0)
        host = mapping.host
        assert isinstance(host, ToyInode)
        host.data[:] = self.models[number]
        host.i_size = len(self.models[number])
        return fp.File(mapping)

    @rule(number=files, pos=positions, count=lengths)
    def read(self, number: int, pos: int, count: int) -> None:
        assert drive(fp.filemap_read(self.files[number], pos, count)) == bytes(self.models[number][pos : pos + count])

    @rule(number=files, pos=positions, count=lengths)
    def read_nowait(self, number: int, pos: int, count: int) -> None:
        data = fp.read_nowait(self.files[number], pos, count)
        assert data is None or data == bytes(self.models[number][pos : pos + count])

    @rule(number=files, pos=positions, count=lengths)
    def write(self, number: int, pos: int, count: int) -> None:
        self.seed += 1
        data = bytes([self.seed & 255]) * min(count, 10 * PAGE_SIZE)
        model = self.models[number]
        if pos > len(model):
            model.extend(bytes(pos - len(model)))
        model[pos : pos + len(data)] = data
        assert drive(fp.generic_perform_write(self.files[number], pos, data)) == len(data)

    @rule(number=files, sync=st.booleans())
    def write_back(self, number: int, sync: bool) -> None:
        drive(fp.do_writepages(self.files[number].mapping, fp.WritebackControl(sync)))
        assert self.files[number].mapping.nr_dirty == 0

    @rule()
    def flush(self) -> None:
        drive(self.fs.bdi.wb.do_periodic(0.0))  # leaves what the device's share of completions allows
        assert not self.fs.bdi.wb.over_bground_thresh()
        drive(self.fs.bdi.wb.writeback_all())
        assert self.fs.bdi.nr_dirty == 0 and not self.fs.bdi.wb.needs_timer()

    @rule(number=files, size=positions)
    def truncate(self, number: int, size: int) -> None:
        mapping = self.files[number].mapping
        host = mapping.host
        assert isinstance(host, ToyInode)
        model = self.models[number]
        shrinks = size < len(model)
        del model[size:]
        model.extend(bytes(size - len(model)))
        host.i_size = size
        if shrinks:
            drive(fp.truncate_pagecache(mapping, size))
            del host.data[size:]

    @rule(number=files, start=indices, count=st.integers(1, 10))
    def punch_hole(self, number: int, start: int, count: int) -> None:
        mapping = self.files[number].mapping
        drive(fp.do_writepages(mapping, fp.WritebackControl(True)))
        begin, end = start * PAGE_SIZE - 100, (start + count) * PAGE_SIZE + 100
        begin, end = max(begin, 0), min(end, len(self.models[number]))
        if begin >= end:
            return
        host = mapping.host
        assert isinstance(host, ToyInode)
        host.data[begin:end] = bytes(end - begin)
        self.models[number][begin:end] = bytes(end - begin)
        drive(fp.truncate_inode_pages_range(mapping, begin, end))

    @rule(number=files, start=indices, count=st.integers(1, MAX_PAGES))
    def invalidate(self, number: int, start: int, count: int) -> None:
        mapping = self.files[number].mapping
        drive(fp.invalidate_inode_pages2_range(mapping, start, start + count))
        assert not mapping.resident_range(start, start + count)

    @rule(number=files, start=indices, count=st.integers(1, MAX_PAGES))
    def invalidate_clean(self, number: int, start: int, count: int) -> None:
        fp.invalidate_mapping_pages(self.files[number].mapping, start, start + count)

    @rule()
    def drop_caches(self) -> None:
        self.cache.drop_pagecache()

    @rule(nr=st.integers(1, 60))
    def reclaim(self, nr: int) -> None:
        self.cache.memcg.shrink(nr)

    @rule(number=files, which=indices)
    def replace(self, number: int, which: int) -> None:
        mapping = self.files[number].mapping
        clean = [page for page in mapping.resident_range() if page.uptodate and not page.dirty]
        if clean:
            old = clean[which % len(clean)]
            assert old.data is not None
            new: fp.Page = drive(fp.replace_page_cache_page(old, bytes(old.data)))
            assert mapping.pages[old.index] == new and old.mapping is None
            self.fs.give_request(new, "replace")

    @rule(number=files, which=indices)
    def migrate(self, number: int, which: int) -> None:
        mapping = self.files[number].mapping
        pages = [page for page in mapping.resident_range() if not page.refcount]
        if pages:
            old = pages[which % len(pages)]
            assert old.trylock()
            calls = sum(self.cache.hook_calls.values())
            fp.migrate_page(old).unlock()
            assert sum(self.cache.hook_calls.values()) == calls

    @rule(number=files, which=indices)
    def memory_failure(self, number: int, which: int) -> None:
        pages = [page for page in self.files[number].mapping.resident_range() if not page.dirty]
        if pages:
            page = pages[which % len(pages)]
            assert page.trylock()
            fp.generic_error_remove_page(self.files[number].mapping, page)
            page.unlock()

    @rule(number=files)
    def evict(self, number: int) -> None:
        mapping = self.files[number].mapping
        drive(fp.do_writepages(mapping, fp.WritebackControl(True)))
        assert fp.truncate_inode_pages_final(mapping) == 0
        assert mapping not in self.cache.mappings and mapping.nrpages == 0
        self.files[number] = self.open(number)

    @rule(number=files, which=indices)
    def hold(self, number: int, which: int) -> None:
        pages = self.files[number].mapping.resident_range()
        if pages:
            page = pages[which % len(pages)]
            page.get()
            self.held.append(page)

    @precondition(lambda self: self.held)
    @rule()
    def release(self) -> None:
        self.held.pop().put()

    @rule(
        path=st.sampled_from([*RemovalPath, "all"]),
        option=st.sampled_from(["run", "run", "skip", "skip:every=2", "skip:probability=0.5"]),
    )
    def set_policy(self, path: str, option: str) -> None:
        self.cache.policy.parse(f"{path}={option}")

    @invariant()
    def hook_ran_exactly_once_for_each_page_that_left(self) -> None:
        if not hasattr(self, "cache"):
            return
        cache = self.cache
        fp.check_cache(cache)
        assert all(times == 1 for times in self.fs.hooked.values())
        assert len(self.fs.hooked) == sum(cache.hook_calls.values())
        for path in RemovalPath:
            assert cache.removed[path] == cache.hook_calls[path] + cache.skipped[path]
        assert not any(cache.violations.values())

    @invariant()
    def ledger_tells_what_was_lost(self) -> None:
        if not hasattr(self, "cache"):
            return
        ledger = self.cache.ledger
        uptodate = sum(page.uptodate for mapping in self.cache.mappings for page in mapping.pages.values())
        orphaned = sum(self.cache.skipped_owned.values())
        assert ledger.live("nfs_page", ObjectState.CACHED) == uptodate
        assert ledger.live("nfs_page", ObjectState.ORPHANED) == orphaned == len(list(ledger.orphans()))
        assert ledger.pinned()["rpc_cred"] == orphaned
        report = ledger.audit([self.fs.cred], self.cache.mappings)
        assert report.agrees, report.render()
        assert sum(group.count for group in report.groups) == orphaned

    def teardown(self) -> None:
        if not hasattr(self, "cache"):
            return
        for page in self.held:
            page.put()
        for file in self.files:
            assert fp.truncate_inode_pages_final(file.mapping) == 0
        fp.lru_add_drain(self.cache.memcg)
        assert self.cache.nr_removed_pages == 0 and self.cache.memcg.pages == 0
        lost = sum(self.cache.skipped_owned.values())
        assert self.cache.ledger.live("nfs_page") == lost


class ConcurrentMachine(RuleBasedStateMachine):
    """I/O is pending until a rule completes it, and tasks wait for one another. No model of the data, all the rules."""

    @initialize(limit=st.integers(20, 80), flusher=st.booleans())
    def build(self, limit: int, flusher: bool) -> None:
        self.fs = ToyFs(new_cache(limit), io_pages=16)
        self.woken = False
        if flusher:
            self.fs.bdi.wb.on_wakeup = self.wake
        self.fs.deferred = True
        self.cache = self.fs.cache
        self.tasks = ToyScheduler()
        self.files = [fp.File(self.fs.create(f"file{number}", MAX_PAGES * PAGE_SIZE)) for number in range(FILES)]

    def wake(self) -> None:
        self.woken = True

    def run_flusher(self) -> None:
        if self.woken:
            self.woken = False
            self.tasks.spawn("flusher", self.fs.bdi.wb.do_background())

    @rule()
    def tick(self) -> None:
        self.spawn("tick", self.fs.bdi.wb.do_periodic(0.0))

    def spawn(self, name: str, coro: Any) -> None:
        if len(self.tasks.tasks) > 12:
            coro.close()
            return
        task = self.tasks.spawn(name, coro)
        if task.error is not None and not isinstance(task.error, OSError):
            raise task.error

    @rule(number=files, pos=positions, count=lengths)
    def read(self, number: int, pos: int, count: int) -> None:
        self.spawn("read", fp.filemap_read(self.files[number], pos, count))

    @rule(number=files, pos=positions, count=lengths)
    def write(self, number: int, pos: int, count: int) -> None:
        self.spawn("write", fp.generic_perform_write(self.files[number], pos, bytes(min(count, 5 * PAGE_SIZE))))

    @rule(number=files, sync=st.booleans())
    def write_back(self, number: int, sync: bool) -> None:
        self.spawn("writeback", fp.do_writepages(self.files[number].mapping, fp.WritebackControl(sync)))

    @rule(number=files, size=positions)
    def truncate(self, number: int, size: int) -> None:
        mapping = self.files[number].mapping
        mapping.host.i_size = size
        self.spawn("truncate", fp.truncate_pagecache(mapping, size))

    @rule(number=files)
    def invalidate(self, number: int) -> None:
        self.spawn("invalidate", fp.invalidate_inode_pages2_range(self.files[number].mapping))

    @rule(number=files, which=indices)
    def replace(self, number: int, which: int) -> None:
        pages = self.files[number].mapping.resident_range()
        if pages:
            self.spawn("replace", fp.replace_page_cache_page(pages[which % len(pages)], bytes(PAGE_SIZE)))

    @rule()
    def drop_caches(self) -> None:
        self.cache.drop_pagecache()

    @rule(nr=st.integers(1, 60))
    def reclaim(self, nr: int) -> None:
        self.cache.memcg.shrink(nr)

    @rule(at=st.integers(0, 50), times=st.integers(1, 5), fails=st.booleans())
    def complete(self, at: int, times: int, fails: bool) -> None:
        self.fs.fail_reads = set(range(0, MAX_PAGES, 7)) if fails else set()
        self.run_flusher()
        for _ in range(min(times, len(self.fs.pending))):
            self.fs.complete(at)
            for task in self.tasks.tasks:
                assert task.error is None or isinstance(task.error, OSError), task.error
            self.tasks.run()

    @invariant()
    def sane(self) -> None:
        if not hasattr(self, "cache"):
            return
        for mapping in self.cache.mappings:
            fp.check_mapping(mapping)
        fp.check_memcg(self.cache.memcg, [self.cache])
        assert all(times == 1 for times in self.fs.hooked.values())
        assert len(self.fs.hooked) == sum(self.cache.removed.values()) == sum(self.cache.hook_calls.values())
        assert not any(self.cache.violations.values())

    def teardown(self) -> None:
        if not hasattr(self, "cache"):
            return
        for _ in range(10_000):
            if not self.fs.pending and not self.tasks.tasks:
                break
            self.run_flusher()
            if self.fs.pending:
                self.fs.complete()
            self.tasks.run()
        assert not self.tasks.tasks, [(task.name, task.waits_for) for task in self.tasks.tasks]
        for file in self.files:
            drive(fp.truncate_inode_pages_final_wait(file.mapping))
            assert file.mapping.poisoned
        fp.lru_add_drain(self.cache.memcg)
        assert self.cache.memcg.pages == 0 and self.cache.dirty.nr_dirty == 0 == self.cache.dirty.nr_writeback
        assert self.cache.ledger.live("nfs_page") == 0


TestCacheMachine = CacheMachine.TestCase
TestCacheMachine.settings = settings(max_examples=60, stateful_step_count=60)
TestConcurrentMachine = ConcurrentMachine.TestCase
TestConcurrentMachine.settings = settings(max_examples=60, stateful_step_count=60)


def test_a_page_leaves_by_each_of_the_six_paths() -> None:
    """The machine's rules reach every label (a check on the test itself)."""
    fs = ToyFs(new_cache(512), io_pages=16)
    size = 64 * PAGE_SIZE

    def filled(name: str) -> fp.AddressSpace:
        mapping = fs.create(name, size)
        drive(fp.filemap_read(fp.File(mapping), 0, size))
        return mapping

    drive(fp.truncate_pagecache(filled("a"), 0))
    drive(fp.invalidate_inode_pages2_range(filled("b")))
    fp.invalidate_mapping_pages(filled("c"))
    filled("d")
    fs.cache.memcg.shrink(64)
    drive(fp.replace_page_cache_page(filled("e").pages[0], bytes(PAGE_SIZE)))
    fp.truncate_inode_pages_final(filled("f"))
    assert all(fs.cache.removed[path] == fs.cache.hook_calls[path] > 0 for path in RemovalPath)
    assert fs.cache.removed[RemovalPath.REPLACE] == 1


@pytest.mark.parametrize("path", list(RemovalPath))
def test_skipping_a_path_orphans_what_its_pages_own(path: RemovalPath) -> None:
    fs = ToyFs(new_cache(512), io_pages=16)
    fs.cache.policy.set(path, "skip")
    mapping = fs.create("f", 4 * PAGE_SIZE)
    drive(fp.filemap_read(fp.File(mapping), 0, 4 * PAGE_SIZE))
    fp.lru_add_drain(fs.cache.memcg)
    match path:
        case RemovalPath.TRUNCATE:
            drive(fp.truncate_inode_pages_range(mapping, 0))
        case RemovalPath.INVALIDATE:
            drive(fp.invalidate_inode_pages2_range(mapping))
        case RemovalPath.DROP:
            fs.cache.drop_pagecache()
        case RemovalPath.RECLAIM:
            fs.cache.memcg.shrink(4)
        case RemovalPath.REPLACE:
            for page in mapping.resident_range():
                drive(fp.replace_page_cache_page(page, bytes(PAGE_SIZE)))
        case RemovalPath.EVICT:
            fp.truncate_inode_pages_final(mapping)
    assert fs.cache.skipped[path] == fs.cache.skipped_owned[path] == 4 and not fs.cache.hook_calls[path]
    report = fs.cache.ledger.audit([fs.cred], fs.cache.mappings)
    assert report.agrees
    (group,) = report.groups
    assert (group.slab, group.file, group.pages, group.site, group.path) == ("nfs_page", "f", [(0, 4)], "read", path)
    assert not any(fs.cache.violations.values())
