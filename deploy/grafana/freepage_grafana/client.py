"""Client: one client host in depth."""

from __future__ import annotations

from .dashboard import Dashboard, Row, Variable
from .panel import LEAK, Query, Threshold, bars, heatmap, quantile, rate, series, stat

W = 'job="freepage-client", service=~"$service", instance=~"$instance"'
MOUNT = "{{export}}"

VARIABLES = (
    Variable("service", "Service", 'label_values(freepage_client_mounts{job="freepage-client"}, service)'),
    Variable("instance", "Client", 'label_values(freepage_client_mounts{service=~"$service"}, instance)'),
)


def _gauge(name: str, by: str = "") -> str:
    return f"sum by ({by}) ({name}{{{W}}})" if by else f"sum({name}{{{W}}})"


def cache_rows(where: str) -> tuple[Row, ...]:
    """The page cache, its hook and its objects: the same on clients and servers."""

    def gauge(name: str, by: str) -> str:
        return f"sum by ({by}) ({name}{{{where}}})"

    return (
        Row(
            "The hook",
            (
                series(
                    "Objects lost by path",
                    "Each is orphaned: its page left without a hook that released it.",
                    "cps",
                    Query(rate("freepage_hook_orphans_total", "path", where), "{{path}}"),
                ),
                series(
                    "Pages leave by path",
                    "Removed from the page cache.",
                    "cps",
                    Query(rate("freepage_pagecache_removed_pages_total", "path", where), "{{path}}"),
                    stacked=True,
                ),
                series(
                    "Hook calls by path",
                    "Calls; those the policy skips, of pages with an object or not; removals without a hook.",
                    "cps",
                    Query(rate("freepage_hook_calls_total", "path", where), "call {{path}}"),
                    Query(rate("freepage_hook_skips_total", "path", where), "skip {{path}}"),
                    Query(rate("freepage_hook_skips_owned_total", "path", where), "skip with object {{path}}"),
                    Query(rate("freepage_hook_absences_total", "path", where), "no hook {{path}}"),
                ),
                bars(
                    "Rules broken",
                    "Violations since the process started, by rule.",
                    "short",
                    Query(gauge("freepage_hook_violations_total", "rule"), "{{rule}}", instant=True),
                    thresholds=LEAK,
                ),
                bars(
                    "Skipped by policy",
                    "1 where the policy tells the hook to be skipped, always or sometimes.",
                    "short",
                    Query(gauge("freepage_hook_skip_policy", "path"), "{{path}}", instant=True),
                    thresholds=LEAK,
                    maximum=1,
                ),
                bars(
                    "Faults injected",
                    "Times each fault struck since it was armed (freepage ctl fault).",
                    "short",
                    Query(gauge("freepage_faults_injected_total", "fault"), "{{fault}}", instant=True),
                    thresholds=LEAK,
                ),
            ),
        ),
        Row(
            "Objects",
            (
                series(
                    "Objects by state",
                    "Live objects of all slab caches; orphaned ones are leaked.",
                    "short",
                    Query(gauge("freepage_slab_objects", "state"), "{{state}}"),
                    stacked=True,
                ),
                series(
                    "Objects by slab cache",
                    "Live objects and what they are used for.",
                    "short",
                    Query(gauge("freepage_slab_objects", "slab, use"), "{{slab}} {{use}}"),
                ),
                series(
                    "Memory of objects",
                    "Live objects times the size that the kernel's have.",
                    "bytes",
                    Query(
                        f"sum by (slab) (sum by (service, instance, slab) (freepage_slab_objects{{{where}}}) "
                        f"* on (service, instance, slab) freepage_slab_object_size_bytes{{{where}}})",
                        "{{slab}}",
                    ),
                    stacked=True,
                ),
                series(
                    "Allocated and freed",
                    "Objects a second.",
                    "cps",
                    Query(rate("freepage_slab_allocations_total", "slab", where), "allocated {{slab}}"),
                    Query(rate("freepage_slab_frees_total", "slab", where), "freed {{slab}}"),
                ),
                series(
                    "Pinned by orphans",
                    "References that orphaned objects hold, by the slab cache of what they pin.",
                    "short",
                    Query(gauge("freepage_slab_pinned_references", "slab"), "{{slab}}"),
                    thresholds=LEAK,
                ),
                series(
                    "Audit",
                    "Differences and orphans that the last audit found; audits that disagreed with the ledger.",
                    "short",
                    Query(f"sum(freepage_audit_differences{{{where}}})", "differences"),
                    Query(f"sum(freepage_audit_orphaned_objects{{{where}}})", "orphans"),
                    Query(f"sum(freepage_audit_disagreements_total{{{where}}})", "disagreements"),
                ),
                series(
                    "Cost of audits",
                    "Audits a second, and the share of time that they take.",
                    "none",
                    Query(rate("freepage_audit_runs_total", where=where), "audits a second"),
                    Query(rate("freepage_audit_seconds_total", where=where), "share of time"),
                ),
            ),
        ),
        Row(
            "Pages",
            (
                series(
                    "Pages by state",
                    "A page dirtied again while it is written counts as both.",
                    "short",
                    Query(gauge("freepage_pagecache_pages", "state"), "{{state}}"),
                    stacked=True,
                ),
                series(
                    "LRU lists",
                    "Pages on the two lists; pages that left the cache and are kept alive by references.",
                    "short",
                    Query(gauge("freepage_pagecache_lru_pages", "list"), "{{list}}"),
                    Query(f"sum(freepage_pagecache_removed_alive_pages{{{where}}})", "removed, alive"),
                ),
                series(
                    "Hits and misses",
                    "Pages that reads found, and did not find.",
                    "cps",
                    Query(rate("freepage_pagecache_hits_total", where=where), "hits"),
                    Query(rate("freepage_pagecache_misses_total", where=where), "misses"),
                ),
                series(
                    "Memory limit",
                    "What pages take, and may take (no line: no limit); slack is what folios keep for pages that left.",
                    "bytes",
                    Query(f"sum(freepage_pagecache_pages{{{where}}}) * 4096", "pages"),
                    Query(f"sum(freepage_pagecache_folio_slack_pages{{{where}}}) * 4096", "slack"),
                    Query(f"sum(freepage_pagecache_limit_bytes{{{where}}})", "limit"),
                ),
                series(
                    "Unwritten pages against the thresholds",
                    "From background on the flusher writes; from limit on writers wait.",
                    "short",
                    Query(f'sum(freepage_pagecache_pages{{state=~"dirty|writeback", {where}}})', "unwritten"),
                    Query(gauge("freepage_pagecache_dirty_threshold_pages", "threshold"), "{{threshold}}"),
                ),
                series(
                    "VM events",
                    "In the names of /proc/vmstat.",
                    "cps",
                    Query(rate("freepage_vm_events_total", "event", where) + " > 0 or vector(0)", "{{event}}"),
                ),
            ),
        ),
    )


