"""A full server: at which call the error is told, to whom, and what is sent meanwhile.

Each script and what came of it were recorded on Linux 6.1.192 with knfsd on a file system with 1 MiB left. A WRITE that
fails changes knfsd's write verifier, and ours: what the server has taken before comes again.
"""

from __future__ import annotations

import dataclasses
import errno
import itertools
import os
from collections.abc import Sequence
from typing import Any

import pytest

from freepage_client.vfs.task import Task
from freepage_lab.conform.recorder import run_lengths
from freepage_lab.sim.world import World, run_world
from freepage_proto.nfs3 import NfsStat3, WriteRes
from freepage_proto.rpc import CallHeader, Procedure, Program
from freepage_server.nfsd.memory import MemoryStorage
from server_rig import ask_first

MIB = 1 << 20
RDWR = os.O_RDWR | os.O_CREAT

Step = tuple[str, Any, str]
"""What is called, its operands, and what is sent until the next one."""

CREATED = "ACCESS LOOKUP CREATE"
OPENED = "ACCESS GETATTR ACCESS"
FULL = "WRITE*3 COMMIT"

SCRIPTS: dict[str, tuple[str, Sequence[Step]]] = {
    "fsync tells it once, and sends again what the server has forgotten": (
        "",
        [
            ("open", ("x", RDWR), CREATED),
            ("write", ("x", 3 * MIB), ""),
            ("fsync", ("x", errno.ENOSPC), FULL),
            ("fsync", ("x",), "WRITE"),
            ("write", ("x", 100), ""),
            ("fsync", ("x", errno.ENOSPC), "WRITE"),
            ("close", ("x",), ""),
            ("size", ("f", MIB), "ACCESS GETATTR"),
        ],
    ),
    "close tells it, and leaves it to a later opener's fsync": (
        "",
        [
            ("open", ("x", RDWR), CREATED),
            ("write", ("x", 3 * MIB), ""),
            ("close", ("x", errno.ENOSPC), FULL),
            ("open", ("y", RDWR), OPENED),
            ("fsync", ("y", errno.ENOSPC), "WRITE"),
            ("pread", ("y", 4096), "READ"),
            ("close", ("y",), ""),
        ],
    ),
    "each of two closes tells what nobody has fsynced": (
        "",
        [
            ("open", ("x", RDWR), CREATED),
            ("open", ("y", RDWR), OPENED),
            ("write", ("x", 3 * MIB), ""),
            ("close", ("y", errno.ENOSPC), FULL),
            ("close", ("x", errno.ENOSPC), "WRITE"),
        ],
    ),
    "each descriptor hears of it once, a later one not at all": (
        "",
        [
            ("open", ("x", RDWR), CREATED),
            ("open", ("y", RDWR), OPENED),
            ("write", ("x", 3 * MIB), ""),
            ("fsync", ("x", errno.ENOSPC), FULL),
            ("fsync", ("x",), "WRITE"),
            ("fsync", ("y", errno.ENOSPC), ""),
            ("fsync", ("y",), ""),
            ("open", ("z", RDWR), "GETATTR"),
            ("fsync", ("z",), ""),
            ("close", ("x",), ""),
            ("close", ("y",), ""),
            ("close", ("z",), ""),
        ],
    ),
    "what the flusher met, the next write tells": (
        "",
        [
            ("open", ("x", RDWR), CREATED),
            ("write", ("x", 3 * MIB), ""),
            ("sleep", (12,), FULL),
            ("pwrite", ("x", 100, errno.ENOSPC), "WRITE READ WRITE"),
            ("pwrite", ("x", 100), ""),
            ("fsync", ("x",), "WRITE"),
            ("close", ("x",), ""),
        ],
    ),
    "what the flusher met, close tells, and a later opener's fsync": (
        "",
        [
            ("open", ("x", RDWR), CREATED),
            ("write", ("x", 3 * MIB), ""),
            ("sleep", (12,), FULL),
            ("close", ("x", errno.ENOSPC), "WRITE"),
            ("open", ("y", RDWR), OPENED),
            ("fsync", ("y", errno.ENOSPC), ""),
            ("close", ("y",), ""),
        ],
    ),
    "what the flusher met, one who opens afterwards hears too": (
        "",
        [
            ("open", ("x", RDWR), CREATED),
            ("write", ("x", 3 * MIB), ""),
            ("sleep", (12,), FULL),
            ("open", ("y", RDWR), OPENED),
            ("fsync", ("y", errno.ENOSPC), "WRITE"),
            ("fsync", ("x", errno.ENOSPC), ""),
            ("close", ("y",), ""),
            ("close", ("x",), ""),
        ],
    ),
    "with O_SYNC the write itself": (
        "",
        [
            ("open", ("x", RDWR | os.O_SYNC), CREATED),
            ("write", ("x", 3 * MIB, errno.ENOSPC), FULL),
            ("write", ("x", 65536), "WRITE*2"),
            ("close", ("x",), ""),
        ],
    ),
    "on a sync mount too": (
        "sync",
        [
            ("open", ("x", RDWR), CREATED),
            ("write", ("x", 2 * MIB, errno.ENOSPC), "WRITE*2 COMMIT"),
            ("write", ("x", 4096), "WRITE*2"),
            ("close", ("x",), ""),
        ],
    ),
    "O_DIRECT is short, and fails when nothing fits": (
        "wsize=262144",
        [
            ("open", ("x", RDWR | os.O_DIRECT), CREATED),
            ("written", ("x", 3 * MIB, MIB), "WRITE*12 COMMIT"),
            ("write", ("x", 65536, errno.ENOSPC), "WRITE"),
            ("size", ("f", MIB), "ACCESS"),
            ("fsync", ("x",), ""),
            ("close", ("x",), ""),
        ],
    ),
    "chmod flushes and does not tell": (
        "",
        [
            ("open", ("x", RDWR), CREATED),
            ("write", ("x", 3 * MIB), ""),
            ("chmod", ("f",), "ACCESS WRITE*3 COMMIT SETATTR"),
            ("fsync", ("x", errno.ENOSPC), "WRITE"),
            ("close", ("x",), ""),
        ],
    ),
    "ftruncate flushes and does not tell": (
        "",
        [
            ("open", ("x", RDWR), CREATED),
            ("write", ("x", 3 * MIB), ""),
            ("ftruncate", ("x", 100), "WRITE*3 COMMIT SETATTR"),
            ("fsync", ("x", errno.ENOSPC), "WRITE"),
            ("close", ("x",), ""),
        ],
    ),
    "rename flushes and does not tell": (
        "",
        [
            ("open", ("x", RDWR), CREATED),
            ("write", ("x", 3 * MIB), ""),
            ("rename", ("f", "g"), "ACCESS WRITE*3 COMMIT RENAME"),
            ("fsync", ("x", errno.ENOSPC), "WRITE"),
            ("close", ("x",), ""),
            ("size", ("g", MIB), "GETATTR"),
        ],
    ),
}


