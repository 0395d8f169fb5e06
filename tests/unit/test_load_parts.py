"""The parts of `freepage load` by themselves: profiles, percentiles, contents, schedules, thresholds, the result."""

from __future__ import annotations

import asyncio
import csv
import dataclasses
import io
import json
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from freepage_lab.load.content import VERSIONS, content, describe, identity, origin
from freepage_lab.load.files import Corrupt, LoadFile, WorkingSet
from freepage_lab.load.generator import Plan, Schedule
from freepage_lab.load.latency import EXACT, MAX_US, Latencies, bucket, middle_us
from freepage_lab.load.meter import Growth, Meter
from freepage_lab.load.profile import (
    FILE_VERBS,
    FileSet,
    Profile,
    Size,
    load_profile,
    parse_profile,
    shipped,
)
from freepage_lab.load.program import VERBS
from freepage_lab.load.result import CALLS, Result, examples, knows, of_latencies
from freepage_lab.load.tally import Tally
from freepage_lab.load.targets import Target, base_like, choose_bases, export_at, parse_discover
from freepage_lab.load.thresholds import parse_threshold
from freepage_lab.load.view import LiveView, Look, PlainView, milliseconds, print_result
from freepage_runtime.control_client import ControlError, DaemonInfo, Stats
from freepage_runtime.errors import UserError
from freepage_runtime.settings import parse_duration

NAMES = (
    "stream", "random", "build", "maildir", "logs", "database", "checkout", "dirlist", "shared", "pressure",
)  # fmt: skip

SMALL = """
about = "a small one"
[files.a]
count = 3
[[operation]]
name = "look"
steps = [{ do = "stat", files = "a" }]
"""


# --- profiles ---------------------------------------------------------------------------------------------------------


