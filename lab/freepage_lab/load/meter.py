"""What the driven daemons say about themselves, as growth: their counters begin anew when they are restarted."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from freepage_lab.load.targets import Target
from freepage_runtime.control_client import ControlClient, ControlError, Stats

MAPS = ("removed", "hook_calls", "skipped", "skipped_owned", "orphaned", "pinned", "violations", "rpcs")
LOOK_TIMEOUT_S = 5.0


@dataclass(slots=True)
class Growth:
    """How much the daemons' counters have grown, by name of the counter and its key. See `control_client.Stats`."""

    counts: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in MAPS})
    hits: int = 0
    misses: int = 0

    def since(self, before: Growth) -> Growth:
        counts = {
            name: Counter({key: n - before.counts[name][key] for key, n in of.items()})
            for name, of in self.counts.items()
        }
        return Growth(counts, self.hits - before.hits, self.misses - before.misses)

    def copy(self) -> Growth:
        return Growth({name: Counter(of) for name, of in self.counts.items()}, self.hits, self.misses)

    def total(self, name: str) -> int:
        return sum(self.counts[name].values())

    @property
    def hit_percent(self) -> float | None:
        """Of the pages that reads asked for; None when none did."""
        asked = self.hits + self.misses
        return 100 * self.hits / asked if asked else None


class Meter:
    """Watches the daemons; `look` asks them all and adds up what is new."""

    def __init__(self, token: str | None) -> None:
        self.growth = Growth()
        self.now: dict[str, Stats] = {}
        """each daemon's latest answer"""
        self._token = token
        self._controls: dict[str, ControlClient] = {}

    async def watch(self, targets: Iterable[Target]) -> None:
        """These are the daemons now. What those that are gone have counted stays in the sum."""
        targets = list(targets)
        for address in self._controls.keys() - {target.address for target in targets}:
            await self._controls.pop(address).close()
            self.now.pop(address, None)
        for target in targets:
            if target.address not in self._controls:
                self._controls[target.address] = ControlClient(
                    target.address, token=self._token, timeout_s=LOOK_TIMEOUT_S, tls=target.tls_files()
                )

    async def look(self) -> None:
        """Daemons that don't answer are passed over: they are asked again the next time."""
        await asyncio.gather(*(self._look(address, control) for address, control in list(self._controls.items())))

    async def _look(self, address: str, control: ControlClient) -> None:
        try:
            stats = await control.stats()
        except ControlError:
            return
        if address not in self._controls:
            return  # it went while we asked
        before = self.now.get(address)
        self.now[address] = stats
        if before is not None:
            self._add(before, stats)

    def _add(self, before: Stats, after: Stats) -> None:
        for name in MAPS:
            old = getattr(before, name)
            for key, value in getattr(after, name).items():
                self.growth.counts[name][key] += _grown(old.get(key, 0), value)
        self.growth.hits += _grown(before.hits, after.hits)
        self.growth.misses += _grown(before.misses, after.misses)

    async def close(self) -> None:
        for control in self._controls.values():
            await control.close()


def _grown(before: int, after: int) -> int:
    """As Prometheus's increase(): a counter that is smaller than before has begun anew."""
    return after - before if after >= before else after
