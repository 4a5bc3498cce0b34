"""Rules for tensors that no optimizer trains, and for attributes without effect."""

from __future__ import annotations

import math
from functools import partial
from itertools import takewhile
from typing import Any

from gradviz.diagnosis.answers import Verdict
from gradviz.diagnosis.context import Context, Question
from gradviz.diagnosis.copies import empty_pass, undone
from gradviz.diagnosis.lines import (
    assignments_to,
    code_of,
    first_on_line,
    line_of_flag,
    locations_of,
    mention,
)
from gradviz.diagnosis.name_flow import (
    assigned_after,
    calls_in,
    created_later,
    older_that_is_held,
    rebound_in,
)
from gradviz.diagnosis.rule import Evidence, Rule, created_at, opt_at, scaling_of, without_call
from gradviz.diagnosis.silent_faults import of_the_called, unchanged, updates_by_hand
from gradviz.diagnosis.values import is_wrong
from gradviz.facts import SCALER, Action, EventKind, SourceLocation, StepDetails
from gradviz.graph import (
    LEAVES,
    Cause,
    NodeKind,
    is_broadcast,
    leaf_uses,
)
from gradviz.graph.text import as_code
from gradviz.story import Event
from gradviz.wording import CLASS_ATTRIBUTE, clearing_word, how_to_register

CHANGES = (Action.CHANGED_IN_PLACE, Action.CLIPPED, Action.UNSCALED)
_ADDED = EventKind.ACCUMULATE
_MANY = 4  # passes without a step that are not a part of one
CLEARS = (Action.SET_TO_NONE, Action.ZEROED)
_GIVE = "give the optimizer the parameters that are trained"
_OR = "; or freeze it, if it is not to be trained: requires_grad_(False)"
Step = tuple[Event, StepDetails]
_LATE = "create it after the model has all of them, or call optimizer.add_param_group"


def _attribute(context: Context, question: Question) -> Evidence | None:
    flag = question.without_effect
    if question.data["kind"] is NodeKind.UNTRACKED:
        return None
    assert flag is not None
    module = question.name.removesuffix(f".{flag.parameter}") if flag.owner else ""
    module = "the module" if module == question.name else module
    line = line_of_flag(context.files, flag.attribute, module)
    is_of_tensors = flag.attribute == "requires_grad"
    why = "nn.Module has no such switch" if is_of_tensors else "the switch is requires_grad"
    switch = f"{as_code(module)}.requires_grad_(False)" if module else ""
    fix = switch or f"{question.code}.requires_grad = False"
    where = f"; it is set at {mention(line)}" if line else ""
    what = f"{module}." if module else "its attribute "
    words = {"what": f"{what}{flag.attribute} = False", "why": why, "fix": fix, "where": where}
    return Evidence(words, locations=(line,))


def _rebound(context: Context, question: Question) -> Evidence | None:
    """The program assigns updates to variables, which changes no tensor."""
    added = context.happened_to(question.key, _ADDED)
    steps = [each for event, each in context.steps if event.number > added[0].number]
    is_trained = any(each.changed_count for each in steps)
    if is_trained or not question.is_leaf or is_wrong(question.data.get("grad")):
        return None
    found = rebound_in(context) if steps or not _is_held(context, question) else []
    # A variable that gets a new leaf in each step is updated; then each has one gradient.
    is_loop = question.kind is NodeKind.PARAMETER and len(found) == 1 and found[0][2]
    own = [row for row in found if is_loop or row[1] == question.name] or found[:1]
    if not own or not (is_loop or len(added) > 1):
        return None
    line, name, of = own[0][0], own[0][1], " of its loop" if own[0][2] else ""
    return Evidence({"line": mention(line), "name": name, "of": of}, locations=(line,))


