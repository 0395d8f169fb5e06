"""The ``freepage`` command: what it can do, and what each option means. The work is done elsewhere and imported late.

Whatever the user got wrong is one line on stderr that begins with ``freepage:``, and an exit code other than 0.
"""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from freepage_runtime.errors import UserError

if TYPE_CHECKING:
    from freepage_runtime.settings import Address

app = typer.Typer(
    name="freepage",
    help="Emulate a fleet of Linux NFS clients, and look inside their page caches.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
ctl = typer.Typer(help="Administer running daemons: hooks, memory, mounts.", no_args_is_help=True)
app.add_typer(ctl, name="ctl", rich_help_panel="Look and steer")

PANEL_RUN = "Run"
PANEL_LOOK = "Look and steer"
PANEL_LAB = "Lab"


class PageChange(StrEnum):
    """What ``freepage ctl replace`` does to pages."""

    REPLACE = "replace"
    MIGRATE = "migrate"
    POISON = "poison"


# --- options that several commands share ----------------------------------------------------------------------------

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

# --- daemons --------------------------------------------------------------------------------------------------------


def _address_or_none(text: str) -> Address | None:
    from freepage_runtime.settings import parse_address

    return None if text == "none" else parse_address(text)


def _size_or_none(text: str) -> int | None:
    from freepage_runtime.settings import parse_size

    return None if text == "none" else parse_size(text)


@app.command(rich_help_panel=PANEL_RUN)
def server(
    export: Annotated[
        list[str],
        typer.Option(
            "--export", metavar="DIR[:/NAME][,OPTION]...", help="A directory to export, as exports(5) has it."
        ),
    ] = [],  # noqa: B006 - typer's way to say "none given"
    config: Annotated[
        list[Path], typer.Option("--config", metavar="FILE", help="TOML file of exports (repeatable).")
    ] = [],  # noqa: B006
    check: Annotated[bool, typer.Option("--check", help="Look the exports over, print them, and end.")] = False,
    name: Annotated[str, typer.Option("--name", help="Name in the registry and in logs.")] = "server",
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="Where NFS listens; port 0: any.")
    ] = "127.0.0.1:2049",
    state: Annotated[
        Path | None,
        typer.Option(
            "--state",
            metavar="DIR",
            help="Keeps file handles valid over a restart (default: ~/.local/state/freepage/server-NAME; "
            "nothing for port 0).",
        ),
    ] = None,
    handle_age: Annotated[
        float | None,
        typer.Option("--handle-age", min=0.0, metavar="DAYS", help="At start, give up file handles older than this."),
    ] = None,
    control: ControlOption = "127.0.0.1:0",
    metrics: MetricsOption = "127.0.0.1:0",
    token_file: TokenOption = None,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    tls_ca: TlsCaOption = None,
    cache: CacheOption = "256MiB",
    hook: HookOption = [],  # noqa: B006
    strict: StrictOption = False,
    audit_every: AuditOption = 0.0,
    seed: SeedOption = None,
    max_calls: Annotated[int, typer.Option("--max-calls", min=1, help="Calls executed at a time.")] = 64,
    stop_grace: Annotated[
        float, typer.Option("--stop-grace", metavar="SECONDS", min=0.0, help="Longest time to finish and write out.")
    ] = 8.0,
    tune_malloc: MallocOption = True,
    ops: OpsOption = None,
    log_level: LogLevelOption = "info",
    log_format: LogFormatOption = "text",
    ready_fd: ReadyFdOption = None,
    parent_pid: ParentOption = None,
) -> None:
    """Export directories over gRPC, until Ctrl-C or SIGTERM."""
    from freepage_runtime.daemon import run
    from freepage_runtime.settings import parse_address
    from freepage_runtime.tls import TlsSettings
    from freepage_server.io.daemon import ServerSettings, run_server
    from freepage_server.io.exports import ExportSetting, check_exports, load_exports

    exports = [ExportSetting.parse(text) for text in export]
    for path in config:
        exports += load_exports(path)
    tls = TlsSettings.given(tls_cert, tls_key, tls_ca)
    if check:
        if tls is not None:
            tls.load_for_server()
        for line in check_exports(exports):
            typer.echo(line)
        raise typer.Exit
    settings = ServerSettings(
        name=name,
        exports=tuple(exports),
        listen=parse_address(listen),
        state=state,
        handle_age_s=None if handle_age is None else handle_age * 86400,
        control=parse_address(control),
        metrics=_address_or_none(metrics),
        token_file=token_file,
        tls=tls,
        memory_bytes=_size_or_none(cache),
        hook_policy=tuple(hook),
        strict=strict,
        audit_every_s=audit_every,
        seed=seed,
        max_calls=max_calls,
        stop_grace_s=stop_grace,
        tune_malloc=tune_malloc,
        ops=ops,
        log_level=log_level,
        log_format=log_format,
        ready_fd=ready_fd,
        parent_pid=parent_pid,
    )
    raise typer.Exit(run(run_server(settings)))


