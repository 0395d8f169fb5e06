"""The command itself: what its help says, and that mistakes, Ctrl-C and closed pipes are one line at most."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from freepage_lab.bench.catalogue import GROUPS
from freepage_lab.cli import command as cli
from freepage_lab.cli.options import daemon_name, memory_or_none
from freepage_lab.soak.part import all_parts
from freepage_runtime.errors import UserError

CONFORMANCE = Path(__file__).parents[1] / "conformance" / "own"


def commands(group: typer.core.TyperGroup, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield prefix
    for name, command in group.commands.items():
        if isinstance(command, typer.core.TyperGroup):
            yield from commands(command, (*prefix, name))
        else:
            yield *prefix, name


ALL = list(commands(typer.main.get_group(cli.app)))


def text_of(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.run([*arguments, "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


# --- help -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ALL, ids=" ".join)
@pytest.mark.parametrize("columns", ["40", "80"])
def test_help_fits_and_names_what_options_take(
    command: tuple[str, ...], columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    text = text_of(command, capsys)
    options = text.partition("Options:")[2]
    assert not re.search("<[a-z]", options), "an option shows Python's type instead of what it takes"
    assert "[b]" not in text
    if columns == "80":
        assert max(map(len, text.splitlines())) <= 80


def test_the_command_alone_lists_every_command_whole(capsys: pytest.CaptureFixture[str]) -> None:
    for group in ((), ("ctl",)):
        assert cli.run(list(group)) == 2
        text = capsys.readouterr().out
        assert text == text_of(group, capsys)
        assert "..." not in text.partition("Options:")[2]
        for command in ALL:
            if len(command) == len(group) + 1 and command[:-1] == group:
                assert f"\n  {command[-1]} " in text


def test_help_names_every_group_and_part(capsys: pytest.CaptureFixture[str]) -> None:
    for command, names in (("bench", GROUPS), ("soak", all_parts())):
        text = " ".join(text_of((command,), capsys).split())
        assert f"Only these: {', '.join(names)}." in text


# --- mistakes ---------------------------------------------------------------------------------------------------------


def complaint(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.run(arguments) not in (0, None)
    out, err = capsys.readouterr()
    assert err.startswith("freepage: ") and err.count("\n") == 1
    assert out == ""
    return err


@pytest.mark.parametrize(
    "command",
    [
        ["demo"],
        ["bench", "hit"],
        ["soak", "crash"],
        ["conform", "--workloads", str(CONFORMANCE / "workloads"), "--truth", str(CONFORMANCE / "truth")],
        ["load", "logs", "--demo"],
    ],
    ids=lambda command: command[0],
)
@pytest.mark.parametrize("place", ["directory", "nowhere/x.json", "locked/x.json"])
def test_where_the_result_cannot_go_is_said_before_the_work(
    command: list[str], place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "locked").mkdir()
    if place.startswith("locked"):
        monkeypatch.setattr(os, "access", lambda path, mode: "locked" not in str(path))  # root may write everywhere
    line = complaint([*command, "--json", str(tmp_path / place)], capsys)
    assert line.startswith(f"freepage: cannot write {tmp_path / place}: ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["load"], None),
        (["load", "logs", "--demo", "--name", "c1"], "--demo starts the clients itself"),
        (["top", "--once", "--role", "router"], "there is no role 'router': choose server or client"),
        (["top", "--once", "--name", "nobody"], "called nobody"),
        (["audit", "--name", "nobody"], "called nobody"),
        (["demo", "--cache", "64KiB"], "at least 1 MiB"),
        (["server", "--export", ".", "--audit-every", "often"], "not a duration: 'often'"),
        (["proc-exec", "--token-file", "/no/such/token", "true"], "cannot read the token file /no/such/token"),
        (["ctl", "mount", "127.0.0.1:1:/caf\udce9", "/mnt", "--address", "127.0.0.1:1"], "is no UTF-8 text"),
        (["ctl", "nothing"], "No such command 'nothing' (see freepage ctl --help)"),
    ],
)
def test_mistakes(
    arguments: list[str],
    said: str | None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FREEPAGE_RUNTIME_DIR", str(tmp_path))
    if said is None:  # the profiles are listed as well
        assert cli.run(arguments) == 2
        out, err = capsys.readouterr()
        assert "\nlogs " in out and err.startswith("freepage: say which") and err.count("\n") == 1
    else:
        assert said in complaint(arguments, capsys)


@pytest.mark.parametrize("name", ["", "a/b", "../x", ".hidden", "a\nb"])
def test_names_that_files_and_lists_cannot_carry(name: str) -> None:
    with pytest.raises(UserError, match="not a name"):
        daemon_name(name)
    assert daemon_name("c1.rack-7") == "c1.rack-7"


def test_the_memory_of_a_page_cache() -> None:
    assert memory_or_none("none") is None
    assert memory_or_none("4KiB") == 4096
    for too_little in ("0", "4095"):
        with pytest.raises(UserError, match="at least one page"):
            memory_or_none(too_little)


# --- ends -------------------------------------------------------------------------------------------------------------

SIGNALLED = """
import os, signal, sys, time
from freepage_lab import cli
from freepage_lab.cli import command
def app(*_, **__):
    os.kill(os.getpid(), int(sys.argv[1]))
    time.sleep(60)
command.app = app
cli.main(["ps"])
"""

SIGNALLED_WHILE_LOADING = """
import os, signal, sys
from freepage_lab import cli
class Finder:
    def find_spec(self, name, *_):
        if name == "freepage_lab.cli.command":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
cli.main(["ps"])
"""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_one_line(signum: signal.Signals) -> None:
    command = [sys.executable, "-c", SIGNALLED, str(int(signum))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "freepage: stopped\n")


def test_sigterm_is_heard_in_the_background_of_a_script() -> None:
    """There, SIGINT is ignored."""
    command = ["sh", "-c", 'trap "" INT; exec "$0" "$@"', sys.executable, "-c", SIGNALLED, str(int(signal.SIGTERM))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "freepage: stopped\n")


def test_a_signal_while_modules_load_is_no_traceback() -> None:
    command = [sys.executable, "-c", SIGNALLED_WHILE_LOADING]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_output_that_nobody_reads_is_no_traceback() -> None:
    reads, writes = os.pipe()
    os.close(reads)
    try:
        command = [sys.executable, "-m", "freepage_lab.cli", "story"]
        done = subprocess.run(command, stdout=writes, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    finally:
        os.close(writes)
    assert done.stderr == ""


STOPPED_AT_THE_FIRST_RESULT = """
import multiprocessing, sys
from pathlib import Path
from freepage_lab.conform.suite import load_cases, run_cases
def stop(comparison):
    raise KeyboardInterrupt
cases, _ = load_cases(Path(sys.argv[1]) / "workloads", Path(sys.argv[1]) / "truth", ())
try:
    run_cases(cases, jobs=2, done=stop)
except KeyboardInterrupt:
    print(len(cases) > 100, multiprocessing.active_children())
"""


def test_a_stopped_conform_does_not_wait_for_its_workers() -> None:
    command = [sys.executable, "-c", STOPPED_AT_THE_FIRST_RESULT, str(CONFORMANCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True []\n", "")
