"""Any arguments, many at a time: no exception but a status, no broken rule, and the books agree afterwards."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from freepage_proto.nfs3 import (
    SET_TO_SERVER_TIME,
    Access3,
    AccessArgs,
    CommitArgs,
    CreateArgs,
    CreateMode3,
    FileHandle,
    FType3,
    GetattrArgs,
    LinkArgs,
    LookupArgs,
    MkdirArgs,
    MknodArgs,
    NfsStat3,
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
from freepage_proto.rpc import Procedure
from nfsd_rig import KINDS, Rig

CALLS = 1200
AT_ONCE = 8
UINT32 = (0, 1, 0o644, 4096, 65534, (1 << 31) - 1, (1 << 32) - 1)
UINT64 = (*UINT32, 1 << 32, (1 << 44) - 4096, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
TIMES_NS = (None, SET_TO_SERVER_TIME, 0, (1 << 32) * 1_000_000_000 - 1)
NAMES = (b"a", b"b", b"c", b"d")
HOSTILE = (b"", b".", b"..", b"/", b"\0", b"x" * 255, b"x" * 256, b"x" * 70_000, b"\xff", b"a/../b")


class Fuzzer:
    """Arguments for every procedure, mostly plausible ones; ``handles`` are those that replies brought, root first."""

    def __init__(self, seed: int, root: FileHandle) -> None:
        self.random = random.Random(seed)
        self.handles = [root]

    def handle(self) -> FileHandle:
        chance = self.random.random()
        handle = self.random.choice(self.handles)
        if chance < 0.05:
            return self.random.randbytes(self.random.randrange(70))
        if chance < 0.1:
            forged = bytearray(handle)
            forged[self.random.randrange(len(forged))] ^= 1 << self.random.randrange(8)
            return bytes(forged)
        return handle

    def name(self) -> bytes:
        return self.random.choice(HOSTILE if self.random.random() < 0.2 else NAMES)

    def uint64(self) -> int:
        return self.random.choice(UINT64) if self.random.random() < 0.3 else self.random.randrange(20_000)

    def sattr(self) -> Sattr3:
        choice = self.random.choice
        return Sattr3(
            mode=choice((None, *UINT32)),
            uid=choice((None, None, None, *UINT32)),
            gid=choice((None, None, None, *UINT32)),
            size=choice((None, None, self.uint64())),
            atime_ns=choice(TIMES_NS),
            mtime_ns=choice(TIMES_NS),
        )

    def call(self) -> tuple[Procedure, object]:
        r, choice = self.random, self.random.choice
        data = r.randbytes(choice((0, 1, 100, 5000)))
        calls: dict[Procedure, Any] = {
            Procedure.GETATTR: lambda: GetattrArgs(self.handle()),
            Procedure.SETATTR: lambda: SetattrArgs(self.handle(), self.sattr(), choice((None, None, 5))),
            Procedure.LOOKUP: lambda: LookupArgs(self.handle(), self.name()),
            Procedure.ACCESS: lambda: AccessArgs(self.handle(), Access3(r.randrange(64))),
            Procedure.READLINK: lambda: ReadlinkArgs(self.handle()),
            Procedure.READ: lambda: ReadArgs(self.handle(), self.uint64(), self.uint64()),
            Procedure.WRITE: lambda: WriteArgs(
                self.handle(), self.uint64(), choice((len(data), self.uint64())), choice(list(StableHow)), data
            ),
            Procedure.CREATE: lambda: CreateArgs(
                self.handle(), self.name(), choice(list(CreateMode3)), self.sattr(), r.randbytes(8)
            ),
            Procedure.MKDIR: lambda: MkdirArgs(self.handle(), self.name(), self.sattr()),
            Procedure.SYMLINK: lambda: SymlinkArgs(
                self.handle(), self.name(), choice((b"a", b"", b"\0", b"x" * 5000)), self.sattr()
            ),
            Procedure.MKNOD: lambda: MknodArgs(
                self.handle(), self.name(), choice(list(FType3)), self.sattr(), (choice(UINT32), choice(UINT32))
            ),
            Procedure.REMOVE: lambda: RemoveArgs(self.handle(), self.name()),
            Procedure.RMDIR: lambda: RemoveArgs(self.handle(), self.name()),
            Procedure.RENAME: lambda: RenameArgs(self.handle(), self.name(), self.handle(), self.name()),
            Procedure.LINK: lambda: LinkArgs(self.handle(), self.handle(), self.name()),
            Procedure.READDIR: lambda: ReaddirArgs(self.handle(), self.uint64(), bytes(8), self.uint64()),
            Procedure.READDIRPLUS: lambda: ReaddirplusArgs(
                self.handle(), self.uint64(), bytes(8), self.uint64(), self.uint64()
            ),
            Procedure.COMMIT: lambda: CommitArgs(self.handle(), self.uint64(), self.uint64()),
        }
        procedure = choice(list(calls))
        return procedure, calls[procedure]()

    def learn(self, result: object) -> None:
        handle = getattr(result, "object", None)
        if handle is not None:
            self.handles = [self.handles[0], *self.handles[1:][-6:], handle]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [1, 2])
def test_any_arguments_many_at_a_time(kind: str, seed: int, tmp_path: Path) -> None:
    async def story() -> None:
        rig = Rig(kind, tmp_path, memory_bytes=64 * 4096, offload=True)
        fuzzer = Fuzzer(seed, rig.root)
        answered = 0
        for _ in range(CALLS // AT_ONCE):
            results = await asyncio.gather(*(rig.call(*fuzzer.call()) for _ in range(AT_ONCE)))
            for result in results:
                assert result.status is not NfsStat3.SERVERFAULT
                answered += result.status is NfsStat3.OK
                fuzzer.learn(result)
            rig.clock.seconds += 0.01
        rig.check()
        assert answered > CALLS // 5
        await rig.server.stop()
        rig.check()
        rig.close()

    asyncio.run(story())
