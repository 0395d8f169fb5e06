"""Locks that have to be waited for: the server's GRANTED, lockd's poll when it is lost, and clients that go."""

from __future__ import annotations

import asyncio
import fcntl
import os

import pytest

from freepage_client.nfs.lock import END, FileLock, FileLocks
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


@pytest.mark.parametrize("options", ["", "local_lock=all"])
def test_a_lock_made_shared_lets_in_who_waits_to_share_it(options: str) -> None:
    async def story(world: World) -> None:
        machine = await world.client("A", options)
        holder, other = machine.task(), machine.task()
        fd_holder, fd_other = [await task.open("/mnt/f", os.O_RDWR | os.O_CREAT) for task in (holder, other)]
        await holder.lockf(fd_holder, fcntl.LOCK_EX)
        waiting = asyncio.create_task(other.lockf(fd_other, fcntl.LOCK_SH))
        await world.clock.sleep(1)
        assert not waiting.done()
        await holder.lockf(fd_holder, fcntl.LOCK_SH)
        await world.clock.sleep(PROMPT_S)
        assert waiting.done()
        await waiting

    run_world(story)


def _ranges(locks: FileLocks) -> list[tuple[object, int, int, str]]:
    return [(held.owner, held.start, held.end, "EX" if held.exclusive else "SH") for held in locks.posix]


def test_ranges_of_one_owner_and_kind_that_touch_are_one_lock() -> None:
    """posix_lock_inode: of another kind they are cut, and each owner keeps its place in line."""
    a, b = "a", "b"
    locks = FileLocks()
    locks.set(FileLock(a, 0, 100, True), flock=False)
    locks.set(FileLock(b, 500, 600, False), flock=False)
    locks.set(FileLock(a, 200, 300, True), flock=False)
    assert _ranges(locks) == [(a, 0, 100, "EX"), (a, 200, 300, "EX"), (b, 500, 600, "SH")]
    locks.set(FileLock(a, 100, 200, True), flock=False)
    assert _ranges(locks) == [(a, 0, 300, "EX"), (b, 500, 600, "SH")]
    locks.set(FileLock(a, 50, 60, False), flock=False)
    assert _ranges(locks) == [(a, 0, 50, "EX"), (a, 50, 60, "SH"), (a, 60, 300, "EX"), (b, 500, 600, "SH")]
    locks.set(FileLock(a, 0, END, True), flock=False)
    assert _ranges(locks) == [(a, 0, END, "EX"), (b, 500, 600, "SH")]
    assert locks.allow_whole_page_writes()
    locks.set(FileLock(a, 10, 20, True), flock=False)
    assert locks.allow_whole_page_writes(), "a part of what is locked already changes nothing"
    locks.clear(FileLock(a, 0, 1, False), flock=False)
    assert not locks.allow_whole_page_writes()


def test_an_flock_that_cannot_be_converted_is_lost() -> None:
    """flock(2): the old lock is removed before the new one is asked for."""

    async def story(world: World) -> None:
        machine = await world.client("A", "nolock")
        one, two = machine.task(), machine.task()
        first = await one.open("/mnt/f", os.O_RDWR | os.O_CREAT)
        second = await two.open("/mnt/f", os.O_RDWR)
        await one.flock(first, fcntl.LOCK_SH)
        await two.flock(second, fcntl.LOCK_SH)
        with pytest.raises(BlockingIOError):
            await one.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        await two.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for task in (one, two):
            await task.exit()

    run_world(story)
