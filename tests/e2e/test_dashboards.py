"""Every query of every dashboard returns data: real daemons, a real load, a real Prometheus."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from xml.etree import ElementTree

import pytest

from daemon_rig import END_S, START_S, client, server
from freepage_client.io.remote import RemoteMachine
from freepage_grafana.all import DASHBOARDS
from freepage_grafana.fleet import FLEET
from freepage_grafana.screen import main as screen
from prometheus_rig import INTERVAL_S, Prometheus, Target

VARIABLES = {"$__rate_interval": f"{round(4 * INTERVAL_S * 1000)}ms", "$service": ".+", "$instance": ".+"}

NODE_EXPORTER = {
    "operations a second": "sum by (operation) (rate(node_mountstats_nfs_operations_requests_total[{rate}]))",
    "mean response time": (
        "rate(node_mountstats_nfs_operations_response_time_seconds_total[{rate}]) "
        "/ rate(node_mountstats_nfs_operations_requests_total[{rate}])"
    ),
    "retransmissions": (
        "sum by (export) (rate(node_mountstats_nfs_operations_transmissions_total[{rate}]) "
        "- rate(node_mountstats_nfs_operations_requests_total[{rate}]))"
    ),
    "throughput": (
        "sum by (export, mountaddr) (rate(node_mountstats_nfs_total_read_bytes_total[{rate}]) "
        "+ rate(node_mountstats_nfs_total_write_bytes_total[{rate}]))"
    ),
    "backlog": (
        "rate(node_mountstats_nfs_transport_backlog_queue_total[{rate}]) "
        "/ rate(node_mountstats_nfs_transport_sends_total[{rate}])"
    ),
    "where it is mounted": (
        "rate(node_mountstats_nfs_read_bytes_total[{rate}]) * on (instance, export, mountaddr) "
        "group_left (mountpoint) node_mountstats_nfs_mountpoint_info"
    ),
}
"""What dashboards for node_exporter's mountstats collector ask for."""


OPTIONS = ["--duration", "forever", "--rate", "10", "--workers", "1", "--seed", "1", "--metrics", "127.0.0.1:0"]


@contextmanager
def load(addresses: list[str]) -> Iterator[str]:
    """``freepage load`` until the end of the block; its metrics' address."""
    clients = [argument for address in addresses for argument in ("--address", address)]
    process = subprocess.Popen(
        [sys.executable, "-m", "freepage_lab.cli", "load", "build", *clients, *OPTIONS],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    too_late = threading.Timer(START_S, process.kill)
    too_late.start()
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.search(r"metrics: http://([^/]+)/", line):
                too_late.cancel()
                yield found[1]
                break
        else:
            raise AssertionError("the load ended before it began")
    finally:
        too_late.cancel()
        process.terminate()
        try:
            process.communicate(timeout=END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def expressions() -> Iterator[tuple[str, str]]:
    """(where, PromQL) of every panel, with the variables as Grafana would fill them in."""
    for dashboard in DASHBOARDS:
        for panel in dashboard.panels():
            for number, query in enumerate(panel.queries):
                expression = query.expr
                for name, value in VARIABLES.items():
                    expression = expression.replace(name, value)
                yield f"{dashboard.uid}: {panel.title} ({number})", expression
    for name, expression in NODE_EXPORTER.items():
        yield f"node_exporter: {name}", expression.format(rate=VARIABLES["$__rate_interval"])


async def leak(address: str) -> None:
    async with RemoteMachine(address) as machine:
        task = await machine.task()
        fd = await task.open("/mnt/big", os.O_RDONLY)
        while await task.read(fd, 1 << 20, discard=True):
            pass
        await task.close(fd)
        assert await machine.drop_caches(1) > 0


def test_every_panel_has_data(
    tmp_path: Path, require_tool: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    binary = require_tool("prometheus", debian="prometheus")
    export = tmp_path / "export"
    export.mkdir()
    (export / "big").write_bytes(bytes(1 << 20))
    with ExitStack() as stack:
        serving = stack.enter_context(server(export, "--audit-every", "1")).wait_ready()
        options = ("--cache", "16MiB", "--audit-every", "1")
        healthy = stack.enter_context(client(serving, *options, name="healthy"))
        leaky = stack.enter_context(client(serving, *options, "--hook", "all=skip", name="leaky"))
        healthy.wait_ready()
        leaky.wait_ready()
        generating = stack.enter_context(ExitStack())
        generator = generating.enter_context(load([healthy.control, leaky.control]))
        targets: list[Target] = [
            ("freepage-server", "server", serving.ready["metrics"]),
            ("freepage-client", "healthy", healthy.ready["metrics"]),
            ("freepage-client", "leaky", leaky.ready["metrics"]),
            ("freepage-load", "loadgen", generator),
        ]
        with Prometheus(binary, tmp_path / "prometheus", targets) as prometheus:
            asyncio.run(leak(leaky.control))
            empty = dict(expressions())

            def some_are_empty() -> bool:
                """Ask again what had no data so far: rates need two scrapes, histograms a call, alerts a leak."""
                for where, expression in list(empty.items()):
                    if prometheus.query(expression):
                        del empty[where]
                return bool(empty)

            try:
                prometheus.wait(lambda: not some_are_empty(), "every panel to have data", timeout_s=30.0)
            except AssertionError as error:
                raise AssertionError(f"{error}: {empty}") from None
            picture = tmp_path / "fleet.svg"
            assert screen(["--prometheus", prometheus.url, "--minutes", "1", "--out", str(picture)]) == 0
            words = {element.text for element in ElementTree.parse(picture).iter() if element.text}
            assert {panel.title for panel in FLEET.panels() if panel.kind in ("stat", "timeseries")} <= words
            assert "no data" not in words
        assert screen(["--prometheus", prometheus.url, "--out", str(picture)]) == 1  # it has ended
        assert "freepage: " in capsys.readouterr().err
        generating.close()
        for daemon in (healthy, leaky, serving):
            assert daemon.stop() == 0, daemon.stderr
