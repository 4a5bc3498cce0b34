"""Rules for a gradient that is there and not what one expects: hooks, age, sums, scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from gradviz.diagnosis.answers import Verdict
from gradviz.diagnosis.context import Context, Question
from gradviz.diagnosis.lines import locations_of, mention
from gradviz.diagnosis.paths import word_of
from gradviz.diagnosis.rule import Evidence, Needs, Rule
from gradviz.diagnosis.training import scale_of
from gradviz.diagnosis.values import is_all_zero, is_sum
from gradviz.facts import (
    Action,
    BackwardDetails,
    EventKind,
    HookDetails,
    SourceLocation,
    StepDetails,
)
from gradviz.graph import EdgeKind, GradGraph, NodeData, NodeKind, TensorSummary
from gradviz.graph.operations import operation
from gradviz.story import Event
from gradviz.wording import gradient_change_text

__all__ = ["hook_on_tensor", "hooks_that_broke_it", "last_rules", "sparse"]

_HOOKED = "BackwardHookFunction"  # stands before and behind a module that has full backward hooks
_REMOVE = "if that is not meant, remove the hook: handle.remove()"
_RATIO = 1e3
_LARGE = 100.0  # a gradient below is not called exploding, however small the one at the root is


def _locations(*events: Event) -> tuple[SourceLocation, ...]:
    return tuple(event.location for event in events)


# Hooks.


def _replaced(context: Context) -> list[tuple[Event, HookDetails]]:
    """The hooks that returned another gradient than they were given."""
    return [
        (event, event.details)
        for event in context.happened(EventKind.HOOK)
        if isinstance(event.details, HookDetails) and event.word == "hook"
    ]


def _hook_on_it(context: Context, question: Question) -> Evidence | None:
    own = [(event, change) for event, change in _replaced(context) if _is_of(event, question)]
    if not own:
        return None
    event, change = own[-1]
    words = {
        "where": f" at {mention(event.location)}" if event.location else "",
        "change": gradient_change_text(change.before, change.after),
        "who": f"the hook {change.function}" if change.function else "a hook",
    }
    return Evidence(words, locations=_locations(event))


def _is_of(event: Event, question: Question) -> bool:
    if event.nodes:
        return question.key in event.nodes
    return bool(event.name) and event.name == question.data.get("name", question.name)


def _hook_made_it_wrong(context: Context, question: Question) -> Evidence | None:
    grad = question.data.get("grad")
    if grad is None or not (grad.nan or grad.inf or is_all_zero(grad)):
        return None
    is_broken = _is_not_finite if grad.nan or grad.inf else is_all_zero
    acted = _acted_on_the_path(context, question, is_wrong=True)
    found = [each for each in acted if each[1].after is not None and is_broken(each[1].after)]
    return _hook_evidence(context, found)


def _is_not_finite(grad: TensorSummary) -> bool:
    return bool(grad.nan or grad.inf)


def _hook_on_the_path(context: Context, question: Question) -> Evidence | None:
    return _hook_evidence(context, _acted_on_the_path(context, question, is_wrong=False))


def _acted_on_the_path(
    context: Context, question: Question, is_wrong: bool
) -> list[tuple[Event, HookDetails, str]]:
    """Hooks of the latest pass that changed the gradient before it came here, with their nodes."""
    replaced = _replaced(context)
    added = context.happened_to(question.key, EventKind.ACCUMULATE)
    if not replaced or not added:
        return []
    end = added[-1].number
    begin = max(
        (e.number for e in context.happened(EventKind.BACKWARD) if e.number < end), default=end
    )
    acted = [each for each in replaced if begin < each[0].number < end]
    path = context.path(question.key) if acted else set()
    found = []
    for event, change in acted if path else ():
        key = next((key for key in event.nodes if key in path), "")
        if not event.nodes:
            key = _node_of_module(event, path, context, is_wrong)
        if key and key != question.key:
            found.append((event, change, key))
    return found


def _node_of_module(event: Event, path: set[str], context: Context, is_wrong: bool) -> str:
    """Where a full backward hook of a module acted; "" if not on this path, or not for sure.

    Torch puts a node before and one behind each such module: what reaches the one before has
    passed the hook. For the module's own parameters that is not sure, unless they lack a gradient.
    """
    graph = context.graph
    hooked: list[str] = [key for key, data in graph.nodes(data=True) if data.get("op") == _HOOKED]
    named = [key for key in hooked if graph.nodes[key].get("module") == event.name]
    before = named or [key for key in hooked if not graph.nodes[key].get("module")]
    inside = [key for key in hooked if key in path]
    if before and set(before) <= path:
        return before[-1]
    return inside[0] if is_wrong and inside else ""


def _hook_evidence(
    context: Context, found: Sequence[tuple[Event, HookDetails, str]]
) -> Evidence | None:
    if not found:
        return None
    event, change, key = found[0]
    data = context.graph.nodes[key]
    words = {
        "by": f" {change.function}" if change.function else "",
        "on": f"module {event.name}" if data.get("op") == _HOOKED else event.name or word_of(data),
        "where": f" at {mention(event.location)}" if event.location else "",
        "change": gradient_change_text(change.before, change.after),
        "more": f"; so did {len(found) - 1} more" if found[1:] else "",
    }
    nodes = tuple(node for _, _, node in found)
    return Evidence(words, nodes, _locations(*(other for other, _, _ in found)), key)


_ON_THE_PATH = (
    "the hook{by} on {on}{where} changed the gradient before it reached the tensor: {change}{more}"
)


# Gradients that are older than the values beside them.

# In-place operations that go on from the old value, as an update by hand does; any other
# overwrites it.
_UPDATES = frozenset(
    ("add_", "sub_", "mul_", "div_", "addcmul_", "addcdiv_", "lerp_", "clamp_", "_foreach_add_")
)


def changed_since(context: Context, question: Question) -> Sequence[Event]:
    """What has changed the values of a leaf since its gradient was last added to."""
    if not (added := context.happened_to(question.key, EventKind.ACCUMULATE)):
        return []
    changes = [
        event
        for event in context.happened_to(question.key, EventKind.STEP)
        if isinstance(event.details, StepDetails)
        and event.details.changed_values != 0
        and event.action is not Action.SKIPPED
    ]
    changes += context.happened_to(question.key, EventKind.IN_PLACE)
    since = added[-1].number
    return sorted(
        (event for event in changes if event.number > since), key=lambda event: event.number
    )


def _change_words(change: Event) -> str:
    word = "the optimizer's step" if change.kind is EventKind.STEP else change.word
    return f"{word} at {mention(change.location, change.inside)}" if change.location else word


def _overwritten(context: Context, question: Question) -> Evidence | None:
    written = [
        event
        for event in changed_since(context, question)
        if event.kind is EventKind.IN_PLACE and event.word not in _UPDATES
    ]
    if not written:
        return None
    added = context.happened_to(question.key, EventKind.ACCUMULATE)[-1]
    words = {"added": mention(added.location), "change": _change_words(written[-1])}
    return Evidence(words, locations=_locations(added, written[-1]))


def _later_pass_without_it(context: Context, question: Question) -> Evidence | None:
    changes = changed_since(context, question)
    if not changes:
        return None
    added = context.happened_to(question.key, EventKind.ACCUMULATE)[-1]
    passes = [
        event
        for event in context.passes
        if event.number > added.number
        and not (isinstance(event.details, BackwardDetails) and event.details.has_failed)
        and not _was_frozen(context, question.key, event.number)
    ]
    if not passes:
        return None
    last = passes[-1]
    words = {
        "added": mention(added.location),
        "change": _change_words(changes[-1]),
        "later": f"backward at {mention(last.location)}" if last.location else "a later backward",
    }
    return Evidence(words, locations=_locations(added, changes[-1], last))


def _was_frozen(context: Context, key: str, number: int) -> bool:
    """Whether requires_grad of a leaf was switched off when an event happened."""
    before = [e for e in context.happened_to(key, EventKind.REQUIRES_GRAD) if e.number < number]
    return bool(before) and before[-1].action is Action.REQUIRES_GRAD_OFF


def _used_again(context: Context, question: Question) -> Evidence | None:
    changes = changed_since(context, question)
    steps = [event for event in changes if event.kind is EventKind.STEP]
    if not steps[1:]:
        return None
    added = context.happened_to(question.key, EventKind.ACCUMULATE)[-1]
    words = {
        "added": mention(added.location),
        "change": _change_words(changes[-1]),
        "times": {2: "second", 3: "third"}.get(len(steps), f"{len(steps)}th"),
    }
    return Evidence(words, locations=_locations(added, changes[-1]))


_STALE = "it comes from backward at {added}, before {change} "


# Sums of several passes, and the scale of a gradient.


def _accumulated(context: Context, question: Question) -> Evidence | None:
    times = question.data.get("accumulations", 0)
    if times <= 1:
        return None
    added = context.happened_to(question.key, EventKind.ACCUMULATE)[-times:]
    lines = list(dict.fromkeys(str(event.location) for event in added))
    words = {"times": times, "where": f" (at {', '.join(lines[-3:])})" if lines else ""}
    return Evidence(words, locations=_locations(*added))


@dataclass(frozen=True)
class Scale:
    """How large the gradients of a module are, against those of the module next to the root.

    Args:
        is_large: over a thousand times larger, or else smaller.
        last: name of the parameter that it is compared with.
        key: of that one.
        steepest: the two neighbours between which the norm changes most.
    """

    is_large: bool
    last: str
    key: str
    steepest: tuple[str, str]


@dataclass
class _Owner:
    """The parameters of one module, as one."""

    order: int
    norm: float
    name: str
    key: str
    keys: list[str]


def _scales(context: Context) -> dict[str, Scale]:
    """How far gradients are from those of the modules next to the root, by the keys of leaves.

    A gradient counts as vanishing only when those of everything before it in the forward pass are
    as small: a bias before a normalisation, or the key bias of an attention, has a gradient near 0
    by design beside others of normal size. For the same reason the largest gradient of a module
    stands for it, and the larger one of the last two modules is what is compared with.
    """
    known: dict[str, Scale] | None = context.cache.get(_scales)
    if known is not None:
        return known
    rows = sorted(_owners(context.graph), key=lambda owner: owner.order)
    found: dict[str, Scale] = {}
    nearest = rows[-2:] if len(rows) > 2 else rows[-1:]
    largest_so_far, last = 0.0, max(nearest, key=lambda row: row.norm, default=None)
    for row in rows:
        if row is last or last is None:
            break
        largest_so_far = max(largest_so_far, row.norm)
        is_small = largest_so_far * _RATIO < last.norm
        is_large = row.norm > max(_RATIO * last.norm, _LARGE)
        if is_small or is_large:
            scale = Scale(is_large, last.name, last.key, _steepest(rows))
            found.update(dict.fromkeys(row.keys, scale))
    context.cache[_scales] = found
    return found


def _owners(graph: GradGraph) -> list[_Owner]:
    """The leaves with a gradient, those of one module as one."""
    owners: dict[str, _Owner] = {}
    for key in graph.leaves:
        data: NodeData = graph.nodes[key]
        grad = data.get("grad")
        if grad is None or not grad.norm or grad.nan or grad.inf:
            continue
        if (order := _order(graph, key)) is None:
            continue
        name = data.get("name") or key
        owner = owners.setdefault(name.rpartition(".")[0] or name, _Owner(order, 0.0, "", "", []))
        owner.order = min(owner.order, order)
        if grad.norm >= owner.norm:
            owner.norm, owner.name, owner.key = grad.norm, name, key
        owner.keys.append(key)
    return list(owners.values())


def _steepest(rows: Sequence[_Owner]) -> tuple[str, str]:
    steps = [
        (abs(math.log(after.norm / before.norm)), before.name, after.name)
        for before, after in pairwise(rows)
    ]
    _, one, other = max(steps, key=lambda step: step[0])
    return one, other


def _order(graph: GradGraph, key: str) -> int | None:
    """When the forward pass first used a leaf."""
    if key not in graph:
        return None
    users = [
        graph.nodes[user].get("sequence_nr", 0)
        for accumulate in graph.successors(key)
        for user in (
            graph.successors(accumulate)
            if graph.nodes[accumulate]["kind"] is NodeKind.ACCUMULATE
            else [accumulate]
        )
    ]
    return min(users, default=None)


def _far(context: Context, question: Question, is_large: bool) -> Evidence | None:
    scale = _scales(context).get(question.key)
    if scale is None or scale.is_large is not is_large:
        return None
    words = {"ratio": f"{_RATIO:,.0f}", "last": scale.last, "between": " and ".join(scale.steepest)}
    return Evidence(words, (scale.key,))


def _behind_a_norm(context: Context, question: Question, is_squared: bool) -> Evidence | None:
    """Only the sum of normalised values, or of their squares, is used: it is nearly a constant."""
    scale = _scales(context).get(question.key)
    if scale is None or scale.is_large:
        return None
    graph, nodes = context.graph, context.graph.nodes
    holders = [k for k in graph.successors(scale.key) if nodes[k]["kind"] is NodeKind.ACCUMULATE]
    norms = [
        target
        for _, target, edge in graph.out_edges([scale.key, *holders], data=True)
        if operation(nodes[target].get("op", "")).normalizes and edge.get("input", 0) > 0
    ]
    if len(norms) != 1 or _squares(graph, norms[0]) is not is_squared:
        return None
    key = norms[0]
    line = nodes[key].get("source", "")
    words = {
        "op": nodes[key].get("op"),
        "where": f" at {mention(line)}" if line else "",
        "root": context.root_names,
        "last": scale.last,
    }
    return Evidence(words, (key,), locations_of([line]), key)


def _squares(graph: GradGraph, key: str) -> bool | None:
    """Whether the squares of a result are summed, or it itself; None when it is used otherwise."""
    stack, squares = [key], False
    while stack:
        for _, target, edge in graph.out_edges(stack.pop(), data=True):
            data: NodeData = graph.nodes[target]
            op, options = data.get("op", ""), data.get("options", {})
            is_square = op == "square" or (op == "pow" and options.get("exponent") in ("2", "2.0"))
            if data["kind"] is NodeKind.RESULT and math.prod(data.get("shape", (2,))) == 1:
                continue
            if edge["kind"] is not EdgeKind.GRADIENT or (is_square and squares):
                return None
            squares = squares or is_square
            if not (is_square or is_sum(op, options)):
                return None
            stack.append(target)
    return squares


_BEHIND = (
    "which is nearly the same for every input: the gradient of {last}, its own parameter, is of "
    "normal size"
)
_COMPARE = (
    "compare the results with a target, or weigh them: a sum or mean square of normalised values "
    "is nearly a constant"
)
_FAR = "the norm of its gradient is over {ratio} times {than} than that of {last}; it changes most "
_FAR += "between {between}"


def _fine(context: Context, question: Question) -> Evidence | None:
    grad = question.data.get("grad")
    used = changed_since(context, question)
    hooked = ""
    if not context.is_recorded:
        if question.data.get("hooks"):
            hooked = "; what its hook does to it was not recorded"
        elif context.hooked and context.hooked & context.path(question.key):
            hooked = "; what a hook on the path to it does was not recorded"
    words = {
        "norm": f", norm {grad.norm:.4g}" if grad is not None and grad.norm is not None else "",
        "since": f", from before it was changed at {mention(used[0].location)}" if used else "",
        "hooked": hooked,
        "scaled": "",
    }
    if context.is_recorded and (scale := scale_of(context, question)) not in (None, 1.0):
        words["scaled"] = f", scaled by {scale:g} as GradScaler does, and not unscaled"
    return Evidence(words, locations=_locations(*used[:1]))


def _of_another_result(context: Context, question: Question) -> Evidence | None:
    """The results that were asked about do not depend on it, and yet it has a gradient."""
    if not context.is_of_roots or question.key in context.behind_roots or context.functions:
        return None
    return Evidence({"root": context.root_names}, (question.key,))


def _is_sparse(context: Context, question: Question) -> Evidence | None:
    grad = question.data.get("grad")
    return Evidence() if grad is not None and grad.note.startswith("sparse") else None


sparse: Rule[Any, Any] = Rule(
    "a sparse gradient",
    Verdict.SPARSE,
    _is_sparse,
    "its gradient is a sparse tensor, as embedding(sparse=True) makes it",
    "use an optimizer for sparse gradients, such as torch.optim.SparseAdam; or sparse=False",
)
hook_on_tensor: Rule[Any, Any] = Rule(
    "a hook of the tensor replaced it",
    Verdict.HOOK,
    _hook_on_it,
    "{who}{where} returned another gradient than it was given: {change}",
    _REMOVE,
    Needs.RECORDING,
    (EventKind.HOOK,),
)
hooks_that_broke_it: Rule[Any, Any] = Rule(
    "a hook on the path made it zero, or not finite",
    Verdict.HOOK,
    _hook_made_it_wrong,
    _ON_THE_PATH,
    _REMOVE,
    Needs.RECORDING,
    (EventKind.HOOK,),
)
last_rules: tuple[Rule[Any, Any], ...] = (
    Rule(
        "its values were overwritten since",
        Verdict.STALE,
        _overwritten,
        _STALE + "gave it other values",
        "call backward() again, or clear it: optimizer.zero_grad()",
        Needs.RECORDING,
        (EventKind.IN_PLACE,),
    ),
    Rule(
        "a later backward pass added nothing to it",
        Verdict.STALE,
        _later_pass_without_it,
        _STALE + "changed it, and {later} added nothing to it",
        "clear the gradients before each backward pass: optimizer.zero_grad()",
        Needs.RECORDING,
        (EventKind.STEP, EventKind.IN_PLACE),
    ),
    Rule(
        "an optimizer used it more than once",
        Verdict.STALE,
        _used_again,
        _STALE + "used it for the {times} time",
        "one backward() for each step, and optimizer.zero_grad() before it",
        Needs.RECORDING,
        (EventKind.STEP,),
    ),
    Rule(
        "several passes were added up",
        Verdict.ACCUMULATED,
        _accumulated,
        "{times} backward passes{where} were added up, and nothing cleared it in between",
        "unless that is meant: optimizer.zero_grad() before each backward()",
        docs="The number of accumulations is known from a recording.",
    ),
    Rule(
        "a hook on the path replaced it",
        Verdict.HOOK,
        _hook_on_the_path,
        _ON_THE_PATH,
        _REMOVE,
        Needs.RECORDING,
        (EventKind.HOOK,),
    ),
    Rule(
        "only the sum of normalised values is used",
        Verdict.ZERO,
        lambda context, question: _behind_a_norm(context, question, False),
        "its gradient is 0 but for rounding errors: of the results of {op}{where} only the sum "
        "goes into {root}, " + _BEHIND,
        _COMPARE,
    ),
    Rule(
        "only the squares of normalised values are used",
        Verdict.VANISHING,
        lambda context, question: _behind_a_norm(context, question, True),
        "its gradient is nearly 0: of the results of {op}{where} only the sum of squares goes into "
        "{root}, " + _BEHIND,
        _COMPARE,
    ),
    Rule(
        "far larger than at the root",
        Verdict.EXPLODING,
        lambda context, question: _far(context, question, True),
        _FAR.replace("{than}", "larger"),
        "clip it: torch.nn.utils.clip_grad_norm_(parameters, 1.0)",
        docs="Asked of several parameters: the largest gradient of each module is compared.",
    ),
    Rule(
        "far smaller than at the root",
        Verdict.VANISHING,
        lambda context, question: _far(context, question, False),
        _FAR.replace("{than}", "smaller"),
        "let the layers between keep the scale: another initialisation, normalisation, residual "
        "connections",
        docs="Those of everything before it in the forward pass are as small: a single small "
        "gradient, as of a bias before a normalisation, is no fault.",
    ),
    Rule(
        "the result that was asked about did not give it",
        Verdict.OF_ANOTHER,
        _of_another_result,
        "it has a gradient, and none of it came from {root}: it is not reachable from {root}",
        "if {root} is meant to train it, compute {root} from it without a cut",
        docs="Only where the question names the result: `explain(w, loss)`.",
    ),
    Rule(
        "a gradient without a fault that is known",
        Verdict.FINE,
        _fine,
        "it has a gradient{norm}{scaled}{since}{hooked}",
        docs="None of the rules above holds.",
    ),
)
