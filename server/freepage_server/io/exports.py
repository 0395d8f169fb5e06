"""Which directories are exported, to whom and how: from flags, and from a TOML file, in the words of exports(5).

    [[export]]
    directory = "data"                      # from here: the directory of this file
    name = "/data"                          # "/export" when it is left out
    access = "ro"                           # rw
    squash = "root_squash"                  # no_root_squash, all_squash
    anonuid = 65534
    anongid = 65534
    clients = ["10.0.0.0/8", "::1"]         # everybody
    rsize = "64KiB"                         # 1MiB
    wsize = "64KiB"                         # 1MiB
    sync = false                            # true
    wcc_on_write = "full"                   # "none", as knfsd

Every mistake is one line that says where it is.
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from freepage_runtime.errors import SettingError, UserError
from freepage_runtime.settings import format_size, parse_size
from freepage_server.io.directory import DirectoryStorage
from freepage_server.io.state import ServerState
from freepage_server.nfsd.export import INVALID_ID, MAX_PAYLOAD, NOBODY, Export, Network, Squash, WccOnWrite

PAGE_SIZE = 4096

_SQUASH: dict[str, Squash] = {"no_root_squash": "none", "root_squash": "root", "all_squash": "all"}
_SQUASH_WORDS = {value: word for word, value in _SQUASH.items()}
_SQUASH_FLAGS = {**_SQUASH, **{f"squash={value}": value for value in _SQUASH.values()}}


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportSetting:
    """A directory, the name it is exported under, and who may do what there. ``clients`` empty: everybody."""

    directory: Path
    name: str = "/export"
    read_only: bool = False
    squash: Squash = "none"
    anonuid: int = NOBODY
    anongid: int = NOBODY
    clients: tuple[Network, ...] = ()
    rsize: int = MAX_PAYLOAD
    wsize: int = MAX_PAYLOAD
    sync: bool = True
    wcc_on_write: WccOnWrite = "none"

    @classmethod
    def parse(cls, text: str) -> Self:
        """``DIR[:/NAME][,OPTION...]``; raises SettingError.

        Options: ro, rw, sync, async, root_squash, no_root_squash, all_squash, anonuid=N, anongid=N, rsize=SIZE,
        wsize=SIZE, wcc_on_write=none|full, clients=ADDRESS+NETWORK+...
        """
        place, *options = text.split(",")
        directory, colon, name = place.rpartition(":/")
        if not colon:
            directory, name = place, "export"
        if not directory:
            raise SettingError(f"not an export: {text!r} (write it like DIR, DIR:/NAME or DIR:/NAME,ro)")
        values: dict[str, Any] = {}
        for option in options:
            word, equals, value = option.partition("=")
            if option in ("ro", "rw"):
                values["read_only"] = option == "ro"
            elif option in ("sync", "async"):
                values["sync"] = option == "sync"
            elif option in _SQUASH_FLAGS:
                values["squash"] = _SQUASH_FLAGS[option]
            elif equals and word in _VALUES:
                given: object = value
                if word == "clients":
                    given = value.split("+")
                elif word in ("anonuid", "anongid"):
                    given = int(value) if value.isascii() and value.isdigit() else value
                try:
                    values[word] = _VALUES[word](given)
                except ValueError as error:
                    raise SettingError(f"export {place}: {word}: {error}") from error
            else:
                raise SettingError(
                    f"not an option of an export: {option!r} (ro, rw, sync, async, root_squash, no_root_squash, "
                    "all_squash, anonuid=N, anongid=N, rsize=SIZE, wsize=SIZE, wcc_on_write=none|full, "
                    "clients=ADDRESS+NETWORK)"
                )
        return cls(directory=Path(directory), name=f"/{name}", **values)

    def describe(self) -> str:
        """The export as exports(5) would write it."""
        options = [
            "ro" if self.read_only else "rw",
            "sync" if self.sync else "async",
            _SQUASH_WORDS[self.squash],
            f"anonuid={self.anonuid}",
            f"anongid={self.anongid}",
            f"rsize={format_size(self.rsize).replace(' ', '')}",
            f"wsize={format_size(self.wsize).replace(' ', '')}",
        ]
        if self.wcc_on_write != "none":
            options.append(f"wcc_on_write={self.wcc_on_write}")
        clients = " ".join(str(client) for client in self.clients) or "*"
        return f"{self.name} {self.directory} {clients} ({','.join(options)})"


# --- values: what is wrong with one is said by a ValueError ---------------------------------------------------------


def _text(value: object) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(f"expected a text, not {value!r}")
    return value


def _name(value: object) -> str:
    name = _text(value)
    if not name.startswith("/") or (len(name) > 1 and name.endswith("/")) or "//" in name:
        raise ValueError(f'expected a name like "/data", not {value!r}')
    return name


def _access(value: object) -> bool:
    if value not in ("ro", "rw"):
        raise ValueError(f'expected "ro" or "rw", not {value!r}')
    return value == "ro"


def _squash(value: object) -> Squash:
    if not isinstance(value, str) or value not in _SQUASH:
        raise ValueError(f'expected "root_squash", "no_root_squash" or "all_squash", not {value!r}')
    return _SQUASH[value]


def _id(value: object) -> int:
    if type(value) is not int or not 0 <= value < INVALID_ID:
        raise ValueError(f"expected a number from 0 to {INVALID_ID - 1}, not {value!r}")
    return value


def _clients(value: object) -> tuple[Network, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError(f'expected a list like ["10.0.0.0/8", "::1"], not {value!r}')
    networks = []
    for client in value:
        try:
            networks.append(ipaddress.ip_network(_text(client)))
        except ValueError as error:
            raise ValueError(f"not an address or network: {client!r} ({error})") from error
    return tuple(networks)


def _size(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError(f'expected a size like "64KiB", not {value!r}')
    size = parse_size(value)
    if size % PAGE_SIZE or not PAGE_SIZE <= size <= MAX_PAYLOAD:
        raise ValueError(f"expected a multiple of 4KiB up to 1MiB, not {value!r}")
    return size


def _wcc_on_write(value: object) -> WccOnWrite:
    if value != "none" and value != "full":
        raise ValueError(f'expected "none" or "full", not {value!r}')
    return "full" if value == "full" else "none"


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, not {value!r}")
    return value


_VALUES: dict[str, Callable[[object], object]] = {
    "anonuid": _id,
    "anongid": _id,
    "clients": _clients,
    "rsize": _size,
    "wsize": _size,
    "wcc_on_write": _wcc_on_write,
}
_KEYS: dict[str, tuple[str, Callable[[object], object]]] = {
    "directory": ("directory", _text),
    "name": ("name", _name),
    "access": ("read_only", _access),
    "squash": ("squash", _squash),
    "sync": ("sync", _truth),
    **{word: (word, check) for word, check in _VALUES.items()},
}

# --- the file -------------------------------------------------------------------------------------------------------


class _Places:
    """Where in the text things are, for messages: tomllib tells only about the text's own mistakes."""

    _HEADER = re.compile(r"\s*\[\[\s*(?:export|\"export\"|'export')\s*\]\]")

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._lines = text.splitlines()
        self._headers = [number for number, line in enumerate(self._lines) if self._HEADER.match(line)]

    def error(self, message: str, number: int | None = None, key: str | None = None) -> SettingError:
        """``number`` counts exports from 0; the line is left out when the file is written in another manner."""
        line = None
        if number is None and key is not None:
            line = self._find(key, 0, len(self._lines))
        elif number is not None and number < len(self._headers):
            ends = [*self._headers, len(self._lines)]
            line = ends[number]
            if key is not None:
                line = self._find(key, ends[number] + 1, ends[number + 1]) or line
        return SettingError(f"{self._path}{'' if line is None else f':{line + 1}'}: {message}")

    def _find(self, key: str, first: int, end: int) -> int | None:
        pattern = re.compile(rf"\s*(\[+\s*)?[\"']?{re.escape(key)}[\"']?\s*[=.\]]")
        return next((number for number in range(first, end) if pattern.match(self._lines[number])), None)


