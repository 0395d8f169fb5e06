"""``ps``, ``audit``, ``slab``, ``vmstat`` and ``ctl``: ask running daemons, and print what they say.

The daemons are those that registered on this machine, or those named by address. A command that looks asks all of
them at once; one that changes a single client wants to know which.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from freepage import RemovalPath
from freepage_lab.daemons import check_role, choose, choose_one, load_token, tls_for
from freepage_lab.tables import print_whole
from freepage_runtime.control_client import ControlClient, Fault
from freepage_runtime.errors import UserError
from freepage_runtime.registry import Daemon, list_daemons

if TYPE_CHECKING:
    from freepage_client.io.remote import RemoteMachine

_T = TypeVar("_T")
_LEAK = "bold red"

GROUP_BEGINS = "unreferenced "
SHOWN_GROUPS = 12
"""How many groups of orphans `audit` shows of one daemon."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which daemons a command means."""

    addresses: Sequence[str] = ()
    names: Sequence[str] = ()
    role: str | None = None
    token_file: Path | None = None

    def daemons(self) -> list[Daemon]:
        return choose(self.addresses, self.names, self.role)

    def token(self) -> str | None:
        return load_token(self.token_file)


def _ask_all(choice: Choice, question: Callable[[ControlClient], Awaitable[_T]]) -> list[tuple[Daemon, _T]]:
    """Every chosen daemon's answer. Raises UserError when one cannot be asked."""
    daemons, token = choice.daemons(), choice.token()

    async def ask(daemon: Daemon) -> _T:
        assert daemon.control is not None
        async with ControlClient(daemon.control, token=token, tls=tls_for(daemon)) as control:
            return await question(control)

    async def ask_everybody() -> list[_T]:
        return await asyncio.gather(*(ask(daemon) for daemon in daemons))

    return list(zip(daemons, asyncio.run(ask_everybody()), strict=True))


def _with_client(choice: Choice, work: Callable[[RemoteMachine], Coroutine[Any, Any, _T]]) -> tuple[Daemon, _T]:
    from freepage_client.io.remote import RemoteMachine

    daemon, token = choose_one(choice.addresses, choice.names, "client"), choice.token()

    async def do() -> _T:
        assert daemon.control is not None
        async with RemoteMachine(daemon.control, token=token, tls=tls_for(daemon)) as machine:
            try:
                return await work(machine)
            except OSError as error:
                where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
                raise UserError(f"{daemon.name}: {where}{error.strerror}") from error

    return daemon, asyncio.run(do())


def _console() -> Console:
    return Console(highlight=False)


def _heading(console: Console, daemon: Daemon, several: bool) -> None:
    if several:
        console.print(Text(f"{daemon.role} {daemon.name}", "bold"))


# --- looking --------------------------------------------------------------------------------------------------------


def ps(role: str | None, *, as_json: bool) -> None:
    check_role(role)
    daemons = sorted(list_daemons(role), key=lambda daemon: (daemon.role != "server", daemon.name))
    if as_json:
        print(json.dumps([json.loads(daemon.to_json()) for daemon in daemons], indent=1))
        return
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for title in ("role", "name", "pid", "nfs", "control", "metrics"):
        table.add_column(title, no_wrap=True)
    for daemon in daemons:
        table.add_row(
            daemon.role, daemon.name, str(daemon.pid), daemon.grpc or "–", daemon.control or "–", daemon.metrics or "–"
        )
    if daemons:
        print_whole(_console(), table)
    else:
        print("no freepage daemon is running here")


def audit(choice: Choice, *, as_json: bool, everything: bool = False) -> bool:
    """Whether every ledger agrees with its mark and sweep; orphans alone are a finding, not a failure.

    For people, a daemon's groups after its first `SHOWN_GROUPS` are only counted, unless ``everything`` is asked for.
    """
    reports = _ask_all(choice, lambda control: control.audit())
    agrees = all(report.agrees for _, report in reports)
    if as_json:
        found = [
            {
                "role": daemon.role,
                "name": daemon.name,
                "agrees": report.agrees,
                "orphaned": report.orphaned,
                "report": json.loads(report.json),
            }
            for daemon, report in reports
        ]
        print(json.dumps({"agrees": agrees, "daemons": found}, indent=1))
        return agrees
    console = _console()
    for daemon, report in reports:
        console.print(
            Text.assemble(
                (f"{daemon.role} {daemon.name}", "bold"),
                ": ",
                (f"{report.orphaned:,} orphaned objects", _LEAK if report.orphaned else "green"),
            )
        )
        for line in _shortened(report.text, everything):
            console.print(Text(line, _LEAK if "DISAGREES" in line else ""), soft_wrap=True)
        console.print()
    return agrees


def kmemleak(choice: Choice) -> None:
    """The orphans as /sys/kernel/debug/kmemleak would list them."""
    answers = _ask_all(choice, lambda control: control.proc_file("/sys/kernel/debug/kmemleak"))
    for daemon, text in answers:
        _heading(_console(), daemon, len(answers) > 1)
        print(text, end="")


