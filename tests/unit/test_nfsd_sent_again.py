"""READs that were answered before are answered with the same message, as long as it is still right."""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
import logging
import os
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from freepage import lru_add_drain
from freepage_proto.convert import METHODS
from freepage_proto.nfs3 import FileHandle, NfsStat3, ReadArgs, ReadRes, Sattr3, SetattrArgs
from freepage_proto.rpc import AuthSys, CallHeader, Procedure
from freepage_server.io.service import NfsService
from nfsd_rig import KINDS, ME, Rig

PIECE = 64 << 10
PIECES = 5
READ = METHODS[Procedure.READ]
P = Procedure


class Peer:
    """What gRPC tells about who calls, and what it is told when a call fails."""

    def __init__(self, name: str = "ipv4:127.0.0.1:700") -> None:
        self._name = name

    def peer(self) -> str:
        return self._name

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        raise Aborted(code, details)


class Aborted(Exception):
    pass


class Door:
    """The service's READ, called as gRPC calls it."""

    def __init__(self, rig: Rig) -> None:
        service = NfsService(rig.server)
        service.slow_peers.learned = True  # there is no task of gRPC's around the call
        self.stats = service.stats.by_procedure[P.READ]
        (handler,) = (
            handler
            for each in service.handlers()
            if (handler := each.service(_Details(READ.path))) is not None  # type: ignore[arg-type]
        )
        self._behaviour: Callable[[bytes, Any], Awaitable[bytes]] = handler.unary_unary  # type: ignore[assignment]
        self._xids = itertools.count(7)

    async def read(self, f: FileHandle, offset: int, count: int, cred: AuthSys = ME, peer: str = "x") -> bytes:
        request = READ.encode_call(CallHeader("A", 1, next(self._xids), cred), ReadArgs(f, offset, count))
        return await self._behaviour(request, Peer(peer))


class _Details:
    def __init__(self, method: str) -> None:
        self.method = method


def decoded(reply: bytes) -> ReadRes:
    result = READ.decode_reply(reply)
    assert isinstance(result, ReadRes)
    return result


