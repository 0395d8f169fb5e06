"""One client against a plain local directory: the same steps, the same data, sizes and errors.

What NFS does otherwise on purpose is left out: names of silly-renamed files, link counts of removed ones. Two clients
are held to close-to-open consistency: who opens after the other has closed reads what the other wrote.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from freepage_client.vfs.task import Task
from freepage_lab.sim.world import World, run_world

NAMES = ("a", "b", "c", "d0", "d1", "d0/x", "d0/y", "d1/x", "d0/d2", "d0/d2/z", "link")
OPEN_FLAGS = (
    os.O_RDONLY,
    os.O_RDWR,
    os.O_WRONLY,
    os.O_RDWR | os.O_CREAT,
    os.O_WRONLY | os.O_CREAT,
    os.O_RDWR | os.O_CREAT | os.O_EXCL,
    os.O_RDWR | os.O_CREAT | os.O_TRUNC,
    os.O_WRONLY | os.O_CREAT | os.O_APPEND,
    os.O_RDWR | os.O_CREAT | os.O_SYNC,
)
SLOTS = range(3)
NO_FD = 999_999
"""A descriptor that is never open."""

names = st.sampled_from(NAMES)
slots = st.sampled_from(SLOTS)
offsets = st.one_of(st.integers(0, 20_000), st.sampled_from([0, 4095, 4096, 4097, 8192, 70_000]))
lengths = st.one_of(st.integers(0, 9_000), st.sampled_from([1, 4095, 4096, 4097, 66_000]))

steps = st.lists(
    st.one_of(
        st.tuples(st.just("open"), slots, names, st.sampled_from(OPEN_FLAGS)),
        st.tuples(st.just("close"), slots),
        st.tuples(st.just("pwrite"), slots, offsets, lengths, st.integers(0, 255)),
        st.tuples(st.just("write"), slots, lengths, st.integers(0, 255)),
        st.tuples(st.just("pread"), slots, offsets, lengths),
        st.tuples(st.just("read"), slots, lengths),
        st.tuples(st.just("ftruncate"), slots, offsets),
        st.tuples(st.just("fsync"), slots),
        st.tuples(st.just("seek_end"), slots),
        st.tuples(st.just("fstat"), slots),
        st.tuples(st.just("truncate"), names, offsets),
        st.tuples(st.just("stat"), names),
        st.tuples(st.just("lstat"), names),
        st.tuples(st.just("mkdir"), names),
        st.tuples(st.just("rmdir"), names),
        st.tuples(st.just("unlink"), names),
        st.tuples(st.just("rename"), names, names),
        st.tuples(st.just("link"), names, names),
        st.tuples(st.just("symlink"), st.sampled_from(("a", "d0", "d0/x", "nowhere", "link")), names),
        st.tuples(st.just("readlink"), names),
        st.tuples(st.just("listdir"), st.sampled_from(("", "d0", "d1", "d0/d2", "a", "link"))),
        st.tuples(st.just("chmod"), names, st.sampled_from((0o600, 0o755))),
        st.tuples(st.just("drop_caches"), st.sampled_from((1, 2, 3))),
        st.tuples(st.just("sleep"), st.sampled_from((0.01, 4.0, 31.0, 70.0))),
    ),
    min_size=8,
    max_size=50,
)

FURNITURE: list[tuple[object, ...]] = [
    ("mkdir", "d0"),
    ("mkdir", "d1"),
    ("mkdir", "d0/d2"),
    ("open", 0, "a", os.O_RDWR | os.O_CREAT),
    ("pwrite", 0, 0, 20_000, 7),
    ("close", 0),
    ("open", 1, "d0/x", os.O_RDWR | os.O_CREAT),
    ("pwrite", 1, 0, 5_000, 99),
    ("symlink", "d0/x", "link"),
    ("open", 0, "a", os.O_RDWR),
]
"""Every script starts in a furnished directory: random names alone would mostly say ENOENT."""


def _bytes(seed: int, length: int) -> bytes:
    return bytes((seed + i // 7) & 0xFF for i in range(length))


def _shape(mode: int, size: int, *, follow_size: bool = True) -> tuple[int, int]:
    return stat.S_IFMT(mode) | (mode & 0o777), size if stat.S_ISREG(mode) and follow_size else -1


class Local:
    """The step language on a real directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.fds: dict[int, int] = {}

    def _path(self, name: str) -> Path:
        return self.root / name if name else self.root

    def do(self, op: str, *args: object) -> object:
        try:
            return getattr(self, "op_" + op)(*args)
        except OSError as error:
            return errno.errorcode[error.errno or 0]

    def op_open(self, slot: int, name: str, flags: int) -> object:
        if slot in self.fds:
            return "busy"
        self.fds[slot] = os.open(self._path(name), flags, 0o644)
        return "ok"

    def op_close(self, slot: int) -> object:
        if slot in self.fds:
            os.close(self.fds.pop(slot))
        return "ok"

    def close_all(self) -> None:
        for slot in list(self.fds):
            self.op_close(slot)

    def op_pwrite(self, slot: int, offset: int, length: int, seed: int) -> object:
        return os.pwrite(self.fds.get(slot, NO_FD), _bytes(seed, length), offset)

    def op_write(self, slot: int, length: int, seed: int) -> object:
        return os.write(self.fds.get(slot, NO_FD), _bytes(seed, length))

    def op_pread(self, slot: int, offset: int, length: int) -> object:
        return os.pread(self.fds.get(slot, NO_FD), length, offset)

    def op_read(self, slot: int, length: int) -> object:
        return os.read(self.fds.get(slot, NO_FD), length)

    def op_ftruncate(self, slot: int, length: int) -> object:
        os.ftruncate(self.fds.get(slot, NO_FD), length)
        return "ok"

    def op_fsync(self, slot: int) -> object:
        os.fsync(self.fds.get(slot, NO_FD))
        return "ok"

    def op_seek_end(self, slot: int) -> object:
        fd = self.fds.get(slot, NO_FD)
        if slot in self.fds and stat.S_ISDIR(os.fstat(fd).st_mode):
            return "directory"
        return os.lseek(fd, 0, os.SEEK_END)

    def op_fstat(self, slot: int) -> object:
        found = os.fstat(self.fds.get(slot, NO_FD))
        return _shape(found.st_mode, found.st_size)

    def op_truncate(self, name: str, length: int) -> object:
        os.truncate(self._path(name), length)
        return "ok"

    def op_stat(self, name: str) -> object:
        found = self._path(name).stat()
        return _shape(found.st_mode, found.st_size)

    def op_lstat(self, name: str) -> object:
        found = self._path(name).lstat()
        return _shape(found.st_mode, found.st_size)

    def op_mkdir(self, name: str) -> object:
        os.mkdir(self._path(name), 0o755)  # noqa: PTH102 (the system call)
        return "ok"

    def op_rmdir(self, name: str) -> object:
        self.close_all()
        self._path(name).rmdir()
        return "ok"

    def op_unlink(self, name: str) -> object:
        self._path(name).unlink()
        return "ok"

    def op_rename(self, old: str, new: str) -> object:
        self.close_all()
        self._path(old).rename(self._path(new))
        return "ok"

    def op_link(self, old: str, new: str) -> object:
        if stat.S_ISDIR(self._path(old).lstat().st_mode):
            return "directory"  # which of two errors wins depends on whether NFS has the new name cached
        os.link(self._path(old), self._path(new), follow_symlinks=False)
        return "ok"

    def op_symlink(self, target: str, name: str) -> object:
        self._path(name).symlink_to(target)
        return "ok"

    def op_readlink(self, name: str) -> object:
        return os.readlink(os.fsencode(self._path(name)))  # noqa: PTH115 (bytes)

    def op_listdir(self, name: str) -> object:
        return sorted(os.listdir(os.fsencode(self._path(name))))  # noqa: PTH208 (bytes)

    def op_chmod(self, name: str, mode: int) -> object:
        self._path(name).chmod(mode)
        return "ok"

    def op_drop_caches(self, what: int) -> object:
        return "ok"

    def op_sleep(self, seconds: float) -> object:
        return "ok"


