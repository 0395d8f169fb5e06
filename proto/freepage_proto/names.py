"""Names are bytes, and anybody's: how reports, messages and pages show them."""

from __future__ import annotations


def readable(path: bytes) -> str:
    r"""Printable, whatever it holds: ``caf\xe9`` for what is no UTF-8, ``a\nb`` for what would begin a line."""
    text = path.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
