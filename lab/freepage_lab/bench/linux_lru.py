"""Which pages Linux's reclaim keeps, decision by decision as `freepage` makes it, with nothing stored: keys, two lists
and a limit. A trace of reads of single pages is all it can follow; nothing is dirty, locked, mapped or truncated.

What it adds to `TwoList`: keys wait in batches of 15 before they reach a list; a call of reclaim scans list >> priority
of both lists, and frees 57 keys of 4058; whoever comes back soon after its eviction is activated at once (mm/vmscan.c,
mm/swap.c and mm/workingset.c of Linux 6.1). The tests hold it to the page cache itself.
"""

from __future__ import annotations

from collections import deque
from itertools import islice

from freepage.swap import PAGEVEC_SIZE, SWAP_CLUSTER_MAX
from freepage.vmscan import DEF_PRIORITY, inactive_is_low

REFERENCED, ACTIVE = 1, 2


class LinuxLru(dict[int, int]):
    """A group of ``capacity`` pages. One read of a page is ``key in cache or cache.touch(key)``: was it there?

    The dictionary itself has the keys about which another touch changes nothing: active and referenced ones.
    """

    __slots__ = (
        "_activate",
        "_active",
        "_cool",
        "_gone",
        "_inactive",
        "_lru_add",
        "_shadows",
        "_snapshot",
        "activations",
        "capacity",
        "evictions",
        "nonresident_age",
        "nr_active",
        "nr_inactive",
        "room",
    )

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity
        self.room = capacity
        """keys that can still come in without another's going"""
        self._cool: dict[int, int] = {}
        """the other keys that are there -> their flags"""
        self._shadows: dict[int, int] = {}
        """key that went -> nonresident_age of that moment"""
        self._lru_add: list[int] = []
        self._activate: list[int] = []
        self._active: deque[int] = deque()
        """tail first, as the inactive list, which also has places that keys left for the active one"""
        self._inactive: deque[int] = deque()
        self._gone: dict[int, int] = {}
        """key -> number of such places, which are its oldest ones"""
        self.nr_active = self.nr_inactive = 0
        """keys on the lists; those in the batch of new ones are on none"""
        self.nonresident_age = 0
        self.evictions = 0
        self.activations = 0
        """by refault (workingset_activate_file)"""
        self._snapshot = 0

    def touch(self, key: int) -> bool:
        """folio_mark_accessed of any other key; a new one is charged and queued before."""
        cool = self._cool
        flags = cool.get(key)
        if flags is None:
            if not self.room:
                self._try_to_free_pages()
            self.room -= 1
            shadow = self._shadows.pop(key, None)
            if shadow is None or self.nonresident_age - shadow > self.nr_active:
                cool[key] = REFERENCED
            else:  # workingset_refault
                self.nonresident_age += 1
                self.activations += 1
                self[key] = REFERENCED | ACTIVE
            batch = self._lru_add
            batch.append(key)
            if len(batch) == PAGEVEC_SIZE:
                self._drain_lru_add()
            return False
        if flags & REFERENCED:
            self.nonresident_age += 1
            if key in self._lru_add:
                cool[key] = flags & ~REFERENCED | ACTIVE
            else:
                cool[key] = flags & ~REFERENCED
                self._activate.append(key)
                if len(self._activate) == PAGEVEC_SIZE:
                    self._drain_activate()
        elif flags & ACTIVE:
            del cool[key]
            self[key] = flags | REFERENCED
        else:
            cool[key] = flags | REFERENCED
        return True

    # -- batches -------------------------------------------------------------------------------------------------

    def _drain_lru_add(self) -> None:
        cool = self._cool
        for key in self._lru_add:
            if key in self or cool[key] & ACTIVE:
                self._active.append(key)
                self.nr_active += 1
            else:
                self._inactive.append(key)
                self.nr_inactive += 1
        self._lru_add.clear()

    def _drain_activate(self) -> None:
        cool = self._cool
        for key in self._activate:
            flags = cool.get(key, ACTIVE)
            if flags & ACTIVE:
                continue  # it is in the batch twice
            if flags & REFERENCED:
                del cool[key]
                self[key] = flags | ACTIVE
            else:
                cool[key] = flags | ACTIVE
            self._gone[key] = self._gone.get(key, 0) + 1
            self._active.append(key)
            self.nr_inactive -= 1
            self.nr_active += 1
        self._activate.clear()

    # -- reclaim -------------------------------------------------------------------------------------------------

    def _try_to_free_pages(self) -> None:
        """What a charge does at the limit: priority 12 to 0 until 32 keys have gone. MemoryError: none can go."""
        before = self.evictions
        for priority in range(DEF_PRIORITY, -1, -1):
            self._shrink_lruvec(priority)
            if self.evictions - before >= SWAP_CLUSTER_MAX:
                break
        self._snapshot = self.activations
        if self.evictions == before:
            raise MemoryError(f"no key of {self.capacity} can go: they are fewer than wait in batches")

    def _shrink_lruvec(self, priority: int) -> None:
        may_deactivate = self.activations != self._snapshot or inactive_is_low(self.nr_inactive, self.nr_active)
        inactive = self.nr_inactive >> priority
        active = self.nr_active >> priority if may_deactivate else 0
        before = self.evictions
        while inactive or active:
            if inactive:
                n = min(inactive, SWAP_CLUSTER_MAX)
                inactive -= n
                self._shrink_inactive_list(n)
            if active:
                n = min(active, SWAP_CLUSTER_MAX)
                active -= n
                self._shrink_active_list(n)
            if self.evictions - before >= SWAP_CLUSTER_MAX:
                break

    def _shrink_inactive_list(self, n: int) -> None:
        """The oldest `n` go, referenced or not, and leave their shadows."""
        self._drain_lru_add()
        self._drain_activate()
        order, gone, cool, shadows = self._inactive, self._gone, self._cool, self._shadows
        n = min(n, self.nr_inactive)
        for age in range(self.nonresident_age, self.nonresident_age + n):
            key = order.popleft()
            while key in gone:
                places = gone.pop(key)
                if places > 1:
                    gone[key] = places - 1
                key = order.popleft()
            del cool[key]
            shadows[key] = age
        self.nonresident_age += n
        self.nr_inactive -= n
        self.evictions += n
        self.room += n

    def _shrink_active_list(self, n: int) -> None:
        """The oldest `n` go to the head of the inactive list. The referenced bit is left as it is."""
        self._drain_lru_add()
        self._drain_activate()
        order, cool = self._active, self._cool
        moved = list(islice(order, n))
        for key in moved:
            order.popleft()
            flags = self.pop(key) if key in self else cool[key]
            cool[key] = flags & ~ACTIVE
        self._inactive.extend(moved)
        self.nr_active -= n
        self.nr_inactive += n
