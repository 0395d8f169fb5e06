"""Plain types and protobuf messages are the same thing: there, back, and byte for byte what protobuf writes."""

from __future__ import annotations

import contextlib
import dataclasses
import typing
from enum import Enum, IntFlag
from typing import Any

import pytest
from google.protobuf.message import DecodeError, Message
from hypothesis import given, settings
from hypothesis import strategies as st

from freepage_proto import bulk, mount3, nfs3, nfsacl3, nlm4, protobuf_only
from freepage_proto.convert import METHODS, Method, readwrite, split_read
from freepage_proto.rpc import AuthSys, CallHeader, Procedure, RpcGarbageArgs
from freepage_proto.v1 import mount_pb2, nfs_pb2, nfsacl_pb2, nlm_pb2

P = Procedure
TYPES: dict[Procedure, tuple[type, type]] = {
    P.NULL: (nfs3.NullArgs, nfs3.NullRes),
    P.GETATTR: (nfs3.GetattrArgs, nfs3.GetattrRes),
    P.SETATTR: (nfs3.SetattrArgs, nfs3.SetattrRes),
    P.LOOKUP: (nfs3.LookupArgs, nfs3.LookupRes),
    P.ACCESS: (nfs3.AccessArgs, nfs3.AccessRes),
    P.READLINK: (nfs3.ReadlinkArgs, nfs3.ReadlinkRes),
    P.READ: (nfs3.ReadArgs, nfs3.ReadRes),
    P.WRITE: (nfs3.WriteArgs, nfs3.WriteRes),
    P.CREATE: (nfs3.CreateArgs, nfs3.CreateRes),
    P.MKDIR: (nfs3.MkdirArgs, nfs3.CreateRes),
    P.SYMLINK: (nfs3.SymlinkArgs, nfs3.CreateRes),
    P.MKNOD: (nfs3.MknodArgs, nfs3.CreateRes),
    P.REMOVE: (nfs3.RemoveArgs, nfs3.RemoveRes),
    P.RMDIR: (nfs3.RemoveArgs, nfs3.RemoveRes),
    P.RENAME: (nfs3.RenameArgs, nfs3.RenameRes),
    P.LINK: (nfs3.LinkArgs, nfs3.LinkRes),
    P.READDIR: (nfs3.ReaddirArgs, nfs3.ReaddirRes),
    P.READDIRPLUS: (nfs3.ReaddirplusArgs, nfs3.ReaddirRes),
    P.FSSTAT: (nfs3.FsstatArgs, nfs3.FsstatRes),
    P.FSINFO: (nfs3.FsinfoArgs, nfs3.FsinfoRes),
    P.PATHCONF: (nfs3.PathconfArgs, nfs3.PathconfRes),
    P.COMMIT: (nfs3.CommitArgs, nfs3.CommitRes),
    P.MOUNT_NULL: (nfs3.NullArgs, nfs3.NullRes),
    P.MOUNT_MNT: (mount3.MntArgs, mount3.MntRes),
    P.MOUNT_DUMP: (nfs3.NullArgs, mount3.DumpRes),
    P.MOUNT_UMNT: (mount3.UmntArgs, nfs3.NullRes),
    P.MOUNT_EXPORT: (nfs3.NullArgs, mount3.ExportRes),
    P.NFSACL_NULL: (nfs3.NullArgs, nfs3.NullRes),
    P.NFSACL_GETACL: (nfsacl3.GetaclArgs, nfsacl3.GetaclRes),
    P.NLM_NULL: (nfs3.NullArgs, nfs3.NullRes),
    P.NLM_TEST: (nlm4.LockArgs, nlm4.NlmRes),
    P.NLM_LOCK: (nlm4.LockArgs, nlm4.NlmRes),
    P.NLM_CANCEL: (nlm4.UnlockArgs, nlm4.NlmRes),
    P.NLM_UNLOCK: (nlm4.UnlockArgs, nlm4.NlmRes),
    P.NLM_GRANTED: (nlm4.GrantedArgs, nlm4.GrantedRes),
}
HANDLES = {"object", "dir", "file", "symlink", "root", "from_dir", "to_dir", "fhandle"}
WIDE = {"size", "used", "fsid", "fileid", "offset", "cookie", "length", "maxfilesize", "boot_instance"}
WIDE |= {"tbytes", "fbytes", "abytes", "tfiles", "ffiles", "afiles"}

