"""A dashboard: rows of panels laid out from left to right, variables, and links to its sisters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .panel import DATASOURCE, Json, Panel

COLUMNS = 24
SCHEMA_VERSION = 39
"""Of the dashboard model: Grafana 10.3 and later, which migrate it to their own when they load it."""

TAG = "freepage"


@dataclass(frozen=True)
class Variable:
    """A choice at the top of the dashboard: values of a label, all of them to begin with."""

    name: str
    label: str
    query: str

    def to_json(self) -> Json:
        return {
            "name": self.name,
            "label": self.label,
            "type": "query",
            "datasource": DATASOURCE,
            "query": {"query": self.query, "refId": self.name},
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "allValue": ".+",
            "current": {"text": ["All"], "value": ["$__all"]},
        }


@dataclass(frozen=True)
class Row:
    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Dashboard:
    """``uid`` is the file's name and the last part of the address."""

    uid: str
    title: str
    what: str
    rows: Sequence[Row]
    variables: Sequence[Variable] = ()

    def panels(self) -> Iterator[Panel]:
        for row in self.rows:
            yield from row.panels

    def to_json(self) -> Json:
        return {
            "uid": f"freepage-{self.uid}",
            "title": f"freepage {self.title}",
            "description": self.what,
            "tags": [TAG],
            "schemaVersion": SCHEMA_VERSION,
            "editable": False,
            "graphTooltip": 1,
            "refresh": "5s",
            "time": {"from": "now-15m", "to": "now"},
            "timezone": "browser",
            "templating": {"list": [variable.to_json() for variable in self.variables]},
            "annotations": {"list": [_alerts()]},
            "links": [
                {
                    "title": "freepage",
                    "type": "dashboards",
                    "tags": [TAG],
                    "asDropdown": False,
                    "keepTime": True,
                    "includeVars": False,
                }
            ],
            "panels": list(self._placed()),
        }

    def _placed(self) -> Iterator[Json]:
        identity, y = 0, 0
        for row in self.rows:
            identity += 1
            place = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
            yield {
                "id": identity,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "gridPos": place,
                "panels": [],
            }
            y += 1
            x, tallest = 0, 0
            for panel in row.panels:
                if x + panel.width > COLUMNS:
                    x, y, tallest = 0, y + tallest, 0
                identity += 1
                yield panel.to_json(identity, x, y)
                x += panel.width
                tallest = max(tallest, panel.height)
            y += tallest


def _alerts() -> Json:
    return {
        "name": "Alerts",
        "datasource": DATASOURCE,
        "enable": True,
        "iconColor": "red",
        "expr": 'ALERTS{alertstate="firing", severity!="info"}',
        "titleFormat": "{{alertname}}",
        "textFormat": "{{service}} {{instance}} {{path}}{{rule}}{{status}}",
        "step": "15s",
    }