def _not_registered(context: Context, question: Question) -> Evidence | None:
    plain = question.unregistered
    if _is_held(context, question):
        return None
    assert plain is not None
    holder = _holder(context, question)
    kind, more = plain.kind, (plain.of_modules, plain.inner)
    register = how_to_register(plain.container, kind, *more)
    is_alone = kind in ("tensor", "buffer")
    if (is_alone or question.data["kind"] is NodeKind.LEAF) and len(
        context.happened_to(question.key, _ADDED)
    ) < 2:
        return None  # it may be an input, which the next pass replaces
    register = f"make {plain.container} an nn.Parameter" if is_alone else register
    attribute = f"self.{plain.container.rpartition('.')[2]}"
    rows = ((file, assignments_to(SourceLocation(file), attribute)) for file in context.files)
    made = [SourceLocation(file, line) for file, found in rows for line, _ in found[:1]]
    made = made if len(made) == 1 else []
    words = {
        **plain._asdict(),
        "plain": kind if kind in ("buffer", CLASS_ATTRIBUTE) else f"plain {kind}",
        "held": f"; no optimizer holds it: {_what_it_holds(context, question, *holder)}"
        if holder
        else "",
        "register": register,
        "made": f", made at {mention(made[0])}" if made else "",
    }
    return Evidence(words, locations=(*made, *((holder[0].location,) if holder else ())))


def _in_no_optimizer(context: Context, question: Question) -> Evidence | None:
    """A parameter with a gradient that is in no optimizer that made a step or is alive."""
    is_parameter = question.is_parameter or question.data["kind"] is NodeKind.PARAMETER
    is_free = question.data.get("grad") is not None and not _is_held(context, question)
    older = older_that_is_held(context, question) if is_free else ""
    is_newer = older != ""
    is_trained = is_free and (is_parameter or is_newer or _is_forgotten(context, question))
    if not is_trained or (holder := _holder(context, question, is_newer)) is None:
        return None
    is_held, line = question.key in context.held, ""
    none = "the optimizer that makes the steps now does not hold it"
    is_name = all(map(str.isidentifier, (name := question.name).split(".")))
    opt = opt_at(holder[0])
    how = f'{opt}.add_param_group({{"params": [{name}]}})' if is_name else _LATE
    words = {"none": none if is_held else "no optimizer holds it", "fix": f"{_GIVE}: {how}{_OR}"}
    words["holder"] = _what_it_holds(context, question, *holder)
    whole = f"{name.removeprefix('self.').partition('.')[0]}.parameters()"  # or it was replaced
    is_old = holder[1].count > len(holder[1].held)
    created = calls_in(context, holder[1].optimizer)
    created = [each for each in created if is_old or whole in code_of(str(each))]
    is_frozen = _kinds_held(context, holder[1]) == {NodeKind.UNTRACKED}
    if _is_held_by_copies(context, question.key):
        words["none"] = "the optimizer that makes the steps holds a copy of it"
        words["fix"] = "restore it by optimizer.load_state_dict(saved) instead of copying it"
    elif question.key in context.copies and not _is_used(context, question, holder[1]):
        words["fix"] = "compute with the parameters that the optimizer holds, not with a copy, as "
        words["fix"] += "by torch.func.functional_call; or create the optimizer from the copy"
    elif context.is_made_anew(question.key):
        words["holder"] += f"; {name} is created anew, from computed values"
        words["fix"] = "compute with the tensor that is copied into it: a module takes it as a "
        words["fix"] += "parameter by torch.func.functional_call(module, {name: tensor}, inputs)"
    elif not (is_newer or is_frozen or _is_used(context, question, holder[1])):
        words["fix"], loads = of_the_called(context)
        line = str(*loads)
    elif is_newer:
        made = [e.location for e in context.happened_to(question.key, EventKind.REQUIRES_GRAD)][:1]
        when = f", before it was made anew at {mention(made[0])}" if made else ""
        words["none"] += f", but an older tensor that was {name}{when}"
        shapes = {(context.node_in_a_frame(k) or {}).get("shape") for k in (older, question.key)}
        values = f"change the values of one tensor: with torch.no_grad(): {name}.copy_(...); or "
        words["fix"] = f"{values * (len(shapes) == 1)}create the optimizer for each new one"
        words["fix"] += ", or replace the older one in optimizer.param_groups" * (len(shapes) > 1)
    elif after := next(filter(None, (assigned_after(made, name) for made in created)), None):
        owner = name.rpartition(".")[0]
        words["holder"] += f"; {owner} is assigned after that, at {mention(after)}"
        words["fix"] = "create the optimizer after the model has all of its layers: after that line"
        line = str(after)
    elif is_old and (later := created_later(context, name.rpartition(".")[2])):
        words["holder"] += f"; {name} is created at {mention(later)}"
        line = str(later)
    if not question.data.get("name"):
        graphs = (context.graph, context.graph_of_latest_pass(question.key))
        used = ((g, leaf_uses(g, question.key)) for g in graphs if g and question.key in g)
        user: Any = next((g.nodes[uses[0][0]] for g, uses in used if uses), {})
        line, result = user.get("source", ""), user.get("name", "")
        how = f"; {result} is computed from it" if "." in result else "; it is used"
        words["holder"] += f"{how} at {mention(line)}" if line else ""
        words["fix"] = "create the nn.Parameter once, in __init__, and assign it itself to the "
        words["fix"] += "module, not a result computed from it"
    return Evidence(words, locations=(holder[0].location, *locations_of([line])))


