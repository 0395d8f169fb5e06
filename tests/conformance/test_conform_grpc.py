"""The same counts over real gRPC as on virtual time: a few workloads always, the whole corpus in ``make test-all``.

The command runs as a process of its own, because the processes that it starts side by side end with it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

DATA = Path(__file__).parent / "data"


def assert_equal_over_grpc(names: list[str], n_counted: int, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    directories = ["--workloads", str(DATA / "workloads"), "--truth", str(DATA / "truth")]
    command = [sys.executable, "-m", "freepage_lab.cli", "conform", *directories, "--transport", "grpc"]
    result = subprocess.run(
        [*command, "--json", str(out), *names], capture_output=True, text=True, timeout=600, check=False
    )
    assert result.returncode in (0, 1), result.stderr
    report = json.loads(out.read_text())
    assert report["mismatches"] == []
    assert report["workloads"] - len(report["not_counted"]) == n_counted
    assert result.returncode == 0


def test_a_few_workloads(tmp_path: Path) -> None:
    names = ["cp_file", "create_100", "ls_100", "rename_dirty", "two_cto", "write_hole"]
    assert_equal_over_grpc(names, len(names), tmp_path)


@pytest.mark.slow
def test_the_whole_corpus(tmp_path: Path) -> None:
    assert_equal_over_grpc([], 98, tmp_path)
