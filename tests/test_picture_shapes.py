"""Shapes of what enters and leaves a module, against those that its hooks see; frames."""

from html import unescape

import pytest
import torch
from torch import nn
from torch.nn import functional

import gradviz
from gradviz.graph import GradGraph, NodeKind, TensorSummary
from gradviz.graph.text import summary_text
from gradviz.renderers.labels import labels_of
from gradviz.renderers.module_frames import opened_modules
from gradviz.renderers.scene import NARROW
from gradviz.views import dock_leaves, fold_chunks, fold_repeats, group_by_module, hide_bookkeeping
from gradviz.views.modules import module_paths
from gradviz.views.op_sequence import op_sequence


def shapes_of(graph):
    """The text of each module box, by its name."""
    labels = labels_of(graph)
    groups = [key for key, data in graph.nodes(data=True) if "module_class" in data]
    return {graph.nodes[key]["name"]: labels[key].plain() for key in groups}


def boxes(result, model, depth=1):
    views = [group_by_module(depth=depth), hide_bookkeeping]
    return shapes_of(gradviz.draw(result, names=model, views=views).shown[0].graph)


def test_the_class_tells_the_shape_of_an_input_without_a_gradient():
    embed, layer = nn.Embedding(9, 4), nn.Linear(4, 3)
    found = boxes(
        layer(embed(torch.ones(2, 5, dtype=torch.long))).sum(), nn.Sequential(embed, layer)
    )
    assert "[2,5] →  f32[2,5,4]" in found["0"] and "[2,5,4] →  f32[2,5,3]" in found["1"]
    convs = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), nn.Conv2d(4, 1, 1))
    found = boxes(convs(torch.ones(2, 3, 8, 8)).sum(), convs)
    assert "[2,3,8,8] →  f32[2,4,6,6]" in found["0"]


def test_a_layer_that_is_called_twice_has_the_shape_of_its_input():
    layer = nn.Linear(8, 3)
    loss = (layer(torch.ones(5, 8)) - layer(torch.zeros(5, 8))).sum()
    graph = gradviz.draw(loss, names=nn.ModuleDict({"fc": layer})).shown[0].graph
    graph = hide_bookkeeping(group_by_module(graph))
    found = [label.plain() for label in labels_of(graph).values() if "Linear" in label.plain()]
    assert len(found) == 2 and all("[5,8] →  f32[5,3]" in text for text in found)


def test_the_output_of_a_tied_embedding_is_none_of_an_embedding():
    embed = nn.Embedding(9, 4)
    loss = (embed(torch.ones(2, dtype=torch.long)) @ embed.weight.t()).sum()
    graph = gradviz.draw(loss, names=nn.ModuleDict({"embed": embed}), views=()).shown[0].graph
    seen = group_by_module(graph)
    assert [text for text in shapes_of(seen).values() if "Embedding" in text] == [
        "embed  Embedding  [2] →  f32[2,4]"
    ]


class Both(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(2, 6)

    def forward(self, x, y):
        return self.a(x) * self.b(y)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.both = nn.Linear(3, 4), nn.Linear(3, 2), Both()

    def forward(self, x):
        return self.both(self.one(x), self.two(x))


def test_all_inputs_of_a_module_have_their_shape():
    model = Net()
    found = boxes(model(torch.ones(5, 3)).sum(), model)
    assert "[5,4], [5,2] →  f32[5,6]" in found["both"] or "[5,2], [5,4] →" in found["both"]


def test_a_frame_has_the_shape_of_its_input():
    model = nn.Sequential(
        nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))
    )
    svg = gradviz.draw(model(torch.ones(7, 3)).sum(), names=model).svg
    assert ">[7,4] →<" in svg and ">f32[7,2]<" in svg


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        return self.fc(x).tanh() + x


