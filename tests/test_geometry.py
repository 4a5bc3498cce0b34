"""The geometry of pictures: nothing lies on anything else, nothing is cut off, each mark has a
legend row."""

import runpy
from pathlib import Path

import pytest
import torch
from cases import CASES
from graphs import graph_of
from scene_faults import box_of, faults_of, overlap
from torch import nn

import gradviz
from gradviz.graph import Cause, EdgeKind, GradGraph, NodeKind
from gradviz.renderers.caption import legend_of
from gradviz.renderers.compose import compose_each
from gradviz.renderers.edges import EdgePlaces, labels_beside
from gradviz.renderers.module_frames import frames_of
from gradviz.renderers.scene import Curve, Polygon, Rectangle, Text
from gradviz.renderers.text import to_text
from gradviz.story import Story
from gradviz.views import hide_bookkeeping

EXAMPLES = sorted(Path(__file__).parent.parent.joinpath("examples").glob("[a-z]*.py"))


class Ensemble(nn.Module):
    def __init__(self, k):
        super().__init__()
        self.members = nn.ModuleList(
            nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1)) for _ in range(k)
        )

    def forward(self, x):
        return torch.stack([member(x) for member in self.members]).mean(0)


class Tables(nn.Module):
    def __init__(self, k):
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(10, 4) for _ in range(k))
        self.top = nn.Linear(4 * k, 1)

    def forward(self, x):
        return self.top(torch.cat([table(x) for table in self.tables], 1))


class Steps(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.GRUCell(4, 8), nn.Linear(8, 2)

    def forward(self, x):
        state, outputs = None, []
        for step in x:
            state = self.cell(step, state)
            outputs.append(self.head(state))
        return torch.stack(outputs)


WIDE = {
    "ensemble": lambda k: (Ensemble(k), torch.randn(4, 8)),
    "tables": lambda k: (Tables(k), torch.zeros(4, dtype=torch.long)),
    "steps": lambda k: (Steps(), torch.randn(k, 2, 4)),
}


@pytest.mark.parametrize("name", [case.name for case in CASES])
def test_cases(name):
    assert faults_of(gradviz.draw(graph_of(name))) == []


@pytest.mark.parametrize("kind", sorted(WIDE))
@pytest.mark.parametrize("k", [3, 8, 26])
def test_wide_programs(kind, k):
    torch.manual_seed(0)
    model, given = WIDE[kind](k)
    assert faults_of(gradviz.draw(model(given).sum(), names=model)) == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_recorded_examples(path, capsys):
    with gradviz.record() as run:
        runpy.run_path(str(path), run_name="__main__")
    capsys.readouterr()
    drawing = gradviz.draw(run)
    assert faults_of(drawing) == []
    marks = {
        shape.dashed and shape.edge
        for scene in compose_each(Story(drawing.shown.frames))
        for group in scene.groups
        if group.kind.startswith("edge")
        for shape in group.shapes
        if isinstance(shape, (Curve, Polygon)) and getattr(shape, "dashed", False)
    }
    legend = legend_of([frame.graph for frame in drawing.shown])

    assert "cut" not in marks or "cut" in legend
    assert "line" not in marks or "untracked-input" in legend


@pytest.mark.parametrize("name", [case.name for case in CASES])
@pytest.mark.parametrize("width", [40, 80, 120])
def test_text_fits_the_terminal_and_keeps_its_tree(name, width):
    story = gradviz.draw(graph_of(name)).shown
    wrapped = to_text(story, width=width)
    assert max(map(len, wrapped.splitlines())) <= width
    assert wrapped.split() != [] and sorted(wrapped.replace("│", " ").split()) == sorted(
        to_text(story).replace("│", " ").split()
    )


class Shared(nn.Module):
    """One layer that is called several times."""

    def __init__(self, k):
        super().__init__()
        self.layer, self.k = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0), k

    def forward(self, x):
        for _ in range(self.k):
            x = self.layer(x)
        return x


WIDE["shared"] = lambda k: (Shared(k), torch.randn(3, 2, 8))


def trained(model, given, steps=2):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradviz.record(model) as run:
        for _ in range(steps):
            optimizer.zero_grad()
            model(given).sum().backward()
            optimizer.step()
    return gradviz.draw(run)


def size_of(svg):
    box = svg[svg.index('viewBox="') + 9 :]
    return tuple(map(float, box[: box.index('"')].split()[2:]))


