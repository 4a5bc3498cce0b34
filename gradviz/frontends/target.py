"""Find the tensor of a target such as ``train.py:loss``, or the error that says why not."""

from __future__ import annotations

import ast
import contextlib
import inspect
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gradviz.errors import ScriptError, TargetError, UsageError
from gradviz.frontends.files import stage
from gradviz.frontends.option_values import Extent
from gradviz.frontends.program import (
    ProgramRun,
    Reached,
    Watch,
    Within,
    executable,
    leave_fork,
    report_of_exit,
    run_main_module,
    run_module,
    run_script,
    source_of_module,
)
from gradviz.frontends.variables import Search, Variable, Variables, did_you_mean, evaluated
from gradviz.graph import GradGraph
from gradviz.graph.text import counted, joined, listed, shape_text
from gradviz.story import Frame, Story, recorded_in

_FILE = re.compile(r"(?P<place>.*?\.(?:py|json))(?::(?P<names>.*))?", re.IGNORECASE | re.DOTALL)
_TARGETS = "a target is like train.py:loss, package.module:loss or graph.json"
_MODULES = "torch.nn.modules.module"
_VERBS = {"memory": "list", "summary": "sum up"}  # the verbs of commands that are not verbs
_CHILDREN = 0.2  # seconds of CPU that child processes used, if some of them are the program's
_ALLOWED = (
    "a name is like loss, main.loss, out['logits'] or losses[0], or a line like 44; several: "
    "loss,aux"
)


@dataclass(frozen=True)
class Target:
    """The parsed target of a command."""

    place: str  # a script (``train.py``), a saved graph (``graph.json``) or a module's dotted name
    names: tuple[str, ...] = ()  # the variables in it, as written in Python
    command: str = field(default="draw", repr=False, compare=False)  # the command, for messages
    is_main: bool = field(default=False, repr=False)  # run a module as ``python -m`` does

    @property
    def is_saved(self) -> bool:
        """Whether it is a saved graph, for which no program is run."""
        return self.place.lower().endswith(".json")

    @property
    def is_script(self) -> bool:
        """Whether it is a file of Python source."""
        return self.place.lower().endswith(".py") and not self.is_main

    @property
    def is_file(self) -> bool:
        """Whether it is the path of a file."""
        return self.is_script or self.is_saved

    def typed(self, name: str = "") -> str:
        """The target as the user types it, or with one of its variables."""
        place = f"-m {self.place}" if self.is_main else self.place
        target = f"{place}:{name}" if name else place
        # The other target of a comparison is unknown here.
        return target if self.command == "compare" else f"gradviz {self.command} {target}"


@dataclass(frozen=True)
class Loaded:
    """The values of a target."""

    names: tuple[str, ...]  # the names in the target
    values: tuple[Any, ...]  # one per name
    run: ProgramRun  # the program; it keeps the module, and its tensors, alive
    failure: str | None = None  # how the program failed after the values were assigned, or None
    # their graph at the time when they were found; None to trace them at the end
    story: GradGraph | Frame | Story | None = None
    # all variables of the program at that time, by name
    variables: Mapping[str, Any] = field(default_factory=dict)
    ended: str = ""  # how far the program ran: ``"stopped after backward 1 (train.py:13)"``
    before: GradGraph | None = None  # their graph before the backward pass, if that was asked for

    def traced(self) -> GradGraph | Frame | Story:
        """The graph of the values; a graph or story is returned as it is.

        Raises:
            SubjectError: if autograd recorded nothing about a value.
        """
        if self.story is not None:
            return self.story
        return traced(self.names, self.values, self.run.namespace)


def traced(
    names: Sequence[str], values: Sequence[Any], variables: Mapping[str, Any]
) -> GradGraph | Frame | Story:
    """The graph of values of a program; a graph or story is returned as it is.

    Args:
        names: the requested names.
        values: one per name.
        variables: of the program, which give other tensors their names.

    Raises:
        SubjectError: if there is nothing in a value that autograd could have recorded.
    """
    if len(values) == 1 and (story := recorded_in(values[0])) is not None:
        return story
    # Only now: they need torch, which a saved graph does without.
    from gradviz.capture.tensors.names import Names
    from gradviz.capture.tracer import trace_subjects

    # A requested value has the requested name, even if it has other names.
    others = {
        name: value
        for name, value in variables.items()
        if not names or not any(value is asked for asked in values)
    }
    asked = dict(zip(names, values, strict=True)) if names else {}
    return trace_subjects(tuple(values), Names.of_namespace(others | asked))


