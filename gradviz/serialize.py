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
from functools import cache, lru_cache, partial
from pathlib import Path
from sys import intern
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from gradviz.errors import DamagedFileError
from gradviz.facts import Details, FrameKind, Problem, RankRecord, SavedVerdict
from gradviz.graph import (
    EdgeData,
    GradGraph,
    NodeData,
    SavedTensor,
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
        >>> from gradviz.graph import NodeKind
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
    readers = _readers(kind)
    return kind(**{name: readers[name](value) for name, value in row.items()})


@cache
def _readers(kind: Any) -> dict[str, Callable[[Any], Any]]:
    """What reads the fields of a record, or the attributes of a node or an edge, by name."""
    return {name: _reader(hint) for name, hint in get_type_hints(kind).items()}


def _reader(hint: Any) -> Callable[[Any], Any]:
    """What converts a value in the file to a type; it raises an error for another value."""
    if hint in _READERS:
        return _READERS[hint]
    choices = [each for each in get_args(hint) if each is not NoneType]
    if not choices:
        return partial(record_of, hint) if is_dataclass(hint) else hint  # or an enum
    read = _details if choices[0] in _DETAILS.values() else _reader(choices[0])
    if get_origin(hint) is tuple:
        return lambda rows: tuple(map(read, rows))
    is_optional = NoneType in get_args(hint)
    return (lambda value: None if value is None else read(value)) if is_optional else read


def _details(row: dict[str, Any]) -> Any:
    return record_of(_DETAILS[row.pop(_TYPE)], row)


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
    readers = _readers(NodeData)
    data = {intern(name): readers[name](value) for name, value in row.items()}
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
    key, readers = row.pop("key"), _readers(EdgeData)
    if _LINE in row:
        row["source"] = row.pop(_LINE)
    data = {intern(name): readers[name](value) for name, value in row.items()}
    if "kind" not in data:
        raise ValueError(f"the edge from {ends[0]!r} to {ends[1]!r} has no kind")
    graph.add_edge(*(intern(end) for end in ends), key, **data)


def _count(value: Any) -> int:
    """A count of at most 64 bits; no recorded graph has a larger one."""
    if not isinstance(value, (int, float)):
        raise ValueError(f"{json.dumps(value)[:40]} where int belongs")
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


def _shape(value: list[int]) -> tuple[int, ...]:
    return _once(tuple(_count(size) for size in value))


@lru_cache(maxsize=4096)
def _once(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The same tuple object for equal shapes, to save memory."""
    return shape


def _saved(row: list[Any]) -> SavedTensor:
    argument, at, shape, dtype, storage, size = row
    return SavedTensor(
        _text(argument), int(at), _shape(shape), _text(dtype), int(storage), int(size)
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{json.dumps(value)[:40]} where str belongs")
    return intern(value)


def _words(value: list[str]) -> tuple[str, ...]:
    return tuple(str(word) for word in value)


_READERS: dict[Any, Callable[[Any], Any]] = {
    str: _text,
    int: _count,
    float: _number,
    bool: bool,
    tuple[int, ...]: _shape,
    tuple[str, tuple[int, ...]]: lambda row: (_text(row[0]), _shape(row[1])),
    dict[str, str]: lambda row: {str(name): str(text) for name, text in row.items()},
    SavedTensor: _saved,
    Any: partial(record_of, Problem),  # of a node
}
