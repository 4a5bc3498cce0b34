"""The geometry of pictures: nothing lies on anything else, nothing is cut off, each mark has a
legend row."""

import itertools
import runpy
from pathlib import Path

import pytest
import torch
from cases import CASES
from graphs import graph_of
from torch import nn

import gradviz
from gradviz.renderers.caption import legend_of
from gradviz.renderers.compose import compose_each
from gradviz.renderers.scene import Curve, Polygon, Rectangle, Scene, Text
from gradviz.renderers.text import to_text
from gradviz.story import Story

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


def points_of(curve: Curve, steps: int = 12):
    """Points along a chain of cubic Bezier segments."""
    points = curve.points
    for start in range(0, len(points) - 1, 3):
        a, b, c, d = points[start : start + 4]
        for n in range(steps + 1):
            t = n / steps
            weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
            yield tuple(
                sum(w * p[axis] for w, p in zip(weights, (a, b, c, d), strict=True))
                for axis in (0, 1)
            )


def width_of(text: Text) -> float:
    return sum(words.width for words in text.words) + text.gap * (len(text.words) - 1)


def box_of(text: Text):
    size = max(words.size for words in text.words)
    return text.x, text.y - 0.72 * size, text.x + width_of(text), text.y + 0.2 * size


def overlap(a, b, by=1.0):
    return min(a[2], b[2]) - max(a[0], b[0]) > by and min(a[3], b[3]) - max(a[1], b[1]) > by


def faults(scene: Scene):
    """What a reader would stumble over, one line each."""
    groups = list(scene.groups)
    nodes = {
        group.key: next(shape for shape in group.shapes if isinstance(shape, Rectangle))
        for group in groups
        if group.kind.startswith("node")
    }
    boxes = {key: (r.x, r.y, r.x + r.width, r.y + r.height) for key, r in nodes.items()}
    found = []
    texts = []
    for group in groups:
        for shape in group.shapes:
            if isinstance(shape, Text) and shape.words:
                texts.append((group, shape))
        if not group.kind.startswith("edge"):
            continue
        ends = set(group.key.rsplit("-", 2)[:2])
        for curve in (shape for shape in group.shapes if isinstance(shape, Curve)):
            for x, y in points_of(curve):
                for key, (left, top, right, bottom) in boxes.items():
                    inside = left + 2 < x < right - 2 and top + 2 < y < bottom - 2
                    if inside and key not in ends:
                        found.append(f"edge {group.key} passes through {key}")
    for group, text in texts:
        left, top, right, bottom = box_of(text)
        if left < 0 or top < 0 or right > scene.width + 0.5 or bottom > scene.height + 0.5:
            found.append(f"text of {group.key} is off the page")
        if group.key in boxes:
            card = boxes[group.key]
            if left < card[0] or right > card[2] or top < card[1] or bottom > card[3]:
                found.append(f"text of {group.key} leaves its box")
    for (one, a), (other, b) in itertools.combinations(texts, 2):
        if overlap(box_of(a), box_of(b)):
            found.append(f"text of {one.key} and of {other.key} overlap")
    for (one, a), (two, b) in itertools.combinations(boxes.items(), 2):
        if overlap(a, b):
            found.append(f"{one} and {two} overlap")
    return sorted(set(found))


def faults_of(drawing):
    shown = drawing.shown
    return [fault for scene in compose_each(Story(shown.frames)) for fault in faults(scene)]


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
