"""The table of `freepage top`: 80 columns wide, sorted as its reader wants."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from freepage_lab.top.gather import Row
from freepage_runtime.errors import UserError

FAINT = "dim"
BAD = "bold red"
NAME_WIDTH = 14
PATHS_WIDTH = 20
TABLE_WIDTH = 78
"""Also in a narrower window: there the right end is missing, not the digits of every column."""


@dataclass(frozen=True, slots=True)
class Column:
    """Something to sort by: its key on the keyboard, its width, and whether the largest comes first."""

    key: str
    title: str
    width: int
    value: Callable[[Row], Any]
    largest_first: bool = True


COLUMNS: dict[str, Column] = {
    "name": Column("n", "name", NAME_WIDTH, lambda row: row.name, largest_first=False),
    "hits": Column("h", "hits", 5, lambda row: -1.0 if row.hit_percent is None else row.hit_percent),
    "pages": Column("p", "pages", 6, lambda row: row.pages),
    "dirty": Column("d", "dirty", 6, lambda row: row.dirty),
    "rpcs": Column("r", "RPC/s", 6, lambda row: row.rpcs_per_s or 0.0),
    "evictions": Column("e", "evict/s", 7, lambda row: row.evictions_per_s or 0.0),
    "orphans": Column("o", "orphans", 7, lambda row: row.orphans),
}


@dataclass(slots=True)
class Order:
    """How rows are sorted; the same key again turns it round."""

    column: str = "name"
    reversed: bool = False

    @classmethod
    def parse(cls, text: str) -> Order:
        """A column's name, with ``-`` before it the other way round. Raises UserError."""
        name = text.removeprefix("-")
        if name not in COLUMNS:
            raise UserError(f"--sort {text!r}: choose {', '.join(COLUMNS)}, with - before it the other way round")
        return cls(name, text.startswith("-"))

    def press(self, key: str) -> bool:
        """Take a key press; False when it means nothing."""
        for name, column in COLUMNS.items():
            if column.key == key:
                self.reversed = not self.reversed if name == self.column else False
                self.column = name
                return True
        return False

    def apply(self, rows: Sequence[Row]) -> list[Row]:
        """Sorted; rows of the same value in the order of their names."""
        column = COLUMNS[self.column]
        by_name = sorted(rows, key=lambda row: row.name)
        return sorted(by_name, key=column.value, reverse=column.largest_first != self.reversed)


def short(number: float | None) -> str:
    """At most five characters: ``–``, ``7.4``, ``9,870``, ``123k``, ``4.5M``."""
    if number is None:
        return "–"
    if number >= 999_500:
        return f"{number / 1e6:.1f}M" if number < 99.95e6 else f"{number / 1e6:.0f}M"
    if number >= 10_000:
        return f"{number / 1e3:.0f}k"
    if number >= 100 or number == int(number):
        return f"{number:,.0f}"
    return f"{number:.1f}"


def _by_path(row: Row) -> str:
    """The worst paths, as many as fit; ``+2`` stands for two more."""
    ordered = sorted(row.orphans_by_path.items(), key=lambda pair: (-pair[1], pair[0]))
    words = [f"{path} {short(n)}" for path, n in ordered]
    for shown in range(len(words), 0, -1):
        rest = len(words) - shown
        line = " ".join([*words[:shown], *([f"+{rest}"] if rest else [])])
        if len(line) <= PATHS_WIDTH:
            return line
    return ""


def table(role: str, rows: Sequence[Row], order: Order) -> Table:
    """The daemons of one role."""
    found = Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style=FAINT, padding=0, width=TABLE_WIDTH
    )
    for name, column in COLUMNS.items():
        title = Text(f"{role}s ({len(rows)})" if name == "name" else column.title)
        if name == order.column:
            title.stylize("bold underline")
        found.add_column(title, justify="left" if name == "name" else "right", no_wrap=True, width=column.width)
    found.add_column("by path", no_wrap=True, width=PATHS_WIDTH)
    for row in order.apply(rows):
        name = row.name if len(row.name) <= NAME_WIDTH else row.name[: NAME_WIDTH - 1] + "…"
        if row.problem is not None:
            found.add_row(Text(name, FAINT), *[Text("–", FAINT)] * 6, Text("no answer", BAD))
            continue
        leak = BAD if row.orphans else FAINT
        found.add_row(
            Text(name),
            "–" if row.hit_percent is None else f"{row.hit_percent:.0f}%",
            short(row.pages),
            short(row.dirty),
            short(row.rpcs_per_s),
            short(row.evictions_per_s),
            Text(short(row.orphans), leak),
            Text(_by_path(row), leak),
        )
    return found


def picture(rows: Sequence[Row], order: Order, *, keys: bool, at: str | None = None) -> RenderableType:
    """Everything: a heading, clients, servers, and which keys do what."""
    leaking = sum(bool(row.orphans) for row in rows)
    broken = sum(row.violations for row in rows)
    heading = Text.assemble(
        ("freepage top", "bold"),
        (f"  {at or time.strftime('%H:%M:%S')}  ", FAINT),
        f"{len(rows)} daemon{'' if len(rows) == 1 else 's'}, ",
        (f"{leaking} leaking", BAD if leaking else "green"),
        (f", {broken:,} rule violations" if broken else "", BAD),
    )
    parts: list[RenderableType] = [heading, Text("")]
    if not rows:
        parts.append(Text("no freepage daemon is running here", FAINT))
    for role in ("client", "server"):
        of_role = [row for row in rows if row.role == role]
        if of_role:
            parts += [table(role, of_role, order), Text("")]
    if keys:
        words = "  ".join(f"{column.key} {name}" for name, column in COLUMNS.items())
        parts.append(Text(f"sort: {words}   q quit", FAINT))
    return Group(*parts)
