"""Peers that begin a call and do not end it: a request whose bytes do not come, a reply that nobody takes.

Every call holds one of the server's places from its first byte to its last, so a few thousand such calls would shut
everybody else out, and a peer that answers pings looks alive meanwhile. gRPC has no time-out for this. So we look, now
and then, at the tasks in which gRPC's asyncio server handles calls, and break off those that have been neither executed
nor finished for too long. It costs a call next to nothing.

A call has two such tasks (grpc/_cython/_cygrpc/aio/server.pyx.pxi): the outer waits for the call's end and holds its
place, the inner receives, executes and replies. Both have to go. Which tasks these are is nobody's promise, so it is
looked up in the first call that is executed: it runs in the inner one, and the outer one refers to that. Until then,
and where nothing is found, they are taken to be called as in grpcio 1.76 to 1.85.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Set
from typing import Any

from freepage_runtime.logs import fields

log = logging.getLogger(__name__)

PATIENCE_S = 60.0
"""How long a message of at most a few MiB may be on its way; and at most a quarter longer."""

INNER, OUTER = "_handle_exceptions", "_schedule_rpc_coro"
_DEPTH = 4
"""How far an outer task's reference to its inner one is away: task, coroutine, coroutine awaited, its locals."""

Task = asyncio.Task[Any]


def _name(task: Task) -> str:
    return getattr(task.get_coro(), "__qualname__", None) or ""


def _refers_to(task: Task, wanted: object) -> bool:
    level: list[object] = [task.get_coro()]
    for _ in range(_DEPTH):
        found = gc.get_referents(*level)
        if any(each is wanted for each in found):
            return True
        # Not on from another task: gRPC's own loop knows the outer one.
        level = [each for each in found if not isinstance(each, (type, dict, asyncio.Future))]
    return False


class SlowPeers:
    """``executing`` holds the tasks whose calls are being executed: those may take as long as they need.

    ``dropped`` counts the calls that were broken off.
    """

    def __init__(
        self, executing: Callable[[], Set[Task]], now: Callable[[], float], patience_s: float = PATIENCE_S
    ) -> None:
        self._executing = executing
        self._now = now
        self._patience_s = patience_s
        self._idle_since: dict[Task, float] = {}
        self._inner, self._outer = INNER, OUTER
        self.learned = False
        self.dropped = 0

    def learn(self, task: Task | None) -> None:
        """``task`` is executing a call, the first one: it shows what gRPC's tasks are called."""
        assert task is not None
        self.learned = True
        kind = type(task.get_coro())
        holders = {
            _name(other)
            for other in asyncio.all_tasks()
            if type(other.get_coro()) is kind and other is not task and _refers_to(other, task)
        }
        if len(holders) != 1:
            log.warning(
                "calls of slow peers may not be broken off: gRPC's tasks are not as expected",
                extra=fields(inner=_name(task), outer=",".join(sorted(holders))),
            )
            return
        self._inner, (self._outer,) = _name(task), holders

    async def watch(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(self._patience_s / 4)
            self.sweep()

    def sweep(self) -> int:
        """Break off what has taken too long; returns how many calls."""
        now, executing = self._now(), self._executing()
        tasks = asyncio.all_tasks()
        idle = {task for task in tasks if _name(task) == self._inner and task not in executing}
        self._idle_since = {task: self._idle_since.get(task, now) for task in idle}
        slow = [task for task, since in self._idle_since.items() if now - since >= self._patience_s]
        if not slow:
            return 0
        holders = [task for task in tasks if _name(task) == self._outer]
        for task in slow:
            for holder in holders:
                if _refers_to(holder, task):
                    holder.cancel()
            task.cancel()
            del self._idle_since[task]
        self.dropped += len(slow)
        log.warning("broke off calls of slow peers", extra=fields(calls=len(slow), after_s=self._patience_s))
        return len(slow)
