"""Save a story as JSON and read it back. The output is deterministic; drawing needs no torch.

The layout is networkx' node-link form with one line per node and edge, so that a text diff of
two files is readable. A story of several frames is a list of such graphs, followed by the events
of a recording, the verdicts on it, and the ranks of a gathered story, one line each.
``"gradviz"`` holds the version of the schema. Version 1 has no events, and the problem of a node is
text; it can still be read. Other versions are refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache, lru_cache
from pathlib import Path
from sys import intern
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from gradviz.errors import DamagedFileError
from gradviz.facts import Details, FrameKind, Problem, RankRecord, SavedVerdict
from gradviz.graph import (
    Buffers,
    Cause,
    EdgeKind,
    GradGraph,
    Mark,
    NodeKind,
    SavedTensor,
    TensorSummary,
    has_cycle,
)
from gradviz.graph.columns import collector_paused
from gradviz.story import Event, Frame, Story

SCHEMA_VERSION = 2
_READABLE = (1, 2)
_DETAILS = {kind.__name__: kind for kind in get_args(Details)}
_TYPE = "type"  # Of the details of an event: the name of their class.
_SECTIONS: dict[str, Any] = {
    '], "events": [\n': Event,
    '], "verdicts": [\n': SavedVerdict,
    '], "ranks": [\n': RankRecord,
}

_LINE = "line"  # Of a cut edge: the line that cut it.

_DAMAGES = (KeyError, TypeError, ValueError, AttributeError, OverflowError)

_NOT_IN_JSON = {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}


def to_json(story: Story) -> str:
    """Convert a story to JSON text.

    Example:
        >>> graph = GradGraph()
        >>> graph.add_node("n0", kind=NodeKind.LEAF, name="x", shape=(3,))
        >>> print(to_json(Story((Frame("", graph),))))
        {"gradviz": 2, "title": "", "frames": [
        {"title": "", "directed": true, "multigraph": true, "graph": {}, "nodes": [
        {"id": "n0", "kind": "leaf", "name": "x", "shape": [3]}
        ], "edges": [
        ]}
        ]}
        <BLANKLINE>
        >>> loads(to_json(Story((Frame("", graph),))))[0].graph
        GradGraph(1 leaf, 0 edges)
    """
    return "".join(iter_json(story))


def iter_json(story: Story) -> Iterator[str]:
    """The text of `to_json` in pieces, so that a graph of a million nodes streams to a file."""
    head = f'"gradviz": {SCHEMA_VERSION}, "title": {_dump(story.title)}'
    notes = f', "notes": {_dump(story.notes)}' if story.notes else ""
    yield f'{{{head}{notes}, "frames": [\n'
    for number, frame in enumerate(story):
        yield from _iter_frame(frame)
        yield ",\n" if number < len(story) - 1 else "\n"
    parts: tuple[Any, ...] = (story.events or None, story.verdicts, story.ranks or None)
    for name, rows in zip(_SECTIONS, parts, strict=True):
        if rows is not None:
            yield name
            yield from _iter_lines(map(_row, rows), len(rows))
    yield "]}\n"


def _iter_frame(frame: Frame) -> Iterator[str]:
    graph, facts = frame.graph, _row(frame)
    del facts["graph"]
    facts.update(directed=True, multigraph=True, graph=graph.graph)
    yield f'{_dump(facts)[:-1]}, "nodes": [\n'
    nodes = ({"id": key, **data} for key, data in graph.nodes(data=True))
    yield from _iter_lines(nodes, graph.number_of_nodes())
    yield '], "edges": [\n'
    edges = (
        {"source": source, "target": target, "key": key, **_edge(data)}
        for source, target, key, data in graph.edge_rows()
    )
    yield from _iter_lines(edges, graph.number_of_edges())
    yield "]}"


def _edge(data: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of an edge; ``source`` is renamed, since node-link form uses that key."""
    return {_LINE if name == "source" else name: value for name, value in data.items()}


def _iter_lines(rows: Iterator[dict[str, Any]], count: int) -> Iterator[str]:
    for number, row in enumerate(rows, 1):
        yield _dump(row) + (",\n" if number < count else "\n")


