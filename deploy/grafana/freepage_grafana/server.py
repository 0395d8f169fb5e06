"""Server: what it is asked, what it does to the disk, and its page cache."""

from __future__ import annotations

from .client import cache_rows
from .dashboard import Dashboard, Row, Variable
from .panel import LEAK, Query, Threshold, heatmap, quantile, rate, series, stat

W = 'job="freepage-server", service=~"$service"'

SERVER = Dashboard(
    "server",
    "Server",
    "What the servers are asked, what they do to the disk, and their page caches.",
    (
        Row(
            "The servers",
            (
                stat("Up", "Servers whose metrics can be read.", "short", Query(f"sum(up{{{W}}})", "up")),
                stat(
                    "Exports",
                    "Directories exported.",
                    "short",
                    Query(f"sum(freepage_server_exports{{{W}}})", "exports"),
                ),
                stat(
                    "In flight",
                    "Calls being executed.",
                    "short",
                    Query(f"sum(freepage_server_rpcs_in_flight{{{W}}})", "calls"),
                ),
                stat(
                    "Failed inside",
                    "Calls that failed in the server, and requests that were no message of the protocol.",
                    "short",
                    Query(
                        f"sum(freepage_server_internal_errors_total{{{W}}}) "
                        f"+ sum(freepage_server_garbage_requests_total{{{W}}})",
                        "calls",
                    ),
                    thresholds=LEAK,
                ),
                stat(
                    "Verifier changes",
                    "Unstable data could not be written, and clients have to send it again.",
                    "short",
                    Query(f"sum(freepage_server_write_verifier_changes_total{{{W}}})", "changes"),
                    thresholds=(Threshold(1, "orange"),),
                ),
                stat(
                    "Foreign changes",
                    "Files that others changed behind the server's back.",
                    "short",
                    Query(f"sum(freepage_server_foreign_changes_total{{{W}}})", "changes"),
                ),
            ),
        ),
        Row(
            "Calls",
            (
                series(
                    "Calls by procedure",
                    "Answered a second.",
                    "reqps",
                    Query(rate("freepage_server_rpcs_total", "procedure", W) + " > 0 or vector(0)", "{{procedure}}"),
                    stacked=True,
                ),
                series(
                    "Latency by procedure, p99",
                    "From a request's arrival to its encoded reply.",
                    "s",
                    Query(
                        quantile(0.99, "freepage_server_rpc_duration_seconds", "procedure", W) + " > 0 or vector(0)",
                        "{{procedure}}",
                    ),
                ),
                heatmap("Latency", "All procedures.", f"freepage_server_rpc_duration_seconds_bucket{{{W}}}", width=8),
                series(
                    "Calls by server",
                    "Answered a second.",
                    "reqps",
                    Query(rate("freepage_server_rpcs_total", "service", W), "{{service}}"),
                ),
                series(
                    "Errors",
                    "Replies with a status other than OK, by procedure and by status.",
                    "cps",
                    Query(
                        rate("freepage_server_rpc_errors_total", "procedure", W) + " > 0 or vector(0)", "{{procedure}}"
                    ),
                    Query(rate("freepage_server_error_replies_total", "status", W) + " > 0 or vector(0)", "{{status}}"),
                ),
                series(
                    "Duplicate request cache",
                    "Calls that change something: hits were answered before, as after a retransmission.",
                    "cps",
                    Query(rate("freepage_server_reply_cache_total", "result", W), "{{result}}"),
                ),
            ),
        ),
        Row(
            "Limits",
            (
                series(
                    "Refused",
                    "Calls refused because too much was waiting.",
                    "cps",
                    Query(rate("freepage_server_refused_calls_total", "service", W), "{{service}}"),
                    width=12,
                ),
                series(
                    "Slow",
                    "Calls broken off because their request did not come or their reply was not taken.",
                    "cps",
                    Query(rate("freepage_server_slow_calls_total", "service", W), "{{service}}"),
                    width=12,
                ),
            ),
        ),
        Row(
            "Data",
            (
                series(
                    "To and from clients",
                    "File data.",
                    "Bps",
                    Query(rate("freepage_server_read_bytes_total", "service", W), "read {{service}}"),
                    Query(rate("freepage_server_write_bytes_total", "service", W), "written {{service}}"),
                ),
                series(
                    "To and from files",
                    "Below the page cache.",
                    "Bps",
                    Query(rate("freepage_storage_read_bytes_total", "service", W), "read {{service}}"),
                    Query(rate("freepage_storage_write_bytes_total", "service", W), "written {{service}}"),
                ),
                series(
                    "File operations",
                    "Below the page cache: reads, writes, syncs.",
                    "iops",
                    Query(rate("freepage_storage_reads_total", where=W), "reads"),
                    Query(rate("freepage_storage_writes_total", where=W), "writes"),
                    Query(rate("freepage_storage_syncs_total", where=W), "syncs"),
                ),
            ),
        ),
        *cache_rows(W),
    ),
    (Variable("service", "Server", 'label_values(freepage_server_exports{job="freepage-server"}, service)'),),
)