def _is_forgotten(context: Context, question: Question) -> bool:
    """Whether a learned value that is no parameter got gradients over steps, and none was used."""
    key, shape = question.key, question.data.get("shape", (2, 2))
    added = [event.number for event in context.happened_to(key, EventKind.ACCUMULATE)]
    calls = [getattr(each.details, "inputs", None) for each in context.happened(EventKind.BACKWARD)]
    graph, name = context.graph_of_latest_pass(key) if added else None, question.data.get("name")
    is_flat = graph is not None and len(shape) == 1 and is_broadcast(graph, key)
    users = () if graph is None or name else [graph.nodes[u] for u, _ in leaf_uses(graph, key)]
    is_kept = any("." in data.get("name", "") for data in users)  # as self.scale
    return (
        bool(is_kept or (added and name and (is_flat or math.prod(shape) == 1)))
        and any(added[0] < event.number < added[-1] for event, _ in context.steps)
        # A gradient that is cleared or returned is one that the program uses.
        and not context.happened_to(key, EventKind.GRAD)
        and not any(key in (inputs or ()) for inputs in calls)
    )


def _is_held(context: Context, question: Question) -> bool:
    """Whether an optimizer contains it, or the program updates it between two gradients.

    Or a library made it require grad for its own use, such as a buffer that losses are added to.
    """
    switched = context.happened_to(question.key, EventKind.REQUIRES_GRAD)[-1:]
    if not question.is_parameter and any(each.inside for each in switched):
        return True
    key, added = question.key, context.happened_to(question.key, _ADDED)
    last = added[-1].number if len(added) > 1 else math.inf  # later, models are moved and loaded
    own = [step for step, _ in context.steps_with(key)]
    since, line = (own[-1].number, own[-1].location) if own else (math.inf, None)
    later = sum(step.number > since and step.location == line for step, _ in context.steps)
    # Another optimizer, which does not hold it, has made the steps of that line since.
    is_dropped = min(later, sum(event.number > since for event in added)) >= _MANY
    changes = (e.number for e in updates_by_hand(context, key) if added)
    return not _is_held_by_copies(context, key) and (
        (bool(own or key in context.held) and not is_dropped)
        or any(added[0].number < each < last for each in changes)
    )


def _is_held_by_copies(context: Context, key: str) -> bool:
    """Whether the optimizer that steps now holds copies, as one that was deep-copied does."""
    added = context.happened_to(key, _ADDED)
    own = [step.number for step, _ in context.steps_with(key)]
    if not own or not added or own[-1] > added[-1].number:
        return False
    copies = [each for each in context.held if key in context.copies.get(each, ())]
    is_replaced = any(context.happened_to(each, _ADDED) for each in copies)  # they are trained
    return key not in context.steps[-1][1].held and bool(copies) and not is_replaced


def _holder(context: Context, question: Question, is_any: bool = False) -> Step | None:
    """The latest step after the tensor had a gradient, of an optimizer of its model if any."""
    added, steps = context.happened_to(question.key, EventKind.ACCUMULATE), context.steps
    # Where the command stopped before a step, the one after an earlier pass of its line is like it.
    since = first_on_line(context.passes) if context.was_cut else added[0].number if added else 0
    if not added or not steps or steps[-1][0].number < since:
        return None
    last = {details.held: (step, details) for step, details in steps if step.number >= since}
    rows, parts = [*last.values()], question.name.split(".")[:-1]

    def shared(row: Step) -> tuple[int, int]:
        names = ((context.node_in_a_frame(key) or {}).get("name", "") for key in row[1].held)
        pairs = (zip(parts, each.split("."), strict=False) for each in [*names, ""])
        begins = (sum(1 for _ in takewhile(lambda e: e[0] == e[1], each)) for each in pairs)
        return max(begins), row[0].number

    by_name = ("holder", *parts, since)
    found: Step = context.cached(by_name, lambda: max(rows, key=shared)) if rows[1:] else rows[0]
    # A program may optimize an image; then the image has a gradient.
    is_image = _kinds_held(context, found[1]) & set(LEAVES) == {NodeKind.LEAF}
    held = found[1].held if is_image and not is_any else ()
    return None if any(context.happened_to(e, EventKind.ACCUMULATE) for e in held) else found


