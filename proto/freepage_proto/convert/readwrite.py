"""READ and WRITE, whose data travel by hand (``bulk``), and so do the heads of what is sent most.

READ's and WRITE's calls have their own code on both sides, heads included: a cached READ is what a server does most,
and protobuf's parser, cold when it is come back to, is a fifth of what the server adds to gRPC.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias

from google.protobuf.message import DecodeError

from freepage_proto import bulk, nfs3
from freepage_proto.convert.common import NFSSTAT, STABLE, fattr, handle, put_fattr, put_wcc, verifier, wcc
from freepage_proto.convert.header import decode_caller, encode_header, parse, parse_request
from freepage_proto.convert.method import Method, guarded, service_of
from freepage_proto.message import Remembered
from freepage_proto.nfs3 import Fattr3, NfsStat3, StableHow
from freepage_proto.rpc import AuthSys, CallHeader, Procedure, RpcGarbageArgs
from freepage_proto.v1 import common_pb2 as common_pb
from freepage_proto.v1 import nfs_pb2 as nfs_pb

_READ_DATA = nfs_pb.ReadResponse.DATA_FIELD_NUMBER
_WRITE_DATA = nfs_pb.WriteRequest.DATA_FIELD_NUMBER


@lru_cache(maxsize=4096)
def _encode_file(file: bytes) -> bytes:
    return b"\x12" + bulk.varint(len(file)) + file if file else b""


@lru_cache(maxsize=256)
def _encode_count(count: int) -> bytes:
    return b"\x20" + bulk.varint(count) if count else b""


def _encode_range(header: CallHeader, args: nfs3.ReadArgs | nfs3.WriteArgs) -> bytes:
    """The fields with which a ReadRequest and a WriteRequest begin: header, file, offset, count."""
    offset = b"\x18" + bulk.varint(args.offset) if args.offset else b""
    return encode_header(header) + _encode_file(args.file) + offset + _encode_count(args.count)


def encode_read(header: CallHeader, args: nfs3.ReadArgs) -> bytes:
    """A ReadRequest, exactly as protobuf writes it."""
    return _encode_range(header, args)


User: TypeAlias = tuple[bytes, int]
"""Caller and file as a READ or WRITE begins with them, but for the xid, and how many bytes are the caller's."""


@lru_cache(maxsize=4096)
def _decode_user(caller_and_file: bytes, caller_size: int) -> tuple[str, int, AuthSys, bytes, int]:
    client_id, boot_instance, cred, xid = decode_caller(caller_and_file[:caller_size])
    return client_id, boot_instance, cred, handle(caller_and_file[caller_size + 2 :]), xid


def decode_read(request: bytes) -> tuple[CallHeader, nfs3.ReadArgs]:
    """A ReadRequest, in whatever order its fields are."""
    parts = _decode_range(request)
    if parts is None or parts[4] != len(request):
        return _decode_read_any(request)
    header, file, offset, count, _ = parts
    return header, nfs3.ReadArgs(file, offset, count)


def split_read(request: bytes) -> tuple[User, int, int] | None:
    """Who reads which file, still encoded, for who has met him before; offset and count. The xid is left out.

    None for a ReadRequest that is not as ``encode_read`` writes it: `decode_read` reads or refuses it.
    """
    parts = _split_range(request)
    return None if parts is None or parts[4] != len(request) else (parts[0], parts[2], parts[3])


def _split_range(request: bytes) -> tuple[User, int, int, int, int] | None:
    """User, xid, offset, count as ``_encode_range`` writes them, and what is behind them; None: not so written."""
    try:
        end = 2 + request[1]
        if request[0] != 0x0A or end >= 0x82 or request[2] != 0x08:
            return None
        xid, begin = bulk.read_varint(request, 3)
        behind = end + 2 + request[end + 1]
        if begin > end or request[end] != 0x12 or behind - end >= 0x82:
            return None
        user = request[begin:behind], end - begin
        offset = count = 0
        if request[behind] == 0x18:
            offset, behind = bulk.read_varint(request, behind + 1)
        if request[behind] == 0x20:
            count, behind = bulk.read_varint(request, behind + 1)
    except (IndexError, ValueError):
        return None
    if xid >> 32 or offset >> 64 or count >> 32:
        return None
    return user, xid, offset, count, behind


def _decode_range(request: bytes) -> tuple[CallHeader, bytes, int, int, int] | None:
    """Header, file, offset, count as ``_encode_range`` writes them, and what is behind them; None: not so written."""
    parts = _split_range(request)
    if parts is None:
        return None
    user, xid, offset, count, behind = parts
    try:
        client_id, boot_instance, cred, file, other_xid = _decode_user(*user)
    except (IndexError, ValueError, DecodeError):
        return None
    if other_xid:
        return None
    return CallHeader(client_id, boot_instance, xid, cred), file, offset, count, behind


