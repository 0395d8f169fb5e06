"""The other process of the gRPC benches: a server, with methods beside it that do nothing but answer.

    python -m freepage_lab.bench.peer CORE DIRECTORY

serves DIRECTORY as the export ``/export``, and on the same port a method for each size in ``RAW_SIZES`` that returns a
constant buffer of that many bytes. It says the port on stdout, and ends with its parent.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio

from freepage_runtime.malloc import huge_pages_environment

RAW_SERVICE = "freepage.bench.Raw"
EXPORT = "/export"
READ_REPLY_HEAD = 110
"""What a READ reply has beside its data: the raw replies are as long."""

RAW_SIZES = (4 << 10, 64 << 10, 256 << 10, 1 << 20)


def raw_path(size: int) -> str:
    """The method whose replies carry ``size`` bytes, as HTTP/2 calls it."""
    return f"/{RAW_SERVICE}/Read{size}"


@dataclass(frozen=True, slots=True)
class Peer:
    """A running server process."""

    address: str
    pid: int


@contextmanager
def running(directory: Path, cores: tuple[int, ...]) -> Iterator[Peer]:
    """The server, on the second of the cores, for the block's length."""
    core = str(cores[1]) if cores else ""
    command = [sys.executable, "-m", "freepage_lab.bench.peer", core, str(directory)]
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=huge_pages_environment()
    )
    try:
        assert child.stdout is not None
        line = child.stdout.readline()
        if not line:
            raise RuntimeError(f"the bench's server ended with exit code {child.wait()}")
        yield Peer(json.loads(line)["address"], child.pid)
    finally:
        child.kill()
        child.communicate()


async def _serve(directory: Path) -> None:
    from freepage_runtime.clock import LoopClock, wall_ns
    from freepage_runtime.daemon import listen
    from freepage_runtime.malloc import keep_large_blocks
    from freepage_runtime.settings import LOOPBACK, Address
    from freepage_server.io.exports import ExportSetting, open_exports
    from freepage_server.io.service import NfsService, make_server
    from freepage_server.nfsd.server import NfsServer

    keep_large_blocks()
    exports = open_exports([ExportSetting.parse(f"{directory}:{EXPORT}")], None)
    nfsd = NfsServer(exports, clock=LoopClock(asyncio.get_running_loop()), wall_ns=wall_ns, boot_ns=wall_ns())
    server = make_server(NfsService(nfsd))
    server.add_generic_rpc_handlers((_raw_methods(),))
    address = listen(server, Address(LOOPBACK, 0))
    await nfsd.start()
    await server.start()
    print(json.dumps({"address": str(address)}), flush=True)
    await server.wait_for_termination()


def _raw_methods() -> grpc.GenericRpcHandler:
    def method(size: int) -> grpc.RpcMethodHandler[bytes, bytes]:
        buffer = os.urandom(size + READ_REPLY_HEAD)

        async def constant(request: bytes, context: object) -> bytes:
            return buffer

        return grpc.unary_unary_rpc_method_handler(constant)

    return grpc.method_handlers_generic_handler(RAW_SERVICE, {f"Read{size}": method(size) for size in RAW_SIZES})


def main(core: str, directory: str) -> None:
    from freepage_lab.bench.measure import pin
    from freepage_runtime.process import die_with_parent

    die_with_parent()
    if core:
        pin((int(core),), 0)
    asyncio.run(_serve(Path(directory)))


if __name__ == "__main__":
    main(*sys.argv[1:])
