"""What ``gradviz draw --all -o x.svg`` takes: seconds of CPU and memory, by shape and size.

Each picture is made in a process of its own, from a graph that is already recorded. The limits
are those of the layout alone, as asked: 10,000 boxes in 2 s, 100,000 in 15 s and 500 MB.
Run: ``python benchmarks/everything.py [--sizes 10000 100000] [--shapes chain unet ...]``.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from layout import SHAPES, Graph

from gradviz.frontends.drawing import Drawing
from gradviz.graph import EdgeKind, GradGraph, NodeKind
from gradviz.renderers.layout.layered import layered

DEFAULT = ("chain", "transformer", "unet", "scattered", "tangled")
LIMITS = {10_000: (2.0, 500), 100_000: (15.0, 500)}
LEAF_HEIGHT = 44
COLUMNS = ("layout", "layout MB", "picture", "picture MB", "file MB")


def recorded(graph: Graph) -> GradGraph:
    """The graph as if it had been traced: leaves with a name and a shape, operations."""
    boxes, links = graph
    made = GradGraph()
    for box in boxes:
        facts = {"shape": (64, 64), "dtype": "float32"}
        if box.height >= LEAF_HEIGHT:
            made.add_node(box.key, kind=NodeKind.LEAF, name=f"w.{box.key}", grad=None, **facts)
        else:
            made.add_node(box.key, kind=NodeKind.OPERATION, op="mul", **facts)
    inputs: dict[str, int] = {}
    for link in links:
        inputs[link.target] = number = inputs.get(link.target, -1) + 1
        made.add_edge(link.source, link.target, kind=EdgeKind.GRADIENT, input=number)
    return made


def peak() -> float:
    """Most memory of this process so far, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(what: str, shape: str, size: int) -> dict[str, float]:
    """Lay a graph out, or make and write its picture, in this process."""
    graph = next(made for made in SHAPES if made.__name__ == shape)(size)
    if what == "layout":
        began = time.process_time()
        layered(*graph)
        return {"layout": time.process_time() - began, "layout MB": peak()}
    drawing = Drawing(recorded(graph), views=())
    del graph
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        path = drawing.save(Path(folder) / "x.svg")
        seconds = time.process_time() - began
        size_mb = path.stat().st_size / 1e6
    return {"picture": seconds, "picture MB": peak(), "file MB": size_mb}


def in_a_process(what: str, shape: str, size: int) -> dict[str, float]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--measure", what, shape, str(size)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--shapes", nargs="+", default=DEFAULT)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        what, shape, size = options.measure
        print(json.dumps(measure(what, shape, int(size))))
        return
    print(f"{'shape':12} {'boxes':>7}" + "".join(f"{name:>12}" for name in COLUMNS))
    for size in options.sizes:
        for shape in options.shapes:
            found = in_a_process("layout", shape, size) | in_a_process("picture", shape, size)
            seconds, megabytes = LIMITS.get(size, (float("inf"), float("inf")))
            met = found["layout"] < seconds and found["layout MB"] < megabytes
            figures = "".join(f"{found[name]:12.2f}" for name in COLUMNS)
            print(f"{shape:12} {size:7,}{figures}   {'met' if met else 'MISSED'}", flush=True)


if __name__ == "__main__":
    main()
