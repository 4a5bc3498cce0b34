"""When frames are taken, what they show, which are kept, and what their nodes are called."""

from __future__ import annotations

import gc

import pytest
import torch
from recording import cuts, find, strict
from torch import nn

import gradviz
from gradviz.capture.autograd.tensors import storage_address
from gradviz.errors import UsageError
from gradviz.facts import EventKind, FrameKind
from gradviz.graph import Buffers, Cause, EdgeKind, GradGraph, NodeKind
from gradviz.recording.frame_store import FrameStore
from gradviz.recording.source_lines import NOWHERE
from gradviz.recording.state import InPlaceChange
from gradviz.renderers.caption import caption_of
from gradviz.renderers.compose import panels_of
from gradviz.serialize import loads, to_json
from gradviz.story import Frame, Story
from gradviz.wording import problem_text

__all__ = ["strict"]


def titles(run: gradviz.Recording) -> list[str]:
    return [frame.title for frame in run.frames]


def train(model: nn.Module, steps: int) -> gradviz.Recording:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradviz.record() as run:
        for _ in range(steps):
            optimizer.zero_grad()
            loss = model(torch.ones(1, 2)).sum()
            loss.backward()
            optimizer.step()
    return run


def test_the_moments_of_training() -> None:
    run = train(nn.Linear(2, 1), 2)
    forward = ["forward", "after backward 1 (model.weight.grad +1, model.bias.grad +1)"]
    assert [title.partition(" (")[0] for title in titles(run)] == [
        "forward",
        "after backward 1",
        "after step",
        "after zero_grad",
        "forward",
        "after backward 2",
        "after step",
    ]
    assert forward[0] == titles(run)[0]


def test_a_frame_shows_what_backward_freed() -> None:
    with gradviz.record() as run:
        x = torch.ones(2, requires_grad=True)
        y = x.exp()
        y.sum().backward()
    states = [find(frame.graph, "y")["buffers"] for frame in run.frames]
    assert states == [Buffers.HELD, Buffers.FREED]


def test_the_same_node_has_the_same_key_in_every_frame() -> None:
    with gradviz.record() as run:
        w = torch.ones(2, requires_grad=True)
        for _ in range(3):
            y = w * 3
            y.sum().backward()
    leaf_keys = {frame.graph.find("w") for frame in run.frames}
    assert len(leaf_keys) == 1
    pairs = [(run.frames[i].graph, run.frames[i + 1].graph) for i in (0, 2, 4)]
    for before, after in pairs:
        assert list(before) == list(after)
    made = [frame.graph.find("y") for frame in run.frames]
    assert len(set(made)) == 3


def test_the_first_frame_has_the_keys_of_a_plain_trace() -> None:
    with gradviz.record() as run:
        x = torch.ones(2, requires_grad=True)
        loss = (x * 3).exp().sum()
        graph = gradviz.trace(loss)
        loss.backward()
    first = run.frames[0].graph
    assert {key: data["kind"] for key, data in first.nodes(data=True)} == {
        key: data["kind"] for key, data in graph.nodes(data=True)
    }
    assert set(first.edges(keys=True)) == set(graph.edges(keys=True))


def test_the_same_program_gives_the_same_bytes() -> None:
    def program() -> str:
        with gradviz.record() as run:
            x = torch.ones(2, requires_grad=True)
            z = x.detach() * 2
            (x * z).sum().backward()
        return to_json(run.story)

    assert program() == program()


def test_a_story_survives_json() -> None:
    run = train(nn.Linear(2, 1), 2)
    text = to_json(run.story)
    assert to_json(loads(text)) == text


def test_the_line_of_a_cut_survives_json() -> None:
    with gradviz.record() as run:
        x = torch.ones(2, requires_grad=True)
        (x * x.detach()).sum().backward()
    graph, back = run.frames[0].graph, loads(to_json(run.story))[0].graph
    edges = list(graph.edges(keys=True, data=True))
    assert list(back.edges(keys=True, data=True)) == edges
    assert all(".py:" in d["source"] for *_, d in edges if "cause" in d)
    assert {d["cause"] for *_, d in edges if "cause" in d} == {Cause.DETACH}


