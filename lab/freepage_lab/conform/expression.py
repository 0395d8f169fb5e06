"""Numbers and strings that depend on loop variables: ``"i*4096"`` and ``"d{j}/f{i:05d}"``.

Each is compiled once, when the workload is read, so that a mistake is found before anything runs.
"""

from __future__ import annotations

import ast
import string
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

Variables: TypeAlias = Mapping[str, Any]
"""The loop variables in force: integers, or whatever the list of a ``for … in`` holds."""

Number: TypeAlias = Callable[[Variables], int]
Text: TypeAlias = Callable[[Variables], str]

_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Mod)


class ExpressionError(ValueError):
    """Not an expression of this language, or one that uses a variable no loop sets."""


def number(source: object) -> Number:
    """An integer, or an integer expression over loop variables with ``+ - * // % ( )``. Raises ExpressionError."""
    if isinstance(source, bool) or not isinstance(source, int | str):
        raise ExpressionError(f"{source!r} is not a number")
    if isinstance(source, int):
        constant = source
        return lambda variables: constant
    try:
        tree = ast.parse(source.strip(), mode="eval")
    except SyntaxError as error:
        raise ExpressionError(f"{source!r} is not an expression: {error.msg}") from None
    _check(tree.body, source)
    code = compile(tree, "<expression>", "eval")

    def evaluate(variables: Variables) -> int:
        try:
            value = eval(code, {"__builtins__": {}}, dict(variables))
        except (NameError, TypeError, ZeroDivisionError) as error:
            raise ExpressionError(f"{source!r}: {error}") from None
        if isinstance(value, bool) or not isinstance(value, int):
            raise ExpressionError(f"{source!r} gives {value!r}, which is not an integer")
        return value

    return evaluate


def _check(node: ast.expr, source: str) -> None:
    match node:
        case ast.Constant(value=int()) if not isinstance(node.value, bool):
            return
        case ast.Name():
            return
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            _check(operand, source)
        case ast.BinOp(op=op, left=left, right=right) if isinstance(op, _OPERATORS):
            _check(left, source)
            _check(right, source)
        case _:
            raise ExpressionError(f"{source!r} is not an integer expression over loop variables: + - * // % ( )")


def text(source: object) -> Text:
    """A format string over loop variables; only plain names may stand in braces. Raises ExpressionError."""
    if not isinstance(source, str):
        raise ExpressionError(f"{source!r} is not a string")
    try:
        fields = [name for _, name, _, _ in string.Formatter().parse(source) if name is not None]
    except ValueError as error:
        raise ExpressionError(f"{source!r}: {error}") from None
    for name in fields:
        if not name.isidentifier():
            raise ExpressionError(f"{source!r}: {{{name}}} is not a loop variable")
    if not fields:
        constant = source.format()
        return lambda variables: constant

    def evaluate(variables: Variables) -> str:
        try:
            return source.format_map(variables)
        except KeyError as error:
            raise ExpressionError(f"{source!r}: name {error} is not defined") from None
        except ValueError as error:
            raise ExpressionError(f"{source!r}: {error}") from None

    return evaluate