def parse_target(text: str, command: str = "draw", is_main: bool = False) -> Target:
    r"""Split a target into a place and names.

    Args:
        text: ``train.py:loss``, ``train.py:out['logits'],aux``, ``package.module:loss`` or
            ``graph.json``.
        command: the command.
        is_main: whether ``-m`` precedes it.

    Raises:
        TargetError: if it has no place, or a name contains more than names, ``.attributes`` and
            ``[constants]``.

    Example:
        >>> parse_target("train.py:model.loss,aux")
        Target(place='train.py', names=('model.loss', 'aux'))
        >>> parse_target(r"C:\x.py:loss")
        Target(place='C:\\x.py', names=('loss',))
    """
    if not is_main and (found := _FILE.fullmatch(text)):
        place, names = found["place"], found["names"]
    else:
        place, _, names = text.partition(":")
    if not place:
        raise TargetError(f"{text!r} names no script: {_TARGETS}")
    target = Target(place, (), command, is_main)
    if target.is_saved and names and command != "explain":
        raise TargetError(f"{place} is a saved graph and is taken whole: {target.typed()}")
    if target.is_saved and names:  # those of tensors: encoder.0.weight
        return replace(target, names=tuple(name.strip() for name in names.split(",")))
    return replace(target, names=parse_names(names, text) if names else ())


