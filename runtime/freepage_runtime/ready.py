"""How a child tells its parent that it listens, and where: one line through an inherited pipe.

No polling, no guessing of ports, and when the child dies first, the pipe's end says so at once.
"""

from __future__ import annotations

import asyncio
import os

from freepage_runtime.errors import UserError
from freepage_runtime.registry import Daemon


class ChildFailed(UserError):
    """The child went away, or stayed silent, before it was ready."""


def announce(fd: int | None, daemon: Daemon) -> None:
    """In the child: hand the parent our registration, and close the pipe. Without a pipe there is nobody to tell."""
    if fd is None:
        return
    with os.fdopen(fd, "w", encoding="utf-8") as pipe:
        pipe.write(daemon.to_json() + "\n")


class ReadyPipe:
    """In the parent: make it, start the child with ``pass_fds=[pipe.child_fd]``, ``after_spawn()``, then ``wait()``."""

    def __init__(self) -> None:
        self._read_fd, self.child_fd = os.pipe()
        self._open = {self._read_fd, self.child_fd}

    def after_spawn(self) -> None:
        """Close our copy of the child's end, or its death would never show."""
        self._close(self.child_fd)

    async def wait(self, timeout_s: float = 30.0) -> Daemon:
        """The child's registration. Raises ChildFailed when the child ends first or says nothing in time."""
        self.after_spawn()
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        pipe = os.fdopen(self._read_fd, "rb", buffering=0)
        self._open.discard(self._read_fd)
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader, loop=loop), pipe)
        try:
            async with asyncio.timeout(timeout_s):
                line = await reader.readline()
        except TimeoutError:
            raise ChildFailed(f"the process did not become ready within {timeout_s:g} s") from None
        finally:
            transport.close()
            await asyncio.sleep(0)  # the transport closes its descriptor in the loop's next turn
        if not line.endswith(b"\n"):
            raise ChildFailed("the process ended before it was ready")
        return Daemon.from_json(line.decode("utf-8"))

    def close(self) -> None:
        for fd in list(self._open):
            self._close(fd)

    def _close(self, fd: int) -> None:
        if fd in self._open:
            self._open.discard(fd)
            os.close(fd)
