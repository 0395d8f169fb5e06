"""The plain types of NFS version 3 (RFC 1813): what the client's and server's logic hand to each other.

Times are integers of nanoseconds since the epoch (nfstime3 is two unsigned 32-bit numbers: 0 .. 2**32 s). File
handles and names are ``bytes``: a handle is opaque and at most 64 bytes, a name is whatever the directory holds.
Every result has ``status`` first; fields that only a success carries are ``None`` (or empty) otherwise.
"""

from __future__ import annotations

from dataclasses import field
from enum import IntEnum, IntFlag
from typing import Protocol, TypeAlias

from freepage_proto.message import message

NFS3_FHSIZE = 64
NFS3_COOKIEVERFSIZE = 8
NFS3_CREATEVERFSIZE = 8
NFS3_WRITEVERFSIZE = 8
NFS_MAXNAMLEN = 255
NFS_MAXPATHLEN = 1024

FileHandle: TypeAlias = bytes
Data: TypeAlias = "bytes | bytearray | memoryview"


class NfsStat3(IntEnum):
    """RFC 1813 section 2.6."""

    OK = 0
    PERM = 1
    NOENT = 2
    IO = 5
    NXIO = 6
    ACCES = 13
    EXIST = 17
    XDEV = 18
    NODEV = 19
    NOTDIR = 20
    ISDIR = 21
    INVAL = 22
    FBIG = 27
    NOSPC = 28
    ROFS = 30
    MLINK = 31
    NAMETOOLONG = 63
    NOTEMPTY = 66
    DQUOT = 69
    STALE = 70
    REMOTE = 71
    BADHANDLE = 10001
    NOT_SYNC = 10002
    BAD_COOKIE = 10003
    NOTSUPP = 10004
    TOOSMALL = 10005
    SERVERFAULT = 10006
    BADTYPE = 10007
    JUKEBOX = 10008


class FType3(IntEnum):
    REG = 1
    DIR = 2
    BLK = 3
    CHR = 4
    LNK = 5
    SOCK = 6
    FIFO = 7


class StableHow(IntEnum):
    UNSTABLE = 0
    DATA_SYNC = 1
    FILE_SYNC = 2


class CreateMode3(IntEnum):
    UNCHECKED = 0
    GUARDED = 1
    EXCLUSIVE = 2


class Access3(IntFlag):
    """RFC 1813 section 3.3.4: what an ACCESS call may ask for."""

    READ = 0x01
    LOOKUP = 0x02
    MODIFY = 0x04
    EXTEND = 0x08
    DELETE = 0x10
    EXECUTE = 0x20


class FsInfoProperties(IntFlag):
    """RFC 1813 section 3.3.19."""

    LINK = 0x01
    SYMLINK = 0x02
    HOMOGENEOUS = 0x08
    CANSETTIME = 0x10


@message
class Fattr3:
    """A file's attributes (RFC 1813 fattr3). ``size`` and ``used`` in bytes, times in ns, ``rdev`` (major, minor)."""

    type: FType3
    mode: int
    nlink: int
    uid: int
    gid: int
    size: int
    used: int
    fsid: int
    fileid: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    rdev: tuple[int, int] = (0, 0)


@message
class WccAttr:
    """What a file looked like just before the operation (RFC 1813 wcc_attr)."""

    size: int
    mtime_ns: int
    ctime_ns: int


@message
class WccData:
    """Weak cache consistency: before and after the operation; each is None when the server did not send it."""

    before: WccAttr | None = None
    after: Fattr3 | None = None


NO_WCC = WccData()

SET_TO_SERVER_TIME = -1
"""In Sattr3: take the server's clock (RFC 1813 SET_TO_SERVER_TIME)."""


@message
class Sattr3:
    """Attributes to set; None leaves one alone. Times in ns, or SET_TO_SERVER_TIME."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None


NO_SATTR = Sattr3()


@message
class NullArgs:
    pass


@message
class NullRes:
    pass


@message
class GetattrArgs:
    object: FileHandle


@message
class GetattrRes:
    status: NfsStat3
    attributes: Fattr3 | None = None


@message
class SetattrArgs:
    """``guard_ctime_ns``: fail with NOT_SYNC unless the object's ctime is this one; None: no guard."""

    object: FileHandle
    new_attributes: Sattr3
    guard_ctime_ns: int | None = None


@message
class SetattrRes:
    status: NfsStat3
    wcc: WccData = NO_WCC


@message
class LookupArgs:
    dir: FileHandle
    name: bytes


@message
class LookupRes:
    status: NfsStat3
    object: FileHandle | None = None
    attributes: Fattr3 | None = None
    dir_attributes: Fattr3 | None = None


@message
class AccessArgs:
    object: FileHandle
    access: Access3


@message
class AccessRes:
    status: NfsStat3
    attributes: Fattr3 | None = None
    access: Access3 = Access3(0)


@message
class ReadlinkArgs:
    symlink: FileHandle


@message
class ReadlinkRes:
    status: NfsStat3
    attributes: Fattr3 | None = None
    path: bytes = b""


@message
class ReadArgs:
    file: FileHandle
    offset: int
    count: int


