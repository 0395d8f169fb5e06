"""The decision at the heart of Linux's reclaim, with nothing around it: two lists, a referenced bit, two touches.

A key comes in at the head of the inactive list. Its first touch there sets the referenced bit, the second moves it to
the head of the active list. Whoever needs room takes the inactive tail; when the inactive list has become the shorter
one, the active tail goes to the inactive head first (mm/swap.c:folio_mark_accessed, mm/vmscan.c:shrink_lruvec).

What the model in `freepage` adds: batches, scan sizes by priority, refault distances, dirty and locked pages.
"""

from __future__ import annotations

from collections import deque


class TwoList(dict[int, bool]):
    """A cache of ``capacity`` keys. One request for a key is ``key in cache or cache.touch(key)``: was it there?

    The dictionary itself has the keys of the active list, where a touch decides nothing.
    """

    __slots__ = ("_active_order", "_gone", "_inactive_order", "inactive", "lead", "room")

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.room = capacity
        """keys that can still come in without another's going"""
        self.inactive: dict[int, bool] = {}
        """key -> referenced"""
        self.lead = 0
        """by how many keys the active list is the longer one"""
        self._active_order: deque[int] = deque()
        """tail first, as the other one: popping the first key of a dictionary looks at all that were there before it"""
        self._inactive_order: deque[int] = deque()
        """with places that keys left for the active list"""
        self._gone: dict[int, int] = {}
        """key -> number of such places, which are its oldest ones"""

    def touch(self, key: int) -> bool:
        """A request for a key that is not on the active list. Brings it in if it is nowhere."""
        inactive = self.inactive
        if key in inactive:
            if inactive[key]:
                del inactive[key]
                self._gone[key] = self._gone.get(key, 0) + 1
                self[key] = True
                self._active_order.append(key)
                self.lead += 2
            else:
                inactive[key] = True
            return True
        order = self._inactive_order
        if self.room:
            self.room -= 1
            self.lead -= 1
        else:
            if self.lead > 0:
                self.lead -= 2
                demoted = self._active_order.popleft()
                del self[demoted]
                inactive[demoted] = False
                order.append(demoted)
            oldest = order.popleft()
            while oldest in self._gone:
                places = self._gone.pop(oldest)
                if places > 1:
                    self._gone[oldest] = places - 1
                oldest = order.popleft()
            del inactive[oldest]
        inactive[key] = False
        order.append(key)
        return False
