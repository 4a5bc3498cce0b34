"""A node as a card: its text, its outline, its size; the width of text; and the tooltips."""

from __future__ import annotations

import functools
import shlex
import unicodedata
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from gradviz.graph import EdgeData, EdgeKind, NodeData, NodeKind, TensorSummary
from gradviz.graph.text import (
    bytes_text,
    clean,
    counted,
    number_text,
    shape_text,
    shared_by,
    summary_text,
)
from gradviz.renderers.labels import Label, Line, Role, TextSpan, cause_text
from gradviz.renderers.scene import Curve, Rectangle, Shape, Text, Words
from gradviz.renderers.theme import FILLS, TEXT, Bar, Look, base_look, look_of
from gradviz.wording import problem_text, spread_text

_HEAD = 25.0
_ROW = 21.0
_SIDE = 11.0
_GAP = 6.0
_BAR = 4.0
_HEADING = 40.0  # points: a narrower start of a line is a heading: "=", ".grad"
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
    look = look_of(data, base_look(data))
    widest = max(line_width(line) for line in (label.head, *label.rows))
    height = _HEAD + _ROW * len(label.rows)
    width = max(widest + 2 * _SIDE, 54.0)
    if bar is not None:
        height += _BAR_ROOM
    return Card(label, look, width, height, bar)


def label_within(label: Label, widest: float) -> Label:
    """The same label with lines wrapped, as far as possible, so that its card is so narrow.

    Example:
        >>> from gradviz.renderers.labels import Role
        >>> spans = [TextSpan(word, Role.FACT) for word in ("decoder.block.0", "T5Block", "59 ops")]
        >>> label = label_within(Label(tuple(spans)), 150)
        >>> [span.text for span in label.head], [span.text for span in label.rows[0]]
        (['decoder.block.0', 'T5Block'], ['59 ops'])
    """
    room = widest - 2 * _SIDE
    head, *rows = (part for line in (label.head, *label.rows) for part in _broken(line, room))
    return Label(head, tuple(rows))


def _broken(line: Line, room: float) -> list[Line]:
    """A line in parts that fit, if each word does; a heading stays with the words after it."""
    lines: list[list[TextSpan]] = [[]]
    for span in line:
        is_heading = line_width(tuple(lines[-1])) < _HEADING
        if line_width((*lines[-1], span)) > room and not is_heading:
            lines.append([])
        text = ""
        for word in _words_of(span, room):
            longer = f"{text} {word}" if text else word
            if text and line_width((*lines[-1], TextSpan(longer, span.role))) > room:
                lines[-1].append(TextSpan(text, span.role))
                lines.append([])
                longer = word
            text = longer
        lines[-1].append(TextSpan(text, span.role))
    return [tuple(each) for each in lines]


def _words_of(span: TextSpan, room: float) -> list[str]:
    """The parts of a text: those of a list, or single words if one of them is too long."""
    words = span.text.split(" ")
    parts = words[:1]
    for before, word in pairwise(words):
        if before.endswith(",") or word in ("=", "→"):
            parts.append(word)
        else:
            parts[-1] += f" {word}"
    is_long = any(line_width((TextSpan(part, span.role),)) > room - _HEADING for part in parts)
    if is_long and words[-1] == "values":  # not "8" and, on the next line, "values"
        return [*words[:-3], " ".join(words[-3:])]
    return words if is_long else parts


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


def edge_tooltip(data: EdgeData) -> str:
    """One line about an edge: input number, folded operations, cause of a cut.

    Example:
        >>> edge_tooltip({"kind": EdgeKind.GRADIENT, "input": 1, "through": ("t",)})
        'input 1, by way of t'
        >>> edge_tooltip({"kind": EdgeKind.CUT, "input": 0})
        'input 0: no gradient flows back (cause not recorded)'
    """
    times: int = data.get("times", 1)
    first = data.get("input", 0)
    text = f"{times:,} inputs, from input {first} on" if times > 1 else f"input {first}"
    if data.get("output"):
        text += f" from output {data['output']}"
    if data.get("through"):
        text += f", by way of {' → '.join(data['through'])}"
    if data.get("kind") is EdgeKind.CUT:
        text += f": no gradient flows back ({cause_text(data)})"
    if "norm" in data:
        text += f"; norm of the gradient along it: {number_text(data['norm'])}"
    return text


