"""Storage of pages: a folio holds the state and the contents of up to 256 neighbouring pages of one file.

A page is the unit of meaning (flags, references, objects, reclaim), a folio the unit of storage. Its pages' flags are
bytes of one bytearray, so that what a hit, a fill or an unlock does to a run of pages is one operation on bytes
whatever its length; what few pages have (references, private data, waiters, contents of their own) is in dictionaries.

A slot of a folio is used for one page and never again. A page that has left the cache keeps its slot, and whoever
still holds the `Page` reads there what became of it; another page at the same index lives in another folio.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .address_space import AddressSpace
    from .cache import PageCache
    from .slab import SlabObject
    from .slab_run import SlabRun
    from .wait import WaitQueue

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT
MAX_FOLIO_PAGES = 256
WRITE_FOLIO_PAGES = 16
"""A folio of pages that are written one after the other grows up to this many; each has a buffer of its own."""

# Folio.state: what decides about hits and reclaim. A page that leaves the cache keeps the others and gets OUTSIDE.
UPTODATE, LOCKED, DIRTY, WRITEBACK, REFERENCED, ACTIVE, READAHEAD, OUTSIDE = (1 << bit for bit in range(8))

# Folio.more: everything else.
LRU = 1
WORKINGSET = 2
ERROR = 4
CHARGED = 8
FREED = 16
REMOVED_ALIVE = 32
LRU_ADD = 64
"""in the lru_add batch, which holds a reference"""
FROZEN = 128
"""the reference count is held at zero (folio_ref_freeze): nobody may take one"""


def bytes_where(condition: Callable[[int], bool]) -> bytes:
    """All values of a state byte for which the condition holds: state.translate(None, these) is empty if all are."""
    return bytes(state for state in range(256) if condition(state))


def mapped(change: Callable[[int], int]) -> bytes:
    """The table with which state.translate changes a run of state bytes."""
    return bytes(change(state) for state in range(256))


READABLE = bytes_where(lambda state: state & (UPTODATE | READAHEAD | OUTSIDE) == UPTODATE)
INSIDE = bytes_where(lambda state: not state & OUTSIDE)
NOT_UPTODATE = bytes_where(lambda state: not state & UPTODATE)
UNREFERENCED = bytes_where(lambda state: not state & REFERENCED)
NOT_FREED = bytes_where(lambda more: not more & FREED)
REFERENCED_ACTIVE = bytes_where(lambda state: state & (REFERENCED | ACTIVE) == REFERENCED | ACTIVE)
SET_REFERENCED = mapped(lambda state: state | REFERENCED)
FILLED = mapped(lambda state: (state | UPTODATE) & ~LOCKED)
UNLOCKED = mapped(lambda state: state & ~LOCKED)

_BYTE = [bytes((value,)) for value in range(256)]

Buffer = memoryview | bytearray | bytes


class Folio:
    """Pages [index, index + nr) of a file, or a single page that was never inserted."""

    __slots__ = (
        "buffers",
        "cache",
        "data",
        "data_at",
        "fill_run",
        "hooks",
        "index",
        "live",
        "mapping",
        "max_nr",
        "more",
        "nr",
        "objects",
        "pfn",
        "private",
        "refs",
        "state",
        "waiters",
    )

    def __init__(
        self, cache: PageCache, index: int, nr: int, state: int = OUTSIDE, more: int = 0, max_nr: int = 0
    ) -> None:
        self.cache = cache
        self.mapping: AddressSpace | None = None
        """the file its pages are, or were, in"""
        self.index = index
        self.nr = nr
        self.max_nr = max_nr or nr
        """how many pages it may grow to have; more than one: no page's contents are `data` itself"""
        self.pfn = 0
        """page frame number of the first page, from insertion until all pages are freed"""
        self.live = 0
        """pages inserted and not freed"""
        self.state = bytearray(_BYTE[state] * nr)
        self.more = bytearray(_BYTE[more] * nr)
        self.hooks: bytearray | None = None
        """what the exit door did about freepage, a HOOK_* of page.py each; None: nothing yet"""
        self.data: Buffer | None = None
        """contents that the pages share: a reply's own buffer, which other folios may share as well"""
        self.data_at = 0
        """where in the buffer slot 0's contents are, in bytes; negative where the buffer begins at a later slot"""
        self.buffers: dict[int, Buffer] | None = None
        """contents of single pages, by slot; they go before `data`"""
        self.refs: dict[int, int] | None = None
        """references beside the cache's and the lru_add batch's, where there are any"""
        self.private: dict[int, Any] | None = None
        self.objects: dict[int, SlabObject] | None = None
        """page-lifetime objects that are objects of their own"""
        self.fill_run: SlabRun | None = None
        """page-lifetime objects that are one run: slot n has its n-th"""
        self.waiters: dict[int, WaitQueue] | None = None

    # -- contents ----------------------------------------------------------------------------------------------

    def contents(self, off: int) -> Buffer | None:
        """The PAGE_SIZE bytes of one page, without copying; None before they were filled."""
        if self.buffers is not None:
            own = self.buffers.get(off)
            if own is not None:
                return own
        data = self.data
        if data is None:
            return None
        if self.max_nr == 1:
            return data
        base = (off << PAGE_SHIFT) + self.data_at
        if not 0 <= base <= len(data) - PAGE_SIZE:
            return None
        return memoryview(data)[base : base + PAGE_SIZE]

    def set_contents(self, off: int, buf: Buffer) -> None:
        if self.max_nr == 1:
            self.data = buf
        elif self.buffers is None:
            self.buffers = {off: buf}
        else:
            self.buffers[off] = buf
            if self.data is not None and len(self.buffers) >= len(self._shared_slots()):
                self.copy_down()  # perhaps all of it has been written anew

    def set_shared(self, start: int, stop: int, buf: Buffer, at: int = 0) -> None:
        """Pages [start, stop) get the bytes of `buf` from `at` on, a reply's buffer that never changes.

        Missing bytes are zeros.
        """
        whole = min(len(buf) - at >> PAGE_SHIFT, stop - start)
        if self.data is None and not self.buffers and whole and self.max_nr > 1:
            self.data = buf
            self.data_at = at - (start << PAGE_SHIFT)
        else:
            view = memoryview(buf)
            for off in range(start, start + whole):
                base = at + ((off - start) << PAGE_SHIFT)
                self.set_contents(off, view[base : base + PAGE_SIZE])
        for off in range(start + whole, stop):
            own = bytearray(PAGE_SIZE)
            rest = buf[at + ((off - start) << PAGE_SHIFT) :]
            own[: len(rest)] = rest
            self.set_contents(off, own)

    def move_contents(self, buf: bytes, at: int) -> None:
        """Keep the shared contents in `buf` from now on, which has the same bytes, slot 0's from `at` on."""
        self.data = buf
        self.data_at = at

    def piece(self, start: int, stop: int, low: int, high: int) -> Buffer | None:
        """Bytes [low, high) of pages [start, stop), counted from `start`, if the shared buffer has all of them.

        What a write may change comes as bytes, and so is copied; of another buffer it is a view.
        """
        data = self.data
        if data is None:
            return None
        base = 0
        if self.max_nr == 1:
            if type(data) is bytearray:
                return bytes(data[low:high])
        else:
            if self.buffers is not None and any(start <= off < stop for off in self.buffers):
                return None
            base = (start << PAGE_SHIFT) + self.data_at
            if base < 0 or base + ((stop - start) << PAGE_SHIFT) > len(data):
                return None
        return memoryview(data)[base + low : base + high]

    def _shared_slots(self) -> range:
        """The slots whose contents are in the shared buffer, whatever became of their pages."""
        if self.data is None or self.max_nr == 1:
            return range(0)
        return range(max(-(self.data_at >> PAGE_SHIFT), 0), min((len(self.data) - self.data_at) >> PAGE_SHIFT, self.nr))

    def slack_pages(self) -> int:
        """Pages' worth of contents that the folio keeps for no page of its own.

        They are what freed pages had, and what the shared buffer has for pages with contents of their own.
        """
        slots, buffers = self._shared_slots(), self.buffers
        freed = len(self.more[slots.start : slots.stop].translate(None, NOT_FREED))
        if not buffers:
            return freed
        more = self.more
        return freed + sum(1 for off in buffers if more[off] & FREED or off in slots)

    def copy_down(self) -> None:
        """Forget freed pages' own contents; if less than half of the folio's part of the shared buffer is needed, keep
        copies of the needed part alone."""
        more, buffers = self.more, self.buffers
        if buffers and self.live < self.nr:
            for off in [off for off in buffers if more[off] & FREED]:
                del buffers[off]
        slots = self._shared_slots()
        if not buffers and self.live * 2 >= len(slots):
            return
        data = self.data
        if data is None:
            return
        needed = [off for off in slots if not more[off] & FREED and (buffers is None or off not in buffers)]
        if len(needed) * 2 >= len(slots):
            return
        self.data = None
        if not needed:
            return
        if needed[-1] - needed[0] + 1 == len(needed):
            base = (needed[0] << PAGE_SHIFT) + self.data_at
            self.data = bytes(data[base : base + (len(needed) << PAGE_SHIFT)])
            self.data_at = -(needed[0] << PAGE_SHIFT)
        else:
            for off in needed:
                base = (off << PAGE_SHIFT) + self.data_at
                self.set_contents(off, bytes(data[base : base + PAGE_SIZE]))

    def __repr__(self) -> str:
        name = "no file" if self.mapping is None else self.mapping.host.audit_name
        return f"<Folio of {name}, pages {self.index}-{self.index + self.nr - 1}, {self.live} live>"
