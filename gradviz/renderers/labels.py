"""The text of nodes and edges: labels and causes of cuts, the same for every format.

A label has a head (name, operation, shape) and rows (value, gradient). Each span of text has a
`Role`; `gradviz.renderers.theme` maps roles to styles.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from gradviz.graph import (
    LEAVES,
    Buffers,
    Cause,
    EdgeData,
    GradGraph,
    Mark,
    NodeData,
    NodeKind,
    TensorSummary,
)
from gradviz.graph.operations import operation
from gradviz.graph.text import (
    bytes_text,
    clean,
    count_text,
    counted,
    dtype_text,
    is_loud,
    listed,
    number_text,
    shape_text,
    summary_text,
)
from gradviz.views.module_classes import shapes_entering
from gradviz.wording import problem_text, spread_text

_CAUSES = frozenset(cause.value for cause in Cause)
_SHOWN_ELSEWHERE = ("value", "grad", "buffers")
_LONGEST_NAME = 48
_LONGEST_AGAIN = 30
_MOST_SHAPES = 2  # of the outputs of a group
_LONGEST_VALUE = 52
_FEW_INLINE = 4
_FEW_MEMBERS = 4  # operations of a module: its class says more than their number
_MOST_ALIASES = 3
_WORTH_A_WORD = 1000  # bytes


class Role(str, Enum):
    """The meaning of a piece of text on a node."""

    NAME = "name"
    """The user's name of the tensor."""
    WORD = "word"
    """The name of an operation, or the heading of a row."""
    VALUE = "value"
    """Numbers."""
    FACT = "fact"
    """Shape, kind and other details, set in gray."""
    LOUD = "loud"
    """An alarm: NaN, infinity, an error, a verdict."""
    CUT = "cut"
    """Why a gradient does not flow on."""
    NEWS = "news"
    """Changes since the previous frame: new, freed, changed."""
    ZERO = "zero"
    """All zeros."""
    REMOVED = "removed"
    """Something that the next frame no longer has."""


@dataclass(frozen=True, slots=True)
class TextSpan:
    """A piece of text with one meaning."""

    text: str
    role: Role


Line = tuple[TextSpan, ...]


@dataclass(frozen=True, slots=True)
class Label:
    """The text of a node: a head and the rows below it."""

    head: Line
    rows: tuple[Line, ...] = ()

    def plain(self) -> str:
        """The label in one line of plain text.

        Example:
            >>> Label((TextSpan("x", Role.NAME),), ((TextSpan("= 1", Role.VALUE),),)).plain()
            'x  = 1'
        """
        return "  ".join(span.text for line in (self.head, *self.rows) for span in line)


@dataclass(frozen=True, slots=True)
class _Shows:
    """Attributes that labels of a graph show because they differ between nodes."""

    freed: bool
    retained: bool


def labels_of(graph: GradGraph) -> dict[str, Label]:
    """The label of every node; attributes that are equal on all nodes are left out.

    Args:
        graph: as it will be drawn.

    Example:
        >>> graph = GradGraph()
        >>> graph.add_node("n0", kind=NodeKind.LEAF, name="x", shape=(3,), dtype="float32",
        ...                grad=None)
        >>> labels_of(graph)["n0"].plain()
        'x  f32[3]  leaf  .grad  None'
    """
    states = {data.get("buffers") for _, data in graph.nodes(data=True)}
    # If all tensors are freed, the caption of a single picture says so; in a story each node.
    shows = _Shows(
        freed=Buffers.FREED in states and (Buffers.HELD in states or _is_of_story(graph)),
        retained=any(data.get("retains_grad") for _, data in graph.nodes(data=True)),
    )
    labels = {key: _label(graph, key, shows) for key in graph.nodes}
    if scale := graph.graph.get("scale"):
        for key, label in labels.items():
            labels[key] = _measured(label, graph.nodes[key], scale["by"])
    return labels


def _is_of_story(graph: GradGraph) -> bool:
    return bool(graph.graph.get("frames", 1) > 1)


