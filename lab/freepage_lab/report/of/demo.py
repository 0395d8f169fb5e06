"""``freepage demo --json``."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from freepage_lab.demo.phases import CREDENTIALS, NAMES, PATHS, REQUESTS
from freepage_lab.report import plots
from freepage_lab.report.page import Mark, Section, figure, table

FIELDS = {"phases", "ok"}
COLORS = {"hook called": plots.SERIES[0], "skipped": plots.BAD}


def section(data: dict[str, Any], source: str) -> Section:
    phases = data["phases"]
    last = phases[-1]
    made = Section(
        "Demo: the hook at work, and the leak when it is skipped",
        source,
        "Each phase makes pages leave every client's cache by every path. Where the hook is skipped, the request that "
        "hangs off the page becomes an orphan, and pins a credential.",
        bool(data["ok"]),
        "each phase behaved" if data["ok"] else "not as it should be",
    )
    made.tiles = [
        ("pages that left", sum(sum(p["removed"].values()) for p in phases), "all phases, clients"),
        ("hook calls", sum(sum(p["hook_calls"].values()) for p in phases), ""),
        ("orphaned requests", last["orphaned"].get(REQUESTS, 0), "at the end"),
        ("pinned credentials", last["pinned"].get(CREDENTIALS, 0), "times"),
        ("orphaned names", last["orphaned"].get(NAMES, 0), "of directory pages"),
    ]
    timeline = data.get("timeline") or {}
    if timeline:
        t, bands = timeline["t_s"], []
        for phase, moments in groupby(zip(timeline["phase"], t, strict=True), key=lambda moment: moment[0]):
            times = [at for _, at in moments]
            bands.append((times[0], times[-1], phase))
        orphans = {"orphaned requests": timeline["orphaned_requests"]}
        made.blocks.append(figure(plots.lines(t, orphans, unit="objects", bands=bands), "The leak over time"))
    for phase in phases:
        called, skipped = phase["hook_calls"], phase["skipped"]
        by_path = {path: {"hook called": called[path], "skipped": skipped[path]} for path in PATHS}
        svg = plots.bars(by_path, unit="pages that left", colors=COLORS)
        made.blocks.append(figure(svg, f"How pages left while: {phase['name']}"))
    made.blocks.append(table(("phase", "path", "hook", "removed", "hook calls", "skipped", "orphaned"), _rows(phases)))
    return made


def _rows(phases: list[dict[str, Any]]) -> list[list[Any]]:
    return [
        [
            phase["name"],
            path,
            phase["policy"][path],
            phase["removed"][path],
            phase["hook_calls"][path],
            phase["skipped"][path],
            Mark(orphans, "bad") if (orphans := phase["skipped_owned"][path]) else 0,
        ]
        for phase in phases
        for path in PATHS
    ]
