"""The batches of 15 between a page and its LRU list (mm/swap.c).

A page waits in the lru_add batch before it reaches a list, and the batch holds a reference: until it is drained,
neither reclaim nor invalidate_mapping_pages can free the page. Activation, rotation and deactivation wait likewise.
There is one set of batches per memory cgroup: the model has one CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .page import Page
from .workingset import workingset_activation

if TYPE_CHECKING:
    from .vmscan import Lruvec, MemCgroup

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
    page.refcount += 1
    batch = memcg.batches.lru_add
    batch.append(page)
    if len(batch) >= PAGEVEC_SIZE:
        _drain_lru_add(memcg)


def mark_page_accessed(page: Page) -> None:
    """First touch sets the referenced bit, the second asks for activation (folio_mark_accessed)."""
    if not page.referenced:
        page.referenced = True
    elif not page.active:
        activate_page(page)


def activate_page(page: Page) -> None:
    """The second touch of an inactive page."""
    if page.lru:
        memcg = page.cache.memcg
        page.refcount += 1
        batch = memcg.batches.activate
        batch.append(page)
        if len(batch) >= PAGEVEC_SIZE:
            _drain_activate(memcg)
    elif page in page.cache.memcg.batches.lru_add:
        page.active = True  # still in the lru_add batch: it will be drained to the active list
    page.referenced = False
    workingset_activation(page)


def deactivate_file_page(page: Page) -> None:
    """Invalidation could not drop the page: a hint to reclaim it early (deactivate_file_folio)."""
    memcg = page.cache.memcg
    page.refcount += 1
    batch = memcg.batches.deactivate_file
    batch.append(page)
    if len(batch) >= PAGEVEC_SIZE:
        _drain_deactivate_file(memcg)


def rotate_reclaimable_page(page: Page) -> None:
    """Writeback of a page marked for reclaim ended: to the inactive tail (folio_rotate_reclaimable)."""
    if page.locked or page.dirty or not page.lru:
        return
    memcg = page.cache.memcg
    page.refcount += 1
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
    inactive, active = lruvec.inactive, lruvec.active
    pages, memcg.batches.lru_add = memcg.batches.lru_add, []
    for page in pages:
        if page.freed:
            page.cache.violation("use_after_free", f"in the lru_add batch: {page.describe()}")
            continue
        page.lru = True
        if page.active:
            active[page] = None
        else:
            inactive[page] = None
        page.refcount -= 1
        if page.refcount == 0 and page.mapping is None:
            page.cache.free_page(page)


def _drain_activate(memcg: MemCgroup) -> None:
    lruvec = memcg.lruvec
    pages, memcg.batches.activate = memcg.batches.activate, []
    for page in pages:
        if page.lru and not page.active:
            del lruvec.inactive[page]
            page.active = True
            lruvec.active[page] = None
            memcg.stat.pgactivate += 1
        page.put()


def _drain_rotate(memcg: MemCgroup) -> None:
    pages, memcg.batches.rotate = memcg.batches.rotate, []
    for page in pages:
        if page.lru:
            _move_to_inactive_tail(memcg.lruvec, page)
            memcg.stat.pgrotated += 1
        page.put()


def _drain_deactivate_file(memcg: MemCgroup) -> None:
    lruvec, stat = memcg.lruvec, memcg.stat
    pages, memcg.batches.deactivate_file = memcg.batches.deactivate_file, []
    for page in pages:
        if page.lru:
            active = page.active
            if page.writeback or page.dirty:
                lruvec.remove(page)
                page.active = False
                lruvec.add(page)
                page.readahead = True  # the reclaim meaning of the bit
            else:
                _move_to_inactive_tail(lruvec, page)
                stat.pgrotated += 1
            page.referenced = False
            if active:
                stat.pgdeactivate += 1
        page.put()


def _move_to_inactive_tail(lruvec: Lruvec, page: Page) -> None:
    if page.active:
        del lruvec.active[page]
        page.active = False
        lruvec.inactive[page] = None
    lruvec.inactive.move_to_end(page, last=False)
