"""The batches of 15 between a page and its LRU list (mm/swap.c).

A page waits in the lru_add batch before it reaches a list, and the batch holds a reference: until it is drained,
neither reclaim nor invalidate_mapping_pages can free the page. Activation, rotation and deactivation wait likewise.
There is one set of batches per memory cgroup: the model has one CPU. A batch lists page frame numbers, which stay the
pages' own as long as the batch holds its references.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .folio import ACTIVE, DIRTY, LOCKED, LRU, LRU_ADD, OUTSIDE, READAHEAD, REFERENCED, WRITEBACK, bytes_where, mapped
from .mmzone import ACTIVE as ACTIVE_LIST
from .mmzone import INACTIVE
from .page import Page

if TYPE_CHECKING:
    from .folio import Folio
    from .vmscan import MemCgroup

SWAP_CLUSTER_MAX = 32
"""pages that one reclaim call wants at least"""

_NEW = bytes_where(lambda state: not state & (ACTIVE | OUTSIDE))
_LISTED = mapped(lambda more: more & ~LRU_ADD | LRU)

PAGEVEC_SIZE = 15
"""pages per batch (31 from Linux 6.11 on)"""


class LruBatches:
    """The per-CPU folio batches (struct cpu_fbatches), of page frame numbers."""

    __slots__ = ("activate", "deactivate_file", "lru_add", "rotate")

    def __init__(self) -> None:
        self.lru_add: list[int] = []
        self.activate: list[int] = []
        self.rotate: list[int] = []
        self.deactivate_file: list[int] = []

    def forget(self, pfn: int) -> bool:
        """The page is being freed, its frame may soon be another's. Was it in a batch, whose reference was stolen?"""
        found = False
        for batch in (self.lru_add, self.activate, self.rotate, self.deactivate_file):
            while pfn in batch:
                batch.remove(pfn)
                found = True
        return found


def lru_cache_add(memcg: MemCgroup, folio: Folio, off: int) -> None:
    """Queue a new page for its list (folio_add_lru); the batch takes a reference."""
    folio.more[off] |= LRU_ADD
    batch = memcg.batches.lru_add
    batch.append(folio.pfn + off)
    if len(batch) >= PAGEVEC_SIZE:
        _drain_lru_add(memcg)


def lru_cache_add_run(memcg: MemCgroup, folio: Folio) -> None:
    """lru_cache_add of each page of a new folio in turn: full batches go to the inactive list, the rest waits."""
    batch = memcg.batches.lru_add
    nr = folio.nr
    listed = (len(batch) + nr) // PAGEVEC_SIZE * PAGEVEC_SIZE - len(batch)
    more = folio.more
    new = more[0]
    if listed > 0:
        if batch:
            _drain_lru_add(memcg)
        more[:listed] = bytes((new | LRU,)) * listed
        memcg.lruvec.add_run(folio.pfn, listed, INACTIVE)
    else:
        listed = 0
    more[listed:] = bytes((new | LRU_ADD,)) * (nr - listed)
    batch.extend(range(folio.pfn + listed, folio.pfn + nr))


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
        _take(folio, off)
        batch = memcg.batches.activate
        batch.append(folio.pfn + off)
        if len(batch) >= PAGEVEC_SIZE:
            _drain_activate(memcg)
    elif more & LRU_ADD:
        folio.state[off] |= ACTIVE  # still in the lru_add batch: it will be drained to the active list
    folio.state[off] &= ~REFERENCED
    memcg.lruvec.nonresident_age += 1  # workingset_activation


def _take(folio: Folio, off: int) -> None:
    """A batch takes its reference, whatever the state of the page."""
    refs = folio.refs
    if refs is None:
        folio.refs = {off: 1}
    else:
        refs[off] = refs.get(off, 0) + 1


def _give_back(folio: Folio, off: int) -> None:
    """A batch drops its reference."""
    refs = folio.refs
    if refs is not None and len(refs) == 1 and refs.get(off) == 1 and not folio.state[off] & OUTSIDE:
        folio.refs = None
    else:
        Page(folio, off).put()


def deactivate_file_page(folio: Folio, off: int) -> None:
    """Invalidation could not drop the page: a hint to reclaim it early (deactivate_file_folio)."""
    memcg = folio.cache.memcg
    _take(folio, off)
    batch = memcg.batches.deactivate_file
    batch.append(folio.pfn + off)
    if len(batch) >= PAGEVEC_SIZE:
        _drain_deactivate_file(memcg)


