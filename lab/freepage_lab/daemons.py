"""Which running daemons a command means: those named by address, or those that registered on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from freepage_runtime import token
from freepage_runtime.errors import UserError
from freepage_runtime.registry import ROLES, Daemon, list_daemons
from freepage_runtime.settings import parse_address
from freepage_runtime.tls import TlsFiles, TlsSettings


def check_role(role: str | None) -> None:
    """Raises UserError."""
    if role is not None and role not in ROLES:
        raise UserError(f"there is no role {role!r}: choose {' or '.join(ROLES)}")


def choose(addresses: Sequence[str] = (), names: Sequence[str] = (), role: str | None = None) -> list[Daemon]:
    """The daemons at ``addresses``, or the registered ones of ``role`` (None: both), by ``names`` if any are given.

    Raises UserError when there is none, or not one of each name.
    """
    check_role(role)
    if addresses:
        checked = [str(parse_address(address)) for address in addresses]
        tls = TlsSettings.from_environment() is not None
        return [Daemon(role=role or "client", name=address, control=address, tls=tls) for address in checked]
    running = sorted(
        (daemon for daemon in list_daemons(role) if daemon.control is not None),
        key=lambda daemon: (daemon.role != "server", daemon.name),
    )
    what = role or "daemon"
    if not running:
        called = f" called {', '.join(names)}" if names else ""
        raise UserError(f"no freepage {what}{called} is running here (start one, or name it with --address HOST:PORT)")
    known = {daemon.name for daemon in running}
    missing = [name for name in names if name not in known]
    if missing:
        raise UserError(f"no freepage {what} is called {', '.join(missing)}; running: {', '.join(sorted(known))}")
    return [daemon for daemon in running if not names or daemon.name in names]


def choose_one(addresses: Sequence[str] = (), names: Sequence[str] = (), role: str | None = None) -> Daemon:
    """As `choose`, where only one will do. Raises UserError that lists the choice when there are more."""
    chosen = choose(addresses, names, role)
    if len(chosen) > 1:
        raise UserError(f"{len(chosen)} daemons are running, say which: {', '.join(daemon.name for daemon in chosen)}")
    return chosen[0]


def tls_for(daemon: Daemon) -> TlsFiles | None:
    """What speaks with its control service: files named in the environment, or None where it speaks no TLS.

    Raises UserError when it does, and none are named.
    """
    if not daemon.tls:
        return None
    settings = TlsSettings.from_environment()
    if settings is None:
        raise UserError(f"{daemon.name} speaks TLS (name its authority's certificate in FREEPAGE_TLS_CA)")
    return settings.load()


def load_token(path: Path | None) -> str | None:
    """The token in a file that the user named, None without one. Raises UserError."""
    if path is None:
        return None
    try:
        return token.load(path)
    except OSError as error:
        raise UserError(f"cannot read the token file {path}: {error.strerror}") from error
