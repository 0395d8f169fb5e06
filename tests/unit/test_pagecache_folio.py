"""Folios, runs of pages and of requests, and the lists of page frames beside one object a page."""

from __future__ import annotations

from collections import OrderedDict

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import freepage as fp
from freepage import PAGE_SIZE, ObjectState, PageRun, RemovalPath, SlabRun, filemap, readahead
from freepage.folio import LOCKED, Folio
from freepage.mmzone import ACTIVE, INACTIVE, Lruvec
from freepage.slab import CACHED, IN_USE, ORPHANED
from pagecache_toyfs import Credential, FillRequest, RunFs, ToyFs, drive, new_cache


def numbered(fs: ToyFs, pages: int) -> fp.AddressSpace:
    """A file whose every page begins with its number."""
    mapping = fs.create("f", pages * PAGE_SIZE)
    data = mapping.host.data  # type: ignore[attr-defined]
    for index in range(pages):
        data[index * PAGE_SIZE : index * PAGE_SIZE + 2] = index.to_bytes(2, "big")
    return mapping


def expected(mapping: fp.AddressSpace, pos: int, count: int) -> bytes:
    return bytes(mapping.host.data[pos : pos + count])  # type: ignore[attr-defined]


def agrees(fs: ToyFs) -> bool:
    return fs.cache.ledger.audit([fs.cred], fs.cache.mappings).agrees


# -- storage ---------------------------------------------------------------------------------------------------


def test_a_read_over_several_folios_is_their_bytes() -> None:
    fs = RunFs(new_cache(), io_pages=4)
    mapping = numbered(fs, 16)
    file = fp.File(mapping)
    fp.force_page_cache_readahead(file, 0, 16)
    assert len({id(mapping.pages.load(index)) for index in range(16)}) == 4
    for pos, count in ((0, 16 * PAGE_SIZE), (5, 10), (4 * PAGE_SIZE - 3, 9), (PAGE_SIZE, 7 * PAGE_SIZE), (100, 50000)):
        assert fp.read_nowait(file, pos, count) == expected(mapping, pos, count)
    fp.check_cache(fs.cache)


@pytest.mark.parametrize("order", [(0, 3, 8), (3, 8, 0), (8, 0, 3)])
def test_replies_for_the_parts_of_a_folio_come_in_any_order(order: tuple[int, ...]) -> None:
    fs = RunFs(new_cache(), io_pages=16)
    runs: list[PageRun] = []
    fs.a_ops = fp.AddressSpaceOperations(readahead=lambda rac: runs.extend(rac.take_runs()))
    mapping = numbered(fs, 16)
    file = fp.File(mapping)
    fp.force_page_cache_readahead(file, 0, 16)
    (run,) = runs
    ends = {0: 3, 3: 8, 8: 16}
    for first in order:
        part = run.part(first, ends[first])
        part.fill(bytes(fs.head) + expected(mapping, first * PAGE_SIZE, part.nr * PAGE_SIZE), fs.head)
        part.mark_uptodate_and_unlock()
    assert fs.cache.folio_slack_pages() == 0
    fp.invalidate_mapping_pages(mapping, order[0] + 1, order[0] + 2)  # of the part whose reply is the folio's buffer
    assert fs.cache.folio_slack_pages() == 1
    fp.force_page_cache_readahead(file, 0, 16)
    runs[1].fill(expected(mapping, runs[1].index * PAGE_SIZE, PAGE_SIZE))
    runs[1].mark_uptodate_and_unlock()
    for pos, count in (
        (0, 16 * PAGE_SIZE),
        (3 * PAGE_SIZE - 1, 2),
        (4 * PAGE_SIZE, 10),
        (9 * PAGE_SIZE, 2 * PAGE_SIZE),
    ):
        assert fp.read_nowait(file, pos, count) == expected(mapping, pos, count)


def test_a_written_page_has_contents_of_its_own_and_its_neighbours_keep_the_reply() -> None:
    fs = RunFs(new_cache(), io_pages=8)
    mapping = numbered(fs, 8)
    file = fp.File(mapping)
    fp.force_page_cache_readahead(file, 0, 8)
    before = fp.read_nowait(file, 0, 8 * PAGE_SIZE)
    assert before is not None
    drive(fp.generic_perform_write(file, 3 * PAGE_SIZE + 10, b"new"))
    after = fp.read_nowait(file, 0, 8 * PAGE_SIZE)
    assert after == before[: 3 * PAGE_SIZE + 10] + b"new" + before[3 * PAGE_SIZE + 13 :]
    assert expected(mapping, 0, 8 * PAGE_SIZE) == before  # the reply's buffer did not change


