"""``freepage report``: every kind of document becomes a page that fetches nothing, and what cannot is one line."""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from freepage_lab.cli import command as cli
from freepage_lab.demo.phases import PATHS
from freepage_lab.load.meter import Growth
from freepage_lab.load.tally import Tally
from freepage_lab.load.timeline import Timeline

HOSTILE = "<script>alert(1)</script>&\"'"


def _phase(name: str, action: str) -> dict[str, Any]:
    skipped = 7 if action == "skip" else 0
    by_path = dict.fromkeys
    return {
        "name": name,
        "policy": by_path(PATHS, action),
        "removed": by_path(PATHS, 7),
        "hook_calls": by_path(PATHS, 7 - skipped),
        "skipped": by_path(PATHS, skipped),
        "skipped_owned": by_path(PATHS, skipped),
        "orphaned": {"nfs_page": 6 * skipped},
        "pinned": {"rpc_cred": 6 * skipped},
    }


def _latency(p99_ms: float) -> dict[str, Any]:
    return {"count": 4, "p50_ms": 1.0, "p95_ms": p99_ms / 2, "p99_ms": p99_ms, "max_ms": 2 * p99_ms}


def _load() -> dict[str, Any]:
    timeline = Timeline()
    for second in range(5):
        tally = Tally()
        for _ in range(10 * second):
            tally.operation("compile").record(0.01 * second)
        timeline.add(float(second), tally, Growth())
    return {
        "profile": HOSTILE, "about": "Small files.", "seed": 1, "rate": None, "workers": 4, "clients": ["c1", "c2"],
        "operations": 40, "ops_per_s": 8.0, "seconds": 5.0, "errors": 1, "corrupt": 0, "orphans": 0, "violations": 0,
        "hit_percent": None, "rpcs": 100, "rpcs_per_op": 2.5, "p99_ms": 3.0,
        "latency": {"compile": _latency(9.0)}, "calls": {"open": _latency(2.0), "never": {"count": 0}},
        "rpc_mix": {"GETATTR": 90, "READ": 10}, "failures": [{"operation": "compile", "error": "EIO", "count": 1}],
        "timeline": timeline.to_json(),
    }  # fmt: skip


def _bench_row(name: str, ratio: float) -> dict[str, Any]:
    return {
        "group": "hit", "name": name, "ours": 1000.0, "beside": 1000 * ratio, "peer": "os.preadv", "unit": "ns/read",
        "ratio": ratio, "floor": 0.7, "ok": ratio >= 0.7, "spread": 0.02, "rounds": 11,
    }  # fmt: skip


def _documents() -> dict[str, dict[str, Any]]:
    cells = {kind: {"total": 10, "equal": 9} for kind in ("ops", "io", "pages", "results")}
    mismatch = {
        "workload": HOSTILE, "checkpoint": "3 read", "client": "A", "kind": "ops", "expected": {"READ": 1}, "got": {},
    }  # fmt: skip
    return {
        "demo": {
            "phases": [_phase("hook runs", "run"), _phase("skipped everywhere", "skip")],
            "ok": True,
            "timeline": {
                "t_s": [0.0, 0.5, 1.0], "phase": ["hook runs", "hook runs", "skipped everywhere"],
                "orphaned_requests": [0, 0, 42],
            },
        },
        "load": _load(),
        "conform": {
            "workloads": 1, **cells, "mismatches": [mismatch],
            "not_counted": [{"workload": "v4", "why": "for NFS version 4 only"}],
        },
        "bench": {
            "machine": dict.fromkeys(("processor", "processors", "system", "python", "grpcio", "protobuf"), "x"),
            "rows": [_bench_row("4 KiB", 0.8), _bench_row("64 KiB", 0.35)],
            "not_counted": [{"group": "lru", "name": "zipf", "why": "no libcachesim"}],
            "broken": [],
        },
        "soak": {
            "seed": 7, "scale": 1.0, "ok": False,
            "parts": {"crash": {"figures": {"kills": 200, "longest stall [s]": 0.5}, "failures": [HOSTILE]}},
        },
    }  # fmt: skip


