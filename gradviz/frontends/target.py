"""Finding what to draw: from ``train.py:loss`` to the tensor, or to a clear line saying why not."""

from __future__ import annotations

import ast
import contextlib
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gradviz.errors import ScriptError, TargetError
from gradviz.frontends.program import ProgramRun, leave_fork, run_module, run_script
from gradviz.graph import GradGraph
from gradviz.graph.text import shape_text
from gradviz.story import Frame, Story, recorded_in

__all__ = [
    "Loaded",
    "Target",
    "check_file",
    "load_target",
    "parse_names",
    "parse_target",
    "values_of",
]

_FILE = re.compile(r"(?P<place>.*?\.(?:py|json))(?::(?P<names>.*))?", re.IGNORECASE | re.DOTALL)
_TARGETS = "a target is like train.py:loss, package.module:loss or graph.json"
_MODULES = "torch.nn.modules.module"
_VERBS = {"memory": "list", "summary": "sum up"}  # of those commands that are no verbs
_ALLOWED = "a name is like loss, model.loss, out['logits'] or losses[0]; several: loss,aux"


@dataclass(frozen=True)
class Target:
    """What was asked for.

    Args:
        place: a script (``train.py``), a saved graph (``graph.json``) or a module's dotted name.
        names: the variables in it, each as it is written in Python.
        command: which one asks for it; for what is said when there is no such thing.
    """

    place: str
    names: tuple[str, ...] = ()
    command: str = field(default="draw", repr=False, compare=False)

    @property
    def is_saved(self) -> bool:
        """Whether it is a saved graph, which needs no program to be run."""
        return self.place.lower().endswith(".json")

    @property
    def is_script(self) -> bool:
        """Whether it is a file of Python source."""
        return self.place.lower().endswith(".py")

    def typed(self, name: str = "") -> str:
        """What a user types to have it, or one of its variables."""
        target = f"{self.place}:{name}" if name else self.place
        # Of the two that are compared, the other one is not known here.
        return target if self.command == "compare" else f"gradviz {self.command} {target}"


@dataclass(frozen=True)
class Loaded:
    """What was found.

    Args:
        names: what was asked for.
        values: one per name.
        run: the program; it keeps the module, and with it the tensors, alive.
        failure: how the program failed after the values were there, or None.
    """

    names: tuple[str, ...]
    values: tuple[Any, ...]
    run: ProgramRun
    failure: str | None = None

    def traced(self) -> GradGraph | Frame | Story:
        """What autograd recorded for the values; a graph or story is taken as it is.

        Raises:
            SubjectError: if there is nothing in a value that autograd could have recorded.
        """
        if len(self.values) == 1 and (story := recorded_in(self.values[0])) is not None:
            return story
        # Only now: they need torch, which a saved graph does without.
        from gradviz.capture.tensors.names import Names
        from gradviz.capture.tracing.tracer import trace_subjects

        # What was asked for is called as it was asked for, whatever else it is called.
        others = {
            name: value
            for name, value in self.run.namespace.items()
            if not any(value is asked for asked in self.values)
        }
        asked = dict(zip(self.names, self.values, strict=True))
        return trace_subjects(self.values, Names.of_namespace(others | asked))


def parse_target(text: str, command: str = "draw") -> Target:
    r"""Split a target into a place and names.

    Args:
        text: ``train.py:loss``, ``train.py:out['logits'],aux``, ``package.module:loss`` or
            ``graph.json``.
        command: which one asks for it.

    Raises:
        TargetError: if there is no place in it, or a name is more than names, ``.attributes`` and
            ``[constants]``.

    Example:
        >>> parse_target("train.py:model.loss,aux")
        Target(place='train.py', names=('model.loss', 'aux'))
        >>> parse_target(r"C:\x.py:loss")
        Target(place='C:\\x.py', names=('loss',))
    """
    if found := _FILE.fullmatch(text):
        place, names = found["place"], found["names"]
    else:
        place, _, names = text.partition(":")
    if not place:
        raise TargetError(f"{text!r} names no script: {_TARGETS}")
    target = Target(place, parse_names(names, text) if names else (), command)
    if target.is_saved and target.names and command != "explain":  # which takes none at all
        raise TargetError(f"{place} is a saved graph and is taken whole: {target.typed()}")
    return target


def parse_names(names: str, text: str = "") -> tuple[str, ...]:
    """The names in ``loss, out['logits']``, of which ``text``, for messages, is the whole.

    Raises:
        TargetError: if one of them is more than names, ``.attributes`` and ``[constants]``.

    Example:
        >>> parse_names("loss, out['logits']")
        ('loss', "out['logits']")
    """
    text = text or names
    try:
        parsed = ast.parse(f"({names},)", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise TargetError(f"cannot read the name {names!r} in {text!r}: {_ALLOWED}") from error
    if not isinstance(parsed, ast.Tuple) or not all(map(_is_plain, parsed.elts)):
        raise TargetError(
            f"cannot take {names!r} in {text!r}: {_ALLOWED}. Assign anything else to a name first"
        )
    return tuple(ast.unparse(part) for part in parsed.elts)


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
    within: contextlib.AbstractContextManager[Any] | None = None,
) -> Loaded:
    """Run the program and take the values out of it.

    Args:
        target: a script or module, with the names to take.
        argv: the program's own arguments.
        within: entered before its first line, and left after its last.

    Returns:
        The values, also when the program failed after they were there.

    Raises:
        TargetError: if the file, the module or a name is not there.
        ScriptError: if the program stopped before the names were there.
        KeyboardInterrupt: as it came.
    """
    if target.is_script:
        check_file(target.place)
        run = run_script(target.place, argv, within)
    else:
        _check_module(target.place)
        with within or contextlib.nullcontext():
            run = run_module(target.place, argv)
    leave_fork(run)
    return values_of(target, run)


