"""`lay_out`: chooses the layout engine, places boxes and routes links.

Graphviz runs in a child process, so that it can hang or crash without affecting gradviz.

The system's executables are tried first, then the Graphviz that is bundled with pygraphviz. The
environment variable ``GRADVIZ_ENGINE`` (``dot``, ``pygraphviz`` or ``layered``) forces one.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import importlib.util
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from gradviz.errors import LayoutError, UsageError
from gradviz.renderers.layout.layered import layered, pack
from gradviz.renderers.layout.routing import Box, Layout, Link, Point, Route
from gradviz.renderers.layout.rows import Pair, acyclic, cost, rank

ENGINES = ("dot", "pygraphviz", "layered")
_CHILD = Path(__file__).with_name("_pygraphviz_child.py")
# The first bytes of a picture in each format: a program with other output is broken.
_SIGNATURES = {"png": b"\x89PNG", "pdf": b"%PDF", "eps:cairo": b"%!PS", "json": b"{", "json0": b"{"}


@dataclass(frozen=True)
class Output:
    """The picture to create.

    Args:
        format: of the picture: ``"png"``, ``"pdf"``, ``"json"``, ...
        program: ``"dot"`` to place the nodes; ``"neato"`` with ``-n2``, or ``"nop2"`` for short, if
            they have positions.
        arguments: ``-n2`` and ``-Gname=value``, ``-Nname=value``, ``-Ename=value``.
    """

    format: str
    program: str = "dot"
    arguments: tuple[str, ...] = ()


def engines() -> list[str]:
    """The layout engines that are available, the best first.

    Returns:
        Some of ``"dot"``, ``"pygraphviz"`` and ``"layered"`` (gradviz's own, always available); or
        only the one that ``GRADVIZ_ENGINE`` forces.

    Raises:
        UsageError: if ``GRADVIZ_ENGINE`` is none of them.

    Example:
        >>> "layered" in engines() or len(engines()) == 1
        True
    """
    forced = os.environ.get("GRADVIZ_ENGINE", "")
    if forced and forced not in ENGINES:
        raise UsageError(
            f"GRADVIZ_ENGINE is {forced!r}, not one of {', '.join(ENGINES)}; "
            "unset it to let gradviz choose"
        )
    if forced:
        return [forced]
    there = {
        "dot": shutil.which("dot") is not None,
        "pygraphviz": bool(sys.executable) and _pygraphviz_folder() is not None,
        "layered": True,
    }
    return [engine for engine in ENGINES if there[engine]]


def run_graphviz(
    source: str, *, program: str = "dot", arguments: Sequence[str] = (), format: str, limit: float
) -> bytes:
    """Draw DOT with the first Graphviz that works.

    Args:
        source: the graph in the DOT language.
        program: ``"dot"`` to place the nodes; ``"neato"`` with ``-n2``, or ``"nop2"`` for short, if
            they have positions.
        arguments: ``-n2`` and ``-Gname=value``, ``-Nname=value``, ``-Ename=value``.
        format: of the picture: ``"png"``, ``"pdf"``, ``"json"``, ...
        limit: time limit for each Graphviz, in seconds; after a timeout no other one is tried.

    Returns:
        The picture.

    Raises:
        LayoutError: if no Graphviz is available, or none finished in time.

    Example:
        >>> run_graphviz("digraph { a -> b }", format="png", limit=60)[1:4]
        b'PNG'
    """
    output = Output(format, program, tuple(arguments))
    failures = []
    for engine in engines():
        if engine == "layered":
            continue
        try:
            return run_engine(engine, source, output, limit=limit)
        except TimeoutError as error:
            raise LayoutError(
                f"{error} for the {format}; draw less of the graph, or save it as svg"
            ) from error
        except LayoutError as error:
            failures.append(error)
    if os.environ.get("GRADVIZ_ENGINE") == "layered":
        raise LayoutError(f"{format} needs Graphviz, and GRADVIZ_ENGINE=layered rules it out")
    if not failures:
        raise LayoutError(
            f"{format} needs Graphviz, and there is none: no 'dot' on PATH and no "
            "pygraphviz wheel; pip install pygraphviz, or save as svg"
        )
    cause = "; ".join(str(failure) for failure in failures)
    raise LayoutError(
        f"{cause}; install Graphviz, as by apt-get install graphviz, or save as svg"
    ) from failures[-1]


def run_engine(engine: str, source: str, output: Output, *, limit: float) -> bytes:
    """Draw DOT with one Graphviz, ``"dot"`` or ``"pygraphviz"``.

    Raises:
        TimeoutError: if it ran longer than ``limit`` seconds; it was ended.
        LayoutError: if it is missing, crashed, failed, or its output has another format.
    """
    name = output.program if engine == "dot" else "the Graphviz of pygraphviz"
    command = _command(engine, output, limit)
    try:
        code, picture, noise = _run(command, source.encode(), limit)
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"{name} took longer than {limit:g} s") from error
    except OSError as error:
        raise LayoutError(f"{name} cannot be started: {error}") from error
    said = _first_line(noise)
    if code < 0 or code > 255:  # Windows reports a crash as a large exit code.
        raise LayoutError(f"{name} crashed ({_death(code)}){said}")
    if code:
        raise LayoutError(f"{name} failed (exit code {code}){said}")
    if not picture:
        raise LayoutError(f"{name} gave nothing{said}")
    if not picture.lstrip().startswith(_SIGNATURES.get(output.format, b"")):
        raise LayoutError(f"{name} gave something that is no {output.format}{said}")
    return picture


@functools.cache
def engine_name(engine: str) -> str:
    """The name and version of an engine: ``"dot 2.43.0"``, ``"Graphviz of pygraphviz 2.0.4"``."""
    if engine == "pygraphviz":
        return f"Graphviz of pygraphviz {importlib.metadata.version('pygraphviz')}"
    with contextlib.suppress(subprocess.SubprocessError, OSError):
        _, _, said = _run([shutil.which("dot") or "dot", "-V"], b"", 5.0)
        if found := re.search(r"version (\d+(?:\.\d+)*)", said.decode(errors="replace")):
            return f"dot {found[1]}"
    return engine


def _pygraphviz_folder() -> str | None:
    """The folder in which pygraphviz is installed, found without importing it."""
    with contextlib.suppress(ImportError, ValueError):
        spec = importlib.util.find_spec("pygraphviz")
        if spec is not None and spec.origin is not None:
            return str(Path(spec.origin).parent.parent)
    return None


def _command(engine: str, output: Output, limit: float) -> list[str]:
    if engine == "dot":
        # The library knows nop2 by that name; as a program it is neato with an option.
        pinned = output.program == "nop2"
        program = "neato" if pinned else output.program
        path = shutil.which(program)
        if path is None:
            raise LayoutError(f"there is no {program!r} on PATH")
        return [path, *["-n2"] * pinned, *output.arguments, f"-T{output.format}"]
    folder = _pygraphviz_folder()
    if folder is None or not sys.executable:
        raise LayoutError("pygraphviz is not installed")
    child = [sys.executable, str(_CHILD), folder, f"{limit}"]
    return [*child, output.program, output.format, *output.arguments]


def _run(command: list[str], stdin: bytes, limit: float) -> tuple[int, bytes, bytes]:
    """Run a program; it has ended when this function returns or raises."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Its own session, so that processes that the program started end with it.
        start_new_session=True,
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )
    try:
        stdout, stderr = process.communicate(stdin, timeout=limit)
    except BaseException:  # also KeyboardInterrupt
        _kill(process)
        raise
    return process.returncode, stdout, stderr


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _death(code: int) -> str:
    if code > 255:
        return f"exit code {code:#x}"
    with contextlib.suppress(ValueError):
        return f"signal {-code}, {signal.Signals(-code).name}"
    return f"signal {-code}"


