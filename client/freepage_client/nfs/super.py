"""One superblock: its server, its options, its inodes (struct nfs_server; fs/nfs/super.c, client.c, getroot.c)."""

from __future__ import annotations

import errno
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from freepage import PAGE_SHIFT, PAGE_SIZE, AddressSpaceOperations, BackingDevInfo
from freepage_client.nfs import nfs3proc, readdir
from freepage_client.nfs.client import NfsClient
from freepage_client.nfs.cred import Credential
from freepage_client.nfs.dcache import (
    Dentry,
    d_drop,
    d_obtain_root,
    evict_inode,
    is_subdir,
    prune_children,
    umount_dentries,
    walk_dentries,
)
from freepage_client.nfs.errors import os_error
from freepage_client.nfs.fattr import NfsFattr
from freepage_client.nfs.file import FILE_OPERATIONS
from freepage_client.nfs.inode import NfsInode
from freepage_client.nfs.iostat import IoStats
from freepage_client.nfs.options import MountOptions, block_size, io_size, power_of_two_below
from freepage_client.nfs.rpc import RpcClient
from freepage_client.nfs.symlink import SYMLINK_OPERATIONS
from freepage_client.nfs.unlink import complete_sillyrename
from freepage_proto.mount3 import MntArgs, MntRes, MountStat3, UmntArgs
from freepage_proto.nfs3 import FileHandle, NullArgs
from freepage_proto.rpc import Procedure

if TYPE_CHECKING:
    from freepage_client.machine import Machine
    from freepage_client.nfs.mount import Mount

HZ = 250
"""Ticks of the kernel's clock a second: attribute time-outs are counted in them."""

DIR_OPERATIONS = AddressSpaceOperations(freepage=readdir.freepage)
OTHER_OPERATIONS = AddressSpaceOperations()


