"""Sanity of the cache's structures, for tests to call after every step. AssertionError names what is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from .address_space import AddressSpace
from .cache import PageCache
from .folio import FREED, OUTSIDE, PAGE_SIZE, REMOVED_ALIVE
from .page import HOOK_PENDING, Page
from .policy import RemovalPath
from .slab import Ledger
from .vmscan import MemCgroup


def check_page(page: Page) -> None:
    """A resident page: its flags agree with its tags, and its contents with uptodate."""
    mapping = page.mapping
    assert mapping is not None
    story = page.describe()
    assert mapping.pages.get(page.index) == page, story
    assert not page.freed and page.hook == HOOK_PENDING, story
    assert page.refcount >= 0, story
    assert not page.uptodate or (page.data is not None and len(page.data) == PAGE_SIZE), story
    assert not page.dirty or page.index in mapping.dirty_tags, story
    assert page.writeback == (page.index in mapping.writeback_tags), story
    assert page.charged, story
    assert page.index not in mapping.shadows, story


def check_mapping(mapping: AddressSpace) -> None:
    """Tags name resident pages only; the dirty list knows the mapping while it has dirty pages."""
    pages = mapping.pages
    for index, page in pages.items():
        assert page.index == index and page.mapping is mapping
        check_page(page)
    assert all(index in pages for index in mapping.dirty_tags), mapping
    assert all(index in pages for index in mapping.writeback_tags), mapping
    assert (mapping.dirtied_when_s is not None) == (mapping in mapping.bdi.wb.b_dirty), mapping


def check_memcg(memcg: MemCgroup, caches: Iterable[PageCache]) -> None:
    """The lists hold what their pages' flags say, and the charge is the stock plus the charged pages of all caches."""
    lruvec, batches = memcg.lruvec, memcg.batches
    for page in lruvec.inactive:
        assert page.lru and not page.active and not page.freed, page.describe()
    for page in lruvec.active:
        assert page.lru and page.active and not page.freed, page.describe()
    waiting = Counter(
        lruvec.page(pfn)
        for each in (batches.lru_add, batches.activate, batches.rotate, batches.deactivate_file)
        for pfn in each
    )
    for page, references in waiting.items():
        assert page.refcount >= references and not page.freed, page.describe()
    adding = {lruvec.page(pfn) for pfn in batches.lru_add}
    known = {*lruvec.inactive, *lruvec.active, *adding}
    resident = [page for cache in caches for mapping in cache.mappings for page in mapping.pages.values()]
    for page in resident:
        assert page in known, f"on no list: {page.describe()}"
        assert page.lru == (page not in adding), page.describe()
    for folio in {folio for folio in lruvec.folios if folio is not None}:
        assert folio.live == sum(not more & FREED for more in folio.more), folio
        for off, state in enumerate(folio.state):
            if state & OUTSIDE and not folio.more[off] & FREED:
                assert folio.more[off] & REMOVED_ALIVE, (
                    f"left, and neither freed nor held: {Page(folio, off).describe()}"
                )
    charged = sum(1 for page in known if page.charged)
    assert memcg.usage_pages == memcg.stock + charged, f"{memcg.usage_pages} != {memcg.stock} + {charged}"
    assert 0 <= memcg.stock <= 64


def check_ledger(ledger: Ledger) -> None:
    """The counts of each slab cache are its objects."""
    for slab in ledger.caches.values():
        for account in slab.uses.values():
            assert account.active == sum(account.live), f"{slab.name} {account.use}: {account.active}, {account.live}"
        active = sum(account.active for account in slab.uses.values())
        assert active == len(slab.objects) + sum(run.live for run in slab.runs), f"{slab.name}: {active}"


def check_cache(cache: PageCache, *, alone: bool = True) -> None:
    """Everything about one cache; `alone`: it shares its memory cgroup and dirty domain with no other."""
    for mapping in cache.mappings:
        check_mapping(mapping)
    resident = sum(mapping.nrpages for mapping in cache.mappings)
    assert cache.nr_file_pages == resident, f"nr_file_pages {cache.nr_file_pages}, resident {resident}"
    removed = 0
    for path in RemovalPath:
        calls = cache.hook_calls[path] + cache.skipped[path] + cache.unhooked[path]
        assert cache.removed[path] == calls, f"{path}: removed {cache.removed[path]}, hook called or skipped {calls}"
        removed += cache.removed[path]
    assert cache.stat.pgpgin == resident + removed
    check_ledger(cache.ledger)
    if alone:
        check_memcg(cache.memcg, [cache])
        pages = [page for mapping in cache.mappings for page in mapping.pages.values()]
        domain = cache.dirty
        assert domain.nr_dirty == sum(page.dirty for page in pages), domain.nr_dirty
        assert domain.nr_writeback - domain.nr_unstable == sum(page.writeback for page in pages)
