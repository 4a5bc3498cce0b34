"""Rules about arguments: objects that are not tensors, gradients and shapes that do not match."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from inspect import getattr_static
from typing import Any, cast

from gradviz.diagnosis.answers import Explanation, Verdict
from gradviz.diagnosis.context import Context
from gradviz.diagnosis.copies import left_result
from gradviz.diagnosis.lines import (
    assigned_before,
    assignments_to,
    at_line,
    called_name,
    can_be_none,
    locations_of,
    mention,
    nodes_in,
    owner_of,
    statement_at,
)
from gradviz.diagnosis.no_graph import is_of
from gradviz.diagnosis.not_connected import gradient_in_a_list, none_of_grad
from gradviz.diagnosis.rule import Evidence, Rule, node_of, source_of, with_article
from gradviz.diagnosis.subjects import (
    UNKNOWN,
    ErrorContext,
    calls_of,
    clipped_by,
    function_of,
    gradient_of,
    is_module,
    value_of,
    variables_around,
    variables_of,
)
from gradviz.facts import Action, HookDetails, SourceLocation
from gradviz.story import Event, EventKind
from gradviz.torch_messages import MessageKind as Kind
from gradviz.wording import how_to_register

# Passed to backward, or to ``torch.autograd.grad``.


def _given(context: Context, error: ErrorContext) -> Evidence | None:
    if not is_of(error, Kind.GIVEN_ANOTHER, Kind.GIVEN_ANOTHER_DEVICE):
        return None
    key = context.roots[0] if len(context.roots) == 1 else ""
    name = context.graph.nodes[key].get("name", "") if key else ""
    like = f"torch.ones_like({name or 'y'})"
    call, what = _call(error), error.read.aspect or "device"
    given = f"{name or 'y'}.backward({like})" if call == "backward" else f"grad_outputs={like}"
    words = {"call": call, "what": what, "root": name or "the result", "given": given}
    return error.evidence([key], culprit=key, words=words)


def _number_given(context: Context, error: ErrorContext) -> Evidence | None:
    """``backward(1.0)``; no answer if the number may be another argument."""
    if not is_of(error, Kind.NUMBER_GIVEN):
        return None
    # If the frame that raised is unknown, the line must pass a number.
    given = ("torch.autograd", "_tensor_or_tensors_to_tuple")
    inner = calls_of(error.error)[:1] if error.error is not None else []
    if inner != [given] and (error.error is not None or not _passes_a_number(error)):
        return None
    call = _call(error)
    fix = "loss.backward(torch.ones_like(loss)); for a single number: loss.backward()"
    if call != "backward":
        fix = "grad_outputs=torch.ones_like(loss); for a single number leave it out"
    return error.evidence(call=call, a_type=with_article(error.read.python_type), fix=fix)


def _calls_in(error: ErrorContext, name: str) -> list[ast.Call]:
    found = nodes_in(statement_at(error.location), ast.Call)
    return [call for call in found if called_name(call) == name]


def _passes_a_number(error: ErrorContext) -> bool:
    given = [
        each
        for call in _calls_in(error, "backward")
        for each in (*call.args[:1], *(k.value for k in call.keywords if k.arg == "gradient"))
    ]
    numbers = (each.operand if isinstance(each, ast.UnaryOp) else each for each in given)
    return any(isinstance(e, ast.Constant) and isinstance(e.value, (int, float)) for e in numbers)


def _call(error: ErrorContext) -> str:
    """``backward`` or ``torch.autograd.grad``."""
    if error.error is not None:
        is_grad = ("torch.autograd", "grad") in calls_of(error.error)
    else:
        is_grad = bool(_calls_in(error, "grad")) and not _calls_in(error, "backward")
    return "torch.autograd.grad" if is_grad else "backward"


# Returned by a hook.


def _from_hook(context: Context, error: ErrorContext) -> Evidence | None:
    kinds = (Kind.HOOK_CHANGED_SHAPE, Kind.HOOK_CHANGED_TYPE, Kind.HOOK_RETURNED_NO_TENSOR)
    if not is_of(error, *kinds):
        return None
    read = error.read
    change = "a gradient of another shape"
    if read.kind is Kind.HOOK_CHANGED_TYPE:
        change = f"a gradient of another dtype or device ({read.expected} → {read.got})"
    elif read.kind is Kind.HOOK_RETURNED_NO_TENSOR:
        change = f"{with_article(read.python_type)}, not a tensor"
    name = read.name if read.name.isidentifier() and read.name != "hook" else ""
    last = _last_seen(context, name)
    who, also = f"the hook {name}" if name else "a hook", ""
    if last is not None:
        on = f" on {last.name}" if last.name else ""
        where = f"{on} at {mention(last.source)}" if last.source else on
        if _is_it(last, name):
            who = f"{who.replace('a hook', 'the hook')}{where}"
        else:
            also = f"; the last hook that was seen to change a gradient is that{where}"
            last = None
    found = ([last.node], [last.location], last.node) if last is not None else ()
    return error.evidence(*found, who=who, change=change, also=also)


def _last_seen(context: Context, name: str) -> Event | None:
    """The last recorded hook that changed a gradient in the failed pass.

    Torch checks the result of a hook right after it: it is this hook, unless the hook is on a
    node, where hooks are not recorded.
    """
    passes = context.happened(EventKind.BACKWARD)
    begun = passes[-1].number if passes else -1
    seen = (event for event in context.happened(EventKind.HOOK) if event.number > begun)
    *_, last = (None, *(event for event in seen if event.action is not Action.REGISTERED))
    return last if last is not None and name in ("", _function(last)) else None


def _function(event: Event) -> str:
    return event.details.function if isinstance(event.details, HookDetails) else ""


def _is_it(event: Event, name: str) -> bool:
    """Whether it is certainly the hook in the message."""
    details = event.details
    if name and _function(event) == name:
        return True
    if not isinstance(details, HookDetails) or details.before is None or details.after is None:
        return True  # its result could not be read
    before, after = details.before, details.after
    return (before.shape, before.dtype, before.device) != (after.shape, after.dtype, after.device)


# Returned by the backward of the user's own ``Function``.


def _of_function(context: Context, error: ErrorContext, node: str, **words: object) -> Evidence:
    """The node of a ``Function``, if there is only one."""
    key = node_of(context, grad_fn=node)
    line = source_of(context, key)
    applied = f"; it was applied at {mention(line)}" if line else ""
    name = node.removesuffix("0").removesuffix("Backward")
    words = {"who": name, "applied": applied, **words}
    return error.evidence([key], locations_of([line]), key, words=words)


def _from_function(context: Context, error: ErrorContext) -> Evidence | None:
    if not is_of(error, Kind.RETURNED_ANOTHER_SHAPE, Kind.RETURNED_ANOTHER_DEVICE):
        return None
    what, fix = "device", "grad.to(input.device)"
    if is_of(error, Kind.RETURNED_ANOTHER_SHAPE):
        what, fix = "shape", "sum over the dimensions that were broadcast"
    return _of_function(context, error, error.read.node, what=what, fix=fix)


def _count_from_function(context: Context, error: ErrorContext) -> Evidence | None:
    if not is_of(error, Kind.RETURNED_ANOTHER_COUNT):
        return None
    return _of_function(context, error, error.read.node)


_ABOUT_TENSORS = ("shape", "size", "device", "dimension", "dtype", "multipl")


def _raised_in_function(context: Context, error: ErrorContext) -> Evidence | None:
    """Any other error that was raised in such a backward."""
    ctx: Any = function_of(error.error)
    if ctx is None or error.read.kind is not None:
        return None
    text = error.text.partition("\n")[0][:200].rstrip(".")
    node = type(ctx).__name__
    fix = "bring the saved tensors and the gradient to one shape and device: those of the inputs "
    fix += "and of the output of its forward"
    if not any(word in text for word in _ABOUT_TENSORS):
        name = node.removesuffix("Backward")
        fix = f"correct the backward of {name}; gradviz.check compares it with finite differences"
    return _of_function(context, error, node, said=text, fix=fix)


_GRADIENT, _FUNCTION = Verdict.WRONG_GRADIENT, Verdict.WRONG_BACKWARD


_NUMBERS = ("int", "uint", "float", "complex", "bool", "bool_", "ndarray")
_READS = ("item", "tolist", "float", "int", "numpy", "complex", "index")
_TAKEN = {
    "tuple": "loss, logits = model(x), or output.loss",
    "list": "loss[0]; or add up what it holds: sum(loss)",
    "dict": "output['loss']; or add up what it holds: sum(output.values())",
}


def _called_on(context: Context, error: ErrorContext) -> Evidence | None:
    """``backward()``, ``requires_grad_()`` or ``retain_grad()`` of a number, a tuple or None."""
    if not is_of(error, Kind.NO_TENSOR):
        return None
    kind, attribute = error.read.python_type, error.read.attribute
    name = owner_of(error.location, attribute)
    start = f"{attribute}(){error.at} was called on {f'{name}, ' if name else ''}"
    reads = [e for e in context.happened(EventKind.CUT) if e.word in _READS and e.source]
    what, fix, was = _what(kind, attribute, reads)
    what, fix = _none(error, name) if kind == "NoneType" else (what, fix)
    lines = [was.location] if was else []
    if kind in _NUMBERS and not reads and (place := left_result(context)) is not None:
        lines, what, fix = [*place[0]], what + place[1], place[2]
    return error.evidence((), lines, said=start + what, fix=fix)


def _none(error: ErrorContext, name: str) -> tuple[str, str]:
    """What is known of a variable that is None, and the fix."""
    line, value = _assigned(error.location, name) if name else (0, None)
    value = value or ast.parse(name or "None", mode="eval").body
    if not isinstance(value, (ast.Attribute, ast.Subscript)):
        what = "None: the function that should return it has no return statement, or returns None"
        return what, "let the function, or forward, end with return loss"
    text = ast.unparse(value)
    where = f" at {mention(f'{error.location.file}:{line}')}" if line else ""
    labels = ": models of transformers set it only if they are called with labels="
    return f"None, as {text} is{where}", f"look where {text} is set{labels * ('loss' in text)}"


def _assigned(location: SourceLocation, name: str) -> tuple[int, ast.expr | None]:
    """The last line up to a location that assigns to a variable, and the value; 0 for none."""
    rows = dict(assignments_to(location, name))
    line = max((each for each in rows if each <= location.line), default=0)
    return line, rows.get(line)


def _result_of_backward(context: Context, error: ErrorContext) -> Evidence | None:
    """A None that ``backward()`` or ``torch.autograd.grad`` returned was used."""
    statement, read = statement_at(error.location), error.read
    if statement is None or not is_of(error, *_NONE):
        return None
    if (found := none_of_grad(error)) is not None:
        return found
    for name in dict.fromkeys(map(ast.unparse, can_be_none(statement, read))):
        line, value = _assigned(error.location, name)
        function = value.func if isinstance(value, ast.Call) else None
        if isinstance(function, ast.Attribute) and function.attr == "backward":
            loss, where = ast.unparse(function.value), f"{error.location.file}:{line}"
            said = f"{name} is None{error.at}: it is what backward() returned at {mention(where)}"
            fix = f"{name} = {loss}, and then {name}.backward()"
            fix = f"write {loss}.backward() without an assignment" if loss == name else fix
            return error.evidence(locations=locations_of([where]), words={"said": said, "fix": fix})
    return None


def _what(kind: str, attribute: str, reads: Sequence[Event]) -> tuple[str, str, Event | None]:
    """What it was called on, the fix, and the event that read its number."""
    as_tensor = "make it a tensor: torch.tensor(x, dtype=torch.float32, requires_grad=True)"
    array = "an array" if kind == "ndarray" else with_article(kind)
    if kind in _TAKEN:
        if attribute == "backward":
            fix = f"take the loss out of it: {_TAKEN[kind]}"
            return f"{array} of results, not one tensor", fix, None
        return f"{array}, not a tensor", as_tensor, None
    if kind.rstrip("0123456789") in _NUMBERS:
        read = reads[-1] if reads else None
        where = f"; numbers were read from a tensor at {mention(read.source)}" if read else ""
        keep = "keep it a tensor up to backward: leave out item(), float() and numpy()"
        fix = f"{keep}; to print it, print(loss.item())" if attribute == "backward" else as_tensor
        return f"{array}, which has no graph{where}", fix, read
    if kind in ("builtin_function_or_method", "method"):
        return f"{array}, which was not called", "write its parentheses: x.sum()", None
    fix = "call it on a tensor: on what the model returns, model(x).sum(){}, or on one that the "
    fix += "object holds, output.loss{}"
    if kind.endswith("Loss"):
        fix = "call it on what the loss returns: loss = criterion(prediction, target), and loss{}"
    return f"{array}, which is not a tensor", fix.replace("{}", f".{attribute}()"), None


_NONE = (
    *(Kind.NONE_ATTRIBUTE, Kind.NONE_OPERAND, Kind.NONE_COMPARED, Kind.NONE_NEGATED),
    *(Kind.NONE_INDEXED, Kind.NONE_ARGUMENT, Kind.NONE_ITERATED),
)


def _no_gradient(context: Context, error: ErrorContext) -> Evidence | None:
    """A ``.grad`` that is None was used; no answer if another None may be meant."""
    if not is_of(error, *_NONE):
        return None
    owner, code = _owner_of_none(error), ""
    if owner is not None:
        code = ast.unparse(owner)
        tensor = _tensor_of(owner, code, error)
    elif (found := gradient_in_a_list(error)) is not None and not found[2]:
        code = error.called.get(id(tensor := found[1]), "w")
    else:
        return None
    called = error.called.get(id(tensor), code) if tensor is not None else code
    name = code if called == code else f"{code} ({called})"
    cause = _cause(tensor, called, error)
    if owner is not None and cause is None and (original := _original_of(owner, error)):
        why = f"it is computed from {original}, which has the gradient, each time that it is read"
        return error.evidence(owner=name, why=why, fix=f"read {original}.grad")
    if cause is None:
        return error.evidence(
            owner=name,
            why="it is a non-leaf tensor, frozen or not used, no backward pass has run, or it was "
            "cleared",
            fix=f"gradviz.explain({code}, loss) reports which",
        )
    fix = _as_update(cause, code, error, tensor) or _fix(cause, code)
    if name != code and cause.verdict in (Verdict.NOT_CONNECTED, Verdict.CUT):  # of a loop
        fix = f"{fix}; to skip those without a gradient here: if {code}.grad is not None"
    culprit, words = cause.culprit if cause.graph is context.graph else "", {"owner": name}
    return error.evidence(cause.nodes, cause.locations, culprit, words, why=cause.reason, fix=fix)


def _fix(cause: Explanation, code: str) -> str:
    if cause.fix and cause.verdict not in (Verdict.NOT_RUN, Verdict.NOT_KNOWN):
        return cause.fix
    return f"call backward() before that line; before the first pass: if {code}.grad is not None"


def _owner_of_none(error: ErrorContext) -> ast.expr | None:
    """The expression ``w`` of the ``w.grad`` that was None in the user's line."""
    if (statement := statement_at(error.location)) is None:
        return None
    suspects = {ast.unparse(each): each for each in can_be_none(statement, error.read)}
    held = variables_of(error.error) if error.error is not None else {}
    values = {code: value_of(each, held) for code, each in suspects.items()}
    none = {code for code, value in values.items() if value is None}
    for code, each in [*suspects.items()]:  # one around another that is None comes after it
        inner = none.intersection(map(ast.unparse, nodes_in(each, ast.expr)))
        if code not in none and (values[code] is not UNKNOWN or inner):
            del suspects[code]
    is_known = bool(suspects) and none.issuperset(suspects)
    if is_known:
        suspects = {code: _read_before(each, error) for code, each in suspects.items()}
    attributes = (each for each in suspects.values() if isinstance(each, ast.Attribute))
    gradients = [each for each in attributes if each.attr == "grad"]
    if len(suspects) != len(gradients) or not (len(gradients) == 1 or (gradients and is_known)):
        return None
    # Of several that are None, the first one raised the error.
    return min(gradients, key=lambda each: (each.lineno, each.col_offset)).value


