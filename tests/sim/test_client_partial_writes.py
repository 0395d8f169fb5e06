"""Bytes of a page that is not in the cache: writes that touch or overlap make one request, others go one by one."""

from __future__ import annotations

import os
from typing import Any

import pytest

from freepage_lab.sim.world import World, run_world
from freepage_proto.nfs3 import WriteArgs
from freepage_proto.rpc import CallHeader, Procedure
from server_rig import ask_first

Range = tuple[int, int]
"""[start, end) in bytes"""


@pytest.mark.parametrize(
    ("writes", "sent"),
    [
        ([(100, 200), (200, 300)], [(100, 300)]),
        ([(100, 200), (50, 100)], [(50, 200)]),
        ([(100, 200), (150, 250), (120, 130)], [(100, 250)]),
        ([(100, 200), (40, 300)], [(40, 300)]),
        ([(100, 200), (201, 300)], [(100, 200), (201, 300)]),
        ([(100, 200), (4096, 4100), (300, 400), (90, 99)], [(100, 200), (300, 400), (90, 99), (4096, 4100)]),
    ],
)
def test_which_writes_become_one(writes: list[Range], sent: list[Range]) -> None:
    async def story(world: World) -> list[Range]:
        local = await world.local_task()
        fd = await local.open("f", os.O_WRONLY | os.O_CREAT, 0o666)
        await local.write(fd, b"." * 8192)
        await local.close(fd)
        server = await world.server()
        seen: list[Range] = []

        async def answer(procedure: Procedure, header: CallHeader, args: Any) -> object:
            if isinstance(args, WriteArgs):
                seen.append((args.offset, args.offset + args.count))
                assert bytes(args.data) == b"x" * args.count
            return None

        ask_first(server, answer)
        task = (await world.client()).task()
        fd = await task.open("/mnt/f", os.O_WRONLY)
        for start, end in writes:
            await task.pwrite(fd, b"x" * (end - start), start)
        await task.close(fd)
        return seen

    assert run_world(story) == sent
