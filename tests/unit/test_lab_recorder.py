"""How the recorder writes things down."""

from __future__ import annotations

import asyncio

from freepage_lab.conform.recorder import NameBook, RecordingNetwork, io_list, named_io, ranges, run_lengths
from freepage_proto.nfs3 import (
    Fattr3,
    FType3,
    LookupArgs,
    LookupRes,
    NfsStat3,
    ReadArgs,
    ReadRes,
    StableHow,
    WriteArgs,
    WriteRes,
)
from freepage_proto.rpc import AuthSys, CallHeader, Procedure


def test_run_lengths() -> None:
    assert run_lengths(["A", "A", "B", "A"]) == ["A*2", "B", "A"]


def test_ranges() -> None:
    assert ranges([0, 1, 2, 5, 7, 8]) == [[0, 3], [5, 6], [7, 9]]
    assert ranges([]) == []


def test_io_folds_consecutive_requests_of_one_size() -> None:
    entries = [
        ("READ", "f", 0, 4096, None),
        ("READ", "f", 4096, 4096, None),
        ("READ", "f", 8192, 100, None),
        ("WRITE", "f", 0, 10, "UNSTABLE"),
        ("WRITE", "f", 10, 10, "FILE_SYNC"),
        ("COMMIT", "f", 0, 0, None),
        ("COMMIT", "f", 0, 0, None),
    ]
    assert io_list(entries) == [
        ["READ", "f", 0, 4096, None, 2],
        ["READ", "f", 8192, 100],
        ["WRITE", "f", 0, 10, "UNSTABLE"],
        ["WRITE", "f", 10, 10, "FILE_SYNC"],
        ["COMMIT", "f", 0, 0],
        ["COMMIT", "f", 0, 0],
    ]


class Server:
    """Knows one file, handle b"H", file id 7."""

    async def call(self, procedure: Procedure, header: CallHeader, args: object) -> object:
        attributes = Fattr3(FType3.REG, 0o644, 1, 0, 0, 0, 0, 1, 7, 0, 0, 0)
        match args:
            case LookupArgs():
                return LookupRes(NfsStat3.OK, b"H", attributes)
            case ReadArgs(count=count):
                return ReadRes(NfsStat3.OK, attributes, count, data=bytes(count))
        return WriteRes(NfsStat3.OK)

    async def close(self) -> None:
        pass

    def connect(self, server: str) -> Server:
        return self


def test_calls_are_noted_in_order_and_handles_learn_their_names() -> None:
    async def main() -> None:
        network = RecordingNetwork(Server())
        transport = network.connect("server")
        header = CallHeader("A", 1, 1, AuthSys())
        await transport.call(Procedure.READ, header, ReadArgs(b"X", 0, 10))
        await transport.call(Procedure.NFSACL_GETACL, header, object())
        await transport.call(Procedure.LOOKUP, header, LookupArgs(b"root", b"f"))
        for offset in (0, 8):
            await transport.call(Procedure.WRITE, header, WriteArgs(b"H", offset, 8, StableHow.UNSTABLE))
        record = network.take()
        names = NameBook()
        names.set(7, "f")
        assert record.ops() == {"READ": 1, "LOOKUP": 1, "WRITE": 2}
        assert record.sequence() == ["READ", "nfsacl.GETACL", "LOOKUP", "WRITE*2"]
        assert named_io(record, network.fileids, names) == [
            ["READ", "f", 0, 10],
            ["WRITE", "f", 0, 8, "UNSTABLE", 2],
        ]
        assert network.take().calls == []

    asyncio.run(main())
