"""Slab caches, and the ledger that knows where every object belongs.

Each live object is, at any moment, exactly one of: *in use* (an RPC, an open file or unwritten data holds it), *cached*
(its page is in the cache) or *orphaned* (its page left the cache and nobody will release it). An object may be held by
many; in use wins over cached, cached over orphaned. What an object refers to follows its state: when a request is
orphaned, its reference on the credential becomes an orphan's reference. Each such step costs one move per edge.

Orphaned is the leak. The ledger knows it in O(1) at the exit door; `audit` finds it again by mark and sweep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, ClassVar, Self

from .policy import RemovalPath

if TYPE_CHECKING:
    from .address_space import AddressSpace
    from .audit import AuditReport
    from .slab_run import SlabRun


class ObjectState(IntEnum):
    """Who holds an object, strongest first."""

    IN_USE = 0
    CACHED = 1
    ORPHANED = 2

    @property
    def label(self) -> str:
        """The value of the metrics' `state` label."""
        return self.name.lower()


IN_USE = ObjectState.IN_USE
CACHED = ObjectState.CACHED
ORPHANED = ObjectState.ORPHANED
_STATES = (IN_USE, CACHED, ORPHANED)


class SlabAccount:
    """The integers of one (slab cache, use): live objects by state, allocations, frees."""

    __slots__ = ("allocs", "cache", "frees", "live", "use")

    def __init__(self, cache: SlabCache, use: str) -> None:
        self.cache = cache
        self.use = use
        self.live = [0, 0, 0]
        """indexed by ObjectState"""
        self.allocs = 0
        self.frees = 0

    @property
    def active(self) -> int:
        """Live objects, whatever their state."""
        return self.allocs - self.frees


class SlabCache:
    """One named cache of equal objects, as a line of /proc/slabinfo."""

    __slots__ = ("ledger", "name", "objects", "objsize", "pinned", "runs", "uses")

    def __init__(self, ledger: Ledger, name: str, objsize: int) -> None:
        self.ledger = ledger
        self.name = name
        self.objsize = objsize
        self.pinned = 0
        """references that orphaned objects hold on live objects of this cache"""
        self.uses: dict[str, SlabAccount] = {}
        self.objects: dict[SlabObject, None] = {}
        """every live object, in order of birth: what the sweep of the audit walks"""
        self.runs: dict[SlabRun, None] = {}
        """and the live objects that are stored together"""

    def account(self, use: str) -> SlabAccount:
        account = self.uses.get(use)
        if account is None:
            account = self.uses[use] = SlabAccount(self, use)
        return account

    def live(self, state: ObjectState) -> int:
        """Live objects in `state`, over all uses."""
        return sum(account.live[state] for account in self.uses.values())

    @property
    def active(self) -> int:
        """Live objects (active_objs of slabinfo)."""
        return sum(account.active for account in self.uses.values())


