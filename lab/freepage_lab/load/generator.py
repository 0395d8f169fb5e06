"""One process's share of a load: its workers on all client hosts, when each operation begins, and what it counts.

A worker keeps going whatever happens to its client daemon: when the daemon cannot be asked, the worker counts that,
waits, begins a new task, writes its files anew (a host that was killed loses what it had not written back) and goes
on. A server that is away is not an error: a hard mount waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import random
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from freepage_lab.load.files import Corrupt, WorkingSet
from freepage_lab.load.profile import Operation, Profile
from freepage_lab.load.program import Program
from freepage_lab.load.tally import Tally
from freepage_runtime.control_client import ControlError
from freepage_runtime.errors import UserError

RETRY_S = 0.5
"""Pause after the daemon could not be asked, and a tenth of it after a system call has failed."""

UNFINISHED_S = 5.0
"""How long operations under way may take after the end."""

ENDS_S = 2.0
"""How long preparing may go on after it has failed elsewhere, or after Ctrl-C."""


class Host(Protocol):
    """A client host: its name, where the load's directory goes, and how to begin a task there."""

    @property
    def name(self) -> str: ...
    @property
    def base(self) -> str: ...
    @property
    def export(self) -> str:
        """What lies there: hosts with the same one see the same files."""
        ...

    @property
    def memory_bytes(self) -> int | None: ...

    async def begin(self) -> Any:
        """A new task, with the calls of ``RemoteTask``. Raises ControlError."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """``index`` of ``processes`` tells one process's share from the others'. ``directory`` is the load's own."""

    profile: Profile
    seed: int
    directory: str
    index: int = 0
    processes: int = 1


class Schedule:
    """When operations begin. Closed loop: as soon as a worker is free. Open loop: when they arrive, free or not.

    In an open loop a worker takes the next arrival, waits for it or is late, and measures from the time it was due: a
    slow answer delays those behind it, and that is counted.
    """

    def __init__(self, profile: Profile, plan: Plan, now: Callable[[], float]) -> None:
        self._now = now
        self._rate = profile.rate / plan.processes
        self._constant = profile.arrivals == "constant"
        self._chance = random.Random(f"{plan.seed}/arrivals/{plan.index}")
        self._due_s = 0.0
        self._left: int | None = None
        if profile.operations is not None:
            share, rest = divmod(profile.operations, plan.processes)
            self._left = share + (plan.index < rest)
        self.total = self._left

    def begin(self) -> None:
        self._due_s = self._now()

    def take(self) -> float | None:
        """When the next operation is due: now, or an arrival. None: there are no more."""
        if self._left is not None:
            if self._left <= 0:
                return None
            self._left -= 1
        if not self._rate:
            return self._now()
        due = self._due_s
        self._due_s += 1 / self._rate if self._constant else self._chance.expovariate(self._rate)
        return due

    @property
    def late_s(self) -> float:
        """How long ago the next arrival was due."""
        return max(self._now() - self._due_s, 0.0) if self._rate and self._due_s else 0.0

    def owed(self) -> int:
        """Arrivals that were due and that nobody began."""
        count = 0
        while self._rate and self._due_s <= self._now() and count < 1_000_000:
            if self.take() is None:
                break
            count += 1
        return count


