"""A rule of `explain`: its condition, its evidence, and its sentences.

Rules are in one ordered list (`gradviz.diagnosis.explain.RULES`) and are tried in order until
one answers. The list is the documentation: `gradviz.diagnosis.explain.describe` prints it.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from gradviz.diagnosis.answers import Explanation, Group, Verdict
from gradviz.diagnosis.context import Context, Reach
from gradviz.diagnosis.lines import (
    assigned_before,
    assignments_to,
    at_line,
    called_name,
    called_on,
    code_of,
    expressions_at,
    has_line,
    imported,
    locations_of,
    mention,
    nodes_in,
    operands,
    statement_at,
    statements_around,
    stored,
    syntax_tree,
)
from gradviz.diagnosis.name_flow import calls_in
from gradviz.facts import SCALER, Action, CutEdge, EventKind, Loss, LostGradient, SourceLocation
from gradviz.graph import (
    Cause,
    EdgeData,
    GradGraph,
    NodeData,
    NodeKind,
    TensorSummary,
    ancestors,
    is_data,
)
from gradviz.graph.operations import operation
from gradviz.story import Event


class RuleSubject(Protocol):
    """The subject of an explanation: a tensor (`Question`) or an error."""

    @property
    def name(self) -> str:
        """Its name: ``"fc.weight"``, ``"RuntimeError"``."""

    @property
    def key(self) -> str:
        """Its node in the graph; "" for none."""

    @property
    def group(self) -> Group:
        """The verdicts that can apply: for a missing gradient, a gradient, or an error."""

    @property
    def kind(self) -> NodeKind | None:
        """The kind of tensor; None for an error."""


class Needs(str, Enum):
    """What a rule reads; otherwise the rule is not tried."""

    GRAPH = "the graph"
    """Only the graph: the rule also answers without a recording."""
    RECORDING = "a recording"
    """The events of a recording."""
    ERROR = "an error"
    """The text of an exception, and the facts about the moment when it was raised."""


@dataclass(frozen=True)
class Evidence:
    """What a rule found. A rule that needs other facts for its sentences defines a subclass."""

    # values for the sentences of the rule, by the name in ``{}``
    words: Mapping[str, object] = field(default_factory=dict)
    nodes: tuple[str, ...] = ()  # keys of the nodes that show it
    locations: tuple[SourceLocation, ...] = ()  # lines of the program that show it
    culprit: str = ""  # key of the node to mark; "" for that of the subject
    cause: str = ""  # equal for rows that have one cause at several lines; "" for no such cause


S = TypeVar("S", bound=RuleSubject)
E = TypeVar("E", bound=Evidence)
Sentence = str | Callable[[E], str]


@dataclass(frozen=True)
class Rule(Generic[S, E]):
    """One verdict, and its condition.

    Args:
        name: the condition in a few words: ``"zero_grad cleared the gradient"``.
        verdict: the code of the answer. Its group determines to which subjects the rule applies.
        match: returns the evidence, or None if the rule does not apply.
        reason: one sentence; a text is formatted with ``evidence.words`` (`str.format`).
        fix: what to do, in the same form; by default the word ``fix`` of the evidence, or nothing.
        events: kinds of events of which at least one must have been recorded; () for no condition.
        to_it: whether one of them must have happened to the tensor itself.
        given: an attribute of the subject, of its node or of the context that must not be empty.
        docs: a sentence for the reference: what the rule checks, and when it does not answer.
        when: where the tensor must be in the graph; () for anywhere.
        needs: what it reads; a rule with events needs a recording.
    """

    name: str
    verdict: Verdict
    match: Callable[[Context, S], E | None]
    reason: Sentence[E]
    fix: Sentence[E] = lambda found: str(found.words.get("fix", ""))
    events: tuple[EventKind, ...] = ()
    to_it: bool = False
    given: str = ""
    docs: str = ""
    when: tuple[Reach, ...] = ()
    needs: Needs = Needs.GRAPH

    def __post_init__(self) -> None:
        if self.events:
            object.__setattr__(self, "needs", Needs.RECORDING)
        elif self.verdict.group is Group.ERROR and self.needs is Needs.GRAPH:
            object.__setattr__(self, "needs", Needs.ERROR)


def only_when(reach: Reach, *rules: Rule[Any, Any]) -> tuple[Rule[Any, Any], ...]:
    """The same rules, tried only for tensors that are there."""
    return tuple(replace(rule, when=(reach,)) for rule in rules)


@dataclass(frozen=True)
class OtherSubject:
    """What a row of a list is about, if it is no tensor that is asked for."""

    name: str  # of a variable, or what to call it
    key: str  # of a node in the context; "" for none
    context: Context  # where it is
    facts: Any  # what its rule needs
    group: Group = Group.TRAINING  # of the verdicts that can apply
    kind: NodeKind | None = None


def answers_about(rule: Rule[Any, Any], rows: Iterable[Any]) -> list[Explanation]:
    """The answers of a rule about some rows; those that are None are left out."""
    answers = (first_answer([rule], row.context, row) for row in rows if row is not None)
    return [each for each in answers if each is not None]


def first_answer(
    rules: Iterable[Rule[Any, Any]], context: Context, subject: RuleSubject
) -> Explanation | None:
    """Try rules in order until one answers; None if none does."""
    reach = own = None
    for rule in rules:
        if rule.needs is Needs.RECORDING and context.events is None:
            continue
        if rule.events and context.kinds.isdisjoint(rule.events):
            continue
        if rule.given and not _has(rule.given, context, subject):
            continue
        if rule.to_it:
            own = context.kinds_of(subject.key) if own is None else own
            if own.isdisjoint(rule.events):
                continue
        if rule.when:
            reach = reach or context.reach_of(subject)
            if reach not in rule.when:
                continue
        evidence = rule.match(context, subject)
        if evidence is not None:
            return explanation_of(rule, evidence, context, subject)
    return None


def _has(name: str, context: Context, subject: RuleSubject) -> bool:
    """Whether the subject, its node or the context has an attribute that is not empty."""
    own = getattr(subject, name, None) or getattr(subject, "data", {}).get(name)
    return bool(own or getattr(context, name, None))


def explanation_of(
    rule: Rule[Any, Any], evidence: Evidence, context: Context, subject: RuleSubject
) -> Explanation:
    """Convert the evidence of a rule to sentences."""
    nodes = [key for key in (subject.key, *evidence.nodes) if key in context.graph]
    culprit = evidence.culprit or subject.key
    return Explanation(
        rule.verdict,
        subject.name,
        _said(rule.reason, evidence),
        fix=_said(rule.fix, evidence),
        nodes=tuple(dict.fromkeys(nodes)),
        locations=tuple(dict.fromkeys(each for each in evidence.locations if each.file)),
        graph=context.graph,
        culprit=culprit if culprit in context.graph else "",
        kept=context.kept,
        rule=rule.name,
        kind=subject.kind,
        cause=evidence.cause,
    )


def _said(sentence: str | Callable[[Any], str], evidence: Evidence) -> str:
    return sentence.format(**evidence.words) if isinstance(sentence, str) else sentence(evidence)


def with_article(noun: str) -> str:
    """``"a float"``, ``"an int"``."""
    return f"{'an' if noun[:1] in 'aeioAEIO' else 'a'} {noun}"


# Nodes of a graph.


def node_of(context: Context, **attributes: object) -> str:
    """The key of the only node with these attributes; "" if there is none, or several."""
    nodes = [
        key
        for key, data in context.graph.nodes(data=True)
        if all(data.get(name) == value for name, value in attributes.items())
    ]
    return nodes[0] if len(nodes) == 1 else ""


def source_of(context: Context, key: str) -> str:
    """The line of a node, as text; "" if unknown."""
    return str(context.graph.nodes[key].get("source", "")) if key in context.graph else ""


def is_made_at_a_line(data: NodeData) -> bool:
    """Whether a node is the result of one operation of a known line, not changed since."""
    is_computed = data.get("kind") in (NodeKind.OPERATION, NodeKind.UNTRACKED)
    return is_computed and "source" in data and "," not in data.get("op", ",")


def library_call(context: Context, source: str) -> str:
    """The text behind a line of a library: the only line of the program that calls it; or ""."""
    for place in locations_of([source]):
        own = context.cached("own files", lambda: _own_files(context))
        for each in statements_around(place, ast.FunctionDef) if place.file not in own else ():
            lines = [e for file in own for e in _calls_of(file, each.name, place.file)]
            if len(lines) == 1:
                return f", in {each.name}(), which {mention(lines[0])} calls,"
    return ""


def _own_files(context: Context) -> set[str]:
    return {each.location.file for each in context.events or () if each.location.is_own}


def _calls_of(file: str, name: str, library: str) -> Iterator[SourceLocation]:
    """The lines of a file that call a function that it imports from a library's file."""
    tree, known = syntax_tree(file), dict[str, str]()  # how the function is called, and its name
    for made in nodes_in(tree, ast.ImportFrom):
        if (made.module or "").partition(".")[0] in library:
            known |= {each.asname or each.name: each.name for each in made.names}
    for plain in nodes_in(tree, ast.Import):
        modules = [e for e in plain.names if e.name.partition(".")[0] in library]
        known |= {f"{each.asname or each.name}.{name}": name for each in modules}
    for call in nodes_in(tree, ast.Call):
        if known.get(ast.unparse(call.func)) == name:
            yield SourceLocation(file, call.lineno)


