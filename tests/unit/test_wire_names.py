"""Names as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freepage_proto.names import readable


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"/a/plain name.txt", "/a/plain name.txt"),
        ("/日本/ñ".encode(), "/日本/ñ"),
        (b"caf\xe9", "caf\\xe9"),
        (b"a\nb\tc\x1b[31m", "a\\nb\\tc\\x1b[31m"),
        ("right\u202eleft".encode(), "right\\u202eleft"),
    ],
)
def test_readable(name: bytes, shown: str) -> None:
    assert readable(name) == shown


@given(st.binary())
def test_whatever_it_is_it_is_printable_text(name: bytes) -> None:
    assert readable(name).isprintable()
    readable(name).encode("utf-8")
