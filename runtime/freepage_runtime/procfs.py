"""The kernel's files about a machine's memory, in the kernel's formats, so that the kernel's tools read them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping

from freepage import PAGE_SIZE, Ledger, ObjectState, PageCache, SlabObject

ProcFile = Callable[[], str]

SLABINFO_HEADER = (
    "slabinfo - version: 2.1\n"
    "# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>"
    " : tunables <limit> <batchcount> <sharedfactor>"
    " : slabdata <active_slabs> <num_slabs> <sharedavail>\n"
)
"""mm/slab_common.c:print_slabinfo_header"""


def slabinfo(ledger: Ledger) -> str:
    """/proc/slabinfo 2.1 (mm/slab_common.c:cache_show).

    A slab is one page, and objects fill slabs without gaps: there are no slabs in here.
    """
    lines = [SLABINFO_HEADER]
    for cache in ledger.caches.values():
        per_slab = max(PAGE_SIZE // cache.objsize, 1) if cache.objsize else 1
        slabs = -(-cache.active // per_slab)
        lines.append(
            f"{cache.name:<17} {cache.active:6d} {slabs * per_slab:6d} {cache.objsize:6d} {per_slab:4d} {1:4d}"
            f" : tunables {0:4d} {0:4d} {0:4d} : slabdata {slabs:6d} {slabs:6d} {0:6d}\n"
        )
    return "".join(lines)


def vmstat(cache: PageCache) -> str:
    """/proc/vmstat: a name and a number a line (mm/vmstat.c:vmstat_show)."""
    return "".join(f"{name} {value}\n" for name, value in cache.vmstat().items())


def meminfo(cache: PageCache) -> str:
    """/proc/meminfo (fs/proc/meminfo.c), of what this machine has: a page cache and slabs within a limit.

    Without a limit the total is what is in use. The slabs are all unreclaimable: nobody shrinks them but the hook.
    """
    ledger = cache.ledger
    lruvec = cache.memcg.lruvec
    slab_bytes = sum(slab.active * slab.objsize for slab in ledger.caches.values())
    cached = cache.nr_file_pages * PAGE_SIZE
    limit_pages = cache.memcg.limit_pages
    used = cached + slab_bytes
    total = used if limit_pages is None else limit_pages * PAGE_SIZE
    numbers = {
        "MemTotal": total,
        "MemFree": max(total - used, 0),
        "Cached": cached,
        "Active(file)": len(lruvec.active) * PAGE_SIZE,
        "Inactive(file)": len(lruvec.inactive) * PAGE_SIZE,
        "Dirty": cache.dirty.nr_dirty * PAGE_SIZE,
        "Writeback": cache.dirty.nr_writeback * PAGE_SIZE,
        "Slab": slab_bytes,
        "SReclaimable": 0,
        "SUnreclaim": slab_bytes,
        "NFS_Unstable": 0,  # since 5.8 those pages count as Writeback
    }
    return "".join(f"{name + ':':<16}{value // 1024:8d} kB\n" for name, value in numbers.items())


KMEMLEAK = "/sys/kernel/debug/kmemleak"

HZ = 250
"""Debian's CONFIG_HZ: what jiffies count in."""


def kmemleak(ledger: Ledger) -> str:
    """/sys/kernel/debug/kmemleak (mm/kmemleak.c:print_unreferenced): a block for each orphaned object.

    The symbol of the one frame is the operation that allocated the object, its module the slab cache. There is no hex
    dump, as for objects that the kernel knows by physical address alone. How an object was lost kmemleak cannot say;
    the audit can.
    """
    now_s = ledger.now()
    return "".join(_unreferenced(obj, now_s) for obj in _orphans(ledger))


def _orphans(ledger: Ledger) -> Iterator[SlabObject]:
    """What was lost, and what nobody but that still holds, each once."""
    seen: set[SlabObject] = set()
    lost = deque(record.obj for record in ledger.orphans())
    while lost:
        obj = lost.popleft()
        if obj not in seen:
            seen.add(obj)
            yield obj
            lost.extend(held for held in obj.held if held.state is ObjectState.ORPHANED)


def _unreferenced(obj: SlabObject, now_s: float) -> str:
    jiffies = int(obj.born_s * HZ)
    age_s = int((now_s - obj.born_s) * 1000) / 1000
    return (
        f"unreferenced object 0x{id(obj):08x} (size {obj.objsize}):\n"
        f'  comm "freepage", pid {os.getpid()}, jiffies {jiffies} (age {age_s:.3f}s)\n'
        "  backtrace:\n"
        f"    [<{0:016x}>] {obj.site or 'unknown'}+0x0/0x0 [{obj.slab_name}]\n"
    )


def files(cache: PageCache, more: Mapping[str, ProcFile] | None = None) -> dict[str, ProcFile]:
    """Path -> what a read of it gives, for one machine; ``more`` are files of its own."""
    return {
        "/proc/meminfo": lambda: meminfo(cache),
        "/proc/slabinfo": lambda: slabinfo(cache.ledger),
        "/proc/vmstat": lambda: vmstat(cache),
        KMEMLEAK: lambda: kmemleak(cache.ledger),
        **(more or {}),
    }
