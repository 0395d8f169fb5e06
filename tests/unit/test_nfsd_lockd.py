"""The server's line of those who wait for a lock."""

from __future__ import annotations

import asyncio

from freepage_lab.sim.loop import run
from freepage_proto.nlm4 import LockArgs, NlmLock, NlmStat4, UnlockArgs
from freepage_server.nfsd.lockd import LockManager


def named(owner: bytes, offset: int = 0, length: int = 0) -> NlmLock:
    return NlmLock(b"file", owner, 1, offset, length)


def test_nothing_is_granted_to_who_does_not_listen() -> None:
    async def story() -> None:
        locks = LockManager()
        assert locks.lock("A", LockArgs(named(b"a"), True)).status is NlmStat4.GRANTED
        assert locks.lock("B", LockArgs(named(b"b"), True, block=True)).status is NlmStat4.BLOCKED
        locks.unlock("A", UnlockArgs(named(b"a")))
        assert not list(locks.locks())
        assert locks.lock("C", LockArgs(named(b"c"), True)).status is NlmStat4.GRANTED, "it is free to be taken"
        locks.unlock("C", UnlockArgs(named(b"c")))
        assert await locks.granted("B", 1000) == (named(b"b"),)
        assert [lock.client for lock in locks.locks()] == ["B"]
        assert await locks.granted("B", 1000) == (), "once"

    run(story())


def test_a_shorter_lock_makes_room_and_a_new_listener_ends_the_old_one() -> None:
    async def story() -> None:
        locks = LockManager()
        locks.lock("A", LockArgs(named(b"a"), True))
        wanted = named(b"b", 100, 10)
        locks.lock("B", LockArgs(wanted, False, block=True))
        old = asyncio.create_task(locks.granted("B", 60_000))
        await asyncio.sleep(1)
        new = asyncio.create_task(locks.granted("B", 60_000))
        await asyncio.sleep(1)
        assert old.done() and old.result() == ()
        locks.lock("A", LockArgs(named(b"a"), False))  # from exclusive to shared
        assert await new == (wanted,)

    run(story())


def test_who_cancels_or_restarts_is_passed_over_and_nobody_is_kept_when_the_server_stops() -> None:
    async def story() -> None:
        locks = LockManager()
        locks.lock("A", LockArgs(named(b"a"), True))
        for client in "BCD":
            locks.lock(client, LockArgs(named(client.encode()), True, block=True))
        heard = {client: asyncio.create_task(locks.granted(client, 60_000)) for client in "BCD"}
        await asyncio.sleep(0)
        locks.cancel("B", UnlockArgs(named(b"B")))
        locks.free_client("C")
        locks.free_client("A")
        assert await heard["D"] == (named(b"D"),)
        assert not heard["B"].done() and not heard["C"].done()
        locks.dismiss_all()
        assert await heard["B"] == await heard["C"] == ()

    run(story())
