"""``freepage conform``: run workloads, compare with the recordings, print the table, write the JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from freepage_lab.conform.compare import Comparison
from freepage_lab.conform.report import print_report, table
from freepage_lab.conform.suite import Report, Transport, load_cases, run_cases
from freepage_lab.outputs import check_output, write_output
from freepage_lab.tables import progress_bar, wide_console
from freepage_runtime.errors import UserError


def conform(
    workloads: Path,
    truth: Path,
    names: Sequence[str] = (),
    *,
    json_file: Path | None = None,
    transport: str = "sim",
    jobs: int | None = None,
    console: Console | None = None,
) -> bool:
    """Whether all compared cells are equal. Raises UserError for what cannot be run."""
    over = _transport(transport)
    check_output(json_file)
    console = console or wide_console()
    cases, left_out = load_cases(workloads, truth, names)
    report = Report(not_counted=left_out)
    finished: list[Comparison] = []
    bar = progress_bar(console)
    with bar:
        running = bar.add_task("conform", total=len(cases))

        def done(comparison: Comparison) -> None:
            finished.append(comparison)
            report.add(comparison)
            bar.update(running, advance=1, description=comparison.workload)

        run_cases(cases, jobs=jobs or os.cpu_count() or 1, done=done, transport=over)
    finished.sort(key=lambda comparison: comparison.workload)
    report.comparisons.sort(key=lambda comparison: comparison.workload)
    console.print(table(finished, console.width))
    print_report(console, report)
    write_output(json_file, json.dumps(report.to_json(), indent=1) + "\n")
    return report.all_equal


def _transport(name: str) -> Transport:
    match name:
        case "sim" | "grpc":
            return name
    raise UserError(f"there is no transport {name!r}: choose sim or grpc")
