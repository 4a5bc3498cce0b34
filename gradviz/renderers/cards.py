"""A node as a card: its lines of text, its outline, its size; and the width of text."""

from __future__ import annotations

import functools
import unicodedata
from dataclasses import dataclass

from gradviz.graph import NodeData
from gradviz.renderers.labels import Label, Line, Role, TextSpan, clean
from gradviz.renderers.scene import Curve, Rectangle, Shape, Text, Words
from gradviz.renderers.theme import FILLS, LOOKS, TEXT, Bar, Look, look_of

__all__ = ["Card", "card_of", "line_width", "set_line", "text_width", "wrapped"]

_HEAD = 25.0
_ROW = 21.0
_SIDE = 11.0
_GAP = 6.0
_BAR = 4.0
_EVEN = 24  # numbers of lines that are tried
_BAR_ROOM = 4.0
_BASELINE = 4.6
"""The distance from the middle of a line to its baseline, at the sizes used here."""


@dataclass(frozen=True, slots=True)
class Card:
    """The card of a node before the layout."""

    label: Label
    look: Look
    width: float
    height: float
    bar: Bar | None = None

    def shapes(self, left: float, top: float) -> tuple[Shape, ...]:
        """The shapes of the card with its top left corner at that position."""
        look, rows = self.look, self.label.rows
        box = Rectangle(left, top, self.width, self.height, look.body, None, 0, look.radius)
        shapes: list[Shape] = [box]
        if look.head != look.body:
            head = _HEAD if rows else self.height
            shapes.append(Rectangle(left, top, self.width, head, look.head))
        if look.radius:
            # The card can be higher than its text, because it has the same height in all frames.
            room = self.height - (_BAR_ROOM if self.bar else 0)
            top += (room - _HEAD - _ROW * len(rows)) / 2
        shapes.append(self._text(self.label.head, left, top + _HEAD / 2))
        for number, row in enumerate(rows):
            y = top + _HEAD + number * _ROW
            roles = {span.role for span in row}
            if fill := next((FILLS[role] for role in FILLS if role in roles), ""):
                inset = look.radius / 2
                shapes.append(Rectangle(left + inset, y, self.width - 2 * inset, _ROW - 1, fill))
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
        """The bar and its background, along the bottom, between the round corners."""
        if self.bar is None:
            return []
        inset = max(box.radius * 0.8, 3.0)
        left, width = box.x + inset, box.width - 2 * inset
        y = box.y + box.height - _BAR - 1.5
        track = Rectangle(left, y, width, _BAR, "panel")
        return [track, Rectangle(left, y, width * self.bar.share, _BAR, self.bar.token)]

    def _text(self, line: Line, left: float, middle: float) -> Text:
        """Tensors with rows are left-aligned, other cards are centered."""
        indent = (self.width - line_width(line)) / 2
        if self.label.rows and not self.look.radius:
            indent = _SIDE
        return set_line(line, left + indent, middle + _BASELINE)


def card_of(label: Label, data: NodeData, bar: Bar | None = None) -> Card:
    """The card of a node.

    Args:
        label: the text.
        data: the attributes of the node: its kind determines the outline; copies of a leaf have
            a lighter one.
        bar: the level that `color_by` shows.

    Example:
        >>> from gradviz.graph import NodeKind
        >>> from gradviz.renderers.labels import Role
        >>> card = card_of(Label((TextSpan("mul", Role.WORD),)), {"kind": NodeKind.OPERATION})
        >>> card.height
        25.0
        >>> round(card.width)
        54
    """
    look = LOOKS[data["kind"]]
    if "clone_of" in data:
        look = Look("page", "page", look.edge, radius=0, line=0.8)
    look = look_of(data, look)
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


def wrapped(text: str, width: float) -> list[Line]:
    """Break a sentence into lines of similar length, at most ``width`` wide."""
    words = [part for word in clean(text).split() for part in _parts(word, width)]
    lines = _filled(words, width)
    for parts in range(1, _EVEN):  # the narrowest width with the same number of lines
        narrower = _filled(words, width * (1 - parts / _EVEN))
        if len(narrower) > len(lines):
            break
        lines = narrower
    return [(TextSpan(line, Role.FACT),) for line in lines]


