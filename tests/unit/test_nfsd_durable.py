"""What is on disk before the reply, on `sync` exports and others; and write-back that no client can see."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from freepage_proto.nfs3 import (
    CommitArgs,
    CreateArgs,
    CreateMode3,
    FType3,
    LinkArgs,
    MkdirArgs,
    MknodArgs,
    NfsStat3,
    RemoveArgs,
    RenameArgs,
    Sattr3,
    SetattrArgs,
    StableHow,
    SymlinkArgs,
    WriteArgs,
)
from freepage_proto.rpc import Procedure
from nfsd_rig import Rig

P = Procedure


def number(path: Path) -> int:
    return path.stat().st_ino


@pytest.mark.parametrize("sync", [True, False])
def test_metadata_is_on_disk_before_the_reply(tmp_path: Path, sync: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: set[int] = set()
    fsync = os.fsync

    def recorded(fd: int) -> None:
        fsync(fd)
        synced.add(os.fstat(fd).st_ino)

    monkeypatch.setattr(os, "fsync", recorded)

    async def story() -> None:
        rig = Rig("directory", tmp_path, export={"sync": sync})
        d, e, f = await rig.mkdir(b"d"), await rig.mkdir(b"e"), await rig.create(b"f")
        root, ino_d, ino_e, ino_f = (number(tmp_path / name) for name in (".", "d", "e", "f"))

        async def does(procedure: Procedure, args: object, *inodes: int) -> Any:
            synced.clear()
            result = await rig.call(procedure, args)
            assert result.status is NfsStat3.OK, (procedure, result)
            assert synced >= set(inodes) if sync else not synced, procedure
            return result

        await does(P.SETATTR, SetattrArgs(f, Sattr3(mode=0o600)), ino_f)
        await does(P.SETATTR, SetattrArgs(f, Sattr3(mtime_ns=10**18)), ino_f)
        await does(P.SETATTR, SetattrArgs(f, Sattr3(size=100)), ino_f)
        await does(P.SETATTR, SetattrArgs(d, Sattr3(mode=0o700)), ino_d)
        await does(P.CREATE, CreateArgs(d, b"a", CreateMode3.GUARDED, Sattr3(mode=0o600)), ino_d)
        assert not sync or number(tmp_path / "d" / "a") in synced
        await does(P.CREATE, CreateArgs(d, b"x", CreateMode3.EXCLUSIVE, Sattr3(), b"verifier"), ino_d)
        await does(
            P.CREATE, CreateArgs(d, b"a", CreateMode3.UNCHECKED, Sattr3(size=0)), (tmp_path / "d/a").stat().st_ino
        )
        await does(P.MKDIR, MkdirArgs(d, b"m", Sattr3(mode=0o755)), ino_d)
        link = (await does(P.SYMLINK, SymlinkArgs(d, b"s", b"target"), ino_d)).object
        await does(P.SETATTR, SetattrArgs(link, Sattr3(mtime_ns=10**18)), ino_d)
        await does(P.MKNOD, MknodArgs(d, b"p", FType3.FIFO, Sattr3(mode=0o600)), ino_d)
        await does(P.LINK, LinkArgs(f, d, b"l"), ino_d, ino_f)
        await does(P.RENAME, RenameArgs(d, b"l", e, b"l"), ino_d, ino_e)
        await does(P.REMOVE, RemoveArgs(e, b"l"), ino_e)
        await does(P.RMDIR, RemoveArgs(d, b"m"), ino_d)
        await does(P.RMDIR, RemoveArgs(rig.root, b"e"), root)
        for stable in (StableHow.DATA_SYNC, StableHow.FILE_SYNC):
            await does(P.WRITE, WriteArgs(f, 0, 4, stable, b"data"), ino_f)
        await rig.write(f, 0, b"more")
        await does(P.COMMIT, CommitArgs(f), ino_f)
        rig.close()

    asyncio.run(story())


def test_a_failed_sync_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(fd: int) -> None:
        raise OSError(5, "broken disk")

    async def story() -> None:
        rig = Rig("directory", tmp_path, export={"sync": True})
        f = await rig.create(b"f")
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", broken)
            assert (await rig.call(P.SETATTR, SetattrArgs(f, Sattr3(mode=0o600)))).status is NfsStat3.IO
            assert (await rig.call(P.MKDIR, MkdirArgs(rig.root, b"d", Sattr3()))).status is NfsStat3.IO
        rig.close()

    asyncio.run(story())
