"""open(2), close(2), dup(2) (fs/open.c, fs/file.c)."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from freepage_client.nfs import access as nfs_access
from freepage_client.nfs import dir as nfs_dir
from freepage_client.nfs import lock as nfs_lock
from freepage_client.nfs import readdir
from freepage_client.nfs.access import MAY_EXEC, MAY_OPEN, MAY_READ, MAY_WRITE
from freepage_client.nfs.dcache import Dentry, dput
from freepage_client.nfs.dir import Lookup
from freepage_client.nfs.errors import os_error
from freepage_client.nfs.file import NfsFile
from freepage_client.nfs.setattr import Iattr, setattr_inode
from freepage_client.vfs.namei import Walk, put_name, retry_estale
from freepage_client.vfs.process import OpenFile, Path, Process
from freepage_proto.nfs3 import SET_TO_SERVER_TIME

if TYPE_CHECKING:
    from freepage_client.nfs.inode import NfsInode
    from freepage_client.nfs.mount import Mount

FMODE_EXEC = 0x20
"""An open flag of the kernel's own: the file is opened to be executed (include/linux/fs.h)."""


_O_PATH_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""O_PATH only finds a place, and ignores every other flag (build_open_how)."""


class Opening(Process):
    """A process that opens and closes files."""

    async def open(self, path: Path, flags: int, mode: int = 0o644) -> int:
        """open(2); returns a descriptor. Raises OSError."""
        open_file = await self.open_file(path, flags, mode)
        try:
            return self._install(open_file)
        except OSError:
            await self.release(open_file)
            raise

    async def open_file(self, path: Path, flags: int, mode: int = 0o644) -> OpenFile:
        """``open`` without a descriptor: the caller ends the file with ``release``."""
        if flags & os.O_PATH:
            flags &= _O_PATH_FLAGS
        if flags & os.O_CREAT and flags & os.O_DIRECTORY:
            raise os_error(errno.EINVAL)
        return await retry_estale(lambda reval: self._open(path, flags, mode, reval))

    async def _open(self, path: Path, flags: int, mode: int, reval: Lookup) -> OpenFile:
        async with self._walk(path, reval) as walk:
            dentry, created = await self._open_last(walk, flags, mode)
            try:
                return await self.open_dentry(dentry, flags, created=created, mount=walk.mount)
            finally:
                put_name(dentry)

    async def _open_last(self, walk: Walk, flags: int, mode: int) -> tuple[Dentry, bool]:
        follow = not flags & os.O_NOFOLLOW and not (flags & os.O_CREAT and flags & os.O_EXCL)
        if not flags & os.O_CREAT:
            dentry = await walk.last_child(Lookup.NONE if flags & os.O_PATH else Lookup.OPEN, follow=follow)
            if dentry.inode is None:
                put_name(dentry)
                raise os_error(errno.ENOENT)
            return dentry, False
        intent = Lookup.OPEN | Lookup.CREATE | (Lookup.EXCL if flags & os.O_EXCL else Lookup.NONE)
        while True:
            if walk.must_be_dir:
                raise os_error(errno.EISDIR)
            if not walk.last:
                return await walk.child(intent), False
            dir_inode = walk.directory_to_change()
            async with dir_inode.lock():
                known = walk.parent.children.get(walk.last)
                dentry = await walk.child(intent)
                if dentry.inode is None:
                    try:
                        return await self._create(dir_inode, dentry, flags, mode), True
                    except BaseException:
                        put_name(dentry)
                        raise
            if dentry is not known:  # may_o_create has been asked before the lookup told that nothing is to be made
                dir_inode.server.stats.events["vfsaccess"] += 1
            if not (dentry.inode.is_lnk and follow):
                return dentry, False
            await walk.along(dentry)

    async def _create(self, dir_inode: NfsInode, dentry: Dentry, flags: int, mode: int) -> Dentry:
        """The file that open(2) makes."""
        self._must_be_writable(dir_inode)
        await nfs_access.permission(dir_inode, MAY_WRITE | MAY_EXEC, self.cred)
        permissions = mode & 0o7777 & ~self.umask
        return await nfs_dir.create(dir_inode, dentry, permissions, self.cred, excl=bool(flags & os.O_EXCL))

    async def open_dentry(
        self, dentry: Dentry, flags: int, *, created: bool = False, mount: Mount | None = None
    ) -> OpenFile:
        """Open what a walk has led to; whether its attributes may be believed is the walk's business.

        ``mount`` is the one that the walk ended in; None where a file system of its own, as FUSE's, did the walk.
        """
        inode = dentry.inode
        assert inode is not None
        access = flags & os.O_ACCMODE
        if created:
            if inode.is_dir:
                raise os_error(errno.EISDIR)  # somebody else's, whom an unchecked CREATE does not mind (do_open)
            await nfs_access.permission(inode, MAY_OPEN, self.cred)
        else:
            if flags & os.O_CREAT and flags & os.O_EXCL:
                raise os_error(errno.EEXIST)
            if inode.is_dir and (flags & os.O_CREAT or access != os.O_RDONLY or flags & os.O_TRUNC):
                raise os_error(errno.EISDIR)
            if flags & os.O_DIRECTORY and not inode.is_dir:
                raise os_error(errno.ENOTDIR)
            if flags & os.O_PATH:
                return OpenFile(mount or self.machine.mount_of(dentry), dentry, flags)
            if inode.is_lnk:
                raise os_error(errno.ELOOP)
            if access != os.O_RDONLY or flags & os.O_TRUNC:
                self._must_be_writable(inode)
            await nfs_access.permission(inode, _open_mask(flags), self.cred)
        if not inode.is_reg and not inode.is_dir:
            raise os_error(errno.ENXIO)
        open_file = OpenFile(mount or self.machine.mount_of(dentry), dentry, flags)
        try:
            if inode.is_dir:
                inode.server.stats.events["vfsopen"] += 1
                open_file.directory = readdir.OpenDirContext(inode)
                if flags & os.O_DIRECT:
                    raise os_error(errno.EINVAL)
            else:
                open_file.file = NfsFile.open(dentry, flags, self.cred, self)
                if flags & os.O_TRUNC and not created:
                    iattr = Iattr(size=0, mtime_ns=SET_TO_SERVER_TIME)
                    await setattr_inode(inode, iattr, self.cred)
        except BaseException:
            await self.release(open_file)
            raise
        return open_file

    async def close(self, fd: int) -> None:
        """close(2). The descriptor is gone whatever happens; OSError tells of data that could not be written."""
        open_file = self._get_raw(fd)
        del self.files[fd]
        try:
            if open_file.file is not None:
                await open_file.file.flush()
        finally:
            if open_file.file is not None:
                await nfs_lock.release_locks(open_file.file, self, flock=False)
            open_file.users -= 1
            if not open_file.users:
                await self.release(open_file)

    @staticmethod
    async def release(open_file: OpenFile) -> None:
        """The last user of an open file is gone."""
        try:
            if open_file.file is not None:
                await nfs_lock.release_locks(open_file.file, open_file, flock=False)
                await nfs_lock.release_locks(open_file.file, open_file, flock=True)
                await open_file.file.release()
            if open_file.directory is not None:
                open_file.directory.close(open_file.inode)
            dput(open_file.dentry)
        finally:
            open_file.mount.opens -= 1

    async def dup(self, fd: int) -> int:
        """dup(2): a second descriptor for the same open file."""
        open_file = self._get_raw(fd)
        new = self._install(open_file)
        open_file.users += 1
        return new


def _open_mask(flags: int) -> int:
    """Who executes a file need not be allowed to read it (nfs_open_permission_mask)."""
    if flags & FMODE_EXEC:
        return MAY_OPEN | MAY_EXEC
    mask = MAY_OPEN
    access = flags & os.O_ACCMODE
    if access != os.O_WRONLY:
        mask |= MAY_READ
    if access != os.O_RDONLY or flags & os.O_TRUNC:
        mask |= MAY_WRITE
    return mask
