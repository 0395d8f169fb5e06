"""How long things took, kept in bounded memory with the same relative precision everywhere.

Values are counted in microseconds, in buckets as an HDR histogram has them: exactly up to 64 us, then 32 buckets for
every doubling, so a percentile is right to 1.6 % from a microsecond to days, in at most some 1,200 buckets.
"""

from __future__ import annotations

from collections.abc import Iterable

SUB_BITS = 5
EXACT = 1 << (SUB_BITS + 1)
MAX_US = 1 << 40
"""Twelve days; longer counts as this."""


def bucket(us: int) -> int:
    """The number of the bucket that ``us`` falls into."""
    if us < EXACT:
        return max(us, 0)
    shift = us.bit_length() - SUB_BITS - 1
    return (shift << SUB_BITS) + (us >> shift)


def middle_us(number: int) -> float:
    """The middle of a bucket, in microseconds."""
    if number < EXACT:
        return float(number)
    shift = (number >> SUB_BITS) - 1
    low = ((number & ((1 << SUB_BITS) - 1)) + (1 << SUB_BITS)) << shift
    return low + ((1 << shift) - 1) / 2


class Latencies:
    """Durations of one kind of thing."""

    __slots__ = ("count", "counts", "max_s", "sum_s")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.count = 0
        self.sum_s = 0.0
        self.max_s = 0.0

    def record(self, seconds: float) -> None:
        number = bucket(min(int(seconds * 1e6), MAX_US))
        self.counts[number] = self.counts.get(number, 0) + 1
        self.count += 1
        self.sum_s += seconds
        if seconds > self.max_s:
            self.max_s = seconds

    def add(self, other: Latencies) -> None:
        for number, n in other.counts.items():
            self.counts[number] = self.counts.get(number, 0) + n
        self.count += other.count
        self.sum_s += other.sum_s
        self.max_s = max(self.max_s, other.max_s)

    def since(self, before: Latencies) -> Latencies:
        """What has been added since ``before``, an earlier state of the same. The maximum is that of all time."""
        later = Latencies()
        later.counts = {
            number: n - before.counts.get(number, 0)
            for number, n in self.counts.items()
            if n > before.counts.get(number, 0)
        }
        later.count, later.sum_s, later.max_s = self.count - before.count, self.sum_s - before.sum_s, self.max_s
        return later

    def percentile_s(self, percent: float) -> float:
        """The duration that ``percent`` of them did not exceed; 0 when there are none."""
        wanted, seen = percent / 100 * self.count, 0
        for number in sorted(self.counts):
            seen += self.counts[number]
            if seen >= wanted and seen:
                return min(middle_us(number) / 1e6, self.max_s)
        return 0.0

    @property
    def mean_s(self) -> float:
        return self.sum_s / self.count if self.count else 0.0

    def below(self, bounds_s: Iterable[float]) -> list[int]:
        """For each bound, how many were at most so long (to a bucket's precision)."""
        result, pairs = [], sorted(self.counts.items())
        for bound in bounds_s:
            result.append(sum(n for number, n in pairs if middle_us(number) <= bound * 1e6))
        return result

    def to_json(self) -> list[object]:
        """For another process; `from_json` reads it."""
        return [self.sum_s, self.max_s, [[number, n] for number, n in self.counts.items()]]

    @classmethod
    def from_json(cls, data: list[object]) -> Latencies:
        latencies = cls()
        latencies.sum_s, latencies.max_s, pairs = data  # type: ignore[assignment]
        latencies.counts = {number: n for number, n in pairs}  # type: ignore[attr-defined]  # noqa: C416
        latencies.count = sum(latencies.counts.values())
        return latencies
