"""Rules about changes in place: of saved tensors before backward, of leaves, and of views."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Container, Sequence
from typing import Any

from gradviz.diagnosis.answers import Verdict
from gradviz.diagnosis.context import MADE, RECORD, Context, Question
from gradviz.diagnosis.lines import (
    at_line,
    called_name,
    expressions_at,
    imported,
    locations_of,
    mention,
    statement_at,
    stored,
    without_alias,
)
from gradviz.diagnosis.no_graph import is_of
from gradviz.diagnosis.plain_errors import Row, rules_of
from gradviz.diagnosis.rule import Evidence, Needs, Rule, source_of, written
from gradviz.diagnosis.subjects import ErrorContext
from gradviz.diagnosis.used_up import carried_over, detached
from gradviz.facts import Action, Problem, ProblemKind
from gradviz.graph import GradGraph, NodeKind, descendants, word_of
from gradviz.graph.operations import forward_word, operation, twin_of
from gradviz.graph.text import as_code
from gradviz.story import Event, EventKind
from gradviz.torch_messages import MessageKind as Kind

_STEP = "call {} after every backward() that needs the old parameters"
_BEFORE_CHANGE = (
    "call every backward() that needs it before the change, such as optimizer.step(); or compute "
    "with a copy of it: .clone()"
)
_COPY = "change a copy: x = x.clone(); or make a new tensor: x = x + 1 instead of x += 1"
_COPY_OF_VIEW = "change a copy: x = x.clone(); or make a new tensor: x = x.relu(), not x.relu_()"
_STATISTICS = ("running_mean", "running_var")  # of a normalization
_WRITTEN = "build a new tensor instead of writing into it: torch.cat, torch.stack, torch.where"


def _problem_of(error: ErrorContext) -> Problem | None:
    problem = error.problem
    is_it = problem is not None and problem.kind is ProblemKind.CHANGED_IN_PLACE
    return problem if is_it and is_of(error, Kind.CHANGED_IN_PLACE) else None


def _who(context: Context, problem: Problem) -> str:
    """``"exp at train.py:3 saved 'y' for backward"``."""
    name = problem.name and f"{problem.name!r}"
    name = name or (f"its {problem.saved}" if problem.saved in _STATISTICS else "")
    name = name or ("its result" if problem.is_result else "one of its inputs")
    line = source_of(context, problem.node)
    return f"{problem.op}{at_line(line)} saved {name} for backward"


def _changed(context: Context, error: ErrorContext) -> Evidence | None:
    problem = _problem_of(error)
    if problem is None or not problem.changed_by:
        return None
    versions = f" (version {problem.wanted} → {problem.changed_to})"
    words: Any = {"by": _changer(problem), "where": _where(problem), "versions": versions}
    return _evidence(context, error, problem, **words, fix=_fix(context, error, problem))


def _where(problem: Problem) -> str:
    if not problem.location:
        return ""
    return f" at {mention(problem.location, problem.inside)}{',' * bool(problem.inside)}"


def _changer(problem: Problem) -> str:
    """The function that changed the tensor, as in the user's line."""
    word = problem.changed_by
    if word in _NAMES:
        return _NAMES[word]
    called = _called_at(problem)
    if called is None or called_name(called) == word:
        return word
    name = called_name(called) or ast.unparse(called.func)
    return f"{word} in {name}()" if name in _CHANGERS else word


_NAMES = {"step": "the optimizer's step", "embedding_renorm_": "embedding (max_norm)"}
_CHANGERS = ("load_state_dict", "reset_parameters", "apply", "vector_to_parameters")


def _called_at(problem: Problem) -> ast.Call | None:
    """The call in the user's line that changed the tensor."""
    found = expressions_at(problem.inside or problem.location, problem.changed_by)
    calls = [each for each in found if isinstance(each, ast.Call)]
    if problem.changed_by not in map(called_name, calls):  # a module: ``m(x)``
        calls.sort(key=lambda each: any(isinstance(e, ast.Call) for e in ast.walk(each.func)))
    given = (each for each in calls if {"inplace", "out"} & {k.arg for k in each.keywords})
    return next(given, calls[0] if calls else None)


def _changed_by_a_step(context: Context, error: ErrorContext) -> Evidence | None:
    """The change was not recorded, but an optimizer has changed that tensor."""
    problem = _problem_of(error)
    if problem is None or (step := _step_of(context, problem)) is None:
        return None
    words = {"by": "the optimizer's step", "where": at_line(step.source), "versions": ""}
    return _evidence(context, error, problem, step, **words, fix=_fix_of_step(context, error))


