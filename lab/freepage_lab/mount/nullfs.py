"""A file system that does nothing, over our own FUSE binding: what a mount costs when what is behind it costs nothing.

It has one file, ``data``, of zeros. The bench compares the client's mount with it, in the same run.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import time
from typing import TYPE_CHECKING

from freepage_client.io.fuse import abi, device
from freepage_client.io.fuse.abi import Op
from freepage_client.io.fuse.loop import SharedLoop
from freepage_client.io.fuse.session import Answer, Handler, Request, Session

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NAME = b"data"
NODE = 2


class NullFileSystem:
    """``size`` is the file's, in bytes."""

    def __init__(self, size: int, ended: asyncio.Event, loop: SharedLoop) -> None:
        now = int(time.time())
        zeros = memoryview(bytes(1 << 20))
        self._ended: Callable[[], object] = lambda: loop.call_soon_threadsafe(ended.set)
        times = (now, now, now, 0, 0, 0)
        root = (abi.ROOT_ID, 4096, 8, *times, stat.S_IFDIR | 0o755, 2, os.getuid(), os.getgid(), 0, 4096, 0)
        file = (NODE, size, size >> 9, *times, stat.S_IFREG | 0o644, 1, os.getuid(), os.getgid(), 0, 4096, 0)
        attributes = {
            abi.ROOT_ID: abi.ATTR_OUT.pack(0, 0, 0, *root),
            NODE: abi.ATTR_OUT.pack(0, 0, 0, *file),
        }
        entry = abi.ENTRY_OUT.pack(NODE, 0, 0, 0, 0, 0, *file)
        opened = abi.OPEN_OUT.pack(1, abi.OPEN_DIRECT_IO, 0)

        def lookup(request: Request, body: memoryview) -> Answer:
            if body[:-1] != NAME:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            return entry

        def read(request: Request, body: memoryview) -> Answer:
            _, offset, wanted, *_ = abi.READ_IN.unpack_from(body)
            return zeros[: min(wanted, max(size - offset, 0))]

        self.handlers: Mapping[int, Handler] = {
            Op.LOOKUP: lookup,
            Op.FORGET: lambda request, body: None,
            Op.BATCH_FORGET: lambda request, body: None,
            Op.GETATTR: lambda request, body: attributes[request.nodeid],
            Op.OPEN: lambda request, body: opened,
            Op.OPENDIR: lambda request, body: opened,
            Op.READ: read,
            Op.WRITE: lambda request, body: abi.WRITE_OUT.pack(abi.WRITE_IN.unpack_from(body)[2], 0),
            Op.FLUSH: lambda request, body: b"",
            Op.RELEASE: lambda request, body: b"",
            Op.RELEASEDIR: lambda request, body: b"",
        }

    def ended(self) -> None:
        self._ended()


def serve(mountpoint: str, size: int, threads: int = 1) -> None:
    """Mount, and serve until unmounted. Prints a line once it serves."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SharedLoop)
        ended = asyncio.Event()
        fd, watched = device.mount(mountpoint, ["fsname=null", "subtype=freepage"])
        session = Session(fd, NullFileSystem(size, ended, loop), loop, threads=threads)
        session.start()
        print("ready", flush=True)
        await ended.wait()
        await session.join()
        session.close()
        watched.close()
        await loop.run_in_executor(None, device.reap_watchers)

    with asyncio.Runner(loop_factory=SharedLoop) as runner:
        runner.run(main())


if __name__ == "__main__":
    import sys

    serve(sys.argv[1], int(sys.argv[2]))
