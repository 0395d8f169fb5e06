"""Opening one name of a directory and nothing else: openat2(2) where the kernel has it.

The name is one component without slashes, and never ``.`` or ``..``. A symbolic link is opened as itself (O_PATH), and
what is mounted on the name is not entered: RESOLVE_NO_XDEV knows bind mounts of the same file system too, and refuses
before the other file system is asked anything. Kernels before 5.6, and sandboxes that forbid openat2, have openat(2)
with O_NOFOLLOW; then the caller's look at st_dev is what keeps other file systems out.
"""

from __future__ import annotations

import ctypes
import errno
import os

LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC

_SYS_OPENAT2 = 437
"""The same on every architecture that Python runs on but Alpha."""
_NO_XDEV, _NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH = 0x01, 0x02, 0x04, 0x08  # include/uapi/linux/openat2.h


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_HOW = _OpenHow(LOOK, 0, _NO_XDEV | _NO_MAGICLINKS | _NO_SYMLINKS | _BENEATH)
_HOW_ADDRESS, _HOW_SIZE = ctypes.addressof(_HOW), ctypes.sizeof(_HOW)

_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t)
_syscall.restype = ctypes.c_long


def _openat2(name: bytes, directory_fd: int) -> int:
    while (fd := _syscall(_SYS_OPENAT2, directory_fd, name, _HOW_ADDRESS, _HOW_SIZE)) < 0:
        number = ctypes.get_errno()
        if number in (errno.EAGAIN, errno.EINTR):
            continue  # somebody renamed or mounted meanwhile
        if number == errno.EXDEV:
            number = errno.EACCES  # what is mounted there is not exported
        raise OSError(number, os.strerror(number), os.fsdecode(name))
    return int(fd)


def _openat(name: bytes, directory_fd: int) -> int:
    return os.open(name, LOOK, dir_fd=directory_fd)


def has_openat2() -> bool:
    """Whether this kernel lets us."""
    try:
        fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.close(_openat2(b".", fd))
        finally:
            os.close(fd)
    except OSError:
        return False
    return True


look = _openat2 if has_openat2() else _openat
"""``look(name, directory_fd)``: an O_PATH descriptor. Raises OSError; EACCES for a mount point."""