u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
time_ns = st.integers(0, (2**32 - 1) * 10**9 + 999_999_999)
text = st.text(st.characters(codec="utf-8"), max_size=12)


def value(name: str, hint: Any, owner: type) -> st.SearchStrategy[Any]:
    """Any value that the field `name` of type `hint` may have."""
    arguments = [a for a in typing.get_args(hint) if a is not type(None)]
    if type(None) in typing.get_args(hint):
        return st.none() if arguments[0] is nfs3.Holder else st.none() | value(name, arguments[0], owner)
    if name == "data":
        return st.binary(max_size=300) | st.binary(max_size=300).map(lambda b: memoryview(b))
    if typing.get_origin(hint) is tuple:
        if arguments[-1] is Ellipsis:
            return st.lists(value(name, arguments[0], owner), max_size=3).map(tuple)
        return st.tuples(*(value(name, a, owner) for a in arguments))
    if dataclasses.is_dataclass(hint):
        return plain(typing.cast(type, hint))
    if isinstance(hint, type) and issubclass(hint, IntFlag):
        return st.sampled_from([hint(0), *hint, hint(sum(hint))])
    if isinstance(hint, type) and issubclass(hint, Enum):
        return st.sampled_from(hint)
    if hint is bool:
        return st.booleans()
    if hint is bytes:
        if name in HANDLES:
            return st.binary(max_size=nfs3.NFS3_FHSIZE)
        return st.sampled_from([b"", b"12345678", b"\0" * 8]) if "verf" in name else st.binary(max_size=40)
    if hint is str:
        return text
    assert hint is int, (name, hint)
    if name.endswith("_ns"):
        return time_ns | st.just(nfs3.SET_TO_SERVER_TIME) if owner is nfs3.Sattr3 else time_ns
    return u64 if name in WIDE else u32


def plain(type_: type) -> st.SearchStrategy[Any]:
    """Any value of a plain type."""
    hints = typing.get_type_hints(type_)
    made = st.builds(type_, **{name: value(name, hint, type_) for name, hint in hints.items()})
    if "data" in hints:
        return made.map(lambda v: dataclasses.replace(v, count=len(v.data)))
    return made


headers = plain(CallHeader)
some = settings(max_examples=25)  # for each of 34 procedures
HEADER = CallHeader("a", 7, 9, AuthSys(1, 2, (3, 4), "a.example"))


def message_types(method: Method) -> tuple[type[Message], type[Message]]:
    """protobuf's own classes for the request and the response of `method`."""
    program, _, service = method.service.rpartition(".")
    assert program == "freepage.v1"
    module = {"Nfs": nfs_pb2, "Mount": mount_pb2, "NfsAcl": nfsacl_pb2, "Nlm": nlm_pb2}[service]
    descriptor = module.DESCRIPTOR.services_by_name[service].methods_by_name[method.name]
    return getattr(module, descriptor.input_type.name), getattr(module, descriptor.output_type.name)


def as_sent(procedure: Procedure, args: Any) -> Any:
    """TEST has no block and no reclaim on the wire."""
    if procedure is P.NLM_TEST and isinstance(args, nlm4.LockArgs):
        return dataclasses.replace(args, block=False, reclaim=False)
    return args


def as_answered(procedure: Procedure, result: Any) -> Any:
    """Only TEST says who holds the lock; READDIR sends neither attributes nor handles, but would carry them."""
    if isinstance(result, nlm4.NlmRes) and procedure is not P.NLM_TEST:
        return nlm4.NlmRes(result.status)
    return result


def test_every_procedure_has_a_method() -> None:
    assert list(METHODS) == list(Procedure)
    assert METHODS[P.READ].path == "/freepage.v1.Nfs/Read"
    assert len({method.path for method in METHODS.values()}) == len(METHODS)


@pytest.mark.parametrize("procedure", Procedure)
def test_calls_survive_and_are_protobufs_bytes(procedure: Procedure) -> None:
    method = METHODS[procedure]
    request, _ = message_types(method)

    @some
    @given(headers, plain(TYPES[procedure][0]))
    def check(header: CallHeader, args: Any) -> None:
        encoded = method.encode_call(header, args)
        assert type(encoded) is bytes
        assert request.FromString(encoded).SerializeToString(deterministic=True) == encoded
        assert method.decode_call(encoded) == (header, as_sent(procedure, args))

    check()


