"""What a recording says of its events and frames in typed facts, of which the words are made."""

from __future__ import annotations

import pytest
import torch
from recording import events, strict
from torch import nn

import gradviz
from gradviz.capture.autograd.engine import creation_count
from gradviz.facts import (
    Action,
    BackwardDetails,
    ErrorDetails,
    EventKind,
    FrameKind,
    GradientDetails,
    ProblemKind,
    StepDetails,
    VersionDetails,
)
from gradviz.story import Event

__all__ = ["strict"]


def only(run: gradviz.Recording, kind: EventKind) -> Event:
    (event,) = events(run, kind)
    return event


def test_zeroing_names_every_leaf_and_counts_them() -> None:
    a, b, c = (torch.ones(2, requires_grad=True) for _ in range(3))
    with gradviz.record() as run:
        (a * 2 + b * 3 + c).sum().backward()
        for each in (a, b):
            each.grad = None
        c.grad = None
    pair, single = events(run, EventKind.GRAD)
    assert pair.nodes == (run.key_of(a), run.key_of(b)) and single.nodes == (run.key_of(c),)
    assert (pair.action, pair.count, pair.node) == (Action.SET_TO_NONE, 2, "")
    assert (single.action, single.count, single.node) == (Action.SET_TO_NONE, 1, run.key_of(c))
    assert pair.location.line == single.location.line - 1
    assert single.location.text == "c.grad = None" and single.location.column >= 0


@pytest.mark.parametrize("name", ["weight", "my weight", "w, b", "größe"])
def test_a_step_has_the_keys_of_what_it_holds_and_of_what_it_changed(name: str) -> None:
    used, unused = nn.Linear(2, 1, bias=False), nn.Linear(2, 1, bias=False)
    model = nn.ModuleDict({name: used, "unused": unused})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradviz.record(model) as run:
        used(torch.ones(1, 2)).sum().backward()
        optimizer.step()
    step = only(run, EventKind.STEP)
    key = run.key_of(used.weight)
    details = step.details
    assert isinstance(details, StepDetails)
    assert (details.held, details.changed, details.count) == ((key,), (key,), 2)
    assert (details.changed_count, details.changed_values) == (1, 1)
    assert details.names == (f"{name}.weight",) and step.nodes == (key,)


@pytest.mark.parametrize(
    ("dtype", "lr", "expected"),
    [
        (torch.float32, 0.1, 1),
        (torch.float32, 0.0, 0),
        (torch.bfloat16, 1e-4, 0),
        (torch.bfloat16, 1.0, 1),
        (torch.float64, 1e-4, 1),
    ],
)
def test_a_step_counts_the_parameters_whose_values_changed(
    dtype: torch.dtype, lr: float, expected: int
) -> None:
    w = torch.tensor([1.0, float("nan")], dtype=dtype, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=lr)
    with gradviz.record() as run:
        (w * torch.ones(2, dtype=dtype)).sum().backward()
        optimizer.step()
        before = creation_count()
        optimizer.step()
        assert creation_count() == before, "what is compared must not become part of a graph"
    step = events(run, EventKind.STEP)[0]
    assert isinstance(step.details, StepDetails)
    assert (step.details.changed_count, step.details.changed_values) == (1, expected)
    assert step.detail == ("changed w" if expected else "wrote to w, changed the values of none")


def test_a_backward_pass_says_what_it_was_called_with() -> None:
    x, w = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    with gradviz.record() as run:
        y = x * w
        y.backward(torch.ones(2), retain_graph=True, inputs=[w])
        torch.autograd.grad(y.sum(), [x], create_graph=True)
    first, second = events(run, EventKind.BACKWARD)
    key_x, key_w = run.key_of(x), run.key_of(w)
    assert (first.action, second.action) == (Action.BACKWARD, Action.AUTOGRAD_GRAD)
    assert isinstance(first.details, BackwardDetails)
    assert isinstance(second.details, BackwardDetails)
    assert (first.details.pass_number, first.details.inputs) == (1, (key_w,))
    assert first.details.gradient_given and first.details.retain_graph
    assert first.details.roots == tuple(run.frames[0].graph.roots)
    assert not first.details.create_graph and second.details.create_graph
    assert second.details.inputs == (key_x,) and second.details.pass_number == 1
    added = only(run, EventKind.ACCUMULATE)
    assert isinstance(added.details, GradientDetails)
    assert (added.details.before, added.details.accumulations) == (None, 1)
    assert (added.details.pass_number, added.node) == (1, key_w)