def serves_data(context: Context, key: str) -> bool:
    """Whether nothing trains a leaf, and what is optimized or differentiated is data."""
    if key in context.held or uses_of(context, key):
        return False
    if not context.steps:
        return not context.held and context.differentiates_data
    kinds = (_kinds_held(context, each) & {*LEAVES} == {NodeKind.LEAF} for _, each in context.steps)
    return context.cached("of data", lambda: all(kinds))


def _kinds_held(context: Context, details: StepDetails) -> set[NodeKind | None]:
    nodes = context.graph._node
    key = ("kinds held", id(details))  # the event lives as long as the context
    return context.cached(key, lambda: {nodes.get(e, {}).get("kind") for e in details.held})


def _is_used(context: Context, question: Question, details: StepDetails) -> bool:
    """Whether passes since the first one of a leaf reach what an optimizer holds."""
    since = next((e.number for e in context.happened_to(question.key, _ADDED)), math.inf)
    added = (e for key in details.held for e in context.happened_to(key, _ADDED)[-1:])
    return not context.reachable.isdisjoint(details.held) or any(e.number >= since for e in added)


def _what_it_holds(context: Context, question: Question, step: Event, details: StepDetails) -> str:
    used = _is_used(context, question, details)
    noun = "parameter" if details.count == 1 else "parameters"
    which = f"other {noun}" if used else f"{noun} that {context.root_names} does not use"
    is_plain = _kinds_held(context, details) == {NodeKind.UNTRACKED}
    which = "tensors that do not require grad" if is_plain else which
    made = created_at(context, step)
    where = f", created at {made}" if made else ""
    where += f", whose step is at {mention(step.location)}, holds {details.count:,} {which}"
    return f"{details.optimizer}{where}"


def _waits_for_a_step(context: Context, question: Question) -> Evidence | None:
    """An optimizer holds it and never made a step, though several passes gave it a gradient."""
    key, optimizer = question.key, context.waiting.get(question.key)
    given = (_ADDED, Action.ASSIGNED)
    added = [each for each in context.history_of(key) if {each.kind, each.action} & {*given}]
    if optimizer is None or not added or is_wrong(question.data.get("grad")):
        return None
    is_updated = any(e.number > added[0].number for e in updates_by_hand(context, key))
    if is_updated or context.steps_with(key):
        return None
    cleared = [each for each in context.happened_to(key, EventKind.GRAD) if each.action in CLEARS]
    clears = [each for each in cleared if added[0].number < each.number < added[-1].number]
    if not clears and (context.was_cut or len(added) < _MANY):
        return None
    where = f"at {mention(added[0].location)}"
    what = f"the gradients of {len(added):,} backward passes {where} were added up"
    if clears:
        by = f"{clearing_word(clears[0].word)} at {mention(clears[0].location)}"
        how = "assigned" if added[0].kind is EventKind.GRAD else "from backward"
        what = f"the gradient {how} {where} was cleared by {by}"
    locations = (added[0].location, *(event.location for event in clears[:1]))
    words = {"optimizer": optimizer, "what": what, "missing": without_call(context, "step")}
    return Evidence(words, locations=locations)


def clearings_of(context: Context, key: str) -> list[int]:
    """The numbers of the events that cleared the gradient of a leaf, in order."""
    return [e.number for e in context.happened_to(key, EventKind.GRAD) if e.action in CLEARS]


