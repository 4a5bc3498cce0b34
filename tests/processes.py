"""Which tests start a process, read from the source: `make test-fast` leaves them out."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from house import parsed

# Names of modules, fixtures and functions that start a process.
STARTS = frozenset(
    {
        *(
            "subprocess",
            "children",
            "rank_programs",
            "rank_programs_more",
            "multiprocessing",
            "pytester",
            "pty",
            "fork",
        ),
        *("nbclient", "nbconvert", "browser", "sphinx_building", "Sphinx", "build_site"),
    }
)


@cache
def starting(path: Path) -> frozenset[str]:
    """The functions of a module that start a process, or call one that does."""
    functions = {
        node.name: _names(node)
        for node in ast.walk(parsed(path))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    behind = STARTS | _imported_from_those(parsed(path))
    found = {name for name, used in functions.items() if used & behind}
    while more := {n for n, used in functions.items() if n not in found and used & found}:
        found |= more
    return frozenset(found)


def _names(function: ast.AST) -> set[str]:
    """All names in a function: what it calls, and the fixtures that it asks for."""
    return {
        name
        for node in ast.walk(function)
        for name in (getattr(node, "id", ""), getattr(node, "attr", ""), getattr(node, "arg", ""))
        if name
    }


def _imported_from_those(tree: ast.Module) -> set[str]:
    return {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in STARTS
        for alias in node.names
    }
