"""What the server does to files for a caller, protocol aside (Linux: fs/nfsd/vfs.c).

Every method checks the caller's permission, does one thing, and leaves the attributes from before and after in the
`Fh` where knfsd would: before the change for SETATTR and namespace operations, nowhere for READ, WRITE and COMMIT.
Errors are OSError or NfsError. The NFS procedures and `LocalTask` are both thin over this.
"""

from __future__ import annotations

import errno
from dataclasses import replace

from freepage_proto.nfs3 import (
    SET_TO_SERVER_TIME,
    CreateMode3,
    Data,
    Fattr3,
    FType3,
    NfsStat3,
    Sattr3,
    StableHow,
)
from freepage_proto.rpc import AuthSys
from freepage_server.nfsd.errors import NfsError
from freepage_server.nfsd.export import INVALID_ID
from freepage_server.nfsd.fh import Fh, error
from freepage_server.nfsd.filecache import FileCache
from freepage_server.nfsd.permission import MAY_EXEC, MAY_READ, MAY_WRITE, in_group, require, require_delete
from freepage_server.nfsd.storage import Key

OFFSET_MAX = (1 << 63) - 1
PATH_MAX = 4096
MAX_MAJOR, MAX_MINOR = (1 << 12) - 1, (1 << 20) - 1
"""What fits Linux's dev_t."""
S_ISUID, S_ISGID, S_IXGRP = 0o4000, 0o2000, 0o010
NSEC_PER_SEC = 1_000_000_000

_DOTS = (b".", b"..")


def check_name(fh: Fh, name: bytes) -> None:
    """What no directory may hold: EACCES for no name at all (as Linux's lookup), EINVAL for a slash or NUL."""
    if not name:
        raise error(errno.EACCES)
    if b"/" in name or b"\0" in name:
        raise error(errno.EINVAL)
    if len(name) > fh.export.storage.name_max:
        raise error(errno.ENAMETOOLONG)


def _without_privileges(mode: int, gid: int, cred: AuthSys) -> int:
    """``mode`` less setuid, and less setgid if a group may execute the file, or the caller is not of its group.

    Else setgid marks mandatory locking (Linux: setattr_should_drop_sgid).
    """
    drop_sgid = mode & S_IXGRP or (cred.uid != 0 and not in_group(cred, gid))
    return mode & ~(S_ISUID | S_ISGID) if drop_sgid else mode & ~S_ISUID