def _step_of(context: Context, problem: Problem) -> Event | None:
    steps = (step for step, details in reversed(context.steps) if problem.name in details.names)
    return next(steps, None) if problem.name else None


def _changed_by_the_unknown(context: Context, error: ErrorContext) -> Evidence | None:
    problem = _problem_of(error)
    return None if problem is None else _evidence(context, error, problem)


def _evidence(
    context: Context,
    error: ErrorContext,
    problem: Problem,
    step: Event | None = None,
    **words: object,
) -> Evidence:
    key, by = problem.node, step or problem
    lines = [by.location, by.inside, *locations_of([source_of(context, key)])]
    return error.evidence([key], lines, key, words={"who": _who(context, problem), **words})


def _fix_of_step(context: Context, error: ErrorContext) -> str:
    """What to do about a step that changed a parameter; a state may be carried over from before."""
    steps = context.happened(EventKind.STEP)
    carried = carried_over(context, error, steps[-1]) if steps else None
    step = _STEP.format(written(steps[-1:], "step") or "optimizer.step()")
    if carried is None or not carried.is_renewed:
        return _again(context, error) + step
    if carried.is_filled:
        return f"after each backward pass, empty what is kept: {carried.emptied}; or {step}"
    what = f": {detached(carried)}" if carried.code else " that is carried from step to step"
    return f"detach what the step before computed{what}; or {step}"


def _again(context: Context, error: ErrorContext) -> str:
    """A fix that adds nothing to the gradients of the optimizer that stepped, if there are more."""
    held, recording = {details.held for _, details in context.steps}, error.asked.recording
    waits = recording is not None and recording._snapshots.training_sets().waiting
    if (len(held) < 2 and not waits) or not context.root_names or not context.steps:
        return ""
    where = context.steps[-1][0].location
    return f"compute {context.root_names} after {where}, with a new forward pass; or "


def _fix(context: Context, error: ErrorContext, problem: Problem) -> str:
    if problem.changed_by == "step":
        return _fix_of_step(context, error)
    if problem.changed_by == "embedding_renorm_":
        name = as_code(problem.name) or "weight"
        return f"compute with a copy: {name}.clone(); or look up first; or leave out max_norm"
    if problem.saved in _STATISTICS:
        before = f"call backward() before {problem.location}; or compute with the statistics as "
        return f"{before}they are after it, in a new forward pass"
    if leaf := _leaf(context, problem.name):
        change, copy = problem.location or "that change", f"{as_code(problem.name)}.clone()"
        if leaf is NodeKind.PARAMETER:
            return f"make {change} run after backward(), or before the forward pass"
        return f"call backward() before {change}; or compute with a copy: {copy}"
    if problem.inside and not problem.inside.is_own:
        return _fix_of_a_library(context, problem)
    return _as_new_tensor(context, problem) or _COPY


def _fix_of_a_library(context: Context, problem: Problem) -> str:
    """A copy helps, unless the library itself saved the tensor that it changes."""
    saver = source_of(context, problem.node)
    if problem.name and saver.rpartition(":")[0] == problem.location.file:
        return f"give the library a copy: {as_code(problem.name)}.clone()"
    return f"compute this part in your own code, without the change in place of {problem.inside}"


def _leaf(context: Context, name: str) -> NodeKind | None:
    leaves = [context.graph.nodes[key] for key in context.graph.leaves]
    return next((each["kind"] for each in leaves if name and each.get("name") == name), None)