class _Shape(HTMLParser):
    """Which elements there are, whether they are closed, and what would be fetched."""

    VOID = frozenset({"meta", "br", "path", "use", "rect"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.addresses: set[str] = set()
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.addresses |= {value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "action")}
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def _write(directory: Path, documents: dict[str, Any]) -> list[str]:
    files = []
    for name, document in documents.items():
        file = directory / f"{name}.json"
        file.write_text(json.dumps(document))
        files.append(str(file))
    return files


def test_all_documents_make_one_page_that_fetches_nothing(tmp_path: Path) -> None:
    output = tmp_path / "report.html"
    assert cli.run(["report", *_write(tmp_path, _documents()), "-o", str(output), "--title", HOSTILE]) in (0, None)
    text = output.read_text()
    shape = _Shape()
    shape.feed(text)
    assert shape.open == []
    assert "script" not in shape.seen and "link" not in shape.seen and "img" not in shape.seen
    assert all(address.startswith("#") for address in shape.addresses)
    assert not re.search(r"url\((?!#)", text)
    assert {"svg", "table"} <= shape.seen
    named = {address[1:] for address in shape.addresses}
    assert all(shape.ids.count(name) == 1 for name in named), "plots that share names draw each other's parts"


@pytest.mark.parametrize("kind", list(_documents()))
def test_what_a_document_says_is_on_the_page(kind: str, tmp_path: Path) -> None:
    output = tmp_path / "report.html"
    assert cli.run(["report", *_write(tmp_path, {kind: _documents()[kind]}), "-o", str(output)]) in (0, None)
    text = output.read_text()
    for told in {
        "demo": ["each phase behaved", "skipped everywhere", "84", "The leak over time"],
        "load": ["errors or orphans", "compile", "EIO", "GETATTR", "Latency of the moment"],
        "conform": ["4 of 40 cells differ", "9 of 10", "{&quot;READ&quot;: 1}", "for NFS version 4 only"],
        "bench": ["1 of 2 rows reach their aim", "hit: 64 KiB", "0.35", "no libcachesim"],
        "soak": ["a promise was broken", "200", "0.50"],
    }[kind]:
        assert told in text, told
    assert HOSTILE not in text


def test_plots_take_their_colours_from_the_page(tmp_path: Path) -> None:
    output = tmp_path / "report.html"
    cli.run(["report", *_write(tmp_path, {"demo": _documents()["demo"]}), "-o", str(output)])
    svg = "".join(re.findall(r"<svg.*?</svg>", output.read_text(), re.DOTALL))
    colours = set(re.findall(r"(?:fill|stroke): ([^;\"]+)", svg))
    assert colours <= {"none"} | {f"var({name})" for name in ("--s0", "--bad", "--ink", "--faint", "--line")}


def _refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.run(["report", *arguments]) not in (0, None)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("freepage: ")
    return lines[0]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "No such file"),
        ("{", "is not JSON"),
        ("[]", "is not what freepage demo"),
        ('{"phases": [], "ok": true}', "as freepage demo --json writes it"),
        ('{"parts": 5, "seed": 1, "scale": 1, "ok": true}', "as freepage soak --json writes it"),
        ('{"parts": {}, "seed": 1, "scale": "x", "ok": true}', "as freepage soak --json writes it"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_what_is_no_document_of_ours_is_one_line(
    content: str | None, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, output = tmp_path / "x.json", tmp_path / "report.html"
    if content is not None:
        file.write_text(content)
    output.write_text("the one before")
    line = _refused([str(file), "-o", str(output)], capsys)
    assert told in line and str(file) in line
    assert output.read_text() == "the one before"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*(["x.json"] if content else []), "report.html"])


def test_a_page_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = _write(tmp_path, {"demo": _documents()["demo"]})
    assert "cannot write" in _refused([*files, "-o", str(tmp_path / "none" / "report.html")], capsys)


def test_without_matplotlib_it_says_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "pip install 'freepage[report]'" in _refused(_write(tmp_path, {"demo": _documents()["demo"]}), capsys)


def test_a_long_load_is_told_in_coarser_steps() -> None:
    timeline = Timeline(most=10)
    tally = Tally()
    for second in range(1000):
        tally.operation("stat").record(3.0 if second == 777 else 0.001)
        kept = Tally()
        kept.add(tally)
        timeline.add(float(second), kept, Growth())
    columns = timeline.to_json()
    assert {len(values) for values in columns.values()} <= set(range(5, 11))
    assert columns["t_s"][-1] == 999.0 and columns["operations"][-1] == 1000
    assert columns["t_s"] == sorted(columns["t_s"])
    assert max(columns["p99_ms"]) == pytest.approx(3000, rel=0.02), "the slow moment is still there"