def _parts(word: str, width: float) -> list[str]:
    """Break a word, such as a very long name, into parts that are at most ``width`` wide."""
    parts = [""]
    for character in word:
        longer = parts[-1] + character
        if parts[-1] and line_width((TextSpan(longer, Role.FACT),)) > width:
            parts.append(character)
        else:
            parts[-1] = longer
    return parts


def _filled(words: list[str], width: float) -> list[str]:
    """Fill lines with as many words as fit."""
    lines: list[str] = []
    for word in words:
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and line_width((TextSpan(longer, Role.FACT),)) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def set_line(line: Line, x: float, baseline: float) -> Text:
    """Place a line of text starting at ``x``."""
    return Text(x, baseline, tuple(_words(span) for span in line), _GAP)


def _words(span: TextSpan) -> Words:
    look = TEXT[span.role]
    width = text_width(span.text, look.size, look.bold)
    return Words(span.text, look.color, look.size, look.bold, width)


# Advance widths in 1/1000 of the font size, for U+0020 to U+007E and U+00A0 to U+00FF, from Adobe's
# font metrics for Helvetica and Helvetica-Bold. Arial and Liberation Sans have the same metrics, so
# text takes the same space in each of them.
_REGULAR = """
278 278 355 556 556 889 667 191 333 333 389 584 278 333 278 278 556 556 556 556 556 556 556 556
556 556 278 278 584 584 584 556 1015 667 667 722 722 667 611 778 722 278 500 667 556 833 722 778
667 778 722 667 611 722 667 944 667 667 611 278 278 278 469 556 333 556 556 500 556 556 278 556
556 222 222 500 222 833 556 556 556 556 333 500 278 556 500 722 500 500 500 334 260 334 584
278 333 556 556 556 556 260 556 333 737 370 556 584 333 737 552 400 549 333 333 333 576 537 278
333 333 365 556 834 834 834 611 667 667 667 667 667 667 1000 722 667 667 667 667 278 278 278 278
722 722 778 778 778 778 778 584 778 722 722 722 722 667 667 611 556 556 556 556 556 556 889 500
556 556 556 556 278 278 278 278 556 556 556 556 556 556 556 549 611 556 556 556 556 500 556 500
"""
_BOLD = """
278 333 474 556 556 889 722 238 333 333 389 584 278 333 278 278 556 556 556 556 556 556 556 556
556 556 333 333 584 584 584 611 975 722 722 722 722 667 611 778 722 278 556 722 611 833 722 778
667 778 722 667 611 722 667 944 667 667 611 333 278 333 584 556 333 556 611 556 611 556 333 611
611 278 278 556 278 889 611 611 611 611 389 556 333 611 556 778 556 556 500 389 280 389 584
278 333 556 556 556 556 280 556 333 737 370 556 584 333 737 552 400 549 333 333 333 576 556 278
333 333 365 556 834 834 834 611 722 722 722 722 722 722 1000 722 667 667 667 667 278 278 278 278
722 722 778 778 778 778 778 584 778 722 722 722 722 667 667 611 556 556 556 556 556 556 889 556
556 556 556 556 278 278 278 278 611 611 611 611 611 611 611 549 611 611 611 611 611 556 611 556
"""
# The widths in the same metrics of further characters that labels use.
_SIGNS = {"→": 1000, "←": 1000, "↑": 500, "↓": 500, "…": 1000, "—": 1000, "–": 556, "−": 584}
_ELSEWHERE = 600


@functools.lru_cache(maxsize=4096)
def text_width(text: str, size: float, bold: bool = False) -> float:
    """Measure one line of text.

    Args:
        text: the line.
        size: font size in points.
        bold: whether it is bold.

    Returns:
        Its width in points. Characters that are not in Helvetica count 0.6 of the size, East Asian
        wide ones and emoji 1.0, combining and invisible ones 0.

    Example:
        >>> round(text_width("MulBackward0", 10), 2)
        65.57
    """
    table = _table(bold)
    units = 0
    for character in text:
        width = table.get(character)
        units += _other(character) if width is None else width
    return units * size / 1000


@functools.cache
def _table(bold: bool) -> dict[str, int]:
    characters = [chr(code) for code in (*range(0x20, 0x7F), *range(0xA0, 0x100))]
    widths = map(int, (_BOLD if bold else _REGULAR).split())
    return {**dict(zip(characters, widths, strict=True)), **_SIGNS}


@functools.cache
def _other(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf", "Cc"):
        return 0
    return 1000 if unicodedata.east_asian_width(character) in "WF" else _ELSEWHERE
