"""A few operations taken down at the moment when data left the graph.

What `(x * 2).detach()` was made from is gone when the next frame is taken: nobody holds it. Its
nearest operations are few and cheap to note down while they are there.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from torch.autograd.graph import Node

from gradviz.capture.autograd.nodes import NodeReader, leaf_of, operation_type, sequence_number
from gradviz.graph import NodeKind
from gradviz.recording.provenance import Leaf, Provenance

__all__ = ["MOST", "OpRecord", "op_records"]

MOST = 8


@dataclass(slots=True, eq=False)
class OpRecord:
    """An operation as it was.

    Args:
        created: the number of its creation.
        data: its attributes.
        inputs: leaves, or the numbers of other operations, with the position and the output.
    """

    created: int
    data: dict[str, Any]
    inputs: list[tuple[Leaf | int, int, int]] = field(default_factory=list)


def op_records(node: Node, ghosts: Provenance) -> list[OpRecord]:
    """Take down an operation and those before it, at most `MOST`, nearest first."""
    reader = NodeReader()
    found: list[OpRecord] = []
    seen = {node}
    queue = deque([node])
    while queue and len(found) < MOST:
        node = queue.popleft()
        kind = operation_type(node)
        stub = OpRecord(sequence_number(node), {"kind": NodeKind.OPERATION, "op": kind.op})
        stub.data["grad_fn"] = kind.grad_fn
        shape, dtype, device = reader.read_output(node, 0)
        if shape is not None:
            stub.data.update(shape=shape, dtype=dtype, device=device)
        for position, (child, output) in enumerate(node.next_functions):
            if child is None:
                continue
            leaf = leaf_of(child)
            source = ghosts.leaf(leaf) if leaf is not None else sequence_number(child)
            stub.inputs.append((source, position, output))
            if leaf is None and child not in seen:
                seen.add(child)
                queue.append(child)
        found.append(stub)
    return found
