"""What a SETATTR of one's own ends, and the count above which a server is congested."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable

import pytest

from freepage_client.vfs.task import Task
from freepage_lab.sim.world import World, run_world
from freepage_proto.rpc import Procedure
from freepage_server.nfsd.local import LocalTask

ELSEWHERE: dict[str, Callable[[LocalTask], Awaitable[None]]] = {
    "mode": lambda local: local.chmod("f", 0o640),
    "owner": lambda local: local.chown("f", 7, -1),
    "group": lambda local: local.chown("f", -1, 7),
}
CHANGES: dict[str, Callable[[Task], Awaitable[None]]] = {
    "mode": lambda task: task.chmod("/mnt/f", 0o640),
    "owner": lambda task: task.chown("/mnt/f", 7, -1),
    "group": lambda task: task.chown("/mnt/f", -1, 7),
}


@pytest.mark.parametrize("what", CHANGES)
def test_an_access_answer_ends_with_the_mode_or_the_owner(what: str) -> None:
    async def story(world: World) -> list[int]:
        machine = await world.client("A", "actimeo=600")
        task = machine.task()
        await task.close(await task.open("/mnt/f", os.O_RDWR | os.O_CREAT))
        access = machine.mounts[0].stats.ops[Procedure.ACCESS]
        asked = []
        for change in (None, None, CHANGES[what]):
            if change is not None:
                await change(task)
            before = access.ops
            await task.access("/mnt/f", os.R_OK)
            asked.append(access.ops - before)
        return asked

    assert run_world(story)[1:] == [0, 1]


@pytest.mark.parametrize("what", ELSEWHERE)
def test_an_access_answer_ends_when_another_has_changed_mode_or_owner(what: str) -> None:
    async def story(world: World) -> list[int]:
        local = await world.local_task()
        machine = await world.client("A", "actimeo=3")
        task = machine.task()
        await task.close(await task.open("/mnt/f", os.O_RDWR | os.O_CREAT))
        access = machine.mounts[0].stats.ops[Procedure.ACCESS]
        asked = []
        for changed in (False, False, True):
            if changed:
                await ELSEWHERE[what](local)
            await world.clock.sleep(4)  # the attributes have to be asked for again
            await task.stat("/mnt/f")
            before = access.ops
            await task.access("/mnt/f", os.R_OK)
            asked.append(access.ops - before)
        return asked

    assert run_world(story)[1:] == [0, 1]


def test_a_server_is_congested_from_its_limit_down_to_three_quarters_of_it() -> None:
    async def story(world: World) -> list[bool]:
        machine = await world.client("A")
        machine.congestion_pages = 8
        server = machine.mounts[0].superblock
        seen = []
        for _ in range(9):
            server.writeback_started()
            seen.append(server.write_congested)
        for _ in range(9):
            server.writeback_ended()
            seen.append(server.write_congested)
        return seen

    assert run_world(story) == [False] * 8 + [True] + [True] * 3 + [False] * 6
