"""``freepage bench``: measure, show the table, write the JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from freepage_lab.bench.catalogue import choose
from freepage_lab.bench.child import Outcome, measure
from freepage_lab.bench.machine import machine
from freepage_lab.bench.measure import choose_cores
from freepage_lab.bench.report import markdown, print_report
from freepage_lab.bench.row import ROUNDS, Bench, Plan
from freepage_lab.outputs import check_output, write_output
from freepage_lab.tables import progress_bar, wide_console
from freepage_runtime.errors import UserError

LEAST_ROUNDS = 7


def bench(
    groups: Sequence[str] = (),
    *,
    rounds: int = ROUNDS,
    json_file: Path | None = None,
    as_markdown: bool = False,
    tiny: bool = False,
    console: Console | None = None,
) -> list[Outcome]:
    """Run the benches of these groups (all, if none is named), print the figures, and return what became of each.

    Raises UserError for what cannot be run at all.
    """
    if rounds < LEAST_ROUNDS and not tiny:
        raise UserError(f"{rounds} rounds are too few to mean anything: take {LEAST_ROUNDS} or more")
    chosen = choose(groups)
    check_output(json_file)
    console = console or wide_console()
    outcomes = _run(chosen, Plan(rounds=rounds, tiny=tiny, cores=choose_cores()), console)
    if as_markdown:
        console.print(markdown(outcomes), markup=False, highlight=False, soft_wrap=True)
    else:
        print_report(console, outcomes)
    write_output(json_file, json.dumps(to_json(outcomes), indent=1) + "\n")
    return outcomes


def _run(chosen: Sequence[Bench], plan: Plan, console: Console) -> list[Outcome]:
    bar = progress_bar(console)
    outcomes: list[Outcome] = []
    with bar:
        running = bar.add_task("bench", total=len(chosen) * plan.rounds)
        for number, each in enumerate(chosen):
            before = number * plan.rounds
            bar.update(running, description=each.title, completed=before)

            def progress(done: int, of: int, before: int = before) -> None:
                bar.update(running, completed=before + done)

            outcomes.append(measure(each, plan, progress))
    return outcomes


def to_json(outcomes: Sequence[Outcome]) -> dict[str, object]:
    """``rows`` are what was measured; what could not run here is in ``not_counted``, what broke in ``broken``."""
    return {
        "machine": machine(),
        "rows": [outcome.row.to_json() for outcome in outcomes if outcome.row is not None],
        "not_counted": [
            {"group": o.bench.group, "name": o.bench.name, "why": o.missing} for o in outcomes if o.missing
        ],
        "broken": [{"group": o.bench.group, "name": o.bench.name, "why": o.broke} for o in outcomes if o.broke],
    }
