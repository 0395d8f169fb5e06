"""The NFSACL side protocol, as far as the client needs it: the question before a create (fs/nfs/nfs3acl.c)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, cast

from freepage_client.nfs.errors import os_error, status_to_errno
from freepage_client.nfs.inode import INVALID_ACL
from freepage_proto.nfs3 import NfsStat3
from freepage_proto.nfsacl3 import AclMask, GetaclArgs, GetaclRes
from freepage_proto.rpc import Procedure

if TYPE_CHECKING:
    from freepage_client.nfs.cred import Credential
    from freepage_client.nfs.inode import NfsInode


def zap_acl_cache(inode: NfsInode) -> None:
    """Forget the cached ACLs."""
    inode.acl_cached = False
    inode.cache_validity &= ~INVALID_ACL


async def getacl(dir_inode: NfsInode, cred: Credential) -> None:
    """GETACL of a directory's default ACL; remembered until INVALID_ACL. Raises OSError.

    The default ACL would shape a new file's mode; freepage's servers have none to give, so only that the question is
    asked, and when, matters here.
    """
    server = dir_inode.server
    fattr = server.fattr()
    mask = AclMask.DFACL | AclMask.DFACLCNT
    try:
        reply = await server.rpc.call(Procedure.NFSACL_GETACL, GetaclArgs(dir_inode.fh, mask), cred.auth)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        server.cap_acls = False
        return
    result = cast(GetaclRes, reply)
    if result.status is NfsStat3.NOTSUPP:
        server.cap_acls = False
        return
    if result.status is not NfsStat3.OK:
        raise os_error(status_to_errno(result.status))
    fattr.attr = result.attributes
    dir_inode.refresh(fattr)
    dir_inode.acl_cached = True
