"""Run a command that reads /proc, unmodified, as if it ran on the emulated machine.

The command gets a mount namespace of its own; we stay outside, ask the daemon for its files a few times a second, and
write them where the command finds them. The files in which a tool looks again and again with the file open (vmstat) are
written in place, in one write; mountstats, which nfsiostat opens anew each time and parses strictly, is replaced whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from freepage_lab.daemons import choose_one, tls_for
from freepage_lab.procexec.namespace import enter
from freepage_runtime.errors import UserError
from freepage_runtime.process import die_with_parent
from freepage_runtime.registry import Daemon

if TYPE_CHECKING:
    from freepage_runtime.control_client import ControlClient

MOUNTSTATS = Path("/proc/self/mountstats")
OF_EVERY_MACHINE = (Path("/proc/slabinfo"), Path("/proc/meminfo"), Path("/proc/vmstat"))

REFRESH_S = 0.25
"""How old the files may be. One asking costs the daemon about a millisecond."""

CANNOT_RUN = 126
"""The shell's exit code for what is no program."""


class CommandNotFound(UserError):
    """There is no such program. The exit code is the shell's."""

    exit_code = 127


def proc_exec(
    command: Sequence[str],
    addresses: Sequence[str] = (),
    names: Sequence[str] = (),
    role: str | None = None,
    *,
    token: str | None = None,
    refresh_s: float = REFRESH_S,
) -> int:
    """Run ``command`` and return its exit code, 128 + n if signal n ended it. Raises UserError."""
    program = _find(command[0])
    daemon = choose_one(addresses, names, role or "client")
    files = (MOUNTSTATS, *OF_EVERY_MACHINE) if daemon.role == "client" else OF_EVERY_MACHINE
    with tempfile.TemporaryDirectory(prefix="freepage-proc-") as directory:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            # Before anything of gRPC is imported: it has threads, which neither fork nor unshare likes.
            pid = os.fork()
            if pid == 0:
                ours.close()
                _be_the_command(program, command, Path(directory), files, theirs)
            theirs.close()
            with _reaped(pid) as child:
                view = _receive_view(ours)
                try:
                    return asyncio.run(_accompany(daemon, token, files, view, ours, child, refresh_s))
                finally:
                    os.close(view)


def _find(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin")
    if found is None:
        raise CommandNotFound(f"{name}: command not found")
    return found


# --- in the child ---------------------------------------------------------------------------------------------------


def _be_the_command(
    program: str, command: Sequence[str], directory: Path, files: Sequence[Path], parent: socket.socket
) -> NoReturn:
    """Enter the namespace, hand its directory to the parent, wait until it is filled, and become the command."""
    code = 1
    try:
        me = os.getppid()
        view = enter(directory, files)
        socket.send_fds(parent, [b"ok"], [view])
        die_with_parent(parent_pid=me)
        if parent.recv(1):
            os.execv(program, list(command))
    except UserError as error:
        parent.send(str(error).encode())
    except OSError as error:
        print(f"freepage: cannot run {program}: {error.strerror}", file=sys.stderr)
        code = CANNOT_RUN
    finally:
        os._exit(code)


# --- in the parent --------------------------------------------------------------------------------------------------


class _Child:
    """The process that is, or becomes, the command."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.exit_code: int | None = None

    async def ended(self) -> int:
        """Wait for its end; the exit code as a shell has it."""
        over = asyncio.Event()
        pidfd = os.pidfd_open(self.pid)
        loop = asyncio.get_running_loop()
        loop.add_reader(pidfd, over.set)
        try:
            await over.wait()
        finally:
            loop.remove_reader(pidfd)
            os.close(pidfd)
        return self.reap()

    def signal(self, signum: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signum)

    def reap(self) -> int:
        if self.exit_code is None:
            code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            self.exit_code = 128 - code if code < 0 else code
        return self.exit_code


@contextlib.contextmanager
def _reaped(pid: int) -> Iterator[_Child]:
    """Whatever happens, the child does not outlive the block."""
    child = _Child(pid)
    try:
        yield child
    finally:
        if child.exit_code is None:
            child.signal(signal.SIGKILL)
            child.reap()


def _receive_view(child: socket.socket) -> int:
    """The directory with the files, from the child that sees it. Raises UserError with what the child says instead."""
    said, fds, _, _ = socket.recv_fds(child, 4096, 1)
    if not fds:
        raise UserError(said.decode() or "the process that should become the command ended")
    return fds[0]


async def _accompany(
    daemon: Daemon,
    token: str | None,
    files: Sequence[Path],
    view: int,
    go: socket.socket,
    child: _Child,
    refresh_s: float,
) -> int:
    from freepage_runtime.control_client import ControlClient

    assert daemon.control is not None
    async with ControlClient(daemon.control, token=token, tls=tls_for(daemon)) as control:
        await _refresh(control, files, view)  # what is wrong with the daemon is told before the command begins
        refreshing = asyncio.ensure_future(_keep_fresh(control, daemon, files, view, refresh_s))
        try:
            with _signals_passed_on(child):
                go.send(b"!")
                return await child.ended()
        finally:
            refreshing.cancel()
            await asyncio.gather(refreshing, return_exceptions=True)


@contextlib.contextmanager
def _signals_passed_on(child: _Child) -> Iterator[None]:
    """As a shell does: the terminal's signals go to the command anyway, and it decides; the others are passed on."""
    loop = asyncio.get_running_loop()
    from_the_terminal, passed_on = (signal.SIGINT, signal.SIGQUIT), (signal.SIGTERM, signal.SIGHUP)
    for signum in from_the_terminal:
        loop.add_signal_handler(signum, lambda: None)
    for signum in passed_on:
        loop.add_signal_handler(signum, child.signal, signum)
    try:
        yield
    finally:
        for signum in (*from_the_terminal, *passed_on):
            loop.remove_signal_handler(signum)


async def _keep_fresh(control: ControlClient, daemon: Daemon, files: Sequence[Path], view: int, every_s: float) -> None:
    """A daemon that goes away leaves its last files, and one line about it."""
    gone = False
    while True:
        await asyncio.sleep(every_s)
        try:
            await _refresh(control, files, view)
        except UserError as error:
            if not gone:
                print(f"freepage: {daemon.name} does not answer, its files stay as they are: {error}", file=sys.stderr)
            gone = True
        else:
            gone = False


async def _refresh(control: ControlClient, files: Sequence[Path], view: int) -> None:
    texts = await asyncio.gather(*(control.proc_file(str(file)) for file in files))
    for file, text in zip(files, texts, strict=True):
        if file == MOUNTSTATS:
            _replace(view, file.name, text.encode())
        else:
            _overwrite(view, file.name, text.encode())


def _replace(view: int, name: str, contents: bytes) -> None:
    new = os.open(f".{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o444, dir_fd=view)
    try:
        os.write(new, contents)
    finally:
        os.close(new)
    os.rename(f".{name}", name, src_dir_fd=view, dst_dir_fd=view)


def _overwrite(view: int, name: str, contents: bytes) -> None:
    """The file stays the same one: it is mounted, and perhaps open."""
    file = os.open(name, os.O_WRONLY, dir_fd=view)
    try:
        os.pwrite(file, contents, 0)
        os.ftruncate(file, len(contents))
    finally:
        os.close(file)
