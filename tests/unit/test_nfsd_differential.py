"""Memory and a real directory give the same answers to the same calls."""

from __future__ import annotations

import asyncio
import os
import tempfile
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from freepage_proto.nfs3 import (
    Access3,
    AccessArgs,
    CommitArgs,
    CreateArgs,
    CreateMode3,
    Fattr3,
    FileHandle,
    FType3,
    GetattrArgs,
    LinkArgs,
    LookupArgs,
    MkdirArgs,
    MknodArgs,
    ReadArgs,
    ReaddirArgs,
    ReaddirplusArgs,
    ReaddirRes,
    ReadlinkArgs,
    RemoveArgs,
    RenameArgs,
    Sattr3,
    SetattrArgs,
    StableHow,
    SymlinkArgs,
    WccAttr,
    WriteArgs,
)
from freepage_proto.rpc import AuthSys, Procedure
from nfsd_rig import ME, Rig

GOOD_NAMES = [b"a", b"b", b"c", b"\xff\xfe"]
NAMES = st.sampled_from([*GOOD_NAMES * 6, b".", b"..", b"", b"x/y", b"n\0l", b"e" * 256])
SLOTS = st.integers(0, 5)
OFFSETS = st.one_of(st.integers(0, 20_000), st.sampled_from([4095, 4096, 4097, 1 << 20]))
COUNTS = st.integers(0, 12_000)
STABLE = st.sampled_from(list(StableHow))
OTHER = AuthSys(ME.uid + 1000, ME.gid + 1000, (), "other")
CREDS = st.sampled_from([ME, ME, ME, OTHER] if os.geteuid() == 0 else [ME])
"""Without privileges the directory's server cannot give files to another user."""
MODES = st.sampled_from([0o644, 0o755, 0o600, 0o777, 0o444, 0o1777, 0o2755])
SATTRS = st.builds(
    Sattr3,
    mode=st.one_of(st.none(), st.sampled_from([0o644, 0o755, 0o600, 0o4755, 0o400])),
    size=st.one_of(st.none(), OFFSETS),
    mtime_ns=st.one_of(st.none(), st.just(1_234_567_890_000_000_000)),
)


def _call(procedure: Procedure, **fields: Any) -> st.SearchStrategy[tuple[Procedure, dict[str, Any], AuthSys]]:
    return st.tuples(st.just(procedure), st.fixed_dictionaries(fields), CREDS)


CALLS = st.one_of(
    _call(Procedure.GETATTR, object=SLOTS),
    _call(Procedure.LOOKUP, dir=SLOTS, name=NAMES),
    _call(Procedure.ACCESS, object=SLOTS, access=st.just(Access3(0x3F))),
    _call(Procedure.READLINK, symlink=SLOTS),
    _call(Procedure.READ, file=SLOTS, offset=OFFSETS, count=COUNTS),
    _call(Procedure.WRITE, file=SLOTS, offset=OFFSETS, count=COUNTS, stable=STABLE),
    _call(Procedure.COMMIT, file=SLOTS),
    _call(Procedure.SETATTR, object=SLOTS, new_attributes=SATTRS),
    _call(
        Procedure.CREATE,
        dir=SLOTS,
        name=NAMES,
        mode=st.sampled_from(list(CreateMode3)),
        attributes=st.builds(Sattr3, mode=MODES, size=st.sampled_from([None, 0, 100])),
        verf=st.sampled_from([b"verifier", b"another8"]),
    ),
    _call(Procedure.MKDIR, dir=SLOTS, name=NAMES, attributes=st.builds(Sattr3, mode=MODES)),
    _call(Procedure.SYMLINK, dir=SLOTS, name=NAMES, path=st.sampled_from([b"a", b"/etc/passwd", b"", b"t" * 5000])),
    _call(
        Procedure.MKNOD,
        dir=SLOTS,
        name=NAMES,
        type=st.sampled_from([FType3.FIFO, FType3.SOCK, FType3.REG]),
        attributes=st.builds(Sattr3, mode=MODES),
    ),
    _call(Procedure.REMOVE, dir=SLOTS, name=NAMES),
    _call(Procedure.RMDIR, dir=SLOTS, name=NAMES),
    _call(Procedure.RENAME, from_dir=SLOTS, from_name=NAMES, to_dir=SLOTS, to_name=NAMES),
    _call(Procedure.LINK, file=SLOTS, dir=SLOTS, name=NAMES),
    _call(Procedure.READDIR, dir=SLOTS, count=st.sampled_from([10, 200, 4096])),
    _call(Procedure.READDIRPLUS, dir=SLOTS, maxcount=st.sampled_from([10, 4096])),
)

SCENERY: list[tuple[Procedure, dict[str, Any], AuthSys]] = [
    (
        Procedure.CREATE,
        {"dir": 0, "name": b"a", "mode": CreateMode3.GUARDED, "attributes": Sattr3(mode=0o644), "verf": b""},
        ME,
    ),
    (Procedure.WRITE, {"file": 1, "offset": 0, "count": 10_000, "stable": StableHow.UNSTABLE}, ME),
    (Procedure.MKDIR, {"dir": 0, "name": b"b", "attributes": Sattr3(mode=0o755)}, ME),
    (Procedure.SYMLINK, {"dir": 2, "name": b"c", "path": b"../a"}, ME),
    (Procedure.LINK, {"file": 1, "dir": 2, "name": b"a"}, ME),
]