def _read_before(read: ast.expr, error: ErrorContext) -> ast.expr:
    """The ``w.grad`` that the variable of an expression was last assigned; else the expression."""
    name = read.id if isinstance(read, ast.Name) else ""
    for location in assigned_before(error.location, name) if name else ():
        for line, value in assignments_to(location, name):
            if line == location.line:
                return value
    return read


def _tensor_of(owner: ast.expr, code: str, error: ErrorContext) -> Any:
    """The tensor whose ``.grad`` was None; None if unknown."""
    value = value_of(owner, variables_of(error.error)) if error.error is not None else UNKNOWN
    if value is UNKNOWN:
        named = error.names or ()
        value = next((each.tensor for each in named if each.name == code), None)
    return value if hasattr(type(value), "grad_fn") else None


def _original_of(owner: ast.expr, error: ErrorContext) -> str:
    """The parameter that a parametrization of `torch.nn.utils.parametrize` computes it from."""
    if not isinstance(owner, ast.Attribute) or error.error is None:
        return ""
    module = value_of(owner.value, variables_of(error.error))
    rows = getattr(module, "__dict__", {}).get("_modules", {}).get("parametrizations")
    own = getattr(rows, "_modules", {}).get(owner.attr)
    names = [*getattr(own, "_parameters", {})]
    return f"{ast.unparse(owner.value)}.parametrizations.{owner.attr}.{names[0]}" if names else ""


