"""The graph that everything else reads: its schema, its columns, and what it says in words."""

from gradviz.graph.grad_graph import GradGraph
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
    "GradGraph",
    "Mark",
    "NodeData",
    "NodeKind",
    "SavedTensor",
    "TensorSummary",
]
