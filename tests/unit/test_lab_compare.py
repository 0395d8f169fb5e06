"""The rules of comparison, one by one."""

from __future__ import annotations

from typing import Any

import pytest

from freepage_lab.conform.compare import ClientObservation, Observation, Varying, compare, without_varying

VARIES = {"varies": True, "min": 1, "max": 2}


def truth(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "workload": "w",
        "ops_stable": True,
        "serial_server_differs": [],
        "checkpoints": [
            {"label": "one", "clients": {"A": figures(ops={"READ": 2})}},
            {"label": "two", "clients": {"A": figures(io=[["READ", "f", 0, 4096]])}},
        ],
        "results": ["0", "10:abc"],
    }
    return {**base, **changes}


def figures(**changes: Any) -> dict[str, Any]:
    return {"ops": {}, "sequence": [], "io": [], **changes}


def seen(label: str, done: int = 1, **changes: Any) -> Observation:
    directories = changes.pop("directories", frozenset())
    figures: dict[str, Any] = {"ops": {}, "sequence": [], "io": [], "pages": {}, **changes}
    return Observation(label, {"A": ClientObservation(directories=directories, **figures)}, done)


EQUAL = [seen("one", 1, ops={"READ": 2}), seen("two", 2, io=[["READ", "f", 0, 4096]])]


def test_equal() -> None:
    outcome = compare(truth(), "family", EQUAL, ["0", "10:abc"])
    assert outcome.all_equal
    assert outcome.checkpoints == outcome.checkpoints_equal == 2
    for tally in outcome.cells.values():
        assert (tally.total, tally.equal) == (2, 2)


def test_each_kind_of_difference_is_one_cell() -> None:
    got = [seen("one", 1, ops={"READ": 3}), seen("two", 2, pages={"f": {"resident": [[0, 1]], "n": 1}})]
    outcome = compare(truth(), "family", got, ["0", "!EIO"])
    assert [(m.kind, m.checkpoint, m.expected, m.got) for m in outcome.mismatches] == [
        ("ops", "one", {"READ": 2}, {"READ": 3}),
        ("io", "two", [["READ", "f", 0, 4096]], []),
        ("pages", "two", {}, {"f": {"resident": [[0, 1]]}}),
        ("results", "two (step 1)", "10:abc", "!EIO"),
    ]
    assert outcome.checkpoints_equal == 0


def test_a_run_that_broke_down_is_unequal_where_it_did_not_get() -> None:
    outcome = compare(truth(), "family", EQUAL[:1], ["0"], failure="OSError: no")
    assert [(m.kind, m.got) for m in outcome.mismatches if m.kind in ("ops", "results")] == [
        ("ops", "OSError: no"),
        ("results", "OSError: no"),
    ]
    assert outcome.cells["ops"].total == 2


@pytest.mark.parametrize(
    ("expected", "got", "left"),
    [
        ({"READ": VARIES, "WRITE": 1}, {"READ": 9, "WRITE": 1}, ({"WRITE": 1}, {"WRITE": 1})),
        ({"READ": VARIES, "WRITE": 1}, {"WRITE": 2}, ({"WRITE": 1}, {"WRITE": 2})),
        ([["READ", VARIES], ["WRITE", 1]], [["READ", 5], ["WRITE", 1]], ([["READ"], ["WRITE", 1]],) * 2),
        ({"f": {"dirty": VARIES, "resident": 1}}, {"f": {"resident": 1}}, ({"f": {"resident": 1}},) * 2),
        ({"f": {"dirty": VARIES}, "g": 1}, {"f": {"dirty": 2}, "g": 1}, ({"g": 1},) * 2),
        ("same", "same", ("same", "same")),
    ],
)
def test_what_varied_is_left_out(expected: Any, got: Any, left: Any) -> None:
    assert without_varying(expected, got) == left


@pytest.mark.parametrize("expected", [VARIES, {"READ": VARIES}, [VARIES, VARIES]])
def test_nothing_left_is_not_counted(expected: Any) -> None:
    with pytest.raises(Varying):
        without_varying(expected, [1, 2] if isinstance(expected, list) else {})
    first = {"label": "one", "clients": {"A": figures(ops={"READ": VARIES})}}
    outcome = compare(truth(checkpoints=[first], results=[]), "family", EQUAL[:1], [])
    assert outcome.cells["ops"].total == 0


def test_either_value_of_a_serial_server_and_no_state_from_there_on() -> None:
    differs = [{"label": "one", "client": "A", "ops": {"READ": 0}}]
    for ops in ({"READ": 2}, {}):
        outcome = compare(truth(serial_server_differs=differs), "family", [seen("one", 1, ops=ops)], ["0"])
        assert outcome.cells["ops"].equal == 1
        assert outcome.cells["io"].total == outcome.cells["pages"].total == 0
    outcome = compare(truth(serial_server_differs=differs), "family", [seen("one", 1, ops={"READ": 1})], ["0"])
    assert outcome.cells["ops"].equal == 0


def test_of_directories_only_the_number_of_pages_counts() -> None:
    pages = {"d": {"resident": [[0, 1], [4880, 4881]], "n": 2}}
    expected = truth(checkpoints=[{"label": "one", "clients": {"A": figures(pages=pages)}}], results=[])
    got = {"d": {"resident": [[0, 1], [77, 78]], "active": [[0, 1]], "n": 2}}
    assert compare(expected, "family", [seen("one", pages=got, directories=frozenset({"d"}))], []).all_equal
    assert not compare(expected, "family", [seen("one", pages=got)], []).all_equal


def test_active_is_reported_apart() -> None:
    pages = {"f": {"resident": [[0, 1]], "active": [[0, 1]], "n": 1}}
    expected = truth(checkpoints=[{"label": "one", "clients": {"A": figures(pages=pages)}}], results=[])
    outcome = compare(expected, "family", [seen("one", pages={"f": {"resident": [[0, 1]], "n": 1}})], [])
    assert outcome.all_equal
    assert (outcome.cells["active"].total, outcome.cells["active"].equal) == (1, 0)
    assert outcome.active_differs == ["one"]


def test_reclaim_workloads_count_ops_and_results_only() -> None:
    outcome = compare(truth(workload="memcg_x"), "family", EQUAL, ["0", "10:abc"])
    assert {kind: tally.total for kind, tally in outcome.cells.items()} == {
        "ops": 2,
        "io": 0,
        "pages": 0,
        "active": 0,
        "results": 2,
    }


def test_unstable_recordings_are_reported_not_counted() -> None:
    assert compare(truth(ops_stable=False), "family", [], []).not_counted is not None


def test_what_is_left_after_umount_is_a_mismatch() -> None:
    outcome = compare(truth(), "family", EQUAL, ["0", "10:abc"], left_over=["A: 3 nfs_page"])
    assert [m.kind for m in outcome.mismatches] == ["slab"]
