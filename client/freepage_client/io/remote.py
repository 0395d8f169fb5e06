"""A client daemon's machine, driven from another process: the real one's calls, over the control connection.

``RemoteTask`` has the methods and signatures of ``vfs.task.Task``, so what drives a machine in this process drives one
in another. A system call that fails raises OSError; a daemon that cannot be asked raises ControlError.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Literal, overload

from freepage_client.io.syscalls import DT
from freepage_proto import convert
from freepage_proto.nfs3 import FType3
from freepage_proto.rpc import AuthSys
from freepage_proto.v1 import syscalls_pb2 as pb
from freepage_proto.v1 import syscalls_pb2_grpc
from freepage_runtime.control_client import CONTROL_TIMEOUT_S, ControlClient
from freepage_runtime.tls import TlsFiles

Path = str | bytes
Data = bytes | bytearray | memoryview

_TYPES = {number: kind for kind, number in DT.items()}


@dataclass(frozen=True, slots=True)
class Stat:
    """struct stat; sizes in bytes, ``st_blocks`` in units of 512 bytes, times in ns since the epoch."""

    st_mode: int
    st_nlink: int
    st_uid: int
    st_gid: int
    st_size: int
    st_blocks: int
    st_blksize: int
    st_ino: int
    st_rdev: tuple[int, int]
    st_atime_ns: int
    st_mtime_ns: int
    st_ctime_ns: int


@dataclass(frozen=True, slots=True)
class Statvfs:
    """struct statvfs; block counts in units of ``f_frsize`` bytes."""

    f_bsize: int
    f_frsize: int
    f_blocks: int
    f_bfree: int
    f_bavail: int
    f_files: int
    f_ffree: int
    f_favail: int
    f_namemax: int


def _raw(path: Path) -> bytes:
    return os.fsencode(path)


def _stat(message: pb.Stat) -> Stat:
    m = message
    return Stat(
        st_mode=m.mode,
        st_nlink=m.nlink,
        st_uid=m.uid,
        st_gid=m.gid,
        st_size=m.size,
        st_blocks=m.blocks,
        st_blksize=m.blksize,
        st_ino=m.ino,
        st_rdev=(m.rdev.major, m.rdev.minor),
        st_atime_ns=m.atime_ns,
        st_mtime_ns=m.mtime_ns,
        st_ctime_ns=m.ctime_ns,
    )


class RemoteMachine(ControlClient):
    """One client daemon: its administration, its mounts and its tasks."""

    def __init__(
        self,
        address: str,
        *,
        token: str | None = None,
        timeout_s: float = CONTROL_TIMEOUT_S,
        tls: TlsFiles | None = None,
    ) -> None:
        super().__init__(address, token=token, timeout_s=timeout_s, tls=tls)
        self.sys: Any = syscalls_pb2_grpc.SysStub(self.channel)  # type: ignore[no-untyped-call]

    async def mount(self, source: str, mountpoint: str, options: str = "") -> None:
        """Mount ``SERVER:/EXPORT``, with the options of nfs(5). Raises OSError."""
        request = pb.SysMountRequest(source=source, mountpoint=mountpoint, options=options)
        answer: pb.SysMountResponse = await self.ask(self.sys.Mount, request)
        if answer.error:
            raise OSError(answer.error, answer.message or os.strerror(answer.error), mountpoint)

    async def umount(self, mountpoint: str) -> list[str]:
        """Unmount; returns what is left of the mount's objects. Raises OSError, EBUSY when files are open."""
        request = pb.SysUmountRequest(mountpoint=mountpoint)
        answer: pb.SysUmountResponse = await self.ask(self.sys.Umount, request)
        if answer.error:
            raise OSError(answer.error, os.strerror(answer.error), mountpoint)
        return list(answer.leftovers)

    async def task(self, cred: AuthSys | None = None) -> RemoteTask:
        """Begin a task: a program on that machine, with root's credential unless told otherwise."""
        request = pb.SysCreateTaskRequest()
        if cred is not None:
            convert.put_cred(request.cred, cred)
        answer: pb.SysCreateTaskResponse = await self.ask(self.sys.CreateTask, request)
        return RemoteTask(self, answer.task)


