"""What every test of a mount gets: FUSE or a clear skip, a server, mounts of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from mount_rig import NFS_ROOT, Mount, Server, mounted, scratch

MakeMount = Callable[..., AbstractContextManager[Mount]]


@pytest.fixture(scope="session")
def fuse(require_tool: Any) -> None:
    """FUSE, or a skip that says what is missing."""
    require_tool("fusermount3", debian="fuse3", works=lambda _: os.access("/dev/fuse", os.R_OK | os.W_OK))


@pytest.fixture(scope="session")
def place(fuse: None) -> Iterator[Path]:
    with scratch() as path:
        yield path


@pytest.fixture(scope="session")
def export(place: Path) -> Path:
    path = place / "export"
    path.mkdir()
    return path


@pytest.fixture(scope="session")
def source(export: Path) -> Iterator[str]:
    """SERVER:/EXPORT of a server that runs as long as the tests."""
    with Server(f"{export}:/export,{NFS_ROOT}") as server:
        yield f"{server.address}:/export"
        assert server.stop() == 0


@pytest.fixture
def mount(source: str, place: Path) -> MakeMount:
    """``with mount() as m``: a mount of the session's export, which must end clean."""
    made = 0

    def make(options: str = "", *more: str) -> AbstractContextManager[Mount]:
        nonlocal made
        made += 1
        return mounted(source, place / f"m{made}", options, *more)

    return make


@pytest.fixture
def work(export: Path, request: pytest.FixtureRequest) -> str:
    """The name of a directory of the test's own within the export."""
    name = request.node.name.replace("[", "-").replace("]", "").replace("/", "_")
    (export / name).mkdir()
    return str(name)
