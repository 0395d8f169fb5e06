"""Mount as mount.nfs does: first ask whether anybody is there, for a hard mount would try for ever."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import TYPE_CHECKING

from freepage_client.nfs.options import BadMountOption
from freepage_proto.nfs3 import NullArgs
from freepage_proto.rpc import AuthSys, CallHeader, Procedure, RpcError
from freepage_runtime.errors import UserError

if TYPE_CHECKING:
    from freepage_client.machine import Machine

PING_S = 2.0
"""How long a server may take to say that it is there before we go on without it."""

_REASONS = {
    errno.ENOENT: "the server has no such export",
    errno.EACCES: "access denied by the server (is the export there?)",
}


class CannotMount(UserError):
    """``number`` is what mount(2) would give."""

    def __init__(self, number: int, line: str) -> None:
        super().__init__(line)
        self.number = number


async def mount(machine: Machine, source: str, mountpoint: str, options: str) -> None:
    """Raises CannotMount, which says why not."""
    try:
        server, colon, _ = source.partition(":/")
        if server and colon:
            await ping(machine, server)
        await machine.mount(source, mountpoint, options)
    except RpcError as error:
        raise CannotMount(errno.EHOSTUNREACH, f"cannot mount {source}: the server is unreachable ({error})") from error
    except BadMountOption as error:
        raise CannotMount(errno.EINVAL, f"cannot mount {source} on {mountpoint}: {error}") from error
    except OSError as error:
        number = error.errno or errno.EINVAL
        said = error.filename if number == errno.EINVAL else None
        reason = said or _REASONS.get(number, os.strerror(number))
        raise CannotMount(number, f"cannot mount {source} on {mountpoint}: {reason}") from error


async def ping(machine: Machine, server: str) -> None:
    """NULL, on nobody's account. Raises RpcError."""
    transport = machine.network.connect(server)
    try:
        header = CallHeader(machine.hostname, machine.boot_instance, 0, AuthSys(0, 0, (), machine.hostname))
        await transport.call(Procedure.MOUNT_NULL, header, NullArgs())
    finally:
        await transport.close()


async def answers(machine: Machine, server: str) -> bool:
    """Whether a server is there: a hard mount would wait for it for ever."""
    try:
        async with asyncio.timeout(PING_S):
            await ping(machine, server)
    except (RpcError, TimeoutError):
        return False
    return True
