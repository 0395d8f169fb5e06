"""The dashboards: current, well-formed as far as that can be said without Grafana, and with every metric on a panel."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

import test_wire_metrics as pages
from freepage_client.io.metrics import mountstats
from freepage_grafana import __main__ as command
from freepage_grafana.all import DASHBOARDS, UNSHOWN
from freepage_grafana.dashboard import COLUMNS, Dashboard
from freepage_lab.load.metrics import registry as load_registry
from freepage_lab.load.profile import load_profile
from freepage_lab.load.tally import Tally
from freepage_runtime.auditor import Auditor
from freepage_runtime.cache_metrics import metrics_page
from freepage_runtime.httpd import Request
from test_runtime_auditor import Toy

ROOT = Path(__file__).parents[2]
UNITS = {"short", "none", "cps", "ops", "iops", "reqps", "bytes", "Bps", "s", "percentunit"}
KINDS = {"timeseries", "stat", "bargauge", "heatmap", "table"}

each = pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.uid)


def test_the_committed_dashboards_are_current() -> None:
    assert command.stale() == [], "make dashboards"


def test_a_dashboard_that_is_not_current_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "DIRECTORY", tmp_path)
    command.write()
    assert command.main(["--check"]) == 0
    (tmp_path / "old.json").write_text("{}")
    (tmp_path / "fleet.json").write_text("{}")
    assert command.main(["--check"]) == 1
    assert capsys.readouterr().err.count("make dashboards") == 2


@each
def test_a_dashboard_has_the_form_that_grafana_documents(dashboard: Dashboard) -> None:
    """Its model: unique ids, panels that do not overlap, a data source that is provisioned, queries with names."""
    model = json.loads(command.text(dashboard.uid))
    assert model["uid"] == f"freepage-{dashboard.uid}" and model["title"] and model["schemaVersion"] >= 36
    assert re.fullmatch(r"[a-zA-Z0-9\-_]{1,40}", model["uid"])
    provisioned = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text())
    (source,) = provisioned["datasources"]
    ids = [panel["id"] for panel in model["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in model["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken and place["x"] + place["w"] <= COLUMNS, panel["title"]
        taken |= cells
        if panel["type"] == "row":
            continue
        assert panel["type"] in KINDS
        assert panel["datasource"] == {"type": source["type"], "uid": source["uid"]}
        names = [target["refId"] for target in panel["targets"]]
        assert names and len(names) == len(set(names))
        assert all(target["instant"] != target["range"] for target in panel["targets"])
        steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        assert steps[0]["value"] is None
        assert [s["value"] for s in steps[1:]] == sorted(s["value"] for s in steps[1:])


@each
def test_panels_say_what_they_show(dashboard: Dashboard) -> None:
    titles = [panel.title for panel in dashboard.panels()]
    for row in dashboard.rows:
        names = [panel.title for panel in row.panels]
        assert len(names) == len(set(names)), f"{row.title} has two panels of one name"
    assert all(titles)
    for panel in dashboard.panels():
        assert panel.what.endswith((".", ")")), panel.title
        assert panel.unit in UNITS, panel.title
        if panel.kind != "table":
            assert all(query.legend for query in panel.queries), panel.title
        for query in panel.queries:
            grouped = set(re.findall(r"\{\{(\w+)\}\}", query.legend)) - {"le", "__name__"}
            by = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", query.expr))))
            if by:
                assert grouped <= by, f"{panel.title}: the legend names {grouped - by}, which the query drops"
            variables = set(re.findall(r"\$(\w+)", query.expr)) - {"__rate_interval"}
            assert variables <= {variable.name for variable in dashboard.variables}


# --- every metric ---------------------------------------------------------------------------------------------------


def load_page() -> str:
    profile, tally = load_profile("build"), Tally()
    tally.call("open").record(0.1)
    page = metrics_page(load_registry(profile, lambda: (tally, 1)), Request("GET", "/metrics", "", {}))
    return page.body.decode()


def mount_page() -> Iterator[str]:
    for family in mountstats([pages.FakeMount()], 1.0):  # type: ignore[list-item]
        yield from (sample.name for sample in family.samples)


def exported() -> set[str]:
    """Every metric of every process, as one asks for it."""
    names = set(mount_page())
    names |= {sample.name for family in Auditor(Toy()).metrics() for sample in family.samples}
    for page in (pages.client_page(), pages.server_page(), load_page()):
        for family in text_string_to_metric_families(page):
            names |= {sample.name for sample in family.samples}
    # A histogram is shown when its buckets are, or its count.
    histograms = {name.removesuffix("_bucket") for name in names if name.endswith("_bucket")}
    names = {re.sub(r"_(bucket|sum|count)$", "", n) if n.startswith(tuple(histograms)) else n for n in names}
    return {name for name in names if not name.endswith("_created")}


def queries() -> str:
    rules = (ROOT / "deploy/prometheus/rules/recording.yml").read_text()
    recorded = dict(re.findall(r"record: (\S+)\n\s+expr: (.*?)(?=\n\s*\n|\Z)", rules, re.DOTALL))
    text = "\n".join(query.expr for dashboard in DASHBOARDS for panel in dashboard.panels() for query in panel.queries)
    return text + "\n".join(expression for name, expression in recorded.items() if name in text)


def test_every_metric_is_on_a_panel_or_in_the_list() -> None:
    text = queries()
    patterns = re.findall(r'__name__=~"([^"]+)"', text)
    words = set(re.findall(r"\w+", text))
    words |= {re.sub(r"_(bucket|sum|count)$", "", word) for word in words}
    shown = {name for name in exported() if name in words or any(re.fullmatch(p, name) for p in patterns)}
    forgotten = exported() - shown - UNSHOWN.keys()
    assert forgotten == set(), "put them on a panel (deploy/grafana/freepage_grafana), then: make dashboards"
    assert UNSHOWN.keys() - exported() == set(), "the list names what does not exist"
    assert UNSHOWN.keys() & shown == set(), "the list names what is shown"


def test_panels_ask_for_metrics_that_exist() -> None:
    rules = (ROOT / "deploy/prometheus/rules/recording.yml").read_text()
    recorded = set(re.findall(r"record: freepage:(\S+)", rules))
    names = exported()
    for word in set(re.findall(r"\b(?:freepage|node_mountstats)_\w+", queries())):
        if not word.endswith("_") and not word.startswith("freepage_grafana"):
            assert word in names or re.sub(r"_(bucket|sum|count)$", "", word) in names, word
    assert set(re.findall(r"freepage:(\w+(?::\w+)?)", queries())) <= recorded


def test_the_list_of_what_is_not_shown_is_documented() -> None:
    page = (ROOT / "docs" / "cluster.md").read_text()
    for name, why in UNSHOWN.items():
        assert f"| `{name}` | {why} |" in page