class Holder(Protocol):
    """What keeps bytes that are sent again and again."""

    def move_contents(self, buf: bytes, at: int) -> None:
        """The same bytes are in ``buf`` from ``at`` on."""
        ...


@message
class ReadRes:
    status: NfsStat3
    attributes: Fattr3 | None = None
    count: int = 0
    eof: bool = False
    data: Data = b""
    message: bytes | None = field(default=None, repr=False, compare=False)
    """What ``data`` are the end of, if they came in a message, or are kept in one. Who keeps them may keep it, and
    needs no view; who sends them may send it, if it begins as it should."""
    holder: Holder | None = field(default=None, repr=False, compare=False)
    """Who keeps ``data``, and would keep them in the message they are sent in."""


@message
class WriteArgs:
    file: FileHandle
    offset: int
    count: int
    stable: StableHow
    data: Data = field(repr=False, default=b"")


@message
class WriteRes:
    status: NfsStat3
    wcc: WccData = NO_WCC
    count: int = 0
    committed: StableHow = StableHow.UNSTABLE
    verf: bytes = b""


@message
class CreateArgs:
    """``verf`` is used by EXCLUSIVE only, ``attributes`` by the other two modes only."""

    dir: FileHandle
    name: bytes
    mode: CreateMode3
    attributes: Sattr3 = NO_SATTR
    verf: bytes = b""


@message
class CreateRes:
    """The result of CREATE, MKDIR, SYMLINK and MKNOD alike."""

    status: NfsStat3
    object: FileHandle | None = None
    attributes: Fattr3 | None = None
    dir_wcc: WccData = NO_WCC


@message
class MkdirArgs:
    dir: FileHandle
    name: bytes
    attributes: Sattr3 = NO_SATTR


@message
class SymlinkArgs:
    dir: FileHandle
    name: bytes
    path: bytes
    attributes: Sattr3 = NO_SATTR


@message
class MknodArgs:
    """``type`` is CHR, BLK (with ``rdev``), SOCK or FIFO."""

    dir: FileHandle
    name: bytes
    type: FType3
    attributes: Sattr3 = NO_SATTR
    rdev: tuple[int, int] = (0, 0)


@message
class RemoveArgs:
    """The arguments of REMOVE and RMDIR."""

    dir: FileHandle
    name: bytes


@message
class RemoveRes:
    status: NfsStat3
    dir_wcc: WccData = NO_WCC


@message
class RenameArgs:
    from_dir: FileHandle
    from_name: bytes
    to_dir: FileHandle
    to_name: bytes


@message
class RenameRes:
    status: NfsStat3
    from_dir_wcc: WccData = NO_WCC
    to_dir_wcc: WccData = NO_WCC


@message
class LinkArgs:
    file: FileHandle
    dir: FileHandle
    name: bytes


@message
class LinkRes:
    status: NfsStat3
    attributes: Fattr3 | None = None
    dir_wcc: WccData = NO_WCC


@message
class ReaddirArgs:
    """``count`` is the largest reply in bytes, as XDR."""

    dir: FileHandle
    cookie: int
    cookieverf: bytes
    count: int


@message
class ReaddirplusArgs:
    """``dircount`` bounds the names and cookies, ``maxcount`` the whole reply, both in bytes of XDR."""

    dir: FileHandle
    cookie: int
    cookieverf: bytes
    dircount: int
    maxcount: int


@message
class DirEntry3:
    """One name; ``attributes`` and ``object`` only ever come with READDIRPLUS, and may be None even there."""

    fileid: int
    name: bytes
    cookie: int
    attributes: Fattr3 | None = None
    object: FileHandle | None = None


@message
class ReaddirRes:
    """The result of READDIR and READDIRPLUS alike."""

    status: NfsStat3
    dir_attributes: Fattr3 | None = None
    cookieverf: bytes = b""
    entries: tuple[DirEntry3, ...] = ()
    eof: bool = False


@message
class FsstatArgs:
    root: FileHandle


@message
class FsstatRes:
    status: NfsStat3
    attributes: Fattr3 | None = None
    tbytes: int = 0
    fbytes: int = 0
    abytes: int = 0
    tfiles: int = 0
    ffiles: int = 0
    afiles: int = 0
    invarsec: int = 0


@message
class FsinfoArgs:
    root: FileHandle


@message
class FsinfoRes:
    status: NfsStat3
    attributes: Fattr3 | None = None
    rtmax: int = 0
    rtpref: int = 0
    rtmult: int = 0
    wtmax: int = 0
    wtpref: int = 0
    wtmult: int = 0
    dtpref: int = 0
    maxfilesize: int = 0
    time_delta_ns: int = 1
    properties: FsInfoProperties = FsInfoProperties(0)


@message
class PathconfArgs:
    object: FileHandle


@message
class PathconfRes:
    status: NfsStat3
    attributes: Fattr3 | None = None
    linkmax: int = 0
    name_max: int = 0
    no_trunc: bool = True
    chown_restricted: bool = True
    case_insensitive: bool = False
    case_preserving: bool = True


@message
class CommitArgs:
    """``offset`` and ``count`` in bytes; 0 and 0 mean the whole file."""

    file: FileHandle
    offset: int = 0
    count: int = 0


@message
class CommitRes:
    status: NfsStat3
    wcc: WccData = NO_WCC
    verf: bytes = b""
