"""What a recording must not do: change warnings, miss a frame, or forget a partial pass."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from recording import events, strict

import gradviz
from gradviz.facts import BackwardDetails, EventKind, GradientDetails

__all__ = ["strict"]


class Same(torch.autograd.Function):
    """Returns a view of its input; a change of that in place makes ``grad_fn`` unreadable."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient


def heaviside_and_set() -> None:
    x = torch.ones(3, requires_grad=True)
    torch.heaviside(x * 2, x * 2)
    y, a = x * 2, x * 2
    y.set_(a)
    y.masked_scatter(y > 0, x).sum()


def set_alone() -> None:
    x = torch.ones(3, requires_grad=True)
    y, z = x * 2, x * 3
    y.set_(z)
    (y + z).sum()


def one_root_twice() -> None:
    x = torch.ones(3, requires_grad=True)
    torch.autograd.backward([x, x], [torch.ones(3)] * 2)
    (x * 3).sum()


def one_loss_twice_and_its_leaf() -> None:
    x = torch.ones(3, requires_grad=True)
    loss = (x * 2).sum()
    torch.autograd.backward([loss, loss, x], [torch.ones(()), torch.ones(()), torch.ones(3)])


def changed_view_of_a_function() -> None:
    x = torch.ones(3, requires_grad=True)
    y = Same.apply(x)  # type: ignore[no-untyped-call]
    y.detach().mul_(2)
    with pytest.raises(RuntimeError, match="is a view and its base"):
        y.sum()


def changed_view_that_was_a_root() -> None:
    x = torch.ones(3, requires_grad=True)
    y = Same.apply(x)  # type: ignore[no-untyped-call]
    y.backward(torch.ones(3))
    y.detach().mul_(2)


PROGRAMS = (
    heaviside_and_set,
    set_alone,
    one_root_twice,
    one_loss_twice_and_its_leaf,
    changed_view_of_a_function,
    changed_view_that_was_a_root,
)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda each: each.__name__)
def test_no_frame_is_missed_and_each_can_be_drawn_and_explained(
    program: Callable[[], None],
) -> None:
    with gradviz.record() as run:
        program()
        run.mark("now")
    assert not run.story.notes and run.frames
    assert gradviz.draw(run).svg and str(gradviz.explain(run))


def warned(program: Callable[[], object], action: Any) -> list[tuple[str, int, str]]:
    globals().pop("__warningregistry__", None)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter(action)
        program()
    return [(each.filename, each.lineno, str(each.message)) for each in found]


@pytest.mark.parametrize("action", ["default", "once", "always", "module", "ignore"])
def test_warnings_of_the_program_keep_their_line_and_their_number(action: str) -> None:
    x = torch.ones(1, requires_grad=True)
    retained = x * 2

    def program() -> None:
        for _ in range(2):
            float(x * 2)
            float(x * 3)
        torch.arange(4.0).reshape(1, 2, 2).T  # noqa: B018
        retained.grad  # noqa: B018
        warnings.warn("of the program itself", stacklevel=1)

    def recorded() -> None:
        with gradviz.record():
            program()

    torch.set_warn_always(True)
    try:
        bare = warned(program, action)
        assert warned(recorded, action) == bare and (bare or action == "ignore")
    finally:
        torch.set_warn_always(False)


def test_a_warning_made_an_error_is_raised_where_it_was() -> None:
    torch.set_warn_always(True)
    x = torch.ones(1, requires_grad=True)
    show = warnings._showwarnmsg  # type: ignore[attr-defined]
    try:
        with gradviz.record(), warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(UserWarning, match="requires_grad=True to a scalar"):
                float(x * 2)
    finally:
        torch.set_warn_always(False)
    assert warnings._showwarnmsg is show  # type: ignore[attr-defined]


def test_a_pass_that_failed_halfway_says_what_it_has_added_to() -> None:
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x * 1

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
            raise ValueError("broken backward")

    early, late = (torch.ones(2, requires_grad=True) for _ in range(2))
    with gradviz.record() as run:
        y = Broken.apply(early)  # type: ignore[no-untyped-call]
        with pytest.raises(ValueError, match="broken backward"):
            (y * late).sum().backward()
        (late * 2).sum().backward()
    first, second = events(run, EventKind.BACKWARD)
    assert isinstance(first.details, BackwardDetails) and first.details.has_failed
    assert isinstance(second.details, BackwardDetails) and not second.details.has_failed
    added = events(run, EventKind.ACCUMULATE)
    assert [event.name for event in added] == ["late.grad", "late.grad"]
    halves = [event.details for event in added]
    assert all(isinstance(each, GradientDetails) for each in halves)
    assert [(each.accumulations, each.pass_number) for each in halves] == [(1, 1), (2, 2)]  # type: ignore[union-attr]
    assert early.grad is None and late.grad is not None


def test_a_leaf_that_is_frozen_at_the_end_keeps_its_gradient() -> None:
    """A GAN freezes the network that it does not train, as ``toggle_optimizer`` of Lightning."""
    torch.manual_seed(0)
    g, d = torch.nn.Linear(2, 3), torch.nn.Linear(3, 1)
    of_g, of_d = (torch.optim.Adam(each.parameters()) for each in (g, d))
    with gradviz.record() as run:
        for is_last in (False, True):
            d.requires_grad_(False)
            loss = d(g(torch.randn(4, 2))).sum()
            of_g.zero_grad()
            loss.backward()
            of_g.step()
            d.requires_grad_(True)
            g.requires_grad_(False)
            of_critic = d(g(torch.randn(4, 2)).detach()).sum()
            of_d.zero_grad()
            of_critic.backward()
            if not is_last:
                of_d.step()
                g.requires_grad_(True)
    assert str(gradviz.explain(run)) == "4 parameters  fine"


@pytest.mark.parametrize("unscaled", ["unscale_", "step", "both"])
@pytest.mark.parametrize("first", [True, False])
def test_scaled_gradients_are_not_compared_with_unscaled_ones(unscaled: str, first: bool) -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(3)))
    halves = net[:1], net[1:]
    optimizers = [torch.optim.SGD(half.parameters(), 0.1) for half in halves]
    scaler: Any = torch.amp.GradScaler("cpu")
    with gradviz.record(net) as run:
        scaler.scale(net(torch.ones(2, 4)).square().mean()).backward()
        for optimizer in optimizers if unscaled == "both" else optimizers[first : first + 1]:
            getattr(scaler, "unscale_" if unscaled == "both" else unscaled)(optimizer)
    assert {each.verdict.value for each in gradviz.explain(run)} <= {
        "fine",
        "left out of the optimizer",
        "not trained",
    }