@pytest.mark.parametrize("procedure", Procedure)
def test_replies_survive_and_are_protobufs_bytes(procedure: Procedure) -> None:
    method = METHODS[procedure]
    _, response = message_types(method)

    @some
    @given(plain(TYPES[procedure][1]))
    def check(result: Any) -> None:
        encoded = method.encode_reply(result)
        assert type(encoded) is bytes
        assert response.FromString(encoded).SerializeToString(deterministic=True) == encoded
        assert method.decode_reply(encoded) == as_answered(procedure, result)

    check()


@given(headers, plain(nfs3.WriteArgs))
def test_the_data_of_a_write_are_protobufs_bytes(header: CallHeader, args: nfs3.WriteArgs) -> None:
    encoded = METHODS[P.WRITE].encode_call(header, args)
    assert nfs_pb2.WriteRequest.FromString(encoded).SerializeToString(deterministic=True) == encoded
    assert METHODS[P.WRITE].decode_call(encoded) == (header, args)


@given(plain(nfs3.ReadRes))
def test_the_data_of_a_read_are_protobufs_bytes(result: nfs3.ReadRes) -> None:
    encoded = METHODS[P.READ].encode_reply(result)
    assert nfs_pb2.ReadResponse.FromString(encoded).SerializeToString(deterministic=True) == encoded
    assert METHODS[P.READ].decode_reply(encoded) == result


@given(headers, plain(nfs3.WriteArgs), st.binary(max_size=5))
def test_a_write_in_another_legal_order_is_understood(header: CallHeader, args: nfs3.WriteArgs, data: bytes) -> None:
    encoded = METHODS[P.WRITE].encode_call(header, args)
    head, sent = bulk.split_last_bytes(encoded, nfs_pb2.WriteRequest.DATA_FIELD_NUMBER) or (b"", b"")
    data_first = b"".join(bulk.bytes_field(nfs_pb2.WriteRequest.DATA_FIELD_NUMBER, sent)) + head
    assert METHODS[P.WRITE].decode_call(data_first) == (header, args)
    unknown_field = b"".join(bulk.bytes_field(15, data)) + b"\xf8\x07\x01"  # fields 15 and 127
    assert METHODS[P.WRITE].decode_call(unknown_field + encoded) == (header, args)
    assert METHODS[P.WRITE].decode_call(encoded + unknown_field) == (header, args)


@given(headers, plain(nfs3.LookupArgs))
def test_a_header_written_in_pieces_is_understood(header: CallHeader, args: nfs3.LookupArgs) -> None:
    """protobuf merges a message field that comes twice; ours is written once, first."""
    encoded = METHODS[P.LOOKUP].encode_call(header, args)
    again = nfs_pb2.LookupRequest()
    again.header.client_id = "other"
    assert METHODS[P.LOOKUP].decode_call(again.SerializeToString() + encoded)[0].xid == header.xid
    own = dataclasses.replace(header, client_id="other")
    assert METHODS[P.LOOKUP].decode_call(encoded + again.SerializeToString()) == (own, args)


def test_data_are_not_copied_when_a_reply_is_read() -> None:
    data = bytes(range(256)) * 4096
    encoded = METHODS[P.READ].encode_reply(nfs3.ReadRes(nfs3.NfsStat3.OK, None, len(data), True, data))
    result = METHODS[P.READ].decode_reply(encoded)
    assert isinstance(result.data, memoryview)
    assert result.data.obj is encoded
    assert result.data == data


@pytest.mark.parametrize("procedure", Procedure)
def test_what_is_no_message_is_garbage(procedure: Procedure) -> None:
    method = METHODS[procedure]

    @some
    @given(st.binary(max_size=80))
    def noise(buffer: bytes) -> None:
        for decode in (method.decode_call, method.decode_reply):
            try:
                decode(buffer)
            except RpcGarbageArgs as error:
                assert str(error)

    noise()


@given(plain(nfs3.WriteArgs), st.data())
def test_a_torn_call_is_garbage_or_another_call(args: nfs3.WriteArgs, data: st.DataObject) -> None:
    encoded = METHODS[P.WRITE].encode_call(HEADER, args)
    cut = encoded[: data.draw(st.integers(0, len(encoded)))]
    with contextlib.suppress(RpcGarbageArgs):
        METHODS[P.WRITE].decode_call(cut)