class RemoteTask:
    """A program on the machine: its open files and its system calls. See ``vfs.task.Task``."""

    def __init__(self, machine: RemoteMachine, number: int) -> None:
        self.machine = machine
        self.number = number

    async def _call(self, name: str, path: Path | None = None, **arguments: Any) -> Any:
        if path is not None:
            arguments["path"] = _raw(path)
        request = getattr(pb, f"Sys{name}Request")(task=self.number, **arguments)
        answer = await self.machine.ask(getattr(self.machine.sys, name), request)
        if answer.error:
            if path is None:
                raise OSError(answer.error, os.strerror(answer.error))
            raise OSError(answer.error, os.strerror(answer.error), path)
        return answer

    async def exit(self) -> None:
        """Close what is open and end the task."""
        await self.machine.ask(self.machine.sys.ExitTask, pb.SysExitTaskRequest(task=self.number))

    async def open(self, path: Path, flags: int, mode: int = 0o644) -> int:
        fd: int = (await self._call("Open", path, flags=flags, mode=mode)).fd
        return fd

    async def close(self, fd: int) -> None:
        await self._call("Close", fd=fd)

    @overload
    async def read(self, fd: int, n: int) -> bytes: ...
    @overload
    async def read(self, fd: int, n: int, *, discard: Literal[True]) -> int: ...
    async def read(self, fd: int, n: int, *, discard: bool = False) -> bytes | int:
        """With ``discard`` the data stay on that machine, and their number of bytes comes back."""
        return _data(await self._call("Read", fd=fd, count=n, discard=discard), discard)

    @overload
    async def pread(self, fd: int, n: int, offset: int) -> bytes: ...
    @overload
    async def pread(self, fd: int, n: int, offset: int, *, discard: Literal[True]) -> int: ...
    async def pread(self, fd: int, n: int, offset: int, *, discard: bool = False) -> bytes | int:
        """With ``discard`` the data stay on that machine, and their number of bytes comes back."""
        return _data(await self._call("Pread", fd=fd, count=n, offset=offset, discard=discard), discard)

    async def write(self, fd: int, data: Data) -> int:
        count: int = (await self._call("Write", fd=fd, data=bytes(data))).count
        return count

    async def pwrite(self, fd: int, data: Data, offset: int) -> int:
        count: int = (await self._call("Pwrite", fd=fd, data=bytes(data), offset=offset)).count
        return count

    async def lseek(self, fd: int, offset: int, whence: int = os.SEEK_SET) -> int:
        position: int = (await self._call("Lseek", fd=fd, offset=offset, whence=whence)).offset
        return position

    async def fsync(self, fd: int) -> None:
        await self._call("Fsync", fd=fd)

    async def fdatasync(self, fd: int) -> None:
        await self._call("Fdatasync", fd=fd)

    async def ftruncate(self, fd: int, length: int) -> None:
        await self._call("Ftruncate", fd=fd, length=length)

    async def truncate(self, path: Path, length: int) -> None:
        await self._call("Truncate", path, length=length)

    async def fallocate(self, fd: int, mode: int, offset: int, length: int) -> None:
        await self._call("Fallocate", fd=fd, mode=mode, offset=offset, length=length)

    async def stat(self, path: Path) -> Stat:
        return _stat((await self._call("Stat", path)).stat)

    async def lstat(self, path: Path) -> Stat:
        return _stat((await self._call("Lstat", path)).stat)

    async def fstat(self, fd: int) -> Stat:
        return _stat((await self._call("Fstat", fd=fd)).stat)

    async def access(self, path: Path, mode: int) -> None:
        await self._call("Access", path, mode=mode)

    async def statfs(self, path: Path) -> Statvfs:
        s = (await self._call("Statfs", path)).statfs
        return Statvfs(*(getattr(s, name.removeprefix("f_")) for name in Statvfs.__dataclass_fields__))

    async def getdents(self, fd: int, buffer_size: int = 32768) -> list[tuple[bytes, int, FType3 | None]]:
        answer = await self._call("Getdents", fd=fd, buffer_size=buffer_size)
        return [(e.name, e.ino, _TYPES.get(e.type)) for e in answer.entries]

    async def listdir(self, path: Path) -> list[bytes]:
        return list((await self._call("Listdir", path)).names)

    async def mkdir(self, path: Path, mode: int = 0o755) -> None:
        await self._call("Mkdir", path, mode=mode)

    async def rmdir(self, path: Path) -> None:
        await self._call("Rmdir", path)

    async def unlink(self, path: Path) -> None:
        await self._call("Unlink", path)

    async def readlink(self, path: Path) -> bytes:
        target: bytes = (await self._call("Readlink", path)).target
        return target

    async def rename(self, path: Path, to: Path) -> None:
        await self._call("Rename", old_path=_raw(path), new_path=_raw(to))

    async def link(self, path: Path, to: Path) -> None:
        await self._call("Link", old_path=_raw(path), new_path=_raw(to))

    async def symlink(self, target: Path, path: Path) -> None:
        await self._call("Symlink", path, target=_raw(target))

    async def mknod(self, path: Path, mode: int, rdev: tuple[int, int] = (0, 0)) -> None:
        await self._call("Mknod", path, mode=mode, major=rdev[0], minor=rdev[1])

    async def chmod(self, path: Path, mode: int) -> None:
        await self._call("Chmod", path, mode=mode)

    async def chown(self, path: Path, uid: int, gid: int) -> None:
        """-1 leaves a number alone."""
        await self._call("Chown", path, uid=None if uid == -1 else uid, gid=None if gid == -1 else gid)

    async def utimens(self, path: Path, atime_ns: int | None, mtime_ns: int | None) -> None:
        """None is the server's current time."""
        await self._call("Utimens", path, atime_ns=atime_ns, mtime_ns=mtime_ns)

    async def fadvise(self, fd: int, offset: int, length: int, advice: int) -> None:
        await self._call("Fadvise", fd=fd, offset=offset, length=length, advice=advice)

    async def flock(self, fd: int, op: int) -> None:
        await self._call("Flock", fd=fd, operation=op)

    async def lockf(self, fd: int, cmd: int, offset: int, length: int) -> None:
        await self._call("Lockf", fd=fd, command=cmd, offset=offset, length=length)

    async def copy_file_range(self, fd_in: int, fd_out: int, n: int, off_in: int | None, off_out: int | None) -> int:
        answer = await self._call(
            "CopyFileRange", fd_in=fd_in, fd_out=fd_out, count=n, offset_in=off_in, offset_out=off_out
        )
        count: int = answer.count
        return count

    async def sync(self) -> None:
        await self._call("Sync")


def _data(answer: Any, discard: bool) -> bytes | int:
    result: bytes | int = answer.count if discard else answer.data
    return result
