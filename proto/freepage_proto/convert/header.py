"""The call header, field 1 of every request.

Of the header only the xid differs from one call of a client and credential to the next. So the rest of it is encoded
and decoded once and remembered.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from freepage_proto import bulk
from freepage_proto.rpc import (
    AUTH_SYS_MAX_GIDS,
    AUTH_SYS_MAX_MACHINE_NAME,
    MAX_CLIENT_ID,
    AuthSys,
    CallHeader,
    RpcGarbageArgs,
)
from freepage_proto.v1 import common_pb2 as common_pb

M = TypeVar("M", bound=Message)

MAX_HEADER = 2048
"""Bytes of the longest header that is remembered once decoded; our own are shorter than half of that."""


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
def decode_caller(rest: bytes) -> tuple[str, int, AuthSys, int]:
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
    client_id, boot_instance, cred, other_xid = decode_caller(request[begin:end])
    if other_xid or xid >> 32:
        raise bulk.Malformed("the xid is not where we write it")
    return CallHeader(client_id, boot_instance, xid, cred), request[end:]


def parse(type_: type[M], buffer: bytes) -> M:
    try:
        return type_.FromString(buffer)
    except DecodeError as error:
        raise RpcGarbageArgs(f"not a {type_.DESCRIPTOR.name}: {error}") from None


def parse_request(type_: type[M], request: bytes) -> tuple[CallHeader, M]:
    """A request's header and message, whatever order its fields are in; the message's own header may be empty."""
    try:
        header, body = _split_header(request)
        message = parse(type_, body)
        if not message.HasField("header"):
            return header, message
    except (bulk.Malformed, DecodeError):
        pass  # legal in another order, or garbage: protobuf decides
    message = parse(type_, request)
    if not message.HasField("header"):
        raise RpcGarbageArgs(f"a {type_.DESCRIPTOR.name} without a call header")
    whole = message.header  # type: ignore[attr-defined]  # every request has one
    return CallHeader(_client_id(whole), whole.boot_instance, whole.xid, cred(whole.cred)), message
