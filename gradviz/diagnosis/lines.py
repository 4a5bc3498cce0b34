"""Lines of the user's program: their code, and its syntax tree.

Only files that were read as source are parsed: those whose lines were recorded.
"""

from __future__ import annotations

import ast
import functools
import linecache
import os
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from gradviz.facts import SourceLocation
from gradviz.graph import NodeData, NodeKind, word_of
from gradviz.shown import files_of_cell
from gradviz.story import Event
from gradviz.torch_messages import MessageKind as Kind
from gradviz.torch_messages import TorchMessage
from gradviz.wording import inside_text


def locations_of(sources: Iterable[str]) -> tuple[SourceLocation, ...]:
    """Lines as typed locations, each once; text that is not a line is left out."""
    found = []
    for source in dict.fromkeys(sources):
        file, _, number = source.rpartition(":")
        if file and number.isdigit():
            found.append(SourceLocation(file, int(number), text=code_of(source)))
    return tuple(found)


def mention(place: str | SourceLocation, inside: str | SourceLocation = "") -> str:
    """A line with its code: ``train.py:31 (h = h.detach())``.

    Args:
        place: the line.
        inside: the line of the library that it called; "" for none.
    """
    text = _plain_code(place.text) if isinstance(place, SourceLocation) else ""
    text = text or code_of(str(place))
    line = f"{place} ({text})" if 0 < len(text) <= 60 else str(place)
    return f"{line}, {inside_text(mention(inside))}" if inside else line


def at_line(place: str | SourceLocation) -> str:
    """`mention` after "at"; "" for no line."""
    return f" at {mention(place)}" if place else ""


_SHOWING = ("print", "debug", "info", "warning", "error", "add_scalar", "set_postfix")


def is_only_shown(location: SourceLocation, words: Container[str]) -> bool:
    """Whether a line uses numbers only to check, print or format them.

    Args:
        location: the line.
        words: the functions that read numbers: ``"item"``.
    """
    statement = statement_at(location)
    if isinstance(statement, ast.Assert):
        return True
    if isinstance(statement, ast.Expr) and is_showing(statement.value):
        return True
    texts = nodes_in(statement, ast.JoinedStr)
    shown = sum(_reads_in(text, words) for text in texts)
    return bool(texts) and _reads_in(statement, words) == shown


def _reads_in(tree: ast.AST | None, words: Container[str]) -> int:
    return sum(called_name(call) in words for call in nodes_in(tree, ast.Call))


def called_name(call: ast.Call) -> str:
    """The name of the function or method that is called; "" if the code has none."""
    name: str = getattr(call.func, "attr", getattr(call.func, "id", ""))
    return name


def _plain_code(line: str) -> str:
    """The code of a line without its comment."""
    text = " ".join(line.split())
    code, _, comment = text.partition(" # ")
    return text if set("'\"") & set(comment) else code


def code_of(source: str) -> str:
    """The code of a line, without its comment; "" if unknown."""
    file, _, number = source.rpartition(":")
    known = _known_file(file)
    return _plain_code(linecache.getline(known, int(number))) if known and number.isdigit() else ""


def has_line(node: ast.AST, line: int) -> bool:
    """Whether a line is in a statement."""
    return isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or 0)


def statements_around(location: SourceLocation, *kinds: type[_Node]) -> list[_Node]:
    """The statements of some kinds that have a line in them, the outermost first."""
    every = nodes_in(syntax_tree(location.file), *kinds)
    return [each for each in every if has_line(each, location.line)]


def as_given(used: SourceLocation, name: str, freed: SourceLocation) -> str:
    """What to detach of an argument of a function in which the pass does not run; or ""."""
    for function in statements_around(used, ast.FunctionDef)[-1:]:
        names = [each.arg for each in nodes_in(function.args, ast.arg)]
        if name in names and not (used.file == freed.file and has_line(function, freed.line)):
            return f"detach what {function.name}() is given as {name}, after each backward pass"
    return ""


