"""What is explained: tensors, a model, a recording, or an error with the facts about its moment.

Frames of a traceback are read without keeping any of their variables alive.
"""

from __future__ import annotations

import ast
import dis
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from traceback import walk_tb
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

from gradviz.diagnosis.answers import Explanation, Group
from gradviz.diagnosis.lines import mention, nodes_in, statement_at
from gradviz.diagnosis.rule import Evidence
from gradviz.errors import SubjectError, UsageError
from gradviz.facts import PartCall, Problem, SourceLocation
from gradviz.graph.operations import forward_word
from gradviz.graph.text import joined
from gradviz.torch_messages import TorchMessage, is_about_autograd, read_message

if TYPE_CHECKING:
    from gradviz.capture.tensors.names import Names
    from gradviz.recording.api import Recording

_ALLOWED = "a tensor, a module, a recording or an exception"


@dataclass(eq=False)
class Asked:
    """The subjects of a question, by kind.

    Args:
        tensors: the tensors to explain.
        parameters: ids of those that are known to be parameters.
        roots: the tensors on which backward is called, if given.
        recording: the recording.
        error: the exception.
        modules: the modules whose parameters are explained.
        is_many: whether the answer is a table, even for one tensor.
        unregistered: by the ids of parameters in a plain container of a module, which the module
            therefore does not register: the `Unregistered`.
        flags: by the ids of parameters that were meant to be frozen: the `IneffectiveFlag`.
        names: the argument ``names``.
        raised: the exception that ended the recording, if it is known; a row of its own.
        is_overview: whether the tensors are all that a program has, and were not chosen.
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
    names: object = None
    raised: BaseException | None = None
    is_overview: bool = False

    @staticmethod
    def of(subjects: Sequence[object], names: object = None, loss: object = None) -> Asked:
        """Sort the subjects.

        Raises:
            SubjectError: if there is nothing to explain among them.
            UsageError: if there are two recordings, or two errors.
        """
        asked = Asked(names=names)
        rest: list[object] = []
        if is_recording(loss) or isinstance(loss, BaseException):
            subjects, loss = (*subjects, loss), None  # explain(w, loss=run)
        for subject in subjects:
            if isinstance(subject, BaseException):
                _once(asked.error, "errors")
                asked.error = subject
            elif is_recording(subject):
                _once(asked.recording, "recordings")
                asked.recording = subject
            else:
                rest.append(subject)
        if not subjects:
            raise SubjectError(f"nothing to explain: pass {_ALLOWED}")
        asked._sort(rest, names, loss)
        return asked

    @cached_property
    def calls(self) -> dict[int, PartCall]:
        """Whether the modules of parameters were called, by the ``id`` of the parameters."""
        found: dict[int, PartCall] = self.recording._snapshots.calls_of_parameters()
        return found

    def _sort(self, rest: list[object], names: object, loss: object) -> None:
        groups = [_tensors(subject) for subject in rest]
        if loss is not None:
            self.roots = _tensors(loss)
        elif rest and self.error is None and self._is_root(groups):
            self.roots, rest, groups = groups[-1], rest[:-1], groups[:-1]
        for subject, group in zip(rest, groups, strict=True):
            if is_module(subject):
                self._add_parameters(subject)
            self.tensors += group
            self.is_many = self.is_many or len(group) > 1
        self.is_many = self.is_many or len(rest) > 1
        are_results = all(each.grad_fn is not None for group in groups for each in group)
        if is_module(names) and not self.modules and are_results:  # or nothing was passed
            self.roots, self.tensors = self.roots or self.tensors, []
            self._add_parameters(names)
        # A tensor that is passed twice is explained once.
        self.tensors = list({id(tensor): tensor for tensor in self.tensors}.values())

    def _is_root(self, groups: list[list[Any]]) -> bool:
        """Whether the last subject is the root of backward."""
        *others, last = groups
        if not others or not last:
            return False
        if len(last) == 1 and not last[0].requires_grad and last[0].numel() == 1:
            # A loss that was cut off, if its effect on leaves is to be explained.
            return all(each.is_leaf and each.requires_grad for group in others for each in group)
        if any(each.grad_fn is None for each in last):
            return False
        return all(
            each.grad_fn is None or (each.numel() > 1 and last[0].numel() == 1)
            for group in others
            for each in group
        )

    def _add_parameters(self, module: Any) -> None:
        from gradviz.capture.autograd.sharded import sharded_parameter
        from gradviz.capture.tensors.training_sets import parameters_of

        parameters = [*map(sharded_parameter, parameters_of(module))]  # FSDP2 may show others
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
        """The events of errors in the recording; that the user stopped it is none."""
        recording: Recording = self.recording
        found = (event for event in recording.events if event.kind.value == "error")
        return [event for event in found if event.word != KeyboardInterrupt.__name__]


def _once(before: object, what: str) -> None:
    if before is not None:
        raise UsageError(f"cannot explain two {what} at once: ask for one after the other")


def is_recording(subject: object) -> bool:
    """Whether it is a `Recording`."""
    return type(subject).__name__ == "Recording" and hasattr(type(subject), "story")


def is_module(subject: object) -> bool:
    """Whether it is an ``nn.Module``, checked by class name: this file does not import torch."""
    return any(
        kind.__name__ == "Module" and kind.__module__ == "torch.nn.modules.module"
        for kind in type(subject).__mro__
    )


def _tensors(subject: object) -> list[Any]:
    if is_module(subject):
        return []
    from gradviz.capture.autograd.sharded import sharded_parameter
    from gradviz.capture.tensors.names import flatten, maker_of, shortly

    try:
        found: list[Any] = [sharded_parameter(each.value) for each in flatten((subject,))]
    except SubjectError as error:
        raise SubjectError(
            f"cannot explain {shortly(subject)} ({type(subject).__name__}): pass {_ALLOWED}"
        ) from error
    if not all(hasattr(type(each), "grad_fn") for each in found):
        raise SubjectError(f"cannot explain a GradientEdge: pass {_ALLOWED}")
    for each in found:
        maker_of(each)  # raises if torch cannot return the grad_fn
    return found


_NOT_OWN = ("torch", "gradviz")
_MODES = ("gradviz.", "torch.utils._device")  # the other is `torch.set_default_device`
UNKNOWN = object()
"""Stands for a value that cannot be known without running the user's code."""


