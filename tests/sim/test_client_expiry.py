"""A cached read asks in one comparison what the attribute cache asks in several steps; both must say the same."""

from __future__ import annotations

import os

import pytest

from freepage_client.nfs.file import NfsFile
from freepage_lab.sim.world import World, run_world


def agree(file: NfsFile) -> bool:
    """May the file be read from the cache now? Asked both ways. There is nothing dirty and nothing under way."""
    hit = file.read_nowait(0, 10) is not None
    assert hit == (not file.inode.mapping_needs_revalidation())
    return hit


@pytest.mark.parametrize("options", ["", "acregmin=1,acregmax=2", "actimeo=7", "noac"])
def test_hits_end_with_the_tick_in_which_the_attributes_do(options: str) -> None:
    async def story(world: World) -> list[bool]:
        local = await world.local_task()
        machine = await world.client("A", options)
        task = machine.task()
        fd = await task.open("/mnt/f", os.O_RDWR | os.O_CREAT)
        await task.write(fd, b"x" * 5000)
        await task.fsync(fd)
        file = task.files[fd].file
        assert file is not None
        answers = []
        for step in range(400):
            await task.pread(fd, 10, 0)
            answers.append(agree(file))
            if step == 150:
                other = await local.open("f", os.O_WRONLY)
                await local.write(other, b"changed by somebody else")
                await local.close(other)
            # Seven of these are a tick and a bit: the steps fall everywhere in ticks, and on their edges.
            await world.clock.sleep(0.0005717 if step % 3 else 0.004 * (step % 11))
            if step % 40 == 39:
                await world.clock.sleep(1.0)
            answers.append(agree(file))
        file.inode.set_stale()
        assert not agree(file)
        return answers

    answers = run_world(story)
    assert (True in answers) == ("noac" not in options)
    assert False in answers
