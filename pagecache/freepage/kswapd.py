"""The background reclaimer (kswapd of mm/vmscan.c): from the low watermark up to the high one.

It scans all groups of the zone, whatever their limits. It reclaims clean pages only: the kernel's kswapd may also call
writepage on a dirty page that it meets for the second time when everything it meets is dirty; this one wakes the
flushers and leaves the writing to them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .swap import SWAP_CLUSTER_MAX
from .vmscan import DEF_PRIORITY, ScanControl, shrink_node

if TYPE_CHECKING:
    from .page_alloc import Zone


def balance_pgdat(zone: Zone) -> int:
    """Reclaim until the zone is balanced or all priorities were tried; returns the pages freed. Does not wait.

    The pressure rises only when a round scanned less than its target or freed nothing.
    """
    zone.pageoutrun += 1
    sc = ScanControl(max(zone.wmark_high, SWAP_CLUSTER_MAX), kswapd=True)
    sc.priority = DEF_PRIORITY
    while sc.priority >= 1 and not zone.balanced():
        before, sc.nr_scanned = sc.nr_reclaimed, 0
        shrink_node(zone.target, sc)
        if sc.nr_scanned < sc.nr_to_reclaim or sc.nr_reclaimed == before:
            sc.priority -= 1
    zone.target.snapshot()
    if sc.nr_reclaimed:
        zone.kswapd_failures = 0
    else:
        zone.kswapd_failures += 1
    return sc.nr_reclaimed
