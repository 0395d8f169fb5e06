"""A process of a client machine and all its system calls. Made by ``Machine.task``.

Everything above this layer, be it FUSE, the control service or a replayed trace, is thin over these calls. Paths are
absolute in the machine's name space; errors are OSError with the errno that Linux would give.
"""

from __future__ import annotations

from freepage.slab import IN_USE
from freepage_client.nfs.dcache import dput
from freepage_client.vfs.getdents import Directories
from freepage_client.vfs.locks import Locks
from freepage_client.vfs.names import Names
from freepage_client.vfs.read_write import ReadWrite


class Task(ReadWrite, Directories, Names, Locks):
    """A process. Opening and attributes come with ``Directories``."""

    async def exit(self) -> None:
        """The process ends: every descriptor is closed, its credential given back. Write errors are lost, as ever."""
        for fd in list(self.files):
            try:
                await self.close(fd)
            except OSError as error:
                self.machine.message(f"exit: close of descriptor {fd}: {error}")
        if self.cwd is not None:
            dput(self.cwd)
            self.cwd = self.cwd_mount = None
        if self in self.machine.tasks:
            self.machine.tasks.remove(self)
            self.cred.put(IN_USE)
