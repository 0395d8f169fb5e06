"""The process around a server or a client: it listens, says so, waits to be stopped, and leaves nothing behind.

What differs between the two daemons is in their own ``io.daemon``; each builds its machine, puts it into a `Frame`, and
takes it down again when the frame says so.
"""

from __future__ import annotations

import asyncio
import gc
import importlib.metadata
import json
import logging
import os
import secrets
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio
from prometheus_client import CollectorRegistry

from freepage_proto.v1.control_pb2_grpc import add_ControlServicer_to_server
from freepage_runtime import credentials, logs, malloc, ops, procfs, token
from freepage_runtime.auditor import Auditor
from freepage_runtime.cache_metrics import metrics_page
from freepage_runtime.cache_status import CacheStatus
from freepage_runtime.clock import LoopClock
from freepage_runtime.control import ControlService, GarbageGuard, TokenGuard
from freepage_runtime.errors import SettingError, UserError
from freepage_runtime.httpd import HttpServer, Page, Route, text_page
from freepage_runtime.limits import server_options
from freepage_runtime.process import StopEvent, die_with_parent, explain_bind_error, parent_gone, stop_on_signals
from freepage_runtime.ready import announce
from freepage_runtime.registry import Daemon, Registration, register
from freepage_runtime.settings import LOOPBACK, Address
from freepage_runtime.status_page import expensive_route, page_routes, text_route
from freepage_runtime.tls import TlsSettings

log = logging.getLogger(__name__)

ANY_LOOPBACK_PORT = Address(LOOPBACK, 0)
MAX_CONTROL_MESSAGE_BYTES = 64 << 20
"""System calls of load generators may carry large reads and writes."""
MAX_CONTROL_CONNECTIONS = 256
MAX_CONTROL_CALLS = 4096
"""Calls under way: those of load generators that drive thousands of tasks."""

STOP_GRACE_S = 5.0
"""How long calls under way may take to finish when a daemon is stopped."""

_WILDCARDS = {"0.0.0.0": LOOPBACK, "::": "::1"}


@dataclass(frozen=True, kw_only=True, slots=True)
class DaemonSettings:
    """What both daemons can be told. Addresses with port 0 take any free one.

    ``control`` off loopback needs a ``token_file``, which is made when there is none. ``metrics`` None: no HTTP.
    ``tls`` None: nothing is encrypted; otherwise NFS speaks TLS, and the control service does off loopback.
    ``memory_bytes`` limits the page cache, None does not. ``hook_policy`` holds rules such as ``reclaim=skip:every=3``.
    ``strict`` makes a broken rule of the hook an exception. ``audit_every_s`` 0: audits only when asked. ``seed`` None:
    chance is chance. ``ops``: gRPC health and reflection, None where their packages are installed. ``ready_fd`` and
    ``parent_pid`` are for a process that starts daemons: where to say that we are ready, and with whom to die.
    ``say_ready`` puts a line of JSON on stdout.
    """

    name: str
    control: Address = ANY_LOOPBACK_PORT
    metrics: Address | None = ANY_LOOPBACK_PORT
    token_file: Path | None = None
    tls: TlsSettings | None = None
    memory_bytes: int | None = None
    hook_policy: tuple[str, ...] = ()
    strict: bool = False
    audit_every_s: float = 0.0
    seed: int | None = None
    tune_malloc: bool = True
    ops: bool | None = None
    ready_fd: int | None = None
    parent_pid: int | None = None
    say_ready: bool = True
    log_level: str = "info"
    log_format: str = "text"

    def seed_or_chance(self) -> int:
        return secrets.randbits(63) if self.seed is None else self.seed