def _as_new_tensor(context: Context, problem: Problem) -> str:
    """The user's line without the in-place change; "" if unknown."""
    location, word = problem.inside or problem.location, problem.changed_by
    statement, call = statement_at(location), _called_at(problem)
    target: ast.expr | None = None
    value: ast.expr | None = None
    if isinstance(statement, ast.AugAssign):
        target, call = statement.target, None
        value = ast.BinOp(without_alias(target), statement.op, statement.value)
    elif isinstance(statement, ast.Assign) and word == "setitem_":
        target = statement.targets[0]
    elif call is not None:
        target, value = _change_by(call, word, imported(location.file))
        name = getattr(call.func, "attr", getattr(call.func, "id", "_"))
        if value is None and name == word and not word.endswith("_"):  # an operator of the user's
            target = ast.Name(problem.name) if problem.name.isidentifier() else None
        elif value is None and not name.endswith("_"):
            if not any(each in word for each in _MODULES):
                return f"call every backward() that needs it before {location}"
            return f"make a new tensor: leave out inplace=True where {_text(call.func)} is made"
    if target is None:
        is_plain = word.endswith("_") and word.isidentifier() and word != "setitem_"
        return f"make a new tensor: {word[:-1]} instead of {word}" if is_plain else ""
    target = without_alias(target)
    words = {e.word for e in context.events_on(str(problem.location)) if e.kind in MADE}
    if isinstance(target, ast.Subscript) and not words.isdisjoint(("getitem", "setitem_")):
        copied = _copied(without_alias(target.value))
        return f"{_WRITTEN}; or write into it after backward, or into a copy: {copied}"
    if value is None:
        return f"change a copy: {_copied(target)}"
    if call is None or (isinstance(statement, ast.Expr) and statement.value is call):
        if stored(target):
            return f"make a new tensor: {_text(target)} = {_text(value)}"
    elif isinstance(statement, ast.Assign) and statement.value is call:
        return f"make a new tensor: {_text(statement.targets[0])} = {_text(value)}"
    return f"make a new tensor: {_text(value)} instead of {_text(call or target)}"


_text = ast.unparse


def _copied(target: ast.expr) -> str:
    """``x = x.clone()``, or a copy with another name, of what may be in a list."""
    code = _text(target)
    return f"{code if isinstance(target, (ast.Name, ast.Attribute)) else 'x'} = {code}.clone()"


def _change_by(
    call: ast.Call, word: str, imports: Container[str]
) -> tuple[ast.expr | None, ast.expr | None]:
    """What a call changes in place, and the call that makes a new tensor instead; None if unknown.

    Args:
        call: the call: ``x.add_(1)``, ``F.relu_(x)``, ``torch.mul(x, 2, out=x)``.
        word: the function that changed it, as recorded.
        imports: the names of modules in the file.
    """
    from gradviz.capture.autograd.tensors import is_function_of_torch, is_method_of_torch

    out = next((each.value for each in call.keywords if each.arg == "out"), None)
    others = [each for each in call.keywords if each.arg not in ("inplace", "out")]
    function, root = call.func, call.func
    while isinstance(root, ast.Attribute):
        root = root.value
    is_method = isinstance(function, ast.Attribute) and getattr(root, "id", "") not in imports
    plain: ast.expr = function
    if isinstance(function, ast.Attribute):
        owner = without_alias(function.value) if is_method else function.value
        plain = ast.Attribute(owner, function.attr.removesuffix("_"))
    elif isinstance(function, ast.Name):
        plain = ast.Name(function.id.removesuffix("_"))
    target = function.value if is_method and isinstance(function, ast.Attribute) else None
    target = target or out or next(iter(call.args), None)
    is_known = called_name(call) == word or len(others) < len(call.keywords)
    name, args = word.partition(" ")[0].removesuffix("_"), call.args
    if is_known and is_method and name in _DRAWN and target is not None:
        like = ast.Attribute(ast.Name("torch"), _DRAWN[name])
        return target, None if call.args or others else ast.Call(like, [target], [])
    if not is_known or not is_function_of_torch(name):
        return target, None
    if is_method and isinstance(plain, ast.Attribute) and not is_method_of_torch(plain.attr):
        plain, args = ast.Attribute(ast.Name("torch"), plain.attr), [plain.value, *args]
    return target, ast.Call(plain, args, others)


_MODULES = ("elu", "silu", "mish", "tanh", "swish", "sigmoid", "threshold", "dropout")
_DRAWN = {"normal": "randn_like", "uniform": "rand_like", "zero": "zeros_like"}


def _not_recorded(context: Context, error: ErrorContext) -> Evidence | None:
    """The facts in the message and the graph, if the change was not recorded."""
    if not is_of(error, Kind.CHANGED_IN_PLACE):
        return None
    read, graph = error.read, context.graph
    times, size = read.found - read.wanted, list(read.shape or ())
    words: dict[str, Any] = {"times": f"{times} time{'s' * (times != 1)}"}
    if (saved := _saved_leaf(graph, read.shape or (), read.found)) is not None:
        key, user = saved
        name = graph.nodes[key].get("name") or "a leaf"
        what = f"{name}, which {word_of(graph.nodes[user])} saved with shape {size},"
        return error.evidence([key, user], culprit=key, what=what, fix=_BEFORE_CHANGE, **words)
    makers = [
        key
        for key, data in graph.nodes(data=True)
        if _is_of(data.get("grad_fn", ""), read.node) and data.get("shape") == read.shape
    ]
    key = makers[0] if read.node and len(makers) == 1 else ""
    word = forward_word(read.node)
    # After a change in place of its base, torch gives every view that was saved this name.
    what = "a view" if word == "as_strided" else f"the result of {word}" if word else "a tensor"
    name = graph.nodes[key].get("name", "") if key else ""
    what = f"{what}, {name}, of shape {size}" if name else f"{what} of shape {size}"
    return error.evidence([key], culprit=key, what=what, fix=_COPY, **words)


