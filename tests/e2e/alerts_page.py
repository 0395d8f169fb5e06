"""docs/alerts.md as data: the page is what the tests go by, so it cannot say anything else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "alerts.md"
SECTIONS = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL))
POLICY = "(hook policy: skip)"


def rows(section: str) -> list[list[str]]:
    """The cells of a section's table, without its head."""
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@dataclass(frozen=True)
class FaultRow:
    """``alerts`` fire, ``may_alert`` may, ``stay`` go on firing when the fault is off; ``Alert(path)`` on each path."""

    name: str
    metric: str
    alerts: frozenset[str]
    may_alert: frozenset[str]
    stay: frozenset[str]
    audit: str


def _row(cells: list[str]) -> FaultRow:
    name, metric, alerts, stay, audit = cells
    every = [alert.strip() for alert in alerts.split(",")]
    return FaultRow(
        name,
        metric.strip("`"),
        frozenset(alert for alert in every if not alert.startswith("[")),
        frozenset(alert.strip("[]") for alert in every if alert.startswith("[")),
        frozenset(alert.strip() for alert in stay.split(",") if alert.strip() != "–"),
        audit,
    )


FAULTS = [_row(cells) for cells in rows(SECTIONS["Each fault"])]


def on_paths(alerts: frozenset[str], paths: list[str]) -> set[str]:
    """``Alert(path)`` as one alert for each path."""
    return {
        alert.replace("(path)", f"({path})") for alert in alerts for path in (paths if "(path)" in alert else paths[:1])
    }
