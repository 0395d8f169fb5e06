"""The control service: what an administrator does to a daemon's machine (freepage_proto/v1/control.proto).

Servers and clients have the same one, because both are a page cache with something around it; the few things in which
they differ are handed in. Arguments are checked before anything is changed. An answer never carries a traceback.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NoReturn, Protocol, TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from freepage import PAGE_SIZE, Faults, HookPolicy, RemovalPath
from freepage.faults import ArmedFault
from freepage_proto.names import readable
from freepage_proto.v1 import control_pb2 as pb
from freepage_proto.v1 import control_pb2_grpc
from freepage_runtime import procfs, token
from freepage_runtime.auditor import Auditable, Auditor
from freepage_runtime.logs import fields
from freepage_runtime.registry import Daemon

log = logging.getLogger(__name__)

Context: TypeAlias = "grpc.aio.ServicerContext[object, object]"


PAGE_CHANGES: dict[int, str] = {
    pb.PAGE_CHANGE_UNSPECIFIED: "replace",
    pb.PAGE_CHANGE_REPLACE: "replace",
    pb.PAGE_CHANGE_MIGRATE: "migrate",
    pb.PAGE_CHANGE_POISON: "poison",
}


class Machine(Auditable, Protocol):
    """A server or a client host, as its administrator sees it."""

    async def drop_caches(self, what: int) -> object: ...

    async def sync(self) -> object: ...


@dataclass(frozen=True, slots=True)
class FileLock:
    """A client's lock of a file: ``length`` 0 reaches to its end and beyond. ``waiting``: not held yet."""

    client: str
    svid: int
    path: str
    offset: int
    length: int
    exclusive: bool
    waiting: bool


class LockTable(Protocol):
    """The locks that clients hold on a server."""

    def all(self) -> Iterable[FileLock]: ...

    def release(self, client: str) -> int:
        """Take the client's locks away; returns how many it held."""
        ...


