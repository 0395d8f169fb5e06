"""How many bytes a call and its reply would have had as ONC RPC over TCP: what byte counters report.

freepage's messages travel as protobuf, but its byte counters say what a Linux client would have sent and received, so
that they can be compared with /proc/self/mountstats. Sizes include the RPC headers. Of a call they include the 4-byte
record mark, of a reply they do not: that is how Linux counts (net/sunrpc/xprtsock.c).

XDR (RFC 4506): every number is 4 bytes, or 8 (hyper); opaque data are padded to a multiple of 4; variable-length data
begin with a 4-byte length; an optional value begins with a 4-byte flag.

Checked against recordings of Linux 6.1: tests/unit/test_wire_xdr.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from freepage_proto.message import Remembered
from freepage_proto.nfs3 import NO_WCC, SET_TO_SERVER_TIME, CreateMode3, FType3, NfsStat3, Sattr3, WccData
from freepage_proto.nlm4 import NlmLock, NlmStat4
from freepage_proto.rpc import AuthSys, Procedure, Program

RECORD_MARK: Final = 4
"""RFC 5531 section 11: each record over TCP begins with its length."""

CALL_HEADER: Final = 24
"""xid, CALL, RPC version, program, version, procedure."""

AUTH_NONE: Final = 8
"""A flavor and a length of 0: the verifier of every call, and the credential of NULL."""

REPLY_HEADER: Final = 24
"""xid, REPLY, MSG_ACCEPTED, an empty verifier of 8 bytes, SUCCESS."""

STATUS: Final = 4
FATTR3: Final = 84
WCC_ATTR: Final = 24
NO_POST_OP_ATTR: Final = 4
POST_OP_ATTR: Final = 4 + FATTR3
NFSTIME3: Final = 8
VERIFIER: Final = 8
NLM_COOKIE: Final = 4 + 4
"""Linux's lockd sends a 4-byte cookie (fs/lockd/clntproc.c:nlmclnt_next_cookie)."""


def opaque(length: int) -> int:
    """Variable-length opaque data or a string of `length` bytes."""
    return 4 + (length + 3 & ~3)


def _auth_sys(cred: AuthSys) -> int:
    """A credential of flavor AUTH_SYS (RFC 5531 appendix A): flavor, length, stamp, machine name, uid, gid, gids."""
    return 8 + 4 + opaque(len(cred.machine_name.encode())) + 4 + 4 + 4 + 4 * len(cred.gids)


auth_sys = Remembered(_auth_sys, 4096)


def _post_op_attr(attributes: object | None) -> int:
    return NO_POST_OP_ATTR if attributes is None else POST_OP_ATTR


def _wcc(wcc: WccData) -> int:
    if wcc is NO_WCC:
        return 4 + NO_POST_OP_ATTR
    return (4 if wcc.before is None else 4 + WCC_ATTR) + _post_op_attr(wcc.after)


def _sattr(attributes: Sattr3) -> int:
    a = attributes
    size = 4 * 6 + 4 * ((a.mode is not None) + (a.uid is not None) + (a.gid is not None)) + 8 * (a.size is not None)
    for time_ns in (a.atime_ns, a.mtime_ns):
        if time_ns is not None and time_ns != SET_TO_SERVER_TIME:
            size += NFSTIME3
    return size


def _lock(lock: NlmLock) -> int:
    """nlm4_lock without the caller's name, which is the machine name of the credential."""
    return opaque(len(lock.file)) + opaque(len(lock.owner)) + 4 + 8 + 8


def _handle(field: str, more: int = 0) -> Callable[[Any], int]:
    return lambda args: opaque(len(getattr(args, field))) + more


def _dir_and_name(args: Any) -> int:
    return opaque(len(args.dir)) + opaque(len(args.name))


def _create(args: Any) -> int:
    exclusive = args.mode is CreateMode3.EXCLUSIVE
    return _dir_and_name(args) + 4 + (VERIFIER if exclusive else _sattr(args.attributes))


def _mknod(args: Any) -> int:
    size = _dir_and_name(args) + 4
    if args.type in (FType3.CHR, FType3.BLK):
        return size + _sattr(args.attributes) + 8
    if args.type in (FType3.SOCK, FType3.FIFO):
        return size + _sattr(args.attributes)
    return size


def _rename(args: Any) -> int:
    return (
        opaque(len(args.from_dir))
        + opaque(len(args.from_name))
        + opaque(len(args.to_dir))
        + opaque(len(args.to_name))
    )  # fmt: skip


