"""The client as a library: a host that mounts, files that are read and written, counters. ``freepage_client`` shows it.

``Host`` is for programs that are asynchronous themselves. For scripts and notebooks ``freepage_client.mount`` gives the
same without ``await``: it runs the event loop in a thread.

Everything is done with real calls over gRPC, by the code that conformance measures; no mount point is needed.
"""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

from freepage import AuditReport
from freepage_client.io.transport import GrpcNetwork
from freepage_client.machine import Machine
from freepage_client.nfs.mount import Mount
from freepage_client.nfs.mountstats import render_mountstats
from freepage_client.vfs.stat import Stat, StatFs
from freepage_client.vfs.task import Task
from freepage_proto.rpc import AuthSys
from freepage_runtime.clock import LoopClock

T = TypeVar("T")

MIB = 1 << 20
CHUNK_BYTES = MIB
"""What one read(2) of ``File.read`` without a size asks for."""

_MODES = {
    "r": os.O_RDONLY,
    "r+": os.O_RDWR,
    "w": os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
    "w+": os.O_RDWR | os.O_CREAT | os.O_TRUNC,
    "x": os.O_WRONLY | os.O_CREAT | os.O_EXCL,
    "x+": os.O_RDWR | os.O_CREAT | os.O_EXCL,
    "a": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
    "a+": os.O_RDWR | os.O_CREAT | os.O_APPEND,
}


def _flags(mode: str) -> int:
    flags = _MODES.get(mode.replace("b", ""))
    if flags is None:
        raise ValueError(f"a mode is one of {', '.join(_MODES)}, not {mode!r} (all are binary)")
    return flags


class Host:
    """One NFS client host with a page cache of ``memory_bytes`` (None: no limit), as an async context manager.

    ``cred`` is who calls: root, unless told otherwise. Paths begin with a mountpoint of this host's own name space.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        memory_bytes: int | None = 256 * MIB,
        cred: AuthSys | None = None,
        seed: int | None = None,
    ) -> None:
        self.network = GrpcNetwork()
        self.machine = Machine(
            name or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}",
            network=self.network,
            clock=LoopClock(),
            memory_bytes=memory_bytes,
            seed=secrets.randbits(63) if seed is None else seed,
        )
        self.task: Task = self.machine.task(cred)
        """The process in whose name the calls are made, with every system call as a method."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all files, write back, unmount everything."""
        try:
            await self.machine.close()
        finally:
            await self.network.close()

    async def mount(self, source: str, mountpoint: str = "/mnt", options: str = "") -> Mount:
        """Mount ``HOST:PORT:/EXPORT`` with the options of nfs(5). Raises OSError, BadMountOption."""
        return await self.machine.mount(source, mountpoint, options)

    async def umount(self, mountpoint: str = "/mnt") -> list[str]:
        """Unmount; what is left behind, a line each. Raises OSError(EBUSY) while files are open."""
        return await self.machine.umount(mountpoint)

    async def open(self, path: str, mode: str = "rb", *, permissions: int = 0o644) -> File:
        """Open a file; ``mode`` as of the built-in open, always binary. Raises OSError."""
        return File(self.task, await self.task.open(path, _flags(mode), permissions))

    async def read(self, path: str) -> bytes:
        """A whole file."""
        async with await self.open(path) as file:
            return await file.read()

    async def write(self, path: str, data: bytes) -> None:
        """Make or replace a whole file."""
        async with await self.open(path, "wb") as file:
            await file.write(data)

    async def listdir(self, path: str) -> list[str]:
        return [os.fsdecode(name) for name in await self.task.listdir(path)]

    async def stat(self, path: str) -> Stat:
        return await self.task.stat(path)

    async def statfs(self, path: str) -> StatFs:
        return await self.task.statfs(path)

    def counters(self) -> Counters:
        """What has been counted so far."""
        return Counters(self.machine)

    def audit(self) -> AuditReport:
        """Mark and sweep: what leaked, and whether the ledger agrees."""
        return self.machine.cache.ledger.audit(self.machine.roots_in_use(), self.machine.cache.mappings)


class File:
    """An open file with a position, as an async context manager."""

    def __init__(self, task: Task, fd: int) -> None:
        self._task = task
        self.fd = fd

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes from the position; without a size, everything up to the end."""
        if size >= 0:
            return await self._task.read(self.fd, size)
        chunks = []
        while chunk := await self._task.read(self.fd, CHUNK_BYTES):
            chunks.append(chunk)
        return b"".join(chunks)

    async def write(self, data: bytes | bytearray | memoryview) -> int:
        """Write everything, at the position or at the end ("a"); the bytes written. Raises OSError."""
        view, done = memoryview(data).cast("B"), 0
        while done < len(view):
            done += await self._task.write(self.fd, view[done:])
        return done

    async def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return await self._task.lseek(self.fd, offset, whence)

    async def fsync(self) -> None:
        await self._task.fsync(self.fd)

    async def close(self) -> None:
        """Write back and close; raises OSError if data could not be written. Closing again does nothing."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            await self._task.close(fd)


