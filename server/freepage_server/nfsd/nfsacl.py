"""NFSACL version 3, GETACL only: the access list that the mode bits amount to (Linux: fs/nfsd/nfs3acl.c).

No storage here keeps real lists, and knfsd on a file without one answers the same: the minimal list made of the mode,
with the mask entry that Solaris expects (fs/nfs_common/nfsacl.c), and no default list.
"""

from __future__ import annotations

from freepage_proto.nfs3 import Fattr3, NfsStat3
from freepage_proto.nfsacl3 import AclEntry, AclMask, GetaclRes

ACL_USER_OBJ, ACL_GROUP_OBJ, ACL_MASK, ACL_OTHER = 0x01, 0x04, 0x10, 0x20


def minimal_acl(attributes: Fattr3) -> tuple[AclEntry, ...]:
    owner, group, other = attributes.mode >> 6 & 7, attributes.mode >> 3 & 7, attributes.mode & 7
    return (
        AclEntry(ACL_USER_OBJ, attributes.uid, owner),
        AclEntry(ACL_GROUP_OBJ, attributes.gid, group),
        AclEntry(ACL_MASK, 0, group),
        AclEntry(ACL_OTHER, 0, other),
    )


def getacl(attributes: Fattr3, mask: AclMask) -> GetaclRes:
    """Raises nothing. Counts without lists (ACLCNT, DFACLCNT) are answered by the lists' own lengths."""
    access = minimal_acl(attributes) if mask & (AclMask.ACL | AclMask.ACLCNT) else ()
    return GetaclRes(NfsStat3.OK, attributes, mask, access, ())
