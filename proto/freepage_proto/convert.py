"""Plain types to protobuf messages and back: the one place where the two meet.

Both ``io`` packages use it: the client's transport encodes calls and decodes replies, the server's service does the
opposite. ``METHODS`` has, for each procedure, its gRPC method and the four functions. What cannot be a message of this
protocol (an unknown enumerator, a handle of more than 64 bytes, a count that is not its data's length) raises
RpcGarbageArgs, on whichever side finds it.

Calls begin with their header (field 1 of every request), and of the header only the xid differs from one call of a
client and credential to the next. So the rest of it is encoded and decoded once and remembered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol, TypeVar

from google.protobuf.message import DecodeError, Message

from freepage_proto import bulk, mount3, nfs3, nfsacl3, nlm4
from freepage_proto.mount3 import MountStat3
from freepage_proto.nfs3 import (
    NFS3_COOKIEVERFSIZE,
    NFS3_FHSIZE,
    NO_SATTR,
    NO_WCC,
    SET_TO_SERVER_TIME,
    Access3,
    CreateMode3,
    Fattr3,
    FsInfoProperties,
    FType3,
    NfsStat3,
    Sattr3,
    StableHow,
    WccAttr,
    WccData,
)
from freepage_proto.nlm4 import MAX_OWNER, NlmStat4
from freepage_proto.rpc import (
    AUTH_SYS_MAX_GIDS,
    AUTH_SYS_MAX_MACHINE_NAME,
    MAX_CLIENT_ID,
    AuthSys,
    CallHeader,
    Procedure,
    Program,
    RpcGarbageArgs,
)
from freepage_proto.v1 import common_pb2 as common_pb
from freepage_proto.v1 import mount_pb2 as mount_pb
from freepage_proto.v1 import nfs_pb2 as nfs_pb
from freepage_proto.v1 import nfsacl_pb2 as nfsacl_pb
from freepage_proto.v1 import nlm_pb2 as nlm_pb

M = TypeVar("M", bound=Message)

MAX_HEADER = 2048
"""Bytes of the longest header that is remembered once decoded; our own are shorter than half of that."""

_FTYPE = {int(value): value for value in FType3}
_NFSSTAT = {int(value): value for value in NfsStat3}
_MOUNTSTAT = {int(value): value for value in MountStat3}
_NLMSTAT = {int(value): value for value in NlmStat4}
_STABLE = {int(value): value for value in StableHow}
_CREATEMODE = {int(value): value for value in CreateMode3}


def _handle(handle: bytes) -> bytes:
    if len(handle) > NFS3_FHSIZE:
        raise RpcGarbageArgs(f"a file handle of {len(handle)} bytes; the protocol has room for {NFS3_FHSIZE}")
    return handle


def _optional_handle(message: Any, field: str) -> bytes | None:
    return _handle(getattr(message, field)) if message.HasField(field) else None


def _verifier(verifier: bytes) -> bytes:
    if len(verifier) not in (0, NFS3_COOKIEVERFSIZE):
        raise RpcGarbageArgs(f"a verifier of {len(verifier)} bytes instead of {NFS3_COOKIEVERFSIZE}")
    return verifier


# --- the parts that many messages share ------------------------------------------------------------------------------


def put_fattr(message: common_pb.Fattr3, attributes: Fattr3 | None) -> None:
    """Fill `message`, a field that is absent until something is put into it; None leaves it absent."""
    if attributes is None:
        return
    a = attributes
    message.type = a.type.value  # type: ignore[assignment]  # the enums are the same numbers
    message.mode = a.mode
    message.nlink = a.nlink
    message.uid = a.uid
    message.gid = a.gid
    message.size = a.size
    message.used = a.used
    if a.rdev != (0, 0):
        message.rdev.SetInParent()
        message.rdev.major, message.rdev.minor = a.rdev
    message.fsid = a.fsid
    message.fileid = a.fileid
    message.atime_ns = a.atime_ns
    message.mtime_ns = a.mtime_ns
    message.ctime_ns = a.ctime_ns


def fattr(message: Any, field: str = "attributes") -> Fattr3 | None:
    """The attributes in `field` of `message`, or None when it is absent."""
    if not message.HasField(field):
        return None
    a = getattr(message, field)
    return Fattr3(
        _FTYPE[a.type],
        a.mode,
        a.nlink,
        a.uid,
        a.gid,
        a.size,
        a.used,
        a.fsid,
        a.fileid,
        a.atime_ns,
        a.mtime_ns,
        a.ctime_ns,
        (a.rdev.major, a.rdev.minor) if a.HasField("rdev") else (0, 0),
    )


def put_wcc(message: common_pb.WccData, wcc: WccData) -> None:
    before = wcc.before
    if before is not None:
        message.before.SetInParent()
        message.before.size = before.size
        message.before.mtime_ns = before.mtime_ns
        message.before.ctime_ns = before.ctime_ns
    put_fattr(message.after, wcc.after)


def wcc(message: Any, field: str) -> WccData:
    if not message.HasField(field):
        return NO_WCC
    data = getattr(message, field)
    before = data.before
    return WccData(
        WccAttr(before.size, before.mtime_ns, before.ctime_ns) if data.HasField("before") else None,
        fattr(data, "after"),
    )


def put_sattr(message: common_pb.Sattr3, attributes: Sattr3) -> None:
    for field in ("mode", "uid", "gid", "size"):
        value = getattr(attributes, field)
        if value is not None:
            setattr(message, field, value)
    for name in ("atime", "mtime"):
        time_ns = getattr(attributes, f"{name}_ns")
        if time_ns == SET_TO_SERVER_TIME:
            setattr(message, f"{name}_server", True)
        elif time_ns is not None:
            setattr(message, f"{name}_ns", time_ns)


def sattr(message: Any, field: str) -> Sattr3:
    if not message.HasField(field):
        return NO_SATTR
    a = getattr(message, field)
    times = []
    for name in ("atime", "mtime"):
        which = a.WhichOneof(f"set_{name}")
        times.append(None if which is None else SET_TO_SERVER_TIME if which.endswith("_server") else getattr(a, which))
    return Sattr3(
        a.mode if a.HasField("mode") else None,
        a.uid if a.HasField("uid") else None,
        a.gid if a.HasField("gid") else None,
        a.size if a.HasField("size") else None,
        times[0],
        times[1],
    )


# --- the call header -------------------------------------------------------------------------------------------------


def put_cred(message: common_pb.AuthSys, cred: AuthSys) -> None:
    message.SetInParent()
    message.uid, message.gid, message.machine_name = cred.uid, cred.gid, cred.machine_name
    message.gids.extend(cred.gids)


def cred(message: common_pb.AuthSys) -> AuthSys:
    """The credential; raises RpcGarbageArgs when it is larger than AUTH_SYS allows."""
    if len(message.gids) > AUTH_SYS_MAX_GIDS:
        raise RpcGarbageArgs(f"{len(message.gids)} supplementary groups; AUTH_SYS has room for {AUTH_SYS_MAX_GIDS}")
    if len(message.machine_name.encode()) > AUTH_SYS_MAX_MACHINE_NAME:
        raise RpcGarbageArgs(f"the machine name is longer than {AUTH_SYS_MAX_MACHINE_NAME} bytes")
    return AuthSys(message.uid, message.gid, tuple(message.gids), message.machine_name)


@lru_cache(maxsize=4096)
def _encode_caller(client_id: str, boot_instance: int, cred: AuthSys) -> bytes:
    """Everything of a CallHeader but its xid, which is its first field and changes with each call."""
    message = common_pb.CallHeader(client_id=client_id, boot_instance=boot_instance)
    put_cred(message.cred, cred)
    return message.SerializeToString()


def _client_id(message: common_pb.CallHeader) -> str:
    """The server remembers it with locks and replies, so it may not be of any length."""
    if len(message.client_id.encode()) > MAX_CLIENT_ID:
        raise RpcGarbageArgs(f"the client's id is longer than {MAX_CLIENT_ID} bytes")
    return message.client_id


@lru_cache(maxsize=4096)
def _decode_caller(rest: bytes) -> tuple[str, int, AuthSys, int]:
    message = common_pb.CallHeader.FromString(rest)
    return _client_id(message), message.boot_instance, cred(message.cred), message.xid


def encode_header(header: CallHeader) -> bytes:
    """Field 1 of every request, exactly as protobuf writes it."""
    body = _encode_caller(header.client_id, header.boot_instance, header.cred)
    if header.xid:
        body = b"\x08" + bulk.varint(header.xid) + body
    return b"\x0a" + bulk.varint(len(body)) + body


def _split_header(request: bytes) -> tuple[CallHeader, bytes]:
    """The header and what follows it, of a request as ``encode_header`` begins one; raises Malformed otherwise."""
    if request[:1] != b"\x0a":
        raise bulk.Malformed("the request does not begin with its header")
    length, begin = bulk.read_varint(request, 1)
    end = begin + length
    if end > len(request) or length > MAX_HEADER:
        raise bulk.Malformed("the header is longer than the message, or than any of ours")
    xid = 0
    if length and request[begin] == 0x08:
        xid, begin = bulk.read_varint(request, begin + 1)
    client_id, boot_instance, cred, other_xid = _decode_caller(request[begin:end])
    if other_xid or xid >> 32:
        raise bulk.Malformed("the xid is not where we write it")
    return CallHeader(client_id, boot_instance, xid, cred), request[end:]


def _parse(type_: type[M], buffer: bytes) -> M:
    try:
        return type_.FromString(buffer)
    except DecodeError as error:
        raise RpcGarbageArgs(f"not a {type_.DESCRIPTOR.name}: {error}") from None


def _parse_request(type_: type[M], request: bytes) -> tuple[CallHeader, M]:
    """A request's header and message, whatever order its fields are in; the message's own header may be empty."""
    try:
        header, body = _split_header(request)
        message = _parse(type_, body)
        if not message.HasField("header"):
            return header, message
    except (bulk.Malformed, DecodeError):
        pass  # legal in another order, or garbage: protobuf decides
    message = _parse(type_, request)
    if not message.HasField("header"):
        raise RpcGarbageArgs(f"a {type_.DESCRIPTOR.name} without a call header")
    whole = message.header  # type: ignore[attr-defined]  # every request has one
    return CallHeader(_client_id(whole), whole.boot_instance, whole.xid, cred(whole.cred)), message


# --- requests: fill(message, args) and read(message) -> args ---------------------------------------------------------


def _no_args(message: Any, args: object) -> None:
    pass


def _fields(*names: str) -> Callable[[Any, Any], None]:
    """A fill function that copies attributes which the plain type and the message call the same."""

    def fill(message: Any, args: Any) -> None:
        for name in names:
            setattr(message, name, getattr(args, name))

    return fill


def _fill_setattr(message: nfs_pb.SetattrRequest, args: nfs3.SetattrArgs) -> None:
    message.object = args.object
    message.new_attributes.SetInParent()
    put_sattr(message.new_attributes, args.new_attributes)
    if args.guard_ctime_ns is not None:
        message.guard_ctime_ns = args.guard_ctime_ns


def _read_setattr(m: nfs_pb.SetattrRequest) -> nfs3.SetattrArgs:
    guard = m.guard_ctime_ns if m.HasField("guard_ctime_ns") else None
    return nfs3.SetattrArgs(_handle(m.object), sattr(m, "new_attributes"), guard)


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


def _put_lock(message: nlm_pb.NlmLock, lock: nlm4.NlmLock) -> None:
    message.SetInParent()
    message.file, message.owner, message.svid = lock.file, lock.owner, lock.svid
    message.offset, message.length = lock.offset, lock.length


def _lock(m: nlm_pb.NlmLock) -> nlm4.NlmLock:
    if len(m.owner) > MAX_OWNER:
        raise RpcGarbageArgs(f"a lock's owner of {len(m.owner)} bytes; the protocol has room for {MAX_OWNER}")
    return nlm4.NlmLock(_handle(m.file), m.owner, m.svid, m.offset, m.length)


def _fill_lock(message: nlm_pb.LockRequest, args: nlm4.LockArgs) -> None:
    _put_lock(message.lock, args.lock)
    message.exclusive, message.block, message.reclaim = args.exclusive, args.block, args.reclaim


def _fill_test(message: nlm_pb.TestRequest, args: nlm4.LockArgs) -> None:
    _put_lock(message.lock, args.lock)
    message.exclusive = args.exclusive


def _fill_granted(message: nlm_pb.GrantedRequest, args: nlm4.GrantedArgs) -> None:
    message.wait_ms = args.wait_ms


def _fill_granted_res(m: nlm_pb.GrantedResponse, r: nlm4.GrantedRes) -> None:
    for lock in r.locks:
        _put_lock(m.locks.add(), lock)


def _fill_unlock(message: Any, args: nlm4.UnlockArgs) -> None:
    _put_lock(message.lock, args.lock)


# --- responses -------------------------------------------------------------------------------------------------------


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
    return nfs3.LookupRes(_NFSSTAT[m.status], _optional_handle(m, "object"), fattr(m), fattr(m, "dir_attributes"))


def _fill_access_res(m: nfs_pb.AccessResponse, r: nfs3.AccessRes) -> None:
    m.status, m.access = r.status.value, int(r.access)  # type: ignore[assignment]
    put_fattr(m.attributes, r.attributes)


def _fill_readlink_res(m: nfs_pb.ReadlinkResponse, r: nfs3.ReadlinkRes) -> None:
    m.status, m.path = r.status.value, r.path  # type: ignore[assignment]
    put_fattr(m.attributes, r.attributes)


def _fill_write_res(m: nfs_pb.WriteResponse, r: nfs3.WriteRes) -> None:
    m.status, m.count, m.committed, m.verf = r.status.value, r.count, r.committed.value, r.verf  # type: ignore[assignment]
    put_wcc(m.wcc, r.wcc)


def _read_write_res(m: nfs_pb.WriteResponse) -> nfs3.WriteRes:
    return nfs3.WriteRes(_NFSSTAT[m.status], wcc(m, "wcc"), m.count, _STABLE[m.committed], _verifier(m.verf))


def _fill_create_res(m: Any, r: nfs3.CreateRes) -> None:
    m.status = r.status.value
    if r.object is not None:
        m.object = r.object
    put_fattr(m.attributes, r.attributes)
    put_wcc(m.dir_wcc, r.dir_wcc)


def _read_create_res(m: Any) -> nfs3.CreateRes:
    return nfs3.CreateRes(_NFSSTAT[m.status], _optional_handle(m, "object"), fattr(m), wcc(m, "dir_wcc"))


def _fill_remove_res(m: Any, r: nfs3.RemoveRes) -> None:
    m.status = r.status.value
    put_wcc(m.dir_wcc, r.dir_wcc)


def _read_remove_res(m: Any) -> nfs3.RemoveRes:
    return nfs3.RemoveRes(_NFSSTAT[m.status], wcc(m, "dir_wcc"))


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
        nfs3.DirEntry3(e.fileid, e.name, e.cookie, fattr(e), _optional_handle(e, "object")) for e in m.entries
    )
    return nfs3.ReaddirRes(_NFSSTAT[m.status], fattr(m, "dir_attributes"), _verifier(m.cookieverf), entries, m.eof)


_FSSTAT = ("tbytes", "fbytes", "abytes", "tfiles", "ffiles", "afiles", "invarsec")
_FSINFO = ("rtmax", "rtpref", "rtmult", "wtmax", "wtpref", "wtmult", "dtpref", "maxfilesize", "time_delta_ns")
_PATHCONF = ("linkmax", "name_max", "no_trunc", "chown_restricted", "case_insensitive", "case_preserving")


def _status_attributes_and(*names: str) -> Callable[[Any, Any], None]:
    copy = _fields(*names)

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
    return nfs3.FsinfoRes(_NFSSTAT[m.status], fattr(m), **some, properties=FsInfoProperties(m.properties))


def _fill_commit_res(m: nfs_pb.CommitResponse, r: nfs3.CommitRes) -> None:
    m.status, m.verf = r.status.value, r.verf  # type: ignore[assignment]
    put_wcc(m.wcc, r.wcc)


def _fill_mnt_res(m: mount_pb.MntResponse, r: mount3.MntRes) -> None:
    m.status = r.status.value  # type: ignore[assignment]
    if r.fhandle is not None:
        m.fhandle = r.fhandle
    m.auth_flavors.extend(r.auth_flavors)


def _fill_dump_res(m: mount_pb.DumpResponse, r: mount3.DumpRes) -> None:
    for entry in r.entries:
        m.entries.add(hostname=entry.hostname, directory=entry.directory)


def _fill_export_res(m: mount_pb.ExportResponse, r: mount3.ExportRes) -> None:
    for entry in r.entries:
        m.entries.add(directory=entry.directory, groups=entry.groups)


def _fill_getacl_res(m: nfsacl_pb.GetaclResponse, r: nfsacl3.GetaclRes) -> None:
    m.status, m.mask = r.status.value, int(r.mask)  # type: ignore[assignment]
    put_fattr(m.attributes, r.attributes)
    for message, entries in ((m.access_acl, r.access_acl), (m.default_acl, r.default_acl)):
        for entry in entries:
            message.add(type=entry.type, id=entry.id, permissions=entry.permissions)


def _acl(message: Any) -> tuple[nfsacl3.AclEntry, ...]:
    return tuple(nfsacl3.AclEntry(e.type, e.id, e.permissions) for e in message)


def _read_getacl_res(m: nfsacl_pb.GetaclResponse) -> nfsacl3.GetaclRes:
    mask = nfsacl3.AclMask(m.mask)
    return nfsacl3.GetaclRes(_NFSSTAT[m.status], fattr(m), mask, _acl(m.access_acl), _acl(m.default_acl))


def _fill_nlm_res(m: Any, r: nlm4.NlmRes) -> None:
    m.status = r.status.value


def _fill_test_res(m: nlm_pb.TestResponse, r: nlm4.NlmRes) -> None:
    m.status, m.holder_exclusive = r.status.value, r.holder_exclusive  # type: ignore[assignment]
    if r.holder is not None:
        _put_lock(m.holder, r.holder)


def _read_test_res(m: nlm_pb.TestResponse) -> nlm4.NlmRes:
    return nlm4.NlmRes(_NLMSTAT[m.status], _lock(m.holder) if m.HasField("holder") else None, m.holder_exclusive)


# --- READ and WRITE: the data by hand --------------------------------------------------------------------------------

_READ_DATA = nfs_pb.ReadResponse.DATA_FIELD_NUMBER
_WRITE_DATA = nfs_pb.WriteRequest.DATA_FIELD_NUMBER


# READ's and WRITE's calls have their own code on both sides, heads included: a cached READ is what a
# server does most, and protobuf's parser, cold when it is come back to, is a fifth of what the server adds to gRPC.


def _encode_range(header: CallHeader, args: nfs3.ReadArgs | nfs3.WriteArgs) -> bytes:
    """The fields with which a ReadRequest and a WriteRequest begin: header, file, offset, count."""
    request = encode_header(header)
    if args.file:
        request += b"\x12" + bulk.varint(len(args.file)) + args.file
    if args.offset:
        request += b"\x18" + bulk.varint(args.offset)
    if args.count:
        request += b"\x20" + bulk.varint(args.count)
    return request


def encode_read(header: CallHeader, args: nfs3.ReadArgs) -> bytes:
    """A ReadRequest, exactly as protobuf writes it."""
    return _encode_range(header, args)


@lru_cache(maxsize=4096)
def _decode_user(caller_and_file: bytes, caller_size: int) -> tuple[str, int, AuthSys, bytes, int]:
    client_id, boot_instance, cred, xid = _decode_caller(caller_and_file[:caller_size])
    return client_id, boot_instance, cred, _handle(caller_and_file[caller_size + 2 :]), xid


def decode_read(request: bytes) -> tuple[CallHeader, nfs3.ReadArgs]:
    """A ReadRequest, in whatever order its fields are."""
    return _decode_read_ours(request) or _decode_read_any(request)


def _decode_range(request: bytes) -> tuple[CallHeader, bytes, int, int, int] | None:
    """Header, file, offset, count as ``_encode_range`` writes them, and what is behind them; None: not so written."""
    try:
        end = 2 + request[1]
        if request[0] != 0x0A or end >= 0x82 or request[2] != 0x08:
            return None
        xid, begin = bulk.read_varint(request, 3)
        behind = end + 2 + request[end + 1]
        if begin > end or request[end] != 0x12 or behind - end >= 0x82:
            return None
        client_id, boot_instance, cred, file, other_xid = _decode_user(request[begin:behind], end - begin)
        offset = count = 0
        if request[behind] == 0x18:
            offset, behind = bulk.read_varint(request, behind + 1)
        if request[behind] == 0x20:
            count, behind = bulk.read_varint(request, behind + 1)
    except (IndexError, bulk.Malformed, DecodeError):
        return None
    if xid >> 32 or other_xid or offset >> 64 or count >> 32:
        return None
    return CallHeader(client_id, boot_instance, xid, cred), file, offset, count, behind


def _decode_read_ours(request: bytes) -> tuple[CallHeader, nfs3.ReadArgs] | None:
    """A ReadRequest as ``encode_read`` writes it; None for every other."""
    parts = _decode_range(request)
    if parts is None or parts[4] != len(request):
        return None
    return parts[0], nfs3.ReadArgs(*parts[1:4])


def _decode_read_any(request: bytes) -> tuple[CallHeader, nfs3.ReadArgs]:
    header, m = _parse_request(nfs_pb.ReadRequest, request)
    return header, nfs3.ReadArgs(_handle(m.file), m.offset, m.count)


_MAX_ENCODED = 256

_encoded: dict[int, tuple[Fattr3, bytes]] = {}
"""By identity: attributes that were sent lately, and the whole field 2 of a ReadResponse that they are."""


def _encode_attributes(attributes: Fattr3 | None) -> bytes:
    """The READs of a file that nobody changes all answer with the same object."""
    if attributes is None:
        return b""
    known = _encoded.get(id(attributes))
    if known is not None and known[0] is attributes:
        return known[1]
    if len(_encoded) >= _MAX_ENCODED:
        _encoded.clear()
    m = nfs_pb.ReadResponse()
    put_fattr(m.attributes, attributes)
    field = m.SerializeToString()
    _encoded[id(attributes)] = attributes, field
    return field


@lru_cache(maxsize=256)
def _encode_counts(count: int, eof: bool, length: int) -> bytes:
    """What a ReadResponse has between its attributes and its data: most READs of a client have the same size."""
    head = b"\x18" + bulk.varint(count)
    return (head + b"\x20\x01" if eof else head) + bulk.bytes_head(_READ_DATA, length)


def encode_read_res(r: nfs3.ReadRes) -> bytes:
    """A ReadResponse; copies the data once."""
    if r.status is NfsStat3.OK and r.count:
        return b"".join((_encode_attributes(r.attributes), _encode_counts(r.count, r.eof, len(r.data)), r.data))
    m = nfs_pb.ReadResponse(status=r.status.value, count=r.count, eof=r.eof)  # type: ignore[arg-type]
    put_fattr(m.attributes, r.attributes)
    return b"".join((m.SerializeToString(), *bulk.bytes_field(_READ_DATA, r.data)))


@lru_cache(maxsize=4096)
def _decode_fattr(raw: bytes) -> Fattr3 | None:
    """Replies to the READs of one file carry the same attributes: they are decoded once."""
    return fattr(nfs_pb.GetattrResponse(attributes=common_pb.Fattr3.FromString(raw)))


def decode_read_res(response: bytes) -> nfs3.ReadRes:
    """A ReadRes whose data are a view of `response`."""
    return _decode_read_ok(response) or _decode_read_res(response)


def _decode_read_ok(response: bytes) -> nfs3.ReadRes | None:
    """A ReadResponse with status OK as `encode_read_res` writes it; None for every other.

    By hand because it is the one reply on the way of every page: 2 us instead of 6.
    """
    try:
        if response[0] != 0x12 or response[1] >= 0x80:
            return None
        position = 2 + response[1]
        attributes = _decode_fattr(response[2:position])
        if response[position] != 0x18:
            return None
        count, position = bulk.read_varint(response, position + 1)
        eof = response[position] == 0x20
        if eof:
            if response[position + 1] != 1:
                return None
            position += 2
        if response[position] != 0x2A:
            return None
        length, position = bulk.read_varint(response, position + 1)
    except (IndexError, bulk.Malformed, DecodeError):
        return None
    if count != length or position + length != len(response):
        return None
    return nfs3.ReadRes(NfsStat3.OK, attributes, count, eof, memoryview(response)[position:])


def _decode_read_res(response: bytes) -> nfs3.ReadRes:
    data: nfs3.Data
    try:
        split = bulk.split_last_bytes(response, _READ_DATA)
    except bulk.Malformed as error:
        raise RpcGarbageArgs(f"not a ReadResponse: {error}") from None
    if split is None:
        m = _parse(nfs_pb.ReadResponse, response)
        data = m.data
    else:
        head, data = split
        m = _parse(nfs_pb.ReadResponse, head)
    if m.count != len(data):
        raise RpcGarbageArgs(f"READ says {m.count} bytes and brings {len(data)}")
    return nfs3.ReadRes(_NFSSTAT[m.status], fattr(m), m.count, m.eof, data)


def encode_write(header: CallHeader, args: nfs3.WriteArgs) -> bytes:
    """A WriteRequest; copies the data once."""
    head = _encode_range(header, args)
    if args.stable.value:
        head += b"\x28" + bulk.varint(args.stable.value)
    return b"".join((head, *bulk.bytes_field(_WRITE_DATA, args.data)))


def decode_write(request: bytes) -> tuple[CallHeader, nfs3.WriteArgs]:
    """The header, and WriteArgs whose data are a view of `request`."""
    return _decode_write_ours(request) or _decode_write_any(request)


def _decode_write_ours(request: bytes) -> tuple[CallHeader, nfs3.WriteArgs] | None:
    """A WriteRequest with data as ``encode_write`` writes it; None for every other."""
    parts = _decode_range(request)
    if parts is None:
        return None
    header, file, offset, count, behind = parts
    stable = StableHow.UNSTABLE
    try:
        if request[behind] == 0x28:
            stable = _STABLE[request[behind + 1]]
            behind += 2
        if request[behind] != 0x32:
            return None
        length, behind = bulk.read_varint(request, behind + 1)
    except (IndexError, KeyError, bulk.Malformed):
        return None
    if not length or count != length or behind + length != len(request):
        return None
    return header, nfs3.WriteArgs(file, offset, count, stable, memoryview(request)[behind:])


def _decode_write_any(request: bytes) -> tuple[CallHeader, nfs3.WriteArgs]:
    data: nfs3.Data
    try:
        split = bulk.split_last_bytes(request, _WRITE_DATA)
    except bulk.Malformed as error:
        raise RpcGarbageArgs(f"not a WriteRequest: {error}") from None
    if split is None:
        header, m = _parse_request(nfs_pb.WriteRequest, request)
        data = m.data
    else:
        head, data = split
        header, m = _parse_request(nfs_pb.WriteRequest, head)
    if m.count != len(data):
        raise RpcGarbageArgs(f"WRITE says {m.count} bytes and brings {len(data)}")
    return header, nfs3.WriteArgs(_handle(m.file), m.offset, m.count, _STABLE[m.stable], data)


# --- the table -------------------------------------------------------------------------------------------------------


class _Decode(Protocol):
    def __call__(self, buffer: bytes, /) -> Any: ...


@dataclass(frozen=True, slots=True)
class Method:
    """One procedure as a gRPC method. The decoders raise RpcGarbageArgs."""

    procedure: Procedure
    service: str
    name: str
    encode_call: Callable[[CallHeader, Any], bytes]
    decode_call: Callable[[bytes], tuple[CallHeader, Any]]
    encode_reply: Callable[[Any], bytes]
    decode_reply: Callable[[bytes], Any]

    @property
    def path(self) -> str:
        """What HTTP/2 calls it: ``/freepage.v1.Nfs/Read``."""
        return f"/{self.service}/{self.name}"


METHODS: dict[Procedure, Method] = {}
"""Every procedure's gRPC method, in the order of Procedure."""

