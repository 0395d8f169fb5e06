"""Every dashboard, and the metrics that are on none."""

from __future__ import annotations

from .client import CLIENT
from .fleet import FLEET
from .load import LOAD
from .server import SERVER

DASHBOARDS = (FLEET, CLIENT, SERVER, LOAD)

UNSHOWN = {
    "process_virtual_memory_bytes": "says nothing that resident memory does not",
    "process_start_time_seconds": "an alert's matter, and Prometheus shows gaps",
    "process_open_fds": "of the emulating process, not of the emulated machine",
    "process_max_fds": "of the emulating process, not of the emulated machine",
    "node_mountstats_nfs_mountpoint_info": "a list of mounts, for joins",
}
"""metric -> why no panel shows it (docs/cluster.md has the same list)"""
