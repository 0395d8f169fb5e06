"""O_DIRECT: past the cache, straight to the server (fs/nfs/direct.c).

Switching a file to direct I/O writes back what is dirty; a direct write then drops the pages it wrote over. Reads go
out from the given byte, not from the page, and beyond the end of the file too.
"""

from __future__ import annotations

import errno
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
        await sync_inode(inode)


def start_io_buffered(inode: NfsInode) -> None:
    """Back to buffered mode; direct calls of this client end before they return, so there is nothing to wait for."""
    inode.direct_io = False


def _cut(pos: int, count: int, size: int) -> list[tuple[int, int]]:
    """[pos, pos + count) in pieces of ``size``."""
    return [(start, min(size, pos + count - start)) for start in range(pos, pos + count, size)]


async def direct_read(file: NfsFile, pos: int, count: int) -> bytes:
    """READ ``count`` bytes from ``pos``, at most rsize a call, all calls at once. Raises OSError."""
    inode, server = file.inode, file.inode.server
    server.stats.bytes["directread"] += count
    if not count:
        return b""
    await start_io_direct(inode)
    size = max(server.rsize, PAGE_SIZE)
    calls: list[tuple[ReadArgs, NfsFattr, RpcTask]] = []
    file.context.get(IN_USE)
    try:
        for start, length in _cut(pos, count, size):
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
            server.stats.bytes["serverread"] += result.count
            data.append(result.data)
            if result.count < args.count:
                break
    finally:
        file.context.put(IN_USE)
    return b"".join(data)


async def direct_write(file: NfsFile, pos: int, data: Data) -> int:
    """WRITE at ``pos``: one call FILE_SYNC, several UNSTABLE and a COMMIT. Cached pages under it go. Raises OSError."""
    inode, server = file.inode, file.inode.server
    count = len(data)
    server.stats.bytes["directwrite"] += count
    if not count:
        return 0
    await start_io_direct(inode)
    file.context.get(IN_USE)
    try:
        await _write_pieces(file, pos, memoryview(data))
    finally:
        file.context.put(IN_USE)
    if inode.i_size < pos + count:
        inode.i_size = pos + count
        inode.cache_validity &= ~INVALID_SIZE
    if inode.mapping.nrpages:
        first, last = pos >> PAGE_SHIFT, (pos + count + PAGE_SIZE - 1) >> PAGE_SHIFT
        await invalidate_inode_pages2_range(inode.mapping, first, last)
    inode.zap_mapping()
    return count


async def _write_pieces(file: NfsFile, pos: int, data: memoryview) -> None:
    inode, server = file.inode, file.inode.server
    pieces = _cut(pos, len(data), server.wsize)
    stable = StableHow.FILE_SYNC if len(pieces) == 1 else StableHow.UNSTABLE
    while True:
        verfs = await _write_once(file, pos, data, pieces, stable)
        if not verfs:
            return
        args = CommitArgs(inode.fh)
        fattr = server.fattr()
        result = cast(CommitRes, await server.rpc.call(Procedure.COMMIT, args, file.context.cred.auth))
        fattr.set_wcc(result.wcc)
        inode.refresh(fattr)
        if result.status is not NfsStat3.OK:
            raise os_error(status_to_errno(result.status))
        if verfs == {result.verf}:
            return
        stable = StableHow.FILE_SYNC  # the server restarted in between: everything once more, durably


async def _write_once(
    file: NfsFile, pos: int, data: memoryview, pieces: list[tuple[int, int]], stable: StableHow
) -> set[bytes]:
    """Send every piece, all at once; return the verifiers of those that still need a COMMIT."""
    inode, server = file.inode, file.inode.server
    auth = file.context.cred.auth
    calls: list[tuple[WriteArgs, NfsFattr, RpcTask]] = []
    for start, length in pieces:
        args = WriteArgs(inode.fh, start, length, stable, data[start - pos : start - pos + length])
        calls.append((args, server.fattr(), server.rpc.start(Procedure.WRITE, args, auth)))
    verfs: set[bytes] = set()
    for args, fattr, call in calls:
        result = cast(WriteRes, await call.result())
        fattr.set_wcc(result.wcc)
        if result.status is not NfsStat3.OK:
            raise os_error(status_to_errno(result.status))
        inode.post_op_update_force_wcc(fattr)
        server.stats.bytes["serverwrite"] += result.count
        while result.count < args.count:
            if not result.count:
                raise os_error(errno.EIO)
            rest = memoryview(args.data)[result.count :]
            args = WriteArgs(args.file, args.offset + result.count, len(rest), StableHow.FILE_SYNC, rest)
            result = cast(WriteRes, await server.rpc.call(Procedure.WRITE, args, auth))
            if result.status is not NfsStat3.OK:
                raise os_error(status_to_errno(result.status))
        if result.committed is not StableHow.FILE_SYNC:
            verfs.add(result.verf)
    return verfs