def applying_of(error: BaseException | None, method: str = "forward") -> SourceLocation | None:
    """The user's line that led to the method of a ``Function`` that raised an error; or None."""
    from gradviz.recording.source_lines import CodeLocation, SourceLines

    caller = trace = error.__traceback__ if error is not None else None
    found = None
    while trace is not None and trace.tb_next is not None:
        frame, inner = trace.tb_frame, trace.tb_next.tb_frame
        is_apply = (
            _module_of(frame) == "torch.autograd.function" and frame.f_code.co_name == "apply"
        )
        if not is_apply:
            caller = trace
        elif caller is not None and inner.f_code.co_name == method:
            found = SourceLines().at(CodeLocation(caller.tb_frame.f_code, caller.tb_lasti)).location
        trace = trace.tb_next
    return found


class GradCall(NamedTuple):
    """The arguments of ``torch.autograd.grad``, or of ``torch.autograd.backward``."""

    outputs: tuple[Any, ...]  # the tensors on which it was called
    inputs: tuple[Any, ...]  # the tensors in ``inputs``


def locations_of_error(error: BaseException) -> tuple[SourceLocation, SourceLocation]:
    """The user's line that led to an error, and the line of a library that it called there.

    Returns:
        Both; an empty location for a missing one.
    """
    from gradviz.recording.source_lines import CodeLocation, SourceLines, UserFiles, is_library

    verdicts, places = UserFiles(), [CodeLocation(None, 0), CodeLocation(None, 0)]
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if verdicts[code.co_filename]:
            in_library = is_library(code.co_filename)
            places[in_library] = CodeLocation(code, trace.tb_lasti)
            if not in_library:
                places[1] = CodeLocation(None, 0)
        trace = trace.tb_next
    lines = SourceLines()
    user, library = (lines.at(place).location for place in places)
    return (user, library) if user else (library, user)


def result_of(error: BaseException | None) -> Any:
    """The non-leaf tensor that torch refused: the innermost one in torch's own frames."""
    rows = (held for package, held in _frames(error) if package == "torch")
    found = (held.get(name) for held in rows for name in ("param", "self", "input", "tensor"))
    return next(filter(_is_non_leaf, found), None)


