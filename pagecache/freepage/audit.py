"""Mark and sweep over the slab objects: a second opinion about what the ledger says in O(1).

Mark *in use* from the roots the embedder names (open files, RPCs under way, unwritten data), then *cached* from what
the resident pages own; whatever a slab cache still lists and nobody reached is orphaned. The report groups the orphans
as kmemleak would: by cache, file, operation that allocated them, path and function that lost them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from .page import Page
from .slab import CACHED, IN_USE, ORPHANED, Ledger, ObjectState, SlabObject
from .slab_run import SlabRun

if TYPE_CHECKING:
    from .address_space import AddressSpace

NOTHING = "nothing"
"""OrphanGroup.held_by of what was lost elsewhere than at the exit door"""


@dataclass(slots=True)
class OrphanGroup:
    """Orphans with the same story. `pages` are half-open runs of page indices; `held_by` is set for knock-on losses."""

    slab: str
    use: str
    file: str
    site: str
    path: str
    function: str
    count: int = 0
    bytes: int = 0
    oldest_age_s: float = 0.0
    pages: list[tuple[int, int]] = field(default_factory=list)
    held_by: str = ""


@dataclass(slots=True)
class AuditReport:
    """What mark and sweep found. `differences` is empty exactly when it agrees with the ledger."""

    differences: list[str]
    groups: list[OrphanGroup]
    swept: dict[str, dict[str, int]]
    """slab -> state label -> objects, as found by the sweep"""

    @property
    def agrees(self) -> bool:
        return not self.differences

    @property
    def orphaned(self) -> int:
        return sum(group.count for group in self.groups)

    def as_dict(self) -> dict[str, object]:
        return {
            "agrees": self.agrees,
            "differences": self.differences,
            "orphaned": self.orphaned,
            "groups": [asdict(group) for group in self.groups],
            "objects": self.swept,
        }

    def to_json(self) -> str:
        return json.dumps(self.as_dict(), indent=2)

    def render(self) -> str:
        """The report for people, in the manner of /sys/kernel/debug/kmemleak."""
        lines: list[str] = []
        for group in self.groups:
            name = f"{group.slab} ({group.use})" if group.use else group.slab
            plural = "" if group.count == 1 else "s"
            lines.append(f"unreferenced {name}: {group.count} object{plural}, {group.bytes} bytes")
            if group.held_by == NOTHING:
                lines.append("  nothing refers to it, and it was not lost with a page")
            elif group.held_by:
                lines.append(f"  held only by orphaned {group.held_by}")
            else:
                lines.append(f"  file {group.file}, {_render_pages(group.pages)}")
            lines.append(f"  allocated by {group.site}, oldest {group.oldest_age_s:.1f} s ago")
            if group.path:
                lines.append(f"  lost on {group.path} in {group.function}")
        if not self.groups:
            lines.append("no orphaned objects")
        if self.agrees:
            total = sum(sum(states.values()) for states in self.swept.values())
            objects = "1 live object" if total == 1 else f"{total} live objects"
            lines.append(f"mark and sweep agrees with the ledger on {objects}")
        else:
            lines.append("mark and sweep DISAGREES with the ledger:")
            lines.extend(f"  {difference}" for difference in self.differences)
        return "\n".join(lines)


def _render_pages(runs: list[tuple[int, int]]) -> str:
    words = [str(start) if end == start + 1 else f"{start}-{end - 1}" for start, end in runs[:8]]
    more = f" and {len(runs) - 8} more runs" if len(runs) > 8 else ""
    return f"page{'' if len(runs) == 1 and runs[0][1] == runs[0][0] + 1 else 's'} {','.join(words)}{more}"


def _mark(roots: Iterable[SlabObject], state: ObjectState, marks: dict[SlabObject, ObjectState]) -> None:
    stack = [obj for obj in roots if obj not in marks]
    while stack:
        obj = stack.pop()
        if obj in marks:
            continue
        marks[obj] = state
        stack.extend(obj.held)


def audit(
    ledger: Ledger, roots_in_use: Iterable[SlabObject | SlabRun], mappings: Iterable[AddressSpace]
) -> AuditReport:
    """See Ledger.audit. O(live objects + resident pages)."""
    mappings = list(mappings)
    marks: dict[SlabObject, ObjectState] = {}
    roots: list[SlabObject] = []
    runs_in_use: set[SlabRun] = set()
    for root in roots_in_use:
        if isinstance(root, SlabRun):
            runs_in_use.add(root)
        else:
            roots.append(root)
    _single_out(ledger, runs_in_use, mappings)
    runs = [run for cache in ledger.caches.values() for run in cache.runs]
    _mark(roots, IN_USE, marks)
    _mark((obj for run in runs if run.count(IN_USE) for obj in run.held), IN_USE, marks)
    owned = _owned(mappings)
    _mark(owned, CACHED, marks)
    _mark((obj for run in runs for obj in run.held), CACHED, marks)

    differences: list[str] = []
    swept: dict[str, dict[str, int]] = {}
    lost: list[SlabObject] = []
    disagreeing: dict[tuple[str, str, str], list[SlabObject]] = {}
    for cache in ledger.caches.values():
        states = swept.setdefault(cache.name, {state.label: 0 for state in ObjectState})
        found: dict[str, list[int]] = {use: [0, 0, 0] for use in cache.uses}
        for obj in cache.objects:
            state = marks.pop(obj, ORPHANED)
            states[state.label] += 1
            found[obj.use][state] += 1
            if state == ORPHANED:
                lost.append(obj)
            if state != obj.state:
                disagreeing.setdefault((cache.name, obj.state.label, state.label), []).append(obj)
        for run in cache.runs:
            for state in (IN_USE, CACHED):
                states[state.label] += run.count(state)
                found[run.kind.use][state] += run.count(state)
        for use, account in cache.uses.items():
            for state in ObjectState:
                if found[use][state] != account.live[state]:
                    name = f"{cache.name} ({use})" if use else cache.name
                    differences.append(
                        f"{name}: the ledger counts {account.live[state]} {state.label}, the sweep {found[use][state]}"
                    )
    for (slab, claimed, marked), objs in disagreeing.items():
        differences.append(
            f"{slab}: {len(objs)} objects {claimed} in the ledger but {marked} by marks: {objs[0].describe()}"
        )
    differences.extend(_count_references(ledger, owned, runs))
    for obj in marks:
        differences.append(f"{obj.describe()} is referred to but no slab cache lists it: freed while in use")
    return AuditReport(differences, _group(ledger, lost), swept)


def _single_out(ledger: Ledger, runs_in_use: set[SlabRun], mappings: Iterable[AddressSpace]) -> None:
    """Take out of the runs each object that is not where the ledger says: it is then swept like any other.

    What stays in a run is in use and a root, or cached and owned by its resident page.
    """
    found: dict[SlabRun, bytearray] = {
        run: bytearray(len(run.states)) for cache in ledger.caches.values() for run in cache.runs
    }
    for mapping in mappings:
        for folio, start, stop in mapping.pages.folio_runs():
            run = folio.fill_run
            if run is None:
                continue
            for off in range(start, min(stop, len(run.states))):
                if run.states[off] == CACHED + 1:
                    found[run][off] = CACHED + 1
                elif run.states[off]:
                    _ = Page(folio, off).owned  # the page's own object from now on
    for run, states in found.items():
        for i, state in enumerate(states):
            if run.states[i] and run.states[i] != state and not (run in runs_in_use and run.states[i] == IN_USE + 1):
                run.extract(i)


def _owned(mappings: Iterable[AddressSpace]) -> list[SlabObject]:
    """What resident pages own as objects of their own."""
    return [
        folio.objects[off]
        for mapping in mappings
        for folio, start, stop in mapping.pages.folio_runs()
        if folio.objects is not None
        for off in range(start, stop)
        if off in folio.objects
    ]


def _count_references(ledger: Ledger, owned: Iterable[SlabObject], runs: Iterable[SlabRun]) -> list[str]:
    """Each cached and orphaned reference has a page, a lost page or a holder behind it; in use: at least so many."""
    expected: dict[SlabObject, list[int]] = {
        obj: [0, 0, 0] for cache in ledger.caches.values() for obj in cache.objects
    }
    for obj in owned:
        if obj in expected:
            expected[obj][CACHED] += 1
    for run in runs:
        for other in run.held:
            if other in expected:
                expected[other][CACHED] += run.count(CACHED)
                expected[other][IN_USE] += run.count(IN_USE)
    for record in ledger.orphan_records.values():
        expected[record.obj][ORPHANED] += record.references
    for obj in list(expected):
        state = obj.state
        for other in obj.held:
            if other in expected:
                expected[other][state] += 1
    differences = []
    for obj, counts in expected.items():
        in_use, cached, orphaned = obj.references
        if (cached, orphaned) != (counts[CACHED], counts[ORPHANED]) or in_use < counts[IN_USE]:
            differences.append(
                f"{obj.describe()}: {in_use} in use, {cached} cached, {orphaned} orphaned references; "
                f"found {counts[IN_USE]}, {counts[CACHED]}, {counts[ORPHANED]}"
            )
    return differences


def _group(ledger: Ledger, lost: list[SlabObject]) -> list[OrphanGroup]:
    now = ledger.now()
    groups: dict[tuple[str, str, str, str, str, str, str], OrphanGroup] = {}
    indices: dict[tuple[str, str, str, str, str, str, str], list[int]] = {}
    holders: dict[SlabObject, SlabObject] = {}
    for obj in lost:
        for other in obj.held:
            holders.setdefault(other, obj)
    for obj in lost:
        record = ledger.orphan_records.get(obj)
        if record is not None:
            key: tuple[str, str, str, str, str, str, str]
            key = (obj.slab_name, obj.use, record.file, obj.site, record.path.value, record.function, "")
        else:
            holder = holders.get(obj)
            key = (obj.slab_name, obj.use, "", obj.site, "", "", holder.slab_name if holder is not None else NOTHING)
        group = groups.get(key)
        if group is None:
            group = groups[key] = OrphanGroup(*key[:6], held_by=key[6])
        group.count += 1
        group.bytes += obj.objsize
        group.oldest_age_s = max(group.oldest_age_s, now - obj.born_s)
        if record is not None:
            indices.setdefault(key, []).append(record.index)
    for key, each in indices.items():
        groups[key].pages = _runs(each)
    return sorted(groups.values(), key=lambda group: (group.held_by != "", -group.count, group.slab, group.file))


def _runs(indices: list[int]) -> list[tuple[int, int]]:
    """Half-open runs of consecutive indices."""
    runs: list[tuple[int, int]] = []
    for index in sorted(set(indices)):
        if runs and runs[-1][1] == index:
            runs[-1] = (runs[-1][0], index + 1)
        else:
            runs.append((index, index + 1))
    return runs
