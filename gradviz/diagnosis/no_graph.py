"""Rules about errors of a backward pass: its root, its inputs, and the nodes it reaches."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from gradviz.diagnosis.answers import Verdict
from gradviz.diagnosis.context import MADE, RECORD, Context
from gradviz.diagnosis.copies import fix_of_number, left_result
from gradviz.diagnosis.cuts import (
    FIX_OF_CAUSE,
    CutFacts,
    fix_of_cut,
    is_known_cut,
    off_since,
    said_of,
)
from gradviz.diagnosis.lines import (
    assigned_before,
    at_line,
    called_on,
    calls,
    has_line,
    locations_of,
    mention,
    nodes_in,
    statement_at,
    statements_around,
)
from gradviz.diagnosis.name_flow import (
    is_unused_by,
    number_reads,
    rebound_in,
    statements_behind,
)
from gradviz.diagnosis.not_connected import input_not_used
from gradviz.diagnosis.rule import Evidence, Needs, Rule, leads_to_an_index, node_of, source_of
from gradviz.diagnosis.subjects import ErrorContext, applying_of, grad_call_of, unused_by_ddp
from gradviz.facts import CutEdge, SourceLocation
from gradviz.graph import (
    LEAVES,
    Cause,
    EdgeData,
    EdgeKind,
    NodeKind,
    ancestors,
    leaf_of_node,
)
from gradviz.graph.operations import OF_A_LIBRARY, forward_word
from gradviz.graph.text import joined
from gradviz.story import Event, EventKind
from gradviz.torch_messages import MessageKind as Kind
from gradviz.torch_messages import TorchMessage

_CALLS: dict[Kind | None, str] = {
    Kind.ROOT_WITHOUT_GRAPH: "backward",
    Kind.RETAIN_GRAD_WITHOUT_GRAPH: "retain_grad()",
    Kind.HOOK_WITHOUT_GRAPH: "register_hook()",
}
_AS_DATA = "data: x.requires_grad_() before it is used; else leave out what cut it off"
_NOT_RECORDED = ", and was not computed by a recorded operation"
_IN_A_BACKWARD = "in the backward of a Function, where autograd records nothing, as under no_grad"
_UNUSED = "use them in the loss or remove them; or {0}(model, find_unused_parameters=True)"
Found = Callable[[Context, ErrorContext], Evidence | None]


def detached_in_its_branch(made: SourceLocation, used: SourceLocation, code: str) -> str:
    """A fix for what one branch of a function computes and uses, and another pass uses after it."""
    function = next(iter(statements_around(made, ast.FunctionDef)[::-1]), None)
    branches = [e for e in statements_around(made, ast.If)[-1:] if not has_line(e, used.line)]
    if function is None or made.file != used.file or not has_line(function, used.line):
        return ""
    every = [e for each in branches for call in nodes_in(each, ast.Call) for e in call.args]
    read = [e for e in every if ast.unparse(e) == code]
    if len(read) != 1 or not isinstance(branches[0].body[-1], ast.Return):
        return ""
    place = f"{made.file}:{read[0].lineno}"
    return (
        f"if the pass that runs first is not to train what computes it, detach it at {place}: "
        f"{code}.detach(); else compute it again before {used}"
    )


def is_of(error: ErrorContext, *kinds: Kind) -> bool:
    """Whether an error's text is of one of these kinds."""
    return error.read.kind in kinds


# Backward was called on a tensor that does not require grad.


def _start(context: Context, error: ErrorContext) -> str:
    """The root of backward in the error; "" for another error, or if unknown."""
    if error.read.kind not in _CALLS:
        return ""
    return next((key for key in context.roots if key in _untracked(context)), "")


def _began(context: Context, error: ErrorContext) -> str:
    call = _CALLS[error.read.kind]
    name = context.graph.nodes[_start(context, error)].get("name") or "the tensor"
    if call == "backward":
        return f"backward{error.at} starts from {name}, which does not require grad"
    return f"{call} was called{error.at} on {name}, which does not require grad"


