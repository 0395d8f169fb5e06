"""O_DIRECT: past the cache, straight to the server (fs/nfs/direct.c).

Switching a file to direct I/O writes back what is dirty; a direct write then drops the pages it wrote over. Reads go
out from the given byte, not from the page, and beyond the end of the file too.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from freepage import PAGE_SHIFT, PAGE_SIZE, invalidate_inode_pages2_range
from freepage.slab import IN_USE
from freepage_client.nfs.errors import os_error, status_to_errno
from freepage_client.nfs.fattr import NfsFattr
from freepage_client.nfs.inode import INVALID_ATIME, INVALID_SIZE
from freepage_client.nfs.rpc import RpcTask
from freepage_client.nfs.write import sync_inode
from freepage_proto.nfs3 import (
    CommitArgs,
    CommitRes,
    Data,
    NfsStat3,
    ReadArgs,
    ReadRes,
    StableHow,
    WriteArgs,
    WriteRes,
)
from freepage_proto.rpc import Procedure

if TYPE_CHECKING:
    from freepage_client.nfs.file import NfsFile
    from freepage_client.nfs.inode import NfsInode


async def start_io_direct(inode: NfsInode) -> None:
    """Enter direct mode: write back what the page cache holds (nfs_start_io_direct)."""
    if not inode.direct_io:
        inode.direct_io = True
        inode.note_readable()
        await sync_inode(inode)


def start_io_buffered(inode: NfsInode) -> None:
    """Back to buffered mode; direct calls of this client end before they return, so there is nothing to wait for."""
    if inode.direct_io:
        inode.direct_io = False
        inode.note_readable()


def _cut(pos: int, count: int, size: int) -> list[tuple[int, int]]:
    """[pos, pos + count) in pieces of ``size``."""
    return [(start, min(size, pos + count - start)) for start in range(pos, pos + count, size)]


async def direct_read(file: NfsFile, pos: int, count: int) -> bytes:
    """READ ``count`` bytes from ``pos``, at most rsize a call, all calls at once. Raises OSError."""
    inode, server = file.inode, file.inode.server
    server.stats.bytes.directread += count
    if not count:
        return b""
    await start_io_direct(inode)
    calls: list[tuple[ReadArgs, NfsFattr, RpcTask]] = []
    file.context.get(IN_USE)
    try:
        for start, length in _cut(pos, count, server.rsize):
            args = ReadArgs(inode.fh, start, length)
            calls.append((args, server.fattr(), server.rpc.start(Procedure.READ, args, file.context.cred.auth)))
            data: list[Data] = []
        for args, fattr, call in calls:
            result = cast(ReadRes, await call.result())
            fattr.attr = result.attributes
            inode.set_cache_invalid(INVALID_ATIME)
            inode.refresh(fattr)
            if result.status is not NfsStat3.OK:
                if data:
                    break
                raise os_error(status_to_errno(result.status))
            server.stats.bytes.serverread += result.count
            data.append(result.data)
            if result.count < args.count:
                break
    finally:
        file.context.put(IN_USE)
    return b"".join(data)


async def direct_write(file: NfsFile, pos: int, data: Data) -> int:
    """WRITE at ``pos``: one call FILE_SYNC, several UNSTABLE and a COMMIT; the bytes written before the first failure.

    Cached pages under it go while the calls are under way, whatever these will say (nfs_file_direct_write). Raises
    OSError when not even the beginning could be written.
    """
    inode, server = file.inode, file.inode.server
    count = len(data)
    server.stats.bytes.directwrite += count
    if not count:
        return 0
    await start_io_direct(inode)
    file.context.get(IN_USE)
    try:
        written = await _DirectWrite(file, pos, memoryview(data)).run()
    finally:
        file.context.put(IN_USE)
        inode.zap_mapping()
    if inode.i_size < pos + written:
        inode.i_size = pos + written
        inode.cache_validity &= ~INVALID_SIZE
    return written


@dataclass(slots=True)
class _Piece:
    """One WRITE call of a direct write, and what came of it."""

    args: WriteArgs
    fattr: NfsFattr
    call: RpcTask
    written: int = 0
    error: int = 0
    verf: bytes | None = None
    """What a COMMIT has to match; None when the data need none."""


class _DirectWrite:
    """One write(2) with O_DIRECT (struct nfs_direct_req)."""

    def __init__(self, file: NfsFile, pos: int, data: memoryview) -> None:
        self._file = file
        self._server = file.inode.server
        self._auth = file.context.cred.auth
        self._pos = pos
        self._data = data

    async def run(self) -> int:
        """Send everything and commit what needs it; return how many bytes were written. Raises OSError."""
        inode, count = self._file.inode, len(self._data)
        stable = StableHow.FILE_SYNC if count <= self._server.wsize else StableHow.UNSTABLE
        first, last = self._pos >> PAGE_SHIFT, (self._pos + count + PAGE_SIZE - 1) >> PAGE_SHIFT
        while True:
            pieces = [self._send(start, size, stable) for start, size in _cut(self._pos, count, self._server.wsize)]
            if inode.mapping.nrpages:
                await invalidate_inode_pages2_range(inode.mapping, first, last)
            for piece in pieces:
                await self._answer(piece)
            durable = await self._commit({piece.verf for piece in pieces if piece.verf is not None})
            if durable or any(piece.error for piece in pieces):  # an error ends it (nfs_direct_commit_complete)
                return _bytes_written(pieces)
            stable = StableHow.FILE_SYNC  # the server restarted in between: everything once more, durably

    def _send(self, start: int, length: int, stable: StableHow) -> _Piece:
        data = self._data[start - self._pos : start - self._pos + length]
        args = WriteArgs(self._file.inode.fh, start, length, stable, data)
        return _Piece(args, self._server.fattr(), self._server.rpc.start(Procedure.WRITE, args, self._auth))

    async def _answer(self, piece: _Piece) -> None:
        """Take a piece's reply; the rest of a short one is sent again, durably."""
        args = piece.args
        try:
            result = cast(WriteRes, await piece.call.result())
            piece.fattr.set_wcc(result.wcc)
            if result.status is NfsStat3.OK:
                self._file.inode.post_op_update_force_wcc(piece.fattr)
            while True:
                if result.status is not NfsStat3.OK:
                    piece.error = status_to_errno(result.status)
                    return
                self._server.stats.bytes.serverwrite += result.count
                piece.written += result.count
                if result.count >= args.count:
                    break
                if not result.count:
                    piece.error = errno.EIO
                    return
                rest = memoryview(args.data)[result.count :]
                args = WriteArgs(args.file, args.offset + result.count, len(rest), StableHow.FILE_SYNC, rest)
                result = cast(WriteRes, await self._server.rpc.call(Procedure.WRITE, args, self._auth))
        except OSError as failure:
            piece.error = failure.errno or errno.EIO
            return
        if result.committed is not StableHow.FILE_SYNC:
            piece.verf = result.verf

    async def _commit(self, verfs: set[bytes]) -> bool:
        """COMMIT what was written unstably; False when the server has forgotten it. Raises OSError."""
        if not verfs:
            return True
        args = CommitArgs(self._file.inode.fh)
        fattr = self._server.fattr()
        result = cast(CommitRes, await self._server.rpc.call(Procedure.COMMIT, args, self._auth))
        fattr.set_wcc(result.wcc)
        self._file.inode.refresh(fattr)
        if result.status is not NfsStat3.OK:
            raise os_error(status_to_errno(result.status))
        return verfs == {result.verf}


def _bytes_written(pieces: list[_Piece]) -> int:
    """Up to the first piece that failed; an error is reported only if nothing came before it (nfs_direct_wait)."""
    written = 0
    for piece in pieces:
        written += piece.written
        if piece.error:
            if written:
                break
            raise os_error(piece.error)
    return written
