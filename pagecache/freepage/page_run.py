"""Neighbouring pages that are stored together, handled as one: what readahead hands out, and a reply fills."""

from __future__ import annotations

from .folio import ERROR, FILLED, UNLOCKED, Buffer, Folio
from .page import Page
from .slab import CACHED, IN_USE
from .slab_run import SlabRun


class PageRun:
    """Pages [start, stop) of one folio. Each is a page like any other; these methods do to all what is done to each."""

    __slots__ = ("folio", "index", "nr", "start", "stop")

    def __init__(self, folio: Folio, start: int, stop: int) -> None:
        self.folio = folio
        self.start = start
        self.stop = stop
        self.index = folio.index + start
        """of the first page"""
        self.nr = stop - start

    @classmethod
    def of(cls, page: Page) -> PageRun:
        """A run of one."""
        return cls(page.folio, page.off, page.off + 1)

    def pages(self) -> list[Page]:
        folio = self.folio
        return [Page(folio, off) for off in range(self.start, self.stop)]

    def part(self, first: int, last: int) -> PageRun:
        """Pages [first, last) of the run."""
        return PageRun(self.folio, self.start + first, self.start + last)

    def fill(self, buf: Buffer, at: int = 0) -> None:
        """Set the contents to the bytes of `buf` from `at` on; where it is too short, zeros follow.

        Nobody changes the buffer any more: it is kept, not copied, and may fill other runs as well.
        """
        self.folio.set_shared(self.start, self.stop, buf, at)

    def own(self, requests: SlabRun) -> None:
        """The pages own one object of the run each, whose IN_USE reference becomes the page's CACHED one."""
        folio = self.folio
        if folio.fill_run is None and folio.objects is None and not self.start:
            requests.move(0, self.nr, IN_USE, CACHED)
            folio.fill_run = requests
            return
        for at, page in enumerate(self.pages()):
            obj = requests.extract(at)
            obj.get(CACHED)
            page.own(obj)
            obj.put(IN_USE)

    def mark_uptodate_and_unlock(self) -> None:
        """What a reply does in the end. All pages are locked."""
        folio = self.folio
        state = folio.state
        state[self.start : self.stop] = state[self.start : self.stop].translate(FILLED)
        self._wake()

    def mark_error(self) -> None:
        """Reading them failed."""
        for off in range(self.start, self.stop):
            self.folio.more[off] |= ERROR

    def unlock(self) -> None:
        folio = self.folio
        state = folio.state
        state[self.start : self.stop] = state[self.start : self.stop].translate(UNLOCKED)
        self._wake()

    def _wake(self) -> None:
        waiters = self.folio.waiters
        if waiters is not None:
            for off in sorted(off for off in waiters if self.start <= off < self.stop):
                Page(self.folio, off).wake()