class ControlService(control_pb2_grpc.ControlServicer):
    """Administration of one `machine`.

    ``daemon`` gives this daemon's registration once it has one. ``file_systems`` lists exports or mounts, ``rpcs``
    counts calls by procedure, ``change_pages(path, first, count, change)`` does ``replace``, ``migrate`` or ``poison``
    to a file's cached pages and returns to how many; it raises OSError when it cannot. ``proc_files`` are files of
    /proc beside those of memory. ``auditor`` is this machine's, when it has one already. ``locks`` are a server's.
    """

    def __init__(
        self,
        machine: Machine,
        *,
        version: str,
        daemon: Callable[[], Daemon],
        file_systems: Callable[[], Iterable[str]],
        rpcs: Callable[[], dict[str, int]],
        change_pages: Callable[[str, int, int, str], Awaitable[int]],
        proc_files: Mapping[str, procfs.ProcFile] | None = None,
        auditor: Auditor | None = None,
        locks: LockTable | None = None,
    ) -> None:
        self._machine = machine
        self._version = version
        self._daemon = daemon
        self._file_systems = file_systems
        self._rpcs = rpcs
        self._change_pages = change_pages
        self._proc_files = procfs.files(machine.cache, proc_files)
        self._auditor = auditor or Auditor(machine)
        self._locks = locks
        self._started_s = time.monotonic()

    async def GetInfo(self, request: pb.GetInfoRequest, context: Context) -> pb.GetInfoResponse:
        daemon = self._daemon()
        limit_pages = self._machine.cache.memcg.limit_pages
        return pb.GetInfoResponse(
            role=pb.ROLE_SERVER if daemon.role == "server" else pb.ROLE_CLIENT,
            name=daemon.name,
            pid=daemon.pid,
            version=self._version,
            grpc_address=daemon.grpc or "",
            metrics_address=daemon.metrics or "",
            file_systems=self._file_systems(),
            memory_bytes=None if limit_pages is None else limit_pages * PAGE_SIZE,
            uptime_seconds=time.monotonic() - self._started_s,
        )

    async def DropCaches(self, request: pb.DropCachesRequest, context: Context) -> pb.DropCachesResponse:
        if request.what not in (1, 2, 3):
            await refuse(context, "what to drop is 1 (pages), 2 (dentries and inodes) or 3 (both)")
        before = self._left()
        await self._machine.drop_caches(request.what)
        dropped = self._left() - before
        log.info("dropped caches", extra=fields(what=request.what, pages=dropped))
        return pb.DropCachesResponse(pages=dropped)

    async def SyncAll(self, request: pb.SyncAllRequest, context: Context) -> pb.SyncAllResponse:
        await self._machine.sync()
        return pb.SyncAllResponse()

    async def ResizeMemory(self, request: pb.ResizeMemoryRequest, context: Context) -> pb.ResizeMemoryResponse:
        limit_pages = None
        if request.HasField("memory_bytes"):
            limit_pages = request.memory_bytes // PAGE_SIZE
            if limit_pages < 1:
                await refuse(context, f"a page cache has at least one page ({PAGE_SIZE} bytes)")
        before = self._left()
        self._machine.cache.memcg.resize(limit_pages)
        log.info("resized memory", extra=fields(limit_pages=limit_pages))
        return pb.ResizeMemoryResponse(reclaimed_pages=self._left() - before)

    def _left(self) -> int:
        return sum(self._machine.cache.removed.values())

    # --- the hook -------------------------------------------------------------------------------------------------

    async def SetHookPolicy(self, request: pb.SetHookPolicyRequest, context: Context) -> pb.SetHookPolicyResponse:
        policy = self._machine.cache.policy
        rehearsal = HookPolicy(self._machine.cache.random)
        try:
            for rule in request.rules:
                apply_rule(rehearsal, rule)
        except ValueError as error:
            await refuse(context, str(error))
        for rule in request.rules:
            apply_rule(policy, rule)
        log.info("hook policy", extra=fields(**policy.as_dict()))
        return pb.SetHookPolicyResponse(rules=rules_of(policy))

    async def GetHookPolicy(self, request: pb.GetHookPolicyRequest, context: Context) -> pb.GetHookPolicyResponse:
        return pb.GetHookPolicyResponse(rules=rules_of(self._machine.cache.policy))

    async def SetFault(self, request: pb.SetFaultRequest, context: Context) -> pb.SetFaultResponse:
        rule = request.rule
        gallery = self._machine.cache.faults.gallery
        if rule.name not in gallery:
            names = ", ".join(gallery)
            await context.abort(
                grpc.StatusCode.UNIMPLEMENTED, f"this version has no fault called {rule.name!r} (there are {names})"
            )
        try:
            apply_fault(self._machine.cache.faults, rule)
        except ValueError as error:
            await refuse(context, str(error))
        log.warning("fault armed", extra=fields(fault=rule.name, paths=",".join(rule.paths) or "all"))
        return pb.SetFaultResponse()

    async def ClearFaults(self, request: pb.ClearFaultsRequest, context: Context) -> pb.ClearFaultsResponse:
        self._machine.cache.faults.clear(request.name or None)
        log.info("faults disarmed", extra=fields(fault=request.name or "all"))
        return pb.ClearFaultsResponse()

    async def GetFaults(self, request: pb.GetFaultsRequest, context: Context) -> pb.GetFaultsResponse:
        armed = self._machine.cache.faults.armed
        response = pb.GetFaultsResponse()
        for name, kind in self._machine.cache.faults.gallery.items():
            message = response.faults.add(name=name, bug=kind.bug, caught_by=kind.caught_by)
            if name in armed:
                message.rule.CopyFrom(fault_rule(armed[name]))
                message.struck = armed[name].injected
        return response

    async def ReplacePages(self, request: pb.ReplacePagesRequest, context: Context) -> pb.ReplacePagesResponse:
        path = request.path.decode("utf-8", "surrogateescape")
        if request.change not in PAGE_CHANGES:
            await refuse(context, "pages are replaced, migrated or poisoned")
        try:
            replaced = await self._change_pages(path, request.first, request.count, PAGE_CHANGES[request.change])
        except OSError as error:
            code = grpc.StatusCode.FAILED_PRECONDITION
            if isinstance(error, FileNotFoundError | NotADirectoryError):
                code = grpc.StatusCode.NOT_FOUND
            await context.abort(code, f"{readable(request.path)}: {error.strerror or error}")
        return pb.ReplacePagesResponse(replaced=replaced)

    # --- locks ----------------------------------------------------------------------------------------------------

    async def GetLocks(self, request: pb.GetLocksRequest, context: Context) -> pb.GetLocksResponse:
        table = await self._lock_table(context)
        # Attributes and fields have the same names.
        return pb.GetLocksResponse(locks=[pb.FileLock(**asdict(lock)) for lock in table.all()])

    async def ReleaseLocks(self, request: pb.ReleaseLocksRequest, context: Context) -> pb.ReleaseLocksResponse:
        table = await self._lock_table(context)
        if not request.client:
            await refuse(context, "whose locks? A client's name is wanted")
        released = table.release(request.client)
        log.warning("released a client's locks", extra=fields(client=request.client, locks=released))
        return pb.ReleaseLocksResponse(released=released)

    async def _lock_table(self, context: Context) -> LockTable:
        if self._locks is None:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "only a server keeps locks of clients")
            raise AssertionError("abort raises")
        return self._locks

    # --- looking --------------------------------------------------------------------------------------------------

    async def GetSlab(self, request: pb.GetSlabRequest, context: Context) -> pb.GetSlabResponse:
        ledger = self._machine.cache.ledger
        lines = []
        for cache in ledger.caches.values():
            for account in cache.uses.values():
                in_use, cached, orphaned = account.live
                lines.append(
                    pb.SlabLine(
                        slab=cache.name,
                        use=account.use,
                        cached=cached,
                        in_use=in_use,
                        orphaned=orphaned,
                        pinned=cache.pinned,
                        allocated=account.allocs,
                        freed=account.frees,
                        object_size=cache.objsize,
                    )
                )
        return pb.GetSlabResponse(lines=lines, slabinfo=procfs.slabinfo(ledger))

    async def GetProcFile(self, request: pb.GetProcFileRequest, context: Context) -> pb.GetProcFileResponse:
        file = self._proc_files.get(request.path)
        if file is None:
            known = ", ".join(sorted(self._proc_files))
            await context.abort(grpc.StatusCode.NOT_FOUND, f"{request.path} is not here (there is {known})")
            raise AssertionError("abort raises")
        return pb.GetProcFileResponse(text=file())

    async def GetVmstat(self, request: pb.GetVmstatRequest, context: Context) -> pb.GetVmstatResponse:
        return pb.GetVmstatResponse(counters=self._machine.cache.vmstat())

    async def Audit(self, request: pb.AuditRequest, context: Context) -> pb.AuditResponse:
        report = self._auditor.run()
        return pb.AuditResponse(
            agrees=report.agrees, orphaned=report.orphaned, text=report.render(), json=json.dumps(report.as_dict())
        )

    async def GetStats(self, request: pb.GetStatsRequest, context: Context) -> pb.GetStatsResponse:
        cache = self._machine.cache
        response = pb.GetStatsResponse(
            removed=by_label(cache.removed),
            hook_calls=by_label(cache.hook_calls),
            skipped=by_label(cache.skipped),
            skipped_owned=by_label(cache.skipped_owned),
            orphaned=cache.ledger.orphaned(),
            pinned=cache.ledger.pinned(),
            violations=cache.violations,
            rpcs=self._rpcs(),
            cached_pages=cache.nr_file_pages,
            dirty_pages=sum(mapping.nr_dirty for mapping in cache.mappings),
            writeback_pages=sum(mapping.nr_writeback for mapping in cache.mappings),
            hits=cache.hits,
            misses=cache.misses,
        )
        if request.audit:
            response.audit_agrees = self._auditor.run().agrees
        return response


