"""A file system in memory that counts, stamps and refuses as ext4 does.

Directories count ``2 + subdirectories`` links, timestamps are the wall clock floored to a granule (4 ms: one tick of
a 250 Hz kernel, as in the recordings), and a sparse file costs what was written to it: data are a dict of 4 KiB
blocks. Inode numbers are used again, the lowest free one first, as ext4 does; a key is a number of its own that never
is.
"""

from __future__ import annotations

import errno
import heapq
import os
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from itertools import accumulate

from freepage_proto.names import readable
from freepage_proto.nfs3 import Data, Fattr3, FType3
from freepage_server.nfsd.storage import Key, Statfs, StoredEntry

BLOCK_SIZE = 4096
ROOT_INO = 2
"""EXT4_ROOT_INO."""
FIRST_INO = 12
"""The first inode that a fresh ext4 gives out (11 is lost+found)."""
LINK_MAX = 65000
"""EXT4_LINK_MAX."""
MAX_FILE_SIZE = (1 << 44) - BLOCK_SIZE
"""ext4's largest file with 4 KiB blocks."""
FAST_SYMLINK_MAX = 60
"""A target shorter than this lives in the inode and uses no block (ext4)."""
COOKIE_DOT, COOKIE_DOTDOT, COOKIE_FIRST = 1, 2, 3

S_ISGID = 0o2000

_ZERO = bytes(BLOCK_SIZE)


def _error(number: int, name: bytes | None = None) -> OSError:
    return OSError(number, os.strerror(number), name)


class _Entry:
    """A name's inode and its cookie; a name keeps its cookie when another inode takes it over."""

    __slots__ = ("cookie", "node")

    def __init__(self, node: _Node, cookie: int) -> None:
        self.node = node
        self.cookie = cookie


class _Node:
    """An inode. ``parent`` and ``entries`` are a directory's, ``blocks`` a file's, ``target`` a symbolic link's.

    ``name`` is the last name under which the inode was linked or found, for `MemoryStorage.describe`.
    """

    __slots__ = (
        "atime_ns",
        "blocks",
        "ctime_ns",
        "entries",
        "gid",
        "holds",
        "ino",
        "listing",
        "mode",
        "mtime_ns",
        "name",
        "next_cookie",
        "nlink",
        "parent",
        "rdev",
        "reserved",
        "serial",
        "size",
        "target",
        "type",
        "uid",
    )

    def __init__(self, serial: int, ino: int, type: FType3, mode: int, uid: int, gid: int, now_ns: int) -> None:
        self.serial = serial
        self.ino = ino
        self.type = type
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.nlink = 2 if type is FType3.DIR else 1
        self.size = BLOCK_SIZE if type is FType3.DIR else 0
        self.atime_ns = self.mtime_ns = self.ctime_ns = now_ns
        self.rdev = (0, 0)
        self.holds = 0
        self.blocks: dict[int, bytes] = {}
        self.reserved: set[int] = set()
        self.target = b""
        self.entries: dict[bytes, _Entry] = {}
        self.next_cookie = COOKIE_FIRST
        self.listing: tuple[list[int], list[bytes]] | None = None
        self.parent: _Node = self
        self.name = b""


MAX_LAST_NAMES = 4096


