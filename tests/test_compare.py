"""Comparing graphs: what is found, and that nothing else is claimed."""

import random

import pytest
import torch
from graphs import graphs
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import gradviz
from gradviz.comparison import Change
from gradviz.comparison.matching import align
from gradviz.errors import SubjectError, UsageError
from gradviz.graph import Buffers, Cause, EdgeKind, GradGraph, NodeKind
from gradviz.recording.api import record
from gradviz.story import Frame, Story


def x_and_w():
    return torch.ones(3, requires_grad=True), torch.full((3,), 2.0, requires_grad=True)


def product(change=None, **more):
    """The graph of ``(x * w).sum()``, or of what ``change`` makes of x and w."""
    x, w = x_and_w()
    y = change(x, w) if change else x * w
    return gradviz.trace(y.sum(), names={"x": x, "w": w, **more})


PAIRS = {
    "one op more": (lambda x, w: (x * w).relu(), ["1 added", "+ relu  after mul"]),
    "another op at the end": (
        lambda x, w: x + w,
        ["1 added, 1 removed", "+ add  after x, w", "- mul  after x, w"],
    ),
    "inputs the other way round": (
        lambda x, w: w * x,
        ["1 changed", "~ mul  after w, x  input 0  x → w", "~ mul  after w, x  input 1  w → x"],
    ),
    "frozen": (
        lambda x, w: x * w.detach(),
        [
            "1 added, 1 removed, 1 changed",
            "+ untracked  [3]",
            "- w  leaf [3]",
            "~ mul  after x, untracked  input 1  w → untracked, no gradient",
        ],
    ),
    "requires_grad off": (
        lambda x, w: x * w.requires_grad_(False),
        [
            "2 changed",
            "~ w  requires_grad  True → False",
            "~ mul  after x, w  input 1  w → w, no gradient",
        ],
    ),
    "another dtype": (
        lambda x, w: x * w.double(),
        ["1 added, 3 changed", "+ to  after w", "~ mul  after x, to  dtype  float32 → float64"],
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_what_differs_between_two_programs(name):
    change, said = PAIRS[name]
    comparison = gradviz.compare(product(), product(change))
    lines = str(comparison).splitlines()
    assert [line[: len(start)] for line, start in zip(lines, said, strict=False)] == said
    assert not comparison.same


def test_the_same_program_twice_is_no_difference():
    comparison = gradviz.compare(product(), product())
    assert comparison.same
    assert str(comparison) == "no difference"
    assert (comparison.added, comparison.removed, comparison.changed) == ((), (), ())


def test_a_backward_pass_sets_gradients_and_frees_buffers():
    x, w = x_and_w()
    loss = (x * w).sum()
    before = gradviz.trace(loss)
    loss.backward()
    after = gradviz.trace(loss)
    comparison = gradviz.compare(before, after)
    assert str(comparison).splitlines() == [
        "3 changed",
        "~ x  .grad  None → 2 2 2",
        "~ w  .grad  None → 1 1 1",
        "~ mul  after x, w  saved tensors  held → freed",
    ]
    x_key = before.find("x")
    assert comparison.changed[0] == Change(x_key, after.find("x"), "grad", "None", "2 2 2")


def test_what_is_out_of_sight_once_the_buffers_are_freed_is_no_difference():
    x, c = torch.ones(3, requires_grad=True), torch.ones(3)
    loss = (x * 2 * c).sum()
    before = gradviz.trace(loss)
    loss.backward()
    comparison = gradviz.compare(before, gradviz.trace(loss))
    assert (comparison.added, comparison.removed) == ((), ())
    assert {change.attribute for change in comparison.changed} == {"grad", "buffers"}


def test_recorded_runs_show_what_happened_outside_the_graph():
    def run(work):
        x, _ = x_and_w()
        with record() as recording:
            with torch.no_grad():
                y = work(x)
            loss = (x * y).sum()
            loss.backward()
        return recording.frames[0]

    assert gradviz.compare(run(torch.exp), run(torch.exp)).same
    comparison = gradviz.compare(run(torch.exp), run(torch.sin))
    assert [(c.attribute, c.old, c.new) for c in comparison.changed] == [("op", "exp", "sin")]


def test_numbers_count_only_when_asked_for():
    x, w = x_and_w()
    loss = (x * w).sum()
    loss.backward(retain_graph=True)
    before = gradviz.trace(loss)
    loss.backward(retain_graph=True)
    with torch.no_grad():
        w.add_(1)
    after = gradviz.trace(loss)
    assert gradviz.compare(before, after).same
    assert {(c.attribute, c.new) for c in gradviz.compare(before, after, values=True).changed} == {
        ("grad", "4 4 4"),
        ("grad", "2 2 2"),
        ("value", "3 3 3"),
        ("version", "1"),
    }


def test_nan_is_what_it_was():
    x = torch.tensor([float("nan")], requires_grad=True)
    graphs_of_nan = [gradviz.trace(x * 2, names={"x": x}) for _ in range(2)]
    assert gradviz.compare(*graphs_of_nan, values=True).same


def test_every_layer_changed_is_told_from_its_neighbours():
    def model(activation):
        layers = (part for _ in range(4) for part in (nn.Linear(2, 2), activation()))
        return nn.Sequential(*layers)

    old, new = model(nn.ReLU), model(nn.GELU)
    batch = torch.ones(1, 2)
    before = gradviz.trace(old(batch).sum(), names=old)
    comparison = gradviz.compare(before, gradviz.trace(new(batch).sum(), names=new))
    assert str(comparison).splitlines()[0] == "4 added, 4 removed"


def test_parameters_without_names_are_told_by_their_place():
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(6)))
    more = nn.Sequential(*list(model)[:3], nn.Tanh(), *list(model)[3:])
    batch = torch.ones(1, 2)
    comparison = gradviz.compare(
        gradviz.trace(model(batch).sum(), names={}), gradviz.trace(more(batch).sum(), names={})
    )
    assert str(comparison) == "1 added\n+ tanh  after addmm"


