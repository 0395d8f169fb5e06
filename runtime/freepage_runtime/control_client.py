"""The other end of the control service: a daemon's administration as plain calls, for ctl, audit and the demo.

Everything that comes back is a plain type. What goes wrong is a ControlError whose text is a line for the user.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import grpc.aio

from freepage import HookPolicy, PageCache
from freepage.faults import SiteFault
from freepage_proto.v1 import control_pb2 as pb
from freepage_proto.v1 import control_pb2_grpc
from freepage_runtime import credentials
from freepage_runtime import token as tokens
from freepage_runtime.control import FileLock, apply_rule, fault_rule, rules_of
from freepage_runtime.errors import UserError
from freepage_runtime.reasons import brief
from freepage_runtime.settings import parse_address
from freepage_runtime.tls import TlsFiles

R = TypeVar("R")

CONTROL_TIMEOUT_S = 60.0
"""How long an answer may take; writing back a large cache is the slowest."""

CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", 64 << 20),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),  # http_proxy in the environment is for the web
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2000),  # gRPC's own two minutes are long for whoever restarts a daemon
)


class ControlError(UserError):
    """A daemon could not be asked, or said no."""


@dataclass(frozen=True, slots=True)
class DaemonInfo:
    """What a daemon is. ``memory_bytes`` None: no limit; ``grpc`` and ``metrics`` None: it does not listen there."""

    role: str
    name: str
    pid: int
    version: str
    grpc: str | None
    metrics: str | None
    file_systems: tuple[str, ...]
    memory_bytes: int | None
    uptime_s: float


@dataclass(frozen=True, slots=True)
class SlabLine:
    """Objects of one slab cache with one use. ``pinned`` belongs to the slab cache, whatever the use."""

    slab: str
    use: str
    cached: int
    in_use: int
    orphaned: int
    pinned: int
    allocated: int
    freed: int
    object_size: int


@dataclass(frozen=True, slots=True)
class Slab:
    """``slabinfo`` has the format of /proc/slabinfo 2.1."""

    lines: tuple[SlabLine, ...]
    slabinfo: str


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of the gallery: what a programmer did wrong, and what sees it.

    ``paths`` are the removal paths on which it is armed, none when it is not; ``struck`` how often it did since then.
    """

    name: str
    bug: str
    caught_by: tuple[str, ...]
    paths: tuple[str, ...]
    struck: int


@dataclass(frozen=True, slots=True)
class Audit:
    """``agrees``: mark and sweep found what the ledger says. ``text`` for people, ``json`` (an object) for programs."""

    agrees: bool
    orphaned: int
    text: str
    json: str


@dataclass(frozen=True, slots=True)
class Stats:
    """Counters since the daemon started, by removal path, slab cache, rule or procedure; orphaned and pinned are now's.

    ``audit_agrees`` is None when no audit was asked for. The last five count pages.
    """

    removed: dict[str, int] = field(default_factory=dict)
    hook_calls: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    skipped_owned: dict[str, int] = field(default_factory=dict)
    orphaned: dict[str, int] = field(default_factory=dict)
    pinned: dict[str, int] = field(default_factory=dict)
    violations: dict[str, int] = field(default_factory=dict)
    audit_agrees: bool | None = None
    rpcs: dict[str, int] = field(default_factory=dict)
    cached_pages: int = 0
    dirty_pages: int = 0
    writeback_pages: int = 0
    hits: int = 0
    misses: int = 0


