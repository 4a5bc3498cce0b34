"""The tensors in the arguments of a call, or an error that says what to pass."""

from __future__ import annotations

import dataclasses
import numbers
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch.autograd.graph import GradientEdge, Node

from gradviz.errors import SubjectError

__all__ = ["Subject", "flatten", "maker_of", "parts", "shortly"]

_ALLOWED = "a tensor, a GradientEdge, or tuples, lists, dicts and dataclasses of them"


@dataclass(frozen=True, eq=False)
class Subject:
    """One tensor (or edge) to draw.

    Args:
        value: the tensor, or the ``GradientEdge``.
        path: the rest of its name after the variable: ``""`` for the variable itself, ``"[0]"``,
            ``"['loss']"``, ``".logits"`` for a part of it.
    """

    value: torch.Tensor | GradientEdge
    path: str = ""


def flatten(subjects: tuple[object, ...], caller: str = "draw") -> list[Subject]:
    """Find the tensors in the arguments, in order.

    Args:
        subjects: tensors, gradient edges, and tuples, lists, dicts, namedtuples or dataclasses
            of them at any depth. Other values in a container are ignored.
        caller: the function that was called, for messages.

    Returns:
        One `Subject` per tensor.

    Raises:
        SubjectError: if there is no tensor; the message says what to pass instead.

    Example:
        >>> x = torch.ones(2)
        >>> [subject.path for subject in flatten((x, {"loss": x, "parts": [x, None]}))]
        ['', "['loss']", "['parts'][0]"]
    """
    if not subjects:
        raise SubjectError(f"nothing to {caller}: pass {_ALLOWED}")
    found: list[Subject] = []
    for subject in subjects:
        before = len(found)
        found.extend(_tensors(subject, caller))
        if len(found) == before:
            raise SubjectError(_complaint(subject, caller))
    return found


def maker_of(tensor: torch.Tensor) -> Node | None:
    """The ``grad_fn`` of a tensor.

    Raises:
        SubjectError: if torch raises.
    """
    try:
        return tensor.grad_fn
    except RuntimeError as error:
        raise SubjectError(
            f"cannot tell where a tensor of shape {tuple(tensor.shape)} came from: it is a view "
            "made under no_grad, or one of several, and its base was changed in place since: "
            "make the view again after the change, or pass its base"
        ) from error


def shortly(value: object) -> str:
    """The ``repr`` of a value in one line, truncated; never raises.

    Example:
        >>> shortly(list(range(1000)))
        '[0, 1, 2, 3, 4, 5, ...]'
    """
    try:
        return " ".join(reprlib.repr(value).split())
    except Exception:
        return f"<{type(value).__name__}>"


def parts(value: object) -> Iterator[tuple[object, str]]:
    """The entries of a container, each with its index or attribute; nothing for other values.

    Example:
        >>> list(parts({"a": 1}))
        [(1, "['a']")]
    """
    if isinstance(value, Mapping) and not dataclasses.is_dataclass(value):
        yield from ((part, f"[{shortly(key)}]") for key, part in value.items())
    elif fields := _fields(value):
        yield from ((getattr(value, field, None), f".{field}") for field in fields)
    elif isinstance(value, (list, tuple)):
        yield from ((part, f"[{index}]") for index, part in enumerate(value))


def _fields(value: object) -> tuple[str, ...]:
    """Names of the entries of a dataclass, a namedtuple, or a result such as ``torch.max``'s."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return tuple(item.name for item in dataclasses.fields(value))
    if isinstance(value, tuple):
        return tuple(getattr(value, "_fields", getattr(value, "__match_args__", ())))
    return ()


def _tensors(subject: object, caller: str) -> Iterator[Subject]:
    """Search a subject depth first with a stack, each container once (it may contain itself)."""
    seen: set[int] = set()
    stack: list[tuple[object, str]] = [(subject, "")]
    while stack:
        value, path = stack.pop()
        if isinstance(value, (torch.Tensor, GradientEdge)):
            yield Subject(value, path)
        elif _is_mistake(value):
            raise SubjectError((f"at {path}: " if path else "") + _complaint(value, caller))
        elif id(value) not in seen:
            seen.add(id(value))
            stack.extend((part, path + step) for part, step in reversed(list(parts(value))))


def _is_mistake(value: object) -> bool:
    """Whether a value in a container cannot be drawn, but was probably meant to be."""
    return isinstance(value, (torch.nn.Module, Node)) or _is_tensor_method(value)


def _is_tensor_method(value: object) -> bool:
    return callable(value) and isinstance(getattr(value, "__self__", None), torch.Tensor)


def _complaint(value: object, caller: str) -> str:
    """One line: what was passed, why it cannot be drawn, and what to pass instead."""
    if value is None:
        return (
            f"cannot {caller} None: backward() returns None: "
            "pass the loss, not the result of loss.backward()"
        )
    if _is_tensor_method(value):
        name = getattr(value, "__name__", "mean")
        return f"cannot {caller} .{name}, a method: did you forget the call: loss.{name}()"
    if isinstance(value, (list, tuple, Mapping)) or _fields(value):
        return f"no tensor in {shortly(value)}: pass {_ALLOWED}"
    return f"cannot {caller} {shortly(value)} ({type(value).__name__}): {_advice(value, caller)}"


def _advice(value: object, caller: str) -> str:
    if isinstance(value, torch.nn.Module):
        name = "summary" if caller == "sum up" else caller
        return f"pass its output: {name}(model(x), names=model)"
    if isinstance(value, Node):
        return "pass the tensor it made, or torch.autograd.graph.GradientEdge(node, 0)"
    if isinstance(value, numbers.Number):
        return "it has left autograd (was .item() called?): pass the tensor itself"
    if isinstance(value, (str, bytes)):
        return "pass the tensor itself, not its name"
    if type(value).__module__.partition(".")[0] == "numpy":
        return "numpy records no gradients: pass the tensor it was made from"
    if isinstance(value, torch.optim.Optimizer):
        return "pass the loss that it minimizes"
    if isinstance(value, type):
        return f"it is a class: pass {_ALLOWED}"
    if isinstance(value, Iterator):
        return "it can be read only once: pass list(...) of it"
    if callable(value):
        return "pass what it returns"
    return f"pass {_ALLOWED}"
