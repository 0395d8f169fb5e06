"""`LocalTask`: a program on the server's own machine, working in an exported directory behind the clients' backs.

It goes through the same `Vfs` and the same page cache as the NFS procedures, so what clients have written UNSTABLE is
visible to it, and its own writes are as unstable as any program's until it calls fsync. Names and signatures are those
of the client's system calls; paths are relative to the export's root (a leading slash means the same), and errors are
OSError.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat as stat_bits
from collections.abc import Iterable
from dataclasses import dataclass

from freepage_proto.nfs3 import SET_TO_SERVER_TIME, CreateMode3, Fattr3, FType3, NfsStat3, Sattr3, StableHow
from freepage_proto.nlm4 import LockArgs, NlmLock, NlmStat4, UnlockArgs
from freepage_proto.rpc import AuthSys
from freepage_server.nfsd.errors import NfsError
from freepage_server.nfsd.fh import Fh, error
from freepage_server.nfsd.permission import MAY_EXEC, MAY_READ, MAY_WRITE, permitted, require
from freepage_server.nfsd.server import NfsServer
from freepage_server.nfsd.vfs import PATH_MAX

MAX_SYMLINKS = 40
"""MAXSYMLINKS of Linux."""
GETDENTS_ENTRY_SIZE = 19
"""struct linux_dirent64 before its name."""
COPY_CHUNK = 1 << 20
LOCK_POLL_S = 0.1
"""A blocking lock looks again this often."""

FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE = 1, 2

_PLACES = (b"", b".", b"..")
"""What a path may end in that is no name of an entry (LAST_DOT and LAST_DOTDOT; the root has none here)."""

_FORMATS = {
    FType3.REG: stat_bits.S_IFREG,
    FType3.DIR: stat_bits.S_IFDIR,
    FType3.BLK: stat_bits.S_IFBLK,
    FType3.CHR: stat_bits.S_IFCHR,
    FType3.LNK: stat_bits.S_IFLNK,
    FType3.SOCK: stat_bits.S_IFSOCK,
    FType3.FIFO: stat_bits.S_IFIFO,
}

Path = str | bytes


@dataclass(frozen=True, slots=True)
class Stat:
    """struct stat; times in ns."""

    st_mode: int
    st_ino: int
    st_dev: int
    st_nlink: int
    st_uid: int
    st_gid: int
    st_rdev: int
    st_size: int
    st_blksize: int
    st_blocks: int
    st_atime_ns: int
    st_mtime_ns: int
    st_ctime_ns: int

    @classmethod
    def of(cls, a: Fattr3) -> Stat:
        return cls(
            _FORMATS[a.type] | a.mode,
            a.fileid,
            a.fsid,
            a.nlink,
            a.uid,
            a.gid,
            os.makedev(*a.rdev),
            a.size,
            4096,
            (a.used + 511) // 512,
            a.atime_ns,
            a.mtime_ns,
            a.ctime_ns,
        )


@dataclass(frozen=True, slots=True)
class Statvfs:
    f_bsize: int
    f_frsize: int
    f_blocks: int
    f_bfree: int
    f_bavail: int
    f_files: int
    f_ffree: int
    f_favail: int
    f_namemax: int


class _OpenFile:
    """An open file description. ``pos`` is in bytes, or a cookie in a directory."""

    __slots__ = ("fh", "flags", "flocked", "holds", "pos")

    def __init__(self, fh: Fh, flags: int, holds: bool) -> None:
        self.fh = fh
        self.flags = flags
        self.pos = 0
        self.flocked = False
        self.holds = holds
        """the storage's inode, which lives on when its last name goes"""

    @property
    def may_read(self) -> bool:
        return self.flags & os.O_ACCMODE in (os.O_RDONLY, os.O_RDWR)

    @property
    def may_write(self) -> bool:
        return self.flags & os.O_ACCMODE in (os.O_WRONLY, os.O_RDWR)


