"""Talks to running daemons: their control service, and a client host's system calls.

Messages and gRPC's errors stop here. What comes out is plain: numbers by name, OSError for a system call that failed,
and a :class:`UserError` of one line for everything that keeps us from asking.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal

import grpc
import grpc.aio

from freepage_proto.v1 import control_pb2, control_pb2_grpc, syscalls_pb2, syscalls_pb2_grpc
from freepage_runtime.errors import UserError
from freepage_runtime.registry import Daemon, list_daemons
from freepage_runtime.token import METADATA_KEY

Action = Literal["run", "skip"]

_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
)

_ACTIONS = {control_pb2.HOOK_ACTION_RUN: "run", control_pb2.HOOK_ACTION_SKIP: "skip"}


class DaemonUnreachable(UserError):
    """Nobody answers at that address."""


@dataclass(frozen=True, slots=True)
class HookRule:
    """What the exit door does on one removal path. ``probability`` and ``every_nth`` say when a skip happens;
    neither: always."""

    path: str
    action: Action = "run"
    probability: float | None = None
    every_nth: int | None = None

    def __str__(self) -> str:
        condition = ""
        if self.probability is not None:
            condition = f":p={self.probability:g}"
        elif self.every_nth is not None:
            condition = f":every={self.every_nth}"
        return f"{self.path}={self.action}{condition}"

    @classmethod
    def parse(cls, text: str) -> HookRule:
        """``reclaim=skip``, ``all=run``, ``drop=skip:p=0.1``, ``evict=skip:every=3``. Raises UserError."""
        path, equals, rest = text.partition("=")
        action, _, condition = rest.partition(":")
        if not equals or action not in ("run", "skip"):
            raise UserError(
                f"{text!r} is no hook rule: write PATH=run, PATH=skip, PATH=skip:p=0.1 or PATH=skip:every=3"
            )
        rule = cls(path, "run" if action == "run" else "skip")
        if not condition:
            return rule
        name, _, value = condition.partition("=")
        try:
            if name == "p" and action == "skip":
                return cls(path, "skip", probability=float(value))
            if name == "every" and action == "skip":
                return cls(path, "skip", every_nth=int(value))
        except ValueError:
            pass
        raise UserError(f"{text!r}: only skip takes a condition, p=PROBABILITY or every=N")

    def to_message(self) -> control_pb2.HookRule:
        action = control_pb2.HOOK_ACTION_RUN if self.action == "run" else control_pb2.HOOK_ACTION_SKIP
        message = control_pb2.HookRule(path=self.path, action=action)
        if self.probability is not None:
            message.probability = self.probability
        if self.every_nth is not None:
            message.every_nth = self.every_nth
        return message

    @classmethod
    def from_message(cls, message: control_pb2.HookRule) -> HookRule:
        when = message.WhichOneof("skip_when")
        return cls(
            message.path,
            "skip" if _ACTIONS.get(message.action) == "skip" else "run",
            message.probability if when == "probability" else None,
            message.every_nth if when == "every_nth" else None,
        )


@dataclass(frozen=True, slots=True)
class Stats:
    """Figures since a daemon started; see GetStatsResponse in control.proto."""

    removed: Mapping[str, int] = field(default_factory=dict)
    hook_calls: Mapping[str, int] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)
    skipped_owned: Mapping[str, int] = field(default_factory=dict)
    orphaned: Mapping[str, int] = field(default_factory=dict)
    pinned: Mapping[str, int] = field(default_factory=dict)
    violations: Mapping[str, int] = field(default_factory=dict)
    rpcs: Mapping[str, int] = field(default_factory=dict)
    cached_pages: int = 0
    dirty_pages: int = 0
    writeback_pages: int = 0
    hits: int = 0
    misses: int = 0
    audit_agrees: bool | None = None
    """None unless an audit was asked for."""


@dataclass(frozen=True, slots=True)
class Info:
    """What a daemon is."""

    role: str
    name: str
    pid: int
    version: str
    grpc_address: str
    metrics_address: str
    file_systems: tuple[str, ...]
    memory_bytes: int | None
    uptime_s: float


class Control:
    """One daemon's control service. An async context manager; every method raises UserError with one line."""

    def __init__(self, address: str, *, name: str | None = None, token: str | None = None) -> None:
        self.address = address
        self.name = name if name is not None else address
        self._channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        self._metadata = ((METADATA_KEY, f"Bearer {token}"),) if token is not None else ()
        self._control: Any = control_pb2_grpc.ControlStub(self._channel)  # type: ignore[no-untyped-call]
        self._sys: Any = syscalls_pb2_grpc.SysStub(self._channel)  # type: ignore[no-untyped-call]

    async def __aenter__(self) -> Control:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._channel.close()

    async def _ask(self, method: Any, request: Any, timeout_s: float | None = 60.0) -> Any:
        try:
            return await method(request, metadata=self._metadata, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise _explain(self.name, self.address, error) from None

    # --- the control service ---------------------------------------------------------------------------------------

    async def info(self) -> Info:
        answer = await self._ask(self._control.GetInfo, control_pb2.GetInfoRequest())
        return Info(
            "server" if answer.role == control_pb2.ROLE_SERVER else "client",
            answer.name,
            answer.pid,
            answer.version,
            answer.grpc_address,
            answer.metrics_address,
            tuple(answer.file_systems),
            answer.memory_bytes if answer.HasField("memory_bytes") else None,
            answer.uptime_seconds,
        )

    async def stats(self, *, audit: bool = False) -> Stats:
        answer = await self._ask(self._control.GetStats, control_pb2.GetStatsRequest(audit=audit))
        return Stats(
            **{
                name: dict(getattr(answer, name))
                for name in (
                    "removed",
                    "hook_calls",
                    "skipped",
                    "skipped_owned",
                    "orphaned",
                    "pinned",
                    "violations",
                    "rpcs",
                )
            },
            cached_pages=answer.cached_pages,
            dirty_pages=answer.dirty_pages,
            writeback_pages=answer.writeback_pages,
            hits=answer.hits,
            misses=answer.misses,
            audit_agrees=answer.audit_agrees if answer.HasField("audit_agrees") else None,
        )

    async def hooks(self) -> list[HookRule]:
        answer = await self._ask(self._control.GetHookPolicy, control_pb2.GetHookPolicyRequest())
        return [HookRule.from_message(rule) for rule in answer.rules]

    async def set_hooks(self, rules: Sequence[HookRule]) -> list[HookRule]:
        request = control_pb2.SetHookPolicyRequest(rules=[rule.to_message() for rule in rules])
        answer = await self._ask(self._control.SetHookPolicy, request)
        return [HookRule.from_message(rule) for rule in answer.rules]

    async def drop_caches(self, what: int = 1) -> int:
        """Pages dropped."""
        answer = await self._ask(self._control.DropCaches, control_pb2.DropCachesRequest(what=what))
        return int(answer.pages)

    async def sync_all(self) -> None:
        await self._ask(self._control.SyncAll, control_pb2.SyncAllRequest())

    async def resize(self, memory_bytes: int | None) -> int:
        """Pages reclaimed."""
        request = control_pb2.ResizeMemoryRequest()
        if memory_bytes is not None:
            request.memory_bytes = memory_bytes
        return int((await self._ask(self._control.ResizeMemory, request)).reclaimed_pages)

    async def replace_pages(self, path: str | bytes, first: int, count: int) -> int:
        """Pages replaced."""
        request = control_pb2.ReplacePagesRequest(path=os.fsencode(path), first=first, count=count)
        return int((await self._ask(self._control.ReplacePages, request)).replaced)

    async def set_fault(self, name: str, count: int, path: str = "") -> None:
        await self._ask(self._control.SetFault, control_pb2.SetFaultRequest(name=name, count=count, path=path))

    async def faults(self) -> list[tuple[str, int, int]]:
        """(name, how often it may still strike, how often it has struck)."""
        answer = await self._ask(self._control.GetFaults, control_pb2.GetFaultsRequest())
        return [(fault.name, fault.armed, fault.struck) for fault in answer.faults]

    async def slab(self) -> tuple[list[control_pb2.SlabLine], str]:
        """The slab caches, and the same in slabinfo's format."""
        answer = await self._ask(self._control.GetSlab, control_pb2.GetSlabRequest())
        return list(answer.lines), answer.slabinfo

    async def vmstat(self) -> dict[str, int]:
        answer = await self._ask(self._control.GetVmstat, control_pb2.GetVmstatRequest())
        return dict(answer.counters)

    async def audit(self) -> control_pb2.AuditResponse:
        answer: control_pb2.AuditResponse = await self._ask(self._control.Audit, control_pb2.AuditRequest())
        return answer

    # --- a client's system calls ------------------------------------------------------------------------------------

    async def mount(self, source: str, mountpoint: str, options: str = "") -> None:
        """Raises UserError with the client's own message."""
        request = syscalls_pb2.SysMountRequest(source=source, mountpoint=mountpoint, options=options)
        answer = await self._ask(self._sys.Mount, request, timeout_s=None)
        if answer.error:
            raise UserError(f"{self.name}: mount {source}: {answer.message or os.strerror(answer.error)}")

    async def umount(self, mountpoint: str) -> list[str]:
        """What was left of the mount; empty when it went away clean."""
        answer = await self._ask(self._sys.Umount, syscalls_pb2.SysUmountRequest(mountpoint=mountpoint), timeout_s=None)
        if answer.error:
            raise UserError(f"{self.name}: umount {mountpoint}: {os.strerror(answer.error)}")
        return list(answer.leftovers)

    async def task(self) -> RemoteTask:
        """A new process on that client host."""
        answer = await self._ask(self._sys.CreateTask, syscalls_pb2.SysCreateTaskRequest())
        return RemoteTask(self, answer.task)

    async def syscall(self, name: str, request: Any, path: str | bytes | None = None) -> Any:
        """One system call; raises OSError for the error it ended with."""
        answer = await self._ask(getattr(self._sys, name), request, timeout_s=None)
        if answer.error:
            raise OSError(answer.error, os.strerror(answer.error), None if path is None else os.fsdecode(path))
        return answer


class RemoteTask:
    """A process on a client host: the system calls that the lab's workloads make. They raise OSError."""

    def __init__(self, control: Control, task: int) -> None:
        self._control = control
        self._task = task

    async def open(self, path: str, flags: int, mode: int = 0o644) -> int:
        request = syscalls_pb2.SysOpenRequest(task=self._task, path=os.fsencode(path), flags=flags, mode=mode)
        return int((await self._control.syscall("Open", request, path)).fd)

    async def close(self, fd: int) -> None:
        await self._control.syscall("Close", syscalls_pb2.SysCloseRequest(task=self._task, fd=fd))

    async def read(self, fd: int, count: int) -> bytes:
        answer = await self._control.syscall("Read", syscalls_pb2.SysReadRequest(task=self._task, fd=fd, count=count))
        return bytes(answer.data)

    async def consume(self, fd: int, count: int) -> int:
        """A read whose data stays where it is: only their number comes back. 0 at the end of the file."""
        request = syscalls_pb2.SysReadRequest(task=self._task, fd=fd, count=count, discard=True)
        return int((await self._control.syscall("Read", request)).count)

    async def write(self, fd: int, data: bytes) -> int:
        request = syscalls_pb2.SysWriteRequest(task=self._task, fd=fd, data=data)
        return int((await self._control.syscall("Write", request)).count)

    async def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        request = syscalls_pb2.SysPwriteRequest(task=self._task, fd=fd, data=data, offset=offset)
        return int((await self._control.syscall("Pwrite", request)).count)

    async def fsync(self, fd: int) -> None:
        await self._control.syscall("Fsync", syscalls_pb2.SysFsyncRequest(task=self._task, fd=fd))

    async def ftruncate(self, fd: int, length: int) -> None:
        request = syscalls_pb2.SysFtruncateRequest(task=self._task, fd=fd, length=length)
        await self._control.syscall("Ftruncate", request)

    async def stat(self, path: str) -> syscalls_pb2.Stat:
        request = syscalls_pb2.SysStatRequest(task=self._task, path=os.fsencode(path))
        answer: syscalls_pb2.SysStatResponse = await self._control.syscall("Stat", request, path)
        return answer.stat

    async def listdir(self, path: str) -> list[bytes]:
        request = syscalls_pb2.SysListdirRequest(task=self._task, path=os.fsencode(path))
        return list((await self._control.syscall("Listdir", request, path)).names)

    async def mkdir(self, path: str, mode: int = 0o755) -> None:
        request = syscalls_pb2.SysMkdirRequest(task=self._task, path=os.fsencode(path), mode=mode)
        await self._control.syscall("Mkdir", request, path)

    async def unlink(self, path: str) -> None:
        request = syscalls_pb2.SysUnlinkRequest(task=self._task, path=os.fsencode(path))
        await self._control.syscall("Unlink", request, path)

    async def exit(self) -> None:
        """Close everything, end the process."""
        await self._control._ask(self._control._sys.ExitTask, syscalls_pb2.SysExitTaskRequest(task=self._task))


def choose(role: str | None, addresses: Sequence[str], names: Sequence[str] = ()) -> list[Daemon]:
    """The daemons meant: those at ``addresses``, or the registered ones of ``role``, by ``names`` if any are given.

    Raises UserError when there are none.
    """
    if addresses:
        return [Daemon(role=role or "client", name=address, pid=1, control=address) for address in addresses]
    running = [daemon for daemon in list_daemons(role) if daemon.control is not None]
    what = role or "daemon"
    if not running:
        raise UserError(f"no freepage {what} is running here (start one, or name it with --address HOST:PORT)")
    chosen = [daemon for daemon in running if not names or daemon.name in names]
    missing = [name for name in names if name not in {daemon.name for daemon in running}]
    if missing:
        known = ", ".join(daemon.name for daemon in running)
        raise UserError(f"no freepage {what} is called {', '.join(missing)}; running: {known}")
    return chosen


def _explain(name: str, address: str, error: grpc.aio.AioRpcError) -> UserError:
    details = " ".join((error.details() or "").split())
    where = name if name == address else f"{name} ({address})"
    match error.code():
        case grpc.StatusCode.UNAVAILABLE:
            return DaemonUnreachable(f"cannot reach {where}: is the daemon running?")
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return DaemonUnreachable(f"{where} does not answer")
        case grpc.StatusCode.UNAUTHENTICATED:
            return UserError(f"{where} wants a token, or another one: {details}")
        case grpc.StatusCode.UNIMPLEMENTED:
            return UserError(f"{where} cannot do that: {details}")
        case _:
            return UserError(f"{where}: {details or error.code().name}")
