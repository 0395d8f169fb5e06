"""The kernel's own leak of directory names, with the numbers that its report published."""

from __future__ import annotations

import asyncio
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from freepage_lab.story.command import story
from freepage_lab.story.readdir_rapages import MAX_ENTRIES, RELEASED, REVERTED, Listing, replay
from freepage_runtime.errors import UserError


def test_a_listing_of_110_files_allocates_120_names_frees_110_and_loses_10_every_time() -> None:
    outcome = asyncio.run(replay(RELEASED, files=110, listings=3))
    assert outcome.listings == [Listing(120, 110, 10, 10 * n, 2, 112) for n in (1, 2, 3)]
    assert not outcome.audit.agrees, "only the sweep can know"
    group = next(group for group in outcome.audit.groups if group.slab == "kmalloc-32")
    assert (group.count, group.bytes, group.site) == (30, 960, "nfs_readdir_add_to_array")


def test_without_the_extra_pages_nothing_is_lost() -> None:
    outcome = asyncio.run(replay(REVERTED, files=110, listings=3))
    assert outcome.listings == [Listing(110, 110, 0, 0, 2, 112)] * 3
    assert outcome.audit.agrees and outcome.audit.orphaned == 0


@given(st.integers(1, 2000))
def test_directories_of_any_size(files: int) -> None:
    """One page more than was asked for is always filled and never used, unless the directory fits in one."""
    released = asyncio.run(replay(RELEASED, files=files, listings=1)).listings[0]
    reverted = asyncio.run(replay(REVERTED, files=files, listings=1)).listings[0]
    entries = files + 2
    assert released.names_returned == reverted.names_returned == entries
    assert released.freed == reverted.freed == files and reverted.lost == 0
    assert (released.lost > 0) == (entries > MAX_ENTRIES)
    assert released.readdirs <= reverted.readdirs, "the optimisation did save calls"


def test_the_command_tells_the_story_and_writes_json(capsys: pytest.CaptureFixture[str]) -> None:
    out = io.StringIO()
    console = Console(file=out, width=100)
    story("readdir-names", files=110, listings=2, as_json=False, console=console)
    text = out.getvalue()
    assert "be4c2d4723a4" in text and " 120 " in text and "unreferenced kmalloc-32: 20 objects" in text
    story("readdir-names", files=110, listings=2, as_json=True)
    released, reverted = json.loads(capsys.readouterr().out)
    assert [each["lost"] for each in released["listings"]] == [10, 10]
    assert reverted["audit"]["agrees"] is True
    with pytest.raises(UserError, match="there is no story 'x': choose readdir-names"):
        story("x", files=1, listings=1, as_json=False)
