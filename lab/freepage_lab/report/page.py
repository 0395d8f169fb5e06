"""One HTML file: no script, nothing fetched, readable on a phone, in the dark and on paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from freepage_lab.digits import three_digits

Cell = str | int | float | None
"""A table's cell: numbers are set in digits of one width, to the right; None is a dash."""

UNBROKEN = 28
"""Characters of a cell that stay on one line."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A cell with a judgement: ``good`` or ``bad``."""

    value: Cell
    tone: str


@dataclass(slots=True)
class Section:
    """One document's part of the page. ``ok`` is its verdict, None where there is nothing to judge.

    ``blocks`` are pieces of HTML that follow one another; `table`, `figure` and `note` make them.
    """

    title: str
    source: str
    about: str = ""
    ok: bool | None = None
    verdict: str = ""
    tiles: list[tuple[str, Cell, str]] = field(default_factory=list)
    """(label, value, remark)"""
    blocks: list[str] = field(default_factory=list)


def number(value: Cell) -> str:
    """As people read it: thousands apart, three digits that matter."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return three_digits(value)
    return f"{value:,}" if isinstance(value, int) else value


def table(heads: Sequence[str], rows: Sequence[Sequence[Cell | Mark]]) -> str:
    """Columns of words stand to the left, columns of numbers to the right; only long words are broken."""
    words = [any(isinstance(_value(row[column]), str) for row in rows) for column in range(len(heads))]
    lines = ["<div class=scroll><table><thead><tr>"]
    lines += [
        f"<th{' class=text' if text else ''}>{escape(head)}</th>" for head, text in zip(heads, words, strict=True)
    ]
    lines.append("</tr></thead><tbody>")
    for row in rows:
        lines.append("<tr>" + "".join(map(_cell, row, words)) + "</tr>")
    lines.append("</tbody></table></div>")
    return "".join(lines)


def _value(cell: Cell | Mark) -> Cell:
    return cell.value if isinstance(cell, Mark) else cell


def _cell(cell: Cell | Mark, text: bool) -> str:
    shown = number(_value(cell))
    kinds = [cell.tone] if isinstance(cell, Mark) else []
    if text:
        kinds.append("text" if len(shown) <= UNBROKEN else "text long")
    kind = f' class="{" ".join(kinds)}"' if kinds else ""
    return f"<td{kind}>{escape(shown)}</td>"


def figure(svg: str, caption: str) -> str:
    return f"<figure><figcaption>{escape(caption)}</figcaption>{svg}</figure>"


def note(text: str) -> str:
    return f"<p class=note>{escape(text)}</p>"


def page(title: str, made: str, sections: Sequence[Section]) -> str:
    """The whole file. ``made`` says when and by what."""
    index = "".join(
        f'<li><a href="#s{i}">{escape(each.title)}</a> {_badge(each)}</li>' for i, each in enumerate(sections)
    )
    parts = [_HEAD.replace("TITLE", escape(title)), f"<header><h1>{escape(title)}</h1><p>{escape(made)}</p></header>"]
    if len(sections) > 1:
        parts.append(f"<nav><ul>{index}</ul></nav>")
    parts += [_section(f"s{i}", each) for i, each in enumerate(sections)]
    parts.append("</body></html>\n")
    return "\n".join(parts)


def _section(name: str, section: Section) -> str:
    tiles = "".join(
        f"<div class=tile><div class=label>{escape(label)}</div><div class=value>{escape(number(value))}</div>"
        f"<div class=remark>{escape(remark)}</div></div>"
        for label, value, remark in section.tiles
    )
    about = f"<p>{escape(section.about)}</p>" if section.about else ""
    return (
        f'<section id="{name}"><h2>{escape(section.title)} {_badge(section)}</h2>'
        f"<p class=source>{escape(section.source)}</p>{about}"
        + (f"<div class=tiles>{tiles}</div>" if tiles else "")
        + "\n".join(section.blocks)
        + "</section>"
    )


def _badge(section: Section) -> str:
    if section.ok is None:
        return ""
    tone, sign = ("good", "✓") if section.ok else ("bad", "✗")
    return f'<span class="badge {tone}">{sign} {escape(section.verdict)}</span>'


_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>TITLE</title>
<style>
:root { --page: #f9f9f7; --card: #fcfcfb; --ink: #0b0b0b; --soft: #52514e; --faint: #898781; --line: #e1e0d9;
  --good: #006300; --bad: #c42b2b; --s0: #2a78d6; --s1: #1baf7a; --s2: #eda100; --s3: #4a3aa7; --s4: #e34948;
  --s5: #e87ba4; --s6: #898781; }
@media (prefers-color-scheme: dark) { :root { --page: #0d0d0d; --card: #1a1a19; --ink: #fff; --soft: #c3c2b7;
  --faint: #898781; --line: #2c2c2a; --good: #0ca30c; --bad: #ff6b6b; --s0: #3987e5; --s1: #199e70; --s2: #c98500;
  --s3: #9085e9; --s4: #e66767; --s5: #d55181; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 24px 16px 48px; max-width: 1060px; background: var(--page); color: var(--ink);
  font: 14px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { font-size: 24px; margin: 0; } header p, .source, .note { color: var(--faint); margin: 2px 0 10px; }
h2 { font-size: 18px; margin: 0; } nav ul { margin: 8px 0 0; padding-left: 18px; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 18px 20px;
  margin-top: 18px; }
.badge { font-size: 13px; font-weight: 600; margin-left: 6px; }
.good { color: var(--good); } .bad { color: var(--bad); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); gap: 8px 18px; margin: 12px 0; }
.label, .remark { color: var(--soft); font-size: 12px; }
.value { font-size: 22px; font-weight: 600; line-height: 1.25; }
figure { margin: 18px 0 0; } figcaption { font-weight: 600; margin-bottom: 4px; }
figure svg { width: 100%; height: auto; display: block; }
.scroll { overflow-x: auto; margin-top: 14px; }
table { border-collapse: collapse; width: 100%; font-size: 13px; font-variant-numeric: tabular-nums; }
th { color: var(--faint); font-weight: 500; } th, td { text-align: right; padding: 3px 0 3px 16px; white-space: nowrap;
  border-bottom: 1px solid var(--line); vertical-align: top; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
.text { text-align: left; } .long { white-space: normal; overflow-wrap: anywhere; }
td.good, td.bad { font-weight: 600; } a { color: var(--s0); }
@media print { section { break-inside: avoid; border: 0; padding: 0; } }
</style></head><body>"""
