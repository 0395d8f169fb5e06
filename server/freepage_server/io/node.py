"""An inode of an exported directory: what tells it from a later one with its number, and where it was seen.

A key is ``inode number | hash of its generation``: FS_IOC_GETVERSION and birth time, whichever the file system has.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import stat as stat_bits
import struct

from freepage_server.io.state import INO_SIZE, Record, Times
from freepage_server.nfsd.storage import Key

FS_IOC_GETVERSION = 0x80087601
_AT_EMPTY_PATH = 0x1000
_STATX_BTIME = 0x800

libc = ctypes.CDLL(None, use_errno=True)


def error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def _birth_time_ns(fd: int) -> int | None:
    """When the inode was made, where the file system remembers (statx; glibc 2.28)."""
    statx = getattr(libc, "statx", None)
    if statx is None:
        return None
    buffer = ctypes.create_string_buffer(256)
    if statx(fd, b"", _AT_EMPTY_PATH, _STATX_BTIME, buffer) != 0:
        return None
    (mask,) = struct.unpack_from("I", buffer, 0)
    if not mask & _STATX_BTIME:
        return None
    seconds, nanoseconds = struct.unpack_from("qI", buffer, 80)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)


def _version(path: str, mode: int) -> int | None:
    """The inode's generation number; only files and directories may be opened to ask."""
    if not (stat_bits.S_ISREG(mode) or stat_bits.S_ISDIR(mode)):
        return None
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        (version,) = struct.unpack("l", fcntl.ioctl(fd, FS_IOC_GETVERSION, bytes(struct.calcsize("l"))))
    except OSError:
        return None
    finally:
        os.close(fd)
    return int(version)


def generation(version: int | None, birth_ns: int | None) -> bytes:
    return hashlib.blake2b(f"{version} {birth_ns}".encode(), digest_size=8).digest()


def identity(fd: int, st: os.stat_result) -> tuple[int | None, int | None]:
    return _version(f"/proc/self/fd/{fd}", st.st_mode), _birth_time_ns(fd)


def key_of(ino: int, version: int | None, birth_ns: int | None) -> Key:
    return ino.to_bytes(INO_SIZE, "big") + generation(version, birth_ns)


class Node:
    """An inode that was seen: where, and what tells it from a later one with its number.

    ``fd`` is an O_PATH descriptor, or None when it was closed to make room, which ``pins`` forbids. ``parent`` is the
    key of a directory, and the root's own for the root. ``times`` is None while the disk's are reported.
    """

    __slots__ = ("birth_ns", "fd", "holds", "ino", "key", "mode", "name", "parent", "pins", "times", "version")

    def __init__(self, key: Key, mode: int, version: int | None, birth_ns: int | None) -> None:
        self.key = key
        self.ino = int.from_bytes(key[:INO_SIZE], "big")
        self.mode = mode
        self.version = version
        self.birth_ns = birth_ns
        self.fd: int | None = None
        self.pins = 0
        self.holds = 0
        self.parent = key
        self.name = b""
        self.times: Times | None = None

    @classmethod
    def recorded(cls, key: Key, record: Record) -> Node:
        node = cls(key, record.mode, record.version, record.birth_ns)
        node.parent, node.name, node.times = record.parent, record.name, record.times
        return node

    def record(self) -> Record:
        return Record(self.parent, self.name, self.mode, self.version, self.birth_ns, self.times)

    def is_same(self, version: int | None, birth_ns: int | None) -> bool:
        """Whether these are this inode's. The version of a file that may not be opened is not known."""
        if self.version is not None and version is not None:
            return self.version == version
        if self.birth_ns is not None and birth_ns is not None:
            return self.birth_ns == birth_ns
        if self.version is None and self.birth_ns is None and (version is not None or birth_ns is not None):
            # Nothing was recorded; but the key was made of what it had.
            made_of = ((version, birth_ns), (None, birth_ns), (version, None))
            return self.key[INO_SIZE:] in [generation(*pair) for pair in made_of]
        return True