class Generator:
    """The workers of one process. Call ``prepare_shared`` (one process), ``prepare``, ``run`` and ``clean`` in turn."""

    def __init__(self, plan: Plan, hosts: Sequence[Host]) -> None:
        self.plan = plan
        self.tally = Tally()
        self.hosts: dict[str, Host] = {}
        self.now = asyncio.get_running_loop().time
        self._schedule = Schedule(plan.profile, plan, self.now)
        self._shared: dict[str, WorkingSet] = {}
        self._workers: dict[str, list[_Worker]] = {}
        self._running: dict[_Worker, asyncio.Task[None]] = {}
        self._started = False
        self._stop = asyncio.Event()
        self._patience_s = UNFINISHED_S
        for host in hosts:
            self._add(host)

    def _add(self, host: Host) -> None:
        plan = self.plan
        self.hosts[host.name] = host
        numbers = range(plan.index, plan.profile.workers, plan.processes)
        self._workers[host.name] = [_Worker(self, host, number) for number in numbers]

    def root(self, host: Host) -> str:
        return f"{host.base.rstrip('/')}/{self.plan.directory}"

    def shared_sets(self, host: Host) -> dict[str, WorkingSet]:
        """The sets that all use, as seen on this host. Made once per place where a host sees them."""
        root = self.root(host)
        return {
            name: self._shared.setdefault(f"{root}/{name}", self._working_set(name, f"{root}/shared/{name}", host, ""))
            for name, files in self.plan.profile.files.items()
            if files.shared
        }

    def private_sets(self, host: Host, root: str, who: str) -> dict[str, WorkingSet]:
        return {
            name: self._working_set(name, f"{root}/{name}", host, who)
            for name, files in self.plan.profile.files.items()
            if not files.shared
        }

    def _working_set(self, name: str, root: str, host: Host, who: str) -> WorkingSet:
        return WorkingSet(
            self.plan.profile.files[name],
            root,
            seed=f"{self.plan.seed}/{who}",
            memory_bytes=host.memory_bytes,
            workers=self.plan.profile.workers,
        )

    # --- phases -----------------------------------------------------------------------------------------------------

    async def prepare_shared(self) -> None:
        """Make the load's directory and the shared files, from the first host. Raises OSError or ControlError."""
        host = next(iter(self.hosts.values()))
        program = Program(await host.begin(), {}, self.tally, chance=random.Random(0), now=self.now, verify=False)
        await program.make_directories(self.root(host))
        for files in self.shared_sets(host).values():
            await program.prepare(files, self._stop.is_set)
        await program.task.exit()

    async def prepare(self) -> None:
        """Write every worker's files. Raises the first OSError or ControlError."""
        for host in self.hosts.values():
            for files in self.shared_sets(host).values():
                for file in files.files:
                    file.present = True
        await all_or_stop((worker.prepare() for workers in self._workers.values() for worker in workers), self.stop)

    async def run(self) -> None:
        """Until `stop`, or until every operation of a counted load is done."""
        self._started = True
        self._schedule.begin()
        for workers in self._workers.values():
            for worker in workers:
                self._start(worker)
        stopped = asyncio.ensure_future(self._stop.wait())
        try:
            while self._running and not self._stop.is_set():
                await asyncio.wait((stopped, *self._running.values()), return_when=asyncio.FIRST_COMPLETED)
                self._collect()
        finally:
            stopped.cancel()
            await self._finish()

    def _start(self, worker: _Worker) -> None:
        self._running[worker] = asyncio.ensure_future(worker.run())

    def _collect(self) -> None:
        """Let go of workers that have ended; a mistake of ours among them is raised."""
        for worker, task in list(self._running.items()):
            if task.done():
                del self._running[worker]
                if not task.cancelled():
                    task.result()

    async def _finish(self) -> None:
        self.tally.not_started = self._schedule.owed() if self._stop.is_set() else 0
        if self._running:
            await asyncio.wait(self._running.values(), timeout=self._patience_s)
        for worker, task in list(self._running.items()):
            if not task.done():
                task.cancel()
                if worker.operation is not None:
                    self.tally.fail(worker.operation, "unfinished", f"{worker.host.name}: it has not ended")
        await asyncio.gather(*self._running.values(), return_exceptions=True)
        self._collect_quietly()
        self.tally.in_flight = 0

    def _collect_quietly(self) -> None:
        self._running = {worker: task for worker, task in self._running.items() if not task.done()}

    def stop(self, *, at_once: bool = False) -> None:
        """Begin no more operations; ``at_once`` does not wait for those under way either."""
        if at_once:
            self._patience_s = 0.2
        self._stop.set()

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    def look(self) -> Tally:
        """What has been counted, with the figures of this moment."""
        self.tally.late_s = self._schedule.late_s if self._started and not self.stopped else 0.0
        return self.tally

    @property
    def total(self) -> int | None:
        """How many operations this process is to do; None without a count."""
        return self._schedule.total

    def set_hosts(self, hosts: Sequence[Host]) -> None:
        """These are the client hosts now: new ones get workers, the workers of those that are gone end."""
        names = {host.name for host in hosts}
        for host in hosts:
            if host.name not in self.hosts:
                self._add(host)
                for files in self.shared_sets(host).values():
                    for file in files.files:
                        file.present = True
                if self._started and not self.stopped:
                    for worker in self._workers[host.name]:
                        self._start(worker)
        for name in self.hosts.keys() - names:
            del self.hosts[name]
            for worker in self._workers.pop(name):
                worker.gone = True
                if worker in self._running:
                    self._running.pop(worker).cancel()  # it may be waiting for an answer that never comes

    async def clean(self) -> None:
        """Remove each worker's files. Raises OSError; a daemon that cannot be asked leaves its files to the others."""
        await all_or_stop((worker.clean() for workers in self._workers.values() for worker in workers), self.stop)

    async def clean_shared(self) -> None:
        """Remove the load's directory from every export. Raises OSError, or ControlError when no host can be asked."""
        removed, problems = set(), {}
        for host in self.hosts.values():
            if host.export in removed:
                continue
            try:
                task = await host.begin()
                program = Program(task, {}, self.tally, chance=random.Random(0), now=self.now, verify=False)
                await program.remove(self.root(host))
                await task.exit()
                removed.add(host.export)
            except ControlError as error:
                problems[host.export] = error
        for export, problem in problems.items():
            if export not in removed:
                raise problem


