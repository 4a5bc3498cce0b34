"""In which module an operation ran, recorded or inferred, and the graph with modules as groups."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from gradviz.errors import UsageError
from gradviz.graph import GradGraph, NodeData, NodeKind
from gradviz.graph.operations import operation, words
from gradviz.graph.text import Path, must_be, without_wrappers
from gradviz.views.groups import Part, contract
from gradviz.views.op_sequence import OpSequence, op_sequence
from gradviz.views.view import along_the_data, view

__all__ = [
    "check_depth",
    "contents_of",
    "deepest",
    "group_by_module",
    "group_parts",
    "infer_modules",
    "is_inferred",
    "module_parts",
    "module_paths",
    "root_of",
    "shared",
    "shared_by",
]

_PATH = re.compile(r"[^\s.]+(\.[^\s.]+)+")
_EMBEDS = re.compile(r"emb|wte|wpe|tok|shared")
_VIEWS = frozenset({"view", "unsafe_view", "reshape_alias", "reshape"})
_LINEAR = ("addmm", "mm")
_ARRANGED = words(lambda row: row.rearranges) | {"to"}
_NORM = frozenset({"mul", "rsqrt", "add", "mean", "pow", "to", "sqrt", "div"})

_MOST_MODELS = 16  # what followed a module, in so many forms, is kept in mind

Words = tuple[str | None, ...]
_Anchor = tuple[int, Path]
"""The place of a unit whose module is known, and that module."""


def module_paths(units: OpSequence) -> list[Path]:
    """The path of the module of each unit; of those that were not recorded, the likely one."""
    paths = [_recorded(data.get("module", "")) for data in units.data]
    named = _paths_of_leaves(units)
    if not named and not any(data.get("inferred") for data in units.data):
        return paths
    named = named or [[] for _ in units.leaves]
    recorded = ["module" in data for data in units.data]
    known = _decided(units, _anchors(units, named, paths, recorded))
    for place, path in known:
        paths[place] = path
    for left, right, path in _gaps(units, [*known, (len(units), ())]):
        for place in range(left, right):
            if not recorded[place]:
                paths[place] = path
    for place, path in _in_sequentials(units, known):
        if not recorded[place]:
            paths[place] = path
    return paths


# What a module without parameters runs in training, one operation each.
_PLAIN_MODULES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("Dropout", "Dropout1d", "Dropout2d", "Dropout3d"), ("mul", "dropout")),
    **dict.fromkeys(("MaxPool2d", "MaxPool3d"), ("max_pool2d", "max_pool3d")),
    **{word: (word.lower(),) for word in ("ReLU", "GELU", "SiLU", "ELU", "Tanh", "Sigmoid")},
    **{"LeakyReLU": ("leaky_relu",), "ReLU6": ("hardtanh",), "Hardtanh": ("hardtanh",)},
    **{"Softmax": ("softmax",), "LogSoftmax": ("log_softmax",), "Softplus": ("softplus",)},
    **{"Flatten": ("view", "reshape", "reshape_alias"), "Unflatten": ("view",), "Identity": ()},
}
_MAY_BE_NOTHING = ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "Flatten", "Identity")


def _in_sequentials(units: OpSequence, anchors: Sequence[_Anchor]) -> Iterator[_Anchor]:
    """The units between two numbered modules of a ``Sequential``, each in the module that runs it.

    The modules between the two run in their order. Where their classes explain the units in one
    way, and in no other, it is known which module ran which.
    """
    for (left, before), (right, after) in pairwise(anchors):
        parent = before[:-1]
        numbers = (*before[-1:], *after[-1:])
        plain = parent == after[:-1] and len(numbers) == 2 and all(map(str.isdecimal, numbers))
        if not plain or units.modules.get(".".join(parent)) != "Sequential":
            continue
        between = [str(n) for n in range(int(numbers[0]) + 1, int(numbers[1]))]
        classes = [units.modules.get(".".join((*parent, number)), "") for number in between]
        start, stop = _edges(units, left, right, after)
        ops = [str(units.data[place].get("op", "")) for place in range(start, stop)]
        if 0 < len(between) <= _MOST_BETWEEN and all(each in _PLAIN_MODULES for each in classes):
            found = _ways_to_run(classes, ops)
            for at, number in enumerate(found[0]) if len(found) == 1 else ():
                yield start + at, (*parent, between[number])


_MOST_BETWEEN = 8


def _ways_to_run(classes: Sequence[str], ops: Sequence[str]) -> list[list[int]]:
    """For each way in which modules can have run some operations, the module of each of them."""
    if not classes:
        return [] if ops else [[]]
    first, rest = classes[0], classes[1:]
    found = []
    if ops and ops[0] in _PLAIN_MODULES[first]:
        found += [[0, *(at + 1 for at in way)] for way in _ways_to_run(rest, ops[1:])]
    if first in _MAY_BE_NOTHING:
        found += [[at + 1 for at in way] for way in _ways_to_run(rest, ops)]
    return found


def is_inferred(data: NodeData) -> bool:
    """Whether the module of a unit, if it is known at all, was not recorded."""
    return data.get("inferred", "module" not in data)


def _anchors(
    units: OpSequence, named: list[list[Path]], paths: Sequence[Path], recorded: Sequence[bool]
) -> list[tuple[int, list[Path]]]:
    """The units that use a parameter, or were recorded, and the modules that each may be in."""
    anchors: list[tuple[int, list[Path]]] = []
    arranged: dict[int, list[Path]] = {}  # what is a parameter still, in another shape or type
    bounds, sources = units.starts.tolist(), units.sources.tolist()
    penalties = _penalties(units)
    for place in range(len(units)):
        if place in penalties and not recorded[place]:
            continue
        if recorded[place]:
            anchors.append((place, [paths[place]]))
            continue
        inputs = sources[bounds[place] : bounds[place + 1]]
        found = (named[-1 - s] if s < 0 else arranged.get(s) for s in inputs)
        choices = next((choices for choices in found if choices), None)
        if choices:
            anchors.append((place, choices))
            if len(inputs) == 1 and units.data[place].get("op") in _ARRANGED:
                arranged[place] = choices
    return anchors


def _penalties(units: OpSequence) -> set[int]:
    """The units that take a parameter alone, which another one uses with data: ``w.pow(2)``.

    A penalty over all parameters runs in none of their modules.
    """
    bounds, sources = units.starts.tolist(), units.sources.tolist()
    with_data: set[int] = set()
    alone: dict[int, int] = {}
    arranged: dict[int, int] = {}
    for place in range(len(units)):
        op = units.data[place].get("op", "")
        inputs = [arranged.get(each, each) for each in sources[bounds[place] : bounds[place + 1]]]
        if len(inputs) == 1 and inputs[0] < 0:
            if op in _ARRANGED:
                arranged[place] = inputs[0]
                continue
            if not operation(op).factors and op != "embedding":
                alone[place] = inputs[0]
                continue
        with_data.update(each for each in inputs if each < 0)
    return {place for place, leaf in alone.items() if leaf in with_data}


def _decided(units: OpSequence, anchors: Sequence[tuple[int, list[Path]]]) -> list[_Anchor]:
    """Of the modules that share a parameter, the one that fits the operation and its place."""
    known: list[_Anchor] = []
    after: Path = ()
    nexts: list[Path] = []
    for _, choices in reversed(anchors):
        nexts.append(after)
        after = choices[0] if len(choices) == 1 else after
    for (place, choices), then in zip(anchors, reversed(nexts), strict=True):
        if len(choices) > 1:
            embeds = units.data[place].get("op") == "embedding"
            fits = [path for path in choices if bool(_EMBEDS.search(path[-1])) == embeds]
            before = known[-1][1] if known else ()
            choices = sorted(
                fits or choices,
                key=lambda path: (-len(shared(path, then)), -len(shared(path, before))),
            )
        known.append((place, choices[0]))
    return known


def _gaps(units: OpSequence, anchors: Sequence[_Anchor]) -> Iterator[tuple[int, int, Path]]:
    """The stretches between units whose module is known, and the module of each.

    Where the last of several numbered modules ends is seen by what followed the others.
    """
    earlier: dict[Path, dict[Words, Path]] = {}
    for (left, before), (right, after) in zip([(-1, ()), *anchors], anchors, strict=False):
        start, stop = _edges(units, left, right, after)
        yield left + 1, start, before
        yield stop, right, after
        if start == stop:
            continue
        path = _between(before, after)
        words = tuple(units.data[place].get("op") for place in range(start, min(stop, start + 64)))
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
    """How many words two rows have in common, from the first."""
    alike = [a == b for a, b in zip(one, other, strict=False)]
    return [*alike, False].index(False)


def _edges(units: OpSequence, left: int, right: int, after: Path) -> tuple[int, int]:
    """What lies between two modules, without what each does besides using its parameters.

    A linear layer makes rows of what it gets and undoes it; a root mean square norm begins long
    before it uses its weight.
    """
    first, last = max(left, 0), min(right + 1, len(units))
    ops = [units.data[place].get("op") for place in range(first, last)]
    start, stop = left + 1, right
    if left >= 0 and start < stop and ops[0] in _LINEAR and ops[1] in _VIEWS:
        start += 1
    if right < len(units) and start < stop and ops[-1] in ("t", *_LINEAR) and ops[-2] in _VIEWS:
        stop -= 1
    if right < len(units) and after and "norm" in after[-1].lower() and ops[-1] == "mul":
        place = stop
        while place > start and ops[place - 1 - first] in _NORM:
            place -= 1
            if ops[place - first] == "pow":
                return start, place
    return start, stop


def _without_number(path: Path) -> Path:
    """The path of the same module in any of numbered layers."""
    at = next((n for n, part in enumerate(path) if part.isdecimal()), None)
    return path if at is None else (*path[:at], "#", *path[at + 1 :])


def _recorded(module: str) -> Path:
    return tuple(module.split(".")) if module else ()


def _paths_of_leaves(units: OpSequence) -> list[list[Path]]:
    """By the number of a leaf, the modules that have it; empty if no name is a path."""
    found: list[list[Path]] = []
    for data in units.leaves:
        names = (data.get("name", ""), *data.get("aliases", ()))
        # Of what is untracked, frozen parameters and buffers have a path for a name.
        tensor = data["kind"] in (NodeKind.PARAMETER, NodeKind.LEAF, NodeKind.UNTRACKED)
        plain = [name.removesuffix(".t()") for name in names if tensor]
        found.append([_path(name) for name in plain if _PATH.fullmatch(name)])
    return found if any(found) else []


def _path(name: str) -> Path:
    return without_wrappers(name.split(".")[:-1])


def shared(one: Path, other: Path) -> Path:
    """What two paths begin with.

    Example:
        >>> shared(("h", "3", "attn"), ("h", "3", "mlp"))
        ('h', '3')
    """
    return shared_by([one, other])


def shared_by(paths: Sequence[Path]) -> Path:
    """What all paths begin with."""
    if not paths:
        return ()
    low, high = min(paths), max(paths)  # what these two share, all between them do
    same = [a == b for a, b in zip(low, high, strict=False)]
    return low[: [*same, False].index(False)]


def root_of(paths: Sequence[Path]) -> int:
    """How many parts all paths have in common, not counting a path that ends there.

    They say nothing: the name of the variable, ``model``, or of a wrapper, ``module``.
    """
    known = {path for path in paths if path}
    return min(len(shared_by(list(known))), max(map(len, known)) - 1) if known else 0


def deepest(paths: Sequence[Path]) -> int:
    """The largest depth at which `group_by_module` tells modules apart."""
    return max(map(len, paths), default=0) - root_of(paths)


def _between(before: Path, after: Path) -> Path:
    """Where an operation ran that comes after one module and before another.

    Nothing runs in a list of modules itself: what follows ``layers.3`` and comes before
    ``layers.4`` belongs to ``layers.3``. Before ``layers.5``, it was ``layers.4``, whose
    module has no parameters.
    """
    common = shared(before, after)
    rest, then = before[len(common) : len(common) + 1], after[len(common) : len(common) + 1]
    if not (rest and then and rest[0].isdecimal() and then[0].isdecimal()):
        return common
    own = int(rest[0]) + (int(then[0]) == int(rest[0]) + 2)
    return (*common, str(own))


_MOST_CONTENTS = 12
_GLUE = 4  # From so many operations on, what a module does between its parts is a group too.


@view
@along_the_data
def infer_modules(graph: GradGraph) -> GradGraph:
    """Say of each operation in which module it ran, as far as names and order tell.

    An operation that uses ``encoder.layers.3.fc.weight`` ran in ``encoder.layers.3.fc``. One
    that uses no parameter ran in what the module before it and the one after it have in common.
    What was recorded is left as it is.

    Args:
        graph: with paths for names, as those that ``names=model`` gives.

    Returns:
        The same graph with ``module``, and ``inferred=True``, on operations that had none.
        Applying it twice changes nothing more.

    Example:
        >>> graph = GradGraph()
        >>> graph.add_node("w", kind=NodeKind.PARAMETER, name="net.fc.weight")
        >>> graph.add_node("n", kind=NodeKind.OPERATION, op="linear")
        >>> _ = graph.add_edge("w", "n", 0)
        >>> infer_modules(graph).nodes["n"]["module"]
        'net.fc'
    """
    told: GradGraph = graph.copy()
    units = op_sequence(graph)
    for key, data, path in zip(units.keys, units.data, module_paths(units), strict=True):
        if path and "module" not in data:
            told.nodes[key].update(module=".".join(path), inferred=True)
    return told


@view
@along_the_data
def group_by_module(graph: GradGraph, *, depth: int | None = None) -> GradGraph:
    """Draw each call of a module as one node, with its operations and parameters in it.

    Args:
        graph: whose operations know their module, or whose leaves have paths for names.
        depth: number of parts of the path that tell modules apart, after what all paths begin
            with: of ``encoder.layers.3.fc``, 1 is ``encoder`` and 3 is ``encoder.layers.3``.
            None for the whole path.

    Returns:
        A graph in which what lies between modules stays as it is.

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
    units = op_sequence(graph)
    paths = module_paths(units)
    return group_parts(graph, module_parts(units, paths, depth and root_of(paths) + depth), depth)


