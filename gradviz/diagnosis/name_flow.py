"""Where the value of a variable goes on to, as far as one function's code proves it.

A number that a line reads (``k = w.max().item()``) is a cause only if the result uses it. The code
is followed by names. To prove that a result does not use it, each name that may have its value
counts: what is returned, stored where other code can see it, or passed to a function of the user.
To prove that a result uses it, only assignments that certainly run and compute with it count.
"""

from __future__ import annotations

import ast
import builtins
import functools
import sys
from bisect import bisect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from gradviz.diagnosis.context import Context, Question
from gradviz.diagnosis.lines import (
    called_name,
    calls,
    is_only_shown,
    is_showing,
    locations_of,
    nodes_in,
    operands,
    rebound_updates,
    statement_at,
    statements_around,
    syntax_tree,
)
from gradviz.facts import EventKind, SourceLocation
from gradviz.graph.operations import OPERATIONS, operation, words
from gradviz.story import Event


class _Flow(NamedTuple):
    """The values of some names go into others."""

    used: set[str]  # the names that are read
    # the names that are assigned; for an object that is changed, the names that are read
    made: set[str]
    # whether the objects of these names may be changed, and not only assigned
    changes: bool = False
    # whether what is made may have the objects that are read, and not only their values
    is_kept: bool = True


_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_LEAVING = (ast.Return, ast.Yield, ast.YieldFrom, ast.Raise, ast.Await)
_Made = dict[str, list[ast.expr]]
_ASSIGNING = (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.NamedExpr)
# Modules whose functions store no argument, and methods that do not.
_LIBRARIES = {"torch", "numpy", *sys.stdlib_module_names}
_MORE_METHODS = """
all amax amin any argmax argmin argsort bool clip cos cosh cross cumprod cumsum diff divide double
eq erf expm1 flip floor_divide fmod gather ge gt half index_add index_select isfinite isnan le long
lt masked_select matmul mean movedim multiply ne neg nonzero outer prod quantile remainder repeat
repeat_interleave roll scatter scatter_add sin sinh square std subtract sum tan tile tril triu type
unique var
"""
_PURE_METHODS = {word for word in (*OPERATIONS, *_MORE_METHODS.split()) if not word.endswith("_")}
_WRITING = {f"{word}_" for word in ("copy", "fill", "zero", *_PURE_METHODS)}
# What passes no data on: properties and shapes.
_NO_DATA = words(lambda row: row.query or row.shape_only or row.from_nothing) - {"tensor"}
_SAME_DATA = {"H", "T", "data", "mH", "mT", "real", "values"}
_COMPUTING = {"abs", "float", "int", "list", "max", "min", "pow", "round", "sum", "tuple"}
_READS = words(lambda row: row.reads_value)
_UNCERTAIN = (
    *(ast.If, ast.For, ast.AsyncFor, ast.While, ast.Try, ast.ExceptHandler, ast.match_case),
)
_DECLARING = (ast.Global, ast.Nonlocal)


def number_reads(context: Context) -> list[Event]:
    """The events in which tensors became numbers or arrays before the last pass from the roots.

    What is read right after a backward pass, as by ``print(loss.item())``, was computed before it.
    Nothing is computed from numbers that a line only checks or shows.
    """
    events = context.happened(EventKind.BACKWARD)
    passes = [e.number for e in events if {*context.roots} & {*getattr(e.details, "roots", ())}]
    made = [event.number for event in context.happened(EventKind.OPERATION)]

    def is_after_a_pass(number: int) -> bool:
        at = bisect(context.passes, number, key=lambda each: each.number)
        return at > 0 and bisect(made, number) == bisect(made, context.passes[at - 1].number)

    return [
        event
        for event in context.happened(EventKind.CUT)
        if event.word in _READS
        and event.location
        and not (passes and event.number >= passes[-1])
        and not is_after_a_pass(event.number)
        and not is_only_shown(event.location, _READS)
    ]


def is_proved(context: Context, is_so: Callable[[SourceLocation, str], bool], source: str) -> bool:
    """Whether it is known that the results use, or do not use, a number that a line reads."""
    key = (is_so, source)
    if key not in context.cache:
        names = [*map(context.name_of, context.roots)] or [""]
        pairs = ((line, name) for line in locations_of([source]) for name in names)
        context.cache[key] = all(name and is_so(line, name) for line, name in pairs)
    return bool(context.cache[key])


