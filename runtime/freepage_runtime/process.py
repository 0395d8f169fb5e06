"""What a daemon owes the system around it: stop when asked, die with its parent, say clearly why it cannot listen."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import os
import signal
import socket
import sys
from collections.abc import Iterator

from freepage_runtime.clock import Clock
from freepage_runtime.errors import UserError
from freepage_runtime.settings import Address

_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h


class PortTaken(UserError):
    """Somebody else listens there already."""


class CannotListen(UserError):
    """The address is not ours to listen on: not of this machine, or not allowed."""


class StopEvent(asyncio.Event):
    """Set when a signal asks the process to stop."""

    def __init__(self) -> None:
        super().__init__()
        self.signum: int | None = None
        """The signal that came first; None until one has, and also when ``set()`` was called by hand."""


@contextlib.contextmanager
def stop_on_signals(*signals: signal.Signals) -> Iterator[StopEvent]:
    """Turn signals (SIGINT and SIGTERM if none is named) into an event of the running loop, for the block's length.

    The first asks; a second one of any kind ends the process at once with the shell's 128 + n, because a user who
    presses Ctrl-C twice means it. Call in the main thread, with the loop running.
    """
    loop = asyncio.get_running_loop()
    stop = StopEvent()
    wanted = signals or (signal.SIGINT, signal.SIGTERM)

    def on_signal(signum: signal.Signals) -> None:
        if stop.signum is not None:
            os._exit(128 + signum)
        stop.signum = signum
        stop.set()

    for signum in wanted:
        loop.add_signal_handler(signum, on_signal, signum)
    try:
        yield stop
    finally:
        for signum in wanted:
            loop.remove_signal_handler(signum)


def die_with_parent(signum: int = signal.SIGTERM, parent_pid: int | None = None) -> bool:
    """Have the kernel send us ``signum`` when our parent dies; False where the system cannot (then see parent_gone).

    Linux ties this to the parent's *thread* that started us (prctl(2), PR_SET_PDEATHSIG), so parents start daemons from
    their main thread. A parent that died before this call would never be noticed: given ``parent_pid``, we look, and
    send the signal to ourselves.
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signum), 0, 0, 0) != 0:
        return False
    if parent_pid is not None and os.getppid() != parent_pid:
        os.kill(os.getpid(), signum)
    return True


async def parent_gone(parent_pid: int, clock: Clock, every_s: float = 1.0) -> None:
    """Return once ``parent_pid`` is not our parent any more: orphans are handed to init, or to a subreaper."""
    while os.getppid() == parent_pid:
        await clock.sleep(every_s)


def explain_bind_error(host: str, port: int, error: BaseException) -> UserError:
    """The user's line for a failed bind; ``error`` is an OSError, or the RuntimeError of gRPC's ``add_*_port``.

    gRPC says what went wrong in prose only, and by default shares a taken port instead of failing: pass the server
    option ``("grpc.so_reuseport", 0)``.
    """
    address = Address(host, port)
    if not isinstance(error, OSError):
        error = _objection(host, port) or error
    code = error.errno if isinstance(error, OSError) else 0
    if code == errno.EADDRINUSE:
        return PortTaken(f"cannot listen on {address}: the port is taken (choose another, or 0 for any free one)")
    if code == errno.EACCES:
        return CannotListen(f"cannot listen on {address}: permission denied (ports below 1024 need a privilege)")
    if code == errno.EADDRNOTAVAIL:
        return CannotListen(f"cannot listen on {address}: not an address of this machine")
    if isinstance(error, socket.gaierror):  # its numbers are not errno's
        return CannotListen(f"cannot listen on {address}: no such host")
    reason = os.strerror(code) if code else str(error)
    return CannotListen(f"cannot listen on {address}: {reason}")


def _objection(host: str, port: int) -> OSError | None:
    """What the system has against this address, since the caller's error does not say; None: nothing any more."""
    try:
        _bind(host, port).close()
    except OSError as error:
        return error
    return None


def _bind(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, sockaddr = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, protocol)
    try:
        # Only skips TIME_WAIT on Unix: a port that somebody listens on still fails.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(sockaddr)
    except BaseException:
        sock.close()
        raise
    return sock


def listen(host: str, port: int, backlog: int = 128) -> socket.socket:
    """A bound, listening, non-blocking TCP socket; PortTaken or CannotListen with the line for the user."""
    try:
        sock = _bind(host, port)
        try:
            sock.listen(backlog)
        except BaseException:
            sock.close()
            raise
    except OSError as error:
        raise explain_bind_error(host, port, error) from error
    sock.setblocking(False)
    return sock