class ControlClient:
    """One daemon's control service at ``address`` (host:port), with the token that it asks for off loopback.

    ``tls`` None: it does not speak TLS.
    """

    def __init__(
        self,
        address: str,
        *,
        token: str | None = None,
        timeout_s: float = CONTROL_TIMEOUT_S,
        tls: TlsFiles | None = None,
    ) -> None:
        self.address = parse_address(address)
        self._timeout_s = timeout_s
        self._metadata = () if token is None else ((tokens.METADATA_KEY, tokens.metadata_value(token)),)
        target, secure = f"dns:///{self.address}", credentials.for_channel(tls)
        options = (*CHANNEL_OPTIONS, *credentials.channel_options(tls))
        self.channel = (
            grpc.aio.insecure_channel(target, options=options)
            if secure is None
            else grpc.aio.secure_channel(target, secure, options=options)
        )
        self._control = control_pb2_grpc.ControlStub(self.channel)  # type: ignore[no-untyped-call]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self.channel.close()

    async def ask(self, method: Callable[..., Awaitable[R]], request: object) -> R:
        """One call of a stub's method; raises ControlError."""
        try:
            return await method(request, timeout=self._timeout_s, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            raise ControlError(self._explain(error)) from error

    def _explain(self, error: grpc.aio.AioRpcError) -> str:
        match error.code():
            case grpc.StatusCode.UNAVAILABLE:
                return f"cannot reach the daemon at {self.address}: {brief(error.details() or '')}"
            case grpc.StatusCode.DEADLINE_EXCEEDED:
                return f"the daemon at {self.address} did not answer within {self._timeout_s:g} s"
            case _:
                return error.details() or error.code().name

    async def info(self) -> DaemonInfo:
        r: pb.GetInfoResponse = await self.ask(self._control.GetInfo, pb.GetInfoRequest())
        return DaemonInfo(
            role="server" if r.role == pb.ROLE_SERVER else "client",
            name=r.name,
            pid=r.pid,
            version=r.version,
            grpc=r.grpc_address or None,
            metrics=r.metrics_address or None,
            file_systems=tuple(r.file_systems),
            memory_bytes=r.memory_bytes if r.HasField("memory_bytes") else None,
            uptime_s=r.uptime_seconds,
        )

    async def drop_caches(self, what: int) -> int:
        """echo WHAT > drop_caches: 1 pages, 2 dentries and inodes, 3 both. Returns the pages that left the cache."""
        r: pb.DropCachesResponse = await self.ask(self._control.DropCaches, pb.DropCachesRequest(what=max(what, 0)))
        return r.pages

    async def sync_all(self) -> None:
        """Write back everything dirty and wait for it."""
        await self.ask(self._control.SyncAll, pb.SyncAllRequest())

    async def resize_memory(self, memory_bytes: int | None) -> int:
        """Set the page cache's limit, None for no limit. Returns the pages reclaimed for it."""
        request = pb.ResizeMemoryRequest()
        if memory_bytes is not None:
            request.memory_bytes = memory_bytes
        r: pb.ResizeMemoryResponse = await self.ask(self._control.ResizeMemory, request)
        return r.reclaimed_pages

    async def set_hook_policy(self, *rules: str) -> dict[str, str]:
        """Set rules such as ``reclaim=skip:every=3`` or ``all=run``, all or none. Returns the policy now in force."""
        scratch = HookPolicy(lambda: 0.0)
        messages = []
        for rule in rules:
            path = rule.partition("=")[0]
            try:
                scratch.parse(rule)
            except ValueError as error:
                raise ControlError(str(error)) from error
            messages += [m for m in rules_of(scratch) if path in ("all", m.path)]
        r: pb.SetHookPolicyResponse = await self.ask(
            self._control.SetHookPolicy, pb.SetHookPolicyRequest(rules=messages)
        )
        return _policy(r.rules)

    async def hook_policy(self) -> dict[str, str]:
        """Removal path -> ``run``, ``skip``, ``skip:every=N`` or ``skip:probability=P``."""
        r: pb.GetHookPolicyResponse = await self.ask(self._control.GetHookPolicy, pb.GetHookPolicyRequest())
        return _policy(r.rules)

    async def set_fault(self, text: str) -> None:
        """Arm a fault: ``NAME[:path=P][:every=N][:probability=X][:inode=NAME][:index=A-B]``; ``[NAME=]off`` disarms."""
        if text == "off" or text.endswith("=off"):
            name = text.removesuffix("off").removesuffix("=")
            await self.ask(self._control.ClearFaults, pb.ClearFaultsRequest(name=name))
            return
        scratch = PageCache(now=lambda: 0.0, random=lambda: 0.0).faults
        scratch.extend(
            type(f.name, (SiteFault,), {"name": f.name}) for f in await self.faults() if f.name not in scratch.gallery
        )
        try:
            scratch.parse(text)
        except ValueError as error:
            raise ControlError(str(error)) from error
        (armed,) = scratch.armed.values()
        await self.ask(self._control.SetFault, pb.SetFaultRequest(rule=fault_rule(armed)))

    async def faults(self) -> list[Fault]:
        """The whole gallery, armed or not."""
        r: pb.GetFaultsResponse = await self.ask(self._control.GetFaults, pb.GetFaultsRequest())
        return [Fault(f.name, f.bug, tuple(f.caught_by), tuple(f.rule.paths), f.struck) for f in r.faults]

    async def replace_pages(self, path: str | bytes, first: int, count: int, change: str = "replace") -> int:
        """Replace cached pages of a file by new ones with the same data. Returns how many were replaced.

        ``change`` may also be ``migrate`` (contents and objects move) or ``poison`` (the memory is bad, the pages go).
        """
        raw = path if isinstance(path, bytes) else path.encode("utf-8", "surrogateescape")
        request = pb.ReplacePagesRequest(path=raw, first=first, count=count, change=f"PAGE_CHANGE_{change.upper()}")
        r: pb.ReplacePagesResponse = await self.ask(self._control.ReplacePages, request)
        return r.replaced

    async def locks(self) -> list[FileLock]:
        """The locks that clients hold on a server, and those they wait for."""
        r: pb.GetLocksResponse = await self.ask(self._control.GetLocks, pb.GetLocksRequest())
        return [
            FileLock(m.client, m.svid, m.path, m.offset, m.length, m.exclusive, m.waiting) for m in r.locks
        ]  # fmt: skip

    async def release_locks(self, client: str) -> int:
        """Take all locks of a client away, which thinks that it has them, if it lives. Returns how many it held."""
        r: pb.ReleaseLocksResponse = await self.ask(self._control.ReleaseLocks, pb.ReleaseLocksRequest(client=client))
        return r.released

    async def slab(self) -> Slab:
        r: pb.GetSlabResponse = await self.ask(self._control.GetSlab, pb.GetSlabRequest())
        lines = tuple(
            SlabLine(
                m.slab, m.use, m.cached, m.in_use, m.orphaned, m.pinned, m.allocated, m.freed, m.object_size
            )
            for m in r.lines
        )  # fmt: skip
        return Slab(lines, r.slabinfo)

    async def proc_file(self, path: str) -> str:
        """A file of /proc as that machine would show it, such as /proc/slabinfo or (a client) /proc/self/mountstats."""
        r: pb.GetProcFileResponse = await self.ask(self._control.GetProcFile, pb.GetProcFileRequest(path=path))
        return r.text

    async def vmstat(self) -> dict[str, int]:
        """The page cache's counters, by the names of /proc/vmstat."""
        r: pb.GetVmstatResponse = await self.ask(self._control.GetVmstat, pb.GetVmstatRequest())
        return dict(r.counters)

    async def audit(self) -> Audit:
        """Mark and sweep, compared with the ledger."""
        r: pb.AuditResponse = await self.ask(self._control.Audit, pb.AuditRequest())
        return Audit(r.agrees, r.orphaned, r.text, r.json)

    async def stats(self, audit: bool = False) -> Stats:
        """The hook's figures, its objects and the calls; with ``audit``, whether the ledger is right about them."""
        r: pb.GetStatsResponse = await self.ask(self._control.GetStats, pb.GetStatsRequest(audit=audit))
        maps = ("removed", "hook_calls", "skipped", "skipped_owned", "orphaned", "pinned", "violations", "rpcs")
        numbers = ("cached_pages", "dirty_pages", "writeback_pages", "hits", "misses")
        values: dict[str, Any] = {name: dict(sorted(getattr(r, name).items())) for name in maps}
        values |= {name: getattr(r, name) for name in numbers}
        return Stats(**values, audit_agrees=r.audit_agrees if r.HasField("audit_agrees") else None)


def _policy(rules: Sequence[pb.HookRule]) -> dict[str, str]:
    policy = HookPolicy(lambda: 0.0)
    for rule in rules:
        apply_rule(policy, rule)
    return policy.as_dict()
