"""Sizes of calls and replies against what Linux 6.1 reported in /proc/self/mountstats.

The figures on the right are from recordings of a Linux 6.1.192 client and knfsd (NFSv3 over TCP, 16-byte file handles,
AUTH_SYS without supplementary groups, a machine name of 5 to 8 bytes).
"""

from __future__ import annotations

import pytest

from freepage_proto import mount3, nfs3, nfsacl3, nlm4, xdr
from freepage_proto.nfs3 import (
    Access3,
    CreateMode3,
    DirEntry3,
    Fattr3,
    FType3,
    NfsStat3,
    Sattr3,
    StableHow,
    WccAttr,
    WccData,
)
from freepage_proto.rpc import AuthSys, Procedure

P = Procedure
CRED = AuthSys(0, 0, (), "clienta")
FH = b"h" * 16
DIR = b"d" * 16
OK, NOENT, EXIST = NfsStat3.OK, NfsStat3.NOENT, NfsStat3.EXIST
FATTR = Fattr3(FType3.REG, 0o644, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0)
POST_ONLY = WccData(None, FATTR)
BOTH = WccData(WccAttr(0, 0, 0), FATTR)
FRESH = Sattr3(mode=0o644)


@pytest.mark.parametrize(
    ("procedure", "args", "sent"),
    [
        (P.NULL, nfs3.NullArgs(), 44),
        (P.GETATTR, nfs3.GetattrArgs(FH), 92),
        (P.SETATTR, nfs3.SetattrArgs(FH, Sattr3(mode=0o600)), 124),
        (P.SETATTR, nfs3.SetattrArgs(FH, Sattr3(size=4096)), 128),
        (P.SETATTR, nfs3.SetattrArgs(FH, Sattr3(atime_ns=-1, mtime_ns=-1)), 120),
        (P.LOOKUP, nfs3.LookupArgs(DIR, b"name"), 100),
        (P.LOOKUP, nfs3.LookupArgs(DIR, b"a.txt"), 104),
        (P.ACCESS, nfs3.AccessArgs(FH, Access3(0x1F)), 96),
        (P.READ, nfs3.ReadArgs(FH, 0, 4096), 104),
        (P.WRITE, nfs3.WriteArgs(FH, 0, 4096, StableHow.UNSTABLE, bytes(4096)), 4208),
        (P.WRITE, nfs3.WriteArgs(FH, 0, 100, StableHow.FILE_SYNC, bytes(100)), 212),
        (P.CREATE, nfs3.CreateArgs(DIR, b"file", CreateMode3.UNCHECKED, FRESH), 132),
        (P.CREATE, nfs3.CreateArgs(DIR, b"file", CreateMode3.EXCLUSIVE, verf=bytes(8)), 112),
        (P.MKDIR, nfs3.MkdirArgs(DIR, b"dir1", Sattr3(mode=0o755)), 128),
        (P.REMOVE, nfs3.RemoveArgs(DIR, b"file"), 100),
        (P.RMDIR, nfs3.RemoveArgs(DIR, b"dir1"), 100),
        (P.RENAME, nfs3.RenameArgs(DIR, b"old.", DIR, b"new."), 128),
        (P.LINK, nfs3.LinkArgs(FH, DIR, b"link"), 120),
        (P.READDIR, nfs3.ReaddirArgs(DIR, 0, bytes(8), 1 << 20), 112),
        (P.READDIRPLUS, nfs3.ReaddirplusArgs(DIR, 0, bytes(8), 1 << 20, 1 << 20), 116),
        (P.FSSTAT, nfs3.FsstatArgs(FH), 92),
        (P.FSINFO, nfs3.FsinfoArgs(FH), 92),
        (P.PATHCONF, nfs3.PathconfArgs(FH), 92),
        (P.COMMIT, nfs3.CommitArgs(FH), 104),
    ],
)
def test_calls_have_the_recorded_size(procedure: Procedure, args: object, sent: int) -> None:
    assert xdr.call_size(procedure, args, CRED) == sent


