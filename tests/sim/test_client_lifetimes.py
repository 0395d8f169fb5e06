"""With the hook on nothing outlives a mount, whichever way its calls ended: success, error, retry, truncation."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable

import pytest

from freepage_client.vfs.task import Task
from freepage_lab.sim.network import Fault
from freepage_lab.sim.world import SERVER, World, run_world
from freepage_proto.rpc import Procedure

DATA = bytes(300_000)
RDWR = os.O_RDWR | os.O_CREAT
Act = Callable[[World, Task], Awaitable[None]]


def _fault(world: World, procedure: Procedure, **what: object) -> None:
    world.network.faults.append(Fault(frozenset({procedure}), **what))  # type: ignore[arg-type]


async def _written(task: Task) -> int:
    fd = await task.open("/mnt/f", RDWR)
    await task.write(fd, DATA)
    return fd


async def success(world: World, task: Task) -> None:
    await task.fsync(await _written(task))


async def never_written(world: World, task: Task) -> None:
    """The flusher never came: unmounting writes."""
    await task.close(await _written(task))


async def lost_write(world: World, task: Task) -> None:
    fd = await _written(task)
    _fault(world, Procedure.WRITE, lose_request=True, times=2)
    await task.fsync(fd)


async def lost_commit_reply(world: World, task: Task) -> None:
    fd = await _written(task)
    _fault(world, Procedure.COMMIT, lose_reply=True, times=1)
    await task.fsync(fd)


async def soft_timeout_of_a_write(world: World, task: Task) -> None:
    fd = await _written(task)
    _fault(world, Procedure.WRITE, lose_request=True, times=40)
    with pytest.raises(OSError):
        await task.fsync(fd)


async def soft_timeout_of_a_commit(world: World, task: Task) -> None:
    fd = await _written(task)
    _fault(world, Procedure.COMMIT, lose_request=True, times=40)
    with pytest.raises(OSError):
        await task.fsync(fd)


async def soft_timeout_of_a_read(world: World, task: Task) -> None:
    await success(world, task)
    await task.machine.drop_caches(3)
    fd = await task.open("/mnt/f", os.O_RDONLY)
    _fault(world, Procedure.READ, lose_request=True, times=40)
    with pytest.raises(OSError):
        await task.pread(fd, 65536, 0)


async def truncated_while_it_is_written(world: World, task: Task) -> None:
    fd = await _written(task)
    _fault(world, Procedure.WRITE, delay_s=1.0)
    writing = asyncio.get_running_loop().create_task(task.fsync(fd))
    await world.clock.sleep(0.5)
    await task.ftruncate(fd, 5000)
    await writing
    world.network.faults.clear()


async def truncated_while_it_is_committed(world: World, task: Task) -> None:
    fd = await _written(task)
    _fault(world, Procedure.COMMIT, delay_s=1.0)
    writing = asyncio.get_running_loop().create_task(task.fsync(fd))
    await world.clock.sleep(0.5)
    await task.ftruncate(fd, 0)
    await writing
    world.network.faults.clear()


async def crash_between_write_and_commit(world: World, task: Task) -> None:
    fd = await _written(task)
    _fault(world, Procedure.COMMIT, lose_request=True, times=1)
    syncing = asyncio.get_running_loop().create_task(task.fsync(fd))
    await world.clock.sleep(0.5)
    await world.servers[SERVER].crash(boot_ns=2)
    await syncing
    assert task.machine.resent_pages


async def gone_on_the_server(world: World, task: Task) -> None:
    fd = await _written(task)
    await (await world.local_task()).unlink("/f")
    with pytest.raises(OSError):
        await task.fsync(fd)


async def unlinked_while_open_and_dirty(world: World, task: Task) -> None:
    fd = await _written(task)
    await task.unlink("/mnt/f")
    await task.pwrite(fd, DATA, 0)
    await task.close(fd)


async def replaced_while_open_and_dirty(world: World, task: Task) -> None:
    fd = await _written(task)
    await task.close(await task.open("/mnt/g", RDWR))
    await task.rename("/mnt/g", "/mnt/f")
    with contextlib.suppress(OSError):
        await task.close(fd)


async def a_listing_given_up_half_way(world: World, task: Task) -> None:
    await task.mkdir("/mnt/d")
    for number in range(300):
        await task.close(await task.open(f"/mnt/d/{number:030}", RDWR))
    _fault(world, Procedure.READDIRPLUS, lose_request=True, times=40)
    _fault(world, Procedure.READDIR, lose_request=True, times=40)
    with pytest.raises(OSError):
        await task.listdir("/mnt/d")


WAYS: tuple[Act, ...] = (
    success,
    never_written,
    lost_write,
    lost_commit_reply,
    soft_timeout_of_a_write,
    soft_timeout_of_a_commit,
    soft_timeout_of_a_read,
    truncated_while_it_is_written,
    truncated_while_it_is_committed,
    crash_between_write_and_commit,
    gone_on_the_server,
    unlinked_while_open_and_dirty,
    replaced_while_open_and_dirty,
    a_listing_given_up_half_way,
)


@pytest.mark.parametrize("act", WAYS, ids=lambda act: act.__name__)
def test_every_slab_cache_is_empty_after_unmounting(act: Act) -> None:
    async def story(world: World) -> None:
        machine = await world.client("A", "soft,timeo=50,retrans=2,wsize=65536,rsize=65536")
        task = machine.task()
        await act(world, task)
        world.network.faults.clear()
        assert machine.audit().differences == []
        await task.exit()
        assert await machine.umount("/mnt") == []
        left = {name: cache.active for name, cache in machine.cache.ledger.caches.items() if cache.active}
        assert left == {"rpc_cred": 1}, "but for the machine's own credential"
        assert not machine._io

    run_world(story)