_SERVICES = {Program.NFS: "Nfs", Program.MOUNT: "Mount", Program.NFSACL: "NfsAcl", Program.NLM: "Nlm"}


def _guarded(decode: _Decode) -> _Decode:
    """What a decoder trips over in a message that is not ours becomes RpcGarbageArgs."""

    def guarded(buffer: bytes, /) -> Any:
        try:
            return decode(buffer)
        except KeyError as error:  # the only dictionaries here are the enumerations
            raise RpcGarbageArgs(f"{error.args[0]!r} is not a value of the protocol's enumeration") from None
        except (ValueError, DecodeError) as error:
            raise RpcGarbageArgs(str(error)) from None

    return guarded


def _method(
    procedure: Procedure,
    name: str,
    request: type[Message],
    response: type[Message],
    fill_call: Callable[[Any, Any], None],
    read_call: Callable[[Any], Any],
    fill_reply: Callable[[Any, Any], None],
    read_reply: Callable[[Any], Any],
) -> None:
    def encode_call(header: CallHeader, args: Any) -> bytes:
        message = request()
        fill_call(message, args)
        return encode_header(header) + message.SerializeToString()

    def decode_call(buffer: bytes) -> tuple[CallHeader, Any]:
        header, message = _parse_request(request, buffer)
        return header, read_call(message)

    def encode_reply(result: Any) -> bytes:
        message = response()
        fill_reply(message, result)
        return message.SerializeToString()

    def decode_reply(buffer: bytes) -> Any:
        return read_reply(_parse(response, buffer))

    METHODS[procedure] = Method(
        procedure,
        f"freepage.v1.{_SERVICES[procedure.program]}",
        name,
        encode_call,
        _guarded(decode_call),
        encode_reply,
        _guarded(decode_reply),
    )