def tooltip_of(key: str, data: NodeData) -> str:
    """The tooltip of a node: everything that is known about it, one fact per line.

    Example:
        >>> print(tooltip_of("n3", {"kind": NodeKind.OPERATION, "op": "mul",
        ...                         "grad_fn": "MulBackward0", "saved_bytes": 16}))
        mul (MulBackward0)
        keeps 16 B for backward
        n3
    """
    name = ", ".join(filter(None, (data.get("name", ""), *data.get("aliases", ()))))
    first = data.get("op", name or data["kind"].value)
    if "repeat" in data:
        first += f" ×{data['repeat']:,}"
    lines = [f"{first} ({data['grad_fn']})" if "grad_fn" in data else first]
    if name and "op" in data and first != name:
        lines.append(f"makes {name}")
    if "shape" in data:
        device = data.get("device", "cpu")
        lines.append(f"{shape_text(data['shape'], data.get('dtype', ''))}, {device}")
    for attribute, sentence in _SENTENCES.items():
        if attribute in data:
            lines.append(sentence(data[attribute]))  # type: ignore[literal-required]
    if data.get("inferred"):
        lines.append("module inferred from names and order, not recorded")
    if inside := _focus_argument(data):
        lines.append(f"to see its inside: focus_on({inside!r}), --focus {shlex.quote(inside)}")
    return "\n".join(map(clean, [*filter(None, lines), key]))


def _focus_argument(data: NodeData) -> str:
    """The argument with which `focus_on` opens a group: its (first) module, or a key."""
    if data["kind"] is not NodeKind.GROUP:
        return ""
    module = data.get("module", "")
    if "repeat" in data and module:
        # The contents of repeated layers are those of the first one.
        inside = [path for path in data.get("contents", ()) if path.startswith(f"{module}.")]
        return ".".join(shared_by([tuple(path.split(".")) for path in inside])) or module
    return module or data.get("first", "")


def _summary_sentence(what: str) -> Any:
    def sentence(summary: TensorSummary | None) -> str:
        return f"{what}: {summary_text(summary) or 'not read' if summary else 'None'}"

    return sentence


_SENTENCES: dict[str, Any] = {
    "value": _summary_sentence("value"),
    "grad": _summary_sentence(".grad"),
    "accumulations": lambda count: f"gradient added {counted(count, 'time')}",
    "members": lambda count: f"{counted(count, 'operation')}, folded",
    "parameters": lambda count: f"{count:,} parameter elements",
    "frozen": lambda count: f"{count:,} elements of frozen parameters",
    "unreached": lambda count: f"{count:,} elements of parameters that are not in the graph",
    "leaf_elements": lambda count: f"{counted(count, 'element')} of other leaves",
    "contents": lambda inside: f"in it: {', '.join(inside)}",
    "options": lambda options: ", ".join(f"{name}={value}" for name, value in options.items()),
    "outputs": lambda count: counted(count, "output"),
    "untracked_inputs": lambda count: (
        f"{counted(count, 'constant input')}: a number, an absent argument, or a tensor that is "
        "detached, frozen or made under no_grad (not recorded which)"
    ),
    "buffers": lambda buffers: f"saved tensors: {buffers.value}",
    "saved_bytes": lambda count: f"keeps {bytes_text(count)} for backward",
    "version": lambda count: f"version {count}: changed in place {counted(count, 'time')}",
    "hooks": lambda count: counted(count, "hook"),
    "opaque": lambda what: f"its inside cannot be seen: {what}",
    "runs_with": lambda names: f"runs a module in backward, with {', '.join(names)}",
    "module": lambda path: f"in module {path}" if path else "",
    "source": lambda line: f"made at {line}",
    "sequence_nr": lambda number: f"sequence number {number}",
    "changes": lambda changes: ", ".join(f"{name} {text}" for name, text in changes.items()),
    "ranks": spread_text,
    "problem": problem_text,
    "verdict": str,
    "clone_of": lambda key: f"the same tensor as {key}, drawn again to keep the picture clear",
}
