"""Mounts of several directories of one file system: a superblock, and so a cache, for all of them, as on Linux 6.1.192.

The calls after each step are those that a real kernel sent (recorded on 2026-11-26, its mount(2) alone, no mount.nfs),
but for UMNT, which umount.nfs sends.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from freepage_client.machine import Machine
from freepage_client.nfs.dcache import is_subdir
from freepage_client.nfs.mountstats import render_mountstats
from freepage_lab.sim.world import EXPORT, SERVER, World, run_world
from freepage_proto.rpc import CallHeader, Procedure
from server_rig import ask_first

MOUNT_FIRST = "MOUNT_NULL MOUNT_MNT NULL FSINFO PATHCONF GETATTR NFSACL_NULL FSINFO GETATTR"
MOUNT_MORE = "MOUNT_NULL MOUNT_MNT FSINFO PATHCONF GETATTR NFSACL_NULL FSINFO GETATTR"
UMOUNT = "MOUNT_UMNT"


class Story:
    """A machine with nothing mounted, and what it has sent since somebody looked."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.sent: list[str] = []
        self.machine = world.machine("A")
        self.task = self.machine.task()

    @classmethod
    async def begin(cls, world: World) -> Story:
        self = cls(world)
        server = await world.server()
        local = await world.local_task()
        for directory in ("/d1", "/d1/sub", "/d2"):
            await local.mkdir(directory)
        for name in ("/d1/f", "/d1/g", "/d1/sub/k", "/d2/h", "/top"):
            fd = await local.open(name, os.O_WRONLY | os.O_CREAT)
            await local.write(fd, b"x" * 5000)
            await local.close(fd)
        await world.clock.sleep(1)

        async def answer(procedure: Procedure, header: CallHeader, args: Any) -> object:
            self.sent.append(procedure.name)
            return None

        ask_first(server, answer)
        return self

    async def mount(self, path: str, mountpoint: str, options: str = "") -> None:
        await self.machine.mount(f"{SERVER}:{EXPORT}{path}", mountpoint, options)

    async def read(self, path: str) -> int:
        fd = await self.task.open(path, os.O_RDONLY)
        try:
            return len(await self.task.read(fd, 10000))
        finally:
            await self.task.close(fd)

    async def step(self, work: Awaitable[object], calls: str) -> None:
        await work
        await self.world.clock.sleep(0.05)
        sent, self.sent = self.sent, []
        assert [name for name in sent if name != "NFSACL_GETACL"] == calls.split()

    async def fails(self, work: Awaitable[object], why: int, calls: str) -> None:
        async def failing() -> None:
            with pytest.raises(OSError) as failure:
                await work
            assert failure.value.errno == why

        await self.step(failing(), calls)


def tell(story: Callable[[Story], Awaitable[None]]) -> None:
    async def act(world: World) -> None:
        told = await Story.begin(world)
        await story(told)
        await told.task.exit()
        machine = told.machine
        for mount in list(machine.mounts):
            assert await machine.umount(mount.mountpoint) == []
        assert not machine.superblocks() and not machine.cache.nr_file_pages
        assert {name: cache.active for name, cache in machine.cache.ledger.caches.items() if cache.active} == {
            "rpc_cred": 1
        }

    run_world(act)


