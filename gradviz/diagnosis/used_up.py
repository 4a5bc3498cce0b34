"""Rules about a backward pass that reached operations whose saved tensors were freed."""

from __future__ import annotations

import ast
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from gradviz.diagnosis.answers import Verdict
from gradviz.diagnosis.context import MADE, Context
from gradviz.diagnosis.lines import (
    as_given,
    assignments_to,
    at_line,
    called_name,
    code_of,
    expressions_at,
    has_line,
    imported,
    mention,
    nodes_in,
    operands,
    statement_at,
    statements_around,
    stored,
    syntax_tree,
)
from gradviz.diagnosis.name_flow import calls_in
from gradviz.diagnosis.no_graph import detached_in_its_branch, is_of
from gradviz.diagnosis.rule import (
    SUM,
    Evidence,
    Needs,
    Rule,
    cached_function,
    fix_of_shared,
    is_variable,
    kept_beside,
    lost_detach,
    source_of,
    starts_as_constant,
)
from gradviz.diagnosis.subjects import ErrorContext
from gradviz.facts import Action, BackwardDetails, FrameKind, SourceLocation
from gradviz.graph import ancestors, base_of_view
from gradviz.story import Event, EventKind
from gradviz.torch_messages import MessageKind

_LISTS = ("stack", "cat", "concat", "hstack", "vstack", "dstack")
_RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")
_RETAIN = "to run it twice, call the first one with {}retain_graph=True)"
_NOT_RECORDED = (
    f"{_RETAIN.format('backward(')}; if a tensor is carried from one step to the next, detach it "
    f"before it is used again: hidden = hidden.detach(); if two losses share a part, {SUM}"
)
_BEFORE = Event(-1, EventKind.BACKWARD, "backward")  # a pass before the recording


@dataclass(frozen=True)
class Carried:
    """A tensor that was computed before a backward pass and used again after it."""

    key: str  # the operation that created it
    made: Event | None  # the event of that operation, if it was recorded
    used: Event | None  # the event of the operation that used it again
    code: str  # the user's expression for it where it is used again: ``"self.mean"``; "" if unknown
    is_list: bool  # whether that expression is a list of tensors
    is_renewed: bool  # whether the line that created it ran again after that pass
    is_inside: bool  # whether it is used again in a loop that runs several times for each pass
    # the event of the operation whose result it is a view of; None if it is no view
    base: Event | None = None
    emptied: str = ""  # the calls that empty the lists to which such tensors were appended
    beside: tuple[str, ...] = ()  # other attributes of the object that are carried over too

    @property
    def is_filled(self) -> bool:
        """Whether the line that created it appends it to the list ``code``."""
        text = self.made.location.text if self.made is not None else ""
        return bool(self.code) and text.startswith(f"{self.code}.append(")


