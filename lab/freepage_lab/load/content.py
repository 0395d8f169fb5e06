"""What is in the files: blocks that say which file they belong to and which writing of it they are from.

A file's content is the endless pattern (`freepage_lab.conform.pattern`) of a 64-bit seed, of which the upper 40 bits
are the file's identity and the lower 24 the version. As every block of the pattern can be turned back into its seed,
a block that should not be where it is tells where it comes from: an older version, another file, or zeroes.
"""

from __future__ import annotations

import hashlib
import struct

from freepage_lab.conform.pattern import BLOCK, pattern

VERSIONS = 1 << 24
_MASK = (1 << 64) - 1
_SEED_STEP = 0x9E37_79B9_7F4A_7C15
_BLOCK_STEP = 0xBF58_476D_1CE4_E5B9
_SEED_STEP_INVERSE = pow(_SEED_STEP, -1, 1 << 64)


def identity(*parts: object) -> int:
    """A 40-bit number for a file, from what tells it from all others."""
    digest = hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=5).digest()
    return int.from_bytes(digest, "big")


def content(file: int, version: int, pos: int, count: int) -> bytes:
    """Bytes [pos, pos+count) of that version of the file with that identity."""
    return pattern(file * VERSIONS + version % VERSIONS, pos, count)


def origin(data: bytes | memoryview, pos: int) -> tuple[int, int] | None:
    """(file, version) that bytes at ``pos``, all of one block, are from; None when they are no whole pattern."""
    skip = -pos % 8
    word = bytes(data[skip : skip + 8])
    if len(word) < 8:
        return None
    (number,) = struct.unpack("<Q", word)
    seed = (number - 1 - pos // BLOCK * _BLOCK_STEP) * _SEED_STEP_INVERSE & _MASK
    file, version = divmod(seed, VERSIONS)
    return (file, version) if content(file, version, pos, len(data)) == bytes(data) else None


def blocks(pos: int, count: int) -> list[tuple[int, int]]:
    """The parts (pos, count) of a range, cut where a block ends."""
    parts, end = [], pos + count
    while pos < end:
        length = min(BLOCK - pos % BLOCK, end - pos)
        parts.append((pos, length))
        pos += length
    return parts


def describe(data: bytes | memoryview, pos: int, file: int) -> str:
    """What is found where something else should be, in words."""
    if not any(data):
        return "zeroes"
    found = origin(data, pos)
    if found is None:
        return "a mixture"
    return f"version {found[1]}" if found[0] == file else "another file's data"
