"""The executor on the server itself: the recorded results of programs whose outcome no NFS client can change.

The corpus's scripts are run as if every client were a program on the server. Wherever the NFS client's cache is no part
of the answer, the results must be those of the real machine; the few scripts that are *about* the cache are left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from freepage_lab.conform.executor import Caller, Executor
from freepage_lab.conform.language import CLIENTS, SERVER, load_workload
from freepage_lab.sim import World, run_world

DATA = Path(__file__).parent.parent / "conformance" / "data"

CHANGED_BY_THE_CACHE = {
    "ls_two_clients",
    "negative_default",
    "server_change_nocto",
    "server_change_same_size",
    "server_change_size",
    "silly_rename",
    "statfs",
    "two_mkdir",
    "two_stale",
}


class Bystander:
    """The machine of a script that is not being watched."""

    def __init__(self, world: World) -> None:
        self._clock = world.clock

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)

    async def drop_caches(self, what: int) -> None:
        pass

    async def sync(self) -> None:
        pass

    async def checkpoint(self, label: str) -> None:
        await self._clock.sleep(0.08)

    def buffers(self, size: int, count: int) -> None:
        pass

    async def named(self, path: str) -> None:
        pass


def run_on_the_server(path: Path) -> list[Any]:
    workload = load_workload(path)

    async def story(world: World) -> list[Any]:
        caller = await world.local_task()
        callers: Mapping[str, Caller] = dict.fromkeys((*CLIENTS, SERVER), caller)
        executor = Executor(Bystander(world), callers, dict.fromkeys((*CLIENTS, SERVER), ""))
        await executor.run(workload.setup)
        return list(await executor.run(workload.steps))

    return run_world(story)


NAMES = sorted(path.stem for path in (DATA / "workloads").glob("*.json"))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in CHANGED_BY_THE_CACHE])
def test_results_are_the_real_machines(name: str) -> None:
    truth = json.loads((DATA / "truth" / f"{name}.json").read_text())
    assert run_on_the_server(DATA / "workloads" / f"{name}.json") == truth["results"]


def test_every_exception_is_still_one() -> None:
    for name in CHANGED_BY_THE_CACHE:
        truth = json.loads((DATA / "truth" / f"{name}.json").read_text())
        assert run_on_the_server(DATA / "workloads" / f"{name}.json") != truth["results"]
