"""``freepage demo``: puts tree, cluster, workload and phases together, shows what happens, and says whether it was
right."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from freepage_lab.demo.cluster import Cluster, Member
from freepage_lab.demo.phases import PATHS, PHASES, Figures, Phase, PhaseResult, judge
from freepage_lab.demo.timeline import Timeline
from freepage_lab.demo.tree import Tree, check_source, copy_tree
from freepage_lab.demo.view import LiveView, Look, PlainView, View, print_summary
from freepage_lab.demo.workload import Host, Workload
from freepage_lab.outputs import check_output, write_output
from freepage_runtime.control_client import ControlClient, Stats
from freepage_runtime.errors import UserError
from freepage_runtime.process import stop_on_signals
from freepage_runtime.settings import format_size

LOOK_EVERY_S = 0.25
EXPORT = "/export"
LEAST_CACHE_BYTES = 1 << 20
INTERRUPTED = 130
"""The shell's exit code for Ctrl-C."""


class Interrupted(UserError):
    """The user has had enough."""

    exit_code = INTERRUPTED


@dataclass(frozen=True, slots=True)
class Options:
    """``seconds`` is the least each phase lasts; it always does a whole round of the workload."""

    clients: int = 3
    servers: int = 2
    cache_bytes: int = 4 << 20
    seconds: float = 8.0
    seed: int = 1
    json_file: Path | None = None
    hold: bool = False
    export: Path | None = None


def demo(options: Options, console: Console | None = None) -> bool:
    """Whether every phase behaved. Raises UserError; whatever happens, no process and no directory stays behind."""
    console = console if console is not None else Console()
    source = check_source(options.export)
    if options.cache_bytes < LEAST_CACHE_BYTES:
        raise UserError(f"--cache: at least {format_size(LEAST_CACHE_BYTES)}, or the files in use do not fit")
    check_output(options.json_file)
    with _temporary_directory() as directory:
        return asyncio.run(_until_stopped(_Demo(options, console, source, directory)))


