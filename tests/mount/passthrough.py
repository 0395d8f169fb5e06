"""A file system that passes every request on to a real directory, over our own FUSE binding.

What fails here is the kernel's FUSE or our binding, not the client. ``python passthrough.py BEHIND MOUNTPOINT`` serves
until it is unmounted. Nodes are O_PATH descriptors; requests are carried out with the caller's credentials.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from freepage_client.io.fuse import abi, device
from freepage_client.io.fuse.abi import Op, dirent_size, pack_dirent
from freepage_client.io.fuse.loop import SharedLoop
from freepage_client.io.fuse.session import Answer, Request, Session

_libc = ctypes.CDLL(None, use_errno=True)
_SYS_SETGROUPS, _SYS_SETRESUID, _SYS_SETRESGID = 116, 117, 119  # x86_64: of the calling thread alone, unlike libc's


class _As:
    """The calling thread takes a caller's user, group and groups, and gives them back."""

    def __init__(self, request: Request) -> None:
        self._request = request

    def __enter__(self) -> None:
        request = self._request
        if os.getuid() != 0 or request.uid == 0:
            return
        groups = _groups(request.pid)
        array = (ctypes.c_uint * len(groups))(*groups)
        _libc.syscall(_SYS_SETGROUPS, len(groups), array)
        _libc.syscall(_SYS_SETRESGID, -1, request.gid, -1)
        _libc.syscall(_SYS_SETRESUID, -1, request.uid, -1)

    def __exit__(self, *what: object) -> None:
        if os.getuid() == 0 and self._request.uid != 0:
            _libc.syscall(_SYS_SETRESUID, -1, 0, -1)
            _libc.syscall(_SYS_SETRESGID, -1, 0, -1)
            _libc.syscall(_SYS_SETGROUPS, 0, None)


def _groups(pid: int) -> list[int]:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("Groups:"):
            return [int(word) for word in line.split()[1:]]
    return []


class _Node:
    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.nlookup = 0

    @property
    def path(self) -> str:
        return f"/proc/self/fd/{self.fd}"


