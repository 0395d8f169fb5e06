"""The example in the package's docstring runs and says what it prints."""

from __future__ import annotations

import doctest

import freepage


def test_the_toy_file_system_of_the_docstring() -> None:
    result = doctest.testmod(freepage, verbose=False)
    assert result.attempted > 15 and result.failed == 0