class _Order:
    """The order in which operations created nodes, as far as frames and events show it."""

    def __init__(self, context: Context, error: ErrorContext, passed: int) -> None:
        self._context, self._passed = context, passed
        graphs = [context.graph, *(frame.graph for frame in context.frames)]
        self.created: dict[str, int] = {}
        self._sources: dict[str, str] = {}
        for graph in graphs:
            for key, data in graph.nodes(data=True):
                if "sequence_nr" in data and key not in self.created:
                    self.created[key] = data["sequence_nr"]
                    self._sources[key] = data.get("source", "")
        # An event refers to the last node that its operation created.
        made = [
            (max(self.created[key] for key in event.nodes if key in self.created), event)
            for event in context.events or ()
            if event.kind in MADE and any(key in self.created for key in event.nodes)
        ]
        made.sort(key=lambda pair: (pair[0], pair[1].number))
        self._numbers = [number for number, _ in made]
        self._events = [event for _, event in made]
        # A frame after that pass contains what was computed before it, and nothing newer.
        shown = [
            self.created[key]
            for frame in context.frames
            if frame.kind is FrameKind.AFTER_BACKWARD and frame.follows >= passed
            for key in frame.graph
            if key in self.created and self._is_first_after(frame.follows)
        ]
        before = [number for number, event in made if event.number < passed]
        self.border = max((*before, *shown), default=-1)
        if passed < 0 and self._numbers:  # before the recording
            older = (at for key, at in self.created.items() if not self._sources[key])
            self.border = max((at for at in older if at < self._numbers[0]), default=-1)

    def _is_first_after(self, number: int) -> bool:
        """Whether no operation ran between that pass and an event."""
        made = (event for kind in MADE for event in self._context.happened(kind))
        return not any(self._passed < event.number <= number for event in made)

    def event_of(self, key: str) -> Event | None:
        """The operation that created a node; None for one without an event."""
        if key not in self.created:
            return None
        at = bisect_left(self._numbers, self.created[key])
        found = self._events[at] if at < len(self._events) else None
        source = self._sources.get(key, "")
        if found is None or str(found.location) == source or not source:
            return found
        # A write into a part of a tensor has an event without a node.
        there = self._context.made_at(source, "")
        return next((each for each in reversed(there) if each.number < found.number), None)

    @cached_property
    def is_used_after(self) -> bool:
        """Whether anything was computed after that pass."""
        return any(event.number > self._passed for event in self._events)


def carried_over(
    context: Context, error: ErrorContext, passed: Event, is_base: bool = False
) -> Carried | None:
    """The tensor computed before a pass and used after it that is nearest to the failure.

    With ``is_base``, of a view it is what that is a view of: ``data`` for ``data.split(4)``.
    """
    order = _Order(context, error, passed.number)
    if not order.is_used_after:
        return None
    created, graph = order.created, context.graph
    edges = [
        (one, other)
        for one, other in graph.edges()
        if one in context.reachable
        and created.get(one, order.border + 1) <= order.border < created.get(other, -1)
    ]
    failed = error.problem.node if error.problem is not None else ""
    fitting = [edge for edge in edges if failed in ancestors(graph, [edge[0]])]
    if not (fitting or edges):
        return None
    key, user = max(fitting or edges, key=lambda edge: (created[edge[0]], -created[edge[1]]))
    made, used = order.event_of(key), order.event_of(user)
    if is_base and not _runs_after(context, made, passed):
        made = order.event_of(key := base_of_view(graph, key))
    known = _fresh(context, passed, used) if used is not None else set()
    code, is_list = _expression(made, used, known)
    if used is not None and (whole := _looped_over(code, used.location, passed.location)):
        code, is_list = whole, True
    again, uses = _runs_after(context, made, passed), _runs_after(context, used, passed)
    base = base_of_view(graph, key)
    of_base = order.event_of(base) if base != key else None
    makers = filter(None, (order.event_of(one) for one, _ in edges))
    emptied = " and ".join(f"{each}.clear()" for each in _filled_at(e.location for e in makers))
    pairs = ((order.event_of(one), order.event_of(other)) for one, other in edges if one != key)
    more = {_expression(*pair, known)[0] for pair in pairs if code.startswith("self.")}
    beside = tuple(sorted(each for each in more - {code} if each.startswith("self.")))
    found = Carried(key, made, used, code, is_list, again > 0, uses > 1, of_base, emptied, beside)
    return replace(found, is_list=is_list or found.is_filled)


def _filled_at(lines: Iterable[SourceLocation]) -> list[str]:
    """The lists to which some lines append, by their code."""
    calls = (call.func for line in lines for call in nodes_in(statement_at(line), ast.Call))
    lists = (e.value for e in calls if isinstance(e, ast.Attribute) and e.attr == "append")
    return [*dict.fromkeys(map(ast.unparse, lists))]


def _runs_after(context: Context, event: Event | None, passed: Event) -> int:
    """How often the operation of an event ran between that pass and the one that failed."""
    if event is None or not event.location:
        return 0
    there = context.made_at(str(event.location), "")
    return sum(e.number > passed.number and e.word == event.word for e in there)


