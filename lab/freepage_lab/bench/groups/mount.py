"""A mount's answers from the page cache, beside a file system that does nothing over the same FUSE binding.

Both daemons are on the other processor, one at work at a time. The time is the caller's: a system call, two changes of
process, and what the daemon does in between.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from freepage_client.io.fuse import device
from freepage_lab.bench.measure import pin
from freepage_lab.bench.row import Bench, CannotRun, Plan, Sides

NULL = "null file system over the same binding"
PIECE = 128 << 10


def benches() -> list[Bench]:
    return [
        Bench("mount", "read 128 KiB of cached data", NULL, "us/read", 0.75, partial(_reads, PIECE)),
        Bench("mount", "read 4 KiB of cached data", NULL, "us/read", 0.50, partial(_reads, 4096)),
        Bench("mount", "stat", NULL, "us/call", 0.50, _stats),
    ]


@contextmanager
def _reads(piece: int, plan: Plan) -> Iterator[Sides]:
    size = plan.size(4 << 20, 4 * PIECE)  # it is not the machine's memory that is measured
    calls = plan.size(1000, 4)
    offsets = [i * piece % size for i in range(calls)]
    with _mounts(plan, size) as (ours, null):
        files = [os.open(path, os.O_RDONLY) for path in (ours, null)]
        try:
            for fd in files:
                for offset in range(0, size, PIECE):
                    assert len(os.pread(fd, PIECE, offset)) == PIECE
            yield Sides(*(partial(_us, partial(os.pread, fd, piece), offsets) for fd in files))
        finally:
            for fd in files:
                os.close(fd)


@contextmanager
def _stats(plan: Plan) -> Iterator[Sides]:
    calls = range(plan.size(1000, 4))
    with _mounts(plan, PIECE) as paths:
        yield Sides(*(partial(_us, partial(_stat, path), calls) for path in paths))


def _stat(path: Path, _: int) -> None:
    path.stat()


def _us(call: Callable[[int], object], arguments: range | list[int]) -> float:
    """Elapsed microseconds a call."""
    start_ns = time.perf_counter_ns()
    for argument in arguments:
        call(argument)
    return (time.perf_counter_ns() - start_ns) / len(arguments) / 1000


@contextmanager
def _mounts(plan: Plan, size: int) -> Iterator[tuple[Path, Path]]:
    """A file of ``size`` bytes on a mount of ours, and one on the null file system."""
    try:
        device.require_fuse()
    except device.CannotMount as error:
        raise CannotRun(str(error)) from error
    freepage = (sys.executable, "-m", "freepage_lab.cli")
    with tempfile.TemporaryDirectory(prefix="freepage-bench-") as name:
        place = Path(name)
        export, ours, null = place / "export", place / "ours", place / "null"
        for directory in (export, ours, null):
            directory.mkdir()
        (export / "data").write_bytes(os.urandom(size))
        export.chmod(0o755)
        (export / "data").chmod(0o644)
        pin(plan.cores, -1)  # the daemons stay there; we come back
        server = _start(
            *freepage, "server", "--export", f"{export}:/export", "--listen", "127.0.0.1:0", "--log-level", "error"
        )
        try:
            address = _said(server).partition('"grpc": "')[2].partition('"')[0]
            options = "actimeo=3600,read_ahead_kb=1024"
            subprocess.run(
                [*freepage, "mount", f"{address}:/export", str(ours), "-o", options, "--cache", "256MiB"], check=True
            )
            try:
                nothing = _start(sys.executable, "-m", "freepage_lab.mount.nullfs", str(null), str(size))
                try:
                    _said(nothing)
                    pin(plan.cores, 0)
                    yield ours / "data", null / "data"
                finally:
                    device.unmount(str(null), lazy=True)
                    _end(nothing)
            finally:
                subprocess.run([*freepage, "umount", str(ours)], check=True)
        finally:
            server.terminate()
            _end(server)


def _start(*command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)


def _said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise CannotRun("a daemon ended before it was ready")
    return line


def _end(process: subprocess.Popen[str]) -> None:
    try:
        process.wait(30)
    finally:
        process.kill()
        process.communicate()
