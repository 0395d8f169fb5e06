"""Calls that sleep until something happens or their time has come (net/sunrpc/sched.c, struct rpc_wait_queue).

Every call of a mount has a time at which it is to be sent again, and hardly any is: the reply comes first. So a queue
has one timer, set for the call that is due first, and a call that is answered leaves the queue and the timer alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from freepage_client.nfs.transport import Clock

TIMER_SLACK_S = 1e-6
"""A loop may call back this much before the time: by its clock's resolution, or by rounding."""


class Sleeper(Protocol):
    """Something that can be in one queue: when it is due, and what is called with it then."""

    due_s: float
    woken: Callable[..., None]


class RpcWaitQueue:
    """Sleepers of one clock. They are woken in the order in which they are due, equal ones in that of their coming."""

    __slots__ = ("_clock", "_sleepers", "_timer", "_timer_s")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sleepers: dict[Sleeper, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        """None while nobody sleeps, and perhaps for longer; fires at ``_timer_s``, when the first is due or before"""
        self._timer_s = 0.0

    def __contains__(self, sleeper: Sleeper) -> bool:
        return sleeper in self._sleepers

    def sleep_on(self, sleeper: Sleeper, due_s: float, woken: Callable[..., None]) -> None:
        """Call ``woken(sleeper)`` at ``due_s`` unless it has left the queue by then (rpc_sleep_on_timeout)."""
        sleeper.due_s = due_s
        sleeper.woken = woken
        self._sleepers[sleeper] = None
        if self._timer is None or due_s < self._timer_s:
            self._set_timer(due_s)

    def leave(self, sleeper: Sleeper) -> None:
        """Nobody wakes it any more; no matter if it does not sleep."""
        self._sleepers.pop(sleeper, None)

    def close(self) -> None:
        """Wake nobody any more."""
        self._sleepers.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self, when_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_s = when_s
        self._timer = asyncio.get_running_loop().call_later(when_s - self._clock.now(), self._wake)

    def _wake(self) -> None:
        """Wake who is due, if anybody is, and set the timer for who comes next (__rpc_queue_timer_fn)."""
        self._timer = None
        sleepers = self._sleepers
        now = self._clock.now() + TIMER_SLACK_S
        for sleeper in sorted((each for each in sleepers if each.due_s <= now), key=lambda each: each.due_s):
            if sleeper in sleepers:  # what another one did may have ended it
                del sleepers[sleeper]
                sleeper.woken(sleeper)
        if sleepers:
            self._set_timer(min(each.due_s for each in sleepers))
