"""Writes the dashboards, or with --check says whether they are current.

PYTHONPATH=deploy/grafana python -m freepage_grafana [--check]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from .all import DASHBOARDS

DIRECTORY = Path(__file__).parents[1] / "dashboards"


def text(uid: str) -> str:
    """A dashboard as its file has it."""
    (dashboard,) = (each for each in DASHBOARDS if each.uid == uid)
    return json.dumps(dashboard.to_json(), indent=1, ensure_ascii=False) + "\n"


def stale() -> list[str]:
    """The files that are missing, or are not what the code says."""
    wanted = {f"{dashboard.uid}.json": text(dashboard.uid) for dashboard in DASHBOARDS}
    there = {path.name: path.read_text() for path in DIRECTORY.glob("*.json")}
    return sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))


def write() -> None:
    DIRECTORY.mkdir(exist_ok=True)
    for path in DIRECTORY.glob("*.json"):
        path.unlink()
    for dashboard in DASHBOARDS:
        (DIRECTORY / f"{dashboard.uid}.json").write_text(text(dashboard.uid))


def main(arguments: list[str]) -> int:
    if "--check" not in arguments:
        write()
        return 0
    for name in stale():
        print(f"freepage: {DIRECTORY / name} is not what the code says (make dashboards)", file=sys.stderr)
    return 1 if stale() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
