"""One NFS server: exports, and every procedure of the programs it speaks, behind one coroutine, `NfsServer.call`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from freepage import PAGE_SHIFT, AuditReport, MemCgroup, PageCache, SlabObject
from freepage_proto.message import message
from freepage_proto.mount3 import DumpRes, ExportRes, MntArgs, MntRes, UmntArgs
from freepage_proto.nfs3 import (
    AccessArgs,
    CommitArgs,
    CreateArgs,
    FileHandle,
    FsinfoArgs,
    FsstatArgs,
    GetattrArgs,
    LinkArgs,
    LookupArgs,
    MkdirArgs,
    MknodArgs,
    NfsStat3,
    NullArgs,
    NullRes,
    PathconfArgs,
    ReadArgs,
    ReaddirArgs,
    ReaddirplusArgs,
    ReadlinkArgs,
    ReadRes,
    RemoveArgs,
    RenameArgs,
    SetattrArgs,
    SymlinkArgs,
    WriteArgs,
    WriteRes,
)
from freepage_proto.nfsacl3 import GetaclArgs, GetaclRes
from freepage_proto.nlm4 import GrantedArgs, GrantedRes, LockArgs, NlmRes, NlmStat4, UnlockArgs
from freepage_proto.rpc import AuthSys, CallHeader, Procedure, RpcGarbageArgs
from freepage_server.nfsd.drc import CACHED as REPLY_CACHED
from freepage_server.nfsd.drc import ReplyCache
from freepage_server.nfsd.errors import NfsError, nfsstat3
from freepage_server.nfsd.export import LOCAL_PEER, MAX_PAYLOAD, Export, WccOnWrite
from freepage_server.nfsd.fh import Fh
from freepage_server.nfsd.filecache import FileCache
from freepage_server.nfsd.flusher import Clock, Flusher
from freepage_server.nfsd.handles import HandleCodec
from freepage_server.nfsd.lockd import LockManager
from freepage_server.nfsd.mountd import MountDaemon
from freepage_server.nfsd.nfs3 import Handler, Nfs3
from freepage_server.nfsd.nfsacl import getacl
from freepage_server.nfsd.reader import Reader
from freepage_server.nfsd.stats import ProcedureStats, ServerStats
from freepage_server.nfsd.vfs import Vfs

__all__ = ["Clock", "Export", "NfsServer"]

_UINT64 = (1 << 64) - 1

MAX_CLIENTS = 4096
"""How many clients' boot instances are remembered."""
MAX_INSTANCES = 8
"""How many of each."""


@message
class Caller(CallHeader):
    """A header of which it matters where it came from."""

    peer: str = LOCAL_PEER


@dataclass(frozen=True, slots=True)
class _Served:
    """What a call of one procedure needs, found with one look."""

    handler: Handler
    arguments: type
    cached: bool
    stats: ProcedureStats


def peer_of(header: CallHeader) -> str:
    return header.peer if isinstance(header, Caller) else LOCAL_PEER


def _create_future() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


