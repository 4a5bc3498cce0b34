"""What a frame of a module, a box and a table of gradients say they are; what copies leave out."""

import torch
from torch import nn

import gradviz
from gradviz.comparison import mark_changes
from gradviz.graph import Cause, EdgeKind, GradGraph, NodeKind, TensorSummary
from gradviz.renderers.edges import cause_box
from gradviz.renderers.labels import labels_of
from gradviz.renderers.module_frames import opened_modules, with_short_names
from gradviz.renderers.moments import Moment, gradient_table
from gradviz.story import Frame, Story
from gradviz.views import dock_leaves, group_by_module, hide_bookkeeping
from gradviz.views.details import hide_copies


def labels(graph: GradGraph) -> list[str]:
    return [label.plain() for label in labels_of(graph).values()]


def test_a_penalty_over_all_parameters_is_in_the_frame_of_no_module() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))
    penalty = sum(each.pow(2).sum() for each in net.parameters())
    loss = net(torch.ones(5, 4)).mean() + 0.01 * penalty
    graph = gradviz.draw(loss, names=net)._drawn[0][0].graph
    assert any("pow  ×6" in text for text in labels(graph))
    assert not opened_modules(graph)
    deep = nn.Sequential(*[nn.Linear(3, 3) for _ in range(50)])
    norm = torch.stack([each.norm() for each in deep.parameters()]).norm()
    graph = gradviz.draw(deep(torch.ones(2, 3)).sum() + norm, names={"m": deep})._drawn[0][0].graph
    norms = {key for key, data in graph.nodes(data=True) if data.get("op") == "norm"}
    inside = opened_modules(graph)
    assert len(norms) == 2 and norms.isdisjoint(*inside.values())


class Embedded(nn.Module):
    """It adds a parameter of its own, and its head is tied to its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.tok, self.pos = nn.Embedding(9, 4), nn.Parameter(torch.zeros(5, 4))
        self.body, self.scale = nn.Linear(4, 4), nn.ParameterDict({"a": torch.ones(1)})
        self.head = nn.Linear(4, 9, bias=False)
        self.head.weight = self.tok.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self.tok(tokens) + self.pos) * self.scale["a"])


def test_one_operation_of_a_module_is_no_box() -> None:
    net = Embedded()
    loss = net(torch.zeros(2, 5, dtype=torch.long)).sum()
    seen = hide_bookkeeping(
        group_by_module(gradviz.trace(loss, names=nn.ModuleDict({"m": net})), depth=1)
    )
    text = " | ".join(labels(seen))
    assert "part of" not in text and "ParameterDict" not in text
    assert "m.pos" in text and "m.scale.a" in text


def test_a_tied_parameter_has_both_names_in_the_frame_of_its_module() -> None:
    net = Embedded()
    loss = net(torch.zeros(2, 5, dtype=torch.long)).sum()
    graph = hide_bookkeeping(gradviz.trace(loss, names=nn.ModuleDict({"m": net})))
    short = with_short_names(graph, {"m"})
    found = [data for _, data in short.nodes(data=True) if data.get("name") == "tok.weight"]
    assert found[0]["aliases"] == ("head.weight",)


def test_a_box_with_one_leaf_of_a_module_is_called_by_it_in_the_table() -> None:
    net = nn.Linear(3, 1)
    graphs = []
    for _ in range(2):
        loss = net(torch.ones(2, 3)).sum() + net.weight.square().sum()
        graphs.append(group_by_module(gradviz.trace(loss, names=nn.ModuleDict({"d": net}))))
        loss.backward()
    first, second = (Frame("", graph) for graph in graphs)
    table = gradient_table(Moment(second, 2, ((1, first),)))
    assert {row[0].text for row in table} == {".grad", "d.weight", "d.bias"}


def test_a_table_finds_the_gradients_of_leaves_that_another_frame_boxes_otherwise() -> None:
    net = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 1)})
    loss = net["b"](net["a"](torch.ones(1, 2))).sum()
    boxed = dock_leaves(hide_bookkeeping(gradviz.trace(loss, names=net)))
    loss.backward()
    modules = hide_bookkeeping(group_by_module(gradviz.trace(loss, names=net)))
    table = gradient_table(Moment(Frame("", modules), 2, ((1, Frame("", boxed)),)))
    assert len(table) == 3
    assert all(row[1].text == "None" and row[2].text.startswith("norm") for row in table[1:])


def test_a_cut_behind_a_box_says_its_cause_also_if_one_before_it_has_the_same() -> None:
    graph, cut = GradGraph(), {"kind": EdgeKind.CUT, "cause": Cause.DETACH}
    for key in ("before", "copy", "after"):
        graph.add_node(key, kind=NodeKind.UNTRACKED, op="detach")
    graph.add_node("cell", kind=NodeKind.GROUP, members=4, name="cell", grad=None)
    graph.add_node("sum", kind=NodeKind.OPERATION, op="sum")
    edges = ("before", "copy"), ("copy", "cell"), ("cell", "after")
    for ends in edges:
        graph.add_edge(*ends, 0, **cut)
    graph.add_edge("cell", "sum", 0, kind=EdgeKind.GRADIENT)
    said = [cause_box(graph, (*ends, 0, cut)) is not None for ends in edges]
    assert said == [True, False, True]


def test_the_moment_after_backward_is_drawn() -> None:
    net = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    with gradviz.record(net, max_frames=12) as run:
        for _ in range(2):
            for _ in range(3):
                (net(torch.randn(2, 3)).square().mean() / 3).backward()
            optimizer.step()
            optimizer.zero_grad()
    picture = gradviz.draw(run).svg
    assert "after backward 6<" in picture and "pass 3" in picture


def test_a_value_that_was_not_read_again_has_not_changed() -> None:
    read = TensorSummary((9,), "float32", "cpu", norm=2.0, mean=0.1)
    unread = TensorSummary((9,), "float32", "cpu")
    frames = []
    for value, version in ((read, 2), (unread, 2), (read, 0)):
        graph = GradGraph()
        data = {"name": "w", "value": value, "version": version}
        graph.add_node("n0", kind=NodeKind.LEAF, **data)
        graph.add_node("n1", kind=NodeKind.OPERATION, op="exp", sequence_nr=1)
        graph.add_edge("n0", "n1", 0)
        frames.append(Frame("", graph))
    marked = mark_changes(Story(tuple(frames)))
    assert not any("changes" in frame.graph.nodes["n0"] for frame in marked)


def test_copies_between_leaves_are_left_out_of_a_folded_picture() -> None:
    torch.manual_seed(0)
    with gradviz.record() as run:
        q, target = (nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)) for _ in range(2))
        target.load_state_dict(q.state_dict())
        with torch.no_grad():
            wanted = target(torch.ones(4, 2))
        loss = (q(torch.ones(4, 2)) - wanted).square().mean()
        loss.backward()
    graph = hide_bookkeeping(run.frames[-1].graph)
    seen = hide_copies(graph)
    copies = set(graph) - set(seen)
    assert {graph.nodes[key]["op"] for key in copies} == {"detach"} and len(copies) == 4
    assert dock_leaves(seen).number_of_nodes() < seen.number_of_nodes()
    assert loss is not None


def test_a_copy_that_is_the_only_use_of_a_leaf_stays() -> None:
    with gradviz.record() as run:
        w = torch.ones(2, requires_grad=True)
        copy = nn.Parameter(w.detach())
        loss = (copy * 2).sum()
        loss.backward()
    graph = hide_bookkeeping(run.frames[-1].graph)
    assert set(hide_copies(graph)) == set(graph)
