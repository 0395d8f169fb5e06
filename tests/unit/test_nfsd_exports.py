"""Exports: from flags and files, with the place of every mistake; who may use them; what they bound."""

from __future__ import annotations

import asyncio
import ipaddress
from pathlib import Path

import pytest

from freepage_proto.mount3 import MntArgs, MountStat3
from freepage_proto.nfs3 import (
    CommitArgs,
    FsinfoArgs,
    GetattrArgs,
    NfsStat3,
    NullArgs,
    ReadArgs,
    StableHow,
    WriteArgs,
)
from freepage_proto.rpc import CallHeader, Procedure
from freepage_runtime.errors import SettingError, UserError
from freepage_server.io.exports import ExportSetting, check_exports, load_exports, open_exports
from freepage_server.nfsd.export import Export, peer_address
from nfsd_rig import ME, Rig

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
    )
    assert second == ExportSetting(directory=Path("/srv"))
    assert first.describe() == (
        f"/data {tmp_path}/data 10.0.0.0/8 ::1/128 (ro,async,all_squash,anonuid=99,anongid=98,rsize=64KiB,wsize=8KiB)"
    )


def test_the_same_from_flags() -> None:
    text = "/d:/data,ro,async,all_squash,anonuid=99,anongid=98,clients=10.0.0.0/8+::1,rsize=64KiB,wsize=8192"
    setting = ExportSetting.parse(text)
    assert (setting.directory, setting.name, setting.read_only, setting.sync) == (Path("/d"), "/data", True, False)
    assert (setting.squash, setting.anonuid, setting.anongid) == ("all", 99, 98)
    assert [str(client) for client in setting.clients] == ["10.0.0.0/8", "::1/128"]
    assert (setting.rsize, setting.wsize) == (65536, 8192)
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
