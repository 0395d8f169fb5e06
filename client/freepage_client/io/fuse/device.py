"""/dev/fuse and fusermount3: how a mount point comes into being, and how it goes away.

fusermount3 is used by root, too: with ``auto_unmount`` it stays, and unmounts should this process die. So a crash
leaves no hung mount behind. It may be called by anybody, since it is installed set-user-id root.
"""

from __future__ import annotations

import array
import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from freepage_runtime.errors import UserError

DEVICE = "/dev/fuse"
HELPER = "fusermount3"
MOUNTINFO = Path("/proc/self/mountinfo")
FSTYPE = "fuse.freepage"


class CannotMount(UserError):
    """There is no FUSE here, or it would not mount."""


class CannotUnmount(UserError):
    """The mount point is in use, or was none."""


def require_fuse() -> str:
    """The path of fusermount3. Raises CannotMount that says what is missing."""
    if not Path(DEVICE).exists():
        raise CannotMount(f"there is no {DEVICE}: FUSE is not available here (in a container: --device {DEVICE})")
    helper = shutil.which(HELPER)
    if helper is None:
        raise CannotMount(f"{HELPER} is missing (Debian: apt-get install fuse3)")
    return helper


def mount(mountpoint: str, options: Sequence[str]) -> tuple[int, socket.socket]:
    """Mount; returns the descriptor to talk to the kernel with, and a socket: when it closes, fusermount3 unmounts.

    Raises CannotMount.
    """
    helper = require_fuse()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with theirs:
        process = subprocess.Popen(
            [helper, "-o", ",".join(("auto_unmount", *options)), "--", mountpoint],
            env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno()), "LC_ALL": "C"},
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us; it unmounts when we are gone
        )
    try:
        fd = _receive_descriptor(ours)
    except OSError:
        fd = -1
    if fd < 0:
        ours.close()
        assert process.stderr is not None
        complaint = process.stderr.read().decode(errors="replace").strip()
        process.wait()
        process.stderr.close()
        raise CannotMount(f"cannot mount on {mountpoint}: {complaint or f'{HELPER} said nothing'}")
    assert process.stderr is not None
    process.stderr.close()
    _WATCHERS.append(process)
    return fd, ours


_WATCHERS: list[subprocess.Popen[bytes]] = []
"""The helpers that wait for our end."""


def reap_watchers() -> None:
    """The mounts are gone and their sockets closed: wait for the helpers."""
    while _WATCHERS:
        process = _WATCHERS.pop()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5.0)


def _receive_descriptor(channel: socket.socket) -> int:
    size = array.array("i").itemsize
    data, ancillary, _, _ = channel.recvmsg(1, socket.CMSG_SPACE(size))
    for level, kind, payload in ancillary:
        if data and level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds = array.array("i")
            fds.frombytes(payload[:size])
            return fds[0]
    return -1


def unmount(mountpoint: str, *, lazy: bool = False) -> None:
    """Take a mount point away; ``lazy`` even if it is in use. Raises CannotUnmount."""
    helper = require_fuse()
    arguments = [helper, "-u", *(["-z"] if lazy else []), "--", mountpoint]
    done = subprocess.run(arguments, stdin=subprocess.DEVNULL, capture_output=True, env={**os.environ, "LC_ALL": "C"})
    if done.returncode:
        complaint = done.stderr.decode(errors="replace").strip().removeprefix(f"{HELPER}: ")
        raise CannotUnmount(complaint or f"cannot unmount {mountpoint}")


def mounted_on(mountpoint: str) -> str | None:
    """The type of what is mounted exactly there, the topmost; None if nothing is."""
    found = None
    for line in MOUNTINFO.read_text(errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        point = before.split()[4].encode("utf-8", "surrogateescape").decode("unicode_escape")
        if point.encode("latin-1", "surrogateescape").decode("utf-8", "surrogateescape") == mountpoint:
            found = after.split()[0]
    return found