_P = Procedure
_ARGS: dict[Procedure, Callable[[Any], int]] = {
    _P.GETATTR: _handle("object"),
    _P.SETATTR: lambda a: (
        opaque(len(a.object)) + _sattr(a.new_attributes) + 4 + (0 if a.guard_ctime_ns is None else NFSTIME3)
    ),
    _P.LOOKUP: _dir_and_name,
    _P.ACCESS: _handle("object", 4),
    _P.READLINK: _handle("symlink"),
    _P.READ: _handle("file", 8 + 4),
    _P.WRITE: lambda a: opaque(len(a.file)) + 8 + 4 + 4 + opaque(len(a.data)),
    _P.CREATE: _create,
    _P.MKDIR: lambda a: _dir_and_name(a) + _sattr(a.attributes),
    _P.SYMLINK: lambda a: _dir_and_name(a) + _sattr(a.attributes) + opaque(len(a.path)),
    _P.MKNOD: _mknod,
    _P.REMOVE: _dir_and_name,
    _P.RMDIR: _dir_and_name,
    _P.RENAME: _rename,
    _P.LINK: lambda a: opaque(len(a.file)) + _dir_and_name(a),
    _P.READDIR: _handle("dir", 8 + VERIFIER + 4),
    _P.READDIRPLUS: _handle("dir", 8 + VERIFIER + 4 + 4),
    _P.FSSTAT: _handle("root"),
    _P.FSINFO: _handle("root"),
    _P.PATHCONF: _handle("object"),
    _P.COMMIT: _handle("file", 8 + 4),
    _P.MOUNT_MNT: _handle("dirpath"),
    _P.MOUNT_UMNT: _handle("dirpath"),
    _P.NFSACL_GETACL: _handle("object", 4),
    _P.NLM_TEST: lambda a: NLM_COOKIE + 4 + _lock(a.lock),
    _P.NLM_LOCK: lambda a: NLM_COOKIE + 4 + 4 + _lock(a.lock) + 4 + 4,
    _P.NLM_CANCEL: lambda a: NLM_COOKIE + 4 + 4 + _lock(a.lock),
    _P.NLM_UNLOCK: lambda a: NLM_COOKIE + _lock(a.lock),
    _P.NLM_GRANTED: lambda a: 4,
}
"""Bytes of the arguments; procedures without arguments are not there."""


def call_size(procedure: Procedure, args: object, cred: AuthSys) -> int:
    """Bytes that the call would have had on the wire, record mark included.

    NULL goes out with an AUTH_NONE credential, as Linux sends it (net/sunrpc/clnt.c:rpc_ping).
    """
    if procedure.number == 0:
        return RECORD_MARK + CALL_HEADER + AUTH_NONE + AUTH_NONE
    size = RECORD_MARK + CALL_HEADER + auth_sys(cred) + AUTH_NONE
    if procedure.program is Program.NLM:
        size += opaque(len(cred.machine_name.encode()))
    measure = _ARGS.get(procedure)
    return size if measure is None else size + measure(args)


def _attributes_and(success: int) -> Callable[[Any], int]:
    """Status, post_op_attr, and `success` bytes more when the call succeeded."""
    return lambda r: STATUS + _post_op_attr(r.attributes) + (success if r.status is NfsStat3.OK else 0)


def _lookup_res(r: Any) -> int:
    if r.status is not NfsStat3.OK:
        return STATUS + _post_op_attr(r.dir_attributes)
    return STATUS + opaque(len(r.object)) + _post_op_attr(r.attributes) + _post_op_attr(r.dir_attributes)


def _readlink_res(r: Any) -> int:
    return STATUS + _post_op_attr(r.attributes) + (opaque(len(r.path)) if r.status is NfsStat3.OK else 0)


def _read_res(r: Any) -> int:
    size = STATUS + _post_op_attr(r.attributes)
    return size + 4 + 4 + opaque(len(r.data)) if r.status is NfsStat3.OK else size


def _write_res(r: Any) -> int:
    return STATUS + _wcc(r.wcc) + (4 + 4 + VERIFIER if r.status is NfsStat3.OK else 0)


def _create_res(r: Any) -> int:
    size = STATUS + _wcc(r.dir_wcc)
    if r.status is NfsStat3.OK:
        size += 4 + (0 if r.object is None else opaque(len(r.object))) + _post_op_attr(r.attributes)
    return size


def readdir_entry(name: bytes) -> int:
    """One entry of READDIR: a flag, the file number, the name, the cookie."""
    return 4 + 8 + opaque(len(name)) + 8