def _first_line(noise: bytes) -> str:
    """The most informative line of stderr, which is not fontconfig's or part of a traceback."""
    lines = [line.strip() for line in noise.decode(errors="replace").splitlines()]
    telling = [line for line in lines if line and not line.startswith("Fontconfig")]
    if not telling:
        return ""
    line = telling[-1] if telling[0].startswith("Traceback") else telling[0]
    return f": {line[:200]}"


# The nodes plus the rows that long links pass through. Up to this limit dot takes a fraction of a
# second for all shapes and has the best results; above it, it draws chains as wide staircases (an
# RNN of 50 steps: 4,470 points wide, and 940 with the layered layout), and soon takes minutes.
_MOST_FOR_DOT = 300

_Places = tuple[dict[str, Point], list[Route]]


class Cluster(NamedTuple):
    """Boxes that Graphviz keeps together, with room for a title above them."""

    keys: frozenset[str]  # of the boxes; two clusters are nested, or have no box in common
    width: float  # of the title, in points


def lay_out(
    boxes: Sequence[Box],
    links: Sequence[Link],
    *,
    limit: float = 20.0,
    clusters: Sequence[Cluster] = (),
    gap: float = 21.6,
) -> Layout:
    """Place boxes and route the links between them; the data flows from top to bottom.

    Args:
        boxes: the boxes to place, with their sizes in points.
        links: the links between them, in the order of the inputs of a box.
        limit: time limit for Graphviz in seconds; after it gradviz's own layout is used.
        clusters: boxes to keep together, inner clusters first; gradviz's own layout ignores them.
        gap: between boxes side by side, in points; gradviz's own layout ignores it.

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
    (centers, routes), engine = _place(connected, links, limit, clusters, gap)
    sizes = [(box.width, box.height) for box in single]
    if connected:
        sizes.insert(0, _extent(connected, centers, routes))
    corners = pack(sizes)[len(sizes) - len(single) :]
    for box, (left, top) in zip(single, corners, strict=True):
        centers[box.key] = (round(left + box.width / 2, 2), round(top + box.height / 2, 2))
    width, height = _extent(boxes, centers, routes)
    return Layout(width, height, {box.key: centers[box.key] for box in boxes}, routes, engine)


def _place(
    boxes: Sequence[Box],
    links: Sequence[Link],
    limit: float,
    clusters: Sequence[Cluster],
    gap: float,
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
            source = _dot_source(boxes, pairs, _cluster_lines(number, pairs, clusters), gap)
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
    boxes: Sequence[Box], pairs: Sequence[Pair], cluster_lines: Sequence[str], gap: float
) -> str:
    """DOT source with serial names, sizes in inches and a number per link."""
    rows = rank(len(boxes), acyclic(len(boxes), [pair for pair in pairs if pair[0] != pair[1]]))
    inner = {target for _, target in pairs}
    more = ", newrank=true" if cluster_lines else ""
    lines = [
        f"digraph {{ graph [nodesep={gap / 72:g}, ranksep=0.4{more}]",
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
