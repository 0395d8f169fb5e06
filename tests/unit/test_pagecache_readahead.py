"""Windows of ondemand_readahead: the golden sequences measured on Linux 6.1, 128 KiB of readahead unless said."""

from __future__ import annotations

import itertools

import pytest

import freepage as fp
from freepage import PAGE_SIZE
from pagecache_toyfs import ToyFs, ToyScheduler, drive, new_cache

KIB = 1024
MIB = 1024 * KIB


def open_file(pages: int, *, io_pages: int, ra_pages: int = 32, limit: int | None = None) -> tuple[ToyFs, fp.File]:
    fs = ToyFs(new_cache(limit), io_pages=io_pages, ra_pages=ra_pages)
    return fs, fp.File(fs.create("f", pages * PAGE_SIZE))


def read_all(file: fp.File, chunk: int) -> None:
    pos = 0
    while data := drive(fp.filemap_read(file, pos, chunk)):
        pos += len(data)


SEQUENTIAL_4K = [(0, 4), (4, 8), (12, 16), (28, 32), *((start, 32) for start in range(60, 252, 32)), (252, 4)]


@pytest.mark.parametrize(
    ("pages", "chunk", "io_pages", "ra_pages", "windows"),
    [
        (256, 4 * KIB, 32, 32, SEQUENTIAL_4K),
        (256, 4 * KIB, 16, 32, SEQUENTIAL_4K),
        (256, 64 * KIB, 32, 32, [(start, 32) for start in range(0, 256, 32)]),
        (1024, MIB, 256, 32, [(0, 256), (256, 256), (512, 256), (768, 256)]),
        (256, MIB, 16, 32, [(start, 32) for start in range(0, 256, 32)]),
        (256, MIB, 32, 32, [(start, 32) for start in range(0, 256, 32)]),
        (256, MIB, 64, 32, [(start, 64) for start in range(0, 256, 64)]),
        (188, 4 * KIB, 256, 64, [(0, 4), (4, 8), (12, 16), (28, 32), (60, 64), (124, 64)]),
        (4, 4 * KIB, 32, 0, [(0, 1), (1, 1), (2, 1), (3, 1)]),
        (3, 4 * KIB, 256, 32, [(0, 3)]),
    ],
)
def test_sequential_reads(pages: int, chunk: int, io_pages: int, ra_pages: int, windows: list[tuple[int, int]]) -> None:
    fs, file = open_file(pages, io_pages=io_pages, ra_pages=ra_pages)
    read_all(file, chunk)
    assert fs.reads == windows


def test_fadvise_sequential_doubles_the_window() -> None:
    fs, file = open_file(188, io_pages=256)
    fp.generic_fadvise(file, 0, 0, fp.POSIX_FADV_SEQUENTIAL)
    read_all(file, 4 * KIB)
    assert fs.reads == [(0, 4), (4, 8), (12, 16), (28, 32), (60, 64), (124, 64)]
    fp.generic_fadvise(file, 0, 0, fp.POSIX_FADV_NORMAL)
    assert file.ra.ra_pages == 32 and not file.ra.random


def test_fadvise_random_reads_what_was_asked() -> None:
    fs, file = open_file(256, io_pages=256)
    fp.generic_fadvise(file, 0, 0, fp.POSIX_FADV_RANDOM)
    for index in range(0, 16, 4):
        drive(fp.filemap_read(file, index * PAGE_SIZE, 16 * KIB))
    assert fs.reads == [(0, 4), (4, 4), (8, 4), (12, 4)]


@pytest.mark.parametrize("advice", [fp.POSIX_FADV_NORMAL, fp.POSIX_FADV_SEQUENTIAL])
def test_fadvise_random_is_taken_back(advice: int) -> None:
    fs, file = open_file(64, io_pages=32)
    fp.generic_fadvise(file, 0, 0, fp.POSIX_FADV_RANDOM)
    drive(fp.filemap_read(file, 0, 4 * KIB))
    fp.generic_fadvise(file, 0, 0, advice)
    drive(fp.filemap_read(file, 4 * KIB, 4 * KIB))
    assert fs.reads[0] == (0, 1) and fs.reads[1][1] > 1


@pytest.mark.parametrize(("io_pages", "windows"), [(256, [(0, 256)]), (16, [(0, 32)])])
def test_fadvise_willneed(io_pages: int, windows: list[tuple[int, int]]) -> None:
    fs, file = open_file(1024, io_pages=io_pages)
    fp.generic_fadvise(file, 0, MIB, fp.POSIX_FADV_WILLNEED)
    assert fs.reads == windows
    assert not any(page.readahead for page in file.mapping.pages.values())


def test_fadvise_rejects_the_unknown() -> None:
    _, file = open_file(4, io_pages=32)
    with pytest.raises(OSError, match="unknown advice"):
        fp.generic_fadvise(file, 0, 0, 77)


