"""LOCKING.md and the code agree: operations, colours, removal paths, rules."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Awaitable
from pathlib import Path

import pytest

import freepage as fp
from freepage import address_space, filemap, readahead, truncate, vmscan
from pagecache_toyfs import new_cache

PACKAGE = Path(fp.__file__).parent
LOCKING = PACKAGE.parent / "LOCKING.md"


def table(first_column: str) -> list[dict[str, str]]:
    """The rows of the Markdown table whose first column has this heading."""
    lines = LOCKING.read_text(encoding="utf-8").splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith(f"| {first_column} |"))
    heads = [cell.strip() for cell in lines[start].strip("|").split("|")]
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append(dict(zip(heads, (cell.strip() for cell in line.strip().strip("|").split("|")), strict=True)))
    return rows


def may_block(name: str) -> bool:
    """An operation may block exactly when its type returns something to await."""
    namespace = {**vars(address_space), "ReadaheadControl": fp.ReadaheadControl}
    namespace |= {"WritebackControl": fp.WritebackControl, "AddressSpace": fp.AddressSpace}
    hint = typing.get_type_hints(fp.AddressSpaceOperations, globalns=namespace)[name]
    (signature,) = [each for each in typing.get_args(hint) if each is not type(None)]
    result = typing.get_args(signature)[1]
    return typing.get_origin(result) is Awaitable


def test_every_operation_has_its_row_in_the_table_s_order() -> None:
    fields = [field.name for field in dataclasses.fields(fp.AddressSpaceOperations)]
    assert [row["operation"] for row in table("operation")] == fields


def test_the_column_may_block_is_the_colour_of_the_function() -> None:
    for row in table("operation"):
        assert row["may block"] == ("yes" if may_block(row["operation"]) else "no"), row["operation"]


def test_what_may_not_block_is_refused_when_it_is_async() -> None:
    async def blocks(*_args: object) -> None:
        return None

    class Blocks:
        async def __call__(self, *_args: object) -> None:
            return None

    plain = [row["operation"] for row in table("operation") if row["may block"] == "no"]
    assert tuple(plain) == address_space.PLAIN_OPERATIONS
    for name in plain:
        for operation in (blocks, Blocks()):
            with pytest.raises(TypeError, match="may not block"):
                fp.AddressSpaceOperations(**{name: operation})  # type: ignore[arg-type]


def test_only_freepage_is_without_a_guaranteed_mapping() -> None:
    assert [row["operation"] for row in table("operation") if "no" in row["mapping guaranteed"]] == ["freepage"]


def test_every_rule_is_promised_and_every_promise_is_a_rule() -> None:
    promised = {rule for row in table("the contract says") for rule in re.findall(r"`(\w+)`", row["rule that fires"])}
    assert promised == set(fp.RULES)
    assert set(new_cache().violations) == set(fp.RULES)


def test_the_removal_paths_are_the_labels() -> None:
    assert {row["path"] for row in table("path")} == {path.value for path in fp.RemovalPath}


def test_the_exit_door_is_called_with_the_table_s_paths_and_functions() -> None:
    source = "".join(inspect.getsource(module) for module in (filemap, readahead, truncate, vmscan))
    named = {name for row in table("path") for name in row["kernel functions it names"].split(", ")}
    literals = set(re.findall(r'"(\w+)"', source))
    assert named <= literals
    direct = re.findall(r'remove_from_page_cache\([\w.]+, [\w.]+, RemovalPath\.(\w+), "(\w+)"', source)
    rows = {
        (row["path"].upper(), name) for row in table("path") for name in row["kernel functions it names"].split(", ")
    }
    assert direct and set(direct) <= rows


def test_nothing_but_the_exit_door_takes_a_page_out_of_the_tree() -> None:
    for path in PACKAGE.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        deletes = len(re.findall(r"\.pages\.erase\(|\.pages\.pop\(|\.pages\.clear\(", text))
        assert deletes == (1 if path.name == "filemap.py" else 0), path.name
        calls = len(re.findall(r"[^.\w]call_freepage\(", text.replace("def call_freepage(", "")))
        assert not calls or path.name in ("filemap.py", "faults.py"), path.name


def test_functions_the_page_names_exist() -> None:
    words = {row["function"].split(" ")[0] for row in table("path")}
    words |= {"migrate_page", "reclaim_throttle", "remove_from_page_cache", "write_cache_pages", "filemap_dirty_page"}
    modules = [filemap, readahead, truncate, vmscan, fp]
    for word in words:
        assert any(hasattr(module, word) for module in modules), word


def test_the_package_is_pure() -> None:
    impure = re.compile(r"^\s*(?:import|from) (asyncio|threading|time|random|os|logging|socket|io|datetime)\b", re.M)
    for path in PACKAGE.glob("*.py"):
        assert not impure.search(path.read_text(encoding="utf-8")), path.name
