"""Panels of Grafana's dashboard model, with what a reader needs: a unit, legends, thresholds where one can be right.

Only what differs from Grafana's own defaults is written, so that the committed JSON can be reviewed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

DATASOURCE = {"type": "prometheus", "uid": "prometheus"}

Json = dict[str, Any]


@dataclass(frozen=True)
class Query:
    """A PromQL expression and the legend of its series; ``instant`` asks for now instead of the time range."""

    expr: str
    legend: str
    instant: bool = False
    format: str = "time_series"


@dataclass(frozen=True)
class Threshold:
    """From ``value`` on the colour is this one."""

    value: float
    colour: str


LEAK = (Threshold(1, "red"),)
"""None is right, one is too many."""


@dataclass(frozen=True)
class Panel:
    """One panel. ``width`` of 24 columns, ``height`` in Grafana's rows; ``what`` is shown to whoever asks for it."""

    kind: str
    title: str
    what: str
    queries: tuple[Query, ...]
    unit: str
    width: int = 8
    height: int = 8
    thresholds: tuple[Threshold, ...] = ()
    stacked: bool = False
    maximum: float | None = None
    options: Json = field(default_factory=dict)

    def to_json(self, identity: int, x: int, y: int) -> Json:
        defaults: Json = {"unit": self.unit, "thresholds": self._steps()}
        if self.kind != "table":
            defaults["min"] = 0
        if self.maximum is not None:
            defaults["max"] = self.maximum
        if self.kind == "timeseries":
            custom: Json = {"lineWidth": 1, "fillOpacity": 30 if self.stacked else 8, "showPoints": "never"}
            if self.stacked:
                custom["stacking"] = {"mode": "normal", "group": "A"}
            if self.thresholds:
                custom["thresholdsStyle"] = {"mode": "dashed"}
            defaults["custom"] = custom
        return {
            "id": identity,
            "type": self.kind,
            "title": self.title,
            "description": self.what,
            "datasource": DATASOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "targets": [query_json(query, number) for number, query in enumerate(self.queries)],
            "fieldConfig": {"defaults": defaults, "overrides": []},
            "options": {**_OPTIONS[self.kind], **self.options},
        }

    def _steps(self) -> Json:
        steps: list[Json] = [{"color": "green", "value": None}]
        steps += [{"color": threshold.colour, "value": threshold.value} for threshold in self.thresholds]
        return {"mode": "absolute", "steps": steps}


def query_json(query: Query, number: int) -> Json:
    return {
        "refId": chr(ord("A") + number),
        "datasource": DATASOURCE,
        "expr": query.expr,
        "legendFormat": query.legend,
        "format": query.format,
        "instant": query.instant,
        "range": not query.instant,
    }


_LEGEND = {"displayMode": "list", "placement": "bottom", "showLegend": True}
_OPTIONS: dict[str, Json] = {
    "timeseries": {"legend": _LEGEND, "tooltip": {"mode": "multi", "sort": "desc"}},
    "stat": {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "background",
        "graphMode": "area",
        "textMode": "auto",
    },
    "bargauge": {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "orientation": "horizontal",
        "displayMode": "basic",
    },
    "heatmap": {
        "calculate": False,
        "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64},
        "yAxis": {"unit": "s"},
        "cellGap": 1,
        "tooltip": {"mode": "single", "yHistogram": True},
    },
    "table": {"showHeader": True, "cellHeight": "sm"},
}

# --- the shapes that the dashboards are made of ---------------------------------------------------------------------


def series(title: str, what: str, unit: str, *queries: Query, width: int = 8, **more: Any) -> Panel:
    return Panel("timeseries", title, what, queries, unit, width, **more)


def stat(title: str, what: str, unit: str, query: Query, width: int = 4, **more: Any) -> Panel:
    return Panel("stat", title, what, (query,), unit, width, 4, **more)


def bars(title: str, what: str, unit: str, *queries: Query, width: int = 8, **more: Any) -> Panel:
    return Panel("bargauge", title, what, queries, unit, width, **more)


def heatmap(title: str, what: str, buckets: str, width: int = 12) -> Panel:
    """``buckets`` is the selector of a histogram's ``_bucket``."""
    query = Query(f"sum by (le) (rate({buckets}[$__rate_interval]))", "{{le}}", format="heatmap")
    return Panel("heatmap", title, what, (query,), "s", width)


def table(title: str, what: str, expr: str, width: int = 12, height: int = 8) -> Panel:
    return Panel("table", title, what, (Query(expr, "", instant=True, format="table"),), "none", width, height)


def rate(counter: str, by: str = "", where: str = "") -> str:
    """The rate of a counter a second, summed ``by`` labels."""
    grouped = f"sum by ({by})" if by else "sum"
    return f"{grouped} (rate({counter}{{{where}}}[$__rate_interval]))"


def quantile(q: float, histogram: str, by: str, where: str = "") -> str:
    """A quantile of a histogram, by label. NaN where nothing was observed."""
    return f"histogram_quantile({q}, sum by (le, {by}) (rate({histogram}_bucket{{{where}}}[$__rate_interval])))"
