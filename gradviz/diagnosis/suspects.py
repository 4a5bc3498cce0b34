"""Operations that may have made a gradient NaN, infinite or very large, by the values of a pass."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import NamedTuple

from gradviz.diagnosis.changed_gradients import is_finite
from gradviz.diagnosis.context import Context
from gradviz.diagnosis.lines import as_read, lines_with_graph, mention
from gradviz.diagnosis.losses import LOGS, fix_of_exp
from gradviz.diagnosis.name_flow import singular_behind
from gradviz.diagnosis.rule import fix_of_root, fix_of_sum_of_exp
from gradviz.diagnosis.values import Values, has, largest, number_of, smallest
from gradviz.facts import EventKind
from gradviz.graph import (
    LEAVES,
    GradGraph,
    NodeData,
    NodeKind,
    TensorSummary,
    ancestors,
    descendants,
    in_order,
    leaf_of_node,
    word_of,
)
from gradviz.graph.operations import operation, words

KEEP_AWAY = "keep its input away from this value: add a small number, or clamp it before"
_KEEP_INSIDE = "clamp its inputs, or add a small number, where its derivative is not finite"
_LOOK = "look at its inputs: one may be infinite or NaN already, or too large: clamp it before"
_TOO_LARGE = "make its inputs smaller: normalize them, or clamp them before"
_DIVERGED = (
    "find the first iteration whose loss is not finite; a lower learning rate may help, or "
    "torch.nn.utils.clip_grad_norm_() before each step"
)
HALF = "compute this part in float32 or bfloat16: float16 holds at most 65,504"
_EQUAL = "compute the loss from the {} alone, or add a small random matrix before"
_SINGULAR = ("linalg_svd", "svd", "linalg_eigh", "linalg_eig")
_SINGLE = (
    "of a single element it divides by 0: take it over more elements, or pass correction=0; "
    "DataLoader(drop_last=True) leaves out a last batch of one row"
)
_MORE = "take it over more elements, and add a small number to it: x / (x.std() + 1e-6)"
_OF_OP = {
    "ctc_loss": "make each input at least as long as its target, plus one for each pair of equal "
    "labels in a row; or use CTCLoss(zero_infinity=True)",
    **dict.fromkeys(("std", "var"), _SINGLE),
    **dict.fromkeys(("exp", "expm1", "sinh", "cosh"), _TOO_LARGE),
    **dict.fromkeys(
        ("linalg_slogdet", "linalg_det", "linalg_inv_ex", "linalg_cholesky_ex"),
        "keep the matrix away from singular ones: x + 1e-3 * torch.eye(n)",
    ),
    **dict.fromkeys(_SINGULAR, _EQUAL.format("singular values or eigenvalues")),
}
_MASK_LATER = (
    "mask with -inf after this operation, or replace the infinite elements by finite ones before"
)
_OTHER_FACTOR = "an input has infinite elements, by which the derivative in the other is multiplied"
_PRODUCTS = ("addmm", "mm", "bmm", "baddbmm", "mv", "dot", "convolution", "mul")
_RETURNED = "in backward a finite gradient came to it, and what it returned is not finite"
_MASKED = "its result is NaN; its input is masked, and a row of -inf alone gives NaN"
_MASKED_SUM = "its input is masked, and of a row of -inf alone its result is -inf"
_UNMASK = "leave an element of each row unmasked, or drop such rows before"
_NEAR_AN_END = dict.fromkeys(
    ("acos", "asin", "atanh", "erfinv"),
    "clamp it a little inside of its range: clamp(-1 + eps, 1 - eps), with eps = 1e-6",
)
_NEAR_AN_END["logit"] = "clamp it a little inside of its range: torch.logit(x, eps=1e-6)"
_ABOVE_0 = "keep its input above 0: add a small number, or clamp it before"
_NEAR_AN_END |= dict.fromkeys(("pow", "sqrt", "rsqrt", *LOGS, "lgamma", "digamma"), _ABOVE_0)
_BY_0 = "keep the divisor away from 0: add a small number, or clamp it before"
_NEAR_AN_END |= {"div": _BY_0, "reciprocal": _BY_0}
_NAN_OF_ONE = ("of a single element it is NaN, and of equal ones 0", _MORE)
_SINGULAR_AT = dict.fromkeys(("std", "var", "std_mean", "var_mean"), _NAN_OF_ONE)
_SINGULAR_AT |= dict.fromkeys(("pow", "rsqrt", "reciprocal"), ("of 0 it is infinite", KEEP_AWAY))
_SINGULAR_AT |= dict.fromkeys(("log", "log2", "log10"), ("of 0 it is -inf", _ABOVE_0))
_SINGULAR_AT["sqrt"] = ("of a negative number it is NaN", _ABOVE_0)
_SINGULAR_AT["div"] = ("by 0 the result is not finite", _BY_0)
_AT_ONCE = {
    "softmax": "compute both at once, by torch.log_softmax(), or a loss that takes logits",
    "sigmoid": "compute both at once, by torch.nn.functional.logsigmoid(), or a loss with logits",
}
_OF_POSITIVE = ("log", "log2", "log10", "sqrt", "rsqrt")
_SOFTMAXES = ("softmax", "log_softmax")
_OF_OP |= dict.fromkeys(_SOFTMAXES, f"{_UNMASK}; if no row is, {_LOOK}")
_FEW = 32  # operations of which all nodes before them are stored
_NEAR = 6  # operations between a mask and its softmax
_PUT_IN = words(lambda row: row.puts_in)
_CHOOSES = {"index", "index_select", "masked_select", "gather", "nan_to_num", "max", "min"}
_CHOOSES |= _PUT_IN
_PASS_ON = ("add", "sub", "mul", "div", "log_softmax")
_TURNS = frozenset(("t", "transpose", "view", "to"))


class Suspect(NamedTuple):
    """An operation with a result or gradient that is not finite.

    key: the operation.
    why: a clause.
    fix: what to do.
    is_known: whether its inputs are known to be finite.
    in_forward: whether the forward pass computed these values.
    has_nan_input: whether an input has NaN, which another operation may have created.
    ends: whether what follows in the forward pass says no more.
    was_seen: whether the pass was seen to return what is not finite from a finite gradient.
    leaf: the input that is a leaf with such elements; "" if it is none.
    """

    key: str
    why: str
    fix: str = KEEP_AWAY
    is_known: bool = True
    in_forward: bool = False
    has_nan_input: bool = False
    ends: bool = False
    was_seen: bool = False
    leaf: str = ""


class Suspects:
    """The operations that the values of a pass suggest, found once for all leaves."""

    def __init__(self, context: Context, values: Values) -> None:
        graph = self._graph = values.graph
        roots = [each for each in graph.roots if graph.nodes[each]["kind"] is NodeKind.RESULT]
        self._values, self._live = values, ancestors(graph, roots)
        self.order = in_order(graph, self._live)
        self._forward = list(forward_suspects(values, self.order))
        self._backward = list(backward_suspects(values, self.order))
        self._lines = lines_with_graph(context.happened(EventKind.BACKWARD))
        self._before: dict[str, set[str]] = {}
        self._beside: dict[str, set[str]] = {}
        self._left_out: dict[str, bool] = {}
        self._causes: dict[str, tuple[Suspect | None, list[Suspect]]] = {}

    def before(self, key: str) -> set[str]:
        """The nodes from which a gradient path leads to an operation, and itself."""
        if key not in self._before:
            self._before[key] = ancestors(self._graph, [key])
        return self._before[key]

    def after(self, leaf: str, keys: Sequence[str]) -> list[str]:
        """Those of some operations to which a gradient path leads from a leaf."""
        if len(keys) > _FEW:
            below = descendants(self._graph, [leaf])
            return [key for key in keys if key in below]
        return [key for key in keys if leaf in self.before(key)]

    def forward(self, leaf: str) -> Suspect | None:
        """The first operation with a result that is not finite, before what a leaf leads to."""
        found = None
        for suspect in self._forward:
            if (key := suspect.key) not in self._beside:
                users = descendants(self._graph, [key]) & self._live
                self._beside[key] = ancestors(self._graph, users)
            if leaf in self._beside[key]:
                if key not in self._left_out:
                    self._left_out[key] = self._values.is_left_out(key)
                if not self._left_out[key]:
                    return suspect
                found = found or suspect
                if suspect.ends:
                    break
        return found

    def backward(self, leaf: str, lost: Sequence[str]) -> list[Suspect]:
        """The operations behind a leaf without a finite derivative, in the order of backward.

        What the pass was seen to do counts more than what the values suggest.
        """
        near = {*self.after(leaf, [each.key for each in self._backward])}
        found = [each for each in self._backward if each.key in near]
        if not (seen := self.after(leaf, lost)):
            return found
        return [each for each in found if each.key in seen] or [
            _of_left_out(self._values, key)
            or Suspect(key, _RETURNED, _fix_of_seen(self._graph, key), was_seen=True)
            for key in seen
        ]

    def is_of_gradient(self, first: Suspect) -> bool:
        """Whether it belongs to an operation that the program has on another line."""
        return self._graph.nodes[first.key].get("source") in self._lines

    def is_known(self, first: Suspect) -> bool:
        """Whether the inputs of an operation are known to be finite."""
        return first.is_known and not self.is_of_gradient(first)

    def causes(self, first: Suspect) -> tuple[Suspect | None, list[Suspect]]:
        """What the inputs of an operation may come from: data, or one without a finite value."""
        if first.key not in self._causes:
            self._causes[first.key] = self._causes_of(first)
        return self._causes[first.key]

    def _causes_of(self, first: Suspect) -> tuple[Suspect | None, list[Suspect]]:
        values, key, is_known = self._values, first.key, self.is_known(first)
        every = in_order(self._graph, self.before(key))
        inner = [each for each in every if each != key]
        data = (_of_data(values, e, first.has_nan_input) for e in (inner if is_known else every))
        suspect = next(filter(None, data), None)
        spoiled = [] if is_known else _spoiled(values, key, every)
        # What is not finite before an operation was so before the data that it was given.
        earlier = self.before(suspect.key) - {suspect.key} if suspect is not None else ()
        if is_known or (suspect is not None and not {*spoiled}.intersection(earlier)):
            return suspect, []
        found = list(backward_suspects(values, inner))[::-1] if self.is_of_gradient(first) else []
        for each in spoiled:
            fix = _fix_near(values.graph, each)
            found.append(Suspect(each, _why_singular(values, each), fix, in_forward=True))
        return None, found


def of_untracked(values: Values, key: str, only_nan: bool = False) -> Suspect | None:
    """An operation with an input outside the graph that is not finite."""
    for source, edge in values.graph.inputs(key):
        data: NodeData = values.graph.nodes[source]
        if data["kind"] is not NodeKind.UNTRACKED:
            continue
        value = data.get("value") or values.input_of(key, edge.get("input", 0))
        is_mask = values.graph.nodes[key].get("op") == "add"  # -inf is added on purpose
        which = f"its input {_as_created(data)}"
        if value and value.nan and (first := _first_with_nan(values, source)) != source:
            data = values.graph.nodes[first]
            which = f"its input was computed from {_as_created(data).rstrip(',')}, which"
        if suspect := _with_input(key, which, value, only_nan or is_mask):
            return _of_code(suspect, data)
    return None


def _as_created(data: NodeData) -> str:
    name, op = data.get("name", ""), data.get("op", "")
    line, by = data.get("source", ""), f" by {op}" if name and op.isidentifier() else ""
    read = (as_read(data) if op else name) or "that does not require grad"
    return f"{read}, created{by} at {mention(line)}," if line else read


def _first_with_nan(values: Values, key: str) -> str:
    """The data from which the NaN of other data comes, as far as values are known."""
    nodes = values.graph.nodes
    while True:
        found = [e for e, _ in values.graph.inputs(key) if _has_nan(values.of(e))]
        found = [e for e in found if nodes[e]["kind"] is NodeKind.UNTRACKED]
        if len(found) != 1:
            return key
        key = found[0]


def _of_code(suspect: Suspect, data: NodeData) -> Suspect:
    """The same, with what the code that created it calls, if that is not finite somewhere."""
    line = data.get("source", "") if data["kind"] is NodeKind.UNTRACKED else ""
    if (found := singular_behind(line, _SINGULAR_AT)) is None:
        return suspect
    word, place = found
    at = "there" if mention(place) in suspect.why else f"at {mention(place)}"
    what = "it divides" if word == "div" else f"{word}() is called"
    where, fix = _SINGULAR_AT[word]
    return suspect._replace(why=f"{suspect.why}; {what} {at}, and {where}", fix=fix)


def _of_left_out(values: Values, key: str) -> Suspect | None:
    """Untracked data that is not finite, of which a loss was finite and a gradient is not."""
    if (suspect := of_untracked(values, key)) is None:
        return None
    op = values.graph.nodes[key].get("op", "")
    return suspect._replace(fix=f"leave them out before {op}, not after it: 0 * NaN is NaN")


def _of_data(values: Values, key: str, only_nan: bool) -> Suspect | None:
    """An operation before the first result that is not finite, with such data as an input."""
    if suspect := of_untracked(values, key, only_nan):
        return suspect
    tracked = _numbers(values.graph, key)
    for number in (0, 1, 2):
        value = values.input_of(key, number) if number not in tracked else None
        factors = operation(values.graph.nodes[key].get("op", "")).factors or (0,)
        which = "its input" if number == factors[0] else f"its input {number}"
        which += ", which does not require grad,"
        if suspect := _with_input(key, which, value, only_nan):
            return suspect
    return None


def _with_input(
    key: str, which: str, value: TensorSummary | None, only_nan: bool
) -> Suspect | None:
    """An operation with an input from outside the graph, if that has NaN or infinite elements."""
    if value is None or not (value.nan or not (only_nan or value.is_finite)):
        return None
    what = "NaN" if value.nan else "infinite"
    fix = f"find where it becomes {what}, before the loss"
    return Suspect(key, f"{which} has {what} elements", fix)


def _fix_near(graph: GradGraph, key: str) -> str:
    """What to do about an operation near a value where it is not finite."""
    of, made = graph.nodes[key].get("op", ""), key
    for _ in range(_NEAR if of in LOGS else 0):
        inputs = [source for source, _ in graph.inputs(made)]
        made = inputs[0] if inputs else made
        op = graph.nodes[made].get("op", "")
        if op in _AT_ONCE:
            return _AT_ONCE[op]
        if not (operation(op).rearranges or operation(op).views or op in _CHOOSES):
            break
    is_near_0 = of in ("div", "reciprocal", *LOGS)
    fix = fix_of_sum_of_exp(graph, key, int(of == "div")) if is_near_0 else ""
    return fix or fix_of_root(graph, key) or _NEAR_AN_END.get(of, KEEP_AWAY)


def _fix_of(graph: GradGraph, key: str) -> str:
    data = graph.nodes[key]
    if data.get("grad_fn", "").endswith("Backward"):  # of a Function, without a number
        return f"look at what backward of {data.get('op')} returns"
    dtypes = (graph.nodes[each].get("dtype") for each in (key, *graph.predecessors(key)))
    usual = HALF if "float16" in dtypes else _fix_near(graph, key)
    return fix_of_exp(graph, key) or _OF_OP.get(data.get("op", "")) or usual


def _fix_of_seen(graph: GradGraph, key: str) -> str:
    """The same, where it is not known at which value."""
    usual = _fix_of(graph, key)
    return _KEEP_INSIDE if usual in (KEEP_AWAY, _ABOVE_0) else usual


def _fix_of_result(op: str, made: TensorSummary, is_known: bool) -> str:
    """What to do about an operation whose inputs are finite, or not known."""
    is_overflow = made.inf > 0 and not made.nan
    if is_overflow and made.dtype == "float16":
        return HALF
    is_near = op == "div" or operation(op).not_finite_at
    if not is_near and not is_known:
        return _LOOK
    return _TOO_LARGE if is_overflow and not is_near else KEEP_AWAY


def _chooses_among(graph: GradGraph, key: str, keys: Container[str]) -> bool:
    """Whether a ``where`` takes all of its elements from some nodes."""
    branches = {edge.get("input", 0): source for source, edge in graph.inputs(key)}
    both = [branches.get(0), branches.get(1)]  # the condition comes last
    return graph.nodes[key].get("op") == "where" and all(each in keys for each in both)


def forward_suspects(values: Values, keys: Sequence[str]) -> Iterator[Suspect]:
    """Operations whose result is not finite, in order; masking with -inf does not count."""
    put_in = set[str]()  # with infinite elements that were put in
    for key in keys:
        data: NodeData = values.graph.nodes[key]
        op = data.get("op", "")
        if data["kind"] is not NodeKind.OPERATION or op in _TURNS:
            continue
        if leaf := bad_leaf(values, key):
            yield _of_leaf(values, key, leaf, "NaN")
            continue
        if why := _too_few(values, key):
            yield Suspect(key, why, _SINGLE, in_forward=True)
            continue
        made = values.made_by(key)
        if made is None and op in _PRODUCTS and (leaf := bad_leaf(values, key, "inf")):
            yield _of_leaf(values, key, leaf, "infinite")
        if is_finite(made) is not False or made is None:
            continue
        source = values.source_of(key, 0) if op == "neg" else ""
        given: NodeData = values.graph.nodes[source] if source else {}
        if given.get("kind") is NodeKind.OPERATION and values.made_by(source) is None:
            key, op = source, given.get("op", "")  # it was not finite
        inputs = [leaf_of_node(values.graph, source) for source, _ in values.graph.inputs(key)]
        wrong = [each for each in inputs if is_finite(values.of(each)) is False]
        outside = [each for each in wrong if values.graph.nodes[each]["kind"] is NodeKind.UNTRACKED]
        if op == "add" and not any(_has_nan(values.of(each)) for each in wrong):
            wrong = [each for each in wrong if each not in outside]
        is_masked = bool(wrong) and put_in.issuperset(wrong)
        # A sum that is -inf in places, of which an input is not known, is masked.
        most = largest(made) if op == "add" and not wrong else None
        is_mask = most is not None and math.isfinite(most)
        is_mask = is_mask and any(values.of(each) is None for each in inputs)
        is_passed_on = is_masked and (op in _PASS_ON or operation(op).rearranges)
        if not made.nan and (op in _PUT_IN or (outside and not wrong) or is_passed_on or is_mask):
            put_in.add(key)
            continue
        if op == "logsumexp" and is_masked:
            yield Suspect(key, _MASKED_SUM, _UNMASK, in_forward=True)
        elif op in _SOFTMAXES and made.nan and not outside and _is_masked(values, key):
            yield Suspect(key, _MASKED, _UNMASK, in_forward=True, has_nan_input=True)
        elif wrong:
            yield _spread(values, key, wrong[0])
        elif why := _why_singular(values, key):
            fix = _fix_near(values.graph, key)
            yield Suspect(key, why, fix, in_forward=True, has_nan_input=op in _OF_POSITIVE)
        elif made.inf and (masked := _masked_sum(values, key)):
            yield Suspect(masked, _MASKED_SUM, _UNMASK, in_forward=True)
        elif any(values.of(each) is None for each in inputs):
            why = "its result is not finite; its inputs are not known"
            fix = fix_of_exp(values.graph, key) or _fix_of_result(op, made, False)
            if op in _SOFTMAXES and made.nan:
                why += ": a row of -inf alone, as where a mask hides all of it, gives NaN"
                fix = f"{_UNMASK}; if no row is, {fix}"
            yield Suspect(key, why, fix, False, in_forward=True)
        else:
            why = "its result is not finite, its inputs are"
            fix = fix_of_exp(values.graph, key) or _fix_of_result(op, made, True)
            yield Suspect(key, why, fix, in_forward=True)


def _of_leaf(values: Values, key: str, leaf: str, what: str) -> Suspect:
    """An operation with a leaf as its input whose values were not finite before."""
    why = f"{word_of(values.graph.nodes[leaf])} has had {what} elements since before this pass"
    return Suspect(key, why, _DIVERGED, in_forward=True, ends=True, leaf=leaf)


def _spread(values: Values, key: str, source: str) -> Suspect:
    """An operation with an input that is not finite."""
    name = word_of(values.graph.nodes[source])
    bad = values.of(source)
    is_nan = bad is not None and bad.nan > 0
    why = f"its input {name} has {'NaN' if is_nan else 'infinite'} elements"
    if not is_nan and (suspect := of_untracked(values, key)) is not None:
        return suspect
    fix = f"leave them out before: select from {name} first, and mask later"
    if values.graph.nodes[key].get("op") in _SOFTMAXES and not is_nan:
        why, fix = f"{why}, and a row of nothing else gives NaN", _UNMASK
    elif not is_nan and (leaf := bad_leaf(values, key, "inf")):
        return _of_leaf(values, key, leaf, "infinite")
    suspect = Suspect(key, why, fix, in_forward=True, has_nan_input=is_nan)
    return _of_code(suspect, values.graph.nodes[source]) if is_nan else suspect


def _is_masked(values: Values, key: str) -> bool:
    """Whether the input of a softmax was masked, as far as -inf can be the mask."""
    nodes = values.graph.nodes
    for _ in range(_NEAR):
        inputs = [source for source, _ in values.graph.inputs(key)]
        key = next((each for each in inputs if nodes[each]["kind"] is NodeKind.OPERATION), "")
        op = nodes[key].get("op", "") if key else ""
        if op in _PUT_IN:
            return True
        if op == "add":
            added = (values.of(source) for source, _ in values.graph.inputs(key))
            if any(value is not None and value.inf and not value.nan for value in added):
                return True
        elif op not in _TURNS and op not in ("mul", "div"):
            return False
    return False


def _masked_sum(values: Values, key: str) -> str:
    """The logsumexp of a masked input from which an operation only rearranges or sums; or ""."""
    nodes = values.graph.nodes
    for _ in range(_NEAR):
        op = nodes[key].get("op", "")
        if op == "logsumexp":
            return key if _is_masked(values, key) else ""
        if op not in ("mean", "sum", "neg") and not operation(op).rearranges:
            break
        if not (key := values.source_of(key, 0)):
            break
    return ""


def bad_leaf(values: Values, key: str, what: str = "nan") -> str:
    """The key of a leaf among the inputs that has NaN elements, or "inf" ones; "" if none has."""
    graph = values.graph
    if graph.nodes[key].get("op") in _PUT_IN:
        return ""
    for source, _ in graph.inputs(key):
        while graph.nodes[source].get("op") in _TURNS and (row := next(graph.inputs(source), ())):
            source = row[0]
        source = leaf_of_node(graph, source)
        if graph.nodes[source]["kind"] in LEAVES:
            if (value := values.of(source)) is None and operation(graph.nodes[key]["op"]).views:
                value = values.made_by(key)  # a step has changed the leaf since
            if value is not None and getattr(value, what):
                return source
    return ""


def _has_nan(summary: TensorSummary | None) -> bool:
    return summary is not None and summary.nan > 0


def backward_suspects(values: Values, keys: Sequence[str]) -> Iterator[Suspect]:
    """Operations without a finite derivative at their input, in the order of backward."""
    graph = values.graph
    for key in reversed(keys):
        if graph.nodes[key].get("op", "") in _SINGULAR:
            yield from _equal_values(values, key)
        elif _has_infinite_factor(values, key):
            leaf = bad_leaf(values, key, "inf")
            factor = Suspect(key, _OTHER_FACTOR, _MASK_LATER)
            yield _of_leaf(values, key, leaf, "infinite") if leaf else factor
        elif why := _why_singular(values, key):
            yield Suspect(key, why, _fix_near(values.graph, key))


def _has_infinite_factor(values: Values, key: str) -> bool:
    """Whether the derivative in one factor is not finite, as the other one is infinite."""
    op, tracked = values.graph.nodes[key].get("op", ""), _numbers(values.graph, key)
    ways = {"div": ((0, 1),), "mul": ((0, 1), (1, 0))}.get(op, ())
    given = (values.input_of(key, number) for number, at in ways if at in tracked)
    return any(each is not None and bool(each.inf) for each in given)


def _too_few(values: Values, key: str) -> str:
    """Why a standard deviation is NaN: it is taken over too few elements; or ""."""
    data: NodeData = values.graph.nodes[key]
    shapes = [values.graph.nodes[each].get("shape") for each, _ in values.graph.inputs(key)]
    correction = number_of(data.get("options", {}).get("correction", "1"))
    if data.get("op") not in ("std", "var") or shapes[:1] == [None] or correction is None:
        return ""
    count = math.prod(shapes[0] or ()) // max(math.prod(data.get("shape", ())), 1)
    noun = "element" if count == 1 else "elements"
    return f"it is taken over {count:,} {noun}" if 0 < count <= correction else ""


def _why_singular(values: Values, key: str) -> str:
    """Why a result or derivative is not finite, by a known input of the operation; or ""."""
    data: NodeData = values.graph.nodes[key]
    op = data.get("op", "")
    if op == "div":
        number = number_of(data.get("options", {}).get("other"))
        is_zero = number == 0 or (
            1 in _numbers(values.graph, key) and has(values.input_of(key, 1), 0.0)
        )
        return "it divides by 0" if is_zero else ""
    below = smallest(given) if (given := values.input_of(key, 0)) is not None else None
    if op in _OF_POSITIVE and below is not None and below < 0:
        return "its input has negative elements"
    if op == "pow" and below is not None and below < 0 and 1 in _numbers(values.graph, key):
        return (
            "its base has negative elements: the derivative in its exponent takes their logarithm"
        )
    if op in _OF_POSITIVE and below is None and _has_nan(values.made_by(key)):
        return "its input has elements that are negative or NaN"
    if op in ("reciprocal", "rsqrt") and (made := values.made_by(key)) is not None and made.inf:
        return "it divides by 0, or by nearly 0"
    if op == "sqrt":
        is_zero = has(values.made_by(key), 0.0) or has(values.input_of(key, 0), 0.0)
        return "its input has a 0" if is_zero else ""
    exponent = number_of(data.get("options", {}).get("exponent")) or 1
    if op == "pow" and ((why := _negative_base(values, key)) or exponent >= 1):
        return why
    if op == "logit" and data.get("options", {}).get("eps") is not None:
        return ""  # it clamps its input
    bad = (n for n in operation(op).not_finite_at if has(values.input_of(key, 0), n))
    return next((f"its input has a {number:g}" for number in bad), "")


def _spoiled(values: Values, key: str, before: Iterable[str]) -> list[str]:
    """The operations whose result is not finite and may reach an operation, in order.

    One behind which elements are chosen does not count: its NaN may be left out.
    """
    graph = values.graph
    found = [each for each in in_order(graph, before) if _spoils_its_result(values, each)]
    if not found:
        return []
    choosing = {each for each in ancestors(graph, [key]) if graph.nodes[each].get("op") in _CHOOSES}
    behind = {each: descendants(graph, [each]) | {each} for each in found}
    rows = ((each, choosing & behind[each]) for each in found)
    return [e for e, at in rows if all(_chooses_among(graph, where, behind[e]) for where in at)]


def _spoils_its_result(values: Values, key: str) -> bool:
    """Whether the result of an operation is not finite, as a known input of it shows."""
    op, given = values.graph.nodes[key].get("op", ""), values.input_of(key, 0)
    if op in _OF_POSITIVE:
        below = None if given is None else smallest(given)
        return below is not None and (below < 0 or (op != "sqrt" and has(given, 0.0)))
    if op in ("div", "lgamma", "digamma"):
        return bool(_why_singular(values, key))
    return op == "pow" and bool(_negative_base(values, key))


def _negative_base(values: Values, key: str) -> str:
    """Why a power is NaN: negative elements, and an exponent that is no integer; or ""."""
    exponent = number_of(values.graph.nodes[key].get("options", {}).get("exponent", "1"))
    base = values.input_of(key, 0)
    lowest = None if base is None else smallest(base)
    if exponent is None or lowest is None or not lowest < 0 or exponent.is_integer():
        return ""
    return f"its input has negative elements, and its exponent is {exponent:g}"


def _numbers(graph: GradGraph, key: str) -> set[int]:
    return {edge.get("input", 0) for _, edge in graph.inputs(key)}


def _equal_values(values: Values, key: str) -> Iterator[Suspect]:
    """A decomposition with equal singular values or eigenvalues."""
    for name in ("S", "L", "eigenvalues"):
        if (found := values.saved(key, name)) is None:
            continue
        is_equal = found.min is not None and found.min == found.max
        if is_equal or len(set(found.values or ())) < len(found.values or ()):
            what = "singular values" if name == "S" else "eigenvalues"
            why = f"two of its {what} are equal, and the derivative of its vectors divides by their"
            yield Suspect(key, f"{why} difference", _EQUAL.format(what))
            return
