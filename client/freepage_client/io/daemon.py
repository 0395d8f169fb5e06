"""The client daemon: one NFS client host, with its mounts and its page cache, until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Self

from freepage_client.io import metrics
from freepage_client.io.mounting import answers, mount
from freepage_client.io.replace import change_pages
from freepage_client.io.syscalls import SERVICE as SYS_SERVICE
from freepage_client.io.syscalls import SysService
from freepage_client.io.transport import GrpcNetwork
from freepage_client.machine import Machine
from freepage_client.nfs.mountstats import render_mountstats
from freepage_client.nfs.options import BadMountOption, parse_mount_options
from freepage_runtime import procfs
from freepage_runtime.auditor import Auditor
from freepage_runtime.cache_metrics import MachineCollector, registry
from freepage_runtime.cache_status import CacheStatus
from freepage_runtime.clock import LoopClock
from freepage_runtime.control import ControlService
from freepage_runtime.daemon import DaemonSettings, Frame, version
from freepage_runtime.errors import SettingError
from freepage_runtime.logs import fields
from freepage_runtime.settings import format_size

log = logging.getLogger(__name__)

SHUT_DOWN_S = 60.0
"""How long writing back and unmounting may take when the daemon is stopped."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MountSetting:
    """What to mount when the daemon begins: ``source`` is HOST:PORT:/EXPORT, ``options`` are nfs(5)'s."""

    source: str
    mountpoint: str
    options: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """``HOST:PORT:/EXPORT=/MNT[,OPTIONS]``; raises SettingError."""
        source, equals, rest = text.partition("=")
        mountpoint, _, options = rest.partition(",")
        if not equals or ":/" not in source or not mountpoint.startswith("/"):
            raise SettingError(f"not a mount: {text!r} (write it like 127.0.0.1:2049:/export=/mnt or ...=/mnt,noac)")
        try:
            parse_mount_options(options)
        except BadMountOption as error:
            raise SettingError(f"{text}: {error}") from error
        return cls(source=source, mountpoint=mountpoint, options=options)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientSettings(DaemonSettings):
    """``name`` is the client's host name. ``share_channels``: one connection per server, or one per mount."""

    mounts: tuple[MountSetting, ...] = ()
    share_channels: bool = True


Serve = Callable[[Machine, SysService, Frame], Awaitable[None]]
"""What a client does once it has mounted: it says that it is ready, and returns when it shall end."""


async def run_client(settings: ClientSettings, serve: Serve | None = None) -> None:
    """Be a client until SIGTERM or SIGINT, or until ``serve`` returns. Raises UserError when it cannot begin."""
    async with Frame("client", settings) as frame:
        await _be_client(settings, frame, serve or _until_stopped)


async def _until_stopped(machine: Machine, sys_service: SysService, frame: Frame) -> None:
    frame.ready()
    await frame.until_stopped()


async def _be_client(settings: ClientSettings, frame: Frame, serve: Serve) -> None:
    network = GrpcNetwork(
        share_channels=settings.share_channels, tls=None if settings.tls is None else settings.tls.load()
    )
    frame.on_close(network.close)
    machine = Machine(
        settings.name,
        network=network,
        clock=LoopClock(asyncio.get_running_loop()),
        memory_bytes=settings.memory_bytes,
        seed=settings.seed_or_chance(),
        boot_instance=secrets.randbits(63),  # not the seed's: a host that comes back would be taken for its former life
        strict=settings.strict,
        on_message=log.warning,
    )
    try:
        for rule in settings.hook_policy:
            machine.cache.policy.parse(rule)
    except ValueError as error:
        raise SettingError(str(error)) from error

    def facts() -> Iterator[tuple[str, str]]:
        yield "version", version()
        for mounted in machine.mounts:
            yield f"mount {mounted.mountpoint}", mounted.source
        yield "memory", "no limit" if settings.memory_bytes is None else format_size(settings.memory_bytes)

    auditor = Auditor(machine)
    collector = MachineCollector(
        machine.cache,
        role="client",
        name=settings.name,
        version=version(),
        more=lambda: chain(metrics.client(machine, network.stats), auditor.metrics()),
    )
    sys_service = SysService(machine)

    def rpcs() -> dict[str, int]:
        return {p.display_name: of.calls for p, of in network.stats.by_procedure.items()}

    proc_files = {"/proc/self/mountstats": lambda: render_mountstats(machine.mounts, machine.clock.now())}
    status = CacheStatus(machine.cache, role="client", name=settings.name, version=version(), rpcs=rpcs, facts=facts)
    await frame.serve_pages(registry(collector), status, auditor, procfs.files(machine.cache, proc_files))
    frame.on_close(lambda: _shut_down(machine, network, sys_service))
    await frame.serve_control(
        ControlService(
            machine,
            version=version(),
            daemon=lambda: frame.daemon,
            auditor=auditor,
            file_systems=lambda: [f"{mount.source} {mount.mountpoint}" for mount in machine.mounts],
            rpcs=rpcs,
            change_pages=partial(change_pages, machine),
            proc_files=proc_files,
        ),
        handlers=(sys_service.handler(),),
        services=(SYS_SERVICE,),
    )
    for setting in settings.mounts:
        await mount(machine, setting.source, setting.mountpoint, setting.options)
        log.info("mounted", extra=fields(source=setting.source, mountpoint=setting.mountpoint))
    frame.watch(auditor)
    await serve(machine, sys_service, frame)


async def _shut_down(machine: Machine, network: GrpcNetwork, sys_service: SysService) -> None:
    """End the tasks, write back, unmount.

    A hard mount waits for its server for ever, and a daemon that was asked to stop must not: when a server is gone,
    what is not written back is lost, as when a machine is switched off.
    """
    for server in {mounted.server for mounted in machine.mounts}:
        if not await answers(machine, server):
            log.warning("stopping without unmounting: a server does not answer", extra=fields(server=server))
            return
    try:
        async with asyncio.timeout(SHUT_DOWN_S):
            await sys_service.close()
            for left in list(machine.mounts):
                for line in await machine.umount(left.mountpoint):
                    log.warning("left behind by umount", extra=fields(mountpoint=left.mountpoint, what=line))
            await machine.close()
    except TimeoutError:
        log.warning("gave up writing back and unmounting", extra=fields(after_s=SHUT_DOWN_S))
    except OSError as error:
        log.warning("could not unmount everything", extra=fields(error=error))