def _cause(tensor: Any, name: str, error: ErrorContext) -> Explanation | None:
    """Why that tensor has no gradient."""
    if tensor is None or gradient_of(tensor) is not None or error.why is None:
        return None
    return error.why(tensor, name)


def _as_update(cause: Explanation, code: str, error: ErrorContext, tensor: Any) -> str:
    """``w = w - lr * w.grad`` as an in-place update under ``no_grad``; "" for another line."""
    if cause.verdict is not Verdict.NON_LEAF:
        return ""
    recording = error.asked.recording
    event = recording._event_of(tensor) if recording is not None else None
    statement = statement_at(error.location if event is None else event.location)
    if not isinstance(statement, ast.Assign) or not isinstance(statement.value, ast.BinOp):
        return ""
    value, target = statement.value, cast("ast.Name", statement.targets[0])
    if len(statement.targets) > 1 or not code == ast.unparse(target) == ast.unparse(value.left):
        return ""
    update = ast.AugAssign(target, value.op, value.right)
    return f"update it in place: with torch.no_grad(): {ast.unparse(update)}"


def _not_finite(context: Context, error: ErrorContext) -> Evidence | None:
    """The first gradient that is not finite, where a norm or a function needs finite values."""
    from gradviz.capture.tensors.summary import summarize

    is_norm = is_of(error, Kind.NORM_NOT_FINITE)
    is_value = is_of(error, Kind.NOT_FINITE_GIVEN) or is_of(error, Kind.NO_PROBABILITIES)
    given: list[Any] = [each.tensor for each in error.names or () if is_value]
    given = clipped_by(error.error) if is_norm else given
    given, count = [e for e in given if gradient_of(e) is not None], 1 if is_norm else 2
    rows = ((each, summarize([each.grad, each.detach()][:count])) for each in given)
    wrong = [each for each, read in rows if not any(e.is_finite for e in read)]
    if not wrong:
        why, fix = (": each is finite, and their norm overflows", _LARGE) if given else ("", _FIND)
        return error.evidence(what=_NORM, why=why, fix=fix) if is_norm else None
    name, what = error.called.get(id(wrong[0]), "a parameter"), _NORM if is_norm else _VALUES
    cause = error.why(wrong[0], name) if error.why is not None else None
    if cause is None or cause.verdict not in (Verdict.NAN, Verdict.INFINITE):
        return error.evidence(what=what, why=f": the gradient of {name} is not", fix=_FIND)
    why, found = f": in the gradient of {name}, {cause.reason}", (cause.nodes, cause.locations)
    return error.evidence(*found, cause.culprit, what=what, why=why, fix=cause.fix)