def _began_at(find: Callable[[Context, ErrorContext, str], Evidence | None]) -> Found:
    """A rule about the tensor on which backward was called."""

    def match(context: Context, error: ErrorContext) -> Evidence | None:
        key = _start(context, error)
        return find(context, error, key) if key else None

    return match


def _integers(context: Context, error: ErrorContext, key: str) -> Evidence | None:
    data = context.graph.nodes[key]
    if data.get("dtype", "float").startswith(("float", "bfloat", "complex")):
        return None
    words = {"began": _began(context, error), "dtype": data["dtype"]}
    return error.evidence([key], culprit=key, **words, tensor=data.get("name") or "x")


def _cut_off(context: Context, error: ErrorContext, key: str) -> Evidence | None:
    cuts, frozens = (lost_on_the_way(context, key, by) for by in (None, Cause.REQUIRES_GRAD))
    cut, frozen = (next(iter(each), None) for each in (cuts, frozens))
    added = context.happened_to(frozen.source, EventKind.ACCUMULATE) if frozen is not None else ()
    made = context.happened_to(key, EventKind.OPERATION)[-1:]
    if made and (off := off_since(context, made[0].number)) is not None:  # it covers the others
        every = (CutFacts.of(context, each) for each in _cuts_before(context, key))
        cut = next((each.cut for each in every if each.mode is off), cut)
    elif any(each.location == error.location for each in added):
        cut = frozen  # passes of that line trained it before
    is_frozen = cut is not None and cut.edge.get("cause") is Cause.REQUIRES_GRAD
    ops = {data.get("op") for _, data in context.graph.nodes(data=True)}
    run = error.asked.recording
    trains = run is not None and any(each.tensor.requires_grad for each in run._leaves())
    is_hidden = trains and "checkpoint" in ops and _applied(context)  # and not by the freezing
    if cut is None or (is_frozen and (is_hidden or _detached_before(context, error, key))):
        return None
    cause = cut.edge.get("cause")
    beside = [e for e in cuts if cut is cuts[0] and e.edge.get("cause") is not cause][:1]
    said = said_of(context, cut, *beside)
    words, fix, lines = said.cut + said.more, said.fix, said.lines
    for line, name, _ in rebound_in(context):
        if str(line) == cut.edge.get("source"):
            fix = f"{line}: change {name} in place: with torch.no_grad(): {name} -= ..."
    since = max((each.number for each in context.happened(EventKind.ACCUMULATE)), default=-1)
    own, reads = cut.edge.get("source"), number_reads(context)
    reads = [e for e in reads if e.number > since and _untracked(context).isdisjoint(e.nodes)]
    rows = (row for found in context.numbers.values() for row in found)
    indices = {row.source for row in rows if row.has_no_gradient}  # as the action that is chosen
    reads = [e for e in reads if str(e.location) not in {own, *indices}]
    is_whole = cut.target == key and not context.happened_to(key, EventKind.OPERATION)
    read = reads[-1] if reads and not is_whole else None
    if read is not None and not is_unused_by(read.location, context.name_of(key)):
        words += f"; values also became numbers by {read.word}() at {mention(read.location)}"
        fix += f"; or {read.location}: {FIX_OF_CAUSE[Cause.ITEM]}"
        lines = (*lines, read.location)
    found = {"began": _began(context, error), "cut": words, "fix": fix}
    return error.evidence([cut.target], lines, cut.target, words=found)


