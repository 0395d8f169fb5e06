"""The hook on a real client: what it releases, what leaks when it is skipped, and what the audit says then."""

from __future__ import annotations

import os

import pytest

from freepage import ObjectState, RemovalPath, lru_add_drain
from freepage_client.machine import Machine
from freepage_client.vfs.task import Task
from freepage_lab.sim.world import World, run_world
from freepage_proto.rpc import AuthSys

PAGE = 4096
ORPHANED = ObjectState.ORPHANED


async def _file(task: Task, path: str, pages: int) -> None:
    fd = await task.open(path, os.O_RDWR | os.O_CREAT)
    await task.write(fd, os.urandom(pages * PAGE))
    await task.close(fd)


async def _read_all(task: Task, path: str) -> bytes:
    fd = await task.open(path, os.O_RDONLY)
    try:
        chunks = []
        while chunk := await task.read(fd, 65536):
            chunks.append(chunk)
        return b"".join(chunks)
    finally:
        await task.close(fd)


async def _truncate(machine: Machine, task: Task, world: World) -> None:
    await task.truncate("/mnt/f", 3 * PAGE)


async def _invalidate(machine: Machine, task: Task, world: World) -> None:
    local = await world.local_task()
    fd = await local.open("/f", os.O_WRONLY)
    await world.clock.sleep(1)
    await local.pwrite(fd, b"changed", 0)
    await local.close(fd)
    await _read_all(task, "/mnt/f")


async def _drop(machine: Machine, task: Task, world: World) -> None:
    await machine.drop_caches(1)


async def _reclaim(machine: Machine, task: Task, world: World) -> None:
    machine.resize_memory(8 * PAGE)


async def _evict(machine: Machine, task: Task, world: World) -> None:
    await task.unlink("/mnt/f")


PATHS = [
    (RemovalPath.TRUNCATE, _truncate),
    (RemovalPath.INVALIDATE, _invalidate),
    (RemovalPath.DROP, _drop),
    (RemovalPath.RECLAIM, _reclaim),
    (RemovalPath.EVICT, _evict),
]


@pytest.mark.parametrize("skipped", [False, True])
@pytest.mark.parametrize(("path", "act"), PATHS, ids=[path.value for path, _ in PATHS])
def test_each_path_releases_requests_or_leaks_them(path, act, skipped: bool) -> None:  # type: ignore[no-untyped-def]
    async def story(world: World) -> None:
        machine = await world.client("A", memory_bytes=1 << 20)
        task = machine.task()
        await _file(task, "/mnt/f", 40)
        await _read_all(task, "/mnt/f")
        cache = machine.cache
        resident = cache.nr_file_pages
        assert cache.ledger.live("nfs_page", ObjectState.CACHED, "fill") == resident
        if skipped:
            cache.policy.set(path, "skip")
        await act(machine, task, world)
        gone = cache.removed[path]
        assert gone > 0
        assert cache.removed[path] == cache.hook_calls[path] + cache.skipped[path]
        assert cache.ledger.live("nfs_page", ORPHANED) == (gone if skipped else 0)
        assert cache.ledger.pinned()["rpc_cred"] == (gone if skipped else 0)
        assert cache.skipped_owned[path] == (gone if skipped else 0)
        report = cache.ledger.audit(machine.roots_in_use(), cache.mappings)
        assert report.agrees, report.differences
        text = report.render()
        if skipped:
            assert "/mnt/f" in text and path.value in text
        await task.exit()
        left = await machine.umount("/mnt")
        assert bool(left) == skipped, left

    run_world(story, seed=3)


@pytest.mark.parametrize("skipped", [False, True])
def test_directory_pages_own_their_names(skipped: bool) -> None:
    async def story(world: World) -> None:
        local = await world.local_task()
        for i in range(300):
            await local.close(await local.open(f"/f{i}", os.O_WRONLY | os.O_CREAT))
        machine = await world.client()
        task = machine.task()
        await task.listdir("/mnt")
        ledger = machine.cache.ledger
        arrays, names = ledger.live("nfs_dir_array"), ledger.live("nfs_dir_name")
        assert (arrays, names) == (3, 302)  # 127 entries a page, and . and ..
        if skipped:
            machine.cache.policy.set(RemovalPath.INVALIDATE, "skip")
        await world.clock.sleep(1)
        await local.close(await local.open("/new", os.O_WRONLY | os.O_CREAT))
        await task.listdir("/mnt")
        assert ledger.live("nfs_dir_name", ORPHANED) == (302 if skipped else 0)
        assert ledger.live("nfs_dir_array", ORPHANED) == (3 if skipped else 0)
        assert ledger.live("nfs_dir_name") == 303 + (302 if skipped else 0)
        report = ledger.audit(machine.roots_in_use(), machine.cache.mappings)
        assert report.agrees, report.differences
        await task.exit()

    run_world(story)


def test_credentials_live_as_long_as_what_holds_them() -> None:
    async def story(world: World) -> None:
        machine = await world.client("A", memory_bytes=1 << 20)
        root = machine.task()
        await root.mkdir("/mnt/d")
        await root.chmod("/mnt/d", 0o777)
        user = machine.task(AuthSys(1000, 1000, (4, 24), "A"))
        ledger = machine.cache.ledger
        assert ledger.live("rpc_cred") == 2
        await _file(user, "/mnt/d/f", 5)
        await user.exit()
        assert ledger.live("rpc_cred") == 2, "five cached pages still hold the user's credential"
        assert ledger.live("rpc_cred", ObjectState.CACHED) == 1
        lru_add_drain(machine.cache.memcg)  # pages in the batch have a reference more, and would stay
        await machine.drop_caches(1)
        assert ledger.live("rpc_cred") == 1
        await root.exit()
        assert await machine.umount("/mnt") == []

    run_world(story)


def test_the_audit_agrees_while_calls_are_under_way() -> None:
    async def story(world: World) -> None:
        import asyncio

        machine = await world.client("A", "rsize=4096,wsize=4096", memory_bytes=1 << 20)
        task = machine.task()
        await _file(task, "/mnt/f", 64)
        await machine.drop_caches(3)
        work = [
            asyncio.get_running_loop().create_task(_read_all(task, "/mnt/f")),
            asyncio.get_running_loop().create_task(_file(machine.task(), "/mnt/g", 64)),
        ]
        seen = set()
        while not all(one.done() for one in work):
            await world.clock.sleep(0.000_3)
            report = machine.cache.ledger.audit(machine.roots_in_use(), machine.cache.mappings)
            assert report.agrees, report.differences
            seen.add(machine.cache.ledger.live("nfs_page", ObjectState.IN_USE) > 0)
        assert seen == {True, False}
        for task in list(machine.tasks):
            await task.exit()

    run_world(story)