def cleared_before_step(context: Context, question: Question) -> Evidence | None:
    """``zero_grad`` cleared the gradient after backward, before the step that needs it."""
    history = context.history_of(question.key)
    steps = [at for at, each in enumerate(history) if each.kind is EventKind.STEP]
    before = history[: steps[-1]] if steps else []
    added = [at for at, each in enumerate(before) if each.kind is EventKind.ACCUMULATE]
    after = before[added[-1] + 1 :] if added else []
    clears = [at for at, each in enumerate(after) if each.action in CLEARS]
    if not clears or any(each.action is Action.ASSIGNED for each in after[clears[-1] :]):
        return None
    is_used = any(each.kind is EventKind.STEP for each in after[: clears[-1]])  # by an earlier one
    if is_used or set_aside(context, question.key) is not None:
        return None
    clear, step = after[clears[-1]], history[steps[-1]].location
    again, number = repeated_pass(context, before[added[-1]], clear), history[steps[-1]].number
    is_used = any(at + 1 in steps for at in added)  # by other steps, of which one was skipped
    if is_used and again is not None and again.number < number:
        return None  # that step used a pass that left it out
    between = (each for each in context.passes if clear.number < each.number < number)
    order, fix = " after backward and", "call zero_grad() before backward(), or after step()"
    order, fix = empty_pass(context, between) or (order, fix)
    words = {"word": clearing_word(clear.word), "clear": mention(clear.location), "order": order}
    return Evidence({**words, "step": mention(step), "fix": fix}, (), (clear.location, step))


def repeated_pass(context: Context, added: Event, clear: Event) -> Event | None:
    """The latest pass of the line of one, if it ran after the gradient of that was cleared."""
    found = (e for e in reversed(context.passes) if e.location == added.location)
    found = (e for e in found if getattr(e.details, "inputs", None) is None)
    return next((e for e in found if e.number > clear.number > added.number), None)


def set_aside(context: Context, key: str) -> Event | None:
    """Where ``.grad = None`` left a parameter out of the last step, which used other gradients."""
    for step, details in context.steps_with(key)[-1:]:
        rows = ((e for e in context.history_of(k) if e.number < step.number) for k in details.held)
        used = (each.kind is _ADDED for row in rows for each in [*row][-1:])
        is_used = context.cached((set_aside, step.number), partial(any, used))
        *_, last = (None, *(e for e in context.history_of(key) if e.number < step.number))
        is_clear = last is not None and (last.word, last.action) == ("grad", Action.SET_TO_NONE)
        return last if is_clear and is_used else None
    return None


def _cleared_in_each_pass(context: Context, question: Question) -> Evidence | None:
    """Passes of one line, of which the last before each step is used, and others are cleared."""
    # A pass for another purpose, such as that of a generator through its critic, has its own line,
    # or is followed by the step of another optimizer.
    dropped, since = list[tuple[Event, Event]](), list[tuple[Event, Event]]()
    events, added, used = context.history_of(question.key), list[Event](), 0
    for each in events:
        if each.kind is EventKind.ACCUMULATE:
            added.append(each)
        elif each.action in (*CLEARS, Action.ASSIGNED) and added:
            numbers = question.key, added[-1].number, each.number
            is_used = is_of_another(context, *numbers) or _is_moved(context, *numbers)
            if not is_used and each.action is not Action.ASSIGNED:
                since += [(one, each) for one in added]
            added = []  # what was assigned does not come from the last pass
        elif each.kind is EventKind.STEP:
            same = [pair for pair in since if added and pair[0].location == added[-1].location]
            if not same:
                return None
            dropped, since, added, used = dropped + same, [], [], used + len(added)
    if len(dropped) < 2 or any(map(_takes_a_closure, events)):
        return None
    line, clear = dropped[-1][0].location, dropped[-1][1]
    words = {"line": mention(line), "word": clearing_word(clear.word)}
    words["clear"] = mention(clear.location)
    words["count"] = f"{len(dropped):,} of {len(dropped) + used:,} backward passes"
    return Evidence(words, locations=(clear.location, line))


def is_of_another(context: Context, key: str, added: int, clear: int) -> bool:
    """Whether an optimizer that does not hold a leaf made a step between two events."""
    return any(key not in d.held for step, d in context.steps if added < step.number < clear)


def _is_moved(context: Context, key: str, added: int, clear: int) -> bool:
    """Whether the program changed a leaf itself between two events, as uphill by its gradient."""
    return any(added < e.number < clear for e in updates_by_hand(context, key))