def _expression(made: Event | None, used: Event | None, known: set[str]) -> tuple[str, bool]:
    """The user's expression for a carried tensor where it is used again, and whether in a list."""
    name = made.name if made is not None else ""
    if used is not None and used.kind is EventKind.IN_PLACE and name == used.name:
        return name, False
    texts: dict[str, bool] = {}
    for expression in expressions_at(used.location, used.word) if used is not None else ():
        for each in operands(expression):
            texts |= _stored_in(each, used is not None and used.word in _LISTS)
    modules = imported(used.location.file) if used is not None else set()
    new = (each for each in texts if each not in known)
    texts = {each: texts[each] for each in new if each.partition(".")[0] not in modules}
    if made is not None and (kept := kept_beside(made, texts)):
        return kept, texts[kept]
    for text in (name, f"({name})"):  # h, c = cell(x, (h, c))
        if text in texts:
            return text, texts[text]
    if len(texts) > 1 and made is not None:
        own = [e for e in texts if _kept_lines(made, e)] if name else _returned(made, texts)
        texts = {each: texts[each] for each in own or texts}
    return next(iter(texts.items())) if len(texts) == 1 else ("", False)


def _looped_over(name: str, used: SourceLocation, passed: SourceLocation) -> str:
    """The list, as code, that a loop without that pass takes a variable from; "" for another one.

    It is ``b`` for the ``y`` of ``sum(f(x, y) for x, y in zip(a, b))``.
    """
    loops = nodes_in(syntax_tree(used.file), ast.For)
    around: list[Any] = [e for e in loops if has_line(e, used.line) > has_line(e, passed.line)]
    for loop in [*around, *nodes_in(statement_at(used), ast.comprehension)]:
        names, source = getattr(loop.target, "elts", [loop.target]), [loop.iter]
        called = ast.unparse(loop.iter.func) if isinstance(loop.iter, ast.Call) else ""
        if called in ("zip", "enumerate"):
            source = [ast.Constant(0)] * (called == "enumerate") + loop.iter.args
        if len(names) == len(source):
            lists = {ast.unparse(n): s for n, s in zip(names, source, strict=True) if stored(s)}
            if name in lists:
                return ast.unparse(lists[name])
    return ""


def _stored_in(operand: ast.expr, takes_list: bool) -> dict[str, bool]:
    """The variables that an operand reads, by their code, and whether each is a list of tensors."""
    if isinstance(operand, ast.List) or (takes_list and isinstance(operand, ast.Tuple)):
        found = (_stored_in(each, False) for each in operand.elts)
        return {code: is_list for each in found for code, is_list in each.items()}
    if isinstance(operand, ast.IfExp):
        return _stored_in(operand.body, takes_list) | _stored_in(operand.orelse, takes_list)
    inner = [operand.value] if isinstance(operand, ast.Starred) else []
    if isinstance(operand, ast.Call) and ast.unparse(operand.func) in ("list", "tuple"):
        inner = operand.args
    if inner:
        return {ast.unparse(inner[0]): True} if stored(inner[0]) else {}
    return {ast.unparse(operand): takes_list} if stored(operand) else {}


def _fresh(context: Context, passed: Event, used: Event) -> set[str]:
    """Names of leaves, modules, and variables set between the pass and the use."""
    leaves = {context.graph.nodes[key].get("name", "") for key in context.graph.leaves}
    every = [event for kind in MADE for event in context.happened(kind)]
    between = [each for each in every if passed.number < each.number < used.number]
    # Another object may have an attribute of that name.
    made = {e.name for e in between if "." not in e.name or _is_before(e.location, used.location)}
    return {*leaves, *made, "torch", "F", "self"}


def _is_before(one: SourceLocation, other: SourceLocation) -> bool:
    """Whether a line is an earlier one of the same function."""
    functions = [statements_around(each, ast.FunctionDef) for each in (one, other)]
    return functions[0] == functions[1] != [] and one.line < other.line


