"""Every step of the language, on a client and on the server: the same results, except where NFS itself differs."""

from __future__ import annotations

from typing import Any

from freepage_lab.conform.language import STEPS, parse_workload, walk
from freepage_lab.conform.stage import Stage
from freepage_lab.conform.venue import SimVenue
from freepage_lab.sim import World, run_world

PAGE = 4096


def script(client: str) -> list[dict[str, Any]]:
    """All steps, in ``client``'s own directory."""
    d = client

    def step(op: str, **operands: Any) -> dict[str, Any]:
        return {"op": op, "client": client, **operands}

    return [
        step("mkdir", path=d),
        step("open", path=f"{d}/f", flags=["O_RDWR", "O_CREAT", "O_EXCL"], fd="x"),
        step("open", path=f"{d}/f", flags=["O_RDWR", "O_CREAT", "O_EXCL"], fd="y"),
        step("write", fd="x", length=1000, seed=1),
        step("write", fd="x", length=1000, seed=1),
        step("pwrite", fd="x", offset=PAGE, length=PAGE, seed=2),
        step("write_all", fd="x", length=3 * PAGE, chunk=1500, seed=3),
        step("lseek", fd="x", offset=100),
        step("read", fd="x", length=5000),
        step("pread", fd="x", offset=1999, length=3000),
        step("lseek", fd="x", offset=-10, whence="END"),
        step("read_all", fd="x", chunk=7),
        step("lseek", fd="x", offset=0, whence="DATA"),
        step("lseek", fd="x", offset=0, whence="HOLE"),
        step("lseek", fd="x", offset=10**9, whence="DATA"),
        step("fdatasync", fd="x"),
        step("fsync", fd="x"),
        step("fstat", fd="x"),
        step("ftruncate", fd="x", length=10_000),
        step("fstat", fd="x"),
        step("flock", fd="x", how="EX|NB"),
        step("flock", fd="x", how="UN"),
        step("lockf", fd="x", how="EX|NB", offset=10, length=20),
        step("lockf", fd="x", how="SH"),
        step("lockf", fd="x", how="UN"),
        step("fadvise", fd="x", advice="DONTNEED"),
        step("fadvise", fd="x", offset=0, length=PAGE, advice="WILLNEED"),
        step("fadvise", fd="x", advice="RANDOM"),
        step("fadvise", fd="x", advice="SEQUENTIAL"),
        step("fadvise", fd="x", advice="NORMAL"),
        step("fadvise", fd="x", advice="NOREUSE"),
        step("close", fd="x"),
        step("close", fd="x"),
        step("read", fd="x", length=1),
        step("truncate", path=f"{d}/f", length=5000),
        step("truncate", path=f"{d}/none", length=5000),
        step("stat", path=f"{d}/f"),
        step("chmod", path=f"{d}/f", mode=0o600),
        step("utimens", path=f"{d}/f", atime=1_000_000_000, mtime=1_000_000_001),
        step("lstat", path=f"{d}/f"),
        step("utimens", path=f"{d}/f", mtime="now"),
        step("lstat", path=f"{d}/f"),
        step("access", path=f"{d}/f", mode="R_OK|W_OK"),
        step("access", path=f"{d}/f", mode="F_OK"),
        step("access", path=f"{d}/none", mode="F_OK"),
        step("symlink", path=f"{d}/s", target="f"),
        step("readlink", path=f"{d}/s"),
        step("readlink", path=f"{d}/f"),
        step("stat", path=f"{d}/s"),
        step("lstat", path=f"{d}/s"),
        step("symlink", path=f"{d}/loop", target="loop"),
        step("stat", path=f"{d}/loop"),
        step("link", path=f"{d}/f", to=f"{d}/g"),
        step("stat", path=f"{d}/g"),
        step("rename", path=f"{d}/g", to=f"{d}/h"),
        step("rename", path=f"{d}/g", to=f"{d}/h"),
        step("rename", path=f"{d}/f", to=f"{d}/h"),
        step("copy", path=f"{d}/f", to=f"{d}/c", chunk=700),
        step("copy", path=f"{d}/none", to=f"{d}/c"),
        step("open", path=f"{d}/c", fd="in"),
        step("open", path=f"{d}/r", flags=["O_WRONLY", "O_CREAT"], fd="out"),
        step("copy_range", fd="in", to_fd="out", length=3000, offset=100, to_offset=5),
        step("close", fd="out"),
        step("close", fd="in"),
        step("stat", path=f"{d}/r"),
        step("for", var="i", to=3, steps=[step("mkdir", path=f"{d}/d{{i}}"), step("mkdir", path=f"{d}/d{{i}}")]),
        step("for", var="n", **{"in": ["d0", "h"]}, steps=[step("stat", path=f"{d}/{{n}}")]),
        step("listdir", path=d),
        step("listdir_stat", path=d),
        step("listdir", path=f"{d}/h"),
        step("rmdir", path=d),
        step("rmdir", path=f"{d}/d0"),
        step("rmdir", path=f"{d}/h"),
        step("unlink", path=f"{d}/h"),
        step("unlink", path=f"{d}/h"),
        step("unlink", path=f"{d}/d1"),
        step("stat", path=f"{d}/h/below"),
        step("stat", path=f"{d}/c/below"),
        step("stat", path="x" * 256),
        step("open", path=d, flags=["O_WRONLY"], fd="z"),
        step("open", path=f"{d}/c", flags=["O_DIRECTORY"], fd="z"),
        step("open", path=f"{d}/s", flags=["O_NOFOLLOW"], fd="z"),
        step("open", path=f"{d}/direct", flags=["O_RDWR", "O_CREAT", "O_DIRECT"], fd="d"),
        step("pwrite", fd="d", offset=0, length=2 * PAGE, seed=9),
        step("pread", fd="d", offset=PAGE, length=2 * PAGE),
        step("close", fd="d"),
        step("mkfile", path=f"{d}/m", length=2_500_000, seed=4, mode=0o640),
        step("stat", path=f"{d}/m"),
    ]


