"""Pictures of loops and of second backward passes: cells, step numbers, moments of a story."""

import re
from collections import Counter
from functools import partial

import pytest
import torch
from scene_faults import faults_of
from torch import nn

import gradviz
from gradviz.graph import GradGraph, NodeKind, TensorSummary
from gradviz.renderers.labels import labels_of
from gradviz.renderers.module_frames import with_short_names
from gradviz.renderers.moments import Moment, gradient_table
from gradviz.story import Frame
from gradviz.views import dock_leaves, fold_repeats, group_by_module, hide_bookkeeping


class Steps(nn.Module):
    """A cell that is called for each step, and a head on each state."""

    def __init__(self, cell: type[nn.RNNCellBase]) -> None:
        super().__init__()
        self.cell, self.head = cell(4, 8), nn.Linear(8, 2)

    def forward(self, x):
        state, found = None, []
        for step in x:
            state = self.cell(step, state)
            found.append(self.head(state[0] if isinstance(state, tuple) else state))
        return torch.stack(found)


def groups_of(graph):
    return [data for _, data in graph.nodes.data() if data["kind"] is NodeKind.GROUP]


@pytest.mark.parametrize(
    ("cell", "members"), [(nn.RNNCell, 6), (nn.LSTMCell, 15), (nn.GRUCell, 16)]
)
@pytest.mark.parametrize("steps", [3, 12])
def test_a_cell_is_one_box_with_the_shape_of_its_state(cell, members, steps):
    net = Steps(cell)
    graph = gradviz.draw(net(torch.ones(steps, 2, 4)).sum(), names=net).shown[0].graph
    boxes = [data for data in groups_of(graph) if data.get("module_class") == cell.__name__]
    assert boxes
    assert {(data["members"], data["shape"]) for data in boxes} == {(members, (2, 8))}


def test_the_steps_of_a_loop_have_numbers():
    net = Steps(nn.LSTMCell)
    graph = gradviz.draw(net(torch.ones(26, 2, 4)).sum(), names=net).shown[0].graph
    (loop,) = [data for data in groups_of(graph) if data.get("repeat", 1) > 1]
    assert (loop["first_step"], loop["repeat"]) == (2, 24)  # the first and the last are drawn
    assert any("×24  steps 2–25" in label.plain() for label in labels_of(graph).values())


def penalty(critic, x):
    x = x.requires_grad_()
    score = critic(x).sum()
    (gradient,) = torch.autograd.grad(score, x, create_graph=True)
    return score, gradient


def test_operations_of_a_second_backward_are_no_calls_of_a_module():
    critic = nn.Sequential(nn.Linear(4, 8), nn.LeakyReLU(), nn.Linear(8, 1))
    score, gradient = penalty(critic, torch.randn(6, 4))
    views = [partial(gradviz.views.fit_page, most=16)]
    graph = gradviz.draw([score, gradient], names=critic, views=views).shown[0].graph
    classes = Counter(data.get("module_class") for data in groups_of(graph))
    assert classes["Linear"] == 2
    shapes = {data["name"]: data["shape"] for data in groups_of(graph) if "module_class" in data}
    assert shapes == {"0": (6, 8), "2": (6, 1)}
    assert any("leaky_relu_backward" in data.get("op", "") for _, data in graph.nodes.data())


def test_the_most_complete_moment_of_a_growing_graph_is_drawn():
    critic = nn.Sequential(nn.Linear(4, 8), nn.LeakyReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(critic.parameters(), lr=0.1)
    with gradviz.record(critic) as run:
        for _ in range(2):
            mixed = torch.randn(6, 4).requires_grad_()
            (gradient,) = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
            loss = critic(torch.randn(6, 4)).mean() + (gradient.norm(2, dim=1) - 1).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    drawing = gradviz.draw(run)
    assert "after backward 1" in drawing.svg and "after backward 2" in drawing.svg
    assert "mixed.grad: cleared" not in drawing.svg  # each step has a tensor of its own
    classes = [data.get("module_class") for data in groups_of(drawing.shown[1].graph)]
    assert classes.count("Linear") == 2  # also after autograd.grad


def test_each_frame_says_what_is_freed_the_first_as_well():
    weights = torch.ones(2, requires_grad=True)
    with gradviz.record() as run:
        for _ in range(3):
            (weights * weights).sum().backward()
    after = [frame for frame in run.frames if "backward" in frame.title]
    story = gradviz.draw(gradviz.Story(after)).shown
    labels = [
        label.plain()
        for frame in story
        for label in labels_of(frame.graph).values()
        if label.plain().startswith("mul")
    ]
    assert labels == ["mul  freed"] * 3


class Shared(nn.Module):
    """One layer that is called several times."""

    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)

    def forward(self, x):
        for _ in range(8):
            x = self.layer(x)
        return x


