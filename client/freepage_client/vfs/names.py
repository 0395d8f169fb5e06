"""Calls that make, move and remove names (fs/namei.c)."""

from __future__ import annotations

import contextlib
import errno
import stat as modes
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from freepage_client.nfs import access as nfs_access
from freepage_client.nfs import dir as nfs_dir
from freepage_client.nfs.access import MAY_EXEC, MAY_READ, MAY_WRITE
from freepage_client.nfs.dcache import Dentry, is_subdir
from freepage_client.nfs.dir import Lookup
from freepage_client.nfs.errors import os_error
from freepage_client.nfs.symlink import read_target
from freepage_client.vfs.namei import PATH_MAX, Walk, directory_of, put_name, retry_estale
from freepage_client.vfs.process import Path, Process
from freepage_proto.nfs3 import FType3

if TYPE_CHECKING:
    from freepage_client.nfs.inode import NfsInode
    from freepage_client.nfs.mount import Mount

_MKNOD_TYPES = {
    modes.S_IFREG: FType3.REG,
    modes.S_IFIFO: FType3.FIFO,
    modes.S_IFSOCK: FType3.SOCK,
    modes.S_IFCHR: FType3.CHR,
    modes.S_IFBLK: FType3.BLK,
}


class Names(Process):
    """A process that changes directories."""

    @asynccontextmanager
    async def _new_name(
        self, path: Path, reval: Lookup, *, directory: bool = False, source: Mount | None = None
    ) -> AsyncIterator[Dentry]:
        """A name to be made, in its locked directory (filename_create), for a file of the mount ``source`` if given.

        Raises OSError: EEXIST if there is one, EXDEV if it would be on another mount.
        """
        async with self._walk(path, reval) as walk:
            if not walk.last:
                raise os_error(errno.EEXIST)
            dir_inode = walk.directory_to_change()
            async with dir_inode.lock():
                only_directories = walk.must_be_dir and not directory
                walk.must_be_dir = False
                intent = Lookup.NONE if only_directories else Lookup.CREATE | Lookup.EXCL
                dentry = await walk.last_child(intent, follow=False)
                try:
                    if dentry.inode is not None:
                        raise os_error(errno.EEXIST)
                    if only_directories:
                        raise os_error(errno.ENOENT)
                    self._must_be_writable(dir_inode)
                    await nfs_access.permission(dir_inode, MAY_WRITE | MAY_EXEC, self.cred)
                    if source is not None and source is not walk.mount:
                        raise os_error(errno.EXDEV)
                    yield dentry
                finally:
                    put_name(dentry)

    async def mkdir(self, path: Path, mode: int = 0o755) -> None:
        async def attempt(reval: Lookup) -> None:
            async with self._new_name(path, reval, directory=True) as dentry:
                await nfs_dir.mkdir(_dir_of(dentry), dentry, mode & 0o1777 & ~self.umask, self.cred)

        await retry_estale(attempt)

    async def symlink(self, target: str | bytes, path: Path) -> None:
        """symlink(2): make ``path`` point to ``target``."""
        raw = target.encode("utf-8", "surrogateescape") if isinstance(target, str) else target
        if not raw:
            raise os_error(errno.ENOENT)
        if len(raw) >= PATH_MAX:
            raise os_error(errno.ENAMETOOLONG)

        async def attempt(reval: Lookup) -> None:
            async with self._new_name(path, reval) as dentry:
                await nfs_dir.symlink(_dir_of(dentry), dentry, raw, self.cred)

        await retry_estale(attempt)

    async def mknod(self, path: Path, mode: int, rdev: tuple[int, int] = (0, 0)) -> None:
        """mknod(2) for FIFOs, sockets, devices and regular files."""
        kind = _MKNOD_TYPES.get(modes.S_IFMT(mode) or modes.S_IFREG)
        if kind is None:
            raise os_error(errno.EINVAL)

        async def attempt(reval: Lookup) -> None:
            async with self._new_name(path, reval) as dentry:
                permissions = mode & 0o7777 & ~self.umask
                if kind is FType3.REG:
                    await nfs_dir.create(_dir_of(dentry), dentry, permissions, self.cred, excl=True)
                else:
                    await nfs_dir.mknod(_dir_of(dentry), dentry, kind, permissions, rdev, self.cred)

        await retry_estale(attempt)

    async def link(self, path: Path, new_path: Path) -> None:
        """link(2): a second name for a file."""

        async def attempt(reval: Lookup) -> None:
            async with self._walk(path, reval) as walk:
                old = await walk.last_child(Lookup.NONE, follow=False)
                try:
                    inode = old.inode
                    if inode is None:
                        raise os_error(errno.ENOENT, path)
                    async with self._new_name(new_path, reval, source=walk.mount) as dentry:
                        await self._may_link(inode)
                        if inode.is_dir:
                            raise os_error(errno.EPERM)
                        await nfs_dir.link(inode, _dir_of(dentry), dentry, self.cred)
                finally:
                    put_name(old)

        await retry_estale(attempt)

    async def _may_link(self, inode: NfsInode) -> None:
        """protected_hardlinks: a plain file may be linked by who may read and write it, or owns it."""
        mode = inode.i_mode
        special = mode & modes.S_ISUID or (mode & modes.S_ISGID and mode & modes.S_IXGRP)
        if inode.is_reg and not special:
            with contextlib.suppress(OSError):  # whatever is wrong, the owner may; LINK itself will tell
                await nfs_access.permission(inode, MAY_READ | MAY_WRITE, self.cred)
                return
        if self.cred.auth.uid not in (0, inode.i_uid):
            raise os_error(errno.EPERM)

    async def readlink(self, path: Path) -> bytes:
        async def attempt(reval: Lookup) -> bytes:
            async with self._existing(path, reval, follow=False) as dentry:
                assert dentry.inode is not None
                if not dentry.inode.is_lnk:
                    raise os_error(errno.EINVAL)
                return await read_target(dentry.inode, self.cred)

        return await retry_estale(attempt)

    async def unlink(self, path: Path) -> None:
        await retry_estale(lambda reval: self._remove(path, reval, directory=False))

    async def rmdir(self, path: Path) -> None:
        await retry_estale(lambda reval: self._remove(path, reval, directory=True))

    async def _remove(self, path: Path, reval: Lookup, *, directory: bool) -> None:
        async with self._walk(path, reval) as walk:
            if not walk.last:
                raise os_error(_rmdir_of_place(walk) if directory else errno.EISDIR)
            dir_inode = walk.directory_to_change()
            self._must_be_writable(dir_inode)
            async with dir_inode.lock():
                wanted_dir, walk.must_be_dir = walk.must_be_dir, False
                dentry = await walk.last_child(Lookup.NONE, follow=False)
                try:
                    inode = dentry.inode
                    if inode is None:
                        raise os_error(errno.ENOENT)
                    await nfs_access.permission(dir_inode, MAY_WRITE | MAY_EXEC, self.cred)
                    if directory:
                        if not inode.is_dir:
                            raise os_error(errno.ENOTDIR)
                        await nfs_dir.rmdir(dir_inode, dentry, self.cred)
                    elif inode.is_dir:
                        raise os_error(errno.EISDIR)
                    elif wanted_dir:
                        raise os_error(errno.ENOTDIR)
                    else:
                        await nfs_dir.unlink(dir_inode, dentry, self.cred)
                finally:
                    put_name(dentry)

    async def rename(self, path: Path, new_path: Path) -> None:
        await retry_estale(lambda reval: self._rename(path, new_path, reval))

    async def _rename(self, path: Path, new_path: Path, reval: Lookup) -> None:
        async with self._walk(path, reval) as old_walk, self._walk(new_path, reval) as new_walk:
            if old_walk.is_mountpoint or new_walk.is_mountpoint:
                if old_walk.is_mountpoint and new_walk.is_mountpoint and old_walk.mount is new_walk.mount:
                    return  # onto itself
                raise os_error(errno.EXDEV)
            if not old_walk.last or not new_walk.last:
                raise os_error(errno.EBUSY)
            old_dir, new_dir = old_walk.directory_to_change(), new_walk.directory_to_change()
            if old_walk.mount is not new_walk.mount:
                raise os_error(errno.EXDEV)
            self._must_be_writable(old_dir)
            first, second = sorted((old_dir, new_dir), key=id)
            async with first.lock():
                if second is first:
                    await self._rename_locked(old_walk, new_walk, old_dir, new_dir)
                else:
                    async with second.lock():
                        await self._rename_locked(old_walk, new_walk, old_dir, new_dir)

    async def _rename_locked(self, old_walk: Walk, new_walk: Walk, old_dir: NfsInode, new_dir: NfsInode) -> None:
        wants_dir = old_walk.must_be_dir or new_walk.must_be_dir
        old_walk.must_be_dir = new_walk.must_be_dir = False
        old = await old_walk.last_child(Lookup.NONE, follow=False)
        try:
            if old.inode is None:
                raise os_error(errno.ENOENT)  # before anybody is asked about the new name
            new = await new_walk.last_child(Lookup.CREATE | Lookup.RENAME_TARGET, follow=False)
            try:
                if wants_dir and not old.inode.is_dir:
                    raise os_error(errno.ENOTDIR)
                _refuse_loops(old, new)
                if new.inode is not old.inode:
                    await self._may_rename(old_dir, old.inode, new_dir, new.inode)
                    await nfs_dir.rename(old_dir, old, new_dir, new, self.cred)
            finally:
                put_name(new)
        finally:
            put_name(old)

    async def _may_rename(self, old_dir: NfsInode, inode: NfsInode, new_dir: NfsInode, target: NfsInode | None) -> None:
        """What vfs_rename asks before it asks the file system."""
        await nfs_access.permission(old_dir, MAY_WRITE | MAY_EXEC, self.cred)
        await nfs_access.permission(new_dir, MAY_WRITE | MAY_EXEC, self.cred)
        if target is not None and inode.is_dir != target.is_dir:
            raise os_error(errno.ENOTDIR if inode.is_dir else errno.EISDIR)
        if inode.is_dir and old_dir is not new_dir:
            await nfs_access.permission(inode, MAY_WRITE, self.cred)  # its .. will change


def _refuse_loops(old: Dentry, new: Dentry) -> None:
    """A directory can't go below itself, nor take the place of one that it is below."""
    assert old.parent is not None
    assert new.parent is not None
    if is_subdir(new.parent, old):
        raise os_error(errno.EINVAL)
    if is_subdir(old.parent, new):
        raise os_error(errno.ENOTEMPTY)


def _rmdir_of_place(walk: Walk) -> int:
    """Why a path that ends in no name can't be removed (do_rmdir)."""
    if walk.is_mountpoint:
        return errno.EBUSY
    return errno.ENOTEMPTY if walk.up else errno.EINVAL


def _dir_of(dentry: Dentry) -> NfsInode:
    assert dentry.parent is not None
    return directory_of(dentry.parent)
