"""Path walk (fs/namei.c): one component after the other, each checked as NFS wants it.

Search permission of a directory is asked before any name is looked up in it, ``.`` included. The last component is
looked up with what the system call intends, for NFS answers differently to who opens, creates or renames.
"""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from freepage_client.nfs.access import MAY_EXEC, access_is_cached, permission
from freepage_client.nfs.dcache import Dentry, d_drop, d_invalidate, dget, dput, is_subdir
from freepage_client.nfs.dir import Lookup, is_believed, lookup, revalidate_dentry, verify_inode
from freepage_client.nfs.errors import os_error
from freepage_client.nfs.symlink import read_target, target_is_cached

if TYPE_CHECKING:
    from freepage_client.machine import Machine
    from freepage_client.nfs.cred import Credential
    from freepage_client.nfs.inode import NfsInode
    from freepage_client.nfs.mount import Mount

MAX_SYMLINKS = 40
PATH_MAX = 4096

T = TypeVar("T")


async def lookup_child(parent: Dentry, name: bytes, flags: Lookup, cred: Credential) -> Dentry:
    """The dentry of a name in a directory, positive or negative, believed or freshly looked up.

    The caller puts it with ``put_name``. Raises OSError.
    """
    dir_inode = directory_of(parent)
    while True:
        dentry = parent.children.get(name)
        if dentry is None:
            break
        if dentry.busy is not None:
            await dentry.wait_idle()
            continue
        dget(dentry)
        try:
            valid = await revalidate_dentry(dir_inode, dentry, flags, cred)
        except BaseException:
            dput(dentry)
            raise
        if valid:
            return dentry
        d_invalidate(dentry)
        dput(dentry)
    if dir_inode.dead:
        raise os_error(errno.ENOENT)
    dentry = Dentry(parent.sb, parent, name)
    dentry.begin()
    try:
        found = await lookup(dir_inode, dentry, flags, cred)
    except BaseException:
        d_drop(dentry)
        dentry.end()
        dput(dentry)
        raise
    dentry.end()
    return found


def put_name(dentry: Dentry) -> None:
    """Give a looked-up name back. One that was never asked about must not stay as if the server had denied it."""
    if dentry.inode is None and dentry.d_time < 0:
        d_drop(dentry)
    dput(dentry)


def directory_of(dentry: Dentry) -> NfsInode:
    """The directory's inode. Raises OSError: ENOENT, ENOTDIR."""
    inode = dentry.inode
    if inode is None:
        raise os_error(errno.ENOENT)
    if not inode.is_dir:
        raise os_error(errno.ENOTDIR)
    return inode


