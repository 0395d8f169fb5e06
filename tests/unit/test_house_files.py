"""What the project promises about its own files: the changelog, the locks, and that the documents name what exists."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import cast

import pytest
import typer.core
import typer.main

from freepage_lab.cli import command as cli

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ROOTS = ("pagecache", "client", "server", "runtime", "lab", "proto", "deploy", "docs", "tests")
LOCKS = sorted(path.name for path in ROOT.glob("requirements*.lock"))
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *(path for folder in ROOTS for path in (ROOT / folder).rglob("*.md") if ".venv" not in path.parts),
    ]
)
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))

document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def code_in(text: str) -> Iterator[str]:
    """Inline code and the lines of code blocks."""
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    for block in blocks:
        yield from block.splitlines()
    yield from re.findall(r"(?<!`)`([^`\n]+)`(?!`)", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def test_the_changelog_has_a_section_for_what_comes_and_for_this_version() -> None:
    sections = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert sections[0] == "Unreleased"
    assert PYPROJECT["project"]["version"] in sections
    assert len(sections) == len(set(sections))


def test_the_installed_version_is_the_projects() -> None:
    assert version("freepage") == PYPROJECT["project"]["version"]


def test_the_licence_is_there_in_full() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


@document
def test_a_document_links_to_what_exists(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        assert file.exists(), f"{target} is not there"
        if anchor and file.suffix == ".md":
            headings = re.findall(r"^#+ +(.+)$", file.read_text(), re.MULTILINE)
            assert anchor in map(slug, headings), f"{target}: no such heading"


@document
def test_a_document_names_files_that_exist(path: Path) -> None:
    for code in code_in(path.read_text()):
        for word in re.findall(rf"(?<![\w./$-])(?:{'|'.join(ROOTS)})/[\w./*-]+", code):
            assert any(ROOT.glob(word.rstrip("./"))), f"{word} is not there"


@document
def test_a_document_names_targets_that_exist(path: Path) -> None:
    for code in code_in(path.read_text()):
        for target in re.findall(r"(?:^|\s)make ([a-z][a-z-]*)", code):
            assert target in TARGETS, f"make {target} is not there"


@document
def test_a_document_names_commands_and_options_that_exist(path: Path) -> None:
    for code in code_in(path.read_text()):
        for line in re.findall(r"(?:^|[\s/])freepage ([a-z].*)", code):
            words = line.split()
            command: typer.core.TyperGroup | typer.core.TyperCommand = typer.main.get_group(cli.app)
            while isinstance(command, typer.core.TyperGroup) and words and not words[0].startswith("-"):
                name = words.pop(0)
                assert name in command.commands, f"freepage {line}: there is no {name}"
                command = cast(typer.core.TyperCommand, command.commands[name])
            known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
            for word in words:
                if re.fullmatch(r"--[a-z-]+(?:=.*)?", word):
                    assert word.partition("=")[0] in known | {"--help"}, f"freepage {line}: there is no {word}"


def test_every_target_is_phony_and_explains_itself() -> None:
    described = set(re.findall(r"^([a-z][a-z-]*):.*## \S", MAKEFILE, re.MULTILINE))
    phony = set(re.findall(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE))
    assert described == TARGETS - {"help", "remake"}
    assert phony >= TARGETS


def make_venv(require_tool: Callable[..., str], python: str, venv: Path) -> subprocess.CompletedProcess[str]:
    command = [require_tool("make", debian="make"), "venv", f"PYTHON={python}", f"VENV={venv}"]
    ours = {name: value for name, value in os.environ.items() if name != "MAKEFLAGS"}  # we may run under make ourselves
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=ours)


def test_make_says_in_one_line_that_no_python_fits(tmp_path: Path, require_tool: Callable[..., str]) -> None:
    run = make_venv(require_tool, "/no/such/python3", tmp_path / "environment")
    assert run.returncode != 0
    assert run.stderr.startswith("freepage needs Python 3.11 or newer; tried: /no/such/python3 (")
    assert not (tmp_path / "environment").exists()


def test_make_does_not_clear_a_directory_that_is_no_environment(
    tmp_path: Path, require_tool: Callable[..., str]
) -> None:
    (tmp_path / "precious").write_text("")
    run = make_venv(require_tool, sys.executable, tmp_path)
    assert run.returncode != 0
    assert "is not a virtual environment" in run.stderr
    assert (tmp_path / "precious").exists()


def test_ci_can_be_run() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    subprocess.run(["bash", "-n", ROOT / ".ci" / "run"], check=True)


def test_ci_installs_every_tool_that_a_test_asks_for() -> None:
    asked = {
        (tool, package)
        for path in (ROOT / "tests").rglob("*.py")
        for tool, package in re.findall(r'require_tool\("([^"]+)", debian="([^"]+)"', path.read_text())
        if path.name not in ("conftest.py", "test_house_conftest.py") and path != Path(__file__)
    }
    table = re.search(r"<<'TOOLS'\n(.*?)^TOOLS", (ROOT / ".ci" / "run").read_text(), re.MULTILINE | re.DOTALL)
    assert table is not None
    installed = {tuple(line.split()) for line in table[1].splitlines()}
    assert asked <= installed


def test_test_files_have_names_of_their_own() -> None:
    counts = Counter(path.name for path in (ROOT / "tests").rglob("*.py"))
    assert not [name for name, count in counts.items() if count > 1], "pytest imports them by name alone"


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_pins_and_hashes_everything_and_names_no_index(name: str) -> None:
    text = (ROOT / name).read_text()
    assert not re.search(r"https?:|--(?:index-url|extra-index-url|find-links|trusted-host)", text)
    requirements = re.findall(r"^[A-Za-z0-9].*(?:\n +--hash=.*)*", text, re.MULTILINE)
    assert requirements
    for requirement in requirements:
        assert re.match(r"[A-Za-z0-9._-]+==[^\s;]+", requirement), requirement
        assert "--hash=sha256:" in requirement, requirement


def pins(name: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==([^\s;]+)", (ROOT / name).read_text(), re.MULTILINE))


def test_the_locks_agree_and_cover_what_is_declared() -> None:
    users, developers = pins("requirements.lock"), pins("requirements-dev.lock")
    assert users.items() | pins("requirements-build.lock").items() <= developers.items()
    project = PYPROJECT["project"]
    groups = PYPROJECT["dependency-groups"]
    extras = project["optional-dependencies"]
    declared = [*project["dependencies"], *(d for extra in extras.values() for d in extra)]
    for lock, requirements in (
        (users, [*project["dependencies"], *extras["ops"]]),  # the image's: a daemon draws no plots
        (developers, [*declared, *groups["build"], *(d for d in groups["dev"] if isinstance(d, str))]),
        (pins("requirements-build.lock"), groups["build"]),
        (pins("requirements-proto.lock"), groups["proto"]),
    ):
        assert {re.split(r"[<>=!~ \[]", requirement)[0] for requirement in requirements} <= lock.keys(), "make lock"


def test_generated_code_runs_under_the_oldest_protobuf_that_is_declared() -> None:
    """protobuf refuses code generated by a newer release than itself, so the generator must not be newer."""
    (oldest,) = re.findall(r"protobuf>=(\d+)\.(\d+)", "\n".join(PYPROJECT["project"]["dependencies"]))
    generated = list((ROOT / "proto").glob("freepage_proto/v1/*_pb2.py"))
    for path in generated:
        made_by = re.search(r"^# Protobuf Python Version: (\d+)\.(\d+)\.", path.read_text(), re.MULTILINE)
        assert made_by is not None
        assert tuple(map(int, made_by.groups())) <= tuple(map(int, oldest)), path.name


def test_nothing_is_left_to_do_in_the_sources() -> None:
    marks = re.compile(r"\bTO" + r"DO\b|\bFIX" + r"ME\b|\bXX" + r"X\b|raise NotImplemented" + "Error")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for folder in ROOTS
        for path in (ROOT / folder).rglob("*.py")
        if not {".venv", "v1"} & set(path.parts)  # v1: generated code
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if marks.search(line)
    ]
    assert not found
