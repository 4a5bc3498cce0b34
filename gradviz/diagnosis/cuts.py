"""Cuts between a tensor and a result: their description, and the fix."""

from __future__ import annotations

import ast
from bisect import bisect
from collections.abc import Sequence

from gradviz.diagnosis.context import Context
from gradviz.diagnosis.lines import (
    is_only_shown,
    is_own,
    lines_calling,
    locations_of,
    mention,
    statement_at,
)
from gradviz.diagnosis.paths import CutEdge, word_of
from gradviz.facts import Action, EventKind, SourceLocation
from gradviz.graph import Cause, EdgeData, EdgeKind, GradGraph, NodeKind
from gradviz.graph.algorithms import ancestors
from gradviz.graph.operations import words
from gradviz.story import Event

__all__ = [
    "FIX_OF_CAUSE",
    "TURN_ON",
    "cut_words",
    "fix_of_cut",
    "is_known_cut",
    "left_off",
    "twin_of",
    "lines_of",
    "lost_on_the_way",
    "number_reads",
]

FIX_OF_CAUSE = {
    Cause.DETACH: "leave out the detach()",
    Cause.NO_GRAD: "compute it outside of torch.no_grad()",
    Cause.INFERENCE_MODE: "compute it outside of torch.inference_mode()",
    Cause.DATA: "use the tensor itself instead of .data",
    Cause.ITEM: "keep it a tensor: leave out item(), float() or tolist(); several become one by "
    "torch.stack",
    Cause.NUMPY: "compute it with torch instead of numpy",
    Cause.COPY: "use the tensor itself, or torch.stack for several, instead of torch.tensor",
    Cause.REQUIRES_GRAD: "switch it on again before the forward pass: requires_grad_(True)",
    Cause.AUTOGRAD_GRAD: "pass create_graph=True to it",
    Cause.CUSTOM_FUNCTION: "let an input of it require grad: x.requires_grad_(); for a checkpoint, "
    "checkpoint(..., use_reentrant=False)",
    Cause.VALUES_COPIED: "compute with the tensor itself; a module takes it as a parameter by "
    "torch.func.functional_call(module, {name: tensor}, inputs)",
    Cause.NOT_DIFFERENTIABLE: "use an operation that has a gradient, such as a soft version of it",
}
_TWINS = {
    "all_gather": "all_gather(tensor)",
    "all_gather_into_tensor": "all_gather(tensor), and torch.cat",
    "all_gather_single": "all_gather(tensor), and torch.cat",
    "all_reduce": "all_reduce(tensor)",
    "all_to_all": "all_to_all(output_tensor_list, input_tensor_list)",
    "all_to_all_single": "all_to_all_single(output, input)",
    "broadcast": "broadcast(tensor, src)",
    "gather": "gather(tensor, dst)",
    "reduce": "reduce(tensor, dst)",
    "reduce_scatter": "reduce_scatter(output, input_list)",
    "scatter": "scatter(tensors, src)",
}
"""The functions of ``torch.distributed.nn.functional`` whose results have a gradient."""
_WORD_OF_CAUSE = {
    Cause.DETACH: "detach()",
    Cause.NO_GRAD: "no_grad",
    Cause.INFERENCE_MODE: "inference_mode",
    Cause.DATA: ".data",
    Cause.NUMPY: "numpy()",
    Cause.COPY: "torch.tensor()",
    Cause.REQUIRES_GRAD: "requires_grad_(False)",
    Cause.AUTOGRAD_GRAD: "torch.autograd.grad",
}
_COPIED = {
    "": "a copy of its values",
    "data": "an assignment to .data",
    "Parameter": "nn.Parameter()",
}
TURN_ON = (
    "{}: switch gradients on again afterwards, torch.set_grad_enabled(True), or use it as a "
    "block: with torch.set_grad_enabled(False):"
)
_OF_A_LIBRARY = (
    "call a function of that library that keeps the gradient, or compute this part in your own code"
)
_VALUE_READS = words(lambda row: row.reads_value)
_NO_CUT = (Cause.CONSTANT, Cause.NOT_RECORDED, None)
_DRAWS = ("normal", "multinomial", "bernoulli", "poisson", "binomial", "_sample_dirichlet")


