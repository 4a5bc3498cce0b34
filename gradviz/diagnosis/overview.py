"""What is said of a tensor in a list of all tensors, of which some need no gradient at the end.

A gradient that a step used before it was cleared is fine, and so is a target network without one.
`replacements` has the cases in order.
"""

from __future__ import annotations

from bisect import bisect
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise, takewhile
from operator import attrgetter
from typing import Any, NamedTuple

from gradviz.diagnosis import relative_size
from gradviz.diagnosis.answers import Explanation, Group, Verdict
from gradviz.diagnosis.changed_gradients import has_mild_hooks
from gradviz.diagnosis.context import Context, Question
from gradviz.diagnosis.lines import (
    first_on_line,
    hook_registered_at,
    locations_of,
    mention,
    transforms_in,
)
from gradviz.diagnosis.losses import LOSSES
from gradviz.diagnosis.name_flow import calls_in
from gradviz.diagnosis.no_gradient import (
    cleared_in_hooks,
    is_cleared,
    is_taken_by_torch,
    only_returned,
)
from gradviz.diagnosis.rule import Evidence, Rule, first_answer
from gradviz.diagnosis.silent_faults import is_part
from gradviz.diagnosis.training import CLEARS, cleared_before_step, serves_data, set_aside, uses_of
from gradviz.diagnosis.values import added_cast, adds, difference_without, gradient_uses, is_wrong
from gradviz.facts import Action, EventKind, FrameKind, GradientDetails, Loss, SourceLocation
from gradviz.graph import GradGraph, NodeData, NodeKind, leaf_of_node
from gradviz.graph.operations import operation
from gradviz.graph.text import counted, number_text
from gradviz.story import Event

_IN_NONE = "no optimizer holds it"
_NO_GRADIENT = (Verdict.NOT_CONNECTED, Verdict.CUT, Verdict.NOT_KNOWN, Verdict.NOT_RUN)
_FAULTS_OF_A_STEP = (
    *(Verdict.NAN, Verdict.INFINITE, Verdict.ZERO, Verdict.RESULT_NOT_FINITE, Verdict.NOT_TRAINED),
    Verdict.NO_STEP,
    *(Verdict.CLIPPED_EARLY, Verdict.CLIPPED_LATE, Verdict.CLIPPED_SCALED, Verdict.BROADCAST),
    Verdict.LOSS_INPUT,
)
_number = attrgetter("number")
_SEVERAL, _PASSES = 3, 2  # passes: of hooks, and of a loss


@dataclass(frozen=True)
class ListedAnswer:
    """An answer in a list of all tensors."""

    each: Explanation  # the answer about the tensor alone
    question: Question  # the tensor
    context: Context  # the recording
    # explains a tensor, for a gradient that it had before
    again: Callable[[Question, Context], Explanation]

    def fine(self, reason: str) -> Explanation:
        """The answer that nothing is wrong."""
        return replace(self.each, verdict=Verdict.FINE, reason=reason, fix="")

    def untrained(self, reason: str) -> Explanation:
        """The answer that it needs no gradient, since nothing trains it."""
        return replace(self.each, verdict=Verdict.UNTRAINED, reason=reason, fix="")

    @property
    def is_gone(self) -> bool:
        """Whether the gradient is None or zeros now."""
        return self.each.verdict in (Verdict.CLEARED, Verdict.ZERO)

    @property
    def has_none(self) -> bool:
        """Whether it got no gradient from the result."""
        return self.each.verdict in _NO_GRADIENT

    @cached_property
    def added(self) -> Sequence[Event]:
        """The passes that added to its gradient."""
        return self.context.happened_to(self.question.key, EventKind.ACCUMULATE)

    @cached_property
    def is_right(self) -> bool:
        """Whether the last of them left a gradient that is finite, and not known to be zero."""
        after = getattr(self.added[-1].details, "after", None) if self.added else None
        if after is not None and is_part(self.context, self.question.key, after):
            after = replace(after, is_part=True)
        return bool(self.added) and not is_wrong(after)

    @cached_property
    def uses(self) -> list[int]:
        """The events that used its gradient."""
        return _uses_of_a_gradient(self.context, self.question.key) if self.added else []

    @property
    def is_trained(self) -> bool:
        """Whether an optimizer holds it; or may, where optimizers were not seen."""
        held, key = self.context.held, self.question.key
        return key in held or any(
            key in each.held or (each.count > len(each.held) and not (key and held))
            for _, each in self.context.steps
        )

    @property
    def is_of_target(self) -> bool:
        """Whether it got no gradient, and is a copy of another leaf, as in a target network."""
        if self.added or not self.has_none:
            return False
        is_copy = self.context.is_copy(self.question.key, self.question.data.get("shape"))
        return is_copy and (self.each.verdict is Verdict.CUT or _is_training(self.context))


