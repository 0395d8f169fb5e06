"""``freepage conform --json``."""

from __future__ import annotations

import json
from typing import Any

from freepage_lab.report.page import Cell, Mark, Section, note, table

FIELDS = {"workloads", "ops", "io", "pages", "results", "mismatches"}
KINDS = ("ops", "io", "pages", "results")
MOST_MISMATCHES = 200
MOST_CHARACTERS = 600


def section(data: dict[str, Any], source: str) -> Section:
    total, equal = (sum(data[kind][what] for kind in KINDS) for what in ("total", "equal"))
    made = Section(
        "Conformance: beside a real Linux client",
        source,
        f"{data['workloads']} workloads, compared call by call (ops), byte range by byte range (io), page by page and "
        "result by result with recordings of the kernel. A cell is one client at one checkpoint, or one step's result.",
        total == equal,
        f"all {total:,} cells are equal" if total == equal else f"{total - equal:,} of {total:,} cells differ",
    )
    made.blocks.append(table(("cells", "equal"), [[kind, _tally(data[kind])] for kind in KINDS]))
    if mismatches := data["mismatches"]:
        cells = [
            [m["workload"], m["checkpoint"], m["client"], m["kind"], _short(m["expected"]), _short(m["got"])]
            for m in mismatches[:MOST_MISMATCHES]
        ]
        made.blocks.append(table(("workload", "checkpoint", "client", "kind", "Linux", "freepage"), cells))
        if len(mismatches) > MOST_MISMATCHES:
            made.blocks.append(note(f"and {len(mismatches) - MOST_MISMATCHES} more"))
    if data["not_counted"]:
        left_out = [[each["workload"], each["why"]] for each in data["not_counted"]]
        made.blocks.append(table(("not counted", "why"), left_out))
    return made


def _tally(tally: dict[str, int]) -> Cell | Mark:
    if not tally["total"]:
        return None
    equal = tally["equal"] == tally["total"]
    return Mark(f"{tally['equal']:,} of {tally['total']:,}", "good" if equal else "bad")


def _short(value: Any) -> str:
    shown = value if isinstance(value, str) else json.dumps(value)
    return shown if len(shown) <= MOST_CHARACTERS else f"{shown[:MOST_CHARACTERS]} …"
