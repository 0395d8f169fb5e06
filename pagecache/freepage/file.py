"""An open file as the page cache sees it (struct file, struct file_ra_state)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .address_space import AddressSpace


class FileRaState:
    """The readahead window of one open file (struct file_ra_state). Sizes in pages, `prev_pos` in bytes."""

    __slots__ = ("async_size", "prev_pos", "ra_pages", "random", "size", "start")

    def __init__(self, ra_pages: int) -> None:
        self.start = 0
        self.size = 0
        self.async_size = 0
        """the next window is started when this many pages of this one are left"""
        self.ra_pages = ra_pages
        """copied from the device at open: a file keeps it when read_ahead_kb changes"""
        self.prev_pos = -1
        """the byte after the last one copied"""
        self.random = False
        """FMODE_RANDOM"""


class File:
    """An open file as the page cache sees it (struct file): its mapping and its readahead state."""

    def __init__(self, mapping: AddressSpace, ra: FileRaState | None = None) -> None:
        self.mapping = mapping
        self.sent_at: tuple[int, int] | None = None
        """the first page and the number of pages of what the reader is sent at a time, if that is known: readahead lets
        folios begin and end there, so that each holds what is sent together"""
        self.ra = ra if ra is not None else FileRaState(mapping.bdi.ra_pages)