def load_exports(path: Path) -> tuple[ExportSetting, ...]:
    """The exports of a TOML file. Raises UserError naming the file, the line and what would be right."""
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingError(f"{path}: not UTF-8 at byte {error.start}") from error
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingError(_syntax_error(path, str(error))) from error
    places = _Places(path, text)
    for key in document:
        if key != "export":
            raise places.error(f"unknown key {key!r} (a file of exports holds [[export]] tables)", key=key)
    tables = document.get("export")
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise places.error("no [[export]] table", key="export")
    names: dict[str, int] = {}
    settings = []
    for number, table in enumerate(tables):
        setting = _export(path.parent, table, number, places)
        if setting.name in names:
            raise places.error(f"a second export is called {setting.name}", number, "name")
        names[setting.name] = number
        settings.append(setting)
    return tuple(settings)


def _syntax_error(path: Path, message: str) -> str:
    found = re.search(r" \(at line (\d+), column (\d+)\)$", message)
    if found is None:
        return f"{path}: {message}"
    return f"{path}:{found[1]}:{found[2]}: {message[: found.start()]}"


def _export(base: Path, table: Mapping[str, object], number: int, places: _Places) -> ExportSetting:
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in _KEYS:
            raise places.error(f"unknown key {key!r} (known: {', '.join(_KEYS)})", number, key)
        field, check = _KEYS[key]
        try:
            values[field] = check(value)
        except ValueError as error:
            raise places.error(f"{key}: {error}", number, key) from error
    if "directory" not in values:
        raise places.error("an export needs a directory", number)
    values["directory"] = base / values["directory"]
    return ExportSetting(**values)


