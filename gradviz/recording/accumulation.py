"""What a backward pass added to the gradients of the leaves, and how many passes are in them."""

from __future__ import annotations

from gradviz.capture.autograd.tensors import version_of
from gradviz.graph import GradGraph, TensorSummary
from gradviz.recording.provenance import Leaf
from gradviz.recording.stable_trace import Snapshot
from gradviz.recording.state import RecordingState

__all__ = ["Before", "leaves_of"]

_State = tuple[int, int] | None


class Before:
    """The gradients as they were before a backward pass.

    Args:
        state: knows the leaves.
        graph: the frame before the pass.
        snapshot: the snapshot of that frame.
    """

    def __init__(self, state: RecordingState, graph: GradGraph, snapshot: Snapshot) -> None:
        self._summaries: dict[int, TensorSummary | None] = {}
        for key, leaf in snapshot.leaves.values():
            if key in graph:
                self._summaries[leaf.number] = graph.nodes[key].get("grad")
        self._states = {leaf.number: _state(leaf) for leaf in leaves_of(state)}

    def count_passes(self, state: RecordingState) -> list[Leaf]:
        """The leaves whose gradient was added to, by the order in which they were met.

        A gradient that is there already is changed in place or replaced: its version or its
        identity tells. No value is compared, and no hook is needed.
        """
        changed = []
        for leaf in sorted(leaves_of(state), key=lambda leaf: leaf.number):
            before, after = self._states.get(leaf.number), _state(leaf)
            if after is None and before is not None:  # a hook has taken it
                leaf.passes = 0
            if after is None or after == before:
                continue
            if before is None:
                leaf.passes = 1
            elif leaf.passes is not None:
                leaf.passes += 1
            changed.append(leaf)
        return changed

    def summary(self, leaf: Leaf) -> TensorSummary | None:
        """The gradient of a leaf before the pass."""
        return self._summaries.get(leaf.number)


def leaves_of(state: RecordingState) -> list[Leaf]:
    """The leaves that a recording has met, as far as they are alive."""
    return [each for each in list(state.provenance.tensors.values()) if isinstance(each, Leaf)]


def _state(leaf: Leaf) -> _State:
    tensor = leaf.ref()
    gradient = tensor.grad if tensor is not None and tensor.is_leaf else None
    return None if gradient is None else (id(gradient), version_of(gradient))
