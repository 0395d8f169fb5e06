"""Runs a workload's steps: each is the system calls that the step language says it is, and answers with a result
string.

The executor knows no NFS. A *caller* makes system calls on behalf of one client: a process on a client machine, or on
the server itself (S). One process runs the whole script, so that descriptors and locks live as long as they do in the
recordings.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from freepage_lab.conform.language import SERVER, Step, loop_values
from freepage_lab.conform.memory import BUFFERS
from freepage_lab.conform.pattern import crc, pattern

Result: TypeAlias = "str | dict[str, Any]"
"""What one step says: a string, or an object for a loop."""

KEEP_LOOP_RESULTS = 32
"""A loop shows its inner results only if there are at most this many."""

BUFFER_OPERANDS = {
    "read": "length",
    "pread": "length",
    "read_all": "chunk",
    "write": "length",
    "pwrite": "length",
    "write_all": "chunk",
    "copy": "chunk",
}
"""Which operand says how much data a step holds in the process's own memory at a time."""

WRITE_PIECE = 1 << 20
SERVER_WRITE_PAUSE_S = 0.02
OLDEST_NOW_S = 1_500_000_000
"""A modification time this late was set by a clock, not by the script: results say "now"."""


class Caller(Protocol):
    """A process that makes system calls; every method raises OSError as the system call would."""

    async def open(self, path: str, flags: int, mode: int = 0o644, /) -> int: ...
    async def close(self, fd: int, /) -> None: ...
    async def read(self, fd: int, n: int, /) -> bytes | bytearray | memoryview: ...
    async def pread(self, fd: int, n: int, offset: int, /) -> bytes | bytearray | memoryview: ...
    async def write(self, fd: int, data: bytes, /) -> int: ...
    async def pwrite(self, fd: int, data: bytes, offset: int, /) -> int: ...
    async def lseek(self, fd: int, offset: int, whence: int, /) -> int: ...
    async def fsync(self, fd: int, /) -> None: ...
    async def fdatasync(self, fd: int, /) -> None: ...
    async def ftruncate(self, fd: int, length: int, /) -> None: ...
    async def truncate(self, path: str, length: int, /) -> None: ...
    async def fallocate(self, fd: int, mode: int, offset: int, length: int, /) -> None: ...
    async def stat(self, path: str, /) -> Any: ...
    async def lstat(self, path: str, /) -> Any: ...
    async def fstat(self, fd: int, /) -> Any: ...
    async def access(self, path: str, mode: int, /) -> Any: ...
    async def statfs(self, path: str, /) -> Any: ...
    async def listdir(self, path: str, /) -> Sequence[bytes]: ...
    async def mkdir(self, path: str, mode: int = 0o755, /) -> None: ...
    async def rmdir(self, path: str, /) -> None: ...
    async def unlink(self, path: str, /) -> None: ...
    async def readlink(self, path: str, /) -> bytes: ...
    async def rename(self, old: str, new: str, /) -> None: ...
    async def link(self, old: str, new: str, /) -> None: ...
    async def symlink(self, target: str, path: str, /) -> None: ...
    async def chmod(self, path: str, mode: int, /) -> None: ...
    async def utimens(self, path: str, atime_ns: int | None, mtime_ns: int | None, /) -> None: ...
    async def fadvise(self, fd: int, offset: int, length: int, advice: int, /) -> None: ...
    async def flock(self, fd: int, operation: int, /) -> None: ...
    async def lockf(self, fd: int, command: int, offset: int, length: int, /) -> None: ...
    async def copy_file_range(self, fd_in: int, fd_out: int, n: int, off_in: int, off_out: int) -> int: ...


class Machine(Protocol):
    """What a script may ask of the whole machine rather than of one client."""

    async def sleep(self, seconds: float) -> None: ...
    async def drop_caches(self, what: int) -> None: ...
    async def sync(self) -> None: ...
    async def checkpoint(self, label: str) -> None: ...
    def buffers(self, size: int, count: int) -> None:
        """The process that runs the script is about to move data by ``count`` buffers of ``size`` bytes; 0: it has."""

    async def named(self, path: str) -> None:
        """The script opened, made or renamed ``path`` (relative to the mount point): from now on the file goes by
        that name."""


