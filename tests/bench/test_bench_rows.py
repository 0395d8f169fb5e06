"""Every bench runs, in a tiny form, and gives a row that reads as the documentation says. No times are asserted."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console

from freepage_lab.bench import catalogue, child, command, report
from freepage_lab.bench.child import Outcome
from freepage_lab.bench.groups.hit import without_counters
from freepage_lab.bench.groups.lru import zipf
from freepage_lab.bench.measure import run
from freepage_lab.bench.row import Bench, CannotRun, Plan, Row, Sides, make_row
from freepage_lab.bench.two_list import TwoList
from freepage_lab.report.command import report as write_page
from freepage_runtime.errors import UserError

TINY = Plan(rounds=2, tiny=True)
ALL = [bench for group in catalogue.GROUPS for bench in catalogue.benches(group)]
KEYS = {"group", "name", "ours", "beside", "peer", "unit", "ratio", "floor", "ok"}


@contextmanager
def nothing(plan: Plan) -> Iterator[Sides]:
    yield Sides(lambda: 1.0, lambda: 1.0)


SAMPLE = Bench("hit", "a [row]", "a peer", "ns/read", 0.5, nothing)


@pytest.mark.parametrize("bench", ALL, ids=lambda bench: bench.title)
def test_every_bench_gives_a_row(bench: Bench) -> None:
    try:
        row = run(bench, TINY)
    except CannotRun as why:
        assert (
            "is not installed (pip install " in str(why)
            or "apt-get install fuse3" in str(why)
            or "FUSE is not" in str(why)
        )
        return
    said = json.loads(json.dumps(row.to_json(), allow_nan=False))
    assert said.keys() >= KEYS
    assert (row.group, row.name, row.peer, row.unit, row.floor) == (
        bench.group,
        bench.name,
        bench.peer,
        bench.unit,
        bench.floor,
    )
    assert row.rounds == TINY.rounds
    assert row.ratio > 0
    assert row.ok == (row.ratio >= row.floor)
    if bench.limit is not None:
        assert row.beside == bench.limit


def test_names_are_unique_within_their_group() -> None:
    titles = [bench.title for bench in ALL]
    assert len(titles) == len(set(titles))
    assert all(catalogue.find(bench.group, bench.name).title == bench.title for bench in ALL)


def test_ratio_is_always_beside_over_ours() -> None:
    row = make_row(SAMPLE, [4.0, 2.0, 3.0], [6.0, 6.0, 12.0])
    assert (row.ours, row.beside, row.ratio, row.ok) == (3.0, 6.0, 3.0, True)
    assert row.spread == pytest.approx(1.25 / 2 / 3)  # of the rounds' ratios 1.5, 3, 4


def test_a_machine_that_becomes_slower_half_way_changes_no_ratio() -> None:
    ours, beside = [2.0, 2.0, 3.0, 2.0, 3.0, 3.0, 3.0], [1.0, 1.0, 1.5, 1.0, 1.0, 1.5, 1.0]
    row = make_row(SAMPLE, ours, beside)
    assert (row.ours, row.beside, row.ratio) == (3.0, 1.0, 0.5)


def test_an_upper_bound_is_a_limit_over_ours() -> None:
    within = Bench("insert", "n", "p", "ns", 1, nothing, allowed=5)
    assert make_row(within, [50.0], [10.0]).ratio == 1.0
    bound = Bench("memory", "n", "p", "bytes", 1, nothing, limit=96)
    row = make_row(bound, [192.0], [])
    assert (row.ratio, row.beside, row.ok) == (0.5, 96, False)
    assert math.isfinite(make_row(bound, [0.0], []).ratio)


def test_sides_take_turns_and_each_goes_first() -> None:
    turns: list[str] = []

    def side(name: str) -> float:
        turns.append(name)
        return 1.0

    @contextmanager
    def opened(plan: Plan) -> Iterator[Sides]:
        yield Sides(lambda: side("ours"), lambda: side("beside"))

    seen: list[tuple[int, int]] = []
    run(Bench("hit", "n", "p", "ns", 1, opened), TINY, lambda done, of: seen.append((done, of)))
    assert turns == ["beside", "ours", "ours", "beside"]
    assert seen == [(0, 2), (1, 2), (2, 2)]


def test_the_command_writes_table_markdown_and_json(tmp_path: Path) -> None:
    out = io.StringIO()
    file = tmp_path / "bench.json"
    outcomes = command.bench(
        ["wire"], rounds=2, tiny=True, json_file=file, console=Console(file=out, width=120, color_system=None)
    )
    assert [outcome.row is not None for outcome in outcomes] == [True, True]
    assert "2 of 2 rows" in out.getvalue() or "rows reach" in out.getvalue()
    assert "encode + decode a READ reply of 1 MiB" in out.getvalue()
    said = json.loads(file.read_text())
    assert [row["group"] for row in said["rows"]] == ["wire", "wire"]
    assert said["not_counted"] == said["broken"] == []
    assert said["machine"]["processor"]
    write_page([file], tmp_path / "report.html", "bench")
    assert "encode + decode a READ reply of 1 MiB" in (tmp_path / "report.html").read_text()
    table = report.markdown(outcomes).splitlines()
    assert table[0].count("|") == table[2].count("|")
    assert table[-1].startswith("Measured on ")


def test_what_cannot_run_or_breaks_is_said_and_not_counted() -> None:
    row = make_row(SAMPLE, [2.0], [1.0])
    outcomes = [
        Outcome(SAMPLE, row=row),
        Outcome(SAMPLE, missing="cachetools is not installed"),
        Outcome(SAMPLE, broke="ValueError: no"),
    ]
    out = io.StringIO()
    report.print_report(Console(file=out, width=100, color_system=None), outcomes)
    assert "a [row]" in out.getvalue()
    assert "not counted: hit: a [row]: cachetools is not installed" in out.getvalue()
    assert "broken: hit: a [row]: ValueError: no" in out.getvalue()
    assert "1 of 1 rows" in out.getvalue()
    said = command.to_json(outcomes)
    assert said["rows"] == [row.to_json()]
    assert said["not_counted"] == [{"group": "hit", "name": "a [row]", "why": "cachetools is not installed"}]
    assert said["broken"] == [{"group": "hit", "name": "a [row]", "why": "ValueError: no"}]


def test_mistakes_are_told_before_anything_is_measured(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no group 'nonsense' of benches: choose among hit, "):
        command.bench(["nonsense"])
    with pytest.raises(UserError, match="3 rounds are too few"):
        command.bench(["hit"], rounds=3)
    with pytest.raises(UserError, match="cannot write"):
        command.bench(["hit"], json_file=tmp_path / "nowhere" / "x.json")


def test_a_bench_whose_process_dies_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = Bench("hit", "no such bench", "p", "ns", 1, nothing)
    outcome = child.measure(gone, TINY, lambda done, of: None)
    assert outcome.row is None
    assert outcome.broke


def test_the_counters_are_really_taken_out() -> None:
    class Counter:
        hits = 0

    with pytest.raises(AssertionError, match="counts nothing"):
        without_counters(zipf)  # type: ignore[arg-type]
    stripped = without_counters(_counting)  # type: ignore[arg-type]
    counter = Counter()
    assert stripped(counter, 1, 2) == _counting(counter, 1, 2) == 3  # type: ignore[arg-type, comparison-overlap]
    assert counter.hits == 1


def _counting(counter: object, pos: int, count: int) -> int:
    counter.hits += 1  # type: ignore[attr-defined]
    pos += count
    return pos


def test_the_two_list_core_gives_a_second_touch_its_due() -> None:
    cache = TwoList(4)

    def request(key: int) -> bool:
        return key in cache or cache.touch(key)

    assert [request(key) for key in (1, 2, 3, 4, 1, 1, 2)] == [False] * 4 + [True] * 3
    assert list(cache) == [1]
    assert cache.inactive == {2: True, 3: False, 4: False}
    assert not request(5)  # 2 is the oldest, and was touched once only
    assert list(cache.inactive) == [3, 4, 5]
    assert all(request(key) for key in (3, 3, 4, 4, 5))
    assert list(cache) == [1, 3, 4]
    assert not request(6)  # the inactive list is the shorter one: 1 comes back to its head, and 5 goes
    assert list(cache) == [3, 4]
    assert list(cache.inactive) == [1, 6]


@given(st.integers(1, 4), st.lists(st.integers(0, 5), max_size=100))
@example(3, [4, 0, 3, 3, 3, 0, 0, 2, 3, 3, 4])  # 3 leaves the inactive list twice before its first place is come to
def test_the_two_list_core_is_what_its_text_says(capacity: int, trace: list[int]) -> None:
    cache = TwoList(capacity)
    inactive: list[int] = []  # tail first
    active: list[int] = []
    referenced: set[int] = set()
    for key in trace:
        assert (key in cache or cache.touch(key)) == (key in active or key in inactive)
        if key in inactive and key in referenced:
            inactive.remove(key)
            referenced.remove(key)
            active.append(key)
        elif key in inactive:
            referenced.add(key)
        elif key not in active:
            if len(inactive) + len(active) == capacity:
                if len(inactive) < len(active):
                    inactive.append(active.pop(0))
                referenced.discard(inactive.pop(0))
            inactive.append(key)
        assert list(cache) == active
        assert cache.inactive == {key: key in referenced for key in inactive}


def test_the_trace_is_the_same_every_time_and_has_few_hot_keys() -> None:
    trace = zipf(5000, 500, 1.1, seed=1)
    assert trace == zipf(5000, 500, 1.1, seed=1)
    counts = sorted((trace.count(key) for key in set(trace)), reverse=True)
    assert sum(counts[:50]) > 0.6 * len(trace)


def test_row_survives_the_pipe() -> None:
    row = make_row(SAMPLE, [1.0, 2.0], [1.0, 1.0])
    assert Row(**json.loads(json.dumps(row.to_json()))) == row