class Player:
    """Runs a script's steps in one process, and keeps its descriptors by name."""

    def __init__(self, world: World, task: Task) -> None:
        self._world = world
        self._task = task
        self._fds: dict[str, int] = {}

    async def step(self, what: str, operands: tuple[Any, ...]) -> None:
        takes = {"write": 2, "pwrite": 2, "fsync": 1, "close": 1}.get(what, len(operands))
        error = operands[takes] if len(operands) > takes else 0
        try:
            await getattr(self, what)(*operands[:takes])
        except OSError as failure:
            assert failure.errno == error, f"{what} {operands}: {failure}"
        else:
            assert not error, f"{what} {operands} succeeded"

    async def open(self, name: str, flags: int) -> None:
        self._fds[name] = await self._task.open("/mnt/f", flags)

    async def write(self, name: str, count: int) -> None:
        await self.written(name, count, count)

    async def written(self, name: str, count: int, done: int) -> None:
        assert await self._task.write(self._fds[name], b"w" * count) == done

    async def pwrite(self, name: str, count: int) -> None:
        assert await self._task.pwrite(self._fds[name], b"p" * count, 0) == count

    async def pread(self, name: str, count: int) -> None:
        assert await self._task.pread(self._fds[name], count, 0) == b"w" * count

    async def fsync(self, name: str) -> None:
        await self._task.fsync(self._fds[name])

    async def close(self, name: str) -> None:
        await self._task.close(self._fds.pop(name))

    async def ftruncate(self, name: str, length: int) -> None:
        await self._task.ftruncate(self._fds[name], length)

    async def chmod(self, path: str) -> None:
        await self._task.chmod(f"/mnt/{path}", 0o600)

    async def rename(self, path: str, to: str) -> None:
        await self._task.rename(f"/mnt/{path}", f"/mnt/{to}")

    async def size(self, path: str, size: int) -> None:
        assert (await self._task.stat(f"/mnt/{path}")).st_size == size

    async def sleep(self, seconds: float) -> None:
        await self._world.clock.sleep(seconds)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_full_server_is_told_of_where_linux_tells_it(name: str) -> None:
    options, steps = SCRIPTS[name]

    async def story(world: World) -> None:
        await world.server(storage=MemoryStorage(wall_ns=world.wall_ns, capacity_bytes=MIB))
        machine = await world.client("A", options)
        local = await world.local_task()
        await world.clock.sleep(6)
        await local.mkdir("/filled")  # the recordings' server was filled behind the client's back
        task = machine.task()
        player = Player(world, task)
        calls: list[Procedure] = []
        machine.mounts[0].rpc.trace = lambda procedure, args: calls.append(procedure)
        for number, (what, operands, sent) in enumerate(steps):
            await world.clock.sleep(0.1)
            calls.clear()
            await player.step(what, operands)
            await world.clock.sleep(0.05)
            seen = " ".join(run_lengths(call.name for call in calls if call.program is Program.NFS))
            assert seen == sent, f"step {number}: {what} {operands}"
        await task.exit()
        assert await machine.umount("/mnt") == []

    run_world(story)


