"""Rules for copies: of a model, that are the model itself or undo its steps; and lost results.

A result is lost where a hook replaces it, where it is written into a copy, or becomes a number.
"""

from __future__ import annotations

import ast
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import chain, permutations
from typing import Any, NamedTuple

from gradviz.diagnosis.answers import Explanation, Verdict
from gradviz.diagnosis.context import Context, Question, Reach
from gradviz.diagnosis.cuts import FIX_OF_WORD, OF_A_LIBRARY, CutFacts, cuts_of
from gradviz.diagnosis.lines import (
    assignments_to,
    called_name,
    expressions_at,
    locations_of,
    mention,
    nodes_in,
    statement_at,
    statements_around,
    syntax_tree,
)
from gradviz.diagnosis.name_flow import calls_in, number_reads, statements_behind
from gradviz.diagnosis.rule import Evidence, OtherSubject, Rule, answers_about
from gradviz.diagnosis.silent_faults import is_of_itself, of_the_called
from gradviz.facts import Action, BackwardDetails, EventKind, SourceLocation, StepDetails
from gradviz.graph import NodeKind
from gradviz.graph.operations import operation
from gradviz.graph.text import counted
from gradviz.story import Event


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
    if is_of_itself(own[-1].location):
        return None  # such as a normalization to a sum of 1
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


def _of_another_model(context: Context, question: Question) -> Evidence | None:
    """An optimizer holds it, and the result is computed by a model of equal parameters."""
    steps = context.steps_with(question.key)[-1:]
    for step, details in steps:
        used = context.cached(("instead", step.number), partial(_used_instead, context, details))
        if used:
            words = {"optimizer": details.optimizer, "line": mention(step.location)}
            more = f" and {len(used) - 1:,} more" if used[1:] else ""
            fix, loads = of_the_called(context)
            words |= {"used": f"{used[0]}{more}", "root": context.root_names, "fix": fix}
            return Evidence(words, locations=(step.location, *loads))
    return None


def _used_instead(context: Context, details: StepDetails) -> list[str]:
    """The parameters that got the gradients, if those of an optimizer have their shapes.

    If they are copies of what the optimizer holds, other rules name the copy.
    """
    held, nodes = {*details.held}, context.graph.nodes
    every = [*context.graph.leaves, *held]
    trained = [key for key in every if context.happened_to(key, EventKind.ACCUMULATE)]
    if not all(
        not (key in held or key in context.held or context.steps_with(key))
        and nodes[key]["kind"] is NodeKind.PARAMETER
        and held.isdisjoint(context.copies.get(key, ()))
        for key in trained
    ):
        return []
    shapes = sorted(repr((context.node_in_a_frame(key) or {}).get("shape")) for key in held)
    is_equal = shapes == sorted(repr(nodes[key].get("shape")) for key in trained)
    is_model = len({*shapes}) > 1  # one tensor may have the shape of another by chance
    return [nodes[key].get("name", "a parameter") for key in trained] if is_equal * is_model else []


of_another_model: Rule[Any, Any] = Rule(
    "the optimizer holds another model of equal parameters",
    Verdict.NOT_CONNECTED,
    _of_another_model,
    "{optimizer}, whose step is at {line}, holds it, and {root} is computed from {used}, of the "
    "same shapes, which no optimizer holds",
    events=(EventKind.STEP,),
    when=(Reach.UNREACHABLE,),
    docs="The optimizer was created from another model, as from one that was replaced since.",
)


# Results that do not reach a loss.

Place = tuple[tuple[SourceLocation, ...], str, str]
"""Lines, what is added to a reason, and a fix."""


def replaced_at(context: Context, name: str) -> Place | None:
    """Where a result is lost: written into a copy, left by a call, or replaced by a hook."""
    copied = _written_into_a_copy(context, name) or left_result(context, name, is_sure=False)
    if copied is not None:
        return copied
    hooks = context.cached(_replacing, lambda: _replacing(context))
    if not hooks:
        return None
    made, line, hook, what = hooks[0]
    more = f"; the forward hook{hook}, registered at {mention(made)}, replaces the {what} "
    more += f"of a module at {mention(line)} by a value that is not computed from it"
    fix = f"{line}: return a value that is computed from the {what}, or None to keep it"
    return (line, made), more, fix


class _Left(NamedTuple):
    """A statement that ran, and leaves its result."""

    read: set[str]  # the names that it reads
    place: Place
    is_sure: bool  # whether it can have no other effect


def left_result(context: Context, name: str = "", is_sure: bool = True) -> Place | None:
    """A statement that leaves what it computes from a leaf, or of any: ``self.norm(x)``."""
    path, rows = _path_of(name), context.cached("left results", lambda: [*_left_results(context)])
    rows = [row for row in rows if row.is_sure or not is_sure]
    return next((row.place for row in rows if not name or not path.isdisjoint(row.read)), None)


