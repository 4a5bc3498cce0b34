"""Variables of functions: where the source assigns them, and their values at run time.

Values are read when a backward pass has run and when a function returns; there is no callback for
each line.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import difflib
import operator
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from traceback import walk_stack
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

from gradviz.errors import GradvizError, TargetError
from gradviz.frontends.option_values import Extent, lines_off
from gradviz.frontends.program import Reached, end_of_session

if TYPE_CHECKING:
    from gradviz.capture.autograd.engine import BackwardCall

_NONE: Any = None
_BACKWARD = ("backward", "manual_backward")  # the second is Lightning's
_Function = (ast.FunctionDef, ast.AsyncFunctionDef)
_Lines = set[tuple[CodeType, int]]
_STEPS = 3  # steps of new optimizers, until they are reported
_MOST_WAITED = 12  # passes until another optimizer makes its first step
_MOST_UNREACHED = 2  # steps until each parameter got a gradient: not every batch calls every head
_MOST_PASSES, _SOON = 1_000, 20.0  # passes and seconds until a loop may switch gradients off
_QUICK_PASSES, _QUICK = 100, 0.2  # passes that a search runs on to, and seconds of each of them
_IMPORTS = 3.0  # seconds that torch may take in the first steps, to import parts of itself
_ENTRIES = 100  # of a list, in which leaves are looked for
_DYNAMIC = ("exec", "globals", "vars", "setattr", "eval", "__import__", "import_module")


@dataclass
class Scope:
    """A function, or the top level of a file."""

    path: str  # ``Trainer.step``; "" for the top level
    first: int  # its first line, decorators included
    last: int  # its last line
    # where each of its variables is first assigned
    names: dict[str, int] = field(default_factory=dict)
    backward: set[str] = field(default_factory=set)  # variables on which it calls ``backward``
    has_backward: bool = False  # whether it calls ``backward`` on anything


@dataclass(frozen=True)
class Variable:
    """A requested variable."""

    asked: str  # as the user wrote it
    expression: str  # to evaluate in the scope: ``out['logits']``
    scope: Scope | None = None  # None for the top level


class Variables:
    r"""The variables of a file, by the functions that assign them.

    Args:
        source: the text of the file.
        place: its name in messages.

    Example:
        >>> source = "def main():\n    loss = 1\n    loss.backward()\nmain()"
        >>> Variables(source, "train.py").find("loss").scope.path
        'main'
        >>> Variables(source, "train.py").find("los")
        Traceback (most recent call last):
        gradviz.errors.TargetError: train.py has no variable los; did you mean loss?
    """

    def __init__(self, source: str | bytes, place: str) -> None:
        self._place = place
        tree = ast.parse(source)
        self._tree = tree
        self.scopes = list(_scopes(tree))
        self.top = self.scopes[0]
        self._is_dynamic = any(map(_may_assign_anything, ast.walk(tree)))

    def find(self, asked: str, typed: Callable[[str], str] = str) -> Variable:
        """Where a variable is assigned.

        Args:
            asked: ``loss``, ``main.loss``, ``Trainer.step.out['logits']`` or ``44``, a line.
            typed: returns the target to type for a name, for messages.

        Raises:
            TargetError: if the source shows that there is no such variable, or if several
                functions have one.
        """
        if asked.isdecimal():
            return self._at_line(int(asked), typed)
        for scope in sorted(self.scopes[1:], key=lambda each: -len(each.path)):
            if asked == scope.path and scope.path not in self._values():
                raise TargetError(self._is_function(scope, typed))
            if asked.startswith(f"{scope.path}."):
                return self._inside(scope, asked, asked[len(scope.path) + 1 :])
        root = _root(asked)
        if root in self.top.names or root.startswith("__"):
            return Variable(asked, asked)
        return self._inside_some(asked, root, typed)

    def _values(self) -> set[str]:
        """Names at top level that may not be functions, because they are also assigned."""
        own = (e for e in self._tree.body if isinstance(e, (ast.Assign, ast.AnnAssign)))
        nodes = (node for each in own for node in ast.walk(each))
        return {node.id for node in nodes if isinstance(node, ast.Name)} & set(self.top.names)

    def _inside(self, scope: Scope, asked: str, rest: str) -> Variable:
        root = _root(rest)
        if root not in scope.names and not self._is_dynamic:
            more = did_you_mean(root, scope.names)
            raise TargetError(f"{scope.path} in {self._place} has no variable {root}{more}")
        return Variable(asked, rest, scope)

    def _inside_some(self, asked: str, root: str, typed: Callable[[str], str]) -> Variable:
        found = [scope for scope in self.scopes[1:] if root in scope.names]
        for chosen in (
            [scope for scope in found if root in scope.backward],
            [scope for scope in found if scope.has_backward],
        ):
            if len(found) > 1 and len(chosen) == 1:
                found = chosen
        if len(found) > 1:
            listed = ", ".join(
                f"{scope.path}.{root} ({self._place}:{scope.names[root]})" for scope in found
            )
            raise TargetError(
                f"{self._place} has several variables {root}: {listed}; choose one: "
                f"{typed(f'{found[0].path}.{asked}')}"
            )
        if found:
            return Variable(asked, asked, found[0])
        if not self._is_dynamic and not hasattr(builtins, root):
            every = {name for scope in self.scopes for name in scope.names}
            more = did_you_mean(root, every) or self._some()
            raise TargetError(f"{self._place} has no variable {root}{more}")
        return Variable(asked, asked)

    def _some(self) -> str:
        """A list of likely variables if none is similar: those on which backward is called."""
        words = [
            f"{scope.path}.{name}" if scope.path else name
            for scope in self.scopes
            for name in sorted(scope.backward)
        ]
        if words:
            return f"; backward is called on {', '.join(words[:5])}"
        kinds = (ast.Import, ast.ImportFrom)
        imports = (
            alias for each in self._tree.body if isinstance(each, kinds) for alias in each.names
        )
        imported = {alias.asname or _root(alias.name) for alias in imports}
        names = [name for name in self.top.names if name not in imported]
        return f"; its variables are {', '.join(names[-5:])}" if names else ""

    def _is_function(self, scope: Scope, typed: Callable[[str], str]) -> str:
        names = list(scope.names)
        first = next(iter(sorted(scope.backward)), names[-1] if names else "")
        more = f"; its variables are {', '.join(names[:12])}: {typed(f'{scope.path}.{first}')}"
        where = f"{self._place}:{scope.first}"
        return f"{scope.path} is a function ({where}){more if names else ' without variables'}"

    def _at_line(self, line: int, typed: Callable[[str], str]) -> Variable:
        for scope in reversed(self.scopes):  # inner scopes come after outer ones
            if not scope.first <= line <= scope.last:
                continue
            for node in ast.walk(self._tree):
                if not isinstance(node, ast.stmt) or hasattr(node, "body"):
                    continue
                if node.lineno <= line <= (node.end_lineno or 0) and (
                    name := _name_in(node, scope)
                ):
                    return Variable(str(line), name, scope if scope.path else None)
        names = {each: at for scope in self.scopes for each, at in scope.names.items()}
        near = sorted(names, key=lambda name: abs(names[name] - line))
        listed = ", ".join(f"{name} ({names[name]})" for name in near[:3])
        more = f"; the nearest are {listed}" if listed else ""
        raise TargetError(f"line {line} of {self._place} assigns no variable{more}")


def _root(expression: str) -> str:
    return expression.replace("[", ".").split(".")[0].strip()


def did_you_mean(name: str, others: Iterable[str]) -> str:
    """A hint about the nearest names; "" if there is none."""
    near = difflib.get_close_matches(name, list(others), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _name_in(statement: ast.stmt, scope: Scope) -> str:
    """The variable that a statement assigns, or else the first one that it uses."""
    found = (node for node in ast.walk(statement) if isinstance(node, ast.Name))
    names = sorted(found, key=lambda node: (node.lineno, node.col_offset))
    stored = [node.id for node in names if isinstance(node.ctx, ast.Store)]
    used = [node.id for node in names if node.id in scope.names]
    return next(iter([*stored, *used]), "")


def _may_assign_anything(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        return any(alias.name == "*" for alias in node.names)
    name, attribute = getattr(node, "id", ""), getattr(node, "attr", "")
    return name in _DYNAMIC or attribute in ("__dict__", *_DYNAMIC)


def _scopes(tree: ast.Module) -> Iterator[Scope]:
    """The top level and every function, outer functions first."""
    found = [top := Scope("", 1, sys.maxsize)]
    _read(tree, top, "", top, found)
    yield from found


def _read(node: ast.AST, scope: Scope, prefix: str, top: Scope, found: list[Scope]) -> None:
    """Record what the statements below a node assign, including nested functions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _Function):
            scope.names.setdefault(child.name, child.lineno)
            path = f"{prefix}{child.name}"
            first = min([child.lineno, *(each.lineno for each in child.decorator_list)])
            inner = Scope(path, first, child.end_lineno or child.lineno)
            arguments = child.args
            for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
                inner.names.setdefault(each.arg, each.lineno)
            found.append(inner)
            _read(child, inner, f"{path}.", top, found)
        elif isinstance(child, ast.ClassDef):
            scope.names.setdefault(child.name, child.lineno)
            ignored = Scope("", child.lineno, child.end_lineno or child.lineno)
            _read(child, ignored, f"{prefix}{child.name}.", top, found)
        elif not isinstance(child, ast.Lambda):
            _note(child, scope, top)
            _read(child, scope, prefix, top, found)


