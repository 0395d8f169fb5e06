"""The alert rules: what promtool says of them, and that docs/alerts.md says what they are."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from alerts_page import FAULTS, POLICY, SECTIONS, FaultRow, rows
from freepage import GALLERY, RULES

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
ALERTS = (PROMETHEUS / "rules" / "alerts.yml").read_text()


@pytest.mark.parametrize("arguments", [("check", "rules", "rules/*.yml"), ("test", "rules", "tests/*.yml")])
def test_promtool_is_content(arguments: tuple[str, ...], require_tool: Callable[..., str]) -> None:
    promtool = require_tool("promtool", debian="prometheus")
    files = [str(path) for path in PROMETHEUS.glob(arguments[-1])]
    assert files
    command = [promtool, *arguments[:-1], *files]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_page_has_each_alert_with_its_severity() -> None:
    alerts = re.findall(r"- alert: (\w+)\n.*?severity: (\w+)", ALERTS, re.DOTALL)
    assert [(row[0], row[1]) for row in rows(SECTIONS["Each alert"])] == alerts


def test_every_alert_has_a_promtool_test() -> None:
    tests = "".join(path.read_text() for path in (PROMETHEUS / "tests").glob("*.yml"))
    for alert in re.findall(r"- alert: (\w+)", ALERTS):
        assert re.search(rf"alertname: {alert}\n\s+eval_time: \w+\n\s+exp_alerts:\n", tests), f"{alert} never fires"
        assert f"alertname: {alert}, " in tests or alert in STAYS_OR_ONCE, f"{alert} is never silent"


STAYS_OR_ONCE = {"FreepageCredentialsPinned", "FreepageClientDown", "FreepageServerFaults"}
"""Alerts of which the tests have no moment of silence on the instance that raises them."""


def test_the_page_has_each_fault_of_the_gallery() -> None:
    assert [fault.name for fault in FAULTS] == [*GALLERY, POLICY]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_names_alerts_metrics_and_rules_that_exist(fault: FaultRow) -> None:
    known = set(re.findall(r"- alert: (\w+)", ALERTS))
    named = fault.alerts | fault.may_alert
    assert {alert.partition("(")[0] for alert in named} <= known
    assert fault.stay <= fault.alerts
    assert (
        fault.metric.removesuffix("_total")
        in (ROOT / "runtime/freepage_runtime/cache_metrics.py").read_text()
        + (ROOT / "runtime/freepage_runtime/auditor.py").read_text()
    )
    rules = {match[1] for alert in named if (match := re.fullmatch(r"FreepageHookRuleBroken\((\w+)\)", alert))}
    assert rules <= set(RULES)
    if fault.name in GALLERY:
        caught_by = set(GALLERY[fault.name].caught_by)
        assert caught_by & set(RULES) <= rules, "a rule that the gallery promises is on no alert"
        assert ("orphaned" in caught_by) == ("FreepageOrphansRemain" in fault.alerts)
        assert "audit" not in caught_by or "FreepageAuditDisagrees" in fault.alerts
