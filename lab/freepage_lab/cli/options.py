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
NameOption = Annotated[list[str], typer.Option("--name", "-n", help="Name of a registered daemon (repeatable).")]
TokenOption = Annotated[
    Path | None, typer.Option("--token-file", metavar="FILE", help="Token for control addresses that are not loopback.")
]
RoleOption = Annotated[str | None, typer.Option("--role", help="Only daemons of this role: server or client.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="For programs: JSON.")]

ControlOption = Annotated[
    str, typer.Option("--control", metavar="HOST:PORT", help="Where the control service listens.")
]
MetricsOption = Annotated[
    str, typer.Option("--metrics", metavar="HOST:PORT", help="Where /metrics listens, or [b]none[/b].")
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
    str | None, typer.Option("--tls-server-name", help="The name in servers' certificates, if not their address.")
]
CacheOption = Annotated[
    str, typer.Option("--cache", metavar="SIZE", help="Memory of the page cache, or [b]none[/b] for no limit.")
]
HookOption = Annotated[
    list[str], typer.Option("--hook", metavar="RULE", help="Hook policy: reclaim=skip, drop=skip:every=3 (repeatable).")
]
StrictOption = Annotated[
    bool, typer.Option("--strict", help="A broken rule of the hook ends the operation with an error.")
]
AuditOption = Annotated[
    float, typer.Option("--audit-every", metavar="SECONDS", min=0.0, help="Audit by itself so often; 0: when asked.")
]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Seed of everything left to chance.")]
MallocOption = Annotated[
    bool, typer.Option("--tune-malloc/--no-tune-malloc", help="Set glibc's allocator up for large calls.")
]
OpsOption = Annotated[
    bool | None, typer.Option("--ops/--no-ops", help="gRPC health and reflection (default: when installed).")
]
LogLevelOption = Annotated[str, typer.Option("--log-level", help="debug, info, warning or error.")]
LogFormatOption = Annotated[str, typer.Option("--log-format", help="text or json.")]
ReadyFdOption = Annotated[int | None, typer.Option("--ready-fd", hidden=True)]
ParentOption = Annotated[int | None, typer.Option("--parent-pid", hidden=True)]


def address_or_none(text: str) -> Address | None:
    from freepage_runtime.settings import parse_address

    return None if text == "none" else parse_address(text)


def size_or_none(text: str) -> int | None:
    from freepage_runtime.settings import parse_size

    return None if text == "none" else parse_size(text)
