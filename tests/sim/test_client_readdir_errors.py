"""A server that cannot list a directory: the caller hears of it, and nothing of the answer is believed."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from freepage_lab.sim.world import World, run_world
from freepage_proto.nfs3 import NfsStat3, ReaddirRes
from freepage_proto.rpc import CallHeader, Procedure
from server_rig import ask_first


@pytest.mark.parametrize("options", ["", "nordirplus"])
@pytest.mark.parametrize(
    ("status", "error"),
    [(NfsStat3.IO, errno.EIO), (NfsStat3.ACCES, errno.EACCES), (NfsStat3.STALE, errno.ESTALE)],
)
def test_a_listing_that_fails_is_an_error_and_the_next_one_asks_again(
    options: str, status: NfsStat3, error: int
) -> None:
    async def story(world: World) -> None:
        local = await world.local_task()
        await local.mkdir("d")
        await local.mkdir("d/sub")
        server = await world.server()
        failing = True

        async def answer(procedure: Procedure, header: CallHeader, args: Any) -> object:
            if failing and procedure in (Procedure.READDIR, Procedure.READDIRPLUS):
                return ReaddirRes(status)
            return None

        ask_first(server, answer)
        task = (await world.client("A", options)).task()
        for _ in range(2):
            with pytest.raises(OSError) as caught:
                await task.listdir("/mnt/d")
            assert caught.value.errno == error
        failing = False
        assert await task.listdir("/mnt/d") == [b"sub"]

    run_world(story)
