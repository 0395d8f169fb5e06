"""A page of the cache: flags, references, contents, and the objects that hang off it (include/linux/page-flags.h)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .folio import (
    ACTIVE,
    CHARGED,
    DIRTY,
    ERROR,
    FREED,
    FROZEN,
    LOCKED,
    LRU,
    LRU_ADD,
    OUTSIDE,
    PAGE_SHIFT,
    PAGE_SIZE,
    READAHEAD,
    REFERENCED,
    REMOVED_ALIVE,
    UPTODATE,
    WORKINGSET,
    WRITEBACK,
    Buffer,
    Folio,
)
from .slab import CACHED, SlabObject
from .wait import WaitQueue

if TYPE_CHECKING:
    from .address_space import AddressSpace
    from .cache import PageCache

__all__ = [
    "HOOK_ABSENT",
    "HOOK_CALLED",
    "HOOK_MIGRATED",
    "HOOK_PENDING",
    "HOOK_SKIPPED",
    "PAGE_SHIFT",
    "PAGE_SIZE",
    "Page",
]

# Page.hook: what the exit door did about freepage.
HOOK_PENDING = 0
HOOK_CALLED = 1
HOOK_SKIPPED = 2
HOOK_ABSENT = 3
HOOK_MIGRATED = 4


if TYPE_CHECKING:

    class Flag:
        """An attribute that is True or False."""

        def __get__(self, page: Page, owner: type[Page]) -> bool: ...

        def __set__(self, page: Page, value: bool) -> None: ...

else:
    Flag = property  # which CPython calls faster than a class of ours


def _state_flag(bit: int) -> Flag:
    def get(page: Page) -> bool:
        return page.folio.state[page.off] & bit != 0

    def set_(page: Page, value: bool) -> None:
        if value:
            page.folio.state[page.off] |= bit
        else:
            page.folio.state[page.off] &= ~bit

    return Flag(get, set_)  # type: ignore[call-arg]


def _more_flag(bit: int) -> Flag:
    def get(page: Page) -> bool:
        return page.folio.more[page.off] & bit != 0

    def set_(page: Page, value: bool) -> None:
        if value:
            page.folio.more[page.off] |= bit
        else:
            page.folio.more[page.off] &= ~bit

    return Flag(get, set_)  # type: ignore[call-arg]


class Page:
    """4 KiB of a file: a view of one slot of a folio, which holds all there is to know about it.

    Views are made when somebody looks and cost nothing afterwards; two views of the same page are equal. A slot is not
    used again, so a view tells the truth about its page after it has left the cache too.

    The cache's own reference is implied by `mapping`; `refcount` counts the references beside it (the lru_add batch, a
    write request, a reader between two looks), and is -1 while reclaim holds the count frozen. A page that left the
    cache with references lives on, with `mapping` None, until the last `put`.
    """

    __slots__ = ("folio", "off")

    locked = _state_flag(LOCKED)
    uptodate = _state_flag(UPTODATE)
    dirty = _state_flag(DIRTY)
    writeback = _state_flag(WRITEBACK)
    referenced = _state_flag(REFERENCED)
    active = _state_flag(ACTIVE)
    readahead = _state_flag(READAHEAD)
    """one bit with two meanings (PG_readahead, PG_reclaim): marker of the next window, or rotate when written"""
    lru = _more_flag(LRU)
    """on an LRU list; False while isolated or in the lru_add batch"""
    workingset = _more_flag(WORKINGSET)
    error = _more_flag(ERROR)
    charged = _more_flag(CHARGED)
    freed = _more_flag(FREED)
    removed_alive = _more_flag(REMOVED_ALIVE)
    """left the cache, not yet freed: counted in PageCache.nr_removed_pages"""

    def __init__(self, folio: Folio, off: int) -> None:
        self.folio = folio
        self.off = off

    def __eq__(self, other: object) -> bool:
        return other.__class__ is Page and other.folio is self.folio and other.off == self.off

    def __hash__(self) -> int:
        return hash((id(self.folio), self.off))

    @property
    def cache(self) -> PageCache:
        return self.folio.cache

    @property
    def index(self) -> int:
        """page offset in the file; stays valid after removal"""
        return self.folio.index + self.off

    @property
    def mapping(self) -> AddressSpace | None:
        """None before insertion and after removal"""
        folio = self.folio
        return None if folio.state[self.off] & OUTSIDE else folio.mapping

    @property
    def data(self) -> Buffer | None:
        """PAGE_SIZE bytes once filled; may be a reply's buffer shared with other pages, see writable()"""
        return self.folio.contents(self.off)

    @property
    def private(self) -> Any:
        """the file system's write request (PG_private); must be gone before the page may leave"""
        private = self.folio.private
        return None if private is None else private.get(self.off)

    @private.setter
    def private(self, value: Any) -> None:
        folio = self.folio
        if value is not None:
            if folio.private is None:
                folio.private = {}
            folio.private[self.off] = value
        elif folio.private is not None and folio.private.pop(self.off, None) is not None and not folio.private:
            folio.private = None

    @property
    def hook(self) -> int:
        """what the exit door did about freepage"""
        hooks = self.folio.hooks
        return HOOK_PENDING if hooks is None else hooks[self.off]

    @hook.setter
    def hook(self, value: int) -> None:
        folio = self.folio
        if folio.hooks is None:
            folio.hooks = bytearray(folio.max_nr)
        folio.hooks[self.off] = value

    # -- references --------------------------------------------------------------------------------------------

    @property
    def refcount(self) -> int:
        folio, off = self.folio, self.off
        more = folio.more[off]
        if more & FROZEN:
            return -1
        count = 1 if more & LRU_ADD else 0
        return count if folio.refs is None else count + folio.refs.get(off, 0)

    def get(self) -> None:
        """Take a reference. Rule use_after_free: the page was freed, or reclaim holds its count frozen."""
        folio, off = self.folio, self.off
        if folio.more[off] & (FREED | FROZEN):
            folio.cache.violation("use_after_free", f"reference taken on a dead page: {self.describe()}")
            return
        self.hold((0 if folio.refs is None else folio.refs.get(off, 0)) + 1)

    def hold(self, count: int) -> None:
        """Set the references beside the cache's and the lru_add batch's."""
        folio = self.folio
        refs = folio.refs
        if count:
            if refs is None:
                folio.refs = {self.off: count}
            else:
                refs[self.off] = count
        elif refs is not None and refs.pop(self.off, 0) and not refs:
            folio.refs = None

    def put(self) -> None:
        """Drop a reference taken by get(); the last one frees a page that has left the cache."""
        folio, off = self.folio, self.off
        count = 0 if folio.refs is None else folio.refs.get(off, 0)
        if count <= 0:
            folio.cache.violation("freed_with_references", f"a reference too many was dropped: {self.describe()}")
            return
        self.hold(count - 1)
        if count == 1 and folio.state[off] & OUTSIDE and not folio.more[off] & (FREED | LRU_ADD):
            folio.cache.free_page(folio, off)

    # -- lock and writeback ------------------------------------------------------------------------------------

    def trylock(self) -> bool:
        state = self.folio.state
        if state[self.off] & LOCKED:
            return False
        state[self.off] |= LOCKED
        return True

    async def lock(self) -> None:
        """Take the page lock; whoever looked the page up must then look at `mapping` again."""
        folio, off = self.folio, self.off
        if folio.cache.hooked is not None:
            folio.cache.might_sleep("lock_page")
        while folio.state[off] & LOCKED:
            await self._wait("page lock")
        folio.state[off] |= LOCKED

    def unlock(self) -> None:
        folio, off = self.folio, self.off
        assert folio.state[off] & LOCKED, f"unlock of an unlocked page: {self.describe()}"
        folio.state[off] &= ~LOCKED
        if folio.waiters is not None:
            self.wake()

    async def wait_locked(self) -> None:
        """Wait until the page is seen unlocked, without locking it."""
        folio, off = self.folio, self.off
        if folio.cache.hooked is not None:
            folio.cache.might_sleep("wait_on_page_locked")
        while folio.state[off] & LOCKED:
            await self._wait("page lock")

    async def wait_writeback(self) -> None:
        """Wait until the page is not under writeback."""
        folio, off = self.folio, self.off
        if folio.cache.hooked is not None:
            folio.cache.might_sleep("wait_on_page_writeback")
        while folio.state[off] & WRITEBACK:
            await self._wait("end of writeback")

    async def _wait(self, what: str) -> None:
        folio, off = self.folio, self.off
        if folio.waiters is None:
            folio.waiters = {}
        queue = folio.waiters.get(off)
        if queue is None:
            queue = folio.waiters[off] = WaitQueue(folio.cache.create_future)
        await queue.wait(lambda: f"{what} of {self.describe()}")

    def wake(self) -> None:
        """Whoever waits for the lock, or for the end of writeback, looks again."""
        folio = self.folio
        if folio.waiters is None:
            return
        queue = folio.waiters.pop(self.off, None)
        if not folio.waiters:
            folio.waiters = None
        if queue is not None:
            queue.wake_all()

    # -- contents ----------------------------------------------------------------------------------------------

    def fill(self, buf: Buffer) -> None:
        """Set the contents; shorter than a page is padded with zeros. A whole bytearray is taken over as our own."""
        if len(buf) != PAGE_SIZE:
            assert len(buf) < PAGE_SIZE
            own = bytearray(PAGE_SIZE)
            own[: len(buf)] = buf
            buf = own
        self.folio.set_contents(self.off, buf)

    def writable(self) -> bytearray:
        """The contents as a buffer of our own: copies a shared one, zeros for a page without contents."""
        data = self.folio.contents(self.off)
        if type(data) is not bytearray:
            data = bytearray(PAGE_SIZE) if data is None else bytearray(data)
            self.folio.set_contents(self.off, data)
        return data

    # -- the page-lifetime object ------------------------------------------------------------------------------

    @property
    def owns(self) -> bool:
        """Does the page own a page-lifetime object?"""
        folio, off = self.folio, self.off
        if folio.fill_run is not None and folio.fill_run.has(off):
            return True
        return folio.objects is not None and off in folio.objects

    @property
    def owned(self) -> SlabObject | None:
        """the page-lifetime object, released by freepage alone. One of a run becomes an object of its own when it is
        looked at: `owns` asks whether there is one"""
        folio, off = self.folio, self.off
        run = folio.fill_run
        if run is not None and run.has(off):
            self.owned = run.extract(off)
        return None if folio.objects is None else folio.objects.get(off)

    @owned.setter
    def owned(self, obj: SlabObject | None) -> None:
        folio = self.folio
        if obj is not None:
            if folio.objects is None:
                folio.objects = {}
            folio.objects[self.off] = obj
        elif folio.objects is not None and folio.objects.pop(self.off, None) is not None and not folio.objects:
            folio.objects = None

    def own(self, obj: SlabObject) -> None:
        """Attach the page-lifetime object, whose CACHED reference now belongs to the page."""
        assert not self.owns, f"page already owns {self.owned.describe() if self.owned else ''}: {self.describe()}"
        self.owned = obj

    def disown(self) -> SlabObject | None:
        """Detach and return it (what freepage calls); the caller gives its CACHED reference back."""
        obj = self.owned
        self.owned = None
        return obj

    def release(self) -> bool:
        """What freepage does with most objects: detach, and give the CACHED reference back. False: there was none.

        For an object of a run this makes no object of its own.
        """
        folio, off = self.folio, self.off
        run = folio.fill_run
        if run is not None and run.has(off):
            run.put(off, CACHED)
            return True
        if folio.objects is None:
            return False
        obj = self.disown()
        if obj is None:
            return False
        obj.put(CACHED)
        return True

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

    def __repr__(self) -> str:
        return f"<{self.describe()}>"


def new_page(cache: PageCache, index: int) -> Page:
    """A page that is in no file yet."""
    return Page(Folio(cache, index, 1), 0)
