"""What /metrics shows: every series from the start, integers as they are, and nothing that promtool dislikes."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from freepage import RULES, PageCache, RemovalPath
from freepage_client.io import metrics as client_metrics
from freepage_client.io.metrics import BYTES, EVENTS
from freepage_client.io.transport import CallStats
from freepage_client.machine import Machine
from freepage_client.nfs.iostat import BYTES as KERNEL_BYTES
from freepage_client.nfs.iostat import EVENTS as KERNEL_EVENTS
from freepage_client.nfs.iostat import IoStats
from freepage_proto.nfs3 import CommitRes, NfsStat3, WriteRes
from freepage_proto.nlm4 import NlmRes, NlmStat4
from freepage_proto.rpc import NFS3_PROCEDURES, Procedure
from freepage_runtime.cache_metrics import MachineCollector, metrics_page, registry
from freepage_runtime.clock import LoopClock, wall_ns
from freepage_runtime.histogram import LATENCY_BOUNDS_S, LatencyHistogram
from freepage_runtime.httpd import Request
from freepage_runtime.settings import Address
from freepage_server.io import metrics as server_metrics
from freepage_server.io.service import ServiceStats
from freepage_server.nfsd.memory import MemoryStorage
from freepage_server.nfsd.server import Export, NfsServer

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(cache: PageCache, role: str, more: Callable[[], Iterator[Any]]) -> str:
    page = metrics_page(
        registry(MachineCollector(cache, role=role, version="0", more=more)), Request("GET", "/metrics", "", {})
    )
    assert page.content_type.startswith("text/plain")
    return page.body.decode()


def samples(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def labels(found: Samples, name: str, label: str) -> set[str]:
    return {dict(each)[label] for sample, each in found if sample == name}


def machine() -> Machine:
    class NoNetwork:
        def connect(self, server: str) -> Any:
            raise AssertionError("nothing is mounted here")

    return Machine("host", network=NoNetwork(), clock=LoopClock(), memory_bytes=1 << 20)


def client_page(calls: CallStats | None = None) -> str:
    async def main() -> str:
        host = machine()
        page = scrape(host.cache, "client", lambda: client_metrics.client(host, calls or CallStats()))
        await host.close()
        return page

    return asyncio.run(main())


def server_page() -> str:
    async def main() -> str:
        storage = MemoryStorage(wall_ns=wall_ns)
        nfsd = NfsServer([Export("/export", storage)], clock=LoopClock(), wall_ns=wall_ns)
        return scrape(nfsd.cache, "server", lambda: server_metrics.server(nfsd, ServiceStats()))

    return asyncio.run(main())


@pytest.mark.parametrize("page", [client_page, server_page])
def test_every_label_value_is_there_from_the_start(page: Callable[[], str]) -> None:
    found = samples(page())
    paths = {path.value for path in RemovalPath}
    for name in ("pagecache_removed_pages", "hook_calls", "hook_skips", "hook_skips_owned", "hook_orphans"):
        assert labels(found, f"freepage_{name}_total", "path") == paths
    assert labels(found, "freepage_hook_violations_total", "rule") == set(RULES)
    assert labels(found, "freepage_pagecache_pages", "state") == {"clean", "dirty", "writeback"}
    assert labels(found, "freepage_slab_objects", "state") == {"in_use", "cached", "orphaned"}
    assert {"nfs_page", "rpc_cred"} <= labels(found, "freepage_slab_objects", "slab")
    role = "client" if "freepage_client_mounts" in {name for name, _ in found} else "server"
    statuses = {status.name for status in NfsStat3} - {"OK"}
    assert labels(found, f"freepage_{role}_error_replies_total", "status") == statuses
    procedures = {procedure.display_name for procedure in Procedure}
    assert labels(found, f"freepage_{role}_rpcs_total", "procedure") == procedures
    assert labels(found, f"freepage_{role}_rpc_duration_seconds_bucket", "procedure") == procedures


@pytest.mark.parametrize("page", [client_page, server_page])
def test_promtool_is_content(page: Callable[[], str], require_tool: Any) -> None:
    promtool = require_tool("promtool", debian="prometheus")
    done = subprocess.run([promtool, "check", "metrics"], input=page(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_latencies_are_a_histogram() -> None:
    calls = CallStats()
    read = calls.by_procedure[Procedure.READ]
    for seconds in (0.0001, 0.0005, 0.003, 99.0):
        read.calls += 1
        read.latency.observe(seconds)
    found = samples(client_page(calls))

    def bucket(bound: str) -> float:
        each = frozenset({("procedure", "READ"), ("le", bound)})
        return found["freepage_client_rpc_duration_seconds_bucket", each]

    assert [bucket(bound) for bound in ("0.0005", "0.0025", "0.005", "10.0", "+Inf")] == [2, 2, 3, 3, 4]
    only = frozenset({("procedure", "READ")})
    assert found["freepage_client_rpc_duration_seconds_sum", only] == pytest.approx(99.0036)
    assert found["freepage_client_rpcs_total", only] == 4


def test_replies_tell_errors_and_a_server_that_restarted() -> None:
    calls = CallStats()
    here, there = Address("here", 2049), Address("there", 2049)
    calls.note(here, WriteRes(NfsStat3.STALE))
    calls.note(here, NlmRes(NlmStat4.DENIED))  # another program's status
    for server, verifier in ((here, b"a"), (there, b"b"), (here, b"a"), (there, b"b"), (here, b"c"), (here, b"c")):
        calls.note(server, CommitRes(NfsStat3.OK, verf=verifier))
    found = samples(client_page(calls))
    assert found["freepage_client_error_replies_total", frozenset({("status", "STALE")})] == 1
    assert sum(value for (name, _), value in found.items() if name == "freepage_client_error_replies_total") == 1
    assert found["freepage_client_write_verifier_changes_total", frozenset()] == 1


CARDINALITY = {"client": 1000, "server": 1000}
"""Series per process, without mounts; MOUNT_CARDINALITY more for each mount."""
MOUNT_CARDINALITY = 260


@pytest.mark.parametrize("page", [client_page, server_page])
def test_a_process_keeps_to_its_budget_of_series(page: Callable[[], str]) -> None:
    found = samples(page())
    role = "client" if page is client_page else "server"
    assert CARDINALITY[role] * 0.7 < len(found) <= CARDINALITY[role]
    allowed = {"path", "rule", "fault", "slab", "use", "state", "list", "event", "procedure", "status", "le"}
    allowed |= {"role", "name", "version", "threshold", "result"}
    assert {label for _, each in found for label, _ in each} <= allowed


def test_a_mount_keeps_to_its_budget_of_series() -> None:
    mounts = [FakeMount(), FakeMount()]
    mounts[1].source = "other:/export"
    one, two = (
        len([sample for family in client_metrics.mountstats(some, 1.0) for sample in family.samples])  # type: ignore[arg-type]
        for some in (mounts[:1], mounts)
    )
    assert MOUNT_CARDINALITY * 0.7 < one <= MOUNT_CARDINALITY
    assert two == 2 * one


def test_a_histogram_counts_a_bound_as_within() -> None:
    histogram = LatencyHistogram()
    for bound in LATENCY_BOUNDS_S:
        histogram.observe(bound)
    assert histogram.counts == [1] * len(LATENCY_BOUNDS_S) + [0]
    assert histogram.total == len(LATENCY_BOUNDS_S)
    assert histogram.buckets()[-1] == ("+Inf", len(LATENCY_BOUNDS_S))


class FakeMount:
    """The part of a mount that its metrics look at."""

    source, server, mountpoint = "server:/export", "server", "/mnt"

    def __init__(self) -> None:
        self.stats = IoStats(100.0)


def test_a_mount_has_the_series_of_node_exporter() -> None:
    mount = FakeMount()
    mount.stats.ops[Procedure.READ].ops = 7
    mount.stats.ops[Procedure.READ].bytes_recv = 4224
    mount.stats.events["vfsopen"] = 3
    mount.stats.bytes.normalread = 4096
    page = "".join(
        f"{sample.name} {sorted(sample.labels.items())} {sample.value}\n"
        for family in client_metrics.mountstats([mount], 160.0)  # type: ignore[list-item]
        for sample in family.samples
    )
    where = "('export', 'server:/export'), ('mountaddr', 'server')"
    operation = "node_mountstats_nfs_operations"
    for line in (
        f"node_mountstats_nfs_age_seconds_total [{where}, ('protocol', 'tcp')] 60.0",
        f"node_mountstats_nfs_event_vfs_open_total [{where}, ('protocol', 'tcp')] 3",
        f"node_mountstats_nfs_read_bytes_total [{where}, ('protocol', 'tcp')] 4096",
        f"{operation}_requests_total [{where}, ('operation', 'READ'), ('protocol', 'tcp')] 7",
        f"{operation}_received_bytes_total [{where}, ('operation', 'READ'), ('protocol', 'tcp')] 4224",
        f"{operation}_requests_total [{where}, ('operation', 'COMMIT'), ('protocol', 'tcp')] 0",
        f"node_mountstats_nfs_mountpoint_info [{where}, ('mountpoint', '/mnt'), ('protocol', 'tcp')] 1",
    ):
        assert line in page
    assert page.count("operations_requests_total") == len(NFS3_PROCEDURES) == 22


def test_no_counter_of_the_kernel_is_forgotten() -> None:
    """node_exporter exports 26 of the 27 events (not the congestion wait) and all 8 byte counters."""
    assert set(EVENTS) == set(KERNEL_EVENTS) - {"congestionwait"}
    assert len(set(EVENTS.values())) == 26
    assert set(BYTES) == set(KERNEL_BYTES)
