"""What many messages share: enumerations, handles, attributes, weak cache consistency, attributes to set.

What cannot be a message of this protocol raises RpcGarbageArgs, or KeyError for an unknown enumerator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from freepage_proto.nfs3 import (
    NFS3_COOKIEVERFSIZE,
    NFS3_FHSIZE,
    NO_SATTR,
    NO_WCC,
    SET_TO_SERVER_TIME,
    Fattr3,
    FType3,
    NfsStat3,
    Sattr3,
    StableHow,
    WccAttr,
    WccData,
)
from freepage_proto.rpc import RpcGarbageArgs
from freepage_proto.v1 import common_pb2 as common_pb

FTYPE = {int(value): value for value in FType3}
NFSSTAT = {int(value): value for value in NfsStat3}
STABLE = {int(value): value for value in StableHow}


def handle(handle: bytes) -> bytes:
    if len(handle) > NFS3_FHSIZE:
        raise RpcGarbageArgs(f"a file handle of {len(handle)} bytes; the protocol has room for {NFS3_FHSIZE}")
    return handle


def optional_handle(message: Any, field: str) -> bytes | None:
    return handle(getattr(message, field)) if message.HasField(field) else None


def verifier(verifier: bytes) -> bytes:
    if len(verifier) not in (0, NFS3_COOKIEVERFSIZE):
        raise RpcGarbageArgs(f"a verifier of {len(verifier)} bytes instead of {NFS3_COOKIEVERFSIZE}")
    return verifier


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
        FTYPE[a.type],
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


def no_args(message: Any, args: object) -> None:
    pass


def fields(*names: str) -> Callable[[Any, Any], None]:
    """A fill function that copies attributes which the plain type and the message call the same."""

    def fill(message: Any, args: Any) -> None:
        for name in names:
            setattr(message, name, getattr(args, name))

    return fill