_NORM = "clip_grad_norm_(error_if_nonfinite=True) found a norm of gradients that is not finite"
_VALUES = "a function was given values that are not finite"
_FIND = "record the step, and ask gradviz.explain(run) for the first value that is not finite"
_LARGE = "make the loss smaller, such as a mean in place of a sum, or lower the learning rate"


# Passed to an optimizer.


def _modules_around(error: BaseException) -> list[Any]:
    """The modules among these variables."""
    held = variables_around(error).values()
    return list({id(each): each for each in held if is_module(each)}.values())


def _without_registered_layers(context: Context, error: ErrorContext) -> Evidence | None:
    """The optimizer got no parameters, and a module among the variables keeps its own in a list."""
    if error.error is None or not is_of(error, Kind.NO_PARAMETERS):
        return None
    from gradviz.capture.tensors.training_sets import parameters_of, unregistered

    rows = [
        row
        for module in _modules_around(error.error)
        if not parameters_of(module)
        for row in unregistered(module)
    ]
    plain = ("tensor", "buffer")
    if len({(row.owner, row.container) for row in rows}) != 1 or rows[0].kind in plain:
        return None
    row = rows[0]
    made = assignments_to(error.location, f"self.{row.container.rpartition('.')[2]}")
    lines = locations_of(f"{error.location.file}:{number}" for number, _ in made[:1])
    words = {
        "owner": row.owner,
        "container": row.container,
        "plain": row.kind,
        "line": at_line(lines[0]) if lines else "",
        "register": how_to_register(f"self.{row.container}", row.kind, row.of_modules, row.inner),
    }
    return error.evidence(locations=lines, words=words)


