"""Just enough HTTP/2 (RFC 9113) to be a bad peer of a gRPC server: frames by hand, and no manners."""

from __future__ import annotations

import asyncio
from typing import Self

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
ACK = END_STREAM = 1
END_HEADERS = 4
INITIAL_WINDOW_SIZE = 4


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _literal(name: bytes, value: bytes) -> bytes:
    """A header field without indexing (RFC 7541 section 6.2.2); both shorter than 127 bytes."""
    return b"\0" + bytes((len(name),)) + name + bytes((len(value),)) + value


def begin_call(stream: int, path: str) -> bytes:
    """The HEADERS of a gRPC call; its message follows as DATA."""
    fields = (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path.encode()),
        (b":authority", b"x"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    )
    return frame(HEADERS, END_HEADERS, stream, b"".join(_literal(*field) for field in fields))


def message(data: bytes, length: int | None = None) -> bytes:
    """A gRPC message, or the beginning of one of ``length`` bytes."""
    return b"\0" + (len(data) if length is None else length).to_bytes(4, "big") + data


class BadPeer:
    """A connection: says what it is told to, answers nothing by itself."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, port: int) -> Self:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    def say(self, *frames: bytes) -> None:
        self.writer.write(b"".join(frames))

    def shake_hands(self, window: int = 65535) -> None:
        settings = INITIAL_WINDOW_SIZE.to_bytes(2, "big") + window.to_bytes(4, "big")
        self.say(PREFACE, frame(SETTINGS, 0, 0, settings), frame(SETTINGS, ACK, 0))

    async def cut_off(self) -> bool:
        """Read until the server hangs up."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            pass
        return True
