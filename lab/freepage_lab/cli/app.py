"""The command's tree, on which the modules beside this one hang their commands."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup


class Commands(TyperGroup):
    """A group whose help lists its commands by panel, each with its whole line of help.

    Plain text, as man pages have it: in 80 columns typer's boxes leave an option's help 20.
    """

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        panels: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            panel = getattr(command, "rich_help_panel", None)
            panels.setdefault(panel if isinstance(panel, str) else "Commands", []).append((name, command.help or ""))
        for panel, rows in panels.items():
            with formatter.section(panel):
                formatter.write_dl(rows)


app = typer.Typer(
    cls=Commands,
    name="freepage",
    help="Emulate a fleet of Linux NFS clients, and look inside their page caches.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
ctl = typer.Typer(cls=Commands)

PANEL_RUN = "Run"
PANEL_LOOK = "Look and steer"
PANEL_LAB = "Lab"

app.add_typer(ctl, name="ctl", rich_help_panel=PANEL_LOOK)

command_line: list[str] = []
"""The arguments of the command that runs, for one that starts itself again in the background."""


@app.callback(invoke_without_command=True)
def _version(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", is_eager=True, help="Print the version and exit.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as version_of

        typer.echo(f"freepage {version_of('freepage')}")
        raise typer.Exit
    _help_without_command(ctx)


@ctl.callback(invoke_without_command=True)
def _ctl(ctx: typer.Context) -> None:
    """Administer running daemons: hooks, faults, caches, memory, mounts, locks."""
    _help_without_command(ctx)


def _help_without_command(ctx: typer.Context) -> None:
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
        raise typer.Exit(2)
