"""Client hosts are killed (SIGKILL) in the middle of their work and come back under their names."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import random

from freepage_client.io.remote import RemoteMachine
from freepage_lab.soak.fleet import Fleet
from freepage_lab.soak.part import Outcome, Settings
from freepage_lab.soak.workload import STUCK_S, Stopwatch, Writer, finished, read_whole, synced_on_disk
from freepage_runtime.control_client import ControlError

NAME = "clients"
ABOUT = "client hosts are killed in the middle of their work; what they synced stays, what they held is free"

ROUNDS = 100
CLIENTS = 4
OPTIONS = "wsize=32768,rsize=32768,timeo=50,retrans=2"
WORK_S = (0.3, 1.5)
LATE_S = 0.5
"""How long the server may take to finish what a host had sent before it was killed."""
LOCK = "lock"


async def run(settings: Settings) -> Outcome:
    return await clients(settings, settings.scaled(ROUNDS))


async def clients(settings: Settings, rounds: int, count: int = CLIENTS) -> Outcome:
    """Each round one host is killed while all work. It holds a lock, which must be free once it is back."""
    chance = random.Random(f"clients/{settings.seed}")
    watch = Stopwatch()
    outcome = Outcome()
    verified = lost = done = 0
    async with Fleet(settings.directory) as fleet:
        address = str(await fleet.start_server())
        (fleet.files / LOCK).touch()
        names = [f"c{number}" for number in range(count)]
        writers = {
            name: Writer(name, await fleet.start_client(name, address, OPTIONS), str(settings.seed), watch)
            for name in names
        }
        for number in range(rounds):
            victim, other = chance.sample(names, 2)
            stop = asyncio.Event()
            work = {name: asyncio.ensure_future(writer.work(stop)) for name, writer in writers.items()}
            if not await _lock(fleet.machines[victim], keep=True):
                outcome.failures.append(f"round {number}: {victim} cannot have a lock that nobody holds")
            await asyncio.sleep(chance.uniform(*WORK_S))
            await fleet.kill_client(victim)
            with contextlib.suppress(ControlError):
                await work.pop(victim)
            stop.set()
            if not await finished(asyncio.gather(*work.values())):
                outcome.failures.append(f"round {number}: a client is stuck {STUCK_S:g} s after another one was killed")
                break
            if await _lock(fleet.machines[other]):
                outcome.failures.append(f"round {number}: {victim}'s lock was given away while it might come back")
            await asyncio.sleep(LATE_S)
            for file in writers[victim].files:
                before = list(file.newest)
                wrong = file.adopt(await read_whole(fleet.machines[other], file, watch))
                outcome.failures += [f"round {number}, left by {victim}: {line}" for line in wrong]
                lost += sum(now < then for now, then in zip(file.newest, before, strict=True))
            writers[victim].restart(await fleet.start_client(victim, address, OPTIONS))
            if not await _lock(fleet.machines[other]):
                outcome.failures.append(f"round {number}: {victim}'s lock is still held after its return")
            settled = [file for name, writer in writers.items() if name != victim for file in writer.files]
            wrong, there = synced_on_disk(settled, fleet.files)
            outcome.failures += [f"round {number}: {line}" for line in wrong]
            verified += there
            done += 1
            if done % 10 == 0 or rounds < 10:
                settings.say(f"{done} of {rounds} rounds, longest wait {watch.longest_s:.1f} s ({watch.what})")
        outcome.figures = {
            "seed": settings.seed,
            "rounds (kills)": done,
            "clients": count,
            "bytes written": sum(writer.written_bytes for writer in writers.values()),
            "fsyncs": sum(writer.fsyncs for writer in writers.values()),
            "fsynced bytes found on disk": verified,
            "blocks that died with their client": lost,
            "longest stall [s]": round(watch.longest_s, 2),
            "longest stall": watch.what,
        }
        outcome.failures += [line for writer in writers.values() for line in writer.failures]
        outcome.failures += fleet.ended()
    return outcome


async def _lock(machine: RemoteMachine, *, keep: bool = False) -> bool:
    """Try to lock a file that all know; ``keep`` it until the host dies."""
    task = await machine.task()
    fd = await task.open(f"/mnt/{LOCK}", os.O_RDWR)
    try:
        await task.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 0, 0)
    except BlockingIOError:
        keep = False
        return False
    finally:
        if not keep:
            await task.exit()
    return True
