"""The procedures, each on memory and on a real directory: what they answer, refuse, and send along."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from freepage_proto.mount3 import MntArgs, MountStat3, UmntArgs
from freepage_proto.nfs3 import (
    SET_TO_SERVER_TIME,
    Access3,
    AccessArgs,
    CommitArgs,
    CreateArgs,
    CreateMode3,
    FsinfoArgs,
    FsstatArgs,
    FType3,
    GetattrArgs,
    LinkArgs,
    LookupArgs,
    MkdirArgs,
    MknodArgs,
    NfsStat3,
    NullArgs,
    PathconfArgs,
    ReadArgs,
    ReaddirArgs,
    ReaddirplusArgs,
    ReadlinkArgs,
    RemoveArgs,
    RenameArgs,
    Sattr3,
    SetattrArgs,
    StableHow,
    SymlinkArgs,
    WriteArgs,
)
from freepage_proto.nfsacl3 import AclMask, GetaclArgs
from freepage_proto.nlm4 import LockArgs, NlmLock, NlmStat4, UnlockArgs
from freepage_proto.rpc import AuthSys, Procedure, RpcGarbageArgs
from nfsd_rig import EPOCH_NS, KINDS, ME, ROOT, Rig

P = Procedure
OK = NfsStat3.OK

Play = Callable[..., None]


@pytest.fixture(params=KINDS)
def play(request: pytest.FixtureRequest, tmp_path: Path) -> Play:
    """Runs ``play(story)``: a coroutine function of a Rig, on a server of each kind."""

    def run(story: Callable[[Rig], Coroutine[Any, Any, None]], **settings: Any) -> None:
        async def whole() -> None:
            rig = Rig(request.param, tmp_path, **settings)
            try:
                await story(rig)
                rig.check()
                await rig.server.stop()
            finally:
                rig.close()

        asyncio.run(whole())

    return run


def test_every_procedure_has_a_handler_and_refuses_foreign_arguments(play: Play) -> None:
    async def story(rig: Rig) -> None:
        for procedure in Procedure:
            with pytest.raises(RpcGarbageArgs):
                await rig.call(procedure, "nonsense")
        for procedure in (P.NULL, P.MOUNT_NULL, P.NFSACL_NULL, P.NLM_NULL):
            await rig.call(procedure, NullArgs())
        assert rig.server.stats.by_procedure[P.NULL].calls == 1

    play(story)


# --- names -----------------------------------------------------------------------------------------------------------


def test_lookup(play: Play) -> None:
    async def story(rig: Rig) -> None:
        d = await rig.mkdir(b"d")
        f = await rig.create(b"f", d)
        found = await rig.call(P.LOOKUP, LookupArgs(d, b"f"))
        assert (found.status, found.object, found.attributes.type) == (OK, f, FType3.REG)
        assert found.dir_attributes.type is FType3.DIR
        missing = await rig.call(P.LOOKUP, LookupArgs(d, b"nothing"))
        assert missing.status is NfsStat3.NOENT
        assert missing.object is None
        assert missing.dir_attributes is not None
        assert await rig.lookup(d, b".") == d
        assert await rig.lookup(d, b"..") == rig.root
        assert await rig.lookup(rig.root, b"..") == rig.root
        assert (await rig.call(P.LOOKUP, LookupArgs(f, b"x"))).status is NfsStat3.NOTDIR

    play(story)


@pytest.mark.parametrize(
    ("name", "status"),
    [
        (b"", NfsStat3.ACCES),
        (b"a/b", NfsStat3.INVAL),
        (b"../etc", NfsStat3.INVAL),
        (b"nul\0", NfsStat3.INVAL),
        (b"x" * 256, NfsStat3.NAMETOOLONG),
    ],
)
def test_hostile_names(play: Play, name: bytes, status: NfsStat3) -> None:
    async def story(rig: Rig) -> None:
        f = await rig.create(b"f")
        calls = [
            (P.LOOKUP, LookupArgs(rig.root, name)),
            (P.CREATE, CreateArgs(rig.root, name, CreateMode3.UNCHECKED)),
            (P.MKDIR, MkdirArgs(rig.root, name)),
            (P.REMOVE, RemoveArgs(rig.root, name)),
            (P.RMDIR, RemoveArgs(rig.root, name)),
        ]
        for procedure, args in calls:
            assert (await rig.call(procedure, args)).status is status, procedure
        assert (await rig.call(P.LINK, LinkArgs(f, rig.root, name))).status is not OK
        assert (await rig.call(P.RENAME, RenameArgs(rig.root, b"f", rig.root, name))).status is not OK
        assert [e.name for e in (await _list(rig, rig.root))] == [b".", b"..", b"f"]

    play(story)


@pytest.mark.parametrize("name", [b"\xff\xfe not utf-8", b"x" * 255, b" ", b"-rf", b"a\nb"])
def test_odd_names_are_names(play: Play, name: bytes) -> None:
    async def story(rig: Rig) -> None:
        f = await rig.create(name)
        assert await rig.lookup(rig.root, name) == f
        assert [e.name for e in await _list(rig, rig.root)] == [b".", b"..", name]
        assert (await rig.call(P.REMOVE, RemoveArgs(rig.root, name))).status is OK

    play(story)


def test_create_unchecked_takes_what_is_there_and_cuts_it(play: Play) -> None:
    async def story(rig: Rig) -> None:
        f = await rig.create(b"f")
        await rig.write(f, 0, b"x" * 5000)
        again = await rig.call(P.CREATE, CreateArgs(rig.root, b"f", CreateMode3.UNCHECKED, Sattr3(mode=0o600)))
        assert (again.status, again.object, again.attributes.size) == (OK, f, 5000)
        assert again.attributes.mode == 0o644, "only the size counts for a file that is there"
        assert again.dir_wcc.before is None, "nothing was made, so knfsd saves nothing"
        cut = await rig.call(P.CREATE, CreateArgs(rig.root, b"f", CreateMode3.UNCHECKED, Sattr3(size=0)))
        assert cut.attributes.size == 0

    play(story)


def test_create_guarded_refuses_what_is_there(play: Play) -> None:
    async def story(rig: Rig) -> None:
        await rig.create(b"f")
        again = await rig.call(P.CREATE, CreateArgs(rig.root, b"f", CreateMode3.GUARDED))
        assert again.status is NfsStat3.EXIST
        assert again.dir_wcc.before is None
        assert again.dir_wcc.after is not None

    play(story)


def test_create_exclusive_knows_its_own_retry(play: Play) -> None:
    async def story(rig: Rig) -> None:
        args = CreateArgs(rig.root, b"f", CreateMode3.EXCLUSIVE, verf=b"\xff\0\0\1abcd")
        first = await rig.call(P.CREATE, args)
        again = await rig.call(P.CREATE, args)
        assert first.status is again.status is OK
        assert first.object == again.object
        other = await rig.call(P.CREATE, CreateArgs(rig.root, b"f", CreateMode3.EXCLUSIVE, verf=b"12345678"))
        assert other.status is NfsStat3.EXIST
        # What the Linux client does next makes an ordinary file of it, and ends the retries.
        times = Sattr3(mode=0o644, atime_ns=SET_TO_SERVER_TIME, mtime_ns=SET_TO_SERVER_TIME)
        assert (await rig.call(P.SETATTR, SetattrArgs(first.object, times))).status is OK
        assert (await rig.call(P.CREATE, args)).status is NfsStat3.EXIST

    play(story)


def test_directories_count_their_subdirectories(play: Play) -> None:
    async def story(rig: Rig) -> None:
        d = await rig.mkdir(b"d")
        if (await rig.getattr(d)).nlink != 2:
            pytest.skip("this file system does not count the links of a directory")
        await rig.mkdir(b"e", d)
        await rig.create(b"f", d)
        assert (await rig.getattr(d)).nlink == 3
        full = await rig.call(P.RMDIR, RemoveArgs(rig.root, b"d"))
        assert full.status is NfsStat3.NOTEMPTY
        assert full.dir_wcc.before is not None
        assert (await rig.call(P.RENAME, RenameArgs(d, b"e", rig.root, b"e"))).status is OK
        assert (await rig.getattr(d)).nlink == 2
        assert (await rig.getattr(rig.root)).nlink == 4
        assert (await rig.call(P.RMDIR, RemoveArgs(rig.root, b"e"))).status is OK
        assert (await rig.getattr(rig.root)).nlink == 3

    play(story)


def test_remove_makes_handles_stale_with_the_last_link(play: Play) -> None:
    async def story(rig: Rig) -> None:
        f = await rig.create(b"f")
        await rig.write(f, 0, b"data")
        linked = await rig.call(P.LINK, LinkArgs(f, rig.root, b"g"))
        assert (linked.status, linked.attributes.nlink) == (OK, 2)
        assert linked.dir_wcc.before is not None
        taken = await rig.call(P.LINK, LinkArgs(f, rig.root, b"g"))
        assert taken.status is NfsStat3.EXIST
        assert taken.attributes is not None
        assert taken.dir_wcc.before is not None
        removed = await rig.call(P.REMOVE, RemoveArgs(rig.root, b"f"))
        assert removed.dir_wcc.before is not None
        assert (await rig.getattr(f)).nlink == 1
        assert await rig.read(f) == b"data"
        assert (await rig.call(P.REMOVE, RemoveArgs(rig.root, b"g"))).status is OK
        for procedure, args in [
            (P.GETATTR, GetattrArgs(f)),
            (P.READ, ReadArgs(f, 0, 1)),
            (P.WRITE, WriteArgs(f, 0, 1, StableHow.UNSTABLE, b"x")),
            (P.SETATTR, SetattrArgs(f, Sattr3(mode=0o600))),
            (P.COMMIT, CommitArgs(f)),
            (P.LINK, LinkArgs(f, rig.root, b"h")),
            (P.FSINFO, FsinfoArgs(f)),
        ]:
            assert (await rig.call(procedure, args)).status is NfsStat3.STALE, procedure
        gone = await rig.call(P.REMOVE, RemoveArgs(rig.root, b"g"))
        assert gone.status is NfsStat3.NOENT
        assert gone.dir_wcc.before is None

    play(story)


def test_remove_and_rmdir_each_refuse_the_other_kind(play: Play) -> None:
    async def story(rig: Rig) -> None:
        await rig.create(b"f")
        await rig.mkdir(b"d")
        assert (await rig.call(P.REMOVE, RemoveArgs(rig.root, b"d"))).status is NfsStat3.ISDIR
        assert (await rig.call(P.RMDIR, RemoveArgs(rig.root, b"f"))).status is NfsStat3.NOTDIR

    play(story)


def test_rename(play: Play) -> None:
    async def story(rig: Rig) -> None:
        f = await rig.create(b"f")
        g = await rig.create(b"g")
        d = await rig.mkdir(b"d")
        e = await rig.mkdir(b"e", d)

        async def rename(from_dir: bytes, name: bytes, to_dir: bytes, to_name: bytes) -> NfsStat3:
            result = await rig.call(P.RENAME, RenameArgs(from_dir, name, to_dir, to_name))
            assert result.from_dir_wcc.after is not None
            assert result.to_dir_wcc.after is not None
            status: NfsStat3 = result.status
            return status

        assert await rename(rig.root, b"f", d, b"f") is OK
        assert await rig.lookup(d, b"f") == f, "a handle survives its file's rename"
        assert await rename(d, b"f", rig.root, b"g") is OK
        assert (await rig.call(P.GETATTR, GetattrArgs(g))).status is NfsStat3.STALE
        assert await rename(rig.root, b"g", rig.root, b"g") is OK
        assert await rename(rig.root, b"nothing", d, b"x") is NfsStat3.NOENT
        assert await rename(rig.root, b"g", rig.root, b"d") is NfsStat3.ISDIR
        assert await rename(rig.root, b"d", rig.root, b"g") is NfsStat3.NOTDIR
        assert await rename(rig.root, b"d", e, b"d") is NfsStat3.INVAL
        assert await rename(d, b"e", rig.root, b"d") is NfsStat3.NOTEMPTY
        assert await rename(rig.root, b".", d, b"x") is NfsStat3.PERM
        assert await rename(d, b"e", rig.root, b"e") is OK
        assert await rig.lookup(e, b"..") == rig.root

    play(story)


def test_symlinks_are_read_and_never_followed(play: Play) -> None:
    async def story(rig: Rig) -> None:
        made = await rig.call(P.SYMLINK, SymlinkArgs(rig.root, b"s", b"/etc/passwd"))
        assert (made.status, made.attributes.type, made.attributes.size) == (OK, FType3.LNK, 11)
        s = made.object
        assert (await rig.call(P.READLINK, ReadlinkArgs(s))).path == b"/etc/passwd"
        assert (await rig.call(P.READ, ReadArgs(s, 0, 10))).status is NfsStat3.INVAL
        assert (await rig.call(P.LOOKUP, LookupArgs(s, b"x"))).status is NfsStat3.NOTDIR
        assert (await rig.call(P.READLINK, ReadlinkArgs(rig.root))).status is NfsStat3.INVAL
        assert (await rig.call(P.SETATTR, SetattrArgs(s, Sattr3(mode=0o600)))).status is OK
        assert (await rig.getattr(s)).mode == 0o777

    play(story)


def test_special_files(play: Play) -> None:
    async def story(rig: Rig) -> None:
        fifo = await rig.call(P.MKNOD, MknodArgs(rig.root, b"p", FType3.FIFO, Sattr3(mode=0o640)))
        assert (fifo.status, fifo.attributes.type, fifo.attributes.mode) == (OK, FType3.FIFO, 0o640)
        assert (await rig.call(P.READ, ReadArgs(fifo.object, 0, 1))).status is NfsStat3.INVAL
        wrong = await rig.call(P.MKNOD, MknodArgs(rig.root, b"q", FType3.REG))
        assert wrong.status is NfsStat3.BADTYPE

    play(story)


# --- attributes ------------------------------------------------------------------------------------------------------


def test_setattr(play: Play) -> None:
    async def story(rig: Rig) -> None:
        f = await rig.create(b"f")
        await rig.write(f, 0, b"x" * 10_000)
        result = await rig.call(P.SETATTR, SetattrArgs(f, Sattr3(mode=0o600, mtime_ns=123_000_000_456)))
        assert (result.wcc.before.size, result.wcc.after.mode) == (10_000, 0o600)
        assert result.wcc.after.mtime_ns == 123_000_000_456
        cut = await rig.call(P.SETATTR, SetattrArgs(f, Sattr3(size=3)))
        assert cut.wcc.after.size == 3
        assert cut.wcc.after.mtime_ns != 123_000_000_456, "a cut is a change of the data"
        assert await rig.read(f) == b"xxx"
        await rig.call(P.SETATTR, SetattrArgs(f, Sattr3(size=8)))
        assert await rig.read(f) == b"xxx" + bytes(5)
        nothing = await rig.call(P.SETATTR, SetattrArgs(f, Sattr3()))
        assert (nothing.status, nothing.wcc.before) == (OK, None)

    play(story)


def test_setattr_guard(play: Play) -> None:
    async def story(rig: Rig) -> None:
        f = await rig.create(b"f")
        ctime_ns = (await rig.getattr(f)).ctime_ns
        late = await rig.call(P.SETATTR, SetattrArgs(f, Sattr3(mode=0o600), ctime_ns - 1))
        assert late.status is NfsStat3.NOT_SYNC
        assert (await rig.call(P.SETATTR, SetattrArgs(f, Sattr3(mode=0o600), ctime_ns))).status is OK

    play(story)


def test_setattr_size_is_for_files(play: Play) -> None:
    async def story(rig: Rig) -> None:
        d = await rig.mkdir(b"d")
        s = (await rig.call(P.SYMLINK, SymlinkArgs(rig.root, b"s", b"t"))).object
        assert (await rig.call(P.SETATTR, SetattrArgs(d, Sattr3(size=0)))).status is NfsStat3.ISDIR
        assert (await rig.call(P.SETATTR, SetattrArgs(s, Sattr3(size=0)))).status is NfsStat3.INVAL

    play(story)


def test_access_answers_by_mode(play: Play) -> None:
    async def story(rig: Rig) -> None:
        f = await rig.create(b"f", mode=0o640)
        everything = Access3(0x3F)
        stranger = AuthSys(ME.uid + 7, ME.gid + 7)
        grouped = AuthSys(ME.uid + 7, ME.gid + 7, (ME.gid,))

        async def access(cred: AuthSys, object: bytes = f) -> Access3:
            answer: Access3 = (await rig.call(P.ACCESS, AccessArgs(object, everything), cred)).access
            return answer

        assert await access(ROOT) == Access3.READ | Access3.MODIFY | Access3.EXTEND, "nobody may execute it"
        assert await access(grouped) == Access3.READ
        assert await access(stranger) == Access3(0)
        assert await access(stranger, rig.root) & (Access3.READ | Access3.LOOKUP)
        assert not await access(stranger, rig.root) & Access3.MODIFY
        only = await rig.call(P.ACCESS, AccessArgs(f, Access3.READ))
        assert only.access == Access3.READ, "no more than was asked"

    play(story)


def test_permissions_are_enforced(play: Play) -> None:
    async def story(rig: Rig) -> None:
        f = await rig.create(b"f", mode=0o600)
        stranger = AuthSys(ME.uid + 7, ME.gid + 7)
        for procedure, args, status in [
            (P.READ, ReadArgs(f, 0, 1), NfsStat3.ACCES),
            (P.WRITE, WriteArgs(f, 0, 1, StableHow.UNSTABLE, b"x"), NfsStat3.ACCES),
            (P.SETATTR, SetattrArgs(f, Sattr3(mode=0o777)), NfsStat3.PERM),
            (P.SETATTR, SetattrArgs(f, Sattr3(uid=ME.uid + 7)), NfsStat3.PERM),
            (P.SETATTR, SetattrArgs(f, Sattr3(atime_ns=SET_TO_SERVER_TIME)), NfsStat3.ACCES),
            (P.SETATTR, SetattrArgs(f, Sattr3(atime_ns=SET_TO_SERVER_TIME, mtime_ns=1)), NfsStat3.PERM),
            (P.SETATTR, SetattrArgs(f, Sattr3(size=0)), NfsStat3.ACCES),
            (P.CREATE, CreateArgs(rig.root, b"g", CreateMode3.UNCHECKED), NfsStat3.ACCES),
            (P.REMOVE, RemoveArgs(rig.root, b"f"), NfsStat3.ACCES),
            (P.RENAME, RenameArgs(rig.root, b"f", rig.root, b"g"), NfsStat3.ACCES),
        ]:
            assert (await rig.call(procedure, args, stranger)).status is status, procedure

    play(story)


def test_owner_may_write_a_file_without_write_permission(play: Play) -> None:
    """The client has checked at open; the server cannot know what was open (knfsd: NFSD_MAY_OWNER_OVERRIDE)."""

    async def story(rig: Rig) -> None:
        f = await rig.create(b"f", mode=0o444)
        await rig.write(f, 0, b"still open")
        assert await rig.read(f) == b"still open"

    play(story)


# --- data ------------------------------------------------------------------------------------------------------------


def test_read_and_write(play: Play) -> None:
    async def story(rig: Rig) -> None:
        f = await rig.create(b"f")
        wrote = await rig.write(f, 4090, b"across a page")
        assert (wrote.count, wrote.committed) == (13, StableHow.UNSTABLE)
        assert wrote.wcc.before is None
        assert wrote.wcc.after is not None
        assert wrote.wcc.after.size == 4103
        middle = await rig.call(P.READ, ReadArgs(f, 4090, 6))
        assert (bytes(middle.data), middle.count, middle.eof) == (b"across", 6, False)
        end = await rig.call(P.READ, ReadArgs(f, 4096, 100))
        assert (bytes(end.data), end.eof) == (b" a page", True)
        beyond = await rig.call(P.READ, ReadArgs(f, 1 << 40, 100))
        assert (beyond.status, beyond.count, beyond.eof) == (OK, 0, True)
        assert await rig.read(f, 0, 4) == bytes(4)
        committed = await rig.call(P.COMMIT, CommitArgs(f))
        assert committed.verf == wrote.verf
        assert (committed.wcc.before, committed.wcc.after.size) == (None, 4103)

    play(story)


@pytest.mark.parametrize("stable", [StableHow.DATA_SYNC, StableHow.FILE_SYNC])
def test_stable_writes_are_in_the_storage_before_the_reply(play: Play, stable: StableHow) -> None:
    async def story(rig: Rig) -> None:
        f = await rig.create(b"f")
        assert (await rig.write(f, 100, b"data", stable)).committed is stable
        export_id, key = rig.server.handles.decode(f)
        assert export_id == rig.export.id
        assert b"".join(await rig.storage.readv(key, 100, [10])) == b"data"
        assert rig.server.stats.storage_syncs == 1

    play(story, export={"sync": True})


def test_wcc_on_write_can_be_asked_for(play: Play) -> None:
    async def story(rig: Rig) -> None:
        f = await rig.create(b"f")
        wrote = await rig.write(f, 0, b"abc")
        assert wrote.wcc.before is not None
        assert wrote.wcc.before.size == 0
        assert (await rig.call(P.COMMIT, CommitArgs(f))).wcc.before.size == 3

    play(story, wcc_on_write="full")


def test_limits_of_read_and_write(play: Play) -> None:
    async def story(rig: Rig) -> None:
        f = await rig.create(b"f")
        long = b"x" * 10_000
        short = await rig.call(P.WRITE, WriteArgs(f, 0, len(long), StableHow.UNSTABLE, long))
        assert (short.status, short.count) == (OK, 8192), "no more than wtmax at a time"
        assert len(await rig.read(f, 0, 1 << 30)) == 8192
        lie = await rig.call(P.WRITE, WriteArgs(f, 0, 5, StableHow.UNSTABLE, b"abc"))
        assert lie.status is NfsStat3.INVAL
        far = await rig.call(P.WRITE, WriteArgs(f, (1 << 63) - 2, 4, StableHow.UNSTABLE, b"abcd"))
        assert far.status is NfsStat3.FBIG
        assert (await rig.call(P.COMMIT, CommitArgs(f, 1 << 63))).status is NfsStat3.INVAL
        assert (await rig.call(P.SETATTR, SetattrArgs(f, Sattr3(size=1 << 63)))).status is NfsStat3.FBIG
        empty = await rig.call(P.WRITE, WriteArgs(f, 0, 0, StableHow.FILE_SYNC, b""))
        assert (empty.status, empty.count) == (OK, 0)

    play(story, max_payload=8192)


def test_sparse_files_cost_nothing(play: Play) -> None:
    async def story(rig: Rig) -> None:
        f = await rig.create(b"f")
        await rig.write(f, 1 << 40, b"end", StableHow.FILE_SYNC)
        attributes = await rig.getattr(f)
        assert attributes.size == (1 << 40) + 3
        assert attributes.used <= 1 << 20
        assert await rig.read(f, 1 << 39, 8192) == bytes(8192)

    play(story)


def test_data_of_a_directory(play: Play) -> None:
    async def story(rig: Rig) -> None:
        assert (await rig.call(P.READ, ReadArgs(rig.root, 0, 1))).status is NfsStat3.ISDIR
        wrote = await rig.call(P.WRITE, WriteArgs(rig.root, 0, 1, StableHow.UNSTABLE, b"x"))
        assert wrote.status is NfsStat3.ISDIR
        assert (await rig.call(P.COMMIT, CommitArgs(rig.root))).status is NfsStat3.ISDIR

    play(story)


# --- directories -----------------------------------------------------------------------------------------------------


async def _list(rig: Rig, directory: bytes, count: int = 4096, *, plus: bool = False) -> list[Any]:
    entries: list[Any] = []
    cookie, verf = 0, bytes(8)
    while True:
        if plus:
            result = await rig.call(P.READDIRPLUS, ReaddirplusArgs(directory, cookie, verf, count, count))
        else:
            result = await rig.call(P.READDIR, ReaddirArgs(directory, cookie, verf, count))
        assert result.status is OK
        entries += result.entries
        if result.eof:
            return entries
        cookie, verf = entries[-1].cookie, result.cookieverf


def test_readdir_is_cut_by_its_size_on_the_wire(play: Play) -> None:
    async def story(rig: Rig) -> None:
        d = await rig.mkdir(b"d")
        for number in range(20):
            await rig.create(b"%09d" % number, d)  # 9 bytes, padded to 12: 36 in READDIR, 148 in READDIRPLUS
        room = 2 * 28 + 5 * 36 + 8
        assert len((await rig.call(P.READDIR, ReaddirArgs(d, 0, bytes(8), room))).entries) == 7
        assert len((await rig.call(P.READDIR, ReaddirArgs(d, 0, bytes(8), room - 1))).entries) == 6
        room = 2 * 140 + 5 * 148 + 8
        args = ReaddirplusArgs(d, 0, bytes(8), 64, room)
        assert len((await rig.call(P.READDIRPLUS, args)).entries) == 7
        small = await rig.call(P.READDIR, ReaddirArgs(d, 0, bytes(8), 20))
        assert small.status is NfsStat3.TOOSMALL
        names = [entry.name for entry in await _list(rig, d, room)]
        assert len(names) == len(set(names)) == 22
        assert names[:2] == [b".", b".."]

    play(story)


def test_readdirplus_brings_attributes_and_handles(play: Play) -> None:
    async def story(rig: Rig) -> None:
        d = await rig.mkdir(b"d")
        f = await rig.create(b"f", d)
        await rig.write(f, 0, b"not yet written out")
        dot, dotdot, entry = await _list(rig, d, plus=True)
        assert (dot.object, dotdot.object, entry.object) == (d, rig.root, f)
        assert entry.attributes == await rig.getattr(f)
        assert entry.fileid == entry.attributes.fileid
        assert (await _list(rig, rig.root, plus=True))[1].object == rig.root, "nothing above the export shows"

    play(story)


def test_cookies_hold_while_the_directory_changes(play: Play) -> None:
    async def story(rig: Rig) -> None:
        for number in range(50):
            await rig.create(b"old%03d" % number)
        first = await rig.call(P.READDIR, ReaddirArgs(rig.root, 0, bytes(8), 800))
        assert not first.eof
        seen = [entry.name for entry in first.entries]
        for number in range(0, 50, 2):
            await rig.call(P.REMOVE, RemoveArgs(rig.root, b"old%03d" % number))
            await rig.create(b"new%03d" % number)
        cookie = first.entries[-1].cookie
        while True:
            part = await rig.call(P.READDIR, ReaddirArgs(rig.root, cookie, first.cookieverf, 800))
            seen += [entry.name for entry in part.entries]
            if part.eof:
                break
            cookie = part.entries[-1].cookie
        assert len(seen) == len(set(seen)), "no name twice"
        assert {b"old%03d" % number for number in range(1, 50, 2)} <= set(seen), "what stayed was seen"

    play(story)


def test_readdir_of_a_file(play: Play) -> None:
    async def story(rig: Rig) -> None:
        f = await rig.create(b"f")
        assert (await rig.call(P.READDIR, ReaddirArgs(f, 0, bytes(8), 4096))).status is NfsStat3.NOTDIR

    play(story)


# --- the file system -------------------------------------------------------------------------------------------------


def test_fsinfo_fsstat_pathconf_are_knfsds(play: Play) -> None:
    async def story(rig: Rig) -> None:
        info = await rig.call(P.FSINFO, FsinfoArgs(rig.root))
        assert (info.rtmax, info.wtmax, info.wtpref, info.dtpref) == (1 << 20,) * 4
        assert (info.wtmult, info.time_delta_ns, info.attributes) == (4096, 1, None)
        stat = await rig.call(P.FSSTAT, FsstatArgs(rig.root))
        assert stat.tbytes >= stat.fbytes >= stat.abytes > 0
        conf = await rig.call(P.PATHCONF, PathconfArgs(rig.root))
        assert (conf.name_max, conf.case_preserving, conf.case_insensitive) == (255, True, False)

    play(story)


@pytest.mark.parametrize("handle", [b"", b"\x01" * 32, b"\x02" * 40, b"x" * 65])
def test_handles_that_are_not_ours(play: Play, handle: bytes) -> None:
    async def story(rig: Rig) -> None:
        assert (await rig.call(P.GETATTR, GetattrArgs(handle))).status is NfsStat3.BADHANDLE
        result = await rig.call(P.RENAME, RenameArgs(rig.root, b"a", handle, b"b"))
        assert result.status is NfsStat3.BADHANDLE
        forged = bytearray(rig.root)
        forged[-1] ^= 1
        assert (await rig.call(P.GETATTR, GetattrArgs(bytes(forged)))).status is NfsStat3.BADHANDLE
        assert len(rig.root) <= 64

    play(story)


def test_read_only_export(play: Play) -> None:
    async def story(rig: Rig) -> None:
        for procedure, args in [
            (P.CREATE, CreateArgs(rig.root, b"f", CreateMode3.UNCHECKED)),
            (P.MKDIR, MkdirArgs(rig.root, b"d")),
            (P.SYMLINK, SymlinkArgs(rig.root, b"s", b"t")),
            (P.SETATTR, SetattrArgs(rig.root, Sattr3(mode=0o700))),
        ]:
            assert (await rig.call(procedure, args)).status is NfsStat3.ROFS, procedure
        answer = await rig.call(P.ACCESS, AccessArgs(rig.root, Access3(0x1F)))
        assert answer.access == Access3.READ | Access3.LOOKUP

    play(story, export={"read_only": True})


def test_root_squash(play: Play) -> None:
    async def story(rig: Rig) -> None:
        made = await rig.call(P.CREATE, CreateArgs(rig.root, b"f", CreateMode3.UNCHECKED), ROOT)
        assert made.status is NfsStat3.ACCES, "nobody may not write here"
        answer = await rig.call(P.ACCESS, AccessArgs(rig.root, Access3(0x1F)), ROOT)
        assert not answer.access & Access3.MODIFY

    play(story, export={"squash": "root"})


# --- the other programs ----------------------------------------------------------------------------------------------


def test_mount(play: Play) -> None:
    async def story(rig: Rig) -> None:
        d = await rig.mkdir(b"d")
        await rig.create(b"f")
        await rig.call(P.SYMLINK, SymlinkArgs(rig.root, b"s", b"d"))
        assert await rig.mount(b"/export") == rig.root
        assert await rig.mount(b"/export/d/") == d
        for path, status in [
            (b"/export/nothing", MountStat3.NOENT),
            (b"/export/f", MountStat3.NOTDIR),
            (b"/export/s", MountStat3.NOTDIR),
            (b"/export/d/../..", MountStat3.INVAL),
            (b"export", MountStat3.INVAL),
            (b"/other", MountStat3.ACCES),
            (b"/" + b"x" * 2000, MountStat3.NAMETOOLONG),
        ]:
            assert (await rig.call(P.MOUNT_MNT, MntArgs(path))).status is status, path
        dump = await rig.call(P.MOUNT_DUMP, NullArgs())
        assert [(e.hostname, e.directory) for e in dump.entries] == [("tester", b"/export"), ("tester", b"/export/d/")]
        await rig.call(P.MOUNT_UMNT, UmntArgs(b"/export"))
        assert len((await rig.call(P.MOUNT_DUMP, NullArgs())).entries) == 1
        assert [e.directory for e in (await rig.call(P.MOUNT_EXPORT, NullArgs())).entries] == [b"/export"]

    play(story)


def test_getacl_is_the_mode(play: Play) -> None:
    async def story(rig: Rig) -> None:
        f = await rig.create(b"f", mode=0o750)
        acl = await rig.call(P.NFSACL_GETACL, GetaclArgs(f, AclMask.ACL | AclMask.DFACL))
        assert acl.status is OK
        assert [(e.type, e.permissions) for e in acl.access_acl] == [(0x01, 7), (0x04, 5), (0x10, 5), (0x20, 0)]
        assert acl.default_acl == ()
        bad = await rig.call(P.NFSACL_GETACL, GetaclArgs(b"bad", AclMask.ACL))
        assert bad.status is NfsStat3.BADHANDLE

    play(story)


def test_locks_over_nlm(play: Play) -> None:
    async def story(rig: Rig) -> None:
        f = await rig.create(b"f")
        lock = LockArgs(NlmLock(f, b"owner", 1, 0, 100), exclusive=True)
        assert (await rig.call(P.NLM_LOCK, lock, client="A")).status is NlmStat4.GRANTED
        tested = await rig.call(P.NLM_TEST, lock, client="B")
        assert (tested.status, tested.holder.length, tested.holder_exclusive) == (NlmStat4.DENIED, 100, True)
        assert (await rig.call(P.NLM_LOCK, lock, client="B")).status is NlmStat4.DENIED
        assert (await rig.call(P.NLM_UNLOCK, UnlockArgs(lock.lock), client="A")).status is NlmStat4.GRANTED
        assert (await rig.call(P.NLM_LOCK, lock, client="B")).status is NlmStat4.GRANTED
        stale = LockArgs(NlmLock(b"bad", b"owner", 1, 0, 0), exclusive=True)
        assert (await rig.call(P.NLM_LOCK, stale)).status is NlmStat4.STALE_FH

    play(story)


# --- time ------------------------------------------------------------------------------------------------------------


def test_memory_stamps_by_the_granule(tmp_path: Path) -> None:
    async def story() -> None:
        rig = Rig("memory", tmp_path)
        rig.clock.seconds = 1.0055
        f = await rig.create(b"f")
        attributes = await rig.getattr(f)
        assert attributes.mtime_ns == attributes.ctime_ns == EPOCH_NS + 1_004_000_000
        rig.clock.seconds = 1.0079
        await rig.write(f, 0, b"x")
        assert await rig.getattr(f) == (await rig.call(P.LOOKUP, LookupArgs(rig.root, b"f"))).attributes
        assert (await rig.getattr(f)).mtime_ns == EPOCH_NS + 1_004_000_000, "within one granule no change shows"
        rig.clock.seconds = 1.0081
        await rig.call(P.SETATTR, SetattrArgs(f, Sattr3(mode=0o600)))
        attributes = await rig.getattr(f)
        assert (attributes.mtime_ns, attributes.ctime_ns) == (EPOCH_NS + 1_004_000_000, EPOCH_NS + 1_008_000_000)
        assert (await rig.getattr(rig.root)).mtime_ns == EPOCH_NS + 1_004_000_000

    asyncio.run(story())
