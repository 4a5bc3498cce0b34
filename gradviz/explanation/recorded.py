"""A moment read off a recording: its frames and events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from gradviz.explanation.live import names_of
from gradviz.explanation.moment import Moment, Question
from gradviz.explanation.subjects import Asked
from gradviz.graph import GradGraph, NodeData, NodeKind
from gradviz.story import EventKind, Frame

if TYPE_CHECKING:
    from gradviz.capture.recording.recorder import Recording
    from gradviz.capture.tensors.names import Names

__all__ = ["moment_of", "questions_of"]

_LEAVES = (NodeKind.PARAMETER, NodeKind.LEAF)


def moment_of(recording: Recording, roots: Sequence[Any] = ()) -> Moment:
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
    forward = [frame for frame in frames if frame.title == "forward"]
    if roots:
        keys = [key for root in roots if (key := _key_of(recording, root, graph))]
    else:
        # Without a backward pass, a leaf stands there for want of anything computed from it.
        kinds = () if passes else _LEAVES
        keys = [key for key in graph.roots if graph.nodes[key]["kind"] not in kinds]
    return Moment(graph, tuple(keys), events, forward[-1].graph if forward else None)


def questions_of(asked: Asked, moment: Moment, names: Names) -> list[Question]:
    """What is asked about; every leaf of the recording when no tensor was given."""
    if not asked.tensors:
        return [
            Question(data.get("name", "a leaf"), key, data)
            for key, data in _leaves(asked.recording.frames)
        ]
    from gradviz.capture.tracing.tracer import trace_subjects  # only now: it needs torch

    called = names_of(names)
    questions = []
    for tensor in asked.tensors:
        alone = trace_subjects((tensor,), names)
        data: Any = dict(alone.nodes[alone.roots[0]])
        key = _key_of(asked.recording, tensor, moment.graph)
        for attribute in ("accumulations", "source"):
            if key and attribute in moment.graph.nodes[key]:
                data[attribute] = moment.graph.nodes[key][attribute]
        name = called.get(id(tensor)) or data.get("name") or "the tensor"
        is_parameter = id(tensor) in asked.parameters or type(tensor).__name__ == "Parameter"
        questions.append(Question(name, key, data, is_parameter))
    return questions


def _leaves(frames: tuple[Frame, ...]) -> Iterator[tuple[str, NodeData]]:
    """Every leaf that a frame shows, as the last one shows it, in the order of their keys."""
    found: dict[str, NodeData] = {}
    for frame in frames:
        for key, data in frame.graph.nodes(data=True):
            if data["kind"] in _LEAVES:
                found[key] = data
    yield from sorted(found.items(), key=lambda item: int(item[0][1:]))


def _key_of(recording: Recording, tensor: Any, graph: GradGraph) -> str:
    """The node of a tensor in the frames of a recording; "" if there is none.

    A name will not do: another tensor may be called the same.
    """
    record = recording._watch.ghosts.tensors.of(tensor)
    if record is not None:
        key = recording._watch.journal.key_of(record.identity)
        return key if key in graph else ""
    node = tensor.grad_fn
    if node is None:
        return ""
    from gradviz.capture.autograd.nodes import sequence_number

    created = sequence_number(node)
    for identity in (("result", created, tensor.output_nr), created):
        key = recording._watch.journal.key_of(identity)
        if key in graph:
            return key
    return ""
