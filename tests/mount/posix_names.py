"""Names: unlink, rename, links, directories and their listings."""

from __future__ import annotations

import errno
import os
import socket
import stat
import threading
from collections.abc import Callable
from pathlib import Path

from posix_rig import check, fails, make, root_check, umask


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
    assert stat.S_IMODE(os.stat(d / "x").st_mode) == 0o750 & ~umask()
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