def cut_words(context: Context, cut: CutEdge) -> str:
    """``detach() at train.py:31 (h = h.detach())``."""
    graph = context.graph
    cause = cut.edge.get("cause", Cause.NOT_RECORDED)
    word, more = _WORD_OF_CAUSE.get(cause), ""
    if cause is Cause.CUSTOM_FUNCTION:
        word = f"{cut.edge.get('word', 'a Function')}, of which no input requires grad,"
    if cause is Cause.VALUES_COPIED:
        called = cut.edge.get("word", "")
        word = _COPIED.get(called, f"{called}()") + ", which copies values and no gradient,"
    if cause is Cause.ITEM:
        word = f"{cut.edge.get('word') or 'item'}()"
    if word is None:
        op = cut.edge.get("word") or graph.nodes[cut.target].get("op", "")
        op = op or word_of(graph.nodes[cut.target])
        word, more = op.partition(",")[0], ", which has no gradient"
    if cause is Cause.COLLECTIVE:
        word, more = f"torch.distributed.{word}", ", which autograd does not record"
    line, inside = cut.edge.get("source", ""), cut.edge.get("inside", "")
    if off := _switched_off(context, cut):
        where = f", still in force at {mention(line)}" if line not in ("", off.source) else ""
        return f"{off.word}(False) at {mention(off.location)}{where}"
    if _is_sample(context, cut):
        word = "sample(), which runs under no_grad,"
    return f"{word} at {mention(line, inside)}{more}" if line else f"{word}{more}"


def fix_of_cut(context: Context, cut: CutEdge) -> str:
    """The fix of a cut whose cause is known."""
    fix = FIX_OF_CAUSE.get(cut.edge.get("cause", Cause.NOT_RECORDED), "")
    line = cut.edge.get("source", "")
    if cut.edge.get("cause") is Cause.COLLECTIVE:
        fix = twin_of(cut.edge.get("word", ""))
    if off := _switched_off(context, cut):
        if left_off(context) is off:
            return TURN_ON.format(off.location)
        fix = "compute it where gradients are on: with torch.set_grad_enabled(True):"
    if _is_sample(context, cut):
        fix = "use rsample(), if the distribution has it, instead of sample()"
    if cut.edge.get("cause") is Cause.DETACH and (
        pair := _pair_at(context, cut.edge.get("inside") or line)
    ):
        kept, other = pair
        fix = (
            f"a straight-through estimator passes the gradient to {kept} alone; train {other} by "
            f"a loss of its own: torch.nn.functional.mse_loss({other}, {kept}.detach())"
        )
    if cut.edge.get("cause") is Cause.DETACH and _is_deep_copy(context, line):
        fix = "compute with the tensor itself: copy.deepcopy refuses one with a grad_fn"
    if fix and (inside := cut.edge.get("inside")):
        line, fix = (inside, fix) if is_own(inside) else (line, _OF_A_LIBRARY)
    return f"{line}: {fix}" if fix and line else fix


def _is_deep_copy(context: Context, line: str) -> bool:
    """Whether a line calls ``deepcopy``, found once for all leaves."""
    key = ("deepcopy", line)
    if key not in context.cache:
        known = locations_of([line])
        context.cache[key] = any(each.line in lines_calling(each, "deepcopy") for each in known)
    return bool(context.cache[key])


def twin_of(word: str) -> str:
    """The replacement of a function of ``torch.distributed``; "" if there is none.

    Example:
        >>> twin_of("all_reduce")
        'use the result of torch.distributed.nn.functional.all_reduce(tensor)'
    """
    twin = _TWINS.get(word, "")
    return f"use the result of torch.distributed.nn.functional.{twin}" if twin else ""


def _pair_at(context: Context, line: str) -> tuple[str, str] | None:
    """The two operands of a straight-through estimator on a line, found once for all leaves."""
    key = ("straight-through", line)
    if key not in context.cache:
        context.cache[key] = _straight_through(line)
    found: tuple[str, str] | None = context.cache[key]
    return found


def _straight_through(line: str) -> tuple[str, str] | None:
    """The ``x`` and ``y`` of ``x + (y - x).detach()`` on a line; None if there is none."""
    locations = locations_of([line])
    statement = statement_at(locations[0]) if locations else None
    for node in ast.walk(statement) if statement is not None else ():
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            for kept, call in ((node.left, node.right), (node.right, node.left)):
                if (difference := _detached(call)) and ast.dump(difference[1]) == ast.dump(kept):
                    return ast.unparse(kept), ast.unparse(difference[0])
    return None


