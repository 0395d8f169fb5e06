"""A private view of /proc in which some files are ours (mount_namespaces(7), user_namespaces(7)).

For /proc/meminfo and its like a bind mount does it. /proc/self is harder: it is another directory for each process,
and the command may start others, whose directories do not exist yet. But /proc/self itself is a symbolic link, and the
mount calls of Linux 5.2 can put another link on top of one. Ours leads to a directory in which every name is a link to
the same name in the kernel's /proc/self, which is still whatever the process that follows it makes of it. Every name
but mountstats.

Nobody outside sees any of this, and it is gone with the last process inside. No privilege is needed where the system
lets users make user namespaces.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from freepage_runtime.errors import UserError

SELF = Path("/proc/self")

# include/uapi/linux/sched.h, mount.h, fcntl.h; the numbers of the newer system calls are the same everywhere.
_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_MS_BIND, _MS_REC, _MS_SLAVE = 0x1000, 0x4000, 0x80000
_SYS_OPEN_TREE, _SYS_MOVE_MOUNT = 428, 429
_AT_FDCWD, _AT_SYMLINK_NOFOLLOW = -100, 0x100
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4


class NoNamespace(UserError):
    """The system does not let us have a mount namespace of our own."""


def enter(directory: Path, files: Iterable[Path]) -> int:
    """Move this process into a mount namespace of its own in which ``files`` (paths in /proc) are ours.

    Returns a descriptor of the directory that holds them; each has the last part of its path as its name, and is empty
    so far. ``directory`` is an empty one to mount it on. The process must have one thread. Raises NoNamespace.
    """
    if not sys.platform.startswith("linux"):
        raise NoNamespace("private views of /proc need Linux")
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        _unshare(libc)
        _check(libc.mount(None, b"/", None, _MS_REC | _MS_SLAVE, None))
        _check(libc.mount(b"freepage", os.fsencode(directory), b"tmpfs", 0, b"mode=755"))
        _check(libc.mount(b"/proc", _made(directory / "kernel"), None, _MS_BIND | _MS_REC, None))
        for file in files:
            (directory / file.name).touch()
            if file.parent == SELF:
                _cover_in_self(libc, directory, file)
            elif file.exists():
                _check(libc.mount(os.fsencode(directory / file.name), os.fsencode(file), None, _MS_BIND, None))
    except OSError as error:
        raise NoNamespace(_explain(error)) from error
    return os.open(directory, os.O_RDONLY | os.O_DIRECTORY)


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _unshare(libc: ctypes.CDLL) -> None:
    """With the privilege a mount namespace is enough; without it, a user namespace gives us one, and no other."""
    try:
        _check(libc.unshare(_CLONE_NEWNS))
        return
    except PermissionError:
        uid, gid = os.geteuid(), os.getegid()
    _check(libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS))
    SELF.joinpath("setgroups").write_text("deny")  # or gid_map may not be written
    SELF.joinpath("uid_map").write_text(f"{uid} {uid} 1")
    SELF.joinpath("gid_map").write_text(f"{gid} {gid} 1")


def _made(directory: Path) -> bytes:
    directory.mkdir()
    return os.fsencode(directory)


def _cover_in_self(libc: ctypes.CDLL, directory: Path, file: Path) -> None:
    """Make /proc/self a link to a directory of links, of which ours is ``file``."""
    view = directory / "self"
    view.mkdir()
    for entry in SELF.iterdir():
        ours = entry.name == file.name
        (view / entry.name).symlink_to(Path("..", file.name) if ours else Path("..", "kernel", "self", entry.name))
    link = directory / "link-to-self"
    link.symlink_to(view)
    tree = _check(libc.syscall(_SYS_OPEN_TREE, _AT_FDCWD, os.fsencode(link), _OPEN_TREE_CLONE | _AT_SYMLINK_NOFOLLOW))
    try:
        _check(libc.syscall(_SYS_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(SELF), _MOVE_MOUNT_F_EMPTY_PATH))
    finally:
        os.close(tree)


def _explain(error: OSError) -> str:
    what = "cannot make a private view of /proc"
    match error.errno:
        case errno.EPERM | errno.EACCES:
            return f"{what}: this system lets neither us nor user namespaces mount anything (root may)"
        case errno.ENOSPC | errno.EUSERS:
            return f"{what}: user namespaces are switched off here (sysctl user.max_user_namespaces)"
        case errno.ENOSYS:
            return f"{what}: it needs Linux 5.3 or newer"
    return f"{what}: {error.strerror}"