@dataclass(slots=True)
class _Descriptor:
    caller: Caller
    fd: int
    flags: int
    pos: int = 0
    """Where the pattern goes on: bytes read and written through this descriptor, or where lseek went."""

    @property
    def readable(self) -> bool:
        return self.flags & os.O_ACCMODE in (os.O_RDONLY, os.O_RDWR)

    @property
    def writable(self) -> bool:
        """By copy_file_range, which does not append."""
        return self.flags & os.O_ACCMODE in (os.O_WRONLY, os.O_RDWR) and not self.flags & os.O_APPEND


class Executor:
    """One run of one script. ``callers`` by client name; ``roots`` is where each client's paths begin."""

    def __init__(self, machine: Machine, callers: Mapping[str, Caller], roots: Mapping[str, str]) -> None:
        self._machine = machine
        self._callers = callers
        self._roots = roots
        self._descriptors: dict[str, _Descriptor] = {}
        self._operations: dict[str, Callable[[Step, Mapping[str, Any]], Awaitable[str]]] = {
            name.removeprefix("op_"): getattr(self, name) for name in dir(self) if name.startswith("op_")
        }

    async def run(self, steps: Sequence[Step], done: Callable[[Step, Result], None] | None = None) -> list[Result]:
        """Every step's result, in order; ``done`` hears each as it comes. What a step fails with is its result."""
        results: list[Result] = []
        for step in steps:
            result = await self._run(step, {})
            results.append(result)
            if done is not None:
                done(step, result)
        return results

    async def close_descriptors(self) -> None:
        """What the process does last: close what the script left open, in the order in which it was opened."""
        for descriptor in self._descriptors.values():
            try:
                await descriptor.caller.close(descriptor.fd)
            except OSError:
                continue  # nobody is left to whom the error of this close could be reported
        self._descriptors.clear()

    async def _run(self, step: Step, variables: Mapping[str, Any]) -> Result:
        if step.op == "for":
            return await self._loop(step, variables)
        moved = BUFFER_OPERANDS.get(step.op)
        if moved is not None:
            self._machine.buffers(step[moved](variables), BUFFERS.get(step.op, 1))
        try:
            return await self._operations[step.op](step, variables)
        except OSError as error:
            return "!" + errno.errorcode.get(error.errno or 0, str(error.errno))
        finally:
            if moved is not None:
                self._machine.buffers(0, 0)

    async def _loop(self, step: Step, variables: Mapping[str, Any]) -> dict[str, Any]:
        count, errors, digest, shown = 0, dict[str, int](), 0, list[str]()
        for value in loop_values(step, variables):
            inner = {**variables, step["var"]: value}
            for inner_step in step.steps:
                result = await self._run(inner_step, inner)
                if isinstance(result, str):
                    line = result
                    count += 1
                    if result.startswith("!"):
                        errors[result[1:]] = errors.get(result[1:], 0) + 1
                else:
                    line = json.dumps(result, sort_keys=True)
                    count += result["n"]
                    for name, times in result["errors"].items():
                        errors[name] = errors.get(name, 0) + times
                digest = zlib.crc32(line.encode() + b"\n", digest)
                if len(shown) <= KEEP_LOOP_RESULTS:
                    shown.append(line)
        outcome: dict[str, Any] = {"n": count, "errors": errors, "digest": f"{digest:08x}"}
        if len(shown) <= KEEP_LOOP_RESULTS:
            outcome["results"] = shown
        return outcome

    # --- who, where -------------------------------------------------------------------------------------------------

    def _path(self, step: Step, variables: Mapping[str, Any], operand: str = "path") -> tuple[Caller, str, str]:
        """(who calls, the path as the script wrote it, the path as the caller gives it to the system)."""
        relative = step[operand](variables)
        root = self._roots[step.client]
        path = root or "/" if relative in (".", "") else f"{root}/{relative}"
        return self._callers[step.client], relative, path

    def _descriptor(self, step: Step, variables: Mapping[str, Any], operand: str = "fd") -> _Descriptor:
        name = step[operand](variables)
        if name not in self._descriptors:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF), name)
        return self._descriptors[name]

    # --- descriptors ------------------------------------------------------------------------------------------------

    async def op_open(self, step: Step, variables: Mapping[str, Any]) -> str:
        caller, relative, path = self._path(step, variables)
        fd = await caller.open(path, step["flags"] | os.O_CLOEXEC, step["mode"])
        self._descriptors[step["fd"](variables)] = _Descriptor(caller, fd, step["flags"])
        await self._machine.named(relative)
        return "0"

    async def op_close(self, step: Step, variables: Mapping[str, Any]) -> str:
        descriptor = self._descriptor(step, variables)
        del self._descriptors[step["fd"](variables)]
        await descriptor.caller.close(descriptor.fd)
        return "0"

    async def op_lseek(self, step: Step, variables: Mapping[str, Any]) -> str:
        descriptor = self._descriptor(step, variables)
        descriptor.pos = await descriptor.caller.lseek(descriptor.fd, step["offset"](variables), step["whence"])
        return str(descriptor.pos)

    # --- data -------------------------------------------------------------------------------------------------------

    async def op_read(self, step: Step, variables: Mapping[str, Any]) -> str:
        descriptor = self._descriptor(step, variables)
        data = await descriptor.caller.read(descriptor.fd, step["length"](variables))
        descriptor.pos += len(data)
        return f"{len(data)}:{crc(data)}"

    async def op_pread(self, step: Step, variables: Mapping[str, Any]) -> str:
        descriptor = self._descriptor(step, variables)
        data = await descriptor.caller.pread(descriptor.fd, step["length"](variables), step["offset"](variables))
        return f"{len(data)}:{crc(data)}"

    async def op_read_all(self, step: Step, variables: Mapping[str, Any]) -> str:
        descriptor = self._descriptor(step, variables)
        chunk = step["chunk"](variables)
        total, checksum = 0, 0
        while data := await descriptor.caller.read(descriptor.fd, chunk):
            total += len(data)
            checksum = zlib.crc32(data, checksum)
        descriptor.pos += total
        return f"{total}:{checksum:08x}"

    async def op_write(self, step: Step, variables: Mapping[str, Any]) -> str:
        descriptor = self._descriptor(step, variables)
        base = descriptor.pos if step["base"] is None else step["base"](variables)
        data = pattern(step["seed"](variables), base, step["length"](variables))
        written = await descriptor.caller.write(descriptor.fd, data)
        descriptor.pos += written
        return str(written)

    async def op_pwrite(self, step: Step, variables: Mapping[str, Any]) -> str:
        descriptor = self._descriptor(step, variables)
        offset = step["offset"](variables)
        data = pattern(step["seed"](variables), offset, step["length"](variables))
        return str(await descriptor.caller.pwrite(descriptor.fd, data, offset))

    async def op_write_all(self, step: Step, variables: Mapping[str, Any]) -> str:
        descriptor = self._descriptor(step, variables)
        left, chunk, seed = step["length"](variables), step["chunk"](variables), step["seed"](variables)
        total = 0
        while left > 0:
            piece = min(chunk, left)
            written = await descriptor.caller.write(descriptor.fd, pattern(seed, descriptor.pos, piece))
            descriptor.pos += written
            total += written
            left -= written
        return str(total)

    async def op_copy(self, step: Step, variables: Mapping[str, Any]) -> str:
        """A copy that fails on the way leaves its descriptors to the end of the process, as a program that gives up
        does."""
        caller, _, path = self._path(step, variables)
        _, to, to_path = self._path(step, variables, "to")
        chunk = step["chunk"](variables)
        source = await caller.open(path, os.O_RDONLY | os.O_CLOEXEC)
        target = await caller.open(to_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        await self._machine.named(to)
        total = 0
        while data := await caller.read(source, chunk):
            total += await caller.write(target, bytes(data))
        await caller.close(target)
        await caller.close(source)
        return str(total)

    async def op_copy_range(self, step: Step, variables: Mapping[str, Any]) -> str:
        source = self._descriptor(step, variables)
        target = self._descriptor(step, variables, "to_fd")
        if source.caller is not target.caller:  # two superblocks; that they are open for it is looked at before
            wrong = errno.EXDEV if source.readable and target.writable else errno.EBADF
            raise OSError(wrong, os.strerror(wrong))
        copied = await source.caller.copy_file_range(
            source.fd, target.fd, step["length"](variables), step["offset"](variables), step["to_offset"](variables)
        )
        return str(copied)

    async def op_server_write(self, step: Step, variables: Mapping[str, Any]) -> str:
        """A change behind the clients' backs, with a pause on either side longer than the server's time granule."""
        await self._machine.sleep(SERVER_WRITE_PAUSE_S)
        server = self._callers[SERVER]
        path = f"{self._roots[SERVER]}/{step['path'](variables)}"
        flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if step["trunc"] else 0)
        fd = await server.open(path, flags, 0o644)
        offset = step["offset"](variables)
        written = await server.pwrite(fd, pattern(step["seed"](variables), offset, step["length"](variables)), offset)
        await server.close(fd)
        await self._machine.sleep(SERVER_WRITE_PAUSE_S)
        return str(written)

    async def op_mkfile(self, step: Step, variables: Mapping[str, Any]) -> str:
        caller, relative, path = self._path(step, variables)
        mode = step["mode"]
        fd = await caller.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644 if mode is None else mode)
        length, seed = step["length"](variables), step["seed"](variables)
        for pos in range(0, length, WRITE_PIECE):
            await caller.write(fd, pattern(seed, pos, min(WRITE_PIECE, length - pos)))
        await caller.close(fd)
        if mode is not None:
            await caller.chmod(path, mode)
        await self._machine.named(relative)
        return "0"

    # --- durability, size, hints, locks -----------------------------------------------------------------------------

    async def op_fsync(self, step: Step, variables: Mapping[str, Any]) -> str:
        descriptor = self._descriptor(step, variables)
        await descriptor.caller.fsync(descriptor.fd)
        return "0"

    async def op_fdatasync(self, step: Step, variables: Mapping[str, Any]) -> str:
        descriptor = self._descriptor(step, variables)
        await descriptor.caller.fdatasync(descriptor.fd)
        return "0"

    async def op_ftruncate(self, step: Step, variables: Mapping[str, Any]) -> str:
        descriptor = self._descriptor(step, variables)
        await descriptor.caller.ftruncate(descriptor.fd, step["length"](variables))
        return "0"

    async def op_truncate(self, step: Step, variables: Mapping[str, Any]) -> str:
        caller, _, path = self._path(step, variables)
        await caller.truncate(path, step["length"](variables))
        return "0"

    async def op_fallocate(self, step: Step, variables: Mapping[str, Any]) -> str:
        descriptor = self._descriptor(step, variables)
        await descriptor.caller.fallocate(
            descriptor.fd, step["how"], step["offset"](variables), step["length"](variables)
        )
        return "0"

    async def op_fadvise(self, step: Step, variables: Mapping[str, Any]) -> str:
        descriptor = self._descriptor(step, variables)
        await descriptor.caller.fadvise(
            descriptor.fd, step["offset"](variables), step["length"](variables), step["advice"]
        )
        return "0"

    async def op_flock(self, step: Step, variables: Mapping[str, Any]) -> str:
        descriptor = self._descriptor(step, variables)
        await descriptor.caller.flock(descriptor.fd, step["how"])
        return "0"

    async def op_lockf(self, step: Step, variables: Mapping[str, Any]) -> str:
        descriptor = self._descriptor(step, variables)
        await descriptor.caller.lockf(descriptor.fd, step["how"], step["offset"](variables), step["length"](variables))
        return "0"

    # --- attributes -------------------------------------------------------------------------------------------------

    async def op_stat(self, step: Step, variables: Mapping[str, Any]) -> str:
        caller, _, path = self._path(step, variables)
        return stat_line(await caller.stat(path))

    async def op_lstat(self, step: Step, variables: Mapping[str, Any]) -> str:
        caller, _, path = self._path(step, variables)
        return stat_line(await caller.lstat(path))

    async def op_fstat(self, step: Step, variables: Mapping[str, Any]) -> str:
        descriptor = self._descriptor(step, variables)
        return stat_line(await descriptor.caller.fstat(descriptor.fd))

    async def op_access(self, step: Step, variables: Mapping[str, Any]) -> str:
        caller, _, path = self._path(step, variables)
        try:
            await caller.access(path, step["mode"])
        except OSError:
            return "0"
        return "1"

    async def op_chmod(self, step: Step, variables: Mapping[str, Any]) -> str:
        caller, _, path = self._path(step, variables)
        await caller.chmod(path, step["mode"])
        return "0"

    async def op_utimens(self, step: Step, variables: Mapping[str, Any]) -> str:
        caller, _, path = self._path(step, variables)
        if step["mtime"] == "now":
            await caller.utimens(path, None, None)
        else:
            atime = step["mtime"] if step["atime"] is None else step["atime"]
            await caller.utimens(path, atime * 1_000_000_000, step["mtime"] * 1_000_000_000)
        return "0"

    async def op_statfs(self, step: Step, variables: Mapping[str, Any]) -> str:
        caller, _, path = self._path(step, variables)
        figures = await caller.statfs(path)
        return f"bsize={figures.f_bsize} frsize={figures.f_frsize} namemax={figures.f_namemax}"

    # --- names ------------------------------------------------------------------------------------------------------

    async def op_listdir(self, step: Step, variables: Mapping[str, Any]) -> str:
        caller, _, path = self._path(step, variables)
        return listing([_shown_name(name) for name in await caller.listdir(path)])

    async def op_listdir_stat(self, step: Step, variables: Mapping[str, Any]) -> str:
        caller, _, path = self._path(step, variables)
        lines = []
        for name in await caller.listdir(path):
            attributes = await caller.lstat(f"{path}/{os.fsdecode(name)}")
            lines.append(f"{_shown_name(name)} {stat_line(attributes)}")
        return listing(lines)

    async def op_mkdir(self, step: Step, variables: Mapping[str, Any]) -> str:
        caller, relative, path = self._path(step, variables)
        await caller.mkdir(path, step["mode"])
        await self._machine.named(relative)
        return "0"

    async def op_rmdir(self, step: Step, variables: Mapping[str, Any]) -> str:
        caller, _, path = self._path(step, variables)
        await caller.rmdir(path)
        return "0"

    async def op_unlink(self, step: Step, variables: Mapping[str, Any]) -> str:
        caller, _, path = self._path(step, variables)
        await caller.unlink(path)
        return "0"

    async def op_readlink(self, step: Step, variables: Mapping[str, Any]) -> str:
        caller, _, path = self._path(step, variables)
        return "=" + os.fsdecode(await caller.readlink(path))

    async def op_symlink(self, step: Step, variables: Mapping[str, Any]) -> str:
        caller, _, path = self._path(step, variables)
        await caller.symlink(step["target"](variables), path)
        return "0"

    async def op_rename(self, step: Step, variables: Mapping[str, Any]) -> str:
        caller, _, path = self._path(step, variables)
        _, to, to_path = self._path(step, variables, "to")
        await caller.rename(path, to_path)
        await self._machine.named(to)
        return "0"

    async def op_link(self, step: Step, variables: Mapping[str, Any]) -> str:
        caller, _, path = self._path(step, variables)
        _, _, to_path = self._path(step, variables, "to")
        await caller.link(path, to_path)
        return "0"

    # --- the whole machine ------------------------------------------------------------------------------------------

    async def op_sleep(self, step: Step, variables: Mapping[str, Any]) -> str:
        await self._machine.sleep(step["seconds"])
        return "0"

    async def op_drop_caches(self, step: Step, variables: Mapping[str, Any]) -> str:
        await self._machine.drop_caches(step["what"])
        return "0"

    async def op_sync(self, step: Step, variables: Mapping[str, Any]) -> str:
        await self._machine.sync()
        return "0"

    async def op_checkpoint(self, step: Step, variables: Mapping[str, Any]) -> str:
        await self._machine.checkpoint(step["label"](variables))
        return "0"


def stat_line(attributes: Any) -> str:
    """Attributes as results show them: a directory's size is the server's own business, a clock's time is "now"."""
    seconds = attributes.st_mtime_ns // 1_000_000_000
    size = "-" if stat.S_ISDIR(attributes.st_mode) else attributes.st_size
    when = seconds if seconds < OLDEST_NOW_S else "now"
    return (
        f"mode={attributes.st_mode:o} nlink={attributes.st_nlink} uid={attributes.st_uid} gid={attributes.st_gid}"
        f" size={size} mtime={when}"
    )


def listing(lines: Sequence[str]) -> str:
    """``N:crc`` of the lines in sorted order."""
    return f"{len(lines)}:{crc(os.fsencode(chr(10).join(sorted(lines))))}"


def _shown_name(name: bytes) -> str:
    """A silly-renamed file's name holds its inode number and a counter; results show what it has in common."""
    shown = os.fsdecode(name)
    return ".nfs" if shown.startswith(".nfs") else shown
