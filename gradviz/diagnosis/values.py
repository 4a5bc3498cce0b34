"""Known values of tensors: those in the graph, and those saved before a pass."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from typing import NamedTuple

from gradviz.facts import CutEdge
from gradviz.graph import (
    Cause,
    EdgeData,
    EdgeKind,
    GradGraph,
    NodeData,
    NodeKind,
    TensorSummary,
    ancestors,
    is_data,
    is_gradient,
    is_scaled_away,
    leads_to_a_root,
    leaf_of_node,
    leaf_uses,
)
from gradviz.graph.operations import Blocks, operation

Saved = Mapping[str, Mapping[str, TensorSummary]]

_SUMS = ("sum", "mean", "neg", "add", "sub")
_DEEP = 50  # operations through which zeros are followed

# Operations whose result is all zeros when their first input is.
_KEEP_ZEROS = frozenset(
    (
        *("abs", "clone", "detach", "div", "gelu", "leaky_relu", "mean", "neg", "relu", "round"),
        *("sign", "sin", "silu", "sqrt", "square", "sum", "tanh", "to", "expand", "repeat"),
    )
)


class Values:
    """The values of the tensors of one graph when operations used them.

    Args:
        graph: the graph.
        saved: by the keys of operations, the values of their saved tensors before backward.
        is_before: whether the graph is from before the backward pass; otherwise tensors that
            were changed in place since may have had other values.
        known: summaries of further tensors, by their nodes.
    """

    def __init__(
        self,
        graph: GradGraph,
        saved: Saved | None = None,
        is_before: bool = True,
        known: Mapping[str, TensorSummary] | None = None,
    ) -> None:
        self.graph = graph
        self._saved, self._is_before, self._known = saved or {}, is_before, known or {}
        self._sources: dict[str, dict[int, str]] = {}
        self._zeros: dict[str, TensorSummary | None] = {}
        self._asking: list[str] = []

    @cached_property
    def only_summed(self) -> frozenset[str]:
        """Normalizations and softmaxes whose results are only summed, up to a scalar root."""
        found = [key for key in self.graph if self._is_normal(key)]
        return self.summed.intersection(found) if found else frozenset()

    @cached_property
    def summed(self) -> frozenset[str]:
        """Operations whose results are only summed, up to a scalar root."""
        nodes = self.graph.nodes
        operations = [key for key in self.graph if nodes[key]["kind"] is NodeKind.OPERATION]
        operations.sort(key=lambda key: nodes[key].get("sequence_nr", 0), reverse=True)
        summed: set[str] = set()
        for key in operations:
            users = [e[1] for e in self.graph.out_edges(key, data=True) if is_gradient(*e)]
            if users and (self.is_of_one(key) or all(self._sums(each, summed) for each in users)):
                summed.add(key)
        return frozenset(summed)

    def _sums(self, user: str, summed: set[str]) -> bool:
        """Whether a user of a result weights all its elements equally."""
        data: NodeData = self.graph.nodes[user]
        if data["kind"] is NodeKind.RESULT:
            return math.prod(data.get("shape", (2,))) == 1
        return user in summed and is_sum(data.get("op", ""), data.get("options", {}))

    def is_of_one(self, key: str) -> bool:
        """Whether a layer norm is taken over a single element."""
        source = self.source_of(key, 1) if self.graph.nodes[key].get("op") == "layer_norm" else ""
        return bool(source) and math.prod(self.graph.nodes[source].get("shape", (2,))) == 1

    def _is_normal(self, key: str) -> bool:
        op = self.graph.nodes[key].get("op", "")
        source = self.source_of(key, 0) if op == "exp" else ""
        is_softmax = op == "softmax" or self.graph.nodes.get(source, {}).get("op") == "log_softmax"
        return is_softmax or operation(op).normalizes

    def of(self, key: str) -> TensorSummary | None:
        """The value of a tensor, or of the only output of an operation; None if unknown."""
        key = leaf_of_node(self.graph, key)
        data: NodeData = self.graph.nodes[key]
        if data.get("version") and not self._is_before:
            return None
        if data["kind"] is NodeKind.OPERATION:
            return self.made_by(key)
        return self._known.get(key) or data.get("value")

    def made_by(self, key: str) -> TensorSummary | None:
        """The result of an operation: its own value, a saved one, or that of its result node."""
        data: NodeData = self.graph.nodes[key]
        if data.get("outputs", 1) != 1:
            return None
        value = self._known.get(key) or data.get("value") or self.saved(key, "result")
        if value is not None:
            return None if data.get("version") and not self._is_before else value
        if operation(data.get("op", "")).rearranges:
            source = self.source_of(key, 0)
            return self.of(source) if source else None
        for target in self.graph.successors(key):
            made: NodeData = self.graph.nodes[target]
            if made["kind"] is NodeKind.RESULT and "value" in made:
                return self.of(target)
        return self._kept_by_users(key) or self._zeros_of(key)

    def is_left_out(self, key: str) -> bool:
        """Whether all that was computed from a result is finite again, as far as it is known."""
        nodes, seen, waiting = self.graph.nodes, {key}, [key]
        while waiting:
            users = set(self.graph.successors(waiting.pop())) - seen
            seen |= users
            for each in users:
                made = self.made_by(each)
                if made is None and "root" not in nodes[each]:
                    waiting.append(each)
                elif made is None or not made.is_finite:
                    return False
        return len(seen) > 1

    def _kept_by_users(self, key: str) -> TensorSummary | None:
        """The result of an operation, as an operation that used it saved it."""
        for _, target, edge in self.graph.out_edges(key, data=True):
            if edge["kind"] is EdgeKind.GRADIENT:
                saved = self._input_kept(target, edge.get("input", 0))
                if saved is not None:
                    return saved
        return None

    def _zeros_of(self, key: str) -> TensorSummary | None:
        """Zeros, if a result is known to be zero because of its inputs; else None."""
        if key not in self._zeros:
            self._zeros[key] = None  # during the recursion, and beyond its limit
            if len(self._asking) < _DEEP:
                self._asking.append(key)
                if self._zero_inputs(key):
                    data: NodeData = self.graph.nodes[key]
                    facts = (data.get("shape", ()), data.get("dtype", ""), data.get("device", ""))
                    self._zeros[key] = TensorSummary(*facts, min=0.0, max=0.0)
                self._asking.pop()
        return self._zeros[key]

    def _zero_inputs(self, key: str) -> list[str]:
        """The inputs because of which the result of an operation is all zeros; [] if it is not.

        The product with a zero factor is zero; if something is added, that must be zero as well.
        """
        op = self.graph.nodes[key].get("op", "")
        row = operation(op)
        numbers: Sequence[int] = (0,) if row.rearranges or op in _KEEP_ZEROS else ()
        if op == "mul" or row.factors:
            numbers = row.factors or (0, 1)
        zero = [
            source
            for number in numbers
            if (source := self.source_of(key, number)) and self._is_zero(source)
        ]
        if zero and self._is_singular(key, op):
            return []
        if zero and row.factors and row.factors[0] == 1:
            added = self.source_of(key, 0)
            return zero if added and self._is_zero(added) else []
        return zero

    def _is_singular(self, key: str, op: str) -> bool:
        """Whether an operation makes NaN of a zero: a quotient by a 0, a product with infinity."""
        inputs = [self.of(source) for number in (0, 1) if (source := self.source_of(key, number))]
        if any(value is not None and not value.is_finite for value in inputs):
            return True
        return op == "div" and len(inputs) > 1 and (inputs[1] is None or has(inputs[1], 0.0))

    def _is_zero(self, key: str) -> bool:
        value = self.of(key)
        return value is not None and is_all_zero(value)

    def input_of(self, key: str, number: int) -> TensorSummary | None:
        """An input of an operation: the saved tensor, or the known value."""
        saved, source = self._input_kept(key, number), self.source_of(key, number)
        return saved if saved is not None or not source else self.of(source)

    def _input_kept(self, key: str, number: int) -> TensorSummary | None:
        names = operation(self.graph.nodes[key].get("op", "")).saves or ("self", "other")
        return self.saved(key, names[number]) if number < len(names) else None

    def saved(self, key: str, name: str) -> TensorSummary | None:
        """The tensor that an operation saved under a name, before it was freed."""
        return self._saved.get(key, {}).get(name)

    def source_of(self, key: str, number: int) -> str:
        """The node of an input; the leaf of an ``AccumulateGrad``; "" for none."""
        if key not in self._sources:
            self._sources[key] = {
                edge.get("input", 0): leaf_of_node(self.graph, source)
                for source, edge in self.graph.inputs(key)
            }
        return self._sources[key].get(number, "")

    def before_views(self, key: str) -> str:
        """The base of a view or reshaped tensor; the tensor itself for others."""
        while key and operation(self.graph.nodes[key].get("op", "")).rearranges:
            if not (source := self.source_of(key, 0)):
                break
            key = source
        return key

    def origin_of_zeros(self, key: str) -> str:
        """The tensor because of which another is all zeros: itself, or an ancestor."""
        kinds = self.graph.nodes
        while kinds[key]["kind"] is NodeKind.OPERATION and (zero := self._zero_inputs(key)):
            key = zero[0]
        return key


@dataclass(frozen=True)
class Step:
    """The backward step from an operation, ``target``, to one of its inputs, ``source``."""

    values: Values
    source: str
    target: str
    edge: EdgeData

    @cached_property
    def data(self) -> NodeData:
        """The operation."""
        data: NodeData = self.values.graph.nodes[self.target]
        return data

    @property
    def op(self) -> str:
        """Its forward word."""
        return self.data.get("op", "")

    @property
    def options(self) -> Mapping[str, str]:
        """Its plain arguments, as text."""
        return self.data.get("options", {})

    @property
    def is_hinge(self) -> bool:
        """Whether it cuts off at 0 what is only summed, as a hinge loss does."""
        is_cut = self.op.startswith("clamp") and number_of(self.options.get("min")) == 0
        return (is_cut or self.op in ("relu", "maximum")) and self.target in self.values.summed

    @property
    def number(self) -> int:
        """The number of the input."""
        return self.edge.get("input", 0)

    @property
    def made(self) -> TensorSummary | None:
        """The result."""
        return self.values.made_by(self.target)

    @property
    def given(self) -> TensorSummary | None:
        """The input."""
        return self.values.input_of(self.target, self.number)

    def input(self, number: int) -> TensorSummary | None:
        """Another input."""
        return self.values.input_of(self.target, number)

    def source_of(self, number: int) -> str:
        """The node of another input; "" if it is not in the graph."""
        return self.values.source_of(self.target, number)

    @property
    def mask(self) -> bool | None:
        """The value of its mask if it is the same everywhere; None if it varies, or is unknown."""
        known = [self.values.saved(self.target, name) for name in ("mask", "condition")]
        graph = self.values.graph
        inputs = (source for source, _ in graph.inputs(self.target))
        known += [self.values.of(key) for key in inputs if graph.nodes[key].get("dtype") == "bool"]
        found = (each for each in known if each is not None)
        return next((v for each in found for v in (True, False) if is_only(each, (v,))), None)


@dataclass
class Owner:
    """The parameters of one module."""

    order: int
    norm: float
    name: str
    key: str
    keys: list[str]


def owners_of(graph: GradGraph, scales: Mapping[str, float]) -> list[Owner]:
    """The leaves with a gradient, grouped by module.

    Args:
        graph: the graph.
        scales: by the keys of the leaves that count: by how much the gradient was scaled.
    """
    owners: dict[str, Owner] = {}
    for key in graph.leaves:
        data: NodeData = graph.nodes[key]
        grad = data.get("grad")
        users = (graph.nodes[user].get("sequence_nr", 0) for user, _ in leaf_uses(graph, key))
        order = min(users, default=None)  # when the forward pass first used it
        if (
            grad is None
            or not grad.norm
            or not grad.is_finite
            or key not in scales
            or order is None
            or is_scaled_away(graph, key)
        ):
            continue
        name, norm = data.get("name") or key, grad.norm / scales[key]
        owner = owners.setdefault(name.rpartition(".")[0] or name, Owner(order, 0.0, "", "", []))
        owner.order = min(owner.order, order)
        if norm >= owner.norm:
            owner.norm, owner.name, owner.key = norm, name, key
        owner.keys.append(key)
    return list(owners.values())


def is_sum(op: str, options: Mapping[str, str]) -> bool:
    """Whether an operation weighs all elements of its input alike.

    Args:
        op: its word.
        options: its plain arguments: a product with a number counts.
    """
    return op in _SUMS or keeps_each(op, options)


def keeps_each(op: str, options: Mapping[str, str]) -> bool:
    """Whether an operation returns each element of its input, or a multiple of it.

    Args:
        op: as for `is_sum`.
        options: as for `is_sum`.
    """
    is_scaled = op in ("mul", "div") and "other" in options
    return operation(op).rearranges or is_scaled


class Addend(NamedTuple):
    """One of several terms of a sum: the key of the sum, its own, and those of the others.

    A Python number has no key.
    """

    sum: str
    key: str
    others: frozenset[str]


_JOINS = ("add", "stack", "cat")  # of a difference, one of samples may be the one of two tensors


def addends_of(graph: GradGraph, roots: Iterable[str]) -> Iterator[Addend]:
    """The terms of some results, such as losses: numbers, or a number for each sample."""
    stack, seen = [maker for root in roots for maker, _ in graph.inputs(root)], set[str]()
    while stack:
        if (key := stack.pop()) in seen:
            continue
        seen.add(key)
        data: NodeData = graph.nodes[key]
        op, shape = data.get("op", ""), data.get("shape", ())
        inputs = {each: edge for each, edge in graph.inputs(key) if is_data(each, key, edge)}
        tracked = [each for each, edge in inputs.items() if is_gradient(each, key, edge)]
        is_small = len(shape) < 2 if op in _JOINS else math.prod(shape) == 1
        if len(inputs) > 1 and op in (*_JOINS, "sub", "rsub"):
            if len(shape) > 1:
                continue
            terms = inputs if is_small else ()
            yield from (Addend(key, each, frozenset({*inputs} - {each})) for each in terms)
        elif op in ("add", "sub", "rsub"):
            yield Addend(key, "", frozenset(inputs))
        elif len(tracked) > 1 or not (
            is_sum(op, data.get("options", {})) or operation(op).converts or op in ("mul", "div")
        ):
            continue
        stack += tracked


_CUTS_OF_TERMS = {
    *(Cause.DETACH, Cause.NO_GRAD, Cause.INFERENCE_MODE, Cause.DATA, Cause.COPY, Cause.NUMPY),
    *(Cause.ITEM, Cause.AUTOGRAD_GRAD, Cause.NOT_DIFFERENTIABLE),
}


def cuts_behind(graph: GradGraph, alive: set[str]) -> list[CutEdge]:
    """Where data leaves the graph that was computed from what is trained, in a fixed order."""
    ordered = sorted(alive, key=lambda key: int(key[1:]))
    edges = (CutEdge(*edge) for edge in graph.out_edges(ordered, data=True))
    return [cut for cut in edges if cut.edge.get("cause") in _CUTS_OF_TERMS]


def has_its_value(source: str, target: str, edge: EdgeData) -> bool:
    """Whether data flows along the edge, and not from the result of torch.autograd.grad."""
    return is_data(source, target, edge) and edge.get("cause") is not Cause.AUTOGRAD_GRAD


# The input that an operation only adds to its result.
CLIP_LIMITS = dict.fromkeys(("clip_grad_norm_", "clip_grads_with_norm_"), "pass a max_norm above 0")
CLIP_LIMITS["clip_grad_value_"] = "pass a clip_value above 0"
ADDS: dict[str, tuple[int, ...]] = {"add": (0, 1), "addmm": (0,), "addmv": (0,), "baddbmm": (0,)}
ADDS |= dict.fromkeys(("linear", "conv", "batch_norm", "layer_norm", "group_norm"), (2,))

_PASSES_ON = frozenset(("add", "sub", "rsub", "neg", "sum", "mean", "clone", "to"))


def is_only_added(graph: GradGraph, key: str, end: str) -> bool:
    """Whether no derivative between a leaf and a node depends on the leaf, as on a bias."""
    between = ancestors(graph, [end])
    stack, seen = [key], {key}
    while stack:
        source = stack.pop()
        for _, target, edge in graph.out_edges(source, data=True):
            if target not in between or target in seen or edge["kind"] is not EdgeKind.GRADIENT:
                continue
            if not _is_added(graph, target, edge.get("input", 0)):
                return False
            seen.add(target)
            stack.append(target)
    return end in seen


def _is_added(graph: GradGraph, key: str, number: int) -> bool:
    """Whether the derivative of an operation in an input does not depend on that input."""
    data: NodeData = graph.nodes[key]
    row = operation(op := data.get("op", ""))
    if data["kind"] is not NodeKind.OPERATION or op in _PASSES_ON or row.rearranges:
        return True
    return row.factors is not None and number not in row.factors


def difference_without(graph: GradGraph, key: str) -> str:
    """The subtraction of two terms to which a leaf is added in the same way; "" if there is none.

    The result does not depend on the leaf, as on the bias of a critic in
    ``critic(real) - critic(fake)``.
    """
    if len(uses := gradient_uses(graph, key)) != 2:
        return ""
    ends = [_subtracted(graph, user, edge.get("input", 0)) for user, edge in uses]
    (one, first, chain), (other, second, other_chain) = ends
    is_same = one == other and first != second and chain == other_chain
    return one if is_same else ""


def _subtracted(graph: GradGraph, key: str, number: int) -> tuple[str, int, list[object]]:
    """Where something that is added ends: the subtraction, the input, and the steps to it."""
    data: NodeData = graph.nodes[key]
    steps: list[object] = []
    if number not in ADDS.get(data.get("op", ""), ()):
        return "", 0, steps
    while True:
        op, options = data.get("op", ""), data.get("options", {})
        if op == "mean" and data.get("shape") == ():
            steps.clear()  # every element counts alike, however many there are
        steps.append((op, options, data.get("shape")))
        users = [edge for edge in graph.out_edges(key, data=True) if is_gradient(*edge)]
        if len(users) != 1 or "alpha" in options or "beta" in options:
            return "", 0, steps
        _, key, edge = users[0]
        data = graph.nodes[key]
        if data.get("op") == "sub" and "alpha" not in data.get("options", {}):
            return key, edge.get("input", 0), steps
        is_passed_on = is_sum(data.get("op", ""), data.get("options", {}))
        if data.get("op") in ("add", "sub") or not is_passed_on:
            return "", 0, steps


def gradient_uses(graph: GradGraph, key: str) -> list[tuple[str, EdgeData]]:
    """The operations that use a leaf and give it a gradient of the roots, with their edges."""
    uses = [each for each in leaf_uses(graph, key) if is_gradient(key, *each)]
    return [each for each in uses if uses[1:] and leads_to_a_root(graph, each[0])] or uses


def cancelled_at(graph: GradGraph, key: str, live: Container[str], known: dict[str, str]) -> str:
    """The subtraction where what a leaf went into cancels itself, as in ``hard + x - x``; or "".

    Args:
        graph: where it is.
        key: the leaf.
        live: the operations from which a root was computed.
        known: the answers for operations on the way, which are added here.
    """
    way = []
    while key not in known:
        way.append(key)
        uses = [each for each in gradient_uses(graph, key) if each[0] in live]
        ops = [operation(graph.nodes[user].get("op", "")) for user, _ in uses]
        uses = [e for e, op in zip(uses, ops, strict=True) if op.blocks is not Blocks.STEPS]
        if len(uses) != 1:
            known[key] = _difference_of(graph, key, uses)
            break
        key = uses[0][0]
    known.update(dict.fromkeys(way, known[key]))
    return known[key]


def _difference_of(graph: GradGraph, key: str, uses: Sequence[tuple[str, EdgeData]]) -> str:
    """The one of two uses that subtracts a result from a sum that has it; or ""."""
    for (one, _), (user, edge) in permutations(uses, 2) if len(uses) == 2 else ():
        sums = [graph.nodes[each] for each in (user, one)]
        alike = all(
            each.get("shape") == graph.nodes[key].get("shape")
            and "alpha" not in each.get("options", {})
            for each in sums
        )
        is_added = one == user or (
            sums[1].get("op") == "add"
            and ({*graph.successors(one)} == {user} or {*graph.successors(user)} == {one})
        )
        if sums[0].get("op") == "sub" and edge.get("input") == 1 and alike and is_added:
            return user
    return ""


def chooses_among(graph: GradGraph, key: str, keys: Container[str]) -> bool:
    """Whether a ``where`` takes all of its elements from some nodes."""
    branches = {edge.get("input", 0): source for source, edge in graph.inputs(key)}
    both = [branches.get(0), branches.get(1)]  # the condition comes last
    return graph.nodes[key].get("op") == "where" and all(each in keys for each in both)


def has(summary: TensorSummary | None, number: float) -> bool:
    """Whether a tensor is known to have contained a number when it was used."""
    if summary is None:
        return False
    if summary.values is not None:
        return any(value == number for value in summary.values)
    return number in (summary.min, summary.max)


def is_all_zero(summary: TensorSummary) -> bool:
    """Whether every element is zero, as far as the values were read."""
    return is_only(summary, (0.0,))


def is_only(summary: TensorSummary, allowed: Sequence[float]) -> bool:
    """Whether every element is known to be one of a few numbers."""
    if not summary.is_finite:
        return False
    if summary.values is not None:
        return bool(summary.values) and all(value in allowed for value in summary.values)
    return summary.min is not None and summary.min == summary.max and summary.min in allowed


def is_wrong(grad: TensorSummary | None) -> bool:
    """Whether a gradient is zero, or not finite; of a part of it, zeros say nothing."""
    is_zero = grad is not None and is_all_zero(grad) and not grad.is_part
    return is_zero or (grad is not None and not grad.is_finite)


def largest(summary: TensorSummary) -> float | None:
    """The largest element; None if unknown."""
    values = summary.values
    return max(value.real for value in values) if values else summary.max


def smallest(summary: TensorSummary) -> float | None:
    """The smallest element; None if unknown."""
    values = summary.values
    return min(value.real for value in values) if values else summary.min


def number_of(text: str | None) -> float | None:
    """The number in an argument of an operation; None for anything else."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