@pytest.mark.parametrize("options", [{"depth": 1}, {"depth": 3}, {"rankdir": "LR"}], ids=str)
def test_a_chosen_depth_fits_a_page_as_well(options):
    net = Shared()
    svg = gradviz.draw(net(torch.ones(2, 3, 8)).sum(), names=net, **options).svg
    width, height = map(float, re.search(r'viewBox="0 0 (\S+) (\S+)"', svg).groups())
    assert width <= 1_711 and height * min(1, 1_400 / width) <= 2_000


def test_steps_without_a_sure_number_have_none():
    x = torch.ones(4, requires_grad=True)
    for _ in range(3):
        x = x.sin()
    for _ in range(9):
        x = x.sin().cos()
    graph = gradviz.views.fold_repeats(gradviz.trace(x.sum()))
    assert [data.get("first_step") for data in groups_of(graph) if data["repeat"] > 3] == [None]


def test_what_a_sum_adds_on_the_way_has_no_name():
    with gradviz.record() as run:
        parts = [torch.ones(2, requires_grad=True) * k for k in (1, 2, 3)]
        loss = sum(part.mean() for part in parts)
        loss.backward()
    names = [data.get("name") for _, data in run.frames[0].graph.nodes.data()]
    assert names.count("loss") == 1


def test_the_last_result_of_autograd_grad_is_shown():
    x = torch.tensor(2.0, requires_grad=True)
    with gradviz.record() as run:
        y = x**3
        (slope,) = torch.autograd.grad(y, x, create_graph=True)
        (curvature,) = torch.autograd.grad(slope, x, create_graph=True)
    assert curvature.item() == 12
    assert "curvature  f32[]  =  12\n← mul  ×3\n← mul  ×2" in str(gradviz.draw(run))


class Heads(nn.Module):
    """Attention that ends by turning its heads into a row, with code of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24)

    def forward(self, x, bias=None):
        q, k, v = (part.view(2, 3, 2, 4).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        scores = q @ k.transpose(-1, -2)
        scores = scores if bias is None else scores + bias
        return (scores.softmax(-1) @ v).transpose(1, 2).reshape(2, 3, 8)


class Block(nn.Module):
    def __init__(self, biased: bool) -> None:
        super().__init__()
        self.attend, self.norm, self.fc = Heads(), nn.LayerNorm(8), nn.Linear(8, 8)
        self.bias = nn.Parameter(torch.zeros(1)) if biased else None

    def forward(self, x):
        x = x + self.attend(x, self.bias)
        return x + self.fc(self.norm(x)) * torch.ones(8)


class Blocks(nn.Module):
    """Stacked blocks of which the first differs a little."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.blocks = nn.ModuleList(Block(not number) for number in range(count))
        self.last = nn.LayerNorm(8)

    def forward(self, x):
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        return self.last(x)


@pytest.mark.parametrize("is_recorded", [False, True])
def test_blocks_after_a_first_that_differs_are_whole_blocks_with_a_shape(is_recorded):
    net = Blocks(8)
    if is_recorded:
        with gradviz.record(net) as run:
            net(torch.ones(2, 3, 8)).sum().backward()
        drawing = gradviz.draw(run)
    else:
        drawing = gradviz.draw(net(torch.ones(2, 3, 8)).sum(), names=net)
    for frame in drawing.shown:
        labels = labels_of(frame.graph)
        boxes = [labels[k].plain() for k, d in frame.graph.nodes.data() if d.get("repeat", 1) > 1]
        assert len(boxes) == 1
        assert re.match(r"blocks\.1…7  ×7  Block  \d+ ops in all  (freed  )?f32\[2,3,8\]", boxes[0])