class LocalTask:
    """One process on the server machine. ``cred`` is whom it runs as: root unless told otherwise."""

    def __init__(self, server: NfsServer, export: str = "/export", cred: AuthSys | None = None) -> None:
        if export not in server.exports:
            raise ValueError(f"the server exports no {export}")
        self.server = server
        self.export = server.exports[export]
        self.cred = cred or AuthSys()
        self._vfs = server.vfs
        self._open: dict[int, _OpenFile] = {}
        self._pid = server.next_local_pid()

    # --- paths ----------------------------------------------------------------------------------------------------

    def _root(self) -> Fh:
        return Fh(self.server.files, self.export, self.export.storage.root())

    def _fresh(self, fh: Fh) -> Fh:
        """The same inode without attributes remembered from an earlier operation."""
        return Fh(self.server.files, fh.export, fh.key)

    def _walk(self, path: Path, *, follow: bool = True) -> Fh:
        raw = os.fsencode(path)
        if not raw:
            raise error(errno.ENOENT)
        if len(raw) >= PATH_MAX:
            raise error(errno.ENAMETOOLONG)
        at = [self._root()]
        must_be_dir = raw.endswith((b"/", b"/."))
        names = [name for name in raw.split(b"/") if name not in (b"", b".")]
        names.reverse()
        links = 0
        while names:
            name = names.pop()
            if name == b"..":
                if len(at) > 1:  # the root is its own parent
                    at.pop()
                continue
            child = self._vfs.lookup(at[-1], name, self.cred)
            if child.attributes().type is FType3.LNK and (names or follow or must_be_dir):
                links += 1
                if links > MAX_SYMLINKS:
                    raise error(errno.ELOOP)
                target = self._vfs.readlink(child)
                if target.startswith(b"/"):
                    del at[1:]
                names.extend(part for part in reversed(target.split(b"/")) if part not in (b"", b"."))
                continue
            at.append(child)
        if must_be_dir:
            at[-1].require_directory()
        return at[-1]

    def _parent(self, path: Path) -> tuple[Fh, bytes]:
        """The directory and the last name: ``.`` or ``..`` if the path ends so, empty for the root."""
        raw = os.fsencode(path)
        if not raw:
            raise error(errno.ENOENT)
        head, _, name = raw.rstrip(b"/").rpartition(b"/")
        directory = self._walk(head) if head.strip(b"/") else self._root()
        if name in _PLACES:
            directory.require_directory()
        return directory, name

    def _new(self, path: Path) -> tuple[Fh, bytes]:
        """The directory and the name of what is to be made. Raises EEXIST for a place (fs/namei.c:filename_create)."""
        directory, name = self._parent(path)
        if name in _PLACES:
            raise error(errno.EEXIST)
        return directory, name

    def _dangling(self, directory: Fh, name: bytes) -> bytes | None:
        """Where the symbolic link of that name points; None if there is none."""
        try:
            return self._vfs.readlink(self._vfs.lookup(directory, name, self.cred))
        except FileNotFoundError:
            return None

    def _file(self, fd: int) -> _OpenFile:
        file = self._open.get(fd)
        if file is None:
            raise error(errno.EBADF)
        return file

    # --- files ----------------------------------------------------------------------------------------------------

    async def open(self, path: Path, flags: int, mode: int = 0o644) -> int:
        accmode = flags & os.O_ACCMODE
        created = False
        if flags & os.O_CREAT:
            directory, name = self._parent(path)
            try:
                fh = self._walk(path, follow=not flags & (os.O_EXCL | os.O_NOFOLLOW))
                if flags & os.O_EXCL:
                    raise error(errno.EEXIST)
            except FileNotFoundError:
                if name in _PLACES:
                    raise
                if (to := self._dangling(directory, name)) is not None:
                    here = b"" if to.startswith(b"/") else os.fsencode(path).rpartition(b"/")[0] + b"/"
                    return await self.open(here + to, flags, mode)
                fh = await self._vfs.create(directory, name, CreateMode3.GUARDED, Sattr3(mode=mode), b"", self.cred)
                created = True
        else:
            fh = self._walk(path, follow=not flags & os.O_NOFOLLOW)
        attributes = fh.attributes()
        if attributes.type is FType3.LNK:
            raise error(errno.ELOOP)
        if attributes.type is FType3.DIR and (accmode != os.O_RDONLY or flags & os.O_CREAT):
            raise error(errno.EISDIR)
        if flags & os.O_DIRECTORY and attributes.type is not FType3.DIR:
            raise error(errno.ENOTDIR)
        if not created:
            if accmode != os.O_WRONLY:
                require(attributes, self.cred, MAY_READ)
            if accmode != os.O_RDONLY:
                require(attributes, self.cred, MAY_WRITE)
            if flags & os.O_TRUNC and attributes.type is FType3.REG:
                await self._vfs.setattr(self._fresh(fh), Sattr3(size=0), self.cred)
        if attributes.type is FType3.REG:
            fh.export.storage.hold(fh.key)
        fd = min(set(range(3, len(self._open) + 4)) - self._open.keys())
        self._open[fd] = _OpenFile(self._fresh(fh), flags, holds=attributes.type is FType3.REG)
        return fd

    async def close(self, fd: int) -> None:
        file = self._file(fd)
        del self._open[fd]
        if file.flocked:
            self._unlock(file, "flock", 0, 0)
        if file.holds:
            storage, key = file.fh.export.storage, file.fh.key
            storage.release(key)
            try:
                storage.getattr(key)
            except OSError:
                self.server.files.gone(file.fh.export, key)

    async def exit(self) -> None:
        """Close everything."""
        for fd in list(self._open):
            await self.close(fd)

    def _readable(self, fd: int) -> _OpenFile:
        file = self._file(fd)
        if not file.may_read:
            raise error(errno.EBADF)
        return file

    def _writable(self, fd: int) -> _OpenFile:
        file = self._file(fd)
        if not file.may_write:
            raise error(errno.EBADF)
        return file

    async def pread(self, fd: int, n: int, offset: int) -> bytes:
        if n < 0 or offset < 0:
            raise error(errno.EINVAL)
        data, _, _ = await self._vfs.read(self._fresh(self._readable(fd).fh), offset, n, self.cred)
        return bytes(data)

    async def read(self, fd: int, n: int) -> bytes:
        file = self._readable(fd)
        data = await self.pread(fd, n, file.pos)
        file.pos += len(data)
        return data

    async def pwrite(self, fd: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        file = self._writable(fd)
        if offset < 0:
            raise error(errno.EINVAL)
        if file.flags & os.O_APPEND:
            offset = file.fh.attributes().size
        sync = file.flags & (os.O_SYNC | os.O_DSYNC)
        if len(data):
            stable = StableHow.FILE_SYNC if sync else StableHow.UNSTABLE
            await self._vfs.write(self._fresh(file.fh), offset, data, stable, self.cred)
        return len(data)

    async def write(self, fd: int, data: bytes | bytearray | memoryview) -> int:
        file = self._writable(fd)
        if file.flags & os.O_APPEND:
            file.pos = file.fh.attributes().size
        n = await self.pwrite(fd, data, file.pos)
        file.pos += n
        return n

    async def lseek(self, fd: int, offset: int, whence: int = os.SEEK_SET) -> int:
        """SEEK_DATA and SEEK_HOLE see every file as one piece of data with a hole at its end."""
        file = self._file(fd)
        size = file.fh.attributes().size
        if whence == os.SEEK_CUR:
            offset += file.pos
        elif whence == os.SEEK_END:
            offset += size
        elif whence in (os.SEEK_DATA, os.SEEK_HOLE):
            if not 0 <= offset < size:
                raise error(errno.ENXIO)
            if whence == os.SEEK_HOLE:
                offset = size
        elif whence != os.SEEK_SET:
            raise error(errno.EINVAL)
        if offset < 0:
            raise error(errno.EINVAL)
        file.pos = offset
        return offset

    async def fsync(self, fd: int) -> None:
        fh = self._fresh(self._file(fd).fh)
        if fh.attributes().type is FType3.REG:
            await self.server.files.commit(fh.export, fh.key)
        elif fh.attributes().type is FType3.DIR:
            await fh.export.storage.sync_metadata(fh.key)

    async def fdatasync(self, fd: int) -> None:
        await self.fsync(fd)

    async def ftruncate(self, fd: int, length: int) -> None:
        file = self._file(fd)
        if length < 0 or not file.may_write:
            raise error(errno.EINVAL)
        await self._vfs.setattr(self._fresh(file.fh), Sattr3(size=length), self.cred)

    async def truncate(self, path: Path, length: int) -> None:
        if length < 0:
            raise error(errno.EINVAL)
        await self._vfs.setattr(self._walk(path), Sattr3(size=length), self.cred)

    async def fallocate(self, fd: int, mode: int, offset: int, length: int) -> None:
        file = self._writable(fd)
        if offset < 0 or length <= 0:
            raise error(errno.EINVAL)
        if mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE) or mode == FALLOC_FL_PUNCH_HOLE:
            raise error(errno.EOPNOTSUPP)
        size = file.fh.attributes().size
        if mode & FALLOC_FL_PUNCH_HOLE:
            end = min(offset + length, size)
            while offset < end:
                n = min(COPY_CHUNK, end - offset)
                await self._vfs.write(self._fresh(file.fh), offset, bytes(n), StableHow.UNSTABLE, self.cred)
                offset += n
            return
        self.export.storage.reserve(file.fh.key, offset, length, uid=self.cred.uid)
        if not mode and offset + length > size:
            await self.ftruncate(fd, offset + length)

    async def fadvise(self, fd: int, offset: int, length: int, advice: int) -> None:
        """Accepted; the server's cache keeps its own counsel."""
        self._file(fd)

    async def copy_file_range(self, fd_in: int, fd_out: int, n: int, off_in: int, off_out: int) -> int:
        source, target = self._readable(fd_in), self._writable(fd_out)
        if target.flags & os.O_APPEND:
            raise error(errno.EBADF)
        n = max(0, min(n, self._fresh(source.fh).attributes().size - off_in))
        if source.fh.key == target.fh.key and off_in < off_out + n and off_out < off_in + n:
            raise error(errno.EINVAL)
        copied = 0
        while copied < n:
            data = await self.pread(fd_in, min(COPY_CHUNK, n - copied), off_in + copied)
            if not data:
                break
            copied += await self.pwrite(fd_out, data, off_out + copied)
        return copied

    # --- attributes -----------------------------------------------------------------------------------------------

    async def stat(self, path: Path) -> Stat:
        return Stat.of(self._walk(path).attributes())

    async def lstat(self, path: Path) -> Stat:
        return Stat.of(self._walk(path, follow=False).attributes())

    async def fstat(self, fd: int) -> Stat:
        return Stat.of(self._file(fd).fh.attributes())

    async def access(self, path: Path, mode: int) -> None:
        """Raises EACCES, or EROFS for writing."""
        fh = self._walk(path)
        mask = (MAY_READ if mode & os.R_OK else 0) | (MAY_WRITE if mode & os.W_OK else 0)
        mask |= MAY_EXEC if mode & os.X_OK else 0
        if mode & os.W_OK:
            fh.require_writable()
        if not permitted(fh.attributes(), self.cred, mask):
            raise error(errno.EACCES)

    async def statfs(self, path: Path) -> Statvfs:
        self._walk(path)
        s = self.export.storage.statfs()
        return Statvfs(
            4096,
            4096,
            s.total_bytes // 4096,
            s.free_bytes // 4096,
            s.available_bytes // 4096,
            s.total_files,
            s.free_files,
            s.available_files,
            self.export.storage.name_max,
        )

    async def chmod(self, path: Path, mode: int) -> None:
        await self._vfs.setattr(self._walk(path), Sattr3(mode=mode), self.cred)

    async def chown(self, path: Path, uid: int | None, gid: int | None) -> None:
        await self._vfs.setattr(self._walk(path), Sattr3(uid=uid, gid=gid), self.cred)

    async def utimens(self, path: Path, atime_ns: int | None, mtime_ns: int | None) -> None:
        """Both None: both now, as utime(2) without times; else None leaves that one alone."""
        if atime_ns is None and mtime_ns is None:
            atime_ns = mtime_ns = SET_TO_SERVER_TIME
        await self._vfs.setattr(self._walk(path), Sattr3(atime_ns=atime_ns, mtime_ns=mtime_ns), self.cred)

    # --- names ----------------------------------------------------------------------------------------------------

    async def mkdir(self, path: Path, mode: int = 0o755) -> None:
        fh, name = self._new(path)
        await self._vfs.mkdir(fh, name, Sattr3(mode=mode), self.cred)

    async def rmdir(self, path: Path) -> None:
        fh, name = self._parent(path)
        if name in _PLACES:
            raise error(errno.EINVAL if name == b"." else errno.ENOTEMPTY)
        await self._vfs.rmdir(fh, name, self.cred)

    async def unlink(self, path: Path) -> None:
        fh, name = self._parent(path)
        if name in _PLACES:
            raise error(errno.EISDIR)
        await self._vfs.unlink(fh, name, self.cred)

    async def readlink(self, path: Path) -> bytes:
        return self._vfs.readlink(self._walk(path, follow=False))

    async def symlink(self, target: Path, path: Path) -> None:
        fh, name = self._new(path)
        await self._vfs.symlink(fh, name, os.fsencode(target), Sattr3(), self.cred)

    async def link(self, path: Path, to: Path) -> None:
        target = self._walk(path, follow=False)
        fh, name = self._new(to)
        if target.attributes().type is FType3.DIR:
            with contextlib.suppress(FileNotFoundError):
                self._vfs.lookup(fh, name, self.cred)
                raise error(errno.EEXIST)
            raise error(errno.EPERM)
        await self._vfs.link(fh, target, name, self.cred)

    async def rename(self, path: Path, to: Path) -> None:
        fh, name = self._parent(path)
        to_fh, to_name = self._parent(to)
        if {name, to_name} & {b".", b".."}:
            raise error(errno.EBUSY)
        if not name:
            raise error(errno.EINVAL)  # below itself, wherever that is
        if not to_name:
            raise error(errno.ENOTEMPTY)  # what is moved is in it
        await self._vfs.rename(fh, name, to_fh, to_name, self.cred)

    async def mknod(self, path: Path, mode: int, device: int = 0) -> None:
        fh, name = self._new(path)
        kind = {value: key for key, value in _FORMATS.items()}.get(stat_bits.S_IFMT(mode), FType3.REG)
        if kind is FType3.REG:
            await self._vfs.create(fh, name, CreateMode3.GUARDED, Sattr3(mode=mode & 0o7777), b"", self.cred)
            return
        rdev = (os.major(device), os.minor(device))
        try:
            await self._vfs.mknod(fh, name, kind, Sattr3(mode=mode & 0o7777), rdev, self.cred)
        except NfsError as failure:
            assert failure.status is NfsStat3.BADTYPE
            raise error(errno.EINVAL) from None

    # --- directories ----------------------------------------------------------------------------------------------

    async def getdents(self, fd: int, buffer_size: int = 32768) -> list[tuple[bytes, int, int]]:
        """(name, inode number, DT_ type) of as many entries as the buffer holds; [] at the end."""
        file = self._file(fd)
        self._vfs.require_readable_directory(self._fresh(file.fh), self.cred)
        storage = self.export.storage
        found: list[tuple[bytes, int, int]] = []
        while True:
            batch, end = await storage.readdir(file.fh.key, file.pos, 512)
            for entry in batch:
                buffer_size -= (GETDENTS_ENTRY_SIZE + len(entry.name) + 1 + 7) // 8 * 8
                if buffer_size < 0:
                    if not found:
                        raise error(errno.EINVAL)
                    return found
                try:
                    key = storage.lookup(file.fh.key, entry.name) if entry.key is None else entry.key
                    kind = _FORMATS[storage.getattr(key).type] >> 12
                except OSError:
                    kind = 0  # DT_UNKNOWN
                found.append((entry.name, entry.fileid, kind))
                file.pos = entry.cookie
            if end:
                return found

    async def listdir(self, path: Path) -> list[bytes]:
        """Names without ``.`` and ``..``, in the directory's order."""
        fd = await self.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            names: list[bytes] = []
            while entries := await self.getdents(fd):
                names += [name for name, _, _ in entries if name not in (b".", b"..")]
            return names
        finally:
            await self.close(fd)

    # --- locks and the rest ---------------------------------------------------------------------------------------

    def _lock_of(self, file: _OpenFile, kind: str, offset: int, length: int) -> NlmLock:
        handle = self.server.handles.encode(file.fh.export.id, file.fh.key)
        if kind == "flock":  # Linux keeps flock and fcntl locks of a local file apart
            return NlmLock(b"flock" + handle, f"{self._pid}.{id(file)}".encode(), self._pid, 0, 0)
        return NlmLock(handle, str(self._pid).encode(), self._pid, offset, length)

    def _unlock(self, file: _OpenFile, kind: str, offset: int, length: int) -> None:
        self.server.locks.unlock("local", UnlockArgs(self._lock_of(file, kind, offset, length)))

    async def _lock(self, file: _OpenFile, kind: str, exclusive: bool, block: bool, offset: int, length: int) -> None:
        args = LockArgs(self._lock_of(file, kind, offset, length), exclusive)
        while (status := self.server.locks.lock("local", args).status) is NlmStat4.DENIED:
            if not block:
                raise error(errno.EAGAIN)
            await self.server.clock.sleep(LOCK_POLL_S)
        if status is not NlmStat4.GRANTED:
            raise error(errno.ENOLCK)

    async def flock(self, fd: int, op: int) -> None:
        """LOCK_SH 1, LOCK_EX 2, LOCK_UN 8, with LOCK_NB 4, as in flock(2)."""
        file = self._file(fd)
        if op & 8:
            self._unlock(file, "flock", 0, 0)
            file.flocked = False
        else:
            await self._lock(file, "flock", bool(op & 2), not op & 4, 0, 0)
            file.flocked = True

    async def lockf(self, fd: int, cmd: int, offset: int, length: int) -> None:
        """An fcntl lock of bytes from ``offset``; ``cmd`` as in `flock`, ``length`` 0 to the end."""
        file = self._file(fd)
        if cmd & 8:
            self._unlock(file, "posix", offset, length)
        elif not (file.may_write if cmd & 2 else file.may_read):
            raise error(errno.EBADF)
        else:
            await self._lock(file, "posix", bool(cmd & 2), not cmd & 4, offset, length)

    async def sync(self) -> None:
        await self.server.sync()

    def open_files(self) -> Iterable[int]:
        return self._open.keys()
