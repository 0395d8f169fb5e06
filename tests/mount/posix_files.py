"""Open files: flags, positions, holes, and the memory they are mapped into."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import stat
import subprocess
from pathlib import Path

from posix_rig import check, fails, make, umask


@check
def open_flags(d: Path) -> None:
    with fails(errno.ENOENT):
        os.open(d / "f", os.O_RDONLY)
    fd = os.open(d / "f", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o640)
    assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o640 & ~umask()
    os.close(fd)
    with fails(errno.EEXIST):
        os.open(d / "f", os.O_CREAT | os.O_EXCL | os.O_RDWR)
    (d / "f").write_bytes(b"12345")
    fd = os.open(d / "f", os.O_WRONLY | os.O_TRUNC)
    assert os.fstat(fd).st_size == 0
    with fails(errno.EBADF):
        os.read(fd, 1)
    os.close(fd)
    with fails(errno.EISDIR):
        os.open(d, os.O_WRONLY)
    with fails(errno.ENOTDIR):
        os.open(d / "f", os.O_RDONLY | os.O_DIRECTORY)
    with fails(errno.ENOTDIR):
        os.open(d / "f" / "x", os.O_RDONLY)
    os.symlink("f", d / "l")
    with fails(errno.ELOOP):
        os.open(d / "l", os.O_RDONLY | os.O_NOFOLLOW)
    with fails(errno.EEXIST):
        os.open(d / "l", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    os.symlink("new", d / "dangling")
    os.close(os.open(d / "dangling", os.O_CREAT | os.O_WRONLY))
    assert (d / "new").exists()


@check
def mode_zero_of_the_creator_writes(d: Path) -> None:
    fd = os.open(d / "f", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0)
    assert os.write(fd, b"abc") == 3
    assert os.pread(fd, 3, 0) == b"abc"
    os.close(fd)
    assert stat.S_IMODE((d / "f").stat().st_mode) == 0


@check
def append_by_two_descriptors(d: Path) -> None:
    a = os.open(d / "f", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    b = os.open(d / "f", os.O_WRONLY | os.O_APPEND)
    for i in range(50):
        os.write((a, b)[i % 2], b"%03d\n" % i)
    os.close(a)
    os.close(b)
    assert (d / "f").read_bytes() == b"".join(b"%03d\n" % i for i in range(50))


@check
def append_set_later(d: Path) -> None:
    make(d / "f", b"12345")
    fd = os.open(d / "f", os.O_RDWR)
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
    os.write(fd, b"67")
    assert os.pread(fd, 10, 0) == b"1234567"
    fcntl.fcntl(fd, fcntl.F_SETFL, 0)
    os.pwrite(fd, b"x", 0)
    assert os.pread(fd, 10, 0) == b"x234567"
    os.close(fd)


@check
def synchronous_and_direct(d: Path) -> None:
    fd = os.open(d / "f", os.O_CREAT | os.O_RDWR | os.O_SYNC)
    os.write(fd, b"a" * 10000)
    os.fsync(fd)
    os.fdatasync(fd)
    os.close(fd)
    area = mmap.mmap(-1, 8192)
    area[:] = b"d" * 8192
    fd = os.open(d / "f", os.O_RDWR | os.O_DIRECT)
    assert os.pwritev(fd, [area], 4096) == 8192
    assert os.preadv(fd, [area], 0) == 8192
    assert area[:] == b"a" * 4096 + b"d" * 4096
    os.close(fd)
    assert (d / "f").read_bytes() == b"a" * 4096 + b"d" * 8192
    dirfd = os.open(d, os.O_RDONLY)
    os.fsync(dirfd)
    os.close(dirfd)


@check
def holes_and_seek(d: Path) -> None:
    fd = os.open(d / "f", os.O_CREAT | os.O_RDWR)
    assert os.lseek(fd, 100_000, os.SEEK_SET) == 100_000
    os.write(fd, b"end")
    assert os.lseek(fd, 0, os.SEEK_END) == 100_003
    assert os.pread(fd, 10, 50_000) == bytes(10)
    assert os.pread(fd, 10, 100_001) == b"nd"
    assert os.pread(fd, 10, 200_000) == b""
    assert os.lseek(fd, 100_003 - 1, os.SEEK_DATA) == 100_002
    assert os.lseek(fd, 100_002, os.SEEK_HOLE) == 100_003
    with fails(errno.ENXIO):
        os.lseek(fd, 100_003, os.SEEK_DATA)
    os.ftruncate(fd, 10)
    os.ftruncate(fd, 20)
    assert os.pread(fd, 30, 0) == bytes(20)
    with fails(errno.EINVAL):
        os.lseek(fd, -1, os.SEEK_SET)
    os.close(fd)


@check
def truncate_errors(d: Path) -> None:
    make(d / "f", b"123456")
    os.truncate(d / "f", 3)
    assert (d / "f").read_bytes() == b"123"
    with fails(errno.EISDIR):
        os.truncate(d, 0)
    with fails(errno.ENOENT):
        os.truncate(d / "no", 0)
    with fails(errno.EINVAL):
        os.truncate(d / "f", -1)
    fd = os.open(d / "f", os.O_RDONLY)
    with fails(errno.EINVAL):
        os.ftruncate(fd, 0)
    os.close(fd)


@check
def large_offsets(d: Path) -> None:
    fd = os.open(d / "f", os.O_CREAT | os.O_RDWR)
    os.pwrite(fd, b"x", 5 << 30)
    assert os.fstat(fd).st_size == (5 << 30) + 1
    assert os.pread(fd, 4, (5 << 30) - 2) == b"\0\0x"
    os.close(fd)


@check
def mapped_private_and_shared(d: Path) -> None:
    make(d / "f", bytes(range(256)) * 64)
    fd = os.open(d / "f", os.O_RDWR)
    with mmap.mmap(fd, 0, mmap.MAP_PRIVATE) as area:
        assert area[300:310] == (bytes(range(256)) * 2)[300:310]
        area[0:3] = b"abc"
    with mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ) as area:
        assert area[0:4] == b"\0\1\2\3"
        os.pwrite(fd, b"seen", 8)
        assert area[8:12] == b"seen"
    os.close(fd)


@check
def mapped_writes(d: Path) -> None:
    make(d / "f", bytes(20000))
    fd = os.open(d / "f", os.O_RDWR)
    with mmap.mmap(fd, 0, mmap.MAP_SHARED) as area:
        area[5000:5005] = b"hello"
        area.flush()
        assert os.pread(fd, 5, 5000) == b"hello"
        area[12000:12003] = b"bye"
    os.close(fd)
    assert (d / "f").read_bytes()[12000:12003] == b"bye"


@check
def programs_run(d: Path) -> None:
    (d / "script").write_text("#!/bin/sh\necho ran $1\n")
    with fails(errno.EACCES):
        subprocess.run([d / "script"], check=False)
    os.chmod(d / "script", 0o755)
    assert subprocess.run([d / "script", "well"], capture_output=True, check=True).stdout == b"ran well\n"
    subprocess.run(["cp", "/bin/true", d / "true"], check=True)
    subprocess.run([d / "true"], check=True)
