"""Names: when a cached one may be believed, looking one up, making and removing them (fs/nfs/dir.c).

A directory's dentries carry the directory's cache_change_attribute of the time they were looked up. Own changes come
with weak cache consistency data and leave it alone; foreign ones move it, and every name must then be looked up again.
"""

from __future__ import annotations

import errno
from enum import IntFlag
from typing import TYPE_CHECKING

from freepage import NoMemory, add_to_page_cache_lru
from freepage_client.nfs import nfs3proc
from freepage_client.nfs.acl import getacl
from freepage_client.nfs.dcache import (
    Dentry,
    d_add,
    d_delete,
    d_drop,
    d_move,
    d_splice_alias,
    dput,
    prune_children,
)
from freepage_client.nfs.errors import os_error
from freepage_client.nfs.inode import (
    INVALID_CHANGE,
    INVALID_CTIME,
    INVALID_NLINK,
)
from freepage_client.nfs.pagelist import own_page
from freepage_client.nfs.revalidate import force_revalidate_inode, revalidate_inode
from freepage_client.nfs.setattr import Iattr, setattr_update_inode
from freepage_client.nfs.unlink import sillyrename, wait_for_silly_removals
from freepage_client.nfs.write import sync_inode, write_inode_now
from freepage_proto.nfs3 import SET_TO_SERVER_TIME, FileHandle, FType3

if TYPE_CHECKING:
    from freepage_client.nfs.cred import Credential
    from freepage_client.nfs.fattr import NfsFattr
    from freepage_client.nfs.inode import NfsInode


class Lookup(IntFlag):
    """What a lookup is for (include/linux/namei.h)."""

    NONE = 0
    PARENT = 0x10
    OPEN = 0x100
    CREATE = 0x200
    EXCL = 0x400
    RENAME_TARGET = 0x800
    REVAL = 0x20


NO_READDIRPLUS_ADVICE = Lookup.EXCL | Lookup.PARENT | Lookup.REVAL


# Trusting a cached name.


def _verifier_matches(dir_inode: NfsInode, verifier: int) -> bool:
    return verifier == dir_inode.cache_change_attribute


def set_verifier(dentry: Dentry, verifier: int) -> None:
    """Remember that the name was right when the directory's change attribute was ``verifier``, if it still is."""
    assert dentry.parent is not None and dentry.parent.inode is not None
    if _verifier_matches(dentry.parent.inode, verifier):
        dentry.d_time = verifier


async def _check_verifier(dir_inode: NfsInode, dentry: Dentry, cred: Credential) -> bool:
    """Does the directory still look as it did when the name was looked up (nfs_check_verifier)?"""
    if dir_inode.server.options.lookupcache == "none":
        return False
    if not _verifier_matches(dir_inode, dentry.d_time):
        return False
    if dir_inode.mapping_needs_revalidation():
        try:
            await force_revalidate_inode(dir_inode, cred)
        except OSError:
            return False
    return _verifier_matches(dir_inode, dentry.d_time)


def is_believed(dir_inode: NfsInode, dentry: Dentry, flags: Lookup) -> bool:
    """May this cached name be used without asking anybody (nfs_lookup_revalidate in an RCU walk)?"""
    options = dir_inode.server.options
    if (
        flags & (Lookup.EXCL | Lookup.REVAL)
        or options.lookupcache == "none"
        or dentry.busy is not None
        or not _verifier_matches(dir_inode, dentry.d_time)
        or dir_inode.mapping_needs_revalidation()
    ):
        return False
    inode = dentry.inode
    if inode is None:
        return options.neg_dentries_trusted
    return not _opening(inode, flags) and inode.i_nlink > 0


def _opening(inode: NfsInode, flags: Lookup) -> bool:
    return bool(flags & Lookup.OPEN) and (inode.is_reg or inode.is_dir) and inode.server.options.cto


async def verify_inode(inode: NfsInode, flags: Lookup, cred: Credential) -> None:
    """Close-to-open: opening a file or directory asks the server for its attributes (nfs_lookup_verify_inode).

    Raises OSError, ESTALE when the file has no name left.
    """
    if _opening(inode, flags) or flags & Lookup.REVAL:
        await force_revalidate_inode(inode, cred)
    if inode.i_nlink == 0:
        raise os_error(errno.ESTALE)


