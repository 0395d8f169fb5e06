"""The comparison for people: a table of workloads, then each one's first difference with both RPC sequences."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from freepage_lab.conform.compare import Comparison, Mismatch, Tally
from freepage_lab.conform.suite import Report

GOOD, BAD, FAINT = "green", "bold red", "dim"
SHOWN_KINDS = ("ops", "io", "pages", "results", "active")
MAX_VALUE = 400
WIDE = 110
"""Columns of a terminal on which the table has room for the first difference."""


def workload_row(comparison: Comparison) -> tuple[RenderableType, ...]:
    """One line of the table."""
    if comparison.not_counted is not None:
        mark, first = Text("–", FAINT), f"not counted: {comparison.not_counted}"
    elif comparison.all_equal:
        mark, first = Text("✓", GOOD), ""
    else:
        mark, first = Text("✗", BAD), _place(comparison.mismatches[0])
    checkpoints = Tally(comparison.checkpoints, comparison.checkpoints_equal)
    cells = [_tally(comparison.cells[kind], counts=kind != "active") for kind in SHOWN_KINDS]
    return mark, Text(comparison.workload), _tally(checkpoints), *cells, Text(first, FAINT, overflow="ellipsis")


def table(rows: Sequence[Comparison], width: int) -> Table:
    """One line per workload; where they first differ only if ``width`` has room for it (it is told below anyway)."""
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    grid.add_column("")
    grid.add_column("workload", no_wrap=True)
    for title in ("points", *SHOWN_KINDS):
        grid.add_column(title, justify="right", no_wrap=True)
    wide = width >= WIDE
    if wide:
        grid.add_column("first difference", no_wrap=True, overflow="ellipsis")
    for comparison in rows:
        cells = workload_row(comparison)
        grid.add_row(*(cells if wide else cells[:-1]))
    return grid


def families(report: Report) -> Table:
    """Equal cells by family: what the documentation's fidelity table shows."""
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    grid.add_column("family", no_wrap=True)
    for title in ("workloads", *SHOWN_KINDS):
        grid.add_column(title, justify="right", no_wrap=True)
    counted = report.counted()
    for family in sorted({comparison.family for comparison in counted}):
        cells = report.cells(family)
        number = sum(comparison.family == family for comparison in counted)
        grid.add_row(family, str(number), *(_tally(cells[kind], counts=kind != "active") for kind in SHOWN_KINDS))
    grid.add_section()
    cells = report.cells()
    grid.add_row("all", str(len(counted)), *(_tally(cells[kind], counts=kind != "active") for kind in SHOWN_KINDS))
    return grid


def difference(comparison: Comparison) -> RenderableType:
    """The first unequal cell of a workload, both sides, with the RPC sequences of the same checkpoint beneath."""
    mismatch = comparison.mismatches[0]
    lines: list[RenderableType] = [
        Text.assemble((comparison.workload, "bold"), "  ", (_place(mismatch), FAINT)),
    ]
    details = Table.grid(padding=(0, 1))
    details.add_column(style=FAINT, justify="right", no_wrap=True)
    details.add_column(overflow="fold")
    details.add_row("expected", Text(_short(mismatch.expected)))
    details.add_row("got", Text(_short(mismatch.got), "yellow"))
    if mismatch.expected_sequence or mismatch.got_sequence:
        expected, got = _marked(mismatch.expected_sequence, mismatch.got_sequence)
        details.add_row("Linux sent", expected)
        details.add_row("we sent", got)
    if len(comparison.mismatches) > 1:
        details.add_row("", Text(f"and {len(comparison.mismatches) - 1} more", FAINT))
    lines.append(Padding(details, (0, 0, 1, 2)))
    return Group(*lines)


def print_report(console: Console, report: Report) -> None:
    """Everything after the table: differences, families, what was not counted, and the verdict."""
    differing = [comparison for comparison in report.counted() if not comparison.all_equal]
    for comparison in differing:
        console.print(difference(comparison))
    console.print(families(report))
    for workload, why in report.not_counted:
        console.print(Text(f"not counted: {workload}: {why}", FAINT))
    cells = report.cells()
    compared = [cells[kind] for kind in SHOWN_KINDS if kind != "active"]
    total, equal = sum(tally.total for tally in compared), sum(tally.equal for tally in compared)
    if report.all_equal:
        console.print(Text(f"all {total} compared cells are equal", GOOD))
    else:
        console.print(Text(f"{total - equal} of {total} compared cells differ, in {len(differing)} workloads", BAD))


def _tally(tally: Tally, *, counts: bool = True) -> Text:
    if tally.total == 0:
        return Text("–", FAINT)
    if tally.equal == tally.total:
        return Text(str(tally.total), GOOD if counts else FAINT)
    return Text(f"{tally.equal}/{tally.total}", BAD if counts else FAINT)


def _place(mismatch: Mismatch) -> str:
    return " · ".join(part for part in (mismatch.kind, mismatch.checkpoint, mismatch.client) if part)


def _short(value: Any) -> str:
    shown = value if isinstance(value, str) else json.dumps(value)
    return shown if len(shown) <= MAX_VALUE else f"{shown[:MAX_VALUE]} … ({len(shown)} characters)"


def _marked(expected: Sequence[str], got: Sequence[str]) -> tuple[Text, Text]:
    """Both sequences, with what only one of them has in colour."""
    left, right = Text(), Text()
    for tag, a, b, c, d in difflib.SequenceMatcher(a=expected, b=got, autojunk=False).get_opcodes():
        same = tag == "equal"
        for side, words in ((left, expected[a:b]), (right, got[c:d])):
            for word in words:
                side.append(word, None if same else BAD)
                side.append(" ")
    return left or Text("(nothing)", FAINT), right or Text("(nothing)", FAINT)
