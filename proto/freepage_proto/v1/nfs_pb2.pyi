from freepage_proto.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StableHow(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STABLE_HOW_UNSTABLE: _ClassVar[StableHow]
    STABLE_HOW_DATA_SYNC: _ClassVar[StableHow]
    STABLE_HOW_FILE_SYNC: _ClassVar[StableHow]

class CreateMode3(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CREATE_MODE3_UNCHECKED: _ClassVar[CreateMode3]
    CREATE_MODE3_GUARDED: _ClassVar[CreateMode3]
    CREATE_MODE3_EXCLUSIVE: _ClassVar[CreateMode3]
STABLE_HOW_UNSTABLE: StableHow
STABLE_HOW_DATA_SYNC: StableHow
STABLE_HOW_FILE_SYNC: StableHow
CREATE_MODE3_UNCHECKED: CreateMode3
CREATE_MODE3_GUARDED: CreateMode3
CREATE_MODE3_EXCLUSIVE: CreateMode3

class NfsNullRequest(_message.Message):
    __slots__ = ("header",)
    HEADER_FIELD_NUMBER: _ClassVar[int]
    header: _common_pb2.CallHeader
    def __init__(self, header: _Optional[_Union[_common_pb2.CallHeader, _Mapping]] = ...) -> None: ...

class NfsNullResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetattrRequest(_message.Message):
    __slots__ = ("header", "object")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    header: _common_pb2.CallHeader
    object: bytes
    def __init__(self, header: _Optional[_Union[_common_pb2.CallHeader, _Mapping]] = ..., object: _Optional[bytes] = ...) -> None: ...

class GetattrResponse(_message.Message):
    __slots__ = ("status", "attributes")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.NfsStat3
    attributes: _common_pb2.Fattr3
    def __init__(self, status: _Optional[_Union[_common_pb2.NfsStat3, str]] = ..., attributes: _Optional[_Union[_common_pb2.Fattr3, _Mapping]] = ...) -> None: ...

class SetattrRequest(_message.Message):
    __slots__ = ("header", "object", "new_attributes", "guard_ctime_ns")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    NEW_ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    GUARD_CTIME_NS_FIELD_NUMBER: _ClassVar[int]
    header: _common_pb2.CallHeader
    object: bytes
    new_attributes: _common_pb2.Sattr3
    guard_ctime_ns: int
    def __init__(self, header: _Optional[_Union[_common_pb2.CallHeader, _Mapping]] = ..., object: _Optional[bytes] = ..., new_attributes: _Optional[_Union[_common_pb2.Sattr3, _Mapping]] = ..., guard_ctime_ns: _Optional[int] = ...) -> None: ...

class SetattrResponse(_message.Message):
    __slots__ = ("status", "wcc")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    WCC_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.NfsStat3
    wcc: _common_pb2.WccData
    def __init__(self, status: _Optional[_Union[_common_pb2.NfsStat3, str]] = ..., wcc: _Optional[_Union[_common_pb2.WccData, _Mapping]] = ...) -> None: ...

class LookupRequest(_message.Message):
    __slots__ = ("header", "dir", "name")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    DIR_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    header: _common_pb2.CallHeader
    dir: bytes
    name: bytes
    def __init__(self, header: _Optional[_Union[_common_pb2.CallHeader, _Mapping]] = ..., dir: _Optional[bytes] = ..., name: _Optional[bytes] = ...) -> None: ...

class LookupResponse(_message.Message):
    __slots__ = ("status", "object", "attributes", "dir_attributes")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    DIR_ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.NfsStat3
    object: bytes
    attributes: _common_pb2.Fattr3
    dir_attributes: _common_pb2.Fattr3
    def __init__(self, status: _Optional[_Union[_common_pb2.NfsStat3, str]] = ..., object: _Optional[bytes] = ..., attributes: _Optional[_Union[_common_pb2.Fattr3, _Mapping]] = ..., dir_attributes: _Optional[_Union[_common_pb2.Fattr3, _Mapping]] = ...) -> None: ...

class AccessRequest(_message.Message):
    __slots__ = ("header", "object", "access")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    ACCESS_FIELD_NUMBER: _ClassVar[int]
    header: _common_pb2.CallHeader
    object: bytes
    access: int
    def __init__(self, header: _Optional[_Union[_common_pb2.CallHeader, _Mapping]] = ..., object: _Optional[bytes] = ..., access: _Optional[int] = ...) -> None: ...

class AccessResponse(_message.Message):
    __slots__ = ("status", "attributes", "access")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    ACCESS_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.NfsStat3
    attributes: _common_pb2.Fattr3
    access: int
    def __init__(self, status: _Optional[_Union[_common_pb2.NfsStat3, str]] = ..., attributes: _Optional[_Union[_common_pb2.Fattr3, _Mapping]] = ..., access: _Optional[int] = ...) -> None: ...

class ReadlinkRequest(_message.Message):
    __slots__ = ("header", "symlink")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    SYMLINK_FIELD_NUMBER: _ClassVar[int]
    header: _common_pb2.CallHeader
    symlink: bytes
    def __init__(self, header: _Optional[_Union[_common_pb2.CallHeader, _Mapping]] = ..., symlink: _Optional[bytes] = ...) -> None: ...

class ReadlinkResponse(_message.Message):
    __slots__ = ("status", "attributes", "path")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.NfsStat3
    attributes: _common_pb2.Fattr3
    path: bytes
    def __init__(self, status: _Optional[_Union[_common_pb2.NfsStat3, str]] = ..., attributes: _Optional[_Union[_common_pb2.Fattr3, _Mapping]] = ..., path: _Optional[bytes] = ...) -> None: ...

class ReadRequest(_message.Message):
    __slots__ = ("header", "file", "offset", "count")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    header: _common_pb2.CallHeader
    file: bytes
    offset: int
    count: int
    def __init__(self, header: _Optional[_Union[_common_pb2.CallHeader, _Mapping]] = ..., file: _Optional[bytes] = ..., offset: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class ReadResponse(_message.Message):
    __slots__ = ("status", "attributes", "count", "eof", "data")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    EOF_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.NfsStat3
    attributes: _common_pb2.Fattr3
    count: int
    eof: bool
    data: bytes
    def __init__(self, status: _Optional[_Union[_common_pb2.NfsStat3, str]] = ..., attributes: _Optional[_Union[_common_pb2.Fattr3, _Mapping]] = ..., count: _Optional[int] = ..., eof: bool = ..., data: _Optional[bytes] = ...) -> None: ...

class WriteRequest(_message.Message):
    __slots__ = ("header", "file", "offset", "count", "stable", "data")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    STABLE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    header: _common_pb2.CallHeader
    file: bytes
    offset: int
    count: int
    stable: StableHow
    data: bytes
    def __init__(self, header: _Optional[_Union[_common_pb2.CallHeader, _Mapping]] = ..., file: _Optional[bytes] = ..., offset: _Optional[int] = ..., count: _Optional[int] = ..., stable: _Optional[_Union[StableHow, str]] = ..., data: _Optional[bytes] = ...) -> None: ...

class WriteResponse(_message.Message):
    __slots__ = ("status", "wcc", "count", "committed", "verf")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    WCC_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    VERF_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.NfsStat3
    wcc: _common_pb2.WccData
    count: int
    committed: StableHow
    verf: bytes
    def __init__(self, status: _Optional[_Union[_common_pb2.NfsStat3, str]] = ..., wcc: _Optional[_Union[_common_pb2.WccData, _Mapping]] = ..., count: _Optional[int] = ..., committed: _Optional[_Union[StableHow, str]] = ..., verf: _Optional[bytes] = ...) -> None: ...

class CreateRequest(_message.Message):
    __slots__ = ("header", "dir", "name", "mode", "attributes", "verf")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    DIR_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    VERF_FIELD_NUMBER: _ClassVar[int]
    header: _common_pb2.CallHeader
    dir: bytes
    name: bytes
    mode: CreateMode3
    attributes: _common_pb2.Sattr3
    verf: bytes
    def __init__(self, header: _Optional[_Union[_common_pb2.CallHeader, _Mapping]] = ..., dir: _Optional[bytes] = ..., name: _Optional[bytes] = ..., mode: _Optional[_Union[CreateMode3, str]] = ..., attributes: _Optional[_Union[_common_pb2.Sattr3, _Mapping]] = ..., verf: _Optional[bytes] = ...) -> None: ...

class CreateResponse(_message.Message):
    __slots__ = ("status", "object", "attributes", "dir_wcc")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    DIR_WCC_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.NfsStat3
    object: bytes
    attributes: _common_pb2.Fattr3
    dir_wcc: _common_pb2.WccData
    def __init__(self, status: _Optional[_Union[_common_pb2.NfsStat3, str]] = ..., object: _Optional[bytes] = ..., attributes: _Optional[_Union[_common_pb2.Fattr3, _Mapping]] = ..., dir_wcc: _Optional[_Union[_common_pb2.WccData, _Mapping]] = ...) -> None: ...

class MkdirRequest(_message.Message):
    __slots__ = ("header", "dir", "name", "attributes")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    DIR_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    header: _common_pb2.CallHeader
    dir: bytes
    name: bytes
    attributes: _common_pb2.Sattr3
    def __init__(self, header: _Optional[_Union[_common_pb2.CallHeader, _Mapping]] = ..., dir: _Optional[bytes] = ..., name: _Optional[bytes] = ..., attributes: _Optional[_Union[_common_pb2.Sattr3, _Mapping]] = ...) -> None: ...

class MkdirResponse(_message.Message):
    __slots__ = ("status", "object", "attributes", "dir_wcc")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    DIR_WCC_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.NfsStat3
    object: bytes
    attributes: _common_pb2.Fattr3
    dir_wcc: _common_pb2.WccData
    def __init__(self, status: _Optional[_Union[_common_pb2.NfsStat3, str]] = ..., object: _Optional[bytes] = ..., attributes: _Optional[_Union[_common_pb2.Fattr3, _Mapping]] = ..., dir_wcc: _Optional[_Union[_common_pb2.WccData, _Mapping]] = ...) -> None: ...

class SymlinkRequest(_message.Message):
    __slots__ = ("header", "dir", "name", "attributes", "path")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    DIR_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    header: _common_pb2.CallHeader
    dir: bytes
    name: bytes
    attributes: _common_pb2.Sattr3
    path: bytes
    def __init__(self, header: _Optional[_Union[_common_pb2.CallHeader, _Mapping]] = ..., dir: _Optional[bytes] = ..., name: _Optional[bytes] = ..., attributes: _Optional[_Union[_common_pb2.Sattr3, _Mapping]] = ..., path: _Optional[bytes] = ...) -> None: ...

class SymlinkResponse(_message.Message):
    __slots__ = ("status", "object", "attributes", "dir_wcc")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    DIR_WCC_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.NfsStat3
    object: bytes
    attributes: _common_pb2.Fattr3
    dir_wcc: _common_pb2.WccData
    def __init__(self, status: _Optional[_Union[_common_pb2.NfsStat3, str]] = ..., object: _Optional[bytes] = ..., attributes: _Optional[_Union[_common_pb2.Fattr3, _Mapping]] = ..., dir_wcc: _Optional[_Union[_common_pb2.WccData, _Mapping]] = ...) -> None: ...

class MknodRequest(_message.Message):
    __slots__ = ("header", "dir", "name", "type", "attributes", "rdev")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    DIR_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    RDEV_FIELD_NUMBER: _ClassVar[int]
    header: _common_pb2.CallHeader
    dir: bytes
    name: bytes
    type: _common_pb2.Ftype3
    attributes: _common_pb2.Sattr3
    rdev: _common_pb2.Specdata3
    def __init__(self, header: _Optional[_Union[_common_pb2.CallHeader, _Mapping]] = ..., dir: _Optional[bytes] = ..., name: _Optional[bytes] = ..., type: _Optional[_Union[_common_pb2.Ftype3, str]] = ..., attributes: _Optional[_Union[_common_pb2.Sattr3, _Mapping]] = ..., rdev: _Optional[_Union[_common_pb2.Specdata3, _Mapping]] = ...) -> None: ...

class MknodResponse(_message.Message):
    __slots__ = ("status", "object", "attributes", "dir_wcc")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    DIR_WCC_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.NfsStat3
    object: bytes
    attributes: _common_pb2.Fattr3
    dir_wcc: _common_pb2.WccData
    def __init__(self, status: _Optional[_Union[_common_pb2.NfsStat3, str]] = ..., object: _Optional[bytes] = ..., attributes: _Optional[_Union[_common_pb2.Fattr3, _Mapping]] = ..., dir_wcc: _Optional[_Union[_common_pb2.WccData, _Mapping]] = ...) -> None: ...

class RemoveRequest(_message.Message):
    __slots__ = ("header", "dir", "name")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    DIR_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    header: _common_pb2.CallHeader
    dir: bytes
    name: bytes
    def __init__(self, header: _Optional[_Union[_common_pb2.CallHeader, _Mapping]] = ..., dir: _Optional[bytes] = ..., name: _Optional[bytes] = ...) -> None: ...

class RemoveResponse(_message.Message):
    __slots__ = ("status", "dir_wcc")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    DIR_WCC_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.NfsStat3
    dir_wcc: _common_pb2.WccData
    def __init__(self, status: _Optional[_Union[_common_pb2.NfsStat3, str]] = ..., dir_wcc: _Optional[_Union[_common_pb2.WccData, _Mapping]] = ...) -> None: ...

class RmdirRequest(_message.Message):
    __slots__ = ("header", "dir", "name")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    DIR_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    header: _common_pb2.CallHeader
    dir: bytes
    name: bytes
    def __init__(self, header: _Optional[_Union[_common_pb2.CallHeader, _Mapping]] = ..., dir: _Optional[bytes] = ..., name: _Optional[bytes] = ...) -> None: ...

class RmdirResponse(_message.Message):
    __slots__ = ("status", "dir_wcc")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    DIR_WCC_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.NfsStat3
    dir_wcc: _common_pb2.WccData
    def __init__(self, status: _Optional[_Union[_common_pb2.NfsStat3, str]] = ..., dir_wcc: _Optional[_Union[_common_pb2.WccData, _Mapping]] = ...) -> None: ...

class RenameRequest(_message.Message):
    __slots__ = ("header", "from_dir", "from_name", "to_dir", "to_name")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    FROM_DIR_FIELD_NUMBER: _ClassVar[int]
    FROM_NAME_FIELD_NUMBER: _ClassVar[int]
    TO_DIR_FIELD_NUMBER: _ClassVar[int]
    TO_NAME_FIELD_NUMBER: _ClassVar[int]
    header: _common_pb2.CallHeader
    from_dir: bytes
    from_name: bytes
    to_dir: bytes
    to_name: bytes
    def __init__(self, header: _Optional[_Union[_common_pb2.CallHeader, _Mapping]] = ..., from_dir: _Optional[bytes] = ..., from_name: _Optional[bytes] = ..., to_dir: _Optional[bytes] = ..., to_name: _Optional[bytes] = ...) -> None: ...

class RenameResponse(_message.Message):
    __slots__ = ("status", "from_dir_wcc", "to_dir_wcc")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    FROM_DIR_WCC_FIELD_NUMBER: _ClassVar[int]
    TO_DIR_WCC_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.NfsStat3
    from_dir_wcc: _common_pb2.WccData
    to_dir_wcc: _common_pb2.WccData
    def __init__(self, status: _Optional[_Union[_common_pb2.NfsStat3, str]] = ..., from_dir_wcc: _Optional[_Union[_common_pb2.WccData, _Mapping]] = ..., to_dir_wcc: _Optional[_Union[_common_pb2.WccData, _Mapping]] = ...) -> None: ...

class LinkRequest(_message.Message):
    __slots__ = ("header", "file", "dir", "name")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    DIR_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    header: _common_pb2.CallHeader
    file: bytes
    dir: bytes
    name: bytes
    def __init__(self, header: _Optional[_Union[_common_pb2.CallHeader, _Mapping]] = ..., file: _Optional[bytes] = ..., dir: _Optional[bytes] = ..., name: _Optional[bytes] = ...) -> None: ...

class LinkResponse(_message.Message):
    __slots__ = ("status", "attributes", "dir_wcc")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    DIR_WCC_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.NfsStat3
    attributes: _common_pb2.Fattr3
    dir_wcc: _common_pb2.WccData
    def __init__(self, status: _Optional[_Union[_common_pb2.NfsStat3, str]] = ..., attributes: _Optional[_Union[_common_pb2.Fattr3, _Mapping]] = ..., dir_wcc: _Optional[_Union[_common_pb2.WccData, _Mapping]] = ...) -> None: ...

class ReaddirRequest(_message.Message):
    __slots__ = ("header", "dir", "cookie", "cookieverf", "count")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    DIR_FIELD_NUMBER: _ClassVar[int]
    COOKIE_FIELD_NUMBER: _ClassVar[int]
    COOKIEVERF_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    header: _common_pb2.CallHeader
    dir: bytes
    cookie: int
    cookieverf: bytes
    count: int
    def __init__(self, header: _Optional[_Union[_common_pb2.CallHeader, _Mapping]] = ..., dir: _Optional[bytes] = ..., cookie: _Optional[int] = ..., cookieverf: _Optional[bytes] = ..., count: _Optional[int] = ...) -> None: ...

class DirEntry3(_message.Message):
    __slots__ = ("fileid", "name", "cookie", "attributes", "object")
    FILEID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    COOKIE_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    fileid: int
    name: bytes
    cookie: int
    attributes: _common_pb2.Fattr3
    object: bytes
    def __init__(self, fileid: _Optional[int] = ..., name: _Optional[bytes] = ..., cookie: _Optional[int] = ..., attributes: _Optional[_Union[_common_pb2.Fattr3, _Mapping]] = ..., object: _Optional[bytes] = ...) -> None: ...

class ReaddirResponse(_message.Message):
    __slots__ = ("status", "dir_attributes", "cookieverf", "entries", "eof")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    DIR_ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    COOKIEVERF_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    EOF_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.NfsStat3
    dir_attributes: _common_pb2.Fattr3
    cookieverf: bytes
    entries: _containers.RepeatedCompositeFieldContainer[DirEntry3]
    eof: bool
    def __init__(self, status: _Optional[_Union[_common_pb2.NfsStat3, str]] = ..., dir_attributes: _Optional[_Union[_common_pb2.Fattr3, _Mapping]] = ..., cookieverf: _Optional[bytes] = ..., entries: _Optional[_Iterable[_Union[DirEntry3, _Mapping]]] = ..., eof: bool = ...) -> None: ...

class ReaddirplusRequest(_message.Message):
    __slots__ = ("header", "dir", "cookie", "cookieverf", "dircount", "maxcount")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    DIR_FIELD_NUMBER: _ClassVar[int]
    COOKIE_FIELD_NUMBER: _ClassVar[int]
    COOKIEVERF_FIELD_NUMBER: _ClassVar[int]
    DIRCOUNT_FIELD_NUMBER: _ClassVar[int]
    MAXCOUNT_FIELD_NUMBER: _ClassVar[int]
    header: _common_pb2.CallHeader
    dir: bytes
    cookie: int
    cookieverf: bytes
    dircount: int
    maxcount: int
    def __init__(self, header: _Optional[_Union[_common_pb2.CallHeader, _Mapping]] = ..., dir: _Optional[bytes] = ..., cookie: _Optional[int] = ..., cookieverf: _Optional[bytes] = ..., dircount: _Optional[int] = ..., maxcount: _Optional[int] = ...) -> None: ...

class ReaddirplusResponse(_message.Message):
    __slots__ = ("status", "dir_attributes", "cookieverf", "entries", "eof")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    DIR_ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    COOKIEVERF_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    EOF_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.NfsStat3
    dir_attributes: _common_pb2.Fattr3
    cookieverf: bytes
    entries: _containers.RepeatedCompositeFieldContainer[DirEntry3]
    eof: bool
    def __init__(self, status: _Optional[_Union[_common_pb2.NfsStat3, str]] = ..., dir_attributes: _Optional[_Union[_common_pb2.Fattr3, _Mapping]] = ..., cookieverf: _Optional[bytes] = ..., entries: _Optional[_Iterable[_Union[DirEntry3, _Mapping]]] = ..., eof: bool = ...) -> None: ...

class FsstatRequest(_message.Message):
    __slots__ = ("header", "root")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    header: _common_pb2.CallHeader
    root: bytes
    def __init__(self, header: _Optional[_Union[_common_pb2.CallHeader, _Mapping]] = ..., root: _Optional[bytes] = ...) -> None: ...

class FsstatResponse(_message.Message):
    __slots__ = ("status", "attributes", "tbytes", "fbytes", "abytes", "tfiles", "ffiles", "afiles", "invarsec")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    TBYTES_FIELD_NUMBER: _ClassVar[int]
    FBYTES_FIELD_NUMBER: _ClassVar[int]
    ABYTES_FIELD_NUMBER: _ClassVar[int]
    TFILES_FIELD_NUMBER: _ClassVar[int]
    FFILES_FIELD_NUMBER: _ClassVar[int]
    AFILES_FIELD_NUMBER: _ClassVar[int]
    INVARSEC_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.NfsStat3
    attributes: _common_pb2.Fattr3
    tbytes: int
    fbytes: int
    abytes: int
    tfiles: int
    ffiles: int
    afiles: int
    invarsec: int
    def __init__(self, status: _Optional[_Union[_common_pb2.NfsStat3, str]] = ..., attributes: _Optional[_Union[_common_pb2.Fattr3, _Mapping]] = ..., tbytes: _Optional[int] = ..., fbytes: _Optional[int] = ..., abytes: _Optional[int] = ..., tfiles: _Optional[int] = ..., ffiles: _Optional[int] = ..., afiles: _Optional[int] = ..., invarsec: _Optional[int] = ...) -> None: ...

class FsinfoRequest(_message.Message):
    __slots__ = ("header", "root")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    header: _common_pb2.CallHeader
    root: bytes
    def __init__(self, header: _Optional[_Union[_common_pb2.CallHeader, _Mapping]] = ..., root: _Optional[bytes] = ...) -> None: ...

class FsinfoResponse(_message.Message):
    __slots__ = ("status", "attributes", "rtmax", "rtpref", "rtmult", "wtmax", "wtpref", "wtmult", "dtpref", "maxfilesize", "time_delta_ns", "properties")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    RTMAX_FIELD_NUMBER: _ClassVar[int]
    RTPREF_FIELD_NUMBER: _ClassVar[int]
    RTMULT_FIELD_NUMBER: _ClassVar[int]
    WTMAX_FIELD_NUMBER: _ClassVar[int]
    WTPREF_FIELD_NUMBER: _ClassVar[int]
    WTMULT_FIELD_NUMBER: _ClassVar[int]
    DTPREF_FIELD_NUMBER: _ClassVar[int]
    MAXFILESIZE_FIELD_NUMBER: _ClassVar[int]
    TIME_DELTA_NS_FIELD_NUMBER: _ClassVar[int]
    PROPERTIES_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.NfsStat3
    attributes: _common_pb2.Fattr3
    rtmax: int
    rtpref: int
    rtmult: int
    wtmax: int
    wtpref: int
    wtmult: int
    dtpref: int
    maxfilesize: int
    time_delta_ns: int
    properties: int
    def __init__(self, status: _Optional[_Union[_common_pb2.NfsStat3, str]] = ..., attributes: _Optional[_Union[_common_pb2.Fattr3, _Mapping]] = ..., rtmax: _Optional[int] = ..., rtpref: _Optional[int] = ..., rtmult: _Optional[int] = ..., wtmax: _Optional[int] = ..., wtpref: _Optional[int] = ..., wtmult: _Optional[int] = ..., dtpref: _Optional[int] = ..., maxfilesize: _Optional[int] = ..., time_delta_ns: _Optional[int] = ..., properties: _Optional[int] = ...) -> None: ...

class PathconfRequest(_message.Message):
    __slots__ = ("header", "object")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    header: _common_pb2.CallHeader
    object: bytes
    def __init__(self, header: _Optional[_Union[_common_pb2.CallHeader, _Mapping]] = ..., object: _Optional[bytes] = ...) -> None: ...

class PathconfResponse(_message.Message):
    __slots__ = ("status", "attributes", "linkmax", "name_max", "no_trunc", "chown_restricted", "case_insensitive", "case_preserving")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    LINKMAX_FIELD_NUMBER: _ClassVar[int]
    NAME_MAX_FIELD_NUMBER: _ClassVar[int]
    NO_TRUNC_FIELD_NUMBER: _ClassVar[int]
    CHOWN_RESTRICTED_FIELD_NUMBER: _ClassVar[int]
    CASE_INSENSITIVE_FIELD_NUMBER: _ClassVar[int]
    CASE_PRESERVING_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.NfsStat3
    attributes: _common_pb2.Fattr3
    linkmax: int
    name_max: int
    no_trunc: bool
    chown_restricted: bool
    case_insensitive: bool
    case_preserving: bool
    def __init__(self, status: _Optional[_Union[_common_pb2.NfsStat3, str]] = ..., attributes: _Optional[_Union[_common_pb2.Fattr3, _Mapping]] = ..., linkmax: _Optional[int] = ..., name_max: _Optional[int] = ..., no_trunc: bool = ..., chown_restricted: bool = ..., case_insensitive: bool = ..., case_preserving: bool = ...) -> None: ...

class CommitRequest(_message.Message):
    __slots__ = ("header", "file", "offset", "count")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    header: _common_pb2.CallHeader
    file: bytes
    offset: int
    count: int
    def __init__(self, header: _Optional[_Union[_common_pb2.CallHeader, _Mapping]] = ..., file: _Optional[bytes] = ..., offset: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class CommitResponse(_message.Message):
    __slots__ = ("status", "wcc", "verf")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    WCC_FIELD_NUMBER: _ClassVar[int]
    VERF_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.NfsStat3
    wcc: _common_pb2.WccData
    verf: bytes
    def __init__(self, status: _Optional[_Union[_common_pb2.NfsStat3, str]] = ..., wcc: _Optional[_Union[_common_pb2.WccData, _Mapping]] = ..., verf: _Optional[bytes] = ...) -> None: ...