def lost_on_the_way(context: Context, key: str, by: Cause | None = None) -> list[CutEdge]:
    """The known cuts on the paths of the data to an untracked tensor; of one cause, if given.

    They are those nearest to tensors that require grad, first to ones that an optimizer holds, the
    latest first; before frozen ones, that of a leaf that requires grad, or the latest frozen.
    """
    found = [e for e in _cuts_before(context, key) if by in (None, e.edge.get("cause"))]
    frozen = [e for e in found if e.edge.get("cause") is Cause.REQUIRES_GRAD]
    own = [e for e in found if not context.held.isdisjoint(ancestors(context.graph, [e.source]))]
    if not own and context.held:  # what no optimizer holds may be frozen
        own = [e for e in found if e not in frozen]
    own = own or found
    if not own or own[0] not in frozen:
        ends = [e for e in own if e not in frozen]
        ends.sort(key=lambda e: -_last_of(context, e.target, *MADE, EventKind.CUT))
        return sorted(ends, key=lambda e: leads_to_an_index(context.graph, e))
    leaves = [e for e in own if context.graph.nodes[e.source]["kind"] in LEAVES]
    frozen = [e for e in own if e in frozen]
    latest = max(frozen, key=lambda e: _last_of(context, e.source, EventKind.REQUIRES_GRAD))
    return [next(iter(leaves), latest)]


def _cuts_before(context: Context, key: str) -> list[CutEdge]:
    """The known cuts of data that an untracked tensor was computed from, in the order of keys."""
    graph, found = context.graph, list[CutEdge]()

    def carries(_: str, target: str, edge: EdgeData) -> bool:
        return edge["kind"] is EdgeKind.CUT and graph.nodes[target]["kind"] is NodeKind.UNTRACKED

    for target in sorted(ancestors(graph, [key], carries), key=lambda each: int(each[1:])):
        for source, _, edge in graph.in_edges(target, data=True):
            before = {kind for *_, kind in graph.in_edges(source, data="kind")}
            is_later = EdgeKind.CUT in before and graph.nodes[source]["kind"] is NodeKind.UNTRACKED
            if carries(source, target, edge) and is_known_cut(edge) and not is_later:
                found.append(CutEdge(source, target, edge))
    if not found and "op" in graph.nodes[key]:  # its inputs may be gone, the cause is known
        found = [CutEdge(*each) for each in graph.out_edges(key, data=True)]
        found = [e for e in found if e.edge["kind"] is EdgeKind.CUT and is_known_cut(e.edge)]
    return found


def _last_of(context: Context, key: str, *kinds: EventKind) -> int:
    """The number of the last event of some kinds at a tensor; 0 if unknown."""
    return max((e.number for kind in kinds for e in context.happened_to(key, kind)), default=0)


def _not_required(context: Context, error: ErrorContext, key: str) -> Evidence | None:
    lines: tuple[SourceLocation, ...] = ()
    more, fix = "", "let a leaf require grad before the forward pass: w.requires_grad_()"
    behind = statements_behind(error.location)
    ends = [SourceLocation(error.location.file, each.lineno) for each in behind]
    made = [e for end in ends for e in context.events_on(str(end)) if e.word.endswith("_like")]
    if place := left_result(context):
        lines, more, fix = place
    elif made:
        line, word = made[-1].location, made[-1].word
        more = f"; {word}() at {mention(line)} takes the shape of its argument, not its values"
        fix = f"{line}: compute with the argument of {word}() itself, if its values are meant; "
        fix += "else let a leaf require grad before the forward pass"
    words = {"began": _began(context, error), "more": more, "fix": fix}
    return error.evidence([key], lines, key, words=words)


def _inference(context: Context, error: ErrorContext, key: str) -> Evidence | None:
    is_one = context.graph.nodes[key].get("inference")
    return _not_required(context, error, key) if is_one else None


def _through_a_function(context: Context, error: ErrorContext, key: str) -> Evidence | None:
    words = {"began": _began(context, error)}
    if (line := applying_of(error.error)) is not None:
        words["why"] = (
            f"it was computed in the forward of a Function, called at {mention(line)}, where "
            "autograd records nothing, as under no_grad, unless enable_grad() is on"
        )
        words["fix"] = "there: x = x.detach().requires_grad_(); with torch.enable_grad(): y = ..."
        return error.evidence([key], [line], key, words=words)
    if (applied := _applied(context)) is None:
        return None
    words["why"] = (
        f"no tensor that it was computed from does. {applied.name or 'a tensor'} came from a "
        f"Function at {mention(applied.source)}: only the inputs of a Function count, not "
        "parameters used inside it, as in a reentrant checkpoint"
    )
    words["fix"] = "checkpoint(..., use_reentrant=False); or let an input of it require grad"
    return error.evidence([key], [applied.location], key, words=words)


