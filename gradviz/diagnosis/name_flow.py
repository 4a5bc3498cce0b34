"""Where the value of a variable goes on to, as far as one function's code proves it.

A number that a line reads (``k = w.max().item()``) is a cause only if the result uses it. The code
is followed by names, and in doubt a name is used: what is returned, stored in an object that other
code can see, or passed to a function of the user may come back anywhere.
"""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from gradviz.diagnosis.lines import is_showing, statement_at, syntax_tree
from gradviz.facts import SourceLocation
from gradviz.graph.operations import OPERATIONS

__all__ = ["is_unused_by"]


class _Flow(NamedTuple):
    """The values of some names go into others.

    Args:
        used: the names that are read.
        made: the names that are assigned; for an object that is changed, the names that are read.
        changes: whether the objects of these names may be changed, and not only assigned.
    """

    used: set[str]
    made: set[str]
    changes: bool = False


_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_LEAVING = (ast.Return, ast.Yield, ast.YieldFrom, ast.Raise, ast.Await)
_ASSIGNING = (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.NamedExpr)
# Modules whose functions store no argument, and methods that do not.
_LIBRARIES = {"torch", "numpy", *sys.stdlib_module_names}
_PURE_METHODS = {word for word in OPERATIONS if not word.endswith("_")}


def is_unused_by(location: SourceLocation, root: str) -> bool:
    """Whether the variable that a line assigns is known not to go into another variable.

    Args:
        location: the line: ``"k = w.max().item()"``.
        root: the name of a variable that is assigned in the same function.

    Returns:
        True if the code proves it. False if the value of the variable may go into ``root``.
    """
    tree, statement = syntax_tree(location.file), statement_at(location)
    if tree is None or not isinstance(statement, ast.Assign):
        return False
    scope = _scope_of(tree, statement)
    nodes = [*ast.walk(scope)]
    names = {target.id for target in statement.targets if isinstance(target, ast.Name)}
    is_plain = all(isinstance(target, ast.Name) for target in statement.targets)
    is_shared = any(isinstance(node, (ast.Global, ast.Nonlocal)) for node in nodes)
    own = _assigned_in(nodes)
    if not is_plain or is_shared or isinstance(scope, ast.ClassDef) or root not in own:
        return False
    pure = _pure_names(tree)
    flows = [flow for node in nodes for flow in _flows(node, pure)]
    reached, changed = _closure(flows, names)
    # What other functions can see, they may use.
    if isinstance(scope, _FUNCTIONS) and changed - own - pure:
        return False
    left = {name for node in nodes if isinstance(node, _LEAVING) for name in _names_in(node)}
    return root not in reached and not (left & reached)


def _scope_of(tree: ast.Module, statement: ast.stmt) -> ast.AST:
    """The innermost function or class, or the module, that contains a statement."""
    scopes = (
        node
        for node in ast.walk(tree)
        if isinstance(node, (*_FUNCTIONS, ast.ClassDef))
        and node.lineno <= statement.lineno <= (node.end_lineno or 0)
    )
    return max(scopes, key=lambda node: node.lineno, default=tree)


def _closure(flows: list[_Flow], start: set[str]) -> tuple[set[str], set[str]]:
    """The names that values of ``start`` may reach, and those of changed objects among them."""
    reached, changed = set(start), set[str]()
    size = -1
    while size != len(reached) + len(changed):
        size = len(reached) + len(changed)
        for used, made, changes in flows:
            if used & reached:
                reached |= made
                changed |= made if changes else set()
            # An object may have more than one name: a change is seen under those that it came from.
            if made & changed:
                changed |= used
        reached |= changed
    return reached, changed


def _flows(node: ast.AST, pure: set[str]) -> Iterator[_Flow]:
    """The flows of one node of a syntax tree; those inside are flows of their own."""
    if isinstance(node, _ASSIGNING):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        made, used = _names_in(*targets), _names_in(node)
        is_stored = isinstance(node, ast.AugAssign) or not all(map(_is_plain, targets))
        yield _Flow(used, made, is_stored)
    elif isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension)):
        yield _Flow(_names_in(node.iter), _assigned_in(ast.walk(node)))
    elif isinstance(node, (ast.If, ast.While)):
        yield _Flow(_names_in(node.test), _assigned_in(ast.walk(node)))
    elif isinstance(node, (ast.With, ast.AsyncWith, ast.Match)):
        heads = [node.subject] if isinstance(node, ast.Match) else node.items
        used = _names_in(*heads)
        yield _Flow(used, used | _assigned_in(ast.walk(node)), changes=True)
    elif isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
        yield _Flow(_names_in(node), {node.name})
    elif _may_store(node, pure):
        used = _names_in(node) - pure
        yield _Flow(used, used, changes=True)


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
    nodes = (node for tree in trees for node in ast.walk(tree))
    return {node.id for node in nodes if isinstance(node, ast.Name)}


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
