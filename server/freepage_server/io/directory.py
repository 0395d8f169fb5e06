"""An export on a real directory: the `Storage` of a server with files that other programs may use too.

**Confinement.** Every access starts at a descriptor of the export's root and takes one name at a time, beneath it
(`beneath`); ``..`` is answered from what was recorded on the way down, never asked of the kernel; symbolic links are
read, never followed; what is mounted inside is not entered. An inode in use is held by an O_PATH descriptor, so that
an operation on it cannot be led to another one by renaming things meanwhile. What we make by name, because the kernel
gives no descriptor of it, is looked at before it is given away: somebody may have put something else there.

**Keys.** ``inode number | hash of its generation`` (FS_IOC_GETVERSION and birth time, whichever the file system has).
Where each inode was last seen is recorded in memory and, given a table (`state.InodeTable`), on disk. An inode that is
not there any more is looked for in the directory where it was, then in the whole export as far as `MAX_SEARCHED` names
go. A key whose inode is not found, or whose number now belongs to another, raises ESTALE.

**Times.** ctime cannot be set, so the server's own late write-back would show. The storage remembers what is to be
reported instead (`report_times`) until the inode changes again.

**Blocking.** What moves data or waits for the disk goes through aiofiles' thread pool, in large units; names and
attributes are single system calls on data the kernel has at hand, and are made directly.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import fcntl
import hashlib
import os
import resource
import stat as stat_bits
import struct
import time
from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import aiofiles.os

from freepage_proto.nfs3 import Data, Fattr3, FType3
from freepage_server.io.beneath import look
from freepage_server.io.listing import COOKIE_DOT, COOKIE_DOTDOT, COOKIE_FIRST, Listing, Listings, names_in
from freepage_server.io.privilege import spending_for, without_overdraft
from freepage_server.io.state import FLUSH_AFTER_S, INO_SIZE, MAX_PENDING, InodeTable, Record, Times
from freepage_server.nfsd.storage import Key, Statfs, StoredEntry

T = TypeVar("T")

_TYPES = {
    stat_bits.S_IFREG: FType3.REG,
    stat_bits.S_IFDIR: FType3.DIR,
    stat_bits.S_IFBLK: FType3.BLK,
    stat_bits.S_IFCHR: FType3.CHR,
    stat_bits.S_IFLNK: FType3.LNK,
    stat_bits.S_IFSOCK: FType3.SOCK,
    stat_bits.S_IFIFO: FType3.FIFO,
}
_FORMATS = {kind: format for format, kind in _TYPES.items()}

MAX_NODES = 65536
"""Inodes remembered in memory, where a table on disk knows the others."""
MAX_ATTRIBUTES = 1024
"""How many files' attributes are not made anew while fstat says the same."""
MAX_SEARCHED = 100_000
"""Names looked at to find an inode that another program moved: at most some 100 ms in which nothing else is done."""
MAX_STALE = 4096
"""Keys known to be stale: nobody makes the server search for the same file twice."""
MAX_DEPTH = 4096
"""Directories above one another; more is a circle, which a race with another program's renaming can leave behind."""
_NOT_THERE = (errno.ENOENT, errno.ESTALE, errno.ENOTDIR)

CLOCK_REALTIME_COARSE = 5
"""The clock that stamps inodes (Linux: ktime_get_coarse_real_ts64)."""

FS_IOC_GETVERSION = 0x80087601
FALLOC_FL_KEEP_SIZE = 1
_AT_EMPTY_PATH = 0x1000
_STATX_BTIME = 0x800

_libc = ctypes.CDLL(None, use_errno=True)


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def _birth_time_ns(fd: int) -> int | None:
    """When the inode was made, where the file system remembers (statx; glibc 2.28)."""
    statx = getattr(_libc, "statx", None)
    if statx is None:
        return None
    buffer = ctypes.create_string_buffer(256)
    if statx(fd, b"", _AT_EMPTY_PATH, _STATX_BTIME, buffer) != 0:
        return None
    (mask,) = struct.unpack_from("I", buffer, 0)
    if not mask & _STATX_BTIME:
        return None
    seconds, nanoseconds = struct.unpack_from("qI", buffer, 80)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)


def _version(path: str, mode: int) -> int | None:
    """The inode's generation number; only files and directories may be opened to ask."""
    if not (stat_bits.S_ISREG(mode) or stat_bits.S_ISDIR(mode)):
        return None
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        (version,) = struct.unpack("l", fcntl.ioctl(fd, FS_IOC_GETVERSION, bytes(struct.calcsize("l"))))
    except OSError:
        return None
    finally:
        os.close(fd)
    return int(version)


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


