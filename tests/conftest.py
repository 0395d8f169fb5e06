"""What every test gets: temp and runtime directories apart, a watch on what is left behind, tools or a clear skip."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import hypothesis
import pytest

LINUX = sys.platform.startswith("linux")
REQUIRE_TOOLS = os.environ.get("FREEPAGE_REQUIRE_TOOLS") == "1"

# `ci` tries the same examples every time, so that a red run is about the change; `explore` (make explore) is for
# finding new ones, with the seed on its command line.
hypothesis.settings.register_profile("ci", derandomize=True, print_blob=True, deadline=None, database=None)
hypothesis.settings.register_profile("explore", print_blob=True, deadline=None, max_examples=1000)
PROFILE = os.environ.get("FREEPAGE_HYPOTHESIS_PROFILE", "ci")
hypothesis.settings.load_profile(PROFILE)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run the tests marked slow, too")
    parser.addoption("--cluster", action="store_true", help="run the tests of the compose cluster, too")


def pytest_report_header(config: pytest.Config) -> str:
    seed = config.getoption("hypothesis_seed", default=None)
    tools = ", a missing tool is a failure" if REQUIRE_TOOLS else ""
    return f"freepage: hypothesis profile {PROFILE}{f' with seed {seed}' if seed is not None else ''}{tools}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    skips = {
        "slow": None if config.getoption("--full") else pytest.mark.skip(reason="slow: make test-all runs it"),
        "cluster": None if config.getoption("--cluster") else pytest.mark.skip(reason="make test-cluster runs it"),
    }
    for item in items:
        for name, skip in skips.items():
            if skip is not None and item.get_closest_marker(name):
                item.add_marker(skip)


# --- tools -----------------------------------------------------------------------------------------------------------


class RequireTool(Protocol):
    def __call__(self, tool: str, *, debian: str, works: Callable[[str], bool] | None = None) -> str: ...


def _require_tool(tool: str, *, debian: str, works: Callable[[str], bool] | None = None) -> str:
    """The tool's path, or a skip that names the Debian package; a failure where tools are required (.ci/run).

    ``works`` may look closer: a command that is there need not run, as a Docker client without its engine.
    """
    path = shutil.which(tool)
    if path is not None and (works is None or works(path)):
        return path
    reason = f"{tool} is {'missing' if path is None else 'not working'} (Debian: apt-get install {debian})"
    if REQUIRE_TOOLS:
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def require_tool() -> RequireTool:
    """``promtool = require_tool("promtool", debian="prometheus")``."""
    return _require_tool


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB with nothing on it, for root on Linux."""
    libc = ctypes.CDLL(None, use_errno=True)
    disk = tmp_path / "disk"
    disk.mkdir()
    if not hasattr(libc, "mount") or libc.mount(b"none", os.fsencode(disk), b"tmpfs", 0, b"size=1m") != 0:
        pytest.skip(f"a file system cannot be mounted here ({os.strerror(ctypes.get_errno())}): root only")
    yield disk
    mnt_detach = 2  # include/uapi/linux/fs.h
    assert libc.umount2(os.fsencode(disk), mnt_detach) == 0


# --- nothing left behind ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="session", autouse=True)
def private_directories(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Temp and runtime directories of this session's own: tests never meet the user's daemons, and litter shows."""
    tmp_path_factory.getbasetemp()  # pytest's own directory stays where it is
    private = Path(tempfile.mkdtemp(prefix="freepage-tests-"))
    scratch, runtime = private / "tmp", private / "run"
    scratch.mkdir()
    runtime.mkdir(mode=0o700)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(scratch))
        patch.setenv("FREEPAGE_RUNTIME_DIR", str(runtime))
        patch.setenv("FREEPAGE_STATE_DIR", str(private / "state"))  # or servers of two sessions would meet in ~
        patch.setattr(tempfile, "tempdir", None)  # it remembers the first answer
        _adopt_orphans()
        before = _children()
        yield private
        left = _end(_children() - before)
    shutil.rmtree(private)
    assert not left, f"processes left behind by the session: {left}"


@pytest.fixture(autouse=True)
def nothing_left_behind(private_directories: Path) -> Iterator[None]:
    """Fail the test that leaves a process, a thread or a file of the temp directory behind.

    What a fixture of a wider scope started is there before the test, and is not the test's; the session looks after it.
    """
    children, threads, files = _children(), set(threading.enumerate()), _files(private_directories)
    yield
    left = [f"process {name}" for name in _end(_children() - children)]
    left += [f"thread {thread.name}" for thread in threading.enumerate() if thread not in threads and not thread.daemon]
    for path in sorted(_files(private_directories) - files):
        left.append(f"file {path.relative_to(private_directories)}")
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    assert not left, f"left behind: {', '.join(left)}"


def _adopt_orphans() -> None:
    """Become the parent of our children's orphans, or a daemon whose starter is gone would escape the watch."""
    if LINUX:
        pr_set_child_subreaper = 36  # include/uapi/linux/prctl.h
        ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1, 0, 0, 0)


def _children() -> set[int]:
    """Our direct children (with adopted orphans), without those that ended and were merely not waited for."""
    children = set()
    for listing in Path("/proc/self/task").glob("*/children"):  # not everywhere: then there is nothing to watch
        with contextlib.suppress(OSError):
            children |= {int(pid) for pid in listing.read_text().split()}
    return {pid for pid in children if _state(pid) not in ("Z", "X", "")}


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def _end(pids: set[int]) -> list[str]:
    """Name and kill the processes that do not end by themselves within a moment (a signal may be on its way)."""
    deadline = time.monotonic() + 2.0
    while pids and time.monotonic() < deadline:
        pids = {pid for pid in pids if _state(pid) not in ("Z", "X", "")}
        time.sleep(0.01 if pids else 0)
    names = []
    for pid in sorted(pids):
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            names.append(f"{pid} ({command})")
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return names


def _files(private: Path) -> set[Path]:
    return {path for folder in ("tmp", "run") for path in (private / folder).iterdir()}
