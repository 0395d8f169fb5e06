"""System calls for load generators: the Sys service of a client daemon (freepage_proto/v1/syscalls.proto).

One gRPC method is one system call of a task, a program on the emulated host. A call that fails answers with its errno;
a gRPC status means that no call was made at all. The table ``CALLS`` has them all: how to make the call out of a
request, and where the result goes in the response.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from freepage_client.io.mounting import CannotMount, mount
from freepage_proto import convert
from freepage_proto.nfs3 import FType3
from freepage_proto.rpc import RpcGarbageArgs
from freepage_proto.v1 import syscalls_pb2 as pb
from freepage_runtime.errors import UserError
from freepage_runtime.logs import fields

if TYPE_CHECKING:
    from freepage_client.machine import Machine
    from freepage_client.vfs.task import Task

log = logging.getLogger(__name__)

SERVICE = "freepage.v1.Sys"
MAX_MESSAGE_BYTES = 64 << 20
"""The largest message either way: system calls may carry more than an NFS call."""

MAX_TASKS = 65536
"""How many tasks may live at a time."""

DT: dict[FType3 | None, int] = {
    None: 0,
    FType3.FIFO: 1,
    FType3.CHR: 2,
    FType3.DIR: 4,
    FType3.BLK: 6,
    FType3.REG: 8,
    FType3.LNK: 10,
    FType3.SOCK: 12,
}
"""The numbers of d_type (readdir(3))."""

GETDENTS_BYTES = 32768
"""The buffer of glibc's readdir."""


@dataclass(frozen=True, slots=True)
class Call:
    """``make`` starts the system call that a request asks for, ``put`` stores its result in a response."""

    make: Callable[[Task, Any], Awaitable[Any]]
    put: Callable[[Any, Any], None]


def _nothing(response: Any, result: object) -> None:
    pass


def _in(field: str) -> Callable[[Any, Any], None]:
    def put(response: Any, result: Any) -> None:
        setattr(response, field, result)

    return put


def _put_data(response: Any, data: bytes) -> None:
    response.data, response.count = bytes(data), len(data)


def _put_stat(response: Any, stat: Any) -> None:
    s = response.stat
    s.mode, s.nlink, s.uid, s.gid, s.size = stat.st_mode, stat.st_nlink, stat.st_uid, stat.st_gid, stat.st_size
    s.blocks, s.blksize, s.ino = stat.st_blocks, stat.st_blksize, stat.st_ino
    if stat.st_rdev != (0, 0):
        s.rdev.major, s.rdev.minor = stat.st_rdev
    s.atime_ns, s.mtime_ns, s.ctime_ns = stat.st_atime_ns, stat.st_mtime_ns, stat.st_ctime_ns


def _put_statfs(response: Any, statfs: Any) -> None:
    s = response.statfs
    for name in ("bsize", "frsize", "blocks", "bfree", "bavail", "files", "ffree", "favail", "namemax"):
        setattr(s, name, getattr(statfs, f"f_{name}"))


def _put_entries(response: Any, entries: list[tuple[bytes, int, FType3 | None]]) -> None:
    for name, ino, type_ in entries:
        response.entries.add(name=name, ino=ino, type=DT[type_])


def _put_names(response: Any, names: list[bytes]) -> None:
    response.names.extend(names)


def _absent_is_none(request: Any, field: str) -> Any:
    return getattr(request, field) if request.HasField(field) else None


def _absent_is_minus_one(request: Any, field: str) -> int:
    return int(getattr(request, field)) if request.HasField(field) else -1