class SlabObject:
    """Base class of every accounted object.

    Born with one reference, which `holder` owns. `site` is the operation that allocated it ("read", "readdir", ...).
    Subclasses set the class attributes and may override `on_free` and `describe`.
    """

    __slots__ = ("_account", "_cached", "_held", "_in_use", "_orphaned", "born_s", "site")

    slab_name: ClassVar[str] = "kmalloc"
    use: ClassVar[str] = ""
    objsize: ClassVar[int] = 64

    def __init__(self, ledger: Ledger, holder: ObjectState = IN_USE, site: str = "") -> None:
        account = ledger.account_of(type(self))
        self._account = account
        self._in_use = self._cached = self._orphaned = 0
        if holder is CACHED:
            self._cached = 1
        elif holder is IN_USE:
            self._in_use = 1
        else:
            self._orphaned = 1
        self._held: list[SlabObject] | None = None
        self.site = site
        self.born_s = ledger.now()
        account.allocs += 1
        account.live[holder] += 1
        account.cache.objects[self] = None

    @classmethod
    def from_run(cls, run: SlabRun, holder: ObjectState) -> Self:
        """An object of a run, on its own from now on: the same object, so nothing is counted."""
        obj = cls.__new__(cls)
        obj._account = run.account
        obj._in_use = obj._cached = obj._orphaned = 0
        obj._change(holder, 1)
        obj._held = list(run.held)
        obj.site = run.site
        obj.born_s = run.born_s
        obj._account.cache.objects[obj] = None
        return obj

    # -- state ----------------------------------------------------------------------------------------------

    @property
    def ledger(self) -> Ledger:
        return self._account.cache.ledger

    @property
    def alive(self) -> bool:
        return bool(self._in_use or self._cached or self._orphaned)

    @property
    def state(self) -> ObjectState:
        """In use over cached over orphaned. Of a freed object: orphaned, and `alive` is False."""
        if self._in_use:
            return IN_USE
        return CACHED if self._cached else ORPHANED

    @property
    def held(self) -> Sequence[SlabObject]:
        """What this object refers to."""
        return self._held or ()

    @property
    def references(self) -> tuple[int, int, int]:
        """References by holder: (in use, cached, orphaned)."""
        return self._in_use, self._cached, self._orphaned

    # -- references --------------------------------------------------------------------------------------------

    def get(self, holder: ObjectState = IN_USE, n: int = 1) -> None:
        """`n` more references, held by `holder`. Rule use_after_free."""
        # Most references change nobody's state: those two lines are the common case.
        if holder is CACHED and (self._cached or self._in_use):
            self._cached += n
            return
        if holder is IN_USE and self._in_use:
            self._in_use += n
            return
        if not (self._in_use or self._cached or self._orphaned):
            self.ledger.violation("use_after_free", f"reference taken on freed {self.describe()}")
            return
        before = self.state
        self._change(holder, n)
        after = self.state
        if after != before:
            self._moved(before, after)

    def put(self, holder: ObjectState = IN_USE) -> None:
        """Give back a reference of `holder`. The last one frees the object, then gives back what it held.

        Rule double_free: the reference was not there to give back.
        """
        if holder is CACHED:
            count = self._cached
            if count > 1 or (count and self._in_use):
                self._cached = count - 1
                return
        elif holder is IN_USE:
            count = self._in_use
            if count > 1:
                self._in_use = count - 1
                return
        else:
            count = self._orphaned
        if count == 0:
            freed = "" if self.alive else "freed "
            self.ledger.violation("double_free", f"no {holder.label} reference left on {freed}{self.describe()}")
            return
        before = self.state
        self._change(holder, -1)
        if not (self._in_use or self._cached or self._orphaned):
            self._free(before)
            return
        after = self.state
        if after != before:
            self._moved(before, after)

    def hold(self, other: SlabObject) -> None:
        """This object now refers to `other`, with a reference that follows every change of its own state."""
        state = self.state
        if self._held is None:
            self._held = [other]
        else:
            self._held.append(other)
        other.get(state)
        if state == ORPHANED:
            other._account.cache.pinned += 1

    def drop(self, other: SlabObject) -> None:
        """This object refers to `other` no longer (gives the reference back)."""
        assert self._held is not None and other in self._held, f"{self.describe()} does not hold {other.describe()}"
        self._held.remove(other)
        state = self.state
        if state == ORPHANED:
            other._account.cache.pinned -= 1
        other.put(state)

    def _change(self, holder: ObjectState, by: int) -> None:
        if holder is CACHED:
            self._cached += by
        elif holder is IN_USE:
            self._in_use += by
        else:
            self._orphaned += by

    def shift(self, old: ObjectState, new: ObjectState, n: int = 1) -> None:
        """`n` references change their holder's state."""
        before = self.state
        self._change(old, -n)
        self._change(new, n)
        after = self.state
        if after != before:
            self._moved(before, after)

    def _moved(self, before: ObjectState, after: ObjectState) -> None:
        live = self._account.live
        live[before] -= 1
        live[after] += 1
        held = self._held
        if held:
            for other in held:
                if after == ORPHANED:
                    other._account.cache.pinned += 1
                elif before == ORPHANED:
                    other._account.cache.pinned -= 1
                other.shift(before, after)

    def _free(self, state: ObjectState) -> None:
        account = self._account
        account.frees += 1
        account.live[state] -= 1
        del account.cache.objects[self]
        ledger = self.ledger
        if ledger.orphan_records:
            ledger.orphan_records.pop(self, None)
        self.on_free()
        held, self._held = self._held, None
        if held:
            for other in held:
                if state == ORPHANED:
                    other._account.cache.pinned -= 1
                other.put(state)

    def on_free(self) -> None:
        """Called once, when the last reference is gone and before what it held is given back."""

    def describe(self) -> str:
        """One phrase for the audit and for stories."""
        return f"{self.slab_name}{f' ({self.use})' if self.use else ''} allocated by {self.site or 'unknown'}"


