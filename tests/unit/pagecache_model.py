"""The page cache again, the plain way: one object a page, two lists of objects, everything one page after the other.

No folios, runs, page frames or views: what the kernel's functions do is written down once, as shortly as it can be, for
the state machine that holds the real cache to it (test_pagecache_model.py). I/O is the machine's; pages here change
state when it says so.
"""

from __future__ import annotations

from collections import Counter
from math import isqrt

BATCH = 15
CHARGE_BATCH = 64
CLUSTER = 32

FAULTS = {
    "skip": (),
    "raise": ("hook_raised",),
    "block": ("hook_blocked",),
    "call_early": ("hook_page_visible",),
    "unlock_early": ("hook_page_unlocked",),
}
"""The faults that the model knows -> what fires when they strike; the first two lose the page's object as well."""


class NoMemoryHere(Exception):
    """Nothing could be reclaimed."""


class ModelPage:
    def __init__(self, file: str, index: int) -> None:
        self.file, self.index = file, index
        self.locked = True
        self.resident = self.charged = True
        self.uptodate = self.dirty = self.writeback = self.referenced = self.active = self.workingset = False
        self.reclaim = self.lru = self.owns = self.hooked = self.freed = False
        self.refs = 0
        """references beside the cache's own"""

    def state(self) -> tuple[object, ...]:
        return (
            *(self.locked, self.uptodate, self.dirty, self.writeback, self.referenced, self.active),
            *(self.reclaim, self.lru, self.workingset, self.charged, self.owns, self.refs),
        )