_SIGNED: dict[str, type[ast.operator | ast.unaryop]] = {
    "add": ast.Add,
    "sub": ast.Sub,
    "rsub": ast.Sub,
    "mul": ast.Mult,
    "div": ast.Div,
    "true_divide": ast.Div,
    "matmul": ast.MatMult,
    "pow": ast.Pow,
    "neg": ast.USub,
}


_SIGNS: dict[str, tuple[str, type[ast.cmpop]]] = {
    "gt": ("lt", ast.Gt),
    "lt": ("gt", ast.Lt),
    "ge": ("le", ast.GtE),
    "le": ("ge", ast.LtE),
}


def as_written(word: str, source: str) -> str:
    """The name of a comparison as a line has it: of ``x > w``, ``lt`` runs if w is a parameter.

    Args:
        word: the operation that ran.
        source: the line.
    """
    mirror, sign = _SIGNS.get(word, ("", None))
    signs = {
        type(each)
        for location in (locations_of([source]) if mirror else ())
        for statement in _statements_at(location)
        for node in nodes_in(statement, ast.Compare)
        for each in node.ops
    }
    return mirror if sign not in signs and mirror and _SIGNS[mirror][1] in signs else word


def statement_at(location: SourceLocation) -> ast.stmt | None:
    """The innermost statement of a line; the first line of a compound one, such as ``with``.

    If the file is unknown, the text of the line is parsed alone. If a line has several statements,
    it is the one at the column, or None if the column is unknown.
    """
    found = _statements_at(location)
    return found[0] if len(found) == 1 else None


def _statements_at(location: SourceLocation) -> list[ast.stmt]:
    tree = syntax_tree(location.file) if location.line else None
    if tree is None:
        return _alone(location.text)
    found = [node for node in nodes_in(tree, ast.stmt) if _spans(node, location.line)]
    last = max((node.lineno for node in found), default=0)
    found = [node for node in found if node.lineno == last]
    there = [
        node
        for node in found
        if location.column >= 0
        and (node.lineno, node.col_offset) <= (location.line, location.column)
        and (location.line, location.column) < (node.end_lineno or 0, node.end_col_offset or 0)
    ]
    return there[-1:] or found


def expressions_at(location: SourceLocation, word: str) -> list[ast.expr]:
    """The expressions in a line that can be the call of an operation.

    Args:
        location: the line; its column, if known, is the start of the expression.
        word: the name of the operation: ``"mul"``, ``"linear"``.
    """
    found: list[ast.expr] = [
        node
        for statement in _statements_at(location)
        for node in nodes_in(statement, ast.BinOp, ast.UnaryOp, ast.Call)
        if location.column in (-1, node.col_offset)
        and node.lineno <= location.line <= (node.end_lineno or node.lineno)
    ]
    kind = _SIGNED.get(word.rstrip("_"))
    named = [node for node in found if _is_named(node, word, kind)]
    calls: list[ast.expr] = [node for node in found if isinstance(node, ast.Call)]
    return named or calls or ([] if kind else found)


_SHORT = 40


def as_read(data: NodeData) -> str:
    """The name of a node; of data without one, the ``x[:, None]`` that its line has once."""
    op, texts = word_of(data), set[str]()
    is_data = data["kind"] is NodeKind.UNTRACKED and "name" not in data
    for location in locations_of([data.get("source", "")]) if is_data else ():
        for node in nodes_in(statement_at(location), ast.Subscript, ast.Call, ast.BinOp):
            is_item = op == "getitem" and isinstance(node, ast.Subscript)
            is_it = is_item or _is_named(node, op, _SIGNED.get(op))
            if is_it and node.lineno == location.line and len(text := ast.unparse(node)) < _SHORT:
                texts.add(text)
    return texts.pop() if len(texts) == 1 else op


