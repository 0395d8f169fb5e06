from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class NfsStat3(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NFS_STAT3_OK: _ClassVar[NfsStat3]
    NFS_STAT3_PERM: _ClassVar[NfsStat3]
    NFS_STAT3_NOENT: _ClassVar[NfsStat3]
    NFS_STAT3_IO: _ClassVar[NfsStat3]
    NFS_STAT3_NXIO: _ClassVar[NfsStat3]
    NFS_STAT3_ACCES: _ClassVar[NfsStat3]
    NFS_STAT3_EXIST: _ClassVar[NfsStat3]
    NFS_STAT3_XDEV: _ClassVar[NfsStat3]
    NFS_STAT3_NODEV: _ClassVar[NfsStat3]
    NFS_STAT3_NOTDIR: _ClassVar[NfsStat3]
    NFS_STAT3_ISDIR: _ClassVar[NfsStat3]
    NFS_STAT3_INVAL: _ClassVar[NfsStat3]
    NFS_STAT3_FBIG: _ClassVar[NfsStat3]
    NFS_STAT3_NOSPC: _ClassVar[NfsStat3]
    NFS_STAT3_ROFS: _ClassVar[NfsStat3]
    NFS_STAT3_MLINK: _ClassVar[NfsStat3]
    NFS_STAT3_NAMETOOLONG: _ClassVar[NfsStat3]
    NFS_STAT3_NOTEMPTY: _ClassVar[NfsStat3]
    NFS_STAT3_DQUOT: _ClassVar[NfsStat3]
    NFS_STAT3_STALE: _ClassVar[NfsStat3]
    NFS_STAT3_REMOTE: _ClassVar[NfsStat3]
    NFS_STAT3_BADHANDLE: _ClassVar[NfsStat3]
    NFS_STAT3_NOT_SYNC: _ClassVar[NfsStat3]
    NFS_STAT3_BAD_COOKIE: _ClassVar[NfsStat3]
    NFS_STAT3_NOTSUPP: _ClassVar[NfsStat3]
    NFS_STAT3_TOOSMALL: _ClassVar[NfsStat3]
    NFS_STAT3_SERVERFAULT: _ClassVar[NfsStat3]
    NFS_STAT3_BADTYPE: _ClassVar[NfsStat3]
    NFS_STAT3_JUKEBOX: _ClassVar[NfsStat3]

class Ftype3(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FTYPE3_UNSPECIFIED: _ClassVar[Ftype3]
    FTYPE3_REG: _ClassVar[Ftype3]
    FTYPE3_DIR: _ClassVar[Ftype3]
    FTYPE3_BLK: _ClassVar[Ftype3]
    FTYPE3_CHR: _ClassVar[Ftype3]
    FTYPE3_LNK: _ClassVar[Ftype3]
    FTYPE3_SOCK: _ClassVar[Ftype3]
    FTYPE3_FIFO: _ClassVar[Ftype3]
NFS_STAT3_OK: NfsStat3
NFS_STAT3_PERM: NfsStat3
NFS_STAT3_NOENT: NfsStat3
NFS_STAT3_IO: NfsStat3
NFS_STAT3_NXIO: NfsStat3
NFS_STAT3_ACCES: NfsStat3
NFS_STAT3_EXIST: NfsStat3
NFS_STAT3_XDEV: NfsStat3
NFS_STAT3_NODEV: NfsStat3
NFS_STAT3_NOTDIR: NfsStat3
NFS_STAT3_ISDIR: NfsStat3
NFS_STAT3_INVAL: NfsStat3
NFS_STAT3_FBIG: NfsStat3
NFS_STAT3_NOSPC: NfsStat3
NFS_STAT3_ROFS: NfsStat3
NFS_STAT3_MLINK: NfsStat3
NFS_STAT3_NAMETOOLONG: NfsStat3
NFS_STAT3_NOTEMPTY: NfsStat3
NFS_STAT3_DQUOT: NfsStat3
NFS_STAT3_STALE: NfsStat3
NFS_STAT3_REMOTE: NfsStat3
NFS_STAT3_BADHANDLE: NfsStat3
NFS_STAT3_NOT_SYNC: NfsStat3
NFS_STAT3_BAD_COOKIE: NfsStat3
NFS_STAT3_NOTSUPP: NfsStat3
NFS_STAT3_TOOSMALL: NfsStat3
NFS_STAT3_SERVERFAULT: NfsStat3
NFS_STAT3_BADTYPE: NfsStat3
NFS_STAT3_JUKEBOX: NfsStat3
FTYPE3_UNSPECIFIED: Ftype3
FTYPE3_REG: Ftype3
FTYPE3_DIR: Ftype3
FTYPE3_BLK: Ftype3
FTYPE3_CHR: Ftype3
FTYPE3_LNK: Ftype3
FTYPE3_SOCK: Ftype3
FTYPE3_FIFO: Ftype3

class AuthSys(_message.Message):
    __slots__ = ("uid", "gid", "gids", "machine_name")
    UID_FIELD_NUMBER: _ClassVar[int]
    GID_FIELD_NUMBER: _ClassVar[int]
    GIDS_FIELD_NUMBER: _ClassVar[int]
    MACHINE_NAME_FIELD_NUMBER: _ClassVar[int]
    uid: int
    gid: int
    gids: _containers.RepeatedScalarFieldContainer[int]
    machine_name: str
    def __init__(self, uid: _Optional[int] = ..., gid: _Optional[int] = ..., gids: _Optional[_Iterable[int]] = ..., machine_name: _Optional[str] = ...) -> None: ...

class CallHeader(_message.Message):
    __slots__ = ("xid", "client_id", "boot_instance", "cred")
    XID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    BOOT_INSTANCE_FIELD_NUMBER: _ClassVar[int]
    CRED_FIELD_NUMBER: _ClassVar[int]
    xid: int
    client_id: str
    boot_instance: int
    cred: AuthSys
    def __init__(self, xid: _Optional[int] = ..., client_id: _Optional[str] = ..., boot_instance: _Optional[int] = ..., cred: _Optional[_Union[AuthSys, _Mapping]] = ...) -> None: ...

class Specdata3(_message.Message):
    __slots__ = ("major", "minor")
    MAJOR_FIELD_NUMBER: _ClassVar[int]
    MINOR_FIELD_NUMBER: _ClassVar[int]
    major: int
    minor: int
    def __init__(self, major: _Optional[int] = ..., minor: _Optional[int] = ...) -> None: ...

class Fattr3(_message.Message):
    __slots__ = ("type", "mode", "nlink", "uid", "gid", "size", "used", "rdev", "fsid", "fileid", "atime_ns", "mtime_ns", "ctime_ns")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    NLINK_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    GID_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    RDEV_FIELD_NUMBER: _ClassVar[int]
    FSID_FIELD_NUMBER: _ClassVar[int]
    FILEID_FIELD_NUMBER: _ClassVar[int]
    ATIME_NS_FIELD_NUMBER: _ClassVar[int]
    MTIME_NS_FIELD_NUMBER: _ClassVar[int]
    CTIME_NS_FIELD_NUMBER: _ClassVar[int]
    type: Ftype3
    mode: int
    nlink: int
    uid: int
    gid: int
    size: int
    used: int
    rdev: Specdata3
    fsid: int
    fileid: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    def __init__(self, type: _Optional[_Union[Ftype3, str]] = ..., mode: _Optional[int] = ..., nlink: _Optional[int] = ..., uid: _Optional[int] = ..., gid: _Optional[int] = ..., size: _Optional[int] = ..., used: _Optional[int] = ..., rdev: _Optional[_Union[Specdata3, _Mapping]] = ..., fsid: _Optional[int] = ..., fileid: _Optional[int] = ..., atime_ns: _Optional[int] = ..., mtime_ns: _Optional[int] = ..., ctime_ns: _Optional[int] = ...) -> None: ...

class WccAttr(_message.Message):
    __slots__ = ("size", "mtime_ns", "ctime_ns")
    SIZE_FIELD_NUMBER: _ClassVar[int]
    MTIME_NS_FIELD_NUMBER: _ClassVar[int]
    CTIME_NS_FIELD_NUMBER: _ClassVar[int]
    size: int
    mtime_ns: int
    ctime_ns: int
    def __init__(self, size: _Optional[int] = ..., mtime_ns: _Optional[int] = ..., ctime_ns: _Optional[int] = ...) -> None: ...

class WccData(_message.Message):
    __slots__ = ("before", "after")
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    before: WccAttr
    after: Fattr3
    def __init__(self, before: _Optional[_Union[WccAttr, _Mapping]] = ..., after: _Optional[_Union[Fattr3, _Mapping]] = ...) -> None: ...

class Sattr3(_message.Message):
    __slots__ = ("mode", "uid", "gid", "size", "atime_server", "atime_ns", "mtime_server", "mtime_ns")
    MODE_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    GID_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    ATIME_SERVER_FIELD_NUMBER: _ClassVar[int]
    ATIME_NS_FIELD_NUMBER: _ClassVar[int]
    MTIME_SERVER_FIELD_NUMBER: _ClassVar[int]
    MTIME_NS_FIELD_NUMBER: _ClassVar[int]
    mode: int
    uid: int
    gid: int
    size: int
    atime_server: bool
    atime_ns: int
    mtime_server: bool
    mtime_ns: int
    def __init__(self, mode: _Optional[int] = ..., uid: _Optional[int] = ..., gid: _Optional[int] = ..., size: _Optional[int] = ..., atime_server: bool = ..., atime_ns: _Optional[int] = ..., mtime_server: bool = ..., mtime_ns: _Optional[int] = ...) -> None: ...
