"""What the status page of a load generator shows: operations, latencies, errors, and what its clients leak."""

from __future__ import annotations

import time
from collections.abc import Callable

from freepage_lab.load.latency import Latencies
from freepage_lab.load.profile import Profile
from freepage_lab.load.result import MIB, of_latencies
from freepage_lab.load.view import Look, milliseconds
from freepage_runtime.daemon import version
from freepage_runtime.status_page import Cell, Chart, History, Series, Status, Table, Tile

MOST_OPERATIONS = 6
"""As many colours as the page has."""


class LoadStatus:
    """The status of one load; ``look`` gives its figures of the moment, ``facts`` what it drives."""

    def __init__(self, profile: Profile, look: Callable[[], Look], facts: Callable[[], list[tuple[str, str]]]) -> None:
        self._profile = profile
        self._look = look
        self._facts = facts
        self._names = [operation.name for operation in profile.mix]
        self._before = Latencies()
        self._started_s = time.monotonic()
        self.history = History(self._sample)

    def _sample(self) -> dict[str, float]:
        look = self._look()
        tally, together = look.tally, look.tally.all_operations()
        lately, self._before = together.since(self._before), together
        return {
            "p50_ms": lately.percentile_s(50) * 1e3,
            "p99_ms": lately.percentile_s(99) * 1e3,
            "errors": tally.failed,
            "read": tally.read_bytes / MIB,
            "written": tally.written_bytes / MIB,
            "late_s": tally.late_s,
            "orphans": look.growth.total("orphaned"),
            "rpcs": look.growth.total("rpcs"),
            "done": together.count,
            **{
                f"operation {name}": tally.operations[name].count if name in tally.operations else 0
                for name in self._names
            },
        }

    def __call__(self) -> Status:
        look = self._look()
        return Status(
            "load",
            self._profile.name,
            version(),
            time.monotonic() - self._started_s,
            self._tiles(look),
            self._charts(),
            [self._latencies(look), *self._errors(look), self._about()],
            ["/metrics", "/healthz"],
        )

    def _lately(self, name: str) -> float | None:
        rates = self.history.rates(name)[-5:]
        return sum(rates) / len(rates) if rates else None

    def _tiles(self, look: Look) -> list[Tile]:
        tally, growth = look.tally, look.growth
        together = tally.all_operations()
        orphans, hits = growth.total("orphaned"), growth.hit_percent
        tiles = [
            Tile("operations a second", self._lately("done"), f"{together.count:,} done"),
            Tile(
                "p99",
                f"{milliseconds(together.percentile_s(99))} ms",
                f"p50 {milliseconds(together.percentile_s(50))} ms",
            ),
            Tile("errors", tally.failed, f"{tally.corrupt:,} corrupt", "bad" if tally.failed else "good"),
            Tile("orphaned objects", orphans, "on the clients", "bad" if orphans else "good"),
            Tile("hit ratio", "–" if hits is None else f"{hits:.0f} %", "of the pages read"),
            Tile("RPCs a second", self._lately("rpcs"), f"{growth.total('rpcs'):,} sent"),
        ]
        if self._profile.rate:
            late = tally.late_s > 1
            tiles.append(
                Tile("behind schedule", f"{tally.late_s:.1f} s", f"{self._profile.rate:g}/s due", "bad" if late else "")
            )
        return tiles

    def _charts(self) -> list[Chart]:
        history = self.history
        names = self._names[:MOST_OPERATIONS]
        latencies = [Series(name, history.values(f"{name}_ms")[1:], color) for color, name in ((0, "p50"), (4, "p99"))]
        charts = [
            Chart(
                "Operations a second",
                [Series(name, history.rates(f"operation {name}"), color) for color, name in enumerate(names)],
                stacked=True,
            ),
            Chart("Latency of each second, ms", latencies),
            Chart(
                "MiB a second",
                [Series(name, history.rates(name), color) for color, name in ((0, "read"), (2, "written"))],
            ),
            Chart("RPCs of the clients a second", [Series("RPCs", history.rates("rpcs"), 1)]),
            Chart("Errors a second", [Series("errors", history.rates("errors"), 4)]),
            Chart("Orphaned objects on the clients", [Series("orphaned", history.values("orphans")[1:], 4)]),
        ]
        if self._profile.rate:
            charts.append(Chart("Seconds behind schedule", [Series("late", history.values("late_s")[1:], 3)]))
        return charts

    def _latencies(self, look: Look) -> Table:
        rows: list[list[Cell]] = []
        for name in self._names:
            figures = of_latencies(look.tally.operations.get(name, Latencies()))
            shown = [
                None if (value := figures[of]) is None else round(value, 2) for of in ("p50_ms", "p99_ms", "max_ms")
            ]
            rows.append([name, figures["count"], *shown])
        return Table("Latency in ms", ("operation", "done", "p50", "p99", "max"), rows)

    def _errors(self, look: Look) -> list[Table]:
        rows: list[list[Cell]] = [
            [name, (what, "text"), (n, "bad")] for (name, what), n in sorted(look.tally.errors.items())
        ]
        return [Table("Errors", ("operation", "what", "times"), rows)] if rows else []

    def _about(self) -> Table:
        return Table("This load", ("", ""), [[term, (fact, "text")] for term, fact in self._facts()])
