"""Each device's share of recently completed writeback (lib/flex_proportions.c, lib/percpu_counter.c; one CPU).

The counts are halved every period. They are per-CPU counters, whose visible part moves only in batches: a device that
completed fewer than eight pages since its last fold has, for whoever reads its share, completed none. That decides when
a little dirty data is flushed, so it is kept here.
"""

from __future__ import annotations

GLOBAL_BATCH = 32
"""percpu_counter_batch: at least 32."""
LOCAL_BATCH = 8
"""PROP_BATCH on one CPU."""


class PercpuCounter:
    """A counter of which `visible` is read cheaply; `pending` is folded into it when it reaches the batch."""

    __slots__ = ("batch", "pending", "visible")

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.visible = 0
        self.pending = 0

    def add(self, amount: int) -> None:
        self.pending += amount
        if abs(self.pending) >= self.batch:
            self.visible += self.pending
            self.pending = 0

    def read_positive(self) -> int:
        return max(self.visible, 0)

    def sum(self) -> int:
        return self.visible + self.pending


class GlobalProportion:
    """All events of the current period and, by halves, of those before (struct fprop_global)."""

    __slots__ = ("events", "period")

    def __init__(self) -> None:
        self.events = PercpuCounter(GLOBAL_BATCH)
        self.events.visible = 1  # fprop_global_init: no period is without events
        self.period = 0

    def new_period(self) -> bool:
        """Halve the events; False when there is nothing left to age (fprop_new_period)."""
        events = self.events.sum()
        if events <= 1:
            return False
        self.events.add((events >> 1) - events)
        self.period += 1
        return True


class LocalProportion:
    """One device's part of them (struct fprop_local_percpu)."""

    __slots__ = ("events", "period")

    def __init__(self) -> None:
        self.events = PercpuCounter(LOCAL_BATCH)
        self.period = 0

    def _reflect_period(self, whole: GlobalProportion) -> None:
        periods = whole.period - self.period
        if not periods:
            return
        if periods < 64:
            value = self.events.visible
            if value < LOCAL_BATCH:
                value = self.events.sum()
            self.events.add(-value + (value >> periods))
        else:
            self.events = PercpuCounter(LOCAL_BATCH)
        self.period = whole.period

    def add(self, whole: GlobalProportion, events: int) -> None:
        """Count events here and in the whole (__fprop_add_percpu)."""
        self._reflect_period(whole)
        self.events.add(events)
        whole.events.add(events)

    def fraction(self, whole: GlobalProportion) -> tuple[int, int]:
        """(numerator, denominator) of this part's share; at most 1 (fprop_fraction_percpu)."""
        self._reflect_period(whole)
        numerator = self.events.read_positive()
        denominator = whole.events.read_positive()
        if denominator <= numerator:
            denominator = numerator or 1
        return numerator, denominator
