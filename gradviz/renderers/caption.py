"""The text under a picture: a caption of one or two sentences, and the legend."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from gradviz.facts import FrameKind
from gradviz.graph import (
    Buffers,
    Cause,
    EdgeData,
    EdgeKind,
    GradGraph,
    Mark,
    NodeData,
    NodeKind,
    ancestors,
    descendants,
    is_box_of_leaves,
    is_data,
)
from gradviz.graph.text import bytes_text, clean, counted, is_zero, joined
from gradviz.renderers.edges import cause_box, drawn_edges
from gradviz.renderers.labels import Role, cause_word, labels_of, may_have_changed
from gradviz.renderers.scene import Curve, Rectangle, Shape
from gradviz.renderers.theme import (
    FILLS,
    LEAF_BOX,
    LOOKS,
    NO_BAR,
    TEXT,
    VALUE,
    marked,
    scale_legend,
)
from gradviz.story import Frame
from gradviz.views.groups import count_of_nodes
from gradviz.wording import problem_text

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
        text = "{} {} no grad_fn and {} not require grad: no gradient can flow from {}.".format(
            _names(untracked), *verbs
        )
        if "is_traced" not in graph.graph:
            return text
        return f"{text} If operations computed {verbs[2]}, a recording (gradviz.record) shows them."
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
    sentences = [*_gradient_changes(nodes), *_not_finite(graph)]
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
        (node.get("name", ""), node["changes"]["grad"])
        for node in nodes
        if "grad" in node.get("changes", {})
    ]
    if len(changes) <= _MOST_NAMES:
        alike = Counter(changes).items()
        return [f"{_gradient_of(name, count)}: {text}." for (name, text), count in alike]
    kinds = {text if text in _SAME_FOR_ALL else "" for _, text in changes}
    verb = _SAME_FOR_ALL.get(kinds.pop(), "have changed") if len(kinds) == 1 else "have changed"
    others = (NodeKind.OPERATION, NodeKind.RESULT)  # they retain their gradient
    retained = any(node["kind"] in others and "grad" in node.get("changes", {}) for node in nodes)
    word = "tensors" if retained else "leaves"
    return [f"The gradients of {len(changes):,} {word} {verb}."]


def _gradient_of(name: str, count: int) -> str:
    if name:
        return f"{name}.grad"
    return f"The .grad of {f'{count} leaves' if count > 1 else 'a leaf'} without a name"


_SAME_FOR_ALL = {"new": "are new", "cleared": "are cleared (None)", "zeroed": "are zeroed"}


def _names(nodes: Sequence[NodeData], nameless: str = "the result") -> str:
    return joined([node.get("name") or nameless for node in nodes], _MOST_NAMES, "others")


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
    if not leaves and any(
        not graph.in_degree(key) and graph._node[key]["kind"] is NodeKind.OPERATION
        for key in reached
    ):  # the tensors between were gone when the graph was read
        whose = "Its" if operations == 1 else "Their"
        extent = f"{steps}{to}. {whose} leaves are not recorded."
    elif not leaves:
        extent = f"{steps}{to}, and no leaf that could get a gradient."
    else:
        extent = f"{steps} from {counted(leaves, 'leaf', 'leaves')}{to}."
    return extent + unreachable


def _without_operations(graph: GradGraph, roots: Sequence[NodeData]) -> str:
    """The caption of a graph in which no operation leads to the roots."""
    edges = graph.edges(data=True)
    target, cut = next(((end, data) for _, end, data in edges if _is_known_cut(data)), ("", None))
    if cut is not None:
        after = descendants(graph, [target], is_data)
        outside = [(key, data) for key, data in graph.nodes(data=True) if not graph.out_degree(key)]
        untracked = [row for row in outside if row[1]["kind"] is NodeKind.UNTRACKED]
        ends = [data for key, data in untracked if key in after]
        subject = _names(ends or [data for _, data in outside])
        where = f" at {cut['source']}" if cut.get("source") else ""
        verb = "have" if len(ends) > 1 else "has"
        return f"{subject} {verb} no grad_fn: the path is cut by {cause_word(cut)}{where}."
    verbs = ("is a leaf", "it") if len(roots) == 1 else ("are leaves", "them")
    return "{} {}: no operation created {}.".format(_names(roots), *verbs) if roots else ""


def _is_known_cut(data: EdgeData) -> bool:
    quiet = (Cause.NOT_RECORDED, Cause.CONSTANT)
    return data.get("kind") is EdgeKind.CUT and data.get("cause", Cause.NOT_RECORDED) not in quiet


def _reached(graph: GradGraph) -> set[str]:
    """The nodes from which a gradient path leads to a root; all nodes if there is no root."""
    if not graph.roots:
        return set(graph.nodes)
    walk = descendants if graph.graph.get("flow") == "gradient" else ancestors
    reached = walk(graph, graph.roots, lambda _, to, edge: edge.get("kind") is not EdgeKind.CUT)
    # A copy of a shared leaf stands for the leaf itself.
    return reached | {graph.nodes[key].get("clone_of", key) for key in reached}


def _holds_leaves(graph: GradGraph) -> bool:
    """Whether groups contain leaves, which then cannot be counted."""
    return any(
        data["kind"] is NodeKind.GROUP and "grad" in data for _, data in graph.nodes(data=True)
    )


def _not_finite(graph: GradGraph) -> list[str]:
    leaves = [graph.nodes[key] for key in graph.leaves]
    wrong = [leaf for leaf in leaves if (grad := leaf.get("grad")) and not grad.is_finite]
    return [f"NaN or infinity in the .grad of {_names(wrong, 'a leaf')}."] if wrong else []


def _gradients(graph: GradGraph) -> str:
    if _holds_leaves(graph):
        return ""
    leaves = [graph.nodes[key] for key in graph.leaves]
    grads = [leaf["grad"] for leaf in leaves if leaf.get("grad") is not None]
    if not leaves:
        return ""
    if wrong := _not_finite(graph):
        return wrong[0]
    if len(leaves) == 1:
        name = leaves[0].get("name")
        state = "is None" if not grads else "is all zeros" if is_zero(grads[0]) else "is set"
        return f"{name}.grad {state}." if name else f"The leaf's .grad {state}."
    if not grads:
        return f"None of the {len(leaves):,} leaves has a gradient."
    zeros = sum(is_zero(grad) and not grad.is_part for grad in grads)
    zero_part = f", {zeros:,} of them all zeros" if zeros else ""
    if len(grads) == len(leaves):
        return f"All {len(leaves):,} leaves have a gradient{zero_part}."
    have = "has" if len(grads) == 1 else "have"
    return f"{len(grads):,} of the leaves {have} a gradient{zero_part}."


def _is_freed(graph: GradGraph) -> bool:
    return any(data.get("buffers") is Buffers.FREED for _, data in graph.nodes(data=True))


def _buffers(graph: GradGraph) -> str:
    # Backward does not reach what is behind a cut.
    reached = (ancestors(graph, graph.roots) if _is_freed(graph) else ()) or graph
    states = {graph.nodes[key].get("buffers") for key in reached}
    if {Buffers.FREED, Buffers.HELD} <= states:
        return "Some saved tensors are freed: backward cannot pass there again."
    if Buffers.FREED in states:
        return "The saved tensors are freed: backward cannot run again."
    kept = graph.saved_bytes
    return f"{bytes_text(kept)} kept for backward." if kept >= _WORTH_A_WORD else ""


GLYPH_WIDTH = 22.0
GLYPH_HEIGHT = 12.0

MEANINGS = {
    "leaf": "leaf, with its .grad",
    "operation": "operation",
    "accumulate": "AccumulateGrad: adds to a leaf's .grad",
    "result": "result",
    "untracked": "not tracked: gets no gradient",
    "saved": "saved for backward",
    "group": "several operations drawn as one",
    "leaves": "several leaves drawn as one",
    "untracked-input": "no gradient flows back",
    "cut": "the gradient is cut here",
    "through": "reshaped on the way",
    "again": "leaf or leaves from above, drawn again",
    "untracked-again": "tensor from above, drawn again",
    "constant": "constant: an input that is not tracked",
    "flow": "arrows: direction of the gradient",
    "now": "now: current value, perhaps changed since it was used",
    "output": "[0], [1]: which output of the operation",
    "times": "×2: number of inputs that an arrow stands for",
    "news": "changed since the frame before",
    "since": "changed since the operations ran",
    "ranks": "not the same on all ranks",
    "removed": "not in the frame after",
    "zeros": "all zeros",
    "loud": "needs attention",
}
_HIGHLIGHT = "highlight"
_WITHOUT_GLYPH = ("constant", "no-bar", "now", "output", "times")
ROLE_ROWS = {
    "news": Role.NEWS,
    "since": Role.NEWS,
    "ranks": Role.NEWS,
    "removed": Role.REMOVED,
    "zeros": Role.ZERO,
    "loud": Role.LOUD,
}
"""Rows that explain the color of text."""


def role_rows(graph: GradGraph) -> dict[str, Role]:
    """Those of `ROLE_ROWS` that can be in a picture of the graph.

    Example:
        >>> list(role_rows(GradGraph()))
        ['since', 'removed', 'zeros', 'loud']
    """
    is_later = graph.graph.get("frame")
    news = "ranks" if "ranks" in graph.graph else "news" if is_later else "since"
    return {word: role for word, role in ROLE_ROWS.items() if role is not Role.NEWS or word == news}


_AGAIN = {"again": NodeKind.LEAF, "untracked-again": NodeKind.UNTRACKED}


def highlight_row(graphs: Iterable[GradGraph]) -> dict[str, str]:
    """The row of the legend about highlighted paths, if there are any.

    Example:
        >>> highlight_row([GradGraph(highlight="w")])
        {'highlight': 'highlighted: the path of the gradient to w'}
    """
    names = next((graph.graph[_HIGHLIGHT] for graph in graphs if _HIGHLIGHT in graph.graph), "")
    return {_HIGHLIGHT: f"highlighted: the path of the gradient to {clean(names)}"} if names else {}


def legend_of(graphs: Sequence[GradGraph]) -> dict[str, str]:
    """The rows of the legend for these graphs, in a fixed order.

    Example:
        >>> graph = GradGraph()
        >>> graph.add_node("n0", kind=NodeKind.LEAF)
        >>> legend_of([graph])
        {'leaf': 'leaf, with its .grad'}
    """
    found: set[str] = set()
    for graph in graphs:
        for key, data in graph.nodes(data=True):
            kind = "leaf" if data["kind"] is NodeKind.PARAMETER else data["kind"].value
            if "clone_of" in data:
                kind = "untracked-again" if data["kind"] is NodeKind.UNTRACKED else "again"
            found.add("leaves" if is_box_of_leaves(data) else kind)
            if data.get("untracked_inputs"):
                found.add("constant")
            if data.get("outputs", 1) > 1:
                found.add("output")
            if may_have_changed(graph, key) and data.get("value"):
                found.add("now")
        for label in labels_of(graph).values():
            roles = {span.role for line in (label.head, *label.rows) for span in line}
            found.update(word for word, role in role_rows(graph).items() if role in roles)
        for edge in drawn_edges(graph):
            data = edge[3]
            if data.get("times", 1) > 1:
                found.add("times")
            if data.get("kind") is EdgeKind.CUT:
                found.add("cut" if cause_box(graph, edge) else "untracked-input")
            elif data.get("through"):
                found.add("through")
        if graph.graph.get("flow") == "gradient":
            found.add("flow")
    rows = {word: meaning for word, meaning in MEANINGS.items() if word in found}
    if "news" in rows and "since" in rows:  # both have the same color
        del rows["since"]
        rows["news"] = "changed since the frame before, or since the operations ran"
    rows |= highlight_row(graphs)
    return rows | _scales(graphs)


def _scales(graphs: Sequence[GradGraph]) -> dict[str, str]:
    """The rows that explain bars; panels with different scales share one row."""
    rows: dict[str, str] = {}
    for graph in graphs:
        for word, meaning in scale_legend(graph).items():
            if rows.setdefault(word, meaning) != meaning:
                own = "how much, on each panel's own scale"
                rows[word] = NO_BAR if word == "no-bar" else own
    return rows


def legend_glyph(word: str, x: float, middle: float) -> list[Shape]:
    """The symbol of a legend row, with its left end at ``x``."""
    if word in _WITHOUT_GLYPH:
        return []
    line = ((x, middle), (x + 7, middle), (x + 14, middle), (x + GLYPH_WIDTH, middle))
    if word in ("cut", "untracked-input"):
        token = "cut" if word == "cut" else "line"
        strokes = [
            Curve(((x + at + 1.5, middle - 5),) * 2 + ((x + at - 1.5, middle + 5),) * 2, token, 1.6)
            for at in (9, 14)
        ]
        return [Curve(line, token, 1.3, dashed=True), *strokes]
    if word == "width":
        return [Curve(line, "level", 4.0)]
    if word == _HIGHLIGHT:
        return [Curve(line, "ink", 3.2)]
    if word in ("through", "flow"):
        dot = Rectangle(x + 7.5, middle - 3.5, 7, 7, "page", "line", 1.3, radius=3.5)
        return [Curve(line, "line", 1.3), *([dot] if word == "through" else [])]
    if word == "level" or word.startswith(VALUE):
        return _bar_glyph(word, x, middle)
    if word in ("zero", "first"):
        look = marked(LOOKS[NodeKind.LEAF], Mark.ZERO if word == "zero" else Mark.FIRST)
        top = middle - GLYPH_HEIGHT / 2
        return [Rectangle(x, top, GLYPH_WIDTH, GLYPH_HEIGHT, look.head, look.edge, look.line)]
    top = middle - GLYPH_HEIGHT / 2
    if word in ROLE_ROWS:
        fill, edge = FILLS.get(ROLE_ROWS[word]), TEXT[ROLE_ROWS[word]].color
        bar = Rectangle(x + 5, middle - 1.5, GLYPH_WIDTH - 10, 3, edge)
        return [Rectangle(x, top, GLYPH_WIDTH, GLYPH_HEIGHT, fill or "page"), bar]
    if word in _AGAIN:
        edge = LOOKS[_AGAIN[word]].edge
        return [Rectangle(x, top, GLYPH_WIDTH, GLYPH_HEIGHT, "page", edge, 0.8)]
    look = LEAF_BOX if word == "leaves" else LOOKS[NodeKind(word)]
    frame = (look.head, look.edge, look.line, min(look.radius, GLYPH_HEIGHT / 2), look.dashed)
    return [Rectangle(x, top, GLYPH_WIDTH, GLYPH_HEIGHT, *frame)]


def _bar_glyph(token: str, x: float, middle: float) -> list[Shape]:
    """A bar of that color; three bars for a scale."""
    shares = (0.2, 0.6, 1.0) if token == "level" else (1.0,)
    height = GLYPH_HEIGHT / len(shares) - 1
    tops = [middle - GLYPH_HEIGHT / 2 + number * (height + 1) for number in range(len(shares))]
    return [
        Rectangle(x, top, GLYPH_WIDTH * share, height, token)
        for top, share in zip(tops, shares, strict=True)
    ]
