"""Real daemon processes for tests: on free ports, found through their readiness line, ended whatever happens."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

START_S = 60.0
END_S = 30.0


class DaemonProcess:
    """``freepage ROLE ARGUMENTS`` as a process. A context manager: leaving it ends the process."""

    def __init__(self, role: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "freepage_lab.cli", role, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.ready: dict[str, Any] = {}
        self.stderr = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=END_S)

    def wait_ready(self) -> Self:
        """Read the readiness line. Fails when the process ends without one."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            _, self.stderr = self.process.communicate(timeout=END_S)
            raise AssertionError(f"the daemon ended with {self.process.returncode}: {self.stderr}")
        self.ready = json.loads(line)
        assert self.ready["ready"] is True
        return self

    @property
    def control(self) -> str:
        return str(self.ready["control"])

    def page(self, path: str) -> str:
        """One of the daemon's HTTP pages."""
        with urllib.request.urlopen(f"http://{self.ready['metrics']}{path}", timeout=END_S) as answer:
            return str(answer.read().decode())

    def stop(self, signum: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end; returns its exit code. What it wrote to stderr is in ``stderr`` then."""
        self.process.send_signal(signum)
        return self.end()

    def end(self) -> int:
        """Wait for its end."""
        _, self.stderr = self.process.communicate(timeout=END_S)
        return self.process.returncode


def server(export: Path, *more: str) -> DaemonProcess:
    return DaemonProcess("server", "--export", str(export), "--listen", "127.0.0.1:0", *more)


def client(server: DaemonProcess, *more: str, name: str = "c1", options: str = "") -> DaemonProcess:
    mount = f"{server.ready['grpc']}:/export=/mnt" + (f",{options}" if options else "")
    return DaemonProcess("client", "--mount", mount, "--name", name, *more)
