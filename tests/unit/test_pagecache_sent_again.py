"""Folios for replies: cut as a reader is sent them, and kept in the message that was sent last."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import freepage as fp
from freepage import PAGE_SIZE
from pagecache_toyfs import RunFs, ToyInode, drive, new_cache

PAGES = 40
SIZE = PAGES * PAGE_SIZE - 1000

positions = st.one_of(st.integers(0, SIZE + 100), st.integers(0, PAGES).map(lambda page: page * PAGE_SIZE))
lengths = st.one_of(st.integers(1, 3 * PAGE_SIZE), st.integers(1, 20).map(lambda pages: pages * PAGE_SIZE))
cuts = st.tuples(st.integers(0, PAGES), st.integers(1, 20))


def create(fs: RunFs) -> fp.AddressSpace:
    mapping = fs.create("f", SIZE)
    assert isinstance(mapping.host, ToyInode)
    mapping.host.data[:] = bytes(index * 7 % 251 for index in range(SIZE))
    return mapping


def folios_of(mapping: fp.AddressSpace) -> list[tuple[int, int]]:
    """The first page and the number of pages of each."""
    return sorted({(folio.index, folio.nr) for folio, _, _ in mapping.pages.folio_runs()})


@pytest.mark.parametrize(
    ("sent_at", "folios"),
    [
        (None, [(0, 16), (16, 16), (32, 8)]),
        ((0, 4), [(index, 4) for index in range(0, 40, 4)]),
        ((3, 10), [(0, 3), (3, 10), (13, 10), (23, 10), (33, 7)]),
        ((31, 20), [(0, 11), (11, 20), (31, 9)]),
    ],
)
def test_folios_begin_and_end_where_what_is_sent_does(
    sent_at: tuple[int, int] | None, folios: list[tuple[int, int]]
) -> None:
    fs = RunFs(new_cache(), ra_pages=64, io_pages=16)
    mapping = create(fs)
    file = fp.File(mapping)
    file.sent_at = sent_at
    fp.force_page_cache_readahead(file, 0, PAGES)
    assert folios_of(mapping) == folios
    assert fs.reads == [(0, PAGES)], "it is read in one piece all the same"


def test_no_folio_is_larger_than_folios_are() -> None:
    fs = RunFs(new_cache(), ra_pages=600, io_pages=600)
    mapping = fs.create("f", 600 * PAGE_SIZE)
    file = fp.File(mapping)
    file.sent_at = 0, 512
    fp.force_page_cache_readahead(file, 0, 600)
    assert folios_of(mapping) == [(0, 256), (256, 256), (512, 88)]


def test_a_folio_that_is_read_often_is_counted_and_marked_each_time() -> None:
    fs = RunFs(new_cache(), ra_pages=64, io_pages=16)
    mapping = fs.create("f", 16 * PAGE_SIZE)
    fp.force_page_cache_readahead(fp.File(mapping), 0, 16)
    fp.lru_add_drain(fs.cache.memcg)
    for times in range(1, 5):
        file = fp.File(mapping)
        folio = fp.read_folio_nowait(file, 0, 16 * PAGE_SIZE)
        assert folio is mapping.pages[0].folio
        assert (fs.cache.hits, file.ra.prev_pos) == (times * 16, 16 * PAGE_SIZE)
        fp.lru_add_drain(fs.cache.memcg)
        assert all(page.active == (times > 1) for page in mapping.pages.values())


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("read"), positions, lengths),
            st.tuples(st.just("folio"), st.integers(0, PAGES - 1), st.just(0)),
            st.tuples(st.sampled_from(["write", "drop"]), st.integers(0, PAGES - 1), st.integers(1, 5)),
            st.tuples(st.just("cut"), st.integers(1, SIZE), st.just(0)),
        ),
        max_size=25,
    ),
    cuts,
    st.integers(0, 16),
    st.sampled_from([None, 24]),
)
def test_contents_that_moved_are_the_same(
    steps: list[tuple[str, int, int]], sent_at: tuple[int, int], ra: int, limit: int | None
) -> None:
    fs = RunFs(new_cache(limit), ra_pages=ra, io_pages=16)
    mapping = create(fs)
    host, cache = mapping.host, fs.cache
    assert isinstance(host, ToyInode)
    file, expected = fp.File(mapping), bytearray(host.data)
    file.sent_at = sent_at
    for step, at, count in steps:
        if step == "write":
            if at * PAGE_SIZE >= len(expected):
                continue
            data = bytes((count,)) * min(PAGE_SIZE, len(expected) - at * PAGE_SIZE)
            drive(fp.generic_perform_write(fp.File(mapping), at * PAGE_SIZE, data))
            expected[at * PAGE_SIZE : at * PAGE_SIZE + len(data)] = data
        elif step == "drop":
            fp.invalidate_mapping_pages(mapping, at, at + count)
        elif step == "cut":
            del expected[at:]
            del host.data[at:]
            host.i_size = len(expected)
            drive(fp.truncate_pagecache(mapping, len(expected)))
        elif step == "folio":
            page = mapping.pages.get(at)
            if page is None or page.folio.data is None:
                continue
            at, count = page.folio.index * PAGE_SIZE, len(page.folio.data) - max(page.folio.data_at, 0)
            before, hits = cache.folio_slack_pages(), cache.hits
            folio = fp.read_folio_nowait(file, at, count)
            if folio is None:
                assert cache.hits == hits
                continue
            assert folio.data is not None and cache.hits == hits + -(-count // PAGE_SIZE)
            sent = bytes(folio.data)[folio.data_at :]
            assert sent == bytes(expected[at : at + count])
            folio.move_contents(b"another head" + sent, 12)
            assert cache.folio_slack_pages() == before
        else:
            assert drive(fp.filemap_read(file, at, count)) == bytes(expected[at : at + count])
        fp.check_cache(cache)
    assert drive(fp.filemap_read(file, 0, SIZE)) == bytes(expected)
