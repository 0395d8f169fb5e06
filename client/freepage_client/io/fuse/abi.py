"""The kernel's FUSE protocol, version 7.31 and later (include/uapi/linux/fuse.h): numbers and layouts, nothing else.

Little-endian and big-endian machines both use their native order. Sizes are bytes, times seconds and nanoseconds.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct


class Op(IntEnum):
    """enum fuse_opcode."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    GETLK = 31
    SETLK = 32
    SETLKW = 33
    ACCESS = 34
    CREATE = 35
    INTERRUPT = 36
    BMAP = 37
    DESTROY = 38
    IOCTL = 39
    POLL = 40
    NOTIFY_REPLY = 41
    BATCH_FORGET = 42
    FALLOCATE = 43
    READDIRPLUS = 44
    RENAME2 = 45
    LSEEK = 46
    COPY_FILE_RANGE = 47
    SETUPMAPPING = 48
    REMOVEMAPPING = 49
    SYNCFS = 50
    TMPFILE = 51
    STATX = 52


MAJOR = 7
MINOR = 38
"""What we speak; the kernel goes down to it. Nothing later is needed."""
MINOR_OLDEST = 31
"""Linux 5.4."""

ROOT_ID = 1

IN_HEADER = Struct("=IIQQIIIHH")
"""len, opcode, unique, nodeid, uid, gid, pid, total_extlen, padding"""
OUT_HEADER = Struct("=IiQ")
"""len, error (0 or -errno), unique"""

INIT_IN = Struct("=IIII")
"""major, minor, max_readahead, flags; since 7.36 flags2 and 11 unused words follow"""
INIT_OUT = Struct("=IIIIHHIIHHI28x")
"""major, minor, max_readahead, flags, max_background, congestion_threshold, max_write, time_gran, max_pages,
map_alignment, flags2"""

ATTR = Struct("=QQQqqqIIIIIIIIII")
"""ino, size, blocks of 512, atime, mtime, ctime, the three's ns, mode, nlink, uid, gid, rdev, blksize, flags"""
ENTRY_HEAD = Struct("=QQQQII")
"""nodeid, generation, entry_valid, attr_valid, the two's ns; ATTR follows"""
ATTR_HEAD = Struct("=QII")
"""attr_valid, its ns, padding; ATTR follows"""
ENTRY_OUT = Struct(ENTRY_HEAD.format + ATTR.format[1:])
ATTR_OUT = Struct(ATTR_HEAD.format + ATTR.format[1:])
GETATTR_IN = Struct("=IIQ")
"""flags, padding, fh"""
SETATTR_IN = Struct("=IIQQQQQQIIIIIIII")
"""valid, padding, fh, size, lock_owner, atime, mtime, ctime, the three's ns, mode, unused, uid, gid, unused"""
MKNOD_IN = Struct("=IIII")
"""mode, rdev, umask, padding; the name follows"""
MKDIR_IN = Struct("=II")
"""mode, umask; the name follows"""
RENAME_IN = Struct("=Q")
RENAME2_IN = Struct("=QII")
"""newdir, flags, padding; both names follow"""
LINK_IN = Struct("=Q")
OPEN_IN = Struct("=II")
CREATE_IN = Struct("=IIII")
"""flags, mode, umask, open_flags; the name follows"""
OPEN_OUT = Struct("=QIi")
"""fh, open_flags, backing_id"""
READ_IN = Struct("=QQIIQII")
"""fh, offset, size, read_flags, lock_owner, flags, padding"""
WRITE_IN = Struct("=QQIIQII")
"""fh, offset, size, write_flags, lock_owner, flags, padding; the data follow"""
WRITE_OUT = Struct("=II")
RELEASE_IN = Struct("=QIIQ")
"""fh, flags, release_flags, lock_owner"""
FLUSH_IN = Struct("=QIIQ")
"""fh, unused, padding, lock_owner"""
FSYNC_IN = Struct("=QII")
"""fh, flags (1: data alone), padding"""
STATFS_OUT = Struct("=QQQQQIIII24x")
"""blocks, bfree, bavail, files, ffree, bsize, namelen, frsize, padding"""
LK_IN = Struct("=QQQQIIII")
"""fh, owner, start, end (inclusive), type, pid, lk_flags, padding"""
LK_OUT = Struct("=QQII")
"""start, end (inclusive), type, pid"""
ACCESS_IN = Struct("=II")
INTERRUPT_IN = Struct("=Q")
FORGET_IN = Struct("=Q")
BATCH_FORGET_IN = Struct("=II")
FORGET_ONE = Struct("=QQ")
"""nodeid, nlookup"""
XATTR_OUT = Struct("=II")
DIRENT = Struct("=QQII")
"""ino, offset of the next one, name's length, type; the name follows, padded to 8"""

# INIT flags (the second word's are shifted down by 32).
INIT_ASYNC_READ = 1 << 0
INIT_POSIX_LOCKS = 1 << 1
INIT_ATOMIC_O_TRUNC = 1 << 3
INIT_BIG_WRITES = 1 << 5
INIT_FLOCK_LOCKS = 1 << 10
INIT_AUTO_INVAL_DATA = 1 << 12
INIT_PARALLEL_DIROPS = 1 << 18
INIT_HANDLE_KILLPRIV = 1 << 19
INIT_MAX_PAGES = 1 << 22
INIT_EXT = 1 << 30
INIT2_DIRECT_IO_ALLOW_MMAP = 1 << (36 - 32)

OPEN_DIRECT_IO = 1 << 0
OPEN_KEEP_CACHE = 1 << 1
OPEN_NONSEEKABLE = 1 << 2

GETATTR_FH = 1 << 0

SET_MODE = 1 << 0
SET_UID = 1 << 1
SET_GID = 1 << 2
SET_SIZE = 1 << 3
SET_ATIME = 1 << 4
SET_MTIME = 1 << 5
SET_FH = 1 << 6
SET_ATIME_NOW = 1 << 7
SET_MTIME_NOW = 1 << 8

LK_FLOCK = 1 << 0
RELEASE_FLOCK_UNLOCK = 1 << 1
WRITE_CACHE = 1 << 0

FMODE_EXEC = 0x20
"""An open flag that user space never sees: the file is opened to be executed (include/linux/fs.h)."""


def dirent_size(name: bytes) -> int:
    """What one entry takes in READDIR's answer."""
    return (DIRENT.size + len(name) + 7) & ~7


def pack_dirent(ino: int, off: int, kind: int, name: bytes) -> bytes:
    return (DIRENT.pack(ino, off, len(name), kind) + name).ljust(dirent_size(name), b"\0")