def test_the_shape_of_a_box_is_that_of_what_its_module_returns():
    net = nn.ModuleDict({"heads": Heads(), "out": nn.Linear(8, 8)})
    with gradviz.record(net) as run:
        net["out"](net["heads"](torch.ones(2, 3, 8))).sum().backward()
    graph = gradviz.views.group_by_module(
        gradviz.views.hide_bookkeeping(run.story[0].graph), depth=1
    )
    (heads,) = [data for data in groups_of(graph) if data.get("module_class") == "Heads"]
    assert heads["shape"] == (2, 3, 8)  # its last operation that computes returns four dimensions
    (key,) = [key for key, data in graph.nodes.data() if data is heads]
    assert all("through" not in edge for *_, edge in graph.out_edges(key, data=True))


def test_a_part_of_a_module_says_so():
    net = Blocks(4)
    views = [gradviz.views.hide_bookkeeping, gradviz.views.group_by_module]
    graph = gradviz.draw(net(torch.ones(2, 3, 8)).sum(), names=net, views=views).shown[0].graph
    plain = [label.plain() for label in labels_of(graph).values()]
    assert sum("part of  Block  29 ops  f32[2,3,8]" in text for text in plain) == 3
    assert "blocks.1.norm  LayerNorm  f32[2,3,8]  16 parameters  .grad  None" in plain
    short = labels_of(with_short_names(graph, {"blocks.0", "blocks.1"})).values()
    inside = [label.plain() for label in short if "part of" in label.plain()]
    assert sorted(text.split()[0] for text in inside)[:2] == ["blocks.0", "blocks.1"]


def test_a_box_has_the_shape_of_its_input_where_it_differs():
    net = nn.Sequential(nn.Linear(4, 8), nn.Flatten(), nn.Linear(24, 2), nn.Tanh())
    x = torch.ones(2, 3, 4, requires_grad=True)
    result = net(x).sum()
    views = [gradviz.views.hide_bookkeeping, gradviz.views.group_by_module]
    graph = gradviz.draw(result, names=net, views=views).shown[0].graph
    heads = [label.plain() for label in labels_of(graph).values()]
    assert any("0  Linear  [2,3,4] →  f32[2,3,8]" in head for head in heads)
    assert any("2  Linear  [2,24] →  f32[2,2]" in head for head in heads)
    assert not any("Tanh" in head and "→" in head for head in heads)


class Projections(nn.Module):
    """Attention as one module; what joins its projections has no parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(8, 8) for _ in range(3))

    def forward(self, x):
        q, k, v = self.query(x), self.key(x), self.value(x)
        return torch.softmax(q @ k.transpose(-1, -2), -1) @ v


class SelfAttention(Projections):
    pass


class Attention(nn.Module):
    def __init__(self, own) -> None:
        super().__init__()
        self.own, self.output = own, nn.Linear(8, 8)

    def forward(self, x):
        return self.output(self.own(x))


def test_projections_alone_are_part_of_an_attention():
    for own, title in ((Projections(), "Projections"), (SelfAttention(), "part of")):
        net = nn.Sequential(nn.Linear(8, 8), Attention(own))
        views = [gradviz.views.hide_bookkeeping, gradviz.views.group_by_module(depth=2)]
        graph = gradviz.draw(net(torch.ones(2, 3, 8)).sum(), names=net, views=views).shown[0].graph
        plain = [label.plain() for label in labels_of(graph).values()]
        (found,) = [text for text in plain if text.startswith("1.own")]
        assert found.startswith(f"1.own  {title}")


class Half(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.fc = nn.LayerNorm(8), nn.Linear(8, 8)

    def forward(self, x):
        return x + self.fc(self.norm(x)) * 2


class TwoHalves(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.halves = nn.ModuleList([Half(), Half()])

    def forward(self, x):
        for half in self.halves:
            x = half(x)
        return x


class Stack(nn.Module):
    """Blocks of two halves; a half adds what the half before it made."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks, self.last = nn.ModuleList(TwoHalves() for _ in range(3)), nn.Linear(8, 8)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.last(x)


