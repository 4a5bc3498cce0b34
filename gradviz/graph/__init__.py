"""The graph: its schema, its edge columns, algorithms on it, and the text of its values."""

from gradviz.graph.grad_graph import GradGraph
from gradviz.graph.schema import (
    Buffers,
    Cause,
    EdgeData,
    EdgeKind,
    Mark,
    NodeData,
    NodeKind,
    RankSpread,
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
    "RankSpread",
    "SavedTensor",
    "TensorSummary",
]
