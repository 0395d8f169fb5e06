"""Write errors remembered on the mapping and reported once to each opener (lib/errseq.c).

The value packs the errno (12 bits), a flag "somebody has seen it" and a counter that moves on only when the last
error was seen, so that equal values mean: nothing new since you looked.
"""

from __future__ import annotations

_MAX_ERRNO = 4095
_SEEN = 1 << 12
_COUNTER_STEP = 1 << 13


class ErrSeq:
    """An error cursor. `since` values are opaque integers, held by each opener."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def set(self, errno: int) -> None:
        """Record `errno` (positive). A repeat of an error nobody has seen yet changes nothing."""
        assert 0 < errno <= _MAX_ERRNO
        new = (self.value & ~(_MAX_ERRNO | _SEEN)) | errno
        if self.value & _SEEN:
            new += _COUNTER_STEP
        self.value = new

    def sample(self) -> int:
        """Where an opener starts: an error that nobody has seen yet will be reported to it too (hence 0)."""
        return self.value if self.value & _SEEN else 0

    def check(self, since: int) -> int:
        """The errno set after `since`, or 0; does not mark it as seen."""
        return 0 if self.value == since else self.value & _MAX_ERRNO

    def check_and_advance(self, since: int) -> tuple[int, int]:
        """(errno set after `since` or 0, the new `since`); marks the error as seen."""
        if self.value == since:
            return 0, since
        self.value |= _SEEN
        return self.value & _MAX_ERRNO, self.value
