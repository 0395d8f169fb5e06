"""Event counters in the kernel's names (/proc/vmstat, memory.stat). Plain integers, in pages unless said."""

from __future__ import annotations


class VmStat:
    """Events of one cache or one memory cgroup. All only grow."""

    __slots__ = (
        "allocstall",
        "drop_pagecache",
        "drop_slab",
        "nr_dirtied",
        "nr_vmscan_immediate_reclaim",
        "nr_written",
        "pgactivate",
        "pgdeactivate",
        "pgfree",
        "pgpgin",
        "pgrefill",
        "pgrotated",
        "pgscan_direct",
        "pgscan_kswapd",
        "pgsteal_direct",
        "pgsteal_kswapd",
        "workingset_activate_file",
        "workingset_refault_file",
        "workingset_restore_file",
    )

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, 0)

    allocstall: int
    """direct reclaim calls"""
    drop_pagecache: int
    drop_slab: int
    nr_dirtied: int
    nr_vmscan_immediate_reclaim: int
    nr_written: int
    pgactivate: int
    pgdeactivate: int
    pgfree: int
    pgpgin: int
    """pages that entered the cache"""
    pgrefill: int
    pgrotated: int
    pgscan_direct: int
    pgscan_kswapd: int
    pgsteal_direct: int
    pgsteal_kswapd: int
    workingset_activate_file: int
    workingset_refault_file: int
    workingset_restore_file: int

    def as_dict(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in self.__slots__}
