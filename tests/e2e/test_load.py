"""`freepage load` on real processes: its figures, its thresholds, and what it does when something dies under it."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon_rig import DaemonProcess, client, server
from freepage_lab.cli import command as cli
from freepage_runtime.registry import list_daemons

TIMEOUT_S = 120
Fleet = tuple[Path, DaemonProcess, list[DaemonProcess]]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """An export, its server and two clients."""
    export = tmp_path_factory.mktemp("export")
    with server(export) as nfsd:
        nfsd.wait_ready()
        with client(nfsd, name="c1") as one, client(nfsd, name="c2") as other:
            yield export, nfsd, [one.wait_ready(), other.wait_ready()]
            assert one.stop() == other.stop() == 0
        assert nfsd.stop() == 0


def start(clients: list[DaemonProcess], *arguments: str) -> subprocess.Popen[str]:
    addresses = [word for each in clients for word in ("--address", each.control)]
    return subprocess.Popen(
        [sys.executable, "-m", "freepage_lab.cli", "load", *arguments, *addresses],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def load(clients: list[DaemonProcess], *arguments: str) -> tuple[int, str, str]:
    process = start(clients, *arguments)
    out, err = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, out, err


def wait_until_running(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("running:"):
            return
    raise AssertionError(process.communicate())


def test_two_processes_drive_two_clients_and_their_figures_agree_with_the_daemons(fleet: Fleet, tmp_path: Path) -> None:
    export, _, clients = fleet
    report, table = tmp_path / "report.json", tmp_path / "table.csv"
    before = [rpcs(each) for each in clients]
    code, out, err = load(
        clients, "shared", "--processes", "2", "--operations", "80", "--think", "0", "--seed", "5",
        "--json", str(report), "--csv", str(table), "--fail-if", "errors>0", "--fail-if", "orphans>0",
    )  # fmt: skip
    assert (code, err) == (0, ""), out + err
    data: dict[str, Any] = json.loads(report.read_text())
    assert (data["operations"], data["errors"], data["corrupt"], data["orphans"], data["seed"]) == (80, 0, 0, 0, 5)
    assert sum(each["count"] for each in data["latency"].values()) == 80
    for each in (*data["latency"].values(), *data["calls"].values()):
        assert 0 < each["p50_ms"] <= each["p99_ms"] <= each["max_ms"]
    assert data["verified_mib"] > 0
    sent = sum(rpcs(each) for each in clients) - sum(before)
    assert 0 < sum(data["rpc_mix"].values()) == data["rpcs"] <= sent
    assert {row["name"] for row in csv.DictReader(table.read_text().splitlines()) if row["kind"] == "operation"} == set(
        data["latency"]
    )
    assert os.listdir(export) == [], "the files are removed"  # noqa: PTH208
    assert "✓ no errors, no orphans" in out
    page = tmp_path / "report.html"
    assert cli.run(["report", str(report), "-o", str(page)]) in (0, None)
    assert "no errors, nothing leaked" in page.read_text()


def rpcs(daemon: DaemonProcess) -> int:
    lines = daemon.page("/metrics").splitlines()
    return int(sum(float(line.split()[-1]) for line in lines if line.startswith("freepage_client_rpcs_total")))


def test_a_leak_crosses_its_threshold(fleet: Fleet) -> None:
    clients = fleet[2]
    for each in clients:
        assert cli.run(["ctl", "hooks", "evict=skip", "--address", each.control]) == 0
    code, out, err = load(clients, "logs", "--operations", "40", "--fail-if", "orphans>0", "--fail-if", "errors>0")
    assert (code, err) == (1, "")
    assert "✗ orphans>0: it is " in out
    assert "✗ errors>0" not in out
    assert "pages that left by evict" in out
    for each in clients:
        assert cli.run(["ctl", "hooks", "all=run", "--address", each.control]) == 0


def test_a_client_that_is_killed_costs_errors_and_not_the_load(fleet: Fleet, tmp_path: Path) -> None:
    export, nfsd, (one, _) = fleet
    report = tmp_path / "report.json"
    with client(nfsd, name="c3") as other:
        other.wait_ready()
        process = start([one, other], "logs", "--duration", "3s", "--workers", "1", "--json", str(report))
        wait_until_running(process)
        other.process.kill()
        out, err = process.communicate(timeout=TIMEOUT_S)
    assert {daemon.name for daemon in list_daemons()} == {"server", "c1", "c2"}  # and forgets the one that was killed
    assert (process.returncode, err) == (0, ""), out
    data = json.loads(report.read_text())
    assert {failure["error"] for failure in data["failures"]} == {"unreachable"}
    assert data["operations"] > 0
    assert os.listdir(export) == [], "the other client removes what it left"  # noqa: PTH208


def done(url: str) -> str:
    """How many operations have ended, as /metrics says it."""
    with urllib.request.urlopen(f"{url}metrics") as answer:
        lines = answer.read().decode().splitlines()
    return "\n".join(line for line in lines if line.startswith("freepage_load_operation_duration_seconds_count"))


def test_ctrl_c_ends_it_although_the_server_is_away(fleet: Fleet) -> None:
    export, nfsd, clients = fleet
    process = start(clients, "logs", "--duration", "forever", "--workers", "1", "--metrics", "127.0.0.1:0")
    assert process.stdout is not None
    url = process.stdout.readline().split()[-1]
    wait_until_running(process)
    with urllib.request.urlopen(f"{url}metrics") as answer:
        assert b'freepage_load_info{loop="closed",profile="logs"} 1.0' in answer.read()
    with urllib.request.urlopen(f"{url}api/status") as answer:
        assert json.load(answer)["role"] == "load"
    nfsd.process.send_signal(signal.SIGSTOP)
    try:
        before = ""
        while (now := done(url)) != before:  # until both workers wait for the server
            before = now
            time.sleep(0.5)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=TIMEOUT_S)
        assert time.monotonic() - began < 20
        assert (process.returncode, err) == (0, ""), "it had no end of its own"
        assert re.search(r"(append|follow) unfinished \d", out)
        assert "left behind: freepage-load-logs-" in out
    finally:
        nfsd.process.send_signal(signal.SIGCONT)
    for each in export.iterdir():
        shutil.rmtree(each)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["no-such-profile"], "there is no profile 'no-such-profile'"),
        (["logs", "--fail-if", "p99"], "--fail-if 'p99' is no comparison"),
        (["logs", "--address", "127.0.0.1:1"], "cannot reach the daemon at 127.0.0.1:1"),
        (["logs", "--address", "nonsense"], "not an address"),
        (["logs", "--name", "nobody"], "no freepage client is"),
        (["logs", "--discover", "dns:localhost:1", "--name", "c1"], "--discover finds the clients itself"),
        (["logs", "--duration", "soon"], "not a duration"),
        (["logs", "--json", "/no/such/dir/x.json"], "there is no such directory"),
        (["logs", "--token-file", "/no/such/token"], "cannot read the token file"),
    ],
)
def test_what_is_wrong_is_one_line(arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["load", *arguments]) not in (0, None)
    err = capsys.readouterr().err
    assert err.startswith("freepage: ") and err.count("\n") == 1, err
    assert problem in err


def test_list_and_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["load", "--list"]) == 0
    assert "pressure  A working set one and a half times" in capsys.readouterr().out
    assert cli.run(["load", "--show", "logs"]) == 0
    assert capsys.readouterr().out.startswith('about = "Logs: ')


def test_a_cluster_of_its_own(tmp_path: Path) -> None:
    code, out, err = load([], "logs", "--demo", "--operations", "6", "--workers", "1", "--fail-if", "errors>0")
    assert (code, err) == (0, ""), out + err
    assert "2 clients" in out
