"""Whose space is used: a server that runs as root does not spend for its callers what only root may spend.

CAP_SYS_RESOURCE lets a process go beyond quotas and into the blocks that a file system keeps for root, which is also
root's for being root. knfsd's threads take on the caller's fsuid and give up that capability (fs/nfsd/auth.c
nfsd_setuser, CAP_NFSD_SET). Here that is done for the few operations that take space, in the thread that does them;
everything else is checked by the server itself.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

_libc = ctypes.CDLL(None, use_errno=True)

_VERSION_3 = 0x20080522  # include/uapi/linux/capability.h
_CAP_SYS_RESOURCE = 24


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


_BIT = 1 << _CAP_SYS_RESOURCE


@contextmanager
def without_overdraft() -> Iterator[None]:
    """What the block does may fail with EDQUOT, as if it were no privileged process that does it."""
    header, sets = _Header(_VERSION_3, 0), (_Sets * 2)()  # 0: the calling thread
    if _libc.capget(ctypes.byref(header), sets) != 0 or not sets[0].effective & _BIT:
        yield
        return
    sets[0].effective &= ~_BIT
    _libc.capset(ctypes.byref(header), sets)
    try:
        yield
    finally:
        sets[0].effective |= _BIT
        _libc.capset(ctypes.byref(header), sets)


@contextmanager
def spending_for(uid: int) -> Iterator[None]:
    """What the block allocates in open files is this user's, against his quota and not from root's reserve."""
    if uid == 0:
        yield
        return
    with without_overdraft():
        before = _libc.setfsuid(uid)
        try:
            yield
        finally:
            _libc.setfsuid(before)
