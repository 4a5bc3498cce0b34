"""What a backward pass added to the gradients of the leaves, and how many passes are in them."""

from __future__ import annotations

from gradviz.capture.autograd.tensors import version_of
from gradviz.capture.recording.ghosts import Leaf
from gradviz.capture.recording.snapshots import Snapshot
from gradviz.capture.recording.watch import Watch
from gradviz.graph import GradGraph, TensorSummary

__all__ = ["Before", "added"]

_State = tuple[int, int] | None
_FEW = 4


class Before:
    """The gradients as they were before a backward pass.

    Args:
        watch: knows the leaves.
        graph: the frame before the pass.
        snapshot: the snapshot of that frame.
    """

    def __init__(self, watch: Watch, graph: GradGraph, snapshot: Snapshot) -> None:
        self._summaries: dict[int, TensorSummary | None] = {}
        for key, leaf in snapshot.leaves.values():
            if key in graph:
                self._summaries[leaf.number] = graph.nodes[key].get("grad")
        self._states = {leaf.number: _state(leaf) for leaf in _leaves(watch)}

    def count_passes(self, watch: Watch) -> list[Leaf]:
        """The leaves whose gradient was added to, by the order in which they were met.

        A gradient that is there already is changed in place or replaced: its version or its
        identity tells. No value is compared, and no hook is needed.
        """
        changed = []
        for leaf in sorted(_leaves(watch), key=lambda leaf: leaf.number):
            before, after = self._states.get(leaf.number), _state(leaf)
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


def _leaves(watch: Watch) -> list[Leaf]:
    return [each for each in list(watch.ghosts.tensors.values()) if isinstance(each, Leaf)]


def _state(leaf: Leaf) -> _State:
    tensor = leaf.ref()
    gradient = tensor.grad if tensor is not None and tensor.is_leaf else None
    return None if gradient is None else (id(gradient), version_of(gradient))


def added(before: TensorSummary | None, after: TensorSummary | None) -> str:
    """What was added, in few characters: one number, a few, or the norms.

    Example:
        >>> three = TensorSummary((2,), "float32", "cpu", values=(3.0, 3.0), norm=4.24)
        >>> added(None, three), added(three, TensorSummary((2,), "float32", "cpu", (6.0, 6.5)))
        ('+3', '+[3 3.5]')
        >>> added(None, TensorSummary((9,), "float32", "cpu", norm=0.5, min=0.0, max=0.3))
        'norm 0.5'
    """
    if after is None:
        return "added to"
    differences = _differences(before, after)
    if differences and all(each == differences[0] for each in differences):
        return _signed(differences[0])
    if differences and len(differences) <= _FEW:
        return f"+[{' '.join(map(_short, differences))}]"
    if after.norm is None:
        return "added to"
    if before is None or before.norm is None:
        return f"norm {_short(after.norm)}"
    return f"norm {_short(before.norm)} → {_short(after.norm)}"


def _differences(
    before: TensorSummary | None, after: TensorSummary
) -> list[float | int | bool | complex]:
    """What was added to each element, or once for all when they are all alike."""
    new = after.values or _constant(after)
    old = (0.0,) * len(new) if before is None else before.values or _constant(before)
    return [a - b for a, b in zip(new, old, strict=False)] if len(new) == len(old) else []


def _constant(summary: TensorSummary) -> tuple[float, ...]:
    is_constant = summary.min is not None and summary.min == summary.max
    if is_constant and not summary.nan and not summary.inf and summary.min is not None:
        return (summary.min,)
    return ()


def _short(number: complex) -> str:
    return f"{number:.4g}"


def _signed(number: complex) -> str:
    text = _short(number)
    return text if text.startswith("-") else f"+{text}"
