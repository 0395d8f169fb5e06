"""The procedures of NFSv3 but READ and WRITE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from freepage_proto import nfs3
from freepage_proto.convert.common import (
    FTYPE,
    NFSSTAT,
    fattr,
    fields,
    handle,
    optional_handle,
    put_fattr,
    put_sattr,
    put_wcc,
    sattr,
    verifier,
    wcc,
)
from freepage_proto.convert.method import method, null
from freepage_proto.nfs3 import NO_SATTR, Access3, CreateMode3, FsInfoProperties
from freepage_proto.rpc import Procedure
from freepage_proto.v1 import nfs_pb2 as nfs_pb

_CREATEMODE = {int(value): value for value in CreateMode3}


def _fill_setattr(message: nfs_pb.SetattrRequest, args: nfs3.SetattrArgs) -> None:
    message.object = args.object
    message.new_attributes.SetInParent()
    put_sattr(message.new_attributes, args.new_attributes)
    if args.guard_ctime_ns is not None:
        message.guard_ctime_ns = args.guard_ctime_ns


def _read_setattr(m: nfs_pb.SetattrRequest) -> nfs3.SetattrArgs:
    guard = m.guard_ctime_ns if m.HasField("guard_ctime_ns") else None
    return nfs3.SetattrArgs(handle(m.object), sattr(m, "new_attributes"), guard)


def _fill_create(message: nfs_pb.CreateRequest, args: nfs3.CreateArgs) -> None:
    message.dir, message.name, message.mode, message.verf = args.dir, args.name, args.mode.value, args.verf  # type: ignore[assignment]
    if args.attributes != NO_SATTR:
        put_sattr(message.attributes, args.attributes)


def _fill_mkdir(message: nfs_pb.MkdirRequest, args: nfs3.MkdirArgs) -> None:
    message.dir, message.name = args.dir, args.name
    put_sattr(message.attributes, args.attributes)


def _fill_symlink(message: nfs_pb.SymlinkRequest, args: nfs3.SymlinkArgs) -> None:
    message.dir, message.name, message.path = args.dir, args.name, args.path
    put_sattr(message.attributes, args.attributes)


def _fill_mknod(message: nfs_pb.MknodRequest, args: nfs3.MknodArgs) -> None:
    message.dir, message.name, message.type = args.dir, args.name, args.type.value  # type: ignore[assignment]
    put_sattr(message.attributes, args.attributes)
    if args.rdev != (0, 0):
        message.rdev.SetInParent()
        message.rdev.major, message.rdev.minor = args.rdev


def _fill_getattr_res(m: nfs_pb.GetattrResponse, r: nfs3.GetattrRes) -> None:
    m.status = r.status.value  # type: ignore[assignment]
    put_fattr(m.attributes, r.attributes)


def _fill_setattr_res(m: nfs_pb.SetattrResponse, r: nfs3.SetattrRes) -> None:
    m.status = r.status.value  # type: ignore[assignment]
    put_wcc(m.wcc, r.wcc)


def _fill_lookup_res(m: nfs_pb.LookupResponse, r: nfs3.LookupRes) -> None:
    m.status = r.status.value  # type: ignore[assignment]
    if r.object is not None:
        m.object = r.object
    put_fattr(m.attributes, r.attributes)
    put_fattr(m.dir_attributes, r.dir_attributes)


def _read_lookup_res(m: nfs_pb.LookupResponse) -> nfs3.LookupRes:
    return nfs3.LookupRes(NFSSTAT[m.status], optional_handle(m, "object"), fattr(m), fattr(m, "dir_attributes"))


def _fill_access_res(m: nfs_pb.AccessResponse, r: nfs3.AccessRes) -> None:
    m.status, m.access = r.status.value, int(r.access)  # type: ignore[assignment]
    put_fattr(m.attributes, r.attributes)


def _fill_readlink_res(m: nfs_pb.ReadlinkResponse, r: nfs3.ReadlinkRes) -> None:
    m.status, m.path = r.status.value, r.path  # type: ignore[assignment]
    put_fattr(m.attributes, r.attributes)


def _fill_create_res(m: Any, r: nfs3.CreateRes) -> None:
    m.status = r.status.value
    if r.object is not None:
        m.object = r.object
    put_fattr(m.attributes, r.attributes)
    put_wcc(m.dir_wcc, r.dir_wcc)


def _read_create_res(m: Any) -> nfs3.CreateRes:
    return nfs3.CreateRes(NFSSTAT[m.status], optional_handle(m, "object"), fattr(m), wcc(m, "dir_wcc"))


def _fill_remove_res(m: Any, r: nfs3.RemoveRes) -> None:
    m.status = r.status.value
    put_wcc(m.dir_wcc, r.dir_wcc)


def _read_remove_res(m: Any) -> nfs3.RemoveRes:
    return nfs3.RemoveRes(NFSSTAT[m.status], wcc(m, "dir_wcc"))


def _fill_rename_res(m: nfs_pb.RenameResponse, r: nfs3.RenameRes) -> None:
    m.status = r.status.value  # type: ignore[assignment]
    put_wcc(m.from_dir_wcc, r.from_dir_wcc)
    put_wcc(m.to_dir_wcc, r.to_dir_wcc)


def _fill_link_res(m: nfs_pb.LinkResponse, r: nfs3.LinkRes) -> None:
    m.status = r.status.value  # type: ignore[assignment]
    put_fattr(m.attributes, r.attributes)
    put_wcc(m.dir_wcc, r.dir_wcc)


def _fill_readdir_res(m: Any, r: nfs3.ReaddirRes) -> None:
    m.status, m.cookieverf, m.eof = r.status.value, r.cookieverf, r.eof
    put_fattr(m.dir_attributes, r.dir_attributes)
    for entry in r.entries:
        e = m.entries.add(fileid=entry.fileid, name=entry.name, cookie=entry.cookie)
        if entry.attributes is not None:
            put_fattr(e.attributes, entry.attributes)
        if entry.object is not None:
            e.object = entry.object


def _read_readdir_res(m: Any) -> nfs3.ReaddirRes:
    entries = tuple(
        nfs3.DirEntry3(e.fileid, e.name, e.cookie, fattr(e), optional_handle(e, "object")) for e in m.entries
    )
    return nfs3.ReaddirRes(NFSSTAT[m.status], fattr(m, "dir_attributes"), verifier(m.cookieverf), entries, m.eof)


_FSSTAT = ("tbytes", "fbytes", "abytes", "tfiles", "ffiles", "afiles", "invarsec")
_FSINFO = ("rtmax", "rtpref", "rtmult", "wtmax", "wtpref", "wtmult", "dtpref", "maxfilesize", "time_delta_ns")
_PATHCONF = ("linkmax", "name_max", "no_trunc", "chown_restricted", "case_insensitive", "case_preserving")


def _status_attributes_and(*names: str) -> Callable[[Any, Any], None]:
    copy = fields(*names)

    def fill(m: Any, r: Any) -> None:
        m.status = r.status.value
        put_fattr(m.attributes, r.attributes)
        copy(m, r)

    return fill


_fill_fsinfo_some = _status_attributes_and(*_FSINFO)


def _fill_fsinfo_res(m: nfs_pb.FsinfoResponse, r: nfs3.FsinfoRes) -> None:
    _fill_fsinfo_some(m, r)
    m.properties = int(r.properties)


def _read_fsinfo_res(m: nfs_pb.FsinfoResponse) -> nfs3.FsinfoRes:
    some = {name: getattr(m, name) for name in _FSINFO}
    return nfs3.FsinfoRes(NFSSTAT[m.status], fattr(m), **some, properties=FsInfoProperties(m.properties))


def _fill_commit_res(m: nfs_pb.CommitResponse, r: nfs3.CommitRes) -> None:
    m.status, m.verf = r.status.value, r.verf  # type: ignore[assignment]
    put_wcc(m.wcc, r.wcc)


def _fill_readdir(m: Any, a: Any) -> None:
    m.dir, m.cookie, m.cookieverf = a.dir, a.cookie, a.cookieverf


def _fill_readdir_call(m: nfs_pb.ReaddirRequest, a: nfs3.ReaddirArgs) -> None:
    _fill_readdir(m, a)
    m.count = a.count


def _fill_readdirplus_call(m: nfs_pb.ReaddirplusRequest, a: nfs3.ReaddirplusArgs) -> None:
    _fill_readdir(m, a)
    m.dircount, m.maxcount = a.dircount, a.maxcount


def _fill_access(m: nfs_pb.AccessRequest, a: nfs3.AccessArgs) -> None:
    m.object, m.access = a.object, int(a.access)


_P, _N = Procedure, nfs_pb

NFS = (
    null(_P.NULL, _N.NfsNullRequest, _N.NfsNullResponse),
    method(
        _P.GETATTR, "Getattr", _N.GetattrRequest, _N.GetattrResponse,
        fields("object"), lambda m: nfs3.GetattrArgs(handle(m.object)),
        _fill_getattr_res, lambda m: nfs3.GetattrRes(NFSSTAT[m.status], fattr(m)),
    ),
    method(
        _P.SETATTR, "Setattr", _N.SetattrRequest, _N.SetattrResponse,
        _fill_setattr, _read_setattr,
        _fill_setattr_res, lambda m: nfs3.SetattrRes(NFSSTAT[m.status], wcc(m, "wcc")),
    ),
    method(
        _P.LOOKUP, "Lookup", _N.LookupRequest, _N.LookupResponse,
        fields("dir", "name"), lambda m: nfs3.LookupArgs(handle(m.dir), m.name),
        _fill_lookup_res, _read_lookup_res,
    ),
    method(
        _P.ACCESS, "Access", _N.AccessRequest, _N.AccessResponse,
        _fill_access, lambda m: nfs3.AccessArgs(handle(m.object), Access3(m.access)),
        _fill_access_res, lambda m: nfs3.AccessRes(NFSSTAT[m.status], fattr(m), Access3(m.access)),
    ),
    method(
        _P.READLINK, "Readlink", _N.ReadlinkRequest, _N.ReadlinkResponse,
        fields("symlink"), lambda m: nfs3.ReadlinkArgs(handle(m.symlink)),
        _fill_readlink_res, lambda m: nfs3.ReadlinkRes(NFSSTAT[m.status], fattr(m), m.path),
    ),
    method(
        _P.CREATE, "Create", _N.CreateRequest, _N.CreateResponse,
        _fill_create, lambda m: nfs3.CreateArgs(
            handle(m.dir), m.name, _CREATEMODE[m.mode], sattr(m, "attributes"), verifier(m.verf)),
        _fill_create_res, _read_create_res,
    ),
    method(
        _P.MKDIR, "Mkdir", _N.MkdirRequest, _N.MkdirResponse,
        _fill_mkdir, lambda m: nfs3.MkdirArgs(handle(m.dir), m.name, sattr(m, "attributes")),
        _fill_create_res, _read_create_res,
    ),
    method(
        _P.SYMLINK, "Symlink", _N.SymlinkRequest, _N.SymlinkResponse,
        _fill_symlink, lambda m: nfs3.SymlinkArgs(handle(m.dir), m.name, m.path, sattr(m, "attributes")),
        _fill_create_res, _read_create_res,
    ),
    method(
        _P.MKNOD, "Mknod", _N.MknodRequest, _N.MknodResponse,
        _fill_mknod, lambda m: nfs3.MknodArgs(
            handle(m.dir), m.name, FTYPE[m.type], sattr(m, "attributes"), (m.rdev.major, m.rdev.minor)),
        _fill_create_res, _read_create_res,
    ),
    method(
        _P.REMOVE, "Remove", _N.RemoveRequest, _N.RemoveResponse,
        fields("dir", "name"), lambda m: nfs3.RemoveArgs(handle(m.dir), m.name),
        _fill_remove_res, _read_remove_res,
    ),
    method(
        _P.RMDIR, "Rmdir", _N.RmdirRequest, _N.RmdirResponse,
        fields("dir", "name"), lambda m: nfs3.RemoveArgs(handle(m.dir), m.name),
        _fill_remove_res, _read_remove_res,
    ),
    method(
        _P.RENAME, "Rename", _N.RenameRequest, _N.RenameResponse,
        fields("from_dir", "from_name", "to_dir", "to_name"),
        lambda m: nfs3.RenameArgs(handle(m.from_dir), m.from_name, handle(m.to_dir), m.to_name),
        _fill_rename_res,
        lambda m: nfs3.RenameRes(NFSSTAT[m.status], wcc(m, "from_dir_wcc"), wcc(m, "to_dir_wcc")),
    ),
    method(
        _P.LINK, "Link", _N.LinkRequest, _N.LinkResponse,
        fields("file", "dir", "name"), lambda m: nfs3.LinkArgs(handle(m.file), handle(m.dir), m.name),
        _fill_link_res, lambda m: nfs3.LinkRes(NFSSTAT[m.status], fattr(m), wcc(m, "dir_wcc")),
    ),
    method(
        _P.READDIR, "Readdir", _N.ReaddirRequest, _N.ReaddirResponse,
        _fill_readdir_call,
        lambda m: nfs3.ReaddirArgs(handle(m.dir), m.cookie, verifier(m.cookieverf), m.count),
        _fill_readdir_res, _read_readdir_res,
    ),
    method(
        _P.READDIRPLUS, "Readdirplus", _N.ReaddirplusRequest, _N.ReaddirplusResponse,
        _fill_readdirplus_call,
        lambda m: nfs3.ReaddirplusArgs(handle(m.dir), m.cookie, verifier(m.cookieverf), m.dircount, m.maxcount),
        _fill_readdir_res, _read_readdir_res,
    ),
    method(
        _P.FSSTAT, "Fsstat", _N.FsstatRequest, _N.FsstatResponse,
        fields("root"), lambda m: nfs3.FsstatArgs(handle(m.root)),
        _status_attributes_and(*_FSSTAT),
        lambda m: nfs3.FsstatRes(NFSSTAT[m.status], fattr(m), *(getattr(m, name) for name in _FSSTAT)),
    ),
    method(
        _P.FSINFO, "Fsinfo", _N.FsinfoRequest, _N.FsinfoResponse,
        fields("root"), lambda m: nfs3.FsinfoArgs(handle(m.root)),
        _fill_fsinfo_res, _read_fsinfo_res,
    ),
    method(
        _P.PATHCONF, "Pathconf", _N.PathconfRequest, _N.PathconfResponse,
        fields("object"), lambda m: nfs3.PathconfArgs(handle(m.object)),
        _status_attributes_and(*_PATHCONF),
        lambda m: nfs3.PathconfRes(NFSSTAT[m.status], fattr(m), *(getattr(m, name) for name in _PATHCONF)),
    ),
    method(
        _P.COMMIT, "Commit", _N.CommitRequest, _N.CommitResponse,
        fields("file", "offset", "count"), lambda m: nfs3.CommitArgs(handle(m.file), m.offset, m.count),
        _fill_commit_res, lambda m: nfs3.CommitRes(NFSSTAT[m.status], wcc(m, "wcc"), verifier(m.verf)),
    ),
)  # fmt: skip