def cut_graph(cause, kind=EdgeKind.CUT):
    graph = GradGraph()
    graph.add_node("n0", kind=NodeKind.LEAF, name="x", grad=None)
    graph.add_node("n1", kind=NodeKind.OPERATION, op="mul", source="train.py:3")
    graph.add_edge("n0", "n1", 0, kind=kind, input=0, output=0, cause=cause)
    return graph


def test_the_cause_of_a_cut_is_compared_when_both_are_known():
    detach, data = cut_graph(Cause.DETACH), cut_graph(Cause.DATA)
    assert str(gradviz.compare(detach, data)).splitlines()[1] == (
        "~ mul  after x  input 0  x, no gradient (detach) → x, no gradient (data)  train.py:3"
    )
    assert gradviz.compare(detach, cut_graph(Cause.NOT_RECORDED)).same
    assert gradviz.compare(detach, cut_graph(Cause.DETACH, EdgeKind.GRADIENT)).changed[0].new == "x"


def test_what_can_be_compared():
    x, w = x_and_w()
    graph = gradviz.trace(x * w)
    one = Story((Frame("", graph),))
    for subject in (graph, one, one[0], gradviz.draw(graph), x * w):
        assert gradviz.compare(graph, subject).same
        assert gradviz.compare(subject, graph).same
    with pytest.raises(UsageError, match="story of 2 frames"):
        gradviz.compare(graph, Story((one[0], one[0])))
    with pytest.raises(SubjectError):
        gradviz.compare(graph, None)


def test_bookkeeping_and_repeated_leaves_make_no_difference():
    graph = product(lambda x, w: (x * w) * w)
    shown = gradviz.views.clone_shared_leaves(gradviz.views.hide_bookkeeping(graph), tangle=0)
    assert any("clone_of" in data for _, data in shown.nodes(data=True))
    assert gradviz.compare(graph, shown).same


def test_the_story_marks_what_differs_and_shares_keys():
    before, after = product(), product(lambda x, w: (x * w).relu())
    copies = before.copy(), after.copy()
    story = gradviz.compare(before, after).story
    assert [frame.title for frame in story] == ["before", "after"]
    old, new = (frame.graph for frame in story)
    assert {key: data["changes"] for key, data in new.nodes(data=True) if "changes" in data} == {
        key: {"node": "new"} for key, data in new.nodes(data=True) if data.get("op") == "relu"
    }
    assert old.find("x") == new.find("x") == before.find("x")
    assert set(new) - set(old) == {key for key in new if new.nodes[key].get("op") == "relu"}
    for graph, copy in zip((before, after), copies, strict=True):
        assert dict(graph.nodes(data=True)) == dict(copy.nodes(data=True))
    assert "relu" in gradviz.draw(story).svg