@app.command(rich_help_panel=PANEL_RUN)
def client(
    mount: Annotated[
        list[str],
        typer.Option(
            "--mount",
            metavar="HOST:PORT:/EXPORT=/MNT[,OPTIONS]",
            help="Mount at start (repeatable), nfs(5) options.",
        ),
    ] = [],  # noqa: B006
    name: Annotated[
        str | None, typer.Option("--name", help="Host name of the client (default: this machine's).")
    ] = None,
    control: ControlOption = "127.0.0.1:0",
    metrics: MetricsOption = "127.0.0.1:0",
    token_file: TokenOption = None,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    tls_ca: TlsCaOption = None,
    tls_server_name: TlsServerNameOption = None,
    cache: CacheOption = "256MiB",
    hook: HookOption = [],  # noqa: B006
    strict: StrictOption = False,
    audit_every: AuditOption = 0.0,
    seed: SeedOption = None,
    share_channels: Annotated[
        bool, typer.Option("--share-channels/--own-channels", help="One connection per server for all mounts.")
    ] = True,
    tune_malloc: MallocOption = True,
    ops: OpsOption = None,
    log_level: LogLevelOption = "info",
    log_format: LogFormatOption = "text",
    ready_fd: ReadyFdOption = None,
    parent_pid: ParentOption = None,
) -> None:
    """Be one NFS client host, with its mounts and its page cache, until Ctrl-C or SIGTERM."""
    import socket

    from freepage_client.io.daemon import ClientSettings, MountSetting, run_client
    from freepage_runtime.daemon import run
    from freepage_runtime.settings import parse_address
    from freepage_runtime.tls import TlsSettings

    settings = ClientSettings(
        name=name or socket.gethostname(),
        mounts=tuple(MountSetting.parse(text) for text in mount),
        control=parse_address(control),
        metrics=_address_or_none(metrics),
        token_file=token_file,
        tls=TlsSettings.given(tls_cert, tls_key, tls_ca, tls_server_name),
        memory_bytes=_size_or_none(cache),
        hook_policy=tuple(hook),
        strict=strict,
        audit_every_s=audit_every,
        seed=seed,
        share_channels=share_channels,
        tune_malloc=tune_malloc,
        ops=ops,
        log_level=log_level,
        log_format=log_format,
        ready_fd=ready_fd,
        parent_pid=parent_pid,
    )
    raise typer.Exit(run(run_client(settings)))


# --- mount points ---------------------------------------------------------------------------------------------------


