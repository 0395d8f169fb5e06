"""The page for people at a process's HTTP port, and the JSON behind it: state at a glance, the last minutes as charts.

The process keeps a short history of its own counters, so the page shows what was before it was opened and needs no
Prometheus. `status.html` draws whatever the JSON describes (tiles, charts, tables) and knows nothing of caches; it
is one file without any other part, and the Content-Security-Policy lets it do nothing but ask for ``/api/status``.

What a chart's time axis costs: `SLOTS` samples of some fifty numbers, taken every `EVERY_S` seconds.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import json
import re
import time
from array import array
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from importlib import resources
from typing import Any

from freepage_runtime.httpd import Page, Request, Route, text_page

EVERY_S = 1.0
SLOTS = 301
"""Five minutes, with both ends."""

SPANS = (60, 120, SLOTS - 1)
"""How many samples a chart has room for, as long as there are no more than that."""

EXPENSIVE_S = 10.0
"""An expensive text is made at most this often, whoever asks."""

TEXT_BYTES = 1 << 20
"""The longest text that is served whole."""


class History:
    """The last `SLOTS` samples of numbers that are always the same ones. Counters and gauges alike."""

    def __init__(self, sample: Callable[[], Mapping[str, float]], now: Callable[[], float] = time.monotonic) -> None:
        self._sample = sample
        self._now = now
        self._columns: dict[str, int] = {}
        self._samples: deque[tuple[float, array[float]]] = deque(maxlen=SLOTS)

    def take(self) -> None:
        """One more sample. A name that was not in the first one is left out."""
        values = self._sample()
        if not self._columns:
            self._columns = {name: column for column, name in enumerate(values)}
        self._samples.append((self._now(), array("d", (values.get(name, 0.0) for name in self._columns))))

    def __len__(self) -> int:
        return len(self._samples)

    def values(self, name: str) -> list[float]:
        """A gauge over time."""
        column = self._columns.get(name)
        return [] if column is None else [values[column] for _, values in self._samples]

    def rates(self, name: str) -> list[float]:
        """A counter's growth a second, one value less than there are samples."""
        column = self._columns.get(name)
        if column is None:
            return []
        pairs = list(self._samples)
        return [
            max(after[column] - before[column], 0.0) / max(end - start, 1e-9)
            for (start, before), (end, after) in itertools.pairwise(pairs)
        ]

    def shares(self, part: str, others: str) -> list[float | None]:
        """Percent that the growth of ``part`` is of both counters' growth; None where neither grew."""
        shares: list[float | None] = []
        for of, rest in zip(self.rates(part), self.rates(others), strict=True):
            shares.append(100 * of / (of + rest) if of + rest else None)
        return shares

    async def keep(self, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        """Take samples for ever."""
        while True:
            self.take()
            await sleep(EVERY_S)


# --- what the page is made of: plain data for JSON --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure. ``state`` is ``good``, ``bad`` or nothing."""

    label: str
    value: str | float | None
    note: str = ""
    state: str = ""

    def to_json(self) -> dict[str, Any]:
        return {"label": self.label, "value": self.value, "note": self.note, "state": self.state}


@dataclass(frozen=True, slots=True)
class Series:
    """A line of a chart. ``color`` is a number of the page's palette: the same thing has the same one everywhere."""

    name: str
    values: Sequence[float | None]
    color: int = 0


@dataclass(frozen=True, slots=True)
class Chart:
    """Series over the last minutes, newest last. ``most`` fixes the upper end of the axis."""

    title: str
    series: Sequence[Series]
    unit: str = ""
    stacked: bool = False
    most: float | None = None

    def to_json(self) -> dict[str, Any]:
        series = [
            {"name": s.name, "color": s.color, "values": [None if v is None else round(v, 3) for v in s.values]}
            for s in self.series
        ]
        longest = max((len(s.values) for s in self.series), default=0)
        return {
            "title": self.title,
            "unit": self.unit,
            "stacked": self.stacked,
            "most": self.most,
            "slots": next(slots for slots in SPANS if slots >= min(longest, SPANS[-1])),
            "series": series,
        }


Cell = str | float | None | tuple[str | float | None, str]
"""A value, or a value and its state: ``good``, ``bad``, ``text``."""


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    def to_json(self) -> dict[str, Any]:
        return {"title": self.title, "columns": list(self.columns), "rows": [list(row) for row in self.rows]}


@dataclass(slots=True)
class Status:
    """Everything the page shows."""

    role: str
    name: str
    version: str
    uptime_s: float
    tiles: Sequence[Tile] = ()
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    links: Sequence[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {
            "role": self.role,
            "name": self.name,
            "version": self.version,
            "uptime_s": round(self.uptime_s, 3),
            "uptime": format_seconds(self.uptime_s),
            "every_s": EVERY_S,
            "tiles": [tile.to_json() for tile in self.tiles],
            "charts": [chart.to_json() for chart in self.charts],
            "tables": [table.to_json() for table in self.tables],
            "links": list(self.links),
        }


def format_seconds(seconds: float) -> str:
    """``42 s``, ``5 min``, ``3 h``, ``12 d``: one unit is enough to know how long something has run."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


# --- routes -----------------------------------------------------------------------------------------------------------


def _html() -> tuple[bytes, str]:
    """The page, and the policy that lets its own style and script run and nothing else."""
    text = (resources.files("freepage_runtime") / "status.html").read_text("utf-8")

    def allowed(tag: str) -> str:
        hashes = []
        for inline in re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL):
            digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
            hashes.append(f"'sha256-{digest}'")
        return " ".join(hashes)

    policy = (
        f"default-src 'none'; style-src {allowed('style')}; script-src {allowed('script')}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return text.encode(), policy


def page_routes(status: Callable[[], Status]) -> dict[str, Route]:
    """``/`` and ``/api/status``."""
    html, policy = _html()
    page = Page("text/html; charset=utf-8", html, headers=(("Content-Security-Policy", policy),))

    def api(request: Request) -> Page:
        return text_page(json.dumps(status().to_json(), separators=(",", ":")), "application/json")

    return {"/": lambda request: page, "/api/status": api}


def text_route(make: Callable[[], str]) -> Route:
    """A text that costs little."""
    return lambda request: text_page(_shortened(make()))


def expensive_route(make: Callable[[], str], now: Callable[[], float] = time.monotonic) -> Route:
    """A text that walks over everything there is: who asks again at once gets the same one, other sites' pages none."""
    made_s = -EXPENSIVE_S
    page = text_page("")

    def route(request: Request) -> Page:
        nonlocal made_s, page
        if request.headers.get("sec-fetch-site") == "cross-site":
            return text_page("403 Forbidden\n", status=HTTPStatus.FORBIDDEN)
        if now() - made_s >= EXPENSIVE_S:
            page = text_page(_shortened(make()))
            made_s = now()
        return page

    return route


def _shortened(text: str) -> str:
    return text if len(text) <= TEXT_BYTES else text[:TEXT_BYTES].rpartition("\n")[0] + "\n(and more)\n"
