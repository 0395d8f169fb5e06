"""Calls about attributes: stat, access, chmod, chown, times, size, statfs; chdir (fs/stat.c, fs/open.c, fs/attr.c)."""

from __future__ import annotations

import errno
import os
import stat as modes
from collections.abc import Callable
from typing import TYPE_CHECKING

from freepage_client.nfs import access as nfs_access
from freepage_client.nfs import nfs3proc
from freepage_client.nfs.access import MAY_ACCESS, MAY_CHDIR, MAY_EXEC, MAY_WRITE
from freepage_client.nfs.dcache import Dentry, dget, dput
from freepage_client.nfs.dir import Lookup, verify_inode
from freepage_client.nfs.errors import os_error
from freepage_client.nfs.getattr import getattr_inode
from freepage_client.nfs.options import power_of_two_below
from freepage_client.nfs.setattr import Iattr, setattr_inode
from freepage_client.vfs.namei import directory_of, put_name, retry_estale
from freepage_client.vfs.process import Path, Process
from freepage_client.vfs.stat import Stat, StatFs
from freepage_proto.nfs3 import SET_TO_SERVER_TIME

if TYPE_CHECKING:
    from freepage_client.nfs.inode import NfsInode


class Attributes(Process):
    """A process that looks at attributes and sets them."""

    async def stat(self, path: Path) -> Stat:
        return await retry_estale(lambda reval: self._stat(path, reval, follow=True))

    async def lstat(self, path: Path) -> Stat:
        return await retry_estale(lambda reval: self._stat(path, reval, follow=False))

    async def _stat(self, path: Path, reval: Lookup, *, follow: bool) -> Stat:
        async with self._existing(path, reval, follow=follow) as dentry:
            return Stat.of(await getattr_inode(dentry, self.cred))

    async def fstat(self, fd: int) -> Stat:
        """fstat(2) as glibc makes it, fstatat of an empty path: a walk of no component, and so one that may meet a
        stale handle and be made again (vfs_statx).
        """
        dentry = self._get_raw(fd).dentry
        await self._stay(dentry, Lookup.NONE)
        try:
            return Stat.of(await getattr_inode(dentry, self.cred))
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
        await self._stay(dentry, Lookup.REVAL)
        return Stat.of(await getattr_inode(dentry, self.cred))

    async def _stay(self, dentry: Dentry, reval: Lookup) -> None:
        """The walk that ends where it begins; one that meets a stale handle asks the server (filename_lookup)."""
        assert dentry.inode is not None
        try:
            await verify_inode(dentry.inode, reval, self.cred)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            await verify_inode(dentry.inode, Lookup.REVAL, self.cred)

    async def access(self, path: Path, mode: int) -> None:
        """access(2): OSError(EACCES) if not all of ``mode`` (R_OK, W_OK, X_OK) is granted."""

        async def attempt(reval: Lookup) -> None:
            async with self._existing(path, reval) as dentry:
                assert dentry.inode is not None
                if mode & os.W_OK and not modes.S_ISCHR(dentry.inode.i_mode):
                    self._must_be_writable(dentry.inode)
                await nfs_access.permission(dentry.inode, (mode & 7) | MAY_ACCESS, self.cred)

        await retry_estale(attempt)

    async def chdir(self, path: Path) -> None:
        async def attempt(reval: Lookup) -> None:
            async with self._walk(path, reval) as walk:
                dentry = await walk.last_child(Lookup.NONE, follow=True)
                try:
                    await nfs_access.permission(directory_of(dentry), MAY_EXEC | MAY_CHDIR, self.cred)
                    old, self.cwd = self.cwd, dget(dentry)
                    self.cwd_mount = walk.mount
                    if old is not None:
                        dput(old)
                finally:
                    put_name(dentry)

        await retry_estale(attempt)

    async def _setattr(
        self, path: Path, make: Callable[[NfsInode], Iattr], *, follow: bool = True, mask: int = 0
    ) -> None:
        async def attempt(reval: Lookup) -> None:
            async with self._existing(path, reval, follow=follow) as dentry:
                inode = dentry.inode
                assert inode is not None
                iattr = make(inode)
                self._must_be_writable(inode)
                if mask:
                    await nfs_access.permission(inode, mask, self.cred)
                async with inode.lock():
                    await setattr_inode(inode, iattr, self.cred)

        await retry_estale(attempt)

    async def chmod(self, path: Path, mode: int) -> None:
        await self._setattr(path, lambda inode: Iattr(mode=mode & 0o7777))

    async def chown(self, path: Path, uid: int, gid: int, *, follow: bool = True) -> None:
        """chown(2); -1 leaves a number alone."""
        iattr = Iattr(uid=None if uid == -1 else uid, gid=None if gid == -1 else gid)
        await self._setattr(path, lambda inode: iattr, follow=follow)

    async def utimens(self, path: Path, atime_ns: int | None, mtime_ns: int | None, *, follow: bool = True) -> None:
        """utimensat(2); None is the server's current time."""
        iattr = Iattr(
            atime_ns=SET_TO_SERVER_TIME if atime_ns is None else atime_ns,
            mtime_ns=SET_TO_SERVER_TIME if mtime_ns is None else mtime_ns,
        )
        await self._setattr(path, lambda inode: iattr, follow=follow)

    async def truncate(self, path: Path, length: int) -> None:
        """truncate(2). To the size that the file has, it costs no call."""
        if length < 0:
            raise os_error(errno.EINVAL)

        def make(inode: NfsInode) -> Iattr:
            if inode.is_dir:
                raise os_error(errno.EISDIR)
            if not inode.is_reg:
                raise os_error(errno.EINVAL)
            return Iattr(size=length)

        await self._setattr(path, make, mask=MAY_WRITE)

    async def ftruncate(self, fd: int, length: int) -> None:
        """ftruncate(2): sets the times too, so that it is sent even if the size stays."""
        if length < 0:
            raise os_error(errno.EINVAL)
        open_file = self._get(fd)
        if open_file.file is None or not open_file.file.may_write:
            raise os_error(errno.EINVAL)
        async with open_file.inode.lock():
            await setattr_inode(open_file.inode, Iattr(size=length, mtime_ns=SET_TO_SERVER_TIME), self.cred)

    async def statfs(self, path: Path) -> StatFs:
        async def attempt(reval: Lookup) -> StatFs:
            async with self._existing(path, reval) as dentry:
                inode = dentry.inode
                assert inode is not None
                server = inode.server
                try:
                    result = await nfs3proc.fsstat(server, inode.fh, self.cred)
                except OSError as error:
                    if error.errno == errno.ESTALE and dentry.parent is not None:
                        directory_of(dentry.parent).zap_caches()
                    raise
                size = power_of_two_below(server.wsize)
                return StatFs(
                    f_bsize=size,
                    f_frsize=size,
                    f_blocks=-(-result.tbytes // size),
                    f_bfree=-(-result.fbytes // size),
                    f_bavail=-(-result.abytes // size),
                    f_files=result.tfiles,
                    f_ffree=result.ffiles,
                    f_favail=result.afiles,
                    f_namemax=server.namelen,
                )

        return await retry_estale(attempt)
