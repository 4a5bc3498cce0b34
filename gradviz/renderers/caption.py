"""The caption under a picture: one or two sentences made from the graph."""

from __future__ import annotations

from gradviz.graph import Buffers, GradGraph, NodeKind
from gradviz.graph.text import bytes_text, is_zero
from gradviz.wording import problem_text

__all__ = ["caption", "news_caption"]

_MOST_NAMES = 3
_WORTH_A_WORD = 1000  # bytes


def caption(graph: GradGraph) -> str:
    """One or two short sentences about what was recorded.

    Args:
        graph: as it was recorded, or as it will be drawn.

    Example:
        >>> graph = GradGraph()
        >>> graph.add_node("n0", kind=NodeKind.UNTRACKED, name="z", root=0)
        >>> caption(graph)
        'z has no grad_fn and does not require grad: no gradient can flow from it.'
    """
    if not graph.number_of_nodes():
        return "There is nothing to draw."
    roots = [graph.nodes[key] for key in graph.roots]
    untracked = [node for node in roots if node["kind"] is NodeKind.UNTRACKED]
    if roots and len(untracked) == len(roots):
        if hidden := next((node["opaque"] for node in roots if "opaque" in node), ""):
            return f"{_names(roots)}: {hidden}, where the way back cannot be seen."
        verbs = ("has", "does", "it") if len(roots) == 1 else ("have", "do", "them")
        return "{} {} no grad_fn and {} not require grad: no gradient can flow from {}.".format(
            _names(untracked), *verbs
        )
    sentences = [_extent(graph, roots), _gradients(graph), _buffers(graph)]
    return " ".join(sentence for sentence in sentences if sentence)


def news_caption(graph: GradGraph) -> str:
    """What changed since the frame before; the whole `caption` if nothing changed.

    Example:
        >>> graph = GradGraph()
        >>> graph.add_node("n0", kind=NodeKind.LEAF, name="w", changes={"grad": "+3, pass 2"})
        >>> news_caption(graph)
        'w.grad: +3, pass 2.'
    """
    nodes = [data for _, data in graph.nodes(data=True)]
    problems = [
        f"{node.get('op', 'here')} {problem_text(node['problem'])}."
        for node in nodes
        if "problem" in node
    ]
    if problems:
        return problems[0]
    told = [
        (f"{node.get('name') or 'a leaf'}.grad", node["changes"]["grad"])
        for node in nodes
        if "grad" in node.get("changes", {})
    ]
    sentences = [f"{name}: {text}." for name, text in told[:_MOST_NAMES]]
    if len(told) > _MOST_NAMES:
        sentences = [f"The gradients of {len(told)} leaves have changed."]
    counts = {
        what: sum(what in node.get("changes", {}) for node in nodes)
        for what in ("buffers", "node", "version")
    }
    if counts["buffers"]:
        sentences.append("Saved tensors are freed.")
    if counts["node"]:
        sentences.append(f"{_count(counts['node'], 'new operation', 'new operations')}.")
    if counts["version"]:
        sentences.append(f"{_count(counts['version'], 'tensor', 'tensors')} changed in place.")
    return " ".join(sentences) or caption(graph)


def _names(nodes: list[dict[str, str]], nameless: str = "the result") -> str:
    names = [node.get("name") or nameless for node in nodes]
    if len(names) > _MOST_NAMES:
        return f"{', '.join(names[: _MOST_NAMES - 1])} and {len(names) - _MOST_NAMES + 1} others"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _extent(graph: GradGraph, roots: list[dict[str, str]]) -> str:
    operations = sum(
        data.get("members", 0) if data["kind"] is NodeKind.GROUP else 1
        for _, data in graph.nodes(data=True)
        if data["kind"] in (NodeKind.OPERATION, NodeKind.GROUP)
    )
    leaves = len(graph.leaves)
    if not operations:
        return f"{_names(roots)} is a leaf: nothing was computed to make it." if roots else ""
    steps = _count(operations, "operation", "operations")
    to = f" to {_names(roots)}" if roots else ""  # what they led to may be gone already
    if _holds_leaves(graph):
        return f"{steps}{to}."
    if not leaves:
        return f"{steps}{to}, and no leaf that could get a gradient."
    return f"{steps} from {_count(leaves, 'leaf', 'leaves')}{to}."


def _holds_leaves(graph: GradGraph) -> bool:
    """Whether there are leaves inside groups, where they cannot be counted."""
    return any(
        data["kind"] is NodeKind.GROUP and "grad" in data for _, data in graph.nodes(data=True)
    )


def _gradients(graph: GradGraph) -> str:
    if _holds_leaves(graph):
        return ""
    leaves = [graph.nodes[key] for key in graph.leaves]
    grads = [leaf["grad"] for leaf in leaves if leaf.get("grad") is not None]
    if not leaves:
        return ""
    wrong = [leaf for leaf in leaves if (grad := leaf.get("grad")) and (grad.nan or grad.inf)]
    if wrong:
        return f"NaN or infinity in the .grad of {_names(wrong, 'a leaf')}."
    if len(leaves) == 1:
        name = leaves[0].get("name")
        state = "is None" if not grads else "is all zeros" if is_zero(grads[0]) else "is set"
        return f"{name}.grad {state}." if name else f"The leaf's .grad {state}."
    if not grads:
        return f"None of the {len(leaves):,} leaves has a gradient."
    zeros = sum(map(is_zero, grads))
    told = f", {zeros:,} of them all zeros" if zeros else ""
    if len(grads) == len(leaves):
        return f"All leaves have a gradient{told}."
    have = "has" if len(grads) == 1 else "have"
    return f"{len(grads):,} of the leaves {have} a gradient{told}."


def _buffers(graph: GradGraph) -> str:
    states = {data.get("buffers") for _, data in graph.nodes(data=True)}
    if {Buffers.FREED, Buffers.HELD} <= states:
        return "Some saved tensors are freed: backward cannot pass there again."
    if Buffers.FREED in states:
        return "The saved tensors are freed: backward cannot run again."
    kept = graph.saved_bytes
    return f"{bytes_text(kept)} kept for backward." if kept >= _WORTH_A_WORD else ""
