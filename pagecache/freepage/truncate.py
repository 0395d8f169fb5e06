"""Truncation, invalidation and final eviction (mm/truncate.c)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from .filemap import find_lock_page, lock_page, remove_from_page_cache, wait_writeback_locked
from .folio import PAGE_SHIFT, PAGE_SIZE
from .page import Page
from .policy import RemovalPath
from .swap import PAGEVEC_SIZE, deactivate_file_page, lru_add_drain
from .vmscan import release_page, remove_mapping
from .writeback import cancel_dirty_page

if TYPE_CHECKING:
    from .address_space import AddressSpace


def _truncate_cleanup_page(page: Page) -> None:
    """Private data is cancelled, dirtiness forgotten: the data is not wanted any more."""
    if page.private is not None:
        invalidate_page(page, 0, PAGE_SIZE)
    cancel_dirty_page(page)


def invalidate_page(page: Page, offset: int, length: int) -> None:
    """a_ops.invalidatepage, if there is one. The page is locked and not under writeback."""
    mapping = page.mapping
    assert mapping is not None
    operation = mapping.a_ops.invalidatepage
    if operation is not None:
        operation(page, offset, length)


def _first_pass(mapping: AddressSpace, start: int, end: int | None, path: RemovalPath, function: str) -> None:
    """Take out, in batches of 15 locked together, every page that is neither locked nor under writeback."""
    todo = mapping.resident_range(start, end)
    for at in range(0, len(todo), PAGEVEC_SIZE):
        batch = []
        for page in todo[at : at + PAGEVEC_SIZE]:
            if page.mapping is mapping and not page.writeback and page.trylock():
                batch.append(page)
        for page in batch:
            _truncate_cleanup_page(page)
        for page in batch:
            remove_from_page_cache(page.folio, page.off, path, function)
        for page in batch:
            page.unlock()
    if todo:
        lru_add_drain(mapping.cache.memcg)
    _clear_shadows(mapping, start, end)


def _clear_shadows(mapping: AddressSpace, start: int, end: int | None) -> None:
    shadows = mapping.shadows
    if not shadows:
        return
    if start == 0 and end is None:
        shadows.clear()
    else:
        for index in [each for each in shadows if each >= start and (end is None or each < end)]:
            del shadows[index]


async def truncate_inode_pages_range(mapping: AddressSpace, lstart: int, lend: int | None = None) -> None:
    """Remove the pages of bytes [lstart, lend), None: to the end; dirty data is discarded (path `truncate`).

    Two passes: the first takes what it need not wait for; the second locks each page and waits for its writeback.
    Pages only partly in the range stay, with that part zeroed.
    """
    await _truncate(mapping, lstart, lend, RemovalPath.TRUNCATE)


async def _truncate(mapping: AddressSpace, lstart: int, lend: int | None, path: RemovalPath) -> None:
    mapping.cache.might_sleep("truncate_inode_pages_range")
    if not mapping.pages and not mapping.shadows:
        return
    start = -(-lstart >> PAGE_SHIFT)
    end = None if lend is None else lend >> PAGE_SHIFT
    _first_pass(mapping, start, end, path, "delete_from_page_cache_batch")

    if lstart & (PAGE_SIZE - 1):
        index = lstart >> PAGE_SHIFT
        base = index << PAGE_SHIFT
        stop = PAGE_SIZE if lend is None else min(lend - base, PAGE_SIZE)
        await _zero_partial_page(mapping, index, lstart - base, stop)
    if (
        lend is not None
        and lend & (PAGE_SIZE - 1)
        and (lend >> PAGE_SHIFT != lstart >> PAGE_SHIFT or start << PAGE_SHIFT == lstart)
    ):
        await _zero_partial_page(mapping, lend >> PAGE_SHIFT, 0, lend & (PAGE_SIZE - 1))

    while todo := mapping.resident_range(start, end):
        for page in todo:
            if page.mapping is not mapping:  # it left while an earlier one was waited for
                assert mapping.pages.get(page.index) != page, f"in the tree, but removed: {page.describe()}"
                continue
            await lock_page(page)
            if page.writeback:
                await wait_writeback_locked(page)
            if page.mapping is mapping:
                _truncate_cleanup_page(page)
                remove_from_page_cache(page.folio, page.off, path, "filemap_remove_folio")
            page.unlock()


async def _zero_partial_page(mapping: AddressSpace, index: int, start: int, end: int) -> None:
    """truncate_inode_partial_folio: the page stays, bytes [start, end) of it become zero."""
    page = await find_lock_page(mapping, index)
    if page is None:
        return
    if page.writeback:
        await wait_writeback_locked(page)
    if page.data is not None:
        page.writable()[start:end] = bytes(end - start)
    if page.private is not None:
        invalidate_page(page, start, end - start)
    page.unlock()


async def truncate_pagecache(mapping: AddressSpace, newsize: int) -> None:
    """The file is `newsize` bytes long now (i_size already set): drop what lies beyond, zero the last page's rest."""
    await truncate_inode_pages_range(mapping, newsize)