def _note(node: ast.AST, scope: Scope, top: Scope) -> None:
    if isinstance(node, ast.Global):
        for name in node.names:
            top.names.setdefault(name, node.lineno)
    elif isinstance(node, (ast.Import, ast.ImportFrom)):
        for alias in node.names:
            scope.names.setdefault(alias.asname or alias.name.split(".")[0], node.lineno)
    elif isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
        scope.names.setdefault(node.name, node.lineno)
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        if node.id not in top.names or scope is top or node.id not in _globals_of(scope, top):
            scope.names.setdefault(node.id, node.lineno)
    elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in _BACKWARD:
        assert isinstance(node.func, ast.Attribute)
        scope.has_backward = True
        starts = [node.func.value, *node.args]
        scope.backward.update(each.id for each in starts if isinstance(each, ast.Name))


def _globals_of(scope: Scope, top: Scope) -> set[str]:
    """Variables that a function declares global; their top-level line is inside it."""
    return {name for name, line in top.names.items() if scope.first < line <= scope.last}


def evaluated(expression: str, variables: Mapping[str, object]) -> Any:
    """The value of an expression of names, attributes and constant indices.

    Raises:
        Exception: any error of reading it; NameError if the variable does not exist.

    Example:
        >>> evaluated("out['a'].real", {"out": {"a": 3}})
        3
    """
    return eval(expression, {"__builtins__": {}}, variables)


