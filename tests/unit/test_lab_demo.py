"""The demo's parts by themselves: what it copies, what it would object to, and what it shows."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from freepage_lab.demo.phases import PATHS, PHASES, PhaseResult, judge
from freepage_lab.demo.tree import WORK_DIRECTORY, check_source, copy_tree
from freepage_lab.demo.view import LiveView, Look, print_summary, sparkline, summary
from freepage_runtime.control_client import Stats
from freepage_runtime.errors import UserError

HOOK_RUNS, ON_RECLAIM, EVERYWHERE, _ = PHASES


def stats(removed: int, skip: tuple[str, ...] = (), leaked: int | None = None, **changes: object) -> Stats:
    """A daemon from which ``removed`` pages have left by each path since it started."""
    skipped = {path: removed if path in skip else 0 for path in PATHS}
    orphans = sum(skipped.values()) if leaked is None else leaked
    base = Stats(
        removed=dict.fromkeys(PATHS, removed),
        hook_calls={path: removed - skipped[path] for path in PATHS},
        skipped=skipped,
        skipped_owned=skipped,
        orphaned={"nfs_page": orphans, "nfs_dir_array": 0},
        pinned={"rpc_cred": orphans},
        violations={"hook_called_twice": 0},
        audit_agrees=True,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


START = stats(0)


def outcome(phase_number: int, after: Stats) -> PhaseResult:
    return judge(PHASES[phase_number], ([START], [after]), ([], []))


@pytest.mark.parametrize(("number", "skip"), list(enumerate(phase.skip for phase in PHASES)))
def test_a_phase_as_it_should_be(number: int, skip: tuple[str, ...]) -> None:
    assert outcome(number, stats(5, skip)).problems == []


@pytest.mark.parametrize(
    ("number", "after", "problem"),
    [
        (0, stats(5, leaked=1), "1 became orphans"),
        (0, stats(5, hook_calls=dict.fromkeys(PATHS, 4)), "5 removed, but 4 hook calls and 0 skipped"),
        (0, stats(5, PATHS), "5 skipped although it is to run"),
        (0, stats(0), "no page left by replace"),
        (0, stats(5, violations={"hook_called_twice": 2}), "rule hook_called_twice broken 2 times"),
        (0, stats(5, audit_agrees=False), "the audit does not agree"),
        (1, stats(5), "5 hook calls although it is to be skipped"),
        (2, stats(5, PATHS, leaked=29), "30 skipped removals owned an object, but 29 became orphans"),
        (2, stats(5, PATHS, leaked=0, skipped_owned=dict.fromkeys(PATHS, 0)), "nothing leaked"),
    ],
)
def test_what_the_demo_objects_to(number: int, after: Stats, problem: str) -> None:
    problems = outcome(number, after).problems
    assert any(problem in found for found in problems), problems


def test_servers_are_held_to_the_same_rules_but_need_not_use_every_path() -> None:
    clients = ([START], [stats(5)])
    assert judge(HOOK_RUNS, clients, ([START], [stats(0)])).ok
    assert not judge(HOOK_RUNS, clients, ([START], [stats(5, leaked=3)])).ok


# --- the tree -----------------------------------------------------------------------------------------------------


def test_a_tree_is_copied_without_what_is_no_file(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "d").mkdir(parents=True)
    (source / "d" / "f").write_bytes(b"x" * 5000)
    (source / "g").write_bytes(b"")
    (source / "link").symlink_to("g")
    target.mkdir()
    tree = copy_tree(source, target, standard_library=False, at_least_bytes=0)
    assert sorted(tree.files) == [("d/f", 5000), ("g", 0)]
    assert tree.directories == ("", "d")
    assert (target / WORK_DIRECTORY).is_dir()
    assert (source / "d" / "f").stat().st_ino != (target / "d" / "f").stat().st_ino


def test_a_small_tree_is_copied_until_it_overflows_a_cache(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (source / "f").write_bytes(b"x" * 1000)
    tree = copy_tree(source, target, standard_library=False, at_least_bytes=4500)
    assert tree.n_bytes == 5000
    assert len({name for name, _ in tree.files}) == 5


def test_the_standard_library_is_trimmed(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    for name in ("test", "__pycache__", "site-packages", "config-3.11-x86_64", "json"):
        (source / name).mkdir(parents=True)
        (source / name / "f.py").write_bytes(b"x")
    target.mkdir()
    tree = copy_tree(source, target, standard_library=True, at_least_bytes=0)
    assert [name for name, _ in tree.files] == ["json/f.py"]


def test_sources_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "none", tmp_path / "file"):
        with pytest.raises(UserError, match=str(path)):
            check_source(path)
    with pytest.raises(UserError, match="no files"):
        (tmp_path / "empty").mkdir()
        copy_tree(tmp_path / "empty", tmp_path, standard_library=False, at_least_bytes=0)


# --- what is shown ------------------------------------------------------------------------------------------------


def test_sparkline() -> None:
    assert sparkline([]) == ""
    assert sparkline([0, 0, 0]) == "▁▁▁"
    assert sparkline([0, 1, 50, 100]) == "▁▂▅█"
    assert len(sparkline(list(range(1000)), width=40)) == 40


def printed(width: int, *what: object) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None)
    for one in what:
        console.print(one)
    return out.getvalue()


def test_the_summary_fits_eighty_columns_with_large_numbers() -> None:
    results = [outcome(number, stats(123_456, phase.skip)) for number, phase in enumerate(PHASES)]
    text = printed(80, summary(results))
    assert "…" not in text
    assert max(len(line) for line in text.splitlines()) <= 80
    for phase in PHASES:
        assert phase.name in text
    assert text.count("123,456") > 4 * len(PATHS)


def test_the_verdict() -> None:
    out = io.StringIO()
    console = Console(file=out, width=80, color_system=None)
    print_summary(console, [outcome(0, stats(5))], [("server1", "http://127.0.0.1:1/metrics")], 12.3)
    assert "✓ hook on: nothing leaked" in out.getvalue()
    assert "http://127.0.0.1:1/metrics" in out.getvalue()
    print_summary(console, [outcome(0, stats(5, leaked=1))], [], 12.3)
    assert "were not as they should be" in out.getvalue()


def test_the_live_picture() -> None:
    view = LiveView(Console(file=io.StringIO(), width=80, color_system=None), "freepage demo", 4 << 20)
    view.say("copying")
    assert "copying" in printed(80, view._picture())
    view.begin(0, HOOK_RUNS)
    view.end(0, outcome(0, stats(5)))
    view.begin(1, ON_RECLAIM)
    figures = outcome(1, stats(7, ON_RECLAIM.skip)).clients
    view.look(Look(figures, [("client1", replace(START, cached_pages=512, hits=3, misses=1))], 0.5))
    picture = printed(80, view._picture())
    for shown in (
        "✓ hook runs",
        "● skipped on reclaim",
        "○ skipped everywhere",
        "reclaim",
        "client1",
        "512 pages",
        "75% hits",
    ):
        assert shown in picture
    assert max(len(line) for line in picture.splitlines()) <= 80
