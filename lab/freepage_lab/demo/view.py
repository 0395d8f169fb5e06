"""What the demo shows: a live picture on a terminal, one line per phase elsewhere, and the summary at the end."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from freepage_lab.demo.phases import CREDENTIALS, NAMES, PATHS, PHASES, REQUESTS, Figures, Phase, PhaseResult
from freepage_lab.tables import print_whole
from freepage_runtime.control_client import Stats

GOOD, LEAK, FAINT, STRONG = "green", "bold red", "dim", "bold"
SPARKS = "▁▂▃▄▅▆▇█"
SPARK_WIDTH = 40
RULE_WIDTH = 76
LABEL_WIDTH = 26
BAR_WIDTH = 24
HOST_WIDTH = 44
"""Columns of a client's line beside its bar."""
PAGE_SIZE = 4096


@dataclass(frozen=True, slots=True)
class Look:
    """The cluster at one moment of a phase."""

    figures: Figures
    clients: Sequence[tuple[str, Stats]]
    """Each client's name and its figures since it started."""
    elapsed: float
    """How much of the phase is over, 0 to 1."""


class View(Protocol):
    def __enter__(self) -> View: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def say(self, what: str) -> None:
        """What is being prepared."""

    def begin(self, number: int, phase: Phase) -> None: ...
    def look(self, look: Look) -> None: ...
    def end(self, number: int, result: PhaseResult) -> None: ...


class PlainView:
    """One line per phase."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __enter__(self) -> PlainView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def say(self, what: str) -> None:
        self._console.print(what, highlight=False)

    def begin(self, number: int, phase: Phase) -> None:
        pass

    def look(self, look: Look) -> None:
        pass

    def end(self, number: int, result: PhaseResult) -> None:
        figures = result.clients
        removed, called, skipped = (
            sum(counts.values()) for counts in (figures.removed, figures.hook_calls, figures.skipped)
        )
        orphans = (
            f"{figures.orphaned.get(REQUESTS, 0):,} orphaned requests ({result.leaked.get(REQUESTS, 0):+,}),"
            f" {figures.pinned.get(CREDENTIALS, 0):,} credential references pinned,"
            f" {figures.orphaned.get(NAMES, 0):,} names"
        )
        self._console.print(
            f"phase {number + 1}/{len(PHASES)} {result.phase.name}: {removed:,} pages removed = {called:,} hook calls"
            f" + {skipped:,} skipped; {orphans}; {'ok' if result.ok else 'NOT AS IT SHOULD BE'}",
            soft_wrap=True,
            highlight=False,
        )


class LiveView:
    """A picture that moves: the phases, the six paths, the leak over time, and each client's cache."""

    def __init__(self, console: Console, title: str, cache_bytes: int) -> None:
        self._console = console
        self._title = title
        self._cache_pages = cache_bytes // PAGE_SIZE
        self._started = time.monotonic()
        self._results: list[PhaseResult] = []
        self._number: int | None = None
        self._phase: Phase | None = None
        self._message = ""
        self._look: Look | None = None
        self._leak: deque[int] = deque([0], maxlen=SPARK_WIDTH * 4)
        self._live = Live(console=console, get_renderable=self._picture, refresh_per_second=8, transient=True)

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def say(self, what: str) -> None:
        self._message = what

    def begin(self, number: int, phase: Phase) -> None:
        self._number, self._phase, self._message, self._look = number, phase, "", None

    def look(self, look: Look) -> None:
        self._look = look
        self._leak.append(look.figures.orphaned.get(REQUESTS, 0))

    def end(self, number: int, result: PhaseResult) -> None:
        self._results.append(result)
        self._number = None

    def _picture(self) -> RenderableType:
        parts: list[RenderableType] = [
            Text.assemble((self._title, STRONG), (f"   {time.monotonic() - self._started:4.0f} s", FAINT)),
            Text(""),
            self._phases(),
            Text(""),
        ]
        if self._message:
            parts.append(Text(self._message, FAINT))
        if self._look is not None and self._phase is not None:
            parts += [self._paths(self._look, self._phase), self._leaks(self._look), Text(""), self._hosts(self._look)]
        return Padding(Group(*parts), (1, 1))

    def _phases(self) -> RenderableType:
        line = Table.grid(padding=(0, 2))
        cells = []
        for number, phase in enumerate(PHASES):
            if number < len(self._results):
                ok = self._results[number].ok
                cells.append(Text(f"{'✓' if ok else '✗'} {phase.name}", GOOD if ok else LEAK))
            elif number == self._number:
                cells.append(Text(f"● {phase.name}", "bold cyan"))
            else:
                cells.append(Text(f"○ {phase.name}", FAINT))
        line.add_row(*cells)
        elapsed = self._look.elapsed if self._look is not None and self._number is not None else 0.0
        done = (len(self._results) + elapsed) / len(PHASES)
        return Group(line, _rule(done, min(RULE_WIDTH, self._width)))

    @property
    def _width(self) -> int:
        """Columns between the margins of the picture."""
        return self._console.width - 2

    def _paths(self, look: Look, phase: Phase) -> Table:
        narrow = self._width < RULE_WIDTH
        table = Table(box=box.SIMPLE_HEAD, header_style=FAINT, pad_edge=False, padding=(0, 0 if narrow else 1))
        table.add_column("path" if narrow else "pages leave by", no_wrap=True)
        table.add_column("hook", no_wrap=True)
        for title in ("removed", "called" if narrow else "hook calls", "skipped", "orphaned"):
            table.add_column(title, justify="right", no_wrap=True, min_width=0 if narrow else 10)
        for path in PATHS:
            table.add_row(*_path_cells(path, look.figures, phase))
        return table

    def _leaks(self, look: Look) -> RenderableType:
        requests = look.figures.orphaned.get(REQUESTS, 0)
        pins = look.figures.pinned.get(CREDENTIALS, 0)
        names = look.figures.orphaned.get(NAMES, 0)
        style = LEAK if requests else GOOD
        return Group(
            Text.assemble(
                ("orphaned requests  ", FAINT),
                (sparkline(list(self._leak), max(8, min(SPARK_WIDTH, self._width - 28))), style),
                (f"  {requests:,}", style),
            ),
            Text(f"they pin credentials {pins:,} times; {names:,} names are lost with directory pages", FAINT),
        )

    def _hosts(self, look: Look) -> Table:
        table = Table.grid(padding=(0, 2 if self._width >= RULE_WIDTH else 1))
        bar = max(4, min(BAR_WIDTH, self._width - HOST_WIDTH))
        table.add_column(no_wrap=True, style=FAINT)
        for justify in ("left", "right", "right", "right"):
            table.add_column(no_wrap=True, justify=justify)
        for name, stats in look.clients:
            asked = stats.hits + stats.misses
            table.add_row(
                name,
                _bar(stats.cached_pages / max(self._cache_pages, 1), bar, "blue"),
                f"{stats.cached_pages:,} pages",
                f"{stats.hits / asked:.0%} hits" if asked else "",
                f"{sum(stats.rpcs.values()):,} RPCs",
            )
        return table