async def revalidate_dentry(dir_inode: NfsInode, dentry: Dentry, flags: Lookup, cred: Credential) -> bool:
    """May this cached name be used (nfs_lookup_revalidate)? False: look it up afresh. Raises OSError."""
    await dentry.wait_idle()
    dir_inode.server.stats.events["dentryrevalidates"] += 1
    inode = dentry.inode
    if inode is None:
        return await _negative_is_valid(dir_inode, dentry, flags, cred)
    if not flags & (Lookup.EXCL | Lookup.REVAL) and await _check_verifier(dir_inode, dentry, cred):
        try:
            await verify_inode(inode, flags, cred)
        except OSError as error:
            if error.errno == errno.ESTALE:
                dir_inode.set_cache_invalid(INVALID_CHANGE)
            elif error.errno != errno.ENOENT:
                raise
            return False
        return True
    if inode.stale:
        return False
    return await _lookup_again(dir_inode, dentry, inode, flags, cred)


async def _negative_is_valid(dir_inode: NfsInode, dentry: Dentry, flags: Lookup, cred: Credential) -> bool:
    if flags & (Lookup.CREATE | Lookup.RENAME_TARGET):
        return True  # the server will say if somebody else made it meanwhile
    if not dir_inode.server.options.neg_dentries_trusted:
        return False
    return await _check_verifier(dir_inode, dentry, cred)


async def _lookup_again(dir_inode: NfsInode, dentry: Dentry, inode: NfsInode, flags: Lookup, cred: Credential) -> bool:
    """LOOKUP a name that is cached; True if it still means the same file (nfs_lookup_revalidate_dentry)."""
    verifier = dir_inode.cache_change_attribute
    same = False
    try:
        fh, fattr = await nfs3proc.lookup(dir_inode, dentry.name, cred)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ESTALE):
            raise
    else:
        _advise_readdirplus(dir_inode, flags)
        same = fh == inode.fh and inode.refresh(fattr)
    if same:
        set_verifier(dentry, verifier)
    elif _verifier_matches(dir_inode, dentry.d_time):
        dir_inode.set_cache_invalid(INVALID_CHANGE)  # the name went without the directory seeming to change
    return same


def _advise_readdirplus(dir_inode: NfsInode, flags: Lookup) -> None:
    if not flags & NO_READDIRPLUS_ADVICE:
        record_entry_cache_miss(dir_inode)


def record_entry_cache_hit(dir_inode: NfsInode) -> None:
    """A name of an open directory was used and its attributes were at hand: READDIRPLUS pays (H.5)."""
    for context in dir_inode.open_dirs:
        context.cache_hits += 1


def record_entry_cache_miss(dir_inode: NfsInode) -> None:
    """... and they had to be asked for: READDIRPLUS would have paid."""
    for context in dir_inode.open_dirs:
        context.cache_misses += 1


# Looking up.


async def lookup(dir_inode: NfsInode, dentry: Dentry, flags: Lookup, cred: Credential) -> Dentry:
    """Find out what an uncached name means (nfs_lookup). Returns the dentry to use, positive or negative.

    Exclusive creates and rename targets are not looked up: the server decides. Raises OSError.
    """
    server = dir_inode.server
    server.stats.events["vfslookup"] += 1
    if len(dentry.name) > server.namelen:
        raise os_error(errno.ENAMETOOLONG)
    if flags & (Lookup.EXCL | Lookup.RENAME_TARGET):
        return dentry
    verifier = dir_inode.cache_change_attribute
    inode: NfsInode | None = None
    try:
        fh, fattr = await nfs3proc.lookup(dir_inode, dentry.name, cred)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
    else:
        inode = server.fhget(fh, fattr)
        _advise_readdirplus(dir_inode, flags)
    dentry.d_time = verifier  # never right again if the reply itself told of a foreign change in the directory
    found = d_splice_alias(inode, dentry)
    if found is not dentry:
        set_verifier(found, verifier)
    return found


def _instantiate(dentry: Dentry, fh: FileHandle, fattr: NfsFattr) -> Dentry:
    assert dentry.parent is not None and dentry.parent.inode is not None
    dir_inode = dentry.parent.inode
    set_verifier(dentry, dir_inode.cache_change_attribute)
    return d_splice_alias(dir_inode.server.fhget(fh, fattr), dentry)