@pytest.mark.parametrize(
    ("procedure", "args", "complaint"),
    [
        (P.GETATTR, nfs3.GetattrArgs(b"x" * 65), "65 bytes"),
        (P.READDIR, nfs3.ReaddirArgs(b"x", 0, b"123", 99), "verifier of 3 bytes"),
        (P.WRITE, nfs3.WriteArgs(b"x", 0, 5, nfs3.StableHow.UNSTABLE, b"1234"), "says 5 bytes and brings 4"),
    ],
)
def test_values_the_protocol_has_no_room_for_are_garbage(procedure: Procedure, args: object, complaint: str) -> None:
    with pytest.raises(RpcGarbageArgs, match=complaint):
        METHODS[procedure].decode_call(METHODS[procedure].encode_call(HEADER, args))


def test_a_call_without_a_header_or_with_too_many_groups_is_garbage() -> None:
    method = METHODS[P.GETATTR]
    with pytest.raises(RpcGarbageArgs, match="without a call header"):
        method.decode_call(nfs_pb2.GetattrRequest(object=b"x").SerializeToString())
    crowd = dataclasses.replace(HEADER, cred=AuthSys(0, 0, tuple(range(17))))
    with pytest.raises(RpcGarbageArgs, match="17 supplementary groups"):
        method.decode_call(method.encode_call(crowd, nfs3.GetattrArgs(b"x")))
    nameless = dataclasses.replace(HEADER, cred=AuthSys(machine_name="n" * 256))
    with pytest.raises(RpcGarbageArgs, match="machine name"):
        method.decode_call(method.encode_call(nameless, nfs3.GetattrArgs(b"x")))


def test_an_unknown_enumerator_is_garbage() -> None:
    with pytest.raises(RpcGarbageArgs, match="77"):
        METHODS[P.GETATTR].decode_reply(nfs_pb2.GetattrResponse(status=77).SerializeToString())  # type: ignore[arg-type]


@given(u64)
def test_varints_are_protobufs(number: int) -> None:
    encoded = nfs_pb2.ReadRequest(offset=number).SerializeToString()
    assert encoded == (b"\x18" + bulk.varint(number) if number else b"")
    assert bulk.read_varint(bulk.varint(number) + b"rest", 0) == (number, len(bulk.varint(number)))


# --- by hand --------------------------------------------------------------------------------------------------------


@some
@given(headers, plain(nfs3.ReadArgs))
def test_a_read_is_understood_by_hand_and_as_protobuf_understands_it(header: CallHeader, args: nfs3.ReadArgs) -> None:
    request = METHODS[P.READ].encode_call(header, args)
    if header.xid and args.file and (args.offset or args.count) and request[1] < 0x80:
        assert readwrite._decode_range(request) == (header, args.file, args.offset, args.count, len(request))
    assert readwrite.decode_read(request) == (header, args)
    assert readwrite._decode_read_any(request) == (header, args)


@some
@given(headers, plain(nfs3.WriteArgs))
def test_a_write_is_understood_by_hand_and_as_protobuf_understands_it(header: CallHeader, args: nfs3.WriteArgs) -> None:
    request = METHODS[P.WRITE].encode_call(header, args)
    by_hand = readwrite._decode_write_ours(request)
    if header.xid and args.file and args.count and request[1] < 0x80:
        assert by_hand == (header, args)
    else:
        assert by_hand in (None, (header, args))
    assert readwrite._decode_write_any(request) == (header, args)


CALLS = [
    (P.READ, readwrite.decode_read, readwrite._decode_read_any),
    (P.WRITE, readwrite.decode_write, readwrite._decode_write_any),
]


@pytest.mark.parametrize(("procedure", "decode", "decode_any"), CALLS, ids=["READ", "WRITE"])
@some
@given(st.data())
def test_a_call_in_another_order_or_torn_is_what_protobuf_says(
    procedure: Procedure, decode: Any, decode_any: Any, data: st.DataObject
) -> None:
    args = data.draw(plain(TYPES[procedure][0]))
    request = METHODS[procedure].encode_call(HEADER, args)
    number = data.draw(st.integers(0, len(request) - 1))
    torn = request[:number] + data.draw(st.binary(max_size=3)) + request[number + data.draw(st.integers(0, 2)) :]

    def outcome(decode: Any) -> Any:
        try:
            return decode(torn)
        except (RpcGarbageArgs, ValueError, KeyError, DecodeError) as error:
            assert isinstance(error, RpcGarbageArgs | ValueError | KeyError | DecodeError)
            return "no message"

    assert outcome(decode) == outcome(decode_any)


