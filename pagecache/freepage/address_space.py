"""A file's pages, and the table of operations between the cache and the file system (include/linux/fs.h)."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from .errseq import ErrSeq
from .page import Page
from .xarray import PageTree, PoisonedPages

if TYPE_CHECKING:
    from .cache import PageCache
    from .readahead import ReadaheadControl
    from .writeback import BackingDevInfo, WritebackControl


class Host(Protocol):
    """What a mapping belongs to: the part of an inode that the cache looks at."""

    i_size: int
    i_ino: int

    @property
    def audit_name(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressSpaceOperations:
    """The file system's half, in the founding patch's names. Every entry is optional: None is the kernel's default.

    The colour of a function is its contract: `async` may block, a plain one may not. `LOCKING.md` tells which page is
    locked on entry and who unlocks it. An `async def` in a plain slot is refused here, at registration.
    """

    readpage: Callable[[Any, Page], Awaitable[None]] | None = None
    readahead: Callable[[ReadaheadControl], None] | None = None
    writepage: Callable[[Page, WritebackControl], Awaitable[None]] | None = None
    writepages: Callable[[AddressSpace, WritebackControl], Awaitable[None]] | None = None
    write_inode: Callable[[AddressSpace, WritebackControl], Awaitable[None]] | None = None
    """super_operations' entry, called by the flusher after the inode's pages"""
    set_page_dirty: Callable[[Page], bool] | None = None
    write_begin: Callable[[Any, AddressSpace, int, int], Awaitable[Page]] | None = None
    write_end: Callable[[Any, AddressSpace, int, int, int, Page], Awaitable[int]] | None = None
    invalidatepage: Callable[[Page, int, int], None] | None = None
    releasepage: Callable[[Page], bool] | None = None
    freepage: Callable[[Page], None] | None = None
    launder_page: Callable[[Page], Awaitable[None]] | None = None
    direct_IO: Callable[[Any, int, int], Awaitable[Any]] | None = None
    migratepage: Callable[[AddressSpace, Page, Page], None] | None = None
    is_partially_uptodate: Callable[[Page, int, int], bool] | None = None
    is_dirty_writeback: Callable[[Page], tuple[bool, bool]] | None = None
    error_remove_page: Callable[[AddressSpace, Page], None] | None = None

    def __post_init__(self) -> None:
        for name in PLAIN_OPERATIONS:
            operation = getattr(self, name)
            if operation is not None and _is_async(operation):
                raise TypeError(f"a_ops.{name} may not block: an async function is refused")


PLAIN_OPERATIONS = (
    "readahead",
    "set_page_dirty",
    "invalidatepage",
    "releasepage",
    "freepage",
    "migratepage",
    "is_partially_uptodate",
    "is_dirty_writeback",
    "error_remove_page",
)
"""Entries that run to their end: refused when they are `async def`."""


def _is_async(operation: object) -> bool:
    call = getattr(operation, "__call__", None)  # noqa: B004 (an object with an async __call__ is refused too)
    return inspect.iscoroutinefunction(operation) or inspect.iscoroutinefunction(call)


class AddressSpace:
    """The pages of one file (struct address_space).

    `pages` holds exactly the pages whose `mapping` is this one. The tags follow the kernel's trees: DIRTY stays on a
    page until its writeback starts, so `nr_dirty` may count pages whose `dirty` flag is already clear.
    """

    __slots__ = (
        "__weakref__",
        "a_ops",
        "bdi",
        "cache",
        "dirtied_when_s",
        "dirty_tags",
        "exiting",
        "host",
        "pages",
        "poisoned",
        "shadows",
        "wb_err",
        "writeback_index",
        "writeback_tags",
    )

    def __init__(
        self,
        cache: PageCache,
        host: Host,
        a_ops: AddressSpaceOperations,
        bdi: BackingDevInfo | None = None,
    ) -> None:
        self.cache = cache
        self.host = host
        self.a_ops = a_ops
        self.bdi: BackingDevInfo = bdi if bdi is not None else cache.default_bdi
        self.pages = PageTree(cache.memcg.lruvec.folios)
        self.shadows: dict[int, int] = {}
        """evicted pages' entries (mm/workingset.c), by index; an index is never in both"""
        self.dirty_tags: dict[int, None] = {}
        self.writeback_tags: dict[int, None] = {}
        self.wb_err = ErrSeq()
        self.writeback_index = 0
        """where cyclic writeback resumes, in pages"""
        self.dirtied_when_s: float | None = None
        """time of the first dirtying since the inode was last clean; None while it is on no dirty list"""
        self.exiting = False
        """final eviction has begun: no more shadows"""
        self.poisoned = False
        cache.mappings[self] = None

    @property
    def nrpages(self) -> int:
        return self.pages.count

    @property
    def nr_dirty(self) -> int:
        """Pages with the DIRTY tag."""
        return len(self.dirty_tags)

    @property
    def nr_writeback(self) -> int:
        """Pages with the WRITEBACK tag."""
        return len(self.writeback_tags)

    def find_page(self, index: int) -> Page | None:
        """The resident page, whatever its state; no reference is taken."""
        return self.pages.get(index)

    def resident_range(self, start: int = 0, end: int | None = None) -> list[Page]:
        """The resident pages of [start, end) in index order (end None: to the last one)."""
        return self.pages.range(start, end)

    def dirty_pages(self, start: int = 0, end: int | None = None) -> list[Page]:
        """The pages tagged DIRTY of [start, end), in index order."""
        return self._tagged(self.dirty_tags, start, end)

    def writeback_pages(self, start: int = 0, end: int | None = None) -> list[Page]:
        """The pages tagged WRITEBACK of [start, end), in index order."""
        return self._tagged(self.writeback_tags, start, end)

    def _tagged(self, tags: dict[int, None], start: int, end: int | None) -> list[Page]:
        pages = self.pages
        return [pages[index] for index in sorted(tags) if index >= start and (end is None or index < end)]

    def poison(self) -> None:
        """The inode was freed: whoever still looks at its mapping reads freed memory (rule mapping_poisoned)."""
        assert not self.pages, "poisoned with pages"
        self.poisoned = True
        cache, name = self.cache, self.host.audit_name
        cache.mappings.pop(self, None)
        self.a_ops = cast(AddressSpaceOperations, PoisonedOperations(cache, name))
        self.pages = PoisonedPages(cache, name)

    @contextmanager
    def poisoned_meanwhile(self) -> Iterator[None]:
        """Strict mode: the mapping is poisoned while reclaim runs the hook, as if its inode had just been freed."""
        a_ops, pages = self.a_ops, self.pages
        cache, name = self.cache, self.host.audit_name
        self.a_ops = cast(AddressSpaceOperations, PoisonedOperations(cache, name))
        self.pages = PoisonedPages(cache, name)
        try:
            yield
        finally:
            self.a_ops, self.pages = a_ops, pages

    def __repr__(self) -> str:
        return f"<AddressSpace of {self.host.audit_name}, {len(self.pages)} pages>"


class PoisonedOperations:
    """What `mapping.a_ops` is once the inode is freed: every look is a violation, every operation reads as None."""

    __slots__ = ("_cache", "_name")

    def __init__(self, cache: PageCache, name: str) -> None:
        self._cache = cache
        self._name = name

    def __getattr__(self, operation: str) -> None:
        self._cache.violation("mapping_poisoned", f"a_ops.{operation} of {self._name} read after the inode was freed")