def _dump(value: object) -> str:
    try:
        return _encode(value)
    except (TypeError, ValueError):  # a number that is not finite, or keys that are no text
        return json.dumps(plain(value), ensure_ascii=False, allow_nan=False)


def _of_other_type(value: Any) -> Any:
    """`plain` of what the encoder does not know."""
    if isinstance(value, Enum):
        return value._value_
    found = plain(value)
    return str(value) if found is value else found


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_of_other_type).encode


def plain(value: Any) -> Any:
    """Convert ``value`` to JSON's types; a value of another type becomes text."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float):
        return _NOT_IN_JSON.get(repr(value), value)
    if isinstance(value, complex):
        return str(value)
    if is_dataclass(value):
        row = {name: plain(item) for name, item in _row(value).items()}
        return {_TYPE: type(value).__name__, **row} if type(value).__name__ in _DETAILS else row
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def _row(record: Any) -> dict[str, Any]:
    """The fields of a record that differ from their defaults."""
    pairs = ((f.name, getattr(record, f.name), f.default) for f in fields(record))
    return {name: value for name, value, default in pairs if default is MISSING or value != default}


def load(path: str | Path) -> Story:
    """Read a story or graph from a JSON file.

    Args:
        path: the file.

    Returns:
        The story; a saved graph is a story of one frame.

    Raises:
        DamagedFileError: if the file was not written by gradviz, is truncated, or has another
            schema version.
        OSError: if the file cannot be read.
    """
    with collector_paused():
        with Path(path).open("rb") as file:
            story = _by_lines(file)
        return loads(Path(path).read_bytes(), source=str(path)) if story is None else story


def _by_lines(file: Iterator[bytes]) -> Story | None:
    """Read a file written by `iter_json` line by line, without holding all its text in memory.

    Returns:
        The story; None for a file of another layout, and for a damaged file.
    """
    try:
        head = json.loads(next(file) + b"]}")
        if head["gradviz"] not in _READABLE or head["frames"]:
            return None
        frames = []
        line = next(file)
        sections = {name.encode(): kind for name, kind in _SECTIONS.items()}
        while line != b"]}\n" and line not in sections:
            document = json.loads(line + b"]}")
            if document["nodes"]:
                return None
            graph = _new_graph(document)
            for row in _Rows(file, b'], "edges": [\n'):
                _add_node(graph, row)
            for row in _Rows(file, b"]}\n", b"]},\n"):
                _add_edge(graph, row)
            frames.append(_with_words(document, graph))
            line = next(file)
        found: dict[Any, list[Any]] = {}
        while line != b"]}\n":
            rows, kind = _Rows(file, b"]}\n", *sections), sections[line]
            found[kind] = [record_of(kind, row) for row in rows]
            line = rows.end
        if next(file, b""):
            return None
        notes = _words(head.get("notes", []))
        verdicts, ranks = found.get(SavedVerdict), found.get(RankRecord, ())
        return Story(frames, str(head["title"]), notes, found.get(Event, ()), verdicts, ranks)
    except (*_DAMAGES, RecursionError, StopIteration):
        return None  # The caller then reads the whole file with code that names the damage.


class _Rows:
    """The rows up to the line in ``ends``, which is ``end`` then."""

    def __init__(self, file: Iterator[bytes], *ends: bytes) -> None:
        self._file, self._ends = file, ends
        self.end = b""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for line in self._file:
            if line in self._ends:
                self.end = line
                return
            yield json.loads(line.rstrip(b",\n"))
        raise ValueError("the file is cut short")


def loads(data: str | bytes, source: str = "the text") -> Story:
    """Read a story from JSON text; ``source`` is its name in error messages."""
    source = source.replace("\n", "\\n")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"{source} is not JSON ({error}); save the graph again") from error
    version = document.get("gradviz") if isinstance(document, dict) else None
    if version is None:
        raise DamagedFileError(
            f'{source} is JSON, but not a graph that gradviz saved (there is no "gradviz" version '
            "in it); save one with gradviz.draw(loss).save('graph.json')"
        )
    if version not in _READABLE:
        raise DamagedFileError(
            f"{source} has schema version {version!r}; this gradviz reads versions 1 to "
            f"{SCHEMA_VERSION}: use the gradviz that saved it, or save the graph again"
        )
    try:
        frames = tuple(_frame(frame) for frame in document["frames"])
        events = tuple(record_of(Event, row) for row in document.get("events", []))
        rows = document.get("verdicts")
        verdicts = None if rows is None else [record_of(SavedVerdict, row) for row in rows]
        ranks = [record_of(RankRecord, row) for row in document.get("ranks", [])]
        notes = _words(document.get("notes", []))
        return Story(frames, str(document["title"]), notes, events, verdicts, ranks)
    except _DAMAGES as error:
        what = _briefly(f"no {error} in it" if isinstance(error, KeyError) else str(error))
        raise DamagedFileError(f"{source} is damaged ({what}); save the graph again") from error


def _briefly(text: str) -> str:
    """One line of at most 120 characters."""
    line = " ".join(text.split())
    return line if len(line) <= 120 else f"{line[:60]} ... {line[-50:]}"


def _frame(document: dict[str, Any]) -> Frame:
    graph = _new_graph(document)
    for row in document["nodes"]:
        _add_node(graph, row)
    for row in document["edges"]:
        _add_edge(graph, row)
    return _with_words(document, graph)


def _with_words(document: dict[str, Any], graph: GradGraph) -> Frame:
    if has_cycle(graph):
        raise ValueError("a cycle among its edges")
    return Frame(
        str(document["title"]),
        graph,
        str(document.get("caption", "")),
        FrameKind(document.get("kind", FrameKind.SNAPSHOT)),
        int(document.get("pass_number", 0)),
        int(document.get("follows", -1)),
    )


def record_of(kind: Any, row: dict[str, Any]) -> Any:
    """Create a record of facts from its row in the file.

    Example:
        >>> record_of(RankRecord, {"rank": 1, "state": "no graph"}).state.value
        'no graph'
    """
    hints = _hints(kind)
    return kind(**{name: _value(hints[name], value) for name, value in row.items()})


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _value(hint: Any, value: Any) -> Any:
    """Convert ``value`` to the type of a field; a ValueError if it has another type."""
    choices = [each for each in get_args(hint) if each is not NoneType]
    if value is None and NoneType in get_args(hint):
        return None
    if get_origin(hint) is tuple:
        return tuple(_value(choices[0], item) for item in value)
    if choices and choices[0] is get_args(Details)[0]:
        return record_of(_DETAILS[value.pop(_TYPE)], value)
    if choices:
        return _value(choices[0], value)
    if hint is TensorSummary:
        return _summary(value)
    if is_dataclass(hint):
        return record_of(hint, value)
    if not isinstance(value, str if issubclass(hint, Enum) else hint):
        raise ValueError(f"{json.dumps(value)[:40]} where {hint.__name__} belongs")
    return hint(value)


def _new_graph(document: dict[str, Any]) -> GradGraph:
    graph = GradGraph()
    graph.graph.update(document["graph"])
    if "notes" in graph.graph:
        graph.graph["notes"] = tuple(graph.graph["notes"])
    return graph


def _add_node(graph: GradGraph, row: dict[str, Any]) -> None:
    key = _text(row.pop("id"))
    # Each row has its own copies of names and words; intern those that repeat.
    if isinstance(row.get("problem"), str):  # schema version 1
        row["verdict"] = row.pop("problem")
    data = {intern(name): _NODE[name](value) for name, value in row.items()}
    if "kind" not in data:
        raise ValueError(f"node {key!r} has no kind")
    if key in graph:
        raise ValueError(f"two nodes have the key {key!r}")
    graph.add_node(key, **data)


def _add_edge(graph: GradGraph, row: dict[str, Any]) -> None:
    ends = row.pop("source"), row.pop("target")
    for end in ends:
        if end not in graph:
            raise ValueError(f"an edge leads to {end!r}, which is no node")
    data = {intern(name): _EDGE[name](value) for name, value in row.items() if name != "key"}
    if "kind" not in data:
        raise ValueError(f"the edge from {ends[0]!r} to {ends[1]!r} has no kind")
    if _LINE in data:
        data["source"] = data.pop(_LINE)
    graph.add_edge(*(intern(end) for end in ends), row["key"], **data)


def _count(value: Any) -> int:
    """A count of at most 64 bits; no recorded graph has a larger one."""
    number = int(value)
    if abs(number) >= 2**64:
        raise ValueError(f"a count of {len(str(number)):,} digits")
    return number


def _number(value: Any) -> Any:
    """A number; `plain` writes infinities and NaN as text."""
    if not isinstance(value, str):
        if not isinstance(value, (int, float)):
            raise ValueError(f"{json.dumps(value)[:40]} where a number belongs")
        return value
    return float(value) if value in _NOT_IN_JSON.values() else complex(value)


def _range(value: Any) -> tuple[float, float]:
    low, high = value
    return float(low), float(high)


def _summary(value: dict[str, Any] | None) -> TensorSummary | None:
    if value is None:
        return None
    flags = ("is_sparse", "is_part")
    no_numbers = ("shape", "values", "bins", *flags, *_SUMMARY_TEXT)
    read: dict[str, Any] = {
        name: item if item is None else _number(item)
        for name, item in value.items()
        if name not in no_numbers
    }
    read.update({name: str(value.get(name, "")) for name in _SUMMARY_TEXT})
    read.update({name: bool(value.get(name)) for name in flags}, shape=_shape(value["shape"]))
    if value.get("values") is not None:
        read["values"] = tuple(_number(item) for item in value["values"])
    if value.get("bins") is not None:
        read["bins"] = tuple(_count(item) for item in value["bins"])
    return TensorSummary(**read)


def _shape(value: list[int]) -> tuple[int, ...]:
    return _once(tuple(_count(size) for size in value))


@lru_cache(maxsize=4096)
def _once(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The same tuple object for equal shapes, to save memory."""
    return shape


