"""JSON: a saved story is read back unchanged; a damaged file is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import networkx as nx
import pytest
import torch
from cases import CASES
from graphs import graph_of, graphs
from hypothesis import given, settings

import gradviz
from gradviz import serialize
from gradviz.errors import DamagedFileError
from gradviz.facts import BackwardDetails, EventKind, FrameKind, LeafGradient
from gradviz.graph import Cause, EdgeKind, GradGraph, NodeKind, TensorSummary
from gradviz.story import Event, Frame, Story


def story_of(graph: GradGraph) -> Story:
    return Story((Frame("now", graph),), "title")


@pytest.mark.parametrize("name", [case.name for case in CASES])
def test_every_case_comes_back_the_same(name: str) -> None:
    graph = graph_of(name)
    back = serialize.loads(serialize.to_json(story_of(graph)))
    assert (back.title, back[0].title) == ("title", "now")
    assert dict(back[0].graph.nodes(data=True)) == dict(graph.nodes(data=True)) or has_nan(graph)
    assert list(back[0].graph.edges(keys=True, data=True)) == list(
        graph.edges(keys=True, data=True)
    )
    assert serialize.to_json(back) == serialize.to_json(story_of(graph))


def test_a_cut_edge_keeps_its_line_and_a_frame_its_caption() -> None:
    graph = GradGraph()
    graph.add_node("n0", kind=NodeKind.LEAF, name="x")
    graph.add_node("n1", kind=NodeKind.UNTRACKED, name="y")
    graph.add_edge(
        "n0", "n1", 0, kind=EdgeKind.CUT, cause=Cause.DETACH, source="train.py:12", input=0
    )
    text = serialize.to_json(Story((Frame("now", graph, "cut off"),)))
    assert '{"source": "n0", "target": "n1", "key": 0,' in text
    back = serialize.loads(text)[0]
    assert back.caption == "cut off"
    assert nx.utils.graphs_equal(back.graph, graph)


def has_nan(graph: GradGraph) -> bool:
    return any(getattr(data.get("grad"), "nan", 0) for _, data in graph.nodes(data=True))


@given(graph=graphs())
@settings(max_examples=50, deadline=None)
def test_random_graphs_come_back_the_same(graph: GradGraph) -> None:
    back = serialize.loads(serialize.to_json(story_of(graph)))[0].graph
    assert nx.utils.graphs_equal(back, graph)


def test_numbers_that_json_has_no_word_for() -> None:
    values = (float("inf"), float("-inf"), 1 + 2j, True, 3, 0.1)
    graph = GradGraph()
    graph.add_node("n0", kind=NodeKind.LEAF, value=TensorSummary((6,), "complex64", "cpu", values))
    text = serialize.to_json(story_of(graph))
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert serialize.loads(text)[0].graph.nodes["n0"]["value"].values == values


def test_an_infinite_share_of_a_gradient_comes_back() -> None:
    shares = (LeafGradient("n0", 0, float("inf")),)
    event = Event(0, EventKind.BACKWARD, "backward", details=BackwardDetails(1, shares=shares))
    story = Story((Frame("", GradGraph()),), "", (), (event,))
    assert serialize.loads(serialize.to_json(story)).events == (event,)


def test_it_is_networkx_node_link_form() -> None:
    document = json.loads(serialize.to_json(story_of(graph_of("mlp"))))
    graph = nx.node_link_graph(document["frames"][0], edges="edges")
    assert isinstance(graph, nx.MultiDiGraph)
    assert set(graph.edges) == set(graph_of("mlp").edges)


def test_several_frames_stay_in_order() -> None:
    story = Story((Frame("a", graph_of("mul_chain")), Frame("b", graph_of("detached"))))
    assert [frame.title for frame in serialize.loads(serialize.to_json(story))] == ["a", "b"]


NODE = {
    "kind": NodeKind.LEAF,
    "value": TensorSummary((2,), "float32", "cpu", (1.0, 2.0), norm=2.0),
}
WITH_LEAF = GradGraph()
WITH_LEAF.add_node("n0", **NODE)
WITH_LEAF.add_edge("n0", "n0", 0, kind=EdgeKind.ALIAS, input=3)
LEAF = serialize.to_json(Story((Frame("", WITH_LEAF),)))
GOOD = serialize.to_json(Story((Frame("", GradGraph()),)))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not JSON"),
        (GOOD[: len(GOOD) // 2], "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1, 2]", "not a graph that gradviz saved"),
        ('{"nodes": []}', "not a graph that gradviz saved"),
        (GOOD.replace('"gradviz": 2', '"gradviz": 3'), "schema version 3"),
        (GOOD.replace('"frames"', '"framez"'), "damaged (no 'frames'"),
        (GOOD.replace('"nodes": [', '"nodes": [{"id": "n0"}'), "has no kind"),
        (GOOD.replace('"nodes": [', '"nodes": [{"id": "n0", "kind": "blob"}'), "'blob'"),
        (GOOD.replace('"nodes": [', '"nodes": [{"id": "n0", "colour": 1}'), "no 'colour'"),
        (
            GOOD.replace('"edges": [', '"edges": [{"source": "n7", "target": "n8", "key": 0}'),
            "'n7', which is no node",
        ),
        ('{"gradviz": 1, "title": "", "frames": [3]}', "damaged"),
        (LEAF.replace("[1.0, 2.0]", "[1.0, []]"), "([] where a number belongs)"),
        (LEAF.replace("[1.0, 2.0]", "[1.0, null]"), "(null where a number belongs)"),
        (LEAF.replace('"norm": 2.0', '"norm": []'), "([] where a number belongs)"),
        (LEAF.replace('"norm": 2.0', '"norm": {"a": 1}'), '({"a": 1} where a number belongs)'),
        (LEAF.replace('"kind": "alias", ', ""), "(the edge from 'n0' to 'n0' has no kind)"),
        (LEAF.replace('"input": 3', '"input": Infinity'), "cannot convert float infinity"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "graph.json"
    path.write_text(text)
    with pytest.raises(DamagedFileError) as caught:
        serialize.load(path)
    message = str(caught.value)
    assert says in message
    assert str(path) in message
    assert "\n" not in message


def test_binary_rubbish_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "graph.json"
    path.write_bytes(bytes(range(256)))
    with pytest.raises(DamagedFileError, match="not JSON"):
        serialize.load(path)


def test_the_events_of_a_recording_come_back_as_typed_facts(tmp_path: Path) -> None:
    w, b = (torch.tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
    w.register_hook(lambda gradient: gradient * 2)
    optimizer = torch.optim.SGD([w, b], lr=0.1)
    with pytest.raises(RuntimeError), gradviz.record() as run:
        for _ in range(2):
            optimizer.zero_grad()
            y = (w * b).exp()
            y.sum().backward(inputs=[w, b])
            optimizer.step()
        with torch.no_grad():
            y.mul_(2)
        y = w.exp()
        y.mul_(3)
        y.sum().backward()
    story = run.story
    assert {type(event.details).__name__ for event in story.events} == {
        "BackwardDetails",
        "ErrorDetails",
        "GradientDetails",
        "HookDetails",
        "NoneType",
        "StepDetails",
        "VersionDetails",
    }
    path = tmp_path / "a story with spaces é.json"
    path.write_text(serialize.to_json(story), encoding="utf-8")
    back = serialize.load(path)
    assert back.events == story.events == serialize.loads(path.read_bytes()).events
    assert [(f.kind, f.pass_number, f.follows) for f in back] == [
        (f.kind, f.pass_number, f.follows) for f in story
    ]
    assert serialize.to_json(back) == serialize.to_json(story)
    problem = next(d["problem"] for _, d in back[-1].graph.nodes(data=True) if "problem" in d)
    assert problem == story.events[-1].details.problem  # type: ignore[union-attr]
    assert back[1:].events == story.events


VERSION_1 = """{"gradviz": 1, "title": "old", "frames": [
{"title": "after backward 1", "directed": true, "multigraph": true, "graph": {}, "nodes": [
{"id": "n0", "kind": "leaf", "name": "x", "shape": [3], "source": "my train.py:3"},
{"id": "n1", "kind": "operation", "op": "exp", "problem": "freed by backward at my train.py:5"}
], "edges": [
{"source": "n0", "target": "n1", "key": 0, "kind": "gradient", "input": 0, "output": 0}
]}
]}
"""


def test_a_file_of_schema_version_1_is_still_read_and_drawn(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text(VERSION_1, encoding="utf-8")
    for story in (serialize.load(path), serialize.loads(VERSION_1.replace("\n", ""))):
        assert (story.title, story.events) == ("old", ())
        frame = story[0]
        assert (frame.kind, frame.follows) == (FrameKind.SNAPSHOT, -1)
        assert frame.graph.nodes["n1"]["verdict"] == "freed by backward at my train.py:5"
        assert "freed by backward at my train.py:5" in gradviz.draw(story).svg


@pytest.mark.parametrize(
    ("event", "says"),
    [
        ('{"number": "1", "kind": "step", "word": "step"}', "where int belongs"),
        ('{"number": 1, "kind": "leap", "word": "step"}', "'leap'"),
        ('{"number": 1, "kind": "step"}', "word"),
        ('{"number": 1, "kind": "step", "word": "step", "details": {"type": "Shell"}}', "Shell"),
        ('{"number": 1, "kind": "step", "word": "step", "details": {}}', "no 'type'"),
        ('{"number": 1, "kind": "step", "word": "step", "location": 3}', "damaged"),
    ],
)
def test_a_damaged_event_is_refused_in_one_line(event: str, says: str) -> None:
    text = GOOD.replace("]}\n]}\n", f']}}\n], "events": [\n{event}\n]}}\n')
    with pytest.raises(DamagedFileError, match="damaged") as caught:
        serialize.loads(text)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_the_histogram_of_a_gradient_is_kept() -> None:
    w = torch.ones(40, requires_grad=True)
    loss = (w * torch.arange(40.0)).sum()
    loss.backward()
    graph = gradviz.trace(loss)
    [read] = serialize.loads(serialize.to_json(Story((Frame("", graph),))))
    bins = [each.nodes[leaf]["grad"].bins for each in (graph, read.graph) for leaf in each.leaves]
    assert bins[0] == bins[1]
    assert sum(bins[0]) == 40
