"""Show a part of the graph in full, and fold or omit the rest."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Iterator
from fnmatch import fnmatchcase
from typing import Any

from gradviz.errors import UsageError
from gradviz.graph import LEAVES, GradGraph, NodeData, NodeKind, ancestors, descendants, every
from gradviz.graph.text import Path, counted, must_be
from gradviz.views.groups import Part, contract, count_of_nodes
from gradviz.views.modules import module_parts, module_paths, root_of
from gradviz.views.op_sequence import OpSequence, op_sequence
from gradviz.views.view import along_the_data, reverse_flow, view


@view
@along_the_data
def only_paths_to(graph: GradGraph, leaf: str) -> GradGraph:
    """Show only the paths along which a gradient reaches a leaf.

    Args:
        graph: any graph.
        leaf: its name or key.

    Raises:
        UsageError: if no node has that name.

    Example:
        >>> graph = GradGraph()
        >>> for key in "xwy": graph.add_node(key, name=key)
        >>> _ = graph.add_edge("x", "y", 0), graph.add_edge("w", "y", 1)
        >>> list(only_paths_to(graph, leaf="x"))
        ['x', 'y']
    """
    key = _key(graph, leaf)
    first = graph.nodes[key].get("clone_of", key)
    same = [each for each, data in graph.nodes(data=True) if data.get("clone_of") == first]
    kept = {first, *same}
    kept |= descendants(graph, kept, every)
    return _kept(graph, kept, f"only paths to {leaf}")


@view
@along_the_data
def only_reaching(graph: GradGraph, root: str) -> GradGraph:
    """Show only what a result was computed from.

    Args:
        graph: any graph.
        root: name or key of a result, or of any other node.

    Raises:
        UsageError: if no node has that name.

    Example:
        >>> graph = GradGraph()
        >>> for key in "xyz": graph.add_node(key, name=key)
        >>> _ = graph.add_edge("x", "y", 0), graph.add_edge("x", "z", 0)
        >>> list(only_reaching(graph, root="y"))
        ['x', 'y']
    """
    key = _key(graph, root)
    kept = ancestors(graph, [key], every)
    kept |= {
        data["clone_of"]
        for each, data in graph.nodes(data=True)
        if each in kept and "clone_of" in data
    }
    return _kept(graph, kept, f"only what {root} was computed from")


def _key(graph: GradGraph, name: str) -> str:
    if name in graph:
        return name
    try:
        return graph.find(name)
    except KeyError as error:
        raise UsageError(str(error.args[0])) from error


def _kept(graph: GradGraph, kept: set[str], what: str) -> GradGraph:
    seen: GradGraph = graph.subgraph(kept).copy()
    left = len(graph) - len(kept)
    return seen.with_note(f"{what}: {left:,} nodes left out") if left else seen


_BY = ("saved_bytes", "grad_norm", "numel")


@view
def focus_on(graph: GradGraph, target: str, *, radius: int = 2) -> GradGraph:
    """Show the named nodes and their neighborhood; the rest becomes ``… 37 more``.

    Args:
        graph: any graph.
        target: a name (``fc.weight``), the path of a module (``encoder.layers.3``: everything in
            it), an operation (``softmax``) or the key of a node (``n12``). ``*``, ``?`` and
            ``[0-9]`` are wildcards as in file names. A prefix that all paths have, such as
            ``model.``, may be omitted.
        radius: how many steps around the named nodes are shown.

    Returns:
        A graph with the same results, in which the nodes between the shown ones are folded.

    Raises:
        UsageError: if no node has that name; the message lists similar names.

    Example:
        >>> graph = GradGraph()
        >>> for n in range(9): graph.add_node(f"n{n}", kind=NodeKind.OPERATION, op="sin")
        >>> for n in range(8): _ = graph.add_edge(f"n{n}", f"n{n + 1}", 0)
        >>> list(focus_on(graph, target="n8", radius=1))
        ['g0', 'n7', 'n8']
    """
    if type(radius) is not int or radius < 0:
        raise UsageError(must_be("radius", "an integer >= 0", radius))
    return in_focus(graph, target, target, radius)


@along_the_data
def in_focus(
    graph: GradGraph, target: str, word: str, radius: int = 2, *, only_first: bool = False
) -> GradGraph:
    """`focus_on`, with a word for the target in the note.

    Args:
        graph: any graph.
        target: as for `focus_on`.
        word: what the note calls it.
        radius: as for `focus_on`.
        only_first: the first call of a module; of what is no module, or called once, all of it.
    """
    sequence = op_sequence(graph)
    paths = module_paths(sequence)
    found = _found(graph, sequence, paths, target)
    if not found:
        raise UsageError(_not_found(graph, paths, target))
    kept = set(found)
    if only_first:
        depth = min(
            (len(p) for k, p in zip(sequence.keys, paths, strict=True) if k in kept), default=0
        )
        calls = [part.keys for part in module_parts(sequence, paths, depth)]
        calls = [keys for keys in calls if kept.issuperset(keys)]
        if len(calls) > 1:
            word, kept = f"the first of {len(calls):,} calls of {word}", set(calls[0])
    edge = kept
    for _ in range(radius):
        near = {other for key in edge for other in _neighbors(graph, key, sequence)} - kept
        kept = kept | near
        edge = near - sequence.aside.keys()
    near_by = counted(radius, "step")
    return _only(graph, sequence, kept, f"in focus: {word}, and {near_by} from there")


@view
@along_the_data
def top(graph: GradGraph, n: int = 12, *, by: str = "saved_bytes") -> GradGraph:
    """Show the ``n`` nodes with the largest values; the rest becomes ``… 37 more``.

    Args:
        graph: any graph.
        n: how many.
        by: ``"saved_bytes"`` of an operation; ``"grad_norm"`` or ``"numel"`` of a leaf, which is
            shown with the operations that use it.

    Raises:
        UsageError: if ``by`` is none of these, or ``n`` less than 1.

    Example:
        >>> graph = GradGraph()
        >>> for n in range(9): graph.add_node(f"n{n}", kind=NodeKind.OPERATION, saved_bytes=n)
        >>> for n in range(8): _ = graph.add_edge(f"n{n}", f"n{n + 1}", 0)
        >>> list(top(graph, n=1))
        ['g0', 'n8']
    """
    if by not in _BY:
        raise UsageError(must_be("by", f"one of {', '.join(_BY)}", by))
    if type(n) is not int or n < 1:
        raise UsageError(must_be("n", "an integer >= 1", n))
    weights = {key: _weight(data, by) for key, data in graph.nodes(data=True)}
    heavy = [key for key in sorted(weights, key=lambda key: -weights[key])[:n] if weights[key] > 0]
    sequence = op_sequence(graph)
    kept = set(heavy)
    for key in heavy:
        users = graph._succ[key] if key in sequence.aside else ()
        kept.update(users, *(graph._succ[user] for user in users if user in sequence.aside))
    return _only(graph, sequence, kept, f"the {len(heavy)} heaviest by {by}")


def _weight(data: dict[str, Any], by: str) -> float:
    if by == "saved_bytes":
        return float(data.get("saved_bytes", 0))
    if by == "grad_norm":
        gradient = data.get("grad")
        wrong = gradient is not None and not gradient.is_finite
        return float("inf") if wrong else gradient.finite_norm if gradient else 0.0
    if data["kind"] is NodeKind.GROUP:
        return float(data.get("parameters", 0) + data.get("leaf_elements", 0))
    count = math.prod(data.get("shape", (0,)))
    return count if data["kind"] in LEAVES else 0.0


def nodes_called(graph: GradGraph, target: str) -> list[str]:
    """The nodes with the given name, module, operation or key.

    Args:
        graph: with arrows either way.
        target: as for `focus_on`.

    Raises:
        UsageError: if there is none, with the names that come close.

    Example:
        >>> graph = GradGraph()
        >>> for key in "wxy": graph.add_node(key, kind=NodeKind.LEAF, name=f"fc.{key}")
        >>> nodes_called(graph, "fc.[xy]")
        ['x', 'y']
    """
    if graph.graph.get("flow") == "gradient":
        graph = reverse_flow(graph)
    units = op_sequence(graph)
    paths = module_paths(units)
    found = _found(graph, units, paths, target)
    if not found:
        raise UsageError(_not_found(graph, paths, target))
    return list(dict.fromkeys(found))


def _found(graph: GradGraph, sequence: OpSequence, paths: list[Path], target: str) -> list[str]:
    """The nodes with that key, else with that name or in that module, else of that operation."""
    if target in graph:
        return [target]
    # The common prefix of all paths, the variable ``model``, may be omitted.
    prefix = next(filter(None, paths), ())[: root_of(paths)]
    for length in range(len(prefix) + 1):
        found = _called(graph, sequence, paths, ".".join((*prefix[:length], target)))
        if found:
            return found
    return [
        key
        for key, data in graph._node.items()
        if any(fnmatchcase(data.get(word, ""), target) for word in ("op", "grad_fn"))
    ]


def _called(graph: GradGraph, sequence: OpSequence, paths: list[Path], target: str) -> list[str]:
    """The nodes of that name, and those of the module with that path."""
    within = f"{target}.*"
    found = [
        key
        for key, data in graph._node.items()
        for name in (data.get("name"), *data.get("aliases", ()))
        if name is not None and fnmatchcase(name, target)
    ]
    plain = {path: ".".join(path) for path in set(paths)}
    wanted = {
        p for p, name in plain.items() if fnmatchcase(name, target) or fnmatchcase(name, within)
    }
    return [
        *found,
        *(key for key, path in zip(sequence.keys, paths, strict=True) if path and path in wanted),
    ]


def _not_found(graph: GradGraph, paths: list[Path], target: str) -> str:
    known: dict[str, None] = {}
    for _, data in graph.nodes(data=True):
        known.update(dict.fromkeys(filter(None, (data.get("name"), data.get("op")))))
    for path in set(paths):
        known.update(dict.fromkeys(".".join(path[:end]) for end in range(1, len(path) + 1)))
    near = difflib.get_close_matches(target, sorted(known), 4, 0.5) or sorted(known)[:6]
    hint = f"; there are {', '.join(near)}" if near else ""
    return f"nothing is called {target!r}{hint}"


def _neighbors(graph: GradGraph, key: str, sequence: OpSequence) -> Iterator[str]:
    """The nodes one step away, and the leaf behind an ``AccumulateGrad``."""
    for source in graph._pred[key]:
        yield source
        if source in sequence.aside:
            yield from graph._pred[source]
    yield from graph._succ[key]


def _only(graph: GradGraph, sequence: OpSequence, kept: Collection[str], what: str) -> GradGraph:
    """Fold each uninterrupted chunk of the nodes that are not kept."""
    parts, chunk = list[list[str]](), list[int]()
    for place in range(len(sequence) + 1):
        if place < len(sequence) and sequence.keys[place] not in kept and sequence.foldable(place):
            chunk.append(place)
            continue
        parts += [[sequence.keys[each] for each in piece] for piece in _pieces(sequence, chunk)]
        chunk = []
    if not parts:
        return graph.copy()  # type: ignore[no-any-return]
    outside = NodeData(module="", inferred=True)  # it ends the module before it
    folded = [
        Part(keys, {"op": f"… {_count(graph, keys) or len(keys):,} more", **outside}, 0, True)
        for keys in parts
    ]
    count = sum(_count(graph, keys) for keys in parts)
    seen = contract(graph, folded, lambda users: None not in users)
    return seen.with_note(f"{what}; {count:,} other operations folded")


def _pieces(sequence: OpSequence, chunk: list[int]) -> list[list[int]]:
    """Split a chunk into two or more unconnected pieces, so that no wrong connection is drawn."""
    piece = {place: {place} for place in chunk}
    for place in chunk:
        for source in sequence.inputs(place):
            if source in piece and piece[source] is not piece[place]:
                small, large = sorted((piece[source], piece[place]), key=len)
                large |= small
                piece.update(dict.fromkeys(small, large))
    found = {id(places): places for places in piece.values()}
    return [sorted(places) for places in found.values() if len(places) > 1]


def _count(graph: GradGraph, keys: Collection[str]) -> int:
    return count_of_nodes(graph._node[key] for key in keys)
