"""The plain types of the network lock manager, version 4 (X/Open XNFS chapter 14; Linux fs/lockd)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from freepage_proto.nfs3 import FileHandle

MAX_OWNER = 1024
"""Bytes of an owner (XNFS: MAXNETOBJ_SZ)."""


class NlmStat4(IntEnum):
    GRANTED = 0
    DENIED = 1
    DENIED_NOLOCKS = 2
    BLOCKED = 3
    DENIED_GRACE_PERIOD = 4
    DEADLCK = 5
    ROFS = 6
    STALE_FH = 7
    FBIG = 8
    FAILED = 9


@dataclass(frozen=True, slots=True)
class NlmLock:
    """One byte range of one file for one owner; ``length`` 0 means to the end of the file, whatever it grows to."""

    file: FileHandle
    owner: bytes
    svid: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class LockArgs:
    """The arguments of LOCK and TEST (which ignores ``block`` and ``reclaim``)."""

    lock: NlmLock
    exclusive: bool
    block: bool = False
    reclaim: bool = False


@dataclass(frozen=True, slots=True)
class UnlockArgs:
    """The arguments of UNLOCK and CANCEL."""

    lock: NlmLock


@dataclass(frozen=True, slots=True)
class GrantedArgs:
    """Wait for up to ``wait_ms`` for locks of the caller's that were BLOCKED."""

    wait_ms: int


@dataclass(frozen=True, slots=True)
class GrantedRes:
    """The locks that the caller holds now; none when nothing happened."""

    locks: tuple[NlmLock, ...]


@dataclass(frozen=True, slots=True)
class NlmRes:
    """``holder`` is who stands in the way, when TEST says DENIED."""

    status: NlmStat4
    holder: NlmLock | None = None
    holder_exclusive: bool = False