def _saved_leaf(graph: GradGraph, shape: tuple[int, ...], version: int) -> tuple[str, str] | None:
    """The leaf that was saved, with its user: the only one of that version, saved in that shape."""
    data = graph.nodes
    leaves = {
        data[key]["storage"]: key
        for key in graph.leaves
        if "storage" in data[key] and data[key].get("version", 0) == version
    }
    found = {
        leaves[each.storage]: key
        for key, row in data(data=True)
        for each in row.get("saved", ())
        if each.shape == shape and each.storage in leaves
    }
    return next(iter(found.items())) if len(found) == 1 else None


def _is_of(grad_fn: str, node: str) -> bool:
    """Whether a message means that node: ``Exp`` or ``ExpBackward0``, by the version of torch."""
    return bool(node) and grad_fn.rstrip("0123456789") in (node, f"{node}Backward", node[:-1])


_TABLE: tuple[Row, ...] = (
    (
        "a leaf was resized",
        (Kind.RESIZED,),
        Verdict.LEAF_CHANGED,
        "a tensor that requires grad was resized{at}, which autograd cannot record",
        "create a new leaf of that size, and copy the values: w = torch.zeros(size, "
        "requires_grad=True)",
    ),
    (
        "a leaf was frozen and changed in place before backward",
        (Kind.LEAF_MOVED,),
        Verdict.LEAF_CHANGED,
        "backward{at} was to accumulate in a tensor that was a leaf in the forward pass: since "
        "then it was frozen and changed in place from a tensor that requires grad{changed}, and is "
        "a non-leaf tensor now",
        "call backward() before that change; or put the change under torch.no_grad()",
    ),
    (
        "a view from no_grad was changed in place",
        (Kind.VIEW_FROM_NO_GRAD,),
        Verdict.VIEW_CHANGED,
        "a view was changed in place{at}: it was made under no_grad, and is changed where "
        "gradients are recorded",
        "make the view and change it in one place, both inside no_grad or both outside",
    ),
    (
        "a view from a module with a backward hook was changed in place",
        (Kind.VIEW_OF_HOOKED_MODULE,),
        Verdict.VIEW_CHANGED,
        "a view was changed in place{at}: a module with a full backward hook returns views of its "
        "outputs and computes with views of its inputs",
        "work on a copy: y = y.clone(); and leave inplace=True out of such a module",
    ),
    (
        "a view from a Function was changed in place",
        (Kind.VIEW_FROM_FUNCTION,),
        Verdict.VIEW_CHANGED,
        "a view was changed in place{at}: the Function {node} returned it, a view of its input",
        "let the Function return a copy: x.clone()",
    ),
    (
        "the base of a view from a Function was changed in place",
        (Kind.BASE_OF_FUNCTION_VIEW,),
        Verdict.VIEW_CHANGED,
        "a view was used{at} after its base, or another view of it, was changed in place{changed}: "
        "the Function {node} returned it, a view of its input",
        "let the Function return a copy: x.clone()",
    ),
    (
        "the base of several views was changed in place",
        (Kind.BASE_OF_SEVERAL_VIEWS,),
        Verdict.VIEW_CHANGED,
        "a view was used{at} after its base, or another view of it, was changed in place{changed}: "
        "{operation_word} made several views of one tensor, and that is one of them",
        _COPY_OF_VIEW,
    ),
    (
        "one of several views was changed in place",
        (Kind.ONE_OF_SEVERAL_VIEWS,),
        Verdict.VIEW_CHANGED,
        "a view was changed in place{at}: {operation_word} made several views of one tensor, and "
        "that is one of them",
        _COPY_OF_VIEW,
    ),
    (
        "a view was detached in place",
        (Kind.VIEW_DETACHED,),
        Verdict.VIEW_CHANGED,
        "detach_() was called on a view{at}: it would take the view out of the graph, and its base "
        "with it",
        "use x = x.detach() instead of x.detach_()",
    ),
    (
        "a saved tensor was detached in place",
        (Kind.SAVED_DETACHED,),
        Verdict.CHANGED_IN_PLACE,
        "backward{at} needs a tensor that an operation saved, and detach_() took that tensor out "
        "of the graph{changed}",
        "use h = h.detach() instead of h.detach_(), or call it after backward()",
    ),
    (
        "a tensor whose elements share memory was written to",
        (Kind.SHARED_MEMORY,),
        Verdict.VIEW_CHANGED,
        "a tensor was written to{at} whose elements share memory, such as one from expand()",
        "work on a copy: x = x.clone(), or x.repeat(...) in place of x.expand(...)",
    ),
)


