"""Mount points for tests: a server, the clients mounted from it, and what must be true when they are gone."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Self

RUN_S = 60.0
NFS_ROOT = "no_root_squash" if os.getuid() == 0 else "root_squash"


_SERVER_OPTIONS = ("--listen", "127.0.0.1:0", "--metrics", "none", "--log-level", "error")


def fast_directory() -> str | None:
    """Where the exports of tests live: in memory, if that can be; the server's fsyncs are another test's matter."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def freepage(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    done = subprocess.run(
        [sys.executable, "-m", "freepage_lab.cli", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=RUN_S,
    )
    if check and done.returncode:
        raise AssertionError(f"freepage {' '.join(arguments)}: exit {done.returncode}: {done.stderr}")
    return done


class Server:
    """``freepage server`` on a free port, for the length of a block."""

    def __init__(self, export: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "freepage_lab.cli", "server", "--export", export, *_SERVER_OPTIONS],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.address: str = json.loads(self._process.stdout.readline())["grpc"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *what: object) -> None:
        self._process.kill()
        self._process.communicate()

    def stop(self) -> int:
        self._process.terminate()
        return self._process.wait(RUN_S)


class Mount:
    """One ``freepage mount``. ``path`` is the mount point."""

    def __init__(self, source: str, path: Path, options: str = "", *more: str) -> None:
        self.path = path
        path.mkdir(exist_ok=True)
        freepage("mount", source, str(path), *(["-o", options] if options else []), *more)
        self.mounted = True

    def virtual(self, name: str) -> str:
        return (self.path / ".freepage" / name).read_text()

    def steer(self, name: str, text: str) -> None:
        (self.path / ".freepage" / name).write_text(text)

    def scan(self) -> str:
        """The leak report, made now."""
        self.steer("kmemleak", "scan\n")
        return self.virtual("kmemleak")

    def rpcs(self) -> dict[str, int]:
        """Calls by procedure, from mountstats."""
        counts: dict[str, int] = {}
        for line in self.virtual("proc/self/mountstats").splitlines():
            name, colon, numbers = line.strip().partition(": ")
            if colon and name.isupper() and name.isalnum():
                counts[name] = counts.get(name, 0) + int(numbers.split()[0])
        return counts

    def umount(self) -> str:
        """Unmount; what was left behind, "" if nothing."""
        left = freepage("umount", str(self.path), check=False).stderr
        # Asked of the kernel's table: a mount whose server has gone would answer stat(2) when that comes back.
        self.mounted = f" {self.path} " in Path("/proc/self/mounts").read_text()
        return left

    def finish(self) -> None:
        """The end of a suite that ran with the hook on: nothing leaked, nothing is left."""
        report = self.scan()
        assert report.startswith("no orphaned objects\n") and "DISAGREES" not in report, report
        left = self.umount()
        assert not left, left
        self.path.rmdir()


@contextlib.contextmanager
def mounted(source: str, path: Path, options: str = "", *more: str) -> Iterator[Mount]:
    """A mount that ends well with the block; if that or the block fails, it merely ends."""
    mount = Mount(source, path, options, *more)
    try:
        yield mount
        if mount.mounted:
            mount.finish()
    finally:
        if mount.mounted:
            freepage("umount", "--lazy", str(path), check=False)


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A directory in memory."""
    path = Path(tempfile.mkdtemp(prefix="freepage-mount-", dir=fast_directory()))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