def test_the_story_can_be_drawn() -> None:
    run = train(nn.Linear(2, 1), 1)
    assert "after step" in gradviz.draw(run.story).svg


def test_after_the_loss_is_gone_its_nodes_stay_as_they_were() -> None:
    w = torch.ones(2, requires_grad=True)

    def step() -> None:
        (w * 3).sum().backward()

    with gradviz.record() as run:
        step()
        w.grad = None
    before, after = run.frames[-2:]
    assert after.title == "after .grad set to None"
    assert set(before.graph) == set(after.graph)
    assert find(after.graph, "w")["grad"] is None
    assert find(before.graph, "w")["grad"] is not None


def test_without_backward_the_frame_shows_what_nothing_else_uses() -> None:
    with gradviz.record() as run:
        x = torch.ones(2, requires_grad=True)
        h = x * 2
        a, b = h.sum(), h.exp()
    graph = run.frames[-1].graph
    names = [graph.nodes[key]["name"] for key in graph.roots]
    assert names == ["a", "b"]
    assert a.shape != b.shape


def test_a_leaf_with_which_nothing_was_done() -> None:
    with gradviz.record() as run:
        x = torch.ones(2, requires_grad=True)
    graph = run.frames[-1].graph
    assert [data["kind"] for _, data in graph.nodes(data=True)] == [NodeKind.LEAF]
    assert find(graph, "x")["source"]
    assert x.is_leaf


def test_frames_that_show_nothing_new_are_left_out() -> None:
    with gradviz.record() as run:
        x = torch.ones(2, requires_grad=True)
        loss = (x + 1).sum()
        torch.autograd.grad(loss, x, retain_graph=True)
        torch.autograd.grad(loss, x, retain_graph=True)
    assert titles(run) == ["forward"]


def test_names_within_modules_come_first() -> None:
    model = nn.Linear(2, 1)
    with gradviz.record(model) as run:
        model(torch.ones(1, 2)).sum().backward()
    assert run.frames[0].graph.find("weight")


def test_names_of_where_the_recording_began() -> None:
    def step(parameter_holder: dict[str, torch.Tensor]) -> None:
        (next(iter(parameter_holder.values())) * 2).sum().backward()

    with gradviz.record() as run:
        weight = torch.ones(2, requires_grad=True)
        step({"other": weight})
    assert "weight" in {data.get("name") for _, data in run.frames[0].graph.nodes(data=True)} or (
        run.frames[0].graph.find("parameter_holder['other']")
    )


def test_a_long_run_keeps_the_first_the_last_and_what_differs() -> None:
    with gradviz.record(max_frames=6) as run:
        w = torch.ones(2, requires_grad=True)
        for number in range(40):
            loss = (w * 3).exp().sum() if number == 20 else (w * 3).sum()
            loss.backward()
    found = titles(run)
    assert len(found) == 6
    assert found[:2] == ["forward", "after backward 1 (w.grad +3)"]
    assert found[-1].startswith("after backward 40")
    words = [{d.get("op") for _, d in frame.graph.nodes(data=True)} for frame in run.frames]
    assert any("exp" in each for each in words)
    assert run.story.notes == (
        "6 of 80 moments were kept (max_frames=6): the first 2 and the last 1, and 3 between that "
        "show something else; 6 more of those are left out; not kept: 37 after frame 3, "
        "37 after frame 5",
    )


