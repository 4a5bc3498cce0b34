"""The tooltips of nodes and edges: all known facts, as plain text."""

from __future__ import annotations

import shlex
from typing import Any

from gradviz.graph import EdgeData, EdgeKind, NodeData, NodeKind, TensorSummary
from gradviz.graph.text import bytes_text, counted, number_text, shape_text, summary_text
from gradviz.renderers.labels import cause_text, clean
from gradviz.views.modules import shared_by
from gradviz.wording import problem_text, spread_text

__all__ = ["edge_tooltip", "tooltip_of"]


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
