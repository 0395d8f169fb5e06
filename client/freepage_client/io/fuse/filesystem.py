"""The mounted client: each FUSE request as calls of the client's vfs layer.

Attributes and names are never given to the kernel to keep (all time-outs are 0) and files are opened for direct I/O, so
that every system call reaches our cache. What the cache can answer is answered at once, in the thread that read the
request; everything else is a coroutine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from freepage_client.io.fuse.abi import Op
from freepage_client.io.fuse.attributes import Attributes
from freepage_client.io.fuse.files import Files
from freepage_client.io.fuse.names import Names
from freepage_client.io.fuse.session import Answer, Handler, Request
from freepage_client.io.fuse.state import Later
from freepage_client.io.fuse.virtual import VirtualDirectory

if TYPE_CHECKING:
    from freepage_client.machine import Machine
    from freepage_client.nfs.mount import Mount


class FuseFileSystem(Names, Attributes, Files):
    """One mount of the machine, served to the kernel.

    ``kernel_cache``: files are opened through the kernel's page cache (``-o mmap``). ``virtual`` is the directory
    .freepage, None without one. ``on_end`` is called, in any thread, when the kernel has unmounted.
    """

    def __init__(
        self,
        machine: Machine,
        mount: Mount,
        *,
        is_idle: Callable[[], bool],
        on_end: Callable[[], None],
        kernel_cache: bool = False,
        virtual: VirtualDirectory | None = None,
    ) -> None:
        super().__init__(machine, mount, is_idle=is_idle, kernel_cache=kernel_cache)
        self._on_end = on_end
        table: dict[Op, Callable[[Request, memoryview], Answer | Later]] = {
            Op.LOOKUP: self.lookup,
            Op.FORGET: self.forget,
            Op.BATCH_FORGET: self.batch_forget,
            Op.GETATTR: self.getattr,
            Op.SETATTR: self.setattr,
            Op.ACCESS: self.access,
            Op.READLINK: self.readlink,
            Op.SYMLINK: self.symlink,
            Op.MKNOD: self.mknod,
            Op.MKDIR: self.mkdir,
            Op.UNLINK: self.unlink,
            Op.RMDIR: self.rmdir,
            Op.RENAME: self.rename,
            Op.RENAME2: self.rename2,
            Op.LINK: self.link,
            Op.OPEN: self.open,
            Op.CREATE: self.create,
            Op.READ: self.read,
            Op.WRITE: self.write,
            Op.FLUSH: self.flush,
            Op.FSYNC: self.fsync,
            Op.RELEASE: self.release,
            Op.OPENDIR: self.opendir,
            Op.READDIR: self.readdir,
            Op.RELEASEDIR: self.release,
            Op.FSYNCDIR: self.fsync,
            Op.STATFS: self.statfs,
            Op.LISTXATTR: self.listxattr,
            Op.GETLK: self.getlk,
            Op.SETLK: self.setlk,
            Op.SETLKW: self.setlk,
        }
        self.handlers: dict[int, Handler] = {int(op): handler for op, handler in table.items()}
        if virtual is not None:
            for op in virtual.handlers:
                self.handlers[op] = virtual.route(op, self.handlers.get(op))

    def ended(self) -> None:
        self._on_end()

    async def close(self) -> None:
        """The kernel has let go: close what it left open, as when a machine's processes are killed."""
        for fh in list(self.files):
            await self._release(self.files.pop(fh), None)
        self.callers.close()