def in_overview(row: ListedAnswer) -> Explanation:
    """The answer, or what replaces it in a list of all tensors."""
    return next(filter(None, replacements(row)), row.each)


def replacements(row: ListedAnswer) -> Iterator[Explanation | None]:
    """What replaces an answer in a list of all tensors; the first that is not None does."""
    verdict, key, context = row.each.verdict, row.question.key, row.context
    is_parameter = row.question.kind is NodeKind.PARAMETER
    if verdict is Verdict.STALE and _was_used_once(context, key, row.uses):
        yield row.fine("its gradient was used")
    if (row.is_gone or verdict is Verdict.HOOK) and _was_used_in_a_hook(context, key):
        yield row.fine("a step in a hook used it")
    if verdict is Verdict.HOOK and has_mild_hooks(context):
        yield row.fine(row.each.reason)
    yield _of_a_penalty(row)
    yield _only_cancels(row)
    if row.is_gone and not is_parameter and is_taken_by_torch(context, key):
        yield row.fine("torch took its gradient")
    yield _cleared_after_its_use(row)
    if row.is_gone and (clear := set_aside(context, key)) is not None:
        yield row.untrained(f".grad = None at {mention(clear.location)} leaves it out of the step")
    if row.has_none and not row.added and _was_assigned_and_used(context, key):
        yield row.fine("its gradient was assigned")
    yield _of_torch_func(row)
    yield _only_returned(row)
    if verdict is Verdict.ACCUMULATED and is_parameter and serves_data(context, key):
        yield row.untrained(f"{_IN_NONE}: {row.each.reason}")
    yield _in_no_optimizer(row)


def as_so_far(row: ListedAnswer) -> Explanation:
    """An answer about a program that ended early: the turn of some optimizers did not come."""
    optimizer = row.context.waiting.get(row.question.key)
    late = (*(_NO_GRADIENT if row.context.steps else ()), Verdict.ACCUMULATED)
    if optimizer is None or row.each.verdict not in late:
        return row.each
    return row.untrained(f"its optimizer {optimizer} has made no step so far: {row.each.reason}")


def _of_a_penalty(row: ListedAnswer) -> Explanation | None:
    """Its gradient is 0 in one of several passes, because of a derivative in the loss of that one.

    That pass gives others a gradient, and the pass before, of another line, gave it one.
    """
    each, added = row.each, row.added
    made = each.graph.nodes.get(each.culprit, {}) if each.graph is not None else {}
    before = [event for event in added[-2:-1] if event.location != added[-1].location]
    if each.verdict is not Verdict.ZERO or not before:
        return None
    calls = (e for e in row.context.happened(EventKind.BACKWARD) if e.number > before[0].number)
    is_unknown = each.culprit in ("", row.question.key)
    is_penalty = is_unknown and any(getattr(e.details, "create_graph", False) for e in calls)
    if not is_penalty and not str(made.get("op", "")).endswith("_backward"):
        return None
    passes, events = row.context.passes, row.context.happened(EventKind.ACCUMULATE)
    rows = (event for event in events if passes and event.number > passes[-1].number)
    is_given = row.context.cached("last pass gave", lambda: any(map(_gave, rows)))
    reason = "its gradient is 0 in that pass, and not in others"
    return row.fine(reason) if _gave(before[0]) and is_given else None


