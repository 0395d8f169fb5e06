"""The audit of a daemon: by itself every so often, and what it found as metrics."""

from __future__ import annotations

import asyncio

import pytest

import freepage as fp
from freepage import PAGE_SIZE, AuditReport, PageCache
from freepage.slab import CACHED
from freepage_runtime.auditor import PAUSE_FACTOR, TICK_S, Auditor
from pagecache_toyfs import ToyFs, drive, new_cache


class Toy:
    """A machine whose cache holds four pages of one file."""

    def __init__(self) -> None:
        self.fs = ToyFs(new_cache(strict=False, random=lambda: 0.5), io_pages=16)
        self.mapping = self.fs.create("f", 4 * PAGE_SIZE)
        drive(fp.filemap_read(fp.File(self.mapping), 0, 4 * PAGE_SIZE))

    @property
    def cache(self) -> PageCache:
        return self.fs.cache

    def audit(self) -> AuditReport:
        return self.cache.ledger.audit([self.fs.cred], self.cache.mappings)


def values(auditor: Auditor) -> dict[str, float]:
    return {sample.name: sample.value for family in auditor.metrics() for sample in family.samples}


def test_what_an_audit_found_is_exported() -> None:
    toy = Toy()
    auditor = Auditor(toy)
    assert set(values(auditor).values()) == {0}
    assert auditor.run().agrees
    toy.cache.policy.parse("truncate=skip")
    drive(fp.truncate_inode_pages_range(toy.mapping, 0))
    toy.fs.cred.get(CACHED)  # a reference that no page explains
    assert not auditor.run().agrees
    found = values(auditor)
    assert found["freepage_audit_runs_total"] == 2
    assert found["freepage_audit_disagreements_total"] == 1
    assert found["freepage_audit_differences"] == 1
    assert found["freepage_audit_orphaned_objects"] == 4
    assert found["freepage_audit_seconds_total"] > 0
    assert toy.cache.ledger.lost[fp.RemovalPath.TRUNCATE] == 4


class Sleeps:
    """Virtual time: ends the watch after so many sleeps."""

    def __init__(self, number: int) -> None:
        self.left = number
        self.slept_s: list[float] = []

    async def __call__(self, seconds: float) -> None:
        if not self.left:
            raise asyncio.CancelledError
        self.left -= 1
        self.slept_s.append(seconds)


@pytest.mark.parametrize(
    ("every_s", "sleeps", "audits"), [(0.0, 5, 0), (10.0, 9, 0), (10.0, 30, 3), (0.5, 6, 6), (1.0, 3, 3)]
)
def test_audits_come_as_often_as_asked(
    every_s: float, sleeps: int, audits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("freepage_runtime.auditor.PAUSE_FACTOR", 0)
    auditor, sleep = Auditor(Toy()), Sleeps(sleeps)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(auditor.watch(every_s, sleep))
    assert auditor.runs == audits
    assert max(sleep.slept_s) <= TICK_S


def test_a_long_audit_makes_the_next_one_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    auditor = Auditor(Toy())
    runs = auditor.run

    def slow() -> fp.AuditReport:
        auditor.seconds += 0.5
        return runs()

    monkeypatch.setattr(auditor, "run", slow)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(auditor.watch(1.0, Sleeps(int(PAUSE_FACTOR * 0.5))))
    assert auditor.runs == 1


def test_hooks_that_a_fault_put_off_are_run() -> None:
    toy = Toy()
    toy.cache.faults.parse("call_late")
    drive(fp.truncate_inode_pages_range(toy.mapping, 0))
    assert toy.cache.faults.deferred and toy.cache.violations["hook_page_unlocked"] == 0
    auditor = Auditor(toy)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(auditor.watch(TICK_S, Sleeps(1)))
    assert not toy.cache.faults.deferred and toy.cache.violations["hook_page_unlocked"] == 4
    assert auditor.last is not None and not auditor.last.agrees