class Passthrough:
    def __init__(self, behind: Path, on_end: Callable[[], object]) -> None:
        root = _Node(os.open(behind, os.O_PATH))
        self._nodes: dict[int, _Node] = {abi.ROOT_ID: root}
        self._ids: dict[tuple[int, int], int] = {}
        self._last = abi.ROOT_ID
        self._listings: dict[int, list[tuple[str, int, int]]] = {}
        self._on_end = on_end
        own: dict[Op, Callable[[Request, memoryview], Answer]] = {
            Op.LOOKUP: lambda r, b: self._entry(r.nodeid, _name(b)),
            Op.FORGET: lambda r, b: self._forget(r.nodeid, abi.FORGET_IN.unpack_from(b)[0]),
            Op.BATCH_FORGET: self._batch_forget,
            Op.GETATTR: lambda r, b: self._attr(r.nodeid),
            Op.SETATTR: self._setattr,
            Op.ACCESS: self._access,
            Op.READLINK: lambda r, b: os.fsencode(os.readlink("", dir_fd=self._nodes[r.nodeid].fd)),
            Op.OPEN: self._open,
            Op.CREATE: self._create,
            Op.READ: self._read,
            Op.WRITE: self._write,
            Op.FLUSH: lambda r, b: b"",
            Op.FSYNC: lambda r, b: _call(os.fsync, abi.FSYNC_IN.unpack_from(b)[0]),
            Op.FSYNCDIR: lambda r, b: b"",
            Op.RELEASE: lambda r, b: _call(os.close, abi.RELEASE_IN.unpack_from(b)[0]),
            Op.RELEASEDIR: self._releasedir,
            Op.OPENDIR: self._opendir,
            Op.READDIR: self._readdir,
            Op.STATFS: self._statfs,
            Op.MKDIR: self._mkdir,
            Op.MKNOD: self._mknod,
            Op.SYMLINK: self._symlink,
            Op.LINK: self._link,
            Op.UNLINK: lambda r, b: _call(os.unlink, _name(b), dir_fd=self._nodes[r.nodeid].fd),
            Op.RMDIR: lambda r, b: _call(os.rmdir, _name(b), dir_fd=self._nodes[r.nodeid].fd),
            Op.RENAME: lambda r, b: self._rename(r, abi.RENAME_IN.unpack_from(b)[0], bytes(b[8:])),
        }
        self.handlers: dict[int, Any] = {int(op): self._as_caller(handler) for op, handler in own.items()}

    def ended(self) -> None:
        self._on_end()

    def _as_caller(self, handler: Callable[[Request, memoryview], Answer]) -> Callable[[Request, memoryview], Answer]:
        def run(request: Request, body: memoryview) -> Answer:
            if request.opcode in (Op.FORGET, Op.BATCH_FORGET, Op.RELEASE, Op.RELEASEDIR):
                return handler(request, body)
            with _As(request):
                return handler(request, body)

        return run

    def _entry(self, parent: int, name: bytes) -> bytes:
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=self._nodes[parent].fd)
        status = os.fstat(fd)
        key = status.st_dev, status.st_ino
        nodeid = self._ids.get(key)
        if nodeid is None:
            self._last += 1
            nodeid = self._ids[key] = self._last
            self._nodes[nodeid] = _Node(fd)
        else:
            os.close(fd)
        self._nodes[nodeid].nlookup += 1
        return abi.ENTRY_OUT.pack(nodeid, 0, 0, 0, 0, 0, *_fields(status))

    def _forget(self, nodeid: int, nlookup: int) -> None:
        node = self._nodes.get(nodeid)
        if node is None or nodeid == abi.ROOT_ID:
            return
        node.nlookup -= nlookup
        if node.nlookup <= 0:
            del self._nodes[nodeid]
            self._ids = {key: value for key, value in self._ids.items() if value != nodeid}
            os.close(node.fd)

    def _batch_forget(self, request: Request, body: memoryview) -> None:
        for i in range(abi.BATCH_FORGET_IN.unpack_from(body)[0]):
            self._forget(*abi.FORGET_ONE.unpack_from(body, abi.BATCH_FORGET_IN.size + i * abi.FORGET_ONE.size))

    def _attr(self, nodeid: int) -> bytes:
        return abi.ATTR_OUT.pack(0, 0, 0, *_fields(os.fstat(self._nodes[nodeid].fd)))

    def _setattr(self, request: Request, body: memoryview) -> Answer:
        valid, _, fh, size, _, atime, mtime, _, ans, mns, _, mode, _, uid, gid, _ = abi.SETATTR_IN.unpack_from(body)
        node = self._nodes[request.nodeid]
        if valid & (abi.SET_UID | abi.SET_GID):
            os.chown("", uid if valid & abi.SET_UID else -1, gid if valid & abi.SET_GID else -1, dir_fd=node.fd)
        if valid & abi.SET_MODE:
            os.chmod(node.path, mode & 0o7777)
        if valid & abi.SET_SIZE:
            os.truncate(fh if valid & abi.SET_FH else node.path, size)
        if valid & (abi.SET_ATIME | abi.SET_MTIME):
            now = (1 << 30) - 1  # UTIME_NOW
            omit = (1 << 30) - 2
            times = []
            for given, is_now, seconds, ns in (
                (abi.SET_ATIME, abi.SET_ATIME_NOW, atime, ans),
                (abi.SET_MTIME, abi.SET_MTIME_NOW, mtime, mns),
            ):
                times += [seconds, (now if valid & is_now else ns) if valid & given else omit]
            array = (ctypes.c_long * 4)(*times)
            path = node.path.encode()
            if stat.S_ISLNK(os.fstat(node.fd).st_mode):
                result = _libc.utimensat(node.fd, b"", array, 0x1000)  # AT_EMPTY_PATH
            else:
                result = _libc.utimensat(-100, path, array, 0)
            if result:
                raise OSError(ctypes.get_errno(), "utimensat")
        return self._attr(request.nodeid)

    def _access(self, request: Request, body: memoryview) -> Answer:
        if not os.access(self._nodes[request.nodeid].path, abi.ACCESS_IN.unpack_from(body)[0], effective_ids=True):
            raise OSError(errno.EACCES, "access")
        return b""

    def _open(self, request: Request, body: memoryview) -> Answer:
        flags = abi.OPEN_IN.unpack_from(body)[0] & ~(os.O_NOFOLLOW | abi.FMODE_EXEC)
        return abi.OPEN_OUT.pack(os.open(self._nodes[request.nodeid].path, flags), abi.OPEN_DIRECT_IO, 0)

    def _create(self, request: Request, body: memoryview) -> Answer:
        flags, mode, _, _ = abi.CREATE_IN.unpack_from(body)
        name = bytes(body[abi.CREATE_IN.size : -1])
        fd = os.open(name, flags | os.O_CREAT | os.O_NOFOLLOW, mode, dir_fd=self._nodes[request.nodeid].fd)
        return self._entry(request.nodeid, name) + abi.OPEN_OUT.pack(fd, abi.OPEN_DIRECT_IO, 0)

    def _read(self, request: Request, body: memoryview) -> Answer:
        fh, offset, size, _, _, flags, _ = abi.READ_IN.unpack_from(body)
        if flags & os.O_DIRECT:
            with open(f"/proc/self/fd/{fh}", "rb") as plain:
                return os.pread(plain.fileno(), size, offset)
        return os.pread(fh, size, offset)

    def _write(self, request: Request, body: memoryview) -> Answer:
        import fcntl

        fh, offset, size, write_flags, _, flags, _ = abi.WRITE_IN.unpack_from(body)
        flags &= os.O_APPEND  # O_DIRECT wants aligned memory, which the request's is not
        if write_flags & abi.WRITE_CACHE:
            flags = 0
        fcntl.fcntl(fh, fcntl.F_SETFL, flags)
        data = body[abi.WRITE_IN.size : abi.WRITE_IN.size + size]
        return abi.WRITE_OUT.pack(os.write(fh, data) if flags else os.pwrite(fh, data, offset), 0)

    def _opendir(self, request: Request, body: memoryview) -> Answer:
        fd = os.open(self._nodes[request.nodeid].path, os.O_RDONLY | os.O_DIRECTORY)
        return abi.OPEN_OUT.pack(fd, 0, 0)

    def _readdir(self, request: Request, body: memoryview) -> Answer:
        fh, offset, size, *_ = abi.READ_IN.unpack_from(body)
        if fh not in self._listings or not offset:
            listing = [(".", os.fstat(fh).st_ino, stat.S_IFDIR), ("..", 1, stat.S_IFDIR)]
            with os.scandir(fh) as entries:
                for entry in entries:
                    mode = entry.stat(follow_symlinks=False).st_mode
                    listing.append((entry.name, entry.inode(), mode))
            self._listings[fh] = listing
        out = b""
        for number, (name, ino, mode) in enumerate(self._listings[fh]):
            raw = os.fsencode(name)
            if number >= offset:
                if len(out) + dirent_size(raw) > size:
                    break
                out += pack_dirent(ino, number + 1, mode >> 12, raw)
        return out

    def _releasedir(self, request: Request, body: memoryview) -> Answer:
        fh = abi.RELEASE_IN.unpack_from(body)[0]
        self._listings.pop(fh, None)
        os.close(fh)
        return b""

    def _statfs(self, request: Request, body: memoryview) -> Answer:
        s = os.statvfs(self._nodes[request.nodeid].fd)
        return abi.STATFS_OUT.pack(
            s.f_blocks, s.f_bfree, s.f_bavail, s.f_files, s.f_ffree, s.f_bsize, s.f_namemax, s.f_frsize, 0
        )

    def _mkdir(self, request: Request, body: memoryview) -> Answer:
        name = bytes(body[abi.MKDIR_IN.size : -1])
        os.mkdir(name, abi.MKDIR_IN.unpack_from(body)[0], dir_fd=self._nodes[request.nodeid].fd)
        return self._entry(request.nodeid, name)

    def _mknod(self, request: Request, body: memoryview) -> Answer:
        mode, dev, _, _ = abi.MKNOD_IN.unpack_from(body)
        name = bytes(body[abi.MKNOD_IN.size : -1])
        rdev = os.makedev((dev & 0xFFF00) >> 8, (dev & 0xFF) | ((dev >> 12) & 0xFFF00))
        os.mknod(name, mode, rdev, dir_fd=self._nodes[request.nodeid].fd)
        return self._entry(request.nodeid, name)

    def _symlink(self, request: Request, body: memoryview) -> Answer:
        name, target, _ = bytes(body).split(b"\0", 2)
        os.symlink(target, name, dir_fd=self._nodes[request.nodeid].fd)
        return self._entry(request.nodeid, name)

    def _link(self, request: Request, body: memoryview) -> Answer:
        old = self._nodes[abi.LINK_IN.unpack_from(body)[0]]
        name = bytes(body[abi.LINK_IN.size : -1])
        directory = self._nodes[request.nodeid].fd
        if _libc.linkat(-100, old.path.encode(), directory, name, 0x400):  # AT_SYMLINK_FOLLOW
            raise OSError(ctypes.get_errno(), "linkat")
        return self._entry(request.nodeid, name)

    def _rename(self, request: Request, newdir: int, names: bytes) -> Answer:
        old, new, _ = names.split(b"\0", 2)
        os.rename(old, new, src_dir_fd=self._nodes[request.nodeid].fd, dst_dir_fd=self._nodes[newdir].fd)
        return b""