CALLS: dict[str, Call] = {
    "Open": Call(lambda t, r: t.open(r.path, r.flags, r.mode), _in("fd")),
    "Close": Call(lambda t, r: t.close(r.fd), _nothing),
    "Read": Call(lambda t, r: t.read(r.fd, r.count), _put_data),
    "Pread": Call(lambda t, r: t.pread(r.fd, r.count, r.offset), _put_data),
    "Write": Call(lambda t, r: t.write(r.fd, r.data), _in("count")),
    "Pwrite": Call(lambda t, r: t.pwrite(r.fd, r.data, r.offset), _in("count")),
    "Lseek": Call(lambda t, r: t.lseek(r.fd, r.offset, r.whence), _in("offset")),
    "Fsync": Call(lambda t, r: t.fsync(r.fd), _nothing),
    "Fdatasync": Call(lambda t, r: t.fdatasync(r.fd), _nothing),
    "Ftruncate": Call(lambda t, r: t.ftruncate(r.fd, r.length), _nothing),
    "Truncate": Call(lambda t, r: t.truncate(r.path, r.length), _nothing),
    "Fallocate": Call(lambda t, r: t.fallocate(r.fd, r.mode, r.offset, r.length), _nothing),
    "Stat": Call(lambda t, r: t.stat(r.path), _put_stat),
    "Lstat": Call(lambda t, r: t.lstat(r.path), _put_stat),
    "Fstat": Call(lambda t, r: t.fstat(r.fd), _put_stat),
    "Access": Call(lambda t, r: t.access(r.path, r.mode), _nothing),
    "Statfs": Call(lambda t, r: t.statfs(r.path), _put_statfs),
    "Getdents": Call(lambda t, r: t.getdents(r.fd, r.buffer_size or GETDENTS_BYTES), _put_entries),
    "Listdir": Call(lambda t, r: t.listdir(r.path), _put_names),
    "Mkdir": Call(lambda t, r: t.mkdir(r.path, r.mode), _nothing),
    "Rmdir": Call(lambda t, r: t.rmdir(r.path), _nothing),
    "Unlink": Call(lambda t, r: t.unlink(r.path), _nothing),
    "Readlink": Call(lambda t, r: t.readlink(r.path), _in("target")),
    "Rename": Call(lambda t, r: t.rename(r.old_path, r.new_path), _nothing),
    "Link": Call(lambda t, r: t.link(r.old_path, r.new_path), _nothing),
    "Symlink": Call(lambda t, r: t.symlink(r.target, r.path), _nothing),
    "Mknod": Call(lambda t, r: t.mknod(r.path, r.mode, (r.major, r.minor)), _nothing),
    "Chmod": Call(lambda t, r: t.chmod(r.path, r.mode), _nothing),
    "Chown": Call(
        lambda t, r: t.chown(r.path, _absent_is_minus_one(r, "uid"), _absent_is_minus_one(r, "gid")), _nothing
    ),
    "Utimens": Call(
        lambda t, r: t.utimens(r.path, _absent_is_none(r, "atime_ns"), _absent_is_none(r, "mtime_ns")), _nothing
    ),
    "Fadvise": Call(lambda t, r: t.fadvise(r.fd, r.offset, r.length, r.advice), _nothing),
    "Flock": Call(lambda t, r: t.flock(r.fd, r.operation), _nothing),
    "Lockf": Call(lambda t, r: t.lockf(r.fd, r.command, r.offset, r.length), _nothing),
    "CopyFileRange": Call(
        lambda t, r: t.copy_file_range(
            r.fd_in, r.fd_out, r.count, _absent_is_none(r, "offset_in"), _absent_is_none(r, "offset_out")
        ),
        _in("count"),
    ),
    "Sync": Call(lambda t, r: t.sync(), _nothing),
}
"""Every system call of a task, by the name of its gRPC method."""

Context = grpc.aio.ServicerContext[Any, Any]


