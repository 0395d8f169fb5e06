"""From errno to nfsstat3, once, at the edge of the protocol (Linux: fs/nfsd/nfsproc.c nfserrno)."""

from __future__ import annotations

import errno

from freepage_proto.mount3 import MountStat3
from freepage_proto.nfs3 import NfsStat3

_NFSERR = {
    errno.EPERM: NfsStat3.PERM,
    errno.ENOENT: NfsStat3.NOENT,
    errno.EIO: NfsStat3.IO,
    errno.ENXIO: NfsStat3.NXIO,
    errno.EACCES: NfsStat3.ACCES,
    errno.EEXIST: NfsStat3.EXIST,
    errno.EXDEV: NfsStat3.XDEV,
    errno.ENODEV: NfsStat3.NODEV,
    errno.ENOTDIR: NfsStat3.NOTDIR,
    errno.EISDIR: NfsStat3.ISDIR,
    errno.EINVAL: NfsStat3.INVAL,
    errno.EFBIG: NfsStat3.FBIG,
    errno.ENOSPC: NfsStat3.NOSPC,
    errno.EROFS: NfsStat3.ROFS,
    errno.EMLINK: NfsStat3.MLINK,
    errno.ENAMETOOLONG: NfsStat3.NAMETOOLONG,
    errno.ENOTEMPTY: NfsStat3.NOTEMPTY,
    errno.EDQUOT: NfsStat3.DQUOT,
    errno.ESTALE: NfsStat3.STALE,
    errno.ETIMEDOUT: NfsStat3.JUKEBOX,
    errno.EAGAIN: NfsStat3.JUKEBOX,
    errno.EWOULDBLOCK: NfsStat3.JUKEBOX,
    errno.ENOMEM: NfsStat3.JUKEBOX,
    errno.ETXTBSY: NfsStat3.IO,
    errno.EOPNOTSUPP: NfsStat3.NOTSUPP,
    errno.EOVERFLOW: NfsStat3.INVAL,
    errno.ELOOP: NfsStat3.INVAL,
    errno.EUCLEAN: NfsStat3.IO,
}


class NfsError(Exception):
    """A status that no errno names (BADHANDLE, NOT_SYNC, TOOSMALL...)."""

    def __init__(self, status: NfsStat3) -> None:
        super().__init__(status.name)
        self.status = status


def nfsstat3(error: OSError | NfsError) -> NfsStat3:
    """The status for an error; an errno that NFSv3 cannot say is IO, as in Linux."""
    if isinstance(error, NfsError):
        return error.status
    return _NFSERR.get(error.errno or errno.EIO, NfsStat3.IO)


def mountstat3(error: OSError | NfsError) -> MountStat3:
    """The status of a MOUNT reply; what mountstat3 cannot say is SERVERFAULT."""
    try:
        return MountStat3(nfsstat3(error).value)
    except ValueError:
        return MountStat3.SERVERFAULT
