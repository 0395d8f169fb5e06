"""What one generator has counted so far. Tallies of several processes add up."""

from __future__ import annotations

from collections import Counter
from typing import Any

from freepage_lab.load.latency import Latencies

SHOWN_PROBLEMS = 20
"""How many failures are kept in words."""


class Tally:
    """``operations`` are measured from their intended start, ``calls`` (system calls) from when they were made.

    ``errors`` counts by (operation, what): an errno's name, ``unreachable``, ``corrupt`` or ``unfinished``.
    """

    def __init__(self) -> None:
        self.operations: dict[str, Latencies] = {}
        self.calls: dict[str, Latencies] = {}
        self.errors: Counter[tuple[str, str]] = Counter()
        self.read_bytes = 0
        self.written_bytes = 0
        self.verified_bytes = 0
        self.problems: list[str] = []
        self.prepared_files = 0
        self.in_flight = 0
        """operations under way now"""
        self.late_s = 0.0
        """how far an open loop is behind its schedule now"""
        self.not_started = 0
        """operations that an open loop owed and never began"""

    def operation(self, name: str) -> Latencies:
        return self.operations.setdefault(name, Latencies())

    def call(self, name: str) -> Latencies:
        return self.calls.setdefault(name, Latencies())

    def fail(self, operation: str, what: str, why: str = "") -> None:
        self.errors[operation, what] += 1
        line = f"{operation}: {why}"
        if why and len(self.problems) < SHOWN_PROBLEMS and line not in self.problems:
            self.problems.append(line)

    @property
    def done(self) -> int:
        """Operations that ended well."""
        return sum(latencies.count for latencies in self.operations.values())

    @property
    def failed(self) -> int:
        return sum(self.errors.values())

    @property
    def corrupt(self) -> int:
        return sum(n for (_, what), n in self.errors.items() if what == "corrupt")

    def all_operations(self) -> Latencies:
        together = Latencies()
        for latencies in self.operations.values():
            together.add(latencies)
        return together

    def add(self, other: Tally) -> None:
        for mine, theirs in ((self.operations, other.operations), (self.calls, other.calls)):
            for name, latencies in theirs.items():
                mine.setdefault(name, Latencies()).add(latencies)
        self.errors.update(other.errors)
        self.problems = (self.problems + other.problems)[:SHOWN_PROBLEMS]
        for name in _NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.late_s = max(self.late_s, other.late_s)

    def to_json(self) -> dict[str, Any]:
        return {
            "operations": {name: latencies.to_json() for name, latencies in self.operations.items()},
            "calls": {name: latencies.to_json() for name, latencies in self.calls.items()},
            "errors": [[*key, n] for key, n in self.errors.items()],
            "problems": self.problems,
            "late_s": self.late_s,
            **{name: getattr(self, name) for name in _NUMBERS},
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Tally:
        tally = cls()
        tally.operations = {name: Latencies.from_json(each) for name, each in data["operations"].items()}
        tally.calls = {name: Latencies.from_json(each) for name, each in data["calls"].items()}
        tally.errors = Counter({(operation, what): n for operation, what, n in data["errors"]})
        tally.problems = data["problems"]
        tally.late_s = data["late_s"]
        for name in _NUMBERS:
            setattr(tally, name, data[name])
        return tally


_NUMBERS = ("read_bytes", "written_bytes", "verified_bytes", "prepared_files", "in_flight", "not_started")
