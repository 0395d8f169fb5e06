"""``freepage umount``: the kernel's mount, the client's, and what is left of either."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from freepage_client.io.fuse import device
from freepage_client.io.remote import RemoteMachine
from freepage_runtime.control_client import ControlError
from freepage_runtime.errors import UserError
from freepage_runtime.registry import Daemon, list_daemons

UMOUNT_S = 600.0
"""How long writing back may take."""

GONE_S = 60.0
"""How long a daemon may take to end after its mount was taken away."""


def umount(directory: str, *, lazy: bool = False) -> int:
    """Unmount, and name what is left of it. Returns the exit code. Raises UserError."""
    path = os.path.abspath(directory)  # noqa: PTH100 - resolving would ask a mount that may be dead
    if device.mounted_on(path) is None:
        path = os.path.realpath(directory)
    if device.mounted_on(path) != device.FSTYPE:
        raise UserError(f"{directory}: no freepage is mounted there")
    if lazy:
        device.unmount(path, lazy=True)
        return 0
    daemon = asyncio.run(_daemon_of(path))
    if daemon is None:  # of another user, or dead: the kernel's part is all that can be done from here
        try:
            device.unmount(path)
        except device.CannotUnmount as error:
            _complain_busy(path, str(error))
            return 1
        return 0
    try:
        left = asyncio.run(_ask_to_unmount(daemon, path))
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise UserError(f"cannot unmount {path}: {error.strerror}") from error
        _complain_busy(path, "busy")
        return 1
    _wait_until_gone(daemon)
    for line in left:
        print(f"freepage: {path}: {line}", file=sys.stderr)
    return 1 if left else 0


async def _daemon_of(path: str) -> Daemon | None:
    """The daemon behind a mount point, if it is one of ours."""
    for daemon in list_daemons():
        if daemon.role != "client" or daemon.control is None:
            continue
        try:
            async with RemoteMachine(daemon.control) as machine:
                info = await machine.info()
        except ControlError:
            continue
        if any(line.endswith(f" {path}") for line in info.file_systems):
            return daemon
    return None


async def _ask_to_unmount(daemon: Daemon, path: str) -> list[str]:
    assert daemon.control is not None
    async with RemoteMachine(daemon.control, timeout_s=UMOUNT_S) as machine:
        return await machine.umount(path)


def _wait_until_gone(daemon: Daemon) -> None:
    deadline = time.monotonic() + GONE_S
    while daemon.is_alive and time.monotonic() < deadline:
        time.sleep(0.01)


def _complain_busy(path: str, why: str) -> None:
    print(f"freepage: cannot unmount {path}: {why}", file=sys.stderr)
    for line in users_of(path):
        print(f"  {line}", file=sys.stderr)


def users_of(path: str) -> Iterator[str]:
    """What keeps a mount point busy, as far as /proc lets us see: a line for each process and what it has there."""
    for process in sorted(Path("/proc").glob("[0-9]*"), key=lambda p: int(p.name)):
        try:
            links = [process / "cwd", process / "root", process / "exe", *(process / "fd").iterdir()]
            command = (process / "comm").read_text().strip()
        except OSError:
            continue
        for link in links:
            try:
                target = str(link.readlink())
            except OSError:
                continue
            if target == path or target.startswith(path + "/"):
                what = link.name if link.parent.name != "fd" else f"descriptor {link.name}"
                yield f"{what} of {command} (pid {process.name}): {target}"
