"""A coroutine that is begun at once: no task while nobody is waited for, all of asyncio's manners when somebody is."""

from __future__ import annotations

import asyncio

import pytest

from freepage_proto.eager import follow, run_to_its_end


def test_what_waits_for_nobody_ends_without_a_task_or_a_turn_of_the_loop() -> None:
    async def work() -> str:
        return "done"

    tasks: list[asyncio.Task[str]] = []
    whole = run_to_its_end(work(), waits=tasks.append)
    with pytest.raises(StopIteration) as stop:
        whole.send(None)  # not even a loop is needed
    assert stop.value.value == "done"
    assert not tasks


def test_what_fails_at_once_fails_there() -> None:
    async def work() -> None:
        raise ValueError("no")

    async def main() -> None:
        with pytest.raises(ValueError, match="no"):
            await run_to_its_end(work())

    asyncio.run(main())


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

        tasks: list[asyncio.Task[int]] = []
        caller = asyncio.create_task(run_to_its_end(work(), waits=tasks.append))
        await asyncio.sleep(0)
        assert lock.locked()
        assert len(tasks) == 1
        first.set_result(1)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        second.set_exception(LookupError())
        assert await caller == 11
        assert tasks[0].done() and not lock.locked()

    asyncio.run(main())


def test_a_caller_that_gives_up_does_not_stop_the_work() -> None:
    async def main() -> None:
        gate = asyncio.Event()
        done: list[str] = []

        async def work() -> None:
            await gate.wait()
            done.append("all of it")

        tasks: list[asyncio.Task[None]] = []
        caller = asyncio.create_task(run_to_its_end(work(), waits=tasks.append))
        await asyncio.sleep(0)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        gate.set()
        await tasks[0]
        assert done == ["all of it"]

    asyncio.run(main())


@pytest.mark.parametrize("turns", [1, 2, 3])
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

        tasks: list[asyncio.Task[None]] = []
        caller = asyncio.create_task(run_to_its_end(work(), waits=tasks.append))
        for _ in range(turns):
            await asyncio.sleep(0)
        tasks[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
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
