"""In which module an operation without parameters ran, as far as the classes of modules tell.

Between two operations whose modules are known, ``relu`` ran in the only ``ReLU`` that can have run
there. What fits several modules, or none, is left without a module: a box must not be a guess.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, NamedTuple, cast

from gradviz.graph import EdgeData, GradGraph, NodeData, NodeKind, is_box_of_leaves
from gradviz.graph.text import WRAPPING_CLASSES, Path, element_count, shared, without_wrappers
from gradviz.views.op_sequence import OpSequence

# The operations of a module without parameters, one each time that it runs.
_PLAIN: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("Dropout", "Dropout1d", "Dropout2d", "Dropout3d"), ("mul", "dropout")),
    **dict.fromkeys(("StochasticDepth", "DropPath"), ("mul",)),
    **dict.fromkeys(("MaxPool2d", "MaxPool3d"), ("max_pool2d", "max_pool3d")),
    **dict.fromkeys(("AvgPool2d", "AdaptiveAvgPool2d"), ("avg_pool2d", "mean")),
    **{word: (word.lower(),) for word in ("ReLU", "GELU", "SiLU", "ELU", "Tanh", "Sigmoid", "GLU")},
    **dict.fromkeys(("ReLU6", "Hardtanh"), ("hardtanh",)),
    **{"LeakyReLU": ("leaky_relu",), "Softplus": ("softplus",), "Hardswish": ("hardswish",)},
    **{"Softmax": ("softmax",), "LogSoftmax": ("log_softmax",), "Hardsigmoid": ("hardsigmoid",)},
    **{"Flatten": ("view", "reshape", "reshape_alias"), "Unflatten": ("view",), "Identity": ()},
    **{"GELUActivation": ("gelu",), "SiLUActivation": ("silu",), "Permute": ("permute",)},
}
_LINEAR = frozenset(
    (
        *(("addmm",), ("mm",), ("view", "addmm", "view")),
        *(("view", "mm", "unsafe_view"), ("unsafe_view", "mm", "view")),
    )
)
"""What a ``Linear`` runs in which only the input requires grad, also read backwards."""
_GATES = ("sigmoid", "sigmoid", "tanh", "sigmoid")
_STEP = (("add", "tanh"), ("add", "relu"))
_GRU = ("split", *("add", "sigmoid") * 2, *("mul", "add", "tanh", "sub", "mul", "add"))
_TAILS: dict[str, tuple[tuple[str, ...], ...]] = {
    "RNNCell": _STEP,
    "LSTMCell": (("add", "split", *_GATES, "mul", "mul", "add", "tanh", "mul"),),
    "GRUCell": (_GRU,),
    "RNN": (*_STEP, *((*step, "stack") for step in _STEP)),
    "GRU": (_GRU, (*_GRU, "stack")),
}
"""What a cell, or the last step of a recurrent module, runs after its last product."""
_MOST_CONTENTS = 12
_ELEMENTS = {NodeKind.PARAMETER: "parameters", NodeKind.LEAF: "leaf_elements"}
_MAY_BE_NOTHING = frozenset(
    (
        *("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "StochasticDepth", "DropPath"),
        *("Flatten", "Identity", "AvgPool2d", "AdaptiveAvgPool2d"),
    )
)
_HOLDERS = frozenset(("Sequential", "ModuleList", "ModuleDict"))
_LISTS = frozenset(("ModuleList", "ModuleDict"))
_IN_ORDER = ("Sequential", "ModuleList")
FACTS = ("shape", "dtype", "device")
ONE_OPERATION = frozenset(("Linear", "Conv1d", "Conv2d", "Conv3d", "LayerNorm", "Embedding"))
"""Classes that compute nothing else: what runs between two calls of one runs outside of it."""
# Only the first few words of a chain are kept, so that folding a million stays linear.
WORDS_KEPT = 6
_INSIDE_ANOTHER = "NonDynamicallyQuantizableLinear"  # its parent reads its parameters itself
_BEGINS = frozenset(("cat", "split", "chunk", "slice", "permute", "roll", "transpose", "view"))
_ATTENTION = "MultiheadAttention"
_TURNS = frozenset(("transpose", "view", "clone", "unsqueeze", "squeeze", "reshape", "unflatten"))


def is_wrapper(root_class: str | None) -> bool:
    """Whether the ``module`` inside a model of this class is not a name of the user's."""
    return root_class is None or root_class in WRAPPING_CLASSES


