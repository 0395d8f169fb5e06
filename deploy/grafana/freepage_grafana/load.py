"""Load: what the generators do and what they get."""

from __future__ import annotations

from .dashboard import Dashboard, Row
from .panel import LEAK, Query, Threshold, heatmap, quantile, rate, series, stat, table

WHO = "{{service}} {{instance}}"

LOAD = Dashboard(
    "load",
    "Load",
    "What the load generators do, and how long they wait for it.",
    (
        Row(
            "The load",
            (
                table("Profiles", "What is driven, in open or closed loop.", "freepage_load_info", width=8, height=4),
                stat("Clients", "Client daemons driven.", "short", Query("sum(freepage_load_clients)", "clients")),
                stat("Programs", "Running on them.", "short", Query("sum(freepage_load_workers)", "programs")),
                stat(
                    "Errors",
                    "Operations that failed.",
                    "short",
                    Query("sum(freepage_load_errors_total)", "errors"),
                    thresholds=LEAK,
                ),
                stat(
                    "Corrupt",
                    "Reads that did not find what was written.",
                    "short",
                    Query('sum(freepage_load_errors_total{error="corrupt"})', "reads"),
                    thresholds=LEAK,
                ),
            ),
        ),
        Row(
            "Operations",
            (
                series(
                    "Operations a second",
                    "Those that ended well, by operation.",
                    "ops",
                    Query(rate("freepage_load_operation_duration_seconds_count", "operation"), "{{operation}}"),
                    stacked=True,
                ),
                series(
                    "Latency of operations",
                    "From the time they were due (open loop) or begun.",
                    "s",
                    Query(quantile(0.5, "freepage_load_operation_duration_seconds", "operation"), "p50 {{operation}}"),
                    Query(quantile(0.99, "freepage_load_operation_duration_seconds", "operation"), "p99 {{operation}}"),
                ),
                heatmap("Latency", "All operations.", "freepage_load_operation_duration_seconds_bucket", width=8),
                series(
                    "Wanted and done",
                    "Open loop: operations a second that are owed, and that are done.",
                    "ops",
                    Query("sum(freepage_load_target_rate)", "wanted"),
                    Query(rate("freepage_load_operation_duration_seconds_count"), "done"),
                ),
                series(
                    "Behind schedule",
                    "How late an open loop is.",
                    "s",
                    Query("freepage_load_late_seconds", WHO),
                    thresholds=(Threshold(1, "orange"),),
                ),
                series("In flight", "Operations under way.", "short", Query("freepage_load_in_flight", WHO)),
            ),
        ),
        Row(
            "System calls and data",
            (
                series(
                    "Latency of system calls, p99",
                    "By call.",
                    "s",
                    Query(quantile(0.99, "freepage_load_call_duration_seconds", "call"), "{{call}}"),
                ),
                series(
                    "Data",
                    "Read, written, and found as written.",
                    "Bps",
                    Query(rate("freepage_load_read_bytes_total"), "read"),
                    Query(rate("freepage_load_written_bytes_total"), "written"),
                    Query(rate("freepage_load_verified_bytes_total"), "verified"),
                ),
                series(
                    "Errors by kind",
                    "By operation and errno.",
                    "cps",
                    Query(rate("freepage_load_errors_total", "operation, error"), "{{operation}} {{error}}"),
                ),
            ),
        ),
    ),
)
