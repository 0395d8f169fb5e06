"""``freepage soak --json``."""

from __future__ import annotations

from typing import Any

from freepage_lab.report.page import Mark, Section, table

FIELDS = {"parts", "seed", "scale", "ok"}


def section(data: dict[str, Any], source: str) -> Section:
    made = Section(
        "Soak: servers, clients and networks that fail",
        source,
        f"Seed {data['seed']}, {data['scale']:g} times the full length.",
        bool(data["ok"]),
        "every promise was kept" if data["ok"] else "a promise was broken",
    )
    for name, part in data["parts"].items():
        verdict = Mark("broken", "bad") if part["failures"] else Mark("kept", "good")
        rows: list[list[Any]] = [["every promise", verdict]]
        rows += [[what, value] for what, value in part["figures"].items()]
        rows += [["✗", Mark(failure, "bad")] for failure in part["failures"]]
        made.blocks.append(table((name, ""), rows))
    return made