@dataclass(frozen=True, eq=False)
class Finding:
    """The variables that a search found.

    Args:
        values: one for each variable; or the roots of the pass, if none was requested.
        variables: all variables of the program at that time, by name.
        story, before: the graph of the values at that time, and before that pass; or None.
        where: ``"backward 1 (train.py:13)"``.
    """

    values: tuple[Any, ...]
    variables: dict[str, object]
    story: Any
    where: str
    before: Any = None


class Search:
    """Searches variables while a program runs, and ends the program when they are found.

    They are read right after a backward pass: the first, or the one with a given number. The
    program ends after its first step: after the optimizer's step, or before the same line runs
    backward again; if there is no optimizer, right after the pass. A search that continues into the
    next step runs on while passes are quick. Else it ends when each line that ran backward has done
    so again after a step; in the third one if a graph was retained, a variable that held a leaf
    holds a result since, or the program wrote into a parameter after a step.

    Args:
        wanted: the variables; none for the roots of the pass.
        trace: creates a story from values and the variables around them; None for no story.
        extent: how far the program runs.
    """

    def __init__(
        self,
        wanted: Sequence[Variable],
        trace: Callable[[tuple[Any, ...], dict[str, object]], Any] | None,
        extent: Extent,
    ) -> None:
        self.found: Finding | None = None
        self.wanted, self._trace, self.extent = wanted, trace, extent
        self._next_step = extent.next_step and extent.step is None
        self.ending = self._graph_before = self._passes = self._returns = self._last_line = _NONE
        self._values_before: list[Any] = []
        self._process, self.passes = os.getpid(), 0
        self.stopped = self._over = self._is_kept = self._is_third = False  # kept: see above
        self._lines, self._lines_before_step, self._again = _Lines(), _Lines(), _Lines()
        self._steppers: weakref.WeakSet[Any] = weakref.WeakSet()
        self._is_waiting, self._waited, self._ends, self.refusal = False, 0, 0, ""
        self._leaves, self._reached = set[str](), set[int]()
        self._returned: dict[str, tuple[Any, dict[str, object]]] = {}
        self._file, self._top = "", dict[str, Any]()
        self._began = time.monotonic()

    @property
    def is_bound(self) -> bool:
        """Whether the values are final: the program ended there, or a pass was requested."""
        return self.stopped or self.extent.step is not None or not self.wanted

    @property
    def _is_read_at_end(self) -> bool:
        """Whether only top-level variables of a program that runs to its end are wanted."""
        is_top = bool(self.wanted) and not any(each.scope for each in self.wanted)
        return self.extent.full and self.extent.step is None and is_top

    def begin(self, code: CodeType, top: dict[str, Any]) -> Search:
        """Set the program: the code of its file, and its top-level variables."""
        self._file, self._top = code.co_filename, top
        scopes = [each.scope for each in self.wanted if each.scope]
        if scopes and (self.extent.ready or not all(scope.has_backward for scope in scopes)):
            from gradviz.recording.passes import Returns  # imported here: it needs torch

            self._returns = Returns(_codes(code, scopes), self._at_return)
        return self

    def __enter__(self) -> Search:
        from gradviz.recording.passes import Passes, UsedGradients

        self._used = UsedGradients()
        self._passes = Passes(self._before, self._after, self._stepped).__enter__()
        if self._returns:
            self._returns.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end()
        if self.found is None and self._returned:
            self._take({}, ())

    def _end(self) -> None:
        self._over = True
        self._passes.end()
        if self._returns:
            self._returns.stop()

    def _before(self, roots: tuple[Any, ...], frame: FrameType) -> None:
        again = self._again if self._next_step else self._lines
        line = (frame.f_code, frame.f_lineno)
        if self.extent.step is None and line in again and not self._is_waiting:
            self._stop_if_found()
        if self.extent.before and self.extent.step in (None, self.passes + 1):
            self._look(frame)
            found = self._finding(_around(frame), roots, frame)
            if found and any("saved_bytes" in data for data in found.story.nodes.values()):
                self._graph_before = found.story
                tensors = (each for each in found.values if hasattr(each, "grad_fn"))
                self._values_before = list(map(weakref.ref, tensors))

    def graph_before(self, values: Sequence[Any]) -> Any:
        """The graph of values before the last backward pass; None if it was not that of them."""
        kept = [each() for each in self._values_before]
        is_same = map(operator.is_, kept, values) if len(kept) == len(values) else (False,)
        return self._graph_before if all(is_same) else None

    def _after(self, call: BackwardCall, frame: FrameType) -> None:
        if self._over:
            return
        if not call.accumulates:  # `autograd.grad`: what it ran from counts if no pass follows
            if not (self.found or self.wanted or self._next_step or self.extent.step):
                self._take(_around(frame), call.roots, frame)
            return
        self.passes += 1
        self._began = time.monotonic() if self.passes == 1 else self._began
        is_again = (line := (frame.f_code, frame.f_lineno)) in self._lines
        self._lines.add(line)
        if self._is_read_at_end or self.passes < (self.extent.step or 0):
            return
        from gradviz.recording.passes import has_step_ahead

        self._look(frame)
        around = _around(frame)
        self._take(around, call.roots, frame)
        is_stepped_next = self.extent.step is None and has_step_ahead(frame, around)
        if line in self._lines_before_step or (is_again and not is_stepped_next):
            self._again.add(line)
        is_over = self._again == self._lines if self._next_step else not is_stepped_next
        self._last_line = self._last_line or (line if is_over else None)  # of a step
        ends = line == self._last_line or self._waited > _MOST_WAITED
        waits = self._waits(around, ends) or (is_over and not ends) or self._may_switch_off(frame)
        self._is_waiting = self._next_step and waits
        is_kept = self._has_lost_a_leaf(around) or (bool(self._steppers) and call.retain_graph)
        self._is_kept |= self._next_step and (self._used.are_written() or is_kept)
        if is_over and not self._is_waiting and self._is_kept and not self._is_third:
            self._is_third, self._again = True, _Lines()
        elif (is_over and not self._is_waiting) or self.extent.ready:
            self._stop_if_found()

    def _has_lost_a_leaf(self, around: Mapping[str, object]) -> bool:
        """Whether a variable, or an entry of one, was a leaf after a pass and is a result now."""
        from gradviz.capture.autograd.tensors import is_unsure

        every: dict[str, Any] = dict(_entries(around))
        names = {n for n, x in every.items() if hasattr(type(x), "grad_fn") and x.requires_grad}
        results = {name for name in names if is_unsure(every[name]) or not every[name].is_leaf}
        self._leaves |= names - results
        return not self._leaves.isdisjoint(results)

    def _waits(self, around: Mapping[str, object], is_end: bool) -> bool:
        """Whether an optimizer may make its first step soon, or change what it did not so far."""
        from gradviz.recording.passes import is_at_rest, optimizers_among, parameters_of

        self._waited, self._ends = self._waited + bool(self._again), self._ends + is_end
        held, optimizers = parameters_of(self._steppers), optimizers_among(around)
        self._reached |= {number for number, each in held.items() if each.grad is not None}
        wants = any(held[n].requires_grad for n in held.keys() - self._reached)
        wants |= any(map(is_at_rest, self._steppers))  # a rule needs two of its steps
        new = parameters_of(optimizers).keys() - held.keys()  # one may wrap another (accelerate)
        is_early = self._waited <= _MOST_WAITED if new else self._ends <= _MOST_UNREACHED
        may_be_new = self._waited < _STEPS and self._used.are_again_in(optimizers, self._steppers)
        is_left = self._used.are_left() and self._waited < 2  # the next step may use it again
        return is_left or may_be_new or (is_early and bool(self._steppers and (new or wants)))

    def _may_switch_off(self, frame: FrameType) -> bool:
        """Whether a later line of a loop will switch gradients off for good, if it is soon."""
        lines = [n for each, n in walk_stack(frame) if each.f_code.co_filename == self._file]
        is_soon = self.passes < _MOST_PASSES and time.monotonic() < self._began + _SOON
        return is_soon and not lines_off(self._file).isdisjoint(lines)

    def _stepped(self, optimizer: Any) -> None:
        self._steppers.add(optimizer)
        is_last = self._used.add(optimizer) or not self._next_step
        self._lines_before_step |= self._lines
        if self.extent.step is None and is_last and not self._over:
            self._stop_if_found()

    def _is_quick(self) -> bool:
        """Whether the program may run on for more steps, as its passes take little time."""
        from gradviz.capture.autograd.sharded import has_other_ranks

        is_early = self._next_step and self.passes < _QUICK_PASSES
        is_alone = threading.current_thread() is threading.main_thread()
        if not is_early or not is_alone or has_other_ranks():  # other ranks, threads may wait
            return False
        return time.monotonic() - self._began < _IMPORTS + self.passes * _QUICK

    def _stop_if_found(self) -> None:
        if self.found is None or self._over or self.extent.full:  # of full the last pass counts
            return
        if self._is_quick():
            return
        self._end()
        if os.getpid() != self._process:  # others may wait for a process that the program forked
            return
        self.stopped, self.ending = True, end_of_session() or Reached()
        raise self.ending

    def _look(self, frame: FrameType) -> None:
        """Read the variables of running functions."""
        for each, _ in walk_stack(frame):
            if each.f_code.co_filename == self._file:
                self._note(each)

    def _note(self, frame: FrameType) -> None:
        code = frame.f_code
        for each in self.wanted:
            scope = each.scope
            is_inside = scope and scope.first <= code.co_firstlineno <= scope.last
            if scope and is_inside and code.co_name == scope.path.rpartition(".")[2]:
                around = _around(frame)
                with contextlib.suppress(Exception):  # not assigned yet, or a property raises
                    self._returned[each.asked] = evaluated(each.expression, around), around

    def _at_return(self, frame: FrameType) -> None:
        if self._over:
            return
        self._note(frame)
        if self.extent.ready and len(self._returned) == len(self.wanted):
            self._take({}, ())
            self._stop_if_found()

    def _take(self, around: dict[str, object], roots: Any, frame: FrameType | None = None) -> None:
        """Take the values, if all exist and were computed by autograd."""
        if found := self._finding(around, roots, frame):
            self.found = replace(found, before=self.graph_before(found.values))

    def _finding(
        self, around: dict[str, object], roots: tuple[Any, ...], frame: FrameType | None
    ) -> Finding | None:
        values: list[Any] = []
        for each in self.wanted:
            try:
                if each.scope:
                    value, seen = self._returned[each.asked]
                    around = {**around, **seen}
                else:
                    value = evaluated(each.expression, self._top)
            except Exception:
                return None
            values.append(value)
        if frame is not None and not all(map(_is_computed, values)):
            return None
        taken = tuple(values) or roots
        try:
            story = self._trace(taken, around) if self._trace else None
        except GradvizError as error:  # they are read again at the end of the program
            self.refusal = str(error)
            return None
        where = f"backward {self.passes} ({_line(frame)})" if frame else "the end of its function"
        return Finding(taken, around, story, where)


