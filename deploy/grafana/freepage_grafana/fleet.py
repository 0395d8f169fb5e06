"""Fleet: does anything leak, and how do all the clients do."""

from __future__ import annotations

from .dashboard import Dashboard, Row
from .panel import LEAK, Query, Threshold, heatmap, rate, series, stat, table

WHO = "{{service}} {{instance}}"
CLIENTS = 'job="freepage-client"'

FLEET = Dashboard(
    "fleet",
    "Fleet",
    "Leaks first; then caches, calls and processes of all clients.",
    (
        Row(
            "Leaks",
            (
                stat(
                    "Orphaned objects",
                    "Objects whose page is gone and which nobody will release. Any is a leak.",
                    "short",
                    Query("sum(freepage:orphaned_objects)", "orphans"),
                    thresholds=LEAK,
                ),
                stat(
                    "Leaking now",
                    "Daemons that lost objects in the last minute.",
                    "short",
                    Query(
                        "count(sum by (instance) (increase(freepage_hook_orphans_total[1m])) > 0) or vector(0)",
                        "leaking",
                    ),
                    thresholds=LEAK,
                ),
                stat(
                    "Hook forgotten",
                    "Removed pages minus hook calls, minus skips by policy, minus mappings without a hook.",
                    "short",
                    Query("sum(clamp_min(freepage:hook_uncalled_pages, 0))", "pages"),
                    thresholds=LEAK,
                ),
                stat(
                    "Rules broken",
                    "Violations of the hook's rules (pagecache/LOCKING.md), all together.",
                    "short",
                    Query("sum(freepage_hook_violations_total)", "violations"),
                    thresholds=LEAK,
                ),
                stat(
                    "Credentials pinned",
                    "References that orphans hold on live credentials.",
                    "short",
                    Query('sum(freepage_slab_pinned_references{slab="rpc_cred"})', "references"),
                    thresholds=LEAK,
                ),
                stat(
                    "Alerts",
                    "Firing, but for those that only inform.",
                    "short",
                    Query('count(ALERTS{alertstate="firing", severity!="info"}) or vector(0)', "alerts"),
                    thresholds=LEAK,
                ),
                series(
                    "Orphaned objects by client",
                    "Healthy clients stay at 0 beside a leaking one.",
                    "short",
                    Query("freepage:orphaned_objects", WHO),
                    thresholds=LEAK,
                ),
                series(
                    "Objects lost by path",
                    "By which path the pages left that left an object behind.",
                    "cps",
                    Query(rate("freepage_hook_orphans_total", "service, path"), "{{service}} {{path}}"),
                ),
                series(
                    "Removals against hook calls",
                    "Every removed page is a hook call, a skip by policy, or has no hook.",
                    "cps",
                    Query(rate("freepage_pagecache_removed_pages_total"), "removed"),
                    Query(rate("freepage_hook_calls_total"), "hook calls"),
                    Query(rate("freepage_hook_skips_total"), "skipped by policy"),
                    Query(rate("freepage_hook_absences_total"), "without a hook"),
                ),
                series(
                    "Rules broken by rule",
                    "Violations a second.",
                    "cps",
                    Query(
                        rate("freepage_hook_violations_total", "service, rule") + " > 0 or vector(0)",
                        "{{service}} {{rule}}",
                    ),
                ),
                table("Firing alerts", "What docs/alerts.md explains.", 'ALERTS{alertstate="firing"}', width=16),
            ),
        ),
        Row(
            "Caches",
            (
                series(
                    "Hit ratio by client",
                    "Pages that reads found in the cache, of all that they asked for.",
                    "percentunit",
                    Query(f"freepage:hit_ratio:rate1m{{{CLIENTS}}}", WHO),
                    maximum=1,
                ),
                series(
                    "Pages leave by path",
                    "Of all clients.",
                    "cps",
                    Query(rate("freepage_pagecache_removed_pages_total", "path", CLIENTS), "{{path}}"),
                    stacked=True,
                ),
                series(
                    "Pages by state",
                    "Of all clients, in bytes.",
                    "bytes",
                    Query(f"sum by (state) (freepage_pagecache_pages{{{CLIENTS}}}) * 4096", "{{state}}"),
                    stacked=True,
                ),
                series(
                    "How full the caches are",
                    "A full cache is no leak: its pages will leave it.",
                    "percentunit",
                    Query("freepage:cache_fill_ratio", WHO),
                    maximum=1,
                ),
                series(
                    "Unwritten pages",
                    "Relative to what starts the flusher. Above 1 for long is a backlog.",
                    "none",
                    Query("freepage:dirty_background_ratio", WHO),
                    thresholds=(Threshold(1, "orange"),),
                ),
                series(
                    "Direct reclaim",
                    "Times a program had to make room itself.",
                    "cps",
                    Query(
                        rate("freepage_vm_events_total", "service, instance", 'event="allocstall"'),
                        WHO,
                    ),
                    thresholds=(Threshold(1, "orange"),),
                ),
            ),
        ),
        Row(
            "Calls",
            (
                series(
                    "RPC mix",
                    "Calls of all clients by procedure.",
                    "reqps",
                    Query(rate("freepage_client_rpcs_total", "procedure") + " > 0 or vector(0)", "{{procedure}}"),
                    width=12,
                    stacked=True,
                ),
                heatmap(
                    "Latency of calls",
                    "From sending a call to its reply, all clients and procedures.",
                    "freepage_client_rpc_duration_seconds_bucket",
                ),
                series(
                    "Errors by status",
                    "Statuses that no program asks for are alerts; NOENT and its like are answers.",
                    "cps",
                    Query(rate("freepage_client_error_replies_total", "status") + " > 0 or vector(0)", "{{status}}"),
                ),
                series(
                    "No reply",
                    "Transmissions that ended without one, and calls sent again.",
                    "cps",
                    Query(rate("freepage_client_rpc_failures_total", "service, instance"), "failed " + WHO),
                    Query(rate("freepage_client_rpc_retransmissions_total", "service, instance"), "sent again " + WHO),
                ),
                series(
                    "Up",
                    "1: its metrics can be read.",
                    "short",
                    Query('up{job=~"freepage-.+"}', WHO),
                    maximum=1,
                ),
            ),
        ),
        Row(
            "Processes",
            (
                series(
                    "Resident memory",
                    "Of the emulating processes. Never the leak's signal: it grows and shrinks for a hundred reasons.",
                    "bytes",
                    Query('process_resident_memory_bytes{job=~"freepage-.+"}', WHO),
                ),
                series(
                    "Processor",
                    "Seconds of processor time a second.",
                    "percentunit",
                    Query('rate(process_cpu_seconds_total{job=~"freepage-.+"}[$__rate_interval])', WHO),
                ),
                table("Daemons", "Names and versions.", "freepage_build_info", width=8),
            ),
        ),
    ),
)