SUM = "run backward once, on the sum of the losses"


def fix_of_shared(context: Context, freeing: Event, name: str, key: str = "") -> str:
    """What to do about a result that two backward passes use."""
    if freeing.action is Action.AUTOGRAD_GRAD:  # with retain_graph alone, its result is cut off
        edges = context.graph.edges(data="cause")
        before = ancestors(context.graph, context.roots, is_data)
        is_used = any(to in before and cause is Cause.AUTOGRAD_GRAD for _, to, cause in edges)
        keep = "" if is_used else "; or, if its result is not to be trained, retain_graph=True"
        return f"{freeing.location}: pass create_graph=True to torch.autograd.grad{keep}"
    train = f"loss is not to train what {name} was computed from, compute it from {name}.detach()"
    held = {each for e, step in context.steps if e.number > freeing.number for each in step.held}
    made = ancestors(context.graph, [key]) if key else set()
    if name and not held.isdisjoint(made) and held.isdisjoint(context.reachable - made):
        return f"if the second {train}; otherwise compute {name} anew for it"
    retain = "or call the first one with backward(retain_graph=True)"
    is_loop = freeing.location == context.happened(EventKind.BACKWARD)[-1].location
    both = "sum(losses)" if is_loop else "(loss_a + loss_b)"
    return f"{SUM}: {both}.backward(); {retain}{f'; or, if the first {train}' if name else ''}"


