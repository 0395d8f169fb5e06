"""The watch of conftest.py bites: a test that leaves something behind fails and names it, the others do not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"

LITTER = '''
import subprocess, sys, tempfile, threading
from pathlib import Path
import pytest

SLEEP = "import time; time.sleep(600)"
ORPHAN = f"""if True:
    import subprocess, sys
    child = subprocess.Popen([sys.executable, "-c", {SLEEP!r}], stdout=subprocess.DEVNULL, start_new_session=True)
    print(child.pid)
"""
kept = []

def test_tidy(tmp_path):
    (tmp_path / "x").write_text("")
    with tempfile.TemporaryDirectory():
        subprocess.run([sys.executable, "-c", ""])

def test_child():
    kept.append(subprocess.Popen([sys.executable, "-c", SLEEP]))

def test_orphan():
    pid = subprocess.run([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE).stdout
    Path(__file__).with_name("orphan").write_bytes(pid)

def test_directory():
    tempfile.mkdtemp(prefix="freepage-demo-")

def test_registration():
    from freepage_runtime.registry import Daemon, register
    register(Daemon(role="server", name="s1"))

def test_thread():
    event = threading.Event()
    threading.Thread(target=event.wait, args=(5,), name="lingerer").start()
    kept.append(event)

@pytest.mark.slow
def test_slow():
    kept[-1].set()

def test_tool(require_tool):
    require_tool("no-such-tool-anywhere", debian="no-such-package")
'''


def run(folder: Path, *tests: str, options: Sequence[str] = (), **environment: str) -> tuple[dict[str, str], str]:
    """Outcome by test, and all that was printed."""
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "-p", "no:cacheprovider", "-rA", "--tb=short"]
    run = subprocess.run(
        [
            *command,
            f"--basetemp={folder / 'base'}",
            "-W",
            "ignore",
            *options,
            *(f"test_litter.py{test}" for test in tests),
        ],
        cwd=folder,
        env={**os.environ, "FREEPAGE_REQUIRE_TOOLS": "0", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    outcomes = {}
    for line in run.stdout.splitlines():
        outcome, _, test = line.partition(" ")
        if outcome in ("PASSED", "FAILED", "ERROR"):
            # The watch speaks after the test, so a test that littered has passed and then has an error.
            outcomes[test.partition("::")[2].partition(" - ")[0]] = outcome
    return outcomes, run.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(CONFTEST, tmp_path)
    (tmp_path / "test_litter.py").write_text(LITTER)
    return tmp_path


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="children are watched through Linux's /proc")
def test_litter_is_named_and_cleared_and_a_missing_tool_can_be_a_failure(folder: Path) -> None:
    outcomes, text = run(folder, "", options=["--full"], FREEPAGE_REQUIRE_TOOLS="1")
    assert outcomes == {
        "test_tidy": "PASSED",
        "test_child": "ERROR",
        "test_orphan": "ERROR",
        "test_directory": "ERROR",
        "test_registration": "ERROR",
        "test_thread": "ERROR",
        "test_slow": "PASSED",
        "test_tool": "FAILED",
    }
    assert "left behind: file tmp/freepage-demo-" in text
    assert "left behind: file run/server-s1-" in text
    assert "left behind: thread lingerer" in text
    orphan = (folder / "orphan").read_text().strip()
    assert f"left behind: process {orphan} (" in text
    assert not Path("/proc", orphan).exists()


def test_slow_tests_and_missing_tools_are_skipped_with_a_reason(folder: Path) -> None:
    _, text = run(folder, "::test_slow", "::test_tool")
    assert "SKIPPED [1] conftest.py" in text
    assert "no-such-tool-anywhere is missing (Debian: apt-get install no-such-package)" in text
    assert "slow: make test-all runs it" in text
