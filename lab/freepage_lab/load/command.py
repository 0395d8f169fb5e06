"""``freepage load``: finds the clients, starts the generators, shows what happens, and says whether it was enough."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import secrets
import tempfile
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from rich.console import Console

from freepage_lab.daemons import load_token
from freepage_lab.demo.cluster import Cluster
from freepage_lab.load import metrics
from freepage_lab.load.child import ChildGenerator
from freepage_lab.load.generator import ENDS_S, Generator, Plan, all_or_stop, explain
from freepage_lab.load.meter import Growth, Meter
from freepage_lab.load.profile import Profile, load_profile, shipped
from freepage_lab.load.result import Result, examples, knows
from freepage_lab.load.status import LoadStatus
from freepage_lab.load.tally import Tally
from freepage_lab.load.targets import (
    RemoteHost,
    Target,
    Where,
    ask,
    base_like,
    choose_bases,
    export_at,
    parse_discover,
    wait_for_targets,
)
from freepage_lab.load.thresholds import Threshold, parse_threshold
from freepage_lab.load.timeline import Timeline
from freepage_lab.load.view import LiveView, Look, PlainView, print_result
from freepage_lab.outputs import check_output, write_output
from freepage_runtime.cache_metrics import metrics_page
from freepage_runtime.control_client import ControlError, DaemonInfo
from freepage_runtime.errors import UserError
from freepage_runtime.httpd import HttpServer, text_page
from freepage_runtime.process import StopEvent, stop_on_signals
from freepage_runtime.settings import Address, parse_duration
from freepage_runtime.status_page import page_routes

LOOK_EVERY_S = 0.5
METER_EVERY_S = 1.0
FIND_EVERY_S = 5.0
CLEAN_S = 60.0
CLEAN_AFTER_INTERRUPT_S = 4.0
CLEAN_WHEN_STUCK_S = 0.5
"""How long removing the files may take; less after Ctrl-C, and least when operations were stuck already: then a server
is away, and a user who presses Ctrl-C does not want to wait for it."""

DEMO_CLIENTS = ("client1", "client2")
DEMO_CACHE = "32MiB"

FAILED = 1
INTERRUPTED = 130

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Options:
    """The command line. None, or nothing, leaves it to the profile."""

    profile: str
    where: Where
    token_file: Path | None = None
    path: str | None = None
    seed: int | None = None
    duration: str | None = None
    operations: int | None = None
    rate: float | None = None
    workers: int | None = None
    think: str | None = None
    verify: bool | None = None
    processes: int = 1
    wait_s: float = 0.0
    metrics: Address | None = None
    json_file: Path | None = None
    csv_file: Path | None = None
    fail_if: tuple[str, ...] = ()
    keep: bool = False
    demo: bool = False


class AnyGenerator(Protocol):
    """What `Generator` and `ChildGenerator` have in common."""

    async def prepare_shared(self) -> None: ...
    async def prepare(self) -> None: ...
    async def run(self) -> None: ...
    async def clean(self) -> None: ...
    async def clean_shared(self) -> None: ...
    def stop(self, *, at_once: bool = False) -> None: ...
    def set_hosts(self, hosts: Sequence[RemoteHost]) -> None: ...
    def look(self) -> Tally: ...


# --- the command ------------------------------------------------------------------------------------------------------


def load(options: Options, console: Console | None = None) -> int:
    """Drive the load; returns the exit code. Raises UserError."""
    console = console if console is not None else Console(highlight=False)
    profile = adjust(load_profile(options.profile), options)
    thresholds = [
        parse_threshold(text, lambda name: knows(profile, name), examples(profile)) for text in options.fail_if
    ]
    check_output(options.json_file)
    check_output(options.csv_file)
    if options.demo:
        result = asyncio.run(_with_own_cluster(profile, options, console))
    else:
        result = asyncio.run(_Load(profile, options, console).until_stopped())
    figures = result.figures()
    crossed = [threshold for threshold in thresholds if threshold.crossed(figures)]
    print_result(console, result, [_complaint(threshold, figures) for threshold in crossed])
    _write(options, result, crossed)
    if result.interrupted and profile.duration_s is not None:
        return INTERRUPTED
    return FAILED if crossed else 0


async def _with_own_cluster(profile: Profile, options: Options, console: Console) -> Result:
    """The load on a server and clients started for it, which end with it."""
    with tempfile.TemporaryDirectory(prefix="freepage-load-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        (directory / "export").mkdir()
        async with Cluster(directory) as cluster:
            with stop_on_signals() as stop:
                starting = asyncio.ensure_future(_start_cluster(cluster, directory))
                stopped = asyncio.ensure_future(stop.wait())
                await asyncio.wait((starting, stopped), return_when=asyncio.FIRST_COMPLETED)
                stopped.cancel()
                if stop.is_set():
                    starting.cancel()
                    raise _Stopped
                targets = starting.result()
            where = Where(targets=targets)
            return await _Load(profile, dataclasses.replace(options, where=where), console).until_stopped()


async def _start_cluster(cluster: Cluster, directory: Path) -> list[Target]:
    quiet = ["--listen", "127.0.0.1:0"], ["--log-level", "warning"]
    export = f"{directory / 'export'}:/export"
    server = await cluster.start("server", ["server", "--name", "server", "--export", export, *quiet[0], *quiet[1]])
    mount = f"{server.daemon.grpc}:/export=/mnt"
    clients = await asyncio.gather(
        *(
            cluster.start(name, ["client", "--name", name, "--mount", mount, "--cache", DEMO_CACHE, *quiet[1]])
            for name in DEMO_CLIENTS
        )
    )
    return [Target(client.daemon.name, client.daemon.control) for client in clients if client.daemon.control]


def _complaint(threshold: Threshold, figures: dict[str, float | None]) -> str:
    return f"{threshold.text}: it is {figures[threshold.name]:.6g}"


def _write(options: Options, result: Result, crossed: Sequence[Threshold]) -> None:
    report = result.to_json() | {"failed_if": [threshold.text for threshold in crossed]}
    write_output(options.json_file, json.dumps(report, indent=1) + "\n")
    write_output(options.csv_file, result.to_csv())


def list_profiles(console: Console) -> None:
    width = max(map(len, shipped()))
    for name in shipped():
        console.print(f"{name:<{width}}  {load_profile(name).about}", markup=False, soft_wrap=True)


def adjust(profile: Profile, options: Options) -> Profile:
    """The profile with what the command line says otherwise. Raises UserError."""
    changes: dict[str, Any] = {
        name: getattr(options, name)
        for name in ("seed", "rate", "workers", "verify")
        if getattr(options, name) is not None
    }
    if options.think is not None:
        changes["think_s"] = parse_duration(options.think)
    if options.operations is not None:
        changes |= {"operations": options.operations, "duration_s": None}
    if options.duration is not None:
        changes["duration_s"] = None if options.duration == "forever" else parse_duration(options.duration)
        if options.operations is None:
            changes["operations"] = None
    return dataclasses.replace(profile, **changes)


class _Load:
    """One load, from looking for clients to removing the files."""

    def __init__(self, profile: Profile, options: Options, console: Console) -> None:
        self._profile = profile
        self._options = options
        self._console = console
        self._token = load_token(options.token_file)
        self._seed = profile.seed if profile.seed is not None else secrets.randbits(31)
        self._directory = f"freepage-load-{profile.name}-{secrets.token_hex(4)}"
        self._hosts: dict[str, RemoteHost] = {}
        self._generators: list[AnyGenerator] = []
        self._meter = Meter(self._token)
        self._phase = "looking for clients"
        self._began_s = 0.0
        self._baseline = Growth()
        self._left_behind: list[str] = []
        self._timeline = Timeline()
        self._stop = StopEvent()

    async def until_stopped(self) -> Result:
        """The whole load. Ctrl-C ends it early, with the result so far; before there is one it is a UserError."""
        with stop_on_signals() as stop:
            self._stop = stop
            async with contextlib.AsyncExitStack() as stack:
                return await self._run(stack)

    async def _or_stopped(self, work: Coroutine[Any, Any, _T]) -> _T:
        """``work``, unless the user has had enough."""
        working = asyncio.ensure_future(work)
        stopped = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait((working, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise _Stopped
            return working.result()
        finally:
            for task in (working, stopped):
                task.cancel()
            await asyncio.gather(working, stopped, return_exceptions=True)

    async def _run(self, stack: contextlib.AsyncExitStack) -> Result:
        stack.push_async_callback(self._meter.close)
        stack.push_async_callback(self._close_hosts)
        await self._serve_metrics(stack)
        await self._or_stopped(self._find())
        await self._start(stack)
        view = (LiveView if self._console.is_terminal else PlainView)(self._console, self._profile)
        try:
            with view:
                async with self._showing(view):
                    seconds, growth = await self._prepare_and_measure()
        except BaseException:
            for line in self._left_behind:
                self._console.print(f"left behind: {line}", markup=False, soft_wrap=True)
            raise
        return Result(
            profile=self._profile,
            seed=self._seed,
            clients=sorted(self._hosts),
            directory=self._directory,
            seconds=seconds,
            tally=self._tally(),
            growth=growth,
            whole=self._meter.growth,
            interrupted=self._stop.is_set(),
            left_behind=self._left_behind,
            timeline=self._timeline.to_json(),
        )

    async def _prepare_and_measure(self) -> tuple[float, Growth]:
        """How many seconds operations ran, and what the daemons counted meanwhile. The files are removed."""
        try:
            await self._prepare_or_stop()
            seconds = await self._measure()
            return seconds, self._meter.growth.since(self._baseline)
        except (OSError, ControlError) as error:
            raise explain(error) from error
        finally:
            await self._clean()

    def _tally(self) -> Tally:
        together = Tally()
        for generator in self._generators:
            together.add(generator.look())
        return together

    # --- before -----------------------------------------------------------------------------------------------------

    async def _serve_metrics(self, stack: contextlib.AsyncExitStack) -> None:
        if self._options.metrics is None:
            return
        registry = metrics.registry(self._profile, lambda: (self._tally(), len(self._hosts)))
        status = LoadStatus(self._profile, self._look, self._facts)
        http = HttpServer(
            {
                **page_routes(status),
                "/healthz": lambda request: text_page("ok\n"),
                "/metrics": lambda request: metrics_page(registry, request),
            },
            host=self._options.metrics.host,
            port=self._options.metrics.port,
        )
        address = await http.start()
        stack.push_async_callback(http.close)
        sampling = asyncio.ensure_future(status.history.keep())
        stack.callback(sampling.cancel)
        self._console.print(f"status and metrics: {address.url('/')}", markup=False)

    def _facts(self) -> list[tuple[str, str]]:
        """What the status page says about this load."""
        profile = self._profile
        return [
            ("profile", profile.about),
            ("phase", self._phase),
            ("loop", f"open, {profile.rate:g} operations/s" if profile.rate else "closed"),
            ("workers", f"{profile.workers} on each client, {len(self._generators)} processes"),
            ("clients", ", ".join(sorted(self._hosts))),
            ("seed", str(self._seed)),
        ]

    async def _find(self) -> None:
        options = self._options
        together = any(files.shared for files in self._profile.files.values())
        found = await wait_for_targets(options.where, self._token, options.wait_s)
        bases = choose_bases(found, options.path, together=together)
        for target, info in found:
            self._hosts[target.name] = self._host(target, info, bases[target.name])
        await self._meter.watch(host.target for host in self._hosts.values())
        await self._meter.look()

    def _host(self, target: Target, info: DaemonInfo, base: str) -> RemoteHost:
        return RemoteHost(target, base, export_at(info, base), info.memory_bytes, self._token)

    async def _start(self, stack: contextlib.AsyncExitStack) -> None:
        processes = min(self._options.processes, self._profile.workers)
        hosts = list(self._hosts.values())
        plans = [Plan(self._profile, self._seed, self._directory, index, processes) for index in range(processes)]
        if processes == 1:
            self._generators = [Generator(plans[0], hosts)]
            return
        for plan in plans:
            child = ChildGenerator(plan, hosts, self._token)
            await child.start()
            stack.push_async_callback(child.close)
            self._generators.append(child)

    async def _prepare_or_stop(self) -> None:
        """Prepare. Asked to stop, let the calls under way end: what they make must be there to be removed."""
        preparing = asyncio.ensure_future(self._prepare())
        stopped = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait((preparing, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not preparing.done():
                self._stop_generators()
                await asyncio.wait((preparing,), timeout=ENDS_S)
            if self._stop.is_set():
                raise _Stopped
            preparing.result()
        finally:
            for task in (preparing, stopped):
                task.cancel()
            await asyncio.gather(preparing, stopped, return_exceptions=True)

    def _stop_generators(self) -> None:
        for generator in self._generators:
            generator.stop(at_once=True)

    async def _prepare(self) -> None:
        self._phase = "preparing"
        await self._generators[0].prepare_shared()
        await all_or_stop((generator.prepare() for generator in self._generators), self._stop_generators)

    # --- the load ---------------------------------------------------------------------------------------------------

    async def _measure(self) -> float:
        """Run the operations; returns how many seconds they ran."""
        loop = asyncio.get_running_loop()
        await self._meter.look()
        self._baseline = self._meter.growth.copy()
        self._phase, self._began_s = "running", loop.time()
        running = asyncio.ensure_future(_all(generator.run() for generator in self._generators))
        finding = asyncio.ensure_future(self._keep_finding())
        stopped = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait(
                (running, stopped), timeout=self._profile.duration_s, return_when=asyncio.FIRST_COMPLETED
            )
            seconds = loop.time() - self._began_s
            for generator in self._generators:
                generator.stop(at_once=self._stop.is_set())
            await running
        finally:
            for task in (running, finding, stopped):
                task.cancel()
            await asyncio.gather(running, finding, stopped, return_exceptions=True)
        await self._meter.look()
        return seconds

    async def _keep_finding(self) -> None:
        """Clients that a DNS name has gained or lost since."""
        if not self._options.where.changes:
            return
        while True:
            await asyncio.sleep(FIND_EVERY_S)
            targets = await self._options.where.find()
            known = {target.address for target in targets}
            hosts = {name: host for name, host in self._hosts.items() if host.target.address in known}
            for target in targets:
                if target.name not in hosts:
                    try:
                        info = await ask(target, self._token)
                    except UserError:
                        continue  # not ready yet: the next time
                    base = self._options.path or base_like(info, {host.export for host in self._hosts.values()})
                    if base is not None:
                        hosts[target.name] = self._host(target, info, base)
            if hosts.keys() != self._hosts.keys() and hosts:
                gone = [host for name, host in self._hosts.items() if name not in hosts]
                self._hosts = hosts
                await self._meter.watch(host.target for host in hosts.values())
                for generator in self._generators:
                    generator.set_hosts(list(hosts.values()))
                for host in gone:
                    await host.close()

    # --- after ------------------------------------------------------------------------------------------------------

    async def _clean(self) -> None:
        """Remove the files, as far as that is possible in a reasonable time."""
        if not self._generators:
            return
        where = f"{self._directory} under {', '.join(sorted({host.base for host in self._hosts.values()}))}"
        if self._options.keep:
            self._left_behind.append(f"{where} (--keep)")
            return
        self._phase = "cleaning up"
        stuck = any(what == "unfinished" for _, what in self._tally().errors)
        limit_s = CLEAN_S if not self._stop.is_set() else CLEAN_WHEN_STUCK_S if stuck else CLEAN_AFTER_INTERRUPT_S
        try:
            async with asyncio.timeout(limit_s):
                await _all(generator.clean() for generator in self._generators)
                await self._generators[0].clean_shared()
                await self._meter.look()
        except TimeoutError:
            self._left_behind.append(f"{where} (not removed within {limit_s:g} s: is a server away?)")
        except (OSError, UserError) as error:
            self._left_behind.append(f"{where} ({error})")

    async def _close_hosts(self) -> None:
        for host in self._hosts.values():
            await host.close()

    # --- showing ----------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _showing(self, view: LiveView | PlainView) -> AsyncIterator[None]:
        tasks = [asyncio.ensure_future(self._keep_showing(view)), asyncio.ensure_future(self._keep_metering())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep_showing(self, view: LiveView | PlainView) -> None:
        while True:
            view.show(self._look())
            await asyncio.sleep(LOOK_EVERY_S)

    async def _keep_metering(self) -> None:
        while True:
            await asyncio.sleep(METER_EVERY_S)
            await self._meter.look()
            if self._phase == "running":
                look = self._look()
                self._timeline.add(look.elapsed_s, look.tally, look.growth)

    def _look(self) -> Look:
        tally, profile = self._tally(), self._profile
        elapsed_s = asyncio.get_running_loop().time() - self._began_s if self._began_s else 0.0
        share = None
        if profile.operations:
            share = (tally.done + tally.failed) / profile.operations
        elif profile.duration_s:
            share = elapsed_s / profile.duration_s
        growth = self._meter.growth.since(self._baseline)
        return Look(self._phase, elapsed_s, share, tally, growth, len(self._hosts), len(self._generators))


class _Stopped(UserError):
    """The user has had enough before anything was measured."""

    exit_code = INTERRUPTED

    def __init__(self) -> None:
        super().__init__("stopped")


async def _all(work: Any) -> None:
    await asyncio.gather(*work)


def make_where(addresses: Sequence[str], names: Sequence[str], discover: str | None, demo: bool) -> Where:
    """Raises UserError when the options contradict each other."""
    if demo and (discover is not None or addresses or names):
        raise UserError("--demo starts the clients itself: leave --address, --name and --discover out")
    if discover is not None and (addresses or names):
        raise UserError("--discover finds the clients itself: leave --address and --name out")
    found = None if discover is None else parse_discover(discover)
    return Where(addresses=addresses, names=names, discover=found)
