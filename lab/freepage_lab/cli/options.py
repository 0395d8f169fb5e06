"""Options that several commands share, and how their texts become values."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from freepage_runtime.settings import Address

AddressOption = Annotated[
    list[str], typer.Option("--address", "-a", metavar="HOST:PORT", help="Control address of a daemon (repeatable).")
]
NameOption = Annotated[
    list[str], typer.Option("--name", "-n", metavar="NAME", help="Name of a daemon that runs here (repeatable).")
]
TokenOption = Annotated[
    Path | None,
    typer.Option("--token-file", metavar="FILE", help="Secret for control addresses off loopback; a daemon makes it."),
]
RoleOption = Annotated[
    str | None, typer.Option("--role", metavar="ROLE", help="Only daemons of this role: server or client.")
]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

ControlOption = Annotated[
    str, typer.Option("--control", metavar="HOST:PORT", help="Where the control service listens.")
]
MetricsOption = Annotated[
    str, typer.Option("--metrics", metavar="HOST:PORT", help="Where /metrics and the status page listen, or none.")
]
TlsCertOption = Annotated[
    Path | None, typer.Option("--tls-cert", metavar="FILE", help="Certificate (PEM) to show: TLS from then on.")
]
TlsKeyOption = Annotated[Path | None, typer.Option("--tls-key", metavar="FILE", help="Its key (PEM).")]
TlsCaOption = Annotated[
    Path | None,
    typer.Option("--tls-ca", metavar="FILE", help="Only peers with a certificate of this authority (PEM)."),
]
TlsServerNameOption = Annotated[
    str | None,
    typer.Option("--tls-server-name", metavar="NAME", help="The name in servers' certificates, if not their address."),
]
CacheOption = Annotated[
    str, typer.Option("--cache", metavar="SIZE", help="Memory of the page cache, or none for no limit.")
]
HookOption = Annotated[
    list[str], typer.Option("--hook", metavar="RULE", help="Hook policy: reclaim=skip, drop=skip:every=3 (repeatable).")
]
StrictOption = Annotated[
    bool, typer.Option("--strict", help="A broken rule of the hook ends the operation with an error.")
]
AuditOption = Annotated[
    str, typer.Option("--audit-every", metavar="TIME", help="Audit by itself so often: 30s, 5m; 0: only when asked.")
]
SeedOption = Annotated[int | None, typer.Option("--seed", metavar="N", help="Seed of everything left to chance.")]
MallocOption = Annotated[
    bool, typer.Option("--tune-malloc/--no-tune-malloc", help="Set glibc's allocator up for large calls.")
]
OpsOption = Annotated[
    bool | None, typer.Option("--ops/--no-ops", help="gRPC health and reflection (default: when installed).")
]
LogLevelOption = Annotated[str, typer.Option("--log-level", metavar="LEVEL", help="debug, info, warning or error.")]
LogFormatOption = Annotated[str, typer.Option("--log-format", metavar="FORMAT", help="text or json.")]
ReadyFdOption = Annotated[int | None, typer.Option("--ready-fd", hidden=True)]
ParentOption = Annotated[int | None, typer.Option("--parent-pid", hidden=True)]


def address_or_none(text: str) -> Address | None:
    from freepage_runtime.settings import parse_address

    return None if text == "none" else parse_address(text)


def memory_or_none(text: str) -> int | None:
    """The size of a page cache in bytes; None: no limit."""
    from freepage import PAGE_SIZE
    from freepage_runtime.errors import SettingError
    from freepage_runtime.settings import parse_size

    if text == "none":
        return None
    size = parse_size(text)
    if size < PAGE_SIZE:
        raise SettingError(f"a page cache has at least one page ({PAGE_SIZE} bytes), not {size}")
    return size


def daemon_name(text: str) -> str:
    """A name that files, labels and lists can carry."""
    from freepage_runtime.errors import SettingError

    if not text or not text.isprintable() or "/" in text or text.startswith("."):
        raise SettingError(f"not a name: {text!r} (something printable without slashes, and no dot in front)")
    return text
