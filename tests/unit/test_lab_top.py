"""`freepage top`: the figures of a row, how rows are sorted, that all of it fits, and daemons that come and go."""

from __future__ import annotations

import asyncio
import io
import json
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from freepage_lab.cli import command as cli
from freepage_lab.top.gather import Gatherer, Row, make_row
from freepage_lab.top.view import COLUMNS, Order, picture, short
from freepage_runtime.control_client import ControlError, Stats
from freepage_runtime.errors import UserError
from freepage_runtime.registry import Daemon

C1 = Daemon(role="client", name="c1", control="127.0.0.1:1", pid=1, boot="a")


def stats(calls: int = 0, hits: int = 0, misses: int = 0, reclaimed: int = 0, **more: Any) -> Stats:
    return Stats(
        rpcs={"READ": calls, "GETATTR": calls}, removed={"reclaim": reclaimed}, hits=hits, misses=misses, **more
    )


def test_rates_are_what_happened_since_the_look_before() -> None:
    before = stats(100, hits=50, misses=50, reclaimed=10)
    row = make_row(C1, before, stats(150, hits=80, misses=60, reclaimed=30, cached_pages=7, dirty_pages=2), 2.0)
    assert (row.rpcs_per_s, row.evictions_per_s, row.hit_percent, row.pages, row.dirty) == (50, 10, 75, 7, 2)


def test_the_first_look_has_no_rates_but_the_hit_ratio_of_all_time() -> None:
    row = make_row(C1, None, stats(100, hits=1, misses=3), 0.0)
    assert (row.rpcs_per_s, row.evictions_per_s, row.hit_percent) == (None, None, 25)


def test_orphans_are_told_by_path_without_the_paths_that_have_none() -> None:
    leaky = stats(orphaned={"nfs_page": 5, "nfs_dir_array": 1}, skipped_owned={"drop": 6, "reclaim": 0})
    row = make_row(C1, leaky, leaky, 1.0)
    assert (row.orphans, row.orphans_by_path, row.hit_percent) == (6, {"drop": 6}, None)


@pytest.mark.parametrize(
    ("number", "text"),
    [(None, "–"), (0, "0"), (7.44, "7.4"), (99, "99"), (1234, "1,234"), (9999, "9,999"), (12345, "12k"),
     (999_499, "999k"), (999_500, "1.0M"), (4_560_000, "4.6M"), (456e6, "456M")],
)  # fmt: skip
def test_numbers_have_at_most_five_characters(number: float | None, text: str) -> None:
    assert short(number) == text
    assert len(text) <= 5


# --- sorting ----------------------------------------------------------------------------------------------------------

ROWS = [
    Row("client", "b", hit_percent=50.0, pages=10, rpcs_per_s=3.0, orphans=2),
    Row("client", "a", hit_percent=None, pages=30, rpcs_per_s=None, orphans=2),
    Row("client", "c", hit_percent=90.0, pages=20, rpcs_per_s=9.0, orphans=0),
]


@pytest.mark.parametrize(
    ("sort", "names"),
    [("name", "abc"), ("-name", "cba"), ("hits", "cba"), ("pages", "acb"), ("-pages", "bca"), ("orphans", "abc"),
     ("rpcs", "cba")],
)  # fmt: skip
def test_sorting(sort: str, names: str) -> None:
    assert "".join(row.name for row in Order.parse(sort).apply(ROWS)) == names


def test_keys_sort_and_the_same_key_again_turns_round() -> None:
    order = Order()
    assert order.press("o") and order == Order("orphans", False)
    assert order.press("o") and order == Order("orphans", True)
    assert order.press("n") and order == Order("name", False)
    assert not order.press("x")
    assert order == Order("name", False)


def test_every_column_has_a_key_of_its_own_and_q_is_free() -> None:
    keys = [column.key for column in COLUMNS.values()]
    assert len(set(keys)) == len(keys)
    assert "q" not in keys


def test_a_column_that_is_not_there() -> None:
    with pytest.raises(UserError, match="--sort 'size': choose name, hits"):
        Order.parse("size")


# --- the table --------------------------------------------------------------------------------------------------------


def text_of(rows: list[Row]) -> str:
    out = io.StringIO()
    Console(file=out, width=80).print(picture(rows, Order(), keys=True, at="12:00:00"))
    return out.getvalue()


