"""The demo on real processes: its figures, checked without its own arithmetic, and how it ends when things go wrong."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from freepage_runtime.registry import list_daemons

PATHS = {"truncate", "invalidate", "drop", "reclaim", "replace", "evict"}
KEYS = {
    "policy",
    "removed",
    "hook_calls",
    "skipped",
    "skipped_owned",
    "orphaned",
    "pinned",
    "violations",
    "audit_agrees",
}
SMALL = ["--clients", "2", "--servers", "2", "--cache", "1MiB", "--seconds", "0"]
"""Two clients, two servers, one round of the workload per phase."""

TIMEOUT_S = 120


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "freepage_lab.cli", *arguments]


def freepage(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory worth exporting: files of many sizes, two levels, an empty file, a link that leads nowhere."""
    root = tmp_path_factory.mktemp("tree")
    for number in range(40):
        directory = root / f"d{number % 4}"
        directory.mkdir(exist_ok=True)
        (directory / f"f{number}").write_bytes(bytes([number]) * (number * 2500))
    (root / "link").symlink_to("nowhere")
    return root


@pytest.fixture(scope="module")
def outcome(
    tree: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    report = tmp_path_factory.mktemp("report") / "demo.json"
    result = freepage("demo", *SMALL, "--export", str(tree), "--json", str(report))
    assert result.returncode == 0, result.stdout + result.stderr
    return result, json.loads(report.read_text())


def growth(phases: list[dict[str, Any]], number: int, *slabs: str) -> int:
    before = phases[number - 1]["orphaned"] if number else {}
    return sum(phases[number]["orphaned"].get(slab, 0) - before.get(slab, 0) for slab in slabs)


def test_shape(outcome: tuple[subprocess.CompletedProcess[str], dict[str, Any]]) -> None:
    report = outcome[1]
    assert set(report) == {"phases", "ok", "timeline"}
    assert report["ok"] is True
    assert len(report["phases"]) == 4
    for phase in report["phases"]:
        assert set(phase) == KEYS | {"name", "servers"}
        assert set(phase["servers"]) == KEYS
        for key in ("policy", "removed", "hook_calls", "skipped", "skipped_owned"):
            assert set(phase[key]) == set(phase["servers"][key]) == PATHS


def test_the_timeline_tells_the_leak_from_its_beginning_to_its_end(
    outcome: tuple[subprocess.CompletedProcess[str], dict[str, Any]], tmp_path: Path
) -> None:
    timeline, phases = outcome[1]["timeline"], outcome[1]["phases"]
    assert len({len(values) for values in timeline.values()}) == 1
    assert list(dict.fromkeys(timeline["phase"])) == [phase["name"] for phase in phases]
    assert timeline["t_s"] == sorted(timeline["t_s"])
    orphans = timeline["orphaned_requests"]
    assert (orphans[0], orphans[-1]) == (0, phases[-1]["orphaned"]["nfs_page"])
    assert orphans == sorted(orphans), "what has leaked stays leaked"
    (tmp_path / "demo.json").write_text(json.dumps(outcome[1]))
    made = freepage("report", str(tmp_path / "demo.json"), "-o", str(tmp_path / "report.html"))
    assert made.returncode == 0, made.stderr
    assert "The leak over time" in (tmp_path / "report.html").read_text()


def test_policies(outcome: tuple[subprocess.CompletedProcess[str], dict[str, Any]]) -> None:
    skipping = [
        {path for path, action in phase["policy"].items() if action == "skip"} for phase in outcome[1]["phases"]
    ]
    assert skipping == [set(), {"reclaim"}, PATHS, set()]


def test_every_removal_is_a_hook_call_or_a_skip(
    outcome: tuple[subprocess.CompletedProcess[str], dict[str, Any]],
) -> None:
    for phase in outcome[1]["phases"]:
        for figures in (phase, phase["servers"]):
            for path in PATHS:
                removed, called, skipped = (figures[key][path] for key in ("removed", "hook_calls", "skipped"))
                assert removed == called + skipped
                assert (called if phase["policy"][path] == "skip" else skipped) == 0
        assert all(phase["removed"][path] > 0 for path in PATHS), phase["removed"]


def test_what_leaks_is_what_was_skipped(outcome: tuple[subprocess.CompletedProcess[str], dict[str, Any]]) -> None:
    phases = outcome[1]["phases"]
    for number, phase in enumerate(phases):
        assert growth(phases, number, "nfs_page", "nfs_dir_array") == sum(phase["skipped_owned"].values())
    assert not any(phases[0]["orphaned"].values())
    assert growth(phases, 1, "nfs_page") > 0
    assert growth(phases, 2, "nfs_page") > 0
    assert phases[3]["orphaned"] == phases[2]["orphaned"], "with the hook back, what leaked stays and nothing is added"
    assert phases[3]["pinned"]["rpc_cred"] == phases[3]["orphaned"]["nfs_page"], "each lost request pins its credential"
    assert phases[3]["orphaned"]["nfs_dir_name"] > 0


def test_no_rule_is_broken_and_the_audit_agrees(
    outcome: tuple[subprocess.CompletedProcess[str], dict[str, Any]],
) -> None:
    for phase in outcome[1]["phases"]:
        for figures in (phase, phase["servers"]):
            assert not any(figures["violations"].values())
            assert figures["audit_agrees"] is True


def test_without_a_terminal_one_line_per_phase_then_the_summary(
    outcome: tuple[subprocess.CompletedProcess[str], dict[str, Any]],
) -> None:
    lines = outcome[0].stdout.splitlines()
    assert [line.partition(" ")[0] for line in lines if line.startswith("phase ")][:4] == ["phase"] * 4
    assert [line.split(":")[0] for line in lines if line.startswith("phase ") and "/4 " in line] == [
        "phase 1/4 hook runs",
        "phase 2/4 skipped on reclaim",
        "phase 3/4 skipped everywhere",
        "phase 4/4 hook runs again",
    ]
    assert sum("/metrics" in line for line in lines) == 4
    assert "\x1b" not in outcome[0].stdout
    assert outcome[0].stderr == ""


# --- bad input ----------------------------------------------------------------------------------------------------


def assert_one_line(result: subprocess.CompletedProcess[str], *words: str) -> None:
    assert result.returncode not in (0, None)
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("freepage: ")
    for word in words:
        assert word in lines[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["demo", "--frobnicate"], ["--frobnicate"]),
        (["demo", "--export", "/does/not/exist"], ["/does/not/exist", "no such directory"]),
        (["demo", "--export", __file__], ["not a directory"]),
        (["demo", "--clients", "1"], ["--clients"]),
        (["demo", "--json", "/does/not/exist/demo.json"], ["/does/not/exist"]),
        (["dance"], ["dance"]),
        (["server", "--export", "/does/not/exist"], ["/does/not/exist"]),
        (["client", "--mount", "nonsense"], ["nonsense"]),
        (["conform", "--workloads", "/does/not/exist", "--truth", "/"], ["/does/not/exist"]),
        (["audit"], ["no freepage daemon"]),
        (["ctl", "hooks", "--address", "127.0.0.1:1"], ["127.0.0.1:1"]),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], words: list[str]) -> None:
    assert_one_line(freepage(*arguments), *words)