CALLS = Row(
    "Calls",
    (
        series(
            "Calls by procedure",
            "Transmissions a second.",
            "reqps",
            Query(rate("freepage_client_rpcs_total", "procedure", W) + " > 0 or vector(0)", "{{procedure}}"),
            stacked=True,
        ),
        series(
            "Latency by procedure, p99",
            "From sending a call to its reply.",
            "s",
            Query(
                quantile(0.99, "freepage_client_rpc_duration_seconds", "procedure", W) + " > 0 or vector(0)",
                "{{procedure}}",
            ),
        ),
        heatmap("Latency", "All procedures.", f"freepage_client_rpc_duration_seconds_bucket{{{W}}}", width=8),
        series(
            "No reply",
            "Transmissions without one, by procedure, and calls sent again.",
            "cps",
            Query(rate("freepage_client_rpc_failures_total", "procedure", W) + " > 0 or vector(0)", "{{procedure}}"),
            Query(rate("freepage_client_rpc_retransmissions_total", where=W), "sent again"),
        ),
        series(
            "Errors by status",
            "Replies with a status other than OK.",
            "cps",
            Query(rate("freepage_client_error_replies_total", "status", W) + " > 0 or vector(0)", "{{status}}"),
        ),
        series(
            "Write verifiers that changed",
            "A server restarted or lost unwritten data, and pages are sent again.",
            "short",
            Query(_gauge("freepage_client_write_verifier_changes_total"), "changes"),
            Query(_gauge("freepage_client_resent_pages_total"), "pages"),
            thresholds=(Threshold(1, "orange"),),
        ),
    ),
)

