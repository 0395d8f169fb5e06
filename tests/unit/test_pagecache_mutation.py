"""The tests' own test: an exit door with one of its steps broken does not go unseen."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

import freepage as fp
from freepage import PAGE_SIZE, filemap, readahead, truncate, vmscan
from pagecache_toyfs import ToyFs, drive, new_cache

MODULES = (filemap, truncate, vmscan, readahead)

MUTATIONS = {
    "skip the hook": ("            call_freepage(cache, path, page, freepage)\n", "            pass\n"),
    "call it while the page is visible": (
        "    state[off] |= OUTSIDE  # page.mapping is None from now on\n",
        "    if freepage is not None:\n        call_freepage(cache, path, page, freepage)\n"
        "    state[off] |= OUTSIDE\n    freepage = forgotten\n",
    ),
    "drop the lock": ("    cache.removed[path] += 1\n", "    cache.removed[path] += 1\n    page.locked = False\n"),
    "forget the uncharge": ("        cache.memcg.uncharge(1)\n", "        pass\n"),
    "leave the page in the tree": ("    mapping.pages.erase(index)\n", "    pass\n"),
    "take the pointer from a freed inode": (
        "    cache.removed[path] += 1\n",
        "    with mapping.poisoned_meanwhile():\n        freepage = mapping.a_ops.freepage\n"
        "    cache.removed[path] += 1\n",
    ),
    "keep the cache's reference": ("        cache.free_page(folio, off)\n", "        pass\n"),
    "forget the tags": ("        mapping.dirty_tags.pop(index, None)\n", "        pass\n"),
}


def scenario() -> None:
    """Reads, a write, and a page out by truncation and by reclaim, in strict mode, checked at the end."""
    fs = ToyFs(new_cache(64), io_pages=16)
    mapping = fs.create("f", 32 * PAGE_SIZE)
    file = fp.File(mapping)
    drive(fp.filemap_read(file, 0, 32 * PAGE_SIZE))
    drive(fp.generic_perform_write(file, 4 * PAGE_SIZE, b"x" * PAGE_SIZE))
    page = mapping.pages[4]
    assert page.trylock()
    fp.clear_page_dirty_for_io(page)  # as launder_page does; the tag stays until writeback starts
    filemap.remove_from_page_cache(page.folio, page.off, fp.RemovalPath.INVALIDATE, "test")
    page.unlock()
    drive(fp.truncate_inode_pages_range(mapping, 16 * PAGE_SIZE))
    fp.lru_add_drain(fs.cache.memcg)
    fs.cache.memcg.shrink(4)
    fp.check_cache(fs.cache)
    assert fs.cache.ledger.audit([fs.cred], fs.cache.mappings).agrees
    assert sum(fs.cache.removed.values()) == len(fs.hooked) and set(fs.hooked.values()) == {1}
    assert fs.cache.nr_removed_pages == 0


def mutated(old: str, new: str) -> Callable[..., Any]:
    source = inspect.getsource(filemap.remove_from_page_cache)
    assert source.count(old) >= 1, old
    namespace = dict(vars(filemap))
    exec(source.replace(old, new), namespace)
    door = namespace["remove_from_page_cache"]
    assert callable(door)
    return door  # type: ignore[no-any-return]


def test_the_scenario_passes_with_the_real_door() -> None:
    scenario()


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_door_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    door = mutated(*MUTATIONS[name])
    for module in MODULES:
        if hasattr(module, "remove_from_page_cache"):
            monkeypatch.setattr(module, "remove_from_page_cache", door)
    with pytest.raises((AssertionError, KeyError)):
        scenario()
