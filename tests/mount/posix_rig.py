"""What the POSIX checks are made of: their register, errors that are expected, other users, children."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

Check = Callable[[Path], None]
CHECKS: dict[str, Check] = {}
NEEDS_ROOT: set[str] = set()

USER, GROUP, OTHER_GROUP = 65534, 65533, 65532


def check(function: Check) -> Check:
    CHECKS[function.__name__] = function
    return function


def root_check(function: Check) -> Check:
    NEEDS_ROOT.add(function.__name__)
    return check(function)


@contextlib.contextmanager
def fails(*expected: int) -> Iterator[None]:
    """The block raises OSError with one of these errnos."""
    try:
        yield
    except OSError as error:
        names = [errno.errorcode[number] for number in expected]
        assert error.errno in expected, f"{errno.errorcode.get(error.errno or 0)} instead of {names}"
    else:
        raise AssertionError(f"no error instead of {[errno.errorcode[number] for number in expected]}")


def as_user(function: Callable[[], object], uid: int = USER, gid: int = GROUP, groups: tuple[int, ...] = ()) -> None:
    """Run a function in a child with other credentials."""
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(groups)
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            function()
        except BaseException as error:
            with contextlib.suppress(BaseException):
                os.write(2, f"as user {uid}: {type(error).__name__}: {error}\n".encode())
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0, f"failed as user {uid}, group {gid}, groups {groups}"


def make(path: Path, data: bytes = b"", mode: int = 0o644) -> Path:
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL, mode)
    try:
        os.fchmod(fd, mode)
        if data:
            os.write(fd, data)
    finally:
        os.close(fd)
    return path


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def in_child(function: Callable[[], None]) -> None:
    as_user(function, os.getuid(), os.getgid(), tuple(os.getgroups())) if os.getuid() == 0 else _fork(function)


def _fork(function: Callable[[], None]) -> None:
    child = os.fork()
    if child == 0:
        try:
            function()
        except BaseException as error:
            os.write(2, f"in the child: {error!r}\n".encode())
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