def test_three_passes_and_then_three_with_zeroing_keep_what_they_teach() -> None:
    """Sixteen moments for twelve frames: each state of the gradient is among those that stay."""
    with gradviz.record(max_frames=12) as run:
        w = torch.ones(2, requires_grad=True)
        for _ in range(3):
            (w * 3).sum().backward()
        w.grad = None
        for _ in range(3):
            (w * 3).sum().backward()
            w.grad.zero_()  # type: ignore[union-attr]
    assert titles(run) == [
        "forward",
        "after backward 1 (w.grad +3)",
        "forward",
        "after backward 2 (w.grad +3)",
        "forward",
        "after backward 3 (w.grad +3)",
        "after .grad set to None",
        "after zero_",
        "forward",
        "forward",
        "after backward 6 (w.grad +3)",
        "after zero_",
    ]
    (note,) = run.story.notes
    assert note == (
        "12 of 16 moments were kept (max_frames=12): the first 4 and the last 3, and 5 between "
        "that show something else; not kept: 2 after frame 7, 2 after frame 9"
    )


def two_losses() -> gradviz.Recording:
    with gradviz.record() as run:
        w, a, b = (torch.ones(2, requires_grad=True) for _ in range(3))
        h = w.exp()
        one, other = (h * a).sum(), (h * b).sum()
        one.backward()
        with pytest.raises(RuntimeError, match="second time"):
            other.backward()
    return run


def test_two_losses_on_one_trunk_are_shown_in_every_frame() -> None:
    """The other loss can no longer run backward once the trunk is freed: that is to be seen."""
    run = two_losses()
    before, after = run.frames[:2]
    assert {"w", "a", "b", "one", "other", "h"} <= {
        data.get("name") for _, data in before.graph.nodes(data=True)
    }
    assert set(before.graph) == set(after.graph)
    assert [after.graph.nodes[key]["name"] for key in after.graph.roots] == ["one"]
    results = [d["name"] for _, d in after.graph.nodes(data=True) if d["kind"] is NodeKind.RESULT]
    assert results == ["one", "other"]
    buffers = {
        d["name"]: d["buffers"]
        for _, d in after.graph.nodes(data=True)
        if "buffers" in d
        if "name" in d
    }
    assert buffers["h"] is Buffers.FREED
    problems = {
        d["name"]: problem_text(d["problem"])
        for _, d in run.frames[-1].graph.nodes(data=True)
        if "problem" in d
    }
    assert list(problems) == ["h"] and problems["h"].startswith("freed by backward at ")
    states = [d["buffers"] for _, d in after.graph.nodes(data=True) if d.get("op") == "mul"]
    assert sorted(states) == [Buffers.FREED, Buffers.HELD]


def test_a_second_loss_that_was_shown_already_makes_no_frame_of_its_own() -> None:
    with gradviz.record() as run:
        w = torch.tensor([1.0, 2.0], requires_grad=True)
        trunk = w * 2
        one, other = trunk.sum(), (trunk**2).sum()
        one.backward(retain_graph=True)
        other.backward()
    titles = [frame.title for frame in run.frames]
    assert titles == [
        "forward",
        "after backward 1 (w.grad +2)",
        "after backward 2 (w.grad +[8 16])",
    ]
    roots = [[each.graph.nodes[key]["name"] for key in each.graph.roots] for each in run.frames]
    assert roots == [["one"], ["one"], ["other"]]


def test_recordings_of_two_programs_are_laid_out_each_for_itself() -> None:
    """They number their nodes alike, and have nothing else in common."""
    a, b = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    with gradviz.record() as one:
        loss = (a * 2).sum()
        loss.backward()
    with gradviz.record() as other:
        loss = (b * torch.ones(2)).sum()
        loss.backward()
    graphs = [one.frames[0].graph, other.frames[-1].graph]
    together = panels_of(graphs, limit=20)
    assert together == [panel for graph in graphs for panel in panels_of([graph], limit=20)]
    moments = panels_of([frame.graph for frame in other.frames], limit=20)
    assert len({(panel.width, panel.height) for panel in moments}) == 1


