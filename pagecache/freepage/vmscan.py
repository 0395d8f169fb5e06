"""Reclaim with two lists, inside a memory cgroup (mm/vmscan.c and mm/memcontrol.c, classic LRU of Linux 6.1).

Everything here runs to its end without waiting: clean pages leave, dirty, written and private ones are activated and
left to the flusher. Scan sizes are list >> priority, so the number of pages that one call frees follows the length of
the lists: 57 = 1+3+7+15+31 at 4058 pages.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isqrt
from typing import TYPE_CHECKING

from .errors import NoMemory
from .filemap import remove_from_page_cache
from .folio import (
    ACTIVE,
    DIRTY,
    FROZEN,
    LOCKED,
    LRU,
    LRU_ADD,
    OUTSIDE,
    PAGE_SHIFT,
    READAHEAD,
    REFERENCED,
    WORKINGSET,
    WRITEBACK,
)
from .mmzone import ACTIVE as ACTIVE_LIST
from .mmzone import INACTIVE, Lruvec
from .page import Page
from .policy import RemovalPath
from .swap import SWAP_CLUSTER_MAX, LruBatches, lru_add_drain
from .vmstat import VmStat
from .workingset import workingset_eviction

if TYPE_CHECKING:
    from .folio import Folio
    from .page_alloc import Zone

DEF_PRIORITY = 12
MEMCG_CHARGE_BATCH = 64
_GIB_SHIFT = 30 - PAGE_SHIFT


def inactive_is_low(inactive: int, active: int) -> bool:
    """Is the inactive list too short beside the active one? Ratio 1 below 1 GiB, isqrt(10 * GiB) above. In pages."""
    gib = (inactive + active) >> _GIB_SHIFT
    return inactive * (isqrt(10 * gib) if gib else 1) < active


class ReclaimTarget:
    """What one reclaim call scans: a group, or all groups of a machine; and what it remembers of the last call."""

    __slots__ = ("activations_snapshot", "groups")

    def __init__(self, groups: list[MemCgroup]) -> None:
        self.groups = groups
        self.activations_snapshot = 0
        """workingset_activate_file at the end of the last reclaim call"""

    def activations(self) -> int:
        return sum(group.stat.workingset_activate_file for group in self.groups)

    def snapshot(self) -> None:
        """snapshot_refaults, at the end of every call."""
        self.activations_snapshot = self.activations()

    def may_deactivate(self) -> bool:
        """prepare_scan_count: pages were activated by refault since the last call, or the inactive list is short."""
        inactive = active = 0
        activations = self.activations_snapshot
        for group in self.groups:
            nr = group.lruvec.nr
            inactive += nr[INACTIVE]
            active += nr[ACTIVE_LIST]
            activations -= group.stat.workingset_activate_file
        return activations != 0 or inactive_is_low(inactive, active)


class ScanControl:
    """One reclaim call (struct scan_control)."""

    __slots__ = (
        "direct_global",
        "force_deactivate",
        "kswapd",
        "may_deactivate",
        "nr_reclaimed",
        "nr_scanned",
        "nr_to_reclaim",
        "priority",
        "skipped_deactivate",
    )

    def __init__(self, nr_to_reclaim: int, *, kswapd: bool = False, direct_global: bool = False) -> None:
        self.nr_to_reclaim = nr_to_reclaim
        self.kswapd = kswapd
        self.direct_global = direct_global
        """an allocation below the min watermark: its first round scans all that the priority asks for"""
        self.nr_reclaimed = 0
        self.nr_scanned = 0
        self.priority = DEF_PRIORITY
        self.may_deactivate = False
        self.force_deactivate = False
        self.skipped_deactivate = False


class MemCgroup:
    """A memory cgroup: a limit, what is charged to it, and the LRU lists of its pages.

    `limit_pages` None is no limit. `other_pages` are kernel objects charged beside the page cache (inodes, dentries,
    tree nodes, contexts); the embedder sets it.
    """

    def __init__(self, limit_pages: int | None = None, *, other_pages: int = 0) -> None:
        self.limit_pages = limit_pages
        self.other_pages = other_pages
        self.usage_pages = 0
        """charged pages of the cache, including the unused part of the stock"""
        self.stock = 0
        """prepaid pages (the per-CPU stock), at most 64"""
        self.zone: Zone | None = None
        """the machine whose watermarks its allocations obey; None: the limit alone counts"""
        self.lruvec = Lruvec()
        self.batches = LruBatches()
        self.target = ReclaimTarget([self])
        self.stat = VmStat()
        self.on_all_dirty: list[Callable[[], None]] = []
        """called when reclaim found only dirty pages that nobody writes: the caches wake their flushers"""
        self.trace: Callable[[int], None] | None = None
        """called with the pages freed by each reclaim call"""

    @property
    def pages(self) -> int:
        """Pages charged and in existence."""
        return self.usage_pages - self.stock

    def margin(self) -> int:
        """Pages that can still be charged (mem_cgroup_margin)."""
        if self.limit_pages is None:
            return 1 << 62
        return max(self.limit_pages - self.usage_pages - self.other_pages, 0)

    # -- charging ----------------------------------------------------------------------------------------------

    def charge(self, *, noretry: bool = False) -> None:
        """Charge one page (try_charge_memcg). Reclaims at the limit; raises NoMemory when that does not help.

        `noretry` is __GFP_NORETRY, as readahead allocates: one reclaim call and one look at the stocks, then failure.
        """
        if self.stock:
            self.stock -= 1
            return
        limit = self.limit_pages
        if limit is None or self.usage_pages + self.other_pages + MEMCG_CHARGE_BATCH <= limit:
            self.usage_pages += MEMCG_CHARGE_BATCH
            self.stock = MEMCG_CHARGE_BATCH - 1
            return
        drained = False
        while self.usage_pages + self.other_pages + 1 > limit:
            reclaimed = self.try_to_free_pages(1)
            if self.margin() >= 1:
                continue
            if not drained:
                self.drain_stock()
                drained = True
                continue
            # The kernel tries sixteen times, because others go on meanwhile. Here nobody does, and what was not to be
            # had from all pages will not be had from them at once: whoever can wait does so outside.
            if noretry or not reclaimed:
                raise NoMemory
        self.usage_pages += 1

    def charge_run(self, nr: int) -> int:
        """charge(noretry=True) of page after page, at most `nr`, up to where the next one would reclaim. How many.

        Only the first one may reclaim, or raise NoMemory.
        """
        if self.stock:
            self.stock -= 1
        else:
            self.charge(noretry=True)
        charged = 1
        while charged < nr:
            limit, n = self.limit_pages, nr - charged
            if not self.stock:
                if limit is None or self.usage_pages + self.other_pages + MEMCG_CHARGE_BATCH <= limit:
                    self.usage_pages += MEMCG_CHARGE_BATCH
                    self.stock = MEMCG_CHARGE_BATCH
                else:
                    n = min(n, limit - self.usage_pages - self.other_pages)
                    if n <= 0:
                        break
                    self.usage_pages += n
                    charged += n
                    continue
            n = min(n, self.stock)
            self.stock -= n
            charged += n
        return charged

    def uncharge(self, nr: int) -> None:
        self.usage_pages -= nr

    def drain_stock(self) -> None:
        """Give the prepaid pages back (drain_all_stock)."""
        self.usage_pages -= self.stock
        self.stock = 0

    def resize(self, limit_pages: int | None) -> bool:
        """Write memory.max. Reclaims down to it; False when what is left cannot be reclaimed now."""
        self.limit_pages = limit_pages
        if limit_pages is None:
            return True
        self.drain_stock()
        while (excess := self.usage_pages + self.other_pages - limit_pages) > 0:
            if self.try_to_free_pages(excess) == 0:
                return False
        return True

    def shrink(self, nr: int) -> int:
        """Write memory.reclaim: try to free `nr` pages; returns how many were."""
        total = 0
        while total < nr:
            reclaimed = self.try_to_free_pages(nr - total)
            if reclaimed == 0:
                break
            total += reclaimed
        return total

    # -- reclaim -----------------------------------------------------------------------------------------------

    def try_to_free_pages(self, nr: int) -> int:
        """One direct reclaim call with a target of max(nr, 32) pages; returns the number freed."""
        sc = ScanControl(max(nr, SWAP_CLUSTER_MAX))
        self.stat.allocstall += 1
        do_try_to_free_pages(self.target, sc)
        if self.trace is not None:
            self.trace(sc.nr_reclaimed)
        return sc.nr_reclaimed


def do_try_to_free_pages(target: ReclaimTarget, sc: ScanControl) -> None:
    """Priority 12 to 0 until enough was freed; once more with forced deactivation if nothing was."""
    while True:
        for sc.priority in range(DEF_PRIORITY, -1, -1):
            shrink_node(target, sc)
            if sc.nr_reclaimed >= sc.nr_to_reclaim:
                break
        target.snapshot()
        if sc.nr_reclaimed or not sc.skipped_deactivate:
            return
        sc.force_deactivate = True
        sc.skipped_deactivate = False


def shrink_node(target: ReclaimTarget, sc: ScanControl) -> None:
    """One round at one priority over every group of the target."""
    sc.may_deactivate = sc.force_deactivate or target.may_deactivate()
    for group in target.groups:
        shrink_lruvec(group, sc)


def shrink_lruvec(memcg: MemCgroup, sc: ScanControl) -> None:
    """Scan list >> priority pages of both lists, in chunks of 32, until the target is met."""
    lruvec = memcg.lruvec
    nr_inactive = lruvec.nr[INACTIVE] >> sc.priority
    nr_active = lruvec.nr[ACTIVE_LIST] >> sc.priority
    reclaimed = 0
    while nr_inactive or nr_active:
        if nr_inactive:
            n = min(nr_inactive, SWAP_CLUSTER_MAX)
            nr_inactive -= n
            reclaimed += shrink_inactive_list(memcg, sc, n)
        if nr_active:
            n = min(nr_active, SWAP_CLUSTER_MAX)
            nr_active -= n
            if sc.may_deactivate:
                shrink_active_list(memcg, n)
            else:
                sc.skipped_deactivate = True
        if reclaimed >= sc.nr_to_reclaim and not (sc.direct_global and sc.priority == DEF_PRIORITY):
            break
    sc.nr_reclaimed += reclaimed


def shrink_active_list(memcg: MemCgroup, nr_to_scan: int) -> None:
    """Move pages from the active tail to the inactive head. The referenced bit is left as it is."""
    lru_add_drain(memcg)
    lruvec = memcg.lruvec
    folios, folio_of = lruvec.folios, lruvec.folio_of
    pfns = lruvec.cut_tail(nr_to_scan, ACTIVE_LIST)
    for pfn in pfns:
        folio = folios[folio_of[pfn]]
        assert folio is not None
        off = pfn - folio.pfn
        folio.state[off] &= ~ACTIVE
        folio.more[off] |= WORKINGSET
    lruvec.add_each(pfns, INACTIVE)
    memcg.stat.pgrefill += len(pfns)
    memcg.stat.pgdeactivate += len(pfns)


def isolate_lru_folios(lruvec: Lruvec, nr_to_scan: int) -> list[tuple[Folio, int]]:
    """Take pages off the inactive tail, oldest first: (folio, slot) of each."""
    folios, folio_of = lruvec.folios, lruvec.folio_of
    isolated = []
    for pfn in lruvec.cut_tail(nr_to_scan, INACTIVE):
        folio = folios[folio_of[pfn]]
        assert folio is not None
        off = pfn - folio.pfn
        folio.more[off] &= ~LRU
        isolated.append((folio, off))
    return isolated


def shrink_inactive_list(memcg: MemCgroup, sc: ScanControl, nr_to_scan: int) -> int:
    """Isolate pages from the inactive tail and reclaim what can be; the rest goes back to the head of its list."""
    lru_add_drain(memcg)
    lruvec, stat = memcg.lruvec, memcg.stat
    isolated = isolate_lru_folios(lruvec, nr_to_scan)
    if sc.kswapd:
        stat.pgscan_kswapd += len(isolated)
    else:
        stat.pgscan_direct += len(isolated)
    sc.nr_scanned += len(isolated)
    unqueued_dirty = 0
    reclaimed = 0
    kept: list[tuple[Folio, int]] = []
    shrunk: Folio | None = None
    for folio, off in isolated:
        state = folio.state[off]
        if state & LOCKED:
            kept.append((folio, off))
            continue
        folio.state[off] = state | LOCKED
        if state & DIRTY or folio.private is not None:
            if _is_unqueued_dirty(Page(folio, off)):
                unqueued_dirty += 1
            gone = _shrink_page(memcg, folio, off)
        elif state & (WRITEBACK | OUTSIDE):
            gone = _shrink_page(memcg, folio, off)
        else:
            folio.state[off] = (state | LOCKED) & ~REFERENCED  # referenced and clean: it is reclaimed all the same
            gone = remove_mapping(memcg, folio, off, RemovalPath.RECLAIM)
        if gone:
            reclaimed += 1
        else:
            kept.append((folio, off))
        folio.state[off] &= ~LOCKED
        if folio.waiters is not None:
            Page(folio, off).wake()
        if folio is not shrunk:
            if shrunk is not None and shrunk.max_nr > 1:
                shrunk.copy_down()
            shrunk = folio
    if shrunk is not None:
        shrunk.copy_down()
    for folio, off in kept:
        active = folio.state[off] & ACTIVE
        folio.more[off] |= LRU
        lruvec.add(folio.pfn + off, ACTIVE_LIST if active else INACTIVE)
        if active:
            lruvec.nonresident_age += 1
        elif folio.state[off] & OUTSIDE and not Page(folio, off).refcount:
            folio.cache.free_page(folio, off)
    if sc.kswapd:
        stat.pgsteal_kswapd += reclaimed
    else:
        stat.pgsteal_direct += reclaimed
    if isolated and unqueued_dirty == len(isolated):
        for wake_flusher in memcg.on_all_dirty:
            wake_flusher()
    return reclaimed


def _is_unqueued_dirty(page: Page) -> bool:
    """Dirty, and nobody writes it: the file system's view of a private page (folio_check_dirty_writeback)."""
    dirty, writeback = page.dirty, page.writeback
    if page.private is not None and page.mapping is not None:
        is_dirty_writeback = page.mapping.a_ops.is_dirty_writeback
        if is_dirty_writeback is not None:
            dirty, writeback = is_dirty_writeback(page)
    return dirty and not writeback