@contextlib.contextmanager
def _temporary_directory() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="freepage-demo-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def _until_stopped(demo: _Demo) -> bool:
    """The demo, ended early by Ctrl-C or SIGTERM as by any other error."""
    with stop_on_signals() as stop:
        running = asyncio.ensure_future(demo.run())
        stopped = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((running, stopped), return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                return running.result()
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                return await running
            if demo.finished is not None:
                return demo.finished
            raise Interrupted("stopped")
        finally:
            stopped.cancel()


class _Demo:
    def __init__(self, options: Options, console: Console, source: Path, directory: Path) -> None:
        self.finished: bool | None = None
        """Whether all phases behaved; None before the last one has ended."""
        self._options = options
        self._console = console
        self._source = source
        self._directory = directory
        self._cache_bytes = options.cache_bytes
        self._hosts: list[Host] = []
        self._workloads: list[Workload] = []
        self._servers: list[tuple[str, ControlClient]] = []
        self._results: list[PhaseResult] = []
        self._timeline = Timeline()

    def _view(self) -> View:
        servers, clients = _count(self._options.servers, "server"), _count(self._options.clients, "client")
        title = f"freepage demo   {servers}, {clients}"
        if self._console.is_terminal:
            return LiveView(self._console, title, self._cache_bytes)
        return PlainView(self._console)

    async def run(self) -> bool:
        started = time.monotonic()
        async with contextlib.AsyncExitStack() as stack:
            cluster = await stack.enter_async_context(Cluster(self._directory))
            with self._view() as view:
                await self._prepare(cluster, stack, view)
                await self._watched(cluster, self._play(view))
            addresses = [(member.daemon.name, f"http://{member.daemon.metrics}/metrics") for member in cluster.members]
            self.finished = all(result.ok for result in self._results)
            print_summary(self._console, self._results, addresses, time.monotonic() - started)
            self._write_json()
            if self._options.hold:
                self._console.print(
                    "running until Ctrl-C; try: freepage ps, freepage audit, freepage ctl hooks", style="dim"
                )
                await self._watched(cluster, self._go_on())
        return self.finished

    async def _watched(self, cluster: Cluster, work: Any) -> None:
        """Do ``work`` while no daemon dies; the first failure ends both."""
        tasks = [asyncio.ensure_future(work), asyncio.ensure_future(cluster.watch())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if tasks[0] in done and tasks[0].exception() is not None and tasks[1] not in done:
                # A system call may fail because its server has just died: let the cluster say so if it wants to.
                await asyncio.wait(tasks[1:], timeout=0.2)
            if tasks[1].done():
                tasks[1].result()
            tasks[0].result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # --- preparation ------------------------------------------------------------------------------------------------

    async def _prepare(self, cluster: Cluster, stack: contextlib.AsyncExitStack, view: View) -> None:
        options = self._options
        what = "Python's standard library" if options.export is None else str(self._source)
        view.say(f"copying {what} for {_count(options.servers, 'server')}")
        trees = []
        for number in range(options.servers):
            target = self._directory / f"export{number + 1}"
            target.mkdir()
            trees.append(
                await asyncio.to_thread(
                    copy_tree,
                    self._source,
                    target,
                    standard_library=options.export is None,
                    at_least_bytes=2 * self._cache_bytes // options.servers,
                )
            )
        view.say(f"starting {_count(options.servers, 'server')} and {_count(options.clients, 'client')}")
        servers = await _all(
            cluster.start(f"server{number + 1}", self._server_arguments(f"server{number + 1}", tree))
            for number, tree in enumerate(trees)
        )
        mountpoints = [f"/mnt/server{number + 1}" for number in range(options.servers)]
        clients = await _all(
            cluster.start(f"client{number + 1}", self._client_arguments(f"client{number + 1}", servers, mountpoints))
            for number in range(options.clients)
        )
        for member in servers:
            self._servers.append((member.daemon.name, await stack.enter_async_context(_control(member))))
        for member in clients:
            self._hosts.append(await _host(member, stack))
        self._make_workloads(trees, mountpoints)
        await _all(_on(workload, workload.prepare()) for workload in self._workloads)

    def _server_arguments(self, name: str, tree: Tree) -> list[str]:
        return [
            "server", "--name", name, "--export", f"{tree.root}:{EXPORT}",
            "--cache", str(self._cache_bytes),
            "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--metrics", "127.0.0.1:0",
            "--seed", str(self._options.seed), "--log-level", "warning",
        ]  # fmt: skip

    def _client_arguments(self, name: str, servers: Sequence[Member], mountpoints: Sequence[str]) -> list[str]:
        arguments = [
            "client", "--name", name, "--cache", str(self._cache_bytes),
            "--control", "127.0.0.1:0", "--metrics", "127.0.0.1:0",
            "--seed", str(self._options.seed), "--log-level", "warning",
        ]  # fmt: skip
        for server, mountpoint in zip(servers, mountpoints, strict=True):
            arguments += ["--mount", f"{server.daemon.grpc}:{EXPORT}={mountpoint}"]
        return arguments

    def _make_workloads(self, trees: Sequence[Tree], mountpoints: Sequence[str]) -> None:
        for number, host in enumerate(self._hosts):
            neighbour = self._hosts[(number + 1) % len(self._hosts)]
            self._workloads.append(
                Workload(
                    host,
                    neighbour,
                    trees,
                    mountpoints,
                    cache_bytes=self._cache_bytes,
                    seed=f"{self._options.seed}-{host.name}",
                )
            )

    # --- the phases -------------------------------------------------------------------------------------------------

    async def _play(self, view: View) -> None:
        for number, phase in enumerate(PHASES):
            view.begin(number, phase)
            result = await self._phase(phase, view)
            self._results.append(result)
            view.end(number, result)

    async def _phase(self, phase: Phase, view: View) -> PhaseResult:
        rules = [f"{path}={action}" for path, action in phase.policy.items()]
        await _all(control.set_hook_policy(*rules) for control in self._controls())
        clients_before, servers_before = await self._stats()
        began = time.monotonic()
        deadline = began + self._options.seconds
        looking = asyncio.ensure_future(self._keep_looking(phase, view, clients_before, began))
        try:
            await _all(self._rounds(workload, deadline) for workload in self._workloads)
            await _all(control.sync_all() for control in self._controls())
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
        clients_after, servers_after = await self._stats(audit=True)
        figures = Figures.between(clients_before, clients_after)
        self._timeline.add(phase.name, figures, clients_after)
        view.look(Look(figures, self._named(clients_after), 1.0))
        return judge(phase, (clients_before, clients_after), (servers_before, servers_after))

    async def _rounds(self, workload: Workload, deadline: float) -> None:
        """One whole round, and then more until the time is up."""
        await _on(workload, workload.round(lambda: False))
        while time.monotonic() < deadline:
            await _on(workload, workload.round(lambda: time.monotonic() >= deadline))

    async def _keep_looking(self, phase: Phase, view: View, before: Sequence[Stats], began: float) -> None:
        while True:
            after, _ = await self._stats(servers=False)
            elapsed = (time.monotonic() - began) / max(self._options.seconds, 0.001)
            figures = Figures.between(before, after)
            self._timeline.add(phase.name, figures, after)
            view.look(Look(figures, self._named(after), min(elapsed, 1.0)))
            await asyncio.sleep(LOOK_EVERY_S)

    async def _go_on(self) -> None:
        while True:
            await _all(_on(workload, workload.round(lambda: False)) for workload in self._workloads)

    # --- helpers ----------------------------------------------------------------------------------------------------

    def _controls(self) -> list[ControlClient]:
        return [host.machine for host in self._hosts] + [control for _, control in self._servers]

    async def _stats(self, *, audit: bool = False, servers: bool = True) -> tuple[list[Stats], list[Stats]]:
        clients = await _all(host.machine.stats(audit=audit) for host in self._hosts)
        return clients, await _all(control.stats(audit=audit) for _, control in self._servers) if servers else []

    def _named(self, stats: Sequence[Stats]) -> list[tuple[str, Stats]]:
        return [(host.name, one) for host, one in zip(self._hosts, stats, strict=True)]

    def _write_json(self) -> None:
        report = {
            "phases": [result.to_json() for result in self._results],
            "ok": self.finished,
            "timeline": self._timeline.to_json(),
        }
        write_output(self._options.json_file, json.dumps(report, indent=1) + "\n")


async def _on(workload: Workload, work: Awaitable[None]) -> None:
    """Await ``work``; a system call that fails in it ends the demo, with the host's name and the call's own words."""
    try:
        await work
    except OSError as error:
        where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        raise UserError(f"{workload.name}: {where}{error.strerror}") from error


async def _all(work: Any) -> list[Any]:
    """Everything at once; the first failure is raised when the others have ended or been cancelled."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _control(member: Member) -> ControlClient:
    assert member.daemon.control is not None
    return ControlClient(member.daemon.control)


async def _host(member: Member, stack: contextlib.AsyncExitStack) -> Host:
    from freepage_client.io.remote import RemoteMachine

    assert member.daemon.control is not None
    machine = await stack.enter_async_context(RemoteMachine(member.daemon.control))
    return Host(member.daemon.name, machine, await machine.task())


__all__ = ["PATHS", "Interrupted", "Options", "demo"]