def _applied(context: Context) -> Event | None:
    """The last call of a ``Function`` whose result does not require grad."""
    untracked = {"", *_untracked(context)}
    found = (e for e in context.happened(EventKind.OPERATION) if e.word == "apply" and e.source)
    return next((e for e in reversed([*found]) if e.node in untracked), None)


def _untracked(context: Context) -> set[str]:
    return {key for key, kind in context.graph.nodes(data="kind") if kind is NodeKind.UNTRACKED}


def _made_of_numbers(context: Context, error: ErrorContext, key: str) -> Evidence | None:
    """It has no known input tensor, and values of some were read as numbers before."""
    reads = number_reads(context)
    if not reads or any(context.graph.in_edges(key)):
        return None
    last = reads[-1]
    read = f"{last.word}() at {mention(last.location, last.inside)}"
    fix = fix_of_number(context, last.word, str(last.location), str(last.inside))
    fix = fix or FIX_OF_CAUSE[Cause.NUMPY if last.word == "numpy" else Cause.ITEM]
    words = {"began": _began(context, error), "read": read, "fix": f"{last.location}: {fix}"}
    return error.evidence([key], [last.location, last.inside], key, words=words)


def _detached_before(context: Context, error: ErrorContext, key: str) -> Evidence | None:
    """Something was detached before, and no recorded operation used the result."""
    since = max((each.number for each in context.happened(EventKind.ACCUMULATE)), default=-1)
    every = context.happened(EventKind.CUT)
    cuts = [e for e in every if e.word == "detach" and e.source and not e.nodes]
    cuts = [e for e in cuts if "state_dict" not in called_on(e.source)]
    if not cuts or cuts[-1].number <= since:
        return None
    words = {"began": _began(context, error), "cut": mention(cuts[-1].location)}
    return error.evidence([key], [cuts[-1].location], key, words=words, line=cuts[-1].source)


def _unknown_start(context: Context, error: ErrorContext) -> Evidence | None:
    if error.read.kind not in _CALLS:
        return None
    is_root, lines = error.read.kind is Kind.ROOT_WITHOUT_GRAPH, list[SourceLocation]()
    words = {"call": _CALLS[error.read.kind], "name": "a tensor", "made": _NOT_RECORDED * is_root}
    words["fix"] = RECORD if is_root and not context.is_recorded else _AS_DATA * (not is_root)
    if (call := grad_call_of(error.error)) and applying_of(error.error, "backward") is not None:
        name = error.called.get(id(call.outputs[0]), "")
        lines = assigned_before(error.location, name)
        words |= {"call": "torch.autograd.grad", "name": name or "a tensor"}
        words["made"] = f", and was computed {''.join(f'at {e}, ' for e in lines)}{_IN_A_BACKWARD}"
        words["fix"] = f"there: with torch.enable_grad(): {name or 'y'} = ..."
    return error.evidence(locations=lines, words=words)


# Backward was called on more than one number.


def _root(kind: Kind) -> Found:
    """A rule about a root: the only one that is not one number, or the only one, if complex."""

    def match(context: Context, error: ErrorContext) -> Evidence | None:
        if not is_of(error, kind):
            return None
        shapes = {key: context.graph.nodes[key].get("shape") for key in context.roots}
        roots = [key for key in shapes if kind is Kind.COMPLEX_ROOT or shapes[key] != ()]
        key = roots[0] if len(roots) == 1 else ""
        name = context.graph.nodes[key].get("name", "") if key else ""
        shape = f" of shape {list(shapes[key] or ())}" if key and kind is Kind.NOT_A_SCALAR else ""
        root = (name or "a result") + shape
        return error.evidence([key], culprit=key, root=root, called=name or "loss")

    return match


