"""Rules about the size of a gradient, and about samples without one that a layer is given."""

from __future__ import annotations

import math
from bisect import bisect
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from gradviz.diagnosis.answers import Explanation, Group, Verdict
from gradviz.diagnosis.context import MADE, Context, Question
from gradviz.diagnosis.cuts import CutFacts
from gradviz.diagnosis.lines import at_line, called_on, code_of, locations_of, mention
from gradviz.diagnosis.losses import COMPARE, only_squares
from gradviz.diagnosis.non_finite import grown
from gradviz.diagnosis.rule import Evidence, OtherSubject, Rule, answers_about
from gradviz.diagnosis.training import CLEARS, is_unscaled, scale_of
from gradviz.diagnosis.values import (
    ADDS,
    Owner,
    Values,
    is_all_zero,
    largest,
    owners_of,
    smallest,
)
from gradviz.facts import BackwardDetails, CutEdge, EventKind, FrameKind, GradientDetails
from gradviz.graph import (
    EdgeData,
    GradGraph,
    NodeKind,
    TensorSummary,
    ancestors,
    descendants,
    is_gradient,
    leaf_of_node,
    leaf_uses,
)
from gradviz.graph.operations import operation
from gradviz.graph.text import joined, number_text
from gradviz.story import Event

_STEEP = 1e5  # a norm for which divisions by numbers near 0 are looked for
_DIVIDED, _NEAR_0 = 1e-3, 1e-6  # a gradient from before the division; a number to divide by
_MOST = 20  # divisions
_ROUNDED = {"float32": 1e-5, "float64": 1e-13}  # of the largest part, the rest is rounding errors
_MEANT = "nothing, if that is meant, as for the bias of a critic that is called with both signs"
_OF_ITSELF = "the result is 0, since what it compares is equal: compare with the result of another "
_OF_ITSELF += "model, such as a copy made before training: copy.deepcopy(model)"
_ONE_TRAINS = "if only some of the uses are to train it, detach() the results of the others"
_SMALLER = 1e4  # small models of speech, freshly made, have a ratio of 5,000
_LARGER = 1e3
_SCALES_DOWN = 0.01  # a parameter of smaller values makes what it multiplies small by design
_FEW = 8  # values of a channel, of which a batch norm takes the mean and the variance
_LARGE = 100.0  # a smaller gradient is not exploding, even if the one at the root is tiny
_HUGE = 1e10  # above what the scale of a GradScaler, 65,536 at first, gives a usual gradient


@dataclass(frozen=True)
class Scale:
    """The gradients of a module compared with those of the module next to the root."""

    is_large: bool  # whether they are much larger, otherwise much smaller
    last: str  # name of the parameter for the comparison
    key: str  # of that parameter
    steepest: tuple[str, str]  # the two neighbors between which the norm changes most
    ratio: float  # of the largest gradient so far and that one


def overwrites(line: str) -> bool:
    """Whether a line writes values into a tensor that are not computed from the ones there."""
    changes = {each for each in called_on(line) if each.endswith("_")}
    is_update = any(f"{sign}= " in code_of(line) for sign in "+-*/@%&|^")
    return changes <= {"copy_", "fill_", "zero_"} and not is_update


def _scales(context: Context) -> dict[str, Scale]:
    """`_scales_of`, found once."""
    return context.cached(_scales, lambda: _scales_of(context))


def _scales_of(context: Context) -> dict[str, Scale]:
    """Extreme gradients compared with those of the modules next to the root, by keys of leaves.

    A gradient is vanishing only if those of all modules before it in the forward pass are equally
    small: the bias before a normalization, or the key bias of an attention, is near 0 by design.
    Therefore the largest gradient represents a module, and the larger of the last two the end.
    """
    scales, nodes = _scaled_by(context), context.graph.nodes
    rows = sorted(owners_of(context.graph, scales), key=lambda owner: owner.order)
    found: dict[str, Scale] = {}
    nearest = rows[-2:] if len(rows) > 2 else rows[-1:]
    largest_so_far, last = 0.0, max(nearest, key=lambda row: row.norm, default=None)
    for row in rows:
        if row is last or last is None:
            break
        largest_so_far = max(largest_so_far, row.norm)
        is_small = largest_so_far * _SMALLER < last.norm
        limit = max(_LARGER * last.norm, _LARGE)
        large = [key for key in row.keys if nodes[key]["grad"].norm > limit * scales[key]]
        if is_small or large:
            ratio = largest_so_far / last.norm
            scale = Scale(bool(large), last.name, last.key, _steepest(rows), ratio)
            found.update(dict.fromkeys(large or row.keys, scale))
    return found


