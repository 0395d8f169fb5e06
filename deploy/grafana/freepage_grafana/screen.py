"""Draws rows of a dashboard as an SVG picture, from a running Prometheus: a screen without a Grafana.

    PYTHONPATH=deploy/grafana python -m freepage_grafana.screen --prometheus http://localhost:9090 \\
        --dashboard fleet --row Leaks --row Caches --minutes 5 --out docs/fleet.svg

The queries, titles, units and places are the dashboard's own; only the drawing is ours. Numbers and lines are drawn,
the other kinds of panels are left out. Python's standard library is enough.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from .all import DASHBOARDS
from .dashboard import COLUMNS
from .panel import Panel

COLUMN = 48
"""Pixels of one of the 24 columns."""
LINE = 30
"""Pixels of one of Grafana's rows of height."""
GAP = 8
POINTS = 120
COLOURS = ("#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#b877d9", "#5794f2", "#96d98d", "#ffb357", "#ca95e5")
NAMED = {"green": "#1a7f37", "red": "#c4162a", "orange": "#c15c17"}
BACKGROUND, CARD, TEXT, FAINT, GRID = "#111217", "#181b1f", "#d8d9da", "#8e8e8e", "#2c3235"


class Line(NamedTuple):
    """One series: its legend, and its points as (seconds, value)."""

    legend: str
    points: list[tuple[float, float]]


class Cannot(Exception):
    """Prometheus cannot be asked, or has nothing to show; the message is for the user."""


class Prometheus:
    """Range queries over the last ``seconds``."""

    def __init__(self, url: str, seconds: float) -> None:
        self._url = url.rstrip("/")
        self.end_s = time.time()
        self.start_s = self.end_s - seconds
        self._step_s = max(seconds / POINTS, 1.0)

    def lines(self, panel: Panel) -> list[Line]:
        found = []
        for query in panel.queries:
            expression = query.expr.replace("$__rate_interval", f"{max(20, round(4 * self._step_s))}s")
            for variable in ("$service", "$instance"):
                expression = expression.replace(variable, ".+")
            for series in self._range(expression):
                points = [(float(pair[0]), float(pair[1])) for pair in series["values"]]
                points = [(at, value) for at, value in points if math.isfinite(value)]
                found.append(Line(_legend(query.legend, series["metric"]), points))
        return found

    def _range(self, expression: str) -> list[Any]:
        query = {"query": expression, "start": self.start_s, "end": self.end_s, "step": self._step_s}
        try:
            with urllib.request.urlopen(f"{self._url}/api/v1/query_range?{urllib.parse.urlencode(query)}") as answer:
                result: list[Any] = json.load(answer)["data"]["result"]
                return result
        except (OSError, ValueError) as error:
            raise Cannot(f"{self._url} cannot be asked: {error}") from error


def _legend(pattern: str, labels: Mapping[str, str]) -> str:
    for name, value in labels.items():
        pattern = pattern.replace(f"{{{{{name}}}}}", value.removesuffix(":9464"))
    return re.sub(r"\{\{\w+\}\}", "", pattern).strip() or "none"


# --- numbers ---------------------------------------------------------------------------------------------------------


def number(value: float, unit: str) -> str:
    """As Grafana would write it, roughly."""
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "s" and value < 1:
        return f"{value * 1000:.3g} ms"
    base, prefixes = (
        (1024.0, ("", "Ki", "Mi", "Gi", "Ti")) if unit in ("bytes", "Bps") else (1000.0, ("", "k", "M", "G"))
    )
    power = 0
    while abs(value) >= base and power < len(prefixes) - 1:
        value /= base
        power += 1
    suffix = {"bytes": "B", "Bps": "B/s", "s": " s", "cps": "/s", "ops": "/s", "iops": "/s", "reqps": "/s"}.get(
        unit, ""
    )
    return f"{value:.3g}{' ' if prefixes[power] and suffix else ''}{prefixes[power]}{suffix}"


