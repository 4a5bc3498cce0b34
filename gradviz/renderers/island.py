"""The data of the viewer: frames, groups, cards, events and answers, as one JSON value.

Repeated values are stored once: equal nodes, equal cards, and columns of frames that did not
change. All text is made here, with the functions that pictures use; the viewer only places it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gradviz.graph import Cause, EdgeKind, GradGraph, NodeKind
from gradviz.renderers.cards import card_of, text_width
from gradviz.renderers.edges import QUIET
from gradviz.renderers.labels import Label, Line, Role, TextSpan, clean, labels_of
from gradviz.renderers.legend import MEANINGS, ROLE_ROWS
from gradviz.renderers.moments import runs_of_frames
from gradviz.renderers.theme import FILLS, LOOKS, OWN, PALETTE, TEXT, Look, color
from gradviz.serialize import plain
from gradviz.story import Event, Frame, Story
from gradviz.views.details import hide_bookkeeping
from gradviz.views.tree import LEFT_OUT, FoldTree, fold_tree

__all__ = ["Answer", "island", "island_json"]

_ROLES = tuple(Role)
_CHOSEN = ("color", "highlight")
_HIDDEN_INPUT = {"addmm": 2, "mm": 1}


@dataclass(frozen=True)
class Answer:
    """An answer of `explain` in the form that the viewer lists.

    Args:
        name: of the tensor, or the kind of error.
        verdict: the code of the answer.
        state: the state of the tensor: ``"no gradient"``, ``"fine"``.
        reason: a sentence.
        fix: what to do; "" for nothing.
        nodes: keys of the nodes that show it.
        culprit: key of the node to mark; "" for none.
        lines: of the program, ``"train.py:31"``.
        is_fine: whether nothing is wrong.
    """

    name: str
    verdict: str
    state: str
    reason: str
    fix: str = ""
    nodes: tuple[str, ...] = ()
    culprit: str = ""
    lines: tuple[str, ...] = ()
    is_fine: bool = False


@dataclass
class _Once:
    """Values that are stored once, each with a number."""

    values: list[Any] = field(default_factory=list)
    _numbers: dict[Any, int] = field(default_factory=dict)

    def number(self, value: Any, key: Any = None) -> int:
        """The number of a value; ``key`` identifies it, by default its JSON."""
        key = json.dumps(value, ensure_ascii=False) if key is None else key
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self.values)
            self.values.append(value)
        return number


def island_json(data: Mapping[str, Any]) -> str:
    r"""Convert the data to JSON that is safe in a ``<script>`` element: no text ends the element.

    Example:
        >>> island_json({"name": "</script><!--"})
        '{"name":"\\u003c/script>\\u003c!--"}'
    """
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def island(
    frames: Story,
    shown: Story,
    *,
    theme: str = "auto",
    target: str = "",
    answers: Sequence[Answer] = (),
    files: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Everything that the viewer needs, as plain values.

    Args:
        frames: as they were recorded, with what changed marked.
        shown: the same frames through views, under `keep_inside`.
        theme: of the page: ``"auto"``, ``"light"`` or ``"dark"``.
        target: the command line's name of the subject: ``"train.py:loss"``; "" if unknown.
        answers: of `explain`.
        files: lines of the program, by file name in nodes and events.

    Example:
        >>> story = Story((Frame("", GradGraph()),))
        >>> island(story, story)["frames"][0]["title"]
        ''
    """
    writer = _IslandWriter()
    runs = runs_of_frames([frame.graph for frame in shown])
    written = [
        writer.frame(frame, drawn, run)
        for frame, drawn, run in zip(frames, shown, runs, strict=True)
    ]
    scale = shown[0].graph.graph.get("scale") if len(shown) else None
    return {
        "gradviz": 2,
        "title": clean(shown.title),
        "notes": [clean(note) for note in shown.notes],
        "theme": theme,
        "target": target,
        "color": scale["by"] if scale else "",
        "looks": {kind.value: _look(LOOKS[kind]) for kind in NodeKind},
        "text": {role.value: [TEXT[role].color, TEXT[role].size, TEXT[role].bold] for role in Role},
        "roles": [role.value for role in _ROLES],
        "legend": MEANINGS,
        "roleRows": {word: role.value for word, role in ROLE_ROWS.items()},
        "fills": {role.value: fill for role, fill in FILLS.items()},
        "palette": {**PALETTE, **_own_colors(writer.cards.values)},
        "rows": writer.rows.values,
        "cards": writer.cards.values,
        "edges": writer.edges.values,
        "columns": writer.columns.values,
        "frames": written,
        "events": [_event(event) for event in frames.events],
        "answers": [plain(answer) for answer in answers],
        "files": {name: list(lines) for name, lines in (files or {}).items()},
    }


