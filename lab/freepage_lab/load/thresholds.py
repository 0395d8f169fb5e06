"""``--fail-if 'p99_ms>50'``: figures by name, compared with a number."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from freepage_runtime.errors import UserError

COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
_EXPRESSION = re.compile(r"\s*([A-Za-z0-9_.-]+)\s*(>=|<=|==|!=|>|<|=)\s*(-?\d+(?:\.\d+)?)\s*(%?)\s*")


@dataclass(frozen=True, slots=True)
class Threshold:
    """A limit that fails the run."""

    text: str
    name: str
    compare: str
    limit: float

    def crossed(self, figures: Mapping[str, float | None]) -> bool:
        """A figure that there is not (no operation of that name ended, nothing was read) crosses no limit."""
        value = figures.get(self.name)
        return value is not None and COMPARE[self.compare](value, self.limit)


def parse_threshold(text: str, known: Callable[[str], bool], examples: str) -> Threshold:
    """``NAME>NUMBER``; raises UserError when it is none, or when ``known`` does not know the name."""
    match = _EXPRESSION.fullmatch(text)
    if match is None:
        raise UserError(f"--fail-if {text!r} is no comparison: write it like 'p99_ms>50', 'orphans>0' or 'errors>0'")
    name, compare, number, _ = match.groups()
    if not known(name):
        raise UserError(f"--fail-if {text!r}: there is no figure {name!r} (there are {examples})")
    return Threshold(text.strip(), name, "==" if compare == "=" else compare, float(number))
