"""The server daemon: exports directories over gRPC until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import grpc.aio

from freepage_runtime import credentials, procfs
from freepage_runtime.auditor import Auditor
from freepage_runtime.cache_metrics import MachineCollector, registry
from freepage_runtime.cache_status import CacheStatus
from freepage_runtime.clock import LoopClock, wall_ns
from freepage_runtime.control import ControlService
from freepage_runtime.daemon import DaemonSettings, Frame, listen, version
from freepage_runtime.errors import SettingError
from freepage_runtime.logs import fields
from freepage_runtime.ops import add as add_ops
from freepage_runtime.settings import LOOPBACK, Address, format_size
from freepage_server.io import metrics
from freepage_server.io.exports import ExportSetting, close_exports, open_exports
from freepage_server.io.health import ExportWatch
from freepage_server.io.locks import Locks
from freepage_server.io.replace import change_pages
from freepage_server.io.service import MAX_EXECUTING_CALLS, NfsService, make_server
from freepage_server.io.state import ServerState, default_state_directory
from freepage_server.nfsd.export import Export
from freepage_server.nfsd.server import NfsServer

log = logging.getLogger(__name__)

__all__ = ["ExportSetting", "ServerSettings", "run_server"]

STOP_GRACE_S = 8.0
"""Within the ten seconds after which `docker stop` kills."""

NFS_SERVICES = ("freepage.v1.Nfs", "freepage.v1.Mount", "freepage.v1.NfsAcl", "freepage.v1.Nlm")


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerSettings(DaemonSettings):
    """``state`` is the directory where the server keeps the key of its file handles and where each file was seen.

    None: a directory of the user's named after the server (`default_state_directory`); but a server on any free port
    keeps nothing, because no client will find it there again. ``handle_age_s`` is how old that key may be when the
    server begins; None: any age. Half of ``stop_grace_s`` is for calls under way when the server is told to stop, and
    half for writing out what was UNSTABLE.
    """

    exports: tuple[ExportSetting, ...]
    listen: Address = Address(LOOPBACK, 0)
    max_calls: int = MAX_EXECUTING_CALLS
    stop_grace_s: float = STOP_GRACE_S
    state: Path | None = None
    handle_age_s: float | None = None


def open_state(settings: ServerSettings) -> ServerState | None:
    """Raises UserError when another server uses the directory."""
    if settings.state is not None:
        return ServerState(settings.state)
    return ServerState(default_state_directory(settings.name)) if settings.listen.port else None


def set_policy(nfsd: NfsServer, rules: tuple[str, ...]) -> None:
    """Raises SettingError for a rule that is none."""
    try:
        for rule in rules:
            nfsd.cache.policy.parse(rule)
    except ValueError as error:
        raise SettingError(str(error)) from error


async def stop_serving(
    server: grpc.aio.Server, service: NfsService, grace_s: float, dismiss: Callable[[], None] = lambda: None
) -> None:
    """Take no more calls, let those under way finish, and wait for the ones whose callers have gone.

    ``dismiss`` answers the calls that are only kept until there is something to tell.
    """
    until_s = asyncio.get_running_loop().time() + grace_s
    dismiss()
    await server.stop(grace_s)
    await service.drain(max(0.0, until_s - asyncio.get_running_loop().time()))


async def stop_nfsd(nfsd: NfsServer, grace_s: float) -> None:
    """Write out what is unwritten; what cannot be written in time was UNSTABLE, and clients still have it."""
    stopping = asyncio.ensure_future(nfsd.stop())
    # Not cancelled when time is up: threads may be writing, and their descriptors must not become other files'.
    await asyncio.wait((stopping,), timeout=grace_s)
    if stopping.done():
        stopping.result()
    else:
        pages = nfsd.files.bdi.nr_dirty + nfsd.files.bdi.nr_writeback
        log.warning("gave up writing out", extra=fields(after_s=grace_s, pages=pages))


async def end(task: asyncio.Future[None]) -> None:
    task.cancel()
    await asyncio.wait((task,))


async def run_server(settings: ServerSettings) -> None:
    """Serve until SIGTERM or SIGINT. Raises UserError when it cannot begin."""
    state = open_state(settings)
    try:
        secret = secrets.token_bytes(32) if state is None else state.secret(settings.handle_age_s)
        exports = open_exports(settings.exports, state)
        try:
            async with Frame("server", settings) as frame:
                await _serve(settings, frame, exports, secret)
        finally:
            close_exports(exports)
    finally:
        if state is not None:
            state.close()


async def _serve(settings: ServerSettings, frame: Frame, exports: list[Export], secret: bytes) -> None:
    nfsd = NfsServer(
        exports,
        clock=LoopClock(asyncio.get_running_loop()),
        wall_ns=wall_ns,
        boot_ns=wall_ns(),
        secret=secret,
        memory_bytes=settings.memory_bytes,
        random=random.Random(settings.seed_or_chance()).random,
        strict=settings.strict,
    )
    set_policy(nfsd, settings.hook_policy)
    service = NfsService(nfsd, max_executing=settings.max_calls)
    grpc_server = make_server(service)
    serving = add_ops(grpc_server, NFS_SERVICES, settings.ops)
    files = None if settings.tls is None else settings.tls.load_for_server()
    address = listen(grpc_server, settings.listen, credentials.for_server(files))

    def facts() -> Iterator[tuple[str, str]]:
        yield "NFS", str(address)
        yield "version", version()
        for export in settings.exports:
            yield f"export {export.name}", export.describe()
        yield "memory", "no limit" if settings.memory_bytes is None else format_size(settings.memory_bytes)

    auditor = Auditor(nfsd)
    collector = MachineCollector(
        nfsd.cache,
        role="server",
        name=settings.name,
        version=version(),
        more=lambda: chain(metrics.server(nfsd, service.stats), auditor.metrics()),
    )

    def rpcs() -> dict[str, int]:
        return {p.display_name: of.calls for p, of in nfsd.stats.by_procedure.items()}

    status = CacheStatus(nfsd.cache, role="server", name=settings.name, version=version(), rpcs=rpcs, facts=facts)
    health = ExportWatch(exports)
    await frame.serve_pages(registry(collector), status, auditor, procfs.files(nfsd.cache), health.page)
    await frame.serve_control(
        ControlService(
            nfsd,
            version=version(),
            daemon=lambda: frame.daemon,
            auditor=auditor,
            file_systems=lambda: list(nfsd.exports),
            rpcs=rpcs,
            change_pages=partial(change_pages, nfsd),
            locks=Locks(nfsd),
        )
    )
    await nfsd.start()
    frame.on_close(lambda: stop_nfsd(nfsd, settings.stop_grace_s / 2))
    await grpc_server.start()
    watch = asyncio.ensure_future(service.slow_peers.watch())
    frame.on_close(lambda: end(watch))
    frame.on_close(lambda: stop_serving(grpc_server, service, settings.stop_grace_s / 2, nfsd.locks.dismiss_all))
    await serving(True)
    looking = asyncio.ensure_future(health.watch(serving))

    async def no_longer_serving() -> None:
        health.stop()
        await end(looking)
        await serving(False)

    frame.on_close(no_longer_serving)
    frame.watch(auditor)
    frame.ready(address)
    log.info("serving", extra=fields(address=address, exports=",".join(nfsd.exports)))
    await frame.until_stopped()
