"""Passes that repeat earlier ones: their frames, built when they are read, show the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import gradviz
from gradviz.facts import FrameKind
from gradviz.graph import NodeKind, TensorSummary
from gradviz.recording import steady

LEAVES = (NodeKind.PARAMETER, NodeKind.LEAF)


def train(steps: int, zero_every: int = 1, power: float = 2.0) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer, losses = torch.optim.SGD(model.parameters(), 0.01), []
    for number, x in enumerate(torch.randn(steps, 8, 8)):
        if number % zero_every == 0:
            optimizer.zero_grad()
        loss = model(x).pow(power).mean() * 0.5
        loss.backward()
        losses.append(loss.item())
        if (number + 1) % zero_every == 0:
            optimizer.step()


def accumulate() -> None:
    train(24, zero_every=3)


def never_clear() -> None:
    train(20, zero_every=100)


def two_networks() -> None:
    torch.manual_seed(0)
    one, other = nn.Linear(4, 4), nn.Linear(4, 1)
    optimizers = [torch.optim.Adam(each.parameters()) for each in (one, other)]
    for _ in range(16):
        z = torch.randn(3, 4)
        optimizers[1].zero_grad()
        (other(torch.randn(3, 4)).mean() - 2 * other(one(z).detach()).mean()).backward()
        optimizers[1].step()
        optimizers[0].zero_grad()
        other(one(z)).mean().backward()
        nn.utils.clip_grad_norm_(one.parameters(), 0.1)
        optimizers[0].step()


def deep() -> None:
    torch.manual_seed(0)
    layers = (each for _ in range(24) for each in (nn.Linear(30, 30), nn.Tanh(), nn.LayerNorm(30)))
    model = nn.Sequential(*layers)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for x in torch.randn(12, 4, 30):
        optimizer.zero_grad()
        model(x).pow(2).mean().backward()
        optimizer.step()


def zeros_near_the_end() -> None:
    w = torch.ones(3, requires_grad=True)
    for number in range(20):
        w.grad = None
        (w * (0.0 if number == 18 else 2.0)).sum().backward()


def another_constant() -> None:
    w = torch.ones(3, requires_grad=True)
    for number in range(20):
        w.grad = None
        loss = (w * (3.0 if number > 12 else 2.0)).sum()
        loss.backward()


def gradient_in_old_style() -> None:
    w = torch.ones(3, requires_grad=True)
    for _ in range(12):
        loss = (w * w).sum()
        loss.backward()
        w.data -= 0.1 * w.grad.data  # type: ignore[union-attr]
        w.grad.data.zero_()  # type: ignore[union-attr]


def clipped_once() -> None:
    model = nn.Linear(2, 2)
    with torch.no_grad():
        model.weight.fill_(0.5)
        model.bias.fill_(0.5)
    for number in range(12):
        model.zero_grad(set_to_none=False)
        model(torch.ones(1, 2)).sum().backward()
        if number == 8:
            model.weight.grad.clamp_(max=0.1)  # type: ignore[union-attr]


def second_backward_at_the_end() -> None:
    w = torch.ones(3, requires_grad=True)
    for number in range(12):
        w.grad = None
        loss = w.exp().sum()
        loss.backward()
        if number == 11:
            loss.backward()


def zeroed_between_forward_and_backward() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.1), nn.Linear(6, 2))
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    for x in torch.randn(12, 8, 4):
        loss = nn.functional.cross_entropy(model(x), torch.arange(8) % 2)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()


def carried_state() -> None:
    torch.manual_seed(0)
    cell, h = nn.GRUCell(3, 4), torch.zeros(2, 4)
    optimizer = torch.optim.SGD(cell.parameters(), 0.1)
    for x in torch.randn(12, 2, 3):
        h = cell(x, h.detach())
        optimizer.zero_grad()
        h.square().sum().backward()
        optimizer.step()


PROGRAMS = [
    deep,
    lambda: train(20),
    accumulate,
    never_clear,
    two_networks,
    zeros_near_the_end,
    another_constant,
    gradient_in_old_style,
    clipped_once,
    second_backward_at_the_end,
    zeroed_between_forward_and_backward,
    carried_state,
]


def rounded(value: object) -> object:
    """Sums of the same numbers at another address can differ in the last digit."""
    if not isinstance(value, TensorSummary):
        return value
    numbers = (value.norm, value.min, value.max, *(value.values or ()))
    digits = [None if each is None else f"{each:.4g}" for each in numbers]
    return value.shape, digits, value.nan, value.inf


def node(data: dict[str, Any], kind: FrameKind) -> dict[str, Any]:
    left_out = () if data["kind"] in LEAVES or "root" in data else ("value", "version")
    left_out = (*left_out, "problem")  # it has the key of a node
    if kind is FrameKind.END and data["kind"] is NodeKind.UNTRACKED:
        left_out = (*left_out, "name")  # of a variable that is gone by then
    return {name: rounded(each) for name, each in data.items() if name not in left_out}


def recorded(program: Callable[[], object]) -> tuple[gradviz.Recording, list[Any], list[Any]]:
    with gradviz.record() as run:
        try:
            program()
        except RuntimeError as error:
            assert "second time" in str(error)
    frames = [
        (
            (frame.title, frame.kind, frame.pass_number, frame.follows),
            [node(data, frame.kind) for _, data in frame.graph.nodes(data=True)],
            [sorted(map(str, data.values())) for *_, data in frame.graph.edges(data=True)],
        )
        for frame in run.frames
    ]
    events = []
    for event in run.events:
        details = [
            rounded(getattr(event.details, name, None)) for name in ("before", "after", "changed")
        ]
        events.append((event.number, event.kind, event.word, event.source, event.name, details[:2]))
    return run, frames, events


@pytest.mark.parametrize("program", PROGRAMS)
def test_frames_built_later_show_what_was_there(
    program: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, frames, events = recorded(program)
    monkeypatch.setattr(steady, "_ENOUGH", 1_000_000)
    slow, slow_frames, slow_events = recorded(program)
    assert frames == slow_frames
    assert events == slow_events
    assert run.story.notes == slow.story.notes
    assert str(gradviz.explain(run)) == str(gradviz.explain(slow))


def test_repeated_passes_are_not_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[bool] = []
    begin = steady.Steady.begin

    def counted(self: steady.Steady, *arguments: Any) -> bool:
        begun.append(begin(self, *arguments))
        return begun[-1]

    monkeypatch.setattr(steady.Steady, "begin", counted)
    with gradviz.record() as run:
        train(30)
    assert sum(begun) >= 24
    assert len(run.frames) == 12


def test_a_pass_of_hundreds_of_operations_is_repeated_too(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, begin = [], steady.Steady.begin

    def noted(self: Any, *arguments: Any) -> bool:
        begun.append(begin(self, *arguments))
        return begun[-1]

    monkeypatch.setattr(steady.Steady, "begin", noted)
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(200)))  # with AccumulateGrad: 1,002
    few = model[:80]
    with gradviz.record():
        for each in (few, model):
            for _ in range(9):
                each.zero_grad()
                each(torch.ones(2, 4)).sum().backward()
    assert sum(begun[:9]) >= 4
    assert not any(begun[9:])


def test_operations_of_repeated_passes_have_keys_in_their_frames() -> None:
    with gradviz.record() as run:
        train(20)
    last = [event for event in run.events if event.word in ("linear", "tanh", "mean")][-4:]
    forward = [frame for frame in run.frames if frame.title == "forward"][-1].graph
    assert [forward.nodes[event.nodes[0]]["op"] for event in last] == [
        "addmm",
        "tanh",
        "addmm",
        "mean",
    ]
    keys = [set(frame.graph) for frame in run.frames]
    operations = {key for key in keys[0] if run.frames[0].graph.nodes[key]["kind"] not in LEAVES}
    assert not operations & {event.nodes[0] for event in last}