def _measured(label: Label, data: NodeData, by: str) -> Label:
    """Add the quantity that `color_by` shows, unless the label contains it already."""
    role = Role.FACT
    text = ""
    if mark := data.get("mark"):
        loud = mark is not Mark.ZERO
        text, role = (mark.value, Role.LOUD) if loud else ("zeros", role)
    elif (
        by == "grad_norm"
        and "level" in data
        and (gradient := data.get("grad"))
        and (gradient.numel > 1 or gradient.values is None)
        and "grad_range" not in data
    ):
        text = f"norm {number_text(gradient.finite_norm)}"
    elif by == "saved_bytes" and "level" in data:
        own = data.get("saved_bytes", 0)
        total = data.get("saved_total", own)
        text = f"{bytes_text(total)} saved{', shared' if total > own else ''}"
    elif by == "dtype" and "dtype" in data:
        text = dtype_text(data["dtype"])
    elif by == "device":
        text = data.get("device", "")
    if any(text in span.text for line in (label.head, *label.rows) for span in line):
        return label
    head, rows = label.head, list(label.rows)
    for number, row in enumerate(rows):
        if by == "grad_norm" and row[0].text == ".grad":
            rows[number] = (*row, TextSpan(text, role))
            break
    else:
        head = (*head, TextSpan(text, role))
    return Label(head, tuple(rows))


def _label(graph: GradGraph, key: str, shows: _Shows) -> Label:
    data: NodeData = graph.nodes[key]
    kind = data["kind"]
    if "clone_of" in data:
        is_box = kind is NodeKind.GROUP
        name = [TextSpan(_short(data.get("name", "leaves"), _LONGEST_AGAIN), Role.NAME)]
        head = name if is_box else [*_name(data), *_shape(data)]
        return Label((*head, TextSpan("again", Role.FACT)))
    if kind in (NodeKind.OPERATION, NodeKind.ACCUMULATE, NodeKind.GROUP):
        group = kind is NodeKind.GROUP
        changed = data.get("changes", {}).get("buffers")
        says_so = bool(changed or (shows.freed and data.get("buffers") is Buffers.FREED))
        head = (
            _group_head(graph, key, data) if group else _operation_head(graph, key, data, says_so)
        )
        if says_so:
            is_old = not changed and _is_of_story(graph)
            head.append(TextSpan(changed or "freed", Role.FACT if is_old else Role.NEWS))
        value = [] if group else _value_rows(data, is_dated=False)
        if shows.retained and "name" in data and kind is NodeKind.OPERATION and "grad" not in data:
            value.append((TextSpan(".grad", Role.WORD), TextSpan("None, not a leaf", Role.FACT)))
        return Label(tuple(head), (*value, *_rows(data)))
    head = [*_name(data), *_shape(data)]
    # The edge from above names the cut (detach, ...); the label names any other operation.
    if kind is NodeKind.UNTRACKED and data.get("op", "detach") not in _CAUSES:
        head.insert(0, TextSpan(_short(data["op"]), Role.WORD))
    head += _hooks(data) + _change_spans(data)
    value = _value_rows(data, is_dated=may_have_changed(graph, key))
    if kind is NodeKind.RESULT:
        if value and data["value"].numel <= _FEW_INLINE:
            head, value = [*head, *value[0]], []
    else:
        head.append(TextSpan(_TENSOR_WORD.get(kind, kind.value), Role.FACT))
        if kind in LEAVES and data.get("requires_grad") is False:
            head.append(TextSpan("requires_grad=False", Role.FACT))
        if not value:
            head += _since(data)
    return Label(tuple(head), (*value, *_rows(data)))


def may_have_changed(graph: GradGraph, key: str) -> bool:
    """Whether it is not known that operations of the graph used the current value of a leaf.

    Its version counts changes in place, except those through ``.data``, which are known only if the
    graph was recorded, and those through NumPy.
    """
    data: NodeData = graph.nodes[key]
    if data.get("in_array") and not data.get("stale"):
        return True
    if data["kind"] not in LEAVES or "stale" in data:
        return False
    return bool(data.get("version")) or ("is_traced" in graph.graph and graph.degree(key) > 0)