def test_what_a_reply_does_not_bring_is_zero() -> None:
    fs = RunFs(new_cache(), io_pages=4)
    fs.short = PAGE_SIZE + 100
    mapping = numbered(fs, 8)
    mapping.host.data[:] = b"\1" * (8 * PAGE_SIZE)  # type: ignore[attr-defined]
    file = fp.File(mapping)
    fp.force_page_cache_readahead(file, 0, 8)
    read = fp.read_nowait(file, 0, 8 * PAGE_SIZE)
    assert read == b"\1" * (7 * PAGE_SIZE - 100) + bytes(PAGE_SIZE + 100)


def test_pages_written_one_after_the_other_share_a_folio() -> None:
    fs = ToyFs(new_cache())
    mapping = fs.create("f", 0)
    drive(fp.generic_perform_write(fp.File(mapping), 0, b"x" * (20 * PAGE_SIZE)))
    assert [mapping.pages[index].folio.nr for index in (0, 15, 16, 19)] == [16, 16, 4, 4]
    fp.check_cache(fs.cache)


def test_a_view_tells_the_truth_after_another_page_took_its_place() -> None:
    fs = RunFs(new_cache(), io_pages=4)
    mapping = numbered(fs, 4)
    file = fp.File(mapping)
    drive(fp.filemap_read(file, 0, 4 * PAGE_SIZE))
    old = mapping.pages[2]
    assert old == mapping.pages[2] and hash(old) == hash(mapping.pages[2])
    drive(fp.invalidate_inode_pages2_range(mapping, 2, 3))
    drive(fp.filemap_read(file, 0, 4 * PAGE_SIZE))
    new = mapping.pages[2]
    assert (new != old and new.uptodate and old.freed) or old.mapping is None
    assert old.index == new.index == 2
    fp.check_cache(fs.cache)


@pytest.mark.parametrize("head", [0, 118])
def test_a_folio_of_which_less_than_half_is_needed_is_copied_down_at_reclaim(head: int) -> None:
    fs = RunFs(new_cache(64), io_pages=16)
    fs.head = head
    mapping = numbered(fs, 32)
    file = fp.File(mapping)
    fp.force_page_cache_readahead(file, 0, 16)
    fp.lru_add_drain(fs.cache.memcg)
    folio = mapping.pages[15].folio
    whole = folio.data
    fp.invalidate_mapping_pages(mapping, 0, 7)
    assert folio.data is whole and fs.cache.folio_slack_pages() == 7
    for index in (9, 11, 13):
        assert mapping.pages[index].trylock()
    fs.cache.memcg.shrink(4)
    for index in (9, 11, 13):
        mapping.pages[index].unlock()
    assert folio.data is not whole and fs.cache.folio_slack_pages() == 0
    for index in mapping.pages:
        data = mapping.pages[index].data
        assert data is not None and bytes(data) == expected(mapping, index * PAGE_SIZE, PAGE_SIZE)
    fp.check_cache(fs.cache)


# -- requests as runs ------------------------------------------------------------------------------------------


def test_a_reply_of_which_every_page_was_written_anew_is_let_go() -> None:
    fs = RunFs(new_cache(), io_pages=8)
    mapping = numbered(fs, 8)
    file = fp.File(mapping)
    fp.force_page_cache_readahead(file, 0, 8)
    folio = mapping.pages[0].folio
    for index in range(8):
        assert folio.data is not None and fs.cache.folio_slack_pages() == index
        drive(fp.generic_perform_write(file, index * PAGE_SIZE + 5, b"new"))
    assert folio.data is None and fs.cache.folio_slack_pages() == 0
    whole = bytearray(expected(mapping, 0, 8 * PAGE_SIZE))
    for index in range(8):
        whole[index * PAGE_SIZE + 5 : index * PAGE_SIZE + 8] = b"new"
    assert fp.read_nowait(file, 0, 8 * PAGE_SIZE) == bytes(whole)


def test_what_was_written_to_pages_that_reclaim_took_is_let_go() -> None:
    fs = ToyFs(new_cache(64))
    mapping = fs.create("f", 0)
    drive(fp.generic_perform_write(fp.File(mapping), 0, b"x" * (16 * PAGE_SIZE)))
    drive(fs.bdi.wb.writeback_all())
    fp.lru_add_drain(fs.cache.memcg)
    folio = mapping.pages[0].folio
    fp.invalidate_mapping_pages(mapping, 0, 3)
    assert fs.cache.folio_slack_pages() == 3
    assert mapping.pages[7].trylock()
    fs.cache.memcg.shrink(13)
    mapping.pages[7].unlock()
    assert list(mapping.pages) == [7] and folio.buffers is not None and list(folio.buffers) == [7]
    assert fs.cache.folio_slack_pages() == 0 and mapping.pages[7].data == b"x" * PAGE_SIZE


