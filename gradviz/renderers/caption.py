"""The caption under a picture: one or two sentences made from the graph."""

from __future__ import annotations

from collections.abc import Sequence

from gradviz.facts import FrameKind
from gradviz.graph import Buffers, Cause, EdgeData, EdgeKind, GradGraph, NodeData, NodeKind
from gradviz.graph.text import bytes_text, counted, is_zero
from gradviz.story import Frame
from gradviz.views.groups import count_of_nodes
from gradviz.wording import problem_text

__all__ = ["caption", "caption_of", "changes_caption"]

_FAILED = "Backward failed"
_MOST_NAMES = 3
_WORTH_A_WORD = 1000  # bytes


def caption(graph: GradGraph) -> str:
    """One or two short sentences about the recorded graph.

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


def caption_of(frame: Frame, is_later: bool = False) -> str:
    """The caption of a frame: its own, or else one made from its graph.

    Args:
        frame: the frame.
        is_later: whether one came before it, so that what changed since is what it shows.

    Example:
        >>> caption_of(Frame("", GradGraph(), kind=FrameKind.FAILED_BACKWARD))
        'Backward failed. There is nothing to draw.'
    """
    if frame.caption:
        return frame.caption
    has_failed = frame.kind in (FrameKind.FAILED_BACKWARD, FrameKind.REFUSED_BACKWARD)
    shows_problem = has_failed or frame.kind is FrameKind.SNAPSHOT
    text = changes_caption(frame.graph, shows_problem) if is_later else caption(frame.graph)
    if has_failed and not text.startswith(_FAILED):
        return f"{_FAILED}. {text}"
    return text


def changes_caption(graph: GradGraph, shows_problem: bool = True) -> str:
    """The changes since the previous frame; the whole `caption` if nothing changed.

    Args:
        graph: with the changes of each node.
        shows_problem: whether it is the frame in which backward failed at a node, if one did.

    Example:
        >>> graph = GradGraph()
        >>> graph.add_node("n0", kind=NodeKind.LEAF, name="w", changes={"grad": "+3, pass 2"})
        >>> changes_caption(graph)
        'w.grad: +3, pass 2.'
    """
    nodes = [data for _, data in graph.nodes(data=True)]
    problems = [
        f"{_FAILED} at {node.get('op', 'an operation')}: {problem_text(node['problem'])}."
        for node in nodes
        if "problem" in node
    ]
    if problems and shows_problem:
        return problems[0]
    sentences = _gradient_changes(nodes)
    counts = {
        what: sum(what in node.get("changes", {}) for node in nodes)
        for what in ("buffers", "node", "version")
    }
    if counts["buffers"]:
        sentences.append("Saved tensors are freed.")
    if counts["node"]:
        sentences.append(f"{counted(counts['node'], 'new operation')}.")
    if counts["version"]:
        sentences.append(f"{counted(counts['version'], 'tensor')} changed in place.")
    if sentences and not counts["buffers"]:
        sentences.append(_buffers(graph) if _is_freed(graph) else "")
    return " ".join(filter(None, sentences)) or caption(graph)


def _gradient_changes(nodes: Sequence[NodeData]) -> list[str]:
    """A sentence for each leaf whose gradient changed, or one for all leaves."""
    changes = [
        (f"{node.get('name') or 'a leaf'}.grad", node["changes"]["grad"])
        for node in nodes
        if "grad" in node.get("changes", {})
    ]
    if len(changes) <= _MOST_NAMES:
        return [f"{name}: {text}." for name, text in changes]
    kinds = {text if text in _SAME_FOR_ALL else "" for _, text in changes}
    verb = _SAME_FOR_ALL.get(kinds.pop(), "have changed") if len(kinds) == 1 else "have changed"
    others = (NodeKind.OPERATION, NodeKind.RESULT)  # they retain their gradient
    retained = any(node["kind"] in others and "grad" in node.get("changes", {}) for node in nodes)
    word = "tensors" if retained else "leaves"
    return [f"The gradients of {len(changes):,} {word} {verb}."]


_SAME_FOR_ALL = {"new": "are new", "cleared": "are cleared (None)", "zeroed": "are zeroed"}


def _names(nodes: Sequence[NodeData], nameless: str = "the result") -> str:
    names = [node.get("name") or nameless for node in nodes]
    if len(names) > _MOST_NAMES:
        return f"{', '.join(names[: _MOST_NAMES - 1])} and {len(names) - _MOST_NAMES + 1} others"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _extent(graph: GradGraph, roots: Sequence[NodeData]) -> str:
    reached = _reached(graph)
    operations = count_of_nodes(data for key, data in graph._node.items() if key in reached)
    leaves = sum(key in reached for key in graph.leaves)
    beyond = len(graph.leaves) - leaves
    if not operations:
        return _without_operations(graph, roots)
    steps = counted(operations, "operation")
    to = f" to {_names(roots)}" if roots else ""  # the results may no longer exist
    more = counted(beyond, "more leaf is", "more leaves are")
    unreachable = f" {more} not reachable from {_names(roots)}." if beyond and roots else ""
    if _holds_leaves(graph):
        return f"{steps}{to}."
    if not leaves:
        extent = f"{steps}{to}, and no leaf that could get a gradient."
    else:
        extent = f"{steps} from {counted(leaves, 'leaf', 'leaves')}{to}."
    return extent + unreachable


def _without_operations(graph: GradGraph, roots: Sequence[NodeData]) -> str:
    """The caption of a graph in which no operation leads to the roots."""
    cut = next((data for *_, data in graph.edges(data=True) if _is_known_cut(data)), None)
    if cut is not None:
        outside = [data for key, data in graph.nodes(data=True) if not graph.out_degree(key)]
        ends = [data for data in outside if data["kind"] is NodeKind.UNTRACKED]
        subject = _names(ends or outside)
        where = f" at {cut['source']}" if cut.get("source") else ""
        verb = "have" if len(ends) > 1 else "has"
        return f"{subject} {verb} no grad_fn: the path is cut by {cut['cause'].value}{where}."
    return f"{_names(roots)} is a leaf: no operation created it." if roots else ""


def _is_known_cut(data: EdgeData) -> bool:
    quiet = (Cause.NOT_RECORDED, Cause.CONSTANT)
    return data.get("kind") is EdgeKind.CUT and data.get("cause", Cause.NOT_RECORDED) not in quiet


def _reached(graph: GradGraph) -> set[str]:
    """The nodes from which a gradient path leads to a root; all nodes if there is no root."""
    if not graph.roots:
        return set(graph.nodes)
    reached = set(graph.roots)
    waiting = list(graph.roots)
    against = graph.graph.get("flow") == "gradient"
    while waiting:
        key = waiting.pop()
        edges = graph.out_edges(key, data=True) if against else graph.in_edges(key, data=True)
        for source, target, data in edges:
            other = target if against else source
            if data.get("kind") is not EdgeKind.CUT and other not in reached:
                reached.add(other)
                waiting.append(other)
    # A copy of a shared leaf stands for the leaf itself.
    return reached | {graph.nodes[key].get("clone_of", key) for key in reached}


def _holds_leaves(graph: GradGraph) -> bool:
    """Whether groups contain leaves, which then cannot be counted."""
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
    zero_part = f", {zeros:,} of them all zeros" if zeros else ""
    if len(grads) == len(leaves):
        return f"All {len(leaves):,} leaves have a gradient{zero_part}."
    have = "has" if len(grads) == 1 else "have"
    return f"{len(grads):,} of the leaves {have} a gradient{zero_part}."


def _is_freed(graph: GradGraph) -> bool:
    return any(data.get("buffers") is Buffers.FREED for _, data in graph.nodes(data=True))


def _buffers(graph: GradGraph) -> str:
    states = {data.get("buffers") for _, data in graph.nodes(data=True)}
    if {Buffers.FREED, Buffers.HELD} <= states:
        return "Some saved tensors are freed: backward cannot pass there again."
    if Buffers.FREED in states:
        return "The saved tensors are freed: backward cannot run again."
    kept = graph.saved_bytes
    return f"{bytes_text(kept)} kept for backward." if kept >= _WORTH_A_WORD else ""
