"""The wire format of protobuf, by hand, where protobuf's own code would copy: calls and replies that carry file data.

protobuf copies the data of a READ or WRITE two or three times and looks at them as a field among fields; at 1 MiB that
costs 16 to 27 times one copy. ReadResponse and WriteRequest keep their data in the last field, so a message is its head
(everything else, a few dozen bytes, which protobuf may do) followed by a tag, a length and the data:

* encoding joins head, tag, length and data: one copy, from the pages to the message;
* decoding cuts the message behind the head and hands out a view of the data: no copy.

The bytes are exactly those that protobuf writes. A message that another implementation wrote in another legal order is
recognised (``split_last_bytes`` returns None) and left to protobuf.

Source: protobuf's encoding guide: a field is ``tag = number << 3 | wire type`` and a value; wire type 0 is a varint, 1
eight bytes, 2 a length and that many bytes, 5 four bytes.
"""

from __future__ import annotations

from freepage_proto.nfs3 import Data

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Malformed(ValueError):
    """The bytes are no protobuf message."""


def varint(value: int) -> bytes:
    """`value` (0 .. 2**64 - 1) as a base-128 varint. Lengths, offsets and xids have up to five bytes."""
    if value < 0x80:
        return bytes((value,))
    if value < 1 << 14:
        return bytes((value & 0x7F | 0x80, value >> 7))
    if value < 1 << 21:
        return bytes((value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14))
    if value < 1 << 28:
        return bytes((value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14 & 0x7F | 0x80, value >> 21))
    if value < 1 << 35:
        return bytes(
            (
                value & 0x7F | 0x80,
                value >> 7 & 0x7F | 0x80,
                value >> 14 & 0x7F | 0x80,
                value >> 21 & 0x7F | 0x80,
                value >> 28,
            )
        )
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(buffer: bytes, position: int) -> tuple[int, int]:
    """The varint at `position` and the position behind it; raises Malformed.

    Counts, offsets and xids have up to five bytes: those are added up as they are, and the marks of all but the last
    taken away together.
    """
    try:
        value = buffer[position]
        if value < 0x80:
            return value, position + 1
        byte = buffer[position + 1]
        value += byte << 7
        if byte < 0x80:
            return value - 0x80, position + 2
        byte = buffer[position + 2]
        value += byte << 14
        if byte < 0x80:
            return value - 0x4080, position + 3
        byte = buffer[position + 3]
        value += byte << 21
        if byte < 0x80:
            return value - 0x204080, position + 4
        byte = buffer[position + 4]
        value += byte << 28
        if byte < 0x80:
            return value - 0x10204080, position + 5
        value -= 0x810204080
        shift = 35
        position += 5
        while True:
            byte = buffer[position]
            position += 1
            value += (byte & 0x7F) << shift
            if byte < 0x80:
                return value, position
            shift += 7
            if shift > 63:
                raise Malformed("a varint is longer than ten bytes")
    except IndexError:
        raise Malformed("the message ends within a varint") from None


def bytes_head(number: int, length: int) -> bytes:
    """What comes before the bytes of a bytes field: tag and length. Nothing for no bytes, which proto3 omits."""
    return bytes((number << 3 | _BYTES,)) + varint(length) if length else b""


def bytes_field(number: int, value: Data) -> tuple[bytes, Data]:
    """A bytes field as (tag and length, value), to be joined; both empty for an empty value."""
    return bytes_head(number, len(value)), value


def split_last_bytes(buffer: bytes, number: int) -> tuple[bytes, memoryview] | None:
    """Cut a message into its head and its last field, the bytes field `number` (1 .. 15).

    Returns (head, view of the data), with empty data when the field is absent, or None when the field is not the last:
    then the message is legal but not as we write it, and protobuf must read it. Raises Malformed for bytes that are
    no message; the head's own fields are not looked into.
    """
    wanted = number << 3 | _BYTES
    position, end = 0, len(buffer)
    while position < end:
        begin = position
        tag = buffer[position]
        position += 1
        if tag >= 0x80:  # field numbers from 16 on: none of ours, so an extension of somebody else's
            tag, position = read_varint(buffer, begin)
        kind = tag & 7
        if kind == _BYTES:
            length, position = read_varint(buffer, position)
            if length > end - position:
                raise Malformed("a field is longer than the message")
            if tag == wanted:
                if position + length != end:
                    return None
                return buffer[:begin], memoryview(buffer)[position:]
            position += length
        elif kind == _VARINT:
            try:
                while buffer[position] >= 0x80:
                    position += 1
            except IndexError:
                raise Malformed("the message ends within a varint") from None
            position += 1
        elif kind == _FIXED64:
            position += 8
        elif kind == _FIXED32:
            position += 4
        else:
            raise Malformed(f"wire type {kind} is not used by proto3")
    if position > end:
        raise Malformed("the message ends within a field")
    return buffer, memoryview(b"")
