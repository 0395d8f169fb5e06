"""An export on a real directory: nothing leads outside, handles follow their files, and no descriptor is left open."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from freepage_proto.nfs3 import (
    FType3,
    GetattrArgs,
    LookupArgs,
    NfsStat3,
    ReadArgs,
    ReaddirplusArgs,
    RemoveArgs,
    RenameArgs,
    StableHow,
    SymlinkArgs,
)
from freepage_proto.rpc import Procedure
from freepage_server.io.directory import DirectoryStorage
from nfsd_rig import Rig

P = Procedure


@pytest.fixture
def export(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("outside")
    path = tmp_path / "export"
    path.mkdir()
    return path


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_what_cannot_be_exported(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        DirectoryStorage(tmp_path / "nothing")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        DirectoryStorage(tmp_path / "file")


def test_symlinks_lead_nowhere(export: Path) -> None:
    async def story() -> None:
        rig = Rig("directory", export)
        (export / "up").symlink_to("..")
        (export / "file").symlink_to("../secret")
        (export / "slash").symlink_to("/")
        for name in (b"up", b"file", b"slash"):
            link = await rig.lookup(rig.root, name)
            assert (await rig.getattr(link)).type is FType3.LNK
            assert (await rig.call(P.LOOKUP, LookupArgs(link, b"secret"))).status is NfsStat3.NOTDIR
            assert (await rig.call(P.READ, ReadArgs(link, 0, 100))).status is NfsStat3.INVAL
        rig.close()

    asyncio.run(story())


def test_a_name_replaced_by_a_symlink_does_not_redirect_a_handle(export: Path) -> None:
    async def story() -> None:
        rig = Rig("directory", export)
        d = await rig.mkdir(b"d")
        f = await rig.create(b"f", d)
        await rig.write(f, 0, b"inside", StableHow.FILE_SYNC)
        (export / "d").rename(export / "moved")
        (export / "d").symlink_to("..")
        (export / "moved" / "f").rename(export / "moved" / "g")
        (export / "moved" / "f").symlink_to("../../secret")
        assert await rig.read(f) == b"inside"
        assert (await rig.call(P.LOOKUP, LookupArgs(d, b"secret"))).status is NfsStat3.NOENT
        assert await rig.lookup(d, b"..") == rig.root
        rig.close()

    asyncio.run(story())


def test_a_handle_whose_descriptor_was_closed_finds_its_file_or_is_stale(export: Path) -> None:
    async def story() -> None:
        rig = Rig("directory", export)
        assert isinstance(rig.storage, DirectoryStorage)
        storage = rig.storage
        storage._max_held = 2
        a = await rig.create(b"a")
        b = await rig.create(b"b")
        c = await rig.create(b"c")

        async def let_go() -> None:
            for number in range(4):
                await rig.mkdir(b"other%d" % number)
            for handle in (a, b, c):
                assert storage._nodes[rig.server.handles.decode(handle)[1]].fd is None
            for number in range(4):
                await rig.call(P.RMDIR, RemoveArgs(rig.root, b"other%d" % number))

        await let_go()
        (export / "a").rename(export / "renamed")
        assert (await rig.getattr(a)).type is FType3.REG, "found by its number in the directory it was in"
        await let_go()
        (export / "b").unlink()
        assert (await rig.call(P.GETATTR, GetattrArgs(b))).status is NfsStat3.STALE
        (export / "c").unlink()
        (export / "c").symlink_to("../secret")
        assert (await rig.call(P.GETATTR, GetattrArgs(c))).status is NfsStat3.STALE
        assert (await rig.call(P.READ, ReadArgs(c, 0, 10))).status is NfsStat3.STALE
        rig.close()

    asyncio.run(story())


def test_a_descriptor_in_use_is_not_closed_to_make_room(export: Path) -> None:
    async def story() -> None:
        rig = Rig("directory", export)
        assert isinstance(rig.storage, DirectoryStorage)
        storage = rig.storage
        storage._max_held = 4
        used, unused = await rig.create(b"used"), await rig.create(b"unused")
        nodes = [storage._nodes[rig.server.handles.decode(handle)[1]] for handle in (used, unused)]
        for number in range(20):
            await rig.getattr(used)
            await rig.mkdir(b"d%d" % number)
            assert nodes[0].fd is not None
        assert nodes[1].fd is None
        rig.close()

    asyncio.run(story())


def test_a_number_used_again_is_another_file(export: Path) -> None:
    async def story() -> None:
        rig = Rig("directory", export)
        assert isinstance(rig.storage, DirectoryStorage)
        rig.storage._max_held = 2
        f = await rig.create(b"f")
        ino = (export / "f").stat().st_ino
        for number in range(4):
            await rig.mkdir(b"d%d" % number)
        (export / "f").unlink()
        for number in range(200):  # many file systems hand the number out again at once
            (export / f"new{number}").touch()
            if (export / f"new{number}").stat().st_ino == ino:
                again = await rig.lookup(rig.root, b"new%d" % number)
                assert again != f
                break
        assert (await rig.call(P.GETATTR, GetattrArgs(f))).status is NfsStat3.STALE
        rig.close()

    asyncio.run(story())


def test_handles_survive_a_restart_when_the_file_is_looked_up_again(export: Path) -> None:
    async def story() -> None:
        rig = Rig("directory", export)
        f = await rig.create(b"f")
        rig.close()
        again = Rig("directory", export)
        assert again.root == rig.root
        assert await again.lookup(again.root, b"f") == f
        again.close()

    asyncio.run(story())


def test_local_changes_of_names_show_at_once(export: Path) -> None:
    async def story() -> None:
        rig = Rig("directory", export)
        for number in range(30):
            (export / f"f{number}").touch()
        args = ReaddirplusArgs(rig.root, 0, bytes(8), 4096, 1 << 16)
        assert len((await rig.call(P.READDIRPLUS, args)).entries) == 32
        (export / "one more").touch()
        (export / "f3").unlink()
        names = [entry.name for entry in (await rig.call(P.READDIRPLUS, args)).entries]
        assert b"one more" in names
        assert b"f3" not in names
        rig.close()

    asyncio.run(story())


def test_a_listing_is_kept_between_the_readdirs_of_one_listing(export: Path) -> None:
    async def story() -> None:
        rig = Rig("directory", export)
        assert isinstance(rig.storage, DirectoryStorage)
        (export / "f").touch()
        os.utime(export, ns=(1, 1))
        rig.storage.now_ns = lambda: export.stat().st_ctime_ns + 10**9  # type: ignore[method-assign]
        await rig.task.listdir("/")
        assert len(rig.storage._listings) == 1
        (export / "g").touch()
        assert sorted(await rig.task.listdir("/")) == [b"f", b"g"]
        rig.close()

    asyncio.run(story())


def test_mode_and_owner_are_as_asked_whatever_the_umask(export: Path) -> None:
    async def story() -> None:
        rig = Rig("directory", export)
        before = os.umask(0o077)
        try:
            f = await rig.create(b"f", mode=0o666)
            d = await rig.mkdir(b"d", mode=0o777)
        finally:
            os.umask(before)
        assert (await rig.getattr(f)).mode == 0o666
        assert (await rig.getattr(d)).mode == 0o777
        assert (export / "f").stat().st_mode & 0o7777 == 0o666
        rig.close()

    asyncio.run(story())


def test_nothing_stays_open(export: Path) -> None:
    async def story() -> None:
        before = open_descriptors()
        rig = Rig("directory", export, offload=True)
        for number in range(20):
            f = await rig.create(b"f%d" % number)
            await rig.write(f, 0, b"x", StableHow.FILE_SYNC)
            await rig.read(f)
        await rig.call(P.RENAME, RenameArgs(rig.root, b"f0", rig.root, b"f1"))
        await rig.call(P.REMOVE, RemoveArgs(rig.root, b"f1"))
        await rig.call(P.SYMLINK, SymlinkArgs(rig.root, b"s", b"t"))
        await rig.call(P.LOOKUP, LookupArgs(rig.root, b"nothing"))
        await rig.server.stop()
        rig.close()
        assert open_descriptors() == before

    asyncio.run(story())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_another_file_system_inside_is_not_entered(export: Path) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    inside = export / "mounted"
    inside.mkdir()
    if libc.mount(b"none", os.fsencode(inside), b"tmpfs", 0, b"size=64k") != 0:
        pytest.skip("mounting is not allowed here")
    try:

        async def story() -> None:
            rig = Rig("directory", export)
            assert (await rig.call(P.LOOKUP, LookupArgs(rig.root, b"mounted"))).status is NfsStat3.ACCES
            args = ReaddirplusArgs(rig.root, 0, bytes(8), 4096, 1 << 16)
            entry = (await rig.call(P.READDIRPLUS, args)).entries[-1]
            assert (entry.name, entry.object) == (b"mounted", None)
            rig.close()

        asyncio.run(story())
    finally:
        assert libc.umount(os.fsencode(inside)) == 0