def check_depth(depth: int | None) -> None:
    """Raise a `UsageError` if it is no depth."""
    if depth is not None and (type(depth) is not int or depth < 1):
        raise UsageError(must_be("depth", "an integer >= 1, or None", depth))


def group_parts(graph: GradGraph, parts: Sequence[Part], depth: int | None) -> GradGraph:
    """Draw the modules, and say so."""
    if not parts:
        return graph.copy()  # type: ignore[no-any-return]
    nodes = (graph._node[key] for part in parts for key in part.keys)
    count = sum(data.get("members", 1) for data in nodes)
    deep = f" (depth {depth})" if depth else ""
    return contract(graph, parts).with_note(
        f"{count:,} operations drawn as {len(parts):,} groups by module{deep}"
    )


def module_parts(units: OpSequence, paths: Sequence[Path], cut: int | None) -> list[Part]:
    """The stretches of units that ran in one call of a module each.

    Args:
        units: the graph.
        paths: the module of each unit.
        cut: the parts of a path that tell modules apart; None for all.
    """
    parts = []
    for start, stop in _calls(units, [path[:cut] for path in paths], cut):
        path, places = paths[start][:cut], range(start, stop)
        groups = sum(_is_group(units, place) for place in places)
        glue = cut is None or len(path) < cut
        parametric = groups or any(units.parameters(place) for place in places)
        few = 1 if not glue else _GLUE - 1
        if path and (parametric or stop - start > few) and not groups == stop - start == 1:
            name = ".".join(path)
            data: Any = {"name": name, "module": name, **contents_of(paths[start:stop])}
            if any(is_inferred(units.data[place]) for place in places):
                data["inferred"] = True
            parts.append(Part(units.keys[start:stop], data))
    return parts


