"""A coroutine that is begun at once: no task while nobody is waited for, all of asyncio's manners when somebody is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from freepage_proto.eager import Begun, begin, follow


def test_what_waits_for_nobody_ends_without_a_task_or_a_turn_of_the_loop() -> None:
    async def work() -> str:
        return "done"

    assert begin(work()) == "done"  # not even a loop is needed


def test_what_fails_at_once_fails_there() -> None:
    async def work() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        begin(work())


def task_of(begun: object) -> asyncio.Task[Any]:
    assert isinstance(begun, Begun)
    return asyncio.get_running_loop().create_task(begun)


def test_what_waits_goes_on_in_a_task() -> None:
    async def main() -> None:
        first: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        second: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        lock = asyncio.Lock()

        async def work() -> int:
            async with lock:
                total = await first
                await asyncio.sleep(0)
                try:
                    await second
                except LookupError:
                    total += 10
                return total

        task = task_of(begin(work()))
        assert lock.locked()
        await asyncio.sleep(0)
        first.set_result(1)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        second.set_exception(LookupError())
        assert await task == 11
        assert not lock.locked()

    asyncio.run(main())


@pytest.mark.parametrize("turns", [0, 1, 2])
def test_the_task_can_be_cancelled_and_the_work_hears_of_it(turns: int) -> None:
    """Even before the task has made its own first step."""

    async def main() -> None:
        heard: list[str] = []

        async def work() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                heard.append("cancelled")
                raise

        task = task_of(begin(work()))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert heard == ["cancelled"]

    asyncio.run(main())


def test_what_is_followed_needs_no_task_and_tells_how_it_ended() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        first, second = loop.create_future(), loop.create_future()
        ended: list[tuple[object, Exception | None]] = []

        async def work() -> int:
            total: int = await first
            await asyncio.sleep(0)
            try:
                await second
            except LookupError:
                total += 10
            return total

        follow(work(), lambda *end: ended.append(end))
        assert asyncio.all_tasks() == {asyncio.current_task()}
        first.set_result(1)
        for _ in range(2):
            await asyncio.sleep(0)
        second.set_exception(LookupError())
        await asyncio.sleep(0)
        assert ended == [(11, None)]

    asyncio.run(main())


@pytest.mark.parametrize("waits", [False, True])
def test_what_is_followed_and_fails_hands_over_its_exception(waits: bool) -> None:
    async def main() -> None:
        failure = ValueError("no")
        ended: list[tuple[object, Exception | None]] = []

        async def work() -> None:
            if waits:
                await asyncio.sleep(0)
            raise failure

        follow(work(), lambda *end: ended.append(end))
        await asyncio.sleep(0)
        assert ended == [(None, failure)]

    asyncio.run(main())


def test_what_is_followed_and_was_cancelled_by_somebody_ends_without_a_word() -> None:
    async def main() -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ended: list[tuple[object, Exception | None]] = []

        async def work() -> None:
            await future

        follow(work(), lambda *end: ended.append(end))
        future.cancel()
        await asyncio.sleep(0)
        assert ended == []

    asyncio.run(main())