def _saved(value: list[list[Any]]) -> tuple[SavedTensor, ...]:
    return tuple(
        SavedTensor(_text(argument), int(at), _shape(shape), _text(dtype), int(storage), int(size))
        for argument, at, shape, dtype, storage, size in value
    )


def _text(value: object) -> str:
    return intern(str(value))


def _pairs(value: dict[str, str]) -> dict[str, str]:
    return {str(name): str(text) for name, text in value.items()}


def _words(value: list[str]) -> tuple[str, ...]:
    return tuple(str(word) for word in value)


_SUMMARY_TEXT = ("dtype", "device", "note")
_TEXT = (
    *("op", "grad_fn", "called", "opaque", "name", "dtype", "device", "module", "source"),
    *("inside", "clone_of", "structure", "first", "verdict", "color", "module_class", "part_of"),
)
_COUNTS = (
    *("outputs", "untracked_inputs", "root", "accumulations", "version", "hooks", "saved_bytes"),
    *("saved_total", "storage", "sequence_nr", "members", "reshapes", "repeat", "first_step"),
    *("in_modules", "parameters", "leaf_elements", "frozen", "unreached"),
)
_FLAGS = (
    *("requires_grad", "is_leaf", "inference", "retains_grad", "inferred", "asked"),
    *("stale", "in_array", "whole"),
    "unreduced",
    "highlight",
)

