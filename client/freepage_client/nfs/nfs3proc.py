"""One function for each NFSv3 call the client makes, and what its reply does to the inodes (fs/nfs/nfs3proc.c).

Attributes in a failed reply count too: they are taken before the error is raised. All raise OSError.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from freepage_client.nfs.errors import os_error, status_to_errno
from freepage_client.nfs.fattr import NfsFattr
from freepage_client.nfs.inode import INVALID_ATIME
from freepage_proto import nfs3
from freepage_proto.nfs3 import NfsStat3
from freepage_proto.rpc import Procedure

if TYPE_CHECKING:
    from freepage_client.nfs.cred import Credential
    from freepage_client.nfs.inode import NfsInode
    from freepage_client.nfs.super import NfsServer


def _check(status: NfsStat3) -> None:
    if status is not NfsStat3.OK:
        raise os_error(status_to_errno(status))


async def getattr_(server: NfsServer, fh: nfs3.FileHandle, cred: Credential, *, may_time_out: bool = False) -> NfsFattr:
    fattr = server.fattr()
    args = nfs3.GetattrArgs(fh)
    result = await server.rpc.call(Procedure.GETATTR, args, cred.auth, may_time_out=may_time_out)
    result = cast(nfs3.GetattrRes, result)
    _check(result.status)
    fattr.attr = result.attributes
    return fattr


async def setattr_(inode: NfsInode, attributes: nfs3.Sattr3, cred: Credential) -> NfsFattr:
    """SETATTR; what its reply does to the inode is nfs.setattr's business."""
    server = inode.server
    fattr = server.fattr()
    args = nfs3.SetattrArgs(inode.fh, attributes)
    result = cast(nfs3.SetattrRes, await server.rpc.call(Procedure.SETATTR, args, cred.auth))
    fattr.set_wcc(result.wcc)
    _check(result.status)
    return fattr


async def lookup(dir_inode: NfsInode, name: bytes, cred: Credential) -> tuple[nfs3.FileHandle, NfsFattr]:
    server = dir_inode.server
    dir_fattr = server.fattr()
    fattr = server.fattr()
    args = nfs3.LookupArgs(dir_inode.fh, name)
    result = cast(nfs3.LookupRes, await server.rpc.call(Procedure.LOOKUP, args, cred.auth))
    dir_fattr.attr = result.dir_attributes
    dir_inode.refresh(dir_fattr)
    _check(result.status)
    assert result.object is not None
    fattr.attr = result.attributes
    if fattr.attr is None:
        fattr = await getattr_(server, result.object, cred)
    return result.object, fattr


async def access(inode: NfsInode, wanted: nfs3.Access3, cred: Credential) -> nfs3.Access3:
    server = inode.server
    fattr = server.fattr()
    args = nfs3.AccessArgs(inode.fh, wanted)
    result = cast(nfs3.AccessRes, await server.rpc.call(Procedure.ACCESS, args, cred.auth))
    fattr.attr = result.attributes
    inode.refresh(fattr)
    _check(result.status)
    return result.access


async def readlink(inode: NfsInode, cred: Credential) -> bytes:
    server = inode.server
    fattr = server.fattr()
    args = nfs3.ReadlinkArgs(inode.fh)
    result = cast(nfs3.ReadlinkRes, await server.rpc.call(Procedure.READLINK, args, cred.auth))
    fattr.attr = result.attributes
    inode.refresh(fattr)
    _check(result.status)
    return result.path


async def _do_create(
    dir_inode: NfsInode, procedure: Procedure, args: object, cred: Credential
) -> tuple[nfs3.FileHandle | None, NfsFattr]:
    server = dir_inode.server
    fattr = server.fattr()
    dir_fattr = server.fattr()
    result = cast(nfs3.CreateRes, await server.rpc.call(procedure, args, cred.auth))
    dir_fattr.set_wcc(result.dir_wcc)
    dir_inode.post_op_update(dir_fattr)
    _check(result.status)
    fattr.attr = result.attributes
    return result.object, fattr


async def create(
    dir_inode: NfsInode, name: bytes, mode: int, verf: bytes | None, cred: Credential
) -> tuple[nfs3.FileHandle | None, NfsFattr]:
    """CREATE: EXCLUSIVE when ``verf`` is given (the caller sets the attributes afterwards), else UNCHECKED."""
    if verf is not None:
        args = nfs3.CreateArgs(dir_inode.fh, name, nfs3.CreateMode3.EXCLUSIVE, verf=verf)
    else:
        args = nfs3.CreateArgs(dir_inode.fh, name, nfs3.CreateMode3.UNCHECKED, nfs3.Sattr3(mode=mode))
    return await _do_create(dir_inode, Procedure.CREATE, args, cred)


async def mkdir(
    dir_inode: NfsInode, name: bytes, mode: int, cred: Credential
) -> tuple[nfs3.FileHandle | None, NfsFattr]:
    args = nfs3.MkdirArgs(dir_inode.fh, name, nfs3.Sattr3(mode=mode))
    return await _do_create(dir_inode, Procedure.MKDIR, args, cred)


