"""The look of each meaning: every color, line style, outline and scale is defined here.

The colors are Okabe and Ito's palette, which color-blind readers can distinguish, as borders, with
tints as fills (https://jfly.uni-koeln.de/color/). No meaning depends on color alone: every kind
also has its own outline and name. All text passes WCAG AA on its background, light and dark.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from gradviz.graph import EdgeData, GradGraph, Mark, NodeData, NodeKind, is_box_of_leaves
from gradviz.graph.text import bytes_text, dtype_text, number_text
from gradviz.renderers.labels import Role

Theme = Literal["auto", "light", "dark"]

FONT = "Helvetica,Arial,Liberation Sans,DejaVu Sans Condensed,sans-serif"

PALETTE: dict[str, tuple[str, str]] = {
    "page": ("#ffffff", "#0d1117"),
    "ink": ("#1a1a1a", "#e6edf3"),
    "muted": ("#63676c", "#9aa4af"),
    "line": ("#70757b", "#8b949e"),
    "panel": ("#d8dadd", "#30363d"),
    "module": ("#b9a3b4", "#6b5566"),
    "op": ("#f4f4f5", "#1b222c"),
    "op-edge": ("#9a9ea4", "#5d6773"),
    "leaf": ("#dcecf6", "#10314a"),
    "leaf-edge": ("#0072b2", "#56b4e9"),
    "result": ("#dcf1ea", "#0d3a2e"),
    "result-edge": ("#00865f", "#2fbf93"),
    "loud": ("#8f0046", "#ff6f9f"),
    "loud-fill": ("#fbe3ee", "#3f1229"),
    "cut": ("#ac4400", "#ff9d66"),
    "news": ("#0b57c2", "#79b8ff"),
    "news-fill": ("#e4eefb", "#122c4d"),
    "zero": ("#4f5b63", "#b9c4cc"),
    "zero-fill": ("#e9ecee", "#262d34"),
    "removed": ("#2b1a6b", "#d9c2ff"),
    "group": ("#f3ecf4", "#33223a"),
    "group-edge": ("#9a5f8b", "#cc79a7"),
    "level": ("#0072b2", "#56b4e9"),
    "heat-0": ("#e3eef6", "#12283a"),
    "heat-1": ("#c3dcee", "#163a55"),
    "heat-2": ("#97c3e0", "#1b4f74"),
    "heat-3": ("#62a5ce", "#226795"),
    "heat-4": ("#3187bb", "#2f84bb"),
    "heat-5": ("#11699b", "#56a3d6"),
    "heat-6": ("#084c76", "#8ec4e8"),
    "heat-7": ("#032f4d", "#d0e8f7"),
    "value-0": ("#0072b2", "#56b4e9"),
    "value-1": ("#b36f00", "#e69f00"),
    "value-2": ("#00865f", "#2fbf93"),
    "value-3": ("#9a5f8b", "#cc79a7"),
    "value-4": ("#ac4400", "#ff9d66"),
    "value-5": ("#857a00", "#f0e442"),
    "value-6": ("#1a1a1a", "#e6edf3"),
}
"""Every color by its use, light and dark."""


OWN = "own-"
"""Prefix of the tokens of colors that a caller has chosen: ``own-cc0000``, ``own-cc0000-fill``."""

_TINT = (0.16, 0.3)  # how much of a chosen color its fill has, in light and in dark
_LIFTED = 0.25  # how much white a chosen color has in dark


def color(token: str, theme: Theme) -> str:
    """The color of ``token``; ``auto`` is light, which the dark color then overrides.

    Example:
        >>> color("page", "dark"), color("own-0072b2-fill", "light")
        ('#0d1117', '#d6e8f3')
    """
    if token.startswith(OWN):
        return _own_color(token.removeprefix(OWN), theme == "dark")
    return PALETTE[token][theme == "dark"]


def _own_color(token: str, is_dark: bool) -> str:
    code = token.removesuffix("-fill")
    if code == token and not is_dark:
        return f"#{code}"
    share = _TINT[is_dark] if code != token else 1 - _LIFTED
    ground = PALETTE["page"][is_dark] if code != token else "#ffffff"
    mixed = (
        round(share * int(code[at : at + 2], 16) + (1 - share) * int(ground[at + 1 : at + 3], 16))
        for at in (0, 2, 4)
    )
    return "#" + "".join(f"{value:02x}" for value in mixed)


@dataclass(frozen=True)
class Look:
    """The outline of a kind of node: colors by token, lengths in points."""

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

LEAF_BOX = replace(_LEAF, body=_LEAF.head, radius=6, line=2.5)
"""The outline of a box of leaves: that of a leaf, with a wide border."""


def _of_kind(data: NodeData) -> Look:
    return LEAF_BOX if is_box_of_leaves(data) else LOOKS[data["kind"]]


def base_look(data: NodeData) -> Look:
    """The outline of the kind of a node; a leaf that is drawn again has a lighter one."""
    if "clone_of" not in data:
        return _of_kind(data)
    is_leaf = data["kind"] is not NodeKind.UNTRACKED  # also of a box of leaves
    look = LOOKS[NodeKind.LEAF if is_leaf else NodeKind.UNTRACKED]
    return Look("page", "page", look.edge, radius=0, line=0.8)


def look_of(data: NodeData, look: Look | None = None) -> Look:
    """The outline of a node: that of its kind, changed by its color, highlight and mark.

    Args:
        data: the attributes of the node.
        look: the outline to change; None for that of its kind.

    Example:
        >>> look_of({"kind": NodeKind.OPERATION, "color": "#cc0000"}).edge
        'own-cc0000'
    """
    look = look or _of_kind(data)
    if "color" in data:
        token = f"{OWN}{data['color'][1:]}"
        body = look.body if look.body != look.head else f"{token}-fill"
        look = replace(look, head=f"{token}-fill", body=body, edge=token, line=max(look.line, 1.8))
    if data.get("highlight"):
        look = replace(look, line=_HIGHLIGHT, edge=look.edge if "color" in data else "ink")
    return marked(look, data.get("mark"))


def marked(look: Look, mark: Mark | None) -> Look:
    """The outline of a node whose gradient is all zeros, or the first that is not finite."""
    if mark is Mark.ZERO:
        return replace(look, head="op", body="op", edge="op-edge", line=1.0)
    if mark is Mark.FIRST:
        return replace(look, edge="loud", line=3.5)
    return look


@dataclass(frozen=True)
class TextLook:
    """The style of a text role: color by token, size in points."""

    color: str
    size: float
    bold: bool = False


TEXT: dict[Role, TextLook] = {
    Role.NAME: TextLook("ink", 13, bold=True),
    Role.WORD: TextLook("ink", 13),
    Role.VALUE: TextLook("ink", 12),
    Role.FACT: TextLook("muted", 11),
    Role.LOUD: TextLook("loud", 12, bold=True),
    Role.CUT: TextLook("cut", 12, bold=True),
    Role.NEWS: TextLook("news", 12, bold=True),
    Role.ZERO: TextLook("zero", 12, bold=True),
    Role.REMOVED: TextLook("removed", 12, bold=True),
}

FILLS = {Role.LOUD: "loud-fill", Role.NEWS: "news-fill", Role.ZERO: "zero-fill"}
"""The fill behind a row with text of that role; of several roles, the first counts."""

COLUMN = 8
"""Width, in characters, of the column before each line of text."""

VALUE = "value-"
"""Prefix of the color tokens that stand for a value (device, dtype), not an amount."""

NO_BAR = "no bar: no gradient recorded"
WIDTH = "wide line: norm of the gradient along it; thin: not recorded"

_SHORTEST = 0.06
"""The width of the shortest bar, as a fraction of the track."""
_THIN, _THICK = 1.3, 5.5
_HIGHLIGHT = 3.2
_COLORS = 7
_BLOCKS = " ▏▎▍▌▋▊▉█"
_WHAT = {"grad_norm": "norm of .grad", "saved_bytes": "kept for backward"}
_NOTHING = {
    "grad_norm": "no gradient is recorded here",
    "saved_bytes": "nothing is kept for backward here",
}


@dataclass(frozen=True)
class Bar:
    """A bar along the bottom of a node: its fraction of the width, and its color token."""

    share: float
    token: str


def bar_of(graph: GradGraph, data: NodeData) -> Bar | None:
    """The bar of a node; None if the level is unknown, or the picture has no scale.

    Example:
        >>> graph = GradGraph(scale={"by": "saved_bytes", "low": 0, "high": 40})
        >>> bar_of(graph, {"level": 0.5})
        Bar(share=0.53, token='level')
    """
    scale = graph.graph.get("scale")
    if scale is None:
        return None
    if data.get("mark") in (Mark.NOT_FINITE, Mark.FIRST):
        return Bar(1.0, "loud")
    if "level" in data:
        return Bar(round(_SHORTEST + (1 - _SHORTEST) * data["level"], 4), "level")
    value: Any = data.get(scale["by"]) if "values" in scale else None
    return None if value is None else Bar(1.0, _token(scale["values"].index(value)))


def _token(number: int) -> str:
    return f"{VALUE}{min(number, _COLORS - 1)}"


def edge_look(data: EdgeData) -> tuple[str, float]:
    """The color token and width of the line of an edge.

    Example:
        >>> edge_look({}), edge_look({"level": 1.0}), edge_look({"mark": Mark.ZERO})
        (('line', 1.3), ('level', 5.5), ('op-edge', 0.8))
    """
    mark = data.get("mark")
    if data.get("highlight"):
        return "ink", _HIGHLIGHT
    if mark is Mark.ZERO:
        return "op-edge", 0.8
    if mark is not None:
        return "loud", _THICK / 2
    if "level" in data:
        return "level", round(_THIN + (_THICK - _THIN) * data["level"], 2)
    return "line", _THIN


def scale_legend(graph: GradGraph) -> dict[str, str]:
    """The rows of the legend that explain bars, widths and marks, by their symbols.

    Example:
        >>> scale_legend(GradGraph(scale={"by": "saved_bytes", "low": 0, "high": 4000}))
        {'level': 'kept for backward: 0 B to 4 kB'}
    """
    scale = graph.graph.get("scale")
    if scale is None:
        return {}
    if "values" in scale:
        rows: dict[str, str] = {}
        for number, value in enumerate(scale["values"]):
            token = _token(number)
            rows[token] = f"{rows[token]}, {value}" if token in rows else str(value)
        return rows
    if not has_bars(graph):
        return {"no-bar": scale_text(graph)}
    marks = _marks(graph)
    rows = {"level": scale_text(graph)}
    if any("level" in data for *_, data in graph.edges(data=True)):
        rows["width"] = WIDTH
    if scale["by"] == "grad_norm" and "high" in scale:
        rows["no-bar"] = NO_BAR
    if Mark.ZERO in marks:
        rows["zero"] = "zeros: the gradients of all leaves from here back are zeros"
    if Mark.FIRST in marks:
        rows["first"] = "first gradient that is known not to be finite"
    return rows


def has_bars(graph: GradGraph) -> bool:
    """Whether `color_by` was used and any level is known."""
    scale = graph.graph.get("scale", {})
    return not scale.keys().isdisjoint({"high", "values"}) or bool(_marks(graph))


def _marks(graph: GradGraph) -> set[Mark]:
    return {data["mark"] for _, data in graph.nodes(data=True) if "mark" in data}


def scale_text(graph: GradGraph) -> str:
    """The meaning of the bars in a few words; "" without a scale."""
    scale = graph.graph.get("scale")
    if scale is None or "values" in scale:
        return f"by {scale['by']}" if scale else ""
    by = scale["by"]
    if by == "saved_bytes" and "high" in scale:
        return f"{_WHAT[by]}: {bytes_text(scale['low'])} to {bytes_text(scale['high'])}"
    if "high" not in scale:
        return _WHAT[by] if has_bars(graph) else _NOTHING[by]
    return f"{_WHAT[by]}: {number_text(scale['low'])} to {number_text(scale['high'])}, log scale"


def text_bar(graph: GradGraph, data: NodeData) -> str:
    """The bar of a node as text of `COLUMN` characters; blanks if unknown.

    Example:
        >>> graph = GradGraph(scale={"by": "grad_norm", "low": 1, "high": 2})
        >>> text_bar(graph, {"level": 0.5}), text_bar(graph, {"mark": Mark.ZERO})
        ('████▎   ', 'zeros   ')
    """
    scale = graph.graph["scale"]
    if "values" in scale:
        value = str(data.get(scale["by"], ""))
        return (dtype_text(value) if len(value) > COLUMN else value).ljust(COLUMN)
    if mark := data.get("mark"):
        grad = data.get("grad")
        word = "zeros" if mark is Mark.ZERO else "NaN" if grad and grad.nan else "inf"
        return f"{word:<{COLUMN}}"
    bar = bar_of(graph, data)
    eighths = round(bar.share * COLUMN * 8) if bar else 0
    whole, rest = divmod(eighths, 8)
    return f"{_BLOCKS[8] * whole}{_BLOCKS[rest] if rest else ''}".ljust(COLUMN)