def as_read_at(data: NodeData, line: str) -> str:
    """`as_read`; of an operation whose result has no name, with its line if it is another one."""
    read, source = as_read(data), data.get("source", "")
    if data["kind"] is NodeKind.UNTRACKED and "name" not in data and read == data.get("op"):
        return f"the result of {read}"
    if data["kind"] is not NodeKind.OPERATION or "name" in data or not source:
        return read
    return f"the result of {read}" if source == line else f"{read} at {source}"


def operands(expression: ast.expr) -> list[ast.expr]:
    """The operands of an operation: its sides, or the object and the arguments."""
    if isinstance(expression, ast.UnaryOp):
        return [expression.operand]
    if isinstance(expression, ast.BinOp):
        return [expression.left, expression.right]
    if not isinstance(expression, ast.Call):
        return []
    called = expression.func
    owner = [called.value] if isinstance(called, ast.Attribute) else []
    return [*owner, *expression.args, *(keyword.value for keyword in expression.keywords)]


def stored(expression: ast.expr) -> bool:
    """Whether an expression reads variables, attributes or items, and nothing else."""
    if isinstance(expression, (ast.Tuple, ast.List)):
        return bool(expression.elts) and all(map(stored, expression.elts))
    return isinstance(expression, (ast.Name, ast.Attribute, ast.Subscript))


def straight_through(line: str) -> tuple[str, str, bool] | None:
    """The ``x`` and ``y`` of ``x + (y - x).detach()`` on a line, and whether it assigns to one.

    Returns:
        None if the line has none.
    """
    locations = locations_of([line])
    statement = statement_at(locations[0]) if locations else None
    for node in nodes_in(statement, ast.BinOp):
        if isinstance(node.op, ast.Add):
            for kept, call in ((node.left, node.right), (node.right, node.left)):
                if (difference := _detached(call)) and ast.dump(difference[1]) == ast.dump(kept):
                    pair = ast.unparse(kept), ast.unparse(difference[0])
                    targets = statement.targets if isinstance(statement, ast.Assign) else []
                    return *pair, not {*pair}.isdisjoint(map(ast.unparse, targets))
    return None


def _detached(call: ast.expr) -> tuple[ast.expr, ast.expr] | None:
    """The operands of ``(y - x).detach()`` and of ``(y - x).data``."""
    function = call.func if isinstance(call, ast.Call) else call
    name = "data" if function is call else "detach"
    if not isinstance(function, ast.Attribute) or function.attr != name:
        return None
    inner = function.value
    if isinstance(inner, ast.BinOp) and isinstance(inner.op, ast.Sub):
        return inner.left, inner.right
    return None


def one_of_several(location: SourceLocation, name: str) -> str:
    """The ``b.detach()`` or ``b.data`` at a column, if its statement has several that differ.

    Args:
        location: the line and the column.
        name: "detach" or "data".
    """
    found = {
        (node.lineno, node.col_offset): ast.unparse(node)
        for node in nodes_in(statement_at(location), ast.Attribute)
        if node.attr == name
    }
    text = found.get((location.line, location.column), "")
    call = "()" if name == "detach" else ""
    return f"{text}{call}" if text and len(set(found.values())) > 1 else ""


def assignments_to(location: SourceLocation, target: str) -> list[tuple[int, ast.expr]]:
    """The lines of a file that assign to an expression, ``"self.state"``, or append to it.

    Returns:
        Each line with the assigned or appended expression.
    """
    tree = syntax_tree(location.file)
    return [] if tree is None else list(_assigned(tree, target))


def _assigned(tree: ast.AST, target: str) -> Iterator[tuple[int, ast.expr]]:
    appends = (f"{target}.append", f"{target}.appendleft")
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            sides = [(each, node.value) for each in node.targets]
            for to, value in sides:
                if isinstance(to, ast.Tuple) and isinstance(value, ast.Tuple):
                    sides += zip(to.elts, value.elts, strict=False)
                elif ast.unparse(to) == target:
                    yield node.lineno, value
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in appends:
            yield from ((node.lineno, each) for each in node.args[:1])


