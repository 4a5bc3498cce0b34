"""What a recording reports about gradients: accumulated, zeroed, clipped, used by a step."""

from __future__ import annotations

import pytest
import torch
from recording import events, find, strict
from torch import nn

import gradviz
from gradviz import Verdict
from gradviz.graph import TensorSummary
from gradviz.story import EventKind
from gradviz.wording import added_text

__all__ = ["strict"]


def leaf() -> torch.Tensor:
    return torch.ones(2, requires_grad=True)


def told(run: gradviz.Recording, kind: EventKind) -> list[tuple[str, str, str]]:
    return [(event.word, event.name, event.detail) for event in events(run, kind)]


def titles(run: gradviz.Recording) -> list[str]:
    return [frame.title for frame in run.frames]


def test_a_gradient_grows_with_every_pass() -> None:
    with gradviz.record() as run:
        w = leaf()
        for _ in range(3):
            (w * 3).sum().backward()
    assert [detail for *_, detail in told(run, EventKind.ACCUMULATE)] == [
        "+3, pass 1",
        "+3, pass 2",
        "+3, pass 3",
    ]
    passes = [find(frame.graph, "w").get("accumulations") for frame in run.frames]
    assert passes == [None, 1, 1, 2, 2, 3]
    assert titles(run)[-1] == "after backward 3 (w.grad +3)"


def test_zeroing_starts_the_count_again() -> None:
    with gradviz.record() as run:
        w = leaf()
        for _ in range(2):
            (w * 3).sum().backward()
            w.grad.zero_()  # type: ignore[union-attr]
            (w * 3).sum().backward()
            w.grad = None
    assert [detail for *_, detail in told(run, EventKind.ACCUMULATE)] == ["+3, pass 1"] * 4
    assert told(run, EventKind.GRAD) == 2 * [
        ("zero_", "w.grad", "zeroed"),
        ("grad", "w.grad", "set to None"),
    ]
    grads = {frame.title: find(frame.graph, "w")["grad"] for frame in run.frames}
    assert grads["after zero_"].values == (0.0, 0.0)  # type: ignore[attr-defined]
    assert grads["after .grad set to None"] is None


def test_passes_from_before_the_recording_are_not_counted() -> None:
    w = leaf()
    (w * 3).sum().backward()
    with gradviz.record() as run:
        (w * 3).sum().backward()
    assert [detail for *_, detail in told(run, EventKind.ACCUMULATE)] == ["+3"]
    assert "accumulations" not in find(run.frames[-1].graph, "w")


@pytest.mark.parametrize("to_none", [True, False])
def test_zero_grad_is_one_event(to_none: bool) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradviz.record() as run:
        for _ in range(2):
            model(torch.ones(1, 2)).sum().backward()
            optimizer.zero_grad(set_to_none=to_none)
        model(torch.ones(1, 2)).sum().backward()
        model.zero_grad(set_to_none=to_none)
    done = "set to None" if to_none else "zeroed"
    assert told(run, EventKind.GRAD) == [("zero_grad", "", f"4 gradients {done}")] * 3
    assert titles(run).count("after zero_grad") == 3
    assert all(event.detail.endswith("pass 1") for event in events(run, EventKind.ACCUMULATE))


def test_clipping_is_one_event() -> None:
    model = nn.Linear(2, 2)
    with gradviz.record() as run:
        (model(torch.ones(1, 2)).sum() * 100).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        nn.utils.clip_grad_value_(model.parameters(), 0.1)
    assert told(run, EventKind.GRAD) == [
        ("clip_grad_norm_", "", "2 gradients clipped"),
        ("clip_grad_value_", "", "2 gradients clipped"),
    ]
    assert titles(run)[2:] == ["after clip_grad_norm_", "after clip_grad_value_"]


def test_an_assigned_gradient() -> None:
    with gradviz.record() as run:
        w = leaf()
        w.grad = torch.full((2,), 5.0)
        (w * 3).sum().backward()
    assert told(run, EventKind.GRAD) == [("grad", "w.grad", "assigned")]
    assert [detail for *_, detail in told(run, EventKind.ACCUMULATE)] == ["+3"]


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_a_step_is_one_event(kind: type) -> None:
    w, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = kind([w, unused], lr=0.5)
    with gradviz.record() as run:
        (w * 3).sum().backward()
        optimizer.step()
    (step,) = events(run, EventKind.STEP)
    assert (step.name, step.detail) == (kind.__name__, "changed w")
    assert run.events[-1] == step
    assert titles(run)[-1] == "after step"
    before, after = (find(frame.graph, "w")["value"] for frame in run.frames[-2:])
    assert before != after