def _fill_readdir(m: Any, a: Any) -> None:
    m.dir, m.cookie, m.cookieverf = a.dir, a.cookie, a.cookieverf


def _fill_readdir_call(m: nfs_pb.ReaddirRequest, a: nfs3.ReaddirArgs) -> None:
    _fill_readdir(m, a)
    m.count = a.count


def _fill_readdirplus_call(m: nfs_pb.ReaddirplusRequest, a: nfs3.ReaddirplusArgs) -> None:
    _fill_readdir(m, a)
    m.dircount, m.maxcount = a.dircount, a.maxcount


def _null(procedure: Procedure, request: type[Message], response: type[Message]) -> None:
    _method(
        procedure, "Null", request, response, _no_args, lambda m: nfs3.NullArgs(), _no_args, lambda m: nfs3.NullRes()
    )


def _by_hand(*_: Any) -> Any:
    raise AssertionError("READ, and WRITE's call, have an encoding of their own")


def _fill_access(m: nfs_pb.AccessRequest, a: nfs3.AccessArgs) -> None:
    m.object, m.access = a.object, int(a.access)


def _fill_getacl(m: nfsacl_pb.GetaclRequest, a: nfsacl3.GetaclArgs) -> None:
    m.object, m.mask = a.object, int(a.mask)