def test_the_table_fits_80_columns_whatever_the_numbers_are() -> None:
    paths = {"truncate": 123_456_789, "invalidate": 98_765_432, "reclaim": 12_345_678}
    large = Row("client", "a-rather-long-name-of-a-client", 100.0, 12_345_678, 12_345_678, 1e7, 1e7, 10**9, paths, 3)
    text = text_of([large, Row("server", "s", problem="cannot reach the daemon at 127.0.0.1:1")])
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert "100%" in text and "12.3M" in text and "1000M" in text
    assert "truncate 123M +2" in text
    assert all(column.title in text for name, column in COLUMNS.items() if name != "name")
    assert any(line.startswith("s ") and "no answer" in line for line in lines)
    assert "2 daemons, 1 leaking, 3 rule violations" in text


def test_without_daemons_it_says_so() -> None:
    assert "no freepage daemon is running here" in text_of([])


# --- daemons that come and go -----------------------------------------------------------------------------------------


class FakeControl:
    """A daemon's control service whose counters grow by one a look. ``gone`` holds the addresses that don't answer."""

    gone: set[str] = set()  # noqa: RUF012
    closed: list[str] = []  # noqa: RUF012

    def __init__(self, address: str, **settings: object) -> None:
        self.address = address
        self._calls = 0

    async def stats(self) -> Stats:
        if self.address in self.gone:
            raise ControlError("cannot reach the daemon")
        self._calls += 1
        return stats(self._calls)

    async def close(self) -> None:
        self.closed.append(self.address)


def test_daemons_come_go_and_do_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("freepage_lab.top.gather.ControlClient", FakeControl)
    monkeypatch.setattr(FakeControl, "closed", [])
    monkeypatch.setattr(FakeControl, "gone", set())
    c2 = Daemon(role="client", name="c2", control="127.0.0.1:2", pid=2, boot="b")
    again = Daemon(role="client", name="c1", control="127.0.0.1:3", pid=3, boot="c")
    running = [C1]
    clock = iter(range(100))

    async def story() -> None:
        gatherer = Gatherer(lambda: running, now=lambda: float(next(clock)))
        assert [row.rpcs_per_s for row in await gatherer.look()] == [None]
        running.append(c2)
        first, second = await gatherer.look()
        assert (first.rpcs_per_s, second.rpcs_per_s) == (2.0, None)
        FakeControl.gone = {"127.0.0.1:2"}
        assert [row.problem for row in await gatherer.look()] == [None, "cannot reach the daemon"]
        running[:] = [again]
        (row,) = await gatherer.look()
        assert (row.name, row.rpcs_per_s) == ("c1", None), "a restarted daemon begins anew"
        assert sorted(FakeControl.closed) == ["127.0.0.1:1", "127.0.0.1:2"]
        await gatherer.close()
        assert sorted(FakeControl.closed) == ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]

    asyncio.run(story())


# --- the command ------------------------------------------------------------------------------------------------------


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "freepage_lab.cli", "top", *arguments]


def test_once_as_json_without_a_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FREEPAGE_RUNTIME_DIR", str(tmp_path))  # other tests' servers live as long as the session
    assert cli.run(["top", "--once", "--json", "-i", "0.1s"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"daemons": []}
    assert err == ""


@pytest.mark.parametrize("arguments", [["--sort", "size"], ["-i", "0s"], ["-i", "soon"], ["--address", "nowhere"]])
def test_what_is_wrong_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["top", *arguments]) not in (0, None)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("freepage: ") and err.count("\n") == 1


def test_at_a_terminal_q_ends_it_and_the_terminal_is_as_before() -> None:
    import termios

    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    process = subprocess.Popen(command("-i", "0.1s"), stdin=slave, stdout=slave, stderr=slave, env=environment)
    try:
        shown = b""
        deadline = time.monotonic() + 60
        while b"q quit" not in shown and time.monotonic() < deadline:
            if select.select([master], [], [], 0.5)[0]:
                shown += os.read(master, 65536)
        assert b"no freepage daemon is running here" in shown
        os.write(master, b"oq")
        while process.poll() is None and time.monotonic() < deadline:
            if select.select([master], [], [], 0.05)[0]:
                shown += os.read(master, 65536)
        assert process.wait(timeout=5) == 0
        assert termios.tcgetattr(slave) == before
        assert b"\x1b[?1049l" in shown, "the screen is given back"
    finally:
        process.kill()
        process.wait()
        os.close(master)
        os.close(slave)
