"""Plots as SVG that takes its colours from the page: drawn by matplotlib, from the extra ``report``."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from freepage_runtime.errors import UserError

WIDTH_IN = 10.0
GOOD, BAD, INK, FAINT, LINE = "#006300", "#c42b2b", "#0b0b0b", "#898781", "#e1e0d9"
SERIES = ("#2a78d6", "#1baf7a", "#eda100", "#4a3aa7", "#e34948", "#e87ba4", "#898782")
"""Each exactly once in the SVG's styles, and there a variable of the page's style sheet."""

_VARIABLES = {GOOD: "--good", BAD: "--bad", INK: "--ink", FAINT: "--faint", LINE: "--line"} | {
    color: f"--s{i}" for i, color in enumerate(SERIES)
}
_numbers = itertools.count()

Numbers = Sequence[float | None]


def check_library() -> None:
    """Raises UserError when matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UserError("plots need matplotlib: pip install 'freepage[report]'") from None


def lines(
    t: Sequence[float], series: Mapping[str, Numbers], *, unit: str, bands: Sequence[tuple[float, float, str]] = ()
) -> str:
    """Values over time in seconds. A band is (from, to, what happened then)."""
    figure, axes = _axes(2.6)
    for (name, values), color in zip(series.items(), SERIES, strict=False):
        axes.plot(t, [float("nan") if v is None else v for v in values], color=color, linewidth=1.8, label=name)
    top = max((v for values in series.values() for v in values if v is not None), default=0) or 1
    axes.set_ylim(0, top * 1.15)
    if t:
        axes.set_xlim(t[0], max(t[-1], t[0] + 1e-3))
    for i, (start, end, what) in enumerate(bands):
        if i % 2:
            axes.axvspan(start, end, color=LINE, alpha=0.5, linewidth=0)
        axes.text((start + end) / 2, top * 1.12, what, ha="center", va="top", color=FAINT, fontsize=9)
    axes.set_xlabel("seconds")
    axes.set_ylabel(unit)
    if len(series) > 1:
        _legend(axes)
    return _svg(figure)


def bars(values: Mapping[str, Mapping[str, float]], *, unit: str, colors: Mapping[str, str] | None = None) -> str:
    """Groups of bars that lie on one another: ``values[group][part]``."""
    figure, axes = _axes(0.9 + 0.28 * len(values))
    parts = list(dict.fromkeys(part for group in values.values() for part in group))
    names = list(values)
    left = [0.0] * len(names)
    for part, color in zip(parts, SERIES, strict=False):
        widths = [values[name].get(part, 0) for name in names]
        axes.barh(names, widths, left=left, color=(colors or {}).get(part, color), height=0.62, label=part)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel(unit)
    axes.grid(axis="y", visible=False)
    if len(parts) > 1:
        _legend(axes)
    return _svg(figure)


def ranges(rows: Mapping[str, Sequence[float]], marks: Sequence[str], *, unit: str) -> str:
    """For each row some values on a logarithmic scale, joined by a line: percentiles, say."""
    figure, axes = _axes(0.9 + 0.28 * len(rows))
    for y, values in enumerate(rows.values()):
        axes.plot(values, [y] * len(values), color=LINE, linewidth=3, zorder=1)
    for i, (mark, color) in enumerate(zip(marks, SERIES, strict=False)):
        axes.scatter([v[i] for v in rows.values()], range(len(rows)), color=color, s=26, zorder=2, label=mark)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.invert_yaxis()
    _logarithmic(axes)
    axes.set_xlabel(unit)
    axes.grid(axis="y", visible=False)
    _legend(axes)
    return _svg(figure)


def beside_one(rows: Mapping[str, float], *, unit: str) -> str:
    """Ratios on a logarithmic scale, each a bar from the line at 1: to the right is better."""
    figure, axes = _axes(0.9 + 0.28 * len(rows))
    names, values = list(rows), list(rows.values())
    axes.barh(
        names, [v - 1 for v in values], left=1, color=[GOOD if v >= 1 else BAD for v in values], height=0.62, alpha=0.75
    )
    axes.axvline(1, color=INK, linewidth=1)
    axes.invert_yaxis()
    _logarithmic(axes)
    axes.set_xlabel(unit)
    axes.grid(axis="y", visible=False)
    return _svg(figure)


def _axes(height_in: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
    axes = figure.add_subplot()
    axes.set_facecolor("none")
    axes.set_axisbelow(True)
    axes.grid(color=LINE, linewidth=0.8)
    axes.tick_params(colors=FAINT, labelcolor=INK, length=0, labelsize=9)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(FAINT)
    axes.xaxis.label.set(color=FAINT, size=9)
    axes.yaxis.label.set(color=FAINT, size=9)
    axes.ticklabel_format(useOffset=False)
    return figure, axes


def _logarithmic(axes: Any) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _legend(axes: Any) -> None:
    axes.legend(
        frameon=False, fontsize=9, labelcolor=INK, ncols=6, loc="lower left", bbox_to_anchor=(0, 1), borderpad=0
    )


def _svg(figure: Any) -> str:
    """Inline SVG: text stays text, names are unlike those of any other plot, colours are the page's."""
    import matplotlib as mpl

    out = io.StringIO()
    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": f"freepage-{next(_numbers)}",
        "font.family": "sans-serif",
    }
    with mpl.rc_context(settings):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub("|".join(_VARIABLES), lambda found: f"var({_VARIABLES[found[0]]})", svg)
    return re.sub(r"font: ([\d.]+px) [^;\"]*", r"font: \1 system-ui, sans-serif", svg)
