"""What recordings lean on in torch: one small test for each fact."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from torch.autograd import _get_sequence_nr
from torch.overrides import TorchFunctionMode


class Seen(TorchFunctionMode):
    """The names of the functions that a mode is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        owner = getattr(func, "__self__", None)
        name = func.__name__
        self.names.append(f"{owner.__name__}.{name}" if name.startswith("__get") else name)
        return func(*args, **(kwargs or {}))


def test_a_mode_is_shown_what_leaves_the_graph() -> None:
    x = torch.ones(2, requires_grad=True)
    y = x * 1
    with Seen() as mode:
        x.detach()
        x.data  # noqa: B018
        y.sum().item()
        x.detach().numpy()
        x.requires_grad_()
    assert mode.names == [
        "detach",
        "data.__get__",
        "sum",
        "item",
        "detach",
        "numpy",
        "requires_grad_",
    ]


def test_a_mode_is_shown_no_grad_but_not_inference_mode() -> None:
    with Seen() as mode:
        with torch.no_grad():
            pass
        with torch.inference_mode():
            pass
    assert mode.names == ["_set_grad_enabled"] * 2


def test_inference_mode_can_be_asked_for() -> None:
    with torch.inference_mode():
        assert torch.is_inference_mode_enabled() and not torch.is_grad_enabled()


def test_the_forward_of_a_function_runs_with_gradients_off_and_no_word_of_it() -> None:
    states = []

    class Probe(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            states.append((torch.is_grad_enabled(), _get_sequence_nr()))
            return x * 1

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            return grads[0]

    x = torch.ones(2, requires_grad=True)
    before = _get_sequence_nr()
    with Seen() as mode:
        y = Probe.apply(x)
    assert states == [(False, before + 1)], "its node is made before its forward runs"
    assert y.grad_fn._sequence_nr() == before
    assert mode.names == ["mul"]


def test_nodes_are_numbered_by_one_count_per_thread() -> None:
    x = torch.ones(2, requires_grad=True)
    start = _get_sequence_nr()
    y = x * 2
    z = y.exp()
    x.detach()
    assert [t.grad_fn._sequence_nr() for t in (y, z)] == [start, start + 1]  # type: ignore[union-attr]
    assert _get_sequence_nr() == start + 2


def test_every_backward_runs_through_one_function(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = torch.autograd._engine_run_backward  # type: ignore[attr-defined]

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append((args[2], args[3], kwargs["accumulate_grad"]))
        return original(*args, **kwargs)

    monkeypatch.setattr(torch.autograd, "_engine_run_backward", counted)
    x = torch.ones(2, requires_grad=True)
    (x * 2).sum().backward(retain_graph=True)
    torch.autograd.backward((x * 2).sum())
    torch.autograd.grad((x * 2).sum(), x, create_graph=True)
    assert calls == [(True, False, True), (False, False, True), (True, True, False)]


def test_a_weak_reference_lives_as_long_as_the_tensor_not_as_its_wrapper() -> None:
    dead: list[str] = []
    x = torch.ones(2, requires_grad=True)
    h = x * 2
    number, reference = id(h), weakref.ref(h, lambda _: dead.append("h"))
    loss = (h * h).sum()  # saves h itself
    del h
    again = reference()
    assert again is not None and id(again) == number and not dead
    del again, loss
    assert dead == ["h"]


def test_a_gradient_is_one_object_and_adding_to_it_counts_a_version() -> None:
    w = torch.ones(2, requires_grad=True)
    (w * 3).sum().backward()
    first, version = w.grad, w.grad._version  # type: ignore[union-attr]
    assert w.grad is first
    number = id(first)
    del first
    (w * 3).sum().backward()
    assert id(w.grad) == number
    assert w.grad._version > version  # type: ignore[union-attr]


def test_a_second_gradient_with_a_graph_is_another_object() -> None:
    w = torch.ones(2, requires_grad=True)
    (w * 3).sum().backward()
    first = w.grad
    (w**2).sum().backward(create_graph=True)
    assert w.grad is not first


def test_in_place_versions_are_shared_with_views_and_detached_tensors() -> None:
    x = torch.ones(2)
    view, detached, data = x.view(-1), x.detach(), x.data
    x.add_(1)
    assert (view._version, detached._version, data._version) == (1, 1, 0)


def test_the_message_about_a_change_in_place() -> None:
    x = torch.ones(3, requires_grad=True)
    y = x.exp()
    y.add_(1)
    expected = r"FloatTensor \[3\]\], which is output 0 of \w+, is at version 1; expected version 0"
    with pytest.raises(RuntimeError, match=expected):
        y.sum().backward()


def test_optimizers_call_the_hooks_of_a_step_from_one_wrapper() -> None:
    import inspect

    from torch.optim.optimizer import register_optimizer_step_pre_hook

    codes = []

    def hook(*_: Any) -> None:
        frame = inspect.currentframe()
        assert frame is not None and frame.f_back is not None
        codes.append(frame.f_back.f_code)

    handle = register_optimizer_step_pre_hook(hook)
    try:
        w = torch.nn.Parameter(torch.ones(2))
        for kind in (torch.optim.SGD, torch.optim.Adam):
            kind([w]).step()
    finally:
        handle.remove()
    assert codes[0] is codes[1] and codes[0].co_name == "wrapper"
