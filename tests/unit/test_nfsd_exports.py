"""Exports: from flags and files, with the place of every mistake; who may use them; what they bound."""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from freepage_proto.mount3 import MntArgs, MountStat3
from freepage_proto.nfs3 import (
    Access3,
    AccessArgs,
    CommitArgs,
    CreateArgs,
    CreateMode3,
    FileHandle,
    FsinfoArgs,
    GetattrArgs,
    LinkArgs,
    LookupArgs,
    MkdirArgs,
    NfsStat3,
    NullArgs,
    ReadArgs,
    RemoveArgs,
    RenameArgs,
    Sattr3,
    SetattrArgs,
    StableHow,
    SymlinkArgs,
    WriteArgs,
)
from freepage_proto.rpc import AuthSys, CallHeader, Procedure
from freepage_runtime.errors import SettingError, UserError
from freepage_server.io.exports import ExportSetting, check_exports, close_exports, load_exports, open_exports
from freepage_server.nfsd.export import Export, peer_address
from freepage_server.nfsd.server import NfsServer
from nfsd_rig import KINDS, ME, ManualClock, Rig

CallAs: TypeAlias = Callable[..., Awaitable[Any]]
P = Procedure

EVERYTHING = """
[[export]]
directory = "data"
name = "/data"
access = "ro"
squash = "all_squash"
anonuid = 99
anongid = 98
clients = ["10.0.0.0/8", "::1"]
rsize = "64KiB"
wsize = 8192
sync = false
wcc_on_write = "full"

[[export]]
directory = "/srv"
"""


