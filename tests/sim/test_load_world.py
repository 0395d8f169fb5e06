"""Loads in a world on virtual time: every profile does what it says, what is read is what was written, and the open
loop measures from when an operation was due."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from typing import Any

import pytest

from freepage_client.machine import Machine
from freepage_lab.load.generator import Generator, Plan
from freepage_lab.load.profile import Profile, Size, load_profile, parse_profile, shipped
from freepage_lab.load.tally import Tally
from freepage_lab.sim.network import Latency
from freepage_lab.sim.world import World, run_world
from freepage_runtime.control_client import ControlError

MEMORY = 2 << 20
PROFILE_NAMES = sorted(shipped())


class SimTask:
    """A task of this process with the calls of `RemoteTask`."""

    def __init__(self, machine: Machine) -> None:
        self._task = machine.task()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    async def pread(self, fd: int, count: int, offset: int, *, discard: bool = False) -> bytes | int:
        data = await self._task.pread(fd, count, offset)
        return len(data) if discard else data


class SimHost:
    """A machine of the world as a load's host. ``broken`` makes it as if its daemon could not be asked."""

    def __init__(self, name: str, machine: Machine) -> None:
        self.name = name
        self.base = "/mnt"
        self.export = "server:/export"
        self.memory_bytes = MEMORY
        self.machine = machine
        self.tasks: list[SimTask] = []

    async def begin(self) -> SimTask:
        self.tasks.append(SimTask(self.machine))
        return self.tasks[-1]


def small(profile: Profile) -> Profile:
    """With fewer and smaller files, for a quick test; the mix is the same."""
    files = {
        name: dataclasses.replace(
            each, count=min(each.count, 12), size=Size(min(each.size.least, 16 << 10), min(each.size.most, 512 << 10))
        )
        for name, each in profile.files.items()
    }
    return dataclasses.replace(profile, files=files)


async def hosts(world: World, *names: str) -> list[SimHost]:
    return [SimHost(name, await world.client(name, memory_bytes=MEMORY)) for name in names]


async def play(world: World, profile: Profile, found: list[SimHost], seconds: float | None = None) -> Tally:
    """Prepare, run for so long (None: to the end of the count), clean up."""
    generator = Generator(Plan(profile, 1, "load"), found)
    await generator.prepare_shared()
    await generator.prepare()
    if seconds is not None:
        asyncio.get_running_loop().call_later(seconds, generator.stop)
    await generator.run()
    await generator.clean()
    await generator.clean_shared()
    return generator.tally


@pytest.mark.parametrize("name", PROFILE_NAMES)
def test_a_profile_runs_without_error_and_leaves_nothing_behind(name: str) -> None:
    profile = dataclasses.replace(small(load_profile(name)), operations=20, workers=2)

    async def story(world: World) -> None:
        found = await hosts(world, "a", "b")
        tally = await play(world, profile, found)
        assert not tally.errors, tally.problems
        assert tally.done == profile.operations
        assert tally.in_flight == tally.not_started == 0
        assert sum(latencies.count for latencies in tally.calls.values()) >= tally.done
        assert tally.operations.keys() <= {operation.name for operation in profile.mix}
        for host in found:
            assert await host.machine.task().listdir("/mnt") == []
            assert sum(host.machine.cache.skipped_owned.values()) == 0

    run_world(story, seed=1)


def test_a_file_that_is_not_what_was_written_is_found() -> None:
    profile = dataclasses.replace(load_profile("shared"), operations=200)

    async def story(world: World) -> None:
        (host,) = await hosts(world, "a")
        generator = Generator(Plan(profile, 1, "load"), [host])
        await generator.prepare_shared()
        await generator.prepare()
        local = await world.local_task()
        names = await local.listdir("/load/shared/documents/d000")
        for name in names:
            fd = await local.open(b"/load/shared/documents/d000/" + name, os.O_WRONLY)
            await local.pwrite(fd, b"not what was there", 100)
            await local.close(fd)
        await generator.run()
        assert generator.tally.corrupt > 0
        assert any("a mixture at 0" in problem for problem in generator.tally.problems)
        assert {what for _, what in generator.tally.errors} == {"corrupt"}

    run_world(story, seed=1)


def test_an_open_loop_measures_from_when_an_operation_was_due() -> None:
    """A server that takes 50 ms cannot serve 100 calls a second to one program: the wait is in the latency."""
    profile = parse_profile(
        """
        rate = 100
        arrivals = "constant"
        [files.a]
        count = 1
        [[operation]]
        name = "look"
        steps = [{ do = "stat", files = "a" }]
        """,
        "slow",
        "slow",
    )

    async def story(world: World) -> None:
        host = SimHost("a", await world.client("a", "noac"))
        tally = await play(world, profile, [host], seconds=4.0)
        assert tally.calls["stat"].max_s < 0.7, "a call alone: five names and their attributes"
        assert tally.operations["look"].max_s > 2.0, "but the last ones begun were due long before"
        assert 300 <= tally.done + tally.not_started <= 401
        assert tally.not_started > 200

    run_world(story, seed=1, latency=Latency(0.05, 0.05))


def test_the_same_seed_does_the_same_again() -> None:
    profile = dataclasses.replace(small(load_profile("maildir")), operations=50, think_s=0.01)

    async def story(world: World) -> list[object]:
        tally = await play(world, profile, await hosts(world, "a"))
        return [
            {name: each.to_json() for name, each in tally.operations.items()},
            tally.read_bytes,
            tally.written_bytes,
        ]

    assert run_world(story, seed=3) == run_world(story, seed=3)


def test_a_worker_whose_daemon_is_gone_comes_back_with_fresh_files() -> None:
    profile = dataclasses.replace(load_profile("logs"), operations=60, workers=1)

    async def story(world: World) -> None:
        (host,) = await hosts(world, "a")
        generator = Generator(Plan(profile, 1, "load"), [host])
        await generator.prepare_shared()
        await generator.prepare()

        async def gone(*arguments: object) -> None:
            raise ControlError("there is no task 1")

        task = host.tasks[-1]
        await task.exit()
        task.write = gone  # type: ignore[attr-defined]
        task.open = gone  # type: ignore[attr-defined]
        await generator.run()
        assert generator.tally.errors == {("append", "unreachable"): 1}
        assert generator.tally.done == 59
        await generator.clean()
        await generator.clean_shared()

    run_world(story, seed=1)


def test_a_host_that_appears_gets_workers_and_one_that_goes_loses_them() -> None:
    profile = dataclasses.replace(small(load_profile("shared")), duration_s=None, workers=1, think_s=0.02)

    async def story(world: World) -> None:
        a, b = await hosts(world, "a", "b")
        generator = Generator(Plan(profile, 1, "load"), [a])
        await generator.prepare_shared()
        await generator.prepare()
        running = asyncio.ensure_future(generator.run())
        await asyncio.sleep(1)
        assert not b.tasks
        generator.set_hosts([a, b])
        await asyncio.sleep(1)
        assert len(b.tasks) == 1
        generator.set_hosts([b])
        await asyncio.sleep(1)
        before = a.machine.cache.hits + b.machine.cache.hits
        of_a = a.machine.cache.hits
        await asyncio.sleep(1)
        assert a.machine.cache.hits == of_a
        assert a.machine.cache.hits + b.machine.cache.hits > before
        generator.stop()
        await running
        assert not generator.tally.errors, generator.tally.problems
        assert generator.tally.in_flight == 0

    run_world(story, seed=1)