def test_directories_of_one_file_system_share_names_and_pages() -> None:
    async def story(s: Story) -> None:
        await s.step(s.mount("/d1", "/1"), MOUNT_FIRST)
        await s.step(s.read("/1/f"), "ACCESS LOOKUP ACCESS READ")
        await s.step(s.mount("/d2", "/2"), MOUNT_MORE)
        assert len(s.machine.superblocks()) == 1
        await s.step(s.read("/2/h"), "ACCESS LOOKUP ACCESS READ")
        await s.step(s.mount("", "/3"), MOUNT_MORE)
        await s.step(s.read("/3/d1/f"), "ACCESS LOOKUP GETATTR")
        one, _, three = s.machine.mounts
        assert one.root.path() == "/d1" and is_subdir(one.root, three.root)
        await s.step(s.task.stat("/1/f"), "")
        await s.step(s.task.stat("/1/g"), "LOOKUP")
        await s.step(s.task.stat("/3/d1/g"), "")
        await s.step(s.mount("/d1", "/4"), MOUNT_MORE)
        await s.step(s.read("/4/f"), "GETATTR")
        await s.step(s.task.rename("/3/d1", "/3/dx"), "RENAME")
        await s.step(s.task.stat("/1/f"), "ACCESS LOOKUP")
        await s.step(s.read("/1/f"), "ACCESS GETATTR")
        assert one.root.path() == "/dx"
        await s.step(s.machine.umount("/1"), UMOUNT)
        await s.step(s.read("/4/f"), "GETATTR")
        await s.fails(s.task.rename("/2/h", "/4/h"), errno.EXDEV, "")
        await s.fails(s.task.link("/2/h", "/4/h"), errno.EXDEV, "")
        fd = await s.task.open("/4/f", os.O_RDWR)
        s.sent.clear()
        await s.step(s.machine.umount("/3"), UMOUNT)
        await s.fails(s.machine.umount("/4"), errno.EBUSY, "")
        await s.step(s.task.unlink("/4/f"), "LOOKUP RENAME")
        await s.task.write(fd, b"y" * 100)
        await s.step(s.task.close(fd), "WRITE REMOVE")
        await s.step(s.machine.umount("/2"), UMOUNT)

    tell(story)


def test_what_is_removed_below_one_mount_is_gone_below_the_other() -> None:
    async def story(s: Story) -> None:
        await s.mount("", "/3")
        await s.task.stat("/3/d1/sub/k")
        s.sent.clear()
        await s.step(s.mount("/d1/sub", "/5"), MOUNT_MORE)
        await s.step(s.read("/5/k"), "GETATTR ACCESS READ")
        await s.step(s.task.stat("/5/k"), "")
        await s.fails(s.task.rmdir("/3/d1/sub"), errno.ENOTEMPTY, "RMDIR")
        await s.step(s.task.unlink("/5/k"), "REMOVE")
        await s.step(s.task.rmdir("/3/d1/sub"), "RMDIR")
        await s.fails(s.task.stat("/5"), errno.ESTALE, "GETATTR")
        await s.fails(s.task.listdir("/5"), errno.ESTALE, "GETATTR GETATTR")
        await s.world.clock.sleep(40)
        await s.fails(s.task.stat("/5"), errno.ESTALE, "GETATTR")
        await s.step(s.machine.umount("/5"), UMOUNT)

    tell(story)


def test_dirty_data_of_one_mount_are_the_other_s() -> None:
    async def story(s: Story) -> None:
        await s.mount("/d2", "/2")
        fd = await s.task.open("/2/n", os.O_WRONLY | os.O_CREAT)
        await s.task.write(fd, b"q" * 9000)
        await s.mount("", "/3")
        s.sent.clear()
        await s.step(s.task.stat("/3/d2/n"), "ACCESS LOOKUP WRITE")
        await s.machine.drop_caches(2)
        await s.step(s.task.stat("/2/n"), "ACCESS")
        await s.step(s.task.stat("/3/d2/n"), "ACCESS")
        await s.step(s.task.close(fd), "")
        await s.step(s.machine.umount("/2"), UMOUNT)
        await s.step(s.task.stat("/3/d2/n"), "")

    tell(story)


def test_a_root_that_nobody_uses_is_a_name_like_others() -> None:
    async def story(s: Story) -> None:
        await s.mount("/d1", "/1")
        await s.mount("/d2", "/2")
        superblock = s.machine.mounts[0].superblock
        assert len(superblock.roots) == 2
        await s.machine.umount("/1")
        await s.machine.drop_caches(2)
        assert list(superblock.roots) == [s.machine.mounts[0].root]

    tell(story)


def test_two_dots_lead_out_of_a_mount_to_where_its_mount_point_is() -> None:
    async def story(s: Story) -> None:
        await s.mount("", "/3")
        await s.mount("/d1", "/1")
        await s.task.stat("/3/d1/sub")
        assert (await s.task.stat("/1/../3/d1")).st_ino == (await s.task.stat("/1")).st_ino
        with pytest.raises(FileNotFoundError):
            await s.task.stat("/1/../sub")  # and not to the directory's parent on the server
        assert (await s.task.stat("/1/sub/..")).st_ino == (await s.task.stat("/1")).st_ino
        await s.task.chdir("/1/sub")
        await s.task.rename("/3/d1/sub", "/3/sub")
        with pytest.raises(FileNotFoundError):
            await s.task.stat("..")  # it is no longer below what is mounted there
        await s.task.chdir("/3")

    tell(story)


