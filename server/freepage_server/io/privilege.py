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
_CAP_FSETID = 1 << 4
_CAP_SYS_RESOURCE = 1 << 24


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def _set_effective(capability: int, on: bool) -> bool:
    """Take a capability of the calling thread into use, or out of it; whether that changed anything."""
    header, sets = _Header(_VERSION_3, 0), (_Sets * 2)()  # 0: the calling thread
    if _libc.capget(ctypes.byref(header), sets) != 0 or bool(sets[0].effective & capability) == on:
        return False
    sets[0].effective ^= capability
    return bool(_libc.capset(ctypes.byref(header), sets) == 0)


@contextmanager
def without_overdraft() -> Iterator[None]:
    """What the block does may fail with EDQUOT, as if it were no privileged process that does it."""
    had = _set_effective(_CAP_SYS_RESOURCE, False)
    try:
        yield
    finally:
        if had:
            _set_effective(_CAP_SYS_RESOURCE, True)


@contextmanager
def spending_for(uid: int) -> Iterator[None]:
    """What the block allocates in open files is this user's, against his quota and not from root's reserve."""
    if uid == 0:
        yield
        return
    with without_overdraft():
        before = _libc.setfsuid(uid)
        # That took root's capabilities for files along. Whose write ends set-user-id and set-group-id is for the server
        # to say, so the kernel is not to end them: fallocate would (file_modified).
        _set_effective(_CAP_FSETID, True)
        try:
            yield
        finally:
            _libc.setfsuid(before)
