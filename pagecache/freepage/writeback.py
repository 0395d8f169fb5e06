"""Dirty pages: thresholds, write_cache_pages, and the flusher (mm/page-writeback.c, fs/fs-writeback.c)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from errno import EIO
from typing import TYPE_CHECKING

from .folio import DIRTY, OUTSIDE, PAGE_SHIFT, PAGE_SIZE, READAHEAD, WRITEBACK
from .page import Page
from .proportions import GlobalProportion, LocalProportion
from .swap import rotate_reclaimable_page

if TYPE_CHECKING:
    from .address_space import AddressSpace
    from .wait import WaitQueue

DIRTY_WRITEBACK_CENTISECS = 500
DIRTY_EXPIRE_CENTISECS = 3000
COMPLETIONS_PERIOD_S = 3.0
MIN_WRITEBACK_PAGES = 1024
INITIAL_BANDWIDTH_PAGES = 25600
"""What a device is taken to write each second: 100 MiB (INIT_BW). The kernel goes on to measure it."""
DIRTY_SCOPE = 8
WRITE_PAGE_S = 2e-6
"""What sending a page takes the flusher. The first WRITEs of a chunk may be answered before it looks again how much is
dirty: 268 pages took 0.6 ms, 1244 took 2.6 ms (traced on Linux 6.1 in the recordings' virtual machine)."""
VM_READAHEAD_PAGES = 32


class WritebackControl:
    """One writeback call (struct writeback_control). Byte ranges are half-open; `nr_to_write` counts down."""

    __slots__ = (
        "for_background",
        "for_kupdate",
        "for_sync",
        "nr_to_write",
        "range_cyclic",
        "range_end",
        "range_start",
        "sync_all",
    )

    def __init__(
        self,
        sync_all: bool,
        range_start: int = 0,
        range_end: int | None = None,
        nr_to_write: int | None = None,
        range_cyclic: bool = False,
        for_background: bool = False,
        for_kupdate: bool = False,
        for_sync: bool = False,
    ) -> None:
        self.sync_all = sync_all
        """WB_SYNC_ALL: every page dirty at the call is written, waiting for writeback under way"""
        self.range_start = range_start
        self.range_end = range_end
        self.nr_to_write = nr_to_write
        """None: no bound"""
        self.range_cyclic = range_cyclic
        self.for_background = for_background
        self.for_kupdate = for_kupdate
        self.for_sync = for_sync
        """the flusher's part of sync(2) that waits"""


class DirtyDomain:
    """What is dirty on the whole machine, and how much may be (global_wb_domain).

    `dirtyable_pages` is free memory plus file pages: a number or a callable. Ratios are percent; bytes, where not None,
    win over the ratio.
    """

    def __init__(
        self,
        *,
        now: Callable[[], float],
        dirtyable_pages: Callable[[], int] | int = 1 << 18,
        dirty_ratio: int = 20,
        background_ratio: int = 10,
        dirty_bytes: int | None = None,
        background_bytes: int | None = None,
    ) -> None:
        self.now = now
        self.dirtyable_pages = dirtyable_pages
        self.dirty_ratio = dirty_ratio
        self.background_ratio = background_ratio
        self.dirty_bytes = dirty_bytes
        self.background_bytes = background_bytes
        self.dirty_expire_centisecs = DIRTY_EXPIRE_CENTISECS
        """how old dirty data may get before the flusher writes them"""
        self.dirty_writeback_centisecs = DIRTY_WRITEBACK_CENTISECS
        """how often a flusher with dirty inodes wakes; 0: never"""
        self.dirty_limit: int | None = None
        """global_wb_domain.dirty_limit in pages, which chunks of writeback follow; None: the dirty threshold. Linux
        sets it at boot, before most of the memory is there, and when vm.dirty_ratio or vm.dirty_bytes is written."""
        self.nr_dirty = 0
        self.nr_writeback = 0
        """pages under writeback, and NFS pages written but not committed"""
        self.nr_unstable = 0
        """the uncommitted part of nr_writeback"""
        self.bdis: list[BackingDevInfo] = []
        self.throttled: list[WaitQueue] = []
        """one queue for each page cache of the domain: tasks waiting for writeback to get further"""
        self._completions = GlobalProportion()
        self._period_end_s: float | None = None

    def limits(self) -> tuple[int, int]:
        """(background, dirty) thresholds in pages (domain_dirty_limits)."""
        available = self.dirtyable_pages if isinstance(self.dirtyable_pages, int) else self.dirtyable_pages()
        if self.dirty_bytes is not None:
            thresh = -(-self.dirty_bytes // PAGE_SIZE)
        else:
            thresh = self.dirty_ratio * available // 100
        if self.background_bytes is not None:
            background = -(-self.background_bytes // PAGE_SIZE)
        else:
            background = self.background_ratio * available // 100
        if background >= thresh:
            background = thresh // 2
        return background, thresh

    def limit(self) -> int:
        """The domain's dirty limit in pages."""
        return self.limits()[1] if self.dirty_limit is None else self.dirty_limit

    def account_unstable(self, nr: int, bdi: BackingDevInfo | None = None) -> None:
        """NFS: `nr` more (or, negative, fewer) pages are written but not committed; they count as writeback."""
        self.nr_unstable += nr
        self.nr_writeback += nr
        if bdi is not None:
            bdi.nr_writeback += nr
        assert self.nr_unstable >= 0
        if nr < 0:
            self.progress()

    def poll_interval(self) -> int:
        """Pages that a task dirties before it looks at the thresholds again (dirty_poll_interval)."""
        room = self.limits()[1] - self.nr_dirty - self.nr_writeback
        return 1 << (room.bit_length() - 1 >> 1) if room > 0 else 1

    def progress(self) -> None:
        """Writeback got further: whoever is throttled looks again."""
        for queue in self.throttled:
            if queue:
                queue.wake_all()

    # -- the share of each device in recent completions --------------------------------------------------------

    def completed(self, bdi: BackingDevInfo) -> None:
        """One page's writeback ended (wb_domain_writeout_add)."""
        self._advance()
        bdi.completions.add(self._completions, 1)
        if self._period_end_s is None:
            self._period_end_s = self.now() + COMPLETIONS_PERIOD_S

    def share(self, bdi: BackingDevInfo) -> tuple[int, int]:
        """(numerator, denominator) of the device's fraction of recently completed writeback."""
        self._advance()
        return bdi.completions.fraction(self._completions)

    def _advance(self) -> None:
        """Every 3 s the completions are halved, until nothing is left to halve (writeout_period)."""
        now = self.now()
        while self._period_end_s is not None and now >= self._period_end_s:
            self._period_end_s = self._period_end_s + COMPLETIONS_PERIOD_S if self._completions.new_period() else None


class BackingDevInfo:
    """A mount's backing device: readahead sizes, its part of the dirty pages, its flusher."""

    def __init__(
        self,
        name: str,
        *,
        domain: DirtyDomain,
        ra_pages: int = VM_READAHEAD_PAGES,
        io_pages: int = 0,
        local_throttle: bool = False,
    ) -> None:
        self.name = name
        self.domain = domain
        self.local_throttle = local_throttle
        """its writers wait for its own pages only (PF_LOCAL_THROTTLE): a server's, whom others may wait for"""
        self.ra_pages = ra_pages
        """read_ahead_kb / 4; copied into each file at open"""
        self.io_pages = io_pages
        """optimal I/O size (NFS: rsize / 4096)"""
        self.nr_dirty = 0
        self.nr_writeback = 0
        self.completions = LocalProportion()
        self.wb = BdiWriteback(self)
        domain.bdis.append(self)

    def unregister(self) -> None:
        """The mount goes away (bdi_unregister)."""
        self.domain.bdis.remove(self)


class BdiWriteback:
    """The flusher of one device (struct bdi_writeback). The embedder runs it: it owns the clock and the task.

    While needs_timer() is true, call `await do_periodic(now)` every 5 s (dirty_writeback_centisecs); on_dirty is called
    when the first inode gets dirty, so that the timer can be armed then, and on_wakeup, once for any number of wakeups,
    when `await do_background()` should run soon. Only one of the two works at a time, as there is one flusher thread:
    a call that comes meanwhile leaves its work to the one that runs. Write errors are the mapping's (wb_err); the
    flusher goes on.
    """

    def __init__(self, bdi: BackingDevInfo) -> None:
        self.bdi = bdi
        self.b_dirty: dict[AddressSpace, None] = {}
        """dirty inodes in the order of their first dirtying (dirtied_when_s)"""
        self.on_dirty: Callable[[], None] | None = None
        self.on_wakeup: Callable[[], None] | None = None
        self.sleep: Callable[[float], Awaitable[None]] | None = None
        """lets the time pass that the flusher keeps the processor; None: it takes none"""
        self._b_io: dict[AddressSpace, None] = {}
        """those whose turn comes in this round of writeback"""
        self._b_more_io: dict[AddressSpace, None] = {}
        """those whose quota ran out: their turn comes in the next round, however young they are"""
        self._start_all = False
        """somebody needs clean pages, whatever the thresholds say (WB_start_all)"""
        self._old_data_now_s: float | None = None
        """time of a tick whose expired inodes are still to be written"""
        self._woken = False
        self._works = False

    @property
    def in_progress(self) -> bool:
        """It works, or was asked to (writeback_in_progress)."""
        return self._works or self._woken

    def needs_timer(self) -> bool:
        return bool(self.b_dirty)

    def mark_inode_dirty(self, mapping: AddressSpace) -> None:
        """Put the inode on the dirty list, unless it is there already."""
        if mapping.dirtied_when_s is not None:
            return
        mapping.dirtied_when_s = self.bdi.domain.now()
        first = not self.b_dirty
        self.b_dirty[mapping] = None
        if first and self.on_dirty is not None:
            self.on_dirty()

    def forget(self, mapping: AddressSpace) -> None:
        """The inode is clean, or gone."""
        self.b_dirty.pop(mapping, None)
        self._b_io.pop(mapping, None)
        self._b_more_io.pop(mapping, None)
        mapping.dirtied_when_s = None

    def over_bground_thresh(self) -> bool:
        """wb_over_bg_thresh: too much dirty on the machine, or on this device beside its share of completions.

        A device without recent completions has share 0, so that anything dirty on it is flushed at the next tick.
        """
        domain = self.bdi.domain
        background, _ = domain.limits()
        if domain.nr_dirty > background:
            return True
        num, den = domain.share(self.bdi)
        return self.bdi.nr_dirty > background * num // den

    def wakeup(self, *, start_all: bool = False) -> bool:
        """Ask the embedder for do_background(); False when nobody is there to run it. `start_all`: write everything."""
        if self.on_wakeup is None:
            return False
        self._start_all = self._start_all or start_all
        if not self._woken:
            self._woken = True
            if not self._works:
                self.on_wakeup()
        return True

    async def do_periodic(self, now: float) -> None:
        """One tick of wb_do_writeback: inodes dirty for 30 s, then the background check."""
        self._old_data_now_s = now
        await self.do_background()

    async def do_background(self) -> None:
        """What wakeups asked for, then write until below the background threshold (wb_do_writeback)."""
        self._woken = True
        if self._works:
            return
        self._works = True
        self.bdi.domain.progress()  # whoever woke it goes on when it waits for the first time
        try:
            while self._woken:
                self._woken = False
                if self._start_all:
                    self._start_all = False
                    await self.writeback_all()
                now, self._old_data_now_s = self._old_data_now_s, None
                if now is not None:
                    await self._write_old_data(now)
                await self._write_background()
        finally:
            self._works = False
            self.bdi.domain.progress()  # or who waits since it began would wait for its next tick, if it wrote nothing

    async def _write_old_data(self, now: float) -> None:
        expire_s = self.bdi.domain.dirty_expire_centisecs / 100
        await self._writeback(dirtied_before_s=now - expire_s, for_kupdate=True)

    async def _write_background(self) -> None:
        await self._writeback(for_background=True)

    async def writeback_all(self, sync: bool = False) -> None:
        """Write every dirty inode (sync(2), unmount): WB_SYNC_NONE, or WB_SYNC_ALL with waiting."""
        if not sync:
            await self._writeback(dirtied_before_s=self.bdi.domain.now())
            return
        for mapping in list(self.b_dirty):
            await self._write_inode(mapping, WritebackControl(True, for_sync=True))

    async def _writeback(
        self,
        *,
        dirtied_before_s: float | None = None,
        for_kupdate: bool = False,
        for_background: bool = False,
    ) -> None:
        """wb_writeback, WB_SYNC_NONE: a chunk of each dirty inode in turn, each resumed where it stopped.

        Not more pages than were dirty on the machine when it began, but for the background, which goes on as long as
        it is over its threshold and looks again after every round.
        """
        nr_pages = None if for_background else self.bdi.domain.nr_dirty + len(self.b_dirty)
        while self.b_dirty and (nr_pages is None or nr_pages > 0):
            if for_background and not self.over_bground_thresh():
                return
            wrote = 0
            if not self._b_io:
                self._queue_io(dirtied_before_s)
            while self._b_io:
                mapping = next(iter(self._b_io))
                del self._b_io[mapping]
                chunk = self._chunk_pages(nr_pages)
                wbc = WritebackControl(
                    False,
                    nr_to_write=chunk,
                    range_cyclic=True,
                    for_kupdate=for_kupdate,
                    for_background=for_background,
                )
                await self._write_inode(mapping, wbc)
                assert wbc.nr_to_write is not None
                wrote += chunk - wbc.nr_to_write
                if wbc.nr_to_write <= 0 and self.sleep is not None:
                    await self.sleep(chunk * WRITE_PAGE_S)
                if nr_pages is not None:
                    nr_pages -= chunk - wbc.nr_to_write
                    if nr_pages <= 0:
                        break
            if not wrote:
                return  # congested, failing, or nothing old enough: the next tick tries again

    def _queue_io(self, dirtied_before_s: float | None) -> None:
        """Whose turn it is now: those that were not finished, then all others or those that got dirty before then."""
        self._b_io, self._b_more_io = self._b_more_io, {}
        for mapping in self.b_dirty:
            since_s = mapping.dirtied_when_s
            if dirtied_before_s is None or (since_s is not None and since_s <= dirtied_before_s):
                self._b_io[mapping] = None

    def _chunk_pages(self, nr_pages: int | None) -> int:
        """How much of one inode is written before the next one has its turn (writeback_chunk_size)."""
        pages = min(INITIAL_BANDWIDTH_PAGES // 2, self.bdi.domain.limit() // DIRTY_SCOPE)
        if nr_pages is not None:
            pages = min(pages, nr_pages)
        return (pages + MIN_WRITEBACK_PAGES) // MIN_WRITEBACK_PAGES * MIN_WRITEBACK_PAGES

    async def _write_inode(self, mapping: AddressSpace, wbc: WritebackControl) -> None:
        """__writeback_single_inode: pages, then the inode itself; off the list when nothing is dirty any more."""
        since = mapping.dirtied_when_s
        with suppress(OSError):  # the mapping remembers it, for fsync
            await do_writepages(mapping, wbc)
        if mapping.poisoned:
            return
        if wbc.sync_all:
            for page in mapping.writeback_pages():
                await page.wait_writeback()
        self.forget(mapping)
        write_inode = mapping.a_ops.write_inode
        if write_inode is not None:
            with suppress(OSError):
                await write_inode(mapping, wbc)
        if mapping.dirty_tags and not mapping.poisoned:
            self.mark_inode_dirty(mapping)
        if mapping.dirtied_when_s is not None and since is not None and not wbc.sync_all:
            self._requeue(mapping, since, wbc)

    def _requeue(self, mapping: AddressSpace, since_s: float, wbc: WritebackControl) -> None:
        """An inode that is still dirty after its turn (requeue_inode).

        If only its quota ran out, its next turn comes soon, and it is as old as it was. Else it goes to the young end
        of the list, where no older one may follow a younger one: it keeps its age only if nobody there is younger
        (redirty_tail).
        """
        if mapping.dirty_tags and wbc.nr_to_write is not None and wbc.nr_to_write <= 0:
            self._b_more_io[mapping] = None
            mapping.dirtied_when_s = since_s
            return
        others = (m for m in self.b_dirty if m is not mapping and m not in self._b_io and m not in self._b_more_io)
        if all(m.dirtied_when_s is None or m.dirtied_when_s <= since_s for m in others):
            mapping.dirtied_when_s = since_s


async def do_writepages(mapping: AddressSpace, wbc: WritebackControl) -> None:
    """The mapping's writepages, or write_cache_pages over its writepage. A read-only table writes nothing."""
    mapping.cache.might_sleep("do_writepages")
    a_ops = mapping.a_ops
    if a_ops.writepages is not None:
        await a_ops.writepages(mapping, wbc)
    elif a_ops.writepage is not None:
        try:
            await write_cache_pages(mapping, wbc, a_ops.writepage)
        except OSError as error:
            mapping.wb_err.set(error.errno or EIO)
            raise


async def filemap_fdatawrite_range(
    mapping: AddressSpace, start: int, end: int | None, *, sync_all: bool = True
) -> None:
    """Start (sync_all: complete the starting of) writeback of bytes [start, end)."""
    if mapping.dirty_tags:
        await do_writepages(mapping, WritebackControl(sync_all, start, end))


async def write_cache_pages(
    mapping: AddressSpace,
    wbc: WritebackControl,
    writepage: Callable[[Page, WritebackControl], Awaitable[None]],
) -> None:
    """Walk the dirty pages in index order and hand each, locked and no longer dirty, to `writepage`.

    WB_SYNC_ALL writes exactly the pages that were dirty at the call, waits for writeback under way, and goes on after
    an error (the first one is raised at the end); WB_SYNC_NONE skips pages under writeback, stops at nr_to_write and
    at the first error. `writepage` sets writeback and unlocks.
    """
    cyclic = wbc.range_cyclic
    index = mapping.writeback_index if cyclic else wbc.range_start >> PAGE_SHIFT
    end = None if cyclic or wbc.range_end is None else -(-wbc.range_end >> PAGE_SHIFT)
    whole = not cyclic and wbc.range_start == 0 and end is None
    done_index = index
    done = False
    first_error: OSError | None = None
    while not done:
        tagged = mapping.dirty_pages(index, end)
        if not tagged:
            break
        for page in tagged:
            done_index = page.index
            if not page.trylock():
                await page.lock()
            state = page.folio.state[page.off]
            if state & OUTSIDE or page.folio.mapping is not mapping or not state & DIRTY:
                page.unlock()
                continue
            if state & WRITEBACK:
                if not wbc.sync_all:
                    page.unlock()
                    continue
                try:
                    await page.wait_writeback()
                except BaseException:
                    page.unlock()
                    raise
            clear_page_dirty_for_io(page)
            try:
                await writepage(page, wbc)
            except OSError as error:
                if not wbc.sync_all:
                    mapping.writeback_index = page.index + 1
                    raise
                if first_error is None:
                    first_error = error
            if wbc.nr_to_write is not None:
                wbc.nr_to_write -= 1
                if wbc.nr_to_write <= 0 and not wbc.sync_all:
                    done = True
                    break
        if wbc.sync_all:
            break  # only what was dirty at the call (the TOWRITE tag)
        index = tagged[-1].index + 1
    if cyclic and not done:
        done_index = 0
    if cyclic or (whole and (wbc.nr_to_write is None or wbc.nr_to_write > 0)):
        mapping.writeback_index = done_index
    if first_error is not None:
        raise first_error


def filemap_dirty_page(page: Page) -> bool:
    """Set the dirty flag and the DIRTY tag (filemap_dirty_folio). True if the page was clean. Does not block."""
    folio, off = page.folio, page.off
    state = folio.state[off]
    if state & DIRTY:
        return False
    mapping = folio.mapping
    if mapping is None or state & OUTSIDE:
        return _dirtied_without_mapping(page)
    folio.state[off] = state | DIRTY
    mapping.dirty_tags[folio.index + off] = None
    bdi = mapping.bdi
    bdi.nr_dirty += 1
    bdi.domain.nr_dirty += 1
    folio.cache.stat.nr_dirtied += 1
    bdi.wb.mark_inode_dirty(mapping)
    return True


def _dirtied_without_mapping(page: Page) -> bool:
    """Truncated meanwhile: nothing to write. But whoever dirties a page holds a reference on it."""
    if page.freed:
        page.cache.violation("use_after_free", f"dirtied: {page.describe()}")
    return False


def set_page_dirty(page: Page) -> bool:
    """The mapping's set_page_dirty, or filemap_dirty_page (folio_mark_dirty); clears the readahead/reclaim bit."""
    folio, off = page.folio, page.off
    mapping = folio.mapping
    if mapping is None or folio.state[off] & OUTSIDE:
        return _dirtied_without_mapping(page)
    folio.state[off] &= ~READAHEAD
    operation = mapping.a_ops.set_page_dirty
    return filemap_dirty_page(page) if operation is None else operation(page)


def clear_page_dirty_for_io(page: Page) -> bool:
    """Clear the flag under the page lock, before the write; the tag stays until writeback starts."""
    state = page.folio.state
    if not state[page.off] & DIRTY:
        return False
    state[page.off] &= ~DIRTY
    _account_cleaned(page)
    return True


def cancel_dirty_page(page: Page) -> None:
    """Truncation: the data is not wanted any more (folio_cancel_dirty)."""
    if not page.dirty:
        return
    page.dirty = False
    _account_cleaned(page)
    mapping = page.mapping
    if mapping is not None:
        mapping.dirty_tags.pop(page.index, None)


def _account_cleaned(page: Page) -> None:
    mapping = page.mapping
    if mapping is not None:
        bdi = mapping.bdi
        bdi.nr_dirty -= 1
        bdi.domain.nr_dirty -= 1
        if not bdi.nr_dirty:
            bdi.domain.progress()


def set_page_writeback(page: Page) -> None:
    """Writeback starts: WRITEBACK tag on, DIRTY tag off unless the page is dirty again."""
    folio, off = page.folio, page.off
    state, mapping = folio.state[off], folio.mapping
    assert not state & WRITEBACK, f"already under writeback: {page.describe()}"
    assert mapping is not None and not state & OUTSIDE, f"writeback of a removed page: {page.describe()}"
    folio.state[off] = state | WRITEBACK
    index = folio.index + off
    mapping.writeback_tags[index] = None
    if not state & DIRTY:
        mapping.dirty_tags.pop(index, None)
    bdi = mapping.bdi
    bdi.nr_writeback += 1
    bdi.domain.nr_writeback += 1


def end_page_writeback(page: Page) -> None:
    """Writeback ended: wakes waiters; a page marked for reclaim goes to the inactive tail."""
    folio, off = page.folio, page.off
    state, mapping = folio.state[off], folio.mapping
    assert state & WRITEBACK, f"not under writeback: {page.describe()}"
    if state & READAHEAD:
        folio.state[off] = state & ~READAHEAD
        rotate_reclaimable_page(folio, off)
    folio.state[off] &= ~WRITEBACK
    assert mapping is not None and not state & OUTSIDE, f"removed while under writeback: {page.describe()}"
    mapping.writeback_tags.pop(folio.index + off, None)
    bdi = mapping.bdi
    bdi.nr_writeback -= 1
    domain = bdi.domain
    domain.nr_writeback -= 1
    domain.completed(bdi)
    folio.cache.stat.nr_written += 1
    if folio.waiters is not None:
        page.wake()
    domain.progress()


async def balance_dirty_pages_ratelimited(mapping: AddressSpace) -> None:
    """Throttle the writer: below the free-run line it goes on, above the dirty threshold it waits for writeback.

    It looks only every so many pages that it dirtied. The flusher that it wakes then has slept, and so gets the
    processor before the writer goes on: its chunk ends where the writer stood.

    The kernel sleeps in small doses so that the writer's rate follows the device; the model waits until the dirty pages
    are below the threshold. With no flusher task to wake, the writer writes by itself, as Linux did until 3.1.
    """
    cache = mapping.cache
    if cache.stat.nr_dirtied < cache.next_balance:
        return
    bdi = mapping.bdi
    domain = bdi.domain
    cache.next_balance = cache.stat.nr_dirtied + domain.poll_interval()
    if domain.nr_dirty + domain.nr_writeback <= 8:
        return
    background, thresh = domain.limits()
    if domain.nr_dirty + domain.nr_writeback <= background:
        return
    cache.might_sleep("balance_dirty_pages")
    if domain.nr_dirty > background and not bdi.wb.in_progress:
        if bdi.wb.wakeup():
            if bdi.wb.in_progress:  # else it has had its turn already, and nobody would wake us before its next tick
                await cache.throttled.wait(lambda: "the flusher to have its turn")
        else:
            await bdi.wb.do_background()
    throttled_by = bdi if bdi.local_throttle else domain
    while throttled_by.nr_dirty + throttled_by.nr_writeback > thresh:
        if not throttled_by.nr_writeback and not bdi.wb.wakeup():
            before = throttled_by.nr_dirty
            await bdi.wb.writeback_all()
            if throttled_by.nr_dirty == before:
                return  # nothing can be written: a writepages that refuses must not hang the writer
            continue
        await cache.throttled.wait(lambda: "dirty pages below the threshold")
