"""Finds the name of a tensor when the walk meets it, with no tensor in the graph."""

from __future__ import annotations

import re

import torch
from torch.autograd.graph import Node

from gradviz.capture.autograd.tensors import is_unsure
from gradviz.capture.tensors.names import Named, Names

__all__ = ["Labels", "path_name"]

_FIRST_STEP = re.compile(r"^(?:\.(\w+)|\['([^']*)'\])")


class Labels:
    """Names, to be looked up by tensor or by the output of the node that made it.

    Args:
        by_id: leaves, untracked tensors and those whose node must not be asked for, by their
            ``id``; the names hold them.
        by_output: the others, by node and output number.
    """

    def __init__(self, names: Names) -> None:
        self.by_id: dict[int, Named] = {id(named.tensor): named for named in names.unsure}
        self.by_output: dict[tuple[Node, int], Named] = {}
        for named in names:
            node = named.tensor.grad_fn
            if node is None:
                self.by_id.setdefault(id(named.tensor), named)
            else:
                self.by_output.setdefault((node, named.tensor.output_nr), named)

    def of(self, tensor: torch.Tensor) -> Named | None:
        """What is known about the name of a tensor."""
        node = None if is_unsure(tensor) else tensor.grad_fn
        if node is None:
            return self.by_id.get(id(tensor))
        return self.by_output.get((node, tensor.output_nr))


def path_name(path: str) -> str:
    """What to call a tensor that only its container knows.

    Example:
        >>> path_name(".logits"), path_name("['loss']"), path_name("['a'][0]"), path_name("[1]")
        ('logits', 'loss', 'a[0]', '[1]')
    """
    return _FIRST_STEP.sub(lambda found: found[1] or found[2], path)
