"""``freepage story``: replay a story and print its numbers beside the published ones."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict

from rich import box
from rich.console import Console
from rich.table import Table

from freepage_lab.story import readdir_rapages
from freepage_lab.story.readdir_rapages import RELEASED, VARIANTS, Outcome
from freepage_lab.tables import print_whole
from freepage_runtime.errors import UserError

STORIES = {"readdir-names": readdir_rapages}


def story(name: str | None, *, files: int, listings: int, as_json: bool, console: Console | None = None) -> None:
    """Replay `name`, or without one list the stories. Raises UserError for a name that is none."""
    console = console or Console()
    if name is None:
        for each, module in STORIES.items():
            console.print(f"{each:<16} {(module.__doc__ or '').splitlines()[0]}", highlight=False)
        return
    if name not in STORIES:
        raise UserError(f"there is no story {name!r}: choose {', '.join(STORIES)}")
    outcomes = asyncio.run(_both(files, listings))
    if as_json:
        print(json.dumps([_as_dict(outcome) for outcome in outcomes], indent=1))
        return
    for paragraph in (STORIES[name].__doc__ or "").strip().split("\n\n"):
        console.print(" ".join(paragraph.split()), "", sep="\n", highlight=False, markup=False)
    for outcome in outcomes:
        _print(console, outcome)
        console.print()


async def _both(files: int, listings: int) -> list[Outcome]:
    return [await readdir_rapages.replay(variant, files=files, listings=listings) for variant in VARIANTS]


def _as_dict(outcome: Outcome) -> dict[str, object]:
    return {
        "variant": outcome.variant,
        "listings": [asdict(listing) for listing in outcome.listings],
        "audit": outcome.audit.as_dict(),
    }


def _print(console: Console, outcome: Outcome) -> None:
    table = Table(
        title=f"{outcome.variant}, {VARIANTS[outcome.variant]}: names in kmalloc-32",
        title_justify="left", box=box.SIMPLE_HEAD,
    )  # fmt: skip
    for heading in ("listing", "READDIRs", "returned", "allocated", "freed", "lost", "lost so far"):
        table.add_column(heading, justify="right")
    for number, each in enumerate(outcome.listings, 1):
        row = [number, each.readdirs, each.names_returned, each.allocated, each.freed, each.lost, each.lost_so_far]
        table.add_row(*(f"{value:,}" for value in row), style="red" if each.lost else None)
    print_whole(console, table)
    lines = outcome.audit.render().splitlines()
    console.print("audit: " + "\n       ".join(lines), highlight=False, markup=False)
    if outcome.variant == RELEASED:
        console.print(
            "The ledger believes that somebody uses the lost names: they were never on a page that left the cache. "
            "Only the sweep, which starts from what is reachable, finds them.",
            highlight=False,
        )