def _gave(added: Event) -> bool:
    return not is_wrong(getattr(added.details, "after", None))


def _only_cancels(row: ListedAnswer) -> Explanation | None:
    if not row.is_gone or row.is_right:
        return None
    context, key = row.context, row.question.key
    graph = context.graph_of_latest_pass(key)
    is_known = bool({*row.each.nodes} - {key}) or row.each.verdict is not Verdict.ZERO
    cancels = graph is not None and (
        difference_without(graph, key) or _is_bias(context, row.question, graph, is_known)
    )
    reason = "its gradient is 0: it is added to terms whose gradients cancel"
    return row.fine(reason) if cancels else None


def _cleared_after_its_use(row: ListedAnswer) -> Explanation | None:
    context, question = row.context, row.question
    if not row.is_gone or not is_cleared(context, row.question.key):
        return None
    if cleared_before_step(context, question) is not None:
        return None
    before = _before_it_was_cleared(row)
    if before is not None or not row.is_right:
        return before
    last = context.happened(EventKind.BACKWARD)[-1].details
    if row.uses:
        return row.fine("its gradient was used")
    has_failed = getattr(last, "has_failed", False)
    return row.fine("cleared for the pass that failed") if has_failed else None


def _of_torch_func(row: ListedAnswer) -> Explanation | None:
    context = row.context
    is_early = row.has_none and not (row.added or context.steps or context.passes)
    lines = transforms_in(context.files) if is_early else ()
    if not lines:
        return None
    at = mention(lines[0])
    return row.untrained(f"torch.func at {at} returns gradients, and sets no .grad")


def _only_returned(row: ListedAnswer) -> Explanation | None:
    returned = None if row.added else only_returned(row.context, row.question, row.each.verdict)
    if returned is None or row.each.verdict not in (*_NO_GRADIENT, Verdict.LEFT_OUT):
        return None
    return replace(row.each, verdict=returned[0], reason=returned[1], fix="")


def _in_no_optimizer(row: ListedAnswer) -> Explanation | None:
    """Others are trained, or it is a copy: it needs no gradient."""
    each, question, context = row.each, row.question, row.context
    is_unnamed = not question.data.get("name") and not all(e.is_own for e in each.locations)
    is_apart = _is_training(context) or row.is_of_target or (is_unnamed and context.passes)
    if row.is_trained or not is_apart:
        return None
    if row.each.verdict is Verdict.ZERO and question.kind is not NodeKind.PARAMETER:
        if row.question.key in context.cached(_asked_inputs, lambda: _asked_inputs(context)):
            return row.fine("torch.autograd.grad returned its gradient")  # a gradient penalty
        return row.untrained(f"{_IN_NONE}: {each.reason}")
    if (copied := _copied(row)) is not None:
        return copied
    if row.added or not row.has_none:
        return None
    return row.untrained(f"{_IN_NONE}, and it got no gradient: {each.reason}")


def _copied(row: ListedAnswer) -> Explanation | None:
    """A copy of a trained tensor, or a template that trained ones are copied from."""
    context, key = row.context, row.question.key
    is_without = row.each.verdict in (Verdict.NOT_TRAINED, Verdict.ACCUMULATED)
    shape = row.question.data.get("shape")
    is_copied = row.is_of_target or (is_without and context.is_copy(key, shape))
    is_template = not row.added and row.has_none and context.is_template(key)
    if not is_template and not (is_copied and not _replaces_a_trained_one(context, key)):
        return None
    which = "copied to one that an optimizer holds" if is_template else "copied from another"
    reason = f"its values are {which}, and {_IN_NONE}"
    is_late = row.added or row.each.verdict is Verdict.NOT_RUN
    return row.untrained(reason) if is_late else row.fine(reason)


def _asked_inputs(context: Context) -> set[str]:
    """The leaves whose gradients calls of ``torch.autograd.grad`` returned."""
    events = context.happened(EventKind.BACKWARD)
    calls = (each.details for each in events if each.action is Action.AUTOGRAD_GRAD)
    return {key for each in calls for key in getattr(each, "inputs", None) or ()}


