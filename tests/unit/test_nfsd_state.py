"""Handles and reported times over the end of a server: kept in a table, found by a search, stale only with the file."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from freepage_proto.nfs3 import (
    NFS3_FHSIZE,
    CommitArgs,
    FileHandle,
    FType3,
    GetattrArgs,
    NfsStat3,
    RemoveArgs,
    RenameArgs,
    StableHow,
)
from freepage_proto.rpc import Procedure
from freepage_runtime.errors import UserError
from freepage_server.io import nodes
from freepage_server.io.directory import DirectoryStorage
from freepage_server.io.node import Node
from freepage_server.io.state import InodeTable, ServerState, default_state_directory
from freepage_server.nfsd.errors import NfsError
from freepage_server.nfsd.handles import HandleCodec, export_id
from freepage_server.nfsd.storage import Key
from nfsd_rig import Rig

P = Procedure


class Machine:
    """A server machine with one export and its state directory, on which servers start and end."""

    def __init__(self, path: Path) -> None:
        self.export = path / "export"
        self.export.mkdir()
        self.tables = path / "tables"
        self.tables.mkdir()
        self.opened: list[InodeTable] = []

    def table(self, root: Key) -> InodeTable:
        self.opened.append(InodeTable(self.tables / root.hex()))
        return self.opened[-1]

    def start(self) -> Rig:
        return Rig("directory", self.export, table=self.table, export={"sync": True})

    def kill(self, rig: Rig) -> None:
        """End a server without letting it write what it had in mind."""
        self.opened[-1]._pending.clear()
        rig.close()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def storage_of(rig: Rig) -> DirectoryStorage:
    assert isinstance(rig.storage, DirectoryStorage)
    return rig.storage


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def status(rig: Rig, handle: FileHandle) -> NfsStat3:
    result = await rig.call(P.GETATTR, GetattrArgs(handle))
    found: NfsStat3 = result.status
    return found


def test_handles_survive_the_server(machine: Machine) -> None:
    async def story() -> None:
        rig = machine.start()
        d = await rig.mkdir(b"d")
        f = await rig.create(b"f", d)
        g = await rig.create(b"g", d)
        await rig.write(f, 0, b"data", StableHow.FILE_SYNC)
        await rig.call(P.RENAME, RenameArgs(d, b"g", rig.root, b"moved"))
        machine.kill(rig)
        rig = machine.start()
        assert await rig.read(f) == b"data"
        assert (await rig.getattr(d)).type is FType3.DIR
        assert (await rig.getattr(g)).fileid == (machine.export / "moved").stat().st_ino
        assert await rig.lookup(d, b"f") == f
        assert await rig.lookup(d, b"..") == rig.root
        assert all(len(handle) <= 64 for handle in (rig.root, d, f, g))
        rig.close()

    asyncio.run(story())


def test_handles_survive_moving_the_export(machine: Machine, tmp_path: Path) -> None:
    async def story() -> None:
        rig = machine.start()
        f = await rig.create(b"f", await rig.mkdir(b"d"))
        rig.close()
        machine.export = machine.export.rename(tmp_path / "elsewhere")
        rig = machine.start()
        assert (await rig.getattr(f)).type is FType3.REG
        rig.close()

    asyncio.run(story())


def test_a_file_that_others_moved_is_searched_for(machine: Machine) -> None:
    async def story() -> None:
        rig = machine.start()
        d = await rig.mkdir(b"d")
        f = await rig.create(b"f", d)
        g = await rig.create(b"g", d)
        rig.close()
        deep = machine.export / "a" / "b" / "c"
        deep.mkdir(parents=True)
        (machine.export / "d" / "f").rename(deep / "other name")
        (machine.export / "d").rename(machine.export / "a" / "d2")
        rig = machine.start()
        assert (await rig.getattr(f)).fileid == (deep / "other name").stat().st_ino
        assert (await rig.getattr(g)).fileid == (machine.export / "a" / "d2" / "g").stat().st_ino
        assert await rig.lookup(d, b"g") == g
        rig.close()
        # What was found is found at once the next time.
        rig = machine.start()
        storage_of(rig)._find = None  # type: ignore[method-assign, assignment]
        assert await status(rig, f) is await status(rig, g) is NfsStat3.OK
        rig.close()

    asyncio.run(story())


def test_a_handle_that_was_never_written_down_is_searched_for(machine: Machine) -> None:
    async def story() -> None:
        (machine.export / "d").mkdir()
        for name in ("f", "d/g"):
            (machine.export / name).touch()
        (machine.export / "s").symlink_to("f")
        rig = machine.start()
        d = await rig.lookup(rig.root, b"d")
        handles = [await rig.lookup(rig.root, b"f"), await rig.lookup(d, b"g"), await rig.lookup(rig.root, b"s"), d]
        machine.kill(rig)
        rig = machine.start()
        assert {await status(rig, handle) for handle in reversed(handles)} == {NfsStat3.OK}
        assert await rig.lookup(rig.root, b"f") == handles[0]
        rig.close()

    asyncio.run(story())


def test_a_removed_file_is_stale_and_searched_for_once(machine: Machine) -> None:
    async def story() -> None:
        rig = machine.start()
        f = await rig.create(b"f")
        g = await rig.create(b"g")
        await rig.call(P.REMOVE, RemoveArgs(rig.root, b"g"))
        rig.close()
        (machine.export / "f").unlink()
        rig = machine.start()
        searches = 0
        find = storage_of(rig)._find

        def counted(node: Node) -> int:
            nonlocal searches
            searches += 1
            return find(node)

        storage_of(rig)._find = counted  # type: ignore[method-assign]
        for _ in range(3):
            assert await status(rig, f) is await status(rig, g) is NfsStat3.STALE
        assert searches == 2
        rig.close()

    asyncio.run(story())


def test_a_number_used_again_is_another_file_after_a_restart(machine: Machine) -> None:
    async def story() -> None:
        rig = machine.start()
        f = await rig.create(b"f")
        ino = (machine.export / "f").stat().st_ino
        rig.close()
        (machine.export / "f").unlink()
        for number in range(200):  # many file systems hand the number out again at once
            path = machine.export / ("f" if number == 0 else f"new{number}")
            path.touch()
            if path.stat().st_ino == ino:
                break
        else:
            pytest.skip("this file system does not use inode numbers again")
        rig = machine.start()
        assert await status(rig, f) is NfsStat3.STALE
        again = await rig.lookup(rig.root, os.fsencode(path.name))
        assert again != f
        assert await status(rig, again) is NfsStat3.OK
        assert await status(rig, f) is NfsStat3.STALE
        rig.close()
        rig = machine.start()
        assert await rig.lookup(rig.root, os.fsencode(path.name)) == again, "in the other order too"
        assert await status(rig, f) is NfsStat3.STALE
        rig.close()

    asyncio.run(story())


def test_a_search_ends(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "MAX_SEARCHED", 10)

    async def story() -> None:
        rig = machine.start()
        f = await rig.create(b"f", await rig.mkdir(b"d"))
        rig.close()
        for number in range(20):
            (machine.export / f"x{number}").touch()
        deep = machine.export / "e" / "e"
        deep.mkdir(parents=True)
        (machine.export / "d" / "f").rename(deep / "f")
        rig = machine.start()
        assert await status(rig, f) is NfsStat3.STALE
        e = await rig.lookup(await rig.lookup(rig.root, b"e"), b"e")
        assert await rig.lookup(e, b"f") == f, "whoever looks it up finds it"
        assert await status(rig, f) is NfsStat3.OK
        rig.close()

    asyncio.run(story())


def test_a_search_leads_nowhere_else(machine: Machine, tmp_path: Path) -> None:
    async def story() -> None:
        rig = machine.start()
        f = await rig.create(b"f")
        rig.close()
        outside = tmp_path / "outside"
        outside.mkdir()
        (machine.export / "f").rename(outside / "f")
        (machine.export / "way").symlink_to(outside)
        rig = machine.start()
        assert await status(rig, f) is NfsStat3.STALE
        rig.close()

    asyncio.run(story())


def test_memory_is_bounded(machine: Machine) -> None:
    async def story() -> None:
        rig = machine.start()
        storage = storage_of(rig)
        storage._max_nodes, storage._max_held = 16, 4
        directories = [await rig.mkdir(b"d%d" % number) for number in range(10)]
        files = [await rig.create(b"f%d" % n, d) for d in directories for n in range(10)]
        assert len(storage._nodes) <= 17
        for handle in (*files, *directories, *reversed(files)):
            assert await status(rig, handle) is NfsStat3.OK
            assert len(storage._nodes) <= 20
            assert len(storage._held) <= 5
        assert await rig.lookup(directories[3], b"f7") == files[37]
        before = open_descriptors()
        held = len(storage._held)
        rig.close()
        assert open_descriptors() <= before - held, "none was lost"

    asyncio.run(story())


def test_reported_times_survive_the_server(machine: Machine) -> None:
    async def story() -> None:
        rig = machine.start()
        f = await rig.create(b"f")
        await rig.write(f, 0, b"x" * 5000)
        reported = await rig.getattr(f)
        await asyncio.sleep(0.03)  # the file system's clock moves on before the data are written
        await rig.call(P.COMMIT, CommitArgs(f))
        machine.kill(rig)
        assert (machine.export / "f").stat().st_ctime_ns > reported.ctime_ns
        rig = machine.start()
        again = await rig.getattr(f)
        assert (again.mtime_ns, again.ctime_ns, again.size) == (reported.mtime_ns, reported.ctime_ns, 5000)
        os.utime(machine.export / "f", ns=(reported.atime_ns, reported.mtime_ns))
        changed = (machine.export / "f").stat().st_ctime_ns
        assert (await rig.getattr(f)).ctime_ns == changed > reported.ctime_ns, "a true change shows"
        rig.close()
        rig = machine.start()
        assert (await rig.getattr(f)).ctime_ns == changed
        rig.close()

    asyncio.run(story())


def test_the_table_is_written_by_itself(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "FLUSH_AFTER_S", 0.0)

    async def story() -> None:
        for number in range(3):
            (machine.export / f"f{number}").touch()
        rig = Rig("directory", machine.export, table=machine.table, offload=True)
        table = machine.opened[-1]
        written = asyncio.Event()
        loop = asyncio.get_running_loop()
        write: Callable[[], None] = table.write

        def write_and_tell() -> None:
            write()
            loop.call_soon_threadsafe(written.set)

        table.write = write_and_tell  # type: ignore[method-assign]
        handles = [await rig.lookup(rig.root, b"f%d" % number) for number in range(3)]
        await written.wait()
        with sqlite3.connect(table.path) as reader:
            assert reader.execute("SELECT count(*) FROM inode").fetchone() == (3,)
        reader.close()
        assert {await status(rig, handle) for handle in handles} == {NfsStat3.OK}
        rig.close()

    asyncio.run(story())


def test_a_damaged_table_is_put_aside(machine: Machine, tmp_path: Path) -> None:
    path = machine.tables / "t.sqlite"
    path.write_bytes(b"this is no database" * 1000)
    table = InodeTable(path)
    assert table.get(b"x" * 16) is None
    table.close()
    assert path.with_suffix(".damaged").exists()


def test_a_state_directory_is_for_one_server(tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "state"
    state = ServerState(directory)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    secret = state.secret()
    assert stat.S_IMODE((directory / "handle-key").stat().st_mode) == 0o600
    with pytest.raises(UserError, match="another server uses the state directory"):
        ServerState(directory)
    state.close()
    again = ServerState(directory)
    assert again.secret() == secret
    again.close()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--state"):
        ServerState(tmp_path / "file" / "state")


def test_a_key_that_is_too_old_is_made_anew(tmp_path: Path) -> None:
    state = ServerState(tmp_path / "state")
    key = state.secret()
    assert state.secret(max_age_s=3600.0) == key
    long_ago_s = time.time() - 7200.0
    os.utime(tmp_path / "state" / "handle-key", (long_ago_s, long_ago_s))
    assert state.secret() == key
    fresh = state.secret(max_age_s=3600.0)
    assert fresh != key
    assert state.secret(max_age_s=3600.0) == fresh
    assert HandleCodec(fresh).encode(1, b"k" * 16) != HandleCodec(key).encode(1, b"k" * 16)
    with pytest.raises(NfsError):
        HandleCodec(fresh).decode(HandleCodec(key).encode(1, b"k" * 16))
    state.close()


def test_a_handle_of_one_export_opens_no_other(tmp_path: Path) -> None:
    """Not with another export's id in it, and no bit of it may differ; whoever has the key may say what he likes."""
    codec = HandleCodec(b"secret")
    handle = codec.encode(export_id("/a"), b"k" * 16)
    assert codec.decode(handle) == (export_id("/a"), b"k" * 16)
    assert len(handle) <= NFS3_FHSIZE
    forged = [handle[:1] + export_id("/b").to_bytes(8, "big") + handle[9:], handle + b"\0", handle[:-1]]
    for bit in range(8 * len(handle)):
        changed = bytearray(handle)
        changed[bit // 8] ^= 1 << bit % 8
        forged.append(bytes(changed))
    for each in forged:
        with pytest.raises(NfsError) as caught:
            codec.decode(each)
        assert caught.value.status is NfsStat3.BADHANDLE


def test_where_state_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FREEPAGE_STATE_DIR", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", "/var/x")
    assert default_state_directory("a/../b") == Path("/var/x/freepage/server-a_.._b")
    monkeypatch.setenv("FREEPAGE_STATE_DIR", "/var/y")
    assert default_state_directory("s") == Path("/var/y/server-s")
