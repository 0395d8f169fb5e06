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
from typing import Any, TypeVar

T = TypeVar("T")


def begin(work: Coroutine[Any, Any, T]) -> asyncio.Task[T] | None:
    """Make the first step of ``work``. Returns the task that goes on with it; None: that was all.

    Raises what the first step raises.
    """
    try:
        waited_for = work.send(None)
    except StopIteration:
        return None
    return asyncio.get_running_loop().create_task(_Begun(work, waited_for))


async def run_to_its_end(
    work: Coroutine[Any, Any, T], *, waits: Callable[[asyncio.Task[T]], object] = lambda task: None
) -> T:
    """``await work``, except that cancelling the caller does not cancel it: it goes on in a task of its own.

    ``waits`` is told about the task, if there is one. Work that waits for nobody is done when the first step is.
    """
    try:
        waited_for = work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    task = asyncio.get_running_loop().create_task(_Begun(work, waited_for))
    waits(task)
    return await asyncio.shield(task)


class _Begun(Coroutine[Any, Any, T]):
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
