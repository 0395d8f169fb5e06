"""Numbers as tables show them."""

from __future__ import annotations


def three_digits(value: float) -> str:
    """Three digits that matter, or all of those before the point; without an exponent."""
    magnitude = abs(value)
    if magnitude >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if magnitude >= 10 else f"{value:.2f}"
