"""posix_fadvise(2) (mm/fadvise.c)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from .folio import PAGE_SHIFT
from .readahead import force_page_cache_readahead
from .swap import lru_add_drain
from .truncate import invalidate_mapping_pages
from .writeback import filemap_fdatawrite_range

if TYPE_CHECKING:
    from .file import File

POSIX_FADV_NORMAL = 0
POSIX_FADV_RANDOM = 1
POSIX_FADV_SEQUENTIAL = 2
POSIX_FADV_WILLNEED = 3
POSIX_FADV_DONTNEED = 4
POSIX_FADV_NOREUSE = 5

_LAST_INDEX = (1 << 52) - 1


def generic_fadvise(file: File, offset: int, length: int, advice: int) -> None:
    """posix_fadvise(2), the advices that do not wait (mm/fadvise.c). DONTNEED is fadvise_dontneed. OSError(EINVAL)."""
    if length < 0:
        raise OSError(errno.EINVAL, "negative length")
    ra = file.ra
    default = file.mapping.bdi.ra_pages
    if advice == POSIX_FADV_NORMAL:
        ra.ra_pages = default
        ra.random = False
    elif advice == POSIX_FADV_RANDOM:
        ra.random = True
    elif advice == POSIX_FADV_SEQUENTIAL:
        ra.ra_pages = default * 2
        ra.random = False
    elif advice == POSIX_FADV_WILLNEED:
        start = offset >> PAGE_SHIFT
        last = (offset + length - 1) >> PAGE_SHIFT if length else _LAST_INDEX
        force_page_cache_readahead(file, start, last - start + 1)
    elif advice != POSIX_FADV_NOREUSE:
        raise OSError(errno.EINVAL, f"unknown advice {advice}")


async def fadvise_dontneed(file: File, offset: int, length: int) -> None:
    """FADV_DONTNEED: start writeback of the range, then drop its whole pages; length 0 is to the end of the file."""
    mapping = file.mapping
    end = offset + length if length else None
    await filemap_fdatawrite_range(mapping, offset, end, sync_all=False)
    first = -(-offset >> PAGE_SHIFT)
    if end is None or end == mapping.host.i_size:
        last = None if end is None else -(-end >> PAGE_SHIFT)
    else:
        last = end >> PAGE_SHIFT
    if last is not None and last <= first:
        return
    lru_add_drain(mapping.cache.memcg)
    invalidate_mapping_pages(mapping, first, last)