def test_superblocks_of_one_server_count_one_transport() -> None:
    async def story(s: Story) -> None:
        await s.mount("/d1", "/1")
        await s.mount("/d1", "/2", "nosharecache")
        await s.task.stat("/2/f")
        machine: Machine = s.machine
        text = render_mountstats(machine.mounts, machine.clock.now())
        lines = [line for line in text.splitlines() if "xprt:" in line]
        assert len(lines) == 2 and len(set(lines)) == 1
        assert len({line for line in text.splitlines() if "LOOKUP:" in line}) == 2
        first = machine.mounts[0].stats.xprt.sends
        for point in ("/1", "/2"):
            await machine.umount(point)
        await s.mount("/d1", "/1")
        assert 0 < machine.mounts[0].stats.xprt.sends < first

    tell(story)


def test_an_open_directory_that_was_removed_is_stale() -> None:
    async def story(s: Story) -> None:
        local = await s.world.local_task()
        await local.mkdir("/gone")
        await s.world.clock.sleep(1)
        await s.mount("", "/3", "acdirmin=2,acdirmax=2,acregmin=2,acregmax=2")
        fd = await s.task.open("/3/gone", os.O_RDONLY | os.O_DIRECTORY)
        s.sent.clear()
        await s.step(s.task.fstat(fd), "")
        await s.step(s.task.rmdir("/3/gone"), "RMDIR")
        await s.fails(s.task.fstat(fd), errno.ESTALE, "GETATTR")
        await s.fails(s.task.getdents(fd), errno.ENOENT, "")  # IS_DEADDIR, before the file system is asked
        await s.world.clock.sleep(3)
        await s.fails(s.task.fstat(fd), errno.ESTALE, "GETATTR")
        await s.step(s.task.fsync(fd), "")
        await s.step(s.task.close(fd), "")

    tell(story)


def test_an_open_directory_that_the_server_removed_is_stale_when_its_attributes_have_expired() -> None:
    async def story(s: Story) -> None:
        local = await s.world.local_task()
        await local.mkdir("/gone")
        await s.world.clock.sleep(1)
        await s.mount("", "/3", "acdirmin=2,acdirmax=2,acregmin=2,acregmax=2")
        fd = await s.task.open("/3/gone", os.O_RDONLY | os.O_DIRECTORY)
        await local.rmdir("/gone")
        s.sent.clear()
        await s.step(s.task.fstat(fd), "")
        await s.world.clock.sleep(3)
        await s.fails(s.task.fstat(fd), errno.ESTALE, "GETATTR GETATTR GETATTR")
        await s.fails(s.task.fstat(fd), errno.ESTALE, "GETATTR GETATTR GETATTR")
        await s.fails(s.task.stat("/3/gone"), errno.ENOENT, "GETATTR ACCESS LOOKUP LOOKUP")
        await s.task.close(fd)

    tell(story)


def test_a_working_directory_that_was_removed_is_stale() -> None:
    async def story(s: Story) -> None:
        local = await s.world.local_task()
        await local.mkdir("/gone")
        await s.world.clock.sleep(1)
        await s.mount("", "/3", "acdirmin=2,acdirmax=2,acregmin=2,acregmax=2")
        await s.task.chdir("/3/gone")
        await s.task.stat(".")
        s.sent.clear()
        await s.step(s.task.rmdir("/3/gone"), "RMDIR")
        await s.fails(s.task.stat("."), errno.ESTALE, "GETATTR")
        await s.world.clock.sleep(3)
        await s.fails(s.task.stat("."), errno.ESTALE, "ACCESS ACCESS")
        await s.fails(s.task.open("zz", os.O_WRONLY | os.O_CREAT), errno.ESTALE, "ACCESS ACCESS")
        await s.task.chdir("/3")

    tell(story)
