"""A bounded memory that many share fairly: when it is full, whoever has most in it gives up his oldest.

So nobody can push out more of another's than what is above an equal share, whatever he sends. Every operation takes
the same time, however many they are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
W = TypeVar("W", bound=Hashable)


class FairMap(Generic[W, K, V]):
    """Values by key, at most ``room`` of them, each put there by an owner.

    **Invariants.** ``_entries`` has what was put first at its beginning, and so has each owner's part in ``_of``, whose
    keys are those of ``_entries``. An owner stands in ``_having[n]`` when he has n > 0; ``_most`` is the largest n.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        # A plain dict would look for its first key among all that were deleted before it.
        self._entries: OrderedDict[K, tuple[W, V]] = OrderedDict()
        self._of: dict[W, OrderedDict[K, None]] = {}
        self._having: dict[int, OrderedDict[W, None]] = {}
        self._most = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        entry = self._entries.get(key)
        return None if entry is None else entry[1]

    def count(self, owner: W) -> int:
        """How many are this owner's."""
        return len(self._of.get(owner, ()))

    def put(self, owner: W, key: K, value: V) -> None:
        """Now the youngest, in the place of what had that key. Makes room if need be."""
        self.pop(key)
        own = self._of.get(owner)
        if len(self._entries) >= self._room and own is not None and len(own) == self._most:
            # The most common case by far: he gives up one of his own, and nobody has more or less than before.
            oldest, _ = own.popitem(last=False)
            del self._entries[oldest]
            self._entries[key] = owner, value
            own[key] = None
            return
        self._entries[key] = owner, value
        self._of.setdefault(owner, OrderedDict())[key] = None
        self._moved(owner, +1)
        if len(self._entries) > self._room:
            largest = next(iter(self._having[self._most]))
            self.pop(next(iter(self._of[largest])))

    def oldest(self) -> tuple[K, V] | None:
        """What was put first, of all owners'."""
        for key, (_, value) in self._entries.items():
            return key, value
        return None

    def pop(self, key: K) -> None:
        """Forget it, if it is there."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            owner = entry[0]
            del self._of[owner][key]
            self._moved(owner, -1)

    def _moved(self, owner: W, step: int) -> None:
        """The owner has one more, or one less, than before."""
        count = len(self._of[owner])
        before = self._having.get(count - step)
        if before is not None:
            before.pop(owner, None)
            if not before:
                del self._having[count - step]
        if count:
            self._having.setdefault(count, OrderedDict())[owner] = None
        else:
            del self._of[owner]
        if step > 0:
            self._most = max(self._most, count)
        elif self._most and self._most not in self._having:
            self._most -= 1
