"""A process of a client machine: its credential, its descriptors, its system calls (fs/open.c, fs/read_write.c ...).

Everything above this layer, be it FUSE, the control service or a replayed trace, is thin over these calls. Paths are
absolute in the machine's name space; errors are OSError with the errno that Linux would give.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat as modes
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

from freepage import POSIX_FADV_DONTNEED, fadvise_dontneed, generic_fadvise, read_nowait
from freepage.slab import IN_USE
from freepage_client.nfs import access as nfs_access
from freepage_client.nfs import dir as nfs_dir
from freepage_client.nfs import lock as nfs_lock
from freepage_client.nfs import nfs3proc, readdir
from freepage_client.nfs.access import MAY_ACCESS, MAY_CHDIR, MAY_EXEC, MAY_OPEN, MAY_READ, MAY_WRITE
from freepage_client.nfs.dcache import Dentry, dget, dput
from freepage_client.nfs.dir import Lookup
from freepage_client.nfs.errors import os_error
from freepage_client.nfs.file import UNREADABLE, NfsFile
from freepage_client.nfs.getattr import getattr_inode
from freepage_client.nfs.options import power_of_two_below
from freepage_client.nfs.setattr import Iattr, setattr_inode
from freepage_client.nfs.symlink import read_target
from freepage_client.vfs.namei import PATH_MAX, Walk, directory_of, put_name, resolve_mount, retry_estale
from freepage_client.vfs.stat import Stat, StatFs
from freepage_proto.nfs3 import SET_TO_SERVER_TIME, FType3

if TYPE_CHECKING:
    from freepage_client.machine import Machine
    from freepage_client.nfs.cred import Credential
    from freepage_client.nfs.inode import NfsInode
    from freepage_client.nfs.mount import Mount


class At(NamedTuple):
    """A name in a directory that is known already, as the ``*at`` calls have it. Without slashes."""

    directory: Dentry
    name: bytes


Path = str | bytes | At
PAGE_SIZE = 4096
SPLICE_SIZE = 16 * PAGE_SIZE
"""A pipe's default capacity: what one step of an emulated copy_file_range moves (fs/splice.c)."""

OPENDIR_MIN_BUFFER = 32 << 10
OPENDIR_MAX_BUFFER = 1 << 20
"""glibc's bounds for opendir's buffer (sysdeps/unix/sysv/linux/opendir.c)."""

NR_OPEN = 1 << 20


class OpenFile:
    """What descriptors point at (struct file): a regular file or a directory, and the position they share."""

    __slots__ = ("dentry", "directory", "file", "flags", "inode", "mount", "pos", "users")

    def __init__(self, mount: Mount, dentry: Dentry, flags: int) -> None:
        assert dentry.inode is not None
        self.mount = mount
        mount.opens += 1
        self.dentry = dget(dentry)
        self.inode: NfsInode = dentry.inode
        self.flags = flags
        self.pos = 0
        self.users = 1
        self.file: NfsFile | None = None
        """None for a directory."""
        self.directory: readdir.OpenDirContext | None = None


