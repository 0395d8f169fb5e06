"""The data of files in an exported directory: read, written, reserved and synced.

What moves data or waits for the disk goes through aiofiles' thread pool, in large units.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat as stat_bits
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import aiofiles.os

from freepage_proto.nfs3 import Data
from freepage_server.io.node import Node, error, libc
from freepage_server.io.nodes import Nodes
from freepage_server.io.privilege import spending_for
from freepage_server.io.state import InodeTable
from freepage_server.nfsd.storage import Key, Statfs

T = TypeVar("T")

FALLOC_FL_KEEP_SIZE = 1


def _pread_all(fd: int, count: int, offset: int) -> bytes:
    data = os.pread(fd, count, offset)
    if len(data) in (0, count):
        return data
    pieces = [data]
    done = len(data)
    while done < count and (data := os.pread(fd, count - done, offset + done)):
        pieces.append(data)
        done += len(data)
    return b"".join(pieces)


def _pread_pieces(fd: int, counts: Sequence[int], offset: int) -> list[Data]:
    pieces: list[Data] = []
    for count in counts:
        pieces.append(_pread_all(fd, count, offset))
        offset += count
    return pieces


def _pwrite_all(fd: int, data: Data, offset: int, mtime_ns: int | None) -> None:
    view = memoryview(data).cast("B")
    while len(view):
        written = os.pwrite(fd, view, offset)
        view = view[written:]
        offset += written
    if mtime_ns is not None:
        os.utime(fd, ns=(os.fstat(fd).st_atime_ns, mtime_ns))


class DataFile:
    """A descriptor for file data; ``pins`` I/Os are using it in other threads, so it may not be closed."""

    __slots__ = ("doomed", "fd", "pins", "writable")

    def __init__(self, fd: int, writable: bool) -> None:
        self.fd = fd
        self.writable = writable
        self.pins = 0
        self.doomed = False

    def close(self) -> None:
        """Close now, or when the last I/O is done."""
        if self.pins:
            self.doomed = True
        else:
            os.close(self.fd)


class FileData(Nodes):
    """``offload=False`` makes data I/O in the calling thread."""

    def __init__(
        self, path: str | os.PathLike[str], *, offload: bool, table: Callable[[Key], InodeTable] | None
    ) -> None:
        self._data: OrderedDict[Key, DataFile] = OrderedDict()
        super().__init__(path, offload=offload, table=table)
        self.reserves = True
        """False once the file system has refused to set space aside (fallocate)"""
        self._max_data = max(16, min(512, self._descriptors // 8))
        self._privileged = os.geteuid() == 0

    def close(self) -> None:
        for file in self._data.values():
            file.close()
        self._data.clear()
        super().close()

    def _forget(self, node: Node) -> None:
        file = self._data.pop(node.key, None)
        if file is not None:
            file.close()
        super()._forget(node)

    def statfs(self) -> Statfs:
        s = os.fstatvfs(self._fd(self._root))
        return Statfs(
            s.f_blocks * s.f_frsize, s.f_bfree * s.f_frsize, s.f_bavail * s.f_frsize, s.f_files, s.f_ffree, s.f_favail
        )

    def _keep_data(self, node: Node, file: DataFile) -> None:
        previous = self._data.pop(node.key, None)
        if previous is not None:
            previous.close()
        self._data[node.key] = file
        while len(self._data) > self._max_data:
            _, oldest = self._data.popitem(last=False)
            oldest.close()

    @contextmanager
    def _data_fd(self, key: Key, *, write: bool) -> Iterator[int]:
        """A descriptor for the file's data that stays open for the block. Raises EISDIR, EINVAL, ESTALE."""
        node = self._node(key)
        file = self._data.get(key)
        if file is None or (write and not file.writable):
            if stat_bits.S_ISDIR(node.mode):
                raise error(errno.EISDIR)
            if not stat_bits.S_ISREG(node.mode):
                raise error(errno.EINVAL)
            self._fstat(node)
            file = self._open_data(f"/proc/self/fd/{self._fd(node)}", write=write)
            self._keep_data(node, file)
        else:
            self._data.move_to_end(key)
        file.pins += 1
        try:
            yield file.fd
        finally:
            file.pins -= 1
            if file.doomed and not file.pins:
                os.close(file.fd)

    def _open_data(self, path: str, *, write: bool) -> DataFile:
        # O_NONBLOCK: whoever holds a lease on the file has 45 s to give it up, and everybody would wait with us. EAGAIN
        # becomes JUKEBOX: the client asks again.
        flags = os.O_NONBLOCK | os.O_CLOEXEC
        try:
            return DataFile(os.open(path, os.O_RDWR | flags), writable=True)
        except BlockingIOError:
            raise
        except OSError:
            if write:
                return DataFile(os.open(path, os.O_WRONLY | flags), writable=True)
            return DataFile(os.open(path, os.O_RDONLY | flags), writable=False)

    async def _run(self, function: Callable[..., T], *args: Any) -> T:
        if self._table is not None:
            self._table.take()
        if not self._offload:
            return function(*args)
        wrapped: Callable[..., Awaitable[T]] = aiofiles.os.wrap(function)
        return await wrapped(*args)

    def reserve(self, key: Key, offset: int, count: int, unwritten: int = 0, uid: int = 0) -> None:
        with self._data_fd(key, write=True) as fd, spending_for(uid if self._privileged else 0):
            fallocate = getattr(libc, "fallocate64", None) or libc.fallocate
            code = fallocate(fd, FALLOC_FL_KEEP_SIZE, ctypes.c_int64(offset), ctypes.c_int64(count))
            failure = ctypes.get_errno() if code else 0
        if failure in (errno.EOPNOTSUPP, errno.ENOSYS):
            self.reserves = False
            if self.statfs().available_bytes < count + unwritten:
                raise error(errno.ENOSPC)
        elif failure:
            raise error(failure)

    async def readv(self, key: Key, offset: int, counts: Sequence[int]) -> list[Data]:
        with self._data_fd(key, write=False) as fd:
            return await self._run(_pread_pieces, fd, counts, offset)

    async def write(self, key: Key, offset: int, data: Data, times: tuple[int, int] | None = None) -> None:
        with self._data_fd(key, write=True) as fd:
            await self._run(_pwrite_all, fd, data, offset, times[0] if times is not None else None)

    async def truncate(self, key: Key, size: int) -> None:
        with self._data_fd(key, write=True) as fd:
            await self._run(os.ftruncate, fd, size)

    async def fsync(self, key: Key) -> None:
        with self._data_fd(key, write=False) as fd:
            await self._run(self._sync, fd)

    def _sync(self, fd: int) -> None:
        os.fsync(fd)
        if self._table is not None:
            self._table.write()

    async def sync_metadata(self, *keys: Key) -> None:
        for key in keys:
            try:
                await self._sync_inode(key)
            except OSError as failure:
                if failure.errno != errno.ESTALE:
                    raise  # somebody removed it meanwhile: then there is nothing to keep

    async def _sync_inode(self, key: Key) -> None:
        node = self._node(key)
        if stat_bits.S_ISREG(node.mode):
            try:
                await self.fsync(key)
                return
            except PermissionError:
                pass  # ours to serve, but not to open: its directory's fsync brings the journal forward too
        directory = node if stat_bits.S_ISDIR(node.mode) else self._node(node.parent)
        path = f"/proc/self/fd/{self._fd(directory)}"
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            await self._run(self._sync, fd)
        finally:
            os.close(fd)