def _shrink_page(memcg: MemCgroup, folio: Folio, off: int) -> bool:
    """shrink_folio_list for one locked, isolated, unmapped file page. False: it is kept, perhaps activated."""
    state = folio.state[off]
    if state & WRITEBACK:
        folio.state[off] = state | READAHEAD  # the reclaim meaning: rotate to the inactive tail when written
        return _activate(memcg, folio, off)
    folio.state[off] = state & ~REFERENCED  # a referenced page that is clean is reclaimed all the same
    if state & DIRTY:
        memcg.stat.nr_vmscan_immediate_reclaim += 1
        folio.state[off] |= READAHEAD
        return _activate(memcg, folio, off)
    if state & OUTSIDE:
        return False
    if folio.private is not None and off in folio.private and not release_page(Page(folio, off)):
        return _activate(memcg, folio, off)
    return remove_mapping(memcg, folio, off, RemovalPath.RECLAIM)


def _activate(memcg: MemCgroup, folio: Folio, off: int) -> bool:
    folio.state[off] |= ACTIVE
    memcg.stat.pgactivate += 1
    return False


def release_page(page: Page) -> bool:
    """filemap_release_folio: ask the file system to let go of the page's private data."""
    mapping = page.mapping
    assert mapping is not None
    if page.writeback:
        return False
    releasepage = mapping.a_ops.releasepage
    if releasepage is None or not releasepage(page):
        return False
    return page.private is None


def remove_mapping(memcg: MemCgroup, folio: Folio, off: int, path: RemovalPath) -> bool:
    """__remove_mapping: freeze the count at zero if only the cache and we hold the page, and send it out.

    Only reclaim leaves a shadow, and not in a mapping that is being evicted.
    """
    mapping = folio.mapping
    assert mapping is not None
    more = folio.more[off]
    if folio.state[off] & DIRTY or more & LRU_ADD or (folio.refs is not None and off in folio.refs):
        return False
    folio.more[off] = more | FROZEN
    shadow = None
    if path is RemovalPath.RECLAIM and not mapping.exiting:
        shadow = workingset_eviction(memcg, folio, off)
    remove_from_page_cache(folio, off, path, "__remove_mapping", shadow)
    return True
