"""Reading through the cache (filemap_read and filemap_get_pages of mm/filemap.c, Linux 6.1)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from .filemap import alloc_page_cache
from .page import PAGE_SHIFT, PAGE_SIZE, Page
from .readahead import page_cache_async_ra, page_cache_sync_ra
from .swap import PAGEVEC_SIZE, activate_page, mark_page_accessed

if TYPE_CHECKING:
    from .address_space import AddressSpace
    from .file import File


def read_nowait(file: File, pos: int, count: int) -> bytes | None:
    """The answer if every page is resident, uptodate and without a readahead marker; None otherwise. Never waits.

    `pos` and `count` are bytes; the range is clipped to i_size (b"" beyond it). Marks pages accessed as filemap_read
    does: a page that the previous read ended in is not marked again.
    """
    mapping = file.mapping
    size = mapping.host.i_size
    end = pos + count
    if end > size:
        end = size
    if end <= pos:
        return b""
    pages = mapping.pages
    first = pos >> PAGE_SHIFT
    last = (end - 1) >> PAGE_SHIFT
    ra = file.ra
    if first == last:
        page = pages.get(first)
        if page is None or not page.uptodate or page.readahead:
            return None
        if (ra.prev_pos - 1) >> PAGE_SHIFT != first:
            if not page.referenced:
                page.referenced = True
            elif not page.active:
                activate_page(page)
        ra.prev_pos = end
        mapping.cache.hits += 1
        base = first << PAGE_SHIFT
        data = page.data
        assert data is not None
        return bytes(data[pos - base : end - base])
    try:
        run = [pages[index] for index in range(first, last + 1)]
    except KeyError:
        return None
    for page in run:
        if not page.uptodate or page.readahead:
            return None
    same = (ra.prev_pos - 1) >> PAGE_SHIFT == first
    for page in run[1:] if same else run:
        if not page.referenced:
            page.referenced = True
        elif not page.active:
            activate_page(page)
    ra.prev_pos = end
    mapping.cache.hits += len(run)
    chunks = [page.data for page in run]
    head = pos - (first << PAGE_SHIFT)
    if head:
        chunks[0] = memoryview(chunks[0])[head:]  # type: ignore[arg-type]
    tail = end - (last << PAGE_SHIFT)
    if tail != PAGE_SIZE:
        chunks[-1] = memoryview(chunks[-1])[:tail]  # type: ignore[arg-type]
    return b"".join(chunks)  # type: ignore[arg-type]


async def filemap_read(file: File, pos: int, count: int) -> bytes:
    """Read through the cache (filemap_read). Bytes; short at the end of the file, and where an error followed data.

    Raises OSError (EIO and whatever readpage raised) when not even the first page could be read.
    """
    data = read_nowait(file, pos, count)
    if data is not None:
        return data
    mapping = file.mapping
    host = mapping.host
    cache = mapping.cache
    cache.might_sleep("filemap_read")
    _count_hits(mapping, pos, min(pos + count, host.i_size))
    ra = file.ra
    end = pos + count
    chunks: list[memoryview | bytes | bytearray] = []
    while pos < end and pos < host.i_size:
        try:
            batch = await _get_pages(file, pos, end)
        except OSError:
            if chunks:
                break
            raise
        try:
            size = host.i_size  # looked at after the pages are uptodate, so that no stale tail is copied
            stop = min(size, end)
            if pos >= stop:
                break
            for number, page in enumerate(batch):
                base = page.index << PAGE_SHIFT
                if base >= stop:
                    break
                if number or (ra.prev_pos - 1) >> PAGE_SHIFT != page.index:
                    mark_page_accessed(page)
                upto = min(base + PAGE_SIZE, stop)
                chunk = page.data
                assert chunk is not None
                if upto - pos != PAGE_SIZE:
                    chunk = memoryview(chunk)[pos - base : upto - base]
                # A page of our own may be written or zeroed while a later page is waited for: copied now, as the kernel
                # does. Replies' buffers never change.
                chunks.append(chunk if type(page.data) is not bytearray else bytes(chunk))
                pos = upto
                ra.prev_pos = pos
        finally:
            for page in batch:
                page.put()
    return b"".join(chunks)


def _count_hits(mapping: AddressSpace, pos: int, end: int) -> None:
    pages = mapping.pages
    hits = misses = 0
    for index in range(pos >> PAGE_SHIFT, ((end - 1) >> PAGE_SHIFT) + 1):
        page = pages.get(index)
        if page is not None and page.uptodate:
            hits += 1
        else:
            misses += 1
    mapping.cache.hits += hits
    mapping.cache.misses += misses


def _get_read_batch(mapping: AddressSpace, index: int, last: int) -> list[Page]:
    """Resident pages from `index` to `last` (excluded), each with a reference: at most 15, up to and including the
    first that is not uptodate or carries the marker (filemap_get_read_batch)."""
    pages = mapping.pages
    batch: list[Page] = []
    for each in range(index, min(last, index + PAGEVEC_SIZE)):
        page = pages.get(each)
        if page is None:
            break
        page.get()
        batch.append(page)
        if not page.uptodate or page.readahead:
            break
    return batch


async def _get_pages(file: File, pos: int, end: int) -> list[Page]:
    """The next batch of uptodate pages, referenced, with the readahead decisions (filemap_get_pages)."""
    mapping = file.mapping
    index = pos >> PAGE_SHIFT
    last = -(-end >> PAGE_SHIFT)
    while True:
        batch = _get_read_batch(mapping, index, last)
        if not batch:
            page_cache_sync_ra(file, index, last - index)
            batch = _get_read_batch(mapping, index, last)
        if not batch:
            created = await _create_and_read_page(file, index)
            if created is None:
                continue
            return [created]
        page = batch[-1]
        if mapping.cache.preempt is not None:
            mapping.cache.preempt("lookup", page)
        if page.readahead:
            page_cache_async_ra(file, page, last - page.index)
        if page.uptodate:
            return batch
        try:
            updated = await _update_page(file, page)
        except OSError:
            page.put()
            batch.pop()
            if batch:
                return batch
            raise
        except BaseException:
            for each in batch:
                each.put()
            raise
        if updated:
            return batch
        page.put()
        batch.pop()
        if batch:
            return batch


async def _create_and_read_page(file: File, index: int) -> Page | None:
    """No readahead brought the page: allocate it and read it alone (filemap_create_folio). None: look again."""
    page = await alloc_page_cache(file.mapping, index)
    if page is None:
        return None
    page.get()
    try:
        await read_page(file, page)
    except BaseException:
        page.put()
        raise
    return page


async def _update_page(file: File, page: Page) -> bool:
    """Bring a resident page up to date (filemap_update_page). False: it was locked by somebody, or left; look again."""
    if not page.trylock():
        await page.wait_locked()
        return False
    if page.mapping is None:
        page.unlock()
        return False
    if page.uptodate:
        page.unlock()
        return True
    await read_page(file, page)
    return True


async def read_page(file: File, page: Page) -> None:
    """readpage on a locked page, and wait for it (filemap_read_folio). OSError(EIO): not uptodate afterwards."""
    mapping = page.mapping
    assert mapping is not None
    readpage = mapping.a_ops.readpage
    page.error = False
    if readpage is None:
        page.unlock()
        raise OSError(errno.EINVAL, "mapping cannot be read")
    await readpage(file, page)
    await page.wait_locked()
    if not page.uptodate:
        file.ra.ra_pages //= 4  # shrink_readahead_size_eio
        raise OSError(errno.EIO, "page could not be read")


async def read_mapping_page(file: File, index: int) -> Page:
    """The page at `index`, uptodate, unlocked, with a reference the caller must put (read_mapping_page)."""
    mapping = file.mapping
    while True:
        page = mapping.pages.get(index)
        if page is None:
            created = await _create_and_read_page(file, index)
            if created is not None:
                return created
            continue
        page.get()
        if page.uptodate:
            mark_page_accessed(page)
            return page
        try:
            updated = await _update_page(file, page)
        except BaseException:
            page.put()
            raise
        if updated:
            return page
        page.put()
