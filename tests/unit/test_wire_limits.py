"""What a stranger may send, over a real connection: every limit is met, and answered with an honest status."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from freepage_client.io.transport import GrpcNetwork
from freepage_proto.convert import METHODS
from freepage_proto.mount3 import MntArgs, MountStat3
from freepage_proto.nfs3 import (
    CommitArgs,
    CreateArgs,
    CreateMode3,
    GetattrArgs,
    LookupArgs,
    MkdirArgs,
    NfsStat3,
    NullArgs,
    NullRes,
    ReadArgs,
    ReaddirArgs,
    ReaddirplusArgs,
    ReadRes,
    RemoveArgs,
    RenameArgs,
    Sattr3,
    SetattrArgs,
    StableHow,
    SymlinkArgs,
    WriteArgs,
)
from freepage_proto.nlm4 import MAX_OWNER, LockArgs, NlmLock, NlmStat4, UnlockArgs
from freepage_proto.rpc import AuthSys, CallHeader, Procedure, RpcConnectionLost, RpcGarbageArgs
from freepage_runtime.control import ControlService, TokenGuard
from freepage_runtime.limits import server_options
from freepage_server.io import service as service_module
from freepage_server.io import slowpeers
from freepage_server.io.service import MAX_REQUEST_BYTES, SERVER_OPTIONS, NfsService, make_server
from freepage_server.io.slowpeers import SlowPeers
from freepage_server.io.turns import Turns
from freepage_server.nfsd import lockd
from http2_raw import BadPeer, begin_call, frame, message
from nfsd_rig import ME, Rig

P = Procedure
HEADER = CallHeader("a", 7, 1, ME)
READ, NULL = METHODS[P.READ].path, METHODS[P.NULL].path
SOON_S = 20.0


class Nfsd:
    """NULL is answered at once, READ with a mebibyte, and both only when the gate is open."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.executing = self.most_executing = 0
        self._changed = asyncio.Condition()

    async def until(self, executing: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self.executing >= executing)

    def reader(self, header: CallHeader, handle: bytes, peer: str = "local") -> None:
        return None

    async def call(self, procedure: Procedure, header: CallHeader, args: object, peer: str = "local") -> object:
        self.executing += 1
        self.most_executing = max(self.most_executing, self.executing)
        async with self._changed:
            self._changed.notify_all()
        await self.gate.wait()
        self.executing -= 1
        return ReadRes(NfsStat3.OK, None, 1 << 20, False, bytes(1 << 20)) if procedure is P.READ else NullRes()


class Door:
    def __init__(self, nfsd: Nfsd, service: NfsService, port: int) -> None:
        self.nfsd, self.service, self.port = nfsd, service, port
        self.network = GrpcNetwork(share_channels=False)

    async def null(self) -> None:
        """An honest client's call over a connection of its own."""
        transport = self.network.connect(f"127.0.0.1:{self.port}")
        try:
            assert await transport.call(P.NULL, HEADER, NullArgs()) == NullRes()
        finally:
            await transport.close()

    async def when_there_is_room(self) -> None:
        """The same, once gRPC has cleared away what has ended: a little after the reply (grpcio 1.76)."""
        while True:
            try:
                return await self.null()
            except RpcConnectionLost:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def door(max_calls: int = 64, **limits: Any) -> AsyncIterator[Door]:
    settings: dict[str, Any] = {"receive_bytes": 4096, "send_bytes": 4 << 20, "connections": 100, "streams": 100}
    nfsd = Nfsd()
    service = NfsService(nfsd)
    server = make_server(service, options=server_options(**{**settings, **limits}), max_calls=max_calls)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    opened = Door(nfsd, service, port)
    try:
        yield opened
    finally:
        await opened.network.close()
        await server.stop(None)


def raw(channel: grpc.aio.Channel, path: str) -> grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]:
    return channel.unary_unary(path)


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def soon() -> None:
        async with asyncio.timeout(SOON_S):
            await story()

    asyncio.run(soon())


# --- connections ------------------------------------------------------------------------------------------------------


