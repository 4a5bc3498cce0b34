"""The cuts between a tensor and a result: their order, their words and their fixes."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from gradviz.diagnosis.context import Context, Question
from gradviz.diagnosis.lines import (
    as_written,
    called_on,
    lines_with_graph,
    locations_of,
    mention,
    one_of_several,
    straight_through,
)
from gradviz.diagnosis.values import is_only_added
from gradviz.facts import Action, CutEdge, EventKind, SourceLocation
from gradviz.graph import (
    LEAVES,
    Cause,
    EdgeData,
    GradGraph,
    NodeData,
    NodeKind,
    descendants,
    is_data,
    word_of,
)
from gradviz.graph.operations import operation, twin_of
from gradviz.graph.text import as_code
from gradviz.story import Event

FIX_OF_CAUSE = {
    Cause.DETACH: "leave out the detach()",
    Cause.NO_GRAD: "compute it outside of torch.no_grad(), or under torch.enable_grad()",
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
    "torch.func.functional_call(module, {name: tensor}, inputs); or optimize the copy",
    Cause.NOT_DIFFERENTIABLE: "use an operation that has a gradient, such as a soft version of it",
}
_GRID = "scale a constant grid: start + (end - start) * torch.linspace(0, 1, steps)"
FIX_OF_WORD = {
    "_values": "use values() of a coalesced tensor, which has a gradient",
    "arange": _GRID,
    "full": "multiply by it: x * torch.ones(size)",
    "linspace": _GRID,
    "logspace": f"{_GRID}, as an exponent of the base",
}
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
_COPIED = {"": "a copy of its values", "data": "an assignment to .data"}
_COPIED |= {"Parameter": "nn.Parameter()", "setitem_": "an assignment to an index"}
_COPIED[".data.setitem_"] = "an assignment to an index of .data"
TURN_ON = (
    "{}: switch gradients on again afterwards, torch.set_grad_enabled(True), or use it as a "
    "block: with torch.set_grad_enabled(False):"
)
_OF_A_LIBRARY = (
    "call a function of that library that keeps the gradient, or compute this part in your own code"
)
_STACKED = "it makes new leaves: give the optimizer those, params.values()"
_FIX_OF_CALL = {
    "deepcopy": "compute with the tensor itself: copy.deepcopy refuses one with a grad_fn",
    "state_dict": "use dict(module.named_parameters()), whose tensors are not detached",
    "stack_module_state": _STACKED,
}
_OF_THE_COPY = "the copy is a parameter of its own: create the optimizer after it is loaded"
_DETACHING = ("state_dict", "stack_module_state")
_NEW = "compute a new tensor with gradients on, and use that"
_ONLY_IN_PLACE = ("copy", "setitem", "set", "normal", "uniform", "zero")  # have no other form
_MODULE_COPIES = ("deepcopy", "load_state_dict")


def cut_words(context: Context, cut: CutEdge) -> str:
    """``detach() at train.py:31 (h = h.detach())``."""
    graph = context.graph
    cause = cut.edge.get("cause", Cause.NOT_RECORDED)
    word, more = _WORD_OF_CAUSE.get(cause), ""
    if cause is Cause.CUSTOM_FUNCTION:
        word = f"{cut.edge.get('word', 'a Function')}, of which no input requires grad,"
    if cause is Cause.VALUES_COPIED or _is_module_copy(context, cut):
        called = cut.edge.get("word", "") if cause is Cause.VALUES_COPIED else "load_state_dict"
        word = _COPIED.get(called, f"{called}()") + ", which copies values and no gradient,"
    if cause is Cause.ITEM:
        word = f"{cut.edge.get('word') or 'item'}()"
    if word is None:
        made: NodeData = graph.nodes[cut.target] if cut.target in graph else {}
        op = cut.edge.get("word") or made.get("op") or word_of(made)
        word, more = op.partition(",")[0], ", which has no gradient"
    if cause is Cause.COLLECTIVE:
        word, more = f"torch.distributed.{word}", ", which autograd does not record"
    line, inside = cut.edge.get("source", ""), cut.edge.get("inside", "")
    word = as_written(word, inside or line)
    if _is_linearized(context, cut):
        word = "torch.func.linearize(), to which it is a constant,"
    elif word in ("detach()", ".data"):
        word = _which(context, cut) or word
        by = [f"{each}(), which detaches," for each in _DETACHING if _calls(context, line, each)]
        word = by[0] if by else word
    if off := _switched_off(context, cut):
        where = f", still in force at {mention(line)}" if line not in ("", off.source) else ""
        return f"{off.word}(False) at {mention(off.location)}{where}"
    if _is_sample(context, cut):
        word, more = "sample(), which runs under no_grad,", ""
    elif (mode := _mode_of(context, cut)) and mode.word == "no_grad" and mode.source != line:
        more = f", in force since {mention(mode.location)}"
    return f"{word} at {mention(line, inside)}{more}" if line else f"{word}{more}"


def fix_of_cut(context: Context, cut: CutEdge) -> str:
    """The fix of a cut whose cause is known."""
    cause, line = cut.edge.get("cause", Cause.NOT_RECORDED), cut.edge.get("source", "")
    written = _written(context, cut).intersection(LEAVES)
    if _is_module_copy(context, cut) or written:
        cause = Cause.VALUES_COPIED
    of_all = cut.edge.get("word", "") if cause is Cause.COLLECTIVE else ""
    fix = twin_of(of_all) if of_all else FIX_OF_CAUSE.get(cause, "")
    is_grad = cause is Cause.AUTOGRAD_GRAD
    if is_grad and line in lines_with_graph(context.happened(EventKind.BACKWARD)):
        fix = "its result is constant, as the derivative is; or a Function's backward has no "
        fix += "graph: it is once_differentiable, or uses numpy, or more than ctx.saved_tensors"
    word = cut.edge.get("word", "").removeprefix(".data.")
    if word == "setitem_" and not _is_leaf(context.graph, cut.target):
        fix = "join the tensors by torch.stack or torch.cat instead of writing their values"
    elif written == {NodeKind.LEAF}:
        fix = _NEW
    fix = _out_of_place(context.graph, cut) or fix
    if word in FIX_OF_WORD:
        fix = FIX_OF_WORD[word]
    elif cause is Cause.NOT_DIFFERENTIABLE and operation(cut.edge.get("word", "")).sorts:
        fix = "use the values that it returns: its indices have no gradient"
    if off := _switched_off(context, cut):
        if left_off(context) is off:
            return TURN_ON.format(off.location)
        fix = "compute it where gradients are on: with torch.set_grad_enabled(True):"
    if _is_sample(context, cut):
        fix = "use rsample(), if it exists, instead of sample(); else weight log_prob() of a sample"
    if (which := _which(context, cut)) and cause in (Cause.DETACH, Cause.DATA):
        fix = f"use {which.removesuffix('.data').removesuffix('.detach()')} instead of {which}"
    at = cut.edge.get("inside") or line
    pair = context.cached(("straight-through", at), lambda: straight_through(at))
    if cause in (Cause.DETACH, Cause.DATA) and pair is not None:
        kept, other, is_replaced = pair
        fix = f"a straight-through estimator passes the gradient to {kept} alone; train {other} by "
        fix += f"a loss of its own{', computed before this line' * is_replaced}: "
        fix += f"torch.nn.functional.mse_loss({other}, {kept}.detach())"
    if cause is Cause.DETACH:
        called = next((f for name, f in _FIX_OF_CALL.items() if _calls(context, line, name)), "")
        below = descendants(context.graph, [cut.target], is_data) if called else ()
        is_leaf = any(context.graph.nodes[key]["kind"] in LEAVES for key in below)
        fix = _OF_THE_COPY if is_leaf and called is not _STACKED else called or fix
    if _is_linearized(context, cut):
        return f"{line}: compute it with torch.func.jvp, whose result depends on it"
    if fix and (inside := cut.edge.get("inside")):
        is_own = cut.edge.get("is_own", False)
        line, fix = (inside, fix) if is_own else (line, _OF_A_LIBRARY)
    return f"{line}: {fix}" if fix and line else fix


def _which(context: Context, cut: CutEdge) -> str:
    """``b.detach()``, if its line has several of them with other text; else ""."""
    made = context.happened_to(cut.target, EventKind.CUT)
    location = made[-1].location if made and not cut.edge.get("inside") else None
    if location is None or str(location) != cut.edge.get("source"):
        return ""
    key = ("which", location, cut.edge.get("cause"))
    return context.cached(key, lambda: one_of_several(location, made[-1].word))


def _out_of_place(graph: GradGraph, cut: CutEdge) -> str:
    """The fix of an operation in place on the values of a tensor that is no parameter; or ""."""
    name = cut.edge.get("word", "").removeprefix(".data.").removesuffix("_")
    made: NodeData = graph.nodes[cut.target] if cut.target in graph else {}
    # A tensor that a function such as zeros returned, and that no module keeps.
    is_plain = made.get("kind") is NodeKind.UNTRACKED and "op" in made
    is_plain = is_plain and "." not in made.get("name", ".")
    is_free = is_plain or made.get("kind") in (NodeKind.OPERATION, NodeKind.LEAF)
    if cut.edge.get("cause") is not Cause.VALUES_COPIED or not is_free or name == "":
        return ""
    if name == cut.edge.get("word") or name in _ONLY_IN_PLACE or name.startswith("_"):
        return ""
    of = as_code(made.get("name", ""))
    call = f"torch.fill({of}, ...)" if name == "fill" else f"{of}.{name}(...)"
    how = f"{of} = {call}" if of else f"{name}() returns one"
    return f"{_NEW}: {how}"


def _is_leaf(graph: GradGraph, key: str) -> bool:
    return key in graph and graph.nodes[key]["kind"] in LEAVES


def _is_linearized(context: Context, cut: CutEdge) -> bool:
    is_detached = cut.edge.get("cause") is Cause.DETACH
    return is_detached and _calls(context, cut.edge.get("source", ""), "linearize")


def _calls(context: Context, line: str, name: str) -> bool:
    """Whether a line calls a function; its functions are found once for all leaves."""
    return name in context.cached(("called", line), lambda: called_on(line))


def lines_of(context: Context, *cuts: CutEdge) -> tuple[SourceLocation, ...]:
    """The lines of each cut."""
    found: list[SourceLocation] = []
    for cut in cuts:
        found += locations_of([cut.edge.get("source", ""), cut.edge.get("inside", "")])
        if (off := _mode_of(context, cut)) and off.location:
            found.append(off.location)
    return tuple(found)


def left_off(context: Context) -> Event | None:
    """The call of ``set_grad_enabled(False)`` that was never undone, or None."""
    modes = context.happened(EventKind.MODE)
    return modes[-1] if modes and _is_switch(modes[-1]) else None


def _is_switch(event: Event) -> bool:
    called = (event.word, event.action)
    return called == ("set_grad_enabled", Action.GRADIENTS_OFF) and bool(event.location)


def _switched_off(context: Context, cut: CutEdge) -> Event | None:
    """The call of ``set_grad_enabled(False)`` that caused a cut; None for another cause."""
    mode = _mode_of(context, cut)
    return mode if mode is not None and _is_switch(mode) else None


def _made(context: Context, cut: CutEdge) -> Sequence[Event]:
    """The operations on the line of a cut by gradient mode; the operation of the cut last."""
    if cut.edge.get("cause") is not Cause.NO_GRAD:
        return ()
    return context.made_at(cut.edge.get("source", ""), cut.target)


def _mode_of(context: Context, cut: CutEdge) -> Event | None:
    """The event that switched gradients off before a cut; None if it was not recorded."""
    made, events = _made(context, cut), context.events or ()
    if not made or events[-1].number >= len(events):  # some events were omitted
        return None
    modes = [each for each in context.happened(EventKind.MODE) if each.number < made[-1].number]
    return modes[-1] if modes and modes[-1].action is Action.GRADIENTS_OFF else None


def _is_sample(context: Context, cut: CutEdge) -> bool:
    """Whether ``sample()`` of a torch distribution caused the cut, which runs under no_grad."""
    made, line = _made(context, cut), cut.edge.get("source", "")
    if cut.edge.get("cause") is Cause.NOT_DIFFERENTIABLE and _calls(context, line, "sample"):
        made = context.made_at(line, cut.target)
    is_draw = any(operation(event.word).draws for event in made)
    return is_draw and _mode_of(context, cut) is None


def is_known_cut(edge: EdgeData) -> bool:
    """Whether it was recorded that and why data left the graph along an edge."""
    return edge.get("cause") not in (Cause.CONSTANT, Cause.NOT_RECORDED, None)


def cuts_of(context: Context, question: Question) -> Sequence[CutEdge]:
    """The cuts between the tensor and the roots, those that can be removed first."""
    found = context.cuts_of(question.key)
    if context.lost is not None and question.is_leaf:
        # The graph shows what was written into a tensor also after it was used.
        lost = context.lost.get(question.key, ())
        lines = {each.edge.get("source") for each in lost}
        found = [cut for cut in found if cut.edge.get("source") in lines]
        shown = {cut.edge.get("source") for cut in found}
        found += [each for each in lost if each.edge.get("source") not in shown]
    found = [each for each in found if not is_of_a_constant(context, question.key, each)]
    ranks = {id(cut): rank_of_cut(context, cut) for cut in found}
    found.sort(key=lambda cut: (ranks[id(cut)], -_latest(context, cut.edge.get("source", ""))))
    # Where a cut can be removed, what is seldom a fault beside it is left out.
    return [cut for cut in found if ranks[id(cut)] // 2 == ranks[id(found[0])] // 2]


def rank_of_cut(context: Context, cut: CutEdge) -> int:
    """The lower, the more likely a cut is a fault; a copy as a target network seldom is."""
    if _is_module_copy(context, cut):
        return 3
    key = ("index", cut.target, cut.edge.get("cause"))
    is_index = context.cached(key, lambda: _is_before_an_index(context.graph, cut))
    if is_index or NodeKind.UNTRACKED in _written(context, cut):
        return 4
    cause = cut.edge.get("cause")
    return 1 if cause is Cause.VALUES_COPIED else 2 * (cause is Cause.NOT_DIFFERENTIABLE)


def _is_module_copy(context: Context, cut: CutEdge) -> bool:
    """Whether it copies the state of a module, also by the detach() in ``state_dict()``."""
    if cut.edge.get("cause") is Cause.VALUES_COPIED:
        return cut.edge.get("word") in _MODULE_COPIES
    return not context.written_on(cut.edge.get("source", ""))[0].isdisjoint(_MODULE_COPIES)


def _written(context: Context, cut: CutEdge) -> set[NodeKind]:
    """The kinds of what its line writes into, if that outlives a pass, as running statistics."""
    if cut.edge.get("cause") not in (Cause.DETACH, Cause.NO_GRAD, Cause.DATA):
        return set()
    line = cut.edge.get("source", "")
    nodes = (context.node_in_a_frame(each) for each in context.written_on(line)[1])
    kept = (e for e in nodes if e and (e["kind"] in LEAVES or "." in e.get("name", "")))
    return context.cached(("written", line), lambda: {each["kind"] for each in kept})


def _latest(context: Context, line: str) -> int:
    """The latest event at a line before the pass: its data was in the graph longest; -1 if none."""
    end = context.passes[-1].number if context.passes else inf
    events = reversed(context.by_line.get(line, ()))
    return next((each.number for each in events if each.number < end), -1)


def is_of_a_constant(context: Context, key: str, cut: CutEdge) -> bool:
    """Whether a derivative was cut that does not depend on a leaf: it is only added, as a bias."""
    if cut.edge.get("cause") is not Cause.AUTOGRAD_GRAD or cut.source == cut.target:
        return False
    return is_only_added(context.graph, key, cut.source)


def known_cuts(context: Context, question: Question) -> Sequence[CutEdge]:
    """The cuts between a tensor and the roots, if the cause of the first is known."""
    cuts = cuts_of(context, question)
    return cuts if cuts and is_known_cut(cuts[0].edge) else ()


def other_cuts(context: Context, cuts: Sequence[CutEdge]) -> str:
    """The cuts at other lines than the first: with their words, if these are other ones."""
    lines: dict[tuple[str, str], CutEdge] = {}
    for cut in cuts:
        lines.setdefault((cut.edge.get("source", ""), _which(context, cut)), cut)
    first, *rest = lines.values()
    kind = (first.edge.get("cause"), first.edge.get("word"))
    same = [
        each
        for each in rest
        if (each.edge.get("cause"), each.edge.get("word")) == kind and not _which(context, each)
    ]
    more = f", and at {', '.join(each.edge.get('source', '') for each in same[:3])}" if same else ""
    other = next((each for each in rest if each not in same), None)
    return more if other is None else f"{more}, and by {cut_words(context, other)}"


def _is_before_an_index(graph: GradGraph, cut: CutEdge) -> bool:
    """Whether the data of a cut leads only to functions that have no gradient."""
    if cut.edge.get("cause") is Cause.NOT_DIFFERENTIABLE:
        return False
    stack, seen, is_met = [cut.target], {cut.target}, False
    while stack:
        key = stack.pop()
        if key not in graph or "root" in graph.nodes[key]:
            return False
        for _, target, edge in graph.out_edges(key, data=True):
            if edge.get("cause") is Cause.NOT_DIFFERENTIABLE and not _is_passed_on(
                graph, key, edge
            ):
                is_met = True
            elif target not in seen:
                seen.add(target)
                stack.append(target)
    return is_met


def _is_passed_on(graph: GradGraph, key: str, edge: EdgeData) -> bool:
    """Whether an edge from untracked data has the cause of an edge into it: not one of its own."""
    cut = (edge.get("cause"), edge.get("source"))
    inputs = (before for _, _, before in graph.in_edges(key, data=True))
    return any((each.get("cause"), each.get("source")) == cut for each in inputs)