def _steepest(rows: Sequence[Owner]) -> tuple[str, str]:
    """The parameters of the two neighbors between which the norm changes most."""
    one, other = max(pairwise(rows), key=lambda pair: abs(math.log(pair[1].norm / pair[0].norm)))
    return one.name, other.name


def with_factors(context: Context, leaves: Iterable[tuple[str, Any]]) -> Context:
    """Read the parameters that scale the results of others, if some gradients seem to vanish.

    Residual branches that start with a factor of 1e-4 or less have small gradients by design:
    LayerScale, https://arxiv.org/abs/2103.17239.

    Args:
        context: the graph; other contexts are not changed.
        leaves: tensors, by their keys.
    """
    if all(each.is_large for each in _scales(context).values()):
        return context
    from gradviz.capture.tensors.summary import summarize

    graph, gated, sizes = context.graph, set[tuple[str, str]](), list[float]()
    products = [(_products(graph, key), tensor) for key, tensor in leaves if key in graph]
    used = [(found, tensor) for found, tensor in products if found]
    for (found, _), value in zip(used, summarize([tensor for _, tensor in used]), strict=True):
        ends = [abs(end) for end in (smallest(value), largest(value)) if end is not None]
        if 0 < (size := max(ends, default=0.0)) < _SCALES_DOWN:
            gated |= found
            sizes.append(size)

    def is_open(source: str, target: str, edge: EdgeData) -> bool:
        return is_gradient(source, target, edge) and (source, target) not in gated

    reached = ancestors(graph, context.roots, is_open) if sizes else graph.leaves
    behind = (key for key in graph.leaves if key not in reached)
    return replace(context, factors=dict.fromkeys(behind, min(sizes, default=1.0)))


def _products(graph: GradGraph, key: str) -> set[tuple[str, str]]:
    """The edges along which other tensors are multiplied with a leaf, or a view of it."""
    own, stack, users = {key}, [key], set[str]()
    while stack:
        for _, user in graph.out_edges(stack.pop()):
            data = graph.nodes[user]
            is_view = operation(data.get("op", "")).rearranges
            if data.get("op") == "mul":
                users.add(user)
            elif user not in own and (is_view or data["kind"] is NodeKind.ACCUMULATE):
                own.add(user)
                stack.append(user)
    return {edge for user in users for edge in graph.in_edges(user) if edge[0] not in own}


def has_large(context: Context) -> bool:
    """Whether some gradients are much larger than those next to the root."""
    return any(each.is_large for each in _scales(context).values())


def _scaled_by(context: Context) -> dict[str, float]:
    """By how much GradScaler scaled the gradients of leaves, where that is known; 1 otherwise."""
    leaves = context.graph.leaves
    unscaled = {key for key in leaves if is_unscaled(context, key)}
    scales = {key: scale_of(context, key) for key in leaves}
    known = (key for key in leaves if scales[key] is not None or not unscaled or key in unscaled)
    return {key: scales[key] or 1.0 for key in known}


def _far(context: Context, question: Question, is_large: bool) -> Evidence | None:
    scale = _scales(context).get(question.key)
    if scale is None or scale.is_large is not is_large or _is_input(context, question):
        return None
    if not is_large and scale.ratio * _SMALLER > context.factors.get(question.key, 1.0):
        return None
    words = {"ratio": f"{_LARGER if is_large else _SMALLER:,.0f}", "fix": _fix_of_large(context)}
    words |= {"last": scale.last, "between": " and ".join(scale.steepest)}
    return Evidence(words, (scale.key,))