@pytest.mark.parametrize(
    ("reads", "io_pages", "windows"),
    [
        ([(5000 * 4096, 4096), (3000 * 4096, 4096), (0, 4096)], 32, [(5000, 1), (3000, 1), (0, 4)]),
        ([(index * 4096, 4096) for index in (2000, 2001, 2002)], 32, [(2000, 1), (2001, 4), (2005, 8)]),
        ([(1500 * 4096, 16 * KIB)], 32, [(1500, 4)]),
        ([(1700 * 4096 + 100, 10_000)], 32, [(1700, 3)]),
        ([(100 * 4096, 300_000)], 256, [(100, 74)]),
        ([(index * 4096, 4096) for index in range(300, 290, -1)], 32, [(index, 1) for index in range(300, 290, -1)]),
        ([(index * 4096, 4096) for index in range(300, 330, 3)], 32, [(index, 1) for index in range(300, 330, 3)]),
    ],
)
def test_positioned_reads(reads: list[tuple[int, int]], io_pages: int, windows: list[tuple[int, int]]) -> None:
    fs, file = open_file(8192, io_pages=io_pages)
    for pos, count in reads:
        drive(fp.filemap_read(file, pos, count))
    assert fs.reads == windows


def test_two_interleaved_streams_find_each_other_by_markers_and_history() -> None:
    fs, file = open_file(8192, io_pages=256)
    for step in range(40):
        drive(fp.filemap_read(file, step * PAGE_SIZE, PAGE_SIZE))
        drive(fp.filemap_read(file, (4096 + step) * PAGE_SIZE, PAGE_SIZE))
    low = [window for window in fs.reads if window[0] < 4096]
    high = [window for window in fs.reads if window[0] >= 4096]
    for stream in (low, high):
        assert all(start + size == after for (start, size), (after, _) in itertools.pairwise(stream))
        assert max(size for _, size in stream) > 4
    assert low[0] == (0, 4)


def test_the_marker_page_starts_the_next_window_once() -> None:
    fs, file = open_file(256, io_pages=32)
    drive(fp.filemap_read(file, 0, PAGE_SIZE))
    page = file.mapping.find_page(1)
    assert page is not None and page.readahead and page.reclaim
    assert fp.read_nowait(file, PAGE_SIZE, PAGE_SIZE) is None
    drive(fp.filemap_read(file, PAGE_SIZE, PAGE_SIZE))
    assert fs.reads == [(0, 4), (4, 8)] and not page.readahead
    drive(fp.filemap_read(file, PAGE_SIZE, PAGE_SIZE))
    assert fs.reads == [(0, 4), (4, 8)]


def test_the_next_window_is_asked_for_while_the_marker_page_is_still_being_read() -> None:
    fs = ToyFs(new_cache(), deferred=True, io_pages=32)
    file = fp.File(fs.create("f", 256 * PAGE_SIZE))
    tasks = ToyScheduler()
    first = tasks.spawn("first", fp.filemap_read(file, 0, PAGE_SIZE))
    assert fs.reads == [(0, 4)] and not first.finished
    second = tasks.spawn("second", fp.filemap_read(file, PAGE_SIZE, PAGE_SIZE))
    assert fs.reads == [(0, 4), (4, 8)]
    while fs.pending:
        fs.complete()
    tasks.run()
    assert first.finished and second.finished


def test_a_marker_under_writeback_starts_nothing() -> None:
    fs, file = open_file(256, io_pages=32)
    fs.deferred = False
    drive(fp.filemap_read(file, 0, PAGE_SIZE))
    page = file.mapping.find_page(1)
    assert page is not None
    fp.set_page_writeback(page)
    drive(fp.filemap_read(file, PAGE_SIZE, PAGE_SIZE))
    assert fs.reads == [(0, 4)] and page.readahead
    fp.end_page_writeback(page)


def test_cached_pages_split_a_window() -> None:
    fs, file = open_file(256, io_pages=32)
    for index in (6, 9):
        page = fp.add_to_page_cache_lru(file.mapping, index)
        fs.fill(page)
    read_all(file, 128 * KIB)
    assert fs.reads[:3] == [(0, 6), (7, 2), (10, 22)]


def test_what_readahead_leaves_behind_goes_again() -> None:
    fs, file = open_file(256, io_pages=32)
    fs.refuse_readahead = True
    assert drive(fp.filemap_read(file, 0, PAGE_SIZE)) == bytes(PAGE_SIZE)
    # the window was 4 pages with 3 to come later: three of them leave, the first stays and is read alone
    assert fs.reads == [(0, 1)]
    assert fs.cache.removed[fp.RemovalPath.TRUNCATE] == 3
    assert file.ra.size == 0
    fp.check_cache(fs.cache)


def test_without_readahead_pages_come_one_by_one() -> None:
    cache = new_cache()
    fs = ToyFs(cache)
    a_ops = fp.AddressSpaceOperations(readpage=fs.readpage, freepage=fs.freepage)
    file = fp.File(fp.AddressSpace(cache, fs.create("f", 3 * PAGE_SIZE).host, a_ops, fs.bdi))
    read_all(file, MIB)
    assert fs.reads == [(0, 1), (1, 1), (2, 1)]


def test_a_failed_read_shrinks_the_window() -> None:
    fs, file = open_file(256, io_pages=32)
    fs.fail_reads = {0, 2}
    with pytest.raises(OSError, match="could not be read"):
        drive(fp.filemap_read(file, 0, PAGE_SIZE))
    assert file.ra.ra_pages == 8
    fs.fail_reads = {2}
    assert len(drive(fp.filemap_read(file, 0, 4 * PAGE_SIZE))) == 2 * PAGE_SIZE  # what came before the error


def test_a_full_group_cuts_the_window() -> None:
    fs, file = open_file(256, io_pages=32, limit=8)
    fs.deferred = True
    fp.page_cache_sync_ra(file, 0, 32)
    assert fs.reads == [(0, 8)]
    assert file.mapping.nrpages == 8