def lost_detach(context: Context, since: int) -> tuple[str, SourceLocation] | None:
    """The ``x`` of a statement ``x.detach()`` after an event, which leaves its result; its line."""
    for event in context.happened(EventKind.CUT):
        match statement_at(event.location):
            case ast.Expr(ast.Call(ast.Attribute(value, "detach"))) if stored(value):
                if event.number > since:
                    return ast.unparse(value), event.location
    return None


def fix_of_root(graph: GradGraph, key: str) -> str:
    """What to do about the root of a variable whose name says that it is a logarithm; or ""."""
    source = next(graph.predecessors(key), key)
    name = graph.nodes[source].get("name", "") if graph.nodes[key].get("op") == "sqrt" else ""
    is_log = "log" in name.lower() and any(e in name.lower() for e in ("var", "sig", "std"))
    root = f"if {name} is the logarithm of a variance, its root is torch.exp(0.5 * {name})"
    return f"{root}; otherwise clamp {name} above 0 before" if is_log else ""


_GROUPED = ("index_add", "scatter_add", "scatter_reduce")


def fix_of_sum_of_exp(graph: GradGraph, key: str, number: int) -> str:
    """What to do where an input of an operation, by its number, is a sum of exponentials; or ""."""
    keys = [source for source, edge in graph.inputs(key) if edge.get("input", 0) == number]
    summed = set[str]()
    for _ in range(4):
        words = [graph.nodes[each].get("op", "") for each in keys]
        if "exp" in words and not summed.isdisjoint(_GROUPED):
            source = graph.nodes[keys[words.index("exp")]].get("source", "")
            fix = f"subtract the largest of each group before exp(){at_line(source)}, as softmax "
            return f"{fix}does: exp() of very negative numbers is 0"
        if "exp" in words:
            how = "compute it by torch.logsumexp(): exp() of very negative numbers is 0"
            return how if summed else ""
        rows = [*zip(keys, words, map(operation, words), strict=True)]
        sums = [e for e, word, row in rows if word in ("sum", "mean", *_GROUPED) or row.factors]
        passed = [e for e, w, row in rows if w in ("mul", "div", "index") or row.rearranges]
        summed |= {graph.nodes[each].get("op", "") for each in sums}
        keys = [source for key in (*sums, *passed) for source, _ in graph.inputs(key)]
    return ""