def _called_instance(context: Context, error: ErrorContext) -> Evidence | None:
    """A Function with a static forward, of which an instance was called as a module is."""
    if error.error is None or not is_of(error, Kind.FORWARD_NOT_STATIC):
        return None
    held = variables_around(error.error)
    for call in nodes_in(statement_at(error.location), ast.Call):
        made = value_of(call.func.func if isinstance(call.func, ast.Call) else call.func, held)
        made = made if isinstance(made, type) else type(made)
        if "forward" in dir(made) and isinstance(getattr_static(made, "forward"), staticmethod):
            how = f"{made.__name__}.apply({', '.join(map(ast.unparse, call.args))})"
            return error.evidence(name=made.__name__, code=ast.unparse(call), how=how)
    return None


def _filtered_to_none(context: Context, error: ErrorContext) -> Evidence | None:
    """The optimizer was to get the parameters that require grad, and all of a module are frozen."""
    if error.error is None or not is_of(error, Kind.NO_PARAMETERS):
        return None
    from gradviz.capture.tensors.training_sets import parameters_of

    given = [statement_at(error.location)]
    for name in nodes_in(given[0], ast.Name):
        made = assigned_before(error.location, name.id)
        given += [statement_at(line) for line in made]
    read = (each.attr for code in given for each in nodes_in(code, ast.Attribute))
    held = [parameters_of(module) for module in _modules_around(error.error)]
    frozen = [each for each in held if each and not any(p.requires_grad for p in each)]
    if "requires_grad" not in read or not frozen:
        return None
    events = context.happened(EventKind.REQUIRES_GRAD)
    off = [each.location for each in events if each.action is Action.REQUIRES_GRAD_OFF][-1:]
    where = f": the last was frozen at {mention(off[0])}" if off else ""
    return error.evidence(locations=off, words={"where": where})