def test_a_peer_that_says_nothing_or_half_a_greeting_is_cut_off() -> None:
    async def story() -> None:
        async with door(handshake_s=0.2) as d:
            peers = [await BadPeer.connect(d.port) for _ in range(3)]
            for peer, words in zip(peers, (b"", b"PRI * HT", b"GET / HTTP/1.1\r\n\r\n"), strict=True):
                peer.say(words)
            for peer in peers:
                async with peer:
                    assert await peer.cut_off()
            await d.null()

    run(story)


def test_a_peer_that_falls_silent_is_asked_and_then_cut_off() -> None:
    async def story() -> None:
        async with door(ask_s=0.2, answer_s=0.2) as d, await BadPeer.connect(d.port) as peer:
            peer.shake_hands()
            assert await peer.cut_off()
            await d.null()

    run(story)


def test_one_connection_too_many_is_closed_and_a_place_is_free_again_later() -> None:
    async def story() -> None:
        async with door(connections=2) as d:
            async with await BadPeer.connect(d.port) as first, await BadPeer.connect(d.port) as second:
                for peer in (first, second):
                    peer.shake_hands()
                    assert await peer.reader.read(1)
                async with await BadPeer.connect(d.port) as third:
                    assert await third.cut_off()
            while True:  # the server notices in its own time that they have gone
                try:
                    await d.null()
                    break
                except RpcConnectionLost:
                    await asyncio.sleep(0.01)

    run(story)


def test_a_connection_carries_only_so_many_calls_at_a_time() -> None:
    async def story() -> None:
        async with door(streams=3) as d:
            transport = d.network.connect(f"127.0.0.1:{d.port}")
            await transport.call(P.NULL, HEADER, NullArgs())  # from now on the client knows how many
            d.nfsd.gate.clear()
            calls = [asyncio.ensure_future(transport.call(P.NULL, HEADER, NullArgs())) for _ in range(8)]
            await d.nfsd.until(3)
            d.nfsd.gate.set()
            for result in await asyncio.gather(*calls, return_exceptions=True):
                # One that began before the server had done with another is refused, and may come again.
                assert result == NullRes() or isinstance(result, RpcConnectionLost)
            assert d.nfsd.most_executing == 3
            await d.null()

    run(story)


def test_more_calls_than_there_are_places_are_refused_and_may_come_again() -> None:
    async def story() -> None:
        async with door(max_calls=2) as d:
            d.nfsd.gate.clear()
            calls = [asyncio.ensure_future(d.null()) for _ in range(2)]
            await d.nfsd.until(2)
            with pytest.raises(RpcConnectionLost, match="limit"):  # which a client takes for a reason to try again
                await d.null()
            d.nfsd.gate.set()
            await asyncio.gather(*calls)
            await d.when_there_is_room()

    run(story)


def test_a_burst_of_calls_is_not_refused_at_random() -> None:
    """gRPC refuses some of more than 1000 calls that have come and not been taken up, unless told otherwise."""

    async def story() -> None:
        async with door(max_calls=4096, streams=4096) as d:
            transport = d.network.connect(f"127.0.0.1:{d.port}")
            answers = await asyncio.gather(*(transport.call(P.NULL, HEADER, NullArgs()) for _ in range(2500)))
            assert set(answers) == {NullRes()}

    run(story)


# --- messages ---------------------------------------------------------------------------------------------------------


def test_the_largest_write_passes_and_little_more() -> None:
    options = dict(SERVER_OPTIONS)
    assert options["grpc.max_receive_message_length"] == MAX_REQUEST_BYTES
    head = CallHeader("c" * 255, (1 << 64) - 1, 1, AuthSys(2**32 - 1, 2**32 - 1, (2**32 - 1,) * 16, "m" * 255))
    data = bytes(1 << 20)
    write = WriteArgs(b"h" * 64, (1 << 64) - 1, len(data), StableHow.FILE_SYNC, data)
    assert len(METHODS[P.WRITE].encode_call(head, write)) < MAX_REQUEST_BYTES

    async def story() -> None:
        async with door(receive_bytes=1000) as d, grpc.aio.insecure_channel(f"127.0.0.1:{d.port}") as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await raw(channel, NULL)(bytes(1001))
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            await d.null()

    run(story)


