"""Random and changed messages for every method of a server, and for the decoders of both sides.

Over the wire to a real server process: each message is answered, with a reply of the protocol or as one that is none
(INVALID_ARGUMENT), and soon; the server goes on, its memory and descriptors do not grow, and the canaries beside the
export are as they were. In this process, to the decoders: they return or raise RpcGarbageArgs, nothing else.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path
from typing import TypeAlias

import grpc
import grpc.aio

from freepage_lab.soak.canary import CANARY, Canaries
from freepage_lab.soak.fleet import EXPORT, Fleet, scrape
from freepage_lab.soak.fuzzer import Arguments, Messages, mutated
from freepage_lab.soak.part import Outcome, Settings
from freepage_proto.convert import METHODS
from freepage_proto.mount3 import MntArgs, MntRes
from freepage_proto.nfs3 import NfsStat3
from freepage_proto.rpc import AuthSys, CallHeader, Procedure, RpcGarbageArgs
from freepage_runtime.control import method_paths
from freepage_runtime.control_client import ControlClient

NAME = "fuzz"
ABOUT = "random and mutated messages on every method of a server, and on the decoders"

MESSAGES = 200_000
AT_ONCE = 32
STUCK_S = 60.0
SETTLED = 0.4
"""The part of the messages after which memory is measured for the first time: caches are full by then."""
MAX_GROWTH_BYTES = 64 << 20
CONTROL_SHARE = 0.03

HONEST = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    # Of the control service, about faults, files and pages that are not there.
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
}


Method: TypeAlias = "grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]"


def raw(channel: grpc.aio.Channel, path: str) -> Method:
    """Bytes out, bytes in."""
    return channel.unary_unary(path)


def decoders(seed: int, messages: int, outcome: Outcome) -> None:
    """Changed messages for every decoder of calls and of replies."""
    chance = random.Random(f"decoders/{seed}")
    supply = Messages(chance, Arguments(chance, b"r" * 41))
    seen: list[bytes] = []
    for number in range(messages):
        procedure, message, _ = supply.next()
        method = METHODS[procedure]
        decode = method.decode_reply if number % 3 == 0 else method.decode_call
        if number % 3 == 0:
            message = mutated(chance, message, seen)
        seen = [*seen[-30:], message[:4096]]
        try:
            decode(message)
        except RpcGarbageArgs:
            pass
        except Exception as error:
            outcome.failures.append(f"{procedure.name}: a decoder raised {error!r} for {message[:200].hex()}")


class Wire:
    """Sends messages and looks at the answers."""

    def __init__(self, channel: grpc.aio.Channel, messages: Messages, outcome: Outcome) -> None:
        self.answers: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self._chance = messages.chance
        self._messages = messages
        self._outcome = outcome
        self._methods: dict[Procedure, Method] = {p: raw(channel, method.path) for p, method in METHODS.items()}
        self._control: dict[str, Method] = {}

    def also_control(self, channel: grpc.aio.Channel) -> None:
        self._control = {path: raw(channel, path) for path in method_paths()}

    async def send_one(self) -> None:
        if self._control and self._chance.random() < CONTROL_SHARE:
            path = self._chance.choice(list(self._control))
            junk = self._chance.randbytes(self._chance.choice((0, 1, 2, 5, 20, 200)))
            await self._send("Control", path, self._control[path], junk)
            return
        procedure, message, proper = self._messages.next()
        reply = await self._send("proper" if proper else "changed", procedure.name, self._methods[procedure], message)
        if reply is None:
            return
        if CANARY[:6] in reply:
            self._fail(f"{procedure.name} has read a canary", message)
        try:
            result = METHODS[procedure].decode_reply(reply)
        except RpcGarbageArgs as error:
            self._fail(f"{procedure.name}: a reply that is none: {error}", message)
            return
        status = getattr(result, "status", NfsStat3.OK)
        self.answers[status.name] += 1
        if status is NfsStat3.SERVERFAULT:
            self._fail(f"{procedure.name}: SERVERFAULT", message)
        self._messages.arguments.learn(result)

    async def _send(self, kind: str, name: str, method: Method, message: bytes) -> bytes | None:
        self.sent[kind] += 1
        try:
            return bytes(await method(message, timeout=STUCK_S))
        except grpc.aio.AioRpcError as error:
            self.answers[error.code().name] += 1
            if error.code() not in HONEST:
                self._fail(f"{name}: {error.code().name} ({error.details()})", message)
            return None

    def _fail(self, what: str, message: bytes) -> None:
        self._outcome.failures.append(f"{what}; the message was {message[:200].hex()}")


def memory_of(pid: int) -> int:
    """Resident bytes, without pages of files (proc(5): RssAnon)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def descriptors_of(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def run(settings: Settings) -> Outcome:
    return await fuzz(settings, settings.scaled(MESSAGES))


async def fuzz(settings: Settings, messages: int, at_once: int = AT_ONCE) -> Outcome:
    outcome = Outcome()
    decoders(settings.seed, messages, outcome)
    settings.say(f"{messages} messages to the decoders")
    canaries = Canaries(settings.directory / "outside")
    chance = random.Random(f"fuzz/{settings.seed}")
    async with Fleet(settings.directory) as fleet:
        address = await fleet.start_server()
        assert fleet.server is not None and fleet.server.daemon.control is not None
        member, pid = fleet.server, fleet.server.daemon.pid
        async with (
            grpc.aio.insecure_channel(str(address)) as channel,
            grpc.aio.insecure_channel(fleet.server.daemon.control) as control_channel,
        ):
            header = CallHeader("fuzz-1", 1, (1 << 32) - 1, AuthSys())
            mount = METHODS[Procedure.MOUNT_MNT]
            encoded = mount.encode_call(header, MntArgs(EXPORT.encode()))
            mounted = mount.decode_reply(await raw(channel, mount.path)(encoded))
            assert isinstance(mounted, MntRes) and mounted.fhandle is not None
            wire = Wire(channel, Messages(chance, Arguments(chance, mounted.fhandle)), outcome)
            wire.also_control(control_channel)
            left, settled = messages, 0

            async def sender() -> None:
                nonlocal left, settled
                while left > 0 and len(outcome.failures) < 20:
                    left -= 1
                    number = messages - left
                    await wire.send_one()
                    if not settled and left < messages * (1 - SETTLED):
                        settled = memory_of(pid)
                    if number % 20_000 == 0:
                        settings.say(f"{number} messages to the server, {memory_of(pid) >> 20} MiB")

            begin = asyncio.get_running_loop().time()
            await asyncio.gather(*(sender() for _ in range(at_once)))
            seconds = asyncio.get_running_loop().time() - begin
        peak = 0
        if member.process.returncode is None:
            peak = memory_of(pid)
            if peak - settled > MAX_GROWTH_BYTES:
                outcome.failures.append(f"memory grew from {settled} to {peak} bytes")
            descriptors = descriptors_of(pid)
            metrics = await scrape(str(member.daemon.metrics))
            if internal := int(metrics["freepage_server_internal_errors_total"]):
                outcome.failures.append(f"{internal} calls failed inside the server")
            async with ControlClient(member.daemon.control or "") as control:
                if not (await control.stats(audit=True)).audit_agrees:
                    outcome.failures.append("the audit does not agree with the ledger")
        else:
            descriptors = 0
            outcome.failures.append(f"the server ended with {member.process.returncode}")
        log = member.log.read_text(errors="replace")
        if "Traceback" in log:
            outcome.failures.append("the server's log has a traceback: " + log[log.index("Traceback") :][:2000])
    outcome.failures += canaries.disturbed()
    honest = {code.name for code in grpc.StatusCode}
    outcome.figures = {
        "seed": settings.seed,
        "messages to the decoders": messages,
        "messages to the server": wire.sent.total(),
        "of these as the protocol has them": wire.sent["proper"],
        "changed, or of no sense": wire.sent["changed"],
        "to the control service": wire.sent["Control"],
        "messages/s": round(wire.sent.total() / seconds),
        "answered OK": wire.answers["OK"],
        "refused as no message": wire.answers["INVALID_ARGUMENT"],
        "other answers": ", ".join(
            f"{name} {count:,}" for name, count in wire.answers.most_common() if name not in ("OK", "INVALID_ARGUMENT")
        ),
        "kinds of status seen": len(wire.answers.keys() - honest),
        "memory when settled [MiB]": round(settled / (1 << 20), 1),
        "memory at the end [MiB]": round(peak / (1 << 20), 1),
        "descriptors at the end": descriptors,
    }
    return outcome
