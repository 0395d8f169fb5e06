"""Locks that have to be waited for: the server's GRANTED, lockd's poll when it is lost, and clients that go."""

from __future__ import annotations

import asyncio
import fcntl
import os

import pytest

from freepage_client.vfs.task import Task
from freepage_lab.sim import Fault, World, run_world
from freepage_proto.rpc import Procedure

PROMPT_S = 0.05
"""A callback is there after a few calls' time; the poll would take 30 s."""


async def opened(world: World, name: str) -> tuple[Task, int]:
    task = (await world.client(name)).task()
    return task, await task.open("/mnt/f", os.O_RDWR | os.O_CREAT)


def test_a_blocked_lock_is_granted_when_it_is_released_in_the_order_asked_for() -> None:
    async def story(world: World) -> None:
        (a, fd_a), (b, fd_b), (c, fd_c) = [await opened(world, name) for name in "ABC"]
        order: list[str] = []
        taken_s: list[float] = []

        async def take(name: str, task: Task, fd: int) -> None:
            await task.lockf(fd, fcntl.LOCK_EX)
            order.append(name)
            taken_s.append(world.clock.now())

        await a.lockf(fd_a, fcntl.LOCK_EX)
        waiting = [asyncio.create_task(take("B", b, fd_b))]
        await world.clock.sleep(0.1)
        waiting.append(asyncio.create_task(take("C", c, fd_c)))
        await world.clock.sleep(47)  # longer than one listening call, and than the poll
        assert not order
        released_s = world.clock.now()
        await a.lockf(fd_a, fcntl.LOCK_UN)
        await waiting[0]
        assert order == ["B"]
        assert taken_s[0] == pytest.approx(released_s, abs=PROMPT_S)
        await world.clock.sleep(3)
        released_s = world.clock.now()
        await b.close(fd_b)
        await waiting[1]
        assert order == ["B", "C"]
        assert taken_s[1] == pytest.approx(released_s, abs=PROMPT_S)

    run_world(story)


def test_a_lost_callback_costs_a_poll() -> None:
    async def story(world: World) -> None:
        (a, fd_a), (b, fd_b) = [await opened(world, name) for name in "AB"]
        await a.lockf(fd_a, fcntl.LOCK_EX)
        world.network.faults.append(Fault(frozenset({Procedure.NLM_GRANTED}), lose_reply=True))
        started_s = world.clock.now()
        waiting = asyncio.create_task(b.lockf(fd_b, fcntl.LOCK_EX))
        await world.clock.sleep(1)
        await a.lockf(fd_a, fcntl.LOCK_UN)
        await waiting
        assert world.clock.now() == pytest.approx(started_s + 30, abs=0.5)

    run_world(story)


def test_a_client_that_comes_back_to_life_has_released_what_it_held() -> None:
    async def story(world: World) -> None:
        (a, fd_a), (b, fd_b) = [await opened(world, name) for name in "AB"]
        await a.lockf(fd_a, fcntl.LOCK_EX)
        waiting = asyncio.create_task(b.lockf(fd_b, fcntl.LOCK_EX))
        await world.clock.sleep(5)
        assert not waiting.done()
        machine = world.machines["A"]
        machine.mounts[0].rpc._boot_instance += 1  # as after a crash and a boot
        restarted_s = world.clock.now()
        await a.stat("/mnt")
        await a.access("/mnt/f", os.R_OK)
        await waiting
        assert world.clock.now() == pytest.approx(restarted_s, abs=PROMPT_S)

    run_world(story)


def test_who_gives_up_waiting_leaves_the_line() -> None:
    async def story(world: World) -> None:
        (a, fd_a), (b, fd_b), (c, fd_c) = [await opened(world, name) for name in "ABC"]
        await a.lockf(fd_a, fcntl.LOCK_EX)
        waiting = asyncio.create_task(b.lockf(fd_b, fcntl.LOCK_EX))
        await world.clock.sleep(1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await world.clock.sleep(1)
        await a.lockf(fd_a, fcntl.LOCK_UN)
        await c.lockf(fd_c, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert [lock.client for lock in (await world.server()).locks.locks()] == ["C"]

    run_world(story)


def test_two_owners_of_one_machine_wait_for_two_ranges() -> None:
    async def story(world: World) -> None:
        (a, fd_a), (b, fd_b) = [await opened(world, name) for name in "AB"]
        other = world.machines["B"].task()
        fd_other = await other.open("/mnt/f", os.O_RDWR)
        await a.lockf(fd_a, fcntl.LOCK_EX, 0, 10)
        await a.lockf(fd_a, fcntl.LOCK_EX, 10, 10)
        first = asyncio.create_task(b.lockf(fd_b, fcntl.LOCK_EX, 0, 10))
        second = asyncio.create_task(other.lockf(fd_other, fcntl.LOCK_EX, 10, 10))
        await world.clock.sleep(1)
        await a.lockf(fd_a, fcntl.LOCK_UN, 10, 10)
        await second
        assert not first.done()
        await a.lockf(fd_a, fcntl.LOCK_UN, 0, 10)
        await first

    run_world(story)
