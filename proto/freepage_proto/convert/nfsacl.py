"""The procedures of NFSACL."""

from __future__ import annotations

from typing import Any

from freepage_proto import nfsacl3
from freepage_proto.convert.common import NFSSTAT, fattr, handle, put_fattr
from freepage_proto.convert.method import method, null
from freepage_proto.rpc import Procedure
from freepage_proto.v1 import nfsacl_pb2 as nfsacl_pb


def _fill_getacl(m: nfsacl_pb.GetaclRequest, a: nfsacl3.GetaclArgs) -> None:
    m.object, m.mask = a.object, int(a.mask)


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
    return nfsacl3.GetaclRes(NFSSTAT[m.status], fattr(m), mask, _acl(m.access_acl), _acl(m.default_acl))


_P = Procedure

NFSACL = (
    null(_P.NFSACL_NULL, nfsacl_pb.NfsAclNullRequest, nfsacl_pb.NfsAclNullResponse),
    method(
        _P.NFSACL_GETACL, "Getacl", nfsacl_pb.GetaclRequest, nfsacl_pb.GetaclResponse,
        _fill_getacl, lambda m: nfsacl3.GetaclArgs(handle(m.object), nfsacl3.AclMask(m.mask)),
        _fill_getacl_res, _read_getacl_res,
    ),
)  # fmt: skip