@pytest.mark.parametrize(
    ("procedure", "result", "received"),
    [
        (P.NULL, nfs3.NullRes(), 24),
        (P.GETATTR, nfs3.GetattrRes(OK, FATTR), 112),
        (P.SETATTR, nfs3.SetattrRes(OK, BOTH), 144),
        (P.LOOKUP, nfs3.LookupRes(OK, FH, FATTR, FATTR), 224),
        (P.LOOKUP, nfs3.LookupRes(NOENT, None, None, FATTR), 116),
        (P.ACCESS, nfs3.AccessRes(OK, FATTR, Access3(0x1F)), 120),
        (P.READ, nfs3.ReadRes(OK, FATTR, 4096, False, bytes(4096)), 4224),
        (P.READ, nfs3.ReadRes(OK, FATTR, 9999, True, bytes(9999)), 10128),
        (P.READ, nfs3.ReadRes(OK, FATTR, 0, True), 128),
        (P.WRITE, nfs3.WriteRes(OK, POST_ONLY, 4096, StableHow.UNSTABLE, bytes(8)), 136),
        (P.CREATE, nfs3.CreateRes(OK, FH, FATTR, BOTH), 256),
        (P.CREATE, nfs3.CreateRes(EXIST, None, None, POST_ONLY), 120),
        (P.MKDIR, nfs3.CreateRes(OK, FH, FATTR, BOTH), 256),
        (P.MKDIR, nfs3.CreateRes(EXIST, None, None, BOTH), 144),
        (P.REMOVE, nfs3.RemoveRes(OK, BOTH), 144),
        (P.RMDIR, nfs3.RemoveRes(OK, BOTH), 144),
        (P.RENAME, nfs3.RenameRes(OK, BOTH, BOTH), 260),
        (P.LINK, nfs3.LinkRes(OK, FATTR, BOTH), 232),
        (P.FSSTAT, nfs3.FsstatRes(OK), 84),
        (P.FSINFO, nfs3.FsinfoRes(OK), 80),
        (P.PATHCONF, nfs3.PathconfRes(OK), 56),
        (P.COMMIT, nfs3.CommitRes(OK, POST_ONLY, bytes(8)), 128),
    ],
)
def test_replies_have_the_recorded_size(procedure: Procedure, result: object, received: int) -> None:
    assert xdr.reply_size(procedure, result) == received


def test_listings_have_the_recorded_size() -> None:
    """A directory of 1000 names of 9 bytes: 36,188 bytes in one READDIR, 148,544 in two READDIRPLUS."""
    names = [b".", b"..", *(f"file{i:05d}".encode() for i in range(1000))]
    plain = nfs3.ReaddirRes(OK, FATTR, bytes(8), tuple(DirEntry3(1, name, 1) for name in names), True)
    assert xdr.reply_size(P.READDIR, plain) == 36_188
    full = tuple(DirEntry3(1, name, 1, FATTR, FH) for name in names)
    replies = [nfs3.ReaddirRes(OK, FATTR, bytes(8), part, True) for part in (full[:700], full[700:])]
    assert sum(xdr.reply_size(P.READDIRPLUS, reply) for reply in replies) == 148_544


def test_null_travels_without_a_credential() -> None:
    crowd = AuthSys(0, 0, tuple(range(16)), "a.long.machine.name")
    assert xdr.call_size(P.MOUNT_NULL, nfs3.NullArgs(), crowd) == 44
    assert xdr.call_size(P.GETATTR, nfs3.GetattrArgs(FH), crowd) == 92 + 4 * 16 + 12


def test_the_side_programs_have_sizes_too() -> None:
    lock = nlm4.NlmLock(FH, b"owner", 1, 0, 0)
    header = xdr.RECORD_MARK + xdr.CALL_HEADER + xdr.auth_sys(CRED) + xdr.AUTH_NONE
    body = 8 + 4 + 4 + (4 + 8) + 20 + (4 + 8) + 4 + 8 + 8 + 4 + 4
    assert xdr.call_size(P.NLM_LOCK, nlm4.LockArgs(lock, True), CRED) == header + body
    assert xdr.reply_size(P.NLM_LOCK, nlm4.NlmRes(nlm4.NlmStat4.GRANTED)) == 24 + 8 + 4
    assert xdr.call_size(P.MOUNT_MNT, mount3.MntArgs(b"/export"), CRED) == header + 12
    assert xdr.reply_size(P.MOUNT_MNT, mount3.MntRes(mount3.MountStat3.OK, FH, (1,))) == 24 + 4 + 20 + 8
    assert xdr.call_size(P.NFSACL_GETACL, nfsacl3.GetaclArgs(FH, nfsacl3.AclMask.ACL), CRED) == header + 24
    assert xdr.reply_size(P.NFSACL_GETACL, nfsacl3.GetaclRes(OK, FATTR)) == 24 + 4 + 88 + 4 + 16