def _is_input(context: Context, question: Question) -> bool:
    """Whether it is data that requires grad, beside parameters: it has a size of its own."""
    if question.kind is NodeKind.PARAMETER or question.key in context.held:
        return False
    nodes = context.graph.nodes
    return any(nodes[key]["kind"] is NodeKind.PARAMETER for key in context.graph.leaves)


_WAY = ("accumulate_grad", "slice", "select", "clone")
_BESIDE = frozenset(("cat", "stack", "add", "dropout"))  # in rows of their own, or added as zeros


def _of_equal_rows(context: Context, question: Question) -> Evidence | None:
    """A large gradient of zeros that a normalization divides by a standard deviation of 0."""
    scale, values = _scales(context).get(question.key), context.values_of_pass(question)
    if scale is None or not scale.is_large or values is None or question.key not in values.zeros:
        return None
    graph, nodes, stack, seen = values.graph, values.graph.nodes, [question.key], {question.key}
    while stack:
        for _, user, edge in graph.out_edges(stack.pop(), data=True):
            op = nodes[user].get("op", "")
            if operation(op).normalizes and edge.get("input", 0) == 0:
                words = {"op": op, "last": scale.last}
                words["where"] = at_line(line := nodes[user].get("source", ""))
                return Evidence(words, (user,), locations_of([line]), user)
            is_way = op in _BESIDE and (op != "add" or _adds_zeros(values, user, seen))
            if user not in seen and (is_way or operation(op).rearranges or op in _WAY):
                seen.add(user)
                stack.append(user)
    return None


def _adds_zeros(values: Values, key: str, seen: set[str]) -> bool:
    """Whether what is added to one of some nodes is zeros, or is joined from some that are."""
    for number in (0, 1):
        other = values.source_of(key, number)
        is_joined = values.graph.nodes[other].get("op") in ("cat", "stack") if other else False
        parts = values.graph.predecessors(other) if is_joined else ()
        if other and other not in seen and values.zeros.isdisjoint((other, *parts)):
            return False
    return True


def _huge(context: Context, question: Question) -> Evidence | None:
    """A gradient of a parameter that is huge by itself, as are those beside it."""
    grad, is_parameter = question.data.get("grad"), question.kind is NodeKind.PARAMETER
    if grad is None or not is_parameter or question.data.get("dtype") == "float64":
        return None
    if not grad.is_finite or grad.norm is None or grad.norm <= _HUGE:
        return None
    return Evidence({"norm": number_text(grad.norm), "fix": _fix_of_large(context)})


def _fix_of_large(context: Context) -> str:
    """What to do about all large gradients of a graph, found once."""
    return context.cached(_fix_of_large, lambda: _fix_by_size(context.graph))


def _fix_by_size(graph: GradGraph) -> str:
    """Clipping sets all gradients to 0 if their total norm overflows."""
    for data in graph._node.values():
        shape = data.get("shape", ()) if data.get("op") == "batch_norm" else ()
        count = math.prod(shape[:1] + shape[2:]) if shape else 0
        if 0 < count <= _FEW:
            more = f"in training, batch_norm{at_line(data.get('source', ''))} has {count} values"
            return f"use a larger batch: {more} for each channel"
    for key in graph.leaves:
        data = graph.nodes[key]
        grad, dtype = data.get("grad"), data.get("dtype")
        most = {"float16": 6e4, "float64": math.inf}.get(dtype, 1e18)
        if grad is not None and grad.is_finite and (grad.norm or 0) > most:
            return (
                "lower the initial values or the learning rate; clip_grad_norm_ would set the "
                f"gradients to 0, as their norm overflows in {dtype}"
            )
    return "clip it: torch.nn.utils.clip_grad_norm_(parameters, 1.0)"


def _behind_a_norm(context: Context, question: Question, is_squared: bool) -> Evidence | None:
    """Only the sum of normalized values, or of their squares, is used: it is nearly a constant."""
    scale = _scales(context).get(question.key)
    if scale is None or scale.is_large:
        return None
    graph, nodes = context.graph, context.graph.nodes
    norms = [
        target
        for target, edge in leaf_uses(graph, scale.key)
        if operation(nodes[target].get("op", "")).normalizes and edge.get("input", 0) > 0
    ]
    if len(norms) != 1 or only_squares(graph, norms[0]) is not is_squared:
        return None
    key = norms[0]
    op, line = nodes[key].get("op"), nodes[key].get("source", "")
    words = {"op": op, "where": at_line(line), "root": context.root_names, "last": scale.last}
    return Evidence(words, (key,), locations_of([line]), key)


