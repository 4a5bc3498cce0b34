"""Rules about statements: terms of a loss, and comparisons that look like assignments."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Container, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple, cast

from gradviz.diagnosis.answers import Explanation, Group, Verdict
from gradviz.diagnosis.context import Context, Question
from gradviz.diagnosis.copies import reads_of_grad
from gradviz.diagnosis.cuts import (
    FIX_OF_CAUSE,
    CutFacts,
    fix_of_cut,
    said_of,
)
from gradviz.diagnosis.lines import (
    called_name,
    locations_of,
    mention,
    nodes_in,
    statement_at,
    syntax_tree,
)
from gradviz.diagnosis.name_flow import statements_behind
from gradviz.diagnosis.relative_size import trained_by
from gradviz.diagnosis.rule import Evidence, OtherSubject, Rule, answers_about
from gradviz.diagnosis.values import Addend, addends_of, has_its_value
from gradviz.facts import CutEdge, EventKind, FrameKind, SourceLocation, ValueRead
from gradviz.graph import Cause, NodeKind, ancestors, descendants, is_data
from gradviz.graph.operations import words
from gradviz.graph.text import joined

# Terms of a loss.


class _FixedPart(NamedTuple):
    """A part of a term that no gradient can come through: why, what to do, and its line."""

    key: str
    why: str
    fix: str
    line: str


@dataclass(frozen=True)
class _Term:
    """A term of a loss: no gradient comes through it to what the pass of its context trains."""

    key: str
    line: str
    cuts: list[CutEdge]
    read: ValueRead | None
    trained: frozenset[str]
    context: Context
    fixed: _FixedPart | None = None
    group: Group = Group.NO_GRADIENT
    kind: None = None

    @property
    def name(self) -> str:
        """Its name, or that of the loss."""
        name = self.context.graph.nodes[self.key].get("name") if self.key else ""
        return str(name or f"a term of {self.root}")

    @property
    def root(self) -> str:
        """The name of the loss."""
        names = [each for each in map(self.context.name_of, self.context.roots) if each]
        return joined(names) if names else "the loss"


_OF_A_PASS = (FrameKind.FORWARD, FrameKind.AFTER_BACKWARD)
_CUTS_OF_TERMS = {
    *(Cause.DETACH, Cause.NO_GRAD, Cause.INFERENCE_MODE, Cause.DATA, Cause.COPY, Cause.NUMPY),
    *(Cause.ITEM, Cause.AUTOGRAD_GRAD, Cause.NOT_DIFFERENTIABLE),
}
_MANY = 20  # terms of a loss that are looked at further, such as those of a loop


def terms_without_gradient(context: Context) -> list[Explanation]:
    """An explanation of each term of a loss that in no pass adds to the gradients that are used."""
    found: dict[tuple[str, int], _Term | None] = {}
    # What cuts off a parameter that never got a gradient is in the row of that parameter.
    never = [each for each in context.held if not context.happened_to(each, EventKind.ACCUMULATE)]
    for frame in context.frames if context.passes else ():
        event = context.pass_of.get(frame.pass_number)
        trained = trained_by(context, event) if event is not None else frozenset[str]()
        if event is None or frame.kind not in _OF_A_PASS or not trained:
            continue
        graph = frame.graph
        roots = tuple(key for key in getattr(event.details, "roots", ()) if key in graph)
        inside, dead = replace(context, graph=graph, roots=roots), set[str]()
        alive = descendants(graph, trained)
        ordered = sorted(alive, key=lambda key: int(key[1:]))
        edges = (CutEdge(*edge) for edge in graph.out_edges(ordered, data=True))
        cuts = [cut for cut in edges if cut.edge.get("cause") in _CUTS_OF_TERMS]
        spoiled = descendants(graph, [cut.target for cut in cuts], is_data) - alive
        told = descendants(graph, [each for each in never if each in graph], is_data)
        spoiled -= told
        left = _MANY
        for number, row in enumerate(addends_of(graph, roots)):
            place, term = (graph.nodes[row.sum].get("source", ""), number), None
            is_fixed = not row.key or graph.nodes[row.key]["kind"] is NodeKind.UNTRACKED
            is_asked = row.sum not in dead and (row.key in spoiled or is_fixed)
            is_asked = is_asked and row.key not in told
            if is_asked and (left := left - 1) >= 0:
                term = _term_at(inside, row, trained, cuts if row.key in spoiled else [])
                if term is not None and term.fixed is None:
                    dead |= ancestors(graph, [row.key])
            found[place] = term if found.get(place, term) is not None else None
    return answers_about(cut_term, found.values())


def _term_at(
    context: Context, row: Addend, trained: frozenset[str], cuts: list[CutEdge]
) -> _Term | None:
    """A term behind some of the cuts, or one of a number or a constant if there are none."""
    line = context.graph.nodes[row.sum].get("source", "")
    own = _cuts_of_term(context, row, cuts) if cuts else []
    read = None if cuts else _number_at(context, row, trained)
    if own or read:
        return _Term(row.key, line, own, read, trained, context)
    fixed = _constant_at(context, row) if row.key and not cuts else None
    return _Term(fixed.key, line, [], None, trained, context, fixed) if fixed else None


def _cuts_of_term(context: Context, row: Addend, cuts: list[CutEdge]) -> list[CutEdge]:
    """Those of some cuts that a term is behind, the likeliest fault first.

    ``x + (y - x).detach()`` has the value of y: the gradient of x is what is wanted.
    """
    data = ancestors(context.graph, [row.key], is_data)
    own = [cut for cut in cuts if cut.target in data]
    if ancestors(context.graph, [row.key], has_its_value) & row.others:
        return []
    return sorted(own, key=lambda cut: CutFacts.of(context, cut).rank)


def _number_at(context: Context, row: Addend, trained: frozenset[str]) -> ValueRead | None:
    """Where a number was read from a tensor that is added to a loss; None for another number."""
    data = context.graph.nodes[row.key or row.sum]
    reads = [each for key in sorted(trained) for each in context.numbers.get(key, ())]
    for place in locations_of([data.get("source", "")]) if reads else ():
        tree, statement = syntax_tree(place.file), statement_at(place)
        file = data.get("source", "").rpartition(":")[0]
        rows = ((*each.source.rpartition(":")[::2], each) for each in reads)
        lines = {int(line): each for of, line, each in rows if of == file}
        if lines and tree is not None and statement is not None:
            find = "made_from" if row.key else "added"
            key = "numbers", find, statement, *lines  # the same ones in each step of a loop
            found = context.cached(key, lambda: _numbers(find, statement, tree, lines))  # noqa: B023
            return next((lines[each] for each in sorted(found)), None)
    return None


def _constant_at(context: Context, row: Addend) -> _FixedPart | None:
    """The part of a term that no gradient can come through."""
    graph, nodes = context.graph, context.graph.nodes
    every = [row.key, *(ancestors(graph, [row.key], is_data) - {row.key})]
    made = [key for key in every if nodes[key]["kind"] is NodeKind.UNTRACKED]
    for key in made:
        op, line = nodes[key].get("op", ""), nodes[key].get("source", "")
        if op in _COMPARING and {*graph.predecessors(key)} <= {*made} and line:
            why = f"no input of {op} at {mention(line)} requires grad"
            fix = f"{line}: compute an input of {op} by the model that is trained"
            return _FixedPart(key, why, fix, line)
    for key in made:
        for place in locations_of([nodes[key].get("source", "")]):
            for call in _without_graph(place):
                line, name = str(SourceLocation(place.file, call.lineno)), called_name(call)
                why = f"{name}() at {mention(line)} computes it without create_graph=True"
                return _FixedPart(row.key, why, f"{line}: {name}(..., create_graph=True)", line)
            for read, line in reads_of_grad(place, nodes[key].get("op", "")):
                why = f"{read}.grad at {mention(line)} was computed without create_graph=True"
                fix = f"{line}: take it from torch.autograd.grad(result, {read}, create_graph=True)"
                return _FixedPart(row.key, why, fix, line)
    return None


_COMPARING = words(lambda row: row.word.endswith("_loss")) | {"kl_div", "cross_entropy"}
_COMPARING |= {"binary_cross_entropy", "binary_cross_entropy_with_logits"}
_DERIVATIVES = ("hessian", "jacobian", "vjp", "jvp", "vhp", "hvp")


def _without_graph(place: SourceLocation) -> Iterator[ast.Call]:
    """Calls of torch.autograd.functional, without create_graph, by which a line is computed."""
    imports = nodes_in(syntax_tree(place.file), ast.ImportFrom)
    own = {a.name for e in imports if e.module == "torch.autograd.functional" for a in e.names}
    for statement in statements_behind(place):
        calls = nodes_in(statement, ast.Call)
        for call in (each for each in calls if called_name(each) in _DERIVATIVES):
            code = ast.unparse(call)
            is_one = f"autograd.functional.{called_name(call)}" in code or called_name(call) in own
            if is_one and "create_graph" not in code and len(call.args) <= 2:
                yield call


def _of_term(context: Context, term: _Term) -> Evidence:
    graph, read = context.graph, term.read
    ends = ancestors(graph, [cut.source for cut in term.cuts]) & term.trained
    if read is not None:
        ends = {key for key in term.trained if read in context.numbers.get(key, ())}
        called = "detach() and " if read.cut.edge.get("cause") is Cause.DETACH else ""
        what = "computed from an array" if read.word == "numpy" else "a plain number"
        why = f"it is {what} by {read.word}() at {mention(read.source, read.inside)}"
        fix = f"keep it a tensor: leave out {called}{read.word}()"
        fix = FIX_OF_CAUSE[Cause.NUMPY] if read.word == "numpy" else fix
        fixes = [f"{read.source}: {fix}"]
        lines = locations_of([read.source])
    elif term.fixed is not None:
        ends, why, fixes = {*term.trained}, term.fixed.why, [term.fixed.fix]
        lines = locations_of([term.fixed.line])
    else:
        said = said_of(context, *term.cuts)
        why, lines = f"the path is cut by {said.cut}{said.more}", said.lines
        fixes = [fix_of_cut(context, cut) for cut in term.cuts]
    leaves = [graph.nodes[key].get("name") or "a leaf" for key in sorted(ends) if key in graph]
    told = {"root": term.root, "line": mention(term.line), "leaves": joined(leaves), "why": why}
    told["fix"] = "; or ".join([*dict.fromkeys(fixes)][:3])
    lines = (*lines, *locations_of([term.line]))
    return Evidence(told, (term.key,), lines, term.cuts[0].target if term.cuts else term.key)


cut_term: Rule[Any, Any] = Rule(
    "a term of the loss without a gradient",
    Verdict.CUT,
    _of_term,
    "it is added to {root} at {line}, and adds nothing to the gradient of {leaves}: {why}",
    events=(EventKind.BACKWARD,),
    docs="In every pass of a line that a recording keeps. Not of x + (y - x).detach().",
)


# Numbers that are added to a loss.


_Place = tuple[ast.expr, ast.AST]  # an expression, and the function or module that it stands in
_TO_NUMBERS = words(lambda row: row.reads_value)
_ON_NUMBERS = {"abs", "max", "min", "pow", "round", "sum", "sorted"}
_OF_NUMBERS = ("math.", "np.", "numpy.", "statistics.")
_MAKE = ("as_tensor", "from_numpy", "tensor")
_ANY = object()  # any element of a list


_MOST = 300  # variables that are looked up


def _numbers(
    find: str, statement: ast.stmt, tree: ast.Module, lines: Container[int]
) -> frozenset[int]:
    """What a method of `_Numbers` finds; nothing if there is too much to follow."""
    with suppress(RecursionError):
        return cast(frozenset[int], getattr(_Numbers(tree, lines), find)(statement))
    return frozenset()


class _Numbers:
    """Which of some lines the numbers of an expression are read at, as far as the code proves it.

    Args:
        tree: the code of the file.
        lines: those that read numbers from tensors.
    """

    def __init__(self, tree: ast.Module, lines: Container[int]) -> None:
        self._tree, self._lines, self._running = tree, lines, set[int]()
        self._known: dict[int, frozenset[int] | None] = {}
        self._left = _MOST
        self._until: tuple[ast.AST, int] = tree, 0

    def added(self, statement: ast.stmt) -> frozenset[int]:
        """The lines of the numbers that a statement adds to something else."""
        node, scope = getattr(statement, "value", None), self._scope(statement)
        self._until = scope, statement.lineno
        while node is not None:
            terms = [(each, scope) for each in _terms(node)]
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "sum":
                terms = self._elements((node.args[0], scope))
            is_update = isinstance(statement, ast.AugAssign) and node is statement.value
            found = [self.lines_of(each) for each in terms]
            if any(found) and (is_update or None in found):
                return frozenset[int]().union(*filter(None, found))
            unknown = [each for each, lines in zip(terms, found, strict=True) if lines is None]
            node = _inside(unknown[0][0]) if len(unknown) == 1 else None
        return frozenset()

    def made_from(self, statement: ast.stmt) -> frozenset[int]:
        """The lines of the numbers of which a statement makes a tensor."""
        calls = [e for e in nodes_in(statement, ast.Call) if called_name(e) in _MAKE and e.args]
        rows = (self.lines_of((each.args[0], self._scope(statement))) for each in calls)
        return next(filter(None, rows), frozenset())

    def lines_of(self, place: _Place) -> frozenset[int] | None:
        """The lines at which a number, array or list of them is read; None if it is none."""
        node = id(place[0])
        if node in self._running:  # such as a running mean
            return None
        if node not in self._known:
            self._running.add(node)
            self._known[node] = self._lines_of(*place)
            self._running.discard(node)
        return self._known[node]

    def _lines_of(self, node: ast.expr, scope: ast.AST) -> frozenset[int] | None:
        if isinstance(node, ast.Constant):
            return frozenset() if isinstance(node.value, (int, float)) else None
        if isinstance(node, ast.Call):
            return self._lines_of_call(node, scope)
        if isinstance(node, (ast.UnaryOp, ast.Starred)):
            return self.lines_of((getattr(node, "operand", getattr(node, "value", node)), scope))
        if isinstance(node, ast.BinOp):
            sides = [(self.lines_of((each, scope)), each) for each in (node.left, node.right)]
            known = (k for k, e in sides if k is not None or not self._is_plain(e, scope))
            return _all_of(known)
        if isinstance(node, ast.IfExp):
            return _all_of(self.lines_of((each, scope)) for each in (node.body, node.orelse))
        if isinstance(node, (ast.List, ast.Tuple, ast.Dict)):
            parts = node.values if isinstance(node, ast.Dict) else node.elts
            return _all_of(self.lines_of((each, scope)) for each in parts)
        if isinstance(node, (ast.ListComp, ast.GeneratorExp)):
            return self.lines_of((node.elt, scope))
        found = [e for e in self._values(node, scope) if ast.unparse(e[0]) != "[]"]
        return _all_of(map(self.lines_of, found + self._appended(node, scope)))

    def _is_plain(self, node: ast.expr, scope: ast.AST) -> bool:
        """Whether it is a variable of which nothing is known: a number, as in self.weight * k."""
        is_one = isinstance(node, (ast.Name, ast.Attribute, ast.Subscript))
        if isinstance(node, ast.BinOp):
            sides = [e for e in (node.left, node.right) if not isinstance(e, ast.Constant)]
            return all(self._is_plain(each, scope) for each in sides)
        return is_one and not self._values(node, scope)

    def _lines_of_call(self, call: ast.Call, scope: ast.AST) -> frozenset[int] | None:
        if called_name(call) in _TO_NUMBERS and call.lineno in self._lines:
            return frozenset((call.lineno,))
        name = ast.unparse(call.func)
        if name == "len":
            return frozenset()
        given = [self.lines_of((each, scope)) for each in call.args]
        if name in _ON_NUMBERS:
            return _all_of(given)
        if name.startswith(_OF_NUMBERS) or called_name(call) in _TO_NUMBERS:
            of = call.func.value if isinstance(call.func, ast.Attribute) else None
            given += [self.lines_of((of, scope))] if of is not None else []
            return frozenset[int]().union(*filter(None, given))
        if isinstance(call.func, ast.Attribute) and not self._returned(call):
            # Such as array.mean(), or terms.values().
            return self.lines_of((call.func.value, scope)) or None
        return _all_of(map(self.lines_of, self._values(call, scope)))

    def _values(self, node: ast.expr, scope: ast.AST) -> list[_Place]:
        """What an expression may be: assigned, returned, or a part of a list, dict or object."""
        if isinstance(node, ast.Call):
            return self._returned(node)
        if isinstance(node, ast.Subscript):
            key = node.slice.value if isinstance(node.slice, ast.Constant) else _ANY
            return self._part((node.value, scope), key) or self._assigned(node, scope)
        if isinstance(node, ast.Attribute):
            return self._assigned(node, scope) or self._part((node.value, scope), node.attr)
        return self._assigned(node, scope)

    def _assigned(self, node: ast.expr, scope: ast.AST) -> list[_Place]:
        """What a variable is assigned in its function, or an attribute in any one."""
        self._left -= 1
        if self._left < 0:
            raise RecursionError
        found, text = list[_Place](), ast.unparse(node)
        is_own = isinstance(node, ast.Name)
        text = text if is_own or not isinstance(node, ast.Attribute) else f"self.{node.attr}"
        for each, at in _assignments(self._tree).get(text, ()):
            own = self._scope(each)
            is_later = self._until[0] is scope and each.lineno >= self._until[1]
            if is_own and (is_later or own is not scope):
                continue
            if isinstance(each, ast.AugAssign):
                found.append((node, scope))  # unknown
            else:
                place = each.value, own
                found += [place] if at < 0 else self._part(place, at) or [(node, scope)]
        loops: list[Any] = nodes_in(scope, ast.For, ast.comprehension) if is_own else []
        for loop in (each for each in loops if self._scope(each.target) is scope):
            targets = loop.target.elts if isinstance(loop.target, ast.Tuple) else [loop.target]
            for at, part in enumerate(targets):
                if ast.unparse(part) == text:
                    found += self._iterated((loop.iter, scope), at if targets[1:] else -1)
        return found

    def _iterated(self, place: _Place, at: int) -> list[_Place]:
        """What a loop gives to its variable, or to that one of several."""
        call, scope = place
        if isinstance(call, ast.Call) and at >= 0 and called_name(call) in ("zip", "enumerate"):
            at = at if called_name(call) == "zip" else at - 1
            return self._elements((call.args[at], scope)) if 0 <= at < len(call.args) else []
        if isinstance(call, ast.Call) and at == 1 and called_name(call) == "items":
            return self._elements(place)
        found = self._elements(place)
        return found if at < 0 else [part for each in found for part in self._part(each, at)]

    def _elements(self, place: _Place) -> list[_Place]:
        """The elements of a list, as written or appended."""
        node, scope = place
        if isinstance(node, (ast.List, ast.Tuple)):
            return [(each, scope) for each in node.elts]
        if isinstance(node, (ast.ListComp, ast.GeneratorExp)):
            return [(node.elt, scope)]
        if isinstance(node, ast.Dict):
            return [(each, scope) for each in node.values]
        if isinstance(node, ast.Call) and called_name(node) in ("items", "values"):
            return self._elements((getattr(node.func, "value", node.func), scope))
        if id(node) in self._running:
            return []
        self._running.add(id(node))
        found = [each for value in self._values(*place) for each in self._elements(value)]
        self._running.discard(id(node))
        return found + self._appended(*place)

    def _appended(self, node: ast.expr, scope: ast.AST) -> list[_Place]:
        """What a function appends to its list."""
        calls = nodes_in(scope, ast.Call) if isinstance(node, ast.Name) else []
        text = f"{ast.unparse(node)}.append"
        return [(e.args[0], scope) for e in calls if ast.unparse(e.func) == text and e.args]

    def _part(self, place: _Place, key: object) -> list[_Place]:
        """What is an element, entry or attribute of what an expression is."""
        node, scope = place
        if id(node) in self._running:
            return []
        if isinstance(node, ast.Dict):
            keys = [getattr(each, "value", None) for each in node.keys]
            return [(v, scope) for k, v in zip(keys, node.values, strict=True) if k == key]
        if isinstance(node, (ast.List, ast.Tuple)):
            parts = node.elts[key : key + 1] if isinstance(key, int) else node.elts
            return [(each, scope) for each in parts]
        if isinstance(node, (ast.ListComp, ast.GeneratorExp)):
            return [(node.elt, scope)]
        if isinstance(node, ast.Call) and called_name(node) == "zip":
            starred = [each.value for each in node.args if isinstance(each, ast.Starred)]
            rows = [row for each in starred for row in self._elements((each, scope))]
            return [part for row in rows for part in self._part(row, key)]
        if isinstance(node, ast.Call):
            given = {each.arg: each.value for each in node.keywords}
            for made in nodes_in(self._tree, ast.ClassDef):
                fields = [ast.unparse(e.target) for e in made.body if isinstance(e, ast.AnnAssign)]
                if made.name == called_name(node):
                    given |= dict(zip(fields, node.args, strict=False))
            if key in given:
                return [(given[key], scope)]
        self._running.add(id(node))
        found = [part for each in self._values(node, scope) for part in self._part(each, key)]
        self._running.discard(id(node))
        return found

    def _returned(self, call: ast.Call) -> list[_Place]:
        """What the function of the file that is called returns; a module, what its forward does."""
        name, every = called_name(call), nodes_in(self._tree, ast.FunctionDef)
        named = [each for each in every if each.name == name]
        if not named and not hasattr(builtins, name):
            is_own = isinstance(call.func, ast.Name) or ast.unparse(call.func).startswith("self.")
            called = ("forward", "__call__") if is_own else ()
            named = [each for each in every if each.name in called]
        return [(e.value, f) for f in named for e in nodes_in(f, ast.Return) if e.value]

    def _scope(self, node: ast.stmt | ast.expr) -> ast.AST:
        return _scopes(self._tree).get(node.lineno, self._tree)


@lru_cache(maxsize=8)
def _scopes(tree: ast.Module) -> dict[int, ast.AST]:
    """The innermost function around each line."""
    functions = sorted(nodes_in(tree, ast.FunctionDef), key=lambda each: each.lineno)
    return {n: f for f in functions for n in range(f.lineno, (f.end_lineno or 0) + 1)}


@lru_cache(maxsize=8)
def _assignments(tree: ast.Module) -> dict[str, list[tuple[Any, int]]]:
    """The statements that assign to each target, and its place among several; -1 for one."""
    found: dict[str, list[tuple[Any, int]]] = {}
    every: list[Any] = nodes_in(tree, ast.Assign, ast.AugAssign)
    for each in every:
        for target in [each.target] if isinstance(each, ast.AugAssign) else each.targets:
            parts = target.elts if isinstance(target, ast.Tuple) else [target]
            for at, part in enumerate(parts):
                place = at if isinstance(target, ast.Tuple) else -1
                found.setdefault(ast.unparse(part), []).append((each, place))
    return found


def _all_of(found: Iterable[frozenset[int] | None]) -> frozenset[int] | None:
    """All lines; None if there is nothing, or something unknown."""
    rows = [*found]
    return None if None in rows or not rows else frozenset[int]().union(*filter(None, rows))


def _terms(node: ast.expr) -> Iterator[ast.expr]:
    """The terms of a sum."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub)):
        yield from _terms(node.left)
        yield from _terms(node.right)
    else:
        yield node


