"""The tree of groups that a reader of the viewer opens and closes.

A picture shows some operations as groups. The tree contains the content of each group by levels:
what a view folded, then its modules, then single repetitions or chunks, so that an opened group
shows a few dozen items and not thousands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gradviz.graph import TENSORS, GradGraph, NodeKind, leaf_uses
from gradviz.graph.text import shared_by
from gradviz.views.groups import INSIDE, sums_of
from gradviz.views.module_classes import facts_of_modules
from gradviz.views.modules import module_of, module_paths
from gradviz.views.op_sequence import op_sequence, words_of

TOP, LEFT_OUT = -1, -2
"""Instead of a group number: the node is in no group; the picture does not show the node."""

_MOST = 40  # items that a group shows side by side; if there are more, chunks become groups
_Path = tuple[str, ...]
_Item = tuple[str, dict[str, Any]]


@dataclass
class FoldGroup:
    """A group that can be opened."""

    key: str  # equal for the same group in every frame of a recording
    data: dict[str, Any]  # its attributes, like those of a node
    parent: int  # the number of the group that contains it; `TOP` for none
    is_open: bool = False  # whether the picture shows its content
    seen: str = ""  # its key in the picture; "" for a group that the picture does not show


@dataclass
class FoldTree:
    """All groups, each after its parent, and the group of each node.

    Args:
        groups: the groups.
        parents: by key of a node, the number of its group, `TOP` or `LEFT_OUT`.
        modules: by key of a node, the path of its module, if known.
    """

    groups: list[FoldGroup] = field(default_factory=list)
    parents: dict[str, int] = field(default_factory=dict)
    modules: dict[str, str] = field(default_factory=dict)


def fold_tree(graph: GradGraph, seen: GradGraph) -> FoldTree:
    """Find the content of each group of a picture.

    Args:
        graph: as it was recorded.
        seen: the graph after the views, under `keep_inside`.

    Example:
        >>> from gradviz.views import fit_page
        >>> from gradviz.views.groups import keep_inside
        >>> graph = GradGraph()
        >>> for n in range(99): graph.add_node(f"n{n}", kind=NodeKind.OPERATION, op="sin")
        >>> for n in range(98): _ = graph.add_edge(f"n{n}", f"n{n + 1}", 0)
        >>> with keep_inside():
        ...     tree = fold_tree(graph, fit_page(graph))
        >>> len([group for group in tree.groups if group.parent == TOP]), tree.parents["n98"]
        (1, -1)
    """
    return _Builder(graph).build(seen)


@dataclass(frozen=True)
class _Repeats:
    """Some of several repetitions of the same operations."""

    once: int  # the number of operations of one repetition
    first: int  # the number of the first one, from 0
    count: int  # the number of these repetitions
    total: int  # the number of all repetitions

    @property
    def together(self) -> int:
        """The number of repetitions per group, so that there are not too many groups."""
        return 1 if self.count <= _MOST else -(-self.count // _MOST)

    @property
    def words(self) -> str:
        """The name of a group of repetitions: ``26…50 of 998``."""
        last = f"…{self.first + self.count:,}" if self.count > 1 else ""
        return f"{self.first + 1:,}{last} of {self.total:,}"

    def part(self, number: int) -> _Repeats:
        """The repetitions of one of the groups."""
        start = number * self.together
        count = min(self.together, self.count - start)
        return _Repeats(self.once, self.first + start, count, self.total)


class _Builder:
    def __init__(self, graph: GradGraph) -> None:
        self.graph = graph
        self.tree = FoldTree()
        self.taken: dict[str, int] = {}
        units = op_sequence(graph)
        self.order = {key: place for place, key in enumerate(units.keys)}
        self.paths: dict[str, _Path] = dict(zip(units.keys, module_paths(units), strict=True))
        for key, data in graph._node.items():
            if data["kind"] in TENSORS and (path := module_of(data.get("name", ""))):
                self.paths[key] = path
        self.tree.modules = {key: ".".join(path) for key, path in self.paths.items() if path}

    def build(self, seen: GradGraph) -> FoldTree:
        items = [
            (key, data)
            for key, data in seen._node.items()
            if "clone_of" not in data and (key in self.graph or INSIDE in data)
        ]
        self._split(items, TOP, (), is_open=True)
        parents = self.tree.parents
        for key in self.graph:
            if key not in parents:
                parents[key] = self._beside(key, seen)
        return self.tree

    def _beside(self, key: str, seen: GradGraph) -> int:
        """The group of a node that the picture hides: that of the node it was merged into."""
        data, parents = self.graph._node[key], self.tree.parents
        if data["kind"] is NodeKind.OPERATION or data["kind"] is NodeKind.ACCUMULATE:
            for source in self.graph._pred[key]:
                if parents.get(source, LEFT_OUT) != LEFT_OUT:
                    return parents[source]
                for further in self.graph._pred[source]:
                    if parents.get(further, LEFT_OUT) != LEFT_OUT:
                        return parents[further]
        return LEFT_OUT

    def _put(self, item: _Item, parent: int) -> None:
        key, data = item
        if key in self.graph:
            self.tree.parents[key] = parent
            return
        inside: Mapping[str, dict[str, Any]] = data[INSIDE]
        plain = {name: value for name, value in data.items() if name != INSIDE}
        number = self._add(list(inside.items()), plain, parent, is_open=False)
        self.tree.groups[number].seen = key if parent == TOP or self._shows(parent) else ""
        items = list(inside.items())
        if not self._split_repeats(items, plain, number):
            self._split(items, number, ())

    def _shows(self, number: int) -> bool:
        """Whether the content of a group is visible, because all its parents are open."""
        while number != TOP:
            if not self.tree.groups[number].is_open:
                return False
            number = self.tree.groups[number].parent
        return True

    def _add(
        self, items: Sequence[_Item], data: dict[str, Any], parent: int, *, is_open: bool
    ) -> int:
        first = min((self._first(item) for item in items), default=(0, ""))[1]
        key = plain_key = f"{first}+{len(items)}"
        while key in self.taken:
            self.taken[plain_key] += 1
            key = f"{plain_key}.{self.taken[plain_key]}"
        self.taken[key] = 0
        self.tree.groups.append(FoldGroup(key, data, parent, is_open))
        return len(self.tree.groups) - 1

    def _first(self, item: _Item) -> tuple[int, str]:
        """The position of an item in the order of the program, and its key."""
        key, data = item
        if key in self.order:
            return self.order[key], key
        if INSIDE in data:
            return min((self._first(each) for each in data[INSIDE].items()), default=(0, key))
        return len(self.order), key

    def _path(self, item: _Item) -> _Path:
        key, data = item
        if key in self.paths:
            return self.paths[key]
        module = str(data.get("module", ""))
        return tuple(module.split(".")) if module else ()

    def _split(
        self, items: Sequence[_Item], parent: int, prefix: _Path, *, is_open: bool = False
    ) -> None:
        """Add items to a group, those of one module in a subgroup."""
        known = [path for item in items if (path := self._path(item))[: len(prefix)] == prefix]
        common = shared_by([path for path in known if path]) if any(known) else ()
        prefix = max(prefix, common, key=len)
        parts: dict[str, list[_Item]] = {}
        rest: list[_Item] = []
        for item in items:
            path = self._path(item)
            if len(path) > len(prefix) and path[: len(prefix)] == prefix:
                parts.setdefault(path[len(prefix)], []).append(item)
            else:
                rest.append(item)
        single = [name for name, part in parts.items() if len(part) < 2]
        rest += [item for name in single for item in parts.pop(name)]
        for name, part in parts.items():
            path = (*prefix, name)
            module = ".".join(path)
            facts = {
                "name": module,
                "module": module,
                **facts_of_modules(self.graph, [module], module),
            }
            described = self._described(part, facts)
            number = self._add(part, described, parent, is_open=is_open)
            self._split(part, number, path, is_open=is_open)
        self._spread(rest, parent)

    def _spread(self, items: Sequence[_Item], parent: int) -> None:
        """Add items to a group; if there are very many, in chunks of about equal length."""
        steps = [item for item in items if item[0] in self.order or INSIDE in item[1]]
        if len(steps) <= _MOST or parent == TOP or self._shows(parent):
            for item in items:
                self._put(item, parent)
            return
        steps.sort(key=self._first)
        length = -(-len(steps) // _MOST)
        chunks = [steps[at : at + length] for at in range(0, len(steps), length)]
        words = [words_of([data for _, data in chunk]) for chunk in chunks]
        self._put_chunks(items, chunks, words, parent)

    def _split_repeats(self, items: Sequence[_Item], data: Mapping[str, Any], parent: int) -> bool:
        """Add each repetition as a group; False if they are indistinguishable."""
        count = int(data.get("repeat", 0))
        steps = sorted((item for item in items if item[0] in self.order), key=self._first)
        names = {self._path(item) for item in steps}
        is_stack = len(names) >= count > 1
        if count < 2 or is_stack or len(steps) < 2 * count or len(steps) % count:
            return False
        self._put_repeats(items, steps, _Repeats(len(steps) // count, 0, count, count), parent)
        return True

    def _put_chunks(
        self,
        items: Sequence[_Item],
        chunks: Sequence[list[_Item]],
        words: Sequence[str],
        parent: int,
        repeats: _Repeats | None = None,
    ) -> None:
        """Create a group for each chunk, with the leaves that nothing else uses."""
        owner = {item[0]: number for number, chunk in enumerate(chunks) for item in chunk}
        chunks = [chunk.copy() for chunk in chunks]
        beside: list[_Item] = []
        for item in items:
            if item[0] in owner:
                continue
            uses = leaf_uses(self.graph, item[0]) if item[0] in self.graph else ()
            numbers = {owner.get(user) for user, _ in uses}
            number = numbers.pop() if len(numbers) == 1 else None
            if number is None:
                beside.append(item)
            else:
                chunks[number].append(item)
        for at, (chunk, word) in enumerate(zip(chunks, words, strict=True)):
            steps = [item for item in chunk if item[0] in owner]
            number = self._add(steps, self._described(chunk, {"op": word}), parent, is_open=False)
            if repeats and repeats.together > 1:
                self._put_repeats(chunk, steps, repeats.part(at), number)
            else:
                self._split(chunk, number, ())
        for item in beside:
            self._put(item, parent)

    def _put_repeats(
        self, items: Sequence[_Item], steps: Sequence[_Item], repeats: _Repeats, parent: int
    ) -> None:
        """Create a group for each repetition, or for several consecutive ones if there are many."""
        length = repeats.once * repeats.together
        chunks = [list(steps[at : at + length]) for at in range(0, len(steps), length)]
        words = [repeats.part(at).words for at in range(len(chunks))]
        self._put_chunks(items, chunks, words, parent, repeats)

    def _described(self, items: Sequence[_Item], known: dict[str, Any]) -> dict[str, Any]:
        """The attributes of a group of items."""
        nodes = [data for _, data in items]
        steps = [item for item in items if item[0] in self.order or INSIDE in item[1]]
        last = max(steps, key=self._first)[1] if steps else {}
        return {**sums_of(nodes, last), **known}
