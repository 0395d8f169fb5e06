"""What the plain types of arguments, results and headers are: dataclasses that nobody changes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def message(cls: type[T]) -> type[T]:
    """A frozen dataclass with slots, frozen by the type checker alone.

    At run time freezing makes an object of five fields four times as dear (CPython 3.11: 0.9 us instead of 0.2), and a
    READ is three of them on either side.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)