def _since(data: NodeData) -> list[TextSpan]:
    """The note that a leaf was changed in place after an operation of the graph used it."""
    if not data.get("stale"):
        return []
    then = data.get("used_value")
    was = _content(then) if then is not None else ""
    short = [TextSpan(f"was {was}", Role.FACT)] if 0 < len(was) <= _LONGEST_VALUE // 2 else []
    return [TextSpan("changed since", Role.NEWS), *short]


def _rows(data: NodeData) -> tuple[Line, ...]:
    problem = problem_text(data["problem"]) if "problem" in data else ""
    loud = data.get("verdict") or problem
    alarms: list[Line] = [(TextSpan(clean(loud), Role.LOUD),)] if loud else []
    if "asked" in data:
        alarms.append((TextSpan("asked about", Role.NAME),))
    if "ranks" in data:
        alarms.insert(0, (TextSpan(spread_text(data["ranks"]), Role.NEWS),))
    if data["kind"] is NodeKind.GROUP:
        return (*_group_rows(data), *alarms)
    return (*_why_untracked(data), *_inside(data), *_grad_rows(data), *alarms)


_TENSOR_WORD = {NodeKind.UNTRACKED: "not tracked"}


def _operation_head(graph: GradGraph, key: str, data: NodeData, says_so: bool) -> list[TextSpan]:
    """The head of an operation; ``says_so`` if it will say that it is freed."""
    head = [TextSpan(_short(data.get("op", "?")), Role.WORD), *_options(data)]
    if data.get("untracked_inputs"):
        freed = data.get("buffers") is Buffers.FREED and not says_so
        is_gone = freed and operation(data.get("op", "")).number
        # A number is known from a saved tensor: after backward it is unknown.
        text = f"with a constant{' (no longer saved)' if is_gone else ''}"
        head.append(TextSpan(text, Role.FACT))
    if "name" in data and not _result_has_name(graph, key, data["name"]):
        head += _name(data)
    if _shape_differs(graph, key, data):
        head += _shape(data)
    if "opaque" in data:
        later = data["op"] == "checkpoint" and data.get("buffers") is Buffers.HELD
        when = ": recorded when backward runs" if later else ""
        head.append(TextSpan(f"{data['opaque']}{when}", Role.FACT))
    if data.get("version") and "version" not in data.get("changes", {}):
        head.append(TextSpan(f"version {data['version']}", Role.FACT))
    return head + _hooks(data) + _change_spans(data)


def _change_spans(data: NodeData) -> list[TextSpan]:
    """Changes, except of value, gradient and buffers, which are shown elsewhere."""
    changes = {k: v for k, v in data.get("changes", {}).items() if k not in _SHOWN_ELSEWHERE}
    if data["kind"] in LEAVES and changes.pop("version", False) and not data.get("value"):
        changes["node"] = "" if _since(data) else "changed"
    return [
        TextSpan(
            text if name == "node" else f"{name} {text}",
            Role.REMOVED if text in ("removed", "gone") else Role.NEWS,
        )
        for name, text in changes.items()
        if text
    ]


def _result_has_name(graph: GradGraph, key: str, name: str) -> bool:
    """Whether the result node of an operation shows the same name."""
    users = (*graph.successors(key), *graph.predecessors(key))
    results = (graph.nodes[user] for user in users)
    return any(node["kind"] is NodeKind.RESULT and node.get("name") == name for node in results)


