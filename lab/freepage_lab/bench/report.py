"""The table of a bench run, for a terminal and for a document."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from freepage_lab.bench.child import Outcome
from freepage_lab.bench.machine import describe
from freepage_lab.bench.row import NOTHING_ASKED, Row
from freepage_lab.digits import three_digits


def print_report(console: Console, outcomes: Sequence[Outcome]) -> None:
    """One line a row; below it what did not run, the machine, and the verdict."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for heading in ("", "beside"):
        table.add_column(heading, overflow="fold")
    for heading in ("ours", "beside", "unit", "ratio", "least", "spread", "rounds"):
        table.add_column(heading, justify="left" if heading == "unit" else "right", no_wrap=True)
    group = ""
    for outcome in outcomes:
        row = outcome.row
        if row is None:
            continue
        if row.group != group:
            group = row.group
            table.add_row(f"[bold]{escape(group)}[/bold]")
        table.add_row(
            f"{_mark(row)} {escape(row.name)}",
            escape(row.peer),
            three_digits(row.ours),
            three_digits(row.beside),
            escape(row.unit),
            f"[{'green' if row.ok else 'red'}]{three_digits(row.ratio)}[/]",
            _least(row),
            f"±{row.spread:.0%}",
            str(row.rounds),
        )
    console.print(table)
    for outcome in outcomes:
        if outcome.missing:
            console.print(f"[dim]not counted:[/] {escape(outcome.bench.title)}: {escape(outcome.missing)}")
        elif outcome.broke:
            console.print(f"[red]broken:[/] {escape(outcome.bench.title)}: {escape(outcome.broke)}")
    rows = [outcome.row for outcome in outcomes if outcome.row is not None]
    asked = [row for row in rows if row.floor != NOTHING_ASKED]
    reached = sum(row.ok for row in asked)
    console.print(f"[dim]{escape(describe())}[/]", highlight=False)
    console.print(f"{reached} of {len(asked)} rows reach their least ratio; ratio = beside / ours", highlight=False)


def _mark(row: Row) -> str:
    if row.floor == NOTHING_ASKED:
        return "[dim]·[/]"
    return "[green]✓[/]" if row.ok else "[red]✗[/]"


def _least(row: Row) -> str:
    return "–" if row.floor == NOTHING_ASKED else three_digits(row.floor)


def markdown(outcomes: Sequence[Outcome]) -> str:
    """The same table as docs/benchmarks.md has it."""
    lines = [
        "| | ours | beside | unit | ratio | least | spread | rounds |",
        "| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for outcome in outcomes:
        row = outcome.row
        if row is None:
            continue
        ratio = three_digits(row.ratio) if row.ok else f"**{three_digits(row.ratio)}** (missed)"
        lines.append(
            f"| {row.group}: {row.name}, beside {row.peer} | {three_digits(row.ours)} | {three_digits(row.beside)} "
            f"| {row.unit} | {ratio} | {_least(row)} | ±{row.spread:.0%} | {row.rounds} |"
        )
    lines += ["", f"Measured on {describe()}."]
    lines += [f"Not counted: {o.bench.title}: {o.missing}." for o in outcomes if o.missing]
    lines += [f"Broken: {o.bench.title}: {o.broke}." for o in outcomes if o.broke]
    return "\n".join(lines)
