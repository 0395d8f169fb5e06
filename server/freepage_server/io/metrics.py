"""What a server counts, as Prometheus metrics: its calls and the file I/O below its page cache."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric

from freepage_proto.rpc import Procedure
from freepage_runtime.cache_metrics import counter, gauge, histogram, labelled
from freepage_server.io.service import ServiceStats
from freepage_server.nfsd.server import NfsServer


def server(nfsd: NfsServer, service: ServiceStats) -> Iterator[Metric]:
    """The metrics of one server beside its page cache's."""
    stats = nfsd.stats
    procedures = stats.by_procedure.items()
    yield labelled(
        CounterMetricFamily,
        "freepage_server_rpcs",
        "Calls answered, by procedure.",
        ("procedure",),
        {(procedure.display_name,): of.calls for procedure, of in procedures},
    )
    yield labelled(
        CounterMetricFamily,
        "freepage_server_rpc_errors",
        "Calls answered with a status other than OK, by procedure.",
        ("procedure",),
        {(procedure.display_name,): of.errors for procedure, of in procedures},
    )
    yield labelled(
        CounterMetricFamily,
        "freepage_server_error_replies",
        "NFSv3 replies with a status other than OK, by status.",
        ("status",),
        {(status.name,): count for status, count in stats.error_replies.items()},
    )
    yield histogram(
        "freepage_server_rpc_duration_seconds",
        "Time from a request's arrival to its encoded reply, by procedure.",
        "procedure",
        [(procedure.display_name, of.latency) for procedure, of in service.by_procedure.items()],
    )
    yield gauge("freepage_server_rpcs_in_flight", "Calls being executed.", stats.in_flight)
    yield counter("freepage_server_garbage_requests", "Requests that were no message of the protocol.", service.garbage)
    yield counter("freepage_server_refused_calls", "Calls refused because too much was waiting.", service.refused)
    yield counter(
        "freepage_server_slow_calls",
        "Calls broken off because their request did not come or their reply was not taken.",
        service.slow_peers(),
    )
    yield counter("freepage_server_internal_errors", "Calls that failed inside the server.", service.internal_errors)
    read, write = stats.by_procedure[Procedure.READ], stats.by_procedure[Procedure.WRITE]
    yield counter("freepage_server_read_bytes", "File data sent to clients.", read.bytes_read)
    yield counter("freepage_server_write_bytes", "File data taken from clients.", write.bytes_written)
    yield counter("freepage_storage_reads", "Reads of files below the page cache.", stats.storage_reads)
    yield counter("freepage_storage_read_bytes", "Bytes read from files.", stats.storage_read_bytes)
    yield counter("freepage_storage_writes", "Writes to files below the page cache.", stats.storage_writes)
    yield counter("freepage_storage_write_bytes", "Bytes written to files.", stats.storage_write_bytes)
    yield counter("freepage_storage_syncs", "Times a file was synced.", stats.storage_syncs)
    yield counter(
        "freepage_server_foreign_changes", "Files that others changed behind the server's back.", stats.foreign_changes
    )
    yield counter(
        "freepage_server_write_verifier_changes",
        "Times the write verifier changed because a write failed: clients send again what they have not committed.",
        stats.write_verifier_changes,
    )
    replies = nfsd.replies
    yield labelled(
        CounterMetricFamily,
        "freepage_server_reply_cache",
        "Calls that change something, by whether the duplicate request cache had been asked before.",
        ("result",),
        {("hit",): replies.hits, ("miss",): replies.misses},
    )
    yield gauge("freepage_server_exports", "Exports.", len(nfsd.exports))
