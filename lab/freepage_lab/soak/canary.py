"""Files beside an export that nobody may read or change, and how to see that nobody did."""

from __future__ import annotations

import os
import stat
from pathlib import Path

CANARY = b"CANARY: nobody may read this"
FILE_NAME = "canary-6c9f"
"""A name that no listing of the export may show."""


class Canaries:
    """A tree in ``directory``; `disturbed` tells what is different from when it was made."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "sub").mkdir(parents=True)
        for name in ("secret", FILE_NAME, "sub/secret", f"sub/{FILE_NAME}"):
            path = directory / name
            path.write_bytes(CANARY)
            path.chmod(0o600)
        long_ago_ns = 1_000_000_000_000_000_000
        for path in self._paths():
            os.utime(path, ns=(long_ago_ns, long_ago_ns))
        # A look at the directory moves its atime: once, before it is remembered.
        self._before = self._state()

    def _paths(self) -> list[Path]:
        return sorted((self.directory, *self.directory.rglob("*")))

    def _state(self) -> dict[str, tuple[object, ...]]:
        state: dict[str, tuple[object, ...]] = {}
        for path in self._paths():
            st = path.lstat()
            # Reading a file moves its atime, even with relatime, since it is older than the last change.
            atime_ns = st.st_atime_ns if stat.S_ISREG(st.st_mode) else None
            state[str(path.relative_to(self.directory))] = (
                st.st_mode, st.st_nlink, st.st_uid, st.st_gid, st.st_size, st.st_mtime_ns, st.st_ctime_ns, atime_ns
            )  # fmt: skip
        return state

    def disturbed(self) -> list[str]:
        """Call it once, at the end."""
        after = self._state()
        found = [
            f"outside the export, {name} was {self._before.get(name)} and is {after.get(name)}"
            for name in sorted(self._before.keys() | after.keys())
            if self._before.get(name) != after.get(name)
        ]
        for path in self._paths():
            if path.is_file() and path.read_bytes() != CANARY:
                found.append(f"outside the export, the contents of {path} have changed")
        return found
