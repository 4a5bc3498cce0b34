"""Rules about statements of a program: samples, copies of models, and comparisons."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, permutations
from typing import Any

from gradviz.diagnosis import relative_size
from gradviz.diagnosis.answers import Explanation, Group, Verdict
from gradviz.diagnosis.context import Context
from gradviz.diagnosis.cuts import CutFacts
from gradviz.diagnosis.lines import (
    assignments_to,
    at_line,
    called_name,
    locations_of,
    mention,
    nodes_in,
    statement_at,
    statements_around,
    syntax_tree,
)
from gradviz.diagnosis.rule import Evidence, OtherSubject, Rule, answers_about
from gradviz.facts import CutEdge, EventKind, FrameKind, SourceLocation
from gradviz.graph import NodeKind, ancestors
from gradviz.graph.text import joined

# Samples that are given to a layer.


_DRAWS = ("normal", "_sample_dirichlet", "_standard_gamma", "rand", "uniform_", "exponential_")
_WITHOUT_RSAMPLE = ("bernoulli", "binomial", "floor", "multinomial", "poisson")


def samples(context: Context) -> list[Explanation]:
    """An explanation of each sample that a layer is given, where no pass uses its probability."""
    found: dict[str, OtherSubject | None] = {}
    made = [e for kind in (EventKind.OPERATION, EventKind.IN_PLACE) for e in context.happened(kind)]
    drawn = {str(each.location) for each in made if each.word in _DRAWS}
    drawn -= {str(each.location) for each in made if each.word in _WITHOUT_RSAMPLE}
    for frame in context.frames if drawn and context.passes else ():
        event = context.pass_of.get(frame.pass_number)
        trained = relative_size.trained_by(context, event) if event is not None else frozenset()
        if frame.kind is FrameKind.AFTER_BACKWARD and trained:
            inside = replace(context, graph=frame.graph)
            for key in _drawn_at(inside, drawn):
                line, sample = _sample(inside, key, trained)
                found[line] = sample if found.get(line, sample) is not None else None
    return answers_about(sampled, found.values())


def _drawn_at(context: Context, lines: set[str]) -> Iterator[str]:
    nodes = context.graph.nodes
    for key, data in nodes.items():
        if (line := data.get("source")) in lines and data["kind"] is NodeKind.UNTRACKED:
            users = [nodes[each] for each in context.graph.successors(key)]
            own = (e for e in users if e["kind"] is NodeKind.UNTRACKED and e.get("source") == line)
            cuts = (CutEdge(*each) for each in context.graph.in_edges(key, data=True))
            if not any(own) and any(CutFacts.of(context, cut).is_sample for cut in cuts):
                yield key
        elif line in lines and data.get("op") == "normal":
            yield key


def _sample(context: Context, key: str, trained: frozenset[str]) -> tuple[str, OtherSubject | None]:
    """The line of a sample, and the sample; None if a layer is not given it, or it is healthy."""
    graph, data = context.graph, context.graph.nodes[key]
    line = data.get("source", "")
    sources, stack = set[str](), [*graph.predecessors(key)]
    while stack:
        if graph.nodes[source := stack.pop()]["kind"] is NodeKind.UNTRACKED:
            stack += graph.predecessors(source)
        else:
            sources.add(source)
    layer = relative_size.layer_given(graph, sources, key)
    if not layer or not (ends := ancestors(graph, sources) & trained):
        return line, None
    leaves = tuple(str(graph.nodes[each].get("name") or "a leaf") for each in sorted(ends))
    name = str(data.get("name") or "a sample")
    return line, OtherSubject(name, key, context, (layer, leaves), Group.NO_GRADIENT)


def _of_sample(context: Context, row: OtherSubject) -> Evidence:
    nodes, (layer, leaves) = context.graph.nodes, row.facts
    lines = [nodes[each].get("source", "") for each in (row.key, layer)]
    words = {"what": "sample(), which runs under no_grad", "leaves": joined(leaves)}
    words["fix"] = f"{lines[0]}: use rsample() instead of sample()"
    if nodes[row.key]["kind"] is NodeKind.OPERATION:
        words["what"] = "torch.normal(), whose derivative is 0"
        words["fix"] = f"{lines[0]}: draw it as mean + std * torch.randn_like(std)"
    words |= {"at": at_line(lines[0]), "layer": nodes[layer]["op"], "to": at_line(lines[1])}
    return Evidence(words, (layer,), locations_of(lines), layer)


sampled: Rule[Any, Any] = Rule(
    "a sample without a gradient in a layer",
    Verdict.CUT,
    _of_sample,
    "it is drawn by {what},{at} and given to {layer}{to}: no gradient comes through it to {leaves}",
    events=(EventKind.BACKWARD,),
    docs="Of continuous distributions, unless log_prob(sample) is computed, as a policy gradient "
    "does.",
)

# Copies that are the model itself.


def no_copies(context: Context) -> list[Explanation]:
    """An explanation of each variable that is no copy of a model that an optimizer trains."""
    found = dict[str, OtherSubject]()
    changes = context.happened(EventKind.IN_PLACE)
    lines = (e.location for e in changes if not context.held.isdisjoint(e.nodes))
    for line in filter(None, dict.fromkeys(lines)):
        for name, made, value in (each for pair in _models_at(line) for each in _same(line, pair)):
            found.setdefault(name, OtherSubject(name, "", context, (made, value, line)))
    return answers_about(same_model, found.values())


_READS = ("parameters", "named_parameters", "buffers", "named_buffers", "state_dict", "values")


def _model_of(read: ast.expr) -> str:
    while isinstance(read, ast.Call) and called_name(read) in _READS:
        read = getattr(read.func, "value", read.func)
    return ast.unparse(read)


def _models_at(location: SourceLocation) -> list[tuple[str, str]]:
    """The two variables of which a line writes the parameters of one into those of the other.

    Those of a function are the arguments of each of its calls.
    """
    parts = [*statements_around(location, ast.For)[-1:], statement_at(location)]
    called = [each for part in parts for each in nodes_in(part, ast.Call)]
    given = [each.args for each in called if called_name(each) == "zip" and len(each.args) == 2]
    for call in called:
        if isinstance(call.func, ast.Attribute) and call.func.attr == "load_state_dict":
            given.append([call.func.value, *call.args[:1]])
    pairs = [tuple(map(_model_of, each)) for each in given]
    for function in statements_around(location, ast.FunctionDef)[-1:]:
        names = [each.arg for each in function.args.args if each.arg != "self"]
        calls = [
            dict(zip(names, map(ast.unparse, each.args), strict=False))
            for each in nodes_in(syntax_tree(location.file), ast.Call)
            if called_name(each) == function.name
        ]
        if not {*names}.isdisjoint(chain(*pairs)):
            pairs += [tuple(row.get(e, e) for e in pair) for pair in pairs for row in calls]
    return [(pair[0], pair[1]) for pair in pairs if len(pair) == 2]


def _same(
    location: SourceLocation, pair: tuple[str, str]
) -> Iterator[tuple[str, SourceLocation, str]]:
    """The one of two variables that is the other one: its name, and where it is made of what."""
    for one, other in permutations(pair):
        every = assignments_to(location, other) if one != other else []
        made = [(n, ast.unparse(e)) for n, e in every if not isinstance(e, ast.Constant)]
        for value in (one, f"{one}.state_dict()") if made else ():
            same = (value, f"{value}.copy()", f"dict({value})", f"copy.copy({value})")
            # The entries of a state may be replaced before it is loaded.
            is_kept = value == one or _is_only_loaded(location, other)
            if is_kept and all(text in same for _, text in made):
                yield other, SourceLocation(location.file, made[-1][0]), value


def _is_only_loaded(location: SourceLocation, name: str) -> bool:
    """Whether a file uses a variable only to load it, or to compare it."""
    tree = syntax_tree(location.file)
    loads = [e for e in nodes_in(tree, ast.Call) if called_name(e) == "load_state_dict"]
    known = {*chain(*(map(id, ast.walk(e)) for e in (*loads, *nodes_in(tree, ast.Compare))))}
    used = (
        e
        for e in nodes_in(tree, ast.Name, ast.Attribute)
        if isinstance(getattr(e, "ctx", None), ast.Load)
    )
    return all(id(each) in known for each in used if ast.unparse(each) == name)


def _of_same_model(_: Context, row: OtherSubject) -> Evidence:
    made, value, written = row.facts
    words = {"made": mention(made), "written": mention(written)}
    words["fix"] = f"{made}: {row.name} = copy.deepcopy({value})"
    return Evidence(words, locations=(made, written))


same_model: Rule[Any, Any] = Rule(
    "a copy of a model that is the model itself",
    Verdict.NOT_A_COPY,
    _of_same_model,
    "it has the trained parameters themselves, since {made} copies nothing; {written} writes them "
    "into themselves",
    events=(EventKind.IN_PLACE,),
    docs="Where the program assigns a variable for the copy, as in target = model.",
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