@app.command(rich_help_panel=PANEL_RUN)
def mount(
    source: Annotated[str, typer.Argument(metavar="SERVER:/EXPORT", help="What to mount; SERVER is HOST:PORT.")],
    directory: Annotated[str, typer.Argument(metavar="DIR", help="Where.")],
    options: Annotated[
        list[str],
        typer.Option(
            "--options", "-o", metavar="OPTIONS", help="nfs(5)'s, mount(8)'s, and mmap, nofreepage, cache=SIZE."
        ),
    ] = [],  # noqa: B006
    foreground: Annotated[bool, typer.Option("--foreground", "-f", help="Stay, until unmounted or Ctrl-C.")] = False,
    debug: Annotated[bool, typer.Option("--debug", "-d", help="Stay, and print each request.")] = False,
    allow_other: Annotated[
        bool | None,
        typer.Option("--allow-other/--no-allow-other", help="Let other users in (default: when root mounts)."),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Host name of the client (default: DIR-PID).")] = None,
    control: ControlOption = "127.0.0.1:0",
    metrics: MetricsOption = "127.0.0.1:0",
    token_file: TokenOption = None,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    tls_ca: TlsCaOption = None,
    tls_server_name: TlsServerNameOption = None,
    cache: CacheOption = "256MiB",
    hook: HookOption = [],  # noqa: B006
    strict: StrictOption = False,
    seed: SeedOption = None,
    log_level: LogLevelOption = "warning",
    log_format: LogFormatOption = "text",
    ready_fd: ReadyFdOption = None,
    parent_pid: ParentOption = None,
) -> None:
    """Put an emulated client behind a directory of this machine, for any program to use (FUSE)."""
    from freepage_client.io.fuse.options import parse_fuse_options
    from freepage_lab.mount import start

    fuse = parse_fuse_options(",".join(options))
    place = start.check(source, directory)
    if not (foreground or debug):
        raise typer.Exit(start.in_background(_arguments))
    from freepage_client.io.daemon import ClientSettings
    from freepage_lab.mount.serve import MountRequest
    from freepage_lab.mount.serve import mount as run_mount
    from freepage_runtime.settings import parse_address
    from freepage_runtime.tls import TlsSettings

    request = MountRequest(
        source=source,
        directory=place,
        options=fuse,
        allow_other=allow_other,
        client=ClientSettings(
            name=name or "",
            control=parse_address(control),
            metrics=_address_or_none(metrics),
            token_file=token_file,
            tls=TlsSettings.given(tls_cert, tls_key, tls_ca, tls_server_name),
            memory_bytes=_size_or_none(cache),
            hook_policy=tuple(hook),
            strict=strict,
            seed=seed,
            log_level=log_level,
            log_format=log_format,
            parent_pid=parent_pid,
        ),
        debug=debug,
        ready_fd=ready_fd,
    )
    raise typer.Exit(run_mount(request))


@app.command(rich_help_panel=PANEL_RUN)
def umount(
    directory: Annotated[str, typer.Argument(metavar="DIR", help="A mount point of freepage mount.")],
    lazy: Annotated[bool, typer.Option("--lazy", "-l", help="Even if it is in use, now from the name space.")] = False,
) -> None:
    """Unmount, and name what is left: who keeps it busy, what leaked objects pin."""
    from freepage_lab.mount.umount import umount as run_umount

    raise typer.Exit(run_umount(directory, lazy=lazy))


# --- lab ------------------------------------------------------------------------------------------------------------


@app.command(rich_help_panel=PANEL_LAB)
def demo(
    clients: Annotated[int, typer.Option("--clients", min=2, max=64, help="Client processes.")] = 3,
    servers: Annotated[int, typer.Option("--servers", min=1, max=16, help="Server processes.")] = 2,
    cache_mib: Annotated[
        int, typer.Option("--cache-mib", min=1, max=4096, help="Page cache of each process in MiB.")
    ] = 4,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.0, help="Least duration of each of the four phases.")
    ] = 8.0,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the workload.")] = 1,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the figures there as well.")
    ] = None,
    hold: Annotated[bool, typer.Option("--hold", help="Go on after the summary, until Ctrl-C.")] = False,
    export: Annotated[
        Path | None,
        typer.Option("--export", metavar="DIR", help="Export a copy of DIR (default: Python's standard library)."),
    ] = None,
) -> None:
    """A real cluster on this machine: the hook at work, and the leak when it is skipped."""
    from freepage_lab.demo.command import Options
    from freepage_lab.demo.command import demo as run_demo

    options = Options(clients, servers, cache_mib, seconds, seed, json_file, hold, export)
    raise typer.Exit(0 if run_demo(options) else 1)


