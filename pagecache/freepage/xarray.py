"""A file's page tree: which folio holds the page at an index (include/linux/xarray.h, one level and 64 slots a node).

It reads like a mapping from indices to pages; `load` answers with the folio, which is what the fast paths work on. A
slot holds the folio's number and not the folio: a full garbage collection would follow a million references.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from .page import Page

if TYPE_CHECKING:
    from .folio import Folio

XA_CHUNK_SHIFT = 6
XA_CHUNK_SIZE = 1 << XA_CHUNK_SHIFT
XA_CHUNK_MASK = XA_CHUNK_SIZE - 1
_EMPTY = array("I", bytes(4 * (XA_CHUNK_SIZE + 1)))


class PageTree:
    """Index -> page, in index order. Nodes of 64 slots; a node is as long as its last slot in use asks for.

    `folios` is the memory cgroup's: number -> folio (Lruvec.folios); number 0 is none, and an empty slot.
    """

    __slots__ = ("count", "folios", "nodes")

    def __init__(self, folios: Sequence[Folio | None]) -> None:
        self.folios = folios
        self.nodes: dict[int, array[int]] = {}
        """index >> 6 -> [number of slots in use, then slot (index & 63) + 1: number of the page's folio or 0]"""
        self.count = 0

    # -- folios ------------------------------------------------------------------------------------------------

    def load(self, index: int) -> Folio | None:
        """The folio of the page at `index`, or None."""
        node = self.nodes.get(index >> XA_CHUNK_SHIFT)
        if node is None:
            return None
        slot = (index & XA_CHUNK_MASK) + 1
        return self.folios[node[slot]] if slot < len(node) else None

    def next_resident(self, index: int, end: int) -> int:
        """The first index of [index, end) that has a page; `end` if none has."""
        nodes = self.nodes
        while index < end:
            node = nodes.get(index >> XA_CHUNK_SHIFT)
            slot = (index & XA_CHUNK_MASK) + 1
            if node is None or slot >= len(node):
                index = ((index >> XA_CHUNK_SHIFT) + 1) << XA_CHUNK_SHIFT
            elif node[slot]:
                return index
            else:
                index += 1
        return end

    def store_slot(self, index: int, number: int) -> None:
        """One page goes into its slot, which is empty."""
        nodes, high, slot = self.nodes, index >> XA_CHUNK_SHIFT, (index & XA_CHUNK_MASK) + 1
        self.count += 1
        if high in nodes:
            node = nodes[high]
            missing = slot + 1 - len(node)
            if missing > 0:
                node += _EMPTY[:missing]
        else:
            node = nodes[high] = _EMPTY[: slot + 1]
        node[slot] = number
        node[0] += 1

    def store(self, folio: Folio, number: int) -> None:
        """Put a new folio's pages into their slots, which are empty."""
        if folio.nr == 1:
            self.store_slot(folio.index, number)
            return
        index, end = folio.index, folio.index + folio.nr
        self.count += folio.nr
        nodes = self.nodes
        while index < end:
            node = nodes.get(index >> XA_CHUNK_SHIFT)
            slot = (index & XA_CHUNK_MASK) + 1
            n = min(end - index, XA_CHUNK_SIZE + 1 - slot)
            if node is None:
                node = nodes[index >> XA_CHUNK_SHIFT] = _EMPTY[:1]
            if len(node) < slot:
                node += _EMPTY[: slot - len(node)]
            node[slot : slot + n] = array("I", (number,)) * n
            node[0] += n
            index += n

    def replace(self, index: int, number: int) -> None:
        """Another folio's page takes an occupied slot (migration)."""
        self.nodes[index >> XA_CHUNK_SHIFT][(index & XA_CHUNK_MASK) + 1] = number

    def folio_runs(self) -> Iterator[tuple[Folio, int, int]]:
        """Runs of pages that one folio holds side by side: (folio, first slot, end slot), in index order."""
        folios = self.folios
        for high in sorted(self.nodes):
            node = self.nodes[high]
            base = (high << XA_CHUNK_SHIFT) - 1
            slot, end = 1, len(node)
            while slot < end:
                number = node[slot]
                folio = folios[number]
                if folio is None:
                    slot += 1
                    continue
                first = slot
                while slot < end and node[slot] == number:
                    slot += 1
                yield folio, base + first - folio.index, base + slot - folio.index

    def distinct_folios(self) -> set[Folio]:
        """All folios that hold a page, each once, in no order."""
        numbers: set[int] = set()
        for node in self.nodes.values():
            numbers.update(node[1:])
        return {folio for folio in map(self.folios.__getitem__, numbers) if folio is not None}

    # -- a mapping of pages ------------------------------------------------------------------------------------

    def get(self, index: int) -> Page | None:
        folio = self.load(index)
        return None if folio is None else Page(folio, index - folio.index)

    def __getitem__(self, index: int) -> Page:
        page = self.get(index)
        if page is None:
            raise KeyError(index)
        return page

    def erase(self, index: int) -> None:
        """Empty an occupied slot."""
        high = index >> XA_CHUNK_SHIFT
        node = self.nodes[high]
        slot = (index & XA_CHUNK_MASK) + 1
        if not node[slot]:
            raise KeyError(index)
        self.count -= 1
        if node[0] == 1:
            del self.nodes[high]
        else:
            node[0] -= 1
            node[slot] = 0

    def __contains__(self, index: int) -> bool:
        return self.load(index) is not None

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        for high in sorted(self.nodes):
            base = (high << XA_CHUNK_SHIFT) - 1
            for slot, number in enumerate(self.nodes[high]):
                if slot and number:
                    yield base + slot

    def values(self) -> Iterator[Page]:
        """The resident pages in index order."""
        return iter(self.range(0, None))

    def items(self) -> Iterator[tuple[int, Page]]:
        for page in self.values():
            yield page.index, page

    def range(self, start: int, end: int | None) -> list[Page]:
        """The resident pages of [start, end) in index order (end None: to the last one)."""
        nodes, folios = self.nodes, self.folios
        if not nodes:
            return []
        first = start >> XA_CHUNK_SHIFT
        last = None if end is None else (end - 1) >> XA_CHUNK_SHIFT
        highs: Any
        if last is not None and last - first < len(nodes):
            highs = [high for high in range(first, last + 1) if high in nodes]
        else:
            highs = sorted(high for high in nodes if high >= first and (last is None or high <= last))
        pages: list[Page] = []
        for high in highs:
            node = nodes[high]
            base = (high << XA_CHUNK_SHIFT) - 1
            lo = max(start - base, 1)
            hi = len(node) if end is None else min(len(node), end - base)
            for slot in range(lo, hi):
                folio = folios[node[slot]]
                if folio is not None:
                    pages.append(Page(folio, base + slot - folio.index))
        return pages


class PoisonedPages(PageTree):
    """The page tree of a freed inode: empty, and every lookup is a violation."""

    __slots__ = ("_cache", "_name")

    def __init__(self, cache: Any, name: str) -> None:
        self.folios = ()
        self.count = 0
        self._cache = cache
        self._name = name

    @property
    def nodes(self) -> dict[int, array[int]]:  # type: ignore[override]
        self._cache.violation("mapping_poisoned", f"pages of {self._name} looked up after the inode was freed")
        return {}

    def store(self, folio: Folio, number: int) -> None:
        self.nodes  # noqa: B018 (looked at, and so counted)

    def store_slot(self, index: int, number: int) -> None:
        self.nodes  # noqa: B018

    def replace(self, index: int, number: int) -> None:
        self.nodes  # noqa: B018
