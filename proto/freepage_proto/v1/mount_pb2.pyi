from freepage_proto.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MountStat3(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MOUNT_STAT3_OK: _ClassVar[MountStat3]
    MOUNT_STAT3_PERM: _ClassVar[MountStat3]
    MOUNT_STAT3_NOENT: _ClassVar[MountStat3]
    MOUNT_STAT3_IO: _ClassVar[MountStat3]
    MOUNT_STAT3_ACCES: _ClassVar[MountStat3]
    MOUNT_STAT3_NOTDIR: _ClassVar[MountStat3]
    MOUNT_STAT3_INVAL: _ClassVar[MountStat3]
    MOUNT_STAT3_NAMETOOLONG: _ClassVar[MountStat3]
    MOUNT_STAT3_NOTSUPP: _ClassVar[MountStat3]
    MOUNT_STAT3_SERVERFAULT: _ClassVar[MountStat3]
MOUNT_STAT3_OK: MountStat3
MOUNT_STAT3_PERM: MountStat3
MOUNT_STAT3_NOENT: MountStat3
MOUNT_STAT3_IO: MountStat3
MOUNT_STAT3_ACCES: MountStat3
MOUNT_STAT3_NOTDIR: MountStat3
MOUNT_STAT3_INVAL: MountStat3
MOUNT_STAT3_NAMETOOLONG: MountStat3
MOUNT_STAT3_NOTSUPP: MountStat3
MOUNT_STAT3_SERVERFAULT: MountStat3

class MountNullRequest(_message.Message):
    __slots__ = ("header",)
    HEADER_FIELD_NUMBER: _ClassVar[int]
    header: _common_pb2.CallHeader
    def __init__(self, header: _Optional[_Union[_common_pb2.CallHeader, _Mapping]] = ...) -> None: ...

class MountNullResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class MntRequest(_message.Message):
    __slots__ = ("header", "dirpath")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    DIRPATH_FIELD_NUMBER: _ClassVar[int]
    header: _common_pb2.CallHeader
    dirpath: bytes
    def __init__(self, header: _Optional[_Union[_common_pb2.CallHeader, _Mapping]] = ..., dirpath: _Optional[bytes] = ...) -> None: ...

class MntResponse(_message.Message):
    __slots__ = ("status", "fhandle", "auth_flavors")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    FHANDLE_FIELD_NUMBER: _ClassVar[int]
    AUTH_FLAVORS_FIELD_NUMBER: _ClassVar[int]
    status: MountStat3
    fhandle: bytes
    auth_flavors: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, status: _Optional[_Union[MountStat3, str]] = ..., fhandle: _Optional[bytes] = ..., auth_flavors: _Optional[_Iterable[int]] = ...) -> None: ...

class DumpRequest(_message.Message):
    __slots__ = ("header",)
    HEADER_FIELD_NUMBER: _ClassVar[int]
    header: _common_pb2.CallHeader
    def __init__(self, header: _Optional[_Union[_common_pb2.CallHeader, _Mapping]] = ...) -> None: ...

class MountEntry(_message.Message):
    __slots__ = ("hostname", "directory")
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    hostname: str
    directory: bytes
    def __init__(self, hostname: _Optional[str] = ..., directory: _Optional[bytes] = ...) -> None: ...

class DumpResponse(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[MountEntry]
    def __init__(self, entries: _Optional[_Iterable[_Union[MountEntry, _Mapping]]] = ...) -> None: ...

class UmntRequest(_message.Message):
    __slots__ = ("header", "dirpath")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    DIRPATH_FIELD_NUMBER: _ClassVar[int]
    header: _common_pb2.CallHeader
    dirpath: bytes
    def __init__(self, header: _Optional[_Union[_common_pb2.CallHeader, _Mapping]] = ..., dirpath: _Optional[bytes] = ...) -> None: ...

class UmntResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ExportRequest(_message.Message):
    __slots__ = ("header",)
    HEADER_FIELD_NUMBER: _ClassVar[int]
    header: _common_pb2.CallHeader
    def __init__(self, header: _Optional[_Union[_common_pb2.CallHeader, _Mapping]] = ...) -> None: ...

class ExportEntry(_message.Message):
    __slots__ = ("directory", "groups")
    DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    directory: bytes
    groups: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, directory: _Optional[bytes] = ..., groups: _Optional[_Iterable[str]] = ...) -> None: ...

class ExportResponse(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[ExportEntry]
    def __init__(self, entries: _Optional[_Iterable[_Union[ExportEntry, _Mapping]]] = ...) -> None: ...