def smooth_form(word: str, line: str) -> str:
    """The comparison or argmax() of a line as a function that has a gradient; "" if unknown."""
    for place in locations_of([line]):
        call, given = _call_at(place, word)
        if call is not None and len(given) > 1 and word == "argmax":
            code = f"torch.softmax({ast.unparse(given[0])}, {ast.unparse(given[1])})"
            return f"compute with the probabilities, {code}, instead of a label"
        pairs = nodes_in(statement_at(place), ast.Compare) if word != "argmax" else []
        if len(pairs) == 1 and isinstance(pairs[0].ops[0], (ast.Lt, ast.LtE, ast.Gt, ast.GtE)):
            sides = [pairs[0].left, pairs[0].comparators[0]]
            if isinstance(pairs[0].ops[0], (ast.Lt, ast.LtE)):
                sides.reverse()
            code = ast.unparse(ast.BinOp(sides[0], ast.Sub(), sides[1]))
            return f"use a soft comparison, torch.sigmoid(({code}) / scale)"
    return ""


def leads_to_an_index(graph: GradGraph, cut: CutEdge) -> bool:
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


def calling_word(context: Context, key: str) -> str:
    """The word of the function whose call made an operation: ``"linear"``; "" if unknown."""
    kinds = (EventKind.IN_PLACE, EventKind.OPERATION)
    called = [event.word for kind in kinds for event in context.happened_to(key, kind)]
    if called:
        return called[-1]
    # One of several that a function made: the last of them is that of its event.
    data = context.node_in_a_frame(key) or {}
    own, events = data.get("sequence_nr", -1), context.events_on(data.get("source", ""))
    made = (e for e in events if e.kind is EventKind.OPERATION and e.nodes)
    rows = [((context.node_in_a_frame(e.nodes[-1]) or {}).get("sequence_nr"), e) for e in made]
    later = [(nr, e.number, e.word) for nr, e in rows if nr is not None and nr > own >= 0]
    return min(later)[-1] if later else ""


def called_as(op: str, called: str) -> str:
    """An operation, with the function whose call made it: ``"linear (addmm)"``."""
    return op if called.strip("_") in (op.strip("_"), "") else f"{called} ({op})"


def called_at(context: Context, key: str, data: NodeData) -> str:
    """An operation, with what called it, and its line: ``"linear (addmm) at train.py:7"``."""
    op = called_as(data.get("op", ""), calling_word(context, key))
    return f"{op}{at_line(data.get('source', ''))}"


def rounded_at(context: Context) -> dict[tuple[str, int], LostGradient]:
    """Where the latest pass returned rounding errors, if the first pass did: not at an optimum."""
    started = getattr(context.passes[0].details, "pass_number", 0) if context.passes else 0
    kinds = [e for e in (Loss.ROUNDED, Loss.UNIFORM) if context.lost_in_pass(e, started)]
    return {key: lost for each in kinds for key, lost in context.lost_in_pass(each).items()}


# Statements that do less than they seem to.


