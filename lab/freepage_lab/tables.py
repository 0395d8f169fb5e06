"""Tables of figures at a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

_WIDE = 10_000


def print_whole(console: Console, table: Table) -> None:
    """Print a table as wide as it is. In a narrower window its lines wrap; rich would leave out digits and columns."""
    table.width = Measurement.get(console, console.options.update(max_width=_WIDE), table).maximum
    console.print(table, crop=False)
