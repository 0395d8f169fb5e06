"""What stat(2) and statfs(2) return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from freepage_client.nfs.inode import NfsInode


@dataclass(frozen=True, slots=True)
class Stat:
    """struct stat. Times in ns since the epoch, ``st_blocks`` in units of 512 bytes."""

    st_mode: int
    st_ino: int
    st_nlink: int
    st_uid: int
    st_gid: int
    st_size: int
    st_blocks: int
    st_blksize: int
    st_rdev: tuple[int, int]
    st_atime_ns: int
    st_mtime_ns: int
    st_ctime_ns: int

    @classmethod
    def of(cls, inode: NfsInode) -> Stat:
        """The cached attributes as they are (generic_fillattr)."""
        return cls(
            st_mode=inode.i_mode,
            st_ino=inode.fileid,
            st_nlink=inode.i_nlink,
            st_uid=inode.i_uid,
            st_gid=inode.i_gid,
            st_size=inode.i_size,
            st_blocks=(inode.used + 511) >> 9,
            st_blksize=inode.server.dtsize if inode.is_dir else 4096,
            st_rdev=inode.rdev,
            st_atime_ns=inode.atime_ns,
            st_mtime_ns=inode.mtime_ns,
            st_ctime_ns=inode.ctime_ns,
        )


@dataclass(frozen=True, slots=True)
class StatFs:
    """struct statvfs. Block counts in units of ``f_frsize`` bytes."""

    f_bsize: int
    f_frsize: int
    f_blocks: int
    f_bfree: int
    f_bavail: int
    f_files: int
    f_ffree: int
    f_favail: int
    f_namemax: int
