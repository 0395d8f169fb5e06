"""How both sides begin a call: here and now, and a task is made of it only if it has to wait.

Most calls of a file server need nobody: the data are cached, and the answer is there as soon as the coroutine has been
called. A task costs two turns of the event loop, and a shield a third. A client's call leaves at once, not in the next
turn. Python 3.12 has eager tasks; this is what they do, for 3.11 too.

What runs before the first wait runs in the caller's task: it must not ask for `asyncio.current_task` (asyncio.timeout
does).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


def begin(work: Coroutine[Any, Any, T]) -> T | Begun[T]:
    """Make the first step of ``work``. Returns its result, if that was all, else what a task goes on with.

    Raises what the first step raises.
    """
    try:
        return Begun(work, work.send(None))
    except StopIteration as done:
        result: T = done.value
        return result


def follow(work: Coroutine[Any, Any, T], done: Callable[[T | None, Exception | None], object]) -> None:
    """Make the first step of ``work``, and every other one as soon as what it waits for is there, without a task.

    ``done`` gets what it returns and None, or None and the exception that it raises. There is nothing to cancel;
    work that somebody else cancels ends without a word. None of the work may ask for `asyncio.current_task`.
    """
    _Follower(work, done).step()


class _Follower(Generic[T]):
    """What a task is at heart: whenever the future that the coroutine waits for is done, it makes the next step."""

    __slots__ = ("_done", "_work")

    def __init__(self, work: Coroutine[Any, Any, T], done: Callable[[T | None, Exception | None], object]) -> None:
        self._work = work
        self._done = done

    def step(self, waited_for: object = None) -> None:
        try:
            future = self._work.send(None)  # which asks the future for its result, or raises its exception
        except StopIteration as end:
            result, error = end.value, None
        except asyncio.CancelledError:
            return
        except Exception as failure:
            result, error = None, failure
        else:
            if future is None:  # sleep(0)
                asyncio.get_running_loop().call_soon(self.step)
            else:
                future.add_done_callback(self.step)
            return
        self._done(result, error)


class Begun(Coroutine[Any, Any, T]):
    """A coroutine whose first step was made by somebody else, and ended in waiting for ``waited_for``."""

    def __init__(self, work: Coroutine[Any, Any, T], waited_for: object) -> None:
        self._work = work
        self._waited_for = waited_for
        self._handed_on = False

    def send(self, value: Any, /) -> Any:
        if self._handed_on:
            return self._work.send(value)
        self._handed_on = True
        return self._waited_for

    def throw(self, *error: Any) -> Any:
        self._handed_on = True
        return self._work.throw(*error)

    def close(self) -> None:
        self._work.close()

    def __await__(self) -> Generator[Any, Any, T]:
        raise TypeError("for asyncio.Task alone")