async def _add_or_obtain(
    dir_inode: NfsInode, dentry: Dentry, fh: FileHandle | None, fattr: NfsFattr, cred: Credential
) -> Dentry:
    """After a successful create: attach the new file, asking for what the reply left out (nfs_add_or_obtain)."""
    if fh is None:
        fh, fattr = await nfs3proc.lookup(dir_inode, dentry.name, cred)
    if fattr.attr is None:
        fattr = await nfs3proc.getattr_(dir_inode.server, fh, cred)
    return _instantiate(dentry, fh, fattr)


# Making names. Each takes a negative dentry of a locked directory; on failure the dentry is dropped, for the call may
# have succeeded all the same. Each returns the dentry to use and raises OSError.


async def _default_acl(dir_inode: NfsInode, cred: Credential) -> None:
    if dir_inode.server.cap_acls and not dir_inode.acl_cached:
        await revalidate_inode(dir_inode, INVALID_CHANGE, cred)
        await getacl(dir_inode, cred)


async def create(dir_inode: NfsInode, dentry: Dentry, mode: int, cred: Credential, *, excl: bool = False) -> Dentry:
    """CREATE a regular file; exclusively with O_EXCL, then SETATTR sets the mode and the times."""
    try:
        await _default_acl(dir_inode, cred)
        verf = dir_inode.server.exclusive_verifier() if excl else None
        fh, fattr = await nfs3proc.create(dir_inode, dentry.name, mode, verf, cred)
        dentry = await _add_or_obtain(dir_inode, dentry, fh, fattr, cred)
        if excl:
            await _set_attributes_after_exclusive(dentry, mode, cred)
    except OSError:
        d_drop(dentry)
        raise
    return dentry


async def _set_attributes_after_exclusive(dentry: Dentry, mode: int, cred: Credential) -> None:
    inode = dentry.inode
    assert inode is not None
    iattr = Iattr(mode=mode, atime_ns=SET_TO_SERVER_TIME, mtime_ns=SET_TO_SERVER_TIME)
    fattr = await nfs3proc.setattr_(inode, iattr.sattr3(), cred)
    await setattr_update_inode(inode, iattr, fattr)
    inode.post_op_update(fattr)


async def mkdir(dir_inode: NfsInode, dentry: Dentry, mode: int, cred: Credential) -> Dentry:
    try:
        await _default_acl(dir_inode, cred)
        fh, fattr = await nfs3proc.mkdir(dir_inode, dentry.name, mode, cred)
        return await _add_or_obtain(dir_inode, dentry, fh, fattr, cred)
    except OSError:
        d_drop(dentry)
        raise


async def mknod(
    dir_inode: NfsInode, dentry: Dentry, kind: FType3, mode: int, rdev: tuple[int, int], cred: Credential
) -> Dentry:
    try:
        await _default_acl(dir_inode, cred)
        fh, fattr = await nfs3proc.mknod(dir_inode, dentry.name, kind, mode, rdev, cred)
        return await _add_or_obtain(dir_inode, dentry, fh, fattr, cred)
    except OSError:
        d_drop(dentry)
        raise


async def symlink(dir_inode: NfsInode, dentry: Dentry, target: bytes, cred: Credential) -> Dentry:
    """SYMLINK; its target goes into the new inode's page cache at once, so that readlink costs no call."""
    try:
        fh, fattr = await nfs3proc.symlink(dir_inode, dentry.name, target, cred)
        dentry = await _add_or_obtain(dir_inode, dentry, fh, fattr, cred)
    except OSError:
        d_drop(dentry)
        raise
    set_verifier(dentry, dir_inode.cache_change_attribute)
    inode = dentry.inode
    assert inode is not None
    if inode.mapping.find_page(0) is None:
        try:
            page = add_to_page_cache_lru(inode.mapping, 0)
        except NoMemory:
            return dentry  # READLINK will fetch it
        page.fill(target)
        page.uptodate = True
        own_page(page, inode, cred, "symlink")
        page.unlock()
    return dentry


