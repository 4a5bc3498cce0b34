"""A moment read off a recording: its frames and events."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from gradviz.diagnosis.context import Context, Question
from gradviz.diagnosis.live import identity_of, names_of
from gradviz.diagnosis.subjects import Asked
from gradviz.diagnosis.ways import CutEdge, below, is_data, plain
from gradviz.graph import GradGraph, NodeData, NodeKind
from gradviz.story import EventKind, Frame

if TYPE_CHECKING:
    from gradviz.capture.tensors.names import Names
    from gradviz.recording.api import Recording
    from gradviz.recording.saved_values import Contents

__all__ = ["moment_of", "questions_of", "with_values"]

_LEAVES = (NodeKind.PARAMETER, NodeKind.LEAF)


def moment_of(recording: Recording, roots: Sequence[Any] = ()) -> Context:
    """The last moment that shows what backward started from, and the one before backward.

    Args:
        recording: what was recorded.
        roots: what backward starts from; what it did start from when none are given.
    """
    frames, events = recording.frames, recording.events
    passes = [event for event in events if event.kind is EventKind.BACKWARD]
    of_pass = [frame for frame in frames if frame.title.startswith(("forward", "after", "mark"))]
    last = (of_pass if passes and of_pass else frames)[-1:]
    graph = last[0].graph if last else GradGraph()
    if roots:
        keys = [key for root in roots if (key := recording.key_of(root, graph)) in graph]
    else:
        # Without a backward pass, a leaf stands there for want of anything computed from it.
        kinds = () if passes else _LEAVES
        keys = [key for key in graph.roots if graph.nodes[key]["kind"] not in kinds]
    kept = max((frame.graph for frame in frames), key=lambda each: each.saved_bytes, default=None)
    ends = below(graph, keys, is_data)
    lost = {
        leaf: [
            CutEdge(each.target, each.target, {"cause": each.cause, "source": each.source})
            for each in cuts
        ]
        for leaf, cuts in recording.cut_off(graph, ends).items()
    }
    before = _before(frames)
    return Context(graph, tuple(keys), events, before, kept, lost)


def _before(frames: Sequence[Frame]) -> GradGraph | None:
    """The graph before the latest backward pass: a frame of its own, or the one that shows it."""
    passes = [at for at, frame in enumerate(frames) if frame.title.startswith("after backward")]
    if passes and passes[-1]:
        return frames[passes[-1] - 1].graph
    forward = [frame for frame in frames if frame.title == "forward"]
    return forward[-1].graph if forward else None


def questions_of(asked: Asked, moment: Context, names: Names) -> list[Question]:
    """What is asked about.

    When no tensor was given that is every parameter of the recorded modules, and every other leaf
    that a frame shows.
    """
    if asked.tensors:
        return _questions(asked.tensors, asked, moment, names)
    from gradviz.capture.tensors.names import Names

    shown = _leaves(asked.recording.frames)
    own = Names(asked.recording.parameters())
    keys = [asked.recording.key_of(named.tensor, moment.graph) for named in own]
    unseen = [each for each, key in zip(own, keys, strict=True) if key not in shown]
    others = iter(
        _questions([each.tensor for each in unseen], asked, moment, own) if unseen else ()
    )
    named = [_shown(key, shown[key]) if key in shown else next(others) for key in keys]
    known = set(keys)
    return named + [_shown(key, data) for key, data in shown.items() if key not in known]


def _shown(key: str, data: NodeData) -> Question:
    return Question(data.get("name", "a leaf"), key, data)


def _questions(
    tensors: Sequence[Any], asked: Asked, moment: Context, names: Names
) -> list[Question]:
    from gradviz.capture.tracing.tracer import trace_subjects  # only now: it needs torch

    called = names_of(names)
    # All in one: what they are called is worked out once.
    subjects = {identity_of(tensor): tensor for tensor in tensors}
    traced = trace_subjects(tuple(subjects.values()), names)
    own = dict(zip(subjects, traced.roots, strict=True))
    questions = []
    for tensor in tensors:
        data: Any = dict(traced.nodes[own[identity_of(tensor)]])
        key = asked.recording.key_of(tensor, moment.graph)
        for attribute in ("accumulations", "source"):
            if key in moment.graph and attribute in moment.graph.nodes[key]:
                data[attribute] = moment.graph.nodes[key][attribute]
        name = called.get(id(tensor)) or data.get("name") or "the tensor"
        is_parameter = id(tensor) in asked.parameters or type(tensor).__name__ == "Parameter"
        questions.append(Question(name, key, data, is_parameter))
    return questions


def with_values(moment: Context, recording: Recording, names: Names) -> Context:
    """The same moment with what is known of large tensors, which frames tell no values of.

    Those with a name are still alive; one that was changed in place since tells nothing.
    """
    from gradviz.capture.autograd.tensors import version_of
    from gradviz.capture.tensors.summary import summarize

    graphs = [moment.graph.copy(), (moment.before or GradGraph()).copy()]
    places = [
        (data, named.tensor)
        for graph in graphs
        for named in names
        if (key := recording.key_of(named.tensor, graph)) in graph
        and "value" not in (data := graph.nodes[key])
        and data.get("version", 0) == version_of(named.tensor)
    ]
    if moment.before is not None:
        _put_contents(graphs[1], recording.contents(moment.before))
    known = {id(tensor): tensor for _, tensor in places}
    summaries = dict(zip(known, summarize(list(known.values())), strict=True))
    for data, tensor in places:
        data["value"] = summaries[id(tensor)]
    before = graphs[1] if moment.before else None
    since = {
        key: (number, graphs[1] if graph is moment.before else _with_contents(graph, recording))
        for key, (number, graph) in _not_finite_since(recording).items()
    }
    return replace(moment, graph=graphs[0], before=before, since=since)


def _not_finite_since(recording: Recording) -> dict[str, tuple[int, GradGraph]]:
    """The first of the passes that have left a gradient not finite ever since, for each leaf."""
    found: dict[str, tuple[int, GradGraph]] = {}
    for earlier, frame in pairwise(recording.frames):
        if not (passed := re.match(r"after backward (\d+)", frame.title)):
            continue
        for key in frame.graph.leaves:
            grad = frame.graph.nodes[key].get("grad")
            if grad is None or not (grad.nan or grad.inf):
                found.pop(key, None)
            elif key not in found and set(earlier.graph) == set(frame.graph):
                found[key] = int(passed[1]), earlier.graph
    return found


def _with_contents(graph: GradGraph, recording: Recording) -> GradGraph:
    told: GradGraph = graph.copy()
    _put_contents(told, recording.contents(graph))
    return told


def _put_contents(graph: GradGraph, contents: Contents) -> None:
    """Put what saved tensors had in them on what made these."""
    for key, saved in contents.items():
        made: NodeData = graph.nodes[key]
        if "result" in saved:
            made.setdefault("value", saved["result"])
        for source, edge in graph.inputs(key):
            name = ("self", "other")[edge.get("input", 2)] if edge.get("input", 2) < 2 else ""
            given: NodeData = graph.nodes[plain(graph, source)]
            if name in saved and given.get("outputs", 1) == 1:
                given.setdefault("value", saved[name])


def _leaves(frames: tuple[Frame, ...]) -> dict[str, NodeData]:
    """Every leaf that a frame shows, as the last one shows it, in the order of their keys."""
    found: dict[str, NodeData] = {}
    for frame in frames:
        for key, data in frame.graph.nodes(data=True):
            if data["kind"] in _LEAVES:
                found[key] = data
    return dict(sorted(found.items(), key=lambda item: int(item[0][1:])))
