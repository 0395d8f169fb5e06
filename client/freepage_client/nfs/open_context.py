"""Open contexts and lock contexts: what ties requests to an opener and his credential (fs/nfs/inode.c, spec C.1).

A write request holds a lock context, that holds the open context, that holds the dentry and the credential. So a
request that leaks pins the file, and unmount says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from freepage import Ledger, SlabObject
from freepage.slab import IN_USE
from freepage_client.nfs.dcache import Dentry, dget, dput
from freepage_client.nfs.inode import INVALID_DATA

if TYPE_CHECKING:
    from freepage_client.nfs.cred import Credential
    from freepage_client.nfs.inode import NfsInode


class OpenContext(SlabObject):
    """One open(2) of a regular file (struct nfs_open_context). ``error``: the last read's errno, or 0."""

    slab_name = "nfs_open_context"
    objsize = 192
    __slots__ = ("cred", "dentry", "error", "file_open", "inode", "lock_contexts", "may_read", "may_write")

    def __init__(self, ledger: Ledger, dentry: Dentry, cred: Credential, *, may_read: bool, may_write: bool) -> None:
        super().__init__(ledger, IN_USE, "open")
        assert dentry.inode is not None
        self.dentry = dget(dentry)
        self.inode: NfsInode = dentry.inode
        self.cred = cred
        self.may_read = may_read
        self.may_write = may_write
        self.error = 0
        self.file_open = False
        self.lock_contexts: dict[object, LockContext] = {}
        self.hold(cred)

    def attach(self) -> None:
        """The file is open from now on. The first opener finds out about unexplained changes (see inode)."""
        self.file_open = True
        inode = self.inode
        if not inode.open_files and inode.has_gaps():
            inode.set_cache_invalid(INVALID_DATA)
        inode.open_files.append(self)

    def detach(self) -> None:
        if self in self.inode.open_files:
            self.inode.open_files.remove(self)

    def lock_context(self, owner: object) -> LockContext:
        """The lock context of ``owner`` (a task's descriptor table), made at its first request.

        The caller's reference is the one that ``hold`` takes; a new context has no other.
        """
        found = self.lock_contexts.get(owner)
        if found is None:
            found = self.lock_contexts[owner] = LockContext(self.ledger, self, owner)
        else:
            found.get(IN_USE)
        return found

    def on_free(self) -> None:
        self.detach()
        dput(self.dentry)

    def describe(self) -> str:
        return f"nfs_open_context of {self.inode.audit_name}"


class LockContext(SlabObject):
    """One per open context and descriptor table that has requests (struct nfs_lock_context)."""

    slab_name = "nfs_lock_context"
    objsize = 64
    __slots__ = ("open_context", "owner")

    def __init__(self, ledger: Ledger, open_context: OpenContext, owner: object) -> None:
        super().__init__(ledger, IN_USE, "write")
        self.open_context = open_context
        self.owner = owner
        self.hold(open_context)

    def on_free(self) -> None:
        self.open_context.lock_contexts.pop(self.owner, None)


def find_open_context(inode: NfsInode, *, write: bool) -> OpenContext | None:
    """Any open context of the inode that may read (or write); None if there is none."""
    for context in inode.open_files:
        if context.file_open and (context.may_write if write else context.may_read):
            return context
    return None
