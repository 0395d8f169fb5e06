"""What a part of the soak test is given, what it gives back, and which parts there are."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from freepage_lab.soak import parts

Figure = int | float | str


@dataclass(frozen=True, slots=True)
class Settings:
    """``seed`` repeats a run as far as the machine lets it. ``scale`` 1.0 is the full length, less is shorter.

    ``directory`` is empty and belongs to the part. ``say`` takes a line about how it goes.
    """

    seed: int
    directory: Path
    scale: float = 1.0
    say: Callable[[str], None] = lambda line: None

    def scaled(self, full: int) -> int:
        """``full`` rounds, megabytes or messages, at this scale; at least one."""
        return max(1, round(full * self.scale))


@dataclass(slots=True)
class Outcome:
    """``figures`` by name, in the order in which they are shown. Every line of ``failures`` is a broken promise."""

    figures: dict[str, Figure] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.failures


@dataclass(frozen=True, slots=True)
class Part:
    name: str
    about: str
    run: Callable[[Settings], Awaitable[Outcome]]


def all_parts() -> dict[str, Part]:
    """Every part, by name, in the order of the names."""
    found = {}
    for module in pkgutil.iter_modules(parts.__path__):
        loaded = importlib.import_module(f"{parts.__name__}.{module.name}")
        name = getattr(loaded, "NAME", module.name)
        found[name] = Part(name, loaded.ABOUT, loaded.run)
    return dict(sorted(found.items()))
