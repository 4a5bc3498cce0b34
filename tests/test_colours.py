"""`color_by` shows only known values, on one scale, and never by color alone."""

from __future__ import annotations

import math

import pytest
import torch
from folding import stack
from torch import nn

import gradviz
from gradviz import serialize, views
from gradviz.errors import UsageError
from gradviz.graph import EdgeKind, GradGraph, Mark, NodeKind, TensorSummary
from gradviz.renderers.caption import legend_of
from gradviz.story import Frame, Story


class Net(nn.Module):
    """A branch that works, one whose relu is dead, one that gives NaN."""

    def __init__(self) -> None:
        super().__init__()
        self.good, self.dead = nn.Linear(8, 16), nn.Linear(8, 16)
        self.bad, self.before = nn.Linear(16, 16), nn.Linear(8, 16)
        self.out = nn.Linear(16, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        dead = (self.dead(x) - 100).relu().sum()
        b = self.bad(self.before(x))
        y: torch.Tensor = self.out(self.good(x).tanh()).mean() + dead + 0 * (b - b).sqrt().sum()
        return y


@pytest.fixture(scope="module")
def traced() -> GradGraph:
    torch.manual_seed(0)
    net = Net()
    loss = net(torch.randn(4, 8))
    loss.backward()
    graph: GradGraph = views.hide_bookkeeping(gradviz.trace(loss, names=net))
    return graph


@pytest.fixture(scope="module")
def coloured(traced: GradGraph) -> GradGraph:
    seen: GradGraph = views.color_by(traced, "grad_norm")
    return seen


def node(graph: GradGraph, name: str) -> dict[str, object]:
    found: dict[str, object] = graph.nodes[graph.find(name)]
    return found


def test_a_norm_has_its_place_between_the_ends_of_the_scale(coloured: GradGraph) -> None:
    scale = coloured.graph["scale"]
    levels = 0
    for _, data in coloured.nodes(data=True):
        if "level" in data:
            span = math.log(scale["high"] / scale["low"])
            expected = math.log(data["grad"].norm / scale["low"]) / span
            assert data["level"] == pytest.approx(expected, abs=1e-3)
            levels += 1
    assert levels == 4  # weight and bias of good and out
    assert scale["high"] >= 10 * scale["low"]


def test_what_is_not_recorded_is_not_claimed(coloured: GradGraph) -> None:
    for _, data in coloured.nodes(data=True):
        if data["kind"] is NodeKind.OPERATION:
            assert "level" not in data
    for source, _, data in coloured.edges(data=True):
        if coloured.nodes[source]["kind"] is NodeKind.OPERATION:
            assert not data.keys() & {"level", "norm"}


def test_an_edge_from_a_leaf_carries_its_norm(coloured: GradGraph) -> None:
    key = coloured.find("out.weight")
    ((_, _, edge),) = coloured.out_edges(key, data=True)
    assert edge["level"] == coloured.nodes[key]["level"]
    assert edge["norm"] == pytest.approx(coloured.nodes[key]["grad"].norm, rel=1e-3)


def test_an_edge_from_a_tensor_that_retains_its_gradient_carries_it() -> None:
    x = torch.ones(3, requires_grad=True)
    h = x * 2
    h.retain_grad()
    loss = (h * torch.tensor([3.0, 0.0, 4.0])).sum()
    loss.backward()
    graph = views.color_by(views.hide_bookkeeping(gradviz.trace(loss)))
    ((_, _, edge),) = graph.out_edges(graph.find("h"), data=True)
    assert edge["norm"] == 5.0
    ((_, _, edge),) = graph.out_edges(graph.find("x"), data=True)
    assert edge["norm"] == 10.0


def test_a_dead_part_is_marked_from_its_leaves_to_where_it_ends(coloured: GradGraph) -> None:
    dead = {key for key, data in coloured.nodes(data=True) if data.get("mark") is Mark.ZERO}
    words = sorted(coloured.nodes[key].get("name") or coloured.nodes[key]["op"] for key in dead)
    assert words == ["dead.bias", "dead.weight", "linear", "relu", "sub", "sum"]
    marked = {(a, b) for a, b, data in coloured.edges(data=True) if data.get("mark") is Mark.ZERO}
    assert marked == {(a, b) for a, b in coloured.edges(keys=False) if {a, b} <= dead}


def test_backward_came_first_to_the_layer_nearest_to_the_loss(coloured: GradGraph) -> None:
    assert node(coloured, "bad.weight")["mark"] is Mark.FIRST
    assert node(coloured, "bad.bias")["mark"] is Mark.FIRST
    assert node(coloured, "before.weight")["mark"] is Mark.NOT_FINITE


def test_groups_show_the_norm_of_all_gradients_in_them() -> None:
    loss, model = stack(12)
    loss.backward()
    graph = gradviz.trace(loss, names=model)
    seen = views.color_by(views.fit_page(graph), "grad_norm")
    groups = [data for _, data in seen.nodes(data=True) if data["kind"] is NodeKind.GROUP]
    assert all("level" in data for data in groups if data.get("grad"))
    for source, _, data in seen.edges(data=True):
        if seen.nodes[source]["kind"] is NodeKind.GROUP:
            assert "level" not in data  # what flows back there was not recorded


def test_the_gradient_that_was_kept_between_two_groups_is_on_their_edge() -> None:
    model = nn.Sequential(*(nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(3)))
    out = torch.ones(2, 4)
    kept = []
    for part in model:
        out = part(out)
        out.retain_grad()
        kept.append(out)
    loss = out.sum()
    loss.backward()
    graph = views.group_by_module(gradviz.trace(loss, names=model), depth=1)
    groups = [key for key, data in graph.nodes(data=True) if data["kind"] is NodeKind.GROUP]
    groups.sort(key=lambda key: str(graph.nodes[key]["name"]))
    again = serialize.loads(serialize.to_json(Story((Frame("", graph),))))[0].graph
    for seen in map(views.color_by, (graph, again)):
        for one, other, tensor in zip(groups, groups[1:], kept, strict=False):
            (edge,) = seen[one][other].values()
            assert tensor.grad is not None
            assert edge["norm"] == pytest.approx(float(tensor.grad.norm()), rel=1e-3)
            assert 0 <= edge["level"] <= 1


def test_saved_bytes_are_a_share_of_the_most() -> None:
    loss, model = stack(2)
    seen = views.color_by(gradviz.trace(loss, names=model), "saved_bytes")
    most = seen.graph["scale"]["high"]
    kept = [data for _, data in seen.nodes(data=True) if data.get("saved_bytes")]
    assert max(data["level"] for data in kept) == 1
    for data in kept:
        assert data["level"] == pytest.approx(data["saved_bytes"] / most, abs=1e-4)


@pytest.mark.parametrize("by", views.SCALES)
def test_twice_is_once_and_another_replaces_it(traced: GradGraph, by: str) -> None:
    once = views.color_by(traced, by)
    assert text(views.color_by(once, by)) == text(once)
    assert text(views.color_by(views.color_by(once, "grad_norm"), by)) == text(once)
    assert "scale" not in traced.graph


@pytest.mark.parametrize("by", views.SCALES)
def test_it_comes_back_from_json(traced: GradGraph, by: str) -> None:
    saved = text(views.color_by(traced, by))
    assert text(serialize.loads(saved)[0].graph) == saved


@pytest.mark.parametrize("by", views.SCALES)
def test_turned_arrows_carry_the_same(traced: GradGraph, by: str) -> None:
    turned = views.color_by(views.reverse_flow(traced), by)
    assert text(views.reverse_flow(turned)) == text(views.color_by(traced, by))


def test_another_word_is_refused(traced: GradGraph) -> None:
    with pytest.raises(
        UsageError, match="must be one of grad_norm, saved_bytes, device, dtype, got 'norm'"
    ):
        views.color_by(traced, "norm")


def text(graph: GradGraph) -> str:
    return serialize.to_json(Story((Frame("", graph),)))


def test_every_format_says_it_without_colour(traced: GradGraph, coloured: GradGraph) -> None:
    drawing = gradviz.draw(traced, views=[views.color_by("grad_norm")])
    assert drawing.dot.source.count("penwidth=") >= 4
    mermaid = drawing.render("mmd").decode()
    assert mermaid.count("linkStyle") >= 4
    for written in (drawing.svg, drawing.dot.source, drawing.text):
        assert "first not finite" in written
        assert "log scale" in written
        assert "dead" in written
    widths = {width for width in (1.3, 5.5) if f'stroke-width="{width}"' in drawing.svg}
    assert widths == {1.3, 5.5}


def test_text_has_a_column(coloured: GradGraph) -> None:
    lines = gradviz.draw(coloured, views=()).text.splitlines()
    column = {line[10:].strip("├└─│← "): line[:8] for line in lines if len(line) > 10}
    found = {name.split()[0]: bar for name, bar in column.items() if name}
    assert found["out.weight"].strip() == "████████"
    assert found["dead.bias"].strip() == "zeros"
    assert found["bad.bias"].strip() == "NaN"
    assert found["tanh"].strip() == ""


def test_the_legend_has_the_scale_and_its_marks(coloured: GradGraph, traced: GradGraph) -> None:
    legend = legend_of([coloured])
    assert legend["level"].startswith("norm of .grad: ")
    assert {"zero", "first", "no-bar"} <= legend.keys()
    assert legend_of([views.color_by(traced, "dtype")])["value-0"] == "float32"
    assert legend_of([traced]).keys().isdisjoint({"level", "zero", "first", "no-bar"})


def test_panels_with_scales_of_their_own_do_not_share_one() -> None:
    graphs = [one_leaf(norm) for norm in (1.0, 5.0)]
    legend = legend_of([views.color_by(graph) for graph in graphs])
    assert legend["level"] == "how much, on each panel's own scale"


def one_leaf(norm: float) -> GradGraph:
    graph = GradGraph()
    grad = TensorSummary((9,), "float32", "cpu", norm=norm)
    graph.add_node("n0", kind=NodeKind.LEAF, name="x", shape=(9,), grad=grad)
    graph.add_node("n1", kind=NodeKind.OPERATION, op="sum")
    graph.add_edge("n0", "n1", 0, kind=EdgeKind.GRADIENT, input=0)
    return graph


@pytest.mark.parametrize(
    ("by", "said"),
    [
        ("grad_norm", "no gradient is recorded here"),
        ("saved_bytes", "nothing is kept for backward"),
    ],
)
def test_where_nothing_is_known_the_legend_says_so(by: str, said: str) -> None:
    graph = GradGraph()
    graph.add_node("n0", kind=NodeKind.LEAF, name="x", grad=None)
    drawing = gradviz.draw(graph, views=[views.color_by(by)])
    assert said in drawing.svg
    assert said in drawing.text


def test_a_copy_of_a_leaf_shows_what_the_leaf_shows() -> None:
    w = torch.ones(4, requires_grad=True)
    y = w
    for _ in range(15):
        y = y * w
    y.sum().backward()
    seen = views.color_by(views.clone_shared_leaves(views.hide_bookkeeping(gradviz.trace(y))))
    copies = [data for _, data in seen.nodes(data=True) if "clone_of" in data]
    assert copies
    assert {data["level"] for data in copies} == {1.0}


@pytest.mark.parametrize("values", [9, 3])
def test_more_types_than_colours_share_the_last(values: int) -> None:
    graph = GradGraph()
    for number in range(values):
        graph.add_node(f"n{number}", kind=NodeKind.LEAF, dtype=f"type{number}", shape=(1,))
    legend = legend_of([views.color_by(graph, "dtype")])
    assert ("value-6" in legend) == (values > 6)
    assert values < 7 or legend["value-6"] == "type6, type7, type8"
    assert gradviz.draw(graph, views=[views.color_by("dtype")]).svg.startswith("<svg")


def recorded_uses(passes: int = 1) -> gradviz.Recording:
    """A leaf with three uses, two of them by one operation."""
    with gradviz.record() as run:
        w = torch.tensor([1.0], requires_grad=True)
        for _ in range(passes):
            loss = (w * 1000).sum() + (w * 0.001).sum() + (w * w).sum()
            loss.backward()
    return run


def widths(drawing: gradviz.Drawing, frame: int) -> list[float]:
    graph = drawing.shown[frame].graph
    first = {data.get("clone_of", key): key for key, data in graph.nodes.data() if "name" in data}
    return sorted(
        data["norm"]
        for source, _, data in graph.edges(data=True)
        if "norm" in data and (source in first or "clone_of" in graph.nodes[source])
    )


def test_a_recording_knows_what_each_use_of_a_leaf_added() -> None:
    drawing = gradviz.draw(recorded_uses(), color_by="grad_norm")
    assert widths(drawing, 0) == []
    assert widths(drawing, 1) == [0.001, 1.0, 1.0, 1000.0]
    assert "no bar: no gradient recorded" in legend_of([f.graph for f in drawing.shown]).values()


def test_each_pass_has_its_own_additions() -> None:
    drawing = gradviz.draw(recorded_uses(2), color_by="grad_norm")
    assert widths(drawing, -1) == [0.001, 1.0, 1.0, 1000.0]


def test_additions_are_stored_with_the_recording() -> None:
    story = serialize.loads(serialize.to_json(recorded_uses().story))
    assert widths(gradviz.draw(story, color_by="grad_norm"), 1) == [0.001, 1.0, 1.0, 1000.0]


def test_what_one_use_added_is_not_guessed_without_a_recording() -> None:
    w = torch.tensor([1.0], requires_grad=True)
    loss = (w * 1000).sum() + (w * 0.001).sum()
    loss.backward()
    assert widths(gradviz.draw(loss, color_by="grad_norm"), 0) == []


def test_what_several_operations_saved_has_its_size_at_each_of_them():
    a = torch.randn(100, requires_grad=True)
    h = a.exp()
    loss = h.sin().sum() + h.cos().sum() + (a * a).sum()
    text = str(gradviz.draw(loss, color_by="saved_bytes"))
    assert text.count("400 B saved") == 3
    assert text.count("400 B saved, shared") == 2


def test_a_use_of_a_leaf_that_adds_zeros_says_so() -> None:
    with gradviz.record() as run:
        w = torch.tensor([2.0, 1.0], requires_grad=True)
        loss = (w * 3).sum() + (w * 0).sum()
        loss.backward()
    drawing = gradviz.draw(run, views=[views.hide_bookkeeping, views.color_by("grad_norm")])
    assert ">zero</tspan>" in drawing.svg