class Stage(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.norm = Block(), Block(), nn.LayerNorm(4)

    def forward(self, x):
        return self.norm(self.second(self.first(x)).view(2, 3, 4))


def test_another_call_of_a_class_tells_that_its_output_is_not_reshaped():
    model = nn.Sequential(nn.Linear(4, 4), Stage())
    found = boxes(model(torch.ones(6, 4)).sum(), model, depth=2)
    assert "f32[6,4]" in found["1.second"]


@pytest.mark.parametrize("first", [4, 8])
def test_a_recorded_cell_connects_each_input_to_its_weight(first):
    cell = nn.LSTMCell(first, 8)
    x, h, c = torch.randn(3, first), torch.zeros(3, 8), torch.ones(3, 8)
    with gradviz.record(cell) as run:
        out, _ = cell(x, (h, c))
        out.sum().backward()
    graph = gradviz.draw(run, views=()).shown[0].graph
    wanted = {"weight_ih": "x", "weight_hh": "h"}
    for key, data in graph.nodes(data=True):
        if data.get("op") in ("addmm", "linear"):
            before = [graph.nodes[source] for source in graph.predecessors(key)]
            turned = [key for key in graph.predecessors(key) if graph.nodes[key].get("op") == "t"]
            leaves = {graph.nodes[each].get("name") for t in turned for each in _leaves(graph, t)}
            (weight,) = leaves & wanted.keys()
            names = {node.get("name") for node in before if node["kind"] is NodeKind.UNTRACKED}
            assert names == {wanted[weight]}


def _leaves(graph, key):
    rows = [key]
    for each in rows:
        rows += graph.predecessors(each)
    return rows


class Loop(nn.Module):
    """Each step calls several modules."""

    def __init__(self):
        super().__init__()
        self.attn, self.cell, self.out = nn.Linear(6, 6), nn.GRUCell(6, 6), nn.Linear(6, 5)

    def forward(self, h):
        outs = []
        for _ in range(6):
            h = self.cell(self.attn(h).softmax(1), h)
            outs.append(self.out(h))
        return torch.stack(outs, 1)


def test_the_steps_of_several_modules_are_no_part_of_the_first():
    model = Loop()
    loss = functional.cross_entropy(model(torch.ones(2, 6)).flatten(0, 1), torch.ones(12).long())
    graph = gradviz.draw(loss, names=model, views=()).shown[0].graph
    folded = group_by_module(hide_bookkeeping(fold_repeats(graph)), depth=1)
    steps = [data for _, data in folded.nodes(data=True) if data.get("repeat", 1) > 1]
    assert len(steps) == 1 and not steps[0].get("module") and "part_of" not in steps[0]
    classes = {data.get("module_class") for _, data in folded.nodes(data=True)}
    assert {"Linear", "GRUCell"} <= classes


def test_an_input_with_a_gradient_is_not_in_the_box_of_a_module():
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    loss = model(torch.rand(5, 4).requires_grad_()).sum()
    graph = gradviz.draw(loss, names=model, views=[group_by_module(depth=1)]).shown[0].graph
    assert [data for _, data in graph.nodes(data=True) if data["kind"] is NodeKind.LEAF]
    assert "leaf element" not in "".join(shapes_of(graph).values())


def test_a_frame_counts_the_parameters_that_are_drawn_outside_of_it():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.bias = nn.Linear(12, 5), nn.Parameter(torch.zeros(12))

        def forward(self, x):
            hidden = torch.sigmoid(self.encoder(x))
            return nn.functional.linear(hidden, self.encoder.weight.t(), self.bias)

    model = Tied()
    with gradviz.record() as run:
        loss = model(torch.rand(6, 12)).mean() + model.encoder.weight.abs().sum()
        loss.backward()
    text = unescape(gradviz.draw(run).svg)
    assert "77 parameters" in text  # encoder.weight has 60, and is used outside as well
    assert "17 parameters" not in text


def test_no_frame_is_around_calls_that_no_data_joins():
    critic = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    loss = critic(torch.randn(4, 2)).mean() - critic(torch.randn(4, 2)).mean()
    assert opened_modules(gradviz.draw(loss, names=critic).shown[0].graph) == {}


def test_a_small_graph_is_open_if_its_picture_fits_though_its_estimate_does_not():
    critic = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    mixed = torch.randn(4, 2, requires_grad=True)
    (slope,) = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
    loss = critic(torch.randn(4, 2)).mean() - critic(torch.randn(4, 2)).mean()
    loss = loss + 10 * ((slope.norm(2, dim=1) - 1) ** 2).mean()
    loss.backward()
    drawing = gradviz.draw(loss, names=critic)
    assert all(
        data["kind"] is not NodeKind.GROUP for _, data in drawing.shown[0].graph.nodes.data()
    )
    assert "folded" not in drawing.svg


def test_autograd_grad_adds_operations_to_a_graph_with_fewer():
    weight = torch.ones(2, requires_grad=True)
    with gradviz.record() as run:
        loss = weight.tanh().pow(3).sum()
        (slope,) = torch.autograd.grad(loss, weight, create_graph=True)
        slope.sum().backward()
    captions = [frame.caption for frame in gradviz.draw(run).shown]
    assert "new operations." in captions[1]


def test_the_rest_of_a_tensor_with_nan_is_not_all_of_it():
    summary = TensorSummary((9,), "float32", "cpu", norm=0.0, nan=2)
    assert summary_text(summary) == "2 NaN, the rest zeros"


def test_what_gets_nothing_of_a_module_did_not_run_in_it():
    class Expert(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 8))

        def forward(self, x):
            return self.net(x)

    class Mixture(nn.Module):
        def __init__(self):
            super().__init__()
            self.router = nn.Linear(8, 3)
            self.experts = nn.ModuleList(Expert() for _ in range(3))

        def forward(self, x):
            top, index = self.router(x).softmax(-1).topk(2)
            out = torch.zeros_like(x)
            for number, expert in enumerate(self.experts):
                rows, slot = torch.where(index == number)
                out = out.index_add(0, rows, top[rows, slot, None] * expert(x[rows]))
            return out

    torch.manual_seed(0)
    model = Mixture()
    graph = gradviz.draw(model(torch.randn(10, 8)).sum(), names=model, views=()).shown[0].graph
    sequence = op_sequence(graph)
    pairs = zip(sequence.data, module_paths(sequence), strict=True)
    found = {path for data, path in pairs if data["op"] == "index"}
    assert not any(path[:1] == ("experts",) and len(path) > 1 for path in found)


