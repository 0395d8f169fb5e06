"""Waiting without an event loop of our own: futures come from the embedder."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Protocol

from .errors import WouldBlock


class Future(Protocol):
    """The part of asyncio.Future that the page cache needs."""

    def done(self) -> bool: ...

    def set_result(self, result: None, /) -> None: ...

    def __await__(self) -> Generator[Any, None, None]: ...


CreateFuture = Callable[[], Future]


class WaitQueue:
    """Tasks waiting for a condition. Woken all together; each looks at the condition again."""

    __slots__ = ("_create_future", "_futures")

    def __init__(self, create_future: CreateFuture | None) -> None:
        self._create_future = create_future
        self._futures: list[Future] = []

    def __bool__(self) -> bool:
        return bool(self._futures)

    def wait(self, story: Callable[[], str]) -> Future:
        """A future for the next wake_all. Raises WouldBlock with the story where nobody could ever wake us."""
        if self._create_future is None:
            raise WouldBlock(story())
        future = self._create_future()
        self._futures.append(future)
        return future

    def wake_all(self) -> None:
        futures, self._futures = self._futures, []
        for future in futures:
            if not future.done():  # done: its waiter was cancelled
                future.set_result(None)