def is_unused_by(location: SourceLocation, root: str) -> bool:
    """Whether the variable that a line assigns is known not to go into another variable.

    Args:
        location: the line: ``"k = w.max().item()"``.
        root: the name of a variable that is assigned in the same function.

    Returns:
        True if the code proves it. False if the value of the variable may go into ``root``.
    """
    tree, statement = syntax_tree(location.file), statement_at(location)
    if tree is None or not isinstance(statement, (ast.Assign, ast.Expr)):
        return False
    scope = _scope_of(tree, statement)
    nodes = [*ast.walk(scope)]
    targets: list[ast.expr] = [] if isinstance(statement, ast.Expr) else statement.targets
    names = {target.id for target in targets if isinstance(target, ast.Name)}
    kept = _appended_to(statement)
    is_plain = bool(kept or targets) and all(isinstance(target, ast.Name) for target in targets)
    is_shared = scope is not tree and any(isinstance(node, _DECLARING) for node in nodes)
    own = _assigned_in(nodes)
    if not is_plain or is_shared or isinstance(scope, ast.ClassDef) or root not in own:
        return False
    pure = _pure_names(tree)
    done = {*ast.walk(statement)} if kept else set()
    flows = [flow for node in nodes if node not in done for flow in _flows(node, pure)]
    quiet = pure.difference(*(flow.made for flow in flows))  # no value goes through them
    flows = [flow._replace(used=flow.used - quiet) for flow in flows]
    reached, changed = _closure(flows, names | kept, kept)
    # What other functions can see, they may use.
    if isinstance(scope, _FUNCTIONS) and changed - own - pure:
        return False
    left = {name for node in nodes if isinstance(node, _LEAVING) for name in _names_in(node)}
    return root not in reached and not (left & reached)


def is_used_by(location: SourceLocation, root: str) -> bool:
    """Whether a variable is known to be computed from the numbers that a line reads.

    Args:
        location: the line: ``"k = w.max().item()"``.
        root: the name of a variable that is assigned in the same function.

    Returns:
        True if assignments that certainly run prove it.
    """
    tree, statement = syntax_tree(location.file), statement_at(location)
    value = getattr(statement, "value", None)
    if tree is None or statement is None or value is None:
        return False
    kept = _appended_to(statement)
    if kept and isinstance(value, ast.Call):
        value = value.args[0]
    elif not isinstance(statement, ast.Assign):
        return False
    pure = _pure_names(tree)
    own = list(_with_data(value, pure))
    reads = [node for node in ast.walk(value) if _reads_value(node)]
    if not reads or not all(each in own for each in reads):
        return False
    rows = list(_rows(_scope_of(tree, statement)))
    if kept and sum(_written_by(each) == kept for each, _ in rows) > 1:
        return False  # what is read from the list may be another element
    start = next((at for at, (each, _) in enumerate(rows) if each is statement), len(rows))
    known, inside = set[str](), rows[start][1]
    loops = {(node, part) for node, part in inside if isinstance(node, (ast.For, ast.While))}
    ifs, skipped = {node for node, _ in inside if isinstance(node, ast.If)}, set[str]()
    for each, blocks in rows[start:]:
        if any(node in ifs and (node, part) not in inside for node, part in blocks):
            skipped |= _assigned_in(ast.walk(each))  # the other branch, until the next turn
            continue
        known = known if loops <= blocks else known - skipped
        used = each is statement or _uses(each, known, pure)
        known = _known_after(each, known, used, blocks <= inside)
    declared = (node.names for node in ast.walk(tree) if isinstance(node, _DECLARING))
    return root in known and not known & {name for names in declared for name in names}


def singular_behind(line: str, words: Iterable[str]) -> tuple[str, SourceLocation] | None:
    """The only operation of some that a line, or what it reads of its function, is computed by.

    Args:
        line: where a tensor was created.
        words: operations that are not finite somewhere: the first four are named before others.
    """
    words = [*words]
    rows = [(place, each) for place in locations_of([line]) for each in statements_behind(place)]
    found = [
        (word, replace(place, line=node.lineno, text=""))
        for place, each in rows
        for node in nodes_in(each, ast.Call, ast.BinOp)
        if (word := _singular(node)) in words
    ]
    few = [each for each in found if each[0] in words[:4]][:1] or found
    return few[0] if len(few) == 1 else None


