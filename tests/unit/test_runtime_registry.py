from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from freepage_runtime import registry
from freepage_runtime.errors import UserError
from freepage_runtime.registry import (
    Daemon,
    list_daemons,
    register,
    runtime_directory,
)


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "run"
    monkeypatch.setenv("FREEPAGE_RUNTIME_DIR", str(path))
    return path


def test_a_daemon_is_found_while_it_is_registered(own_directory: Path) -> None:
    daemon = Daemon(role="server", name="s1", boot="b1", grpc="127.0.0.1:2049", metrics="127.0.0.1:9100")
    with register(daemon) as entry:
        assert list_daemons() == list_daemons("server") == [daemon]
        assert list_daemons("client") == []
        assert entry.path.stat().st_mode & 0o777 == 0o600
        assert own_directory.stat().st_mode & 0o777 == 0o700
    assert list_daemons() == []
    assert list(own_directory.iterdir()) == []


def test_the_oldest_comes_first() -> None:
    with (
        register(Daemon(role="client", name="young", started_ns=2)),
        register(Daemon(role="client", name="old", started_ns=1)),
    ):
        assert [daemon.name for daemon in list_daemons()] == ["old", "young"]


def test_looking_leaves_no_directory_behind(own_directory: Path) -> None:
    assert list_daemons() == []
    assert not own_directory.exists()


def test_the_dead_are_skipped_and_cleaned_away() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    start = registry._pid_start(child.pid)
    entry = register(Daemon(role="client", name="c1", pid=child.pid, pid_start=start))
    assert [daemon.name for daemon in list_daemons()] == ["c1"]
    child.communicate(b"\n")
    assert list_daemons() == []
    assert not entry.path.exists()


@pytest.mark.skipif(registry._pid_start(os.getpid()) is None, reason="needs Linux's /proc")
def test_a_zombie_is_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not Daemon(role="client", name="c1", pid=child.pid, pid_start=1).is_alive
    child.wait()


@pytest.mark.skipif(registry._pid_start(os.getpid()) is None, reason="needs Linux's /proc")
def test_a_reused_pid_is_not_the_daemon() -> None:
    ours = registry._pid_start(os.getpid())
    assert ours is not None
    with register(Daemon(role="server", name="s1", pid_start=ours - 1)) as entry:
        assert list_daemons() == []
        assert not entry.path.exists()


def test_files_that_are_no_entries_are_removed_and_newer_fields_passed_over(own_directory: Path) -> None:
    with register(Daemon(role="server", name="s1")) as entry:
        newer = json.loads(entry.path.read_text()) | {"name": "s2", "shoe_size": 43}
        (own_directory / "newer.json").write_text(json.dumps(newer))
        for number, text in enumerate(["", "[]", '{"role": "server"}', '{"role": "x", "name": "n"}', "\xff"]):
            (own_directory / f"bad{number}.json").write_text(text, encoding="latin-1")
        (own_directory / "pid.json").write_text(json.dumps(newer | {"pid": -1}))
        assert sorted(daemon.name for daemon in list_daemons()) == ["s1", "s2"]
        assert sorted(path.name for path in own_directory.iterdir()) == sorted([entry.path.name, "newer.json"])


def test_a_name_cannot_lead_out_of_the_directory(own_directory: Path) -> None:
    with register(Daemon(role="server", name="../../etc/passwd")) as entry:
        assert entry.path.parent == own_directory
        assert [daemon.name for daemon in list_daemons()] == ["../../etc/passwd"]


def test_a_role_is_server_or_client() -> None:
    with pytest.raises(ValueError, match="none of server, client"):
        Daemon(role="lab", name="x")


def test_a_directory_that_others_could_use_is_refused(own_directory: Path, tmp_path: Path) -> None:
    own_directory.mkdir(mode=0o755)
    own_directory.chmod(0o755)
    with pytest.raises(UserError, match="is open to others"):
        runtime_directory()
    own_directory.rmdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    own_directory.symlink_to(elsewhere)
    with pytest.raises(UserError, match="is not a directory"):
        runtime_directory()
    own_directory.unlink()
    own_directory.write_text("")
    with pytest.raises(UserError, match=r"cannot make the runtime directory|is not a directory"):
        runtime_directory()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory away")
def test_another_users_directory_is_refused(own_directory: Path) -> None:
    own_directory.mkdir(mode=0o700)
    os.chown(own_directory, 12345, -1)
    with pytest.raises(UserError, match="belongs to another user"):
        runtime_directory()


def test_where_the_directory_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FREEPAGE_RUNTIME_DIR")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert runtime_directory() == tmp_path / "freepage"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "gone"))  # as after su: named, but not there
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert runtime_directory() == tmp_path / f"freepage-{os.getuid()}"