def hooked_by(error: BaseException | None) -> list[Any]:
    """The tensor on which ``register_hook`` or ``retain_grad`` raised; [] for another call."""
    held = variables_of(error) if error is not None else {}
    statement = statement_at(locations_of_error(error)[0]) if held and error else None
    calls = (each for each in nodes_in(statement, ast.Attribute) if each.attr == "retain_grad")
    own = (each.get("self") for each in _variables_in(error, "register_hook"))
    tensors = (*own, *(value_of(each.value, held) for each in calls))
    return [each for each in tensors if hasattr(type(each), "grad_fn")][:1]


def function_of(error: BaseException | None) -> Any:
    """The context of the user's ``Function`` in whose backward the error was raised; or None."""
    held = (each.get("ctx") for package, each in _frames(error) if package != "torch")
    return next((each for each in held if type(each).__name__.endswith("Backward")), None)


def grad_call_of(error: BaseException | None) -> GradCall | None:
    """The arguments of the call of ``torch.autograd.grad`` that raised; None if there is none."""
    for frame in reversed(_frames_of(error)):
        if _module_of(frame) == "torch.autograd" and frame.f_code.co_name == "grad":
            held = _locals_of(frame)
            outputs, inputs = held.get("outputs"), held.get("inputs")
            if outputs is not None and inputs is not None:
                return GradCall(_as_tuple(outputs), _as_tuple(inputs))
    return None


def clipped_by(error: BaseException | None) -> list[Any]:
    """The tensors that ``clip_grad_norm_`` was given when it raised; [] if unknown."""
    given = (_as_tuple(e.get("parameters")) for e in _variables_in(error, "clip_grad_norm_"))
    return [each for each in next(given, ()) if hasattr(type(each), "grad_fn")]


def calls_of(error: BaseException) -> list[tuple[str, str]]:
    """The module and the name of each function, from the innermost outwards."""
    frames = reversed(_frames_of(error))
    return [(_module_of(frame), frame.f_code.co_name) for frame in frames]


def raised_in_backward(error: BaseException) -> bool:
    """Whether a backward pass raised an error."""
    return not {("torch.autograd", "backward"), ("torch.autograd", "grad")}.isdisjoint(
        calls_of(error)
    )


def is_raised_by_autograd(error: BaseException, text: str) -> bool:
    """Whether an error comes out of PyTorch's autograd, or of torch with a text about it."""
    called = [module for module, _ in calls_of(error) if not module.startswith("gradviz.")]
    inner = called[0] if called else ""
    if inner.startswith(("torch.autograd", "torch.utils.checkpoint")):
        return True
    is_torch = inner.startswith("torch.") or not _is_raised_in_python(error)
    return is_torch and is_about_autograd(text)


def _is_raised_in_python(error: BaseException) -> bool:
    """Whether a ``raise`` raised an error, and not a function that is written in C++."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return True
    return trace.tb_frame.f_code.co_code[trace.tb_lasti] == dis.opmap["RAISE_VARARGS"]


def variables_of(error: BaseException) -> dict[str, Any]:
    """The variables of the user's code that raised an error; {} if other code raised it."""
    from gradviz.recording.source_lines import UserFiles

    # The frames of modes are between the user's call and torch.
    frames = [each for each in _frames_of(error) if not _module_of(each).startswith(_MODES)]
    if not frames or not UserFiles()[frames[-1].f_code.co_filename]:
        return {}
    return {**frames[-1].f_globals, **_locals_of(frames[-1])}


def with_names_in(error: BaseException | None, found: Names) -> Names:
    """The names, and after them those in the user's functions that led to an error."""
    from gradviz.capture.tensors.names import Names
    from gradviz.recording.source_lines import UserFiles

    files = UserFiles()
    own = [frame for frame in _frames_of(error) if files[frame.f_code.co_filename]]
    user = own[:-21:-1]  # a recursion has a thousand
    named = (Names.around(frame, outer=user[1:] * (frame is user[0])) for frame in user)
    entries = [each for names in named for each in names.entries]
    return Names([*found.entries, *entries], found.modules)


def variables_around(error: BaseException) -> dict[str, Any]:
    """The variables of the user's function that led to an error, also in code that it called."""
    frames = reversed(_frames_of(error))
    own = (each for each in frames if _module_of(each).partition(".")[0] not in _NOT_OWN)
    frame = next(own, None)
    return {**frame.f_globals, **_locals_of(frame)} if frame is not None else {}


