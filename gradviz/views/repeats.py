"""The graph with what comes again and again drawn once: the steps of a loop, stacked layers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gradviz.graph import GradGraph
from gradviz.graph.module_paths import Path
from gradviz.views.contract import Part, contract
from gradviz.views.flow import along_the_data
from gradviz.views.inference import is_inferred, module_paths, root_of, shared_by
from gradviz.views.modules import check_depth, contents_of
from gradviz.views.periods import Period, is_led_up_to, periods_of, stack_of
from gradviz.views.sums import count_of_nodes, words_of
from gradviz.views.units import Units, units_of
from gradviz.views.view import view

__all__ = ["fold_parts", "fold_repeats", "repeat_parts"]

_NUMBER = re.compile(r"^\D+")  # what stands before the number: the "layer" of layer4


@view
@along_the_data
def fold_repeats(graph: GradGraph, *, depth: int | None = None) -> GradGraph:
    """Draw what comes three times or more in a row, each from the one before, as one node ``×n``.

    Of a loop the first and the last step stay as they are, and those between become one node.
    Stacked layers, such as ``layers.0`` to ``layers.11``, become one node as a whole.

    Args:
        graph: found to repeat itself by its operations, their shapes and the way they are
            joined; modules help to tell where a part begins.
        depth: as for `group_by_module`; of stacked layers that lie less deep the first stays
            open, so that their inside is seen. None folds them all.

    Returns:
        A graph in which each such node has ``repeat`` and the sums of what is in it.

    Raises:
        UsageError: if ``depth`` is less than 1.

    Example:
        >>> from gradviz.graph import NodeKind
        >>> graph = GradGraph()
        >>> for n in range(9): graph.add_node(f"n{n}", kind=NodeKind.OPERATION, op="sin")
        >>> for n in range(8): _ = graph.add_edge(f"n{n}", f"n{n + 1}", 0)
        >>> folded = fold_repeats(graph)
        >>> list(folded), folded.nodes["g0"]["repeat"]
        (['n0', 'g0', 'n8'], 7)
    """
    check_depth(depth)
    units = units_of(graph)
    paths = module_paths(units)
    opened = 0 if depth is None else root_of(paths) + depth
    return fold_parts(graph, repeat_parts(units, paths, periods_of(units, paths), opened))


def fold_parts(graph: GradGraph, parts: Sequence[Part]) -> GradGraph:
    """Fold the parts that repeat, and say so."""
    if not parts:
        return graph.copy()  # type: ignore[no-any-return]
    count = sum(count_of_nodes([graph.nodes[key] for key in part.keys]) for part in parts)
    times = ", ".join(f"×{part.data['repeat']:,}" for part in parts[:4])
    more = ", ..." if len(parts) > 4 else ""
    return contract(graph, parts).with_note(f"{count:,} operations repeat, folded: {times}{more}")


def repeat_parts(
    units: Units, paths: Sequence[Path], periods: Sequence[Period], opened: int = 0
) -> list[Part]:
    """The parts to fold.

    Args:
        units: the graph.
        paths: the module of each unit.
        periods: what repeats in it.
        opened: the first of stacked layers stays open if their paths have fewer parts than this.
    """
    parts: list[tuple[int, int, Part]] = []
    for period in reversed(periods):  # what is around others first
        stack = stack_of(paths, period) if period.stack else None
        keep = 1 if stack is None or len(stack[0]) + 1 < opened else 0
        # A first step or layer that differs a little comes before, and is seen anyway.
        if is_led_up_to(units, period) if stack is None else _has_sibling(paths, period, stack[0]):
            keep = 0
        start = period.start + keep * period.length
        stop = period.stop - (0 if stack else period.length)
        if any(first <= start < end for first, end, _ in parts):
            continue
        data: Any = {"repeat": (stop - start) // period.length}
        data.update(_name(units, paths, replace(period, start=start, stop=stop)))
        parts.append(
            (
                start,
                stop,
                Part(units.keys[start:stop], data, period.length, True, stack is not None),
            )
        )
    return [part for _, _, part in sorted(parts, key=lambda found: found[0])]


def _has_sibling(paths: Sequence[Path], period: Period, prefix: Path) -> bool:
    """Whether the unit before is in another module of the same list."""
    before = paths[period.start - 1] if period.start else ()
    return bool(prefix) and len(before) > len(prefix) and before[: len(prefix)] == prefix


def _name(units: Units, paths: Sequence[Path], period: Period) -> dict[str, Any]:
    """What to call the group: the modules it consists of, or else its operations."""
    places = range(period.start, period.start + period.length)
    data: dict[str, Any] = {**contents_of([paths[place] for place in places])}
    stack = stack_of(paths, period) if period.stack and period.count > 1 else None
    if stack:
        prefix, first, last = stack
        common: Path = prefix
        data["name"] = ".".join((*prefix, f"{first}…{_NUMBER.sub('', last)}"))
    else:
        common = shared_by([paths[place] for place in places if paths[place]])
        if common:
            data["name"] = ".".join(common)
    if common:
        data["module"] = ".".join(common)
        if any(is_inferred(units.data[place]) for place in places):
            data["inferred"] = True
    if "name" not in data:
        data["op"] = words_of([units.data[place] for place in places])
    return data
