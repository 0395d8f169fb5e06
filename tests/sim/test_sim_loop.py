"""Virtual time: order, idle time, and what a deadlock looks like."""

from __future__ import annotations

import asyncio

import pytest

from freepage_lab.sim import Deadlock, Livelock, loop, run


def test_idle_time_is_skipped() -> None:
    async def main() -> float:
        await asyncio.sleep(30 * 24 * 3600)
        return asyncio.get_running_loop().time()

    assert run(main()) == 30 * 24 * 3600


def test_timers_fire_in_order_of_time_then_of_setting() -> None:
    async def main() -> list[tuple[int, float]]:
        loop = asyncio.get_running_loop()
        fired: list[tuple[int, float]] = []

        def fire(number: int) -> None:
            fired.append((number, loop.time()))

        for number in range(50):
            loop.call_later(1 + number % 3, fire, number)
        await asyncio.sleep(10)
        return fired

    fired = run(main())
    assert fired == sorted(fired, key=lambda entry: (entry[1], entry[0]))
    assert {at for _, at in fired} == {1.0, 2.0, 3.0}


def test_cancelled_timers_do_not_move_time() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        loop.call_later(1000, print).cancel()
        await asyncio.sleep(1)
        return loop.time()

    assert run(main()) == 1.0


def test_timeouts_work_as_they_do_in_real_time() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await loop.create_future()
        return loop.time()

    assert run(main()) == 5.0


def test_deadlock_names_who_waits_where() -> None:
    async def wait_for_godot() -> None:
        await asyncio.get_running_loop().create_future()

    async def main() -> None:
        await asyncio.create_task(wait_for_godot(), name="vladimir")

    with pytest.raises(Deadlock, match=r"(?s)vladimir waits in wait_for_godot \(test_sim_loop.py:\d+\)"):
        run(main())


def test_livelock_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "MAX_TURNS_AT_ONE_INSTANT", 1000)

    async def main() -> None:
        for _ in range(1_000_000):
            await asyncio.sleep(0)

    with pytest.raises(Livelock, match="no time has passed"):
        run(main())


def test_threads_are_refused() -> None:
    async def main() -> None:
        await asyncio.to_thread(len, b"")

    with pytest.raises(RuntimeError, match="no threads in virtual time"):
        run(main())