async def symlink(
    dir_inode: NfsInode, name: bytes, target: bytes, cred: Credential
) -> tuple[nfs3.FileHandle | None, NfsFattr]:
    args = nfs3.SymlinkArgs(dir_inode.fh, name, target, nfs3.Sattr3(mode=0o777))
    return await _do_create(dir_inode, Procedure.SYMLINK, args, cred)


async def mknod(
    dir_inode: NfsInode, name: bytes, kind: nfs3.FType3, mode: int, rdev: tuple[int, int], cred: Credential
) -> tuple[nfs3.FileHandle | None, NfsFattr]:
    args = nfs3.MknodArgs(dir_inode.fh, name, kind, nfs3.Sattr3(mode=mode), rdev)
    return await _do_create(dir_inode, Procedure.MKNOD, args, cred)


async def remove(dir_inode: NfsInode, name: bytes, cred: Credential, *, directory: bool = False) -> None:
    """REMOVE, or RMDIR when ``directory``."""
    server = dir_inode.server
    dir_fattr = server.fattr()
    procedure = Procedure.RMDIR if directory else Procedure.REMOVE
    args = nfs3.RemoveArgs(dir_inode.fh, name)
    result = cast(nfs3.RemoveRes, await server.rpc.call(procedure, args, cred.auth))
    dir_fattr.set_wcc(result.dir_wcc)
    dir_inode.post_op_update(dir_fattr)
    _check(result.status)


async def rename(from_dir: NfsInode, from_name: bytes, to_dir: NfsInode, to_name: bytes, cred: Credential) -> None:
    server = from_dir.server
    from_fattr = server.fattr()
    to_fattr = server.fattr()
    args = nfs3.RenameArgs(from_dir.fh, from_name, to_dir.fh, to_name)
    result = cast(nfs3.RenameRes, await server.rpc.call(Procedure.RENAME, args, cred.auth))
    from_fattr.set_wcc(result.from_dir_wcc)
    to_fattr.set_wcc(result.to_dir_wcc)
    from_dir.post_op_update(from_fattr)
    to_dir.post_op_update(to_fattr)
    _check(result.status)


async def link(inode: NfsInode, dir_inode: NfsInode, name: bytes, cred: Credential) -> None:
    server = inode.server
    fattr = server.fattr()
    dir_fattr = server.fattr()
    args = nfs3.LinkArgs(inode.fh, dir_inode.fh, name)
    result = cast(nfs3.LinkRes, await server.rpc.call(Procedure.LINK, args, cred.auth))
    dir_fattr.set_wcc(result.dir_wcc)
    fattr.attr = result.attributes
    dir_inode.post_op_update(dir_fattr)
    inode.post_op_update(fattr)
    _check(result.status)


async def readdir(
    dir_inode: NfsInode, cookie: int, verf: bytes, dtsize: int, plus: bool, cred: Credential
) -> nfs3.ReaddirRes:
    """READDIR, or READDIRPLUS when ``plus``, for at most ``dtsize`` bytes of reply."""
    server = dir_inode.server
    dir_fattr = server.fattr()
    verf = verf if cookie else bytes(nfs3.NFS3_COOKIEVERFSIZE)
    if plus:
        args: object = nfs3.ReaddirplusArgs(dir_inode.fh, cookie, verf, dtsize, dtsize)
        reply = await server.rpc.call(Procedure.READDIRPLUS, args, cred.auth)
    else:
        args = nfs3.ReaddirArgs(dir_inode.fh, cookie, verf, dtsize)
        reply = await server.rpc.call(Procedure.READDIR, args, cred.auth)
    result = cast(nfs3.ReaddirRes, reply)
    dir_inode.set_cache_invalid(INVALID_ATIME)
    dir_fattr.attr = result.dir_attributes
    dir_inode.refresh(dir_fattr)
    _check(result.status)
    return result


async def fsstat(server: NfsServer, root: nfs3.FileHandle, cred: Credential) -> nfs3.FsstatRes:
    result = cast(nfs3.FsstatRes, await server.rpc.call(Procedure.FSSTAT, nfs3.FsstatArgs(root), cred.auth))
    _check(result.status)
    return result


async def fsinfo(server: NfsServer, root: nfs3.FileHandle, cred: Credential) -> nfs3.FsinfoRes:
    result = cast(nfs3.FsinfoRes, await server.rpc.call(Procedure.FSINFO, nfs3.FsinfoArgs(root), cred.auth))
    _check(result.status)
    return result


async def pathconf(server: NfsServer, root: nfs3.FileHandle, cred: Credential) -> nfs3.PathconfRes:
    result = await server.rpc.call(Procedure.PATHCONF, nfs3.PathconfArgs(root), cred.auth)
    result = cast(nfs3.PathconfRes, result)
    _check(result.status)
    return result