@dataclass(slots=True)
class OrphanRecord:
    """How an object was lost. `age_s` counts from its birth, `lost_s` is the time of the loss."""

    obj: SlabObject
    file: str
    index: int
    path: RemovalPath
    function: str
    lost_s: float
    references: int = 1
    """references lost this way: more than one where pages shared the object"""

    @property
    def slab(self) -> str:
        return self.obj.slab_name

    @property
    def use(self) -> str:
        return self.obj.use

    @property
    def site(self) -> str:
        return self.obj.site

    @property
    def age_s(self) -> float:
        return self.obj.ledger.now() - self.obj.born_s


class Ledger:
    """All slab caches of one machine. `now` returns seconds; it is only subtracted."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.caches: dict[str, SlabCache] = {}
        self.orphan_records: dict[SlabObject, OrphanRecord] = {}
        self.lost = dict.fromkeys(RemovalPath, 0)
        """pages that left an object behind, by the path they left on; only grows"""
        self.on_violation: Callable[[str, str], None] | None = None
        """set by the page cache that this ledger belongs to: (rule, story)"""
        self._accounts: dict[type[SlabObject], SlabAccount] = {}
        self._born_s = 0.0

    def birth_s(self) -> float:
        """Now, for a run of objects; runs born within a millisecond share one number, as nobody tells them apart."""
        now = self.now()
        if not 0 <= now - self._born_s < 0.001:
            self._born_s = now
        return self._born_s

    def register(self, name: str, objsize: int, uses: Iterable[str] = ()) -> SlabCache:
        """Make the cache known (with its uses), so that it is exported with zeros while empty."""
        cache = self.caches.get(name)
        if cache is None:
            cache = self.caches[name] = SlabCache(self, name, objsize)
        for use in uses:
            cache.account(use)
        return cache

    def account_of(self, kind: type[SlabObject]) -> SlabAccount:
        account = self._accounts.get(kind)
        if account is None:
            account = self.register(kind.slab_name, kind.objsize).account(kind.use)
            self._accounts[kind] = account
        return account

    def counts(self) -> Iterator[tuple[str, str, ObjectState, int]]:
        """(slab, use, state, live objects), zeros included."""
        for cache in self.caches.values():
            for account in cache.uses.values():
                for state in _STATES:
                    yield cache.name, account.use, state, account.live[state]

    def live(self, slab: str, state: ObjectState | None = None, use: str | None = None) -> int:
        """Live objects of a slab cache, of one state and one use or of all. 0 for a cache that nobody registered."""
        cache = self.caches.get(slab)
        if cache is None:
            return 0
        accounts = cache.uses.values() if use is None else [cache.account(use)]
        return sum(sum(each.live) if state is None else each.live[state] for each in accounts)

    def orphaned(self) -> dict[str, int]:
        """Orphaned objects by slab cache."""
        return {cache.name: cache.live(ORPHANED) for cache in self.caches.values()}

    def pinned(self) -> dict[str, int]:
        """References that orphans hold, by the slab cache of what they hold."""
        return {cache.name: cache.pinned for cache in self.caches.values()}

    def orphan(self, obj: SlabObject, *, file: str, index: int, path: RemovalPath, function: str) -> None:
        """The page that owned `obj` left the cache and nobody will release it. Called by the exit door only."""
        record = self.orphan_records.get(obj)
        if record is None:
            self.orphan_records[obj] = OrphanRecord(obj, file, index, path, function, self.now())
        else:
            record.references += 1
        self.lost[path] += 1
        obj.shift(CACHED, ORPHANED)

    def orphans(self) -> Iterator[OrphanRecord]:
        """The objects lost at the exit door that nothing else keeps alive, in the order of the loss."""
        for record in self.orphan_records.values():
            if record.obj.state == ORPHANED:
                yield record

    def audit(self, roots_in_use: Iterable[SlabObject | SlabRun], mappings: Iterable[AddressSpace]) -> AuditReport:
        """Mark from the roots, sweep all live objects, and compare with the ledger's own opinion."""
        from .audit import audit

        return audit(self, roots_in_use, mappings)

    def violation(self, rule: str, story: str) -> None:
        """Report a broken rule to the cache; without one, raise it."""
        if self.on_violation is None:
            from .errors import RuleViolation

            raise RuleViolation(rule, story)
        self.on_violation(rule, story)