MOUNTS = Row(
    "Mounts, as /proc/self/mountstats counts them",
    (
        series(
            "Bytes",
            "Read and written by programs, with O_DIRECT, and to and from the server.",
            "Bps",
            *(
                Query(rate(f"node_mountstats_nfs_{name}_bytes_total", where=W), legend)
                for name, legend in (
                    ("read", "read"),
                    ("write", "written"),
                    ("direct_read", "read directly"),
                    ("direct_write", "written directly"),
                    ("total_read", "from the server"),
                    ("total_write", "to the server"),
                )
            ),
        ),
        series(
            "Pages",
            "Asked for with READ, and put under writeback.",
            "cps",
            Query(rate("node_mountstats_nfs_read_pages_total", where=W), "READ"),
            Query(rate("node_mountstats_nfs_write_pages_total", where=W), "WRITE"),
        ),
        series(
            "Operations",
            "Calls made; times they were sent; errors; major time-outs.",
            "reqps",
            *(
                Query(rate(f"node_mountstats_nfs_operations_{name}_total", where=W), name.replace("_", " "))
                for name in ("requests", "transmissions", "errors", "major_timeouts")
            ),
        ),
        series(
            "Time of a call",
            "Mean time in the queue, for the reply, and altogether.",
            "s",
            *(
                Query(
                    rate(f"node_mountstats_nfs_operations_{name}_time_seconds_total", where=W)
                    + " / "
                    + rate("node_mountstats_nfs_operations_requests_total", where=W),
                    name,
                )
                for name in ("queue", "response", "request")
            ),
        ),
        series(
            "Bytes of calls and replies",
            "As NFSv3 over TCP would have sent.",
            "Bps",
            Query(rate("node_mountstats_nfs_operations_sent_bytes_total", "export", W), f"sent {MOUNT}"),
            Query(rate("node_mountstats_nfs_operations_received_bytes_total", "export", W), f"received {MOUNT}"),
        ),
        bars(
            "Events",
            "The kernel's event counters, since the mount.",
            "short",
            Query(
                f'sum by (__name__) ({{__name__=~"node_mountstats_nfs_event_.+_total", {W}}})',
                "{{__name__}}",
                instant=True,
            ),
            height=16,
        ),
        bars(
            "Transport",
            "Connections, calls and queues of the connection, since the mount.",
            "short",
            Query(
                f'sum by (__name__) ({{__name__=~"node_mountstats_nfs_transport_.+", {W}}})',
                "{{__name__}}",
                instant=True,
            ),
        ),
        series(
            "Age of mounts",
            "Since they were mounted.",
            "s",
            Query(_gauge("node_mountstats_nfs_age_seconds_total", "export"), MOUNT),
        ),
    ),
)

CLIENT = Dashboard(
    "client",
    "Client",
    "One client host in depth: its hook, its objects, its pages, its calls, its mounts.",
    (
        Row(
            "The client",
            (
                stat(
                    "Orphaned objects",
                    "Any is a leak.",
                    "short",
                    Query(f"sum(freepage:orphaned_objects{{{W}}})", "orphans"),
                    thresholds=LEAK,
                ),
                stat("Mounts", "File systems mounted.", "short", Query(_gauge("freepage_client_mounts"), "mounts")),
                stat("Tasks", "Programs that run on it.", "short", Query(_gauge("freepage_client_tasks"), "tasks")),
                stat("Open files", "Of all tasks.", "short", Query(_gauge("freepage_client_open_files"), "files")),
                stat("Inodes", "In memory.", "short", Query(_gauge("freepage_client_inodes"), "inodes")),
                stat("Pages", "Cached.", "short", Query(_gauge("freepage_pagecache_pages"), "pages")),
            ),
        ),
        *cache_rows(W),
        CALLS,
        MOUNTS,
    ),
    VARIABLES,
)
