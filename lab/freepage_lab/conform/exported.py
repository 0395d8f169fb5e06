"""The file system that the recordings' machine exported, ext4 on a RAM disk, as far as sync(2) there cares."""

from __future__ import annotations

from freepage_lab.conform.recorder import MODIFYING, READING
from freepage_proto.nfs3 import StableHow
from freepage_proto.rpc import Procedure

EXPIRED_S = 35.0
"""dirty_expire_centisecs, and the flusher's tick after it."""
COMMIT_INTERVAL_S = 5.0
"""How old a transaction gets before jbd2 commits it by itself (JBD2_DEFAULT_MAX_COMMIT_AGE)."""


class ExportedFileSystem:
    """What is still to be written of it.

    A change leaves a dirty inode, even when its data are synced at once; so does the first read after a change, for it
    moves the access time (relatime). sync(2) writes the dirty inodes and then commits the journal, and a commit that
    has something to commit leaves the disk's own inode dirty. So after a change that the server has committed, as it
    does what NFS calls change, one sync(2) makes all clean, and after a change of another kind only the second does.
    Else the flusher writes such an inode at its first tick after 30 s.
    """

    def __init__(self) -> None:
        self._dirty_s: float | None = None
        """When an inode got dirty last; None when all are clean."""
        self._journal_s: float | None = None
        """When the running transaction began; None when there is nothing to commit."""
        self._read: set[bytes] = set()
        """Files that were read since they were last changed: their access time moves no more."""

    def changed(self, now_s: float) -> None:
        """Something changed on the server itself, nobody knows what."""
        self._dirty(now_s)
        self._read.clear()

    def called(self, procedure: Procedure, args: object, now_s: float) -> None:
        """A client calls ``procedure``."""
        if procedure in MODIFYING:
            self._dirty(now_s)
            if getattr(args, "stable", StableHow.FILE_SYNC) is not StableHow.UNSTABLE:
                self._journal_s = None
            self._read -= _handles(args)
        elif procedure in READING and not (handles := _handles(args)) <= self._read:
            self._dirty(now_s)
            self._read |= handles

    def _dirty(self, now_s: float) -> None:
        self._age(now_s)
        self._dirty_s = now_s
        if self._journal_s is None:
            self._journal_s = now_s

    def _age(self, now_s: float) -> None:
        if self._journal_s is not None and now_s - self._journal_s >= COMMIT_INTERVAL_S:
            self.journal_committed(self._journal_s + COMMIT_INTERVAL_S)
        if self._dirty_s is not None and now_s - self._dirty_s >= EXPIRED_S:
            self._dirty_s = None

    def visited_by_sync(self, now_s: float) -> bool:
        """sync(2) comes to it; was there a dirty inode to write?"""
        self._age(now_s)
        was_dirty = self._dirty_s is not None
        self._dirty_s = None
        return was_dirty

    def journal_committed(self, now_s: float) -> None:
        """By sync(2), which has been to all other file systems in between, or by jbd2 itself."""
        if self._journal_s is not None:
            self._journal_s = None
            self._dirty_s = now_s


def _handles(args: object) -> set[bytes]:
    """The files and directories that a call is about."""
    names = ("object", "file", "symlink", "dir", "from_dir", "to_dir")
    return {handle for name in names if (handle := getattr(args, name, None)) is not None}
