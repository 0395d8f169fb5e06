"""Commands that run something until it is told to end: a server, a client, a mount point."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from freepage_lab.cli.app import PANEL_RUN, app, command_line
from freepage_lab.cli.options import (
    AuditOption,
    CacheOption,
    ControlOption,
    HookOption,
    LogFormatOption,
    LogLevelOption,
    MallocOption,
    MetricsOption,
    OpsOption,
    ParentOption,
    ReadyFdOption,
    SeedOption,
    StrictOption,
    TlsCaOption,
    TlsCertOption,
    TlsKeyOption,
    TlsServerNameOption,
    TokenOption,
    address_or_none,
    daemon_name,
    memory_or_none,
)


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
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Name in freepage ps and in logs.")] = "server",
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
    audit_every: AuditOption = "0",
    seed: SeedOption = None,
    max_calls: Annotated[int, typer.Option("--max-calls", metavar="N", min=1, help="Calls executed at a time.")] = 64,
    stop_grace: Annotated[
        str, typer.Option("--stop-grace", metavar="TIME", help="Longest time to finish and write out at the end.")
    ] = "8s",
    tune_malloc: MallocOption = True,
    ops: OpsOption = None,
    log_level: LogLevelOption = "info",
    log_format: LogFormatOption = "text",
    ready_fd: ReadyFdOption = None,
    parent_pid: ParentOption = None,
) -> None:
    """Export directories over gRPC, until Ctrl-C or SIGTERM."""
    from freepage_runtime.daemon import run
    from freepage_runtime.settings import parse_address, parse_duration
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
        name=daemon_name(name),
        exports=tuple(exports),
        listen=parse_address(listen),
        state=state,
        handle_age_s=None if handle_age is None else handle_age * 86400,
        control=parse_address(control),
        metrics=address_or_none(metrics),
        token_file=token_file,
        tls=tls,
        memory_bytes=memory_or_none(cache),
        hook_policy=tuple(hook),
        strict=strict,
        audit_every_s=parse_duration(audit_every),
        seed=seed,
        max_calls=max_calls,
        stop_grace_s=parse_duration(stop_grace),
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
        str | None, typer.Option("--name", metavar="NAME", help="Host name of the client (default: this machine's).")
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
    audit_every: AuditOption = "0",
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
    from freepage_runtime.settings import parse_address, parse_duration
    from freepage_runtime.tls import TlsSettings

    settings = ClientSettings(
        name=socket.gethostname() if name is None else daemon_name(name),
        mounts=tuple(MountSetting.parse(text) for text in mount),
        control=parse_address(control),
        metrics=address_or_none(metrics),
        token_file=token_file,
        tls=TlsSettings.given(tls_cert, tls_key, tls_ca, tls_server_name),
        memory_bytes=memory_or_none(cache),
        hook_policy=tuple(hook),
        strict=strict,
        audit_every_s=parse_duration(audit_every),
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
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Host name of the client (default: DIR-PID).")
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
        raise typer.Exit(start.in_background(command_line))
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
            name="" if name is None else daemon_name(name),
            control=parse_address(control),
            metrics=address_or_none(metrics),
            token_file=token_file,
            tls=TlsSettings.given(tls_cert, tls_key, tls_ca, tls_server_name),
            memory_bytes=memory_or_none(cache),
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
