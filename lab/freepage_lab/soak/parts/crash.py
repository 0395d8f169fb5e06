"""Clients write, fsync and verify while their server is killed (SIGKILL) and started again, at random."""

from __future__ import annotations

import asyncio
import random

from freepage_lab.soak.fleet import Fleet
from freepage_lab.soak.part import Outcome, Settings
from freepage_lab.soak.workload import (
    STUCK_S,
    Contest,
    Stopwatch,
    Writer,
    at_work,
    finished,
    on_disk,
    read_by_others,
    synced_on_disk,
)

NAME = "crash"
ABOUT = "four clients write, fsync and verify while the server is killed and comes back"

ROUNDS = 200
CLIENTS = 4
OPTIONS = "wsize=32768,rsize=32768,timeo=50,retrans=2"
WORK_S = (0.3, 1.5)
AWAY_S = (0.0, 1.0)


async def run(settings: Settings) -> Outcome:
    return await crash(settings, settings.scaled(ROUNDS))


async def crash(settings: Settings, rounds: int, clients: int = CLIENTS) -> Outcome:
    chance = random.Random(f"crash/{settings.seed}")
    watch = Stopwatch()
    outcome = Outcome()
    verified_after_kill = verified_by_clients = lost_blocks = done = 0
    async with Fleet(settings.directory) as fleet:
        address = await fleet.start_server()
        machines = [await fleet.start_client(f"c{number}", str(address), OPTIONS) for number in range(clients)]
        writers = [Writer(f"c{n}", machine, str(settings.seed), watch) for n, machine in enumerate(machines)]
        contest = Contest(machines, fleet.files, watch, crashes=True)
        files = [file for writer in writers for file in writer.files]
        for number in range(rounds):
            stop = asyncio.Event()
            work = at_work(contest.work(stop), *(writer.work(stop) for writer in writers))
            await asyncio.sleep(chance.uniform(*WORK_S))
            await fleet.kill_server()
            wrong, there, behind = on_disk(files, fleet.files)
            outcome.failures += [f"round {number}, after the kill: {line}" for line in wrong]
            verified_after_kill += there
            lost_blocks += behind
            await asyncio.sleep(chance.uniform(*AWAY_S))
            await fleet.start_server()
            stop.set()
            if not await finished(work):
                outcome.failures.append(f"round {number}: a client is stuck {STUCK_S:g} s after the server's return")
                break
            wrong, _ = synced_on_disk(files, fleet.files)
            outcome.failures += [f"round {number}, synced: {line}" for line in wrong]
            wrong, there = await read_by_others(machines, files, watch)
            outcome.failures += [f"round {number}: {line}" for line in wrong]
            verified_by_clients += there
            done += 1
            if done % 10 == 0 or rounds < 10:
                settings.say(f"{done} of {rounds} rounds, longest wait {watch.longest_s:.1f} s ({watch.what})")
        outcome.figures = {
            "seed": settings.seed,
            "rounds (kills)": done,
            "clients": clients,
            "bytes written": sum(writer.written_bytes for writer in writers),
            "fsyncs": sum(writer.fsyncs for writer in writers),
            "fsynced bytes found on disk after kills": verified_after_kill,
            "bytes verified by other clients": verified_by_clients,
            "blocks only UNSTABLE or dirty at a kill": lost_blocks,
            "verifier changes seen": await fleet.count("freepage_client_write_verifier_changes_total", "client"),
            "pages sent again after COMMIT": await fleet.count("freepage_client_resent_pages_total", "client"),
            "retransmissions": await fleet.count("freepage_client_rpc_retransmissions_total", "client"),
            "contests": contest.rounds,
            "double executions": contest.double_executions,
            "answers a crash swallowed": contest.unanswered,
            "longest stall [s]": round(watch.longest_s, 2),
            "longest stall": watch.what,
        }
        outcome.failures += contest.failures
        outcome.failures += [line for writer in writers for line in writer.failures]
        outcome.failures += fleet.ended()
    return outcome
