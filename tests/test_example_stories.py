"""The stories of the worked examples are correct: causes, lines, gradients, passes."""

from __future__ import annotations

import ast
import functools
import runpy
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
import torch

from gradviz.frontends.drawing import Drawing
from gradviz.graph import Buffers, Cause, EdgeKind, GradGraph, NodeKind
from gradviz.story import Story
from gradviz.wording import problem_text

FOLDER = Path(__file__).resolve().parent.parent / "examples"
CUTS = (Cause.DETACH, Cause.NO_GRAD, Cause.INFERENCE_MODE, Cause.REQUIRES_GRAD)


@functools.cache
def variables_of(name: str) -> dict[str, Any]:
    with torch.random.fork_rng():
        return runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")


def story_of(name: str) -> Story:
    story = variables_of(name)["story"]
    assert isinstance(story, Story)
    return story


def line_of(name: str, text: str, occurrence: int = 1) -> str:
    """``"name.py:12"`` of a line of code, below the docstring, that holds ``text``."""
    source = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    begin = ast.parse(source).body[0].end_lineno or 0
    lines = enumerate(source.splitlines(), 1)
    numbers = [number for number, line in lines if number > begin and text in line]
    return f"{name}.py:{numbers[occurrence - 1]}"


def cuts(graph: GradGraph) -> set[tuple[Cause, str]]:
    """Cause and line of the edges that somebody cut."""
    return {
        (data["cause"], Path(data["source"]).name)
        for _, _, data in graph.edges(data=True)
        if data["kind"] is EdgeKind.CUT and data.get("cause") in CUTS
    }


def first_cut(graph: GradGraph) -> tuple[str, Cause, str]:
    """Where the gradient path to a named tensor is cut: its name, the cause, the line."""
    found = [
        (graph.nodes[start]["name"], data["cause"], Path(data["source"]).name)
        for start, _, data in graph.edges(data=True)
        if data["kind"] is EdgeKind.CUT
        and data.get("cause") in CUTS
        and graph.in_degree(start) == 0
    ]
    assert len(found) == 1
    return found[0]


def grad(graph: GradGraph, name: str) -> Any:
    """The values of a leaf's gradient, or None."""
    summary = graph.nodes[graph.find(name)]["grad"]
    return None if summary is None else summary.values


def reached(graph: GradGraph) -> set[str]:
    """Names of the leaves that are reachable from the root."""
    open_ways = nx.DiGraph(
        (start, end)
        for start, end, data in graph.edges(data=True)
        if data["kind"] is not EdgeKind.CUT
    )
    before = nx.ancestors(open_ways, graph.roots[0])
    return {graph.nodes[key]["name"] for key in graph.leaves if key in before}


@pytest.mark.parametrize(
    ("panel", "cause", "line"),
    [
        (1, Cause.DETACH, "x.detach()"),
        (2, Cause.NO_GRAD, "loss = (x * 2).sum()"),
        (3, Cause.INFERENCE_MODE, "loss = (x * 2).sum()"),
        (4, Cause.REQUIRES_GRAD, "x.requires_grad_(False) * 2"),
    ],
)
def test_each_of_the_five_ways_is_cut_where_it_says(panel: int, cause: Cause, line: str) -> None:
    graph = story_of("five_ways")[panel].graph
    source = line_of("five_ways", line, {2: 2, 3: 3}.get(panel, 1))
    assert cuts(graph) >= {(cause, source)}
    assert {found for found, _ in cuts(graph)} == {cause}
    assert first_cut(graph) == ("x", cause, source)
    assert graph.nodes[graph.find("loss")]["kind"] is NodeKind.UNTRACKED


def test_the_tracked_way_has_no_cut() -> None:
    story = story_of("five_ways")
    graph = story[0].graph
    assert len(story) == 5
    assert cuts(graph) == set()
    assert graph.nodes[graph.find("loss")]["kind"] is NodeKind.RESULT
    assert reached(graph) == {"x"}


def test_no_panel_of_the_five_ways_marks_news_against_another() -> None:
    for frame in Drawing(story_of("five_ways")).shown:
        assert all("changes" not in data for _, data in frame.graph.nodes(data=True))


def test_repeated_backward_adds_up_and_starts_anew() -> None:
    graphs = [frame.graph for frame in story_of("repeated_backward")]
    grown, renewed = graphs[:3], graphs[3:]
    assert [grad(graph, "weights") for graph in grown] == [(3, 3), (6, 6), (9, 9)]
    assert [grad(graph, "others") for graph in renewed] == [(3, 3)] * 3
    passes = [graph.nodes[graph.leaves[0]]["accumulations"] for graph in graphs]
    assert passes == [1, 2, 3, 1, 1, 1]


