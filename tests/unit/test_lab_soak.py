"""The soak test's own tools: a proxy that misbehaves as told, and a model that notices what is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from rich.console import Console

from freepage_lab.soak.command import _show
from freepage_lab.soak.part import Outcome, Part, Settings
from freepage_lab.soak.proxy import Proxy, Weather
from freepage_lab.soak.workload import BLOCK, FILE_BLOCKS, BlockFile, content


@asynccontextmanager
async def echo() -> AsyncIterator[tuple[Proxy, list[bytes]]]:
    """A proxy in front of a server that sends everything back; ``heard`` is what reached it."""
    heard: list[bytes] = []
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            while data := await reader.read(1 << 16):
                heard.append(data)
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        async with Proxy(server.sockets[0].getsockname()[:2], lambda: 0.0) as proxy:
            yield proxy, heard
    finally:
        server.close()
        for writer in writers:
            writer.close()


def play(story: Callable[[Proxy, list[bytes]], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with asyncio.timeout(20), echo() as (proxy, heard):
            await story(proxy, heard)

    asyncio.run(whole())


async def connect(proxy: Proxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = proxy.address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("never")


def test_bytes_pass_in_order_after_their_delay_and_at_their_rate() -> None:
    async def story(proxy: Proxy, heard: list[bytes]) -> None:
        reader, writer = await connect(proxy)
        loop = asyncio.get_running_loop()
        proxy.change(Weather(delay_s=0.05))
        start = loop.time()
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        assert loop.time() - start >= 0.1, "there and back"
        proxy.change(Weather(bytes_per_s=1e6))
        start = loop.time()
        writer.write(b"x" * 100_000)
        assert await reader.readexactly(100_000) == b"x" * 100_000
        assert loop.time() - start >= 0.1
        writer.close()
        await until(lambda: not proxy.links)

    play(story)


def test_a_held_link_delivers_when_it_is_released() -> None:
    async def story(proxy: Proxy, heard: list[bytes]) -> None:
        reader, writer = await connect(proxy)
        writer.write(b"1")
        assert await reader.readexactly(1) == b"1"
        (link,) = proxy.links
        link.hold()
        writer.write(b"2")
        await asyncio.sleep(0.05)
        assert heard == [b"1"]
        link.release()
        assert await reader.readexactly(1) == b"2"
        link.cut()
        with pytest.raises(ConnectionError):
            await reader.readexactly(1)
            writer.write(b"3")
            await writer.drain()
        writer.close()

    play(story)


def test_half_open_links() -> None:
    async def story(proxy: Proxy, heard: list[bytes]) -> None:
        reader, writer = await connect(proxy)
        writer.write(b"1")
        assert await reader.readexactly(1) == b"1"
        (link,) = proxy.links
        link.server_gone()
        writer.write(b"lost")
        await asyncio.sleep(0.05)
        assert heard == [b"1"] and not reader.at_eof(), "silence"
        link.cut()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()

        reader, writer = await connect(proxy)
        writer.write(b"2")
        assert await reader.readexactly(1) == b"2"
        await until(lambda: len(proxy.links) == 1)
        (link,) = proxy.links
        link.hold()
        writer.write(b"late")
        await asyncio.sleep(0.05)
        link.client_gone()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        other_reader, other = await connect(proxy)
        other.write(b"sooner")
        assert await other_reader.readexactly(6) == b"sooner"
        link.release()
        await until(lambda: b"late" in heard)
        assert heard == [b"1", b"2", b"sooner", b"late"]
        for each in (writer, other):
            each.close()

    play(story)


def test_refused_and_silent_connections() -> None:
    async def story(proxy: Proxy, heard: list[bytes]) -> None:
        proxy.change(Weather(refuse=True))
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            reader, writer = await connect(proxy)
            try:
                await reader.readexactly(1)
            finally:
                writer.close()
        proxy.change(Weather(silent=True))
        reader, writer = await connect(proxy)
        writer.write(b"anybody?")
        await asyncio.sleep(0.05)
        assert not heard
        proxy.change(Weather())
        assert await reader.readexactly(8) == b"anybody?"
        writer.close()

    play(story)


def test_the_model_notices_what_is_lost_torn_or_misplaced() -> None:
    file = BlockFile("f")
    disk = bytearray(FILE_BLOCKS * BLOCK)
    disk[: 4 * BLOCK] = file.write(0, 4)
    file.synced = list(file.newest)
    assert file.examine(bytes(disk)) == ([], 4 * BLOCK, 0)
    file.write(2, 2)
    assert file.examine(bytes(disk)) == ([], 4 * BLOCK, 2), "not synced: old or new, both are right"
    wrong, _, _ = file.examine(bytes(disk[: 3 * BLOCK]))
    assert wrong == ["f: block 3 was fsynced as 1, and is 0"]
    torn = bytearray(disk)
    torn[BLOCK + 512 : 2 * BLOCK] = content("f", 1, 2)[512:]
    assert file.examine(bytes(torn))[0] == ["f: block 1 is no version of it"]
    moved = bytes(disk[BLOCK : 2 * BLOCK] + disk[BLOCK:])
    assert file.examine(moved)[0] == ["f: block 0 is no version of it"]
    future = bytearray(disk)
    future[:BLOCK] = content("f", 0, 9)
    assert file.examine(bytes(future))[0] == ["f: block 0 is no version of it"]


def test_figures_and_failures_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """Units in brackets are no markup."""

    async def never(settings: Settings) -> Outcome:
        raise AssertionError

    outcome = Outcome({"longest stall [s]": 1.5, "bytes": 1234567, "what": "[fsync]"}, ["block [3] is lost"])
    _show(Console(soft_wrap=True), Part("crash", "about", never), outcome)
    shown = capsys.readouterr().out
    for text in ("longest stall [s]", "1.50", "1,234,567", "[fsync]", "block [3] is lost"):
        assert text in shown
    assert "every promise" not in shown
