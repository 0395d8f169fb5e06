"""The queue of calls that sleep: who is woken when, in which order, and with how many timers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from freepage_client.nfs.sched import RpcWaitQueue
from freepage_lab.sim.loop import run
from freepage_runtime.clock import LoopClock


class Call:
    def __init__(self, name: str) -> None:
        self.name = name
        self.due_s = 0.0
        self.woken: Callable[..., None] = lambda call: None


class Night:
    """A queue, and what was woken at which second."""

    def __init__(self) -> None:
        self.clock = LoopClock()
        self.queue = RpcWaitQueue(self.clock)
        self.woken: list[tuple[float, str]] = []

    def sleep(self, due_s: float, name: str) -> Call:
        call = Call(name)
        self.queue.sleep_on(call, due_s, self.wake)
        return call

    def wake(self, call: Call) -> None:
        self.woken.append((round(self.clock.now(), 6), call.name))


def timers() -> int:
    """Timers of the running loop that somebody still wants."""
    scheduled: list[asyncio.TimerHandle] = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    return sum(not timer.cancelled() for timer in scheduled)


def night(story: Callable[[Night], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        await story(Night())

    run(main())


def test_the_first_due_is_the_first_woken_and_equal_ones_keep_their_order() -> None:
    async def story(n: Night) -> None:
        for due_s, name in ((60, "a"), (5, "b"), (60, "c"), (3, "d"), (5, "e")):
            n.sleep(due_s, name)
            assert timers() == 1
        await n.clock.sleep(100)
        assert n.woken == [(3, "d"), (5, "b"), (5, "e"), (60, "a"), (60, "c")]
        assert timers() == 0

    night(story)


def test_who_left_is_not_woken_and_costs_no_timer() -> None:
    async def story(n: Night) -> None:
        calls = [n.sleep(60 + number, str(number)) for number in range(100)]
        for call in calls[:-1]:
            n.queue.leave(call)
            assert call not in n.queue
        assert calls[-1] in n.queue and timers() == 1
        await n.clock.sleep(200)
        assert n.woken == [(159, "99")]

    night(story)


def test_a_call_may_sleep_again_when_it_is_woken_and_may_end_another() -> None:
    async def story(n: Night) -> None:
        def again(call: Call) -> None:
            n.wake(call)
            n.queue.leave(other)
            n.queue.sleep_on(call, n.clock.now() + 7, n.wake)

        call = Call("again")
        n.queue.sleep_on(call, 10, again)
        other = n.sleep(10, "other")
        await n.clock.sleep(30)
        assert n.woken == [(10, "again"), (17, "again")]

    night(story)


def test_a_closed_queue_wakes_nobody() -> None:
    async def story(n: Night) -> None:
        n.sleep(10, "a")
        n.queue.close()
        assert timers() == 0
        await n.clock.sleep(30)
        assert n.woken == []

    night(story)
