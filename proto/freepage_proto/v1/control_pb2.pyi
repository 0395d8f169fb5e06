from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLE_UNSPECIFIED: _ClassVar[Role]
    ROLE_SERVER: _ClassVar[Role]
    ROLE_CLIENT: _ClassVar[Role]

class HookAction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HOOK_ACTION_UNSPECIFIED: _ClassVar[HookAction]
    HOOK_ACTION_RUN: _ClassVar[HookAction]
    HOOK_ACTION_SKIP: _ClassVar[HookAction]

class PageChange(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PAGE_CHANGE_UNSPECIFIED: _ClassVar[PageChange]
    PAGE_CHANGE_REPLACE: _ClassVar[PageChange]
    PAGE_CHANGE_MIGRATE: _ClassVar[PageChange]
    PAGE_CHANGE_POISON: _ClassVar[PageChange]
ROLE_UNSPECIFIED: Role
ROLE_SERVER: Role
ROLE_CLIENT: Role
HOOK_ACTION_UNSPECIFIED: HookAction
HOOK_ACTION_RUN: HookAction
HOOK_ACTION_SKIP: HookAction
PAGE_CHANGE_UNSPECIFIED: PageChange
PAGE_CHANGE_REPLACE: PageChange
PAGE_CHANGE_MIGRATE: PageChange
PAGE_CHANGE_POISON: PageChange

class GetInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetInfoResponse(_message.Message):
    __slots__ = ("role", "name", "pid", "version", "grpc_address", "metrics_address", "file_systems", "memory_bytes", "uptime_seconds")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    GRPC_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    METRICS_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    FILE_SYSTEMS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    UPTIME_SECONDS_FIELD_NUMBER: _ClassVar[int]
    role: Role
    name: str
    pid: int
    version: str
    grpc_address: str
    metrics_address: str
    file_systems: _containers.RepeatedScalarFieldContainer[str]
    memory_bytes: int
    uptime_seconds: float
    def __init__(self, role: _Optional[_Union[Role, str]] = ..., name: _Optional[str] = ..., pid: _Optional[int] = ..., version: _Optional[str] = ..., grpc_address: _Optional[str] = ..., metrics_address: _Optional[str] = ..., file_systems: _Optional[_Iterable[str]] = ..., memory_bytes: _Optional[int] = ..., uptime_seconds: _Optional[float] = ...) -> None: ...

class DropCachesRequest(_message.Message):
    __slots__ = ("what",)
    WHAT_FIELD_NUMBER: _ClassVar[int]
    what: int
    def __init__(self, what: _Optional[int] = ...) -> None: ...

class DropCachesResponse(_message.Message):
    __slots__ = ("pages",)
    PAGES_FIELD_NUMBER: _ClassVar[int]
    pages: int
    def __init__(self, pages: _Optional[int] = ...) -> None: ...

class SyncAllRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SyncAllResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ResizeMemoryRequest(_message.Message):
    __slots__ = ("memory_bytes",)
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    memory_bytes: int
    def __init__(self, memory_bytes: _Optional[int] = ...) -> None: ...

class ResizeMemoryResponse(_message.Message):
    __slots__ = ("reclaimed_pages",)
    RECLAIMED_PAGES_FIELD_NUMBER: _ClassVar[int]
    reclaimed_pages: int
    def __init__(self, reclaimed_pages: _Optional[int] = ...) -> None: ...

class HookRule(_message.Message):
    __slots__ = ("path", "action", "probability", "every_nth")
    PATH_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    EVERY_NTH_FIELD_NUMBER: _ClassVar[int]
    path: str
    action: HookAction
    probability: float
    every_nth: int
    def __init__(self, path: _Optional[str] = ..., action: _Optional[_Union[HookAction, str]] = ..., probability: _Optional[float] = ..., every_nth: _Optional[int] = ...) -> None: ...

class SetHookPolicyRequest(_message.Message):
    __slots__ = ("rules",)
    RULES_FIELD_NUMBER: _ClassVar[int]
    rules: _containers.RepeatedCompositeFieldContainer[HookRule]
    def __init__(self, rules: _Optional[_Iterable[_Union[HookRule, _Mapping]]] = ...) -> None: ...

class SetHookPolicyResponse(_message.Message):
    __slots__ = ("rules",)
    RULES_FIELD_NUMBER: _ClassVar[int]
    rules: _containers.RepeatedCompositeFieldContainer[HookRule]
    def __init__(self, rules: _Optional[_Iterable[_Union[HookRule, _Mapping]]] = ...) -> None: ...

class GetHookPolicyRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetHookPolicyResponse(_message.Message):
    __slots__ = ("rules",)
    RULES_FIELD_NUMBER: _ClassVar[int]
    rules: _containers.RepeatedCompositeFieldContainer[HookRule]
    def __init__(self, rules: _Optional[_Iterable[_Union[HookRule, _Mapping]]] = ...) -> None: ...

class PageRange(_message.Message):
    __slots__ = ("first", "end")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    first: int
    end: int
    def __init__(self, first: _Optional[int] = ..., end: _Optional[int] = ...) -> None: ...

class FaultRule(_message.Message):
    __slots__ = ("name", "paths", "probability", "every_nth", "file", "pages")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PATHS_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    EVERY_NTH_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    PAGES_FIELD_NUMBER: _ClassVar[int]
    name: str
    paths: _containers.RepeatedScalarFieldContainer[str]
    probability: float
    every_nth: int
    file: str
    pages: PageRange
    def __init__(self, name: _Optional[str] = ..., paths: _Optional[_Iterable[str]] = ..., probability: _Optional[float] = ..., every_nth: _Optional[int] = ..., file: _Optional[str] = ..., pages: _Optional[_Union[PageRange, _Mapping]] = ...) -> None: ...

class SetFaultRequest(_message.Message):
    __slots__ = ("rule",)
    RULE_FIELD_NUMBER: _ClassVar[int]
    rule: FaultRule
    def __init__(self, rule: _Optional[_Union[FaultRule, _Mapping]] = ...) -> None: ...

class SetFaultResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ClearFaultsRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ClearFaultsResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetFaultsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Fault(_message.Message):
    __slots__ = ("name", "bug", "caught_by", "rule", "struck")
    NAME_FIELD_NUMBER: _ClassVar[int]
    BUG_FIELD_NUMBER: _ClassVar[int]
    CAUGHT_BY_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    STRUCK_FIELD_NUMBER: _ClassVar[int]
    name: str
    bug: str
    caught_by: _containers.RepeatedScalarFieldContainer[str]
    rule: FaultRule
    struck: int
    def __init__(self, name: _Optional[str] = ..., bug: _Optional[str] = ..., caught_by: _Optional[_Iterable[str]] = ..., rule: _Optional[_Union[FaultRule, _Mapping]] = ..., struck: _Optional[int] = ...) -> None: ...

class GetFaultsResponse(_message.Message):
    __slots__ = ("faults",)
    FAULTS_FIELD_NUMBER: _ClassVar[int]
    faults: _containers.RepeatedCompositeFieldContainer[Fault]
    def __init__(self, faults: _Optional[_Iterable[_Union[Fault, _Mapping]]] = ...) -> None: ...

class ReplacePagesRequest(_message.Message):
    __slots__ = ("path", "first", "count", "change")
    PATH_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    path: bytes
    first: int
    count: int
    change: PageChange
    def __init__(self, path: _Optional[bytes] = ..., first: _Optional[int] = ..., count: _Optional[int] = ..., change: _Optional[_Union[PageChange, str]] = ...) -> None: ...

class ReplacePagesResponse(_message.Message):
    __slots__ = ("replaced",)
    REPLACED_FIELD_NUMBER: _ClassVar[int]
    replaced: int
    def __init__(self, replaced: _Optional[int] = ...) -> None: ...

class GetSlabRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SlabLine(_message.Message):
    __slots__ = ("slab", "use", "cached", "in_use", "orphaned", "pinned", "allocated", "freed", "object_size")
    SLAB_FIELD_NUMBER: _ClassVar[int]
    USE_FIELD_NUMBER: _ClassVar[int]
    CACHED_FIELD_NUMBER: _ClassVar[int]
    IN_USE_FIELD_NUMBER: _ClassVar[int]
    ORPHANED_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    ALLOCATED_FIELD_NUMBER: _ClassVar[int]
    FREED_FIELD_NUMBER: _ClassVar[int]
    OBJECT_SIZE_FIELD_NUMBER: _ClassVar[int]
    slab: str
    use: str
    cached: int
    in_use: int
    orphaned: int
    pinned: int
    allocated: int
    freed: int
    object_size: int
    def __init__(self, slab: _Optional[str] = ..., use: _Optional[str] = ..., cached: _Optional[int] = ..., in_use: _Optional[int] = ..., orphaned: _Optional[int] = ..., pinned: _Optional[int] = ..., allocated: _Optional[int] = ..., freed: _Optional[int] = ..., object_size: _Optional[int] = ...) -> None: ...

class GetSlabResponse(_message.Message):
    __slots__ = ("lines", "slabinfo")
    LINES_FIELD_NUMBER: _ClassVar[int]
    SLABINFO_FIELD_NUMBER: _ClassVar[int]
    lines: _containers.RepeatedCompositeFieldContainer[SlabLine]
    slabinfo: str
    def __init__(self, lines: _Optional[_Iterable[_Union[SlabLine, _Mapping]]] = ..., slabinfo: _Optional[str] = ...) -> None: ...

class GetProcFileRequest(_message.Message):
    __slots__ = ("path",)
    PATH_FIELD_NUMBER: _ClassVar[int]
    path: str
    def __init__(self, path: _Optional[str] = ...) -> None: ...

class GetProcFileResponse(_message.Message):
    __slots__ = ("text",)
    TEXT_FIELD_NUMBER: _ClassVar[int]
    text: str
    def __init__(self, text: _Optional[str] = ...) -> None: ...

class GetVmstatRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetVmstatResponse(_message.Message):
    __slots__ = ("counters",)
    class CountersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    COUNTERS_FIELD_NUMBER: _ClassVar[int]
    counters: _containers.ScalarMap[str, int]
    def __init__(self, counters: _Optional[_Mapping[str, int]] = ...) -> None: ...

class AuditRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AuditResponse(_message.Message):
    __slots__ = ("agrees", "orphaned", "text", "json")
    AGREES_FIELD_NUMBER: _ClassVar[int]
    ORPHANED_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    agrees: bool
    orphaned: int
    text: str
    json: str
    def __init__(self, agrees: bool = ..., orphaned: _Optional[int] = ..., text: _Optional[str] = ..., json: _Optional[str] = ...) -> None: ...

class GetStatsRequest(_message.Message):
    __slots__ = ("audit",)
    AUDIT_FIELD_NUMBER: _ClassVar[int]
    audit: bool
    def __init__(self, audit: bool = ...) -> None: ...

class GetStatsResponse(_message.Message):
    __slots__ = ("removed", "hook_calls", "skipped", "skipped_owned", "orphaned", "pinned", "violations", "audit_agrees", "rpcs", "cached_pages", "dirty_pages", "writeback_pages", "hits", "misses")
    class RemovedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class HookCallsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class SkippedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class SkippedOwnedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class OrphanedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class PinnedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class ViolationsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class RpcsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    HOOK_CALLS_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_OWNED_FIELD_NUMBER: _ClassVar[int]
    ORPHANED_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    VIOLATIONS_FIELD_NUMBER: _ClassVar[int]
    AUDIT_AGREES_FIELD_NUMBER: _ClassVar[int]
    RPCS_FIELD_NUMBER: _ClassVar[int]
    CACHED_PAGES_FIELD_NUMBER: _ClassVar[int]
    DIRTY_PAGES_FIELD_NUMBER: _ClassVar[int]
    WRITEBACK_PAGES_FIELD_NUMBER: _ClassVar[int]
    HITS_FIELD_NUMBER: _ClassVar[int]
    MISSES_FIELD_NUMBER: _ClassVar[int]
    removed: _containers.ScalarMap[str, int]
    hook_calls: _containers.ScalarMap[str, int]
    skipped: _containers.ScalarMap[str, int]
    skipped_owned: _containers.ScalarMap[str, int]
    orphaned: _containers.ScalarMap[str, int]
    pinned: _containers.ScalarMap[str, int]
    violations: _containers.ScalarMap[str, int]
    audit_agrees: bool
    rpcs: _containers.ScalarMap[str, int]
    cached_pages: int
    dirty_pages: int
    writeback_pages: int
    hits: int
    misses: int
    def __init__(self, removed: _Optional[_Mapping[str, int]] = ..., hook_calls: _Optional[_Mapping[str, int]] = ..., skipped: _Optional[_Mapping[str, int]] = ..., skipped_owned: _Optional[_Mapping[str, int]] = ..., orphaned: _Optional[_Mapping[str, int]] = ..., pinned: _Optional[_Mapping[str, int]] = ..., violations: _Optional[_Mapping[str, int]] = ..., audit_agrees: bool = ..., rpcs: _Optional[_Mapping[str, int]] = ..., cached_pages: _Optional[int] = ..., dirty_pages: _Optional[int] = ..., writeback_pages: _Optional[int] = ..., hits: _Optional[int] = ..., misses: _Optional[int] = ...) -> None: ...

class GetLocksRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class FileLock(_message.Message):
    __slots__ = ("client", "svid", "path", "offset", "length", "exclusive", "waiting")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    SVID_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    EXCLUSIVE_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    client: str
    svid: int
    path: str
    offset: int
    length: int
    exclusive: bool
    waiting: bool
    def __init__(self, client: _Optional[str] = ..., svid: _Optional[int] = ..., path: _Optional[str] = ..., offset: _Optional[int] = ..., length: _Optional[int] = ..., exclusive: bool = ..., waiting: bool = ...) -> None: ...

class GetLocksResponse(_message.Message):
    __slots__ = ("locks",)
    LOCKS_FIELD_NUMBER: _ClassVar[int]
    locks: _containers.RepeatedCompositeFieldContainer[FileLock]
    def __init__(self, locks: _Optional[_Iterable[_Union[FileLock, _Mapping]]] = ...) -> None: ...

class ReleaseLocksRequest(_message.Message):
    __slots__ = ("client",)
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    client: str
    def __init__(self, client: _Optional[str] = ...) -> None: ...

class ReleaseLocksResponse(_message.Message):
    __slots__ = ("released",)
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    released: int
    def __init__(self, released: _Optional[int] = ...) -> None: ...