def _was_used_in_a_hook(context: Context, key: str) -> bool:
    """Whether a step used the gradient of the last pass, a healthy one, and a hook cleared it."""
    hooks, steps = cleared_in_hooks(context, key), context.steps_of(key)
    before = getattr(hooks[-1].details, "before", None) if hooks else None
    if not hooks or is_wrong(before):
        return False
    if any(event.number > context.passes[-1].number for event, _ in steps):
        return True
    graphs = (each for each in (context.before, context.graph) if each is not None and key in each)
    versions = [graph.nodes[key].get("version") for graph in graphs]  # a step by hand, in the hook
    return None not in versions and len(set(versions)) > 1


def _before_it_was_cleared(row: ListedAnswer) -> Explanation | None:
    """What was wrong with the last gradient when it was cleared; None if nothing is known."""
    question, context = row.question, row.context
    last = context.happened_to(question.key, EventKind.ACCUMULATE)[-1:]
    details = last[0].details if last else None
    if not isinstance(details, GradientDetails) or not details.after or not context.steps:
        return None
    data: Any = {**question.data, "grad": details.after, "accumulations": details.accumulations}
    before = row.again(replace(question, data=data), context)
    if before.verdict is Verdict.HOOK:
        return None if has_mild_hooks(context) else before
    return before if before.verdict in _FAULTS_OF_A_STEP else None


def _reached_another(context: Context, question: Question, graph: GradGraph, user: str) -> bool:
    """Whether another leaf of an operation got a gradient in the same passes: one came to it."""
    sources = [source for source, _ in graph.inputs(user)]
    views = [e for e in sources if operation(graph.nodes[e].get("op", "")).rearranges]
    sources += [source for view in views for source, _ in graph.inputs(view)]
    leaves = {leaf_of_node(graph, each) for each in sources} - {question.key}
    alone = (each for each in leaves if len(gradient_uses(graph, each)) == 1)
    found: list[NodeData] = [context.node_in_a_frame(each) or {} for each in alone]
    passes = question.data.get("accumulations")
    grads = [e.get("grad") for e in found if e.get("accumulations") == passes]
    return any(grad is not None and not is_wrong(grad) for grad in grads)


def _is_bias(context: Context, question: Question, graph: GradGraph, is_known: bool) -> bool:
    """Whether a leaf is only added, and the gradients of its rows or of its uses cancel.

    ``is_known``: whether it is known which operations of the graph made its gradient 0.
    """
    if cast := added_cast(graph, question.key):
        return (cast, 0) in context.lost_in_pass(Loss.CANCELLED)
    uses = gradient_uses(graph, question.key)
    if not uses or not adds(graph, uses):
        return False
    if len(uses) == 1:  # as the bias of a layer whose gradients cancel over the rows
        user, number = uses[0][0], uses[0][1].get("input", 0)
        was_seen = (user, number) in context.lost_in_pass(Loss.ZERO)
        return was_seen or (not is_known and _reached_another(context, question, graph, user))
    added = (event.details for event in context.happened_to(question.key, EventKind.ACCUMULATE))
    was_other = any(not is_wrong(getattr(each, "after", None)) for each in added)
    cancels = bool(relative_size.uses_that_cancel(context, question.key))
    cancels = cancels and not relative_size.all_cancel(context, have_several=True)
    return cancels or (was_other and not is_known)


