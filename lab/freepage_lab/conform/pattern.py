"""The content that workloads write and read: an endless file that is different for each seed and in each block.

``pattern(seed, pos, count)`` are the bytes [pos, pos+count) of a file whose 4096-byte block b holds one little-endian
64-bit number, ``seed * 0x9E3779B97F4A7C15 + b * 0xBF58476D1CE4E5B9 + 1`` modulo 2**64, 512 times over. So each block
differs from its neighbours and from the same block of any other seed, and a block of zeroes never occurs.
"""

from __future__ import annotations

import struct
import zlib

BLOCK = 4096
_SEED_STEP = 0x9E37_79B9_7F4A_7C15
_BLOCK_STEP = 0xBF58_476D_1CE4_E5B9
_MASK = (1 << 64) - 1


def pattern(seed: int, pos: int, count: int) -> bytes:
    """Bytes [pos, pos+count) of the endless file ``seed``."""
    if count <= 0:
        return b""
    first, skip = divmod(pos, BLOCK)
    last = (pos + count - 1) // BLOCK
    blocks = b"".join(
        struct.pack("<Q", (seed * _SEED_STEP + block * _BLOCK_STEP + 1) & _MASK) * (BLOCK // 8)
        for block in range(first, last + 1)
    )
    return blocks[skip : skip + count]


def crc(data: bytes | bytearray | memoryview, start: int = 0) -> str:
    """zlib's CRC-32 as the result strings show it: eight lower-case hex digits."""
    return f"{zlib.crc32(data, start):08x}"
