"""The fault gallery: each fault is caught by exactly the rules it names, and no rule fires without one."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import freepage as fp
from freepage import PAGE_SIZE, ObjectState, RemovalPath
from freepage.faults import GALLERY, Fault
from pagecache_toyfs import ToyFs, ToyScheduler, drive, new_cache

PAGES = 4
LOCKING = Path(fp.__file__).parent.parent / "LOCKING.md"
LEFT_OUT = {
    16: "the NFS client's: `leak_subrequest`",
    17: "the NFS client's: `leak_name`",
    18: "the NFS client's: `keep_private`",
    19: "the NFS client's: `keep_request`",
    20: "the NFS client's: `keep_commit_accounting`",
    21: "does not apply: every object stays in its place, the data are stale; the tests of two clients read them",
    23: "does not apply: final eviction clears the shadows after the last page, and they are no slab objects",
    24: "does not apply: shadows live in a dictionary of their own, typed",
    25: "does not apply: every object is released, the data are lost; the crash test reads them",
}


def truncate(fs: ToyFs, mapping: fp.AddressSpace) -> None:
    drive(fp.truncate_inode_pages_range(mapping, 0))


def invalidate(fs: ToyFs, mapping: fp.AddressSpace) -> None:
    drive(fp.invalidate_inode_pages2_range(mapping))


def drop(fs: ToyFs, mapping: fp.AddressSpace) -> None:
    fs.cache.drop_pagecache()


def reclaim(fs: ToyFs, mapping: fp.AddressSpace) -> None:
    fs.cache.memcg.shrink(PAGES)


def replace(fs: ToyFs, mapping: fp.AddressSpace) -> None:
    for page in mapping.resident_range():
        drive(fp.replace_page_cache_page(page, bytes(PAGE_SIZE)))


def evict(fs: ToyFs, mapping: fp.AddressSpace) -> None:
    assert fp.truncate_inode_pages_final(mapping) == 0


def migrate(fs: ToyFs, mapping: fp.AddressSpace) -> None:
    for page in mapping.resident_range():
        assert page.trylock()
        fp.migrate_page(page).unlock()
        page.unlock()


def unsubmitted_readahead(fs: ToyFs, mapping: fp.AddressSpace) -> None:
    fs.refuse_readahead = True
    drive(fp.filemap_read(fp.File(fs.create("g", 64 * PAGE_SIZE)), 0, 1))


def memory_failure(fs: ToyFs, mapping: fp.AddressSpace) -> None:
    for page in mapping.resident_range():
        assert page.trylock()
        fp.generic_error_remove_page(mapping, page)
        page.unlock()


def lookup(fs: ToyFs, mapping: fp.AddressSpace) -> None:
    """A writer waits for the lock of a page that is truncated meanwhile."""
    page = mapping.pages[0]
    assert page.trylock()
    tasks = ToyScheduler()
    task = tasks.spawn("write", fp.generic_perform_write(fp.File(mapping), 0, bytes(PAGE_SIZE)))
    fp.remove_from_page_cache(page.folio, page.off, RemovalPath.TRUNCATE, "test")
    page.unlock()
    tasks.run()
    if task.error is not None:
        raise task.error
    assert task.finished


PATHS: dict[RemovalPath, Callable[[ToyFs, fp.AddressSpace], None]] = {
    RemovalPath.TRUNCATE: truncate,
    RemovalPath.INVALIDATE: invalidate,
    RemovalPath.DROP: drop,
    RemovalPath.RECLAIM: reclaim,
    RemovalPath.REPLACE: replace,
    RemovalPath.EVICT: evict,
}
ELSEWHERE = {"leak_on_error": memory_failure, "hook_on_migration": migrate, "skip_recheck": lookup}


def filled(strict: bool = False) -> tuple[ToyFs, fp.AddressSpace]:
    fs = ToyFs(new_cache(strict=strict, random=lambda: 0.5), io_pages=16)
    mapping = fs.create("f", PAGES * PAGE_SIZE)
    drive(fp.filemap_read(fp.File(mapping), 0, PAGES * PAGE_SIZE))
    fp.lru_add_drain(fs.cache.memcg)
    return fs, mapping


def caught(fs: ToyFs) -> set[str]:
    """What an observer sees: rules that fired, objects orphaned, an audit that disagrees."""
    report = fs.cache.ledger.audit([fs.cred] if fs.cred.alive else [], fs.cache.mappings)
    seen = {rule for rule, count in fs.cache.violations.items() if count}
    if not report.agrees:
        seen.add("audit")
    if fs.cache.ledger.live("nfs_page", ObjectState.ORPHANED):
        seen.add("orphaned")
    return seen


STRIKES = [
    (kind, path, ELSEWHERE.get(kind.name, action))
    for kind in GALLERY.values()
    for path, action in PATHS.items()
    if kind.name not in ELSEWHERE or path is RemovalPath.TRUNCATE
]


@pytest.mark.parametrize(
    ("kind", "path", "action"), STRIKES, ids=[f"{kind.name}-{path.value}" for kind, path, _ in STRIKES]
)
def test_each_fault_is_caught_on_each_path(
    kind: type[Fault], path: RemovalPath, action: Callable[[ToyFs, fp.AddressSpace], None]
) -> None:
    fs, mapping = filled()
    fs.cache.faults.set(kind.name)
    action(fs, mapping)
    assert fs.cache.faults.injected()[kind.name] > 0
    before_deferred = caught(fs)
    fs.cache.faults.run_deferred()
    seen = before_deferred | caught(fs)
    # what a later rule says about the same damage is welcome; what the gallery promises must be there
    assert set(kind.caught_by) <= seen
    extra = seen - set(kind.caught_by)
    assert extra <= {"use_after_free", "freed_with_references", "audit", "hook_page_unlocked"}, extra


@pytest.mark.parametrize("path", list(RemovalPath))
def test_nothing_is_caught_without_a_fault(path: RemovalPath) -> None:
    fs, mapping = filled()
    PATHS[path](fs, mapping)
    if path is not RemovalPath.EVICT:
        lookup(*filled())
    assert caught(fs) == set()


@pytest.mark.parametrize("kind", [kind for kind in GALLERY.values() if set(kind.caught_by) - {"audit", "orphaned"}])
def test_strict_mode_raises_with_the_story(kind: type[Fault]) -> None:
    fs, mapping = filled(strict=True)
    fs.cache.faults.set(kind.name)
    action = ELSEWHERE.get(kind.name, reclaim)
    with pytest.raises(fp.RuleViolation) as violation:
        action(fs, mapping)
        fs.cache.faults.run_deferred()
    assert violation.value.rule in kind.caught_by and violation.value.story


def test_a_credential_dropped_once_too_often_is_seen_by_the_audit() -> None:
    fs, mapping = filled()
    fs.cache.faults.set("drop_credential_twice", indices=(1, 2))
    drive(fp.truncate_inode_pages_range(mapping, PAGE_SIZE, 2 * PAGE_SIZE))
    report = fs.cache.ledger.audit([fs.cred], fs.cache.mappings)
    assert "1 in use, 2 cached, 0 orphaned references; found 0, 3, 0" in report.render()
    assert caught(fs) == {"audit"}


def test_unsubmitted_readahead_leaks_only_on_the_error_path() -> None:
    fs, mapping = filled()
    fs.cache.faults.set("leak_on_error")
    truncate(fs, mapping)
    assert caught(fs) == set()
    unsubmitted_readahead(fs, mapping)
    fp.lru_add_drain(fs.cache.memcg)
    assert fs.cache.violations["hook_missed"] == 3  # those pages owned nothing yet


def test_a_late_pointer_is_harmless_to_callers_that_hold_the_inode_but_not_here() -> None:
    fs, mapping = filled()
    fs.cache.faults.set("late_pointer", RemovalPath.RECLAIM)
    truncate(fs, mapping)
    assert caught(fs) == set()
    fs, mapping = filled()
    fs.cache.faults.set("late_pointer", RemovalPath.RECLAIM)
    reclaim(fs, mapping)
    assert caught(fs) == {"mapping_poisoned", "private_left_behind", "orphaned"}
    assert "a_ops.freepage of f" in fs.cache.stories["mapping_poisoned"]


def test_faults_strike_where_they_are_told() -> None:
    fs, mapping = filled()
    faults = fs.cache.faults
    faults.parse("skip:path=truncate:every=2:inode=f:index=0-2")
    truncate(fs, mapping)
    assert faults.injected() == {"skip": 1} and [record.index for record in fs.cache.ledger.orphans()] == [1]
    faults.parse("skip=off")
    assert faults.injected() == {}
    fs, mapping = filled()
    fs.cache.faults.parse("skip:probability=0.6:index=3")
    fs.cache.faults.parse("block:probability=0.4")
    fs.cache.faults.parse("raise:inode=99")
    truncate(fs, mapping)
    assert fs.cache.faults.injected() == {"skip": 1, "block": 0, "raise": 0}
    fs.cache.faults.parse("off")
    assert not fs.cache.faults.armed


@pytest.mark.parametrize(
    "text",
    ["nonsense", "skip:path=attic", "skip:every=0", "skip:probability=2", "skip:often=1", "skip:every=1:probability=1"],
)
def test_bad_faults_are_refused(text: str) -> None:
    fs, _ = filled()
    with pytest.raises(ValueError, match=r".+"):
        fs.cache.faults.parse(text)
    with pytest.raises(ValueError, match="chance"):
        new_cache().faults.parse("skip:probability=0.5")


def gallery_table() -> list[str]:
    """The rows of LOCKING.md's tables, as the code has them."""
    rows = [
        f"| {kind.name} | {kind.bug} | {', '.join(map(str, kind.classes))} | "
        f"{', '.join(f'`{rule}`' if rule in fp.RULES else rule for rule in kind.caught_by)} |"
        for kind in GALLERY.values()
    ]
    return rows + [f"| {number} | {why} |" for number, why in LEFT_OUT.items()]


def test_the_gallery_in_the_documentation_is_the_gallery_in_the_code() -> None:
    text = LOCKING.read_text(encoding="utf-8")
    chapter = text[text.index("# The fault gallery") :]
    before, _, after = chapter.partition("| client fault |")
    chapter = before + after[after.index("\n\n") :]  # the NFS client's own table is held to the code by its own test
    rows = [
        line for line in chapter.splitlines() if line.startswith("|") and not re.match(r"\| (fault|class|---)", line)
    ]
    assert rows == gallery_table(), "\n".join(gallery_table())


def test_all_twenty_five_bug_classes_are_accounted_for() -> None:
    implemented = {number for kind in GALLERY.values() for number in kind.classes}
    assert implemented | set(LEFT_OUT) == set(range(1, 26)) and not implemented & set(LEFT_OUT)