def _takes_a_closure(event: Event) -> bool:
    """Whether a step runs backward itself, several times, as that of LBFGS."""
    optimizer = getattr(event.details, "optimizer", "")
    return optimizer == "LBFGS" or (bool(optimizer) and "closure" in event.location.text)


def is_frozen(context: Context, key: str) -> bool:
    """Whether ``requires_grad`` of a leaf was switched off."""
    cuts = (context.lost or {}).get(key, ())
    switched = context.happened_to(key, EventKind.REQUIRES_GRAD)
    is_off = bool(switched) and switched[-1].action is Action.REQUIRES_GRAD_OFF
    return is_off or any(cut.edge.get("cause") is Cause.REQUIRES_GRAD for cut in cuts)


def steps_with_gradients(context: Context) -> list[Step]:
    """The steps of optimizers for which a pass computed a gradient: not all were assigned."""
    added = {key for each in context.happened(_ADDED) for key in each.nodes}
    return [row for row in context.steps if not added.isdisjoint(row[1].held)]


def _frozen_and_moved(context: Context, question: Question) -> Evidence | None:
    off = context.happened_to(question.key, EventKind.REQUIRES_GRAD)
    is_off = off[-1].action is Action.REQUIRES_GRAD_OFF if off else not question.is_leaf
    if not is_off or question.data.get("op"):
        return None
    later = (row for row in context.steps if off and row[0].number > off[-1].number)
    moving = later if off else steps_with_gradients(context)
    moving = (row for row in moving if question.key in {*row[1].changed} - {*row[1].same})
    moved = [event for event, details in moving if details.changed_values != 0]
    if not moved:
        return None
    lines = (*(each.location for each in off[-1:]), moved[-1].location)
    at = f" at {mention(lines[0])}" if off else " before the recording"
    words = {"off": at, "step": mention(lines[-1]), "name": question.code}
    return Evidence(words, locations=lines)


def scale_of(context: Context, key: str) -> float | None:
    """The factor by which GradScaler scaled the gradient of a leaf, unless it was unscaled."""
    is_scaled = context.happened_to(key, _ADDED) and not is_unscaled(context, key)
    scaling = scaling_of(context, context.before or context.graph) if is_scaled else None
    return scaling and scaling.factor


def is_unscaled(context: Context, key: str) -> bool:
    """Whether ``GradScaler`` unscaled the gradient of a leaf, itself or in its ``step``."""
    changes = context.gradient_changes(key)
    return any(each.word in ("unscale_", "step") and each.action in CHANGES for each in changes)


_TOO_EARLY = (
    (Verdict.CLEARED, cleared_before_step),
    (Verdict.ZERO, lambda c, it: cleared_before_step(c, it) if it.has_zero_gradient else None),
    (Verdict.NO_STEP, cleared_before_step),  # a later pass gave it a gradient
)

first_training_rules: tuple[Rule[Any, Any], ...] = (
    undone,
    Rule(
        "its optimizer made no step",
        Verdict.NO_STEP,
        _waits_for_a_step,
        "{optimizer} holds it and has made no step: {what}, and no step used it{missing}",
        "call step() of that optimizer after backward()",
        events=(EventKind.ACCUMULATE, EventKind.GRAD),
        to_it=True,
        given="waiting",
    ),
    Rule(
        "an update that assigns to a variable",
        Verdict.NO_STEP,
        _rebound,
        "no step changed it: the update at {line} assigns a new tensor to the variable {name}{of}, "
        "and changes no parameter",
        "change the parameter in place: with torch.no_grad(): {name} -= ...",
        events=(EventKind.ACCUMULATE,),
        to_it=True,
    ),
    *(
        Rule(
            "zero_grad between backward and step",
            verdict,
            match,
            "{word} at {clear} cleared it{order} before the step at {step}, which had no gradient "
            "to use",
            events=(EventKind.STEP,),
        )
        for verdict, match in _TOO_EARLY
    ),
    Rule(
        "cleared in each pass, and a step after several",
        Verdict.NO_STEP,
        _cleared_in_each_pass,
        "{word} at {clear} cleared the gradients of {count} at {line} before a step used them",
        "to add up several passes for each step, call zero_grad() only after step()",
        events=(EventKind.STEP, EventKind.GRAD),
    ),
    Rule(
        "a frozen tensor that an optimizer still changes",
        Verdict.MOVED,
        _frozen_and_moved,
        "it was frozen{off}, and the optimizer's step at {step} still changed it: its gradient was "
        "not None, so this old gradient, momentum or weight decay moves it",
        "set its gradient to None, {name}.grad = None, or create the optimizer without it",
        events=(EventKind.STEP,),
    ),
    Rule(
        "an attribute without effect",
        Verdict.WITHOUT_EFFECT,
        _attribute,
        "{what} has no effect, as {why}: it requires grad{where}",
        "to freeze it: {fix}",
        docs="A plain attribute of a tensor or module with a name like requires_grad.",
        given="without_effect",
    ),
    Rule(
        "in a plain container of a module",
        Verdict.NOT_REGISTERED,
        _not_registered,
        "parameters() does not list it: {owner} keeps it in {container}, a {plain}{made}{held}",
        "register it: {register}",
        given="unregistered",
    ),
)


