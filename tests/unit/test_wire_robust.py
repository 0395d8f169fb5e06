"""Over real gRPC: what is executed once, what survives the server, and what a client sees of it."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from freepage_client.nfs import rpc
from freepage_client.vfs.task import Task
from freepage_lab.soak.proxy import Weather
from freepage_proto.nfs3 import (
    CommitArgs,
    CreateArgs,
    CreateMode3,
    NfsStat3,
    NullArgs,
    RemoveArgs,
    RenameArgs,
    Sattr3,
    SetattrArgs,
    StableHow,
    WriteArgs,
)
from freepage_proto.rpc import Procedure
from freepage_server.nfsd.storage import Key
from wire_rig import WireRig

P = Procedure
O_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[WireRig], Awaitable[None]]], None]:
    monkeypatch.setattr(rpc, "RECONNECT_S", 0.1)  # real seconds are dear here; tests/sim has the right ones

    def run(story: Callable[[WireRig], Awaitable[None]], directory: Path | None = None) -> None:
        export = directory or tmp_path / "export"
        export.mkdir(exist_ok=True)
        state = tmp_path / "state"
        state.mkdir()

        async def whole() -> None:
            async with asyncio.timeout(60), WireRig(export, state) as rig:
                await story(rig)

        asyncio.run(whole())

    return run


Play = Callable[..., None]


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(5000):
        if condition():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("never")


class Gate:
    """Every change of names or attributes, and every fsync, waits on its way to the disk until the gate opens."""

    def __init__(self, rig: WireRig) -> None:
        self.open = asyncio.Event()
        self.waiting = 0
        storage = rig.life.storage
        sync_metadata, fsync = storage.sync_metadata, storage.fsync

        async def slow_metadata(*keys: Key) -> None:
            self.waiting += 1
            await self.open.wait()
            await sync_metadata(*keys)

        async def slow_fsync(key: Key) -> None:
            self.waiting += 1
            await self.open.wait()
            await fsync(key)

        storage.sync_metadata = slow_metadata  # type: ignore[method-assign]
        storage.fsync = slow_fsync  # type: ignore[method-assign]

    async def reached(self, count: int) -> None:
        await until(lambda: self.waiting >= count)


# --- exactly once ----------------------------------------------------------------------------------------------------


def _changes(rig: WireRig, f: bytes) -> dict[Procedure, tuple[object, Callable[[], bool]]]:
    """A call of each kind that must not be done twice, and whether it was done."""
    here = rig.directory
    sattr = Sattr3(mode=0o600)
    return {
        P.CREATE: (
            CreateArgs(rig.life.root, b"new", CreateMode3.EXCLUSIVE, Sattr3(), b"verifier"),
            (here / "new").exists,
        ),
        P.MKDIR: (CreateArgs(rig.life.root, b"guarded", CreateMode3.GUARDED, sattr), (here / "guarded").exists),
        P.REMOVE: (RemoveArgs(rig.life.root, b"old"), lambda: not (here / "old").exists()),
        P.RENAME: (RenameArgs(rig.life.root, b"from", rig.life.root, b"to"), (here / "to").exists),
        P.SETATTR: (SetattrArgs(f, Sattr3(size=3)), lambda: (here / "f").stat().st_size == 3),
        P.WRITE: (WriteArgs(f, 0, 4, StableHow.FILE_SYNC, b"data"), lambda: (here / "f").read_bytes()[:4] == b"data"),
    }


@pytest.mark.parametrize("procedure", [P.CREATE, P.MKDIR, P.REMOVE, P.RENAME, P.SETATTR, P.WRITE])
def test_a_retransmission_is_not_executed_again(play: Play, procedure: Procedure) -> None:
    """It comes over another connection: while the first is under way, after it, and then as another call."""

    async def story(rig: WireRig) -> None:
        for name in ("old", "from", "f"):
            (rig.directory / name).write_bytes(b"content")
        f = await _handle(rig, b"f")
        args, done = _changes(rig, f)[procedure]
        real = P.CREATE if procedure is P.MKDIR else procedure
        gate = Gate(rig)
        first = asyncio.ensure_future(rig.call(real, args, xid=7))
        await gate.reached(1)
        assert done(), "executed, and waiting for the disk"
        second = asyncio.ensure_future(rig.call(real, args, xid=7))
        await until(lambda: rig.life.nfsd.replies.hits > 0)
        assert not first.done() and not second.done()
        gate.open.set()
        replies = [await first, await second, await rig.call(real, args, xid=7)]
        assert replies[0].status is NfsStat3.OK
        assert replies == replies[:1] * 3
        assert rig.life.nfsd.stats.by_procedure[real].calls == 3 and rig.life.nfsd.replies.misses == 1
        again = await rig.call(real, args, xid=8)
        otherwise = {P.MKDIR: NfsStat3.EXIST, P.REMOVE: NfsStat3.NOENT, P.RENAME: NfsStat3.NOENT}
        assert again.status is otherwise.get(procedure, NfsStat3.OK), "another call is executed"

    play(story)


async def _handle(rig: WireRig, name: bytes) -> bytes:
    from freepage_proto.nfs3 import LookupArgs

    handle: bytes = (await rig.call(P.LOOKUP, LookupArgs(rig.life.root, name))).object
    return handle


def test_calls_whose_replies_are_lost_with_the_connection_succeed_once(play: Play) -> None:
    """A whole client: the connection breaks when everything is executed and nothing is answered.

    Each name in a directory of its own: a client makes one change of a directory at a time (i_rwsem).
    """

    async def story(rig: WireRig) -> None:
        for name in ("a", "b", "c"):
            (rig.directory / name).mkdir()
        for name in ("b/old", "c/from", "attributes"):
            (rig.directory / name).write_bytes(b"content")
        machine = await rig.machine()
        tasks = [machine.task() for _ in range(5)]
        fd = await tasks[4].open("/mnt/data", os.O_RDWR | os.O_CREAT)
        await tasks[4].write(fd, b"written")
        gate = Gate(rig)

        async def create(task: Task) -> None:
            await task.close(await task.open("/mnt/a/new", O_NEW))

        works = [
            asyncio.ensure_future(work)
            for work in (
                create(tasks[0]),
                tasks[1].unlink("/mnt/b/old"),
                tasks[2].rename("/mnt/c/from", "/mnt/c/to"),
                tasks[3].chmod("/mnt/attributes", 0o600),
                tasks[4].fsync(fd),
            )
        ]
        await gate.reached(5)
        for link in list(rig.proxy.links):
            link.cut()
        gate.open.set()
        await asyncio.gather(*works)
        assert machine.mounts[0].stats.xprt.retransmissions >= 5
        assert rig.life.nfsd.replies.hits >= 5
        there = sorted(str(path.relative_to(rig.directory)) for path in rig.directory.rglob("*") if path.is_file())
        assert there == ["a/new", "attributes", "c/to", "data"]
        assert (rig.directory / "data").read_bytes() == b"written"

    play(story)


def test_an_exclusive_create_whose_reply_died_with_the_server_is_known_by_its_verifier(play: Play) -> None:
    """The reply cache is gone; what the others would be told twice, an exclusive create is not."""

    async def story(rig: WireRig) -> None:
        create = CreateArgs(rig.life.root, b"new", CreateMode3.EXCLUSIVE, Sattr3(), b"verifier")
        remove = RemoveArgs(rig.life.root, b"old")
        (rig.directory / "old").write_bytes(b"")
        first = await rig.call(P.CREATE, create, xid=1)
        assert (await rig.call(P.REMOVE, remove, xid=2)).status is NfsStat3.OK
        await rig.restart()
        again = await rig.call(P.CREATE, create, xid=1)
        assert (again.status, again.object) == (NfsStat3.OK, first.object)
        assert (await rig.call(P.REMOVE, remove, xid=2)).status is NfsStat3.NOENT, "as with knfsd"

    play(story)


# --- what survives the server ----------------------------------------------------------------------------------------


def test_unstable_data_die_with_the_server_and_clients_send_them_again(play: Play) -> None:
    async def story(rig: WireRig) -> None:
        (rig.directory / "raw").write_bytes(b"")
        raw = await _handle(rig, b"raw")
        lost = await rig.call(P.WRITE, WriteArgs(raw, 0, 4, StableHow.UNSTABLE, b"lost"))
        kept = await rig.call(P.WRITE, WriteArgs(raw, 8192, 4, StableHow.FILE_SYNC, b"kept"))
        machine = await rig.machine(options="wsize=4096")
        task = machine.task()
        fd = await task.open("/mnt/f", os.O_RDWR | os.O_CREAT)
        data = os.urandom(10 * 4096)
        await task.write(fd, data)
        gate = Gate(rig)
        syncing = asyncio.ensure_future(task.fsync(fd))
        await gate.reached(1)  # everything is in the server, and its COMMIT is not done
        assert (rig.directory / "f").read_bytes() in (data, b"")
        gate.open.set()
        await rig.restart()
        await syncing
        assert (rig.directory / "f").read_bytes() == data
        assert machine.resent_pages == 10
        assert (rig.directory / "raw").read_bytes() == bytes(8192) + b"kept", "nobody sent the other four again"
        after = await rig.call(P.COMMIT, CommitArgs(raw))
        assert lost.verf == kept.verf != after.verf
        await task.close(fd)

    play(story)


async def _never(key: Key) -> None:
    raise OSError(errno.EIO, "the server is being killed")


@pytest.mark.parametrize("restart", [False, True])
def test_what_was_committed_is_not_read_again_at_the_next_open(play: Play, restart: bool) -> None:
    """The write-back moves the disk's ctime long after the WRITE, and no client may take it for somebody's change."""

    async def story(rig: WireRig) -> None:
        machine = await rig.machine(options="wsize=4096")
        task = machine.task()
        data = os.urandom(20 * 4096)
        fd = await task.open("/mnt/f", os.O_RDWR | os.O_CREAT)
        await task.write(fd, data)
        await asyncio.sleep(0.03)  # several ticks of the clock that stamps inodes
        await task.fsync(fd)
        await task.close(fd)
        if restart:
            await rig.restart()
        await asyncio.sleep(0.03)
        calls: list[Procedure] = []
        machine.mounts[0].rpc.trace = lambda procedure, args: calls.append(procedure)
        fd = await task.open("/mnt/f", os.O_RDONLY)
        assert await task.read(fd, len(data)) == data
        await task.close(fd)
        assert P.GETATTR in calls and P.READ not in calls, calls

    play(story)


def test_a_full_disk_is_told_where_linux_tells_it(play: Play, small_disk: Path) -> None:
    """write(2) fills the client's cache; fsync(2) learns that the server had no room. A synchronous write hears it."""

    async def story(rig: WireRig) -> None:
        machine = await rig.machine(options="wsize=65536")
        task = machine.task()
        safe = os.urandom(300_000)
        fd = await task.open("/mnt/safe", O_NEW)
        await task.write(fd, safe)
        await task.fsync(fd)
        await task.close(fd)
        fd = await task.open("/mnt/big", O_NEW)
        await task.write(fd, bytes(2 << 20))
        with pytest.raises(OSError) as caught:
            await task.fsync(fd)
        assert caught.value.errno == errno.ENOSPC
        await task.fsync(fd)  # an error is told once
        await task.close(fd)
        fd = await task.open("/mnt/sync", O_NEW | os.O_DSYNC)
        with pytest.raises(OSError) as caught:
            for _ in range(8):
                await task.write(fd, bytes(1 << 17))
        assert caught.value.errno == errno.ENOSPC
        await task.close(fd)
        stats = rig.life.nfsd.stats
        assert stats.write_verifier_changes == stats.error_replies[NfsStat3.NOSPC], "only by the WRITEs that failed"
        await task.unlink("/mnt/big")
        await task.unlink("/mnt/sync")
        fd = await task.open("/mnt/room", O_NEW)
        await task.write(fd, bytes(1 << 18))
        await task.fsync(fd)
        await task.close(fd)
        assert (rig.directory / "safe").read_bytes() == safe

    play(story, small_disk)


