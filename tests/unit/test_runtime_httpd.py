from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from freepage_runtime.httpd import HttpServer, Limits, Page, Request, text_page
from freepage_runtime.process import PortTaken


def raising(request: Request) -> Page:
    raise ZeroDivisionError


ROUTES = {
    "/": lambda request: text_page("hello\n"),
    "/echo me": lambda request: text_page(f"{request.query} {request.headers.get('accept')}"),
    "/broken": raising,
}


async def exchange(server: HttpServer, sent: bytes) -> bytes:
    """Everything the server says to these bytes until it hangs up."""
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(sent)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


def serve(limits: Limits, test: Callable[[HttpServer], Awaitable[None]]) -> None:
    async def main() -> None:
        server = HttpServer(ROUTES, limits=limits)
        address = await server.start()
        assert address.port != 0
        try:
            await test(server)
        finally:
            await server.close()
            await server.close()

    asyncio.run(main())


def get(path: str = "/", method: str = "GET", close: bool = True, version: str = "HTTP/1.1", more: str = "") -> bytes:
    connection = "Connection: close\r\n" if close else ""
    return f"{method} {path} {version}\r\nHost: x\r\n{connection}{more}\r\n".encode()


def test_a_page() -> None:
    async def test(server: HttpServer) -> None:
        head, _, body = (await exchange(server, get())).partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        assert lines[0] == "HTTP/1.1 200 OK"
        assert {"Content-Type: text/plain; charset=utf-8", "Content-Length: 6", "Connection: close"} <= set(lines)
        assert body == b"hello\n"

    serve(Limits(), test)


def test_the_route_sees_path_query_and_headers() -> None:
    async def test(server: HttpServer) -> None:
        answer = await exchange(server, get("/echo%20me?name[]=x", more="ACCEPT:  text/plain \r\n"))
        assert answer.endswith(b"\r\n\r\nname[]=x text/plain")

    serve(Limits(), test)


def test_head_has_the_length_and_no_body() -> None:
    async def test(server: HttpServer) -> None:
        answer = await exchange(server, get(method="HEAD"))
        assert b"Content-Length: 6\r\n" in answer
        assert answer.endswith(b"\r\n\r\n")

    serve(Limits(), test)


def test_a_connection_serves_several_requests() -> None:
    async def test(server: HttpServer) -> None:
        answer = await exchange(server, get(close=False) + get(close=False) + get(version="HTTP/1.0", close=False))
        assert answer.count(b"HTTP/1.1 200 OK") == 3, "HTTP/1.0 hangs up after its answer, HTTP/1.1 does not"

    serve(Limits(), test)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (get("/nowhere"), 404),
        (get("/%2e%2e/etc/passwd"), 404),
        (get(method="DELETE"), 405),
        (get(version="HTTP/2.0"), 505),
        (b"x\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n folded: line\r\n\r\n", 400),
        (get(more="Content-Length: 5\r\n") + b"abcde", 400),
        (get(more="Transfer-Encoding: chunked\r\n"), 400),
        (get(more="X: " + "x" * 4096 + "\r\n"), 431),
    ],
)
def test_what_is_not_a_request_for_a_page(sent: bytes, status: int) -> None:
    async def test(server: HttpServer) -> None:
        answer = await exchange(server, sent)
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())
        if status == 405:
            assert b"Allow: GET, HEAD\r\n" in answer

    serve(Limits(request_bytes=1024), test)


def test_a_route_that_fails_is_logged_and_the_server_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    async def test(server: HttpServer) -> None:
        answer = await exchange(server, get("/broken", close=False) + get())
        assert answer.startswith(b"HTTP/1.1 500 ")
        assert answer.endswith(b"hello\n")

    with caplog.at_level(logging.ERROR):
        serve(Limits(), test)
    assert "the page /broken could not be rendered" in caplog.text


def test_the_silent_and_the_slow_are_hung_up_on() -> None:
    async def test(server: HttpServer) -> None:
        assert await exchange(server, b"") == b""
        assert await exchange(server, b"GET / HT") == b""

    serve(Limits(idle_s=0.01, request_s=0.01), test)


def test_a_peer_that_leaves_in_the_middle_does_no_harm() -> None:
    async def test(server: HttpServer) -> None:
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(b"GET / HT")
        writer.close()
        await writer.wait_closed()
        assert await reader.read() == b""
        assert (await exchange(server, get())).endswith(b"hello\n")

    serve(Limits(), test)


def test_one_connection_too_many_is_closed_unless_another_is_idle() -> None:
    async def test(server: HttpServer) -> None:
        first_reader, first = await asyncio.open_connection(*server.address)
        second_reader, second = await asyncio.open_connection(*server.address)
        first.write(get(close=False))
        assert b"hello" in await first_reader.readuntil(b"hello\n")
        second.write(b"GET / HT")
        await second.drain()
        assert (await exchange(server, get())).endswith(b"hello\n"), "the first only kept its place"
        assert await first_reader.read() == b""
        again_reader, again = await asyncio.open_connection(*server.address)
        again.write(b"GET / HT")
        await again.drain()
        for _ in range(10_000):
            if not server._idle:
                break
            await asyncio.sleep(0)
        assert await exchange(server, get()) == b"", "both are in the middle of a request"
        for reader, writer in ((second_reader, second), (again_reader, again)):
            writer.write(get().removeprefix(b"GET / HT"))
            assert (await reader.read()).endswith(b"hello\n")
            writer.close()
            await writer.wait_closed()
        first.close()
        await first.wait_closed()

    serve(Limits(connections=2), test)


def test_a_first_request_has_to_come_sooner_than_the_next() -> None:
    async def test(server: HttpServer) -> None:
        assert await exchange(server, b"") == b""
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(get(close=False))
        await reader.readuntil(b"hello\n")
        await asyncio.sleep(0.05)
        writer.write(get())
        assert (await reader.read()).endswith(b"hello\n")
        writer.close()
        await writer.wait_closed()

    serve(Limits(idle_s=60.0, request_s=0.02), test)


def test_closing_hangs_up_on_idle_connections() -> None:
    async def main() -> None:
        server = HttpServer(ROUTES)
        await server.start()
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(get(close=False))
        await reader.readuntil(b"hello\n")
        await server.close()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()

    asyncio.run(main())


def test_a_taken_port_is_the_users_error() -> None:
    async def main() -> None:
        server = HttpServer(ROUTES)
        address = await server.start()
        with pytest.raises(PortTaken):
            await HttpServer(ROUTES, port=address.port).start()
        await server.close()

    asyncio.run(main())
