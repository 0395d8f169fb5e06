"""Requests about attributes: GETATTR, SETATTR, ACCESS, STATFS."""

from __future__ import annotations

import errno
import sys

from freepage_client.io.fuse import abi
from freepage_client.io.fuse.nodes import Node
from freepage_client.io.fuse.session import Answer, Request
from freepage_client.io.fuse.state import NS, Later, MountState, attr
from freepage_client.nfs import access as nfs_access
from freepage_client.nfs.access import MAY_ACCESS, MAY_WRITE
from freepage_client.nfs.errors import os_error
from freepage_client.nfs.getattr import getattr_inode
from freepage_client.nfs.setattr import Iattr, setattr_inode
from freepage_client.vfs.nowait import getattr_nowait
from freepage_proto.nfs3 import SET_TO_SERVER_TIME

_pack_attr = abi.ATTR_OUT.pack


class Attributes(MountState):
    """A mount that shows attributes and sets them."""

    def getattr(self, request: Request, body: memoryview) -> Answer | Later:
        node = self.nodes.get(request.nodeid)
        flags, _, fh = abi.GETATTR_IN.unpack_from(body)
        if flags & abi.GETATTR_FH:
            return self._getattr_for_size(node, fh)
        if not node.closing:
            dentry = self.nodes.dentry(node)
            if dentry is not None:
                inode = getattr_nowait(dentry)
                if inode is not None:
                    return _pack_attr(0, 0, 0, *attr(inode))
        return self._getattr(request, node)

    async def _getattr(self, request: Request, node: Node) -> Answer:
        task = self._task(request)
        async with self._held(node, task) as dentry:
            return _pack_attr(0, 0, 0, *attr(await getattr_inode(dentry, task.cred)))

    async def _getattr_for_size(self, node: Node, fh: int) -> Answer:
        """The kernel wants an open file's size, for lseek from the end: dirty data need not go out for that."""
        file = self._file(fh).file
        if file is not None:
            await file.size_for_seek()
        return _pack_attr(0, 0, 0, *attr(node.inode))

    async def setattr(self, request: Request, body: memoryview) -> Answer:
        valid, _, fh, size, _, atime, mtime, _, atime_ns, mtime_ns, _, mode, _, uid, gid, _ = (
            abi.SETATTR_IN.unpack_from(body)
        )
        task = self._task(request)
        node = self.nodes.get(request.nodeid)
        new_mtime = _time(valid, abi.SET_MTIME, abi.SET_MTIME_NOW, mtime, mtime_ns)
        of_open_file = bool(valid & abi.SET_SIZE and valid & abi.SET_FH)
        if of_open_file and new_mtime is None:
            new_mtime = SET_TO_SERVER_TIME  # ftruncate sets the time even if the size stays
        iattr = Iattr(
            mode=mode & 0o7777 if valid & abi.SET_MODE else None,
            uid=uid if valid & abi.SET_UID else None,
            gid=gid if valid & abi.SET_GID else None,
            size=size if valid & abi.SET_SIZE else None,
            atime_ns=_time(valid, abi.SET_ATIME, abi.SET_ATIME_NOW, atime, atime_ns),
            mtime_ns=new_mtime,
        )

        async with self._held(node, task) as dentry:
            inode = dentry.inode
            assert inode is not None
            if inode.server.options.read_only:
                raise os_error(errno.EROFS)
            cred = task.cred
            if of_open_file:
                file = self._file(fh).file
                if file is not None:
                    cred = file.cred
            elif iattr.size is not None:
                await nfs_access.permission(inode, MAY_WRITE, cred)
            async with inode.lock():
                await setattr_inode(inode, iattr, cred)
            return _pack_attr(0, 0, 0, *attr(inode))

    async def access(self, request: Request, body: memoryview) -> Answer:
        mask, _ = abi.ACCESS_IN.unpack_from(body)
        task = self._task(request)
        async with self._held(self.nodes.get(request.nodeid), task) as dentry:
            inode = dentry.inode
            assert inode is not None
            await nfs_access.permission(inode, (mask & 7) | MAY_ACCESS, task.cred)
        return b""

    async def statfs(self, request: Request, body: memoryview) -> Answer:
        s = await self._task(request).statfs(self.mount.mountpoint)
        return abi.STATFS_OUT.pack(
            s.f_blocks, s.f_bfree, s.f_bavail, s.f_files, s.f_ffree, s.f_bsize, s.f_namemax, s.f_frsize, 0
        )

    def listxattr(self, request: Request, body: memoryview) -> Answer:
        """NFSv3 has no extended attributes, and can list the none that there are (nfs3_listxattr)."""
        return b"" if int.from_bytes(body[:4], sys.byteorder) else abi.XATTR_OUT.pack(0, 0)


def _time(valid: int, given: int, now: int, seconds: int, ns: int) -> int | None:
    if not valid & given:
        return None
    if valid & now:
        return SET_TO_SERVER_TIME
    return (seconds - (1 << 64) if seconds >> 63 else seconds) * NS + ns