_BEHIND = (
    "which is nearly the same for every input: the gradient of {last}, its own parameter, is of "
    "normal size"
)
_FAR = "the norm of its gradient is over {ratio} times {than} than that of {last}; it changes most "
_FAR += "between {between}"


def uses_that_cancel(context: Context, key: str, is_exact: bool = True) -> list[tuple[str, int]]:
    """The uses of a leaf, with the input, if their gradients are not zero and add up to zero.

    Otherwise, unless ``is_exact``, if in the first pass and in the last one their sum is 0 but for
    rounding errors: near an optimum, gradients cancel in the last one.
    """
    added = context.happened_to(key, EventKind.ACCUMULATE)
    by_pass = {getattr(event.details, "pass_number", 0): event for event in added}
    frame = context.frame_of_latest_pass(key) if added else None
    last = by_pass[frame.pass_number] if frame is not None else None
    found = _cancelling(context, key, last, frame.graph, is_exact) if frame and last else []
    if is_exact or not found:
        return found
    number = getattr(added[0].details, "pass_number", 0)
    first = next((each.graph for each in context.frames if each.pass_number == number), None)
    return found if first is not None and _cancelling(context, key, added[0], first) else []


def _cancelling(
    context: Context, key: str, added: Event, graph: GradGraph, is_exact: bool = False
) -> list[tuple[str, int]]:
    last = added.details
    if not isinstance(last, GradientDetails) or last.before is not None or last.after is None:
        return []
    event = context.pass_of.get(last.pass_number)
    details = event.details if event is not None else None
    if not isinstance(details, BackwardDetails) or not details.shares or key not in graph:
        return []
    norms = context.cached(
        ("shares", last.pass_number),
        lambda: {(each.node, each.input): each.norm for each in details.shares},
    )
    uses = dict.fromkeys((user, edge.get("input", 0)) for user, edge in leaf_uses(graph, key))
    found = {use: norm for use in uses if (norm := norms.get(use, 0.0)) > 0}
    rounding = _ROUNDED.get(last.after.dtype, 0.0) * max(found.values(), default=0.0)
    if math.isinf(rounding):  # a norm that overflowed compares with nothing
        return []
    is_zero = is_all_zero(last.after) or (not is_exact and (last.after.norm or rounding) < rounding)
    return [*found] if is_zero and len(found) > 1 else []


def all_cancel(context: Context, have_several: bool = False) -> bool:
    """Whether the uses of every leaf that has several cancel; and whether each leaf has several."""
    graph = context.graph
    counts = context.cached("uses", lambda: {e: len(leaf_uses(graph, e)) for e in graph.leaves})
    is_each = not have_several or min(counts.values(), default=2) > 1
    several = (key for key, count in counts.items() if count > 1)
    found = (uses_that_cancel(context, key, False) for key in several)
    return is_each and context.cached(all_cancel, lambda: all(found))


def _uses_cancel(context: Context, question: Question) -> Evidence | None:
    is_exact = question.has_zero_gradient
    uses = uses_that_cancel(context, question.key, is_exact)
    if not uses or (graph := context.graph_of_latest_pass(question.key)) is None:
        return None
    is_added = all(at in ADDS.get(graph.nodes[each].get("op", ""), ()) for each, at in uses)
    if is_added and not is_exact and not all_cancel(context):
        return None  # as the bias of a critic
    lines = locations_of(graph.nodes[each].get("source", "") for each, _ in uses)
    where = f" at {joined([mention(each) for each in lines])}" if lines else ""
    words: dict[str, object] = {"count": len(uses), "where": where}
    is_meant = is_added and is_exact and not all_cancel(context, have_several=True)
    words["fix"] = _MEANT if is_meant else _ONE_TRAINS
    results = [graph.nodes[root].get("value") for root in graph.roots]
    if not is_meant and all(each is not None and is_all_zero(each) for each in results):
        words["fix"] = _OF_ITSELF  # and detach() would leave it at its smallest value
    words["but"] = "" if is_exact else ", but for rounding errors"
    return Evidence(words, tuple(each for each, _ in uses), lines)


