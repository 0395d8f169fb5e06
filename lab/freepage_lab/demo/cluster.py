"""Starts server and client daemons as processes of their own on loopback, and ends them, whatever happens.

Each daemon chooses free ports itself and says which through an inherited pipe. It dies with us (the kernel sees to
that), and when one dies before its time, whoever is waiting on the cluster hears of it in one line.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from freepage_runtime.errors import UserError
from freepage_runtime.malloc import huge_pages_environment
from freepage_runtime.ready import ChildFailed, ReadyPipe
from freepage_runtime.registry import Daemon

STOP_S = 5.0
"""How long a daemon may take to end after SIGTERM before it is killed."""


class DaemonDied(UserError):
    """A daemon ended although nobody had asked it to."""


@dataclass(slots=True)
class Member:
    """One running daemon."""

    daemon: Daemon
    process: asyncio.subprocess.Process
    log: Path


class Cluster:
    """The daemons of one demo. Use as an async context manager: leaving it ends every process it started."""

    def __init__(self, directory: Path) -> None:
        self.members: list[Member] = []
        self._directory = directory

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Stopping is not to be stopped: a second Ctrl-C in the middle of it would leave daemons behind."""
        stopping = asyncio.ensure_future(self.stop())
        while not stopping.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(stopping)
        stopping.result()

    async def start(self, name: str, arguments: Sequence[str]) -> Member:
        """Start ``freepage ARGUMENTS`` and wait until it listens. Raises UserError with the daemon's own last words."""
        log = self._directory / f"{name}.log"
        pipe = ReadyPipe()
        try:
            with log.open("wb") as output:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "freepage_lab.cli",
                    *arguments,
                    "--ready-fd",
                    str(pipe.child_fd),
                    "--parent-pid",
                    str(os.getpid()),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=[pipe.child_fd],
                    env=huge_pages_environment(),
                    start_new_session=True,  # Ctrl-C is ours to hear: the daemons end in our order
                )
            member = Member(Daemon(role=arguments[0], name=name, pid=process.pid, pid_start=None), process, log)
            self.members.append(member)
            try:
                member.daemon = await pipe.wait()
            except ChildFailed as error:
                await _exited(process)
                raise UserError(f"{name}: {_last_line(log) or error}") from None
        finally:
            pipe.close()
        return member

    async def watch(self) -> None:
        """Never returns; raises DaemonDied when a member ends. Cancel it before `stop`."""
        waits = {asyncio.ensure_future(member.process.wait()): member for member in self.members}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        member = waits[done.pop()]
        raise DaemonDied(f"{member.daemon.name} (pid {member.process.pid}) {_how_it_ended(member)}")

    async def stop(self) -> None:
        """Ask clients first, then servers, and kill what has not gone in time."""
        for role in ("client", "server"):
            members = [member for member in self.members if member.daemon.role == role]
            for member in members:
                _signal(member.process, signal.SIGTERM)
            await asyncio.gather(*(_exited(member.process) for member in members))
        self.members.clear()


async def _exited(process: asyncio.subprocess.Process) -> None:
    try:
        async with asyncio.timeout(STOP_S):
            await process.wait()
    except TimeoutError:
        _signal(process, signal.SIGKILL)
        await process.wait()


def _signal(process: asyncio.subprocess.Process, signum: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signum)


def _how_it_ended(member: Member) -> str:
    code = member.process.returncode
    if code is not None and code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    last = _last_line(member.log)
    return f"ended with exit code {code}" + (f": {last}" if last else "")


def _last_line(log: Path) -> str:
    """What the daemon said last, without the command's own prefix; empty when it said nothing."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].removeprefix("freepage: ") if lines else ""