def _pwrite_all(fd: int, data: Data, offset: int, mtime_ns: int | None) -> None:
    view = memoryview(data).cast("B")
    while len(view):
        written = os.pwrite(fd, view, offset)
        view = view[written:]
        offset += written
    if mtime_ns is not None:
        os.utime(fd, ns=(os.fstat(fd).st_atime_ns, mtime_ns))


def _generation(version: int | None, birth_ns: int | None) -> bytes:
    return hashlib.blake2b(f"{version} {birth_ns}".encode(), digest_size=8).digest()


class _Node:
    """An inode that was seen: where, and what tells it from a later one with its number.

    ``fd`` is an O_PATH descriptor, or None when it was closed to make room, which ``pins`` forbids. ``parent`` is the
    key of a directory, and the root's own for the root. ``times`` is None while the disk's are reported.
    """

    __slots__ = ("birth_ns", "fd", "holds", "ino", "key", "mode", "name", "parent", "pins", "times", "version")

    def __init__(self, key: Key, mode: int, version: int | None, birth_ns: int | None) -> None:
        self.key = key
        self.ino = int.from_bytes(key[:INO_SIZE], "big")
        self.mode = mode
        self.version = version
        self.birth_ns = birth_ns
        self.fd: int | None = None
        self.pins = 0
        self.holds = 0
        self.parent = key
        self.name = b""
        self.times: Times | None = None

    @classmethod
    def recorded(cls, key: Key, record: Record) -> _Node:
        node = cls(key, record.mode, record.version, record.birth_ns)
        node.parent, node.name, node.times = record.parent, record.name, record.times
        return node

    def record(self) -> Record:
        return Record(self.parent, self.name, self.mode, self.version, self.birth_ns, self.times)

    def is_same(self, version: int | None, birth_ns: int | None) -> bool:
        """Whether these are this inode's. The version of a file that may not be opened is not known."""
        if self.version is not None and version is not None:
            return self.version == version
        if self.birth_ns is not None and birth_ns is not None:
            return self.birth_ns == birth_ns
        if self.version is None and self.birth_ns is None and (version is not None or birth_ns is not None):
            # Nothing was recorded; but the key was made of what it had.
            made_of = ((version, birth_ns), (None, birth_ns), (version, None))
            return self.key[INO_SIZE:] in [_generation(*pair) for pair in made_of]
        return True


class _DataFile:
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


