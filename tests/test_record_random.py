"""Random programs whose cuts are known by making: every cause is right, and none is invented."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

import networkx as nx
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recording import strict

import gradviz
from gradviz import views
from gradviz.graph import Cause, EdgeKind, GradGraph, NodeKind

__all__ = ["strict"]


@dataclass
class Made:
    """A variable of a random program, and what must be said of it."""

    tensor: torch.Tensor
    cause: Cause | None  # None for a tensor with a gradient


@dataclass
class Program:
    """Runs a random program while noting down every cut that it makes."""

    variables: list[Made] = field(default_factory=list)
    expected: list[tuple[str, Cause]] = field(default_factory=list)

    def use(self, word: str, inputs: list[Made]) -> None:
        self.expected += [(word, each.cause) for each in inputs if each.cause is not None]


def run_step(program: Program, step: tuple[str, int, int]) -> None:
    """One step; the inputs are chosen among the variables that there are."""
    what, first, second = step
    pool = program.variables
    a, b = pool[first % len(pool)], pool[second % len(pool)]
    if what == "leaf":
        pool.append(Made(torch.ones(2, requires_grad=True), None))
    elif what == "constant":
        pool.append(Made(torch.full((2,), 0.5), Cause.CONSTANT))
    elif what == "frozen":
        w = torch.ones(2, requires_grad=True)
        w.requires_grad_(False)
        pool.append(Made(w, Cause.REQUIRES_GRAD))
    elif what in ("detach", "data"):
        out = a.tensor.detach() if what == "detach" else a.tensor.data
        pool.append(Made(out, a.cause or Cause(what)))
    elif what == "compare":
        out = a.tensor > 0
        pool.append(Made(out, a.cause or Cause.NOT_DIFFERENTIABLE))
    elif what == "operate":
        out = a.tensor * b.tensor
        if a.cause is None or b.cause is None:
            program.use("mul", [a, b])
            pool.append(Made(out, None))
        else:
            pool.append(Made(out, inherited(a, b)))
    else:
        mode = torch.no_grad() if what == "no_grad" else torch.inference_mode()
        with mode:
            out = a.tensor + b.tensor
        own = Cause.NO_GRAD if what == "no_grad" else Cause.INFERENCE_MODE
        is_cut = a.cause is None or b.cause is None
        made = Made(out, own if is_cut else inherited(a, b))
        pool.append(made)


def inherited(a: Made, b: Made) -> Cause:
    """What a tensor made of two outside the graph hands on: the first real cut, if any."""
    causes = [each.cause for each in (a, b) if each.cause is not None]
    cuts = [cause for cause in causes if cause is not Cause.CONSTANT]
    return (cuts or causes)[0]


WORDS = "leaf constant frozen detach data compare operate operate operate no_grad"
STEPS = st.lists(
    st.tuples(st.sampled_from(WORDS.split()), st.integers(0, 30), st.integers(0, 30)),
    min_size=1,
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_every_cause_is_right_and_none_is_invented(steps: list[tuple[str, int, int]]) -> None:
    program = Program()
    with gradviz.record() as run:
        program.variables.append(Made(torch.ones(2, requires_grad=True), None))
        for step in steps:
            run_step(program, step)
        tracked = [each.tensor for each in program.variables if each.cause is None]
        loss = torch.stack(tracked).sum()
        loss.backward()
    graph = run.frames[0].graph
    assert sorted(into_operations(graph)) == sorted(program.expected)
    for _, _, data in graph.edges(data=True):
        assert (data["kind"] is EdgeKind.CUT) == ("cause" in data)


def into_operations(graph: GradGraph) -> list[tuple[str, Cause]]:
    return [
        (graph.nodes[target]["op"], data["cause"])
        for _, target, data in graph.edges(data=True)
        if data["kind"] is EdgeKind.CUT and graph.nodes[target]["kind"] is NodeKind.OPERATION
    ]


@settings(max_examples=100, deadline=None)
@given(STEPS)
def test_every_cut_begins_where_the_gradient_was_lost(steps: list[tuple[str, int, int]]) -> None:
    """Cut edges lead from an operation back to the tensors of the graph."""
    program = Program()
    with gradviz.record() as run:
        program.variables.append(Made(torch.ones(2, requires_grad=True), None))
        for step in steps:
            run_step(program, step)
        tracked = [each.tensor for each in program.variables if each.cause is None]
        torch.stack(tracked).sum().backward()
    graph = run.frames[0].graph
    own = {Cause.DETACH, Cause.DATA, Cause.NO_GRAD, Cause.NOT_DIFFERENTIABLE}
    for key, data in graph.nodes(data=True):
        if data["kind"] is not NodeKind.UNTRACKED:
            continue
        for source, edge in graph.inputs(key):
            if graph.nodes[source]["kind"] is not NodeKind.UNTRACKED:
                assert edge["cause"] in own
                assert edge["source"] == data["source"]


def change_something(program: Program, step: tuple[str, int, int]) -> None:
    """A step in place, or one that makes a leaf of a tensor or a mere tensor of a leaf."""
    what, first, second = step
    pool = [each.tensor for each in program.variables]
    a, b = pool[first % len(pool)], pool[second % len(pool)]
    if what == "view":
        program.variables.append(Made(a.view(2), None))
    elif what == "train" and a.is_floating_point():
        a.requires_grad_()
    elif what == "freeze" and a.is_leaf:
        a.requires_grad_(False)
    elif what == "add_":
        a.add_(b)
    elif what == "copy_":
        with torch.no_grad():
            a.copy_(b)
    elif what == "detach_" and not a._is_view():
        a.detach_()


CHANGES = "view train freeze add_ add_ copy_ detach_"
WILD = st.lists(
    st.tuples(
        st.sampled_from(f"{WORDS} {CHANGES}".split()), st.integers(0, 30), st.integers(0, 30)
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=300, deadline=None)
@given(WILD)
def test_no_frame_has_a_loop(steps: list[tuple[str, int, int]]) -> None:
    """Also when data flows in place into what it was made from."""
    program = Program([Made(torch.ones(2, requires_grad=True), None)])
    with gradviz.record() as run:
        for step in steps:
            with contextlib.suppress(RuntimeError):  # what torch forbids
                (change_something if step[0] in CHANGES else run_step)(program, step)
        run.mark("halfway")
        tracked = [each.tensor for each in program.variables if each.tensor.requires_grad]
        with contextlib.suppress(RuntimeError):  # "modified by an inplace operation"
            torch.stack(tracked).sum().backward()
    assert not run.story.notes
    for frame in run.frames:
        assert nx.is_directed_acyclic_graph(frame.graph)
        assert views.fold_chunks(5)(frame.graph) is not None
    assert str(gradviz.draw(run))


def names_of(graph: GradGraph, kind: EdgeKind) -> set[tuple[str, str]]:
    called = {key: data.get("name", data.get("op", "")) for key, data in graph.nodes(data=True)}
    return {(called[a], called[b]) for a, b, data in graph.edges(data=True) if data["kind"] is kind}


def test_what_shares_memory_is_joined_along_with_the_data() -> None:
    w = torch.ones(2, requires_grad=True)
    with gradviz.record() as run:
        a = w.detach()
        c = a.view(2)
        a.add_(1)
        c.requires_grad_()
        loss = (w * c).sum()
        loss.backward()
    graph = run.frames[-1].graph
    assert names_of(graph, EdgeKind.CUT) == {("w", "a"), ("a", "c")}
    assert names_of(graph, EdgeKind.ALIAS) == {("w", "a"), ("w", "c")}
    assert gradviz.draw(run, views=[views.group_by_module]).svg


def test_what_flows_back_in_place_into_what_it_was_made_from_closes_no_loop() -> None:
    x = torch.ones(2, requires_grad=True)
    scale, total = torch.ones(2), torch.zeros(2)
    with gradviz.record() as run:
        y = x + scale
        scale.copy_(y.detach())
        total.add_(y.detach())
        z = total * 2
        total.add_(z)
        loss = (y * total).sum()
        loss.backward()
    cuts = names_of(run.frames[0].graph, EdgeKind.CUT)
    assert ("scale", "y") in cuts and ("total", "z") in cuts
    assert ("detach", "total") in cuts and ("z", "total") not in cuts
    assert str(gradviz.draw(run))


def test_data_that_flowed_in_a_circle_is_followed_once() -> None:
    w = torch.ones(2, requires_grad=True)
    with gradviz.record() as run:
        a, b = torch.zeros(2), torch.zeros(2)
        b.add_(a)
        a.add_(b)
        a.add_(w.detach())
        b.add_(w.detach())
        (w * a * b).sum().backward()
    assert ("a", "b") in names_of(run.frames[0].graph, EdgeKind.CUT)
    assert str(gradviz.draw(run))
