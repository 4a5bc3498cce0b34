"""`trace`: takes a snapshot of what autograd recorded, as a `GradGraph` of plain values."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.autograd.graph import GradientEdge, Node

from gradviz.capture.autograd.nodes import (
    ACCUMULATE,
    NodeReader,
    leaf_of,
    parameters_inside,
)
from gradviz.capture.autograd.sharded import flat_name, flat_parameters, waiting_gradient
from gradviz.capture.autograd.tensors import (
    counts_of,
    is_transformed,
    is_unsure,
    memory_of,
    quietly,
)
from gradviz.capture.tensors.names import Named, Names, Subject, flatten, maker_of
from gradviz.capture.tensors.summary import FEW, summarize
from gradviz.capture.walk import NO_GRADIENT, UntrackedInputs, Walk, key_at, make_safe_to_drop
from gradviz.graph import Cause, EdgeData, EdgeKind, GradGraph, NodeKind
from gradviz.graph.columns import collector_paused
from gradviz.graph.operations import REENTRANT

_Parameter = torch.nn.Parameter  # its metaclass makes ``isinstance`` slow


class _Reading(NamedTuple):
    """A tensor to be summarized together with all others."""

    data: dict[str, Any]  # the attributes of the node that gets the summary
    tensor: torch.Tensor  # the tensor
    whole: bool = False  # compute the statistics of a large tensor too
    shape: bool = True  # also add the tensor's shape, dtype and device to the node


class TensorFacts:
    """Reads the attributes of nodes that stand for tensors; all values are summarized at once.

    Args:
        labels: the names of tensors.
    """

    def __init__(self, labels: Labels) -> None:
        self._labels = labels
        self._readings: list[_Reading] = []
        self._gradients: list[tuple[dict[str, Any], torch.Tensor]] = []

    def of_result(self, tensor: torch.Tensor, name: str) -> dict[str, Any]:
        """The attributes of a tensor that an operation computed; its values are read too."""
        data: dict[str, Any] = {"kind": NodeKind.RESULT}
        self._put(tensor, data, name)
        self.read(tensor, data, whole=True)
        return data

    def of_leaf(self, leaf: torch.Tensor, name: str) -> dict[str, Any]:
        """The attributes of a leaf that requires grad, or did in the forward pass."""
        is_parameter = type(leaf) is _Parameter or isinstance(leaf, _Parameter)
        data: dict[str, Any] = {"kind": NodeKind.PARAMETER if is_parameter else NodeKind.LEAF}
        if not leaf.requires_grad:  # it was frozen after the forward pass
            data["requires_grad"] = False
        self._put(leaf, data, name)
        return data

    def of_untracked(self, tensor: torch.Tensor, name: str) -> dict[str, Any]:
        """The attributes of a tensor that receives no gradient."""
        data: dict[str, Any] = {"kind": NodeKind.UNTRACKED}
        self._put(tensor, data, name)
        if not tensor.requires_grad:
            data["requires_grad"] = False
        data["is_leaf"] = tensor.is_leaf
        if tensor.is_inference():
            data["inference"] = True
        if is_transformed(tensor):
            data["opaque"] = "inside a torch.func transform"
        return data

    def add_output(self, data: dict[str, Any], tensor: torch.Tensor) -> None:
        """Add what is known of its only output to an operation."""
        self._put(tensor, data, "")
        self.read(tensor, data, shape=False)

    def read(self, tensor: torch.Tensor, data: dict[str, Any], **how: bool) -> None:
        """Summarize a tensor with all others; ``how`` as for `_Reading`."""
        self._readings.append(_Reading(data, tensor, **how))

    def _put(self, tensor: torch.Tensor, data: dict[str, Any], name: str) -> None:
        """Add what is read from the tensor itself: name, gradient, version and hooks."""
        named = self._labels.of(tensor)
        if named is not None:
            name = named.name
            if named.aliases:
                data["aliases"] = named.aliases
        if name := name or flat_name(tensor):
            data["name"] = name
        if tensor.requires_grad or data["kind"] is not NodeKind.UNTRACKED:
            self._put_gradient(tensor, data)  # a leaf that was frozen since keeps it
        if counts := counts_of(tensor):
            data.update(counts)

    def _put_gradient(self, tensor: torch.Tensor, data: dict[str, Any]) -> None:
        """``.grad`` of a leaf, or of a tensor that retains it; torch warns for any other."""
        if not tensor.is_leaf:
            if not tensor.retains_grad:
                return
            data["retains_grad"] = True
        gradient = tensor.grad
        data["grad"] = None
        if gradient is not None:
            self._gradients.append((data, gradient))
        elif waiting_gradient(tensor) is not None:
            data["unreduced"] = True

    def add_readings(self) -> None:
        """Summarize all tensors at once, and add the summaries to their nodes."""
        readings, gradients = self._readings, self._gradients
        tensors = [*(each.tensor for each in readings), *(gradient for _, gradient in gradients)]
        only_small = [*(not each.whole for each in readings), *(False for _ in gradients)]
        found = iter(summarize(tensors, only_small, with_bins=True))
        for reading, summary in zip(readings, found, strict=False):
            data = reading.data
            if reading.shape:
                data["shape"] = summary.shape
                data["dtype"], data["device"] = summary.dtype, summary.device
            if reading.whole or summary.values is not None or summary.note:
                data["value"] = summary
        for (data, _), summary in zip(gradients, found, strict=True):
            data["grad"] = summary


def facts_of(tensors: Sequence[torch.Tensor], names: Names) -> list[dict[str, Any]]:
    """The attributes that `trace` gives the nodes of its roots, without their graph."""
    facts, found = TensorFacts(Labels(names)), []
    for number, tensor in enumerate(tensors):
        if maker_of(tensor) is not None:
            data = facts.of_result(tensor, "")
        else:
            data = (facts.of_leaf if tensor.requires_grad else facts.of_untracked)(tensor, "")
            facts.read(tensor, data, whole=True)
        data["root"] = number
        found.append(data)
    facts.add_readings()
    return found


class Builder:
    """Builds one graph; its methods must be called in order.

    Args:
        names: the names of tensors.
    """

    def __init__(self, names: Names) -> None:
        self.graph = GradGraph()
        self.walk = Walk(self.graph._node)
        self._reader = NodeReader()
        self._labels = Labels(names)
        self.facts = TensorFacts(self._labels)
        self._untracked = UntrackedInputs(self._labels.by_id)
        self._untracked_positions: dict[object, int] = {}
        self._results: dict[tuple[Node, int], int] = {}
        self._roots = 0

    def add_roots(self, subjects: Sequence[Subject]) -> None:
        """Add a node for each tensor that was passed."""
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
        if isinstance(subject.value, torch.Tensor):
            data = self.facts.of_result(subject.value, path_name(subject.path))
        else:
            data = {"kind": NodeKind.RESULT}
            shape, dtype, device = self._reader.read_output(node, output)
            if shape is not None:
                data.update(shape=shape, dtype=dtype, device=device)
            named = self._labels.by_output.get((node, output))
            if name := named.name if named else path_name(subject.path):
                data["name"] = name
        data["root"] = self._next_root()
        self._results[node, output] = self.walk.add(data)

    def _add_leaf_root(self, leaf: torch.Tensor, subject: Subject) -> None:
        if id(leaf) not in self.walk.leaf_positions:
            self._add_leaf(leaf, path_name(subject.path), root=self._next_root())

    def _add_untracked_root(self, tensor: torch.Tensor, subject: Subject) -> None:
        if id(tensor) not in self._untracked_positions:
            place = self._add_untracked(tensor, path_name(subject.path), root=self._next_root())
            self._untracked_positions[id(tensor)] = place

    def add_nodes(self) -> None:
        """Add the roots' ancestors, then the untracked tensors."""
        walk, reader, nodes = self.walk, self._reader, self.walk.nodes
        several: dict[int, Node] = {}
        for node, place, edges in walk.visit([node for node, _ in self._results]):
            if not edges and (leaf := walk.leaf_at(node)) is not None:
                self._add_leaf_of(place, leaf)
                continue
            kind, data, saved = reader.read(node, edges)
            if NO_GRADIENT in edges:
                self._untracked.look((place, node, kind), edges, saved, data)
            if kind.opaque == REENTRANT:
                named = map(self._labels.of, parameters_inside(node))
                if inside := tuple(each.name for each in named if each is not None):
                    data["runs_with"] = inside
            if "outputs" in data:
                several[place] = node
            nodes[f"n{place}"] = data
        for leaf in walk.leaves.values():
            reader.spare(leaf, nodes[key_at(walk.leaf_positions[id(leaf)])])
        for (node, output), place in self._results.items():
            walk.edges.add(walk.positions[node], place, 0, _from_output(output))
        if several:
            self._read_used_outputs(several)
        self._count_creation_from_zero()
        self._name_operations()
        self._add_cuts()
        self.graph.take_columns(walk.edges.by_source())

    def _read_used_outputs(self, several: dict[int, Node]) -> None:
        """Give operations with several outputs the facts that their used outputs share."""
        edges, used = self.walk.edges, {place: set[int]() for place in several}
        for row in np.flatnonzero(np.isin(edges.sources, list(several))).tolist():
            used[edges.sources[row]].add(edges.data(row)["output"])
        for place, node in several.items():
            data = self.walk.nodes[key_at(place)]
            outputs = [self._reader.read_output(node, output) for output in used[place]]
            for at, fact in enumerate(("shape", "dtype", "device")):
                found = {output[at] for output in outputs}
                data.pop(fact, None)
                if len(found) == 1 and None not in found:
                    data[fact] = found.pop()

    def _count_creation_from_zero(self) -> None:
        """Start the sequence numbers at 0; torch counts through the whole process."""
        operations = [data for data in self.walk.nodes.values() if "sequence_nr" in data]
        first = min((data["sequence_nr"] for data in operations), default=0)
        for data in operations:
            data["sequence_nr"] -= first

    def _add_leaf_of(self, place: int, leaf: torch.Tensor) -> None:
        """Add the attributes of an ``AccumulateGrad`` node, and its leaf."""
        data = {"kind": NodeKind.ACCUMULATE, "op": "accumulate_grad", "grad_fn": ACCUMULATE}
        self.walk.nodes[key_at(place)] = data
        if id(leaf) not in self.walk.leaf_positions:
            self._add_leaf(leaf, "")
        self.walk.edges.add(self.walk.leaf_positions[id(leaf)], place, 0)

    def _add_leaf(self, leaf: torch.Tensor, name: str, **more: Any) -> None:
        data = self.facts.of_leaf(leaf, name)
        data.update(more)
        self._read_later(leaf, data)
        self.walk.leaf_positions[id(leaf)] = self.walk.add(data)

    def _add_untracked(self, tensor: torch.Tensor, name: str, **more: Any) -> int:
        data = self.facts.of_untracked(tensor, name)
        data.update(more)
        self._read_later(tensor, data)
        return self.walk.add(data)

    def _read_later(self, tensor: torch.Tensor, data: dict[str, Any]) -> None:
        """Schedule a tensor to be summarized, unless only shape, dtype and device are shown."""
        whole = "root" in data
        if whole or tensor.numel() <= FEW or not self._reader.read_tensor(tensor, data):
            self.facts.read(tensor, data, whole=whole)

    def _name_operations(self) -> None:
        """Name operations after their results."""
        outputs: dict[Node, dict[int, Any]] = {}
        for (node, output), named in self._labels.by_output.items():
            if node in self.walk.positions and (node, output) not in self._results:
                outputs.setdefault(node, {})[output] = named
        for node, by_number in outputs.items():
            data = self.walk.nodes[key_at(self.walk.positions[node])]
            if data.get("outputs", 1) == 1:
                self.facts.add_output(data, by_number[0].tensor)
            else:
                data["name"] = ", ".join(by_number[number].name for number in sorted(by_number))

    def _add_cuts(self) -> None:
        """Add the saved tensors that receive no gradient."""
        if not self._untracked.found:
            return
        places = NodePlaces(self._labels)
        for cut in self._untracked.found:
            source = self.walk.leaf_positions.get(id(cut.tensor))
            if source is None:
                source = self._place_of(cut.tensor, places)
            data: EdgeData = {"kind": EdgeKind.CUT, "input": cut.position, "output": 0}
            data["cause"] = Cause.NOT_RECORDED
            self.walk.edges.add(source, cut.target, cut.position, data)

    def _place_of(self, tensor: torch.Tensor, places: NodePlaces) -> int:
        """The position of an untracked tensor, shared by equal views of the same memory."""
        place = self._untracked_positions.get(id(tensor))
        if place is None:
            identity = places.identity(tensor)
            place = self._untracked_positions.get(identity)
            if place is None:
                place = self._add_untracked(tensor, places.name_of(tensor))
                self._untracked_positions[id(tensor)] = self._untracked_positions[identity] = place
        return place


