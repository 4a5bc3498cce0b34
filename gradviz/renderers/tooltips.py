"""What is said of a node to those who point at it: all that is known."""

from __future__ import annotations

import shlex
from typing import Any

from gradviz.graph import NodeData, NodeKind, TensorSummary
from gradviz.graph.text import bytes_text, summary_text
from gradviz.renderers.labels import clean
from gradviz.views.inference import shared_by
from gradviz.wording import problem_text

__all__ = ["tooltip_of"]


def tooltip_of(key: str, data: NodeData) -> str:
    """Everything that is known of a node, one fact a line, for those who point at it.

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
        shape = "×".join(map(str, data["shape"])) or "scalar"
        lines.append(f"{shape}, {data.get('dtype', 'unknown dtype')}, {device}")
    for attribute, sentence in _SENTENCES.items():
        if attribute in data:
            lines.append(sentence(data[attribute]))  # type: ignore[literal-required]
    if data.get("inferred"):
        lines.append("module inferred from names and order, not recorded")
    if inside := _way_in(data):
        lines.append(f"to see its inside: focus_on({inside!r}), --focus {shlex.quote(inside)}")
    return "\n".join(map(clean, [*filter(None, lines), key]))


def _way_in(data: NodeData) -> str:
    """What `focus_on` finds the inside of a group by: its module; of several, the first.

    What has no module is found by the key of its first operation.
    """
    if data["kind"] is not NodeKind.GROUP:
        return ""
    module = data.get("module", "")
    if "repeat" in data and module:
        # Of a stack of layers the contents are those of the first one.
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
    "accumulations": lambda count: f"gradient added {count} times",
    "members": lambda count: f"{count:,} {'operation' if count == 1 else 'operations'}, folded",
    "parameters": lambda count: f"{count:,} elements of parameters",
    "contents": lambda inside: f"in it: {', '.join(inside)}",
    "options": lambda options: ", ".join(f"{name}={value}" for name, value in options.items()),
    "outputs": lambda count: f"{count} outputs",
    "untracked_inputs": lambda count: (
        f"{count} constant input(s): a number, an absent argument, or a tensor that is "
        "detached, frozen or made under no_grad (not recorded which)"
    ),
    "buffers": lambda buffers: f"saved tensors: {buffers.value}",
    "saved_bytes": lambda count: f"keeps {bytes_text(count)} for backward",
    "version": lambda count: f"version {count}: changed in place {count} times",
    "hooks": lambda count: f"{count} hook(s)",
    "opaque": lambda what: f"its inside cannot be seen: {what}",
    "module": lambda path: f"in module {path}" if path else "",
    "source": lambda line: f"made at {line}",
    "sequence_nr": lambda number: f"sequence number {number}",
    "changes": lambda changes: ", ".join(f"{name} {text}" for name, text in changes.items()),
    "problem": problem_text,
    "verdict": str,
    "clone_of": lambda key: f"the same tensor as {key}, drawn again to keep the picture clear",
}
