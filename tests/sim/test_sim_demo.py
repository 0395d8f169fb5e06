"""The demo's workload and phases in a simulated world: the checks of the real one, in a second, from any seed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from freepage import ObjectState, RemovalPath
from freepage_client.io.replace import change_pages
from freepage_client.machine import Machine
from freepage_lab.demo.phases import ARRAYS, NAMES, PATHS, PHASES, REQUESTS, PhaseResult, judge
from freepage_lab.demo.tree import WORK_DIRECTORY, Tree
from freepage_lab.demo.workload import Host, Workload
from freepage_lab.sim import World, run_world
from freepage_runtime.control_client import Stats

MIB = 1 << 20
CACHE = MIB


class SimTask:
    """A task that can leave what it reads where it is."""

    def __init__(self, task: Any) -> None:
        self._task = task

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    async def read(self, fd: int, n: int, *, discard: bool = False) -> Any:
        data = await self._task.read(fd, n)
        return len(data) if discard else data


class SimMachine:
    """A machine with the administrator's verbs that the demo uses."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    async def drop_caches(self, what: int) -> int:
        await self.machine.drop_caches(what)
        return 0

    async def replace_pages(self, path: str, first: int, count: int) -> int:
        return await change_pages(self.machine, path, first, count, "replace")

    def stats(self) -> Stats:
        cache = self.machine.cache
        audit = cache.ledger.audit(self.machine.roots_in_use(), cache.mappings)

        def by_path(counts: dict[RemovalPath, int]) -> dict[str, int]:
            return {path.value: n for path, n in counts.items()}

        return Stats(
            removed=by_path(cache.removed),
            hook_calls=by_path(cache.hook_calls),
            skipped=by_path(cache.skipped),
            skipped_owned=by_path(cache.skipped_owned),
            orphaned={name: slab.live(ObjectState.ORPHANED) for name, slab in cache.ledger.caches.items()},
            violations=dict(cache.violations),
            audit_agrees=audit.agrees,
        )


def play(seed: int) -> list[PhaseResult]:
    async def story(world: World) -> list[PhaseResult]:
        server = await world.local_task()
        await server.mkdir("lib")
        await server.mkdir(WORK_DIRECTORY)
        files = []
        for number in range(40):
            name = f"lib/f{number}"
            fd = await server.open(name, 0o101, 0o644)
            await server.write(fd, bytes([number]) * 90_000)
            await server.close(fd)
            files.append((name, 90_000))
        tree = Tree(Path("/"), tuple(files), ("", "lib"))
        machines: list[SimMachine] = []
        hosts: list[Host] = []
        for name in ("client1", "client2", "client3"):
            client = await world.client(name, memory_bytes=CACHE)
            machines.append(SimMachine(client))
            hosts.append(Host(name, cast(Any, machines[-1]), cast(Any, SimTask(client.task()))))
        workloads = [
            Workload(host, hosts[(n + 1) % 3], [tree], ["/mnt"], cache_bytes=CACHE, seed=f"{seed}-{n}")
            for n, host in enumerate(hosts)
        ]
        for workload in workloads:
            await workload.prepare()
        results = []
        for phase in PHASES:
            for machine in machines:
                for path, action in phase.policy.items():
                    machine.machine.cache.policy.parse(f"{path}={action}")
            before = [machine.stats() for machine in machines]
            await asyncio.gather(*(workload.round(lambda: False) for workload in workloads))
            for machine in machines:
                await machine.machine.sync()
            results.append(judge(phase, (before, [machine.stats() for machine in machines]), ([], [])))
        return results

    return run_world(story, seed=seed)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_phase_behaves(seed: int) -> None:
    results = play(seed)
    assert [result.problems for result in results] == [[], [], [], []]
    for result in results:
        assert all(result.clients.removed[path] > 0 for path in PATHS)
        leaked = result.leaked[REQUESTS] + result.leaked[ARRAYS]
        assert leaked == sum(result.clients.skipped_owned.values())
        assert (leaked > 0) == bool(result.phase.skip)
    assert results[3].clients.orphaned == results[2].clients.orphaned
    assert results[3].clients.orphaned[NAMES] > 0


def test_a_seed_repeats_itself() -> None:
    assert [result.to_json() for result in play(5)] == [result.to_json() for result in play(5)]
