"""Curves over time as inline SVG, for the report. Works on numbers; knows no measure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 400, 150
LEFT, RIGHT, TOP, BOTTOM = 44, 6, 12, 22


def line_chart(
    curves: Mapping[str, Sequence[float]], marks: Sequence[int] = (), unit: str = "", label: str = "", first: int = 0
) -> str:
    """An SVG of several curves over the same frames; each gets the CSS class `curve NAME`. nan leaves a gap.

    first: the number of the first frame; marks: numbers of frames that are marked by an upright line.
    """
    known = [value for curve in curves.values() for value in curve if math.isfinite(value)]
    count = max((len(curve) for curve in curves.values()), default=0)
    if not known or count < 2:
        return ""
    low, high, ticks = _scale(min(known), max(known))

    def x(index: float) -> float:
        return LEFT + index / (count - 1) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">']
    for tick in ticks:
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(
            f'<text class="tick" x="{LEFT - 6}" y="{y(tick) + 3.5:.1f}" text-anchor="end">{_number(tick)}</text>'
        )
    last = count - 1
    for index in sorted({0, last // 2, last}):
        anchor = "start" if index == 0 else "end" if index == last else "middle"
        parts.append(
            f'<text class="tick" x="{x(index):.1f}" y="{HEIGHT - 6}" text-anchor="{anchor}">{first + index}</text>'
        )
    for mark in marks:
        at = f"{x(mark - first):.1f}"
        line = f'<line class="mark" x1="{at}" x2="{at}" y1="{TOP}" y2="{HEIGHT - BOTTOM}">'
        parts.append(f"{line}<title>frame {mark}</title></line>")
    for name, curve in curves.items():
        path, pen_down = [], False
        for index, value in enumerate(curve):
            if math.isfinite(value):
                path.append(f"{'L' if pen_down else 'M'}{x(index):.1f} {y(value):.1f}")
            pen_down = math.isfinite(value)
        parts.append(f'<path class="curve {escape(name)}" d="{"".join(path)}"/>')
    if unit:
        parts.append(f'<text class="tick" x="{LEFT}" y="{TOP - 1}" text-anchor="start">{escape(unit)}</text>')
    parts.append("</svg>")
    return "".join(parts)


def _scale(low: float, high: float) -> tuple[float, float, list[float]]:
    """Lower end, upper end and ticks at round numbers around a range."""
    spread = max(high - low, 1e-4, abs(high) * 1e-3)
    step = 10 ** math.floor(math.log10(spread / 2))
    for factor in (1, 2, 5, 10):
        if spread / (step * factor) <= 3.2:
            step *= factor
            break
    first, end = math.floor(low / step), math.ceil(high / step)
    end = max(end, first + 1)
    return first * step, end * step, [tick * step for tick in range(first, end + 1)]


def _number(value: float) -> str:
    return f"{value:.4f}".rstrip("0").rstrip(".") or "0"