def assigned_before(location: SourceLocation, name: str) -> list[SourceLocation]:
    """The line that last assigned to a name before a line of the same function; [] if unknown."""
    functions = nodes_in(syntax_tree(location.file), ast.FunctionDef)
    starts = [node.lineno for node in functions]
    start = max((each for each in starts if each <= location.line), default=0)
    lines = [each for each, _ in assignments_to(location, name) if start < each < location.line]
    return [replace(location, line=each, text="") for each in lines[-1:]]


def is_showing(call: ast.expr) -> bool:
    """Whether an expression is a call that prints or logs its arguments: ``print(loss)``."""
    return isinstance(call, ast.Call) and any(_is_named(call, word, None) for word in _SHOWING)


def line_of_flag(files: Iterable[str], attribute: str, module: str) -> SourceLocation:
    """The only line that sets an attribute to False; none when there are several.

    Of a module's ``requires_grad``, which parameters have as well, the variable must be that of
    the module.
    """
    found = _switched_off_by(files, attribute)
    if attribute == "requires_grad":
        found = [row for row in found if row[1] == module]
    return found[0][0] if len(found) == 1 else SourceLocation()


def _switched_off_by(files: Iterable[str], attribute: str) -> list[tuple[SourceLocation, str]]:
    """The lines that set an attribute to False, and of what: ``model.features``.

    Args:
        files: as their lines are shown.
        attribute: its name.
    """
    return [
        (SourceLocation(file, node.lineno), ast.unparse(target.value))
        for file in files
        for node in nodes_in(syntax_tree(file), ast.Assign)
        if isinstance(node.value, ast.Constant) and node.value.value is False
        for target in node.targets
        if isinstance(target, ast.Attribute) and target.attr == attribute
    ]


def rebound_updates(files: Iterable[str]) -> list[tuple[SourceLocation, str, bool]]:
    """The lines that assign an update by ``.grad`` to the variable itself: ``p = p - lr * p.grad``.

    Args:
        files: as their lines are shown.

    Returns:
        Each line with the variable, and whether it is that of a loop around the line.
    """
    found = []
    for file in files:
        tree = syntax_tree(file)
        loops = {
            (node, each.id)
            for loop in nodes_in(tree, ast.For)
            for each in nodes_in(loop.target, ast.Name)
            for node in ast.walk(loop)
        }
        assigned = nodes_in(tree, ast.Assign)
        made = {ast.unparse(each.targets[0]): ast.unparse(each.value) for each in assigned}
        for node in assigned:
            if not isinstance(node.value, ast.BinOp):
                continue
            name, value = ast.unparse(node.targets[0]), node.value
            is_own = ast.unparse(value.left) in (name, f"{name}.data", f"{name}.detach()")
            change = [made.get(e.id, e.id) for e in nodes_in(value.right, ast.Name)]
            if is_own and f"{name}.grad" in ast.unparse(value.right) + str(change):
                location = SourceLocation(file, node.lineno, text=ast.unparse(node))
                found.append((location, name, (node, name) in loops))
    return found


_TRANSFORMS = ("grad", "grad_and_value", "jacrev", "jacfwd")


def transforms_in(files: Iterable[str]) -> list[SourceLocation]:
    """The lines of files that call a function of ``torch.func`` that returns gradients."""
    found = []
    for file in files:
        tree = syntax_tree(file)
        names = {f"{module}.{each}" for module in ("torch.func", "func") for each in _TRANSFORMS}
        for node in nodes_in(tree, ast.ImportFrom):
            if node.module in ("torch.func", "functorch"):
                names |= {e.asname or e.name for e in node.names if e.name in _TRANSFORMS}
        found += [
            SourceLocation(file, node.lineno)
            for node in nodes_in(tree, ast.Call)
            if ast.unparse(node.func) in names
        ]
    return found