def _from_output(output: int) -> EdgeData | None:
    """The attributes of the edge into a root."""
    return {"kind": EdgeKind.GRADIENT, "input": 0, "output": output} if output else None


_FIRST_STEP = re.compile(r"^(?:\.(\w+)|\['([^']*)'\])")


class Labels:
    """Finds the name of a tensor, or of the output of a node.

    Attributes:
        by_id: leaves, untracked tensors and those whose ``grad_fn`` must not be read, by their
            ``id``; the names hold them.
        by_output: the others, by node and output number.
    """

    def __init__(self, names: Names) -> None:
        self.by_id: dict[int, Named] = {id(named.tensor): named for named in names.unsure}
        self.by_output: dict[tuple[Node, int], Named] = {}
        for named in names.readable:
            node = named.tensor.grad_fn
            if node is None:
                self.by_id.setdefault(id(named.tensor), named)
            else:
                self.by_output.setdefault((node, named.tensor.output_nr), named)

    def of(self, tensor: torch.Tensor) -> Named | None:
        """The name of a tensor, or None."""
        found = self.by_id.get(id(tensor))
        if found is not None or is_unsure(tensor) or (node := tensor.grad_fn) is None:
            return found
        return self.by_output.get((node, tensor.output_nr))


def path_name(path: str) -> str:
    """The name of a tensor from its path in a container, without a variable.

    Example:
        >>> path_name(".logits"), path_name("['loss']"), path_name("['a'][0]"), path_name("[1]")
        ('logits', 'loss', 'a[0]', '[1]')
    """
    return _FIRST_STEP.sub(lambda found: found[1] or found[2], path)