def _was_used_once(context: Context, key: str, uses: Sequence[int]) -> bool:
    """Whether one step, or one change by the program, used the latest gradient.

    An optimizer that is not of torch, as one of SciPy, copies its values into the parameters.
    """
    added = context.happened_to(key, EventKind.ACCUMULATE)
    written = context.happened_to(key, EventKind.IN_PLACE)
    loads = {event.number for event in written if event.word == "load_state_dict"}
    later = {use for use in uses if use > added[-1].number} - loads if added else set()
    stepped = {step.number for step, _ in context.steps_with(key)}
    if len(stepped & later) == 1 and min(later) in stepped:
        return True  # what was written into it after the step did not use the gradient
    by_hand = [event for event in written if event.number in later]
    if by_hand and len(by_hand) == len(later):
        first, last = (
            bisect(context.passes, each, key=_number) for each in (min(later), max(later))
        )
        if first == last:  # as add_() of the gradient, then of noise, and clamp_()
            return True
    copies = {event.number for event in by_hand if event.word in ("copy_", "data", "setitem_")}
    return len(later) == 1 or bool(added[1:] and not stepped and later and later <= copies)


def _was_assigned_and_used(context: Context, key: str) -> bool:
    """Whether an optimizer's step changed a leaf whose ``.grad`` the program assigned."""
    assigned = [e for e in context.happened_to(key, EventKind.GRAD) if e.action is Action.ASSIGNED]
    steps = context.steps_of(key) if assigned else ()
    later = (each for step, each in steps if step.number > assigned[0].number)
    return any(key not in each.same for each in later)  # gradients of zeros change no value


def _uses_of_a_gradient(context: Context, key: str) -> list[int]:
    """The events that used the gradient of a leaf, without those that found it None or 0."""
    kinds = (EventKind.ACCUMULATE, EventKind.GRAD)
    events = (event for kind in kinds for event in context.happened_to(key, kind))
    changes = [(-1, False), *sorted((event.number, event.action in CLEARS) for event in events)]
    uses = uses_of(context, key)
    return [use for use in uses if not changes[bisect(changes, (use,)) - 1][1]]


def _is_training(context: Context) -> bool:
    """Whether an optimizer made a step after a pass on the line of the latest one, or was to."""
    kind = EventKind.ACCUMULATE
    if context.was_cut and any(context.happened_to(each, kind) for each in context.held):
        return True  # the command stopped before the end of its first step
    return any(step.number > first_on_line(context.passes) for step, _ in context.steps[-1:])


def _replaces_a_trained_one(context: Context, key: str) -> bool:
    """Whether a leaf is a copy of one that an optimizer holds and that gets no gradient since."""
    since = next((e.number for e in context.happened_to(key, EventKind.ACCUMULATE)), 0)
    histories = (context.history_of(e) for e in context.copies.get(key, ()) if e in context.held)
    return any(all(e.number < since or e.kind is EventKind.STEP for e in h) for h in histories)


# Steps that move a tensor in another way than is meant.


def _forgetful(context: Context, question: Question) -> Evidence | None:
    """Each of its last steps was the first of a new optimizer, which keeps a state."""
    own = context.steps_of(question.key)
    rows = [*takewhile(lambda row: row[1].is_new, reversed(own))]
    if len(rows) < _NEW or len({(str(e.location), each.optimizer) for e, each in rows}) > 1:
        return None
    writes = context.happened_to(question.key, EventKind.IN_PLACE)
    if any(rows[-1][0].number < each.number < rows[0][0].number for each in writes):
        return None  # it begins again from other values, as for another task
    (step, details), made = rows[0], calls_in(context, rows[0][1].optimizer)
    if details.optimizer == "LBFGS" or "closure" in step.location.text:
        return None  # a step is a whole minimization
    words = {"step": mention(step.location), "optimizer": details.optimizer}
    words["made"] = f", created at {mention(made[0])}" if len(made) == 1 else ""
    words["count"] = f"{'last ' * (len(rows) < len(own))}{counted(len(rows), 'step')}"
    return Evidence(words, locations=(*made[:1], step.location))


def _erased(context: Context, question: Question) -> Evidence | None:
    rows = context.steps_of(question.key)[-1:]
    if not rows or question.key not in rows[0][1].erased:
        return None
    line = rows[0][0].location
    words = {"optimizer": rows[0][1].optimizer, "line": mention(line)}
    return Evidence(words, locations=(line,))