def _leaf_changed(context: Context, error: ErrorContext) -> Evidence | None:
    """An in-place change of a leaf that requires grad, or of a view of it."""
    if not is_of(error, Kind.LEAF_CHANGED, Kind.LEAF_VIEW_CHANGED):
        return None
    is_view = is_of(error, Kind.LEAF_VIEW_CHANGED)
    statement = statement_at(error.library or error.location)
    under = "to update it, put that line under torch.no_grad()"
    fix = f"compute with a copy of it, x = w.clone(), or leave out inplace=True; {under}"
    if statement is not None and (target := _target_of(statement, error)) is not None:
        if len(text := _text(statement)) <= 60 and not error.library:
            under = f"to update it: with torch.no_grad(): {text}"
        fix = f"{under}; to compute with changed values, change a copy: x = {_text(target)}.clone()"
    what = f"{'a view of ' * is_view}a leaf that requires grad"
    return error.evidence(words={"what": what, "fix": fix})


def _target_of(statement: ast.stmt, error: ErrorContext) -> ast.expr | None:
    """What a statement changes in place: ``w -= 1``, ``w[0] = 1``, ``w.add_(1)``; None for none."""
    if isinstance(statement, ast.AugAssign):
        return statement.target
    target = statement.targets[0] if isinstance(statement, ast.Assign) else None
    if isinstance(target, ast.Subscript):
        return target.value
    call = statement.value if isinstance(statement, ast.Expr) else None
    if not isinstance(call, ast.Call) or not _text(call.func).endswith("_"):
        return None
    return _change_by(call, "", imported(error.location.file))[0]


_CHANGED = Verdict.CHANGED_IN_PLACE
RULES: tuple[Rule[Any, Any], ...] = (
    Rule(
        "a saved tensor was changed by a recorded operation",
        _CHANGED,
        _changed,
        "{who}, and {by}{where} changed it afterwards{versions}",
        needs=Needs.RECORDING,
    ),
    Rule(
        "a saved tensor was changed by an optimizer",
        _CHANGED,
        _changed_by_a_step,
        "{who}, and {by}{where} changed it afterwards{versions}",
        needs=Needs.RECORDING,
    ),
    Rule(
        "a saved tensor was changed by something that was not recorded",
        _CHANGED,
        _changed_by_the_unknown,
        "{who}, and something that was not recorded changed it afterwards",
        _COPY,
        needs=Needs.RECORDING,
    ),
    Rule(
        "a saved tensor was changed, and nothing was recorded",
        _CHANGED,
        _not_recorded,
        "backward{at} needs {what} as it was, and it was changed in place {times} "
        "since (version {wanted} → {found}); where was not recorded",
        f"{{fix}}; {RECORD}",
    ),
    Rule(
        "a leaf was changed in place",
        Verdict.LEAF_CHANGED,
        _leaf_changed,
        "{what} was changed in place{at}, which autograd cannot record",
    ),
    *rules_of(_TABLE),
)


# Changes that autograd does not see.


def _changed_by_a_collective(context: Context, question: Question) -> Evidence | None:
    """A function of torch.distributed changed a tensor on the path, before the latest pass.

    The value of a root does not matter: its own gradient is 1.
    """
    changes = context.happened(EventKind.IN_PLACE)
    every = context.cached("unseen", lambda: [e for e in changes if e.action is Action.NOT_SEEN])
    added = context.happened_to(question.key, EventKind.ACCUMULATE)
    unseen = [event for event in every if added and event.number < added[-1].number]
    if not unseen:
        return None
    makers = {maker for root in context.roots for maker, _ in context.graph.inputs(root)}
    path = context.path(question.key) - set(context.roots) - makers
    for event in reversed(unseen):
        if found := path.intersection(event.nodes):
            data = context.graph.nodes[min(found)]
            words = {
                "what": f"torch.distributed.{event.word} at {mention(event.location)}",
                "name": data.get("name") or f"the result of {word_of(data)}",
                "fix": twin_of(event.word) or f"make {event.word} a step of its own",
            }
            return Evidence(words, locations=(event.location,))
    return None


