"""How a load went, moment by moment, in columns of equal length: what a plot needs, in bounded memory."""

from __future__ import annotations

from typing import Any

from freepage_lab.columns import columns
from freepage_lab.load.latency import Latencies
from freepage_lab.load.meter import Growth
from freepage_lab.load.tally import Tally

MOST = 1200
"""Moments kept. When there are more, every two become one: a long load is told in coarser steps."""


class Timeline:
    """Counters count from when operations began; ``p50_ms`` and ``p99_ms`` are of the time since the moment before.

    A percentile is None when nothing ended meanwhile; of two moments that become one, the larger remains.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._before = Latencies()
        self._moments: list[dict[str, Any]] = []

    def add(self, elapsed_s: float, tally: Tally, growth: Growth) -> None:
        together = tally.all_operations()
        lately, self._before = together.since(self._before), together
        hits = growth.hit_percent
        self._moments.append(
            {
                "t_s": round(elapsed_s, 3),
                "operations": tally.done,
                "errors": tally.failed,
                "p50_ms": lately.percentile_s(50) * 1e3 if lately.count else None,
                "p99_ms": lately.percentile_s(99) * 1e3 if lately.count else None,
                "read_bytes": tally.read_bytes,
                "written_bytes": tally.written_bytes,
                "rpcs": growth.total("rpcs"),
                "hit_percent": None if hits is None else round(hits, 2),
                "orphans": growth.total("orphaned"),
            }
        )
        if len(self._moments) > self._most:
            self._moments = [_both(*self._moments[i : i + 2]) for i in range(0, len(self._moments), 2)]

    def to_json(self) -> dict[str, list[Any]]:
        return columns(self._moments)


def _both(first: dict[str, Any], second: dict[str, Any] | None = None) -> dict[str, Any]:
    if second is None:
        return first
    percentiles = {
        name: max((p for p in (first[name], second[name]) if p is not None), default=None)
        for name in ("p50_ms", "p99_ms")
    }
    return second | percentiles