async def link(inode: NfsInode, dir_inode: NfsInode, dentry: Dentry, cred: Credential) -> None:
    """LINK an existing file to a new name."""
    if inode.is_reg:
        await sync_inode(inode)
    await nfs3proc.link(inode, dir_inode, dentry.name, cred)
    set_verifier(dentry, dir_inode.cache_change_attribute)
    d_add(dentry, inode)


# Removing and moving names.


def drop_nlink(inode: NfsInode, gencount: int) -> None:
    """A name of the inode was removed; what its attributes are now is unknown (nfs_drop_nlink)."""
    if inode.i_nlink > 0 and gencount == inode.attr_gencount:
        inode.i_nlink -= 1
    inode.new_gencount_barrier()
    inode.set_cache_invalid(INVALID_CHANGE | INVALID_CTIME | INVALID_NLINK)


def _removed(dir_inode: NfsInode, dentry: Dentry) -> None:
    set_verifier(dentry, dir_inode.cache_change_attribute)


async def unlink(dir_inode: NfsInode, dentry: Dentry, cred: Credential) -> None:
    """Remove a file's name. In use here, it is renamed to .nfsXXXX instead and removed with its last user.

    ``dentry`` is held once by the caller; more references mean that it is in use.
    """
    inode = dentry.inode
    assert inode is not None
    if dentry.count > 1:
        if inode.is_reg:
            await write_inode_now(inode)
        await sillyrename(dir_inode, dentry, cred)
        return
    dentry.begin()
    try:
        gencount = inode.attr_gencount
        try:
            await nfs3proc.remove(dir_inode, dentry.name, cred)
        except OSError as error:
            if error.errno == errno.ENOENT:
                d_delete(dentry)
                _removed(dir_inode, dentry)
            raise
        drop_nlink(inode, gencount)
        _removed(dir_inode, dentry)
    finally:
        dentry.end()
    d_delete(dentry)


async def rmdir(dir_inode: NfsInode, dentry: Dentry, cred: Credential) -> None:
    """Remove a directory."""
    inode = dentry.inode
    assert inode is not None
    await wait_for_silly_removals(inode)
    try:
        await nfs3proc.remove(dir_inode, dentry.name, cred, directory=True)
    except OSError as error:
        if error.errno == errno.ENOENT:
            d_drop(dentry)  # and not made negative, for vfs_rmdir holds it once more meanwhile
        raise
    inode.i_nlink = 0
    inode.dead = True
    prune_children(dentry)
    _removed(dir_inode, dentry)
    d_delete(dentry)


async def rename(old_dir: NfsInode, old: Dentry, new_dir: NfsInode, new: Dentry, cred: Credential) -> None:
    """Move a name over another (nfs_rename). Both dentries are held once by the caller.

    Dirty data go out first when the directory stays the same; Linux 6.1's helper has that test the wrong way round.
    A target that is in use here is silly-renamed away, and a fresh negative dentry takes its place.
    """
    old_inode, target = old.inode, new.inode
    assert old_inode is not None
    substitute: Dentry | None = None
    target_gencount = 0
    if target is not None and not target.is_dir:
        if new.count > 1:
            parent, name = new.parent, new.name
            assert parent is not None
            await sillyrename(new_dir, new, cred)
            new = substitute = Dentry(new.sb, parent, name)
            target = None
        else:
            target_gencount = target.attr_gencount
            new.begin()
    try:
        if old_inode.is_reg and old.parent is new.parent:
            await sync_inode(old_inode)
        try:
            await nfs3proc.rename(old_dir, old.name, new_dir, new.name, cred)
        finally:
            old_inode.mark_for_revalidate()
        old_inode.new_gencount_barrier()
        old_inode.set_cache_invalid(INVALID_CHANGE | INVALID_CTIME)
        if target is not None:
            drop_nlink(target, target_gencount)
            if target.is_dir:
                target.dead = True
                prune_children(new)  # shrink_dcache_parent: names known not to exist in it would hold it for ever
        d_move(old, new)
        set_verifier(old, new_dir.cache_change_attribute)
    except OSError as error:
        if error.errno == errno.ENOENT and old.inode is not None:
            d_delete(old)
        raise
    finally:
        new.end()
        if substitute is not None:
            d_drop(substitute)
            dput(substitute)
