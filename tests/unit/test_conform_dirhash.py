"""ext4's order of names, held to what e2fsprogs' ``debugfs -R "dx_hash -h half_md4 -s SEED NAME"`` computes."""

from __future__ import annotations

import asyncio

import pytest

from freepage_lab.conform.dirhash import directory_position
from freepage_lab.conform.venue import exported_storage


@pytest.mark.parametrize(
    ("name", "major", "minor"),
    [
        (b"f0", 0xC675B4EE, 0x2B0BD183),
        (b"f1", 0xC9C1B334, 0x7D3DF0C1),
        (b"file-with-a-long-name-142", 0x91425302, 0xDA241816),
        (b"n" * 56 + b"7", 0xEBE5DC68, 0x14CF367D),
    ],
)
def test_a_name_has_the_hash_that_ext4_gives_it(name: bytes, major: int, minor: int) -> None:
    assert directory_position(name) == major << 31 | minor


def test_the_recordings_server_lists_names_in_that_order_whenever_they_were_made() -> None:
    storage = exported_storage(lambda: 0)
    root = storage.root()

    def listed() -> list[bytes]:
        found, _ = asyncio.run(storage.readdir(root, 0, 100))
        return [entry.name for entry in found[2:]]

    names = [b"f%d" % i for i in range(20)]
    for name in names[:10]:
        storage.create(root, name, 0o644, 0, 0)
    assert listed() == sorted(names[:10], key=directory_position)
    for name in names[10:]:
        storage.create(root, name, 0o644, 0, 0)
    storage.unlink(root, b"f3")
    assert listed() == sorted(set(names) - {b"f3"}, key=directory_position)