class Remote:
    """The same on an emulated client."""

    def __init__(self, world: World, task: Task) -> None:
        self.world = world
        self.task = task
        self.fds: dict[int, int] = {}

    def _path(self, name: str) -> str:
        return f"/mnt/{name}" if name else "/mnt"

    async def do(self, op: str, *args: object) -> object:
        method: Callable[..., Awaitable[object]] = getattr(self, "op_" + op)
        try:
            return await method(*args)
        except OSError as error:
            return errno.errorcode[error.errno or 0]

    async def op_open(self, slot: int, name: str, flags: int) -> object:
        if slot in self.fds:
            return "busy"
        self.fds[slot] = await self.task.open(self._path(name), flags, 0o644)
        return "ok"

    async def op_close(self, slot: int) -> object:
        if slot in self.fds:
            await self.task.close(self.fds.pop(slot))
        return "ok"

    async def close_all(self) -> None:
        for slot in list(self.fds):
            await self.op_close(slot)
        await self.world.clock.sleep(0.1)  # the REMOVE of silly-renamed files is asynchronous

    async def op_pwrite(self, slot: int, offset: int, length: int, seed: int) -> object:
        return await self.task.pwrite(self.fds.get(slot, NO_FD), _bytes(seed, length), offset)

    async def op_write(self, slot: int, length: int, seed: int) -> object:
        return await self.task.write(self.fds.get(slot, NO_FD), _bytes(seed, length))

    async def op_pread(self, slot: int, offset: int, length: int) -> object:
        return await self.task.pread(self.fds.get(slot, NO_FD), length, offset)

    async def op_read(self, slot: int, length: int) -> object:
        return await self.task.read(self.fds.get(slot, NO_FD), length)

    async def op_ftruncate(self, slot: int, length: int) -> object:
        await self.task.ftruncate(self.fds.get(slot, NO_FD), length)
        return "ok"

    async def op_fsync(self, slot: int) -> object:
        await self.task.fsync(self.fds.get(slot, NO_FD))
        return "ok"

    async def op_seek_end(self, slot: int) -> object:
        fd = self.fds.get(slot, NO_FD)
        if slot in self.fds and stat.S_ISDIR((await self.task.fstat(fd)).st_mode):
            return "directory"
        return await self.task.lseek(fd, 0, os.SEEK_END)

    async def op_fstat(self, slot: int) -> object:
        found = await self.task.fstat(self.fds.get(slot, NO_FD))
        return _shape(found.st_mode, found.st_size)

    async def op_truncate(self, name: str, length: int) -> object:
        await self.task.truncate(self._path(name), length)
        return "ok"

    async def op_stat(self, name: str) -> object:
        found = await self.task.stat(self._path(name))
        return _shape(found.st_mode, found.st_size)

    async def op_lstat(self, name: str) -> object:
        found = await self.task.lstat(self._path(name))
        return _shape(found.st_mode, found.st_size)

    async def op_mkdir(self, name: str) -> object:
        await self.task.mkdir(self._path(name), 0o755)
        return "ok"

    async def op_rmdir(self, name: str) -> object:
        await self.close_all()
        await self.task.rmdir(self._path(name))
        return "ok"

    async def op_unlink(self, name: str) -> object:
        await self.task.unlink(self._path(name))
        return "ok"

    async def op_rename(self, old: str, new: str) -> object:
        await self.close_all()
        await self.task.rename(self._path(old), self._path(new))
        return "ok"

    async def op_link(self, old: str, new: str) -> object:
        if stat.S_ISDIR((await self.task.lstat(self._path(old))).st_mode):
            return "directory"
        await self.task.link(self._path(old), self._path(new))
        return "ok"

    async def op_symlink(self, target: str, name: str) -> object:
        await self.task.symlink(target, self._path(name))
        return "ok"

    async def op_readlink(self, name: str) -> object:
        return await self.task.readlink(self._path(name))

    async def op_listdir(self, name: str) -> object:
        found = await self.task.listdir(self._path(name))
        return sorted(entry for entry in found if not entry.startswith(b".nfs"))

    async def op_chmod(self, name: str, mode: int) -> object:
        await self.task.chmod(self._path(name), mode)
        return "ok"

    async def op_drop_caches(self, what: int) -> object:
        await self.task.machine.drop_caches(what)
        return "ok"

    async def op_sleep(self, seconds: float) -> object:
        await self.world.clock.sleep(seconds)
        return "ok"


