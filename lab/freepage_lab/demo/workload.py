"""What the demo's clients do: programs that make pages leave their caches by every path.

=========== =======================================================================================================
reclaim     reads of the exported tree, more of it than the cache holds
truncate    a file is written, read back and cut short
invalidate  another client changes a file and a directory; the next open and listing find out
drop        ``echo 1 > /proc/sys/vm/drop_caches``
evict       a file with cached pages is unlinked, and its inode goes with them
replace     ReplacePages, because an NFS client never does this by itself
=========== =======================================================================================================

All but *drop* and *replace*, which are an administrator's verbs, are nothing but system calls on the client hosts, as
programs make them. A *round* does each of these at least once, so that a phase of one round already shows all six
paths.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING

from freepage_lab.conform.pattern import pattern
from freepage_lab.demo.tree import WORK_DIRECTORY, Tree

if TYPE_CHECKING:
    from freepage_client.io.remote import RemoteMachine, RemoteTask

READ_SIZE = 128 << 10
PAGE = 4096
OVERFLOW = 1.4
"""A round reads this many times the cache's size."""


@dataclass(slots=True)
class Host:
    """One client host as the demo drives it: its administrator, and a program running on it."""

    name: str
    machine: RemoteMachine
    task: RemoteTask


class Workload:
    """One client's program. ``neighbour`` is the host whose program changes files behind this one's back."""

    def __init__(
        self,
        host: Host,
        neighbour: Host,
        trees: Sequence[Tree],
        mountpoints: Sequence[str],
        *,
        cache_bytes: int,
        seed: str,
    ) -> None:
        self.name = host.name
        self._host = host
        self._neighbour = neighbour
        self._random = random.Random(seed)
        self._quota = int(cache_bytes * OVERFLOW)
        self._mountpoints = mountpoints
        files = [
            (f"{mount}/{name}", size)
            for tree, mount in zip(trees, mountpoints, strict=True)
            for name, size in tree.files
        ]
        self._random.shuffle(files)
        self._files = cycle(files)
        self._serial = 0

    async def prepare(self) -> None:
        for mount in self._mountpoints:
            await self._host.task.mkdir(f"{mount}/{WORK_DIRECTORY}/{self._host.name}")

    async def round(self, enough: Callable[[], bool]) -> None:
        """Everything once; stops between two activities as soon as ``enough()``."""
        if enough():
            return
        await self.read_more_than_the_cache_holds(enough)
        for activity in (
            self.write_and_truncate,
            self.see_a_neighbours_changes,
            self.replace_pages,
            self.unlink_cached_files,
            self.drop_caches,
        ):
            if enough():
                return
            await activity()

    async def read_more_than_the_cache_holds(self, enough: Callable[[], bool]) -> None:
        task, left = self._host.task, self._quota
        listed: set[str] = set()
        for path, _ in self._files:
            directory = path.rpartition("/")[0]
            if directory not in listed:
                listed.add(directory)
                await task.listdir(directory)
            left -= await self._read(path)
            if left <= 0 or enough():
                return

    async def write_and_truncate(self) -> None:
        path = self._own_path("log")
        size = self._random.randrange(16, 48) * PAGE
        fd = await self._host.task.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        await self._write(fd, size)
        await self._host.task.fsync(fd)
        await self._host.task.ftruncate(fd, size // 3 + 100)
        await self._host.task.close(fd)
        await self._host.task.unlink(path)

    async def see_a_neighbours_changes(self) -> None:
        """Close-to-open: what the neighbour has written and closed is seen by the next open, and the old pages go."""
        path = self._own_path("shared")
        size = self._random.randrange(16, 48) * PAGE
        await self._create(path, size)
        await self._read(path)
        directory = path.rpartition("/")[0]
        await self._host.task.listdir(directory)
        theirs = await self._neighbour.task.open(path, os.O_WRONLY)
        await self._neighbour.task.pwrite(theirs, pattern(self._serial, 0, size + PAGE), 0)
        await self._neighbour.task.close(theirs)
        await self._read(path)
        await self._host.task.listdir(directory)
        await self._host.task.unlink(path)

    async def replace_pages(self) -> None:
        path = self._own_path("spliced")
        await self._create(path, 16 * PAGE)
        await self._host.machine.replace_pages(path, 0, 16)
        await self._host.task.unlink(path)

    async def unlink_cached_files(self) -> None:
        paths = [self._own_path("scratch") for _ in range(3)]
        for path in paths:
            await self._create(path, self._random.randrange(4, 16) * PAGE)
        for path in paths:
            await self._host.task.unlink(path)

    async def drop_caches(self) -> None:
        await self._host.machine.drop_caches(1)

    # --- helpers ----------------------------------------------------------------------------------------------------

    def _own_path(self, kind: str) -> str:
        self._serial += 1
        mount = self._random.choice(list(self._mountpoints))
        return f"{mount}/{WORK_DIRECTORY}/{self._host.name}/{kind}-{self._serial}"

    async def _create(self, path: str, size: int) -> None:
        fd = await self._host.task.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        await self._write(fd, size)
        await self._host.task.close(fd)

    async def _write(self, fd: int, size: int) -> None:
        for pos in range(0, size, READ_SIZE):
            await self._host.task.pwrite(fd, pattern(self._serial, pos, min(READ_SIZE, size - pos)), pos)

    async def _read(self, path: str) -> int:
        """Read a file to its end without moving the data here; bytes read."""
        task = self._host.task
        fd = await task.open(path, os.O_RDONLY)
        total = 0
        while count := await task.read(fd, READ_SIZE, discard=True):
            total += count
        await task.close(fd)
        return total