def test_a_sum_with_what_a_block_made_before_its_last_part_ran_in_that_part():
    net, x = Stack(), torch.ones(2, 8, requires_grad=True)
    graph = gradviz.views.hide_bookkeeping(gradviz.trace(net(x).sum(), names=net))
    seen = gradviz.views.infer_modules(graph)
    found = [d.get("module") for _, d in seen.nodes.data() if d.get("op") in ("add", "mul")]
    halves = [f"blocks.{block}.halves.{half}" for block in range(3) for half in (0, 1)]
    assert found.count("blocks.0.halves.1") == found.count("blocks.1.halves.1") == 2
    assert set(found) <= {*halves, "", None}


def test_the_last_step_of_a_loop_is_apart_only_once():
    cell, state = nn.RNNCell(3, 4), torch.zeros(1, 4)
    with gradviz.record(cell) as run:
        for features in torch.randn(40, 1, 3):  # the last one has a name still
            state = cell(features, state)
        state.sum().backward()
    for frame in gradviz.draw(run).shown:
        (loop,) = [data for data in groups_of(frame.graph) if data.get("repeat", 1) > 1]
        assert (loop["first_step"], loop["repeat"]) == (2, 38)


def test_a_picture_that_nearly_fits_is_not_folded_to_a_few_boxes():
    net = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))
    x, y = torch.randn(8, 1), torch.randn(8, 1)
    fast = dict(net.named_parameters())
    inner = (torch.func.functional_call(net, fast, (x,)) - y).square().mean()
    grads = torch.autograd.grad(inner, list(fast.values()), create_graph=True)
    fast = {name: w - 0.1 * g for (name, w), g in zip(fast.items(), grads, strict=True)}
    loss = (torch.func.functional_call(net, fast, (x,)) - y).square().mean()
    drawing = gradviz.draw(loss)
    assert len(drawing._drawn[0][0].graph) > 30


class Reader(nn.Module):
    """One call, in which the weights of its layer are used at each step."""

    def __init__(self, layer) -> None:
        super().__init__()
        self.embedding, self.layer = nn.Embedding(20, 8), layer

    def forward(self, tokens):
        words = self.embedding(tokens)
        if isinstance(self.layer, nn.GRU):
            return self.layer(words)[1]
        state = None
        for word in words:
            state = self.layer(word, state)
        return state


@pytest.mark.parametrize(("layer", "is_whole"), [(nn.GRU(8, 8), True), (nn.GRUCell(8, 8), False)])
def test_steps_of_one_call_are_it_or_parts_of_it(layer, is_whole):
    net = nn.Sequential(Reader(layer), nn.Linear(8, 2))
    views = [gradviz.views.hide_bookkeeping, gradviz.views.group_by_module(depth=1)]
    result = net(torch.zeros(6, 3, dtype=torch.long)).sum()
    graph = gradviz.draw(result, names=net, views=views).shown[0].graph
    boxes = [data for data in groups_of(graph) if data.get("module") == "0"]
    assert (len(boxes) == 1) == is_whole
    said = {(data.get("module_class"), data.get("part_of")) for data in boxes}
    assert said == ({("Reader", None)} if is_whole else {(None, "Reader")})