class NfsServer:
    """The client's record of one file system of a server, of which each mount shows a directory.

    ``acregmin`` and its sisters are in ticks of 1/250 s. The inodes are found by handle, so data outlive their names.
    """

    def __init__(
        self, machine: Machine, nfs_client: NfsClient, export: str, mountpoint: str, options: MountOptions
    ) -> None:
        hostname = nfs_client.hostname
        self.machine = machine
        self.nfs_client = nfs_client
        nfs_client.users += 1
        self.server = hostname
        self.source = f"{hostname}:{export}"
        """What was mounted first of it."""
        self.options = options
        self.stats = IoStats(machine.clock.now(), nfs_client.xprt)
        self.rpc = RpcClient(
            transport=machine.network.connect(hostname),
            clock=machine.clock,
            stats=self.stats,
            options=options,
            client_id=machine.hostname,
            boot_instance=machine.boot_instance,
            xids=machine.xids,
            on_message=machine.message,
            server=hostname,
        )
        self.rsize = self.wsize = self.dtsize = 0
        self.wtmult = 0
        self.namelen = options.namlen
        self.maxfilesize = (1 << 63) - 1
        self.acregmin = 0 if options.noac else options.acregmin_s * HZ
        self.acregmax = 0 if options.noac else options.acregmax_s * HZ
        self.acdirmin = 0 if options.noac else options.acdirmin_s * HZ
        self.acdirmax = 0 if options.noac else options.acdirmax_s * HZ
        self.cap_readdirplus = options.rdirplus
        self.cap_acls = options.acl
        self.inodes: dict[FileHandle, NfsInode] = {}
        self.bdi = BackingDevInfo(
            mountpoint, domain=machine.cache.dirty, ra_pages=options.read_ahead_kb * 1024 // PAGE_SIZE
        )
        self.roots: dict[Dentry, None] = {}
        """Directories that mounts show or have shown, and of which it is not known where they are (s_roots)."""
        self.mounts: list[Mount] = []
        """In the order in which they were made (s_mounts); the last stays here, for the names of what leaked."""
        self.dropped: set[Dentry] = set()
        """Directories without a name that still have children: out of reach of a walk from a root."""
        self.fsid = 0
        self.users = 0
        """Mounts that show it, and those in the making: with the last it goes (s_active)."""
        self.nr_unstable = 0
        self.writeback = 0
        self.write_congested = False

    def jiffies(self) -> int:
        """The kernel's tick counter: what attribute time-outs are measured with."""
        return int(self.machine.clock.now() * HZ)

    def fattr(self) -> NfsFattr:
        """An empty record for the attributes of a reply, stamped with now: make it when the call is prepared."""
        return NfsFattr(self.jiffies(), self.machine.next_gencount())

    def exclusive_verifier(self) -> bytes:
        """CREATE EXCLUSIVE's eight bytes: the tick, and a number of this machine's own.

        Linux takes jiffies and the pid. Hosts emulated on one machine share its clock and count alike, and two that
        create the same name in the same tick would both be told that they had: hence the boot instance.
        """
        own = self.machine.boot_instance + self.machine.next_gencount()
        return (self.jiffies() & 0xFFFFFFFF).to_bytes(4, "big") + (own & 0xFFFFFFFF).to_bytes(4, "big")

    # Inodes.

    def address_space_operations(self, inode: NfsInode) -> AddressSpaceOperations:
        if inode.is_reg:
            return FILE_OPERATIONS
        if inode.is_dir:
            return DIR_OPERATIONS
        return SYMLINK_OPERATIONS if inode.is_lnk else OTHER_OPERATIONS

    def fhget(self, fh: FileHandle, fattr: NfsFattr) -> NfsInode:
        """The inode for a handle: the cached one, refreshed, or a new one (nfs_fhget). Raises OSError(ESTALE)."""
        inode = self.inodes.get(fh)
        attr = fattr.attr
        assert attr is not None
        if inode is not None and inode.fileid == attr.fileid and inode.type is attr.type:
            if not inode.refresh(fattr):
                raise os_error(errno.ESTALE)
            return inode
        inode = NfsInode(self, fh, fattr)
        self.inodes[fh] = inode
        return inode

    def forget_inode(self, inode: NfsInode) -> None:
        if self.inodes.get(inode.fh) is inode:
            del self.inodes[inode.fh]

    def complete_sillyrename(self, dentry: Dentry, inode: NfsInode, cred: Credential) -> None:
        complete_sillyrename(dentry, inode, cred)

    # Writeback accounting.

    def account_unstable(self, pages: int) -> None:
        """Pages written UNSTABLE and not committed count as under writeback."""
        self.nr_unstable += pages
        self.machine.cache.dirty.account_unstable(pages, self.bdi)

    def writeback_started(self) -> None:
        self.writeback += 1
        if self.writeback > self.machine.congestion_pages:
            self.write_congested = True

    def writeback_ended(self) -> None:
        self.writeback -= 1
        self.update_congestion()

    def update_congestion(self) -> None:
        """Congested above nfs_congestion_kb, no longer below three quarters of it (F.9)."""
        on = self.machine.congestion_pages
        if self.writeback < on - (on >> 2):
            self.write_congested = False

    # Mounting.

    async def probe(self, export: str, cred: Credential) -> FileHandle:
        """Ask mountd for the export's handle, then the server for what it can do, in Linux's order of calls.

        The handle is returned. Raises OSError: ENOENT, EACCES, EIO and whatever the calls raise.
        """
        known = self.nfs_client.users > 1  # then it was asked already whether NFS is there
        auth = cred.auth
        await self.rpc.call(Procedure.MOUNT_NULL, NullArgs(), auth)
        args = MntArgs(export.encode())
        reply = cast(MntRes, await self.rpc.call(Procedure.MOUNT_MNT, args, auth))
        if reply.status is not MountStat3.OK:
            raise os_error(_MOUNT_ERRNO.get(reply.status, int(reply.status)))
        root = reply.fhandle
        assert root is not None
        if not known:
            await self.rpc.call(Procedure.NULL, NullArgs(), auth)
        fsinfo = await nfs3proc.fsinfo(self, root, cred)
        self._set_sizes(fsinfo.rtmax, fsinfo.rtpref, fsinfo.wtmax, fsinfo.wtpref, fsinfo.wtmult, fsinfo.dtpref)
        self.maxfilesize = min(fsinfo.maxfilesize or self.maxfilesize, self.maxfilesize)
        if not self.namelen:
            self.namelen = (await nfs3proc.pathconf(self, root, cred)).name_max
        attr = (await nfs3proc.getattr_(self, root, cred)).attr
        assert attr is not None
        self.fsid = attr.fsid
        await self._probe_acls(auth)
        return root

    def is_shared_with(self, new: NfsServer) -> bool:
        """Whether a mount that would make ``new`` is to show this one instead, and any directory of it
        (nfs_compare_super).
        """
        return (
            self.options.sharecache
            and new.options.sharecache
            and (self.server, self.fsid) == (new.server, new.fsid)
            and self._compared() == new._compared()
        )

    def _compared(self) -> tuple[object, ...]:
        """What must be the same in both (nfs_compare_mount_options): not ``nolock``, but that locks are local."""
        o = self.options
        return (
            (o.read_only, o.sync),  # NFS_SB_MASK
            (o.soft, o.softerr, o.softreval, o.noac, o.cto, o.acl, o.rdirplus),  # NFS_MOUNT_CMP_FLAGMASK
            (o.lookupcache, o.local_flock, o.local_fcntl, o.write_policy),
            (self.rsize, self.wsize, self.acregmin, self.acregmax, self.acdirmin, self.acdirmax),
        )

    async def get_root(self, root: FileHandle, cred: Credential) -> Dentry:
        """Ask for a mount's root once more (nfs_get_root): each mount does, its superblock new or not.

        Returns its dentry, held. Raises OSError: ENOTDIR and whatever the calls raise.
        """
        await nfs3proc.fsinfo(self, root, cred)
        fattr = await nfs3proc.getattr_(self, root, cred)
        inode = self.fhget(root, fattr)
        if not stat.S_ISDIR(inode.i_mode):
            raise os_error(errno.ENOTDIR)
        return d_obtain_root(inode)

    async def _probe_acls(self, auth: object) -> None:
        if not self.cap_acls:
            return
        try:
            await self.rpc.call(Procedure.NFSACL_NULL, NullArgs(), auth)  # type: ignore[arg-type]
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            self.cap_acls = False

    def _set_sizes(self, rtmax: int, rtpref: int, wtmax: int, wtpref: int, wtmult: int, dtpref: int) -> None:
        """What the mount asked for, within what the server can do (nfs_server_set_fsinfo)."""
        self.rsize = io_size(self.options.rsize or rtpref)
        self.wsize = io_size(self.options.wsize or wtpref)
        if rtmax >= 512 and self.rsize > rtmax:
            self.rsize = io_size(rtmax)
        if wtmax >= 512 and self.wsize > wtmax:
            self.wsize = io_size(wtmax)
        self.wtmult = power_of_two_below(wtmult)
        self.dtsize = min(block_size(dtpref), self.rsize)
        self.bdi.io_pages = (self.rsize + PAGE_SIZE - 1) >> PAGE_SHIFT

    async def tell_mountd(self, export: str, cred: Credential) -> None:
        """UMNT, as umount.nfs sends it for each mount."""
        try:
            await self.rpc.call(Procedure.MOUNT_UMNT, UmntArgs(export.encode()), cred.auth)
        except OSError as error:
            self.machine.message(f"umount: {self.server}:{export}: mountd was not told: {error}")

    async def kill(self) -> None:
        """No mount shows it any more: forget every name and page. The caller has written everything back."""
        for root in self.roots:
            umount_dentries(root)
        for inode in list(self.inodes.values()):
            evict_inode(inode)
        await self.machine.drain_tasks()

    def _prune_dropped(self) -> None:
        """One may hold another's child, so again until nothing is left to prune."""
        while sum(prune_children(dentry) for dentry in list(self.dropped)):
            pass

    def busy_dentries(self) -> list[str]:
        """Paths that somebody still uses: open files, and what leaked objects pin."""
        self._prune_dropped()
        return [self.path_of(dentry) for dentry in self.dentries() if dentry.count > len(dentry.children)]

    def dentries(self) -> Iterator[Dentry]:
        """Every name that a walk from a root finds."""
        for root in list(self.roots):
            yield from walk_dentries(root)

    def path_of(self, dentry: Dentry) -> str:
        """Where a name is seen: below the first mount that shows it, else below what was mounted first."""
        for mount in self.mounts:
            if is_subdir(dentry, mount.root):
                return mount.mountpoint + dentry.path(mount.root)
        return self.source + dentry.path()

    def prune(self) -> None:
        """drop_caches 2: unused names, unused inodes without pages, the ACCESS cache.

        An inode that the flusher has yet to visit stays, even if fsync or close has made its data clean: only the
        flusher takes the dirty mark away, and until then the inode is on no LRU (inode_add_lru).
        """
        for root in list(self.roots):
            prune_children(root)
            if not root.count:
                d_drop(root)
        self._prune_dropped()
        for inode in list(self.inodes.values()):
            inode.access_cache.clear()
            if not inode.count and not inode.mapping.nrpages and inode.mapping.dirtied_when_s is None:
                evict_inode(inode)


_MOUNT_ERRNO = {
    MountStat3.NOTSUPP: errno.EOPNOTSUPP,
    MountStat3.SERVERFAULT: errno.EIO,
}

__all__ = ["HZ", "NfsServer"]
