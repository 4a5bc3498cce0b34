"""Rules for a leaf that is not reachable from the roots: cut, not used, or unknown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradviz.diagnosis.answers import Verdict
from gradviz.diagnosis.context import RECORD, Context, CutEdge, Question, call_of
from gradviz.diagnosis.cuts import FIX_OF_CAUSE, cut_words, fix_of_cut, lines_of, number_reads
from gradviz.diagnosis.lines import locations_of, mention
from gradviz.diagnosis.rule import Evidence, Needs, Rule
from gradviz.facts import Action, EventKind, SourceLocation
from gradviz.graph import Cause, EdgeKind, GradGraph, NodeData, NodeKind
from gradviz.graph.algorithms import ancestors, word_of
from gradviz.graph.operations import operation

__all__ = ["not_connected_rules"]


_ADDS = frozenset(("add", "sub", "rsub", "neg", "sum", "mean", "clone", "to"))


def _is_unreachable(context: Context, question: Question) -> bool:
    if question.data["kind"] is NodeKind.UNTRACKED or not context.roots:
        return False
    if not question.is_leaf and "grad" not in question.data:
        return False
    return not context.is_reachable(question.key)


def _cuts_of(context: Context, question: Question) -> Sequence[CutEdge]:
    """The cuts between the tensor and the roots, those that can be removed first."""
    if not _is_unreachable(context, question):
        return ()
    cuts = context.cuts.of(question.key) if question.key else []
    lost = list(context.lost.get(question.key, ()))
    # The graph shows what was written into a tensor also after it was used.
    lines = {each.edge.get("source") for each in lost}
    found = [cut for cut in cuts if cut.edge.get("source") in lines] or lost or cuts
    found = [each for each in found if not _is_of_a_constant(context, question.key, each)]
    found.sort(key=lambda cut: cut.edge.get("cause") is Cause.NOT_DIFFERENTIABLE)
    return found


def _derivative_without_it(context: Context, question: Question) -> Evidence | None:
    """The result was computed from a derivative that does not depend on the tensor."""
    if not _is_unreachable(context, question) or not question.key:
        return None
    cuts = context.cuts.of(question.key)
    if not cuts or not all(_is_of_a_constant(context, question.key, cut) for cut in cuts):
        return None
    words = {"root": context.root_names, "cut": cut_words(context, cuts[0])}
    return Evidence(words, (cuts[0].target,), lines_of(context, *cuts), cuts[0].target)


def _is_of_a_constant(context: Context, key: str, cut: CutEdge) -> bool:
    """Whether a derivative was cut that does not depend on a leaf: it is only added, as a bias."""
    graph = context.graph
    if cut.edge.get("cause") is not Cause.AUTOGRAD_GRAD or cut.source == cut.target:
        return False
    between = ancestors(graph, [cut.source])
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
    return cut.source in seen


def _is_added(graph: GradGraph, key: str, number: int) -> bool:
    """Whether the derivative of an operation in an input does not depend on that input."""
    data: NodeData = graph.nodes[key]
    op = data.get("op", "")
    row = operation(op)
    if data["kind"] is not NodeKind.OPERATION or op in _ADDS or row.rearranges:
        return True
    return row.factors is not None and number not in row.factors


def _cut(context: Context, question: Question) -> Evidence | None:
    cuts = _cuts_of(context, question)
    if not cuts or cuts[0].edge.get("cause", Cause.NOT_RECORDED) is Cause.NOT_RECORDED:
        return None
    lines = list(dict.fromkeys(cut.edge.get("source", "") for cut in cuts))
    words = {
        "root": context.root_names,
        "cut": cut_words(context, cuts[0]),
        "more": f", and at {', '.join(lines[1:4])}" if lines[1:] else "",
        "fix": fix_of_cut(context, cuts[0]),
    }
    targets = tuple(cut.target for cut in cuts)
    return Evidence(words, targets, lines_of(context, *cuts), cuts[0].target)


def _cut_not_recorded(context: Context, question: Question) -> Evidence | None:
    cuts = _cuts_of(context, question)
    if not cuts:
        return None
    targets = tuple(cut.target for cut in cuts)
    return Evidence({"root": context.root_names}, targets, lines_of(context, *cuts))


def _switched_on_too_late(context: Context, question: Question) -> Evidence | None:
    if not _is_unreachable(context, question):
        return None
    switched = [
        event
        for event in context.happened(EventKind.REQUIRES_GRAD)
        if question.key in event.nodes
        or not event.nodes
        or event.count > 1
        or any(_may_be(context, question, key) for key in event.nodes)
    ]
    off = [event for event in switched if event.action is Action.REQUIRES_GRAD_OFF]
    if not off or switched[-1] is off[-1]:
        return None
    line, again = off[-1].location, switched[-1].location
    words = {"root": context.root_names, "off": mention(line), "on": mention(again)}
    return Evidence(words, locations=(line, again))


def _may_be(context: Context, question: Question, key: str) -> bool:
    """Whether a frozen tensor can be the explained one: it has no other name."""
    data: NodeData = context.graph.nodes[key] if key in context.graph else {}
    return data.get("kind") is NodeKind.UNTRACKED and data.get("name", "") in ("", question.name)


def _became_numbers(context: Context, question: Question) -> Evidence | None:
    """Its data went into a number or array before the pass, and no tensor carries it on."""
    if not _is_unreachable(context, question):
        return None
    before = {str(event.location) for event in number_reads(context)}
    reads = [row for row in context.numbers.get(question.key, ()) if row.source in before]
    if not reads:
        return None
    read = reads[-1]
    by = f"it became plain numbers by {read.word}() at {mention(read.source, read.inside)}"
    fix = FIX_OF_CAUSE[Cause.NUMPY if read.word == "numpy" else Cause.ITEM]
    fix = f"{read.source}: {fix}"
    if read.cut.edge.get("cause") is Cause.NOT_DIFFERENTIABLE:
        by, fix = f"{cut_words(context, read.cut)}; {by}", fix_of_cut(context, read.cut)
    words = {"root": context.root_names, "by": by, "fix": fix}
    lines = (*lines_of(context, read.cut), *locations_of([read.source, read.inside]))
    return Evidence(words, locations=lines)


def _may_be_inside(context: Context, question: Question) -> Evidence | None:
    """Parameters used inside a Function or a reentrant checkpoint are not in the graph."""
    if not _is_unreachable(context, question) or not context.functions:
        return None
    nodes = context.graph.nodes
    using = [key for key in context.functions if question.key in nodes[key].get("uses_inside", ())]
    # For a recorded Function, the tensors that its forward read are known.
    unknown = [key for key in context.functions if not nodes[key].get("source")]
    if not using and not unknown:
        return None
    key = (using or unknown)[0]
    data = nodes[key]
    line, is_checkpoint = data.get("source", ""), data.get("op") == "checkpoint"
    has_run = bool(context.passes or context.freed or context.with_grad)
    more = ", and what is used there is not in the graph"
    fix = "pass it to the Function as an input, and return its gradient from backward"
    if is_checkpoint:
        fix = "checkpoint(..., use_reentrant=False), which records what is used inside"
        if not has_run:
            more = ", a reentrant checkpoint: what is used there is recorded when backward runs"
            fix = (
                f"call {call_of(context)}: a parameter used there gets its gradient then; or {fix}"
            )
    elif has_run:
        more = ", and backward of a Function returns gradients of its inputs only"
    words = {
        "root": context.root_names,
        "used": "is used" if using else "may be used",
        "function": f"{word_of(data)} at {mention(line)}" if line else word_of(data),
        "more": more,
        "fix": fix,
    }
    return Evidence(words, (key,), locations_of([line]), key)


def _numbers_were_taken(context: Context, question: Question) -> Evidence | None:
    if not _is_unreachable(context, question):
        return None
    locations = _numbers_taken(context, question)
    if not locations:
        return None
    words = {
        "root": context.root_names,
        "line": mention(locations[0]),
        "where": locations[0],
        "fix": FIX_OF_CAUSE[Cause.ITEM],
    }
    return Evidence(words, locations=tuple(locations))


def _numbers_taken(context: Context, question: Question) -> list[SourceLocation]:
    """Lines before backward that converted tensors to numbers, which may come from a leaf.

    Numbers of which the leaves are known come from no other leaf.
    """
    own = {read.source for read in context.numbers.get(question.key, ())}
    known = {read.source for reads in context.numbers.values() for read in reads} - own
    return [event.location for event in number_reads(context) if str(event.location) not in known]


def _not_used_as_far_as_seen(context: Context, question: Question) -> Evidence | None:
    if not context.hides_operations:
        return None
    return _not_used(context, question)


def _not_used(context: Context, question: Question) -> Evidence | None:
    if not _is_unreachable(context, question):
        return None
    return Evidence({"root": context.root_names})


not_connected_rules: tuple[Rule[Any, Any], ...] = (
    Rule(
        "the path to the result is cut",
        Verdict.CUT,
        _cut,
        "the path to {root} is cut by {cut}{more}",
        "{fix}",
        docs="Data flowed from the tensor to the result, and each path crosses a cut. A cut that "
        "can be removed is named before an operation that has no gradient.",
    ),
    Rule(
        "the path to the result is cut, cause not recorded",
        Verdict.CUT,
        _cut_not_recorded,
        "its data flows into {root}, but no gradient flows back; the cause was not recorded",
        lambda found: RECORD,
    ),
    Rule(
        "a derivative that does not depend on it",
        Verdict.NOT_CONNECTED,
        _derivative_without_it,
        "{root} was computed from a derivative, {cut}, which does not depend on it: it was only "
        "added",
        docs="A bias that is added in a linear function has no part in the derivative of it.",
    ),
    Rule(
        "requires_grad was switched on too late",
        Verdict.NOT_CONNECTED,
        _switched_on_too_late,
        "not used by {root} while it required grad; if it is one of the tensors frozen at {off}, "
        "what used it before it was switched on again at {on} was computed without it",
        "switch it on before the forward pass: requires_grad_(True)",
        Needs.RECORDING,
        (EventKind.REQUIRES_GRAD,),
    ),
    Rule(
        "it was converted to numbers",
        Verdict.NOT_CONNECTED,
        _became_numbers,
        "no tensor carries it to {root}: {by}",
        "{fix}",
        Needs.RECORDING,
        docs="Its data was read by item(), float() or numpy(), and no tensor carries it further.",
    ),
    Rule(
        "it may be used inside a Function",
        Verdict.NOT_KNOWN,
        _may_be_inside,
        "no recorded operation of {root} uses it; it {used} inside {function}{more}",
        "{fix}",
        docs="Parameters used inside an autograd.Function or a reentrant checkpoint are no inputs "
        "of a node: that they are not used cannot be known from the graph.",
    ),
    Rule(
        "values were read as numbers",
        Verdict.NOT_CONNECTED,
        _numbers_were_taken,
        "no tensor carries it to {root}; values were read as numbers at {line}, whose further use "
        "is not recorded",
        "{where}: {fix}",
        Needs.RECORDING,
        (EventKind.CUT,),
    ),
    Rule(
        "no recorded operation uses it",
        Verdict.NOT_CONNECTED,
        _not_used_as_far_as_seen,
        "no operation that {root} was computed from uses it",
        "use it in what {root} is computed from; if it is used, look where its values go on "
        "without a gradient: nn.Parameter(...), .data, a copy, or before it required grad",
        Needs.RECORDING,
        docs="Some operations are in no frame, so a path through them cannot be excluded.",
    ),
    Rule(
        "not used",
        Verdict.NOT_CONNECTED,
        _not_used,
        "not used by {root}",
        "use it in what {root} is computed from, or leave it out of the optimizer",
        Needs.RECORDING,
        docs="Every operation of the recording is known, and none carries its data to the result.",
    ),
    Rule(
        "not reachable, cause not recorded",
        Verdict.NOT_CONNECTED,
        _not_used,
        "it is not reachable from {root}: it was not used, or it was cut off; which of them "
        "was not recorded",
        lambda found: RECORD,
    ),
)
