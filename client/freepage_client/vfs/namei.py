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
from freepage_client.nfs.dir import Lookup, lookup, revalidate_dentry, verify_inode
from freepage_client.nfs.errors import os_error
from freepage_client.nfs.symlink import read_target

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
    ``must_be_dir``: the path ended in a slash. ``is_mountpoint``: it is a mount's own path, whose name lies outside.
    """

    __slots__ = ("_cred", "_links", "_machine", "flags", "is_mountpoint", "last", "mount", "must_be_dir", "parent")

    def __init__(self, machine: Machine, mount: Mount, parent: Dentry, cred: Credential, flags: Lookup) -> None:
        self._machine = machine
        self.mount = mount
        self._cred = cred
        self._links = 0
        self.flags = flags
        self.parent = parent
        self.last = b""
        self.must_be_dir = False
        self.is_mountpoint = False

    def done(self) -> None:
        dput(self.parent)

    def _stand_on(self, dentry: Dentry) -> None:
        """Take over ``dentry``'s reference and let go of the old place."""
        old, self.parent = self.parent, dentry
        dput(old)

    async def to_parent(self, path: bytes) -> None:
        """Walk all but the last component of a relative path."""
        self.must_be_dir = path.endswith(b"/")
        components = [part for part in path.split(b"/") if part]
        self.last = b""
        self.is_mountpoint = not components and self.parent is self.mount.root
        for i, name in enumerate(components):
            inode = directory_of(self.parent)
            if not access_is_cached(inode, MAY_EXEC, self._cred):
                await permission(inode, MAY_EXEC, self._cred)
            else:
                inode.server.stats.events["vfsaccess"] += 1
            if name == b".":
                continue
            if name == b"..":
                self._to_parent_directory()
                continue
            if i == len(components) - 1:
                self.last = name
                return
            child = await lookup_child(self.parent, name, self.flags | Lookup.PARENT, self._cred)
            await self._step_into(child, components[i + 1 :])
            if self.last:
                return

    def _to_parent_directory(self) -> None:
        """``..``: at a mount's root it is that itself; what has moved away from below it has none (follow_dotdot)."""
        root = self.mount.root
        if self.parent is root:
            return
        parent = self.parent.parent
        if parent is None or not is_subdir(parent, root):
            raise os_error(errno.ENOENT)
        self._stand_on(dget(parent))

    async def _step_into(self, child: Dentry, rest: list[bytes]) -> None:
        """Go on from an intermediate component: down into a directory, or along a symbolic link."""
        inode = child.inode
        if inode is None:
            put_name(child)
            raise os_error(errno.ENOENT)
        if inode.is_lnk:
            try:
                target = await self._target(child)
            finally:
                put_name(child)
            must_be_dir = self.must_be_dir
            await self._restart(target + b"/" + b"/".join(rest))
            self.must_be_dir = must_be_dir
            rest.clear()
            return
        if not inode.is_dir:
            put_name(child)
            raise os_error(errno.ENOTDIR)
        self._stand_on(child)

    async def _target(self, link: Dentry) -> bytes:
        self._links += 1
        if self._links > MAX_SYMLINKS:
            raise os_error(errno.ELOOP)
        assert link.inode is not None
        target = await read_target(link.inode, self._cred)
        if not target:
            raise os_error(errno.ENOENT)
        return target

    async def _restart(self, path: bytes) -> None:
        if path.startswith(b"/"):
            self.mount, path = resolve_mount(self._machine, path)
            self._stand_on(dget(self.mount.root))
        await self.to_parent(path)

    async def last_child(self, flags: Lookup, *, follow: bool) -> Dentry:
        """Look up the last component, along symbolic links if ``follow``. The caller puts the result.

        A path without one is the place itself; opening it asks the server then, for no name was believed on the way.
        """
        while True:
            if not self.last:
                inode = directory_of(self.parent)
                await verify_inode(inode, (self.flags | flags) & ~Lookup.CREATE, self._cred)
                return dget(self.parent)
            dentry = await lookup_child(self.parent, self.last, self.flags | flags, self._cred)
            inode_or_none = dentry.inode
            if inode_or_none is not None and inode_or_none.is_lnk and (follow or self.must_be_dir):
                try:
                    target = await self._target(dentry)
                finally:
                    put_name(dentry)
                must_be_dir = self.must_be_dir
                await self._restart(target)
                self.must_be_dir = self.must_be_dir or must_be_dir
                continue
            if inode_or_none is not None and self.must_be_dir and not inode_or_none.is_dir:
                put_name(dentry)
                raise os_error(errno.ENOTDIR)
            return dentry


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
