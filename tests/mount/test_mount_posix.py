"""What POSIX promises, kept by a mount; and the checks themselves, held against file systems that we did not write."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import passthrough
from mount_rig import Mount, mounted
from posix_checks import CHECKS, NEEDS_ROOT

pytest_plugins = ("mount_fixtures",)

OTHER_USERS = {
    *("permissions", "supplementary_groups", "only_execute"),
    *("set_group_id", "writing_clears_set_id_bits", "owner_changes"),
}
"""What the passthrough file system cannot tell us: its threads take the caller's user, who may not see their /proc."""

LOCAL_HAS_MORE = {"no_user_attributes", "no_rename_flags", "no_preallocation"}
"""What NFSv3 refuses, and a local file system does."""


@pytest.fixture(scope="module")
def mount(source: str, place: Path) -> Iterator[Mount]:
    with mounted(source, place / "posix") as mount:
        yield mount


@pytest.fixture(scope="module")
def through(fuse: None, place: Path) -> Iterator[Path]:
    behind, path = place / "behind", place / "through"
    behind.mkdir()
    with passthrough.mounted(behind, path):
        yield path


def _run(name: str, directory: Path) -> None:
    if name in NEEDS_ROOT and os.getuid() != 0:
        pytest.skip("only root may change owners and make devices")
    mask = os.umask(0o022)
    try:
        CHECKS[name](Path(tempfile.mkdtemp(prefix=f"{name}-", dir=directory)))
    finally:
        os.umask(mask)


@pytest.mark.parametrize("name", CHECKS)
def test_freepage(name: str, mount: Mount) -> None:
    _run(name, mount.path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CHECKS if name not in LOCAL_HAS_MORE])
def test_the_checks_hold_on_a_local_file_system(name: str, place: Path) -> None:
    _run(name, place)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CHECKS if name not in LOCAL_HAS_MORE | OTHER_USERS])
def test_passthrough_over_the_same_binding(name: str, through: Path) -> None:
    _run(name, through)