def _look(look: Look) -> dict[str, Any]:
    return {name: getattr(look, name) for name in look.__dataclass_fields__}


def _own_colors(cards: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, str]]:
    """The colors that a caller has chosen, light and dark, by their tokens."""
    looks = [card["look"] for card in cards if "look" in card]
    tokens = {look[part] for look in looks for part in ("head", "body", "edge")}
    return {
        token: (color(token, "light"), color(token, "dark"))
        for token in sorted(tokens)
        if token.startswith(OWN)
    }


def _event(event: Event) -> dict[str, Any]:
    return {
        "number": event.number,
        "kind": event.kind.value,
        "word": event.word,
        "name": event.name,
        "source": event.source,
        "detail": event.detail,
        "nodes": list(event.nodes),
    }


class _IslandWriter:
    def __init__(self) -> None:
        self.rows, self.cards, self.edges, self.columns = _Once(), _Once(), _Once(), _Once()
        self.edges.number({"kind": EdgeKind.GRADIENT.value})
        self._columns: dict[str, int] = {}

    def frame(self, frame: Frame, drawn: Frame, run: int) -> dict[str, Any]:
        """One frame: its columns by number, as many frames share them."""
        graph, seen = frame.graph, drawn.graph
        keys = list(graph._node)
        hidden = hide_bookkeeping(graph)
        tree = fold_tree(graph, seen)
        labels, plain_labels = labels_of(_without_scale(graph)), labels_of(_without_scale(hidden))
        relabeled = [
            [
                place,
                self._card(plain_labels[key], hidden._node[key]),
                _weight_input(graph, hidden, key),
            ]
            for place, key in enumerate(keys)
            if key in hidden and plain_labels[key] != labels[key]
        ]
        modules = [tree.modules.get(key, "") for key in keys]
        columns = {
            "keys": keys,
            "row": [self._row(graph._node[key]) for key in keys],
            "card": [self._card(labels[key], _chosen(graph, seen, key)) for key in keys],
            "again": [self._again(graph._node[key]) for key in keys],
            "hidden": [place for place, key in enumerate(keys) if key not in hidden],
            "relabel": relabeled,
            "module": modules,
            "parent": [tree.parents.get(key, LEFT_OUT) for key in keys],
            "groups": self._groups(tree, seen),
            **self._edges_of(graph, keys),
        }
        return {
            "title": clean(drawn.title),
            "caption": clean(drawn.caption),
            "kind": drawn.kind.value,
            "pass": drawn.pass_number,
            "follows": drawn.follows,
            "notes": [clean(note) for note in seen.notes],
            "run": run,
            "flow": seen.graph.get("flow", "data"),
            **{name: self.columns.number(column) for name, column in columns.items()},
        }

    def _edges_of(self, graph: GradGraph, keys: Sequence[str]) -> dict[str, list[int]]:
        place = {key: number for number, key in enumerate(keys)}
        columns: dict[str, list[int]] = {
            name: [] for name in ("source", "target", "input", "output", "edge")
        }
        for source, target, key, data in graph.edge_rows():
            columns["source"].append(place[source])
            columns["target"].append(place[target])
            columns["input"].append(int(data.get("input", key)))
            columns["output"].append(int(data.get("output", 0)))
            columns["edge"].append(self._edge(data))
        return columns

    def _edge(self, data: Mapping[str, Any]) -> int:
        facts = {name: value for name, value in data.items() if name not in ("input", "output")}
        if facts == {"kind": EdgeKind.GRADIENT}:
            return 0
        row = {name: plain(value) for name, value in facts.items()}
        row.setdefault("kind", EdgeKind.GRADIENT.value)
        cause = data.get("cause", Cause.NOT_RECORDED)
        if data.get("kind") is EdgeKind.CUT and cause not in QUIET:
            spans = [TextSpan(cause.value, Role.CUT), TextSpan(data.get("source", ""), Role.FACT)]
            row["lines"] = [_line((span,)) for span in spans if span.text]
        return self.edges.number(row)

    def _row(self, data: Mapping[str, Any]) -> int:
        return self.rows.number({name: plain(value) for name, value in data.items()})

    def _card(self, label: Label, data: Any) -> int:
        card = _card(label, data)
        return self.cards.number(card, (label, data["kind"], repr(card.get("look"))))

    def _again(self, data: Any) -> int:
        """The card of a copy of a leaf; -1 for other nodes."""
        kinds = (NodeKind.LEAF, NodeKind.PARAMETER, NodeKind.UNTRACKED)
        if data["kind"] not in kinds:
            return -1
        names = ("kind", "name", "shape", "dtype", "device")
        graph = GradGraph()
        graph.add_node("again", **{n: data[n] for n in names if n in data}, clone_of="")
        return self._card(labels_of(graph)["again"], graph._node["again"])

    def _groups(self, tree: FoldTree, seen: GradGraph) -> list[list[Any]]:
        holder = GradGraph()
        if seen.graph.get("frame"):
            holder.graph["frame"] = seen.graph["frame"]
        for group in tree.groups:
            holder.add_node(group.key, **group.data)
        labels, drawn = labels_of(holder), labels_of(_without_scale(seen))
        return [
            [
                group.key,
                self._row(group.data),
                self._card(drawn.get(group.seen, labels[group.key]), group.data),
                group.parent,
                int(group.is_open),
            ]
            for group in tree.groups
        ]


