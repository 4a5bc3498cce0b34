"""Draws how the time per operation grows with the graph: a small SVG, written by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Point", "to_svg"]

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 640, 360, 64, 48, 52, 112
_BLUE, _ORANGE, _INK, _GRID, _LIMIT = "#0072B2", "#D55E00", "#1a1a1a", "#e4e7eb", "#5a6068"
_TITLE = "Trace and default views of a chain: CPU microseconds per operation"


class Point(NamedTuple):
    """What one length of a chain took.

    Args:
        length: operations.
        trace, views: microseconds of CPU per operation.
    """

    length: int
    trace: float
    views: float

    @property
    def total(self) -> float:
        """Both together."""
        return self.trace + self.views


class _Axes:
    """Where a point lies: lengths on a logarithmic scale, times on a plain one."""

    def __init__(self, points: Sequence[Point]) -> None:
        self.limit = 2 * points[0].total
        self.top = 1.1 * max(self.limit, *(point.total for point in points))
        self._low = math.log10(points[0].length)
        self._span = math.log10(points[-1].length) - self._low

    def x(self, length: float) -> float:
        share = (math.log10(length) - self._low) / self._span
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - value / self.top * (_HEIGHT - _BOTTOM - _TOP)


def to_svg(points: Sequence[Point]) -> str:
    """The points, with a line at twice the time per operation of the shortest chain."""
    axes = _Axes(points)
    right, limit = axes.x(points[-1].length), axes.y(axes.limit)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'font-family="Helvetica,Arial,sans-serif" font-size="12" fill="{_INK}">',
        '<rect width="100%" height="100%" fill="white"/>',
        _text(16, 24, _TITLE, "start", more=' font-size="15"'),
        *_grid(axes, right),
        *(_text(axes.x(p.length), _HEIGHT - _BOTTOM + 20, f"{p.length:,}") for p in points),
        _text((axes.x(points[0].length) + right) / 2, _HEIGHT - 8, "operations"),
        f'<path d="M{_LEFT} {limit:.1f}H{right:.1f}" stroke="{_LIMIT}" stroke-dasharray="5 4"/>',
        _text(right + 8, limit + 4, "twice the first", "start", _LIMIT),
        *_line(axes, [(p.length, p.total) for p in points], "trace + views", _BLUE),
        *_line(axes, [(p.length, p.trace) for p in points], "trace alone", _ORANGE),
    ]
    return "\n".join([*parts, "</svg>\n"])


def _text(
    x: float, y: float, words: str, anchor: str = "middle", fill: str = _INK, more: str = ""
) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {place} fill="{fill}"{more}>{words}</text>'


def _grid(axes: _Axes, right: float) -> list[str]:
    magnitude = 10 ** math.floor(math.log10(axes.top))
    step = magnitude if axes.top > 4 * magnitude else magnitude / 4
    parts = []
    for tick in range(int(axes.top / step) + 1):
        at = axes.y(tick * step)
        parts.append(f'<path d="M{_LEFT} {at:.1f}H{right:.1f}" stroke="{_GRID}"/>')
        parts.append(_text(_LEFT - 8, at + 4, f"{tick * step:g}", "end"))
    return parts


def _line(axes: _Axes, values: list[tuple[int, float]], name: str, colour: str) -> list[str]:
    spots = [(axes.x(length), axes.y(value)) for length, value in values]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
    return [
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>',
        *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in spots),
        _text(spots[-1][0] + 8, spots[-1][1] + 4, name, "start", colour),
    ]
