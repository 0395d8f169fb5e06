"""The 22 procedures of NFSv3 (RFC 1813; Linux: fs/nfsd/nfs3proc.c): arguments in, results out, errors as nfsstat3.

Which replies carry attributes follows knfsd, and the recorded sizes of its replies agree: FSSTAT, FSINFO and PATHCONF
none; WRITE and COMMIT none from before (unless ``wcc_on_write`` is ``full``); a namespace operation that fails before
it takes the directory's lock none from before either.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any

from freepage_proto.nfs3 import (
    AccessArgs,
    AccessRes,
    CommitArgs,
    CommitRes,
    CreateArgs,
    CreateRes,
    Data,
    FileHandle,
    FsinfoArgs,
    FsInfoProperties,
    FsinfoRes,
    FsstatArgs,
    FsstatRes,
    GetattrArgs,
    GetattrRes,
    LinkArgs,
    LinkRes,
    LookupArgs,
    LookupRes,
    MkdirArgs,
    MknodArgs,
    NfsStat3,
    NullRes,
    PathconfArgs,
    PathconfRes,
    ReadArgs,
    ReaddirArgs,
    ReaddirplusArgs,
    ReaddirRes,
    ReadlinkArgs,
    ReadlinkRes,
    ReadRes,
    RemoveArgs,
    RemoveRes,
    RenameArgs,
    RenameRes,
    SetattrArgs,
    SetattrRes,
    SymlinkArgs,
    WccData,
    WriteArgs,
    WriteRes,
)
from freepage_proto.rpc import CallHeader, Procedure
from freepage_server.nfsd.errors import NfsError, nfsstat3
from freepage_server.nfsd.export import WccOnWrite
from freepage_server.nfsd.fh import Fh, Resolve
from freepage_server.nfsd.handles import HandleCodec
from freepage_server.nfsd.permission import granted
from freepage_server.nfsd.readdir import COOKIEVERF, read_directory
from freepage_server.nfsd.vfs import Vfs

PAGE_SIZE = 4096

Handler = Callable[[CallHeader, Any], Awaitable[object]]
"""Executes one procedure's arguments. Raises nothing that the protocol has a status for."""


class Outcome:
    """``with Outcome() as outcome:`` turns an error of the block into ``outcome.status``; OK if there is none."""

    __slots__ = ("status",)

    def __init__(self) -> None:
        self.status = NfsStat3.OK

    def __enter__(self) -> Outcome:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if isinstance(error, (OSError, NfsError)):
            self.status = nfsstat3(error)
            return True
        return False

    @property
    def ok(self) -> bool:
        return self.status is NfsStat3.OK


def _post(fh: Fh | None) -> Any:
    return fh.post() if fh is not None else None


def _wcc(fh: Fh | None) -> WccData:
    return fh.wcc() if fh is not None else WccData()


