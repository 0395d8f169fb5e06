"""What a load is made of, and how it is written down: a TOML file of file sets, and of operations made of steps.

    about = "what it imitates"
    seed = 1                     # of everything left to chance; without one each run draws its own
    workers = 4                  # programs on each client host
    duration = "30s"             # or operations = 1000
    think = "0ms"                # mean pause between a program's operations (closed loop)
    rate = 0                     # operations a second, all together (open loop); 0: closed loop
    arrivals = "random"          # or "constant": how an open loop's operations are spaced
    verify = true                # read data are compared with what was written

    [files.sources]
    count = 120                  # files, of each worker; of all together when shared
    size = "1KiB..32KiB"         # of each file
    fan_out = 20                 # files in a directory
    shared = false               # true: all workers of all clients use the same files
    prepare = true               # false: the files are not there at the beginning
    keep_open = false            # true: a file is opened once and stays open
    memory_percent = 0           # instead of count: together this share of a client's page cache
    at_most = "256MiB"           # ... but not more

    [[operation]]
    name = "compile"
    weight = 3                   # how often, beside the others
    steps = [
        { do = "read", files = "sources" },
        { do = "missing", files = "headers", times = 4 },
    ]

Everything that is wrong in such a file is a UserError that names the file and the place.
"""

from __future__ import annotations

import math
import random
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

from freepage_runtime.errors import UserError
from freepage_runtime.settings import format_size, parse_duration, parse_size

PAGE_SIZE = 4096
NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
PICKS = ("random", "hot", "next")
"""Which file of a set: any; four times in five one of the first fifth; or one after the other."""

FILE_VERBS: dict[str, str] = {
    "read": "open, read from the beginning to the end, close",
    "pread": "open, read one block at a random place, close",
    "write": "open with O_TRUNC, write all of it, close",
    "pwrite": "open, overwrite one block at a random place, close",
    "append": "open with O_APPEND, write one block, close",
    "replace": "write a temporary file and rename it over the file",
    "create": "write a file of a new name",
    "deliver": "write a file of a new name under tmp, link it into place, unlink the temporary name",
    "unlink": "remove the oldest file that a create or deliver has made",
    "rename": "give the oldest file that a create or deliver has made a new name",
    "truncate": "cut a file to half its size, and write it up to its size again",
    "stat": "stat a file",
    "missing": "stat a name that does not exist",
    "list": "open a directory, getdents to its end, close",
    "walk": "list one directory and lstat each of its files",
}
"""Each thing a step can do, and the system calls it is made of."""

NEEDS_PRIVATE = ("write", "append", "truncate", "create", "deliver", "unlink", "rename")
"""What makes a file shorter, or its name another, in the middle of somebody's reading: not on shared files."""


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes between two bounds, both included."""

    least: int
    most: int

    @classmethod
    def parse(cls, text: str | int) -> Size:
        """``"4KiB"`` or ``"1KiB..64KiB"``."""
        first, dots, last = str(text).partition("..")
        least = parse_size(first)
        most = parse_size(last) if dots else least
        if most < least:
            raise UserError(f"{text!r} ends before it begins")
        return cls(least, most)

    def draw(self, chance: random.Random) -> int:
        """Small ones more often, as files are: each doubling is as likely as the next."""
        if self.least == self.most:
            return self.least
        return min(round(math.exp(chance.uniform(math.log(self.least + 1), math.log(self.most + 1)))) - 1, self.most)

    @property
    def mean(self) -> float:
        low, high = self.least + 1, self.most + 1
        return self.least if low == high else (high - low) / math.log(high / low) - 1

    def __str__(self) -> str:
        least = format_size(self.least)
        return least if self.least == self.most else f"{least} to {format_size(self.most)}"


@dataclass(frozen=True, slots=True)
class FileSet:
    """Files of one kind. ``memory_percent`` above 0 sets their number by the client's page cache, not ``count``."""

    name: str
    count: int = 1
    size: Size = Size(PAGE_SIZE, PAGE_SIZE)
    fan_out: int = 100
    shared: bool = False
    prepare: bool = True
    keep_open: bool = False
    memory_percent: int = 0
    at_most: int = 256 << 20