def test_the_shipped_profiles_are_the_promised_ones() -> None:
    assert set(shipped()) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_profile_can_be_read_and_says_what_it_is(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    assert profile.about.endswith(".")
    assert profile.seed is None, "each run draws its own"
    used = {step.files for operation in profile.mix for step in operation.steps}
    assert used == set(profile.files), "a set that no step uses"


def test_every_verb_is_described_and_can_be_done_and_some_profile_does_it() -> None:
    assert FILE_VERBS.keys() == VERBS.keys()
    done = {step.do for name in NAMES for operation in load_profile(name).mix for step in operation.steps}
    assert done == FILE_VERBS.keys() - {"truncate"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "there is no [[operation]]"),
        ("about = 3", "about must be text, not 3"),
        ("abuot = 'x'", "there is no [[operation]]"),
        (SMALL.replace("about", "abuot"), "abuot: no such setting"),
        ("workers = 0" + SMALL, "workers must be a whole number of at least 1 and at most 1024"),
        ("workers = true" + SMALL, "workers must be a whole number of at least 1, not True"),
        ("rate = -1" + SMALL, "rate must be a number of at least 0"),
        ("duration = '3 weeks'" + SMALL, "not a duration: '3 weeks'"),
        ("arrivals = 'sometimes'" + SMALL, "arrivals must be one of random, constant, not 'sometimes'"),
        (SMALL.replace("count = 3", "count = 'many'"), "[files.a] count must be a whole number of at least 1"),
        (SMALL.replace("count = 3", "size = '9KiB..1KiB'"), "[files.a] size: '9KiB..1KiB' ends before it begins"),
        (SMALL.replace("count = 3", "size = '9 parsecs'"), "[files.a] size: not a size"),
        (SMALL.replace("count = 3", "size = 0"), "[files.a] size must be above 0"),
        (SMALL.replace("count = 3", "colour = 'red'"), "[files.a] colour: no such setting"),
        (SMALL.replace("files.a", "files.A"), "a name has small letters"),
        (SMALL.replace('"stat"', '"sdat"'), "operation look: step 1: do must be one of read, pread"),
        (SMALL.replace('files = "a"', 'files = "b"'), "operation look: step 1: there is no [files.b]"),
        (SMALL.replace(', files = "a"', ""), "operation look: step 1: files is missing"),
        (SMALL.replace('"a" }', '"a", times = "5..2" }'), "times must be a number or a range"),
        (SMALL.replace('"stat"', '"pwrite"').replace('"a" }', '"a", block = 100 }'), "a multiple of 4 KiB"),
        (SMALL.replace("count", "shared = true\ncount").replace('"stat"', '"write"'), "files that are not shared"),
        (SMALL + SMALL[SMALL.index("[[") :], "two operations have the same name"),
        ("a = [", "at end of document"),
    ],
)
def test_what_is_wrong_with_a_profile_is_said_in_a_line_that_names_the_place(text: str, problem: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_profile(text, "x", "x.toml")
    assert str(caught.value).startswith("x.toml: ")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_profile_that_is_not_there() -> None:
    with pytest.raises(UserError, match="there is no profile 'biuld': choose build, checkout"):
        load_profile("biuld")
    with pytest.raises(UserError, match=r"cannot read no/such\.toml: No such file"):
        load_profile("no/such.toml")


@pytest.mark.parametrize(("text", "seconds"), [("250ms", 0.25), ("30s", 30), ("5m", 300), ("1.5h", 5400), (7, 7)])
def test_durations(text: str | int, seconds: float) -> None:
    assert parse_duration(text) == seconds


@given(st.integers(1, 1 << 20), st.integers(0, 1 << 20), st.integers())
def test_sizes_stay_within_their_bounds(least: int, more: int, seed: int) -> None:
    size = Size(least, least + more)
    assert least <= size.draw(random.Random(seed)) <= least + more
    assert least <= size.mean <= least + more


# --- latencies --------------------------------------------------------------------------------------------------------


@given(st.integers(0, MAX_US))
def test_a_bucket_is_as_precise_as_promised(us: int) -> None:
    middle = middle_us(bucket(us))
    assert abs(middle - us) <= (0 if us < EXACT else us / 62)
    assert bucket(us + 1) - bucket(us) in (0, 1)


def test_there_are_few_buckets() -> None:
    assert bucket(MAX_US) < 1200


@given(st.lists(st.floats(0, 100), min_size=1, max_size=200), st.floats(1, 100))
def test_percentiles_are_those_of_the_sorted_values(values: list[float], percent: float) -> None:
    latencies = Latencies()
    for value in values:
        latencies.record(value)
    rank = max(-(-len(values) * percent // 100), 1)
    exact = sorted(values)[int(rank) - 1]
    assert abs(latencies.percentile_s(percent) - exact) <= exact / 60 + 2e-6
    assert latencies.max_s == max(values)
    assert latencies.percentile_s(100) <= latencies.max_s


def test_latencies_of_two_processes_add_up() -> None:
    one, other = Latencies(), Latencies()
    for number in range(100):
        (one if number % 3 else other).record(number / 1000)
    one.add(Latencies.from_json(json.loads(json.dumps(other.to_json()))))
    assert one.count == 100
    assert one.sum_s == pytest.approx(4.95)
    assert one.max_s == 0.099
    assert one.percentile_s(50) == pytest.approx(0.0495, rel=0.03)
    assert one.below((0.0095, 0.0495, 1.0)) == [10, 50, 100]


def test_without_any_there_are_no_figures() -> None:
    assert set(of_latencies(Latencies()).values()) == {0, None}


# --- contents ---------------------------------------------------------------------------------------------------------


@given(st.integers(0, (1 << 40) - 1), st.integers(0, VERSIONS - 1), st.integers(0, 1 << 40), st.integers(16, 4096))
def test_a_block_tells_where_it_is_from(file: int, version: int, pos: int, count: int) -> None:
    count = min(count, 4096 - pos % 4096)
    if count >= 16:
        assert origin(content(file, version, pos, count), pos) == (file, version)


def test_what_a_wrong_block_is_said_to_be() -> None:
    mine, other = identity("a"), identity("b")
    assert describe(content(mine, 3, 4096, 4096), 4096, mine) == "version 3"
    assert describe(content(other, 3, 4096, 4096), 4096, mine) == "another file's data"
    assert describe(bytes(4096), 4096, mine) == "zeroes"
    torn = content(mine, 3, 4096, 2048) + content(mine, 4, 6144, 2048)
    assert describe(torn, 4096, mine) == "a mixture"


def test_a_file_knows_what_must_be_in_each_block() -> None:
    file = LoadFile("/f", 3 * 4096 + 100)
    first = file.rewritten()
    data = bytearray(content(file.identity, first, 0, file.size))
    file.check(bytes(data), 0, file.size)
    second = file.changed(4096, 4096)
    with pytest.raises(Corrupt, match=f"version {first} at 4096, not version {second}"):
        file.check(bytes(data), 0, 1 << 20)
    data[4096:8192] = content(file.identity, second, 4096, 4096)
    file.check(bytes(data), 0, 1 << 20)
    file.check(bytes(data[5000:9000]), 5000, 4000)
    with pytest.raises(Corrupt, match="12388 bytes at 0, not 12287"):
        file.check(bytes(data), 0, 12287)
    with pytest.raises(Corrupt, match="12287 bytes at 0, not 12388"):
        file.check(bytes(data[:12287]), 0, 1 << 20)
    data[0] ^= 1
    with pytest.raises(Corrupt, match="a mixture at 0"):
        file.check(bytes(data), 0, 1 << 20)


def test_of_a_shared_file_any_version_is_right_but_no_other_file_and_no_hole() -> None:
    file = LoadFile("/f", 8192, shared=True)
    file.check(content(file.identity, 7, 0, 4096) + content(file.identity, 9, 4096, 4096), 0, 8192)
    for wrong in (bytes(4096), content(identity("g"), 7, 0, 4096)):
        with pytest.raises(Corrupt):
            file.check(wrong, 0, 4096)


def test_a_working_set_measured_by_memory_is_shared_out_among_the_workers() -> None:
    files = FileSet("cold", size=Size(1 << 20, 1 << 20), memory_percent=150, at_most=64 << 20)
    counts = [
        WorkingSet(files, "/r", seed="s", memory_bytes=memory, workers=2).count
        for memory in (16 << 20, 256 << 20, None)
    ]
    assert counts == [12, 32, 32]


def test_the_hot_files_are_a_fifth_and_get_most_of_the_picks() -> None:
    files = WorkingSet(FileSet("f", count=10), "/r", seed="s")
    for file in files.files:
        file.present = True
    chance = random.Random(1)
    picked = Counter(id(files.pick("hot", chance)) for _ in range(2000))
    hot = sum(picked[id(file)] for file in files.files[:2])
    assert 0.8 < hot / 2000 < 0.88


# --- when operations begin --------------------------------------------------------------------------------------------


def test_an_open_loop_is_late_and_says_how_much_it_owes() -> None:
    now = 100.0
    profile = parse_profile("rate = 10\narrivals = 'constant'" + SMALL, "x", "x")
    schedule = Schedule(profile, Plan(profile, 1, "d"), lambda: now)
    schedule.begin()
    assert [schedule.take() for _ in range(3)] == pytest.approx([100.0, 100.1, 100.2])
    now = 101.25
    assert schedule.late_s == pytest.approx(0.95)
    assert schedule.owed() == 10


def test_random_arrivals_have_the_rate_and_processes_share_it_out() -> None:
    profile = parse_profile("rate = 100" + SMALL, "x", "x")
    dues = []
    for index in range(2):
        schedule = Schedule(profile, Plan(profile, 1, "d", index, 2), lambda: 0.0)
        schedule.begin()
        while (due := schedule.take()) is not None and due < 50:
            dues.append(due)
    assert len(dues) == pytest.approx(5000, rel=0.05)


def test_a_count_is_shared_out_to_the_last_operation() -> None:
    profile = parse_profile("operations = 10" + SMALL, "x", "x")
    assert profile.duration_s is None
    taken = []
    for index in range(3):
        schedule = Schedule(profile, Plan(profile, 1, "d", index, 3), lambda: 0.0)
        count = 0
        while schedule.take() is not None:
            count += 1
        taken.append(count)
    assert taken == [4, 3, 3]


# --- thresholds and results -------------------------------------------------------------------------------------------


def small() -> Profile:
    return parse_profile(SMALL, "small", "x")


def result() -> Result:
    tally = Tally()
    for ms in range(1, 101):
        tally.operation("look").record(ms / 1000)
        tally.call("stat").record(ms / 1000)
    tally.fail("look", "ENOSPC", "c1: /mnt/f: No space left on device")
    tally.read_bytes = 5 << 20
    growth = Growth(hits=3, misses=1)
    growth.counts["rpcs"].update({"READ": 30, "GETATTR": 70})
    whole = growth.copy()
    whole.counts["orphaned"]["nfs_page"] = 4
    whole.counts["skipped_owned"]["reclaim"] = 4
    return Result(small(), 7, ["c1"], "d", 10.0, tally, growth, whole)


@pytest.mark.parametrize(
    ("text", "crossed"),
    [
        ("p99_ms>50", True), ("p99_ms > 150", False), ("p50_ms<=51", True), ("orphans>0", True), ("errors>0", True),
        ("errors>1", False), ("corrupt>0", False), ("look.p50_ms>45.5", True), ("call.stat.max_ms>=100", True),
        ("call.open.p99_ms>0", False), ("ops_per_s<11", True), ("hit_percent<80%", True), ("rpc.READ==30", True),
        ("rpc.WRITE>0", False), ("orphans.reclaim>3", True), ("orphans.drop>0", False), ("error.ENOSPC=1", True),
        ("not_started>0", False), ("read_mib_per_s!=0.5", False),
    ],
)  # fmt: skip
def test_thresholds(text: str, crossed: bool) -> None:
    profile = small()
    threshold = parse_threshold(text, lambda name: knows(profile, name), examples(profile))
    assert threshold.crossed(result().figures()) is crossed


@pytest.mark.parametrize("text", ["", "p99_ms", "p99_ms>", "p99_ms>fast", ">5", "p99_ms>5 and more", "a>1", "look.p>1"])
def test_a_bad_threshold_is_one_line(text: str) -> None:
    profile = small()
    with pytest.raises(UserError) as caught:
        parse_threshold(text, lambda name: knows(profile, name), examples(profile))
    assert str(caught.value).startswith(f"--fail-if {text!r}")
    assert "\n" not in str(caught.value)


def test_every_figure_of_a_result_is_one_that_fail_if_knows() -> None:
    found = result()
    assert [name for name in found.figures() if not knows(found.profile, name)] == []
    assert set(found.tally.calls) <= set(CALLS)


def test_json_and_csv() -> None:
    found = result()
    data: dict[str, Any] = json.loads(json.dumps(found.to_json()))
    assert (data["operations"], data["errors"], data["orphans"], data["ops_per_s"]) == (100, 1, 4, 10.0)
    assert data["latency"]["look"]["p99_ms"] == pytest.approx(99, rel=0.02)
    assert data["rpc_mix"] == {"GETATTR": 70, "READ": 30}
    assert data["failures"] == [{"operation": "look", "error": "ENOSPC", "count": 1}]
    rows = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert [(row["kind"], row["name"], row["count"], row["errors"]) for row in rows] == [
        ("operation", "look", "100", "1"),
        ("call", "stat", "100", "0"),
    ]
    assert float(rows[0]["p50_ms"]) == pytest.approx(50, rel=0.02)


def test_the_result_fits_a_terminal_and_says_what_went_wrong() -> None:
    out = io.StringIO()
    print_result(Console(file=out, width=80), result(), ["orphans>0: it is 4"])
    text = out.getvalue()
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "look ENOSPC 1" in text
    assert "4 (pages that left by reclaim 4)" in text
    assert "✗ orphans>0: it is 4" in text
    assert "✓" not in text


def test_the_live_table_fits_a_terminal_and_has_a_bar_and_the_rate_of_the_last_seconds() -> None:
    found = result()
    out = io.StringIO()
    view = LiveView(Console(file=out, width=80), dataclasses.replace(found.profile, rate=50.0))
    tally = found.tally
    view.show(Look("running", 10.0, 0.25, tally, found.whole, 1, 1))
    for _ in range(20):
        tally.operation("look").record(1.0)
    tally.late_s = 2.5
    view.show(Look("running", 12.0, 0.5, tally, found.whole, 1, 1))
    Console(file=out, width=80).print(view._picture())
    text = out.getvalue()
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "━" * 38 + "─" * 38 in text
    assert "10/s   hits 75%   100 RPCs   1 error   4 orphans   2.5 s late" in text


def test_without_a_terminal_there_is_a_line_for_each_phase_and_now_and_then() -> None:
    found = result()
    out = io.StringIO()
    view = PlainView(Console(file=out, width=200), found.profile)
    view.show(Look("preparing", 0.0, None, found.tally, found.whole, 2, 1))
    for elapsed_s in (0.0, 5.0, 10.0, 15.0):
        view.show(Look("running", elapsed_s, None, found.tally, found.whole, 2, 1))
    assert out.getvalue().splitlines() == [
        "preparing: 2 clients",
        "running: 2 clients",
        "10 s: 100 operations, 0/s, p99 99.3 ms, 1 errors, 4 orphans",
    ]


def test_tallies_survive_the_way_to_another_process() -> None:
    tally = result().tally
    tally.late_s, tally.not_started = 1.5, 3
    again = Tally.from_json(json.loads(json.dumps(tally.to_json())))
    assert again.to_json() == tally.to_json()
    again.add(tally)
    assert (again.done, again.failed, again.not_started, again.late_s) == (200, 2, 6, 1.5)


@pytest.mark.parametrize(("seconds", "text"), [(0.000043, "0.04"), (0.0125, "12.5"), (0.1254, "125"), (1.25, "1,250")])
def test_milliseconds_have_the_figures_that_matter(seconds: float, text: str) -> None:
    assert milliseconds(seconds) == text


# --- where to work ----------------------------------------------------------------------------------------------------


def client(name: str, *mounts: str) -> tuple[Target, DaemonInfo]:
    info = DaemonInfo("client", name, 1, "0", None, None, mounts, None, 1.0)
    return Target(name, "127.0.0.1:1"), info


def test_the_export_that_all_have_mounted_is_taken() -> None:
    found = [client("a", "s1:/x /mnt/1", "s2:/y /mnt/2"), client("b", "s2:/y /there")]
    assert choose_bases(found, None, together=True) == {"a": "/mnt/2", "b": "/there"}
    assert choose_bases(found, "/p/", together=True) == {"a": "/p", "b": "/p"}


def test_without_a_common_export_each_takes_its_own_unless_they_share_files() -> None:
    found = [client("a", "s1:/x /mnt"), client("b", "s2:/y /mnt2")]
    assert choose_bases(found, None, together=False) == {"a": "/mnt", "b": "/mnt2"}
    with pytest.raises(UserError, match="no export in common"):
        choose_bases(found, None, together=True)
    with pytest.raises(UserError, match="b has nothing mounted"):
        choose_bases([client("a", "s1:/x /mnt"), client("b")], None, together=False)
    with pytest.raises(UserError, match="an absolute path"):
        choose_bases(found, "mnt", together=False)


def test_a_client_that_comes_later_works_where_the_others_do() -> None:
    _, info = client("c", "s1:/x /mnt/1", "s2:/y /mnt/2")
    assert base_like(info, {"s2:/y"}) == "/mnt/2"
    assert base_like(info, {"s3:/z"}) is None
    assert export_at(info, "/mnt/2") == "s2:/y"
    assert export_at(info, "/mnt/1/deep/er") == "s1:/x/deep/er"
    assert export_at(info, "/elsewhere") == ""


def test_discover() -> None:
    assert parse_discover("dns:client:9465") == ("client", 9465)
    for wrong in ("client:9465", "dns:", "dns:client", "srv:client:1"):
        with pytest.raises(UserError):
            parse_discover(wrong)


# --- what the daemons count -------------------------------------------------------------------------------------------


class FakeControl:
    """A daemon whose counters are what the test says; None: it does not answer."""

    says: dict[str, Stats | None] = {}  # noqa: RUF012

    def __init__(self, address: str, **settings: object) -> None:
        self.address = address

    async def stats(self) -> Stats:
        stats = self.says[self.address]
        if stats is None:
            raise ControlError("no answer")
        return stats

    async def close(self) -> None:
        pass


def test_growth_survives_restarts_silence_and_daemons_that_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("freepage_lab.load.meter.ControlClient", FakeControl)
    a, b = Target("a", "127.0.0.1:1"), Target("b", "127.0.0.1:2")

    async def story() -> None:
        meter = Meter(None)
        await meter.watch([a, b])
        steps = [
            (Stats(rpcs={"READ": 10}, hits=5, misses=5), Stats(rpcs={"READ": 100})),
            (Stats(rpcs={"READ": 14}, hits=8, misses=6), None),
            (Stats(rpcs={"READ": 3}, hits=1), Stats(rpcs={"READ": 107})),  # a was restarted, b was only slow
        ]
        for of_a, of_b in steps:
            monkeypatch.setattr(FakeControl, "says", {a.address: of_a, b.address: of_b})
            await meter.look()
        assert meter.growth.counts["rpcs"] == {"READ": 4 + 3 + 7}
        assert (meter.growth.hits, meter.growth.misses, meter.growth.hit_percent) == (4, 1, 80)
        baseline = meter.growth.copy()
        await meter.watch([b])
        monkeypatch.setattr(FakeControl, "says", {b.address: Stats(rpcs={"READ": 110})})
        await meter.look()
        assert meter.growth.since(baseline).counts["rpcs"] == {"READ": 3}
        await meter.close()

    asyncio.run(story())
