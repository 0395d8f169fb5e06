"""The whole cache beside a model with one object a page: the same operations, and after each the same everything.

Residency, every flag and reference of every page, the order of both lists and all batches, charges, shadows, event
counters, removals and hook calls by path, rules that fired, and what the ledger says was lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import freepage as fp
from freepage import PAGE_SIZE, ObjectState, RemovalPath
from freepage.filemap import add_run_to_page_cache_lru
from freepage.workingset import unpack_shadow
from pagecache_model import FAULTS, ModelCache, ModelPage, NoMemoryHere
from pagecache_toyfs import FillRequest, ToyFs, drive, new_cache

T = TypeVar("T")
U = TypeVar("U")

FILES = ("a", "b", "c")
PAGES = 70
"""indices of a file: more than one node of the tree"""
files = st.sampled_from(FILES)
indices = st.integers(0, PAGES - 1)
which = st.integers(0, 1000)


class ModelMachine(RuleBasedStateMachine):
    @initialize(limit=st.integers(20, 200))
    def build(self, limit: int) -> None:
        roomy = fp.DirtyDomain(now=lambda: 0.0, dirty_bytes=1 << 40, background_bytes=1 << 39)
        self.cache = new_cache(limit, strict=False, dirty=roomy)
        self.memcg = self.cache.memcg
        self.fs = ToyFs(self.cache)
        self.fs.deferred = True
        self.model = ModelCache(limit)
        self.mappings: dict[str, fp.AddressSpace] = {}
        for file in FILES:
            self.create(file)
        self.reading: list[tuple[fp.PageRun, list[ModelPage]]] = []
        self.writing: list[ModelPage] = []
        """in the order of fs.pending"""
        self.held: list[tuple[fp.Page, ModelPage]] = []
        self.broken = False
        """a fault was armed: the cache's own sanity is not to be had any more"""

    def create(self, file: str) -> None:
        self.mappings[file] = self.fs.create(file, PAGES * PAGE_SIZE)
        self.model.files[file] = {}
        self.model.shadows[file] = {}

    def choose(self, file: str, number: int, wanted: Callable[[ModelPage], bool]) -> ModelPage | None:
        pages = self.model.files[file]
        fitting = [pages[index] for index in sorted(pages) if wanted(pages[index])]
        return fitting[number % len(fitting)] if fitting else None

    def real(self, page: ModelPage) -> fp.Page:
        return self.mappings[page.file].pages[page.index]

    def same(self, real: Callable[[], T], model: Callable[[], U]) -> tuple[T, U] | None:
        """Both do it, or neither has the memory."""
        try:
            expected = model()
        except NoMemoryHere:
            with pytest.raises(fp.NoMemory):
                real()
            return None
        return real(), expected

    # -- in ------------------------------------------------------------------------------------------------------

    @rule(file=files, index=indices, for_write=st.booleans(), later=st.booleans())
    def insert(self, file: str, index: int, for_write: bool, later: bool) -> None:
        if index in self.model.files[file]:
            return
        both = self.same(
            lambda: fp.add_to_page_cache_lru(self.mappings[file], index, for_write=for_write),
            lambda: self.model.insert(file, index, for_write=for_write),
        )
        if both is not None:
            self.reading.append((fp.PageRun.of(both[0]), [both[1]]))
            if not later:
                self.complete_read(-1)

    @rule(file=files, index=indices, nr=st.integers(1, 40), later=st.booleans())
    def insert_run(self, file: str, index: int, nr: int, later: bool) -> None:
        present = self.model.files[file]
        free = next((each for each in range(index, min(index + nr, PAGES)) if each in present), min(index + nr, PAGES))
        if free == index:
            return
        both = self.same(
            lambda: add_run_to_page_cache_lru(self.mappings[file], index, free - index),
            lambda: self.model.insert_run(file, index, free - index),
        )
        if both is not None:
            folio, pages = both
            assert folio.nr == len(pages)
            self.reading.append((fp.PageRun(folio, 0, folio.nr), pages))
            if not later:
                self.complete_read(-1)

    @precondition(lambda self: self.reading)
    @rule(at=which)
    def complete_read(self, at: int) -> None:
        run, pages = self.reading.pop(at % len(self.reading))
        run.fill(bytes(run.nr * PAGE_SIZE))
        run.own(fp.SlabRun(self.cache.ledger, FillRequest, run.nr, self.fs.cred, ObjectState.IN_USE, "read"))
        run.mark_uptodate_and_unlock()
        for page in pages:
            page.uptodate = page.owns = True
            page.locked = False

    @rule(file=files, start=indices, step=st.integers(1, 9), nr=st.integers(1, PAGES), touches=st.integers(0, 3))
    def scan(self, file: str, start: int, step: int, nr: int, touches: int) -> None:
        """Page after page, near or far from one another, is read in if it is missing, and touched."""
        for at in range(nr):
            index = (start + at * step) % PAGES
            self.insert(file, index, for_write=False, later=False)
            self.read(file, index, 1, touches)

    # -- while they are there --------------------------------------------------------------------------------

    @rule(file=files, index=indices, nr=st.sampled_from((1, 1, 2, 16, 40)), times=st.integers(1, 3))
    def read(self, file: str, index: int, nr: int, times: int) -> None:
        nr = min(nr, PAGES - index)
        for _ in range(times):
            data = fp.read_nowait(fp.File(self.mappings[file]), index * PAGE_SIZE, nr * PAGE_SIZE)
            assert (data is not None) == self.model.read(file, index, nr)

    @rule(file=files, number=which, nr=st.integers(1, 20))
    def dirty(self, file: str, number: int, nr: int) -> None:
        for each in range(number, number + nr):
            page = self.choose(file, each, lambda page: page.uptodate)
            if page is not None:
                fp.set_page_dirty(self.real(page))
                page.reclaim, page.dirty = False, True

    @rule(file=files)
    def write_back(self, file: str) -> None:
        drive(fp.do_writepages(self.mappings[file], fp.WritebackControl(False)))
        for _, page in sorted(self.model.files[file].items()):
            if page.dirty and not page.writeback:
                page.dirty, page.writeback = False, True
                self.writing.append(page)

    @precondition(lambda self: self.writing)
    @rule(at=which, nr=st.integers(1, 20))
    def complete_write(self, at: int, nr: int) -> None:
        for _ in range(min(nr, len(self.writing))):
            at %= len(self.writing)
            self.fs.complete(at)
            self.model.end_writeback(self.writing.pop(at))

    @rule(file=files, number=which)
    def hold(self, file: str, number: int) -> None:
        page = self.choose(file, number, lambda page: True)
        if page is not None:
            self.held.append((self.real(page), page))
            self.held[-1][0].get()
            page.refs += 1

    @precondition(lambda self: self.held)
    @rule(at=which)
    def release(self, at: int) -> None:
        real, page = self.held.pop(at % len(self.held))
        real.put()
        self.model.put(page)

    # -- out -------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """What waits for I/O under way has nothing to wait for: everything here runs to its end."""
        while self.reading:
            self.complete_read(0)
        if self.writing:
            self.complete_write(0, len(self.writing))

    @rule(file=files, start=indices, nr=st.none() | st.integers(1, 50))
    def truncate(self, file: str, start: int, nr: int | None) -> None:
        self.settle()
        end = None if nr is None else start + nr
        stop = None if end is None else end * PAGE_SIZE
        drive(fp.truncate_inode_pages_range(self.mappings[file], start * PAGE_SIZE, stop))
        self.model.truncate(file, start, end, "truncate")

    @rule(file=files)
    def evict(self, file: str) -> None:
        self.settle()
        assert fp.truncate_inode_pages_final(self.mappings[file]) == 0
        self.model.truncate(file, 0, None, "evict")
        del self.model.files[file]  # the new file of this name comes last
        self.create(file)

    @rule(file=files, start=indices, nr=st.none() | st.integers(1, 50))
    def invalidate_mapping_pages(self, file: str, start: int, nr: int | None) -> None:
        end = None if nr is None else start + nr
        dropped = fp.invalidate_mapping_pages(self.mappings[file], start, end)
        assert dropped == self.model.invalidate_mapping_pages(file, start, end)

    @rule()
    def drop_caches(self) -> None:
        self.cache.drop_pagecache()
        for file in self.model.files:
            self.model.invalidate_mapping_pages(file, 0, None)

    @rule(file=files, start=indices, nr=st.none() | st.integers(1, 50))
    def invalidate_inode_pages2(self, file: str, start: int, nr: int | None) -> None:
        self.settle()
        end = None if nr is None else start + nr
        self.fs.deferred = False
        drive(fp.invalidate_inode_pages2_range(self.mappings[file], start, end))
        self.fs.deferred = True
        self.model.invalidate_inode_pages2(file, start, end)

    @rule(file=files, number=which)
    def replace(self, file: str, number: int) -> None:
        old = self.choose(file, number, lambda page: page.uptodate and not page.dirty and not page.writeback)
        if old is None:
            return
        both = self.same(
            lambda: drive(fp.replace_page_cache_page(self.real(old), bytes(PAGE_SIZE))), lambda: self.model.replace(old)
        )
        if both is not None:
            new, page = both
            self.fs.give_request(new, "replace")
            page.locked, page.uptodate, page.owns = False, True, True

    @rule(file=files, number=which)
    def memory_failure(self, file: str, number: int) -> None:
        page = self.choose(file, number, lambda page: not page.locked and not page.writeback)
        if page is not None:
            real = self.real(page)
            assert real.trylock()
            fp.generic_error_remove_page(self.mappings[file], real)
            real.unlock()
            self.model.memory_failure(page)

    @rule(file=files, number=which)
    def migrate(self, file: str, number: int) -> None:
        page = self.choose(file, number, lambda page: page.lru and not (page.locked or page.writeback or page.refs))
        if page is not None:
            real = self.real(page)
            assert real.trylock()
            fp.migrate_page(real).unlock()
            self.model.migrate(page)

    @rule(nr=st.integers(1, 120))
    def reclaim(self, nr: int) -> None:
        self.memcg.shrink(nr)
        self.model.shrink(nr)

    @rule(limit=st.integers(10, 200))
    def resize(self, limit: int) -> None:
        self.memcg.resize(limit)
        self.model.resize(limit)

    # -- policy and faults -----------------------------------------------------------------------------------

    @rule(path=st.sampled_from(list(RemovalPath)), nth=st.integers(1, 3), runs=st.booleans())
    def set_policy(self, path: RemovalPath, nth: int, runs: bool) -> None:
        self.disarm()
        self.cache.policy.parse(f"{path}=run" if runs else f"{path}=skip:every={nth}")
        self.model.policy.pop(path, None)
        if not runs:
            self.model.policy[path] = (nth, [0])

    @rule(name=st.sampled_from(list(FAULTS)), path=st.sampled_from(["all", *RemovalPath]), nth=st.integers(1, 5))
    def arm(self, name: str, path: str, nth: int) -> None:
        self.disarm()
        self.cache.policy.parse("all=run")
        self.model.policy.clear()
        self.cache.faults.set(name, path, every_nth=nth)
        self.model.fault = (name, path, nth, [0])
        self.broken = True

    @rule()
    def disarm(self) -> None:
        self.cache.faults.clear()
        self.model.fault = None

    # -- the same --------------------------------------------------------------------------------------------

    @invariant()
    def pages_are_the_same(self) -> None:
        if not hasattr(self, "cache"):
            return
        for file, pages in self.model.files.items():
            mapping = self.mappings[file]
            assert {index: _state(page) for index, page in mapping.pages.items()} == {
                index: pages[index].state() for index in sorted(pages)
            }
            assert {index: unpack_shadow(shadow) for index, shadow in mapping.shadows.items()} == self.model.shadows[
                file
            ]
            dirty_or_tagged = [index for index, page in sorted(pages.items()) if page.dirty]
            assert [page.index for page in mapping.dirty_pages()] == dirty_or_tagged

    @invariant()
    def lists_and_charges_are_the_same(self) -> None:
        if not hasattr(self, "cache"):
            return
        lruvec, batches, model = self.memcg.lruvec, self.memcg.batches, self.model
        for real, expected in ((lruvec.inactive, model.inactive), (lruvec.active, model.active)):
            assert [_name(page) for page in real] == [(page.file, page.index) for page in expected]
        for waiting, pages in (
            (batches.lru_add, model.lru_add),
            (batches.activate, model.activate),
            (batches.rotate, model.rotate),
            (batches.deactivate_file, model.deactivate),
        ):
            assert [_name(lruvec.page(pfn)) for pfn in waiting] == [(page.file, page.index) for page in pages]
        assert (self.memcg.usage_pages, self.memcg.stock, lruvec.nonresident_age) == (
            model.usage,
            model.stock,
            model.age,
        )

    @invariant()
    def counters_are_the_same(self) -> None:
        if not hasattr(self, "cache"):
            return
        cache, model = self.cache, self.model
        vmstat = cache.vmstat()
        counted = {name: vmstat[name] for name in model.stat}
        assert counted == dict(model.stat)
        resident = [page for pages in model.files.values() for page in pages.values()]
        assert cache.nr_file_pages == len(resident)
        assert cache.dirty.nr_dirty == sum(page.dirty for page in resident)
        assert cache.dirty.nr_writeback == len(self.writing)
        assert cache.nr_removed_pages == model.removed_alive
        for path in RemovalPath:
            real = (cache.removed[path], cache.hook_calls[path], cache.skipped[path])
            assert real == (model.removed[path], model.hook_calls[path], model.skipped[path]), path
        assert {rule: count for rule, count in cache.violations.items() if count} == +model.violations
        ledger = cache.ledger
        assert ledger.live("nfs_page", ObjectState.CACHED) == sum(page.owns for page in resident)
        assert ledger.live("nfs_page", ObjectState.ORPHANED) == model.orphaned == ledger.pinned()["rpc_cred"]

    @invariant()
    def the_cache_itself_is_sane(self) -> None:
        if hasattr(self, "cache") and not self.broken:
            fp.check_cache(self.cache)

    def teardown(self) -> None:
        if not hasattr(self, "cache"):
            return
        while self.held:
            self.release(0)
        self.disarm()
        for file in FILES:
            self.evict(file)
        fp.lru_add_drain(self.memcg)  # what left while it waited in a batch
        self.model.drain_all()
        self.counters_are_the_same()
        assert self.memcg.pages == 0 == self.cache.nr_removed_pages
        report = self.cache.ledger.audit([self.fs.cred], self.cache.mappings)
        assert report.agrees and report.orphaned == self.model.orphaned


def _name(page: fp.Page) -> tuple[str, int]:
    assert page.folio.mapping is not None
    return page.folio.mapping.host.audit_name, page.index


def _state(page: fp.Page) -> tuple[object, ...]:
    return (
        *(page.locked, page.uptodate, page.dirty, page.writeback, page.referenced, page.active),
        *(page.reclaim, page.lru, page.workingset, page.charged, page.owns, page.refcount),
    )


def test_the_cache_is_the_model() -> None:
    run_state_machine_as_test(ModelMachine, settings=settings(max_examples=100, stateful_step_count=60, deadline=None))


@pytest.mark.slow
def test_the_cache_is_the_model_over_tens_of_thousands_of_steps() -> None:
    run_state_machine_as_test(ModelMachine, settings=settings(max_examples=400, stateful_step_count=120, deadline=None))