def truncate_inode_pages_final(mapping: AddressSpace) -> int:
    """The inode goes away (path `evict`): remove every page, forget the shadows, poison the mapping.

    Nobody may use the inode any more, so no page is locked or under writeback; returns how many such pages had to stay
    (the mapping is then not poisoned: wait for them, or use truncate_inode_pages_final_wait). Does not block.
    """
    mapping.exiting = True
    if mapping.pages or mapping.shadows:
        _first_pass(mapping, 0, None, RemovalPath.EVICT, "delete_from_page_cache_batch")
    if mapping.pages:
        return len(mapping.pages)
    mapping.bdi.wb.forget(mapping)
    mapping.poison()
    return 0


async def truncate_inode_pages_final_wait(mapping: AddressSpace) -> None:
    """truncate_inode_pages_final by a task that may wait for I/O under way (unmount)."""
    mapping.exiting = True
    await _truncate(mapping, 0, None, RemovalPath.EVICT)
    truncate_inode_pages_final(mapping)


def invalidate_mapping_pages(mapping: AddressSpace, start: int = 0, end: int | None = None) -> int:
    """Drop the clean, unlocked, unreferenced pages of [start, end), in page indices (path `drop`). Never blocks.

    Skipped: locked or under writeback; dirty; referenced (the lru_add batch holds a reference); private data that
    releasepage keeps. Dirty, referenced and private ones are handed to deactivate_file_page. Shadows of the range go.
    Returns the number of pages dropped.
    """
    cache = mapping.cache
    count = 0
    todo = mapping.resident_range(start, end)
    drained = False
    for at in range(0, len(todo), PAGEVEC_SIZE):
        for page in todo[at : at + PAGEVEC_SIZE]:
            if page.mapping is not mapping or page.writeback or not page.trylock():
                continue
            dropped = _evict_page(page)
            page.unlock()
            if dropped:
                count += 1
            else:
                deactivate_file_page(page.folio, page.off)
        if not drained:
            lru_add_drain(cache.memcg)  # pagevec_release drains once per call, after the first batch
            drained = True
    _clear_shadows(mapping, start, end)
    return count


def _evict_page(page: Page) -> bool:
    """mapping_evict_folio: one clean locked page leaves, if only the cache and its private data hold it."""
    if page.dirty or page.refcount > (page.private is not None):
        return False
    if page.private is not None and not release_page(page):
        return False
    return remove_mapping(page.cache.memcg, page.folio, page.off, RemovalPath.DROP)


async def invalidate_inode_pages2_range(mapping: AddressSpace, start: int = 0, end: int | None = None) -> None:
    """Remove every page of [start, end), in page indices, whatever its references (path `invalidate`).

    Waits for lock and writeback, launders dirty pages. Raises OSError(EBUSY) if a page survived (dirty again, or
    private data that releasepage keeps), or the error of launder_page, after having tried all pages.
    """
    cache = mapping.cache
    cache.might_sleep("invalidate_inode_pages2_range")
    error: OSError | None = None
    todo = mapping.resident_range(start, end)
    for at, page in enumerate(todo):
        if page.mapping is mapping:
            if not page.trylock():
                await lock_page(page)
            try:
                await _invalidate_complete_page2(mapping, page)
            except OSError as failure:
                error = failure
            finally:
                page.unlock()
        if at % PAGEVEC_SIZE == PAGEVEC_SIZE - 1:
            lru_add_drain(cache.memcg)
    if todo:
        lru_add_drain(cache.memcg)
    _clear_shadows(mapping, start, end)
    if error is not None:
        raise error


async def _invalidate_complete_page2(mapping: AddressSpace, page: Page) -> None:
    if page.mapping is not mapping:
        return
    if page.writeback:
        await page.wait_writeback()
    launder_page = mapping.a_ops.launder_page
    if page.dirty and launder_page is not None:
        await launder_page(page)
    if page.mapping is not mapping:
        return
    if page.private is not None and not release_page(page):
        raise OSError(errno.EBUSY, "page has private data")
    if page.dirty:
        raise OSError(errno.EBUSY, "page is dirty")
    remove_from_page_cache(page.folio, page.off, RemovalPath.INVALIDATE, "invalidate_complete_folio2")


def generic_error_remove_page(mapping: AddressSpace, page: Page) -> None:
    """Bad memory (memory_failure): the locked page leaves (path `truncate`). OSError(EBUSY): under writeback."""
    operation = mapping.a_ops.error_remove_page
    if operation is not None:
        operation(mapping, page)
        return
    if page.mapping is not mapping:
        return
    if page.writeback:
        raise OSError(errno.EBUSY, "page is under writeback")
    _truncate_cleanup_page(page)
    remove_from_page_cache(page.folio, page.off, RemovalPath.TRUNCATE, "generic_error_remove_page")
