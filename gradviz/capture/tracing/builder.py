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
from gradviz.capture.tensors.subjects import Subject
from gradviz.capture.tensors.summary import FEW, summarize
from gradviz.capture.tracing.insertion import Insertion
from gradviz.capture.tracing.labels import Labels, path_name
from gradviz.capture.tracing.untracked import Places, UntrackedInputs
from gradviz.capture.tracing.walk import NO_GRADIENT, Walk
from gradviz.graph import Cause, EdgeKind, GradGraph, NodeKind, TensorSummary

__all__ = ["Builder"]


@dataclass(frozen=True, eq=False)
class _Reading:
    """A tensor to be summarised, together with all others.

    Args:
        key: the node that gets the summary.
        tensor: the tensor.
        whole: read its statistics when it has many elements.
        shape: give the node the tensor's shape, dtype and device too.
    """

    key: str
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
        self._insertion = Insertion(self.graph)
        self.walk = Walk(self._insertion)
        self._reader = NodeReader()
        self._labels = Labels(names)
        self._untracked = UntrackedInputs(self._labels)
        self._untracked_keys: dict[object, str] = {}
        self._results: dict[tuple[Node, int], str] = {}
        self._readings: list[_Reading] = []
        self._gradients: list[tuple[str, torch.Tensor]] = []
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
            elif value.grad_fn is not None:
                self._add_result(value.grad_fn, value.output_nr, subject)
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
        key = self._results[node, output] = self.walk.new_key()
        data: dict[str, Any] = {"kind": NodeKind.RESULT}
        if isinstance(subject.value, torch.Tensor):
            self._put_tensor_facts(key, subject.value, data, path_name(subject.path))
            self._readings.append(_Reading(key, subject.value, whole=True))
        else:
            shape, dtype, device = self._reader.read_output(node, output)
            if shape is not None:
                data.update(shape=shape, dtype=dtype, device=device)
            named = self._labels.by_output.get((node, output))
            if name := named.name if named else path_name(subject.path):
                data["name"] = name
        data["root"] = self._next_root()
        self._insertion.add_node(key, data)

    def _add_leaf_root(self, leaf: torch.Tensor, subject: Subject) -> None:
        if id(leaf) not in self.walk.leaf_keys:
            key = self.walk.leaf_keys[id(leaf)] = self.walk.new_key()
            self._add_leaf(key, leaf, path_name(subject.path), root=self._next_root())

    def _add_untracked_root(self, tensor: torch.Tensor, subject: Subject) -> None:
        if id(tensor) not in self._untracked_keys:
            key = self._add_untracked(tensor, path_name(subject.path), root=self._next_root())
            self._untracked_keys[id(tensor)] = key

    def add_nodes(self) -> None:
        """Walk everything below the roots and add it, then the tensors outside the graph."""
        walk, reader, nodes = self.walk, self._reader, self._insertion.nodes
        for node, key, edges in walk.visit([node for node, _ in self._results]):
            if not edges and (leaf := walk.leaf_at(node)) is not None:
                self._add_leaf_of(key, leaf)
                continue
            kind, data, saved = reader.read(node, edges)
            if NO_GRADIENT in edges:
                self._untracked.look((key, node, kind), edges, saved, data)
            nodes[key] = data
        nodes_of_leaves = ((leaf, nodes[walk.leaf_keys[id(leaf)]]) for leaf in walk.leaves.values())
        reader.spare(nodes_of_leaves)
        for (node, output), key in self._results.items():
            self._insertion.add_edge(walk.keys[node], key, 0, _gradient(output))
        self._count_creation_from_zero()
        self._name_operations()
        self._add_cuts()

    def _count_creation_from_zero(self) -> None:
        """Torch counts on through the whole process; the same program shall give the same graph."""
        operations = [data for data in self._insertion.nodes.values() if "sequence_nr" in data]
        first = min((data["sequence_nr"] for data in operations), default=0)
        for data in operations:
            data["sequence_nr"] -= first

    def _add_leaf_of(self, key: str, leaf: torch.Tensor) -> None:
        """Say what an ``AccumulateGrad`` node is, and add its leaf."""
        self._insertion.nodes[key] = {
            "kind": NodeKind.ACCUMULATE,
            "op": "accumulate_grad",
            "grad_fn": ACCUMULATE,
        }
        leaf_key = self.walk.leaf_keys[id(leaf)]
        if leaf_key not in self._insertion.nodes:
            self._add_leaf(leaf_key, leaf, "")
        self._insertion.add_edge(leaf_key, key, 0, _gradient(0))

    def _add_leaf(self, key: str, leaf: torch.Tensor, name: str, **more: Any) -> None:
        is_parameter = isinstance(leaf, torch.nn.Parameter)
        data: dict[str, Any] = {"kind": NodeKind.PARAMETER if is_parameter else NodeKind.LEAF}
        self._put_tensor_facts(key, leaf, data, name)
        data.update(more)
        self._read_later(key, leaf, data)
        self._insertion.add_node(key, data)

    def _add_untracked(self, tensor: torch.Tensor, name: str, **more: Any) -> str:
        key = self.walk.new_key()
        data: dict[str, Any] = {"kind": NodeKind.UNTRACKED}
        self._put_tensor_facts(key, tensor, data, name)
        if not tensor.requires_grad:
            data["requires_grad"] = False
        data["is_leaf"] = tensor.is_leaf
        if tensor.is_inference():
            data["inference"] = True
        if is_transformed(tensor):
            data["opaque"] = "inside a torch.func transform"
        data.update(more)
        self._read_later(key, tensor, data)
        self._insertion.add_node(key, data)
        return key

    def _read_later(self, key: str, tensor: torch.Tensor, data: dict[str, Any]) -> None:
        """Note down a tensor for the summaries, unless shape, dtype and device are all there is."""
        whole = "root" in data
        if whole or tensor.numel() <= FEW or not self._reader.read_tensor(tensor, data):
            self._readings.append(_Reading(key, tensor, whole))

    def _put_tensor_facts(
        self, key: str, tensor: torch.Tensor, data: dict[str, Any], name: str
    ) -> None:
        """Fill in what only the tensor itself knows: name, gradient, version and hooks."""
        named = self._labels.of(tensor)
        if named is not None:
            name = named.name
            if named.aliases:
                data["aliases"] = named.aliases
        if name:
            data["name"] = name
        if tensor.requires_grad:
            self._put_gradient(key, tensor, data)
        if version := version_of(tensor):
            data["version"] = version
        if hooks := hook_count(tensor):
            data["hooks"] = hooks

    def _put_gradient(self, key: str, tensor: torch.Tensor, data: dict[str, Any]) -> None:
        """``.grad``, if the tensor keeps one: torch warns when another is asked."""
        if not tensor.is_leaf:
            if not tensor.retains_grad:
                return
            data["retains_grad"] = True
        gradient = tensor.grad
        data["grad"] = None
        if gradient is not None:
            self._gradients.append((key, gradient))

    def _name_operations(self) -> None:
        """Put the names of tensors on the operations that made them."""
        outputs: dict[Node, dict[int, Any]] = {}
        for (node, output), named in self._labels.by_output.items():
            if node in self.walk.keys and (node, output) not in self._results:
                outputs.setdefault(node, {})[output] = named
        for node, by_number in outputs.items():
            key = self.walk.keys[node]
            data = self._insertion.nodes[key]
            if data.get("outputs", 1) == 1:
                named = by_number[0]
                self._put_tensor_facts(key, named.tensor, data, "")
                self._readings.append(_Reading(key, named.tensor, shape=False))
            else:
                data["name"] = ", ".join(by_number[number].name for number in sorted(by_number))

    def _add_cuts(self) -> None:
        """Add the tensors that operations saved and to which no gradient goes."""
        if not self._untracked.found:
            return
        places = Places(self._labels)
        for cut in self._untracked.found:
            source = self.walk.leaf_keys.get(id(cut.tensor)) or self._key_of(cut.tensor, places)
            data = {
                "kind": EdgeKind.CUT,
                "input": cut.position,
                "output": 0,
                "cause": Cause.NOT_RECORDED,
            }
            self._insertion.add_edge(source, cut.target, cut.position, data)

    def _key_of(self, tensor: torch.Tensor, places: Places) -> str:
        """The key of an untracked tensor; equal views of the same memory share one."""
        key = self._untracked_keys.get(id(tensor))
        if key is None:
            identity = places.identity(tensor)
            key = self._untracked_keys.get(identity)
            if key is None:
                key = self._add_untracked(tensor, places.name_of(tensor))
                self._untracked_keys[id(tensor)] = self._untracked_keys[identity] = key
        return key

    def add_readings(self) -> None:
        """Summarise all tensors at once, and put the summaries on their nodes."""
        for whole in (False, True):
            some = [reading for reading in self._readings if reading.whole is whole]
            found = summarize([reading.tensor for reading in some], values_only_if_small=not whole)
            for reading, summary in zip(some, found, strict=True):
                data = self._insertion.nodes[reading.key]
                if reading.shape:
                    data["shape"] = summary.shape
                    data["dtype"], data["device"] = summary.dtype, summary.device
                if whole or _says_something(summary):
                    data["value"] = summary
        gradients = summarize([gradient for _, gradient in self._gradients])
        for (key, _), summary in zip(self._gradients, gradients, strict=True):
            self._insertion.nodes[key]["grad"] = summary


def _says_something(summary: TensorSummary) -> bool:
    return summary.values is not None or bool(summary.note)


def _gradient(output: int) -> dict[str, Any]:
    return {"kind": EdgeKind.GRADIENT, "input": 0, "output": output}
