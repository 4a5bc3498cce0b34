"""What the source of a program shows of how a result or a parameter is created and kept."""

from __future__ import annotations

import ast
from collections.abc import Container, Iterable

from gradviz.diagnosis.lines import (
    called_name,
    functions_around,
    has_line,
    nodes_in,
    statement_at,
    syntax_tree,
)
from gradviz.facts import SourceLocation
from gradviz.story import Event

_CACHES = ("lru_cache", "cache", "cached_property")


def cached_function(location: SourceLocation, names: Container[str] = ()) -> tuple[str, str]:
    """A function around a line, or with one of some names, whose result a decorator keeps.

    Returns:
        Its name and that of the decorator; "" for none.
    """
    for node in nodes_in(syntax_tree(location.file), ast.FunctionDef):
        for each in node.decorator_list:
            called = each.func if isinstance(each, ast.Call) else each
            word = ast.unparse(called).rpartition(".")[2]
            if word in _CACHES and (has_line(node, location.line) or node.name in names):
                return node.name, word
    return "", ""


def created_later(files: Iterable[str], name: str) -> SourceLocation | None:
    """The only line, outside of ``__init__``, that assigns a new parameter to such an attribute."""
    found = [
        SourceLocation(file, node.lineno)
        for file in files
        for node in nodes_in(syntax_tree(file), ast.Assign)
        if isinstance(node.value, ast.Call) and called_name(node.value) == "Parameter"
        if getattr(node.targets[0], "attr", "") == name
    ]
    around = functions_around(found[0]) if len(found) == 1 else []
    return found[0] if around and around[-1].name != "__init__" else None


_TABLES = ("Embedding.from_pretrained", "EmbeddingBag.from_pretrained")


def frozen_from_start(files: Iterable[str], name: str) -> tuple[SourceLocation, str] | tuple[()]:
    """The only line that creates a parameter of that name frozen, and what trains it instead.

    Args:
        files: as their lines are shown.
        name: of the parameter: ``"net.embed.weight"``.
    """
    *_, owner, own = ("", "", *name.split("."))
    found: list[tuple[SourceLocation, str]] = []
    for file in files:
        for node in nodes_in(syntax_tree(file), ast.Assign):
            target = ast.unparse(node.targets[0]).rpartition(".")[2]
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


def kept_beside(made: Event, texts: Iterable[str]) -> str:
    """The attribute or item to which a line assigns a tensor besides a variable; "" for none.

    Of ``x, self.states[i] = cell(x, self.states[i])``, it is what the next step reads.
    """
    statement = statement_at(made.location)
    every = statement.targets if isinstance(statement, ast.Assign) else []
    targets = [each for target in every for each in getattr(target, "elts", [target])]
    kept = [ast.unparse(each) for each in targets if not isinstance(each, ast.Name)]
    found = [each for each in kept if each in texts]
    return found[0] if len(targets) > 1 and len(found) == 1 else ""
