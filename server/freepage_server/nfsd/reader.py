"""READs that the page cache answers: who may read which file is found once, and known again.

It is what a server does most. knfsd likewise keeps its open files by inode and credential (fs/nfsd/filecache.c), and
sends what is cached without copying it (fs/nfsd/vfs.c:nfsd_splice_read).
"""

from __future__ import annotations

from freepage import read_buffers_nowait, read_folio_nowait
from freepage_proto.nfs3 import Data, Fattr3, NfsStat3, ReadRes
from freepage_server.nfsd.filecache import FileCache
from freepage_server.nfsd.inode import NfsdFile
from freepage_server.nfsd.permission import MAY_READ, require
from freepage_server.nfsd.stats import ProcedureStats


class Reader:
    """A file that had pages in the cache, as one caller reads it; at most ``max_read`` bytes at a time.

    ``lasting``: his other calls are answered in the same way, whatever address they come from.
    """

    __slots__ = ("_file", "_files", "_max_read", "_permitted", "_stats", "lasting")

    def __init__(
        self, files: FileCache, file: NfsdFile, max_read: int, stats: ProcedureStats, *, lasting: bool
    ) -> None:
        self.lasting = lasting
        self._files = files
        self._file = file
        self._max_read = max_read
        self._stats = stats
        self._permitted: Fattr3 | None = None
        """the attributes with which he may; the storage gives the same object as long as they are the same"""

    @property
    def over(self) -> bool:
        """The inode was forgotten: it has to be found anew."""
        return self._file.inode.gone

    def read_nowait(self, offset: int, count: int) -> ReadRes | None:
        """What READ answers if the cache has all of it; None otherwise, and where READ fails, which is not counted.

        Costs one `Storage.getattr`. The data may be a view of the cached buffer, which it keeps in memory: for who
        sends them on at once, and tells ``holder`` in what message.
        """
        file = self._file
        inode = file.inode
        try:
            attributes = self._files.attributes_of(inode)
            if attributes is not self._permitted:
                require(attributes, file.cred, MAY_READ, owner_override=True)
                self._permitted = attributes
        except OSError:
            return None
        if inode.foreign or inode.racy_until_ns:
            return None
        count = min(count, self._max_read)
        message = None
        folio = read_folio_nowait(file, offset, count)
        if folio is not None:
            kept = folio.data
            assert kept is not None
            data: Data = memoryview(kept)[folio.data_at :]
            if type(kept) is bytes:
                message = kept
        else:
            buffers = read_buffers_nowait(file, offset, count)
            if buffers is None:
                return None
            data = buffers[0] if len(buffers) == 1 else b"".join(buffers)
        self._files.used(inode)
        count = len(data)
        self._stats.calls += 1
        self._stats.bytes_read += count
        return ReadRes(NfsStat3.OK, attributes, count, offset + count >= attributes.size, data, message, folio)