_P, _N = Procedure, nfs_pb

_null(_P.NULL, _N.NfsNullRequest, _N.NfsNullResponse)
_method(
    _P.GETATTR, "Getattr", _N.GetattrRequest, _N.GetattrResponse,
    _fields("object"), lambda m: nfs3.GetattrArgs(_handle(m.object)),
    _fill_getattr_res, lambda m: nfs3.GetattrRes(_NFSSTAT[m.status], fattr(m)),
)  # fmt: skip
_method(
    _P.SETATTR, "Setattr", _N.SetattrRequest, _N.SetattrResponse,
    _fill_setattr, _read_setattr,
    _fill_setattr_res, lambda m: nfs3.SetattrRes(_NFSSTAT[m.status], wcc(m, "wcc")),
)  # fmt: skip
_method(
    _P.LOOKUP, "Lookup", _N.LookupRequest, _N.LookupResponse,
    _fields("dir", "name"), lambda m: nfs3.LookupArgs(_handle(m.dir), m.name),
    _fill_lookup_res, _read_lookup_res,
)  # fmt: skip
_method(
    _P.ACCESS, "Access", _N.AccessRequest, _N.AccessResponse,
    _fill_access, lambda m: nfs3.AccessArgs(_handle(m.object), Access3(m.access)),
    _fill_access_res, lambda m: nfs3.AccessRes(_NFSSTAT[m.status], fattr(m), Access3(m.access)),
)  # fmt: skip
_method(
    _P.READLINK, "Readlink", _N.ReadlinkRequest, _N.ReadlinkResponse,
    _fields("symlink"), lambda m: nfs3.ReadlinkArgs(_handle(m.symlink)),
    _fill_readlink_res, lambda m: nfs3.ReadlinkRes(_NFSSTAT[m.status], fattr(m), m.path),
)  # fmt: skip
_method(
    _P.READ, "Read", _N.ReadRequest, _N.ReadResponse,
    _by_hand, _by_hand,
    _by_hand, _by_hand,
)  # fmt: skip
METHODS[_P.READ] = replace(
    METHODS[_P.READ],
    encode_call=encode_read,
    decode_call=_guarded(decode_read),
    encode_reply=encode_read_res,
    decode_reply=_guarded(decode_read_res),
)
_method(
    _P.WRITE, "Write", _N.WriteRequest, _N.WriteResponse,
    _by_hand, _by_hand,
    _fill_write_res, _read_write_res,
)  # fmt: skip
METHODS[_P.WRITE] = replace(METHODS[_P.WRITE], encode_call=encode_write, decode_call=_guarded(decode_write))
_method(
    _P.CREATE, "Create", _N.CreateRequest, _N.CreateResponse,
    _fill_create, lambda m: nfs3.CreateArgs(
        _handle(m.dir), m.name, _CREATEMODE[m.mode], sattr(m, "attributes"), _verifier(m.verf)),
    _fill_create_res, _read_create_res,
)  # fmt: skip
_method(
    _P.MKDIR, "Mkdir", _N.MkdirRequest, _N.MkdirResponse,
    _fill_mkdir, lambda m: nfs3.MkdirArgs(_handle(m.dir), m.name, sattr(m, "attributes")),
    _fill_create_res, _read_create_res,
)  # fmt: skip
_method(
    _P.SYMLINK, "Symlink", _N.SymlinkRequest, _N.SymlinkResponse,
    _fill_symlink, lambda m: nfs3.SymlinkArgs(_handle(m.dir), m.name, m.path, sattr(m, "attributes")),
    _fill_create_res, _read_create_res,
)  # fmt: skip
_method(
    _P.MKNOD, "Mknod", _N.MknodRequest, _N.MknodResponse,
    _fill_mknod, lambda m: nfs3.MknodArgs(
        _handle(m.dir), m.name, _FTYPE[m.type], sattr(m, "attributes"), (m.rdev.major, m.rdev.minor)),
    _fill_create_res, _read_create_res,
)  # fmt: skip
_method(
    _P.REMOVE, "Remove", _N.RemoveRequest, _N.RemoveResponse,
    _fields("dir", "name"), lambda m: nfs3.RemoveArgs(_handle(m.dir), m.name),
    _fill_remove_res, _read_remove_res,
)  # fmt: skip
_method(
    _P.RMDIR, "Rmdir", _N.RmdirRequest, _N.RmdirResponse,
    _fields("dir", "name"), lambda m: nfs3.RemoveArgs(_handle(m.dir), m.name),
    _fill_remove_res, _read_remove_res,
)  # fmt: skip
_method(
    _P.RENAME, "Rename", _N.RenameRequest, _N.RenameResponse,
    _fields("from_dir", "from_name", "to_dir", "to_name"),
    lambda m: nfs3.RenameArgs(_handle(m.from_dir), m.from_name, _handle(m.to_dir), m.to_name),
    _fill_rename_res,
    lambda m: nfs3.RenameRes(_NFSSTAT[m.status], wcc(m, "from_dir_wcc"), wcc(m, "to_dir_wcc")),
)  # fmt: skip
_method(
    _P.LINK, "Link", _N.LinkRequest, _N.LinkResponse,
    _fields("file", "dir", "name"), lambda m: nfs3.LinkArgs(_handle(m.file), _handle(m.dir), m.name),
    _fill_link_res, lambda m: nfs3.LinkRes(_NFSSTAT[m.status], fattr(m), wcc(m, "dir_wcc")),
)  # fmt: skip
_method(
    _P.READDIR, "Readdir", _N.ReaddirRequest, _N.ReaddirResponse,
    _fill_readdir_call,
    lambda m: nfs3.ReaddirArgs(_handle(m.dir), m.cookie, _verifier(m.cookieverf), m.count),
    _fill_readdir_res, _read_readdir_res,
)  # fmt: skip
_method(
    _P.READDIRPLUS, "Readdirplus", _N.ReaddirplusRequest, _N.ReaddirplusResponse,
    _fill_readdirplus_call,
    lambda m: nfs3.ReaddirplusArgs(_handle(m.dir), m.cookie, _verifier(m.cookieverf), m.dircount, m.maxcount),
    _fill_readdir_res, _read_readdir_res,
)  # fmt: skip
_method(
    _P.FSSTAT, "Fsstat", _N.FsstatRequest, _N.FsstatResponse,
    _fields("root"), lambda m: nfs3.FsstatArgs(_handle(m.root)),
    _status_attributes_and(*_FSSTAT),
    lambda m: nfs3.FsstatRes(_NFSSTAT[m.status], fattr(m), *(getattr(m, name) for name in _FSSTAT)),
)  # fmt: skip
_method(
    _P.FSINFO, "Fsinfo", _N.FsinfoRequest, _N.FsinfoResponse,
    _fields("root"), lambda m: nfs3.FsinfoArgs(_handle(m.root)),
    _fill_fsinfo_res, _read_fsinfo_res,
)  # fmt: skip
_method(
    _P.PATHCONF, "Pathconf", _N.PathconfRequest, _N.PathconfResponse,
    _fields("object"), lambda m: nfs3.PathconfArgs(_handle(m.object)),
    _status_attributes_and(*_PATHCONF),
    lambda m: nfs3.PathconfRes(_NFSSTAT[m.status], fattr(m), *(getattr(m, name) for name in _PATHCONF)),
)  # fmt: skip
_method(
    _P.COMMIT, "Commit", _N.CommitRequest, _N.CommitResponse,
    _fields("file", "offset", "count"), lambda m: nfs3.CommitArgs(_handle(m.file), m.offset, m.count),
    _fill_commit_res, lambda m: nfs3.CommitRes(_NFSSTAT[m.status], wcc(m, "wcc"), _verifier(m.verf)),
)  # fmt: skip

