"""An error, with the known facts about the moment when it was raised."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from gradviz.diagnosis.answers import Explanation, Group
from gradviz.diagnosis.context import Context
from gradviz.diagnosis.lines import mention
from gradviz.diagnosis.rule import Evidence
from gradviz.diagnosis.subjects import (
    Asked,
    locations_of_error,
    raised_in_backward,
    result_of,
)
from gradviz.facts import ErrorDetails, FrameKind, Problem, SourceLocation
from gradviz.graph import GradGraph
from gradviz.graph.operations import forward_word
from gradviz.story import Event, Frame
from gradviz.torch_messages import TorchMessage, read_message

if TYPE_CHECKING:
    from gradviz.capture.tensors.names import Names

__all__ = ["ErrorContext", "ResultOrigin", "Why", "error_context"]

Why = Callable[[Any, str], Explanation]

_NOWHERE = SourceLocation()


class ResultOrigin(NamedTuple):
    """The known origin of a non-leaf tensor.

    Args:
        name: its name.
        op: the operation that created it.
        location: the line of that operation.
        key: of that operation in the frames.
    """

    name: str = ""
    op: str = ""
    location: SourceLocation = SourceLocation()
    key: str = ""


@dataclass(frozen=True, eq=False)
class ErrorContext:
    """An error to explain: the subject of the rules about errors.

    Args:
        name: its class: ``"RuntimeError"``.
        text: its whole message.
        location: the user's line that led to it.
        library: the line of a library, called there, that led to it.
        problem: the node at which backward failed, if recorded.
        is_backward: whether a backward pass raised it.
        asked: the question: tensors, modules, the recording, the exception.
        names: the names of tensors.
        why: explains why a tensor has no gradient.
        key: "": it has no node of its own.
        group: the verdicts that can apply.
        kind: None: it is no tensor.
    """

    name: str
    text: str
    location: SourceLocation
    library: SourceLocation = _NOWHERE
    problem: Problem | None = None
    is_backward: bool = False
    asked: Asked = field(default_factory=Asked)
    names: Names | None = None
    why: Why | None = None
    key: str = ""
    group: Group = Group.ERROR
    kind: None = None

    @cached_property
    def read(self) -> TorchMessage | None:
        """The parsed message, if it is one of PyTorch's; else None."""
        return read_message(self.text)

    @property
    def error(self) -> BaseException | None:
        """The exception, if it was passed."""
        return self.asked.error

    @property
    def at(self) -> str:
        """``" at train.py:12 (loss.backward())"``, or ""."""
        if not self.location:
            return ""
        return f" at {mention(self.location, self.library)}"

    @cached_property
    def called(self) -> dict[int, str]:
        """The names of tensors, by their ``id``."""
        from gradviz.diagnosis.reading import names_of

        return names_of(self.names) if self.names is not None else {}

    @cached_property
    def origin(self) -> ResultOrigin:
        """The origin of the tensor that torch refused, if it is still in the traceback."""
        tensor = result_of(self.error)
        if tensor is None:
            return ResultOrigin()

        name, op = self.called.get(id(tensor), ""), forward_word(tensor.grad_fn.name())
        recording = self.asked.recording
        if recording is not None and (event := recording._event_of(tensor)):
            return ResultOrigin(name or event.name, event.word, event.location, event.node)
        return ResultOrigin(name, op)

    def evidence(
        self,
        nodes: Sequence[str] = (),
        locations: Sequence[SourceLocation] = (),
        culprit: str = "",
        words: Mapping[str, object] | None = None,
        **more: object,
    ) -> Evidence:
        """What a rule found, with the line of the error as the last location.

        The sentences can use ``{at}``, the fields of the message, and the words passed here.
        """
        fields = vars(self.read) if self.read is not None else {}
        lines = (*locations, self.location, self.library)
        values = {"at": self.at, **fields, **(words or {}), **more}
        return Evidence(values, tuple(nodes), lines, culprit)


def error_context(asked: Asked, names: Names, why: Why) -> tuple[Context, ErrorContext]:
    """The known facts about an exception, or about the one that ended a recording.

    Args:
        asked: the question.
        names: the names of tensors.
        why: explains why a tensor has no gradient.
    """
    return _context(asked, names), replace(_subject(asked, names), why=why)


def _subject(asked: Asked, names: Names) -> ErrorContext:
    frames: tuple[Frame, ...] = () if asked.recording is None else asked.recording.frames
    event = _event_of_error(asked)
    details = event.details if event is not None else None
    problem = details.problem if isinstance(details, ErrorDetails) else None
    is_backward = any(frame.kind is FrameKind.FAILED_BACKWARD for frame in frames[-2:])
    if asked.error is not None:
        is_backward = raised_in_backward(asked.error)
        location, library = locations_of_error(asked.error)
        name, text = type(asked.error).__name__, str(asked.error)
    else:
        assert event is not None
        location, library = event.location, event.inside
        name, text = event.word, details.message if isinstance(details, ErrorDetails) else ""
    return ErrorContext(name, text, location, library, problem, is_backward, asked, names)


def _event_of_error(asked: Asked) -> Event | None:
    """The event of the error in the recording; the last one, if no exception was passed."""
    if asked.recording is None:
        return None
    events: list[Event] = asked.errors
    if asked.error is None:
        return events[-1]
    same = [event for event in events if event.word == type(asked.error).__name__]
    return same[-1] if same else None


def _context(asked: Asked, names: Names) -> Context:
    from gradviz.diagnosis.reading import look

    # Without an exception, the tensors are those whose gradients are explained, not roots.
    given = asked.tensors if asked.error is not None else []
    tensors = [each for each in given if id(each) not in asked.parameters]
    if asked.recording is None:
        return look(Asked(roots=tensors), names)[0]
    frames, events = asked.recording.frames, asked.recording.events
    failed = [frame for frame in frames if frame.kind is FrameKind.FAILED_BACKWARD]
    graph = (failed or frames)[-1].graph
    passed = [frame.graph for frame in frames if frame.kind is FrameKind.AFTER_BACKWARD]
    roots = tuple(_roots_of(asked, tensors, graph))
    context = Context(graph, roots, events, frames, passed[-1] if passed else None)
    if tensors and not graph:
        context = replace(look(Asked(roots=tensors), names)[0], events=events)
    return context


def _roots_of(asked: Asked, tensors: Sequence[Any], graph: GradGraph) -> list[str]:
    """The roots of backward, or the tensor on which another operation was called."""
    found = [key for each in tensors if (key := asked.recording.key_of(each, graph)) in graph]
    if found or graph.roots:
        return found or graph.roots
    name = asked.errors[-1].name if asked.errors else ""
    return [key for key, data in graph.nodes(data=True) if name and data.get("name") == name]
