"""The graph without what differs from run to run."""

from __future__ import annotations

from gradviz.graph import GradGraph, TensorSummary
from gradviz.views.view import view

__all__ = ["hide_numbers"]

_VARYING = ("value", "accumulations", "version", "source", "changes")


@view
def hide_numbers(graph: GradGraph) -> GradGraph:
    """Keep what is computed from what, and leave out with which numbers, and in which line.

    Names, operations with their plain arguments, shapes, types, cuts with their cause, and whether
    a leaf has a gradient stay: what a test of a model's structure should see, whatever the seed.

    Args:
        graph: what was recorded.

    Returns:
        The same nodes and edges, without values of tensors and gradients, counts of passes and of
        changes in place, and lines.

    Example:
        >>> from gradviz.graph import NodeKind
        >>> graph = GradGraph()
        >>> grad = TensorSummary((), "float32", "cpu", values=(3.0,))
        >>> graph.add_node("n0", kind=NodeKind.LEAF, name="w", grad=grad, version=2)
        >>> seen = hide_numbers(graph).nodes["n0"]
        >>> seen["grad"].note, "version" in seen
        ('set', False)
    """
    plain: GradGraph = graph.copy()
    for _, data in plain.nodes(data=True):
        for attribute in _VARYING:
            data.pop(attribute, None)
        grad = data.get("grad")
        if grad is not None:
            data["grad"] = TensorSummary(grad.shape, grad.dtype, grad.device, note="set")
    for _, _, edge in plain.edges(data=True):
        edge.pop("source", None)
    return plain