def _call(function: Callable[..., object], *arguments: object, **more: object) -> Answer:
    function(*arguments, **more)
    return b""


def _name(body: memoryview) -> bytes:
    return bytes(body[:-1])


def _fields(s: os.stat_result) -> tuple[int, ...]:
    ns = 1_000_000_000
    times = (s.st_atime_ns, s.st_mtime_ns, s.st_ctime_ns)
    major, minor = os.major(s.st_rdev), os.minor(s.st_rdev)
    rdev = (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)
    whole, rest = [t // ns for t in times], [t % ns for t in times]
    return (
        s.st_ino, s.st_size, s.st_blocks, *whole, *rest, s.st_mode, s.st_nlink, s.st_uid, s.st_gid, rdev, 4096, 0
    )  # fmt: skip


@contextlib.contextmanager
def mounted(behind: Path, mountpoint: Path) -> Iterator[None]:
    """A passthrough mount in a process of its own, for the block's length."""
    mountpoint.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, __file__, str(behind), str(mountpoint)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process, process.stdout:
        assert process.stdout.readline() == "ready\n"
        try:
            yield
        finally:
            with contextlib.suppress(device.CannotUnmount):
                device.unmount(str(mountpoint), lazy=True)
            try:
                process.wait(10)
            finally:
                process.kill()
                time.sleep(0)


def serve(behind: Path, mountpoint: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SharedLoop)
        ended = asyncio.Event()
        options = ["fsname=passthrough", "subtype=freepage"]
        if os.getuid() == 0:
            options += ["allow_other", "suid", "dev"]
        fd, watched = device.mount(mountpoint, options)
        file_system = Passthrough(behind, lambda: loop.call_soon_threadsafe(ended.set))
        session = Session(fd, file_system, loop)
        session.start()
        print("ready", flush=True)
        await ended.wait()
        await session.join()
        session.close()
        watched.close()
        await loop.run_in_executor(None, device.reap_watchers)

    os.umask(0)
    with asyncio.Runner(loop_factory=SharedLoop) as runner:
        runner.run(main())


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.argv[2])