# --- opening --------------------------------------------------------------------------------------------------------


def open_exports(settings: Sequence[ExportSetting], state: ServerState | None = None) -> list[Export]:
    """Raises UserError for a directory that is none, and SettingError for a name twice."""
    if not settings:
        raise SettingError("a server exports at least one directory (--export or --config)")
    exports: list[Export] = []
    try:
        for setting in settings:
            if any(export.name == setting.name for export in exports):
                raise SettingError(f"two exports are called {setting.name} (write DIR:/NAME)")
            exports.append(_open(setting, state))
    except BaseException:
        close_exports(exports)
        raise
    return exports


def _open(setting: ExportSetting, state: ServerState | None) -> Export:
    try:
        table = None if state is None else state.table_for(setting.name)
        storage = DirectoryStorage(setting.directory, table=table)
    except OSError as error:
        raise UserError(f"cannot export {setting.directory}: {error.strerror or error}") from error
    try:
        storage.check_readable()
        return Export(
            setting.name,
            storage,
            setting.read_only,
            setting.squash,
            setting.anonuid,
            setting.anongid,
            setting.sync,
            clients=setting.clients,
            max_read=setting.rsize,
            max_write=setting.wsize,
            wcc_on_write=setting.wcc_on_write,
        )
    except OSError as error:
        storage.close()
        raise UserError(f"cannot export {setting.directory}: {error.strerror or error}") from error
    except ValueError as error:
        storage.close()
        raise SettingError(str(error)) from error


def close_exports(exports: Sequence[Export]) -> None:
    for export in exports:
        if isinstance(export.storage, DirectoryStorage):
            export.storage.close()


def check_exports(settings: Sequence[ExportSetting]) -> list[str]:
    """Open every export as a server would, and close it; a line about each. Raises UserError."""
    close_exports(open_exports(settings))
    return [setting.describe() for setting in settings]
