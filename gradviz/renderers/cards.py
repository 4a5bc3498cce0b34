"""A node as a card: the label set in lines, the outline that its kind has, the size they need."""

from __future__ import annotations

from dataclasses import dataclass

from gradviz.graph import NodeData
from gradviz.renderers.fonts import text_width
from gradviz.renderers.labels import Label, Line, Role, TextSpan
from gradviz.renderers.scene import Curve, Rectangle, Shape, Text, Words
from gradviz.renderers.shades import Bar
from gradviz.renderers.theme import LOOKS, TEXT, Look, marked

__all__ = ["Card", "card_of", "line_width", "set_line"]

_HEAD = 25.0
_ROW = 21.0
_SIDE = 11.0
_GAP = 6.0
_BAR = 4.0
_BAR_ROOM = 4.0
_BASELINE = 4.6
"""From the middle of a line down to its baseline, at the sizes that are used here."""


@dataclass(frozen=True, slots=True)
class Card:
    """A node ready to be placed."""

    label: Label
    look: Look
    width: float
    height: float
    bar: Bar | None = None

    def shapes(self, left: float, top: float) -> tuple[Shape, ...]:
        """The card with its top left corner at that place."""
        look, rows = self.look, self.label.rows
        box = Rectangle(left, top, self.width, self.height, look.body, None, 0, look.radius)
        shapes: list[Shape] = [box]
        if look.head != look.body:
            head = _HEAD if rows else self.height
            shapes.append(Rectangle(left, top, self.width, head, look.head))
        if look.radius:
            # Beside a fuller card of the same node what is round stays in the middle.
            room = self.height - (_BAR_ROOM if self.bar else 0)
            top += (room - _HEAD - _ROW * len(rows)) / 2
        shapes.append(self._text(self.label.head, left, top + _HEAD / 2))
        for number, row in enumerate(rows):
            y = top + _HEAD + number * _ROW
            if any(span.role is Role.LOUD for span in row):
                inset = look.radius / 2
                shapes.append(
                    Rectangle(left + inset, y, self.width - 2 * inset, _ROW - 1, "loud-fill")
                )
            shapes.append(self._text(row, left, y + _ROW / 2 - 1))
        if look.head != look.body and rows:
            y = top + _HEAD
            right = left + self.width
            third = self.width / 3
            line = ((left, y), (left + third, y), (right - third, y), (right, y))
            shapes.append(Curve(line, look.edge, 0.6))
        frame = box._replace(fill=None, edge=look.edge, line=look.line, dashed=look.dashed)
        return (*shapes, *self._bar(box), frame)

    def _bar(self, box: Rectangle) -> list[Shape]:
        """The bar on its track, along the bottom and clear of round corners."""
        if self.bar is None:
            return []
        inset = max(box.radius * 0.8, 3.0)
        left, width = box.x + inset, box.width - 2 * inset
        y = box.y + box.height - _BAR - 1.5
        track = Rectangle(left, y, width, _BAR, "panel")
        return [track, Rectangle(left, y, width * self.bar.share, _BAR, self.bar.token)]

    def _text(self, line: Line, left: float, middle: float) -> Text:
        """Tensors read like a table, from the left; what is round is set in the middle."""
        indent = (self.width - line_width(line)) / 2
        if self.label.rows and not self.look.radius:
            indent = _SIDE
        return set_line(line, left + indent, middle + _BASELINE)


def card_of(label: Label, data: NodeData, bar: Bar | None = None) -> Card:
    """The card of a node.

    Args:
        label: the text.
        data: what is known of the node: its kind decides the outline; that of a leaf that is
            drawn again is quieter.
        bar: how much it has of what `color_by` shows.

    Example:
        >>> from gradviz.graph import NodeKind
        >>> card = card_of(Label((TextSpan("mul", Role.WORD),)), {"kind": NodeKind.OPERATION})
        >>> card.height
        25.0
        >>> round(card.width)
        54
    """
    look = LOOKS[data["kind"]]
    if "clone_of" in data:
        look = Look("page", "page", look.edge, radius=0, line=0.8)
    look = marked(look, data.get("mark"))
    widest = max(line_width(line) for line in (label.head, *label.rows))
    height = _HEAD + _ROW * len(label.rows)
    width = max(widest + 2 * _SIDE, 54.0)
    if bar is not None:
        height += _BAR_ROOM
    return Card(label, look, width, height, bar)


def line_width(line: Line) -> float:
    """Width of a line of text, in points."""
    gaps = _GAP * max(len(line) - 1, 0)
    return sum(_words(span).width for span in line) + gaps


def set_line(line: Line, x: float, baseline: float) -> Text:
    """The line of text from ``x`` on."""
    return Text(x, baseline, tuple(_words(span) for span in line), _GAP)


def _words(span: TextSpan) -> Words:
    look = TEXT[span.role]
    width = text_width(span.text, look.size, look.bold)
    return Words(span.text, look.colour, look.size, look.bold, width)
