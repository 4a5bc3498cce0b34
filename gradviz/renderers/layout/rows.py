"""First steps of the layered layout: rows of boxes, bends of long links, order in a row.

A long link passes through the rows between its ends as *bends*: vertices of height 0 that have a
position in a row like boxes. The long links of one source share their bends, a *trunk*; so do
those of a target that has very many. If this would create too many bends, the longest trunks run
in lanes beside the graph.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise

import numpy as np

_MERGE = 8  # A target with more long links than this merges them in a trunk.
_ENOUGH = 30_000  # Bends that are always allowed, plus one for two boxes.
_LANE_GAP = 7.0  # Points between lanes.
_MOST_LANES = 200  # Trunks that do not fit into the other lanes share the outermost one.

Pair = tuple[int, int]
_Key = tuple[int, bool]  # a trunk: the box that shares it, and whether that is the target


@dataclass
class Rows:
    """A graph in rows, with bends for long links."""

    boxes: int  # vertices below this number are boxes, the others bends
    rank: list[int]  # row of each vertex
    up: list[list[int]]  # neighbors of each vertex in the row above
    down: list[list[int]]  # neighbors of each vertex in the row below
    # per pair of boxes, the bends of its link, as (trunk, first, last + 1)
    trunks: dict[Pair, tuple[list[int], int, int]] = field(default_factory=dict)
    # per pair of boxes whose link runs beside the graph, its trunk
    lanes: dict[Pair, _Key] = field(default_factory=dict)
    rows: list[list[int]] = field(default_factory=list)  # vertices of each row, from left to right


def cut_into_rows(ranks: Sequence[int], pairs: Sequence[Pair]) -> Rows:
    """Insert the bends; the vertices are ordered later.

    Args:
        ranks: row of each box.
        pairs: (source, target) of the links, each pair once, all pointing down.
    """
    keys, ends = _trunks(ranks, pairs)
    allowed = _ENOUGH + len(ranks) // 2
    rank = list(ranks)
    bends: dict[_Key, list[int]] = {}
    for key, (start, stop) in sorted(ends.items(), key=lambda item: item[1][1] - item[1][0]):
        allowed -= stop - start
        if allowed >= 0:
            bends[key] = list(range(len(rank), len(rank) + stop - start))
            rank += range(start, stop)
    rows = Rows(len(ranks), rank, [[] for _ in rank], [[] for _ in rank])
    steps: dict[Pair, None] = {}
    for source, target in pairs:
        if (source, target) not in keys:
            steps[source, target] = None
            continue
        key = keys[source, target]
        if key not in bends:
            rows.lanes[source, target] = key
        else:
            first, stop = ranks[source] + 1 - ends[key][0], ranks[target] - ends[key][0]
            rows.trunks[source, target] = (bends[key], first, stop)
            steps[source, bends[key][first]] = None
            steps[bends[key][stop - 1], target] = None
    for trunk in bends.values():
        steps.update(dict.fromkeys(pairwise(trunk)))
    for above, below in steps:
        rows.down[above].append(below)
        rows.up[below].append(above)
    return rows


def _trunks(
    ranks: Sequence[int], pairs: Sequence[Pair]
) -> tuple[dict[Pair, _Key], dict[_Key, Pair]]:
    """The trunk of each long link, and the rows that each trunk passes through."""
    long = [pair for pair in pairs if ranks[pair[1]] - ranks[pair[0]] > 1]
    gathers = Counter(target for _, target in long)
    keys: dict[Pair, _Key] = {}
    ends: dict[_Key, Pair] = {}
    for source, target in long:
        key = (target, True) if gathers[target] > _MERGE else (source, False)
        keys[source, target] = key
        start, stop = ends.get(key, (ranks[source] + 1, ranks[target]))
        ends[key] = (min(start, ranks[source] + 1), max(stop, ranks[target]))
    return keys, ends


def add_lanes(rows: Rows, xs: list[float]) -> None:
    """Assign links that do not fit between the boxes to lanes on the left.

    Args:
        rows: each lane is added to it as a vertex.
        xs: center of each vertex, in points; those of the lanes are added.
    """
    used: dict[_Key, list[Pair]] = {}
    for pair, key in rows.lanes.items():
        used.setdefault(key, []).append(pair)
    spans = []
    for key, pairs in used.items():
        start = min(rows.rank[source] for source, _ in pairs)
        spans.append((max(rows.rank[target] for _, target in pairs), start, key))
    busy: list[int] = []  # per lane, the row where its last trunk ends
    for stop, start, key in sorted(spans):
        lane = next((at for at, end in enumerate(busy) if end <= start), len(busy))
        lane = min(lane, _MOST_LANES - 1)
        busy[lane : lane + 1] = [stop]
        vertex = len(rows.rank)
        rows.rank.append(start + 1)
        xs.append(-_LANE_GAP * (lane + 2))
        rows.up.append([source for source, _ in used[key]])
        rows.down.append([target for _, target in used[key]])
        for source, target in used[key]:
            rows.trunks[source, target] = ([vertex], 0, 1)
            if vertex not in rows.down[source][-1:]:
                rows.down[source].append(vertex)
            if vertex not in rows.up[target][-1:]:
                rows.up[target].append(vertex)


def acyclic(count: int, pairs: Sequence[Pair]) -> list[Pair]:
    """Reverse the links that close a cycle.

    Args:
        count: number of nodes, which are 0, 1, ...
        pairs: (source, target) of each link, none from a node to itself.

    Returns:
        One pair per link, in the same order, without cycles.
    """
    if len(_topological(count, pairs)) == count:
        return list(pairs)
    outgoing = _lists(count, ((source, index) for index, (source, _) in enumerate(pairs)))
    state = [0] * count  # 0: not seen, 1: on the path from the root, 2: done
    turned = list(pairs)
    for root in range(count):
        stack = [root] if state[root] == 0 else []
        while stack:
            node = stack[-1]
            state[node] = 1
            while outgoing[node]:
                index = outgoing[node].pop()
                target = pairs[index][1]
                if state[target] == 1:
                    turned[index] = (target, node)
                elif state[target] == 0:
                    stack.append(target)
                    break
            else:
                state[node] = 2
                stack.pop()
    return turned


def rank(count: int, pairs: Sequence[Pair]) -> list[int]:
    """Assign each node a row number, 0 at the top, such that links are short and point down.

    The best of three results is used: all nodes as early as possible, all as late as possible, and
    early but with sources next to their users.

    Args:
        count: number of nodes, which are 0, 1, ...
        pairs: (source, target) of each link, without cycles.

    Example:
        >>> rank(4, [(0, 1), (1, 2), (3, 2)])
        [0, 1, 2, 1]
    """
    order = _topological(count, pairs)
    targets = _lists(count, pairs)
    early = [0] * count
    for node in order:
        below = early[node] + 1
        for target in targets[node]:
            if early[target] < below:
                early[target] = below
    late = [max(early, default=0)] * count
    for node in reversed(order):
        if targets[node]:
            late[node] = min(late[target] for target in targets[node]) - 1
    incoming = Counter(target for _, target in pairs)
    pulled = early.copy()
    for node in reversed(order):
        if len(targets[node]) >= max(1, incoming[node]):
            pulled[node] = min(pulled[target] for target in targets[node]) - 1
    best = min((pulled, early, late), key=lambda ranks: _span(ranks, pairs))
    top = min(best, default=0)
    return [row - top for row in best]


def cost(count: int, pairs: Sequence[Pair]) -> int:
    """Estimate dot's work: the nodes, and the rows that long links pass through.

    Args:
        count: number of nodes, which are 0, 1, ...
        pairs: (source, target) of each link, without cycles.

    Example:
        >>> cost(3, [(0, 1), (1, 2), (0, 2)])
        4
    """
    return count + _span(rank(count, pairs), pairs) - len(pairs)


def _topological(count: int, pairs: Sequence[Pair]) -> list[int]:
    """Order the nodes so that links point forward; nodes in or after a cycle are left out."""
    targets = _lists(count, pairs)
    waiting = Counter(target for _, target in pairs)
    order = [node for node in range(count) if not waiting[node]]
    for node in order:
        for target in targets[node]:
            waiting[target] -= 1
            if not waiting[target]:
                order.append(target)
    return order


def _lists(count: int, pairs: Iterable[Pair]) -> list[list[int]]:
    lists: list[list[int]] = [[] for _ in range(count)]
    for key, value in pairs:
        lists[key].append(value)
    return lists


def _span(ranks: Sequence[int], pairs: Sequence[Pair]) -> int:
    return sum(ranks[target] - ranks[source] for source, target in pairs)


_CAREFUL = 6_000  # The number of boxes and bends (or half the links) for a careful order.
_WORK = 500_000  # The number of them that all sweeps together may process above that.
_AT_ONCE = 1_000  # The number from which numpy counts faster.


def order_rows(rows: Rows) -> None:
    """Order the vertices within their rows, so that few links cross.

    It starts from two orders. Small graphs get up to 24 sweeps and swaps of neighbors. Larger ones
    get fewer sweeps, down to none: the work is counted, not timed, so that the order is the same
    on every machine.
    """
    size = _size(rows)
    careful = size <= _CAREFUL
    sweeps = 24 if careful else min(4, _WORK // size)
    rows.rows = _walk_up(rows)
    crossings = _improve(rows, sweeps, careful) if sweeps else 0
    if crossings and sweeps > 3:
        best, rows.rows = rows.rows, _walk_down(rows)
        if _improve(rows, sweeps, careful) >= crossings:
            rows.rows = best


def _size(rows: Rows) -> int:
    return max(len(rows.rank), sum(map(len, rows.down)) // 2)


def _walk_up(rows: Rows) -> list[list[int]]:
    """Order by a walk from the results to their inputs: a tree has no crossings."""
    results = [vertex for vertex, below in enumerate(rows.down) if not below]
    results.sort(key=lambda vertex: -rows.rank[vertex])
    return _walk(rows, results, rows.up)


def _walk_down(rows: Rows) -> list[list[int]]:
    """Order by a walk from the sources to their users, long links first: they end up outside."""
    sources = [vertex for vertex, above in enumerate(rows.up) if not above]
    sources.sort(key=lambda vertex: rows.rank[vertex])
    users = [sorted(below, key=lambda vertex: vertex < rows.boxes) for below in rows.down]
    return _walk(rows, sources, users)


def _walk(rows: Rows, starts: list[int], neighbors: list[list[int]]) -> list[list[int]]:
    order: list[list[int]] = [[] for _ in range(max(rows.rank, default=-1) + 1)]
    seen = [False] * len(rows.rank)
    for start in starts:
        stack = [start]
        while stack:
            vertex = stack.pop()
            if not seen[vertex]:
                seen[vertex] = True
                order[rows.rank[vertex]].append(vertex)
                stack += reversed(neighbors[vertex])
    return order


def _improve(rows: Rows, sweeps: int, careful: bool) -> int:
    """Sweep up and down, and keep the best order; returns its number of crossings."""
    place = [0] * len(rows.rank)
    for row in rows.rows:
        _number(row, place)
    best, fewest = [row.copy() for row in rows.rows], count_crossings(rows)
    idle = 0
    for sweep in range(sweeps):
        if not fewest or idle > 6:
            break
        _sweep(rows, place, downwards=sweep % 2 == 1)
        if careful:
            _swap_neighbors(rows, place)
        crossings = count_crossings(rows)
        idle += 1
        if crossings < fewest:
            best, fewest, idle = [row.copy() for row in rows.rows], crossings, 0
    rows.rows = best
    return fewest


def count_crossings(rows: Rows) -> int:
    """The number of link crossings in all rows."""
    place = [0] * len(rows.rank)
    for row in rows.rows:
        _number(row, place)
    if _size(rows) >= _AT_ONCE:
        return _count_at_once(rows, place)
    total = 0
    for row in rows.rows:
        ends: list[int] = []
        for vertex in row:
            found = sorted(place[below] for below in rows.down[vertex])
            for end in found:
                total += len(ends) - bisect_right(ends, end)
            for end in found:
                insort(ends, end)
    return total


def _count_at_once(rows: Rows, place: list[int]) -> int:
    """Count crossings of many links at once, bit by bit of the positions of their ends.

    Of two links, the first differing bit shows which one ends farther left. So the links are
    counted that end in the left half of a group, and start to the right of others that end in its
    right half; then each half becomes a group.
    """
    links = [len(below) for below in rows.down]
    places, ranks = np.array(place), np.array(rows.rank)
    begin = np.repeat(np.arange(len(links)), links)
    end = places[np.fromiter(chain.from_iterable(rows.down), np.intp, sum(links))]
    order = np.lexsort((end, places[begin], ranks[begin]))
    end, group = end[order], ranks[begin][order]
    total = 0
    for bit in reversed(range(int(end.max(initial=0)).bit_length())):
        first = np.searchsorted(group, group)
        right = end >> bit & 1
        before = np.cumsum(right) - right
        before -= before[first]
        total += int(before[right == 0].sum())
        group = group * 2 + right
        order = np.argsort(group, kind="stable")
        end, group = end[order], group[order]
    return total


def _sweep(rows: Rows, place: list[int], *, downwards: bool) -> None:
    """Sort each row by the mean position of the neighbors in the previous row."""
    neighbors = rows.up if downwards else rows.down
    place_of = place.__getitem__
    for row in rows.rows if downwards else reversed(rows.rows):
        mean: dict[int, float] = {}
        for vertex in row:
            near = neighbors[vertex]
            if len(near) == 1:
                mean[vertex] = place[near[0]]
            elif near:
                mean[vertex] = sum(map(place_of, near)) / len(near)
        if len(mean) > 1:
            following = iter(sorted(mean, key=mean.__getitem__))
            row[:] = [next(following) if vertex in mean else vertex for vertex in row]
        _number(row, place)


def _swap_neighbors(rows: Rows, place: list[int]) -> None:
    """Swap adjacent vertices as long as that removes crossings."""
    for _ in range(4):
        swapped = False
        for row in rows.rows:
            for at in range(len(row) - 1):
                left, right = row[at], row[at + 1]
                gain = _gain(rows.up, left, right, place) + _gain(rows.down, left, right, place)
                if gain > 0:
                    row[at], row[at + 1] = right, left
                    place[right], place[left] = at, at + 1
                    swapped = True
        if not swapped:
            break


def _gain(near: list[list[int]], left: int, right: int, place: list[int]) -> int:
    """The number of crossings that a swap of two vertices removes, on one side."""
    if not near[left] or not near[right]:
        return 0
    if len(near[left]) == 1 and len(near[right]) == 1:
        first, second = place[near[left][0]], place[near[right][0]]
        return (first > second) - (first < second)
    others = sorted(place[vertex] for vertex in near[right])
    gain = 0
    for vertex in near[left]:
        at = place[vertex]
        gain += bisect_left(others, at) - (len(others) - bisect_right(others, at))
    return gain


def _number(row: list[int], place: list[int]) -> None:
    for at, vertex in enumerate(row):
        place[vertex] = at
