"""The MOUNT protocol, version 3 (RFC 1813 appendix I): from an export's path to a file handle."""

from __future__ import annotations

import errno

from freepage_proto.mount3 import DumpRes, ExportEntry, ExportRes, MntArgs, MntRes, MountEntry, MountStat3, UmntArgs
from freepage_proto.nfs3 import NFS_MAXPATHLEN, FType3, NullRes
from freepage_proto.rpc import CallHeader
from freepage_server.nfsd.errors import NfsError, mountstat3
from freepage_server.nfsd.export import LOCAL_PEER, Export
from freepage_server.nfsd.fh import error
from freepage_server.nfsd.handles import HandleCodec
from freepage_server.nfsd.storage import Key

AUTH_SYS_FLAVOR = 1
MAX_MOUNT_ENTRIES = 4096
"""DUMP remembers who mounted what; nobody has to say goodbye, so the oldest are forgotten."""


class MountDaemon:
    """``exports`` by name. A directory below an export can be mounted too; symbolic links are not followed."""

    def __init__(self, exports: dict[str, Export], handles: HandleCodec) -> None:
        self.exports = exports
        self.handles = handles
        self._mounts: dict[tuple[str, bytes], None] = {}

    def mnt(self, header: CallHeader, args: MntArgs, peer: str = LOCAL_PEER) -> MntRes:
        try:
            export, key = self._find(args.dirpath, peer)
        except (OSError, NfsError) as failure:
            return MntRes(mountstat3(failure))
        entry = (header.cred.machine_name or header.client_id, args.dirpath)
        self._mounts.pop(entry, None)
        self._mounts[entry] = None
        if len(self._mounts) > MAX_MOUNT_ENTRIES:
            del self._mounts[next(iter(self._mounts))]
        return MntRes(MountStat3.OK, self.handles.encode(export.id, key), (AUTH_SYS_FLAVOR,))

    def _find(self, path: bytes, peer: str) -> tuple[Export, Key]:
        if len(path) > NFS_MAXPATHLEN:
            raise error(errno.ENAMETOOLONG)
        names = [name for name in path.split(b"/") if name not in (b"", b".")]
        if not path.startswith(b"/") or b".." in names or b"\0" in path:
            raise error(errno.EINVAL)
        for depth in range(len(names), -1, -1):  # the longest export that contains the path
            export = self.exports.get("/" + b"/".join(names[:depth]).decode(errors="surrogateescape"))
            if export is not None:
                break
        else:
            raise error(errno.EACCES if self.exports else errno.ENOENT)
        if not export.admits(peer):
            raise error(errno.EACCES)
        key = export.storage.root()
        for name in names[depth:]:
            key = export.storage.lookup(key, name)
        if export.storage.getattr(key).type is not FType3.DIR:
            raise error(errno.ENOTDIR)
        return export, key

    def umnt(self, header: CallHeader, args: UmntArgs) -> NullRes:
        self._mounts.pop((header.cred.machine_name or header.client_id, args.dirpath), None)
        return NullRes()

    def dump(self) -> DumpRes:
        return DumpRes(tuple(MountEntry(hostname, directory) for hostname, directory in self._mounts))

    def export(self) -> ExportRes:
        return ExportRes(
            tuple(
                ExportEntry(name.encode(errors="surrogateescape"), tuple(str(client) for client in export.clients))
                for name, export in self.exports.items()
            )
        )