def written(events: Sequence[Event], name: str, instead: str = "") -> str:
    """A call as the line of the last event has it: ``"self.opt_d.step()"``; "" if unknown.

    Args:
        events: what happened.
        name: of the method that is called there: ``"step"``.
        instead: of the method to call on it, with the same arguments: ``"unscale_"``.
    """
    calls = nodes_in(statement_at(events[-1].location) if events else None, ast.Call)
    found = [e for e in calls if isinstance(e.func, ast.Attribute) and e.func.attr == name]
    if len(found) != 1 or not isinstance(found[0].func, ast.Attribute):
        return ""
    if instead and not found[0].args:
        return ""
    owner = ast.unparse(found[0].func.value)
    return f"{owner}.{instead or name}({', '.join(map(ast.unparse, found[0].args))})"


def opt_at(step: Event) -> str:
    """``"self.opt"`` where its line is ``self.opt.step()``, else ``"optimizer"``."""
    code = written([step], "step")
    return code.removesuffix(".step()") if code.endswith(".step()") else "optimizer"


def has_graph(event: Event) -> bool:
    """Whether a pass is ``torch.autograd.grad`` with ``create_graph=True``."""
    is_asked = event.action is Action.AUTOGRAD_GRAD
    return is_asked and bool(getattr(event.details, "create_graph", False))


_NOT_LINEAR = (
    "let it be not linear, as by an activation between its layers; or pass allow_unused=True and "
    "materialize_grads=True, which return zeros"
)


def of_a_linear(context: Context, at: SourceLocation, key: str) -> dict[str, str]:
    """Why a derivative by a leaf, a variable of a statement, does not depend on it; {} if not."""
    passes = [each for each in context.happened(EventKind.BACKWARD) if has_graph(each)]
    of_it = [e.location for e in passes if key in (getattr(e.details, "inputs", None) or ())]
    names = {each.id for each in nodes_in(statement_at(at), ast.Name)}
    lines = (str(line) for name in sorted(names) for line in assigned_before(at, name))
    known = {str(each): each for each in of_it if str(each) != str(at)}
    if (line := next((known[each] for each in lines if each in known), None)) is None:
        return {}
    what = "is a derivative that does not depend on it: what was differentiated is linear in it"
    return {"why": f": {mention(line)} {what}", "fix": _NOT_LINEAR}


def _call_at(place: SourceLocation, name: str) -> tuple[ast.Call | None, list[ast.expr]]:
    """The only call of a function or method at a line, and its operands."""
    calls = [each for each in expressions_at(place, name) if isinstance(each, ast.Call)]
    if len(calls) != 1 or called_name(calls[0]) != name:
        return None, []
    known = imported(place.file)
    return calls[0], [e for e in operands(calls[0]) if ast.unparse(e) not in known]


def fix_of_rate(context: Context, step: Event, is_late: bool) -> str:
    """What to do about a rate, which the innermost loop of a step may change by a scheduler."""
    made = created_at(context, step)
    loops = statements_around(step.location, ast.For, ast.While)[-1:] if is_late else []
    calls = {ast.unparse(each) for loop in loops for each in nodes_in(loop, ast.Call)}
    found = {each for each in calls if each.endswith(".step()") and "sched" in each.lower()}
    if len(found) != 1:
        at = f" at {made}" if made else ""
        fix = f"look at the learning rate{at}, and at what a scheduler makes of it: "
        return f"{fix}scheduler.get_last_lr()"
    fix = f"call {(called := found.pop())} once for each epoch, and not with each step, if its "
    fix += f"factor is meant for an epoch; {called.removesuffix('step()')}get_last_lr() returns "
    return f"{fix}the learning rate"


def fix_of_steps(op: str, line: str) -> str:
    """What to do about ``x.round()``: a straight-through estimator, with the code of the line."""
    soft, general = "use a soft version of it, or pass the gradient through: ", "y = x + (y - x)"
    for place in locations_of([line]):
        call, given = _call_at(place, op)
        if call is not None and len(given) == 1:
            rest = ast.Attribute(ast.BinOp(call, ast.Sub(), given[0]), "detach")
            code = ast.unparse(ast.BinOp(given[0], ast.Add(), ast.Call(rest, [], [])))
            return f"{soft}({code}) in place of {ast.unparse(call)}"
    return f"{soft}{general}.detach()"