def _left_results(context: Context) -> Iterator[_Left]:
    made = context.happened(EventKind.OPERATION)
    ran, words = {e.source: e.location for e in made}, {(e.source, e.word) for e in made}
    for file, tree in ((each, syntax_tree(each)) for each in context.files):
        called = Counter(called_name(each) for each in nodes_in(tree, ast.Call))
        functions = {each.name: each for each in nodes_in(tree, ast.FunctionDef)}
        for each in nodes_in(tree, ast.Expr):
            value, line = each.value, ran.get(f"{file}:{each.lineno}")
            line = line or SourceLocation(file, each.lineno)
            word = called_name(value) if isinstance(value, ast.Call) else ""
            own = (function := functions.get(word)) or each
            span = range(own.lineno, (own.end_lineno or 0) + 1)
            if word[-1:] == "_" or not any(f"{file}:{number}" in ran for number in span):
                continue  # what changes a tensor in place has an effect
            given = {each.arg for each in nodes_in(value, ast.keyword)}
            is_operation = (str(line), word) in words and function is None
            is_part = ast.unparse(value).startswith(f"self.{word}(")  # a module
            is_pure = is_operation and not is_part and given.isdisjoint(("inplace", "out"))
            if isinstance(value, ast.BinOp):  # it may have raised an error
                events = context.events_on(str(line))
                is_pure = any(value in expressions_at(e.location, e.word) for e in events)
            if is_pure:
                yield _Left(_names_of(value), _place_of_left(line, word, None), is_sure=True)
            elif isinstance(value, ast.Call) and called[word] == 1:
                is_method = isinstance(value.func, ast.Attribute) and word != "forward"
                read = {word} if is_method else _names_of(value.func)
                arguments = {name for each in value.args for name in _names_of(each)}
                read |= arguments if is_operation or function is not None else set()
                read |= _names_of(function) if function is not None else set()
                if not _may_keep(context, function):
                    yield _Left(read, _place_of_left(line, word, function), is_sure=False)


def _place_of_left(line: SourceLocation, word: str, function: ast.FunctionDef | None) -> Place:
    returned = [each.value for each in nodes_in(function, ast.Return) if each.value]
    if function is not None and not returned:
        more = f"; {word}(), called at {mention(line)}, uses it, and returns nothing"
        return (line,), more, f"return the result from {word}(), and assign it at {line}"
    more, what = (text * bool(word) for text in (f" of {word}()", f"what {word}() returns"))
    fix = f"{line}: assign {what or 'the result'}, and compute the loss with it"
    return (line,), f"; {mention(line)} leaves the result{more}", fix


def _path_of(name: str) -> set[str]:
    """The parts of the name of a parameter that tell its module."""
    parts = {each for each in name.split(".") if not each.isdecimal()}
    return parts - {"weight", "bias", "self", "model"} or parts


def _names_of(tree: ast.AST) -> set[str]:
    return {getattr(each, "attr", getattr(each, "id", "")) for each in ast.walk(tree)}


def _may_keep(context: Context, function: ast.FunctionDef | None) -> bool:
    """Whether a function, or the hook of a module, may keep or change a value."""
    if function is None:
        return any(calls_in(context, word) for word in _REPLACED)
    targets = [to for each in nodes_in(function, ast.Assign) for to in each.targets]
    calls = (each.value for each in nodes_in(function, ast.Expr))
    return (
        any(not isinstance(each, (ast.Name, ast.Tuple)) for each in targets)
        or any(isinstance(each, ast.Call) for each in calls)
        or bool(nodes_in(function, ast.AugAssign, ast.Global, ast.Nonlocal, ast.Yield))
    )


def empty_pass(context: Context, passes: Iterable[Event]) -> tuple[str, str] | None:
    """What is said of a call of backward that gave no tensor of an optimizer a gradient; a fix."""
    for each in passes:
        if (root := _root_of_nothing(context, each)) is not None:
            which = f", which began at {root}, a leaf," if root else ""
            after = f", and backward at {mention(each.location)}{which} gave it none"
            return after, _OF_A_LEAF.format(root) if root else _OF_NOTHING
    return None


