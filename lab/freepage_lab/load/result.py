"""What a load has found out: figures by name, as text, as JSON and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from freepage import RemovalPath
from freepage_lab.load.latency import Latencies
from freepage_lab.load.meter import Growth
from freepage_lab.load.profile import Profile
from freepage_lab.load.tally import Tally
from freepage_proto.rpc import Procedure

MIB = 1 << 20
PERCENTILES = {"p50_ms": 50.0, "p90_ms": 90.0, "p95_ms": 95.0, "p99_ms": 99.0, "p999_ms": 99.9}
OF_LATENCIES = ("count", "mean_ms", *PERCENTILES, "max_ms")
CALLS = (
    "open", "close", "pread", "pwrite", "write", "fsync", "ftruncate", "stat", "lstat", "getdents", "link", "unlink",
    "rename", "lockf",
)  # fmt: skip
"""The system calls that steps are made of."""

PLAIN = (
    "operations", "ops_per_s", "seconds", "errors", "corrupt", "unfinished", "not_started", "orphans", "pinned",
    "violations", "hit_percent", "rpcs", "rpcs_per_op", "read_mib_per_s", "write_mib_per_s", "verified_mib",
    "mean_ms", *PERCENTILES, "max_ms",
)  # fmt: skip
"""Figures of the load as a whole."""


@dataclass(slots=True)
class Result:
    """``growth`` is what the daemons counted while operations ran, ``whole`` from before preparing to after cleaning.

    ``seconds`` is how long operations ran. ``left_behind`` says what could not be removed and why.
    """

    profile: Profile
    seed: int
    clients: list[str]
    directory: str
    seconds: float
    tally: Tally
    growth: Growth = field(default_factory=Growth)
    whole: Growth = field(default_factory=Growth)
    interrupted: bool = False
    left_behind: list[str] = field(default_factory=list)
    timeline: dict[str, list[Any]] = field(default_factory=dict)

    def figures(self) -> dict[str, float | None]:
        """Every figure by the name that --fail-if knows; None: there is none."""
        tally, seconds = self.tally, max(self.seconds, 1e-9)
        done = tally.done
        figures: dict[str, float | None] = {
            "operations": done,
            "ops_per_s": done / seconds,
            "seconds": self.seconds,
            "errors": tally.failed,
            "corrupt": tally.corrupt,
            "unfinished": sum(n for (_, what), n in tally.errors.items() if what == "unfinished"),
            "not_started": tally.not_started,
            "orphans": self.whole.total("orphaned"),
            "pinned": self.whole.total("pinned"),
            "violations": self.whole.total("violations"),
            "hit_percent": self.growth.hit_percent,
            "rpcs": self.growth.total("rpcs"),
            "rpcs_per_op": self.growth.total("rpcs") / done if done else None,
            "read_mib_per_s": tally.read_bytes / MIB / seconds,
            "write_mib_per_s": tally.written_bytes / MIB / seconds,
            "verified_mib": tally.verified_bytes / MIB,
        }
        together = of_latencies(tally.all_operations())
        figures |= {name: value for name, value in together.items() if name != "count"}
        for prefix, table in (("", tally.operations), ("call.", tally.calls)):
            for name, latencies in table.items():
                figures |= {f"{prefix}{name}.{what}": value for what, value in of_latencies(latencies).items()}
        for (_, what), n in tally.errors.items():
            figures[f"error.{what}"] = (figures.get(f"error.{what}") or 0) + n
        figures |= {f"rpc.{name}": n for name, n in self.growth.counts["rpcs"].items()}
        for path in RemovalPath:
            figures[f"orphans.{path}"] = self.whole.counts["skipped_owned"][path]
            figures[f"removed.{path}"] = self.growth.counts["removed"][path]
        return figures

    def to_json(self) -> dict[str, Any]:
        tally = self.tally
        figures = self.figures()
        return {
            "profile": self.profile.name,
            "about": self.profile.about,
            "seed": self.seed,
            "loop": "open" if self.profile.rate else "closed",
            "rate": self.profile.rate or None,
            "workers": self.profile.workers,
            "clients": self.clients,
            "directory": self.directory,
            "interrupted": self.interrupted,
            **{name: figures[name] for name in PLAIN if name in figures},
            "latency": {name: of_latencies(each) for name, each in sorted(tally.operations.items())},
            "calls": {name: of_latencies(each) for name, each in sorted(tally.calls.items())},
            "failures": [
                {"operation": operation, "error": what, "count": n}
                for (operation, what), n in sorted(tally.errors.items())
            ],
            "problems": tally.problems,
            "rpc_mix": {name: n for name, n in self.growth.counts["rpcs"].most_common() if n},
            "removed": dict(self.growth.counts["removed"]),
            "orphans_by_path": dict(self.whole.counts["skipped_owned"]),
            "orphans_by_slab": dict(self.whole.counts["orphaned"]),
            "left_behind": self.left_behind,
            "timeline": self.timeline,
        }

    def to_csv(self) -> str:
        """A line per operation and per system call; latencies in milliseconds."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["kind", "name", *OF_LATENCIES, "per_s", "errors"])
        for kind, name, latencies, errors in self._rows():
            values = of_latencies(latencies)
            cells = ["" if value is None else f"{value:g}" for value in values.values()]
            writer.writerow([kind, name, *cells, f"{latencies.count / max(self.seconds, 1e-9):g}", errors])
        return out.getvalue()

    def _rows(self) -> Iterator[tuple[str, str, Latencies, int]]:
        tally = self.tally
        for operation in self.profile.mix:
            errors = sum(n for (name, _), n in tally.errors.items() if name == operation.name)
            yield "operation", operation.name, tally.operations.get(operation.name, Latencies()), errors
        for name, latencies in sorted(tally.calls.items()):
            yield "call", name, latencies, 0


