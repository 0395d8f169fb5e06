"""How daemons end and come back: asked, killed, or with their directory pulled from under them."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import shutil
import time
import urllib.error
from collections.abc import Callable
from pathlib import Path

import grpc.aio
import pytest

from daemon_rig import DaemonProcess, client, server
from freepage_client.io.remote import RemoteMachine, RemoteTask
from freepage_client.io.transport import GrpcNetwork
from freepage_proto.mount3 import MntArgs
from freepage_proto.nfs3 import LookupArgs, NfsStat3, StableHow, WriteArgs
from freepage_proto.rpc import AuthSys, CallHeader, Procedure
from freepage_runtime.registry import list_daemons

PATIENCE_S = 20.0


@pytest.fixture
def export(tmp_path: Path) -> Path:
    directory = tmp_path / "export"
    directory.mkdir()
    (directory / "f").write_bytes(b"")
    return directory


async def _write_unstable(address: str) -> bytes:
    """A WRITE of ``data`` that nobody commits; the verifier that came back."""
    network = GrpcNetwork()
    try:
        transport = network.connect(address)
        xid = iter(range(1, 10))

        async def call(procedure: Procedure, args: object) -> object:
            return await transport.call(procedure, CallHeader("raw", 1, next(xid), AuthSys(0, 0, (), "raw")), args)

        root = await call(Procedure.MOUNT_MNT, MntArgs(b"/export"))
        found = await call(Procedure.LOOKUP, LookupArgs(root.fhandle, b"f"))  # type: ignore[attr-defined]
        args = WriteArgs(found.object, 0, 4, StableHow.UNSTABLE, b"data")  # type: ignore[attr-defined]
        written = await call(Procedure.WRITE, args)
        assert written.status is NfsStat3.OK  # type: ignore[attr-defined]
        verf: bytes = written.verf  # type: ignore[attr-defined]
        return verf
    finally:
        await network.close()


def test_unstable_data_survive_sigterm_and_not_sigkill(export: Path) -> None:
    verifiers = []
    with server(export) as s:
        verifiers.append(asyncio.run(_write_unstable(s.wait_ready().ready["grpc"])))
        assert (export / "f").read_bytes() == b"", "it waits in the server"
        s.process.kill()
        s.end()
    assert (export / "f").read_bytes() == b"", "and is lost with it"
    with server(export) as s:
        verifiers.append(asyncio.run(_write_unstable(s.wait_ready().ready["grpc"])))
        assert s.stop() == 0
    assert (export / "f").read_bytes() == b"data"
    assert verifiers[0] != verifiers[1]
    assert list_daemons() == []


def _healthz(daemon: DaemonProcess) -> tuple[int, str]:
    try:
        return 200, daemon.page("/healthz")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def _eventually(look: Callable[[], object], wanted: object) -> None:
    until = time.monotonic() + PATIENCE_S
    while (seen := look()) != wanted:
        assert time.monotonic() < until, seen
        time.sleep(0.05)


def test_health_follows_the_exported_directory(export: Path) -> None:
    health_pb2 = pytest.importorskip("grpc_health.v1.health_pb2")

    def grpc_health(address: str) -> int:
        async def ask() -> int:
            async with grpc.aio.insecure_channel(address) as channel:
                check = channel.unary_unary(
                    "/grpc.health.v1.Health/Check",
                    request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                    response_deserializer=health_pb2.HealthCheckResponse.FromString,
                )
                answer = await check(health_pb2.HealthCheckRequest(service="freepage.v1.Nfs"))
                status: int = answer.status
                return status

        return asyncio.run(ask())

    serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    with server(export, "--ops") as s:
        address = s.wait_ready().ready["grpc"]
        assert (_healthz(s), grpc_health(address)) == ((200, "ok\n"), serving)
        shutil.rmtree(export)
        _eventually(lambda: _healthz(s), (503, f"export /export: {export}: no longer there\n"))
        assert grpc_health(address) == not_serving
        export.mkdir()
        (export / "f").write_bytes(b"")
        _eventually(lambda: _healthz(s), (200, "ok\n"))
        assert grpc_health(address) == serving
        asyncio.run(_write_unstable(address))
        assert s.stop() == 0
        assert "an export cannot be read" in s.stderr and "was made anew" in s.stderr
    assert (export / "f").read_bytes() == b"data", "the new directory is the one that is served"


def test_a_killed_clients_locks_are_free_when_it_is_back(export: Path) -> None:
    """Until then they are not: nobody but the client itself can say that it will not come back."""

    async def lock(task: RemoteTask) -> None:
        fd = await task.open("/mnt/f", os.O_RDWR)
        await task.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 0, 0)

    async def take(address: str) -> None:
        async with RemoteMachine(address) as machine:
            await lock(await machine.task())

    async def try_to_take(address: str) -> int:
        async with RemoteMachine(address) as machine:
            task = await machine.task()
            try:
                await lock(task)
            except OSError as error:
                return error.errno or -1
            finally:
                await task.exit()
        return 0

    # One seed for both lives: a boot instance that came from it would make the second life the first.
    with (
        server(export) as s,
        client(s.wait_ready(), "--seed", "1", name="holder") as holder,
        client(s, name="other") as other,
    ):
        asyncio.run(take(holder.wait_ready().control))
        address = other.wait_ready().control
        assert asyncio.run(try_to_take(address)) == errno.EAGAIN
        holder.process.kill()
        holder.end()
        assert asyncio.run(try_to_take(address)) == errno.EAGAIN
        with client(s, "--seed", "1", name="holder") as again:
            again.wait_ready()
            assert asyncio.run(try_to_take(address)) == 0
            assert (again.stop(), other.stop(), s.stop()) == (0, 0, 0)
    assert list_daemons() == []