def _group_head(graph: GradGraph, key: str, data: NodeData) -> list[TextSpan]:
    head = _name(data) or [TextSpan(_short(data.get("op", "group")), Role.WORD)]
    if data.get("repeat", 1) > 1:
        head.append(TextSpan(f"×{data['repeat']:,}", Role.NAME))
    if first := data.get("first_step"):
        last = first + data.get("repeat", 1) - 1
        head.append(TextSpan(f"steps {first:,}–{last:,}", Role.FACT))
    members = data.get("members", 0)
    contents = data.get("contents", ())
    if word := data.get("module_class", "") or data.get("part_of", ""):
        head += [TextSpan("part of", Role.FACT)] * ("module_class" not in data)
        head.append(TextSpan(_short(word), Role.WORD))
        if members > _FEW_MEMBERS:
            head.append(TextSpan(_ops_text(data), Role.FACT))
    elif members == 1 and len(contents) == 1:
        head.append(TextSpan(_short(contents[0]), Role.WORD))
    elif members and not data.get("op", "").startswith("…"):
        head.append(TextSpan(_ops_text(data), Role.FACT))
    # If the output is reshaped for all, the shape inside differs from that of the output.
    edges = [edge for *_, edge in graph.out_edges(key, data=True)]
    reshaped = bool(edges) and all("through" in e and "reshaped" not in e for e in edges)
    shape = [] if reshaped else _shape(data)
    before = shapes_before(graph, {key}, data) if shape and "module_class" in data else []
    return head + before + shape + _change_spans(data)


def _ops_text(data: NodeData) -> str:
    """How many operations are in a group: in all, not in each of several repetitions.

    Example:
        >>> _ops_text({"members": 48, "repeat": 6, "in_modules": 30, "module_class": "Sequential"})
        '48 ops in all, 30 in them'
    """
    text = counted(data.get("members", 0), "op")
    if data.get("repeat", 1) == 1:
        return text
    inside = data.get("in_modules") if "module_class" in data else None
    return f"{text} in all" + (f", {inside:,} in them" if inside else "")


def shapes_before(graph: GradGraph, keys: Set[str], data: NodeData) -> list[TextSpan]:
    """The shapes of what a module gets; nothing if one is not known, or all are as its output.

    The data has its path, the shape of its output, and the ``input_shape`` if its class says it.
    """
    if graph.graph.get("flow") == "gradient":
        return []
    found = shapes_entering(graph, keys, data.get("module", ""))
    if "input_shape" in data and (None in found or not found):
        found = {data["input_shape"]}
    shapes = [shape for shape in found if shape is not None]
    if len(shapes) < len(found) or shapes in ([], [data.get("shape")]):
        return []
    return [TextSpan(f"{listed([*map(shape_text, shapes)], _MOST_SHAPES)} →", Role.FACT)]


def _group_rows(data: NodeData) -> list[Line]:
    """One row with parameters, gradient and saved bytes."""
    row = element_spans(data)
    if "leaf" in data and "module_class" not in data:
        row.insert(0, TextSpan(_short(data["leaf"]), Role.WORD))
    if "grad" in data:
        grad = data["grad"]
        row.append(TextSpan(".grad", Role.WORD))
        if grad is None:
            row.append(TextSpan("None", Role.FACT))
        else:
            loud = is_loud(grad)
            if loud or grad.norm is None:
                text = _content(grad)
            elif "grad_range" in data:
                low, high = map(number_text, data["grad_range"])
                text = f"norm {low} to {high} each" if low != high else f"norm {low} each"
            else:
                text = f"norm {number_text(grad.norm)}"
            row.append(TextSpan(text, loud_role(grad) if loud else Role.VALUE))
        row += _change(data, "grad")
    if data.get("saved_bytes", 0) >= _WORTH_A_WORD:
        row.append(TextSpan(f"{bytes_text(data['saved_bytes'])} saved", Role.FACT))
    return [tuple(row)] if row else []


def element_spans(counts: Mapping[str, Any]) -> list[TextSpan]:
    """How many elements the parameters and the other leaves of a group have.

    Example:
        >>> [span.text for span in element_spans({"parameters": 20, "frozen": 5})]
        ['25 parameters, 5 frozen']
    """
    apart = {"frozen": counts.get("frozen", 0), "not in the graph": counts.get("unreached", 0)}
    rows = {
        "parameter": counts.get("parameters", 0) + sum(apart.values()),
        "leaf element": counts.get("leaf_elements", 0),
    }
    spans = []
    for word, count in rows.items():
        text = f"{count_text(count)} {word}{'s' * (count != 1)}"
        if word == "parameter":
            text += "".join(f", {count_text(n)} {what}" for what, n in apart.items() if n)
        spans += [TextSpan(text, Role.FACT)] if count else []
    return spans


