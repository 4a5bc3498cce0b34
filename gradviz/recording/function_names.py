"""Functions of torch by name: what a reader calls them, and those that say nothing."""

from __future__ import annotations

from typing import Any

from gradviz.graph.operations import words

__all__ = ["QUERIES", "SHAPE_ONLY", "word_of"]

QUERIES = tuple(sorted(words(lambda row: row.query)))
"""Ask a tensor something, and make no tensor."""

SHAPE_ONLY = words(lambda row: row.shape_only)
"""Make a tensor of the shape of another, with none of its data."""

_REFLECTED = ("radd", "rsub", "rmul", "rdiv", "rpow", "rmatmul", "rmod", "rfloordiv", "rtruediv")
_IN_PLACE = ("iadd", "isub", "imul", "itruediv", "ipow", "iand", "ior")
_PLAIN = {"truediv": "div", "setitem": "setitem_", "array": "numpy"}


def word_of(func: Any) -> str:
    """What a function is called, in a reader's words.

    Example:
        >>> import torch
        >>> [word_of(f) for f in (torch.Tensor.add_, torch.Tensor.__rsub__, torch.Tensor.__iadd__)]
        ['add_', 'sub', 'add_']
        >>> word_of(torch.Tensor.T.__get__)
        'T'
    """
    name = str(getattr(func, "__name__", None) or type(func).__name__)
    if name in ("__get__", "__set__", "__delete__"):
        return str(getattr(getattr(func, "__self__", None), "__name__", name))
    if name.startswith("__") and name.endswith("__"):
        bare = name.strip("_")
        if bare in _REFLECTED:
            bare = bare[1:]
        elif bare in _IN_PLACE:
            return f"{_PLAIN.get(bare[1:], bare[1:])}_"
        return _PLAIN.get(bare, bare)
    return name
