"""Locks of processes, of open files, and flock."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import threading
import time
from pathlib import Path

from posix_rig import check, fails, in_child, make


@check
def locks_between_processes(d: Path) -> None:
    make(d / "f", bytes(100))
    fd = os.open(d / "f", os.O_RDWR)
    fcntl.lockf(fd, fcntl.LOCK_EX, 10, 20)

    def other() -> None:
        mine = os.open(d / "f", os.O_RDWR)
        fcntl.lockf(mine, fcntl.LOCK_EX | fcntl.LOCK_NB, 20, 0)
        with fails(errno.EAGAIN, errno.EACCES):
            fcntl.lockf(mine, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 28)
        asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, start, length, pid = struct.unpack("hhqqi4x", fcntl.fcntl(mine, fcntl.F_GETLK, asked))
        assert (kind, start, length) == (fcntl.F_WRLCK, 20, 10), (kind, start, length, pid)
        assert pid == os.getppid(), pid

    in_child(other)
    fcntl.lockf(fd, fcntl.LOCK_UN, 10, 20)
    os.close(fd)


F_OFD_SETLK = 37


def _lock(fd: int, kind: int, start: int, length: int, command: int = fcntl.F_SETLK) -> tuple[int, int, int]:
    """fcntl's record locks with everything that the call takes; what came back: type, start, length."""
    lock = fcntl.fcntl(fd, command, struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0))
    kind, _, start, length, _ = struct.unpack("hhqqi4x", lock)
    return kind, start, length


@check
def record_locks_join_and_reach_the_last_byte(d: Path) -> None:
    make(d / "f")
    last = (1 << 63) - 1
    fd = os.open(d / "f", os.O_RDWR)
    for start in (0, 20, 10):
        _lock(fd, fcntl.F_WRLCK, start, 10)
    _lock(fd, fcntl.F_WRLCK, last, 1)

    def other() -> None:
        mine = os.open(d / "f", os.O_RDWR)
        assert _lock(mine, fcntl.F_WRLCK, 5, 1, fcntl.F_GETLK) == (fcntl.F_WRLCK, 0, 30)
        _lock(mine, fcntl.F_WRLCK, last - 1, 1)
        with fails(errno.EAGAIN, errno.EACCES):
            _lock(mine, fcntl.F_WRLCK, last, 1)
        with fails(errno.EINVAL, errno.EOVERFLOW):
            _lock(mine, fcntl.F_WRLCK, last, 2)

    in_child(other)
    _lock(fd, fcntl.F_UNLCK, 12, 3)
    in_child(lambda: _lock(os.open(d / "f", os.O_RDWR), fcntl.F_WRLCK, 12, 3) and None)
    os.close(fd)


@check
def locks_of_an_open_file(d: Path) -> None:
    make(d / "f")
    a, b = os.open(d / "f", os.O_RDWR), os.open(d / "f", os.O_RDWR)
    _lock(a, fcntl.F_WRLCK, 0, 0, F_OFD_SETLK)
    with fails(errno.EAGAIN, errno.EACCES):
        _lock(b, fcntl.F_WRLCK, 0, 1, F_OFD_SETLK)
    again = os.dup(a)
    os.close(a)
    with fails(errno.EAGAIN, errno.EACCES):
        _lock(b, fcntl.F_WRLCK, 0, 1, F_OFD_SETLK)
    os.close(again)
    for _ in range(500):  # the last close gives the lock back, through FUSE a moment later
        with contextlib.suppress(BlockingIOError):
            _lock(b, fcntl.F_WRLCK, 0, 0, F_OFD_SETLK)
            break
        time.sleep(0.02)
    else:
        raise AssertionError("the lock of a file that is closed is still held")
    os.close(b)


@check
def a_lock_waits(d: Path) -> None:
    make(d / "f")
    fd = os.open(d / "f", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    refused, got = threading.Event(), threading.Event()

    def wait() -> None:
        other = os.open(d / "f", os.O_RDWR)
        with fails(errno.EAGAIN):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        refused.set()
        fcntl.flock(other, fcntl.LOCK_EX)
        got.set()
        os.close(other)

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert refused.wait(10)
    time.sleep(0.1)  # it has begun to wait by now; if it has not, nothing fails
    assert not got.is_set()
    fcntl.flock(fd, fcntl.LOCK_UN)
    assert got.wait(10)
    waiter.join()
    os.close(fd)


@check
def closing_any_descriptor_drops_record_locks(d: Path) -> None:
    make(d / "f")
    a, b = os.open(d / "f", os.O_RDWR), os.open(d / "f", os.O_RDWR)
    fcntl.lockf(a, fcntl.LOCK_EX)
    os.close(b)
    in_child(lambda: fcntl.lockf(os.open(d / "f", os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB))
    os.close(a)


@check
def a_signal_ends_the_wait_for_a_lock(d: Path) -> None:
    make(d / "f")
    fd = os.open(d / "f", os.O_RDWR)
    fcntl.lockf(fd, fcntl.LOCK_EX)
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            fcntl.lockf(os.open(d / "f", os.O_RDWR), fcntl.LOCK_EX)
        os._exit(0)
    time.sleep(0.2)
    os.kill(child, 15)
    deadline = time.monotonic() + 10
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        assert time.monotonic() < deadline, "the waiter does not die"
        time.sleep(0.01)
    fcntl.lockf(fd, fcntl.LOCK_UN)
    fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(fd)
