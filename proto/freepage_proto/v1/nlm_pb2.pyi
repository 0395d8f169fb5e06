from freepage_proto.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class NlmStat4(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NLM_STAT4_GRANTED: _ClassVar[NlmStat4]
    NLM_STAT4_DENIED: _ClassVar[NlmStat4]
    NLM_STAT4_DENIED_NOLOCKS: _ClassVar[NlmStat4]
    NLM_STAT4_BLOCKED: _ClassVar[NlmStat4]
    NLM_STAT4_DENIED_GRACE_PERIOD: _ClassVar[NlmStat4]
    NLM_STAT4_DEADLCK: _ClassVar[NlmStat4]
    NLM_STAT4_ROFS: _ClassVar[NlmStat4]
    NLM_STAT4_STALE_FH: _ClassVar[NlmStat4]
    NLM_STAT4_FBIG: _ClassVar[NlmStat4]
    NLM_STAT4_FAILED: _ClassVar[NlmStat4]
NLM_STAT4_GRANTED: NlmStat4
NLM_STAT4_DENIED: NlmStat4
NLM_STAT4_DENIED_NOLOCKS: NlmStat4
NLM_STAT4_BLOCKED: NlmStat4
NLM_STAT4_DENIED_GRACE_PERIOD: NlmStat4
NLM_STAT4_DEADLCK: NlmStat4
NLM_STAT4_ROFS: NlmStat4
NLM_STAT4_STALE_FH: NlmStat4
NLM_STAT4_FBIG: NlmStat4
NLM_STAT4_FAILED: NlmStat4

class NlmLock(_message.Message):
    __slots__ = ("file", "owner", "svid", "offset", "length")
    FILE_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    SVID_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    file: bytes
    owner: bytes
    svid: int
    offset: int
    length: int
    def __init__(self, file: _Optional[bytes] = ..., owner: _Optional[bytes] = ..., svid: _Optional[int] = ..., offset: _Optional[int] = ..., length: _Optional[int] = ...) -> None: ...

class NlmNullRequest(_message.Message):
    __slots__ = ("header",)
    HEADER_FIELD_NUMBER: _ClassVar[int]
    header: _common_pb2.CallHeader
    def __init__(self, header: _Optional[_Union[_common_pb2.CallHeader, _Mapping]] = ...) -> None: ...

class NlmNullResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class TestRequest(_message.Message):
    __slots__ = ("header", "lock", "exclusive")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    LOCK_FIELD_NUMBER: _ClassVar[int]
    EXCLUSIVE_FIELD_NUMBER: _ClassVar[int]
    header: _common_pb2.CallHeader
    lock: NlmLock
    exclusive: bool
    def __init__(self, header: _Optional[_Union[_common_pb2.CallHeader, _Mapping]] = ..., lock: _Optional[_Union[NlmLock, _Mapping]] = ..., exclusive: bool = ...) -> None: ...

class TestResponse(_message.Message):
    __slots__ = ("status", "holder", "holder_exclusive")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    HOLDER_EXCLUSIVE_FIELD_NUMBER: _ClassVar[int]
    status: NlmStat4
    holder: NlmLock
    holder_exclusive: bool
    def __init__(self, status: _Optional[_Union[NlmStat4, str]] = ..., holder: _Optional[_Union[NlmLock, _Mapping]] = ..., holder_exclusive: bool = ...) -> None: ...

class LockRequest(_message.Message):
    __slots__ = ("header", "lock", "exclusive", "block", "reclaim")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    LOCK_FIELD_NUMBER: _ClassVar[int]
    EXCLUSIVE_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    RECLAIM_FIELD_NUMBER: _ClassVar[int]
    header: _common_pb2.CallHeader
    lock: NlmLock
    exclusive: bool
    block: bool
    reclaim: bool
    def __init__(self, header: _Optional[_Union[_common_pb2.CallHeader, _Mapping]] = ..., lock: _Optional[_Union[NlmLock, _Mapping]] = ..., exclusive: bool = ..., block: bool = ..., reclaim: bool = ...) -> None: ...

class LockResponse(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: NlmStat4
    def __init__(self, status: _Optional[_Union[NlmStat4, str]] = ...) -> None: ...

class CancelRequest(_message.Message):
    __slots__ = ("header", "lock")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    LOCK_FIELD_NUMBER: _ClassVar[int]
    header: _common_pb2.CallHeader
    lock: NlmLock
    def __init__(self, header: _Optional[_Union[_common_pb2.CallHeader, _Mapping]] = ..., lock: _Optional[_Union[NlmLock, _Mapping]] = ...) -> None: ...

class CancelResponse(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: NlmStat4
    def __init__(self, status: _Optional[_Union[NlmStat4, str]] = ...) -> None: ...

class UnlockRequest(_message.Message):
    __slots__ = ("header", "lock")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    LOCK_FIELD_NUMBER: _ClassVar[int]
    header: _common_pb2.CallHeader
    lock: NlmLock
    def __init__(self, header: _Optional[_Union[_common_pb2.CallHeader, _Mapping]] = ..., lock: _Optional[_Union[NlmLock, _Mapping]] = ...) -> None: ...

class UnlockResponse(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: NlmStat4
    def __init__(self, status: _Optional[_Union[NlmStat4, str]] = ...) -> None: ...

class GrantedRequest(_message.Message):
    __slots__ = ("header", "wait_ms")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    header: _common_pb2.CallHeader
    wait_ms: int
    def __init__(self, header: _Optional[_Union[_common_pb2.CallHeader, _Mapping]] = ..., wait_ms: _Optional[int] = ...) -> None: ...

class GrantedResponse(_message.Message):
    __slots__ = ("locks",)
    LOCKS_FIELD_NUMBER: _ClassVar[int]
    locks: _containers.RepeatedCompositeFieldContainer[NlmLock]
    def __init__(self, locks: _Optional[_Iterable[_Union[NlmLock, _Mapping]]] = ...) -> None: ...
