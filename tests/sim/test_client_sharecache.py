"""Two mounts of one export on one machine: one superblock with ``sharecache``, two without; what each has alone."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import Any

import pytest

from freepage_client.machine import Machine
from freepage_client.nfs.dcache import Dentry
from freepage_client.nfs.mountstats import render_mountstats
from freepage_lab.sim.world import EXPORT, SERVER, World, run_world
from freepage_proto.rpc import CallHeader, Procedure
from server_rig import ask_first

SOURCE = f"{SERVER}:{EXPORT}"


async def _two(world: World, first: str = "", second: str = "") -> Machine:
    machine = await world.client("A", first)
    await machine.mount(SOURCE, "/two", second)
    return machine


def _ops(machine: Machine, procedure: Procedure) -> int:
    return sum(superblock.stats.ops[procedure].ops for superblock in machine.superblocks())


def test_what_one_mount_has_read_is_there_for_the_other() -> None:
    async def story(world: World) -> None:
        machine = await _two(world)
        task = machine.task()
        fd = await task.open("/mnt/f", os.O_RDWR | os.O_CREAT)
        await task.write(fd, b"x" * 10000)
        await task.close(fd)
        await machine.drop_caches(1)
        for path in ("/mnt/f", "/two/f"):
            fd = await task.open(path, os.O_RDONLY)
            assert await task.read(fd, 10000) == b"x" * 10000
            await task.close(fd)
            assert _ops(machine, Procedure.READ) == 1
        asked = _ops(machine, Procedure.GETATTR)
        await task.stat("/mnt/f")
        await task.stat("/two/f")
        assert _ops(machine, Procedure.GETATTR) == asked
        await task.unlink("/two/f")
        lookups = _ops(machine, Procedure.LOOKUP)
        with pytest.raises(FileNotFoundError):
            await task.stat("/mnt/f")
        assert _ops(machine, Procedure.LOOKUP) == lookups
        await task.exit()

    run_world(story)


@pytest.mark.parametrize(
    ("first", "second", "superblocks"),
    [
        ("", "", 1),
        ("", "timeo=100,retrans=5,noatime,namlen=255", 1),
        ("rsize=65536", "rsize=65537", 1),
        ("acregmin=3", "", 1),
        ("", "nosharecache", 2),
        ("nosharecache", "", 2),
        ("", "rsize=65536", 2),
        ("", "wsize=65536", 2),
        ("", "acdirmax=61", 2),
        ("", "noac", 2),
        ("", "sync", 2),
        ("", "ro", 2),
        ("", "nocto", 2),
        ("", "soft", 2),
        ("", "nolock", 2),
        ("", "noacl", 2),
        ("", "nordirplus", 2),
        ("", "lookupcache=none", 2),
        ("", "write=eager", 2),
    ],
)
def test_which_options_keep_mounts_apart(first: str, second: str, superblocks: int) -> None:
    async def story(world: World) -> None:
        machine = await _two(world, first, second)
        assert len(machine.superblocks()) == superblocks
        task = machine.task()
        for mount in machine.mounts:
            await task.stat(mount.mountpoint)
        await task.exit()

    run_world(story)


def test_the_second_mount_asks_before_it_finds_the_first() -> None:
    async def story(world: World) -> None:
        server = await world.server()
        seen: list[Procedure] = []

        async def answer(procedure: Procedure, header: CallHeader, args: Any) -> object:
            seen.append(procedure)
            return None

        ask_first(server, answer)
        machine = await world.client("A")
        first = seen.copy()
        seen.clear()
        await machine.mount(SOURCE, "/two")
        assert first.pop(2) is Procedure.NULL
        assert seen == first
        stats = machine.mounts[1].stats.ops
        assert (stats[Procedure.NULL].ops, stats[Procedure.FSINFO].ops) == (1, 3)
        seen.clear()
        assert await machine.umount("/mnt") == []
        assert seen == [Procedure.MOUNT_UMNT]

    run_world(story)


def test_each_mount_is_busy_by_itself() -> None:
    async def story(world: World) -> None:
        machine = await _two(world)
        task = machine.task()
        fd = await task.open("/two/f", os.O_RDWR | os.O_CREAT)
        await task.write(fd, b"kept")
        assert await machine.umount("/mnt") == []
        with pytest.raises(FileNotFoundError):
            await task.stat("/mnt/f")
        assert await task.pread(fd, 4, 0) == b"kept"
        with pytest.raises(OSError) as busy:
            await machine.umount("/two")
        assert busy.value.errno == errno.EBUSY
        await task.close(fd)
        await task.chdir("/two")
        await machine.mount(SOURCE, "/mnt")
        with pytest.raises(OSError) as busy:
            await machine.umount("/two")
        assert busy.value.errno == errno.EBUSY
        place = await task.open("/mnt/f", os.O_PATH)
        with pytest.raises(OSError) as busy:
            await machine.umount("/mnt")
        assert busy.value.errno == errno.EBUSY
        await task.close(place)
        await task.chdir("/mnt")
        assert await machine.umount("/two") == []
        await task.exit()
        assert await machine.umount("/mnt") == []
        assert not machine.superblocks() and not machine.cache.nr_file_pages
        caches = machine.cache.ledger.caches.values()
        assert [obj for cache in caches for obj in cache.objects] == [machine.cred]
        assert not any(cache.runs for cache in caches)

    run_world(story)


def test_who_gave_up_waiting_for_the_last_unmounting_may_try_again() -> None:
    async def story(world: World) -> None:
        machine = await _two(world)
        task = machine.task()
        fd = await task.open("/mnt/f", os.O_RDWR | os.O_CREAT)
        await task.close(fd)
        await task.exit()
        assert await machine.umount("/two") == []
        wait, machine.drain_tasks = machine.drain_tasks, asyncio.Event().wait  # type: ignore[method-assign, assignment]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(machine.umount("/mnt"), 1)
        machine.drain_tasks = wait  # type: ignore[method-assign]
        assert await machine.umount("/mnt") == []

    run_world(story)


def test_a_mount_that_fails_after_the_last_other_one_went_loses_no_data() -> None:
    async def story(world: World) -> None:
        machine = await world.client("A")
        task = machine.task()
        fd = await task.open("/mnt/f", os.O_RDWR | os.O_CREAT)
        await task.write(fd, b"data")
        superblock = machine.mounts[0].superblock

        async def get_root(root: bytes, cred: object) -> Dentry:
            open_file = task.files.pop(fd)  # no flush: as a process that was killed while its server was away
            await task.release(open_file)
            assert await machine.umount("/mnt") == []
            raise PermissionError

        superblock.get_root = get_root  # type: ignore[method-assign]
        with pytest.raises(PermissionError):
            await machine.mount(SOURCE, "/two")
        await task.exit()
        assert not machine.superblocks() and not superblock.inodes and not machine.cache.nr_file_pages
        local = await world.local_task()
        assert (await local.stat("/f")).st_size == 4

    run_world(story)


def test_nothing_is_renamed_or_linked_from_one_mount_to_the_other() -> None:
    async def story(world: World) -> None:
        machine = await _two(world)
        task = machine.task()
        await task.close(await task.open("/mnt/f", os.O_RDWR | os.O_CREAT))
        for call in (task.rename, task.link):
            with pytest.raises(OSError) as crossed:
                await call("/mnt/f", "/two/g")
            assert crossed.value.errno == errno.EXDEV
            await call("/two/f", f"/two/{call.__name__}")
            if call == task.rename:
                await task.rename("/two/rename", "/two/f")
        await task.exit()

    run_world(story)


def test_mountstats_lists_each_mount_with_the_counts_they_share() -> None:
    async def story(world: World) -> None:
        machine = await _two(world, "", "noatime")
        blocks = render_mountstats(machine.mounts, world.clock.now()).split("\n\n")
        one, two = (block.splitlines() for block in blocks if block)
        assert one[0] == f"device {SOURCE} mounted on /mnt with fstype nfs statvers=1.1"
        assert two[0] == f"device {SOURCE} mounted on /two with fstype nfs statvers=1.1"
        assert two[1] == one[1].replace("\trw,", "\trw,noatime,")
        assert one[2:] == two[2:]

    run_world(story)


def test_a_leak_is_told_when_the_superblock_goes() -> None:
    async def story(world: World) -> None:
        machine = await _two(world)
        task = machine.task()
        fd = await task.open("/mnt/f", os.O_RDWR | os.O_CREAT)
        await task.write(fd, b"x")
        await task.close(fd)
        await task.exit()
        inode = next(inode for inode in machine.mounts[0].inodes.values() if inode.is_reg)
        inode.dentries[0].count += 1
        assert await machine.umount("/mnt") == []
        assert await machine.umount("/two") == ["busy: /two/f"]
        inode.dentries[0].count -= 1

    run_world(story)
