"""What the clients of a soak test do, and what must be true of it whatever happens meanwhile.

**Data.** A file is blocks of 1 KiB. A block says which version of which block of which file it is, in every byte, so a
block that was torn, moved or lost is seen. The model keeps two versions of each block: the one that the last fsync
covered, and the newest one written. What is on disk must lie between the two at every moment, and what the writer
itself reads must be the newest.

**Names.** All clients try the same thing at the same moment, and only one may have done it: create a file exclusively,
rename it to a name of their own, remove it, make a directory. Two who succeeded are a double execution. None is what
a server's crash leaves behind when it did the work and died before it could say so; without a crash, it is wrong too.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import random
import struct
import time
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import TypeVar

from freepage_client.io.remote import RemoteMachine, RemoteTask

T = TypeVar("T")

BLOCK = 1024
FILE_BLOCKS = 512
MAX_WRITE_BLOCKS = 96
"""Three WRITEs of the smallest wsize that the parts use."""
THINK_S = 0.004
STUCK_S = 120.0
"""A client that has not finished this long after everything works again is stuck."""


def content(name: str, index: int, version: int) -> bytes:
    """Version ``version`` of a block; version 0 is what was never written."""
    if version == 0:
        return bytes(BLOCK)
    digest = hashlib.blake2b(f"{name} {index} {version}".encode(), digest_size=24).digest()
    return (struct.pack(">Q", version) + digest) * (BLOCK // 32)


class Stopwatch:
    """The longest that anybody waited for one system call, in seconds."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self.what = ""

    async def __call__(self, what: str, call: Awaitable[T]) -> T:
        start = time.monotonic()
        try:
            return await call
        finally:
            waited = time.monotonic() - start
            if waited > self.longest_s:
                self.longest_s, self.what = waited, what