def summary(results: Sequence[PhaseResult]) -> Table:
    """Phase by phase and path by path; orphans and pins are what there was at the end of the phase. 80 columns wide."""
    table = Table(box=box.SIMPLE_HEAD, header_style=STRONG, show_edge=False, pad_edge=False, padding=0)
    table.add_column("phase", no_wrap=True, min_width=LABEL_WIDTH + 1)
    table.add_column("path", no_wrap=True)
    table.add_column("hook", no_wrap=True)
    for title in ("removed", "hook calls", "skipped", "orphaned"):
        table.add_column(title, justify="right", no_wrap=True)
    for number, result in enumerate(results, 1):
        figures = result.clients
        beside = (
            Text(f"{number} {result.phase.name}", STRONG),
            _labelled("orphaned requests", _leak_number(figures.orphaned.get(REQUESTS, 0))),
            _labelled("pinned credentials", _leak_number(figures.pinned.get(CREDENTIALS, 0))),
            _labelled("orphaned names", _leak_number(figures.orphaned.get(NAMES, 0))),
            _labelled("audit agrees", Text("yes", GOOD) if figures.audit_agrees else Text("no", LEAK)),
            _labelled("as it should be", Text("yes", GOOD) if result.ok else Text("NO", LEAK)),
        )
        for path, left in zip(PATHS, beside, strict=True):
            table.add_row(left, *_path_cells(path, figures, result.phase))
        table.add_section()
    return table


def _labelled(label: str, value: Text) -> Text:
    return Text.assemble((f"{label:<18}", FAINT), " " * (LABEL_WIDTH - 18 - len(value)), value)


def print_summary(
    console: Console, results: Sequence[PhaseResult], addresses: Sequence[tuple[str, str]], elapsed_s: float
) -> None:
    """The table, every /metrics, and the verdict with whatever was not as it should be."""
    print_whole(console, summary(results))
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style=FAINT)
    grid.add_column(no_wrap=True)
    for name, url in addresses:
        grid.add_row(name, url)
    console.print()
    console.print(grid)
    console.print()
    problems = [f"{result.phase.name}: {problem}" for result in results for problem in result.problems]
    for problem in problems:
        console.print(Text(f"✗ {problem}", LEAK))
    if problems:
        console.print(Text(f"{len(problems)} things were not as they should be ({elapsed_s:.0f} s)", LEAK))
        return
    leaked = sum(result.leaked.get(REQUESTS, 0) for result in results)
    console.print(
        Text(
            f"✓ hook on: nothing leaked; skipped: {leaked:,} requests, all accounted for ({elapsed_s:.0f} s)",
            GOOD,
        )
    )


def sparkline(values: Sequence[int], width: int = SPARK_WIDTH) -> str:
    """The values as one line of blocks, the highest as a full one; what is 0 stays on the ground."""
    step = max(1, -(-len(values) // width))
    picked = [max(values[start : start + step]) for start in range(0, len(values), step)]
    top = max(picked, default=0)
    if top == 0:
        return SPARKS[0] * len(picked)
    return "".join(SPARKS[0 if value == 0 else max(1, round(value / top * 7))] for value in picked)


def _path_cells(path: str, figures: Figures, phase: Phase) -> tuple[RenderableType, ...]:
    skip = path in phase.skip
    return (
        Text(path),
        Text("skip", LEAK) if skip else Text("run", GOOD),
        Text(f"{figures.removed.get(path, 0):,}"),
        Text(f"{figures.hook_calls.get(path, 0):,}", FAINT if skip else ""),
        _leak_number(figures.skipped.get(path, 0)),
        _leak_number(figures.skipped_owned.get(path, 0)),
    )


def _leak_number(n: int) -> Text:
    return Text(f"{n:,}", LEAK if n else FAINT)


def _rule(share: float, width: int) -> Text:
    full = round(min(max(share, 0.0), 1.0) * width)
    return Text.assemble(("━" * full, "cyan"), ("─" * (width - full), FAINT))


def _bar(share: float, width: int, style: str) -> Text:
    full = round(min(max(share, 0.0), 1.0) * width)
    return Text.assemble(("█" * full, style), ("░" * (width - full), FAINT))
