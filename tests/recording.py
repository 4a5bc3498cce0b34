"""What the tests of recordings share: reading events and cut edges, and raising mistakes."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator

import pytest
from torch.nn.modules import module as torch_modules

from gradviz.graph import EdgeKind, GradGraph, NodeKind
from gradviz.recording.api import Recording
from gradviz.story import Event, EventKind

__all__ = ["cuts", "events", "find", "modules_of", "no_hook_is_left", "strict", "title"]


@pytest.fixture(autouse=True)
def strict(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A mistake of the recording itself is raised, where a user would get a note."""
    monkeypatch.setenv("GRADVIZ_DEBUG", "1")
    yield


@pytest.fixture
def no_hook_is_left() -> Iterator[None]:
    """A recording removes its global module hooks and warning filters."""
    importlib.import_module("torch._dynamo")  # which a checkpoint imports, and which adds a filter
    filters = list(warnings.filters)
    yield
    for name in dir(torch_modules):
        if name.startswith("_global_") and "hooks" in name:
            assert not getattr(torch_modules, name), name
    assert list(warnings.filters) == filters


def modules_of(graph: GradGraph) -> dict[str, list[str]]:
    """The words of the operations by module, in the order of creation; those of ``t`` left out."""
    found: dict[str, list[str]] = {}
    nodes = [data for _, data in graph.nodes(data=True) if data["kind"] is NodeKind.OPERATION]
    for data in sorted(nodes, key=lambda data: data["sequence_nr"]):
        assert "inferred" not in data
        if data["op"] != "t":
            found.setdefault(data.get("module", "unknown"), []).append(data["op"])
    return found


def events(run: Recording, *kinds: EventKind) -> list[Event]:
    """The events of some kinds; of all but plain operations when none are given."""
    if kinds:
        return [event for event in run.events if event.kind in kinds]
    return [event for event in run.events if event.kind is not EventKind.OPERATION]


def title(graph: GradGraph, key: str) -> str:
    """What to call a node in a test: its name, else its word."""
    data = graph.nodes[key]
    return str(data.get("name") or data.get("op") or data["kind"].value)


def cuts(graph: GradGraph) -> set[tuple[str, str, str]]:
    """The cut edges as (from, to, cause)."""
    return {
        (title(graph, source), title(graph, target), data["cause"].value)
        for source, target, data in graph.edges(data=True)
        if data["kind"] is EdgeKind.CUT
    }


def find(graph: GradGraph, name: str) -> dict[str, object]:
    """The attributes of the node that is called ``name``."""
    return dict(graph.nodes[graph.find(name)])