def _hooks(data: NodeData) -> list[TextSpan]:
    count = data.get("hooks", 0)
    return [TextSpan(counted(count, "hook"), Role.FACT)] if count else []


def _name(data: NodeData) -> list[TextSpan]:
    names = [name for name in (data.get("name", ""), *data.get("aliases", ())) if name]
    more = len(names) - _MOST_ALIASES
    shown = names if more <= 0 else names[: _MOST_ALIASES - 1]
    text = " = ".join(map(_short, shown))
    if more > 0:
        text += f" = {more + 1:,} more names"
    if text:
        return [TextSpan(text, Role.NAME)]
    return [TextSpan("result", Role.WORD)] if data["kind"] is NodeKind.RESULT else []


def _short(text: str, longest: int = _LONGEST_NAME) -> str:
    """The text, shortened: a path without some of its words, another long name to its two ends.

    The numbers of a path stay as long as possible: they tell one layer from another.

    Example:
        >>> _short("model.blocks.1.layers.2.layers.attention.qkv", 40)
        '…blocks.1.layers.2.layers.attention.qkv'
        >>> _short("blocks.1.layers.2.layers.attention.qkv", 30)
        'blocks.1…2…attention.qkv'
        >>> _short("autograd.grad → mul → sub → linear …", 30)
        'autograd.grad → mul → sub …'
    """
    text = clean(text)
    if len(text) <= longest:
        return text
    if " → " in text:  # operations, of which the first ones are known
        shorter = text.removesuffix(" …")
        while " → " in shorter:
            shorter = shorter.rpartition(" → ")[0]
            if len(shorter) <= longest - 2:
                return f"{shorter} …"
    parts = text.split(".")
    numbers = [at for at, part in enumerate(parts) if part.rpartition(" ")[2].isdecimal()]
    numbers = numbers or [len(parts)]
    words = [at for at in range(len(parts) - 1) if at not in numbers]
    # First what all have, then the words after the first number, then the name of its list.
    words.sort(key=lambda at: (at == numbers[0] - 1, at > numbers[0], at))
    kept = list(range(len(parts)))
    for at in [*words, *numbers[:-1]]:
        kept.remove(at)
        gaps = ("." if place - 1 in kept else "…" if place else "" for place in kept)
        text = "".join(gap + parts[place] for gap, place in zip(gaps, kept, strict=True))
        if len(text) <= longest:
            return text
    half = longest // 2
    return f"{text[: half - 1]}…{text[-half:]}"


def _shape(data: NodeData) -> list[TextSpan]:
    shapes = data.get("shapes") or ([data["shape"]] if "shape" in data else [])
    if not shapes:
        return []
    dtype, device = data.get("dtype", ""), data.get("device", "cpu")
    texts = [shape_text(shape, dtype, device) for shape in shapes]
    return [TextSpan(listed(texts, _MOST_SHAPES), Role.FACT)]


def _shape_differs(graph: GradGraph, key: str, data: NodeData) -> bool:
    """Whether the shape differs from that of an input."""
    if graph.graph.get("flow") == "gradient" or "shape" not in data:
        return False
    facts = ("shape", "dtype", "device")
    own = [data.get(fact) for fact in facts]
    before = [graph.nodes[source] for source in graph.predecessors(key)]
    return not before or any([node.get(fact) for fact in facts] != own for node in before)


def _options(data: NodeData) -> list[TextSpan]:
    options, op = dict(data.get("options", {})), data.get("op", "").rstrip("_")
    before, after = {"mul": "×", "div": "÷"}.get(op, ""), {"div": " ÷", "pow": "^"}.get(op, "")
    forms = {"other": before + "{}", "self": "{}" + after, "exponent": "^{}"}
    numbers = [form.format(options.pop(name)) for name, form in forms.items() if name in options]
    author = [f"by {options.pop('by')}"] if "by" in options else []
    rest = [" ".join(f"{name}={value}" for name, value in options.items())] if options else []
    facts = [TextSpan(text, Role.FACT) for text in (*author, *rest)]
    return [*(TextSpan(text, Role.VALUE) for text in numbers), *facts]


