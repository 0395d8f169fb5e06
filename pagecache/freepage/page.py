"""A page of the cache: flags, references, contents, and the objects that hang off it (include/linux/page-flags.h)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .slab import SlabObject
from .wait import WaitQueue

if TYPE_CHECKING:
    from .address_space import AddressSpace
    from .cache import PageCache

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT

# Page.hook: what the exit door did about freepage.
HOOK_PENDING = 0
HOOK_CALLED = 1
HOOK_SKIPPED = 2
HOOK_ABSENT = 3
HOOK_MIGRATED = 4


class Page:
    """4 KiB of a file.

    The cache's own reference is implied by `mapping`; `refcount` counts the references beside it (the lru_add batch, a
    write request, a reader between two looks), and is -1 while reclaim holds the count frozen. A page that left the
    cache with references lives on, with `mapping` None, until the last `put`.
    """

    __slots__ = (
        "active",
        "cache",
        "charged",
        "data",
        "dirty",
        "error",
        "freed",
        "hook",
        "index",
        "locked",
        "lru",
        "mapping",
        "owned",
        "private",
        "readahead",
        "refcount",
        "referenced",
        "removed_alive",
        "uptodate",
        "waiters",
        "workingset",
        "writeback",
    )

    def __init__(self, cache: PageCache, index: int) -> None:
        self.cache = cache
        self.index = index
        """page offset in the file; stays valid after removal"""
        self.mapping: AddressSpace | None = None
        """None before insertion and after removal"""
        self.data: memoryview | bytearray | bytes | None = None
        """PAGE_SIZE bytes once filled; may be a reply's buffer shared with other pages, see writable()"""
        self.refcount = 0
        self.locked = False
        self.uptodate = False
        self.dirty = False
        self.writeback = False
        self.referenced = False
        self.active = False
        self.workingset = False
        self.readahead = False
        """one bit with two meanings (PG_readahead, PG_reclaim): marker of the next window, or rotate when written"""
        self.lru = False
        """on an LRU list; False while isolated or in the lru_add batch"""
        self.error = False
        self.private: Any = None
        """the file system's write request (PG_private); must be gone before the page may leave"""
        self.owned: SlabObject | None = None
        """the page-lifetime object, released by freepage alone"""
        self.charged = False
        self.hook = HOOK_PENDING
        self.freed = False
        self.removed_alive = False
        """left the cache, not yet freed: counted in PageCache.nr_removed_pages"""
        self.waiters: WaitQueue | None = None

    # -- references --------------------------------------------------------------------------------------------

    def get(self) -> None:
        """Take a reference. Rule use_after_free: the page was freed, or reclaim holds its count frozen."""
        if self.freed or self.refcount < 0:
            self.cache.violation("use_after_free", f"reference taken on a dead page: {self.describe()}")
            return
        self.refcount += 1

    def put(self) -> None:
        """Drop a reference taken by get(); the last one frees a page that has left the cache."""
        if self.refcount <= 0:
            self.cache.violation("freed_with_references", f"a reference too many was dropped: {self.describe()}")
            return
        self.refcount -= 1
        if self.refcount == 0 and self.mapping is None and not self.freed:
            self.cache.free_page(self)

    # -- lock and writeback ------------------------------------------------------------------------------------

    def trylock(self) -> bool:
        if self.locked:
            return False
        self.locked = True
        return True

    async def lock(self) -> None:
        """Take the page lock; whoever looked the page up must then look at `mapping` again."""
        if self.cache.hooked is not None:
            self.cache.might_sleep("lock_page")
        while self.locked:
            await self._wait("page lock")
        self.locked = True

    def unlock(self) -> None:
        assert self.locked, f"unlock of an unlocked page: {self.describe()}"
        self.locked = False
        if self.waiters is not None:
            self._wake()

    async def wait_locked(self) -> None:
        """Wait until the page is seen unlocked, without locking it."""
        if self.cache.hooked is not None:
            self.cache.might_sleep("wait_on_page_locked")
        while self.locked:
            await self._wait("page lock")

    async def wait_writeback(self) -> None:
        """Wait until the page is not under writeback."""
        if self.cache.hooked is not None:
            self.cache.might_sleep("wait_on_page_writeback")
        while self.writeback:
            await self._wait("end of writeback")

    async def _wait(self, what: str) -> None:
        if self.waiters is None:
            self.waiters = WaitQueue(self.cache.create_future)
        await self.waiters.wait(f"{what} of {self.describe()}")

    def _wake(self) -> None:
        waiters, self.waiters = self.waiters, None
        if waiters is not None:
            waiters.wake_all()

    # -- contents ----------------------------------------------------------------------------------------------

    def fill(self, buf: memoryview | bytes | bytearray) -> None:
        """Set the contents; shorter than a page is padded with zeros. A whole bytearray is taken over as our own."""
        if len(buf) != PAGE_SIZE:
            assert len(buf) < PAGE_SIZE
            own = bytearray(PAGE_SIZE)
            own[: len(buf)] = buf
            buf = own
        self.data = buf

    def writable(self) -> bytearray:
        """The contents as a buffer of our own: copies a shared one, zeros for a page without contents."""
        data = self.data
        if type(data) is not bytearray:
            data = bytearray(PAGE_SIZE) if data is None else bytearray(data)
            self.data = data
        return data

    # -- the page-lifetime object ------------------------------------------------------------------------------

    def own(self, obj: SlabObject) -> None:
        """Attach the page-lifetime object, whose CACHED reference now belongs to the page."""
        assert self.owned is None, f"page already owns {self.owned.describe()}: {self.describe()}"
        self.owned = obj

    def disown(self) -> SlabObject | None:
        """Detach and return it (what freepage calls); the caller gives its CACHED reference back."""
        obj, self.owned = self.owned, None
        return obj

    # -- the reclaim meaning of the readahead bit --------------------------------------------------------------

    @property
    def reclaim(self) -> bool:
        return self.readahead

    @reclaim.setter
    def reclaim(self, value: bool) -> None:
        self.readahead = value

    def describe(self) -> str:
        """The page's story in one phrase."""
        mapping = self.mapping
        where = "not in the cache" if mapping is None else f"of {mapping.host.audit_name}"
        flags = [
            name
            for name in (
                "locked", "uptodate", "dirty", "writeback", "referenced", "active", "workingset", "readahead", "lru",
                "error", "freed",
            )
            if getattr(self, name)
        ]  # fmt: skip
        if self.private is not None:
            flags.append("private")
        return f"page {self.index} {where}, refs {self.refcount}, {'|'.join(flags) or 'no flags'}"
