"""What a file system behind an export offers: inodes by key, names in directories, bytes in files.

A *key* is the storage's own opaque name of an inode, at most `MAX_KEY_SIZE` bytes, and never given to another inode:
the file handle that goes on the wire is made of it. Every error is an `OSError` with the errno that Linux's ext4
would give; a key whose inode is gone raises ESTALE.

Colour is a contract (DESIGN.md D3): metadata operations are plain `def` and run to their end, so nothing changes
under them; only what moves file data or waits for a disk is `async`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from freepage_proto.nfs3 import Data, Fattr3, FType3

Key: TypeAlias = bytes

MAX_KEY_SIZE = 40


@dataclass(frozen=True, slots=True)
class Statfs:
    """Sizes in bytes, files in inodes; `available` is what a caller without privileges may still use."""

    total_bytes: int
    free_bytes: int
    available_bytes: int
    total_files: int
    free_files: int
    available_files: int


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """One name of a directory. ``cookie`` names the place *after* this entry, and stays valid while others change.

    ``key`` is None when the storage lists names without having looked at their inodes yet: `Storage.lookup` finds it.
    """

    name: bytes
    fileid: int
    cookie: int
    key: Key | None = None


class Storage(Protocol):
    """An inode-level file system.

    ``fsid`` is what `Fattr3.fsid` carries; the export sets it. ``granule_ns`` is the step of its timestamps.
    ``shared``: other programs may change it behind the server's back. ``reserves``: what `reserve` promises is set
    aside; otherwise it has only looked at what is free.
    """

    fsid: int
    granule_ns: int
    shared: bool
    reserves: bool
    name_max: int
    link_max: int
    max_file_size: int

    def now_ns(self) -> int:
        """The timestamp that a change made now would get: the wall clock, floored to the granule."""
        ...

    def root(self) -> Key: ...

    def getattr(self, key: Key) -> Fattr3: ...

    def describe(self, key: Key) -> str:
        """A path for people, relative to the root; best effort, for audits and logs only."""
        ...

    def lookup(self, directory: Key, name: bytes) -> Key:
        """``.`` and ``..`` are names too; ``..`` of the root is the root. Raises ENOENT, ENOTDIR, ENAMETOOLONG."""
        ...

    def create(self, directory: Key, name: bytes, mode: int, uid: int, gid: int) -> Key:
        """A new, empty regular file. Raises EEXIST."""
        ...

    def mkdir(self, directory: Key, name: bytes, mode: int, uid: int, gid: int) -> Key: ...

    def symlink(self, directory: Key, name: bytes, target: bytes, uid: int, gid: int) -> Key: ...

    def mknod(
        self, directory: Key, name: bytes, type: FType3, mode: int, rdev: tuple[int, int], uid: int, gid: int
    ) -> Key: ...

    def link(self, key: Key, directory: Key, name: bytes) -> None: ...

    def unlink(self, directory: Key, name: bytes) -> None:
        """Raises EISDIR for a directory, as Linux does."""
        ...

    def rmdir(self, directory: Key, name: bytes) -> None: ...

    def rename(self, from_directory: Key, from_name: bytes, to_directory: Key, to_name: bytes) -> None: ...

    def hold(self, key: Key) -> None:
        """A program on this machine has the regular file open: it lives on without a name until `release`."""
        ...

    def release(self, key: Key) -> None:
        """Undo one `hold`; with the last one a file without a name is gone."""
        ...

    def readlink(self, key: Key) -> bytes:
        """Raises EINVAL when it is not a symbolic link."""
        ...

    async def readdir(self, directory: Key, cookie: int, limit: int) -> tuple[Sequence[StoredEntry], bool]:
        """At most ``limit`` entries after ``cookie`` (0: from the start), and whether the end was reached.

        ``.`` and ``..`` come first, like every other entry.
        """
        ...

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
        """Set what is not None; ctime moves in any case."""
        ...

    def report_times(self, key: Key, mtime_ns: int, ctime_ns: int) -> None:
        """From now on `getattr` gives these times, until the inode changes again: also after a restart."""
        ...

    def statfs(self) -> Statfs: ...

    def reserve(self, key: Key, offset: int, count: int, unwritten: int = 0, uid: int = 0) -> None:
        """Make sure that ``count`` bytes at ``offset`` can be written later. Raises ENOSPC, EDQUOT, EFBIG.

        ``unwritten`` bytes were promised before and are not written yet. ``uid`` is who writes: what is kept for root
        is there for nobody else.
        """
        ...

    async def readv(self, key: Key, offset: int, counts: Sequence[int]) -> list[Data]:
        """Neighbouring pieces of at most as many bytes, fewer only at the end of the file, each in its own buffer."""
        ...

    async def write(self, key: Key, offset: int, data: Data, times: tuple[int, int] | None = None) -> None:
        """Write all of ``data``; mtime and ctime move.

        ``times`` are the (mtime, ctime) that the file has already been reported with, when the data have waited in the
        server's cache: they become the file's where the storage can set them. A real file system can set mtime only,
        and its ctime moves to now.
        """
        ...

    async def truncate(self, key: Key, size: int) -> None:
        """Cut or extend; mtime and ctime move even when the size stays the same, as knfsd's SETATTR has it."""
        ...

    async def fsync(self, key: Key) -> None:
        """Return when the file's data and attributes are on stable storage."""
        ...

    async def sync_metadata(self, *keys: Key) -> None:
        """Return when these inodes' attributes, and directories' names, are on disk (knfsd: commit_metadata)."""
        ...
