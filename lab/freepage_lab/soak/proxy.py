"""A TCP proxy between clients and a server that does to connections what networks do.

It knows nothing of what it carries. Every connection to it is a `Link` with a connection of its own to the server; each
direction delivers bytes in order, after a delay and no faster than a rate, and can be held. Bytes are never dropped
from the middle of a stream: TCP does not either. What can happen to a link:

- **cut**: both ends are reset at once; bytes under way are lost.
- **held**: nothing moves in either direction for a while (a blackhole, for whoever waits); then it goes on, or is cut.
- **server_gone**: the server's end is closed, the client's stays open and silent (half-open).
- **client_gone**: the client's end is closed; what it had sent is delivered later all the same. A call that it sends
  again over a new connection overtakes the first one.

New connections can be refused, or accepted into the same silence.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

CHUNK_BYTES = 64 * 1024
WINDOW_BYTES = 1 << 20
"""What a direction takes from its sender before it has delivered it: the network's own buffers."""


@dataclass(slots=True)
class Weather:
    """What every link meets now. ``jitter_s`` is added to ``delay_s`` in part, at random; 0 bytes/s: no limit."""

    delay_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: float = 0.0
    refuse: bool = False
    silent: bool = False
    """new connections are accepted, and nobody answers until this is False again"""


class Link:
    """One client's connection through the proxy, and the proxy's own to the server."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._client = (reader, writer)
        self._server: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._open = asyncio.Event()
        """cleared while the link is held"""
        self._open.set()
        self._to_server: asyncio.Task[None] | None = None
        self._to_client: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Carry bytes until one end closes; then close the other, once it has what was under way to it."""
        try:
            await self._proxy.until_not_silent()
            self._server = await asyncio.open_connection(*self._proxy.target)
            for _, writer in (self._client, self._server):
                writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client, server = self._client, self._server
            self._to_server = asyncio.ensure_future(self._carry(client[0], server[1]))
            self._to_client = asyncio.ensure_future(self._carry(server[0], client[1]))
            await asyncio.wait((self._to_server, self._to_client))
        except OSError:
            pass  # the server is not there: the client learns it from its own connection's end
        finally:
            await self._end()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Deliver what ``reader`` brings, each chunk when its time has come, and the end after it."""
        loop = asyncio.get_running_loop()
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(WINDOW_BYTES // CHUNK_BYTES)

        async def deliver() -> None:
            free_at = loop.time()
            while True:
                due, data = await waiting.get()
                await self._open.wait()
                weather = self._proxy.weather
                if weather.bytes_per_s:
                    free_at = max(free_at, loop.time()) + len(data) / weather.bytes_per_s
                    due = max(due, free_at)
                if due > loop.time():
                    await asyncio.sleep(due - loop.time())
                await self._open.wait()
                if not data:
                    return
                writer.write(data)
                await writer.drain()
                self._proxy.bytes_carried += len(data)

        async def take() -> None:
            while True:
                data = await reader.read(CHUNK_BYTES)
                weather = self._proxy.weather
                delay_s = weather.delay_s + weather.jitter_s * self._proxy.random()
                await waiting.put((loop.time() + delay_s, data))
                if not data:
                    return

        delivering, taking = asyncio.ensure_future(deliver()), asyncio.ensure_future(take())
        try:
            # Whoever ends first with an error ends the other; a plain end of ``take`` is delivered in its turn.
            await asyncio.wait((delivering, taking), return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in (delivering, taking):
                task.cancel()
            await asyncio.gather(delivering, taking, return_exceptions=True)
            with contextlib.suppress(OSError, RuntimeError):
                writer.close()

    # What can happen to it.

    def cut(self) -> None:
        """Both ends are reset, now."""
        self._open.set()
        for pair in (self._client, self._server):
            if pair is not None:
                _reset(pair[1])

    def hold(self) -> None:
        """Nothing moves until `release`."""
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    def server_gone(self) -> None:
        """The server hears of the end, the client nothing at all until `cut`."""
        self._open.clear()
        if self._server is not None:
            _reset(self._server[1])

    def client_gone(self) -> None:
        """The client hears of the end at once; what it had sent waits for `release`, and arrives then."""
        self._open.clear()
        if self._to_client is not None:
            self._to_client.cancel()
        _reset(self._client[1])

    async def _end(self) -> None:
        tasks = [task for task in (self._to_server, self._to_client) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for pair in (self._client, self._server):
            if pair is not None:
                pair[1].close()
                with contextlib.suppress(OSError):
                    await pair[1].wait_closed()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN, as a router that has forgotten the connection answers the next packet."""
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Proxy:
    """Listens on a free port of loopback for connections to ``target`` (host, port). An async context manager.

    ``random`` gives floats in [0, 1). ``address`` is what clients are told.
    """

    def __init__(self, target: tuple[str, int], random: Callable[[], float]) -> None:
        self.target = target
        self.random = random
        self.weather = Weather()
        self.links: set[Link] = set()
        self.address = ""
        self.accepted = 0
        self.bytes_carried = 0
        self._server: asyncio.Server | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.address = f"{host}:{port}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        for link in list(self.links):
            link.cut()
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def change(self, weather: Weather) -> None:
        self.weather = weather
        self._changed.set()
        self._changed = asyncio.Event()

    async def until_not_silent(self) -> None:
        while self.weather.silent:
            await self._changed.wait()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self.weather.refuse:
            _reset(writer)
            return
        task = asyncio.ensure_future(self._run(Link(self, reader, writer)))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(self, link: Link) -> None:
        self.links.add(link)
        try:
            await link.run()
        finally:
            self.links.discard(link)
