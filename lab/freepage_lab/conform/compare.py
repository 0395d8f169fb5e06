"""Compares what happened here with what the recording says, cell by cell.

A *cell* of ``ops``, ``io``, ``pages`` or ``active`` is one client at one checkpoint; a cell of ``results`` is one
step. Two things are never held against us: a field that came out differently in the recording's own runs, and what
the recording notes as depending on the order in which a server's threads answered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

KINDS = ("ops", "io", "pages", "active", "results")
COUNTED_PAGE_STATES = ("resident", "notuptodate", "dirty", "writeback", "unstable")
RECLAIM_FAMILY = "memcg_"
"""In workloads so named the order in which pages leave is partly other processes' doing: ops and results count
alone."""


MOUNT_LABEL = "mount"
"""The first checkpoint; before it a mount has no statistics."""


class Varying(Exception):
    """Nothing of the cell was the same in every recorded run, so there is nothing to compare."""


@dataclass(frozen=True, slots=True)
class ClientObservation:
    """One client at one checkpoint."""

    ops: Mapping[str, int]
    sequence: Sequence[str]
    io: Sequence[Sequence[Any]]
    pages: Mapping[str, Mapping[str, Any]]
    directories: frozenset[str]
    """Which of the names in ``pages`` are directories: of those only the number of pages counts."""
    counters: Mapping[str, int] = field(default_factory=dict)
    """What mountstats' lines ``events:`` and ``bytes:`` grew by, without those that did not."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What happened up to one checkpoint, since the one before."""

    label: str
    clients: Mapping[str, ClientObservation]
    steps_done: int
    """How many top-level steps had been completed, so that a result can be placed between checkpoints."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One unequal cell. ``expected`` and ``got`` hold what differs; the sequences are those of the same checkpoint."""

    workload: str
    checkpoint: str
    client: str
    kind: str
    expected: Any
    got: Any
    expected_sequence: Sequence[str] = ()
    got_sequence: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "workload": self.workload,
            "checkpoint": self.checkpoint,
            "client": self.client,
            "kind": self.kind,
            "expected": self.expected,
            "got": self.got,
        }


@dataclass(slots=True)
class Tally:
    """How many cells of one kind were compared, and how many were equal."""

    total: int = 0
    equal: int = 0

    def add(self, other: Tally) -> None:
        self.total += other.total
        self.equal += other.equal


@dataclass(slots=True)
class Comparison:
    """The outcome for one workload."""

    workload: str
    family: str
    cells: dict[str, Tally] = field(default_factory=lambda: {kind: Tally() for kind in KINDS})
    mismatches: list[Mismatch] = field(default_factory=list)
    checkpoints: int = 0
    checkpoints_equal: int = 0
    not_counted: str | None = None
    """Why this workload's cells are reported but not counted; None when they are."""
    active_differs: list[str] = field(default_factory=list)
    """Checkpoints at which the active list came out differently; for information."""
    counters: Tally = field(default_factory=Tally)
    """Clients at checkpoints whose mountstats were compared; not one of the kinds of cells."""
    counters_differ: list[Mismatch] = field(default_factory=list)

    @property
    def all_equal(self) -> bool:
        return not self.mismatches


# --- what varied is left out ----------------------------------------------------------------------------------------


def is_varying(value: object) -> bool:
    return isinstance(value, dict) and value.get("varies") is True


def without_varying(expected: Any, got: Any) -> tuple[Any, Any]:
    """Both sides without what varied between the recorded runs. Raises Varying when that leaves nothing."""
    if is_varying(expected):
        raise Varying
    if isinstance(expected, dict):
        varied = {key for key, value in expected.items() if is_varying(value)}
        if varied and varied == set(expected):
            raise Varying
        left: dict[str, Any] = {}
        right = {key: value for key, value in got.items() if key not in varied} if isinstance(got, dict) else got
        for key, value in expected.items():
            if key in varied:
                continue
            left[key] = value
            if isinstance(right, dict) and key in right:
                try:
                    left[key], right[key] = without_varying(value, right[key])
                except Varying:
                    del left[key], right[key]
        return left, right
    if isinstance(expected, list) and isinstance(got, list | tuple) and len(expected) == len(got):
        pairs = list(zip(expected, got, strict=True))
        if pairs and all(is_varying(value) for value, _ in pairs):
            raise Varying
        kept = [without_varying(value, other) for value, other in pairs if not is_varying(value)]
        return [value for value, _ in kept], [other for _, other in kept]
    return expected, got


# --- cells ----------------------------------------------------------------------------------------------------------


def counted_pages(pages: Mapping[str, Any], directories: frozenset[str]) -> dict[str, Any]:
    """What of the page states is compared: five states of files, the number of pages of directories."""
    counted: dict[str, Any] = {}
    for name, states in pages.items():
        if is_varying(states):
            counted[name] = states
        elif name in directories:
            counted[name] = {"n": states.get("n", 0)}
        else:
            counted[name] = {state: states[state] for state in COUNTED_PAGE_STATES if states.get(state)}
    return counted


def active_pages(pages: Mapping[str, Any], directories: frozenset[str]) -> dict[str, Any]:
    return {
        name: states["active"]
        for name, states in pages.items()
        if name not in directories and not is_varying(states) and states.get("active")
    }