class DirectoryStorage:
    """See the module. Raises NotADirectoryError or another OSError when ``path`` cannot be exported.

    ``offload=False`` makes data I/O in the calling thread: for tests, and where there is no event loop to wait in.
    ``table`` opens the durable table of the directory with this key; without it keys are found again only when their
    names are looked up.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        offload: bool = True,
        table: Callable[[Key], InodeTable] | None = None,
    ) -> None:
        self.path = Path(path)
        self.fsid = 0
        self.granule_ns = max(1, int(time.clock_getres(CLOCK_REALTIME_COARSE) * 1_000_000_000))
        self.shared = True
        self.reserves = True
        """False once the file system has refused to set space aside (fallocate)"""
        self._offload = offload
        self._nodes: OrderedDict[Key, _Node] = OrderedDict()
        self._attributes: dict[Key, tuple[tuple[int, ...], Fattr3]] = {}
        """of files looked at lately: what fstat said, and what that is in the protocol's words"""
        self._by_ino: dict[int, _Node] = {}
        self._held: OrderedDict[Key, _Node] = OrderedDict()
        self._data: OrderedDict[Key, _DataFile] = OrderedDict()
        self._listings = Listings(self._run)
        self._stale: OrderedDict[Key, str] = OrderedDict()
        """where each was seen last, for `describe`"""
        self._max_nodes = MAX_NODES
        self._flush_timer: asyncio.TimerHandle | None = None
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        limit = 1 << 20 if soft == resource.RLIM_INFINITY else soft
        self._max_held = max(32, min(4096, limit // 4))
        self._max_data = max(16, min(512, limit // 8))
        self._open_table = table
        self._root, self._dev, self._table = self._open_root()
        self._by_ino[self._root.ino] = self._root
        fd = self._fd(self._root)
        self.name_max = _limit(fd, "PC_NAME_MAX", 255)
        self.link_max = _limit(fd, "PC_LINK_MAX", 32000)
        self.max_file_size = (1 << 63) - 1
        self._euid = os.geteuid()
        self._privileged = self._euid == 0

    def _open_root(self) -> tuple[_Node, int, InodeTable | None]:
        """The directory at ``path``, its device, and what is known of it from earlier lives."""
        fd = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            st = os.fstat(fd)
            version, birth_ns = _identity(fd, st)
            root = _Node(_key(st.st_ino, version, birth_ns), st.st_mode, version, birth_ns)
            root.fd = fd  # never closed to make room, so it is in neither _held nor _nodes
            return root, st.st_dev, None if self._open_table is None else self._open_table(root.key)
        except BaseException:
            os.close(fd)
            raise

    def reopen(self) -> bool:
        """Serve the directory that is at ``path`` now, if the one served so far was removed. False: there is none.

        Handles into the old one are stale, and nobody looks for their files in the new one.
        """
        assert self._root.fd is not None
        if os.fstat(self._root.fd).st_nlink:
            return False
        try:
            root, dev, table = self._open_root()
        except OSError:
            return False
        stale = [self._root.key, *self._nodes]
        self.close()
        self._root, self._dev, self._table = root, dev, table
        self._by_ino[root.ino] = root
        self._stale.update(dict.fromkeys(stale[-MAX_STALE:], ""))
        return True

    def close(self) -> None:
        """Close every descriptor, and the table when it is written. No operation may follow."""
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None
        if self._table is not None:
            self._table.close()
        for file in self._data.values():
            file.close()
        self._data.clear()
        for node in (self._root, *self._held.values()):
            if node.fd is not None:
                os.close(node.fd)
                node.fd = None
        self._nodes.clear()
        self._by_ino.clear()
        self._held.clear()
        self._listings.clear()

    def check_readable(self) -> None:
        """Raises OSError when the exported directory cannot be listed, or is no longer there."""
        with self._pinned(self._root) as fd:
            if os.fstat(fd).st_nlink == 0:
                raise _error(errno.ESTALE)
            next(names_in(fd), None)

    def now_ns(self) -> int:
        return time.clock_gettime_ns(CLOCK_REALTIME_COARSE)

    # --- inodes ---------------------------------------------------------------------------------------------------

    def root(self) -> Key:
        return self._root.key

    def _adopt(self, fd: int, parent: _Node, name: bytes) -> _Node:
        """The node of an inode just opened as ``name``; takes ``fd`` over. Raises EACCES for a mount point."""
        try:
            st = os.fstat(fd)
            if st.st_dev != self._dev:
                raise _error(errno.EACCES)
            node = self._by_ino.get(st.st_ino)
            if node is None or node.fd is None:
                # Nobody holds the inode that had this number, so it may have been used again.
                version, birth_ns = _identity(fd, st)
                if node is not None and not node.is_same(version, birth_ns):
                    self._forget(node)
                    node = None
                if node is None:
                    node = self._recorded_as(st.st_ino, version, birth_ns)
                if node is None:
                    node = _Node(_key(st.st_ino, version, birth_ns), st.st_mode, version, birth_ns)
                self._stale.pop(node.key, None)
                if node.key not in self._nodes:
                    self._insert(node)
        except BaseException:
            os.close(fd)
            raise
        self._place(node, parent, name)
        if node.fd is None:
            self._hold(node, fd)
        else:
            os.close(fd)
        return node

    def _recorded_as(self, ino: int, version: int | None, birth_ns: int | None) -> _Node | None:
        """What the table knows of an inode; what it knows of earlier ones with that number is forgotten."""
        if self._table is None:
            return None
        found = None
        for key in self._table.with_number(ino):
            record = self._table.get(key)
            if record is None:
                continue
            node = _Node.recorded(key, record)
            if found is None and node.is_same(version, birth_ns):
                found = node
            else:
                self._record(key, None)
        return found

    def _insert(self, node: _Node) -> None:
        self._nodes[node.key] = self._by_ino[node.ino] = node
        if self._table is not None and len(self._nodes) > self._max_nodes:
            key, oldest = next(iter(self._nodes.items()))
            if oldest.fd is not None or oldest.pins:
                self._nodes.move_to_end(key)  # in use: the next oldest then, at the next insertion
                return
            del self._nodes[key]
            if self._by_ino.get(oldest.ino) is oldest:
                del self._by_ino[oldest.ino]

    def _place(self, node: _Node, parent: _Node, name: bytes) -> None:
        """Record where the inode is."""
        if node is not self._root and (node.parent != parent.key or node.name != name):
            node.parent, node.name = parent.key, name
            self._record(node.key, node.record())

    def _record(self, key: Key, record: Record | None) -> None:
        """Put into the table what will be written soon, together with what comes meanwhile."""
        table = self._table
        if table is None:
            return
        table.put(key, record)
        if table.pending >= MAX_PENDING:
            table.flush()
        elif self._flush_timer is None and self._offload:
            self._flush_timer = asyncio.get_running_loop().call_later(FLUSH_AFTER_S, self._flush_soon)

    def _flush_soon(self) -> None:
        self._flush_timer = None
        if self._table is not None and self._table.pending:
            self._table.take()
            written = asyncio.get_running_loop().run_in_executor(None, self._table.write)
            written.add_done_callback(lambda done: done.exception())

    def _hold(self, node: _Node, fd: int) -> None:
        earlier = self._held.pop(node.key, None)
        if earlier is not None and earlier.fd is not None:
            os.close(earlier.fd)  # the same inode, forgotten in memory and read from the table again
            earlier.fd = None
        node.fd = fd
        self._held[node.key] = node
        if len(self._held) > self._max_held:
            oldest = next(held for held in self._held.values() if not held.pins)
            del self._held[oldest.key]
            assert oldest.fd is not None
            os.close(oldest.fd)
            oldest.fd = None

    @contextmanager
    def _pinned(self, node: _Node) -> Iterator[int]:
        """The inode's O_PATH descriptor, kept open for the block while others are opened."""
        fd = self._fd(node)
        node.pins += 1
        try:
            yield fd
        finally:
            node.pins -= 1

    def _forget(self, node: _Node) -> None:
        """The inode is gone: its key is stale from now on."""
        last_name = self.describe(node.key)
        self._nodes.pop(node.key, None)
        if self._by_ino.get(node.ino) is node:
            del self._by_ino[node.ino]
        self._held.pop(node.key, None)
        self._listings.forget(node.key)
        file = self._data.pop(node.key, None)
        if file is not None:
            file.close()
        if node.fd is not None:
            os.close(node.fd)
            node.fd = None
        self._record(node.key, None)
        self._stale[node.key] = last_name
        if len(self._stale) > MAX_STALE:
            self._stale.popitem(last=False)

    def _node(self, key: Key) -> _Node:
        node = self._nodes.get(key)
        if node is not None:
            return node
        if key == self._root.key:
            return self._root
        if self._table is None or key in self._stale or len(key) != len(self._root.key):
            raise _error(errno.ESTALE)
        record = self._table.get(key)
        if record is not None:
            node = _Node.recorded(key, record)
            other = self._by_ino.get(node.ino)
            if other is not None and other.fd is not None:
                raise _error(errno.ESTALE)  # its number is in use by an inode that lives
            self._insert(node)
            return node
        # We made this key, and did not come to write it down before we were killed.
        node = _Node(key, 0, None, None)
        self._insert(node)
        fd = self._search(node)
        st = os.fstat(fd)
        node.mode = st.st_mode
        node.version, node.birth_ns = _identity(fd, st)
        self._hold(node, fd)
        self._record(key, node.record())
        return node

    def _fd(self, node: _Node) -> int:
        """An O_PATH descriptor of the inode, valid until the next call. Raises ESTALE."""
        if node.fd is not None:
            if node is not self._root:
                self._held.move_to_end(node.key)
                if self._table is not None and node.key in self._nodes:
                    self._nodes.move_to_end(node.key)
            return node.fd
        try:
            self._climb(node)
        except OSError as failure:
            if failure.errno not in _NOT_THERE:
                raise
            if node.fd is None:
                self._hold(node, self._search(node))
        assert node.fd is not None
        return node.fd

    def _climb(self, node: _Node) -> None:
        """Open the inode, and the directories above it as far as need be, where they were seen last."""
        path = [node]
        above = self._recorded_parent(node)
        while above.fd is None:
            path.append(above)
            if len(path) > MAX_DEPTH:
                raise _error(errno.ESTALE)
            above = self._recorded_parent(above)
        for below in reversed(path):
            assert above.fd is not None
            self._hold(below, self._open_in(above, above.fd, below))
            above = below

    def _recorded_parent(self, node: _Node) -> _Node:
        if node.parent == node.key or node.parent in self._stale:
            raise _error(errno.ESTALE)
        parent = self._nodes.get(node.parent)
        if parent is None:
            if node.parent == self._root.key:
                return self._root
            record = None if self._table is None else self._table.get(node.parent)
            if record is None:
                raise _error(errno.ESTALE)
            parent = _Node.recorded(node.parent, record)
            self._insert(parent)
        return parent

    def _open_in(self, directory: _Node, directory_fd: int, node: _Node) -> int:
        """Open an inode under its recorded name, else under any name in the directory. Raises ENOENT, ESTALE."""
        try:
            return self._open_same(node, directory_fd, node.name)
        except OSError as failure:
            if failure.errno not in _NOT_THERE:
                raise
        for name, ino, _ in names_in(directory_fd):
            if ino == node.ino:
                fd = self._open_same(node, directory_fd, name)
                self._place(node, directory, name)
                return fd
        raise _error(errno.ESTALE)

    def _search(self, node: _Node) -> int:
        """Look for an inode in the whole export, breadth first. Raises ESTALE, and then it is stale for good.

        Only for an inode that has left its recorded directory while nothing held it: another program moved it, or the
        server was killed before it could write down where it is.
        """
        try:
            if self._table is not None:
                return self._find(node)
        except OSError as failure:
            if failure.errno not in _NOT_THERE:
                raise
        self._forget(node)
        raise _error(errno.ESTALE)

    def _find(self, node: _Node) -> int:
        waiting = deque([self._root])
        seen = 0
        while waiting:
            directory = waiting.popleft()
            try:
                if directory.fd is None:
                    self._climb(directory)
                assert directory.fd is not None
                names = list(names_in(directory.fd))
            except OSError:
                continue  # it went while we looked elsewhere, or is not ours to read
            seen += len(names)
            for name, ino, _ in names:
                if ino == node.ino:
                    assert directory.fd is not None
                    fd = self._open_same(node, directory.fd, name)
                    self._place(node, directory, name)
                    return fd
            if seen > MAX_SEARCHED:
                break
            for name, _, is_directory in names:
                if is_directory:
                    with suppress(OSError):
                        waiting.append(self._look(directory, name))
        raise _error(errno.ESTALE)

    def _open_same(self, node: _Node, directory_fd: int, name: bytes) -> int:
        """Open ``name`` if it still is that inode; raises ESTALE if not, or ENOENT."""
        if not name:
            raise _error(errno.ENOENT)
        fd = look(name, directory_fd)
        st = os.fstat(fd)
        if (st.st_dev, st.st_ino) == (self._dev, node.ino) and node.is_same(*_identity(fd, st)):
            return fd
        os.close(fd)
        raise _error(errno.ESTALE)

    def _fstat(self, node: _Node) -> os.stat_result:
        st = os.fstat(self._fd(node))
        if st.st_nlink == 0 and not node.holds:
            self._forget(node)
            raise _error(errno.ESTALE)
        return st

    def getattr(self, key: Key) -> Fattr3:
        node = self._node(key)
        st = self._fstat(node)
        mtime_ns, ctime_ns = st.st_mtime_ns, st.st_ctime_ns
        times = node.times
        if times is not None:
            if (mtime_ns, ctime_ns, st.st_size) == times[:3]:
                mtime_ns, ctime_ns = times.mtime_ns, times.ctime_ns
            else:
                node.times = None
                self._record(key, node.record())
        seen = (
            st.st_mode, st.st_nlink, st.st_uid, st.st_gid, st.st_size, st.st_blocks, st.st_atime_ns, mtime_ns, ctime_ns
        )  # fmt: skip
        remembered = self._attributes.get(key)
        if remembered is not None and remembered[0] == seen:
            return remembered[1]
        if len(self._attributes) >= MAX_ATTRIBUTES:
            self._attributes.clear()
        attributes = self._fattr(st, mtime_ns, ctime_ns)
        self._attributes[key] = seen, attributes
        return attributes

    def _fattr(self, st: os.stat_result, mtime_ns: int, ctime_ns: int) -> Fattr3:
        return Fattr3(
            _TYPES[stat_bits.S_IFMT(st.st_mode)],
            st.st_mode & 0o7777,
            st.st_nlink,
            st.st_uid,
            st.st_gid,
            st.st_size,
            st.st_blocks * 512,
            self.fsid,
            st.st_ino,
            max(0, st.st_atime_ns),
            max(0, mtime_ns),
            max(0, ctime_ns),
            (os.major(st.st_rdev), os.minor(st.st_rdev)),
        )

    def report_times(self, key: Key, mtime_ns: int, ctime_ns: int) -> None:
        node = self._node(key)
        st = self._fstat(node)
        node.times = Times(st.st_mtime_ns, st.st_ctime_ns, st.st_size, mtime_ns, ctime_ns)
        self._record(key, node.record())

    def describe(self, key: Key) -> str:
        names: list[bytes] = []
        node = self._nodes.get(key)
        while node is not None and len(names) < MAX_DEPTH:
            names.append(node.name)
            if node.parent == self._root.key:
                break
            node = self._nodes.get(node.parent)
        if not names:
            return "." if key == self._root.key else self._stale.get(key) or "(stale)"
        return b"/".join(reversed(names)).decode(errors="backslashreplace")

    def statfs(self) -> Statfs:
        s = os.fstatvfs(self._fd(self._root))
        return Statfs(
            s.f_blocks * s.f_frsize, s.f_bfree * s.f_frsize, s.f_bavail * s.f_frsize, s.f_files, s.f_ffree, s.f_favail
        )

    # --- names ----------------------------------------------------------------------------------------------------

    def _directory(self, key: Key) -> _Node:
        node = self._node(key)
        if not stat_bits.S_ISDIR(node.mode):
            raise _error(errno.ENOTDIR)
        return node

    def _check_name(self, name: bytes) -> None:
        if not name or b"/" in name or b"\0" in name or name in (b".", b".."):
            raise _error(errno.EINVAL)

    def _check_new_name(self, name: bytes) -> None:
        if name in (b".", b".."):
            raise _error(errno.EEXIST)
        self._check_name(name)

    def _look(self, parent: _Node, name: bytes) -> _Node:
        return self._adopt(look(name, self._fd(parent)), parent, name)

    def lookup(self, directory: Key, name: bytes) -> Key:
        parent = self._directory(directory)
        if name in (b".", b".."):
            self._fstat(parent)
            return directory if name == b"." else parent.parent
        self._check_name(name)
        return self._look(parent, name).key

    def create(self, directory: Key, name: bytes, mode: int, uid: int, gid: int) -> Key:
        parent = self._directory(directory)
        self._check_new_name(name)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, 0o600, dir_fd=self._fd(parent))
        try:
            # By the descriptor, not by the name: it may already be another file's.
            node = self._adopt(os.open(f"/proc/self/fd/{fd}", os.O_PATH | os.O_CLOEXEC), parent, name)
            self._own_or_undo(parent, name, node, mode, uid, gid)
        except BaseException:
            os.close(fd)
            raise
        self._names_changed(parent)
        self._keep_data(node, _DataFile(fd, writable=True))
        return node.key

    def mkdir(self, directory: Key, name: bytes, mode: int, uid: int, gid: int) -> Key:
        parent = self._directory(directory)
        self._check_new_name(name)
        since_ns = self.now_ns()
        os.mkdir(name, 0o700, dir_fd=self._fd(parent))
        return self._made(parent, name, stat_bits.S_IFDIR, since_ns, mode, uid, gid)

    def symlink(self, directory: Key, name: bytes, target: bytes, uid: int, gid: int) -> Key:
        parent = self._directory(directory)
        self._check_new_name(name)
        since_ns = self.now_ns()
        os.symlink(target, name, dir_fd=self._fd(parent))
        return self._made(parent, name, stat_bits.S_IFLNK, since_ns, None, uid, gid)

    def mknod(
        self, directory: Key, name: bytes, type: FType3, mode: int, rdev: tuple[int, int], uid: int, gid: int
    ) -> Key:
        parent = self._directory(directory)
        self._check_new_name(name)
        device = os.makedev(*rdev) if type in (FType3.BLK, FType3.CHR) else 0
        since_ns = self.now_ns()
        os.mknod(name, _FORMATS[type] | 0o600, device, dir_fd=self._fd(parent))
        return self._made(parent, name, _FORMATS[type], since_ns, mode, uid, gid)

    def _made(
        self, parent: _Node, name: bytes, format: int, since_ns: int, mode: int | None, uid: int, gid: int
    ) -> Key:
        """What we have just made. Raises ESTALE when it is not what stands under the name any more.

        Only a new inode of our own is given to the caller: or else whoever renames quickly enough would be given any
        file of somebody else's.
        """
        self._names_changed(parent)
        node = self._look(parent, name)
        st = self._fstat(node)
        new = st.st_uid == self._euid if node.birth_ns is None else node.birth_ns >= since_ns
        if not new or stat_bits.S_IFMT(st.st_mode) != format:
            raise _error(errno.ESTALE)
        self._own_or_undo(parent, name, node, mode, uid, gid)
        return node.key

    def _own_or_undo(self, parent: _Node, name: bytes, node: _Node, mode: int | None, uid: int, gid: int) -> None:
        """What cannot be given to its owner (EDQUOT) was never there."""
        try:
            self._own(node, mode, uid, gid)
        except OSError:
            with suppress(OSError):
                if self._look(parent, name) is node:
                    (self.rmdir if stat_bits.S_ISDIR(node.mode) else self.unlink)(parent.key, name)
            raise

    def _own(self, node: _Node, mode: int | None, uid: int, gid: int) -> None:
        """Owner, group and mode of a new inode, whatever the server's umask; a setgid directory keeps its group.

        Without privileges everything stays the server's own user's.
        """
        inherited = os.fstat(self._fd(self._node(node.parent))).st_mode & stat_bits.S_ISGID
        st = self._fstat(node)
        path = f"/proc/self/fd/{self._fd(node)}"
        if inherited:
            gid = st.st_gid
        if self._privileged and (uid, gid) != (st.st_uid, st.st_gid):
            with without_overdraft():
                os.chown(path, uid, gid)
        if mode is not None:
            Path(path).chmod(mode | (inherited if stat_bits.S_ISDIR(st.st_mode) else 0))

    def link(self, key: Key, directory: Key, name: bytes) -> None:
        node, parent = self._node(key), self._directory(directory)
        self._check_new_name(name)
        self._fstat(node)
        if stat_bits.S_ISDIR(node.mode):
            raise _error(errno.EPERM)
        with self._pinned(parent) as parent_fd:
            os.link(f"/proc/self/fd/{self._fd(node)}", name, dst_dir_fd=parent_fd, follow_symlinks=True)
        self._names_changed(parent)

    def unlink(self, directory: Key, name: bytes) -> None:
        parent = self._directory(directory)
        self._check_name(name)
        victim = self._look(parent, name)
        if stat_bits.S_ISDIR(victim.mode):
            raise _error(errno.EISDIR)
        os.unlink(name, dir_fd=self._fd(parent))
        self._names_changed(parent)
        with suppress(OSError):
            self._fstat(victim)

    def rmdir(self, directory: Key, name: bytes) -> None:
        parent = self._directory(directory)
        self._check_name(name)
        victim = self._look(parent, name)
        os.rmdir(name, dir_fd=self._fd(parent))
        self._names_changed(parent)
        self._forget(victim)

    def rename(self, from_directory: Key, from_name: bytes, to_directory: Key, to_name: bytes) -> None:
        old_parent, new_parent = self._directory(from_directory), self._directory(to_directory)
        self._check_name(from_name)
        self._check_name(to_name)
        moved = self._look(old_parent, from_name)
        victim = None
        with suppress(FileNotFoundError):
            victim = self._look(new_parent, to_name)
        with self._pinned(old_parent) as old_fd:
            os.rename(from_name, to_name, src_dir_fd=old_fd, dst_dir_fd=self._fd(new_parent))
        self._names_changed(old_parent)
        self._names_changed(new_parent)
        if victim is moved:
            return
        self._place(moved, new_parent, to_name)
        if victim is not None:
            if stat_bits.S_ISDIR(victim.mode):
                self._forget(victim)
            else:
                with suppress(OSError):
                    self._fstat(victim)

    def hold(self, key: Key) -> None:
        node = self._node(key)
        self._fstat(node)
        node.pins += 1  # the descriptor is all that leads to it once its name is gone
        node.holds += 1

    def release(self, key: Key) -> None:
        node = self._nodes.get(key)
        if node is None:
            return  # the whole directory was made anew meanwhile
        node.pins -= 1
        node.holds -= 1
        assert node.holds >= 0
        with suppress(OSError):
            self._fstat(node)

    def readlink(self, key: Key) -> bytes:
        node = self._node(key)
        if not stat_bits.S_ISLNK(node.mode):
            raise _error(errno.EINVAL)
        self._fstat(node)
        return os.readlink(b"", dir_fd=self._fd(node))

    def _names_changed(self, parent: _Node) -> None:
        self._listings.changed(parent.key)

    async def _listing(self, node: _Node, *, begins: bool) -> Listing:
        st = self._fstat(node)
        times = (st.st_mtime_ns, st.st_ctime_ns)
        listing = self._listings.find(node.key, times, begins=begins)
        if listing is None:
            with self._pinned(node) as fd:
                listing = await self._listings.read(node.key, fd, times, self.now_ns())
        return listing

    async def readdir(self, directory: Key, cookie: int, limit: int) -> tuple[Sequence[StoredEntry], bool]:
        node = self._directory(directory)
        listing = await self._listing(node, begins=cookie < COOKIE_FIRST)
        found: list[StoredEntry] = []
        if cookie < COOKIE_DOT:
            found.append(StoredEntry(b".", node.ino, COOKIE_DOT, directory))
        if cookie < COOKIE_DOTDOT:
            found.append(StoredEntry(b"..", int.from_bytes(node.parent[:INO_SIZE], "big"), COOKIE_DOTDOT, node.parent))
        start = bisect_right(listing.cookies, cookie)
        stop = min(len(listing), start + max(0, limit - len(found)))
        entries = zip(listing.names[start:stop], listing.inos[start:stop], listing.cookies[start:stop], strict=True)
        found += [StoredEntry(*entry) for entry in entries]
        return found[:limit], stop == len(listing) and len(found) <= limit

    # --- attributes -----------------------------------------------------------------------------------------------

    def setattr(
        self,
        key: Key,
        *,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        atime_ns: int | None = None,
        mtime_ns: int | None = None,
    ) -> None:
        node = self._node(key)
        st = self._fstat(node)
        path = f"/proc/self/fd/{self._fd(node)}"
        if uid is not None or gid is not None:
            os.chown(path, -1 if uid is None else uid, -1 if gid is None else gid)
        if mode is not None:
            if stat_bits.S_ISLNK(st.st_mode):
                raise _error(errno.EOPNOTSUPP)
            Path(path).chmod(mode & 0o7777)
        if atime_ns is not None or mtime_ns is not None:
            atime_ns = st.st_atime_ns if atime_ns is None else atime_ns
            os.utime(path, ns=(atime_ns, st.st_mtime_ns if mtime_ns is None else mtime_ns))

    # --- data -----------------------------------------------------------------------------------------------------

    def _keep_data(self, node: _Node, file: _DataFile) -> None:
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
                raise _error(errno.EISDIR)
            if not stat_bits.S_ISREG(node.mode):
                raise _error(errno.EINVAL)
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

    def _open_data(self, path: str, *, write: bool) -> _DataFile:
        # O_NONBLOCK: whoever holds a lease on the file has 45 s to give it up, and everybody would wait with us. EAGAIN
        # becomes JUKEBOX: the client asks again.
        flags = os.O_NONBLOCK | os.O_CLOEXEC
        try:
            return _DataFile(os.open(path, os.O_RDWR | flags), writable=True)
        except BlockingIOError:
            raise
        except OSError:
            if write:
                return _DataFile(os.open(path, os.O_WRONLY | flags), writable=True)
            return _DataFile(os.open(path, os.O_RDONLY | flags), writable=False)

    async def _run(self, function: Callable[..., T], *args: Any) -> T:
        if self._table is not None:
            self._table.take()
        if not self._offload:
            return function(*args)
        wrapped: Callable[..., Awaitable[T]] = aiofiles.os.wrap(function)
        return await wrapped(*args)

    def reserve(self, key: Key, offset: int, count: int, unwritten: int = 0, uid: int = 0) -> None:
        with self._data_fd(key, write=True) as fd, spending_for(uid if self._privileged else 0):
            fallocate = getattr(_libc, "fallocate64", None) or _libc.fallocate
            code = fallocate(fd, FALLOC_FL_KEEP_SIZE, ctypes.c_int64(offset), ctypes.c_int64(count))
            failure = ctypes.get_errno() if code else 0
        if failure in (errno.EOPNOTSUPP, errno.ENOSYS):
            self.reserves = False
            if self.statfs().available_bytes < count + unwritten:
                raise _error(errno.ENOSPC)
        elif failure:
            raise _error(failure)

    async def read(self, key: Key, offset: int, count: int) -> Data:
        with self._data_fd(key, write=False) as fd:
            return await self._run(_pread_all, fd, count, offset)

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


def _identity(fd: int, st: os.stat_result) -> tuple[int | None, int | None]:
    return _version(f"/proc/self/fd/{fd}", st.st_mode), _birth_time_ns(fd)


def _key(ino: int, version: int | None, birth_ns: int | None) -> Key:
    return ino.to_bytes(INO_SIZE, "big") + _generation(version, birth_ns)


def _limit(fd: int, name: str, fallback: int) -> int:
    try:
        return os.fpathconf(fd, name)
    except (OSError, ValueError):
        return fallback
