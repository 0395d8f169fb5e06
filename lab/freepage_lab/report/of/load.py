"""``freepage load --json``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from freepage_lab.report import plots
from freepage_lab.report.page import Mark, Section, figure, table

FIELDS = {"profile", "latency", "calls", "rpc_mix"}
PERCENTILES = {"p50_ms": "p50", "p95_ms": "p95", "p99_ms": "p99", "max_ms": "maximum"}
MIB = 1 << 20
MOST_CALLS = 12


def section(data: dict[str, Any], source: str) -> Section:
    bad = data["errors"] or data["orphans"] or data["violations"] or data.get("failed_if")
    loop = f"open loop, {data['rate']:g} operations/s" if data["rate"] else "closed loop"
    made = Section(
        f"Load: {data['profile']}",
        source,
        f"{data['about']} {len(data['clients'])} clients, {data['workers']} workers on each, {loop}, "
        f"seed {data['seed']}.",
        not bad,
        "; ".join(data.get("failed_if") or ()) or ("errors or orphans" if bad else "no errors, nothing leaked"),
    )
    made.tiles = [
        ("operations", data["operations"], f"in {data['seconds']:.0f} s"),
        ("a second", data["ops_per_s"], ""),
        ("p99", data["p99_ms"], "ms"),
        ("hit ratio", data["hit_percent"], "% of the pages read"),
        ("RPCs", data["rpcs"], "" if data["rpcs_per_op"] is None else f"{data['rpcs_per_op']:.1f} an operation"),
        ("errors", data["errors"], f"{data['corrupt']} corrupt"),
        ("orphans", data["orphans"], "objects"),
    ]
    made.blocks += _over_time(data.get("timeline") or {})
    for what, kind in (("Operations", "latency"), ("System calls", "calls")):
        measured = {name: each for name, each in data[kind].items() if each["count"]}
        slowest = sorted(measured, key=lambda name: -measured[name]["p99_ms"])[:MOST_CALLS]
        if slowest:
            rows = {name: [max(measured[name][p], 1e-3) for p in PERCENTILES] for name in slowest}
            svg = plots.ranges(rows, tuple(PERCENTILES.values()), unit="ms")
            made.blocks.append(figure(svg, f"{what}: latency"))
    if data["rpc_mix"]:
        mix = {name: {"calls": n} for name, n in list(data["rpc_mix"].items())[:MOST_CALLS]}
        made.blocks.append(figure(plots.bars(mix, unit="calls"), "What the clients sent"))
    heads = ("operation", "done", *PERCENTILES.values())
    made.blocks.append(
        table(heads, [[name, each["count"], *(each[p] for p in PERCENTILES)] for name, each in data["latency"].items()])
    )
    if data["failures"]:
        failures = [[each["operation"], each["error"], Mark(each["count"], "bad")] for each in data["failures"]]
        made.blocks.append(table(("operation", "error", "times"), failures))
    return made


def _over_time(timeline: dict[str, list[Any]]) -> list[str]:
    t = timeline.get("t_s", [])
    if len(t) < 3:
        return []
    done = {"operations": _rates(t, timeline["operations"])}
    bytes_ = {
        "read": [v / MIB for v in _rates(t, timeline["read_bytes"])],
        "written": [v / MIB for v in _rates(t, timeline["written_bytes"])],
    }
    latency = {"p50": timeline["p50_ms"], "p99": timeline["p99_ms"]}
    plotted = [
        figure(plots.lines(t[1:], done, unit="a second"), "Operations"),
        figure(plots.lines(t, latency, unit="ms"), "Latency of the moment"),
        figure(plots.lines(t[1:], bytes_, unit="MiB a second"), "Data"),
    ]
    if any(timeline["orphans"]):
        plotted.append(figure(plots.lines(t, {"orphans": timeline["orphans"]}, unit="objects"), "Orphaned objects"))
    return plotted


def _rates(t: Sequence[float], counter: Sequence[float]) -> list[float]:
    pairs = zip(t, t[1:], counter, counter[1:], strict=False)
    return [(after - before) / max(end - start, 1e-3) for start, end, before, after in pairs]