def _inside(node: ast.expr) -> ast.expr | None:
    """The sum of which an expression is a mean, or a multiple."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Mult, ast.Div)):
        sums = [e for e in (node.left, node.right) if isinstance(e, ast.BinOp)]
        return sums[0] if len(sums) == 1 else None
    is_mean = isinstance(node, ast.Call) and called_name(node) in ("mean", "sum", "backward")
    return getattr(node.func, "value", None) if is_mean else None  # type: ignore[attr-defined]


# Conditions.


_COMPARISONS = frozenset(("lt", "le", "gt", "ge", "eq", "ne"))


def _in_condition(context: Context, question: Question) -> Evidence | None:
    """A condition that was a comparison of tensors reads a leaf, or calls its module."""
    name = f"{question.data.get('name', '')}."
    rows = context.cached("conditions", lambda: [*_compared_in(context)]) if name[1:] else []
    for place, read, is_called in rows:
        if _is_of(f"{read}.", name, is_called):
            told = {"line": mention(place), "read": read, "root": context.root_names}
            return Evidence(told, locations=(place,))
    return None


def _compared_in(context: Context) -> Iterator[tuple[SourceLocation, str, bool]]:
    """What conditions that compared tensors read or call: the line, the code, whether a call."""
    for file in context.files:
        tests: list[Any] = nodes_in(syntax_tree(file), ast.If, ast.While, ast.IfExp)
        for test in (each.test for each in tests):
            place = SourceLocation(file, test.lineno)
            ran = {event.word for event in context.events_on(str(place))}
            called = {id(call.func) for call in nodes_in(test, ast.Call)}
            for each in nodes_in(test, ast.Name, ast.Attribute) if ran & _COMPARISONS else ():
                yield place, ast.unparse(each), id(each) in called


def _is_of(code: str, name: str, is_called: bool) -> bool:
    """Whether code reads the leaf of a name, or calls its module; each ends in a dot."""
    own = code.removeprefix("self.")
    if own != code:
        name = name[name.find(f".{own}") + 1 :] if f".{own}" in name else name
    return name.startswith(own) if is_called else name == own


in_condition: Rule[Any, Any] = Rule(
    "a condition reads it",
    Verdict.NOT_CONNECTED,
    _in_condition,
    "no operation that {root} was computed from uses it; the condition at {line} reads {read}, and "
    "no gradient comes through a condition",
    "weight both cases by a soft condition, such as torch.sigmoid(x - threshold)",
    events=(EventKind.OPERATION,),
)


# Comparisons that look like assignments.

compared: Rule[Any, Any] = Rule(
    "a comparison that looks as if it assigned",
    Verdict.WITHOUT_EFFECT,
    lambda _, it: Evidence(
        {"line": mention(it.facts[0]), "fix": it.facts[1]}, locations=it.facts[:1]
    ),
    "{line} compares, and assigns nothing: == instead of =",
    "if it is to be assigned: {fix}",
    docs="A statement that compares requires_grad or grad, and does not use the result.",
)


def comparisons(context: Context) -> list[Explanation]:
    """An explanation of each statement ``p.requires_grad == False``."""
    found = list[OtherSubject]()
    for file in context.files:
        tree = syntax_tree(file)
        shown = getattr(tree, "body", [None])[-1:]  # a notebook prints the value of the last one
        for each in nodes_in(tree, ast.Expr):
            if isinstance(each.value, ast.Compare) and each not in shown:
                code, *more = ast.unparse(each).split(" == ")
                if code.endswith((".requires_grad", ".grad")) and len(more) == 1:
                    facts = SourceLocation(file, each.lineno), f"{code} = {more[0]}"
                    found.append(OtherSubject(code, "", context, facts))
    return answers_about(compared, found)
