"""A moment read off live tensors: their graph, and the results that backward may start from."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

from gradviz.diagnosis.context import Context, Question
from gradviz.diagnosis.subjects import Asked
from gradviz.diagnosis.ways import below
from gradviz.graph import EdgeKind, GradGraph, NodeKind

if TYPE_CHECKING:
    from gradviz.capture.tensors.names import Names

__all__ = ["identity_of", "look", "names_of"]


def look(asked: Asked, names: Names) -> tuple[Context, list[Question]]:
    """Trace the tensors asked about, with the results that they led to.

    Args:
        asked: what was asked; without roots, they are found among the names.
        names: what to call the tensors. Named results tell their values.
    """
    from gradviz.capture.tracing.tracer import trace_subjects  # only now: it needs torch

    asked_for = {identity_of(tensor) for tensor in asked.tensors}
    witnesses = [
        named.tensor
        for named in names
        if named.tensor.grad_fn is not None and identity_of(named.tensor) not in asked_for
    ]
    subjects = {identity_of(each): each for each in (*asked.roots, *asked.tensors, *witnesses)}
    graph = trace_subjects(tuple(subjects.values()), names) if subjects else GradGraph()
    by_number = {data["root"]: key for key, data in graph.nodes(data=True) if "root" in data}
    keys = {identity: by_number[number] for number, identity in enumerate(subjects)}
    roots = [keys[identity_of(each)] for each in asked.roots]
    if not asked.roots:
        roots = _ends(graph, [keys[identity_of(each)] for each in witnesses])
    questions = [keys[identity_of(each)] for each in asked.tensors]
    for key in questions:
        if key not in roots:
            graph.nodes[key].pop("root", None)  # two tensors may be one output
    _fold_witnesses(graph, [keys[identity_of(each)] for each in witnesses], roots)
    _drop_the_rest(graph, {*roots, *questions})
    called = names_of(names)
    asked_questions = [
        Question(
            called.get(id(tensor)) or graph.nodes[key].get("name") or "the tensor",
            key,
            graph.nodes[key],
            id(tensor) in asked.parameters or type(tensor).__name__ == "Parameter",
        )
        for tensor, key in zip(asked.tensors, questions, strict=True)
    ]
    return Context(graph, tuple(dict.fromkeys(roots))), asked_questions


def names_of(names: Names) -> dict[int, str]:
    """What tensors are called, by their ``id``; the first name counts."""
    called: dict[int, str] = {}
    for named in names:
        called.setdefault(id(named.tensor), named.name)
    return called


def identity_of(tensor: Any) -> Hashable:
    """Two tensors that are the same output of the same operation are one node."""
    node = tensor.grad_fn
    return ("leaf", id(tensor)) if node is None else (node, tensor.output_nr)


def _ends(graph: GradGraph, results: Sequence[str]) -> list[str]:
    """Those results from which nothing else was computed."""
    ends = []
    for key in dict.fromkeys(results):
        makers = [source for source, _ in graph.inputs(key)]
        users = {
            target
            for maker in makers
            for target in graph.successors(maker)
            if graph.nodes[target]["kind"] is not NodeKind.RESULT
        }
        if not users:
            ends.append(key)
    return ends


def _fold_witnesses(graph: GradGraph, witnesses: Sequence[str], roots: Sequence[str]) -> None:
    """Put the names and values of results in between on the operations that made them."""
    for key in dict.fromkeys(witnesses):
        if key in roots:
            continue
        data = graph.nodes[key]
        for maker, _ in list(graph.inputs(key)):
            made = graph.nodes[maker]
            if made.get("outputs", 1) == 1:
                for attribute in ("name", "value", "version", "grad", "retains_grad", "hooks"):
                    if attribute in data:
                        made.setdefault(attribute, data[attribute])
        graph.remove_node(key)


def _drop_the_rest(graph: GradGraph, kept: set[str]) -> None:
    """Keep what the roots and the questions were computed from."""
    needed = below(graph, kept, lambda s, t, edge: edge["kind"] is not EdgeKind.ALIAS)
    graph.remove_nodes_from([key for key in graph if key not in needed])
