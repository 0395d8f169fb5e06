from freepage_proto.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class NfsAclNullRequest(_message.Message):
    __slots__ = ("header",)
    HEADER_FIELD_NUMBER: _ClassVar[int]
    header: _common_pb2.CallHeader
    def __init__(self, header: _Optional[_Union[_common_pb2.CallHeader, _Mapping]] = ...) -> None: ...

class NfsAclNullResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AclEntry(_message.Message):
    __slots__ = ("type", "id", "permissions")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    PERMISSIONS_FIELD_NUMBER: _ClassVar[int]
    type: int
    id: int
    permissions: int
    def __init__(self, type: _Optional[int] = ..., id: _Optional[int] = ..., permissions: _Optional[int] = ...) -> None: ...

class GetaclRequest(_message.Message):
    __slots__ = ("header", "object", "mask")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    header: _common_pb2.CallHeader
    object: bytes
    mask: int
    def __init__(self, header: _Optional[_Union[_common_pb2.CallHeader, _Mapping]] = ..., object: _Optional[bytes] = ..., mask: _Optional[int] = ...) -> None: ...

class GetaclResponse(_message.Message):
    __slots__ = ("status", "attributes", "mask", "access_acl", "default_acl")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    ACCESS_ACL_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_ACL_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.NfsStat3
    attributes: _common_pb2.Fattr3
    mask: int
    access_acl: _containers.RepeatedCompositeFieldContainer[AclEntry]
    default_acl: _containers.RepeatedCompositeFieldContainer[AclEntry]
    def __init__(self, status: _Optional[_Union[_common_pb2.NfsStat3, str]] = ..., attributes: _Optional[_Union[_common_pb2.Fattr3, _Mapping]] = ..., mask: _Optional[int] = ..., access_acl: _Optional[_Iterable[_Union[AclEntry, _Mapping]]] = ..., default_acl: _Optional[_Iterable[_Union[AclEntry, _Mapping]]] = ...) -> None: ...