def _unused_parameters(context: Context, error: ErrorContext) -> Evidence | None:
    if not is_of(error, Kind.DDP_UNUSED):
        return None
    names, change = unused_by_ddp(error)
    who = f": {names}{change and f', {change} after it was created'}" if names else ""
    fix = {"frozen": "freeze them before {0}(model)", "replaced": "call {0}(model) after that"}
    return error.evidence(who=who, fix=fix.get(change, _UNUSED).format("DistributedDataParallel"))


_KEEP = "keep no non-leaf tensor on the model that is copied, or keep"
_NORMED = "use torch.nn.utils.parametrizations.weight_norm: its weight is no attribute to be copied"


def _non_leaf(kind: Kind) -> Found:
    def match(context: Context, error: ErrorContext) -> Evidence | None:
        if not is_of(error, kind):
            return None
        name, op, location, key = error.origin
        made = f"created by {op or 'an operation'}{f' at {mention(location)}' if location else ''}"
        keep = _NORMED if op == "_weight_norm" else f"{_KEEP} {name or 'x'}.detach()"
        words = {"what": name or "a tensor", "created": made, "name": name or "x", "keep": keep}
        return error.evidence([key], [location], key, words=words)

    return match


def _inference_used(context: Context, error: ErrorContext) -> Evidence | None:
    kinds = (Kind.INFERENCE_SAVED, Kind.INFERENCE_CHANGED, Kind.INFERENCE_REQUIRES_GRAD)
    if not is_of(error, *kinds):
        return None
    nodes = [data for data in context.graph._node.values() if data.get("inference")]
    made = [str(data["source"]) for data in nodes if data.get("source")]
    where = f"; it was made at {mention(made[-1])}" if made else ""
    code = {ast.unparse(each) for each in nodes_in(statement_at(error.location), ast.expr)}
    named = [each for each in error.names or () if each.name in code and each.tensor.is_inference()]
    name = named[0].name if len({id(each.tensor) for each in named}) == 1 else ""
    what = "a tensor made under inference_mode"
    words = {"made": where, "name": name or "x", "what": f"{name}, {what}," if name else what}
    edges = (CutEdge(*edge) for edge in context.graph.edges(data=True))
    cuts = [each for each in edges if each.edge.get("cause") is Cause.INFERENCE_MODE]
    cuts = [each for each in cuts if each.edge.get("source") in made[-1:]]
    used = [(context.graph.nodes[each.source].get("name"), each) for each in cuts]
    trained = [f"; to train {of}, {fix_of_cut(context, each)}" for of, each in used if of]
    return error.evidence((), locations_of(made[-1:]), words=words, trained="".join(trained[:1]))


def _no_derivative(context: Context, error: ErrorContext) -> Evidence | None:
    if not is_of(error, Kind.NO_DERIVATIVE, Kind.NO_DERIVATIVE_ATEN, Kind.NO_DERIVATIVE_CUSTOM):
        return None
    read = error.read
    key = _underived(context, read)
    location, inputs = _called_at(context, error, key), inputs_of(context, key)
    words = {
        "operation": read.operation.strip("_"),
        "which": f" with respect to its argument {read.argument}" if read.argument else "",
        "used": f"; it was called at {mention(location)}" if location else "",
        "inputs": f" with {inputs}" if inputs else "",
        "forward": _forward_of(context, read.operation),
    }
    return error.evidence([key], [location], key, words=words)


def _forward_of(context: Context, operation: str) -> str:
    """``"embedding_bag at train.py:31"`` for its derivative; "" if it is not one operation."""
    word = operation.strip("_").removesuffix("_backward")
    line = source_of(context, node_of(context, op=word))
    return f"{word}{at_line(line)}" if line else "an operation"