def _detached(call: ast.expr) -> tuple[ast.expr, ast.expr] | None:
    """The operands of ``(y - x).detach()``."""
    is_call = isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)
    function = call.func if is_call and isinstance(call, ast.Call) else None
    if not isinstance(function, ast.Attribute) or function.attr != "detach":
        return None
    inner = function.value
    if isinstance(inner, ast.BinOp) and isinstance(inner.op, ast.Sub):
        return inner.left, inner.right
    return None


def lines_of(context: Context, *cuts: CutEdge) -> tuple[SourceLocation, ...]:
    """The lines of each cut."""
    found: list[SourceLocation] = []
    for cut in cuts:
        found += locations_of([cut.edge.get("source", ""), cut.edge.get("inside", "")])
        if off := _switched_off(context, cut):
            found.append(off.location)
    return tuple(found)


def left_off(context: Context) -> Event | None:
    """The call of ``set_grad_enabled(False)`` that was never undone, or None."""
    modes = context.happened(EventKind.MODE)
    return modes[-1] if modes and _is_switch(modes[-1]) else None


def _is_switch(event: Event) -> bool:
    is_off = event.action is Action.GRADIENTS_OFF
    return is_off and event.word == "set_grad_enabled" and bool(event.location)


def _switched_off(context: Context, cut: CutEdge) -> Event | None:
    """The call of ``set_grad_enabled(False)`` that caused a cut; None for another cause."""
    mode = _mode_at(context, made[-1]) if (made := _made(context, cut)) else None
    return mode if mode is not None and _is_switch(mode) else None


def _made(context: Context, cut: CutEdge) -> Sequence[Event]:
    """The operations on the line of a cut by gradient mode; the operation of the cut last."""
    if cut.edge.get("cause") is not Cause.NO_GRAD:
        return ()
    return context.made_at(cut.edge.get("source", ""), cut.target)


def _mode_at(context: Context, made: Event) -> Event | None:
    modes = [each for each in context.happened(EventKind.MODE) if each.number < made.number]
    return modes[-1] if modes else None


def _is_sample(context: Context, cut: CutEdge) -> bool:
    """Whether ``sample()`` of a torch distribution caused the cut, which runs under no_grad."""
    made = _made(context, cut)
    mode = _mode_at(context, made[-1]) if made else None
    if mode is not None and mode.action is Action.GRADIENTS_OFF:
        return False
    return any(event.word in _DRAWS for event in made)


def number_reads(context: Context) -> list[Event]:
    """The events in which tensors became numbers or arrays before the last backward pass.

    What is read right after a backward pass, as by ``print(loss.item())``, was computed before it.
    Numbers that a line only checks or shows are left out: nothing is computed from them.
    """
    passes = [event.number for event in context.happened(EventKind.BACKWARD)]
    made = [event.number for event in context.happened(EventKind.OPERATION)]

    def is_after_a_pass(number: int) -> bool:
        before = passes[: bisect(passes, number)]
        return bool(before) and bisect(made, number) == bisect(made, before[-1])

    return [
        event
        for event in context.happened(EventKind.CUT)
        if event.word in _VALUE_READS
        and event.location
        and (not passes or event.number < passes[-1])
        and not is_after_a_pass(event.number)
        and not is_only_shown(event.location, _VALUE_READS)
    ]


def lost_on_the_way(graph: GradGraph, key: str) -> CutEdge | None:
    """The first known cut on the paths of the data to an untracked tensor.

    It is the one nearest to a tensor that requires grad.
    """
    from_where = ancestors(graph, [key], lambda s, t, edge: edge["kind"] is EdgeKind.CUT)
    for target in sorted(from_where, key=lambda each: int(each[1:])):
        for source, _, edge in graph.in_edges(target, data=True):
            if edge["kind"] is not EdgeKind.CUT or edge.get("cause") in _NO_CUT:
                continue
            if graph.nodes[source]["kind"] is not NodeKind.UNTRACKED or not _has_cut(graph, source):
                return CutEdge(source, target, edge)
    if "op" in graph.nodes[key]:  # its inputs may be gone, but the cause of the cut is known
        for _, target, edge in graph.out_edges(key, data=True):
            if edge["kind"] is EdgeKind.CUT and edge.get("cause") not in _NO_CUT:
                return CutEdge(key, target, edge)
    return None


def is_known_cut(edge: EdgeData) -> bool:
    """Whether it was recorded that and why data left the graph along an edge."""
    return edge.get("cause") not in _NO_CUT


def _has_cut(graph: GradGraph, key: str) -> bool:
    return any(edge["kind"] is EdgeKind.CUT for *_, edge in graph.in_edges(key, data=True))
