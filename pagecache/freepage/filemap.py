"""The way into the page cache, lookup, and the one door out of it (mm/filemap.c)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from .errors import NoMemory
from .faults import forgotten
from .folio import (
    CHARGED,
    DIRTY,
    FROZEN,
    LOCKED,
    LRU_ADD,
    OUTSIDE,
    PAGE_SHIFT,
    PAGE_SIZE,
    REMOVED_ALIVE,
    WRITE_FOLIO_PAGES,
    Folio,
)
from .mmzone import ACTIVE, INACTIVE
from .page import HOOK_ABSENT, HOOK_MIGRATED, HOOK_SKIPPED, Page, new_page
from .policy import RemovalPath
from .sanitizer import call_freepage
from .swap import SWAP_CLUSTER_MAX, lru_add_drain, lru_cache_add, lru_cache_add_run
from .workingset import workingset_refault

if TYPE_CHECKING:
    from .address_space import AddressSpace
    from .cache import PageCache

ZERO_PAGE = bytes(PAGE_SIZE)


# -- the way in ------------------------------------------------------------------------------------------------


def add_to_page_cache_lru(mapping: AddressSpace, index: int, *, for_write: bool = False, noretry: bool = False) -> Page:
    """A new page at `index`: locked before it is visible, charged, queued for its LRU list (filemap_add_folio).

    Preconditions: no page there. Charging may reclaim. Raises NoMemory. A shadow found there is a refault, except for
    a page about to be written.
    """
    assert index not in mapping.pages, f"page {index} of {mapping.host.audit_name} exists"
    cache = mapping.cache
    memcg = cache.memcg
    if memcg.zone is not None:
        memcg.zone.alloc_page(noretry=noretry)
    memcg.charge(noretry=noretry)
    page = _insert_for_write(mapping, index) if for_write else Page(_insert(mapping, index, 1), 0)
    if mapping.shadows:
        shadow = mapping.shadows.pop(index, None)
        if shadow is not None and not for_write:
            workingset_refault(memcg, page.folio, 0, shadow)
    lru_cache_add(memcg, page.folio, page.off)
    return page


def _insert_for_write(mapping: AddressSpace, index: int) -> Page:
    """A charged page enters the tree, locked: in the folio of the page before it, if that was written and has room."""
    pages = mapping.pages
    folio = pages.load(index - 1)
    if folio is None or folio.max_nr == folio.nr or folio.index + folio.nr != index:
        return Page(_insert(mapping, index, 1, WRITE_FOLIO_PAGES), 0)
    off = folio.nr
    folio.state.append(LOCKED)
    folio.more.append(CHARGED)
    folio.nr = off + 1
    folio.live += 1
    pages.store_slot(index, mapping.cache.memcg.lruvec.folio_of[folio.pfn])
    cache = mapping.cache
    cache.nr_file_pages += 1
    cache.stat.pgpgin += 1
    return Page(folio, off)


def add_run_to_page_cache_lru(mapping: AddressSpace, index: int, nr: int) -> Folio:
    """add_to_page_cache_lru of neighbouring pages in turn, as readahead allocates: of as many of the `nr` as can be
    charged without reclaim in between, and at least of one. Returns their folio. Raises NoMemory when not even one can.
    """
    cache = mapping.cache
    memcg = cache.memcg
    if memcg.zone is not None:
        nr = memcg.zone.alloc_run(nr)
    nr = memcg.charge_run(nr)
    folio = _insert(mapping, index, nr)
    shadows = mapping.shadows
    if shadows and (nr == 1 or not shadows.keys().isdisjoint(range(index, index + nr))):
        for off in range(nr):  # each refault looks at the lists as the pages before it left them
            shadow = shadows.pop(index + off, None)
            if shadow is not None:
                workingset_refault(memcg, folio, off, shadow)
            lru_cache_add(memcg, folio, off)
    else:
        lru_cache_add_run(memcg, folio)
    return folio


def _insert(mapping: AddressSpace, index: int, nr: int, max_nr: int = 0) -> Folio:
    """Charged pages enter the tree, locked."""
    cache = mapping.cache
    folio = Folio(cache, index, nr, LOCKED, CHARGED, max_nr)
    folio.mapping = mapping
    folio.live = nr
    mapping.pages.store(folio, cache.memcg.lruvec.alloc_frames(folio))
    cache.nr_file_pages += nr
    cache.stat.pgpgin += nr
    return folio


async def alloc_page_cache(mapping: AddressSpace, index: int, *, for_write: bool = False) -> Page | None:
    """add_to_page_cache_lru by a task that may wait for memory. None: somebody else inserted the page meanwhile."""
    while True:
        try:
            return add_to_page_cache_lru(mapping, index, for_write=for_write)
        except NoMemory:
            await reclaim_throttle(mapping.cache)
            if index in mapping.pages:
                return None


async def reclaim_throttle(cache: PageCache) -> None:
    """Reclaim found nothing to free: wait until writeback, or a read under way, makes a page reclaimable.

    With no flusher to wake, the caller writes by itself. Raises NoMemory when nothing could ever become reclaimable.
    """
    cache.might_sleep("reclaim_throttle")
    if cache.memcg.batches.lru_add:
        # A group of fewer pages than a batch: reclaim saw empty lists and had no reason to drain it.
        lru_add_drain(cache.memcg)
        return
    domain = cache.dirty
    if domain.nr_dirty or domain.nr_writeback:
        before = (domain.nr_dirty, domain.nr_writeback, cache.stat.nr_written)
        waits = domain.nr_writeback > 0
        for bdi in list(domain.bdis):
            if bdi.nr_dirty:
                if bdi.wb.wakeup(start_all=True):
                    waits = True
                else:
                    await bdi.wb.writeback_all()
        if before != (domain.nr_dirty, domain.nr_writeback, cache.stat.nr_written):
            return
        if waits:
            # Until a cluster's worth of pages is clean (acct_reclaim_writeback): an earlier look would be in vain.
            enough = max(domain.nr_dirty + domain.nr_writeback - SWAP_CLUSTER_MAX, 0)
            while True:
                await cache.throttled.wait(lambda: "memory: dirty pages being written")
                if domain.nr_dirty + domain.nr_writeback <= enough or not domain.nr_writeback:
                    return
    for page in cache.memcg.lruvec.inactive:
        if page.locked:
            page.get()
            try:
                await page.wait_locked()
            finally:
                page.put()
            return
    raise NoMemory


async def find_or_create_page(mapping: AddressSpace, index: int, for_write: bool = True) -> Page:
    """The page at `index`, locked and still in the mapping; for writing, also not under writeback (stable pages).

    grab_cache_page_write_begin. Looks the page up again if it left the mapping while the lock was waited for.
    """
    cache = mapping.cache
    while True:
        page = mapping.pages.get(index)
        if page is None:
            page = await alloc_page_cache(mapping, index, for_write=for_write)
            if page is None:
                continue
            return page
        if cache.preempt is not None:
            cache.preempt("lookup", page)
        if not page.trylock():
            await lock_page(page)
        if page.mapping is not mapping and not _recheck_forgotten(mapping, page):
            page.unlock()
            continue
        if for_write and page.writeback:
            await wait_writeback_locked(page)
        return page


async def find_lock_page(mapping: AddressSpace, index: int) -> Page | None:
    """The resident page at `index`, locked, or None (find_lock_page)."""
    while True:
        page = mapping.pages.get(index)
        if page is None:
            return None
        if not page.trylock():
            await lock_page(page)
        if page.mapping is mapping or _recheck_forgotten(mapping, page):
            return page
        page.unlock()


def _recheck_forgotten(mapping: AddressSpace, page: Page) -> bool:
    """Does the fault skip_recheck strike at this lookup of a page that left while its lock was waited for?"""
    faults = mapping.cache.faults
    if not faults.armed:
        return False
    return faults.strike(RemovalPath.TRUNCATE, "lookup", mapping, page) is not None


async def lock_page(page: Page) -> None:
    """Wait for the lock with a reference held, so that the page is not freed meanwhile."""
    page.get()
    try:
        await page.lock()
    finally:
        page.put()


async def wait_writeback_locked(page: Page) -> None:
    """Wait for the end of writeback with the page lock held; a cancelled waiter unlocks the page."""
    try:
        await page.wait_writeback()
    except BaseException:
        page.unlock()
        raise


# -- the one exit door -----------------------------------------------------------------------------------------


def remove_from_page_cache(folio: Folio, off: int, path: RemovalPath, function: str, shadow: int | None = None) -> None:
    """Send a locked page, slot `off` of its folio, out of the cache. Every removal comes through here; does not block.

    1. Take a_ops.freepage, while the mapping is certainly alive. 2. Remove the page from the tree and its tags.
    3. Uncharge it. 4. Call the hook: the page is still locked, and no longer visible. 5. Drop the cache's reference.

    `function` is the kernel function that removes, for the audit. A page somebody still holds stays charged, as in
    Linux, until its last reference goes.
    """
    state, more = folio.state, folio.more
    mapping = folio.mapping
    assert mapping is not None and not state[off] & OUTSIDE, f"removed twice: {Page(folio, off).describe()}"
    cache = folio.cache
    index = folio.index + off
    if not state[off] & LOCKED:
        cache.violation("hook_page_unlocked", f"{function}: {Page(folio, off).describe()}")
    if folio.private is not None and off in folio.private:
        cache.violation("private_left_behind", f"{function} with private data: {Page(folio, off).describe()}")
    if state[off] & DIRTY:
        _account_dropped(cache, mapping, Page(folio, off), function)
    preempt = cache.preempt

    freepage = mapping.a_ops.freepage
    if freepage is not None or preempt is not None:
        page = Page(folio, off)  # somebody will look at it
    fault = cache.faults.strike(path, function, mapping, page) if cache.faults.armed and freepage is not None else None
    if preempt is not None:
        preempt("freepage_taken", page)
    if fault is not None and freepage is not None:
        freepage = fault.taken(page, freepage)

    host = mapping.host
    mapping.pages.erase(index)
    if shadow is not None:
        mapping.shadows[index] = shadow
    if mapping.dirty_tags:
        mapping.dirty_tags.pop(index, None)
    state[off] |= OUTSIDE  # page.mapping is None from now on
    cache.nr_file_pages -= 1

    if more[off] & (CHARGED | LRU_ADD) == CHARGED and (folio.refs is None or off not in folio.refs):
        more[off] &= ~CHARGED
        cache.memcg.uncharge(1)
    if preempt is not None:
        preempt("removed", page)
    if fault is not None and freepage is not None and freepage is not forgotten:
        freepage = fault.removed(page, freepage)

    cache.removed[path] += 1
    if freepage is None:
        if folio.hooks is None:
            folio.hooks = bytearray(folio.max_nr)
        folio.hooks[off] = HOOK_ABSENT
        cache.unhooked[path] += 1
    elif cache.policy.rules and cache.policy.skips(path):
        page.hook = HOOK_SKIPPED
        cache.skipped[path] += 1
        if page.owns:
            cache.skipped_owned[path] += 1
    elif freepage is not forgotten:
        if cache.strict and preempt is None and path is RemovalPath.RECLAIM:
            with mapping.poisoned_meanwhile():  # the inode may be gone by now: whoever looks is caught
                call_freepage(cache, path, page, freepage)
        else:
            call_freepage(cache, path, page, freepage)
    if fault is not None and freepage is not None:
        fault.hooked(page, freepage)
    if (folio.objects is not None or folio.fill_run is not None) and Page(folio, off).owns:
        page = Page(folio, off)
        # Nobody will release it any more: this is the leak.
        owned = page.disown()
        assert owned is not None
        cache.ledger.orphan(owned, file=host.audit_name, index=index, path=path, function=function)
        if page.hook != HOOK_SKIPPED:
            cache.violation("private_left_behind", f"{owned.describe()} outlived {page.describe()}")
    if preempt is not None:
        preempt("hooked", page)

    more[off] &= ~FROZEN
    if not more[off] & LRU_ADD and (folio.refs is None or off not in folio.refs):
        cache.free_page(folio, off)
    else:
        more[off] |= REMOVED_ALIVE
        cache.nr_removed_pages += 1
    if fault is not None:
        fault.dropped(page)


def _account_dropped(cache: PageCache, mapping: AddressSpace, page: Page, function: str) -> None:
    """A page still dirty at the exit: data is lost; the counters are put right (filemap_unaccount_folio)."""
    page.dirty = False
    mapping.bdi.nr_dirty -= 1
    mapping.bdi.domain.nr_dirty -= 1
    cache.violation("dirty_page_dropped", f"{function}: {page.describe()}")


async def replace_page_cache_page(old: Page, new_data: memoryview | bytes | bytearray) -> Page:
    """Put a new, uptodate page in the place of a resident clean one (replace_page_cache_page; path `replace`).

    Waits for the old page's lock and writeback. Returns the new page, unlocked. OSError(EBUSY): the old page is dirty
    or has private data; OSError(ENOENT): it left the cache meanwhile. The new page owns no object until its file
    system gives it one.
    """
    mapping = old.mapping
    if mapping is None:
        raise OSError(errno.ENOENT, "page is not in the cache")
    cache = mapping.cache
    cache.might_sleep("replace_page_cache_page")
    await lock_page(old)
    try:
        await old.wait_writeback()
        if old.mapping is not mapping:
            raise OSError(errno.ENOENT, "page left the cache")
        if old.dirty or old.private is not None:
            raise OSError(errno.EBUSY, "page is dirty or has private data")
        memcg = cache.memcg
        index = old.index
        old.get()  # charging may reclaim, and must not take the page being replaced
        try:
            if memcg.zone is not None:
                memcg.zone.alloc_page()
            memcg.charge()
        finally:
            old.put()
        remove_from_page_cache(old.folio, old.off, RemovalPath.REPLACE, "replace_page_cache_page")
        new = Page(_insert(mapping, index, 1), 0)
        new.fill(new_data)
        new.uptodate = True
        lru_cache_add(memcg, new.folio, new.off)
        new.unlock()
        return new
    finally:
        old.unlock()


def migrate_page(old: Page) -> Page:
    """Move a locked page's contents and objects to a new page in its slot; not an exit, the hook is not called.

    folio_migrate_mapping. OSError(EBUSY): writeback, private data (nfs_migrate_folio), or somebody holds a reference.
    The new page is returned locked, the old one stays locked.
    """
    mapping = old.mapping
    assert mapping is not None and old.locked
    if old.writeback or old.private is not None or old.refcount:
        raise OSError(errno.EBUSY, "page is in use")
    cache = old.cache
    lruvec = cache.memcg.lruvec
    new = new_page(cache, old.index)
    new.locked = True
    for name in ("uptodate", "dirty", "referenced", "active", "workingset", "readahead", "error", "charged", "owned"):
        setattr(new, name, getattr(old, name))
    data = old.data
    if data is not None:
        new.fill(data)
    folio = new.folio
    folio.mapping = mapping
    folio.live = 1
    number = lruvec.alloc_frames(folio)
    if old.lru:
        which = ACTIVE if old.active else INACTIVE
        lruvec.delete(old.folio.pfn + old.off, which)
        lruvec.add(folio.pfn, which)
        old.lru, new.lru = False, True
    if mapping.a_ops.migratepage is not None:
        mapping.a_ops.migratepage(mapping, new, old)
    mapping.pages.replace(new.index, number)
    folio.state[0] &= ~OUTSIDE
    old.folio.state[old.off] |= OUTSIDE
    old.owned = None
    old.dirty = False
    old.charged = False
    old.hook = HOOK_MIGRATED
    cache.migrated += 1
    cache.free_page(old.folio, old.off)
    freepage = mapping.a_ops.freepage
    if cache.faults.armed and freepage is not None:
        fault = cache.faults.strike(RemovalPath.REPLACE, "migrate_page", mapping, new)
        if fault is not None:
            fault.hooked(new, freepage)
    return new


async def wait_on_page_writeback_range(mapping: AddressSpace, start: int = 0, end: int | None = None) -> None:
    """Wait for the writeback of bytes [start, end) (filemap_fdatawait_range; the error is in wb_err)."""
    mapping.cache.might_sleep("filemap_fdatawait_range")
    last = None if end is None else -(-end >> PAGE_SHIFT)
    for page in mapping.writeback_pages(start >> PAGE_SHIFT, last):
        await page.wait_writeback()