def test_attributes_are_encoded_once_for_each_object_and_never_mixed_up() -> None:
    times = 1_700_000_000_000_000_001
    files = [
        nfs3.Fattr3(nfs3.FType3.REG, 0o644, 1, 0, 0, size, size, 1, size, times, times, times) for size in range(600)
    ]
    for _ in range(2):
        for attributes in files:
            result = nfs3.ReadRes(nfs3.NfsStat3.OK, attributes, 1, False, b"x")
            assert readwrite.encode_read_res(result) == protobuf_only.encode_read_res(result)


@some
@given(headers, plain(nfs3.ReadRes), plain(nfs3.WriteArgs))
def test_what_speed_is_measured_against_says_the_same(
    header: CallHeader, result: nfs3.ReadRes, args: nfs3.WriteArgs
) -> None:
    reply = METHODS[P.READ].encode_reply(result)
    assert protobuf_only.encode_read_res(result) == reply
    assert protobuf_only.decode_read_res(reply) == METHODS[P.READ].decode_reply(reply)
    call = METHODS[P.WRITE].encode_call(header, args)
    assert protobuf_only.encode_write(header, args) == call
    assert protobuf_only.decode_write(call) == METHODS[P.WRITE].decode_call(call)


@given(plain(nfs3.ReadRes), plain(nfs3.ReadRes), st.binary(max_size=200))
def test_data_kept_in_a_message_are_sent_in_it_if_it_is_the_one(
    result: nfs3.ReadRes, other: nfs3.ReadRes, head: bytes
) -> None:
    result, data = dataclasses.replace(result, status=nfs3.NfsStat3.OK), bytes(result.data)
    encode = METHODS[P.READ].encode_reply
    encoded = encode(dataclasses.replace(result, message=None))
    again = encode(dataclasses.replace(result, message=encoded))
    assert again == encoded
    if data:
        assert again is encoded
    elsewhere = encode(dataclasses.replace(other, data=data, count=len(data), message=None))
    longer = encoded[: len(encoded) - len(data)] + b"\x01" + data
    for kept in (elsewhere, head + data, encoded[1:], b"\x00" + encoded[1:], longer):
        assert encode(dataclasses.replace(result, message=kept)) == encoded


@given(headers, plain(nfs3.ReadArgs), u32, u64, u32)
def test_who_reads_what_is_told_without_decoding_it(
    header: CallHeader, args: nfs3.ReadArgs, xid: int, offset: int, count: int
) -> None:
    encode = METHODS[P.READ].encode_call
    first = split_read(encode(header, args))
    second = split_read(encode(dataclasses.replace(header, xid=xid), nfs3.ReadArgs(args.file, offset, count)))
    if first is None or second is None:
        nothing = not args.count or not count
        assert nothing or not header.xid or not xid or not args.file or len(encode(header, args)) > 128, (
            "not a client's"
        )
        return
    assert first[1:] == (args.offset, args.count) and second[1:] == (offset, count)
    assert first[0] == second[0]
    for changed in (
        (dataclasses.replace(header, boot_instance=header.boot_instance ^ 1), args.file),
        (dataclasses.replace(header, cred=dataclasses.replace(header.cred, uid=header.cred.uid ^ 1)), args.file),
        (header, args.file[:-1] + bytes((args.file[-1] ^ 1,))),
    ):
        other = split_read(encode(changed[0], nfs3.ReadArgs(changed[1], offset, count)))
        assert other is None or other[0] != first[0]


@given(headers, plain(nfs3.ReadArgs), st.lists(st.tuples(st.integers(0, 250), st.integers(0, 255)), max_size=3))
def test_what_is_told_of_a_damaged_read_is_what_decoding_it_gives(
    header: CallHeader, args: nfs3.ReadArgs, damage: list[tuple[int, int]]
) -> None:
    request = bytearray(METHODS[P.READ].encode_call(header, args))
    for at, byte in damage:
        if at < len(request):
            request[at] = byte
    split = split_read(bytes(request))
    if split is None:
        return
    try:
        decoded = METHODS[P.READ].decode_call(bytes(request))[1]
    except RpcGarbageArgs:
        return  # and so whoever does not know the caller yet will refuse it
    assert split[1:] == (decoded.offset, decoded.count)