def readdirplus_entry(name: bytes, object: bytes | None, attributes: object | None) -> int:
    """One entry of READDIRPLUS: an entry of READDIR, its attributes and its handle, each optional."""
    return readdir_entry(name) + _post_op_attr(attributes) + 4 + (0 if object is None else opaque(len(object)))


def _readdir_res(r: Any) -> int:
    size = STATUS + _post_op_attr(r.dir_attributes)
    if r.status is NfsStat3.OK:
        size += VERIFIER + sum(readdir_entry(e.name) for e in r.entries) + 4 + 4
    return size


def _readdirplus_res(r: Any) -> int:
    size = STATUS + _post_op_attr(r.dir_attributes)
    if r.status is NfsStat3.OK:
        size += VERIFIER + sum(readdirplus_entry(e.name, e.object, e.attributes) for e in r.entries) + 4 + 4
    return size


def _mnt_res(r: Any) -> int:
    if r.fhandle is None:
        return STATUS
    return STATUS + opaque(len(r.fhandle)) + 4 + 4 * len(r.auth_flavors)


def _acl_res(r: Any) -> int:
    size = STATUS + _post_op_attr(r.attributes)
    if r.status is NfsStat3.OK:
        size += 4 + sum(4 + 4 + 12 * len(entries) for entries in (r.access_acl, r.default_acl))
    return size


def _test_res(r: Any) -> int:
    size = NLM_COOKIE + STATUS
    if r.status is NlmStat4.DENIED and r.holder is not None:
        size += 4 + 4 + opaque(len(r.holder.owner)) + 8 + 8
    return size


def _dir_wcc_res(r: Any) -> int:
    return STATUS + _wcc(r.dir_wcc)


def _nlm_res(_: Any) -> int:
    return NLM_COOKIE + STATUS


_RESULT: dict[Procedure, Callable[[Any], int]] = {
    _P.GETATTR: lambda r: STATUS + (0 if r.attributes is None else FATTR3),
    _P.SETATTR: lambda r: STATUS + _wcc(r.wcc),
    _P.LOOKUP: _lookup_res,
    _P.ACCESS: _attributes_and(4),
    _P.READLINK: _readlink_res,
    _P.READ: _read_res,
    _P.WRITE: _write_res,
    _P.CREATE: _create_res,
    _P.MKDIR: _create_res,
    _P.SYMLINK: _create_res,
    _P.MKNOD: _create_res,
    _P.REMOVE: _dir_wcc_res,
    _P.RMDIR: _dir_wcc_res,
    _P.RENAME: lambda r: STATUS + _wcc(r.from_dir_wcc) + _wcc(r.to_dir_wcc),
    _P.LINK: lambda r: STATUS + _post_op_attr(r.attributes) + _wcc(r.dir_wcc),
    _P.READDIR: _readdir_res,
    _P.READDIRPLUS: _readdirplus_res,
    _P.FSSTAT: _attributes_and(6 * 8 + 4),
    _P.FSINFO: _attributes_and(7 * 4 + 8 + NFSTIME3 + 4),
    _P.PATHCONF: _attributes_and(6 * 4),
    _P.COMMIT: lambda r: STATUS + _wcc(r.wcc) + (VERIFIER if r.status is NfsStat3.OK else 0),
    _P.MOUNT_MNT: _mnt_res,
    _P.MOUNT_DUMP: lambda r: (
        4 + sum(4 + opaque(len(e.hostname.encode())) + opaque(len(e.directory)) for e in r.entries)
    ),
    _P.MOUNT_EXPORT: lambda r: (
        4
        + sum(4 + opaque(len(e.directory)) + 4 + sum(4 + opaque(len(g.encode())) for g in e.groups) for e in r.entries)
    ),
    _P.NFSACL_GETACL: _acl_res,
    _P.NLM_TEST: _test_res,
    _P.NLM_LOCK: _nlm_res,
    _P.NLM_CANCEL: _nlm_res,
    _P.NLM_UNLOCK: _nlm_res,
    _P.NLM_GRANTED: lambda r: 4 + sum(NLM_COOKIE + 4 + _lock(lock) for lock in r.locks),
}
"""Bytes of the results; procedures without results are not there."""


def reply_size(procedure: Procedure, result: object) -> int:
    """Bytes that the reply would have had on the wire, without the record mark."""
    measure = _RESULT.get(procedure)
    return REPLY_HEADER if measure is None else REPLY_HEADER + measure(result)