def contents_of(paths: Sequence[Path]) -> dict[str, tuple[str, ...]]:
    """The modules in a group, as an attribute of it; none if there is only one."""
    known = [".".join(path) for path in dict.fromkeys(paths) if path]
    more = ("…",) if len(known) > _MOST_CONTENTS else ()
    return {"contents": (*known[:_MOST_CONTENTS], *more)} if len(known) > 1 else {}


def _is_group(units: OpSequence, place: int) -> bool:
    return units.data[place]["kind"] is NodeKind.GROUP


def _calls(units: OpSequence, labels: Sequence[Path], cut: int | None) -> Iterator[tuple[int, int]]:
    """Unbroken stretches with one label, of one call if that was recorded.

    Where it was not, a parameter used again begins another call. What repeats stays apart,
    unless it is all in one module.
    """
    start = 0
    call: object = None
    used: set[int] = set()
    for place in range(len(units) + 1):
        ends = place == len(units) or not units.foldable(place)
        if not ends and "repeat" in units.data[place]:
            ends = cut is None or len(labels[place]) < cut
        calls = () if ends else units.data[place].get("calls", ())
        before, call = call, calls[len(labels[place])] if calls else None
        leaves = [] if ends or calls else units.parameters(place)
        other = place > 0 and place < len(units) and labels[place] != labels[place - 1]
        if ends or other or call != before or not used.isdisjoint(leaves):
            if start < place:
                yield start, place
            start, used = place + ends, set()
        used.update(leaves)