def pass_of_a_leaf(context: Context, question: Question) -> Evidence | None:
    """The pass before its last step began at a leaf, beside a cut that is made for copies."""
    first = [CutFacts.of(context, cut) for cut in cuts_of(context, question)[:1]]
    if not any(facts.written or facts.is_module_copy for facts in first):
        return None
    for step, _ in context.steps_with(question.key)[-1:]:
        last = [each for each in context.passes if each.number < step.number][-1:]
        root = _root_of_nothing(context, last[0]) if last else ""
        if root and not context.happened_to(question.key, EventKind.ACCUMULATE):
            words = {"line": mention(last[0].location), "step": mention(step.location)}
            words |= {"root": root, "fix": _OF_A_LEAF.format(root)}
            return Evidence(words, locations=(last[0].location, step.location))
    return None


_OF_NOTHING = "compute the root of that pass from what is to be trained"
_OF_A_LEAF = "let {} be the result of what it is computed from: without detach(), .data, item(), "
_OF_A_LEAF += "torch.tensor() and requires_grad_()"


def _root_of_nothing(context: Context, passed: Event) -> str | None:
    """The leaf, or "", at which a pass began that gave no tensor of an optimizer a gradient."""
    key = (_root_of_nothing, passed.number)  # several leaves ask about one pass
    found: str | None = context.cached(key, lambda: _find_root_of_nothing(context, passed))
    return found


def _find_root_of_nothing(context: Context, passed: Event) -> str | None:
    details = passed.details if isinstance(passed.details, BackwardDetails) else BackwardDetails(0)
    added = [
        event
        for event in context.happened(EventKind.ACCUMULATE)
        if getattr(event.details, "pass_number", 0) == details.pass_number
    ]
    if passed.action is Action.AUTOGRAD_GRAD or any(context.held & {*e.nodes} for e in added):
        return None
    is_leaf = any({*details.roots} & {*e.nodes} for e in added)  # no other root gets its own
    return (passed.name or "its root") if is_leaf else ""


def _replacing(context: Context) -> list[tuple[SourceLocation, SourceLocation, str, str]]:
    """The forward hooks whose results are not computed from what they replace.

    Each with the line that registers it, that of its result, its name, and what it replaces.
    """
    found = []
    for word, what in _REPLACED.items():
        for made in calls_in(context, word):
            functions = nodes_in(syntax_tree(made.file), ast.FunctionDef)
            for call in nodes_in(statement_at(made), ast.Call):
                hook = call.args[0] if call.args and called_name(call) == word else None
                name = ast.unparse(hook).rpartition(".")[2] if hook is not None else ""
                named: list[Any] = [each for each in functions if each.name == name]
                for each in [hook] if isinstance(hook, ast.Lambda) else named[:1]:
                    values = _returned(each)
                    if values and not any(_may_carry(value, _given(each)) for value in values):
                        line = replace(made, line=values[0].lineno, text="")
                        found.append((made, line, f" {name}" if named else "", what))
    return found


_REPLACED = {"register_forward_hook": "output", "register_forward_pre_hook": "input"}
_FORM = ("device", "dtype", "ndim", "shape")
_OF_ITS_FORM = ("dim", "len", "new_full", "new_ones", "new_zeros", "numel", "size")


def _returned(hook: ast.FunctionDef | ast.Lambda) -> list[ast.expr]:
    """What a hook returns in place of a result; [] if it may keep it."""
    if isinstance(hook, ast.Lambda):
        return [hook.body]
    values = [node.value for node in ast.walk(hook) if isinstance(node, ast.Return)]
    is_kept = any(each is None or ast.unparse(each) == "None" for each in values)
    return [] if is_kept else [each for each in values if each is not None]


def _given(hook: ast.FunctionDef | ast.Lambda) -> set[str]:
    """The variables of a hook that come from its arguments, without the module."""
    names = [each.arg for each in hook.args.args]
    given = set(names[2:] if names[:1] == ["self"] else names[1:])
    for node in nodes_in(hook, ast.Assign):
        if _carries(node.value, given):
            given |= {each.id for to in node.targets for each in nodes_in(to, ast.Name)}
    return given


def _may_carry(value: ast.expr, names: set[str]) -> bool:
    """Whether a value may be computed from others, or be None, as a function may return it."""
    is_call = isinstance(value, ast.Call) and not ast.unparse(value.func).startswith("torch.")
    return _carries(value, names) or (is_call and not _is_of_a_form(value))


def _is_of_a_form(value: ast.AST) -> bool:
    called = called_name(value) if isinstance(value, ast.Call) else ""
    return called.endswith("_like") or called in _OF_ITS_FORM


def _carries(value: ast.AST, names: set[str]) -> bool:
    """Whether code computes from the values of variables, and not only from their shapes."""
    is_form = isinstance(value, ast.Attribute) and value.attr in _FORM
    if is_form or _is_of_a_form(value):
        return False
    is_named = isinstance(value, ast.Name) and value.id in names
    return is_named or any(_carries(each, names) for each in ast.iter_child_nodes(value))