def _chosen(graph: GradGraph, seen: GradGraph, key: str) -> Any:
    """The attributes of a node, with the color and the highlight that a view gave it."""
    data = graph._node[key]
    given = {name: value for name, value in seen._node.get(key, {}).items() if name in _CHOSEN}
    return {**data, **given} if given else data


def _without_scale(graph: GradGraph) -> GradGraph:
    """The graph without the levels of `color_by` in its labels; the viewer adds them."""
    if "scale" not in graph.graph:
        return graph
    plain_graph: GradGraph = graph.copy()
    del plain_graph.graph["scale"]
    return plain_graph


def _weight_input(graph: GradGraph, hidden: GradGraph, key: str) -> int:
    """The input of a ``linear`` whose transposed weight is not shown as reshaped; -1 for none."""
    op = str(graph._node[key].get("op", ""))
    is_linear = hidden._node[key].get("op") == "linear" != op
    return _HIDDEN_INPUT.get(op, -1) if is_linear else -1


def _card(label: Label, data: Any) -> dict[str, Any]:
    card = card_of(label, data)
    found: dict[str, Any] = {
        "kind": data["kind"].value,
        "width": round(card.width, 1),
        "height": round(card.height, 1),
        "head": _line(label.head),
        "rows": [_line(row) for row in label.rows],
    }
    if "clone_of" in data:
        found["again"] = True
    if card.look != LOOKS[data["kind"]]:
        found["look"] = _look(card.look)
    return found


def _line(line: Iterable[TextSpan] | Line) -> list[Any]:
    """The spans of a line, each as text, number of its role, and width in points."""
    return [
        [
            span.text,
            _ROLES.index(span.role),
            round(text_width(span.text, TEXT[span.role].size, TEXT[span.role].bold), 1),
        ]
        for span in line
    ]
