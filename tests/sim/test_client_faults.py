"""The NFS client's own lifecycle faults: the audit sees each of them, and nothing when none is armed."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

import freepage
from freepage import RemovalPath
from freepage.faults import SiteFault
from freepage_client.machine import Machine
from freepage_client.nfs.faults import NFS_GALLERY
from freepage_lab.sim.world import World, run_world

LOCKING = Path(freepage.__file__).parent.parent / "LOCKING.md"


async def write_and_fsync(world: World, machine: Machine) -> None:
    task = machine.task()
    fd = await task.open("/mnt/f", os.O_RDWR | os.O_CREAT)
    await task.write(fd, bytes(8192))
    await task.fsync(fd)
    await task.close(fd)
    await task.exit()


async def list_a_directory_of_two_pages(world: World, machine: Machine) -> None:
    local = await world.local_task()
    for number in range(200):
        await local.close(await local.open(f"/f{number}", os.O_WRONLY | os.O_CREAT))
    task = machine.task()
    await task.listdir("/mnt")
    await task.exit()


async def write_again_what_waits_for_a_commit(world: World, machine: Machine) -> None:
    task = machine.task()
    fd = await task.open("/mnt/f", os.O_RDWR | os.O_CREAT)
    await task.write(fd, bytes(8192))
    inode = next(inode for inode in machine.mounts[0].inodes.values() if inode.write_requests)
    await freepage.wait_on_page_writeback_range(inode.mapping)
    assert inode.commit_list, "the story needs uncommitted pages"
    await task.lseek(fd, 0, os.SEEK_SET)
    await task.write(fd, bytes(8192))
    await task.close(fd)
    await task.exit()


STORIES: dict[str, Callable[[World, Machine], Awaitable[None]]] = {
    "leak_subrequest": write_and_fsync,
    "leak_name": list_a_directory_of_two_pages,
    "keep_private": write_and_fsync,
    "keep_request": write_and_fsync,
    "keep_commit_accounting": write_again_what_waits_for_a_commit,
}
SEEN = {
    "leak_subrequest": "nfs_page (write)",
    "leak_name": "nfs_dir_name",
    "keep_private": "is private, and its write request is gone",
    "keep_request": "still counts a write request of page 0 that is gone",
    "keep_commit_accounting": "pages count as uncommitted, 0 wait for a COMMIT",
}


@pytest.mark.parametrize("armed", [True, False], ids=["armed", "off"])
@pytest.mark.parametrize("kind", NFS_GALLERY, ids=[kind.name for kind in NFS_GALLERY])
def test_the_audit_sees_the_fault_and_nothing_without_it(kind: type[SiteFault], armed: bool) -> None:
    async def story(world: World) -> None:
        # Eager writeback sends no COMMIT of its own. Not strict: the damage is counted, as in a daemon.
        machine = await world.client("A", "write=eager", strict=not armed)
        if armed:
            machine.cache.faults.set(kind.name)
        await STORIES[kind.name](world, machine)
        report = machine.audit()
        if armed:
            assert machine.cache.faults.injected()[kind.name] > 0
            assert not report.agrees
            assert any(SEEN[kind.name] in line for line in report.differences), report.differences
            machine.cache.faults.clear()
        else:
            assert report.agrees, report.differences
            assert await machine.umount("/mnt") == []

    run_world(story, seed=11)


def test_a_fault_of_the_file_system_has_no_removal_path() -> None:
    async def story(world: World) -> None:
        faults = (await world.client("A")).cache.faults
        with pytest.raises(ValueError, match="'leak_name' strikes on no removal path"):
            faults.set("leak_name", RemovalPath.DROP)
        faults.parse("leak_name:every=2:inode=/mnt")
        assert faults.injected() == {"leak_name": 0}

    run_world(story, seed=11)


def test_the_table_of_the_documentation_is_the_gallery() -> None:
    rows = []
    for kind in NFS_GALLERY:
        seen = ", ".join(f"`{rule}`" if rule in freepage.RULES else rule for rule in kind.caught_by)
        rows.append(f"| {kind.name} | {kind.bug} | {', '.join(map(str, kind.classes))} | {seen} |")
    text = LOCKING.read_text(encoding="utf-8")
    table = text[text.index("| client fault |") :].split("\n\n")[0].splitlines()[2:]
    assert table == rows