class Nfs3:
    """``max_payload`` bounds READ, WRITE and READDIR, in bytes; ``verf`` gives the write verifier of this instant."""

    def __init__(
        self,
        vfs: Vfs,
        handles: HandleCodec,
        resolve: Resolve,
        verf: Callable[[], bytes],
        *,
        max_payload: int,
        wcc_on_write: WccOnWrite,
    ) -> None:
        self.vfs = vfs
        self.handles = handles
        self.resolve = resolve
        self.verf = verf
        self.max_payload = max_payload
        self.wcc_on_write = wcc_on_write
        self.handlers: dict[Procedure, Handler] = {
            Procedure.NULL: self.null,
            Procedure.GETATTR: self.getattr,
            Procedure.SETATTR: self.setattr,
            Procedure.LOOKUP: self.lookup,
            Procedure.ACCESS: self.access,
            Procedure.READLINK: self.readlink,
            Procedure.READ: self.read,
            Procedure.WRITE: self.write,
            Procedure.CREATE: self.create,
            Procedure.MKDIR: self.mkdir,
            Procedure.SYMLINK: self.symlink,
            Procedure.MKNOD: self.mknod,
            Procedure.REMOVE: self.remove,
            Procedure.RMDIR: self.rmdir,
            Procedure.RENAME: self.rename,
            Procedure.LINK: self.link,
            Procedure.READDIR: self.readdir,
            Procedure.READDIRPLUS: self.readdirplus,
            Procedure.FSSTAT: self.fsstat,
            Procedure.FSINFO: self.fsinfo,
            Procedure.PATHCONF: self.pathconf,
            Procedure.COMMIT: self.commit,
        }

    def _handle(self, fh: Fh) -> FileHandle:
        return self.handles.encode(fh.export.id, fh.key)

    async def null(self, header: CallHeader, args: object) -> NullRes:
        return NullRes()

    # --- attributes -----------------------------------------------------------------------------------------------

    async def getattr(self, header: CallHeader, args: GetattrArgs) -> GetattrRes:
        attributes = None
        with Outcome() as outcome:
            fh, _ = self.resolve(args.object, header)
            attributes = fh.attributes()
        return GetattrRes(outcome.status, attributes)

    async def setattr(self, header: CallHeader, args: SetattrArgs) -> SetattrRes:
        fh = None
        with Outcome() as outcome:
            fh, cred = self.resolve(args.object, header)
            await self.vfs.setattr(fh, args.new_attributes, cred, args.guard_ctime_ns)
        return SetattrRes(outcome.status, _wcc(fh))

    async def access(self, header: CallHeader, args: AccessArgs) -> AccessRes:
        with Outcome() as outcome:
            fh, cred = self.resolve(args.object, header)
            attributes = fh.attributes()
            access = granted(attributes, cred, args.access, read_only=fh.export.read_only)
            return AccessRes(outcome.status, attributes, access)
        return AccessRes(outcome.status)

    # --- looking --------------------------------------------------------------------------------------------------

    async def lookup(self, header: CallHeader, args: LookupArgs) -> LookupRes:
        fh = None
        with Outcome() as outcome:
            fh, cred = self.resolve(args.dir, header)
            child = self.vfs.lookup(fh, args.name, cred)
            attributes = child.attributes()
            return LookupRes(outcome.status, self._handle(child), attributes, fh.post())
        return LookupRes(outcome.status, dir_attributes=_post(fh))

    async def readlink(self, header: CallHeader, args: ReadlinkArgs) -> ReadlinkRes:
        fh = None
        path = b""
        with Outcome() as outcome:
            fh, _ = self.resolve(args.symlink, header)
            path = self.vfs.readlink(fh)
        return ReadlinkRes(outcome.status, _post(fh), path)

    # --- data -----------------------------------------------------------------------------------------------------

    async def read(self, header: CallHeader, args: ReadArgs) -> ReadRes:
        fh = None
        with Outcome() as outcome:
            fh, cred = self.resolve(args.file, header)
            count = min(args.count, self.max_payload, fh.export.max_read)
            data, eof, attributes = await self.vfs.read(fh, args.offset, count, cred)
            return ReadRes(outcome.status, attributes, len(data), eof, data)
        return ReadRes(outcome.status, _post(fh))

    async def write(self, header: CallHeader, args: WriteArgs) -> WriteRes:
        fh = None
        with Outcome() as outcome:
            fh, cred = self.resolve(args.file, header)
            if args.count > len(args.data):
                raise NfsError(NfsStat3.INVAL)
            count = min(args.count, self.max_payload, fh.export.max_write)
            data: Data = args.data
            if count < len(data):
                data = memoryview(data)[:count]
            if "full" in (self.wcc_on_write, fh.export.wcc_on_write):
                fh.fill_pre_attrs()
            # The verifier of before: data that came, were written out and lost in between must not look safe.
            verf = self.verf()
            count = await self.vfs.write(fh, args.offset, data, args.stable, cred)
            return WriteRes(outcome.status, fh.wcc(), count, args.stable, verf)
        return WriteRes(outcome.status, _wcc(fh))

    async def commit(self, header: CallHeader, args: CommitArgs) -> CommitRes:
        fh = None
        with Outcome() as outcome:
            fh, cred = self.resolve(args.file, header)
            if "full" in (self.wcc_on_write, fh.export.wcc_on_write):
                fh.fill_pre_attrs()
            await self.vfs.commit(fh, args.offset, args.count, cred)
            return CommitRes(outcome.status, fh.wcc(), self.verf())
        return CommitRes(outcome.status, _wcc(fh))

    # --- names ----------------------------------------------------------------------------------------------------

    def _created(self, fh: Fh | None, child: Fh | None, outcome: Outcome) -> CreateRes:
        if child is None or not outcome.ok:
            return CreateRes(outcome.status, dir_wcc=_wcc(fh))
        return CreateRes(outcome.status, self._handle(child), child.post(), _wcc(fh))

    async def create(self, header: CallHeader, args: CreateArgs) -> CreateRes:
        fh = child = None
        with Outcome() as outcome:
            fh, cred = self.resolve(args.dir, header)
            child = await self.vfs.create(fh, args.name, args.mode, args.attributes, args.verf, cred)
        return self._created(fh, child, outcome)

    async def mkdir(self, header: CallHeader, args: MkdirArgs) -> CreateRes:
        fh = child = None
        with Outcome() as outcome:
            fh, cred = self.resolve(args.dir, header)
            child = await self.vfs.mkdir(fh, args.name, args.attributes, cred)
        return self._created(fh, child, outcome)

    async def symlink(self, header: CallHeader, args: SymlinkArgs) -> CreateRes:
        fh = child = None
        with Outcome() as outcome:
            fh, cred = self.resolve(args.dir, header)
            child = await self.vfs.symlink(fh, args.name, args.path, args.attributes, cred)
        return self._created(fh, child, outcome)

    async def mknod(self, header: CallHeader, args: MknodArgs) -> CreateRes:
        fh = child = None
        with Outcome() as outcome:
            fh, cred = self.resolve(args.dir, header)
            child = await self.vfs.mknod(fh, args.name, args.type, args.attributes, args.rdev, cred)
        return self._created(fh, child, outcome)

    async def remove(self, header: CallHeader, args: RemoveArgs) -> RemoveRes:
        fh = None
        with Outcome() as outcome:
            fh, cred = self.resolve(args.dir, header)
            await self.vfs.unlink(fh, args.name, cred)
        return RemoveRes(outcome.status, _wcc(fh))

    async def rmdir(self, header: CallHeader, args: RemoveArgs) -> RemoveRes:
        fh = None
        with Outcome() as outcome:
            fh, cred = self.resolve(args.dir, header)
            await self.vfs.rmdir(fh, args.name, cred)
        return RemoveRes(outcome.status, _wcc(fh))

    async def rename(self, header: CallHeader, args: RenameArgs) -> RenameRes:
        fh = to = None
        with Outcome() as outcome:
            fh, cred = self.resolve(args.from_dir, header)
            to, _ = self.resolve(args.to_dir, header)
            await self.vfs.rename(fh, args.from_name, to, args.to_name, cred)
        return RenameRes(outcome.status, _wcc(fh), _wcc(to))

    async def link(self, header: CallHeader, args: LinkArgs) -> LinkRes:
        fh = target = None
        with Outcome() as outcome:
            target, _ = self.resolve(args.file, header)
            fh, cred = self.resolve(args.dir, header)
            await self.vfs.link(fh, target, args.name, cred)
        return LinkRes(outcome.status, _post(target), _wcc(fh))

    # --- directories ----------------------------------------------------------------------------------------------

    async def _readdir(self, header: CallHeader, dir: FileHandle, cookie: int, count: int, *, plus: bool) -> ReaddirRes:
        fh = None
        with Outcome() as outcome:
            fh, cred = self.resolve(dir, header)
            self.vfs.require_readable_directory(fh, cred)
            entries, eof = await read_directory(fh, self.handles, cookie, min(count, self.max_payload), plus=plus)
            return ReaddirRes(outcome.status, fh.post(), COOKIEVERF, entries, eof)
        return ReaddirRes(outcome.status, _post(fh))

    async def readdir(self, header: CallHeader, args: ReaddirArgs) -> ReaddirRes:
        return await self._readdir(header, args.dir, args.cookie, args.count, plus=False)

    async def readdirplus(self, header: CallHeader, args: ReaddirplusArgs) -> ReaddirRes:
        return await self._readdir(header, args.dir, args.cookie, args.maxcount, plus=True)

    # --- file system ----------------------------------------------------------------------------------------------

    async def fsstat(self, header: CallHeader, args: FsstatArgs) -> FsstatRes:
        with Outcome() as outcome:
            fh, _ = self.resolve(args.root, header)
            fh.attributes()
            s = fh.export.storage.statfs()
            return FsstatRes(
                outcome.status,
                None,
                s.total_bytes,
                s.free_bytes,
                s.available_bytes,
                s.total_files,
                s.free_files,
                s.available_files,
            )
        return FsstatRes(outcome.status)

    async def fsinfo(self, header: CallHeader, args: FsinfoArgs) -> FsinfoRes:
        with Outcome() as outcome:
            fh, _ = self.resolve(args.root, header)
            fh.attributes()
            size = self.max_payload
            read, write = min(size, fh.export.max_read), min(size, fh.export.max_write)
            return FsinfoRes(
                outcome.status,
                None,
                rtmax=read,
                rtpref=read,
                rtmult=PAGE_SIZE,
                wtmax=write,
                wtpref=write,
                wtmult=PAGE_SIZE,
                dtpref=size,
                maxfilesize=fh.export.storage.max_file_size,
                time_delta_ns=1,
                properties=FsInfoProperties.LINK
                | FsInfoProperties.SYMLINK
                | FsInfoProperties.HOMOGENEOUS
                | FsInfoProperties.CANSETTIME,
            )
        return FsinfoRes(outcome.status)

    async def pathconf(self, header: CallHeader, args: PathconfArgs) -> PathconfRes:
        with Outcome() as outcome:
            fh, _ = self.resolve(args.object, header)
            fh.attributes()
            storage = fh.export.storage
            return PathconfRes(outcome.status, None, storage.link_max, storage.name_max, no_trunc=False)
        return PathconfRes(outcome.status)