def statements_behind(location: SourceLocation) -> list[ast.stmt]:
    """The statement of a line, and those that assign or return what it reads, in its file."""
    tree, statement = syntax_tree(location.file), statement_at(location)
    if tree is None or statement is None:
        return []
    return [*_behind(tree, statement)]


@functools.lru_cache(maxsize=64)
def _behind(tree: ast.Module, statement: ast.stmt) -> tuple[ast.stmt, ...]:
    found, rows = {statement: None}, dict[ast.AST, list[tuple[ast.stmt, set[str]]]]()
    stack = [statement]
    while stack:
        each = stack.pop(0)
        scope, read = _scope_of(tree, each), _names_in(each)
        if scope not in rows:
            every = nodes_in(scope, ast.Assign, ast.AugAssign, ast.AnnAssign)
            own = [e for e in every if _scope_of(tree, e) is scope]
            rows[scope] = [(e, _assigned_in(ast.walk(e))) for e in own]
        called = {called_name(call) for call in nodes_in(each, ast.Call)}
        functions = (e for e in nodes_in(tree, ast.FunctionDef) if e.name in called)
        new: list[ast.stmt] = [e for e, names in rows[scope] if names & read]
        new = [e for e in new if e.lineno < each.lineno]
        new += [e for function in functions for e in nodes_in(function, ast.Return)]
        stack += [e for e in new if e not in found]
        found.update(dict.fromkeys(new))
    return tuple(found)


def _singular(node: ast.expr) -> str:
    """The word of an operation, unless it is a power or a quotient that is always finite."""
    sign = type(getattr(node, "op", None)).__name__.lower()
    word = called_name(node) if isinstance(node, ast.Call) else sign
    parts = operands(node)[1:]
    is_negative = any(isinstance(part, ast.UnaryOp) for part in parts)
    is_count = any(isinstance(e, ast.Call) and called_name(e) in ("len", "numel") for e in parts)
    is_constant = is_count or all(isinstance(part, ast.Constant) for part in parts)
    return "" if (word == "pow" and not is_negative) or (word == "div" and is_constant) else word


_Rows = Iterator[tuple[ast.stmt, frozenset[tuple[ast.AST, str]]]]


def _rows(scope: ast.AST, blocks: frozenset[tuple[ast.AST, str]] = frozenset()) -> _Rows:
    """The statements of a function in order, each with the blocks around it that may not run."""
    for part in ("body", "handlers", "orelse", "finalbody", "cases"):
        around = blocks | {(scope, part)} if isinstance(scope, _UNCERTAIN) else blocks
        for each in getattr(scope, part, ()):
            if isinstance(each, ast.stmt):
                yield each, around
            if not isinstance(each, (*_FUNCTIONS, ast.ClassDef)):
                yield from _rows(each, around)


def _uses(statement: ast.stmt, known: set[str], pure: set[str]) -> bool:
    """Whether what a statement assigns or writes is computed from one of the names."""
    if not isinstance(statement, (*_ASSIGNING, ast.Expr)) or statement.value is None:
        return False
    parts = _with_data(statement.value, pure)
    return any(isinstance(part, ast.Name) and part.id in known for part in parts)


def _known_after(statement: ast.stmt, known: set[str], is_used: bool, is_certain: bool) -> set[str]:
    """The names that certainly have the value after a statement.

    Args:
        statement: runs now.
        known: those before it.
        is_used: whether it assigns or writes something computed from them.
        is_certain: whether it certainly runs.
    """
    heads = [getattr(statement, "target", None), *getattr(statement, "targets", ())]
    heads += [each.optional_vars for each in getattr(statement, "items", ())]
    bound = _assigned_in(node for head in heads if head is not None for node in ast.walk(head))
    if isinstance(statement, (*_FUNCTIONS, ast.ClassDef)):
        bound = {statement.name}
    written = _written_by(statement)
    if isinstance(statement, ast.AugAssign):
        written, bound = bound, set()
    if not is_used:
        return known - bound
    one = {name for name in bound if heads and isinstance(heads[-1], ast.Name)}
    new = (one | written) if is_certain else (one & known)
    return (known - bound) | new


