"""What a load shows: a live table on a terminal, a line now and then elsewhere, and the result at the end."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from freepage_lab.load.latency import Latencies
from freepage_lab.load.meter import Growth
from freepage_lab.load.profile import Profile
from freepage_lab.load.result import Result, rpc_mix
from freepage_lab.load.tally import Tally
from freepage_lab.tables import print_whole

FAINT = "dim"
STRONG = "bold"
GOOD = "green"
BAD = "bold red"
RULE_WIDTH = 76
MIX_LINES = 6
PLAIN_EVERY_S = 10.0
RATE_WINDOW_S = 3.0


@dataclass(slots=True)
class Look:
    """One moment of a load. ``share`` is how much of it is done, 0 to 1, None without an end."""

    phase: str
    elapsed_s: float
    share: float | None
    tally: Tally
    growth: Growth
    clients: int
    processes: int


@dataclass(slots=True)
class Rate:
    """Operations a second over the last moments."""

    points: deque[tuple[float, int]] = field(default_factory=deque)

    def at(self, elapsed_s: float, count: int) -> float:
        self.points.append((elapsed_s, count))
        while len(self.points) > 2 and self.points[0][0] < elapsed_s - RATE_WINDOW_S:
            self.points.popleft()
        (before_s, before), (after_s, after) = self.points[0], self.points[-1]
        return (after - before) / (after_s - before_s) if after_s > before_s else 0.0


class PlainView:
    """For logs and pipes: what happens, one line at a time."""

    def __init__(self, console: Console, profile: Profile) -> None:
        self._console = console
        self._phase = ""
        self._told_s = 0.0
        self._rate = Rate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def show(self, look: Look) -> None:
        rate = self._rate.at(look.elapsed_s, look.tally.done)
        if look.phase != self._phase:
            self._phase = look.phase
            self._console.print(f"{look.phase}: {counted(look.clients, 'client')}", markup=False)
            self._told_s = look.elapsed_s
        elif look.phase == "running" and look.elapsed_s - self._told_s >= PLAIN_EVERY_S:
            self._told_s = look.elapsed_s
            p99_ms = look.tally.all_operations().percentile_s(99) * 1e3
            self._console.print(
                f"{look.elapsed_s:.0f} s: {look.tally.done} operations, {rate:.0f}/s, p99 {p99_ms:.1f} ms, "
                f"{look.tally.failed} errors, {look.growth.total('orphaned')} orphans",
                markup=False,
                soft_wrap=True,
            )


class LiveView:
    """The table that is drawn over itself."""

    def __init__(self, console: Console, profile: Profile) -> None:
        self._profile = profile
        self._look: Look | None = None
        self._rate = Rate()
        self._rate_now = 0.0
        self._live = Live(console=console, get_renderable=self._picture, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, look: Look) -> None:
        self._look = look
        self._rate_now = self._rate.at(look.elapsed_s, look.tally.done)

    def _picture(self) -> RenderableType:
        look = self._look
        if look is None:
            return Text("")
        profile = self._profile
        head = Text.assemble(
            (f"freepage load {profile.name}", STRONG),
            (f"   {counted(look.clients, 'client')}, {counted(profile.workers, 'worker')} on each", FAINT),
            (f"   {look.elapsed_s:5.0f} s", FAINT),
        )
        if look.phase != "running":
            files = f", {look.tally.prepared_files:,} files" if look.phase == "preparing" else ""
            return Padding(Group(head, Text(""), Text(f"{look.phase}{files}", FAINT)), (1, 1))
        parts: list[RenderableType] = [head, rule(look.share), Text(""), latency_table(profile, look.tally, None)]
        parts.append(self._line(look))
        return Padding(Group(*parts), (1, 1))

    def _line(self, look: Look) -> Text:
        tally, growth = look.tally, look.growth
        hits = growth.hit_percent
        line = Text.assemble(
            (f"{self._rate_now:,.0f}/s", STRONG),
            f"   hits {'–' if hits is None else f'{hits:.0f}%'}",
            f"   {growth.total('rpcs'):,} RPCs",
            "   ",
            (counted(tally.failed, "error"), BAD if tally.failed else FAINT),
            "   ",
            (counted(growth.total("orphaned"), "orphan"), BAD if growth.total("orphaned") else GOOD),
        )
        if self._profile.rate:
            line.append(f"   {tally.late_s:.1f} s late", BAD if tally.late_s > 1 else FAINT)
        return line


def rule(share: float | None) -> Text:
    """A progress bar; without an end, a line."""
    if share is None:
        return Text("─" * RULE_WIDTH, FAINT)
    full = round(min(max(share, 0.0), 1.0) * RULE_WIDTH)
    return Text.assemble(("━" * full, "cyan"), ("─" * (RULE_WIDTH - full), FAINT))


def counted(n: int, what: str) -> str:
    """``1 client``, ``2 clients``."""
    return f"{n:,} {what}" + ("" if n == 1 else "s")


def milliseconds(seconds: float) -> str:
    """Three figures that matter: ``0.43``, ``12.5``, ``1,250``."""
    ms = seconds * 1e3
    return f"{ms:,.0f}" if ms >= 100 else f"{ms:.1f}" if ms >= 10 else f"{ms:.2f}"


def latency_table(profile: Profile, tally: Tally, calls: Sequence[str] | None) -> Table:
    """Operations, and below them the system calls named; latencies in ms. 80 columns wide."""
    table = Table(box=box.SIMPLE_HEAD, header_style=FAINT, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("latency in ms", no_wrap=True, min_width=16)
    for title in ("count", "mean", "p50", "p90", "p99", "p99.9", "max", "errors"):
        table.add_column(title, justify="right", no_wrap=True)
    for operation in profile.mix:
        errors = sum(n for (name, _), n in tally.errors.items() if name == operation.name)
        table.add_row(*_cells(operation.name, tally.operations.get(operation.name, Latencies()), errors))
    if calls:
        table.add_section()
        for name in calls:
            table.add_row(*_cells(name, tally.calls[name], None), style=FAINT)
    return table


def _cells(name: str, latencies: Latencies, errors: int | None) -> tuple[RenderableType, ...]:
    values = [latencies.mean_s, *(latencies.percentile_s(p) for p in (50, 90, 99, 99.9)), latencies.max_s]
    shown = [milliseconds(value) if latencies.count else "–" for value in values]
    bad = Text("" if errors is None else f"{errors:,}", BAD if errors else FAINT)
    return (Text(name), Text(f"{latencies.count:,}"), *map(Text, shown), bad)


def print_result(console: Console, result: Result, crossed: Sequence[str]) -> None:
    """The result in full, and the thresholds that it crossed."""
    tally, figures = result.tally, result.figures()
    profile = result.profile
    loop = f"open loop at {profile.rate:g}/s" if profile.rate else "closed loop"
    console.print(
        Text.assemble(
            (f"freepage load {profile.name}", STRONG),
            f"   {counted(len(result.clients), 'client')}, {counted(profile.workers, 'worker')} on each, {loop}, "
            f"seed {result.seed}",
        ),
        soft_wrap=True,
    )
    console.print()
    print_whole(console, latency_table(profile, tally, sorted(tally.calls)))
    console.print()
    hits = figures["hit_percent"]
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style=FAINT, no_wrap=True)
    grid.add_column()
    grid.add_row(
        "throughput",
        f"{figures['ops_per_s']:,.1f} operations/s over {result.seconds:.1f} s, "
        f"{figures['read_mib_per_s']:.1f} MiB/s read, {figures['write_mib_per_s']:.1f} MiB/s written",
    )
    if profile.verify:
        grid.add_row("verified", f"{figures['verified_mib']:,.1f} MiB")
    grid.add_row("hit ratio", "no page was read" if hits is None else f"{hits:.1f} % of the pages read")
    per_op = figures["rpcs_per_op"]
    mix = ", ".join(f"{name} {percent:.0f} %" for name, _, percent in rpc_mix(result.growth.counts["rpcs"], MIX_LINES))
    grid.add_row(
        "RPCs",
        f"{figures['rpcs']:,}" + (f", {per_op:.1f} an operation" if per_op else "") + (f": {mix}" if mix else ""),
    )
    grid.add_row("orphans", _orphans(result))
    grid.add_row("errors", _errors(tally))
    console.print(grid)
    for problem in tally.problems[:8]:
        console.print(Text(f"  {problem}", FAINT), soft_wrap=True)
    for line in result.left_behind:
        console.print(Text(f"left behind: {line}", BAD), soft_wrap=True)
    console.print()
    for text in crossed:
        console.print(Text(f"✗ {text}", BAD))
    if not crossed and not tally.failed and not tally.not_started:
        console.print(Text("✓ no errors, " + ("no orphans" if not figures["orphans"] else "but orphans"), GOOD))


def _orphans(result: Result) -> Text:
    orphans = result.whole.total("orphaned")
    if not orphans:
        return Text("none", GOOD)
    by_path = ", ".join(f"{path} {n:,}" for path, n in sorted(result.whole.counts["skipped_owned"].items()) if n)
    return Text(f"{orphans:,}" + (f" (pages that left by {by_path})" if by_path else ""), BAD)


def _errors(tally: Tally) -> Text:
    if not tally.failed and not tally.not_started:
        return Text("none", GOOD)
    words = [f"{name} {what} {n:,}" for (name, what), n in sorted(tally.errors.items())]
    if tally.not_started:
        words.append(f"{tally.not_started:,} operations were due and never begun")
    return Text(", ".join(words), BAD)
