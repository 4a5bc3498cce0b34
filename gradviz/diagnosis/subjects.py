"""What was asked: tensors, a model, a recording, an error; sorted by what they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gradviz.errors import SubjectError, UsageError

if TYPE_CHECKING:
    from gradviz.recording.api import Recording

__all__ = ["Asked"]

_ALLOWED = "a tensor, a module, a recording or an exception"


@dataclass(eq=False)
class Asked:
    """The subjects of a question, sorted.

    Args:
        tensors: those to be explained.
        parameters: ids of those that are known to be parameters.
        roots: what backward starts from, if that was said.
        recording: what was recorded.
        error: the exception.
        modules: those whose parameters they are.
        is_many: whether several answers are wanted, even when there is one tensor.
        unregistered: by the ids of parameters that a module keeps in a plain container, and that
            it therefore does not list: the `Unregistered`.
        flags: by the ids of parameters that were to be frozen: the `IneffectiveFlag`.
    """

    tensors: list[Any] = field(default_factory=list)
    parameters: set[int] = field(default_factory=set)
    roots: list[Any] = field(default_factory=list)
    recording: Any = None
    error: BaseException | None = None
    modules: list[Any] = field(default_factory=list)
    is_many: bool = False
    unregistered: dict[int, Any] = field(default_factory=dict)
    flags: dict[int, Any] = field(default_factory=dict)

    @staticmethod
    def of(subjects: Sequence[object], names: object = None, loss: object = None) -> Asked:
        """Sort the subjects.

        Raises:
            SubjectError: if there is nothing to explain among them.
            UsageError: if there are two recordings, or two errors.
        """
        asked = Asked()
        rest: list[object] = []
        for subject in subjects:
            if isinstance(subject, BaseException):
                _once(asked.error, "errors")
                asked.error = subject
            elif _is_recording(subject):
                _once(asked.recording, "recordings")
                asked.recording = subject
            else:
                rest.append(subject)
        if not subjects:
            raise SubjectError(f"nothing to explain: pass {_ALLOWED}")
        asked._sort(rest, names, loss)
        return asked

    def _sort(self, rest: list[object], names: object, loss: object) -> None:
        groups = [_tensors(subject) for subject in rest]
        if loss is not None:
            self.roots = _tensors(loss)
        elif rest and self.error is None and self._is_root(groups):
            self.roots, rest, groups = groups[-1], rest[:-1], groups[:-1]
        for subject, group in zip(rest, groups, strict=True):
            if _is_module(subject):
                self._add_parameters(subject)
            self.tensors += group
            self.is_many = self.is_many or len(group) > 1
        self.is_many = self.is_many or len(rest) > 1
        if _is_module(names) and not self.modules and self._asks_for_all(groups):
            self.roots, self.tensors = self.roots or self.tensors, []
            self._add_parameters(names)
        # What is asked for twice is explained once.
        self.tensors = list({id(tensor): tensor for tensor in self.tensors}.values())

    def _is_root(self, groups: list[list[Any]]) -> bool:
        """Whether the last subject is what backward starts from."""
        *others, last = groups
        if not others or not last or any(each.grad_fn is None for each in last):
            return False
        return all(
            each.grad_fn is None or (each.numel() > 1 and last[0].numel() == 1)
            for group in others
            for each in group
        )

    def _asks_for_all(self, groups: list[list[Any]]) -> bool:
        """Whether only results were given, or nothing: every parameter of the names is meant."""
        return all(each.grad_fn is not None for group in groups for each in group)

    def _add_parameters(self, module: Any) -> None:
        parameters = list(module.parameters())
        self.modules.append(module)
        self.tensors += parameters
        self.parameters |= set(map(id, parameters))
        self.look_at((module,))
        kept = [each.tensor for each in self.unregistered.values()]
        self.tensors += [each for each in kept if id(each) not in self.parameters]
        self.parameters |= set(self.unregistered)
        self.is_many = True

    def look_at(self, modules: Sequence[Any]) -> None:
        """Find parameters in plain containers of modules, and attributes without effect."""
        from gradviz.capture.tensors.training_sets import ineffective_flags, unregistered

        for module in modules:
            for row in unregistered(module):
                self.unregistered.setdefault(id(row.tensor), row)
        for flag in ineffective_flags(modules):
            self.flags.setdefault(id(flag.tensor), flag)

    @property
    def has_failed(self) -> bool:
        """Whether the recording ended in an error."""
        return self.recording is not None and bool(self.errors)

    @property
    def errors(self) -> list[Any]:
        """The events of errors in the recording."""
        recording: Recording = self.recording
        return [event for event in recording.events if event.kind.value == "error"]


def _once(before: object, what: str) -> None:
    if before is not None:
        raise UsageError(f"cannot explain two {what} at once: ask for one after the other")


def _is_recording(subject: object) -> bool:
    return type(subject).__name__ == "Recording" and hasattr(type(subject), "story")


def _is_module(subject: object) -> bool:
    """Whether it is an ``nn.Module``; asked of its classes: this file needs no torch."""
    return any(
        kind.__name__ == "Module" and kind.__module__ == "torch.nn.modules.module"
        for kind in type(subject).__mro__
    )


def _tensors(subject: object) -> list[Any]:
    if _is_module(subject):
        return []
    from gradviz.capture.tensors.subjects import flatten, maker_of, shortly

    try:
        found: list[Any] = [each.value for each in flatten((subject,))]
    except SubjectError as error:
        raise SubjectError(
            f"cannot explain {shortly(subject)} ({type(subject).__name__}): pass {_ALLOWED}"
        ) from error
    if not all(hasattr(type(each), "grad_fn") for each in found):
        raise SubjectError(f"cannot explain a GradientEdge: pass {_ALLOWED}")
    for each in found:
        maker_of(each)  # raises if it cannot be told
    return found