def _written_by(statement: ast.stmt) -> set[str]:
    """The tensors into which a statement writes: ``x.add_(k)``, ``x[0] = k``."""
    targets: list[ast.expr] = []
    if isinstance(statement, ast.Assign):
        targets = [each.value for each in statement.targets if isinstance(each, ast.Subscript)]
    elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        method = statement.value.func
        if isinstance(method, ast.Attribute) and method.attr.endswith(("_", "append")):
            targets = [method.value]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _with_data(node: ast.AST, pure: set[str]) -> Iterator[ast.AST]:
    """The parts of an expression whose numbers its value is certainly computed from."""
    yield node
    parts: list[ast.expr] = []
    if isinstance(node, ast.BinOp):
        parts = [node.left, node.right]
    elif isinstance(node, (ast.Tuple, ast.List)):
        parts = node.elts
    elif isinstance(node, ast.UnaryOp):
        parts = [node.operand]
    elif isinstance(node, (ast.Subscript, ast.Starred)):
        parts = [node.value]
    elif isinstance(node, ast.Attribute):
        parts = [node.value] if node.attr in _SAME_DATA else []
    elif isinstance(node, (ast.ListComp, ast.GeneratorExp)) and len(node.generators) == 1:
        names = {part.id for part in _with_data(node.elt, pure) if isinstance(part, ast.Name)}
        parts = [node.elt]
        if names & _names_in(node.generators[0].target):
            parts.append(node.generators[0].iter)
    elif isinstance(node, ast.Call):
        parts = _arguments_with_data(node, pure)
    for part in parts:
        yield from _with_data(part, pure)


def _arguments_with_data(call: ast.Call, pure: set[str]) -> list[ast.expr]:
    """The arguments of a call, or its object, whose numbers the result is computed from."""
    arguments = [*call.args, *(each.value for each in call.keywords)]
    function = call.func
    if isinstance(function, ast.Name):
        return arguments if function.id in _COMPUTING & pure else []
    if not isinstance(function, ast.Attribute):
        return []
    row, owner = operation(function.attr.rstrip("_")), function.value
    if function.attr == "full":
        return call.args[1:2]
    if function.attr in _NO_DATA or not function.attr.islower():
        return []
    while isinstance(owner, ast.Attribute):
        owner = owner.value
    if isinstance(owner, ast.Name) and owner.id in pure:
        is_computed = "autograd" not in ast.unparse(function)
        return (arguments[:1] if row.rearranges or row.views else arguments) if is_computed else []
    is_known = row.word and not (row.rearranges or row.views or row.reads_value)
    return [function.value, *(arguments if is_known else ())]


def _reads_value(node: ast.AST) -> bool:
    """Whether a node is a call that converts a tensor to numbers: ``x.item()``, ``float(x)``."""
    return isinstance(node, ast.Call) and called_name(node) in _READS


def _scope_of(tree: ast.Module, statement: ast.stmt) -> ast.AST:
    """The innermost function or class, or the module, that contains a statement."""
    every: list[Any] = nodes_in(tree, *_FUNCTIONS, ast.ClassDef)
    scopes = (e for e in every if e.lineno <= statement.lineno <= (e.end_lineno or 0))
    return max(scopes, key=lambda node: node.lineno, default=tree)


def _appended_to(statement: ast.stmt) -> set[str]:
    """The list to which a statement appends a number alone: ``numbers.append(x.item())``."""
    call = statement.value if isinstance(statement, ast.Expr) else None
    if not isinstance(call, ast.Call) or not all(map(_reads_value, call.args)):
        return set()
    method = call.func
    if not isinstance(method, ast.Attribute) or method.attr != "append":
        return set()
    return {method.value.id} if isinstance(method.value, ast.Name) else set()


def _closure(flows: list[_Flow], start: set[str], objects: set[str]) -> tuple[set[str], set[str]]:
    """The names that values of ``start`` may reach, and those of changed objects among them."""
    reached, changed = set(start), set(objects)
    size = -1
    while size != len(reached) + len(changed):
        size = len(reached) + len(changed)
        for used, made, changes, is_kept in flows:
            if used & reached:
                reached |= made
                changed |= made if changes else set()
            # An object may have more than one name: a change is seen under those that it came from.
            if is_kept and made & changed:
                changed |= used
        reached |= changed
    return reached, changed


