"""Graphs for the tests of views and renderers: of the case table, and random ones."""

from __future__ import annotations

import functools

from cases import case
from hypothesis import strategies as st

import gradviz
from gradviz.graph import Buffers, Cause, EdgeKind, GradGraph, NodeKind, TensorSummary


@functools.cache
def graph_of(name: str) -> GradGraph:
    """The graph of a case, traced once; the tests do not change it."""
    program = case(name).build()
    return gradviz.trace(*program.subjects, names=program.names)


_WORDS = ("mul", "add", "view", "t", "expand", "exp", "split")
_NAMES = st.text(max_size=6) | st.sampled_from(["x", "<b>", 'a"b', "a|b{c}", "line\nline", "@-x"])


@st.composite
def graphs(draw: st.DrawFn, most_nodes: int = 24) -> GradGraph:
    """A random graph, shaped as autograd's: leaves, operations over earlier nodes, a result."""
    graph = GradGraph()
    made: list[str] = []
    for number in range(draw(st.integers(1, 5))):
        key = f"l{number}"
        grad = draw(st.sampled_from([None, TensorSummary((1,), "float32", "cpu", (0.5,))]))
        kind = draw(st.sampled_from([NodeKind.LEAF, NodeKind.PARAMETER]))
        graph.add_node(key, kind=kind, name=draw(_NAMES), shape=(1,), dtype="float32", grad=grad)
        made.append(key)
        if draw(st.booleans()):
            graph.add_node(f"a{number}", kind=NodeKind.ACCUMULATE, op="accumulate_grad")
            graph.add_edge(key, f"a{number}", 0, kind=EdgeKind.GRADIENT, input=0, output=0)
            made[-1] = f"a{number}"
    for number in range(draw(st.integers(0, most_nodes))):
        key = f"n{number}"
        op = draw(st.sampled_from(_WORDS))
        data = {"buffers": draw(st.sampled_from(Buffers))} if op in ("mul", "exp") else {}
        graph.add_node(key, kind=NodeKind.OPERATION, op=op, grad_fn=f"{op}Backward0", **data)
        if draw(st.integers(0, 5)) == 0:
            graph.nodes[key]["name"] = draw(_NAMES)
        inputs = draw(st.lists(st.sampled_from(made), min_size=1, max_size=3))
        for index, source in enumerate(inputs):
            graph.add_edge(source, key, index, kind=EdgeKind.GRADIENT, input=index, output=0)
        if draw(st.integers(0, 7)) == 0:
            graph.add_node(f"u{number}", kind=NodeKind.UNTRACKED, requires_grad=False)
            cut = {"kind": EdgeKind.CUT, "cause": Cause.NOT_RECORDED}
            graph.add_edge(f"u{number}", key, len(inputs), input=len(inputs), output=0, **cut)
        made.append(key)
    graph.add_node("root", kind=NodeKind.RESULT, root=0, name="loss")
    graph.add_edge(made[-1], "root", 0, kind=EdgeKind.GRADIENT, input=0, output=0)
    return graph
