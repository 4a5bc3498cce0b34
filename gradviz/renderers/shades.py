"""What `color_by` put on a graph, as renderers show it: bars, widths, a scale, a column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gradviz.graph import EdgeData, GradGraph, Mark, NodeData
from gradviz.graph.text import bytes_text, number_text

__all__ = [
    "COLUMN",
    "VALUE",
    "Bar",
    "bar_of",
    "edge_look",
    "scale_legend",
    "scale_text",
    "text_bar",
]

COLUMN = 8
"""Characters of the column that stands before each line of text."""

VALUE = "value-"
"""What the tokens of the colours begin with that stand for a value, not for an amount."""

NO_BAR = "no bar: no gradient recorded"

_SHORTEST = 0.06
"""Share of its track that the bar of the least takes: a little is not nothing."""
_THIN, _THICK = 1.3, 5.5
_COLOURS = 7
_BLOCKS = " ▏▎▍▌▋▊▉█"
_WHAT = {"grad_norm": "norm of .grad", "saved_bytes": "kept for backward"}
_NOTHING = {
    "grad_norm": "no gradient is recorded here",
    "saved_bytes": "nothing is kept for backward here",
}


@dataclass(frozen=True)
class Bar:
    """A bar along the bottom of a node: its share of the width, and its colour by token."""

    share: float
    token: str


def bar_of(graph: GradGraph, data: NodeData) -> Bar | None:
    """The bar of a node; None where nothing is known, or the picture has no scale.

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
    return f"{VALUE}{min(number, _COLOURS - 1)}"


def edge_look(data: EdgeData) -> tuple[str, float]:
    """Colour, by token, and width of the line of an edge.

    Example:
        >>> edge_look({}), edge_look({"level": 1.0}), edge_look({"mark": Mark.ZERO})
        (('line', 1.3), ('level', 5.5), ('op-edge', 0.8))
    """
    mark = data.get("mark")
    if mark is Mark.ZERO:
        return "op-edge", 0.8
    if mark is not None:
        return "loud", _THICK / 2
    if "level" in data:
        return "level", round(_THIN + (_THICK - _THIN) * data["level"], 2)
    return "line", _THIN


def scale_legend(graph: GradGraph) -> dict[str, str]:
    """The rows of the legend that explain bars, widths and marks, by what stands beside them.

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
    if scale["by"] == "grad_norm" and "high" in scale:
        rows["no-bar"] = NO_BAR
    if Mark.ZERO in marks:
        rows["zero"] = "dead: from here back every leaf got zeros"
    if Mark.FIRST in marks:
        rows["first"] = "the first gradient known not to be finite"
    return rows


def has_bars(graph: GradGraph) -> bool:
    """Whether `color_by` was used, and anything is known of what it shows."""
    scale = graph.graph.get("scale", {})
    return not scale.keys().isdisjoint({"high", "values"}) or bool(_marks(graph))


def _marks(graph: GradGraph) -> set[Mark]:
    return {data["mark"] for _, data in graph.nodes(data=True) if "mark" in data}


def scale_text(graph: GradGraph) -> str:
    """What the bars mean, in a few words; empty where there are none."""
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
    """The bar of a node as text of `COLUMN` characters; blanks where nothing is known.

    Example:
        >>> graph = GradGraph(scale={"by": "grad_norm", "low": 1, "high": 2})
        >>> text_bar(graph, {"level": 0.5}), text_bar(graph, {"mark": Mark.ZERO})
        ('████▎   ', 'dead    ')
    """
    scale = graph.graph["scale"]
    if "values" in scale:
        return f"{str(data.get(scale['by'], ''))[:COLUMN]:<{COLUMN}}"
    if mark := data.get("mark"):
        word = "dead" if mark is Mark.ZERO else "NaN" if _has_nan(data) else "inf"
        return f"{word:<{COLUMN}}"
    bar = bar_of(graph, data)
    eighths = round(bar.share * COLUMN * 8) if bar else 0
    whole, rest = divmod(eighths, 8)
    return f"{_BLOCKS[8] * whole}{_BLOCKS[rest] if rest else ''}".ljust(COLUMN)


def _has_nan(data: NodeData) -> bool:
    gradient = data.get("grad")
    return bool(gradient and gradient.nan)
