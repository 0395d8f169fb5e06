"""From the protocol's nfsstat3 and the RPC layer's failures to errno (fs/nfs/nfs3xdr.c nfs3_stat_to_errno)."""

from __future__ import annotations

import errno
import os

from freepage_proto.nfs3 import NfsStat3

EBADCOOKIE = 523
"""Linux's internal errno: the server does not know the READDIR cookie."""
ENOTSYNC = 522
"""Linux's internal errno: the guard's ctime did not match, or the cookie verifier is stale."""
ETOOSMALL = 525
EBADHANDLE = 521

_STATUS_TO_ERRNO = {
    NfsStat3.PERM: errno.EPERM,
    NfsStat3.NOENT: errno.ENOENT,
    NfsStat3.IO: errno.EIO,
    NfsStat3.NXIO: errno.ENXIO,
    NfsStat3.ACCES: errno.EACCES,
    NfsStat3.EXIST: errno.EEXIST,
    NfsStat3.XDEV: errno.EXDEV,
    NfsStat3.NODEV: errno.ENODEV,
    NfsStat3.NOTDIR: errno.ENOTDIR,
    NfsStat3.ISDIR: errno.EISDIR,
    NfsStat3.INVAL: errno.EINVAL,
    NfsStat3.FBIG: errno.EFBIG,
    NfsStat3.NOSPC: errno.ENOSPC,
    NfsStat3.ROFS: errno.EROFS,
    NfsStat3.MLINK: errno.EMLINK,
    NfsStat3.NAMETOOLONG: errno.ENAMETOOLONG,
    NfsStat3.NOTEMPTY: errno.ENOTEMPTY,
    NfsStat3.DQUOT: errno.EDQUOT,
    NfsStat3.STALE: errno.ESTALE,
    NfsStat3.REMOTE: errno.EREMOTE,
    NfsStat3.BADHANDLE: EBADHANDLE,
    NfsStat3.NOT_SYNC: ENOTSYNC,
    NfsStat3.BAD_COOKIE: EBADCOOKIE,
    NfsStat3.NOTSUPP: errno.ENOTSUP,
    NfsStat3.TOOSMALL: ETOOSMALL,
    NfsStat3.SERVERFAULT: errno.EREMOTEIO,
    NfsStat3.BADTYPE: errno.EINVAL,
    NfsStat3.JUKEBOX: errno.EAGAIN,
}

FATAL_ON_SERVER = frozenset(
    (
        errno.EACCES,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EIO,
        errno.ENOSPC,
        errno.EROFS,
        errno.ESTALE,
        errno.E2BIG,
        errno.ETIMEDOUT,
    )
)
"""Write errors after which the data are dropped, not sent again (fs/nfs/internal.h nfs_error_is_fatal_on_server)."""


def status_to_errno(status: NfsStat3) -> int:
    """The errno for a failed call's status; 0 for OK."""
    if status is NfsStat3.OK:
        return 0
    return _STATUS_TO_ERRNO.get(status, errno.EIO)


_USER_ERRNO = {
    EBADHANDLE: errno.ESTALE,
    ENOTSYNC: errno.EIO,
    EBADCOOKIE: errno.EIO,
    ETOOSMALL: errno.EIO,
    errno.EREMOTEIO: errno.EREMOTEIO,
}


def os_error(number: int, path: object = None) -> OSError:
    """An OSError for an errno, with internal numbers turned into ones that user space knows."""
    number = _USER_ERRNO.get(number, number)
    error = OSError(number, os.strerror(number))
    if path is not None:
        error.filename = path
    return error