def _returned(made: Event, texts: dict[str, bool]) -> list[str]:
    """Those of some variables that a line of the file assigns what the function there returns."""
    function = [each.name for each in statements_around(made.location, ast.FunctionDef)[-1:]]
    found = set[str]()
    for each in nodes_in(syntax_tree(made.location.file), ast.Assign):
        if isinstance(each.value, ast.Call) and [called_name(each.value)] == function:
            found.update(map(ast.unparse, each.targets))
    return [each for each in texts if each in found]


# The sentences.


def detached(carried: Carried) -> str:
    """An assignment that detaches a carried tensor."""
    node = ast.parse(code := carried.code, mode="eval").body
    if isinstance(node, (ast.Tuple, ast.List)) or (carried.beside and not carried.is_list):
        names = [ast.unparse(each) for each in getattr(node, "elts", [node])] + [*carried.beside]
        return f"{', '.join(names)} = {', '.join(f'{name}.detach()' for name in names)}"
    if carried.is_list:
        return f"{code} = [each.detach() for each in {code}]"
    if carried.used is not None and carried.used.word == "lstm":
        return f"{code} = tuple(each.detach() for each in {code})"
    return f"{code} = {code}.detach()"


def _called(carried: Carried, context: Context) -> str:
    """``"self.mean, computed at net.py:8 (self.mean = ...),"``."""
    made, op = carried.made, context.graph.nodes[carried.key].get("op", "an operation")
    is_state = made is not None and made.word in _RECURRENT
    word = f"the {'hidden state' if is_state else 'result'} of {op if made is None else made.word}"
    name = carried.code or (made.name if made is not None else "")
    name = f"{name}, {word}" if name and is_state else name
    where = f", computed at {mention(made.source)}," if made is not None and made.source else ""
    return f"a tensor in {name}{where}" if carried.is_list else f"{name or word}{where}"


def _freeing(context: Context, error: ErrorContext) -> Event | None:
    """The backward pass that freed the saved tensors; None if unknown, or for another error."""
    if not is_of(error, MessageKind.FREED):
        return None
    passes = context.happened(EventKind.BACKWARD)[:-1]
    freed = _freed_at(error)
    there = [event for event in passes if event.location == freed]
    return next(reversed(there or passes), None)


def _freed_at(error: ErrorContext) -> SourceLocation | None:
    location = getattr(error.problem, "location", SourceLocation())
    return location or None


def _who(event: Event | None, error: ErrorContext) -> str:
    location = _freed_at(error) or getattr(event, "location", None)
    return f"backward at {mention(str(location))}" if location else "an earlier backward pass"


def _evidence(
    context: Context, error: ErrorContext, carried: Carried | None, **words: object
) -> Evidence:
    freeing, problem = _freeing(context, error), error.problem
    key = problem.node if problem is not None else ""
    freed = _freed_at(error) or getattr(freeing, "location", None)
    locations = [freed] if freed else []
    nodes, culprit = [key], key
    if carried is not None:
        both = (carried.made, carried.used)
        locations = [*(each.location for each in both if each is not None), *locations]
        nodes, culprit = [carried.key, key], carried.key
        words["what"] = _called(carried, context)
        words["again"] = f" at {mention(carried.used.source)}" if carried.used else ""
    return error.evidence(nodes, locations, culprit, words={"who": _who(freeing, error), **words})


