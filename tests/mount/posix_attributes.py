"""Attributes: times, facts of the file system, and what NFSv3 does not have."""

from __future__ import annotations

import errno
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from posix_rig import check, fails, make


@check
def times(d: Path) -> None:
    make(d / "f")
    os.utime(d / "f", ns=(1_234_567_890_123_456_789, 987_654_321_987_654_321))
    status = os.stat(d / "f")
    assert (status.st_atime_ns, status.st_mtime_ns) == (1_234_567_890_123_456_789, 987_654_321_987_654_321)
    subprocess.run(["touch", "-a", "-d", "@100.5", d / "f"], check=True)  # UTIME_OMIT for the other
    status = os.stat(d / "f")
    assert (status.st_atime_ns, status.st_mtime_ns) == (100_500_000_000, 987_654_321_987_654_321)
    before = time.time() - 2
    os.utime(d / "f")
    assert before < os.stat(d / "f").st_mtime < time.time() + 2
    os.symlink("f", d / "l")
    os.utime(d / "l", ns=(1, 2), follow_symlinks=False)
    assert os.lstat(d / "l").st_mtime_ns == 2
    fd = os.open(d / "f", os.O_RDONLY)
    os.utime(fd, ns=(5, 6))
    assert os.fstat(fd).st_mtime_ns == 6
    os.close(fd)


@check
def changes_move_the_times(d: Path) -> None:
    make(d / "f")

    def moved(what: str, path: Path, action: Callable[[], object], fields: str) -> None:
        before = os.stat(path)
        time.sleep(0.012)
        action()
        after = os.stat(path)
        for field in fields.split():
            assert getattr(after, field) > getattr(before, field), f"{what} leaves {field}"

    moved("write", d / "f", lambda: (d / "f").write_bytes(b"x"), "st_mtime_ns st_ctime_ns")
    moved("chmod", d / "f", lambda: os.chmod(d / "f", 0o600), "st_ctime_ns")
    moved("link", d / "f", lambda: os.link(d / "f", d / "g"), "st_ctime_ns")
    moved("link", d, lambda: os.link(d / "f", d / "h"), "st_mtime_ns st_ctime_ns")
    moved("unlink", d, lambda: os.unlink(d / "g"), "st_mtime_ns st_ctime_ns")
    moved("mkdir", d, lambda: os.mkdir(d / "x"), "st_mtime_ns st_ctime_ns")
    moved("truncate", d / "f", lambda: os.truncate(d / "f", 100), "st_mtime_ns st_ctime_ns")
    fd = os.open(d / "f", os.O_WRONLY)
    moved("ftruncate to the same size", d / "f", lambda: os.ftruncate(fd, 100), "st_mtime_ns")
    os.close(fd)


@check
def file_system_facts(d: Path) -> None:
    facts = os.statvfs(d)
    assert facts.f_blocks > 0 and facts.f_bsize > 0 and facts.f_namemax == 255
    assert 0 <= facts.f_bavail <= facts.f_bfree <= facts.f_blocks


@check
def no_user_attributes(d: Path) -> None:
    make(d / "f")
    with fails(errno.EOPNOTSUPP):
        os.setxattr(d / "f", "user.a", b"1")
    with fails(errno.EOPNOTSUPP):
        os.getxattr(d / "f", "user.a")
    assert os.listxattr(d / "f") == []


@check
def no_rename_flags(d: Path) -> None:
    import ctypes

    make(d / "a")
    libc = ctypes.CDLL(None, use_errno=True)
    for flags in (1, 2):
        assert libc.renameat2(-100, os.fsencode(d / "a"), -100, os.fsencode(d / "b"), flags) == -1
        assert ctypes.get_errno() in (errno.EINVAL, errno.ENOENT)
    make(d / "b")
    assert libc.renameat2(-100, os.fsencode(d / "a"), -100, os.fsencode(d / "b"), 2) == -1
    assert ctypes.get_errno() == errno.EINVAL


@check
def no_preallocation(d: Path) -> None:
    import ctypes

    fd = os.open(d / "f", os.O_CREAT | os.O_RDWR)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
    assert libc.fallocate(fd, 0, 0, 4096) == -1
    assert ctypes.get_errno() == errno.EOPNOTSUPP
    os.close(fd)
