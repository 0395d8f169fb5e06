"""The real thing behind the ``Clock`` that client and server are handed.

Time is always the event loop's: on an ordinary loop that is the system's monotonic clock, on the simulation's loop it
is virtual, and the code above cannot tell. Wall time is asked for apart, because only timestamps of files need it.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

NS_PER_S = 1_000_000_000


class Clock(Protocol):
    """What the thinking half asks of time: monotonic seconds, and a way to let them pass."""

    def now(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...


class LoopClock:
    """The event loop's clock. Bound to a loop it may be read from any thread; unbound it follows the running loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = loop
        if loop is not None:
            # The same without a step in between: a cached read asks for the time, and little else.
            real = type(loop).time is asyncio.BaseEventLoop.time
            self.now = time.monotonic if real else loop.time  # type: ignore[method-assign]

    def now(self) -> float:
        """Monotonic seconds since a moment that only the loop knows; raises RuntimeError outside a loop if unbound."""
        loop = self._loop
        return (loop if loop is not None else asyncio.get_running_loop()).time()

    async def sleep(self, seconds: float) -> None:
        """Let ``seconds`` pass; zero or less lets the other tasks take one turn."""
        await asyncio.sleep(max(seconds, 0.0))


def wall_ns() -> int:
    """Nanoseconds since 1970-01-01 UTC, as a file's timestamps count them."""
    return time.time_ns()


class LoopWall:
    """Wall time that moves with a ``Clock``: the same seed gives the same timestamps."""

    def __init__(self, epoch_ns: int, clock: Clock) -> None:
        self._epoch_ns = epoch_ns
        self._clock = clock
        self._start_s = clock.now()

    def __call__(self) -> int:
        """Nanoseconds since 1970: the epoch, and what the clock has counted since this object was made."""
        return self._epoch_ns + round((self._clock.now() - self._start_s) * NS_PER_S)