def shuffled(graph, seed):
    """The same graph under other keys, its nodes and edges in another order."""
    generator = random.Random(seed)
    nodes, edges = list(graph.nodes(data=True)), list(graph.edges(keys=True, data=True))
    generator.shuffle(nodes)
    generator.shuffle(edges)
    keys = {key: f"k{number}" for number, (key, _) in enumerate(nodes)}
    copy = GradGraph()
    copy.add_nodes_from((keys[key], dict(data)) for key, data in nodes)
    copy.add_edges_from((keys[s], keys[t], number, dict(data)) for s, t, number, data in edges)
    return copy


@given(graphs(), st.integers())
def test_a_shuffled_copy_is_no_difference(graph, seed):
    assert str(gradviz.compare(graph, shuffled(graph, seed), values=True)) == "no difference"


@given(graphs(), graphs())
def test_the_other_way_round_what_was_added_is_removed(one, other):
    there, back = gradviz.compare(one, other), gradviz.compare(other, one)
    assert set(there.added) == set(back.removed)
    assert set(there.removed) == set(back.added)
    swapped = {(c.after_key, c.before_key, c.attribute, c.new, c.old) for c in back.changed}
    assert {tuple(vars(change).values()) for change in there.changed} == swapped


def operations(graph):
    return [key for key, data in graph.nodes(data=True) if data["kind"] is NodeKind.OPERATION]


@given(graphs(), st.data())
def test_one_operation_put_in_is_all_that_is_found(graph, data):
    edited = graph.copy()
    source, target, number = data.draw(
        st.sampled_from([e for e in graph.edges if graph.nodes[e[1]]["kind"] != "accumulate"])
    )
    edge = edited.edges[source, target, number]
    edited.remove_edge(source, target, number)
    edited.add_node("put_in", kind=NodeKind.OPERATION, op="put_in")
    edited.add_edge(source, "put_in", 0, **{**edge, "input": 0})
    edited.add_edge("put_in", target, number, **{**edge, "output": 0})
    there = gradviz.compare(graph, edited)
    assert (there.added, there.removed, there.changed) == (("put_in",), (), ())
    back = gradviz.compare(edited, graph)
    assert (back.added, back.removed, back.changed) == ((), ("put_in",), ())


EDITS = {"buffers": Buffers.HELD, "shape": (7, 7), "name": "a new name", "opaque": "torch.compile"}


@given(graphs(), st.sampled_from(sorted(EDITS)), st.data())
def test_one_attribute_changed_is_all_that_is_found(graph, attribute, data):
    keys = operations(graph)
    if not keys:
        return
    edited = graph.copy()
    key = data.draw(st.sampled_from(keys))
    graph.nodes[key]["buffers"] = Buffers.FREED
    edited.nodes[key].update({"buffers": Buffers.FREED, attribute: EDITS[attribute]})
    comparison = gradviz.compare(graph, edited)
    assert (comparison.added, comparison.removed) == ((), ())
    assert [change.attribute for change in comparison.changed] == [attribute]


@given(st.lists(st.sampled_from("ab")), st.lists(st.sampled_from("abc")))
def test_alignment_is_the_longest_common_subsequence(one, other):
    pairs = list(align(one, other))[::-1]
    assert all(one[i] == other[j] for i, j in pairs)
    assert pairs == sorted(set(pairs))
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)
    longest = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            best = max(longest[i][j + 1], longest[i + 1][j])
            longest[i + 1][j + 1] = longest[i][j] + 1 if a == b else best
    assert len(pairs) == longest[-1][-1]


def test_sequences_that_differ_in_much_are_given_up():
    assert list(align("a" * 10 + "x", "b" * 10 + "x", most=5)) == []


def test_ten_thousand_operations_with_three_more_in_the_middle():
    def chain(*extra):
        graph = GradGraph()
        graph.add_node("x", kind=NodeKind.LEAF, name="x", grad=None)
        last = "x"
        for number in range(10_000):
            for op in ("exp", "mul") if number in extra else ("mul",):
                key = f"{op}{number}"
                graph.add_node(key, kind=NodeKind.OPERATION, op=op)
                graph.add_edge(last, key, 0, kind=EdgeKind.GRADIENT, input=0, output=0)
                last = key
        return graph

    comparison = gradviz.compare(chain(), chain(3_000, 6_000, 6_001))
    assert sorted(comparison.added) == ["exp3000", "exp6000", "exp6001"]
    assert (comparison.removed, comparison.changed) == ((), ())
