"""The LRU lists of a memory cgroup: page frames linked by number (struct lruvec of include/linux/mmzone.h).

Each page that is charged has a page frame number; two arrays hold, for each number, the next and the previous one on
its list, as list_head does in struct page. Adding, taking out, and cutting off a list's tail are a few integer stores
a page, and make no object.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .page import Page

if TYPE_CHECKING:
    from .folio import Folio

INACTIVE = 0
ACTIVE = 1
_HEADS = 2
"""numbers 0 and 1 are the heads of the two lists; `next` of a head is its oldest page, `prev` its newest"""
SINGLE_FRAMES = 64
"""frames for folios of one page come into being in such numbers"""


_numbers = array("I", range(1024))


def frames(first: int, end: int) -> array[int]:
    """first, first + 1, ... below end: cut out of one row of numbers, as making them one by one is dear."""
    if len(_numbers) < end:
        _numbers.extend(range(len(_numbers), 2 * end))
    return _numbers[first:end]


class LruList:
    """One of the lists, as a collection of pages from the tail (oldest) to the head."""

    __slots__ = ("_list", "_lruvec")

    def __init__(self, lruvec: Lruvec, which: int) -> None:
        self._lruvec = lruvec
        self._list = which

    def __len__(self) -> int:
        return self._lruvec.nr[self._list]

    def __iter__(self) -> Iterator[Page]:
        lruvec = self._lruvec
        pfn = lruvec.next[self._list]
        while pfn >= _HEADS:
            yield lruvec.page(pfn)
            pfn = lruvec.next[pfn]

    def __contains__(self, page: object) -> bool:
        return any(each == page for each in self)


class Lruvec:
    """The inactive and the active file list."""

    __slots__ = (
        "active",
        "folio_of",
        "folios",
        "free",
        "free_numbers",
        "free_single",
        "inactive",
        "next",
        "nonresident_age",
        "nr",
        "prev",
    )

    def __init__(self) -> None:
        self.next = array("I", (INACTIVE, ACTIVE))
        self.prev = array("I", (INACTIVE, ACTIVE))
        self.folios: list[Folio | None] = [None]
        """folio number -> the folio; 0 is none. One reference to each: a garbage collection follows them all"""
        self.folio_of = array("I", (0, 0))
        """frame number -> number of the folio it belongs to"""
        self.free_numbers: list[int] = []
        """folio numbers not in use"""
        self.free_single: list[int] = []
        """frames not in use, for folios of one page"""
        self.free: dict[int, list[int]] = {}
        """ranges of frames not in use: their length, a power of two from 2 on -> first numbers"""
        self.nr = [0, 0]
        """pages on the inactive and on the active list"""
        self.nonresident_age = 0
        self.inactive = LruList(self, INACTIVE)
        self.active = LruList(self, ACTIVE)

    @property
    def nr_active(self) -> int:
        return self.nr[ACTIVE]

    # -- page frames -------------------------------------------------------------------------------------------

    def alloc_frames(self, folio: Folio) -> int:
        """Neighbouring numbers for a folio's pages; returns the folio's own number."""
        if self.free_numbers:
            number = self.free_numbers.pop()
            self.folios[number] = folio
        else:
            number = len(self.folios)
            self.folios.append(folio)
        if folio.max_nr == 1:
            if not self.free_single:
                self._carve()
            folio.pfn = pfn = self.free_single.pop()
            self.folio_of[pfn] = number
            return number
        size = 1 << (folio.max_nr - 1).bit_length()
        free = self.free.get(size)
        if free:
            pfn = free.pop()
            self.folio_of[pfn : pfn + size] = array("I", (number,)) * size
        else:
            pfn = len(self.folio_of)
            self.folio_of.extend(array("I", (number,)) * size)
            more = frames(pfn, pfn + size)
            self.next.extend(more)
            self.prev.extend(more)
        folio.pfn = pfn
        return number

    def _carve(self) -> None:
        """More frames for single pages."""
        pfn = len(self.folio_of)
        more = frames(pfn, pfn + SINGLE_FRAMES)
        self.folio_of.extend(array("I", bytes(4 * SINGLE_FRAMES)))
        self.next.extend(more)
        self.prev.extend(more)
        self.free_single.extend(reversed(more))

    def free_frames(self, folio: Folio) -> None:
        """None of the folio's pages is on a list any more."""
        pfn, folio.pfn = folio.pfn, 0
        number = self.folio_of[pfn]
        self.folios[number] = None
        self.free_numbers.append(number)
        if folio.max_nr == 1:
            self.folio_of[pfn] = 0
            self.free_single.append(pfn)
            return
        size = 1 << (folio.max_nr - 1).bit_length()
        self.folio_of[pfn : pfn + size] = array("I", bytes(4 * size))
        self.free.setdefault(size, []).append(pfn)

    def page(self, pfn: int) -> Page:
        folio = self.folios[self.folio_of[pfn]]
        assert folio is not None
        return Page(folio, pfn - folio.pfn)

    # -- the lists ---------------------------------------------------------------------------------------------

    def add(self, pfn: int, which: int) -> None:
        """To the head."""
        newest = self.prev[which]
        self.next[newest] = pfn
        self.prev[pfn] = newest
        self.next[pfn] = which
        self.prev[which] = pfn
        self.nr[which] += 1

    def add_run(self, pfn: int, n: int, which: int) -> None:
        """`n` neighbouring frames to the head, one after the other."""
        newest = self.prev[which]
        last = pfn + n - 1
        self.next[newest] = pfn
        self.next[pfn : last + 1] = frames(pfn + 1, last + 2)
        self.prev[pfn : last + 1] = frames(pfn - 1, last)
        self.prev[pfn] = newest
        self.next[last] = which
        self.prev[which] = last
        self.nr[which] += n

    def add_tail(self, pfn: int, which: int) -> None:
        oldest = self.next[which]
        self.prev[oldest] = pfn
        self.next[pfn] = oldest
        self.prev[pfn] = which
        self.next[which] = pfn
        self.nr[which] += 1

    def delete(self, pfn: int, which: int) -> None:
        before, after = self.prev[pfn], self.next[pfn]
        self.next[before] = after
        self.prev[after] = before
        self.nr[which] -= 1

    def add_each(self, pfns: list[int], which: int) -> None:
        """Frames to the head, one after the other."""
        following, before = self.next, self.prev
        newest = before[which]
        for pfn in pfns:
            following[newest] = pfn
            before[pfn] = newest
            newest = pfn
        following[newest] = which
        before[which] = newest
        self.nr[which] += len(pfns)

    def move(self, pfn: int, which: int, to: int) -> None:
        """From one list to the head of the other."""
        following, before = self.next, self.prev
        left, right = before[pfn], following[pfn]
        following[left] = right
        before[right] = left
        newest = before[to]
        following[newest] = pfn
        before[pfn] = newest
        following[pfn] = to
        before[to] = pfn
        self.nr[which] -= 1
        self.nr[to] += 1

    def cut_tail(self, n: int, which: int) -> list[int]:
        """Take the `n` oldest pages off the list; their frame numbers, oldest first."""
        n = min(n, self.nr[which])
        following = self.next
        pfn = following[which]
        pfns = []
        for _ in range(n):
            pfns.append(pfn)
            pfn = following[pfn]
        following[which] = pfn
        self.prev[pfn] = which
        self.nr[which] -= n
        return pfns
