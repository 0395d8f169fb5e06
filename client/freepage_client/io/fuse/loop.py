"""An event loop that other threads may step into, and coroutines that begin in one of them.

One lock per client is held by whoever runs client code: by the loop's thread from each resume of a coroutine to its
next suspension, and by a FUSE thread while it begins a request. The loop lets go of it only while it waits for
something to happen. So a request that the cache can answer is answered by the thread that read it, without a hop
through the loop, and every piece of client code sees the same single-threaded world as without threads.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
import types
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any, Final, TypeVarTuple, Unpack

Ts = TypeVarTuple("Ts")


class _UnlockingSelector(selectors.DefaultSelector):
    """Waits without the client's lock."""

    def __init__(self, lock: threading.Lock) -> None:
        super().__init__()
        self._client_lock = lock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._client_lock.release()
        try:
            return super().select(timeout)
        finally:
            self._client_lock.acquire()


class SharedLoop(asyncio.SelectorEventLoop):
    """The loop's thread holds ``lock`` unless it waits; ``enter`` lets another thread run client code meanwhile."""

    def __init__(self) -> None:
        self.lock: Final = threading.Lock()
        self._touched = False
        super().__init__(_UnlockingSelector(self.lock))

    def run_forever(self) -> None:
        with self.lock:
            super().run_forever()

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        self._touched = True
        return super().call_soon(callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        self._touched = True
        return super().call_at(when, callback, *args, context=context)

    def adopt_thread(self) -> None:
        """Call once in a thread that will ``begin`` coroutines: to them this loop is the running one."""
        asyncio._set_running_loop(self)

    def begin(
        self, coro: Coroutine[Any, Any, Any], done: Callable[[asyncio.Task[Any]], object]
    ) -> asyncio.Task[Any] | Finished:
        """Run a coroutine up to its first suspension, here. The caller holds ``lock``, in a thread of ``adopt_thread``.

        One that never suspends is Finished, and its exception is raised here. The rest of any other runs in the loop;
        ``done`` is called there when it ends.
        """
        self._touched = False
        try:
            waits_for = coro.send(None)
        except StopIteration as end:
            return Finished(end.value)
        else:
            task = self.create_task(_finish(coro, waits_for))
            task.add_done_callback(done)
            return task
        finally:
            if self._touched:
                self.wake()

    def wake(self) -> None:
        """Have the loop look at what was scheduled."""
        self.call_soon_threadsafe(_nothing)


class Finished:
    """A coroutine that ended where it began."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def _nothing() -> None:
    pass


async def _finish(coro: Coroutine[Any, Any, Any], waits_for: Any) -> Any:
    return await _drive(coro, waits_for)


@types.coroutine
def _drive(coro: Coroutine[Any, Any, Any], waits_for: Any) -> Generator[Any, None, Any]:
    """Go on with a coroutine that has begun elsewhere and waits for a future."""
    while True:
        try:
            yield waits_for
        except BaseException as error:
            try:
                waits_for = coro.throw(error)
            except StopIteration as end:
                return end.value
        else:
            try:
                waits_for = coro.send(None)
            except StopIteration as end:
                return end.value
