"""Values that go on into a leaf without their gradient: the cut has its line and its word."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from recording import strict  # noqa: F401
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

import gradviz
from gradviz.diagnosis.answers import Verdict

Copy = Callable[[nn.Linear, torch.Tensor], None]


def assigned(net: nn.Linear, w: torch.Tensor) -> None:
    net.weight.data = w  # the copy


def copied_data(net: nn.Linear, w: torch.Tensor) -> None:
    net.weight.data.copy_(w)  # the copy


def copied_without_graph(net: nn.Linear, w: torch.Tensor) -> None:
    with torch.no_grad():
        net.weight.copy_(w)  # the copy


def copied_into_rows(net: nn.Linear, w: torch.Tensor) -> None:
    net.weight.data[:] = w  # the copy


def copied_into_one_row(net: nn.Linear, w: torch.Tensor) -> None:
    row = w[0]
    with torch.no_grad():
        net.weight[0].copy_(row)  # the copy


def added(net: nn.Linear, w: torch.Tensor) -> None:
    with torch.no_grad():
        net.weight.add_(w, alpha=0.5)  # the copy


def loaded(net: nn.Linear, w: torch.Tensor) -> None:
    net.load_state_dict({"weight": w})  # the copy


def from_vector(net: nn.Linear, w: torch.Tensor) -> None:
    vector_to_parameters(w.flatten(), net.parameters())  # the copy


def new_parameter(net: nn.Linear, w: torch.Tensor) -> None:
    net.weight = nn.Parameter(w)  # the copy


def new_parameter_of_a_copy(net: nn.Linear, w: torch.Tensor) -> None:
    net.weight = nn.Parameter(w.clone())  # the copy


COPIES: dict[str, tuple[Copy, str]] = {
    "data =": (assigned, "an assignment to .data"),
    "data.copy_": (copied_data, "copy_()"),
    "copy_ under no_grad": (copied_without_graph, "copy_()"),
    "data[:] =": (copied_into_rows, "an assignment to an index"),
    "copy_ into a row": (copied_into_one_row, "copy_()"),
    "add_ under no_grad": (added, "add_()"),
    "load_state_dict": (loaded, "load_state_dict()"),
    "vector_to_parameters": (from_vector, "vector_to_parameters()"),
    "nn.Parameter": (new_parameter, "nn.Parameter()"),
    "nn.Parameter of a clone": (new_parameter_of_a_copy, "nn.Parameter()"),
}


def line(function: Copy) -> str:
    first = function.__code__.co_firstlineno
    lines = Path(__file__).read_text().splitlines()
    return str(next(at for at in range(first, len(lines)) if "# the copy" in lines[at - 1]))


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_named_with_its_line(name: str) -> None:
    put, word = COPIES[name]
    torch.manual_seed(0)
    hyper, net = nn.Linear(2, 8, bias=False), nn.Linear(4, 2, bias=False)
    with gradviz.record() as run:
        w = hyper(torch.ones(2)).view(2, 4)
        put(net, w)
        net(torch.ones(5, 4)).pow(2).mean().backward()
    assert run.story.notes == ()
    told = gradviz.explain(run, names=hyper).of("weight")
    assert told.verdict is Verdict.CUT
    assert word in told.reason
    assert f"test_record_copies.py:{line(put)}" in told.reason


def test_the_fix_works() -> None:
    hyper, net = nn.Linear(2, 8, bias=False), nn.Linear(4, 2, bias=False)
    with gradviz.record() as run:
        w = hyper(torch.ones(2)).view(2, 4)
        torch.func.functional_call(net, {"weight": w}, torch.ones(5, 4)).sum().backward()
    assert gradviz.explain(run, names=hyper).of("weight").verdict is Verdict.FINE


def test_a_deep_copy_is_named() -> None:
    model = nn.Linear(2, 1)
    with gradviz.record() as run:
        clone = copy.deepcopy(model)
        clone(torch.ones(1, 2)).sum().backward()
    for name in ("weight", "bias"):
        told = gradviz.explain(run, names=model).of(name)
        assert told.verdict is Verdict.CUT
        assert "deepcopy()" in told.reason


OF_A_RIGHT_PROGRAM = {Verdict.FINE, Verdict.STALE, Verdict.ZERO}  # zero: the teacher is its copy


def sgd(model: nn.Module, teacher: nn.Module) -> None:
    for p in model.parameters():
        assert p.grad is not None
        p.data -= 0.1 * p.grad


def sgd_with_decay(model: nn.Module, teacher: nn.Module) -> None:
    with torch.no_grad():
        for p in model.parameters():
            assert p.grad is not None
            p.sub_(0.1 * (p.grad + 0.01 * p))


def normalized(model: nn.Module, teacher: nn.Module) -> None:
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(p / (1 + p.norm()))


def averaged(model: nn.Module, teacher: nn.Module) -> None:
    with torch.no_grad():
        for p, q in zip(teacher.parameters(), model.parameters(), strict=True):
            p.mul_(0.9).add_(q, alpha=0.1)


def synchronized(model: nn.Module, teacher: nn.Module) -> None:
    teacher.load_state_dict(model.state_dict())


def by_vector(model: nn.Module, teacher: nn.Module) -> None:
    vector_to_parameters(parameters_to_vector(model.parameters()), teacher.parameters())


@pytest.mark.parametrize(
    "update", [sgd, sgd_with_decay, normalized, averaged, synchronized, by_vector]
)
@pytest.mark.parametrize("is_frozen", [True, False])
def test_no_alarm_for_a_program_that_is_right(
    update: Callable[[nn.Module, nn.Module], None], is_frozen: bool
) -> None:
    torch.manual_seed(0)
    model, teacher = nn.Linear(3, 2), nn.Linear(3, 2)
    if is_frozen:
        teacher.requires_grad_(False)
    with gradviz.record(model) as run:
        for _ in range(3):
            model.zero_grad()
            x = torch.randn(4, 3)
            with torch.no_grad():
                target = teacher(x)
            (model(x) - target).pow(2).mean().backward()
            update(model, teacher)
    assert run.story.notes == ()
    told = gradviz.explain(run, names=model)
    assert {told.of(name).verdict for name in ("weight", "bias")} <= OF_A_RIGHT_PROGRAM


def test_an_average_of_many_steps_does_not_grow() -> None:
    model, teacher = nn.Linear(2, 2), nn.Linear(2, 2)
    with gradviz.record(model) as run:
        for _ in range(60):
            averaged(model, teacher)
            teacher(model(torch.ones(1, 2))).sum().backward()
    for p in teacher.parameters():
        record = run._state.provenance.leaf(p).untracked
        assert record is not None
        assert len(record.inputs) <= 16


def overwritten(w: torch.Tensor, kind: str) -> torch.Tensor:
    buffer = w.detach() * 2
    if kind == "copy_":
        buffer.copy_(torch.ones(3))
    elif kind == "zero_":
        buffer.zero_()
    elif kind == "fill_":
        buffer.fill_(1.0)
    elif kind == "out=":
        torch.add(torch.ones(3), 1, out=buffer)
    elif kind == "data =":
        buffer.data = torch.ones(3)
    return buffer


@pytest.mark.parametrize("kind", ["copy_", "zero_", "fill_", "out=", "data ="])
def test_overwriting_ends_the_trail(kind: str) -> None:
    a, w = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    with gradviz.record() as run:
        loss = (w * overwritten(a, kind)).sum()
        loss.backward()
    told = gradviz.explain(run, [a, w])
    expected = Verdict.ZERO if kind == "zero_" else Verdict.FINE
    assert [each.verdict for each in told] == [Verdict.NOT_CONNECTED, expected]


def test_overwriting_a_part_does_not() -> None:
    a, w = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    with gradviz.record() as run:
        buffer = a.detach() * 2
        buffer[:1].zero_()
        (w * buffer).sum().backward()
    assert gradviz.explain(run, a).verdict is Verdict.CUT


@pytest.mark.parametrize(
    "written",
    [
        "layer.weight.data[0] = h.data",
        "layer.weight.data = h.data.reshape(1, 4)",
        "layer.weight.data.copy_(h.detach())",
        "with torch.no_grad(): layer.weight[0] = h.detach()",
    ],
)
def test_what_is_detached_to_be_written_into_a_parameter_is_copied(written: str) -> None:
    layer, x = torch.nn.Linear(4, 1), torch.ones(1, 4)
    w = torch.ones(4, requires_grad=True)
    with gradviz.record() as run:
        exec(written, {"torch": torch, "layer": layer, "h": w * 2})
        loss = layer(x).sum()
        loss.backward()
    told = gradviz.explain(w, loss, run)
    assert told.verdict is Verdict.CUT
    assert "torch.func.functional_call(module, {name: tensor}, inputs)" in told.fix
    torch.func.functional_call(layer, {"weight": (w * 2).reshape(1, 4)}, x).sum().backward()
    assert w.grad is not None


@pytest.mark.parametrize(
    "written",
    ["copied = nn.Parameter(w.exp() * 0.5)", "copied.data.copy_((w * other).data)"],
)
def test_a_parameter_with_computed_values_is_no_copy_of_another(written: str) -> None:
    w, other = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4))
    space = {"nn": nn, "w": w, "other": other, "copied": nn.Parameter(torch.zeros(4))}
    with gradviz.record() as run:
        exec(written, space)
        unused = (space["copied"] * 2).sum().detach()
        (w * other * unused).sum().backward()
    told = gradviz.explain(run, names={"copied": space["copied"], "w": w, "other": other})
    assert told.of("copied").verdict is Verdict.CUT
    assert told.of("w").verdict is Verdict.FINE
