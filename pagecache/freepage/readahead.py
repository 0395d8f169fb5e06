"""Readahead: which pages to read before they are asked for (mm/readahead.c of Linux 6.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import NoMemory
from .filemap import add_run_to_page_cache_lru, remove_from_page_cache
from .folio import MAX_FOLIO_PAGES, PAGE_SHIFT, PAGE_SIZE, READAHEAD
from .page import Page
from .page_run import PageRun
from .policy import RemovalPath

if TYPE_CHECKING:
    from .address_space import AddressSpace
    from .file import File, FileRaState

_UNSIGNED_LONG = (1 << 64) - 1
_FORCED_CHUNK = (2 << 20) // PAGE_SIZE


class ReadaheadControl:
    """One ->readahead call: neighbouring new pages, locked, to be read.

    The operation take()s the pages it starts I/O for, or takes them as runs; their completion unlocks them. What it
    leaves the caller removes again.
    """

    __slots__ = ("_runs", "file", "index", "mapping")

    def __init__(self, file: File, mapping: AddressSpace, runs: list[PageRun]) -> None:
        self.file = file
        self.mapping = mapping
        self.index = runs[0].index
        """index of the first page not taken yet"""
        self._runs = runs

    @property
    def nr_pages(self) -> int:
        """Pages not taken yet."""
        return sum(run.nr for run in self._runs)

    @property
    def pos(self) -> int:
        """Byte position of the first page not taken yet."""
        return self.index << PAGE_SHIFT

    @property
    def length(self) -> int:
        """Bytes not taken yet."""
        return self.nr_pages << PAGE_SHIFT

    def take_runs(self) -> list[PageRun]:
        """All that are left, as runs of pages stored together; the taker now owes each page an unlock."""
        runs, self._runs = self._runs, []
        self.index += sum(run.nr for run in runs)
        return runs

    def take(self, n: int | None = None) -> list[Page]:
        """The next `n` pages (None: all that are left); the taker now owes each an unlock."""
        left = self.nr_pages
        n = left if n is None else min(n, left)
        taken: list[Page] = []
        while len(taken) < n:
            run = self._runs[0]
            part = run.part(0, min(run.nr, n - len(taken)))
            taken.extend(part.pages())
            if part.nr == run.nr:
                del self._runs[0]
            else:
                self._runs[0] = run.part(part.nr, run.nr)
        self.index += n
        return taken


def page_cache_sync_ra(file: File, index: int, req_count: int) -> None:
    """A reader found no page at `index` and wants `req_count` of them."""
    if file.ra.random or not file.ra.ra_pages:
        force_page_cache_readahead(file, index, req_count if file.ra.ra_pages else 1)
        return
    ondemand_readahead(file, index, None, req_count)


def page_cache_async_ra(file: File, page: Page, req_count: int) -> None:
    """A reader reached the marker page: start the next window."""
    if not file.ra.ra_pages or page.writeback:
        return
    page.readahead = False
    ondemand_readahead(file, page.index, page, req_count)


def force_page_cache_readahead(file: File, index: int, nr: int) -> None:
    """Read `nr` pages, at most max(io_pages, ra_pages), without a marker and without touching the window."""
    a_ops = file.mapping.a_ops
    if a_ops.readahead is None and a_ops.readpage is None:
        return
    nr = min(nr, max(file.mapping.bdi.io_pages, file.ra.ra_pages))
    while nr > 0:
        chunk = min(nr, _FORCED_CHUNK)
        do_page_cache_ra(file, index, chunk, 0)
        index += chunk
        nr -= chunk


def ondemand_readahead(file: File, index: int, marker: Page | None, req_size: int) -> None:
    """Choose the window for a miss at `index` (marker None) or for a reader that reached the marker at `index`."""
    ra = file.ra
    mapping = file.mapping
    max_pages = ra.ra_pages
    io_pages = mapping.bdi.io_pages
    if req_size > max_pages and io_pages > max_pages:
        max_pages = min(req_size, io_pages)

    if index == 0:
        initial = True
    elif index in (ra.start + ra.size - ra.async_size, ra.start + ra.size):
        # the expected callback or an exact continuation: push the window on, and ramp up
        ra.start += ra.size
        ra.size = max(ra.size, _next_size(ra.size, max_pages))
        ra.async_size = ra.size
        initial = False
    elif marker is not None:
        # somebody else's marker (interleaved streams): a window from the first page that is not cached
        start = _next_miss(mapping, index + 1, max_pages)
        if start - index > max_pages:
            return
        ra.start = start
        ra.size = _next_size(start - index + req_size, max_pages)
        ra.async_size = ra.size
        initial = False
    elif (
        req_size > max_pages
        or (index - (ra.prev_pos >> PAGE_SHIFT & _UNSIGNED_LONG >> PAGE_SHIFT)) & _UNSIGNED_LONG <= 1
    ):
        initial = True  # oversize, or continues or repeats the previous read
    elif _context_readahead(mapping, ra, index, req_size, max_pages):
        initial = False
    else:
        do_page_cache_ra(file, index, req_size, 0)  # a random read: as asked, and the window stays
        return

    if initial:
        ra.start = index
        ra.size = _init_size(req_size, max_pages)
        ra.async_size = ra.size - req_size if ra.size > req_size else ra.size
    if index == ra.start and ra.size == ra.async_size:
        # this read would hit its own marker at once: merge the next window into this one
        add = _next_size(ra.size, max_pages)
        if ra.size + add <= max_pages:
            ra.async_size = add
            ra.size += add
        else:
            ra.size = max_pages
            ra.async_size = max_pages >> 1
    do_page_cache_ra(file, ra.start, ra.size, ra.async_size)


def do_page_cache_ra(file: File, index: int, nr: int, lookahead: int) -> None:
    """Read [index, index + nr), clipped to the page that holds the end of the file; `lookahead` is not adjusted."""
    size = file.mapping.host.i_size
    if size == 0:
        return
    end = (size - 1) >> PAGE_SHIFT
    if index > end:
        return
    page_cache_ra_unbounded(file, index, min(nr, end - index + 1), lookahead)


def page_cache_ra_unbounded(file: File, index: int, nr: int, lookahead: int) -> None:
    """Insert the missing pages of [index, index + nr), locked, and read each contiguous run with one ->readahead.

    The marker goes on page index + nr - lookahead, if that page is new. A page that cannot be charged splits the run.
    """
    mapping = file.mapping
    if mapping.a_ops.readahead is None:
        return  # pages come one at a time, through readpage
    marker = index + nr - lookahead
    end = index + nr
    cut = min(mapping.bdi.io_pages or MAX_FOLIO_PAGES, MAX_FOLIO_PAGES)
    pages = mapping.pages
    runs: list[PageRun] = []
    start = index
    while index < end:
        if not runs:
            start = index
        # Folios end where the file system's calls will, so that each holds one reply's bytes; or where its replies do.
        origin, step = file.sent_at or (start, cut)
        most = pages.next_resident(index, min(end, index + step - (index - origin) % step, index + MAX_FOLIO_PAGES))
        if most == index:  # the page is there
            read_pages(file, mapping, runs)
            runs = []
            index += 1
            continue
        try:
            folio = add_run_to_page_cache_lru(mapping, index, most - index)
        except NoMemory:
            read_pages(file, mapping, runs)
            runs = []
            index += 1
            continue
        if index <= marker < index + folio.nr:
            folio.state[marker - index] |= READAHEAD
        runs.append(PageRun(folio, 0, folio.nr))
        index += folio.nr
    read_pages(file, mapping, runs)


def read_pages(file: File, mapping: AddressSpace, runs: list[PageRun]) -> None:
    """One ->readahead call; pages it did not take leave the cache again, and the window forgets them."""
    if not runs:
        return
    readahead = mapping.a_ops.readahead
    assert readahead is not None
    rac = ReadaheadControl(file, mapping, runs)
    readahead(rac)
    ra = file.ra
    for page in rac.take():
        ra.size -= 1
        if ra.async_size >= 1:
            ra.async_size -= 1
            remove_from_page_cache(page.folio, page.off, RemovalPath.TRUNCATE, "read_pages")
        page.unlock()


def _init_size(request: int, max_pages: int) -> int:
    """get_init_ra_size: the next power of two, times 4 or 2 while small."""
    size = 1 << (request - 1).bit_length() if request > 1 else 1
    if size <= max_pages // 32:
        return size * 4
    if size <= max_pages // 4:
        return size * 2
    return max_pages


def _next_size(size: int, max_pages: int) -> int:
    """get_next_ra_size: times 4, then times 2, up to the maximum."""
    if size < max_pages // 16:
        return 4 * size
    if size <= max_pages // 2:
        return 2 * size
    return max_pages


def _next_miss(mapping: AddressSpace, index: int, max_scan: int) -> int:
    """The first index from `index` on that is not cached. If none of max_scan is missing it is the last one scanned.

    So says the code of Linux 6.1's page_cache_next_miss, not its comment; a window may then begin with cached pages.
    """
    pages = mapping.pages
    for each in range(index, index + max_scan):
        if each not in pages:
            return each
    return index + max_scan - 1


def _context_readahead(mapping: AddressSpace, ra: FileRaState, index: int, req_size: int, max_pages: int) -> bool:
    """Cached pages just before `index` are the trace of a sequential stream (try_context_readahead)."""
    pages = mapping.pages
    history = 0
    while history < max_pages and history < index and index - 1 - history in pages:
        history += 1
    if history == max_pages:
        history -= 1  # page_cache_prev_miss answers with the last page it scanned, though that is cached
    if history <= req_size:
        return False
    if history >= index:
        history *= 2
    ra.start = index
    ra.size = min(history + req_size, max_pages)
    ra.async_size = 1
    return True
