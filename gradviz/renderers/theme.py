"""How meaning looks: the one place where a colour, a line style or a shape is chosen.

Colours are Okabe and Ito's palette, safe for the colour-blind, as borders with tints for fills
(https://jfly.uni-koeln.de/color/). No meaning is carried by colour alone: every kind also has
its own outline, and says its name. All text passes WCAG AA on its background, light and dark.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from gradviz.graph import Mark, NodeKind
from gradviz.renderers.labels import Role

__all__ = ["FONT", "LOOKS", "PALETTE", "TEXT", "Look", "TextLook", "Theme", "colour", "marked"]

Theme = Literal["auto", "light", "dark"]

FONT = "Helvetica,Arial,Liberation Sans,sans-serif"

PALETTE: dict[str, tuple[str, str]] = {
    "page": ("#ffffff", "#0d1117"),
    "ink": ("#1a1a1a", "#e6edf3"),
    "muted": ("#63676c", "#9aa4af"),
    "line": ("#70757b", "#8b949e"),
    "panel": ("#d8dadd", "#30363d"),
    "op": ("#f4f4f5", "#1b222c"),
    "op-edge": ("#9a9ea4", "#5d6773"),
    "leaf": ("#dcecf6", "#10314a"),
    "leaf-edge": ("#0072b2", "#56b4e9"),
    "result": ("#dcf1ea", "#0d3a2e"),
    "result-edge": ("#00865f", "#2fbf93"),
    "loud": ("#ac4400", "#ff9d66"),
    "loud-fill": ("#fdeadd", "#43230f"),
    "group": ("#f3ecf4", "#33223a"),
    "group-edge": ("#9a5f8b", "#cc79a7"),
    "level": ("#0072b2", "#56b4e9"),
    "value-0": ("#0072b2", "#56b4e9"),
    "value-1": ("#b36f00", "#e69f00"),
    "value-2": ("#00865f", "#2fbf93"),
    "value-3": ("#9a5f8b", "#cc79a7"),
    "value-4": ("#ac4400", "#ff9d66"),
    "value-5": ("#857a00", "#f0e442"),
    "value-6": ("#1a1a1a", "#e6edf3"),
}
"""Every colour by what it is for, in light and in dark."""


def colour(token: str, theme: Theme) -> str:
    """The colour of ``token``; ``auto`` is light, which the dark one then overrides.

    Example:
        >>> colour("page", "dark")
        '#0d1117'
    """
    return PALETTE[token][theme == "dark"]


@dataclass(frozen=True)
class Look:
    """The outline of a kind of node: colours by token, lengths in points."""

    head: str
    body: str
    edge: str
    radius: float
    line: float = 1.2
    dashed: bool = False


_LEAF = Look("leaf", "page", "leaf-edge", radius=0, line=1.5)

LOOKS: dict[NodeKind, Look] = {
    NodeKind.LEAF: _LEAF,
    NodeKind.PARAMETER: _LEAF,
    NodeKind.ACCUMULATE: Look("page", "page", "op-edge", radius=9),
    NodeKind.OPERATION: Look("op", "op", "op-edge", radius=9),
    NodeKind.RESULT: Look("result", "result", "result-edge", radius=15, line=1.8),
    NodeKind.UNTRACKED: Look("page", "page", "line", radius=0, dashed=True),
    NodeKind.SAVED: Look("page", "page", "op-edge", radius=0, dashed=True),
    NodeKind.GROUP: Look("group", "group", "group-edge", radius=3, line=1.5),
}


def marked(look: Look, mark: Mark | None) -> Look:
    """The outline of a node whose gradient is all zeros, or the first that is not finite."""
    if mark is Mark.ZERO:
        return replace(look, head="op", body="op", edge="op-edge", line=1.0)
    if mark is Mark.FIRST:
        return replace(look, edge="loud", line=3.5)
    return look


@dataclass(frozen=True)
class TextLook:
    """How a role of text is set: colour by token, size in points."""

    colour: str
    size: float
    bold: bool = False


TEXT: dict[Role, TextLook] = {
    Role.NAME: TextLook("ink", 13, bold=True),
    Role.WORD: TextLook("ink", 13),
    Role.VALUE: TextLook("ink", 12),
    Role.FACT: TextLook("muted", 11),
    Role.LOUD: TextLook("loud", 12, bold=True),
}
