"""What is marked in a frame against the frame before it."""

import copy

import pytest
import torch
from graphs import graphs
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import gradviz
from gradviz.comparison import mark_changes
from gradviz.graph import Buffers, GradGraph, NodeKind, TensorSummary
from gradviz.renderers.caption import legend_of
from gradviz.renderers.labels import labels_of
from gradviz.serialize import to_json
from gradviz.story import Frame, Story


def story_of(*graphs_in_order):
    return Story(
        tuple(Frame(f"{n}", graph) for n, graph in enumerate(graphs_in_order)), "t", ("n",)
    )


def changes(story):
    """Per frame, what is marked: by name or word of the node."""
    return [
        {
            data.get("name", data.get("op")): data["changes"]
            for _, data in frame.graph.nodes(data=True)
            if "changes" in data
        }
        for frame in mark_changes(story)
    ]


def summary(*values, **more):
    return TensorSummary((len(values),), "float32", "cpu", values=values or None, **more)


def leaf(grad, **more):
    graph = GradGraph()
    graph.add_node("n0", kind=NodeKind.LEAF, name="w", grad=grad, **more)
    return graph


BIG = {"shape": (100,), "dtype": "float32", "device": "cpu"}
GRADIENTS = [
    (None, summary(3.0, 3.0), {}, "new"),
    (None, summary(0.0, 0.0), {}, "new"),
    (summary(3.0, 3.0), None, {}, "cleared"),
    (summary(3.0, 3.0), summary(0.0, 0.0), {}, "zeroed"),
    (summary(3.0, 3.0), summary(6.0, 6.0), {}, "+3"),
    (summary(3.0, 3.0), summary(6.0, 6.0), {"accumulations": 2}, "+3, pass 2"),
    (summary(3.0, 3.0), summary(3.0, 3.0), {"accumulations": 2}, "+0, pass 2"),
    (summary(0.1, 0.1), summary(0.3, 0.3), {}, "+0.2"),
    (summary(1.0, 2.0), summary(0.5, 2.5), {}, "-0.5 +0.5"),
    (summary(*[0.0] * 4), summary(0.0, 0.0, 3.0, 4.0), {}, "norm 0 → 5"),
    (TensorSummary(**BIG, norm=0.5), TensorSummary(**BIG, norm=1.0), {}, "norm 0.5 → 1"),
    (TensorSummary(**BIG, norm=0.5), TensorSummary(**BIG, norm=0.0), {}, "zeroed"),
    (TensorSummary(**BIG, norm=0.5), TensorSummary(**BIG, norm=0.5, mean=1.0), {}, "changed"),
    (summary(1.0), summary(float("nan"), nan=1), {}, "1 NaN"),
]


@pytest.mark.parametrize(("old", "new", "more", "said"), GRADIENTS)
def test_a_gradient_in_few_words(old, new, more, said):
    assert changes(story_of(leaf(old), leaf(new, **more))) == [{}, {"w": {"grad": said}}]


def test_a_gradient_that_is_as_it_was_is_no_news():
    nan = [summary(float("nan"), nan=1) for _ in range(2)]
    for old, new in ((None, None), (summary(1.0), summary(1.0)), nan):
        assert changes(story_of(leaf(old), leaf(new))) == [{}, {}]


def test_a_backward_pass_and_zeroing():
    w = torch.ones(2, requires_grad=True)
    loss = (w * w).sum()
    frames = [gradviz.trace(loss)]
    loss.backward()
    frames.append(gradviz.trace(loss))
    w.grad.zero_()
    frames.append(gradviz.trace(loss))
    w.grad = None
    frames.append(gradviz.trace(loss))
    assert changes(story_of(*frames)) == [
        {},
        {"w": {"grad": "new"}, "mul": {"buffers": "freed"}},
        {"w": {"grad": "zeroed"}},
        {"w": {"grad": "cleared"}},
    ]


def test_the_next_round_of_a_loop_has_other_operations_and_no_news_of_them():
    w = torch.ones(2, requires_grad=True)
    frames = []
    for _ in range(2):
        loss = (w * w).sum()
        loss.backward()
        frames.append(gradviz.trace(loss))
    assert changes(story_of(*frames)) == [{}, {"w": {"grad": "+2"}}]


def recorded(*words, **state):
    """A chain over x, with keys as a recording gives them: the same for the same node."""
    graph = GradGraph()
    graph.add_node("x", kind=NodeKind.LEAF, name="x", grad=None)
    last = "x"
    for number, word in enumerate(words):
        graph.add_node(word, kind=NodeKind.OPERATION, op=word, sequence_nr=number, **state)
        graph.add_edge(last, word, 0)
        last = word
    return graph


