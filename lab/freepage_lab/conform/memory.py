"""What a memory cgroup of the recordings' machine held beside cached pages: their trees' nodes, and the executor.

The executor was a Python process: its buffers were bytes objects, and glibc's malloc decides what of them stays when
they are freed. How many pages the page cache may have depends on both, and so does which page reclaim comes to.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from freepage import AddressSpace

PAGE_SIZE = 4096
BASE_PAGES = 140
"""The process without its buffers, open files, inodes, names. Not counted but fitted: recordings of readers come out
equal from 136 to 144."""
NODE_BYTES = 576 + 8
"""A node of a page tree, for up to 64 pages and shadows (struct xa_node), and the note whom it is charged to."""
NODE_SHIFT = 6

MMAP_THRESHOLD = (1 << 20) + PAGE_SIZE
"""Where malloc begins to map: the executor inherited it from who did the set-up, in buffers of 1 MiB."""
M_TOP_PAD = 128 << 10
BYTES_HEADER = 33
"""sys.getsizeof(b"")"""
BUFFERS = {"read_all": 2, "copy": 2, "write": 2, "pwrite": 2, "write_all": 2}
"""Of the size moved, how many there are at a time where it is not one: what is read while the last piece still has its
name; the blocks of a pattern, and what they are joined to."""


class MallocHeap:
    """The process's heap as far as large buffers touch it (glibc malloc.c)."""

    def __init__(self) -> None:
        self._mmap_threshold = MMAP_THRESHOLD
        self._trim_threshold = 2 * MMAP_THRESHOLD
        self._touched = 0
        """Bytes at the top of the heap that were used once and are not given back."""
        self._mapped = 0
        self._largest = 0

    @property
    def pages(self) -> int:
        return -(-(self._touched + self._mapped) // PAGE_SIZE)

    def hold(self, size: int, count: int) -> None:
        """``count`` buffers of ``size`` bytes are there at once, for as long as ``release`` is not called."""
        chunk = -(-(size + BYTES_HEADER + 8) // 16) * 16
        if chunk < self._mmap_threshold:
            self._touched = max(self._touched, count * chunk)
        else:
            self._largest = -(-chunk // PAGE_SIZE) * PAGE_SIZE
            self._mapped = count * self._largest

    def release(self) -> None:
        """A buffer that was mapped makes the next ones of its size come from the heap; the top goes if it is large."""
        if self._mapped:
            self._mapped = 0
            self._mmap_threshold = max(self._mmap_threshold, self._largest)
            self._trim_threshold = 2 * self._mmap_threshold
        if self._touched + M_TOP_PAD >= self._trim_threshold:
            self._touched = min(self._touched, M_TOP_PAD)


class TreeNodes:
    """Nodes of page trees: one is there as long as a page or a shadow is in it, and one for 64 of them above."""

    def __init__(self) -> None:
        self._seen: dict[AddressSpace, set[int]] = {}
        """Leaves that have been there since the mapping last had no shadows: one that only has shadows stays."""

    def pages(self, mappings: Iterable[AddressSpace]) -> int:
        """What the nodes of these mappings take, in whole pages."""
        count = 0
        for mapping in mappings:
            nodes = mapping.pages.nodes
            if mapping.shadows:
                seen = self._seen.setdefault(mapping, set())
                seen.update(nodes)
            else:
                seen = self._seen[mapping] = set(nodes)
            count += len(seen) + len({node >> NODE_SHIFT for node in seen})
        return count * NODE_BYTES // PAGE_SIZE