def by_label(counts: dict[RemovalPath, int]) -> dict[str, int]:
    return {path.value: count for path, count in counts.items()}


async def refuse(context: Context, why: str) -> NoReturn:
    """End the call with INVALID_ARGUMENT."""
    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, why)
    raise AssertionError("abort raises")


# --- hook rules as messages -------------------------------------------------------------------------------------------


def apply_rule(policy: HookPolicy, rule: pb.HookRule) -> None:
    """Set one rule; raises ValueError with what was wrong."""
    if rule.action not in (pb.HOOK_ACTION_RUN, pb.HOOK_ACTION_SKIP):
        raise ValueError("a hook rule either runs or skips")
    policy.set(
        rule.path,
        "run" if rule.action == pb.HOOK_ACTION_RUN else "skip",
        probability=rule.probability if rule.HasField("probability") else None,
        every_nth=rule.every_nth if rule.HasField("every_nth") else None,
    )


def rules_of(policy: HookPolicy) -> list[pb.HookRule]:
    """The policy of all removal paths."""
    messages = []
    for path in RemovalPath:
        message = pb.HookRule(path=path.value, action=pb.HOOK_ACTION_RUN)
        rule = policy.rules.get(path)
        if rule is not None:
            message.action = pb.HOOK_ACTION_SKIP
            if rule.probability is not None:
                message.probability = rule.probability
            if rule.every_nth is not None:
                message.every_nth = rule.every_nth
        messages.append(message)
    return messages


