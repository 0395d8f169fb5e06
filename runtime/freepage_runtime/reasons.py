"""gRPC's prose about connections, and what of it a person wants to read."""

from __future__ import annotations

import re

_PREFIXES = re.compile(
    r"(?:failed to connect to all addresses; last error: )?(?:[A-Z_]+: )?(?:ipv[46]:\S+: )?"
    r"(?:Failed to connect to remote host: |connect: )?"
)
_UNRESOLVED = re.compile(r"errors resolving .*: ([^:\]]+)\]?$")


def brief(details: str) -> str:
    """``Connection refused`` of a whole line of gRPC's; a text of another form is left as it is."""
    unresolved = _UNRESOLVED.match(details)
    if unresolved is not None:
        return unresolved[1]
    return details[_PREFIXES.match(details).end() :] or details  # type: ignore[union-attr]  # it matches nothing, too