def value_of(code: ast.expr, held: Mapping[str, Any]) -> Any:
    """The value of a name, an attribute or an item, or `UNKNOWN`; no code of the user's runs."""
    if isinstance(code, ast.Name):
        return held.get(code.id, UNKNOWN)
    if isinstance(code, ast.Subscript):
        return _item_of(value_of(code.value, held), _index(code.slice, held))
    if not isinstance(code, ast.Attribute) or (owner := value_of(code.value, held)) is UNKNOWN:
        return UNKNOWN
    if code.attr == "grad" and hasattr(type(owner), "grad_fn"):
        return gradient_of(owner)
    own = getattr(owner, "__dict__", {})
    for table in ("_parameters", "_buffers", "_modules"):  # of a module
        if code.attr in own.get(table, ()):
            return own[table][code.attr]
    found = inspect.getattr_static(owner, code.attr, UNKNOWN)
    return UNKNOWN if hasattr(type(found), "__get__") else found


def gradient_of(tensor: Any) -> Any:
    """``.grad``, without the warning that torch gives for a non-leaf tensor."""
    return tensor.grad if tensor.is_leaf or tensor.retains_grad else None


def _index(code: ast.expr, held: Mapping[str, Any]) -> Any:
    if isinstance(code, ast.UnaryOp) and isinstance(code.op, ast.USub):
        number = _index(code.operand, held)
        return -number if type(number) is int else UNKNOWN
    return code.value if isinstance(code, ast.Constant) else value_of(code, held)


def _item_of(owner: Any, index: Any) -> Any:
    get = getattr(type(owner), "__getitem__", None)
    if getattr(get, "__module__", "") == "torch.nn.modules.container":
        entries = {**owner._parameters, **owner._modules}
        owner = list(entries.values()) if type(index) is int else entries
    if type(owner) not in (list, tuple, dict) or type(index) not in (int, str):
        return UNKNOWN
    try:
        return owner[index]
    except LookupError:
        return UNKNOWN


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def _is_non_leaf(value: Any) -> bool:
    # Check the class: an object of the user's may return a value for any attribute.
    return hasattr(type(value), "grad_fn") and getattr(value, "grad_fn", None) is not None


