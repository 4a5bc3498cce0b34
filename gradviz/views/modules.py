"""The module in which each operation ran, recorded or inferred; modules as groups."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from gradviz.errors import UsageError
from gradviz.graph import GradGraph, NodeData, NodeKind, is_box_of_leaves
from gradviz.graph.operations import operation, words
from gradviz.graph.text import Path, counted, must_be, shared, shared_by, without_wrappers
from gradviz.views.groups import Part, contract, count_of_nodes
from gradviz.views.module_classes import (
    ONE_OPERATION,
    GapUses,
    ModuleClasses,
    contents_of,
    is_partial,
    is_skip,
    partly_called,
    torn_modules,
)
from gradviz.views.op_sequence import OpSequence, op_sequence
from gradviz.views.view import along_the_data, view

_PATH = re.compile(r"[^\s.]+(\.[^\s.]+)+")
_EMBEDS = re.compile(r"emb|wte|wpe|tok|shared")
_VIEWS = frozenset({"view", "unsafe_view", "reshape_alias", "reshape"})
_LINEAR = ("addmm", "mm")
_ARRANGED = words(lambda row: row.rearranges) | {"to"}
_NORM = frozenset({"mul", "rsqrt", "add", "mean", "pow", "to", "sqrt", "div"})

_MOST_MODELS = 16  # variants of the operations after a module that are stored

Words = tuple[str | None, ...]
_Anchor = tuple[int, Path]
"""The position of an operation whose module is known, and the module."""
_Run = tuple[int, int, Path]
"""The positions of operations, from the first to behind the last, and their module."""


class _ModuleGap(NamedTuple):
    """Operations between two that are in a known module."""

    left: int
    start: int
    stop: int
    before: Path
    after: Path


def module_paths(sequence: OpSequence) -> list[Path]:
    """The module path of each operation; the most likely one if it was not recorded."""
    modules = [data.get("module", "") for data in sequence.data]
    paths: list[Path] = [tuple(name.split(".")) if name else () for name in modules]
    classes = ModuleClasses(sequence.modules)
    named = _paths_of_leaves(sequence, classes.is_wrapped)
    if not named and not any(data.get("inferred") for data in sequence.data):
        return paths
    named = named or [[] for _ in sequence.leaves]
    recorded = ["module" in data for data in sequence.data]
    for place in _of_backward(sequence):
        recorded[place] = True  # outside of modules
    named = [[classes.caller(path) for path in choices] for choices in named]
    known = _decided(sequence, _anchors(sequence, named, paths, recorded))
    for place, path in known:
        paths[place] = path
    edges, gaps = _edges_and_gaps(sequence, known)
    inner = _certain(sequence, gaps, known, classes) if classes else _likely(sequence, gaps)
    for start, stop, path in (*edges, *inner):
        for place in range(start, stop):
            if not recorded[place]:
                paths[place] = path
    return paths


def _edges_and_gaps(
    sequence: OpSequence, known: Sequence[_Anchor]
) -> tuple[list[_Run], list[_ModuleGap]]:
    """The operations between those whose module is known.

    Returns:
        Those that belong to the module before or after them, and the gaps that are left.
    """
    edges, gaps = [], []
    for (left, before), (right, after) in pairwise([(-1, ()), *known, (len(sequence), ())]):
        start, stop = _edges(sequence, left, right, after)
        edges += [(left + 1, start, before), (stop, right, after)]
        if start != stop:
            gaps.append(_ModuleGap(left, start, stop, before, after))
    return edges, gaps


def _certain(
    sequence: OpSequence,
    gaps: Sequence[_ModuleGap],
    known: Sequence[_Anchor],
    classes: ModuleClasses,
) -> Iterator[_Run]:
    """The modules of the operations in gaps, as far as classes tell them."""
    by_place: dict[int, Path] = {**dict(known), len(sequence): ()}
    ends: dict[Path, dict[str, tuple[int, Path]]] = {}
    last_use = sequence.last_use
    if known and (not gaps or gaps[0].start):
        classes.enters((), known[0][1], ())
    for left, start, stop, before, after in gaps:
        ops = [str(sequence.data[place].get("op", "")) for place in range(start, stop)]
        earlier = ends.setdefault(_without_number(before), {})
        calls_itself = sequence.modules.get(".".join(before)) in ONE_OPERATION and any(
            not operation(op).rearranges for op in ops
        )
        if before == after and before and not calls_itself:
            _as_before(earlier, before, ops, [before] * len(ops))
            yield start, stop, before
        else:
            depth, places = len(shared(before, after)) + 1, range(start, stop)
            first, _ = _first_of(before[:depth], left, by_place)
            inside = range(depth + 1, len(before))
            begins = [(n, _first_of(before[:n], left, by_place)[1]) for n in inside]
            skips = [is_skip(sequence, place, first) for place in places]
            inner = [
                next((n for n, at in begins if is_skip(sequence, place, at, first)), 0)
                for place in places
            ]
            asides: list[bool] = []
            for place in places:
                own = [s for s in sequence.inputs(place) if s >= 0]
                others = (s < first or (s >= start and asides[s - start]) for s in own)
                is_used = any(s < start and last_use[s] >= stop for s in own)
                asides.append(is_used or (bool(own) and all(others)))
            found = classes.in_gap(before, after, ops, GapUses(skips, inner, asides))
            _as_before(earlier, before, ops, found)
            classes.enters(before, after, found[-1])
            outer = classes.around(before, after)
            for place, (path, op) in enumerate(zip(found, ops, strict=True), start):
                is_sure = path is not None or operation(op).rearranges
                yield place, place + 1, (path or ()) if is_sure else outer


def _as_before(
    ends: dict[str, tuple[int, Path]], before: Path, ops: Sequence[str], found: list[Path | None]
) -> None:
    """What follows the last of several numbered modules runs where it did for the others.

    Args:
        ends: of what followed the others, how much of its path is that of the one before; the rest.
        before: the module.
        ops: what followed it.
        found: the modules of these; those that are not known are filled in.
    """
    numbered = next((at for at, part in enumerate(before) if part.isdecimal()), len(before))
    for at, (word, path) in enumerate(zip(ops, found, strict=True)):
        depth = len(shared(path or (), before))
        if path is not None and (depth == len(path) or depth > numbered):
            ends.setdefault(word, (depth, path[depth:]))
        elif path is None:
            if word not in ends:
                return
            depth, rest = ends[word]
            found[at] = (*before[:depth], *rest)


def _first_of(path: Path, place: int, by_place: Mapping[int, Path]) -> tuple[int, int]:
    """The first operation that can be, and that is known to be, of the module that ran last."""
    known = place
    while place > 0 and by_place.get(place - 1, path)[: len(path)] == path:
        place -= 1
        known = place if place in by_place else known
    return place, known


def is_inferred(data: NodeData) -> bool:
    """Whether the module of an operation was not recorded."""
    return data.get("inferred", "module" not in data)


def _anchors(
    sequence: OpSequence, named: list[list[Path]], paths: Sequence[Path], recorded: Sequence[bool]
) -> list[tuple[int, list[Path]]]:
    """The operations that use a parameter, or were recorded, and their possible modules."""
    anchors: list[tuple[int, list[Path]]] = []
    arranged: dict[int, list[Path]] = {}  # reshaped or converted parameters
    bounds, sources = sequence.starts.tolist(), sequence.sources.tolist()
    alone = _penalties(sequence)
    for place, data in enumerate(sequence.data):
        if recorded[place]:
            anchors.append((place, [paths[place]]))
        if recorded[place] or place in alone:
            continue
        inputs, op = sources[bounds[place] : bounds[place + 1]], data.get("op")
        rows = [*(named[-1 - s] for s in inputs if s < 0), *(arranged.get(s) for s in inputs)]
        choices = next(filter(None, rows), [])
        if op != "embedding":  # a tied layer, or a plain tensor
            choices = [p for p in choices if sequence.modules.get(".".join(p)) != "Embedding"]
        if choices:
            anchors.append((place, choices))  # what is expanded to a batch is data for others, too
            if len(inputs) == 1 and op in _ARRANGED - {"expand"}:
                arranged[place] = choices
    return anchors


def _of_backward(sequence: OpSequence) -> Iterator[int]:
    """Operations that a backward pass recorded: ``tanh_backward``, ``mm`` with ``weight.t().t()``.

    They use the parameters of a module, and are none of its calls; nor is the step of gradient
    descent with such a gradient, ``weight - rate * gradient``.
    """
    bounds, sources = sequence.starts.tolist(), sequence.sources.tolist()
    turned: dict[int, int] = {}  # how often a parameter was transposed
    used: set[int] = set()  # leaves
    for place, data in enumerate(sequence.data):
        op, inputs = data.get("op", ""), sources[bounds[place] : bounds[place + 1]]
        if op == "t" and len(inputs) == 1 and (inputs[0] < 0 or inputs[0] in turned):
            turned[place] = turned.get(inputs[0], 0) + 1
        is_twice = any(turned.get(each, 0) > 1 for each in (place, *inputs))
        minuend = inputs[0] if inputs else place  # all inputs may be untracked
        is_step = op == "sub" and minuend in used and _has_shape_of(sequence, place, minuend)
        if (is_twice or is_step or "_backward" in op) and not data.get("module"):
            yield place
        used.update(each for each in inputs if each < 0)


def _has_shape_of(sequence: OpSequence, place: int, leaf: int) -> bool:
    return sequence.data[place].get("shape") == sequence.leaves[-1 - leaf].get("shape")


def _penalties(sequence: OpSequence) -> set[int]:
    """Operations that use only a parameter, which another operation uses with data: ``w.pow(2)``.

    A penalty over all parameters runs in none of their modules; nor does a group of such
    operations, one for each of its parameters.
    """
    bounds, sources = sequence.starts.tolist(), sequence.sources.tolist()
    with_data: set[int] = set()
    alone: dict[int, set[int]] = {}
    arranged: dict[int, int] = {}
    boxes = {place for place, data in enumerate(sequence.data) if is_box_of_leaves(data)}
    for place, data in enumerate(sequence.data):
        op = data.get("op", "")
        inputs = [arranged.get(each, each) for each in sources[bounds[place] : bounds[place + 1]]]
        leaves = {each for each in inputs if each < 0 or each in boxes}
        given = (
            sequence.data[each] if each in boxes else sequence.leaves[-1 - each] for each in leaves
        )
        counts = [len(leaf.get("leaves", ("",))) for leaf in given]
        if op and len(leaves) == len(inputs) and 0 < sum(counts) == data.get("repeat", 1):
            if op in _ARRANGED and counts == [1]:
                arranged[place] = inputs[0]
                continue
            if not operation(op).factors and op != "embedding":
                alone[place] = leaves
                continue
        with_data |= leaves
    return {place for place, leaves in alone.items() if leaves <= with_data}


def _decided(sequence: OpSequence, anchors: Sequence[tuple[int, list[Path]]]) -> list[_Anchor]:
    """Of the modules that share a parameter, the one that fits the operation and its position."""
    known: list[_Anchor] = []
    after: Path = ()
    nexts: list[Path] = []
    for _, choices in reversed(anchors):
        nexts.append(after)
        after = choices[0] if len(choices) == 1 else after
    for (place, choices), then in zip(anchors, reversed(nexts), strict=True):
        if len(choices) > 1:
            embeds = sequence.data[place].get("op") == "embedding"
            fits = [path for path in choices if bool(_EMBEDS.search(path[-1])) == embeds]
            before = known[-1][1] if known else ()
            ranks = {p: (-len(shared(p, then)), -len(shared(p, before))) for p in choices}
            choices = sorted(fits or choices, key=ranks.__getitem__)
        known.append((place, choices[0]))
    return known


def _likely(sequence: OpSequence, gaps: Sequence[_ModuleGap]) -> Iterator[_Run]:
    """The most likely modules of the operations in gaps, without classes.

    The end of the last of several numbered modules is found from what followed the others.
    """
    earlier: dict[Path, dict[Words, Path]] = {}
    for _, start, stop, before, after in gaps:
        path = _between(before, after)
        words = tuple(data.get("op") for data in sequence.data[start : min(stop, start + 64)])
        models = earlier.get(before) or earlier.get(_without_number(before)) or {}
        longer = [model for model in models if len(models[model]) > len(path)]
        if longer:
            model = max(longer, key=lambda model: _same(model, words))
            same = start + _same(model, words)
            yield start, same, before[: len(models[model])]
            yield same, stop, path
        else:
            for key in {before, _without_number(before)}:
                known = earlier.setdefault(key, {})
                if len(known) < _MOST_MODELS:
                    known[words] = path
            yield start, stop, path


def _same(one: Words, other: Words) -> int:
    """The number of equal words at the start of two sequences."""
    alike = [a == b for a, b in zip(one, other, strict=False)]
    return [*alike, False].index(False)


def _edges(sequence: OpSequence, left: int, right: int, after: Path) -> tuple[int, int]:
    """The gap between two modules, without the operations that belong to these modules.

    A linear layer reshapes its input before and its output after it uses its weight; a root mean
    square norm starts long before it uses its weight.
    """
    first, last = max(left, 0), min(right + 1, len(sequence))
    ops = [sequence.data[place].get("op") for place in range(first, last)]
    start, stop = left + 1, right
    if left >= 0 and start < stop and ops[0] in _LINEAR and ops[1] in _VIEWS:
        start += 1
    makes_rows = right < len(sequence) and _undoes_rows(sequence, right)
    if makes_rows and start < stop and ops[-1] in ("t", *_LINEAR) and ops[-2] in _VIEWS:
        stop -= 1
        is_attention = sequence.modules.get(".".join(after)) == "MultiheadAttention"
        # What is not contiguous is copied before its rows are made; attention turns batches round.
        for word in ("clone", "transpose") if is_attention else ("clone",):
            stop -= start < stop and ops[stop - 1 - first] == word
    if right < len(sequence) and after and "norm" in after[-1].lower() and ops[-1] == "mul":
        place = stop
        while place > start and ops[place - 1 - first] in _NORM:
            place -= 1
            if ops[place - first] == "pow":
                return start, place
    return start, stop


def _undoes_rows(sequence: OpSequence, right: int) -> bool:
    """Whether a linear layer gives its rows another shape: it made rows of its input, too."""
    near = [sequence.data[place].get("op") for place in range(right, min(right + 3, len(sequence)))]
    products = [at for at, word in enumerate(near[:2]) if word in _LINEAR]
    after = near[products[-1] + 1 :][:1] if products else []
    return bool(after) and after[0] in _VIEWS


def _without_number(path: Path) -> Path:
    """The path without its number, equal for all numbered layers."""
    at = next((n for n, part in enumerate(path) if part.isdecimal()), None)
    return path if at is None else (*path[:at], "#", *path[at + 1 :])


def _paths_of_leaves(sequence: OpSequence, is_wrapped: bool) -> list[list[Path]]:
    """For each leaf, the modules that own it; empty if no name is a path."""
    found: list[list[Path]] = []
    for data in sequence.leaves:
        names = (data.get("name", ""), *data.get("aliases", ()))
        # Of the untracked tensors, frozen parameters and buffers have a path as name.
        tensor = data["kind"] in (NodeKind.PARAMETER, NodeKind.LEAF, NodeKind.UNTRACKED)
        paths = [path for name in names if tensor and (path := module_of(name))]
        found.append([without_wrappers(path, is_wrapped) for path in paths])
    # A tensor that is an attribute of a module is in it; that of another object is not.
    rows = zip(sequence.leaves, found, strict=True)
    modules = {path for data, paths in rows if data["kind"] is not NodeKind.LEAF for path in paths}
    found = [[path for path in paths if path in modules] for paths in found]
    return found if any(found) else []


def module_of(name: str) -> Path:
    """The module of a tensor, from its name; () if that is not a path.

    Example:
        >>> module_of("net.fc.weight.t()"), module_of("x.t()")
        (('net', 'fc'), ())
    """
    plain = name.removesuffix(".t()")
    return tuple(plain.split(".")[:-1]) if _PATH.fullmatch(plain) else ()


def root_of(paths: Sequence[Path]) -> int:
    """The length of the common prefix, not counting a path that ends there.

    The prefix contains no information: the name of the variable, ``model``, or of a wrapper,
    ``module``.
    """
    known = {path for path in paths if path}
    return min(len(shared_by(list(known))), max(map(len, known)) - 1) if known else 0


def deepest(paths: Sequence[Path]) -> int:
    """The largest depth at which `group_by_module` finds more groups."""
    return max(map(len, paths), default=0) - root_of(paths)


def _between(before: Path, after: Path) -> Path:
    """The module of an operation that ran after one module and before another.

    No operation runs in a module list itself: what follows ``layers.3`` and precedes ``layers.4``
    belongs to ``layers.3``. What precedes ``layers.5`` ran in ``layers.4``, which has no
    parameters.
    """
    common = shared(before, after)
    rest, then = before[len(common) : len(common) + 1], after[len(common) : len(common) + 1]
    if not (rest and then and rest[0].isdecimal() and then[0].isdecimal()):
        return common
    own = int(rest[0]) + (int(then[0]) == int(rest[0]) + 2)
    return (*common, str(own))


_GLUE = 4  # From so many operations on, a module's operations between its children are a group.


@view
@along_the_data
def infer_modules(graph: GradGraph) -> GradGraph:
    """Infer the module of each operation from names and order.

    An operation that uses ``encoder.layers.3.fc.weight`` ran in ``encoder.layers.3.fc``. One that
    uses no parameter ran in the common parent of the module before it and the module after it.
    Recorded modules are not changed.

    Args:
        graph: its names are paths, as ``names=model`` gives them.

    Returns:
        The same graph with ``module``, and ``inferred=True``, on operations that had none.
        Applying the view again changes nothing.

    Example:
        >>> graph = GradGraph()
        >>> graph.add_node("w", kind=NodeKind.PARAMETER, name="net.fc.weight")
        >>> graph.add_node("n", kind=NodeKind.OPERATION, op="linear")
        >>> _ = graph.add_edge("w", "n", 0)
        >>> infer_modules(graph).nodes["n"]["module"]
        'net.fc'
    """
    seen: GradGraph = graph.copy()
    sequence = op_sequence(graph)
    for key, data, path in zip(sequence.keys, sequence.data, module_paths(sequence), strict=True):
        if path and "module" not in data:
            seen.nodes[key].update(module=".".join(path), inferred=True)
    return seen


@view
@along_the_data
def group_by_module(graph: GradGraph, *, depth: int | None = None) -> GradGraph:
    """Draw each call of a module as one node that contains its operations and parameters.

    Args:
        graph: its operations have modules, or its leaves have paths as names.
        depth: number of path parts that distinguish modules, after the common prefix of all
            paths: of ``encoder.layers.3.fc``, 1 is ``encoder`` and 3 is ``encoder.layers.3``.
            None for the whole path.

    Returns:
        A graph in which operations between modules are not changed.

    Raises:
        UsageError: if ``depth`` is less than 1.

    Example:
        >>> graph = GradGraph()
        >>> for key in "ab": graph.add_node(key, kind=NodeKind.OPERATION, op="mul", module="net.0")
        >>> _ = graph.add_edge("a", "b", 0)
        >>> group_by_module(graph, depth=1).nodes["g0"]["module"]
        'net.0'
    """
    check_depth(depth)
    sequence = op_sequence(graph)
    paths = module_paths(sequence)
    parts = module_parts(sequence, paths, depth and root_of(paths) + depth)
    return group_parts(graph, parts, depth)


def check_depth(depth: int | None) -> None:
    """Raise a `UsageError` if ``depth`` is not allowed."""
    if depth is not None and (type(depth) is not int or depth < 1):
        raise UsageError(must_be("depth", "an integer >= 1, or None", depth))


def group_parts(graph: GradGraph, parts: Sequence[Part], depth: int | None) -> GradGraph:
    """Draw the modules as groups, and add a note."""
    if not parts:
        return graph.copy()  # type: ignore[no-any-return]
    count = count_of_nodes(graph._node[key] for part in parts for key in part.keys)
    deep = f" (depth {depth})" if depth else ""
    return contract(graph, parts).with_note(
        f"{count:,} operations drawn as {counted(len(parts), 'group')} by module{deep}"
    )


def module_parts(sequence: OpSequence, paths: Sequence[Path], cut: int | None) -> list[Part]:
    """The operations of each call of a module, as parts.

    Args:
        sequence: the op sequence.
        paths: the module of each operation.
        cut: number of path parts that distinguish modules; None for all.
    """
    parts = []
    labels = _without_gaps(sequence, [path[:cut] for path in paths])
    around = {label[:depth] for label in set(labels) for depth in range(len(label))}
    torn = torn_modules(sequence, paths)
    calls = list(_calls(sequence, labels, cut))
    pieces = _pieces(sequence, labels, calls)
    partial = partly_called(sequence, labels, calls)
    for start, stop in calls:
        nodes, path, places = sequence.data[start:stop], paths[start][:cut], range(start, stop)
        if all(is_inferred(data) and data["kind"] is NodeKind.UNTRACKED for data in nodes):
            continue  # inputs between two calls are in neither
        groups = sum(data["kind"] is NodeKind.GROUP for data in nodes)
        glue = cut is None or len(path) < cut
        parametric = groups or any(sequence.parameters(place) for place in places)
        few = 1 if not glue else _GLUE - 1
        is_piece = start in pieces or path in around
        if stop - start == 1 and (groups or (is_piece and paths[start] == path)):
            continue  # one operation says more than a part of its module
        if path and (parametric or stop - start > few):
            is_whole = path not in torn
            if is_piece:
                path = shared_by(paths[start:stop])
                is_whole = len(path) > len(labels[start]) and path not in torn
            name = ".".join(path)
            data: Any = {"name": name, "module": name, **contents_of(paths[start:stop])}
            if any(is_inferred(sequence.data[place]) for place in places):
                data["inferred"] = True
                is_whole &= not is_partial(sequence, paths, places, path)
                is_whole &= len(path) > len(labels[start]) or labels[start] not in partial
            keys = sequence.keys[start:stop]
            parts.append(Part(keys, data, modules=None if is_whole else ()))
    return parts


def _without_gaps(sequence: OpSequence, labels: list[Path]) -> list[Path]:
    """The labels; reshaping operations without one have that of both their neighbors, if equal."""
    found, start = list(labels), 0
    for place, label in enumerate(labels):
        if label or not operation(str(sequence.data[place].get("op", ""))).rearranges:
            if start and label == found[start - 1]:
                found[start:place] = [label] * (place - start)
            start = place + 1
    return found


def _pieces(
    sequence: OpSequence, labels: Sequence[Path], calls: Sequence[tuple[int, int]]
) -> set[int]:
    """The starts of ranges that are a piece of a call: between them ran what has another label."""
    pieces: set[int] = set()
    latest: dict[Path, tuple[list[int], object, set[int]]] = {}
    for start, stop in calls:
        label, ids = labels[start], sequence.data[start].get("calls", ())
        call = ids[len(label)] if len(ids) > len(label) else None
        leaves = sequence.parameters_of_a_call(range(start, stop))
        starts, before, used = latest.get(label, ([], call, set()))
        if call != before or (call is None and not used.isdisjoint(leaves)):
            starts, used = [], set()
        latest[label] = [*starts, start], call, used | leaves
        if starts:
            pieces.update(latest[label][0])
    return pieces


def _calls(
    sequence: OpSequence, labels: Sequence[Path], cut: int | None
) -> Iterator[tuple[int, int]]:
    """Uninterrupted ranges of operations with one label, and of one call if that was recorded.

    If it was not recorded, a parameter that is used again starts another call. Repetitions are
    separate, unless they are all in one module.
    """
    start = 0
    call: object = None
    used: set[int] = set()
    for place in range(len(sequence) + 1):
        ends = place == len(sequence) or not sequence.foldable(place)
        own = set() if ends else sequence.parameters_of_a_call([place])
        calls = () if ends else sequence.data[place].get("calls", ())
        if not ends and "repeat" in sequence.data[place]:
            is_inside = cut is not None and len(labels[place]) >= cut
            ends = not is_inside or not used.isdisjoint(own) or 0 < len(calls) <= len(labels[place])
        calls = () if ends else calls
        before = call
        if not calls:
            call = None
        elif len(calls) > len(labels[place]):  # else it is between two of the call before
            call = calls[len(labels[place])]
        leaves = set() if ends or calls else own
        other = place > 0 and place < len(sequence) and labels[place] != labels[place - 1]
        if ends or other or call != before or not used.isdisjoint(leaves):
            if start < place:
                yield start, place
            start, used = place + ends, set()
        used.update(leaves)