def test_an_operation_is_new_where_most_of_the_graph_is_not():
    before, after = recorded("mul", "add"), recorded("mul", "add", "sum")
    assert changes(story_of(before, after)) == [{}, {"sum": {"node": "new"}}]
    assert changes(story_of(recorded("mul"), recorded("mul", "add", "sum"))) == [{}, {}]


def test_values_versions_and_tracking():
    old = {"value": summary(1.0), "version": 0}
    new = {"value": summary(2.0), "version": 1}
    assert changes(story_of(leaf(None, **old), leaf(None, **new)))[1] == {
        "w": {"value": "changed", "version": "0 → 1"}
    }
    before, after = recorded("mul", buffers=Buffers.HELD), recorded("mul", buffers=Buffers.FREED)
    after.nodes["x"]["kind"] = NodeKind.UNTRACKED
    assert changes(story_of(before, after))[1] == {
        "x": {"requires_grad": "True → False"},
        "mul": {"buffers": "freed"},
    }


@given(st.lists(graphs(most_nodes=6), max_size=3))
def test_marking_changes_nothing_else_and_marks_once(found):
    story = story_of(*found)
    kept = copy.deepcopy([dict(graph.nodes(data=True)) for graph in found])
    marked = mark_changes(story)
    assert kept == [dict(graph.nodes(data=True)) for graph in found]
    assert (marked.title, marked.notes, len(marked)) == ("t", ("n",), len(story))
    assert to_json(mark_changes(marked)) == to_json(marked)
    for frame, original in zip(marked, story, strict=True):
        for _, data in frame.graph.nodes(data=True):
            data.pop("changes", None)
        assert dict(frame.graph.nodes(data=True)) == dict(original.graph.nodes(data=True))
        assert list(frame.graph.edges) == list(original.graph.edges)


def label_of(graph, name):
    """The label of the node with that name, in plain text."""
    keys = (key for key, data in graph.nodes(data=True) if data.get("name") == name)
    return labels_of(graph)[next(keys)].plain()


def changed_between(change):
    """A recorded result whose leaf, which no operation saved, was changed before the backward."""
    with gradviz.record() as run:
        w = torch.tensor([1.0, 2.0], requires_grad=True)
        loss = (w * 3).sum()
        change(w)
        loss.backward()
    return run, loss


@torch.no_grad()
def add(w):
    w.add_(1)


def data_add(w):
    w.data.add_(1)


def step(w):
    w.grad = torch.ones(2)
    torch.optim.SGD([w], 1.0).step()


@pytest.mark.parametrize("change", [add, data_add, step])
def test_a_leaf_changed_after_the_forward_is_marked_before_and_after_backward(change):
    run, _ = changed_between(change)
    *_, before, after = gradviz.draw(run).shown
    for frame in (before, after):
        assert "changed since" in label_of(frame.graph, "w"), frame.title


def test_a_leaf_changed_before_the_forward_is_not_marked():
    with gradviz.record() as run:
        w = torch.tensor([1.0, 2.0], requires_grad=True)
        add(w)
        loss = (w * 3).sum()
        loss.backward()
    label = label_of(gradviz.draw(run).shown[0].graph, "w")
    assert "=  2 3" in label and "changed since" not in label


def test_rows_that_the_lookup_itself_renormalizes_are_not_marked():
    table = nn.Embedding(3, 2, max_norm=0.1)
    with gradviz.record(table) as run:
        table(torch.tensor([0, 2])).sum().backward()
    assert "changed since" not in str(gradviz.draw(run))


def test_without_a_recording_a_changed_leaf_has_its_current_value():
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    loss = (w * 3).sum()
    add(w)
    graph = gradviz.draw(loss).shown[0].graph
    assert "now  2 3" in label_of(graph, "w")
    assert legend_of([graph])["now"].startswith("now: current value")


def test_a_box_says_that_a_leaf_in_it_has_changed_since():
    net = nn.Linear(3, 2)
    with gradviz.record(net) as run:
        loss = net(torch.ones(1, 3)).sum()
        add(net.bias)
        loss.backward()
    graph = gradviz.draw(run, depth=1).shown[0].graph
    assert "changed since" in gradviz.draw(run, depth=1).text
    assert "since" in legend_of([graph]) and "news" not in legend_of([graph])
    every = [frame.graph for frame in gradviz.draw(run, depth=1).shown]
    assert "the frame before, or since the operations ran" in legend_of(every)["news"]


def test_a_leaf_that_was_frozen_after_the_forward_says_so():
    w = torch.tensor([1.0], requires_grad=True)
    loss = (w * 2).sum()
    w.requires_grad_(False)
    assert "leaf  requires_grad=False" in label_of(gradviz.draw(loss).shown[0].graph, "w")
