"""READs that the page cache answers: who may read which file is found once, and known again by handle and caller.

It is what a server does most. knfsd likewise keeps its open files by inode and credential (fs/nfsd/filecache.c).
"""

from __future__ import annotations

from freepage import read_buffers_nowait
from freepage_proto.nfs3 import Fattr3, FileHandle, NfsStat3, ReadArgs, ReadRes
from freepage_proto.rpc import AuthSys, CallHeader
from freepage_server.nfsd.fh import Resolve
from freepage_server.nfsd.filecache import FileCache
from freepage_server.nfsd.inode import NfsdFile
from freepage_server.nfsd.permission import MAY_READ, require

MAX_READERS = 4096


class Reader:
    """A file with pages in the cache, as one caller reads it."""

    __slots__ = ("caller", "file", "inode", "max_read", "permitted")

    def __init__(self, caller: AuthSys, file: NfsdFile, max_read: int) -> None:
        self.caller = caller
        self.file = file
        self.inode = file.inode
        self.max_read = max_read
        self.permitted: Fattr3 | None = None
        """the attributes with which he may; the storage gives the same object as long as they are the same"""


class Readers:
    """``max_payload`` bounds a READ in bytes."""

    def __init__(self, files: FileCache, resolve: Resolve, max_payload: int) -> None:
        self._files = files
        self._resolve = resolve
        self._max_payload = max_payload
        self._readers: dict[tuple[FileHandle, int], Reader] = {}
        """by handle and credential, which is its own as long as it is kept here: the same objects come again, and to
        hash one takes longer. None where it matters from which address he calls."""

    def read_nowait(self, header: CallHeader, args: ReadArgs) -> ReadRes | None:
        """What READ answers if the cache has all of it; None otherwise. Raises OSError or NfsError where READ fails.

        Costs one `Storage.getattr`. The data may be a view of the cached buffer, which it keeps in memory: for who
        sends them on at once.
        """
        reader = self._readers.get((args.file, id(header.cred)))
        if reader is None or reader.inode.gone:
            reader = self._find(header, args.file)
            if reader is None:
                return None
        inode = reader.inode
        attributes = self._files.attributes_of(inode)
        if attributes is not reader.permitted:
            require(attributes, reader.file.cred, MAY_READ, owner_override=True)
            reader.permitted = attributes
        if inode.foreign or inode.racy_until_ns:
            return None
        count = args.count
        buffers = read_buffers_nowait(reader.file, args.offset, count if count < reader.max_read else reader.max_read)
        if buffers is None:
            return None
        self._files.used(inode)
        data = buffers[0] if len(buffers) == 1 else b"".join(buffers)
        count = len(data)
        return ReadRes(NfsStat3.OK, attributes, count, args.offset + count >= attributes.size, data)

    def _find(self, header: CallHeader, handle: FileHandle) -> Reader | None:
        fh, cred = self._resolve(handle, header)
        inode = self._files.cached(fh.export, fh.key)
        if inode is None:
            return None
        reader = Reader(header.cred, inode.file_for(cred), min(self._max_payload, fh.export.max_read))
        if not fh.export.clients:
            if len(self._readers) >= MAX_READERS:
                self._readers.clear()
            self._readers[handle, id(header.cred)] = reader
        return reader
