"""Create contexts from live tensors, from recordings, and from errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from gradviz.diagnosis.context import UNNAMED, Context, Question
from gradviz.diagnosis.rule import has_graph
from gradviz.diagnosis.subjects import (
    Asked,
    ErrorContext,
    Why,
    hooked_by,
    is_recording,
    locations_of_error,
    raised_in_backward,
)
from gradviz.diagnosis.training import is_frozen, steps_with_gradients
from gradviz.facts import (
    Action,
    ErrorDetails,
    EventKind,
    FrameKind,
    GradientDetails,
    PartCall,
    TrainingSets,
)
from gradviz.graph import LEAVES, EdgeKind, GradGraph, NodeData, NodeKind, ancestors, most_saved
from gradviz.story import Event, Frame, Story, recorded_in

if TYPE_CHECKING:
    from gradviz.capture.tensors.names import Names
    from gradviz.capture.tensors.training_sets import IneffectiveFlag, Unregistered
    from gradviz.recording.api import Recording

_OF_A_PASS = (
    *(FrameKind.FORWARD, FrameKind.AFTER_BACKWARD, FrameKind.AFTER_AUTOGRAD_GRAD),
    *(FrameKind.AFTER_GRADIENT_CHANGE, FrameKind.AFTER_STEP, FrameKind.MARK),
)


# Live tensors.


_A_LEAF = "a leaf"


def look(asked: Asked, names: Names) -> tuple[Context, list[Question]]:
    """Trace the explained tensors, with the results that were computed from them.

    Args:
        asked: the question; without roots, they are found among the names.
        names: the names of tensors. The values of named results are read.
    """
    from gradviz.capture.autograd.nodes import leaf_of, visit_ancestors
    from gradviz.capture.autograd.sharded import flat_parameters

    asked_for = {identity_of(tensor) for tensor in asked.tensors}
    witnesses = [
        named.tensor
        for named in names
        if named.tensor.grad_fn is not None and identity_of(named.tensor) not in asked_for
    ]
    nodes = [node for each in (*asked.roots, *witnesses) if (node := each.grad_fn) is not None]
    leaves = (leaf_of(node) for node, _ in visit_ancestors(nodes))
    flat = flat_parameters(asked.modules, leaves)
    graph, keys = traced((*asked.roots, *asked.tensors, *flat.values(), *witnesses), names)
    results = [keys[id(each)] for each in witnesses]
    roots = [keys[id(each)] for each in asked.roots] or _ends(graph, results)
    questions = [keys[id(each)] for each in asked.tensors]
    for key in questions:
        if key not in roots:
            graph.nodes[key].pop("root", None)  # two tensors may be the same output
    _fold_witnesses(graph, results, roots)
    for each in flat.values():
        graph.nodes[keys[id(each)]].pop("root", None)
    _drop_the_rest(graph, {*roots, *questions})
    called = _names_of(names)
    asked_questions = [
        Question(
            called.get(id(tensor)) or graph.nodes[key].get("name") or UNNAMED,
            key,
            graph.nodes[key],
            id(tensor) in asked.parameters or type(tensor).__name__ == "Parameter",
            *_sets(asked, tensor),
        )
        for tensor, key in zip(asked.tensors, questions, strict=True)
    ]
    parts = {
        key: keys[id(flat[id(tensor)])]
        for tensor, key in zip(asked.tensors, questions, strict=True)
        if id(tensor) in flat
    }
    roots = list(dict.fromkeys(roots))
    return Context(graph, (*roots,), is_of_roots=bool(asked.roots), flat=parts), asked_questions


def traced(tensors: Sequence[Any], names: Names) -> tuple[GradGraph, dict[int, str]]:
    """The graph of some tensors, and their nodes by their ``id``."""
    from gradviz.capture.tracer import trace_subjects  # imported here: it needs torch

    subjects = {identity_of(each): each for each in tensors}
    graph = trace_subjects(tuple(subjects.values()), names) if subjects else GradGraph()
    by_number = {data["root"]: key for key, data in graph.nodes(data=True) if "root" in data}
    keys = {identity: by_number[number] for number, identity in enumerate(subjects)}
    return graph, {id(each): keys[identity_of(each)] for each in tensors}


def _names_of(names: Names) -> dict[int, str]:
    """The names of tensors, by their ``id``; the first name counts."""
    rows = [(id(named.tensor), named.name) for named in names.readable]
    return {**dict(rows), **dict(reversed(rows))}


_PLAIN = ("tensor", "buffer")


def _sets(asked: Asked, tensor: Any) -> tuple[Unregistered | None, IneffectiveFlag | None]:
    """The plain container of a parameter, and the attribute that was set to freeze it."""
    from gradviz.capture.tensors.training_sets import flag_of_tensor

    flag = asked.flags.get(id(tensor)) or flag_of_tensor(tensor)
    row = asked.unregistered.get(id(tensor))
    is_plain = row is not None and (row.kind in _PLAIN or type(row.tensor).__name__ == "Tensor")
    if row is not None and is_plain:  # a variable may hold it too: then it is an input
        snapshots = asked.recording._snapshots if asked.recording is not None else None
        if snapshots is None or snapshots.key_of(tensor) not in snapshots.training_sets().plain:
            row = None
    return row, flag


def _look_at_live(asked: Asked, context: Context) -> Context:
    """Find the models and optimizers that are alive, and their parameters.

    All objects of the process are searched, unless the recording knows an optimizer and a module
    of each tensor.

    Returns:
        The context, with the keys of the parameters of optimizers.
    """
    from gradviz.capture.tensors.training_sets import live, parameters_of

    snapshots, key_of = asked.recording._snapshots, asked.recording._snapshots.key_of
    seen: TrainingSets = snapshots.training_sets()
    tensors, held = asked.tensors, seen.held
    modules: Sequence[Any] = asked.modules
    if tensors and held:
        modules = modules or snapshots.recorded_modules()
        known = {id(each) for module in modules for each in parameters_of(module)}
    if not (tensors and held and all(id(e) in known and key_of(e) in held for e in tensors)):
        found = live()
        modules, held = found.modules, held | _held(asked, found.optimizers)
    if modules and not asked.modules:
        asked.look_at(modules)
    return replace(context, held=held, waiting=seen.waiting, elsewhere=seen.elsewhere)


def _held(asked: Asked, optimizers: Iterable[Any]) -> set[str]:
    """The keys of the parameters of optimizers."""
    key_of = asked.recording._snapshots.key_of
    return {key_of(tensor) for each in optimizers for tensor in each.tensors} - {""}


def identity_of(tensor: Any) -> Hashable:
    """Equal for two tensors that are the same output of the same operation."""
    node = tensor.grad_fn
    return ("leaf", id(tensor)) if node is None else (node, tensor.output_nr)


def _ends(graph: GradGraph, results: Sequence[str]) -> list[str]:
    """The results from which no other result was computed."""
    return [
        key
        for key in dict.fromkeys(results)
        if all(
            graph.nodes[user]["kind"] is NodeKind.RESULT
            for maker, _ in graph.inputs(key)
            for user in graph.successors(maker)
        )
    ]


def _fold_witnesses(graph: GradGraph, witnesses: Sequence[str], roots: Sequence[str]) -> None:
    """Add the names and values of intermediate results to the operations that created them."""
    for key in dict.fromkeys(witnesses):
        if key in roots:
            continue
        data = graph.nodes[key]
        for maker, _ in list(graph.inputs(key)):
            made = graph.nodes[maker]
            if made.get("outputs", 1) == 1:
                for attribute in ("name", "value", "version", "grad", "retains_grad", "hooks"):
                    if attribute in data:
                        made.setdefault(attribute, data[attribute])
        graph.remove_node(key)


def _drop_the_rest(graph: GradGraph, kept: set[str]) -> None:
    """Remove all nodes except ancestors of the roots and of the explained tensors."""
    needed = ancestors(graph, kept, lambda s, t, edge: edge["kind"] is not EdgeKind.ALIAS)
    graph.remove_nodes_from([key for key in graph if key not in needed])


# Recordings.


def look_at_recording(asked: Asked, names: Names) -> tuple[Context, list[Question]]:
    """The facts of a recording, and the tensors to explain.

    If none was passed, these are the parameters of the recorded modules, and all other leaves in
    the frames.

    Args:
        asked: the question: the recording; without roots, those of the recorded pass are meant.
        names: the names of tensors.

    Raises:
        UsageError: if the recording has no frame yet.
    """
    story = recorded_in(asked.recording)
    assert isinstance(story, Story)
    context = _context_of(asked, story)
    return context, _questions_of(asked, context, names)


def _context_of(asked: Asked, story: Story) -> Context:
    """The context of the last frame with the roots of backward, and the frame before backward."""
    recording: Recording = asked.recording
    roots, events = asked.roots, story.events
    frames = tuple(each for each in story.frames if each.kind is not FrameKind.RESULT)
    # With create_graph, a loss is computed from the gradients, and is what a pass begins from.
    passes = [e for e in events if e.kind is EventKind.BACKWARD and not has_graph(e)]
    of_pass = [frame for frame in frames if frame.kind in _OF_A_PASS]
    graph = next((f.graph for f in reversed(of_pass if passes and of_pass else frames)), None)
    graph = graph if graph is not None else GradGraph()
    if roots:
        graph, keys = _with_roots(recording, frames, roots, graph)
    else:
        # Without a backward pass, a leaf is a root if nothing was computed from it.
        kinds = () if passes else LEAVES
        keys = [key for key in graph.roots if graph.nodes[key]["kind"] not in kinds]
    kept = most_saved([frame.graph for frame in frames])
    before = _before(frames)
    context = Context(
        graph,
        tuple(keys),
        events,
        frames,
        before,
        kept=kept,
        called=_called(asked, graph),
        is_of_roots=bool(roots and keys),
        was_cut=recording._was_cut,
    )
    # What was written into an older tensor since is not an ancestor of the roots.
    flow = recording._snapshots.data_flow(graph, context.reachable)
    return _look_at_live(asked, replace(context, **flow._asdict()))


def _called(asked: Asked, graph: GradGraph) -> dict[str, str]:
    """What the argument ``names`` calls the tensors of a recording, by their keys."""
    if asked.names is None:
        return {}
    from gradviz.capture.tensors.names import Names

    key_of = asked.recording._snapshots.key_of
    return {key_of(each.tensor, graph): each.name for each in Names.of(asked.names, None)}


def context_at_end(recording: Recording, context: Context) -> Context | None:
    """The context of the last frame; None if it shows no other result than those of the pass."""
    if not context.frames or (graph := context.frames[-1].graph) is context.graph:
        return None
    roots = [key for key in graph.roots if graph.nodes[key]["kind"] is NodeKind.RESULT]
    new = [key for key in roots if key not in context.graph]
    if not new:
        return None
    lost = recording._snapshots.data_flow(graph, ancestors(graph, new)).lost
    return replace(context, graph=graph, roots=tuple(new), lost=lost, cache={})


def context_of_pass(recording: Recording, context: Context, passed: Event) -> Context | None:
    """The context of an earlier pass, or of another one of its line; None if no frame shows it."""
    numbers = [number for number, each in context.pass_of.items() if each.source == passed.source]
    kept = (f for f in reversed(context.frames) if f.pass_number in numbers)
    graph = next((f.graph for f in kept if f.kind is FrameKind.AFTER_BACKWARD), None)
    if graph is None or not (roots := tuple(graph.roots)):
        return None
    found = replace(context, graph=graph, roots=roots, later=None, cache={})
    return replace(found, lost=recording._snapshots.data_flow(graph, found.reachable).lost)


def _with_roots(
    recording: Recording, frames: Sequence[Frame], roots: Sequence[Any], graph: GradGraph
) -> tuple[GradGraph, list[str]]:
    """The given graph if it contains the roots, else that of the latest frame that does."""
    for each in (graph, *(frame.graph for frame in reversed(frames))):
        keys = [key for root in roots if (key := recording._snapshots.key_of(root, each)) in each]
        if keys:
            return each, keys
    return graph, []


def _before(frames: Sequence[Frame]) -> GradGraph | None:
    """The graph before the latest backward pass: from its own frame, or from the one after it."""
    passes = [at for at, frame in enumerate(frames) if frame.kind is FrameKind.AFTER_BACKWARD]
    if passes and passes[-1]:
        return frames[passes[-1] - 1].graph
    forward = [frame for frame in frames if frame.kind is FrameKind.FORWARD]
    return forward[-1].graph if forward else None


def _questions_of(asked: Asked, context: Context, names: Names) -> list[Question]:
    if asked.tensors:
        return _questions(asked.tensors, asked, context, names)
    from gradviz.capture.tensors.names import Names

    shown = _leaves(context)
    if asked.recording._was_stopped:
        shown = {key: data for key, data in shown.items() if not _awaits_a_pass(context, key)}
    own = Names(asked.recording._snapshots.parameters())
    keys = [asked.recording._snapshots.key_of(named.tensor, context.graph) for named in own]
    unseen = [each for each, key in zip(own, keys, strict=True) if key not in shown]
    others = iter(_questions([each.tensor for each in unseen], asked, context, own))
    named = [_shown(key, shown[key]) if key in shown else next(others) for key in keys]
    known = {*keys, *context.flat.values()}
    last = {each.name for each in own}  # a copy that is made anew has one row
    known |= {k for k, e in shown.items() if e.get("name") in last and context.is_made_anew(k)}
    rest = ((key, data) for key, data in shown.items() if key not in known)
    if context.flat:  # some parts are on other ranks
        named = [each for each in named if 0 not in each.data.get("shape", ())] or named
    questions = named + [_shown(key, data) for key, data in rest]
    inside = [
        tensor  # inside a reentrant checkpoint
        for key, tensor in asked.recording._snapshots.leaves()
        if key not in known and key not in shown and context.happened_to(key, EventKind.ACCUMULATE)
    ]
    questions += _questions(inside, asked, context, names)
    seen: TrainingSets = asked.recording._snapshots.training_sets()
    known = {each.key for each in questions}.union(context.flat)
    questions += _never_seen(context, seen, known, bool(keys))
    known = {each.key for each in questions}.union(context.flat.values())
    questions += _in_no_frame(asked, context, names, known)
    read = [each for each in asked.recording._grad_reads() if not each.retains_grad]
    questions += _questions(read, asked, context, names)
    rows = [*asked.unregistered.values(), *asked.flags.values()]
    tensors = {
        key: row.tensor for row in rows if (key := asked.recording._snapshots.key_of(row.tensor))
    }
    for at, question in enumerate(questions):
        key = question.key
        if key in context.called:
            questions[at] = question = replace(question, name=context.called[key])
        # One that is gone was looked at while the program ran.
        sets = (seen.plain.get(key), seen.flags.get(key))
        unregistered, flag = _sets(asked, tensors[key]) if key in tensors else sets
        if unregistered or flag:
            questions[at] = replace(question, unregistered=unregistered, without_effect=flag)
    return _told_apart(asked, questions, names)


def _never_seen(
    context: Context, seen: TrainingSets, known: set[str], has_modules: bool
) -> list[Question]:
    """The parameters of optimizers that are in no frame, got no gradient, and may be gone.

    Not those of an optimizer without a step, if others made one or the model is known: it may be
    of an earlier program in the same process, such as a notebook.
    """
    is_over = has_modules or bool(context.steps)
    data: NodeData = {"kind": NodeKind.PARAMETER, "requires_grad": True}
    return [
        Question(name, key, {**data, "name": name}, True)
        for key, name in seen.names.items()
        if key not in known
        and not (is_over and key in seen.waiting)
        and not is_frozen(context, key)
        and not context.happened_to(key, EventKind.ACCUMULATE)
    ]


def _told_apart(asked: Asked, questions: list[Question], names: Names) -> list[Question]:
    """The same, where a tensor had no name, or that of others, with the names at the end."""
    counts = Counter([*(each.name for each in questions), _A_LEAF])
    if max(counts.values()) == 1:
        return questions
    key_of = asked.recording._snapshots.key_of
    last = {key_of(each.tensor): each.name for each in reversed([*names])}
    rows = ((q, last.get(q.key, q.name) if counts[q.name] > 1 else q.name) for q in questions)
    return [replace(q, name=name) for q, name in rows]


def _in_no_frame(asked: Asked, context: Context, names: Names, known: set[str]) -> list[Question]:
    """Leaves whose data left the graph before the first frame; frozen ones that a step changed."""
    from gradviz.capture.tensors.names import Names

    snapshots, left = asked.recording._snapshots, {*context.numbers, *(context.lost or ())}
    found = []
    for named in asked.recording._leaves():
        key = snapshots.key_of(named.tensor)
        if key in left and key not in known and not is_frozen(context, key):
            found.append(named)
    steps = (details for _, details in steps_with_gradients(context))
    moved = {key for step in steps for key in {*step.changed} - {*step.same}} - known
    frozen = (named for named in names if moved and not named.tensor.requires_grad)
    found += [named for named in frozen if snapshots.key_of(named.tensor) in moved]
    called = Names([*names, *found])
    return _questions([each.tensor for each in found], asked, context, called)


def _shown(key: str, data: NodeData) -> Question:
    return Question(data.get("name") or _A_LEAF, key, data)


def _questions(
    tensors: Sequence[Any], asked: Asked, context: Context, names: Names
) -> list[Question]:
    from gradviz.capture.tracer import facts_of

    called, questions = _names_of(names), []
    subjects = {identity_of(each): each for each in tensors}
    facts = dict(zip(subjects, facts_of([*subjects.values()], names), strict=True))
    for tensor in tensors:
        data: Any = dict(facts[identity_of(tensor)])
        key = asked.recording._snapshots.key_of(tensor, context.graph)
        for attribute in ("accumulations", "source"):
            if key in context.graph and attribute in context.graph.nodes[key]:
                data[attribute] = context.graph.nodes[key][attribute]
        added = () if key in context.graph else context.happened_to(key, EventKind.ACCUMULATE)
        details = added[-1].details if added else None
        if isinstance(details, GradientDetails) and details.accumulations:
            data["accumulations"] = details.accumulations  # it is used inside a checkpoint
        name = called.get(id(tensor)) or data.get("name") or UNNAMED
        is_parameter = id(tensor) in asked.parameters or type(tensor).__name__ == "Parameter"
        is_cut_off = data["kind"] is NodeKind.UNTRACKED
        behind = asked.recording._snapshots.cuts_behind(tensor) if is_cut_off else ()
        cuts = tuple(cut.edge for cut in behind)
        questions.append(
            Question(
                name,
                key,
                data,
                is_parameter,
                *_sets(asked, tensor),
                cuts,
                partial(_call_of, asked, id(tensor)),
            )
        )
    return questions


def _call_of(asked: Asked, identity: int) -> PartCall | None:
    return asked.calls.get(identity)


def _leaves(context: Context) -> dict[str, NodeData]:
    """Every leaf that is in a frame, with its last attributes, in the order of the keys."""
    found: dict[str, tuple[NodeData, int]] = {}
    for frame in context.frames:
        for key, data in frame.graph.nodes(data=True):
            if data["kind"] in LEAVES:
                found[key] = data, frame.follows
            elif _is_switched_on(context, key, data):
                leaf = data.copy()
                leaf["kind"], leaf["requires_grad"] = NodeKind.LEAF, True
                found.setdefault(key, (leaf, frame.follows))
    ordered = sorted(found.items(), key=lambda item: int(item[0][1:]))
    return {key: _as_it_ended(context, key, *of_frame) for key, of_frame in ordered}


def _is_switched_on(context: Context, key: str, data: NodeData) -> bool:
    """Whether plain data was made to require grad before the latest backward pass."""
    if data["kind"] is not NodeKind.UNTRACKED or not context.passes:
        return False
    switched = context.happened_to(key, EventKind.REQUIRES_GRAD)
    is_on = bool(switched) and switched[-1].action is Action.REQUIRES_GRAD_ON
    return is_on and switched[-1].number < context.passes[-1].number


def _awaits_a_pass(context: Context, key: str) -> bool:
    """Whether a leaf was used for the first time after the latest backward pass."""
    if not context.passes:
        return False
    last = context.passes[-1].number
    return all(frame.follows > last for frame in context.frames if key in frame.graph)


def _as_it_ended(context: Context, key: str, data: NodeData, follows: int) -> NodeData:
    """The attributes of a leaf, with the gradient that it got after the last frame with it."""
    kinds = (EventKind.ACCUMULATE, EventKind.GRAD)
    events = [event for kind in kinds for event in context.happened_to(key, kind)]
    last = max(events, key=lambda event: event.number, default=None)
    details = last.details if last is not None and last.number > follows else None
    if not isinstance(details, GradientDetails) or details.after is None:
        return data
    newer: NodeData = {**data, "grad": details.after}
    if details.accumulations is not None:
        newer["accumulations"] = details.accumulations
    return newer


# Errors.


def error_context(asked: Asked, names: Names, why: Why) -> tuple[Context, ErrorContext]:
    """The known facts about an exception, or about the one that ended a recording.

    Args:
        asked: the question.
        names: the names of tensors.
        why: explains why a tensor has no gradient.
    """
    return _context(asked, names), replace(_subject(asked, names), why=why)


def _subject(asked: Asked, names: Names) -> ErrorContext:
    frames: tuple[Frame, ...] = () if asked.recording is None else asked.recording.frames
    event = _event_of_error(asked)
    details = event.details if event is not None else None
    problem = details.problem if isinstance(details, ErrorDetails) else None
    is_backward = any(frame.kind is FrameKind.FAILED_BACKWARD for frame in frames[-2:])
    if asked.error is not None:
        is_backward = raised_in_backward(asked.error)
        location, library = locations_of_error(asked.error)
        name = type(asked.error).__name__
        try:
            text = str(asked.error)
        except Exception:  # a class of the user's may raise here
            text = ""
    else:
        assert event is not None
        location, library = event.location, event.inside
        name, text = event.word, details.message if isinstance(details, ErrorDetails) else ""
    error = (name, text, location, library, problem, is_backward)
    return ErrorContext(*error, asked, names, _names_of(names))


def _event_of_error(asked: Asked) -> Event | None:
    """The event of the error in the recording; the last one, if no exception was passed."""
    if asked.recording is None:
        return None
    events: list[Event] = asked.errors
    if asked.error is None:
        return events[-1]
    same = [event for event in events if event.word == type(asked.error).__name__]
    return same[-1] if same else None


def _context(asked: Asked, names: Names) -> Context:
    from gradviz.capture.tensors.training_sets import live

    # Without an exception, the tensors are those whose gradients are explained, not roots.
    given = (asked.tensors or hooked_by(asked.error)) if asked.error is not None else []
    tensors = [each for each in given if id(each) not in asked.parameters]
    if asked.recording is None or not asked.recording.frames:  # it may not have been entered
        return look(Asked(roots=tensors), names)[0]
    frames, events = asked.recording.frames, asked.recording.events
    failed = [frame for frame in frames if frame.kind is FrameKind.FAILED_BACKWARD]
    graph = (failed or frames)[-1].graph
    passed = [frame.graph for frame in frames if frame.kind is FrameKind.AFTER_BACKWARD]
    roots = tuple(_roots_of(asked, tensors, graph))
    held = frozenset(_held(asked, live().optimizers))
    numbers = asked.recording._snapshots.data_flow(graph, set()).numbers
    if tensors and not graph:
        return replace(look(Asked(roots=tensors), names)[0], events=events, numbers=numbers)
    before = passed[-1] if passed else None
    return Context(graph, roots, events, frames, before, held=held, numbers=numbers)


def _roots_of(asked: Asked, tensors: Sequence[Any], graph: GradGraph) -> list[str]:
    """The roots of backward, or the tensor on which another operation was called."""
    key_of = asked.recording._snapshots.key_of
    found = [key for each in tensors if (key := key_of(each, graph)) in graph]
    if found or graph.roots:
        return found or graph.roots
    name = asked.errors[-1].name if asked.errors else ""
    return [key for key, data in graph.nodes(data=True) if name and data.get("name") == name]


def recording_of(error: BaseException) -> Any:
    """The recording that saw an exception, if the code that raised it has a variable for it."""
    from gradviz.capture.tensors.names import locals_of

    trace = error.__traceback__
    while trace is not None:
        for value in locals_of(trace.tb_frame).values():
            recording: Any = value if is_recording(value) else None
            if recording is not None and recording.saw(error):
                return recording
        trace = trace.tb_next
    return None
