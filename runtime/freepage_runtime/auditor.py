"""The audit of one daemon: when it is asked for, and by itself every so often, with its result as metrics.

Mark and sweep looks at every live object and every resident page in one turn of the event loop: 0.1 to 0.2 s for
256 MiB of pages, and the daemon answers nobody meanwhile. So it audits by itself only when told to (``--audit-every``),
and never spends more than a hundredth of its time on it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Protocol

from prometheus_client.core import Metric

from freepage import AuditReport, PageCache
from freepage_runtime.cache_metrics import counter, gauge
from freepage_runtime.logs import fields

log = logging.getLogger(__name__)

TICK_S = 1.0
"""How often the hooks are run that the fault ``call_late`` put on a queue."""

PAUSE_FACTOR = 99
"""The pause after an audit is at least so many times as long as the audit was."""


class Auditable(Protocol):
    @property
    def cache(self) -> PageCache: ...

    def audit(self) -> AuditReport:
        """Mark and sweep, from what this machine knows to be in use."""
        ...


class Auditor:
    """Audits one machine and remembers what came of it."""

    def __init__(self, machine: Auditable) -> None:
        self._machine = machine
        self.runs = 0
        self.disagreements = 0
        """audits that found the ledger wrong"""
        self.last: AuditReport | None = None
        """None: nobody has audited yet"""
        self.seconds = 0.0
        """spent in audits, all together"""

    def run(self) -> AuditReport:
        """Mark and sweep; nothing else runs meanwhile."""
        start_s = time.monotonic()
        report = self._machine.audit()
        self.seconds += time.monotonic() - start_s
        self.runs += 1
        if not report.agrees:
            self.disagreements += 1
            if self.last is None or self.last.agrees:
                log.warning("the audit disagrees with the ledger", extra=fields(first=report.differences[0]))
        self.last = report
        return report

    async def watch(self, every_s: float, sleep: Callable[[float], Awaitable[None]]) -> None:
        """Audit every ``every_s`` seconds (0: never), and run overdue hooks, until cancelled."""
        tick_s = min(TICK_S, every_s) if every_s else TICK_S
        wait_s = every_s
        while True:
            await sleep(tick_s)
            wait_s -= tick_s
            if every_s and wait_s <= tick_s / 2:
                before_s = self.seconds
                self.run()
                wait_s = max(every_s, PAUSE_FACTOR * (self.seconds - before_s))
            self._machine.cache.faults.run_deferred()

    def metrics(self) -> Iterator[Metric]:
        last = self.last
        yield counter("freepage_audit_runs", "Audits: mark and sweep over the objects.", self.runs)
        yield counter("freepage_audit_disagreements", "Audits that found the ledger wrong.", self.disagreements)
        yield gauge(
            "freepage_audit_differences",
            "Differences between ledger and sweep in the last audit.",
            0 if last is None else len(last.differences),
        )
        yield gauge(
            "freepage_audit_orphaned_objects",
            "Orphaned objects that the last audit found.",
            0 if last is None else last.orphaned,
        )
        yield counter("freepage_audit_seconds", "Time spent in audits.", self.seconds)
