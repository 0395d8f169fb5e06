"""Expressions and format strings over loop variables: what they give, and what they refuse."""

from __future__ import annotations

import pytest

from freepage_lab.conform.expression import ExpressionError, number, text


@pytest.mark.parametrize(
    ("source", "value"),
    [(5, 5), ("5", 5), ("i*4096", 12288), ("62914560+i*1048576-2097152", 63963136), ("-(i+j)//2 % 7", -5 // 2 % 7)],
)
def test_numbers(source: object, value: int) -> None:
    assert number(source)({"i": 3, "j": 2}) == value


@pytest.mark.parametrize(
    "source", ["i**2", "__import__('os')", "i.real", "f(i)", "1.5", "i if i else 0", "", "[1]", "1/2"]
)
def test_what_is_no_expression(source: str) -> None:
    with pytest.raises(ExpressionError):
        number(source)


@pytest.mark.parametrize("source", [None, True, 1.5, [1]])
def test_what_is_no_number(source: object) -> None:
    with pytest.raises(ExpressionError):
        number(source)


def test_unknown_variables_are_named() -> None:
    with pytest.raises(ExpressionError, match="'k'"):
        number("k+1")({"i": 1})
    with pytest.raises(ExpressionError, match="k"):
        text("f{k}")({"i": 1})


def test_texts() -> None:
    assert text("d{j}/f{i:05d}")({"i": 42, "j": 1}) == "d1/f00042"
    assert text("plain")({}) == "plain"
    assert text("{{x}}")({}) == "{x}"


@pytest.mark.parametrize("source", ["{i.real}", "{0}", "{}", "{", "{i[0]}", 3])
def test_what_is_no_text(source: object) -> None:
    with pytest.raises(ExpressionError):
        text(source)