def test_a_second_loss_that_is_new_makes_a_frame() -> None:
    with gradviz.record() as run:
        w = torch.tensor([1.0, 2.0], requires_grad=True)
        trunk = w * 2
        one = trunk.sum()
        one.backward(retain_graph=True)
        other = (trunk**2).sum()
        other.backward()
    assert [frame.title for frame in run.frames][2] == "forward"
    assert len(run.frames) == 4


def test_the_key_of_a_tensor() -> None:
    with gradviz.record() as run:
        x, other = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
        h, z = x * 3, x.detach()
        loss = (h * z).sum()
        loss.backward()
    graph = run.frames[-1].graph
    for tensor, name in ((x, "x"), (h, "h"), (z, "z"), (loss, "loss")):
        assert graph.nodes[run.key_of(tensor, graph)]["name"] == name
    assert graph.nodes[run.key_of(loss)]["kind"] is NodeKind.RESULT
    assert run.key_of(other) == ""
    with pytest.raises(UsageError, match="key_of takes a tensor, got 3"):
        run.key_of(3)  # type: ignore[arg-type]


def test_losses_of_other_rounds_are_left_out() -> None:
    """They share leaves, and no operation: each round is a picture of its own."""
    held = []
    with gradviz.record() as run:
        w = torch.ones(2, requires_grad=True)
        for _ in range(3):
            loss = (w * 3).sum()
            loss.backward()
            held.append(loss)
    assert {len(frame.graph) for frame in run.frames} == {len(run.frames[0].graph)}
    assert len(held) == 3


def test_a_number_of_an_earlier_step_is_left_out() -> None:
    model = nn.Linear(2, 1)
    x = torch.ones(3, 2)
    with gradviz.record() as run:
        for _ in range(4):
            loss = model(x).sum()
            loss.backward()
            with torch.no_grad():
                score = (model(x) > 0).float().mean().item()
    assert score in (0.0, 1.0)
    read = [
        sum(data.get("op") == "item" for _, data in frame.graph.nodes(data=True))
        for frame in run.frames
    ]
    assert set(read) == {0, 1}
    assert read[-1] == 1


def test_a_frame_leaves_the_forward_pass_that_has_begun_to_the_next() -> None:
    model = nn.Linear(2, 1)
    with gradviz.record() as run:
        for _ in range(3):
            loss = model(torch.ones(3, 2)).pow(2).mean()
            assert loss.item() >= 0
            model.zero_grad()  # after the forward pass, of which a number was read
            loss.backward()
    kinds = [frame.kind for frame in run.frames]
    assert FrameKind.AFTER_GRADIENT_CHANGE in kinds
    for frame in run.frames:
        assert sum(data.get("op") == "pow" for _, data in frame.graph.nodes(data=True)) == 1


def test_of_many_heads_beside_a_loss_the_latest_few_are_shown() -> None:
    with gradviz.record() as run:
        w = torch.ones(2, requires_grad=True)
        h = w.exp()
        heads = [h * number for number in range(20)]
        h.sum().backward()
    graph = run.frames[0].graph
    results = [key for key, d in graph.nodes(data=True) if d["kind"] is NodeKind.RESULT]
    assert len(results) == 9 and len(graph.roots) == 1 and len(heads) == 20


@pytest.mark.parametrize("most", [1, 2, 3, 5, 12])
@pytest.mark.parametrize("count", [0, 1, 2, 4, 12, 13, 60])
def test_the_bound_on_frames_holds_at_every_length(most: int, count: int) -> None:
    moments = FrameStore(most)
    for number in range(count):
        graph = GradGraph()
        graph.add_node("n0", kind=NodeKind.OPERATION, op=f"op{number % 7}")
        moments.add(Frame(f"moment {number}", graph))
        assert len(moments.frames) <= most
    assert len(moments.frames) == min(most, count)
    numbers = [int(frame.title.split()[1]) for frame in moments.frames]
    assert numbers == sorted(set(numbers))
    if count:
        assert numbers[-1] == count - 1
    assert bool(moments.note) == (count > most)


