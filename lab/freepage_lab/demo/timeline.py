"""How the demo went, moment by moment, in columns of equal length: what a plot needs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from freepage_lab.columns import columns
from freepage_lab.demo.phases import REQUESTS, Figures
from freepage_runtime.control_client import Stats


class Timeline:
    """The clients together. ``t_s`` counts from the first moment; what left is counted from the phase's beginning."""

    def __init__(self) -> None:
        self._began_s: float | None = None
        self._moments: list[dict[str, Any]] = []

    def add(self, phase: str, figures: Figures, clients: Sequence[Stats]) -> None:
        now_s = time.monotonic()
        if self._began_s is None:
            self._began_s = now_s
        self._moments.append(
            {
                "t_s": round(now_s - self._began_s, 3),
                "phase": phase,
                "removed": sum(figures.removed.values()),
                "hook_calls": sum(figures.hook_calls.values()),
                "orphaned_requests": figures.orphaned.get(REQUESTS, 0),
                "cached_pages": sum(stats.cached_pages for stats in clients),
            }
        )

    def to_json(self) -> dict[str, list[Any]]:
        return columns(self._moments)