def ceiling(value: float) -> float:
    """The next of 1, 2, 5 times a power of ten: where an axis may end."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value * 0.999)


# --- drawing ---------------------------------------------------------------------------------------------------------


class Frame(NamedTuple):
    x: float
    y: float
    width: float
    height: float


def text(x: float, y: float, what: str, size: int = 12, colour: str = TEXT, anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}">{escape(what)}</text>'
    )


def card(frame: Frame, title: str, colour: str = CARD) -> Iterator[str]:
    yield (
        f'<rect x="{frame.x:.1f}" y="{frame.y:.1f}" width="{frame.width:.1f}" height="{frame.height:.1f}" '
        f'rx="3" fill="{colour}"/>'
    )
    yield text(frame.x + 10, frame.y + 20, title, 13)


def draw_stat(panel: Panel, lines: Sequence[Line], frame: Frame) -> Iterator[str]:
    value = lines[0].points[-1][1] if lines and lines[0].points else math.nan
    colour = NAMED["green"]
    for threshold in panel.thresholds:
        if value >= threshold.value:
            colour = NAMED[threshold.colour]
    yield from card(frame, panel.title, colour)
    shown = "no data" if math.isnan(value) else number(value, panel.unit)
    yield text(frame.x + frame.width / 2, frame.y + frame.height * 0.72, shown, 34, "#ffffff", "middle")


def stack(lines: Sequence[Line]) -> list[Line]:
    """Each series on top of those before it."""
    below: dict[float, float] = {}
    stacked = []
    for line in lines:
        points = []
        for at, value in line.points:
            below[at] = below.get(at, 0.0) + value
            points.append((at, below[at]))
        stacked.append(Line(line.legend, points))
    return stacked


def draw_series(panel: Panel, lines: Sequence[Line], frame: Frame, start_s: float, end_s: float) -> Iterator[str]:
    yield from card(frame, panel.title)
    lines = sorted((line for line in lines if line.points), key=lambda line: -max(v for _, v in line.points))
    lines = lines[: len(COLOURS)]
    shown = stack(lines) if panel.stacked else lines
    top = panel.maximum or ceiling(max((v for line in shown for _, v in line.points), default=0.0))
    legend_rows = -(-min(len(lines), 6) // 2)
    left, right = frame.x + 66, frame.x + frame.width - 12
    upper, lower = frame.y + 34, frame.y + frame.height - 26 - 16 * legend_rows
    for part in (0, 0.5, 1):
        y = lower - (lower - upper) * part
        yield f'<line x1="{left:.1f}" y1="{y:.1f}" x2="{right:.1f}" y2="{y:.1f}" stroke="{GRID}"/>'
        yield text(left - 6, y + 4, number(top * part, panel.unit), 11, FAINT, "end")
    for minutes in range(round((end_s - start_s) / 60) + 1):
        x = right - (right - left) * minutes * 60 / (end_s - start_s)
        if x >= left - 1:
            yield text(x, lower + 15, "now" if not minutes else f"-{minutes} min", 10, FAINT, "middle")

    def place(at: float, value: float) -> str:
        x = left + (right - left) * (at - start_s) / (end_s - start_s)
        return f"{x:.1f},{lower - (lower - upper) * min(value / top, 1.0):.1f}"

    for i, line in reversed(list(enumerate(shown))):
        points = [place(at, value) for at, value in line.points]
        if panel.stacked:
            ends = f"{points[-1].partition(',')[0]},{lower:.1f} {points[0].partition(',')[0]},{lower:.1f}"
            yield f'<polygon points="{" ".join(points)} {ends}" fill="{COLOURS[i]}" fill-opacity="0.55"/>'
        yield f'<polyline points="{" ".join(points)}" fill="none" stroke="{COLOURS[i]}" stroke-width="1.6"/>'
    for i, line in enumerate(lines[:6]):
        x = left - 50 + (i % 2) * (frame.width - 30) / 2
        y = lower + 34 + (i // 2) * 16
        yield f'<rect x="{x:.1f}" y="{y - 5:.1f}" width="12" height="3" fill="{COLOURS[i]}"/>'
        last = number(line.points[-1][1], panel.unit)
        room = int(frame.width / 2 / 6.6) - len(last) - 4
        legend = line.legend if len(line.legend) <= room else line.legend[: room - 1] + "…"
        yield text(x + 18, y, f"{legend}  {last}", 11, TEXT)


def draw(dashboard: str, rows: Sequence[str], prometheus: Prometheus) -> str:
    """The SVG document. Raises Cannot."""
    (found,) = (each for each in DASHBOARDS if each.uid == dashboard)
    unknown = set(rows) - {row.title for row in found.rows}
    if unknown:
        titles = ", ".join(row.title for row in found.rows)
        raise Cannot(f"{dashboard} has no row called {sorted(unknown)[0]} (there are {titles})")
    body: list[str] = []
    y = float(GAP)
    for row in found.rows:
        if rows and row.title not in rows:
            continue
        body.append(text(GAP + 4, y + 18, f"{found.title}: {row.title}", 14, FAINT))
        y += 28
        x, tallest = 0, 0
        for panel in row.panels:
            if panel.kind not in ("stat", "timeseries"):
                continue
            if x + panel.width > COLUMNS:
                x, y, tallest = 0, y + tallest * LINE, 0
            frame = Frame(GAP + x * COLUMN, y, panel.width * COLUMN - GAP, panel.height * LINE - GAP)
            lines = prometheus.lines(panel)
            if panel.kind == "stat":
                body += draw_stat(panel, lines, frame)
            else:
                body += draw_series(panel, lines, frame, prometheus.start_s, prometheus.end_s)
            x += panel.width
            tallest = max(tallest, panel.height)
        y += tallest * LINE + GAP
    width = COLUMNS * COLUMN + GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y:.0f}" font-family="system-ui, sans-serif">\n'
        f'<rect width="100%" height="100%" fill="{BACKGROUND}"/>\n' + "\n".join(body) + "\n</svg>\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="freepage_grafana.screen")
    parser.add_argument("--prometheus", default="http://localhost:9090", metavar="URL")
    parser.add_argument("--dashboard", default="fleet", choices=[dashboard.uid for dashboard in DASHBOARDS])
    parser.add_argument("--row", action="append", default=[], metavar="TITLE", help="only these rows")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    options = parser.parse_args(arguments)
    try:
        options.out.write_text(
            draw(options.dashboard, options.row, Prometheus(options.prometheus, options.minutes * 60))
        )
    except Cannot as error:
        print(f"freepage: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"freepage: {options.out}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