def test_too_many_bytes_waiting_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "MAX_WAITING_BYTES", 50)

    async def story() -> None:
        async with door() as d:
            await d.null()
            with pytest.raises(RpcConnectionLost, match="too many bytes"):
                await d.network.connect(f"127.0.0.1:{d.port}").call(P.GETATTR, HEADER, GetattrArgs(bytes(60)))
            assert d.service.stats.refused == 1
            await d.null()
            assert d.service._bytes == 0
            assert not d.service._executing

    run(story)


@pytest.mark.parametrize("what", ["a request that does not end", "a reply that nobody takes"])
@pytest.mark.parametrize("names", ["as expected", "others"])
def test_a_call_that_does_not_move_is_broken_off_and_its_place_is_free(
    what: str, names: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever gRPC calls its tasks: that is learned from the first call."""
    if names == "others":
        monkeypatch.setattr(slowpeers, "INNER", "inner")
        monkeypatch.setattr(slowpeers, "OUTER", "outer")

    async def story() -> None:
        seconds = [0.0]
        slow = SlowPeers(lambda: d.service._executing, lambda: seconds[0], patience_s=10.0)
        if names == "others":
            async with door() as d:
                d.service.slow_peers = slow
                await d.null()
        async with door(max_calls=2) as d, await BadPeer.connect(d.port) as peer:
            peer.shake_hands(window=0)
            request = METHODS[P.READ].encode_call(HEADER, ReadArgs(b"h", 0, 1))
            for stream in (1, 3):
                if what == "a request that does not end":
                    peer.say(begin_call(stream, NULL), frame(0, 0, stream, message(b"abc", 1000)))
                else:
                    peer.say(begin_call(stream, READ), frame(0, 1, stream, message(request)))
            while True:
                try:
                    await d.null()
                except RpcConnectionLost:
                    break  # both places are taken
            dropped = slow.sweep()
            seconds[0] = 9.0
            dropped += slow.sweep()
            assert dropped == 0, "they may take their time"
            while slow.dropped < 2:  # the second of them may have begun after the first look
                seconds[0] += 5.0
                slow.sweep()
                await asyncio.sleep(0)
            await d.when_there_is_room()
            assert slow.dropped >= 2

    run(story)


def test_a_call_that_is_executed_may_take_as_long_as_it_needs() -> None:
    async def story() -> None:
        async with door() as d:
            d.nfsd.gate.clear()
            call = asyncio.ensure_future(d.null())
            await d.nfsd.until(1)
            seconds = [0.0]
            slow = SlowPeers(lambda: d.service._executing, lambda: seconds[0], patience_s=10.0)
            for _ in range(5):
                assert slow.sweep() == 0
                seconds[0] += 100.0
            d.nfsd.gate.set()
            await call

    run(story)


def test_without_the_token_no_message_is_received_at_all() -> None:
    async def story() -> None:
        options = server_options(receive_bytes=100, send_bytes=100, connections=10, streams=10)
        server = grpc.aio.server(interceptors=[TokenGuard("t" * 40)], options=options)
        from freepage_proto.v1.control_pb2_grpc import add_ControlServicer_to_server

        add_ControlServicer_to_server(ControlService.__new__(ControlService), server)  # type: ignore[no-untyped-call]
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await raw(channel, "/freepage.v1.Control/GetInfo")(bytes(1000))
                assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED, "and not that it is too large"
        finally:
            await server.stop(None)

    run(story)


# --- what is in the messages ------------------------------------------------------------------------------------------


@asynccontextmanager
async def nfs(path: Path, kind: str) -> AsyncIterator[tuple[Rig, Callable[..., Awaitable[Any]]]]:
    """A real server behind a real connection, and what calls it."""
    rig = Rig(kind, path)
    service = NfsService(rig.server)
    server = make_server(service)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    network = GrpcNetwork()
    transport = network.connect(f"127.0.0.1:{port}")

    async def call(procedure: Procedure, args: object, header: CallHeader | None = None) -> Any:
        return await transport.call(procedure, header or CallHeader("a", 7, next(rig.xids), ME), args)

    try:
        yield rig, call
        assert service.stats.internal_errors == 0
        rig.check()
    finally:
        await network.close()
        await server.stop(None)
        await service.drain()
        await rig.server.stop()
        rig.close()


HOSTILE_NAMES = {
    b"": {NfsStat3.ACCES, NfsStat3.PERM},
    b"a/b": {NfsStat3.INVAL},
    b"../secret": {NfsStat3.INVAL},
    b"/": {NfsStat3.INVAL},
    b"a\0b": {NfsStat3.INVAL},
    b"x" * 256: {NfsStat3.NAMETOOLONG},
    b"x" * 60_000: {NfsStat3.NAMETOOLONG},
}


@pytest.mark.parametrize("kind", ["memory", "directory"])
def test_names(kind: str, tmp_path: Path) -> None:
    export = tmp_path / "export"
    export.mkdir()
    (tmp_path / "secret").write_text("outside")

    async def story() -> None:
        async with nfs(export, kind) as (rig, call):
            root, sattr = rig.root, Sattr3(mode=0o644)
            await rig.create(b"there")
            for name, expected in HOSTILE_NAMES.items():
                for procedure, args in (
                    (P.LOOKUP, LookupArgs(root, name)),
                    (P.CREATE, CreateArgs(root, name, CreateMode3.UNCHECKED, sattr)),
                    (P.MKDIR, MkdirArgs(root, name, sattr)),
                    (P.SYMLINK, SymlinkArgs(root, name, b"target", sattr)),
                    (P.REMOVE, RemoveArgs(root, name)),
                    (P.RMDIR, RemoveArgs(root, name)),
                    (P.RENAME, RenameArgs(root, name, root, b"new")),
                    (P.RENAME, RenameArgs(root, b"there", root, name)),
                ):
                    if not name and procedure is P.SYMLINK:
                        continue  # ENOENT of the target, as knfsd
                    result = await call(procedure, args)
                    assert result.status in expected, (procedure, name[:20], result.status)
            for name in (b".", b".."):
                found = await call(P.LOOKUP, LookupArgs(root, name))
                assert (found.status, found.object) == (NfsStat3.OK, root), "the root is its own parent"
                for procedure, args in (
                    (P.CREATE, CreateArgs(root, name, CreateMode3.UNCHECKED, sattr)),
                    (P.MKDIR, MkdirArgs(root, name, sattr)),
                    (P.REMOVE, RemoveArgs(root, name)),
                    (P.RENAME, RenameArgs(root, name, root, b"new")),
                ):
                    assert (await call(procedure, args)).status in {NfsStat3.EXIST, NfsStat3.ACCES, NfsStat3.PERM}
            for name in (b"\xff\xfe", b"x" * 255, b"\n", b"-rf", b"..."):
                made = await call(P.CREATE, CreateArgs(root, name, CreateMode3.GUARDED, sattr))
                assert made.status is NfsStat3.OK, name
                found = await call(P.LOOKUP, LookupArgs(root, name))
                assert found.object == made.object
                listed = await call(P.READDIR, ReaddirArgs(root, 0, bytes(8), 4096))
                assert name in {entry.name for entry in listed.entries}
            for target, status in (
                (b"", NfsStat3.NOENT),
                (b"a\0b", NfsStat3.INVAL),
                (b"t" * 4096, NfsStat3.NAMETOOLONG),
                (b"/etc/passwd", NfsStat3.OK),
            ):
                assert (await call(P.SYMLINK, SymlinkArgs(root, b"link", target, sattr))).status is status
            for path in (b"/export/../secret", b"/export/..", b"export", b"", b"/export/a\0", b"/" + b"x" * 1024):
                assert (await call(P.MOUNT_MNT, MntArgs(path))).status is not MountStat3.OK, path

    run(story)
    assert (tmp_path / "secret").read_text() == "outside"
    assert {path.name for path in tmp_path.iterdir()} == {"secret", "export"}


def test_numbers(tmp_path: Path) -> None:
    most32, most64 = (1 << 32) - 1, (1 << 64) - 1

    async def story() -> None:
        async with nfs(tmp_path, "directory") as (rig, call):
            f = await rig.create(b"f")
            assert (await call(P.WRITE, WriteArgs(f, 0, 1 << 20, StableHow.UNSTABLE, bytes(1 << 20)))).count == 1 << 20
            assert (await call(P.READ, ReadArgs(f, 0, most32))).count == 1 << 20
            end = await call(P.READ, ReadArgs(f, most64, most32))
            assert (end.status, end.count, end.eof) == (NfsStat3.OK, 0, True)
            too_far = await call(P.WRITE, WriteArgs(f, most64, 1, StableHow.UNSTABLE, b"x"))
            assert too_far.status is NfsStat3.FBIG
            assert (await call(P.SETATTR, SetattrArgs(f, Sattr3(size=most64)))).status is NfsStat3.FBIG
            assert (await call(P.COMMIT, CommitArgs(f, most64, most32))).status is NfsStat3.INVAL
            assert (await call(P.COMMIT, CommitArgs(f, (1 << 63) - 1, most32))).status is NfsStat3.OK
            for count, statuses in ((0, {NfsStat3.TOOSMALL}), (most32, {NfsStat3.OK})):
                assert (await call(P.READDIR, ReaddirArgs(rig.root, 0, bytes(8), count))).status in statuses
                plus = ReaddirplusArgs(rig.root, 0, bytes(8), count, count)
                assert (await call(P.READDIRPLUS, plus)).status in statuses
            past = await call(P.READDIR, ReaddirArgs(rig.root, most64, bytes(8), 4096))
            assert (past.status, past.entries, past.eof) == (NfsStat3.OK, (), True)

    run(story)


def test_lists_of_names_are_cut(tmp_path: Path) -> None:
    """However much is asked for, one reply lists no more than a mebibyte of XDR, and fits into a message."""

    async def story() -> None:
        async with nfs(tmp_path, "memory") as (rig, call):
            for number in range(5000):
                rig.storage.create(rig.storage.root(), b"%0200d" % number, 0o644, 0, 0)
            seen: list[bytes] = []
            cookie, replies = 0, 0
            while True:
                args = ReaddirplusArgs(rig.root, cookie, bytes(8), (1 << 32) - 1, (1 << 32) - 1)
                result = await call(P.READDIRPLUS, args)
                assert result.status is NfsStat3.OK
                assert 0 < sum(136 + len(entry.name) for entry in result.entries) <= 1 << 20
                seen += [entry.name for entry in result.entries]
                cookie, replies = result.entries[-1].cookie, replies + 1
                if result.eof:
                    break
            assert (len(seen), len(set(seen)), replies) == (5002, 5002, 2)

    run(story)


def test_headers_and_owners(tmp_path: Path) -> None:
    async def story() -> None:
        async with nfs(tmp_path, "memory") as (rig, call):
            f = await rig.create(b"f")
            for header in (
                CallHeader("c" * 256, 1, 1, ME),
                CallHeader("c" * 5000, 1, 1, ME),
                CallHeader("a", 1, 1, AuthSys(0, 0, tuple(range(17)), "m")),
                CallHeader("a", 1, 1, AuthSys(0, 0, (), "m" * 256)),
            ):
                with pytest.raises(RpcGarbageArgs):
                    await call(P.NULL, NullArgs(), header)
            await call(P.NULL, NullArgs(), CallHeader("ß" * 127, 1, 1, AuthSys(0, 0, tuple(range(16)), "m" * 255)))
            for handle in (b"", b"x" * 64, f[:-1], bytes(len(f))):
                assert (await call(P.GETATTR, GetattrArgs(handle))).status is NfsStat3.BADHANDLE
            with pytest.raises(RpcGarbageArgs, match="file handle of 65 bytes"):
                await call(P.GETATTR, GetattrArgs(b"x" * 65))
            for owner, offset, length, status in (
                (b"o" * MAX_OWNER, 0, 1, NlmStat4.GRANTED),
                (b"", (1 << 64) - 1, 2, NlmStat4.FBIG),
            ):
                lock = NlmLock(f, owner, 1, offset, length)
                assert (await call(P.NLM_LOCK, LockArgs(lock, True))).status is status
            with pytest.raises(RpcGarbageArgs, match="owner of 1025 bytes"):
                await call(P.NLM_LOCK, LockArgs(NlmLock(f, b"o" * 1025, 1, 0, 1), True))

    run(story)


def test_locks_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lockd, "MAX_LOCKS_PER_FILE", 4)
    monkeypatch.setattr(lockd, "MAX_LOCKS", 6)

    async def story() -> None:
        async with nfs(tmp_path, "memory") as (rig, call):
            f, g = await rig.create(b"f"), await rig.create(b"g")

            async def lock(file: bytes, number: int) -> NlmStat4:
                result = await call(P.NLM_LOCK, LockArgs(NlmLock(file, b"o", number, 10 * number, 1), True))
                status: NlmStat4 = result.status
                return status

            assert [await lock(f, n) for n in range(5)] == [NlmStat4.GRANTED] * 4 + [NlmStat4.DENIED_NOLOCKS]
            assert [await lock(g, n) for n in range(3)] == [NlmStat4.GRANTED] * 2 + [NlmStat4.DENIED_NOLOCKS]
            rig.server.locks.free_client("a")
            assert await lock(g, 3) is NlmStat4.GRANTED
            assert len(list(rig.server.locks.locks())) == rig.server.locks._count == 1

    run(story)


def test_one_client_cannot_have_all_the_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lockd, "MAX_LOCKS_PER_CLIENT", 3)
    locks = lockd.LockManager()

    def lock(client: str, number: int) -> NlmStat4:
        return locks.lock(client, LockArgs(NlmLock(b"f", b"o", number, 10 * number, 1), True)).status

    assert [lock("A", n) for n in range(4)] == [NlmStat4.GRANTED] * 3 + [NlmStat4.DENIED_NOLOCKS]
    assert lock("B", 5) is NlmStat4.GRANTED
    assert locks.unlock("A", UnlockArgs(NlmLock(b"f", b"o", 0, 0, 1))).status is NlmStat4.GRANTED
    assert lock("A", 3) is NlmStat4.GRANTED
    assert locks.free_client("A") == 3
    assert [lock("A", n) for n in range(4)] == [NlmStat4.GRANTED] * 3 + [NlmStat4.DENIED_NOLOCKS]


# --- turns ------------------------------------------------------------------------------------------------------------


def test_a_client_with_many_calls_waits_for_its_own() -> None:
    async def story() -> None:
        turns, order = Turns(2), []

        async def call(client: str) -> None:
            await turns.take(client)
            order.append(client)

        calls = [asyncio.ensure_future(call(client)) for client in "AAAAAAABBC"]
        await asyncio.sleep(0)
        assert order == ["A", "A"]
        for _ in range(8):
            turns.give()
            await asyncio.sleep(0)
        assert "".join(order) == "AA" + "ABC" + "AB" + "AAA"
        await asyncio.gather(*calls)
        turns.give()
        turns.give()
        await call("D")
        await call("D")
        third, fourth = asyncio.ensure_future(call("D")), asyncio.ensure_future(call("E"))
        await asyncio.sleep(0)
        third.cancel()  # while it waits
        turns.give()
        await fourth
        fifth = asyncio.ensure_future(call("D"))
        await asyncio.sleep(0)
        turns.give()
        fifth.cancel()  # when its turn has come
        await asyncio.wait((third, fifth))
        assert third.cancelled() and fifth.cancelled()
        await asyncio.wait_for(call("F"), 10)

    run(story)
