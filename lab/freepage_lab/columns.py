"""Moments of a run, as JSON holds them and plots want them: a list for each name, all of one length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def columns(moments: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """All moments have the names of the first; no moments, no columns."""
    return {name: [moment[name] for moment in moments] for name in (moments[0] if moments else ())}
