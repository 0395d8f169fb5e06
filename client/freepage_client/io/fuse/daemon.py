"""A client daemon with one mount that the kernel has, too."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from freepage_client.io.daemon import ClientSettings, run_client
from freepage_client.io.fuse import device
from freepage_client.io.fuse.filesystem import FuseFileSystem
from freepage_client.io.fuse.loop import SharedLoop
from freepage_client.io.fuse.session import Session
from freepage_client.io.fuse.virtual import VirtualDirectory
from freepage_client.io.mounting import answers
from freepage_client.nfs.errors import os_error
from freepage_runtime.daemon import Frame, run
from freepage_runtime.logs import fields

if TYPE_CHECKING:
    from freepage_client.io.syscalls import SysService
    from freepage_client.machine import Machine

log = logging.getLogger(__name__)

END_S = 2.0
"""How long the kernel may take to end a session once the mount point is gone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FuseSettings:
    """``client`` has the one mount. ``kernel`` are options for fusermount3.

    ``mmap``: through the kernel's page cache. ``virtual``: with .freepage. ``debug``: each request on stderr.
    ``detach``: once mounted, let go of the terminal.
    """

    client: ClientSettings
    kernel: tuple[str, ...] = ()
    mmap: bool = False
    virtual: bool = True
    debug: bool = False
    detach: bool = False
    threads: int = 1


def run_mount(settings: FuseSettings) -> int:
    """Mount, and serve until unmounted; returns the process's exit code."""
    device.require_fuse()
    served = _Mounted(settings)
    return run(run_client(settings.client, served.serve), loop_factory=SharedLoop) or served.exit_code


class _Mounted:
    def __init__(self, settings: FuseSettings) -> None:
        self._settings = settings
        self._mountpoint = settings.client.mounts[0].mountpoint
        self.exit_code = 0

    async def serve(self, machine: Machine, sys_service: SysService, frame: Frame) -> None:
        settings = self._settings
        loop = cast(SharedLoop, asyncio.get_running_loop())
        mount = machine.mount_at(self._mountpoint)
        assert mount is not None
        options = [f"fsname={mount.source.replace(',', chr(92) + ',')}", "subtype=freepage", *settings.kernel]
        fd, watched = device.mount(self._mountpoint, options)
        ended = asyncio.Event()
        self._file_system = FuseFileSystem(
            machine,
            mount,
            is_idle=lambda: not self._session.under_way,
            on_end=lambda: loop.call_soon_threadsafe(ended.set),  # type: ignore[arg-type]
            kernel_cache=settings.mmap,
            virtual=VirtualDirectory(machine, (os.getuid(), os.getgid())) if settings.virtual else None,
        )
        debug = (lambda line: print(line, file=sys.stderr, flush=True)) if settings.debug else None
        self._session = Session(fd, self._file_system, loop, threads=settings.threads, debug=debug)
        self._machine = machine
        self._ended = ended
        self._finishing: asyncio.Task[list[str]] | None = None
        sys_service.umount = self._umount
        self._session.start()
        try:
            frame.ready()
            if settings.detach:
                _let_go_of_terminal()
            stopped = asyncio.ensure_future(frame.until_stopped())
            gone = asyncio.ensure_future(ended.wait())
            await asyncio.wait((stopped, gone), return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            gone.cancel()
            await asyncio.gather(stopped, gone, return_exceptions=True)
        finally:
            await self._finish()
            self._session.close()
            watched.close()
            await loop.run_in_executor(None, device.reap_watchers)

    async def _umount(self, mountpoint: str) -> list[str]:
        """On request: the kernel's mount goes first, and only if nobody uses it. Raises OSError(EBUSY)."""
        if mountpoint != self._mountpoint:
            return await self._machine.umount(mountpoint)
        try:
            await asyncio.get_running_loop().run_in_executor(None, device.unmount, mountpoint)
        except device.CannotUnmount as error:
            log.info("umount refused", extra=fields(reason=str(error)))
            raise os_error(errno.EBUSY, mountpoint) from error
        return await self._finish()

    async def _finish(self) -> list[str]:
        """After the kernel's mount, or instead of it, take the client's away; what it leaves behind, a line each."""
        if self._finishing is None:
            self._finishing = asyncio.ensure_future(self._take_down())
        return await asyncio.shield(self._finishing)

    async def _take_down(self) -> list[str]:
        if not self._ended.is_set():
            with contextlib.suppress(device.CannotUnmount):
                await asyncio.get_running_loop().run_in_executor(None, _unmount_lazily, self._mountpoint)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(END_S):
                    await self._ended.wait()
        self._session.stop()
        if self._ended.is_set():
            await self._session.join()
        try:
            async with asyncio.timeout(None if await self._server_answers() else 0):
                await self._file_system.close()
                lines = await self._machine.umount(self._mountpoint)
        except TimeoutError:
            lines = ["the server does not answer: what was not written back is lost"]
        except OSError as error:
            lines = [f"cannot unmount: {error.strerror}"]
        for line in lines:
            log.warning("left behind by umount", extra=fields(mountpoint=self._mountpoint, what=line))
            self.exit_code = 1
        return lines

    async def _server_answers(self) -> bool:
        mount = self._machine.mount_at(self._mountpoint)
        return mount is not None and await answers(self._machine, mount.server)


def _unmount_lazily(mountpoint: str) -> None:
    if device.mounted_on(mountpoint) == device.FSTYPE:
        device.unmount(mountpoint, lazy=True)


def _let_go_of_terminal() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
