"""A server on memory or on a real directory, with a clock that the test moves, and one caller to talk to it."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

from freepage_proto.mount3 import MntArgs, MntRes, MountStat3
from freepage_proto.nfs3 import (
    CreateArgs,
    CreateMode3,
    Fattr3,
    FileHandle,
    GetattrArgs,
    GetattrRes,
    LookupArgs,
    LookupRes,
    MkdirArgs,
    NfsStat3,
    ReadArgs,
    ReadRes,
    Sattr3,
    StableHow,
    WriteArgs,
    WriteRes,
)
from freepage_proto.rpc import AuthSys, CallHeader, Procedure
from freepage_server.io.directory import DirectoryStorage
from freepage_server.nfsd.export import LOCAL_PEER
from freepage_server.nfsd.local import LocalTask
from freepage_server.nfsd.memory import MemoryStorage
from freepage_server.nfsd.reader import Reader
from freepage_server.nfsd.server import Export, NfsServer

EPOCH_NS = 1_600_000_000_000_000_000
ME = AuthSys(os.geteuid(), os.getegid(), (), "tester")
ROOT = AuthSys(0, 0, (), "tester")
KINDS = ("memory", "directory")


class ManualClock:
    """Time passes when somebody sleeps or the test says so."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    def wall_ns(self) -> int:
        return EPOCH_NS + int(self.seconds * 1_000_000_000)


class Rig:
    """``call`` sends one call as `ME` and gives the result; the other methods are shorthands that expect success."""

    def __init__(self, kind: str, path: Path, *, offload: bool = False, **settings: Any) -> None:
        self.clock = ManualClock()
        self.path = path
        self.storage: MemoryStorage | DirectoryStorage
        if kind == "memory":
            self.storage = MemoryStorage(self.clock.wall_ns, root_uid=ME.uid, root_gid=ME.gid)
        else:
            path.chmod(0o755)  # as the root in memory has it
            self.storage = DirectoryStorage(path, offload=offload, table=settings.pop("table", None))
        export_settings = settings.pop("export", {})
        settings.setdefault("strict", True)
        self.export = Export("/export", self.storage, **{"sync": False, **export_settings})
        self.server = NfsServer([self.export], clock=self.clock, wall_ns=self.clock.wall_ns, **settings)
        self.xids = itertools.count(1)
        self.root = self.server.handles.encode(self.export.id, self.storage.root())
        self._readers: dict[tuple[str, AuthSys, FileHandle], Reader] = {}
        self.task = LocalTask(self.server, "/export", ME)

    def close(self) -> None:
        if isinstance(self.storage, DirectoryStorage):
            self.storage.close()

    async def call(self, procedure: Procedure, args: object, cred: AuthSys = ME, client: str = "A") -> Any:
        header = CallHeader(client, 1, next(self.xids), cred)
        if isinstance(args, ReadArgs) and (at_once := self.read_nowait(header, args)) is not None:
            return at_once  # as the service does
        return await self.server.call(procedure, header, args)

    def read_nowait(self, header: CallHeader, args: ReadArgs, peer: str = LOCAL_PEER) -> ReadRes | None:
        """What is at hand, from who is known, as the service knows him."""
        user = header.client_id, header.cred, args.file
        reader = self._readers.get(user)
        if reader is None or reader.over:
            reader = self.server.reader(header, args.file, peer)
            if reader is None:
                return None
            if reader.lasting:
                self._readers[user] = reader
        return reader.read_nowait(args.offset, args.count)

    async def mount(self, path: bytes = b"/export") -> FileHandle:
        result: MntRes = await self.call(Procedure.MOUNT_MNT, MntArgs(path))
        assert result.status is MountStat3.OK
        assert result.fhandle is not None
        return result.fhandle

    async def lookup(self, directory: FileHandle, name: bytes) -> FileHandle:
        result: LookupRes = await self.call(Procedure.LOOKUP, LookupArgs(directory, name))
        assert result.status is NfsStat3.OK
        assert result.object is not None
        return result.object

    async def create(self, name: bytes, directory: FileHandle | None = None, mode: int = 0o644) -> FileHandle:
        args = CreateArgs(directory or self.root, name, CreateMode3.GUARDED, Sattr3(mode=mode))
        result = await self.call(Procedure.CREATE, args)
        assert result.status is NfsStat3.OK, result
        handle: FileHandle = result.object
        return handle

    async def mkdir(self, name: bytes, directory: FileHandle | None = None, mode: int = 0o755) -> FileHandle:
        args = MkdirArgs(directory or self.root, name, Sattr3(mode=mode))
        result = await self.call(Procedure.MKDIR, args)
        assert result.status is NfsStat3.OK, result
        handle: FileHandle = result.object
        return handle

    async def getattr(self, handle: FileHandle) -> Fattr3:
        result: GetattrRes = await self.call(Procedure.GETATTR, GetattrArgs(handle))
        assert result.status is NfsStat3.OK
        assert result.attributes is not None
        return result.attributes

    async def write(
        self, handle: FileHandle, offset: int, data: bytes, stable: StableHow = StableHow.UNSTABLE
    ) -> WriteRes:
        result: WriteRes = await self.call(Procedure.WRITE, WriteArgs(handle, offset, len(data), stable, data))
        assert result.status is NfsStat3.OK, result
        return result

    async def read(self, handle: FileHandle, offset: int = 0, count: int = 1 << 20) -> bytes:
        result: ReadRes = await self.call(Procedure.READ, ReadArgs(handle, offset, count))
        assert result.status is NfsStat3.OK, result
        return bytes(result.data)

    def check(self) -> None:
        """What must hold between calls: no broken rule, and ledger and sweep agree."""
        cache = self.server.cache
        assert not any(cache.violations.values()), cache.stories
        report = cache.ledger.audit(self.server.roots_in_use(), cache.mappings)
        assert report.agrees, report.differences
