"""The server's regular files: what lies between the NFS procedures and the storage's bytes."""

from __future__ import annotations

from freepage_proto.nfs3 import Data, Fattr3, StableHow
from freepage_proto.rpc import AuthSys
from freepage_server.nfsd.export import Export
from freepage_server.nfsd.storage import Key


class FileCache:
    """Reads, writes, commits and cuts files, and overlays the attributes of those with unwritten data."""

    def attributes(self, export: Export, key: Key) -> Fattr3:
        return export.storage.getattr(key)

    async def read(self, export: Export, key: Key, offset: int, count: int, cred: AuthSys) -> Data:
        return await export.storage.read(key, offset, count)

    async def write(self, export: Export, key: Key, offset: int, data: Data, stable: StableHow, cred: AuthSys) -> None:
        await export.storage.write(key, offset, data)
        if stable is not StableHow.UNSTABLE:
            await export.storage.fsync(key)

    async def commit(self, export: Export, key: Key, offset: int = 0, count: int = 0) -> None:
        await export.storage.fsync(key)

    async def truncate(self, export: Export, key: Key, size: int) -> None:
        await export.storage.truncate(key, size)

    def changed(self, export: Export, key: Key) -> None:
        """The storage's attributes of this inode were just changed by us."""

    def gone(self, export: Export, key: Key) -> None:
        """The last link of this inode was just removed by us."""