# --- faults as messages -----------------------------------------------------------------------------------------------


def apply_fault(faults: Faults, rule: pb.FaultRule) -> None:
    """Arm one fault; raises ValueError with what was wrong."""
    paths = list(rule.paths) or ["all"]
    if len(paths) > 1 and set(paths) != set(RemovalPath):
        raise ValueError("a fault strikes on one removal path, or on all")
    faults.set(
        rule.name,
        paths[0] if len(paths) == 1 else "all",
        probability=rule.probability if rule.HasField("probability") else None,
        every_nth=rule.every_nth if rule.HasField("every_nth") else None,
        inode=rule.file or None,
        indices=(rule.pages.first, rule.pages.end) if rule.HasField("pages") else None,
    )


def fault_rule(armed: ArmedFault) -> pb.FaultRule:
    """Where a fault strikes."""
    message = pb.FaultRule(name=armed.kind.name, paths=[path.value for path in RemovalPath if path in armed.paths])
    if armed.probability is not None:
        message.probability = armed.probability
    if armed.every_nth is not None:
        message.every_nth = armed.every_nth
    if armed.inode is not None:
        message.file = armed.inode
    if armed.indices is not None:
        message.pages.first, message.pages.end = armed.indices
    return message


# --- who may call -----------------------------------------------------------------------------------------------------


class _Garbage:
    """Stands for a message that could not be decoded."""

    def __init__(self, why: str) -> None:
        self.why = why


class GarbageGuard(grpc.aio.ServerInterceptor):
    """Answers a message that is none with INVALID_ARGUMENT; gRPC itself would say UNKNOWN, and log a traceback."""

    def __init__(self) -> None:
        self._guarded: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        guarded = self._guarded.get(handler_call_details.method)
        if guarded is None:
            handler = await continuation(handler_call_details)
            if handler is None or handler.unary_unary is None or handler.request_deserializer is None:
                return handler
            guarded = self._guarded[handler_call_details.method] = _guarded(handler)
        return guarded


def _guarded(handler: Any) -> grpc.RpcMethodHandler[Any, Any]:
    decode, behaviour = handler.request_deserializer, handler.unary_unary

    def decode_or_say_why(message: bytes) -> object:
        try:
            return decode(message)
        except (DecodeError, ValueError) as error:
            return _Garbage(str(error))

    async def answer(request: object, context: Context) -> object:
        if isinstance(request, _Garbage):
            await refuse(context, request.why)
        return await behaviour(request, context)

    return grpc.unary_unary_rpc_method_handler(answer, decode_or_say_why, handler.response_serializer)


class TokenGuard(grpc.aio.ServerInterceptor):
    """Lets a call through only with the control token in its metadata."""

    def __init__(self, expected: str) -> None:
        self._expected = expected

        async def reject(requests: object, context: Context) -> NoReturn:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the control token is missing or wrong")
            raise AssertionError("abort raises")

        # As a stream, which is the same on the wire: nothing of the message is received before it is refused.
        self._rejection: grpc.RpcMethodHandler[Any, Any] = grpc.stream_unary_rpc_method_handler(reject)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        given = None
        for key, value in handler_call_details.invocation_metadata or ():
            if key == token.METADATA_KEY:
                given = value if isinstance(value, str) else None
        if token.matches(given, self._expected):
            return await continuation(handler_call_details)
        return self._rejection


def method_paths() -> list[str]:
    """What HTTP/2 calls the methods of the control service: ``/freepage.v1.Control/GetInfo`` and so on."""
    service = pb.DESCRIPTOR.services_by_name["Control"]
    return [f"/{service.full_name}/{method.name}" for method in service.methods]
