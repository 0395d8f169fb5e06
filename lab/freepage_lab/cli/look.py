"""Commands that look at running daemons."""

from __future__ import annotations

from typing import Annotated

import typer

from freepage_lab.cli.app import PANEL_LOOK, app
from freepage_lab.cli.options import (
    AddressOption,
    JsonFlag,
    NameOption,
    RoleOption,
    TokenOption,
)


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
    from freepage_lab.top.command import check_interval
    from freepage_lab.top.command import top as run_top
    from freepage_runtime.settings import parse_duration

    seconds = check_interval(parse_duration(interval))
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
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND", help="nfsiostat 1, mountstats, ...")],
    address: AddressOption = [],  # noqa: B006
    name: NameOption = [],  # noqa: B006
    role: RoleOption = None,
    token_file: TokenOption = None,
) -> None:
    """Run a command that finds a client's mountstats, slabinfo, meminfo and vmstat in /proc."""
    from freepage_lab.daemons import load_token
    from freepage_lab.procexec.command import proc_exec as run_command

    raise typer.Exit(run_command(command, address, name, role, token=load_token(token_file)))
