"""What is read of a backward pass for explanations: saved tensors, gradients between operations.

Saved tensors are read before the pass frees them, if the derivative of the operation can be zero or
not finite.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import chain, islice
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.autograd.function import BackwardCFunction
from torch.utils.hooks import RemovableHandle

from gradviz.capture.autograd.nodes import (
    Edges,
    dim_of_sum,
    leaf_of,
    operation_type,
    read_saved,
    sequence_number,
    visit_ancestors,
)
from gradviz.capture.autograd.tensors import is_batched, is_capturing, quietly
from gradviz.capture.tensors.summary import FEW, fetch, plain_array, readable
from gradviz.facts import Loss
from gradviz.graph import TensorSummary
from gradviz.graph.operations import Operation, forward_word, operation, type_text, words

SavedValues = Mapping[str, Mapping[str, TensorSummary]]
"""By the key of an operation: summaries of its saved tensors, by their saved names."""


class _ToRead(NamedTuple):
    """A saved tensor to be read."""

    key: str
    name: str
    data: torch.Tensor
    array: npt.NDArray[Any] | None


_MOST = 1 << 22  # elements read before a pass: a few milliseconds
_MOST_NODES = 512  # each takes at least a hundredth of a millisecond
_MOST_PROBED = 4096  # saved tensors whose first element is read
_TARGET = "target"
_READ = ("result", "self", "other", "mask", "condition", "total_weight", "S", "L", "eigenvalues")


def contents_of(
    roots: Sequence[Any], operations: Mapping[int, str], nodes: Mapping[str, Mapping[str, Any]]
) -> Contents:
    """Read the saved tensors of operations, the last operation first; no hook runs.

    The number of nodes and elements is limited: of a long loop, the end is read. A factor of a
    product, or the weight of a normalization, is read only if its first element is 0: it matters
    only if all elements are 0. Data that does not require grad, such as a batch, is read: it may
    contain NaN.

    Args:
        roots: the roots of the backward pass.
        operations: keys by sequence number.
        nodes: their attributes by key, for the dtype and device of their results.
    """
    readings: list[_ToRead] = []
    batches: list[_ToRead] = []
    probed: list[_ToRead] = []
    asked = 0
    rows: dict[type, tuple[Operation, tuple[str, ...]]] = {}
    starts = (getattr(root, "grad_fn", None) for root in roots)
    for node, edges in visit_ancestors(node for node in starts if node is not None):
        if (known := rows.get(type(node))) is None:
            row = operation(forward_word(type(node).__name__))
            known = rows[type(node)] = row, _zero_names(row)
        row, zero_names = known
        if not (row.read or zero_names or _TARGET in row.saves):
            continue
        is_read = row.read and asked < _MOST_NODES
        asked += row.read
        if not is_read and len(probed) >= _MOST_PROBED:
            continue
        if (key := operations.get(sequence_number(node))) is None:
            continue
        data = nodes[key]
        made = data.get("dtype"), data.get("device")
        is_complex = (made[0] or "").startswith("complex")
        saved = data.get("saved", ())
        if not is_complex and all(each.dtype not in (made[0], "bool") for each in saved):
            continue  # only numbers, as the factor in ``y * 2``
        kind = operation_type(node)
        batch = _batch_name(row, edges)
        for name, held in zip(kind.saved, read_saved(node, kind)[1], strict=False):
            found = readings if is_read and name in _READ else probed
            if name == batch and found is probed:
                found = batches
            elif found is probed and name not in zero_names:
                continue
            if not isinstance(held, torch.Tensor):
                continue
            # A hook may have packed it as another type.
            array = plain_array(held)
            values = _plain(held) if array is None else held if array.size else None
            if values is None:
                continue
            # A complex tensor may be divided by a real one.
            dtype = values.dtype.to_complex() if is_complex and array is not None else values.dtype
            facts = type_text(dtype), type_text(values.device)
            if values.dtype is torch.bool or made == facts:
                found.append(_ToRead(key, name, values, array))
    with torch.no_grad():
        here = [each for each in probed if each.data.is_cpu]
        wanted = [*_within_limit([*readings, *_beginning_with_zero(here), *batches[::-1]])]
        elsewhere = [each for each in probed if not each.data.is_cpu]
        return Contents(_computed(wanted, elsewhere))


def _zero_names(row: Operation) -> tuple[str, ...]:
    """The saved names of an operation that block the gradient when they are all zeros."""
    if row.normalizes:
        return ("weight",)
    if row.word == "scaled_dot_product_attention":
        return row.saves
    return tuple(row.saves[number] for number in row.factors or () if number < len(row.saves))


def _batch_name(row: Operation, edges: Edges) -> str:
    """The saved name of a factor or target that does not require grad; else ""."""
    number = row.factors[0] if row.factors else len(edges)
    number = row.saves.index(_TARGET) if _TARGET in row.saves else number
    is_data = number < min(len(edges), len(row.saves)) and edges[number][0] is None
    return row.saves[number] if is_data else ""


def _within_limit(readings: Sequence[_ToRead]) -> Iterator[_ToRead]:
    left = _MOST
    for reading in readings:
        if (size := reading.data.numel()) <= left:
            left -= size
            yield reading


def _beginning_with_zero(probed: Sequence[_ToRead]) -> Iterator[_ToRead]:
    """The CPU tensors whose first element is 0: the others are not read."""
    for reading in probed:
        data, array = reading.data, reading.array
        first = array.item(0) if array is not None else data[(0,) * data.dim()].item()
        if first == 0:
            yield reading


def _plain(held: torch.Tensor) -> torch.Tensor | None:
    """The data; None if it is of another type, or if reading it has side effects."""
    try:
        data, note = readable(held)
        is_read = data is not None and not note and _is_read(data.dtype)
        return data if is_read and data is not None and data.numel() else None
    except Exception:
        return None


def _is_read(dtype: torch.dtype) -> bool:
    return dtype.is_floating_point or dtype.is_complex or dtype is torch.bool


class _Saved(NamedTuple):
    """What is kept of a saved tensor until its values are asked for; the tensor itself is not."""

    key: str
    name: str
    shape: tuple[int, ...]
    dtype: str
    device: str
    piece: torch.Tensor | tuple[float, ...]  # all elements, or the smallest and the largest
    only_zeros: bool = False  # the largest magnitude: of interest only if it is 0


class Contents:
    """Values of saved tensors, copied to the host when they are first asked for.

    Small tensors have their values, others their smallest and largest element.

    Args:
        saved: what was computed before the backward pass.
    """

    def __init__(self, saved: Sequence[_Saved] = ()) -> None:
        self._saved = saved

    @functools.cached_property
    def found(self) -> SavedValues:
        """The values, by operation and saved name."""
        found: dict[str, dict[str, TensorSummary]] = {}
        devices: dict[str, list[_Saved]] = {}
        for each in self._saved:
            devices.setdefault(each.device, []).append(each)
        with quietly(), torch.no_grad():
            for group in devices.values():
                pieces = fetch([e.piece for e in group if isinstance(e.piece, torch.Tensor)])
                for each in group:
                    values = each.piece if isinstance(each.piece, tuple) else next(pieces)
                    if not each.only_zeros or values == (0,):
                        found.setdefault(each.key, {})[each.name] = _summary(each, values)
        self._saved = ()
        return found


def _computed(rows: Sequence[_ToRead], probed: Sequence[_ToRead]) -> list[_Saved]:
    """Compute what will be copied.

    Args:
        rows: the tensors to read.
        probed: tensors on accelerators, of interest only if all elements are 0. One fused kernel
            finds that out; reading their first elements, as on a CPU, would be a copy now.
    """
    found = [
        _Saved(row.key, row.name, *_facts(row.data), piece)
        for row in rows
        if (piece := _piece(row.data, row.array)) is not None
    ]
    alike: dict[tuple[torch.dtype, torch.device], list[_ToRead]] = {}
    for each in probed:
        alike.setdefault((each.data.dtype, each.data.device), []).append(each)
    for group in alike.values():
        largest = torch._foreach_norm([each.data for each in group], torch.inf)
        found += (
            _Saved(each.key, each.name, *_facts(each.data), piece, only_zeros=True)
            for each, piece in zip(group, largest, strict=True)
        )
    return found


def _facts(data: torch.Tensor) -> tuple[tuple[int, ...], str, str]:
    return tuple(data.shape), type_text(data.dtype), type_text(data.device)


def _piece(
    data: torch.Tensor, array: npt.NDArray[Any] | None
) -> torch.Tensor | tuple[float, ...] | None:
    """What to copy of a tensor, of a complex one magnitudes; None for a dtype without an order."""
    data = data.abs() if data.is_complex() else data
    if array is not None:
        flat = array.reshape(-1)
        if data.numel() <= FEW:
            return tuple(flat.tolist())
        return float(np.minimum.reduce(flat)), float(np.maximum.reduce(flat))  # NaN if there is one
    if data.numel() <= FEW:
        return data.flatten().clone()
    try:
        return torch.stack(torch.aminmax(data.byte() if data.dtype is torch.bool else data))
    except Exception:
        return None


def _summary(saved: _Saved, values: tuple[Any, ...]) -> TensorSummary:
    facts = saved[2:5]
    size = math.prod(saved.shape)
    if saved.only_zeros:
        values *= size if size <= FEW else 2
    if size <= FEW:
        nan, inf = sum(map(math.isnan, values)), sum(map(math.isinf, values))
        return TensorSummary(*facts, values, nan=nan, inf=inf)
    low, high = values
    if math.isnan(low):
        return TensorSummary(*facts, nan=1)
    inf = int(math.isinf(low)) + int(math.isinf(high))
    return TensorSummary(
        *facts,
        min=None if math.isinf(low) else low,
        max=None if math.isinf(high) else high,
        inf=inf,
    )


_WATCHED = 512  # operations of a pass whose gradients are looked at, those next to the roots
_READ_NOW = 1 << 22  # elements of gradients that are read in a pass: a few milliseconds
_SMALL = 1 << 12  # elements of a gradient that is compared with its parts
_ROUNDED = 32  # times the precision of a dtype: rounding errors of a sum
_READ_THERE = 1 << 28  # the same on accelerators
_LOSE_NOTHING = words(lambda row: row.rearranges) - {"as_strided", "expand"}
"""Operations that return the same elements in another shape or order; others may sum them."""


def is_ordinary(tensor: Any) -> bool:
    """Whether the values of a tensor can be read here: to read a `DTensor`, ranks communicate."""
    return (
        type(tensor) in (torch.Tensor, nn.Parameter)
        and tensor.layout is torch.strided
        and (tensor.is_cpu or not (tensor.is_meta or is_capturing()))
    )


class Copies:
    """Numbers that were computed on devices, copied to the host when they are asked for.

    Args:
        pieces: tensors of one element.
    """

    def __init__(self, pieces: Sequence[torch.Tensor]) -> None:
        alike: dict[tuple[torch.dtype, torch.device], list[int]] = {}
        for number, piece in enumerate(pieces):
            alike.setdefault((piece.dtype, piece.device), []).append(number)
        self._order = [number for group in alike.values() for number in group]
        self._stacks = [torch.stack([pieces[n] for n in group]) for group in alike.values()]

    @functools.cached_property
    def values(self) -> list[float]:
        """One number for each piece; waits until the kernels before it have run."""
        stacks, self._stacks = self._stacks, []
        with quietly(), torch.no_grad():
            found = dict(zip(self._order, chain(*(s.tolist() for s in stacks)), strict=True))
        return [found[number] for number in range(len(found))]


class _Piece(NamedTuple):
    """The largest magnitude in a gradient, or its norm: a number that is still on a device."""

    number: int


_Reading = Loss | bool | _Piece | None
"""What is lost in a gradient, or whether it was read; None if there was none."""

_Facts = tuple[int, Sequence[int], Mapping[int, int]]  # the first ones of a `_Look`
_NO_LOSS = frozenset({True, False, None})
_AS_IT_IS = nullcontext()


class _Look(NamedTuple):
    """What one operation was given and returned in a backward pass.

    Args:
        created: creation number of the operation.
        wanted: the inputs for which the backward of an `autograd.Function` must return a gradient.
        fed: by input: the creation number of an operation that others feed, too.
        returned: the reading of what it returned for each input.
        came: returns the readings of what came to it.
        shares: the input and the norm of what it adds to leaves with several uses.
    """

    created: int
    wanted: Sequence[int]
    fed: Mapping[int, int]
    returned: Sequence[_Reading]
    came: Callable[[], Sequence[_Reading]]
    shares: Sequence[tuple[int, float | _Piece]]


class Losses:
    """Where a backward pass lost gradients, and what each use of a leaf added to its ``.grad``.

    Attributes:
        has_lost: whether a gradient was lost, as far as that is known without a copy to the host.
    """

    def __init__(self) -> None:
        self.has_lost = False
        self._lost: list[tuple[int, int, Loss]] = []
        self._shares: list[tuple[int, int, float]] = []
        self._fed = set[int]()
        self._later: list[_Look] = []
        self._copies = Copies(())

    def has_none(self, created: int, returned: Sequence[_Reading]) -> bool:
        """Whether an operation that only one other feeds is known to have lost nothing."""
        is_known = created not in self._fed and not self._later
        return is_known and _NO_LOSS.issuperset(returned)

    def add(self, look: _Look, is_later: bool) -> None:
        """An operation returned gradients; ``is_later`` if some of the numbers are on a device."""
        if is_later or self._later:  # the order of the operations matters
            came = look.came()
            self._later.append(look._replace(came=lambda: came))
        else:
            self._judge(look, ())
            self.has_lost = bool(self._lost)

    def add_small(self, created: int, inputs: int, loss: Loss) -> None:
        """An operation returned rounding errors."""
        self._lost += [(created, at, loss) for at in range(inputs)]

    def end(self, pieces: Sequence[torch.Tensor]) -> None:
        """The pass is over; these are the numbers on devices."""
        self._copies = Copies(pieces)

    def found(self) -> tuple[list[tuple[int, int, Loss]], list[tuple[int, int, float]]]:
        """What was lost, and what was added.

        Returns:
            Creation number of each operation that lost a gradient, the input, and how; creation
            number, input and norm of the gradient that an operation added to a leaf that has
            several uses, or had a gradient before.
        """
        looks, self._later = self._later, []
        for look in looks:
            self._judge(look, self._copies.values)
        return self._lost, self._shares

    def _judge(self, look: _Look, values: Sequence[float]) -> None:
        def read(reading: _Reading) -> Loss | bool | None:
            if not isinstance(reading, _Piece):
                return reading
            largest = values[reading.number]
            return Loss.ZERO if largest == 0 else math.isfinite(largest) or Loss.NOT_FINITE

        created = look.created
        for at, norm in look.shares:
            norm = values[norm.number] if isinstance(norm, _Piece) else norm
            self._shares.append((created, at, norm))
        losses = [*map(read, look.returned)]
        for at in look.wanted:
            if at < len(losses) and losses[at] is None:
                losses[at] = Loss.MISSING
        self._fed.update(number for at, number in look.fed.items() if losses[at] is True)
        if created in self._fed and {*map(read, look.came())} == {Loss.ZERO}:
            self._lost += [(created, at, Loss.CANCELLED) for at in range(len(losses))]
            return
        rows = [(created, at, each) for at, each in enumerate(losses) if isinstance(each, Loss)]
        if rows:
            kinds = {read(each) for each in look.came()} - {False, None}
            kept = {Loss.ZERO} if Loss.NOT_FINITE in kinds else {*Loss}
            if kinds - {Loss.ZERO}:
                self._lost += [row for row in rows if row[2] in kept]


class GradientFlow:
    """Watches the gradients between operations in one backward pass.

    It sees where one is lost, and what each use of a leaf adds to its ``.grad``.

    Hooks on nodes look at what an operation returns. They change nothing and are removed after
    the pass. Of a gradient on an accelerator, one number is computed there; it is copied when it
    is asked for.

    Args:
        roots: the tensors that backward starts from.
        failed: called when a look went wrong, with the error.

    Attributes:
        losses: what it saw.
    """

    def __init__(self, roots: Sequence[Any], failed: Callable[[Exception], None]) -> None:
        self._failed, self._left, self._left_there = failed, _READ_NOW, _READ_THERE
        self._pieces: list[torch.Tensor] = []
        self._largest: dict[int, float] = {}  # norm of what the uses of a result returned
        self._is_batched: bool | None = None  # whether the pass is; None until it is known
        self.losses = Losses()
        self._handles: list[RemovableHandle] = []
        starts = [node for root in roots if (node := getattr(root, "grad_fn", None)) is not None]
        if not starts:
            return
        watched = list(islice(visit_ancestors(starts, nearest_first=True), _WATCHED))
        children = [child for _, edges in watched for child, _ in edges]
        shared, counts = _shared(children), Counter(children)
        for node, edges in watched:
            if edges and leaf_of(node) is None:
                is_function = isinstance(node, BackwardCFunction)
                present = [(at, child) for at, (child, _) in enumerate(edges) if child is not None]
                uses = [at for at, child in present if child in shared]
                several = [row for row in present if counts[row[1]] > 1 and row[1] not in shared]
                fed = {at: sequence_number(child) for at, child in several}
                op = operation_type(node).op
                is_looked_at = uses or is_function or fed or counts[node] > 1
                if not is_looked_at and op in _LOSE_NOTHING:
                    continue
                created = sequence_number(node)
                facts = created, tuple(at for at, _ in present) if is_function else (), fed
                look = functools.partial(self._look, facts, uses)
                self._handles.append(node.register_hook(look))
                if op in ("softmax", "layer_norm"):
                    see = functools.partial(self._look_at_sum, (created, dim_of_sum(node)))
                    self._handles.append(node.register_hook(see))

    def end(self) -> None:
        """Remove the hooks."""
        while self._handles:
            self._handles.pop().remove()
        pieces, self._pieces = self._pieces, []
        self.losses.end(pieces)

    def _look(self, facts: _Facts, uses: Sequence[int], returned: Any, came: Any) -> None:
        try:
            with quietly(), torch.no_grad() if torch.is_grad_enabled() else _AS_IT_IS:
                created, wanted, fed = facts
                given = [g for g in came if isinstance(g, torch.Tensor)]
                if self._is_batched is None and given:
                    self._is_batched = any(map(is_batched, given))
                is_there = not all(g.is_cpu for g in given)
                used = [(at, returned[at]) for at in uses if at < len(returned)]
                shares = [(at, self._norm(each)) for at, each in used if self._is_readable(each)]
                readings = self._read([*returned, *(came if is_there else ())])  # one kernel
                read, rest = readings[: len(returned)], readings[len(returned) :]
                is_plain = not (uses or wanted or fed or created in self._largest)
                if is_plain and self.losses.has_none(created, read):
                    return
                self._add_up(created, fed, returned, came)
                look = _Look(*facts, read, lambda: rest or self._read(came), shares)
                self.losses.add(look, is_there or any(isinstance(each, _Piece) for each in read))
        except Exception as error:
            self._failed(error)

    def _add_up(self, created: int, fed: Mapping[int, int], returned: Any, came: Any) -> None:
        """Compare a small gradient that came with the largest that a use of the result returned."""
        if (largest := self._largest.pop(created, 0.0)) and len(came) == 1:
            norm = self._small_norm(came[0])
            if norm and norm < _ROUNDED * torch.finfo(came[0].dtype).eps * largest:
                self.losses.add_small(created, len(returned), Loss.ROUNDED)
        for at, number in fed.items():
            if at < len(returned) and (norm := self._small_norm(returned[at])):
                self._largest[number] = max(norm, self._largest.get(number, 0.0))

    def _look_at_sum(self, facts: tuple[int, int], returned: Any, came: Any) -> None:
        """Whether the same gradient came for all entries, whose sum is the same for every input."""
        try:
            with quietly(), torch.no_grad():
                norm, (created, dim) = self._small_norm(came[0]), facts
                if not norm or not self._is_readable(returned[0]):
                    return
                least = _ROUNDED * torch.finfo(came[0].dtype).eps * norm
                spread = came[0].amax(dim) - came[0].amin(dim)
                norms = self._norm(returned[0]), self._norm(spread)
                if all(isinstance(each, float) and each < least for each in norms):
                    self.losses.add_small(created, 1, Loss.UNIFORM)
        except Exception as error:
            self._failed(error)

    def _small_norm(self, gradient: Any) -> float:
        is_small = self._is_readable(gradient) and gradient.is_cpu and gradient.numel() <= _SMALL
        norm = self._norm(gradient) if is_small else 0.0
        return norm if isinstance(norm, float) else 0.0

    def _is_readable(self, gradient: Any) -> bool:
        return (
            not self._is_batched
            and is_ordinary(gradient)
            and (gradient.is_floating_point() or gradient.is_complex())
            and 0 < gradient.numel() <= (self._left if gradient.is_cpu else self._left_there)
        )

    def _norm(self, gradient: torch.Tensor) -> float | _Piece:
        norm = torch.linalg.vector_norm(gradient)
        if not gradient.is_cpu:
            return self._piece(gradient, norm)
        self._left -= gradient.numel()
        return float(norm)

    def _piece(self, gradient: torch.Tensor, piece: torch.Tensor) -> _Piece:
        self._left_there -= gradient.numel()
        self._pieces.append(piece)
        return _Piece(len(self._pieces) - 1)

    def _read(self, gradients: Sequence[Any]) -> list[_Reading]:
        found: list[_Reading] = []
        there = []
        for number, gradient in enumerate(gradients):
            if not self._is_readable(gradient):
                found.append(None if gradient is None else False)
            elif gradient.is_cpu:
                found.append(self._read_now(gradient))
            else:
                found.append(False)
                there.append(number)
        if there:
            some = [gradients[number] for number in there]
            pieces = map(self._piece, some, torch._foreach_norm(some, math.inf))
            for number, piece in zip(there, pieces, strict=True):
                found[number] = piece
        return found

    def _read_now(self, gradient: torch.Tensor) -> Loss | bool:
        self._left -= gradient.numel()
        if gradient.is_complex():
            gradient = torch.view_as_real(gradient.resolve_conj())
        if (total := gradient.sum().item()) and math.isfinite(total):  # a sum keeps NaN, infinity
            return True
        low, high = (each.item() for each in torch.aminmax(gradient))
        if low == high == 0:
            return Loss.ZERO
        return (math.isfinite(low) and math.isfinite(high)) or Loss.NOT_FINITE


def _shared(children: Sequence[Any]) -> set[Any]:
    """Of the nodes that operations pass gradients to: leaves used more than once, or again."""
    counts = Counter(child for child in children if child is not None)
    found = set()
    for child, count in counts.items():
        leaf = leaf_of(child)
        if leaf is not None and (count > 1 or (leaf.is_leaf and leaf.grad is not None)):
            found.add(child)
    return found