class Vfs:
    def __init__(self, files: FileCache) -> None:
        self.files = files

    def _child(self, fh: Fh, key: Key) -> Fh:
        return Fh(self.files, fh.export, key)

    def _find(self, fh: Fh, name: bytes) -> Fh | None:
        """The inode of that name, or None: for operations that must not find one."""
        try:
            return self._child(fh, fh.export.storage.lookup(fh.key, name))
        except FileNotFoundError:
            return None

    # --- looking --------------------------------------------------------------------------------------------------

    def lookup(self, fh: Fh, name: bytes, cred: AuthSys) -> Fh:
        directory = fh.require_directory()
        require(directory, cred, MAY_EXEC)
        check_name(fh, name)
        return self._child(fh, fh.export.storage.lookup(fh.key, name))

    def require_readable_directory(self, fh: Fh, cred: AuthSys) -> None:
        require(fh.require_directory(), cred, MAY_READ)

    def readlink(self, fh: Fh) -> bytes:
        return fh.export.storage.readlink(fh.key)

    async def read(self, fh: Fh, offset: int, count: int, cred: AuthSys) -> tuple[Data, bool, Fattr3]:
        """The data, whether they end the file, and the file's attributes."""
        attributes = fh.require_file()
        require(attributes, cred, MAY_READ, owner_override=True)
        data, attributes = await self.files.read(fh.export, fh.key, attributes, offset, count, cred)
        return data, offset + len(data) >= attributes.size, attributes

    # --- data -----------------------------------------------------------------------------------------------------

    async def write(self, fh: Fh, offset: int, data: Data, stable: StableHow, cred: AuthSys) -> int:
        """Returns the bytes written: fewer than given only if an error struck after the first page."""
        attributes = fh.require_file()
        fh.require_writable()
        require(attributes, cred, MAY_WRITE, owner_override=True)
        if offset + len(data) > min(OFFSET_MAX, fh.export.storage.max_file_size):
            raise error(errno.EFBIG)
        if not len(data):
            return 0
        self._remove_privileges(fh, attributes, cred)
        return await self.files.write(fh.export, fh.key, attributes, offset, data, stable, cred)

    async def commit(self, fh: Fh, offset: int, count: int, cred: AuthSys) -> None:
        if offset > OFFSET_MAX:
            raise error(errno.EINVAL)
        fh.require_file()
        fh.require_writable()
        await self.files.commit(fh.export, fh.key, offset, count)

    def _remove_privileges(self, fh: Fh, attributes: Fattr3, cred: AuthSys) -> None:
        """A write by anyone but root ends setuid and setgid (Linux: file_remove_privs)."""
        kept = _without_privileges(attributes.mode, attributes.gid, cred)
        if kept != attributes.mode and cred.uid != 0:
            fh.export.storage.setattr(fh.key, mode=kept)
            self.files.changed(fh.export, fh.key)

    # --- attributes -----------------------------------------------------------------------------------------------

    async def setattr(self, fh: Fh, sattr: Sattr3, cred: AuthSys, guard_ctime_ns: int | None = None) -> None:
        await self._setattr(fh, sattr, cred, guard_ctime_ns)
        await self._sync(fh)

    async def _setattr(self, fh: Fh, sattr: Sattr3, cred: AuthSys, guard_ctime_ns: int | None = None) -> None:
        attributes = fh.require_file() if sattr.size is not None else fh.attributes()
        fh.require_writable()
        if guard_ctime_ns is not None and guard_ctime_ns != attributes.ctime_ns:
            raise NfsError(NfsStat3.NOT_SYNC)
        sattr = self._sanitized(sattr, attributes, cred)
        if sattr == Sattr3():
            return
        if sattr.size is not None:
            require(attributes, cred, MAY_WRITE, owner_override=True)
            if sattr.size > min(OFFSET_MAX, fh.export.storage.max_file_size):
                raise error(errno.EFBIG)
        fh.fill_pre_attrs()
        if sattr.size is not None:
            await self.files.truncate(fh.export, fh.key, sattr.size)
            # The cut has just set mtime; knfsd spares a second change when mtime is all that is left.
            sattr = replace(sattr, size=None)
            if sattr.mtime_ns == SET_TO_SERVER_TIME:
                sattr = replace(sattr, mtime_ns=None)
        if sattr != Sattr3():
            storage = fh.export.storage
            now = storage.now_ns()
            storage.setattr(
                fh.key,
                mode=sattr.mode,
                uid=sattr.uid,
                gid=sattr.gid,
                atime_ns=now if sattr.atime_ns == SET_TO_SERVER_TIME else sattr.atime_ns,
                mtime_ns=now if sattr.mtime_ns == SET_TO_SERVER_TIME else sattr.mtime_ns,
            )
            self.files.changed(fh.export, fh.key, mtime=sattr.mtime_ns is not None)
        fh.fill_post_attrs()

    def _sanitized(self, sattr: Sattr3, attributes: Fattr3, cred: AuthSys) -> Sattr3:
        """Check who may set what (Linux: setattr_prepare); a chown ends setuid and setgid (nfsd_sanitize_attrs)."""
        # Ids that are none are not looked at (knfsd: svcxdr_decode_sattr3).
        sattr = replace(
            sattr,
            uid=None if sattr.uid == INVALID_ID else sattr.uid,
            gid=None if sattr.gid == INVALID_ID else sattr.gid,
        )
        owner = cred.uid in (0, attributes.uid)
        mode = sattr.mode if attributes.type is not FType3.LNK else None
        if mode is not None:
            if not owner:
                raise error(errno.EPERM)
            mode &= 0o7777
            gid = attributes.gid if sattr.gid is None else sattr.gid
            if mode & S_ISGID and cred.uid != 0 and not in_group(cred, gid):
                mode &= ~S_ISGID
        if sattr.uid is not None and cred.uid != 0 and not (owner and sattr.uid == attributes.uid):
            raise error(errno.EPERM)
        may_be_of = sattr.gid is None or sattr.gid == attributes.gid or in_group(cred, sattr.gid)
        if sattr.gid is not None and cred.uid != 0 and not (owner and may_be_of):  # chgrp_ok
            raise error(errno.EPERM)
        chown = sattr.uid is not None or sattr.gid is not None
        if chown and attributes.type not in (FType3.DIR, FType3.LNK):
            kept = _without_privileges(attributes.mode if mode is None else mode, attributes.gid, cred)
            if mode is not None or kept != attributes.mode:
                mode = kept
        times = [time_ns for time_ns in (sattr.atime_ns, sattr.mtime_ns) if time_ns is not None]
        if times and not owner:
            if any(time_ns != SET_TO_SERVER_TIME for time_ns in times):
                raise error(errno.EPERM)
            require(attributes, cred, MAY_WRITE)
        return replace(sattr, mode=mode)

    # --- names ----------------------------------------------------------------------------------------------------

    def _require_create(self, fh: Fh, cred: AuthSys) -> None:
        require(fh.require_directory(), cred, MAY_WRITE | MAY_EXEC)
        fh.require_writable()

    async def _sync(self, *changed: Fh) -> None:
        """A reply about names and attributes waits for the disk, if the export is a ``sync`` one."""
        if changed[0].export.sync:
            await changed[0].export.storage.sync_metadata(*{fh.key: None for fh in changed})

    async def _create_setattr(self, child: Fh, sattr: Sattr3, cred: AuthSys) -> None:
        """Attributes of a new inode beyond its mode (Linux: nfsd_create_setattr): only root may give files away."""
        sattr = replace(sattr, mode=None, size=sattr.size or None)
        if cred.uid != 0:
            sattr = replace(sattr, uid=None, gid=None)
        if sattr != Sattr3():
            await self._setattr(child, sattr, cred)
        child.before = child.after = None

    async def create(self, fh: Fh, name: bytes, mode: CreateMode3, sattr: Sattr3, verf: bytes, cred: AuthSys) -> Fh:
        """CREATE in its three modes (Linux: nfsd3_create_file).

        An exclusive create keeps its verifier in the new file's mtime and atime, where a repeated call finds it; the
        client sets the true times next.
        """
        directory = fh.require_directory()
        require(directory, cred, MAY_EXEC)
        if name in _DOTS:
            raise error(errno.EEXIST)
        check_name(fh, name)
        mtime_ns = (int.from_bytes(verf[0:4], "big") & 0x7FFFFFFF) * NSEC_PER_SEC
        atime_ns = (int.from_bytes(verf[4:8], "big") & 0x7FFFFFFF) * NSEC_PER_SEC
        child = self._find(fh, name)
        if child is not None:
            there = child.attributes()
            if mode is CreateMode3.GUARDED:
                raise error(errno.EEXIST)
            if mode is CreateMode3.EXCLUSIVE:
                if (there.mtime_ns, there.atime_ns, there.size) != (mtime_ns, atime_ns, 0):
                    raise error(errno.EEXIST)
            elif there.type is FType3.REG and sattr.size is not None:
                await self.setattr(child, Sattr3(size=sattr.size), cred)
                child.before = None
            return child
        self._require_create(fh, cred)
        fh.fill_pre_attrs()
        key = fh.export.storage.create(fh.key, name, (sattr.mode or 0) & 0o7777, cred.uid, cred.gid)
        child = self._child(fh, key)
        fh.fill_post_attrs()
        if mode is CreateMode3.EXCLUSIVE:
            sattr = Sattr3(atime_ns=atime_ns, mtime_ns=mtime_ns)
            fh.export.storage.setattr(key, atime_ns=atime_ns, mtime_ns=mtime_ns)
        else:
            await self._create_setattr(child, sattr, cred)
        await self._sync(child, fh)
        return child

    async def mkdir(self, fh: Fh, name: bytes, sattr: Sattr3, cred: AuthSys) -> Fh:
        self._begin_new(fh, name, cred)
        fh.fill_pre_attrs()
        key = fh.export.storage.mkdir(fh.key, name, (sattr.mode or 0) & 0o1777, cred.uid, cred.gid)
        return await self._end_new(fh, key, replace(sattr, size=None), cred)

    async def symlink(self, fh: Fh, name: bytes, target: bytes, sattr: Sattr3, cred: AuthSys) -> Fh:
        if not name or not target or b"\0" in target:
            raise error(errno.ENOENT if b"\0" not in target else errno.EINVAL)
        if len(target) >= PATH_MAX:
            raise error(errno.ENAMETOOLONG)
        self._begin_new(fh, name, cred)
        fh.fill_pre_attrs()
        key = fh.export.storage.symlink(fh.key, name, target, cred.uid, cred.gid)
        return await self._end_new(fh, key, replace(sattr, size=None), cred)

    async def mknod(self, fh: Fh, name: bytes, type: FType3, sattr: Sattr3, rdev: tuple[int, int], cred: AuthSys) -> Fh:
        if type not in (FType3.CHR, FType3.BLK, FType3.SOCK, FType3.FIFO):
            raise NfsError(NfsStat3.BADTYPE)
        self._begin_new(fh, name, cred)
        fh.fill_pre_attrs()
        if type in (FType3.CHR, FType3.BLK):
            if rdev[0] > MAX_MAJOR or rdev[1] > MAX_MINOR:
                raise error(errno.EINVAL)
            if cred.uid != 0:
                raise error(errno.EPERM)
        mode = (sattr.mode or 0) & 0o7777
        key = fh.export.storage.mknod(fh.key, name, type, mode, rdev, cred.uid, cred.gid)
        return await self._end_new(fh, key, replace(sattr, size=None), cred)

    def _begin_new(self, fh: Fh, name: bytes, cred: AuthSys) -> None:
        fh.require_directory()
        if name in _DOTS:
            raise error(errno.EEXIST)
        check_name(fh, name)
        if self._find(fh, name) is not None:
            fh.fill_pre_attrs()  # knfsd has already saved them when it finds the name taken
            raise error(errno.EEXIST)
        self._require_create(fh, cred)

    async def _end_new(self, fh: Fh, key: Key, sattr: Sattr3, cred: AuthSys) -> Fh:
        fh.fill_post_attrs()
        child = self._child(fh, key)
        await self._create_setattr(child, sattr, cred)
        await self._sync(child, fh)
        return child

    async def link(self, fh: Fh, target: Fh, name: bytes, cred: AuthSys) -> None:
        """A new name in ``fh`` for the inode of ``target``."""
        self._require_create(fh, cred)
        if target.attributes().type is FType3.DIR:
            raise error(errno.EISDIR)
        if not name:
            raise error(errno.EPERM)
        if name in _DOTS:
            raise error(errno.EEXIST)
        check_name(fh, name)
        if target.export is not fh.export:
            raise error(errno.EXDEV)
        fh.fill_pre_attrs()
        fh.export.storage.link(target.key, fh.key, name)
        self.files.changed(fh.export, target.key)
        fh.fill_post_attrs()
        target.fill_post_attrs()
        await self._sync(target, fh)

    async def unlink(self, fh: Fh, name: bytes, cred: AuthSys) -> None:
        victim = self._begin_removal(fh, name, cred)
        fh.export.storage.unlink(fh.key, name)
        fh.fill_post_attrs()
        self._unlinked(victim)
        await self._sync(fh)

    async def rmdir(self, fh: Fh, name: bytes, cred: AuthSys) -> None:
        self._begin_removal(fh, name, cred)
        fh.export.storage.rmdir(fh.key, name)
        fh.fill_post_attrs()
        await self._sync(fh)

    def _begin_removal(self, fh: Fh, name: bytes, cred: AuthSys) -> Fh:
        directory = fh.require_directory()
        require(directory, cred, MAY_EXEC)
        if name in _DOTS:
            raise error(errno.EACCES)
        check_name(fh, name)
        victim = self._child(fh, fh.export.storage.lookup(fh.key, name))
        fh.fill_pre_attrs()
        require_delete(directory, victim.attributes(), cred)
        fh.require_writable()
        return victim

    def _unlinked(self, victim: Fh) -> None:
        """One name fewer: the inode may be gone, or live on with a new ctime."""
        try:
            victim.export.storage.getattr(victim.key)
        except OSError:
            self.files.gone(victim.export, victim.key)
        else:
            self.files.changed(victim.export, victim.key)

    async def rename(self, fh: Fh, name: bytes, to: Fh, to_name: bytes, cred: AuthSys) -> None:
        directory, to_directory = fh.require_directory(), to.require_directory()
        fh.require_writable()
        if not name or not to_name or name in _DOTS or to_name in _DOTS:
            raise error(errno.EPERM)
        if fh.export is not to.export:
            raise error(errno.EXDEV)
        check_name(fh, name)
        check_name(to, to_name)
        fh.fill_pre_attrs()
        to.fill_pre_attrs()
        require(directory, cred, MAY_EXEC)
        source = self._child(fh, fh.export.storage.lookup(fh.key, name))
        moved = source.attributes()
        require_delete(directory, moved, cred)
        require(to_directory, cred, MAY_WRITE | MAY_EXEC)
        if moved.type is FType3.DIR and fh.key != to.key:
            require(moved, cred, MAY_WRITE)  # its ".." is rewritten
        victim = self._find(to, to_name)
        if victim is not None:
            require_delete(to_directory, victim.attributes(), cred)
        fh.export.storage.rename(fh.key, name, to.key, to_name)
        self.files.changed(source.export, source.key)
        if victim is not None and victim.key != source.key:
            self._unlinked(victim)
        fh.fill_post_attrs()
        to.fill_post_attrs()
        await self._sync(fh, to)
