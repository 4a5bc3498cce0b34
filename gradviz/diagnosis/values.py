"""Known values of tensors: those in the graph, and those saved before a pass."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from typing import NamedTuple

from gradviz.graph import (
    Cause,
    EdgeData,
    EdgeKind,
    GradGraph,
    NodeData,
    NodeKind,
    TensorSummary,
    is_data,
    is_gradient,
    is_scaled_away,
    leads_to_a_root,
    leaf_of_node,
    leaf_uses,
)
from gradviz.graph.operations import KEEPS_ZEROS, OF_ZEROS, Blocks, operation

Saved = Mapping[str, Mapping[str, TensorSummary]]

_SUMS = ("sum", "mean", "neg", "add", "sub")


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
        if data["kind"] is NodeKind.OPERATION:
            return self.made_by(key)
        changed = data.get("version") and not self._is_before
        return None if changed else self._known.get(key) or data.get("value")

    def made_by(self, key: str) -> TensorSummary | None:
        """The result of an operation: its own value, a saved one, or that of its result node."""
        data: NodeData = self.graph.nodes[key]
        value, is_one = self._read(key), data.get("outputs", 1) == 1
        if value is None and is_one and key in self.zeros:
            facts = (data.get("shape", ()), data.get("dtype", ""), data.get("device", ""))
            value = TensorSummary(*facts, min=0.0, max=0.0)
        return value

    def _read(self, key: str) -> TensorSummary | None:
        """The same, where it was read."""
        data: NodeData = self.graph.nodes[key]
        if data["kind"] is not NodeKind.OPERATION or data.get("outputs", 1) != 1:
            return self.of(key) if data["kind"] is not NodeKind.OPERATION else None
        value = self._known.get(key) or data.get("value") or self.saved(key, "result")
        if value is not None:
            return None if data.get("version") and not self._is_before else value
        if (value := self._kept_by_users(key)) is not None:
            return value
        if operation(data.get("op", "")).rearranges:
            source = self.source_of(key, 0)
            return self._read(source) if source else None
        for target in self.graph.successors(key):
            made: NodeData = self.graph.nodes[target]
            if made["kind"] is NodeKind.RESULT and "value" in made:
                return self.of(target)
        return None

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

    @cached_property
    def zeros(self) -> set[str]:
        """The nodes whose values are all zeros, as was read, or because of their inputs."""
        nodes, found = self.graph.nodes, set[str]()
        near = {self.source_of(key, n) for key in self._saved for n in self._sources_by(key)}
        near |= {*self._saved, *self._known}
        near |= {key for key, data in nodes.items() if "value" in data}
        waiting = [key for key in near if key in nodes and self._read(key) is not None]
        waiting += filter(self._begins_zeros, nodes)
        while waiting:
            value = self._read(key := waiting.pop())
            if key in found or (value is not None and not is_all_zero(value)):
                continue
            found.add(key)
            if operation(nodes[key].get("op", "")).rearranges:
                waiting.append(self.source_of(key, 0) or key)
            for user in self.graph.successors(key):
                is_leaf = nodes[user]["kind"] is NodeKind.ACCUMULATE
                if is_leaf or self._zero_inputs(user, found):
                    waiting.append(user)
        return found

    def _zero_inputs(self, key: str, zeros: Container[str]) -> list[str]:
        """The inputs because of which the result of an operation is all zeros; [] if it is not.

        The product with a zero factor is zero; if something is added, that must be zero as well.
        """
        data: NodeData = self.graph.nodes[key]
        row, sources = operation(op := word_in(data)), self._sources_by(key)
        if op in OF_ZEROS:
            sizes = [math.prod(self.graph.nodes[e].get("shape", ())) for e in sources.values()]
            is_whole = len(sizes) > 1
            if op in ("cat", "stack"):  # some of the parts may not be known
                is_whole = sum(sizes) == math.prod(data.get("shape", ()))
            parts = [each for each, size in zip(sources.values(), sizes, strict=True) if size]
            return parts if is_whole and all(each in zeros for each in parts) else []
        zero = [sources[each] for each in _zero_if(op, data) if sources.get(each) in zeros]
        added = (0,) if row.factors and row.factors[0] == 1 else ADDS.get(op, ())
        has_bias = any(each.argument == "bias" for each in data.get("saved", ()))
        needed = [sources.get(n, "") for n in added if n == 0 or has_bias or n in sources]
        is_zero = all(each in zeros for each in needed) and not self._is_singular(key, op)
        return zero if is_zero else []

    def _begins_zeros(self, key: str) -> bool:
        """Whether an operation multiplies by 0 or by zeros, or subtracts a tensor from itself."""
        data, sources = self.graph.nodes[key], self._sources_by(key)
        if (op := word_in(data)) == "mul":
            kept = (each for n in (0, 1) if (each := self._input_kept(key, n)))
            is_zero = is_times_0(data) or any(map(is_all_zero, kept))
            return is_zero and not self._is_singular(key, op)
        return op == "zero" or (op == "sub" and sources.get(0, "") == sources.get(1))

    def _is_singular(self, key: str, op: str) -> bool:
        """Whether an operation makes NaN of a zero: a quotient by a 0, a product with infinity."""
        inputs = [
            self._read(source) for number in (0, 1) if (source := self.source_of(key, number))
        ]
        if any(value is not None and not value.is_finite for value in inputs):
            return True
        return op == "div" and len(inputs) > 1 and (inputs[1] is None or has(inputs[1], 0.0))

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
        return self._sources_by(key).get(number, "")

    def _sources_by(self, key: str) -> dict[int, str]:
        if key not in self._sources:
            inputs = self.graph.inputs(key)
            named = {edge.get("input", 0): leaf_of_node(self.graph, each) for each, edge in inputs}
            self._sources[key] = named
        return self._sources[key]

    def before_views(self, key: str) -> str:
        """The base of a view or reshaped tensor, or what FSDP passes on; else the tensor itself."""
        while key and self._passes_on(self.graph.nodes[key]) and self.source_of(key, 0):
            key = self.source_of(key, 0)
        return key

    def _passes_on(self, data: NodeData) -> bool:
        op = data.get("op", "")
        return operation(op).rearranges or (op == "fsdp" and data.get("outputs", 1) == 1)

    def origin_of_zeros(self, key: str) -> str:
        """The tensor because of which another is all zeros: itself, or an ancestor."""
        nodes, zeros = self.graph.nodes, self.zeros
        while inputs := self._zero_inputs(key, zeros) if key in zeros else ():
            if nodes[inputs[0]]["kind"] is NodeKind.UNTRACKED:
                break  # the operation that uses it says more
            key = inputs[0]
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
        """Its forward word, without the underscore of an in-place form."""
        return word_in(self.data)

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
    """Whether an operation returns each element of its input, or a multiple of it."""
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
        if len(inputs) > 1 and op in (*_JOINS, "sub", "rsub"):
            if op in _JOINS and sum(size > 1 for size in shape) > 1:
                continue
            # In a difference of several values, a constant is what others are compared with.
            terms = inputs if op in _JOINS or math.prod(shape) == 1 else tracked
            yield from (Addend(key, each, frozenset({*inputs} - {each})) for each in terms)
        elif op in ("add", "sub", "rsub"):
            yield Addend(key, "", frozenset(inputs))
        elif len(tracked) > 1 or not (
            is_sum(op, data.get("options", {})) or operation(op).converts or op in ("mul", "div")
        ):
            continue
        stack += tracked


def has_its_value(source: str, target: str, edge: EdgeData) -> bool:
    """Whether data flows along the edge, and not from the result of torch.autograd.grad."""
    return is_data(source, target, edge) and edge.get("cause") is not Cause.AUTOGRAD_GRAD


# The input that an operation only adds to its result.
ADDS: dict[str, tuple[int, ...]] = {"add": (0, 1), "addmm": (0,), "addmv": (0,), "baddbmm": (0,)}
ADDS |= dict.fromkeys(("linear", "conv", "batch_norm", "layer_norm", "group_norm"), (2,))


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


def adds(graph: GradGraph, uses: Iterable[tuple[str, EdgeData]]) -> bool:
    """Whether operations, given with their edges from a tensor, only add it."""
    ops = ((graph.nodes[user].get("op", ""), edge.get("input", 0)) for user, edge in uses)
    return all(at in ADDS.get(op, ()) for op, at in ops)


def added_cast(graph: GradGraph, key: str) -> str:
    """What autocast converted a leaf to, if that is added several times, as a bias; or ""."""
    uses = gradient_uses(graph, key)
    user = uses[0][0] if len(uses) == 1 else ""
    is_cast = user != "" and graph.nodes[user].get("op") == "to"
    uses = gradient_uses(graph, user) if is_cast else []
    return user if uses[1:] and adds(graph, uses) else ""


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


_BY_INPUT = {"mul": (0, 1), "lstm": (), "scaled_dot_product_attention": (2,)}


def _zero_if(op: str, data: NodeData) -> Sequence[int]:
    """The inputs of which one of zeros makes a result of zeros, but for what is added."""
    row = operation(op)
    if row.normalizes:  # by running statistics, zeros have a mean
        return (1,) if "training" in data.get("options", {}) else (0, 1)
    if op in _BY_INPUT:
        return _BY_INPUT[op]
    return row.factors or ((0,) if op in KEEPS_ZEROS else ())


def word_in(data: NodeData) -> str:
    """The forward word of an operation, without the underscore of an in-place form."""
    return data.get("op", "").removesuffix("_")


def is_times_0(data: NodeData) -> bool:
    """Whether an operation multiplies by the number 0."""
    return word_in(data) == "mul" and data.get("options", {}).get("other") in ("0", "0.0", "-0.0")


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