class _Alternatives:
    """What the recording's ``serial_server_differs`` allows."""

    def __init__(self, truth: Mapping[str, Any]) -> None:
        self._entries: Sequence[Mapping[str, Any]] = truth.get("serial_server_differs", [])
        labels = [checkpoint["label"] for checkpoint in truth["checkpoints"]]
        places = [labels.index(entry["label"]) for entry in self._entries if entry.get("label") in labels]
        self._first = min(places, default=len(labels))

    def state_is_comparable(self, checkpoint: int) -> bool:
        """Whether ``io`` and ``pages`` count there: not from the first checkpoint on that a serial server changed."""
        return checkpoint < self._first

    def ops(self, label: str, client: str, expected: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """Every recorded value of the cell."""
        yield expected
        for entry in self._entries:
            if entry.get("label") == label and entry.get("client", client) == client and "ops" in entry:
                yield {name: n for name, n in {**expected, **entry["ops"]}.items() if n != 0}


def compare(
    truth: Mapping[str, Any],
    family: str,
    observations: Sequence[Observation],
    results: Sequence[Any],
    *,
    failure: str | None = None,
    left_over: Sequence[str] = (),
) -> Comparison:
    """Hold a run against its recording.

    ``failure`` says why the run ended early: what it did not reach then counts as unequal. ``left_over`` names slab
    objects that were alive after everything was unmounted; any is a mismatch of kind ``slab``.
    """
    name = truth["workload"]
    outcome = Comparison(name, family)
    if not truth.get("ops_stable", True):
        outcome.not_counted = "the recorded runs differ from each other (ops_stable is false)"
    alternatives = _Alternatives(truth)
    reclaim = name.startswith(RECLAIM_FAMILY)
    for number, expected in enumerate(truth["checkpoints"]):
        seen = observations[number] if number < len(observations) else None
        if seen is not None and seen.label != expected["label"]:
            failure = failure or f"checkpoint {expected['label']!r} was {seen.label!r}"
            seen = None
        before = len(outcome.mismatches)
        for client, figures in expected["clients"].items():
            with_state = not reclaim and alternatives.state_is_comparable(number)
            observed = seen.clients.get(client) if seen is not None else None
            _compare_client(outcome, expected["label"], client, figures, observed, alternatives, with_state, failure)
        outcome.checkpoints += 1
        outcome.checkpoints_equal += len(outcome.mismatches) == before
    _compare_results(outcome, truth, observations, results, failure)
    if left_over:
        outcome.mismatches.append(Mismatch(name, "after umount", "", "slab", [], list(left_over)))
    return outcome


def _compare_client(
    outcome: Comparison,
    label: str,
    client: str,
    expected: Mapping[str, Any],
    observed: ClientObservation | None,
    alternatives: _Alternatives,
    with_state: bool,
    failure: str | None,
) -> None:
    missing = failure or "the client was not there"
    directories = observed.directories if observed is not None else frozenset()

    def cell(kind: str, wanted: Sequence[Any], got: Any) -> None:
        try:
            sides = [without_varying(value, got) for value in wanted]
        except Varying:
            return
        tally = outcome.cells[kind]
        tally.total += 1
        if observed is not None and any(left == right for left, right in sides):
            tally.equal += 1
        elif kind == "active":
            outcome.active_differs.append(label)
        else:
            outcome.mismatches.append(
                Mismatch(
                    outcome.workload,
                    label,
                    client,
                    kind,
                    sides[0][0],
                    sides[0][1] if observed is not None else missing,
                    _shown_sequence(expected),
                    observed.sequence if observed is not None else (),
                )
            )

    cell("ops", list(alternatives.ops(label, client, expected["ops"])), dict(observed.ops) if observed else {})
    if with_state:
        cell("io", [expected["io"]], list(observed.io) if observed else [])
        wanted_pages = expected.get("pages", {})
        got_pages = observed.pages if observed else {}
        cell("pages", [counted_pages(wanted_pages, directories)], counted_pages(got_pages, directories))
        cell("active", [active_pages(wanted_pages, directories)], active_pages(got_pages, directories))
        if observed is not None and "events" in expected and label != MOUNT_LABEL:
            _compare_counters(outcome, label, client, expected, observed)


def _compare_counters(
    outcome: Comparison, label: str, client: str, expected: Mapping[str, Any], observed: ClientObservation
) -> None:
    try:
        wanted, got = without_varying({**expected["events"], **expected["bytes"]}, dict(observed.counters))
    except Varying:
        return
    outcome.counters.total += 1
    if wanted == got:
        outcome.counters.equal += 1
        return
    differ = [name for name in {**wanted, **got} if wanted.get(name, 0) != got.get(name, 0)]
    shown, found = ({name: side.get(name, 0) for name in differ} for side in (wanted, got))
    outcome.counters_differ.append(Mismatch(outcome.workload, label, client, "counters", shown, found))


def _shown_sequence(expected: Mapping[str, Any]) -> Sequence[str]:
    sequence: Any = expected.get("sequence", [])
    shown: Sequence[str] = sequence["values"][0] if is_varying(sequence) else sequence
    return shown


def _compare_results(
    outcome: Comparison,
    truth: Mapping[str, Any],
    observations: Sequence[Observation],
    results: Sequence[Any],
    failure: str | None,
) -> None:
    for index, expected in enumerate(truth["results"]):
        got = results[index] if index < len(results) else None
        try:
            left, right = without_varying(expected, got)
        except Varying:
            continue
        tally = outcome.cells["results"]
        tally.total += 1
        if index < len(results) and left == right:
            tally.equal += 1
            continue
        label = next((seen.label for seen in observations if seen.steps_done > index), "end")
        outcome.mismatches.append(
            Mismatch(
                outcome.workload,
                f"{label} (step {index})",
                "",
                "results",
                left,
                right if index < len(results) else failure or "the step was not reached",
            )
        )