def parse_names(names: str, text: str = "") -> tuple[str, ...]:
    """The names in ``loss, out['logits']``; ``text`` is the whole target, for messages.

    Raises:
        TargetError: if one of them contains more than names, ``.attributes`` and ``[constants]``.

    Example:
        >>> parse_names("loss, out['logits']")
        ('loss', "out['logits']")
    """
    text = text or names
    try:
        parsed = ast.parse(f"({names},)", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise TargetError(f"cannot read the name {names!r} in {text!r}: {_ALLOWED}") from error
    if not isinstance(parsed, ast.Tuple) or not all(
        _is_plain(part) or _is_line(part) for part in parsed.elts
    ):
        raise TargetError(
            f"cannot take {names!r} in {text!r}: {_ALLOWED}. Assign anything else to a name first"
        )
    return tuple(ast.unparse(part) for part in parsed.elts)


def _is_line(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is int and node.value > 0


def _is_plain(node: ast.expr) -> bool:
    while not isinstance(node, ast.Name):
        if isinstance(node, ast.Subscript):
            try:
                ast.literal_eval(node.slice)
            except (ValueError, TypeError):
                return False
        elif not isinstance(node, ast.Attribute):
            return False
        node = node.value
    return True


def load_target(
    target: Target,
    argv: Sequence[str] = (),
    watch: Watch | None = None,
    extent: Extent | None = None,
    trace: bool = True,
) -> Loaded:
    """Run the program and get the values from it.

    Args:
        target: a script, module or command, with the names; without names, the root of the last
            backward pass of its first step.
        argv: the program's own arguments.
        watch: creates the recording.
        extent: how far it runs.
        trace: trace the values when they are found.

    Returns:
        The values, even if the program failed after they were assigned.

    Raises:
        TargetError: if the file, the module or a name does not exist.
        ScriptError: if the program stopped before the names were assigned.
        KeyboardInterrupt: if the program was interrupted; to explain, before a backward pass ended.
    """
    extent = extent or Extent()
    wanted, call = _wanted(target)
    shown = [each.expression for each in wanted]
    tracing = (lambda values, seen: traced(shown, values, seen)) if trace else None
    watch = watch or Watch()
    watch.search = lambda: Search(wanted, tracing, extent)
    with stage(f"running {target.place}", spinner=False, passes=lambda: watch.passes):
        run = run_program(target, argv, watch, call)
    search, _ = watch.chosen
    if target.command != "explain" or search.found is None:
        run.unless_interrupted()
    leave_fork(run)
    if search.stopped:  # what a program does with the exception that ends it is no failure of it
        run = replace(run, failed=False)
    asked = tuple(each.asked if each.scope else each.expression for each in wanted)
    loaded = _found(replace(target, names=asked), run, search)
    ended = "\ngradviz: ".join(filter(None, (loaded.ended, watch.about)))
    return replace(loaded, ended=ended)


def _wanted(target: Target) -> tuple[tuple[Variable, ...], str]:
    """The requested variables, and the function of a module that is called instead."""
    known = _variables(target)
    if known is None:
        return tuple(Variable(name, name) for name in target.names), ""
    if not target.is_script and not target.is_main and len(target.names) == 1:
        (name,) = target.names
        if name in [scope.path for scope in known.scopes]:
            return (), name
    return tuple(known.find(name, target.typed) for name in target.names), ""


def _variables(target: Target) -> Variables | None:
    source = _source_of(target)
    try:
        return Variables(Path(source).read_bytes(), target.place) if source else None
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None  # running it reports that


def _source_of(target: Target) -> str:
    if target.is_script:
        check_file(target.place)
        return target.place
    if found := _command(target):
        return found
    _check_module(target.place)
    source = source_of_module(target.place)
    if target.is_main and source.endswith("__init__.py"):
        return source_of_module(f"{target.place}.__main__")
    return source


def _command(target: Target) -> str:
    """The file of a command, on PATH or given with its folder; "" for other programs."""
    if target.is_main or target.is_file or (target.names and target.place.isidentifier()):
        return ""
    has_folder = bool(os.path.dirname(target.place))  # noqa: PTH120
    return executable(target.place) if has_folder or "." not in target.place else ""


def run_program(
    target: Target, argv: Sequence[str] = (), within: Within = None, call: str = "", until: str = ""
) -> ProgramRun:
    """Run a program as Python would: a script, a module, or a command on PATH.

    Args:
        target: the program.
        argv: its own arguments.
        within: as for `run_script`.
        call: a function of a module that is called after its import.
        until: as for `run_script`; for a script only.

    Raises:
        TargetError: if there is no such program.
        ScriptError: if it is not valid Python.
    """
    # Nothing is written by the command run, so that os._exit loses nothing.
    ends = contextlib.nullcontext() if target.command == "run" else report_of_exit(target.place)
    with ends:
        if target.is_main:
            _check_module(target.place)
            return run_main_module(target.place, argv, within)
        if target.is_script:
            check_file(target.place)
            return run_script(target.place, argv, within, until)
        if not call and (found := _command(target)):
            return run_script(found, argv, within)
        _check_module(target.place)
        return run_module(target.place, argv, within, call)


def start_program(target: Target, argv: Sequence[str], watch: Watch) -> ProgramRun:
    """Run a whole program; of ``package.cli:main`` the function is called after the import.

    Args:
        target: the program.
        argv: its own arguments.
        watch: creates the recording.
    """
    wanted, call = _wanted(target)
    if wanted:
        raise TargetError(
            f"{target.command} runs a whole program, and {wanted[0].asked} is no function of a "
            f"module: gradviz {target.command} {target.place}"
        )
    return run_program(target, argv, watch, call)


def record_program(
    target: Target, argv: Sequence[str], watch: Watch, until: str, step: int | None
) -> tuple[ProgramRun, str, bool]:
    """Run a program within a recording.

    Args:
        target: the program.
        argv: its own arguments.
        watch: creates the recording.
        until: end it when this variable has a value; "" for none.
        step: end it after the backward pass with this number; None for none.

    Returns:
        The run, a line about where it ended or "", and whether it got as far as was asked.
    """
    if not until and step is None:
        run = start_program(target, argv, watch)
        leave_fork(run)
        return run, "", True
    call = "" if target.is_script or target.is_main else _wanted(target)[1]
    wanted, _ = _wanted(replace(target, names=parse_names(until) if until else ()))
    is_top = not any(each.scope for each in wanted)
    if wanted and is_top and not until.isidentifier():
        raise UsageError(f"--until must be the name of a variable, like loss, got {until!r}")
    if wanted and is_top and target.is_script and step is None:
        run = run_program(target, argv, watch, until=until)
        leave_fork(run)
        is_reached = until in run.namespace or run.failed
        said = f"Warning: {target.place} gave {until} no value; recorded to its end"
        return run, "" if is_reached else said, is_reached
    watch.search = lambda: Search(wanted, None, Extent(step, ready=bool(until)))
    run = run_program(target, argv, watch, call)
    search, _ = watch.chosen
    leave_fork(run)
    if search.stopped and search.found:
        run = replace(run, failed=False)
        return run, f"gradviz: {_ended(target, run, search)}", True
    passes = f"ran backward {counted(search.passes, 'time')}, and --step asks for pass {step}"
    what = f"gave {until} no value" if until else passes
    said = "" if run.failed else f"Warning: {target.place} {what}; recorded to its end"
    return run, said, run.failed


def _found(target: Target, run: ProgramRun, search: Search) -> Loaded:
    """The values that the search found, or else those at the end of the program."""
    found = search.found
    is_local = any(each.scope for each in search.wanted)
    if found is None or (target.names and not is_local and not search.is_bound):
        if not run.ending and search.passes < (search.extent.step or 0):
            ran = f"{target.place} ran backward {counted(search.passes, 'time')}"
            raise TargetError(f"{ran}, and --step asks for pass {search.extent.step}")
        if is_local and not run.ending:
            raise TargetError(_never_seen(target, search))
        if target.command == "explain" and not target.names and not run.failed:
            return Loaded((), (), run, variables=run.namespace)
        loaded = values_of(target, run, search.passes)
        return replace(loaded, before=search.graph_before(loaded.values))
    later = ", so later steps are not in the answer" if target.command == "explain" else ""
    ended = _ended(target, run, search) if search.stopped else ""
    more = f"{later}; --full runs it to its end" if ended.startswith("stopped") else ""
    failure = f"{target.place} failed afterwards: {run.ending}" if run.failed else None
    facts = (found.story, found.variables, ended + more, found.before)
    return Loaded(target.names, found.values, run, failure, *facts)


def _ended(target: Target, run: ProgramRun, search: Search) -> str:
    """Where a program was stopped."""
    where = search.found.where if search.found else ""
    if isinstance(run.error, Reached) or not isinstance(search.ending, Reached):
        return f"stopped after {where}"
    to = f", and {run.ending}" if run.ending else ", to its end"
    return f"{target.place} catches SystemExit: it ran on after {where}{to}"


def _never_seen(target: Target, search: Search) -> str:
    if search.refusal:
        return f"{target.place}:{','.join(target.names)}: {search.refusal}"
    scopes = [each.scope for each in search.wanted if each.scope]
    places = [f"{each.path} ({target.place}:{each.first})" for each in scopes]
    names, where = joined(target.names, len(target.names)), joined(places, len(places))
    ended = f"{target.place} ran to its end, and {names} never had a value in {where}"
    return f"{ended}: the function was not called, or ended before"


def values_of(target: Target, run: ProgramRun, passes: int = 0) -> Loaded:
    """The values of the names of a target in a program that has run.

    Raises:
        TargetError: if a name does not exist, or there is none in the target.
        ScriptError: if the program stopped before the names were assigned.
    """
    if not target.names:
        raise no_name(target, run, passes) from run.error
    values = tuple(_take(target, name, run) for name in target.names)
    failure = None
    if run.failed:
        names = joined(target.names, len(target.names))
        failure = f"{target.place} failed after it had set {names}: {run.ending}"
    return Loaded(target.names, values, run, failure)


def check_file(place: str) -> None:
    """Raise a `TargetError` with a hint if there is no such file."""
    path = Path(place)
    if path.is_dir():
        raise TargetError(f"{place} is a folder; give a script in it: {path / 'train.py'}")
    if path.exists():
        return
    if not path.parent.is_dir():
        raise TargetError(f"there is no file {place}: the folder {path.parent} does not exist")
    near = did_you_mean(path.name, (p.name for p in path.parent.glob(f"*{path.suffix}")))
    raise TargetError(f"there is no file {place}{near}")


def _check_module(place: str) -> None:
    if Path(place).exists() and not Path(place).is_dir():
        if place.endswith(".py"):
            raise TargetError(f"-m takes the name of a module, got the file {place}: leave out -m")
        said = f"{place} is no Python file: a script ends in .py, a saved graph in .json"
        more = "; in a notebook, write gradviz.draw(loss) in a cell"
        raise TargetError(said + more * place.endswith(".ipynb"))
    if all(part.isidentifier() for part in place.split(".")):
        return
    if Path(place).is_dir():
        raise TargetError(f"{place} is a folder; give a script in it: {Path(place, 'train.py')}")
    raise TargetError(f"there is no file {place}, and no command on PATH; {_TARGETS}")


def _take(target: Target, name: str, run: ProgramRun) -> Any:
    """The value of one name, or an error with the reason."""
    try:
        return evaluated(name, run.namespace)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a property may raise any error
        if run.ending:
            said = f"{target.place} did not get as far as {name}: {run.ending}"
            raise ScriptError(said) from run.error
        raise TargetError(_why_missing(target, name, run, error)) from error


def _why_missing(target: Target, name: str, run: ProgramRun, error: BaseException) -> str:
    first = re.split(r"[.\[]", name, maxsplit=1)[0]
    if first in run.namespace:
        said = " ".join(str(error).split())[:200] or "it failed"
        near = did_you_mean(getattr(error, "name", "") or "", dir(getattr(error, "obj", "")))
        kind = f"({first} is of type {type(run.namespace[first]).__name__}){near}"
        return f"cannot read {name} in {target.place}: {type(error).__name__}: {said} {kind}"
    near = did_you_mean(first, (key for key in run.namespace if not key.startswith("_")))
    return f"{target.place} has no {first}{near or _there(target, run, 0)}"


def no_name(target: Target, run: ProgramRun, passes: int = 0) -> TargetError | ScriptError:
    """The error that a target without a name has no value."""
    if run.failed:
        again = f"; try: gradviz {target.command} -m IPython -- {target.place}"
        hint = again if "name 'get_ipython' is not defined" in run.ending else ""
        return ScriptError(f"{target.place} failed: {run.ending}{hint}")
    verb = _VERBS.get(target.command, target.command)
    start = "say what of" if any(_likely(target, run)) else "there is nothing in"
    return TargetError(f"{start} {target.place} to {verb}{_there(target, run, passes)}")


def _likely(target: Target, run: ProgramRun) -> tuple[list[str], list[str]]:
    """The modules at top level, for a command that accepts them, and the tensors."""
    from gradviz.capture.autograd.tensors import is_unsure

    public = {name: value for name, value in run.namespace.items() if name[:1] != "_"}
    tensors = {name: each for name, each in public.items() if _is_a(each, "torch", "Tensor")}
    modules = [name for name, each in public.items() if _is_a(each, _MODULES, "Module")]
    # Tensors with a grad_fn are the likely targets, and the last of them is usually the loss.
    leaves = {n for n, each in tensors.items() if not is_unsure(each) and each.grad_fn is None}
    order = list(tensors)[::-1]
    order.sort(key=leaves.__contains__)
    return modules if target.command == "explain" else [], order


def _there(target: Target, run: ProgramRun, passes: int) -> str:
    """``": it defines the tensors ...; try: gradviz draw train.py:loss"``."""
    (modules, order), values = _likely(target, run), run.namespace
    said = [
        _some("the modules", [f"{name} {type(values[name]).__name__}" for name in modules]),
        _some("the tensors", [f"{name} {_shape(values[name])}" for name in order]),
    ]
    if not (order or modules):
        return f": it defines no tensors at top level{_not_called(target, values, passes)}"
    contents = ", and ".join(filter(None, said))
    return f": it defines {contents}; try: {target.typed([*modules, *order][0])}"


def _not_called(target: Target, values: Mapping[str, object], passes: int) -> str:
    """What is known of a program without values: functions that it has not called here."""
    known = _variables(target)
    scopes = known.scopes[1:] if known else []
    waiting = [scope.path for scope in scopes if scope.has_backward]
    has_children = not passes and sum(os.times()[2:4]) > _CHILDREN
    others = "; processes that it starts are not followed" if has_children else ""
    if not waiting or passes:
        names = [f"{scope.path}.{name}" for scope in scopes for name in scope.names]
        found = _some("; variables of its functions are", names[::-1])
        return others or (f"{found}; try: {target.typed(names[-1])}" if found else "")
    said = f", and {joined(waiting[:3])} ran no backward pass in this process{others}"
    module = Path(target.place).stem if target.is_script else target.place
    for path in waiting:
        with contextlib.suppress(TypeError, ValueError):  # not a function, or none at top level
            inspect.signature(values[path]).bind()  # type: ignore[arg-type]
            return f"{said}; to call {path}: gradviz {target.command} {module}:{path}"
    return said


def _some(kind: str, things: list[str]) -> str:
    return f"{kind} {listed(things, 8)}" if things else ""


def _is_a(value: object, home: str, name: str) -> bool:
    """Whether it is a tensor, or a module; checked by class names, as torch may be missing."""
    return any(kind.__name__ == name and kind.__module__ == home for kind in type(value).__mro__)


def _shape(tensor: Any) -> str:
    try:
        return shape_text(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
    except (TypeError, RuntimeError):  # a nested tensor has no single shape
        return "tensor"