class Task:
    """A process. Made by ``Machine.task``."""

    def __init__(self, machine: Machine, cred: Credential) -> None:
        self.machine = machine
        self.cred = cred
        self.cwd: Dentry | None = None
        self.cwd_mount: Mount | None = None
        self.umask = 0o022
        self.files: dict[int, OpenFile] = {}

    # Descriptors.

    def _install(self, open_file: OpenFile) -> int:
        fd = 3
        while fd in self.files:
            fd += 1
        if fd >= NR_OPEN:
            raise os_error(errno.EMFILE)
        self.files[fd] = open_file
        return fd

    def _get(self, fd: int) -> OpenFile:
        open_file = self.files.get(fd)
        if open_file is None:
            raise os_error(errno.EBADF)
        return open_file

    def _regular(self, fd: int, wrong: int = errno.EISDIR) -> NfsFile:
        file = self._get(fd).file
        if file is None:
            raise os_error(wrong)
        return file

    def _readable(self, fd: int) -> NfsFile:
        file = self._regular(fd)
        if not file.may_read:
            raise os_error(errno.EBADF)
        return file

    def _writable(self, fd: int) -> NfsFile:
        file = self._regular(fd, errno.EBADF)
        if not file.may_write:
            raise os_error(errno.EBADF)
        return file

    # Paths.

    @asynccontextmanager
    async def _walk(self, path: Path, reval: Lookup) -> AsyncIterator[Walk]:
        """Stand on the directory of the path's last component."""
        start: Dentry | None = None
        if isinstance(path, At):
            start, raw = path
            mount = self.machine.mount_of(start)
        else:
            raw = path.encode("utf-8", "surrogateescape") if isinstance(path, str) else path
        if not raw:
            raise os_error(errno.ENOENT)
        if len(raw) >= PATH_MAX:
            raise os_error(errno.ENAMETOOLONG)
        if b"\0" in raw:
            raise os_error(errno.EINVAL)
        if start is not None:
            rest = raw
        elif raw.startswith(b"/"):
            mount, rest = resolve_mount(self.machine, raw)
            start = mount.root
        elif self.cwd is not None and self.cwd_mount is not None:
            mount, start, rest = self.cwd_mount, self.cwd, raw
        else:
            raise os_error(errno.ENOENT, path)
        mount.walks += 1
        walk = Walk(self.machine, mount, dget(start), self.cred, reval)
        try:
            await walk.to_parent(rest)
            yield walk
        finally:
            walk.done()
            mount.walks -= 1

    @asynccontextmanager
    async def _existing(self, path: Path, reval: Lookup, *, follow: bool = True) -> AsyncIterator[Dentry]:
        """The dentry that a path leads to. Raises OSError(ENOENT) if there is nothing."""
        async with self._walk(path, reval) as walk:
            dentry = await walk.last_child(Lookup.NONE, follow=follow)
            try:
                if dentry.inode is None:
                    raise os_error(errno.ENOENT, path)
                yield dentry
            finally:
                put_name(dentry)

    def _must_be_writable(self, inode: NfsInode) -> None:
        if inode.server.options.read_only:
            raise os_error(errno.EROFS)

    # Opening and closing.

    async def open(self, path: Path, flags: int, mode: int = 0o644) -> int:
        """open(2); returns a descriptor. Raises OSError."""
        open_file = await self.open_file(path, flags, mode)
        try:
            return self._install(open_file)
        except OSError:
            await self.release(open_file)
            raise

    async def open_file(self, path: Path, flags: int, mode: int = 0o644) -> OpenFile:
        """``open`` without a descriptor: the caller ends the file with ``release``."""
        return await retry_estale(lambda reval: self._open(path, flags, mode, reval))

    async def _open(self, path: Path, flags: int, mode: int, reval: Lookup) -> OpenFile:
        async with self._walk(path, reval) as walk:
            dentry, created = await self._open_last(walk, flags, mode)
            try:
                return await self.open_dentry(dentry, flags, created=created, mount=walk.mount)
            finally:
                put_name(dentry)

    async def _open_last(self, walk: Walk, flags: int, mode: int) -> tuple[Dentry, bool]:
        follow = not flags & os.O_NOFOLLOW and not (flags & os.O_CREAT and flags & os.O_EXCL)
        if not flags & os.O_CREAT:
            dentry = await walk.last_child(Lookup.OPEN, follow=follow)
            if dentry.inode is None:
                put_name(dentry)
                raise os_error(errno.ENOENT)
            return dentry, False
        intent = Lookup.OPEN | Lookup.CREATE | (Lookup.EXCL if flags & os.O_EXCL else Lookup.NONE)
        if not walk.last or walk.must_be_dir:
            raise os_error(errno.EISDIR)
        while True:
            parent = walk.parent
            dir_inode = directory_of(parent)
            async with dir_inode.lock():
                dentry = await walk.last_child(intent, follow=follow)
                if walk.parent is not parent:  # a symbolic link led elsewhere: create there, under that lock
                    put_name(dentry)
                    continue
                if dentry.inode is not None:
                    return dentry, False
                try:
                    self._must_be_writable(dir_inode)
                    await nfs_access.permission(dir_inode, MAY_WRITE | MAY_EXEC, self.cred)
                    permissions = mode & 0o7777 & ~self.umask
                    excl = bool(flags & os.O_EXCL)
                    return await nfs_dir.create(dir_inode, dentry, permissions, self.cred, excl=excl), True
                except BaseException:
                    put_name(dentry)
                    raise

    async def open_dentry(
        self, dentry: Dentry, flags: int, *, created: bool = False, mount: Mount | None = None
    ) -> OpenFile:
        """Open what a walk has led to; whether its attributes may be believed is the walk's business.

        ``mount`` is the one that the walk ended in; None where a file system of its own, as FUSE's, did the walk.
        """
        inode = dentry.inode
        assert inode is not None
        access = flags & os.O_ACCMODE
        if created and inode.is_dir:
            raise os_error(errno.EISDIR)  # somebody else's, whom an unchecked CREATE does not mind (do_open)
        if not created:
            if flags & os.O_CREAT and flags & os.O_EXCL:
                raise os_error(errno.EEXIST)
            if inode.is_dir and (flags & os.O_CREAT or access != os.O_RDONLY or flags & os.O_TRUNC):
                raise os_error(errno.EISDIR)
            if flags & os.O_DIRECTORY and not inode.is_dir:
                raise os_error(errno.ENOTDIR)
            if inode.is_lnk:
                raise os_error(errno.ELOOP)
            if access != os.O_RDONLY or flags & os.O_TRUNC:
                self._must_be_writable(inode)
            await nfs_access.permission(inode, _open_mask(flags), self.cred)
        if not inode.is_reg and not inode.is_dir:
            raise os_error(errno.ENXIO)
        open_file = OpenFile(mount or self.machine.mount_of(dentry), dentry, flags)
        try:
            if inode.is_dir:
                inode.server.stats.events["vfsopen"] += 1
                open_file.directory = readdir.OpenDirContext(inode)
            else:
                open_file.file = NfsFile.open(dentry, flags, self.cred, self)
                if flags & os.O_TRUNC and not created:
                    iattr = Iattr(size=0, mtime_ns=SET_TO_SERVER_TIME)
                    await setattr_inode(inode, iattr, self.cred)
        except BaseException:
            await self.release(open_file)
            raise
        return open_file

    async def close(self, fd: int) -> None:
        """close(2). The descriptor is gone whatever happens; OSError tells of data that could not be written."""
        open_file = self._get(fd)
        del self.files[fd]
        try:
            if open_file.file is not None:
                await open_file.file.flush()
        finally:
            if open_file.file is not None:
                await nfs_lock.release_locks(open_file.file, self, flock=False)
            open_file.users -= 1
            if not open_file.users:
                await self.release(open_file)

    @staticmethod
    async def release(open_file: OpenFile) -> None:
        """The last user of an open file is gone."""
        try:
            if open_file.file is not None:
                await nfs_lock.release_locks(open_file.file, open_file, flock=True)
                await open_file.file.release()
            if open_file.directory is not None:
                open_file.directory.close(open_file.inode)
            dput(open_file.dentry)
        finally:
            open_file.mount.opens -= 1

    async def dup(self, fd: int) -> int:
        """dup(2): a second descriptor for the same open file."""
        open_file = self._get(fd)
        new = self._install(open_file)
        open_file.users += 1
        return new

    async def exit(self) -> None:
        """The process ends: every descriptor is closed, its credential given back. Write errors are lost, as ever."""
        for fd in list(self.files):
            try:
                await self.close(fd)
            except OSError as error:
                self.machine.message(f"exit: close of descriptor {fd}: {error}")
        if self.cwd is not None:
            dput(self.cwd)
            self.cwd = self.cwd_mount = None
        if self in self.machine.tasks:
            self.machine.tasks.remove(self)
            self.cred.put(IN_USE)

    # Reading and writing.

    def read_nowait(self, fd: int, count: int, offset: int) -> bytes | None:
        """pread(2) if the cache can answer at once; None if somebody would have to be waited for."""
        return self._readable(fd).read_nowait(offset, count)

    async def read(self, fd: int, count: int) -> bytes:
        """read(2): up to ``count`` bytes from the position; b"" at the end."""
        open_file = self._get(fd)
        file = open_file.file
        if file is None or not file.may_read or count < 0:
            data = await self._read_at(self._readable(fd), open_file.pos, count)
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
            return await self._read_at(self._readable(fd), offset, count)  # says why not
        inode = file.inode  # NfsFile.read_nowait without its call: a cached read takes little longer than that
        if not inode.cache_validity & UNREADABLE and file.now() < inode.readable_until_s:
            data = read_nowait(file, offset, count)
            if data is not None:
                file.bytes.normalread += len(data)
                return data
        return await self._readable(fd).read(offset, count)

    async def _read_at(self, file: NfsFile, offset: int, count: int) -> bytes:
        if count < 0:
            raise os_error(errno.EINVAL)
        data = file.read_nowait(offset, count)
        return data if data is not None else await file.read(offset, count)

    async def write(self, fd: int, data: bytes | bytearray | memoryview) -> int:
        """write(2) at the position, or at the end with O_APPEND; the bytes written."""
        open_file = self._get(fd)
        count, open_file.pos = await self._write_at(self._writable(fd), open_file.pos, data)
        return count

    async def pwrite(self, fd: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        if offset < 0:
            raise os_error(errno.EINVAL)
        count, _ = await self._write_at(self._writable(fd), offset, data)
        return count

    @staticmethod
    async def write_at(file: NfsFile, offset: int, data: bytes | bytearray | memoryview) -> int:
        """Write to an open file, wherever it was opened; the bytes written. Raises OSError."""
        count, _ = await Task._write_at(file, offset, data)
        return count

    @staticmethod
    async def _write_at(file: NfsFile, offset: int, data: bytes | bytearray | memoryview) -> tuple[int, int]:
        if not len(data):
            return 0, offset
        limit = file.inode.server.maxfilesize
        if offset >= limit:
            raise os_error(errno.EFBIG)
        return await file.write(offset, memoryview(data)[: limit - offset])

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
        copied = 0
        while copied < count:
            step = SPLICE_SIZE - (pos_in + copied) % PAGE_SIZE  # the pipe's slots hold pages of the source
            data = await self._read_at(source, pos_in + copied, min(step, count - copied))
            if not data:
                break
            written, _ = await self._write_at(target, pos_out + copied, data)
            copied += written
        if offset_in is None:
            open_in.pos += copied
        if offset_out is None:
            open_out.pos += copied
        return copied

    # Attributes.

    async def stat(self, path: Path) -> Stat:
        return await retry_estale(lambda reval: self._stat(path, reval, follow=True))

    async def lstat(self, path: Path) -> Stat:
        return await retry_estale(lambda reval: self._stat(path, reval, follow=False))

    async def _stat(self, path: Path, reval: Lookup, *, follow: bool) -> Stat:
        async with self._existing(path, reval, follow=follow) as dentry:
            return Stat.of(await getattr_inode(dentry, self.cred))

    async def fstat(self, fd: int) -> Stat:
        return Stat.of(await getattr_inode(self._get(fd).dentry, self.cred))

    async def access(self, path: Path, mode: int) -> None:
        """access(2): OSError(EACCES) if not all of ``mode`` (R_OK, W_OK, X_OK) is granted."""

        async def attempt(reval: Lookup) -> None:
            async with self._existing(path, reval) as dentry:
                assert dentry.inode is not None
                if mode & os.W_OK and not modes.S_ISCHR(dentry.inode.i_mode):
                    self._must_be_writable(dentry.inode)
                await nfs_access.permission(dentry.inode, (mode & 7) | MAY_ACCESS, self.cred)

        await retry_estale(attempt)

    async def chdir(self, path: Path) -> None:
        async def attempt(reval: Lookup) -> None:
            async with self._walk(path, reval) as walk:
                dentry = await walk.last_child(Lookup.NONE, follow=True)
                try:
                    await nfs_access.permission(directory_of(dentry), MAY_EXEC | MAY_CHDIR, self.cred)
                    old, self.cwd = self.cwd, dget(dentry)
                    self.cwd_mount = walk.mount
                    if old is not None:
                        dput(old)
                finally:
                    put_name(dentry)

        await retry_estale(attempt)

    async def _setattr(
        self, path: Path, make: Callable[[NfsInode], Iattr], *, follow: bool = True, mask: int = 0
    ) -> None:
        async def attempt(reval: Lookup) -> None:
            async with self._existing(path, reval, follow=follow) as dentry:
                inode = dentry.inode
                assert inode is not None
                self._must_be_writable(inode)
                iattr = make(inode)
                if mask:
                    await nfs_access.permission(inode, mask, self.cred)
                async with inode.lock():
                    await setattr_inode(inode, iattr, self.cred)

        await retry_estale(attempt)

    async def chmod(self, path: Path, mode: int) -> None:
        await self._setattr(path, lambda inode: Iattr(mode=mode & 0o7777))

    async def chown(self, path: Path, uid: int, gid: int, *, follow: bool = True) -> None:
        """chown(2); -1 leaves a number alone."""
        iattr = Iattr(uid=None if uid == -1 else uid, gid=None if gid == -1 else gid)
        await self._setattr(path, lambda inode: iattr, follow=follow)

    async def utimens(self, path: Path, atime_ns: int | None, mtime_ns: int | None, *, follow: bool = True) -> None:
        """utimensat(2); None is the server's current time."""
        iattr = Iattr(
            atime_ns=SET_TO_SERVER_TIME if atime_ns is None else atime_ns,
            mtime_ns=SET_TO_SERVER_TIME if mtime_ns is None else mtime_ns,
        )
        await self._setattr(path, lambda inode: iattr, follow=follow)

    async def truncate(self, path: Path, length: int) -> None:
        """truncate(2). To the size that the file has, it costs no call."""
        if length < 0:
            raise os_error(errno.EINVAL)

        def make(inode: NfsInode) -> Iattr:
            if inode.is_dir:
                raise os_error(errno.EISDIR)
            if not inode.is_reg:
                raise os_error(errno.EINVAL)
            return Iattr(size=length)

        await self._setattr(path, make, mask=MAY_WRITE)

    async def ftruncate(self, fd: int, length: int) -> None:
        """ftruncate(2): sets the times too, so that it is sent even if the size stays."""
        if length < 0:
            raise os_error(errno.EINVAL)
        open_file = self._get(fd)
        if open_file.file is None or not open_file.file.may_write:
            raise os_error(errno.EINVAL)
        async with open_file.inode.lock():
            await setattr_inode(open_file.inode, Iattr(size=length, mtime_ns=SET_TO_SERVER_TIME), self.cred)

    async def statfs(self, path: Path) -> StatFs:
        async def attempt(reval: Lookup) -> StatFs:
            async with self._existing(path, reval) as dentry:
                inode = dentry.inode
                assert inode is not None
                server = inode.server
                try:
                    result = await nfs3proc.fsstat(server, inode.fh, self.cred)
                except OSError as error:
                    if error.errno == errno.ESTALE and dentry.parent is not None:
                        directory_of(dentry.parent).zap_caches()
                    raise
                size = power_of_two_below(server.wsize)
                return StatFs(
                    f_bsize=size,
                    f_frsize=size,
                    f_blocks=-(-result.tbytes // size),
                    f_bfree=-(-result.fbytes // size),
                    f_bavail=-(-result.abytes // size),
                    f_files=result.tfiles,
                    f_ffree=result.ffiles,
                    f_favail=result.afiles,
                    f_namemax=server.namelen,
                )

        return await retry_estale(attempt)

    # Names.

    @asynccontextmanager
    async def _new_name(
        self, path: Path, reval: Lookup, *, directory: bool = False, source: Mount | None = None
    ) -> AsyncIterator[Dentry]:
        """A name to be made, in its locked directory (filename_create), for a file of the mount ``source`` if given.

        Raises OSError: EEXIST if there is one, EXDEV if it would be on another mount.
        """
        async with self._walk(path, reval) as walk:
            if not walk.last:
                raise os_error(errno.EEXIST)
            dir_inode = directory_of(walk.parent)
            async with dir_inode.lock():
                only_directories = walk.must_be_dir and not directory
                walk.must_be_dir = False
                intent = Lookup.NONE if only_directories else Lookup.CREATE | Lookup.EXCL
                dentry = await walk.last_child(intent, follow=False)
                try:
                    if dentry.inode is not None:
                        raise os_error(errno.EEXIST)
                    if only_directories:
                        raise os_error(errno.ENOENT)
                    self._must_be_writable(dir_inode)
                    await nfs_access.permission(dir_inode, MAY_WRITE | MAY_EXEC, self.cred)
                    if source is not None and source is not walk.mount:
                        raise os_error(errno.EXDEV)
                    yield dentry
                finally:
                    put_name(dentry)

    async def mkdir(self, path: Path, mode: int = 0o755) -> None:
        async def attempt(reval: Lookup) -> None:
            async with self._new_name(path, reval, directory=True) as dentry:
                await nfs_dir.mkdir(_dir_of(dentry), dentry, mode & 0o1777 & ~self.umask, self.cred)

        await retry_estale(attempt)

    async def symlink(self, target: str | bytes, path: Path) -> None:
        """symlink(2): make ``path`` point to ``target``."""
        raw = target.encode("utf-8", "surrogateescape") if isinstance(target, str) else target
        if not raw:
            raise os_error(errno.ENOENT)
        if len(raw) >= PATH_MAX:
            raise os_error(errno.ENAMETOOLONG)

        async def attempt(reval: Lookup) -> None:
            async with self._new_name(path, reval) as dentry:
                await nfs_dir.symlink(_dir_of(dentry), dentry, raw, self.cred)

        await retry_estale(attempt)

    async def mknod(self, path: Path, mode: int, rdev: tuple[int, int] = (0, 0)) -> None:
        """mknod(2) for FIFOs, sockets, devices and regular files."""
        kind = _MKNOD_TYPES.get(modes.S_IFMT(mode) or modes.S_IFREG)
        if kind is None:
            raise os_error(errno.EINVAL)

        async def attempt(reval: Lookup) -> None:
            async with self._new_name(path, reval) as dentry:
                permissions = mode & 0o7777 & ~self.umask
                if kind is FType3.REG:
                    await nfs_dir.create(_dir_of(dentry), dentry, permissions, self.cred, excl=True)
                else:
                    await nfs_dir.mknod(_dir_of(dentry), dentry, kind, permissions, rdev, self.cred)

        await retry_estale(attempt)

    async def link(self, path: Path, new_path: Path) -> None:
        """link(2): a second name for a file."""

        async def attempt(reval: Lookup) -> None:
            async with self._walk(path, reval) as walk:
                old = await walk.last_child(Lookup.NONE, follow=False)
                try:
                    inode = old.inode
                    if inode is None:
                        raise os_error(errno.ENOENT, path)
                    async with self._new_name(new_path, reval, source=walk.mount) as dentry:
                        await self._may_link(inode)
                        if inode.is_dir:
                            raise os_error(errno.EPERM)
                        await nfs_dir.link(inode, _dir_of(dentry), dentry, self.cred)
                finally:
                    put_name(old)

        await retry_estale(attempt)

    async def _may_link(self, inode: NfsInode) -> None:
        """protected_hardlinks: a plain file may be linked by who may read and write it, or owns it."""
        mode = inode.i_mode
        special = mode & modes.S_ISUID or (mode & modes.S_ISGID and mode & modes.S_IXGRP)
        if inode.is_reg and not special:
            with contextlib.suppress(OSError):  # whatever is wrong, the owner may; LINK itself will tell
                await nfs_access.permission(inode, MAY_READ | MAY_WRITE, self.cred)
                return
        if self.cred.auth.uid not in (0, inode.i_uid):
            raise os_error(errno.EPERM)

    async def readlink(self, path: Path) -> bytes:
        async def attempt(reval: Lookup) -> bytes:
            async with self._existing(path, reval, follow=False) as dentry:
                assert dentry.inode is not None
                if not dentry.inode.is_lnk:
                    raise os_error(errno.EINVAL)
                return await read_target(dentry.inode, self.cred)

        return await retry_estale(attempt)

    async def unlink(self, path: Path) -> None:
        await retry_estale(lambda reval: self._remove(path, reval, directory=False))

    async def rmdir(self, path: Path) -> None:
        await retry_estale(lambda reval: self._remove(path, reval, directory=True))

    async def _remove(self, path: Path, reval: Lookup, *, directory: bool) -> None:
        async with self._walk(path, reval) as walk:
            if not walk.last:
                raise os_error(errno.EBUSY if directory else errno.EISDIR)
            dir_inode = directory_of(walk.parent)
            async with dir_inode.lock():
                wanted_dir, walk.must_be_dir = walk.must_be_dir, False
                dentry = await walk.last_child(Lookup.NONE, follow=False)
                try:
                    inode = dentry.inode
                    if inode is None:
                        raise os_error(errno.ENOENT)
                    self._must_be_writable(dir_inode)
                    await nfs_access.permission(dir_inode, MAY_WRITE | MAY_EXEC, self.cred)
                    if directory:
                        if not inode.is_dir:
                            raise os_error(errno.ENOTDIR)
                        await nfs_dir.rmdir(dir_inode, dentry, self.cred)
                    elif inode.is_dir:
                        raise os_error(errno.EISDIR)
                    elif wanted_dir:
                        raise os_error(errno.ENOTDIR)
                    else:
                        await nfs_dir.unlink(dir_inode, dentry, self.cred)
                finally:
                    put_name(dentry)

    async def rename(self, path: Path, new_path: Path) -> None:
        await retry_estale(lambda reval: self._rename(path, new_path, reval))

    async def _rename(self, path: Path, new_path: Path, reval: Lookup) -> None:
        async with self._walk(path, reval) as old_walk, self._walk(new_path, reval) as new_walk:
            if old_walk.is_mountpoint or new_walk.is_mountpoint:
                raise os_error(errno.EXDEV)
            if not old_walk.last or not new_walk.last:
                raise os_error(errno.EBUSY)
            old_dir, new_dir = directory_of(old_walk.parent), directory_of(new_walk.parent)
            if old_walk.mount is not new_walk.mount:
                raise os_error(errno.EXDEV)
            first, second = sorted((old_dir, new_dir), key=id)
            async with first.lock():
                if second is first:
                    await self._rename_locked(old_walk, new_walk, old_dir, new_dir)
                else:
                    async with second.lock():
                        await self._rename_locked(old_walk, new_walk, old_dir, new_dir)

    async def _rename_locked(self, old_walk: Walk, new_walk: Walk, old_dir: NfsInode, new_dir: NfsInode) -> None:
        wants_dir = old_walk.must_be_dir or new_walk.must_be_dir
        old_walk.must_be_dir = new_walk.must_be_dir = False
        old = await old_walk.last_child(Lookup.NONE, follow=False)
        try:
            if old.inode is None:
                raise os_error(errno.ENOENT)  # before anybody is asked about the new name
            new = await new_walk.last_child(Lookup.CREATE | Lookup.RENAME_TARGET, follow=False)
            try:
                if wants_dir and not old.inode.is_dir:
                    raise os_error(errno.ENOTDIR)
                self._check_rename(old, new)
                self._must_be_writable(old_dir)
                await nfs_access.permission(old_dir, MAY_WRITE | MAY_EXEC, self.cred)
                await nfs_access.permission(new_dir, MAY_WRITE | MAY_EXEC, self.cred)
                if new.inode is not old.inode:
                    await nfs_dir.rename(old_dir, old, new_dir, new, self.cred)
            finally:
                put_name(new)
        finally:
            put_name(old)

    def _check_rename(self, old: Dentry, new: Dentry) -> None:
        ancestor: Dentry | None = new.parent
        while ancestor is not None:
            if ancestor is old:
                raise os_error(errno.EINVAL)
            ancestor = ancestor.parent
        ancestor = old.parent
        while ancestor is not None:
            if ancestor is new:
                raise os_error(errno.ENOTEMPTY)
            ancestor = ancestor.parent
        if new.inode is not None and old.inode is not None:
            if old.inode.is_dir and not new.inode.is_dir:
                raise os_error(errno.ENOTDIR)
            if not old.inode.is_dir and new.inode.is_dir:
                raise os_error(errno.EISDIR)

    # Directories.

    async def getdents(self, fd: int, buffer_size: int = 32768) -> list[tuple[bytes, int, FType3 | None]]:
        """getdents64(2): the next (name, inode number, type if known) that fit in the buffer; [] at the end."""
        open_file = self._get(fd)
        if open_file.directory is None:
            raise os_error(errno.ENOTDIR)
        async with open_file.inode.lock():
            return await readdir.getdents(
                open_file.inode, open_file.dentry, open_file.directory, buffer_size, self.cred
            )

    async def listdir(self, path: Path) -> list[bytes]:
        """The names in a directory but ``.`` and ``..``, in the server's order, as opendir(3) and readdir(3) get them.

        glibc asks for the directory's block size, which NFS makes dtsize, and takes a getdents buffer of that size.
        """
        fd = await self.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            size = (await self.fstat(fd)).st_blksize
            size = min(max(size, OPENDIR_MIN_BUFFER), OPENDIR_MAX_BUFFER)
            names: list[bytes] = []
            while entries := await self.getdents(fd, size):
                names += [name for name, _, _ in entries if name not in (b".", b"..")]
            return names
        finally:
            await self.close(fd)

    # Locks.

    async def flock(self, fd: int, operation: int) -> None:
        """flock(2) with LOCK_SH, LOCK_EX, LOCK_UN and LOCK_NB. Raises OSError(EWOULDBLOCK)."""
        file = self._regular(fd, errno.EBADF)
        wait = not operation & fcntl.LOCK_NB
        kind = operation & ~fcntl.LOCK_NB
        if kind not in (fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN):
            raise os_error(errno.EINVAL)
        lock = nfs_lock.FileLock(self._get(fd), 0, nfs_lock.END, kind == fcntl.LOCK_EX)
        if kind == fcntl.LOCK_UN:
            await nfs_lock.unlock(file, lock, flock=True)
        else:
            await nfs_lock.set_lock(file, lock, flock=True, wait=wait)

    async def lockf(self, fd: int, command: int, offset: int = 0, length: int = 0) -> None:
        """fcntl(2) record locks in fcntl.lockf's words: LOCK_SH, LOCK_EX, LOCK_UN, LOCK_NB; length 0: to the end.

        Raises OSError(EAGAIN) for a lock that others hold, EBADF if the descriptor's mode does not allow the lock.
        """
        file = self._regular(fd, errno.EBADF)
        wait = not command & fcntl.LOCK_NB
        kind = command & ~fcntl.LOCK_NB
        if offset < 0 or length < 0 or kind not in (fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN):
            raise os_error(errno.EINVAL)
        end = offset + length if length else nfs_lock.END
        lock = nfs_lock.FileLock(self, offset, end, kind == fcntl.LOCK_EX)
        if kind == fcntl.LOCK_UN:
            await nfs_lock.unlock(file, lock, flock=False)
            return
        if (kind == fcntl.LOCK_EX and not file.may_write) or (kind == fcntl.LOCK_SH and not file.may_read):
            raise os_error(errno.EBADF)
        await nfs_lock.set_lock(file, lock, flock=False, wait=wait)


FMODE_EXEC = 0x20
"""An open flag of the kernel's own: the file is opened to be executed (include/linux/fs.h)."""


def _open_mask(flags: int) -> int:
    """Who executes a file need not be allowed to read it (nfs_open_permission_mask)."""
    if flags & FMODE_EXEC:
        return MAY_OPEN | MAY_EXEC
    mask = MAY_OPEN
    access = flags & os.O_ACCMODE
    if access != os.O_WRONLY:
        mask |= MAY_READ
    if access != os.O_RDONLY or flags & os.O_TRUNC:
        mask |= MAY_WRITE
    return mask


def _dir_of(dentry: Dentry) -> NfsInode:
    assert dentry.parent is not None
    return directory_of(dentry.parent)


_MKNOD_TYPES = {
    modes.S_IFREG: FType3.REG,
    modes.S_IFIFO: FType3.FIFO,
    modes.S_IFSOCK: FType3.SOCK,
    modes.S_IFCHR: FType3.CHR,
    modes.S_IFBLK: FType3.BLK,
}