class NfsServer:
    """See `call`. ``wall_ns`` gives the time of day in ns; ``boot_ns`` tells this life of the server from the last.

    ``secret`` keys the file handles: the same over restarts, and known to nobody else. The default is for a simulated
    world; a server on a network is given its own.

    ``memory_bytes`` limits the page cache (None: no limit); ``cache`` is used instead of a new one, and then says how
    large it is by itself. ``random`` gives floats in [0, 1) for the hook policy; ``strict`` makes a broken rule of the
    hook raise RuleViolation.
    """

    def __init__(
        self,
        exports: Sequence[Export],
        *,
        clock: Clock,
        wall_ns: Callable[[], int],
        boot_ns: int = 0,
        secret: bytes = b"freepage",
        max_payload: int = MAX_PAYLOAD,
        wcc_on_write: WccOnWrite = "none",
        memory_bytes: int | None = None,
        cache: PageCache | None = None,
        random: Callable[[], float] | None = None,
        strict: bool = False,
    ) -> None:
        self.exports: dict[str, Export] = {export.name: export for export in exports}
        if len(self.exports) != len(exports):
            raise ValueError("two exports have the same name")
        self._exports_by_id = {export.id: export for export in exports}
        self._restricted = any(export.clients for export in exports)
        self.clock = clock
        self.wall_ns = wall_ns
        self.stats = ServerStats()
        self.handles = HandleCodec(secret)
        self.cache = cache or PageCache(
            now=clock.now,
            create_future=_create_future,
            memcg=MemCgroup(None if memory_bytes is None else memory_bytes >> PAGE_SHIFT),
            random=random,
            strict=strict,
        )
        self.files = FileCache(self.cache, self.stats, self._reset_write_verifier)
        self.replies = ReplyCache(clock.now)
        self._flusher = Flusher(self.files.bdi.wb, clock)
        self.vfs = Vfs(self.files)
        self.locks = LockManager()
        self.mountd = MountDaemon(self.exports, self.handles)
        self._verf = boot_ns & _UINT64
        self._nfs3 = Nfs3(
            self.vfs,
            self.handles,
            self._resolve,
            self.write_verifier,
            max_payload=max_payload,
            wcc_on_write=wcc_on_write,
        )
        self._boot_instances: dict[str, list[int]] = {}
        self._last_pid = 0
        self._served = {
            procedure: _Served(
                handler, ARGUMENTS[procedure], procedure in REPLY_CACHED, self.stats.by_procedure[procedure]
            )
            for procedure, handler in self._handlers().items()
        }
        assert self._served.keys() == set(Procedure)

    # --- life -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """From now on unwritten data is written out by itself after a while."""
        self._flusher.start()

    async def stop(self) -> None:
        """End background work and write out everything. Calls must have ceased."""
        await self._flusher.stop()
        await self.files.quiesce()
        await self.sync()

    async def sync(self) -> None:
        """Return when nothing is unwritten (sync(2))."""
        await self.files.sync()

    async def drop_caches(self, what: int = 1) -> None:
        """``echo what > /proc/sys/vm/drop_caches``: bit 0 drops clean pages, bit 1 inodes without pages."""
        self.files.drop_caches(what)

    async def crash(self, boot_ns: int) -> None:
        """Lose power and boot again: unwritten data and locks are gone, and the write verifier is another.

        The caller sees to it that no call is under way.
        """
        await self.files.crash()
        self.locks.dismiss_all()
        self.locks = LockManager()
        self.replies = ReplyCache(self.clock.now)
        self._boot_instances.clear()
        self._verf = boot_ns & _UINT64

    def roots_in_use(self) -> Iterable[SlabObject]:
        """Accounted objects that something other than a page keeps alive, for the audit: none outlives a plain call."""
        return ()

    def audit(self) -> AuditReport:
        """Mark and sweep over the objects of the server's page cache."""
        return self.cache.ledger.audit(self.roots_in_use(), self.cache.mappings)

    def describe(self, handle: FileHandle) -> str:
        """Where the file is, for people: the export's name followed by the path in it. Raises nothing."""
        try:
            export_id, key = self.handles.decode(handle)
        except NfsError:
            return "(no file)"
        export = self._exports_by_id.get(export_id)
        return "(no export)" if export is None else f"{export.name.rstrip('/')}/{export.storage.describe(key)}"

    def next_local_pid(self) -> int:
        """A process number for the next `LocalTask`."""
        self._last_pid += 1
        return self._last_pid

    def write_verifier(self) -> bytes:
        """Eight bytes that change when unstable data may have been lost (RFC 1813 section 3.3.7)."""
        return self._verf.to_bytes(8, "big")

    def _reset_write_verifier(self) -> None:
        """Writing failed: clients have to send uncommitted data again (knfsd: nfsd_reset_write_verifier)."""
        self._verf = (self._verf + 1) & _UINT64
        self.stats.write_verifier_changes += 1

    # --- calls ----------------------------------------------------------------------------------------------------

    async def call(self, procedure: Procedure, header: CallHeader, args: object, peer: str = LOCAL_PEER) -> object:
        """Execute one call and return the procedure's result.

        Raises RpcGarbageArgs for arguments of another procedure; every other failure is a status in the result.
        """
        self._note_boot_instance(header)
        if self._restricted:
            header = Caller(header.client_id, header.boot_instance, header.xid, header.cred, peer)
        served = self._served[procedure]
        if not isinstance(args, served.arguments):
            raise RpcGarbageArgs(f"{procedure.display_name} cannot take {type(args).__name__}")
        stats = served.stats
        self.stats.in_flight += 1
        try:
            if served.cached:
                result = await self.replies.once(procedure, header, args, lambda: served.handler(header, args))
            else:
                result = await served.handler(header, args)
        finally:
            self.stats.in_flight -= 1
        stats.calls += 1
        status = getattr(result, "status", None)
        if status is not None and status != 0:
            stats.errors += 1
            if isinstance(status, NfsStat3):
                self.stats.error_replies[status] += 1
        elif isinstance(result, ReadRes):
            stats.bytes_read += result.count
        elif isinstance(result, WriteRes):
            stats.bytes_written += result.count
        return result

    def reader(self, header: CallHeader, handle: FileHandle, peer: str = LOCAL_PEER) -> Reader | None:
        """What answers as `call` does to this caller's READs of this file, when the page cache can; None: nothing does.

        It is what a server does most, so it is spared what only calls need that may wait, fail or come twice.
        """
        self._note_boot_instance(header)
        if self._restricted:
            header = Caller(header.client_id, header.boot_instance, header.xid, header.cred, peer)
        try:
            fh, cred = self._resolve(handle, header)
        except NfsError:
            return None
        inode = self.files.cached(fh.export, fh.key)
        if inode is None:
            return None
        max_read = min(self._nfs3.max_payload, fh.export.max_read)
        stats = self.stats.by_procedure[Procedure.READ]
        return Reader(self.files, inode.file_for(cred), max_read, stats, lasting=not fh.export.clients)

    def _handlers(self) -> dict[Procedure, Handler]:
        async def null(header: CallHeader, args: object) -> NullRes:
            return NullRes()

        async def mnt(header: CallHeader, args: MntArgs) -> MntRes:
            return self.mountd.mnt(header, args, peer_of(header))

        async def dump(header: CallHeader, args: NullArgs) -> DumpRes:
            return self.mountd.dump()

        async def umnt(header: CallHeader, args: UmntArgs) -> NullRes:
            return self.mountd.umnt(header, args)

        async def export(header: CallHeader, args: NullArgs) -> ExportRes:
            return self.mountd.export()

        return {
            **self._nfs3.handlers,
            Procedure.MOUNT_NULL: null,
            Procedure.MOUNT_MNT: mnt,
            Procedure.MOUNT_DUMP: dump,
            Procedure.MOUNT_UMNT: umnt,
            Procedure.MOUNT_EXPORT: export,
            Procedure.NFSACL_NULL: null,
            Procedure.NFSACL_GETACL: self._getacl,
            Procedure.NLM_NULL: null,
            Procedure.NLM_TEST: self._nlm(lambda header, args: self.locks.test(header.client_id, args)),
            Procedure.NLM_LOCK: self._nlm(self._lock),
            Procedure.NLM_CANCEL: self._nlm(lambda header, args: self.locks.cancel(header.client_id, args)),
            Procedure.NLM_UNLOCK: self._nlm(self._unlock),
            Procedure.NLM_GRANTED: self._granted,
        }

    async def _getacl(self, header: CallHeader, args: GetaclArgs) -> GetaclRes:
        try:
            fh, _ = self._resolve(args.object, header)
            return getacl(fh.attributes(), args.mask)
        except (OSError, NfsError) as failure:
            return GetaclRes(nfsstat3(failure))

    def _lock(self, header: CallHeader, args: LockArgs) -> NlmRes:
        if self._is_of_the_past(header):
            return NlmRes(NlmStat4.DENIED_NOLOCKS)  # nobody is left who would release it
        return self.locks.lock(header.client_id, args)

    def _unlock(self, header: CallHeader, args: UnlockArgs) -> NlmRes:
        if self._is_of_the_past(header):
            return NlmRes(NlmStat4.GRANTED)  # it went with its life
        return self.locks.unlock(header.client_id, args)

    async def _granted(self, header: CallHeader, args: GrantedArgs) -> GrantedRes:
        if self._is_of_the_past(header):
            return GrantedRes(())
        return GrantedRes(await self.locks.granted(header.client_id, args.wait_ms))

    def _nlm(self, work: Callable[[CallHeader, Any], NlmRes]) -> Handler:
        """A handler that does ``work(header, args)`` if the lock's handle is that of a regular file."""

        async def handler(header: CallHeader, args: LockArgs | UnlockArgs) -> NlmRes:
            try:
                fh, _ = self._resolve(args.lock.file, header)
                fh.require_file()
            except (OSError, NfsError) as failure:
                stale = nfsstat3(failure) in (NfsStat3.STALE, NfsStat3.BADHANDLE)
                return NlmRes(NlmStat4.STALE_FH if stale else NlmStat4.FAILED)
            return work(header, args)

        return handler

    # --- inside ---------------------------------------------------------------------------------------------------

    def _resolve(self, handle: FileHandle, header: CallHeader) -> tuple[Fh, AuthSys]:
        export_id, key = self.handles.decode(handle)
        export = self._exports_by_id.get(export_id)
        if export is None:
            raise NfsError(NfsStat3.STALE)  # no longer exported
        if export.clients and not export.admits(peer_of(header)):
            raise NfsError(NfsStat3.STALE)  # not exported to him, as knfsd has it
        return Fh(self.files, export, key), export.squashed(header.cred)

    def _note_boot_instance(self, header: CallHeader) -> None:
        """A client that has restarted holds no locks any more (what statd's NOTIFY tells a real server).

        A call of an earlier life that arrives late is no restart. Nothing else ends a client's locks by itself: as with
        lockd, a host that never comes back keeps them until an administrator takes them away.
        """
        seen = self._boot_instances.get(header.client_id)
        if seen is None:
            if len(self._boot_instances) >= MAX_CLIENTS:
                del self._boot_instances[next(iter(self._boot_instances))]
            self._boot_instances[header.client_id] = [header.boot_instance]
        elif header.boot_instance not in seen:
            self.locks.free_client(header.client_id)
            seen.append(header.boot_instance)
            del seen[:-MAX_INSTANCES]

    def _is_of_the_past(self, header: CallHeader) -> bool:
        """Whether the client has called in a later life."""
        return self._boot_instances[header.client_id][-1] != header.boot_instance


