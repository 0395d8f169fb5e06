"""How `freepage ctl` finds the running daemons: each leaves a small JSON file in the user's runtime directory.

The directory is private (0700 and ours), because whoever can write there can tell our tools whom to talk to. A daemon
that was killed leaves its file behind, so a reader believes an entry only while that very process lives, and removes it
otherwise. Pids are reused; the process's start time tells the old from the new.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import tempfile
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import TracebackType

from freepage_runtime.clock import wall_ns
from freepage_runtime.errors import UserError

ROLES = ("server", "client")


@dataclass(frozen=True, kw_only=True, slots=True)
class Daemon:
    """One running server or client process. Addresses are ``host:port`` texts, None where it does not listen."""

    role: str
    name: str
    pid: int = field(default_factory=os.getpid)
    boot: str = ""
    control: str | None = None
    metrics: str | None = None
    grpc: str | None = None
    tls: bool = False
    """the control service speaks TLS"""
    started_ns: int = field(default_factory=wall_ns)
    pid_start: int | None = field(default_factory=lambda: _pid_start(os.getpid()))
    """Start time of the process in clock ticks since boot (proc(5), /proc/PID/stat field 22); None without /proc."""

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(f"role {self.role!r} is none of {', '.join(ROLES)}")

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Daemon:
        """Raises ValueError or TypeError when the text is no daemon; fields of newer versions are passed over."""
        data = json.loads(text)
        if not isinstance(data, dict):
            raise ValueError("not a JSON object")
        daemon = cls(**{f.name: data[f.name] for f in fields(cls) if f.name in data})
        if type(daemon.pid) is not int or daemon.pid <= 0 or type(daemon.name) is not str:
            raise ValueError("pid or name is missing or of the wrong type")
        return daemon

    @property
    def is_alive(self) -> bool:
        """Whether this very process still runs, and not merely one with its number."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass  # it lives, under another user
        return self.pid_start is None or _pid_start(self.pid) in (self.pid_start, None)


def _pid_start(pid: int) -> int | None:
    try:
        line = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The command in parentheses may hold anything, blanks and parentheses too: count from the last one.
    after_command = line.rpartition(")")[2].split()
    state, start = after_command[0], int(after_command[19])
    return -1 if state in "ZX" else start  # a zombie has stopped serving: its start time must not match


def runtime_directory(create: bool = True) -> Path:
    """The directory of this user's daemons: $FREEPAGE_RUNTIME_DIR, $XDG_RUNTIME_DIR/freepage, or one in the temp dir.

    UserError when it is not a directory of ours that others cannot write to or read.
    """
    if named := os.environ.get("FREEPAGE_RUNTIME_DIR"):
        path = Path(named)
    elif (xdg := os.environ.get("XDG_RUNTIME_DIR")) and Path(xdg).is_dir():
        path = Path(xdg) / "freepage"
    else:
        path = Path(tempfile.gettempdir()) / f"freepage-{os.getuid()}"
    if create:
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot make the runtime directory {path}: {error.strerror}") from error
    try:
        status = path.lstat()
    except FileNotFoundError:
        return path
    if not stat.S_ISDIR(status.st_mode):
        raise UserError(f"the runtime directory {path} is not a directory (set FREEPAGE_RUNTIME_DIR to another)")
    if status.st_uid != os.getuid():
        raise UserError(f"the runtime directory {path} belongs to another user (set FREEPAGE_RUNTIME_DIR to another)")
    if status.st_mode & 0o077:
        raise UserError(f"the runtime directory {path} is open to others (chmod 700 it)")
    return path


class Registration:
    """This process's entry; ``close`` (or leaving the block) removes it."""

    def __init__(self, daemon: Daemon, path: Path) -> None:
        self.daemon = daemon
        self.path = path

    def close(self) -> None:
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Registration:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def register(daemon: Daemon) -> Registration:
    """Write the daemon's entry, whole or not at all; readers never see half a file."""
    directory = runtime_directory()
    name = re.sub(r"[^A-Za-z0-9._-]", "_", daemon.name)
    path = directory / f"{daemon.role}-{name}-{daemon.pid}.json"
    descriptor, temporary = tempfile.mkstemp(prefix=".new-", dir=directory)  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(daemon.to_json() + "\n")
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return Registration(daemon, path)


def list_daemons(role: str | None = None) -> list[Daemon]:
    """The living daemons, oldest first. Entries of dead processes, and files that are no entries, are removed."""
    living = []
    for path in sorted(runtime_directory(create=False).glob("*.json")):
        try:
            daemon = Daemon.from_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue  # it left while we looked
        except (OSError, ValueError, TypeError):
            daemon = None
        if daemon is None or not daemon.is_alive:
            with contextlib.suppress(OSError):
                path.unlink()
        elif role is None or daemon.role == role:
            living.append(daemon)
    return sorted(living, key=lambda daemon: (daemon.started_ns, daemon.name))
