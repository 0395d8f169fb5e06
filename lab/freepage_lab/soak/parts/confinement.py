"""Somebody in the export swaps files and directories for symbolic links that lead out, while clients work there.

Beside the export lie canaries. Whatever races there are, nobody may have read or changed one of them through the
server: their contents and attributes are as they were, down to the atime, and no reply has held a piece of one.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter

from freepage_client.io.transport import GrpcNetwork, GrpcTransport
from freepage_lab.soak.attacker import DIRECTORIES, FILES
from freepage_lab.soak.canary import CANARY, FILE_NAME, Canaries
from freepage_lab.soak.fleet import EXPORT, Fleet
from freepage_lab.soak.part import Outcome, Settings
from freepage_lab.soak.workload import at_work
from freepage_proto.mount3 import MntArgs, MntRes
from freepage_proto.nfs3 import (
    CreateArgs,
    CreateMode3,
    FileHandle,
    LinkArgs,
    LookupArgs,
    LookupRes,
    MkdirArgs,
    NfsStat3,
    ReadArgs,
    ReaddirplusArgs,
    ReaddirRes,
    ReadlinkArgs,
    ReadRes,
    RemoveArgs,
    RenameArgs,
    Sattr3,
    SetattrArgs,
    StableHow,
    SymlinkArgs,
    WriteArgs,
)
from freepage_proto.rpc import AuthSys, CallHeader, Procedure, RpcError

NAME = "confinement"
ABOUT = "an attacker in the export races with symbolic links and renames; canaries lie outside"

SECONDS = 60.0
WORKERS = 8
STUCK_S = 30.0
MARK = b"written by a client of the export"

OUTSIDE_ONLY = f"{FILE_NAME}-outside"

CHANGES = (Sattr3(mode=0o777), Sattr3(size=3), Sattr3(uid=1, gid=1), Sattr3(mtime_ns=5))

P = Procedure


class Worker:
    """One client: it walks down from the root, one LOOKUP at a time, and does things to what it finds."""

    def __init__(self, number: int, transport: GrpcTransport, seed: int, outcome: Outcome) -> None:
        self.chance = random.Random(f"confinement/{seed}/{number}")
        self.statuses: Counter[str] = Counter()
        self._transport = transport
        self._outcome = outcome
        self._client = f"worker-{number}"
        self._xid = 0
        self._root = b""
        self._kept: list[FileHandle] = []
        """handles found earlier: what they stand for may have moved"""

    async def call(self, procedure: Procedure, args: object) -> object:
        self._xid += 1
        header = CallHeader(self._client, 1, self._xid, AuthSys(0, 0, (), self._client))
        async with asyncio.timeout(STUCK_S):
            result = await self._transport.call(procedure, header, args)
        status = getattr(result, "status", NfsStat3.OK)
        self.statuses[status.name] += 1
        if status is NfsStat3.SERVERFAULT:
            self._outcome.failures.append(f"{procedure.name}: SERVERFAULT")
        return result

    async def mount(self) -> None:
        result = await self.call(P.MOUNT_MNT, MntArgs(EXPORT.encode()))
        assert isinstance(result, MntRes) and result.fhandle is not None
        self._root = result.fhandle

    async def work(self, stop: asyncio.Event) -> None:
        try:
            await self.mount()
            while not stop.is_set():
                await self._round()
        except (RpcError, TimeoutError) as error:
            self._outcome.failures.append(f"{self._client}: {error or 'no answer'}")

    def _name(self) -> bytes:
        return self.chance.choice((*DIRECTORIES, *FILES, "sub", "..")).encode()

    async def _walk(self) -> FileHandle:
        """As far as it goes."""
        at = self.chance.choice([self._root, *self._kept])
        for _ in range(self.chance.randrange(4)):
            result = await self.call(P.LOOKUP, LookupArgs(at, self._name()))
            assert isinstance(result, LookupRes)
            if result.object is None:
                break
            at = result.object
        if self.chance.random() < 0.1:
            self._kept = [*self._kept[-5:], at]
        return at

    def _read_by(self, data: bytes, what: str) -> None:
        if CANARY[:6] in data:
            self._outcome.failures.append(f"{self._client} has read a canary with {what}")

    async def _round(self) -> None:
        here, name = await self._walk(), self._name()
        match self.chance.randrange(12):
            case 0 | 1:
                read = await self.call(P.READ, ReadArgs(here, 0, 4096))
                assert isinstance(read, ReadRes)
                self._read_by(bytes(read.data), "READ")
            case 2:
                await self.call(P.WRITE, WriteArgs(here, 0, len(MARK), self.chance.choice(list(StableHow)), MARK))
            case 3:
                mode = self.chance.choice((CreateMode3.UNCHECKED, CreateMode3.GUARDED))
                await self.call(P.CREATE, CreateArgs(here, name, mode, Sattr3(mode=0o666, size=0)))
            case 4:
                sattr = self.chance.choice(CHANGES)
                await self.call(P.SETATTR, SetattrArgs(here, sattr))
            case 5:
                await self.call(self.chance.choice((P.REMOVE, P.RMDIR)), RemoveArgs(here, name))
            case 6:
                await self.call(P.MKDIR, MkdirArgs(here, name, Sattr3(mode=0o777)))
            case 7:
                await self.call(P.RENAME, RenameArgs(here, name, await self._walk(), self._name()))
            case 8:
                await self.call(P.LINK, LinkArgs(here, await self._walk(), name))
            case 9:
                await self.call(P.SYMLINK, SymlinkArgs(here, name, b"../outside/secret", Sattr3()))
            case 10:
                await self.call(P.READLINK, ReadlinkArgs(here))
            case _:
                listed = await self.call(P.READDIRPLUS, ReaddirplusArgs(here, 0, bytes(8), 8192, 32768))
                assert isinstance(listed, ReaddirRes)
                for entry in listed.entries:
                    if entry.name.decode(errors="replace") == OUTSIDE_ONLY:
                        self._outcome.failures.append(f"{self._client} has seen a name from outside")


async def run(settings: Settings) -> Outcome:
    return await confinement(settings, SECONDS * settings.scale)


async def confinement(settings: Settings, seconds: float, workers: int = WORKERS) -> Outcome:
    outcome = Outcome()
    outside = settings.directory / "outside"
    outside.mkdir()
    (outside / OUTSIDE_ONLY).write_bytes(CANARY)
    canaries = Canaries(outside)
    async with Fleet(settings.directory) as fleet:
        for name in DIRECTORIES:
            (fleet.files / name).mkdir()
            for file in FILES[:2]:
                (fleet.files / name / file).write_text("inside")
        address = await fleet.start_server()
        network = GrpcNetwork(share_channels=False)
        team = [Worker(n, network.connect(str(address)), settings.seed, outcome) for n in range(workers)]
        attacker = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "freepage_lab.soak.attacker",
            str(fleet.files), str(outside), str(seconds), str(settings.seed),
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        stop = asyncio.Event()
        try:
            work = at_work(*(worker.work(stop) for worker in team))
            steps, _ = await attacker.communicate()
            stop.set()
            await work
        finally:
            if attacker.returncode is None:
                attacker.kill()
                await attacker.wait()
            await network.close()
        assert fleet.server is not None
        internal = await fleet.count("freepage_server_internal_errors_total", "server")
        if internal:
            outcome.failures.append(f"{internal} calls failed inside the server")
        if fleet.server.process.returncode is not None:
            outcome.failures.append(f"the server ended with {fleet.server.process.returncode}")
        log = fleet.server.log.read_text(errors="replace")
        if "Traceback" in log:
            outcome.failures.append("the server's log has a traceback: " + log[log.index("Traceback") :][:2000])
    statuses = sum((worker.statuses for worker in team), Counter())
    outcome.failures += canaries.disturbed()
    outcome.figures = {
        "seed": settings.seed,
        "attacker's steps": int(steps),
        "clients": workers,
        "calls": statuses.total(),
        "answered OK": statuses["OK"],
        "answered otherwise": ", ".join(f"{name} {count:,}" for name, count in statuses.most_common() if name != "OK"),
        "canaries": len(list(outside.rglob("*"))),
    }
    return outcome