def is_steep(grad: TensorSummary | None) -> bool:
    """Whether a gradient is so large that a division by a number near 0 may be the cause."""
    return grad is not None and grad.is_finite and (grad.norm or 0.0) > _STEEP


def _divided(context: Context, question: Question) -> Evidence | None:
    """A large gradient behind a division by numbers near 0, as of the norm of zeros and its eps."""
    grad, values = question.data.get("grad"), context.values_of_pass(question)
    if not is_steep(grad) or values is None or question.kind is not NodeKind.PARAMETER:
        return None
    norm = (getattr(grad, "norm", 0) or 0) / (scale_of(context, question.key) or 1.0)
    rows = context.cached(("divisions", id(values)), lambda: _divisions(values))
    for key, divisor, before in rows:
        if norm > max(_STEEP, _DIVIDED / divisor) and question.key in before:
            line = values.graph.nodes[key].get("source", "")
            words = {"norm": number_text(norm), "divisor": f"{divisor:.4g}"}
            words["where"] = at_line(line)
            return Evidence(words, (key,), locations_of([line]), key)
    return None


def _divisions(values: Values) -> list[tuple[str, float, set[str]]]:
    """The divisions by numbers near 0, with the smallest one, and all that is before them."""
    found = list[tuple[str, float, set[str]]]()
    for key in (key for key, data in values.graph.nodes.items() if data.get("op") == "div"):
        divisor, source = values.input_of(key, 1), values.source_of(key, 0)
        least = smallest(divisor) if divisor is not None and source else None
        if least is not None and 0 < least < _NEAR_0 and len(found) < _MOST:
            found.append((key, least, ancestors(values.graph, [source])))
    return found


divided: Rule[Any, Any] = Rule(
    "behind a division by numbers near 0",
    Verdict.EXPLODING,
    _divided,
    "the norm of its gradient is {norm}: the division{where} divides by {divisor}, and the "
    "gradient is divided by it as well",
    "keep what it divides by away from 0: other initial values, or a larger eps",
    docs="Over 1e5, behind a divisor under 1e-6, as of a cosine or a norm of zeros.",
)


uses_cancel: Rule[Any, Any] = Rule(
    "the gradients of its uses cancel",
    Verdict.ZERO,
    _uses_cancel,
    "the gradients of its {count} uses{where} are not zero, and their sum is{but}",
    events=(EventKind.BACKWARD,),
    docs="A recording looks at what each use of a leaf adds to its gradient.",
)

scale_rules: tuple[Rule[Any, Any], ...] = (
    Rule(
        "only the sum of normalized values is used",
        Verdict.ZERO,
        lambda context, question: _behind_a_norm(context, question, False),
        "its gradient is 0 but for rounding errors: of the results of {op}{where} only the sum "
        "goes into {root}, " + _BEHIND,
        COMPARE,
    ),
    Rule(
        "only the squares of normalized values are used",
        Verdict.VANISHING,
        lambda context, question: _behind_a_norm(context, question, True),
        "its gradient is nearly 0: of the results of {op}{where} only the sum of squares goes into "
        "{root}, " + _BEHIND,
        COMPARE,
    ),
    Rule(
        "zeros before a normalization",
        Verdict.EXPLODING,
        _of_equal_rows,
        "the norm of its gradient is over 1,000 times larger than that of {last}: it is zeros, and "
        "{op}{where} divides the gradient of rows of zeros by their standard deviation, 0 but for "
        "eps",
        "start at small random values; or, as its first step ends that, clip that step: "
        "torch.nn.utils.clip_grad_norm_(parameters, 1.0)",
        docs="As of a class token of zeros in a new vision transformer.",
    ),
    Rule(
        "much larger than at the root",
        Verdict.EXPLODING,
        lambda context, question: _far(context, question, True),
        _FAR.replace("{than}", "larger"),
        docs="For several parameters, the largest gradients of the modules are compared.",
    ),
    divided,
    grown,
    Rule(
        "larger than any usual gradient",
        Verdict.EXPLODING,
        _huge,
        "the norm of its gradient is {norm}",
        docs="Over 1e10, of a parameter that is not float64: those beside it may be as large.",
    ),
    Rule(
        "much smaller than at the root",
        Verdict.VANISHING,
        lambda context, question: _far(context, question, False),
        _FAR.replace("{than}", "smaller"),
        "let the layers between keep the scale: another initialization, normalization, residual "
        "connections",
        docs="Those of everything before it in the forward pass are as small: a single small "
        "gradient, as of a bias before a normalization, is no fault.",
    ),
)


