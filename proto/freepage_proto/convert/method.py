"""One procedure as a gRPC method, and how most of them are made of two messages and four functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message

from freepage_proto import nfs3
from freepage_proto.convert.common import no_args
from freepage_proto.convert.header import encode_header, parse, parse_request
from freepage_proto.rpc import CallHeader, Procedure, Program, RpcGarbageArgs

T = TypeVar("T")


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


_SERVICES = {Program.NFS: "Nfs", Program.MOUNT: "Mount", Program.NFSACL: "NfsAcl", Program.NLM: "Nlm"}


def service_of(procedure: Procedure) -> str:
    return f"freepage.v1.{_SERVICES[procedure.program]}"


def guarded(decode: Callable[[bytes], T]) -> Callable[[bytes], T]:
    """What a decoder trips over in a message that is not ours becomes RpcGarbageArgs."""

    def careful(buffer: bytes) -> T:
        try:
            return decode(buffer)
        except KeyError as error:  # the only dictionaries here are the enumerations
            raise RpcGarbageArgs(f"{error.args[0]!r} is not a value of the protocol's enumeration") from None
        except (ValueError, DecodeError) as error:
            raise RpcGarbageArgs(str(error)) from None

    return careful


def method(
    procedure: Procedure,
    name: str,
    request: type[Message],
    response: type[Message],
    fill_call: Callable[[Any, Any], None],
    read_call: Callable[[Any], Any],
    fill_reply: Callable[[Any, Any], None],
    read_reply: Callable[[Any], Any],
) -> Method:
    """The method whose messages protobuf encodes: `fill` puts a plain type into a message, `read` takes it out."""

    def encode_call(header: CallHeader, args: Any) -> bytes:
        message = request()
        fill_call(message, args)
        return encode_header(header) + message.SerializeToString()

    def decode_call(buffer: bytes) -> tuple[CallHeader, Any]:
        header, message = parse_request(request, buffer)
        return header, read_call(message)

    def encode_reply(result: Any) -> bytes:
        message = response()
        fill_reply(message, result)
        return message.SerializeToString()

    def decode_reply(buffer: bytes) -> Any:
        return read_reply(parse(response, buffer))

    return Method(
        procedure,
        service_of(procedure),
        name,
        encode_call,
        guarded(decode_call),
        encode_reply,
        guarded(decode_reply),
    )


def null(procedure: Procedure, request: type[Message], response: type[Message]) -> Method:
    return method(
        procedure, "Null", request, response, no_args, lambda m: nfs3.NullArgs(), no_args, lambda m: nfs3.NullRes()
    )
