"""Random operations on names, made on a mount and on a local directory alike: same errors, same trees (as fsstress).

``python namespace_stress.py MOUNTED LOCAL SEED COUNT``
"""

from __future__ import annotations

import errno
import os
import random
import stat
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path

SAME = {errno.EEXIST: errno.ENOTEMPTY}
"""Errors that POSIX lets a file system choose between."""


class NamespaceStress:
    """Two directories, empty at the beginning. Open files are kept for a while, so that removed ones live on."""

    def __init__(self, mounted: Path, local: Path, seed: int) -> None:
        self.roots = (mounted, local)
        self.random = random.Random(seed)
        self.history: deque[str] = deque(maxlen=25)
        self.open: list[tuple[int, int]] = []

    def run(self, count: int) -> None:
        operations = [
            *[self.create] * 4, *[self.mkdir] * 3, self.symlink, self.link, *[self.rename] * 3, *[self.unlink] * 2,
            self.rmdir, self.chmod, self.truncate, self.stat, self.readlink, self.listdir, self.write, self.close,
            self.fifo, self.keep,
        ]  # fmt: skip
        try:
            for _ in range(count):
                self.random.choice(operations)()
        finally:
            for pair in self.open:
                for fd in pair:
                    os.close(fd)
        trees = [self._tree(root) for root in self.roots]
        assert trees[0] == trees[1], self._story("the trees differ")

    def _path(self) -> str:
        depth = self.random.choice((1, 1, 2, 2, 3))
        return "/".join(self.random.choice("abcdef") for _ in range(depth))

    def _story(self, what: str) -> str:
        return "\n".join([what, *self.history])

    def _both(self, what: str, call: Callable[[Path], object]) -> list[object]:
        self.history.append(what)
        results: list[object] = []
        errors: list[int] = []
        for root in self.roots:
            try:
                results.append(call(root))
                errors.append(0)
            except OSError as error:
                results.append(None)
                number = error.errno or 0
                errors.append(SAME.get(number, number))
        names = [errno.errorcode.get(number, "ok") for number in errors]
        assert errors[0] == errors[1], self._story(f"{what}: {names[0]} on the mount, {names[1]} locally")
        return results

    def _same(self, what: str, call: Callable[[Path], object]) -> None:
        found, expected = self._both(what, call)
        assert found == expected, self._story(f"{what}: {found} on the mount, {expected} locally")

    def create(self) -> None:
        path, flags = self._path(), self.random.choice((0, os.O_EXCL, os.O_TRUNC))
        self._both(
            f"create {path} {flags:o}",
            lambda r: os.close(os.open(r / path, os.O_CREAT | os.O_WRONLY | flags | os.O_NONBLOCK)),
        )

    def keep(self) -> None:
        path = self._path()
        if len(self.open) > 6 or (self.roots[1] / path).is_fifo():
            return
        fds = self._both(f"open {path}", lambda r: os.open(r / path, os.O_RDWR))
        if isinstance(fds[0], int) and isinstance(fds[1], int):
            self.open.append((fds[0], fds[1]))

    def close(self) -> None:
        if self.open:
            for fd in self.open.pop(self.random.randrange(len(self.open))):
                os.close(fd)

    def write(self) -> None:
        if not self.open:
            return
        pair, data, offset = self.random.choice(self.open), self.random.randbytes(3000), self.random.randrange(20000)
        for fd in pair:
            os.pwrite(fd, data, offset)
        found, expected = (os.pread(fd, 50000, 0) for fd in pair)
        assert found == expected, self._story("open files differ")

    def mkdir(self) -> None:
        path = self._path()
        self._both(f"mkdir {path}", lambda r: os.mkdir(r / path))

    def symlink(self) -> None:
        path, target = self._path(), self._path()
        self._both(f"symlink {target} {path}", lambda r: os.symlink(target, r / path))

    def link(self) -> None:
        old, new = self._path(), self._path()
        self._both(f"link {old} {new}", lambda r: os.link(r / old, r / new, follow_symlinks=False))

    def fifo(self) -> None:
        path = self._path()
        self._both(f"mkfifo {path}", lambda r: os.mkfifo(r / path))

    def rename(self) -> None:
        old, new = self._path(), self._path()
        self._both(f"rename {old} {new}", lambda r: os.rename(r / old, r / new))

    def unlink(self) -> None:
        path = self._path()
        self._both(f"unlink {path}", lambda r: os.unlink(r / path))

    def rmdir(self) -> None:
        path = self._path()
        if any(self._holds_silly(self.roots[0] / path)):
            return  # NFS keeps a directory with a removed open file in it
        self._both(f"rmdir {path}", lambda r: os.rmdir(r / path))

    def _holds_silly(self, path: Path) -> list[bool]:
        try:
            return [True for name in os.listdir(path) if name.startswith(".nfs")]
        except OSError:
            return []

    def chmod(self) -> None:
        path, mode = self._path(), self.random.choice((0o755, 0o700, 0o711))
        self._both(f"chmod {path}", lambda r: os.chmod(r / path, mode))

    def truncate(self) -> None:
        path, size = self._path(), self.random.randrange(10000)
        self._both(f"truncate {path} {size}", lambda r: os.truncate(r / path, size))

    def stat(self) -> None:
        path, follow = self._path(), self.random.random() < 0.5
        self._same(f"stat {path}", lambda r: _facts(os.stat(r / path, follow_symlinks=follow)))

    def readlink(self) -> None:
        path = self._path()
        self._same(f"readlink {path}", lambda r: os.readlink(r / path))

    def listdir(self) -> None:
        path = self._path()
        self._same(f"listdir {path}", lambda r: sorted(n for n in os.listdir(r / path) if not n.startswith(".nfs")))

    def _tree(self, root: Path) -> dict[str, object]:
        tree: dict[str, object] = {}
        for directory, names, files in os.walk(root):
            for name in names + files:
                path = Path(directory, name)
                if not name.startswith(".nfs"):
                    status = path.lstat()
                    body = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
                    tree[str(path.relative_to(root))] = (_facts(status), body)
        return tree


def _facts(status: os.stat_result) -> tuple[int, ...]:
    if stat.S_ISDIR(status.st_mode):
        return (status.st_mode,)
    return status.st_mode, status.st_size, status.st_nlink


if __name__ == "__main__":
    NamespaceStress(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])).run(int(sys.argv[4]))
