"""Calls that no honest client makes: arguments of every kind for every procedure, and messages with bytes changed."""

from __future__ import annotations

import random
from collections.abc import Callable

from freepage_proto.convert import METHODS
from freepage_proto.mount3 import MntArgs, UmntArgs
from freepage_proto.nfs3 import (
    SET_TO_SERVER_TIME,
    Access3,
    AccessArgs,
    CommitArgs,
    CreateArgs,
    CreateMode3,
    FileHandle,
    FsinfoArgs,
    FsstatArgs,
    FType3,
    GetattrArgs,
    LinkArgs,
    LookupArgs,
    MkdirArgs,
    MknodArgs,
    NullArgs,
    PathconfArgs,
    ReadArgs,
    ReaddirArgs,
    ReaddirplusArgs,
    ReadlinkArgs,
    RemoveArgs,
    RenameArgs,
    Sattr3,
    SetattrArgs,
    StableHow,
    SymlinkArgs,
    WriteArgs,
)
from freepage_proto.nfsacl3 import AclMask, GetaclArgs
from freepage_proto.nlm4 import GrantedArgs, LockArgs, NlmLock, UnlockArgs
from freepage_proto.rpc import AuthSys, CallHeader, Procedure

UINT32 = (0, 1, 0o644, 4096, 65534, (1 << 31) - 1, (1 << 32) - 1)
UINT64 = (*UINT32, 1 << 32, (1 << 44) - 4096, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
TIMES_NS = (None, SET_TO_SERVER_TIME, 0, (1 << 32) * 1_000_000_000 - 1)
NAMES = (b"a", b"b", b"c", b"d", b"secret")
HOSTILE = (b"", b".", b"..", b"/", b"\0", b"x" * 255, b"x" * 256, b"x" * 60_000, b"\xff\xfe", b"a/../b", b"../secret")
PATHS = (b"/export", b"/export/a", b"/export/..", b"/", b"", b"export", b"/export/\0", b"/" + b"x" * 1100, b"/\xff")
TARGETS = (b"a", b"", b"\0", b"x" * 5000, b"/etc/passwd", b"../../secret")

MAX_HANDLES = 12


class Arguments:
    """Arguments of every procedure, mostly plausible; ``handles`` are those that replies brought, the root first."""

    def __init__(self, chance: random.Random, root: FileHandle) -> None:
        self.chance = chance
        self.handles = [root]
        self._xid = 0

    def handle(self) -> FileHandle:
        chance = self.chance.random()
        handle = self.chance.choice(self.handles)
        if chance < 0.05:
            return self.chance.randbytes(self.chance.randrange(65))
        if chance < 0.1:
            forged = bytearray(handle)
            forged[self.chance.randrange(len(forged))] ^= 1 << self.chance.randrange(8)
            return bytes(forged)
        return handle

    def name(self) -> bytes:
        return self.chance.choice(HOSTILE if self.chance.random() < 0.2 else NAMES)

    def uint32(self) -> int:
        return self.chance.choice(UINT32) if self.chance.random() < 0.3 else self.chance.randrange(20_000)

    def uint64(self) -> int:
        return self.chance.choice(UINT64) if self.chance.random() < 0.3 else self.chance.randrange(20_000)

    def sattr(self) -> Sattr3:
        choice = self.chance.choice
        return Sattr3(
            mode=choice((None, *UINT32)),
            uid=choice((None, None, None, *UINT32)),
            gid=choice((None, None, None, *UINT32)),
            size=choice((None, None, self.uint64())),
            atime_ns=choice(TIMES_NS),
            mtime_ns=choice(TIMES_NS),
        )

    def lock(self) -> NlmLock:
        owner = self.chance.choice((b"", b"o", b"o" * 1024))
        return NlmLock(self.handle(), owner, self.uint32() >> 1, self.uint64(), self.uint64())

    def header(self) -> CallHeader:
        """Sometimes an xid that was used before: then an answer out of the reply cache is right."""
        choice = self.chance.choice
        self._xid += 1
        xid = self._xid % (1 << 32) if self.chance.random() < 0.98 else self.chance.randrange(self._xid + 1)
        cred = AuthSys(choice((0, 0, 1000, UINT32[-1])), choice((0, 1000)), choice(((), (0,), (4, 24))), "fuzzer")
        return CallHeader(choice(("fuzz-1", "fuzz-2", "fuzz-3", "")), choice((1, 1, 1, 2)), xid, cred)

    def of(self, procedure: Procedure) -> object:
        return _MAKERS[procedure](self)

    def learn(self, result: object) -> None:
        """Use the handle that a reply brought."""
        handle = getattr(result, "object", None) or getattr(result, "fhandle", None)
        if isinstance(handle, bytes) and handle and handle not in self.handles:
            self.handles = [self.handles[0], *self.handles[1:][2 - MAX_HANDLES :], handle]

    def bytes(self) -> bytes:
        return self.chance.randbytes(self.chance.choice((0, 1, 100, 5000)))


def _write(a: Arguments) -> WriteArgs:
    data = a.bytes()
    return WriteArgs(a.handle(), a.uint64(), len(data), a.chance.choice(list(StableHow)), data)


def _create(a: Arguments) -> CreateArgs:
    mode = a.chance.choice(list(CreateMode3))
    return CreateArgs(a.handle(), a.name(), mode, a.sattr(), a.chance.randbytes(8))


def _mknod(a: Arguments) -> MknodArgs:
    kind = a.chance.choice(list(FType3))
    return MknodArgs(a.handle(), a.name(), kind, a.sattr(), (a.uint32(), a.uint32()))


def _flag(a: Arguments) -> bool:
    return a.chance.random() < 0.5


_MAKERS: dict[Procedure, Callable[[Arguments], object]] = {
    **{procedure: lambda a: NullArgs() for procedure in Procedure if procedure.number == 0},
    Procedure.GETATTR: lambda a: GetattrArgs(a.handle()),
    Procedure.SETATTR: lambda a: SetattrArgs(a.handle(), a.sattr(), a.chance.choice((None, None, 5))),
    Procedure.LOOKUP: lambda a: LookupArgs(a.handle(), a.name()),
    Procedure.ACCESS: lambda a: AccessArgs(a.handle(), Access3(a.chance.randrange(64))),
    Procedure.READLINK: lambda a: ReadlinkArgs(a.handle()),
    Procedure.READ: lambda a: ReadArgs(a.handle(), a.uint64(), a.uint32()),
    Procedure.WRITE: _write,
    Procedure.CREATE: _create,
    Procedure.MKDIR: lambda a: MkdirArgs(a.handle(), a.name(), a.sattr()),
    Procedure.SYMLINK: lambda a: SymlinkArgs(a.handle(), a.name(), a.chance.choice(TARGETS), a.sattr()),
    Procedure.MKNOD: _mknod,
    Procedure.REMOVE: lambda a: RemoveArgs(a.handle(), a.name()),
    Procedure.RMDIR: lambda a: RemoveArgs(a.handle(), a.name()),
    Procedure.RENAME: lambda a: RenameArgs(a.handle(), a.name(), a.handle(), a.name()),
    Procedure.LINK: lambda a: LinkArgs(a.handle(), a.handle(), a.name()),
    Procedure.READDIR: lambda a: ReaddirArgs(a.handle(), a.uint64(), bytes(8), a.uint32()),
    Procedure.READDIRPLUS: lambda a: ReaddirplusArgs(a.handle(), a.uint64(), bytes(8), a.uint32(), a.uint32()),
    Procedure.FSSTAT: lambda a: FsstatArgs(a.handle()),
    Procedure.FSINFO: lambda a: FsinfoArgs(a.handle()),
    Procedure.PATHCONF: lambda a: PathconfArgs(a.handle()),
    Procedure.COMMIT: lambda a: CommitArgs(a.handle(), a.uint64(), a.uint32()),
    Procedure.MOUNT_MNT: lambda a: MntArgs(a.chance.choice(PATHS)),
    Procedure.MOUNT_UMNT: lambda a: UmntArgs(a.chance.choice(PATHS)),
    Procedure.MOUNT_DUMP: lambda a: NullArgs(),
    Procedure.MOUNT_EXPORT: lambda a: NullArgs(),
    Procedure.NFSACL_GETACL: lambda a: GetaclArgs(a.handle(), AclMask(a.chance.randrange(16))),
    Procedure.NLM_TEST: lambda a: LockArgs(a.lock(), _flag(a)),
    Procedure.NLM_LOCK: lambda a: LockArgs(a.lock(), _flag(a), _flag(a)),
    Procedure.NLM_CANCEL: lambda a: UnlockArgs(a.lock()),
    Procedure.NLM_UNLOCK: lambda a: UnlockArgs(a.lock()),
    Procedure.NLM_GRANTED: lambda a: GrantedArgs(a.chance.choice((0, 0, 1))),
}
assert _MAKERS.keys() == set(Procedure)


def mutated(chance: random.Random, message: bytes, others: list[bytes]) -> bytes:
    """The message with one to four things done to its bytes; ``others`` are messages to take pieces of."""
    changed = bytearray(message)
    for _ in range(chance.randrange(1, 5)):
        at = chance.randrange(len(changed) + 1)
        match chance.randrange(9):
            case 0:
                if changed:
                    changed[at % len(changed)] ^= 1 << chance.randrange(8)
            case 1:
                if changed:
                    changed[at % len(changed)] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 2:
                del changed[at:]
            case 3:
                del changed[at : at + chance.randrange(1, 20)]
            case 4:
                changed[at:at] = chance.randbytes(chance.randrange(1, 20))
            case 5:
                changed[at:at] = changed[at : at + chance.randrange(1, 60)]
            case 6:  # a length or a number that is too large
                changed[at : at + 1] = b"\xff" * chance.randrange(1, 11) + b"\x01"
            case 7:  # a field of any number and wire type
                changed[at:at] = bytes((chance.randrange(256),)) + chance.randbytes(chance.randrange(10))
            case _:
                other = chance.choice(others) if others else b""
                start = chance.randrange(len(other) + 1)
                changed[at:at] = other[start : start + chance.randrange(200)]
    return bytes(changed[: 1 << 17])


class Messages:
    """An endless supply: a third as a client could send them, the others changed, or of no sense at all."""

    def __init__(self, chance: random.Random, arguments: Arguments) -> None:
        self.chance = chance
        self.arguments = arguments
        self._seen: list[bytes] = []
        self._procedures = list(Procedure)

    def next(self) -> tuple[Procedure, bytes, bool]:
        """A procedure, the message for it, and whether it is one of the protocol's."""
        procedure = self.chance.choice(self._procedures)
        message = METHODS[procedure].encode_call(self.arguments.header(), self.arguments.of(procedure))
        kind = self.chance.random()
        # NLM_GRANTED is kept open for as long as it asks for, which a changed one does for up to a minute.
        if kind < 0.35 or procedure is Procedure.NLM_GRANTED:
            self._keep(message)
            return procedure, message, True
        if kind < 0.9:
            return procedure, mutated(self.chance, message, self._seen), False
        if kind < 0.95 and self._seen:
            return procedure, self.chance.choice(self._seen), False  # another procedure's, most of the time
        return procedure, self.chance.randbytes(self.chance.choice((0, 1, 10, 100, 3000))), False

    def _keep(self, message: bytes) -> None:
        if len(message) < 8192:
            self._seen.append(message)
            del self._seen[:-64]