# --- networks --------------------------------------------------------------------------------------------------------


def test_a_slow_network_is_slow_and_nothing_else(play: Play) -> None:
    """Half a second there and back: longer than gRPC waits by itself when it is told to reconnect quickly."""

    async def story(rig: WireRig) -> None:
        rig.proxy.change(Weather(delay_s=0.25))
        transport = rig.network().connect(rig.proxy.address)
        await transport.call(P.NULL, rig.header(), NullArgs())
        assert rig.proxy.accepted == 1, "one attempt, and patience"

    play(story)


# --- the log ---------------------------------------------------------------------------------------------------------


def test_calls_are_named_in_the_log(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    def logged() -> list[tuple[str, dict[str, Any]]]:
        return [(r.message, dict(getattr(r, "freepage_fields", {}))) for r in caplog.records if "server" in r.name]

    async def story(rig: WireRig) -> None:
        (rig.directory / "f").write_bytes(b"")
        f = await _handle(rig, b"f")
        ((_, fields),) = [entry for entry in logged() if entry[0] == "call"]
        assert (fields["procedure"], fields["client"], fields["status"]) == ("LOOKUP", "raw", "OK")
        assert fields["xid"] == "00000001" and fields["ms"] > 0 and str(fields["peer"]).startswith("ipv4:127.0.0.1:")
        caplog.clear()
        rig.life.storage.fsync = _never  # type: ignore[method-assign]
        for xid in (0xABC, 0xABD):
            assert (await rig.call(P.WRITE, WriteArgs(f, 0, 1, StableHow.FILE_SYNC, b"x"), xid)).status is NfsStat3.IO
        del rig.life.storage.fsync
        ((message, fields),) = [(m, f) for m, f in logged() if m == "a call failed"]
        assert (fields["client"], fields["xid"], fields["status"]) == ("raw", "00000abc", "IO"), message
        caplog.clear()

        async def broken(*args: object) -> object:
            raise RuntimeError("a bug")

        rig.life.nfsd.call = broken  # type: ignore[method-assign,assignment]
        with pytest.raises(Exception, match="internal error, request r000001"):
            await rig.call(P.NULL, NullArgs(), xid=0xDEF)
        ((message, fields),) = [(m, f) for m, f in logged() if "inside the server" in m]
        assert (fields["client"], fields["xid"], fields["request"]) == ("raw", "00000def", "r000001")
        del rig.life.nfsd.call

    with caplog.at_level(logging.DEBUG, logger="freepage_server.io.service"):
        play(story)


def test_draining_ends_in_time_and_names_what_does_not_end(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    async def story(rig: WireRig) -> None:
        gate = Gate(rig)
        hanging = asyncio.ensure_future(rig.call(P.REMOVE, RemoveArgs(rig.life.root, b"f"), xid=0xABC))
        (rig.directory / "f").write_bytes(b"")
        await gate.reached(1)
        assert not await rig.life.service.drain(0.01)
        (record,) = [r for r in caplog.records if r.message == "a call does not end"]
        named = record.freepage_fields  # type: ignore[attr-defined]
        assert (named["procedure"], named["client"], named["xid"]) == ("REMOVE", "raw", "00000abc")
        gate.open.set()
        await hanging
        assert await rig.life.service.drain(1.0)

    play(story)