class Decoder(nn.Module):
    """It is called at each step, and its GRU runs one step then."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.gru, self.out = nn.Embedding(9, 4), nn.GRU(8, 4), nn.Linear(4, 9)

    def forward(self, token, state, context):
        words = torch.cat([self.embedding(token), context], -1)
        words, state = self.gru(words, state)
        return self.out(words[0]), state


class Translator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.reader, self.decoder = Reader(nn.GRU(8, 4)), Decoder()

    def forward(self, tokens):
        state = context = self.reader(tokens)
        found = []
        for token in tokens:
            scores, state = self.decoder(token[None], state, context)
            found.append(scores)
        return torch.stack(found)


def test_calls_of_a_decoder_are_a_loop_also_where_nothing_was_recorded():
    net = Translator()
    loss = net(torch.zeros(9, 3, dtype=torch.long)).logsumexp(-1).mean()
    graph = gradviz.draw(loss, names=net).shown[0].graph
    loops = [data for data in groups_of(graph) if data.get("repeat", 1) > 1]
    assert [(data["module_class"], data["first_step"]) for data in loops] == [("Decoder", 2)]
    readers = [data for data in groups_of(graph) if data.get("module") == "reader"]
    assert [data.get("module_class") for data in readers] == ["Reader"]


def test_of_a_module_in_focus_that_is_called_often_the_first_call_stays_open():
    net = Translator()
    loss = net(torch.zeros(30, 3, dtype=torch.long)).logsumexp(-1).mean()
    drawing = gradviz.draw(loss, names=net, focus="decoder.gru")
    graph = drawing._drawn[0][0].graph
    words = [data.get("op") for _, data in graph.nodes.data()]
    assert words.count("tanh") == 1
    assert words.count("sigmoid") == 2
    assert any("the first of 30 calls of decoder.gru" in note for note in graph.notes)
    assert not faults_of(drawing)


def test_a_box_of_repeated_modules_says_how_many_of_its_operations_are_in_them():
    experts = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.ReLU()) for _ in range(9))
    x = torch.ones(2, 4)
    with gradviz.record(experts) as run:
        loss = sum(number * expert(x).sum() for number, expert in enumerate(experts, 1))
    graph = gradviz.draw(run).shown[0].graph
    (label,) = [each for each in labels_of(graph).values() if "in them" in each.plain()]
    (box,) = [data for data in groups_of(graph) if "in_modules" in data]
    assert box["in_modules"] == 3 * box["repeat"]  # t, addmm, relu
    assert f"{box['members']} ops in all, {box['in_modules']} in them" in label.plain()
    del loss


class Residual(nn.Module):
    """A block that ends with an activation, of a module that it also uses before."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.relu = nn.Linear(4, 4), nn.Linear(4, 4), nn.ReLU()

    def forward(self, x):
        return self.relu(self.second(self.relu(self.first(x))) + x)


class Before(Residual):
    def forward(self, x):
        return self.second(self.relu(self.first(self.relu(x))))


@pytest.mark.parametrize(("block", "expected"), [(Residual, [0, 0, 1, 1, 2]), (Before, None)])
def test_an_activation_is_in_the_block_that_it_ends_where_others_begin_otherwise(block, expected):
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Sequential(block(), block(), block()))
    result = net(torch.ones(2, 4, requires_grad=True)).sum()
    views = [gradviz.views.hide_bookkeeping, gradviz.views.infer_modules]
    graph = gradviz.draw(result, names=net, views=views).shown[0].graph
    rows = [data for _, data in graph.nodes.data() if data.get("op") == "relu"]
    rows.sort(key=lambda data: data["sequence_nr"])
    found = [data.get("module") for data in rows]
    if expected is None:  # the second block can begin with it: it did not end the first
        assert "2.0.relu" not in found[2:]
    else:
        assert found[: len(expected)] == [f"2.{number}.relu" for number in expected]


def test_a_part_of_a_module_in_its_frame_has_a_short_name():
    graph = GradGraph()
    for key in ("n0", "n1", "n2"):
        graph.add_node(
            key, kind=NodeKind.GROUP, module="model.mlp", members=9, sequence_nr=int(key[1])
        )
    for number in (0, 1):
        graph.add_edge(f"n{number}", f"n{number + 1}", 0)
    names = {"n0": "model.mlp.up", "n1": "model.mlp", "n2": "model.mlp.down"}
    for key, name in names.items():
        graph.nodes[key].update(name=name, **({"part_of": "MLP"} if name == "model.mlp" else {}))
    seen = with_short_names(graph, {"model.mlp"})
    assert [seen.nodes[key]["name"] for key in names] == ["up", "mlp", "down"]


