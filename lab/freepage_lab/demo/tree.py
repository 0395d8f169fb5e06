"""The files that the demo's servers export: a copy of the running Python's standard library, or of a directory of
yours.

Copies, because the workload changes files. What it changes lies in a directory of its own in each copy, so that the
tree itself stays what it was.
"""

from __future__ import annotations

import os
import shutil
import stat
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from freepage_runtime.errors import UserError
from freepage_runtime.settings import format_size

LEFT_OUT = frozenset({"__pycache__", "site-packages", "dist-packages", "test", "tests", "idlelib", "ensurepip"})
LEFT_OUT_PREFIXES = ("config-",)
"""Of the standard library: compiled twins, other people's packages, its own tests, and the static libpython."""

MAX_BYTES = 1 << 30
"""A demo is no backup: a larger directory is refused."""

WORK_DIRECTORY = "freepage-demo"
"""Where in each export the workload makes and changes files."""


@dataclass(frozen=True, slots=True)
class Tree:
    """What was copied: file names relative to the export with their sizes in bytes, and the directories."""

    root: Path
    files: tuple[tuple[str, int], ...]
    directories: tuple[str, ...]

    @property
    def n_bytes(self) -> int:
        return sum(size for _, size in self.files)


def check_source(export: Path | None) -> Path:
    """The directory to copy. Raises UserError when ``export`` does not exist, is no directory, or cannot be read."""
    if export is None:
        return Path(sysconfig.get_path("stdlib"))
    if not export.exists():
        raise UserError(f"--export {export}: there is no such directory")
    if not export.is_dir():
        raise UserError(f"--export {export}: not a directory")
    if not os.access(export, os.R_OK | os.X_OK):
        raise UserError(f"--export {export}: permission denied")
    return export


def copy_tree(source: Path, target: Path, *, standard_library: bool, at_least_bytes: int) -> Tree:
    """Copy the regular files below ``source`` that can be read to ``target``, and say what was copied.

    A tree too small to overflow the clients' caches is copied several times, side by side. Raises UserError.
    """
    files = list(_files_below(source, standard_library))
    if not files:
        raise UserError(f"--export {source}: there are no files in it")
    total = sum(size for _, size in files)
    if total > MAX_BYTES:
        raise UserError(
            f"--export {source}: {format_size(total)} of files, more than the demo's {format_size(MAX_BYTES)}"
        )
    copies = max(1, -(-at_least_bytes // max(total, 1)))
    copied: list[tuple[str, int]] = []
    directories = {""}
    for number in range(copies if total else 1):
        prefix = f"copy{number + 1}/" if copies > 1 else ""
        for name, _ in files:
            path = target / (prefix + name)
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                shutil.copyfile(source / name, path)
            except OSError:
                path.unlink(missing_ok=True)
                continue  # gone or forbidden meanwhile: the demo shows what it could copy
            copied.append((prefix + name, path.stat().st_size))
            directories.update(str(parent) for parent in Path(prefix + name).parents if str(parent) != ".")
    (target / WORK_DIRECTORY).mkdir(exist_ok=True)
    return Tree(target, tuple(copied), tuple(sorted(directories)))


def _files_below(source: Path, standard_library: bool) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    for directory, subdirectories, names in os.walk(source):
        subdirectories[:] = sorted(name for name in subdirectories if not (standard_library and _left_out(name)))
        for name in sorted(names):
            path = Path(directory) / name
            try:
                status = path.lstat()
            except OSError:
                continue  # gone since os.walk saw it
            if stat.S_ISREG(status.st_mode) and os.access(path, os.R_OK):
                found.append((str(path.relative_to(source)), status.st_size))
    return found


def _left_out(name: str) -> bool:
    return name in LEFT_OUT or name.startswith(LEFT_OUT_PREFIXES)
