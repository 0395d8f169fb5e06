"""One look at all daemons, and what has happened since the look before."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from freepage import RemovalPath
from freepage_lab.daemons import tls_for
from freepage_runtime.control_client import ControlClient, ControlError, Stats
from freepage_runtime.errors import UserError
from freepage_runtime.registry import Daemon

ASK_TIMEOUT_S = 2.0
"""A daemon that takes longer is shown as not answering until the next look."""


@dataclass(frozen=True, slots=True)
class Row:
    """One daemon. Rates are per second since the look before, None at the first one; so is ``hit_percent`` where no
    page was read since. ``problem`` says why there are no figures."""

    role: str
    name: str
    hit_percent: float | None = None
    pages: int = 0
    dirty: int = 0
    rpcs_per_s: float | None = None
    evictions_per_s: float | None = None
    orphans: int = 0
    orphans_by_path: dict[str, int] = field(default_factory=dict)
    violations: int = 0
    problem: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(slots=True)
class _Known:
    """A daemon that has been asked before."""

    control: ControlClient
    stats: Stats | None = None
    at_s: float = 0.0


Key = tuple[str, str, int, str]


def _key(daemon: Daemon) -> Key:
    """Tells a daemon from another of its name, and from itself before it was restarted."""
    return daemon.role, daemon.name, daemon.pid, daemon.boot


class Gatherer:
    """Looks again and again. ``find`` lists the daemons of the moment; they may come and go."""

    def __init__(
        self,
        find: Callable[[], Sequence[Daemon]],
        token: str | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._find = find
        self._token = token
        self._now = now
        self._known: dict[Key, _Known] = {}

    async def look(self) -> list[Row]:
        """Ask all daemons at once. Raises UserError when they cannot be listed."""
        daemons = {_key(daemon): daemon for daemon in self._find()}
        for key in self._known.keys() - daemons.keys():
            await self._known.pop(key).control.close()
        return list(await asyncio.gather(*(self._ask(key, daemon) for key, daemon in daemons.items())))

    async def _ask(self, key: Key, daemon: Daemon) -> Row:
        assert daemon.control is not None
        try:
            if key not in self._known:
                self._known[key] = _Known(
                    ControlClient(daemon.control, token=self._token, timeout_s=ASK_TIMEOUT_S, tls=tls_for(daemon))
                )
            known = self._known[key]
            stats = await known.control.stats()
        except ControlError as error:
            return Row(daemon.role, daemon.name, problem=str(error))
        except UserError as error:
            return Row(daemon.role, daemon.name, problem=str(error))
        now_s = self._now()
        row = make_row(daemon, known.stats, stats, now_s - known.at_s)
        known.stats, known.at_s = stats, now_s
        return row

    async def close(self) -> None:
        for known in self._known.values():
            await known.control.close()
        self._known.clear()


def make_row(daemon: Daemon, before: Stats | None, stats: Stats, seconds: float) -> Row:
    """What a daemon's counters say; ``before`` are those of ``seconds`` ago."""
    rpcs = evictions = hits = None
    asked_hits, asked_misses = stats.hits, stats.misses
    if before is not None and seconds > 0:
        rpcs = max(sum(stats.rpcs.values()) - sum(before.rpcs.values()), 0) / seconds
        reclaim = str(RemovalPath.RECLAIM)
        evictions = max(stats.removed.get(reclaim, 0) - before.removed.get(reclaim, 0), 0) / seconds
        asked_hits, asked_misses = stats.hits - before.hits, stats.misses - before.misses
    if asked_hits + asked_misses > 0:
        hits = 100 * asked_hits / (asked_hits + asked_misses)
    return Row(
        role=daemon.role,
        name=daemon.name,
        hit_percent=hits,
        pages=stats.cached_pages,
        dirty=stats.dirty_pages,
        rpcs_per_s=rpcs,
        evictions_per_s=evictions,
        orphans=sum(stats.orphaned.values()),
        orphans_by_path={path: n for path, n in stats.skipped_owned.items() if n},
        violations=sum(stats.violations.values()),
    )