def _underived(context: Context, read: TorchMessage) -> str:
    """The node of the operation without a derivative; "" if unknown."""
    word = read.operation.strip("_")
    custom = f"{OF_A_LIBRARY}{read.library}_{read.operation}_"
    named = [
        key
        for key, data in context.graph.nodes(data=True)
        if data.get("op", "").removeprefix("special_") == word
        or str(data.get("grad_fn", "")).startswith(custom)
    ]
    return named[0] if len(named) == 1 else node_of(context, grad_fn="NotImplemented")


def _called_at(context: Context, error: ErrorContext, key: str) -> SourceLocation:
    """The line that called it; for a derivative, the line that computed it with create_graph."""
    words = (operation := error.read.operation, operation.strip("_"))
    events = [
        *context.happened_to(key, EventKind.OPERATION),
        *(event for event in context.happened(EventKind.OPERATION) if event.word in words),
    ]
    lines = locations_of([source_of(context, key)]) or tuple(event.location for event in events)
    if lines:
        return lines[0]
    called = calls([error.location.file], operation)
    if len(called) == 1:
        return called[0]
    ran = context.happened(EventKind.BACKWARD)
    passes = [each for each in ran if getattr(each.details, "create_graph", False)]
    return passes[-1].location if passes and operation.endswith("_backward") else SourceLocation()


def inputs_of(context: Context, key: str) -> str:
    """The inputs of an operation: ``"x of shape [3, 4] and w of shape [5, 4]"``; "" if unknown."""
    if key not in context.graph:
        return ""
    described = []
    for source in dict.fromkeys(source for source, _ in context.graph.inputs(key)):
        data = context.graph.nodes[leaf_of_node(context.graph, source)]
        name, shape = data.get("name") or data.get("op", ""), data.get("shape")
        if name and shape is not None:
            described.append(f"{name} of shape {list(shape)}")
    return joined(described) if described else ""


def _fix_without_derivative(evidence: Evidence) -> str:
    operation = str(evidence.words["operation"])
    if evidence.words["library"]:
        name = f"{evidence.words['library']}::{operation}"
        return f'give it a derivative: torch.library.register_autograd("{name}", backward)'
    if operation.endswith("_backward"):
        return (
            f"{operation} is the derivative of {evidence.words['forward']}, and has none of its "
            "own: leave out create_graph=True, or compute that part with other operations, such "
            "as the formula written out"
        )
    return "detach that input if it needs no gradient, or write a torch.autograd.Function with one"


def _nan_returned(context: Context, error: ErrorContext) -> Evidence | None:
    """Anomaly mode found NaN in the gradients that an operation returned."""
    if not is_of(error, Kind.NAN_RETURNED):
        return None
    key = node_of(context, grad_fn=error.read.node)
    line = source_of(context, key)
    words = {"op": forward_word(error.read.node), "where": at_line(line)}
    return error.evidence([key], locations_of([line]), key, words=words)