DIFFERS_OVER_NFS: list[dict[str, Any]] = [
    {"op": "open", "path": "f", "flags": ["O_RDWR", "O_CREAT"], "fd": "x"},
    {"op": "fallocate", "fd": "x", "offset": 0, "length": PAGE},
    {"op": "statfs", "path": "."},
    {"op": "close", "fd": "x"},
]

WHOLE_MACHINE: list[dict[str, Any]] = [
    {"op": "sync"},
    {"op": "drop_caches", "what": 1},
    {"op": "drop_caches", "what": 2},
    {"op": "drop_caches"},
    {"op": "sleep", "seconds": 0.5},
    {"op": "server_write", "path": "w", "offset": 10, "length": 20, "seed": 1, "trunc": True},
    {"op": "checkpoint", "label": "done"},
]


def results_of(steps: list[dict[str, Any]]) -> list[Any]:
    workload = parse_workload({"name": "steps", "family": "test", "description": "", "steps": steps}, "here")

    async def story(world: World) -> list[Any]:
        stage = Stage(workload, {}, await SimVenue.open(world))
        await stage.play()
        assert stage.left_over == []
        return stage.results

    return run_world(story)


def test_client_and_server_give_the_same_results() -> None:
    on_client, on_server = script("A"), script("S")
    client, server = results_of(on_client), results_of(on_server)
    differing = [
        (step["op"], a, s)
        for step, a, s in zip(on_client, client, server, strict=True)
        if comparable(a) != comparable(s)
    ]
    assert differing == []


def comparable(result: Any) -> Any:
    """A loop's digest without the names of the two directories has nothing left to compare; counts and errors have."""
    return {key: result[key] for key in ("n", "errors", "results")} if isinstance(result, dict) else result


def test_what_nfs_cannot_do_and_what_concerns_the_whole_machine() -> None:
    results = results_of(DIFFERS_OVER_NFS + WHOLE_MACHINE)
    assert results == [
        "0",
        "!ENOTSUP",  # Python's name for 95, which is EOPNOTSUPP too
        "bsize=1048576 frsize=1048576 namemax=255",
        "0",
        *("0",) * 5,
        "20",
        "0",
    ]


def test_no_step_was_forgotten() -> None:
    source = {"name": "steps", "family": "", "description": "", "steps": script("A") + DIFFERS_OVER_NFS + WHOLE_MACHINE}
    assert {step.op for step in walk(parse_workload(source, "here").steps)} == set(STEPS)