ARGUMENTS: dict[Procedure, type] = {
    Procedure.NULL: NullArgs,
    Procedure.GETATTR: GetattrArgs,
    Procedure.SETATTR: SetattrArgs,
    Procedure.LOOKUP: LookupArgs,
    Procedure.ACCESS: AccessArgs,
    Procedure.READLINK: ReadlinkArgs,
    Procedure.READ: ReadArgs,
    Procedure.WRITE: WriteArgs,
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
    Procedure.FSSTAT: FsstatArgs,
    Procedure.FSINFO: FsinfoArgs,
    Procedure.PATHCONF: PathconfArgs,
    Procedure.COMMIT: CommitArgs,
    Procedure.MOUNT_NULL: NullArgs,
    Procedure.MOUNT_MNT: MntArgs,
    Procedure.MOUNT_DUMP: NullArgs,
    Procedure.MOUNT_UMNT: UmntArgs,
    Procedure.MOUNT_EXPORT: NullArgs,
    Procedure.NFSACL_NULL: NullArgs,
    Procedure.NFSACL_GETACL: GetaclArgs,
    Procedure.NLM_NULL: NullArgs,
    Procedure.NLM_TEST: LockArgs,
    Procedure.NLM_LOCK: LockArgs,
    Procedure.NLM_CANCEL: UnlockArgs,
    Procedure.NLM_UNLOCK: UnlockArgs,
    Procedure.NLM_GRANTED: GrantedArgs,
}
"""What each procedure takes; anything else is GARBAGE_ARGS."""
