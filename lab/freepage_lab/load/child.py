"""A generator in a process of its own: ``python -m freepage_lab.load.child``, driven over its standard input.

A line of JSON each way. The first one in says what to be (`spec`); the others are commands, answered by ``{"done":
COMMAND, "error": TEXT or null}``; between them come tallies. When standard input ends, so does the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from freepage_lab.load.generator import Generator, Plan
from freepage_lab.load.profile import Profile, parse_profile
from freepage_lab.load.tally import Tally
from freepage_lab.load.targets import RemoteHost, Target
from freepage_runtime.errors import UserError

TELL_EVERY_S = 0.5
LINE_BYTES = 16 << 20
CHANGES = ("seed", "workers", "duration_s", "operations", "think_s", "rate", "arrivals", "verify")
"""What of a profile can be changed on the command line."""


def spec(plan: Plan, hosts: Sequence[RemoteHost], token: str | None) -> dict[str, Any]:
    """What a child needs to know."""
    profile = plan.profile
    return {
        "profile": {"name": profile.name, "source": profile.source},
        "changes": {name: getattr(profile, name) for name in CHANGES},
        "plan": {name: getattr(plan, name) for name in ("seed", "directory", "index", "processes")},
        "hosts": [describe(host) for host in hosts],
        "token": token,
    }


def describe(host: RemoteHost) -> dict[str, Any]:
    return {"target": dataclasses.astuple(host.target), "what": [host.base, host.export, host.memory_bytes]}


def _profile(data: Mapping[str, Any]) -> Profile:
    profile = parse_profile(data["profile"]["source"], data["profile"]["name"], "profile")
    return dataclasses.replace(profile, **data["changes"])


class ChildGenerator:
    """The parent's end: the methods of `Generator`, carried out by a process."""

    def __init__(self, plan: Plan, hosts: Sequence[RemoteHost], token: str | None) -> None:
        self._spec = spec(plan, hosts, token)
        self._tally = Tally()
        self._process: asyncio.subprocess.Process | None = None
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._reader: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "freepage_lab.load.child",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE_BYTES,
            start_new_session=True,  # Ctrl-C is the parent's to hear
        )
        self._reader = asyncio.ensure_future(self._read())
        self._send(self._spec)

    async def _read(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        while line := await self._process.stdout.readline():
            message = json.loads(line)
            if "tally" in message:
                self._tally = Tally.from_json(message["tally"])
                continue
            waiting = self._waiting.pop(message["done"], None)
            if waiting is not None and not waiting.done():
                if message["error"] is None:
                    waiting.set_result(None)
                else:
                    waiting.set_exception(UserError(message["error"]))
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(UserError("a generator process has ended before its time"))

    def _send(self, message: object) -> None:
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")

    async def _command(self, name: str) -> None:
        done = asyncio.get_running_loop().create_future()
        self._waiting[name] = done
        self._send({"do": name})
        await done

    async def prepare_shared(self) -> None:
        await self._command("prepare_shared")

    async def prepare(self) -> None:
        await self._command("prepare")

    async def run(self) -> None:
        await self._command("run")

    async def clean(self) -> None:
        await self._command("clean")

    async def clean_shared(self) -> None:
        await self._command("clean_shared")

    def stop(self, *, at_once: bool = False) -> None:
        self._send({"do": "stop_at_once" if at_once else "stop"})

    def set_hosts(self, hosts: Sequence[RemoteHost]) -> None:
        self._send({"hosts": [describe(host) for host in hosts]})

    def look(self) -> Tally:
        return self._tally

    async def close(self) -> None:
        if self._process is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(5):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)


# --- the child's end --------------------------------------------------------------------------------------------------


def _say(message: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


class _Child:
    def __init__(self, data: Mapping[str, Any]) -> None:
        self._token = data["token"]
        self._remote: dict[str, RemoteHost] = {}
        self._generator = Generator(Plan(_profile(data), **data["plan"]), self._hosts(data["hosts"]))
        self._tasks: set[asyncio.Task[None]] = set()

    def _hosts(self, data: Sequence[Mapping[str, Any]]) -> list[RemoteHost]:
        hosts = []
        for each in data:
            target = Target(*each["target"])
            base, export, memory_bytes = each["what"]
            if target.name not in self._remote:
                self._remote[target.name] = RemoteHost(target, base, export, memory_bytes, self._token)
            hosts.append(self._remote[target.name])
        return hosts

    async def serve(self, reader: asyncio.StreamReader) -> None:
        telling = asyncio.ensure_future(self._tell())
        while line := await reader.readline():
            message = json.loads(line)
            if "hosts" in message:
                self._generator.set_hosts(self._hosts(message["hosts"]))
                continue
            match message["do"]:
                case "stop":
                    self._generator.stop()
                case "stop_at_once":
                    self._generator.stop(at_once=True)
                case name:
                    task = asyncio.ensure_future(self._do(name))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
        for each in (telling, *self._tasks):
            each.cancel()
        await asyncio.gather(telling, *self._tasks, return_exceptions=True)
        for host in self._remote.values():
            await host.close()

    async def _do(self, name: str) -> None:
        try:
            await getattr(self._generator, name)()
        except (OSError, UserError) as error:
            where = f"{os.fsdecode(error.filename)}: " if isinstance(error, OSError) and error.filename else ""
            text = error.strerror if isinstance(error, OSError) else str(error)
            _say({"done": name, "error": f"{where}{text}"})
            return
        self._tell_once()
        _say({"done": name, "error": None})

    def _tell_once(self) -> None:
        _say({"tally": self._generator.look().to_json()})

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(TELL_EVERY_S)
            self._tell_once()


async def _main() -> None:
    reader = asyncio.StreamReader(limit=LINE_BYTES)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    try:
        line = await reader.readline()
        if line:
            await _Child(json.loads(line)).serve(reader)
    finally:
        transport.close()


if __name__ == "__main__":
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(BrokenPipeError):
        asyncio.run(_main())
