"""An export on a real directory: the `Storage` of a server with files that other programs may use too.

`nodes` finds inodes by their keys, `filedata` has their data, `listing` the order of names; here are names and
attributes.

**Confinement.** Every access starts at a descriptor of the export's root and takes one name at a time (`nodes`); ``..``
is answered from what was recorded on the way down, never asked of the kernel; symbolic links are read, never followed.
What we make by name, because the kernel gives no descriptor of it, is looked at before it is given away: somebody may
have put something else there.

**Times.** ctime cannot be set, so the server's own late write-back would show. The storage remembers what is to be
reported instead (`report_times`) until the inode changes again.

**Blocking.** Names and attributes are single system calls on data the kernel has at hand, and are made directly.
"""

from __future__ import annotations

import errno
import os
import stat as stat_bits
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from freepage_proto.nfs3 import Fattr3, FType3
from freepage_server.io.filedata import DataFile, FileData
from freepage_server.io.listing import COOKIE_DOT, COOKIE_DOTDOT, COOKIE_FIRST, Listing, Listings, names_in
from freepage_server.io.node import Node, error
from freepage_server.io.privilege import without_overdraft
from freepage_server.io.state import INO_SIZE, InodeTable, Times
from freepage_server.nfsd.storage import Key, StoredEntry

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

MAX_ATTRIBUTES = 1024
"""How many files' attributes are not made anew while fstat says the same."""

CLOCK_REALTIME_COARSE = 5
"""The clock that stamps inodes (Linux: ktime_get_coarse_real_ts64)."""


@dataclass(frozen=True, slots=True)
class _Attributes:
    """What fstat said of an inode, and what that is in the protocol's words."""

    node: Node
    st: os.stat_result
    attributes: Fattr3


class DirectoryStorage(FileData):
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
        self._listings = Listings(self._run)
        super().__init__(path, offload=offload, table=table)
        self.fsid = 0
        self.granule_ns = max(1, int(time.clock_getres(CLOCK_REALTIME_COARSE) * 1_000_000_000))
        self.shared = True
        self._attributes: dict[Key, _Attributes] = {}
        """of files looked at lately"""
        fd = self._fd(self._root)
        self.name_max = _limit(fd, "PC_NAME_MAX", 255)
        self.link_max = _limit(fd, "PC_LINK_MAX", 32000)
        self.max_file_size = (1 << 63) - 1
        self._euid = os.geteuid()

    def close(self) -> None:
        """Close every descriptor, and the table when it is written. No operation may follow."""
        self._listings.clear()
        super().close()

    def _forget(self, node: Node) -> None:
        self._listings.forget(node.key)
        super()._forget(node)

    def check_readable(self) -> None:
        """Raises OSError when the exported directory cannot be listed, or is no longer there."""
        with self._pinned(self._root) as fd:
            if os.fstat(fd).st_nlink == 0:
                raise error(errno.ESTALE)
            next(names_in(fd), None)

    def now_ns(self) -> int:
        return time.clock_gettime_ns(CLOCK_REALTIME_COARSE)

    # --- names ----------------------------------------------------------------------------------------------------

    def _check_name(self, name: bytes) -> None:
        if not name or b"/" in name or b"\0" in name or name in (b".", b".."):
            raise error(errno.EINVAL)

    def _check_new_name(self, name: bytes) -> None:
        if name in (b".", b".."):
            raise error(errno.EEXIST)
        self._check_name(name)

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
        self._keep_data(node, DataFile(fd, writable=True))
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

    def _made(self, parent: Node, name: bytes, format: int, since_ns: int, mode: int | None, uid: int, gid: int) -> Key:
        """What we have just made. Raises ESTALE when it is not what stands under the name any more.

        Only a new inode of our own is given to the caller: or else whoever renames quickly enough would be given any
        file of somebody else's.
        """
        self._names_changed(parent)
        node = self._look(parent, name)
        st = self._fstat(node)
        new = st.st_uid == self._euid if node.birth_ns is None else node.birth_ns >= since_ns
        if not new or stat_bits.S_IFMT(st.st_mode) != format:
            raise error(errno.ESTALE)
        self._own_or_undo(parent, name, node, mode, uid, gid)
        return node.key

    def _own_or_undo(self, parent: Node, name: bytes, node: Node, mode: int | None, uid: int, gid: int) -> None:
        """What cannot be given to its owner (EDQUOT) was never there."""
        try:
            self._own(node, mode, uid, gid)
        except OSError:
            with suppress(OSError):
                if self._look(parent, name) is node:
                    (self.rmdir if stat_bits.S_ISDIR(node.mode) else self.unlink)(parent.key, name)
            raise

    def _own(self, node: Node, mode: int | None, uid: int, gid: int) -> None:
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
            raise error(errno.EPERM)
        with self._pinned(parent) as parent_fd:
            os.link(f"/proc/self/fd/{self._fd(node)}", name, dst_dir_fd=parent_fd, follow_symlinks=True)
        self._names_changed(parent)

    def unlink(self, directory: Key, name: bytes) -> None:
        parent = self._directory(directory)
        self._check_name(name)
        victim = self._look(parent, name)
        if stat_bits.S_ISDIR(victim.mode):
            raise error(errno.EISDIR)
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
            raise error(errno.EINVAL)
        self._fstat(node)
        return os.readlink(b"", dir_fd=self._fd(node))

    def _names_changed(self, parent: Node) -> None:
        self._listings.changed(parent.key)

    async def _listing(self, node: Node, *, begins: bool) -> Listing:
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

    def getattr(self, key: Key) -> Fattr3:
        known = self._attributes.get(key)
        if known is not None and known.node.fd is not None:
            st, last = os.fstat(known.node.fd), known.st
            if (
                st == last
                and st.st_ctime_ns == last.st_ctime_ns
                and st.st_mtime_ns == last.st_mtime_ns
                and st.st_atime_ns == last.st_atime_ns
                and st.st_blocks == last.st_blocks
            ):
                if known.node is not self._root:
                    self._held.move_to_end(key)  # as _fd has it
                return known.attributes
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
        attributes = self._fattr(st, mtime_ns, ctime_ns)
        if len(self._attributes) >= MAX_ATTRIBUTES:
            self._attributes.clear()
        self._attributes[key] = _Attributes(node, st, attributes)
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
        self._attributes.pop(key, None)
        self._record(key, node.record())

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
                raise error(errno.EOPNOTSUPP)
            Path(path).chmod(mode & 0o7777)
        if atime_ns is not None or mtime_ns is not None:
            atime_ns = st.st_atime_ns if atime_ns is None else atime_ns
            os.utime(path, ns=(atime_ns, st.st_mtime_ns if mtime_ns is None else mtime_ns))


def _limit(fd: int, name: str, fallback: int) -> int:
    try:
        return os.fpathconf(fd, name)
    except (OSError, ValueError):
        return fallback