class Walk:
    """One path resolution: the directory of the last component, held, and the component's name.

    ``last`` is b"" when the path ends at a mount's root or in ``.`` or ``..``; ``parent`` is then the thing itself.
    ``up``: that was ``..``. ``must_be_dir``: the path ended in a slash. ``is_mountpoint``: it is a mount's own path,
    whose name lies outside.
    """

    __slots__ = (
        "_cred",
        "_jumped",
        "_links",
        "_machine",
        "_rcu",
        "flags",
        "is_mountpoint",
        "last",
        "mount",
        "must_be_dir",
        "parent",
        "up",
    )

    def __init__(self, machine: Machine, mount: Mount, parent: Dentry, cred: Credential, flags: Lookup) -> None:
        self._machine = machine
        self.mount = mount
        self._cred = cred
        self._links = 0
        self.flags = flags
        self.parent = parent
        self.last = b""
        self.up = False
        self.must_be_dir = False
        self.is_mountpoint = False
        self._jumped = True
        """No name led here, but the start, a mount point or ``..`` (ND_JUMPED): nobody asked if the place is still
        good."""

        self._rcu = True
        """Nobody had to be asked so far (LOOKUP_RCU). Who must be is looked at twice, and the statistics count both."""

    def done(self) -> None:
        dput(self.parent)

    def directory_to_change(self) -> NfsInode:
        """The walk is over: the last component is looked up with its directory, which this is, locked."""
        self._rcu = False
        return directory_of(self.parent)

    def _stand_on(self, dentry: Dentry) -> None:
        """Take over ``dentry``'s reference and let go of the old place."""
        old, self.parent = self.parent, dentry
        dput(old)

    async def to_parent(self, path: bytes) -> None:
        """Walk all but the last component of a relative path."""
        self.must_be_dir = path.endswith(b"/")
        components = [part for part in path.split(b"/") if part]
        self.last, self.up = b"", False
        self.is_mountpoint = not components and self.parent is self.mount.root
        for i, name in enumerate(components):
            inode = directory_of(self.parent)
            cached = access_is_cached(inode, MAY_EXEC, self._cred)
            if cached or self._rcu:
                inode.server.stats.events["vfsaccess"] += 1
            if not cached:
                self._rcu = False
                await permission(inode, MAY_EXEC, self._cred)
            self.up = name == b".."
            if name == b".":
                continue
            if name == b"..":
                if self.parent is self.mount.root and self.mount.mountpoint != "/":
                    outside = self.mount.mountpoint.rpartition("/")[0]
                    await self._walk_on(outside.encode("utf-8", "surrogateescape"), components[i + 1 :])
                    return
                self._to_parent_directory()
                self._jumped = True
                continue
            self._jumped = False
            if i == len(components) - 1:
                self.last = name
                return
            child = await self._lookup(name, Lookup.PARENT)
            if child.inode is not None and child.inode.is_lnk:
                await self._walk_on(await self._follow(child), components[i + 1 :])
                return
            self._step_into(child)

    def _to_parent_directory(self) -> None:
        """``..``: at the root of everything it is that itself; what has moved away from below a mount's root has none
        (follow_dotdot).
        """
        root = self.mount.root
        if self.parent is root:
            return
        parent = self.parent.parent
        if parent is None or not is_subdir(parent, root):
            raise os_error(errno.ENOENT)
        self._stand_on(dget(parent))

    async def _walk_on(self, place: bytes, rest: list[bytes]) -> None:
        """The rest of the way leads on from another place."""
        must_be_dir = self.must_be_dir
        await self._restart(b"/".join((place, *rest)) or b"/")
        self.must_be_dir = must_be_dir

    def _step_into(self, child: Dentry) -> None:
        """Down into a directory. Takes over the reference."""
        inode = child.inode
        if inode is None:
            put_name(child)
            raise os_error(errno.ENOENT)
        if not inode.is_dir:
            put_name(child)
            raise os_error(errno.ENOTDIR)
        self._stand_on(child)

    async def _lookup(self, name: bytes, flags: Lookup) -> Dentry:
        flags |= self.flags
        if self._rcu:
            inode, dentry = directory_of(self.parent), self.parent.children.get(name)
            if dentry is None:
                self._rcu = False
            elif not is_believed(inode, dentry, flags):
                self._rcu = False
                inode.server.stats.events["dentryrevalidates"] += 1
        return await lookup_child(self.parent, name, flags, self._cred)

    async def _follow(self, link: Dentry) -> bytes:
        """Where this symbolic link points. Takes over the reference."""
        assert link.inode is not None
        try:
            self._links += 1
            self._rcu = self._rcu and target_is_cached(link.inode)
            if self._links > MAX_SYMLINKS:
                raise os_error(errno.ELOOP)
            target = await read_target(link.inode, self._cred)
        finally:
            put_name(link)
        if not target:
            raise os_error(errno.ENOENT)
        return target

    async def _restart(self, path: bytes) -> None:
        if path.startswith(b"/"):
            self.mount, path = resolve_mount(self._machine, path)
            self._stand_on(dget(self.mount.root))
            self._jumped = True
        await self.to_parent(path)

    async def last_child(self, flags: Lookup, *, follow: bool) -> Dentry:
        """Look up the last component, along symbolic links if ``follow``. The caller puts the result."""
        while True:
            dentry = await self.child(flags)
            inode = dentry.inode
            if inode is not None and inode.is_lnk and (follow or self.must_be_dir):
                await self.along(dentry)
                continue
            if inode is not None and self.must_be_dir and not inode.is_dir:
                put_name(dentry)
                raise os_error(errno.ENOTDIR)
            return dentry

    async def child(self, flags: Lookup) -> Dentry:
        """Look up the last component, whatever it is. The caller puts the result.

        A path without one is the place itself; one that no name led to is verified as a name would be
        (complete_walk, nfs_weak_revalidate).
        """
        if self.last:
            return await self._lookup(self.last, flags)
        if self._jumped:
            await verify_inode(directory_of(self.parent), self.flags | flags, self._cred)
        return dget(self.parent)

    async def along(self, link: Dentry) -> None:
        """The last component is this symbolic link: on to where it points. Takes over the reference."""
        target, must_be_dir = await self._follow(link), self.must_be_dir
        await self._restart(target)
        self.must_be_dir = self.must_be_dir or must_be_dir


def resolve_mount(machine: Machine, path: bytes) -> tuple[Mount, bytes]:
    """The mount that an absolute path leads into, and what is left of the path.

    Raises OSError(ENOENT): nothing is mounted there, and the machine has no other files.
    """
    text = path.decode("utf-8", "surrogateescape")
    best, longest = None, ""
    for mount in machine.mounts:
        point = mount.mountpoint.rstrip("/")
        inside = text == point or text.startswith(point + "/")
        if inside and mount.active and (best is None or len(point) > len(longest)):
            best, longest = mount, point
    if best is None:
        raise os_error(errno.ENOENT, text)
    return best, path[len(longest.encode("utf-8", "surrogateescape")) :]


async def retry_estale(attempt: Callable[[Lookup], Awaitable[T]]) -> T:
    """Run a path operation; if it meets a stale handle, once more believing no cached name (retry_estale)."""
    try:
        return await attempt(Lookup.NONE)
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
    return await attempt(Lookup.REVAL)
