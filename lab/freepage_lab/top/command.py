"""``freepage top``: looks again and again, until q or Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import termios
import tty
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.live import Live

from freepage_lab.daemons import check_role, choose, load_token
from freepage_lab.top.gather import Gatherer, Row
from freepage_lab.top.view import Order, picture
from freepage_runtime.errors import UserError
from freepage_runtime.process import StopEvent, stop_on_signals
from freepage_runtime.registry import Daemon, list_daemons

FIRST_S = 1.0
"""Between the two looks that the first rates need; less than ``--interval``, as nobody likes an empty table."""


def top(
    addresses: Sequence[str],
    names: Sequence[str],
    role: str | None,
    token_file: Path | None,
    *,
    sort: str,
    interval_s: float,
    once: bool,
    as_json: bool,
) -> None:
    """Raises UserError."""
    order, token = Order.parse(sort), load_token(token_file)

    check_role(role)

    def find() -> Sequence[Daemon]:
        if addresses:
            return choose(addresses, names, role)
        return [d for d in list_daemons(role) if d.control is not None and (not names or d.name in names)]

    if addresses or names:
        choose(addresses, names, role)  # what is wrong with them is said before the screen is taken
    asyncio.run(_watch(Gatherer(find, token), order, interval_s, once=once, as_json=as_json))


async def _watch(gatherer: Gatherer, order: Order, interval_s: float, *, once: bool, as_json: bool) -> None:
    console = Console(highlight=False)
    with stop_on_signals() as stop:
        try:
            if once or as_json or not console.is_terminal:
                await _print(gatherer, order, console, interval_s, stop, once=once, as_json=as_json)
            else:
                await _live(gatherer, order, console, interval_s, stop)
        finally:
            await gatherer.close()


async def _looks(gatherer: Gatherer, interval_s: float, stop: asyncio.Event) -> AsyncIterator[list[Row]]:
    """A look every ``interval_s``; the first comes when there are rates to show."""
    await gatherer.look()
    await _pause(min(interval_s, FIRST_S), stop)
    while not stop.is_set():
        yield await gatherer.look()
        await _pause(interval_s, stop)


async def _pause(seconds: float, stop: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


async def _print(
    gatherer: Gatherer,
    order: Order,
    console: Console,
    interval_s: float,
    stop: StopEvent,
    *,
    once: bool,
    as_json: bool,
) -> None:
    """A table or a line of JSON after the other; only one if ``once``."""
    async for rows in _looks(gatherer, interval_s, stop):
        if as_json:
            print(json.dumps({"daemons": [row.to_json() for row in order.apply(rows)]}), flush=True)
        else:
            console.print(picture(rows, order, keys=False), crop=False)
        if once:
            return


async def _live(gatherer: Gatherer, order: Order, console: Console, interval_s: float, stop: StopEvent) -> None:
    """The screen is ours until the end, and the keyboard."""
    rows: list[Row] = []

    with Live(console=console, screen=True, auto_refresh=False) as live:

        def show() -> None:
            live.update(picture(rows, order, keys=True), refresh=True)

        def press(key: str) -> None:
            if key in ("q", "\x1b", "\x03"):
                stop.set()
            elif order.press(key):
                show()

        with _keys(press):
            show()
            async for rows in _looks(gatherer, interval_s, stop):  # noqa: B007 - show() reads it
                show()


@contextlib.contextmanager
def _keys(press: Callable[[str], None]) -> Iterator[None]:
    """Key presses go to ``press`` one by one; the terminal is as before afterwards. Without a keyboard: nothing."""
    if not sys.stdin.isatty():
        yield
        return
    fd, loop = sys.stdin.fileno(), asyncio.get_running_loop()
    before = termios.tcgetattr(fd)

    def read() -> None:
        for key in os.read(fd, 64).decode(errors="replace"):
            press(key)

    tty.setcbreak(fd)
    loop.add_reader(fd, read)
    try:
        yield
    finally:
        loop.remove_reader(fd)
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def check_interval(seconds: float) -> float:
    """Raises UserError."""
    if not 0.1 <= seconds <= 3600:
        raise UserError("--interval: from 0.1 s to an hour")
    return seconds