def _changed_by_recomputing(context: Context, question: Question) -> Evidence | None:
    """A checkpoint that computed again in backward changed data that an operation inside uses."""
    graph, after = context.before, context.graph_of_latest_pass(question.key)
    if graph is None or after is None or question.key not in graph:
        return None
    key = ("recomputed", id(graph), id(after))
    for event, user in context.cached(key, lambda: _recomputed(context, graph, after)):
        if user in descendants(graph, [question.key]):
            (changed,) = [each for each in event.nodes if each in graph][:1]
            name, line = (
                graph.nodes[changed].get("name", "data"),
                graph.nodes[user].get("source", ""),
            )
            words = {"what": f"{event.word} at {mention(event.location)}", "name": name}
            words["user"] = f"{graph.nodes[user].get('op', 'an operation')}{at_line(line)}"
            return Evidence(words, (changed, user), (event.location, *locations_of([line])))
    return None


def _recomputed(context: Context, graph: GradGraph, after: GradGraph) -> list[tuple[Event, str]]:
    """The changes in place that ran again in the pass, and the operations with that input."""
    found = list[tuple[Event, str]]()
    for key in (key for key, data in graph.nodes(data=True) if data["kind"] is NodeKind.UNTRACKED):
        versions = [each.nodes[key].get("version", 0) for each in (graph, after) if key in each]
        events = [e for e in context.happened_to(key, EventKind.IN_PLACE) if e.location.is_own]
        for user in graph.successors(key) if versions[0] < versions[-1] and events else ():
            row = operation(graph.nodes[user].get("op", ""))
            saved = graph.nodes[user].get("saved", ())
            if saved and not row.normalizes and not any(each.dtype for each in saved):
                found.append((events[-1], user))  # a hook of the checkpoint keeps what it saved
    return found


unseen_rules: tuple[Rule[Any, Any], ...] = (
    Rule(
        "a function of torch.distributed changed a tensor on the path",
        Verdict.CHANGED_UNSEEN,
        _changed_by_a_collective,
        "{what} changed {name} in place on the path to it, and autograd does not record that: the "
        "gradient is the one without it",
        events=(EventKind.IN_PLACE,),
        docs="Such a function writes into a tensor of the graph and does not raise its version "
        "counter.",
    ),
    Rule(
        "data that a checkpoint changes again",
        Verdict.CHANGED_UNSEEN,
        _changed_by_recomputing,
        "{what} changed {name} again, as a checkpoint was computed again in backward: {user} used "
        "other values there than in the forward pass",
        "change {name} outside of the function that is checkpointed",
        events=(EventKind.IN_PLACE,),
        docs="A counter or a running average in a function under torch.utils.checkpoint.",
    ),
)


# Inputs that are updated by hand.


def passes_for_inputs(context: Context, added: Sequence[Event]) -> int:
    """How many of some passes only served to update an input, as those of an attack do.

    The program updates the input by hand; the last pass, at another line, does not use it.
    """
    updated = context.cached(passes_for_inputs, lambda: _passes_before_updates(context))
    last = updated.get(getattr(added[-1].details, "pass_number", 0), set()) if added else set()
    others = (each for each in added if each.location != added[-1].location)
    return sum(bool(updated[getattr(e.details, "pass_number", 0)] - last) for e in others)


def _passes_before_updates(context: Context) -> dict[int, set[str]]:
    """By the numbers of passes, the inputs that they reached and that are updated by hand."""
    changes = filter(is_update, context.happened(EventKind.IN_PLACE))
    keys = {key for event in changes for key in event.nodes} - context.held
    found = defaultdict[int, set[str]](set)
    for event in context.happened(EventKind.ACCUMULATE) if keys else ():
        for key in keys.intersection(event.nodes):
            if (context.node_in_a_frame(key) or {}).get("kind") is not NodeKind.PARAMETER:
                found[getattr(event.details, "pass_number", 0)].add(key)
    return found


def is_update(event: Event) -> bool:
    """Whether a change in place computes the new value from the old one, like a step by hand."""
    return operation(event.word.removeprefix("_foreach_").removesuffix("_")).updates