def test_a_tensor_of_nan_alone_has_no_rest():
    assert summary_text(TensorSummary((9,), "float32", "cpu", norm=0.0, nan=9)) == "9 NaN"


def test_two_cuts_of_one_module_find_all_operations_before_them():
    cell = nn.LSTMCell(4, 8)
    with gradviz.record(cell) as run:
        state = torch.zeros(2, 8), torch.zeros(2, 8)
        for _ in range(2):
            state = cell(torch.ones(2, 4), tuple(each.detach() for each in state))
            state[0].sum().backward()
    graph = run.story[-1].graph
    products = [key for key, data in graph.nodes(data=True) if data.get("op") == "mul"]
    assert len(products) == 6
    assert all(graph.in_degree(key) for key in products)


def test_a_cell_between_detached_states_is_one_box_in_each_step():
    cell, head = nn.LSTMCell(4, 8), nn.Linear(8, 2)
    model = nn.ModuleDict({"cell": cell, "head": head})
    with gradviz.record(model) as run:
        state = torch.zeros(2, 8), torch.zeros(2, 8)
        for _ in range(2):
            state = cell(torch.ones(2, 4), tuple(each.detach() for each in state))
            head(state[0]).sum().backward()
    graph = gradviz.draw(run, depth=1).shown[-1].graph
    boxes = [data for _, data in graph.nodes(data=True) if data.get("name") == "cell"]
    assert sorted(data["members"] for data in boxes) == [11, 15]