def test_a_story_holds_no_tensor() -> None:
    run = train(nn.Linear(2, 1), 2)
    story = run.story
    assert isinstance(story, Story)
    for frame in story:
        for _, data in [*frame.graph.nodes(data=True)]:
            assert not any(isinstance(value, torch.Tensor) for value in data.values())
    gc.collect()


def five_ways(x: torch.Tensor) -> torch.Tensor:
    loss = (x * 2).sum()
    loss = (x.detach() * 2).sum()
    with torch.no_grad():
        loss = (x * 2).sum()
    with torch.inference_mode():
        loss = (x * 2).sum()
    loss = (x.requires_grad_(False) * 2).sum()
    assert loss.grad_fn is None
    return loss


def test_results_that_a_variable_lost_have_frames_of_their_own() -> None:
    with gradviz.record() as run:
        x = torch.ones(3, requires_grad=True)
        loss = five_ways(x)
    causes = [{cause for *_, cause in cuts(frame.graph)} for frame in run.frames]
    shared = [set[str](), {"detach"}, {"no_grad"}, {"inference_mode"}, {"requires_grad_"}]
    assert causes == shared
    lines = [title.partition(".py:")[2] for title in titles(run)[:-1]]
    first = five_ways.__code__.co_firstlineno
    assert lines == [str(first + below) for below in (1, 2, 4, 6)]
    assert loss.item() == 6


def test_lost_results_of_a_function_need_no_frame_of_nothing() -> None:
    def run_it() -> None:
        five_ways(torch.ones(3, requires_grad=True))

    with gradviz.record() as run:
        run_it()
    assert len(run.frames) == 4 and all(frame.graph for frame in run.frames)


def test_lost_results_are_not_told_once_backward_runs() -> None:
    with gradviz.record() as run:
        x = torch.ones(3, requires_grad=True)
        result = five_ways(x)
        x.requires_grad_()
        result = (x * 2).sum()
        result.backward()
    assert [frame.kind for frame in run.frames] == [FrameKind.FORWARD, FrameKind.AFTER_BACKWARD]


def test_results_that_are_still_there_or_alike_have_no_frame_of_their_own() -> None:
    model, x = nn.Linear(3, 2), torch.ones(3)
    with gradviz.record() as run:
        kept = model(x).sum()
        cut = kept.detach()
        for _ in range(40):
            with torch.no_grad():
                output = model(x)
            cut = cut + output.sum().detach()
    assert titles(run)[-1] == "end" and len(run.frames) <= 2
    assert gradviz.explain(model, run).all[0].verdict == "backward not run"