class ModelCache:
    def __init__(self, limit: int) -> None:
        self.limit: int = limit
        self.usage = self.stock = self.age = self.activations_snapshot = 0
        self.files: dict[str, dict[int, ModelPage]] = {}
        self.shadows: dict[str, dict[int, tuple[int, bool]]] = {}
        self.inactive: list[ModelPage] = []
        self.active: list[ModelPage] = []
        """oldest first"""
        self.lru_add: list[ModelPage] = []
        self.activate: list[ModelPage] = []
        self.rotate: list[ModelPage] = []
        self.deactivate: list[ModelPage] = []
        self.stat: Counter[str] = Counter()
        self.removed: Counter[str] = Counter()
        self.hook_calls: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self.violations: Counter[str] = Counter()
        self.orphaned = self.removed_alive = 0
        self.policy: dict[str, tuple[int, list[int]]] = {}
        """path -> (every Nth, [removals seen])"""
        self.fault: tuple[str, str, int, list[int]] | None = None
        """(name, path, every Nth, [removals seen])"""

    # -- charging --------------------------------------------------------------------------------------------

    def must_reclaim(self) -> bool:
        """Would charging one more page reclaim?"""
        return not self.stock and self.usage + CHARGE_BATCH > self.limit and self.usage + 1 > self.limit

    def charge(self, noretry: bool) -> None:
        if self.stock:
            self.stock -= 1
            return
        if self.usage + CHARGE_BATCH <= self.limit:
            self.usage += CHARGE_BATCH
            self.stock = CHARGE_BATCH - 1
            return
        drained = False
        while self.usage + 1 > self.limit:
            freed = self.try_to_free_pages(1)
            if self.usage + 1 <= self.limit:
                continue
            if not drained:
                self.usage, self.stock, drained = self.usage - self.stock, 0, True
            elif noretry or not freed:
                raise NoMemoryHere
        self.usage += 1

    # -- the way in ------------------------------------------------------------------------------------------

    def insert(self, file: str, index: int, *, for_write: bool) -> ModelPage:
        self.charge(noretry=False)
        return self._enter(file, index, for_write)

    def insert_run(self, file: str, index: int, nr: int) -> list[ModelPage]:
        """As many as are charged without reclaim in between, and at least one."""
        self.charge(noretry=True)
        charged = 1
        while charged < nr and not self.must_reclaim():
            self.charge(noretry=True)
            charged += 1
        return [self._enter(file, each, False) for each in range(index, index + charged)]

    def _enter(self, file: str, index: int, for_write: bool) -> ModelPage:
        page = self.files[file][index] = ModelPage(file, index)
        self.stat["pgpgin"] += 1
        shadow = self.shadows[file].pop(index, None)
        if shadow is not None and not for_write:
            self.stat["workingset_refault_file"] += 1
            age, workingset = shadow
            if self.age - age <= len(self.active):
                page.active, page.workingset = True, workingset
                self.age += 1
                self.stat["workingset_activate_file"] += 1
                self.stat["workingset_restore_file"] += workingset
        self._into(self.lru_add, page)
        return page

    # -- batches ---------------------------------------------------------------------------------------------

    def _into(self, batch: list[ModelPage], page: ModelPage) -> None:
        page.refs += 1
        batch.append(page)
        if len(batch) == BATCH:
            self._drain(batch)

    def drain_all(self) -> None:
        for batch in (self.lru_add, self.rotate, self.deactivate, self.activate):
            self._drain(batch)

    def _drain(self, batch: list[ModelPage]) -> None:
        pages = list(batch)
        batch.clear()
        for page in pages:
            if batch is self.lru_add:
                page.lru = True
                self.list_of(page).append(page)
            elif page.lru and (batch is not self.activate or not page.active):
                was_active = page.active
                self.list_of(page).remove(page)
                page.active = batch is self.activate
                if batch is self.activate:
                    self.active.append(page)
                    self.stat["pgactivate"] += 1
                elif batch is self.deactivate and (page.dirty or page.writeback):
                    self.inactive.append(page)
                    page.reclaim = True
                else:
                    self.inactive.insert(0, page)
                    self.stat["pgrotated"] += 1
                if batch is self.deactivate:
                    page.referenced = False
                    self.stat["pgdeactivate"] += was_active
            self.put(page)

    def list_of(self, page: ModelPage) -> list[ModelPage]:
        return self.active if page.active else self.inactive

    def put(self, page: ModelPage) -> None:
        page.refs -= 1
        if not page.refs and not page.resident:
            self._free(page)

    def _free(self, page: ModelPage) -> None:
        if not page.hooked:
            self.violations["hook_missed"] += 1
        if page.lru:
            self.list_of(page).remove(page)
        self.usage -= page.charged
        self.removed_alive -= 1
        page.freed, page.lru, page.charged = True, False, False
        self.stat["pgfree"] += 1

    # -- what users of pages do ------------------------------------------------------------------------------

    def mark_accessed(self, page: ModelPage) -> None:
        if not page.referenced:
            page.referenced = True
        elif not page.active:
            if page.lru:
                self._into(self.activate, page)
            else:
                page.active = True
            page.referenced = False
            self.age += 1

    def read(self, file: str, first: int, nr: int) -> bool:
        pages = [self.files[file].get(index) for index in range(first, first + nr)]
        if not all(page is not None and page.uptodate and not page.reclaim for page in pages):
            return False
        for page in pages:
            assert page is not None
            self.mark_accessed(page)
        return True

    def end_writeback(self, page: ModelPage) -> None:
        if page.reclaim:
            page.reclaim = False
            if page.lru and not page.locked and not page.dirty:
                self._into(self.rotate, page)
        page.writeback = False
        self.stat["nr_written"] += 1

    # -- the way out -----------------------------------------------------------------------------------------

    def _remove(self, page: ModelPage, path: str, shadow: bool = False) -> None:
        fires: tuple[str, ...] = ()
        lost = skipped = False
        if self.fault is not None:
            name, on, nth, seen = self.fault
            if on in ("all", path):
                seen[0] += 1
                if seen[0] % nth == 0:
                    fires = FAULTS[name]
                    lost = name in ("skip", "raise")
        if path in self.policy:
            nth, seen = self.policy[path]
            seen[0] += 1
            skipped = seen[0] % nth == 0
        del self.files[page.file][page.index]
        if shadow:
            self.shadows[page.file][page.index] = (self.age, page.workingset)
            self.age += 1
        page.resident = False
        if not page.refs:
            self.usage, page.charged = self.usage - 1, False
        self.removed[path] += 1
        self.violations.update(fires)
        if skipped:
            self.skipped[path] += 1
            page.hooked = True
        elif not lost or fires:
            self.hook_calls[path] += 1
            page.hooked = True
        if page.owns and (lost or skipped):
            self.orphaned += 1
            self.violations["private_left_behind"] += not skipped
        page.owns = False
        self.removed_alive += 1
        if not page.refs:
            self._free(page)

    def _range(self, file: str, start: int, end: int | None) -> list[ModelPage]:
        pages = self.files[file]
        return [pages[index] for index in sorted(pages) if index >= start and (end is None or index < end)]

    def _forget_shadows(self, file: str, start: int, end: int | None) -> None:
        for index in list(self.shadows[file]):
            if index >= start and (end is None or index < end):
                del self.shadows[file][index]

    def truncate(self, file: str, start: int, end: int | None, path: str) -> None:
        """Nothing is locked or under writeback."""
        todo = self._range(file, start, end)
        for page in todo:
            page.dirty = False
            self._remove(page, path)
        if todo:
            self.drain_all()
        self._forget_shadows(file, start, end)

    def invalidate_mapping_pages(self, file: str, start: int, end: int | None) -> int:
        todo = self._range(file, start, end)
        dropped = 0
        for at, page in enumerate(todo):
            if page.resident and not page.writeback and not page.locked:
                if page.dirty or page.refs:
                    self._into(self.deactivate, page)
                else:
                    self._remove(page, "drop")
                    dropped += 1
            if at == min(BATCH, len(todo)) - 1:
                self.drain_all()
        self._forget_shadows(file, start, end)
        return dropped

    def invalidate_inode_pages2(self, file: str, start: int, end: int | None) -> None:
        """Nothing is locked or under writeback; what is dirty is written first."""
        todo = self._range(file, start, end)
        for at, page in enumerate(todo):
            if page.dirty:
                page.dirty = False
                self.end_writeback(page)
            self._remove(page, "invalidate")
            if at % BATCH == BATCH - 1:
                self.drain_all()
        if todo:
            self.drain_all()
        self._forget_shadows(file, start, end)

    def replace(self, page: ModelPage) -> ModelPage:
        page.refs, page.locked = page.refs + 1, True
        try:
            self.charge(noretry=False)
        finally:
            page.refs, page.locked = page.refs - 1, False
        self._remove(page, "replace")
        return self._enter(page.file, page.index, True)

    def memory_failure(self, page: ModelPage) -> None:
        page.dirty = False
        self._remove(page, "truncate")

    def migrate(self, page: ModelPage) -> None:
        """Another page with the same state takes its place, at the head of the list."""
        self.list_of(page).remove(page)
        self.list_of(page).append(page)
        self.stat["pgfree"] += 1

    # -- reclaim ---------------------------------------------------------------------------------------------

    def shrink(self, nr: int) -> None:
        total = 0
        while total < nr:
            freed = self.try_to_free_pages(nr - total)
            if not freed:
                return
            total += freed

    def resize(self, limit: int) -> None:
        self.limit = limit
        self.usage, self.stock = self.usage - self.stock, 0
        while self.usage > limit and self.try_to_free_pages(self.usage - limit):
            pass

    def try_to_free_pages(self, nr: int) -> int:
        self.stat["allocstall"] += 1
        for force in (False, True):
            freed, avoided = self._priorities(max(nr, CLUSTER), force)
            self.activations_snapshot = self.stat["workingset_activate_file"]
            if freed or not avoided:
                break
        return freed

    def _priorities(self, target: int, force: bool) -> tuple[int, bool]:
        freed, avoided = 0, False
        for priority in range(12, -1, -1):
            both = len(self.inactive) + len(self.active)
            ratio = isqrt(10 * (both >> 18)) or 1
            deactivate = (
                force
                or self.stat["workingset_activate_file"] != self.activations_snapshot
                or len(self.inactive) * ratio < len(self.active)
            )
            inactive, active, now = len(self.inactive) >> priority, len(self.active) >> priority, 0
            while inactive or active:
                n = min(inactive, CLUSTER)
                if n:
                    now += self._shrink_inactive(n)
                m = min(active, CLUSTER)
                if m and deactivate:
                    self._shrink_active(m)
                avoided = avoided or (m > 0 and not deactivate)
                inactive, active = inactive - n, active - m
                if now >= target:
                    break
            freed += now
            if freed >= target:
                break
        return freed, avoided

    def _shrink_active(self, nr: int) -> None:
        self.drain_all()
        pages, self.active = self.active[:nr], self.active[nr:]
        for page in pages:
            page.active, page.workingset = False, True
            self.inactive.append(page)
            self.stat["pgrefill"] += 1
            self.stat["pgdeactivate"] += 1

    def _shrink_inactive(self, nr: int) -> int:
        self.drain_all()
        pages, self.inactive = self.inactive[:nr], self.inactive[nr:]
        kept = []
        for page in pages:
            page.lru = False
        for page in pages:
            self.stat["pgscan_direct"] += 1
            if page.locked:
                kept.append(page)
            elif page.writeback or page.dirty:
                if not page.writeback:
                    page.referenced = False
                    self.stat["nr_vmscan_immediate_reclaim"] += 1
                page.reclaim = page.active = True
                self.stat["pgactivate"] += 1
                kept.append(page)
            else:
                page.referenced = False
                if page.refs or not page.resident:
                    kept.append(page)
                else:
                    self._remove(page, "reclaim", shadow=True)
                    self.stat["pgsteal_direct"] += 1
        for page in kept:
            page.lru = True
            self.list_of(page).append(page)
            self.age += page.active
        return len(pages) - len(kept)
