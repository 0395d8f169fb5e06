"""An event loop whose time is virtual: nothing waits, idle time is skipped to the next timer.

The loop never looks at a socket or at the machine's clock, so a run depends on nothing but the program and its seed,
and an hour of timers costs no more than the work they do. What would hang a real loop, every task waiting for another
and no timer pending, raises :class:`Deadlock` and names the tasks and where they wait.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import traceback
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

TIME_RESOLUTION_S = 1e-9
"""Timers closer together than this fire in one turn of the loop; it also absorbs what rounding does to instants."""


class Deadlock(RuntimeError):
    """Every task waits for another one and no timer is pending: in real time this would hang for ever."""


class Livelock(RuntimeError):
    """Tasks keep waking each other and time does not pass: in real time this would burn a processor for ever."""


MAX_TURNS_AT_ONE_INSTANT = 1_000_000
"""Turns of the loop after which an instant that does not end is a :class:`Livelock`. A busy one takes hundreds."""


class VirtualTimeLoop(asyncio.BaseEventLoop):
    """asyncio's own scheduler over a selector that skips time instead of waiting.

    It offers tasks, futures, timers and everything built on them (locks, queues, ``asyncio.timeout``). Sockets,
    signals, subprocesses and threads have no place in it.
    """

    def __init__(self, start_s: float = 0.0) -> None:
        super().__init__()
        self._now = start_s
        self._clock_resolution = TIME_RESOLUTION_S
        self._selector = _TimeSkipper(self)
        self._tie = itertools.count()

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    def call_at(
        self, when: float, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As asyncio's, but timers set for the same instant fire in the order in which they were set.

        asyncio keeps timers in a heap that compares nothing but the instant, so that equal ones come out in an order
        that depends on what else is pending; here that order would decide which of two packets arrives first.
        """
        self._check_closed()  # type: ignore[attr-defined]
        timer = _Timer(when, callback, args, self, context, next(self._tie))
        heapq.heappush(self._scheduled, timer)  # type: ignore[attr-defined]
        timer._scheduled = True  # type: ignore[attr-defined]
        return timer

    def run_in_executor(self, executor: Executor | None, func: Callable[[*_Ts], _T], *args: *_Ts) -> asyncio.Future[_T]:
        """Refused: a thread takes real time, which this loop does not have."""
        raise RuntimeError("there are no threads in virtual time: give the simulated code a substitute that needs none")

    def _skip_to_next_timer(self) -> None:
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        if not scheduled:
            raise Deadlock(f"deadlock: no task can run and no timer is pending{_waiting_tasks(self)}")
        self._now = max(self._now, scheduled[0].when())

    # What BaseEventLoop leaves to its selector subclasses.
    def _process_events(self, event_list: list[object]) -> None:
        assert not event_list

    def _write_to_self(self) -> None:
        """Nothing to wake: the loop runs in one thread and never sleeps."""


class _Timer(asyncio.TimerHandle):
    __slots__ = ("tie",)

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: asyncio.AbstractEventLoop,
        context: Context | None,
        tie: int,
    ) -> None:
        super().__init__(when, callback, args, loop, context)
        self.tie = tie

    def __lt__(self, other: asyncio.TimerHandle) -> bool:
        assert isinstance(other, _Timer)
        return (self._when, self.tie) < (other._when, other.tie)  # type: ignore[attr-defined]


class _TimeSkipper:
    """Stands where a selector would: asked to wait for at most ``timeout`` seconds, it moves the clock instead."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        self._loop = loop
        self._turns = 0

    def select(self, timeout: float | None) -> list[object]:
        if timeout is None or timeout > 0:
            self._turns = 0
            self._loop._skip_to_next_timer()
        else:
            self._turns += 1
            if self._turns > MAX_TURNS_AT_ONE_INSTANT:
                turns, self._turns = self._turns, 0  # the tasks' cancellation takes turns as well
                raise Livelock(f"livelock: {turns} turns and no time has passed{_waiting_tasks(self._loop)}")
        return []

    def close(self) -> None:
        pass


def _waiting_tasks(loop: asyncio.AbstractEventLoop) -> str:
    """One line per task: its name, and the functions in which it waits, innermost first."""
    lines = [""]
    for task in sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name()):
        stack = task.get_stack(limit=8)
        where = " <- ".join(
            f"{frame.name} ({frame.filename.rsplit('/', 1)[-1]}:{frame.lineno})"
            for frame in reversed(traceback.StackSummary.extract((f, f.f_lineno) for f in stack))
        )
        lines.append(f"  {task.get_name()} waits in {where or 'nothing that can be seen'}")
    return "\n".join(lines)


def run(main: Coroutine[Any, Any, _T], *, debug: bool = False) -> _T:
    """Run ``main`` to its end on a virtual-time loop of its own, and return what it returns.

    Raises :class:`Deadlock` when nothing can go on. Tasks that ``main`` left running are cancelled.
    """
    with asyncio.Runner(loop_factory=VirtualTimeLoop, debug=debug) as runner:
        return runner.run(main)
