"""Figures keep their digits in every window."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.table import Table

from freepage_lab.demo.phases import PHASES
from freepage_lab.demo.view import LiveView
from freepage_lab.tables import print_whole
from freepage_lab.top.gather import Row
from freepage_lab.top.view import Order, picture


def console(width: int) -> Console:
    return Console(file=io.StringIO(), width=width)


def text(of: Console) -> str:
    assert isinstance(of.file, io.StringIO)
    return of.file.getvalue()


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_a_table_is_printed_whole(width: int) -> None:
    table = Table()
    for title in ("who", "pages", "orphaned"):
        table.add_column(title, no_wrap=True)
    table.add_row("client-with-a-long-name", "1,234,567", "7,654,321")
    narrow, wide = console(width), console(500)
    print_whole(narrow, table)
    print_whole(wide, table)
    assert text(narrow) == text(wide)
    assert "1,234,567" in text(wide) and "7,654,321" in text(wide)


def test_top_in_a_narrow_window_loses_its_right_end_and_no_digits() -> None:
    row = Row("client", "c1", 50.0, 1234, 567, 8.9, 100.0, 2345, {"reclaim": 2345})
    narrow = console(60)
    narrow.print(picture([row], Order.parse("name"), keys=True))
    line = next(line for line in text(narrow).splitlines() if line.startswith("c1"))
    assert line.split()[:7] == ["c1", "50%", "1,234", "567", "8.9", "100", "2,345"]


@pytest.mark.parametrize("width", [40, 50, 80])
def test_the_demo_draws_itself_in_any_window(width: int) -> None:
    window = console(width)
    view = LiveView(window, "freepage demo", 1 << 20)
    view.begin(0, PHASES[0])
    window.print(view._picture())
    assert max(len(line) for line in text(window).splitlines()) <= width