@pytest.mark.parametrize("kind", sorted(WIDE))
@pytest.mark.parametrize("k", [3, 8])
def test_the_story_of_a_wide_program_fits_a_page(kind, k):
    torch.manual_seed(0)
    width, height = size_of(trained(*WIDE[kind](k)).svg)
    scale = min(1, 1400 / width)
    assert 11 * scale >= 9 and height * scale <= 2000


def test_a_story_that_leaves_frames_out_says_which():
    torch.manual_seed(0)
    drawing = trained(*WIDE["tables"](4), steps=5)
    assert "the same operations again, left out." in drawing.svg
    text = drawing.svg
    assert "None" in text and ".grad" in text


@pytest.mark.parametrize("k", [3, 8])
def test_counts_stand_on_no_box(k):
    torch.manual_seed(0)
    model, given = WIDE["shared"](k)
    drawing = gradviz.draw(model(given).sum(), names=model)
    for scene in compose_each(Story(drawing.shown.frames)):
        groups = list(scene.groups)
        boxes = [
            (r.x, r.y, r.x + r.width, r.y + r.height)
            for group in groups
            if group.kind.startswith("node")
            for r in [next(shape for shape in group.shapes if isinstance(shape, Rectangle))]
        ]
        counts = [
            shape
            for group in groups
            if group.kind.startswith("edge")
            for shape in group.shapes
            if isinstance(shape, Text) and shape.words[0].text.startswith("×")
        ]
        assert all(not overlap(box_of(count), box) for count in counts for box in boxes)


def test_every_color_of_text_has_a_row_in_the_legend():
    w = torch.tensor([1.0, -1.0], requires_grad=True)
    with gradviz.record() as run:
        loss = (w * 0).relu().sum() + w.sqrt().sum()
        loss.backward()
    graphs = [frame.graph for frame in gradviz.draw(run).shown]
    assert {"news", "loud"} <= legend_of(graphs).keys()
    x = torch.tensor([-1.0], requires_grad=True)
    x.relu().sum().backward()
    assert "zeros" in legend_of([gradviz.draw(x.relu().sum()).shown[0].graph])


def test_names_are_relative_only_to_a_frame_that_contains_them():
    model = nn.Sequential(*(nn.Sequential(nn.Linear(2, 2), nn.Tanh()) for _ in range(2)))
    svg = gradviz.draw(model(torch.ones(1, 2)).sum(), names=model).svg
    titles = [f'-module-{path}"' in svg for path in ("0", "1")]
    assert svg.count(">0.bias<") == sum(titles)
    assert svg.count(">1.0.bias<") + svg.count(">0.0.bias<") == 2 - sum(titles)


def test_the_title_of_a_frame_is_relative_only_to_a_frame_that_is_drawn():
    rects = {"a": (10, 40, 90, 70), "b": (10, 100, 90, 130), "c": (10, 170, 90, 200)}
    graph = GradGraph()
    for key, module in (("a", "stem.0"), ("b", "stem.0"), ("c", "stem.1")):
        graph.add_node(key, kind=NodeKind.OPERATION, op="relu", module=module)
    for ends in ("ab", "bc"):
        graph.add_edge(*ends, kind=EdgeKind.GRADIENT)
    frames = frames_of(graph, rects, {}, [])
    assert [frame.title.words[0].text for frame in frames] == ["0", "stem"]
    beside = {**rects, "other": (95, 165, 150, 205)}  # there is no room for the frame of stem
    graph.add_node("other", kind=NodeKind.OPERATION, op="relu")
    frames = frames_of(graph, beside, {}, [])
    assert [frame.title.words[0].text for frame in frames] == ["stem.0"]


def test_the_sign_of_a_cut_is_on_its_line_and_on_no_box():
    graph = GradGraph()
    for key in "ab":
        graph.add_node(key, kind=NodeKind.UNTRACKED)
    graph.add_edge("a", "b", 0, kind=EdgeKind.CUT, cause=Cause.NOT_RECORDED)
    route = ((50.0, 0.0), (50.0, 40.0), (50.0, 80.0), (50.0, 120.0))
    places = EdgePlaces({}, {("a", "b", 0): route}, {})
    free = labels_beside(graph, [], places, 100)
    near = labels_beside(graph, [(0.0, 50.0, 45.0, 70.0)], places, 100)
    assert free.signs == {("a", "b", 0): 0.5}
    assert near.signs["a", "b", 0] not in (0.5, 0, 1)


