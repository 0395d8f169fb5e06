"""The plain types of the NFSACL side protocol, version 3 (Solaris; Linux fs/nfs/nfs3acl.c): what the client asks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

from freepage_proto.nfs3 import Fattr3, FileHandle, NfsStat3


class AclMask(IntFlag):
    """Which lists GETACL asks for."""

    ACL = 0x1
    ACLCNT = 0x2
    DFACL = 0x4
    DFACLCNT = 0x8


@dataclass(frozen=True, slots=True)
class AclEntry:
    type: int
    id: int
    permissions: int


@dataclass(frozen=True, slots=True)
class GetaclArgs:
    object: FileHandle
    mask: AclMask


@dataclass(frozen=True, slots=True)
class GetaclRes:
    status: NfsStat3
    attributes: Fattr3 | None = None
    mask: AclMask = AclMask(0)
    access_acl: tuple[AclEntry, ...] = ()
    default_acl: tuple[AclEntry, ...] = ()
