"""What the user gets wrong is one clear line on stderr and a non-zero exit, with nothing left running."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from daemon_rig import DaemonProcess, client, server


@pytest.fixture
def export(tmp_path: Path) -> Path:
    directory = tmp_path / "export"
    directory.mkdir()
    return directory


def complaint(daemon: DaemonProcess) -> str:
    """The one line with which a daemon ends that cannot begin."""
    with daemon:
        assert daemon.end() != 0
        lines = [line for line in daemon.stderr.splitlines() if line.startswith("freepage: ")]
        assert len(lines) == 1, daemon.stderr
        assert "Traceback" not in daemon.stderr
        return lines[0]


def test_an_export_that_is_not_there(tmp_path: Path) -> None:
    assert "cannot export" in (line := complaint(server(tmp_path / "nowhere")))
    assert "No such file or directory" in line


def test_an_export_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "Not a directory" in complaint(server(tmp_path / "file"))


def test_two_exports_of_one_name(export: Path) -> None:
    assert "two exports are called /export" in complaint(server(export, "--export", str(export)))


@pytest.mark.parametrize("option", ["--listen", "--control", "--metrics"])
def test_a_port_that_is_taken(export: Path, option: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        arguments = ("--export", str(export), "--listen", "127.0.0.1:0", option, f"127.0.0.1:{port}")
        assert f"127.0.0.1:{port}: the port is taken" in complaint(DaemonProcess("server", *arguments))


def test_a_server_that_is_not_there(export: Path) -> None:
    with server(export) as s:
        s.wait_ready()
        s.stop()
    assert "is unreachable" in complaint(client(s))


def test_an_export_that_the_server_does_not_have(export: Path) -> None:
    with server(export) as s:
        s.wait_ready()
        mount = f"{s.ready['grpc']}:/other=/mnt"
        assert "access denied by the server" in complaint(DaemonProcess("client", "--mount", mount, "--name", "c"))
        assert s.stop() == 0


def test_a_mount_on_a_running_client_from_a_server_that_is_not_there(tmp_path: Path) -> None:
    """A hard mount would try for ever, and with it the command that asked."""
    with DaemonProcess("client", "--name", "c") as c:
        c.wait_ready()
        for source, reason in (("127.0.0.1:1:/export", "the server is unreachable"), ("nonsense", "is needed")):
            command = [sys.executable, "-m", "freepage_lab.cli", "ctl", "mount", source, "/mnt", "--address", c.control]
            run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
            assert (run.returncode, run.stdout) == (1, "")
            assert run.stderr.startswith("freepage: ") and reason in run.stderr and run.stderr.count("\n") == 1
        assert c.stop() == 0


def test_a_host_that_has_no_address(export: Path) -> None:
    line = complaint(server(export, "--listen", "no.such.host.invalid:0"))
    assert line == "freepage: cannot listen on no.such.host.invalid:0: no such host"


def test_a_token_file_that_is_a_directory(export: Path, tmp_path: Path) -> None:
    line = complaint(server(export, "--token-file", str(tmp_path)))
    assert line == f"freepage: cannot read the token file {tmp_path}: Is a directory"


def test_control_off_loopback_without_a_token(export: Path) -> None:
    assert "only with a token file" in complaint(server(export, "--control", "0.0.0.0:0"))


def test_a_hook_rule_that_is_none(export: Path) -> None:
    assert "'walk'" in complaint(server(export, "--hook", "drop=walk"))
    assert "'walk' is no removal path: choose truncate, " in complaint(server(export, "--hook", "walk=skip"))
    assert "every needs a whole number" in complaint(server(export, "--hook", "drop=skip:every=often"))


@pytest.mark.parametrize("mount", ["nonsense", "host:/export", "127.0.0.1:1:/export=/mnt,rsize=many"])
def test_a_mount_that_is_none(mount: str) -> None:
    assert mount.split(",")[0].split("=")[0] in complaint(DaemonProcess("client", "--mount", mount, "--name", "c"))


def test_a_client_that_is_stopped_while_it_still_begins(export: Path) -> None:
    """A server that accepts connections and never says a word: mounting takes as long as it takes."""
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        mount = f"127.0.0.1:{mute.getsockname()[1]}:/export=/mnt"
        with DaemonProcess("client", "--mount", mount, "--name", "c", "--log-level", "debug") as c:
            mute.settimeout(30)
            connection, _ = mute.accept()
            with connection:
                assert c.stop() == 0
                assert "Traceback" not in c.stderr
