"""The files that a load works on, and what must be in them."""

from __future__ import annotations

import random
from collections import deque

from freepage_lab.conform.pattern import BLOCK
from freepage_lab.load.content import blocks, content, describe, identity, origin
from freepage_lab.load.profile import FileSet

HOT_SHARE = 0.2
HOT_PICKS = 0.8
GROWTH = 4
"""A log is begun anew, and files of new names replace the oldest ones, at this many times their set's measure."""


class Corrupt(Exception):
    """What was read is not what was written; says where."""


class LoadFile:
    """One file. ``size`` in bytes; ``certain`` False: a write failed half way, or others write here as well."""

    __slots__ = ("base", "blocks", "certain", "identity", "newest", "path", "present", "shared", "size")

    def __init__(self, path: str, size: int, *, shared: bool = False) -> None:
        self.path = path
        self.identity = identity(path)
        self.size = size
        self.shared = shared
        self.present = False
        self.certain = not shared
        self.newest = 0
        self.base = 0
        """version of all blocks that are not in ``blocks``"""
        self.blocks: dict[int, int] = {}

    def rewritten(self) -> int:
        """The next version, of the whole file."""
        self.newest += 1
        self.base = self.newest
        self.blocks.clear()
        return self.base

    def changed(self, pos: int, count: int) -> int:
        """The next version, of the blocks of [pos, pos+count) alone."""
        self.newest += 1
        self.blocks.update(dict.fromkeys(range(pos // BLOCK, -(-(pos + count) // BLOCK)), self.newest))
        return self.newest

    def expected(self, pos: int, count: int) -> bytes:
        return b"".join(
            content(self.identity, self.blocks.get(at // BLOCK, self.base), at, length)
            for at, length in blocks(pos, count)
        )

    def check(self, data: bytes, pos: int, count: int) -> None:
        """Compare what a read of ``count`` bytes at ``pos`` gave. Raises Corrupt."""
        if self.certain:
            length = max(min(count, self.size - pos), 0)
            if len(data) != length:
                raise Corrupt(f"{self.path}: {len(data)} bytes at {pos}, not {length}")
            if not self.blocks:
                if data == content(self.identity, self.base, pos, length):
                    return
            elif data == self.expected(pos, length):
                return
        view = memoryview(data)
        for at, length in blocks(pos, len(data)):
            part = view[at - pos : at - pos + length]
            version = self.blocks.get(at // BLOCK, self.base)
            if self.certain:
                if part != content(self.identity, version, at, length):
                    found = describe(part, at, self.identity)
                    raise Corrupt(f"{self.path}: {found} at {at}, not version {version}")
            elif length >= 2 * 8:
                found_origin = origin(part, at)
                if found_origin is None or found_origin[0] != self.identity:
                    raise Corrupt(f"{self.path}: {describe(part, at, self.identity)} at {at}")


class WorkingSet:
    """The files of one set, as one worker knows them. ``memory_bytes`` is the client's page cache, None: no limit."""

    def __init__(
        self, files: FileSet, root: str, *, seed: str, memory_bytes: int | None = None, workers: int = 1
    ) -> None:
        self.set = files
        self.root = root
        self._chance = random.Random(f"{seed}/{files.name}")
        self.count = files.count
        if files.memory_percent:
            wanted = files.at_most
            if memory_bytes is not None:
                wanted = min(memory_bytes * files.memory_percent // 100, files.at_most)
            self.count = max(round(wanted / files.size.mean / (1 if files.shared else workers)), 1)
        self.directories = max(-(-self.count // files.fan_out), 1)
        self.serial = 0
        self.files: list[LoadFile] = []
        self.oldest: deque[LoadFile] = deque()
        """files that the load itself has given a name, oldest first"""
        self._next = 0
        for _ in range(self.count):
            self.files.append(self._new("f"))

    @property
    def bytes(self) -> int:
        return sum(file.size for file in self.files)

    def directory(self, number: int) -> str:
        return f"{self.root}/d{number % self.directories:03d}"

    def _new(self, letter: str) -> LoadFile:
        number = self.serial
        self.serial += 1
        directory = self.directory(number // self.set.fan_out)
        return LoadFile(f"{directory}/{letter}{number:06d}", self.set.size.draw(self._chance), shared=self.set.shared)

    def new(self) -> LoadFile:
        """A file of a name that was not there before."""
        return self._new("n")

    def full(self) -> bool:
        """Whether a further new file should push out the oldest."""
        return len(self.oldest) >= self.set.count * GROWTH

    def add(self, file: LoadFile) -> None:
        self.files.append(file)
        self.oldest.append(file)

    def take_oldest(self) -> LoadFile | None:
        if not self.oldest:
            return None
        file = self.oldest.popleft()
        self.files.remove(file)
        return file

    def pick(self, how: str, chance: random.Random, *, present: bool = True) -> LoadFile | None:
        """A file, or None when there is none (that is on the server, if ``present`` is asked for)."""
        if not self.files:
            return None
        for _ in range(8):
            if how == "next":
                index = self._next % len(self.files)
                self._next += 1
            elif how == "hot" and chance.random() < HOT_PICKS:
                index = int(chance.random() * max(len(self.files) * HOT_SHARE, 1))
            else:
                index = chance.randrange(len(self.files))
            if self.files[index].present or not present:
                return self.files[index]
        return next((file for file in self.files if file.present), None)