class MemoryStorage:
    """See the module. ``wall_ns`` is nanoseconds since the epoch; ``capacity_bytes`` is where ENOSPC begins.

    ``position`` orders the names of a directory; without it they are listed in the order in which they were made. For
    ``rest_ns`` the number of a file that had data is given to no other: knfsd closes what it has read or written with a
    delay (its file cache, delayed_fput), and only then ext4 frees the inode.
    """

    def __init__(
        self,
        wall_ns: Callable[[], int],
        granule_ns: int = 4_000_000,
        *,
        capacity_bytes: int = 1 << 40,
        position: Callable[[bytes], int] | None = None,
        rest_ns: int = 0,
        root_mode: int = 0o755,
        root_uid: int = 0,
        root_gid: int = 0,
    ) -> None:
        self.fsid = 0
        self.granule_ns = granule_ns
        self.shared = False
        self.reserves = True
        self.name_max = 255
        self.link_max = LINK_MAX
        self.max_file_size = MAX_FILE_SIZE
        self.capacity_bytes = capacity_bytes
        self._wall_ns = wall_ns
        self._position = position
        self._rest_ns = rest_ns
        self._next_serial = self._next_ino = FIRST_INO
        self._free_inos: list[int] = []
        """A heap: of the numbers that were given out and came back, the lowest is given out next."""
        self._resting_inos: deque[tuple[int, int]] = deque()
        """Numbers that come back later: (when, number)."""
        self._used_blocks = 0
        """Blocks with data plus blocks reserved: what statfs counts as taken."""
        self._root = _Node(ROOT_INO, ROOT_INO, FType3.DIR, root_mode, root_uid, root_gid, self.now_ns())
        self._root.parent = self._root
        self._nodes: dict[int, _Node] = {ROOT_INO: self._root}
        self._last_names: dict[Key, str] = {}
        """Of inodes that are gone: audits tell whose pages they had."""

    # --- what it is -----------------------------------------------------------------------------------------------

    def now_ns(self) -> int:
        now = self._wall_ns()
        return now - now % self.granule_ns

    def root(self) -> Key:
        return _key(self._root)

    def getattr(self, key: Key) -> Fattr3:
        node = self._node(key)
        if node.type is FType3.REG:
            used = len(node.blocks) * BLOCK_SIZE
        elif node.type is FType3.DIR or (node.type is FType3.LNK and node.size >= FAST_SYMLINK_MAX):
            used = BLOCK_SIZE
        else:
            used = 0
        return Fattr3(
            node.type,
            node.mode,
            node.nlink,
            node.uid,
            node.gid,
            node.size,
            used,
            self.fsid,
            node.ino,
            node.atime_ns,
            node.mtime_ns,
            node.ctime_ns,
            node.rdev,
        )

    def describe(self, key: Key) -> str:
        node = self._nodes.get(int.from_bytes(key, "big"))
        if node is None:
            return self._last_names.get(key, f"inode {int.from_bytes(key, 'big')}")
        names: list[bytes] = []
        while node is not self._root:
            names.append(node.name)
            node = node.parent
        return readable(b"/".join(reversed(names))) or "."

    def statfs(self) -> Statfs:
        free = max(0, self.capacity_bytes - self._used_blocks * BLOCK_SIZE)
        files = self.capacity_bytes // (4 * BLOCK_SIZE)
        free_files = max(0, files - len(self._nodes))
        return Statfs(self.capacity_bytes, free, free, files, free_files, free_files)

    # --- names ----------------------------------------------------------------------------------------------------

    def lookup(self, directory: Key, name: bytes) -> Key:
        parent = self._directory(directory)
        if name == b".":
            return directory
        if name == b"..":
            return _key(parent.parent)
        return _key(self._child(parent, name).node)

    def create(self, directory: Key, name: bytes, mode: int, uid: int, gid: int) -> Key:
        return _key(self._new(directory, name, FType3.REG, mode, uid, gid))

    def mkdir(self, directory: Key, name: bytes, mode: int, uid: int, gid: int) -> Key:
        parent = self._directory(directory)
        if parent.nlink >= self.link_max:
            raise _error(errno.EMLINK, name)
        return _key(self._new(directory, name, FType3.DIR, mode, uid, gid))

    def symlink(self, directory: Key, name: bytes, target: bytes, uid: int, gid: int) -> Key:
        if not target:
            raise _error(errno.ENOENT, name)
        if len(target) >= BLOCK_SIZE:
            raise _error(errno.ENAMETOOLONG, name)
        node = self._new(directory, name, FType3.LNK, 0o777, uid, gid)
        node.target = target
        node.size = len(target)
        return _key(node)

    def mknod(
        self, directory: Key, name: bytes, type: FType3, mode: int, rdev: tuple[int, int], uid: int, gid: int
    ) -> Key:
        node = self._new(directory, name, type, mode, uid, gid)
        node.rdev = rdev if type in (FType3.BLK, FType3.CHR) else (0, 0)
        return _key(node)

    def link(self, key: Key, directory: Key, name: bytes) -> None:
        node = self._node(key)
        parent = self._directory(directory)
        self._check_new_name(parent, name)
        if node.type is FType3.DIR:
            raise _error(errno.EPERM, name)
        if node.nlink >= self.link_max:
            raise _error(errno.EMLINK, name)
        if node.nlink == 0:
            raise _error(errno.ENOENT, name)  # vfs_link: what has no name any more gets none again
        now = self.now_ns()
        node.nlink += 1
        node.ctime_ns = now
        self._enter(parent, name, node, now)

    def unlink(self, directory: Key, name: bytes) -> None:
        parent = self._directory(directory)
        node = self._child(parent, name).node
        if node.type is FType3.DIR:
            raise _error(errno.EISDIR, name)
        now = self.now_ns()
        self._leave(parent, name, now)
        self._drop_link(node, now)

    def rmdir(self, directory: Key, name: bytes) -> None:
        parent = self._directory(directory)
        node = self._child(parent, name).node
        if node.type is not FType3.DIR:
            raise _error(errno.ENOTDIR, name)
        if node.entries:
            raise _error(errno.ENOTEMPTY, name)
        now = self.now_ns()
        self._leave(parent, name, now)
        self._remove_directory(node, parent)

    def rename(self, from_directory: Key, from_name: bytes, to_directory: Key, to_name: bytes) -> None:
        old_parent = self._directory(from_directory)
        new_parent = self._directory(to_directory)
        node = self._child(old_parent, from_name).node
        if node.type is FType3.DIR and self._is_below(new_parent, node):
            raise _error(errno.EINVAL, to_name)
        self._check_name(to_name)
        victim_entry = new_parent.entries.get(to_name)
        victim = victim_entry.node if victim_entry is not None else None
        if victim is node:
            return  # two links of one inode: POSIX says do nothing, and ext4 does
        if victim is not None:
            if node.type is FType3.DIR and victim.type is not FType3.DIR:
                raise _error(errno.ENOTDIR, to_name)
            if node.type is not FType3.DIR and victim.type is FType3.DIR:
                # Linux's lock_rename finds an ancestor first (ENOTEMPTY), then vfs_rename the type (EISDIR).
                raise _error(errno.ENOTEMPTY if self._is_below(old_parent, victim) else errno.EISDIR, to_name)
            if victim.type is FType3.DIR and victim.entries:
                raise _error(errno.ENOTEMPTY, to_name)
        elif node.type is FType3.DIR and new_parent is not old_parent and new_parent.nlink >= self.link_max:
            raise _error(errno.EMLINK, to_name)
        now = self.now_ns()
        self._leave(old_parent, from_name, now)
        if victim_entry is not None and victim is not None:
            victim_entry.node = node
            new_parent.mtime_ns = new_parent.ctime_ns = now
            if victim.type is FType3.DIR:
                self._remove_directory(victim, new_parent)
            else:
                self._drop_link(victim, now)
            node.name, node.parent = to_name, new_parent
        else:
            self._enter(new_parent, to_name, node, now)
        if node.type is FType3.DIR and new_parent is not old_parent:
            old_parent.nlink -= 1
            new_parent.nlink += 1
        node.ctime_ns = now

    def hold(self, key: Key) -> None:
        self._node(key).holds += 1

    def release(self, key: Key) -> None:
        node = self._node(key)
        node.holds -= 1
        assert node.holds >= 0
        self._end_if_unused(node)

    def readlink(self, key: Key) -> bytes:
        node = self._node(key)
        if node.type is not FType3.LNK:
            raise _error(errno.EINVAL)
        return node.target

    async def readdir(self, directory: Key, cookie: int, limit: int) -> tuple[Sequence[StoredEntry], bool]:
        parent = self._directory(directory)
        listing = parent.listing
        if listing is None:
            pairs = sorted((entry.cookie, name) for name, entry in parent.entries.items())
            listing = parent.listing = ([c for c, _ in pairs], [name for _, name in pairs])  # from now on kept up
        found: list[StoredEntry] = []
        if cookie < COOKIE_DOT:
            found.append(StoredEntry(b".", parent.ino, COOKIE_DOT, directory))
        if cookie < COOKIE_DOTDOT:
            found.append(StoredEntry(b"..", parent.parent.ino, COOKIE_DOTDOT, _key(parent.parent)))
        cookies, names = listing
        start = bisect_right(cookies, cookie)
        stop = min(len(names), start + max(0, limit - len(found)))
        for name in names[start:stop]:
            entry = parent.entries[name]
            found.append(StoredEntry(name, entry.node.ino, entry.cookie, _key(entry.node)))
        return found[:limit], stop == len(names) and len(found) <= limit

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
        if mode is not None:
            if node.type is FType3.LNK:
                raise _error(errno.EOPNOTSUPP)
            node.mode = mode & 0o7777
        if uid is not None:
            node.uid = uid
        if gid is not None:
            node.gid = gid
        if atime_ns is not None:
            node.atime_ns = atime_ns
        if mtime_ns is not None:
            node.mtime_ns = mtime_ns
        node.ctime_ns = self.now_ns()

    def report_times(self, key: Key, mtime_ns: int, ctime_ns: int) -> None:
        node = self._node(key)
        node.mtime_ns, node.ctime_ns = mtime_ns, ctime_ns

    # --- data -----------------------------------------------------------------------------------------------------

    def reserve(self, key: Key, offset: int, count: int, unwritten: int = 0, uid: int = 0) -> None:
        node = self._file(key)
        self._check_size(offset + count)
        if count:
            missing = [
                block
                for block in range(offset // BLOCK_SIZE, (offset + count - 1) // BLOCK_SIZE + 1)
                if block not in node.blocks and block not in node.reserved
            ]
            self._charge(len(missing))
            node.reserved.update(missing)

    async def readv(self, key: Key, offset: int, counts: Sequence[int]) -> list[Data]:
        node = self._file(key)
        starts = accumulate(counts[:-1], initial=offset)
        return [self._read(node, start, count) for start, count in zip(starts, counts, strict=True)]

    def _read(self, node: _Node, offset: int, count: int) -> Data:
        end = min(offset + count, node.size)
        if offset >= end:
            return b""
        first, last = offset // BLOCK_SIZE, (end - 1) // BLOCK_SIZE
        blocks = node.blocks
        data = b"".join([blocks.get(index, _ZERO) for index in range(first, last + 1)])
        skip = offset - first * BLOCK_SIZE
        if skip == 0 and len(data) == end - offset:
            return data
        return memoryview(data)[skip : skip + end - offset]

    async def write(self, key: Key, offset: int, data: Data, times: tuple[int, int] | None = None) -> None:
        node = self._file(key)
        view = memoryview(data).cast("B")
        self._check_size(offset + len(view))
        if not len(view):
            return
        first, last = offset // BLOCK_SIZE, (offset + len(view) - 1) // BLOCK_SIZE
        fresh = [index for index in range(first, last + 1) if index not in node.blocks]
        self._charge(sum(1 for index in fresh if index not in node.reserved))
        node.reserved.difference_update(range(first, last + 1))
        position = 0
        for index in range(first, last + 1):
            begin = offset + position - index * BLOCK_SIZE
            length = min(BLOCK_SIZE - begin, len(view) - position)
            piece = view[position : position + length]
            if length == BLOCK_SIZE:
                node.blocks[index] = bytes(piece)
            else:
                block = bytearray(node.blocks.get(index, _ZERO))
                block[begin : begin + length] = piece
                node.blocks[index] = bytes(block)
            position += length
        node.size = max(node.size, offset + len(view))
        node.mtime_ns, node.ctime_ns = times or (self.now_ns(),) * 2

    async def truncate(self, key: Key, size: int) -> None:
        node = self._file(key)
        self._check_size(size)
        if size < node.size:
            keep = (size + BLOCK_SIZE - 1) // BLOCK_SIZE
            self._free([index for index in node.blocks if index >= keep], node)
            tail = size % BLOCK_SIZE
            if tail and keep - 1 in node.blocks:
                node.blocks[keep - 1] = node.blocks[keep - 1][:tail] + bytes(BLOCK_SIZE - tail)
        self._used_blocks -= len(node.reserved)
        node.reserved.clear()
        node.size = size
        node.mtime_ns = node.ctime_ns = self.now_ns()

    async def fsync(self, key: Key) -> None:
        self._node(key)

    async def sync_metadata(self, *keys: Key) -> None:
        pass

    # --- inside ---------------------------------------------------------------------------------------------------

    def _node(self, key: Key) -> _Node:
        node = self._nodes.get(int.from_bytes(key, "big"))
        if node is None:
            raise _error(errno.ESTALE)
        return node

    def _directory(self, key: Key) -> _Node:
        node = self._node(key)
        if node.type is not FType3.DIR:
            raise _error(errno.ENOTDIR)
        return node

    def _file(self, key: Key) -> _Node:
        node = self._node(key)
        if node.type is FType3.DIR:
            raise _error(errno.EISDIR)
        if node.type is not FType3.REG:
            raise _error(errno.EINVAL)
        return node

    def _check_name(self, name: bytes) -> None:
        if len(name) > self.name_max:
            raise _error(errno.ENAMETOOLONG, name)
        if not name or b"/" in name or b"\0" in name:
            raise _error(errno.EINVAL, name)

    def _check_new_name(self, parent: _Node, name: bytes) -> None:
        self._check_name(name)
        if name in (b".", b"..") or name in parent.entries:
            raise _error(errno.EEXIST, name)

    def _check_size(self, size: int) -> None:
        if size > self.max_file_size:
            raise _error(errno.EFBIG)

    def _child(self, parent: _Node, name: bytes) -> _Entry:
        self._check_name(name)
        entry = parent.entries.get(name)
        if entry is None:
            raise _error(errno.ENOENT, name)
        return entry

    def _new(self, directory: Key, name: bytes, type: FType3, mode: int, uid: int, gid: int) -> _Node:
        parent = self._directory(directory)
        self._check_new_name(parent, name)
        if parent is not self._root and parent.nlink == 0:
            raise _error(errno.ENOENT, name)
        mode &= 0o7777
        if parent.mode & S_ISGID:
            gid = parent.gid
            if type is FType3.DIR:
                mode |= S_ISGID
        now = self.now_ns()
        while self._resting_inos and self._resting_inos[0][0] <= self._wall_ns():
            heapq.heappush(self._free_inos, self._resting_inos.popleft()[1])
        if self._free_inos:
            ino = heapq.heappop(self._free_inos)
        else:
            ino = self._next_ino
            self._next_ino += 1
        node = _Node(self._next_serial, ino, type, mode, uid, gid, now)
        self._next_serial += 1
        self._nodes[node.serial] = node
        self._enter(parent, name, node, now)
        if type is FType3.DIR:
            parent.nlink += 1
        return node

    def _enter(self, parent: _Node, name: bytes, node: _Node, now_ns: int) -> None:
        cookie = parent.next_cookie if self._position is None else COOKIE_FIRST + self._position(name)
        parent.entries[name] = _Entry(node, cookie)
        if parent.listing is not None:
            cookies, names = parent.listing
            place = bisect_right(cookies, cookie)
            cookies.insert(place, cookie)
            names.insert(place, name)
        parent.next_cookie += 1
        parent.mtime_ns = parent.ctime_ns = now_ns
        node.parent, node.name = parent, name

    def _leave(self, parent: _Node, name: bytes, now_ns: int) -> None:
        entry = parent.entries.pop(name)
        if parent.listing is not None:
            cookies, names = parent.listing
            place = names.index(name, bisect_left(cookies, entry.cookie))
            del cookies[place], names[place]
        parent.mtime_ns = parent.ctime_ns = now_ns

    def _drop_link(self, node: _Node, now_ns: int) -> None:
        node.nlink -= 1
        node.ctime_ns = now_ns
        self._end_if_unused(node)

    def _end_if_unused(self, node: _Node) -> None:
        if node.nlink == 0 and not node.holds:
            self._free(list(node.blocks), node)
            self._used_blocks -= len(node.reserved)
            self._forget(node)

    def _remove_directory(self, node: _Node, parent: _Node) -> None:
        node.nlink = 0
        parent.nlink -= 1
        self._forget(node)

    def _forget(self, node: _Node) -> None:
        self._last_names[_key(node)] = self.describe(_key(node))
        if len(self._last_names) > MAX_LAST_NAMES:
            del self._last_names[next(iter(self._last_names))]
        del self._nodes[node.serial]
        if self._rest_ns and node.size and node.type is FType3.REG:
            self._resting_inos.append((self._wall_ns() + self._rest_ns, node.ino))
        else:
            heapq.heappush(self._free_inos, node.ino)

    def _is_below(self, node: _Node, ancestor: _Node) -> bool:
        while node is not ancestor:
            if node is self._root:
                return False
            node = node.parent
        return True

    def _charge(self, blocks: int) -> None:
        if (self._used_blocks + blocks) * BLOCK_SIZE > self.capacity_bytes:
            raise _error(errno.ENOSPC)
        self._used_blocks += blocks

    def _free(self, indices: list[int], node: _Node) -> None:
        for index in indices:
            del node.blocks[index]
        self._used_blocks -= len(indices)


def _key(node: _Node) -> Key:
    return node.serial.to_bytes(8, "big")