class SysService:
    """The system calls of one ``machine``: its mounts, and its tasks by number."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.umount: Callable[[str], Awaitable[list[str]]] = machine.umount
        """How a mount is taken away; a mount that the kernel has, too, does more than the machine's."""
        self._tasks: dict[int, Task] = {}
        self._last_task = 0
        self._calls: set[asyncio.Future[Any]] = set()

    def handler(self) -> grpc.GenericRpcHandler:
        """What ``grpc.aio.Server.add_generic_rpc_handlers`` takes."""
        methods = {
            "Mount": self._handler("Mount", self._mount),
            "Umount": self._handler("Umount", self._umount),
            "CreateTask": self._handler("CreateTask", self._create_task),
            "ExitTask": self._handler("ExitTask", self._exit_task),
        }
        methods |= {name: self._handler(name, self._system_call(name, call)) for name, call in CALLS.items()}
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    def _handler(
        self, name: str, behaviour: Callable[[Any, Context], Awaitable[Any]]
    ) -> grpc.RpcMethodHandler[Any, Any]:
        request, response = getattr(pb, f"Sys{name}Request"), getattr(pb, f"Sys{name}Response")
        return grpc.unary_unary_rpc_method_handler(
            behaviour, request_deserializer=request.FromString, response_serializer=response.SerializeToString
        )

    async def close(self) -> None:
        """End all tasks. Calls under way are waited for first."""
        while self._calls:
            await asyncio.wait(self._calls)
        for number in list(self._tasks):
            await self._tasks.pop(number).exit()

    # --- tasks and their calls --------------------------------------------------------------------------------------

    async def _create_task(self, request: pb.SysCreateTaskRequest, context: Context) -> pb.SysCreateTaskResponse:
        if len(self._tasks) >= MAX_TASKS:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{MAX_TASKS} tasks are alive already")
        try:
            cred = convert.cred(request.cred) if request.HasField("cred") else None
        except RpcGarbageArgs as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        self._last_task += 1
        self._tasks[self._last_task] = self._machine.task(cred)
        return pb.SysCreateTaskResponse(task=self._last_task)

    async def _exit_task(self, request: pb.SysExitTaskRequest, context: Context) -> pb.SysExitTaskResponse:
        task = self._tasks.pop(request.task, None)
        if task is None:
            await self._no_such_task(request.task, context)
        else:
            await self._to_its_end(task.exit())
        return pb.SysExitTaskResponse()

    async def _no_such_task(self, number: int, context: Context) -> None:
        await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no task {number}")

    def _system_call(self, name: str, call: Call) -> Callable[[Any, Context], Awaitable[Any]]:
        response_type = getattr(pb, f"Sys{name}Response")
        may_discard = name in ("Read", "Pread")

        async def behaviour(request: Any, context: Context) -> Any:
            task = self._tasks.get(request.task)
            if task is None:
                await self._no_such_task(request.task, context)
                raise AssertionError("abort raises")
            response = response_type()
            try:
                result = await self._to_its_end(call.make(task, request))
            except OSError as error:
                response.error = error.errno or errno.EIO
            else:
                if may_discard and request.discard:
                    response.count = len(result)
                else:
                    call.put(response, result)
            return response

        return behaviour

    async def _to_its_end(self, call: Awaitable[Any]) -> Any:
        """A system call is not cut off when its caller goes away: it may hold page locks."""
        future = asyncio.ensure_future(call)
        self._calls.add(future)
        future.add_done_callback(self._calls.discard)
        return await asyncio.shield(future)

    # --- mounts -----------------------------------------------------------------------------------------------------

    async def _mount(self, request: pb.SysMountRequest, context: Context) -> pb.SysMountResponse:
        try:
            await self._to_its_end(mount(self._machine, request.source, request.mountpoint, request.options))
        except UserError as error:
            log.info("mount failed", extra=fields(source=request.source, mountpoint=request.mountpoint, error=error))
            number = error.number if isinstance(error, CannotMount) else errno.EINVAL
            return pb.SysMountResponse(error=number, message=str(error))
        log.info("mounted", extra=fields(source=request.source, mountpoint=request.mountpoint))
        return pb.SysMountResponse()

    async def _umount(self, request: pb.SysUmountRequest, context: Context) -> pb.SysUmountResponse:
        try:
            leftovers = await self._to_its_end(self.umount(request.mountpoint))
        except OSError as error:
            return pb.SysUmountResponse(error=error.errno or errno.EIO)
        log.info("unmounted", extra=fields(mountpoint=request.mountpoint, leftovers=len(leftovers)))
        return pb.SysUmountResponse(leftovers=leftovers)