def test_a_cut_inside_a_module_takes_no_frame() -> None:
    class Quantize(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x * 2
            x = x + (x.round() - x).detach()
            return x * 3

    with gradviz.record() as run:
        x = torch.ones(3, requires_grad=True)
        loss = Quantize()(x).sum()
        loss = loss * 2
    assert titles(run) == ["end"]


def _one_step(model: nn.Module) -> None:
    loss = model(torch.ones(2, 3)).relu().sum()
    loss.backward()  # type: ignore[no-untyped-call]
    loss.item()


def test_the_last_frame_has_no_number_of_a_pass_whose_graph_is_gone() -> None:
    model = nn.Linear(3, 2)
    with gradviz.record(model) as run:
        _one_step(model)
        with torch.no_grad():
            sample = model(torch.zeros(1, 3))
    last = run.frames[-1]
    assert last.kind is FrameKind.END and sample.shape == (1, 2)
    values = [data for _, data in last.graph.nodes(data=True) if data["kind"] is NodeKind.UNTRACKED]
    assert [data.get("name") for data in values] == ["sample"]
    assert caption_of(last).startswith("sample has no grad_fn: the path is cut by no_grad")


def test_a_frozen_tensor_that_no_operation_uses_is_left_out() -> None:
    model, spare = nn.Linear(3, 2), nn.Linear(3, 5)
    with gradviz.record(model) as run:
        weight = spare.weight.requires_grad_(False)
        _one_step(model)
    assert weight is spare.weight
    for frame in run.frames:
        shapes = [data.get("shape") for _, data in frame.graph.nodes(data=True)]
        assert (5, 3) not in shapes, frame.title


def test_the_cut_is_told_of_what_was_computed_from_it() -> None:
    graph = GradGraph()
    graph.add_node("f", kind=NodeKind.UNTRACKED, name="frozen")
    graph.add_node("w", kind=NodeKind.LEAF, name="w", root=0)
    graph.add_node("n", kind=NodeKind.UNTRACKED, name="number")
    graph.add_edge("w", "n", 0, kind=EdgeKind.CUT, input=0, output=0, cause=Cause.ITEM)
    assert caption_of(Frame("", graph)).startswith("number has no grad_fn: the path is cut by item")


def test_a_tensor_that_was_filled_by_what_was_not_seen_is_no_empty_tensor() -> None:
    w = torch.ones(3, requires_grad=True)
    with gradviz.record() as run:
        filled, zeros = torch.empty(3), torch.zeros(3)
        with torch._C.DisableTorchFunction():  # as the code that unpickles a batch of a worker
            filled.fill_(2.0)
        loss = (w * filled + zeros).sum()
    assert loss.item() == 6
    nodes = [data for _, data in run.frames[-1].graph.nodes(data=True)]
    words = {data["name"]: data.get("op") for data in nodes if data["kind"] is NodeKind.UNTRACKED}
    assert words == {"filled": None, "zeros": "zeros"}


def test_a_tensor_has_one_name_in_all_frames() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = nn.Linear(3, 2)

        def finish(self, loss: torch.Tensor) -> None:
            loss.backward()  # type: ignore[no-untyped-call]

    def compute(net: Net) -> torch.Tensor:
        return net.part(torch.ones(3)).sum()

    def train(model: Net) -> None:
        loss = compute(model)
        loss.backward()  # type: ignore[no-untyped-call]
        loss = compute(model)
        model.finish(loss)

    with gradviz.record() as run:
        train(Net())
    for frame in run.frames:
        names = {frame.graph.nodes[leaf]["name"] for leaf in frame.graph.leaves}
        assert names == {"model.part.weight", "model.part.bias"}, frame.title
        assert frame.graph.graph["modules"]["model.part"] == "Linear"


def test_a_tensor_with_the_address_of_one_that_is_gone_is_not_changed_in_place() -> None:
    w = torch.ones(2, 3, requires_grad=True)
    with gradviz.record() as run:
        made = w.detach().exp()
        flat = made.flatten()
        loss = (w * made).sum() + flat.sum()
        gone = InPlaceChange("add_", NOWHERE, storage_address(made), 0, 1, 0)
        run._state.changes.append(gone)  # as of a tensor whose memory was used again
    assert loss.item() > 0
    edges = [edge for frame in run.frames for *_, edge in frame.graph.edges(data=True)]
    assert EdgeKind.ALIAS not in [edge["kind"] for edge in edges]


@pytest.mark.parametrize("lines", [1, 2])
def test_a_line_that_makes_many_changes_gets_few_frames(lines: int) -> None:
    leaves = [torch.ones(2, requires_grad=True) for _ in range(200)]
    optimizers = [torch.optim.SGD([leaf], 0.1) for leaf in leaves]
    with gradviz.record(max_frames=500) as run:
        for _ in range(2):
            torch.stack(leaves).sum().backward()
            for optimizer in optimizers:
                optimizer.step()
                if lines > 1:
                    optimizer.zero_grad()
    assert [f.kind for f in run.frames].count(FrameKind.AFTER_STEP) == 2 * (64 + 1)  # and 128
    assert [event.kind for event in run.events].count(EventKind.STEP) == 400
    assert f"{270 * lines} of many changes by one line have no frame" in run.story.notes[0]
