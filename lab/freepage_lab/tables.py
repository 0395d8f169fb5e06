"""Tables of figures, and how far the work for them is, at a terminal."""

from __future__ import annotations

import os

from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

_WIDE = 10_000


def print_whole(console: Console, table: Table) -> None:
    """Print a table as wide as it is. In a narrower window its lines wrap; rich would leave out digits and columns."""
    table.width = Measurement.get(console, console.options.update(max_width=_WIDE), table).maximum
    console.print(table, crop=False)


def wide_console() -> Console:
    """The terminal; for a file, which has no width of its own, 120 columns: 80 would cut what matters."""
    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=120)


def progress_bar(console: Console) -> Progress:
    """What is done now, how many of how many, since when; gone at the end, and nothing in a file."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