def test_the_objects_of_a_run_are_counted_and_freed_one_by_one() -> None:
    ledger = fp.Ledger(lambda: 0.0)
    cred = Credential(ledger)
    run = SlabRun(ledger, FillRequest, 4, cred, IN_USE, "read")
    assert ledger.live("nfs_page", IN_USE) == 4 and cred.references == (5, 0, 0)
    run.move(0, 3, IN_USE, CACHED)
    assert ledger.live("nfs_page", CACHED) == 3 and cred.references == (2, 3, 0)
    run.put(1, CACHED)
    assert ledger.live("nfs_page", CACHED) == 2 and cred.references == (2, 2, 0)
    with pytest.raises(fp.RuleViolation, match="double_free"):
        run.put(1, CACHED)
    obj = run.extract(0)
    assert obj.state is CACHED and list(obj.held) == [cred] and cred.references == (2, 2, 0)
    assert ledger.live("nfs_page") == 3 and obj.site == "read"
    obj.put(CACHED)
    run.put(2, CACHED)
    run.put(3, IN_USE)
    assert ledger.live("nfs_page") == 0 and not ledger.caches["nfs_page"].runs and cred.references == (1, 0, 0)
    account = ledger.caches["nfs_page"].uses["fill"]
    assert (account.allocs, account.frees) == (4, 4)


def test_a_run_s_objects_are_as_old_as_the_run() -> None:
    now_s = 0.0
    ledger = fp.Ledger(lambda: now_s)
    born = []
    for now_s in (5.0, 5.0004, 7.5):  # noqa: B007 (the ledger's clock)
        run = SlabRun(ledger, FillRequest, 2, None, CACHED, "read")
        born.append(run.extract(0).born_s)
    assert born == [5.0, 5.0, 7.5], "a millisecond is one moment"


def test_a_skipped_hook_orphans_single_objects_of_a_run() -> None:
    fs = RunFs(new_cache(), io_pages=8)
    mapping = numbered(fs, 8)
    fp.force_page_cache_readahead(fp.File(mapping), 0, 8)
    assert agrees(fs) and not fs.cache.ledger.caches["nfs_page"].objects
    fs.cache.policy.parse("truncate=skip:every=3")
    drive(fp.truncate_inode_pages_range(mapping, 0))
    ledger = fs.cache.ledger
    assert ledger.live("nfs_page", ORPHANED) == 2 == ledger.pinned()["rpc_cred"]
    report = ledger.audit([fs.cred], fs.cache.mappings)
    assert report.agrees and [(group.pages, group.count) for group in report.groups] == [([(2, 3), (5, 6)], 2)]


def test_the_audit_finds_a_run_s_objects_that_no_page_owns() -> None:
    fs = RunFs(new_cache(), io_pages=4)
    mapping = numbered(fs, 4)
    fp.force_page_cache_readahead(fp.File(mapping), 0, 4)
    folio = mapping.pages[0].folio
    lost, folio.fill_run = folio.fill_run, None
    report = fs.cache.ledger.audit([fs.cred], fs.cache.mappings)
    assert not report.agrees and lost is not None and lost.live == 0
    assert fs.cache.ledger.live("nfs_page") == 4


def test_a_run_that_begins_inside_a_folio_gives_objects_of_their_own() -> None:
    cache = new_cache()
    run = PageRun(Folio(cache, 0, 4, LOCKED), 2, 4)
    run.own(SlabRun(cache.ledger, FillRequest, 2, None, IN_USE, "read"))
    assert [page.owns for page in PageRun(run.folio, 0, 4).pages()] == [False, False, True, True]
    assert cache.ledger.live("nfs_page", ObjectState.CACHED) == 2
    for page in run.pages():
        assert page.release() and not page.release()


# -- the lists beside one object a page ------------------------------------------------------------------------