def values_of(target: Target, run: ProgramRun) -> Loaded:
    """What a program that has run gave to the names of a target.

    Raises:
        TargetError: if a name is not there, or none is asked for.
        ScriptError: if the program stopped before the names were there.
    """
    if not target.names:
        raise _no_name(target, run) from run.error
    values = tuple(_take(target, name, run) for name in target.names)
    failure = None
    if run.failed:
        failure = f"{target.place} failed after it had set {_listed(target.names)}: {run.ending}"
    return Loaded(target.names, values, run, failure)


def check_file(place: str) -> None:
    """Raise a `TargetError` that helps on when there is no such file."""
    path = Path(place)
    if path.is_dir():
        raise TargetError(f"{place} is a folder; give a script in it: {path / 'train.py'}:loss")
    if path.exists():
        return
    if not path.parent.is_dir():
        raise TargetError(f"there is no file {place}: the folder {path.parent} does not exist")
    near = _close(path.name, (p.name for p in path.parent.glob(f"*{path.suffix}")))
    raise TargetError(f"there is no file {place}{near}")


def _check_module(place: str) -> None:
    if Path(place).is_file():
        more = ""
        if place.endswith(".ipynb"):
            more = "; in a notebook, write gradviz.draw(loss) in a cell"
        raise TargetError(
            f"{place} is no Python file: a script ends in .py, a saved graph in .json{more}"
        )
    if all(part.isidentifier() for part in place.split(".")):
        return
    if Path(place).is_dir():
        raise TargetError(f"{place} is a folder; give a script in it: {Path(place, 'train.py')}")
    raise TargetError(f"there is no file {place}; {_TARGETS}")


def _take(target: Target, name: str, run: ProgramRun) -> Any:
    """The value of one name, or the error that says why there is none."""
    try:
        return _value(ast.parse(name, mode="eval").body, run.namespace)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a property may raise anything
        if run.ending:
            said = f"{target.place} did not get as far as {name}: {run.ending}"
            raise ScriptError(said) from run.error
        raise TargetError(_why_missing(target, name, run, error)) from error


def _value(node: ast.expr, namespace: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Name):
        return namespace[node.id]
    if isinstance(node, ast.Attribute):
        return getattr(_value(node.value, namespace), node.attr)
    assert isinstance(node, ast.Subscript)
    return _value(node.value, namespace)[ast.literal_eval(node.slice)]


def _why_missing(target: Target, name: str, run: ProgramRun, error: BaseException) -> str:
    first = re.split(r"[.\[]", name, maxsplit=1)[0]
    if first in run.namespace:
        said = " ".join(str(error).split())[:200] or "it failed"
        kind = f"{first} is of type {type(run.namespace[first]).__name__}"
        return f"cannot read {name} in {target.place}: {type(error).__name__}: {said} ({kind})"
    place = getattr(run.module, "__file__", None)
    if place and (inside := _local_in(place, first)):
        function, line = inside
        return (
            f"{first} is a variable inside {function}() ({Path(place).name}:{line}): only "
            "top-level names are found; return it and assign it at top level"
        )
    public = [key for key in run.namespace if not key.startswith("_")]
    near = _close(first, public)
    return f"{target.place} has no {first}{near or _there(target, run)}"


def _local_in(path: str, name: str) -> tuple[str, int] | None:
    """The function of a file that assigns ``name``, and the line."""
    try:
        tree = ast.parse(Path(path).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None
    for function in ast.walk(tree):
        if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id == name:
                return function.name, node.lineno
    return None


def _no_name(target: Target, run: ProgramRun) -> TargetError | ScriptError:
    if run.failed:
        return ScriptError(f"{target.place} failed: {run.ending}")
    verb = _VERBS.get(target.command, target.command)
    return TargetError(f"say what of {target.place} to {verb}{_there(target, run)}")


def _there(target: Target, run: ProgramRun) -> str:
    """``": it defines the tensors ...; try: gradviz draw train.py:loss"``."""
    public = {name: value for name, value in run.namespace.items() if not name.startswith("_")}
    tensors = {name: each for name, each in public.items() if _is_a(each, "torch", "Tensor")}
    modules = [name for name, each in public.items() if _is_a(each, _MODULES, "Module")]
    if target.command != "explain":
        modules = []  # nothing else takes them
    # What has a grad_fn is what one wants to draw, and the last of them is most often the loss.
    order = list(tensors)[::-1]
    order.sort(key=lambda name: tensors[name].grad_fn is None)
    said = [
        _some("the modules", [f"{name} {type(public[name]).__name__}" for name in modules]),
        _some("the tensors", [f"{name} {_shape(tensors[name])}" for name in order]),
    ]
    if not (order or modules):
        return ": it defines no tensors at top level"
    told = ", and ".join(filter(None, said))
    return f": it defines {told}; try: {target.typed([*modules, *order][0])}"


def _some(kind: str, things: list[str]) -> str:
    more = f" and {len(things) - 8} more" if len(things) > 8 else ""
    return f"{kind} {', '.join(things[:8])}{more}" if things else ""


def _is_a(value: object, home: str, name: str) -> bool:
    """Whether it is a tensor, or a module: asked of its classes, as torch may not be there."""
    return any(kind.__name__ == name and kind.__module__ == home for kind in type(value).__mro__)


def _shape(tensor: Any) -> str:
    try:
        return shape_text(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
    except (TypeError, RuntimeError):  # nested tensors have no one shape
        return "tensor"


def _close(name: str, others: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(others), n=3, cutoff=0.6)
    return f"; did you mean {_listed(near, 'or')}?" if near else ""


def _listed(words: Sequence[str], last: str = "and") -> str:
    return f" {last} ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)
