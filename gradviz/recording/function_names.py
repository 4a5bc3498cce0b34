"""Functions of torch by name: what a reader calls them, and those that say nothing."""

from __future__ import annotations

from typing import Any

__all__ = ["QUERIES", "SHAPE_ONLY", "word_of"]

_QUERIES = """
__bool__ __contains__ __deepcopy__ __dir__ __format__ __hash__ __len__ __reduce_ex__ __repr__
_is_view _record_function_enter_new _record_function_exit._RecordFunction allclose data_ptr dim
element_size equal get_device has_names is_complex is_contiguous is_floating_point is_inference
is_nonzero is_pinned is_same_size is_shared is_signed is_storage is_tensor ndimension nelement
numel rename_ result_type retain_grad share_memory_ size storage storage_offset stride
untyped_storage
"""
QUERIES = tuple(_QUERIES.split())
"""Ask a tensor something, and make none."""

_SHAPE_ONLY = """
empty_like full_like ones_like rand_like randint_like randn_like zeros_like new_empty
new_empty_strided new_full new_ones new_tensor new_zeros
"""
SHAPE_ONLY = frozenset(_SHAPE_ONLY.split())
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