@guarded
def _decode_read_any(request: bytes) -> tuple[CallHeader, nfs3.ReadArgs]:
    header, m = parse_request(nfs_pb.ReadRequest, request)
    return header, nfs3.ReadArgs(handle(m.file), m.offset, m.count)


def _encode_attributes(attributes: Fattr3 | None) -> bytes:
    """The whole field 2 of a ReadResponse."""
    m = nfs_pb.ReadResponse()
    put_fattr(m.attributes, attributes)
    return m.SerializeToString()


_encoded_attributes = Remembered(_encode_attributes, 256)
"""The READs of a file that nobody changes all answer with the same object."""


@lru_cache(maxsize=256)
def _encode_counts(count: int, eof: bool, length: int) -> bytes:
    """What a ReadResponse has between its attributes and its data: most READs of a client have the same size."""
    head = b"\x18" + bulk.varint(count)
    return (head + b"\x20\x01" if eof else head) + bulk.bytes_head(_READ_DATA, length)


def encode_read_res(r: nfs3.ReadRes) -> bytes:
    """A ReadResponse; copies the data once, or not at all if the message they are kept in is this one."""
    if r.status is NfsStat3.OK and r.count:
        head = _encoded_attributes(r.attributes) + _encode_counts(r.count, r.eof, r.count)
        kept = r.message
        if kept is not None and kept.startswith(head) and len(kept) == len(head) + r.count:
            return kept
        return b"".join((head, r.data))
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
    except (IndexError, KeyError, ValueError, DecodeError):
        return None
    if count != length or position + length != len(response):
        return None
    return nfs3.ReadRes(NfsStat3.OK, attributes, count, eof, memoryview(response)[position:], response)


@guarded
def _decode_read_res(response: bytes) -> nfs3.ReadRes:
    data: nfs3.Data
    try:
        split = bulk.split_last_bytes(response, _READ_DATA)
    except bulk.Malformed as error:
        raise RpcGarbageArgs(f"not a ReadResponse: {error}") from None
    if split is None:
        m = parse(nfs_pb.ReadResponse, response)
        data = m.data
    else:
        head, data = split
        m = parse(nfs_pb.ReadResponse, head)
    if m.count != len(data):
        raise RpcGarbageArgs(f"READ says {m.count} bytes and brings {len(data)}")
    return nfs3.ReadRes(NFSSTAT[m.status], fattr(m), m.count, m.eof, data)


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
            stable = STABLE[request[behind + 1]]
            behind += 2
        if request[behind] != 0x32:
            return None
        length, behind = bulk.read_varint(request, behind + 1)
    except (IndexError, KeyError, ValueError):
        return None
    if not length or count != length or behind + length != len(request):
        return None
    return header, nfs3.WriteArgs(file, offset, count, stable, memoryview(request)[behind:])


@guarded
def _decode_write_any(request: bytes) -> tuple[CallHeader, nfs3.WriteArgs]:
    data: nfs3.Data
    try:
        split = bulk.split_last_bytes(request, _WRITE_DATA)
    except bulk.Malformed as error:
        raise RpcGarbageArgs(f"not a WriteRequest: {error}") from None
    if split is None:
        header, m = parse_request(nfs_pb.WriteRequest, request)
        data = m.data
    else:
        head, data = split
        header, m = parse_request(nfs_pb.WriteRequest, head)
    if m.count != len(data):
        raise RpcGarbageArgs(f"WRITE says {m.count} bytes and brings {len(data)}")
    return header, nfs3.WriteArgs(handle(m.file), m.offset, m.count, STABLE[m.stable], data)


def encode_write_res(r: nfs3.WriteRes) -> bytes:
    m = nfs_pb.WriteResponse(status=r.status.value, count=r.count, committed=r.committed.value, verf=r.verf)  # type: ignore[arg-type]
    put_wcc(m.wcc, r.wcc)
    return m.SerializeToString()


def decode_write_res(response: bytes) -> nfs3.WriteRes:
    m = parse(nfs_pb.WriteResponse, response)
    return nfs3.WriteRes(NFSSTAT[m.status], wcc(m, "wcc"), m.count, STABLE[m.committed], verifier(m.verf))


READ = Method(
    Procedure.READ,
    service_of(Procedure.READ),
    "Read",
    encode_read,
    decode_read,
    encode_read_res,
    decode_read_res,
)

WRITE = Method(
    Procedure.WRITE,
    service_of(Procedure.WRITE),
    "Write",
    encode_write,
    decode_write,
    encode_write_res,
    guarded(decode_write_res),
)
