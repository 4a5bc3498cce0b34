"""Values as the few words that a difference needs; in full they stand on the node."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any

from gradviz.graph import NodeData, TensorSummary
from gradviz.graph.text import number_text, shape_text

__all__ = ["value_words", "word_of"]

_MOST_VALUES = 6

_WHEN_ABSENT = {
    "grad": "None",
    "outputs": "1",
    **dict.fromkeys(("accumulations", "hooks", "untracked_inputs", "version"), "0"),
    **dict.fromkeys(("inference", "requires_grad", "retains_grad"), "False"),
}


def word_of(data: NodeData) -> str:
    """What to call a node in a sentence: ``w``, ``mul``, ``addmm h``.

    Example:
        >>> from gradviz.graph import NodeKind
        >>> word_of({"kind": NodeKind.OPERATION, "op": "mul", "name": "h"})
        'mul h'
        >>> word_of({"kind": NodeKind.LEAF})
        'leaf'
    """
    words = " ".join(filter(None, (data.get("op"), data.get("name"))))
    return _one_line(words or data["kind"].value)


def value_words(attribute: str, value: Any) -> str:
    """The value of an attribute of a node; ``value`` is None where it is left out.

    Example:
        >>> value_words("shape", (3, 4)), value_words("grad", None), value_words("hooks", None)
        ('[3,4]', 'None', '0')
        >>> value_words("grad", TensorSummary((2,), "float32", "cpu", values=(3.0, 0.25)))
        '3 0.25'
    """
    if value is None:
        return _WHEN_ABSENT.get(attribute, "none")
    if attribute == "shape":
        return shape_text(value)
    if isinstance(value, TensorSummary):
        return _summary_words(value)
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, dict):
        value = tuple(f"{name}={text}" for name, text in value.items())
    return _one_line(" ".join(value) if isinstance(value, tuple) else str(value))


def _summary_words(summary: TensorSummary) -> str:
    if summary.values is not None and len(summary.values) <= _MOST_VALUES:
        return _values(summary.values) or "no elements"
    if summary.nan or summary.inf:
        return f"{summary.nan} NaN, {summary.inf} infinite"
    if summary.norm is not None:
        return f"norm {number_text(summary.norm)}"
    if summary.values is not None:
        return f"{_values(summary.values[:_MOST_VALUES])} …"
    return summary.note or "not read"


def _values(values: Sequence[float | complex]) -> str:
    return " ".join(map(number_text, values))


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else "\N{SYMBOL FOR NEWLINE}" for char in text)