@app.command(rich_help_panel=PANEL_LAB)
def conform(
    workloads: Annotated[Path, typer.Option("--workloads", metavar="DIR", help="Directory of NAME.json workloads.")],
    truth: Annotated[Path, typer.Option("--truth", metavar="DIR", help="Directory of NAME.json recordings.")],
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Only these workloads.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the comparison there as well.")
    ] = None,
    transport: Annotated[
        str, typer.Option("--transport", help="sim (virtual time) or grpc (real servers, real time).")
    ] = "sim",
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="Workloads at a time (default: processors).")
    ] = None,
) -> None:
    """Run workloads and compare, call for call, with what a real Linux client did."""
    from freepage_lab.conform.command import conform as run_conform

    equal = run_conform(workloads, truth, names or (), json_file=json_file, transport=transport, jobs=jobs)
    raise typer.Exit(0 if equal else 1)


@app.command(rich_help_panel=PANEL_LAB)
def story(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Without one: the list.")] = None,
    files: Annotated[int, typer.Option("--files", min=1, help="Files in the directory that is listed.")] = 110,
    listings: Annotated[int, typer.Option("--listings", min=1, help="How often it is listed.")] = 3,
    json_output: JsonFlag = False,
) -> None:
    """Replay a leak from the kernel's own history, with its published numbers."""
    from freepage_lab.story.command import story as tell

    tell(name, files=files, listings=listings, as_json=json_output)


@app.command(rich_help_panel=PANEL_LAB)
def bench(
    groups: Annotated[list[str] | None, typer.Argument(metavar="[GROUP]...", help="Only these groups.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the figures there as well.")
    ] = None,
    rounds: Annotated[int, typer.Option("--rounds", metavar="N", help="Interleaved rounds of each row.")] = 11,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table as docs/benchmarks.md has it.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 when a row is below its floor.")] = False,
    tiny: Annotated[bool, typer.Option("--tiny", hidden=True)] = False,
) -> None:
    """Measure speed as ratios to something everybody knows, in one run."""
    from freepage_lab.bench.command import bench as run_bench

    outcomes = run_bench(groups or (), rounds=rounds, json_file=json_file, as_markdown=markdown, tiny=tiny)
    failed = any(outcome.broke or (check and outcome.row is not None and not outcome.row.ok) for outcome in outcomes)
    raise typer.Exit(1 if failed else 0)


@app.command(rich_help_panel=PANEL_LAB)
def soak(
    parts: Annotated[list[str] | None, typer.Argument(metavar="[PART]...", help="Only these parts.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Repeats a run (default: by chance, and printed).")] = None,
    scale: Annotated[float, typer.Option("--scale", min=0.001, help="1 is the full length.")] = 1.0,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the figures there as well.")
    ] = None,
) -> None:
    """Real servers, clients and networks that fail: which promises hold, with figures."""
    from freepage_lab.soak.command import soak as run_soak

    raise typer.Exit(0 if run_soak(parts or (), seed=seed, scale=scale, json_file=json_file) else 1)


