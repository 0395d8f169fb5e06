"""A server that is nobody in particular: a user without privileges exports what is his, and handles last as well."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from freepage_client.io.transport import GrpcNetwork
from freepage_proto.mount3 import MntArgs, MountStat3
from freepage_proto.nfs3 import (
    NFS3_FHSIZE,
    CreateArgs,
    CreateMode3,
    FileHandle,
    FType3,
    GetattrArgs,
    LookupArgs,
    MkdirArgs,
    MknodArgs,
    NfsStat3,
    ReadArgs,
    Sattr3,
    SetattrArgs,
    StableHow,
    WriteArgs,
)
from freepage_proto.rpc import AuthSys, CallHeader, Procedure

P = Procedure
USER = 65534 if os.geteuid() == 0 else os.geteuid()
END_S = 60.0

# Root becomes nobody at the last moment: nobody may not be able to read the interpreter's own files.
BECOME = """
import concurrent.futures.thread, ctypes, encodings.ascii, encodings.idna, encodings.latin_1, importlib.readers, os, sys
import freepage_runtime.daemon as daemon
from freepage_lab.cli import main
run = daemon.run
def run_as_nobody(work):
    daemon.version()  # imports what it needs
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        ctypes.CDLL(None).prctl(4, 1)  # PR_SET_DUMPABLE: /proc/self is ours again, as for those who never were root
    return run(work)
daemon.run = run_as_nobody
main(sys.argv[1:])
"""

Call: TypeAlias = Callable[..., Any]


@contextlib.asynccontextmanager
async def serving(home: Path, export: str) -> AsyncIterator[Call]:
    """A server whose working directory is ``home``."""
    command = (
        "server",
        "--export",
        f"{export}:/export",
        "--state",
        "state",
        "--listen",
        "127.0.0.1:0",
        "--no-ops",
        "--metrics",
        "none",
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", BECOME, *command,
        cwd=home, env={**os.environ, "FREEPAGE_RUNTIME_DIR": "run"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    network = GrpcNetwork()
    try:
        assert process.stdout is not None and process.stderr is not None
        line = await asyncio.wait_for(process.stdout.readline(), END_S)
        assert line, (await process.stderr.read()).decode()
        transport = network.connect(json.loads(line)["grpc"])
        xid = 0

        async def call(procedure: Procedure, args: object, uid: int = 1000) -> Any:
            nonlocal xid
            xid += 1
            header = CallHeader("A", os.getpid(), xid, AuthSys(uid, uid, (), "A"))
            return await transport.call(procedure, header, args)

        yield call
        process.terminate()
        _, errors = await asyncio.wait_for(process.communicate(), END_S)
        assert process.returncode == 0, errors.decode()
        assert b"Traceback" not in errors
    finally:
        await network.close()
        if process.returncode is None:
            process.kill()
            _, errors = await process.communicate()
            print(errors.decode())


async def mount(call: Call) -> FileHandle:
    mounted = await call(P.MOUNT_MNT, MntArgs(b"/export"))
    assert mounted.status is MountStat3.OK
    handle: FileHandle = mounted.fhandle
    return handle


@pytest.fixture
def home() -> Iterator[Path]:
    """Not below pytest's own directory, which is closed to others."""
    path = Path(tempfile.mkdtemp(prefix="freepage-unprivileged-", dir="/var/tmp"))
    for name in ("export", "state", "run"):
        (path / name).mkdir()
    for each in (path, *path.iterdir()):
        os.chown(each, USER, USER)
    (path / "run").chmod(0o700)
    (path / "export").chmod(0o777)
    yield path
    shutil.rmtree(path)


