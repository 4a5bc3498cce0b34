"""`lay_out`: chooses the layout engine, places boxes and routes links.

Graphviz's ``dot`` draws the best pictures of small graphs, but is very slow for graphs with many
long links, so its cost is estimated first. If the cost is too high, or no Graphviz works, gradviz's
own layered layout is used: a layout never fails.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from gradviz.errors import LayoutError
from gradviz.renderers.layout.graphviz_process import Output, engine_name, engines, run_engine
from gradviz.renderers.layout.layered import layered, pack
from gradviz.renderers.layout.routing import Box, Layout, Link, Point, Route
from gradviz.renderers.layout.rows import Pair, acyclic, cost, rank

__all__ = ["Box", "Cluster", "Layout", "Link", "Point", "Route", "lay_out"]

# The nodes plus the rows that long links pass through. Up to this limit dot takes a fraction of a
# second for all shapes and has the best results; above it, it draws chains as wide staircases (an
# RNN of 50 steps: 4,470 points wide, and 940 with the layered layout), and soon takes minutes.
_MOST_FOR_DOT = 300

_Places = tuple[dict[str, Point], list[Route]]


class Cluster(NamedTuple):
    """Boxes that Graphviz keeps together, with room for a title above them.

    Args:
        keys: of the boxes; two clusters are nested, or have no box in common.
        width: of the title, in points.
    """

    keys: frozenset[str]
    width: float


def lay_out(
    boxes: Sequence[Box],
    links: Sequence[Link],
    *,
    limit: float = 20.0,
    clusters: Sequence[Cluster] = (),
) -> Layout:
    """Place boxes and route the links between them; the data flows from top to bottom.

    Args:
        boxes: the boxes to place, with their sizes in points.
        links: the links between them, in the order of the inputs of a box.
        limit: time limit for Graphviz in seconds; after it gradviz's own layout is used.
        clusters: boxes to keep together, inner clusters first; gradviz's own layout ignores them.

    Returns:
        The positions, and the name of the engine.

    Raises:
        UsageError: if the environment variable ``GRADVIZ_ENGINE`` is not the name of an engine.

    Example:
        >>> layout = lay_out([Box("x", 60, 30), Box("y", 60, 30)], [Link("x", "y")])
        >>> x, y = layout.centers["x"], layout.centers["y"]
        >>> x[0] == y[0] and x[1] < y[1]
        True
    """
    joined = {key for link in links for key in (link.source, link.target)}
    connected = [box for box in boxes if box.key in joined]
    single = [box for box in boxes if box.key not in joined]
    (centers, routes), engine = _place(connected, links, limit, clusters)
    sizes = [(box.width, box.height) for box in single]
    if connected:
        sizes.insert(0, _extent(connected, centers, routes))
    corners = pack(sizes)[len(sizes) - len(single) :]
    for box, (left, top) in zip(single, corners, strict=True):
        centers[box.key] = (round(left + box.width / 2, 2), round(top + box.height / 2, 2))
    width, height = _extent(boxes, centers, routes)
    return Layout(width, height, {box.key: centers[box.key] for box in boxes}, routes, engine)


def _place(
    boxes: Sequence[Box], links: Sequence[Link], limit: float, clusters: Sequence[Cluster]
) -> tuple[_Places, str]:
    """Place boxes that all have links, with the first engine that works."""
    available = engines()
    if not links:
        return ({}, []), "gradviz layered (no links)"
    forced = len(available) == 1 and bool(os.environ.get("GRADVIZ_ENGINE"))
    reasons = ["asked for" if forced else "no Graphviz"] if available == ["layered"] else []
    number = {box.key: index for index, box in enumerate(boxes)}
    pairs = [(number[link.source], number[link.target]) for link in links]
    straight = acyclic(len(boxes), [pair for pair in pairs if pair[0] != pair[1]])
    estimate = cost(len(boxes), straight)
    if estimate > _MOST_FOR_DOT and not forced:
        available, reasons = ["layered"], ["a large graph"]
    for engine in available:
        if engine == "layered":
            break
        try:
            source = _dot_source(boxes, pairs, _cluster_lines(number, pairs, clusters))
            picture = run_engine(engine, source, Output("json"), limit=limit)
            return _read(picture, boxes, links), engine_name(engine)
        except TimeoutError as error:
            reasons.append(str(error))
            break
        except LayoutError as error:
            reasons.append(str(error))
    reason = f" ({'; '.join(reasons)})" if reasons else ""
    return layered(boxes, links), f"gradviz layered{reason}"


def _cluster_lines(
    number: Mapping[str, int], pairs: Sequence[Pair], clusters: Sequence[Cluster]
) -> list[str]:
    """The clusters in DOT, each as one line; an inner one inside the line of the outer one."""
    written: list[tuple[frozenset[str], str]] = []
    orders: dict[Pair, None] = {}
    for at, (keys, width) in enumerate(clusters):
        inside = [line for each, line in written if each <= keys]
        written = [(each, line) for each, line in written if not each <= keys]
        own = {number[key] for key in keys if key in number}
        size = f'BORDER="0" FIXEDSIZE="TRUE" WIDTH="{math.ceil(width)}" HEIGHT="17"'
        label = f"label=<<TABLE {size}><TR><TD></TD></TR></TABLE>>; labeljust=l; margin=10"
        body = f"{label}; {' '.join(map(str, sorted(own)))} {' '.join(inside)}"
        written.append((keys, f"subgraph cluster{at} {{ {body} }}"))
        orders.update(dict.fromkeys(_below_inputs(own, pairs)))
    return [
        *(line for _, line in written),
        *(f"{source} -> {leaf} [style=invis]" for source, leaf in orders),
    ]


def _below_inputs(own: set[int], pairs: Sequence[Pair]) -> Iterator[Pair]:
    """What keeps the leaves of a cluster below the inputs of its first operations.

    Otherwise they stand beside the cluster before it, and dot draws the two side by side.
    """
    targets = {target for _, target in pairs}
    leaves = own - targets
    later = {target for source, target in pairs if source in own - leaves}
    for source, target in pairs:
        if source not in own and target in own - later:
            yield from ((source, leaf) for leaf in sorted(leaves))


def _dot_source(
    boxes: Sequence[Box], pairs: Sequence[Pair], cluster_lines: Sequence[str] = ()
) -> str:
    """DOT source with serial names, sizes in inches and a number per link."""
    rows = rank(len(boxes), acyclic(len(boxes), [pair for pair in pairs if pair[0] != pair[1]]))
    inner = {target for _, target in pairs}
    lines = [
        f"digraph {{ graph [nodesep=0.3, ranksep=0.4{', newrank=true' if cluster_lines else ''}]",
        'node [shape=box, fixedsize=true, label=""]',
        "edge [arrowhead=none]",
    ]
    lines += [
        f"{index} [width={box.width / 72:.4f}, height={box.height / 72:.4f}]"
        for index, box in enumerate(boxes)
    ]
    for index, (source, target) in enumerate(pairs):
        # Chains of operations run straight down, with their leaves beside them.
        chain = source in inner and rows[target] - rows[source] == 1
        lines.append(f"{source} -> {target} [id={index}{', weight=4' if chain else ''}]")
    return "\n".join([*lines, *cluster_lines, "}\n"])


def _read(picture: bytes, boxes: Sequence[Box], links: Sequence[Link]) -> _Places:
    """Read the positions from the drawing operations, which are more precise than ``pos``."""
    try:
        drawing: dict[str, Any] = json.loads(picture)
        placed = (item for item in drawing["objects"] if item["name"].isdigit())  # no cluster
        corners = {int(item["name"]): _points(item, "pP") for item in placed}
        seen = (item for item in drawing["edges"] if "id" in item)
        curves = {int(item["id"]): _points(item, "b") for item in seen}
        top = max(y for points in corners.values() for _, y in points)
        centers = {}
        for index, box in enumerate(boxes):
            xs, ys = zip(*corners[index], strict=True)
            centers[box.key] = (round(sum(xs) / 4, 2), round(top - sum(ys) / 4, 2))
        routes = [
            tuple((x, round(top - y, 2)) for x, y in curves[index]) for index in range(len(links))
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise LayoutError(f"Graphviz gave a layout that cannot be read: {error!r}") from error
    return centers, routes


def _points(item: dict[str, Any], kinds: str) -> list[Point]:
    return [(x, y) for op in item["_draw_"] if op["op"] in kinds for x, y in op["points"]]


def _extent(boxes: Sequence[Box], centers: dict[str, Point], routes: Sequence[Route]) -> Point:
    """The size of the sheet."""
    xs = [0.0, *(centers[box.key][0] + box.width / 2 for box in boxes if box.key in centers)]
    ys = [0.0, *(centers[box.key][1] + box.height / 2 for box in boxes if box.key in centers)]
    for route in routes:
        xs += [x for x, _ in route]
        ys += [y for _, y in route]
    return round(max(xs), 2), round(max(ys), 2)