class GapUses(NamedTuple):
    """What the operations between two modules use, one entry for each.

    Args:
        skips: whether it adds something from before the first module.
        inner: if it adds something from inside the first module, from before a part of it, the
            length of the path of that part; else 0.
        asides: whether it uses nothing of the first module, or what is after them uses its input.
    """

    skips: Sequence[bool]
    inner: Sequence[int]
    asides: Sequence[bool]


class ModuleClasses:
    """The classes and the children of the modules of a graph.

    Args:
        modules: the class of each module, by its path, in the order of registration.
    """

    def __init__(self, modules: Mapping[str, str]) -> None:
        self.is_wrapped = is_wrapper(modules.get("") if modules else None)
        self._classes: dict[Path, str] = {}
        self._children: dict[Path, list[str]] = {}
        for name, word in modules.items():
            path = without_wrappers(name.split(".") if name else (), self.is_wrapped)
            if path not in self._classes and path:
                self._children.setdefault(path[:-1], []).append(path[-1])
            self._classes[path] = word
        self._bare: set[str] = set()  # classes that are known to begin with a parameter

    def __bool__(self) -> bool:
        return bool(self._classes)

    def class_of(self, path: Path) -> str:
        """The class of a module; "" if it is not known."""
        return self._classes.get(path, "")

    def caller(self, path: Path) -> Path:
        """The module that runs what uses the parameters of a module: mostly that one."""
        if self.class_of(path) in (_INSIDE_ANOTHER, "ParameterDict", "ParameterList"):
            return path[:-1]
        children = self._children.get(path, [])
        if self.class_of(path) == "ParametrizationList" and len(children) == 1:
            return (*path, children[0])
        return path

    def enters(self, before: Path, after: Path, last: Path | None) -> None:
        """Note which modules begin with the operation that uses a parameter, as others will.

        Args:
            before: the module that ran before.
            after: the one with the parameter.
            last: of the operation right before it; None if that is not known.
        """
        for depth in range(len(shared(before, after)) + 1, len(after)):
            if last is not None and last[:depth] != after[:depth]:
                self._bare.add(self.class_of(after[:depth]))

    def in_gap(
        self, before: Path, after: Path, ops: Sequence[str], uses: GapUses
    ) -> list[Path | None]:
        """The modules of the operations between two modules; None where it is not certain.

        Args:
            before: the module that ran before them; () for none.
            after: the one that ran after them; () for none.
            ops: their words, in order.
            uses: what the operations use.
        """
        found: list[Path | None] = [None] * len(ops)
        common = before[:-1] if before == after else shared(before, after)
        steps = _TAILS.get(self.class_of(before), ())
        tails = [each for each in steps if each == (*ops[: len(each)],)]
        first, last = max(map(len, tails), default=0), len(ops)
        found[:first] = [before] * first
        for module in self._following(before, after, common):
            if count := self._count_of(module, ops[first:last]):
                found[first : first + count] = [module] * count
                first += count
            elif self.class_of(module) not in _MAY_BE_NOTHING:
                break
        for module in self._preceding(after, len(common) + 1 if before else 0):
            if count := self._count_of(module, ops[first:last][::-1]):
                found[last - count : last] = [module] * count
                last -= count
            elif self.class_of(module) not in _MAY_BE_NOTHING:
                break
        named: dict[str, list[Path]] = {}
        if not before or not after:
            return found  # what runs before and after the model is not known
        around = _ATTENTION in (self.class_of(before), self.class_of(after))
        for at in range(first, last):
            if ops[at] == "mul":
                dropouts = self._candidates("dropout", before, after, common)
                if dropouts:  # one ran, or a product
                    if all(each[:-1] == common for each in dropouts):  # either way in that module
                        found[at] = self._own(before, after, common, False, is_skip=False)
                    continue
            if around and ops[at] in _TURNS:
                continue
            if ops[at] not in named:
                named[ops[at]] = self._without_bare(
                    self._candidates(ops[at], before, after, common), before, after
                )
            modules = named[ops[at]]
            if len(modules) == 1:
                found[at] = modules[0]
            elif not modules:
                begins = uses.asides[at] or ops[at] in _BEGINS
                found[at] = self._own(before, after, common, begins, is_skip=uses.skips[at])
            if found[at] is None and uses.inner[at]:
                outer = before[: uses.inner[at] - 1]  # it ran in this one, or in that part
                found[at] = outer if self._runs(outer) else before[: uses.inner[at]]
        for word, modules in named.items():
            places = [at for at in range(first, last) if ops[at] == word]
            if len(modules) == len(places):
                for at, module in zip(places, modules, strict=True):
                    found[at] = module
        return _up_to_ends(found, before, common, uses.inner)

    def _without_bare(self, found: list[Path], before: Path, after: Path) -> list[Path]:
        """Candidates without the parts of what begins with a parameter, unless none is left."""

        def is_bare(path: Path) -> bool:
            outer = path[:-1]
            is_entered = before[: len(outer)] != outer == after[: len(outer)]
            return is_entered and self.class_of(outer) in self._bare

        return [path for path in found if not is_bare(path)] or found

    def around(self, before: Path, after: Path) -> Path:
        """The innermost module that surely ran what ran between two others: no mere container."""
        common = (before[:-1] if before == after else shared(before, after)) if after else ()
        while common and not self._runs(common):
            common = common[:-1]
        return common

    def _count_of(self, module: Path, ops: Sequence[str]) -> int:
        """How many of some operations, from the first, a plain module ran; 0 if not that one."""
        if self.class_of(module) == "Linear":
            return next((count for count in (1, 3) if tuple(ops[:count]) in _LINEAR), 0)
        return int(bool(ops) and ops[0] in _PLAIN[self.class_of(module)])

    def _is_plain(self, module: Path) -> bool:
        """Whether a module in a sequence is known by its operations alone."""
        return self.class_of(module) in _PLAIN or self.class_of(module) == "Linear"

    def _following(self, before: Path, after: Path, common: Path) -> Iterator[Path]:
        """The plain modules that a sequence runs right after a module; the innermost first."""
        least = 0 if not after else len(common)
        for depth in range(len(before) - 1, least - 1, -1):
            parent = before[:depth]
            if not self._is_sequence(parent):
                return
            names = self._children.get(parent, [])
            at = names.index(before[depth]) if before[depth] in names else len(names)
            for name in names[at + 1 :]:
                is_next = after[: depth + 1] == (*parent, name)
                if is_next or not self._is_plain((*parent, name)):
                    return
                yield (*parent, name)

    def _preceding(self, after: Path, least: int) -> Iterator[Path]:
        """The plain modules that a sequence runs right before a module; the nearest first."""
        for depth in range(len(after) - 1, least - 1, -1):
            parent = after[:depth]
            if not self._is_sequence(parent):
                return
            names = self._children.get(parent, [])
            at = names.index(after[depth]) if after[depth] in names else 0
            for name in reversed(names[:at]):
                if not self._is_plain((*parent, name)):
                    return
                yield (*parent, name)

    def _is_sequence(self, path: Path) -> bool:
        """Whether a module runs its children one after another."""
        if self.class_of(path) == "Sequential":
            return True
        names = self._children.get(path, [])
        return self.class_of(path) not in _LISTS and bool(names) and all(map(str.isdecimal, names))

    def _candidates(self, word: str, before: Path, after: Path, common: Path) -> list[Path]:
        """The plain modules that can have run an operation between two modules."""
        chains = [*self._inside(before, common), *self._inside(after, common)]
        found = [
            (*parent, name)
            for parent in chains
            if not self._is_sequence(parent)
            for name in self._children.get(parent, [])
            if self._fits((*parent, name), word)
        ]
        names = self._children.get(common, [])
        fits = [name for name in names if self._fits((*common, name), word)]
        depth = len(common)
        ends = [path[depth] if len(path) > depth else "" for path in (before, after)]
        start = names.index(ends[0]) if ends[0] in names else -1
        stop = names.index(ends[1]) if ends[1] in names else len(names)
        between = [name for name in fits if start < names.index(name) < stop]
        if between or self._is_sequence(common):
            fits = between
        return [*found, *((*common, name) for name in fits)]

    def _inside(self, path: Path, common: Path) -> list[Path]:
        """The modules that run a module, inside the common one; itself if it has children."""
        most = len(path) + bool(self._children.get(path))
        return [path[:depth] for depth in range(len(common) + 1, most)]

    def _fits(self, path: Path, word: str) -> bool:
        own = self.class_of(path)
        return word in _PLAIN.get(own, ()) or (
            own not in _PLAIN and not self._children.get(path) and word in own.lower()
        )

    def _own(
        self, before: Path, after: Path, common: Path, begins: bool, *, is_skip: bool
    ) -> Path | None:
        """The module whose own code ran an operation; None where there are several."""
        left = [each for each in self._inside(before, common) if self._runs(each)]
        right = [each for each in self._inside(after, common) if self._runs(each)]
        if not self._runs(common):
            is_end = len(left) == 1 and not (right and begins)
            return left[0] if left and (is_skip or is_end) else None
        if (not left and not right) or (is_skip and not right):
            return common
        return None

    def _runs(self, path: Path) -> bool:
        """Whether a module has code of its own around its children, which a container has not.

        Attention ends with its projection; what turns its result is known before.
        """
        without = (*_HOLDERS, _ATTENTION)
        return self.class_of(path) not in without and not self._is_sequence(path)