def _from_step_to_step(context: Context, error: ErrorContext) -> Evidence | None:
    """A state that each step computes from the state of the previous step."""
    if (freeing := _freeing(context, error)) is None:
        return None
    carried = carried_over(context, error, freeing)
    if carried is None or not carried.is_renewed or not _is_of_an_earlier_step(context, carried):
        return None
    kept = _kept_as(carried)
    if (lost := lost_detach(context, freeing.number)) is not None:
        name, line = lost
        fix = f"{line}: {name}.detach() returns a new tensor, and changes nothing: "
        fix += f"assign it, {name} = {name}.detach()"
    elif carried.used is not None and not carried.used.location.is_own:
        fix = "an object of a library keeps it: create that object anew in each step, or detach "
        fix += "the tensors that it holds after each backward pass"
    elif name := _held_name(context, carried):
        fix = f"change it in place, as an optimizer has it: with torch.no_grad(): {name}.copy_(...)"
    elif not carried.code:
        fix = "call .detach() on it before it is used again"
    elif carried.is_filled:
        fix = f"after each backward pass, empty what is kept: {carried.emptied}; or detach it"
    elif carried.is_list:
        fix = f"detach what it holds after each backward pass: {detached(carried)}"
    elif kept and carried.made is not None:
        fix = f"detach it where it is kept: {carried.code} = {carried.made.name}.detach()"
    elif appended := _appended_detached(carried):
        fix = f"keep it detached, {appended}"
    elif carried.used is not None and carried.used.kind is EventKind.IN_PLACE:
        fix = f"create {carried.code} anew in each step, before it is written; or detach it after "
        fix += f"each backward pass: {detached(carried)}"
    elif carried.is_inside or starts_as_constant(carried.used, carried.code):
        place = _before_its_loop(carried, freeing.location) if carried.is_inside else ""
        if not place and carried.used is not None:
            place = as_given(carried.used.location, carried.code, freeing.location)
        inside = _in_its_class(carried, freeing.location)
        fix = place or f"detach it after each backward pass{inside}: {detached(carried)}"
    else:
        where = carried.used.source if carried.used is not None else ""
        fix = f"detach it before {where or 'it is used again'}: {detached(carried)}"
    return _evidence(context, error, carried, kept=kept, fix=fix)


def _in_its_class(carried: Carried, passed: SourceLocation) -> str:
    """Where ``self`` is known, if the pass runs in other code."""
    used = carried.used.location if carried.used is not None else SourceLocation()
    for each in statements_around(used, ast.ClassDef)[-1:] if carried.code[:5] == "self." else ():
        if passed.file != used.file or not has_line(each, passed.line):
            return f", in a method of {each.name}"
    return ""


def _held_name(context: Context, carried: Carried) -> str:
    """Its name, if a leaf that an optimizer holds was in the same variable; or ""."""
    leaves = {(context.node_in_a_frame(key) or {}).get("name", "") for key in context.held}
    return carried.made.name if carried.made is not None and carried.made.name in leaves else ""


def _is_of_an_earlier_step(context: Context, carried: Carried) -> bool:
    """Whether the line of the pass that failed ran between the making of a state and its use."""
    *passes, failing = context.happened(EventKind.BACKWARD)
    since = carried.made.number if carried.made is not None else -1
    return any(each.location == failing.location for each in passes if each.number > since)


def _before_its_loop(carried: Carried, passed: SourceLocation) -> str:
    """Where to detach a state that a function is given, under a name that only its loop uses."""
    used = carried.used.location if carried.used is not None else SourceLocation()
    function = next(iter(statements_around(used, ast.FunctionDef)[::-1]), None)
    loops = [e for e in nodes_in(function, ast.For, ast.While) if has_line(e, used.line)]
    is_in = function is not None and passed.file == used.file and has_line(function, passed.line)
    if function is None or not loops or is_in:
        return ""
    code = ast.unparse(ast.parse(carried.code, mode="eval"))
    for each in nodes_in(function, ast.Assign):
        if each.lineno < loops[0].lineno and stored(each.value):
            taken = ast.unparse(each.value)
            is_several = isinstance(each.targets[0], ast.Tuple)
            if is_several and ast.unparse(each.targets[0]) == code:
                place = f"detach it before {used.file}:{each.lineno}"
                return f"{place}: {taken} = tuple(each.detach() for each in {taken})"
    if code in {argument.arg for argument in function.args.args}:
        return f"detach it before {used.file}:{loops[0].lineno}: {detached(carried)}"
    return ""


