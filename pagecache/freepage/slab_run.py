"""Many equal objects in one: the requests that one READ made for neighbouring pages.

Each object of a run is born, moves from in use to cached and is freed by itself, and every count and every reference
on what it holds is the same as if it stood alone. What it cannot do as part of a run (be referred to twice, be
orphaned, be looked at by somebody) it does as an object of its own: `extract` takes it out, and the run goes on
without it.
"""

from __future__ import annotations

from collections.abc import Sequence

from .slab import IN_USE, Ledger, ObjectState, SlabObject


class SlabRun:
    """`n` objects of one kind with one reference each, all allocated now, by `site`, holding the same object."""

    __slots__ = ("account", "born_s", "holds", "kind", "live", "site", "states")

    def __init__(
        self,
        ledger: Ledger,
        kind: type[SlabObject],
        n: int,
        holds: SlabObject | None = None,
        holder: ObjectState = IN_USE,
        site: str = "",
    ) -> None:
        account = ledger.account_of(kind)
        self.account = account
        self.kind = kind
        self.holds = holds
        """what each object refers to; one field and no tuple, because the garbage collector would walk it too"""
        self.site = site
        self.born_s = ledger.birth_s()
        self.live = n
        """objects not freed and not extracted"""
        self.states = bytearray((holder + 1,)) * n
        """0: freed or extracted; else 1 + the state of whoever holds the object"""
        account.allocs += n
        account.live[holder] += n
        account.cache.runs[self] = None
        if holds is not None:
            holds.get(holder, n)

    @property
    def held(self) -> Sequence[SlabObject]:
        """What each object refers to."""
        return () if self.holds is None else (self.holds,)

    def has(self, i: int) -> bool:
        return i < len(self.states) and self.states[i] != 0

    def count(self, state: ObjectState) -> int:
        """Objects in `state`."""
        return self.states.count(state + 1)

    def move(self, start: int, stop: int, old: ObjectState, new: ObjectState) -> None:
        """Each of objects [start, stop) changes its holder."""
        states, n = self.states, stop - start
        assert states.count(old + 1, start, stop) == n, f"not all are {old.label}: {self.describe()}"
        states[start:stop] = bytes((new + 1,)) * n
        live = self.account.live
        live[old] -= n
        live[new] += n
        if self.holds is not None:
            self.holds.shift(old, new, n)

    def put(self, i: int, holder: ObjectState) -> None:
        """Free object `i`, giving its one reference back. Rule double_free: it was not there to give back."""
        if self.states[i] != holder + 1:
            story = f"no {holder.label} reference left on object {i} of {self.describe()}"
            self.account.cache.ledger.violation("double_free", story)
            return
        self.states[i] = 0
        account = self.account
        account.frees += 1
        account.live[holder] -= 1
        if self.holds is not None:
            self.holds.put(holder)
        self.live -= 1
        if not self.live:
            del account.cache.runs[self]

    def extract(self, i: int) -> SlabObject:
        """Object `i`, as an object of its own from now on. Nothing is allocated or freed, no state changes."""
        holder = ObjectState(self.states[i] - 1)
        obj = self.kind.from_run(self, holder)
        self.states[i] = 0
        self.live -= 1
        if not self.live:
            del self.account.cache.runs[self]
        return obj

    def describe(self) -> str:
        return f"{self.kind.slab_name} ({self.kind.use}) allocated by {self.site or 'unknown'}, {self.live} in a run"