def _up_to_ends(
    found: Sequence[Path | None], before: Path, common: Path, are_ends: Sequence[int]
) -> list[Path | None]:
    """The modules; what ran before the end of the module before ran in it."""
    filled = list(found)
    end: Path = ()
    for at in reversed(range(len(found))):
        path = found[at]
        if path is None and len(end) > len(common):
            filled[at] = end
        elif path is not None and are_ends[at]:
            end = shared(path, before)
    return filled


def is_skip(sequence: OpSequence, place: int, first: int, earliest: int = 0) -> bool:
    """Whether an operation adds a tensor from before a module, which began at a place."""
    inputs = [source for source in sequence.inputs(place) if source >= 0]
    is_sum = sequence.data[place].get("op") == "add" and len(inputs) == 2
    return is_sum and earliest <= min(inputs) < first <= max(inputs)


def torn_modules(sequence: OpSequence, paths: Sequence[Path]) -> set[Path]:
    """The modules of which a fold that is no module, and no whole steps of a loop, has a part."""
    return {
        inside[: depth + 1]
        for place, path in enumerate(paths)
        if (data := sequence.data[place]).keys().isdisjoint(("module_class", "first_step", "whole"))
        for inside in (tuple(name.split(".")) for name in data.get("contents", ()))
        for depth in range(len(path), len(inside))
    }


