"""The server's GRANTED over real gRPC: prompt, and no burden for a server that stops."""

from __future__ import annotations

import asyncio
import fcntl
import os

from freepage_client.machine import Machine
from freepage_lab.conform.venue import GrpcVenue

PATIENCE_S = 20.0
"""Less than lockd's poll of 30 s: what comes within it, came by the callback."""


async def client(venue: GrpcVenue, name: str) -> Machine:
    machine = Machine(name, network=venue.network(name), clock=venue.clock, memory_bytes=None, strict=True)
    await machine.mount(venue.source, "/mnt", "")
    return machine


def test_a_lock_comes_with_the_callback_and_the_server_stops_while_somebody_listens() -> None:
    async def story() -> None:
        async with GrpcVenue.open() as venue:
            a, b = [await client(venue, name) for name in ("A", "B")]
            holder, waiter = a.task(), b.task()
            held = await holder.open("/mnt/f", os.O_RDWR | os.O_CREAT)
            wanted = await waiter.open("/mnt/f", os.O_RDWR)
            await holder.lockf(held, fcntl.LOCK_EX)
            waiting = asyncio.create_task(waiter.lockf(wanted, fcntl.LOCK_EX))
            while not venue.server.locks._listeners:  # noqa: ASYNC110 - nobody tells when a call has arrived
                await asyncio.sleep(0.01)
            assert not waiting.done()
            await holder.lockf(held, fcntl.LOCK_UN)
            async with asyncio.timeout(PATIENCE_S):
                await waiting
            await waiter.lockf(wanted, fcntl.LOCK_UN)

            await holder.lockf(held, fcntl.LOCK_EX)
            waiting = asyncio.create_task(waiter.lockf(wanted, fcntl.LOCK_EX))
            while not venue.server.locks._listeners:  # noqa: ASYNC110 - nobody tells when a call has arrived
                await asyncio.sleep(0.01)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            async with asyncio.timeout(PATIENCE_S):
                for machine in (b, a):
                    await machine.close()

    asyncio.run(story())
