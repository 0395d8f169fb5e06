"""The command's tree, on which the modules beside this one hang their commands."""

from __future__ import annotations

from typing import Annotated

import typer

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

PANEL_RUN = "Run"
PANEL_LOOK = "Look and steer"
PANEL_LAB = "Lab"

app.add_typer(ctl, name="ctl", rich_help_panel=PANEL_LOOK)

command_line: list[str] = []
"""The arguments of the command that runs, for one that starts itself again in the background."""


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", is_eager=True, help="Print the version and exit.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as version_of

        typer.echo(f"freepage {version_of('freepage')}")
        raise typer.Exit
