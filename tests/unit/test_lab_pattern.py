"""The content pattern, against the definition and against a checksum that the real machine computed."""

from __future__ import annotations

import struct

from freepage_lab.conform.pattern import crc, pattern


def test_each_block_holds_its_own_number() -> None:
    data = pattern(3, 0, 3 * 4096)
    for block in range(3):
        value = (3 * 0x9E3779B97F4A7C15 + block * 0xBF58476D1CE4E5B9 + 1) % 2**64
        assert data[block * 4096 : (block + 1) * 4096] == struct.pack("<Q", value) * 512


def test_any_piece_is_the_piece_of_the_whole() -> None:
    whole = pattern(7, 0, 5 * 4096)
    for pos, count in [(0, 1), (1, 7), (4095, 2), (4096, 4096), (5000, 9000), (0, 5 * 4096), (12288, 0)]:
        assert pattern(7, pos, count) == whole[pos : pos + count]


def test_recorded_checksum() -> None:
    # append.json: 1000 bytes of seed 4, then 1000 of seed 5, read back as one file of 2000 bytes.
    assert crc(pattern(4, 0, 1000) + pattern(5, 0, 1000)) == "c3725938"
