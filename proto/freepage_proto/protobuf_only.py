"""READ's reply and WRITE's call through protobuf's own code alone: what ``bulk`` and ``convert`` are measured against.

Nothing sends these. A test compares their bytes with ours, and ``freepage bench`` their speed.
"""

from __future__ import annotations

from freepage_proto import nfs3
from freepage_proto.convert import cred, fattr, put_cred, put_fattr
from freepage_proto.nfs3 import NfsStat3, StableHow
from freepage_proto.rpc import CallHeader
from freepage_proto.v1 import nfs_pb2


def encode_read_res(result: nfs3.ReadRes) -> bytes:
    message = nfs_pb2.ReadResponse(
        status=result.status.value,  # type: ignore[arg-type]  # the enums are the same numbers
        count=result.count,
        eof=result.eof,
        data=bytes(result.data),
    )
    put_fattr(message.attributes, result.attributes)
    return message.SerializeToString()


def decode_read_res(response: bytes) -> nfs3.ReadRes:
    m = nfs_pb2.ReadResponse.FromString(response)
    return nfs3.ReadRes(NfsStat3(m.status), fattr(m), m.count, m.eof, m.data)


def encode_write(header: CallHeader, args: nfs3.WriteArgs) -> bytes:
    message = nfs_pb2.WriteRequest(
        file=args.file,
        offset=args.offset,
        count=args.count,
        stable=args.stable.value,  # type: ignore[arg-type]
        data=bytes(args.data),
    )
    message.header.client_id = header.client_id
    message.header.boot_instance = header.boot_instance
    message.header.xid = header.xid
    put_cred(message.header.cred, header.cred)
    return message.SerializeToString()


def decode_write(request: bytes) -> tuple[CallHeader, nfs3.WriteArgs]:
    m = nfs_pb2.WriteRequest.FromString(request)
    header = CallHeader(m.header.client_id, m.header.boot_instance, m.header.xid, cred(m.header.cred))
    return header, nfs3.WriteArgs(m.file, m.offset, m.count, StableHow(m.stable), m.data)
