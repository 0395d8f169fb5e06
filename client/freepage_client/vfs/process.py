"""What every system call starts from: a process's credential, its descriptors and its place in the tree (fs/file.c).

The calls themselves are divided as the kernel's files are: opening, read_write, attributes, names, getdents, locks.
``vfs.task.Task`` has them all.
"""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

from freepage_client.nfs.dcache import Dentry, dget
from freepage_client.nfs.dir import Lookup
from freepage_client.nfs.errors import os_error
from freepage_client.vfs.namei import PATH_MAX, Walk, put_name, resolve_mount

if TYPE_CHECKING:
    from freepage_client.machine import Machine
    from freepage_client.nfs import readdir
    from freepage_client.nfs.cred import Credential
    from freepage_client.nfs.file import NfsFile
    from freepage_client.nfs.inode import NfsInode
    from freepage_client.nfs.mount import Mount


class At(NamedTuple):
    """A name in a directory that is known already, as the ``*at`` calls have it. Without slashes."""

    directory: Dentry
    name: bytes


Path = str | bytes | At

NR_OPEN = 1 << 20


class OpenFile:
    """What descriptors point at (struct file): a regular file or a directory, and the position they share."""

    __slots__ = ("dentry", "directory", "file", "flags", "inode", "mount", "pos", "users")

    def __init__(self, mount: Mount, dentry: Dentry, flags: int) -> None:
        assert dentry.inode is not None
        self.mount = mount
        mount.opens += 1
        self.dentry = dget(dentry)
        self.inode: NfsInode = dentry.inode
        self.flags = flags
        self.pos = 0
        self.users = 1
        self.file: NfsFile | None = None
        """None for a directory, and with O_PATH."""
        self.directory: readdir.OpenDirContext | None = None


class Process:
    """The state of a process, and how its calls get from a descriptor or a path to what is meant."""

    def __init__(self, machine: Machine, cred: Credential) -> None:
        self.machine = machine
        self.cred = cred
        self.cwd: Dentry | None = None
        self.cwd_mount: Mount | None = None
        self.umask = 0o022
        self.files: dict[int, OpenFile] = {}

    def _install(self, open_file: OpenFile) -> int:
        fd = 3
        while fd in self.files:
            fd += 1
        if fd >= NR_OPEN:
            raise os_error(errno.EMFILE)
        self.files[fd] = open_file
        return fd

    def _get(self, fd: int) -> OpenFile:
        open_file = self._get_raw(fd)
        if open_file.flags & os.O_PATH:
            raise os_error(errno.EBADF)
        return open_file

    def _get_raw(self, fd: int) -> OpenFile:
        """Of a descriptor that may be of O_PATH, for the calls that only ask where it points (fdget_raw)."""
        open_file = self.files.get(fd)
        if open_file is None:
            raise os_error(errno.EBADF)
        return open_file

    def _regular(self, fd: int, wrong: int = errno.EISDIR) -> NfsFile:
        file = self._get(fd).file
        if file is None:
            raise os_error(wrong)
        return file

    def _readable(self, fd: int) -> NfsFile:
        file = self._regular(fd)
        if not file.may_read:
            raise os_error(errno.EBADF)
        return file

    def _writable(self, fd: int) -> NfsFile:
        file = self._regular(fd, errno.EBADF)
        if not file.may_write:
            raise os_error(errno.EBADF)
        return file

    @asynccontextmanager
    async def _walk(self, path: Path, reval: Lookup) -> AsyncIterator[Walk]:
        """Stand on the directory of the path's last component."""
        start: Dentry | None = None
        if isinstance(path, At):
            start, raw = path
            mount = self.machine.mount_of(start)
        else:
            raw = path.encode("utf-8", "surrogateescape") if isinstance(path, str) else path
        if not raw:
            raise os_error(errno.ENOENT)
        if len(raw) >= PATH_MAX:
            raise os_error(errno.ENAMETOOLONG)
        if b"\0" in raw:
            raise os_error(errno.EINVAL)
        if start is not None:
            rest = raw
        elif raw.startswith(b"/"):
            mount, rest = resolve_mount(self.machine, raw)
            start = mount.root
        elif self.cwd is not None and self.cwd_mount is not None:
            mount, start, rest = self.cwd_mount, self.cwd, raw
        else:
            raise os_error(errno.ENOENT, path)
        mount.walks += 1
        walk = Walk(self.machine, mount, dget(start), self.cred, reval)
        try:
            await walk.to_parent(rest)
            yield walk
        finally:
            walk.done()
            mount.walks -= 1

    @asynccontextmanager
    async def _existing(self, path: Path, reval: Lookup, *, follow: bool = True) -> AsyncIterator[Dentry]:
        """The dentry that a path leads to. Raises OSError(ENOENT) if there is nothing."""
        async with self._walk(path, reval) as walk:
            dentry = await walk.last_child(Lookup.NONE, follow=follow)
            try:
                if dentry.inode is None:
                    raise os_error(errno.ENOENT, path)
                yield dentry
            finally:
                put_name(dentry)

    def _must_be_writable(self, inode: NfsInode) -> None:
        if inode.server.options.read_only:
            raise os_error(errno.EROFS)
