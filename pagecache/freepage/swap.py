"""The batches of 15 between a page and its LRU list (mm/swap.c).

A page waits in the lru_add batch before it reaches a list, and the batch holds a reference: until it is drained,
neither reclaim nor invalidate_mapping_pages can free the page. Activation, rotation and deactivation wait likewise.
There is one set of batches per memory cgroup: the model has one CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .folio import ACTIVE, DIRTY, FREED, LOCKED, LRU, LRU_ADD, OUTSIDE, READAHEAD, REFERENCED, WRITEBACK
from .mmzone import ACTIVE as ACTIVE_LIST
from .mmzone import INACTIVE
from .page import Page

if TYPE_CHECKING:
    from .folio import Folio
    from .vmscan import MemCgroup

SWAP_CLUSTER_MAX = 32
"""pages that one reclaim call wants at least"""

PAGEVEC_SIZE = 15
"""pages per batch (31 from Linux 6.11 on)"""


class LruBatches:
    """The per-CPU folio batches (struct cpu_fbatches)."""

    __slots__ = ("activate", "deactivate_file", "lru_add", "rotate")

    def __init__(self) -> None:
        self.lru_add: list[Page] = []
        self.activate: list[Page] = []
        self.rotate: list[Page] = []
        self.deactivate_file: list[Page] = []


def lru_cache_add(memcg: MemCgroup, page: Page) -> None:
    """Queue a new page for its list (folio_add_lru); the batch takes a reference."""
    page.folio.more[page.off] |= LRU_ADD
    batch = memcg.batches.lru_add
    batch.append(page)
    if len(batch) >= PAGEVEC_SIZE:
        _drain_lru_add(memcg)


def lru_cache_add_run(memcg: MemCgroup, folio: Folio) -> None:
    """lru_cache_add of each page of a new folio in turn: full batches go to the inactive list, the rest waits."""
    batch = memcg.batches.lru_add
    nr = folio.nr
    listed = (len(batch) + nr) // PAGEVEC_SIZE * PAGEVEC_SIZE - len(batch)
    if listed > 0:
        if batch:
            _drain_lru_add(memcg)
        more = folio.more
        for off in range(listed):
            more[off] |= LRU
        memcg.lruvec.add_run(folio.pfn, listed, INACTIVE)
    else:
        listed = 0
    for off in range(listed, nr):
        folio.more[off] |= LRU_ADD
        memcg.batches.lru_add.append(Page(folio, off))


def mark_page_accessed(page: Page) -> None:
    """First touch sets the referenced bit, the second asks for activation (folio_mark_accessed)."""
    folio, off = page.folio, page.off
    state = folio.state[off]
    if not state & REFERENCED:
        folio.state[off] = state | REFERENCED
    elif not state & ACTIVE:
        activate_page(folio, off)


def mark_run_accessed(folio: Folio, start: int, stop: int) -> None:
    """mark_page_accessed of pages [start, stop) in turn."""
    state = folio.state
    for off in range(start, stop):
        each = state[off]
        if not each & REFERENCED:
            state[off] = each | REFERENCED
        elif not each & ACTIVE:
            activate_page(folio, off)


def activate_page(folio: Folio, off: int) -> None:
    """The second touch of an inactive page."""
    memcg = folio.cache.memcg
    more = folio.more[off]
    if more & LRU:
        page = Page(folio, off)
        page.hold((0 if folio.refs is None else folio.refs.get(off, 0)) + 1)
        batch = memcg.batches.activate
        batch.append(page)
        if len(batch) >= PAGEVEC_SIZE:
            _drain_activate(memcg)
    elif more & LRU_ADD:
        folio.state[off] |= ACTIVE  # still in the lru_add batch: it will be drained to the active list
    folio.state[off] &= ~REFERENCED
    memcg.lruvec.nonresident_age += 1  # workingset_activation


def _take(page: Page) -> None:
    """A batch takes its reference, whatever the state of the page."""
    folio = page.folio
    page.hold((0 if folio.refs is None else folio.refs.get(page.off, 0)) + 1)


def deactivate_file_page(page: Page) -> None:
    """Invalidation could not drop the page: a hint to reclaim it early (deactivate_file_folio)."""
    memcg = page.folio.cache.memcg
    _take(page)
    batch = memcg.batches.deactivate_file
    batch.append(page)
    if len(batch) >= PAGEVEC_SIZE:
        _drain_deactivate_file(memcg)


def rotate_reclaimable_page(page: Page) -> None:
    """Writeback of a page marked for reclaim ended: to the inactive tail (folio_rotate_reclaimable)."""
    folio, off = page.folio, page.off
    if folio.state[off] & (LOCKED | DIRTY) or not folio.more[off] & LRU:
        return
    memcg = folio.cache.memcg
    _take(page)
    batch = memcg.batches.rotate
    batch.append(page)
    if len(batch) >= PAGEVEC_SIZE:
        _drain_rotate(memcg)


def lru_add_drain(memcg: MemCgroup) -> None:
    """Empty all batches into the lists (lru_add_drain_cpu)."""
    batches = memcg.batches
    if batches.lru_add:
        _drain_lru_add(memcg)
    if batches.rotate:
        _drain_rotate(memcg)
    if batches.deactivate_file:
        _drain_deactivate_file(memcg)
    if batches.activate:
        _drain_activate(memcg)


def _drain_lru_add(memcg: MemCgroup) -> None:
    lruvec = memcg.lruvec
    pages, memcg.batches.lru_add = memcg.batches.lru_add, []
    for page in pages:
        folio, off = page.folio, page.off
        more = folio.more[off]
        if more & FREED:
            folio.cache.violation("use_after_free", f"in the lru_add batch: {page.describe()}")
            continue
        folio.more[off] = more & ~LRU_ADD | LRU
        lruvec.add(folio.pfn + off, ACTIVE_LIST if folio.state[off] & ACTIVE else INACTIVE)
        if folio.state[off] & OUTSIDE and (folio.refs is None or off not in folio.refs):
            folio.cache.free_page(page)


def _drain_activate(memcg: MemCgroup) -> None:
    lruvec = memcg.lruvec
    pages, memcg.batches.activate = memcg.batches.activate, []
    for page in pages:
        folio, off = page.folio, page.off
        if folio.more[off] & LRU and not folio.state[off] & ACTIVE:
            lruvec.delete(folio.pfn + off, INACTIVE)
            folio.state[off] |= ACTIVE
            lruvec.add(folio.pfn + off, ACTIVE_LIST)
            memcg.stat.pgactivate += 1
        page.put()


def _drain_rotate(memcg: MemCgroup) -> None:
    pages, memcg.batches.rotate = memcg.batches.rotate, []
    for page in pages:
        if page.folio.more[page.off] & LRU:
            _move_to_inactive_tail(memcg, page)
            memcg.stat.pgrotated += 1
        page.put()


def _drain_deactivate_file(memcg: MemCgroup) -> None:
    lruvec, stat = memcg.lruvec, memcg.stat
    pages, memcg.batches.deactivate_file = memcg.batches.deactivate_file, []
    for page in pages:
        folio, off = page.folio, page.off
        if folio.more[off] & LRU:
            state = folio.state[off]
            if state & (WRITEBACK | DIRTY):
                lruvec.delete(folio.pfn + off, ACTIVE_LIST if state & ACTIVE else INACTIVE)
                lruvec.add(folio.pfn + off, INACTIVE)
                folio.state[off] = state & ~(ACTIVE | REFERENCED) | READAHEAD  # the reclaim meaning of the bit
            else:
                _move_to_inactive_tail(memcg, page)
                stat.pgrotated += 1
                folio.state[off] &= ~REFERENCED
            if state & ACTIVE:
                stat.pgdeactivate += 1
        page.put()


def _move_to_inactive_tail(memcg: MemCgroup, page: Page) -> None:
    folio, off = page.folio, page.off
    lruvec = memcg.lruvec
    lruvec.delete(folio.pfn + off, ACTIVE_LIST if folio.state[off] & ACTIVE else INACTIVE)
    folio.state[off] &= ~ACTIVE
    lruvec.add_tail(folio.pfn + off, INACTIVE)
