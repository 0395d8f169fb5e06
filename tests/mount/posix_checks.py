"""What POSIX and Linux promise about files, a function each (in the spirit of pjdfstest).

Every check gets a fresh directory and uses system calls alone, so that it can be run on a local file system, on a
passthrough file system over our FUSE binding, and on a mount of freepage. `CHECKS` has them all by name.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import socket
import stat
import struct
import subprocess
import tempfile
import threading
import time
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


# Opening.


@check
def open_flags(d: Path) -> None:
    with fails(errno.ENOENT):
        os.open(d / "f", os.O_RDONLY)
    fd = os.open(d / "f", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o640)
    assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o640 & ~_umask()
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


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


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


# Names.


@check
def unlink_while_open(d: Path) -> None:
    fd = os.open(d / "f", os.O_CREAT | os.O_RDWR)
    os.write(fd, b"hello")
    os.unlink(d / "f")
    assert not (d / "f").exists()
    assert os.pread(fd, 5, 0) == b"hello"
    os.fchmod(fd, 0o600)
    os.ftruncate(fd, 2)
    status = os.fstat(fd)
    assert status.st_size == 2 and stat.S_IMODE(status.st_mode) == 0o600
    make(d / "f", b"new")
    os.write(fd, b"!")
    assert (d / "f").read_bytes() == b"new"
    os.close(fd)
    os.unlink(d / "f")
    assert [name for name in os.listdir(d) if not name.startswith(".nfs")] == []


@check
def rmdir_after_closing_removed_files(d: Path) -> None:
    for written in (False, True):
        (d / "x").mkdir()
        fds = [os.open(d / "x" / f"f{i}", os.O_CREAT | os.O_RDWR) for i in range(5)]
        for i, fd in enumerate(fds):
            if written:
                os.write(fd, b"data")
            os.unlink(d / "x" / f"f{i}")
        for fd in fds:
            os.close(fd)
        os.rmdir(d / "x")


@check
def rename_over_open(d: Path) -> None:
    make(d / "a", b"a")
    make(d / "b", b"b")
    fd = os.open(d / "b", os.O_RDONLY)
    os.rename(d / "a", d / "b")
    assert os.read(fd, 1) == b"b"
    assert (d / "b").read_bytes() == b"a"
    os.close(fd)


@check
def rename_errors(d: Path) -> None:
    (d / "x" / "y").mkdir(parents=True)
    (d / "e").mkdir()
    make(d / "f")
    with fails(errno.EINVAL):
        os.rename(d / "x", d / "x" / "y" / "z")
    with fails(errno.ENOTEMPTY, errno.EEXIST):
        os.rename(d / "e", d / "x")
    with fails(errno.EISDIR):
        os.rename(d / "f", d / "e")
    with fails(errno.ENOTDIR):
        os.rename(d / "e", d / "f")
    with fails(errno.ENOENT):
        os.rename(d / "no", d / "f")
    os.rename(d / "e", d / "x" / "y")
    assert (d / "x" / "y").is_dir()
    os.link(d / "f", d / "g")
    os.rename(d / "f", d / "g")
    assert (d / "f").exists() and (d / "g").exists()


@check
def rename_into_another_directory(d: Path) -> None:
    (d / "a").mkdir()
    (d / "b").mkdir()
    (d / "a" / "sub").mkdir()
    make(d / "a" / "sub" / "f", b"data")
    os.rename(d / "a" / "sub", d / "b" / "moved")
    assert (d / "b" / "moved" / "f").read_bytes() == b"data"
    assert os.stat(d / "b" / "moved" / "..").st_ino == os.stat(d / "b").st_ino
    assert os.listdir(d / "a") == []


@check
def links(d: Path) -> None:
    make(d / "f", b"x")
    os.link(d / "f", d / "g")
    assert os.stat(d / "f").st_nlink == 2
    assert os.stat(d / "f").st_ino == os.stat(d / "g").st_ino
    with fails(errno.EEXIST):
        os.link(d / "f", d / "g")
    with fails(errno.EPERM):
        os.link(d, d / "dir")
    os.unlink(d / "f")
    assert os.stat(d / "g").st_nlink == 1
    os.symlink("g", d / "s")
    os.link(d / "s", d / "s2", follow_symlinks=False)
    assert os.readlink(d / "s2") == "g"


@check
def symlinks(d: Path) -> None:
    os.symlink("a/very/" + "long/" * 150, d / "s")
    assert os.readlink(d / "s") == "a/very/" + "long/" * 150
    assert os.lstat(d / "s").st_size == len(os.readlink(d / "s"))
    os.symlink("t" * 4095, d / "longest")
    assert os.readlink(d / "longest") == "t" * 4095
    with fails(errno.ENAMETOOLONG):
        os.symlink("t" * 4096, d / "too long")
    os.symlink("loop", d / "loop")
    with fails(errno.ELOOP):
        os.stat(d / "loop")
    with fails(errno.EINVAL):
        os.readlink(d)
    with fails(errno.EEXIST):
        os.symlink("x", d / "s")


@check
def directories(d: Path) -> None:
    os.mkdir(d / "x", 0o750)
    assert stat.S_IMODE(os.stat(d / "x").st_mode) == 0o750 & ~_umask()
    with fails(errno.EEXIST):
        os.mkdir(d / "x")
    make(d / "x" / "f")
    with fails(errno.ENOTEMPTY, errno.EEXIST):
        os.rmdir(d / "x")
    with fails(errno.ENOTDIR):
        os.rmdir(d / "x" / "f")
    with fails(errno.EISDIR, errno.EPERM):
        os.unlink(d / "x")
    os.unlink(d / "x" / "f")
    before = os.stat(d).st_nlink
    os.rmdir(d / "x")
    assert os.stat(d).st_nlink == before - 1
    with fails(errno.ENOENT):
        os.rmdir(d / "x")
    with fails(errno.EINVAL):
        os.rmdir(f"{d}/.")


@check
def long_names(d: Path) -> None:
    name = "n" * 255
    make(d / name)
    assert os.listdir(d) == [name]
    calls: tuple[Callable[[Path], object], ...] = (
        lambda p: os.open(p, os.O_CREAT),
        os.mkdir,
        os.stat,
        os.unlink,
        lambda p: os.symlink("x", p),
    )
    for call in calls:
        with fails(errno.ENAMETOOLONG):
            call(d / ("n" * 256))
    with fails(errno.ENAMETOOLONG):
        os.rename(d / name, d / ("n" * 256))
    os.unlink(d / name)


@check
def odd_names(d: Path) -> None:
    names = [b"with space", b"new\nline", bytes(range(1, 47)), b"\xff\xfe not utf-8", "ümlaut".encode(), b"-rf", b"..."]
    for name in names:
        (d / os.fsdecode(name)).write_bytes(name)
    assert sorted(os.listdir(os.fsencode(d))) == sorted(names)
    for name in names:
        assert (d / os.fsdecode(name)).read_bytes() == name


@check
def special_files(d: Path) -> None:
    os.mkfifo(d / "p", 0o644)
    assert stat.S_ISFIFO(os.stat(d / "p").st_mode)
    writer = threading.Thread(target=lambda: (d / "p").write_bytes(b"through the pipe"))
    writer.start()
    assert (d / "p").read_bytes() == b"through the pipe"
    writer.join()
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as caller:
        directory = os.open(d, os.O_RDONLY)
        name = f"/proc/self/fd/{directory}/s"
        listener.bind(name)
        listener.listen()
        caller.connect(name)
        os.close(directory)
    assert stat.S_ISSOCK(os.stat(d / "s").st_mode)
    with fails(errno.EEXIST):
        os.mkfifo(d / "p")


@root_check
def devices(d: Path) -> None:
    os.mknod(d / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(d / "b", stat.S_IFBLK | 0o600, os.makedev(300, 70000))
    status = os.stat(d / "null")
    assert stat.S_ISCHR(status.st_mode) and (os.major(status.st_rdev), os.minor(status.st_rdev)) == (1, 3)
    status = os.stat(d / "b")
    assert stat.S_ISBLK(status.st_mode) and (os.major(status.st_rdev), os.minor(status.st_rdev)) == (300, 70000)


# Directories.


@check
def large_directory(d: Path) -> None:
    names = {f"{i:05d}-{'x' * (i % 40)}" for i in range(400)}
    for name in names:
        os.close(os.open(d / name, os.O_CREAT))
    assert set(os.listdir(d)) == names
    with os.scandir(d) as entries:
        for entry in entries:
            assert entry.is_file() and entry.inode() == entry.stat().st_ino
    for name in sorted(names)[::2]:
        os.unlink(d / name)
    assert set(os.listdir(d)) == set(sorted(names)[1::2])


@check
def delete_while_listing(d: Path) -> None:
    for i in range(300):
        os.close(os.open(d / f"f{i}", os.O_CREAT))
    with os.scandir(d) as entries:
        for entry in entries:
            os.unlink(entry.path)
    assert os.listdir(d) == []


@check
def positions_in_a_directory_last(d: Path) -> None:
    import ctypes

    for i in range(200):
        os.close(os.open(d / f"f{i}", os.O_CREAT))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.opendir.restype = ctypes.c_void_p
    libc.opendir.argtypes = [ctypes.c_char_p]
    libc.telldir.restype = ctypes.c_long
    for function in ("telldir", "readdir", "closedir", "rewinddir"):
        getattr(libc, function).argtypes = [ctypes.c_void_p]
    libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
    libc.readdir.restype = ctypes.c_void_p

    def next_name() -> bytes | None:
        entry = libc.readdir(stream)
        return ctypes.string_at(entry + 19) if entry else None

    stream = libc.opendir(os.fsencode(d))
    places: list[tuple[int, bytes]] = []
    while True:
        place = libc.telldir(stream)
        name = next_name()
        if name is None:
            break
        places.append((place, name))
    assert len(places) == 202
    for place, name in [*places[::37], *reversed(places[::53])]:
        libc.seekdir(stream, place)
        assert next_name() == name
    libc.rewinddir(stream)
    assert next_name() == places[0][1]
    libc.closedir(stream)


# Attributes.


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


# Mapped memory.


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


# Locks.


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

    _in_child(other)
    fcntl.lockf(fd, fcntl.LOCK_UN, 10, 20)
    os.close(fd)


def _in_child(function: Callable[[], None]) -> None:
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

    _in_child(other)
    _lock(fd, fcntl.F_UNLCK, 12, 3)
    _in_child(lambda: _lock(os.open(d / "f", os.O_RDWR), fcntl.F_WRLCK, 12, 3) and None)
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
    _in_child(lambda: fcntl.lockf(os.open(d / "f", os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB))
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


# Who may do what.


@root_check
def permissions(d: Path) -> None:
    os.chmod(d, 0o755)
    make(d / "secret", b"x", 0o600)
    make(d / "public", b"x", 0o644)
    (d / "closed").mkdir(0o700)

    def user() -> None:
        with fails(errno.EACCES):
            os.open(d / "secret", os.O_RDONLY)
        assert (d / "public").read_bytes() == b"x"
        with fails(errno.EACCES):
            os.open(d / "public", os.O_WRONLY)
        with fails(errno.EACCES):
            os.truncate(d / "public", 0)
        makers: tuple[Callable[[Path], object], ...] = (
            os.mkdir,
            os.mkfifo,
            lambda p: os.symlink("x", p),
            lambda p: os.link(d / "public", p),
        )
        for maker in makers:
            with fails(errno.EACCES, errno.EPERM):
                maker(d / "new")
        with fails(errno.EACCES):
            os.unlink(d / "public")
        with fails(errno.EACCES):
            os.rename(d / "public", d / "other")
        with fails(errno.EACCES):
            os.listdir(d / "closed")
        with fails(errno.EACCES):
            os.stat(d / "closed" / "x")
        with fails(errno.EACCES):
            os.chdir(d / "closed")
        with fails(errno.EPERM):
            os.chmod(d / "public", 0o777)
        with fails(errno.EPERM):
            os.chown(d / "public", USER, -1)
        with fails(errno.EPERM):
            os.utime(d / "public", ns=(1, 1))
        with fails(errno.EACCES, errno.EPERM):
            os.utime(d / "public")
        assert os.access(d / "public", os.R_OK) and not os.access(d / "public", os.W_OK)

    as_user(user)
    os.chmod(d / "public", 0o666)
    as_user(lambda: os.utime(d / "public"))
    assert os.access(d / "secret", os.R_OK | os.W_OK) and not os.access(d / "secret", os.X_OK)


@root_check
def supplementary_groups(d: Path) -> None:
    os.chmod(d, 0o755)
    make(d / "f", b"x", 0o640)
    os.chown(d / "f", 0, OTHER_GROUP)

    def denied() -> None:
        with fails(errno.EACCES):
            os.open(d / "f", os.O_RDONLY)

    as_user(denied)
    as_user(lambda: (d / "f").read_bytes(), groups=(OTHER_GROUP,))
    as_user(denied, groups=(5, 6))

    def changing() -> None:
        for groups, allowed in (((OTHER_GROUP,), True), ((), False), ((7, OTHER_GROUP), True)):
            os.setgroups(groups)
            os.setegid(GROUP)
            os.seteuid(USER)
            try:
                if allowed:
                    (d / "f").read_bytes()
                else:
                    denied()
            finally:
                os.seteuid(0)

    as_user(changing, 0, 0)


@root_check
def only_execute(d: Path) -> None:
    os.chmod(d, 0o755)
    subprocess.run(["cp", "/bin/true", d / "x"], check=True)
    os.chmod(d / "x", 0o711)

    def user() -> None:
        with fails(errno.EACCES):
            os.open(d / "x", os.O_RDONLY)
        subprocess.run([d / "x"], check=True)

    as_user(user)


@root_check
def sticky_directories(d: Path) -> None:
    os.chmod(d, 0o1777)
    make(d / "roots", mode=0o666)
    as_user(lambda: make(d / "theirs"))

    def user() -> None:
        with fails(errno.EPERM, errno.EACCES):
            os.unlink(d / "roots")
        with fails(errno.EPERM, errno.EACCES):
            os.rename(d / "roots", d / "x")
        with fails(errno.EPERM, errno.EACCES):
            os.rename(d / "theirs", d / "roots")
        os.rename(d / "theirs", d / "mine")
        os.unlink(d / "mine")

    as_user(user)


@root_check
def set_group_id(d: Path) -> None:
    os.chown(d, 0, OTHER_GROUP)
    os.chmod(d, 0o2777)
    make(d / "f")
    os.mkdir(d / "x")
    assert os.stat(d / "f").st_gid == OTHER_GROUP
    assert os.stat(d / "x").st_gid == OTHER_GROUP and os.stat(d / "x").st_mode & stat.S_ISGID

    def user() -> None:
        fd = os.open(d / "g", os.O_CREAT | os.O_WRONLY, 0o2775)
        os.close(fd)
        assert os.stat(d / "g").st_gid == OTHER_GROUP
        os.chmod(d / "g", 0o2775)
        assert not os.stat(d / "g").st_mode & stat.S_ISGID, "set-group-id for a group the caller is not in"

    as_user(user)


@root_check
def writing_clears_set_id_bits(d: Path) -> None:
    os.chmod(d, 0o777)
    make(d / "f", b"x", 0o666)
    os.chmod(d / "f", 0o6777)

    def user() -> None:
        fd = os.open(d / "f", os.O_WRONLY)
        os.write(fd, b"y")
        os.close(fd)

    as_user(user)
    assert stat.S_IMODE(os.stat(d / "f").st_mode) == 0o777
    os.chmod(d / "f", 0o6777)
    os.chown(d / "f", USER, GROUP)
    as_user(lambda: os.chown(d / "f", -1, GROUP))
    assert not os.stat(d / "f").st_mode & (stat.S_ISUID | stat.S_ISGID)

    # Without the group's execute bit, set-group-id stays for writers of that group alone.
    os.chown(d / "f", 0, OTHER_GROUP)
    for groups, kept in ((), 0), ((OTHER_GROUP,), stat.S_ISGID):
        os.chmod(d / "f", 0o2666)
        as_user(lambda: (d / "f").write_bytes(b"z"), groups=groups)
        assert os.stat(d / "f").st_mode & stat.S_ISGID == kept, groups


@root_check
def owner_changes(d: Path) -> None:
    make(d / "f")
    os.chown(d / "f", USER, GROUP)
    status = os.stat(d / "f")
    assert (status.st_uid, status.st_gid) == (USER, GROUP)
    os.symlink("f", d / "l")
    os.lchown(d / "l", 1, 2)
    assert (os.lstat(d / "l").st_uid, os.stat(d / "f").st_uid) == (1, USER)

    def user() -> None:
        with fails(errno.EPERM):
            os.chown(d / "f", 0, -1)
        with fails(errno.EPERM):
            os.chown(d / "f", -1, OTHER_GROUP)
        os.chmod(d / "f", 0o640)

    os.chmod(d, 0o755)
    as_user(user)
    as_user(lambda: os.chown(d / "f", -1, OTHER_GROUP), groups=(OTHER_GROUP,))
    assert os.stat(d / "f").st_gid == OTHER_GROUP
    as_user(lambda: os.chown(d / "f", USER, OTHER_GROUP))  # the file has that group, though its owner no longer does


# Everyday programs' habits.


@check
def a_directory_goes_although_a_closed_file_of_it_is_not_quite_gone(d: Path) -> None:
    os.mkdir(d / "x")
    fd = os.open(make(d / "x" / "f", b"z" * 5000), os.O_RDWR)
    area = mmap.mmap(fd, 5000, mmap.MAP_PRIVATE)  # as reads ahead of page faults do, it delays what close(2) has to do
    os.close(fd)
    os.unlink(d / "x" / "f")
    unmap = threading.Timer(0.05, area.close)
    unmap.start()
    os.rmdir(d / "x")
    unmap.join()


@check
def temporary_files(d: Path) -> None:
    with tempfile.TemporaryFile(dir=d) as f:
        f.write(b"x" * 100_000)
        f.seek(0)
        assert f.read() == b"x" * 100_000
    with tempfile.NamedTemporaryFile(dir=d) as f:
        f.write(b"y")
        f.flush()
        assert Path(f.name).read_bytes() == b"y"
    assert [name for name in os.listdir(d) if not name.startswith(".nfs")] == []


@check
def many_threads(d: Path) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            mine = d / f"t{number}"
            mine.mkdir()
            for i in range(10):
                (mine / f"{i}").write_bytes(bytes([number]) * (i * 500))
            for i in range(10):
                assert (mine / f"{i}").read_bytes() == bytes([number]) * (i * 500)
                os.rename(mine / f"{i}", mine / f"r{i}")
            for i in range(10):
                os.unlink(mine / f"r{i}")
            mine.rmdir()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    assert os.listdir(d) == []


@check
def current_directory(d: Path) -> None:
    def child() -> None:
        (d / "x").mkdir()
        os.chdir(d / "x")
        Path("f").write_text("here")
        os.rename(d / "x", d / "y")
        assert Path("f").read_text() == "here"
        assert os.getcwd() == str(d / "y")
        os.mkdir("sub")
        os.chdir("sub")
        assert Path("../f").read_text() == "here"

    _in_child(child)


if __name__ == "__main__":
    import sys
    import traceback

    only = sys.argv[2:]
    failed = 0
    for name, function in CHECKS.items():
        if only and name not in only:
            continue
        place = Path(tempfile.mkdtemp(prefix=name, dir=sys.argv[1]))
        try:
            function(place)
            print("ok  ", name)
        except BaseException:
            failed += 1
            print("FAIL", name)
            traceback.print_exc(limit=-2)
    sys.exit(failed > 0)