def test_arrows_from_a_box_of_leaves_count_every_use():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
    x = torch.ones(1, 2, 8)
    for _ in range(12):
        x = layer(x)
    drawing = gradviz.draw(x.sum(), names=nn.ModuleDict({"layer": layer}))
    graph = drawing._drawn[0][0].graph
    arrows = [
        edge.get("times", 1)
        for source, _, edge in graph.edges(data=True)
        if str(graph.nodes[source].get("name")).startswith("parameters of")
    ]
    assert sum(arrows) == 12 * 12  # parameters and steps


def frames_in(drawing) -> dict[str, list]:
    """The shapes of the frames of a picture, by key."""
    groups = drawing._drawn[1].groups
    return {group.key: list(group.shapes) for group in groups if group.kind == "module"}


def test_a_frame_is_split_where_its_module_is_split_into_columns():
    graph = GradGraph()
    for key, module in (("a", "0"), ("b", "0"), ("c", "0"), ("d", "")):
        graph.add_node(key, kind=NodeKind.OPERATION, op="relu", module=module)
    for ends in ("ab", "bc", "cd"):
        graph.add_edge(*ends, kind=EdgeKind.GRADIENT)
    rects = {"a": (0, 60, 60, 90), "b": (200, 60, 260, 90), "c": (400, 60, 460, 90)}
    rects["d"] = (400, 120, 460, 150)
    parts = frames_of(graph, rects, {}, [], {"a": 0, "b": 1, "c": 2, "d": 2})
    assert [part.title.words[-1].text for part in parts] == ["0", "continued", "continued"]
    assert [part.group().key for part in parts] == ["module-0", "module-0 2", "module-0 3"]
    first, middle, last = ([s for s in p.group().shapes if isinstance(s, Curve)] for p in parts)
    assert {first[0].points[0][1], first[0].points[-1][1]} == {parts[0].box[3]}  # open below
    assert len(middle) == 2  # only its sides
    assert {last[0].points[0][1], last[0].points[-1][1]} == {parts[2].box[1]}  # open above


class Long(nn.Module):
    """A chain that is too long for one column."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)

    def forward(self, x):
        x = self.first(x)
        for _ in range(4):
            x = x.tanh().cos().sin().exp().sigmoid()
        return self.last(x)


def test_a_module_in_two_columns_has_a_frame_in_both():
    model = nn.Sequential(nn.Linear(8, 8), Long())
    drawing = gradviz.draw(model(torch.ones(2, 8)).sum(), names=model, views=[hide_bookkeeping])
    assert {"module-1", "module-1 2"} <= frames_in(drawing).keys()
    assert faults_of(drawing) == []


class WithState(nn.Module):
    """Makes a tensor itself, and cuts one of its own results."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        state = torch.zeros(x.shape[0], 4)
        with torch.no_grad():
            keep = (self.first(x) > 0).float()
        return self.second(torch.cat([self.first(x) * keep, state])).tanh()


def test_a_frame_contains_the_untracked_tensors_that_its_module_made():
    model = nn.Sequential(nn.Linear(4, 4), WithState())
    x = torch.ones(3, 4)
    with gradviz.record(model) as run:
        loss = model(x).sum()
    drawing = gradviz.draw(run)
    nodes = drawing.shown[0].graph.nodes
    modules = {data["name"]: data.get("module") for _, data in nodes(data=True) if "name" in data}
    assert (modules["state"], modules["keep"], modules["x"]) == ("1", "1", None)
    assert "module-1" in frames_in(drawing)
    assert loss.requires_grad


def test_several_calls_of_one_module_get_no_frame_of_one():
    torch.manual_seed(0)
    model, given = WIDE["steps"](8)
    assert frames_in(gradviz.draw(model(given).sum(), names=model)) == {}


def test_what_each_call_of_a_module_ran_once_gets_no_frame():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    with gradviz.record(model) as run:
        loss = model(torch.ones(1, 2)).sum() + model(torch.zeros(1, 2)).sum()
    drawing = gradviz.draw(run, views=[hide_bookkeeping])
    assert not frames_in(drawing).keys() & {"module-0", "module-1"}
    assert loss.requires_grad


def test_a_story_with_a_frozen_member_is_readable_at_half_the_width():
    torch.manual_seed(0)
    model = Ensemble(26)
    model.members[13].requires_grad_(False)
    width, _ = size_of(trained(model, torch.randn(4, 8)).svg)
    assert width <= 1100


def test_frames_below_each_other_have_equal_widths():
    torch.manual_seed(0)
    scene = trained(nn.Linear(2, 1), torch.ones(3, 2))._drawn[1]
    frames = [group.shapes[0].width for group in scene.groups if group.kind == "frame"]
    assert len(frames) == 2
    assert len(set(frames)) == 1
    assert scene.width < 700