def test_a_file_of_exports(tmp_path: Path) -> None:
    path = tmp_path / "exports.toml"
    path.write_text(EVERYTHING)
    first, second = load_exports(path)
    assert first == ExportSetting(
        directory=tmp_path / "data",
        name="/data",
        read_only=True,
        squash="all",
        anonuid=99,
        anongid=98,
        clients=(ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::1")),
        rsize=65536,
        wsize=8192,
        sync=False,
        wcc_on_write="full",
    )
    assert second == ExportSetting(directory=Path("/srv"))
    assert first.describe() == (
        f"/data {tmp_path}/data 10.0.0.0/8 ::1/128 (ro,async,all_squash,anonuid=99,anongid=98,rsize=64KiB,wsize=8KiB,"
        "wcc_on_write=full)"
    )


def test_the_same_from_flags() -> None:
    text = "/d:/data,ro,async,all_squash,anonuid=99,anongid=98,clients=10.0.0.0/8+::1,rsize=64KiB,wsize=8192"
    text += ",wcc_on_write=full"
    setting = ExportSetting.parse(text)
    assert (setting.directory, setting.name, setting.read_only, setting.sync) == (Path("/d"), "/data", True, False)
    assert (setting.squash, setting.anonuid, setting.anongid) == ("all", 99, 98)
    assert [str(client) for client in setting.clients] == ["10.0.0.0/8", "::1/128"]
    assert (setting.rsize, setting.wsize, setting.wcc_on_write) == (65536, 8192, "full")
    assert ExportSetting.parse("/d,squash=root").squash == ExportSetting.parse("/d,root_squash").squash == "root"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[export]]\ndirectory = \n", ":2:13: Invalid value"),
        ("[[export]\n", ":1:"),
        ("", ": no [[export]] table"),
        ("\n[export]\ndirectory = 'd'\n", ":2: no [[export]] table"),
        ("port = 3\n", ":1: unknown key 'port'"),
        ("[[export]]\nname = '/a'\n", ":1: an export needs a directory"),
        (
            "[[export]]\ndirectory = 'd'\n\n[[export]]\n# a comment\ndirectory = 3\n",
            ":6: directory: expected a text",
        ),
        ("[[export]]\ndirectory = 'd'\ncolour = 'red'\n", ":3: unknown key 'colour'"),
        ("[[export]]\ndirectory = 'd'\nname = 'data'\n", ":3: name: expected a name like \"/data\", not 'data'"),
        ("[[export]]\ndirectory = 'd'\naccess = 'w'\n", ':3: access: expected "ro" or "rw"'),
        ("[[export]]\ndirectory = 'd'\nsquash = 'root'\n", ':3: squash: expected "root_squash"'),
        ("[[export]]\ndirectory = 'd'\nanonuid = -1\n", ":3: anonuid: expected a number from 0"),
        ("[[export]]\ndirectory = 'd'\nanongid = true\n", ":3: anongid: expected a number from 0"),
        ("[[export]]\ndirectory = 'd'\nclients = '::1'\n", ":3: clients: expected a list"),
        (
            "[[export]]\ndirectory = 'd'\nclients = ['10.0.0.1/8']\n",
            ":3: clients: not an address or network",
        ),
        ("[[export]]\ndirectory = 'd'\nrsize = '5000'\n", ":3: rsize: expected a multiple of 4KiB up to 1MiB"),
        ("[[export]]\ndirectory = 'd'\nwsize = 'much'\n", ":3: wsize: not a size: 'much'"),
        ("[[export]]\ndirectory = 'd'\nsync = 'no'\n", ":3: sync: expected true or false"),
        ("[[export]]\ndirectory = 'd'\nwcc_on_write = true\n", ':3: wcc_on_write: expected "none" or "full"'),
        (
            "[[export]]\ndirectory = 'd'\n[[export]]\ndirectory = 'e'\nname = '/export'\n",
            ":5: a second export",
        ),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "exports.toml"
    path.write_text(text)
    with pytest.raises(SettingError) as caught:
        load_exports(path)
    assert str(caught.value).startswith(f"{path}{message}"), str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        load_exports(tmp_path / "nothing")
    (tmp_path / "bytes").write_bytes(b"\xff")
    with pytest.raises(SettingError, match="not UTF-8"):
        load_exports(tmp_path / "bytes")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not an export"),
        ("/d,", "not an option"),
        ("/d,rsize=3", "rsize: expected a multiple of 4KiB"),
        ("/d,anonuid=x", "anonuid: expected a number"),
        ("/d,clients=", "not an address or network"),
        ("/d,clients=host", "not an address or network: 'host'"),
    ],
)
def test_what_is_wrong_with_a_flag(text: str, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        ExportSetting.parse(text)


def test_check_opens_everything(tmp_path: Path) -> None:
    good = ExportSetting(directory=tmp_path)
    assert check_exports([good])[0].startswith(f"/export {tmp_path} * (rw,sync,no_root_squash,")
    with pytest.raises(UserError, match=r"cannot export .*: No such file"):
        check_exports([good, ExportSetting(directory=tmp_path / "nothing", name="/b")])
    with pytest.raises(SettingError, match="at least one directory"):
        open_exports([])


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:10.0.0.7:3042", "10.0.0.7"),
        ("ipv6:%5B::1%5D:3042", "::1"),
        ("ipv6:[fe80::1%25eth0]:3042", "fe80::1"),
        ("ipv6:[::ffff:10.0.0.7]:3042", "10.0.0.7"),
        ("unix:/tmp/socket", None),
        ("ipv4:nonsense", None),
        ("", None),
    ],
)
def test_addresses_of_peers(peer: str, address: str | None) -> None:
    found = peer_address(peer)
    assert found == (None if address is None else ipaddress.ip_address(address))