def hook_registered_at(made: SourceLocation, line: SourceLocation, words: Container[str]) -> str:
    """The name of the hook that a line registers, if another line is in it; "" for another."""
    around = {each.name for each in statements_around(line, ast.FunctionDef)}
    for call in nodes_in(statement_at(made), ast.Call):
        hook = call.args[0] if call.args and called_name(call) in words else None
        if isinstance(hook, ast.Lambda) and hook.lineno <= line.line <= (hook.end_lineno or 0):
            return "the hook"
        name = ast.unparse(hook).rpartition(".")[2] if hook is not None else ""
        if name in around:
            return name
    return ""


def calls(files: Iterable[str], name: str, keyword: str = "") -> list[SourceLocation]:
    """The lines of files that call a function, as ``name()`` or ``x.name()``, with a keyword."""
    return [
        SourceLocation(file, node.lineno)
        for file in files
        for node in nodes_in(syntax_tree(file), ast.Call)
        if _is_named(node, name) and keyword in ("", *(each.arg for each in node.keywords))
    ]


def without_alias(target: ast.expr) -> ast.expr:
    """``x`` of ``x.data`` and ``x.detach()``."""
    if isinstance(target, ast.Attribute) and target.attr == "data":
        return target.value
    if isinstance(target, ast.Call) and getattr(target.func, "attr", "") == "detach":
        return target.func.value if isinstance(target.func, ast.Attribute) else target
    return target


_CAN_BE_NONE = (ast.Name, ast.Attribute, ast.Subscript, ast.Call)
_OPERATORS = {
    **{"+": ast.Add, "-": ast.Sub, "*": ast.Mult, "/": ast.Div, "//": ast.FloorDiv},
    **{"@": ast.MatMult, "%": ast.Mod, "** or pow()": ast.Pow, "|": ast.BitOr, "&": ast.BitAnd},
    "^": ast.BitXor,
}


def can_be_none(statement: ast.stmt, read: TorchMessage) -> Iterator[ast.expr]:
    """The expressions in a line that can be the None of a message."""
    attributes = nodes_in(statement, ast.Attribute)
    found = [node.value for node in attributes if read.attribute == node.attr]
    found = found or [each for node in ast.walk(statement) for each in _suspects_in(node, read)]
    yield from (each for each in found if isinstance(each, _CAN_BE_NONE))