@app.command(rich_help_panel=PANEL_LAB)
def load(
    profile: Annotated[
        str | None, typer.Argument(metavar="[PROFILE|FILE.toml]", help="What to do; --list shows the profiles.")
    ] = None,
    address: AddressOption = [],  # noqa: B006
    name: NameOption = [],  # noqa: B006
    discover: Annotated[
        str | None, typer.Option("--discover", metavar="dns:NAME:PORT", help="Clients by a DNS name, looked up anew.")
    ] = None,
    token_file: TokenOption = None,
    path: Annotated[
        str | None, typer.Option("--path", metavar="/MNT/DIR", help="Where on the clients (default: a common mount).")
    ] = None,
    duration: Annotated[
        str | None, typer.Option("--duration", metavar="TIME|forever", help="30s, 5m, 1h; default: the profile's.")
    ] = None,
    operations: Annotated[int | None, typer.Option("--operations", min=1, help="End after so many instead.")] = None,
    rate: Annotated[
        float | None, typer.Option("--rate", min=0.0, help="Open loop: operations a second, all together; 0: closed.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", "-w", min=1, max=1024, help="Programs on each client.")
    ] = None,
    think: Annotated[str | None, typer.Option("--think", metavar="TIME", help="Mean pause between operations.")] = None,
    verify: Annotated[bool | None, typer.Option("--verify/--no-verify", help="Check what is read.")] = None,
    processes: Annotated[int, typer.Option("--processes", min=1, max=64, help="Generator processes.")] = 1,
    seed: SeedOption = None,
    wait: Annotated[str, typer.Option("--wait", metavar="TIME", help="How long clients may take to answer.")] = "0s",
    metrics: MetricsOption = "none",
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the result there as well.")
    ] = None,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write the latencies there as well.")
    ] = None,
    fail_if: Annotated[
        list[str], typer.Option("--fail-if", metavar="EXPR", help="'p99_ms>50', 'orphans>0', ... (repeatable).")
    ] = [],  # noqa: B006
    keep: Annotated[bool, typer.Option("--keep", help="Leave the files there.")] = False,
    demo: Annotated[bool, typer.Option("--demo", help="On a server and two clients of its own.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="List the profiles and end.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Print the profile as TOML and end.")] = False,
) -> None:
    """Put running clients under load, and measure: latency, throughput, RPC mix, hit ratio, errors, orphans."""
    from rich.console import Console

    from freepage_lab.load import command
    from freepage_lab.load.profile import load_profile, parse_seconds

    if list_ or profile is None:
        command.list_profiles(Console(highlight=False))
        raise typer.Exit(0 if list_ else 2)
    if show:
        typer.echo(load_profile(profile).source, nl=False)
        raise typer.Exit
    options = command.Options(
        profile=profile,
        where=command.make_where(address, name, discover),
        token_file=token_file,
        path=path,
        seed=seed,
        duration=duration,
        operations=operations,
        rate=rate,
        workers=workers,
        think=think,
        verify=verify,
        processes=processes,
        wait_s=parse_seconds(wait),
        metrics=_address_or_none(metrics),
        json_file=json_file,
        csv_file=csv_file,
        fail_if=tuple(fail_if),
        keep=keep,
        demo=demo,
    )
    raise typer.Exit(command.load(options))


# --- looking --------------------------------------------------------------------------------------------------------


@app.command(rich_help_panel=PANEL_LOOK)
def ps(role: RoleOption = None, json_output: JsonFlag = False) -> None:
    """List the daemons that run here."""
    from freepage_lab import admin

    admin.ps(role, as_json=json_output)


@app.command(rich_help_panel=PANEL_LOOK)
def top(
    address: AddressOption = [],  # noqa: B006
    name: NameOption = [],  # noqa: B006
    role: RoleOption = None,
    token_file: TokenOption = None,
    sort: Annotated[
        str, typer.Option("--sort", metavar="COLUMN", help="name, hits, pages, dirty, rpcs, evictions or orphans.")
    ] = "name",
    interval: Annotated[str, typer.Option("--interval", "-i", metavar="TIME", help="Between two looks.")] = "2s",
    once: Annotated[bool, typer.Option("--once", help="One table, and end.")] = False,
    json_output: JsonFlag = False,
) -> None:
    """Watch clients and servers live: hit ratio, pages, calls, evictions, orphans by path."""
    from freepage_lab.load.profile import parse_seconds
    from freepage_lab.top.command import check_interval
    from freepage_lab.top.command import top as run_top

    seconds = check_interval(parse_seconds(interval))
    run_top(address, name, role, token_file, sort=sort, interval_s=seconds, once=once, as_json=json_output)


@app.command(rich_help_panel=PANEL_LOOK)
def audit(
    address: AddressOption = [],  # noqa: B006
    name: NameOption = [],  # noqa: B006
    role: RoleOption = None,
    token_file: TokenOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Every group, however small.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="As /sys/kernel/debug/kmemleak prints them.")] = False,
    json_output: JsonFlag = False,
) -> None:
    """Report orphaned objects in the manner of kmemleak, and whether mark and sweep agrees with the ledger."""
    from freepage_lab import admin

    choice = admin.Choice(address, name, role, token_file)
    if raw:
        admin.kmemleak(choice)
        raise typer.Exit
    agrees = admin.audit(choice, as_json=json_output, everything=everything)
    raise typer.Exit(0 if agrees else 1)


