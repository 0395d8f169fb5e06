"""The arrows between the packages. `make lint` runs the contracts of pyproject.toml; here we test that they bite."""

from __future__ import annotations

import ast
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = [ROOT / path for path in PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]]

# What the page cache may import: the parts of the standard library that neither block nor look at the world outside.
PURE = {
    "__future__", "abc", "array", "bisect", "collections", "contextlib", "copy", "dataclasses", "enum", "errno",
    "functools", "heapq", "inspect", "itertools", "json", "math", "operator", "string", "struct", "textwrap", "types",
    "typing", "weakref",
}  # fmt: skip


def modules_imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(), filename=str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield path.parent.name if node.level else (node.module or "")


def test_the_contracts_hold() -> None:
    lint = Path(sysconfig.get_path("scripts")) / "lint-imports"
    run = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout
    assert "0 broken" in run.stdout


def test_the_page_cache_imports_only_the_pure_parts_of_the_standard_library() -> None:
    foreign = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in (ROOT / "pagecache" / "freepage").rglob("*.py")
        for name in modules_imported(path)
        if name.partition(".")[0] not in PURE | {"freepage"}
    }
    assert not foreign


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_a_package_is_typed_and_listed_everywhere(package: Path) -> None:
    assert (package / "py.typed").is_file()
    assert package.name in PYPROJECT["tool"]["importlinter"]["root_packages"]
    for roots in (
        PYPROJECT["tool"]["hatch"]["build"]["dev-mode-dirs"],
        PYPROJECT["tool"]["mypy"]["mypy_path"],
        PYPROJECT["tool"]["mypy"]["files"],
        PYPROJECT["tool"]["ruff"]["src"],
    ):
        assert package.parent.name in roots
    for path in package.rglob("*.py"):
        assert (path.parent / "__init__.py").is_file(), f"{path.parent} would be left out of the wheel's import checks"


def test_the_page_cache_alone_is_enough() -> None:
    """``import freepage`` brings in none of the rest: an embedder pays for nothing else."""
    code = (
        "import sys, freepage; print(*sorted(m for m in sys.modules if m.startswith(('freepage_', 'grpc', 'google'))))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""
