"""Takes the snapshot: from live tensors to a `GradGraph` of plain values.

The walk comes first and finds every node and leaf. Then each node is read once, and what was
read is put into the graph. Nothing here runs an operation, a hook or a recomputation.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch

from gradviz.capture.autograd.tensors import quietly
from gradviz.capture.tensors.names import Names
from gradviz.capture.tensors.subjects import flatten
from gradviz.capture.tracing.builder import Builder
from gradviz.capture.tracing.lifetime import let_go_safely
from gradviz.capture.tracing.walk import Walk
from gradviz.graph import GradGraph
from gradviz.graph.collector import collector_paused

__all__ = ["trace", "trace_subjects"]


def trace(*subjects: object, names: object = None) -> GradGraph:
    """Take a snapshot of what autograd recorded on the way to some tensors.

    It changes nothing: no hook runs, nothing is recomputed or unpacked, no tensor is kept alive.

    Args:
        subjects: tensors, or tuples, lists, dicts and dataclasses of them, or of ``GradientEdge``.
            They become the roots of the graph, in this order.
        names: an ``nn.Module``, whose tensors are called by their paths in it and all others
            by their variables; a dict of name to tensor, which names these alone; None for the
            variables of the calling code, ``{}`` for no names.

    Returns:
        The graph. It is a ``networkx.MultiDiGraph`` whose edges run from input to output;
        `NodeData` lists what is known of each node.

    Raises:
        SubjectError: if there is nothing in ``subjects`` that autograd knows.
        UsageError: if ``names`` is none of the above.

    Example:
        >>> import torch
        >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> loss = (x * x).sum()
        >>> graph = trace(loss)
        >>> graph
        GradGraph(1 result, 2 operations, 1 accumulate, 1 leaf, 5 edges)
        >>> graph.nodes[graph.find("x")]["value"].values
        (1.0, 2.0)
    """
    with quietly():
        return trace_subjects(subjects, Names.of(names, sys._getframe(1)))


def trace_subjects(
    subjects: tuple[object, ...], names: Names, look: Callable[[Walk], object] | None = None
) -> GradGraph:
    """The same, for names that were found already.

    Args:
        subjects: as for `trace`.
        names: what to call the tensors.
        look: is shown the nodes and leaves behind the keys of the graph, and must not keep them.

    Returns:
        The graph.

    Raises:
        SubjectError: if there is nothing in ``subjects`` that autograd knows.
    """
    with quietly(), collector_paused():
        builder = Builder(names)
        try:
            builder.add_roots(flatten(subjects))
            builder.add_nodes()
            builder.add_readings()
            if look is not None:
                look(builder.walk)
        finally:
            let_go_safely(builder.walk)
        builder.graph.graph["torch"] = str(torch.__version__)
        return builder.graph