_null(_P.MOUNT_NULL, mount_pb.MountNullRequest, mount_pb.MountNullResponse)
_method(
    _P.MOUNT_MNT, "Mnt", mount_pb.MntRequest, mount_pb.MntResponse,
    _fields("dirpath"), lambda m: mount3.MntArgs(m.dirpath),
    _fill_mnt_res,
    lambda m: mount3.MntRes(_MOUNTSTAT[m.status], _optional_handle(m, "fhandle"), tuple(m.auth_flavors)),
)  # fmt: skip
_method(
    _P.MOUNT_DUMP, "Dump", mount_pb.DumpRequest, mount_pb.DumpResponse,
    _no_args, lambda m: nfs3.NullArgs(),
    _fill_dump_res,
    lambda m: mount3.DumpRes(tuple(mount3.MountEntry(e.hostname, e.directory) for e in m.entries)),
)  # fmt: skip
_method(
    _P.MOUNT_UMNT, "Umnt", mount_pb.UmntRequest, mount_pb.UmntResponse,
    _fields("dirpath"), lambda m: mount3.UmntArgs(m.dirpath),
    _no_args, lambda m: nfs3.NullRes(),
)  # fmt: skip
_method(
    _P.MOUNT_EXPORT, "Export", mount_pb.ExportRequest, mount_pb.ExportResponse,
    _no_args, lambda m: nfs3.NullArgs(),
    _fill_export_res,
    lambda m: mount3.ExportRes(tuple(mount3.ExportEntry(e.directory, tuple(e.groups)) for e in m.entries)),
)  # fmt: skip

