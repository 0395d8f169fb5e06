"""/proc/slabinfo, version 2.1, of a machine's ledger (mm/slab_common.c:print_slabinfo_header and cache_show)."""

from __future__ import annotations

from freepage import PAGE_SIZE, Ledger

HEADER = (
    "slabinfo - version: 2.1\n"
    "# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>"
    " : tunables <limit> <batchcount> <sharedfactor>"
    " : slabdata <active_slabs> <num_slabs> <sharedavail>\n"
)


def render(ledger: Ledger) -> str:
    """One line per slab cache. A slab is one page, and objects fill slabs without gaps: there are no slabs in here."""
    lines = [HEADER]
    for cache in ledger.caches.values():
        per_slab = max(PAGE_SIZE // cache.objsize, 1) if cache.objsize else 1
        slabs = -(-cache.active // per_slab)
        lines.append(
            f"{cache.name:<17} {cache.active:6d} {slabs * per_slab:6d} {cache.objsize:6d} {per_slab:4d} {1:4d}"
            f" : tunables {0:4d} {0:4d} {0:4d} : slabdata {slabs:6d} {slabs:6d} {0:6d}\n"
        )
    return "".join(lines)
