"""Text, DOT and Mermaid of the case table, as golden files, and what no graph may break."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from cases import CASES
from graphs import graph_of, graphs
from hypothesis import given, settings

import gradviz
from gradviz.errors import TooLargeError
from gradviz.graph import EdgeKind, GradGraph, NodeKind
from gradviz.renderers.markup import to_digraph, to_mermaid
from gradviz.renderers.text import to_text
from gradviz.story import Frame, Story

NAMES = [case.name for case in CASES]
Golden = Callable[[str, str], None]


def drawing(name: str) -> gradviz.Drawing:
    return gradviz.draw(graph_of(name))


@pytest.mark.parametrize("name", NAMES)
def test_text(name: str, golden: Golden) -> None:
    golden(f"{name}.txt", drawing(name).text)


@pytest.mark.parametrize("name", NAMES)
def test_mermaid(name: str, golden: Golden) -> None:
    golden(f"{name}.mmd", drawing(name).render("mmd").decode())


@pytest.mark.parametrize("name", NAMES)
def test_dot(name: str, golden: Golden) -> None:
    golden(f"{name}.dot", drawing(name).dot.source)


def test_a_story_in_every_text_format(golden: Golden) -> None:
    frames = [Frame(name, graph_of(name)) for name in ("mul_chain", "detached", "half_freed")]
    drawing = gradviz.draw(Story(tuple(frames), "Three programs"))
    for suffix in ("txt", "mmd", "dot"):
        golden(f"story.{suffix}", drawing.render(suffix).decode())


@pytest.mark.parametrize("views", [None, ()])
@given(graph=graphs())
@settings(max_examples=30, deadline=None)
def test_no_graph_breaks_a_text_format(views: tuple[()] | None, graph: GradGraph) -> None:
    drawing = gradviz.draw(graph, views=views)
    shown = drawing.shown[0].graph
    text = drawing.text.split("\n\n")[0]
    assert len(text.splitlines()) >= shown.number_of_nodes() - unreached(shown)
    assert drawing.render("mmd").startswith(b"%%")
    assert str(drawing.dot.source).count("->") >= shown.number_of_edges()


def unreached(graph: GradGraph) -> int:
    """Nodes from which no root is reached: text starts at the roots."""
    seen: set[str] = set()
    stack = list(graph.roots)
    while stack:
        key = stack.pop()
        if key not in seen:
            seen.add(key)
            stack += [source for source, _ in graph.inputs(key)]
    return graph.number_of_nodes() - len(seen)


def test_text_of_a_deep_graph_is_cut_with_a_word() -> None:
    graph = chain(50_000)
    lines = to_text(Story((Frame("", graph),)), most_lines=100).splitlines()
    assert len(lines) == 101
    assert lines[-1] == "… and 49,901 more nodes; a picture (.svg) or .json shows all"
    assert max(map(len, lines)) < 120


def chain(length: int) -> GradGraph:
    graph = GradGraph()
    graph.add_node("n0", kind=NodeKind.RESULT, root=0, name="y")
    for number in range(1, length + 1):
        graph.add_node(f"n{number}", kind=NodeKind.OPERATION, op="mul")
        graph.add_edge(f"n{number}", f"n{number - 1}", 0, kind=EdgeKind.GRADIENT, input=0)
    return graph


def test_text_counts_an_input_that_comes_many_times_in_a_row() -> None:
    w = torch.ones(2, requires_grad=True)
    text = gradviz.draw(torch.stack([w] * 100), names={"w": w}).text
    assert "└─ w  (above) ×99" in text
    assert len(text.splitlines()) < 10


def test_text_stays_narrow_over_many_steps() -> None:
    text = drawing("lstm_cell").text
    assert max(len(line) for line in text.splitlines()) < 110


def test_mermaid_says_when_a_graph_is_too_large() -> None:
    with pytest.raises(TooLargeError, match=r"600 edges, and Mermaid draws at most 500"):
        to_mermaid(Story((Frame("", chain(600)),)))
    with pytest.raises(TooLargeError, match="characters"):
        graph = chain(400)
        for key in graph:
            graph.nodes[key]["name"] = "<" * 48
        to_mermaid(Story((Frame("", graph),)))


def test_mermaid_labels_hold_no_marks_of_its_own() -> None:
    text = drawing("hostile_names").render("mmd").decode()
    labels = re.findall(r'"([^"]*)"', text)
    assert any("#60;b#62;a" in label for label in labels)
    for label in labels:
        assert not re.search(r"<(?!/?b>|br>)|[`*_~\n\[\]{}|]", label)


def test_dot_sets_hostile_names_as_text() -> None:
    source = drawing("hostile_names").dot.source
    assert "&lt;b&gt;a&lt;/b&gt;" in source
    assert not re.search(r"^\s*\S+:\S+ ", source, re.MULTILINE)


def test_dot_of_frames_are_clusters() -> None:
    frames = tuple(Frame(f"frame {number}", graph_of("mul_chain")) for number in (1, 2))
    source = to_digraph(Story(frames)).source
    assert source.count("subgraph cluster_") == 2
    assert "f1_n0" in source
    assert "f2_n0" in source


PROGRAM = """
import sys; sys.path.insert(0, {tests!r})
from cases import CASES
import gradviz
for case in CASES:
    program = case.build()
    drawing = gradviz.draw(*program.subjects, names=program.names)
    for suffix in ("txt", "mmd", "dot", "json"):
        sys.stdout.write(drawing.render(suffix).decode())
"""


def test_the_same_bytes_in_any_process(request: pytest.FixtureRequest) -> None:
    program = PROGRAM.format(tests=str(request.path.parent))
    outputs = [
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PATH": "", "PYTHONPATH": str(request.config.rootpath)},
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1]
    assert len(outputs[0]) > 10_000