def without_call(context: Context, name: str) -> str:
    """What is added to a reason if a line names a method and does not call it; or ""."""
    return context.cached(("not called", name), lambda: _without_call(context.files, name))


def _without_call(files: Iterable[str], name: str) -> str:
    every = ((file, each) for file in files for each in nodes_in(syntax_tree(file), ast.Expr))
    rows = ((file, each.lineno) for file, each in every if getattr(each.value, "attr", "") == name)
    lines = (mention(SourceLocation(*row)) for row in rows)
    return next((f": {line} does not call {name}, as () is missing" for line in lines), "")


# Where a value that is used again comes from.

_CACHES = ("lru_cache", "cache", "cached_property")


def cached_function(location: SourceLocation, names: Container[str] = ()) -> tuple[str, str]:
    """A function around a line, or with one of some names, whose result a decorator keeps.

    Returns:
        Its name and that of the decorator; "" for none.
    """
    for node in nodes_in(syntax_tree(location.file), ast.FunctionDef):
        for each in node.decorator_list:
            called = each.func if isinstance(each, ast.Call) else each
            word = ast.unparse(called).rpartition(".")[2]
            if word in _CACHES and (has_line(node, location.line) or node.name in names):
                return node.name, word
    return "", ""


def kept_beside(made: Event, texts: Iterable[str]) -> str:
    """The attribute or item to which a line assigns a tensor besides a variable; "" for none.

    Of ``x, self.states[i] = cell(x, self.states[i])``, it is what the next step reads.
    """
    statement = statement_at(made.location)
    every = statement.targets if isinstance(statement, ast.Assign) else []
    targets = [each for target in every for each in getattr(target, "elts", [target])]
    kept = [ast.unparse(each) for each in targets if not isinstance(each, ast.Name)]
    found = [each for each in kept if each in texts]
    return found[0] if len(targets) > 1 and len(found) == 1 else ""


def starts_as_constant(used: Event | None, name: str) -> bool:
    """Whether the program assigns a number or None to a variable, which have no ``detach()``."""
    is_name = name.removeprefix("self.").isidentifier()
    made = assignments_to(used.location, name) if used is not None and is_name else ()
    return any(isinstance(value, ast.Constant) for _, value in made)


_RANDOM = {"bernoulli", "bernoulli_", "rand", "rand_like", "uniform_", "dropout", "randint"}


def is_random(made: NodeData) -> bool:
    """Whether the values of an untracked tensor are drawn, by its line or the one before it."""
    line, name = made.get("inside") or made.get("source", ""), made.get("name", "")
    before = (str(e) for at in locations_of([line]) for e in assigned_before(at, name))
    called = {*made.get("op", "").split(", ")}.union(*map(called_on, (line, *before)))
    is_data = made.get("kind") is NodeKind.UNTRACKED and "zeros" not in called
    return is_data and not _RANDOM.isdisjoint(called)


def created_at(context: Context, step: Event) -> SourceLocation | None:
    """The line that created the optimizer of a step, if it is known."""
    optimizer, name = getattr(step.details, "optimizer", ""), step.location.text.partition(".step(")
    made = calls_in(context, optimizer)
    own = [each for each in made if code_of(str(each)).startswith(f"{name[0]} = ")]
    found = own if made[1:] else made
    return found[0] if len(found) == 1 else None


class Scaling(NamedTuple):
    """Where a loss was scaled: the key of the ``mul``, and the scale of the ``GradScaler``."""

    key: str
    factor: float


def scaling_of(context: Context, graph: GradGraph) -> Scaling | None:
    """Where GradScaler scaled the loss: it multiplied it by a tensor named by the recording."""
    for root in context.roots_of(graph):
        for maker, _ in graph.inputs(root):
            if graph.nodes[maker].get("op") != "mul":
                continue
            for source, _ in graph.inputs(maker):
                data = graph.nodes[source]
                value: TensorSummary | None = data.get("value")
                if data.get("op", "").startswith(SCALER) and value is not None and value.values:
                    return Scaling(maker, value.values[0].real)
    return None