def _entries(around: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Variables, and the first entries of the lists and tuples among them."""
    for name, value in around.items():
        yield name, value
        if type(value) in (list, tuple):
            yield from ((f"{name}[{at}]", e) for at, e in enumerate(value[:_ENTRIES]))  # type: ignore[index]


def _around(frame: FrameType) -> dict[str, object]:
    from gradviz.recording.passes import variables_around  # imported here: it needs torch

    return variables_around(frame, _program_file())


def _line(frame: FrameType) -> str:
    """The line of the program that led to a frame, and that of the library it called, if any."""
    from gradviz.recording.source_lines import is_library

    own: FrameType | None = frame
    while own is not None and own.f_code.co_filename != _program_file():
        if not is_library(own.f_code.co_filename):
            break
        own = own.f_back
    is_other = (own := own or frame) is not frame and own.f_code.co_filename != _program_file()
    places = [own, frame] if is_other else [frame]
    return ", in ".join(f"{Path(at.f_code.co_filename).name}:{at.f_lineno}" for at in places)


def _program_file() -> str:
    return sys.modules["gradviz.frontends.program"].__file__ or ""


def _is_computed(value: object) -> bool:
    """Whether autograd computed it, or it may contain such tensors."""
    return not hasattr(type(value), "story") and getattr(value, "grad_fn", value) is not None


def _codes(code: CodeType, scopes: Sequence[Scope]) -> set[CodeType]:
    """The code objects of functions."""
    wanted = {(scope.path.rpartition(".")[2], scope.first) for scope in scopes}
    found, stack = set(), [code]
    while stack:
        each = stack.pop()
        if (each.co_name, each.co_firstlineno) in wanted:
            found.add(each)
        stack += [inner for inner in each.co_consts if isinstance(inner, CodeType)]
    return found