def partly_called(
    sequence: OpSequence, labels: Sequence[Path], calls: Iterable[tuple[int, int]]
) -> set[Path]:
    """The modules of which some ranges use only a part of the parameters: they are no calls."""
    used: dict[Path, list[set[int]]] = {}
    for start, stop in calls:
        used.setdefault(labels[start], []).append(sequence.parameters_in(range(start, stop)))
    return {label for label, own in used.items() if any(each != own[0] for each in own)}


def contents_of(paths: Sequence[Path]) -> dict[str, tuple[str, ...]]:
    """The modules in a group, as an attribute; none if there is only one."""
    known = [".".join(path) for path in dict.fromkeys(paths) if path]
    more = ("…",) if len(known) > _MOST_CONTENTS else ()
    return {"contents": (*known[:_MOST_CONTENTS], *more)} if len(known) > 1 else {}


def is_partial(sequence: OpSequence, paths: Sequence[Path], places: range, path: Path) -> bool:
    """Whether the module may have run more: what joins projections, or what frozen layers ran."""
    if sequence.lacks_frozen(paths, places, path):
        return True
    if "attention" not in sequence.modules.get(".".join(path), "").lower():
        return False
    inner = {paths[place][len(path) :] for place in places}
    last_use = sequence.last_use
    leaving = {paths[place] for place in places if last_use[place] >= places.stop}
    return () not in inner and len(leaving) > 1


