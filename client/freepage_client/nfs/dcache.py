"""Names as this client remembers them, with and without a file behind them (fs/dcache.c, as far as NFS needs it).

A dentry is positive (``inode`` set) or negative (the name is known not to exist). ``d_time`` is the parent's
cache_change_attribute at the time of the lookup: as long as the two agree, the name may be believed. ``count`` counts
who uses the dentry: open files, a walk that stands on it, each child. At zero it stays, cached, until pruned.

A directory without a parent is a *root* of its superblock: what a mount shows, until a walk from another mount finds it
below another directory and hangs it there.

This lives with the NFS client and not above it because the file system decides when a name may be trusted.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterator
from typing import TYPE_CHECKING

from freepage import truncate_inode_pages_final
from freepage_client.nfs.errors import os_error
from freepage_proto.names import readable

if TYPE_CHECKING:
    from freepage_client.nfs.cred import Credential
    from freepage_client.nfs.inode import NfsInode
    from freepage_client.nfs.super import NfsServer


class Dentry:
    """One name in one directory of a superblock. A root has no parent and an empty name."""

    __slots__ = (
        "__weakref__",
        "busy",
        "children",
        "count",
        "d_time",
        "hashed",
        "inode",
        "name",
        "parent",
        "sb",
        "sillyrename_cred",
    )

    def __init__(self, sb: NfsServer, parent: Dentry | None, name: bytes) -> None:
        self.sb = sb
        self.parent = parent
        self.name = name
        self.inode: NfsInode | None = None
        self.d_time = -1
        self.count = 1
        """The maker's reference."""
        self.children: dict[bytes, Dentry] = {}
        self.hashed = True
        """Findable in its parent. False once dropped: it then dies with its last user."""
        self.busy: asyncio.Future[None] | None = None
        """Set while a LOOKUP, CREATE or REMOVE of this name is under way; others wait for it."""
        self.sillyrename_cred: Credential | None = None
        """Set on a .nfsXXXX dentry: REMOVE it in this name when its last user lets go."""
        if parent is None:
            sb.roots[self] = None
        else:
            _make_room(parent, name)
            parent.children[name] = self
            parent.count += 1

    def path(self, root: Dentry | None = None) -> str:
        """Slash-separated path from ``root``, or from where the parents end, to be read: "" for that place itself."""
        parts: list[str] = []
        dentry: Dentry | None = self
        while dentry is not None and dentry is not root and dentry.parent is not None:
            parts.append(readable(dentry.name))
            dentry = dentry.parent
        return "".join("/" + part for part in reversed(parts))

    def __repr__(self) -> str:
        return f"<Dentry {self.path() or '/'} count={self.count} {'positive' if self.inode else 'negative'}>"

    @property
    def is_sillyrenamed(self) -> bool:
        return self.sillyrename_cred is not None

    def begin(self) -> None:
        """Somebody works on this name; until ``end``, others wait in ``wait_idle``."""
        assert self.busy is None
        self.busy = asyncio.get_running_loop().create_future()

    def end(self) -> None:
        busy, self.busy = self.busy, None
        if busy is not None:
            busy.set_result(None)

    async def wait_idle(self) -> None:
        while self.busy is not None:
            await asyncio.shield(self.busy)


def dget(dentry: Dentry) -> Dentry:
    dentry.count += 1
    return dentry


def dput(dentry: Dentry) -> None:
    """Let go of a dentry. The last user of a dropped, stale or silly-renamed one ends it."""
    assert dentry.count > 0, dentry
    dentry.count -= 1
    if dentry.count:
        return
    inode = dentry.inode
    if dentry.hashed and (dentry.is_sillyrenamed or (inode is not None and inode.stale)):
        d_drop(dentry)
    elif not dentry.hashed:
        _kill(dentry)


def d_drop(dentry: Dentry) -> None:
    """Make the name unfindable; who uses the dentry may go on doing so."""
    if not dentry.hashed:
        return
    dentry.hashed = False
    parent = dentry.parent
    if parent is not None and parent.children.get(dentry.name) is dentry:
        del parent.children[dentry.name]
    if dentry.children:  # a directory that is gone: nobody finds the names in it any more, and each would hold it
        dentry.sb.dropped.add(dentry)
        prune_children(dentry)
    elif not dentry.count:
        _kill(dentry)


def d_invalidate(dentry: Dentry) -> None:
    """Drop a name that turned out wrong, and everything unused below it (d_invalidate)."""
    prune_children(dentry)
    d_drop(dentry)


def prune_children(dentry: Dentry) -> int:
    """End every unused dentry below, leaves first; return how many."""
    pruned = 0
    for child in list(dentry.children.values()):
        pruned += prune_children(child)
        if not child.count and child.busy is None:
            d_drop(child)
            pruned += 1
    return pruned


