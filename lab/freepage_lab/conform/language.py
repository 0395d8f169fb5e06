"""The step language: what a workload may say, checked to the last key before anything runs.

A workload is one JSON object (the language's own description is in ``tests/conformance/data/README.md``).
:func:`parse_workload` turns it into :class:`Workload` and :class:`Step` objects whose numbers and strings are
compiled, and refuses what it does not know: an operand, step or environment key that were silently ignored would make
a comparison worthless.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from freepage_lab.conform.expression import ExpressionError, Variables, number, text
from freepage_runtime.errors import UserError

SERVER = "S"
CLIENTS = ("A", "B")
BASE_OPTIONS = "vers=3,proto=tcp,nolock,sec=sys"
"""What every recorded mount began with; a workload's own options follow."""


class WorkloadError(UserError):
    """The workload says something that the step language does not know."""


class _Required(Enum):
    YES = "required"


@dataclass(frozen=True, slots=True)
class _Operand:
    """One operand of a step: how to read it, and what it is when it is not given."""

    read: Callable[[object], Any]
    default: Any = _Required.YES


@dataclass(frozen=True, slots=True)
class Step:
    """One step, ready to run. ``operands`` maps names to what :data:`STEPS` says: compiled numbers and texts, or
    plain values."""

    op: str
    client: str
    operands: Mapping[str, Any]
    steps: tuple[Step, ...] = ()

    def __getitem__(self, name: str) -> Any:
        return self.operands[name]


@dataclass(frozen=True, slots=True)
class Environment:
    """What the machine was set to for the workload.

    ``read_ahead_kb`` of the mounts' bdi, ``memcg_mb`` the memory.max of both clients together, ``dirty`` the
    ``vm.dirty_*`` values by name without ``vm.``. Two keys describe the recordings' machine and change nothing here:
    ``leases`` (NFSv4 delegations), and ``server_sync`` (the server's file system mounted sync: an UNSTABLE write is
    an UNSTABLE write to the client).
    """

    read_ahead_kb: int | None = None
    memcg_mb: int | None = None
    dirty: Mapping[str, int] = field(default_factory=dict)
    leases: int | None = None
    server_sync: bool = False


@dataclass(frozen=True, slots=True)
class Workload:
    """One parsed workload. ``mounts`` gives each mounted client's options; ``versions`` is None when any will do."""

    name: str
    family: str
    description: str
    mounts: Mapping[str, str]
    environment: Environment
    setup: tuple[Step, ...]
    steps: tuple[Step, ...]
    versions: tuple[str, ...] | None = None

    @property
    def least_s(self) -> float:
        """Seconds that the script sleeps at least; loops count once."""
        return float(sum(step["seconds"] for step in walk(self.steps) if step.op == "sleep"))

    @property
    def runs_on_nfs3(self) -> bool:
        return self.versions is None or "3" in self.versions


# --- how operands are read ------------------------------------------------------------------------------------------


def _integer(source: object) -> int:
    if isinstance(source, bool) or not isinstance(source, int):
        raise ExpressionError(f"{source!r} is not an integer")
    return source


def _seconds(source: object) -> float:
    if isinstance(source, bool) or not isinstance(source, int | float) or source < 0:
        raise ExpressionError(f"{source!r} is not a number of seconds")
    return float(source)


def _flag(source: object) -> bool:
    if not isinstance(source, bool | int):
        raise ExpressionError(f"{source!r} is neither true nor false")
    return bool(source)


def _open_flags(source: object) -> int:
    if not isinstance(source, list):
        raise ExpressionError("open flags are a list of names")
    flags = 0
    for name in source:
        value = getattr(os, name, None) if isinstance(name, str) and name.startswith("O_") else None
        if value is None:
            raise ExpressionError(f"there is no open flag {name!r}")
        flags |= value
    return flags


def _names(choices: Mapping[str, int], what: str, separator: str | None = "|") -> Callable[[object], int]:
    def read(source: object) -> int:
        value = 0
        names = str(source).split(separator) if separator else [str(source)]
        for name in names:
            if name not in choices:
                raise ExpressionError(
                    f"{source!r} is no {what}: there are {', '.join(n or '(empty)' for n in choices)}"
                )
            value |= choices[name]
        return value

    return read


def _when(source: object) -> int | str:
    return "now" if source == "now" else _integer(source)