ARGUMENTS: dict[Procedure, Any] = {
    Procedure.GETATTR: GetattrArgs,
    Procedure.LOOKUP: LookupArgs,
    Procedure.ACCESS: AccessArgs,
    Procedure.READLINK: ReadlinkArgs,
    Procedure.READ: ReadArgs,
    Procedure.WRITE: WriteArgs,
    Procedure.COMMIT: CommitArgs,
    Procedure.SETATTR: SetattrArgs,
    Procedure.CREATE: CreateArgs,
    Procedure.MKDIR: MkdirArgs,
    Procedure.SYMLINK: SymlinkArgs,
    Procedure.MKNOD: MknodArgs,
    Procedure.REMOVE: RemoveArgs,
    Procedure.RMDIR: RemoveArgs,
    Procedure.RENAME: RenameArgs,
    Procedure.LINK: LinkArgs,
    Procedure.READDIR: ReaddirArgs,
    Procedure.READDIRPLUS: ReaddirplusArgs,
}
HANDLES = {"object", "dir", "symlink", "file", "from_dir", "to_dir"}


class Side:
    """One server, and the handles that the script has come by, its root first; slots count them round."""

    def __init__(self, kind: str, path: Path, **settings: Any) -> None:
        self.rig = Rig(kind, path, **settings)
        self.handles = [self.rig.root]

    async def call(self, procedure: Procedure, fields: dict[str, Any], cred: AuthSys) -> Any:
        values = {
            name: self.handles[value % len(self.handles)] if name in HANDLES else value
            for name, value in fields.items()
        }
        if procedure is Procedure.WRITE:
            seed = values["offset"] % 251
            values["data"] = bytes((seed + i) % 256 for i in range(values["count"]))
        elif procedure is Procedure.READDIR:
            values |= {"cookie": 0, "cookieverf": bytes(8)}
        elif procedure is Procedure.READDIRPLUS:
            values |= {"cookie": 0, "cookieverf": bytes(8), "dircount": 4096}
        result = await self.rig.call(procedure, ARGUMENTS[procedure](**values), cred)
        handle: FileHandle | None = getattr(result, "object", None)
        if handle is not None and handle not in self.handles:
            if len(self.handles) >= 6:
                del self.handles[1]
            self.handles.append(handle)
        return result


def comparable(value: Any, *, counts_links: bool) -> Any:
    """A result less what two file systems may say differently: numbers of inodes, times, sizes of directories."""
    if isinstance(value, Fattr3):
        directory = value.type is FType3.DIR
        nlink = value.nlink if counts_links or not directory else 0
        return value.type, value.mode, nlink, value.uid, value.gid, 0 if directory else value.size
    if isinstance(value, WccAttr):
        return "before"
    if isinstance(value, ReaddirRes):
        # Which names a cut reply holds depends on the order; how many does not, as the names used are equally long.
        names = sorted(entry.name for entry in value.entries) if value.eof else len(value.entries)
        return value.status, names, value.eof, comparable(value.dir_attributes, counts_links=counts_links)
    if isinstance(value, memoryview):
        return bytes(value)
    if is_dataclass(value):
        return {
            name: comparable(getattr(value, name), counts_links=counts_links)
            for name in value.__dataclass_fields__
            if name not in ("object", "verf")
        }
    return value


def counts_links(path: Path) -> bool:
    """Does this file system count a directory's links as ext4 does (btrfs and overlayfs may not)?"""
    (path / "one").mkdir()
    answer = path.stat().st_nlink == 3
    (path / "one").rmdir()
    return answer


async def replay(path: Path, calls: list[tuple[Procedure, dict[str, Any], AuthSys]]) -> None:
    links = counts_links(path)
    # The directory's server has so little memory that it must write and read again all the time.
    memory, directory = Side("memory", path), Side("directory", path, memory_bytes=8 * 4096)
    try:
        for procedure, fields, cred in [*SCENERY, *calls]:
            expected = comparable(await memory.call(procedure, fields, cred), counts_links=links)
            got = comparable(await directory.call(procedure, fields, cred), counts_links=links)
            assert got == expected, (procedure, fields, cred)
            memory.rig.check()
            directory.rig.check()
            for side in (memory, directory):
                side.rig.clock.seconds += 0.01
        for side in (memory, directory):
            await side.rig.server.stop()
            assert not side.rig.server.cache.dirty.nr_dirty
    finally:
        directory.rig.close()


@settings(max_examples=150)
@given(st.lists(CALLS, min_size=10, max_size=40))
def test_memory_and_directory_answer_alike(calls: list[tuple[Procedure, dict[str, Any], AuthSys]]) -> None:
    with tempfile.TemporaryDirectory() as path:
        asyncio.run(replay(Path(path), calls))
