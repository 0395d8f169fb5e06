"""Counts of how long things took, as plain integers: what a Prometheus histogram shows, without its price.

A labelled Prometheus observation costs some microseconds; this one costs a bisection and an addition, and the
collector turns it into a metric only when somebody scrapes.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate

LATENCY_BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Upper bounds in seconds, from half a loopback call to a server that swaps."""


class LatencyHistogram:
    """``counts[i]`` observations were at most ``LATENCY_BOUNDS_S[i]`` seconds (and more than the bound before)."""

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(LATENCY_BOUNDS_S) + 1)
        """the last one is beyond all bounds"""
        self.sum_s = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(LATENCY_BOUNDS_S, seconds)] += 1
        self.sum_s += seconds

    @property
    def total(self) -> int:
        """How many observations there were."""
        return sum(self.counts)

    def buckets(self) -> list[tuple[str, float]]:
        """(upper bound as Prometheus writes it, observations up to it), the last bound being ``+Inf``."""
        bounds = [*map(str, LATENCY_BOUNDS_S), "+Inf"]
        return list(zip(bounds, map(float, accumulate(self.counts)), strict=True))