def test_only_the_clients_named_are_let_in(tmp_path: Path) -> None:
    async def story() -> None:
        rig = Rig("directory", tmp_path, export={"clients": (ipaddress.ip_network("10.0.0.0/8"),)})

        async def call(peer: str, procedure: Procedure, args: object) -> NfsStat3 | MountStat3:
            header = CallHeader("A", 1, next(rig.xids), ME)
            result = await rig.server.call(procedure, header, args, peer)
            status: NfsStat3 | MountStat3 = result.status  # type: ignore[attr-defined]
            return status

        friend, stranger = "ipv4:10.1.2.3:700", "ipv4:11.1.2.3:700"
        assert await call(friend, P.MOUNT_MNT, MntArgs(b"/export")) is MountStat3.OK
        assert await call(stranger, P.MOUNT_MNT, MntArgs(b"/export")) is MountStat3.ACCES
        assert await call(friend, P.GETATTR, GetattrArgs(rig.root)) is NfsStat3.OK
        assert await call(stranger, P.GETATTR, GetattrArgs(rig.root)) is NfsStat3.STALE, "a stolen handle is of no use"
        assert await call("unix:/x", P.GETATTR, GetattrArgs(rig.root)) is NfsStat3.STALE
        assert await call("local", P.GETATTR, GetattrArgs(rig.root)) is NfsStat3.OK
        exports = await rig.call(P.MOUNT_EXPORT, NullArgs())
        assert exports.entries[0].groups == ("10.0.0.0/8",)

        f = await rig.create(b"f")
        await rig.write(f, 0, b"data", StableHow.FILE_SYNC)

        def cached(peer: str) -> bool:
            header = CallHeader("A", 1, next(rig.xids), ME)
            return rig.read_nowait(header, ReadArgs(f, 0, 4), peer) is not None

        assert [cached(peer) for peer in (friend, stranger, friend)] == [True, False, True]
        rig.close()

    asyncio.run(story())


def test_reads_and_writes_are_bounded_by_the_export(tmp_path: Path) -> None:
    async def story() -> None:
        rig = Rig("memory", tmp_path, export={"max_read": 8192, "max_write": 4096})
        info = await rig.call(P.FSINFO, FsinfoArgs(rig.root))
        assert (info.rtmax, info.rtpref, info.wtmax, info.wtpref) == (8192, 8192, 4096, 4096)
        f = await rig.create(b"f")
        wrote = await rig.call(P.WRITE, WriteArgs(f, 0, 10_000, StableHow.FILE_SYNC, b"x" * 10_000))
        assert wrote.count == 4096
        await rig.write(f, 4096, b"y" * 4096)
        await rig.write(f, 8192, b"z" * 4096)
        read = await rig.call(P.READ, ReadArgs(f, 0, 10_000))
        assert (read.count, read.eof) == (8192, False)
        rig.check()

    asyncio.run(story())


@pytest.mark.parametrize("sync", [True, False])
def test_an_async_export_waits_for_the_kernel_only(tmp_path: Path, sync: bool) -> None:
    async def story() -> None:
        rig = Rig("directory", tmp_path, export={"sync": sync})
        f = await rig.create(b"f")
        await rig.write(f, 0, b"stable", StableHow.FILE_SYNC)
        assert (tmp_path / "f").read_bytes() == b"stable"
        await rig.write(f, 0, b"unstable")
        await rig.call(P.COMMIT, CommitArgs(f))
        assert (tmp_path / "f").read_bytes() == b"unstable"
        assert rig.server.stats.storage_syncs == (2 if sync else 0)
        await rig.server.stop()
        rig.close()

    asyncio.run(story())


def test_names_of_exports_are_checked(tmp_path: Path) -> None:
    rig = Rig("memory", tmp_path)
    for name in ("x", "/x/"):
        with pytest.raises(ValueError, match="begins with a slash"):
            Export(name, rig.storage)


# --- every option, as the calls see it --------------------------------------------------------------------------------