def _upwards(context: Context, question: Question) -> Evidence | None:
    """``maximize=True`` for a loss of torch that grows, or its negative as the only aim."""
    rows = context.steps_of(question.key)[-1:]
    if not rows or question.kind is not NodeKind.PARAMETER:
        return None
    (step, details), found, name = rows[0], list[float](), "the loss"
    kept = [each.graph for each in context.frames if each.kind is FrameKind.AFTER_BACKWARD]
    own = [graph for graph in kept if question.key in graph]
    is_alone = own == kept and len({each.held for _, each in context.steps}) == 1
    if not details.maximizes and not is_alone:  # as of a generator against its critic
        return None
    for graph in own:
        roots, nodes = context.roots_of(graph), graph.nodes
        makers = {maker for root in roots for maker, _ in graph.inputs(root)}
        if not details.maximizes:
            negatives = (each for each in makers if nodes[each].get("op") == "neg")
            makers = {source for each in negatives for source, _ in graph.inputs(each)}
        value = nodes[roots[0]].get("value") if len(roots) == 1 else None
        ops = {nodes[each].get("op", "") for each in makers}
        if value is None or not value.values or not ops or not ops <= _LOSSES:
            return None
        found.append(value.values[0].real)
        name = nodes[roots[0]].get("name", name)
    sizes = found if details.maximizes else [-each for each in found]
    if len(found) < _PASSES or any(b <= a for a, b in pairwise(sizes)):
        return None
    what = f"follows its gradient upwards, as maximize=True says, and {name} grew from"
    if not details.maximizes:
        what = f"makes a loss larger: {name} is the negative of {min(ops)}, and fell from"
    words = {"optimizer": details.optimizer, "line": mention(step.location)}
    words["what"] = f"{what} {number_text(found[0])} to {number_text(found[-1])}"
    words["sign"] = "maximize=True" if details.maximizes else "the minus sign"
    return Evidence(words, locations=(step.location,))


def _constant_weights(context: Context) -> dict[str, Event]:
    """What wrote one value into each weight before the first pass; none if a tensor has several."""
    graph = context.frames[0].graph if context.frames and context.passes else GradGraph()
    found: dict[str, Event] = {}
    for key, data in graph.nodes(data=True):
        if data["kind"] is NodeKind.PARAMETER:
            writes = context.happened_to(key, EventKind.IN_PLACE)
            before = [each for each in writes if each.number < context.passes[0].number][-1:]
            is_weight = len(data.get("shape", ())) > 1
            if not before or before[0].word not in (*_OF_ONE_VALUE, *_ZEROS[is_weight:]):
                return {}
            found.update({key: before[0]} if is_weight else {})
        elif operation(data.get("op", "")).draws or "dropout" in data.get("op", ""):
            return {}  # dropout makes units differ
    return found if len(found) > 1 else {}  # the units of the last layer differ by their targets


def _alike(context: Context, question: Question) -> Evidence | None:
    """The weights of several layers began as constants, so that the units of a layer are equal."""
    written = context.cached(_alike, lambda: _constant_weights(context)).get(question.key)
    if written is None or not context.steps_of(question.key):
        return None
    words = {"word": written.word, "line": mention(written.location)}
    return Evidence(words, locations=(written.location,))


_OF_ONE_VALUE, _ZEROS = ("fill_", "ones_", "constant_"), ("zero_",)
_LOSSES = frozenset(("nll_loss", "nll_loss2d", *LOSSES))
_NEW = 3  # steps
step_rules: tuple[Rule[Any, Any], ...] = (
    Rule(
        "a new optimizer for each step",
        Verdict.WRONG_STEP,
        _forgetful,
        "each of the {count} of {optimizer} at {step} was the first of a new optimizer{made}: what "
        "it keeps from step to step, such as averages of gradients, is lost",
        "create the optimizer once, before the loop",
        events=(EventKind.STEP,),
        docs="Of optimizers that keep a state, where nothing writes into the parameter in between.",
    ),
    Rule(
        "a weight decay that erases it",
        Verdict.WRONG_STEP,
        _erased,
        "each step of {optimizer} at {line} multiplies it by 1 - lr * weight_decay, which is not "
        "above 0, so that its own values are lost",
        "lower weight_decay, or lr: their product must be far below 1",
        events=(EventKind.STEP,),
    ),
    Rule(
        "a loss that is maximized",
        Verdict.WRONG_STEP,
        _upwards,
        "{optimizer} at {line} {what}",
        "leave out {sign}; nothing, if that loss is to grow, as that of an attack",
        events=(EventKind.STEP,),
        docs="Of a loss function of torch, whose result grows in each pass, or its negative.",
    ),
    Rule(
        "weights that are constants",
        Verdict.WRONG_STEP,
        _alike,
        "each weight of the model was given one value, this one by {word} at {line}: all units of "
        "a hidden layer compute the same, get the same gradient, and stay equal",
        "begin with random values: leave out that line, or torch.nn.init.kaiming_uniform_(weight)",
        events=(EventKind.STEP,),
        docs="Of a model whose weights, of two dimensions or more, all have one value each.",
    ),
)


