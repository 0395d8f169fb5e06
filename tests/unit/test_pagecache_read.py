"""Reading through the cache by each of its three doors: the same bytes, the same counts, the same marks."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

import freepage as fp
from freepage import PAGE_SIZE
from pagecache_toyfs import ToyFs, ToyInode, drive, new_cache

PAGES = 40
SIZE = PAGES * PAGE_SIZE - 1000

positions = st.one_of(st.integers(0, SIZE + 100), st.integers(0, PAGES).map(lambda page: page * PAGE_SIZE))
lengths = st.one_of(st.integers(1, 3 * PAGE_SIZE), st.integers(1, 20).map(lambda pages: pages * PAGE_SIZE))
reads = st.tuples(st.just("read"), positions, lengths)
others = st.tuples(st.sampled_from(["write", "drop"]), st.integers(0, PAGES - 1), st.integers(1, 5))


def buffers(file: fp.File, pos: int, count: int) -> bytes | None:
    pieces = fp.read_buffers_nowait(file, pos, count)
    return None if pieces is None else b"".join(pieces)


def waits(file: fp.File, pos: int, count: int) -> bytes | None:
    data: bytes = drive(fp.filemap_read(file, pos, count))
    return data


def spanned(pos: int, count: int) -> range:
    end = min(pos + count, SIZE)
    return range(pos // PAGE_SIZE, (end - 1) // PAGE_SIZE + 1) if pos < end else range(0)


@given(
    st.lists(st.one_of(reads, reads, others), max_size=25),
    st.sampled_from([fp.read_nowait, buffers]),
    st.integers(0, 8),
)
def test_each_page_of_a_read_is_a_hit_or_a_miss_once(
    steps: list[tuple[str, int, int]], nowait: Callable[[fp.File, int, int], bytes | None], ra_pages: int
) -> None:
    fs = ToyFs(new_cache(), ra_pages=ra_pages)
    mapping = fs.create("f", SIZE)
    host, cache = mapping.host, fs.cache
    assert isinstance(host, ToyInode)
    host.data[:] = bytes(index * 7 % 251 for index in range(SIZE))
    file, expected = fp.File(mapping), bytearray(host.data)
    for step, at, count in steps:
        if step == "write":
            data = bytes((count,)) * min(PAGE_SIZE, SIZE - at * PAGE_SIZE)
            drive(fp.generic_perform_write(fp.File(mapping), at * PAGE_SIZE, data))
            expected[at * PAGE_SIZE : at * PAGE_SIZE + len(data)] = data
        elif step == "drop":
            fp.invalidate_mapping_pages(mapping, at, at + count)
        else:
            resident = [page is not None and page.uptodate for page in map(mapping.pages.get, spanned(at, count))]
            before = (cache.hits, cache.misses)
            data_now = nowait(file, at, count)
            if data_now is None:
                assert (cache.hits, cache.misses) == before, "whoever is told to wait is counted when it waits"
                data_now = waits(file, at, count)
            assert data_now == bytes(expected[at : at + count])
            assert cache.hits - before[0] == sum(resident)
            assert cache.misses - before[1] == len(resident) - sum(resident)


@given(st.lists(st.tuples(positions, lengths), min_size=1, max_size=12))
def test_the_three_doors_leave_the_same_marks(steps: list[tuple[int, int]]) -> None:
    doors: list[Callable[[fp.File, int, int], bytes | None]] = [fp.read_nowait, buffers, waits]
    left = []
    for door in doors:
        fs = ToyFs(new_cache(), ra_pages=0)
        mapping = fs.create("f", SIZE)
        for index in range(PAGES):  # pages in folios of their own, and pages that were written one after the other
            if index % 3:
                drive(fp.generic_perform_write(fp.File(mapping), index * PAGE_SIZE, bytes(PAGE_SIZE)))
            else:
                waits(fp.File(mapping), index * PAGE_SIZE, 1)
        host = mapping.host
        assert isinstance(host, ToyInode)
        host.i_size = SIZE
        file = fp.File(mapping)
        for pos, count in steps:
            assert door(file, pos, count) is not None
        fp.lru_add_drain(fs.cache.memcg)
        left.append((file.ra.prev_pos, [(page.referenced, page.active) for page in mapping.pages.values()]))
    assert left[0] == left[1] == left[2]
