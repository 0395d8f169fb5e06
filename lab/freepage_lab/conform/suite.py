"""Runs many workloads and adds their comparisons up."""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from freepage_lab.conform.compare import KINDS, Comparison, Tally, compare
from freepage_lab.conform.language import Workload, load_workload
from freepage_lab.conform.stage import Stage
from freepage_lab.conform.venue import GrpcVenue, SimVenue
from freepage_lab.sim.world import World, run_world
from freepage_runtime.errors import UserError
from freepage_runtime.process import die_with_parent

Transport = Literal["sim", "grpc"]

SIDE_BY_SIDE = 4
"""Workloads per job over gRPC."""


@dataclass(frozen=True, slots=True)
class Case:
    """A workload's file and its recording's; both are known to be readable. (A parsed workload holds functions, which
    cannot be handed to another process.)"""

    workload: Path
    truth: Path


@dataclass(slots=True)
class Report:
    """Everything that was compared."""

    comparisons: list[Comparison] = field(default_factory=list)
    not_counted: list[tuple[str, str]] = field(default_factory=list)
    """(workload, why): not run, or run and reported without counting."""

    def add(self, comparison: Comparison) -> None:
        self.comparisons.append(comparison)
        if comparison.not_counted is not None:
            self.not_counted.append((comparison.workload, comparison.not_counted))

    def counted(self) -> list[Comparison]:
        return [comparison for comparison in self.comparisons if comparison.not_counted is None]

    def cells(self, family: str | None = None) -> dict[str, Tally]:
        """Cells by kind, of the workloads that count; of one family, or of all."""
        total = {kind: Tally() for kind in KINDS}
        for comparison in self.counted():
            if family is None or comparison.family == family:
                for kind, tally in comparison.cells.items():
                    total[kind].add(tally)
        return total

    @property
    def all_equal(self) -> bool:
        return all(comparison.all_equal for comparison in self.counted())

    def to_json(self) -> dict[str, Any]:
        return {
            "workloads": len(self.comparisons),
            **{kind: {"total": tally.total, "equal": tally.equal} for kind, tally in self.cells().items()},
            "mismatches": [mismatch.to_json() for comparison in self.counted() for mismatch in comparison.mismatches],
            "not_counted": [{"workload": workload, "why": why} for workload, why in self.not_counted],
        }


def load_cases(workloads: Path, truth: Path, names: Sequence[str]) -> tuple[list[Case], list[tuple[str, str]]]:
    """The cases to run, in order of name, and (workload, why) of those that cannot be compared.

    Every workload is read and checked before the first one runs. Raises UserError.
    """
    for directory in (workloads, truth):
        if not directory.is_dir():
            raise UserError(f"{directory} is not a directory")
    available = {path.stem: path for path in sorted(workloads.glob("*.json"))}
    unknown = [name for name in names if name not in available]
    if unknown:
        raise UserError(f"{workloads} has no workload {', '.join(unknown)}")
    if not available:
        raise UserError(f"{workloads} holds no workloads")
    cases: list[Case] = []
    left_out: list[tuple[str, str]] = []
    for name in names or available:
        workload = load_workload(available[name])
        if not workload.runs_on_nfs3:
            left_out.append((name, f"for NFS version {', '.join(workload.versions or ())} only"))
            continue
        path = truth / f"{name}.json"
        if not path.exists():
            if names:
                raise UserError(f"{truth} has no recording of {name}")
            left_out.append((name, "there is no recording of it"))
            continue
        _load_truth(path)
        cases.append(Case(available[name], path))
    return cases, left_out


def _load_truth(path: Path) -> dict[str, Any]:
    try:
        truth = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {error}") from None
    if not isinstance(truth, dict) or not {"workload", "checkpoints", "results"} <= set(truth):
        raise UserError(f"{path} is not a recording: it has no workload, checkpoints and results")
    return truth


def run_case(case: Case) -> Comparison:
    """One workload in a simulated world of its own."""
    workload, truth = load_workload(case.workload), _load_truth(case.truth)
    stages: list[Stage] = []

    async def story(world: World) -> None:
        stage = Stage(workload, truth, await SimVenue.open(world))
        stages.append(stage)
        await stage.play()

    return _judged(workload, truth, stages, lambda: run_world(story))


def run_case_over_grpc(case: Case) -> Comparison:
    """One workload over real gRPC, in real time."""
    workload, truth = load_workload(case.workload), _load_truth(case.truth)
    stages: list[Stage] = []

    async def story() -> None:
        async with GrpcVenue.open() as venue:
            stage = Stage(workload, truth, venue)
            stages.append(stage)
            await stage.play()

    return _judged(workload, truth, stages, lambda: asyncio.run(story()))


def _judged(workload: Workload, truth: dict[str, Any], stages: Sequence[Stage], play: Callable[[], None]) -> Comparison:
    """The comparison after ``play``; of a run that breaks down the rest is unequal."""
    failure: str | None = None
    try:
        play()
    except Exception as error:
        failure = f"{type(error).__name__}: {error}"
    return judge(workload, truth, stages[0] if stages else None, failure)


def judge(workload: Workload, truth: dict[str, Any], stage: Stage | None, failure: str | None) -> Comparison:
    """The comparison of what ``stage`` has seen with the recording."""
    return compare(
        truth,
        workload.family,
        stage.observations if stage is not None else (),
        stage.results if stage is not None else (),
        failure=failure,
        left_over=stage.left_over if stage is not None else (),
    )


def run_cases(
    cases: Sequence[Case], *, jobs: int, done: Callable[[Comparison], None], transport: Transport = "sim"
) -> None:
    """Run all, in up to ``jobs`` processes; ``done`` hears of each in the order in which they end.

    Over gRPC most of the time is spent asleep, so several times as many run side by side, the longest first.
    """
    run = run_case
    if transport == "grpc":
        run = run_case_over_grpc
        jobs *= SIDE_BY_SIDE
        cases = sorted(cases, key=lambda case: -load_workload(case.workload).least_s)
    if jobs <= 1 or len(cases) == 1:
        for case in cases:
            done(run(case))
        return
    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(cases)), context, initializer=die_with_parent) as pool:
        with _sigint_ignored():  # the workers inherit it: Ctrl-C is ours to hear
            futures = [pool.submit(run, case) for case in cases]
        try:
            for future in as_completed(futures):
                done(future.result())
        except BaseException:  # nobody wants the rest: do not wait for it
            for worker in set(multiprocessing.active_children()) - others:
                worker.terminate()
            raise


@contextlib.contextmanager
def _sigint_ignored() -> Iterator[None]:
    """For a moment, in the main thread; elsewhere nothing happens, for only the main thread hears signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
