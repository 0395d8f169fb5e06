"""Faults in real daemons, seen by a real Prometheus: exactly the alerts of docs/alerts.md fire, and end as it says."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import pytest

from alerts_page import FAULTS, POLICY, FaultRow, on_paths
from daemon_rig import DaemonProcess, client, server
from freepage import RemovalPath
from freepage_client.io.remote import RemoteMachine, RemoteTask
from prometheus_rig import HURRY, INTERVAL_S, Prometheus, Target

PAGE = 4096
PATHS = [path.value for path in RemovalPath]
HEALTHY = "healthy"
CLIENT_OPTIONS = ("--cache", "16MiB", "--audit-every", str(INTERVAL_S))

FAST = {"skip", "call_twice", "late_pointer", "block", "leak_credential", POLICY}
NO_SYSTEM_CALL = {"skip_recheck"}
"""Needs a race; the page says so."""


class Program:
    """What makes pages leave one client's cache by every path, again and again."""

    def __init__(self, name: str, machine: RemoteMachine, task: RemoteTask, export: Path) -> None:
        self.name = name
        self.machine = machine
        self.task = task
        self._export = export
        self._serial = 0

    async def round(self) -> None:
        self._serial += 1
        names = [f"{self.name}-{self._serial}-{kind}" for kind in ("cut", "changed", "kept", "gone", "dropped")]
        cut, changed, kept, gone, dropped = names
        for name in names:
            (self._export / name).write_bytes(os.urandom(40 * PAGE))
            await self._read(name)
        assert await self.machine.replace_pages(f"/mnt/{kept}", 0, 3, "migrate") == 3
        assert await self.machine.replace_pages(f"/mnt/{kept}", 0, 3, "poison") == 3  # truncate, by another function
        assert await self.machine.replace_pages(f"/mnt/{kept}", 3, 10) == 10
        await self.task.truncate(f"/mnt/{cut}", PAGE)
        (self._export / changed).write_bytes(os.urandom(40 * PAGE))
        await self._read(changed)  # invalidate: the open finds another ctime
        await self.task.unlink(f"/mnt/{gone}")  # evict
        assert await self.machine.resize_memory(32 * PAGE) > 0  # reclaim, without programs that wait for it
        await self.machine.resize_memory(16 << 20)
        await self._read(dropped)
        await self.machine.drop_caches(1)

    async def _read(self, name: str) -> None:
        fd = await self.task.open(f"/mnt/{name}", os.O_RDONLY)
        while await self.task.read(fd, 1 << 20, discard=True):
            pass
        await self.task.close(fd)


def start(stack: ExitStack, export: Path, names: list[str]) -> tuple[DaemonProcess, dict[str, DaemonProcess]]:
    serving = stack.enter_context(server(export)).wait_ready()
    clients: dict[str, DaemonProcess] = {}
    for pair in batched(names, 2):  # more at once, and two processors are too busy to answer a mount in time
        started = {name: stack.enter_context(client(serving, *CLIENT_OPTIONS, name=slug(name))) for name in pair}
        for daemon in started.values():
            daemon.wait_ready()
        clients |= started
    return serving, clients


def batched(names: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(names), size):
        yield names[start : start + size]


def slug(name: str) -> str:
    return "-".join(re.findall(r"\w+", name))


def seen(alerts: dict[str, set[str]]) -> dict[str, set[str]]:
    """Without what a busy machine may raise here: a daemon that answers a scrape too late is not down."""
    cut = {service: {name for name in names if not name.endswith("Down")} for service, names in alerts.items()}
    return {service: names for service, names in cut.items() if names}


async def strike(program: Program, fault: FaultRow) -> None:
    if fault.name == POLICY:
        await program.machine.set_hook_policy("all=skip")
    else:
        await program.machine.set_fault(fault.name)
    await program.round()


async def heal(program: Program, fault: FaultRow) -> None:
    audit = await program.machine.audit()
    if fault.name == POLICY:
        await program.machine.set_hook_policy("all=run")
    else:
        struck = {each.name: each.struck for each in await program.machine.faults()}
        assert struck[fault.name] > 0, f"{fault.name} never struck"
        await program.machine.set_fault("off")
    assert fault.audit in audit.text, f"{fault.name}: {audit.text}"
    await program.round()


async def story(faults: list[FaultRow], clients: dict[str, DaemonProcess], export: Path, prom: Prometheus) -> None:
    async with AsyncExitStack() as stack:
        programs: dict[str, Program] = {}
        for name, daemon in clients.items():
            machine = await stack.enter_async_context(RemoteMachine(daemon.control))
            programs[name] = Program(slug(name), machine, await machine.task(), export)

        async def for_each(act: Callable[[Program, FaultRow], object]) -> None:
            for fault in faults:
                await act(programs[fault.name], fault)  # type: ignore[misc]

        for program in programs.values():
            await program.round()
        assert seen(prom.fired()) == {}

        expected = {fault.name: on_paths(fault.alerts, PATHS) for fault in faults}
        may = {fault.name: on_paths(fault.may_alert, PATHS) for fault in faults}
        stay = {fault.name: set(fault.stay) for fault in faults if fault.stay}
        await for_each(strike)
        await asyncio.to_thread(
            prom.wait,
            lambda: all(alerts <= prom.fired().get(name, set()) for name, alerts in expected.items()),
            f"the alerts {expected}",
        )
        await for_each(heal)
        await programs[HEALTHY].round()
        await asyncio.to_thread(prom.wait, lambda: seen(prom.firing()) == stay, f"only {stay} to go on firing")
        fired = seen(prom.fired())
        assert fired.keys() == expected.keys()
        for name, alerts in expected.items():
            assert fired[name] - may[name] == alerts - may[name], name


def watch(names: set[str], tmp_path: Path, require_tool: Callable[..., str]) -> None:
    binary = require_tool("prometheus", debian="prometheus")
    faults = [fault for fault in FAULTS if fault.name in names]
    export = tmp_path / "export"
    export.mkdir()
    with ExitStack() as stack:
        serving, clients = start(stack, export, [HEALTHY, *(fault.name for fault in faults)])
        targets: list[Target] = [("freepage-server", "server", serving.ready["metrics"])]
        targets += [("freepage-client", name, daemon.ready["metrics"]) for name, daemon in clients.items()]
        with Prometheus(binary, tmp_path / "prometheus", targets) as prometheus:
            prometheus.wait(
                lambda: list(prometheus.targets().values()).count("up") == len(targets), "every daemon to be scraped"
            )
            asyncio.run(story(faults, clients, export, prometheus))
        for daemon in (*clients.values(), serving):
            assert daemon.stop() == 0, daemon.stderr


def test_faults_raise_exactly_the_alerts_of_the_page(tmp_path: Path, require_tool: Callable[..., str]) -> None:
    assert HURRY * INTERVAL_S == 5  # as the cluster scrapes
    watch(FAST, tmp_path, require_tool)


@pytest.mark.slow
def test_every_other_fault_too(tmp_path: Path, require_tool: Callable[..., str]) -> None:
    watch({fault.name for fault in FAULTS} - FAST - NO_SYSTEM_CALL, tmp_path, require_tool)