def test_a_failed_backward_says_so_and_has_the_problem_as_a_record() -> None:
    x = torch.ones(3, requires_grad=True)
    with pytest.raises(RuntimeError), gradviz.record() as run:
        y = x.exp()
        y.mul_(2)
        y.sum().backward()
    backward, error = only(run, EventKind.BACKWARD), only(run, EventKind.ERROR)
    assert isinstance(backward.details, BackwardDetails) and backward.details.has_failed
    assert isinstance(error.details, ErrorDetails)
    assert error.details.error == "RuntimeError" and "\n" not in error.details.message[:20]
    problem = error.details.problem
    assert problem is not None and problem.kind is ProblemKind.CHANGED_IN_PLACE
    assert (problem.op, problem.saved, problem.is_result) == ("exp", "result", True)
    assert (problem.wanted, problem.found, problem.changed_to) == (0, 1, 1)
    assert (problem.changed_by, problem.location.text) == ("mul_", "y.mul_(2)")
    frame = run.frames[-1]
    assert frame.kind is FrameKind.FAILED_BACKWARD
    assert frame.graph.nodes[problem.node]["problem"] == problem and error.node == problem.node


def test_freezing_by_a_loop_keeps_its_line_and_every_node() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    with gradviz.record(model) as run:
        for parameter in model[0].parameters():
            parameter.requires_grad = False
        model(torch.ones(1, 2)).sum().backward()
        model[1].requires_grad_(False)
        model(torch.ones(1, 2, requires_grad=True)).sum().backward()
    loop, whole = events(run, EventKind.REQUIRES_GRAD)
    assert (loop.action, loop.count) == (Action.REQUIRES_GRAD_OFF, 2)
    assert set(loop.nodes) == {run.key_of(each) for each in model[0].parameters()}
    assert set(whole.nodes) == {run.key_of(each) for each in model[1].parameters()}
    assert loop.location.text == "parameter.requires_grad = False"
    assert whole.location.text == "model[1].requires_grad_(False)"


def test_modes_changes_in_place_and_replaced_data() -> None:
    x = torch.ones(2, requires_grad=True)
    with gradviz.record() as run:
        with torch.no_grad():
            x.add_(1)
        with torch.inference_mode():
            pass
        x.data = torch.zeros(2)
    actions = [event.action for event in events(run, EventKind.MODE)]
    assert actions == [
        Action.GRADIENTS_OFF,
        Action.GRADIENTS_ON,
        Action.INFERENCE_ON,
        Action.INFERENCE_OFF,
    ]
    added, replaced = events(run, EventKind.IN_PLACE)
    assert added.details == VersionDetails(0, 1)
    assert (replaced.action, replaced.details) == (Action.DATA_REPLACED, None)


def test_every_frame_says_what_it_is_and_what_it_follows() -> None:
    w = torch.ones(2, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=0.1)
    with gradviz.record(max_frames=20) as run:
        for _ in range(2):
            optimizer.zero_grad()
            (w * 2).sum().backward()
            optimizer.step()
        run.mark("here")
        torch.autograd.grad((w * 3).sum(), w)
    found = [(frame.kind, frame.pass_number) for frame in run.frames]
    assert found == [
        (FrameKind.FORWARD, 1),
        (FrameKind.AFTER_BACKWARD, 1),
        (FrameKind.AFTER_STEP, 1),
        (FrameKind.AFTER_GRADIENT_CHANGE, 1),
        (FrameKind.FORWARD, 2),
        (FrameKind.AFTER_BACKWARD, 2),
        (FrameKind.AFTER_STEP, 2),
        (FrameKind.MARK, 2),
        (FrameKind.FORWARD, 2),
        (FrameKind.AFTER_AUTOGRAD_GRAD, 2),
        (FrameKind.END, 2),
    ]
    follows = [frame.follows for frame in run.frames]
    assert follows == sorted(follows)
    kinds = {event.number: event.kind for event in run.events}
    assert [kinds[number] for number in follows] == [
        EventKind.OPERATION,
        EventKind.ACCUMULATE,
        EventKind.STEP,
        EventKind.GRAD,
        EventKind.OPERATION,
        EventKind.ACCUMULATE,
        EventKind.STEP,
        EventKind.MARK,
        EventKind.OPERATION,
        EventKind.BACKWARD,
        EventKind.CUT,
    ]


