"""What a bench is, and the row of figures that it gives.

A bench measures two sides in turn, *ours* and *beside*, and each returns a cost in the row's unit: nanoseconds a read,
bytes a page, always "less is better". ``beside`` is what a peer costs, or a limit. So every row reads the same way:
``ratio = beside / ours``, more is better, and ``floor`` is the least that we promise.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any

ROUNDS = 11
"""Interleaved rounds of each row, unless told otherwise."""


class CannotRun(Exception):
    """The bench needs something that is not here; the message says what. It is not counted."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure. ``tiny`` is for tests: it runs everything and its figures mean nothing.

    ``cores`` are the processors for this process and for the other one, if there is one; empty where they cannot be
    chosen. The same one twice on a machine with a single processor.
    """

    rounds: int = ROUNDS
    tiny: bool = False
    cores: tuple[int, ...] = ()

    def size(self, full: int, tiny: int) -> int:
        """``full``, or ``tiny`` in a test."""
        return tiny if self.tiny else full


@dataclass(frozen=True, slots=True)
class Sides:
    """Each call is one round, and returns its cost. ``beside`` None: the row's limit is what we are held to."""

    ours: Callable[[], float]
    beside: Callable[[], float] | None = None


NOTHING_ASKED = 0.0
"""floor of a row that is there to be known"""


@dataclass(frozen=True, slots=True)
class Bench:
    """One row to be. ``allowed`` multiplies what the peer costs: 5 for "within five times", with a floor of 1.

    ``limit`` is a fixed upper bound in the row's unit, for benches without a peer. ``huge_pages``: the allocator asks
    for them, as in the daemons that we start; without, memory fresh from the system comes in pages of 4 KiB.
    """

    group: str
    name: str
    peer: str
    unit: str
    floor: float
    open: Callable[[Plan], AbstractContextManager[Sides]]
    allowed: float = 1.0
    limit: float | None = None
    huge_pages: bool = True

    @property
    def title(self) -> str:
        return f"{self.group}: {self.name}"


@dataclass(frozen=True, slots=True)
class Row:
    """The figures of one bench: medians of the rounds' costs, and of their ratios.

    ``ratio`` is not the quotient of the other two: a machine that goes slower from the third of seven rounds on would
    show one side's median from before and the other's from after. ``spread`` is half the interquartile range of the
    rounds' ratios, as a part of their median.
    """

    group: str
    name: str
    ours: float
    beside: float
    peer: str
    unit: str
    ratio: float
    floor: float
    ok: bool
    spread: float
    rounds: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def make_row(bench: Bench, ours: Sequence[float], beside: Sequence[float]) -> Row:
    """The row of some rounds' costs; ``beside`` comes as it was measured, before what is allowed."""
    limit = bench.limit
    # A cost of nothing, or less than nothing where a difference is measured, is at the clock's resolution.
    least = 1e-9 if limit is None else limit / 1000
    costs = [max(cost, least) for cost in ours]
    peers = [limit] * len(costs) if limit is not None else [cost * bench.allowed for cost in beside]
    ratios = [peer / cost for peer, cost in zip(peers, costs, strict=True)]
    ratio = statistics.median(ratios)
    return Row(
        bench.group,
        bench.name,
        statistics.median(ours),
        statistics.median(peers),
        bench.peer,
        bench.unit,
        ratio,
        bench.floor,
        ratio >= bench.floor,
        _spread(ratios),
        len(costs),
    )


def _spread(ratios: Sequence[float]) -> float:
    if len(ratios) < 2:
        return 0.0
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return (high - low) / 2 / middle if middle else 0.0
