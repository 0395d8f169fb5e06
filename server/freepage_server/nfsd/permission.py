"""Who may do what, by the nine mode bits and root's privilege (Linux: fs/namei.c generic_permission, fs/nfsd/vfs.c).

The caller's identity is an AUTH_SYS credential after squashing. Root may read and write everything, and execute a
file that anyone may execute (CAP_DAC_OVERRIDE).
"""

from __future__ import annotations

import errno
import os

from freepage_proto.nfs3 import Access3, Fattr3, FType3
from freepage_proto.rpc import AuthSys

MAY_EXEC, MAY_WRITE, MAY_READ = 1, 2, 4

S_ISVTX = 0o1000


def in_group(cred: AuthSys, gid: int) -> bool:
    return gid == cred.gid or gid in cred.gids


def permitted(attributes: Fattr3, cred: AuthSys, mask: int) -> bool:
    """Whether ``cred`` may do everything in ``mask`` (MAY_EXEC, MAY_WRITE, MAY_READ)."""
    mode = attributes.mode
    if cred.uid == 0:
        return not mask & MAY_EXEC or attributes.type is FType3.DIR or bool(mode & 0o111)
    if cred.uid == attributes.uid:
        mode >>= 6
    elif in_group(cred, attributes.gid):
        mode >>= 3
    return mode & mask == mask


def require(attributes: Fattr3, cred: AuthSys, mask: int, *, owner_override: bool = False) -> None:
    """Raises EACCES. ``owner_override``: the owner may always read and write a file that it has opened; NFSv3 has no
    open, so the server cannot know (knfsd: NFSD_MAY_OWNER_OVERRIDE)."""
    if owner_override and cred.uid == attributes.uid:
        return
    if permitted(attributes, cred, mask):
        return
    # A program that may only be executed must still be readable for the client that runs it.
    if owner_override and mask == MAY_READ and attributes.type is FType3.REG and permitted(attributes, cred, MAY_EXEC):
        return
    raise OSError(errno.EACCES, os.strerror(errno.EACCES))


def require_delete(directory: Fattr3, victim: Fattr3, cred: AuthSys) -> None:
    """May ``cred`` take ``victim``'s name out of ``directory``? Raises EACCES, or EPERM in a sticky directory."""
    require(directory, cred, MAY_WRITE | MAY_EXEC)
    if directory.mode & S_ISVTX and cred.uid not in (0, victim.uid, directory.uid):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))


_FILE_ACCESS = {
    Access3.READ: MAY_READ,
    Access3.MODIFY: MAY_WRITE,
    Access3.EXTEND: MAY_WRITE,
    Access3.EXECUTE: MAY_EXEC,
}
_DIRECTORY_ACCESS = {
    Access3.READ: MAY_READ,
    Access3.LOOKUP: MAY_EXEC,
    Access3.MODIFY: MAY_WRITE | MAY_EXEC,
    Access3.EXTEND: MAY_WRITE | MAY_EXEC,
    Access3.DELETE: MAY_WRITE | MAY_EXEC,
}
_WRITING = Access3.MODIFY | Access3.EXTEND | Access3.DELETE


def granted(attributes: Fattr3, cred: AuthSys, asked: Access3, *, read_only: bool) -> Access3:
    """The part of ``asked`` that ``cred`` has (knfsd: nfsd_access and its two tables)."""
    table = _DIRECTORY_ACCESS if attributes.type is FType3.DIR else _FILE_ACCESS
    answer = Access3(0)
    for bit, mask in table.items():
        if asked & bit and not (read_only and bit & _WRITING) and permitted(attributes, cred, mask):
            answer |= bit
    return answer
