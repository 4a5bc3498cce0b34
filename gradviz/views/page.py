"""The default view: fold the graph until its picture fits a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import networkx as nx

from gradviz.errors import UsageError
from gradviz.graph import LEAVES, TENSORS, GradGraph, NodeKind, TensorSummary
from gradviz.graph.columns import collector_paused
from gradviz.graph.operations import operation
from gradviz.graph.text import counted, must_be, shape_text
from gradviz.views.details import (
    clone_shared_leaves,
    hide_bookkeeping,
    hide_copies,
    hide_untracked,
    note_of_edges,
)
from gradviz.views.focus import in_focus
from gradviz.views.groups import Part, count_of
from gradviz.views.modules import deepest, group_parts, module_parts, module_paths, root_of
from gradviz.views.op_sequence import OpSequence, op_sequence
from gradviz.views.repeats import fold_parts, fold_repeats, repeat_parts, repeats_of
from gradviz.views.siblings import (
    dock_leaves,
    fold_calls,
    fold_chains,
    fold_chunks,
    fold_outside_of_modules,
    fold_rows_of_leaves,
    fold_siblings,
    gradient_state,
)
from gradviz.views.view import reverse_flow, view

_HOPELESS = 8  # Graphs with more operations than so many pages hold are folded at once.
_ALL_DEPTHS = 99
_WIDEST = 1_300.0  # points; then text of 11 points is 9 pixels high at a width of 1,400 pixels
_COLUMNS = 1_180.0  # points, the width of columns beside each other
_HIGHEST = 1_950.0
_LEAST = 400.0  # that a graph gets in any case
_ROOM = 250.0  # of a graph among others: title, captions, table
_SPREAD = 1.5  # links and leaves widen a rank that has several
_OPEN = 1.25  # how far the estimate of a small open graph, mostly too large, may exceed a page
_NEARLY, _MUCH = 1.1, 3  # a size is an estimate; how many times fewer boxes are no gain
_PACKED = 0.9  # the height of a picture compared with its ranks
_NARROW = (1_299.0, 1_000.0, 750.0, 500.0, 350.0)  # points
MOST_PAGES = 5
"""Graphs on one page."""
CHUNKED = "chunked"
"""The attribute of a graph whose operations were put in chunks, for want of another folding."""
_FEW_LEAVES = 8  # in one state, or that are asked about, that stay out of boxes
_CHUNKS = (12, 8, 5, 3)
_HOW = "views=() or --all shows everything, focus_on(NAME) or --focus NAME a part"


PageSize = tuple[int, int] | tuple[int, int, float]


@view
def fit_page(graph: GradGraph, *, most: int = 60, pages: int = 1) -> GradGraph:
    """Show a small graph as a whole, and a large one folded to fit a page.

    Bookkeeping nodes are hidden (`hide_bookkeeping`). If more than ``most`` nodes remain,
    repetitions are folded (`fold_repeats`), then modules (`group_by_module`), the deepest first;
    if this is not enough, chains (`fold_chains`), and finally chunks of about equal length. A note
    says what was done.

    Args:
        graph: as it was recorded.
        most: how many nodes a page holds; up to twice as many if no view finds fewer.
        pages: how many graphs share the height of the page.

    Returns:
        A graph to draw. The result is deterministic.

    Raises:
        UsageError: if ``most`` is less than 10, or ``pages`` less than 1.

    Example:
        >>> graph = GradGraph()
        >>> for n in range(99): graph.add_node(f"n{n}", kind=NodeKind.OPERATION, op="sin")
        >>> for n in range(98): _ = graph.add_edge(f"n{n}", f"n{n + 1}", 0)
        >>> seen = fit_page(graph)
        >>> seen, seen.nodes["g0"]["repeat"]
        (GradGraph(2 operations, 1 group, 2 edges), 97)
    """
    if type(most) is not int or most < 10:
        raise UsageError(must_be("most", "an integer >= 10", most))
    if type(pages) is not int or pages < 1:
        raise UsageError(must_be("pages", "an integer >= 1", pages))
    return fit_pages(graph, [(most, pages)])[0]


def fit_pages(graph: GradGraph, sizes: Sequence[PageSize]) -> list[GradGraph]:
    """`fit_page` for several sizes at once: each folding is made once.

    Args:
        graph: as it was recorded.
        sizes: ``most`` and ``pages`` of each page, and perhaps its width in points.

    Returns:
        A graph for each size; the same object where two are equal.
    """
    if not sizes:
        return []
    if graph.graph.get("flow") == "gradient":
        return [reverse_flow(seen) for seen in fit_pages(reverse_flow(graph), sizes)]
    with collector_paused():
        return _fitted(graph, sizes)


def _fitted(graph: GradGraph, sizes: Sequence[PageSize]) -> list[GradGraph]:
    sheets = [
        _Page(
            most,
            _HIGHEST if pages == 1 else max(_HIGHEST / pages - _ROOM, _LEAST),
            *(width or (_WIDEST,)),
        )
        for most, pages, *width in sizes
    ]
    if graph.number_of_nodes() > min(page.most for page in sheets) * _HOPELESS:
        graph = fold_rows_of_leaves(graph)
    fits: dict[_Page, GradGraph] = {}
    if graph.number_of_nodes() <= max(page.most for page in sheets) * _HOPELESS:
        whole: GradGraph = hide_bookkeeping(graph)
        for page in dict.fromkeys(sheets):
            if whole.number_of_nodes() <= page.most and (seen := _fitting(whole, page)) is not None:
                fits[page] = seen
    others = [page for page in dict.fromkeys(sheets) if page not in fits]
    found = _smallest(graph, others) if others else {}
    folded: dict[tuple[int, int], GradGraph] = {}
    for page, (best, how) in found.items():
        chosen = id(best), page.most
        fits[page] = folded[chosen] = folded.get(chosen) or _folded(graph, best, how, page.most)
    return [fits[page] for page in sheets]


def _folded(graph: GradGraph, best: GradGraph, how: str, most: int) -> GradGraph:
    """The best folding of a graph, folded further if it is too large, with a note."""
    best.graph.pop("apart", None)
    seen = _with_clones(best, 2 * most)
    for fold, word in ((fold_chains, "chains"), (fold_chunks(most // 2), "chunks")):
        if seen.number_of_nodes() > 2 * most:
            best, how = fold(best), f"{how}, {word}"
            seen = _with_clones(best, 2 * most)
    if seen is best:
        seen = clone_shared_leaves(best)
    fold_notes = [note for note in best.notes if note not in graph.notes]
    fold_notes.append(graph.graph.get("page_note"))  # of an earlier page
    kept = [note for note in seen.notes if note not in fold_notes]
    how = how.removeprefix(", ")
    note = seen.graph["page_note"] = _note(seen, how, most)
    seen.graph["notes"] = tuple(filter(None, (note, note_of_edges(seen), *kept)))
    return seen


def _merged(graph: GradGraph, *, shapes: bool, outside: bool, chains: bool) -> GradGraph:
    seen = hide_untracked(dock_leaves(fold_siblings(graph, shapes=shapes)))
    seen = fold_outside_of_modules(seen) if outside else seen
    return clone_shared_leaves(fold_chains(seen) if chains else seen)  # type: ignore[no-any-return]


def smaller_pages(
    graph: GradGraph, whole: GradGraph, focus: str | None, radius: int | None
) -> Iterator[GradGraph]:
    """What was chosen by depth or focus, with ever more of it merged: leaves, loops, branches.

    Args:
        graph: through the views that were chosen.
        whole: before these views.
        focus: what is in focus, if anything: of several calls of a module, the first stays open.
        radius: of the focus; None for the usual one.
    """
    yield clone_shared_leaves(dock_leaves(graph))
    yield _merged(graph, shapes=True, outside=False, chains=False)
    if focus is not None:  # what is in focus stays open as long as possible
        yield clone_shared_leaves(dock_leaves(fold_repeats(graph)))
        yield _merged(graph, shapes=False, outside=False, chains=False)
        plain = hide_bookkeeping(whole)
        for steps in (radius, 1, 0):
            near: dict[str, Any] = {} if steps is None else {"radius": steps}
            opened = in_focus(plain, focus, focus, only_first=True, **near)
            yield clone_shared_leaves(dock_leaves(opened))
    for chains in (False, True):
        yield _merged(graph, shapes=False, outside=True, chains=chains)
    yield from fit_pages(graph, [(60, 1), (30, 1)])


def narrow_sizes(pages: int) -> list[PageSize]:
    """Sizes of pages, ever narrower, for pictures with so many graphs on half a page."""
    most = sorted({min(n, MOST_PAGES) for n in (max(1, pages // 2), pages, 2 * pages)})
    return [(60, n, width) for n in most[: 3 if pages > 1 else 1] for width in _NARROW]


def _with_clones(graph: GradGraph, most: int) -> GradGraph:
    """Copy shared leaves to their uses; not if the graph is already too large."""
    if graph.number_of_nodes() > most:
        return graph  # copying it would take as long as folding it
    return clone_shared_leaves(graph)  # type: ignore[no-any-return]


def _note(best: GradGraph, how: str, most: int) -> str:
    """What was folded, how to see it, and how many untracked tensors were left out."""
    groups = [data for _, data in best.nodes(data=True) if data["kind"] is NodeKind.GROUP]
    groups = [data for data in groups if data.get("members")]
    inside = sum(data.get("members", 0) for data in groups)
    count = counted(len(groups), "group")
    still = best.number_of_nodes()
    much = f"; still {still:,} nodes" if still > 2 * most else ""
    text = f"{inside:,} of {count_of(best):,} operations folded into {count} by {how}{much}"
    if not groups:  # only tensors were folded
        text = f"tensors folded by {how}{much}"
    left = best.graph.get("untracked_left_out", 0)
    without = f"{counted(left, 'untracked tensor')} left out" if left else ""
    said = [*filter(None, (text if how else "", without))]
    return "; ".join((*said, _HOW)) if said else ""


class _Page(NamedTuple):
    """How many nodes a graph may have, and how high and wide its picture may be, in points."""

    most: int
    height: float
    width: float


def _fitting(graph: GradGraph, page: _Page) -> GradGraph | None:
    """The graph with copies of shared leaves, if it fits a page or nearly does."""
    is_alone = page.height == _HIGHEST and graph.graph.get("frames", 1) == 1
    limit = _OPEN if is_alone and 2 * len(graph) <= page.most else 1
    for fold in (None, fold_siblings):
        seen: GradGraph = clone_shared_leaves(graph if fold is None else fold(graph))
        if len(seen) <= page.most and _excess(seen, page) <= limit:
            return seen
    return None


def _excess(graph: GradGraph, page: _Page) -> float:
    """How many times too large a picture is for a page; a tall one is split into columns."""
    return _excess_of(page_size(graph), page)


def _excess_of(size: tuple[float, float], page: _Page) -> float:
    width, height = size[0], size[1] * _PACKED
    columns = max(1, int(min(_COLUMNS, page.width) // max(width, 1)))
    return max(width / page.width, height / (columns * page.height))


def _smallest(graph: GradGraph, pages: Sequence[_Page]) -> dict[_Page, tuple[GradGraph, str]]:
    """For each page the first folding that fits it, else the one that comes closest."""
    best: dict[_Page, tuple[float, GradGraph, str]] = {}
    most = max(page.most for page in pages)
    left = list(pages)
    is_alone = graph.graph.get("frames", 1) == 1
    is_narrow = all(page.width < _WIDEST for page in pages)
    graph = hide_copies(graph)
    if is_narrow:
        graph = _with_few_apart(graph)
    for seen, word, needed in _candidates(graph, most, is_alone, is_narrow):
        count = seen.number_of_nodes()
        shown: tuple[float, float] | None = None
        for page in left[:]:
            size = count / page.most
            if count <= 2 * page.most:
                shown = shown or page_size(clone_shared_leaves(seen))
                size = max(size, _excess_of(shown, page))
            if count > page.most and page.height < _HIGHEST:
                size += _HOPELESS  # among others it must be small
            fits = size <= (_NEARLY if needed and is_alone else 1)
            if needed and (not fits or count > page.most or 2 * count > needed):
                continue
            # What nearly fits is better than a few boxes: if it is drawn too large, it is folded.
            is_near = page in best and best[page][0] <= _NEARLY
            is_poor = is_near and _MUCH * count < best[page][1].number_of_nodes()
            if page not in best or (size < best[page][0] and not is_poor):
                best[page] = size, seen, word
            if fits:
                left.remove(page)
        if not left:
            break
    return {page: _with_chains(best.get(page), graph, page) for page in pages}


def _with_chains(
    best: tuple[float, GradGraph, str] | None, graph: GradGraph, page: _Page
) -> tuple[GradGraph, str]:
    """The best folding, with its chains folded if it is then smaller."""
    if best is None:
        return graph.copy(), ""
    size, seen, word = best
    if size <= 1:
        return seen, word
    chains = fold_chains(seen)
    is_smaller = len(chains) < len(seen) <= 2 * page.most
    if is_smaller and _excess(clone_shared_leaves(chains), page) < size:
        return chains, f"{word}, chains"
    return seen, word


def _candidates(
    graph: GradGraph, most: int, is_alone: bool, is_narrow: bool
) -> Iterator[tuple[GradGraph, str, int]]:
    """Foldings with their words, from the finest; and the nodes before it, or 0.

    If it is not 0, the folding is only used where it nearly fits and has at most half of the nodes.
    """
    if graph.number_of_nodes() <= most * _HOPELESS:
        whole: GradGraph = hide_bookkeeping(graph)
        alike = fold_siblings(whole)
        yield alike, "alike branches", len(whole)
        if is_alone:
            yield dock_leaves(alike), "alike branches", len(whole)
    ways = []
    for way, how in _foldings(graph, most):
        for seen, word in _narrower(way, how, most):
            yield seen, word, 0
        ways.append((way, how))
    # Modules are clearer than repeats of operations.
    rows: dict[bool, list[tuple[GradGraph, str]]] = {True: [], False: []}
    for row in ways:
        rows[_has_modules(row[0])].append(row)
    ways = [*rows[True], *_outermost(graph), *rows[False]]
    for way, how in ways:
        outside = fold_outside_of_modules(way) if len(way) <= most * _HOPELESS**2 else way
        if len(outside) < len(way):
            for fewer in (outside, fold_outside_of_modules(fold_calls(outside))):
                for has_shapes in (True, False):
                    alike = fold_siblings(fewer, shapes=has_shapes)
                    yield (
                        hide_untracked(dock_leaves(alike)),
                        f"{how or 'module'} and outside of modules",
                        0,
                    )
    if is_narrow:
        small = [each for each in ways if len(each[0]) <= most * _HOPELESS]
        yield from _fewer(graph, small)


def _fewer(
    graph: GradGraph, ways: Sequence[tuple[GradGraph, str]]
) -> Iterator[tuple[GradGraph, str, int]]:
    """Foldings for what is still too wide: modules with other names as one, then few chunks."""
    for way, how in ways:
        outside = fold_outside_of_modules(way)
        for base, fewest in ((way, 3), (way, 2), (outside, 2)):
            alike = fold_siblings(base, fewest=fewest, shapes=False, names=False)
            yield hide_untracked(dock_leaves(alike)), f"{how or 'module'} and alike branches", 0
    whole = hide_bookkeeping(graph)
    smallest = min((way for way, _ in ways), key=len, default=whole)
    whole = fold_chains(smallest if 2 * len(smallest) < len(whole) else whole)
    for count in _CHUNKS:
        few = hide_untracked(dock_leaves(fold_chunks(whole, count)))
        few.graph[CHUNKED] = True
        yield few, "chunks", 0


def _with_few_apart(graph: GradGraph) -> GradGraph:
    """The graph with few leaves in a state of their own kept out of groups, and many roots not.

    Where all is folded, a leaf without a gradient, a frozen one or one with NaN keeps its name.
    """
    graph = graph.copy()
    modules = graph.graph.get("modules", {})
    leaves = {
        key: data
        for key, data in graph._node.items()
        if data["kind"] in LEAVES
        or (data.get("requires_grad") is False and _module_of(data) in modules)
    }
    states = {
        key: (gradient_state(data), data.get("requires_grad"), data.get("verdict"))
        for key, data in leaves.items()
    }
    counts = Counter(states.values())
    usual = {state for state, count in counts.items() if count > _FEW_LEAVES}
    usual.update(state for state, _ in counts.most_common(1))
    graph.graph["apart"] = frozenset(key for key, state in states.items() if state not in usual)
    roots = [data for data in leaves.values() if "root" in data]
    for data in roots if len(roots) > _FEW_LEAVES else ():
        del data["root"]
    return graph


def _module_of(data: Mapping[str, Any]) -> str:
    return str(data.get("name", "")).rpartition(".")[0]


def _has_modules(graph: GradGraph) -> bool:
    """Whether there are groups that are calls of modules."""
    groups = (data for data in graph._node.values() if data["kind"] is NodeKind.GROUP)
    return any(data.get("module") and "repeat" not in data for data in groups)


def _outermost(graph: GradGraph) -> Iterator[tuple[GradGraph, str]]:
    """The graph with each call of the outer modules as one node."""
    sequence = op_sequence(graph)
    paths = module_paths(sequence)
    for depth in (2, 1):
        if parts := module_parts(sequence, paths, root_of(paths) + depth):
            yield hide_bookkeeping(group_parts(graph, parts, depth)), f"module (depth {depth})"


def _narrower(graph: GradGraph, how: str, most: int) -> Iterator[tuple[GradGraph, str]]:
    """A graph, the same with equal branches drawn once, and with leaves in one box."""
    yield graph, how
    if graph.number_of_nodes() <= most * _HOPELESS**2:
        word = f"{how} and alike branches" if how else "alike branches"
        for has_shapes in (True, False):
            alike = fold_siblings(graph, shapes=has_shapes)
            if len(alike) < len(graph):
                yield alike, word
            docked = dock_leaves(alike)
            if len(docked) < len(alike):
                yield docked, word if len(alike) < len(graph) else how
            bare = hide_untracked(docked)
            if len(bare) < len(docked):
                yield bare, word if len(alike) < len(graph) else how


def _foldings(graph: GradGraph, most: int) -> Iterator[tuple[GradGraph, str]]:
    """The graph folded by one view after another, from the finest to the coarsest."""
    sequence = op_sequence(graph)
    paths = module_paths(sequence)
    repeats = repeats_of(sequence, paths)
    root, deep = root_of(paths), deepest(paths)
    parts = repeat_parts(sequence, paths, repeats, _ALL_DEPTHS)
    if _left(sequence, parts) <= most * _HOPELESS:
        seen: GradGraph = hide_bookkeeping(fold_parts(graph, parts))
        # For stacked layers, modules are clearer than a full page of operations.
        if not any(repeat.stack for repeat in repeats) or 2 * seen.number_of_nodes() <= most:
            yield seen, "repeats" if parts else ""
    folded: tuple[int, GradGraph] = (-1, graph)
    for depth in range(deep, 0, -1):
        parts = repeat_parts(sequence, paths, repeats, root + depth)
        if _left(sequence, parts) > most * _HOPELESS**2:
            parts = module_parts(sequence, paths, root + depth)
            if _left(sequence, parts) <= most * _HOPELESS:
                yield hide_bookkeeping(group_parts(graph, parts, depth)), f"module (depth {depth})"
            continue
        size = sum(len(part.keys) for part in parts)
        if folded[0] != size:
            folded = size, hide_bookkeeping(fold_parts(graph, parts))
        # Folded operations no longer help to infer the modules of their neighbors.
        inner, known = op_sequence(folded[1]), dict(zip(sequence.keys, paths, strict=True))
        own = module_paths(inner)
        inner_paths = [known.get(key, path) for key, path in zip(inner.keys, own, strict=True)]
        parts = module_parts(inner, inner_paths, root + depth)
        how = f"{'repeats and ' if repeats else ''}module (depth {depth})"
        yield group_parts(folded[1], parts, depth), how
    parts = repeat_parts(sequence, paths, repeats)
    base = fold_parts(graph, parts) if parts else graph
    if _left(sequence, parts) > most * _HOPELESS**2:
        base = fold_chains(base)
    yield hide_bookkeeping(base), "repeats" if parts else ""
    calls = module_parts(sequence, paths, root) if root else []
    if 1 < len(calls) <= 2 * most:  # one module, called several times
        grouped: GradGraph = hide_bookkeeping(group_parts(graph, calls, None))
        yield grouped, "module"
        yield fold_repeats(grouped), "module and repeats"


def _left(sequence: OpSequence, parts: list[Part]) -> int:
    """An estimate of the number of operations that will be drawn."""
    rest = len(sequence) - sum(len(part.keys) for part in parts)
    if 10 * rest < len(sequence):
        return len(parts) + rest
    inside = {key for part in parts for key in part.keys}
    plain = zip(sequence.keys, sequence.data, strict=True)
    return len(parts) + sum(
        key not in inside and not operation(data.get("op", "")).rearranges for key, data in plain
    )


_CHARACTER = 6.6  # points, the width of a character in a box
_MARGIN = 30.0  # beside the text of a box, and between two boxes
_LINK = 22.0  # the width of a link that passes a rank
_ROW = 17.0
_RANK = 58.0  # a box of one row, and the gap below it
_LONGEST = 52  # characters of a value
_FEW = 8  # values that are written out


def page_size(graph: GradGraph) -> tuple[float, float]:
    """Estimate width and height of a picture in points: its widest rank, and its ranks.

    Args:
        graph: acyclic, as it would be drawn; edges run in the direction of the data.

    Example:
        >>> graph = GradGraph()
        >>> for n in range(9): graph.add_node(f"n{n}", kind=NodeKind.OPERATION, op="sin")
        >>> wide, flat = page_size(graph)
        >>> for n in range(8): _ = graph.add_edge(f"n{n}", f"n{n + 1}", 0)
        >>> narrow, high = page_size(graph)
        >>> narrow < wide, flat < high
        (True, True)
    """
    rank: dict[str, int] = {}
    for key in reversed(list(nx.topological_sort(graph))):
        rank[key] = max((rank[user] + 1 for user in graph._succ[key]), default=0)
    depth = max(rank.values(), default=0) + 1
    widths, rows, counts = [0.0] * depth, [1] * depth, [0] * depth
    for key, data in graph._node.items():
        lines = _lines(data)
        at = rank[key]
        is_docked = data["kind"] is NodeKind.GROUP and not data.get("members")
        if data["kind"] in TENSORS or is_docked:  # it is drawn close to its users
            at = 1 + max((rank[user] for user in graph._succ[key]), default=-1)
        widths[at] += max(map(len, lines)) * _CHARACTER + _MARGIN
        rows[at], counts[at] = max(rows[at], len(lines)), counts[at] + 1
        for user in graph._succ[key]:
            for between in range(rank[user] + 1, at):
                widths[between] += _LINK
                counts[between] += 1
    spread = [
        width * (_SPREAD if count > 1 else 1) for width, count in zip(widths, counts, strict=True)
    ]
    return max(spread, default=0.0), sum(_RANK + _ROW * count for count in rows)


def _lines(data: Mapping[str, Any]) -> list[str]:
    """The approximate text of a box."""
    kind, get = data["kind"], data.get
    shape = shape_text(data["shape"], get("dtype", "")) if "shape" in data else ""
    if kind is NodeKind.GROUP and "clone_of" in data:
        return [f"{get('name') or get('op', '')}"[:30] + "  again"]
    if kind is NodeKind.GROUP:
        head = f"{get('name') or get('op', '')} ×{get('repeat', '')} {get('members', 0)} ops"
        head += " in all" * ("repeat" in data) + " steps 2–11" * ("first_step" in data)
        facts = ["9.99k parameters .grad norm 0.0001"] if "grad" in data else []
        return [head, *facts]
    if kind in TENSORS or kind is NodeKind.RESULT:
        found = [f"{get('name', '')} {shape}"]
        found += [_value(data[name]) for name in ("value", "grad") if name in data]
        return found
    options = " ".join(f"{name}={text}" for name, text in get("options", {}).items())
    return [f"{get('op', '')} {options} {get('name', '')} {shape}"]


def _value(summary: TensorSummary | None) -> str:
    if summary is None:
        return ".grad None"
    count = summary.numel
    return "0" * (min(_LONGEST, 9 * count) if count <= _FEW else 40)
