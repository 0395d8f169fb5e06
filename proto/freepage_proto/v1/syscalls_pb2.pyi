from freepage_proto.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SysMountRequest(_message.Message):
    __slots__ = ("source", "mountpoint", "options")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    MOUNTPOINT_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    source: str
    mountpoint: str
    options: str
    def __init__(self, source: _Optional[str] = ..., mountpoint: _Optional[str] = ..., options: _Optional[str] = ...) -> None: ...

class SysMountResponse(_message.Message):
    __slots__ = ("error", "message")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    error: int
    message: str
    def __init__(self, error: _Optional[int] = ..., message: _Optional[str] = ...) -> None: ...

class SysUmountRequest(_message.Message):
    __slots__ = ("mountpoint",)
    MOUNTPOINT_FIELD_NUMBER: _ClassVar[int]
    mountpoint: str
    def __init__(self, mountpoint: _Optional[str] = ...) -> None: ...

class SysUmountResponse(_message.Message):
    __slots__ = ("error", "leftovers")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    LEFTOVERS_FIELD_NUMBER: _ClassVar[int]
    error: int
    leftovers: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, error: _Optional[int] = ..., leftovers: _Optional[_Iterable[str]] = ...) -> None: ...

class SysCreateTaskRequest(_message.Message):
    __slots__ = ("cred",)
    CRED_FIELD_NUMBER: _ClassVar[int]
    cred: _common_pb2.AuthSys
    def __init__(self, cred: _Optional[_Union[_common_pb2.AuthSys, _Mapping]] = ...) -> None: ...

class SysCreateTaskResponse(_message.Message):
    __slots__ = ("task",)
    TASK_FIELD_NUMBER: _ClassVar[int]
    task: int
    def __init__(self, task: _Optional[int] = ...) -> None: ...

class SysExitTaskRequest(_message.Message):
    __slots__ = ("task",)
    TASK_FIELD_NUMBER: _ClassVar[int]
    task: int
    def __init__(self, task: _Optional[int] = ...) -> None: ...

class SysExitTaskResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Stat(_message.Message):
    __slots__ = ("mode", "nlink", "uid", "gid", "size", "blocks", "blksize", "ino", "rdev", "atime_ns", "mtime_ns", "ctime_ns")
    MODE_FIELD_NUMBER: _ClassVar[int]
    NLINK_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    GID_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    BLKSIZE_FIELD_NUMBER: _ClassVar[int]
    INO_FIELD_NUMBER: _ClassVar[int]
    RDEV_FIELD_NUMBER: _ClassVar[int]
    ATIME_NS_FIELD_NUMBER: _ClassVar[int]
    MTIME_NS_FIELD_NUMBER: _ClassVar[int]
    CTIME_NS_FIELD_NUMBER: _ClassVar[int]
    mode: int
    nlink: int
    uid: int
    gid: int
    size: int
    blocks: int
    blksize: int
    ino: int
    rdev: _common_pb2.Specdata3
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    def __init__(self, mode: _Optional[int] = ..., nlink: _Optional[int] = ..., uid: _Optional[int] = ..., gid: _Optional[int] = ..., size: _Optional[int] = ..., blocks: _Optional[int] = ..., blksize: _Optional[int] = ..., ino: _Optional[int] = ..., rdev: _Optional[_Union[_common_pb2.Specdata3, _Mapping]] = ..., atime_ns: _Optional[int] = ..., mtime_ns: _Optional[int] = ..., ctime_ns: _Optional[int] = ...) -> None: ...

class StatFs(_message.Message):
    __slots__ = ("bsize", "frsize", "blocks", "bfree", "bavail", "files", "ffree", "favail", "namemax")
    BSIZE_FIELD_NUMBER: _ClassVar[int]
    FRSIZE_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    BFREE_FIELD_NUMBER: _ClassVar[int]
    BAVAIL_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    FFREE_FIELD_NUMBER: _ClassVar[int]
    FAVAIL_FIELD_NUMBER: _ClassVar[int]
    NAMEMAX_FIELD_NUMBER: _ClassVar[int]
    bsize: int
    frsize: int
    blocks: int
    bfree: int
    bavail: int
    files: int
    ffree: int
    favail: int
    namemax: int
    def __init__(self, bsize: _Optional[int] = ..., frsize: _Optional[int] = ..., blocks: _Optional[int] = ..., bfree: _Optional[int] = ..., bavail: _Optional[int] = ..., files: _Optional[int] = ..., ffree: _Optional[int] = ..., favail: _Optional[int] = ..., namemax: _Optional[int] = ...) -> None: ...

