"""Subjects that are easily forgotten: each has its picture, or its one-line error."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from typing import Any

import awkward_places
import awkward_tensors
import pygraphviz
import pytest
from awkward import AWKWARD, Expected

from gradviz import Drawing, GradGraph, GradvizError, serialize

assert awkward_places and awkward_tensors  # importing them fills the table


@pytest.mark.filterwarnings("ignore")  # torch comments on some of these kinds
@pytest.mark.parametrize(("make", "expected"), AWKWARD)
def test_awkward_subject(make: Callable[[], Drawing], expected: Expected | str) -> None:
    if isinstance(expected, str):
        with pytest.raises(GradvizError) as error:
            make()
        assert expected in str(error.value)
        assert "\n" not in str(error.value)
        return
    drawing = make()
    assert repr(drawing.graph) == expected.graph
    for name, facts in expected.facts.items():
        node = drawing.graph.nodes[_find(drawing.graph, name)]
        assert {fact: _fact(node, fact) for fact in facts} == facts
    _renders(drawing)


def _find(graph: GradGraph, name: str) -> str:
    """The node called so, else the one operation of that kind."""
    for attribute in ("name", "op"):
        keys = [key for key, data in graph.nodes(data=True) if data.get(attribute) == name]
        if len(keys) == 1:
            return str(keys[0])
    raise AssertionError(f"{name} is not one node of {graph}")


def _fact(node: dict[str, Any], fact: str) -> object:
    """An attribute by name; a dot leads into a summary."""
    value: object = node
    for step in fact.split("."):
        value = value.get(step) if isinstance(value, dict) else getattr(value, step)
    return value


def _renders(drawing: Drawing) -> None:
    """Every format that is text can be made and read."""
    assert all(character.isprintable() or character == "\n" for character in drawing.text)
    ElementTree.fromstring(drawing.svg)
    (frame,) = serialize.loads(drawing.render("json"))
    assert list(frame.graph.edges) == list(drawing.graph.edges)
    assert b"flowchart" in drawing.render("mmd")
    parsed = pygraphviz.AGraph(string=drawing.dot.source)
    assert parsed.number_of_nodes() >= 1
    parsed.close()