@dataclass(frozen=True, slots=True)
class Step:
    """One thing done to one file, ``times`` over. ``block`` is the size of a read or write, in bytes."""

    do: str
    files: str
    times: tuple[int, int] = (1, 1)
    pick: str = "random"
    block: int = 128 << 10
    fsync: bool = False
    lock: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """What is counted and measured: steps, one after the other."""

    name: str
    steps: tuple[Step, ...]
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Profile:
    """A whole load. ``duration_s`` None: no end by time; ``operations`` None: none by count."""

    name: str
    about: str
    files: Mapping[str, FileSet]
    mix: tuple[Operation, ...]
    seed: int | None = None
    """None: each run draws one, and says which."""
    workers: int = 1
    duration_s: float | None = 30.0
    operations: int | None = None
    think_s: float = 0.0
    rate: float = 0.0
    arrivals: str = "random"
    verify: bool = True
    source: str = field(default="", repr=False)
    """the text it was made of"""


# --- reading ----------------------------------------------------------------------------------------------------------


def shipped() -> dict[str, str]:
    """The profiles that come with freepage: name -> text."""
    folder = resources.files("freepage_lab.load") / "profiles"
    return {
        entry.name.removesuffix(".toml"): entry.read_text("utf-8")
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".toml")
    }


def load_profile(name_or_file: str) -> Profile:
    """The shipped profile of that name, or the one in a file. Raises UserError."""
    texts = shipped()
    if name_or_file in texts:
        return parse_profile(texts[name_or_file], name_or_file, f"profile {name_or_file}")
    path = Path(name_or_file)
    if not name_or_file.endswith(".toml"):
        raise UserError(f"there is no profile {name_or_file!r}: choose {', '.join(texts)}, or name a FILE.toml")
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text") from error
    name = re.sub(r"[^a-z0-9_-]", "-", path.stem.lower()).lstrip("-_0123456789") or "profile"
    return parse_profile(text, name[:32], str(path))