def _suspects_in(node: ast.AST, read: TorchMessage) -> list[ast.expr]:
    if read.kind is Kind.NONE_OPERAND:
        return _operands_in(node, read)
    if read.kind is Kind.NONE_COMPARED:
        return [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
    if read.kind is Kind.NONE_NEGATED and isinstance(node, ast.UnaryOp):
        return [node.operand]
    if read.kind is Kind.NONE_INDEXED:
        return [node.value] if isinstance(node, ast.Subscript) else []
    if isinstance(node, ast.Call):
        return [*node.args, *(each.value for each in node.keywords)]
    if isinstance(node, (ast.List, ast.Tuple)):
        return node.elts
    if isinstance(node, (ast.ListComp, ast.GeneratorExp)):
        return [node.elt]
    return [node.iter] if isinstance(node, (ast.For, ast.comprehension)) else []


def _operands_in(node: ast.AST, read: TorchMessage) -> list[ast.expr]:
    """The operands of an operator that were None."""
    kind = _OPERATORS.get(read.operator.removesuffix("="), ast.operator)
    if isinstance(node, ast.BinOp) and isinstance(node.op, kind):
        sides = [node.left, node.right]
    elif isinstance(node, ast.AugAssign) and isinstance(node.op, kind):
        sides = [node.target, node.value]
    else:
        return []
    names = (read.left, read.right)
    return [side for side, name in zip(sides, names, strict=True) if name == "NoneType"]


def owner_of(location: SourceLocation, attribute: str) -> str:
    """The variable whose attribute a line reads; "" for none, or several."""
    names = {
        ast.unparse(node.value)
        for node in nodes_in(statement_at(location), ast.Attribute)
        if node.attr == attribute and stored(node.value)
    }
    return names.pop() if len(names) == 1 else ""


def called_on(line: str, is_whole: bool = False) -> set[str]:
    """The names of the functions and methods that a line calls: ``{"deepcopy"}``.

    Args:
        line: the line.
        is_whole: whether its whole statement counts.
    """
    return {
        called_name(node)
        for location in locations_of([line])
        for statement in _statements_at(location)
        for node in nodes_in(statement, ast.Call)
        if is_whole or node.lineno == location.line
    }


def _is_named(
    node: ast.AST, word: str, kind: type[ast.operator | ast.unaryop] | None = None
) -> bool:
    if isinstance(node, (ast.BinOp, ast.UnaryOp)):
        return kind is not None and isinstance(node.op, kind)
    called = node.func if isinstance(node, ast.Call) else node
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    return bool(name == word)


def _spans(node: ast.stmt, line: int) -> bool:
    body = getattr(node, "body", None)
    last = body[0].lineno - 1 if isinstance(body, list) and body else node.end_lineno
    return node.lineno <= line <= max(last or node.lineno, node.lineno)


def _alone(code: str) -> list[ast.stmt]:
    """Parse one line; an empty body is added if it starts a block."""
    for text in (code, f"{code} pass"):
        try:
            return ast.parse(text).body
        except (SyntaxError, ValueError):
            continue
    return []


def _known_file(file: str) -> str:
    """The file that was read, by the name under which its lines are shown; "" if unknown."""
    known = [name for name in (file, str(Path(file).absolute())) if name in linecache.cache]
    known = known[:1] or [name for name in linecache.cache if name.endswith(os.sep + file)]
    # The latest has priority: under a magic command, a cell has the code of the command too.
    known = known or files_of_cell(file)[-1:]
    return known[0] if len(known) == 1 else ""


def syntax_tree(file: str) -> ast.Module | None:
    """The syntax tree of a file, by the name under which its lines are shown; None if unknown."""
    known = _known_file(file)
    return _tree("".join(linecache.getlines(known)) if known else "")


_Node = TypeVar("_Node", bound=ast.AST)


def nodes_in(tree: ast.AST | None, *kinds: type[_Node]) -> list[_Node]:
    """The nodes of some kinds in a syntax tree; none without a tree."""
    if isinstance(tree, (ast.Module, ast.FunctionDef)):
        return [*_nodes_of_file(tree, kinds)]
    return [node for node in (ast.walk(tree) if tree else ()) if isinstance(node, kinds)]


@functools.lru_cache(maxsize=512)
def _nodes_of_file(tree: ast.AST, kinds: tuple[type[_Node], ...]) -> tuple[_Node, ...]:
    # Rules ask for the same nodes of a file for each tensor.
    return tuple(node for node in ast.walk(tree) if isinstance(node, kinds))


@functools.lru_cache(maxsize=16)
def _tree(text: str) -> ast.Module | None:
    try:
        return ast.parse(text) if text else None
    except (SyntaxError, ValueError, RecursionError):
        return None


def lines_with_graph(passes: Iterable[Event]) -> set[str]:
    """The lines of the passes that recorded their own operations: with ``create_graph=True``."""
    return {str(e.location) for e in passes if getattr(e.details, "create_graph", False)}


def imported(file: str) -> set[str]:
    """The names of imports of a file, such as ``nn``, of which a state is no part."""
    tree = syntax_tree(file)
    imports: list[Any] = [*nodes_in(tree, ast.Import), *nodes_in(tree, ast.ImportFrom)]
    return {a.asname or a.name.partition(".")[0] for each in imports for a in each.names}


def first_on_line(events: Sequence[Event]) -> int:
    """The number of the first of some events that is on the line of the last one; 0 for none."""
    return next((each.number for each in events if each.location == events[-1].location), 0)