def _values(source: object) -> Sequence[Any]:
    if not isinstance(source, list):
        raise ExpressionError(f"{source!r} is not a list of values")
    return tuple(source)


_LOCK_HOW = {"SH": fcntl.LOCK_SH, "EX": fcntl.LOCK_EX, "UN": fcntl.LOCK_UN, "NB": fcntl.LOCK_NB}
_ACCESS_MODES = {"F_OK": os.F_OK, "R_OK": os.R_OK, "W_OK": os.W_OK, "X_OK": os.X_OK}
_ADVICE = {
    name: getattr(os, "POSIX_FADV_" + name)
    for name in ("NORMAL", "SEQUENTIAL", "RANDOM", "NOREUSE", "WILLNEED", "DONTNEED")
}
_WHENCE = {"SET": os.SEEK_SET, "CUR": os.SEEK_CUR, "END": os.SEEK_END, "DATA": os.SEEK_DATA, "HOLE": os.SEEK_HOLE}
_FALLOCATE_HOW = {"": 0, "KEEP_SIZE": 1, "PUNCH_HOLE": 3}
"""linux/falloc.h: FALLOC_FL_KEEP_SIZE 1, FALLOC_FL_PUNCH_HOLE 2, the latter valid only together with the former."""

_PATH = {"path": _Operand(text, ".")}
_FD = {"fd": _Operand(text)}
_TO = {"to": _Operand(text)}
_SEED = {"seed": _Operand(number, 0)}
_LENGTH = {"length": _Operand(number)}
_OFFSET = {"offset": _Operand(number)}
_CHUNK = {"chunk": _Operand(number)}

STEPS: dict[str, dict[str, _Operand]] = {
    "open": {**_PATH, **_FD, "flags": _Operand(_open_flags, ["O_RDONLY"]), "mode": _Operand(_integer, 0o644)},
    "close": _FD,
    "read": {**_FD, **_LENGTH},
    "pread": {**_FD, **_OFFSET, **_LENGTH},
    "read_all": {**_FD, **_CHUNK},
    "write": {**_FD, **_LENGTH, **_SEED, "base": _Operand(number, None)},
    "pwrite": {**_FD, **_OFFSET, **_LENGTH, **_SEED},
    "write_all": {**_FD, **_LENGTH, **_CHUNK, **_SEED},
    "lseek": {**_FD, **_OFFSET, "whence": _Operand(_names(_WHENCE, "whence", None), "SET")},
    "fsync": _FD,
    "fdatasync": _FD,
    "ftruncate": {**_FD, **_LENGTH},
    "truncate": {**_PATH, **_LENGTH},
    "fallocate": {**_FD, **_OFFSET, **_LENGTH, "how": _Operand(_names(_FALLOCATE_HOW, "fallocate mode", None), "")},
    "stat": _PATH,
    "lstat": _PATH,
    "fstat": _FD,
    "access": {**_PATH, "mode": _Operand(_names(_ACCESS_MODES, "access mode"))},
    "listdir": _PATH,
    "listdir_stat": _PATH,
    "mkdir": {**_PATH, "mode": _Operand(_integer, 0o755)},
    "rmdir": _PATH,
    "unlink": _PATH,
    "readlink": _PATH,
    "rename": {**_PATH, **_TO},
    "link": {**_PATH, **_TO},
    "symlink": {**_PATH, "target": _Operand(text)},
    "chmod": {**_PATH, "mode": _Operand(_integer)},
    "utimens": {**_PATH, "atime": _Operand(_when, None), "mtime": _Operand(_when)},
    "statfs": _PATH,
    "fadvise": {
        **_FD,
        "offset": _Operand(number, 0),
        "length": _Operand(number, 0),
        "advice": _Operand(_names(_ADVICE, "advice", None)),
    },
    "flock": {**_FD, "how": _Operand(_names(_LOCK_HOW, "lock mode"))},
    "lockf": {
        **_FD,
        "how": _Operand(_names(_LOCK_HOW, "lock mode")),
        "offset": _Operand(number, 0),
        "length": _Operand(number, 0),
    },
    "copy": {**_PATH, **_TO, "chunk": _Operand(number, 131072)},
    "copy_range": {
        **_FD,
        "to_fd": _Operand(text),
        **_LENGTH,
        "offset": _Operand(number, 0),
        "to_offset": _Operand(number, 0),
    },
    "sleep": {"seconds": _Operand(_seconds)},
    "drop_caches": {"what": _Operand(_integer, 3)},
    "sync": {},
    "server_write": {**_PATH, "offset": _Operand(number, 0), **_LENGTH, **_SEED, "trunc": _Operand(_flag, False)},
    "mkfile": {**_PATH, **_LENGTH, **_SEED, "mode": _Operand(_integer, None)},
    "for": {
        "var": _Operand(str),
        "from": _Operand(number, 0),
        "to": _Operand(number, None),
        "step": _Operand(number, 1),
        "in": _Operand(_values, None),
    },
    "checkpoint": {"label": _Operand(text)},
}
"""Every step, and its operands. What is named here is known; everything else is an error."""