def _flows(node: ast.AST, pure: set[str]) -> Iterator[_Flow]:
    """The flows of one node of a syntax tree; those inside are flows of their own."""
    if isinstance(node, _ASSIGNING):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        made, used = _names_in(*targets), _names_in(node)
        is_stored = isinstance(node, ast.AugAssign) or not all(map(_is_plain, targets))
        yield _Flow(used, made, is_stored, is_kept=not _is_new(node.value))
    elif isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension)):
        yield _Flow(_names_in(node.iter), _assigned_in(ast.walk(node)))
    elif isinstance(node, (ast.If, ast.While)):
        yield _Flow(_names_in(node.test), _assigned_in(ast.walk(node)))
    elif isinstance(node, (ast.With, ast.AsyncWith, ast.Match)):
        heads = [node.subject] if isinstance(node, ast.Match) else node.items
        used = _names_in(*heads) - pure
        yield _Flow(used, used | _assigned_in(ast.walk(node)), changes=True)
    elif isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
        yield _Flow(_names_in(node), {node.name})
    elif (target := _written_in_place(node)) is not None:
        yield _Flow(_names_in(node) - pure, _names_in(target) - pure, changes=True, is_kept=False)
    elif _may_store(node, pure):
        used = _names_in(node) - pure
        yield _Flow(used, used, changes=True)


def _is_new(value: ast.expr | None) -> bool:
    """Whether arithmetic gives a new object, and not a list that contains old ones."""
    if not isinstance(value, ast.BinOp):
        return False
    calls = (each.func for each in (value.left, value.right) if isinstance(each, ast.Call))
    of_tensor = any(isinstance(e, ast.Attribute) and e.attr in _PURE_METHODS for e in calls)
    return of_tensor or not isinstance(value.op, (ast.Add, ast.Mult))


def _written_in_place(node: ast.AST) -> ast.expr | None:
    """The tensor into which a call writes, and keeps none of its arguments: ``x.copy_(y)``."""
    call = node.value if isinstance(node, ast.Expr) else node
    function = call.func if isinstance(call, ast.Call) else None
    is_one = isinstance(function, ast.Attribute) and function.attr in _WRITING
    return function.value if is_one and isinstance(function, ast.Attribute) else None


def _may_store(node: ast.AST, pure: set[str]) -> bool:
    """Whether a statement or call may keep its arguments, or change them."""
    if isinstance(node, ast.Expr):
        return not is_showing(node.value)
    return isinstance(node, ast.Call) and not (is_showing(node) or _stores_nothing(node, pure))


def _is_plain(target: ast.expr) -> bool:
    """Whether an assignment to a target binds names, and changes no object."""
    parts = target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target]
    return all(isinstance(part, ast.Name) for part in parts)


def _stores_nothing(call: ast.Call, pure: set[str]) -> bool:
    """Whether a call is known to keep none of its arguments: an operation, or a library's."""
    function = call.func
    if isinstance(function, ast.Attribute) and function.attr in _PURE_METHODS:
        return True
    while isinstance(function, ast.Attribute):
        function = function.value
    return isinstance(function, ast.Name) and function.id in pure


def _pure_names(tree: ast.Module) -> set[str]:
    """The names of built-in functions and of imports from libraries that nothing else has."""
    found = set(dir(builtins))
    nodes = [*ast.walk(tree)]
    for node in nodes:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            module = getattr(node, "module", None)
            for alias in node.names:
                name = alias.asname or alias.name.partition(".")[0]
                if (module or alias.name).partition(".")[0] in _LIBRARIES:
                    found.add(name)
    return found - _assigned_in(nodes) - {node.arg for node in nodes if isinstance(node, ast.arg)}


def _names_in(*trees: ast.AST) -> set[str]:
    return {node.id for tree in trees for node in nodes_in(tree, ast.Name)}


