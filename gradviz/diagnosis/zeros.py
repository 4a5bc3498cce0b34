"""Rules for a gradient of zeros: which operation blocks it, and why."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

from gradviz.diagnosis.answers import Verdict
from gradviz.diagnosis.context import Context, Question
from gradviz.diagnosis.cuts import known_cuts, said_of
from gradviz.diagnosis.lines import as_read, as_read_at, at_line, locations_of, mention
from gradviz.diagnosis.losses import (
    INSIDE,
    LOSSES,
    MORE_KEYS,
    Block,
    no_label,
    no_loss,
    one_entry,
    only_summed,
    smaller_elsewhere,
)
from gradviz.diagnosis.relative_size import overwrites, uses_cancel
from gradviz.diagnosis.rule import (
    Evidence,
    Rule,
    called_as,
    called_at,
    calling_word,
    fix_of_steps,
    is_made_at_a_line,
    is_random,
    library_call,
    rounded_at,
)
from gradviz.diagnosis.silent_faults import (
    CONSTANT,
    cancel_rules,
    of_uniform,
    set_to_zero,
    zeros_of_no_known_cause,
)
from gradviz.diagnosis.values import (
    ADDS,
    Step,
    Values,
    added_cast,
    is_all_zero,
    is_only,
    is_times_0,
    is_wrong,
    largest,
    number_of,
    smallest,
    word_in,
)
from gradviz.facts import EventKind, Loss
from gradviz.graph import (
    LEAVES,
    GradGraph,
    NodeData,
    NodeKind,
    is_gradient,
    leaf_of_node,
    stops_on_every_way,
    word_of,
)
from gradviz.graph.operations import OF_A_LIBRARY, Blocks, operation, words
from gradviz.graph.text import joined
from gradviz.wording import inputs_text

_FEW = 4  # causes that are stored for each node


class ZeroSearch:
    """Finds which gradients of a graph are zero, and which operations block them.

    One walk from the roots finds the nodes that a gradient reaches; the other nodes are labeled
    with the operations that block it, so the cost does not grow with the number of parameters.

    Args:
        values: known values of the tensors of a graph.
        only_causes: treat operations that block because of earlier zeros as passing the
            gradient, so that the operation that created the zeros is found.
        lost: operations and inputs at which the pass was seen to lose a gradient.
    """

    def __init__(self, values: Values, only_causes: bool, lost: Container[Any]) -> None:
        graph = self._graph = values.graph
        borders: list[tuple[str, Block]] = []
        stack = [root for root in graph.roots if graph.nodes[root]["kind"] is NodeKind.RESULT]
        self._reached = set(stack)
        while stack:
            target = stack.pop()
            self._reached.update(graph.nodes[target].get("uses_inside", ()))
            for source, _, edge in graph.in_edges(target, data=True):
                if not is_gradient(source, target, edge):
                    continue
                block = why_blocked(Step(values, source, target, edge))
                if block is not None and not (only_causes and block.is_consequence):
                    borders.append((source, block))
                elif not block and not only_causes and (target, edge.get("input", 0)) in lost:
                    continue  # it is not known why
                elif source not in self._reached:
                    self._reached.add(source)
                    stack.append(source)
        self._blocks = self._label(borders)

    def _label(self, borders: Sequence[tuple[str, Block]]) -> Mapping[str, list[Block]]:
        """For nodes that are not reached, the first few blocking operations."""
        found: dict[str, list[Block]] = {}
        stack = [(key, block) for key, block in borders if key not in self._reached]
        while stack:
            key, block = stack.pop()
            known = found.setdefault(key, [])
            if block in known or len(known) > _FEW:
                continue
            known.append(block)
            if key not in self._graph:  # a tensor that a Function or a checkpoint uses inside
                continue
            inside = self._graph.nodes[key].get("uses_inside", ())
            stack += [(leaf, block) for leaf in inside if leaf not in self._reached]
            for source, _, edge in self._graph.in_edges(key, data=True):
                if is_gradient(source, key, edge) and source not in self._reached:
                    stack.append((source, block))
        return found

    def blocks_of(self, key: str) -> Sequence[Block]:
        """The operations that block every gradient to a node; () if unknown."""
        return () if key in self._reached else self._blocks.get(key, ())


def why_blocked(step: Step) -> Block | None:
    """Why an operation passes no gradient to one of its inputs; None if it may pass one."""
    if 0 in step.values.graph.nodes[step.target].get("shape", ()):
        why = "its result is empty: nothing was selected for it"
        return Block(step.target, why, "nothing, if other batches select something for it")
    check = _BY_OP.get(step.op) or _CHECKS.get(operation(step.op).blocks)
    block = check(step) if check else None
    return block._replace(fix=f"{_MET}{block.fix}") if block and step.is_hinge else block


_NAMED = {"name", "op"}
_MET = "nothing, if it is a hinge loss, whose margin is met; else "
_SMALL = "keep the inputs small: scale or normalize them"
_SIGNED = "let its target be 1 or -1: with others, such as 0, its result may be constant"
_SMOOTH = "use a smooth activation, such as tanh, softplus or silu"
_BRANCH = "check the condition, which selects the other branch everywhere"
_MASK = "check the mask, which covers everything"
_UNQUANTIZED = "every value is outside of the range that its scale and zero point can represent"
_SCALE = "choose a scale and a zero point whose range holds the values"
_ONE_STEP = "the sequence has one step, and its initial hidden state is all zeros"
_STEPS = "if sequences should have more steps, check the order of dimensions: batch_first=True"
_NOT_ZERO = "start at a value other than zero"
_AT_START = f"if it is meant to start at zero, its first steps move it; else {_NOT_ZERO}"
_RELU = "let some inputs be positive (start, bias, learning rate), or use leaky_relu"


def _of_zeros(step: Step, what: str, number: int, slope: str = "") -> Block:
    """An operation that blocks because an input, called ``what``, is all zeros, and why it is."""
    values, nodes = step.values, step.values.graph.nodes
    source = values.before_views(step.source_of(number))
    origin = values.origin_of_zeros(source) if source else ""
    made: NodeData = nodes[origin] if origin else {}
    given: NodeData = nodes[source] if source else {}
    line, block = step.data.get("source", ""), None
    is_one = given.get("outputs", 1) == 1 and _NAMED & given.keys()
    named = f", {as_read_at(given, line)}," if is_one else ""
    is_other = _NAMED & made.keys() and source != origin
    why = f", because {as_read_at(made, line)} is" if is_other else ""
    if is_made_at_a_line(made):
        edges = (e for e in values.graph.in_edges(origin, data=True) if is_gradient(*e))
        blocks = (why_blocked(Step(values, each, origin, edge)) for each, _, edge in edges)
        block, op = next(filter(None, blocks), None), f"{made['op']}{at_line(made['source'])}"
        is_read = made["kind"] is NodeKind.UNTRACKED and as_read(made) != made["op"]
        named = named if source != origin or "name" in made or is_read else ""
        is_enough = is_read and named and made["source"] == line  # the text of the same line
        returned = "" if is_enough else f", as {op} returned them"
        why = f", because of {op}: {block.why}" if block else returned
    fix = block.fix if block else _FAR if made.get("op") == "exp" else _FACTOR
    fix = _AT_START if made.get("kind") in LEAVES else fix
    why = f"{what}{named} is all zeros{slope}{why}"
    return Block(step.target, why, fix, number == step.number, origin)


def _comes_from_zeros(step: Step) -> bool:
    """Whether the input was computed, and is all zeros."""
    source, values = step.source_of(step.number), step.values
    is_computed = source in values.graph and values.graph.nodes[source]["kind"] not in LEAVES
    return source in values.zeros and is_computed


def _not_above(step: Step) -> Block | None:
    """An input that is nowhere above the threshold, which is 0 for relu."""
    end, is_relu = number_of(step.options.get("threshold", "0")), step.op == "relu"
    made, given = step.made if is_relu else None, step.given
    most = largest(given) if given is not None else None
    is_dead = made is not None and is_only(made, (0.0,))
    if end is None or (not is_dead and (most is None or most > end)):
        return None
    if is_relu and _comes_from_zeros(step):
        return _of_zeros(step, "its input", 0)
    fix = _RELU if is_relu else INSIDE
    return Block(step.target, f"{inputs_text(made or given)} <= {end:g}", fix)


def _saturated(step: Step) -> Block | None:
    ends = operation(step.op).ends
    if step.made is None or not ends or not is_only(step.made, ends):
        return None
    more = ", or use a loss with logits" if step.op == "sigmoid" else ""
    return Block(step.target, "it is saturated at every element", _SMALL + more)


def _clamped(step: Step) -> Block | None:
    given = step.given
    if given is None or not step.options or given.nan or not given.numel:
        return None
    texts = (step.options.get(end, step.options.get(f"{end}_val")) for end in ("min", "max"))
    low, high = map(number_of, texts)
    least, most = smallest(given), largest(given)
    if given.values is not None:
        outside = all(
            (low is not None and value.real < low) or (high is not None and value.real > high)
            for value in given.values
        )
    else:
        is_under = low is not None and most is not None and most < low
        outside = is_under or (high is not None and least is not None and least > high)
    if not outside and (low is None or low != high):
        return None
    ends = [f"{at} {end:g}" for at, end in (("below", low), ("above", high)) if end is not None]
    return Block(step.target, f"{inputs_text(given)} {' or '.join(ends)}", INSIDE)


def _zero_factor(step: Step) -> Block | None:
    """A product: the gradient of a factor is zero if the other is all zeros."""
    first, second = operation(step.op).factors or (0, 1)
    if step.number not in (first, second):
        return None
    partner = second if step.number == first else first
    if is_times_0(step.data):
        return Block(step.target, "the other factor is 0", "leave out the factor that is zero")
    factor = step.input(partner)
    if factor is None or not factor.numel or not is_all_zero(factor):
        return None
    source = step.values.before_views(step.source_of(partner))
    block = _initial_state(step, source) or _of_zeros(step, "the other factor", partner)
    made: NodeData = step.values.graph.nodes[source] if source else {}
    drawn = block._replace(why=f"{block.why}, as drawn at random", fix=f"{_DRAWN}{block.fix}")
    return drawn if is_random(made) else block


def _initial_state(step: Step, source: str) -> Block | None:
    """The first step of a recurrent cell: a product with zeros that were not computed."""
    state: NodeData = step.values.graph.nodes[source] if source else {}
    weight = step.values.before_views(step.source_of(step.number))
    name, op = word_of(step.values.graph.nodes[weight]) if weight else "", state.get("op", "")
    named = f", {state['name']}," if "name" in state else ""
    if state.get("kind") is not NodeKind.UNTRACKED or not operation(step.op).factors:
        return None
    if "weight_hh_l" in name and (not op or op in _PLAIN):
        return Block(step.target, _ONE_STEP, _STEPS)
    if "weight_hh" in name and op in _PLAIN:
        return Block(
            step.target, f"the hidden state{named} is an initial one, all zeros", _FIRST_STEP
        )
    why = f"the other factor{named} is all zeros, as {op} created it"
    is_created = op in _PLAIN[:3] and len(state.get("shape", ())) > 1
    return Block(step.target, why, _INITIAL) if is_created else None


_PLAIN = ("zeros", "zeros_like", "new_zeros", "getitem", "select", "unbind", "squeeze")
_FIRST_STEP = "pass the state that each step returns to the next one: the steps after the first "
_FIRST_STEP += "give it a gradient, and a sequence of one step gives none"
_INITIAL = "if it is the initial state of a sequence, its later steps give a gradient; else give "
_INITIAL += "it other values"
_DRAWN = "nothing, if other passes draw other values than zeros; else "
_FAR = "scale or normalize what goes into exp, which is 0 for numbers far below 0"
_FACTOR = "leave out the factor that is zero, or find what makes it zero"
_LEAVE_OUT = "leave it out, or change a copy: x.clone().zero_()"
_QUERY_KEY = operation("scaled_dot_product_attention").saves
_SAMPLERS = ("grid_sampler2d", "grid_sampler3d")


def _step_function(step: Step) -> Block | None:
    if step.op in _SAMPLERS:
        why = 'with mode="nearest" its result is constant between pixels, so its slope is 0'
        is_grid = step.number == 1 and step.options.get("interpolation_mode") == "nearest"
        return Block(step.target, why, 'use mode="bilinear"') if is_grid else None
    leaf = leaf_of_node(graph := step.values.graph, step.source)
    is_complex = graph.nodes[leaf].get("dtype", "complex").startswith("complex")
    if step.op in ("angle", "sgn") and is_complex:
        return None
    if step.op == "angle":
        fix = "take it of complex values, such as those that torch.fft.rfft() returns"
        return Block(step.target, "of real values it is 0 or pi, so its slope is 0", fix)
    if step.op == "threshold_backward":
        why = "the slope of relu is constant between its steps, so its second derivative is 0"
        return Block(step.target, why, _SMOOTH) if step.number == 1 else None
    why = "its result is constant between steps, so its slope is 0"
    return Block(step.target, why, fix_of_steps(step.op, step.data.get("source", "")))


def _flat_at_zero(step: Step) -> Block | None:
    exponent = number_of(step.options.get("exponent"))
    is_flat = step.op != "pow" or (exponent is not None and exponent > 1)
    zero = step.made if step.op == "norm" else step.given
    if not is_flat or zero is None or not is_all_zero(zero):
        return None
    slope = f", where {'torch takes its slope to be' if step.op == 'norm' else 'its slope is'} 0"
    if _comes_from_zeros(step):
        return _of_zeros(step, "its input", 0, slope)
    return Block(step.target, f"its input is all zeros{slope}", _NOT_ZERO)


def _of_one_step(step: Step) -> Block | None:
    data, state = step.values.graph.nodes[step.target], step.input(5)
    shapes = [each.shape for each in data.get("saved", ()) if each.argument == "input"]
    is_one = any(shape[:1] == (1,) for shape in (*shapes, data.get("shape", ())))
    if step.number != 2 or not is_one or state is None or not is_all_zero(state):
        return None
    return Block(step.target, _ONE_STEP, _STEPS)


def _not_chosen(step: Step) -> Block | None:
    if step.mask is None or step.mask is (step.number == 0) or step.number > 1:
        return None
    return Block(step.target, f"its condition is {step.mask} everywhere", _BRANCH)


def _covered(step: Step) -> Block | None:
    is_mask = operation(step.op).blocks is Blocks.MASKED
    why, fix = ("its mask is True everywhere", _MASK) if is_mask else (_UNQUANTIZED, _SCALE)
    return Block(step.target, why, fix) if step.mask is is_mask and step.number == 0 else None


def _padded(step: Step) -> Block | None:
    padding, indices = number_of(step.options.get("padding_idx")), step.input(1)
    if padding is None or indices is None or not is_only(indices, (padding,)):
        return None
    why = f"only row {padding:g}, its padding_idx, was looked up"
    return Block(step.target, why, "check the indices: that row is never trained")


def _attention(step: Step) -> Block | None:
    """Attention over one key, or with an input of zeros."""
    saved = step.data.get("saved", ()) if step.number < 2 else ()
    is_one = any(each.argument == "key" and each.shape[-2:-1] == (1,) for each in saved)
    if is_one:
        return Block(step.target, "its only key has weight 1", MORE_KEYS)
    others = {0: (1, 2), 1: (0, 2)}.get(step.number, ())
    zeros = [number for number in others if step.source_of(number) in step.values.zeros]
    return _of_zeros(step, f"its {_QUERY_KEY[zeros[0]]}", zeros[0]) if zeros else None


def _normalized(step: Step) -> Block | None:
    """A normalization whose weight is all zeros, or whose results are only summed."""
    is_left = "training" in step.options  # False: it uses running statistics
    if step.number != 0:
        is_zero = step.number == 1 and not is_left and step.source_of(0) in step.values.zeros
        return _of_zeros(step, "its input", 0) if is_zero else None
    weight, has_weight = step.input(1), bool(step.source_of(1))
    if weight is None or not weight.numel or not is_all_zero(weight):
        is_one = weight is not None and weight.values is not None and len(set(weight.values)) == 1
        if not is_left and (step.op == "batch_norm" or is_one or not has_weight):
            return only_summed(step)
        return None
    source = step.values.before_views(step.source_of(1))
    name = word_of(step.values.graph.nodes[source]) if source else "weight"
    return Block(step.target, f"its weight, {name}, is all zeros", _AT_START, zeros=source)


_CHECKS: Mapping[Blocks | None, Callable[[Step], Block | None]] = {
    Blocks.FLAT_AT_ZERO: _flat_at_zero,
    Blocks.MASKED: _covered,
    Blocks.NOT_CHOSEN: _not_chosen,
    Blocks.OTHER_FACTOR: _zero_factor,
    Blocks.NOT_REPRESENTED: _covered,
    Blocks.OUTSIDE: _clamped,
    Blocks.PADDING: _padded,
    Blocks.PRODUCT: _zero_factor,
    Blocks.SATURATED: _saturated,
    Blocks.SIGN: _flat_at_zero,
    Blocks.STEPS: _step_function,
    Blocks.UNDER_THRESHOLD: _not_above,
}
_BY_OP: Mapping[str, Callable[[Step], Block | None]] = {
    "lstm": _of_one_step,
    "div": lambda step: _step_function(step) if "rounding_mode" in step.options else None,
    "zero": lambda step: Block(step.target, "it sets all values to 0", _LEAVE_OUT),
    "scaled_dot_product_attention": _attention,
    "threshold_backward": _step_function,
    **dict.fromkeys((*_SAMPLERS, "angle", "sgn"), _step_function),
    **dict.fromkeys(("softmax", "log_softmax", "exp"), one_entry),
    **dict.fromkeys(("nll_loss", "nll_loss2d"), no_label),
    **dict.fromkeys(("minimum", "maximum", "fmin", "fmax"), smaller_elsewhere),
    **dict.fromkeys(words(lambda row: row.normalizes), _normalized),
    **dict.fromkeys(LOSSES, no_loss),
}


def _others(context: Context, graph: GradGraph, blocks: Sequence[Block]) -> str:
    """The other operations that block a gradient: the first of another kind, and how many more."""
    first, *rest = blocks
    if (other := next((each for each in rest if each.why != first.why), None)) is None:
        return f", and {'' if len(rest) >= _FEW else f'{len(rest)} '}more like it" if rest else ""
    more = f", and {len(rest) - 1} more" if rest[1:] else ""
    return f"; {called_at(context, other.key, graph.nodes[other.key])} too: {other.why}{more}"


def _blocked(context: Context, question: Question) -> Evidence | None:
    if not question.has_zero_gradient or not (values := context.values_of_pass(question, True)):
        return None
    searches = [_searched(context, values, is_cause) for is_cause in (True, False)]
    blocks = searches[0].blocks_of(question.key) or searches[1].blocks_of(question.key)
    if not blocks:
        return None
    nodes, cause = values.graph.nodes, blocks[0].zeros
    words = _words_of(context, values, blocks[0]) | {"more": _others(context, values.graph, blocks)}
    is_leaf = bool(cause) and nodes[cause]["kind"] is not NodeKind.OPERATION
    if is_leaf and any(each.blocks_of(cause) for each in searches):  # no step moves it
        words["fix"] = _NOT_ZERO
    elif words["fix"] == _AT_START and context.held and not context.is_trained(cause):
        words["fix"] = f"let the optimizer hold {word_of(nodes[cause])}; or {_NOT_ZERO}"
    keys, before = tuple(block.key for block in blocks), (cause,) if cause else ()
    shown = keys if is_leaf else (*before, *keys)
    made = [key for key in before if is_made_at_a_line(nodes[key])]
    lines = locations_of(nodes[key].get("source", "") for key in (*shown, *made))
    is_here = blocks[0].key in context.reachable and is_times_0(nodes[blocks[0].key])
    if is_here and (cuts := known_cuts(context, question)):
        said = said_of(context, cuts[0])
        words["more"] += f"; another path is cut by {said.cut}"
        words["fix"], lines = said.fix, (*lines, *said.lines)
    return Evidence(words, keys, lines, shown[0])


_LOOK = "look at the values that go into it there: at all of them its derivative is 0, or too small"
_SELECTED = "nothing, if its index selects nothing in this batch; else check the index"
_GRID = "look at the grid: its coordinates go from -1 to 1, not in pixels, and have no gradient "
_GRID += "where the whole neighborhood is outside of the image, or of one color"
_FIX_OF = {"grid_sampler": _GRID, "setitem": _SELECTED, "index_put": _SELECTED, "exp": _FAR}
_FIX_OF["soft_margin_loss"] = f"{_SIGNED}; else {_SMALL}"
_FIX_AT_EACH: Mapping[Blocks, str] = {
    Blocks.NOT_CHOSEN: "check what makes it select the other one, or use a soft version of it",
    Blocks.OUTSIDE: INSIDE,
    Blocks.SATURATED: _SMALL,
    Blocks.SHRUNK: "pass a smaller lambd, or scale the inputs",
    Blocks.SIGN: f"{_NOT_ZERO}; of a loss, check whether its target came from the prediction",
    Blocks.WHOLE: "use / if the quotient should not be rounded",
    Blocks.WRITES: "leave it out, or use a copy of what it replaces: x.clone()",
}
_ROUTED = "nothing, if other batches use it, as where a router selects experts; else look at what "
_ROUTED += "selects from the result"
_ONE = "if only one of the uses is to train it, detach it in the others"
_NOISE = "draw noise, and scale it: mean + std * torch.randn_like(std)"
_RSAMPLE = "draw it by rsample() of a distribution that has it, such as Normal or RelaxedBernoulli"


def _lost_in_backward(context: Context, question: Question) -> Evidence | None:
    """Where a gradient that was not zero was seen to become zeros in the latest pass."""
    cancelled = context.lost_in_pass(Loss.CANCELLED)
    lost = {**context.lost_in_pass(Loss.ZERO), **cancelled}
    values = context.values_of_pass(question, is_zero=True)
    if values is None or not lost or not question.has_zero_gradient:
        return None
    graph, nodes = values.graph, values.graph.nodes
    if not (found := stops_on_every_way(graph, graph.roots, question.key, lost)):
        return None
    # What stops it alone, as the other ones stop it because of that.
    own = {each: {e for e in lost if e[0] == each} for each in found[:_FEW]}
    one = [e for e in own if stops_on_every_way(graph, graph.roots, question.key, own[e])]
    key = max(one or found, key=lambda each: nodes[each].get("sequence_nr", 0))
    if (key, 0) in cancelled:
        return _cancelled(context, graph, key, found)
    data, others = nodes[key], 0 if one else len(found) - 1
    lines, word = locations_of([data.get("source", "")]), data.get("op", "")
    op, more = called_at(context, key, data), f", and so did {others} more" if others else ""
    what = f"{op} returned zeros in backward, and the gradient that came to it was not zero"
    words = {"what": f"{what}{more}", "fix": f"{_LOOK} for {data.get('dtype', 'its dtype')}"}
    if (key, 0) in context.lost_in_pass(Loss.UNIFORM):
        words["what"] = f"{op} returned zeros in backward: {_UNIFORM}"
        words["fix"] = of_uniform(values.of(key))
    fixes = (fix for name, fix in _FIX_OF.items() if f"{word}_".startswith(f"{name}_"))
    words["fix"] = next(fixes, words["fix"])
    if word in ("stack", "cat"):
        words["what"] = f"of the result of {op}, its part got zeros, and other parts did not"
        words["fix"] = _ROUTED
    how = operation(word_in(data)).blocks
    is_there = (key, 0) in lost or how in (Blocks.WHOLE, Blocks.NOT_CHOSEN)
    is_update = how is Blocks.WRITES and not overwrites(data.get("source", ""))
    if how and how in _FIX_AT_EACH and is_there and not is_update:
        why = f"at every element that a gradient came to, {how.value}"
        words = {"what": f"{op} blocks the gradient: {why}", "fix": _FIX_AT_EACH[how]}
    if operation(word).draws:
        words["fix"] = _NOISE if word == "normal" else _RSAMPLE
    added = (values.source_of(key, each) for each in ADDS.get(word, ()))
    if question.key in map(values.before_views, added):
        words["fix"] = "nothing, if it stays rare: it is the sum of that gradient, which is 0"
    is_function = data.get("grad_fn", "").startswith(OF_A_LIBRARY)
    if is_function or "apply" in (e.word for e in context.happened_to(key, EventKind.OPERATION)):
        words["fix"] = f"look at what backward of {word} returns"
    return Evidence(words, tuple(found), lines, key)


def _cancelled(context: Context, graph: GradGraph, key: str, found: Sequence[str]) -> Evidence:
    """The uses of one result returned gradients that add up to zeros."""
    data, nodes = graph.nodes[key], graph.nodes
    own, after = locations_of([data.get("source", "")]), [*graph.successors(key)]
    users = locations_of(nodes[each].get("source", "") for each in after)
    what = f"the gradients that the uses of the result of {called_at(context, key, data)} return"
    what += f", at {joined([mention(each) for each in users])}," if {*users} - {*own} else ""
    is_hinge = {calling_word(context, each) for each in after} == {"hinge_embedding_loss"}
    words = {"what": f"{what} are not zero, and their sum is", "fix": _SIGNED if is_hinge else _ONE}
    return Evidence(words, tuple(found), tuple(dict.fromkeys((*own, *users))), key)


_FIX_OF_CALL = {
    ("dropout", "mul"): "pass a p below 1: with p=1 dropout sets every element to 0",
    **dict.fromkeys([("margin_ranking_loss", "mul"), ("cosine_embedding_loss", "where")], _SIGNED),
}
_UNIFORM = "the same gradient came for each of its entries, whose sum is the same for every input"


def _noise(context: Context, question: Question) -> Evidence | None:
    """A gradient that is zero except for rounding errors."""
    grad, values = question.data.get("grad"), context.values_of_pass(question, is_zero=True)
    if grad is None or grad.norm is None or is_wrong(grad) or values is None:
        return None
    graph, nodes = values.graph, values.graph.nodes
    if values.only_summed and (blocks := _searched(context, values, True).blocks_of(question.key)):
        words, key = _words_of(context, values, blocks[0]), blocks[0].key
        what, fix = f"{words['op']}{words['where']} blocks it: {words['why']}", words["fix"]
    else:
        lost = rounded_at(context)
        found = lost and stops_on_every_way(graph, graph.roots, question.key, lost)
        if not found or added_cast(graph, question.key):
            return None
        key, fix = max(found, key=lambda each: nodes[each].get("sequence_nr", 0)), CONSTANT
        op = called_at(context, key, nodes[key])
        what = f"the gradients that the uses of the result of {op} return add up to 0"
        if lost[key, 0].loss is Loss.UNIFORM:
            what, fix = f"in backward of {op}, {_UNIFORM}", of_uniform(values.of(key))
    line = locations_of([nodes[key].get("source", "")])
    return Evidence({"what": what, "fix": fix}, (key,), line, key)


def _words_of(context: Context, values: Values, block: Block) -> dict[str, str]:
    data, called = values.graph.nodes[block.key], calling_word(context, block.key)
    op, line = data.get("op", ""), data.get("source", "")
    where, fix = at_line(line) + library_call(context, line), _FIX_OF_CALL.get((called, op))
    return {"op": called_as(op, called), "why": block.why, "where": where, "fix": fix or block.fix}


def _searched(context: Context, values: Values, only_causes: bool) -> ZeroSearch:
    lost = context.cached("lost zeros", lambda: context.lost_in_pass(Loss.ZERO))
    return context.cached((id(values), only_causes), lambda: ZeroSearch(values, only_causes, lost))


zero_rules: tuple[Rule[Any, Any], ...] = (
    Rule(
        "the gradient was set to zeros",
        Verdict.ZERO,
        set_to_zero,
        "{what}",
        events=(EventKind.GRAD,),
    ),
    Rule(
        "operations block the gradient",
        Verdict.ZERO,
        _blocked,
        "{op}{where} blocks the gradient: {why}{more}",
        docs="The values at the time of the pass show that each path crosses an operation whose "
        "derivative is zero there. An operation that made zeros is named before one that blocks "
        "because of them.",
    ),
    *cancel_rules,
    uses_cancel,
    Rule(
        "the pass was seen to lose the gradient",
        Verdict.ZERO,
        _lost_in_backward,
        "{what}",
        events=(EventKind.BACKWARD,),
        docs="A recording looks at gradients between operations on the CPU while backward runs.",
    ),
    Rule(
        "a gradient of rounding errors",
        Verdict.ZERO,
        _noise,
        "its gradient is 0 up to rounding errors: {what}",
        docs="A recording compares the gradients from the uses of a small result with their sum.",
    ),
    Rule(
        "zeros, cause not known",
        Verdict.ZERO,
        zeros_of_no_known_cause,
        "its gradient is all zeros{sum}",
    ),
)