def test_a_frozen_layer_gets_nothing_and_lets_the_gradient_through() -> None:
    graph = story_of("frozen_layer")[0].graph
    frozen = graph.nodes[graph.find("middle.weight")]
    assert frozen["kind"] is NodeKind.UNTRACKED
    assert "grad" not in frozen or frozen["grad"] is None
    assert first_cut(graph) == (
        "middle.weight",
        Cause.REQUIRES_GRAD,
        line_of("frozen_layer", "middle.requires_grad_(False)"),
    )
    assert grad(graph, "first.weight") == grad(graph, "last.weight") == (2,)
    assert reached(graph) == {"first.weight", "last.weight"}


def test_with_the_first_frozen_too_the_graph_begins_at_the_last() -> None:
    graph = story_of("frozen_layer")[1].graph
    assert reached(graph) == {"last.weight"}
    assert graph.nodes[graph.find("first.weight")]["kind"] is NodeKind.UNTRACKED
    cause = line_of("frozen_layer", "first.requires_grad_(False)")
    assert first_cut(graph) == ("first.weight", Cause.REQUIRES_GRAD, cause)


def test_the_critics_turn_does_not_reach_the_generator() -> None:
    critics, cleared, generators = (frame.graph for frame in story_of("adversary"))
    assert cuts(critics) == {(Cause.DETACH, line_of("adversary", "fake.detach()"))}
    assert grad(critics, "critic") == (6,)
    assert grad(critics, "generator") is None
    assert reached(critics) == {"critic"}
    assert grad(cleared, "critic") is None
    assert cuts(generators) == set()
    assert (grad(generators, "critic"), grad(generators, "generator")) == ((-6,), (-1.5,))


def test_the_cut_lies_between_the_windows() -> None:
    first, second = (frame.graph for frame in story_of("truncated_backprop"))
    assert cuts(first) == set()
    assert cuts(second) == {(Cause.DETACH, line_of("truncated_backprop", "state.detach()"))}
    operations = {k for k, data in second.nodes(data=True) if data["kind"] is NodeKind.OPERATION}
    (cut,) = (
        (start, end)
        for start, end, data in second.edges(data=True)
        if data["kind"] is EdgeKind.CUT and start in operations
    )
    window = nx.ancestors(second, cut[0]) & operations | {cut[0]}
    words = [second.nodes[key]["op"] for key in window]
    assert sorted(words) == ["mul", "mul", "tanh", "tanh"]
    later = [second.nodes[key]["op"] for key in operations - window]
    assert sorted(later) == ["mul", "mul", "pow", "tanh", "tanh"]
    leaves = [graph.nodes[graph.find("w")] for graph in (first, second)]
    assert [leaf["accumulations"] for leaf in leaves] == [1, 2]


def test_the_target_gets_a_gradient_only_where_no_grad_is_forgotten() -> None:
    right, forgotten = (frame.graph for frame in story_of("target_network"))
    cause = line_of("target_network", "goal = target * 3 + 1")
    assert first_cut(right) == ("target", Cause.NO_GRAD, cause)
    assert grad(right, "network") == grad(forgotten, "network") == (-4,)
    assert grad(right, "target") is None
    assert grad(forgotten, "target") == (12,)
    assert cuts(forgotten) == set()


def test_the_trunk_is_kept_then_freed_and_the_third_backward_is_explained() -> None:
    both, kept, freed, refused = (frame.graph for frame in story_of("shared_trunk"))
    assert {both.nodes[root]["name"] for root in both.roots} == {"loss", "penalty"}
    exps = [
        next(data for _, data in graph.nodes(data=True) if data.get("op") == "exp")
        for graph in (both, kept, freed)
    ]
    assert [exp["buffers"] for exp in exps] == [Buffers.HELD, Buffers.HELD, Buffers.FREED]
    assert [grad(graph, "weight") for graph in (kept, freed, refused)] == [(5,), (7,), (7,)]
    (problem,) = (
        problem_text(data["problem"]) for _, data in refused.nodes(data=True) if "problem" in data
    )
    assert line_of("shared_trunk", "    penalty.backward()") in problem


def test_the_refused_change_names_operation_versions_and_line() -> None:
    allowed, refused = (frame.graph for frame in story_of("in_place"))
    assert all("problem" not in data for _, data in allowed.nodes(data=True))
    assert grad(allowed, "x") == (2, 2)
    (node,) = (data for _, data in refused.nodes(data=True) if "problem" in data)
    assert node["op"] == "exp"
    for part in ("version 0", "add_", line_of("in_place", "changed.add_(1)"), "version 1"):
        assert part in problem_text(node["problem"])


def test_the_slope_is_part_of_the_loss_and_backward_goes_through_both() -> None:
    y, loss, after = (frame.graph for frame in story_of("double_backward"))
    assert [graph.nodes[graph.roots[0]]["name"] for graph in (y, loss, after)] == [
        "y",
        "loss",
        "loss",
    ]
    assert reached(loss) == {"x"}
    slope = next(key for key, data in loss.nodes(data=True) if data.get("name") == "slope")
    assert slope in nx.ancestors(loss, loss.roots[0])
    assert [grad(graph, "x") for graph in (y, loss, after)] == [None, None, (540,)]
