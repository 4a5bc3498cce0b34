"""Inputs to which no gradient goes: what an operation's own record proves about them.

Autograd leaves the same hole for a constant, a detached tensor and an absent argument. Only
what an operation saved for its backward can tell more, and never why there is no gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.autograd.graph import Node

from gradviz.capture.autograd.nodes import has_no_bias
from gradviz.capture.autograd.operations import OperationType
from gradviz.capture.autograd.tensors import place_of
from gradviz.capture.tracing.labels import Labels
from gradviz.capture.tracing.walk import NO_GRADIENT, Edges
from gradviz.graph import Buffers
from gradviz.graph.operations import operation
from gradviz.graph.text import number_text

__all__ = ["CutInput", "NodePlaces", "UntrackedInputs"]


@dataclass(frozen=True, eq=False)
class CutInput:
    """A tensor that went into an operation, and gets no gradient from it.

    Args:
        tensor: the tensor that the operation saved.
        target: place of the operation in the graph.
        position: which input of the operation it is.
    """

    tensor: torch.Tensor
    target: int
    position: int


@dataclass
class UntrackedInputs:
    """Looks at the holes among the inputs of operations.

    Args:
        labels: names of tensors: a number that has a name is a tensor of the user's.
        found: the tensors found so far.
    """

    labels: Labels
    found: list[CutInput] = field(default_factory=list)

    def look(
        self,
        operation: tuple[int, Node, OperationType],
        edges: Edges,
        saved: Sequence[object],
        data: dict[str, Any],
    ) -> None:
        """Sort the holes of one operation into cuts, numbers, absent arguments and the rest.

        Args:
            operation: its place, its node and its type.
            edges: its ``next_functions``.
            saved: what it holds for backward, as `NodeReader.read` gives it.
            data: its attributes; a number goes to ``options``, the rest is counted.
        """
        place, node, kind = operation
        if not kind.arguments:
            data["untracked_inputs"] = edges.count(NO_GRADIENT)
            return
        held = dict(zip(kind.saved, saved, strict=False))
        unknown = 0
        for position, (child, _) in enumerate(edges):
            if child is not None:
                continue
            argument = kind.arguments[position] if position < len(kind.arguments) else ""
            operand = held.get(argument)
            if isinstance(operand, torch.Tensor):
                number = self._number(operand, kind)
                if number is None:
                    self.found.append(CutInput(operand, place, position))
                elif number:
                    data["options"] = {**data.get("options", {}), "other": number}
                else:
                    unknown += 1
            elif not _is_absent(node, kind, argument, data["buffers"]):
                unknown += 1
        if unknown:
            data["untracked_inputs"] = unknown

    def _number(self, operand: torch.Tensor, kind: OperationType) -> str | None:
        """The text of a number; "" if it cannot be read; None if it is a tensor with a place."""
        if operand.dim() or id(operand) in self.labels.by_id:
            return None
        readable = operation(kind.op).number and type(operand) is torch.Tensor
        if not readable or not operand.is_cpu:
            return ""
        try:
            return number_text(operand.item())
        except Exception:  # a tensor inside a transform of torch.func, say
            return ""


def _is_absent(node: Node, kind: OperationType, argument: str, buffers: Buffers) -> bool:
    """Whether an optional argument was not given, as far as the operation can prove it."""
    if argument == "bias" and kind.grad_fn == "ConvolutionBackward0":
        return has_no_bias(node)
    return buffers is Buffers.HELD and argument in operation(kind.op).optional


class NodePlaces:
    """Finds a tensor's name by where it lies, for views that are not the named object itself.

    Only tensors that require no grad are considered: a detached copy of ``y`` is not ``y``.
    """

    def __init__(self, labels: Labels) -> None:
        self._names: dict[tuple[object, ...], str] = {}
        for named in labels.by_id.values():
            if not named.tensor.requires_grad:
                place = place_of(named.tensor)
                if place is not None:
                    self._names.setdefault(place, named.name)

    @staticmethod
    def identity(tensor: torch.Tensor) -> object:
        """What two equal views of the same memory have in common."""
        return place_of(tensor) or id(tensor)

    def name_of(self, tensor: torch.Tensor) -> str:
        """The name of the tensor, of its transpose with ``.t()`` behind, or ""."""
        place = place_of(tensor)
        if place is None:
            return ""
        if place in self._names:
            return self._names[place]
        flipped = (*place[:-2], tuple(tensor.shape)[::-1], tensor.stride()[::-1])
        name = self._names.get(flipped, "") if tensor.dim() == 2 else ""
        return f"{name}.t()" if name else ""
