"""The tensors at the upper end of a graph: recorded, alive, and used by nothing else recorded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from gradviz.capture.autograd.nodes import sequence_number
from gradviz.capture.recording.ghosts import Leaf
from gradviz.capture.recording.watch import Watch
from gradviz.capture.tensors.names import Names
from gradviz.capture.tracing.insertion import Insertion
from gradviz.capture.tracing.lifetime import let_go_safely
from gradviz.capture.tracing.walk import Walk
from gradviz.graph import GradGraph

__all__ = ["heads"]

_LATEST = 10_000  # operations that are looked at
_MOST = 50


def heads(
    watch: Watch, since: int, known: Sequence[torch.Tensor], names: Names
) -> list[torch.Tensor]:
    """Find the heads, in the order of their making.

    Args:
        watch: what was recorded.
        since: the count of nodes from which on to look.
        known: heads that are known already, and not among those returned.
        names: tensors that variables hold, also those whose making was not seen.

    Returns:
        The heads; if there are none at all, the leaves whose data went elsewhere.
    """
    watch.journal.settle()
    candidates: dict[int, tuple[int, torch.Tensor]] = {}
    for end, tensor in (*_named(names), *_recorded(watch)):
        if end > since and tensor.grad_fn is not None:
            candidates.setdefault(id(tensor), (end, tensor))
    latest_first = sorted(candidates.values(), key=lambda found: -found[0])
    walk = Walk(Insertion(GradGraph()))
    try:
        for tensor in known:
            _visit(walk, tensor)
        found = [tensor for _, tensor in latest_first if _visit(walk, tensor)]
    finally:
        let_go_safely(walk)
    return found[_MOST - 1 :: -1] if found or known else _leaves(watch)


def _named(names: Names) -> Iterator[tuple[int, torch.Tensor]]:
    for named in names:
        node = named.tensor.grad_fn
        if node is not None:
            yield sequence_number(node) + 1, named.tensor


def _recorded(watch: Watch) -> Iterator[tuple[int, torch.Tensor]]:
    for operation in watch.journal.latest(_LATEST):
        refs = operation[5]
        for ref in refs if isinstance(refs, tuple) else (refs,):
            tensor = ref()
            if tensor is not None:
                yield operation[1], tensor


def _visit(walk: Walk, tensor: torch.Tensor) -> bool:
    """Walk what is below a tensor; False if a tensor before it has led there."""
    node = tensor.grad_fn
    if node is None or node in walk.keys:
        return False
    for _ in walk.visit([node]):
        pass
    return True


def _leaves(watch: Watch) -> list[torch.Tensor]:
    found: dict[int, torch.Tensor] = {}
    for ghost in watch.ghosts.drawn:
        for data in ghost.inputs:
            if isinstance(data.source, Leaf) and (tensor := data.source.ref()) is not None:
                found[data.source.number] = tensor
    if not found:  # something was made, and nothing was done with it
        for record in watch.ghosts.tensors.values():
            tensor = record.ref()
            if isinstance(record, Leaf) and record.place.code is not None and tensor is not None:
                found[record.number] = tensor
    return [found[number] for number in sorted(found)][:_MOST]
