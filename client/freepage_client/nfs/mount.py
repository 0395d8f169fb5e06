"""One place in the name space where a superblock can be seen (struct vfsmount, struct mount; fs/namespace.c).

What the mounts of one file system share is in NfsServer: attributes, pages, names, statistics. What each has for itself
is here: where it is, what it was called, which directory it shows, who uses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from freepage_client.nfs.dcache import Dentry
    from freepage_client.nfs.inode import NfsInode
    from freepage_client.nfs.iostat import IoStats
    from freepage_client.nfs.options import MountOptions
    from freepage_client.nfs.rpc import RpcClient
    from freepage_client.nfs.super import NfsServer
    from freepage_proto.nfs3 import FileHandle


class Mount:
    """``options`` are those of this mount; of what the superblock decides, its own, the first mount's, are in force."""

    def __init__(
        self, superblock: NfsServer, root: Dentry, mountpoint: str, source: str, export: str, options: MountOptions
    ) -> None:
        self.superblock = superblock
        self.root = root
        """Held until unmounting begins (mnt_root)."""
        self.mountpoint = mountpoint
        self.source = source
        self.export = export
        self.options = options
        self.active = True
        """Until the beginning of unmounting: walks may enter."""
        self.walks = 0
        """System calls by path that are under way below this mount: it is busy meanwhile."""
        self.opens = 0
        """Files and directories that were opened below this mount and have not been released."""

    @property
    def server(self) -> str:
        return self.superblock.server

    @property
    def stats(self) -> IoStats:
        return self.superblock.stats

    @property
    def rpc(self) -> RpcClient:
        return self.superblock.rpc

    @property
    def inodes(self) -> dict[FileHandle, NfsInode]:
        return self.superblock.inodes