def _kept_as(carried: Carried) -> str:
    """Where a tensor with another name was assigned or appended to the carried expression."""
    if carried.made is None or not carried.code or carried.made.name in ("", carried.code):
        return ""
    lines = _kept_lines(carried.made, carried.code)
    if len(lines) != 1:
        return ""
    location = SourceLocation(carried.made.location.file, lines[0])
    return f", kept {'in' if carried.is_list else 'as'} {carried.code} at {mention(location)},"


def _kept_lines(made: Event, code: str) -> list[int]:
    """The lines of the function that created a tensor that assign or append it to an expression."""
    every = assignments_to(made.location, code) if made.name else []
    return [line for line, value in every if ast.unparse(value) == made.name]


def _appended_detached(carried: Carried) -> str:
    """The line that appends the tensor to a list whose last item is used again, with detach()."""
    made, container = carried.made, carried.code.removesuffix("[-1]")
    if made is None or container == carried.code:
        return ""
    found = [f"{made.location.file}:{line}" for line in _kept_lines(made, container)]
    code, call = code_of(found[0]) if len(found) == 1 else "", f"append({made.name})"
    return f"{found[0]}: {code.replace(call, f'append({made.name}.detach())')}" * (call in code)


def _computed_once(context: Context, error: ErrorContext) -> Evidence | None:
    """Values that were computed once, before a loop of backward passes."""
    if (freeing := _freeing(context, error)) is None:
        return None
    failing = context.happened(EventKind.BACKWARD)[-1]
    carried = carried_over(context, error, freeing, is_base=True)
    if carried is None or freeing.location != failing.location:
        return None
    if (base := carried.base) is not None and base.location != getattr(carried.made, "location", 0):
        carried = replace(carried, made=base, code="", is_list=False)
    made = carried.made.name if carried.made is not None else ""
    if is_variable(made) and is_variable(carried.code):
        carried = replace(carried, code=made)  # the other is a local variable of where it is used
    leaves = map(context.name_of, ancestors(context.graph, [carried.key]))
    is_kept = any(".parametrizations." in name for name in leaves)
    kept = calls_in(context, "cached") if is_kept else ()
    fix = f"inside the loop, open parametrize.cached(), at {mention(kept[0])}" if kept else ""
    return _evidence(context, error, carried, fix=fix or _fix_of_once(carried))


def _fix_of_once(carried: Carried) -> str:
    made, used = (e.location if e else SourceLocation() for e in (carried.made, carried.used))
    if fix := detached_in_its_branch(made, used, carried.code):
        return fix
    read = nodes_in(statement_at(used), ast.Attribute, ast.Name)
    name, cache = cached_function(made, {getattr(e, "attr", getattr(e, "id", "")) for e in read})
    again = "compute it inside the loop or the closure, again for every backward pass"
    if name:
        again = f"leave out {cache}, which keeps what {name} returned first"
    elif used and "__init__" in [e.name for e in statements_around(made, ast.FunctionDef)[-1:]]:
        again = f"compute it at {used}, where it is used, again for every backward pass"
    return f"{again}; or, if no gradient is to flow into it, detach it where it is computed"


def _shared(context: Context, error: ErrorContext) -> Evidence | None:
    """Two results that were computed from one tensor, each with its own backward pass."""
    if (freeing := _freeing(context, error)) is None:
        return None
    carried = carried_over(context, error, freeing)
    if carried is not None:
        made = carried.made
        name = carried.code or (made.name if made is not None else "")
        of = name if is_variable(name) else ""
        fix = fix_of_shared(context, freeing, of, carried.key)
        again = at_line(carried.used.source if carried.used else "")
        said = f"{_called(carried, context)} was used for that pass and is used again{again}"
        return _evidence(context, error, carried, fix=fix, said=said)
    if context.before is None or set(context.before.roots) & set(context.roots):
        return None
    last = error.problem.node if error.problem is not None else ""
    said = "two results share that part of the graph"
    if line := source_of(context, last):
        op = context.graph.nodes[last].get("op")
        said += f", of which {op}{at_line(line)} is the last operation with saved tensors"
    return _evidence(context, error, None, said=said, fix=fix_of_shared(context, freeing, ""))


