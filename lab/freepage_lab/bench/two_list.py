"""The decision at the heart of Linux's reclaim, with nothing around it: two lists, a referenced bit, two touches.

A key comes in at the head of the inactive list. Its first touch there sets the referenced bit, the second moves it to
the head of the active list. Whoever needs room takes the inactive tail; when the inactive list has become the shorter
one, the active tail goes to the inactive head first (mm/swap.c:folio_mark_accessed, mm/vmscan.c:shrink_lruvec).

What the model in `freepage` adds: batches, scan sizes by priority, refault distances, dirty and locked pages.
"""

from __future__ import annotations

from collections import OrderedDict


class TwoList:
    """A cache of ``capacity`` keys."""

    __slots__ = ("active", "inactive", "room")

    def __init__(self, capacity: int) -> None:
        self.room = capacity
        """keys that can still come in without another's going"""
        self.inactive: OrderedDict[int, bool] = OrderedDict()
        """key -> referenced; the first one is the tail"""
        self.active: OrderedDict[int, None] = OrderedDict()

    def access(self, key: int) -> bool:
        """Touch a key, and bring it in if it is not there. Was it?"""
        if key in self.active:
            return True
        inactive = self.inactive
        referenced = inactive.get(key)
        if referenced is None:
            if self.room:
                self.room -= 1
            else:
                active = self.active
                if len(inactive) < len(active):
                    inactive[active.popitem(False)[0]] = False
                inactive.popitem(False)
            inactive[key] = False
            return False
        if referenced:
            del inactive[key]
            self.active[key] = None
        else:
            inactive[key] = True
        return True