def _written_into_a_copy(context: Context, name: str) -> Place | None:
    """Where what a module computed, of which a parameter has that name, is written into a copy."""
    path = _path_of(name)
    for event in context.happened(EventKind.IN_PLACE):
        indexed = _written_at(event.location) if not event.nodes and event.location else None
        behind = statements_behind(event.location) if indexed is not None else ()
        used = {each for row in behind for each in _names_of(row)}
        if indexed is not None and _copies(indexed.slice, behind) and not path.isdisjoint(used):
            copy, whole = ast.unparse(indexed), ast.unparse(indexed.value)
            more = f"; {mention(event.location)} writes into {copy}, which is a copy of a part of "
            more += f"{whole}: indexing by a tensor or a list makes one"
            fix = f"{event.location}: write into {whole} by one index: {copy} = ..."
            return (event.location,), more, fix
    return None


def _written_at(location: SourceLocation) -> ast.Subscript | None:
    """``x[i]``, into which a line writes: ``x[i][j] = ...``, ``x[i].copy_(...)``."""
    statement: Any = statement_at(location)
    target = statement.targets[0] if isinstance(statement, ast.Assign) else None
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        target = statement.value.func if called_name(statement.value).endswith("_") else None
    indexed = target.value if isinstance(target, (ast.Subscript, ast.Attribute)) else None
    return indexed if isinstance(indexed, ast.Subscript) else None


_INDICES = ("argsort", "bool", "nonzero", "randint", "randperm", "topk", "where")


def _copies(index: ast.expr, behind: Iterable[ast.stmt]) -> bool:
    """Whether an index is known to be a tensor or a list: indexing by it makes a copy."""
    if isinstance(index, ast.Subscript):  # a part of an index
        return _copies(index.value, behind)
    if isinstance(index, ast.Tuple):
        return any(_copies(each, behind) for each in index.elts)
    if isinstance(index, ast.Call):
        return called_name(index) in _INDICES
    if isinstance(index, ast.Name):
        made = (e for e in behind if isinstance(e, ast.Assign) and len(e.targets) == 1)
        values = [e.value for e in made if ast.unparse(e.targets[0]) == index.id]
        return bool(values) and all(
            _copies(each, ()) for each in values if not isinstance(each, ast.Name)
        )
    return isinstance(index, (ast.Compare, ast.List)) or (
        isinstance(index, ast.UnaryOp) and isinstance(index.op, ast.Invert)
    )


def reads_of_grad(place: SourceLocation, op: str) -> Iterator[tuple[str, str]]:
    """The ``x`` of each ``x.grad`` by which an operation of a line is computed, and its line."""
    made = [each for each in statements_behind(place) if isinstance(each, ast.Assign)]
    parts, named = [*expressions_at(place, op)], set[str]()
    for part in parts:
        for each in nodes_in(part, ast.Attribute):
            if each.attr == "grad" and isinstance(each.ctx, ast.Load):
                yield ast.unparse(each.value), str(SourceLocation(place.file, each.lineno))
        new = {each.id for each in nodes_in(part, ast.Name)} - named
        parts += [each.value for each in made if new & {*map(ast.unparse, each.targets)}]
        named |= new


# Numbers that are read from a tensor.

_MATH = ("sin", "cos", "tan", "tanh", "atan2", "exp", "log", "log1p", "sqrt", "pow", "erf")
_WHOLE = (
    "leave out int(); where only a whole number can be given, interpolate between the results for "
    "the two nearest ones"
)


def fix_of_number(context: Context, word: str, line: str, inside: str) -> str:
    """What to do about a number that a line, or a library that it calls, reads from a tensor.

    Args:
        context: the recording.
        word: what read it: ``"item"``.
        line: of the program.
        inside: the line of the library; "" for none.

    Returns:
        "" if it is to stay a tensor.
    """
    libraries = {str(event.inside): event.inside for event in number_reads(context) if inside}
    if inside in libraries and not libraries[inside].is_own:
        return OF_A_LIBRARY
    for location in locations_of([line]):
        called = nodes_in(statement_at(location), ast.Call)
        is_own = word in map(called_name, called)  # float(x), which math.cos(x) does itself
        for call in called:
            given = [*call.args, *(each.value for each in call.keywords)]
            inner = (each for part in given for each in nodes_in(part, ast.Call))
            if (name := called_name(call)) in FIX_OF_WORD and word in map(called_name, inner):
                return FIX_OF_WORD[name]
            is_math = name in _MATH and ast.unparse(call.func) in (name, f"math.{name}")
            if is_math and word == "float" and not is_own:
                return f"use torch.{name} instead of math.{name}, and torch.stack to join results"
    return _WHOLE if word == "int" else ""
