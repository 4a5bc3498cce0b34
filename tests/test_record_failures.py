"""Errors of backward, explained: which node, which line, which version."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
import torch
from recording import events, strict
from torch import nn

import gradviz
from gradviz.story import EventKind
from gradviz.wording import problem_text

__all__ = ["strict"]


def problems(run: gradviz.Recording) -> list[tuple[str, str]]:
    graph = run.frames[-1].graph
    return [
        (data["op"], problem_text(data["problem"]))
        for _, data in graph.nodes(data=True)
        if "problem" in data
    ]


def failing(program: Callable[[], object], match: str) -> gradviz.Recording:
    """A recording that an error ends; the error is the program's own."""
    with pytest.raises(RuntimeError, match=match), gradviz.record() as run:
        program()
    (error,) = events(run, EventKind.ERROR)
    assert run.frames[-1].title == "backward failed: RuntimeError"
    assert error.source.rpartition(":")[0].endswith("test_record_failures.py")
    return run


def test_a_result_that_was_changed_in_place() -> None:
    def program() -> None:
        x = torch.ones(3, requires_grad=True)
        y = x.exp()
        loss = y.sum()
        y.add_(1)
        loss.backward()

    run = failing(program, "modified by an inplace operation")
    (change,) = events(run, EventKind.IN_PLACE)
    text = f"needs 'y' as it was at version 0; add_ at {change.source} made it version 1"
    assert problems(run) == [("exp", text)]
    assert events(run, EventKind.ERROR)[0].detail == f"exp {text}"


def test_an_input_that_was_changed_in_place_twice() -> None:
    def program() -> None:
        x = torch.ones(3, requires_grad=True)
        h = x * 2
        loss = (h * h).sum()
        with torch.no_grad():
            h.mul_(2)
            h.zero_()
        loss.backward()

    run = failing(program, "modified by an inplace operation")
    first = events(run, EventKind.IN_PLACE)[0]
    ((op, text),) = problems(run)
    assert op == "mul"
    assert text == (
        f"needs 'h' as it was at version 0; mul_ at {first.source} made it version 1, "
        "and it is at version 2 now"
    )


def test_of_several_nodes_the_one_that_backward_meets_first() -> None:
    def program() -> None:
        x = torch.ones(3, requires_grad=True)
        y = x.sigmoid()
        z = y.exp()
        loss = (z * 2).sum()
        z.add_(1)
        y.detach().add_(1)
        loss.backward()

    assert [op for op, _ in problems(failing(program, "modified by an inplace"))] == ["exp"]


def test_a_weight_that_a_step_has_changed() -> None:
    first, second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
    optimizer = torch.optim.SGD([*first.parameters(), *second.parameters()], lr=0.1)

    def program() -> None:
        out = second(first(torch.ones(2, 3)))
        a, b = out.sum(), (out**2).sum()
        a.backward(retain_graph=True)
        optimizer.step()
        b.backward()

    ((_, text),) = problems(failing(program, "modified by an inplace operation"))
    assert "changed by something that was not recorded" not in text
    assert "step" in text


def test_a_second_backward() -> None:
    def program() -> None:
        x = torch.ones(3, requires_grad=True)
        loss = (x.exp() * x).sum()
        loss.backward()
        loss.backward()

    run = failing(program, "a second time")
    first = events(run, EventKind.BACKWARD)[0]
    assert problems(run) == [("mul", f"freed by backward at {first.source}")]


def test_two_losses_on_one_trunk() -> None:
    def program() -> None:
        w = torch.ones(3, requires_grad=True)
        trunk = (w * 2).exp()
        a, b = trunk.sum(), (trunk * 3).sum()
        a.backward()
        b.backward()

    run = failing(program, "a second time")
    first = events(run, EventKind.BACKWARD)[0]
    assert problems(run) == [("exp", f"freed by backward at {first.source}")]


def test_a_graph_that_was_freed_before_the_recording() -> None:
    x = torch.ones(3, requires_grad=True)
    loss = x.exp().sum()
    loss.backward()
    run = failing(loss.backward, "a second time")
    assert problems(run) == [("exp", "freed before, by something that was not recorded")]


def test_other_errors_are_told_in_their_own_words() -> None:
    def program() -> None:
        x = torch.ones(3)
        x.sum().backward()

    run = failing(program, "does not require grad")
    assert "does not require grad" in events(run, EventKind.ERROR)[0].detail
    assert not problems(run)


def test_an_error_that_the_program_catches_is_told_and_it_goes_on() -> None:
    with gradviz.record() as run:
        x = torch.ones(3, requires_grad=True)
        loss = x.exp().sum()
        loss.backward()
        with pytest.raises(RuntimeError):
            loss.backward()
        (x * 2).sum().backward()
    titles = [frame.title for frame in run.frames]
    assert titles[2] == "backward failed: RuntimeError"
    assert titles[-1] == "after backward 3 (x.grad +2)"
    assert len(events(run, EventKind.ERROR)) == 1


def test_what_an_operation_on_a_view_saved_is_found_by_its_versions() -> None:
    def program() -> None:
        weight, scale = torch.ones(4, requires_grad=True), torch.nn.Parameter(torch.ones(4))
        scores = weight * 1
        scores[:2].mul_(scale[:2])
        with torch.no_grad():
            scale.add_(1)
        scores.sum().backward()

    with pytest.raises(RuntimeError) as raised, gradviz.record() as run:
        program()
    told = gradviz.explain(raised.value, run)
    assert told.verdict.value == "changed in place"
    assert "add_" in told.reason
    assert "'scale'" in told.reason
    assert "not recorded" not in str(told)


def test_which_of_two_changes_an_operation_on_a_view_needs_is_not_guessed() -> None:
    def program() -> None:
        weight, scale = torch.ones(4, requires_grad=True), torch.nn.Parameter(torch.ones(4))
        scores, other = weight * 1, weight * 2
        scores[:2].mul_(scale[:2])
        with torch.no_grad():
            scale.add_(1)
        other.add_(1)
        scores.sum().backward()

    with pytest.raises(RuntimeError) as raised, gradviz.record() as run:
        program()
    assert "add_" not in gradviz.explain(raised.value, run).reason


def changed_in_place() -> gradviz.Recording:
    x = torch.ones(3, requires_grad=True)
    with gradviz.record() as run:
        y = x.exp()
        loss = (y * 2).sum()
        y.add_(1)
        loss.backward()
    return run


def test_an_error_finds_the_recording_that_saw_it() -> None:
    with pytest.raises(RuntimeError) as caught:
        changed_in_place()
    assert "add_ at tests/test_record_failures.py" in gradviz.explain(caught.value).reason


def test_an_error_that_came_later_is_not_explained_by_a_recording() -> None:
    x = torch.ones(3, requires_grad=True)
    with gradviz.record() as run:
        y = x.exp()
        loss = (y * 2).sum()
        y.add_(1)
        with contextlib.suppress(RuntimeError):
            loss.backward()
    with pytest.raises(RuntimeError) as caught:
        loss.backward()
    assert len(run.frames) > 0 and not run.saw(caught.value)