def d_add(dentry: Dentry, inode: NfsInode | None) -> None:
    """Give a dentry its inode (None: it stays negative)."""
    assert dentry.inode is None
    if inode is not None:
        dentry.inode = inode
        inode.count += 1
        inode.dentries.append(dentry)
        inode.last_name = None


def d_obtain_root(inode: NfsInode) -> Dentry:
    """The name of a directory that a mount is to show, held: the one it has, else a root of the superblock."""
    for alias in inode.dentries:
        return dget(alias)
    root = Dentry(inode.server, None, b"")
    d_add(root, inode)
    return root


def is_subdir(dentry: Dentry, ancestor: Dentry) -> bool:
    """Is ``dentry`` the directory ``ancestor``, or below it?"""
    place: Dentry | None = dentry
    while place is not None and place is not ancestor:
        place = place.parent
    return place is ancestor


def d_splice_alias(inode: NfsInode | None, dentry: Dentry) -> Dentry:
    """Attach an inode to a looked-up name. A directory known by another name moves here, for it can have only one.

    Returns the dentry to go on with, which takes over the caller's reference. Raises OSError(ELOOP) when the server
    shows a directory below itself.
    """
    if inode is not None and inode.is_dir:
        for alias in inode.dentries:
            if alias is not dentry and alias.hashed:
                if is_subdir(dentry, alias):
                    raise os_error(errno.ELOOP)
                parent, name = dentry.parent, dentry.name
                assert parent is not None
                d_drop(dentry)
                _rehang(alias, parent, name)
                dget(alias)
                dput(dentry)
                return alias
    d_add(dentry, inode)
    return dentry


def d_delete(dentry: Dentry) -> None:
    """The file behind the name is gone: the only user keeps a negative dentry, with other users it is dropped."""
    if dentry.count == 1:
        _unlink_inode(dentry)
    else:
        d_drop(dentry)


def d_move(dentry: Dentry, target: Dentry) -> None:
    """``dentry`` takes the place of ``target``, which is dropped (after a RENAME)."""
    parent, name = target.parent, target.name
    assert parent is not None
    d_drop(target)
    _rehang(dentry, parent, name)


def _rehang(dentry: Dentry, parent: Dentry, name: bytes) -> None:
    old = dentry.parent
    if old is None:
        del dentry.sb.roots[dentry]
    elif old.children.get(dentry.name) is dentry:
        del old.children[dentry.name]
    _make_room(parent, name)
    dentry.parent = parent
    dentry.name = name
    dentry.hashed = True
    parent.children[name] = dentry
    dget(parent)
    if old is not None:
        dput(old)


def _make_room(parent: Dentry, name: bytes) -> None:
    """For a child to be. A lookup under way may have left another of the name, whom nobody would find again."""
    other = parent.children.get(name)
    if other is not None:
        d_drop(other)
    if not parent.hashed:
        parent.sb.dropped.add(parent)


def _unlink_inode(dentry: Dentry) -> None:
    """Make a dentry negative: its inode loses a name, and dies with the last one if its links are gone."""
    inode = dentry.inode
    if inode is None:
        return
    dentry.inode = None
    inode.dentries.remove(dentry)
    if not inode.dentries:
        inode.last_name = dentry.sb.path_of(dentry)
    cred, dentry.sillyrename_cred = dentry.sillyrename_cred, None
    if cred is not None:
        dentry.sb.complete_sillyrename(dentry, inode, cred)
    iput(inode)


def _kill(dentry: Dentry) -> None:
    assert not dentry.count and not dentry.hashed
    dentry.sb.dropped.discard(dentry)
    _unlink_inode(dentry)
    if dentry.parent is None:
        dentry.sb.roots.pop(dentry, None)
    else:
        dput(dentry.parent)


def iput(inode: NfsInode) -> None:
    """Let go of an inode. Without links (or stale) it is evicted, else it stays cached with its pages."""
    assert inode.count > 0, inode
    inode.count -= 1
    if not inode.count and (inode.i_nlink == 0 or inode.stale):
        evict_inode(inode)


def evict_inode(inode: NfsInode) -> None:
    """The end of an inode: its pages leave by the last door (nfs_evict_inode)."""
    inode.server.forget_inode(inode)
    truncate_inode_pages_final(inode.mapping)
    inode.access_cache.clear()


def umount_dentries(root: Dentry) -> None:
    """The superblock goes: end a root and all below it, but for what leaked objects hold (shrink_dcache_for_umount)."""
    prune_children(root)
    inode = root.inode
    if inode is not None:
        root.inode = None
        inode.dentries.remove(root)
        inode.count -= 1


def walk_dentries(root: Dentry) -> Iterator[Dentry]:
    """The dentry and everything below it."""
    yield root
    for child in list(root.children.values()):
        yield from walk_dentries(child)