class BlockFile:
    """One file: what must be on disk, and what may."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.synced = [0] * FILE_BLOCKS
        self.newest = [0] * FILE_BLOCKS
        self._last = [0] * FILE_BLOCKS
        """the last version ever made of each block: not the newest any more when its writer died with it"""

    def write(self, first: int, count: int) -> bytes:
        """The next version of some blocks, which counts as written from now on."""
        pieces = []
        for index in range(first, first + count):
            self._last[index] += 1
            self.newest[index] = self._last[index]
            pieces.append(content(self.name, index, self.newest[index]))
        return b"".join(pieces)

    def expected(self, first: int, count: int) -> bytes:
        return b"".join(content(self.name, index, self.newest[index]) for index in range(first, first + count))

    def adopt(self, data: bytes) -> list[str]:
        """The writer was killed: what others find now is the newest. What is wrong with it, as in `examine`."""
        wrong, _, _ = self.examine(data)
        if not wrong:
            blocks = [data[index * BLOCK :][:8].ljust(8, b"\0") for index in range(FILE_BLOCKS)]
            self.newest = [struct.unpack(">Q", block)[0] for block in blocks]
        return wrong

    def examine(self, data: bytes) -> tuple[list[str], int, int]:
        """What is wrong with ``data`` as the file's content, how many fsynced bytes it holds, and how many blocks are
        not the newest (written, but not on disk yet)."""
        wrong, verified, behind = [], 0, 0
        for index in range(FILE_BLOCKS):
            block = data[index * BLOCK : (index + 1) * BLOCK].ljust(BLOCK, b"\0")
            (version,) = struct.unpack_from(">Q", block)
            if version > self.newest[index] or block != content(self.name, index, version):
                wrong.append(f"{self.name}: block {index} is no version of it")
            elif version < self.synced[index]:
                wrong.append(f"{self.name}: block {index} was fsynced as {self.synced[index]}, and is {version}")
            else:
                verified += BLOCK if self.synced[index] else 0
                behind += version < self.newest[index]
        return wrong, verified, behind


class Writer:
    """A program on one client that writes, syncs and reads back two files of its own."""

    def __init__(self, client: str, machine: RemoteMachine, seed: str, watch: Stopwatch) -> None:
        self.client = client
        self.machine = machine
        self.files = [BlockFile(f"{client}-{number}") for number in range(2)]
        self.failures: list[str] = []
        self.written_bytes = 0
        self.fsyncs = 0
        self.calls = 0
        self._random = random.Random(f"{seed}/{client}")
        self._watch = watch
        self._task: RemoteTask | None = None
        self._fds: dict[str, int] = {}

    async def _call(self, what: str, call: Awaitable[T]) -> T:
        self.calls += 1
        return await self._watch(f"{what} by {self.client}", call)

    async def _fd(self, file: BlockFile) -> int:
        assert self._task is not None
        fd = self._fds.get(file.name)
        if fd is None:
            path = f"/mnt/{file.name}"
            fd = self._fds[file.name] = await self._call("open", self._task.open(path, os.O_RDWR | os.O_CREAT))
        return fd

    def restart(self, machine: RemoteMachine) -> None:
        """Its host was killed and is back: nothing is open any more."""
        self.machine = machine
        self._task = None
        self._fds.clear()

    async def work(self, stop: asyncio.Event) -> None:
        """Work until ``stop``, then sync everything: from then on every byte is to be found on disk."""
        if self._task is None:
            self._task = await self.machine.task()
        try:
            while not stop.is_set():
                await self._step(self._random.choice(self.files))
                await asyncio.sleep(self._random.random() * THINK_S)
            for file in self.files:
                await self._sync(file)
                await self._close(file)
        except OSError as error:
            self.failures.append(f"{self.client}: a system call failed: {error}")

    async def _step(self, file: BlockFile) -> None:
        chance = self._random.random()
        if chance < 0.62:
            await self._write(file)
        elif chance < 0.78:
            await self._read(file)
        elif chance < 0.93:
            await self._sync(file)
        elif chance < 0.97:
            await self._close(file)
        else:
            await self._call("drop_caches", self.machine.drop_caches(1))

    async def _write(self, file: BlockFile) -> None:
        assert self._task is not None
        fd = await self._fd(file)
        first = self._random.randrange(FILE_BLOCKS)
        count = min(self._random.randint(1, MAX_WRITE_BLOCKS), FILE_BLOCKS - first)
        data = file.write(first, count)
        written = await self._call("write", self._task.pwrite(fd, data, first * BLOCK))
        if written != len(data):
            self.failures.append(f"{file.name}: {written} of {len(data)} bytes written")
        self.written_bytes += written

    async def _sync(self, file: BlockFile) -> None:
        assert self._task is not None
        fd = await self._fd(file)
        covered = list(file.newest)
        await self._call("fsync", self._task.fsync(fd))
        file.synced = covered
        self.fsyncs += 1

    async def _read(self, file: BlockFile) -> None:
        assert self._task is not None
        fd = await self._fd(file)
        first = self._random.randrange(FILE_BLOCKS)
        count = min(self._random.randint(1, MAX_WRITE_BLOCKS), FILE_BLOCKS - first)
        data = await self._call("read", self._task.pread(fd, count * BLOCK, first * BLOCK))
        expected = file.expected(first, count)
        if data != expected[: len(data)] or any(expected[len(data) :]):
            self.failures.append(f"{file.name}: its writer reads blocks {first} to {first + count} other than written")

    async def _close(self, file: BlockFile) -> None:
        """close(2) writes back, too; a later open asks the server whether the file is still what it was."""
        assert self._task is not None
        fd = self._fds.pop(file.name, None)
        if fd is not None:
            covered = list(file.newest)
            await self._call("close", self._task.close(fd))
            file.synced = covered


def at_work(*calls: Awaitable[object]) -> asyncio.Future[list[object]]:
    """Clients at work beside what happens to them. Where the soak is stopped half-way, nobody awaits their end."""
    work = asyncio.gather(*calls)
    work.add_done_callback(lambda ended: None if ended.cancelled() else ended.exception())
    return work


async def finished(work: Awaitable[object]) -> bool:
    """Wait for clients to finish; False when they are stuck."""
    try:
        async with asyncio.timeout(STUCK_S):
            await work
    except TimeoutError:
        return False
    return True


async def read_whole(machine: RemoteMachine, file: BlockFile, watch: Stopwatch) -> bytes:
    """What a client finds in a file that it opens now; nothing where there is none."""
    task = await machine.task()
    try:
        fd = await watch("open by a reader", task.open(f"/mnt/{file.name}", os.O_RDONLY))
        data = await watch("read by a reader", task.pread(fd, FILE_BLOCKS * BLOCK, 0))
        await task.close(fd)
    except FileNotFoundError:
        return b""
    finally:
        await task.exit()
    return data


async def read_by(machine: RemoteMachine, file: BlockFile, watch: Stopwatch) -> tuple[list[str], int]:
    """Have a client read a file that another one has synced and closed; what is wrong, and bytes verified."""
    data = await read_whole(machine, file, watch)
    wrong, verified, behind = file.examine(data)
    if behind:
        wrong.append(f"{file.name}: a reader sees {behind} blocks older than what was synced")
    return [f"read by another client: {line}" for line in wrong], verified


def on_disk(files: Sequence[BlockFile], directory: Path) -> tuple[list[str], int, int]:
    """Compare with the files themselves, now; see `BlockFile.examine`. A file of which nothing was synced may lack."""
    wrong: list[str] = []
    verified = behind = 0
    for file in files:
        path = directory / file.name
        data = path.read_bytes() if path.exists() else b""
        found, bytes_there, blocks_behind = file.examine(data)
        wrong += found
        verified += bytes_there
        behind += blocks_behind
    return wrong, verified, behind


def synced_on_disk(files: Sequence[BlockFile], directory: Path) -> tuple[list[str], int]:
    """After everything was synced: what is wrong on disk, and bytes verified there."""
    wrong, verified, behind = on_disk(files, directory)
    if behind:
        wrong.append(f"{behind} blocks were synced and are not on disk")
    return wrong, verified


async def read_by_others(
    machines: Sequence[RemoteMachine], files: Sequence[BlockFile], watch: Stopwatch
) -> tuple[list[str], int]:
    """Every file, synced and closed, read by a client that did not write it; what is wrong, and bytes verified."""
    count = len(machines)
    reads = (read_by(machines[(n // 2 + 1) % count], file, watch) for n, file in enumerate(files))
    answers = await asyncio.gather(*reads)
    return [line for wrong, _ in answers for line in wrong], sum(verified for _, verified in answers)


class Contest:
    """Names that only one client can win. ``crashes``: a server that died may owe an answer (see the module)."""

    DIRECTORY = "names"

    def __init__(self, machines: Sequence[RemoteMachine], directory: Path, watch: Stopwatch, *, crashes: bool) -> None:
        self.failures: list[str] = []
        self.rounds = 0
        self.double_executions = 0
        self.unanswered = 0
        self._machines = machines
        self._directory = directory / self.DIRECTORY
        self._watch = watch
        self._crashes = crashes
        self._tasks: list[RemoteTask] = []

    async def work(self, stop: asyncio.Event) -> None:
        if not self._tasks:
            self._directory.mkdir(exist_ok=True)
            self._directory.chmod(0o777)
            self._tasks = [await machine.task() for machine in self._machines]
        while not stop.is_set():
            await self._once(f"n{self.rounds}")
            self.rounds += 1
            await asyncio.sleep(THINK_S)

    async def _once(self, name: str) -> None:
        base = f"/mnt/{self.DIRECTORY}/{name}"
        everybody = range(len(self._tasks))
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY

        async def create(i: int) -> None:
            await self._tasks[i].close(await self._tasks[i].open(base, flags))

        await self._all("open(O_EXCL)", name, errno.EEXIST, [create(i) for i in everybody])
        if not (self._directory / name).exists():
            self.failures.append(f"{name}: created by somebody, and not there")
            return
        names = [f"{name}.{i}" for i in everybody]
        renames = [self._tasks[i].rename(base, f"{base}.{i}") for i in everybody]
        winners = await self._all("rename", name, errno.ENOENT, renames)
        there = [other for other in (name, *names) if (self._directory / other).exists()]
        if len(there) != 1 or (winners and there != [names[winners[0]]]):
            self.failures.append(f"{name}: renamed by {winners}, and there is {there}")
            return
        unlinks = [task.unlink(f"/mnt/{self.DIRECTORY}/{there[0]}") for task in self._tasks]
        await self._all("unlink", name, errno.ENOENT, unlinks)
        if (self._directory / there[0]).exists():
            self.failures.append(f"{name}: removed by everybody, and still there")
        await self._all("mkdir", name, errno.EEXIST, [task.mkdir(f"{base}.d") for task in self._tasks])
        await self._all("rmdir", name, errno.ENOENT, [task.rmdir(f"{base}.d") for task in self._tasks])

    async def _all(self, what: str, name: str, otherwise: int, calls: Sequence[Awaitable[object]]) -> list[int]:
        """Make the calls at once; who succeeded. The others must have failed with ``otherwise``."""
        results = await asyncio.gather(*(self._watch(what, call) for call in calls), return_exceptions=True)
        winners = [i for i, result in enumerate(results) if not isinstance(result, BaseException)]
        for result in results:
            if isinstance(result, BaseException) and getattr(result, "errno", None) != otherwise:
                self.failures.append(f"{what} of {name}: {result!r}")
        if len(winners) > 1:
            self.double_executions += 1
            self.failures.append(f"{what} of {name} was done by clients {winners}")
        elif not winners:
            self.unanswered += 1
            if not self._crashes:
                self.failures.append(f"{what} of {name} was done by nobody")
        return winners