def trained_by(context: Context, event: Event) -> frozenset[str]:
    """The leaves whose gradient from a pass was used by a step; without steps, all of them."""

    def added() -> dict[int, dict[str, int]]:
        found = defaultdict[int, dict[str, int]](dict)
        for each in context.happened(EventKind.ACCUMULATE):
            number = getattr(each.details, "pass_number", 0)
            found[number].update(dict.fromkeys(each.nodes, each.number))
        return found

    number, is_alone = getattr(event.details, "pass_number", 0), not context.steps
    keys = context.cached(trained_by, added).get(number, {})
    return frozenset(key for key in keys if is_alone or _is_used(context, key, keys[key]))


def _is_used(context: Context, key: str, added: int) -> bool:
    """Whether a step used what an event added to a gradient, before it was cleared."""
    if (name := ("uses", key)) not in context.cache:
        history = context.history_of(key)
        ends = (e for e in history if e.kind is EventKind.STEP or e.action in CLEARS)
        context.cache[name] = [(e.number, e.kind is EventKind.STEP) for e in ends]
    ends = context.cache[name]
    at = bisect(ends, (added, True))
    return at < len(ends) and bool(ends[at][1])


# Samples that are given to a layer.


_DRAWS = ("normal", "_sample_dirichlet", "_standard_gamma", "rand", "uniform_", "exponential_")
_WITHOUT_RSAMPLE = ("bernoulli", "binomial", "floor", "multinomial", "poisson")


def samples(context: Context) -> list[Explanation]:
    """An explanation of each sample that a layer is given, where no pass uses its probability."""
    found: dict[str, OtherSubject | None] = {}
    made = [each for kind in MADE for each in context.happened(kind)]
    drawn = {str(each.location) for each in made if each.word in _DRAWS}
    drawn -= {str(each.location) for each in made if each.word in _WITHOUT_RSAMPLE}
    for frame in context.frames if drawn and context.passes else ():
        event = context.pass_of.get(frame.pass_number)
        trained = trained_by(context, event) if event is not None else frozenset()
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
    layer = layer_given(graph, sources, key)
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


def layer_given(graph: GradGraph, sources: set[str], key: str) -> str:
    """The operation with a weight that is given a sample; "" if there is none, or it is healthy.

    A policy gradient computes ``log_prob(sample)`` from the distribution. A sequence draws the next
    sample from a distribution that depends on the one before. Or the layer is also given the mean.
    ``sources`` are the parameters of the distribution.
    """
    values = Values(graph, is_before=False)
    beside = descendants(graph, sources, lambda *edge: edge[1] != key and is_gradient(*edge))
    layers, stack, seen = list[str](), [key], {key}
    while stack:
        for user in set(graph.successors(stack.pop())) - seen:
            seen.add(user)
            inputs = (values.before_views(source) for source, _ in graph.inputs(user))
            ends = [leaf_of_node(graph, each) for each in inputs]
            weights = [e for e in ends if graph.nodes[e]["kind"] is NodeKind.PARAMETER]
            uses = {each for weight in weights for each, _ in leaf_uses(graph, weight)}
            if not {user, *uses}.isdisjoint(beside):
                return ""
            layers += [user] * bool(weights)
            if not weights and math.prod(graph.nodes[user].get("shape", ())) > 1:
                stack.append(user)
    return layers[0] if layers and sources.isdisjoint(descendants(graph, layers)) else ""