def exported(text: str, story: Callable[[NfsServer, FileHandle, CallAs], Awaitable[None]]) -> None:
    """A server with one export as a flag describes it; ``story`` gets the root's handle and what calls."""

    async def main() -> None:
        exports = open_exports([ExportSetting.parse(text)])
        clock = ManualClock()
        server = NfsServer(exports, clock=clock, wall_ns=clock.wall_ns, strict=True)
        xids = itertools.count(1)

        async def call(
            procedure: Procedure, args: object, uid: int = 0, gid: int = 0, gids: tuple[int, ...] = ()
        ) -> Any:
            return await server.call(procedure, CallHeader("A", 1, next(xids), AuthSys(uid, gid, gids, "A")), args)

        mounted = await call(P.MOUNT_MNT, MntArgs(exports[0].name.encode()))
        assert mounted.status is MountStat3.OK
        await story(server, mounted.fhandle, call)
        await server.stop()
        close_exports(exports)

    asyncio.run(main())


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


NO_ID = 0xFFFFFFFF
"""(uid_t)-1: chown(2) leaves the owner with it, so what its caller makes must not stay root's, setuid perhaps."""


@needs_root
@pytest.mark.parametrize(
    ("option", "caller", "owner"),
    [
        ("no_root_squash", (0, 0, ()), (0, 0)),
        ("no_root_squash", (7, 8, ()), (7, 8)),
        ("root_squash", (0, 0, ()), (65534, 65534)),
        ("root_squash,anonuid=11,anongid=12", (0, 0, ()), (11, 12)),
        ("root_squash,anonuid=11,anongid=12", (7, 0, ()), (7, 12)),
        ("root_squash,anonuid=11,anongid=12", (7, 8, ()), (7, 8)),
        ("all_squash", (7, 8, ()), (65534, 65534)),
        ("all_squash,anonuid=11,anongid=12", (7, 8, (9,)), (11, 12)),
        ("all_squash,anonuid=11,anongid=12", (0, 0, ()), (11, 12)),
        ("no_root_squash", (NO_ID, NO_ID, ()), (65534, 65534)),
        ("root_squash,anonuid=11,anongid=12", (NO_ID, 8, (NO_ID,)), (11, 8)),
        ("root_squash,anonuid=11,anongid=12", (7, NO_ID, ()), (7, 12)),
    ],
)
def test_who_a_caller_is(
    option: str, caller: tuple[int, int, tuple[int, ...]], owner: tuple[int, int], tmp_path: Path
) -> None:
    tmp_path.chmod(0o777)

    async def story(server: NfsServer, root: FileHandle, call: CallAs) -> None:
        made = await call(P.CREATE, CreateArgs(root, b"f", CreateMode3.GUARDED, Sattr3(mode=0o600)), *caller)
        assert made.status is NfsStat3.OK
        assert (made.attributes.uid, made.attributes.gid) == owner
        on_disk = (tmp_path / "f").stat()
        assert (on_disk.st_uid, on_disk.st_gid) == owner

    exported(f"{tmp_path},{option}", story)


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_gives_a_file_to_an_id_that_is_none(kind: str, tmp_path: Path) -> None:
    async def story() -> None:
        rig = Rig(kind, tmp_path)
        f = await rig.create(b"f")
        before = await rig.getattr(f)
        args = SetattrArgs(f, Sattr3(mode=0o600, uid=NO_ID, gid=NO_ID))
        assert (await rig.call(P.SETATTR, args)).status is NfsStat3.OK
        after = await rig.getattr(f)
        assert (after.mode, after.uid, after.gid) == (0o600, before.uid, before.gid)
        rig.close()

    asyncio.run(story())


@needs_root
def test_a_squashed_group_lets_nobody_in(tmp_path: Path) -> None:
    """Root's group among the supplementary ones is squashed, too."""
    tmp_path.chmod(0o755)
    secret = tmp_path / "secret"
    secret.write_text("for root's group")
    secret.chmod(0o040)

    async def story(server: NfsServer, root: FileHandle, call: CallAs) -> None:
        f = (await call(P.LOOKUP, LookupArgs(root, b"secret"))).object
        assert (await call(P.READ, ReadArgs(f, 0, 10), 7, 8, (0,))).status is NfsStat3.ACCES

    exported(f"{tmp_path},root_squash", story)


