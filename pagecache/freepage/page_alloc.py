"""The machine's memory: watermarks, and what an allocation does below them (mm/page_alloc.c).

A Zone is shared by the memory groups of one machine, each with its own limit or with none. Above the low watermark an
allocation just succeeds. Below it kswapd is woken and frees pages up to the high watermark. Below the min watermark the
allocating task reclaims by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isqrt
from typing import TYPE_CHECKING

from .errors import NoMemory
from .folio import PAGE_SHIFT
from .kswapd import balance_pgdat
from .swap import SWAP_CLUSTER_MAX
from .vmscan import ReclaimTarget, ScanControl, do_try_to_free_pages

if TYPE_CHECKING:
    from .vmscan import MemCgroup

MAX_RECLAIM_RETRIES = 16

MIN_FREE_KBYTES_LIMITS = (128, 262144)
WATERMARK_SCALE_FACTOR = 10
"""default of vm.watermark_scale_factor, in 1/10000 of the zone"""


def calculate_min_free_kbytes(lowmem_kbytes: int) -> int:
    """vm.min_free_kbytes of a machine (mm/page_alloc.c:calculate_min_free_kbytes), in KiB."""
    least, most = MIN_FREE_KBYTES_LIMITS
    return min(max(isqrt(lowmem_kbytes * 16), least), most)


class Zone:
    """One zone with all the memory of a machine.

    `managed_pages` is its size. `min_free_kbytes` None is the kernel's default for that size. `schedule` is handed
    kswapd's work when it is woken, to be called soon, as a thread gets the CPU; None: it runs at once, before the
    allocation goes on. Attach groups with `attach`.
    """

    def __init__(
        self,
        managed_pages: int,
        *,
        min_free_kbytes: int | None = None,
        watermark_scale_factor: int = WATERMARK_SCALE_FACTOR,
        schedule: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        self.managed_pages = managed_pages
        self.set_watermarks(min_free_kbytes, watermark_scale_factor)
        self.schedule = schedule
        self.target = ReclaimTarget([])
        self.kswapd_running = False
        """woken, and not yet asleep again"""
        self.kswapd_failures = 0
        """balancing runs in a row that freed nothing; at 16 kswapd gives up until somebody else frees pages"""
        self.pageoutrun = 0
        """balancing runs of kswapd"""
        self.allocstall = 0
        """direct reclaim calls of allocations below the min watermark"""

    def set_watermarks(
        self, min_free_kbytes: int | None = None, watermark_scale_factor: int = WATERMARK_SCALE_FACTOR
    ) -> None:
        """min, low and high, in pages (setup_per_zone_wmarks). ValueError: no memory would be left above `high`."""
        managed = self.managed_pages
        if min_free_kbytes is None:
            min_free_kbytes = calculate_min_free_kbytes(managed << (PAGE_SHIFT - 10))
        self.wmark_min = min_free_kbytes >> (PAGE_SHIFT - 10)
        gap = max(self.wmark_min // 4, managed * watermark_scale_factor // 10_000)
        self.wmark_low = self.wmark_min + gap
        self.wmark_high = self.wmark_min + 2 * gap
        if self.wmark_high >= managed:
            raise ValueError(
                f"a high watermark of {self.wmark_high} pages leaves nothing of {managed}: give the zone more memory "
                "or a smaller min_free_kbytes"
            )

    def attach(self, memcg: MemCgroup) -> None:
        """From now on the group's pages are this zone's."""
        assert memcg.zone is None, "a group has one zone"
        memcg.zone = self
        self.target.groups.append(memcg)

    @property
    def nr_free_pages(self) -> int:
        """Pages that nobody has; below 0 when limits were raised over what there is."""
        return self.managed_pages - sum(group.pages + group.other_pages for group in self.target.groups)

    def alloc_page(self, *, noretry: bool = False) -> None:
        """Find a free page (__alloc_pages with GFP_KERNEL or, `noretry`, as readahead allocates).

        Does not wait. Raises NoMemory when nothing can be reclaimed.
        """
        if self.nr_free_pages > self.wmark_low:
            return
        self.wakeup_kswapd()
        while self.nr_free_pages <= self.wmark_min:
            self.allocstall += 1
            sc = ScanControl(SWAP_CLUSTER_MAX, direct_global=True)
            do_try_to_free_pages(self.target, sc)
            if sc.nr_reclaimed:
                self.kswapd_failures = 0
            if self.nr_free_pages <= self.wmark_min and (noretry or not sc.nr_reclaimed):
                raise NoMemory("no free page above the min watermark, and nothing to reclaim")

    def alloc_run(self, nr: int) -> int:
        """alloc_page(noretry=True) of page after page, up to where the next would wake kswapd or reclaim. How many."""
        self.alloc_page(noretry=True)
        return min(nr, max(self.nr_free_pages - self.wmark_low, 1))

    def balanced(self) -> bool:
        """pgdat_balanced: the high watermark is met."""
        return self.nr_free_pages > self.wmark_high

    def wakeup_kswapd(self) -> None:
        """Wake the background reclaimer unless it runs, has nothing to do, or has given up."""
        if self.kswapd_running or self.kswapd_failures >= MAX_RECLAIM_RETRIES or self.balanced():
            return
        self.kswapd_running = True
        if self.schedule is None:
            self._kswapd()
        else:
            self.schedule(self._kswapd)

    def _kswapd(self) -> None:
        try:
            balance_pgdat(self)
        finally:
            self.kswapd_running = False
