"""``freepage soak``: run parts one after the other, show their figures, and say which promise was broken."""

from __future__ import annotations

import asyncio
import json
import secrets
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from freepage_lab.outputs import check_output, write_output
from freepage_lab.soak.part import Figure, Outcome, Part, Settings, all_parts
from freepage_runtime.errors import UserError


def soak(names: Sequence[str], *, seed: int | None = None, scale: float = 1.0, json_file: Path | None = None) -> bool:
    """Run the parts of those names, or all of them; True when every promise was kept. Raises UserError."""
    known = all_parts()
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UserError(f"no part of the soak test is called {', '.join(unknown)}; there are: {', '.join(known)}")
    check_output(json_file)
    seed = secrets.randbits(32) if seed is None else seed
    console = Console(soft_wrap=True)
    console.print(f"freepage soak: seed {seed}, scale {scale:g}", highlight=False)
    results: dict[str, Outcome] = {}
    for name in names or known:
        results[name] = asyncio.run(_run(known[name], seed, scale, console))
        _show(console, known[name], results[name])
    write_output(json_file, json.dumps(as_json(results, seed, scale), indent=2) + "\n")
    return all(outcome.ok for outcome in results.values())


async def _run(part: Part, seed: int, scale: float, console: Console) -> Outcome:
    started = time.monotonic()

    def say(line: str) -> None:
        console.print(f"  {time.monotonic() - started:6.1f} s  {line}", highlight=False, markup=False)

    console.print(f"\n{part.name}: {part.about}", highlight=False, markup=False)
    with tempfile.TemporaryDirectory(prefix=f"freepage-soak-{part.name}-") as directory:
        outcome = await part.run(Settings(seed, Path(directory), scale, say))
    outcome.figures["seconds"] = round(time.monotonic() - started, 1)
    return outcome


def _show(console: Console, part: Part, outcome: Outcome) -> None:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2))
    table.add_column()
    table.add_column(justify="right")
    for name, value in outcome.figures.items():
        table.add_row(Text(name), Text(_figure(value)))
    console.print(table)
    for failure in outcome.failures[:20]:
        console.print(Text(f"✗ {failure}", style="red"))
    if len(outcome.failures) > 20:
        console.print(f"✗ ... and {len(outcome.failures) - 20} more")
    if outcome.ok:
        console.print(Text(f"✓ {part.name}: every promise was kept", style="green"))


def _figure(value: Figure) -> str:
    if isinstance(value, float):
        return f"{value:,.2f}"
    return f"{value:,}" if isinstance(value, int) else value


def as_json(results: dict[str, Outcome], seed: int, scale: float) -> dict[str, object]:
    """What ``--json`` writes."""
    return {
        "seed": seed,
        "scale": scale,
        "ok": all(outcome.ok for outcome in results.values()),
        "parts": {name: {"figures": o.figures, "failures": o.failures} for name, o in results.items()},
    }