def _content(summary: TensorSummary) -> str:
    """The content of a tensor, short enough for a card; the tooltip is complete.

    Of many values, the first ones and the number of values are shown.
    """
    if summary.values is not None and summary.note:
        return f"{_content(replace(summary, note=''))} ({summary.note})"
    text = summary_text(summary)
    if len(text) <= _LONGEST_VALUE:
        return text
    has_values = summary.values is not None
    more = f" {summary.numel:,} values" if has_values else ""
    room = _LONGEST_VALUE - len(more) - len(summary.shape)
    kept, _, cut = text[:room].rpartition(" " if has_values else ", ")
    open_rows = kept.count("[") - kept.count("]")
    return f"{kept or cut} …{']' * open_rows}{more}"


def _value_rows(data: NodeData, is_dated: bool) -> list[Line]:
    """The row of the value; ``is_dated`` if the graph may have used another value."""
    value = data.get("value")
    if value is None or not (text := _content(value)):
        return []
    role = Role.VALUE if value.is_finite else Role.LOUD
    changed = _since(data) or _change(data, "value")
    return [(TextSpan("now" if is_dated else "=", Role.FACT), TextSpan(text, role), *changed)]


def _change(data: NodeData, attribute: str) -> list[TextSpan]:
    text = data.get("changes", {}).get(attribute)
    return [TextSpan(text, Role.NEWS)] if text else []


def loud_role(summary: TensorSummary) -> Role:
    """The role of a remarkable value: NaN and infinity are an alarm, zeros are not."""
    return Role.ZERO if summary.is_finite else Role.LOUD


def _why_untracked(data: NodeData) -> list[Line]:
    if data["kind"] is not NodeKind.UNTRACKED:
        return []
    if "opaque" in data:
        return [(TextSpan(data["opaque"], Role.FACT),)]
    if data.get("inference"):
        return [(TextSpan("made under inference_mode", Role.FACT),)]
    if data.get("dtype", "float").startswith(("int", "uint", "bool")):
        return [(TextSpan(f"{data['dtype']} cannot require grad", Role.FACT),)]
    return [(TextSpan("requires_grad=False, no grad_fn", Role.FACT),)] if "root" in data else []


def _inside(data: NodeData) -> list[Line]:
    """The parameters of the module that a reentrant checkpoint runs: they are no inputs of it."""
    if not (names := data.get("runs_with", ())):
        return []
    text = listed([_short(names[0]), *names[1:]], 1)
    return [(TextSpan("runs a module with", Role.FACT), TextSpan(text, Role.WORD))]


def _grad_rows(data: NodeData) -> list[Line]:
    if "grad" not in data:
        return []
    grad = data["grad"]
    heading = TextSpan(".grad", Role.WORD)
    change = _change(data, "grad")
    if grad is None:
        return [(heading, TextSpan("None", Role.FACT), *change)]
    role = loud_role(grad) if is_loud(grad) else Role.VALUE
    line = [heading, TextSpan(_content(grad), role), *change]
    if (times := data.get("accumulations")) and not change:
        line.append(TextSpan(counted(times, "pass", "passes"), Role.FACT))
    return [tuple(line)]


def cause_text(data: EdgeData) -> str:
    """Why and where an edge was cut, if recorded.

    Example:
        >>> cause_text({"cause": Cause.DETACH, "source": "train.py:12"})
        'detach, train.py:12'
    """
    if data.get("cause", Cause.NOT_RECORDED) is Cause.NOT_RECORDED:
        return "cause not recorded"
    return ", ".join(filter(None, (cause_word(data), data.get("source", ""))))


def cause_word(data: Mapping[str, Any]) -> str:
    """What cut an edge; of the ways to read a number, or to use values, the one that was used.

    Example:
        >>> cause_word({"cause": Cause.ITEM, "word": "tolist"})
        'tolist'
    """
    cause, word = data["cause"], data.get("word", "")
    if cause is Cause.VALUES_COPIED and word.endswith("_") and not word.endswith(("copy_", "__")):
        return f"values used by {word}"
    return str(word if word and cause is Cause.ITEM else cause.value)