ON_THE_SERVER = frozenset({"server_write", "mkfile"})
"""Steps that happen on S unless they name a client."""

NO_CLIENT = frozenset({"sleep", "drop_caches", "sync", "server_write", "checkpoint", "for"})
"""Steps that mount nobody: they act on the whole machine, or on S."""


# --- reading a workload ---------------------------------------------------------------------------------------------


def parse_step(source: object, where: str, client: str | None = None) -> Step:
    """One step; ``client`` overrides the one it names (set-up runs on S). Raises WorkloadError that says where."""
    if not isinstance(source, dict):
        raise WorkloadError(f"{where}: a step is an object, not {source!r}")
    op = source.get("op")
    if not isinstance(op, str) or op not in STEPS:
        raise WorkloadError(f"{where}: unknown step {op!r}")
    where = f"{where} ({op})"
    known = STEPS[op]
    override = client
    unknown = set(source) - set(known) - {"op", "client"} - ({"steps"} if op == "for" else set())
    if unknown:
        raise WorkloadError(f"{where}: unknown operand {', '.join(sorted(unknown))}")
    operands: dict[str, Any] = {}
    for name, operand in known.items():
        given = source.get(name, operand.default)
        if given is _Required.YES:
            raise WorkloadError(f"{where}: operand {name} is missing")
        try:
            operands[name] = None if given is None and operand.default is None else operand.read(given)
        except ExpressionError as error:
            raise WorkloadError(f"{where}: {name}: {error}") from None
    if op == "drop_caches" and operands["what"] not in (1, 2, 3):
        raise WorkloadError(f"{where}: what is 1, 2 or 3")
    if client is None:
        client = source.get("client", SERVER if op in ON_THE_SERVER else CLIENTS[0])
        if client not in (*CLIENTS, SERVER):
            raise WorkloadError(f"{where}: there is no client {client!r}")
    inner: tuple[Step, ...] = ()
    if op == "for":
        if (operands["in"] is None) == (operands["to"] is None):
            raise WorkloadError(f"{where}: exactly one of to and in says how often")
        inner = _parse_steps(source.get("steps"), where, override)
    return Step(op, client, operands, inner)


def _parse_steps(source: object, where: str, client: str | None = None) -> tuple[Step, ...]:
    if not isinstance(source, list):
        raise WorkloadError(f"{where}: steps are a list")
    return tuple(parse_step(step, f"{where}, step {index}", client) for index, step in enumerate(source))


def _parse_environment(source: object, where: str) -> Environment:
    if not isinstance(source, dict):
        raise WorkloadError(f"{where}: env is an object")
    values = dict(source)
    sysctl = values.pop("sysctl", {})
    unknown = set(values) - {"read_ahead_kb", "memcg_mb", "leases", "server_sync"}
    if unknown:
        raise WorkloadError(f"{where}: unknown env key {', '.join(sorted(unknown))}")
    if not isinstance(sysctl, dict):
        raise WorkloadError(f"{where}: env: sysctl is an object")
    dirty = {}
    for key, value in sysctl.items():
        if key not in _SYSCTLS:
            raise WorkloadError(f"{where}: unknown sysctl {key}")
        dirty[key.removeprefix("vm.")] = _amount(value, where, key)
    for key in ("read_ahead_kb", "memcg_mb", "leases"):
        if values.get(key) is not None:
            values[key] = _amount(values[key], where, key)
    if not isinstance(values.get("server_sync", False), bool):
        raise WorkloadError(f"{where}: env: server_sync is true or false")
    return Environment(dirty=dirty, **values)


