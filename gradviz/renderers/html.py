"""Convert a story to one HTML file: the interactive viewer, and still pictures for no scripts.

The file works from disk, without a network, and in a sandbox: a content security policy forbids
loading anything and allows only the script in the file. Names, titles and code are escaped.
Without scripts, and in print, it shows all frames, one below the other.

The data of the viewer is one JSON value. Repeated values are stored once: equal nodes, equal cards,
and columns of frames that did not change. All text is made here, with the functions that pictures
use; the viewer only places it.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from html import escape
from typing import TYPE_CHECKING, Any

from gradviz import viewer
from gradviz.graph import Cause, EdgeKind, GradGraph, NodeKind, is_box_of_leaves
from gradviz.graph.text import clean
from gradviz.renderers.caption import MEANINGS, highlight_row, role_rows
from gradviz.renderers.cards import card_of, text_width
from gradviz.renderers.compose import compose_each
from gradviz.renderers.edges import QUIET
from gradviz.renderers.labels import Label, Line, Role, TextSpan, cause_word, labels_of
from gradviz.renderers.moments import runs_of_frames
from gradviz.renderers.scene import SheetStyle
from gradviz.renderers.scene_files import to_svg
from gradviz.renderers.theme import (
    FILLS,
    FONT,
    LEAF_BOX,
    LOOKS,
    OWN,
    PALETTE,
    TEXT,
    Theme,
    color,
)
from gradviz.serialize import plain
from gradviz.story import Event, Frame, Story
from gradviz.views import apply
from gradviz.views.colors import saved_totals
from gradviz.views.details import hide_bookkeeping
from gradviz.views.tree import LEFT_OUT, FoldTree, fold_tree

if TYPE_CHECKING:
    from gradviz.diagnosis import Explanation

_ROLES = tuple(Role)
_HIDDEN_INPUT = {"addmm": 2, "mm": 1}


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


def page_json(data: Mapping[str, Any]) -> str:
    r"""Convert the data to JSON that is safe in a ``<script>`` element: no text ends the element.

    Example:
        >>> page_json({"name": "</script><!--"})
        '{"name":"\\u003c/script>\\u003c!--"}'
    """
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


@dataclass(frozen=True)
class ViewerPage:
    """What an HTML file shows.

    Args:
        frames: as they were recorded, with what changed marked.
        shown: the same frames through views, under `gradviz.views.groups.keep_inside`.
        theme: as for `to_svg`; it holds for the page as well.
        target: the command line's name of the subject: ``"train.py:loss"``; "" if unknown.
        answers: of `explain`, which the page lists.
        files: lines of the program, by file name in nodes and events, shown beside the run.
        style: the direction of the drawing and whether there is a legend; width and font size are
            those of the still pictures.
        command: of gradviz, which makes the picture of the target, with its options:
            ``"record --step 2"``; and what follows the target: ``"-- --lr 3"``; the frames of the
            recording that these are: ``"2,4"``, "" for all.
    """

    frames: Story
    shown: Story
    theme: Theme = "auto"
    target: str = ""
    answers: Sequence[Explanation] = ()
    files: Mapping[str, Sequence[str]] = field(default_factory=dict)
    style: SheetStyle = field(default_factory=SheetStyle)
    command: tuple[str, str, str] = ("draw", "", "")


def page_data(page: ViewerPage) -> dict[str, Any]:
    """Everything that the viewer needs, as plain values.

    Example:
        >>> story = Story((Frame("", GradGraph()),))
        >>> page_data(ViewerPage(story, story))["frames"][0]["title"]
        ''
    """
    shown = page.shown
    writer = _IslandWriter()
    runs = runs_of_frames([frame.graph for frame in shown])
    written = [
        writer.frame(frame, drawn, run)
        for frame, drawn, run in zip(page.frames, shown, runs, strict=True)
    ]
    first = shown[0].graph if len(shown) else GradGraph()
    last = shown[-1].graph if len(shown) else first
    scale = first.graph.get("scale")
    return {
        "gradviz": 2,
        "title": clean(shown.title),
        "notes": [clean(note) for note in shown.notes],
        "theme": page.theme,
        "target": page.target,
        "command": page.command,
        "color": scale["by"] if scale else "",
        "rankdir": "LR" if page.style.sideways else "TB",
        "hasLegend": page.style.legend,
        "looks": {
            **{kind.value: asdict(LOOKS[kind]) for kind in NodeKind},
            "leaves": asdict(LEAF_BOX),
        },
        "text": {role.value: [TEXT[role].color, TEXT[role].size, TEXT[role].bold] for role in Role},
        "roles": [role.value for role in _ROLES],
        "legend": {**MEANINGS, **highlight_row(frame.graph for frame in page.frames)},
        "roleRows": {word: role.value for word, role in role_rows(last).items()},
        "fills": {role.value: fill for role, fill in FILLS.items()},
        "palette": {**PALETTE, **_own_colors(writer.cards.values)},
        "rows": writer.rows.values,
        "cards": writer.cards.values,
        "edges": writer.edges.values,
        "columns": writer.columns.values,
        "frames": written,
        "events": [_event(event) for event in page.frames.events],
        "answers": [_answer(answer) for answer in page.answers],
        "files": {name: list(lines) for name, lines in page.files.items()},
    }


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
    names = ("number", "kind", "word", "name", "source", "detail", "nodes")
    return {name: plain(getattr(event, name)) for name in names}


def _answer(answer: Explanation) -> dict[str, Any]:
    """An answer of `explain` as the viewer lists it, without what is empty."""
    from gradviz.diagnosis import Verdict

    verdict = answer.verdict
    words = {"name": answer.name, "verdict": verdict.value, "state": verdict.state}
    more = {name: plain(getattr(answer, name)) for name in ("fix", "nodes", "culprit", "lines")}
    more["is_fine"] = verdict is Verdict.FINE
    return {**words, "reason": answer.reason, **{k: each for k, each in more.items() if each}}


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
        totals = saved_totals(graph)
        columns = {
            "keys": keys,
            "row": [self._row(graph._node[key], totals.get(key, 0)) for key in keys],
            "card": [self._card(labels[key], graph._node[key]) for key in keys],
            "again": [self._again(graph._node[key]) for key in keys],
            "hidden": [place for place, key in enumerate(keys) if key not in hidden],
            "relabel": relabeled,
            "module": [tree.modules.get(key, "") for key in keys],
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
        rows = list(graph.edge_rows())
        return {
            "source": [place[source] for source, *_ in rows],
            "target": [place[target] for _, target, *_ in rows],
            "input": [int(data.get("input", key)) for *_, key, data in rows],
            "output": [int(data.get("output", 0)) for *_, data in rows],
            "edge": [self._edge(data) for *_, data in rows],
        }

    def _edge(self, data: Mapping[str, Any]) -> int:
        facts = {name: value for name, value in data.items() if name not in ("input", "output")}
        if facts == {"kind": EdgeKind.GRADIENT}:
            return 0
        row = {name: plain(value) for name, value in facts.items()}
        row.setdefault("kind", EdgeKind.GRADIENT.value)
        cause = data.get("cause", Cause.NOT_RECORDED)
        if data.get("kind") is EdgeKind.CUT and cause not in QUIET:
            words = {Role.CUT: cause_word(data), Role.FACT: data.get("source", "")}
            row["lines"] = [_line((TextSpan(text, r),)) for r, text in words.items() if text]
        return self.edges.number(row)

    def _row(self, data: Mapping[str, Any], total: int = 0) -> int:
        row = {name: plain(value) for name, value in data.items()}
        if total > row.get("saved_bytes", 0):
            row["saved_total"] = total
        return self.rows.number(row)

    def _card(self, label: Label, data: Any) -> int:
        card = _card(label, data)
        looks = repr(card.get("look")), "highlight" in card, "again" in card
        return self.cards.number(card, (label, data["kind"], *looks))

    def _again(self, data: Any) -> int:
        """The card of a copy of a leaf, or of a box of leaves; -1 for other nodes."""
        kinds = (NodeKind.LEAF, NodeKind.PARAMETER, NodeKind.UNTRACKED)
        if data["kind"] not in kinds and not is_box_of_leaves(data):
            return -1
        names = ("kind", "name", "shape", "dtype", "device", "color", "highlight")
        graph = GradGraph()
        graph.add_node("again", **{n: data[n] for n in names if n in data}, clone_of="")
        return self._card(labels_of(graph)["again"], graph._node["again"])

    def _groups(self, tree: FoldTree, seen: GradGraph) -> list[list[Any]]:
        holder = GradGraph()
        for name in ("frame", "frames"):
            holder.graph[name] = seen.graph.get(name, 0)
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
                self._again(group.data),
            ]
            for group in tree.groups
        ]


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
        found["look"] = asdict(card.look)
    if data.get("highlight"):
        found["highlight"] = True
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


_MOST_STILL = 3_000  # nodes in all still pictures; with more, the default picture is shown


def to_html(page: ViewerPage) -> str:
    """Convert a page to the text of an HTML file.

    Example:
        >>> from gradviz.graph import GradGraph
        >>> story = Story((Frame("before", GradGraph()), Frame("after", GradGraph())))
        >>> text = to_html(ViewerPage(story, story))
        >>> text.count("<figure"), "default-src 'none'" in text
        (2, True)
    """
    data, shown, theme = page_data(page), page.shown, page.theme
    script = viewer.script()
    title = escape(clean(shown.title) or clean(page.target) or "What autograd recorded")
    text = "\n".join(
        [
            "<!doctype html>",
            f'<html lang="en" data-theme="{theme}"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_policy(script)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title><style>{_colors(data['palette'])}{viewer.style()}</style></head><body>",
            '<div id="gradviz-viewer" hidden></div>',
            f'<div id="still">{_still(shown, title, theme, page.style)}</div>',
            f'<script type="application/json" id="gradviz-data">{page_json(data)}</script>',
            f"<script>{script}</script>",
            "</body></html>\n",
        ]
    )
    return text.encode("ascii", "xmlcharrefreplace").decode()  # a page around it may misread UTF-8


@cache
def _policy(script: str) -> str:
    """No network, no plug-ins, no forms, and no script but this one."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _still(shown: Story, title: str, theme: Theme, style: SheetStyle) -> str:
    """All frames as pictures, one under the other, with links to each."""
    if sum(frame.graph.number_of_nodes() for frame in shown) > _MOST_STILL:
        folded = (Frame(frame.title, apply(frame.graph), frame.caption) for frame in shown)
        shown = Story(folded, shown.title, shown.notes)
    pictures = [to_svg(scene, theme) for scene in compose_each(shown, style)]
    figures = "".join(map(_figure, itertools.count(1), shown, pictures))
    links = "".join(
        f'<li><a href="#frame-{number}">{escape(clean(frame.title) or f"frame {number}")}</a></li>'
        for number, frame in enumerate(shown, 1)
    )
    steps = f'<nav aria-label="frames"><ol>{links}</ol></nav>' if len(shown) > 1 else ""
    notes = "".join(f"<p>{escape(clean(note))}</p>" for note in shown.notes)
    return f"<h1>{title}</h1>{steps}{figures}{notes}"


def _figure(number: int, frame: Frame, picture: str) -> str:
    caption = f"<figcaption>{escape(clean(frame.caption))}</figcaption>" if frame.caption else ""
    return f'<figure id="frame-{number}"><div>{picture}</div>{caption}</figure>\n'


def _colors(palette: Mapping[str, tuple[str, str]]) -> str:
    """The colors of the pictures: as variables of the page, and as classes of its shapes."""
    light, dark = (
        " ".join(f"--{token}: {colors[scheme]};" for token, colors in palette.items())
        for scheme in (0, 1)
    )
    classes = " ".join(
        f".f-{token} {{ fill: var(--{token}); }} .e-{token} {{ stroke: var(--{token}); }}"
        for token in palette
    )
    return f"""
:root {{ color-scheme: light dark; {light} font-family: {FONT}; }}
:root[data-theme="light"] {{ color-scheme: light; }}
:root[data-theme="dark"] {{ color-scheme: dark; {dark} }}
@media (prefers-color-scheme: dark) {{ :root[data-theme="auto"] {{ {dark} }} }}
{classes}
"""