def test_mixed_precision_is_told_step_by_step() -> None:
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    with gradviz.record() as run:
        for factor in (1.0, float("inf")):
            scaler.scale((w * factor).sum()).backward()  # type: ignore[no-untyped-call]
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_([w], 1.0)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
        scaler.scale(w.sum()).backward()  # type: ignore[no-untyped-call]
        scaler.step(optimizer)
    found = [(e.word, e.action) for e in events(run, EventKind.GRAD, EventKind.STEP)]
    assert found == [
        ("unscale_", Action.UNSCALED),
        ("clip_grad_norm_", Action.CLIPPED),
        ("step", None),
        ("zero_grad", Action.SET_TO_NONE),
        ("unscale_", Action.UNSCALED),
        ("clip_grad_norm_", Action.CLIPPED),
        ("step", Action.SKIPPED),
        ("zero_grad", Action.SET_TO_NONE),
        ("unscale_", Action.UNSCALED),
        ("step", None),
    ]
    skipped = next(e for e in run.events if e.action is Action.SKIPPED)
    assert isinstance(skipped.details, StepDetails)
    assert (skipped.details.held, skipped.details.changed) == ((run.key_of(w),), ())
    assert skipped.location.text == "scaler.step(optimizer)" and skipped.name == "SGD"
    assert skipped.detail == "skipped by GradScaler: a gradient is infinite or NaN"


def test_a_healthy_number_that_is_read_is_no_skipped_step() -> None:
    x = torch.ones(2)
    with gradviz.record() as run:
        assert x.sum().item() == 2.0
    assert not events(run)


def test_an_input_that_an_operation_changes_in_place_is_an_event() -> None:
    table = nn.Embedding(5, 3, max_norm=1.0)
    with torch.no_grad():
        table.weight.fill_(9.0)
    with gradviz.record() as run:
        h = table(torch.tensor([1, 2]))
        h.sum().backward()
    lookup = only(run, EventKind.IN_PLACE)
    assert (lookup.word, lookup.location.text) == (
        "embedding_renorm_",
        "h = table(torch.tensor([1, 2]))",
    )
    assert isinstance(lookup.details, VersionDetails)
    assert lookup.details.after == lookup.details.before + 1
    assert lookup.nodes == (run.key_of(table.weight),)
    plain = nn.Embedding(5, 3)
    with gradviz.record() as quiet:
        plain(torch.tensor([1, 2])).sum().backward()
    assert not [event for event in quiet.events if event.kind is EventKind.IN_PLACE]


def test_a_saved_tensor_that_was_renormalized_names_the_line_and_the_operation() -> None:
    table = nn.Embedding(5, 3, max_norm=1.0)
    with torch.no_grad():
        table.weight.fill_(9.0)
    with pytest.raises(RuntimeError), gradviz.record() as run:
        a = table.weight @ torch.ones(3, 2, requires_grad=True)
        b = table(torch.tensor([1, 2]))
        (a.sum() + b.sum()).backward()
    error = only(run, EventKind.ERROR)
    assert isinstance(error.details, ErrorDetails) and error.details.problem is not None
    problem = error.details.problem
    assert (problem.op, problem.changed_by) == ("mm", "embedding_renorm_")
    assert problem.location.text == "b = table(torch.tensor([1, 2]))"


def test_loading_a_state_dict_is_called_so() -> None:
    model = nn.Linear(2, 1)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    with gradviz.record(model) as run:
        model.load_state_dict(state)
    changes = events(run, EventKind.IN_PLACE)
    assert {event.word for event in changes} == {"load_state_dict"}
    assert {event.location.text for event in changes} == {"model.load_state_dict(state)"}