@app.command(rich_help_panel=PANEL_LOOK)
def slab(
    address: AddressOption = [],  # noqa: B006
    name: NameOption = [],  # noqa: B006
    role: RoleOption = None,
    token_file: TokenOption = None,
    raw: Annotated[bool, typer.Option("--raw", help="As /proc/slabinfo prints it.")] = False,
) -> None:
    """Show live objects by slab cache, use and state."""
    from freepage_lab import admin

    admin.slab(admin.Choice(address, name, role, token_file), raw=raw)


@app.command(rich_help_panel=PANEL_LOOK)
def vmstat(
    address: AddressOption = [],  # noqa: B006
    name: NameOption = [],  # noqa: B006
    role: RoleOption = None,
    token_file: TokenOption = None,
) -> None:
    """Print the page cache's counters, as /proc/vmstat does."""
    from freepage_lab import admin

    admin.vmstat(admin.Choice(address, name, role, token_file))


@app.command(
    "proc-exec",
    rich_help_panel=PANEL_LOOK,
    context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True},
)
def proc_exec(
    command: Annotated[
        list[str], typer.Argument(metavar="-- COMMAND [ARGUMENT]...", help="nfsiostat 1, mountstats, ...")
    ],
    address: AddressOption = [],  # noqa: B006
    name: NameOption = [],  # noqa: B006
    role: RoleOption = None,
    token_file: TokenOption = None,
) -> None:
    """Run a command that finds a client's mountstats, slabinfo, meminfo and vmstat in /proc."""
    from freepage_lab.procexec.command import proc_exec as run_command
    from freepage_runtime import token

    secret = None if token_file is None else token.load(token_file)
    raise typer.Exit(run_command(command, address, name, role, token=secret))


# --- steering -------------------------------------------------------------------------------------------------------


@ctl.command("hooks")
def ctl_hooks(
    rules: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RULE]...", help="PATH=run, PATH=skip, PATH=skip:every=3, all=run. None: show the policy."
        ),
    ] = None,
    address: AddressOption = [],  # noqa: B006
    name: NameOption = [],  # noqa: B006
    role: RoleOption = None,
    token_file: TokenOption = None,
) -> None:
    """Show or set on which removal paths the freepage hook runs."""
    from freepage_lab import admin

    admin.hooks(admin.Choice(address, name, role, token_file), rules or [])


@ctl.command("drop-caches")
def ctl_drop_caches(
    what: Annotated[int, typer.Argument(min=1, max=3, help="1: clean pages; 2: dentries and inodes; 3: both.")] = 1,
    address: AddressOption = [],  # noqa: B006
    name: NameOption = [],  # noqa: B006
    role: RoleOption = None,
    token_file: TokenOption = None,
) -> None:
    """echo WHAT > /proc/sys/vm/drop_caches."""
    from freepage_lab import admin

    admin.drop_caches(admin.Choice(address, name, role, token_file), what)


@ctl.command("sync")
def ctl_sync(
    address: AddressOption = [],  # noqa: B006
    name: NameOption = [],  # noqa: B006
    role: RoleOption = None,
    token_file: TokenOption = None,
) -> None:
    """Write back everything dirty, and wait for it."""
    from freepage_lab import admin

    admin.sync(admin.Choice(address, name, role, token_file))


@ctl.command("resize")
def ctl_resize(
    size: Annotated[str, typer.Argument(metavar="SIZE|none", help="New memory limit of the page cache.")],
    address: AddressOption = [],  # noqa: B006
    name: NameOption = [],  # noqa: B006
    role: RoleOption = None,
    token_file: TokenOption = None,
) -> None:
    """Change the memory limit; pages over the new one are reclaimed at once."""
    from freepage_lab import admin

    admin.resize(admin.Choice(address, name, role, token_file), _size_or_none(size))


