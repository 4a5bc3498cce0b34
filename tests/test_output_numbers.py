"""The numbers of an operation's outputs, where several edges leave it side by side."""

from itertools import combinations

import pytest
import torch

import gradviz
from gradviz.graph import EdgeKind, GradGraph, NodeKind
from gradviz.renderers.compose import panels_of
from gradviz.renderers.edges import output_numbers
from gradviz.renderers.scene import Text


def split(outputs: int) -> GradGraph:
    graph = GradGraph()
    graph.add_node("n0", kind=NodeKind.OPERATION, op="split", outputs=outputs)
    for number in range(outputs):
        graph.add_node(f"n{number + 1}", kind=NodeKind.OPERATION, op="sigmoid")
        graph.add_edge("n0", f"n{number + 1}", kind=EdgeKind.GRADIENT, input=0, output=number)
    return graph


def spot(text: Text) -> tuple[float, float, float]:
    return text.x, text.x + sum(words.width for words in text.words), text.y


@pytest.mark.parametrize("engine", ["dot", "layered"])
@pytest.mark.parametrize("outputs", [2, 4, 9])
def test_no_number_lies_on_another(
    outputs: int, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADVIZ_ENGINE", engine)
    (panel,) = panels_of([split(outputs)])
    texts = [
        shape
        for group in panel.groups
        if group.kind.startswith("edge")
        for shape in group.shapes
        if isinstance(shape, Text)
    ]
    assert sorted(text.words[0].text for text in texts) == [f"[{n}]" for n in range(outputs)]
    for first, second in combinations(map(spot, texts), 2):
        assert first[0] >= second[1] or second[0] >= first[1] or abs(first[2] - second[2]) > 9


def test_between_two_edges_that_are_close_each_number_is_on_its_outer_side() -> None:
    graph = split(2)
    routes = {
        ("n0", f"n{number + 1}", 0): ((x, 10.0), (x, 20.0), (x, 30.0), (x, 40.0))
        for number, x in enumerate((50.0, 56.0))
    }
    numbers = output_numbers(graph, {"n0": (53.0, 0.0)}, dict(routes))
    (_, first_right, _), (second_left, _, _) = map(spot, numbers.values())
    assert first_right < 50 < 56 < second_left


@pytest.mark.parametrize(
    ("used", "shape"), [((0,), (2,)), ((1,), (3,)), ((0, 1), None)], ids=["first", "second", "both"]
)
def test_an_operation_has_the_shape_of_the_outputs_that_are_used(used, shape):
    parts = torch.arange(5.0, requires_grad=True).split([2, 3])
    graph = gradviz.trace(sum(parts[number].sum() for number in used))
    (split,) = [data for _, data in graph.nodes(data=True) if data.get("outputs")]
    assert (split["outputs"], split.get("shape"), split["dtype"]) == (2, shape, "float32")
