"""Interleaved rounds on a chosen processor.

The machine's mood changes from second to second: its clock rate, its other tenants. So the two sides take turns, each
goes first every other time, and what counts is the median of the rounds' ratios. Costs of work in one thread are
processor time: what the scheduler gives to others meanwhile is nobody's cost.
"""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Callable

from freepage_lab.bench.row import Bench, Plan, Row, make_row

Progress = Callable[[int, int], None]
"""Called with (rounds done, rounds to do)."""


def choose_cores() -> tuple[int, ...]:
    """A processor for us and one for the other process: the first and the last that we may use."""
    if not hasattr(os, "sched_getaffinity"):
        return ()
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


def pin(cores: tuple[int, ...], which: int) -> None:
    """Stay on one processor from now on, where the system has such a thing; threads to come inherit it."""
    if cores:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, {cores[which]})


def run(bench: Bench, plan: Plan, progress: Progress = lambda done, of: None) -> Row:
    """Measure. Raises CannotRun when something that the bench needs is not here."""
    pin(plan.cores, 0)
    ours: list[float] = []
    beside: list[float] = []
    with bench.open(plan) as sides:
        turns = [(sides.ours, ours)]
        if sides.beside is not None:
            turns.append((sides.beside, beside))
        if not plan.tiny:
            for measure, _ in turns:  # once for the caches, the interpreter's and the processor's
                measure()
        for done in range(plan.rounds):
            progress(done, plan.rounds)
            gc.collect()
            for measure, costs in turns if done % 2 else reversed(turns):
                costs.append(measure())
        progress(plan.rounds, plan.rounds)
    return make_row(bench, ours, beside)


def per_item_ns(items: int, work: Callable[[], object]) -> float:
    """Processor time of this thread that ``work`` takes, in ns for each of its ``items``."""
    start_ns = time.thread_time_ns()
    work()
    return (time.thread_time_ns() - start_ns) / items
