"""What a client counts, as Prometheus metrics: its calls, and each mount under the names of node_exporter.

Dashboards for NFS clients read node_exporter's mountstats collector; a mount here has the same series, with the same
labels (collector/mountstats_linux.go). They come and go with the mount, as in the kernel; ``freepage_client_*`` only
grow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from freepage_client.io.transport import CallStats
from freepage_client.nfs.iostat import IoStats, OpStats
from freepage_proto.rpc import NFS3_PROCEDURES, Procedure
from freepage_runtime.cache_metrics import counter, gauge, histogram, labelled

if TYPE_CHECKING:
    from freepage_client.machine import Machine
    from freepage_client.nfs.mount import Mount

PREFIX = "node_mountstats_nfs"
PROTOCOL = "tcp"

EVENTS: dict[str, str] = {
    "inoderevalidates": "inode_revalidate",
    "dentryrevalidates": "dnode_revalidate",
    "datainvalidates": "data_invalidate",
    "attrinvalidates": "attribute_invalidate",
    "vfsopen": "vfs_open",
    "vfslookup": "vfs_lookup",
    "vfsaccess": "vfs_access",
    "vfsupdatepage": "vfs_update_page",
    "vfsreadpage": "vfs_read_page",
    "vfsreadpages": "vfs_read_pages",
    "vfswritepage": "vfs_write_page",
    "vfswritepages": "vfs_write_pages",
    "vfsreaddir": "vfs_getdents",
    "vfssetattr": "vfs_setattr",
    "vfsflush": "vfs_flush",
    "vfsfsync": "vfs_fsync",
    "vfslock": "vfs_lock",
    "vfsrelease": "vfs_file_release",
    "setattrtrunc": "truncation",
    "extendwrite": "write_extension",
    "sillyrenames": "silly_rename",
    "shortreads": "short_read",
    "shortwrites": "short_write",
    "delay": "jukebox_delay",
    "pnfsreads": "pnfs_read",
    "pnfswrites": "pnfs_write",
}
"""The kernel's event, and what node_exporter calls it. The kernel's congestion wait is not exported there either."""

BYTES: dict[str, tuple[str, str]] = {
    "normalread": ("read_bytes", "Bytes that applications read."),
    "normalwrite": ("write_bytes", "Bytes that applications wrote."),
    "directread": ("direct_read_bytes", "Bytes that applications read with O_DIRECT."),
    "directwrite": ("direct_write_bytes", "Bytes that applications wrote with O_DIRECT."),
    "serverread": ("total_read_bytes", "Bytes read from the server."),
    "serverwrite": ("total_write_bytes", "Bytes written to the server."),
    "readpages": ("read_pages", "Pages asked for with READ."),
    "writepages": ("write_pages", "Pages put under writeback."),
}

OPERATIONS: dict[str, tuple[str, Callable[[OpStats], float]]] = {
    "requests": ("Calls made.", lambda op: op.ops),
    "transmissions": ("Times a call was sent, retransmissions included.", lambda op: op.transmissions),
    "major_timeouts": ("Times a call had a major time-out.", lambda op: op.timeouts),
    "sent_bytes": ("Bytes that the calls would have had as NFSv3 over TCP.", lambda op: op.bytes_sent),
    "received_bytes": ("Bytes that the replies would have had as NFSv3 over TCP.", lambda op: op.bytes_recv),
    "queue_time_seconds": ("Time calls waited before they were sent.", lambda op: op.queue_s),
    "response_time_seconds": ("Time from sending a call to its reply.", lambda op: op.rtt_s),
    "request_time_seconds": ("Time from making a call to its completion.", lambda op: op.execute_s),
    "errors": ("Replies with an error status.", lambda op: op.errors),
}

TRANSPORT: dict[str, tuple[str, Callable[[IoStats], float]]] = {
    "bind": ("Times the client bound its end of the connection.", lambda stats: 1),
    "connect": ("Times the client connected.", lambda stats: 1 + stats.xprt.connects),
    "sends": ("Calls sent.", lambda stats: stats.xprt.sends),
    "receives": ("Replies received.", lambda stats: stats.xprt.receives),
    "bad_transaction_ids": ("Replies to no call.", lambda stats: stats.xprt.bad_xids),
    "backlog_queue": ("Sum over the calls sent of those that waited for a slot.", lambda stats: 0),
    "sending_queue": ("Sum over the calls sent of those that waited to be sent.", lambda stats: 0),
    "pending_queue": ("Sum over the calls sent of those in flight.", lambda stats: stats.xprt.in_flight_sum),
}


def client(machine: Machine, calls: CallStats) -> Iterator[Metric]:
    """The metrics of one client host beside its page cache's."""
    procedures = calls.by_procedure.items()
    yield labelled(
        CounterMetricFamily,
        "freepage_client_rpcs",
        "Transmissions of calls, by procedure.",
        ("procedure",),
        {(procedure.display_name,): of.calls for procedure, of in procedures},
    )
    yield labelled(
        CounterMetricFamily,
        "freepage_client_rpc_failures",
        "Transmissions without a reply of the protocol's own (timed out, connection lost, refused), by procedure.",
        ("procedure",),
        {(procedure.display_name,): of.failures for procedure, of in procedures},
    )
    yield counter(
        "freepage_client_rpc_retransmissions",
        "Calls sent again, because no reply came in time or the connection was lost.",
        machine.retransmissions(),
    )
    yield labelled(
        CounterMetricFamily,
        "freepage_client_error_replies",
        "NFSv3 replies with a status other than OK, by status.",
        ("status",),
        {(status.name,): count for status, count in calls.error_replies.items()},
    )
    yield counter(
        "freepage_client_write_verifier_changes",
        "Times a server's write verifier was not the one of its reply before: unstable data may have been lost.",
        calls.verifier_changes,
    )
    yield counter(
        "freepage_client_resent_pages",
        "Pages to be written again, because the COMMIT came from another life of the server than the WRITE.",
        machine.resent_pages,
    )
    yield histogram(
        "freepage_client_rpc_duration_seconds",
        "Time from sending a call to its reply, by procedure.",
        "procedure",
        [(procedure.display_name, of.latency) for procedure, of in procedures],
    )
    yield gauge("freepage_client_mounts", "File systems mounted.", len(machine.mounts))
    yield gauge("freepage_client_tasks", "Tasks alive.", len(machine.tasks))
    yield gauge(
        "freepage_client_open_files", "Open descriptors of all tasks.", sum(len(t.files) for t in machine.tasks)
    )
    yield gauge("freepage_client_inodes", "Inodes in memory.", sum(len(each.inodes) for each in machine.superblocks()))
    yield from mountstats(machine.mounts, machine.clock.now())


