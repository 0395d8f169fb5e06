"""The plain types of the MOUNT protocol, version 3 (RFC 1813 appendix I)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from freepage_proto.nfs3 import FileHandle


class MountStat3(IntEnum):
    OK = 0
    PERM = 1
    NOENT = 2
    IO = 5
    ACCES = 13
    NOTDIR = 20
    INVAL = 22
    NAMETOOLONG = 63
    NOTSUPP = 10004
    SERVERFAULT = 10006


@dataclass(frozen=True, slots=True)
class MntArgs:
    dirpath: bytes


@dataclass(frozen=True, slots=True)
class MntRes:
    status: MountStat3
    fhandle: FileHandle | None = None
    auth_flavors: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class UmntArgs:
    dirpath: bytes


@dataclass(frozen=True, slots=True)
class MountEntry:
    hostname: str
    directory: bytes


@dataclass(frozen=True, slots=True)
class DumpRes:
    entries: tuple[MountEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class ExportEntry:
    directory: bytes
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ExportRes:
    entries: tuple[ExportEntry, ...] = ()