def rotate_reclaimable_page(folio: Folio, off: int) -> None:
    """Writeback of a page marked for reclaim ended: to the inactive tail (folio_rotate_reclaimable)."""
    if folio.state[off] & (LOCKED | DIRTY) or not folio.more[off] & LRU:
        return
    memcg = folio.cache.memcg
    _take(folio, off)
    batch = memcg.batches.rotate
    batch.append(folio.pfn + off)
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


def _emptied(batch: list[int]) -> list[int]:
    """What is in the batch, which is empty from now on."""
    pfns = batch[:]
    batch.clear()
    return pfns


def _drain_lru_add(memcg: MemCgroup) -> None:
    lruvec = memcg.lruvec
    folios, folio_of = lruvec.folios, lruvec.folio_of
    batch = memcg.batches.lru_add
    folio = folios[folio_of[batch[0]]]
    assert folio is not None
    first, n = batch[0] - folio.pfn, len(batch)
    if (
        folio.nr - first >= n
        and batch == list(range(batch[0], batch[0] + n))
        and not folio.state[first : first + n].translate(None, _NEW)
    ):
        # The rest of a readahead, as most batches are: neighbours that are still in the cache, and inactive.
        lruvec.add_run(batch[0], n, INACTIVE)
        folio.more[first : first + n] = folio.more[first : first + n].translate(_LISTED)
        batch.clear()
        return
    inactive: list[int] = []
    active: list[int] = []
    left: list[tuple[Folio, int]] = []
    for pfn in _emptied(memcg.batches.lru_add):
        folio = folios[folio_of[pfn]]
        assert folio is not None
        off = pfn - folio.pfn
        folio.more[off] = folio.more[off] & ~LRU_ADD | LRU
        state = folio.state[off]
        if state & ACTIVE:
            active.append(pfn)
        else:
            inactive.append(pfn)
        if state & OUTSIDE and (folio.refs is None or off not in folio.refs):
            left.append((folio, off))
    if inactive:
        lruvec.add_each(inactive, INACTIVE)
    if active:
        lruvec.add_each(active, ACTIVE_LIST)
    for folio, off in left:
        folio.cache.free_page(folio, off)


def _drain_activate(memcg: MemCgroup) -> None:
    lruvec = memcg.lruvec
    folios, folio_of, move = lruvec.folios, lruvec.folio_of, lruvec.move
    for pfn in _emptied(memcg.batches.activate):
        folio = folios[folio_of[pfn]]
        if folio is None:
            continue  # freed: somebody dropped the batch's reference
        off = pfn - folio.pfn
        if folio.more[off] & LRU and not folio.state[off] & ACTIVE:
            folio.state[off] |= ACTIVE
            move(pfn, INACTIVE, ACTIVE_LIST)
            memcg.stat.pgactivate += 1
        _give_back(folio, off)


def _drain_rotate(memcg: MemCgroup) -> None:
    folios, folio_of = memcg.lruvec.folios, memcg.lruvec.folio_of
    for pfn in _emptied(memcg.batches.rotate):
        folio = folios[folio_of[pfn]]
        if folio is None:
            continue  # freed: somebody dropped the batch's reference
        off = pfn - folio.pfn
        if folio.more[off] & LRU:
            _move_to_inactive_tail(memcg, folio, off)
            memcg.stat.pgrotated += 1
        _give_back(folio, off)


def _drain_deactivate_file(memcg: MemCgroup) -> None:
    lruvec, stat = memcg.lruvec, memcg.stat
    folios, folio_of = lruvec.folios, lruvec.folio_of
    for pfn in _emptied(memcg.batches.deactivate_file):
        folio = folios[folio_of[pfn]]
        if folio is None:
            continue  # freed: somebody dropped the batch's reference
        off = pfn - folio.pfn
        if folio.more[off] & LRU:
            state = folio.state[off]
            if state & (WRITEBACK | DIRTY):
                lruvec.move(pfn, ACTIVE_LIST if state & ACTIVE else INACTIVE, INACTIVE)
                folio.state[off] = state & ~(ACTIVE | REFERENCED) | READAHEAD  # the reclaim meaning of the bit
            else:
                _move_to_inactive_tail(memcg, folio, off)
                stat.pgrotated += 1
                folio.state[off] &= ~REFERENCED
            if state & ACTIVE:
                stat.pgdeactivate += 1
        _give_back(folio, off)


def _move_to_inactive_tail(memcg: MemCgroup, folio: Folio, off: int) -> None:
    lruvec, pfn = memcg.lruvec, folio.pfn + off
    lruvec.delete(pfn, ACTIVE_LIST if folio.state[off] & ACTIVE else INACTIVE)
    folio.state[off] &= ~ACTIVE
    lruvec.add_tail(pfn, INACTIVE)
