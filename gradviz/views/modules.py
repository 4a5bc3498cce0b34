"""Which module an operation belongs to, and the graph with each module drawn as one node."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from gradviz.errors import UsageError
from gradviz.graph import GradGraph, NodeKind
from gradviz.graph.module_paths import Path
from gradviz.views.contract import Part, contract
from gradviz.views.flow import along_the_data
from gradviz.views.inference import is_inferred, module_paths, root_of
from gradviz.views.units import Units, units_of
from gradviz.views.view import view

__all__ = [
    "check_depth",
    "contents_of",
    "group_by_module",
    "group_parts",
    "infer_modules",
    "module_parts",
]

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
    units = units_of(graph)
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
    units = units_of(graph)
    paths = module_paths(units)
    return group_parts(graph, module_parts(units, paths, depth and root_of(paths) + depth), depth)


def check_depth(depth: int | None) -> None:
    """Raise a `UsageError` if it is no depth."""
    if depth is not None and (type(depth) is not int or depth < 1):
        raise UsageError(f"depth cannot be {depth!r}: pass a whole number from 1 on, or None")


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


def module_parts(units: Units, paths: Sequence[Path], cut: int | None) -> list[Part]:
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


def _is_group(units: Units, place: int) -> bool:
    return units.data[place]["kind"] is NodeKind.GROUP


def _calls(units: Units, labels: Sequence[Path], cut: int | None) -> Iterator[tuple[int, int]]:
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
