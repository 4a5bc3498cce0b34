"""Puts what the walk found and the readers read into a `GradGraph`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.graph import GradientEdge, Node

from gradviz.capture.autograd.nodes import ACCUMULATE, NodeReader, leaf_of
from gradviz.capture.autograd.tensors import hook_count, is_transformed, version_of
from gradviz.capture.tensors.names import Names
from gradviz.capture.tensors.subjects import Subject, maker_of
from gradviz.capture.tensors.summary import FEW, summarize
from gradviz.capture.tracing.labels import Labels, path_name
from gradviz.capture.tracing.untracked import NodePlaces, UntrackedInputs
from gradviz.capture.tracing.walk import NO_GRADIENT, Walk, key_at
from gradviz.graph import Cause, EdgeData, EdgeKind, GradGraph, NodeKind, TensorSummary

__all__ = ["Builder"]


@dataclass(frozen=True, eq=False)
class _Reading:
    """A tensor to be summarised, together with all others.

    Args:
        data: the attributes of the node that gets the summary.
        tensor: the tensor.
        whole: read its statistics when it has many elements.
        shape: give the node the tensor's shape, dtype and device too.
    """

    data: dict[str, Any]
    tensor: torch.Tensor
    whole: bool = False
    shape: bool = True


class Builder:
    """Builds one graph, in the order of its methods.

    Args:
        names: what to call the tensors.
    """

    def __init__(self, names: Names) -> None:
        self.graph = GradGraph()
        self.walk = Walk(self.graph._node)
        self._reader = NodeReader()
        self._labels = Labels(names)
        self._untracked = UntrackedInputs(self._labels)
        self._untracked_places: dict[object, int] = {}
        self._results: dict[tuple[Node, int], int] = {}
        self._readings: list[_Reading] = []
        self._gradients: list[tuple[dict[str, Any], torch.Tensor]] = []
        self._roots = 0

    def add_roots(self, subjects: Sequence[Subject]) -> None:
        """Add a node for each tensor that was asked for."""
        for subject in subjects:
            value = subject.value
            if isinstance(value, GradientEdge):
                leaf = leaf_of(value.node)
                if leaf is None:
                    self._add_result(value.node, value.output_nr, subject)
                else:
                    self._add_leaf_root(leaf, subject)
            elif (node := maker_of(value)) is not None:
                self._add_result(node, value.output_nr, subject)
            elif value.requires_grad:
                self._add_leaf_root(value, subject)
            else:
                self._add_untracked_root(value, subject)

    def _next_root(self) -> int:
        self._roots += 1
        return self._roots - 1

    def _add_result(self, node: Node, output: int, subject: Subject) -> None:
        if (node, output) in self._results:
            return
        data: dict[str, Any] = {"kind": NodeKind.RESULT}
        if isinstance(subject.value, torch.Tensor):
            self._put_tensor_facts(subject.value, data, path_name(subject.path))
            self._readings.append(_Reading(data, subject.value, whole=True))
        else:
            shape, dtype, device = self._reader.read_output(node, output)
            if shape is not None:
                data.update(shape=shape, dtype=dtype, device=device)
            named = self._labels.by_output.get((node, output))
            if name := named.name if named else path_name(subject.path):
                data["name"] = name
        data["root"] = self._next_root()
        self._results[node, output] = self.walk.add(data)

    def _add_leaf_root(self, leaf: torch.Tensor, subject: Subject) -> None:
        if id(leaf) not in self.walk.leaf_places:
            self._add_leaf(leaf, path_name(subject.path), root=self._next_root())

    def _add_untracked_root(self, tensor: torch.Tensor, subject: Subject) -> None:
        if id(tensor) not in self._untracked_places:
            place = self._add_untracked(tensor, path_name(subject.path), root=self._next_root())
            self._untracked_places[id(tensor)] = place

    def add_nodes(self) -> None:
        """Walk everything below the roots and add it, then the tensors outside the graph."""
        walk, reader, nodes = self.walk, self._reader, self.walk.nodes
        for node, place, edges in walk.visit([node for node, _ in self._results]):
            if not edges and (leaf := walk.leaf_at(node)) is not None:
                self._add_leaf_of(place, leaf)
                continue
            kind, data, saved = reader.read(node, edges)
            if NO_GRADIENT in edges:
                self._untracked.look((place, node, kind), edges, saved, data)
            nodes[f"n{place}"] = data
        for leaf in walk.leaves.values():
            reader.spare(leaf, nodes[key_at(walk.leaf_places[id(leaf)])])
        for (node, output), place in self._results.items():
            walk.edges.add(walk.places[node], place, 0, _from_output(output))
        self._count_creation_from_zero()
        self._name_operations()
        self._add_cuts()
        self.graph.take_columns(walk.edges.by_source())

    def _count_creation_from_zero(self) -> None:
        """Torch counts on through the whole process; the same program shall give the same graph."""
        operations = [data for data in self.walk.nodes.values() if "sequence_nr" in data]
        first = min((data["sequence_nr"] for data in operations), default=0)
        for data in operations:
            data["sequence_nr"] -= first

    def _add_leaf_of(self, place: int, leaf: torch.Tensor) -> None:
        """Say what an ``AccumulateGrad`` node is, and add its leaf."""
        self.walk.nodes[key_at(place)] = {
            "kind": NodeKind.ACCUMULATE,
            "op": "accumulate_grad",
            "grad_fn": ACCUMULATE,
        }
        if id(leaf) not in self.walk.leaf_places:
            self._add_leaf(leaf, "")
        self.walk.edges.add(self.walk.leaf_places[id(leaf)], place, 0)

    def _add_leaf(self, leaf: torch.Tensor, name: str, **more: Any) -> None:
        is_parameter = isinstance(leaf, torch.nn.Parameter)
        data: dict[str, Any] = {"kind": NodeKind.PARAMETER if is_parameter else NodeKind.LEAF}
        self._put_tensor_facts(leaf, data, name)
        data.update(more)
        self._read_later(leaf, data)
        self.walk.leaf_places[id(leaf)] = self.walk.add(data)

    def _add_untracked(self, tensor: torch.Tensor, name: str, **more: Any) -> int:
        data: dict[str, Any] = {"kind": NodeKind.UNTRACKED}
        self._put_tensor_facts(tensor, data, name)
        if not tensor.requires_grad:
            data["requires_grad"] = False
        data["is_leaf"] = tensor.is_leaf
        if tensor.is_inference():
            data["inference"] = True
        if is_transformed(tensor):
            data["opaque"] = "inside a torch.func transform"
        data.update(more)
        self._read_later(tensor, data)
        return self.walk.add(data)

    def _read_later(self, tensor: torch.Tensor, data: dict[str, Any]) -> None:
        """Note down a tensor for the summaries, unless shape, dtype and device are all there is."""
        whole = "root" in data
        if whole or tensor.numel() <= FEW or not self._reader.read_tensor(tensor, data):
            self._readings.append(_Reading(data, tensor, whole))

    def _put_tensor_facts(self, tensor: torch.Tensor, data: dict[str, Any], name: str) -> None:
        """Fill in what only the tensor itself knows: name, gradient, version and hooks."""
        named = self._labels.of(tensor)
        if named is not None:
            name = named.name
            if named.aliases:
                data["aliases"] = named.aliases
        if name:
            data["name"] = name
        if tensor.requires_grad:
            self._put_gradient(tensor, data)
        if version := version_of(tensor):
            data["version"] = version
        if hooks := hook_count(tensor):
            data["hooks"] = hooks

    def _put_gradient(self, tensor: torch.Tensor, data: dict[str, Any]) -> None:
        """``.grad``, if the tensor keeps one: torch warns when another is asked."""
        if not tensor.is_leaf:
            if not tensor.retains_grad:
                return
            data["retains_grad"] = True
        gradient = tensor.grad
        data["grad"] = None
        if gradient is not None:
            self._gradients.append((data, gradient))

    def _name_operations(self) -> None:
        """Put the names of tensors on the operations that made them."""
        outputs: dict[Node, dict[int, Any]] = {}
        for (node, output), named in self._labels.by_output.items():
            if node in self.walk.places and (node, output) not in self._results:
                outputs.setdefault(node, {})[output] = named
        for node, by_number in outputs.items():
            data = self.walk.nodes[key_at(self.walk.places[node])]
            if data.get("outputs", 1) == 1:
                named = by_number[0]
                self._put_tensor_facts(named.tensor, data, "")
                self._readings.append(_Reading(data, named.tensor, shape=False))
            else:
                data["name"] = ", ".join(by_number[number].name for number in sorted(by_number))

    def _add_cuts(self) -> None:
        """Add the tensors that operations saved and to which no gradient goes."""
        if not self._untracked.found:
            return
        places = NodePlaces(self._labels)
        for cut in self._untracked.found:
            source = self.walk.leaf_places.get(id(cut.tensor))
            if source is None:
                source = self._place_of(cut.tensor, places)
            data: EdgeData = {
                "kind": EdgeKind.CUT,
                "input": cut.position,
                "output": 0,
                "cause": Cause.NOT_RECORDED,
            }
            self.walk.edges.add(source, cut.target, cut.position, data)

    def _place_of(self, tensor: torch.Tensor, places: NodePlaces) -> int:
        """The place of an untracked tensor; equal views of the same memory share one."""
        place = self._untracked_places.get(id(tensor))
        if place is None:
            identity = places.identity(tensor)
            place = self._untracked_places.get(identity)
            if place is None:
                place = self._add_untracked(tensor, places.name_of(tensor))
                self._untracked_places[id(tensor)] = self._untracked_places[identity] = place
        return place

    def add_readings(self) -> None:
        """Summarise all tensors at once, and put the summaries on their nodes."""
        for whole in (False, True):
            some = [reading for reading in self._readings if reading.whole is whole]
            found = summarize([reading.tensor for reading in some], values_only_if_small=not whole)
            for reading, summary in zip(some, found, strict=True):
                data = reading.data
                if reading.shape:
                    data["shape"] = summary.shape
                    data["dtype"], data["device"] = summary.dtype, summary.device
                if whole or _says_something(summary):
                    data["value"] = summary
        gradients = summarize([gradient for _, gradient in self._gradients])
        for (data, _), summary in zip(self._gradients, gradients, strict=True):
            data["grad"] = summary


def _says_something(summary: TensorSummary) -> bool:
    return summary.values is not None or bool(summary.note)


def _from_output(output: int) -> EdgeData | None:
    """The attributes of an edge into what was asked for: its one input."""
    return {"kind": EdgeKind.GRADIENT, "input": 0, "output": output} if output else None
