"""Text has 7 px where a picture is shown 700 px wide; what is not alike keeps its name."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from scene_faults import faults
from torch import nn

import gradviz
from gradviz.graph import Cause, EdgeKind, GradGraph, NodeKind, TensorSummary
from gradviz.renderers.cards import card_of, label_within
from gradviz.renderers.labels import Label, Role, TextSpan, labels_of
from gradviz.renderers.scene import NARROW, PAGE_HEIGHT
from gradviz.views import fold_siblings, group_by_module, hide_bookkeeping
from gradviz.views.siblings import fold_outside_of_modules

FILE = Path(__file__).parent.parent / "benchmarks" / "wide_models.py"
# Its folder is not to be on the path: it has names that programs have, too.
spec = importlib.util.spec_from_file_location("wide_models", FILE)
wide_models = importlib.util.module_from_spec(spec)
sys.modules["wide_models"] = wide_models
spec.loader.exec_module(wide_models)


def drawn(name, steps=0, change=None):
    """The picture of a wide program, and its text by frame."""
    torch.manual_seed(0)
    program = wide_models.PROGRAMS[name]()
    if change:
        change(program.names)
    if not steps:
        drawing = gradviz.draw(program.loss(), names=program.names)
    else:
        with gradviz.record(program.names) as run:
            for _ in range(steps):
                program.step()
        drawing = gradviz.draw(run)
    story, scene = drawing._drawn
    assert scene.width <= NARROW
    assert scene.height <= PAGE_HEIGHT
    assert not faults(drawing._drawn[1])
    return [[label.plain() for label in labels_of(frame.graph).values()] for frame in story]


@pytest.mark.parametrize("name", ["seq2seq", "maml"])
def test_a_picture_is_folded_until_half_a_page_holds_it(name: str) -> None:
    (labels,) = drawn(name)
    assert 4 < len(labels) < 15


def test_many_parameters_with_the_values_of_others_are_few_boxes() -> None:
    graph = GradGraph()
    for n in range(60):
        name = f"{'critic' if n < 30 else 'target'}.{n % 30 // 2}.{'weight' if n % 2 else 'bias'}"
        grad = None if n < 30 else TensorSummary((4,), "float32", "cpu", norm=1.0)
        graph.add_node(f"n{n}", kind=NodeKind.PARAMETER, name=name, grad=grad, root=n)
    for n in range(30):
        cut = {"cause": Cause.VALUES_COPIED, "source": "train.py:9", "word": "add_"}
        graph.add_edge(f"n{n}", f"n{n + 30}", 0, kind=EdgeKind.CUT, **cut)
    drawing = gradviz.draw(graph)
    story, scene = drawing._drawn
    assert scene.width <= NARROW
    assert scene.height <= PAGE_HEIGHT
    text = [label.plain() for label in labels_of(story[-1].graph).values()]
    assert len(text) == 4
    assert any("critic.0…14.weight  ×15" in label for label in text)
    assert any("target.0…14.weight  ×15" in label for label in text)


def test_nodes_are_made_narrower_before_they_are_folded() -> None:
    labels = drawn("unet", steps=1)[1]
    assert len(labels) > 20
    assert any(label.startswith("merge.0  Sequential") for label in labels)


def without_gradient(model):
    old = model.heads["job"]

    class Cut(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.bias = nn.Parameter(old.weight.data), nn.Parameter(old.bias.data)

        def forward(self, x):
            return nn.functional.linear(x, self.weight.detach(), self.bias)

    model.heads["job"] = Cut()


def with_nan(model):
    model.heads["car"].weight.register_hook(lambda grad: grad * float("nan"))


def test_leaves_that_are_not_alike_keep_their_names() -> None:
    def change(model: nn.Module) -> None:
        without_gradient(model)
        with_nan(model)

    labels = drawn("multi_task", steps=1, change=change)[1]
    assert len(labels) < 20
    assert any(each.startswith("heads.job.weight") and ".grad  None" in each for each in labels)
    assert any(each.startswith("heads.car.weight") and "96 NaN" in each for each in labels)


def test_modules_with_other_names_are_one_branch_only_on_request() -> None:
    program = wide_models.multi_task()
    with gradviz.record(program.names) as run:
        loss = program.loss()
    graph = gradviz.draw(run)._painted[0]
    del loss
    graph = fold_outside_of_modules(hide_bookkeeping(group_by_module(graph, depth=2)))
    for names in (True, False):
        seen = fold_siblings(graph, shapes=False, names=names)
        titles = [str(data.get("name")) for _, data in seen.nodes(data=True)]
        assert any(title.startswith("heads.") and "more" in title for title in titles) is not names


def test_parts_that_nothing_joins_are_placed_in_rows() -> None:
    pairs = [torch.ones(3, requires_grad=True) for _ in range(14)]
    named = {f"a_long_name_of_a_leaf_{n}": leaf for n, leaf in enumerate(pairs)}
    results = [leaf.exp() * n for n, leaf in enumerate(pairs)]
    drawing = gradviz.draw(results, names=named, views=())
    assert drawing._drawn[1].width <= NARROW
    assert not faults(drawing._drawn[1])


def test_wrapped_text_keeps_a_heading_with_its_values() -> None:
    values = TextSpan("norm 0.5, mean -1.5e-07, -0.04505 to 0.0548", Role.VALUE)
    head = (TextSpan("decoder.block.0", Role.NAME), TextSpan("f32[32128,32]", Role.FACT))
    label = label_within(Label(head, ((TextSpan(".grad", Role.WORD), values),)), 200)
    assert [[span.text for span in row] for row in (label.head, *label.rows)] == [
        ["decoder.block.0", "f32[32128,32]"],
        [".grad", "norm 0.5, mean -1.5e-07,"],
        ["-0.04505 to 0.0548"],
    ]
    assert card_of(label, {"kind": NodeKind.LEAF}).width <= 200


def test_a_frame_counts_the_parameters_of_boxes_that_are_drawn_again() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
    x = torch.randn(2, 3, 8)
    for _ in range(3):
        x = layer(x)
    drawing = gradviz.draw(x.sum(), names=nn.ModuleDict({"layer": layer}))
    assert "600 parameters" in drawing.svg


def test_wrapped_text_keeps_a_number_of_values_with_its_word() -> None:
    values = TextSpan("-0.3368 -0.006355 -0.2662 -0.2727 … 8 values", Role.VALUE)
    label = label_within(Label((TextSpan("w", Role.NAME),), ((values,),)), 150)
    assert [span.text for row in label.rows for span in row][-1] == "… 8 values"
