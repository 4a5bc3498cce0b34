"""Losses, and changes in place, that compute another thing than is meant, and raise nothing."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from gradviz.diagnosis.answers import Verdict
from gradviz.diagnosis.context import Context, Question
from gradviz.diagnosis.lines import at_line, locations_of, mention, nodes_in, statement_at
from gradviz.diagnosis.rule import Evidence, Rule
from gradviz.diagnosis.values import (
    Step,
    is_all_zero,
    is_sum,
    is_wrong,
    keeps_each,
    largest,
    number_of,
    smallest,
)
from gradviz.facts import Action, BackwardDetails, EventKind
from gradviz.graph import (
    EdgeData,
    EdgeKind,
    GradGraph,
    NodeData,
    NodeKind,
    ancestors,
    descendants,
    is_gradient,
    word_of,
)
from gradviz.graph.operations import Blocks, operation
from gradviz.graph.text import element_count, shape_text
from gradviz.story import Event

COMPARE = (
    "compare the results with a target, or weigh them: a sum or mean square of normalized values "
    "is nearly a constant"
)
INSIDE = "keep the inputs inside that range, or clamp for the output alone, not for the loss"
MORE_KEYS = "give it more than one key; the dimension before the last is that of the keys"
LOSSES = (
    *("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy", "kl_div"),
    *("binary_cross_entropy_with_logits", "soft_margin_loss"),
)


def _broadcast(context: Context, question: Question) -> Evidence | None:
    """A loss between it and the root compared each value with every target."""
    graph = context.graph_of_latest_pass(question.key) or context.graph
    found = context.cached((_broadcast, id(graph)), lambda: _losses_of_all_pairs(graph))
    for loss, shapes, behind in found:
        if question.key in behind:
            data, lines = graph.nodes[loss], locations_of([graph.nodes[loss].get("source", "")])
            words: dict[str, object] = {"op": data["op"], "at": at_line(lines[0]) if lines else ""}
            words["does"] = "multiplies" if data["op"] == "mul" else "compares"
            words["how"] = (
                "one.view_as(other)" if data["op"] == "mul" else "target.view_as(prediction)"
            )
            words["first"], words["second"], words["both"] = map(shape_text, shapes)
            return Evidence(words, (loss,), lines, loss)
    return None


_PAIRED = ("mse_loss", "smooth_l1_loss", "huber_loss")  # which expand what they are given
_BY_HAND = ("sub", "rsub", "mul")
_SHAPED = ("unsqueeze", "view", "reshape", "getitem", "index", "select")
_ELEMENTWISE = ("pow", "abs", "mul", "neg", "div")
_REDUCING = ("mean", "sum", "linalg_vector_norm", "norm")


def _losses_of_all_pairs(graph: GradGraph) -> list[tuple[str, list[tuple[int, ...]], set[str]]]:
    """Losses of two shapes of as many elements, as [4, 1] and [4]: key, shapes, what is behind."""
    nodes, found = graph.nodes, []
    for key, data in nodes(data=True):
        op = data.get("op")
        pair = [source for source, _ in graph.inputs(key)] if op in (*_PAIRED, *_BY_HAND) else []
        wide = [each for each in pair if nodes[each].get("op") == "expand"]
        own = [next((s for s, _ in graph.inputs(e)), e) if e in wide else e for e in pair]
        both = [key] if op in _BY_HAND else wide[:1]
        shapes = [nodes[each].get("shape") or () for each in (*own, *both)]
        counts = [*map(element_count, shapes)]
        if len(shapes) != 3 or not 1 < counts[0] == counts[1] < counts[2]:
            continue
        if loss := key if op in _PAIRED else _reduced_at_once(graph, key):
            found.append((key, shapes, ancestors(graph, [loss])))
    return found


def _reduced_at_once(graph: GradGraph, key: str) -> str:
    """What makes one number of all pairs of [4, 1] and [4], as a handmade mean square; or "".

    A line that gives one of them that shape means all pairs, as do differences of what is trained.
    """
    nodes, node = graph.nodes, graph.nodes[key]
    is_tracked = [edge["kind"] is EdgeKind.GRADIENT for _, edge in graph.inputs(key)]
    pair = [nodes[each] for each, _ in graph.inputs(key)]
    here = {e.get("op") for e in pair if e.get("source") == node.get("source")}
    is_meant = (node["op"] != "mul" and all(is_tracked)) or here.intersection(_SHAPED)
    if is_meant or len({len(each.get("shape", ())) for each in pair}) == 1:
        return ""
    while len(users := [*graph.successors(key)]) == 1 and node.get("op") not in _REDUCING:
        key, node = users[0], nodes[users[0]]
        if node.get("op") not in (*_ELEMENTWISE, *_REDUCING):
            return ""
    return key if node.get("op") in _REDUCING and node.get("shape") == () else ""


# What a loss is given.


class _Expected(NamedTuple):
    """Values that a loss does not expect, by the operations that return them."""

    given: tuple[str, ...]  # the operations
    what: str  # their results: ``"probabilities"``
    expects: str  # what the loss expects
    fix: str  # with ``{given}`` for the operation


class _Misuse(NamedTuple):
    """A loss, the operation whose result it is given, and the rest of the sentence."""

    loss: str
    given: str
    expected: _Expected


_SOFTMAX, _SIGMOID, _LOG_SOFTMAX = ("softmax",), ("sigmoid",), ("log_softmax",)
_LAYERS = ("addmm", "mm", "bmm", "linear", "conv")
_SCALES = ("mul", "div")
_LOGITS = "give it the logits, without {given}"
_LOG = "log-probabilities"
_GIVEN = "{op}{at} expects {expects}, and is given the {given}"
_OF_LOGITS = (
    _Expected(_SOFTMAX, "probabilities", "logits", f"{_LOGITS}; or use nll_loss of log_softmax"),
)
_OF_CLASSES = (
    *_OF_LOGITS,
    _Expected(_SIGMOID, "probabilities", "logits", f"{_LOGITS}; or use binary_cross_entropy"),
)
_NLL = (
    _Expected(_SOFTMAX, "probabilities", _LOG, "use log_softmax instead of softmax"),
    _Expected(_LAYERS, "logits", _LOG, "use cross_entropy, which takes logits; or log_softmax"),
)
_KL = (
    _NLL[0],
    _Expected(_LAYERS, "logits", _LOG, "give it log_softmax of them"),
)
_TARGET, _LOG_TARGET = (
    _Expected(_LOG_SOFTMAX, _LOG, "probabilities as its target", "pass log_target=True to it"),
    _Expected(_SOFTMAX, "probabilities", f"{_LOG} as its target", "leave out log_target=True"),
)
_EXPECTED = {
    "log_softmax": _OF_LOGITS,
    "binary_cross_entropy_with_logits": (
        _Expected(_SIGMOID, "probabilities", "logits", f"{_LOGITS}; or use binary_cross_entropy"),
        _Expected(_SOFTMAX, "probabilities", "logits", _LOGITS),
    ),
    **dict.fromkeys(("nll_loss", "nll_loss2d"), _NLL),
}


def _of_nodes(graph: GradGraph) -> Iterator[_Misuse]:
    for key, data in graph.nodes(data=True):
        expected = _EXPECTED.get(data.get("op", ""), ())
        if expected is _OF_LOGITS and _is_of_classes(graph, key):
            expected = _OF_CLASSES
        yield from _misuse(graph, key, (key, 0), expected)
        if expected is _NLL:
            yield from _of_another_dimension(graph, key)


def _of_another_dimension(graph: GradGraph, loss: str) -> Iterator[_Misuse]:
    """Of log-probabilities over another dimension than that of the classes, which is 1."""
    given = _operand(graph, loss, 0)
    data: NodeData = graph.nodes[given] if _op(graph, given) == "log_softmax" else {}
    dim, shape = number_of(data.get("options", {}).get("dim")), data.get("shape", ())
    if dim is not None and len(shape) > 1 and dim % len(shape) != 1:
        what, expects = f"{_LOG} over dimension {dim:g}", f"{_LOG} over dimension 1"
        fix = "take log_softmax over dimension 1, that of the classes: dim=1"
        yield _Misuse(loss, given, _Expected(_LOG_SOFTMAX, what, expects, fix))


def _of_divergences(context: Context, graph: GradGraph) -> Iterator[_Misuse]:
    """Of the calls of kl_div, which consists of other operations."""
    events = context.happened(EventKind.OPERATION)
    for key in [key for event in events if event.word == "kl_div" for key in event.nodes]:
        last = key
        while _op(graph, last) in ("div", "sum", "mean"):
            last = _operand(graph, last, 0)
        is_log = _op(graph, last) == "mul"  # target.exp() * (target - input)
        product = last if is_log else _operand(graph, last, 1)  # xlogy(...) - target * input
        if _op(graph, product) == "mul":
            place = (_operand(graph, product, 1), 1) if is_log else (product, 1)
            yield from _misuse(graph, key, place, _KL)
            exp = _operand(graph, product, 0)
            place = (exp, 0) if is_log and _op(graph, exp) == "exp" else (product, 0)
            yield from _misuse(graph, key, place, (_LOG_TARGET if is_log else _TARGET,))


def _misuse(
    graph: GradGraph, loss: str, argument: tuple[str, int], expected: Sequence[_Expected]
) -> Iterator[_Misuse]:
    given = _operand(graph, *argument) if expected else ""
    while _is_same_values(_op(graph, given)):
        given = _operand(graph, given, 0)
    yield from (_Misuse(loss, given, each) for each in expected if _op(graph, given) in each.given)


def _op(graph: GradGraph, key: str) -> str:
    return graph.nodes[key].get("op", "") if key in graph else ""


def _operand(graph: GradGraph, key: str, number: int) -> str:
    inputs = graph.inputs(key) if key in graph else ()
    return next((source for source, edge in inputs if edge.get("input", 0) == number), "")


def _is_same_values(op: str) -> bool:
    is_copy = op == "detach" or (operation(op).converts and op not in _SCALES)
    return is_copy or operation(op).rearranges


def _is_of_classes(graph: GradGraph, key: str) -> bool:
    """Whether a log_softmax is that of a cross entropy, as far as the graph shows it."""
    return any(_op(graph, user).startswith("nll_loss") for _, user in graph.out_edges(key))


def _input(context: Context, question: Question, is_not_finite: bool = False) -> Evidence | None:
    """A loss behind it expects other values than it is given."""
    graph = context.graph_of_latest_pass(question.key) or context.graph
    for each in context.cached(
        (_Misuse, id(graph)), lambda: [*_of_nodes(graph), *_of_divergences(context, graph)]
    ):
        # What is wrong with a target concerns all that the loss is computed from.
        start = each.loss if each.expected in (_TARGET, _LOG_TARGET) else each.given
        behind = context.cached((_input, id(graph), start), partial(ancestors, graph, [start]))
        if question.key in behind and (each.expected is _TARGET or not is_not_finite):
            return _evidence(context, graph, each)
    return None


def _target(context: Context, question: Question) -> Evidence | None:
    """The same, of a target of kl_div whose logarithm is NaN: its loss is NaN."""
    is_not_finite = is_wrong(question.data.get("grad"))
    return None if is_not_finite else _input(context, question, is_not_finite=True)


def _evidence(context: Context, graph: GradGraph, misuse: _Misuse) -> Evidence:
    loss, given, expected = misuse
    lines = [graph.nodes[each].get("source", "") for each in (loss, given)]
    op, by = _op(graph, loss), _op(graph, given)
    called = [event.word for event in context.happened_to(loss, EventKind.OPERATION)]
    # Only the last node that a function created has its event.
    is_inside = context.is_recorded and not called
    op = "cross_entropy" if op == "log_softmax" and is_inside else op.removesuffix("2d")
    op = "kl_div" if "kl_div" in called else op
    makers = [event.word for event in context.happened_to(given, EventKind.OPERATION)]
    by = makers[-1] if makers and by in _LAYERS else by
    words = {"op": op, "at": at_line(lines[0]), "expects": expected.expects}
    words["given"] = f"{expected.what} from {by}{at_line(lines[1])}"
    words["fix"] = expected.fix.format(given=by)
    return Evidence(words, (loss, given), locations_of(lines), given)


# Normalized values.


def only_squares(graph: GradGraph, key: str) -> bool | None:
    """Whether the squares of a result are summed, or it itself; None when it is used otherwise."""
    stack, squares = [(key, False, False)], False
    while stack:
        source, is_squared, is_summed = stack.pop()
        for _, target, edge in graph.out_edges(source, data=True):
            data: NodeData = graph.nodes[target]
            op, options = data.get("op", ""), data.get("options", {})
            is_square = op == "square" or (op == "pow" and options.get("exponent") in ("2", "2.0"))
            if data["kind"] is NodeKind.RESULT and math.prod(data.get("shape", (2,))) == 1:
                continue
            # The square of a sum, or of a difference from a target, depends on the input.
            if edge["kind"] is not EdgeKind.GRADIENT or (is_square and (is_squared or is_summed)):
                return None
            if not (is_square or is_sum(op, options)):
                return None
            squares = squares or is_square
            is_total = is_summed or not (is_square or keeps_each(op, options))
            stack.append((target, is_squared or is_square, is_total))
    return squares


_PASSES_ON = frozenset(("add", "sub", "rsub", "neg", "sum", "mean", "clone", "to"))


def is_only_added(graph: GradGraph, key: str, end: str) -> bool:
    """Whether no derivative between a leaf and a node depends on the leaf, as on a bias."""
    between = ancestors(graph, [end])
    stack, seen = [key], {key}
    while stack:
        source = stack.pop()
        for _, target, edge in graph.out_edges(source, data=True):
            if target not in between or target in seen or edge["kind"] is not EdgeKind.GRADIENT:
                continue
            if not _is_added(graph, target, edge.get("input", 0)):
                return False
            seen.add(target)
            stack.append(target)
    return end in seen


def _is_added(graph: GradGraph, key: str, number: int) -> bool:
    """Whether the derivative of an operation in an input does not depend on that input."""
    data: NodeData = graph.nodes[key]
    row = operation(op := data.get("op", ""))
    if data["kind"] is not NodeKind.OPERATION or op in _PASSES_ON or row.rearranges:
        return True
    return row.factors is not None and number not in row.factors


class Block(NamedTuple):
    """An operation that passes no gradient to one of its inputs."""

    key: str
    why: str
    fix: str
    is_consequence: bool = False  # whether it blocks because of zeros that were computed before
    zeros: str = ""  # the key of the tensor whose values, all zeros, are the cause


def only_summed(step: Step) -> Block | None:
    """Normalized values that are only summed; the sum is the same for every input."""
    if step.target not in step.values.only_summed:
        return None
    if step.values.is_of_one(step.target):
        why = "it normalizes over one element, so that its result is the same for every input"
        return Block(step.target, why, "normalize over several elements, or leave it out")
    why = "its results are only summed, and their sum is the same for every input"
    fix = "compare its results with a target, or weigh them: a plain sum or mean of normalized "
    return Block(step.target, why, f"{fix}values is a constant")


def one_entry(step: Step) -> Block | None:
    """A softmax, or exp of log_softmax, over one entry, or whose results are only summed."""
    dim, shape = number_of(step.options.get("dim")), step.data.get("shape", ())
    if dim is None or not -len(shape) <= dim < len(shape) or shape[int(dim)] != 1:
        return None if step.op == "log_softmax" else only_summed(step)
    why = f"it is taken over dimension {int(dim)}, which has one entry: its result is "
    why += "0 for every input" if step.op == "log_softmax" else "1 for every input"
    fix = "for one output use a sigmoid (binary_cross_entropy_with_logits); for classes or weights "
    fix += "take it over their dimension, and have more than one"
    is_attention = step.data.get("grad_fn", "").startswith("SafeSoftmax")
    return Block(step.target, why, MORE_KEYS if is_attention else fix)


def smaller_elsewhere(step: Step) -> Block | None:
    """A minimum or maximum that always selects the other input."""
    given, other = step.given, step.input(1 - step.number)
    if given is None or other is None or given.nan or other.nan:
        return None
    is_least = step.op in ("minimum", "fmin")
    above, below = (given, other) if is_least else (other, given)
    low, high = smallest(above), largest(below)
    is_never = low is not None and high is not None and low > high
    than = "larger" if is_least else "smaller"
    why = f"this input is {than} than the other one at every element"
    return Block(step.target, why, INSIDE) if is_never else None


def no_label(step: Step) -> Block | None:
    """A loss over labels that are all ignored; one of each sample has no total weight."""
    weight = step.values.saved(step.target, "total_weight")
    is_reduced = step.options.get("reduction") != "none"
    if is_reduced and weight is not None and is_all_zero(weight):
        ignored = step.options.get("ignore_index", "-100")
        why = f"no label counts: every one is ignore_index ({ignored}) or has weight 0"
        return Block(step.target, why, "check the labels: at least one in a batch must count")
    is_before = step.given is not None and is_all_zero(step.given)  # a softmax of one entry
    return None if is_before else no_loss(step)


def no_loss(step: Step) -> Block | None:
    """A loss of exactly 0, where its slope is 0."""
    why, made = "its result is exactly 0, where its slope is 0", step.made
    if made is None or not made.numel or not is_all_zero(made):
        return None
    fix = "check whether the target was computed from the prediction, and the scale of the inputs"
    return Block(step.target, why, fix)


LOGS = ("log", "log2", "log10")
_AT_ONCE_BY = "compute it at once by torch.{}(), which does not overflow"


def _adds_one(data: NodeData) -> bool:
    """Whether the line of an operation adds the number 1."""
    lines = locations_of([data.get("source", "")])
    sums = (each for line in lines for each in nodes_in(statement_at(line), ast.BinOp))
    pairs = ((each.left, each.right) for each in sums if isinstance(each.op, ast.Add))
    return any(getattr(each, "value", 0) == 1 for pair in pairs for each in pair)


def fix_of_exp(graph: GradGraph, key: str) -> str:
    """The function of torch that computes what an exponential is the first part of; "" for none."""
    if graph.nodes[key].get("op") != "exp":
        return ""
    users = [(each, graph.nodes[each].get("op", "")) for each in graph.successors(key)]
    after = {(op, graph.nodes[e].get("op", "")) for user, op in users for e in graph[user]}
    adds = [user for user, op in users if op == "add" and _adds_one(graph.nodes[user])]
    logs = {graph.nodes[each].get("op") for user in adds for each in graph[user]}
    if logs.intersection(LOGS) or any(op == "log1p" for _, op in users):
        return _AT_ONCE_BY.format("nn.functional.softplus")
    if after & {("sum", op) for op in LOGS}:
        return _AT_ONCE_BY.format("logsumexp")
    return _AT_ONCE_BY.format("softmax") if ("sum", "div") in after else ""


class _Constant(NamedTuple):
    """A normalization without weight, and the nodes that reach the roots only through it."""

    norm: str
    behind: set[str]


def _constants(graph: GradGraph, roots: Sequence[str]) -> list[_Constant]:
    """The normalizations of which only the squares are summed: the mean of these is nearly 1."""
    found = [
        key
        for key, data in graph.nodes(data=True)
        if data.get("op") in ("layer_norm", "group_norm", "batch_norm")
        and "training" not in data.get("options", {})  # False: of a batch_norm in evaluation
        and all(edge.get("input", 0) == 0 for _, edge in graph.inputs(key))
        and only_squares(graph, key)
    ]

    def is_beside(source: str, target: str, edge: EdgeData) -> bool:
        return source not in found and is_gradient(source, target, edge)

    rest = ancestors(graph, roots, is_beside) if found else set[str]()
    return [_Constant(key, ancestors(graph, [key]) - rest) for key in found]


def _constant(context: Context, question: Question) -> Evidence | None:
    """It reaches the roots only through squares of normalized values that are summed."""
    graph = context.graph
    found = context.cached((_constant, id(graph)), lambda: _constants(graph, context.roots))
    for norm, behind in found:
        if question.key in behind:
            data = graph.nodes[norm]
            line = data.get("source", "")
            words = {"op": data["op"], "at": at_line(line), "root": context.root_names}
            return Evidence(words, (norm,), locations_of([line]), norm)
    return None


loss_rules: tuple[Rule[Any, Any], ...] = (
    Rule(
        "a loss of two shapes",
        Verdict.BROADCAST,
        _broadcast,
        "{op}{at} {does} each value of one argument, of shape {first}, with every one of the "
        "other, of shape {second}: both are broadcast to {both}",
        "give both the same shape: {how}",
        docs="Of arguments of as many elements; in a recording also of an error made by hand.",
    ),
    Rule(
        "a loss is given other values",
        Verdict.LOSS_INPUT,
        _input,
        _GIVEN,
        docs="Of cross_entropy, nll_loss, binary_cross_entropy_with_logits and, in a recording, "
        "kl_div, directly behind a softmax, a sigmoid or a layer.",
    ),
    Rule(
        "the squares of normalized values",
        Verdict.VANISHING,
        _constant,
        "only the sum of the squares of the results of {op}{at} goes into {root}: without a weight "
        "it is nearly the same for every input",
        COMPARE,
        docs="Of layer_norm, group_norm and batch_norm without weight and bias.",
    ),
)

target_of_kl_div: Rule[Any, Any] = Rule(
    "kl_div of a target of log-probabilities",
    Verdict.LOSS_INPUT,
    _target,
    _GIVEN,
    events=(EventKind.OPERATION,),
)


# A change of which backward raises no error: through ``.data``, or by torch.distributed.


def _changed_through_an_alias(context: Context, question: Question) -> Evidence | None:
    """The latest pass computed its gradient with values that were written after their use."""
    graph, key = context.before, question.key
    added = context.happened_to(key, EventKind.ACCUMULATE)
    if graph is None or key not in graph or not added or not context.passes:
        return None
    last, details = context.passes[-1].number, context.passes[-1].details
    name = "writes past autograd"
    rows = context.cached(name, lambda: _writes_past_autograd(context, graph, last))
    if not rows or added[-1].number < last or not isinstance(details, BackwardDetails):
        return None
    path = descendants(graph, [key]) & ancestors(graph, details.roots)
    for event, written_to, user in rows:
        if user in _savers_of(graph, written_to, path):
            return _of_alias(graph, event, written_to, user)
    return None


def _writes_past_autograd(
    context: Context, graph: GradGraph, last: int
) -> list[tuple[Event, str, str]]:
    """The changes in place before a pass of what an operation had saved before, the latest first.

    Returns:
        The event, what was changed, and the operation.
    """
    rows, found = graph.nodes(data=True), list[tuple[Event, str, str]]()
    keys = {key for key, data in rows if data.get("stale") or data["kind"] in _KEPT}
    every = {*graph}
    for event in reversed(context.happened(EventKind.IN_PLACE)):
        if event.number < last and event.action is not Action.DATA_REPLACED:
            for key in keys.intersection(event.nodes):
                for user in _savers_of(graph, key, every):
                    made = context.happened_to(user, EventKind.OPERATION)
                    if made and made[-1].number < event.number:
                        found.append((event, key, user))
    return found


_KEPT = (NodeKind.OPERATION, NodeKind.UNTRACKED)


def _savers_of(graph: GradGraph, key: str, path: set[str]) -> list[str]:
    """The operations on a path that saved a tensor, and whose gradient depends on its values."""
    if key not in graph or graph.nodes[key]["kind"] not in _KEPT:
        return _products_with(graph, key, path)
    kept = (each.argument for each in graph.nodes[key].get("saved", ()))
    own = [key] if key in path and any(each.startswith("result") for each in kept) else []
    found = set()
    for _, user, edge in graph.out_edges(key, data=True):
        data = graph.nodes[user]
        row, saved = operation(data.get("op", "")), {each.input for each in data.get("saved", ())}
        is_product = row.factors or row.blocks is Blocks.OTHER_FACTOR
        others = {source for source, _ in graph.inputs(user)} & path - {key}
        if user in path and edge.get("input", 0) in saved and (others or not is_product):
            found.add(user)
    return [*own, *sorted(found, key=lambda each: int(each[1:]))]


def _products_with(graph: GradGraph, leaf: str, path: set[str]) -> list[str]:
    """The products on a path that saved a leaf as one factor, and get the other from the path."""
    storage = graph.nodes[leaf].get("storage") if leaf in graph else None
    found = []
    for user in path if storage is not None else ():
        row = operation(graph.nodes[user].get("op", ""))
        factors = {*(row.factors or ((0, 1) if row.blocks is Blocks.OTHER_FACTOR else ()))}
        kept = graph.nodes[user].get("saved", ())
        saved = {each.input for each in kept if each.storage == storage}
        own = {edge.get("input", 0) for source, edge in graph.inputs(user) if source in path}
        if saved & factors and factors & own - saved:
            found.append(user)
    return sorted(found, key=lambda key: int(key[1:]))


def _of_alias(graph: GradGraph, event: Event, key: str, user: str) -> Evidence:
    data, maker = graph.nodes[key], graph.nodes[user]
    is_made, line = data["kind"] is NodeKind.OPERATION, maker.get("source", "")
    name = data.get("name") or (f"the result of {word_of(data)}" if is_made else "a tensor")
    fix = f"{'compute a new tensor instead, or ' * is_made}write into {name} after backward()"
    words = {"what": f"{event.word} at {mention(event.location)}", "name": name, "fix": fix}
    words["user"] = f"{maker.get('op', 'an operation')}{at_line(line)}"
    return Evidence(words, (key, user), (event.location, *locations_of([line])))


changed_through_an_alias: Rule[Any, Any] = Rule(
    "a leaf or result was changed after its use, through an alias",
    Verdict.CHANGED_UNSEEN,
    _changed_through_an_alias,
    "{what} wrote into {name} through an alias, after {user} saved it: autograd does not "
    "notice that, and this gradient was computed with the values after it",
    events=(EventKind.IN_PLACE,),
    docs="x.data shares the memory of x and has a version counter of its own.",
)