def _shortened(report: str, everything: bool) -> list[str]:
    """The report's lines; of a long one the first groups (they are the largest) and the verdict."""
    lines = report.splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith(GROUP_BEGINS)]
    if everything or len(starts) <= SHOWN_GROUPS:
        return lines
    last = starts[-1] + 1
    while last < len(lines) and lines[last].startswith(" "):
        last += 1
    hidden = f"and {len(starts) - SHOWN_GROUPS:,} smaller groups (--all shows them)"
    return [*lines[: starts[SHOWN_GROUPS]], hidden, *lines[last:]]


def slab(choice: Choice, *, raw: bool) -> None:
    answers = _ask_all(choice, lambda control: control.slab())
    console = _console()
    for daemon, answer in answers:
        _heading(console, daemon, len(answers) > 1)
        if raw:
            print(answer.slabinfo, end="")
            continue
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
        table.add_column("slab cache", no_wrap=True, min_width=17)
        table.add_column("use", no_wrap=True, min_width=5)
        for title in ("cached", "in use", "orphaned", "pinned", "allocated", "freed", "size"):
            table.add_column(title, justify="right", no_wrap=True)
        for line in answer.lines:
            numbers = (
                line.cached,
                line.in_use,
                line.orphaned,
                line.pinned,
                line.allocated,
                line.freed,
                line.object_size,
            )
            cells = [Text(f"{n:,}", "" if n else "dim") for n in numbers]
            for leak in (2, 3):
                if numbers[leak]:
                    cells[leak].stylize(_LEAK)
            table.add_row(line.slab, line.use, *cells)
        print_whole(console, table)


def vmstat(choice: Choice) -> None:
    answers = _ask_all(choice, lambda control: control.vmstat())
    console = _console()
    for daemon, counters in answers:
        _heading(console, daemon, len(answers) > 1)
        for name, value in counters.items():
            print(name, value)


# --- steering -------------------------------------------------------------------------------------------------------


def hooks(choice: Choice, rules: Sequence[str]) -> None:
    """Set ``rules`` if there are any, and show the policy of every daemon. Raises UserError."""
    paths = [path.value for path in RemovalPath]
    for rule in rules:
        path, equals, _ = rule.partition("=")
        if not equals or path not in (*paths, "all"):
            raise UserError(f"{rule!r} is no rule: write PATH=run or PATH=skip, PATH one of {', '.join(paths)} or all")

    async def question(control: ControlClient) -> dict[str, str]:
        return await (control.set_hook_policy(*rules) if rules else control.hook_policy())

    answers = _ask_all(choice, question)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for path in answers[0][1]:
        table.add_column(path, no_wrap=True)
    for daemon, policy in answers:
        table.add_row(daemon.name, *(Text(action, "green" if action == "run" else _LEAK) for action in policy.values()))
    print_whole(_console(), table)


def drop_caches(choice: Choice, what: int) -> None:
    for daemon, pages in _ask_all(choice, lambda control: control.drop_caches(what)):
        print(f"{daemon.name}: {pages:,} pages dropped")


def sync(choice: Choice) -> None:
    for daemon, _ in _ask_all(choice, lambda control: control.sync_all()):
        print(f"{daemon.name}: nothing is dirty")


def resize(choice: Choice, memory_bytes: int | None) -> None:
    for daemon, pages in _ask_all(choice, lambda control: control.resize_memory(memory_bytes)):
        print(f"{daemon.name}: {pages:,} pages reclaimed")


def replace(choice: Choice, path: str, first: int, count: int, change: str) -> None:
    if len(choice.daemons()) > 1:
        choose_one(choice.addresses, choice.names, choice.role)
    for daemon, pages in _ask_all(choice, lambda control: control.replace_pages(path, first, count, change)):
        print(f"{daemon.name}: {pages:,} pages {change.removesuffix('e')}ed")


def fault(choice: Choice, text: str | None) -> None:
    async def question(control: ControlClient) -> list[Fault]:
        if text is not None:
            await control.set_fault(text)
        return await control.faults()

    for daemon, faults in _ask_all(choice, question):
        for each in faults:
            where = f"armed on {', '.join(each.paths)}, struck {each.struck}" if each.paths else "off"
            print(f"{daemon.name}: {each.name}: {where} ({each.bug})")


def locks(choice: Choice, free: str | None) -> None:
    if free is not None:
        client = free
        for daemon, released in _ask_all(choice, lambda control: control.release_locks(client)):
            print(f"{daemon.name}: locks of {client} released: {released}")
        return
    for daemon, held in _ask_all(choice, lambda control: control.locks()):
        for lock in held:
            end = "EOF" if lock.length == 0 else str(lock.offset + lock.length - 1)
            mode = ("waits " if lock.waiting else "") + ("WRITE" if lock.exclusive else "READ")
            print(f"{daemon.name}: {lock.client} svid {lock.svid}: {mode} {lock.path} {lock.offset} {end}")


def mount(choice: Choice, source: str, mountpoint: str, options: str) -> None:
    daemon, _ = _with_client(choice, lambda machine: machine.mount(source, mountpoint, options))
    print(f"{daemon.name}: {source} is mounted on {mountpoint}")


def umount(choice: Choice, mountpoint: str) -> None:
    daemon, left = _with_client(choice, lambda machine: machine.umount(mountpoint))
    if not left:
        print(f"{daemon.name}: {mountpoint} is unmounted, nothing is left of it")
    for line in left:
        print(f"{daemon.name}: left behind: {line}")