RULES: tuple[Rule[Any, Any], ...] = (
    Rule(
        "backward starts from integers",
        Verdict.NO_GRAPH,
        _began_at(_integers),
        "{began}: it is {dtype}, which has no gradient",
        "make it floating point before the computation: {tensor}.float() does not restore the "
        "graph",
    ),
    Rule(
        "the data of the start was cut off",
        Verdict.NO_GRAPH,
        _began_at(_cut_off),
        "{began}: its data was cut off by {cut}",
    ),
    Rule(
        "backward starts from an inference tensor",
        Verdict.NO_GRAPH,
        _began_at(_inference),
        "{began}: it was made under inference_mode",
        "run the forward pass outside of torch.inference_mode()",
    ),
    Rule(
        "a Function was applied to tensors that do not require grad",
        Verdict.NO_GRAPH,
        _began_at(_through_a_function),
        "{began}: {why}",
        needs=Needs.RECORDING,
    ),
    Rule(
        "the start may be made of numbers",
        Verdict.NO_GRAPH,
        _began_at(_made_of_numbers),
        "{began}: no tensor that it was computed from does; values were read as numbers by "
        "{read}, whose further use is not recorded",
        events=(EventKind.CUT,),
    ),
    Rule(
        "its values may come from a detached tensor",
        Verdict.NO_GRAPH,
        _began_at(_detached_before),
        "{began}: no recorded tensor that it was computed from does; values left the graph by "
        "detach() at {cut}, and their further use is not recorded",
        "{line}: leave out the detach(), and compute with the tensor itself: a file, an array or "
        "another process keeps no graph",
        events=(EventKind.CUT,),
    ),
    Rule(
        "no leaf requires grad",
        Verdict.NO_GRAPH,
        _began_at(_not_required),
        "{began}: no tensor that it was computed from does{more}",
        needs=Needs.RECORDING,
    ),
    Rule(
        "why the start does not require grad was not recorded",
        Verdict.NO_GRAPH,
        _began_at(_not_required),
        "{began}: its leaves do not, or it was cut off; which of them was not recorded",
        RECORD,
    ),
    Rule(
        "the start is not known",
        Verdict.NO_GRAPH,
        _unknown_start,
        "{call} was called{at} on {name}, which does not require grad{made}",
    ),
    Rule(
        "backward starts from several numbers",
        Verdict.NOT_SCALAR,
        _root(Kind.NOT_A_SCALAR),
        "backward{at} starts from {root}, not from one number",
        "reduce it: {called}.mean().backward(); or give a gradient: "
        "{called}.backward(torch.ones_like({called}))",
    ),
    Rule(
        "backward starts from a complex number",
        Verdict.NOT_SCALAR,
        _root(Kind.COMPLEX_ROOT),
        "backward{at} starts from {root}, which is complex, not one real number",
        "make its terms real before they are summed: (prediction - target).abs().pow(2).mean(); or "
        "take a part of it: {called}.real.backward()",
    ),
    Rule(
        "torch.autograd.grad of an input that the output does not use",
        Verdict.NOT_USED,
        input_not_used,
        "torch.autograd.grad{at} was asked for the gradient of {who}, not reachable from "
        "{output}{why}",
    ),
    Rule(
        "DistributedDataParallel waits for unused parameters",
        Verdict.UNUSED_PARAMETERS,
        _unused_parameters,
        "DistributedDataParallel waits{at} for gradients of parameters that the loss did not "
        "use{who}",
    ),
    Rule(
        "an optimizer of a non-leaf tensor",
        Verdict.NOT_A_LEAF,
        _non_leaf(Kind.NON_LEAF_OPTIMIZED),
        "{what} is a non-leaf tensor, {created}, and an optimizer updates leaves only{at}",
        "make it a leaf once it has its value: {name} = {name}.detach().requires_grad_()",
    ),
    Rule(
        "a deep copy of a non-leaf tensor",
        Verdict.NOT_A_LEAF,
        _non_leaf(Kind.NON_LEAF_COPIED),
        "{what} is a non-leaf tensor, {created}, and only leaves can be deep-copied{at}",
        "{keep}",
    ),
    Rule(
        "an inference tensor where autograd records",
        Verdict.INFERENCE_USED,
        _inference_used,
        "{what} was used where autograd records{at}{made}",
        "make it under torch.no_grad() instead, or use a copy: {name} = {name}.clone(){trained}",
    ),
    Rule(
        "an operation without a derivative",
        Verdict.NO_DERIVATIVE,
        _no_derivative,
        "backward{at} reached {operation}{inputs}, for which torch has no derivative{which}{used}",
        _fix_without_derivative,
    ),
    Rule(
        "anomaly mode found NaN",
        Verdict.NAN_RETURNED,
        _nan_returned,
        "backward{at} reached {op}{where}, which returned NaN as the gradient of its input {index}",
        "keep that input away from values with an infinite slope: add a small number, or clamp it",
    ),
)
