"""Where ext4 puts a name in a listing: by its hash, not in the order of creation (fs/ext4/hash.c, half MD4).

The recordings' file system was made with a fixed hash seed, so that the order of its directories can be computed. It
decides which names a reply of READDIRPLUS brings attributes of, and where the replies are cut.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable

HASH_SEED = uuid.UUID("11111111-2222-3333-4444-555555555555")
"""``mke2fs -E hash_seed`` of the recordings."""

_CHUNK = 32
"""Bytes of a name that one transformation takes in."""
_MASK = 0xFFFFFFFF
_EOF_32BIT = 0x7FFFFFFF
"""The hash that means the end of a directory; no name may have it."""

_Mix = Callable[[int, int, int], int]

_ROUNDS: tuple[tuple[tuple[int, ...], tuple[int, ...], int, _Mix], ...] = (
    ((0, 1, 2, 3, 4, 5, 6, 7), (3, 7, 11, 19), 0, lambda x, y, z: z ^ (x & (y ^ z))),
    ((1, 3, 5, 7, 0, 2, 4, 6), (3, 5, 9, 13), 0x5A827999, lambda x, y, z: (x & y) + ((x ^ y) & z)),
    ((3, 7, 2, 6, 1, 5, 0, 4), (3, 9, 11, 15), 0x6ED9EBA1, lambda x, y, z: x ^ y ^ z),
)
"""Of each round: the order of the words, the rotations, the constant, the function (RFC 1320's, over eight words)."""


def directory_position(name: bytes) -> int:
    """The name's place: names are listed in this order. Major hash above, minor hash below (hash2pos, 64 bits)."""
    state: list[int] = list(struct.unpack("<4I", HASH_SEED.bytes))
    for start in range(0, len(name), _CHUNK):
        _transform(state, _words(name[start : start + _CHUNK], len(name) - start))
    major = state[1] & ~1
    if major == _EOF_32BIT << 1:
        major = (_EOF_32BIT - 1) << 1
    return major >> 1 << 32 | state[2]


def _words(chunk: bytes, left: int) -> list[int]:
    """Eight words of a chunk: four characters each, as signed numbers, and the number of bytes left as padding."""
    pad = left & 0xFF
    pad |= pad << 8
    pad |= pad << 16
    words = []
    for start in range(0, _CHUNK, 4):
        word = pad
        for byte in chunk[start : start + 4]:
            word = ((word << 8) + (byte if byte < 0x80 else byte - 0x100)) & _MASK
        words.append(word)
    return words


def _transform(state: list[int], words: list[int]) -> None:
    rounds = list(state)
    for order, shifts, constant, mix in _ROUNDS:
        for step, index in enumerate(order):
            target = -step % 4
            x, y, z = (rounds[(target + i) % 4] for i in (1, 2, 3))
            total = (rounds[target] + mix(x, y, z) + words[index] + constant) & _MASK
            shift = shifts[step % 4]
            rounds[target] = (total << shift | total >> (32 - shift)) & _MASK
    for i, value in enumerate(rounds):
        state[i] = (state[i] + value) & _MASK