class Counters:
    """A copy of a host's counters: calls by procedure over all mounts, and its page cache's."""

    def __init__(self, machine: Machine) -> None:
        self.rpcs: dict[str, int] = {}
        """Calls that were answered, by the name that mountstats gives the procedure; those never made are left out."""
        for superblock in machine.superblocks():
            for procedure, op in superblock.stats.ops.items():
                if op.ops:
                    name = procedure.display_name
                    self.rpcs[name] = self.rpcs.get(name, 0) + op.ops
        cache = machine.cache
        self.hits = cache.hits
        self.misses = cache.misses
        self.cached_pages = cache.nr_file_pages
        self.orphaned = cache.ledger.orphaned()
        """Leaked objects by slab cache."""
        self.mountstats = render_mountstats(machine.mounts, machine.clock.now())
        """/proc/self/mountstats, which the mountstats and nfsiostat commands read."""

    def since(self, earlier: Counters) -> dict[str, int]:
        """Calls by procedure that were made after ``earlier``."""
        spent = {name: count - earlier.rpcs.get(name, 0) for name, count in self.rpcs.items()}
        return {name: count for name, count in spent.items() if count}


class _Loop:
    """An event loop in a thread of its own, for callers without one."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="freepage-client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result()

    def call(self, function: Callable[[], T]) -> T:
        async def work() -> T:
            return function()

        return self.run(work())

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class BlockingFile:
    """``File`` for scripts."""

    def __init__(self, loop: _Loop, file: File) -> None:
        self._loop = loop
        self._file = file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *what: object) -> None:
        self.close()

    def read(self, size: int = -1) -> bytes:
        return self._loop.run(self._file.read(size))

    def write(self, data: bytes | bytearray | memoryview) -> int:
        return self._loop.run(self._file.write(data))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._loop.run(self._file.seek(offset, whence))

    def fsync(self) -> None:
        self._loop.run(self._file.fsync())

    def close(self) -> None:
        self._loop.run(self._file.close())


class BlockingMount:
    """One mount of a host of its own, for scripts and notebooks. Paths begin at the export's root: ``/dir/file``."""

    def __init__(self, source: str, options: str = "", **host: Any) -> None:
        self._loop = _Loop()
        self._host: Host | None = None
        try:
            self._host = self._loop.call(lambda: Host(**host))
            self._loop.run(self._host.mount(source, "/", options))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *what: object) -> None:
        self.close()

    @property
    def host(self) -> Host:
        """The host behind it; to be touched only from its own loop (``run``)."""
        if self._host is None:
            raise OSError(errno.ENOTCONN, "this mount is closed")
        return self._host

    def run(self, work: Callable[[Task], Coroutine[Any, Any, T]]) -> T:
        """Any system call of the task: ``fs.run(lambda task: task.rename("/a", "/b"))``."""
        return self._loop.run(work(self.host.task))

    def open(self, path: str, mode: str = "rb", *, permissions: int = 0o644) -> BlockingFile:
        file = self._loop.run(self.host.open(_absolute(path), mode, permissions=permissions))
        return BlockingFile(self._loop, file)

    def read(self, path: str) -> bytes:
        return self._loop.run(self.host.read(_absolute(path)))

    def write(self, path: str, data: bytes) -> None:
        self._loop.run(self.host.write(_absolute(path), data))

    def listdir(self, path: str = "/") -> list[str]:
        return self._loop.run(self.host.listdir(_absolute(path)))

    def stat(self, path: str) -> Stat:
        return self._loop.run(self.host.stat(_absolute(path)))

    def mkdir(self, path: str, mode: int = 0o755) -> None:
        self.run(lambda task: task.mkdir(_absolute(path), mode))

    def unlink(self, path: str) -> None:
        self.run(lambda task: task.unlink(_absolute(path)))

    def counters(self) -> Counters:
        return self._loop.call(self.host.counters)

    def audit(self) -> AuditReport:
        return self._loop.call(self.host.audit)

    @contextmanager
    def counting(self) -> Iterator[dict[str, int]]:
        """``with fs.counting() as rpcs``: afterwards, the calls that the block cost."""
        before = self.counters()
        spent: dict[str, int] = {}
        yield spent
        spent.update(self.counters().since(before))

    def close(self) -> None:
        """Write back and unmount. Closing again does nothing."""
        loop, host, self._host = self._loop, self._host, None
        if host is not None:
            loop.run(host.close())
        if loop._thread.is_alive():
            loop.close()


def _absolute(path: str) -> str:
    """A script's paths need no slash in front."""
    return f"/{path.lstrip('/')}"


def mount(
    source: str,
    options: str = "",
    *,
    name: str | None = None,
    memory_bytes: int | None = 256 * MIB,
    cred: AuthSys | None = None,
    seed: int | None = None,
) -> BlockingMount:
    """Mount ``HOST:PORT:/EXPORT`` on an emulated client in this process. Raises OSError, BadMountOption."""
    return BlockingMount(source, options, name=name, memory_bytes=memory_bytes, cred=cred, seed=seed)
