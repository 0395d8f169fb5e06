"""One machine's page cache: its ledger, memory cgroup, counters, rules and mappings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .address_space import AddressSpace
from .errors import RuleViolation
from .faults import Faults
from .folio import ACTIVE, CHARGED, FREED, LRU, LRU_ADD, REMOVED_ALIVE
from .mmzone import ACTIVE as ACTIVE_LIST
from .mmzone import INACTIVE
from .page import HOOK_PENDING, Page
from .policy import HookPolicy, RemovalPath
from .sanitizer import RULES
from .slab import Ledger
from .vmscan import MemCgroup
from .vmstat import VmStat
from .wait import CreateFuture, WaitQueue
from .writeback import BackingDevInfo, DirtyDomain

if TYPE_CHECKING:
    from .folio import Folio


class PageCache:
    """All address spaces of one machine.

    `now` returns seconds, `create_future` makes what a waiting task awaits (asyncio's loop.create_future; None: waiting
    raises WouldBlock), `random` returns floats in [0, 1). Several caches may share one `memcg`, as processes of one
    control group do. `strict` makes every broken rule raise RuleViolation.
    """

    def __init__(
        self,
        *,
        now: Callable[[], float],
        create_future: CreateFuture | None = None,
        memcg: MemCgroup | None = None,
        dirty: DirtyDomain | None = None,
        ledger: Ledger | None = None,
        random: Callable[[], float] | None = None,
        strict: bool = False,
    ) -> None:
        self.now = now
        self.create_future = create_future
        self.random = random
        self.strict = strict
        self.memcg = memcg if memcg is not None else MemCgroup()
        self.ledger = ledger if ledger is not None else Ledger(now)
        self.ledger.on_violation = self.violation
        self.dirty = dirty if dirty is not None else DirtyDomain(now=now, dirtyable_pages=self._dirtyable_pages)
        self.default_bdi = BackingDevInfo("default", domain=self.dirty)
        self.policy = HookPolicy(random)
        self.faults = Faults(self)
        self.mappings: dict[AddressSpace, None] = {}
        """every live mapping, in order of creation (a dict, so that iteration is deterministic)"""

        self.removed = dict.fromkeys(RemovalPath, 0)
        """pages that left the cache; on every path removed == hook_calls + skipped + unhooked"""
        self.hook_calls = dict.fromkeys(RemovalPath, 0)
        self.skipped = dict.fromkeys(RemovalPath, 0)
        self.skipped_owned = dict.fromkeys(RemovalPath, 0)
        """skipped removals whose page owned an object, which is orphaned since"""
        self.unhooked = dict.fromkeys(RemovalPath, 0)
        """removals from mappings whose operations table has no freepage"""
        self.migrated = 0
        self.violations = dict.fromkeys(RULES, 0)
        self.stories: dict[str, str] = {}
        """rule -> the story of its last violation"""

        self.hits = 0
        """pages of read calls that were resident and uptodate when the call came"""
        self.misses = 0
        self.nr_file_pages = 0
        self.nr_removed_pages = 0
        """pages that left the cache and are still alive because somebody holds a reference"""
        self.stat = VmStat()
        self.next_balance = 0
        """stat.nr_dirtied at which a writer looks at the dirty thresholds again (task_struct.nr_dirtied_pause)"""
        self.hooked: Page | None = None
        """the page whose freepage is running; whatever may block asks might_sleep() while it is set"""
        self.preempt: Callable[[str, Page], None] | None = None
        """called at the named preemption points of the exit door and of lookup; None normally"""
        self.throttled = WaitQueue(create_future)
        """tasks whose allocation or dirtying waits for writeback to make progress"""
        self.dirty.throttled.append(self.throttled)
        self.memcg.on_all_dirty.append(self._wake_flushers)

    def _dirtyable_pages(self) -> int:
        # free pages plus file LRU pages: everything but what the kernel's objects take
        limit = self.memcg.limit_pages
        return max((limit if limit is not None else 1 << 18) - self.memcg.other_pages, 0)

    def _wake_flushers(self) -> None:
        for bdi in self.dirty.bdis:
            if bdi.nr_dirty:
                bdi.wb.wakeup(start_all=True)

    # -- rules -------------------------------------------------------------------------------------------------

    def violation(self, rule: str, story: str, cause: BaseException | None = None) -> None:
        """A rule was broken: count it, and in strict mode raise RuleViolation."""
        self.violations[rule] += 1
        self.stories[rule] = story
        if self.strict:
            raise RuleViolation(rule, story) from cause

    def might_sleep(self, where: str) -> None:
        """Stands in everything that may block; inside the hook it is the violation hook_blocked."""
        if self.hooked is not None:
            self.violation("hook_blocked", f"{where} inside freepage of {self.hooked.describe()}")

    # -- the end of a page -------------------------------------------------------------------------------------

    def free_page(self, folio: Folio, off: int) -> None:
        """The last reference is gone (free_unref_page): off the LRU, uncharged. Readers keep the contents."""
        more = folio.more[off]
        if more & FREED:
            self.violation("freed_with_references", f"page freed twice: {Page(folio, off).describe()}")
            return
        if (folio.refs is not None and off in folio.refs) or more & LRU_ADD:
            self.memcg.batches.forget(folio.pfn + off)
            self.violation("freed_with_references", Page(folio, off).describe())
        elif self.faults.armed and self.memcg.batches.forget(folio.pfn + off):
            self.violation("freed_with_references", f"while in a batch: {Page(folio, off).describe()}")
        if folio.hooks is None or folio.hooks[off] == HOOK_PENDING:
            self.violation("hook_missed", Page(folio, off).describe())
        folio.more[off] = more & ~(LRU | CHARGED | REMOVED_ALIVE) | FREED
        if more & REMOVED_ALIVE:
            self.nr_removed_pages -= 1
        memcg = self.memcg
        if more & LRU:
            memcg.lruvec.delete(folio.pfn + off, ACTIVE_LIST if folio.state[off] & ACTIVE else INACTIVE)
        if more & CHARGED:
            memcg.uncharge(1)
        folio.live -= 1
        if not folio.live:
            memcg.lruvec.free_frames(folio)
        self.stat.pgfree += 1

    # -- what proc shows ---------------------------------------------------------------------------------------

    def vmstat(self) -> dict[str, int]:
        """Page states and events of this cache and of its memory cgroup, in the kernel's names."""
        lruvec = self.memcg.lruvec
        events = self.stat.as_dict()
        for name, value in self.memcg.stat.as_dict().items():
            events[name] += value
        return {
            "nr_file_pages": self.nr_file_pages,
            "nr_inactive_file": len(lruvec.inactive),
            "nr_active_file": len(lruvec.active),
            "nr_dirty": self.dirty.nr_dirty,
            "nr_writeback": self.dirty.nr_writeback,
            **events,
        }

    def statistics(self) -> dict[str, dict[str, int]]:
        """removed, hook_calls, skipped, skipped_owned and unhooked, each by path label."""
        return {
            name: {path.value: count for path, count in counts.items()}
            for name, counts in (
                ("removed", self.removed),
                ("hook_calls", self.hook_calls),
                ("skipped", self.skipped),
                ("skipped_owned", self.skipped_owned),
                ("unhooked", self.unhooked),
            )
        }

    def folio_slack_pages(self) -> int:
        """Pages' worth of contents that stay in memory for no cached page (Folio.slack_pages). O(folios)."""
        return sum(folio.slack_pages() for mapping in self.mappings for folio in mapping.pages.distinct_folios())

    # -- drop_caches -------------------------------------------------------------------------------------------

    def drop_pagecache(self) -> int:
        """drop_caches 1: invalidate_mapping_pages of every mapping. Returns the number of pages dropped."""
        from .truncate import invalidate_mapping_pages

        self.stat.drop_pagecache += 1
        return sum(
            invalidate_mapping_pages(mapping) for mapping in list(self.mappings) if mapping.pages or mapping.shadows
        )
