"""Random operations on one file, each checked against a model in memory (in the manner of fsx, 1991).

``python fsx.py FILE SEED COUNT`` prints the last operations and ends with 1 when the file differs from the model.
"""

from __future__ import annotations

import mmap
import os
import random
import sys
from collections import deque
from pathlib import Path

MAX_SIZE = 256 * 1024
MAX_IO = 64 * 1024


class Fsx:
    """One file and its model. ``mapped_writes``: also write through shared mappings."""

    def __init__(self, path: Path, seed: int, *, mapped_writes: bool = True, direct: bool = True) -> None:
        self.path = path
        self.random = random.Random(seed)
        self.model = bytearray()
        self.history: deque[str] = deque(maxlen=20)
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        self.operations = [self.read] * 4 + [self.write] * 4 + [self.mapped_read]
        self.operations += [self.truncate, self.append, self.reopen, self.fsync, self.stat, self.copy, self.vector]
        if mapped_writes:
            self.operations.append(self.mapped_write)
        if direct:
            self.operations += [self.direct_read, self.direct_write]

    def run(self, count: int) -> None:
        try:
            for number in range(count):
                operation = self.random.choice(self.operations)
                operation()
                if number % 64 == 63:
                    self._check("whole", os.pread(self.fd, MAX_SIZE * 2, 0), bytes(self.model))
        finally:
            os.close(self.fd)
        self._check("at the end", self.path.read_bytes(), bytes(self.model))

    def _check(self, what: str, found: bytes, expected: bytes) -> None:
        if found == expected:
            return
        at = next(
            (i for i, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b), min(len(found), len(expected))
        )
        story = "\n".join(self.history)
        raise AssertionError(
            f"{what}: {len(found)} bytes instead of {len(expected)}, they differ at {at}\nlast operations:\n{story}"
        )

    def _range(self, limit: int) -> tuple[int, int]:
        offset = self.random.randrange(limit)
        if self.random.random() < 0.3:
            offset &= ~4095
        return offset, self.random.randrange(1, MAX_IO)

    def _data(self, count: int) -> bytes:
        return self.random.randbytes(count)

    def _put(self, offset: int, data: bytes) -> None:
        if offset > len(self.model):
            self.model.extend(bytes(offset - len(self.model)))
        self.model[offset : offset + len(data)] = data

    def read(self) -> None:
        offset, count = self._range(MAX_SIZE)
        self.history.append(f"read {offset} {count}")
        self._check(
            f"read {offset} {count}", os.pread(self.fd, count, offset), bytes(self.model[offset : offset + count])
        )

    def write(self) -> None:
        offset, count = self._range(MAX_SIZE - MAX_IO)
        data = self._data(count)
        self.history.append(f"write {offset} {count}")
        assert os.pwrite(self.fd, data, offset) == count
        self._put(offset, data)

    def vector(self) -> None:
        offset, _ = self._range(MAX_SIZE - MAX_IO)
        parts = [self._data(self.random.randrange(1, 5000)) for _ in range(4)]
        self.history.append(f"writev {offset} {[len(part) for part in parts]}")
        os.pwritev(self.fd, parts, offset)
        self._put(offset, b"".join(parts))

    def truncate(self) -> None:
        size = self.random.randrange(MAX_SIZE)
        self.history.append(f"truncate {size}")
        if self.random.random() < 0.5:
            os.ftruncate(self.fd, size)
        else:
            os.truncate(self.path, size)
        del self.model[size:]
        self.model.extend(bytes(size - len(self.model)))

    def append(self) -> None:
        data = self._data(self.random.randrange(1, 9000))
        if len(self.model) + len(data) > MAX_SIZE:
            return
        self.history.append(f"append {len(data)}")
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            assert os.write(fd, data) == len(data)
            assert os.lseek(fd, 0, os.SEEK_END) == len(self.model) + len(data)
        finally:
            os.close(fd)
        self.model += data

    def reopen(self) -> None:
        self.history.append("reopen")
        os.close(self.fd)
        self.fd = os.open(self.path, os.O_RDWR)

    def fsync(self) -> None:
        self.history.append("fsync")
        (os.fsync if self.random.random() < 0.5 else os.fdatasync)(self.fd)

    def stat(self) -> None:
        self.history.append("stat")
        size = os.stat(self.path).st_size if self.random.random() < 0.5 else os.fstat(self.fd).st_size
        assert size == len(self.model), f"size {size} instead of {len(self.model)}: {list(self.history)}"

    def copy(self) -> None:
        if len(self.model) < 10:
            return
        source, count = self.random.randrange(len(self.model)), self.random.randrange(1, 20000)
        target = self.random.randrange(MAX_SIZE - MAX_IO)
        count = min(count, len(self.model) - source)
        if source < target + count and target < source + count:
            return
        self.history.append(f"copy_file_range {source} {target} {count}")
        done = 0
        while done < count:
            copied = os.copy_file_range(self.fd, self.fd, count - done, source + done, target + done)
            if not copied:
                break
            done += copied
        self._put(target, bytes(self.model[source : source + done]))

    def _mapping(self, access: int) -> tuple[mmap.mmap, int, int] | None:
        if not self.model:
            return None
        offset = self.random.randrange(len(self.model)) & ~(mmap.PAGESIZE - 1)
        count = min(self.random.randrange(1, MAX_IO), len(self.model) - offset)
        if count <= 0:
            return None
        return mmap.mmap(self.fd, count, mmap.MAP_SHARED, access, offset=offset), offset, count

    def mapped_read(self) -> None:
        mapping = self._mapping(mmap.PROT_READ)
        if mapping is None:
            return
        area, offset, count = mapping
        self.history.append(f"mapped read {offset} {count}")
        with area:
            self._check("mapped read", area[:], bytes(self.model[offset : offset + count]))

    def mapped_write(self) -> None:
        mapping = self._mapping(mmap.PROT_READ | mmap.PROT_WRITE)
        if mapping is None:
            return
        area, offset, count = mapping
        self.history.append(f"mapped write {offset} {count}")
        data = self._data(count)
        with area:
            area[:] = data
            area.flush()
        self._put(offset, data)

    def direct_read(self) -> None:
        offset, count = (self.random.randrange(MAX_SIZE) & ~4095), 8192
        self.history.append(f"direct read {offset} {count}")
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECT)
        area = mmap.mmap(-1, count)
        try:
            got = os.preadv(fd, [area], offset)
            self._check("direct read", area[:got], bytes(self.model[offset : offset + count]))
        finally:
            os.close(fd)
            area.close()

    def direct_write(self) -> None:
        offset, count = (self.random.randrange(MAX_SIZE - MAX_IO) & ~4095), 8192
        self.history.append(f"direct write {offset} {count}")
        data = self._data(count)
        fd = os.open(self.path, os.O_WRONLY | os.O_DIRECT)
        area = mmap.mmap(-1, count)
        try:
            area[:] = data
            assert os.pwritev(fd, [area], offset) == count
        finally:
            os.close(fd)
            area.close()
        self._put(offset, data)


if __name__ == "__main__":
    Fsx(Path(sys.argv[1]), int(sys.argv[2])).run(int(sys.argv[3]))