def copy_graph(graph: GradGraph, keys: Mapping[str, str] | None = None) -> GradGraph:
    """Copy a graph, optionally with other keys; faster than networkx's own method.

    Example:
        >>> graph = GradGraph()
        >>> graph.add_node("n0", name="x")
        >>> copy = copy_graph(graph, {"n0": "n7"})
        >>> copy.nodes["n7"]["name"] = "y"
        >>> list(copy), graph.nodes["n0"]["name"]
        (['n7'], 'x')
    """
    copy = GradGraph()
    copy.graph.update(graph.graph)
    names = map(keys.__getitem__, graph._node) if keys else graph._node
    copy._node.update(zip(names, map(dict, graph._node.values()), strict=True))
    return copy.take_columns(graph.edge_columns())


def trace(*subjects: object, names: object = None) -> GradGraph:
    """Take a snapshot of the graph that autograd recorded for some tensors.

    It has no side effects: no hook runs, nothing is recomputed or unpacked, no tensor is kept
    alive.

    Args:
        subjects: tensors, or tuples, lists, dicts and dataclasses of them, or of ``GradientEdge``.
            They become the roots of the graph, in this order.
        names: an ``nn.Module``, whose tensors are named by their paths in it and all others by
            their variables; a dict of name to tensor, which names only these; None for the
            variables of the calling code, ``{}`` for no names.

    Returns:
        The graph. It is a ``networkx.MultiDiGraph`` whose edges run from input to output;
        `NodeData` lists the attributes of each node.

    Raises:
        SubjectError: if ``subjects`` contains nothing that autograd knows.
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
        return trace_subjects(subjects, Names.of(names, sys._getframe(1)), caller="trace")


def trace_subjects(
    subjects: tuple[object, ...],
    names: Names,
    look: Callable[[Walk], object] | None = None,
    caller: str = "draw",
) -> GradGraph:
    """`trace` with names that were found before.

    Args:
        subjects: as for `trace`.
        names: the names of tensors.
        look: called with the nodes and leaves of the graph; it must not keep them.
        caller: the verb of the function that was called, for messages.

    Returns:
        The graph.

    Raises:
        SubjectError: if ``subjects`` contains nothing that autograd knows.
    """
    with quietly(), collector_paused():
        builder = Builder(names)
        try:
            builder.add_roots(flatten(subjects, caller))
            builder.add_nodes()
            builder.facts.add_readings()
            if look is not None:
                look(builder.walk)
        finally:
            make_safe_to_drop(builder.walk)
        builder.graph.graph["torch"] = str(torch.__version__)
        if look is None:  # it was not recorded whether leaves have changed since they were used
            builder.graph.graph["is_traced"] = True
        if modules := _modules_in(builder.graph, names.modules):
            builder.graph.graph["modules"] = modules
            merged = flat_parameters((), builder.walk.leaves.values())
            builder.graph.graph.update(_other_parameters(names, modules, builder.walk, merged))
            if merged:
                builder.graph.graph["is_merged"] = True
        return builder.graph


def _other_parameters(
    names: Names, modules: Mapping[str, str], walk: Walk, merged: Container[int]
) -> dict[str, dict[str, int]]:
    """The numbers of elements of the parameters of these modules that are not in the graph.

    They are ``frozen`` if they do not require grad, else ``unreached``. Those that are merged into
    a parameter of the graph are none of them.
    """
    found: dict[str, dict[str, int]] = {}
    for tensor, name, _ in names:
        is_unused = not tensor.requires_grad or id(tensor) not in walk.leaf_positions
        if not is_unused or name.rpartition(".")[0] not in modules:
            continue
        if isinstance(tensor, _Parameter) and id(tensor) not in merged:
            state = "unreached" if tensor.requires_grad else "frozen"
            found.setdefault(state, {})[name] = tensor.numel()
    return found


def _modules_in(graph: GradGraph, modules: Mapping[str, str]) -> Mapping[str, str]:
    """The classes of the modules that leaves of the graph belong to, by their paths."""
    if "" in modules or not modules:
        return modules
    names = (str(graph._node[key].get("name", "")) for key in graph.leaves)
    used = {name.partition(".")[0] for name in names}
    outermost = {path.partition(".")[0] for path in modules}
    if outermost <= used:
        return modules
    return {path: word for path, word in modules.items() if path.partition(".")[0] in used}


class NodePlaces:
    """Finds the name of an unnamed view by its memory and layout.

    Only tensors that do not require grad are considered: a detached alias of ``y`` is not ``y``.
    """

    def __init__(self, labels: Labels) -> None:
        self._names: dict[tuple[object, ...], str] = {}
        for named in labels.by_id.values():
            if not named.tensor.requires_grad:
                place = memory_of(named.tensor)
                if place is not None:
                    self._names.setdefault(place, named.name)

    @staticmethod
    def identity(tensor: torch.Tensor) -> object:
        """Equal for equal views of the same memory."""
        return memory_of(tensor) or id(tensor)

    def name_of(self, tensor: torch.Tensor) -> str:
        """The name of the tensor, or of its transpose followed by ``.t()``, or ""."""
        place = memory_of(tensor)
        if place is None:
            return ""
        if place in self._names:
            return self._names[place]
        flipped = (*place[:-2], tuple(tensor.shape)[::-1], tensor.stride()[::-1])
        name = self._names.get(flipped, "") if tensor.dim() == 2 else ""
        return f"{name}.t()" if name else ""