def _frames(error: BaseException | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each frame from the innermost outwards: its package, and its variables."""
    for frame in reversed(_frames_of(error)):
        yield _module_of(frame).partition(".")[0], _locals_of(frame)


def _frames_of(error: BaseException | None) -> list[FrameType]:
    """The frames of the traceback, the innermost last."""
    trace = error.__traceback__ if error is not None else None
    return [frame for frame, _ in walk_tb(trace)]


def _variables_in(error: BaseException | None, name: str) -> Iterator[dict[str, Any]]:
    return (_locals_of(each) for each in _frames_of(error) if each.f_code.co_name == name)


def _locals_of(frame: FrameType) -> dict[str, Any]:
    from gradviz.capture.tensors.names import locals_of

    return locals_of(frame)


def _module_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


Why = Callable[..., Explanation]

_NOWHERE = SourceLocation()


class ResultOrigin(NamedTuple):
    """The known origin of a non-leaf tensor."""

    name: str = ""  # its name
    op: str = ""  # the operation that created it
    location: SourceLocation = SourceLocation()  # the line of that operation
    key: str = ""  # of that operation in the frames


@dataclass(frozen=True, eq=False)
class ErrorContext:
    """An error to explain: the subject of the rules about errors."""

    name: str  # its class: ``"RuntimeError"``
    text: str  # its whole message
    location: SourceLocation  # the user's line that led to it
    library: SourceLocation = _NOWHERE  # the line of a library, called there, that led to it
    problem: Problem | None = None  # the node at which backward failed, if recorded
    is_backward: bool = False  # whether a backward pass raised it
    # the question: tensors, modules, the recording, the exception
    asked: Asked = field(default_factory=Asked)
    names: Names | None = None  # the names of tensors
    called: Mapping[int, str] = field(default_factory=dict)  # the first name of each, by its ``id``
    why: Why | None = None  # explains why a tensor has no gradient
    key: str = ""  # "": it has no node of its own
    group: Group = Group.ERROR  # the verdicts that can apply
    kind: None = None  # None: it is no tensor

    @cached_property
    def read(self) -> TorchMessage:
        """The parsed message; without a kind if it is none of PyTorch's."""
        return read_message(self.text) or TorchMessage()

    @property
    def error(self) -> BaseException | None:
        """The exception, if it was passed."""
        return self.asked.error

    @property
    def at(self) -> str:
        """``" at train.py:12 (loss.backward())"``, or ""."""
        return f" at {mention(self.location, self.library)}" if self.location else ""

    @property
    def constant(self) -> str:
        """The first named input of ``torch.autograd.grad`` that does not require grad, or ""."""
        inputs = call.inputs if (call := grad_call_of(self.error)) else ()
        names = (self.called.get(id(e), "") for e in inputs if not getattr(e, "requires_grad", 1))
        return next(filter(None, names), "")

    def as_input(self, number: int, tensor: Any) -> str:
        """``"noise (inputs[0])"``, or the operation that an unnamed input is the result of."""
        made = "" if tensor.is_leaf else f"the result of {forward_word(tensor.grad_fn.name())}"
        name = self.called.get(id(tensor), made)
        return f"{name} (inputs[{number}])" if name else f"inputs[{number}]"

    def whole_of(self, tensor: Any) -> str:
        """The name of the tensor that another is a view of; "" for none."""
        from gradviz.capture.autograd.tensors import base_of as whole

        return self.called.get(id(whole(tensor)), "") if whole(tensor) is not tensor else ""

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
        lines = (*locations, self.location, self.library)
        values = {"at": self.at, **vars(self.read), **(words or {}), **more}
        return Evidence(values, tuple(nodes), lines, culprit)


def original_of(error: ErrorContext) -> str:
    """How to freeze ``conv.weight``, of which the line sets an attribute, if it is computed."""
    statement = statement_at(error.location)
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    for code in (each.value for each in targets if isinstance(each, ast.Attribute)):
        if error.error is None or not isinstance(code, ast.Attribute):
            return ""
        kept = value_of(code.value, variables_of(error.error))
        kept = getattr(kept, "_modules", {}).get("parametrizations")
        if code.attr in getattr(kept, "_modules", ()):
            own = f"{ast.unparse(code.value)}.parametrizations.{code.attr}"
            return f"freeze what it is computed from: {own}.requires_grad_(False)"
    return ""


def unused_by_ddp(error: ErrorContext) -> tuple[str, str]:
    """For whose gradients ``DistributedDataParallel`` waits; ``"frozen"`` or ``"replaced"``."""
    from gradviz.capture.autograd.sharded import data_parallel_modules, reduced

    indices = error.read.indices  # among those that required grad when it was created
    alive = [module for ref in data_parallel_modules() if (module := ref()) is not None]
    alone = alive[0] if len(alive) == 1 else None
    held = (each.get("self") for _, each in _frames(error.error))
    parallel = next((x for x in held if type(x).__name__ == "DistributedDataParallel"), alone)
    every = reduced(parallel) if parallel is not None else []
    if parallel is None or not indices or max(indices) >= len(every):
        numbers = f"numbers {joined([*map(str, indices)])} of those that required grad"
        return numbers * bool(indices), ""
    named, ids = {id(p): n for n, p in parallel.module.named_parameters()}, {*map(id, every)}
    newer = (name for key, name in named.items() if key not in ids)
    waits = [every[index] for index in indices]
    names = joined([named.get(id(each)) or next(newer, "another") for each in waits])
    change = "frozen" * (not any(each.requires_grad for each in waits))
    return names, change if any(id(each) in named for each in waits) else "replaced"


def listed_in(code: ast.expr, held: dict[str, Any]) -> tuple[str, list[Any]]:
    """What a loop is over, as code and as a list; of a dict its values."""
    if isinstance(code, ast.Call) and isinstance(code.func, ast.Attribute):
        code = code.func.value  # grads.values()
    value = value_of(code, held)
    if type(held.get(".0")).__name__ in ("list_iterator", "tuple_iterator"):
        value = held[".0"].__reduce__()[1][0]  # of a generator, which has no other name for it
    rows = list(value.values()) if type(value) is dict else value
    return ast.unparse(code), list(rows) if isinstance(rows, (list, tuple)) else []


def leaves_of(rows: list[Any], leaves: list[Any], is_returned: bool) -> list[Any]:
    """The leaves, in order, whose gradients are in a list; [] if unknown."""
    starts, found = range(len(leaves) - len(rows) + 1), list[list[Any]]()
    for part in (leaves[start : start + len(rows)] for start in starts):
        pairs = zip(rows, part, strict=True)
        if is_returned:
            is_it = all(e is None or getattr(e, "shape", None) == leaf.shape for e, leaf in pairs)
        else:
            is_it = all(each is gradient_of(leaf) for each, leaf in pairs)
        found += [part] * is_it
    return found[0] if len(found) == 1 else []
