"""The client as a library: its own example as it is written down, the asynchronous half, mistakes."""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import daemon_rig
import freepage_client


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("export")


@pytest.fixture(scope="module")
def source(export: Path) -> Iterator[str]:
    with daemon_rig.DaemonProcess(
        "server", "--export", f"{export}:/export,no_root_squash", "--listen", "127.0.0.1:0", "--metrics", "none"
    ) as server:
        server.wait_ready()
        yield f"{server.ready['grpc']}:/export"
        assert server.stop() == 0, server.stderr


def test_the_example(source: str, export: Path) -> None:
    assert freepage_client.__doc__ is not None
    example = re.search(r"::\n\n((?:    .*\n|\n)+)", freepage_client.__doc__)
    assert example is not None
    code = textwrap.dedent(example[1]).replace("127.0.0.1:2049:/export", source)
    assert code.strip().count("\n") < 15
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(code, "example", "exec"), {})
    first, second, third = said.getvalue().splitlines()[:3]
    assert first == "b'hello, world' {'GETATTR': 1, 'ACCESS': 1}"
    assert second == "['hello'] 12"
    assert third.startswith("device ")
    assert (export / "hello").read_bytes() == b"hello, world"


def test_the_asynchronous_half(source: str, export: Path) -> None:
    async def main() -> None:
        async with freepage_client.Host("h1", memory_bytes=1 << 20) as one, freepage_client.Host("h2") as two:
            for host in (one, two):
                await host.mount(source, "/m")
            async with await one.open("/m/f", "xb") as file:
                assert await file.write(b"0123456789") == 10
            async with await two.open("/m/f", "r+b") as file:
                assert await file.seek(5) == 5
                assert await file.read(3) == b"567"
                await file.write(b"!")
                await file.fsync()
                with pytest.raises(OSError, match="busy"):
                    await two.umount("/m")
            assert await one.read("/m/f") == b"01234567!9"
            assert "f" in await one.listdir("/m")
            assert (await one.stat("/m/f")).st_size == 10
            assert (await one.statfs("/m")).f_namemax == 255
            assert one.audit().agrees and not one.audit().orphaned
            assert one.counters().rpcs["WRITE"] == 1
            assert await one.umount("/m") == []

    asyncio.run(main())


def test_files_of_scripts(source: str) -> None:
    with freepage_client.mount(source, name="scripts") as fs:
        fs.mkdir("/d")
        with fs.open("/d/log", "ab") as log:
            log.write(b"one\n")
            log.write(b"two\n")
            log.fsync()
        with fs.open("/d/log") as log:
            assert log.read(4) == b"one\n"
            assert log.read() == b"two\n"
            log.seek(0)
            assert len(log.read()) == 8
        fs.run(lambda task: task.rename("/d/log", "/d/old"))
        assert fs.listdir("/d") == ["old"]
        fs.unlink("d/old")
        assert fs.audit().agrees
    with pytest.raises(OSError, match="closed"):
        fs.read("/d/old")


def test_mistakes_of_callers(source: str) -> None:
    with pytest.raises(freepage_client.BadMountOption, match="frobnicate"):
        freepage_client.mount(source, "frobnicate")
    with pytest.raises(OSError):
        freepage_client.mount(source.replace("/export", "/nothing"))
    with freepage_client.mount(source) as fs:
        with pytest.raises(FileNotFoundError):
            fs.read("/missing")
        with pytest.raises(ValueError, match="mode"):
            fs.open("/f", "rw")
    with pytest.raises(AttributeError, match="frobnicate"):
        freepage_client.frobnicate  # noqa: B018