def mountstats(mounts: Iterable[Mount], now_s: float) -> Iterator[Metric]:
    """node_exporter's mountstats collector, over these mounts."""
    of_mount = [((m.source, PROTOCOL, m.server), m.stats) for m in mounts]
    labels = ("export", "protocol", "mountaddr")

    info = GaugeMetricFamily(
        f"{PREFIX}_mountpoint_info",
        "Where an export is mounted.",
        labels=("export", "mountpoint", "protocol", "mountaddr"),
    )
    for m in mounts:
        info.add_metric((m.source, m.mountpoint, PROTOCOL, m.server), 1)
    yield info

    def counter(name: str, documentation: str, value: Callable[[IoStats], float]) -> Metric:
        return labelled(
            CounterMetricFamily,
            f"{PREFIX}_{name}",
            documentation,
            labels,
            {each: value(stats) for each, stats in of_mount},
        )

    yield counter("age_seconds", "Seconds since the file system was mounted.", lambda stats: now_s - stats.age_start_s)
    for kernels, (name, documentation) in BYTES.items():
        yield counter(name, documentation, lambda stats, kernels=kernels: getattr(stats.bytes, kernels))  # type: ignore[misc]
    for kernels, name in EVENTS.items():
        yield counter(
            f"event_{name}",
            f"The kernel's event counter {kernels}.",
            lambda stats, kernels=kernels: stats.events[kernels],  # type: ignore[misc]
        )
    yield from _transport(of_mount)
    yield from _operations(of_mount)


Mounts = list[tuple[tuple[str, str, str], IoStats]]


def _transport(of_mount: Mounts) -> Iterator[Metric]:
    labels = ("export", "protocol", "mountaddr", "transport")
    for name, (documentation, value) in TRANSPORT.items():
        yield labelled(
            CounterMetricFamily,
            f"{PREFIX}_transport_{name}",
            documentation,
            labels,
            {(*each, "0"): value(stats) for each, stats in of_mount},
        )
    yield labelled(
        GaugeMetricFamily,
        f"{PREFIX}_transport_maximum_rpc_slots",
        "Most calls that were in flight at a time.",
        labels,
        {(*each, "0"): stats.xprt.max_slots for each, stats in of_mount},
    )
    yield labelled(
        GaugeMetricFamily,
        f"{PREFIX}_transport_idle_time_seconds",
        "Time since the connection was last used.",
        labels,
        {(*each, "0"): 0 for each, _ in of_mount},
    )


def _operations(of_mount: Mounts) -> Iterator[Metric]:
    procedures: tuple[Procedure, ...] = NFS3_PROCEDURES
    for name, (documentation, value) in OPERATIONS.items():
        yield labelled(
            CounterMetricFamily,
            f"{PREFIX}_operations_{name}",
            documentation,
            ("export", "protocol", "mountaddr", "operation"),
            {
                (*each, procedure.name): value(stats.ops[procedure])
                for each, stats in of_mount
                for procedure in procedures
            },
        )
