"""Big graphs: the work grows with the graph, and no more than is needed is held in memory."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import gradviz
from gradviz import serialize, views
from gradviz.frontends.command import Outputs
from gradviz.frontends.drawing import Drawing
from gradviz.graph import GradGraph, NodeKind
from gradviz.renderers.labels import labels_of
from gradviz.renderers.markup import to_digraph, to_mermaid
from gradviz.story import Frame, Story


def unrolled(steps: int) -> GradGraph:
    """A loop with a shared leaf, parallel edges and reshaping."""
    weight = torch.ones(2, 2, requires_grad=True)
    state = torch.ones(2)
    for _ in range(steps):
        state = (weight @ state).reshape(1, 2).reshape(2).sin() * state
    return gradviz.trace(state.sum(), names={"weight": weight})


def story(graph: GradGraph) -> Story:
    return Story((Frame("", graph),))


def calls(work: Callable[[], object]) -> int:
    """How many functions of Python and C a piece of work calls."""
    count = 0

    def watch(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


WORK: dict[str, Callable[[GradGraph], object]] = {
    "json": lambda graph: serialize.to_json(story(graph)),
    "json back": lambda graph: serialize.loads(serialize.to_json(story(graph))),
    "dot": lambda graph: to_digraph(story(graph)).source,
    "labels": labels_of,
    "default views": views.apply,
    "hide_bookkeeping": views.hide_bookkeeping,
    "clone_shared_leaves": views.clone_shared_leaves,
    "fold_chains": views.fold_chains,
    "fold_repeats": views.fold_repeats,
    "fold_chunks": views.fold_chunks,
    "mermaid": lambda graph: to_mermaid(story(views.apply(graph))),
}


@pytest.mark.parametrize("name", WORK)
def test_the_work_grows_with_the_graph(name: str) -> None:
    small, large = unrolled(60), unrolled(240)
    WORK[name](small)  # what is made once is made now
    once, fourfold = calls(lambda: WORK[name](small)), calls(lambda: WORK[name](large))
    assert fourfold <= 4.4 * once


def peak(work: Callable[[], object]) -> tuple[int, int]:
    """Bytes that a piece of work holds at most, and that its result holds at the end."""
    tracemalloc.start()
    try:
        result = work()
        held, most = tracemalloc.get_traced_memory()
        del result
        return most, held
    finally:
        tracemalloc.stop()


def test_json_is_written_and_read_without_being_held_whole(tmp_path: Path) -> None:
    path, graph = tmp_path / "graph.json", unrolled(300)
    drawing = Drawing(graph, views=())
    outputs = Outputs([str(path)], None)
    for write in (lambda: drawing.save(path), lambda: outputs.write(drawing.pieces, quiet=True)):
        most, _ = peak(write)
        size = path.stat().st_size
        assert size > 300_000
        assert most < size / 10
        assert list(tmp_path.iterdir()) == [path]
    most, held = peak(lambda: serialize.load(path))
    assert most - held < size / 10
    assert path.read_text(encoding="utf-8") == serialize.to_json(drawing.story)


def test_a_large_picture_is_made_and_written_in_pieces(tmp_path: Path) -> None:
    graph = unrolled(600)
    drawing = Drawing(graph, views=())
    assert len(drawing._drawn[1].description) > 0
    whole = b"".join(drawing.pieces("svg"))
    assert whole == drawing.svg.encode()
    assert len({group.key for group in drawing._drawn[1].groups}) > graph.number_of_nodes()
    again = Drawing(graph, views=())
    again.save(tmp_path / "x.svg")
    assert (tmp_path / "x.svg").read_bytes() == whole


def test_a_file_read_by_lines_is_the_same_as_one_read_whole(tmp_path: Path) -> None:
    path, graph = tmp_path / "story.json", unrolled(5)
    graph.graph["notes"] = ("a note",)
    frames = (Frame("one", graph), Frame("none", GradGraph()), Frame("two", unrolled(2)))
    text = serialize.to_json(Story(frames, "title", ("of the story",)))
    path.write_text(text, encoding="utf-8")
    with path.open("rb") as file:
        assert serialize._by_lines(file) is not None
    for each in (serialize.load(path), serialize.loads(text)):
        assert serialize.to_json(each) == text
    path.write_text(text.replace("\n", " "), encoding="utf-8")  # of another layout
    assert serialize.to_json(serialize.load(path)) == text


def test_folding_does_not_copy_what_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = unrolled(600)
    copied: list[int] = []
    copy = GradGraph.copy

    def watched(self: GradGraph, as_view: bool = False) -> Any:
        copied.append(self.number_of_nodes())
        return copy(self, as_view)

    monkeypatch.setattr(GradGraph, "copy", watched)
    seen = views.apply(graph)
    assert seen.number_of_nodes() <= 60
    assert max(copied) < graph.number_of_nodes() / 10


def test_changing_one_node_or_edge_changes_no_other() -> None:
    graph = unrolled(5)
    before = {key: dict(data) for key, data in graph.nodes(data=True)}
    key = next(key for key, data in graph.nodes(data=True) if data["kind"] is NodeKind.OPERATION)
    graph.nodes[key]["op"] = graph.nodes[key]["mark"] = "changed"
    assert {k for k, data in graph.nodes(data=True) if data != before[k]} == {key}
    edge = next(iter(graph.edges(keys=True)))
    graph.edges[edge]["weight"] = 7
    assert [e for *e, data in graph.edges(keys=True, data=True) if "weight" in data] == [list(edge)]


def test_numbers_of_a_loss_are_followed_through_many_functions_once(tmp_path: Path) -> None:
    rows = ["import torch", "def part0(x): return x.square().mean().item()"]
    for n in range(1, 30):
        called = f"part{n - 1}(x)"
        rows += [f"def part{n}(x):", f"    a = {called} if not x.dim() else 0.0"]
        rows += [f"    return a + a * {called} + {called} if not x.dim() else part0(x)"]
    rows += ["w = torch.ones(3, requires_grad=True)"]
    rows += ["loss = w.square().sum() + part29(w)", "loss.backward()"]
    path = tmp_path / "many.py"
    path.write_text("\n".join(rows))
    space: dict[str, Any] = {}
    with gradviz.record() as run:
        exec(compile(path.read_text(), str(path), "exec"), space)
    assert calls(lambda: gradviz.explain(run, names={"w": space["w"]})) < 3_000_000