class Dirent(_message.Message):
    __slots__ = ("name", "ino", "type")
    NAME_FIELD_NUMBER: _ClassVar[int]
    INO_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    name: bytes
    ino: int
    type: int
    def __init__(self, name: _Optional[bytes] = ..., ino: _Optional[int] = ..., type: _Optional[int] = ...) -> None: ...

class SysOpenRequest(_message.Message):
    __slots__ = ("task", "path", "flags", "mode")
    TASK_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    task: int
    path: bytes
    flags: int
    mode: int
    def __init__(self, task: _Optional[int] = ..., path: _Optional[bytes] = ..., flags: _Optional[int] = ..., mode: _Optional[int] = ...) -> None: ...

class SysOpenResponse(_message.Message):
    __slots__ = ("error", "fd")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    FD_FIELD_NUMBER: _ClassVar[int]
    error: int
    fd: int
    def __init__(self, error: _Optional[int] = ..., fd: _Optional[int] = ...) -> None: ...

class SysCloseRequest(_message.Message):
    __slots__ = ("task", "fd")
    TASK_FIELD_NUMBER: _ClassVar[int]
    FD_FIELD_NUMBER: _ClassVar[int]
    task: int
    fd: int
    def __init__(self, task: _Optional[int] = ..., fd: _Optional[int] = ...) -> None: ...

class SysCloseResponse(_message.Message):
    __slots__ = ("error",)
    ERROR_FIELD_NUMBER: _ClassVar[int]
    error: int
    def __init__(self, error: _Optional[int] = ...) -> None: ...

class SysReadRequest(_message.Message):
    __slots__ = ("task", "fd", "count", "discard")
    TASK_FIELD_NUMBER: _ClassVar[int]
    FD_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    DISCARD_FIELD_NUMBER: _ClassVar[int]
    task: int
    fd: int
    count: int
    discard: bool
    def __init__(self, task: _Optional[int] = ..., fd: _Optional[int] = ..., count: _Optional[int] = ..., discard: bool = ...) -> None: ...

class SysReadResponse(_message.Message):
    __slots__ = ("error", "data", "count")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    error: int
    data: bytes
    count: int
    def __init__(self, error: _Optional[int] = ..., data: _Optional[bytes] = ..., count: _Optional[int] = ...) -> None: ...

class SysPreadRequest(_message.Message):
    __slots__ = ("task", "fd", "count", "offset", "discard")
    TASK_FIELD_NUMBER: _ClassVar[int]
    FD_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DISCARD_FIELD_NUMBER: _ClassVar[int]
    task: int
    fd: int
    count: int
    offset: int
    discard: bool
    def __init__(self, task: _Optional[int] = ..., fd: _Optional[int] = ..., count: _Optional[int] = ..., offset: _Optional[int] = ..., discard: bool = ...) -> None: ...

class SysPreadResponse(_message.Message):
    __slots__ = ("error", "data", "count")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    error: int
    data: bytes
    count: int
    def __init__(self, error: _Optional[int] = ..., data: _Optional[bytes] = ..., count: _Optional[int] = ...) -> None: ...

