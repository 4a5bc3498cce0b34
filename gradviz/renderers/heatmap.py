"""Gradient norms as a picture and as text: a row for each parameter, a column for each step."""

from __future__ import annotations

from collections.abc import Iterator

from gradviz.graph.text import counted, number_text
from gradviz.renderers.cards import text_width
from gradviz.renderers.scene import Polygon, Rectangle, Scene, Shape, ShapeGroup, Text, Words
from gradviz.story import GradientNorms, NormState

_SIZE = 11.0  # of text, in points
_HEIGHT = 15.0  # of a row
_WIDTH = 900.0  # of all columns, if there are many
_WIDEST = 18.0  # column
_MARGIN = 14.0
_COLUMNS, _LETTERS = 180, 60  # columns in the picture, and in the text
_ROWS = 120
_TONES = 8
_MARKS = {NormState.NONE: "-", NormState.ZERO: "0", NormState.NOT_FINITE: "!", NormState.STALE: "="}


def heatmap(norms: GradientNorms, title: str = "") -> Scene:
    """The picture of gradient norms: one color scale, and marks for all that is no norm.

    Args:
        norms: the norms.
        title: of the picture.

    Example:
        >>> norms = GradientNorms(("w",), (1, 2), ((2.0, None),), ((False, False),), 2)
        >>> heatmap(norms).description
        'norms of 1 gradient at steps 1 to 2, from 2 to 2; also: no gradient'
    """
    norms = norms.narrowed(_COLUMNS)
    rows = range(min(len(norms.names), _ROWS))
    left = _MARGIN + max((text_width(norms.names[row], _SIZE) for row in rows), default=0) + 10
    step = min(_WIDEST, _WIDTH / max(len(norms.steps), 1))
    top = _MARGIN + (_HEIGHT + 8 if title else 0)
    groups = [ShapeGroup("title", "title", (_line(_MARGIN, _MARGIN + 10, title, bold=True),))]
    for row in rows:
        y = top + row * _HEIGHT
        shapes: list[Shape] = [_line(_MARGIN, y + 11, norms.names[row])]
        for column in range(len(norms.steps)):
            shapes += _cell(norms, row, column, (left + column * step, y, step, _HEIGHT))
        groups.append(ShapeGroup(f"row{row}", "row", tuple(shapes), norms.names[row]))
    bottom = top + len(rows) * _HEIGHT + 14
    legend = list(_legend(norms, left, bottom, len(norms.names) - len(rows)))
    groups.append(ShapeGroup("legend", "legend", tuple(legend)))
    texts = [shape for shape in legend if isinstance(shape, Text)]
    right = max(shape.x + sum(word.width for word in shape.words) for shape in texts)
    width = max(left + len(norms.steps) * step, right) + _MARGIN
    height = max(shape.y for shape in texts) + _MARGIN
    return Scene(width, height, groups[not title :], title or "gradient norms", _says(norms))


def _cell(
    norms: GradientNorms, row: int, column: int, box: tuple[float, float, float, float]
) -> Iterator[Shape]:
    x, y, width, height = box
    state, norm = norms.state(row, column), norms.norms[row][column]
    if state in (NormState.NORM, NormState.STALE) and norm is not None:
        tone = min(int(norms.level(norm) * _TONES), _TONES - 1)
        yield Rectangle(x, y, width, height, f"heat-{tone}", None, 0)
    yield from _mark(state, x, y, width, height)


def _mark(state: NormState, x: float, y: float, width: float, height: float) -> Iterator[Shape]:
    """What distinguishes a cell without its color: the outline, a bar or a corner."""
    if state is NormState.NOT_FINITE:
        yield Rectangle(x, y, width, height, "loud", None, 0)
        middle = x + width / 2
        points = ((x, y + 3), (x + width, y + 3), (middle, y + height - 3))
        yield Polygon(points, "page")
    elif state is NormState.ZERO:
        yield Rectangle(x, y, width, height, "zero-fill", None, 0)
        yield Rectangle(x, y + height / 2 - 1, width, 2, "zero", None, 0)
    elif state is NormState.STALE:
        yield Polygon(((x, y), (x + width, y), (x, y + height / 2)), "cut")
    elif state is NormState.NONE:
        yield Rectangle(x, y + height - 2, width, 1, "panel", None, 0)


def _legend(norms: GradientNorms, left: float, top: float, hidden: int) -> Iterator[Shape]:
    """Which steps, the color scale with its ends, each mark that occurs, and what is left out."""
    yield _line(left, top, _steps(norms, "column"))
    low, high = (number_text(end) for end in norms.ends)
    y = top + 10
    for tone in range(_TONES):
        yield Rectangle(left + tone * 14, y, 14, 11, f"heat-{tone}", None, 0)
    words = f"norm of the gradient, {low} to {high}, logarithmic"
    yield _line(left + _TONES * 14 + 8, y + 9.5, words)
    for state in _states(norms):
        y += _HEIGHT + 2
        yield from _mark(state, left, y, 14, 11)
        yield _line(left + 22, y + 9.5, state.value)
    if hidden > 0:
        yield _line(left, y + _HEIGHT + 12, f"{counted(hidden, 'more parameter')} not shown")


def _states(norms: GradientNorms) -> list[NormState]:
    found = {
        norms.state(row, column)
        for row in range(len(norms.names))
        for column in range(len(norms.steps))
    }
    return [state for state in _MARKS if state in found]


def _steps(norms: GradientNorms, unit: str) -> str:
    """The first and the last step, and how many share a column or character."""
    if not norms.steps:
        return "no step yet"
    first, each = norms.steps[0], norms.steps[1] - norms.steps[0] if norms.steps[1:] else 1
    text = f"steps {first:,} to {norms.last:,}"
    return f"{text}, {each:,} per {unit}" if each > 1 else text


def _line(x: float, y: float, text: str, bold: bool = False) -> Text:
    width = text_width(text, _SIZE, bold)
    return Text(x, y, (Words(text, "ink", _SIZE, bold, width),))


def _says(norms: GradientNorms) -> str:
    low, high = (number_text(end) for end in norms.ends)
    also = ", ".join(state.value for state in _states(norms))
    first = norms.steps[0] if norms.steps else 0
    text = f"norms of {counted(len(norms.names), 'gradient')} at steps {first:,} to {norms.last:,}"
    return f"{text}, from {low} to {high}{f'; also: {also}' if also else ''}"


def heatmap_text(norms: GradientNorms) -> str:
    """The norms as text: digits 1 to 9 on a logarithmic scale, and a mark for all else."""
    norms = norms.narrowed(_LETTERS)
    width = max(map(len, norms.names), default=0)
    lines = []
    for row, name in enumerate(norms.names):
        letters = []
        for column in range(len(norms.steps)):
            state, norm = norms.state(row, column), norms.norms[row][column]
            digit = "" if norm is None or state in _MARKS else str(1 + int(norms.level(norm) * 8))
            letters.append(_MARKS.get(state, digit))
        lines.append(f"{name:{width}}  {''.join(letters)}")
    low, high = (number_text(end) for end in norms.ends)
    scale = f"1 to 9: norms from {low} to {high}, logarithmic"
    marks = [f"{_MARKS[state]}: {state.value}" for state in _states(norms)]
    return "\n".join([*lines, "", _steps(norms, "character"), "; ".join([scale, *marks])])
