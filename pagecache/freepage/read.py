"""Reading through the cache (filemap_read and filemap_get_pages of mm/filemap.c, Linux 6.1)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from .filemap import alloc_page_cache
from .folio import (
    ACTIVE,
    INSIDE,
    LOCKED,
    NOT_UPTODATE,
    PAGE_SHIFT,
    PAGE_SIZE,
    READABLE,
    READAHEAD,
    REFERENCED,
    REFERENCED_ACTIVE,
    SET_REFERENCED,
    UNREFERENCED,
    UPTODATE,
    Buffer,
    Folio,
)
from .page import Page
from .readahead import page_cache_async_ra, page_cache_sync_ra
from .swap import PAGEVEC_SIZE, activate_page, mark_page_accessed, mark_run_accessed
from .xarray import XA_CHUNK_MASK, XA_CHUNK_SHIFT

if TYPE_CHECKING:
    from .address_space import AddressSpace
    from .file import File

HOT = UPTODATE | REFERENCED | ACTIVE
"""A page in this state is read, and another touch changes nothing."""
LOOKED_AT = HOT | READAHEAD
"""What tells such a page from every other. Named, for it would be added up at each read."""


def read_nowait(file: File, pos: int, count: int) -> bytes | None:
    """The answer if every page is resident, uptodate and without a readahead marker; None otherwise. Never waits.

    `pos` and `count` are bytes; the range is clipped to i_size (b"" beyond it). Marks pages accessed as filemap_read
    does: a page that the previous read ended in is not marked again.
    """
    mapping = file.mapping
    end = pos + count
    if end > mapping.host.i_size:
        end = mapping.host.i_size
    if end <= pos:
        return b""
    first = pos >> PAGE_SHIFT
    try:
        pages = mapping.pages
        folio = pages.folios[pages.nodes[first >> XA_CHUNK_SHIFT][(first & XA_CHUNK_MASK) + 1]]
    except (KeyError, IndexError):
        return None
    if folio is None:
        return None
    off = first - folio.index
    if (end - 1) >> PAGE_SHIFT != first:
        if folio.state[off] & (UPTODATE | READAHEAD) != UPTODATE:
            return None
        start = _in_folio(file, folio, pos, end)
        if start < 0:
            return _read_run(file, pos, end)
        assert folio.data is not None
        piece = folio.data[start : start + end - pos]
        return piece if type(piece) is bytes else bytes(piece)
    state = folio.state[off]
    ra = file.ra
    if state & LOOKED_AT != HOT:
        if state & (UPTODATE | READAHEAD) != UPTODATE:
            return None
        if (ra.prev_pos - 1) >> PAGE_SHIFT != first:
            if not state & REFERENCED:
                folio.state[off] = state | REFERENCED
            elif not state & ACTIVE:
                activate_page(folio, off)
    ra.prev_pos = end
    mapping.cache.hits += 1
    data = folio.data
    start = pos - (folio.index << PAGE_SHIFT) + folio.data_at
    stop = start + end - pos
    if data is None or folio.buffers is not None or start < 0 or stop > len(data):
        data = folio.contents(off)
        assert data is not None
        start = pos - (first << PAGE_SHIFT)
        stop = end - pos + start
    piece = data[start:stop]
    return piece if type(piece) is bytes else bytes(piece)


def _in_folio(file: File, folio: Folio, pos: int, end: int) -> int:
    """Where in the folio's shared buffer bytes [pos, end) are, whose pages have been marked accessed.

    -1, and nothing is marked, unless all of them are there and their pages in the same state, as pages often are.
    """
    index = folio.index
    off = (pos >> PAGE_SHIFT) - index
    stop = ((end - 1) >> PAGE_SHIFT) + 1 - index
    states = folio.state[off:stop]
    state = states[0]
    data = folio.data
    start = pos - (index << PAGE_SHIFT) + folio.data_at
    if (
        stop > folio.nr
        or states.count(state) != stop - off
        or state & (UPTODATE | READAHEAD) != UPTODATE
        or folio.buffers is not None
        or data is None
        or start < 0
        or start + end - pos > len(data)
    ):
        return -1
    ra = file.ra
    file.mapping.cache.hits += stop - off
    if not state & REFERENCED or not state & ACTIVE:
        if (ra.prev_pos - 1) >> PAGE_SHIFT == pos >> PAGE_SHIFT:
            off += 1
        if state & REFERENCED:
            mark_run_accessed(folio, off, stop)
        else:
            folio.state[off:stop] = bytes((state | REFERENCED,)) * (stop - off)
    ra.prev_pos = end
    return start


def _read_run(file: File, pos: int, end: int) -> bytes | None:
    """read_nowait of bytes [pos, end) of more than one page. Nothing is marked if a page is missing."""
    chunks = _buffers_of_run(file, pos, end)
    if chunks is None:
        return None
    return bytes(chunks[0]) if len(chunks) == 1 else b"".join(chunks)


def _buffers_of_run(file: File, pos: int, end: int) -> list[Buffer] | None:
    runs, reached = _readable_runs(file.mapping, pos, end)
    if reached < end:
        return None
    file.mapping.cache.hits += ((end - 1) >> PAGE_SHIFT) + 1 - (pos >> PAGE_SHIFT)
    return _copy_runs(file, runs, pos, end)


def read_buffers_nowait(file: File, pos: int, count: int) -> list[Buffer] | None:
    """What `read_nowait` answers, as the buffers that it would join: for who writes them on at once (writev)."""
    end = min(pos + count, file.mapping.host.i_size)
    if end <= pos:
        return []
    folio = file.mapping.pages.load(pos >> PAGE_SHIFT)
    if folio is not None and folio.max_nr > 1:  # or its buffer may be a page's own, which a write changes
        start = _in_folio(file, folio, pos, end)
        if start >= 0:
            assert folio.data is not None
            return [memoryview(folio.data)[start : start + end - pos]]
    return _buffers_of_run(file, pos, end)


def read_folio_nowait(file: File, pos: int, count: int) -> Folio | None:
    """`read_nowait` for who sends on what was sent before: the folio whose `data` end with the bytes asked for.

    They begin at its `data_at`, as its first page does. None, and nothing is marked, where they are not all that the
    buffer has from there on, or cannot be read at once.
    """
    folio = file.mapping.pages.load(pos >> PAGE_SHIFT)
    if folio is None or folio.data is None or folio.index << PAGE_SHIFT != pos:
        return None
    end = min(pos + count, file.mapping.host.i_size)
    if folio.nr == 1 or not end - pos == folio.nr << PAGE_SHIFT == len(folio.data) - folio.data_at:
        return None
    return None if _in_folio(file, folio, pos, end) < 0 else folio


def _readable_runs(mapping: AddressSpace, pos: int, end: int) -> tuple[list[tuple[Folio, int, int]], int]:
    """From `pos` on, what can be read at once: runs of uptodate pages without a marker, and the position they reach."""
    load = mapping.pages.load
    index = pos >> PAGE_SHIFT
    last = (end - 1) >> PAGE_SHIFT
    runs: list[tuple[Folio, int, int]] = []
    while index <= last:
        folio = load(index)
        if folio is None:
            break
        start = index - folio.index
        stop = min(folio.nr, start + last + 1 - index)
        if folio.state[start:stop].translate(None, READABLE):
            # A page further on is not uptodate, or has left and may have another in its place.
            state = folio.state
            stop = start
            while state[stop] in READABLE:
                stop += 1
            if stop == start:
                break
        runs.append((folio, start, stop))
        index += stop - start
    return runs, min(index << PAGE_SHIFT, end)


def _whole_batches(mapping: AddressSpace, pos: int, end: int) -> tuple[list[tuple[Folio, int, int]], int]:
    """_readable_runs without the last batch of 15 where a page that is locked or carries the marker ends it.

    Such a batch is held while the reader waits, or reclaims to make room for the next window.
    """
    runs, reached = _readable_runs(mapping, pos, end)
    if not runs or reached == end or mapping.pages.load(reached >> PAGE_SHIFT) is None:
        return runs, reached
    first = pos >> PAGE_SHIFT
    whole = first + ((reached >> PAGE_SHIFT) - first) // PAGEVEC_SIZE * PAGEVEC_SIZE
    return _readable_runs(mapping, pos, whole << PAGE_SHIFT) if whole > first else ([], pos)


def _copy_runs(file: File, runs: list[tuple[Folio, int, int]], pos: int, end: int) -> list[Buffer]:
    """Bytes [pos, end) of the runs, whose pages are marked accessed, all but one that the previous read ended in.

    The buffers do not change any more: what a write may change is copied, replies' buffers are not.
    """
    ra = file.ra
    skip = (ra.prev_pos - 1) >> PAGE_SHIFT == pos >> PAGE_SHIFT
    chunks: list[Buffer] = []
    for folio, start, stop in runs:
        base = (folio.index + start) << PAGE_SHIFT
        low = pos - base if pos > base else 0
        high = min(end - base, (stop - start) << PAGE_SHIFT)
        piece = folio.piece(start, stop, low, high)
        if piece is not None:
            chunks.append(piece)
        else:
            for off in range(start, stop):
                at = (off - start) << PAGE_SHIFT
                chunk = folio.contents(off)
                assert chunk is not None
                if at < low or high < at + PAGE_SIZE:
                    own = type(chunk) is bytearray
                    chunk = memoryview(chunk)[max(low - at, 0) : min(high - at, PAGE_SIZE)]
                    chunks.append(bytes(chunk) if own else chunk)
                else:
                    chunks.append(bytes(chunk) if type(chunk) is bytearray else chunk)
        if skip:
            start += 1
            skip = False
        state = folio.state[start:stop]
        if not state.translate(None, UNREFERENCED):
            folio.state[start:stop] = state.translate(SET_REFERENCED)
        elif state.translate(None, REFERENCED_ACTIVE):
            mark_run_accessed(folio, start, stop)
    ra.prev_pos = end
    return chunks


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
    chunks: list[Buffer] = []
    while pos < end and pos < host.i_size:
        if cache.preempt is None:
            runs, reached = _whole_batches(mapping, pos, min(host.i_size, end))
            if runs:
                chunks += _copy_runs(file, runs, pos, reached)
                pos = reached
                continue
            page = _being_read(mapping, pos >> PAGE_SHIFT)
            if page is not None:
                page.get()
                try:
                    await page.wait_locked()
                finally:
                    page.put()
                continue
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
    hits = 0
    index = first = pos >> PAGE_SHIFT
    last = ((end - 1) >> PAGE_SHIFT) + 1
    while index < last:
        folio = pages.load(index)
        if folio is None:
            index = pages.next_resident(index, last)
            continue
        start = index - folio.index
        states = folio.state[start : start + last - index]
        if states.translate(None, INSIDE):
            states = states[:1]  # a page further on has left, and may have another in its place
        hits += len(states.translate(None, NOT_UPTODATE))
        index += len(states)
    mapping.cache.hits += hits
    mapping.cache.misses += max(last - first, 0) - hits


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


def _being_read(mapping: AddressSpace, index: int) -> Page | None:
    """The page, if there is nothing to do but wait for it: what `_get_pages` would find and do, in less time."""
    folio = mapping.pages.load(index)
    if folio is None:
        return None
    off = index - folio.index
    return Page(folio, off) if folio.state[off] & (LOCKED | UPTODATE | READAHEAD) == LOCKED else None


async def _get_pages(file: File, pos: int, end: int) -> list[Page]:
    """The next batch of uptodate pages, referenced, with the readahead decisions (filemap_get_pages).

    Empty: look again.
    """
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
        if batch or (mapping.cache.preempt is None and pos < mapping.host.i_size):
            return batch  # an empty one: what was waited for may be read as a run now


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