# Hooks of modules, which are on no tensor that is explained.


class _Hooked(NamedTuple):
    """A line that registers a hook again before each pass, and that of the hook."""

    name: str
    line: SourceLocation
    made: SourceLocation
    counts: tuple[int, int]
    key: str = ""
    group: Group = Group.GRADIENT
    kind: None = None


piled_up: Rule[Any, Any] = Rule(
    "a hook of a module that is registered again before each pass",
    Verdict.HOOK,
    lambda _, it: Evidence(
        {
            "made": mention(it.made),
            "line": it.line,
            "first": counted(it.counts[0], "time"),
            "last": counted(it.counts[1], "time"),
        },
        locations=(it.made, it.line),
    ),
    "each time that {made} runs, it registers the hook once more: {line} ran {first} in the first "
    "recorded pass and {last} in the last one, and all of them act",
    "register it once, before the loop; or remove it after the pass: handle.remove()",
    events=(EventKind.BACKWARD,),
    docs="The number of its calls grows by the same number from pass to pass.",
)
_BACKWARD_HOOKS = ("register_full_backward_hook", "register_full_backward_pre_hook")
_FORWARD_HOOKS = ("register_forward_hook", "register_forward_pre_hook")


def hooks_piled_up(context: Context) -> list[Explanation]:
    """An explanation of each hook of modules of which each pass has more than the one before."""
    found = [first_answer([piled_up], context, each) for each in _hooks_of_modules(context)]
    return [each for each in found if each is not None]


def _hooks_of_modules(context: Context) -> Iterator[_Hooked]:
    rows: dict[SourceLocation, Counter[int]] = {}
    for event in context.happened(EventKind.HOOK):
        if not event.nodes and event.location:
            number = bisect(context.passes, event.number, key=_number)
            rows.setdefault(event.location, Counter())[number] += 1
    yield from _growing(context, rows, _BACKWARD_HOOKS)
    rows = {}
    is_hooked = any(calls_in(context, word) for word in _FORWARD_HOOKS)
    for frame in context.frames if is_hooked else ():
        for data in frame.graph._node.values() if frame.kind is FrameKind.AFTER_BACKWARD else ():
            if data["kind"] is NodeKind.OPERATION and data.get("source"):
                for line in locations_of([data["source"]]):
                    rows.setdefault(line, Counter())[frame.pass_number] += 1
    yield from _growing(context, rows, _FORWARD_HOOKS)


def _growing(
    context: Context, rows: dict[SourceLocation, Counter[int]], words: tuple[str, ...]
) -> Iterator[_Hooked]:
    for line, counts in rows.items():
        numbers = sorted(counts)
        steps = {(counts[b] - counts[a]) / (b - a) for a, b in pairwise(numbers)}
        if len(numbers) < _SEVERAL or len(steps) != 1 or min(steps) < 1:
            continue
        for made in (made for word in words for made in calls_in(context, word)):
            if line.file == made.file and (name := hook_registered_at(made, line, words)):
                ends = counts[numbers[0]], counts[numbers[-1]]
                yield _Hooked(name, line, made, ends)
                break