def _used_scaled(context: Context, question: Question) -> Evidence | None:
    """A step of the optimizer itself used a gradient that GradScaler scaled."""
    scale = scale_of(context, question.key) if context.is_recorded else None
    added = context.happened_to(question.key, EventKind.ACCUMULATE)
    used = [event for event, _ in context.steps_of(question.key) if added]
    if scale in (None, 1.0) or not used or used[-1].number < added[-1].number:
        return None
    line = used[-1].location
    return Evidence({"scale": f"{scale:,g}", "line": mention(line)}, locations=(line,))


def _unscaled_alone(context: Context, question: Question) -> Evidence | None:
    """GradScaler unscaled the gradient of a loss that it had not scaled."""
    grad, graph = question.data.get("grad"), context.graph_of_latest_pass(question.key)
    changes = [each.action for each in context.gradient_changes(question.key)]
    if changes != [Action.UNSCALED] or grad is None or graph is None:
        return None
    added = context.happened_to(question.key, EventKind.ACCUMULATE)[-1]
    before, nodes = getattr(added.details, "after", None), graph._node.values()
    ops = context.cached(("ops", id(graph)), lambda: {d.get("op", "") for d in nodes})
    is_smaller = before is not None and 0 < 2 * (grad.norm or 0) < (before.norm or 0)
    found = Evidence({"line": mention(added.location)}, locations=(added.location,))
    return found if is_smaller and not any(op.startswith(SCALER) for op in ops) else None


training_rules: tuple[Rule[Any, Any], ...] = (
    undone,
    Rule(
        "steps that change no value",
        Verdict.NO_STEP,
        unchanged,
        "{steps} changed no value of it: {why}",
        events=(EventKind.STEP,),
    ),
    Rule(
        "a step with scaled gradients",
        Verdict.EXPLODING,
        _used_scaled,
        "the step at {line} used its gradient {scale} times too large: GradScaler scaled the loss, "
        "and nothing unscaled it",
        "let the scaler make the step: scaler.step(optimizer), then scaler.update()",
        events=(EventKind.STEP,),
    ),
    Rule(
        "unscaled, and not scaled before",
        Verdict.VANISHING,
        _unscaled_alone,
        "GradScaler divided it by its scale, and backward at {line} began with a loss that was not "
        "scaled",
        "call backward on the result of scale: scaler.scale(loss).backward()",
        events=(EventKind.GRAD,),
    ),
    Rule(
        "in no optimizer",
        Verdict.NOT_TRAINED,
        _in_no_optimizer,
        "{none}: {holder}",
        events=(EventKind.STEP,),
        docs="An optimizer that has not stepped yet counts, and so does an update by hand. A "
        "tensor of one element, or a vector that is broadcast, that is no parameter counts if "
        "nothing cleared or returned its gradients, and so does one of which an older tensor is "
        "held.",
    ),
)


def uses_of(context: Context, key: str) -> list[int]:
    """The numbers of the events that used the gradient of a leaf: steps, and changes by hand."""
    steps = [event.number for event, _ in context.steps_with(key)]
    since = [event.number for event in context.happened_to(key, EventKind.ACCUMULATE)[:1]]
    changes = (each.number for each in updates_by_hand(context, key) if since)
    return sorted([*steps, *(each for each in changes if each > since[0])])
