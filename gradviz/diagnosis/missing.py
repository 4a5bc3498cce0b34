"""Why there is no gradient: what the graph proves, and what only a recording knows."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from dataclasses import replace

from gradviz.diagnosis.answers import Explanation
from gradviz.diagnosis.context import Context, Question
from gradviz.diagnosis.cuts import (
    FIX_OF_CAUSE,
    TURN_ON,
    cut_words,
    evidence_of,
    fix_of_cut,
    left_off,
    lost_on_the_way,
)
from gradviz.diagnosis.lines import mention
from gradviz.diagnosis.verdict import Verdict
from gradviz.diagnosis.ways import CutEdge, below
from gradviz.graph import Cause, GradGraph, NodeData, NodeKind
from gradviz.graph.operations import operation
from gradviz.story import Event, EventKind

__all__ = ["RECORD", "explain_missing"]

RECORD = (
    "to know the cause, record the program: with gradviz.record() as run: ..., then "
    "gradviz.explain(run); or gradviz run train.py"
)


def explain_missing(question: Question, moment: Context) -> Explanation:
    """Explain why the ``.grad`` of a tensor is None."""
    kind = question.data["kind"]
    if kind in (NodeKind.PARAMETER, NodeKind.LEAF):
        return _of_leaf(question, moment)
    if kind is NodeKind.UNTRACKED:
        return _of_untracked(question, moment)
    return _of_non_leaf(question, moment)


# Leaves.


def _of_leaf(question: Question, moment: Context) -> Explanation:
    if moment.is_recorded and (told := _of_recorded_leaf(question, moment)):
        return told
    if not moment.roots:
        if moment.is_recorded:
            reason = "nothing that backward could start from was computed from it"
            fix, off = "", left_off(moment)
            if off is not None:
                reason += f": gradients are off since {off.word}(False) at {mention(off.source)}"
                fix = TURN_ON.format(off.source)
            lines = [off.source] if off is not None else []
            return moment.answer(question, Verdict.NOT_CONNECTED, reason, fix, lines)
        reason = "nothing was added to it, and no result was found that backward could start from"
        fix = f"say which result: gradviz.explain({question.name}, loss)"
        return moment.answer(question, Verdict.NOT_KNOWN, reason, fix)
    if not moment.has_way(question.key):
        return _of_stranger(question, moment)
    return _of_connected(question, moment)


def _of_connected(question: Question, moment: Context) -> Explanation:
    root = moment.root_names
    if not moment.is_recorded and (sign := _sign_of_a_pass(question, moment)):
        reason = (
            f"it is connected to {root}, and a backward pass has run ({sign}); whether its "
            "gradient was cleared, left out by inputs= or returned by torch.autograd.grad was not "
            "recorded"
        )
        return moment.answer(question, Verdict.NOT_KNOWN, reason, RECORD)
    reason = f"it is connected to {root}, and no backward pass has added to it so far"
    if not moment.is_recorded:
        reason = f"it is connected to {root}, and nothing was added to it since it was last None"
    return moment.answer(question, Verdict.NOT_RUN, reason, f"call {_call(moment)}")


def _sign_of_a_pass(question: Question, moment: Context) -> str:
    """What tells that backward has run, when nobody watched; "" for nothing."""
    if moment.freed and moment.freed & moment.way(question.key):
        return "the saved tensors are freed"
    return "others have one" if moment.with_grad else ""


def _call(moment: Context) -> str:
    key = moment.roots[0]
    name = moment.graph.nodes[key].get("name") or "loss"
    size = moment.graph.nodes[key].get("shape", ())
    return f"{name}.backward()" if size in ((), (1,)) else f"{name}.sum().backward()"


def _of_stranger(question: Question, moment: Context) -> Explanation:
    """A leaf that no gradient from the roots comes to."""
    cuts: Sequence[CutEdge] = moment.lost.get(question.key, ())
    if question.key and (shown := moment.cuts.of(question.key)):
        cuts = shown
    root = moment.root_names
    if cuts:
        return _of_cuts(question, moment, cuts)
    if frozen := _frozen_before(question, moment):
        return frozen
    if moment.is_recorded:
        if exits := moment.exits.of(question.key):
            words = cut_words(moment, exits[0])
            reason = f"no tensor carries it to {root}: it became plain numbers by {words}"
            evidence = evidence_of(moment, exits[0])
            answer = moment.answer(
                question, Verdict.NOT_CONNECTED, reason, fix_of_cut(moment, exits[0]), evidence
            )
            return replace(answer, culprit=exits[0].target)
        if lines := _numbers_taken(moment):
            reason = (
                f"no tensor carries it to {root}; numbers were taken out at {mention(lines[0])}, "
                "and what becomes of those cannot be followed"
            )
            fix = f"{lines[0]}: {FIX_OF_CAUSE[Cause.ITEM]}"
            return moment.answer(question, Verdict.NOT_CONNECTED, reason, fix, lines)
        reason = f"not used by {root}"
        fix = f"use it in what {root} is computed from, or leave it out of the optimizer"
        if moment.hides_operations:
            reason = f"no operation behind {root} uses it"
            fix = (
                f"use it in what {root} is computed from; if it is used, look where its values go "
                "on without a gradient: nn.Parameter(...), .data, a copy, or before it required "
                "grad"
            )
        return moment.answer(question, Verdict.NOT_CONNECTED, reason, fix)
    reason = (
        f"no way for a gradient leads from {root} to it: it was not used, or it was cut off; "
        "which of them was not recorded"
    )
    return moment.answer(question, Verdict.NOT_CONNECTED, reason, RECORD)


def _frozen_before(question: Question, moment: Context) -> Explanation | None:
    """A leaf that may have been switched on again too late: its key is another while it is off."""
    switched = [
        event
        for event in moment.happened(EventKind.REQUIRES_GRAD)
        if not event.node or _may_be(question, moment.graph, event.node)
    ]
    off = [event for event in switched if event.detail.startswith("off")]
    if not off or switched[-1] is off[-1]:
        return None
    line, again = off[-1].source, switched[-1].source
    reason = (
        f"not used by {moment.root_names} while it required grad; if it is one of the tensors "
        f"frozen at {mention(line)}, what used it before it was switched on again at "
        f"{mention(again)} was computed without it"
    )
    fix = "switch it on before the forward pass: requires_grad_(True)"
    return moment.answer(question, Verdict.NOT_CONNECTED, reason, fix, [line, again])


def _may_be(question: Question, graph: GradGraph, key: str) -> bool:
    """Whether a frozen tensor may be the one that is asked about: it has no other name."""
    data: NodeData = graph.nodes[key] if key in graph else {}
    return data.get("kind") is NodeKind.UNTRACKED and data.get("name", "") in ("", question.name)


def _of_cuts(question: Question, moment: Context, cuts: Sequence[CutEdge]) -> Explanation:
    first, root = cuts[0], moment.root_names
    lines = list(dict.fromkeys(cut.edge.get("source", "") for cut in cuts))
    cause = first.edge.get("cause", Cause.NOT_RECORDED)
    evidence = evidence_of(moment, *cuts)
    if cause is Cause.NOT_RECORDED:
        reason = f"its data went to {root}, but no gradient comes back; why was not recorded"
        return moment.answer(question, Verdict.CUT, reason, RECORD, evidence)
    reason = f"the path to {root} is cut by {cut_words(moment, first)}"
    if lines[1:]:
        reason += f", and at {', '.join(lines[1:4])}"
    answer = moment.answer(question, Verdict.CUT, reason, fix_of_cut(moment, first), evidence)
    return replace(answer, culprit=first.target)


def _numbers_taken(moment: Context) -> list[str]:
    """Lines before backward where tensors that no frame shows became numbers or arrays.

    What is taken right after a backward pass, as by ``print(loss.item())``, was computed before it.
    """
    passes = [event.number for event in moment.happened(EventKind.BACKWARD)]
    made = [event.number for event in moment.happened(EventKind.OPERATION)]

    def is_after_a_pass(number: int) -> bool:
        before = passes[: bisect(passes, number)]
        return bool(before) and bisect(made, number) == bisect(made, before[-1])

    return [
        event.source
        for event in moment.happened(EventKind.CUT)
        if operation(event.word).reads_value
        and event.node not in moment.graph
        and event.source
        and (not passes or event.number < passes[-1])
        and not is_after_a_pass(event.number)
    ]


def _of_recorded_leaf(question: Question, moment: Context) -> Explanation | None:
    """What the events tell; None when it is a matter of connection."""
    key, name = question.key, question.name
    added = moment.happened_to(key, EventKind.ACCUMULATE)
    if added:
        line = _cleared_at(moment, added[-1], key)
        where = f" by {line.word} at {mention(line.source)}" if line else ", by what was not seen"
        reason = f"backward at {added[-1].source} added to it, and it was cleared afterwards{where}"
        fix = f"read {name}.grad before that, or clear it at the start of the next step"
        evidence = [added[-1].source, line.source if line else ""]
        return moment.answer(question, Verdict.CLEARED, reason, fix, evidence)
    passes = moment.happened(EventKind.BACKWARD)
    if not passes or not moment.has_way(key):
        return None
    last = passes[-1]
    if all(each.word == "grad" for each in passes):
        reason = (
            f"torch.autograd.grad at {mention(last.source)} returns gradients, "
            "and leaves .grad as it is"
        )
        fix = f"call {_call(moment)} instead"
        return moment.answer(question, Verdict.LEFT_OUT, reason, fix, [last.source])
    if "inputs:" in last.detail:
        reason = f"backward at {mention(last.source)} was given inputs= without it"
        fix = f"add {name} to inputs=, or leave inputs= out"
        return moment.answer(question, Verdict.LEFT_OUT, reason, fix, [last.source])
    return None


def _cleared_at(moment: Context, added: Event, key: str) -> Event | None:
    """The event that took a gradient away, when there is one alone that may have."""
    clearing = [
        event
        for event in moment.happened(EventKind.GRAD)
        if event.number > added.number and "set to None" in event.detail
    ]
    own = [event for event in clearing if event.node == key]
    several = [event for event in clearing if not event.node]
    if own:
        return own[0] if not several or own[0].number < several[0].number else None
    return several[0] if len({event.source for event in several}) == 1 else None


# Other tensors.


def _of_untracked(question: Question, moment: Context) -> Explanation:
    data, name = question.data, question.name
    dtype = data.get("dtype", "")
    if not dtype.startswith(("float", "bfloat", "complex", "unknown")):
        reason = f"it is {dtype}, and only floating-point and complex tensors have gradients"
        fix = f"make it floating point: {name} = {name}.float().requires_grad_()"
        return moment.answer(question, Verdict.INTEGER, reason, fix)
    if data.get("inference"):
        reason = "it was made under inference_mode, which keeps it out of autograd for good"
        line = data.get("source", "")
        fix = "make it under torch.no_grad() instead, or take a copy outside: "
        fix += f"{name} = {name}.clone().requires_grad_()"
        if line:
            reason += f", at {mention(line)}"
        return moment.answer(question, Verdict.INFERENCE, reason, fix, [line])
    off = [
        event
        for event in moment.happened(EventKind.REQUIRES_GRAD)
        if event.node and event.node == question.key and event.detail == "off"
    ]
    if off or question.is_parameter:
        where = f", switched off at {mention(off[-1].source)}" if off else ""
        fix = f"if it is to be trained: {name}.requires_grad_(True) before the forward pass"
        reason = f"it is frozen: requires_grad is False{where}"
        return moment.answer(question, Verdict.FROZEN, reason, fix, [e.source for e in off[-1:]])
    if question.key and (cut := lost_on_the_way(moment.graph, question.key)):
        reason = f"its data comes from what requires grad, cut by {cut_words(moment, cut)}"
        evidence = evidence_of(moment, cut)
        return moment.answer(question, Verdict.CUT, reason, fix_of_cut(moment, cut), evidence)
    fix = f"if it is a leaf of yours: {name}.requires_grad_() before the forward pass"
    if moment.is_recorded and question.key:
        reason = "it does not require grad, and nothing that does went into it"
        return moment.answer(question, Verdict.UNTRACKED, reason, fix)
    reason = "it does not require grad; whether it never did, or was cut off, was not recorded"
    return moment.answer(question, Verdict.UNTRACKED, reason, fix)


def _of_non_leaf(question: Question, moment: Context) -> Explanation:
    name, data = question.name, question.data
    if "grad" in data:  # it retains its gradient, and has none
        if not moment.has_way(question.key):
            return _of_stranger(question, moment)
        return _of_connected(question, moment)
    maker = _maker(moment.graph, question.key)
    op, line = maker.get("op", "an operation"), maker.get("source", "")
    reason = f"it is no leaf: {op} made it"
    reason += f" at {mention(line)}" if line else ""
    reason += ", and autograd keeps .grad for leaves alone"
    below_it = below(moment.graph, [question.key]) if question.key else set()
    leaves = [key for key in moment.graph.leaves if key in below_it]
    if (
        operation(op).views
        and len(leaves) == 1
        and (leaf := moment.graph.nodes[leaves[0]].get("name"))
    ):
        fix = f"it is a view of {leaf}: read {leaf}.grad, or {name}.retain_grad() before backward"
    elif operation(op).converts:
        fix = (
            f"to train {name} itself, make it a leaf once it is as it should be: "
            f"{name} = {name}.detach().requires_grad_(); else {name}.retain_grad() before backward"
        )
    else:
        fix = (
            f"call {name}.retain_grad() before backward; to update a parameter, change it in "
            f"place: with torch.no_grad(): {name} -= ..."
        )
    return moment.answer(question, Verdict.NON_LEAF, reason, fix, [line])


def _maker(graph: GradGraph, key: str) -> NodeData:
    if key not in graph:
        return {}
    data: NodeData = graph.nodes[key]
    if data["kind"] is NodeKind.RESULT:
        for source, _ in graph.inputs(key):
            return _maker(graph, source)
    return data
