from __future__ import annotations

import asyncio
import time

import pytest

from freepage_runtime.clock import LoopClock, LoopWall, wall_ns


class JumpingLoop(asyncio.SelectorEventLoop):
    """Time stands still while tasks run, and jumps to the next timer when none can."""

    virtual_s = 1000.0

    def time(self) -> float:
        return self.virtual_s

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self.virtual_s = max(self.virtual_s, self._scheduled[0].when())  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


def test_the_clock_is_the_loops_own() -> None:
    async def main() -> tuple[float, float]:
        clock = LoopClock()
        before = clock.now()
        await clock.sleep(3600.0)
        return before, clock.now()

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        started = time.monotonic()
        assert runner.run(main()) == (1000.0, 4600.0)
        assert time.monotonic() - started < 60, "virtual time passed in real time"


def test_a_sleep_of_nothing_lets_the_others_run() -> None:
    async def main() -> list[str]:
        order: list[str] = []

        async def sleeper(seconds: float) -> None:
            order.append("before")
            await LoopClock().sleep(seconds)
            order.append("after")

        await asyncio.gather(sleeper(0.0), sleeper(-1.0))
        return order

    assert asyncio.run(main()) == ["before", "before", "after", "after"]


def test_an_unbound_clock_needs_a_loop_and_a_bound_one_does_not() -> None:
    with pytest.raises(RuntimeError):
        LoopClock().now()
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        assert LoopClock(runner.get_loop()).now() == 1000.0


def test_wall_time_of_a_simulation_moves_with_its_clock() -> None:
    epoch_ns = 1_262_304_000_000_000_000  # 2010-01-01

    async def main() -> tuple[int, int]:
        wall = LoopWall(epoch_ns, LoopClock())
        before = wall()
        await asyncio.sleep(1.5)
        return before, wall()

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        assert runner.run(main()) == (epoch_ns, epoch_ns + 1_500_000_000)


def test_wall_time_is_the_systems() -> None:
    assert abs(wall_ns() - time.time_ns()) < 60_000_000_000
