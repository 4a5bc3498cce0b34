"""The graph: its schema, its edge columns, algorithms on it, and the text of its values."""

from gradviz.graph.grad_graph import (
    Follow,
    GradGraph,
    ancestors,
    descendants,
    every,
    has_cycle,
    is_data,
    is_gradient,
    leaf_of_node,
    longest_paths,
    word_of,
)
from gradviz.graph.schema import (
    Buffers,
    Cause,
    EdgeData,
    EdgeKind,
    Mark,
    NodeData,
    NodeKind,
    SavedTensor,
    TensorSummary,
)

__all__ = [
    "Buffers",
    "Cause",
    "EdgeData",
    "EdgeKind",
    "Follow",
    "GradGraph",
    "Mark",
    "NodeData",
    "NodeKind",
    "SavedTensor",
    "TensorSummary",
    "ancestors",
    "descendants",
    "every",
    "has_cycle",
    "is_data",
    "is_gradient",
    "leaf_of_node",
    "longest_paths",
    "word_of",
]
