"""Programs on a mount: what they read is what was written, and nothing leaks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fsx import Fsx
from mount_rig import Mount, mounted
from namespace_stress import NamespaceStress

pytest_plugins = ("mount_fixtures",)

SEED = 20101201


def run(*command: str | Path, cwd: Path | None = None, language: str | None = None) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "LC_ALL": language} if language else None,
        capture_output=True,
        text=True,
        timeout=600,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def client(source: str, place: Path) -> Iterator[Mount]:
    with mounted(source, place / "programs") as mount:
        yield mount


@pytest.fixture
def d(client: Mount, request: pytest.FixtureRequest) -> Path:
    path = client.path / str(request.node.name)
    path.mkdir()
    return path


def test_random_operations_on_a_file(d: Path) -> None:
    print(f"seed {SEED}")
    Fsx(d / "f", SEED).run(400)


def test_random_operations_on_names(d: Path, tmp_path: Path) -> None:
    print(f"seed {SEED}")
    NamespaceStress(d, tmp_path, SEED).run(500)


def test_random_operations_through_the_kernels_cache(source: str, place: Path) -> None:
    print(f"seed {SEED}")
    with mounted(source, place / "mmap", "mmap") as mount:
        Fsx(mount.path / "through-the-kernel", SEED, direct=False).run(200)


def test_sqlite_with_a_rollback_journal(d: Path, require_tool: Any) -> None:
    sqlite = require_tool("sqlite3", debian="sqlite3")
    statements = """
        create table t(a integer primary key, b);
        with recursive n(i) as (select 1 union all select i + 1 from n where i < 2000)
            insert into t select i, hex(randomblob(100)) from n;
        begin; delete from t where a % 3 = 0; rollback;
        begin; update t set b = 'x' where a % 5 = 0; commit;
        pragma integrity_check; select count(*), sum(b = 'x') from t;
    """
    assert run(sqlite, d / "t.db", statements) == "ok\n2000|400\n"
    assert run(sqlite, d / "t.db", "pragma integrity_check; vacuum; select count(*) from t;") == "ok\n2000\n"


def test_sqlite_with_a_log(d: Path, require_tool: Any) -> None:
    sqlite = require_tool("sqlite3", debian="sqlite3")
    statements = """
        pragma locking_mode = exclusive; pragma journal_mode = wal; create table t(a, b);
        with recursive n(i) as (select 1 union all select i + 1 from n where i < 2000)
            insert into t select i, hex(randomblob(100)) from n;
        pragma wal_checkpoint; pragma integrity_check; select count(*) from t;
    """
    assert run(sqlite, d / "t.db", statements).splitlines()[-2:] == ["ok", "2000"]


def test_git(d: Path, require_tool: Any) -> None:
    git = require_tool("git", debian="git")
    identity = ("-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "init.defaultBranch=main")
    first = d / "first"
    run(git, *identity, "init", "-q", first)
    for i in range(20):
        (first / f"f{i}").write_text(f"{i}\n" * 50)
    run(git, "add", "-A", cwd=first)
    run(git, *identity, "commit", "-q", "-m", "one", cwd=first)
    run(git, *identity, "mv", "f0", "moved", cwd=first)
    run(git, *identity, "commit", "-q", "-m", "two", cwd=first)
    run(git, "clone", "-q", first, d / "second")
    assert run(git, "status", "--porcelain", cwd=d / "second") == ""
    run(git, "fsck", "--strict", cwd=d / "second")
    assert (d / "second" / "moved").read_text() == "0\n" * 50


def test_tar_and_diff(d: Path, tmp_path: Path, require_tool: Any) -> None:
    tar, diff = require_tool("tar", debian="tar"), require_tool("diff", debian="diffutils")
    tree = tmp_path / "tree"
    shutil.copytree(Path(os.__file__).parent / "asyncio", tree, ignore=shutil.ignore_patterns("__pycache__"))
    os.symlink("events.py", tree / "link")
    os.link(tree / "events.py", tree / "second-name")
    run(tar, "-C", tree, "-cf", tmp_path / "t.tar", ".")
    (d / "out").mkdir()
    run(tar, "-C", d / "out", "-xf", tmp_path / "t.tar")
    run(diff, "-r", tree, d / "out")
    run(tar, "-C", d / "out", "--compare", "-f", tmp_path / "t.tar")
    run(tar, "-C", d / "out", "-cf", d / "again.tar", ".")
    run(tar, "-C", tree, "--compare", "-f", d / "again.tar")
    shutil.rmtree(d / "out")


# Everything else: make test-mount.


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("options", ["", "noac", "actimeo=0,lookupcache=none", "rsize=4096,wsize=4096", "mmap", "sync"])
def test_random_operations_with_options(source: str, place: Path, options: str, seed: int) -> None:
    print(f"seed {seed}")
    name = f"fsx-{options.replace(',', '-') or 'default'}-{seed}"
    with mounted(source, place / name, options, "--cache", "1MiB") as mount:
        Fsx(mount.path / name, seed, direct=options != "mmap").run(1500)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_random_operations_on_names_at_length(d: Path, tmp_path: Path, seed: int) -> None:
    NamespaceStress(d, tmp_path, seed).run(2000)


@pytest.mark.slow
def test_fio_verifies(d: Path, require_tool: Any) -> None:
    fio = require_tool("fio", debian="fio")
    common = [
        "--verify=crc32c",
        "--verify_fatal=1",
        "--size=8M",
        "--directory",
        str(d),
        "--randseed=7",
        "--group_reporting",
    ]
    for more in (
        ["--name=random", "--rw=randwrite", "--bs=4k"],
        ["--name=mixed", "--rw=randrw", "--bs=7k"],
        ["--name=direct", "--rw=randwrite", "--bs=16k", "--direct=1"],
        ["--name=mapped", "--rw=randwrite", "--bs=4k", "--ioengine=mmap"],
        ["--name=many", "--rw=randwrite", "--bs=8k", "--numjobs=4", "--fsync=16"],
        ["--name=async", "--rw=randwrite", "--bs=4k", "--ioengine=libaio", "--iodepth=16", "--direct=1"],
    ):
        run(fio, *common, *more, cwd=d)


@pytest.mark.slow
def test_git_gc(d: Path, require_tool: Any) -> None:
    git = require_tool("git", debian="git")
    test_git(d, require_tool)
    for i in range(30):
        (d / "first" / f"f{i}").write_text(f"{i}\n" * 500)
        run(git, "add", "-A", cwd=d / "first")
        run(git, "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-q", "-m", f"{i}", cwd=d / "first")
    run(git, "gc", "-q", "--aggressive", "--prune=now", cwd=d / "first")
    run(git, "fsck", "--full", "--strict", cwd=d / "first")
    assert run(git, "log", "--oneline", cwd=d / "first").count("\n") == 32


@pytest.mark.slow
def test_make(d: Path, require_tool: Any) -> None:
    make = require_tool("make", debian="make")
    rules = [f"all: {' '.join(f'o{i}' for i in range(60))}", "\t@cat $^ | sort > $@"]
    for i in range(60):
        (d / f"c{i}").write_text(f"{i}\n" * 200)
        rules += [f"o{i}: c{i} {f'o{i - 7}' if i >= 7 else ''}", "\t@cat $^ > $@.tmp && mv $@.tmp $@"]
    (d / "Makefile").write_text("\n".join(rules) + "\n")
    run(make, "-s", "-j", "4", cwd=d)
    assert "is up to date" in run(make, "-j4", cwd=d, language="C")
    before = (d / "o59").stat().st_mtime_ns
    (d / "c3").touch()
    run(make, "-s", "-j", "4", cwd=d)
    assert (d / "o59").stat().st_mtime_ns > before


@pytest.mark.slow
def test_rsync(d: Path, tmp_path: Path, require_tool: Any) -> None:
    rsync, diff = require_tool("rsync", debian="rsync"), require_tool("diff", debian="diffutils")
    tree = tmp_path / "tree"
    shutil.copytree(Path(os.__file__).parent / "email", tree, ignore=shutil.ignore_patterns("__pycache__"))
    run(rsync, "-aH", f"{tree}/", f"{d}/copy/")
    run(diff, "-r", tree, d / "copy")
    (tree / "charset.py").write_text("changed\n")
    (tree / "header.py").unlink()
    run(rsync, "-aH", "--delete", "--checksum", "--inplace", f"{tree}/", f"{d}/copy/")
    run(diff, "-r", tree, d / "copy")
    assert run(rsync, "-aHn", "--itemize-changes", f"{tree}/", f"{d}/copy/") == ""


PYTHONS_OWN = (
    *("test_tempfile", "test_shutil", "test_os", "test_posix", "test_fileio", "test_io", "test_largefile"),
    *("test_glob", "test_pathlib", "test_zipfile", "test_dbm_dumb", "test_mmap"),
    *("test_mailbox", "test_fcntl", "test_sqlite3", "test_tarfile", "test_filecmp"),
)
"""Python's own tests of files. Which fail on a mount and not elsewhere is in NOT_ON_NFS."""