def _same_root(context: Context, error: ErrorContext) -> Evidence | None:
    """Backward twice on the results of one forward pass."""
    if (freeing := _freeing(context, error)) is None:
        return None
    is_of_grad = freeing.action is Action.AUTOGRAD_GRAD
    fix = _RETAIN.format("torch.autograd.grad(..., " if is_of_grad else "backward(")
    again = "compute the loss again before each backward()"
    if _leaves_changed(context, freeing):
        fix = again
    elif freeing.location == context.happened(EventKind.BACKWARD)[-1].location:
        fix = f"{again}; or, when no optimizer step lies between, {fix}"
    same, root = "", _root_of_both(context)
    maker = next((each for each, _ in context.graph.inputs(root)), root) if root else ""
    if root and (source := context.graph.nodes[maker].get("source")):
        name = context.name_of(root) or "the result"
        same = f": {name}, computed once at {mention(source)}, is the root of both passes"
    return _evidence(context, error, None, fix=fix, same=same)


def _leaves_changed(context: Context, freeing: Event) -> bool:
    """Whether a step, or the program, changed a leaf since the pass that freed saved tensors."""
    leaves = set(context.graph.leaves)
    changes = [e for e in context.happened(EventKind.IN_PLACE) if leaves.intersection(e.nodes)]
    last = (*context.happened(EventKind.STEP)[-1:], *changes[-1:])
    return any(event.number > freeing.number for event in last)


def _root_of_both(context: Context) -> str:
    """The result from which the pass that failed started, and the one before; "" for others."""
    passes = [event.details for event in context.happened(EventKind.BACKWARD)[-2:]]
    roots = [set(each.roots) for each in passes if isinstance(each, BackwardDetails)]
    both = set.intersection(*roots) if roots[1:] else set()
    return next((key for key in both if key in context.graph), "")


def _not_recorded(context: Context, error: ErrorContext) -> Evidence | None:
    if not is_of(error, MessageKind.FREED):
        return None
    graph = context.graph
    nodes = sorted(context.freed, key=lambda key: -graph.nodes[key].get("sequence_nr", 0))[:1]
    words = {"older": "", "fix": _NOT_RECORDED}
    if context.is_recorded and (carried := carried_over(context, error, _BEFORE)) is not None:
        nodes = [carried.key]
        used = f" and used at {mention(carried.used.source)}" if carried.used is not None else ""
        name = carried.code or _called(carried, context)
        words["older"] = f": {name} is from before the recording{used}"
        if carried.code:
            fix = f"if {name} is carried from one step to the next, detach it before it is used "
            fix += f"again: {detached(carried)}; if it was computed once, compute it in every step"
            words["fix"] = fix
    return error.evidence(nodes, culprit=nodes[0] if nodes else "", words=words)


_FREED = "backward{at} reached operations whose saved tensors {who} freed"
_RECORDED = (
    (
        "a state is carried from step to step",
        _from_step_to_step,
        ": {what} is carried over from before that pass{kept} and used again{again}",
    ),
    (
        "work that was done once is used in every step",
        _computed_once,
        ": {what} was computed once, before that pass, and is used again{again}",
    ),
    ("two results share a part of the graph", _shared, ": {said}"),
    ("backward ran twice from one result", _same_root, "{same}"),
)
RULES: tuple[Rule[Any, Any], ...] = (
    *(
        Rule(name, Verdict.USED_UP, match, _FREED + cause, needs=Needs.RECORDING)
        for name, match, cause in _RECORDED
    ),
    Rule(
        "an earlier backward pass was not recorded",
        Verdict.USED_UP,
        _not_recorded,
        "backward{at} reached operations whose saved tensors an earlier backward pass freed{older}",
    ),
)
