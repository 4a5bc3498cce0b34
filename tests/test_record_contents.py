"""What a recording reads of saved tensors before a backward pass, and that it changes nothing."""

from __future__ import annotations

import weakref

import pytest
import torch

import gradviz
from gradviz.graph import TensorSummary


def contents(run: gradviz.Recording) -> list[dict[str, TensorSummary]]:
    found = [
        dict(run._snapshots.contents(frame.graph))
        for frame in run.frames
        if frame.title == "forward"
    ]
    return [dict(each) for each in found[-1].values()]


def test_small_tensors_tell_their_values_and_large_ones_their_ends():
    with gradviz.record() as run:
        w = torch.arange(12.0, requires_grad=True)
        (w[:2].relu().sum() + (w - 3).relu().sum()).backward()
    small, large = sorted((each["result"] for each in contents(run)), key=lambda each: each.shape)
    assert small.values == (0.0, 1.0)
    assert (large.values, large.min, large.max) == (None, 0.0, 8.0)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_is_counted(number):
    with gradviz.record() as run:
        w = torch.full((20,), number, requires_grad=True)
        w.log().sum().backward()
    (found,) = (each["self"] for each in contents(run))
    assert bool(found.nan) is (number != number)
    assert bool(found.inf) is (number == number)


def test_no_hook_is_run_and_packed_tensors_are_left_alone():
    calls = []

    def unpack(held):
        calls.append("unpack")
        return held.to(torch.float32)

    packing = torch.autograd.graph.saved_tensors_hooks(lambda each: each.half(), unpack)
    with packing, gradviz.record() as run:
        w = torch.ones(12, requires_grad=True)
        w.relu().sum().backward()
    assert calls == ["unpack"]
    assert contents_of_all(run) == []


def contents_of_all(run: gradviz.Recording) -> list[object]:
    return [each for frame in run.frames for each in run._snapshots.contents(frame.graph)]


def test_no_tensor_is_kept():
    with gradviz.record() as run:
        w = torch.ones(12, requires_grad=True)
        h = w.relu()
        ref = weakref.ref(h)
        (h * 2).sum().backward()
        del h
        assert ref() is None
    assert contents(run)


def test_only_the_frame_before_a_pass_tells():
    with gradviz.record() as run:
        w = torch.ones(12, requires_grad=True)
        w.relu().sum().backward()
    told = [frame.title for frame in run.frames if run._snapshots.contents(frame.graph)]
    assert told == ["forward"]


def chunks():
    """Two passes over one state, which is cut between them."""
    w = torch.tensor([0.5], requires_grad=True)
    state = torch.ones(1)
    optimizer = torch.optim.SGD([w], 0.1)
    with gradviz.record() as run:
        for _ in range(2):
            state = ((state.detach() * w).tanh() * w).tanh()
            loss = state.pow(2).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return gradviz.draw(run)


def test_what_an_earlier_pass_freed_is_marked_behind_the_cut():
    text = str(chunks())
    forward = text[text.index("5  forward") : text.index("6  after")]
    behind = forward[forward.index("cut: detach") :]
    assert behind.count("mul  freed") == 2
    assert behind.count("freed") == 4
    assert "Some saved tensors" not in forward  # backward does not get there


def test_a_leaf_changed_between_two_passes_is_not_stale_for_the_second():
    frames = str(chunks()).split("\n\n")
    assert any("4  after zero_grad" in frame and "changed since" in frame for frame in frames)
    forward = next(frame for frame in frames if "5  forward" in frame)
    assert "changed since" not in forward
    assert any("7  after step" in frame and "was 0.4" in frame for frame in frames)


def test_a_leaf_that_numpy_can_write_shows_its_current_value_as_such():
    u, v = (torch.tensor([5.0, 6.0], requires_grad=True) for _ in range(2))
    with gradviz.record() as run:
        loss = (u * v).sum()
        u.detach().numpy()[0] = 100
    text = str(gradviz.draw(run))
    assert "u  f32[2]  leaf  now  100 6" in text
    assert "v  f32[2]  leaf  =  5 6" in text
    saved = gradviz.trace(loss)
    assert "in_array" not in dict(saved.nodes(data=True))["n0"]


def users_of(run, name):
    """The operations that use an untracked tensor of that name."""
    graph = run.story[0].graph
    (key,) = [key for key, data in graph.nodes(data=True) if data.get("name") == name]
    return [graph.nodes[user]["op"] for user in graph.successors(key)]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_classes_of_a_loss_go_to_the_operation_that_takes_them(smoothing):
    w = torch.randn(2, 3, requires_grad=True)
    with gradviz.record() as run:
        classes = torch.tensor([0, 2])
        loss = torch.nn.functional.cross_entropy(w, classes, label_smoothing=smoothing)
        loss.backward()
    assert users_of(run, "classes") == ["nll_loss"]


def test_a_mask_goes_to_the_assignment_that_uses_it_and_not_to_a_view():
    v, mask = torch.ones(1, 3, requires_grad=True), torch.tensor([True, False])
    with gradviz.record() as run:
        out = torch.zeros(2, 3)
        out[mask] = v * 2
        out.sum().backward()
    assert users_of(run, "mask") == ["setitem_"]