_NODE: dict[str, Callable[[Any], Any]] = {
    "kind": NodeKind,
    "options": _pairs,
    "changes": _pairs,
    "aliases": _words,
    "contents": _words,
    "leaves": _words,
    "uses_inside": _words,
    "runs_with": _words,
    **dict.fromkeys(("shape", "input_shape"), _shape),
    "shapes": lambda shapes: tuple(map(_shape, shapes)),
    "calls": _shape,
    "value": _summary,
    "used_value": _summary,
    "grad_range": _range,
    "grad": _summary,
    "saved": _saved,
    "buffers": Buffers,
    "level": float,
    "mark": Mark,
    "problem": lambda row: record_of(Problem, row),
    **dict.fromkeys(_TEXT, _text),
    **dict.fromkeys(_COUNTS, _count),
    **dict.fromkeys(_FLAGS, bool),
}

_EDGE: dict[str, Callable[[Any], Any]] = {
    "kind": EdgeKind,
    "cause": Cause,
    "input": int,
    "output": int,
    "through": _words,
    "reshaped": lambda rows: tuple((_text(module), _shape(shape)) for module, shape in rows),
    _LINE: _text,
    "inside": _text,
    "is_own": bool,
    "word": _text,
    "grad": _summary,
    "times": int,
    "norm": float,
    "level": float,
    "mark": Mark,
    "highlight": bool,
}
