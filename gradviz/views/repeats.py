"""Find repetitions in the op sequence, and draw each once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import compress, islice
from typing import Any, NamedTuple

import numpy as np

from gradviz.graph import GradGraph, NodeKind
from gradviz.graph.text import Path, shared, shared_by
from gradviz.views.groups import Part, contract, count_of_nodes
from gradviz.views.module_classes import contents_of
from gradviz.views.modules import check_depth, is_inferred, module_paths, root_of
from gradviz.views.op_sequence import Ints, OpSequence, op_sequence, words_of
from gradviz.views.siblings import gradient_state, names_in_short
from gradviz.views.view import along_the_data, view


class TandemRun(NamedTuple):
    """The range from ``start`` to before ``stop`` that equals itself ``period`` further on."""

    start: int
    stop: int
    period: int


def runs(row: Ints, fewest: int = 3) -> Iterator[list[TandemRun]]:
    """The ranges in which the same part occurs at least ``fewest`` times, shortest part first.

    Args:
        row: numbers; equal numbers stand for equal operations.
        fewest: 3 or more.

    Yields:
        For the lengths 1, 2, 3 to 4, 5 to 8, ...: the ranges, longest first, that do not overlap.

    Example:
        >>> row = np.array([9, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 7])
        >>> [found for level in runs(row) for found in level]
        [TandemRun(start=1, stop=11, period=3)]
    """
    names = np.unique(row, return_inverse=True)[1].astype(np.int64)
    length = 1
    while length * 3 <= 2 * len(row) + 2:
        distance = _distances(names)
        if not distance.any():
            return
        yield _apart(_tandem_runs(distance, length), fewest)
        if len(names) <= length:
            return
        pairs = names[:-length] * (int(names.max()) + 1) + names[length:]
        names = np.unique(pairs, return_inverse=True)[1].astype(np.int64)
        length *= 2


def _distances(names: Ints) -> Ints:
    """The distance of each word to its previous occurrence; 0 if there is none."""
    order = np.argsort(names, kind="stable")
    same = names[order[1:]] == names[order[:-1]]
    distance = np.zeros(len(names), np.int64)
    distance[order[1:][same]] = (order[1:] - order[:-1])[same]
    return distance


def _tandem_runs(distance: Ints, length: int) -> list[TandemRun]:
    """Ranges in which words of that length recur at one distance of about that length."""
    edges = np.flatnonzero(np.diff(distance)) + 1
    starts = np.concatenate(([0], edges))
    stops = np.concatenate((edges, [len(distance)]))
    periods = distance[starts]
    right = (periods > length // 2) & (periods <= length)
    columns = (each[right].tolist() for each in (starts, stops, periods))
    rows = zip(*columns, strict=True)
    return [TandemRun(start - period, stop + length - 1, period) for start, stop, period in rows]


def _apart(found: list[TandemRun], fewest: int) -> list[TandemRun]:
    found = [run for run in found if run.stop - run.start >= fewest * run.period]
    found.sort(key=lambda run: (run.start - run.stop, run.start))
    if not found:
        return []
    taken = np.zeros(max(run.stop for run in found), bool)
    kept = []
    for run in found:
        if not taken[run.start : run.stop].any():
            taken[run.start : run.stop] = True
            kept.append(run)
    return kept


_FEWEST = 3  # occurrences of a repetition
_WORTH_FOLDING = 4  # operations that folding a loop must save
_MOST_CUTS = 64


@dataclass(frozen=True, order=True)
class Repeat:
    """The range from ``start`` to before ``stop``: the same ``length`` operations repeated."""

    start: int  # the first operation
    stop: int  # after the last operation
    length: int  # operations of one repetition
    stack: bool  # whether each repetition is its own module, like ``layers.0``, ``layers.1``, ..

    @property
    def count(self) -> int:
        """The number of repetitions."""
        return (self.stop - self.start) // self.length


def repeats_of(sequence: OpSequence, paths: Sequence[Path]) -> list[Repeat]:
    """Find repetitions, inner loops before the loops around them.

    Args:
        sequence: the op sequence.
        paths: the module of each operation.
    """
    search = _Search(sequence, paths)
    while search.fold_shortest():
        pass
    return search.found


class Stack(NamedTuple):
    """The numbering of a stack of modules, or of stacks in a stack."""

    prefix: Path  # the path of the module that contains all
    level: int  # where the paths of successive repetitions begin to differ


def stack_of(paths: Sequence[Path], repeat: Repeat) -> Stack | None:
    """``("encoder", "layers"), 2``; None if the repetitions are not modules."""
    for place in range(repeat.start, repeat.start + repeat.length):
        one, next_one = paths[place], paths[place + repeat.length]
        if one != next_one:
            level = next(n for n, (a, b) in enumerate(zip(one, next_one, strict=True)) if a != b)
            path = paths[place + (repeat.count - 1) * repeat.length][: level + 1]
            if one[: level + 1] == path:  # modules that take turns
                return None
            at = next(n for n, (a, b) in enumerate(zip(one, path, strict=False)) if a != b)
            return Stack(one[:at], level)
    return None


def is_led_up_to(sequence: OpSequence, repeat: Repeat) -> bool:
    """Whether the operations before have the words of the repetition, but other inputs.

    This is the case when the first step of a loop starts from a constant.
    """
    return _is_alike(sequence, repeat, repeat.start - repeat.length)


def _is_alike(sequence: OpSequence, repeat: Repeat, first: int) -> bool:
    """Whether the operations from a place on have the words of the repetition."""
    words = (
        [sequence.data[place].get("op") for place in range(start, start + repeat.length)]
        for start in (first, repeat.start)
        if 0 <= start <= len(sequence) - repeat.length
    )
    one, *others = words
    return others == [one]


@lru_cache(maxsize=65536)
def _without_numbers(text: str) -> str:
    return re.sub(r"\d+", "#", text)


class _Search:
    """Folds the shortest repetition, then what repeats in the result, and so on.

    ``starts`` contains the first operation of each item, ``row`` a number that equal items share.
    At first each operation is an item; a folded repetition is one item.
    """

    def __init__(self, sequence: OpSequence, paths: Sequence[Path]) -> None:
        self.sequence, self.paths = sequence, paths
        self.found: list[Repeat] = []
        self.starts: Ints = np.arange(len(sequence) + 1)
        self.row, self.names = _rows(sequence, paths)
        self.last_use = sequence.last_use

    def fold_shortest(self) -> bool:
        """Fold the repetitions with the shortest part; False if nothing repeats."""
        if len(self.row) < _FEWEST:
            return False
        for level in runs(self.row, _FEWEST):
            fresh = sorted(repeat for run in level for repeat in self._repeats(run))
            if fresh:
                self.found += fresh
                self._fold(fresh)
                return True
        return False

    def _fold(self, fresh: Sequence[Repeat]) -> None:
        rows, starts, done = [], [], 0
        for repeat in fresh:
            first, stop = np.searchsorted(self.starts, (repeat.start, repeat.stop)).tolist()
            length = (stop - first) // repeat.count
            keep = 0 if repeat.stack else length
            part = tuple(self.row[first : first + length].tolist())
            name = self.names.setdefault((part, repeat.count), len(self.names))
            rows += [self.row[done : first + keep], np.array([name])]
            starts += [self.starts[done : first + keep + 1]]
            done = stop - keep
        self.row = np.concatenate([*rows, self.row[done:]])
        self.starts = np.concatenate([*starts, self.starts[done:]])

    def _repeats(self, run: TandemRun) -> Iterator[Repeat]:
        """The repetitions in a run with equal connections, each with its best start."""
        first, stop = int(self.starts[run.start]), int(self.starts[run.stop])
        length = int(self.starts[run.start + run.period]) - first
        for start, end in self._joined_alike(first, stop, length):
            low = int(np.searchsorted(self.starts, start))
            high = int(np.searchsorted(self.starts, end, side="right")) - 1
            begins = self.starts[low : low + run.period].tolist()
            if low + _FEWEST * run.period <= high:
                yield from self._best(begins, int(self.starts[high]), length)

    def _joined_alike(self, start: int, stop: int, length: int) -> Iterator[tuple[int, int]]:
        """The ranges in which the inputs of corresponding operations have equal origins.

        They come from the same distance, or from the same operation, or from before the second
        repetition.
        """
        bounds, sources = self.sequence.starts, self.sequence.sources
        for _ in range(_MOST_CUTS):
            if stop - start < _FEWEST * length:
                return
            one = sources[bounds[start] : bounds[stop - length]]
            other = sources[bounds[start + length] : bounds[stop]]
            before = start + length
            alike = (other - one == length) | (other == one) | ((one < before) & (other < before))
            if alike.all():
                yield start, stop
                return
            slot = int(np.argmin(alike)) + int(bounds[start])
            bad = int(np.searchsorted(bounds, slot, side="right")) - 1
            if bad + length - start >= _FEWEST * length:
                yield start, bad + length
            start = bad + 1

    def _best(self, begins: list[int], stop: int, length: int) -> Iterator[Repeat]:
        """Start at a module, or where the fewest values cross and parameters are used."""
        first = begins[0]
        around = shared_by([path for path in self.paths[first : first + length] if path])
        crossing = np.zeros(2 * length + 2, np.int64)
        window = np.arange(2 * length)
        ends = np.minimum(self.last_use[first : first + 2 * length] - first, window + length)
        np.add.at(crossing, window + 1, 1)
        np.add.at(crossing, np.minimum(ends, 2 * length) + 1, -1)
        crossing = np.cumsum(crossing)
        whole = Repeat(first, stop, length, False)
        steps = (self.paths[at : at + length] for at in (first, first + length))
        stack = None if next(steps) == next(steps) else stack_of(self.paths, whole)
        starts = self._starts_of_calls(first, length)
        choices = []
        for begin in begins:
            count = (stop - begin) // length
            if count >= _FEWEST:
                inside = stack is None or not self._begins_module(begin, stack)
                across = int(crossing[begin - first + length])
                midway = not self.sequence.parameters(begin)
                before = self.paths[begin - 1] if begin else ()
                is_entered = around and before[: len(around)] != around
                repeat = Repeat(begin, begin + count * length, length, stack is not None)
                alone = not is_led_up_to(self.sequence, repeat)
                # A step has whole calls where they were recorded.
                ran_in = [self.sequence.data[max(at, 0)].get("calls") for at in (begin - 1, begin)]
                torn = bool(ran_in[0]) and ran_in[0] == ran_in[1]
                torn |= bool(starts) and begin not in starts
                ranks = inside, across, not is_entered, midway, torn, -count, alone
                choices.append((ranks, repeat))
        repeat = min(choices)[1]
        if stack is not None or self._is_worth(repeat):
            yield repeat

    def _starts_of_calls(self, first: int, length: int) -> set[int]:
        """Where calls of the only module of a loop begin, which uses its parameters again then."""
        path = self.paths[first]
        own = {*self.paths[first : first + length]}
        if not path or own != {path} or "calls" in self.sequence.data[first]:
            return set()
        start = first
        while start and self.paths[start - 1] == path and first - start <= length:
            start -= 1
        if first - start > length:
            return set()  # where the first call began is not near
        found, used = {start}, set[int]()
        for place in range(start, min(first + 2 * length, len(self.paths))):
            parameters = self.sequence.parameters_of_a_call([place])
            if not used.isdisjoint(parameters):
                found.add(place)
                used = set()
            used |= parameters
        return found

    def _begins_module(self, place: int, stack: Stack) -> bool:
        at, top = stack.level, len(stack.prefix)
        # Of what runs between two layers it may not be known that it is in one of them.
        earlier = (self.paths[each] for each in range(place - 1, -1, -1))
        own = _first_deeper(islice(self.paths, place, None), at)
        return own != _first_deeper(earlier, at) and own[:top] == stack.prefix

    def _is_worth(self, repeat: Repeat) -> bool:
        """Whether folding a loop saves enough, and each step uses a result of the previous step."""
        bounds, length = self.sequence.starts, repeat.length
        second = repeat.start + length
        sources = self.sequence.sources[bounds[second] : bounds[second + length]]
        chained = bool(((sources >= repeat.start) & (sources < second)).any())
        return chained and (repeat.count - 2) * length >= _WORTH_FOLDING


def _rows(sequence: OpSequence, paths: Sequence[Path]) -> tuple[Ints, dict[object, int]]:
    """A number for each operation, equal for the same operations, and the facts by number."""
    leaf_names: dict[object, int] = {}
    leaves = []
    for leaf in sequence.leaves:
        name = _without_numbers(leaf.get("name", ""))
        known = map(leaf.get, ("kind", "shape", "dtype", "device", "verdict"))
        kind = (*known, name, gradient_state(leaf))
        leaves.append(-1 - leaf_names.setdefault(kind, len(leaf_names)))
    names: dict[object, int] = {}
    bounds = sequence.starts.tolist()
    # An input is described by the kind of its leaf; for a result of an operation it is 0.
    kinds = np.append(leaves, 0)[np.maximum(-1 - sequence.sources, -1)].tolist()
    plain = {path: tuple(map(_without_numbers, path)) for path in set(paths)}
    row = np.empty(len(sequence), np.int64)
    operation = NodeKind.OPERATION
    for place, data in enumerate(sequence.data):
        get, joined = data.get, tuple(kinds[bounds[place] : bounds[place + 1]])
        facts: tuple[object, ...]
        facts = get("op"), get("shape"), get("dtype"), plain[paths[place]], joined
        if data["kind"] is not operation:
            facts = (*facts, data.get("structure"), data.get("repeat"))
        if not sequence.foldable(place):
            facts = (*facts, place)
        row[place] = names.setdefault(facts, len(names))
    return row, names


_MOST_NAMED = 3  # modules in the title of a loop


@view
@along_the_data
def fold_repeats(graph: GradGraph, *, depth: int | None = None) -> GradGraph:
    """Draw parts that repeat three or more times, each using the previous one, as a node ``×n``.

    The first and the last step of a loop stay as they are; those between become one node. Stacked
    layers, such as ``layers.0`` to ``layers.11``, become one node.

    Args:
        graph: repetitions are found by operations, shapes and connections; modules help to find
            where a part begins.
        depth: as for `group_by_module`; the first of stacked layers that are less deep stays
            unfolded, so that its content is visible. None folds them all.

    Returns:
        A graph in which each such node has ``repeat`` and the sums of its content.

    Raises:
        UsageError: if ``depth`` is less than 1.

    Example:
        >>> from gradviz.graph import NodeKind
        >>> graph = GradGraph()
        >>> for n in range(9): graph.add_node(f"n{n}", kind=NodeKind.OPERATION, op="sin")
        >>> for n in range(8): _ = graph.add_edge(f"n{n}", f"n{n + 1}", 0)
        >>> folded = fold_repeats(graph)
        >>> list(folded), folded.nodes["g0"]["repeat"]
        (['n0', 'g0', 'n8'], 7)
    """
    check_depth(depth)
    sequence = op_sequence(graph)
    paths = module_paths(sequence)
    opened = 0 if depth is None else root_of(paths) + depth
    return fold_parts(graph, repeat_parts(sequence, paths, repeats_of(sequence, paths), opened))


def fold_parts(graph: GradGraph, parts: Sequence[Part]) -> GradGraph:
    """Fold the parts that repeat, and add a note."""
    if not parts:
        return graph.copy()  # type: ignore[no-any-return]
    count = sum(count_of_nodes([graph.nodes[key] for key in part.keys]) for part in parts)
    times = ", ".join(f"×{part.data['repeat']:,}" for part in parts[:4])
    more = ", ..." if len(parts) > 4 else ""
    return contract(graph, parts).with_note(f"{count:,} operations repeat, folded: {times}{more}")


def repeat_parts(
    sequence: OpSequence, paths: Sequence[Path], repeats: Sequence[Repeat], opened: int = 0
) -> list[Part]:
    """The parts to fold.

    Args:
        sequence: the op sequence.
        paths: the module of each operation.
        repeats: its repetitions.
        opened: the first of stacked layers stays unfolded if their paths are shorter than this.
    """
    parts: list[tuple[int, int, Part]] = []
    for repeat in reversed(repeats):  # outer loops first
        stack = stack_of(paths, repeat) if repeat.stack else None
        keep = 1 if stack is None or stack.level + 1 < opened else 0
        # A first step or layer that differs a little comes before it, and is drawn anyway.
        if is_led_up_to(sequence, repeat) if stack is None else _has_sibling(paths, repeat, stack):
            keep = 0
        start = repeat.start + keep * repeat.length
        # So is a last step that differs and comes after it, as one whose input has a name still.
        is_last_apart = stack is not None or _is_alike(sequence, repeat, repeat.stop)
        stop = repeat.stop - (not is_last_apart) * repeat.length
        if any(first <= start < end for first, end, _ in parts):
            continue
        data: Any = {"repeat": (stop - start) // repeat.length}
        inner = replace(repeat, start=start, stop=stop)
        data.update(_name(sequence, paths, inner))
        if stack is None and repeat.length > 1:
            data.update(_first_step(sequence, paths, range(start, start + repeat.length)))
        own = data.get("module", "")
        across = shared(paths[start + repeat.length - 1], paths[start])
        if stack is None and repeat.length > 1 and len(across) <= own.count(".") + bool(own):
            data["whole"] = True
        nodes: Any = sequence.data[start:stop]
        if (stack or "module" in data) and not any(map(is_inferred, nodes)):
            depth = data["module"].count(".") if stack is None else stack.level
            deep = [len(path) > depth for path in paths[start:stop]]
            inside = count_of_nodes(compress(nodes, deep))
            data.update({"in_modules": inside} if inside < count_of_nodes(nodes) else {})
        modules = _calls_of(sequence, start, repeat.length, data.get("module", ""))
        if stack is not None:
            others = _use_others(sequence, paths, inner, stack.level)
            modules = () if others else _modules_of(paths, inner, stack.level)
        part = Part(sequence.keys[start:stop], data, repeat.length, True, modules)
        parts.append((start, stop, part))
    return [part for _, _, part in sorted(parts, key=lambda found: found[0])]


def _first_step(sequence: OpSequence, paths: Sequence[Path], unit: range) -> dict[str, int]:
    """The number of a step of a loop, if the operations before it are those of whole steps."""

    def facts(place: int) -> Hashable:
        data = sequence.data[place]
        return data.get("op"), data.get("shape"), paths[place]

    own = Counter(map(facts, unit))
    before = Counter(map(facts, range(unit.start)))
    numbers = {divmod(before[each], count) for each, count in own.items()}
    number, rest = numbers.pop()
    return {} if numbers or rest else {"first_step": number + 1}


def _has_sibling(paths: Sequence[Path], repeat: Repeat, stack: Stack) -> bool:
    """Whether the operation before is in another module of the same list."""
    before, top = paths[repeat.start - 1] if repeat.start else (), len(stack.prefix)
    return top > 0 and len(before) > stack.level and before[:top] == stack.prefix


def _is_whole(paths: Sequence[Path], repeat: Repeat, depth: int) -> bool:
    """Whether each repetition is in one module of a stack, and no other one has a part of it."""
    for start in range(repeat.start, repeat.stop, repeat.length):
        # Of operations between two parts of a layer it may not be known that they are in it.
        own = {
            path[: depth + 1] for path in paths[start : start + repeat.length] if len(path) > depth
        }
        if len(own) != 1:
            return False
    inside = [path[: depth + 1] for path in paths[repeat.start : repeat.stop] if len(path) > depth]
    before = _first_deeper(reversed(paths[: repeat.start]), depth)
    return inside[0] != before and inside[-1] != _first_deeper(paths[repeat.stop :], depth)


def _first_deeper(paths: Iterable[Path], depth: int) -> Path:
    """The first path that is deeper, cut below that depth; () for none."""
    return next((path[: depth + 1] for path in paths if len(path) > depth), ())


def _modules_of(paths: Sequence[Path], repeat: Repeat, level: int) -> tuple[str, ...]:
    """The modules of a stack; none if a repetition reaches from one to the next."""
    if not _is_whole(paths, repeat, level):
        return ()
    depth = level + 1
    inside = (path[:depth] for path in paths[repeat.start : repeat.stop] if len(path) >= depth)
    return tuple(map(".".join, dict.fromkeys(inside)))


def _use_others(sequence: OpSequence, paths: Sequence[Path], repeat: Repeat, level: int) -> bool:
    """Whether each repetition uses parameters of its own that no module of the stack has."""
    others = []
    for start in range(repeat.start, repeat.stop, repeat.length):
        outside = (at for at in range(start, start + repeat.length) if len(paths[at]) <= level)
        others.append(frozenset(sequence.parameters_in(outside)))
    return all(others) and len(set(others)) == len(others)


def _calls_of(sequence: OpSequence, start: int, length: int, module: str) -> tuple[str, ...] | None:
    """No module if the steps of a loop are known to be parts of one call; else None, as it says.

    A call of a module with parameters uses some of them.
    """
    steps = range(start, start + length)
    if module and is_inferred(sequence.data[start]) and not sequence.parameters_in(steps):
        names = (str(leaf.get("name", "")) for leaf in sequence.leaves)
        if any(name.startswith(f"{module}.") for name in names):
            return ()
    depth = module.count(".") + 1
    calls = [sequence.data[place].get("calls", ()) for place in (start, start + length)]
    is_one = module and all(len(each) > depth for each in calls)
    return () if is_one and calls[0][depth] == calls[1][depth] else None


def _name(sequence: OpSequence, paths: Sequence[Path], repeat: Repeat) -> dict[str, Any]:
    """The name of the group: its modules, or else its operations."""
    places = range(repeat.start, repeat.start + repeat.length)
    data: dict[str, Any] = {**contents_of([paths[place] for place in places])}
    stack = stack_of(paths, repeat) if repeat.stack and repeat.count > 1 else None
    if stack:
        prefix, level = stack
        common: Path = prefix
        inside = [path[len(prefix) :] for path in paths[repeat.start : repeat.stop]]
        tops = (".".join(path[: level + 1 - len(prefix)]) for path in inside if path)
        names = list(dict.fromkeys(tops))
        nested = "." in names[0]  # stacks in a stack
        ends = f"{names[0]}…{names[-1]}" if nested else names_in_short(names)
        if not _is_whole(paths, repeat, level):  # from the middle of a layer to another's
            begin = next(path for path in inside if path)
            end = next(path for path in reversed(inside) if len(path) >= len(begin))
            rest = zip(begin[1:], end[1:], strict=False)
            depth = next((n for n, (one, other) in enumerate(rest, 2) if one != other), None)
            ends = f"{'.'.join(begin[:depth])} to {'.'.join(end[:depth])}"
            torn = [(*prefix, *each)[: level + 1] for each in (begin, end)]  # in part elsewhere
            data |= contents_of([*torn, *(paths[place] for place in places)])
        data["name"] = ".".join((*prefix, ends))
    else:
        common = shared_by([paths[place] for place in places if paths[place]])
        if common:
            data["name"] = ".".join(common)
    if common or stack or "contents" in data:  # steps of several modules are in none of them
        data["module"] = ".".join(common)
        if any(is_inferred(sequence.data[place]) for place in places):
            data["inferred"] = True
    if "name" not in data:
        modules: tuple[str, ...] = data.get("contents", ())
        is_known = 1 < len(modules) <= _MOST_NAMED and all(paths[place] for place in places)
        words = words_of([sequence.data[place] for place in places])
        data["op"] = " → ".join(modules) if is_known else words
    return data
