"""Each rule fires when it is broken, and only then; the exit door survives a bad hook."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import freepage as fp
from freepage import PAGE_SIZE, ObjectState, RemovalPath
from freepage.folio import OUTSIDE
from pagecache_toyfs import FillRequest, ToyFs, ToyInode, drive, new_cache


def with_hook(hook: Callable[[fp.Page], Any], *, strict: bool = False) -> tuple[ToyFs, fp.AddressSpace]:
    fs = ToyFs(new_cache(strict=strict))
    a_ops = fp.AddressSpaceOperations(readpage=fs.readpage, freepage=hook)
    mapping = fp.AddressSpace(fs.cache, ToyInode("f", 2 * PAGE_SIZE), a_ops, fs.bdi)
    drive(fp.filemap_read(fp.File(mapping), 0, 2 * PAGE_SIZE))
    return fs, mapping


def fired(cache: fp.PageCache) -> dict[str, int]:
    return {rule: count for rule, count in cache.violations.items() if count}


def release(page: fp.Page) -> None:
    owned = page.disown()
    if owned is not None:
        owned.put(ObjectState.CACHED)


def test_a_good_hook_breaks_no_rule() -> None:
    fs, mapping = with_hook(release)
    drive(fp.truncate_inode_pages_range(mapping, 0))
    assert not fired(fs.cache)


def test_a_hook_that_forgets_leaves_an_orphan() -> None:
    fs, mapping = with_hook(lambda page: None)
    drive(fp.truncate_inode_pages_range(mapping, 0))
    assert fired(fs.cache) == {"private_left_behind": 2}
    assert fs.cache.ledger.orphaned()["nfs_page"] == 2
    assert fs.cache.ledger.audit([fs.cred], fs.cache.mappings).agrees


def test_a_hook_that_raises_does_not_keep_the_page() -> None:
    def hook(page: fp.Page) -> None:
        raise ValueError("bad hook")

    fs, mapping = with_hook(hook)
    drive(fp.truncate_inode_pages_range(mapping, 0))
    assert not mapping.pages and fired(fs.cache) == {"hook_raised": 2, "private_left_behind": 2}
    assert "bad hook" in fs.cache.stories["hook_raised"]
    fp.check_cache(fs.cache)
    fs, mapping = with_hook(hook, strict=True)
    with pytest.raises(fp.RuleViolation, match="bad hook") as caught:
        drive(fp.truncate_inode_pages_range(mapping, 0))
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize(
    "wait",
    [
        lambda page: page.lock(),
        lambda page: page.wait_locked(),
        lambda page: page.wait_writeback(),
        lambda page: fp.lock_page(page),
    ],
)
def test_waiting_in_the_hook_is_caught(wait: Callable[[fp.Page], Any]) -> None:
    def hook(page: fp.Page) -> None:
        release(page)
        coro = wait(page)
        try:
            coro.send(None)
        except StopIteration:
            return
        finally:
            coro.close()

    fs, mapping = with_hook(hook)
    drive(fp.truncate_inode_pages_range(mapping, 0))
    assert fs.cache.violations["hook_blocked"] == 2


def test_a_hook_that_returns_something_to_wait_for_is_caught() -> None:
    async def later() -> None:
        return None

    def hook(page: fp.Page) -> Any:
        release(page)
        return later()

    fs, mapping = with_hook(hook)
    drive(fp.truncate_inode_pages_range(mapping, 0))
    assert fired(fs.cache) == {"hook_blocked": 2}


def test_reading_through_the_cache_in_the_hook_is_caught() -> None:
    def hook(page: fp.Page) -> None:
        release(page)
        drive(fp.filemap_read(other, 0, 1))

    fs, mapping = with_hook(hook)
    other = fp.File(fs.create("other", PAGE_SIZE))
    drive(fp.truncate_inode_pages_range(mapping, 0, PAGE_SIZE))
    assert fs.cache.violations["hook_blocked"] >= 1


def test_the_mapping_is_poisoned_while_reclaim_runs_the_hook() -> None:
    seen: list[fp.AddressSpace] = []

    def hook(page: fp.Page) -> None:
        release(page)
        seen[0].find_page(0)

    fs, mapping = with_hook(hook, strict=True)
    seen.append(mapping)
    fp.lru_add_drain(fs.cache.memcg)
    with pytest.raises(fp.RuleViolation, match="mapping_poisoned"):
        fs.cache.memcg.shrink(2)
    assert not mapping.poisoned and mapping.a_ops.freepage is hook


def test_removing_an_unlocked_page_is_caught() -> None:
    fs, mapping = with_hook(release)
    fp.remove_from_page_cache(mapping.pages[0].folio, 0, RemovalPath.TRUNCATE, "test")
    assert fired(fs.cache) == {"hook_page_unlocked": 2}  # the removal, and the hook it ran


def test_removing_a_dirty_page_is_caught_and_the_counters_are_put_right() -> None:
    fs, mapping = with_hook(release)
    page = mapping.pages[0]
    fp.set_page_dirty(page)
    assert page.trylock()
    fp.remove_from_page_cache(page.folio, page.off, RemovalPath.INVALIDATE, "test")
    page.unlock()
    assert fired(fs.cache) == {"dirty_page_dropped": 1} and fs.cache.dirty.nr_dirty == 0
    fp.check_cache(fs.cache)


def test_private_data_left_behind_is_caught() -> None:
    fs, mapping = with_hook(release)
    page = mapping.pages[0]
    page.private = object()
    assert page.trylock()
    fp.remove_from_page_cache(page.folio, page.off, RemovalPath.TRUNCATE, "test")
    page.unlock()
    assert fired(fs.cache) == {"private_left_behind": 1}


def test_reference_errors_of_pages_are_caught() -> None:
    fs, mapping = with_hook(release)
    page = mapping.pages[0]
    fp.lru_add_drain(fs.cache.memcg)
    page.put()
    assert fired(fs.cache) == {"freed_with_references": 1}
    drive(fp.truncate_inode_pages_range(mapping, 0))
    page.get()
    assert fs.cache.violations["use_after_free"] == 1
    fs.cache.free_page(page.folio, page.off)
    assert fs.cache.violations["freed_with_references"] == 2


def test_a_page_freed_without_its_hook_is_caught() -> None:
    fs, mapping = with_hook(release)
    page = mapping.pages[0]
    page.get()
    fp.lru_add_drain(fs.cache.memcg)
    mapping.pages.erase(0)  # somebody removes behind the exit door's back
    page.folio.state[page.off] |= OUTSIDE
    page.put()
    assert fired(fs.cache) == {"hook_missed": 1}


def test_a_reference_taken_in_reclaim_s_hook_is_caught() -> None:
    def hook(page: fp.Page) -> None:
        release(page)
        page.get()

    fs, _mapping = with_hook(hook)
    fp.lru_add_drain(fs.cache.memcg)
    fs.cache.memcg.shrink(1)
    assert fired(fs.cache) == {"use_after_free": fs.cache.removed[RemovalPath.RECLAIM]}


def test_a_table_without_a_hook_is_counted_apart() -> None:
    cache = new_cache()
    fs = ToyFs(cache)
    mapping = fp.AddressSpace(
        cache, ToyInode("f", PAGE_SIZE), fp.AddressSpaceOperations(readpage=fs.readpage_bare), fs.bdi
    )
    drive(fp.filemap_read(fp.File(mapping), 0, 1))
    drive(fp.truncate_inode_pages_range(mapping, 0))
    assert cache.unhooked[RemovalPath.TRUNCATE] == cache.removed[RemovalPath.TRUNCATE] == 1
    assert not fired(cache)


def test_a_page_takes_one_owner_only() -> None:
    fs, mapping = with_hook(release)
    with pytest.raises(AssertionError, match="already owns"):
        mapping.pages[0].own(FillRequest(fs.cache.ledger, ObjectState.CACHED, "read"))


def test_policy_texts() -> None:
    cache = new_cache(random=lambda: 0.5)
    cache.policy.parse("all=skip:every=3")
    cache.policy.parse("drop=run")
    cache.policy.parse("evict=skip:probability=0.25")
    cache.policy.parse("replace=skip")
    assert cache.policy.as_dict() == {
        "truncate": "skip:every=3",
        "invalidate": "skip:every=3",
        "drop": "run",
        "reclaim": "skip:every=3",
        "replace": "skip",
        "evict": "skip:probability=0.25",
    }
    assert [cache.policy.skips(RemovalPath.RECLAIM) for _ in range(6)] == [False, False, True] * 2
    assert not cache.policy.skips(RemovalPath.EVICT) and cache.policy.skips(RemovalPath.REPLACE)
    bad = ["nonsense", "attic=run", "drop=jump", "drop=run:every=2", "drop=skip:every=0", "drop=skip:probability=2"]
    for text in [*bad, "drop=skip:often=1", "drop=skip:every=x", "=skip"]:
        with pytest.raises(ValueError, match=r".+"):
            cache.policy.parse(text)
    with pytest.raises(ValueError, match="chance"):
        new_cache().policy.parse("drop=skip:probability=0.5")
