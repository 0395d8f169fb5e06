"""Every bench there is, by group. A group is a module with ``benches()``: to add one, name it here."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from freepage_lab.bench.row import Bench
from freepage_runtime.errors import UserError

GROUPS: dict[str, str] = {
    "hit": "reads that the page cache answers",
    "insert": "pages that come and go",
    "lru": "which page to evict",
    "memory": "bytes and collections",
    "wire": "messages",
    "client": "reads of a client over gRPC",
    "server": "READs of a server over gRPC",
    "mount": "system calls on a FUSE mount",
}
"""Group and what it measures; the module has the group's name."""


def benches(group: str) -> list[Bench]:
    """The benches of one group, in the order of their rows."""
    module = import_module(f"freepage_lab.bench.groups.{group}")
    made: list[Bench] = module.benches()
    return made


def choose(names: Sequence[str]) -> list[Bench]:
    """The benches of the groups named, or all. Raises UserError for a group that is none."""
    unknown = [name for name in names if name not in GROUPS]
    if unknown:
        raise UserError(f"there is no group {unknown[0]!r} of benches: choose among {', '.join(GROUPS)}")
    return [bench for group in GROUPS if not names or group in names for bench in benches(group)]


def find(group: str, name: str) -> Bench:
    return next(bench for bench in benches(group) if bench.name == name)
