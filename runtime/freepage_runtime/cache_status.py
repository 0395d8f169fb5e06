"""What the status page shows of a machine: its page cache, the hook, the objects, the calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from freepage import PAGE_SIZE, PageCache, RemovalPath
from freepage_runtime.settings import format_size
from freepage_runtime.status_page import Cell, Chart, History, Series, Status, Table, Tile

SHOWN_PROCEDURES = 5
OTHERS_COLOR = 6

Rpcs = Callable[[], dict[str, int]]
Facts = Callable[[], Iterable[tuple[str, str]]]


def sample(cache: PageCache, rpcs: Rpcs) -> dict[str, float]:
    """The numbers of one moment, in O(1) of the cache's size."""
    dirty, writeback = cache.dirty.nr_dirty, cache.dirty.nr_writeback
    return {
        "clean": max(cache.nr_file_pages - dirty - writeback, 0),
        "dirty": dirty,
        "writeback": writeback,
        "hits": cache.hits,
        "misses": cache.misses,
        "removed": sum(cache.removed.values()),
        "hook_calls": sum(cache.hook_calls.values()),
        "orphaned": sum(cache.ledger.orphaned().values()),
        "pinned": sum(cache.ledger.pinned().values()),
        **{f"removed {path}": count for path, count in cache.removed.items()},
        **{f"rpc {name}": count for name, count in rpcs().items()},
    }


class CacheStatus:
    """The status of one machine. ``facts`` are what it serves or mounts, ``links`` the port's other pages."""

    def __init__(self, cache: PageCache, *, role: str, name: str, version: str, rpcs: Rpcs, facts: Facts) -> None:
        self._cache = cache
        self._role, self._name, self._version = role, name, version
        self._rpcs, self._facts = rpcs, facts
        self.links: list[str] = []
        self._started_s = time.monotonic()
        self.history = History(lambda: sample(cache, rpcs))

    def __call__(self) -> Status:
        return Status(
            self._role,
            self._name,
            self._version,
            time.monotonic() - self._started_s,
            self._tiles(),
            self._charts(),
            [self._removals(), self._objects(), self._calls(), *self._violations(), self._about()],
            self.links,
        )

    def _tiles(self) -> list[Tile]:
        cache, history = self._cache, self.history
        orphaned = cache.ledger.orphaned()
        leaked = sum(orphaned.values())
        worst = ", ".join(f"{name} {n:,}" for name, n in orphaned.items() if n)
        broken = sum(cache.violations.values())
        limit = cache.memcg.limit_pages
        asked = cache.hits + cache.misses
        recent = [share for share in history.shares("hits", "misses")[-60:] if share is not None]
        rates = [sum(rates[-3:]) / len(rates[-3:]) for name in self._rpcs() if (rates := history.rates(f"rpc {name}"))]
        return [
            Tile("orphaned objects", leaked, worst or "nothing leaks", "bad" if leaked else "good"),
            Tile("rule violations", broken, "of the hook", "bad" if broken else "good"),
            Tile(
                "pages cached",
                cache.nr_file_pages,
                format_size(cache.nr_file_pages * PAGE_SIZE)
                + (f" of {format_size(limit * PAGE_SIZE)}" if limit is not None else ""),
            ),
            Tile("dirty", cache.dirty.nr_dirty, f"{cache.dirty.nr_writeback:,} in writeback"),
            Tile(
                "hit ratio",
                f"{sum(recent) / len(recent):.0f} %" if recent else "–",
                f"{100 * cache.hits / asked:.0f} % since the start" if asked else "no page was read",
            ),
            Tile("RPCs a second", sum(rates), f"{sum(self._rpcs().values()):,} since the start"),
        ]

    def _charts(self) -> list[Chart]:
        history = self.history
        pages = [
            Series(name, history.values(name)[1:], color)
            for color, name in ((0, "clean"), (2, "dirty"), (3, "writeback"))
        ]
        return [
            Chart("Pages by state", pages, "pages", stacked=True),
            Chart("Hit ratio", [Series("of the pages read", history.shares("hits", "misses"), 1)], "%", most=100),
            Chart("RPCs a second", self._rpc_series(), stacked=True),
            Chart(
                "Pages that leave and hook calls, a second",
                [Series("removed", history.rates("removed"), 0), Series("hook calls", history.rates("hook_calls"), 2)],
            ),
            Chart(
                "Orphaned objects, and references they pin",
                [
                    Series("pinned", history.values("pinned")[1:], 3),
                    Series("orphaned", history.values("orphaned")[1:], 4),
                ],
            ),
            Chart(
                "Pages that leave a second, by path",
                [Series(str(path), history.rates(f"removed {path}"), color) for color, path in enumerate(RemovalPath)],
                stacked=True,
            ),
        ]

    def _rpc_series(self) -> list[Series]:
        """The most frequent procedures, in the order of their names so that colours stay; the rest as one."""
        rates = {name: self.history.rates(f"rpc {name}") for name in self._rpcs()}
        ordered = sorted(rates, key=lambda name: (-sum(rates[name]), name))
        most = sorted(name for name in ordered[:SHOWN_PROCEDURES] if any(rates[name]))
        series = [Series(name, rates[name], color) for color, name in enumerate(most)]
        rest = [rates[name] for name in ordered if name not in most and any(rates[name])]
        if rest:
            series.append(Series("others", [sum(values) for values in zip(*rest, strict=True)], OTHERS_COLOR))
        return series

    def _removals(self) -> Table:
        cache = self._cache
        rows: list[list[Cell]] = []
        for path in RemovalPath:
            skipping, orphans = path in cache.policy.rules, cache.ledger.lost.get(path, 0)
            rows.append(
                [
                    str(path),
                    ("skip", "bad") if skipping else ("run", "good"),
                    cache.removed[path],
                    cache.hook_calls[path],
                    (cache.skipped[path], "bad" if cache.skipped[path] else ""),
                    (orphans, "bad" if orphans else ""),
                ]
            )
        return Table("How pages leave", ("path", "hook", "removed", "hook calls", "skipped", "orphaned"), rows)

    def _objects(self) -> Table:
        rows: list[list[Cell]] = []
        for slab in self._cache.ledger.caches.values():
            for account in slab.uses.values():
                in_use, cached, orphaned = account.live
                name = f"{slab.name} {account.use}".strip()
                rows.append([name, cached, in_use, (orphaned, "bad" if orphaned else "")])
        return Table("Objects", ("slab cache", "cached", "in use", "orphaned"), rows)

    def _calls(self) -> Table:
        counts = sorted(((n, name) for name, n in self._rpcs().items() if n), key=lambda pair: (-pair[0], pair[1]))
        rows: list[list[Cell]] = []
        for count, name in counts[:12]:
            rates = self.history.rates(f"rpc {name}")[-3:]
            rows.append([name, count, round(sum(rates) / len(rates), 1) if rates else 0])
        return Table("RPCs", ("procedure", "calls", "a second"), rows)

    def _violations(self) -> list[Table]:
        rows: list[list[Cell]] = [[rule, (n, "bad")] for rule, n in self._cache.violations.items() if n]
        return [Table("Broken rules of the hook", ("rule", "times"), rows)] if rows else []

    def _about(self) -> Table:
        return Table("This process", ("", ""), [[term, (fact, "text")] for term, fact in self._facts()])
