"""What a server says of its exports: readable, gone, hanging, and made anew."""

from __future__ import annotations

import asyncio
import shutil
import threading
from pathlib import Path

import pytest

from freepage_proto.nfs3 import CreateArgs, CreateMode3, GetattrArgs, LookupArgs, NfsStat3, Sattr3
from freepage_proto.rpc import Procedure
from freepage_server.io.daemon import stop_nfsd
from freepage_server.io.directory import DirectoryStorage
from freepage_server.io.health import ExportWatch
from freepage_server.io.state import InodeTable
from nfsd_rig import Rig

P = Procedure


def test_a_hanging_export_is_unreadable_and_costs_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    looks = 0

    def hang() -> None:
        nonlocal looks
        looks += 1
        released.wait(30)

    async def story() -> None:
        rig = Rig("directory", tmp_path)
        watch = ExportWatch([rig.export], hangs_s=0.02)
        assert await watch.look() and watch.page().status == 200
        monkeypatch.setattr(rig.storage, "check_readable", hang)
        for _ in range(3):
            assert not await watch.look()
        assert looks == 1
        page = watch.page()
        assert (page.status, page.body.decode()) == (503, f"export /export: {tmp_path} does not answer\n")
        released.set()
        watch = ExportWatch([rig.export])
        assert await watch.look()
        watch.stop()
        assert (watch.page().status, watch.page().body) == (503, b"stopping\n")
        rig.close()

    try:
        asyncio.run(story())
    finally:
        released.set()


def test_changes_are_told_once(tmp_path: Path) -> None:
    async def story() -> None:
        export = tmp_path / "export"
        export.mkdir()
        rig = Rig("directory", export)
        told: list[bool] = []
        heard = asyncio.Semaphore(0)

        async def tell(well: bool) -> None:
            told.append(well)
            heard.release()

        watching = asyncio.ensure_future(ExportWatch([rig.export], every_s=0.005).watch(tell))
        await asyncio.sleep(0.05)
        assert told == [], "that all is well is no news"
        export.rmdir()
        await heard.acquire()
        export.mkdir()
        await heard.acquire()
        await asyncio.sleep(0.05)
        assert told == [False, True]
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        rig.close()

    asyncio.run(story())


def test_a_directory_made_anew_is_another_one(tmp_path: Path) -> None:
    export, state = tmp_path / "export", tmp_path / "state"
    export.mkdir()
    state.mkdir()

    async def story() -> None:
        rig = Rig("directory", export, table=lambda root: InodeTable(state / root.hex()))
        assert isinstance(rig.storage, DirectoryStorage)
        old_root, f = rig.root, await rig.create(b"f")
        await rig.write(f, 0, b"unwritten")
        assert not rig.storage.reopen(), "it is still there"
        shutil.rmtree(export)
        assert not rig.storage.reopen(), "there is none"
        export.mkdir()
        (export / "f").write_bytes(b"another")
        assert rig.storage.reopen()
        for handle in (old_root, f):
            assert (await rig.call(P.GETATTR, GetattrArgs(handle))).status is NfsStat3.STALE
        args = CreateArgs(old_root, b"g", CreateMode3.GUARDED, Sattr3(mode=0o644))
        assert (await rig.call(P.CREATE, args)).status is NfsStat3.STALE
        root = await rig.mount()
        assert root != old_root
        found = await rig.call(P.LOOKUP, LookupArgs(root, b"f"))
        assert await rig.read(found.object) == b"another"
        await rig.server.stop()
        assert (export / "f").read_bytes() == b"another", "what was unwritten belonged to the old one"
        rig.check()
        rig.close()

    asyncio.run(story())


@pytest.mark.parametrize("flusher_is_at_it", [False, True])
def test_a_disk_that_hangs_does_not_keep_the_server_from_stopping(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, flusher_is_at_it: bool
) -> None:
    async def story() -> None:
        rig = Rig("directory", tmp_path)
        writing = asyncio.Event()

        async def hang(*args: object) -> None:
            writing.set()
            await asyncio.Event().wait()

        f = await rig.create(b"f")
        await rig.write(f, 0, b"data")
        rig.storage.write = hang  # type: ignore[method-assign,assignment]
        if flusher_is_at_it:
            await rig.server.start()
            rig.server._flusher._begin(rig.server.files.bdi.wb.writeback_all(sync=False))
            await writing.wait()
        await stop_nfsd(rig.server, 0.05)
        (record,) = [record for record in caplog.records if record.message == "gave up writing out"]
        assert record.freepage_fields == {"after_s": 0.05, "pages": 1}  # type: ignore[attr-defined]
        rig.close()

    asyncio.run(story())