def test_the_sign_of_a_cut_says_which_function_read_the_number():
    with gradviz.record() as run:
        w = torch.ones(2, requires_grad=True)
        loss = w.sum() * sum((w * 2).tolist())
        loss.backward()
    text = gradviz.draw(run).text
    assert "tolist, " in text
    assert "item" not in text


def test_a_table_of_gradients_has_the_norm_of_each_group():
    frames = []
    for norm in (None, 1.0):
        graph = GradGraph()
        for number in range(3):
            grad = norm and TensorSummary((9,), "float32", "cpu", norm=norm + number)
            facts = {"op": "linear → mul", "members": 2, "parameters": 9, "first": f"n{number}"}
            graph.add_node(f"g{number}", kind=NodeKind.GROUP, grad=grad, **facts)
        frames.append(Frame("", graph))
    table = gradient_table(Moment(frames[1], 2, ((1, frames[0]),)))
    assert [[cell.text for cell in row[1:]] for row in table[1:]] == [
        ["None", "norm 1"],
        ["None", "norm 2"],
        ["None", "norm 3"],
    ]


def test_leaves_in_a_box_are_in_the_table_also_where_they_were_in_none():
    frames = []
    for grad in (None, TensorSummary((9,), "float32", "cpu", norm=3.0)):
        graph = GradGraph()
        for name in ("n1", "n2"):
            graph.add_node(name, kind=NodeKind.LEAF, name=name, grad=grad)
            graph.add_edge(name, "n0")
        graph.nodes["n0"].update(kind=NodeKind.OPERATION, op="linear")
        frames.append(Frame("", graph if grad is None else dock_leaves(graph)))
    table = gradient_table(Moment(frames[1], 2, ((1, frames[0]),)))
    assert [cell.text for cell in table[1][1:]] == ["None", "norm 4.243"]


class Attentive(nn.Module):
    """A decoder that joins what it read from a memory to each of its inputs."""

    def __init__(self):
        super().__init__()
        self.cell, self.query, self.head = nn.GRUCell(16, 8), nn.Linear(8, 8), nn.Linear(16, 4)

    def forward(self, memory, steps):
        state, read, found = memory.mean(1), memory.mean(1), []
        for step in range(steps):
            state = self.cell(torch.cat([memory[:, step % 6], read], -1), state)
            weights = (memory @ self.query(state).unsqueeze(-1)).softmax(1)
            read = (weights * memory).sum(1)
            found.append(self.head(torch.cat([state, read], -1)))
        return torch.stack(found)


def test_a_call_in_a_step_beside_the_folded_ones_is_a_whole_one():
    model = Attentive()
    loss = model(torch.randn(2, 6, 8, requires_grad=True), 20).logsumexp(-1).mean()
    seen = fold_repeats(hide_bookkeeping(gradviz.trace(loss, names=model)))
    graph = group_by_module(seen, depth=1)
    cells = [data for data in groups_of(graph) if data.get("name") == "cell"]
    assert cells
    assert all(data.get("module_class") == "GRUCell" for data in cells)


class Cells(nn.Module):
    """A cell that is called for each step."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.RNNCell(3, 4, bias=False)

    def forward(self, x):
        state = torch.zeros(1, 4)
        for step in x:
            state = self.cell(step, state)
        return state


@pytest.mark.parametrize("is_known", [False, True])
def test_steps_of_a_cell_are_its_calls(is_known: bool) -> None:
    model, inputs = Cells(), torch.linspace(-1, 1, 60).view(20, 1, 3)
    with gradviz.record(*[model] * is_known) as run:
        model(inputs).square().mean().backward()
    groups = groups_of(group_by_module(fold_repeats(run.frames[0].graph), depth=1))
    assert sorted(data.get("repeat", 1) for data in groups) == [1, 1, 18]
    assert {data["name"].removeprefix("model.") for data in groups} == {"cell"}
    assert {data["module_class"] for data in groups} == {"RNNCell"}
    assert sum(data["members"] for data in groups) == 20 * 6
