"""Each way out with the kernel's own conditions: what it skips, waits for, discards."""

from __future__ import annotations

import pytest

import freepage as fp
from freepage import PAGE_SIZE, RemovalPath
from pagecache_toyfs import ToyFs, ToyInode, ToyScheduler, drive, new_cache


def filled(pages: int = 8, limit: int | None = None) -> tuple[ToyFs, fp.AddressSpace]:
    fs = ToyFs(new_cache(limit), io_pages=16)
    mapping = fs.create("f", pages * PAGE_SIZE)
    host = mapping.host
    assert isinstance(host, ToyInode)
    host.data[:] = bytes(range(1, 256)) * (len(host.data) // 255) + bytes([7]) * (len(host.data) % 255)
    drive(fp.filemap_read(fp.File(mapping), 0, pages * PAGE_SIZE))
    fp.lru_add_drain(fs.cache.memcg)
    return fs, mapping


def attach_private(page: fp.Page) -> None:
    page.private = object()
    page.get()


def test_truncate_zeroes_partial_pages_and_keeps_them() -> None:
    fs, mapping = filled()
    drive(fp.truncate_inode_pages_range(mapping, PAGE_SIZE + 100, 3 * PAGE_SIZE + 50))
    assert sorted(mapping.pages) == [0, 1, 3, 4, 5, 6, 7]
    first, last = mapping.pages[1].data, mapping.pages[3].data
    assert first is not None and last is not None
    assert bytes(first[100:]) == bytes(PAGE_SIZE - 100) and first[99] != 0
    assert bytes(last[:50]) == bytes(50) and last[50] != 0
    assert fs.cache.removed[RemovalPath.TRUNCATE] == 1


@pytest.mark.parametrize(("start", "end"), [(10, 20), (0, 20), (PAGE_SIZE - 5, PAGE_SIZE), (5, PAGE_SIZE + 5)])
def test_truncate_within_pages(start: int, end: int) -> None:
    _, mapping = filled()
    before = bytearray(b"".join(bytes(page.data or b"") for page in mapping.resident_range()))
    drive(fp.truncate_inode_pages_range(mapping, start, end))
    before[start:end] = bytes(end - start)
    assert mapping.nrpages == 8
    assert b"".join(bytes(page.data or b"") for page in mapping.resident_range()) == bytes(before)


def test_partial_truncation_does_not_write_into_a_shared_buffer() -> None:
    fs = ToyFs(new_cache())
    mapping = fs.create("f", PAGE_SIZE)
    reply = bytes([1]) * PAGE_SIZE
    page = fp.add_to_page_cache_lru(mapping, 0)
    page.fill(memoryview(reply))
    page.uptodate = True
    page.unlock()
    drive(fp.truncate_pagecache(mapping, 10))
    assert reply == bytes([1]) * PAGE_SIZE and page.data is not None and page.data[10] == 0


def test_truncate_waits_in_its_second_pass_for_locked_and_written_pages() -> None:
    fs, mapping = filled()
    locked, written = mapping.pages[2], mapping.pages[5]
    assert locked.trylock()
    fp.set_page_writeback(written)
    tasks = ToyScheduler()
    task = tasks.spawn("truncate", fp.truncate_inode_pages_range(mapping, 0))
    assert sorted(mapping.pages) == [2, 5] and not task.finished
    locked.unlock()
    tasks.run()
    assert sorted(mapping.pages) == [5] and not task.finished
    fp.end_page_writeback(written)
    tasks.run()
    assert task.finished and not mapping.pages
    assert fs.cache.removed[RemovalPath.TRUNCATE] == 8
    fp.check_cache(fs.cache)


def test_truncating_into_a_page_waits_until_it_is_written() -> None:
    _, mapping = filled()
    page = mapping.pages[3]
    fp.set_page_writeback(page)
    before = bytes(page.data or b"")
    tasks = ToyScheduler()
    task = tasks.spawn("truncate", fp.truncate_inode_pages_range(mapping, 3 * PAGE_SIZE + 100))
    assert not task.finished and page.locked and page.data == before
    fp.end_page_writeback(page)
    tasks.run()
    assert task.finished and not page.locked and page.data == before[:100] + bytes(PAGE_SIZE - 100)


def test_a_page_that_was_truncated_is_not_dirtied() -> None:
    fs, mapping = filled()
    page = mapping.pages[3]
    page.get()
    drive(fp.truncate_inode_pages_range(mapping, 0))
    assert not fp.filemap_dirty_page(page) and not fp.set_page_dirty(page)
    assert not mapping.dirty_tags and not fs.cache.dirty.nr_dirty
    page.put()
    fp.check_cache(fs.cache)


def test_truncate_cancels_dirty_data_and_private_requests() -> None:
    fs, mapping = filled()
    page = mapping.pages[3]
    fp.set_page_dirty(page)
    attach_private(page)
    drive(fp.truncate_inode_pages_range(mapping, 0))
    assert not fs.written and page.private is None and page.freed
    assert fs.cache.dirty.nr_dirty == 0
    fp.check_cache(fs.cache)


def test_truncation_forgets_the_shadows_of_its_range() -> None:
    fs, mapping = filled(64, limit=256)
    fs.cache.memcg.shrink(40)
    shadows = sorted(mapping.shadows)
    drive(fp.truncate_inode_pages_range(mapping, 10 * PAGE_SIZE, 20 * PAGE_SIZE))
    assert sorted(mapping.shadows) == [index for index in shadows if not 10 <= index < 20]


def test_drop_skips_what_it_may_not_take_and_hands_it_to_deactivation() -> None:
    fs, mapping = filled(9)
    dirty, written, locked, referenced, private = (mapping.pages[index] for index in range(5))
    fp.set_page_dirty(dirty)
    fp.set_page_writeback(written)
    assert locked.trylock()
    referenced.get()
    attach_private(private)
    assert fp.invalidate_mapping_pages(mapping) == 4
    assert sorted(mapping.pages) == [0, 1, 2, 3, 4]
    assert dirty.reclaim and not written.reclaim and not locked.reclaim
    # the clean ones it could not take wait at the inactive tail, the latest handed over last
    assert list(fs.cache.memcg.lruvec.inactive)[:2] == [private, referenced]
    for page in (referenced, private):
        page.private = None
        page.put()
    locked.unlock()
    fp.end_page_writeback(written)
    assert fp.invalidate_mapping_pages(mapping) == 4


def test_a_dirty_page_skipped_by_drop_caches_starts_readahead_when_read() -> None:
    # the reclaim bit and the readahead marker are one bit: measured, an extra READ of 12288 bytes at 4096
    fs, mapping = filled(16)
    file = fp.File(mapping)
    drive(fp.generic_perform_write(file, 0, bytes(PAGE_SIZE)))
    fs.cache.drop_pagecache()
    assert sorted(mapping.pages) == [0]
    fs.reads.clear()
    drive(fp.filemap_read(file, 0, PAGE_SIZE))
    assert fs.reads == [(1, 3)]


def test_invalidate_pages2_launders_and_ignores_references() -> None:
    fs, mapping = filled()
    dirty, held = mapping.pages[2], mapping.pages[4]
    drive(fp.generic_perform_write(fp.File(mapping), 2 * PAGE_SIZE, b"x" * PAGE_SIZE))
    held.get()
    drive(fp.invalidate_inode_pages2_range(mapping))
    assert not mapping.pages and fs.written == [2] and dirty.freed
    assert held.mapping is None and not held.freed and held.index == 4
    assert fs.cache.nr_removed_pages == 1 and fs.cache.memcg.pages == 1  # alive, and charged, until its last reference
    held.put()
    assert held.freed and fs.cache.nr_removed_pages == 0 and fs.cache.memcg.pages == 0


def test_invalidate_pages2_reports_what_survived_and_takes_the_rest() -> None:
    _, mapping = filled()
    attach_private(mapping.pages[3])
    with pytest.raises(OSError, match="private data"):
        drive(fp.invalidate_inode_pages2_range(mapping))
    assert sorted(mapping.pages) == [3]
    mapping.pages[3].private = None
    mapping.pages[3].put()
    drive(fp.invalidate_inode_pages2_range(mapping))
    assert not mapping.pages


def test_invalidate_pages2_without_launder_finds_dirty_pages_busy() -> None:
    cache = new_cache()
    fs = ToyFs(cache)
    a_ops = fp.AddressSpaceOperations(freepage=fs.freepage)
    mapping = fp.AddressSpace(cache, ToyInode("f", 0), a_ops, fs.bdi)
    drive(fp.generic_perform_write(fp.File(mapping), 0, b"x" * PAGE_SIZE))
    with pytest.raises(OSError, match="dirty"):
        drive(fp.invalidate_inode_pages2_range(mapping))
    assert mapping.nrpages == 1


def test_eviction_poisons_the_mapping() -> None:
    fs, mapping = filled()
    cache = fs.cache
    fp.set_page_dirty(mapping.pages[0])
    assert fp.truncate_inode_pages_final(mapping) == 0
    assert cache.removed[RemovalPath.EVICT] == 8 and mapping.poisoned and mapping not in cache.mappings
    assert not fs.bdi.wb.needs_timer()
    for touch in (lambda: mapping.find_page(0), lambda: mapping.a_ops.freepage, lambda: 0 in mapping.pages):
        with pytest.raises(fp.RuleViolation, match="mapping_poisoned"):
            touch()


def test_eviction_leaves_pages_somebody_uses_and_tells() -> None:
    _, mapping = filled()
    assert mapping.pages[3].trylock()
    assert fp.truncate_inode_pages_final(mapping) == 1 and not mapping.poisoned
    tasks = ToyScheduler()
    task = tasks.spawn("evict", fp.truncate_inode_pages_final_wait(mapping))
    assert not task.finished
    mapping.pages[3].unlock()
    tasks.run()
    assert task.finished and mapping.poisoned


def test_no_shadows_once_eviction_has_begun() -> None:
    fs, mapping = filled(64, limit=256)
    for index in range(32):
        assert mapping.pages[index].trylock()
    assert fp.truncate_inode_pages_final(mapping) == 32
    for index in range(32):
        mapping.pages[index].unlock()
    fs.cache.memcg.shrink(32)
    assert fs.cache.removed[RemovalPath.RECLAIM] == 32 and not mapping.shadows


def test_replace_swaps_the_page_in_its_slot() -> None:
    fs, mapping = filled()
    old = mapping.pages[3]
    new = drive(fp.replace_page_cache_page(old, b"new" + bytes(PAGE_SIZE - 3)))
    assert mapping.pages[3] == new and new.uptodate and not new.locked
    assert old.freed and fs.cache.hook_calls[RemovalPath.REPLACE] == 1
    assert drive(fp.filemap_read(fp.File(mapping), 3 * PAGE_SIZE, 3)) == b"new"
    with pytest.raises(OSError, match="not in the cache"):
        drive(fp.replace_page_cache_page(old, bytes(PAGE_SIZE)))
    fp.set_page_dirty(new)
    with pytest.raises(OSError, match="dirty"):
        drive(fp.replace_page_cache_page(new, bytes(PAGE_SIZE)))
    fp.cancel_dirty_page(new)
    fp.check_cache(fs.cache)


def test_replace_in_a_full_group_reclaims_something_else() -> None:
    fs, mapping = filled(16, limit=16)
    old = mapping.pages[0]
    new = drive(fp.replace_page_cache_page(old, bytes(PAGE_SIZE)))
    assert mapping.pages[0] == new
    fp.check_cache(fs.cache)


def test_migration_moves_the_objects_and_does_not_call_the_hook() -> None:
    fs, mapping = filled()
    old = mapping.pages[3]
    owned = old.owned
    assert old.trylock()
    new = fp.migrate_page(old)
    assert mapping.pages[3] == new and new.owned is owned and new.locked
    new.unlock()
    assert not sum(fs.cache.hook_calls.values()) and not sum(fs.cache.removed.values()) and fs.cache.migrated == 1
    held = mapping.pages[4]
    held.get()
    assert held.trylock()
    with pytest.raises(OSError, match="in use"):
        fp.migrate_page(held)
    held.unlock()
    held.put()
    fp.check_cache(fs.cache)


def test_memory_failure_takes_the_page_by_truncation() -> None:
    fs, mapping = filled()
    page = mapping.pages[3]
    assert page.trylock()
    fp.set_page_writeback(page)
    with pytest.raises(OSError, match="writeback"):
        fp.generic_error_remove_page(mapping, page)
    fp.end_page_writeback(page)
    fp.generic_error_remove_page(mapping, page)
    page.unlock()
    assert 3 not in mapping.pages and fs.cache.removed[RemovalPath.TRUNCATE] == 1
    fp.generic_error_remove_page(mapping, page)
    assert fs.cache.removed[RemovalPath.TRUNCATE] == 1


def test_fadvise_dontneed_takes_whole_pages_only() -> None:
    # the ranges and what stayed resident were measured on Linux 6.1 (a file of 300,000 bytes)
    _fs, mapping = filled(74)
    mapping.host.i_size = 300_000
    file = fp.File(mapping)
    drive(fp.fadvise_dontneed(file, 16384, 16384))
    assert sorted(set(range(74)) - set(mapping.pages)) == [4, 5, 6, 7]
    drive(fp.fadvise_dontneed(file, 41000, 20000))
    assert sorted(set(range(74)) - set(mapping.pages)) == [4, 5, 6, 7, 11, 12, 13]
    drive(fp.fadvise_dontneed(file, 73 * PAGE_SIZE, 300_000 - 73 * PAGE_SIZE))
    assert 73 not in mapping.pages
    drive(fp.fadvise_dontneed(file, 0, 0))
    assert not mapping.pages