@ctl.command("replace")
def ctl_replace(
    path: Annotated[str, typer.Argument(help="Absolute path of a file in the client's mounts.")],
    first: Annotated[int, typer.Option("--first", min=0, help="Index of the first page.")] = 0,
    count: Annotated[int, typer.Option("--count", min=1, help="How many pages.")] = 1,
    change: Annotated[
        PageChange, typer.Option("--how", help="Or move contents and objects, or take pages out as bad memory.")
    ] = PageChange.REPLACE,
    address: AddressOption = [],  # noqa: B006
    name: NameOption = [],  # noqa: B006
    token_file: TokenOption = None,
) -> None:
    """Put new pages with the same data in the place of a file's cached ones."""
    from freepage_lab import admin

    admin.replace(admin.Choice(address, name, None, token_file), path, first, count, change.value)


@ctl.command("fault")
def ctl_fault(
    fault: Annotated[
        str | None,
        typer.Argument(
            metavar="[FAULT]", help="NAME[:path=P][:every=N][:probability=X][:index=A-B], or off. None: show all."
        ),
    ] = None,
    address: AddressOption = [],  # noqa: B006
    name: NameOption = [],  # noqa: B006
    role: RoleOption = None,
    token_file: TokenOption = None,
) -> None:
    """Show the life-cycle faults that can be injected, or arm one."""
    from freepage_lab import admin

    admin.fault(admin.Choice(address, name, role, token_file), fault)


@ctl.command("mount")
def ctl_mount(
    source: Annotated[str, typer.Argument(metavar="HOST:PORT:/EXPORT", help="What to mount.")],
    mountpoint: Annotated[str, typer.Argument(metavar="/MNT", help="Where.")],
    options: Annotated[str, typer.Option("-o", "--options", help="As in nfs(5).")] = "",
    address: AddressOption = [],  # noqa: B006
    name: NameOption = [],  # noqa: B006
    token_file: TokenOption = None,
) -> None:
    """Mount an export on a running client."""
    from freepage_lab import admin

    admin.mount(admin.Choice(address, name, "client", token_file), source, mountpoint, options)


@ctl.command("umount")
def ctl_umount(
    mountpoint: Annotated[str, typer.Argument(metavar="/MNT", help="Which mount.")],
    address: AddressOption = [],  # noqa: B006
    name: NameOption = [],  # noqa: B006
    token_file: TokenOption = None,
) -> None:
    """Unmount, and name what is left of the mount: the leak's knock-on effects."""
    from freepage_lab import admin

    admin.umount(admin.Choice(address, name, "client", token_file), mountpoint)


# --- the command ----------------------------------------------------------------------------------------------------


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", is_eager=True, help="Print the version and exit.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as version_of

        typer.echo(f"freepage {version_of('freepage')}")
        raise typer.Exit


def main(arguments: list[str] | None = None) -> None:
    """The console command. Never returns."""
    # gRPC's core writes to stderr on its own account; what matters reaches us as an error. Read when grpc is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    sys.exit(_run(arguments))


_arguments: list[str] = []
"""The command line that runs, for a command that starts itself again in the background."""


def _run(arguments: list[str] | None) -> int:
    _arguments[:] = sys.argv[1:] if arguments is None else arguments
    try:
        code: Any = app(arguments, standalone_mode=False, prog_name="freepage")
    except UserError as error:
        return _complain(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return _complain("stopped", 130)
    except BrokenPipeError:
        # The reader of our output has gone (`freepage audit | head`); nobody is left to tell.
        sys.stderr.close()
        return 141
    except Exception as error:
        # Wrong usage, as typer reports it; the class has moved between typer's versions, the method has not.
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        where = getattr(getattr(error, "ctx", None), "command_path", "freepage")
        if not message():
            return 2  # no arguments: the help has been shown
        return _complain(f"{' '.join(message().split())} (see {where} --help)", getattr(error, "exit_code", 2))
    return code if isinstance(code, int) else 0


def _complain(line: str, code: int) -> int:
    print(f"freepage: {line}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