def facts_of_modules(graph: GradGraph, modules: Iterable[str], module: str) -> NodeData:
    """The class of the modules that a group is, and the elements of their parameters not drawn.

    Args:
        graph: knows the classes and the parameters that it does not contain.
        modules: their paths; "" for none.
        module: of a group that is none, the path of the one that it is a part of; "" for none.
    """
    paths = {path for path in modules if path}
    classes = {graph.graph.get("modules", {}).get(each, "") for each in paths}
    found = NodeData()
    if len(classes) == 1 and (word := classes.pop()):
        found["module_class"] = word
    if module and not paths and (word := _class_around(graph, module)):
        found["part_of"] = word
    counts = Counter[str]()
    for each in paths:
        counts.update(undrawn_in(graph, each))
    return cast("NodeData", {**found, **counts})


def _class_around(graph: GradGraph, module: str) -> str:
    """The class of a module, or of the one around it if it is a mere container."""
    classes: Mapping[str, str] = graph.graph.get("modules", {})
    while module and classes.get(module, "") in _HOLDERS:
        module = module.rpartition(".")[0]
    return classes.get(module, "") if module in classes else ""


def edge_behind(edge: Mapping[str, Any], module: str, user: str) -> dict[str, Any]:
    """The attributes of an edge to a user, without the folded operations that a module ran."""
    own = _reshapes_in(edge, module, user)
    cut = {fact: edge[fact][own:] for fact in ("through", "reshaped") if own}
    return {fact: each for fact, each in {**edge, **cut}.items() if each != ()}


def _reshapes_in(edge: Mapping[str, Any], module: str, user: str) -> int:
    """How many of the operations that were folded into an edge, from the first, a module ran.

    A module inside of it that uses the result ran the others.
    """

    def is_in(own: str, path: str) -> bool:
        return bool(path) and f"{own}.".startswith(f"{path}.")

    ends = user if user != module and is_in(user, module) else ""
    inside = (is_in(own, module) and not is_in(own, ends) for own, _ in edge.get("reshaped", ()))
    return [*inside, False].index(False)


def shape_leaving(
    edge: EdgeData, facts: NodeData, module: str, user: str, is_plain: bool
) -> NodeData:
    """The shape of what leaves a module through an edge, if it is not that of the last operation.

    Args:
        edge: from the last operation of the module.
        facts: of that operation; its shape is removed if that of the output is not sure.
        module: the path of the module.
        user: the path of the one that uses the output.
        is_plain: whether the module reshapes its result only where that is known.
    """
    own, rows = _reshapes_in(edge, module, user), edge.get("reshaped", ())
    found = NodeData(shape=rows[own - 1][1]) if own else NodeData()
    unsure = itertools.takewhile(lambda row: not row[0], rows[own:])
    shape = found.get("shape", facts.get("shape"))
    if not is_plain and (any(other != shape for _, other in unsure) or own == WORDS_KEPT):
        facts.pop("shape", None)
        return NodeData()
    return found


def output_facts(nodes: Sequence[Any]) -> dict[str, Any]:
    """Shape, dtype and device of the output of a group; all shapes if only these differ."""
    found: list[dict[str, Any]] = [{f: d.get(f) for f in FACTS if f in d} for d in nodes]
    same = {fact: found[0][fact] for fact in found[0] if fact != "shape"}
    if any({**each, "shape": ()} != {**same, "shape": ()} for each in found):
        return {}
    shapes = tuple(dict.fromkeys(each.get("shape") for each in found))
    if None in shapes:
        return same if len(found) == 1 else {}
    return {**same, "shapes": shapes} if len(shapes) > 1 else found[0]