class TopTwo(nn.Module):
    """Eight experts; each token goes to two of them."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(16, 8)
        layers = (nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16)) for _ in range(8))
        self.experts = nn.ModuleList(layers)

    def forward(self, x):
        weights, chosen = self.gate(x).softmax(-1).topk(2, -1)
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            rows, slot = (chosen == number).nonzero(as_tuple=True)
            if len(rows):
                out = out.index_add(0, rows, expert(x[rows]) * weights[rows, slot, None])
        return out


def test_experts_with_different_numbers_of_rows_are_drawn_once():
    torch.manual_seed(0)
    model, x = TopTwo(), torch.randn(24, 16)
    drawing = gradviz.draw(model(x).square().mean(), names=model)
    assert drawing._drawn[1].width <= NARROW
    boxes = {data.get("name") for _, data in drawing._drawn[0][0].graph.nodes(data=True)}
    assert "experts.0…7" in boxes
    assert "by module and outside of modules" in drawing.svg
    with gradviz.record(model) as run:
        model(x).square().mean().backward()
    assert gradviz.draw(run)._drawn[1].width <= NARROW


def test_a_factor_of_an_operation_in_place_looks_as_of_one_that_is_not():
    with gradviz.record() as run:
        y = torch.ones(2, requires_grad=True) * 2
        y.mul_(3)
        y.sum().backward()
    graph = run.story[0].graph
    (key,) = [key for key, data in graph.nodes(data=True) if data.get("op") == "mul_"]
    assert "×3" in labels_of(graph)[key].plain()


class _Heads(nn.Module):
    """Each head has a layer and, in another list, a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(6, 4) for _ in range(4))
        self.scales = nn.ParameterList(nn.Parameter(torch.ones(4)) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = [
            (head(x) * scale).relu().exp().sin().cos().tanh()
            for head, scale in zip(self.heads, self.scales, strict=True)
        ]
        return torch.cat(rows, -1)


def test_steps_with_parameters_of_two_lists_are_not_the_modules_of_one() -> None:
    net = nn.ModuleDict({"first": _Heads(), "second": _Heads()})
    loss = net["second"](net["first"](torch.randn(3, 6))[:, :6]).sum()
    text = str(gradviz.draw(loss, names=net, views=[hide_bookkeeping, fold_repeats]))
    assert "first.heads.0…3  ×4  part of  _Heads  " in text
    assert "Linear" not in text


class _Scan(nn.Module):
    """A loop in one call, whose steps use no parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rates, state, states = self.enter(x).sigmoid(), torch.zeros(2, 4), []
        for step in range(x.shape[1]):
            state = (state * rates[:, step] + rates[:, step].exp()).tanh()
            states.append(state)
        return self.leave(torch.stack(states, 1))


def test_the_steps_of_a_loop_are_a_part_of_the_call_of_their_module() -> None:
    net = nn.Sequential(nn.Linear(4, 4), _Scan(), nn.Linear(4, 1))
    text = str(gradviz.draw(net(torch.randn(2, 12, 4)).sum(), names=net))
    assert "1  ×10  steps 2–11  part of  _Scan  60 ops in all" in text


class _Forked(nn.Module):
    """Two heads in one container, used in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(4, 8)
        self.heads = nn.ModuleDict({"a": nn.Linear(8, 2), "b": nn.Linear(8, 3)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.stem(x)
        return self.heads["a"](h).sum() + self.heads["b"](h).logsumexp(-1).mean()


def test_a_module_of_which_all_is_drawn_is_no_part_of_itself() -> None:
    net = _Forked()
    text = str(gradviz.draw(net(torch.ones(2, 4)), names=net, depth=1))
    assert "heads.a  Linear  " in text and "part of  Linear" not in text


def test_leaves_of_several_modules_are_named_by_them() -> None:
    graph = GradGraph()
    graph.add_node("n", kind=NodeKind.OPERATION, op="add", shape=(4,))
    for slot, name in enumerate(("one.0.weight", "one.0.bias", "two.weight", "two.bias")):
        graph.add_node(name, kind=NodeKind.PARAMETER, name=name, shape=(4,), grad=None)
        graph.add_edge(name, "n", 0, input=slot)
    boxes = [data.get("name") for _, data in dock_leaves(graph).nodes(data=True)]
    assert "parameters of one.0, two (4)" in boxes
    for part in range(40):  # each operation has a box of its own
        graph.add_node(f"n{part}", kind=NodeKind.OPERATION, op="add", sequence_nr=part)
        for slot, name in enumerate((f"l{part}.weight", f"l{part}.bias")):
            graph.add_node(name, kind=NodeKind.PARAMETER, name=name, shape=(4,), grad=None)
            graph.add_edge(name, f"n{part}", 0, input=slot)
    chunks = fold_chunks(dock_leaves(graph), count=4)
    titles = [label.plain() for label in labels_of(chunks).values()]
    assert not any("parameters of" in title and "→" in title for title in titles), titles


class _Adapted(nn.Module):
    """A frozen layer beside which a product with two trained matrices is added."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(8, 8).requires_grad_(False)
        self.down, self.up = nn.Parameter(torch.ones(2, 8)), nn.Parameter(torch.ones(8, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        added: torch.Tensor = self.base(x) + x @ self.down.T @ self.up.T
        return added


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = _Adapted(), nn.Linear(8, 8).requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.last(functional.relu(self.first(x)))


def test_a_box_without_what_its_frozen_layers_ran_is_a_part() -> None:
    table = nn.Embedding(4, 8).requires_grad_(False)
    embedding = nn.Sequential(nn.Sequential(table, nn.Linear(8, 8)), nn.Linear(8, 8))
    adapted = nn.Sequential(_Block(), _Block(), _Block())
    found = []
    for model, given in ((adapted, torch.ones(4, 8)), (embedding, torch.tensor([1, 2]))):
        loss = model(given).sum()
        loss.backward()  # the frozen layers are not recognized once their tensors are freed
        graph = gradviz.draw(loss, names=model, views=[group_by_module(depth=1)]).shown[0].graph
        boxes = [data for _, data in graph.nodes(data=True) if data.get("members")]
        found.append(["part_of" in box for box in boxes])
    assert found == [[True] * 3, [False] * 2]