async def a_file(rig: Rig, contents: bytes) -> FileHandle:
    """Written, and not cached; nothing can hide in its timestamps any more."""
    f = await rig.create(b"f", mode=0o644)
    await rig.write(f, 0, contents)
    await rig.server.sync()
    if rig.path.joinpath("f").exists():
        os.utime(rig.path / "f", ns=(10**18, 10**18))
        await asyncio.sleep(2 * rig.storage.granule_ns / 1e9 + 0.01)
        await rig.getattr(f)
    await rig.server.drop_caches()
    return f


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_read_is_answered_with_the_first_one_s_message(kind: str, tmp_path: Path) -> None:
    async def story() -> None:
        rig = Rig(kind, tmp_path)
        contents = random.Random(1).randbytes(PIECES * PIECE)
        f = await a_file(rig, contents)
        door = Door(rig)
        for offset in range(0, len(contents), PIECE):  # filled, and then kept in a message
            for _ in range(2):
                assert decoded(await door.read(f, offset, PIECE)).data == contents[offset : offset + PIECE]
        kept = [await door.read(f, offset, PIECE) for offset in range(0, len(contents), PIECE)]
        again = [await door.read(f, offset, PIECE) for offset in range(0, len(contents), PIECE)]
        assert all(first is second for first, second in zip(kept, again, strict=True))
        assert [decoded(reply).eof for reply in again] == [False] * (PIECES - 1) + [True]
        assert rig.server.cache.folio_slack_pages() == 0, "nothing is kept twice"
        assert door.stats.received == PIECES * 4 == door.stats.latency.total

        half = await door.read(f, PIECE + 100, PIECE // 2)
        assert decoded(half).data == contents[PIECE + 100 : PIECE + 100 + PIECE // 2]
        both = await door.read(f, 0, 2 * PIECE)
        assert decoded(both).data == contents[: 2 * PIECE]
        assert await door.read(f, PIECE, PIECE) is kept[1], "which other READs leave alone"

        await rig.call(P.SETATTR, SetattrArgs(f, Sattr3(mode=0o640)))
        changed = await door.read(f, PIECE, PIECE)
        assert changed is not kept[1]
        attributes = decoded(changed).attributes
        assert attributes is not None and attributes.mode == 0o640 and attributes == await rig.getattr(f)
        assert decoded(changed).data == decoded(kept[1]).data
        stranger = AuthSys(4242, 4242, (), "stranger")
        assert decoded(await door.read(f, PIECE, PIECE, stranger)).status is NfsStat3.ACCES
        rig.check()
        rig.close()

    asyncio.run(story())


def test_a_reader_whose_file_was_forgotten_is_met_again(tmp_path: Path) -> None:
    async def story() -> None:
        rig = Rig("memory", tmp_path)
        f = await a_file(rig, bytes(PIECE))
        door = Door(rig)
        for _ in range(3):
            await door.read(f, 0, PIECE)
        lru_add_drain(rig.server.cache.memcg)
        await rig.server.drop_caches(3)
        assert not rig.server.files._inodes
        _, kept, again = [await door.read(f, 0, PIECE) for _ in range(3)]
        assert again is kept
        rig.close()

    asyncio.run(story())


def test_pages_that_may_be_older_than_they_look_are_not_sent_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        rig = Rig("memory", tmp_path)
        f = await a_file(rig, bytes(PIECE))
        header, args = CallHeader("A", 1, 1, ME), ReadArgs(f, 0, PIECE)
        await rig.call(P.READ, args)
        assert rig.read_nowait(header, args) is not None
        (inode,) = rig.server.files._inodes.values()
        inode.racy_until_ns = 1
        assert rig.read_nowait(header, args) is None
        rig.close()

    asyncio.run(story())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_a_read_brings_what_is_in_the_file(kind: str, seed: int, tmp_path: Path) -> None:
    async def story() -> None:
        rig = Rig(kind, tmp_path)
        chance = random.Random(seed)
        contents = bytearray(chance.randbytes(PIECES * PIECE - 700))
        f = await a_file(rig, bytes(contents))
        door = Door(rig)
        same = 0
        for _ in range(300):
            what = chance.choice(["read"] * 12 + ["part", "write", "cut", "mode", "sync", "drop", "move"])
            offset = chance.randrange(PIECES) * PIECE
            if what == "read":
                await door.read(f, offset, PIECE)
                kept = await door.read(f, offset, PIECE)
                reply = await door.read(f, offset, PIECE)
                same += reply is kept
                assert decoded(reply).data == contents[offset : offset + PIECE]
                assert decoded(reply).attributes == await rig.getattr(f)
                assert decoded(reply).eof == (offset + PIECE >= len(contents))
            elif what == "part":
                offset += chance.randrange(PIECE)
                count = chance.choice([1, 100, 4096, PIECE, 2 * PIECE])
                assert decoded(await door.read(f, offset, count)).data == contents[offset : offset + count]
            elif what == "write":
                offset += chance.randrange(PIECE)
                data = chance.randbytes(chance.choice([1, 5000, PIECE]))
                contents.extend(bytes(max(offset - len(contents), 0)))
                contents[offset : offset + len(data)] = data
                await rig.write(f, offset, data)
            elif what == "cut":
                size = chance.randrange(len(contents) // 2, PIECES * PIECE)
                await rig.call(P.SETATTR, SetattrArgs(f, Sattr3(size=size)))
                contents = (contents + bytes(PIECES * PIECE))[:size]
            elif what == "mode":
                await rig.call(P.SETATTR, SetattrArgs(f, Sattr3(mode=chance.choice([0o600, 0o644]))))
            elif what == "sync":
                await rig.server.sync()
            elif what == "drop":
                await rig.server.drop_caches()
            else:
                await rig.server.files.replace_pages(rig.export, rig.server.handles.decode(f)[1], 0, 3)
        assert same > 5 or kind == "directory", "a file's own timestamps may be too fresh to be trusted"
        rig.check()
        rig.close()

    asyncio.run(story())


def test_a_read_that_is_answered_at_once_is_told_as_others_are(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        rig = Rig("memory", tmp_path)
        f = await a_file(rig, bytes(PIECE))
        door = Door(rig)
        await door.read(f, 0, PIECE)
        with caplog.at_level(logging.DEBUG, logger="freepage_server.io.service"):
            await door.read(f, 0, PIECE)
            await rig.server.drop_caches()
            await door.read(f, 0, PIECE)
        told = [(r.message, r.freepage_fields) for r in caplog.records if "service" in r.name]  # type: ignore[attr-defined]
        assert [message for message, _ in told] == ["call", "call"]
        at_once, called = ({k: v for k, v in each.items() if k not in ("xid", "ms")} for _, each in told)
        assert at_once == called == {"procedure": "READ", "client": "A", "peer": "x", "status": "OK"}
        rig.close()

    asyncio.run(story())


def test_a_bug_on_the_short_way_is_told_as_others_are(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        rig = Rig("memory", tmp_path)
        f = await a_file(rig, bytes(PIECE))
        door = Door(rig)
        rig.server.reader = lambda *args: 1 // 0  # type: ignore[method-assign,assignment]
        with pytest.raises(Aborted, match=r"INTERNAL.*internal error, request r000001"):
            await door.read(f, 0, PIECE)
        (record,) = [r for r in caplog.records if r.exc_info]
        named = record.freepage_fields  # type: ignore[attr-defined]
        assert (named["procedure"], named["client"], named["xid"]) == ("READ", "A", "00000007")
        assert (door.stats.received, door.stats.failed) == (1, 1)
        rig.close()

    asyncio.run(story())


def test_who_reads_from_where_it_matters_is_asked_each_time(tmp_path: Path) -> None:
    async def story() -> None:
        rig = Rig("memory", tmp_path, export={"clients": (ipaddress.ip_network("10.0.0.0/8"),)})
        f = await a_file(rig, bytes(PIECE))
        door = Door(rig)
        answers = [await door.read(f, 0, PIECE, peer=f"ipv4:{host}:700") for host in ("10.1.2.3", "11.1.2.3") * 3]
        assert [decoded(each).status for each in answers] == [NfsStat3.OK, NfsStat3.STALE] * 3
        assert answers[2] is answers[4], "he who may is sent what is kept"
        rig.close()

    asyncio.run(story())