def of_latencies(latencies: Latencies) -> dict[str, float | None]:
    """The figures of `OF_LATENCIES`, in milliseconds; None for all but the count when nothing was measured."""
    if not latencies.count:
        return {"count": 0, **dict.fromkeys(OF_LATENCIES[1:])}
    return {
        "count": latencies.count,
        "mean_ms": latencies.mean_s * 1e3,
        **{name: latencies.percentile_s(percent) * 1e3 for name, percent in PERCENTILES.items()},
        "max_ms": latencies.max_s * 1e3,
    }


def knows(profile: Profile, name: str) -> bool:
    """Whether a load of this profile has a figure of that name."""
    if name in PLAIN:
        return True
    first, _, rest = name.partition(".")
    match first:
        case "rpc":
            return rest in {procedure.display_name for procedure in Procedure}
        case "error":
            return bool(rest)
        case "orphans" | "removed":
            return rest in {str(path) for path in RemovalPath}
        case "call":
            call, _, what = rest.partition(".")
            return call in CALLS and what in OF_LATENCIES
        case _:
            return first in {operation.name for operation in profile.mix} and rest in OF_LATENCIES


def examples(profile: Profile) -> str:
    """The names of figures, for a message."""
    operation = profile.mix[0].name
    return f"{', '.join(PLAIN)}; {operation}.p99_ms, call.open.p99_ms, rpc.READ, orphans.reclaim, error.ENOSPC"


def rpc_mix(counts: Mapping[str, int], most: int) -> Sequence[tuple[str, int, float]]:
    """(procedure, calls, percent) of the most frequent ones, the rest as one."""
    ordered = sorted(((name, n) for name, n in counts.items() if n), key=lambda pair: (-pair[1], pair[0]))
    total = sum(n for _, n in ordered)
    shown = ordered if len(ordered) <= most else ordered[: most - 1]
    rest = total - sum(n for _, n in shown)
    return [(name, n, 100 * n / total) for name, n in [*shown, *([("others", rest)] if rest else [])]]