def test_handles_last_without_privileges(home: Path) -> None:
    async def story() -> None:
        async with serving(home, "export") as call:
            root = await mount(call)
            d = (await call(P.MKDIR, MkdirArgs(root, b"d", Sattr3(mode=0o777)))).object
            handles = []
            for name in (b"renamed", b"moved", b"removed", b"kept"):
                made = await call(P.CREATE, CreateArgs(d, name, CreateMode3.GUARDED, Sattr3(mode=0o666)))
                assert made.status is NfsStat3.OK
                wrote = await call(P.WRITE, WriteArgs(made.object, 0, len(name), StableHow.FILE_SYNC, name))
                assert wrote.status is NfsStat3.OK
                handles.append(made.object)
            assert all(len(handle) <= NFS3_FHSIZE for handle in (root, d, *handles))
            owners = {path.stat().st_uid for path in (home / "export").rglob("*")}
            assert owners == {USER}, "whoever creates it, a file is the server's own user's"
            given = await call(P.SETATTR, SetattrArgs(handles[0], Sattr3(uid=0, gid=0)), 0)
            device = MknodArgs(root, b"dev", FType3.CHR, Sattr3(mode=0o666), (1, 3))
            made = await call(P.MKNOD, device, 0)
            if os.geteuid() == 0:  # or else the system may let its user do these
                assert (given.status, made.status) == (NfsStat3.PERM, NfsStat3.PERM)
        # Nobody is looking: other programs rename, move, remove, and use the number of what was removed again.
        here = home / "export" / "d"
        (here / "renamed").rename(here / "other name")
        (here / "moved").rename(home / "export" / "elsewhere")
        number = (here / "removed").stat().st_ino
        (here / "removed").unlink()
        for attempt in range(64):
            (home / "export" / f"new{attempt}").touch()
            if (home / "export" / f"new{attempt}").stat().st_ino == number:
                break
        (home / "export").rename(home / "export moved")
        async with serving(home, "export moved") as call:
            assert await mount(call) == root, "the export is known by its name and its directory, wherever that is"
            expected = (b"renamed", b"moved", None, b"kept")
            for handle, text in zip(handles, expected, strict=True):
                read = await call(P.READ, ReadArgs(handle, 0, 100))
                if text is None:
                    assert read.status is NfsStat3.STALE
                else:
                    assert (read.status, bytes(read.data)) == (NfsStat3.OK, text)
            assert (await call(P.GETATTR, GetattrArgs(d))).status is NfsStat3.OK
            found = await call(P.LOOKUP, LookupArgs(d, b"other name"))
            assert found.object == handles[0]

    asyncio.run(story())


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can make what another may not read")
def test_what_the_server_may_not_read_is_an_honest_error(home: Path) -> None:
    closed = home / "export" / "closed"
    closed.mkdir(mode=0o700)
    secret = home / "export" / "secret"
    secret.write_text("root's")
    secret.chmod(0o600)
    (home / "export" / "open").write_text("open")

    async def story() -> None:
        async with serving(home, "export") as call:
            root = await mount(call)
            f = (await call(P.LOOKUP, LookupArgs(root, b"secret"))).object
            # For NFS's root everything is allowed; the system says otherwise.
            assert (await call(P.READ, ReadArgs(f, 0, 10), 0)).status is NfsStat3.ACCES
            d = (await call(P.LOOKUP, LookupArgs(root, b"closed"))).object
            assert (await call(P.LOOKUP, LookupArgs(d, b"x"), 0)).status is NfsStat3.ACCES
            assert (await call(P.GETATTR, GetattrArgs(d))).status is NfsStat3.OK
            g = (await call(P.LOOKUP, LookupArgs(root, b"open"))).object
            assert bytes((await call(P.READ, ReadArgs(g, 0, 10))).data) == b"open"

    asyncio.run(story())


def test_a_directory_that_is_not_ours_is_not_exported(home: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("root alone can make what another may not read")
    (home / "export").chmod(0o700)
    os.chown(home / "export", 0, 0)
    command = [sys.executable, "-c", BECOME, "server", "--export", "export", "--listen", "127.0.0.1:0", "--no-ops"]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=END_S, check=False)
    assert done.returncode != 0
    assert done.stderr == "freepage: cannot export export: Permission denied\n"
