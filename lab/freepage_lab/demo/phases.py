"""The demo's four phases, what happened in each, and whether that is what should have happened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from freepage import RemovalPath
from freepage_runtime.control_client import Stats

PATHS = tuple(path.value for path in RemovalPath)
REQUESTS, CREDENTIALS, ARRAYS, NAMES = "nfs_page", "rpc_cred", "nfs_dir_array", "nfs_dir_name"
PAGE_OWNED = (REQUESTS, ARRAYS)
"""What a page of a client owns: a file page its request, a directory page its array of names."""


@dataclass(frozen=True, slots=True)
class Phase:
    """``skip``: on which removal paths the hook does not run."""

    name: str
    skip: tuple[str, ...]

    @property
    def policy(self) -> dict[str, str]:
        return {path: "skip" if path in self.skip else "run" for path in PATHS}


PHASES = (
    Phase("hook runs", ()),
    Phase("skipped on reclaim", ("reclaim",)),
    Phase("skipped everywhere", PATHS),
    Phase("hook runs again", ()),
)

_COUNTERS = ("removed", "hook_calls", "skipped", "skipped_owned")


@dataclass(slots=True)
class Figures:
    """Figures of some daemons together. Counters by path are of one phase; orphaned and pinned are what there is
    now."""

    removed: dict[str, int] = field(default_factory=dict)
    hook_calls: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    skipped_owned: dict[str, int] = field(default_factory=dict)
    orphaned: dict[str, int] = field(default_factory=dict)
    pinned: dict[str, int] = field(default_factory=dict)
    violations: dict[str, int] = field(default_factory=dict)
    audit_agrees: bool = True

    @classmethod
    def between(cls, before: Sequence[Stats], after: Sequence[Stats]) -> Figures:
        """What the daemons did between two looks at each; ``after`` with an audit, if it is to be believed."""
        counters = {
            name: _subtract(_sum(getattr(s, name) for s in after), _sum(getattr(s, name) for s in before))
            for name in (*_COUNTERS, "violations")
        }
        return cls(
            **{name: {path: counters[name].get(path, 0) for path in PATHS} for name in _COUNTERS},
            orphaned=_sum(stats.orphaned for stats in after),
            pinned=_sum(stats.pinned for stats in after),
            violations=counters["violations"],
            audit_agrees=all(stats.audit_agrees is not False for stats in after),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "removed": self.removed,
            "hook_calls": self.hook_calls,
            "skipped": self.skipped,
            "skipped_owned": self.skipped_owned,
            "orphaned": self.orphaned,
            "pinned": self.pinned,
            "violations": self.violations,
            "audit_agrees": self.audit_agrees,
        }


@dataclass(slots=True)
class PhaseResult:
    """One phase as it went. ``leaked`` is by how much the clients' orphans grew, by slab cache."""

    phase: Phase
    clients: Figures
    servers: Figures
    leaked: dict[str, int]
    servers_leaked: dict[str, int]
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.phase.name,
            "policy": self.phase.policy,
            **self.clients.to_json(),
            "servers": {"policy": self.phase.policy, **self.servers.to_json()},
        }


def judge(
    phase: Phase,
    clients: tuple[Sequence[Stats], Sequence[Stats]],
    servers: tuple[Sequence[Stats], Sequence[Stats]],
) -> PhaseResult:
    """Compare what happened in a phase with what its policy promises. Each argument is (before, after) of all
    daemons."""
    result = PhaseResult(
        phase,
        Figures.between(*clients),
        Figures.between(*servers),
        _subtract(*(_sum(stats.orphaned for stats in side) for side in (clients[1], clients[0]))),
        _subtract(*(_sum(stats.orphaned for stats in side) for side in (servers[1], servers[0]))),
    )
    result.problems += _check("clients", phase, result.clients, result.leaked)
    result.problems += _check("servers", phase, result.servers, result.servers_leaked)
    figures = result.clients
    result.problems += [f"no page left by {path}" for path in PATHS if figures.removed[path] == 0]
    leaked = sum(result.leaked.get(slab, 0) for slab in PAGE_OWNED)
    owned = sum(figures.skipped_owned.values())
    if leaked != owned:
        result.problems.append(f"{owned} skipped removals owned an object, but {leaked} became orphans")
    if phase.skip and leaked == 0:
        result.problems.append("the hook was skipped and nothing leaked")
    return result


def _check(who: str, phase: Phase, figures: Figures, leaked: Mapping[str, int]) -> list[str]:
    """What holds for any daemon in any phase."""
    problems = []
    for path in PATHS:
        removed, called, skipped = figures.removed[path], figures.hook_calls[path], figures.skipped[path]
        if removed != called + skipped:
            problems.append(f"{who}, {path}: {removed} removed, but {called} hook calls and {skipped} skipped")
        if path in phase.skip and called:
            problems.append(f"{who}, {path}: {called} hook calls although it is to be skipped")
        if path not in phase.skip and skipped:
            problems.append(f"{who}, {path}: {skipped} skipped although it is to run")
    if not phase.skip:
        problems += [f"{who}: {n:+} orphaned {slab} with the hook running" for slab, n in leaked.items() if n]
    problems += [f"{who}: rule {rule} broken {n} times" for rule, n in figures.violations.items() if n]
    if not figures.audit_agrees:
        problems.append(f"{who}: the audit does not agree with the ledger")
    return problems


def _sum(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for one in counts:
        for name, n in one.items():
            total[name] = total.get(name, 0) + n
    return total


def _subtract(after: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    return {name: n - before.get(name, 0) for name, n in after.items()}