_OPEN_IN_DIRECTORY = "it removes a directory with an open file in it, which lives on there as .nfsXXXX"
NOT_ON_NFS = {
    "test_del_on_collection_ignore_errors": _OPEN_IN_DIRECTORY,
    "test_del_on_shutdown_ignore_errors": _OPEN_IN_DIRECTORY,
    "test_explict_cleanup_ignore_errors": _OPEN_IN_DIRECTORY,
    "test_explicit_cleanup_ignore_errors": _OPEN_IN_DIRECTORY,
    "test_has_no_name": _OPEN_IN_DIRECTORY,
}


@pytest.mark.slow
@pytest.mark.parametrize("module", PYTHONS_OWN)
def test_pythons_own_tests(d: Path, module: str) -> None:
    # Of the others' temporary files only those of --tempdir are on the mount: test.support looks for extended
    # attributes in a directory that it removes with an open file in it, and ends there on NFS.
    environment = {**os.environ, "TMPDIR": str(d)} if module == "test_tempfile" else None
    ignored = [word for name in NOT_ON_NFS for word in ("--ignore", name)]
    done = subprocess.run(
        [sys.executable, "-m", "test", "--tempdir", str(d), "-j1", "--timeout", "900", *ignored, module],
        cwd=d,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1000,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode and ("No module named" in done.stderr or "no tests" in done.stdout.lower()):
        pytest.skip(f"this Python comes without {module}")
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]


@pytest.mark.slow
def test_a_hundred_thousand_names(client: Mount, export: Path) -> None:
    crowd = export / "crowd"
    crowd.mkdir()
    for i in range(100_000):
        (crowd / f"name-{i:06d}").touch()
    try:
        assert len(set(os.listdir(client.path / "crowd"))) == 100_000
        with os.scandir(client.path / "crowd") as entries:
            assert sum(1 for _ in entries) == 100_000
    finally:
        shutil.rmtree(crowd)