def _assigned_in(nodes: Iterable[ast.AST]) -> set[str]:
    """The names that are assigned, by an assignment, a loop, a definition or a pattern."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif (
            isinstance(node, (*_FUNCTIONS, ast.ClassDef, ast.MatchAs, ast.MatchStar)) and node.name
        ):
            found.add(node.name)
    return found


def calls_in(context: Context, name: str, keyword: str = "") -> list[SourceLocation]:
    """The lines of the program that call a function of that name."""
    return context.cached((name, keyword), lambda: calls(context.files, name, keyword))


def rebound_in(context: Context) -> list[tuple[SourceLocation, str, bool]]:
    """The lines of the recorded files that assign an update to a variable."""
    return context.cached("rebound", lambda: rebound_updates(context.files))


def older_that_is_held(context: Context, question: Question) -> str:
    """The leaf of the same name that the later steps of a line hold, without a gradient; or ""."""
    name, added = question.data.get("name"), context.happened_to(question.key, EventKind.ACCUMULATE)
    since = added[0].number if added else 0
    later = [(e.location, details) for e, details in context.steps if added and e.number > since]
    older = context.cached("held by name", lambda: _held_by_name(context)).get(name or "", ())
    found = (
        key
        for key in (older if name and later else ())
        if key != question.key
        and (lines := {line for line, details in later if key in details.held})
        and all(key in details.held for line, details in later if line in lines)
        and all(e.number < since for e in context.happened_to(key, EventKind.ACCUMULATE))
    )
    return next(found, "")


def _held_by_name(context: Context) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key in dict.fromkeys(key for _, details in context.steps for key in details.held):
        found.setdefault((context.node_in_a_frame(key) or {}).get("name", ""), []).append(key)
    return found


# How a result or a parameter is created and kept.


def created_later(context: Context, name: str) -> SourceLocation | None:
    """The only line, outside of ``__init__``, that assigned a new parameter to that attribute."""
    found = [
        SourceLocation(file, node.lineno)
        for file in context.files
        for node in nodes_in(syntax_tree(file), ast.Assign)
        if isinstance(node.value, ast.Call) and called_name(node.value) == "Parameter"
        if getattr(node.targets[0], "attr", "") == name
    ]
    has_run = len(found) == 1 and bool(context.made_at(str(found[0]), ""))
    around = statements_around(found[0], ast.FunctionDef) if has_run else []
    return found[0] if around and around[-1].name != "__init__" else None


def assigned_after(made: SourceLocation, name: str) -> SourceLocation | None:
    """The line that assigns a module in the path of a parameter, later in the same function.

    Args:
        made: the line after which it is.
        name: of the parameter: ``"model.head.weight"``.
    """
    around = statements_around(made, ast.FunctionDef)
    for node in nodes_in(syntax_tree(made.file), ast.Assign):
        if node.lineno <= made.line or not isinstance(node.value, ast.Call):
            continue
        line, target = SourceLocation(made.file, node.lineno), ast.unparse(node.targets[0])
        path = target.replace("[", ".").replace("]", "").replace("'", "")
        is_part = f"{name}.".startswith((f"{path}.", f"{path.partition('.')[2] or path}."))
        is_wrapped = target in ast.unparse(node.value)
        is_part = is_part and "." in path and not is_wrapped
        if is_part and statements_around(line, ast.FunctionDef) == around:
            return line
    return None


_TABLES = ("Embedding.from_pretrained", "EmbeddingBag.from_pretrained")


def frozen_from_start(files: Iterable[str], name: str) -> tuple[SourceLocation, str] | tuple[()]:
    """The only line that creates a parameter of that name frozen, and what trains it instead.

    It is not known where a line switches ``requires_grad``: that may have frozen it.

    Args:
        files: as their lines are shown.
        name: of the parameter: ``"net.embed.weight"``.
    """
    *_, owner, own = ("", "", *name.split("."))
    found: list[tuple[SourceLocation, str]] = []
    for file in files:
        if any(map(_may_freeze, nodes_in(syntax_tree(file), ast.Attribute, ast.Call))):
            return ()
        for node in nodes_in(syntax_tree(file), ast.Assign):
            target = getattr(node.targets[0], "attr", getattr(node.targets[0], "id", ""))
            for call in nodes_in(node.value, ast.Call) if target in (owner, own) else ():
                given = {each.arg: ast.unparse(each.value) for each in call.keywords}
                line = SourceLocation(file, node.lineno)
                if target == own and given.get("requires_grad") == "False":
                    found.append((line, "leave out requires_grad=False"))
                freeze = given.get("freeze", ast.unparse(call.args[1]) if call.args[1:] else "True")
                is_table = ast.unparse(call.func).endswith(_TABLES) and own == "weight"
                if target == owner and is_table and freeze == "True":
                    found.append((line, "pass freeze=False to from_pretrained"))
    return found[0] if len(found) == 1 else ()


def _may_freeze(node: ast.expr) -> bool:
    """Whether it is ``p.requires_grad = ...`` or ``requires_grad_(...)`` with an argument."""
    if isinstance(node, ast.Call):
        return called_name(node) == "requires_grad_" and bool(node.args or node.keywords)
    is_flag = isinstance(node, ast.Attribute) and node.attr == "requires_grad"
    return is_flag and isinstance(getattr(node, "ctx", None), ast.Store)
