"""``freepage bench --json``."""

from __future__ import annotations

from typing import Any

from freepage_lab.report import plots
from freepage_lab.report.page import Mark, Section, figure, note, table

FIELDS = {"rows", "machine", "not_counted"}


def section(data: dict[str, Any], source: str) -> Section:
    rows, machine = data["rows"], data["machine"]
    missed = [row for row in rows if not row["ok"]]
    made = Section(
        "Speed, as ratios to something everybody knows",
        source,
        f"Measured on {machine['processor']} ({machine['processors']} processors), {machine['system']}, "
        f"{machine['python']}, grpcio {machine['grpcio']}, protobuf {machine['protobuf']}.",
        not missed and not data.get("broken"),
        f"{len(rows) - len(missed)} of {len(rows)} rows reach their aim",
    )
    if rows:
        svg = plots.beside_one({_name(r): r["ratio"] / r["floor"] for r in rows}, unit="times the aim; right is better")
        made.blocks.append(figure(svg, "Each row beside its aim"))
    heads = ("row", "beside", "ours", "theirs", "unit", "ratio", "aim", "spread", "rounds")
    made.blocks.append(
        table(
            heads,
            [
                [
                    _name(row),
                    row["peer"],
                    float(row["ours"]),
                    float(row["beside"]),
                    row["unit"],
                    Mark(float(row["ratio"]), "good" if row["ok"] else "bad"),
                    float(row["floor"]),
                    f"±{100 * row['spread']:.0f} %",
                    row["rounds"],
                ]
                for row in rows
            ],
        )
    )
    for what in ("not_counted", "broken"):
        made.blocks += [
            note(f"{what.replace('_', ' ')}: {each['group']}: {each['name']}: {each['why']}")
            for each in data.get(what, ())
        ]
    return made


def _name(row: dict[str, Any]) -> str:
    return f"{row['group']}: {row['name']}"