def parse_profile(text: str, name: str, where: str) -> Profile:
    """Raises UserError that begins with ``where``."""
    try:
        return _profile(tomllib.loads(text), name, text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{where}: {error}") from error
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


class _Table:
    """A TOML table of which every key is asked for by type; what is left over is a mistake."""

    def __init__(self, data: Any, place: str) -> None:
        if not isinstance(data, dict):
            raise UserError(f"{place} must be a table")
        self._data = dict(data)
        self._place = place

    def take(self, key: str, kind: type | tuple[type, ...], default: Any, what: str) -> Any:
        value = self._data.pop(key, default)
        fits = isinstance(value, kind) and (not isinstance(value, bool) or kind is bool)
        if not fits:
            raise UserError(f"{self._place}{key} must be {what}, not {value!r}")
        return value

    def number(self, key: str, default: float, least: float, most: float = math.inf, *, whole: bool = True) -> Any:
        what = f"a {'whole ' if whole else ''}number of at least {least:g}"
        value = self.take(key, int if whole else (int, float), default, what)
        if not least <= value <= most:
            raise UserError(f"{self._place}{key} must be {what}{f' and at most {most:g}' if most < math.inf else ''}")
        return value

    def size(self, key: str, default: str) -> Size:
        value = self.take(key, (str, int), default, "a size")
        try:
            return Size.parse(value)
        except UserError as error:
            raise UserError(f"{self._place}{key}: {error}") from error

    def choice(self, key: str, default: str, choices: tuple[str, ...]) -> str:
        value: str = self.take(key, str, default, f"one of {', '.join(choices)}")
        if value not in choices:
            raise UserError(f"{self._place}{key} must be one of {', '.join(choices)}, not {value!r}")
        return value

    def nothing_else(self) -> None:
        if self._data:
            raise UserError(f"{self._place}{next(iter(self._data))}: no such setting")


def _profile(data: dict[str, Any], name: str, text: str) -> Profile:
    table = _Table(data, "")
    about = table.take("about", str, "", "text")
    files = {each: _file_set(each, values) for each, values in table.take("files", dict, {}, "tables").items()}
    operations = table.take("operation", list, [], "an array of tables")
    mix = tuple(_operation(number, values, files) for number, values in enumerate(operations, 1))
    if not mix:
        raise UserError("there is no [[operation]]")
    if len({operation.name for operation in mix}) < len(mix):
        raise UserError("two operations have the same name")
    profile = Profile(
        name=name,
        about=about,
        files=files,
        mix=mix,
        seed=table.number("seed", 0, 0) if "seed" in data else None,
        workers=table.number("workers", 1, 1, 1024),
        duration_s=parse_duration(table.take("duration", (str, int, float), "30s", "a duration")),
        think_s=parse_duration(table.take("think", (str, int, float), 0, "a duration")),
        rate=table.number("rate", 0, 0, whole=False),
        arrivals=table.choice("arrivals", "random", ("random", "constant")),
        verify=table.take("verify", bool, True, "true or false"),
        source=text,
    )
    count = table.number("operations", 0, 0)
    table.nothing_else()
    if count:
        profile = replace(profile, operations=count, duration_s=None if "duration" not in data else profile.duration_s)
    return profile


def _file_set(name: str, data: Any) -> FileSet:
    place = f"[files.{name}] "
    if not NAME.fullmatch(name):
        raise UserError(f"{place}a name has small letters, digits, - and _")
    table = _Table(data, place)
    files = FileSet(
        name=name,
        count=table.number("count", 1, 1, 1_000_000),
        size=table.size("size", "4KiB"),
        fan_out=table.number("fan_out", 100, 1),
        shared=table.take("shared", bool, False, "true or false"),
        prepare=table.take("prepare", bool, True, "true or false"),
        keep_open=table.take("keep_open", bool, False, "true or false"),
        memory_percent=table.number("memory_percent", 0, 0, 10_000),
        at_most=table.size("at_most", "256MiB").most,
    )
    table.nothing_else()
    if files.size.most < 1:
        raise UserError(f"{place}size must be above 0")
    if files.shared and not files.prepare:
        raise UserError(f"{place}shared files are prepared: leave prepare out")
    return files


def _operation(number: int, data: Any, files: Mapping[str, FileSet]) -> Operation:
    name = data.get("name") if isinstance(data, dict) else None
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise UserError(f"operation {number}: its name has small letters, digits, - and _")
    place = f"operation {name}: "
    table = _Table({key: value for key, value in data.items() if key != "name"}, place)
    weight = table.number("weight", 1, 0.001, whole=False)
    steps = table.take("steps", list, [], "an array of steps")
    table.nothing_else()
    if not steps:
        raise UserError(f"{place}it has no steps")
    return Operation(name, tuple(_step(f"{place}step {n}: ", step, files) for n, step in enumerate(steps, 1)), weight)


def _step(place: str, data: Any, files: Mapping[str, FileSet]) -> Step:
    table = _Table(data, place)
    do = table.take("do", str, "", "text")
    if do not in FILE_VERBS:
        raise UserError(f"{place}do must be one of {', '.join(FILE_VERBS)}, not {do!r}")
    name = table.take("files", str, "", "the name of a file set")
    if name not in files:
        raise UserError(f"{place}there is no [files.{name}]" if name else f"{place}files is missing")
    step = Step(
        do=do,
        files=name,
        times=_times(table, place),
        pick=table.choice("pick", "random", PICKS),
        block=table.size("block", "128KiB").most,
        fsync=table.take("fsync", bool, False, "true or false"),
        lock=table.take("lock", bool, False, "true or false"),
    )
    table.nothing_else()
    _check_step(step, files[name], place)
    return step


def _times(table: _Table, place: str) -> tuple[int, int]:
    value = table.take("times", (int, str), 1, 'a number or a range like "2..5"')
    first, dots, last = str(value).partition("..")
    try:
        least, most = int(first), int(last if dots else first)
    except ValueError:
        least, most = 1, 0
    if not 0 <= least <= most <= 100_000:
        raise UserError(f'{place}times must be a number or a range like "2..5", not {value!r}')
    return least, most


def _check_step(step: Step, files: FileSet, place: str) -> None:
    if not 1 <= step.block <= 16 << 20:
        raise UserError(f"{place}block must be from 1 byte to 16 MiB")
    if step.do == "pwrite" and step.block % PAGE_SIZE:
        raise UserError(f"{place}block of a pwrite must be a multiple of 4 KiB")
    if step.do in NEEDS_PRIVATE and files.shared:
        raise UserError(f"{place}{step.do} needs files that are not shared")