def test_an_empty_export_is_refused(tmp_path: Path) -> None:
    assert_one_line(freepage("demo", "--export", str(tmp_path)), "no files")


def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert_one_line(freepage("server", "--export", str(tmp_path), "--listen", address), address, "taken")


# --- ends ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def running(tree: Path) -> Iterator[subprocess.Popen[str]]:
    """A demo that goes on until it is stopped, in its first phases."""
    arguments = ["demo", *SMALL, "--export", str(tree), "--hold"]
    process = subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("phase 1/4"):
            break
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


def assert_nothing_is_left() -> None:
    assert list_daemons() == []
    assert not list(Path(tempfile.gettempdir()).glob("freepage-demo-*"))


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_stopped_by_a_signal(running: subprocess.Popen[str], signum: signal.Signals) -> None:
    running.send_signal(signum)
    _, errors = running.communicate(timeout=TIMEOUT_S)
    assert running.returncode == 130
    assert errors.splitlines() == ["freepage: stopped"]
    assert_nothing_is_left()


@pytest.mark.parametrize("role", ["server", "client"])
def test_a_daemon_killed_in_the_middle(running: subprocess.Popen[str], role: str) -> None:
    victim = list_daemons(role)[0]
    os.kill(victim.pid, signal.SIGKILL)
    _, errors = running.communicate(timeout=TIMEOUT_S)
    assert running.returncode == 1
    assert errors.splitlines() == [f"freepage: {victim.name} (pid {victim.pid}) was killed by SIGKILL"]
    assert_nothing_is_left()


def test_the_tools_find_the_demos_daemons(running: subprocess.Popen[str]) -> None:
    listed = json.loads(freepage("ps", "--json").stdout)
    assert sorted(daemon["name"] for daemon in listed) == ["client1", "client2", "server1", "server2"]
    audit = json.loads(freepage("audit", "--role", "client", "--json").stdout)
    assert audit["agrees"] is True
    assert [daemon["name"] for daemon in audit["daemons"]] == ["client1", "client2"]
    assert "run" in freepage("ctl", "hooks", "--name", "client1").stdout
    assert "nfs_page" in freepage("slab", "--name", "client1").stdout
    assert "slabinfo - version: 2.1" in freepage("slab", "--name", "client1", "--raw").stdout
    assert "nr_file_pages" in freepage("vmstat", "--name", "client1").stdout
    assert "dropped" in freepage("ctl", "drop-caches", "--name", "client1").stdout
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=TIMEOUT_S)