async def all_or_stop(work: Iterable[Coroutine[Any, Any, None]], stop: Callable[[], None]) -> None:
    """All of it at once. At the first failure ``stop`` asks the rest to end, and then that failure is raised.

    They end by themselves, or after `ENDS_S` by being cancelled: a system call that is cut off here goes on over there,
    and would put a file into a directory that is being removed.
    """
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        if not tasks:
            return
        done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        if rest:
            stop()
            await asyncio.wait(rest, timeout=ENDS_S)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Worker:
    """One program of the profile on one host, for the length of the load."""

    def __init__(self, generator: Generator, host: Host, number: int) -> None:
        plan = generator.plan
        self.host = host
        self.operation: str | None = None
        """the operation under way"""
        self.gone = False
        self._generator = generator
        self._profile = plan.profile
        self._tally = generator.tally
        self._who = f"{host.name}-w{number}"
        self._chance = random.Random(f"{plan.seed}/{host.name}/{number}")
        self._weights = [operation.weight for operation in plan.profile.mix]
        self._task: Any = None
        """begun, and not yet ended"""
        self._program: Program | None = None
        """the task with all its files prepared; None before that, and when the daemon could not be asked"""

    @property
    def _root(self) -> str:
        return f"{self._generator.root(self.host)}/{self._who.replace(':', '_').replace('/', '_')}"

    @property
    def _done(self) -> bool:
        return self._generator.stopped or self.gone

    async def prepare(self) -> None:
        """Begin a task and write the files. Raises OSError or ControlError."""
        generator = self._generator
        self._program = None
        private = generator.private_sets(self.host, self._root, self._who)
        self._task = await self.host.begin()
        program = Program(
            self._task,
            private | generator.shared_sets(self.host),
            self._tally,
            chance=self._chance,
            now=generator.now,
            verify=self._profile.verify,
        )
        await program.make_directories(self._root)
        for files in private.values():
            await program.prepare(files, lambda: self._done)
        self._program = program

    async def run(self) -> None:
        """Operations, until there are no more or the load is stopped."""
        while not self._done:
            due = self._generator._schedule.take()
            if due is None or not await self._wait(due):
                return
            (operation,) = self._chance.choices(self._profile.mix, self._weights)
            self.operation = operation.name
            self._tally.in_flight += 1
            try:
                await self._attempt(operation, due)
            finally:
                self._tally.in_flight -= 1
            self.operation = None
            if self._profile.think_s and not self._profile.rate:
                await self._pause(self._chance.expovariate(1 / self._profile.think_s))

    async def _attempt(self, operation: Operation, due: float) -> None:
        generator, name = self._generator, operation.name
        try:
            if self._program is None:
                await self.prepare()
                due = max(due, generator.now()) if not self._profile.rate else due
            assert self._program is not None
            for step in operation.steps:
                await self._program.do(step)
        except Corrupt as corrupt:
            self._tally.fail(name, "corrupt", f"{self.host.name}: {corrupt}")
        except OSError as error:
            what = errno.errorcode.get(error.errno or 0, "EIO")
            self._tally.fail(name, what, f"{self.host.name}: {_words(error)}")
            await self._pause(RETRY_S / 10)
        except ControlError as error:
            self._program = None
            if not self._done:
                self._tally.fail(name, "unreachable", str(error))
                await self._pause(RETRY_S)
        else:
            self._tally.operation(name).record(generator.now() - due)

    async def _wait(self, due: float) -> bool:
        """Until ``due``; False when the load is stopped before."""
        await self._pause(due - self._generator.now())
        return not self._done

    async def _pause(self, seconds: float) -> None:
        """Let time pass, unless the load is stopped."""
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._generator._stop.wait()

    async def clean(self) -> None:
        if self._task is not None:
            self._program = None
            with contextlib.suppress(ControlError):  # the task may be lost with its daemon
                await self._task.exit()  # what is open would be renamed by its unlink, not removed
            self._task = None
        with contextlib.suppress(ControlError):
            task = await self.host.begin()
            program = Program(task, {}, self._tally, chance=self._chance, now=self._generator.now, verify=False)
            await program.remove(self._root)
            await task.exit()


def _words(error: OSError) -> str:
    where = error.filename
    text = error.strerror or str(error)
    if isinstance(where, bytes):
        where = where.decode("utf-8", "replace")
    return f"{where}: {text}" if where else text


def explain(error: BaseException) -> UserError:
    """A failure to prepare, as a line for the user."""
    return UserError(f"cannot prepare the files: {_words(error) if isinstance(error, OSError) else error}")
