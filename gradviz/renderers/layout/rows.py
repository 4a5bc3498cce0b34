"""Second step of the layered layout: how long links pass through the rows between their ends.

They do so as *bends*: vertices of no height that take their place in a row like boxes. The long
links of one source share their bends, a *trunk*; so do those of a target that has very many.
Where that would make far too many bends, the longest trunks go down in lanes beside the graph.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from gradviz.renderers.layout.ranks import Pair

__all__ = ["Rows", "add_lanes", "cut_into_rows"]

_MERGE = 8  # A target with more long links than this gathers them in a trunk.
_ENOUGH = 30_000  # Bends that are always allowed; and one more for two boxes.
_LANE_GAP = 7.0  # Points between lanes.
_MOST_LANES = 200  # The outermost is shared by all that find no place in the others.

_Key = tuple[int, bool]  # a trunk: the box that shares it, and whether that is the target


@dataclass
class Rows:
    """A graph in rows, with bends where links pass through.

    Args:
        boxes: vertices below this number are boxes, the others bends.
        rank: row of each vertex.
        up: neighbours of each vertex in the row above.
        down: neighbours of each vertex in the row below.
        trunks: per pair of boxes the bends on its way, as (trunk, first, last + 1).
        lanes: per pair of boxes whose link goes beside the graph, the trunk that it shares.
        rows: vertices of each row, from left to right.
    """

    boxes: int
    rank: list[int]
    up: list[list[int]]
    down: list[list[int]]
    trunks: dict[Pair, tuple[list[int], int, int]] = field(default_factory=dict)
    lanes: dict[Pair, _Key] = field(default_factory=dict)
    rows: list[list[int]] = field(default_factory=list)


def cut_into_rows(ranks: Sequence[int], pairs: Sequence[Pair]) -> Rows:
    """Insert the bends; the vertices get their order later.

    Args:
        ranks: row of each box.
        pairs: (source, target) of the links, each pair once, all going down.
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
    """Say which trunk each long link shares, and from which row to before which it goes."""
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
    """Give the links that found no room between the boxes a place to the left of them all.

    Args:
        rows: each lane is added to it as one more vertex.
        xs: middle of each vertex, in points; those of the lanes are added.
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