class ListMachine(RuleBasedStateMachine):
    """Lruvec beside two ordered dictionaries with one key a page: the same pages in the same order after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = new_cache()
        self.lruvec = Lruvec()
        self.model: list[OrderedDict[fp.Page, None]] = [OrderedDict(), OrderedDict()]
        self.off: list[fp.Page] = []
        self.next_index = 0

    def pfn(self, page: fp.Page) -> int:
        return page.folio.pfn + page.off

    @rule(nr=st.integers(1, 20))
    def add_run(self, nr: int) -> None:
        folio = Folio(self.cache, self.next_index, nr)
        self.next_index += nr
        folio.live = nr
        self.lruvec.alloc_frames(folio)
        self.lruvec.add_run(folio.pfn, nr, INACTIVE)
        self.model[INACTIVE].update(dict.fromkeys(fp.Page(folio, off) for off in range(nr)))

    @precondition(lambda self: self.off)
    @rule(which=st.sampled_from((INACTIVE, ACTIVE)), tail=st.booleans())
    def add(self, which: int, tail: bool) -> None:
        page = self.off.pop()
        self.model[which][page] = None
        if tail:
            self.lruvec.add_tail(self.pfn(page), which)
            self.model[which].move_to_end(page, last=False)
        else:
            self.lruvec.add(self.pfn(page), which)

    @precondition(lambda self: any(self.model))
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        which = INACTIVE if self.model[INACTIVE] else ACTIVE
        page = data.draw(st.sampled_from(list(self.model[which])))
        self.lruvec.delete(self.pfn(page), which)
        del self.model[which][page]
        self.off.append(page)

    @rule(n=st.integers(0, 40), which=st.sampled_from((INACTIVE, ACTIVE)))
    def cut_tail(self, n: int, which: int) -> None:
        expected = [self.model[which].popitem(last=False)[0] for _ in range(min(n, len(self.model[which])))]
        assert [self.lruvec.page(pfn) for pfn in self.lruvec.cut_tail(n, which)] == expected
        self.off.extend(expected)

    @rule()
    def forget(self) -> None:
        """Pages off the lists are freed; the frames of folios of which none is left are used again."""
        for page in self.off:
            page.folio.live -= 1
            if not page.folio.live:
                self.lruvec.free_frames(page.folio)
        self.off = []

    @invariant()
    def the_lists_are_the_model_s(self) -> None:
        for which, pages in ((INACTIVE, self.lruvec.inactive), (ACTIVE, self.lruvec.active)):
            assert list(pages) == list(self.model[which]) and len(pages) == len(self.model[which])


TestListMachine = ListMachine.TestCase
TestListMachine.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)


def test_charging_a_run_is_charging_its_pages() -> None:
    for limit in (None, 40, 64, 100, 130, 200):
        for stock in (0, 5, 63):
            runs, single = fp.MemCgroup(limit), fp.MemCgroup(limit)
            for memcg in (runs, single):
                memcg.usage_pages = memcg.stock = stock
            got = 0
            while got < 90 and runs.margin() + runs.stock > 0:
                got += runs.charge_run(90 - got)
            for _ in range(got):
                single.charge(noretry=True)
            assert (runs.usage_pages, runs.stock) == (single.usage_pages, single.stock), (limit, stock)


@pytest.mark.parametrize(("limit", "machine"), [(48, None), (256, None), (None, 160), (180, 220)])
def test_readahead_in_runs_and_page_by_page_make_the_same_lists(
    limit: int | None, machine: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_runs = filemap.add_run_to_page_cache_lru
    lists = []
    for most, kind in ((1, ToyFs), (256, RunFs)):
        monkeypatch.setattr(
            readahead,
            "add_run_to_page_cache_lru",
            lambda mapping, index, nr, most=most: in_runs(mapping, index, min(nr, most)),
        )
        fs = kind(new_cache(limit), io_pages=16)
        if machine is not None:
            fp.Zone(machine).attach(fs.cache.memcg)
        mapping = numbered(fs, 300)
        file = fp.File(mapping)
        for pos in [*range(0, 300, 7), *range(40, 90), *range(0, 300, 3), *range(299, 0, -5)]:
            drive(fp.filemap_read(file, pos * PAGE_SIZE, 2 * PAGE_SIZE))
        memcg = fs.cache.memcg
        fp.check_cache(fs.cache)
        assert agrees(fs) and fs.cache.removed[RemovalPath.RECLAIM] > 0
        lists.append(
            (
                [page.index for page in memcg.lruvec.inactive],
                [page.index for page in memcg.lruvec.active],
                memcg.stat.as_dict(),
                mapping.shadows,
            )
        )
    assert lists[0] == lists[1]


def test_a_batch_is_a_run_only_if_its_pages_are_neighbours() -> None:
    fs = ToyFs(new_cache())
    f, g = fs.create("f", 0), fs.create("g", 0)
    for mapping, index in ((f, 0), (g, 0), (f, 1)):
        drive(fp.generic_perform_write(fp.File(mapping), index * PAGE_SIZE, b"x"))
    memcg, last = fs.cache.memcg, f.pages[1]
    assert memcg.batches.forget(last.folio.pfn + last.off), "as if it were freed"
    fp.lru_add_drain(memcg)
    assert list(memcg.lruvec.inactive) == [f.pages[0], g.pages[0]]
    memcg.batches.lru_add.append(last.folio.pfn + last.off)
    fp.lru_add_drain(memcg)
    assert list(memcg.lruvec.inactive) == [f.pages[0], g.pages[0], last]
    fp.check_cache(fs.cache)