RULES: tuple[Rule[Any, Any], ...] = (
    Rule(
        "an optimizer of a model that keeps its layers in a plain container",
        Verdict.OPTIMIZER,
        _without_registered_layers,
        "the optimizer{at} was given no parameters: {owner} keeps its parameters in "
        "self.{container}, a plain {plain}{line}, which parameters() does not list",
        "register them: {register}",
    ),
    Rule(
        "an optimizer of those parameters of a frozen model that require grad",
        Verdict.OPTIMIZER,
        _filtered_to_none,
        "the optimizer{at} was given no parameters: it was to get those that require grad, and "
        "none does{where}",
        "let the parameters that are to be trained require grad before: requires_grad_(True); if a "
        "condition on names chooses them, print the names: it may match none",
    ),
    Rule(
        "an instance of a Function that was called",
        Verdict.WRONG_BACKWARD,
        _called_instance,
        "{code}{at} calls an instance of {name}, which has no forward of its own: the forward of a "
        "Function is a static method",
        "call it by apply, without an instance: {how}",
    ),
    Rule("backward() of something else than a tensor", Verdict.NOT_A_TENSOR, _called_on, "{said}"),
    Rule(
        "a None that backward() or grad() returned was used",
        Verdict.NOT_A_TENSOR,
        _result_of_backward,
        "{said}",
    ),
    Rule(
        "a .grad that is None was used",
        Verdict.NOT_A_TENSOR,
        _no_gradient,
        "{owner}.grad is None{at}: {why}",
    ),
    Rule(
        "a norm, or a value that a function was given, is not finite",
        _GRADIENT,
        _not_finite,
        "{what}{at}{why}",
    ),
    Rule(
        "backward was given a gradient that does not fit",
        _GRADIENT,
        _given,
        "{call}{at} was given a gradient of {what} {got}, and {root} has {expected}",
        "give one with the shape, dtype and device of the result: {given}",
    ),
    Rule(
        "backward was given a number as gradient",
        _GRADIENT,
        _number_given,
        "{call}{at} was given {a_type} as its gradient, not a tensor",
    ),
    Rule(
        "a hook returned a gradient that does not fit",
        _GRADIENT,
        _from_hook,
        "{who} returned {change}, in backward{at}{also}",
        "let the hook return None, or a gradient of the same shape, dtype and device: grad * 2",
    ),
    Rule(
        "a Function's backward returned a gradient that does not fit",
        _FUNCTION,
        _from_function,
        "the backward of {who} returned for input {index} a gradient of {what} {got}, where "
        "{expected} is needed{at}{applied}",
        "return a gradient like input {index}: {fix}",
    ),
    Rule(
        "a Function's backward returned another number of gradients",
        _FUNCTION,
        _count_from_function,
        "the backward of {who} returned {found} gradients for {wanted} inputs of its forward{at}"
        "{applied}",
        "return one for each input of forward after ctx, None for an input that needs no gradient",
    ),
    Rule(
        "a Function's backward raised an error",
        _FUNCTION,
        _raised_in_function,
        "the backward of {who} raised{at}: {said}{applied}",
    ),
)
