"""The six ways out of the page cache, and whether the hook runs on each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import NoReturn, TypeVar


class RemovalPath(StrEnum):
    """Why a page left the cache. The values are metric labels; the exact function is a field of the audit."""

    TRUNCATE = "truncate"
    """truncate_inode_pages_range; also error removal and readahead that was not submitted"""
    INVALIDATE = "invalidate"
    """invalidate_inode_pages2_range"""
    DROP = "drop"
    """invalidate_mapping_pages: drop_caches, FADV_DONTNEED, the inode shrinker"""
    RECLAIM = "reclaim"
    """shrink_page_list"""
    REPLACE = "replace"
    """replace_page_cache_page"""
    EVICT = "evict"
    """truncate_inode_pages_final: the inode goes away (unlink, unmount)"""

    @classmethod
    def _missing_(cls, value: object) -> NoReturn:
        raise ValueError(f"{value!r} is no removal path: choose {', '.join(cls)} or all")


Number = TypeVar("Number", int, float)


def parse_number(kind: type[Number], option: str) -> Number:
    """The number in an option ``NAME=NUMBER``. ValueError."""
    name, _, value = option.partition("=")
    try:
        return kind(value)
    except ValueError:
        raise ValueError(f"{option!r}: {name} needs a {'whole ' if kind is int else ''}number") from None


@dataclass(slots=True)
class SkipRule:
    """Skip the hook: always, with a probability, or on every Nth removal of the path."""

    probability: float | None = None
    every_nth: int | None = None
    seen: int = 0

    def __str__(self) -> str:
        if self.every_nth is not None:
            return f"skip:every={self.every_nth}"
        if self.probability is not None:
            return f"skip:probability={self.probability:g}"
        return "skip"


class HookPolicy:
    """`run` or `skip` for each removal path. A removal that the policy skips is counted, and is no violation."""

    __slots__ = ("_random", "rules")

    def __init__(self, random: Callable[[], float] | None = None) -> None:
        self._random = random
        self.rules: dict[RemovalPath, SkipRule] = {}
        """only the paths that skip; an absent path runs"""

    def set(
        self,
        path: RemovalPath | str,
        action: str,
        *,
        probability: float | None = None,
        every_nth: int | None = None,
    ) -> None:
        """Set one path, or `all`. `action` is "run" or "skip". ValueError on anything else."""
        paths = list(RemovalPath) if path == "all" else [RemovalPath(path)]
        if action not in ("run", "skip"):
            raise ValueError(f"hook policy is run or skip, not {action!r}")
        if probability is not None and every_nth is not None:
            raise ValueError("either a probability or every Nth, not both")
        if (probability is not None or every_nth is not None) and action == "run":
            raise ValueError("run takes neither a probability nor every Nth")
        if probability is not None and not 0.0 <= probability <= 1.0:
            raise ValueError(f"probability {probability} is not between 0 and 1")
        if probability is not None and self._random is None:
            raise ValueError("this cache was given no source of chance; use every=N")
        if every_nth is not None and every_nth < 1:
            raise ValueError(f"every={every_nth} is less than 1")
        for each in paths:
            if action == "run":
                self.rules.pop(each, None)
            else:
                self.rules[each] = SkipRule(probability, every_nth)

    def parse(self, text: str) -> None:
        """`PATH=run`, `PATH=skip`, `PATH=skip:every=3`, `PATH=skip:probability=0.25`; PATH may be `all`. ValueError."""
        path, equals, rest = text.partition("=")
        action, _, option = rest.partition(":")
        if not equals:
            raise ValueError(f"hook policy {text!r}: expected PATH=run or PATH=skip[:every=N|:probability=P]")
        name = option.partition("=")[0]
        if not option:
            self.set(path, action)
        elif name == "every":
            self.set(path, action, every_nth=parse_number(int, option))
        elif name == "probability":
            self.set(path, action, probability=parse_number(float, option))
        else:
            raise ValueError(f"hook policy {text!r}: unknown option {name!r}")

    def skips(self, path: RemovalPath) -> bool:
        """Decide for one removal (counts it, for every Nth)."""
        rule = self.rules.get(path)
        if rule is None:
            return False
        if rule.every_nth is not None:
            rule.seen += 1
            return rule.seen % rule.every_nth == 0
        if rule.probability is not None:
            assert self._random is not None
            return self._random() < rule.probability
        return True

    def as_dict(self) -> dict[str, str]:
        """Path -> `run` or `skip…`, for every path, as the control service and the reports show it."""
        return {path.value: str(self.rules.get(path, "run")) for path in RemovalPath}
