"""The step language is strict: what it does not know is an error that says where, before anything runs."""

from __future__ import annotations

import os
from typing import Any

import pytest

from freepage_lab.conform.language import WorkloadError, parse_workload, walk


def workload(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "name": "w",
        "family": "f",
        "description": "d",
        "mount": {"A": {"opts": "actimeo=600"}},
        "setup": [{"op": "mkfile", "path": "f", "length": 10, "seed": 1}],
        "steps": [{"op": "stat", "path": "f"}, {"op": "checkpoint", "label": "x"}],
    }
    return {**base, **changes}


def test_a_workload_and_its_defaults() -> None:
    parsed = parse_workload(workload(), "here")
    assert parsed.mounts == {"A": "vers=3,proto=tcp,nolock,sec=sys,actimeo=600"}
    assert [step.client for step in parsed.setup] == ["S"]
    assert [step.client for step in parsed.steps] == ["A", "A"]
    assert parsed.runs_on_nfs3
    assert not parse_workload(workload(vers=["4.2"]), "here").runs_on_nfs3


def test_b_is_mounted_only_if_a_step_names_it() -> None:
    both = {"A": {"opts": ""}, "B": {"opts": "noac"}}
    assert set(parse_workload(workload(mount=both), "here").mounts) == {"A"}
    steps = [{"op": "for", "var": "i", "to": 2, "steps": [{"op": "stat", "client": "B", "path": "f"}]}]
    parsed = parse_workload(workload(mount=both, steps=steps), "here")
    assert parsed.mounts == {
        "A": "vers=3,proto=tcp,nolock,sec=sys",
        "B": "vers=3,proto=tcp,nolock,sec=sys,noac",
    }


def test_setup_loops_run_on_the_server_too() -> None:
    setup = [{"op": "for", "var": "i", "to": 3, "steps": [{"op": "mkdir", "path": "d{i}"}]}]
    parsed = parse_workload(workload(setup=setup), "here")
    assert {step.client for step in walk(parsed.setup)} == {"S"}


def test_options_for_one_version_follow_the_common_ones() -> None:
    mount = {"A": {"opts": "rsize=4096", "opts_v3": "noacl", "opts_v4": "clientaddr=x"}}
    assert parse_workload(workload(mount=mount), "here").mounts["A"].endswith("sec=sys,rsize=4096,noacl")


def test_operands_are_compiled() -> None:
    steps = [{"op": "open", "path": "f{i}", "flags": ["O_RDWR", "O_CREAT"], "fd": "x"}]
    (loop,) = parse_workload(workload(steps=[{"op": "for", "var": "i", "to": 9, "steps": steps}]), "here").steps
    (step,) = loop.steps
    assert step["path"]({"i": 3}) == "f3"
    assert step["flags"] == os.O_RDWR | os.O_CREAT
    assert step["mode"] == 0o644


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"steps": [{"op": "explode"}]}, "unknown step 'explode'"),
        ({"steps": [{"op": "stat", "path": "f", "colour": 1}]}, "unknown operand colour"),
        ({"steps": [{"op": "read", "fd": "x"}]}, "operand length is missing"),
        ({"steps": [{"op": "open", "path": "f", "flags": ["O_EASY"], "fd": "x"}]}, "no open flag 'O_EASY'"),
        ({"steps": [{"op": "stat", "client": "C", "path": "f"}]}, "no client 'C'"),
        ({"steps": [{"op": "for", "var": "i", "steps": []}]}, "to and in"),
        ({"steps": [{"op": "lockf", "fd": "x", "how": "EX|PLEASE"}]}, "lock mode"),
        ({"steps": [{"op": "drop_caches", "what": 4}]}, "1, 2 or 3"),
        ({"env": {"weather": "fine"}}, "unknown env key weather"),
        ({"env": {"sysctl": {"vm.swappiness": 1}}}, "unknown sysctl vm.swappiness"),
        ({"env": {"sysctl": "vm.dirty_bytes"}}, "sysctl is an object"),
        ({"env": {"sysctl": {"vm.dirty_bytes": "many"}}}, "vm.dirty_bytes is a whole number, not 'many'"),
        ({"env": {"memcg_mb": -1}}, "memcg_mb is a whole number, not -1"),
        ({"env": {"server_sync": 1}}, "server_sync is true or false"),
        ({"mount": "A"}, "mount is an object"),
        ({"mount": {"A": {"opts": 1}}}, "options are a string"),
        ({"vers": "3"}, "vers is a list"),
        ({"steps": [{"op": ["stat"]}]}, "unknown step"),
        ({"steps": [{"op": "stat", "path": "f{i}"}]}, "name 'i' is not defined"),
        ({"steps": [{"op": "stat", "path": None}]}, "is not a string"),
        (
            {
                "steps": [
                    {
                        "op": "for",
                        "var": "i",
                        "to": 2,
                        "steps": [{"op": "pread", "fd": "x", "offset": "j", "length": 1}],
                    }
                ]
            },
            "step 0 .for., step 0 .pread.: 'j': name 'j' is not defined",
        ),
        ({"steps": [{"op": "for", "var": "i", "to": "1//0", "steps": []}]}, "1//0"),
        ({"mount": {"A": {"options": ""}}}, "unknown mount key options"),
        ({"extra": 1}, "unknown key extra"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(WorkloadError, match=complaint) as caught:
        parse_workload(workload(**changes), "here")
    assert str(caught.value).startswith("here")
