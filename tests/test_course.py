"""The course is true: what its pages say of a picture is so in the graph that is drawn."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest
import torch
from pages import DOCS, blocks, stories

import gradviz
from gradviz.diagnosis import Verdict
from gradviz.graph import Buffers, Cause, EdgeKind, GradGraph, NodeKind
from gradviz.story import Story

PAGES = [
    "requires_grad",
    "leaves",
    "backward",
    "accumulation",
    "five_ways",
    "freed",
    "in_place",
    "hooks",
    "double_backward",
    "gradient_descent",
]
drawn = cache(lambda page: stories(f"course/{page}"))


def graphs(story: Story) -> list[GradGraph]:
    return [frame.graph for frame in story]


def grad(graph: GradGraph, name: str) -> Any:
    """The gradient of a tensor, as drawn: its values, or None."""
    summary = graph.nodes[graph.find(name)]["grad"]
    return summary and [pytest.approx(value, abs=5e-4) for value in summary.values]


def words(graph: GradGraph) -> list[str]:
    """The operations, in the order in which they were recorded."""
    found = [d for _, d in graph.nodes(data=True) if d["kind"] is NodeKind.OPERATION]
    return [d["op"] for d in sorted(found, key=lambda d: d.get("sequence_nr", 0))]


def kind(graph: GradGraph, name: str) -> NodeKind:
    found: NodeKind = graph.nodes[graph.find(name)]["kind"]
    return found


def buffers(graph: GradGraph) -> set[Buffers]:
    found = [d["buffers"] for _, d in graph.nodes(data=True) if "buffers" in d]
    return set(found) - {Buffers.NOTHING_SAVED}


def causes(graph: GradGraph) -> set[Cause]:
    found = {d.get("cause") for *_, d in graph.edges(data=True) if d["kind"] is EdgeKind.CUT}
    return {cause for cause in found if cause is not None}


def test_requires_grad() -> None:
    [[asked], [unasked]] = map(graphs, drawn("requires_grad"))
    assert kind(asked, "x") is NodeKind.LEAF
    assert words(asked) == ["mul", "mul", "mean"]
    assert grad(asked, "x") is None
    first = min(
        (k for k, d in asked.nodes(data=True) if d.get("op") == "mul"),
        key=lambda key: asked.nodes[key]["sequence_nr"],
    )
    assert len(list(asked.inputs(first))) == 2  # x * x uses x twice
    assert {source for source, _ in asked.inputs(first)} == {next(iter(asked.inputs(first)))[0]}
    assert words(unasked) == []
    assert kind(unasked, "loss") is NodeKind.UNTRACKED


def test_leaves() -> None:
    [[three], [right]] = map(graphs, drawn("leaves"))
    assert kind(three, "made") is NodeKind.LEAF
    assert grad(three, "made") == [0.5, 0.5]
    assert grad(three, "kept") == [5, 5]
    scaled = three.nodes[three.find("scaled")]
    assert scaled["kind"] is NodeKind.OPERATION
    assert scaled.get("grad") is None
    assert kind(right, "scaled") is NodeKind.LEAF
    assert grad(right, "scaled") == [5, 5]
    assert words(right) == ["add", "mul", "sum"]  # not the first multiplication


def test_backward() -> None:
    [[scalar], [vector], [refused]] = map(graphs, drawn("backward"))
    assert grad(scalar, "x") == [2, 4, 6]
    assert grad(vector, "x") == [2, 40, 0]
    assert "sum" not in words(vector)
    assert grad(refused, "x") is None


def test_accumulation() -> None:
    adding, zeroed, none = drawn("accumulation")
    assert [grad(graph, "w") for graph in graphs(adding)] == [[3, 3], [6, 6], [9, 9]]
    by_title = {frame.title: frame.graph for frame in zeroed}
    assert grad(by_title["after zero_"], "w") == [0, 0]
    after = [g for title, g in by_title.items() if title.startswith("after backward")]
    assert [grad(graph, "w") for graph in after] == [[3, 3], [3, 3]]
    assert grad(none[-1].graph, "w") is None


def test_five_ways() -> None:
    story, two = drawn("five_ways")
    told = {frame.title: causes(frame.graph) for frame in story}
    assert told == {
        "tracked": set(),
        "detach()": {Cause.DETACH},
        "no_grad()": {Cause.NO_GRAD},
        "inference_mode()": {Cause.INFERENCE_MODE},
        "requires_grad_(False)": {Cause.REQUIRES_GRAD},
    }
    assert words(story[0].graph) == ["mul", "sum"]
    [graph] = graphs(two)
    assert grad(graph, "x") == [-6]
    assert grad(graph, "target") is None
    assert causes(graph) == {Cause.DETACH}


def test_freed() -> None:
    refused, kept, nothing = drawn("freed")
    before, once, failed = graphs(refused)
    assert (buffers(before), buffers(once)) == ({Buffers.HELD}, {Buffers.FREED})
    assert grad(once, "w") == grad(failed, "w") == [2]
    assert "RuntimeError" in refused[2].title
    assert [buffers(graph) for graph in graphs(kept)] == [
        {Buffers.HELD},
        {Buffers.HELD},
        {Buffers.FREED},
    ]
    assert grad(kept[-1].graph, "w") == [4]
    assert [grad(graph, "w") for graph in graphs(nothing)] == [[1], [2]]
    assert buffers(nothing[-1].graph) == set()


def test_in_place() -> None:
    both, new = drawn("in_place")
    harmless, refused = graphs(both)
    assert grad(harmless, "x") == [2, 2]
    assert not [d for _, d in harmless.nodes(data=True) if "problem" in d]
    [blamed] = [d for _, d in refused.nodes(data=True) if "problem" in d]
    assert blamed["op"] == "exp"
    problem = blamed["problem"]
    assert (problem.wanted, problem.found) == (0, 1)
    assert grad(new[0].graph, "x") == [1, 2.718]


def test_hooks() -> None:
    looking, clamping, zeroing = (graphs(story)[-1] for story in drawn("hooks"))
    assert [grad(g, "x") for g in (looking, clamping, zeroing)] == [[30, 30], [3, 3], [0, 0]]
    for graph in (looking, clamping, zeroing):
        assert graph.nodes[graph.find("h")]["hooks"] == 1
        assert words(graph) == ["mul", "mul", "sum"]


def test_a_recording_tells_what_the_hook_did() -> None:
    code = blocks("course/hooks")[1].content
    names: dict[str, Any] = {"torch": torch}
    with gradviz.record() as run:
        exec(code, names)
    assert "hook  gradient 10 → 1" in "\n".join(map(str, run.events))


def test_double_backward() -> None:
    slope, loss, plain = (graphs(story)[-1] for story in drawn("double_backward"))
    assert {"pow", "mul"} <= set(words(slope))
    assert kind(slope, "x") is NodeKind.LEAF
    assert slope.nodes[slope.roots[0]]["value"].values == (27,)
    assert grad(loss, "x") == [540]
    assert kind(plain, "slope") is NodeKind.UNTRACKED
    assert plain.nodes[plain.find("slope")]["value"].values == (27,)


def test_gradient_descent() -> None:
    one, many, wild = drawn("gradient_descent")
    before, after, stepped = graphs(one)
    assert before.leaves == [before.find("w")]
    assert grad(before, "w") is None
    assert grad(after, "w") == [-7.9, -16.6]
    assert grad(stepped, "w") == [0, 0]
    assert stepped.nodes[stepped.find("w")]["value"].values == pytest.approx([0.79, 1.66])
    assert words(many[0].graph) == ["mv", "sub", "pow", "mean"]  # one round, not 400
    assert many[0].graph.nodes[many[0].graph.find("w")]["value"].values == pytest.approx(
        [1.1, 1.9], abs=1e-6
    )
    assert len(wild) == 3


def test_every_page_of_the_course_is_tested_and_in_its_contents() -> None:
    files = {path.stem for path in (DOCS / "course").glob("*.md")} - {"index"}
    assert files == set(PAGES)
    for page in PAGES:
        assert f"test_{page}" in globals()
    [toctree] = [b for b in blocks("course/index") if b.kind == "{toctree}"]
    assert toctree.content.split() == PAGES


@pytest.mark.parametrize("page", PAGES)
def test_every_page_asks_shows_tells_and_lets_try(page: str) -> None:
    text = (DOCS / f"course/{page}.md").read_text("utf-8")
    assert re.match(r"# \d+\. .*\?\n", text)
    for part in (
        "```{gradviz}",
        "**What to see.**",
        "\nTry it\n: ",
        "{dropdown} What you will see",
    ):
        assert part in text, part


def test_the_verdicts_that_pages_name_are_verdicts() -> None:
    known = {verdict.value.lower().replace(" ", "-") for verdict in Verdict}
    named = {
        slug
        for path in DOCS.rglob("*.md")
        for slug in re.findall(r"<verdict-([\w-]+)>", path.read_text("utf-8"))
    }
    assert named
    assert named <= known
