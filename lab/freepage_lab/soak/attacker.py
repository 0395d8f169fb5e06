"""A program that works against a server from inside its export: ``python -m freepage_lab.soak.attacker``.

It swaps directories and files for symbolic links that lead out, and back, as quickly as it can (renameat2 with
RENAME_EXCHANGE leaves no moment in between), renames directories into one another, and puts links where files were. It
takes care not to walk through its own links: what happens outside is the server's doing. It prints its steps' number.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from freepage_lab.soak.canary import FILE_NAME

DIRECTORIES = ("d0", "d1", "d2", "d3")
FILES = ("secret", "f0", "f1", FILE_NAME)

_RENAME_EXCHANGE = 2
_libc = ctypes.CDLL(None, use_errno=True)
_AS_IT_IS = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_RDONLY | os.O_CLOEXEC


def exchange(directory: int, name: str, other_directory: int, other: str) -> None:
    """Swap two names in one step, where the system can."""
    renameat2: Callable[..., int] | None = getattr(_libc, "renameat2", None)
    if renameat2 is not None:
        renameat2(directory, name.encode(), other_directory, other.encode(), _RENAME_EXCHANGE)


def ways_out(export: Path, outside: Path) -> tuple[str, ...]:
    """Where its symbolic links lead."""
    up = os.path.relpath(outside, export)
    return (str(outside), up, f"../{up}", f"{outside}/secret", f"../{up}/secret", f"{outside}/sub", "..", "../..", "/")


class Attacker:
    def __init__(self, export: Path, outside: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.targets = ways_out(export, outside)
        self._export = export

    @contextlib.contextmanager
    def _place(self) -> Iterator[tuple[int, str]]:
        """A directory's descriptor and a name there. Raises OSError when there is none."""
        choice = self.chance.choice
        fd = os.open(self._export, _AS_IT_IS)
        try:
            for _ in range(choice((0, 1, 1, 2))):
                below = os.open(choice(DIRECTORIES), _AS_IT_IS, dir_fd=fd)
                os.close(fd)
                fd = below
            yield fd, choice((*DIRECTORIES, *FILES))
        finally:
            os.close(fd)

    def step(self) -> None:
        """One thing, quickly. Raises OSError when the tree is not as it needs it."""
        with self._place() as (at, name), self._place() as (there, other):
            match self.chance.randrange(9):
                case 0 | 1 | 2:
                    with contextlib.suppress(FileExistsError):
                        os.symlink(self.chance.choice(self.targets), ".aside", dir_fd=at)
                    exchange(at, name, at, ".aside")
                    exchange(at, name, at, ".aside")
                case 3:
                    os.symlink(self.chance.choice(self.targets), name, dir_fd=at)
                case 4:
                    os.rename(name, other, src_dir_fd=at, dst_dir_fd=there)
                case 5:
                    if name in DIRECTORIES:
                        os.mkdir(name, dir_fd=at)
                    else:
                        flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY
                        fd = os.open(name, flags, 0o666, dir_fd=at)
                        os.write(fd, b"inside")
                        os.close(fd)
                case 6:
                    try:
                        os.unlink(name, dir_fd=at)
                    except IsADirectoryError:
                        if self.chance.random() < 0.2:
                            shutil.rmtree(name, ignore_errors=True, dir_fd=at)
                case 7:
                    os.link(name, other, src_dir_fd=at, dst_dir_fd=there, follow_symlinks=False)
                case _:
                    exchange(at, name, there, other)

    def attack(self, seconds: float) -> int:
        """Returns the steps taken, those that failed included."""
        end = time.monotonic() + seconds
        steps = 0
        while time.monotonic() < end:
            for _ in range(50):
                with contextlib.suppress(OSError):
                    self.step()
                steps += 1
        return steps


if __name__ == "__main__":
    print(Attacker(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[4])).attack(float(sys.argv[3])))
