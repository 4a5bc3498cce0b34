"""Rules for copies of a model or its state: those that are the model itself, or undo its steps."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator
from itertools import chain, permutations
from typing import Any

from gradviz.diagnosis.answers import Explanation, Verdict
from gradviz.diagnosis.context import Context, Question
from gradviz.diagnosis.lines import (
    assignments_to,
    called_name,
    locations_of,
    mention,
    nodes_in,
    statement_at,
    statements_around,
    syntax_tree,
)
from gradviz.diagnosis.rule import Evidence, OtherSubject, Rule, answers_about
from gradviz.facts import Action, EventKind, SourceLocation
from gradviz.graph.operations import operation
from gradviz.graph.text import counted


def no_copies(context: Context) -> list[Explanation]:
    """An explanation of each variable that is no copy of a model that an optimizer trains."""
    found = dict[str, OtherSubject]()
    changes = context.happened(EventKind.IN_PLACE)
    lines = (e.location for e in changes if not context.held.isdisjoint(e.nodes))
    rows = [
        (name, f"copy.deepcopy({value})", made, line, _INTO_THEMSELVES)
        for line in filter(None, dict.fromkeys(lines))
        for pair in _models_at(line)
        for name, made, value in _same(line, pair)
    ]
    rows += [(*each, _INTO_THEMSELVES) for each in _kept(context)]
    rows += [(*each, _USED_LATER) for each in _best(context)]
    for name, *facts in rows:
        found.setdefault(name, OtherSubject(name, "", context, tuple(facts)))
    return answers_about(same_model, found.values())


_TWICE = 2
_INTO_THEMSELVES = "; {} writes them into themselves"
_USED_LATER = ": {} gets them as the last step leaves them"
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
        same = (one, f"copy.copy({one})")
        if made and all(text in same for _, text in made):
            yield other, SourceLocation(location.file, made[-1][0]), one


def _kept(context: Context) -> Iterator[tuple[str, str, SourceLocation, SourceLocation]]:
    """The states that are loaded into the tensors that they are: name, value, and both lines."""
    for event in context.happened(EventKind.IN_PLACE):
        written, alias = event.location, getattr(event.details, "alias", "")
        if not alias or written is None or alias == event.source:
            continue
        made = locations_of([alias])[0]
        taken = [e.number for e in context.events or () if e.source == alias]
        last = max((each for each in taken if each < event.number), default=0)
        steps = [e.number for e, _ in context.steps]
        is_meant = any(last < each < event.number for each in steps)
        if not is_meant and not _in_one_loop(made, written):
            # It is chosen by a metric; or it is loaded again, after the steps of a loop.
            around = statements_around(made, ast.If, ast.FunctionDef, *_LOOPS)[1:]
            is_chosen = any(isinstance(each, ast.If) for each in around)
            later = steps[-1] > last and statements_around(written, *_LOOPS) if steps else ()
            is_meant = bool(steps and (is_chosen or later))
        statement = statement_at(made)
        if is_meant and isinstance(statement, ast.Assign):
            yield ast.unparse(statement.targets[0]), _copied(statement.value), made, written


def _in_one_loop(one: SourceLocation, other: SourceLocation) -> bool:
    """Whether the innermost loop around two lines is the same, if there is one."""
    loops = statements_around(one, *_LOOPS)[-1:]
    return bool(loops) and loops == statements_around(other, *_LOOPS)[-1:]


def _copied(value: ast.expr) -> str:
    """The code of a copy of a model, of its state, or of a dict of the tensors of that."""
    if isinstance(value, ast.DictComp) and isinstance(value.value, (ast.Name, ast.Subscript)):
        own, clone = ast.unparse(value.value), f"{ast.unparse(value.value)}.clone()"
        return ast.unparse(value).replace(f": {own} for", f": {clone} for")
    return f"copy.deepcopy({ast.unparse(value)})"


_LOOPS = (ast.For, ast.While)


def _best(context: Context) -> Iterator[tuple[str, str, SourceLocation, SourceLocation]]:
    """Variables for the best model, assigned in a loop that trains one model, and used after it."""
    for file in context.files if context.steps else ():
        tree = syntax_tree(file)
        for each in nodes_in(tree, ast.Assign):
            made = SourceLocation(file, each.lineno)
            name, loops = ast.unparse(each.targets[0]), statements_around(made, *_LOOPS)
            chosen = statements_around(made, ast.If)
            if "best" not in name.lower() or not loops or not chosen:
                continue
            if each.lineno < loops[-1].lineno or any(nodes_in(chosen[-1], ast.Break, ast.Return)):
                continue
            model = _model_of(each.value)
            bound = {*map(ast.unparse, _names(loops[0], ast.Store))}
            own = statements_around(made, ast.FunctionDef)
            read = (e for e in _names(own[-1] if own else tree, ast.Load) if ast.unparse(e) == name)
            after = [each.lineno for each in read if each.lineno > (loops[0].end_lineno or 0)]
            called = map(ast.unparse, nodes_in(tree, ast.Call))
            if after and f"{model}.parameters()" in called and model not in bound:
                yield name, _copied(each.value), made, SourceLocation(file, after[0])


def _names(tree: ast.AST | None, ctx: type[ast.expr_context]) -> list[Any]:
    every: list[Any] = nodes_in(tree, ast.Name, ast.Attribute, ast.Subscript)
    return [each for each in every if isinstance(each.ctx, ctx)]


def _of_same_model(_: Context, row: OtherSubject) -> Evidence:
    copied, made, line, then = row.facts
    told = {"made": mention(made), "then": then.format(mention(line))}
    told["fix"] = f"{made}: {row.name} = {copied}"
    return Evidence(told, locations=(made, line))


same_model: Rule[Any, Any] = Rule(
    "a copy of a model that is the model itself",
    Verdict.NOT_A_COPY,
    _of_same_model,
    "it has the trained parameters themselves, since {made} copies nothing{then}",
    docs="As of target = model, and of best = model.state_dict() in a loop that trains the model.",
)


def _undone(context: Context, question: Question) -> Evidence | None:
    """Each step changed it, and a write brought back (nearly) the values from before the step."""
    key, steps = question.key, context.steps_of(question.key)
    changes = context.happened_to(key, EventKind.IN_PLACE)
    writes = [e for e in changes if e.action is not Action.IN_STEP and e.location]
    rows = [row for row in steps if key in row[1].undone]
    if len(rows) < max(_TWICE, len(steps) - 1):  # nothing may follow the last one
        return None
    step, details = rows[-1]
    added = context.happened_to(key, EventKind.ACCUMULATE)  # a later write is another fault
    until = next((e.number for e in added if e.number > step.number), math.inf)
    own = [e for e in writes if step.number < e.number < until]
    if not own or any(operation(e.word.removesuffix("_")).updates for e in own):
        return None
    words = {"count": counted(len(rows), "step"), "optimizer": details.optimizer}
    words |= {"word": own[-1].word, "line": mention(own[-1].location)}
    words["step"] = mention(step.location)
    return Evidence(words, locations=(own[-1].location, step.location))


undone: Rule[Any, Any] = Rule(
    "steps that are undone",
    Verdict.NO_STEP,
    _undone,
    "{word} at {line} undid each of {count} of {optimizer} at {step}: before the next step, it had "
    "nearly the values from before",
    "nothing, if each step is a trial of its own; else write only before the loop, and into a copy "
    "rather than into the model that is trained",
    events=(EventKind.STEP,),
    docs="A write follows each step, and at most a fifth of the change is left after it.",
)