_NOT_OK = (
    (NfsStat3.DQUOT, errno.EDQUOT, True),
    (NfsStat3.FBIG, errno.EFBIG, True),
    (NfsStat3.NOSPC, errno.ENOSPC, True),
    (NfsStat3.IO, errno.EIO, False),
    (NfsStat3.ACCES, errno.EACCES, False),
    (NfsStat3.ROFS, errno.EROFS, False),
    (NfsStat3.STALE, errno.ESTALE, False),
)
"""What the server says, its errno, and whether write(2) tells of it by itself (nfs_file_write)."""


@pytest.mark.parametrize(("status", "error", "told_by_write"), _NOT_OK, ids=lambda value: str(value))
def test_which_errors_a_later_write_tells_and_which_wait_for_fsync(
    status: NfsStat3, error: int, told_by_write: bool
) -> None:
    async def story(world: World) -> None:
        server = await world.server()
        failing = True

        async def answer(procedure: Procedure, header: CallHeader, args: Any) -> object:
            if procedure is Procedure.WRITE and failing:
                return WriteRes(status)
            return None

        ask_first(server, answer)
        machine = await world.client()
        task = machine.task()
        fd = await task.open("/mnt/f", RDWR)
        await task.write(fd, b"x" * 10_000)
        await world.clock.sleep(12)  # the flusher meets the error
        failing = False
        if told_by_write:
            with pytest.raises(OSError) as caught:
                await task.pwrite(fd, b"y", 0)
            assert caught.value.errno == error
        else:
            assert await task.pwrite(fd, b"y", 0) == 1
            with pytest.raises(OSError) as caught:
                await task.fsync(fd)
            assert caught.value.errno == error
        await task.fsync(fd)
        await task.close(fd)
        await task.exit()
        assert await machine.umount("/mnt") == []

    run_world(story)


def test_a_server_that_writes_nothing_of_a_direct_write_is_an_error() -> None:
    async def story(world: World) -> None:
        server = await world.server()
        whole = server.call
        asked: list[int] = []

        async def answer(procedure: Procedure, header: CallHeader, args: Any) -> object:
            if procedure is Procedure.WRITE:
                asked.append(args.count)
                if len(asked) > 1:
                    return WriteRes(NfsStat3.OK)
                return await whole(procedure, header, dataclasses.replace(args, count=1000))
            return None

        ask_first(server, answer)
        machine = await world.client()
        task = machine.task()
        fd = await task.open("/mnt/f", RDWR | os.O_DIRECT)
        assert await task.write(fd, b"x" * 4096) == 1000, "what came before the error"
        assert asked == [4096, 3096]
        with pytest.raises(OSError) as caught:
            await task.write(fd, b"x" * 4096)
        assert caught.value.errno == errno.EIO
        await task.exit()

    run_world(story)


def test_a_server_that_is_late_keeps_the_data() -> None:
    """JUKEBOX is no error: the same WRITE comes again 5 s later (NFS_JUKEBOX_RETRY_TIME)."""

    async def story(world: World) -> None:
        server = await world.server()
        asked: list[float] = []

        async def answer(procedure: Procedure, header: CallHeader, args: Any) -> object:
            if procedure is Procedure.WRITE:
                asked.append(world.clock.now())
                if len(asked) < 3:
                    return WriteRes(NfsStat3.JUKEBOX)
            return None

        ask_first(server, answer)
        machine = await world.client()
        task = machine.task()
        fd = await task.open("/mnt/f", RDWR)
        await task.write(fd, b"x" * 10_000)
        await task.close(fd)
        assert [round(later - sooner, 1) for sooner, later in itertools.pairwise(asked)] == [5.0, 5.0]
        assert machine.mounts[0].stats.events["delay"] == 2
        assert (await task.stat("/mnt/f")).st_size == 10_000
        await task.exit()
        assert await machine.umount("/mnt") == []

    run_world(story)
