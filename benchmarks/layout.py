"""Compares the layouts: seconds, crossings, size, for graphs like those that autograd records.

Run ``python benchmarks/layout.py`` (some minutes; ``--quick`` for the small sizes only). Each
engine is forced, also where gradviz itself would not choose it.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from gradviz.renderers.layout.engines import lay_out
from gradviz.renderers.layout.routing import Box, Layout, Link

Graph = tuple[list[Box], list[Link]]
LIMIT = 20.0
COLUMNS = ("crossings", "through", "inverted", "length")


class Builder:
    """Collects boxes and links."""

    def __init__(self) -> None:
        self.boxes: list[Box] = []
        self.links: list[Link] = []

    def leaf(self) -> str:
        """Add a leaf."""
        return self._box(110, 44)

    def op(self, *inputs: str) -> str:
        """Add an operation."""
        key = self._box(64, 30)
        self.links += [Link(source, key) for source in inputs]
        return key

    def _box(self, width: float, height: float) -> str:
        key = f"n{len(self.boxes)}"
        self.boxes.append(Box(key, width, height))
        return key

    def linear(self, x: str) -> str:
        """Add an operation with a weight and a bias of its own."""
        return self.op(x, self.leaf(), self.leaf())


def square(_: int) -> Graph:
    g = Builder()
    x = g.leaf()
    g.op(g.op(x, x))
    return g.boxes, g.links


def chain(size: int) -> Graph:
    g = Builder()
    x = g.leaf()
    for _ in range(size - 1):
        x = g.op(x)
    return g.boxes, g.links


def mlp(size: int) -> Graph:
    g = Builder()
    x = g.leaf()
    while len(g.boxes) < size - 4:
        x = g.op(g.linear(x))
    g.op(g.op(x))
    return g.boxes, g.links


def residual(size: int) -> Graph:
    g = Builder()
    x = g.leaf()
    while len(g.boxes) < size - 8:
        y = g.op(g.linear(x))
        y = g.op(y, g.leaf())
        x = g.op(x, g.linear(y))
    g.op(x)
    return g.boxes, g.links


def transformer(size: int) -> Graph:
    g = Builder()
    x = g.op(g.leaf())
    while len(g.boxes) < size - 30:
        h = g.op(x, g.leaf(), g.leaf())
        q, k, v = (g.op(g.op(g.linear(h))) for _ in range(3))
        a = g.op(g.op(g.op(q, g.op(k))), v)
        x = g.op(x, g.linear(g.op(a)))
        h = g.op(x, g.leaf(), g.leaf())
        x = g.op(x, g.linear(g.op(g.linear(h))))
    g.op(g.op(x))
    return g.boxes, g.links


def lstm(size: int) -> Graph:
    g = Builder()
    h, c = g.leaf(), g.leaf()
    while len(g.boxes) < size - 10:
        gates = g.op(g.linear(h), g.linear(g.leaf()))
        i, f, o = (g.op(gates) for _ in range(3))
        n = g.op(gates)
        c = g.op(g.op(f, c), g.op(i, n))
        h = g.op(o, g.op(c))
    g.op(h)
    return g.boxes, g.links


def unet(size: int) -> Graph:
    g = Builder()
    x = g.op(g.leaf(), g.leaf())
    skips = []
    for _ in range(max(1, size // 9)):
        x = g.op(g.op(x, g.leaf()))
        skips.append(x)
        x = g.op(x)
    for skip in reversed(skips):
        x = g.op(skip, g.op(x))
        x = g.op(g.op(x, g.leaf()))
    g.op(x)
    return g.boxes, g.links


def stacked(size: int) -> Graph:
    """A chain whose every step also goes into one sum."""
    g = Builder()
    x, steps = g.leaf(), []
    while len(g.boxes) < size - 2:
        x = g.op(x, g.leaf())
        steps.append(x)
    g.op(*steps)
    return g.boxes, g.links


def shared(size: int) -> Graph:
    """A chain whose every step uses the same leaf."""
    g = Builder()
    w, x = g.leaf(), g.leaf()
    while len(g.boxes) < size:
        x = g.op(g.op(x, w))
    return g.boxes, g.links


def scattered(size: int) -> Graph:
    """A random graph: each node uses up to three of the thirty before it."""
    g, choose = Builder(), random.Random(size)
    keys = [g.leaf()]
    while len(g.boxes) < size:
        recent = keys[-30:]
        keys.append(g.op(*(choose.choice(recent) for _ in range(choose.randint(0, 3)))))
    return g.boxes, g.links


def tangled(size: int) -> Graph:
    """A random graph with links of any length: each node uses up to three of all before it."""
    g, choose = Builder(), random.Random(size)
    keys = [g.leaf()]
    while len(g.boxes) < size:
        keys.append(g.op(*(choose.choice(keys) for _ in range(choose.randint(1, 3)))))
    return g.boxes, g.links


SHAPES: tuple[Callable[[int], Graph], ...] = (
    chain,
    mlp,
    residual,
    transformer,
    lstm,
    unet,
    stacked,
    shared,
    scattered,
    tangled,
)


def polylines(layout: Layout, steps: int = 6) -> list[np.ndarray[Any, Any]]:
    """Cut each curve into straight pieces."""
    t = np.linspace(0, 1, steps + 1)[:, None]
    basis = np.hstack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3])
    lines = []
    for route in layout.routes:
        points = np.array(route)
        pieces = [basis @ points[at : at + 4] for at in range(0, len(points) - 1, 3)]
        lines.append(np.vstack([pieces[0][:1], *(piece[1:] for piece in pieces)]))
    return lines


def measure(graph: Graph, layout: Layout) -> dict[str, float]:
    """Count what makes a picture hard to read."""
    boxes, links = graph
    lines = polylines(layout)
    length = sum(float(np.hypot(*np.diff(line, axis=0).T).sum()) for line in lines)
    figures = {"length": length, "inverted": float(inverted(links, layout))}
    count = sum(len(line) - 1 for line in lines)
    if count > 40_000:
        return figures
    owner = np.repeat(np.arange(len(lines)), [len(line) - 1 for line in lines])
    begin = np.vstack([line[:-1] for line in lines])
    end = np.vstack([line[1:] for line in lines])
    number = {box.key: index for index, box in enumerate(boxes)}
    source = np.array([number[link.source] for link in links])[owner]
    target = np.array([number[link.target] for link in links])[owner]
    meetings: set[tuple[int, int]] = set()
    through: set[tuple[int, int]] = set()
    low, high = np.minimum(begin, end), np.maximum(begin, end)
    for at in range(count):
        near = (
            np.flatnonzero((low[at + 1 :] <= high[at]).all(1) & (high[at + 1 :] >= low[at]).all(1))
            + at
            + 1
        )
        near = near[(source[near] != source[at]) & (target[near] != target[at])]
        for other in near[crossing(begin[at], end[at], begin[near], end[near])]:
            meetings.add((int(owner[at]), int(owner[other])))
    for index, box in enumerate(boxes):
        half = np.array([box.width / 2 - 1, box.height / 2 - 1])
        center = np.array(layout.centers[box.key])
        middle = (begin + end) / 2
        inside = (abs(middle - center) < half).all(1) & (source != index) & (target != index)
        through |= {(index, int(link)) for link in owner[inside]}
    return {**figures, "crossings": float(len(meetings)), "through": float(len(through))}


def crossing(
    a: np.ndarray[Any, Any],
    b: np.ndarray[Any, Any],
    c: np.ndarray[Any, Any],
    d: np.ndarray[Any, Any],
) -> np.ndarray[Any, Any]:
    """Say which segments c-d the segment a-b crosses."""

    def side(p: Any, q: Any, r: Any) -> Any:
        return (q[..., 0] - p[..., 0]) * (r[..., 1] - p[..., 1]) - (q[..., 1] - p[..., 1]) * (
            r[..., 0] - p[..., 0]
        )

    return np.asarray((side(a, b, c) * side(a, b, d) < 0) & (side(c, d, a) * side(c, d, b) < 0))


def inverted(links: list[Link], layout: Layout) -> int:
    """Count the neighbouring inputs of a box that arrive in the wrong order."""
    last: dict[str, float] = {}
    count = 0
    for link, route in zip(links, layout.routes, strict=True):
        x = route[-1][0]
        count += x < last.get(link.target, -1e9) - 0.01
        last[link.target] = x
    return count


def report(shape: Callable[[int], Graph], size: int, engine: str) -> None:
    """Print one line of the table."""
    graph = shape(size)
    os.environ["GRADVIZ_ENGINE"] = engine
    begin = time.perf_counter()
    layout = lay_out(*graph, limit=LIMIT)
    seconds = time.perf_counter() - begin
    name = f"{shape.__name__:12} {len(graph[0]):7,} {engine:9}"
    if engine != "layered" and layout.engine.startswith("gradviz"):
        print(f"{name} stopped: {layout.engine}", flush=True)
        return
    figures = {key: f"{value:,.0f}" for key, value in measure(graph, layout).items()}
    print(
        f"{name} {seconds:7.2f} s"
        + "".join(f"{figures.get(key, '-'):>14}" for key in COLUMNS)
        + f"{layout.width:14,.0f}{layout.height:14,.0f}",
        flush=True,
    )


def main() -> None:
    sizes = (60, 300) if "--quick" in sys.argv else (60, 300, 1_000, 3_000, 10_000, 100_000)
    print(
        f"{'shape':12} {'boxes':>7} {'engine':9} {'time':>9}"
        + "".join(f"{key:>14}" for key in (*COLUMNS, "width", "height"))
    )
    for shape in SHAPES:
        for size in sizes:
            for engine in ("dot", "layered"):
                if not (engine == "dot" and size > 10_000):
                    report(shape, size, engine)


if __name__ == "__main__":
    main()