def test_a_closure_is_recorded_within_its_step() -> None:
    w = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.LBFGS([w], max_iter=2)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (w**2).sum()
        loss.backward()
        return loss

    with gradviz.record() as run:
        optimizer.step(closure)  # type: ignore[arg-type]
    kinds = [event.kind for event in run.events]
    assert kinds.count(EventKind.BACKWARD) >= 2
    assert kinds[-1] is EventKind.STEP
    assert "pow" in [event.word for event in run.events]


def test_a_step_that_fails_does_not_silence_the_rest() -> None:
    class Broken(torch.optim.SGD):
        def step(self, closure: object = None) -> None:  # type: ignore[override]
            raise ValueError("broken")

    w = nn.Parameter(torch.ones(2))
    with gradviz.record() as run:
        with pytest.raises(ValueError, match="broken"):
            Broken([w], lr=1.0).step()
        with torch.no_grad():
            y = w + 1
    assert "add" in [event.word for event in run.events]
    assert y.shape


def test_inputs_and_autograd_grad() -> None:
    with gradviz.record() as run:
        a, b = leaf(), leaf()
        loss = (a * b).sum()
        loss.backward(inputs=[a], retain_graph=True)
        torch.autograd.grad(loss, b)
    assert [name for _, name, _ in told(run, EventKind.ACCUMULATE)] == ["a.grad"]
    assert find(run.frames[-1].graph, "b")["grad"] is None
    assert titles(run) == [
        "forward",
        "after backward 1 (a.grad +1)",
        "after autograd.grad",
    ]


def test_a_sparse_gradient() -> None:
    table = nn.Embedding(10, 3, sparse=True)
    with gradviz.record() as run:
        for _ in range(2):
            table(torch.tensor([1, 4])).sum().backward()
    details = [detail for *_, detail in told(run, EventKind.ACCUMULATE)]
    assert [detail.rpartition(", ")[2] for detail in details] == ["pass 1", "pass 2"]


def test_double_backward_has_the_lines_of_its_first() -> None:
    with gradviz.record() as run:
        x = leaf()
        (g,) = torch.autograd.grad((x**3).sum(), x, create_graph=True)
        g.sum().backward()
    call = events(run, EventKind.BACKWARD)[0]
    graph = run.frames[-1].graph
    lines = {data.get("source") for _, data in graph.nodes(data=True) if data.get("op") == "mul"}
    assert lines == {call.source}
    assert find(run.frames[-1].graph, "x")["grad"].values == (6.0, 6.0)  # type: ignore[attr-defined]


def test_what_was_added_in_few_characters() -> None:
    def summary(*values: float) -> TensorSummary:
        return TensorSummary((len(values),), "float32", "cpu", values, norm=1.0)

    large = TensorSummary((9,), "float32", "cpu", norm=9.0, min=3.0, max=3.0)
    twice = TensorSummary((9,), "float32", "cpu", norm=18.0, min=6.0, max=6.0)
    uneven = TensorSummary((9,), "float32", "cpu", norm=20.0, min=1.0, max=9.0)
    assert added_text(None, summary(-0.5)) == "-0.5"
    assert added_text(summary(1, 2), summary(2, 4)) == "+[1 2]"
    assert added_text(large, twice) == "+3"
    assert added_text(large, uneven) == "norm 9 → 20"
    assert added_text(None, uneven) == "norm 20"
    assert added_text(None, None) == "added to"


@pytest.mark.parametrize("is_late", [False, True])
def test_parameters_are_restored_before_or_after_the_step(is_late: bool) -> None:
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    best = {name: each.clone() for name, each in model.state_dict().items()}
    with gradviz.record() as run:
        model(torch.ones(3, 2)).sum().backward()
        if is_late:
            optimizer.step()
        model.load_state_dict(best)
        if not is_late:
            optimizer.step()
    expected = Verdict.FINE if is_late else Verdict.STALE
    assert gradviz.explain(model.weight, run).verdict is expected