class SysWriteRequest(_message.Message):
    __slots__ = ("task", "fd", "data")
    TASK_FIELD_NUMBER: _ClassVar[int]
    FD_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    task: int
    fd: int
    data: bytes
    def __init__(self, task: _Optional[int] = ..., fd: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class SysWriteResponse(_message.Message):
    __slots__ = ("error", "count")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    error: int
    count: int
    def __init__(self, error: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class SysPwriteRequest(_message.Message):
    __slots__ = ("task", "fd", "data", "offset")
    TASK_FIELD_NUMBER: _ClassVar[int]
    FD_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    task: int
    fd: int
    data: bytes
    offset: int
    def __init__(self, task: _Optional[int] = ..., fd: _Optional[int] = ..., data: _Optional[bytes] = ..., offset: _Optional[int] = ...) -> None: ...

class SysPwriteResponse(_message.Message):
    __slots__ = ("error", "count")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    error: int
    count: int
    def __init__(self, error: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class SysLseekRequest(_message.Message):
    __slots__ = ("task", "fd", "offset", "whence")
    TASK_FIELD_NUMBER: _ClassVar[int]
    FD_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    WHENCE_FIELD_NUMBER: _ClassVar[int]
    task: int
    fd: int
    offset: int
    whence: int
    def __init__(self, task: _Optional[int] = ..., fd: _Optional[int] = ..., offset: _Optional[int] = ..., whence: _Optional[int] = ...) -> None: ...

class SysLseekResponse(_message.Message):
    __slots__ = ("error", "offset")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    error: int
    offset: int
    def __init__(self, error: _Optional[int] = ..., offset: _Optional[int] = ...) -> None: ...

class SysFsyncRequest(_message.Message):
    __slots__ = ("task", "fd")
    TASK_FIELD_NUMBER: _ClassVar[int]
    FD_FIELD_NUMBER: _ClassVar[int]
    task: int
    fd: int
    def __init__(self, task: _Optional[int] = ..., fd: _Optional[int] = ...) -> None: ...

class SysFsyncResponse(_message.Message):
    __slots__ = ("error",)
    ERROR_FIELD_NUMBER: _ClassVar[int]
    error: int
    def __init__(self, error: _Optional[int] = ...) -> None: ...

class SysFdatasyncRequest(_message.Message):
    __slots__ = ("task", "fd")
    TASK_FIELD_NUMBER: _ClassVar[int]
    FD_FIELD_NUMBER: _ClassVar[int]
    task: int
    fd: int
    def __init__(self, task: _Optional[int] = ..., fd: _Optional[int] = ...) -> None: ...

class SysFdatasyncResponse(_message.Message):
    __slots__ = ("error",)
    ERROR_FIELD_NUMBER: _ClassVar[int]
    error: int
    def __init__(self, error: _Optional[int] = ...) -> None: ...

class SysFtruncateRequest(_message.Message):
    __slots__ = ("task", "fd", "length")
    TASK_FIELD_NUMBER: _ClassVar[int]
    FD_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    task: int
    fd: int
    length: int
    def __init__(self, task: _Optional[int] = ..., fd: _Optional[int] = ..., length: _Optional[int] = ...) -> None: ...

class SysFtruncateResponse(_message.Message):
    __slots__ = ("error",)
    ERROR_FIELD_NUMBER: _ClassVar[int]
    error: int
    def __init__(self, error: _Optional[int] = ...) -> None: ...

class SysTruncateRequest(_message.Message):
    __slots__ = ("task", "path", "length")
    TASK_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    task: int
    path: bytes
    length: int
    def __init__(self, task: _Optional[int] = ..., path: _Optional[bytes] = ..., length: _Optional[int] = ...) -> None: ...

class SysTruncateResponse(_message.Message):
    __slots__ = ("error",)
    ERROR_FIELD_NUMBER: _ClassVar[int]
    error: int
    def __init__(self, error: _Optional[int] = ...) -> None: ...

class SysFallocateRequest(_message.Message):
    __slots__ = ("task", "fd", "mode", "offset", "length")
    TASK_FIELD_NUMBER: _ClassVar[int]
    FD_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    task: int
    fd: int
    mode: int
    offset: int
    length: int
    def __init__(self, task: _Optional[int] = ..., fd: _Optional[int] = ..., mode: _Optional[int] = ..., offset: _Optional[int] = ..., length: _Optional[int] = ...) -> None: ...

class SysFallocateResponse(_message.Message):
    __slots__ = ("error",)
    ERROR_FIELD_NUMBER: _ClassVar[int]
    error: int
    def __init__(self, error: _Optional[int] = ...) -> None: ...

class SysStatRequest(_message.Message):
    __slots__ = ("task", "path")
    TASK_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    task: int
    path: bytes
    def __init__(self, task: _Optional[int] = ..., path: _Optional[bytes] = ...) -> None: ...

class SysStatResponse(_message.Message):
    __slots__ = ("error", "stat")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    STAT_FIELD_NUMBER: _ClassVar[int]
    error: int
    stat: Stat
    def __init__(self, error: _Optional[int] = ..., stat: _Optional[_Union[Stat, _Mapping]] = ...) -> None: ...

class SysLstatRequest(_message.Message):
    __slots__ = ("task", "path")
    TASK_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    task: int
    path: bytes
    def __init__(self, task: _Optional[int] = ..., path: _Optional[bytes] = ...) -> None: ...

class SysLstatResponse(_message.Message):
    __slots__ = ("error", "stat")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    STAT_FIELD_NUMBER: _ClassVar[int]
    error: int
    stat: Stat
    def __init__(self, error: _Optional[int] = ..., stat: _Optional[_Union[Stat, _Mapping]] = ...) -> None: ...

class SysFstatRequest(_message.Message):
    __slots__ = ("task", "fd")
    TASK_FIELD_NUMBER: _ClassVar[int]
    FD_FIELD_NUMBER: _ClassVar[int]
    task: int
    fd: int
    def __init__(self, task: _Optional[int] = ..., fd: _Optional[int] = ...) -> None: ...

class SysFstatResponse(_message.Message):
    __slots__ = ("error", "stat")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    STAT_FIELD_NUMBER: _ClassVar[int]
    error: int
    stat: Stat
    def __init__(self, error: _Optional[int] = ..., stat: _Optional[_Union[Stat, _Mapping]] = ...) -> None: ...

class SysAccessRequest(_message.Message):
    __slots__ = ("task", "path", "mode")
    TASK_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    task: int
    path: bytes
    mode: int
    def __init__(self, task: _Optional[int] = ..., path: _Optional[bytes] = ..., mode: _Optional[int] = ...) -> None: ...

class SysAccessResponse(_message.Message):
    __slots__ = ("error",)
    ERROR_FIELD_NUMBER: _ClassVar[int]
    error: int
    def __init__(self, error: _Optional[int] = ...) -> None: ...

class SysStatfsRequest(_message.Message):
    __slots__ = ("task", "path")
    TASK_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    task: int
    path: bytes
    def __init__(self, task: _Optional[int] = ..., path: _Optional[bytes] = ...) -> None: ...

class SysStatfsResponse(_message.Message):
    __slots__ = ("error", "statfs")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    STATFS_FIELD_NUMBER: _ClassVar[int]
    error: int
    statfs: StatFs
    def __init__(self, error: _Optional[int] = ..., statfs: _Optional[_Union[StatFs, _Mapping]] = ...) -> None: ...

class SysGetdentsRequest(_message.Message):
    __slots__ = ("task", "fd", "buffer_size")
    TASK_FIELD_NUMBER: _ClassVar[int]
    FD_FIELD_NUMBER: _ClassVar[int]
    BUFFER_SIZE_FIELD_NUMBER: _ClassVar[int]
    task: int
    fd: int
    buffer_size: int
    def __init__(self, task: _Optional[int] = ..., fd: _Optional[int] = ..., buffer_size: _Optional[int] = ...) -> None: ...

class SysGetdentsResponse(_message.Message):
    __slots__ = ("error", "entries")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    error: int
    entries: _containers.RepeatedCompositeFieldContainer[Dirent]
    def __init__(self, error: _Optional[int] = ..., entries: _Optional[_Iterable[_Union[Dirent, _Mapping]]] = ...) -> None: ...

class SysListdirRequest(_message.Message):
    __slots__ = ("task", "path")
    TASK_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    task: int
    path: bytes
    def __init__(self, task: _Optional[int] = ..., path: _Optional[bytes] = ...) -> None: ...

class SysListdirResponse(_message.Message):
    __slots__ = ("error", "names")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    error: int
    names: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, error: _Optional[int] = ..., names: _Optional[_Iterable[bytes]] = ...) -> None: ...

class SysMkdirRequest(_message.Message):
    __slots__ = ("task", "path", "mode")
    TASK_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    task: int
    path: bytes
    mode: int
    def __init__(self, task: _Optional[int] = ..., path: _Optional[bytes] = ..., mode: _Optional[int] = ...) -> None: ...

class SysMkdirResponse(_message.Message):
    __slots__ = ("error",)
    ERROR_FIELD_NUMBER: _ClassVar[int]
    error: int
    def __init__(self, error: _Optional[int] = ...) -> None: ...

class SysRmdirRequest(_message.Message):
    __slots__ = ("task", "path")
    TASK_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    task: int
    path: bytes
    def __init__(self, task: _Optional[int] = ..., path: _Optional[bytes] = ...) -> None: ...

class SysRmdirResponse(_message.Message):
    __slots__ = ("error",)
    ERROR_FIELD_NUMBER: _ClassVar[int]
    error: int
    def __init__(self, error: _Optional[int] = ...) -> None: ...

class SysUnlinkRequest(_message.Message):
    __slots__ = ("task", "path")
    TASK_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    task: int
    path: bytes
    def __init__(self, task: _Optional[int] = ..., path: _Optional[bytes] = ...) -> None: ...

class SysUnlinkResponse(_message.Message):
    __slots__ = ("error",)
    ERROR_FIELD_NUMBER: _ClassVar[int]
    error: int
    def __init__(self, error: _Optional[int] = ...) -> None: ...

class SysReadlinkRequest(_message.Message):
    __slots__ = ("task", "path")
    TASK_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    task: int
    path: bytes
    def __init__(self, task: _Optional[int] = ..., path: _Optional[bytes] = ...) -> None: ...

class SysReadlinkResponse(_message.Message):
    __slots__ = ("error", "target")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    error: int
    target: bytes
    def __init__(self, error: _Optional[int] = ..., target: _Optional[bytes] = ...) -> None: ...

class SysRenameRequest(_message.Message):
    __slots__ = ("task", "old_path", "new_path")
    TASK_FIELD_NUMBER: _ClassVar[int]
    OLD_PATH_FIELD_NUMBER: _ClassVar[int]
    NEW_PATH_FIELD_NUMBER: _ClassVar[int]
    task: int
    old_path: bytes
    new_path: bytes
    def __init__(self, task: _Optional[int] = ..., old_path: _Optional[bytes] = ..., new_path: _Optional[bytes] = ...) -> None: ...

class SysRenameResponse(_message.Message):
    __slots__ = ("error",)
    ERROR_FIELD_NUMBER: _ClassVar[int]
    error: int
    def __init__(self, error: _Optional[int] = ...) -> None: ...

class SysLinkRequest(_message.Message):
    __slots__ = ("task", "old_path", "new_path")
    TASK_FIELD_NUMBER: _ClassVar[int]
    OLD_PATH_FIELD_NUMBER: _ClassVar[int]
    NEW_PATH_FIELD_NUMBER: _ClassVar[int]
    task: int
    old_path: bytes
    new_path: bytes
    def __init__(self, task: _Optional[int] = ..., old_path: _Optional[bytes] = ..., new_path: _Optional[bytes] = ...) -> None: ...

class SysLinkResponse(_message.Message):
    __slots__ = ("error",)
    ERROR_FIELD_NUMBER: _ClassVar[int]
    error: int
    def __init__(self, error: _Optional[int] = ...) -> None: ...

class SysSymlinkRequest(_message.Message):
    __slots__ = ("task", "target", "path")
    TASK_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    task: int
    target: bytes
    path: bytes
    def __init__(self, task: _Optional[int] = ..., target: _Optional[bytes] = ..., path: _Optional[bytes] = ...) -> None: ...

class SysSymlinkResponse(_message.Message):
    __slots__ = ("error",)
    ERROR_FIELD_NUMBER: _ClassVar[int]
    error: int
    def __init__(self, error: _Optional[int] = ...) -> None: ...

class SysMknodRequest(_message.Message):
    __slots__ = ("task", "path", "mode", "major", "minor")
    TASK_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    MAJOR_FIELD_NUMBER: _ClassVar[int]
    MINOR_FIELD_NUMBER: _ClassVar[int]
    task: int
    path: bytes
    mode: int
    major: int
    minor: int
    def __init__(self, task: _Optional[int] = ..., path: _Optional[bytes] = ..., mode: _Optional[int] = ..., major: _Optional[int] = ..., minor: _Optional[int] = ...) -> None: ...

class SysMknodResponse(_message.Message):
    __slots__ = ("error",)
    ERROR_FIELD_NUMBER: _ClassVar[int]
    error: int
    def __init__(self, error: _Optional[int] = ...) -> None: ...

class SysChmodRequest(_message.Message):
    __slots__ = ("task", "path", "mode")
    TASK_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    task: int
    path: bytes
    mode: int
    def __init__(self, task: _Optional[int] = ..., path: _Optional[bytes] = ..., mode: _Optional[int] = ...) -> None: ...

class SysChmodResponse(_message.Message):
    __slots__ = ("error",)
    ERROR_FIELD_NUMBER: _ClassVar[int]
    error: int
    def __init__(self, error: _Optional[int] = ...) -> None: ...

class SysChownRequest(_message.Message):
    __slots__ = ("task", "path", "uid", "gid")
    TASK_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    GID_FIELD_NUMBER: _ClassVar[int]
    task: int
    path: bytes
    uid: int
    gid: int
    def __init__(self, task: _Optional[int] = ..., path: _Optional[bytes] = ..., uid: _Optional[int] = ..., gid: _Optional[int] = ...) -> None: ...

class SysChownResponse(_message.Message):
    __slots__ = ("error",)
    ERROR_FIELD_NUMBER: _ClassVar[int]
    error: int
    def __init__(self, error: _Optional[int] = ...) -> None: ...

class SysUtimensRequest(_message.Message):
    __slots__ = ("task", "path", "atime_ns", "mtime_ns")
    TASK_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    ATIME_NS_FIELD_NUMBER: _ClassVar[int]
    MTIME_NS_FIELD_NUMBER: _ClassVar[int]
    task: int
    path: bytes
    atime_ns: int
    mtime_ns: int
    def __init__(self, task: _Optional[int] = ..., path: _Optional[bytes] = ..., atime_ns: _Optional[int] = ..., mtime_ns: _Optional[int] = ...) -> None: ...

class SysUtimensResponse(_message.Message):
    __slots__ = ("error",)
    ERROR_FIELD_NUMBER: _ClassVar[int]
    error: int
    def __init__(self, error: _Optional[int] = ...) -> None: ...

class SysFadviseRequest(_message.Message):
    __slots__ = ("task", "fd", "offset", "length", "advice")
    TASK_FIELD_NUMBER: _ClassVar[int]
    FD_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    ADVICE_FIELD_NUMBER: _ClassVar[int]
    task: int
    fd: int
    offset: int
    length: int
    advice: int
    def __init__(self, task: _Optional[int] = ..., fd: _Optional[int] = ..., offset: _Optional[int] = ..., length: _Optional[int] = ..., advice: _Optional[int] = ...) -> None: ...

class SysFadviseResponse(_message.Message):
    __slots__ = ("error",)
    ERROR_FIELD_NUMBER: _ClassVar[int]
    error: int
    def __init__(self, error: _Optional[int] = ...) -> None: ...

class SysFlockRequest(_message.Message):
    __slots__ = ("task", "fd", "operation")
    TASK_FIELD_NUMBER: _ClassVar[int]
    FD_FIELD_NUMBER: _ClassVar[int]
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    task: int
    fd: int
    operation: int
    def __init__(self, task: _Optional[int] = ..., fd: _Optional[int] = ..., operation: _Optional[int] = ...) -> None: ...

class SysFlockResponse(_message.Message):
    __slots__ = ("error",)
    ERROR_FIELD_NUMBER: _ClassVar[int]
    error: int
    def __init__(self, error: _Optional[int] = ...) -> None: ...

class SysLockfRequest(_message.Message):
    __slots__ = ("task", "fd", "command", "offset", "length")
    TASK_FIELD_NUMBER: _ClassVar[int]
    FD_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    task: int
    fd: int
    command: int
    offset: int
    length: int
    def __init__(self, task: _Optional[int] = ..., fd: _Optional[int] = ..., command: _Optional[int] = ..., offset: _Optional[int] = ..., length: _Optional[int] = ...) -> None: ...

class SysLockfResponse(_message.Message):
    __slots__ = ("error",)
    ERROR_FIELD_NUMBER: _ClassVar[int]
    error: int
    def __init__(self, error: _Optional[int] = ...) -> None: ...

class SysCopyFileRangeRequest(_message.Message):
    __slots__ = ("task", "fd_in", "fd_out", "count", "offset_in", "offset_out")
    TASK_FIELD_NUMBER: _ClassVar[int]
    FD_IN_FIELD_NUMBER: _ClassVar[int]
    FD_OUT_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    OFFSET_IN_FIELD_NUMBER: _ClassVar[int]
    OFFSET_OUT_FIELD_NUMBER: _ClassVar[int]
    task: int
    fd_in: int
    fd_out: int
    count: int
    offset_in: int
    offset_out: int
    def __init__(self, task: _Optional[int] = ..., fd_in: _Optional[int] = ..., fd_out: _Optional[int] = ..., count: _Optional[int] = ..., offset_in: _Optional[int] = ..., offset_out: _Optional[int] = ...) -> None: ...

class SysCopyFileRangeResponse(_message.Message):
    __slots__ = ("error", "count")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    error: int
    count: int
    def __init__(self, error: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class SysSyncRequest(_message.Message):
    __slots__ = ("task",)
    TASK_FIELD_NUMBER: _ClassVar[int]
    task: int
    def __init__(self, task: _Optional[int] = ...) -> None: ...

class SysSyncResponse(_message.Message):
    __slots__ = ("error",)
    ERROR_FIELD_NUMBER: _ClassVar[int]
    error: int
    def __init__(self, error: _Optional[int] = ...) -> None: ...