def _amount(value: object, where: str, key: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise WorkloadError(f"{where}: env: {key} is a whole number, not {value!r}")
    return value


_SYSCTLS = frozenset(
    "vm." + name
    for name in (
        "dirty_bytes",
        "dirty_background_bytes",
        "dirty_ratio",
        "dirty_background_ratio",
        "dirty_expire_centisecs",
        "dirty_writeback_centisecs",
    )
)


def parse_workload(source: object, where: str) -> Workload:
    """A workload from its JSON; ``where`` begins every complaint. Raises WorkloadError."""
    if not isinstance(source, dict):
        raise WorkloadError(f"{where}: a workload is an object")
    unknown = set(source) - {"name", "family", "description", "mount", "vers", "env", "setup", "steps"}
    if unknown:
        raise WorkloadError(f"{where}: unknown key {', '.join(sorted(unknown))}")
    if not isinstance(source.get("name"), str):
        raise WorkloadError(f"{where}: a workload has a name")
    steps = _parse_steps(source.get("steps"), where)
    if not steps:
        raise WorkloadError(f"{where}: a workload has steps")
    mounted = [CLIENTS[0]]
    mounted += [client for client in CLIENTS[1:] if client in _clients_named(steps)]
    mounts = {}
    mount = source.get("mount", {})
    if not isinstance(mount, dict):
        raise WorkloadError(f"{where}: mount is an object")
    for client, settings in mount.items():
        if client not in CLIENTS or not isinstance(settings, dict):
            raise WorkloadError(f"{where}: mount describes {' and '.join(CLIENTS)}")
        unknown = set(settings) - {"opts", "opts_v3", "opts_v4"}
        if unknown:
            raise WorkloadError(f"{where}: unknown mount key {', '.join(sorted(unknown))}")
        if not all(isinstance(options, str) for options in settings.values()):
            raise WorkloadError(f"{where}: mount: options are a string")
    for client in mounted:
        settings = mount.get(client, {})
        own = (settings.get("opts", ""), settings.get("opts_v3", ""))
        mounts[client] = ",".join(part for part in (BASE_OPTIONS, *own) if part)
    versions = source.get("vers")
    if versions is not None and not isinstance(versions, list):
        raise WorkloadError(f"{where}: vers is a list")
    setup = _parse_steps(source.get("setup", []), f"{where}, setup", SERVER)
    _rehearse(setup, {}, f"{where}, setup")
    _rehearse(steps, {}, where)
    return Workload(
        name=source["name"],
        family=str(source.get("family", "")),
        description=str(source.get("description", "")),
        mounts=mounts,
        environment=_parse_environment(source.get("env", {}), where),
        setup=setup,
        steps=steps,
        versions=None if versions is None else tuple(str(version) for version in versions),
    )


def _rehearse(steps: Sequence[Step], variables: Variables, where: str) -> None:
    """Work every expression out once, with the first value of each loop: a variable that no loop sets is found here."""
    for index, step in enumerate(steps):
        place = f"{where}, step {index} ({step.op})"
        try:
            for operand in step.operands.values():
                if callable(operand):
                    operand(variables)
            values = loop_values(step, variables) if step.op == "for" else ()
        except (ExpressionError, ValueError) as error:
            raise WorkloadError(f"{place}: {error}") from None
        for value in values:
            _rehearse(step.steps, {**variables, step["var"]: value}, place)
            break


def load_workload(path: Path) -> Workload:
    """Read one workload file. Raises WorkloadError naming the file."""
    try:
        source = json.loads(path.read_text())
    except OSError as error:
        raise WorkloadError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise WorkloadError(f"{path}: not JSON: {error}") from None
    return parse_workload(source, str(path))


def _clients_named(steps: Sequence[Step]) -> set[str]:
    return {step.client for step in walk(steps) if step.op not in NO_CLIENT}


def walk(steps: Sequence[Step]) -> Iterator[Step]:
    """Every step and inner step."""
    for step in steps:
        yield step
        yield from walk(step.steps)


def loop_values(step: Step, variables: Variables) -> Sequence[Any]:
    """The values that a ``for`` step's variable takes."""
    if step["in"] is not None:
        values: Sequence[Any] = step["in"]
        return values
    return range(step["from"](variables), step["to"](variables), step["step"](variables))