def test_read_only(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("as it was")
    (tmp_path / "d").mkdir()

    async def story(server: NfsServer, root: FileHandle, call: CallAs) -> None:
        me = (os.geteuid(), os.getegid())
        f = (await call(P.LOOKUP, LookupArgs(root, b"f"), *me)).object
        sattr = Sattr3(mode=0o600)
        for procedure, args in (
            (P.WRITE, WriteArgs(f, 0, 1, StableHow.FILE_SYNC, b"x")),
            (P.COMMIT, CommitArgs(f)),
            (P.SETATTR, SetattrArgs(f, Sattr3(size=0))),
            (P.CREATE, CreateArgs(root, b"new", CreateMode3.UNCHECKED, sattr)),
            (P.MKDIR, MkdirArgs(root, b"new", sattr)),
            (P.SYMLINK, SymlinkArgs(root, b"new", b"t", sattr)),
            (P.REMOVE, RemoveArgs(root, b"f")),
            (P.RMDIR, RemoveArgs(root, b"d")),
            (P.RENAME, RenameArgs(root, b"f", root, b"g")),
            (P.LINK, LinkArgs(f, root, b"g")),
        ):
            assert (await call(procedure, args, *me)).status is NfsStat3.ROFS, procedure
        assert bytes((await call(P.READ, ReadArgs(f, 0, 100), *me)).data) == b"as it was"
        allowed = (await call(P.ACCESS, AccessArgs(f, Access3.READ | Access3.MODIFY | Access3.EXTEND), *me)).access
        assert allowed == Access3.READ

    exported(f"{tmp_path}:/data,ro", story)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d", "f"]


@pytest.mark.parametrize("option", ["wcc_on_write=none", "wcc_on_write=full"])
def test_attributes_before_a_write(option: str, tmp_path: Path) -> None:
    async def story(server: NfsServer, root: FileHandle, call: CallAs) -> None:
        me = (os.geteuid(), os.getegid())
        f = (await call(P.CREATE, CreateArgs(root, b"f", CreateMode3.GUARDED, Sattr3(mode=0o600)), *me)).object
        first = await call(P.WRITE, WriteArgs(f, 0, 3, StableHow.UNSTABLE, b"abc"), *me)
        second = await call(P.WRITE, WriteArgs(f, 3, 3, StableHow.UNSTABLE, b"def"), *me)
        committed = await call(P.COMMIT, CommitArgs(f), *me)
        if option.endswith("none"):
            assert first.wcc.before is second.wcc.before is committed.wcc.before is None
        else:
            assert (first.wcc.before.size, second.wcc.before.size, committed.wcc.before.size) == (0, 3, 6)
        assert second.wcc.after.size == 6

    exported(f"{tmp_path},{option}", story)


def test_a_server_that_checks_says_everything_it_understood(tmp_path: Path) -> None:
    """The command itself: --check, its output, and one line with its place for a mistake."""
    (tmp_path / "data").mkdir()
    config = tmp_path / "exports.toml"
    config.write_text('[[export]]\ndirectory = "data"\nname = "/data"\naccess = "ro"\nwcc_on_write = "full"\n')

    def check() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "freepage_lab.cli", "server", "--check", "--config", str(config)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    good = check()
    assert (good.returncode, good.stderr) == (0, "")
    assert good.stdout.startswith(f"/data {tmp_path}/data * (ro,sync,no_root_squash,")
    assert good.stdout.endswith("wcc_on_write=full)\n")
    config.write_text('[[export]]\ndirectory = "data"\n\nrsize = "5000"\n')
    bad = check()
    assert bad.returncode != 0
    assert bad.stderr == f"freepage: {config}:4: rsize: expected a multiple of 4KiB up to 1MiB, not '5000'\n"