_null(_P.NFSACL_NULL, nfsacl_pb.NfsAclNullRequest, nfsacl_pb.NfsAclNullResponse)
_method(
    _P.NFSACL_GETACL, "Getacl", nfsacl_pb.GetaclRequest, nfsacl_pb.GetaclResponse,
    _fill_getacl, lambda m: nfsacl3.GetaclArgs(_handle(m.object), nfsacl3.AclMask(m.mask)),
    _fill_getacl_res, _read_getacl_res,
)  # fmt: skip

_null(_P.NLM_NULL, nlm_pb.NlmNullRequest, nlm_pb.NlmNullResponse)
_method(
    _P.NLM_TEST, "Test", nlm_pb.TestRequest, nlm_pb.TestResponse,
    _fill_test, lambda m: nlm4.LockArgs(_lock(m.lock), m.exclusive),
    _fill_test_res, _read_test_res,
)  # fmt: skip
_method(
    _P.NLM_LOCK, "Lock", nlm_pb.LockRequest, nlm_pb.LockResponse,
    _fill_lock, lambda m: nlm4.LockArgs(_lock(m.lock), m.exclusive, m.block, m.reclaim),
    _fill_nlm_res, lambda m: nlm4.NlmRes(_NLMSTAT[m.status]),
)  # fmt: skip
_method(
    _P.NLM_CANCEL, "Cancel", nlm_pb.CancelRequest, nlm_pb.CancelResponse,
    _fill_unlock, lambda m: nlm4.UnlockArgs(_lock(m.lock)),
    _fill_nlm_res, lambda m: nlm4.NlmRes(_NLMSTAT[m.status]),
)  # fmt: skip
_method(
    _P.NLM_UNLOCK, "Unlock", nlm_pb.UnlockRequest, nlm_pb.UnlockResponse,
    _fill_unlock, lambda m: nlm4.UnlockArgs(_lock(m.lock)),
    _fill_nlm_res, lambda m: nlm4.NlmRes(_NLMSTAT[m.status]),
)  # fmt: skip
_method(
    _P.NLM_GRANTED, "Granted", nlm_pb.GrantedRequest, nlm_pb.GrantedResponse,
    _fill_granted, lambda m: nlm4.GrantedArgs(m.wait_ms),
    _fill_granted_res, lambda m: nlm4.GrantedRes(tuple(_lock(lock) for lock in m.locks)),
)  # fmt: skip
