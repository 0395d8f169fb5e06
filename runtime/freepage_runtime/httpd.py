"""A small HTTP server for a daemon's own pages: /metrics, /healthz and what else fits in one GET.

It lives in the daemon's event loop, so a page is rendered between two turns of the loop and sees the counters at rest:
prometheus_client's own server would render in a thread, in the middle of an update. It answers GET and HEAD, keeps
connections open as Prometheus likes them, and bounds everything a stranger can send.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import unquote

from freepage_runtime.process import listen
from freepage_runtime.settings import LOOPBACK, Address

log = logging.getLogger(__name__)


class Request(NamedTuple):
    """What a route may look at. The path is decoded, the query is not; header names are in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]


class Page(NamedTuple):
    """What a route answers; ``headers`` beside those that every answer has."""

    content_type: str
    body: bytes
    status: int = HTTPStatus.OK
    headers: tuple[tuple[str, str], ...] = ()


Route = Callable[[Request], Page]
"""Runs in the event loop: it must not block, and sees the state between two of the loop's turns."""


class Limits(NamedTuple):
    """What one peer may cost us."""

    request_bytes: int = 16 * 1024  # request line and headers
    connections: int = 64
    idle_s: float = 75.0  # between requests; Prometheus scrapes every 15 or 60 s
    request_s: float = 10.0  # from a request's first byte to the last byte of its answer; and to a first request


_DEFAULT_LIMITS = Limits()


class _BadRequest(Exception):
    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


def text_page(text: str, content_type: str = "text/plain; charset=utf-8", status: int = HTTPStatus.OK) -> Page:
    return Page(content_type, text.encode("utf-8"), status)


def _error_page(status: HTTPStatus) -> Page:
    return text_page(f"{status.value} {status.phrase}\n", status=status)


class HttpServer:
    """Serves ``routes`` (an exact path to a function) until ``close``. Reachable on loopback unless told otherwise."""

    def __init__(
        self, routes: Mapping[str, Route], *, host: str = LOOPBACK, port: int = 0, limits: Limits = _DEFAULT_LIMITS
    ) -> None:
        self.routes = dict(routes)
        self.address = Address(host, port)
        """Where it listens; the port is the real one after ``start``."""
        self._limits = limits
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._idle: dict[asyncio.Task[None], None] = {}
        """those of the connections that wait for a request, the one that has waited longest first"""
        self._leaving: set[asyncio.Task[None]] = set()
        """those that were told to make room"""

    async def start(self) -> Address:
        """Listen, and answer from now on. Raises PortTaken or CannotListen."""
        sock = listen(*self.address)
        self.address = Address(self.address.host, sock.getsockname()[1])
        self._server = await asyncio.start_server(self._accept, sock=sock, limit=self._limits.request_bytes)
        return self.address

    async def close(self) -> None:
        """Stop listening and cut the open connections; calling it twice does no harm."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) - len(self._leaving) >= self._limits.connections:
            # Whoever only keeps a place makes room; whoever is being answered does not.
            if not self._idle:
                writer.close()
                return
            longest = next(iter(self._idle))
            del self._idle[longest]
            self._leaving.add(longest)
            longest.cancel()
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        task.add_done_callback(self._leaving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wait_s = self._limits.request_s
        try:
            while await self._serve_one(reader, writer, wait_s):
                wait_s = self._limits.idle_s
        except (TimeoutError, ConnectionError):
            log.debug("a peer of the HTTP page went away or fell silent")
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(self._limits.request_s):
                    await writer.wait_closed()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wait_s: float) -> bool:
        """Answer one request, which has to begin within ``wait_s``; False when the connection is done."""
        task = asyncio.current_task()
        assert task is not None
        self._idle[task] = None
        try:
            async with asyncio.timeout(wait_s):
                first = await reader.read(1)
        finally:
            self._idle.pop(task, None)
        if not first:
            return False
        async with asyncio.timeout(self._limits.request_s):
            keep_alive = False
            try:
                request, keep_alive = await self._read_request(first, reader)
                page, head_only = self._answer(request), request.method == "HEAD"
            except _BadRequest as error:
                page, head_only = _error_page(error.status), False
            writer.write(_head(page, keep_alive))
            if not head_only:
                writer.write(page.body)
            await writer.drain()
        return keep_alive

    async def _read_request(self, first: bytes, reader: asyncio.StreamReader) -> tuple[Request, bool]:
        try:
            head = first + await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            raise _BadRequest(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE) from None
        except asyncio.IncompleteReadError:
            raise ConnectionResetError from None
        request_line, *header_lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        try:
            method, target, version = request_line.split(" ")
        except ValueError:
            raise _BadRequest(HTTPStatus.BAD_REQUEST) from None
        if version not in ("HTTP/1.1", "HTTP/1.0"):
            raise _BadRequest(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
        headers = {}
        for line in header_lines:
            name, colon, value = line.partition(":")
            if not colon or not name or name != name.strip():
                raise _BadRequest(HTTPStatus.BAD_REQUEST)
            headers[name.lower()] = value.strip()
        if "transfer-encoding" in headers or headers.get("content-length", "0") != "0":
            raise _BadRequest(HTTPStatus.BAD_REQUEST)  # a body would be taken for the next request
        path, _, query = target.partition("?")
        keep_alive = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
        return Request(method, unquote(path), query, headers), keep_alive

    def _answer(self, request: Request) -> Page:
        route = self.routes.get(request.path)
        if route is None:
            return _error_page(HTTPStatus.NOT_FOUND)
        if request.method not in ("GET", "HEAD"):
            return _error_page(HTTPStatus.METHOD_NOT_ALLOWED)
        try:
            return route(request)
        except Exception:
            log.exception("the page %s could not be rendered", request.path)
            return _error_page(HTTPStatus.INTERNAL_SERVER_ERROR)


def _head(page: Page, keep_alive: bool) -> bytes:
    status = HTTPStatus(page.status)
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Date: {formatdate(usegmt=True)}",
        f"Content-Type: {page.content_type}",
        f"Content-Length: {len(page.body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        *(f"{name}: {value}" for name, value in page.headers),
    ]
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        lines.append("Allow: GET, HEAD")
    if not keep_alive:
        lines.append("Connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
