"""The client daemons that a load drives: found by address, in the registry or by a DNS name; where to work there."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from freepage_client.io.remote import RemoteMachine
from freepage_lab.daemons import choose, tls_for
from freepage_runtime.control_client import ControlClient, ControlError, DaemonInfo
from freepage_runtime.errors import UserError
from freepage_runtime.registry import Daemon
from freepage_runtime.settings import Address, parse_address
from freepage_runtime.tls import TlsFiles, TlsSettings

PATIENCE_S = 7 * 24 * 3600.0
"""A system call of a hard mount waits for its server as long as it takes."""


@dataclass(frozen=True, slots=True)
class Target:
    """A client daemon's control service; ``tls``: it speaks TLS."""

    name: str
    address: str
    tls: bool = False

    def tls_files(self) -> TlsFiles | None:
        """What to speak with it. Raises UserError when the environment names no files."""
        return tls_for(Daemon(role="client", name=self.name, control=self.address, tls=self.tls))


@dataclass(frozen=True, slots=True)
class Where:
    """How the user names the daemons: ``addresses``, registered ``names`` (none: all), or ``discover`` a DNS name.

    ``targets`` are known already.
    """

    targets: Sequence[Target] = ()
    addresses: Sequence[str] = ()
    names: Sequence[str] = ()
    discover: Address | None = None

    @property
    def changes(self) -> bool:
        """Whether to look again while the load runs."""
        return self.discover is not None

    async def find(self) -> list[Target]:
        """The daemons now; a DNS name without an address is an empty list. Raises UserError."""
        if self.targets:
            return list(self.targets)
        if self.discover is None:
            return [Target(d.name, d.control, d.tls) for d in choose(self.addresses, self.names, "client") if d.control]
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(self.discover.host, self.discover.port, type=socket.SOCK_STREAM)
        except socket.gaierror:
            return []
        addresses = sorted({str(Address(str(sockaddr[0]), int(sockaddr[1]))) for *_, sockaddr in found})
        tls = TlsSettings.from_environment() is not None
        return [Target(address, address, tls) for address in addresses]


def parse_discover(text: str) -> Address:
    """``dns:NAME:PORT``; raises SettingError."""
    scheme, _, rest = text.partition(":")
    if scheme != "dns" or not rest:
        raise UserError(f"--discover {text!r}: write it like dns:client:9465")
    return parse_address(rest)


async def ask(target: Target, token: str | None, timeout_s: float = 5.0) -> DaemonInfo:
    """What the daemon is. Raises ControlError, UserError when it is no client."""
    async with ControlClient(target.address, token=token, timeout_s=timeout_s, tls=target.tls_files()) as control:
        info = await control.info()
    if info.role != "client":
        raise UserError(f"{target.name} is a {info.role}: a load drives client daemons")
    return info


class RemoteHost:
    """A client daemon as a `generator.Host`."""

    def __init__(self, target: Target, base: str, export: str, memory_bytes: int | None, token: str | None) -> None:
        self.target = target
        self.name = target.name
        self.base = base
        self.export = export
        self.memory_bytes = memory_bytes
        self._machine = RemoteMachine(target.address, token=token, timeout_s=PATIENCE_S, tls=target.tls_files())

    async def begin(self) -> Any:
        return await self._machine.task()

    async def close(self) -> None:
        await self._machine.close()


def mounts(info: DaemonInfo) -> dict[str, str]:
    """Mount point -> SERVER:/EXPORT, in the order of mounting."""
    result = {}
    for line in info.file_systems:
        source, _, mountpoint = line.partition(" ")
        result[mountpoint] = source
    return result


def export_at(info: DaemonInfo, base: str) -> str:
    """SERVER:/EXPORT/REST of a directory on that client; empty when nothing is mounted there."""
    for mountpoint, source in sorted(mounts(info).items(), key=lambda pair: -len(pair[0])):
        if base == mountpoint or base.startswith(mountpoint.rstrip("/") + "/"):
            return source.rstrip("/") + base[len(mountpoint.rstrip("/")) :]
    return ""


def base_like(info: DaemonInfo, exports: Collection[str]) -> str | None:
    """Where a client that has come later sees one of ``exports``; None when it does not, or not yet."""
    return next((at for at, source in mounts(info).items() if source in exports), None)


def choose_bases(found: Sequence[tuple[Target, DaemonInfo]], path: str | None, *, together: bool) -> dict[str, str]:
    """For each daemon's name the directory below which the load works. Raises UserError.

    ``path`` if given; else a mount of the one export that all have mounted; else, unless they must work ``together``,
    each one's first mount.
    """
    if path is not None:
        if not path.startswith("/"):
            raise UserError(f"--path {path}: an absolute path on the clients is wanted")
        return {target.name: path.rstrip("/") or "/" for target, _ in found}
    tables = [(target.name, mounts(info)) for target, info in found]
    for name, table in tables:
        if not table:
            raise UserError(f"{name} has nothing mounted (freepage ctl mount)")
    common = [source for source in tables[0][1].values() if all(source in table.values() for _, table in tables)]
    if not common and together:
        raise UserError("the clients have no export in common, and this profile's files are shared (--path says where)")
    return {
        name: next(at for at, source in table.items() if not common or source == common[0]) for name, table in tables
    }


async def gather_infos(targets: Sequence[Target], token: str | None) -> list[tuple[Target, DaemonInfo]]:
    """Ask all of them. Raises the first ControlError."""
    infos = await asyncio.gather(*(ask(target, token) for target in targets))
    return list(zip(targets, infos, strict=True))


async def wait_for_targets(where: Where, token: str | None, wait_s: float) -> list[tuple[Target, DaemonInfo]]:
    """The daemons that answer; for ``wait_s`` those that don't yet are waited for. Raises UserError."""
    deadline = asyncio.get_running_loop().time() + wait_s
    while True:
        try:
            targets = await where.find()
            if not targets:
                raise UserError(f"{where.discover} names no address")
            found = await gather_infos(targets, token)
            if all(info.file_systems for _, info in found):
                return found
            problem: UserError = UserError("a client has nothing mounted (freepage ctl mount)")
        except ControlError as error:
            problem = error
        except UserError as error:
            problem = error
        if asyncio.get_running_loop().time() >= deadline:
            raise problem
        await asyncio.sleep(0.5)
