"""Recordings of our own: workloads written to find differences. What differs still is listed, with its reason."""

from __future__ import annotations

import json
import re
from pathlib import Path

from freepage_lab.conform.compare import Comparison
from freepage_lab.conform.suite import Report, load_cases, run_cases

OWN = Path(__file__).parent / "own"


def test_our_own_workloads_differ_only_where_open_says_so() -> None:
    cases, left_out = load_cases(OWN / "workloads", OWN / "truth", ())
    report = Report(not_counted=left_out)
    comparisons: list[Comparison] = []
    run_cases(cases, jobs=1, done=comparisons.append)
    for comparison in comparisons:
        report.add(comparison)
    differing = {
        (mismatch.workload, mismatch.kind, mismatch.checkpoint): (mismatch.expected, mismatch.got)
        for comparison in report.counted()
        for mismatch in comparison.mismatches
    }
    rows = re.findall(r"^\| `(.+?)` \| (\w+) \| (.+?) \|$", (OWN / "OPEN.md").read_text(), re.MULTILINE)
    known = {(workload, kind, checkpoint) for workload, kind, checkpoint in rows}
    new = {cell: sides for cell, sides in differing.items() if cell not in known}
    assert not new, f"{len(new)} cells differ: {json.dumps([[*cell, *sides] for cell, sides in new.items()])[:2000]}"
    assert not known - set(differing), "listed in OPEN.md, but equal now"
    assert report.cells()["ops"].total > 2500