def version() -> str:
    """The installed version of freepage."""
    try:
        return importlib.metadata.version("freepage")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def run(main: Coroutine[Any, Any, None], *, loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None) -> int:
    """Run a daemon to its end; returns the process's exit code. A UserError is one line on stderr."""
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main)
    except UserError as error:
        print(f"freepage: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def listen(server: grpc.aio.Server, address: Address, credentials: grpc.ServerCredentials | None = None) -> Address:
    """Give a gRPC server its port. Raises PortTaken or CannotListen; the server needs ``grpc.so_reuseport`` 0."""
    try:
        if credentials is not None:
            return address._replace(port=server.add_secure_port(str(address), credentials))
        return address._replace(port=server.add_insecure_port(str(address)))
    except RuntimeError as error:
        raise explain_bind_error(address.host, address.port, error) from error


def reachable(address: Address) -> str:
    """Where a program on this machine finds what listens at ``address``."""
    return str(address._replace(host=_WILDCARDS.get(address.host, address.host)))


class Frame:
    """One daemon's process: logs, control service, HTTP pages, registration. An async context manager.

    Leaving it stops everything it started, in the opposite order, whatever has happened. SIGTERM and SIGINT are
    heard from the beginning: before `ready` they end whatever the daemon is doing, after it they end `until_stopped`.
    """

    def __init__(self, role: str, settings: DaemonSettings) -> None:
        self.role = role
        self.settings = settings
        self.daemon = Daemon(role=role, name=settings.name)
        self.boot = secrets.token_hex(8)
        self._closers: list[Callable[[], Coroutine[Any, Any, object]]] = []
        self._registration: Registration | None = None
        self._control: Address | None = None
        self._tls = False
        self._metrics: Address | None = None
        self._signals = stop_on_signals()
        self._stop: StopEvent | None = None
        self._starting: asyncio.Task[Any] | None = None
        self._watch: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        settings = self.settings
        # gRPC's own lines about closed connections say nothing that our logs don't; it reads this at its first use.
        os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
        logs.configure(level=settings.log_level, format=settings.log_format, daemon=settings.name)
        if settings.parent_pid is not None:
            die_with_parent(parent_pid=settings.parent_pid)
        if settings.tune_malloc:
            malloc.keep_large_blocks()
        self._stop = self._signals.__enter__()
        self._starting = asyncio.current_task()
        self._watch = asyncio.ensure_future(self._give_up_starting(self._stop))
        return self

    async def _give_up_starting(self, stop: StopEvent) -> None:
        await stop.wait()
        if self._starting is not None:
            self._starting.cancel()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        assert self._watch is not None and self._stop is not None
        self._watch.cancel()
        if self._registration is not None:
            self._registration.close()
        while self._closers:
            try:
                await self._closers.pop()()
            except Exception:
                log.exception("something could not be closed")
        self._signals.__exit__(None, None, None)
        return kind is asyncio.CancelledError and self._stop.is_set()  # we were asked to end, not broken off

    def on_close(self, closer: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Await ``closer()`` when the frame is left; the last one given is the first."""
        self._closers.append(closer)

    async def serve_pages(
        self,
        registry: CollectorRegistry,
        status: CacheStatus,
        auditor: Auditor,
        proc_files: Mapping[str, procfs.ProcFile],
        health: Callable[[], Page] = lambda: text_page("ok\n"),
    ) -> None:
        """``/metrics``, ``/healthz``, the status page, and what it links to.

        The audit names files, so it is served on loopback alone; elsewhere the page names the command.
        """
        address = self.settings.metrics
        if address is None:
            return
        routes: dict[str, Route] = {
            "/healthz": lambda request: health() if self._starting is None else text_page("starting\n", status=503),
            "/metrics": lambda request: metrics_page(registry, request),
        }
        for path, file in proc_files.items():
            routes[path] = expensive_route(file) if path == procfs.KMEMLEAK else text_route(file)
        if address.is_loopback:
            routes["/audit"] = expensive_route(lambda: auditor.run().render())
        status.links = [*routes] if address.is_loopback else [*routes, "freepage audit"]
        http = HttpServer(page_routes(status) | routes, host=address.host, port=address.port)
        self._metrics = await http.start()
        self.on_close(http.close)
        sampling = asyncio.ensure_future(status.history.keep())

        async def stop() -> None:
            sampling.cancel()
            await asyncio.gather(sampling, return_exceptions=True)

        self.on_close(stop)

    async def serve_control(
        self, service: ControlService, handlers: Sequence[grpc.GenericRpcHandler] = (), services: Sequence[str] = ()
    ) -> None:
        """The control service, and what else belongs on its port (``handlers`` of ``services``)."""
        settings = self.settings
        # The token first: without it nothing is looked at, and nothing is remembered.
        interceptors: list[grpc.aio.ServerInterceptor] = []
        if settings.token_file is not None:
            interceptors.append(TokenGuard(token.load_or_create(settings.token_file)))
        elif not settings.control.is_loopback:
            raise SettingError(
                f"the control service may listen on {settings.control} only with a token file (loopback needs none)"
            )
        interceptors.append(GarbageGuard())
        server = grpc.aio.server(
            interceptors=interceptors,
            options=server_options(
                receive_bytes=MAX_CONTROL_MESSAGE_BYTES,
                send_bytes=MAX_CONTROL_MESSAGE_BYTES,
                connections=MAX_CONTROL_CONNECTIONS,
                streams=MAX_CONTROL_CALLS,
            ),
            maximum_concurrent_rpcs=MAX_CONTROL_CALLS,
        )
        add_ControlServicer_to_server(service, server)  # type: ignore[no-untyped-call]
        server.add_generic_rpc_handlers(tuple(handlers))
        serving = ops.add(server, ("freepage.v1.Control", *services), settings.ops)
        # On loopback the control service is plain, as it needs no token there: what would listen in is this machine.
        self._tls = settings.tls is not None and settings.tls.cert is not None and not settings.control.is_loopback
        files = settings.tls.load_for_server() if settings.tls is not None and self._tls else None
        self._control = listen(server, settings.control, credentials.for_server(files))
        await server.start()
        await serving(True)
        self.on_close(lambda: server.stop(STOP_GRACE_S))

    def watch(self, auditor: Auditor) -> None:
        """Audit as often as the settings say, until the daemon stops."""
        task = asyncio.ensure_future(auditor.watch(self.settings.audit_every_s, asyncio.sleep))

        async def stop() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        self.on_close(stop)

    def ready(self, grpc_address: Address | None = None) -> None:
        """Everything listens and is mounted: register, and tell whoever waits for it."""
        self.daemon = Daemon(
            role=self.role,
            name=self.settings.name,
            boot=self.boot,
            control=None if self._control is None else reachable(self._control),
            metrics=None if self._metrics is None else reachable(self._metrics),
            grpc=None if grpc_address is None else reachable(grpc_address),
            tls=self._tls,
        )
        self._registration = register(self.daemon)
        self._starting = None
        # What exists now stays for good: the collector need not look through it again and again in the middle of calls.
        gc.collect()
        gc.freeze()
        announce(self.settings.ready_fd, self.daemon)
        if self.settings.say_ready:
            line = {"ready": True} | {
                name: getattr(self.daemon, name) for name in ("role", "name", "pid", "grpc", "control", "metrics")
            }
            print(json.dumps(line), flush=True)

    async def until_stopped(self) -> None:
        """Return when a signal asks us to stop, or our parent is gone."""
        assert self._stop is not None
        waits = [asyncio.ensure_future(self._stop.wait())]
        if self.settings.parent_pid is not None and not sys.platform.startswith("linux"):
            waits.append(asyncio.ensure_future(_gone(self.settings.parent_pid)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        log.info("stopping")


async def _gone(parent_pid: int) -> bool:
    await parent_gone(parent_pid, LoopClock())
    return True
