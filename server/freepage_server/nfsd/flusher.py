"""The server's flusher: writes out what has been dirty for a while (Linux: fs/fs-writeback.c wb_workfn).

It runs only while something is dirty: the first dirty page starts the task, and the task ends when nothing is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol

from freepage import BdiWriteback

DIRTY_WRITEBACK_S = 5.0
"""dirty_writeback_centisecs."""


class Clock(Protocol):
    """Monotonic seconds, and a way to let them pass."""

    def now(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...


class Flusher:
    def __init__(self, wb: BdiWriteback, clock: Clock) -> None:
        self._wb = wb
        self._clock = clock
        self._timer: asyncio.Task[None] | None = None
        self._work: asyncio.Task[None] | None = None

    def start(self) -> None:
        """From now on the flusher wakes by itself. Needs a running event loop."""
        self._wb.on_dirty = self._arm
        self._wb.on_wakeup = self._wake
        if self._wb.needs_timer():
            self._arm()

    async def stop(self) -> None:
        """No more by itself; returns when what is under way is done."""
        self._wb.on_dirty = self._wb.on_wakeup = None
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
            await asyncio.gather(timer, return_exceptions=True)
        if self._work is not None:
            await self._work

    def _arm(self) -> None:
        if self._timer is None or self._timer.done():
            self._timer = asyncio.get_running_loop().create_task(self._tick())

    async def _tick(self) -> None:
        while self._wb.needs_timer():
            await self._clock.sleep(DIRTY_WRITEBACK_S)
            if not self._working():
                self._begin(self._wb.do_periodic(self._clock.now()))
            assert self._work is not None
            await asyncio.shield(self._work)  # a write under way is finished even when the server stops meanwhile

    def _wake(self) -> None:
        if not self._working():
            self._begin(self._wb.do_background())

    def _working(self) -> bool:
        return self._work is not None and not self._work.done()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._work = asyncio.get_running_loop().create_task(work)