@settings(max_examples=120, deadline=None)
@given(script=steps, options=st.sampled_from(("", "noac", "lookupcache=none", "rsize=4096,wsize=4096", "nocto")))
def test_one_client_behaves_as_a_local_directory(script: list[tuple[object, ...]], options: str) -> None:
    root = Path(tempfile.mkdtemp(prefix="differential-"))
    old_umask = os.umask(0o022)
    local = Local(root)
    try:

        async def story(world: World) -> None:
            machine = await world.client("A", options, memory_bytes=128 << 12)
            task = machine.task()
            remote = Remote(world, task)
            for i, (op, *args) in enumerate(FURNITURE + script):
                expected = local.do(str(op), *args)
                got = await remote.do(str(op), *args)
                assert got == expected, f"step {i}: {op}{tuple(args)}"
            local.close_all()
            await remote.close_all()
            await task.exit()
            report = machine.cache.ledger.audit(machine.roots_in_use(), machine.cache.mappings)
            assert report.agrees, report.differences
            assert await machine.umount("/mnt") == []
            assert not any(machine.cache.violations.values())

        run_world(story, seed=1)
    finally:
        os.umask(old_umask)
        local.close_all()
        shutil.rmtree(root)


@settings(max_examples=60, deadline=None)
@given(
    turns=st.lists(
        st.tuples(st.booleans(), st.sampled_from(("write", "append", "read", "truncate")), offsets, lengths),
        max_size=25,
    ),
    pause_s=st.sampled_from((0.005, 1.0, 40.0)),
)
def test_two_clients_that_take_turns_see_each_other_at_open(
    turns: list[tuple[bool, str, int, int]], pause_s: float
) -> None:
    """Close-to-open: the turns do not overlap, so each open sees all that was closed before."""

    async def story(world: World) -> None:
        machines = [await world.client(name) for name in ("A", "B")]
        tasks = [machine.task() for machine in machines]
        model = bytearray()
        fd = await tasks[0].open("/mnt/f", os.O_RDWR | os.O_CREAT)
        await tasks[0].close(fd)
        for i, (who, what, offset, length) in enumerate(turns):
            await world.clock.sleep(pause_s)  # more than the server's timestamp granule
            task = tasks[who]
            data = _bytes(i, length)
            if what == "write":
                fd = await task.open("/mnt/f", os.O_RDWR)
                await task.pwrite(fd, data, offset)
                if data:
                    model.extend(bytes(max(0, offset + len(data) - len(model))))
                    model[offset : offset + len(data)] = data
            elif what == "append":
                fd = await task.open("/mnt/f", os.O_WRONLY | os.O_APPEND)
                await task.write(fd, data)
                model.extend(data)
            elif what == "truncate":
                fd = await task.open("/mnt/f", os.O_RDWR)
                await task.ftruncate(fd, offset)
                model.extend(bytes(max(0, offset - len(model))))
                del model[offset:]
            else:
                fd = await task.open("/mnt/f", os.O_RDONLY)
                assert await task.pread(fd, len(model) + 10, 0) == bytes(model), f"turn {i}"
            await task.close(fd)
        for task in tasks:
            await task.exit()

    run_world(story, seed=2)