class ModuleEnds:
    """The first and the last modules of sequences and lists.

    Args:
        classes: of the modules, by their path, in the order of registration.
    """

    def __init__(self, classes: Mapping[str, str]) -> None:
        self.classes = classes
        self._last = {path.rpartition(".")[0]: path for path in classes if path}
        self._first = {path.rpartition(".")[0]: path for path in [*classes][::-1] if path}

    def last(self, module: str) -> str:
        """The class of what a module ends with."""
        while self.classes.get(module) in _IN_ORDER and module in self._last:
            module = self._last[module]
        return self.classes.get(module, "")

    def plain(self, leaving: Iterable[tuple[str, int, bool]]) -> Set[str]:
        """The classes that do not reshape their result, as what leaves one of them tells.

        Args:
            leaving: for each edge out of a module, the module, the place of its source, and
                whether the result is reshaped on it.
        """
        places: dict[str, set[int | None]] = {}
        for module, place, is_reshaped in leaving:
            places.setdefault(module, set()).add(None if is_reshaped else place)
        alone = {
            self.last(m) for m, own in places.items() if m and len(own) == 1 and None not in own
        }
        return ONE_OPERATION | alone - {""}

    def shape_given(
        self, nodes: Sequence[Any], module: str, shape: tuple[int, ...]
    ) -> tuple[int, ...] | None:
        """The shape of the input of a module whose class says it; None if it does not.

        Args:
            nodes: the attributes of those in the module, or in each of several alike.
            module: its path.
            shape: of its output.
        """
        word = self.classes.get(module, "")
        if word == "Embedding":
            return shape[:-1] if any(node.get("op") == "embedding" for node in nodes) else None
        tensors = [node for node in nodes if "shape" in node]
        untracked = [n for n in tensors if n["kind"] is NodeKind.UNTRACKED]
        given = [n["shape"] for n in untracked if "op" not in n and "name" not in n]
        if word == "Linear":
            weights = (n["shape"] for n in tensors if n["kind"] is NodeKind.PARAMETER)
            sizes = {own[1] for own in weights if len(own) == 2 and own[:1] == shape[-1:]}
            # The parameters of a layer that is called again are elsewhere.
            rows = element_count(shape[:-1])
            sizes = sizes or {own[-1] for own in given if element_count(own[:-1]) == rows}
            return (*shape[:-1], sizes.pop()) if len(sizes) == 1 else None
        while self.classes.get(module) == "Sequential" and module in self._first:
            module = self._first[module]
        is_sure = len(given) == 1 and self.classes.get(module, "").startswith("Conv")
        return given[0] if is_sure else None


def shapes_entering(graph: GradGraph, keys: Set[str], module: str) -> Set[tuple[int, ...] | None]:
    """The shapes of the tensors that nodes of a module get; None if one is not sure."""
    found: dict[tuple[int, ...] | None, None] = {}
    for source, _, edge in graph.in_edges(keys, data=True):
        node: NodeData = graph.nodes[source]
        kind, name = node["kind"], node.get("name", "")
        if source in keys or kind is NodeKind.PARAMETER or is_box_of_leaves(node):
            continue
        is_tracked = node.get("members") or kind in (NodeKind.OPERATION, NodeKind.LEAF)
        places = name, "" if is_tracked else node.get("module", "")
        is_own = module and any(f"{place}.".startswith(f"{module}.") for place in places)
        if is_own and (kind is NodeKind.LEAF or not is_tracked):
            continue  # a mask, a buffer
        # A tensor without a name may have been made of the input.
        found[_shape_entering(edge, node, module) if is_tracked or name else None] = None
    return found.keys()


def _shape_entering(edge: EdgeData, source: NodeData, module: str) -> tuple[int, ...] | None:
    """The shape of what a module gets through an edge, before it reshapes it; None if not sure."""
    rows = edge.get("reshaped", ())
    shape = source.get("shape") if not edge.get("output") else None
    if len(rows) != len(edge.get("through", ())):
        return None
    for own, after in rows:
        if f"{own}.".startswith(f"{module}."):
            break
        if not own and after != shape:
            return None
        shape = after
    else:
        return shape if len(rows) < WORDS_KEPT else None
    return shape


UNDRAWN = ("frozen", "unreached")


def undrawn_in(graph: GradGraph, path: str) -> dict[str, int]:
    """The numbers of elements of the parameters of a module that are not in the graph."""
    rows = ((fact, graph.graph.get(fact, {}).items()) for fact in UNDRAWN)
    counts = {f: sum(n for name, n in row if name.startswith(f"{path}.")) for f, row in rows}
    return {fact: count for fact, count in counts.items() if count}


def elements_of(nodes: Iterable[Any]) -> dict[str, int]:
    """The number of elements of the parameters among nodes, and of the leaves that are none.

    Example:
        >>> elements_of([{"kind": NodeKind.LEAF, "shape": (2, 3)}])
        {'leaf_elements': 6}
    """
    found: dict[str, int] = {}
    for node in nodes:
        counts = {fact: node[fact] for fact in _ELEMENTS.values() if fact in node}
        if own := _ELEMENTS.get(node["kind"]):
            counts = {own: element_count(node.get("shape", (0,)))}
        found.update((fact, found.get(fact, 0) + count) for fact, count in counts.items())
    return found
