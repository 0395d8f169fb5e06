"""Calls on open files: read, write, seek, sync, advise, copy (fs/read_write.c, fs/sync.c, mm/fadvise.c, splice.c)."""

from __future__ import annotations

import errno
import os

from freepage import PAGE_SIZE, POSIX_FADV_DONTNEED, fadvise_dontneed, generic_fadvise, read_nowait
from freepage_client.nfs.errors import os_error
from freepage_client.nfs.file import UNREADABLE, NfsFile
from freepage_client.vfs.process import Process

SPLICE_SIZE = 16 * PAGE_SIZE
"""A pipe's default capacity: what one step of an emulated copy_file_range moves (fs/splice.c)."""


class ReadWrite(Process):
    """A process that reads and writes what it has opened."""

    def read_nowait(self, fd: int, count: int, offset: int) -> bytes | None:
        """pread(2) if the cache can answer at once; None if somebody would have to be waited for."""
        return self._readable(fd).read_nowait(offset, count)

    async def read(self, fd: int, count: int) -> bytes:
        """read(2): up to ``count`` bytes from the position; b"" at the end."""
        open_file = self._get(fd)
        file = open_file.file
        if file is None or not file.may_read or count < 0:
            data = await _read_at(self._readable(fd), open_file.pos, count)
        else:
            pos = open_file.pos
            hit = file.read_nowait(pos, count)
            data = hit if hit is not None else await file.read(pos, count)
        open_file.pos += len(data)
        return data

    async def pread(self, fd: int, count: int, offset: int) -> bytes:
        if offset < 0:
            raise os_error(errno.EINVAL)
        try:
            file = self.files[fd].file
        except KeyError:
            raise os_error(errno.EBADF) from None
        if file is None or count < 0:
            return await _read_at(self._readable(fd), offset, count)  # says why not
        inode = file.inode  # NfsFile.read_nowait without its call: a cached read takes little longer than that
        if not inode.cache_validity & UNREADABLE and file.now() < inode.readable_until_s:
            data = read_nowait(file, offset, count)
            if data is not None:
                file.bytes.normalread += len(data)
                return data
        return await self._readable(fd).read(offset, count)

    async def write(self, fd: int, data: bytes | bytearray | memoryview) -> int:
        """write(2) at the position, or at the end with O_APPEND; the bytes written."""
        open_file = self._get(fd)
        count, open_file.pos = await self._writable(fd).write(open_file.pos, data)
        return count

    async def pwrite(self, fd: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        if offset < 0:
            raise os_error(errno.EINVAL)
        count, _ = await self._writable(fd).write(offset, data)
        return count

    async def lseek(self, fd: int, offset: int, whence: int) -> int:
        """lseek(2) with SEEK_SET, CUR, END, DATA and HOLE: on NFSv3 a file is all data up to its end."""
        open_file = self._get(fd)
        if open_file.directory is not None:
            if whence == os.SEEK_CUR:
                offset += open_file.directory.pos
            elif whence != os.SEEK_SET:
                raise os_error(errno.EINVAL)
            if offset < 0:
                raise os_error(errno.EINVAL)
            open_file.directory.seek(offset)
            return offset
        file = self._regular(fd)
        if whence == os.SEEK_SET:
            pos = offset
        elif whence == os.SEEK_CUR:
            pos = open_file.pos + offset
        else:
            size = await file.size_for_seek()
            if whence == os.SEEK_END:
                pos = size + offset
            elif whence in (os.SEEK_DATA, os.SEEK_HOLE):
                if not 0 <= offset < size:
                    raise os_error(errno.ENXIO)
                pos = offset if whence == os.SEEK_DATA else size
            else:
                raise os_error(errno.EINVAL)
        if pos < 0 or pos > file.inode.server.maxfilesize:
            raise os_error(errno.EINVAL)
        open_file.pos = pos
        return pos

    async def fsync(self, fd: int) -> None:
        open_file = self._get(fd)
        if open_file.file is None:
            open_file.inode.server.stats.events["vfsfsync"] += 1  # directory changes are synchronous anyway
        else:
            await open_file.file.fsync()

    async def fdatasync(self, fd: int) -> None:
        """On NFS the same as fsync."""
        await self.fsync(fd)

    async def sync(self) -> None:
        await self.machine.sync()

    async def fallocate(self, fd: int, mode: int, offset: int, length: int) -> None:
        """NFSv3 has no such operation: always OSError(EOPNOTSUPP), once the arguments are in order."""
        self._writable(fd)
        if offset < 0 or length <= 0:
            raise os_error(errno.EINVAL)
        raise os_error(errno.EOPNOTSUPP)

    async def fadvise(self, fd: int, offset: int, length: int, advice: int) -> None:
        file = self._regular(fd, errno.EINVAL)
        if advice == POSIX_FADV_DONTNEED:
            await fadvise_dontneed(file, offset, length)
        else:
            generic_fadvise(file, offset, length, advice)

    async def copy_file_range(
        self, fd_in: int, fd_out: int, count: int, offset_in: int | None = None, offset_out: int | None = None
    ) -> int:
        """copy_file_range(2). NFSv3 cannot copy on the server: the data pass through, a pipe's capacity at a time."""
        source, target = self._readable(fd_in), self._writable(fd_out)
        open_in, open_out = self._get(fd_in), self._get(fd_out)
        if target.append:
            raise os_error(errno.EBADF)
        pos_in = open_in.pos if offset_in is None else offset_in
        pos_out = open_out.pos if offset_out is None else offset_out
        count = source.copy_length(pos_in, target, pos_out, count)
        copied = 0
        while copied < count:
            step = SPLICE_SIZE - (pos_in + copied) % PAGE_SIZE  # the pipe's slots hold pages of the source
            data = await _read_at(source, pos_in + copied, min(step, count - copied))
            if not data:
                break
            written, _ = await target.write(pos_out + copied, data)
            copied += written
        if offset_in is None:
            open_in.pos += copied
        if offset_out is None:
            open_out.pos += copied
        return copied


async def _read_at(file: NfsFile, offset: int, count: int) -> bytes:
    if count < 0:
        raise os_error(errno.EINVAL)
    data = file.read_nowait(offset, count)
    return data if data is not None else await file.read(offset, count)
