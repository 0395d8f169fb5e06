"""Reading directories (fs/readdir.c), and glibc's way of doing it."""

from __future__ import annotations

import errno
import os

from freepage_client.nfs import readdir
from freepage_client.nfs.errors import os_error
from freepage_client.vfs.attributes import Attributes
from freepage_client.vfs.opening import Opening
from freepage_client.vfs.process import Path
from freepage_proto.nfs3 import FType3

OPENDIR_MIN_BUFFER = 32 << 10
OPENDIR_MAX_BUFFER = 1 << 20
"""glibc's bounds for opendir's buffer (sysdeps/unix/sysv/linux/opendir.c)."""


class Directories(Opening, Attributes):
    """A process that lists directories; it opens them and asks for their block size first."""

    async def getdents(self, fd: int, buffer_size: int = 32768) -> list[tuple[bytes, int, FType3 | None]]:
        """getdents64(2): the next (name, inode number, type if known) that fit in the buffer; [] at the end."""
        open_file = self._get(fd)
        if open_file.directory is None:
            raise os_error(errno.ENOTDIR)
        async with open_file.inode.lock():
            if open_file.inode.dead:
                raise os_error(errno.ENOENT)
            return await readdir.getdents(
                open_file.inode, open_file.dentry, open_file.directory, buffer_size, self.cred
            )

    async def listdir(self, path: Path) -> list[bytes]:
        """The names in a directory but ``.`` and ``..``, in the server's order, as opendir(3) and readdir(3) get them.

        glibc asks for the directory's block size, which NFS makes dtsize, and takes a getdents buffer of that size.
        """
        fd = await self.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            size = (await self.fstat(fd)).st_blksize
            size = min(max(size, OPENDIR_MIN_BUFFER), OPENDIR_MAX_BUFFER)
            names: list[bytes] = []
            while entries := await self.getdents(fd, size):
                names += [name for name, _, _ in entries if name not in (b".", b"..")]
            return names
        finally:
            await self.close(fd)
